"""What a method of selection may look at: columns of every patch, and their embeddings as a stream.

Nothing here depends on the order of the rows: whatever is drawn or tied is decided by a key, a hash of the patch's id.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Rows = NDArray[np.int64]  # places in the pool, or in a table
Block = NDArray[np.float32]  # (n, width) embeddings, a row each

STRIDE = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64 (Steele et al., OOPSLA 2014), whose mixing of bits is used below
ROWS = 1 << 16  # ids hashed, or embeddings read, at a time


class Vectors(Protocol):
    """The embeddings of a pool, which need never be in memory all at once; can be pickled, so that other processes read them too."""

    width: int

    def __len__(self) -> int: ...

    def blocks(self) -> Iterator[Block]:
        """All of them in the order of the pool's rows, some at a time."""
        ...

    def take(self, rows: Rows) -> Block:
        """Those of `rows`, in that order."""
        ...

    def held(self, rows: Rows) -> NDArray[np.floating]:
        """The same as they are stored, which may be shorter numbers."""
        ...


class Held:
    """Vectors in memory: an array (N, width) of any floating type."""

    def __init__(self, array: NDArray[np.floating]) -> None:
        self.array, self.width = array, array.shape[1]

    def __len__(self) -> int:
        return len(self.array)

    def blocks(self) -> Iterator[Block]:
        return (self.array[start : start + ROWS].astype(np.float32) for start in range(0, len(self.array), ROWS))

    def take(self, rows: Rows) -> Block:
        return self.held(rows).astype(np.float32)

    def held(self, rows: Rows) -> NDArray[np.floating]:
        return self.array[rows]


class Part:
    """Some of other vectors: the rows `rows`, which rise."""

    def __init__(self, vectors: Vectors, rows: Rows) -> None:
        self.vectors, self.rows, self.width = vectors, rows, vectors.width

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self) -> Iterator[Block]:
        return (self.vectors.take(self.rows[start : start + ROWS]) for start in range(0, len(self), ROWS))

    def take(self, rows: Rows) -> Block:
        return self.vectors.take(self.rows[rows])

    def held(self, rows: Rows) -> NDArray[np.floating]:
        return self.vectors.held(self.rows[rows])


class Slab(Held):
    """Vectors of some rows of a pool, which rise, in memory: they are taken by their places in the pool."""

    def __init__(self, vectors: Vectors, rows: Rows) -> None:
        super().__init__(vectors.held(rows))
        self.rows = rows

    def held(self, rows: Rows) -> NDArray[np.floating]:
        return super().held(np.searchsorted(self.rows, rows))


@dataclass(frozen=True)
class Clustering:
    """k-means of the rows of a pool (N,), and what is alike inside its clusters: made by a method, and used again when rows came or went.

    What is not known of a row is -1 or NaN.
    """

    centroids: Block  # (k, width), of length one
    fitted: int  # rows of the pool that they were fitted to
    labels: NDArray[np.int32]  # the cluster of each row
    nearness: NDArray[np.float32]  # its cosine with that centroid
    order: NDArray[np.float32]  # by which the rows of a cluster were compared, smallest first, equal ones by key
    likeness: NDArray[np.float32]  # the largest cosine with an earlier one
    members: NDArray[np.int64]  # (k,) how many of each cluster were compared, some of which may be gone

    @property
    def name(self) -> str:
        """Twelve hex digits of the centroids."""
        return hashlib.sha256(self.centroids.tobytes()).hexdigest()[:12]

    def at(self, places: Rows) -> "Clustering":
        """The same of other rows (n,), each told by its place among these; -1: it is not among them."""
        nan = np.float32(np.nan)
        return replace(
            self,
            labels=np.append(self.labels, np.int32(-1))[places],
            nearness=np.append(self.nearness, nan)[places],
            order=np.append(self.order, nan)[places],
            likeness=np.append(self.likeness, nan)[places],
        )


