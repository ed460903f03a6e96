"""Embeddings of a table as a stream, and at random: what engine.pool calls Vectors, never all of them in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.pool import Block
from engine.rows import ROWS, Rows

Stored = NDArray[Any]  # float16, or what the table has

NEAR = 16  # rows read for each one wanted, up to which reading all between the first and the last is faster: 0.4 µs a row beside 8


@dataclass
class StoredVectors:
    """The embeddings at `places` (N,) of a version of a table, in that order; pickles as an address and opens where it is used.

    ValueError for a row that has none.
    """

    address: str
    version: int
    width: int
    places: Rows
    kind: type[np.generic] = np.float16
    opened: lance.LanceDataset | None = field(default=None, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": None}

    def __len__(self) -> int:
        return len(self.places)

    def blocks(self) -> Iterator[Block]:
        """All (n, width), ROWS at a time."""
        for start in range(0, len(self), ROWS):
            yield self.read(self.places[start : start + ROWS]).astype(np.float32)

    def take(self, rows: Rows) -> Block:
        """Those of `rows` (n,), in that order; quickest where they lie near each other."""
        return self.held(rows).astype(np.float32)

    def held(self, rows: Rows) -> Stored:
        """The same as they are stored."""
        return self.read(self.places[rows])

    def read(self, places: Rows) -> Stored:
        """Those at places of the table, read in the order of the table, each once."""
        if (places[1:] > places[:-1]).all():
            return self.found(places)
        made = np.empty((len(places), self.width), self.kind)
        wanted, order = np.unique(places, return_inverse=True)
        rising = np.argsort(order, kind="stable")
        for start in range(0, len(wanted), ROWS):  # of what was read one part is in memory at a time
            inside = rising[slice(*np.searchsorted(order, [start, start + ROWS], sorter=rising))]
            made[inside] = self.found(wanted[start : start + ROWS])[order[inside] - start]
        return made

    def found(self, places: Rows) -> Stored:
        """Those at ascending places of the table; beside them a batch or a part is in memory at a time."""
        made = np.empty((len(places), self.width), self.kind)
        for start in range(0, len(places), ROWS):
            some = places[start : start + ROWS]
            first, span = int(some[0]), int(some[-1] - some[0]) + 1
            if span > NEAR * len(some):
                made[start : start + ROWS] = numbers(
                    self.open().take(some.tolist(), columns=["embedding"])["embedding"].chunks, self.width, self.kind
                )
            else:
                self.scanned(some, first, span, made[start : start + ROWS])
        return made

    def scanned(self, places: Rows, first: int, span: int, made: Stored) -> None:
        """Put those at ascending places among the `span` ones from `first` on into `made`, while all of these go by."""
        for batch in self.open().to_batches(columns=["embedding"], offset=first, limit=span):
            inside = slice(*np.searchsorted(places, [first, first + len(batch)]))
            mine = numbers([batch["embedding"]], self.width, self.kind)
            np.take(mine, places[inside] - first, axis=0, out=made[inside], mode="clip")  # raise would copy
            first += len(batch)

    def open(self) -> lance.LanceDataset:
        """The table at its version, opened once a process."""
        if self.opened is None:
            self.opened = lance.dataset(self.address, version=self.version)
        return self.opened


def numbers(chunks: list[pa.FixedSizeListArray], width: int, kind: type[np.generic] = np.float16) -> NDArray[Any]:
    """The embeddings (n, width) of some rows, or other lists of one length, of numbers of that kind; ValueError where one is missing."""
    if nothing := sum(chunk.null_count for chunk in chunks):
        raise ValueError(f"at least {nothing} of the patches has no embedding")
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width) for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros((0, width), kind), *parts])
