"""Methods that drop what is like something else in its cluster: SemDeDup and MedDEL."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Clustering, Pool
from engine.rows import Rows
from engine.selection.budgets import Budget, Order
from engine.selection.clustering import clustered, compared, outside_in
from engine.selection.spread import CoverClusters, Run, collected, tasks

LOOKS = 4  # at thresholds between two others; each look is at 32
SAMPLED = 64  # clusters at least that the first looks are at: with wide thresholds nearly all pairs of a cluster are compared
WIDE = np.float32(1) - np.geomspace(2, 2**-12, 32, dtype=np.float32)  # rising; the radius is a cosine distance, of 0 to 2


def semdedup(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """SemDeDup (Abbas et al. 2023): by the largest cosine with an earlier one of the cluster, smallest first.

    A row goes where that is above 1 - epsilon, whether or not the earlier one goes too, so each epsilon keeps a beginning of this order.
    """
    found = from_outside(pool, config, run)
    return Order(pool.ranked(-found.likeness), clustering=found)


def from_outside(pool: Pool, config: SelectionConfig, run: Run) -> Clustering:
    """The pool's clusters, compared from the outside in; a row's place in that order hangs on no other row."""
    found = clustered(pool, config)
    return compared(pool, found, found.nearness, run)


def deduplicated(pool: Pool, config: SelectionConfig, run: Run, share: float) -> tuple[Rows, Clustering]:
    """The rows, rising, that SemDeDup leaves where it leaves that share of a pool, one at least, and what it went by."""
    found = from_outside(pool, config, run)
    return np.sort(pool.ranked(-found.likeness)[: max(1, round(share * len(pool)))]), found


def meddel(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """MedDEL (Yang et al. 2024): in each cluster, from outside in, what is not within the radius of one that was kept.

    The radius is the one that keeps the most within the budget, of those looked at. Not published: the order, k, and how it is found.
    When patches were added the clusters are used again and the covers are not: a new row that is kept lets later ones go, which keeps
    others, and nothing short of going through its cluster again tells which.
    """
    found = clustered(pool, config)
    order = outside_in(pool, found)
    if budget.costs.sum() <= budget.limit:
        return Order(order, {"radius": 0.0}, found)
    members = clusters.members(found.labels, order, len(found.centroids))
    every = max(1, len(members) // SAMPLED)
    low, high = -1.0, 1.0
    if every > 1:
        low, high = foreseen(pool, budget, members[::every], run)
    kept, threshold, next_one = searched(pool, budget, members, np.linspace(low, high, 32, dtype=np.float32) if every > 1 else WIDE, run)
    rows = order[kept[order]]
    few = ""
    if budget.spent(rows) <= budget.limit:
        few = f"MedDEL keeps one of what looks alike, here {len(rows):,}, and by the next smaller radius more than the budget takes "
        few += f"({next_one:,} {'bytes' if budget.unit == 'bytes' else 'patches'}): raise it to that, or choose by another method"
    return Order(rows, {"radius": 1.0 - threshold}, found, few)


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
    pool: Pool, budget: Budget, members: Sequence[Rows], thresholds: NDArray[np.float32], run: Run
) -> tuple[NDArray[np.bool_], float, int]:
    """Which rows (N,) the best threshold keeps, and that threshold; the lowest one looked at where none stays in the budget. And what the
    cheapest cover costs, of those looked at and of all rows, that does not stay in it."""
    low, high, best, spent = -1.0, 1.0, (np.zeros(len(pool), np.bool_), -1.0), -1
    above = int(budget.costs.sum())
    enough = max(budget.group * float(budget.costs.mean()), budget.limit / 1000)  # a look at ten million patches takes minutes
    for _ in range(LOOKS):
        bits = looked(pool, members, thresholds, run)
        costs = np.array([budget.costs[(bits >> e & 1) > 0].sum() for e in range(len(thresholds))])
        fits = costs <= budget.limit
        above = min(above, int(costs[~fits].min(initial=above)))
        place = int(np.argmax(np.where(fits, costs, -1)))  # the first where none fits
        if costs[place] > spent if fits[place] else spent < 0:
            best, spent = ((bits >> place & 1) > 0, float(thresholds[place])), int(costs[place]) if fits[place] else -1
        low, high = bracket(thresholds, fits, low, high)
        if (spent >= 0 and budget.limit - spent <= enough) or high - low < 1 / clusters.FINE:
            break
        thresholds = np.linspace(low, high, 34, dtype=np.float32)[1:-1]
    return *best, above


def bracket(thresholds: NDArray[np.float32], fits: NDArray[np.bool_], low: float, high: float) -> tuple[float, float]:
    """The highest threshold that fits, and the next one, which does not. Both (T,)."""
    place = int(np.flatnonzero(fits).max(initial=-1))
    return (float(thresholds[place]) if place >= 0 else low, float(thresholds[place + 1]) if place + 1 < len(fits) else high)


def looked(pool: Pool, members: Sequence[Rows], thresholds: NDArray[np.float32], run: Run) -> NDArray[np.uint32]:
    """What greedy covers keep of each row (N,): bit e at the threshold e."""
    made = run(CoverClusters, (pool.embeddings(), thresholds), tasks(members))
    return collected(made, np.zeros(len(pool), np.uint32))
