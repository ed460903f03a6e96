"""k-means over a stream of embeddings, and what is alike inside a cluster. Only home of `faiss`.

Embeddings are scaled to one length and rounded to whole numbers, so that float32 holds every sum of their products exactly: a cosine
is the same number whatever the tile, the order of the rows, the count of threads or the machine. Plain float32 products are not (2 to
3% of them change with the threads), and a choice must not hang on that. Rounding moves a cosine by 1e-4 (standard deviation). The
product is scaled by its two rows one after the other, and which comes first moves a cosine by 1 / FINE at most: `assigned` takes the
centroid first, `cosines` its `left`, all that compares rows with those before them the row before.
"""

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.pool import Block, Vectors
from engine.products import single, times
from engine.rows import Keys, Rows, together

Floats = NDArray[np.float32]

LENGTH = 4000  # of a rounded embedding: the sums stay below 2^24, the last whole number up to which float32 has all, to width 36,000
FINE = np.float32(2**20)  # cosines are multiples of 1 / FINE, so that those of equal rows are exactly 1
POINTS = 256  # per centroid: more do not better k-means (faiss's own bound)
TILE = 1024  # rows of a product: with a few thousand columns it stays in the cache
NONE = np.float32(-2 * LENGTH)  # in place of a product that does not count: below what any cosine comes to, before it is scaled too


def fit(vectors: Vectors, count: int, keys: Keys, iterations: int) -> Block:
    """Spherical k-means: (k, width) centroids of length one, k being `count` or as many as there are rows.

    It sees the POINTS rows per centroid that have the smallest `keys` (N,), in their order. ValueError counts the embeddings that are
    zero or not finite. The same machine gives the same centroids.
    """
    count = min(count, len(vectors))
    wanted = np.argsort(keys, kind="stable")[: POINTS * count]
    sample = gathered(vectors, wanted)
    means = faiss.Kmeans(
        vectors.width, count, niter=iterations, spherical=True, seed=1, gpu=faiss.get_num_gpus() > 0,
        max_points_per_centroid=POINTS, min_points_per_centroid=1,
    )  # fmt: skip
    means.train(sample)
    centroids = np.asarray(means.centroids)
    centroids[~centroids.any(axis=1)] = sample[0]  # rows that cancel out have no direction
    return whole(centroids) / np.float32(LENGTH)


def gathered(vectors: Vectors, wanted: Rows) -> Block:
    """Those of the rows `wanted`, in that order, of length one, after a look at all."""
    found = np.empty((len(wanted), vectors.width), np.float32)
    rising = np.argsort(wanted)
    start = 0
    for block in checked(vectors):
        low, high = np.searchsorted(wanted, [start, start + len(block)], sorter=rising)
        places = rising[low:high]
        found[places] = whole(block[wanted[places] - start]) / np.float32(LENGTH)
        start += len(block)
    return found


def checked(vectors: Vectors, among: int = 0) -> Iterator[Block]:
    """All blocks; ValueError after the last one where some embeddings, `among` so many where these are not all, have no direction."""
    bad = 0
    for block in vectors.blocks():
        bad += int(np.sum(directed(block) == 0))
        yield block
    if bad:
        raise ValueError(
            f"{bad:,} of {among or len(vectors):,} embeddings are zero or hold what is not a finite number, so have no direction"
        )


def whole(vectors: NDArray[np.number]) -> Block:
    """Rows (n, width) of length LENGTH, rounded to whole numbers; those that have no direction become zero. int16 are it already."""
    if vectors.dtype == np.int16:
        return single(vectors)
    rows: Block = single(vectors) if vectors.dtype != np.float32 else vectors.astype(np.float32, copy=False)
    scales = directed(rows)
    with np.errstate(invalid="ignore"):
        found = rows * scales[:, None]
    np.rint(found, out=found)
    found[scales == 0] = 0
    return found


def directed(vectors: Block) -> Floats:
    """What brings each row (n, width) to the length LENGTH (n,); 0 for those that have no direction: zero, or not finite."""
    with np.errstate(over="ignore"):
        lengths = np.sqrt(np.square(vectors).sum(axis=1, dtype=np.float64))
    scales: NDArray[np.float64] = np.divide(LENGTH, lengths, out=np.zeros_like(lengths), where=np.isfinite(lengths) & (lengths > 0))
    return scales.astype(np.float32)


