"""What a method of selection may look at: columns of every patch, their embeddings as a stream, and what an earlier choice found out.

Nothing here depends on the order of the rows: see rows.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine import schema
from engine.rows import ROWS, Keys, Rows, hashed, rising

Block = NDArray[np.float32]  # (n, width) embeddings, a row each

WIDE = 3  # rows that what comes meets first, for each one whose likeness is wanted exactly (notebooks/LOG.md)


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
        """The same as they are stored, which may be shorter numbers, whole ones where they are rounded already (clusters.whole).

        Shape: (n, width).
        """
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

    What is not known of a row is -1 or NaN. The likeness of a row is exact where it is no more than the least `reach` of it and of all
    before it in its cluster: two rows of which one has less met where the later one's likeness is no more than that. Else it is a lower
    bound, enough for a budget that ends before it. A cover (MedDEL) tells of a row that goes its stand-in, one that is kept in its
    cluster: by `order`, the nearness of that one, and by `likeness`, the cosine with it. Of a row that is kept `order` is NaN and
    `likeness` -1. Of a row that k-centre chose `order` is its number, from 1 on, and `likeness` the largest cosine with one chosen before
    it; of another row `order` is the number of the nearest chosen one, negative, and `likeness` the cosine with it. Where a method
    clusters once more what SemDeDup leaves by these clusters, `left` tells in which of those clusters each row lies that is left.
    """

    centroids: Block  # (k, width), of length one
    fitted: int  # rows of the pool that they were fitted to
    labels: NDArray[np.int32]  # the cluster of each row
    nearness: NDArray[np.float32]  # its cosine with that centroid
    order: NDArray[np.float32]  # by which the rows of a cluster were compared, smallest first, equal ones by key
    likeness: NDArray[np.float32]  # the largest cosine with an earlier one
    members: NDArray[np.int64]  # (k,) how many of each cluster were compared, or covered, some of which may be gone
    reach: NDArray[np.float32]  # the likeness up to which each row was compared with the others; 1: with all
    level: float = 1.0  # the likeness up to which choices want it exact
    left: "Clustering | None" = None  # of the same rows
    version: int = 0  # of the table that it was read from, and was gone on from; 0: it is a new one

    @property
    def name(self) -> str:
        """Twelve hex digits of the centroids."""
        return hashlib.sha256(self.centroids.tobytes()).hexdigest()[:12]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which rows a cover keeps (N,); none where this tells of no cover."""
        return np.asarray((self.likeness == -1) & np.isnan(self.order))

    @property
    def scouts(self) -> NDArray[np.bool_]:
        """Which rows (N,) what comes is compared with first: those that are exact, and WIDE times as many of the least likeness.

        Where a row has a likeness above `level`, one of these nearly always shows it. All where nothing is known.
        """
        count = WIDE * int(np.sum(self.likeness <= self.level))
        most = np.partition(self.likeness, count)[count] if count < len(self.likeness) else np.inf
        return np.asarray(~(self.likeness > most))  # what is no number is sorted last

    def at(self, places: Rows) -> "Clustering":
        """The same of other rows (n,), each told by its place among these; -1: it is not among them."""
        nan = np.float32(np.nan)
        return replace(
            self,
            labels=np.append(self.labels, np.int32(-1))[places],
            nearness=np.append(self.nearness, nan)[places],
            order=np.append(self.order, nan)[places],
            likeness=np.append(self.likeness, nan)[places],
            reach=np.append(self.reach, nan)[places],
            left=self.left.at(places) if self.left else None,
        )

    def bare(self) -> "Clustering":
        """The clusters alone: of what is alike inside them nothing is known, and no table holds it."""
        return replace(self.bare_of(self.centroids, self.labels, self.nearness), fitted=self.fitted)

    @classmethod
    def bare_of(cls, centroids: Block, labels: NDArray[np.int32], nearness: NDArray[np.float32]) -> "Clustering":
        """Clusters fitted to as many rows as have labels, of which nothing else is known."""
        nothing = np.full(len(labels), np.nan, np.float32)
        return cls(centroids, len(labels), labels, nearness, nothing, nothing, np.zeros(len(centroids), np.int64), nothing)


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

    @property
    def left(self) -> Clustering | None:
        """What an earlier choice has found out about the clusters of what SemDeDup leaves."""
        return self.clustering.left if self.clustering else None

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

    def keys(self, seed: int = 0) -> Keys:
        """A lot per patch (N,): a function of its id and the seed."""
        return hashed(self.columns["patch_id"], seed) if seed else self.first_keys

    @cached_property
    def first_keys(self) -> Keys:
        """Those of seed 0, by which every sort of the rows settles what is equal."""
        found = hashed(self.columns["patch_id"]) if self.hashes is None else self.hashes
        found.flags.writeable = False  # all who ask get the same array
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

    def compared(self) -> Vectors:
        """The same, those rounded already that an earlier choice left so; ValueError where the pool has none."""
        return self.embeddings() if self.rounded is None else self.rounded


def whole_frames(patches: pa.Table) -> NDArray[np.bool_]:
    """Which patches (N,) are whole frames, by the column proposer; the others are regions of one."""
    return np.asarray(pc.fill_null(pc.equal(patches["proposer"], schema.FRAME_PROPOSER), False).to_numpy())


def candidates(patches: pa.Table, chosen: Rows) -> Rows:
    """The places, rising, of all patches of the kinds that were chosen, regions of frames or whole ones: the others were not asked for.

    `chosen` (n,) are places among `patches` (N,), of which proposer is looked at.
    """
    whole = whole_frames(patches)
    return np.flatnonzero(np.isin(whole, whole[chosen]))


def retained(patches: pa.Table, chosen: Rows) -> float:
    """The share, 0 to 1, of the bytes of their candidates that chosen patches take: what NormDEL counts.

    `chosen` (n,), at least one, are places among `patches` (N,), of which bytes and proposer are looked at.
    """
    taken, whole = (pc.sum(patches["bytes"].take(rows).cast(pa.int64())) for rows in (chosen, candidates(patches, chosen)))
    return float(taken.as_py() / whole.as_py())
