"""Hierarchical k-means (Vo et al. 2024; facebookresearch/ssl-data-curation): clusters of clusters, and an even sample from the top down.

Other than the original (our choices, so that one k-means serves all methods): embeddings have length one, and so have the centroids,
which are means there, so distance and cosine rank alike; k-means begins with rows by lot and not by k-means++, takes selection.iterations
(20) and not 50, and splits a large cluster where one is empty; the rows that a round takes of each cluster are a share of a mean cluster,
where the original wants a number for each level (and does not resample where that is 1).

After patches came or went the lowest clusters stay: what is new goes to its nearest centroid, the levels above follow from the centroids
alone, quotas are shared out anew, and lots decide. So the choice is that of solving anew around the same centroids; these are fitted anew
where the pool's size changed by a fifth (clustering.CHANGE). Beside fitting anew 66 % of the choices are the same after ten times 1 % more
of 10,000 patches, 64 % after the first (notebooks/LOG.md, 2026-11-23).
"""

import numpy as np
from numpy.typing import NDArray

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Clustering, Held, Part, Pool, Vectors
from engine.rows import Keys, Rows, mixed, rising
from engine.selection.budgets import Budget, Order, most
from engine.selection.clustering import cluster_count, extended, fits
from engine.selection.spread import Run

ROUNDS = 10  # of resampling, as in the original
SHRINK = 0.3  # clusters of a level by those of the one below: the original's small example has 1000 and 300

Counts = NDArray[np.int64]


def hierarchical(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """As many from every branch, as far as it has them; inside the lowest clusters by lot."""
    lots, found = np.argsort(pool.keys(config.seed), kind="stable"), lowest(pool, config)
    levels = tree(found, config)
    place = clusters.places(levels[0], lots)[lots]

    def chosen(count: int) -> Rows:
        quotas = shared_out(levels, len(pool), count, config.seed)
        return lots[place < quotas[levels[0][lots]]]

    return Order(most(budget, chosen), clustering=found)


def clusters_by(config: SelectionConfig) -> str:
    """What its lowest clusters hang on beside what those of other methods do."""
    return f"{config.clusters} drawn apart by {config.hierarchical.sample}"


def lowest(pool: Pool, config: SelectionConfig) -> Clustering:
    """The lowest clusters: those of an earlier choice with the rows that were added, as clustering.clustered, or new ones."""
    vectors, known = pool.embeddings(), pool.clustering
    if known is not None and fits(known, vectors.width, len(pool)):
        return extended(vectors, known)
    return resampled(vectors, cluster_count(pool, config), pool.keys(config.seed), config)


def tree(found: Clustering, config: SelectionConfig) -> list[NDArray[np.int32]]:
    """Per level the cluster of each thing: of each patch, then of each cluster of the level below.

    Shape: (N,), then (clusters of the level below,).
    """
    levels = [found.labels]
    for _ in range(config.hierarchical.levels - 1):
        below = len(found.centroids)
        found = resampled(Held(found.centroids), max(1, round(SHRINK * below)), mixed(np.arange(below, dtype=np.uint64)), config)
        levels.append(found.labels)
    return levels


def resampled(vectors: Vectors, count: int, keys: Keys, config: SelectionConfig) -> Clustering:
    """k-means, done again and again on the same number of nearest ones of every cluster, which draws the centroids apart."""
    centroids = clusters.fit(vectors, count, keys, config.iterations)
    labels, nearness = clusters.assigned(vectors, centroids)
    each = max(1, round(config.hierarchical.sample * len(vectors) / count))
    for _ in range(ROUNDS):
        inside_out = rising(-nearness, keys)
        nearest = np.flatnonzero(clusters.places(labels, inside_out) < each)
        centroids = clusters.fit(Part(vectors, nearest), count, keys[nearest], config.iterations)
        labels, nearness = clusters.assigned(vectors, centroids)
    return Clustering.bare_of(centroids, labels, nearness)


def shared_out(levels: list[NDArray[np.int32]], patches: int, count: int, seed: int) -> Counts:
    """How many of `count` patches each lowest cluster gives. (clusters,)."""
    sizes = [np.ones(patches, np.int64)]
    for labels, count_above in zip(levels, [*map(len, levels[1:]), 0], strict=True):
        sizes.append(np.bincount(labels, sizes[-1], count_above).astype(np.int64))  # the last clusters may be empty
    quotas = evenly(sizes[-1], count, seed)
    for level in range(len(levels) - 1, 0, -1):
        labels, below = levels[level], np.zeros(len(sizes[level]), np.int64)
        for node, mine in enumerate(clusters.members(labels, np.arange(len(labels)), len(quotas))):
            below[mine] = evenly(sizes[level][mine], int(quotas[node]), seed + node)
        quotas = below
    return quotas


def evenly(sizes: Counts, count: int, seed: int) -> Counts:
    """min(c, size) of every child (k,) with the largest c whose sum is at most `count`; what is left goes to some of the larger by lot."""
    count = min(count, int(sizes.sum()))
    low, high = 0, int(sizes.max(initial=0))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= count else (low, middle - 1)
    found = np.minimum(sizes, low)
    larger = np.flatnonzero(sizes > low)
    lots = mixed(larger.astype(np.uint64) + mixed(np.full(1, seed, np.uint64)))
    found[larger[np.argsort(lots)[: count - int(found.sum())]]] += 1
    return found
