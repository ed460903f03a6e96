"""Short sketches of embeddings: what has a large cosine has near sketches, so that what has not is left out without a look at it whole.

A sketch are SKETCH sums of the numbers of an embedding of length one, each number in one sum, with a sign drawn by lot and scaled so that
the sums are a projection (Charikar et al. 2002): no two sketches are farther apart than what they are of. Nothing is lost, whatever the
embeddings; how much is left out depends on them.
"""

import numpy as np
from numpy.typing import NDArray

from engine.clusters import inverse, whole
from engine.rows import ROWS, mixed
from engine.schema import SKETCH

SCALE = 400  # of a sum, to a whole number; beyond 127 it is cut off, which brings no two farther apart
SLACK = 1e-3  # of a cosine: far more than float32 loses


def sketched(embeddings: NDArray[np.floating]) -> NDArray[np.int8]:
    """(n, SKETCH) of embeddings (n, width): a function of each one's direction."""
    made, width = np.empty((len(embeddings), SKETCH), np.int8), embeddings.shape[1]
    group = np.arange(width) % SKETCH
    signs = np.where(mixed(np.arange(width, dtype=np.uint64)) % np.uint64(2), np.float32(1), np.float32(-1))
    sums = np.zeros((width, SKETCH), np.float32)
    sums[np.arange(width), group] = signs / np.sqrt(np.bincount(group))[group]
    for start in range(0, len(embeddings), ROWS):
        some = whole(embeddings[start : start + ROWS].astype(np.float32))
        found = (some @ sums) * inverse(some)[:, None]
        made[start : start + ROWS] = np.clip(np.rint(found * SCALE), -127, 127)
    return made


def near(sketches: NDArray[np.int8], others: NDArray[np.int8], bound: float) -> NDArray[np.bool_]:
    """Which of `others` (m, SKETCH) may have a cosine above a bound with one of the sketched (n, SKETCH); (m,)."""
    mine, theirs = sketches.astype(np.float32), others.astype(np.float32)
    reach = SCALE * np.sqrt(2 - 2 * (bound - SLACK)) + np.sqrt(SKETCH)  # two roundings of up to a half in every sum
    squares = np.square(theirs).sum(axis=1)[:, None] + np.square(mine).sum(axis=1) - 2 * (theirs @ mine.T)
    return np.asarray((squares <= reach**2).any(axis=1))
