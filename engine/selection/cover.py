"""MedDEL: of each cluster what is not within a radius of one that is kept, and how such a cover is gone on with.

A cover is greedy in an order of the rows. The first one goes from outside in. After patches came or went those that were kept go first,
then the others, each from outside in: so a row whose stand-in stays, and is near enough, goes whatever else there is, and is not looked at.
Looked at are those that were kept, those whose stand-in is not known, or too far off for a smaller radius, and, for a larger one, those
whose stand-in may go. What is kept is what the same order of all rows would keep by the same radius.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import clusters, schema
from engine.config import SelectionConfig
from engine.pool import Clustering, Pool, Vectors
from engine.rows import Rows, rising
from engine.selection.budgets import Budget, Order
from engine.selection.clustering import by_cluster, clustered, outside_in
from engine.selection.spread import TASK, CoverClusters, FindLikeness, Run, clusters_of, collected, tasks
from engine.selection.twins import TWIN

LOOKS = 4  # at thresholds between two others; each look is at 32
SAMPLED = 64  # clusters at least that the first looks are at: with wide thresholds nearly all pairs of a cluster are compared
WIDE = np.float32(1) - np.geomspace(2, 2**-12, 32, dtype=np.float32)  # rising; the radius is a cosine distance, of 0 to 2
HALF = 0.5 / float(clusters.FINE)  # a threshold so far below a cosine is between it and the next one
FALLING = 4  # kept rows that a larger radius may let go, for each one too many: half as many that they stood for stay (notebooks/LOG.md)
FEWEST = 16  # of these, and of the rows that a smaller radius may keep, whatever has changed

Thresholds = NDArray[np.float32]


@dataclass(frozen=True)
class Cover:
    """Which rows are kept (N,), found by looking at `members`, the rows of each cluster in their order, and what they cost.

    `spent` is -1 where no threshold that was looked at stays in the budget, `above` what the cheapest costs, of those and of all rows, that
    does not.
    """

    kept: NDArray[np.bool_]
    members: Sequence[Rows]
    spent: int
    above: int


def meddel(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """MedDEL (Yang et al. 2024): in each cluster, from outside in, what is not within the radius of one that was kept.

    The radius is the one that keeps the most within the budget, of those looked at; told is the least that keeps the same. Not published:
    the order, k, and how the radius is found.
    """
    found = clustered(pool, config)
    if budget.costs.sum() <= budget.limit:
        return Order(outside_in(pool, found), {"radius": 0.0}, found)
    earlier = gone_on_with(pool, budget, found, run)
    cover = earlier or anew(pool, budget, found, run)
    found = stood_for(pool, found, cover, run)
    few = ""
    if cover.spent >= 0:
        few = f"MedDEL keeps one of what looks alike, here {cover.kept.sum():,}, and by the next smaller radius more than the budget takes "
        few += f"({cover.above:,} {'bytes' if budget.unit == 'bytes' else 'patches'}): raise it to that, or choose by another method"
    told = {"radius": 1.0 - tightest(found.likeness[~cover.kept])}
    told |= {"covered_anew": float(earlier is None)} if len(cover.members) else {}  # of a choice made twice the first says so
    return Order(in_order(pool, found, cover.kept), told, found, few)


def anew(pool: Pool, budget: Budget, found: Clustering, run: Run) -> Cover:
    """The cover of all rows, from outside in."""
    members = clusters.members(found.labels, outside_in(pool, found), len(found.centroids))
    every = max(1, len(members) // SAMPLED)
    thresholds = between(*foreseen(pool, budget, members[::every], run)) if every > 1 else WIDE
    return searched(pool, budget, members, thresholds, run)


def gone_on_with(pool: Pool, budget: Budget, found: Clustering, run: Run) -> Cover | None:
    """The cover that an earlier one leads to; None where there is none, or where no radius near its own fills the budget.

    Where nothing came it is the earlier one or none: so a choice that is made twice is the same.
    """
    kept, loose = found.kept, without_stand_in(found)
    bound = ~(kept | loose)
    if not (kept.any() and bound.any()):
        return None
    if not loose.any():
        cover = Cover(kept, [], budget.spent(np.flatnonzero(kept)), int(budget.costs.sum()))
        return cover if fills(budget, cover.spent) else None
    tight, high = tightest(found.likeness[bound]), least(found.likeness[bound], int(loose.sum()))
    members = looked_at(pool, found, kept, loose | (bound & (found.likeness <= high)))
    cover = searched(pool, budget, members, between(tight, high), run, (tight, high))
    if cover.spent < 0:
        alike = alike_among(pool, found, kept, run)
        excess = (cover.above - budget.limit) / budget.costs.mean()
        low = -least(-alike[kept], int(FALLING * excess))
        free = loose | (bound & stands_for(found, kept & (alike > low)))
        cover = searched(pool, budget, looked_at(pool, found, kept, free), between(low, tight), run, (low, tight))
    return cover if fills(budget, cover.spent) else None


def fills(budget: Budget, spent: float) -> bool:
    """Whether so little is left of a budget that nobody looks for a better radius: a look at ten million patches takes minutes."""
    return 0 <= spent <= budget.limit and budget.limit - spent <= max(budget.group * float(budget.costs.mean()), budget.limit / 1000)


def foreseen(pool: Pool, budget: Budget, members: Sequence[Rows], run: Run) -> tuple[float, float]:
    """Two thresholds between which the right one probably lies, from some clusters and their part of the budget."""
    some = np.concatenate(members)
    part = budget.limit * (budget.costs[some].sum() / budget.costs.sum())
    thresholds = WIDE
    for _ in range(2):
        bits = looked(pool, members, thresholds, run)
        fits = np.array([budget.costs[some][bits[some] >> e & 1 > 0].sum() <= part for e in range(len(thresholds))])
        place = int(np.flatnonzero(fits).max(initial=0))
        low, high = thresholds[max(place - 1, 0)], thresholds[min(place + 2, len(thresholds) - 1)]
        thresholds = np.linspace(low, high, 32, dtype=np.float32)
    return float(low), float(high)


def searched(
    pool: Pool, budget: Budget, members: Sequence[Rows], thresholds: Thresholds, run: Run, bounds: tuple[float, float] = (-1.0, 1.0)
) -> Cover:
    """The best cover by the thresholds and others inside the bounds; that of the lowest one looked at where none stays in the budget."""
    low, high = bounds
    best, spent = np.zeros(len(pool), np.bool_), -1
    above = int(budget.costs.sum())
    for _ in range(LOOKS):
        bits = looked(pool, members, thresholds, run)
        costs = np.array([budget.costs[(bits >> e & 1) > 0].sum() for e in range(len(thresholds))])
        fits = costs <= budget.limit
        above = min(above, int(costs[~fits].min(initial=above)))
        place = int(np.argmax(np.where(fits, costs, -1)))  # the first where none fits
        if costs[place] > spent if fits[place] else spent < 0:
            best, spent = (bits >> place & 1) > 0, int(costs[place]) if fits[place] else -1
        low, high = bracket(thresholds, fits, low, high)
        if fills(budget, spent) or high - low < 1 / clusters.FINE:
            break
        thresholds = np.linspace(low, high, 34, dtype=np.float32)[1:-1]
    return Cover(best, members, spent, above)


def bracket(thresholds: Thresholds, fits: NDArray[np.bool_], low: float, high: float) -> tuple[float, float]:
    """The highest threshold that fits, and the next one, which does not. Both (T,)."""
    place = int(np.flatnonzero(fits).max(initial=-1))
    return (float(thresholds[place]) if place >= 0 else low, float(thresholds[place + 1]) if place + 1 < len(fits) else high)


def looked(pool: Pool, members: Sequence[Rows], thresholds: Thresholds, run: Run) -> NDArray[np.uint32]:
    """What greedy covers keep of each row (N,): bit e at the threshold e."""
    made = run(CoverClusters, (pool.compared(), thresholds), tasks(members))
    return collected(made, np.zeros(len(pool), np.uint32))


def without_stand_in(found: Clustering) -> NDArray[np.bool_]:
    """Which rows that an earlier cover did not keep (N,) have no stand-in that is known: they are new, or one of their cluster is gone."""
    new = np.isnan(found.likeness)
    broken = np.bincount(found.labels[~new], minlength=len(found.members)) < found.members
    return np.asarray((new | broken[found.labels]) & ~found.kept)


def stands_for(found: Clustering, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the stand-in of each row (N,) may be one of `some` (N,): one of as much nearness in the same cluster."""
    return np.isin(named(found.labels, found.order), named(found.labels[some], found.nearness[some]))


