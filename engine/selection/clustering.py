"""The clusters that a choice goes by: made anew, or used again with what was added, and what is alike inside them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Clustering, Part, Pool, Vectors
from engine.rows import Rows, rising
from engine.selection.spread import FindLikeness, Run, collected, tasks

CHANGE = 0.2  # of a pool's size since its centroids were fitted; our choice, because the number of clusters goes with its root: by a tenth


def clustered(pool: Pool, config: SelectionConfig) -> Clustering:
    """The pool's clustering, where it has one, with the rows that were added; a new one where it has none or its size changed by CHANGE.

    ValueError where the pool has no embeddings, or some that are looked at are zero or not finite.
    """
    vectors, known = pool.embeddings(), pool.clustering
    if known is None or not fits(known, pool):
        centroids = clusters.fit(vectors, cluster_count(pool, config), pool.keys(config.seed), config.iterations)
        return Clustering.bare_of(centroids, *clusters.assigned(vectors, centroids))
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
    members = by_cluster(found, rows)
    touched = [some for some in members if np.isnan(known[some]).any()]
    made = run(FindLikeness, (pool.compared(), known), tasks(touched)) if touched else iter(())
    likeness = collected(made, known.copy())
    return replace(found, order=order, likeness=likeness, members=np.array([len(some) for some in members]))


def by_cluster(found: Clustering, rows: Rows) -> list[Rows]:
    """Some rows (n,) of each cluster, in their order."""
    return [rows[some] for some in clusters.members(found.labels[rows], np.arange(len(rows)), len(found.centroids))]


def outside_in(pool: Pool, found: Clustering) -> Rows:
    """All rows, the farthest from its centroid first (SemDeDup: "keep hard")."""
    return pool.ranked(-found.nearness)


def cluster_count(pool: Pool, config: SelectionConfig) -> int:
    """As many as selection.clusters says, or the root of the pool's size where that is 0; no more than there are rows."""
    return min(config.clusters or max(1, round(len(pool) ** 0.5)), len(pool))
