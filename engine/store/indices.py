"""Indices over the tables: made once a table is large enough that one pays, and brought up to date as rows come in."""

from typing import Any

import lance
import pyarrow as pa

from engine.config import UpkeepConfig
from engine.store.journal import deed
from engine.store.lock import locked
from engine.store.tables import Tables

SCALAR = {
    "patches": {"difficulty": "BTREE", "patch_id": "BTREE", "video_id": "BITMAP"},
    "frames": {"video_id": "BITMAP"},
    "images": {"selection_id": "BITMAP"},
}
STALE = 0.01  # share of rows an index does not know, above which it is brought up to date: they are searched one by one
CELL = 1000  # vectors in a cell of the vector index: 20 cells of 256 gave recall 0.997 on 200,000
MOST_CELLS = 2048  # more would take gigabytes of vectors to place them
EIGHTH = 8  # the vector index packs one bit per number


def build(tables: Tables, config: UpkeepConfig) -> list[dict[str, Any]]:
    """Make the indices that pay and refresh the stale ones; returns rows of journal.DEEDS.

    An index leaves the rows as they are and the version it makes is no intake's, so it is built while video is taken in; the lock
    `upkeep` keeps an erasure out meanwhile, which would find its values in the index again.
    """
    wanted = [(table, column, kind) for table, columns in SCALAR.items() for column, kind in columns.items()]
    made = []
    for table, column, kind in [*wanted, ("patches", "embedding", "IVF_RQ")]:
        with locked(tables, "upkeep"):
            dataset = tables.open(table)
            if said := indexed(dataset, column, kind, config):
                made.append(deed(f"index {said}", f"{table}.{column}", dataset.count_rows(), note=kind))
    return made


def indexed(dataset: lance.LanceDataset, column: str, kind: str, config: UpkeepConfig) -> str:
    """Make or refresh one index; says which, "" where neither pays."""
    name, rows = f"{column}_idx", dataset.count_rows()
    if name in {index.name for index in dataset.describe_indices()}:
        missing = dataset.index_statistics(name)["num_unindexed_rows"]
        if missing <= STALE * rows:
            return ""
        dataset.optimize.optimize_indices(index_names=[name])
        return "refreshed"
    if kind == "IVF_RQ":
        return place_vectors(dataset, column, name, rows) if rows >= config.vector_rows else ""
    if rows < config.index_rows:
        return ""
    dataset.create_scalar_index(column, kind, name=name)
    return "made"


def place_vectors(dataset: lance.LanceDataset, column: str, name: str, rows: int) -> str:
    width = dataset.schema.field(column).type
    if not pa.types.is_fixed_size_list(width) or width.list_size % EIGHTH:
        return ""
    cells = max(1, min(MOST_CELLS, rows // CELL))
    dataset.create_index(column, "IVF_RQ", name=name, metric="cosine", num_partitions=cells, num_bits=1)
    return "made"
