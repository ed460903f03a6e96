"""Ours: how long to pre-train, learnt from what longer and shorter pre-training were worth on other data sets.

In words: pre-train until the first checkpoint that, in like cases on other data, lost no more than the longest pre-training. What counts
as like (`cells`), by what the way there is measured (`progress`) and what must not be lost (`losses`) is a Rule; `nested` picks one by
leaving out each of the data sets that it learns from in turn. Whoever is decided for is Seen, and a Seen holds no score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from engine.released import Release, Setup, Variant, numbered
from engine.stopping import ratios, regrets

NEVER = np.inf  # a progress that is not reached: the longest pre-training
EXACT = 1e-9  # what equal sums in another order may differ by
AROUND = (("frozen",), ("encoder", "frozen"), ("encoder", "scheme", "frozen"))  # from the widest to the narrowest idea of what is alike
Cell = tuple[Any, ...]


class Rule(NamedTuple):
    """What one rule of ours goes by. The defaults are the declared rule: reasoned out before it was itself scored on a data set left out.

    Simpler rules had been scored by then, some of which do better; to move the defaults there would be to tune on what is left out.
    """

    cells: tuple[str, ...] = ("encoder", "scheme", "frozen")  # fields of Setup; those alike in all of them stop alike
    progress: str = "epochs"  # or accuracy, on ImageNet, or robustness
    losses: tuple[str, ...] = ("regret", "tis")  # none of them may be more than that of the longest pre-training
    slack: float = 0.0  # by how much they may, as a share of what the longest loses on average
    pooled: bool = True  # a cell leans on those around it as far as noise makes it unsure of itself; by epochs alone


@dataclass(frozen=True)
class Seen:
    """What may be seen of S setups while they are pre-trained, and before anything is fine-tuned."""

    setups: tuple[Setup, ...]
    progress: Mapping[str, np.ndarray]  # (S, L), never falling

    def cells(self, fields: Sequence[str]) -> list[Cell]:
        """The cell of each setup: what it has in these fields."""
        return [tuple(getattr(one, field) for field in fields) for one in self.setups]

    def part(self, chosen: np.ndarray) -> "Seen":
        """The setups at the places `chosen` (s,)."""
        return Seen(tuple(self.setups[place] for place in chosen), {name: way[chosen] for name, way in self.progress.items()})


@dataclass(frozen=True)
class Lessons:
    """What was seen, and what each length turned out to lose."""

    seen: Seen
    losses: Mapping[str, np.ndarray]  # regret, and 1 - TIS under "tis": (S, L) in units of the mean of the longest

    def part(self, chosen: np.ndarray) -> "Lessons":
        """The setups at the places `chosen` (s,), in units of their own."""
        return Lessons(self.seen.part(chosen), {name: in_units(table[chosen]) for name, table in self.losses.items()})


def in_units(table: np.ndarray) -> np.ndarray:
    """Losses (S, L) in units of what the longest pre-training loses in the mean."""
    return np.asarray(table / max(table[:, -1].mean(), EXACT))


def seen(release: Release) -> Seen:
    """What a release shows; progress in robustness is the share of that after 1 epoch by which it fell, scored by the authors' defaults."""
    curve = release.robustness[Variant()]
    ways = {
        "epochs": np.tile(release.lengths.astype(float), (len(release.setups), 1)),
        "accuracy": release.accuracy,
        "robustness": np.column_stack([np.full(len(curve), -np.inf), 1 - curve / np.maximum(curve[:, :1], EXACT)]),
    }
    return Seen(release.setups, {name: np.maximum.accumulate(way, axis=1) for name, way in ways.items()})


def lessons(seen: Seen, performance: np.ndarray) -> Lessons:
    """The Lessons of performance (S, L)."""
    return Lessons(seen, {"regret": in_units(regrets(performance)), "tis": in_units(1 - ratios(performance))})


def learn(rule: Rule, told: Lessons) -> dict[Cell, float]:
    """By cell, the progress at which to stop: the least that lost no more than the longest pre-training and the rule's slack.

    ValueError for a progress that cannot be pooled.
    """
    if rule.pooled and rule.progress != "epochs":
        raise ValueError(f"progress={rule.progress} cannot be pooled: it differs from run to run, and only epochs are the same in all")
    cells, way = told.seen.cells(rule.cells), told.seen.progress[rule.progress]
    losses = np.stack([told.losses[name] - told.losses[name][:, -1:] for name in rule.losses])
    if rule.pooled:
        losses = np.stack([pooled(table, told.seen.setups) for table in losses])
    places = {cell: [place for place, one in enumerate(cells) if one == cell] for cell in cells}
    return {cell: first_as_good(way[mine], losses[:, mine], rule.slack) for cell, mine in places.items()}


def first_as_good(way: np.ndarray, more: np.ndarray, slack: float) -> float:
    """The least progress of ways (n, L) at which none of the mean losses, each (n, L) more than at the end, is above `slack`."""
    marks = np.unique(way)
    stops = np.stack([reached(way, mark) for mark in marks])
    mean = more[:, np.arange(len(way)), stops].mean(axis=2)
    good = (mean <= slack + EXACT).all(axis=0)
    return float(marks[good.argmax()]) if good.any() else NEVER


