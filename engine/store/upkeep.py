"""Upkeep of a store that is in use: older schemas, many small files, missing indices, old versions, and what dead runs left.

Every change holds the lock `commit` for one bounded round, so that an ingest beside it waits seconds. Nothing is removed that a reader, a
writer or a tag may still need.
"""

from collections.abc import Sequence
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.optimize import Compaction, CompactionTask

from engine.settings import UpkeepConfig
from engine.store import erasure, indices, journal, leftovers, migrations, orphans, versions, writers
from engine.store.commits import committing
from engine.store.journal import deed
from engine.store.lock import OUTDATED, locked
from engine.store.tables import Tables
from engine.store.writers import WRITER, living

MOST_ROWS = 2**20  # in a file: a deleted row costs the rewrite of its whole file
BUSY = "Retryable commit conflict"  # what Lance says where another job changed the same files first


def maintain(tables: Tables, config: UpkeepConfig, commit: str) -> pa.Table:
    """Do all that the store needs, safely beside an ingest and readers; returns what was done, as journal.DEEDS, also in the journal.

    Before anything is changed: ValueError for a newer schema, OSError for a table that is damaged.
    """
    migrations.versions(tables)
    orphans.refuse_incomplete(tables)
    done = migrations.migrate(tables)
    done += erasure.finish(tables, commit)
    kept = [name for name in tables.names() if name != "locks"]
    done += [compact(tables, table, config) for table in kept]
    done += indices.build(tables, config)
    with locked(tables, "upkeep"), committing(tables) as lease:
        versions.mark_complete(tables, lease)
    done += [versions.clean(tables, table, config.keep_hours) for table in kept]
    done.append(clean_locks(tables))
    done += collected(tables, kept, config.keep_hours)
    done += leftovers.remove(tables, config.keep_hours)
    done = [row for row in done if row["count"] or row["note"]]
    journal.enter(tables, "maintain", "store", {"rows": done}, commit)
    return journal.rows_of(done)


def last(tables: Tables) -> str:
    """When it was done last, UTC in ISO 8601; the time of the first video where it never was, "" where there is none either."""
    done = tables.open("journal").to_table(columns=["at"], filter="job = 'maintain'")["at"]
    latest = pc.max(done).as_py() or pc.min(tables.open("videos").to_table(columns=["ingested_at"])["ingested_at"]).as_py()
    return str(latest or "")


def compact(tables: Tables, table: str, config: UpkeepConfig) -> dict[str, Any]:
    """Merge small files and rewrite those with many deleted rows, config.round_bytes at a time; a row of journal.DEEDS."""
    before = after = size = 0
    try:
        while merged := merge(tables, table, config):
            before, after, size = before + merged[0], after + merged[1], size + merged[2]
    except OSError as error:
        if BUSY not in str(error):
            raise
        return deed("files merged", table, before, size, "another job changed them; the next time goes on")
    return deed("files merged", table, before, size, f"into {after}" if before else "")


def merge(tables: Tables, table: str, config: UpkeepConfig) -> tuple[int, int, int] | None:
    """One round under the locks: (files read, files written, bytes read); None where there is nothing to gain."""
    with locked(tables, "upkeep"), committing(tables) as lease:
        dataset = tables.open(table)
        tasks = affordable(Compaction.plan(dataset, options(dataset, config)).tasks, config.round_bytes)
        if not tasks:
            return None
        merged = [task.execute(dataset) for task in tasks]
        lease.check()
        done = Compaction.commit(dataset, merged)
        return done.fragments_removed, done.fragments_added, sum(map(weight, tasks))


def options(dataset: lance.LanceDataset, config: UpkeepConfig) -> dict[str, Any]:
    """How files are merged: rows a file by bytes, since Lance asks for rows; one thread."""
    files = [(one.physical_rows, weight_of(one.metadata)) for one in dataset.get_fragments()]
    rows, size = sum(count for count, _ in files), sum(size for _, size in files)
    target = int(config.file_bytes * rows / max(size, 1))
    # Copying encoded bytes took half the memory and time of decoding them; files with deleted rows are decoded in any case.
    return {"target_rows_per_fragment": min(max(target, 1), MOST_ROWS), "compaction_mode": "try_binary_copy", "num_threads": 1}


def affordable(tasks: Sequence[CompactionTask], most: int) -> list[CompactionTask]:
    """The first tasks that together read no more bytes than that, and one in any case."""
    taken: list[CompactionTask] = []
    for task in tasks:
        if taken and sum(map(weight, taken)) + weight(task) > most:
            break
        taken.append(task)
    return taken


def weight(task: CompactionTask) -> int:
    """Bytes of the files that a task reads."""
    return sum(weight_of(fragment) for fragment in task.fragments)


def weight_of(fragment: Any) -> int:
    """Bytes of the files of a fragment, as far as they are told."""
    return sum(file.file_size_bytes or 0 for file in fragment.files)


def clean_locks(tables: Tables) -> dict[str, Any]:
    """Leases that dead jobs left, and the versions that renewing made: a long job makes one every few seconds."""
    dead = writers.bury(tables)
    tables.open("locks").cleanup_old_versions(older_than=OUTDATED)
    return deed("leases of dead jobs removed", "locks", dead)


def collected(tables: Tables, names: Sequence[str], keep_hours: float) -> list[dict[str, Any]]:
    """Files that no version refers to, once they are old and no job lives that may be about to commit them."""
    done: list[dict[str, Any]] = []
    for table in names:
        with locked(tables, "upkeep"), committing(tables):
            if busy := living(tables, WRITER):
                return [*done, deed("files without a version kept", note=f"jobs are writing: {', '.join(busy)}")]
            if table != "journal":  # anybody adds to it at any time
                done.append(orphans.collect(tables, table, orphans.hours_ago(keep_hours)))
    return done
