"""What a matrix came to: every method at every budget, who is ahead of whom beyond chance, and what told so before any training.

`MatrixResults` have a board (`engine.entries`) for each data set of a matrix under one architecture. Methods are compared at equal
budget, in number and in unit, because NormDEL mostly ranks the budget. Differences are paired by seed and test image (`scores.contrast`),
and their p-values are corrected by Holm over all that a board compares. What a board could not have told at all stands beside it (`least`).

How a method does over its budgets, sets and seeds together is for `verdicts`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

import numpy as np
from scipy.stats import rankdata

from engine import scores
from engine.charts import amount
from engine.entries import FULL, RANDOM, Amount, Board, Entry, Spot, Spotted
from engine.scores import Contrast, Measured, contrast, holm, over_seeds

SAM, CROPS = "optidel", "optidel_s"  # which differ in who proposes the patches
SURE = 0.05  # of a corrected p-value
DRAWS = 2000  # of the bootstrap of a rank correlation
FEWEST = 5  # points that a rank correlation is told of: the best order of four comes by chance, either way round, in one of twelve


@dataclass(frozen=True)
class CorrectedContrast:
    """A paired comparison, with its p-value corrected for all of its board."""

    contrast: Contrast
    corrected: float  # not a number of one seed

    @property
    def beyond_chance(self) -> bool:
        """Whether the p-value, corrected for the whole board, is below SURE."""
        return self.corrected < SURE

    @property
    def told(self) -> str:
        """The corrected p-value in words; "one seed" where there is none to tell."""
        return f"p {self.corrected:.2g}" if self.contrast.seeds > 1 else "one seed"


@dataclass(frozen=True)
class Standing(Spotted):
    """A method at a budget; means and intervals are over seeds."""

    method: str
    budget: float
    images: float
    miou: Measured
    normdel: float
    seeds: int
    over: Mapping[str, CorrectedContrast]  # by the name of the other: RANDOM at the same budget, FULL
    unit: str = ""  # of the budget; "": see Entry

    @property
    def place(self) -> str:
        """Its budget in the name of a metric: the number, and the unit behind it but for bytes."""
        return f"{self.budget:g} {self.unit.removeprefix('bytes')}".rstrip()


@dataclass(frozen=True)
class Least:
    """The smallest difference that a board could tell from chance in four of five matrices like it, and what that hangs on."""

    difference: float
    comparisons: int
    seeds: int

    def __str__(self) -> str:
        told = f"{self.comparisons} comparisons" if self.comparisons > 1 else "one comparison"
        return f"a difference below {self.difference:.2f} could hardly have been told by {self.seeds} seeds and {told} (power .8)"


@dataclass(frozen=True)
class Check:
    """A rank correlation (Spearman) over all methods and budgets, between what was known before training and what came of it."""

    measure: str
    outcome: str
    points: int
    rho: float
    low: float
    high: float
    sure: bool = False  # whether an interval as wide as all checks of the matrix together ask for (Bonferroni) leaves 0 out


@dataclass(frozen=True)
class MatrixResults:
    """What a matrix came to: its boards, and what proposing patches took."""

    name: str
    key: str  # changes with the matrix and its settings
    boards: tuple[Board, ...]
    proposals: Mapping[str, float]  # seconds a frame that proposing patches takes, by pool; of those where it was measured

    def metrics(self) -> dict[str, float]:
        """Every mean, and every check with its interval, by names that MLflow takes."""
        told = {
            f"{board.architecture}/{board.dataset}/{one.method}/{one.place}/{kind}": value
            for board in self.boards
            for one in standings(board)
            for kind, value in (("miou", one.miou[0]), ("normdel", one.normdel))
            if np.isfinite(value)
        }
        for one in checks(self):
            name = f"spearman/{one.measure}/{one.outcome}"
            told |= {name: one.rho, f"{name}/low": one.low, f"{name}/high": one.high}
        return taken(told)

    def said(self) -> list[str]:
        """A line for every board and budget, for what a board could not have told, and for every check."""
        lines = [line for board in self.boards for line in leaders(board)]
        return lines + [
            f"{one.measure} and {one.outcome}: rank correlation {one.rho:z.2f} ({one.low:z.2f} to {one.high:z.2f})" for one in checks(self)
        ]


def taken(told: Mapping[str, float]) -> dict[str, float]:
    """The same by names that MLflow takes."""
    return {"".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in name): told[name] for name in told}


def matrix_results(name: str, boards: Iterable[Board], proposals: Mapping[str, float] | None = None) -> MatrixResults:
    """Those of a matrix with some boards, their key a hash of the name and of what each board measures."""
    made = tuple(boards)
    key = hashlib.sha256("\n".join([name, *(f"{one.architecture} {one.dataset} {one.setting}" for one in made)]).encode()).hexdigest()[:12]
    return MatrixResults(name, f"{name}-{key}", made, proposals or {})


# -- Table 1 --------------------------------------------------------------------------------------------------------------------


def standings(board: Board) -> list[Standing]:
    """Every method at every budget, those of a unit rising, at each the best first."""
    spots = board.spots()
    against = {spot: rivals(spot, spots) for spot in spots}
    pairs = [
        (spot, name, found) for spot, others in against.items() for name, other in others.items() if (found := paired(spots[spot], other))
    ]
    corrected = iter(holm([found.p for _, _, found in pairs if found.seeds > 1]))
    over: dict[Spot, dict[str, CorrectedContrast]] = {spot: {} for spot in spots}
    for spot, name, found in pairs:
        over[spot][name] = CorrectedContrast(found, next(corrected) if found.seeds > 1 else float("nan"))
    made = [standing(spot, some, over[spot]) for spot, some in spots.items()]
    return sorted(made, key=lambda one: (one.unit, one.budget, -one.miou[0], one.method))


def rivals(spot: Spot, spots: Mapping[Spot, list[Entry]]) -> dict[str, list[Entry]]:
    """What a method is held against: chance at the same budget, and all data."""
    method, budget = spot
    same = {RANDOM: spots.get((RANDOM, budget)), FULL: next((some for (name, _), some in spots.items() if name == FULL), None)}
    return {name: some for name, some in same.items() if some and name != method}


def paired(first: Sequence[Entry], second: Sequence[Entry]) -> Contrast | None:
    """The advantage over the seeds that both have; None where they share none."""
    one, other = ({entry.seed: entry.marks for entry in some} for some in (first, second))
    seeds = sorted(set(one) & set(other))
    return contrast([one[seed] for seed in seeds], [other[seed] for seed in seeds]) if seeds else None


def standing(spot: Spot, some: Sequence[Entry], over: Mapping[str, CorrectedContrast]) -> Standing:
    """What the seeds of one method at one budget came to together."""
    method, (budget, unit) = spot
    return Standing(
        method=method,
        budget=budget,
        images=fmean(one.images for one in some),
        miou=over_seeds([one.miou for one in some]),
        normdel=fmean(one.normdel for one in some),
        seeds=len(some),
        over=over,
        unit=unit,
    )


def least(rows: Sequence[Standing]) -> Least | None:
    """Of all comparisons of a board."""
    return least_of([one.contrast for row in rows for one in row.over.values()])


def least_of(contrasts: Iterable[Contrast]) -> Least | None:
    """By the mean variances of those of most seeds, at the level that Holm asks of the first; None where all are of one seed."""
    found = [one for one in contrasts if one.seeds > 1]
    if not found:
        return None
    seeds = max(one.seeds for one in found)
    parts = list(zip(*(one.variances for one in found if one.seeds == seeds), strict=True))
    variances = tuple((fmean(variance for variance, _ in part), part[0][1]) for part in parts)
    return Least(scores.least(variances, SURE / len(found)), len(found), seeds)


def leaders(board: Board) -> Iterator[str]:
    """Who leads at every budget, and what could not have been told."""
    rows = standings(board)
    for budget, group in groupby((one for one in rows if one.budget), key=lambda one: one.spot[1]):
        first, *others = group
        sure = first.over.get(RANDOM)
        rest = "".join(f", {one.method} {one.miou[0]:.3f}" for one in others)
        lead = "" if sure is None else f"; it is {sure.contrast.difference:+.3f} over {RANDOM}, {sure.told}"
        yield f"{board.dataset}, {board.architecture}, {amount(*budget)}: {first.method} {first.miou[0]:.3f}{rest}{lead}"
    if (told := least(rows)) is not None:
        yield f"{board.dataset}, {board.architecture}: {told}"


# -- Table 2 --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """A method at a budget over data sets: (mIoU, NormDEL) by architecture, over those sets that every method there has."""

    method: str
    budget: float
    by: Mapping[str, tuple[float, float]]
    unit: str = ""  # of the budget; "": see Entry


def means(matrix: MatrixResults) -> list[Mean]:
    """Every method at every budget under every architecture, a mean over the data sets; budgets of a unit rise, the best of each first."""
    found: dict[Spot, dict[str, tuple[float, float]]] = {}
    for architecture in dict.fromkeys(board.architecture for board in matrix.boards):
        tables = [{one.spot: one for one in standings(board)} for board in matrix.boards if board.architecture == architecture]
        for spot in set(tables[0]).intersection(*tables[1:]):
            rows = [table[spot] for table in tables]
            found.setdefault(spot, {})[architecture] = fmean(one.miou[0] for one in rows), fmean(one.normdel for one in rows)
    made = [Mean(method, budget, by, unit) for (method, (budget, unit)), by in found.items()]
    return sorted(made, key=lambda one: (one.unit, one.budget, -max(miou for miou, _ in one.by.values()), one.method))


# -- what told so before --------------------------------------------------------------------------------------------------------

GAIN = "gain over random at equal budget"
MIOU = "mIoU over the mean of its data set"
ASKED = {  # measures of a selection that the papers' reviewers asked about, with what they should foretell
    "difficulty": GAIN,
    "estimated_information_100": MIOU,
    "fid_128": GAIN,
    "distance": GAIN,
    "vendi": GAIN,
    "clusters": GAIN,
}


def checks(matrix: MatrixResults) -> list[Check]:
    """Of every measure that was taken its rank correlation with what came of it, over architectures, data sets, methods and budgets.

    A point is a mean over seeds. The interval, 95 % for each by itself, is a bootstrap over points, which hang together, so it is rather
    too narrow. Measures of different pools (frames, regions, crops) are of different patches, and are ranked together as they are: nothing
    is centred by pool.
    """
    found = {}
    for measure, outcome in ASKED.items():
        points = [point for board in matrix.boards for point in related(board, measure, outcome == GAIN)]
        if len(points) >= FEWEST and all(len({point[axis] for point in points}) > 1 for axis in (0, 1)):
            found[measure] = np.array(points)
    made = []
    for measure, some in found.items():
        (low, high), (least, most) = correlation(some, SURE, SURE / len(found))
        made.append(Check(measure, ASKED[measure], len(some), float(rho(some)), low, high, least > 0 or most < 0))
    return made


def related(board: Board, measure: str, gain: bool) -> Iterator[tuple[float, float]]:
    """(measure, outcome) of every method at every budget, as means over seeds."""
    spots = board.spots()
    for (method, budget), some in spots.items():
        values = [one.measures[measure] for one in some if measure in one.measures]
        against = spots.get((RANDOM, budget), []) if gain else board.entries
        if len(values) == len(some) and against and not (gain and method == RANDOM):
            yield fmean(values), fmean(one.miou for one in some) - fmean(one.miou for one in against)


def correlation(points: np.ndarray, *levels: float) -> list[tuple[float, float]]:
    """The interval of Spearman's rho of points (N, 2) at each level, by a bootstrap over points; draws that are all alike say nothing."""
    drawn = points[np.random.default_rng(0).integers(len(points), size=(DRAWS, len(points)))]
    values = rho(drawn[np.ptp(drawn, axis=1).all(axis=1)])
    return [(float(np.quantile(values, level / 2)), float(np.quantile(values, 1 - level / 2))) for level in levels]


def rho(points: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of points (..., n, 2)."""
    ranks = rankdata(points, axis=-2)
    ranks -= ranks.mean(-2, keepdims=True)
    return np.asarray(ranks.prod(-1).sum(-1) / np.sqrt((ranks**2).sum(-2).prod(-1)))


def patches(board: Board) -> list[tuple[Amount, Contrast]]:
    """What the regions of LiteMedSAM or SAM are worth over random crops: OptiDEL over OptiDEL-S, by budget."""
    spots = board.spots()
    pairs = [(budget, some, spots.get((CROPS, budget))) for (method, budget), some in spots.items() if method == SAM]
    return [(budget, found) for budget, some, other in pairs if other and (found := paired(some, other))]