def have_direction(vectors: Vectors) -> NDArray[np.bool_]:
    """Which rows (N,) have a direction: the others are zero, or not finite."""
    return np.concatenate([np.zeros(0, np.bool_), *(directed(block) > 0 for block in vectors.blocks())])


def inverse(rounded: Block) -> Floats:
    """1 / length (n,) of rounded rows; 0 for zero."""
    squares: Floats = np.einsum("nd,nd->n", rounded, rounded)
    return np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)


def fine(cosines: Floats) -> Floats:
    """Cosines of any shape, rounded to multiples of 1 / FINE."""
    rounded: Floats = np.rint(cosines * FINE) / FINE
    return rounded


def cosines(left: Block, right: Block) -> Floats:
    """(n, m) cosines of rounded rows (n, width) and (m, width)."""
    return fine(scaled(times(right)(left), inverse(left), inverse(right)))


def scaled(products: Floats, left: Floats, right: Floats) -> Floats:
    """Products (n, m), in place, each with the numbers of its row (n,) and of its column (m,)."""
    products *= left[:, None]
    products *= right
    return products


def assigned(vectors: Vectors, centroids: Block) -> tuple[NDArray[np.int32], Floats]:
    """For every row the nearest centroid (N,), the first one of equals, and the cosine with it (N,)."""
    labels, nearest = np.empty(len(vectors), np.int32), np.empty(len(vectors), np.float32)
    middles = whole(centroids)
    with_middles, scales, start = times(middles), inverse(middles), 0
    for rows in tiles(vectors):
        products = with_middles(rows)
        products *= scales
        mine = products.argmax(axis=1)
        labels[start : start + len(rows)] = mine
        nearest[start : start + len(rows)] = fine(products[np.arange(len(rows)), mine] * inverse(rows))
        start += len(rows)
    return labels, nearest


def tiles(vectors: Vectors) -> Iterator[Block]:
    """All rows, rounded, TILE at most at a time."""
    for block in vectors.blocks():
        for start in range(0, len(block), TILE):
            yield whole(block[start : start + TILE])


def members(labels: NDArray[np.int32], order: Rows, count: int) -> list[Rows]:
    """The rows of each of `count` clusters, in the `order` of all rows (N,)."""
    ranked = order[together(labels[order], count)]
    return np.split(ranked, np.cumsum(np.bincount(labels, minlength=count))[:-1])


def places(labels: NDArray[np.integer], order: Rows) -> Rows:
    """Which of its cluster's rows each row (N,) is in the `order` of all: 0 is the first."""
    ranked = order[together(labels[order], int(labels.max(initial=0)))]
    starts = np.flatnonzero(np.diff(labels[ranked], prepend=-1))
    found = np.empty(len(labels), np.int64)
    found[ranked] = np.arange(len(labels)) - np.repeat(starts, np.diff(starts, append=len(labels)))
    return found


def earlier_likeness(vectors: NDArray[np.number]) -> Floats:
    """The largest cosine (n,) of each row (n, width) with any row before it; -1 for the first, which has none."""
    rows = whole(vectors)
    scales, found = inverse(rows), np.full(len(rows), -1, np.float32)
    for start in range(0, len(rows), TILE):
        mine = slice(start, start + TILE)
        with_mine = times(rows[mine])
        for before in range(0, start + 1, TILE):
            products = with_mine(rows[before : before + TILE])
            products *= scales[before : before + TILE, None]
            if before == start:
                np.putmask(products, np.tri(len(products), dtype=np.bool_), NONE)
            likeness = products.max(axis=0) * scales[mine]
            np.maximum(found[mine], likeness, out=found[mine])
    found = fine(found)
    found[:1] = -1
    return found


