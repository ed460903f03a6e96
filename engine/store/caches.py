"""Tables on which nothing hangs but time: what choices found out, made anew where a file of one is damaged or gone."""

import logging
from collections.abc import Callable
from typing import TypeVar

import lance
import pyarrow as pa

from engine.store.tables import Tables, filesystem, first_line

Found = TypeVar("Found")

log = logging.getLogger("engine.store")
RAISED = (OSError, ValueError, RuntimeError)  # by Lance, of files that are not what it wrote; Arrow's errors are among these


class BrokenError(OSError):
    """A file of a table that may be lost is damaged or gone."""


def found(tables: Tables, table: str, look: Callable[[lance.LanceDataset], Found]) -> Found | None:
    """What `look` finds in a table as it is now; None where it was never made and, with a warning, where a file of it is damaged or gone.

    `look` reads by `read`. OSError where the store itself is out of reach, RefusedError for a table of another schema version.
    """
    if not tables.is_made(table):
        return None
    try:
        return look(sound(tables, table))
    except BrokenError as error:
        tables.holds(f"{table}.lance")  # or else it is the store that cannot be reached
        log.warning("the table %s is damaged, so what it tells is found out anew: %s", table, error)
        return None


def sound(tables: Tables, table: str) -> lance.LanceDataset:
    """A table of which every file is there, as long as it was written; BrokenError for another one."""
    try:
        dataset = lance.dataset(tables.place(table))
        lengths = {row["path"]: row["size_bytes"] for row in dataset.all_files().read_all().to_pylist()}
    except RAISED as error:
        raise BrokenError(first_line(error)) from error
    for file in (file for fragment in dataset.get_fragments() for file in fragment.metadata.files):
        length = lengths.get(f"data/{file.path}")
        if length is None or length != (file.file_size_bytes or length):
            raise BrokenError(f"data/{file.path} is {'gone' if length is None else 'not as long as it was written'}")
    return tables.open(table)


def is_whole(tables: Tables, table: str) -> bool:
    """Whether a table is there with all of its files."""
    return found(tables, table, lambda dataset: True) is not None


def read(dataset: lance.LanceDataset, columns: list[str], where: str | None = None) -> pa.Table:
    """Columns of the rows of a filter; BrokenError where a file cannot be read."""
    try:
        return dataset.to_table(columns=columns, filter=where)
    except RAISED as error:
        raise BrokenError(first_line(error)) from error


def make(tables: Tables, table: str, columns: pa.Schema, anew: bool = False) -> None:
    """Make a table where there is none, or `anew`, or in place of a damaged one; to be called under the lock `commit`."""
    if tables.is_made(table) and (anew or found(tables, table, readable) is None):
        filesystem(tables.uri).rm(tables.place(table), recursive=True)
    if not tables.is_made(table):
        tables.make(table, columns)


def readable(dataset: lance.LanceDataset) -> bool:
    """True where the column `key` of a table can be read; BrokenError where it cannot."""
    return bool(read(dataset, ["key"]).num_columns)
