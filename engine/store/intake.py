"""Taking video in, exactly once: workers write files nobody sees, one committer makes them visible, the ledger row comes last.

The ledger names the version of the patch table that is complete; readers open that version, so rows of a run that died in between are
never read, and the next run sweeps them away. One job commits at a time; what two took in at once is there once, the later in place of
the earlier, which are equal. A commit costs what it adds: it looks at its own files, at the ledger's few fragments, and at nothing else.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.file import LanceFileReader
from lance.fragment import FragmentMetadata

from engine import growth, schema
from engine.gate import PASSED
from engine.ledger import REPLACED, apart, frame_rows, ledger_rows, written_rows
from engine.store.commits import committing, land, replace
from engine.store.lock import Lease
from engine.store.tables import Tables, first_line, fragments_of, quoted
from engine.store.tombstones import FORGOTTEN, forgotten, spared, without

UNREAD = "unread-"  # begins the id of a source whose bytes nobody knows (videos.unread)
LOOSE = 32  # small fragments of the ledger before they are joined: every look into it opens each of them
JOINED = 4096  # rows of a fragment that is left alone


def unseen(tables: Tables, sources: pa.Table) -> pa.Table:
    """The sources of which the ledger has no row with the same address, size and time: only these are read at all."""
    rows = tables.ledger().select(["uri", "size", "modified", "reason"]).to_pylist()
    seen = {(row["uri"], row["size"], row["modified"]) for row in rows if row["reason"] != "unreadable"}
    new = [(row["uri"], row["size"], row["modified"]) not in seen for row in sources.to_pylist()]
    return sources.filter(pa.array(new, pa.bool_()))


def sources(tables: Tables) -> Iterator[dict[str, Any]]:
    """The sources that the ledger has a row of, one at a time, but for those that could not be read."""
    for batch in tables.open("videos").to_batches(columns=[*schema.SOURCE.names], filter="reason IS NULL OR reason != 'unreadable'"):
        yield from batch.to_pylist()


def unknown(tables: Tables, videos: pa.Table) -> pa.Table:
    """The videos whose bytes the ledger does not know, each once."""
    earlier = entered(tables, videos) if len(videos) and tables.has("videos") else schema.VIDEOS_TABLE.empty_table()
    known = {row["video_id"] for row in earlier.to_pylist() if row["reason"] != "unreadable"}
    fresh = []
    for video_id in videos["video_id"].to_pylist():
        fresh.append(video_id not in known)
        known.add(video_id)
    return videos.filter(pa.array(fresh, pa.bool_()))


def continued(tables: Tables, videos: pa.Table) -> pa.Table:
    """The same videos (schema.VIDEO); folders of images that grew begin behind what was taken in there, or forgotten, before."""
    folders = videos.filter(pc.is_valid(videos["heads"]))
    if not len(folders):
        return videos
    taken, gone = taken_at(tables, folders), forgotten(tables)
    rows = []
    for video in (row for part in videos.to_batches(max_chunksize=1) for row in part.to_pylist()):  # one folder's many ids at a time
        earlier = taken[video["uri"]].intersection(video["heads"] or ())
        row = growth.continued(video, earlier, gone)
        rows.append(row | {"before": last_kept(tables, earlier) if row["start"] else None})
    return pa.Table.from_pylist(rows, schema.VIDEO)


def taken_at(tables: Tables, folders: pa.Table) -> Mapping[str, set[str]]:
    """The ids under which some folders, or the first of their images, were taken in, by the folder's address.

    What was refused, set aside or forgotten has no frames in the ledger, and of what became unreadable amid its images some are missing.
    """
    places, firsts = (quoted(column.to_pylist()) for column in (folders["uri"], pc.list_element(folders["heads"], 0)))
    where = f"frames > 0 AND (reason IS NULL OR reason != 'unreadable') AND (uri IN ({places}) OR video_id IN ({firsts}))"
    found = defaultdict[str, set[str]](set)
    for row in tables.open("videos").to_table(columns=["video_id", "uri"], filter=where).to_pylist():
        for place in (row["uri"], row["uri"].rpartition("/")[0]):
            found[place].add(row["video_id"])
    return found


def last_kept(tables: Tables, earlier: Collection[str]) -> int | None:
    """The number of the last image that passed the gate under one of the earlier ids of a folder, which the next one is compared with."""
    where = f"video_id IN ({quoted(earlier)})"
    frames = tables.open("frames").to_table(columns=["time_ms", "reason"], filter=where).to_pylist() if earlier else []
    return max((row["time_ms"] // 1000 for row in frames if row["reason"] in PASSED), default=None)


def commit(tables: Tables, written: pa.Table, videos: pa.Table, stamp: dict[str, str]) -> pa.Table:
    """Make a micro-batch visible: patches, then frames, then the ledger rows; returns the ledger rows.

    Of a video that comes with the reason REPLACED nothing is kept, so that it is tried again.
    """
    fragments = [FragmentMetadata.from_json(text) for text in written["fragment"].drop_null().to_pylist()]
    check_files(tables, written, fragments)
    frames = frame_rows(written)
    rows = ledger_rows(videos, written, frames, stamp | {"patches_version": 0})  # before anything is written: it refuses what is not whole
    with committing(tables) as lease:
        tables.refuse_lost("patches", fragments)  # while the lock was waited for; whoever collects lost files holds it
        earlier = entered(tables, videos)
        gone = set(earlier.filter(pc.equal(earlier["reason"], FORGOTTEN))["video_id"].to_pylist())
        if gone := gone | set(videos.filter(pc.equal(videos["reason"], REPLACED))["video_id"].to_pylist()):
            fragments, frames, rows = spared(tables, fragments, gone), without(frames, gone), without(rows, gone)
        known = earlier.filter(pc.greater(earlier["frames"], 0))["video_id"].to_pylist()
        again = f"video_id IN ({quoted(known)})" if known else ""
        version = replace(tables, "patches", fragments, again, lease)
        replace(tables, "frames", fragments_of(tables.place("frames"), frames), again, lease)
        rows = at_version(rows, version)
        enter(tables, rows, earlier, lease)
        lease.check()
    return rows


def check_files(tables: Tables, written: pa.Table, fragments: Sequence[FragmentMetadata]) -> None:
    """ValueError where the files hold other rows than the workers announced: lost, cut off, there twice or of another video."""
    ids = [patch_ids(tables, fragment) for fragment in fragments]
    promised, found = pc.sum(written["patches"]).as_py() or 0, sum(map(len, ids))
    if promised != found:
        raise ValueError(f"the workers announced {promised} patches and wrote {found}: nothing was committed")
    if not found:
        return
    patches = pa.concat_arrays(chunk for column in ids for chunk in column.chunks)
    if (distinct := len(patches.unique())) != found:
        raise ValueError(f"the workers wrote {found - distinct} of {found} patches twice: nothing was committed")
    videos = pc.struct_field(pc.extract_regex(patches, "^(?P<video>[^@]*)@"), "video").unique()
    if strange := set(videos.to_pylist()) - set(written["video_id"].to_pylist()):
        raise ValueError(f"the workers wrote patches of {len(strange)} videos that they did not announce: nothing was committed")


def patch_ids(tables: Tables, fragment: FragmentMetadata) -> pa.ChunkedArray:
    """The ids in a fragment, as its file has them; OSError where the file is not there, ValueError where it has another number of rows."""
    try:
        file = LanceFileReader(f"{tables.place('patches')}/data/{fragment.files[0].path}", columns=["patch_id"])
        ids = file.read_all().to_table()["patch_id"]
    except (OSError, ValueError) as error:
        raise OSError(f"a file that a worker wrote cannot be read, nothing was committed: {first_line(error)}") from error
    if len(ids) != fragment.physical_rows:
        raise ValueError(f"a worker announced a file of {fragment.physical_rows} patches, it has {len(ids)}: nothing was committed")
    return ids


def at_version(rows: pa.Table, version: int) -> pa.Table:
    """The same rows with the version of the patch table that they came in with."""
    place = rows.schema.get_field_index("patches_version")
    return rows.set_column(place, rows.schema.field(place), pa.array([version] * len(rows), pa.int64()))


# -- the ledger -----------------------------------------------------------------------------------------------------------------


def entered(tables: Tables, videos: pa.Table) -> pa.Table:
    """The ledger rows of the same videos, and of the same sources where they could not be read before, set aside for it or not."""
    same = f"video_id IN ({quoted(videos['video_id'].to_pylist())})"
    shut = f"(reason = 'unreadable' OR starts_with(video_id, '{UNREAD}'))"
    return tables.open("videos").to_table(filter=f"{same} OR ({shut} AND uri IN ({quoted(videos['uri'].to_pylist())}))")


def was_shut(row: Mapping[str, Any]) -> bool:
    """Whether a ledger row is of a source that could not be read: it has no bytes, so it stands for that address alone."""
    return bool(row["reason"] == "unreadable") or str(row["video_id"]).startswith(UNREAD)


def enter(tables: Tables, rows: pa.Table, earlier: pa.Table, lease: Lease) -> None:
    """Write ledger rows; a row of the same video, or of the same source that could not be read before, gives way in the same commit."""
    ledger = tables.open("videos")
    if not len(rows):
        return
    if not len(earlier):
        land(ledger, lance.LanceOperation.Append(fragments_of(ledger.uri, rows)), lease)
        join(tables, lease)
        return
    outdated = opened(rows, earlier)
    merge = ledger.merge_insert("video_id").when_matched_update_all().when_not_matched_insert_all().conflict_retries(0)
    if outdated:
        merge = merge.when_not_matched_by_source_delete(f"video_id IN ({quoted(outdated)})")
    lease.check()
    merge.execute(rows)


def opened(rows: pa.Table, earlier: pa.Table) -> list[str]:
    """The ids of the earlier rows of sources that could not be read, and now, by rows or videos, can."""
    readable = {row["uri"] for row in rows.to_pylist() if row["reason"] != "unreadable"}
    return [row["video_id"] for row in earlier.to_pylist() if was_shut(row) and row["uri"] in readable]


def make_way(tables: Tables, copies: pa.Table) -> None:
    """Take out of the ledger what says of these that they could not be read, or were set aside for it: their bytes are known by now."""
    if not len(copies) or not opened(copies, entered(tables, copies)):
        return
    with committing(tables) as lease:
        if outdated := opened(copies, entered(tables, copies)):
            lease.check()
            tables.open("videos").delete(f"video_id IN ({quoted(outdated)})", conflict_retries=0)


def join(tables: Tables, lease: Lease) -> None:
    """Join the small fragments of the ledger where there are many: each commit adds one, and each look into it opens all."""
    ledger = tables.open("videos")
    if sum(fragment.metadata.physical_rows < JOINED for fragment in ledger.get_fragments()) > LOOSE:
        lease.check()
        ledger.optimize.compact_files(target_rows_per_fragment=JOINED)


@schema.stage(reads=schema.SCORED, writes=schema.WRITTEN)
class WriteRows:
    """Write the patches of a batch as a Lance fragment that is not visible yet, and pass on one row per frame for the committer.

    `batch_of` says by number which videos are committed together: of others they are kept apart, for a fragment is committed whole.
    """

    def __init__(self, uri: str, batch_of: Mapping[str, int] | None = None) -> None:
        self.address, self.batch_of = Tables(uri).place("patches"), batch_of or {}
        self.columns = lance.dataset(self.address).schema

    def __call__(self, scored: pa.Table) -> Iterator[pa.Table]:
        for _, rows in apart(scored, self.batch_of):
            yield self.written(rows)

    def written(self, scored: pa.Table) -> pa.Table:
        """Write the patches of a batch; a row per frame, in which the fragments wait for the committer."""
        patches = stored(scored.filter(pc.is_valid(scored["patch_id"]))).select(self.columns.names)
        fragments = fragments_of(self.address, patches.cast(self.columns.remove_metadata()))
        return written_rows(scored, [json.dumps(fragment.to_json()) for fragment in fragments])


def stored(patches: pa.Table) -> pa.Table:
    """The patches with what they show in columns of its own, in place of the frame's that have the same names."""
    seen = patches["appearance"]
    bare = patches.drop_columns([field.name for field in schema.APPEARANCE if field.name in patches.column_names])
    for field in schema.APPEARANCE:
        bare = bare.append_column(field, pc.struct_field(seen, field.name))
    return bare