def added_likeness(vectors: NDArray[np.number], new: Rows) -> Floats:
    """What the rows `new` (m,), which rise, add to `earlier_likeness` of the others (n, width), and all of it for themselves.

    The largest cosine (n,) of each row with any new row before it, of a new one with any row before it; -1 where there is none. The
    products are scaled in the same order as there, the row before first, since the last bits of a cosine depend on it.
    """
    rows = whole(vectors)
    scales, found = inverse(rows), np.full(len(rows), -1, np.float32)
    for start in range(0, len(new), TILE):
        mine = new[start : start + TILE]
        with_mine = times(rows[mine])
        for first in range(0, len(rows), TILE):
            some = slice(first, first + TILE)
            # Few rows of many numbers: the largest of many short rows would take longer than the product.
            products, place = np.ascontiguousarray(with_mine(rows[some]).T), np.arange(len(rows))[some]
            before = np.where(place < mine[:, None], products * scales[some], NONE).max(axis=1) * scales[mine]
            later = np.where(place > mine[:, None], products * scales[mine, None], NONE).max(axis=0) * scales[some]
            found[mine] = np.maximum(found[mine], before)
            found[some] = np.maximum(found[some], later)
    return fine(found)


def likest_earlier(vectors: NDArray[np.number], new: Rows, among: Rows | None = None) -> tuple[Floats, Rows]:
    """For each of the rows `new` (m,), which rise, the largest cosine (m,) with any row before it (n, width), and the first such row (m,).

    Where some are told, only those rows `among` all count, which rise too. -1 and -1 for a row that has none before it. The cosines are
    those of `earlier_likeness`, to the last bit.
    """
    rows = whole(vectors)
    others = np.arange(len(rows)) if among is None else among
    scales, found, place = inverse(rows), np.full(len(new), -1, np.float32), np.full(len(new), -1, np.int64)
    for start in range(0, len(new), TILE):
        part, mine = slice(start, start + TILE), new[start : start + TILE]
        with_mine = times(rows[mine])
        for first in range(0, int(np.searchsorted(others, mine[-1])), TILE):
            some = others[first : first + TILE]
            products = fine(scaled(with_mine(rows[some]), scales[some], scales[mine]))
            products[some[:, None] >= mine] = NONE
            best = products.argmax(axis=0)
            likeness = products[best, np.arange(len(mine))]
            better = (likeness > found[part]) | ((place[part] < 0) & (likeness > NONE))
            found[part] = np.where(better, likeness, found[part])
            place[part] = np.where(better, some[best], place[part])
    return found, place


def covered(vectors: NDArray[np.number], thresholds: Floats) -> NDArray[np.uint32]:
    """Greedy cover of the rows (n, width) in order, for up to 32 rising thresholds at once: (n,) bits, bit e of a row set where it is kept.

    At a threshold a row goes where its cosine with a row kept before it is larger.
    """
    rows, side = whole(vectors), TILE // 4
    scales, kept = inverse(rows), np.full(len(rows), 2 ** len(thresholds) - 1, np.uint32)
    for start in range(0, len(rows), side):
        mine = slice(start, start + side)
        with_mine = times(rows[mine])
        for before in range(0, start, TILE):
            alive = np.flatnonzero(kept[before : min(before + TILE, start)]) + before
            over = exceeded(scaled(with_mine(rows[alive]), scales[alive], scales[mine]), thresholds)
            kept[mine] &= ~np.bitwise_or.reduce(over & kept[alive, None], axis=0)
        settle(kept[mine], exceeded(scaled(with_mine(rows[mine]), scales[mine], scales[mine]), thresholds))
    return kept


def settle(kept: NDArray[np.uint32], over: NDArray[np.uint32]) -> None:
    """Each row that is kept at some thresholds drops, in place, the later ones that are too like it there; `over` (n, n) bits."""
    for row in range(len(kept) - 1):
        if kept[row]:
            kept[row + 1 :] &= ~(over[row, row + 1 :] & kept[row])


def exceeded(values: Floats, thresholds: Floats) -> NDArray[np.uint32]:
    """Bits like the cosines `values`: bit e is set where one, made `fine`, is above the rising thresholds' e-th.

    `values` of any shape, thresholds (E,), E at most 32.
    """
    bits = np.zeros(values.shape, np.uint32)
    near: Any = values > thresholds[0] - 1 / FINE
    below = np.searchsorted(thresholds, fine(values[near]), side="left").astype(np.uint64)
    bits[near] = ((np.uint64(1) << below) - np.uint64(1)).astype(np.uint32)
    return bits
