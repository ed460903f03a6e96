"""When a pre-training could have ended: its checkpoints with score and performance, and what every rule of when to stop came to.

A `Trail` is kept as JSON beside the run that measured it. `drawn` says it in sentences and as numbers in per cent of a plot, which
`report.html` draws: two panels and a lane for every rule, all over the same epochs, with the better end of every panel up.

TIS and regret are here those of each seed, against the best checkpoint of that seed, and then the mean over seeds. The transfer study has
them of the mean Dice over seeds, whose best is less often luck, so the same choice looks worse here, as a rule: not to be compared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from pydantic import TypeAdapter

from engine.charts import Interval, Point, Tick, axis, better_up, intervals, line, ticks
from engine.entries import NONE
from engine.scores import Measured

FULL_LENGTH, HINDSIGHT = "the full length", "best in hindsight"  # with NONE the choices that are no rules, but what rules are held against
CUT_HINDSIGHT = f"{HINDSIGHT} of what was trained"  # where the training was cut off
FAILED = 0.1  # of the best seed's performance: below, a seed never learnt; our choice, because seeds differ by far less
TOGETHER = ("mean rank by", "vote of")  # how rules by several scores at once are called


@dataclass(frozen=True)
class Choice:
    """What a rule came to; ValueError for what is no number, or an interval from high to low."""

    rule: str
    epochs: int | None  # of the checkpoint it chose; None: differs between seeds
    paid: float  # epochs that had to be trained for it, mean over seeds
    saved_hours: float | None  # GPU-hours less than the recipe's length, its looks paid: negative where they cost more; None: not measured
    tis: Measured  # over seeds, like the next
    regret: Measured  # min-max

    def __post_init__(self) -> None:
        for name, (value, low, high) in (("tis", self.tis), ("regret", self.regret)):
            if not (math.isfinite(value) and -math.inf < low <= high < math.inf):
                raise ValueError(f"{name} of {self.rule!r} is {value} in {low} to {high}, expected a number and its interval, low to high")
        if not all(0 <= value < math.inf for value in (self.paid, self.epochs or 0)):
            raise ValueError(f"{self.rule!r} chose epoch {self.epochs} and paid {self.paid}, expected epochs from 0")


class Gap(NamedTuple):
    """A score that a look did not give."""

    epoch: int
    score: str  # that could not be had
    why: str


@dataclass(frozen=True)
class Trail:
    """One pre-training: what was scored and measured at every checkpoint, and what rules made of it.

    ValueError if the lists do not tell of the same checkpoints and seeds, or hold what is no number.
    """

    name: str
    score: str  # the transferability score that was watched, or by what several were heard together
    lower: bool  # lower is better
    measure: str  # of the performance, higher is better
    setting: str
    epochs: list[int]  # of the checkpoints, rising; 0 is the untrained encoder
    scores: list[float | None]  # None: not scored
    performance: list[list[float]]  # [checkpoint][seed]
    choices: list[Choice]
    stopped: int | None  # epoch at which the monitor ended the training; None: it never said so
    untrained: bool | None  # the watched score says: no pre-training is best; None: the untrained encoder was not scored
    readings: dict[str, list[float | None]] = field(default_factory=dict)  # every score, by level where several are looked at
    gaps: list[Gap] = field(default_factory=list)  # among them
    length: int | None = None  # epochs of the recipe; None: a trail of before it was told
    judged: str = ""  # by what a model is best, as a vote says only when to end; "": a trail of before it was told, or by `score`
    unended: list[str] = field(default_factory=list)  # rules of which nobody knows what they come to, as the training was cut off
    recipe: str = ""  # digits of all that made it but its seed; "": a trail of before they were told
    seed: int = 0  # of the pre-training

    def __post_init__(self) -> None:
        if not self.epochs or self.epochs[0] < 0 or any(one >= other for one, other in zip(self.epochs, self.epochs[1:], strict=False)):
            raise ValueError(f"{self.name!r} has checkpoints of epochs {self.epochs}, expected rising numbers from 0")
        if self.full < self.epochs[-1]:
            raise ValueError(f"{self.name!r} has epochs to {self.epochs[-1]} and a recipe of {self.full}, expected no more than that")
        if not len(self.epochs) == len(self.scores) == len(self.performance):
            found = f"{len(self.epochs)} checkpoints, {len(self.scores)} scores and {len(self.performance)} performances"
            raise ValueError(f"{self.name!r} has {found}, expected as many")
        if len(many := {len(row) for row in self.performance}) > 1 or 0 in many:
            raise ValueError(f"{self.name!r} has checkpoints of {sorted(many)} seeds, expected equally many at each, and one at least")
        if short := [name for name, row in self.readings.items() if len(row) != len(self.epochs)]:
            raise ValueError(f"{self.name!r} has {len(self.readings[short[0]])} values of {short[0]}, expected {len(self.epochs)}")
        if not all(math.isfinite(value) for row in [*self.performance, self.scored] for value in row):
            raise ValueError(f"{self.name!r} has a score or {self.measure} that is no number: {self.scores}, {self.performance}")
        if beside := sorted({one.epochs for one in self.choices if one.epochs is not None} - {*self.epochs}):
            raise ValueError(f"{self.name!r} chose epochs {beside}, of which there are no checkpoints, expected some of {self.epochs}")

    @property
    def seeds(self) -> int:
        """How many seeds every checkpoint was measured with."""
        return len(self.performance[0])

    @property
    def full(self) -> int:
        """Epochs of the recipe."""
        return self.epochs[-1] if self.length is None else self.length

    @property
    def last(self) -> int:
        """Epochs until which the training is known."""
        return self.stopped or self.epochs[-1]

    @property
    def ending(self) -> str:
        """How the training ended, in a sentence."""
        if self.stopped is not None:
            return f"The monitor ended the training at epoch {self.stopped}{f' of {self.length}' if self.length else ''}."
        return "No end of the training is on record." if self.last < self.full else "The training ran to its end."

    @property
    def cut_off(self) -> str:
        """That the training is not known to its full length, and what can therefore not be; "" where it is."""
        ended, full = self.last, self.full
        if self.length is None or ended >= full:
            return ""
        how = f"was ended by its own monitor after {ended} of {full} epochs, and what came later nobody knows"
        how = how if self.stopped else f"left models until epoch {ended} of {full}, and no word of its end"
        left_out = f"Rules that had not ended by epoch {ended} are left out: {len(self.unended)}. " if self.unended else ""
        return (
            f"The training {how}. TIS and regret are held against the best of what was trained; GPU-hours saved are those of {full} epochs "
            f"at what one took of these {ended}, less what the rule took, its looks too. {left_out}To compare rules, train to the end: "
            "transfer.patience above the number of looks."
        )

    @property
    def scored(self) -> list[float]:
        """The scores that are there, by epoch."""
        return [value for value in self.scores if value is not None]

    @property
    def ranked(self) -> list[Choice]:
        """The least regret first, and of equal ones the cheapest."""
        return sorted(self.choices, key=lambda one: (one.regret[0], one.paid, one.rule))

    @classmethod
    def from_json(cls, text: str) -> "Trail":
        """The Trail of `to_json`; ValueError that names the field for text that is none."""
        return TypeAdapter(cls).validate_json(text)

    def to_json(self) -> str:
        """As JSON, which `from_json` takes back."""
        return TypeAdapter(Trail).dump_json(self).decode()


@dataclass(frozen=True)
class Panel:
    """One quantity over epochs; `path`, `dots` and `band` are SVG in a square of 100 x 100."""

    path: str
    dots: str  # one per checkpoint
    band: str  # corners: from the lowest to the highest seed; "": one value per checkpoint
    y: list[Tick]
    values: list[float]  # the mean of every checkpoint that has one


@dataclass(frozen=True)
class Lane:
    """A rule; `paid` and `chosen` are per cent of the epochs, `y` of the height of all lanes from the top."""

    choice: Choice
    y: float
    paid: float
    chosen: float | None
    regret: Interval


@dataclass(frozen=True)
class Drawing:
    """A trail as the page shows it."""

    said: list[str]
    x: list[Tick]
    performance: Panel
    score: Panel | None  # None: no checkpoint was scored
    lanes: list[Lane]  # of the rules that go by what was watched or by several scores, and of what rules are held against
    rows: list[Tick]  # the number of every lane
    stops: list[Tick]  # where the rules by what was watched ended before the full length, per cent of the epochs, and who they are
    others: list[Choice]  # by single other scores: picked after the outcome was seen, they would say nothing
    regret: list[Tick]


def drawn(trail: Trail) -> Drawing:
    """Where everything stands; the epochs begin at 0 and reach as far as any rule had to train."""
    ranked, scores = [one for one in trail.ranked if leads(trail, one)], [[] if value is None else [value] for value in trail.scores]
    right = max(1, trail.epochs[-1], *(math.ceil(one.paid) for one in trail.choices))
    x = axis([value for value in ticks(0, right) if value == int(value)], 0, right)
    regrets, scale = intervals([one.regret for one in ranked], 0, 1)
    places = [100 * (index + 0.5) / len(ranked) for index in range(len(ranked))]
    lanes = [
        Lane(one, y, 100 * one.paid / right, None if one.epochs is None else 100 * one.epochs / right, regret)
        for one, y, regret in zip(ranked, places, regrets, strict=True)
    ]
    return Drawing(
        said=said(trail),
        x=x,
        performance=panel(trail.epochs, trail.performance, right),
        score=panel(trail.epochs, scores, right, trail.lower) if trail.scored else None,
        lanes=lanes,
        rows=[Tick(100 - y, str(number)) for number, y in enumerate(places, 1)],
        stops=[Tick(100 * paid / right, ", ".join(rules)) for paid, rules in sorted(ends(trail).items())],
        regret=scale,
        others=[one for one in trail.ranked if not leads(trail, one)],
    )


def leads(trail: Trail, one: Choice) -> bool:
    """Whether a rule was named beforehand: by what was watched, by several scores at once, or what rules are held against."""
    return one.rule in (NONE, FULL_LENGTH, HINDSIGHT, CUT_HINDSIGHT) or one.rule.startswith((trail.score, *TOGETHER))


def ends(trail: Trail) -> dict[float, list[str]]:
    """The rules by what was watched that ended before the full length, by the epochs that they paid."""
    found: dict[float, list[str]] = {}
    for one in trail.ranked:
        if one.rule.startswith(trail.score) and 0 < one.paid < trail.full:
            found.setdefault(one.paid, []).append(one.rule.removeprefix(f"{trail.score}, "))
    return found


def panel(epochs: Sequence[int], values: Sequence[Sequence[float]], right: int, lower: bool = False) -> Panel:
    """The mean of the values at every epoch, with a gap where there are none; `lower` is better turns the axis upside down."""
    frame, y = better_up([value for row in values for value in row], right, lower)
    points: list[Point] = [(epoch, fmean(row) if row else math.nan) for epoch, row in zip(epochs, values, strict=True)]
    spread = [(epoch, row) for epoch, row in zip(epochs, values, strict=True) if len(row) > 1]
    corners = [frame.place((epoch, max(row))) for epoch, row in spread] + [frame.place((epoch, min(row))) for epoch, row in spread[::-1]]
    return Panel(
        path=line(points, frame),
        dots="".join(line([point], frame) for point in points),
        band=" ".join(f"{x:.2f},{y:.2f}" for x, y in corners),
        y=y,
        values=[value for _, value in points if math.isfinite(value)],
    )


def said(trail: Trail) -> list[str]:
    """What the full length kept of the performance, what rules by the watched score that ended before it kept, and of no pre-training.

    First that the training was cut off, where it was.

    The rules by all other scores stand in the table: picked after the outcome was seen, they would say nothing.
    """
    early = [one for one in trail.ranked if one.rule.startswith(trail.score) and one.paid < trail.full]
    full, none = (next((one for one in trail.choices if one.rule == rule), None) for rule in (FULL_LENGTH, NONE))
    told = ([trail.cut_off] if trail.cut_off else []) + flat(trail) + ([kept(trail, full)] if full else [])
    told += [kept(trail, one, full) for one in early] or [f"No rule by {trail.score} ended before epoch {trail.full}."]
    if trail.untrained:
        told += [f"By {trail.judged or trail.score}, no pre-training is best.", *([kept(trail, none, full)] if none else [])]
    if trail.untrained is None and trail.scored:
        told.append(f"The untrained encoder was not scored, so {trail.judged or trail.score} could not say that no pre-training is best.")
    return told


def flat(trail: Trail) -> list[str]:
    """What is said of seeds of the fine-tuning that came to next to nothing after any pre-training, which count in full all the same."""
    best = [max(one) for one in zip(*trail.performance, strict=True)]
    if not (failed := [one for one in best if one < FAILED * max(best)]):
        return []
    return [
        f"{len(failed)} of {trail.seeds} seeds of the fine-tuning never came to more than {max(failed):.3g} {trail.measure}, where "
        f"another came to {max(best):.3g}; they count as much as the others, so means and intervals say little."
    ]


def kept(trail: Trail, one: Choice, full: Choice | None = None) -> str:
    """What a choice kept, and whether its distance to the full length may be chance: no more than the intervals carry."""
    value, low, high = one.tis
    told = f"{begun(one.rule)} kept TIS {value:z.3f}"
    if trail.seeds > 1:
        told += f" (95 % interval {low:z.3f} to {high:z.3f})" if apart(low, high) else f" (no spread seen between {trail.seeds} seeds)"
    told += f" at {one.paid:.4g} of {trail.full} epochs"
    if full is None or trail.seeds == 1:
        return f"{told}."
    if not (apart(low, high) and apart(*full.tis[1:])):
        return f"{told}; without a spread between seeds nothing tells whether the difference to the full length is chance."
    if high < full.tis[1] or low > full.tis[2]:
        return f"{told}; its interval lies {'below' if high < full.tis[1] else 'above'} that of the full length."
    return f"{told}; its interval overlaps that of the full length, so the difference may be chance."


def apart(low: float, high: float) -> bool:
    """Whether an interval has any width but that of rounding: seeds that all came to the same tell nothing of how sure that is."""
    return high - low > 1e-9


def begun(words: str) -> str:
    """The words as a sentence begins with them; a name with capitals of its own stays as it is, like kNN."""
    first = words.partition(" ")[0]
    return words if first != first.lower() else f"{words[:1].upper()}{words[1:]}"
