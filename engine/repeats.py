"""Pre-trainings that differ by their seed alone: what every rule of when to stop came to over them.

What one pre-training says of a rule may be its seed's luck, of which the seeds of its fine-tuning know nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from engine.scores import Measured, over_seeds
from engine.trails import FULL_LENGTH, Choice, Trail, leads


@dataclass(frozen=True)
class Repeated:
    """What a rule came to over some pre-trainings."""

    rule: str
    epochs: list[int | None]  # of the model that it chose, for each of them; None: differs between seeds of the fine-tuning
    paid: float  # epochs that had to be trained for it, in the mean
    tis: Measured  # over pre-trainings, of each the mean over the seeds of its fine-tuning; like the next
    regret: Measured


@dataclass(frozen=True)
class Repeats:
    """Some pre-trainings of one recipe, and the rules that all of them know, least regret first."""

    name: str
    setting: str  # of the fine-tunings
    seeds: list[int]  # of the pre-trainings
    choices: list[Repeated]


def repeats(trails: Sequence[Trail]) -> list[Repeats]:
    """Those of some trails, in any order, of which there are several that differ by their seed alone; of two of one seed the later counts.

    Trails of before a trail told its recipe stand alone.
    """
    told = sorted((one for one in trails if one.recipe), key=alike)
    groups = ({one.seed: one for one in some} for _, some in groupby(told, alike))
    return [together([one for _, one in sorted(some.items())]) for some in groups if len(some) > 1]


def said(one: Repeats) -> str:
    """Which rules' regret is told from that of the full length: no more than the intervals carry."""
    full = next((rule for rule in one.choices if rule.rule == FULL_LENGTH), None)
    if not full:
        return f"Not all {len(one.seeds)} ran to the full length, so nothing is held against it."
    apart = [rule.rule for rule in one.choices if rule.regret[1] > full.regret[2] or rule.regret[2] < full.regret[1]]
    named = f"Told from it is that of {'; '.join(apart)}." if apart else "That of no rule is told from it."
    return f"Over these {len(one.seeds)} pre-trainings the regret of the full length is {full.regret[0]:z.3f}. {named}"


def alike(trail: Trail) -> tuple[str, ...]:
    """What two trails have in common that differ by nothing but the seed of the pre-training."""
    return trail.recipe, trail.score, trail.judged, trail.measure, trail.setting, str(trail.epochs)


def together(some: Sequence[Trail]) -> Repeats:
    """What the rules that were named beforehand came to over some trails, of seeds that rise."""
    made = sorted(over(some), key=lambda one: (one.regret[0], one.paid, one.rule))
    return Repeats(some[0].name, some[0].setting, [one.seed for one in some], made)


def over(some: Sequence[Trail]) -> Iterator[Repeated]:
    """Every rule that was named beforehand and that all of some trails know."""
    known = [{one.rule: one for one in trail.choices if leads(trail, one)} for trail in some]
    for rule in known[0]:
        found: list[Choice] = [one[rule] for one in known if rule in one]
        if len(found) == len(some):
            tis, regret = (over_seeds([getattr(one, name)[0] for one in found]) for name in ("tis", "regret"))
            yield Repeated(rule, [one.epochs for one in found], fmean(one.paid for one in found), tis, regret)
