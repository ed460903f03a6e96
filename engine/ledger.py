"""What a micro-batch came to: from the rows that went through the flow to those of the frames and of the ledger."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine import schema
from engine.gate import PASSED

REPLACED = "replaced"  # the reason of a video of which nothing is kept, since what was read and what its file holds are not the same


def written_rows(scored: pa.Table, fragments: list[str]) -> pa.Table:
    """One row per frame or video of the batch with the number of its patches; the fragments stand on the first rows."""
    numbered = scored.select(["video_id", "frame_id", "patch_id"]).append_column("row", pa.array(range(len(scored)), pa.int64()))
    counts = numbered.group_by(["video_id", "frame_id"], use_threads=False).aggregate([("row", "min"), ("patch_id", "count")])
    counts = counts.sort_by("row_min")
    rows = scored.select([field.name for field in schema.CARRIED] + ["expected"]).take(counts["row_min"])
    padded = fragments + [None] * (len(rows) - len(fragments))  # a batch makes one fragment and has one frame at least
    patches = counts["patch_id_count"].cast(pa.int32())
    return rows.append_column("patches", patches).append_column("fragment", pa.array(padded, pa.string()))


def apart(rows: pa.Table, batch_of: Mapping[str, int]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each micro-batch, by its number; those of videos that are in none count as of number 0."""
    numbers = pa.array([batch_of.get(video_id, 0) for video_id in rows["video_id"].to_pylist()], pa.int64())
    for number in sorted(numbers.unique().to_pylist()):
        yield number, rows.filter(pc.equal(numbers, number))


class Arrivals:
    """The rows that come out of a flow over many videos, in any order, gathered into micro-batches of `size` videos each."""

    def __init__(self, videos: pa.Table, size: int) -> None:
        self.batches = [videos.slice(start, size) for start in range(0, len(videos), size)]
        self.batch_of = {name: number for number, batch in enumerate(self.batches) for name in batch["video_id"].to_pylist()}
        self.written: list[list[pa.Table]] = [[] for _ in self.batches]
        self.due = [len(batch) for batch in self.batches]  # videos of which rows are still to come
        self.patches: Counter[str] = Counter()  # by frame, while some of its patches are still to come
        self.frames: Counter[str] = Counter()  # by video: whole ones that came, less those that its verdict tells of

    def whole(self, written: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, pa.Table]]:
        """(schema.VIDEO, schema.WRITTEN) of each micro-batch as soon as its last row has come; ValueError where rows never came."""
        for number, rows in (part for table in written for part in apart(table, self.batch_of)):
            self.written[number].append(rows)
            self.due[number] -= sum(self.completes(row) for row in rows.select(["video_id", "frame_id", "patches", "expected"]).to_pylist())
            if not self.due[number]:
                yield self.batches[number], pa.concat_tables(self.written[number])
                self.written[number] = []
        if any(self.due):
            lost, twice = sum(max(due, 0) for due in self.due), sum(max(-due, 0) for due in self.due)
            raise ValueError(
                f"of {lost} videos some rows never came out of the flow, of {twice} they came twice: these are not in the ledger"
            )

    def completes(self, row: dict[str, Any]) -> bool:
        """Count a row; True if it is the last of its video."""
        video_id, frame_id = row["video_id"], row["frame_id"]
        if frame_id is None:
            self.frames[video_id] -= row["expected"]
        else:
            self.patches[frame_id] += row["patches"]
            if self.patches[frame_id] < row["expected"]:
                return False
            del self.patches[frame_id]
            self.frames[video_id] += 1
        return not self.frames[video_id]  # which frames raise and the verdict lowers


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
    """The ledger rows of a micro-batch: counts from its frames, the reason from the verdict the decoder passed down.

    ValueError for a video without a verdict, which is a bug.
    """
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
    return sum(reason in PASSED for reason in frames["reason"].to_pylist())
