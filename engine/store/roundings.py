"""Embeddings as they are compared, rounded, of the patches that a choice compared: the next one reads these few and not all.

A table beside each clustering, in the order of the patches, to which a choice adds what it compared for the first time. What is not in it
is read and rounded as ever, so nothing hangs on it but time, and it may be removed. Where a choice could not read it, it is made anew.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import schema
from engine.clusters import whole
from engine.pool import Block, Clustering, Pool, Vectors
from engine.products import single
from engine.rows import ROWS, Rows
from engine.store import caches
from engine.store.clusterings import version_of, videos_of
from engine.store.commits import committing, replace
from engine.store.matches import matched
from engine.store.tables import ROUNDED, Tables, first_line, fragments_of
from engine.store.tombstones import forgotten, without
from engine.store.vectors import Stored, StoredVectors

log = logging.getLogger("engine.store")
FEWEST = 100_000  # patches of a pool; all embeddings of fewer are read in a twentieth of a second
SHARE = 0.6  # of them that are compared at most; our choice, because the table, and what is read, is as large a share of all embeddings
LEFT = 0.2  # rows of patches that are compared no more, beside those that are, from which on the table is written anew


class KeptVectors(StoredVectors):
    """The numbers of such a table; BrokenError where they cannot be read."""

    def found(self, places: Rows) -> Stored:
        """Those at ascending places of the table."""
        try:
            return super().found(places)
        except caches.RAISED as error:
            raise caches.BrokenError(f"the table {self.address} is damaged: {first_line(error)}") from error


@dataclass
class Rounded:
    """The embeddings of a pool, rounded (int16), some of which are `kept` so: those with a place there (N,), which is -1 for the others.

    Where the table of those is damaged all are rounded anew, from then on.
    """

    vectors: Vectors
    kept: Vectors
    places: Rows

    def __post_init__(self) -> None:
        self.width = self.vectors.width

    def __len__(self) -> int:
        return len(self.places)

    def blocks(self) -> Iterator[Block]:
        """All rows in their order, ROWS at a time."""
        return (self.take(np.arange(start, min(start + ROWS, len(self)))) for start in range(0, len(self), ROWS))

    def take(self, rows: Rows) -> Block:
        """These rows (n, width), in float32."""
        return single(self.held(rows))

    def held(self, rows: Rows) -> NDArray[np.number]:
        """These rows (n, width), in int16."""
        try:
            return self.found(rows)
        except caches.BrokenError as error:
            log.warning("embeddings are rounded anew, since those that were kept cannot be read: %s", error)
            self.places = np.full(len(self), -1)
        return self.found(rows)

    def found(self, rows: Rows) -> NDArray[np.number]:
        """The same, as far as what is kept can be read."""
        places = self.places[rows]
        there, others = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        if not len(others):
            return self.kept.held(places)
        found = np.empty((len(rows), self.width), np.int16)
        if len(there):
            found[there] = self.kept.held(places[there])
        found[others] = whole(self.vectors.held(rows[others]))
        return found


def rounded(tables: Tables, name: str, pool: Pool, known: Clustering | None) -> Rounded | None:
    """The embeddings of a pool, rounded, whose clustering is kept under a name; None where none of them are kept so."""
    return None if known is None else caches.found(tables, f"{ROUNDED}{name}", partial(rounded_of, pool, rows_compared(known)))


def rounded_of(pool: Pool, compared: Rows, dataset: lance.LanceDataset) -> Rounded | None:
    """The embeddings of a pool, those of the rows `compared` (n,) rounded that a table holds; None where it holds none."""
    found = places_in(dataset, pool, compared)
    if not len(found):
        return None
    places = np.full(len(pool), -1, np.int64)
    places[compared] = found
    vectors = pool.embeddings()
    stored = KeptVectors(dataset.uri, int(dataset.version), vectors.width, np.arange(dataset.count_rows()), kind=np.int16)
    return Rounded(vectors, stored, places)


def rows_compared(found: Clustering) -> Rows:
    """The rows that what comes is compared with, rising: those that a cover keeps, or scouts among those that took part in comparing."""
    kept = found.kept
    return np.flatnonzero(kept if kept.any() else found.scouts & ~np.isnan(found.order))


def places_in(dataset: lance.LanceDataset, pool: Pool, rows: Rows) -> Rows:
    """The places in the table of some rows of a pool (n,), -1 where one is not there; none where the table holds nothing."""
    kept = caches.read(dataset, ["key"])["key"].to_numpy()
    return matched(pool.keys()[rows], kept) if len(kept) else np.zeros(0, np.int64)


def keep(tables: Tables, name: str, pool: Pool, found: Clustering, version: int) -> int:
    """Keep what was compared of a pool whose clustering was just kept under a name; returns the count of rows written.

    Nothing is where another clustering took its place meanwhile, where the pool has few patches, or where most of them were compared:
    then nothing stays of what there was. Patches of forgotten videos are left out.
    """
    table, compared = f"{ROUNDED}{name}", rows_compared(found)
    pays = len(pool) >= FEWEST and 0 < len(compared) <= SHARE * len(pool)
    if not pays and not tables.is_made(table):
        return 0
    with committing(tables) as lease:
        if version_of(tables, name) != version:
            return 0
        caches.make(tables, table, schema.rounded_table(pool.embeddings().width), anew=is_lost(pool))
        dataset = tables.open(table)
        new, stale = missing(dataset, pool, compared) if pays else (compared[:0], True)
        made = written(pool, new, forgotten(tables))
        fragments = [one for rows in made for one in fragments_of(dataset.uri, rows.cast(dataset.schema.remove_metadata()))]
        replace(tables, table, fragments, "true" if stale else "", lease)
    return sum(one.num_rows for one in fragments)


def is_lost(pool: Pool) -> bool:
    """Whether what was kept of a pool turned out to be damaged while it was read."""
    return isinstance(pool.rounded, Rounded) and not (pool.rounded.places >= 0).any()


def missing(dataset: lance.LanceDataset, pool: Pool, compared: Rows) -> tuple[Rows, bool]:
    """The compared rows that are to be written, and whether in place of all that there is."""
    there = places_in(dataset, pool, compared)
    new = compared[there < 0] if len(there) else compared
    left = dataset.count_rows() - (len(compared) - len(new))
    return (compared, True) if left > LEFT * len(compared) else (new, False)


def written(pool: Pool, rows: Rows, gone: set[str]) -> Iterator[pa.Table]:
    """A row for each of some patches, ROWS at a time, without those of the videos `gone`."""
    keys, vectors = pool.keys(), pool.embeddings()
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        numbers: NDArray[np.int16] = whole(vectors.held(some)).astype(np.int16)
        videos = videos_of(pool.columns["patch_id"].take(pa.array(some)))
        embedding = pa.FixedSizeListArray.from_arrays(numbers.ravel(), vectors.width)
        yield without(pa.table({"key": keys[some], "video_id": videos, "embedding": embedding}), gone)
