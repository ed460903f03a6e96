"""Older stores brought to the schema of this engine: in order, each step as often as needed, the version written into every table."""

from collections.abc import Callable
from typing import Any

import lance
import pyarrow as pa

from engine import schema
from engine.store import appearances, lock
from engine.store.commits import committing
from engine.store.journal import deed
from engine.store.lock import Lease, locked
from engine.store.tables import TABLES, Tables, schema_version, stamp
from engine.store.versions import mark_complete

NOBODY = "nobody/0/0"  # holds the lock of a store that never had one: whoever takes it sweeps what an older engine may have left


def migrate(tables: Tables) -> list[dict[str, Any]]:
    """Bring a store to schema.VERSION; returns a row of journal.DEEDS for every table that changed, none where nothing is older.

    ValueError for a store of a newer engine or tables of another program, before anything is changed. Interrupted anywhere, the next
    call goes on.
    """
    found = versions(tables)
    if not is_behind(tables, found):
        return []
    lockable(tables)
    with locked(tables, "upkeep"), committing(tables) as lease:  # its newest patches are complete, once what a dead run left is swept
        for version in range(min(found.values()), schema.VERSION):
            STEPS[version](tables, lease)
            mark(tables, version + 1)
        tables.create(tables.open("patches").schema.field("embedding").type.list_size)  # tables that are new
        mark_complete(tables, lease)
    return [
        deed("migrated", name, note=f"from schema version {found.get(name, 'none')} to {schema.VERSION}")
        for name in tables.names()
        if found.get(name) != schema.VERSION
    ]


def lockable(tables: Tables) -> None:
    """See to it that this engine can lock the store, and that no job of an older one still can: leases have looked the same ever since."""
    if not tables.has("locks"):
        lease = lock.row("commit", NOBODY, 0.0).cast(schema.LOCKS.with_metadata(stamp()))
        lance.write_dataset(lease, tables.place("locks"), enable_stable_row_ids=True)
    elif schema_version(tables.lance("locks")) < schema.VERSION:
        tables.lance("locks").update_schema_metadata(stamp())


def versions(tables: Tables) -> dict[str, int]:
    """The schema version of every table there is; LookupError without a ledger, ValueError for one that this engine cannot migrate."""
    found = {name: schema_version(tables.lance(name)) for name in tables.names() if tables.has(name)}
    if "videos" not in found or "patches" not in found:
        raise LookupError(f"the store {tables.uri} has no table videos or patches yet: run the job ingest first")
    for name, version in found.items():
        if version > schema.VERSION:
            raise ValueError(
                f"the table {name} of {tables.uri} has schema version {version}, this engine reads {schema.VERSION}: "
                "use a newer engine; nothing was changed"
            )
        if version < min(STEPS):
            raise ValueError(f"the table {name} of {tables.uri} was not made by endocurate: it has no schema version; nothing was changed")
    return found


def is_behind(tables: Tables, found: dict[str, int]) -> bool:
    """True where a table is older or missing, or readers would still open the patches as they were before."""
    if not {"patches", *TABLES} <= set(found) or min(found.values()) < schema.VERSION:
        return True
    return schema_version(tables.lance("patches", tables.complete_version())) < schema.VERSION


def mark(tables: Tables, version: int) -> None:
    """Write the schema version into every table that is older: the last thing a step does."""
    for name in tables.names():
        if tables.has(name) and schema_version(tables.lance(name)) < version:
            tables.lance(name).update_schema_metadata(stamp(version))


def weigh_selections(tables: Tables, lease: Lease) -> None:
    """1 to 2: the patches of a selection have weights, which were all 1."""
    add(tables, "selections", {"weight": "cast(1.0 as double)"})


def see_patches(tables: Tables, lease: Lease) -> None:
    """2 to 3: a patch has what it shows; budgets were shares of bytes, vectors the patches' own, images two by two."""
    appearances.add(tables, lease)
    add(tables, "selections", {"unit": "cast('bytes' as string)", "embedding": "cast('' as string)"})
    add(tables, "images", {"layout": "cast('' as string)"})


def keep_masks(tables: Tables, lease: Lease) -> None:
    """3 to 4: a patch has the mask of its region, which nobody knows any more of those that are there."""
    patches = tables.lance("patches")
    if schema.MASK.name not in patches.schema.names:
        lease.check()
        patches.add_columns(pa.schema([schema.MASK]))


def add(tables: Tables, table: str, columns: dict[str, str]) -> None:
    """Give a table columns by SQL expressions, where it has them not yet."""
    if tables.has(table) and not set(columns) <= set((dataset := tables.lance(table)).schema.names):
        dataset.add_columns(columns)


STEPS: dict[int, Callable[[Tables, Lease], None]] = {1: weigh_selections, 2: see_patches, 3: keep_masks}  # from this version to the next
