"""Files that no version of a table refers to, left by runs that died; and versions that refer to files which are not there."""

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.store.journal import deed
from engine.store.tables import Tables, advice, filesystem, first_line

KEPT_IN = ("data/", "_indices/", "_deletions/", "_transactions/")  # where Lance puts what a version refers to; never tags or hints


def collect(tables: Tables, table: str, before: datetime | None = None) -> dict[str, Any]:
    """Remove the files that no version of a table refers to, those last written before a moment; returns a row of journal.DEEDS.

    To be called under the locks `upkeep` and `commit`, and while no writer lives: what is on its way into a version looks the same.
    A table with branches is left alone, since they refer to files of their own accord.
    """
    dataset, fs = tables.open(table), filesystem(tables.uri)
    if dataset.branches.list():
        return deed("files without a version removed", table, note="left alone: it has branches")
    referred = set(dataset.tracked_files().read_all()["path"].to_pylist())
    loose = [row for row in dataset.all_files().read_all().to_pylist() if row["path"] not in referred and row["path"].startswith(KEPT_IN)]
    lost = [row for row in loose if before is None or row["last_modified"] < before]
    for row in lost:
        fs.rm(f"{tables.place(table)}/{row['path']}")
    return deed("files without a version removed", table, len(lost), sum(row["size_bytes"] for row in lost))


def refuse_incomplete(tables: Tables) -> None:
    """OSError, in one sentence, where a table cannot be opened or lacks a file that its newest version refers to."""
    for table in tables.names():
        if not tables.has(table):
            continue
        dataset = tables.lance(table)
        readable(tables, table)
        referred = set(dataset.tracked_files(min_version=dataset.version).read_all()["path"].to_pylist())
        if lost := sorted(referred - set(dataset.all_files().read_all()["path"].to_pylist())):
            raise OSError(
                f"the table {table} of {tables.uri} lacks {len(lost)} of the {len(referred)} files of its newest version, among them "
                f"{lost[0]}{advice(table) or ': put them back from a copy'}; nothing was changed"
            )


def readable(tables: Tables, table: str) -> None:
    """OSError, in one sentence, where the record of an older version is damaged: what it refers to could not be told from what is lost."""
    try:
        tables.lance(table).versions()
    except (OSError, ValueError, RuntimeError) as error:
        raise OSError(
            f"the table {table} of {tables.uri} has a damaged version: {first_line(error)}{advice(table)}; nothing was changed"
        ) from error


def hours_ago(hours: float) -> datetime:
    """The time so many hours ago."""
    return datetime.now(UTC) - timedelta(hours=hours)
