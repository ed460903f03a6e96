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
    if known is None or not fits(known, vectors.width, len(pool)):
        centroids = clusters.fit(vectors, cluster_count(pool, config), pool.keys(config.seed), config.iterations)
        return Clustering.bare_of(centroids, *clusters.assigned(vectors, centroids))
    return extended(vectors, known)


def extended(vectors: Vectors, known: Clustering) -> Clustering:
    """A clustering with the rows that were added, each in the cluster of its nearest centroid: only their embeddings are looked at."""
    new, labels, nearness = np.flatnonzero(known.labels < 0), known.labels.copy(), known.nearness.copy()
    added = Part(vectors, new)
    for _ in clusters.checked(added, len(vectors)):
        pass
    labels[new], nearness[new] = clusters.assigned(added, known.centroids)
    return replace(known, labels=labels, nearness=nearness)


def fits(known: Clustering, width: int, count: int) -> bool:
    """Whether a clustering is of embeddings of such a width, and of about as many."""
    return known.centroids.shape[1] == width and abs(count - known.fitted) <= CHANGE * known.fitted


def compared(pool: Pool, found: Clustering, order: NDArray[np.float32], run: Run, level: float = 1.0) -> Clustering:
    """The clustering with the largest cosine of each row with an earlier one of its cluster, by `order` (N,), smallest first.

    Rows whose order is NaN take no part. Rows that were compared before, by the same order, are not compared with each other again;
    but all of a cluster are, where one of them is gone or has another place in the order now, since nobody knows who was likest to it.
    Of a likeness above `level` a lower bound will do: what is new meets the scouts of its cluster and what else is new there, and all
    that is before it only where none of these is as like it.
    """
    found, part = remembered(found, order), ~np.isnan(order)
    new = part & ~(found.reach >= level)
    first = part & (new | replace(found, level=level).scouts)
    found = met(pool, found, new, first, run)
    late = new & ~(found.likeness > level)
    found = met(pool, found, late, part & ~first & before(found, late), run)
    settled = np.where(counted(found, new) == found.members, np.float32(1), np.float32(level))
    return replace(found, reach=np.where(new, settled[found.labels], found.reach))


def remembered(found: Clustering, order: NDArray[np.float32]) -> Clustering:
    """The clustering by an order (N,), with what is still known of the likeness of its rows."""
    same = found.order == order
    broken = counted(found, same) < found.members
    likeness, reach = np.where(same & ~broken[found.labels], (found.likeness, found.reach), np.float32(np.nan))
    return replace(found, order=order, likeness=likeness, reach=reach, members=counted(found, ~np.isnan(order)))


def met(pool: Pool, found: Clustering, new: NDArray[np.bool_], others: NDArray[np.bool_], run: Run) -> Clustering:
    """The clustering after the `new` rows (N,) were compared with each other and with `others` (N,), where a cluster has both."""
    both = (counted(found, new) > 0) & (counted(found, others) > 0)
    rows = np.flatnonzero((new | others) & both[found.labels])
    rows = rows[rising(found.order[rows], pool.keys()[rows])]
    members = [some for some in by_cluster(found, rows) if len(some)]
    made = run(FindLikeness, (pool.compared(), new), tasks(members)) if members else iter(())
    return replace(found, likeness=np.fmax(found.likeness, collected(made, np.full(len(pool), np.nan, np.float32))))


def before(found: Clustering, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows (N,) are in the order of their cluster before the last one of `some` (N,), or where it is."""
    last = np.full(len(found.centroids), -np.inf, np.float32)
    np.maximum.at(last, found.labels[some], found.order[some])
    return np.asarray(found.order <= last[found.labels])


def counted(found: Clustering, some: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many of some rows (N,) each cluster has."""
    return np.bincount(found.labels[some], minlength=len(found.centroids))


def by_cluster(found: Clustering, rows: Rows) -> list[Rows]:
    """Some rows (n,) of each cluster, in their order."""
    return [rows[some] for some in clusters.members(found.labels[rows], np.arange(len(rows)), len(found.centroids))]


def outside_in(pool: Pool, found: Clustering) -> Rows:
    """All rows, the farthest from its centroid first (SemDeDup: "keep hard")."""
    return pool.ranked(-found.nearness)


def cluster_count(pool: Pool, config: SelectionConfig) -> int:
    """As many as selection.clusters says, or the root of the pool's size where that is 0; no more than there are rows."""
    return min(config.clusters or max(1, round(len(pool) ** 0.5)), len(pool))
