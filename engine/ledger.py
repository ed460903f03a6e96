"""What a micro-batch came to: from the rows that went through the flow to those of the frames and of the ledger."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine import schema


def written_rows(scored: pa.Table, fragments: list[str]) -> pa.Table:
    """One row per frame or video of the batch with the number of its patches; the fragments stand on the first rows."""
    numbered = scored.select(["video_id", "frame_id", "patch_id"]).append_column("row", pa.array(range(len(scored)), pa.int64()))
    counts = numbered.group_by(["video_id", "frame_id"], use_threads=False).aggregate([("row", "min"), ("patch_id", "count")])
    counts = counts.sort_by("row_min")
    rows = scored.select([field.name for field in schema.CARRIED]).take(counts["row_min"])
    padded = fragments + [None] * (len(rows) - len(fragments))  # a batch makes one fragment and has one frame at least
    patches = counts["patch_id_count"].cast(pa.int32())
    return rows.append_column("patches", patches).append_column("fragment", pa.array(padded, pa.string()))


def frame_rows(written: pa.Table) -> pa.Table:
    """Every sampled frame once, with the patches of all batches it was spread over, in order of video and time."""
    frames = written.filter(pc.is_valid(written["frame_id"])).select(schema.FRAMES_TABLE.names).to_pylist()
    merged: dict[str, dict[str, Any]] = {}
    for row in frames:
        earlier = merged.setdefault(row["frame_id"], row | {"patches": 0})
        earlier["patches"] += row["patches"]
    rows = pa.Table.from_pylist(list(merged.values()), schema.FRAMES_TABLE)
    return rows.sort_by([("video_id", "ascending"), ("time_ms", "ascending")])


def ledger_rows(videos: pa.Table, written: pa.Table, frames: pa.Table, stamp: dict[str, Any]) -> pa.Table:
    """The ledger rows of a micro-batch: counts from its frames, the reason from the verdict the decoder passed down."""
    verdicts = {row["video_id"]: row for row in written.filter(pc.is_null(written["frame_id"])).to_pylist()}
    rows = []
    for video in videos.to_pylist():
        if video["video_id"] not in verdicts:
            raise ValueError(f"video {video['video_id']} came back without a verdict: nothing was entered in the ledger")
        mine = frames.filter(pc.equal(frames["video_id"], video["video_id"]))
        counts = {"frames": len(mine), "kept": kept(mine), "patches": pc.sum(mine["patches"]).as_py() or 0}
        verdict = {name: verdicts[video["video_id"]][name] for name in ("reason", "detail")}
        rows.append({**video, **verdict, **counts, **stamp})
    return pa.Table.from_pylist(rows, schema.VIDEOS_TABLE)


def kept(frames: pa.Table) -> int:
    """Frames that passed the gate: those without a reason, and those in which no region was found."""
    return sum(reason in (None, "no region") for reason in frames["reason"].to_pylist())
