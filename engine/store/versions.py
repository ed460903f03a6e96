"""Versions of tables: which one readers open, and which may go."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from engine.store.commits import committing
from engine.store.journal import deed
from engine.store.lock import Lease
from engine.store.tables import COMPLETE, Tables
from engine.store.writers import read_versions

ROUND = 200  # versions that are removed while others wait to commit


def mark_complete(tables: Tables, lease: Lease) -> None:
    """Let readers open the newest version of the patch table, which is complete where nobody else holds the lock `commit`."""
    dataset = tables.lance("patches")
    newest = dataset.version
    lease.check()
    if COMPLETE in dataset.tags.list():
        dataset.tags.update(COMPLETE, newest)
    else:
        dataset.tags.create(COMPLETE, newest)


def clean(tables: Tables, table: str, keep_hours: float) -> dict[str, Any]:
    """Remove the versions that nobody can be reading any more, with what only they refer to; returns a row of journal.DEEDS.

    A version stays for `keep_hours` after the next one took its place, and as long as it is the complete one, a tag names it, a branch
    began at it, or a job that lives has signed in as its reader.
    """
    old = superseded(tables.open(table).versions(), keep_hours)
    count = size = 0
    for start in range(0, len(old), ROUND):
        with committing(tables):
            if gone := sorted(set(old[start : start + ROUND]) - needed(tables, table)):
                stats = tables.open(table).cleanup_old_versions(versions=gone, error_if_tagged_old_versions=False)
                count, size = count + stats.old_versions, size + stats.bytes_removed
    return deed("old versions removed", table, count, size)


def needed(tables: Tables, table: str) -> set[int]:
    """The versions that stay, however old: the complete one, tagged ones, and those that living jobs read."""
    tagged = {int(tag["version"]) for tag in tables.open(table).tags.list().values()}
    complete = {tables.complete_version()} if table == "patches" else set()
    return read_versions(tables, table) | tagged | complete


def superseded(versions: Iterable[dict[str, Any]], hours: float) -> list[int]:
    """The versions that have not been the newest for so long: a version may be years old and have been opened a minute ago."""
    ordered, limit = sorted(versions, key=lambda one: int(one["version"])), datetime.now() - timedelta(hours=hours)
    return [int(one["version"]) for one, following in pairwise(ordered) if following["timestamp"] < limit]