def named(labels: NDArray[np.int32], nearness: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Whole numbers that tell rows (n,) by their cluster and their nearness."""
    return labels.astype(np.uint64) << np.uint64(32) | nearness.view(np.uint32)


def tightest(likeness: Thresholds) -> float:
    """The highest threshold by which rows of such cosines with their stand-ins all go."""
    return float(likeness.min(initial=1 + HALF)) - HALF


def least(values: Thresholds, count: int) -> float:
    """One of the least values (n,): as many are below it as are counted, or FEWEST, or all others."""
    place = min(len(values) - 1, max(count, FEWEST))
    return float(np.partition(values, place)[place])


def between(low: float, high: float) -> Thresholds:
    """The thresholds of a look, the lowest and the highest among them."""
    return np.linspace(low, high, 32, dtype=np.float32)


def in_order(pool: Pool, found: Clustering, some: NDArray[np.bool_]) -> Rows:
    """Some of the rows (N,), from outside in."""
    rows = np.flatnonzero(some)
    return rows[rising(found.nearness[rows], pool.keys()[rows])]


def looked_at(pool: Pool, found: Clustering, *parts: NDArray[np.bool_]) -> list[Rows]:
    """The rows of each cluster that are in some of the parts (N,), those of an earlier part before those of a later one."""
    return by_cluster(found, np.concatenate([in_order(pool, found, part) for part in parts]))


def alike_among(pool: Pool, found: Clustering, some: NDArray[np.bool_], run: Run) -> NDArray[np.float32]:
    """The largest cosine of each of some rows (N,) with another one before it; NaN for the others."""
    made = run(FindLikeness, (pool.compared(), some), tasks(looked_at(pool, found, some)))
    return collected(made, np.full(len(pool), np.nan, np.float32))


def stood_for(pool: Pool, found: Clustering, cover: Cover, run: Run) -> Clustering:
    """The clustering with what a cover tells: of each row that was looked at and goes the likest of those that are kept before it."""
    order, likeness = found.order.copy(), found.likeness.copy()
    for made in run(FindStandIns, (pool.compared(), cover.kept), tasks(cover.members)) if len(cover.members) else ():
        rows = made["row"].to_numpy()
        order[rows], likeness[rows] = found.nearness[made["twin"].to_numpy()], made["cosine"].to_numpy()
    order[cover.kept], likeness[cover.kept] = np.nan, -1
    return replace(found, order=order, likeness=likeness, members=np.bincount(found.labels, minlength=len(found.centroids)))


@schema.stage(reads=TASK, writes=TWIN)
class FindStandIns:
    """Of each row of some clusters that a cover does not keep the likest one that it keeps before it, and their cosine."""

    def __init__(self, vectors: Vectors, kept: NDArray[np.bool_]) -> None:
        self.vectors, self.kept = vectors, kept

    def __call__(self, task: pa.Table) -> Iterator[pa.Table]:
        for vectors, rows in clusters_of(self.vectors, task):
            kept = self.kept[rows]
            gone = np.flatnonzero(~kept)
            cosines, places = clusters.likest_earlier(vectors, gone, np.flatnonzero(kept))
            yield pa.table(dict(zip(TWIN.names, [rows[gone], rows[places], cosines], strict=True)), TWIN)
