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
Keys = NDArray[np.uint64]

STRIDE = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64 (Steele et al., OOPSLA 2014), whose mixing of bits is used below
ROWS = 1 << 16  # ids hashed, or embeddings read, at a time
BEGINNING = 32  # bytes of a video's hash


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

    def held(self, rows: Rows) -> NDArray[np.number]:
        """The same as they are stored, which may be shorter numbers, whole ones where they are rounded already (clusters.whole)."""
        ...


class Held:
    """Vectors in memory: an array (N, width) of numbers of any type."""

    def __init__(self, array: NDArray[np.number]) -> None:
        self.array, self.width = array, array.shape[1]

    def __len__(self) -> int:
        return len(self.array)

    def blocks(self) -> Iterator[Block]:
        """All rows in their order, as float32, ROWS at a time."""
        return (self.array[start : start + ROWS].astype(np.float32) for start in range(0, len(self.array), ROWS))

    def take(self, rows: Rows) -> Block:
        """These rows as float32, (n, width)."""
        return self.held(rows).astype(np.float32)

    def held(self, rows: Rows) -> NDArray[np.number]:
        """The same in the type in which they are held."""
        return self.array[rows]


class Part:
    """Some of other vectors: the rows `rows`, which rise."""

    def __init__(self, vectors: Vectors, rows: Rows) -> None:
        self.vectors, self.rows, self.width = vectors, rows, vectors.width

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self) -> Iterator[Block]:
        """All rows of the part in their order, as float32, ROWS at a time."""
        return (self.vectors.take(self.rows[start : start + ROWS]) for start in range(0, len(self), ROWS))

    def take(self, rows: Rows) -> Block:
        """These rows of the part as float32, (n, width)."""
        return self.vectors.take(self.rows[rows])

    def held(self, rows: Rows) -> NDArray[np.number]:
        """These rows of the part in the type in which they are held, (n, width)."""
        return self.vectors.held(self.rows[rows])


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
    version: int = 0  # of the table that it was read from, and was gone on from; 0: it is a new one

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

    `vectors` belong to the same rows. `earlier` are the difficulties (N,) by the other scorers, of one scale, from the least trained on as
    far as the store knows. `clustering` is what an earlier choice with the same settings has found out about some of the rows, `rounded`
    the embeddings as it compared them. `hashes` are the keys of seed 0 (N,), where they are known. `rebuilds` tells whether difficulty is
    the error of a rebuilt picture, in the units of its variance: see difficulty.rebuilds.
    """

    columns: pa.Table
    vectors: Vectors | None = None
    earlier: tuple[NDArray[np.float32], ...] = ()
    clustering: Clustering | None = None
    rounded: Vectors | None = None
    hashes: Keys | None = None
    rebuilds: bool = True

    def __len__(self) -> int:
        return len(self.columns)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column (N,); ValueError where one of its values is not a finite number."""
        values = self.columns[name].to_numpy().astype(np.float64)
        if bad := int(np.sum(~np.isfinite(values))):
            raise ValueError(f"{bad:,} of {len(values):,} patches have a {name} that is not a finite number")
        return np.asarray(values)

    def codes(self, name: str, rows: Rows | None = None) -> NDArray[np.int32]:
        """A number per value of a column (N,), or of those of some rows: which one does not matter."""
        values = self.columns[name] if rows is None else self.columns[name].take(pa.array(rows))
        return np.asarray(values.combine_chunks().dictionary_encode().indices.to_numpy(), np.int32)

    def keys(self, seed: int = 0) -> NDArray[np.uint64]:
        """A lot per patch (N,): a function of its id and the seed."""
        return hashed(self.columns["patch_id"], seed) if seed else self.first_keys

    @cached_property
    def first_keys(self) -> NDArray[np.uint64]:
        """Those of seed 0, by which every sort of the rows settles what is equal."""
        found = hashed(self.columns["patch_id"]) if self.hashes is None else self.hashes
        found.flags.writeable = False
        return found

    def ranked(self, values: NDArray[np.floating]) -> Rows:
        """Rows by `values` (N,), largest first; equal ones by key, and last what is no number."""
        return rising(-values, self.keys())

    def part(self, rows: Rows) -> "Pool":
        """The pool of some rows, which rise; it is another one, of which no clustering is known."""
        vectors = None if self.vectors is None else Part(self.vectors, rows)
        earlier = tuple(values[rows] for values in self.earlier)
        return Pool(self.columns.take(rows), vectors, earlier, rebuilds=self.rebuilds)

    def embeddings(self) -> Vectors:
        """The vectors; ValueError where the pool has none."""
        if self.vectors is None:
            raise ValueError("this method compares embeddings and the pool has none")
        return self.vectors


def rising(values: NDArray[np.floating], keys: NDArray[np.uint64]) -> Rows:
    """Rows by `values` (N,), smallest first; equal ones by key, and last what is no number.

    Half the time of an argsort of ten million: whole numbers of 64 bits are sorted, of which the last ones say the row, so that nothing is
    looked up; of a value that float32 holds the first bits of the key are in them too. What is equal in all others is sorted again.
    """
    single = values.astype(np.float32, copy=False)
    short = values.dtype == np.float32 or bool(np.array_equal(single, values, equal_nan=True))
    beginnings = keys >> np.uint64(32)
    numbers = numbered(single).astype(np.uint64) << np.uint64(32) | beginnings if short else numbered(values.astype(np.float64))
    leading, order = with_rows(numbers, 64)
    equal = leading[1:] == leading[:-1]
    before = np.append(False, equal)
    tied = np.flatnonzero(before | np.append(equal, False))
    some = order[tied]
    order[tied] = some[np.lexsort([keys[some], numbers[some], np.cumsum(~before[tied])])]
    return order


