from collections import Counter

import pyarrow as pa
import pytest

from engine import schema, simulate
from engine.config import FramesConfig
from engine.knobs import amend
from engine.videos import IdentifyVideos, find
from jobs import probe, sampling
from jobs.recipes import tiny


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A clip of eight seconds, one of four, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    simulate.write_clip(folder / "long.mp4", 1, seconds=8.0, fps=10, height=240, width=280)
    simulate.write_clip(folder / "short.mp4", 2, seconds=4.0, fps=10, height=240, width=280)
    (folder / "words.mp4").write_text("no video\n" * 100)
    return folder


def drawn(videos, count, seed):
    sources = pa.concat_tables(IdentifyVideos()(find(str(videos))))
    frames = sampling.SampleFrames(FramesConfig(every_s=0.5), count, seed)
    return [row["frame_id"] for table in frames(sources) for row in table.to_pylist()]


def test_no_video_gives_more_frames_than_its_share_and_the_seed_decides_which(videos):
    some, again, other = (drawn(videos, 3, seed) for seed in (0, 0, 1))
    assert set(Counter(name.split("@")[0] for name in some).values()) == {3}
    assert some == again != other
    assert set(some) <= set(drawn(videos, 1000, 0))  # frames that pass the gate, and no others


def test_the_sample_is_no_larger_than_asked_and_holds_pictures_only(videos, monkeypatch):
    config = amend(tiny(), [f"videos.uri={videos}", "where=here", "probe.frames=5", "probe.crops=2", "frames.every_s=0.5"])
    sources = find(str(videos))
    sample = probe.sample_crops(config, sources)
    assert sample.column_names == ["pixels"]
    assert 0 < len(sample) <= 10
    assert all(jpeg.as_py().startswith(b"\xff\xd8") for jpeg in sample["pixels"])
    assert sample.equals(probe.sample_crops(config, sources))
    assert schema.PATCH.field("pixels").type == sample.schema.field("pixels").type
