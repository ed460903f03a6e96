"""What is shown of a video is what the store would keep of it, and only while the file is the one that was taken in."""

import io
from collections import OrderedDict
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pytest

from engine import simulate, videos
from engine.browser.footage import HELD, Footage, between, is_inside
from engine.config import Config, FramesConfig
from engine.decode import sampled
from engine.frames import DecodeFrames
from engine.pictures import decode
from engine.schema import VIDEO

USUAL = FramesConfig()
SIZE = {"height": 240, "width": 280}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("footage") / "a.mp4"
    simulate.write_clip(path, 3, seconds=3.0, **SIZE)
    return path


class Ledger:
    """The two tables of a store that footage asks, for one video and the frames that the engine's own stage made of it."""

    def __init__(self, path, limits=USUAL, find_text=None):
        self.name = videos.content_hash(str(path))
        source = {"video_id": self.name, "uri": str(path), "size": 1, "modified": "1", "reason": None, "detail": None}
        stage = DecodeFrames(limits, find_text or (lambda image, part: []))
        made = [row for table in stage(pa.Table.from_pylist([source], VIDEO)) for row in table.to_pylist()]
        self.frames = [row for row in made if row["frame_id"]]
        self.source = source

    def open(self, table):
        return Rows(pa.Table.from_pylist(self.frames) if table == "frames" else pa.Table.from_pylist([self.source], VIDEO))


class Rows:
    def __init__(self, table):
        self.table = table

    def to_table(self, filter="", columns=None):
        kept = [
            row
            for row in self.table.to_pylist()
            if all(str(row[name]) in filter for name in ("video_id", "frame_id") if f"{name} =" in filter)
        ]
        found = pa.Table.from_pylist(kept, self.table.schema)
        return found.select(columns) if columns else found


@pytest.fixture(scope="module")
def ledger(clip):
    return Ledger(clip)


def footage(ledger, limits=USUAL, find_text=None):
    return Footage(ledger, lambda video_id: limits, find_text or (lambda image, part: []))


def kept(ledger):
    return [row for row in ledger.frames if row["reason"] is None]


def test_a_kept_frame_is_shown_as_the_engine_cut_it(ledger):
    row = kept(ledger)[0]
    stored = np.frombuffer(row["image"], np.uint8).reshape(row["frame_height"], row["frame_width"], 3)
    shown = decode(footage(ledger).frame(row["frame_id"]))
    assert shown.shape == stored.shape
    there = (stored > 0).any(2) & (shown > 8).any(2)
    assert there.mean() > 0.8
    assert np.abs(shown.astype(int) - stored.astype(int))[there].mean() < 4  # JPEG


def test_nothing_outside_the_endoscopes_picture_and_no_text_is_shown(ledger):
    row = kept(ledger)[0]
    top, left, bottom, right = row["content"]
    text = (10, 10, 60, 90)
    shown = decode(footage(ledger, find_text=lambda image, part: [text]).frame(row["frame_id"]))
    assert shown.shape[:2] == (bottom - top, right - left) != (SIZE["height"], SIZE["width"])
    assert shown[14:56, 14:86].max() < 40


def test_text_that_is_found_in_one_moment_is_hidden_in_all_of_the_clip(ledger):
    calls = []

    def once(image, part):
        calls.append(part)
        return [(10, 10, 60, 90)] if len(calls) == 2 else []

    row = kept(ledger)[0]
    pictures = played(footage(ledger, find_text=once).clip(row["frame_id"]))
    assert len(calls) >= 2
    assert len(pictures) > 10
    assert all(image[16:54, 16:84].max() < 60 for image in pictures)


def played(content):
    with av.open(io.BytesIO(content)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_what_the_gate_finds_outside_the_body_stays_black_in_a_clip(ledger):
    row = kept(ledger)[0]
    shown = played(footage(ledger).clip(row["frame_id"]))
    assert max(image.mean() for image in shown) > 30
    strict = played(footage(ledger, limits=FramesConfig(min_tissue=1.0)).clip(row["frame_id"]))
    assert len(strict) == len(shown)
    assert max(image.mean() for image in strict) < 5
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert not is_inside(grey, FramesConfig())


def test_rejected_frames_are_not_shown(clip):
    ledger = Ledger(clip, FramesConfig(min_sharpness=1e9))
    with pytest.raises(LookupError, match="was rejected"):
        footage(ledger).frame(ledger.frames[0]["frame_id"])


def test_a_file_with_other_bytes_or_none_shows_nothing(clip, tmp_path):
    path = tmp_path / "b.mp4"
    path.write_bytes(clip.read_bytes())
    ledger = Ledger(path)
    name, shown = kept(ledger)[0]["frame_id"], footage(ledger)
    assert shown.frame(name)
    path.write_bytes(clip.read_bytes() + b"x")
    with pytest.raises(LookupError, match="other bytes"):
        shown.frame(name)
    path.unlink()
    for ask in (shown.frame, shown.clip):
        with pytest.raises(LookupError, match="not where it was") as refused:
            ask(name)
        assert str(path) not in str(refused.value)


def test_what_others_ask_for_meanwhile_lets_go_of_what_is_kept_and_not_of_the_answer(ledger):
    class Crowded(OrderedDict):
        """What is kept while many others ask for other frames: theirs come behind each."""

        def __setitem__(self, place, content):
            super().__setitem__(place, content)
            for number in range(HELD):
                super().__setitem__(number, b"of another")

    shown = footage(ledger)
    shown.made = Crowded()
    assert decode(shown.frame(kept(ledger)[0]["frame_id"])).any()
    assert len(shown.made) == HELD


def test_moments_around_one_are_those_of_a_straight_decode(clip):
    with clip.open("rb") as file:
        every = {one.pts: one.image for one in sampled(file, Config().frames.model_copy(update={"sampling": "all"}))}
        base = next(iter(sampled(file, Config().frames))).time_base
        middle = sorted(every)[len(every) // 2 + 3]
        found = list(between(file, (middle, base), Fraction(1), Fraction(1, 5)))
    assert middle in [one.pts for one in found]
    assert all(np.array_equal(one.image, every[one.pts]) for one in found)
    assert all(abs(one.pts - middle) * base <= 1 for one in found)
    assert 9 <= len(found) <= 13