def together(labels: NDArray[np.integer], largest: int) -> Rows:
    """Rows by `labels` (N,), whole numbers of 0 to `largest`, smallest first; equal ones in their order."""
    if (length := max(largest, 1).bit_length()) + len(labels).bit_length() > 64:
        return np.argsort(labels, kind="stable")
    return with_rows(labels.astype(np.uint64), length)[1]


def with_rows(numbers: NDArray[np.uint64], length: int) -> tuple[NDArray[np.uint64], Rows]:
    """Numbers (N,) of `length` bits in order, those bits of them for which a row's number leaves room, and the row of each."""
    wide = max(len(numbers) - 1, 1).bit_length()
    cut = np.uint64(max(length + wide - 64, 0))
    rows = np.arange(len(numbers), dtype=np.uint64)
    ordered = np.sort(numbers >> cut << np.uint64(wide) | rows)
    return ordered >> np.uint64(wide), (ordered & np.uint64(2**wide - 1)).astype(np.int64)


def numbered(values: NDArray[np.floating]) -> NDArray[np.unsignedinteger]:
    """Whole numbers of as many bits in the order of `values`, the same for both zeros, and the largest for what is no number."""
    kind = np.dtype(f"u{values.itemsize}").type
    bits = (values + values.dtype.type(0)).view(kind)
    top = kind(2 ** (8 * values.itemsize - 1))
    return np.asarray(np.where(np.isnan(values), ~kind(0), np.where(bits >= top, ~bits, bits | top)))


def hashed(ids: pa.ChunkedArray, seed: int = 0) -> NDArray[np.uint64]:
    """64 bits of every id (N,) in UTF-8 and the seed: a polynomial of its bytes, mixed by splitmix64. Ids are not secrets, so that will do.

    Among ten million ids two are equal in one of 370,000 pools; then their order is that of the rows.
    """
    chunks = [chunk.slice(start, ROWS) for chunk in ids.chunks for start in range(0, len(chunk), ROWS)]
    return np.concatenate([np.zeros(0, np.uint64), *(hashed_some(chunk, seed) for chunk in chunks)])


def hashed_some(ids: pa.Array, seed: int) -> NDArray[np.uint64]:
    """A hash (N,) of each id with the seed: FNV-1a over its bytes, begun and ended by the mixer of splitmix64."""
    ids = ids.cast(pa.large_string())
    offsets = np.frombuffer(ids.buffers()[1], np.int64)[ids.offset : ids.offset + len(ids) + 1]
    words = eights(np.frombuffer(ids.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]])
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    first = mixed(np.array([seed], np.uint64) + STRIDE)
    state, begun = alike_beginnings(words, starts, lengths, np.full(len(ids), first))
    longest_first = np.argsort(begun - lengths, kind="stable")
    state, starts, left = state[longest_first], (starts + begun)[longest_first], (lengths - begun)[longest_first]
    found = np.empty(len(ids), np.uint64)
    found[longest_first] = mixed(digested(words, starts, left, state))
    return found


def alike_beginnings(words: Keys, starts: Rows, lengths: Rows, state: Keys) -> tuple[Keys, Rows]:
    """The states (N,) after the beginnings of ids that have those of the one before, and how many bytes these are: BEGINNING, or none.

    Patches of a video, whose ids begin with its hash, are stored together.
    """
    long = np.flatnonzero(lengths >= BEGINNING)
    heads = np.stack([words[starts[long] + place] for place in range(0, BEGINNING, 8)])
    other = np.flatnonzero(np.append(True, (heads[:, 1:] != heads[:, :-1]).any(axis=0))[: len(long)])
    begun = np.zeros(len(state), np.int64)
    if 2 * len(other) <= len(long):
        one = long[other]
        made = digested(words, starts[one], np.full(len(one), BEGINNING), state[one])
        state[long], begun[long] = np.repeat(made, np.diff(other, append=len(long))), BEGINNING
    return state, begun


def digested(words: Keys, starts: Rows, lengths: Rows, state: Keys) -> Keys:
    """The states (N,), in place, after the `lengths` (N,) bytes from `starts` on, of which there are ever fewer."""
    reach = np.searchsorted(-lengths, -np.arange(lengths.max(initial=0)), side="left")
    for place, count in enumerate(reach.tolist()):  # the ids that have a byte at this place
        if place % 8 == 0:
            word = words[starts[:count] + place]
        mine, rest = state[:count], word[:count]
        mine ^= rest & np.uint64(255)
        mine *= np.uint64(0x100000001B3)  # FNV-1a
        rest >>= np.uint64(8)
    return state


def eights(content: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """For every byte (n,) it and the seven after it, the first one lowest; zeros after the last."""
    padded = np.append(content, np.zeros(7, np.uint8))
    return np.ndarray(len(content), np.dtype("<u8"), padded, strides=(1,))


def mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each of 64 bits in changes half of those out."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
