"""Work inside clusters as stages over tables of row numbers, so that it can be done here or be spread over other processes."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import clusters, schema
from engine.pool import Held, Vectors
from engine.products import alone
from engine.rows import ROWS, Rows, together

# A stage, what its constructor gets, and a table each row of which may be worked on anywhere -> what the stage makes, in any order.
Run = Callable[[type, tuple[Any, ...], pa.Table], Iterator[pa.Table]]

Numbers = NDArray[np.number]

IN_MEMORY = 1 << 22  # rows whose embeddings are in memory where all is done in one process: 3 GB of 384 numbers, as they are stored
AT_ONCE = 1 << 16  # rows whose embeddings a task has in memory, or one larger cluster

TASK = pa.schema([pa.field("clusters", pa.list_(pa.list_(pa.int64())))])  # rows of the pool, in the order in which they are compared
LIKENESS = pa.schema([pa.field("row", pa.int64()), pa.field("value", pa.float32())])
KEPT = pa.schema([pa.field("row", pa.int64()), pa.field("value", pa.uint32())])


class Slab(Held):
    """Vectors of some rows of a pool, each once, in memory in that order: they are taken by their places in the pool.

    They are read as they rise, a part at a time: what is new to a process costs it more than the copying.
    """

    def __init__(self, vectors: Vectors, rows: Rows) -> None:
        super().__init__(np.empty((len(rows), vectors.width), vectors.held(rows[:0]).dtype))
        last = int(rows.max(initial=0))
        self.places = np.zeros(last + 1, np.int32)
        self.places[rows] = np.arange(len(rows), dtype=np.int32)
        rising = together(rows, last)
        for start in range(0, len(rows), ROWS):
            some = rising[start : start + ROWS]
            self.array[some] = vectors.held(rows[some])

    def held(self, rows: Rows) -> NDArray[np.number]:
        """These rows of the pool in the type in which they are held, (n, width); no copy where they lie in this order."""
        places = self.places[rows].astype(np.int64)
        first = int(places[0]) if len(rows) else 0
        lie_so = np.array_equal(places, np.arange(first, first + len(rows)))
        return self.array[first : first + len(rows)] if lie_so else self.array[places]


def in_process(stage: type, arguments: tuple[Any, ...], table: pa.Table) -> Iterator[pa.Table]:
    """A task for each processor at a time: most of a task is numpy and torch, which let other threads run.

    What the tasks of a slab read is scattered over all of a table. In one pass it takes a tenth of the time that looking it up would.
    """
    vectors, *others = arguments
    for some in slabs(table):
        work = stage(Slab(vectors, rows_of(some)), *others)
        with alone(), ThreadPoolExecutor(os.cpu_count()) as threads:
            for made in threads.map(lambda task, work=work, some=some: list(work(some.slice(task, 1))), range(len(some))):
                yield from made


def slabs(table: pa.Table) -> Iterator[pa.Table]:
    """The tasks, as many at a time as have IN_MEMORY rows, one at least."""
    sizes = [len(rows_of(table.slice(task, 1))) for task in range(len(table))]
    slab = (np.cumsum(sizes) - 1) // IN_MEMORY
    ends = np.flatnonzero(np.diff(slab, append=-1)) + 1
    return (table.slice(start, end - start) for start, end in zip([0, *ends], ends, strict=False))


def rows_of(table: pa.Table) -> Rows:
    """The rows of the pool that tasks are about."""
    return np.asarray(table["clusters"].combine_chunks().flatten().flatten().to_numpy())


def tasks(members: Sequence[Rows]) -> pa.Table:
    """The clusters as rows of TASK, of about AT_ONCE rows of the pool each."""
    ends = np.cumsum([0, *map(len, members)])
    inner = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(np.concatenate([np.zeros(0, np.int64), *members])))
    first = [0]
    for place in range(1, len(members)):
        if ends[place + 1] - ends[first[-1]] > AT_ONCE:
            first.append(place)
    return pa.table({"clusters": pa.ListArray.from_arrays(pa.array([*first, len(members)], pa.int32()), inner)}, TASK)


def collected(made: Iterator[pa.Table], into: NDArray[Any]) -> NDArray[Any]:
    """The values that were made, each at its row of `into` (N,)."""
    for table in made:
        into[table["row"].to_numpy()] = table["value"].to_numpy()
    return into


def work(vectors: Vectors, task: pa.Table, of_cluster: Callable[[Numbers, Rows], NDArray[Any]], writes: pa.Schema) -> pa.Table:
    """What `of_cluster` says of every row of a task's clusters by their embeddings and places in the pool."""
    found = [of_cluster(*cluster) for cluster in clusters_of(vectors, task)]
    return pa.table({"row": rows_of(task), "value": np.concatenate(found)}, writes)


def clusters_of(vectors: Vectors, task: pa.Table) -> Iterator[tuple[Numbers, Rows]]:
    """The embeddings (n, width) of each cluster of a task, as they are stored, and their places in the pool (n,), in order."""
    rows, ends = rows_of(task), np.cumsum(task["clusters"].combine_chunks().flatten().value_lengths().to_numpy())
    yield from zip(np.split(vectors.held(rows), ends[:-1]), np.split(rows, ends[:-1]), strict=True)


@schema.stage(reads=TASK, writes=LIKENESS)
class FindLikeness:
    """The largest cosine of each row with an earlier one of its cluster, of all pairs of which one at least is `new` (N,)."""

    def __init__(self, vectors: Vectors, new: NDArray[np.bool_]) -> None:
        self.vectors, self.new = vectors, new

    def __call__(self, task: pa.Table) -> pa.Table:
        return work(self.vectors, task, self.of_cluster, LIKENESS)

    def of_cluster(self, vectors: Numbers, rows: Rows) -> NDArray[np.float32]:
        """The likeness (n,) of each row of one cluster (n, width) to an earlier one; -1 where there is none, or none in such a pair."""
        new = np.flatnonzero(self.new[rows])
        if 2 * len(new) > len(rows):  # comparing each two once costs less
            return clusters.earlier_likeness(vectors)
        return clusters.added_likeness(vectors, new)


@schema.stage(reads=TASK, writes=KEPT)
class CoverClusters:
    """Which rows a greedy cover of their cluster keeps, at up to 32 rising thresholds: a bit each."""

    def __init__(self, vectors: Vectors, thresholds: NDArray[np.float32]) -> None:
        self.vectors, self.thresholds = vectors, thresholds

    def __call__(self, task: pa.Table) -> pa.Table:
        return work(self.vectors, task, lambda vectors, _: clusters.covered(vectors, self.thresholds), KEPT)
