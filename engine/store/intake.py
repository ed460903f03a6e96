"""Taking video in, exactly once: workers write files nobody sees, one committer makes them visible, the ledger row comes last.

The ledger names the version of the patch table that is complete; readers open that version, so rows of a run that died in between are
never read, and the next run replaces them. One job commits at a time; what two took in at once is there once, the later in place of the
earlier, which are equal.
"""

import json
import uuid
from collections.abc import Sequence

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata

from engine import schema
from engine.ledger import frame_rows, ledger_rows, written_rows
from engine.store.lock import locked
from engine.store.tables import Tables, fragments_of, quoted


def unseen(tables: Tables, sources: pa.Table) -> pa.Table:
    """The sources of which the ledger has no row with the same address, size and time: only these are read at all."""
    rows = tables.ledger().select(["uri", "size", "modified", "reason"]).to_pylist()
    seen = {(row["uri"], row["size"], row["modified"]) for row in rows if row["reason"] != "unreadable"}
    new = [(row["uri"], row["size"], row["modified"]) not in seen for row in sources.to_pylist()]
    return sources.filter(pa.array(new, pa.bool_()))


def unknown(tables: Tables, videos: pa.Table) -> pa.Table:
    """The videos whose bytes the ledger does not know, each once."""
    ledger = tables.ledger()
    known = set(ledger.filter(pc.not_equal(pc.fill_null(ledger["reason"], ""), "unreadable"))["video_id"].to_pylist())
    fresh = []
    for video_id in videos["video_id"].to_pylist():
        fresh.append(video_id not in known)
        known.add(video_id)
    return videos.filter(pa.array(fresh, pa.bool_()))


def commit(tables: Tables, written: pa.Table, videos: pa.Table, stamp: dict[str, str]) -> pa.Table:
    """Make a micro-batch visible: patches, then frames, then the ledger rows; returns the ledger rows."""
    ids = videos["video_id"].to_pylist()
    fragments = [FragmentMetadata.from_json(text) for text in written["fragment"].drop_null().to_pylist()]
    promised, found = pc.sum(written["patches"]).as_py() or 0, sum(fragment.num_rows for fragment in fragments)
    if promised != found:
        raise ValueError(f"the workers announced {promised} patches and wrote {found}: nothing was committed")
    frames = frame_rows(written)
    rows = ledger_rows(videos, written, frames, stamp | {"patches_version": 0})  # before anything is written: it refuses what is not whole
    with locked(tables, "commit") as inherited:
        if inherited:
            sweep(tables)
        again = not set(tables.ledger()["video_id"].to_pylist()).isdisjoint(ids)
        version = replace(tables, "patches", fragments, ids, again)
        replace(tables, "frames", fragments_of(tables.address("frames.lance"), frames), ids, again)
        rows = at_version(rows, version)
        enter(tables, rows)
    return rows


def at_version(rows: pa.Table, version: int) -> pa.Table:
    place = rows.schema.get_field_index("patches_version")
    return rows.set_column(place, rows.schema.field(place), pa.array([version] * len(rows), pa.int64()))


def sweep(tables: Tables) -> None:
    """Remove the rows of videos that are in no ledger: those of a run that died before it was done."""
    known = set(tables.ledger()["video_id"].to_pylist())
    for table in ("patches", "frames"):
        found = tables.open(table).to_table(columns=["video_id"])["video_id"].unique().to_pylist()
        if lost := sorted(set(found) - known):
            tables.open(table).delete(f"video_id IN ({quoted(lost)})")


def replace(tables: Tables, table: str, fragments: list[FragmentMetadata], ids: Sequence[str], again: bool) -> int:
    """Append `fragments`, after removing the videos' earlier rows where they were taken in before; returns the version."""
    dataset = tables.open(table)
    if again:
        dataset.delete(f"video_id IN ({quoted(ids)})")
    if fragments:
        told = {"batch": uuid.uuid4().hex, "videos": json.dumps(list(ids))}
        transaction = lance.Transaction(dataset.version, lance.LanceOperation.Append(fragments), transaction_properties=told)
        dataset = lance.LanceDataset.commit(dataset.uri, transaction)
    return int(dataset.version)


def enter(tables: Tables, rows: pa.Table) -> None:
    """Write ledger rows; a row of the same video, or of the same source that could not be read before, gives way."""
    ledger = tables.open("videos")
    readable = rows.filter(pc.not_equal(pc.fill_null(rows["reason"], ""), "unreadable"))
    outdated = f"reason = 'unreadable' AND uri IN ({quoted(readable['uri'].to_pylist())})"
    if len(readable) and ledger.count_rows(outdated):
        ledger.delete(outdated)
    ledger.merge_insert("video_id").when_matched_update_all().when_not_matched_insert_all().execute(rows)


@schema.stage(reads=schema.SCORED, writes=schema.WRITTEN)
class WriteRows:
    """Write the patches of a batch as a Lance fragment that is not visible yet, and pass on one row per frame for the committer."""

    def __init__(self, uri: str) -> None:
        self.address = f"{uri.rstrip('/')}/patches.lance"
        self.columns = lance.dataset(self.address).schema

    def __call__(self, scored: pa.Table) -> pa.Table:
        patches = scored.filter(pc.is_valid(scored["patch_id"])).select(self.columns.names)
        fragments = fragments_of(self.address, patches.cast(self.columns.remove_metadata()))
        return written_rows(scored, [json.dumps(fragment.to_json()) for fragment in fragments])
