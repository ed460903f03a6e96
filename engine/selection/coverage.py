"""Greedy k-centre (Gonzalez 1985; Sener & Savarese, ICLR 2018): each next patch is the farthest from all chosen ones."""

import numpy as np
from numpy.typing import NDArray

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Block, Pool, Vectors
from engine.rows import Keys, Rows, rising
from engine.selection.budgets import Budget, Order
from engine.selection.spread import Run

AHEAD = 1024  # rows that are candidates between two passes over the embeddings

Floats = NDArray[np.float32]
CHOSEN = np.float32(2)  # in place of a cosine: nearer than any


def kcenter(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """By cosine distance to the nearest chosen one, largest first; the first by lot.

    A pass over all embeddings is good for many choices: nobody comes farther away, so the farthest of those that were farthest at the
    pass is the farthest of all as long as it is farther than the rest were.
    """
    vectors, keys = pool.embeddings(), pool.keys(config.seed)
    for _ in clusters.checked(vectors):
        pass
    nearest = np.full(len(pool), -1, np.float32)
    chosen = new = np.argsort(keys, kind="stable")[:1]
    while len(chosen) < len(pool) and budget.spent(chosen) <= budget.limit:
        approach(nearest, vectors, new)
        nearest[new] = CHOSEN
        order = farthest(nearest, keys)
        last = order[-1] if len(order) > AHEAD else None
        new = farther(vectors, order[:AHEAD], nearest, keys, last)
        chosen = np.concatenate([chosen, new])
    return Order(chosen)


def approach(nearest: Floats, vectors: Vectors, new: Rows) -> None:
    """Raise, in place, the cosine of each row with the nearest chosen one by those that are new."""
    centres, start = clusters.whole(vectors.take(new)), 0
    for rows in clusters.tiles(vectors):
        mine = slice(start, start + len(rows))
        np.maximum(nearest[mine], clusters.cosines(rows, centres).max(axis=1), out=nearest[mine])
        start += len(rows)


def farthest(nearest: Floats, keys: Keys) -> Rows:
    """The AHEAD + 1 rows that are not chosen and farthest, in their order, equal ones by key."""
    bound = np.partition(nearest, AHEAD)[AHEAD] if len(nearest) > AHEAD else CHOSEN
    rows = np.flatnonzero((nearest <= bound) & (nearest < CHOSEN))
    return rows[rising(nearest[rows], keys[rows])][: AHEAD + 1]


def farther(vectors: Vectors, rows: Rows, nearest: Floats, keys: Keys, last: np.int64 | None) -> Rows:
    """Greedy choices among the candidates `rows`, as long as they come before the row `last`, the first that is none."""
    rows = rows[np.argsort(keys[rows], kind="stable")]
    near, likeness = nearest[rows], among(vectors.take(rows))
    found: list[int] = []
    for _ in range(len(rows)):
        place = int(near.argmin())  # of equals the one of the smallest key
        if near[place] == CHOSEN or (last is not None and (near[place], keys[rows[place]]) >= (nearest[last], keys[last])):
            break
        found.append(place)
        np.maximum(near, likeness[place], out=near)
        near[place] = CHOSEN
    return rows[found]


def among(vectors: Block) -> Floats:
    """The cosines (n, n) of rows."""
    rounded = clusters.whole(vectors)
    return clusters.cosines(rounded, rounded)
