"""Which method is ahead over all budgets and test sets of a matrix together, and how often chance alone would bring it as far.

A difference at one budget on one set is told by three seeds only where it is huge. All differences of a method together tell more, if it
is said what they are draws of. Two tests, since there are two answers:

*Seeds.* A seed draws first weights, batches, choices and test parts for all budgets and sets, so its differences hang together, however
they do, and count once: as their mean. Means of seeds are tested as `scores.contrast` tests one difference: Student's t of S - 1 degrees of
freedom between seeds, and a bootstrap of the images that seeds share. Assumed: seeds are independent draws, and their means about normal.
By signs alone S seeds give no p below 2 / 2^S, a quarter for three; what this test says below that rests on the normal law.

*Flips.* A model, a seed at a budget, counts once: as its mean difference over the sets that it was measured on. If the method were a name
and no more, each could as well have the other sign; p is the share of all patterns of signs whose mean lies as far from 0 (Fisher's
randomisation test). Assumed: no law, but that one model's sign says nothing of another's. Models of a seed share first weights and the test
part, and random's choice at a budget holds that at the next smaller one; where that favours a method, p is too small. `likeness` says how
much it seems to: the correlation of two models of a seed, once what a budget has on average is taken away. And these images are all there
are: nothing is said of others. All data is one model for every budget, so what is held against it has no such units.

A data set is a unit of neither: tests over sets ask for many of them (Demsar, JMLR 2006), and here are two or three. Pool and recipe are
the same throughout, so another pool may have another winner: that part of the variance (Bouthillier et al., MLSys 2021) is in neither p.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as fisher

from engine import scores
from engine.entries import RANDOM, Amount, Board
from engine.scores import Contrast, Lead, Marks, Measured, holm
from engine.standings import CorrectedContrast, Least, MatrixResults, least_of, rivals, taken

ALL_PATTERNS = 20  # units up to which every pattern of signs is looked at: half a million
PATTERNS = 100_000  # drawn of more
ROUNDING = 1e-12  # sums of the same numbers in another order differ by less
Place = tuple[Amount, str]  # a budget with its unit, and a data set
Cells = dict[int, dict[Place, tuple[Marks, Marks]]]  # by seed, at every place the networks of a method and of another
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Flips:
    """The test by signs; `p` is two-sided, `corrected` by Holm for all methods under one architecture."""

    p: float
    corrected: float
    least: float  # that so many units can give
    ahead: int
    units: int

    def __str__(self) -> str:
        return f"p {self.corrected:.2g} by flips of {self.units} models, {self.ahead} of them ahead"


@dataclass(frozen=True)
class Verdict:
    """A method over another, all its budgets and sets together."""

    method: str
    other: str
    cells: int  # of each seed
    advantage: CorrectedContrast  # the test by seeds, corrected for all comparisons under one architecture
    flips: Flips | None  # None: against all data, or of one seed

    def __str__(self) -> str:
        told = self.advantage.contrast
        flips = f"; {self.flips}" if self.flips else ""
        reach = f"({told.low:z.3f} to {told.high:z.3f})"
        return f"{self.method} {told.difference:+.3f} {reach} over {self.other}, {self.advantage.told} by {told.seeds} seeds{flips}"


@dataclass(frozen=True)
class Whole:
    """All boards of an architecture together."""

    architecture: str
    verdicts: tuple[Verdict, ...]
    likeness: Measured | None  # of two models of a seed; None: no method was run at two budgets and by two seeds
    least: Least | None  # that the test by seeds could have told


def wholes(matrix: MatrixResults) -> list[Whole]:
    """Of every architecture that has a method at more than one budget or on more than one set."""
    boards = sorted(matrix.boards, key=lambda one: one.architecture)
    made = [whole(name, list(some)) for name, some in groupby(boards, key=lambda one: one.architecture)]
    return [one for one in made if one.verdicts]


def whole(architecture: str, boards: Sequence[Board]) -> Whole:
    """What all boards of an architecture say together of every pair of methods that met at more than one budget or on more than one set."""
    made = {pair: leads(cells) for pair, cells in paired(boards).items()}
    made = {pair: some for pair, some in made.items() if len(some) > 1}
    contrasts = {pair: scores.averaged(list(some.values())) for pair, some in made.items()}
    units = {pair: models(some) for pair, some in made.items() if pair[1] == RANDOM and contrasts[pair].seeds > 1}
    sure, signs = corrected(contrasts), flips(units)
    verdicts = tuple(
        Verdict(method, other, len(some), CorrectedContrast(contrasts[method, other], sure[method, other]), signs.get((method, other)))
        for (method, other), some in made.items()
    )
    ordered = sorted(verdicts, key=lambda one: (one.other != RANDOM, -one.advantage.contrast.difference))
    return Whole(architecture, tuple(ordered), likeness(list(units.values())), least_of(contrasts.values()))


def paired(boards: Sequence[Board]) -> dict[tuple[str, str], Cells]:
    """By method and what it is held against the cells of those seeds that have all that any of its seeds has."""
    found: dict[tuple[str, str], Cells] = {}
    for pair, seed, place, networks in matched(boards):
        found.setdefault(pair, {}).setdefault(seed, {})[place] = networks
    return {pair: whole_seeds(cells) for pair, cells in found.items()}


def matched(boards: Sequence[Board]) -> Iterator[tuple[tuple[str, str], int, Place, tuple[Marks, Marks]]]:
    """Every cell beside the one of the same seed of a rival: the two methods, the seed, budget and set, and the marks of both."""
    for board in boards:
        spots = board.spots()
        for spot, mine in spots.items():
            for other, its in rivals(spot, spots).items():
                theirs = {one.seed: one.marks for one in its}
                for one in mine:
                    if one.seed in theirs:
                        yield (spot[0], other), one.seed, (spot[1], board.dataset), (one.marks, theirs[one.seed])


def whole_seeds(cells: Cells) -> Cells:
    """A seed that lacks a cell would be a mean of something else."""
    every = set().union(*cells.values())
    return {seed: cells[seed] for seed in sorted(cells) if set(cells[seed]) == every}


def leads(cells: Cells) -> dict[Place, Lead]:
    """At every place the differences of all seeds; images of a set are drawn alike at all budgets, and those of another set apart."""
    if not cells:
        return {}
    places = sorted(next(iter(cells.values())))
    sets = sorted({name for _, name in places})
    made = {}
    for place in places:
        first, second = zip(*(some[place] for some in cells.values()), strict=True)
        made[place] = scores.lead(first, second, sets.index(place[1]))
    return made


def models(made: Mapping[Place, Lead]) -> Floats:
    """(S, B): of every seed at every budget the mean difference over the sets."""
    budgets = sorted({budget for budget, _ in made})
    return np.array([np.mean([one.seen for (at, _), one in made.items() if at == budget], axis=0) for budget in budgets]).T


def corrected(contrasts: Mapping[tuple[str, str], Contrast]) -> dict[tuple[str, str], float]:
    """Not a number of one seed."""
    tested = {pair: one.p for pair, one in contrasts.items() if one.seeds > 1}
    return dict.fromkeys(contrasts, float("nan")) | dict(zip(tested, holm(list(tested.values())), strict=True))


def flips(units: Mapping[tuple[str, str], Floats]) -> dict[tuple[str, str], Flips]:
    """What flips of signs say of each pair, by the differences (n,) of its models; corrected by Holm over the pairs."""
    values = {pair: chance(some.ravel()) for pair, some in units.items()}
    after = dict(zip(values, holm(list(values.values())), strict=True))
    return {pair: Flips(values[pair], after[pair], smallest(some.size), int(np.sum(some > 0)), some.size) for pair, some in units.items()}


def chance(units: Floats) -> float:
    """The share of patterns of signs with which the sum of units (n,) is as far from 0; of many by patterns drawn, and its own."""
    seen, many = abs(float(units.sum())), len(units)
    if many > ALL_PATTERNS:
        signs = np.random.default_rng(0).integers(2, size=(PATTERNS, many), dtype=np.int8) * 2 - 1
        far = int(np.sum(np.abs(signs @ units) >= seen - ROUNDING))
        return (far + 1) / (PATTERNS + 1)
    sums = units[:1]  # with all signs turned round it is as far
    for unit in units[1:]:
        sums = np.concatenate([sums + unit, sums - unit])
    return float(np.mean(np.abs(sums) >= seen - ROUNDING))


def smallest(many: int) -> float:
    """The least p that so many units can give."""
    return 2 / 2**many if many <= ALL_PATTERNS else 1 / (PATTERNS + 1)


def likeness(units: Sequence[Floats]) -> Measured | None:
    """The intraclass correlation of the models of a seed in some (S, B), means of budgets taken away, and its 95 % interval.

    One-way (Shrout and Fleiss 1979); below 0 where a seed is no matter. The methods count as if each were held against a random of its
    own, so the interval is rather too narrow. None where they differ in seeds or budgets, or have one.
    """
    shapes = {some.shape for some in units}
    if len(shapes) != 1 or min(shapes.pop()) < 2:
        return None
    rest = np.array(units) - np.mean(units, axis=1, keepdims=True)  # (methods, S, B)
    methods, seeds, budgets = rest.shape
    of_seeds = rest.mean(2, keepdims=True)
    between, within = methods * (seeds - 1), methods * (seeds - 1) * (budgets - 1)  # degrees of freedom
    error = float(np.sum((rest - of_seeds) ** 2)) / within
    if not error:
        return None
    ratio = budgets * float(np.sum(of_seeds**2)) / between / error
    low, high = ratio / float(fisher.ppf(0.975, between, within)), ratio * float(fisher.ppf(0.975, within, between))
    told = [(one - 1) / (one + budgets - 1) for one in (ratio, low, high)]
    return told[0], told[1], told[2]


def metrics(matrix: MatrixResults) -> dict[str, float]:
    """Every difference with its p-values, for MLflow."""
    told: dict[str, float] = {}
    for architecture, verdict in ((one.architecture, verdict) for one in wholes(matrix) for verdict in one.verdicts):
        name = f"{architecture}/together/{verdict.method}/{verdict.other}"
        told[f"{name}/difference"] = verdict.advantage.contrast.difference
        told |= {f"{name}/p_seeds": verdict.advantage.corrected} if verdict.advantage.contrast.seeds > 1 else {}
        told |= {f"{name}/p_flips": verdict.flips.corrected} if verdict.flips else {}
    return taken(told)


def said(matrix: MatrixResults) -> list[str]:
    """A line for every verdict, and for what could not have been told."""
    lines = []
    for one in wholes(matrix):
        lines += [f"all together, {one.architecture}: {verdict}" for verdict in one.verdicts]
        lines += [f"all together, {one.architecture}: {one.least}"] if one.least else []
    return lines
