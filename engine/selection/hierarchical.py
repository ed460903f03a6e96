"""Hierarchical k-means (Vo et al. 2024; facebookresearch/ssl-data-curation): clusters of clusters, and an even sample from the top down.

Other than the original (our choices, so that one k-means serves all methods): embeddings have length one, and so have the centroids,
which are means there, so distance and cosine rank alike; k-means begins with rows by lot and not by k-means++, takes selection.iterations
(20) and not 50, and splits a large cluster where one is empty; the rows that a round takes of each cluster are a share of a mean cluster,
where the original wants a number for each level (and does not resample where that is 1).
"""

import numpy as np
from numpy.typing import NDArray

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Block, Held, Part, Pool, Vectors
from engine.rows import Keys, Rows, mixed, rising
from engine.selection.budgets import Budget, Order, most
from engine.selection.clustering import cluster_count
from engine.selection.spread import Run

ROUNDS = 10  # of resampling, as in the original
SHRINK = 0.3  # clusters of a level by those of the one below: the original's small example has 1000 and 300

Counts = NDArray[np.int64]


def hierarchical(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """As many from every branch, as far as it has them; inside the lowest clusters by lot."""
    lots = np.argsort(pool.keys(config.seed), kind="stable")
    levels = tree(pool, config)
    place = clusters.places(levels[0], lots)[lots]

    def chosen(count: int) -> Rows:
        quotas = shared_out(levels, len(pool), count, config.seed)
        return lots[place < quotas[levels[0][lots]]]

    return Order(most(budget, chosen))


def tree(pool: Pool, config: SelectionConfig) -> list[NDArray[np.int32]]:
    """Per level the cluster of each thing: of each patch, then of each cluster of the level below.

    Shape: (N,), then (clusters of the level below,).
    """
    vectors, keys, count = pool.embeddings(), pool.keys(config.seed), cluster_count(pool, config)
    levels = []
    for _ in range(config.hierarchical.levels):
        centroids, labels = resampled(vectors, count, keys, config)
        levels.append(labels)
        vectors, keys = Held(centroids), mixed(np.arange(len(centroids), dtype=np.uint64))
        count = max(1, round(SHRINK * len(centroids)))
    return levels


def resampled(vectors: Vectors, count: int, keys: Keys, config: SelectionConfig) -> tuple[Block, NDArray[np.int32]]:
    """k-means, done again and again on the same number of nearest ones of every cluster, which draws the centroids apart.

    Shape: (k, width) centroids and (N,) clusters.
    """
    centroids = clusters.fit(vectors, count, keys, config.iterations)
    labels, nearness = clusters.assigned(vectors, centroids)
    each = max(1, round(config.hierarchical.sample * len(vectors) / count))
    for _ in range(ROUNDS):
        inside_out = rising(-nearness, keys)
        nearest = np.flatnonzero(clusters.places(labels, inside_out) < each)
        centroids = clusters.fit(Part(vectors, nearest), count, keys[nearest], config.iterations)
        labels, nearness = clusters.assigned(vectors, centroids)
    return centroids, labels


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
