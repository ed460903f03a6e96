"""An even draw of frames from every video; apart from `probe`, so that a process that decodes does not load what trains."""

import hashlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from engine import growth, schema
from engine.config import FramesConfig
from engine.frames import DecodeFrames


class SampleFrames:
    """Decode videos and keep of each the `count` frames whose hash with the seed is smallest: an even draw, whatever the order.

    Of videos in `forgotten` none, nor of the first images of a folder that grew after it was forgotten.
    """

    def __init__(self, config: FramesConfig, count: int, seed: int, forgotten: frozenset[str] = frozenset()) -> None:
        self.decode, self.count, self.seed, self.forgotten = DecodeFrames(config), count, seed, forgotten

    def __call__(self, videos: pa.Table) -> Iterator[pa.Table]:
        rows = [growth.continued(row, (), self.forgotten) for row in videos.to_pylist() if row["video_id"] not in self.forgotten]
        videos = pa.Table.from_pylist(rows, schema.VIDEO)
        for row in range(len(videos)):
            drawn = pa.Table.from_pylist([], schema.FRAME)
            for frames in self.decode(videos.slice(row, 1)):
                drawn = self.smallest(pa.concat_tables([drawn, frames.filter(kept(frames))]))
            yield drawn

    def smallest(self, frames: pa.Table) -> pa.Table:
        """The rows of `count` frames, by lot."""
        lots = [hashlib.sha256(f"{self.seed}:{frame_id}".encode()).digest() for frame_id in frames["frame_id"].to_pylist()]
        return frames.take(pa.array(sorted(range(len(lots)), key=lots.__getitem__)[: self.count], pa.int64()))


def kept(frames: pa.Table) -> pa.Array:
    """Which rows are frames that passed the gate."""
    return pc.and_(pc.is_valid(frames["frame_id"]), pc.is_null(frames["reason"]))
