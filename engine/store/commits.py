"""Commits that land once and only from the holder of the lock `commit`, also where a holder was paused and wakes up too late.

Lance compares no versions: an append that comes late is put on top of what came in between. What it refuses is a change that was begun
on a version before a `Merge`. So whoever takes over from a holder that did not finish puts a Merge that changes nothing on every
table, and every commit is begun on a version that was opened before its maker asked whether the lock is still its own. Deletes and
upserts are told not to try again by themselves (conflict_retries), because that would begin them anew on the other's version.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import lance
import pyarrow as pa
from lance.commit import CommitConflictError
from lance.fragment import FragmentMetadata

from engine.store import caches
from engine.store.lock import Lease, locked
from engine.store.tables import ENDURING, NEIGHBOURS, Tables, fragments_of, quoted
from engine.store.tombstones import forgotten

GUARDED = ("videos", "frames", "patches", "selections", "images", *ENDURING, NEIGHBOURS)


@contextmanager
def committing(tables: Tables) -> Iterator[Lease]:
    """Be the only one who changes the tables; the rows of one that died before it was done are swept first."""
    with locked(tables, "commit") as lease:
        if lease.inherited:
            for table in fenceable(tables):
                fence(tables, table, lease)
            sweep(tables, lease)
        yield lease


def fenceable(tables: Tables) -> Iterator[str]:
    """The tables on which something may land late; of those that may be lost not the damaged ones, which are made anew."""
    yield from (*filter(tables.is_made, GUARDED), *tables.scores())
    yield from (table for table in (*tables.clusterings(), *tables.roundings()) if caches.is_whole(tables, table))


def fence(tables: Tables, table: str, lease: Lease) -> None:
    """From here on nothing lands in a table that was begun by whoever held the lock before."""
    while True:
        dataset = tables.lance(table)
        lease.check()
        unchanged = lance.LanceOperation.Merge([fragment.metadata for fragment in dataset.get_fragments()], dataset.lance_schema)
        try:
            lance.LanceDataset.commit(dataset.uri, unchanged, read_version=dataset.version)
        except CommitConflictError:
            continue  # the other's last commit came in between; it is fenced in with the rest
        return


def sweep(tables: Tables, lease: Lease) -> None:
    """Remove the rows of videos that are in no ledger, or there as forgotten: those of a run that died before it was done."""
    known = set(tables.lance("videos").to_table(columns=["video_id"])["video_id"].to_pylist()) - forgotten(tables)
    for table in ("patches", "frames"):
        dataset = tables.lance(table)
        lease.check()
        found = {video_id for batch in dataset.to_batches(columns=["video_id"]) for video_id in batch["video_id"].unique().to_pylist()}
        if lost := sorted(found - known):
            dataset.delete(f"video_id IN ({quoted(lost)})", conflict_retries=0)


def replace(tables: Tables, table: str, fragments: list[FragmentMetadata], where: str, lease: Lease) -> int:
    """Append `fragments`, in the same commit in place of the rows of a filter, if there is one; returns the version."""
    dataset = tables.open(table)
    if not fragments and not (where and dataset.count_rows(where)):
        return int(dataset.version)
    operation = replacement(dataset, fragments, where) if where else lance.LanceOperation.Append(fragments)
    return int(land(dataset, operation, lease).version)


def exchange(tables: Tables, table: str, rows: pa.Table, where: str, lease: Lease) -> None:
    """Put rows in place of those of a filter, in one commit, so that twice is once; OSError where what was written for it is gone."""
    fragments = fragments_of(tables.place(table), rows)
    tables.refuse_lost(table, fragments)
    replace(tables, table, fragments, where, lease)


def replacement(dataset: lance.LanceDataset, fragments: list[FragmentMetadata], where: str) -> lance.LanceOperation.Update:
    """The operation that puts `fragments` in place of the rows of a filter: no crash can come between the two."""
    addresses = dataset.scanner(columns=[], filter=where, with_row_address=True).to_table()["_rowaddr"].to_numpy()
    touched = sorted({int(address) >> 32 for address in addresses})
    left = {number: dataset.get_fragment(number).delete(where) for number in touched}
    return lance.LanceOperation.Update(
        removed_fragment_ids=[number for number, rest in left.items() if rest is None],
        updated_fragments=[rest for rest in left.values() if rest is not None],
        new_fragments=fragments,
    )


def land(dataset: lance.LanceDataset, operation: lance.LanceOperation.BaseOperation, lease: Lease) -> lance.LanceDataset:
    """Commit an operation that was prepared on `dataset`, and see to it that it is there once; returns the table with it.

    A store may answer with an error after it did what it was asked, and Lance may then ask again: each commit carries a batch id, which
    is looked for among the versions since.
    """
    batch = uuid.uuid4().hex
    transaction = lance.Transaction(dataset.version, operation, transaction_properties={"batch": batch})
    lease.check()
    try:
        after = lance.LanceDataset.commit(dataset.uri, transaction)
    except (OSError, RuntimeError):
        lease.check()
        after = lance.dataset(dataset.uri)
        if not landings(dataset.version, after, batch):
            raise
    again = landings(dataset.version, after, batch)[1:]
    return without(after, again) if again else after


def landings(before: int, after: lance.LanceDataset, batch: str) -> list[int]:
    """The versions since `before` that a batch made, in order."""
    recent = after.get_transactions(after.version - before)  # newest first
    versions = range(after.version, before, -1)
    return sorted(v for v, made in zip(versions, recent, strict=False) if made and made.transaction_properties.get("batch") == batch)


def without(dataset: lance.LanceDataset, versions: list[int]) -> lance.LanceDataset:
    """Take the fragments out again that some versions added."""
    added: set[int] = set()
    for version in versions:
        now, then = (dataset.checkout_version(number).get_fragments() for number in (version, version - 1))
        added |= {one.fragment_id for one in now} - {one.fragment_id for one in then}
    undone = lance.LanceOperation.Delete([], sorted(added), "landed twice")
    return lance.LanceDataset.commit(dataset.uri, undone, read_version=dataset.version)
