"""Methods that drop what is like something else in its cluster: SemDeDup and MedDEL."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Clustering, Part, Pool, Rows, Vectors, rising
from engine.selection.budgets import Budget, Order
from engine.selection.spread import CoverClusters, FindLikeness, Run, collected, tasks

CHANGE = 0.2  # of a pool's size since its centroids were fitted; our choice, because the number of clusters goes with its root: by a tenth
LOOKS = 4  # at thresholds between two others; each look is at 32
SAMPLED = 64  # clusters at least that the first looks are at: with wide thresholds nearly all pairs of a cluster are compared
WIDE = np.float32(1) - np.geomspace(2, 2**-12, 32, dtype=np.float32)  # rising; the radius is a cosine distance, of 0 to 2


def clustered(pool: Pool, config: SelectionConfig) -> Clustering:
    """The pool's clustering, where it has one, with the rows that were added; a new one where it has none or its size changed by CHANGE.

    ValueError where the pool has no embeddings, or some that are looked at are zero or not finite.
    """
    vectors, known = pool.embeddings(), pool.clustering
    if known is None or not fits(known, pool):
        centroids = clusters.fit(vectors, cluster_count(pool, config), pool.keys(config.seed), config.iterations)
        labels, nearness = clusters.assigned(vectors, centroids)
        nothing = np.full(len(pool), np.nan, np.float32)
        return Clustering(centroids, len(pool), labels, nearness, nothing, nothing, np.zeros(len(centroids), np.int64))
    return extended(vectors, known)


def extended(vectors: Vectors, known: Clustering) -> Clustering:
    """A clustering with the rows that were added, each in the cluster of its nearest centroid: only their embeddings are looked at."""
    new, labels, nearness = np.flatnonzero(known.labels < 0), known.labels.copy(), known.nearness.copy()
    added = Part(vectors, new)
    for _ in clusters.checked(added):
        pass
    labels[new], nearness[new] = clusters.assigned(added, known.centroids)
    return replace(known, labels=labels, nearness=nearness)


def fits(known: Clustering, pool: Pool) -> bool:
    """Whether a clustering is of such embeddings as the pool has, and about as many."""
    return known.centroids.shape[1] == pool.embeddings().width and abs(len(pool) - known.fitted) <= CHANGE * known.fitted


def compared(pool: Pool, found: Clustering, order: NDArray[np.float32], run: Run) -> Clustering:
    """The clustering with the largest cosine of each row with an earlier one of its cluster, by `order` (N,), smallest first.

    Rows whose order is NaN take no part. Rows that were compared before, by the same order, are not compared with each other again;
    but all of a cluster are, where one of them is gone or has another place in the order now, since nobody knows who was likest to it.
    """
    same, count = found.order == order, len(found.centroids)
    broken = np.bincount(found.labels[same], minlength=count) < found.members
    known = np.where(same & ~broken[found.labels], found.likeness, np.float32(np.nan))
    part = np.flatnonzero(~np.isnan(order))
    rows = part[rising(order[part], pool.keys()[part])]
    members = [rows[some] for some in clusters.members(found.labels[rows], np.arange(len(rows)), count)]
    touched = [some for some in members if np.isnan(known[some]).any()]
    made = run(FindLikeness, (pool.embeddings(), known), tasks(touched)) if touched else iter(())
    likeness = collected(made, known.copy())
    return replace(found, order=order, likeness=likeness, members=np.array([len(some) for some in members]))


def outside_in(pool: Pool, found: Clustering) -> Rows:
    """All rows, the farthest from its centroid first (SemDeDup: "keep hard")."""
    return pool.ranked(-found.nearness)


def cluster_count(pool: Pool, config: SelectionConfig) -> int:
    return min(config.clusters or max(1, round(len(pool) ** 0.5)), len(pool))


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
    kept, threshold = searched(pool, budget, members, np.linspace(low, high, 32, dtype=np.float32) if every > 1 else WIDE, run)
    return Order(order[kept[order]], {"radius": 1.0 - threshold}, found)


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
) -> tuple[NDArray[np.bool_], float]:
    """Which rows (N,) the best threshold keeps, and that threshold; the lowest one looked at where none stays in the budget."""
    low, high, best, spent = -1.0, 1.0, (np.zeros(len(pool), np.bool_), -1.0), -1
    enough = max(budget.group * float(budget.costs.mean()), budget.limit / 1000)  # a look at ten million patches takes minutes
    for _ in range(LOOKS):
        bits = looked(pool, members, thresholds, run)
        costs = np.array([budget.costs[(bits >> e & 1) > 0].sum() for e in range(len(thresholds))])
        fits = costs <= budget.limit
        place = int(np.argmax(np.where(fits, costs, -1)))  # the first where none fits
        if costs[place] > spent if fits[place] else spent < 0:
            best, spent = ((bits >> place & 1) > 0, float(thresholds[place])), int(costs[place]) if fits[place] else -1
        low, high = bracket(thresholds, fits, low, high)
        if (spent >= 0 and budget.limit - spent <= enough) or high - low < 1 / clusters.FINE:
            break
        thresholds = np.linspace(low, high, 34, dtype=np.float32)[1:-1]
    return best


def bracket(thresholds: NDArray[np.float32], fits: NDArray[np.bool_], low: float, high: float) -> tuple[float, float]:
    """The highest threshold that fits, and the next one, which does not."""
    place = int(np.flatnonzero(fits).max(initial=-1))
    return (float(thresholds[place]) if place >= 0 else low, float(thresholds[place + 1]) if place + 1 < len(fits) else high)


def looked(pool: Pool, members: Sequence[Rows], thresholds: NDArray[np.float32], run: Run) -> NDArray[np.uint32]:
    """What greedy covers keep of each row (N,): bit e at the threshold e."""
    made = run(CoverClusters, (pool.embeddings(), thresholds), tasks(members))
    return collected(made, np.zeros(len(pool), np.uint32))
