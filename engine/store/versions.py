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
    with committing(tables):
        dataset = tables.open(table)
        kept = read_versions(tables, table) | {tag["version"] for tag in dataset.tags.list().values()}
        if table == "patches":
            kept.add(tables.complete_version())
        old = sorted(set(superseded(dataset.versions(), keep_hours)) - kept)
        if not old:
            return deed("old versions removed", table)
        stats = dataset.cleanup_old_versions(versions=old, error_if_tagged_old_versions=False)
    return deed("old versions removed", table, stats.old_versions, stats.bytes_removed)


def superseded(versions: Iterable[dict[str, Any]], hours: float) -> list[int]:
    """The versions that have not been the newest for so long: a version may be years old and have been opened a minute ago."""
    ordered, limit = sorted(versions, key=lambda one: int(one["version"])), datetime.now() - timedelta(hours=hours)
    return [int(one["version"]) for one, following in pairwise(ordered) if following["timestamp"] < limit]
