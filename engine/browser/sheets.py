"""A table at one version while it is looked at: its numbers are read once each, when they are first asked for, and stay in memory.

A million rows with eight numbers take 32 MB; pixels are only read of the rows that are shown.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.rows import Keys, Rows, hashed
from engine.store import PatchStore
from engine.store.tables import taken

Flags = NDArray[np.bool_]
NAMES = {"patches": "patch_id", "frames": "frame_id"}


class Sheet:
    """One table at one version; columns are in the order of its rows."""

    def __init__(self, store: PatchStore, table: str, version: int) -> None:
        self.store, self.table, self.version = store, table, version
        self.dataset = store.open(table, version)
        self.held: dict[str, Any] = {}
        self.lock = threading.RLock()

    def __len__(self) -> int:
        return int(self.once("rows", self.dataset.count_rows))

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made by the first who asks."""
        with self.lock:
            if name not in self.held:
                self.held[name] = make()
            return self.held[name]

    def number(self, name: str) -> NDArray[np.float32]:
        """A column (N,) of numbers; not a number where it has none. Times are exact up to 4.6 hours, then to 2 ms."""
        return np.asarray(self.once(name, lambda: numbers(self.column(name))))

    def words(self, name: str) -> tuple[list[str], NDArray[np.int32]]:
        """The different words of a column in their order, "" for none, and of every row (N,) which it has."""
        found: tuple[list[str], NDArray[np.int32]] = self.once(name, lambda: coded(self.column(name)))
        return found

    def having(self, name: str, fits: Callable[[str], bool]) -> Flags:
        """Of every row (N,) whether its word fits."""
        known, codes = self.words(name)
        return np.array([fits(word) for word in known], np.bool_)[codes] if known else np.zeros(len(self), np.bool_)

    def keys(self) -> Keys:
        """A hash of every row's id (N,); 64 bits, so that of ten million two are alike in one of 370,000 tables."""
        return np.asarray(self.once("keys", lambda: hashed(self.column(NAMES[self.table]))))

    def places(self, ids: Sequence[str]) -> Rows:
        """Where rows stand, in the order of their ids; those that are not there are left out."""
        order = self.once("by key", lambda: np.argsort(self.keys()))
        asked = hashed(pa.chunked_array([pa.array(list(ids), pa.string())]))
        near = np.minimum(np.searchsorted(self.keys(), asked, sorter=order), max(len(order) - 1, 0))
        found = order[near] if len(order) else np.zeros(0, np.int64)
        there = self.keys()[found] == asked[: len(found)]
        return np.asarray(found[there], np.int64)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column as it is stored, read anew."""
        return self.dataset.to_table(columns=[name])[name]

    def take(self, rows: Rows, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of some rows, in the order they are asked for."""
        return taken(self.dataset, rows, columns)


def one(store: PatchStore, patch_id: str, columns: Sequence[str]) -> dict[str, Any]:
    """Columns of a patch as it is now; LookupError, without the address of the store, for an id that is not there."""
    found = store.named([patch_id], columns)
    if patch_id not in found:
        raise LookupError(f"the store has no patch {patch_id[:120]!r}")
    return found[patch_id]


def numbers(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column as numbers (N,), NaN where it has none."""
    return np.asarray(pc.fill_null(pc.cast(column, pa.float32()), np.nan).to_numpy(), np.float32)


def coded(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int32]]:
    """A column of words as the sorted words and the number of each row's (N,); null counts as ""."""
    if not len(column):
        return [], np.zeros(0, np.int32)
    whole = pc.fill_null(column, "").combine_chunks().dictionary_encode()
    known = [str(word) for word in whole.dictionary.to_pylist()]
    order = np.argsort(np.array(known))
    new = np.empty(len(known), np.int32)
    new[order] = np.arange(len(known), dtype=np.int32)
    return [known[place] for place in order.tolist()], new[whole.indices.to_numpy()]