@dataclass(frozen=True)
class Pool:
    """Patches to choose from: `columns` with patch_id, bytes, difficulty and what else a method names, in any order of rows.

    `vectors` belong to the same rows. `earlier` are the difficulties (N,) by the other scorers of the store, from the least trained on.
    `clustering` is what an earlier choice with the same settings has found out about some of the rows.
    """

    columns: pa.Table
    vectors: Vectors | None = None
    earlier: tuple[NDArray[np.float32], ...] = ()
    clustering: Clustering | None = None

    def __len__(self) -> int:
        return len(self.columns)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column (N,); ValueError where one of its values is not a finite number."""
        values = self.columns[name].to_numpy().astype(np.float64)
        if bad := int(np.sum(~np.isfinite(values))):
            raise ValueError(f"{bad:,} of {len(values):,} patches have a {name} that is not a finite number")
        return np.asarray(values)

    def codes(self, name: str) -> NDArray[np.int32]:
        """A number per value of a column (N,): which one does not matter."""
        return np.asarray(self.columns[name].combine_chunks().dictionary_encode().indices.to_numpy(), np.int32)

    def keys(self, seed: int = 0) -> NDArray[np.uint64]:
        """A lot per patch (N,): a function of its id and the seed."""
        return hashed(self.columns["patch_id"], seed) if seed else self.first_keys

    @cached_property
    def first_keys(self) -> NDArray[np.uint64]:
        """Those of seed 0, by which every sort of the rows settles what is equal."""
        found = hashed(self.columns["patch_id"])
        found.flags.writeable = False
        return found

    def ranked(self, values: NDArray[np.floating]) -> Rows:
        """Rows by `values` (N,), largest first; equal ones by key, and last what is no number."""
        return rising(-values, self.keys())

    def part(self, rows: Rows) -> "Pool":
        """The pool of some rows, which rise; it is another one, of which no clustering is known."""
        vectors = None if self.vectors is None else Part(self.vectors, rows)
        return Pool(self.columns.take(rows), vectors, tuple(values[rows] for values in self.earlier))

    def embeddings(self) -> Vectors:
        """The vectors; ValueError where the pool has none."""
        if self.vectors is None:
            raise ValueError("this method compares embeddings and the pool has none")
        return self.vectors


def rising(values: NDArray[np.floating], keys: NDArray[np.uint64]) -> Rows:
    """Rows by `values` (N,), smallest first; equal ones by key, and last what is no number.

    A fifth of the time of np.lexsort: of ten million numbers that float32 holds half have an equal, so these are sorted with half of
    their keys in one go, and only what is equal after that is sorted again.
    """
    single = values.astype(np.float32)
    short = bool(np.array_equal(single, values, equal_nan=True))
    sorted_by = numbered(single).astype(np.uint64) << np.uint64(32) | keys >> np.uint64(32) if short else values
    order = np.argsort(sorted_by)
    found = sorted_by[order]
    equal = found[1:] == found[:-1]
    if not short:
        equal[len(found) - int(np.isnan(found).sum()) :] = True  # what is no number is last, and equal too
    before = np.append(False, equal)
    tied = np.flatnonzero(before | np.append(equal, False))
    order[tied] = order[tied][np.lexsort([keys[order[tied]], np.cumsum(~before[tied])])]
    return order


def numbered(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Whole numbers in the order of `values`, the same for both zeros, and the largest for what is no number."""
    bits = (values + np.float32(0)).view(np.uint32)
    below = bits >> np.uint32(31) > 0
    return np.where(np.isnan(values), np.uint32(2**32 - 1), np.where(below, ~bits, bits | np.uint32(2**31)))


def hashed(ids: pa.ChunkedArray, seed: int = 0) -> NDArray[np.uint64]:
    """64 bits of every id (N,) in UTF-8 and the seed: a polynomial of its bytes, mixed by splitmix64. Ids are not secrets, so that will do.

    Among ten million ids two are equal in one of 370,000 pools; then their order is that of the rows.
    """
    chunks = [chunk.slice(start, ROWS) for chunk in ids.chunks for start in range(0, len(chunk), ROWS)]
    return np.concatenate([np.zeros(0, np.uint64), *(hashed_some(chunk, seed) for chunk in chunks)])


def hashed_some(ids: pa.Array, seed: int) -> NDArray[np.uint64]:
    ids = ids.cast(pa.large_string())
    offsets = np.frombuffer(ids.buffers()[1], np.int64)[ids.offset : ids.offset + len(ids) + 1]
    content = np.frombuffer(ids.buffers()[2] or b"", np.uint8)
    starts, lengths = offsets[:-1], np.diff(offsets)
    found = mixed(np.full(len(ids), np.uint64(seed)) + STRIDE)
    longest_first = np.argsort(-lengths, kind="stable")
    reach = np.searchsorted(-lengths[longest_first], -np.arange(lengths.max(initial=0)), side="left")
    state, starts = found[longest_first], starts[longest_first]
    for place, count in enumerate(reach):  # the ids that have a byte at this place
        state[:count] = (state[:count] ^ content[starts[:count] + place]) * np.uint64(0x100000001B3)  # FNV-1a
    found[longest_first] = state
    return mixed(found)


def mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each of 64 bits in changes half of those out."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