def reached(way: np.ndarray, mark: float | np.ndarray) -> np.ndarray:
    """(S,) index of the first length at which a way (S, L) is at its mark, of the last where it never is."""
    there = way >= np.broadcast_to(mark, len(way))[:, None]
    return np.asarray(np.where(there.any(axis=1), there.argmax(axis=1), way.shape[1] - 1))


def stops(rule: Rule, learnt: Mapping[Cell, float], of: Seen) -> np.ndarray:
    """(S,) indices of the lengths at which the rule stops; ValueError for a cell of which nothing was learnt."""
    cells = of.cells(rule.cells)
    if unknown := set(cells) - set(learnt):
        raise ValueError(f"nothing was learnt of {' '.join(map(str, min(unknown)))}, but of {len(learnt)} other cells")
    return reached(of.progress[rule.progress], np.array([learnt[cell] for cell in cells]))


def pooled(table: np.ndarray, setups: Sequence[Setup]) -> np.ndarray:
    """A table (S, L) with each row replaced by what its like can be expected to show on new data: partial pooling over AROUND.

    The mean of a cell leans towards that of the cell around it by the share of their scatter that noise explains, and the widest stands
    for itself (empirical Bayes, as in Efron and Morris 1973; noise and scatter by moments, together over all lengths).
    """
    around, outer = np.zeros_like(table), 0
    for fields in AROUND:
        numbers = numbered(setups, fields)
        members = np.eye(numbers.max() + 1)[numbers]
        mean = ((members / members.sum(axis=0)).T @ table)[numbers]
        inner, each = members.shape[1], len(table) / members.shape[1]
        scatter = ((mean - around) ** 2).sum() / each / max(inner - outer, 1)
        noise = ((table - mean) ** 2).sum() / each / max(len(table) - inner, 1)
        trust = 1.0 if not outer else max(0.0, 1 - noise / scatter) if scatter and len(table) > inner else 0.0
        around, outer = around + trust * (mean - around), inner
    return around


def apart(setups: Sequence[Setup], by: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(places learnt from, places left out), once for each data set, or whatever field `by` names, in order of their names.

    ValueError where all have the same.
    """
    numbers = numbered(setups, (by,))
    if not numbers.any():
        raise ValueError(f"all {len(setups)} setups have the {by} {getattr(setups[0], by)}: leaving it out leaves nothing to learn from")
    return [(np.flatnonzero(numbers != one), np.flatnonzero(numbers == one)) for one in range(numbers.max() + 1)]


def left_out(rule: Rule, told: Lessons, by: str = "dataset") -> np.ndarray:
    """(S,) stops in every setup of a rule that learnt from all but its data set, or whatever `by` names."""
    found = np.zeros(len(told.seen.setups), int)
    for others, mine in apart(told.seen.setups, by):
        found[mine] = stops(rule, learn(rule, told.part(others)), told.seen.part(mine))
    return found


def bills(rules: Sequence[Rule], told: Lessons, by: str) -> np.ndarray:
    """(rules, 2) what each costs where, of the lessons, each data set is left out in turn: mean regret, and mean share of all epochs."""
    share = told.seen.progress["epochs"] / told.seen.progress["epochs"][:, -1:]
    everyone = np.arange(len(share))
    stopped = [left_out(rule, told, by) for rule in rules]
    return np.array([[table[everyone, stop].mean() for table in (told.losses["regret"], share)] for stop in stopped])


def nested(rules: Sequence[Rule], told: Lessons, prices: Sequence[float], by: str = "dataset") -> list[tuple[np.ndarray, list[Rule]]]:
    """For each price (S,) stops where what is judged had no part in choosing the rule or in what it learnt, and the rules by `apart`.

    Chosen is the least regret + price x share of the epochs, the earlier of equals. Regret counts in units of what the longest
    pre-training has: price=1 gives all epochs for as much again.
    """
    found = [(np.zeros(len(told.seen.setups), int), list[Rule]()) for _ in prices]
    for others, mine in apart(told.seen.setups, by):
        rest = told.part(others)
        costs = bills(rules, rest, by)
        for price, (stopped, chosen) in zip(prices, found, strict=True):
            rule = rules[int(np.argmin(np.round(costs @ (1, price), 9)))]
            stopped[mine] = stops(rule, learn(rule, rest), told.seen.part(mine))
            chosen.append(rule)
    return found


def candidates(slacks: Sequence[float] = (0.0,), without: str = "") -> list[Rule]:
    """Every Rule that is tried, at each slack, the declared one first; none whose cells are told apart by the field `without`."""
    rules = [Rule(losses=losses) for losses in (("regret", "tis"), ("regret",))]
    for losses in (("regret", "tis"), ("regret",)):
        for progress in ("epochs", "accuracy", "robustness"):
            rules += [Rule(cells, progress, losses, pooled=False) for cells in reversed(AROUND)]
    return [rule._replace(slack=slack) for rule in rules if without not in rule.cells for slack in slacks]
