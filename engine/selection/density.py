"""Density-Based Pruning (Abbas, Rusak et al., ICLR 2024; amro-kamal/effective_pruning): more of what is spread out."""

import numpy as np
from numpy.typing import NDArray

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Clustering, Pool
from engine.rows import Rows, rising
from engine.selection.budgets import Budget, Order, most
from engine.selection.likeness import deduplicated, told_of
from engine.selection.spread import Run

DEDUP = 0.63  # share that SemDeDup leaves first: 280 of LAION's 440 million in the paper
OTHERS = 20  # nearest centroids that a cluster is compared with; our choice, because the number is not published

Counts = NDArray[np.int64]


def density(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """In each cluster the farthest from the centroid, as many as the programme of the paper says.

    When patches came or went the clusterings are used again, that which SemDeDup goes by and that of what it leaves; from the members of
    the latter complexity and shares are computed anew. So the choice is that of solving anew around the centroids of both.
    """
    kept, left, found = deduplicated(pool, config, run, DEDUP)
    order, sizes = rising(left.nearness, pool.keys()[kept]), np.bincount(left.labels, minlength=len(left.centroids))
    shares = softmax(complexity(left) / config.density.tau)
    place = clusters.places(left.labels, order)[order]

    def chosen(count: int) -> Rows:
        counts = allotted(shares, min(count, len(kept)), sizes, config.density.balance)
        return kept[order[place < counts[left.labels[order]]]]

    few = f"SemDeDup leaves {len(kept):,} of {len(pool):,} patches, and Density-Based Pruning chooses among these: choose by another method"
    return Order(most(budget, chosen), told_of(pool, left), found, few)


def complexity(found: Clustering) -> NDArray[np.float64]:
    """d_inter d_intra (k,): the mean cosine distance to the nearest other centroids, times that of the members to their own."""
    middles = clusters.whole(found.centroids)
    apart = np.sort(1 - clusters.cosines(middles, middles).astype(np.float64) + 4 * np.eye(len(middles)), axis=1)
    inter = apart[:, : min(OTHERS, len(middles) - 1)].mean(axis=1) if len(middles) > 1 else np.zeros(1)
    sizes = np.bincount(found.labels, minlength=len(middles))
    intra = np.bincount(found.labels, 1 - found.nearness.astype(np.float64), len(middles)) / np.maximum(sizes, 1)
    return np.asarray(inter * intra)


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (n,) that sum up to 1, from values (n,); the largest is taken off first, which keeps exp in range."""
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())


def allotted(shares: NDArray[np.float64], count: int, sizes: Counts, balance: float) -> Counts:
    """Whole numbers (k,) of sum `count`: the programme's solution rounded down, and one more where most was cut off."""
    exact = projected(shares * count, count, np.minimum(balance * count / len(sizes), np.maximum(sizes - 1, 0)), sizes)
    found = np.floor(exact).astype(np.int64)
    room = np.argsort(np.where(found < sizes, found - exact, np.inf), kind="stable")
    found[room[: count - found.sum()]] += 1
    return found


def projected(wanted: NDArray[np.float64], total: float, low: NDArray[np.float64], high: Counts) -> NDArray[np.float64]:
    """The x (k,) nearest to `wanted` with sum `total` and low <= x <= high: wanted less the same number for all, clipped to its bounds.

    That is what the programme's conditions of optimality say; the number is found by bisection.
    """
    below, above = float((wanted - high).min()), float((wanted - low).max())
    for _ in range(200):  # each halves the interval, down to neighbouring floats
        middle = (below + above) / 2
        if np.clip(wanted - middle, low, high).sum() > total:
            below = middle
        else:
            above = middle
    return np.clip(wanted - above, low, high)
