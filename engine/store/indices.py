"""Indices over the tables: made once a table is large enough that one pays, and brought up to date as rows come in."""

from typing import Any

import lance

from engine.settings import UpkeepConfig
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
EIGHTH = 8  # IVF_RQ packs one bit per number
NARROW = 128  # numbers; of fewer one bit each is too little to rank by: of 10 million vectors of 32 it found 0.72 of the nearest


def build(tables: Tables, config: UpkeepConfig) -> list[dict[str, Any]]:
    """Make the indices that pay and refresh the stale ones; returns rows of journal.DEEDS.

    An index leaves the rows as they are and the version it makes is no intake's, so it is built while video is taken in; the lock
    `upkeep` keeps an erasure out meanwhile, which would find its values in the index again.
    """
    wanted = [(table, column, kind) for table, columns in SCALAR.items() for column, kind in columns.items()]
    made = []
    for table, column, kind in [*wanted, ("patches", "embedding", "")]:
        with locked(tables, "upkeep"):
            dataset = tables.open(table)
            kind = kind or vectorial(dataset.schema.field(column).type.list_size)
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
    if column == "embedding":
        return place_vectors(dataset, column, kind, rows) if rows >= config.vector_rows else ""
    if rows < config.index_rows:
        return ""
    dataset.create_scalar_index(column, kind, name=name)
    return "made"


def vectorial(width: int) -> str:
    """The kind of index that answers best for vectors of so many numbers."""
    return "IVF_FLAT" if width < NARROW or width % EIGHTH else "IVF_RQ"


def place_vectors(dataset: lance.LanceDataset, column: str, kind: str, rows: int) -> str:
    """Make an index over vectors, with a cell for every CELL rows."""
    cells = max(1, min(MOST_CELLS, rows // CELL))
    options = {"num_bits": 1} if kind == "IVF_RQ" else {}
    dataset.create_index(column, kind, name=f"{column}_idx", metric="cosine", num_partitions=cells, **options)
    return "made"
