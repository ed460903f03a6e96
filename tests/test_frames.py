"""Any video in, kept and de-identified frames out; whatever is wrong is a row with a reason."""

import shutil
import struct
import wave
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clip, decode, frames, gate, pictures, schema, videos
from engine.config import FramesConfig
from tests.test_content import on_panel, tissue

DATA = Path(__file__).resolve().parent.parent / "../shared/data/video"
OPEN = {"min_sharpness": 0, "min_brightness": 0, "max_glare": 1, "min_tissue": 0, "min_change": 0}


HOW = {"codec": "libx264", "rate": 25, "gop": 12, "bframes": 0, "fmt": None, "pix": "yuv420p", "turn": None, "x264": ""}


def no_text(image, part):
    return []


def scene(number, height=96, width=128):
    """A picture that tells its number: mucosa whose upper left corner holds it in grey levels."""
    return np.clip(tissue(height, width, seed=number % 7).astype(int) + 3 * (number % 20), 0, 255).astype(np.uint8)


def write(path, count=60, *, pts=None, size=(96, 128), **how):
    """A clip of `count` scenes; `pts` in 1/1000 s where the rate is not constant, `how` of HOW or for the muxer."""
    way = {**HOW, **{name: how.pop(name) for name in HOW if name in how}}
    with av.open(str(path), "w", format=way["fmt"], options={name: str(value) for name, value in how.items()}) as container:
        stream = container.add_stream(way["codec"], rate=way["rate"])
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *size, way["pix"], way["gop"]
        if way["codec"] == "libx264":
            stream.options = {
                "preset": "ultrafast",
                "sc_threshold": "0",
                "bf": str(way["bframes"]),
                "keyint_min": str(way["gop"]),
                "x264-params": way["x264"],
            }
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if way["turn"] is not None:
            stream.set_display_rotation(way["turn"])
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(scene(number, *size), format="rgb24")
            frame.time_base = Fraction(1, way["rate"]) if pts is None else Fraction(1, 1000)
            frame.pts = number if pts is None else pts[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def config(**knobs):
    return FramesConfig(**{**OPEN, "min_side": 16, **knobs})


def identified(*uris):
    rows = [{"uri": str(uri), "size": 1, "modified": ""} for uri in uris]
    return next(videos.IdentifyVideos()(pa.Table.from_pylist(rows, schema.SOURCE)))


def rows_of(*uris, find_text=no_text, **knobs):
    stage = frames.DecodeFrames(config(**knobs), find_text)
    return [row for table in stage(identified(*uris)) for row in table.to_pylist()]


def verdict(*uris, **knobs):
    found = rows_of(*uris, **knobs)
    assert found[-1]["frame_id"] is None
    return found[-1]["reason"]


def picture(row):
    return np.frombuffer(row["image"], np.uint8).reshape(row["frame_height"], row["frame_width"], 3)


def straight(path):
    """(pts, time base, RGB) of every frame, by PyAV alone."""
    with av.open(str(path)) as container:
        return [(frame.pts, frame.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def on_grid(found, every):
    """The first frame at or after every k * every seconds, said in another way than the engine does."""
    chosen = []
    for k in range(10_000):
        later = [one for one in found if (one[0] - found[0][0]) * one[1] >= k * Fraction(str(every))]
        if not later:
            return chosen
        if not chosen or later[0][0] != chosen[-1][0]:
            chosen.append(later[0])
    raise AssertionError("the clip is too long for this")


def jittered(count, shift=0):
    steps = np.random.default_rng(0).choice([7, 20, 40, 41, 160], count)
    return (shift + np.cumsum(steps)).tolist()


CLIPS = {
    "short gop": ("a.mp4", {"gop": 5}),
    "long gop": ("a.mp4", {"gop": 250}),
    "b-frames": ("a.mp4", {"gop": 10, "bframes": 3}),
    "open gop": ("a.mp4", {"gop": 10, "bframes": 3, "x264": "open-gop=1:b-adapt=0"}),
    "intra refresh": ("a.mp4", {"gop": 20, "x264": "intra-refresh=1", "size": (96, 640)}),
    "matroska with b-frames": ("a.mkv", {"gop": 6, "bframes": 2}),
    "shifted start": ("a.mp4", {"gop": 6, "bframes": 2, "pts": [4000 + 40 * n for n in range(60)]}),
    "negative start": ("a.mp4", {"gop": 6, "pts": [-400 + 40 * n for n in range(60)], "use_editlist": 0}),
    "variable rate": ("a.mp4", {"gop": 8, "bframes": 2, "pts": jittered(60)}),
    "variable rate, matroska": ("a.mkv", {"gop": 4, "pts": jittered(60, 900)}),
    "avi with b-frames": ("a.avi", {"codec": "mpeg4", "gop": 6}),
    "transport stream": ("a.ts", {"gop": 6, "bframes": 2}),
    "program stream": ("a.mpg", {"codec": "mpeg2video", "gop": 6}),
    "webm": ("a.webm", {"codec": "libvpx", "gop": 6}),
}


@pytest.mark.parametrize("every", [0.04, 0.3, 0.7])
@pytest.mark.parametrize("name", CLIPS)
def test_sampling_with_seeks_shows_what_a_straight_decode_shows(tmp_path, name, every):
    file, how = CLIPS[name]
    path = write(tmp_path / file, **how)
    expected = on_grid(straight(path), every)
    with path.open("rb") as opened:
        found = list(decode.sampled(opened, config(every_s=every)))
    assert [(moment.pts, moment.time_base) for moment in found] == [one[:2] for one in expected]
    assert all((moment.image == one[2]).all() for moment, one in zip(found, expected, strict=True))


@settings(max_examples=12, deadline=None)
@given(gop=st.integers(1, 30), bframes=st.integers(0, 3), every=st.sampled_from([0.08, 0.25, 0.5, 1.0]), steps=st.integers(0, 2**32 - 1))
def test_any_gop_and_any_clock_show_what_a_straight_decode_shows(tmp_path_factory, gop, bframes, every, steps):
    pts = np.cumsum(np.random.default_rng(steps).integers(1, 150, 40)).tolist()
    path = write(tmp_path_factory.mktemp("any") / "a.mkv", 40, gop=gop, bframes=bframes, pts=pts, size=(32, 48))
    with path.open("rb") as opened:
        found = [(moment.pts, moment.image.tobytes()) for moment in decode.sampled(opened, config(every_s=every))]
    assert found == [(pts, image.tobytes()) for pts, _, image in on_grid(straight(path), every)]


def test_seeks_leave_most_frames_undecoded_where_keyframes_are_dense(tmp_path):
    path = write(tmp_path / "a.mp4", 200, gop=5, size=(32, 48))
    decoded = {}
    for step in (decode.keyframe_step, lambda clip: None):
        with path.open("rb") as file:
            with clip.opened(file) as survey:
                distance = step(survey)
            with clip.opened(file) as reading:
                chosen = [pts for _, pts, _ in decode.on_the_grid(reading, config(every_s=2.0), distance)]
                decoded[distance is None] = reading.frames
    assert len(chosen) == 4
    assert decoded[True] == 200
    assert decoded[False] < 40


class LandsLate:
    """A container whose first seeks land behind the place that was asked for."""

    def __init__(self, container, late):
        self.container, self.late, self.seeks = container, late, 0

    def __getattr__(self, name):
        return getattr(self.container, name)

    def seek(self, target, **how):
        self.seeks += 1
        self.container.seek(target + (self.late if self.seeks < 3 else 0), **how)


def test_a_seek_that_lands_late_is_repeated_further_back(tmp_path):
    path = write(tmp_path / "a.mp4", 100, gop=10)
    expected = [pts for pts, *_ in on_grid(straight(path), 2)]
    with path.open("rb") as file, clip.opened(file) as reading:
        reading.container = late = LandsLate(reading.container, late=12800)
        assert [pts for _, pts, _ in decode.on_the_grid(reading, config(every_s=2), 1)] == expected
    assert late.seeks > 3


def test_a_row_tells_the_exact_time_and_an_id_made_of_it(tmp_path):
    path = write(tmp_path / "a.mp4", 12, rate=7)
    found = rows_of(path, sampling="all")[:-1]
    expected = straight(path)
    video_id = identified(path)["video_id"][0].as_py()
    for row, (pts, base, _) in zip(found, expected, strict=True):
        assert (row["pts"], Fraction(row["time_base"])) == (pts, base)
        assert row["time_ms"] == pts * base * 1000 // 1
        assert row["frame_id"] == f"{video_id}@{row['time_ms']}"


def test_milliseconds_are_rounded_down_before_zero_too():
    assert decode.Moment(-1, Fraction(1, 3), None).time_ms == -334


def test_keyframes_are_those_of_the_file(tmp_path):
    path = write(tmp_path / "a.mp4", 40, gop=10)
    with av.open(str(path)) as container:
        keys = [frame.pts for frame in container.decode(video=0) if frame.key_frame]
    assert [row["pts"] for row in rows_of(path, sampling="keyframes")[:-1]] == keys
    assert len(keys) == 4


def test_all_means_all(tmp_path):
    assert len(rows_of(write(tmp_path / "a.mp4", 33), sampling="all")) == 34


def test_a_stream_without_a_clock_is_counted(tmp_path):
    path = write(tmp_path / "a.h264", 30, rate=10, fmt="h264")
    found = rows_of(path, sampling="all")
    assert [row["pts"] for row in found[:-1]] == list(range(30))
    assert found[-1]["reason"] is None
    assert {row["time_ms"] % 40 for row in found[:-1]} == {0}  # FFmpeg takes a raw stream to have 25 frames a second


def test_two_frames_in_one_millisecond_do_not_share_an_id(tmp_path):
    found = rows_of(write(tmp_path / "a.mp4", 9, rate=3000), sampling="all")[:-1]
    assert [row["reason"] for row in found].count("same millisecond") == 6
    assert len({row["frame_id"] for row in found}) == 9


@pytest.mark.parametrize("turn", [0, 90, 180, -90])
def test_a_turned_picture_is_shown_upright(tmp_path, turn):
    path = write(tmp_path / "a.mp4", 3, turn=turn or None)
    (row, *_), (_, _, stored) = rows_of(path), straight(path)[0]
    assert (picture(row) == np.maximum(np.rot90(stored, turn // 90), 1)).all()


@pytest.mark.parametrize(
    ("size", "file", "codec", "pix"), [((77, 101), "a.mp4", "libx264", "yuv444p"), ((101, 77), "a.gif", "gif", "rgb8")]
)
def test_odd_sizes_are_kept_as_they_are(tmp_path, size, file, codec, pix):
    found = rows_of(write(tmp_path / file, 5, size=size, codec=codec, pix=pix, rate=10), sampling="all")
    assert {(row["frame_height"], row["frame_width"]) for row in found[:-1]} == {size}
    assert found[-1]["reason"] is None


def test_a_gif_is_a_video(tmp_path):
    path = write(tmp_path / "a.gif", 30, codec="gif", pix="rgb8", rate=10)
    assert [row["time_ms"] for row in rows_of(path)[:-1]] == [0, 1000, 2000]


def test_the_name_does_not_decide_what_a_file_is(tmp_path):
    path = write(tmp_path / "a.mkv", 5)
    shutil.copy(path, tmp_path / "notes.txt")
    assert [row["frame_id"] for row in rows_of(tmp_path / "notes.txt")] == [row["frame_id"] for row in rows_of(path)]


def test_an_object_in_a_store_is_decoded_like_a_file(tmp_path):
    path = write(tmp_path / "a.mp4", 30)
    fsspec.filesystem("memory").pipe("/clips/a.mp4", path.read_bytes())
    assert rows_of("memory://clips/a.mp4") == rows_of(path)


def test_odd_names_are_decoded(tmp_path):
    path = write(tmp_path / "a.mp4", 5)
    odd = tmp_path / "ä b::c\n[1].mp4"
    shutil.copy(path, odd)
    assert rows_of(odd) == rows_of(path)


# What is wrong with a video is its row's reason.


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_text_named_mp4_is_not_a_video(tmp_path):
    (tmp_path / "a.mp4").write_text("patient went home\n" * 100)
    assert verdict(tmp_path / "a.mp4") == "not a video"


def test_an_mp4_without_its_index_is_truncated(tmp_path):
    assert verdict(cut(write(tmp_path / "a.mp4"), 0.6)) == "truncated"


@pytest.mark.parametrize(("file", "how"), [("a.avi", {"codec": "mpeg4"}), ("a.mkv", {}), ("a.mp4", {"movflags": "faststart"})])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_video_cut_half_way_keeps_what_can_be_decoded(tmp_path, file, how, share):
    whole = write(tmp_path / file, 100, **how)
    complete = rows_of(whole, every_s=0.2)
    found = rows_of(cut(whole, share), every_s=0.2)
    assert complete[-1]["reason"] is None
    assert found[-1]["reason"] == "truncated"
    assert 0.2 * len(complete) < len(found) < len(complete)
    assert [row["time_ms"] for row in found[:-3]] == [row["time_ms"] for row in complete[: len(found) - 3]]


@pytest.mark.parametrize(("file", "told"), [("a.mp4", "damaged"), ("a.mkv", None)])
def test_damage_inside_leaves_the_rest_and_is_told_where_an_index_says_what_lies_there(tmp_path, file, told):
    """Matroska's reader passes over what it cannot read: README names that as a limit."""
    path = write(tmp_path / file, 100, gop=5, codec="mpeg4")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    found = rows_of(path, sampling="all")
    assert found[-1]["reason"] == told
    assert 75 < len(found) < 101


def test_a_file_without_frames_is_told(tmp_path):
    whole = write(tmp_path / "a.mkv", 3, codec="mpeg4")
    data = whole.read_bytes()
    whole.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # the header ends where the first cluster begins
    assert verdict(whole) in ("no frames", "truncated")
    assert len(rows_of(whole)) == 1


def test_sound_alone_is_no_video_stream(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    found = rows_of(tmp_path / "a.wav")
    assert [(row["reason"], row["detail"]) for row in found] == [("no video stream", "The kinds of streams in the file: audio.")]


def test_one_pixel_is_too_small(tmp_path):
    assert verdict(write(tmp_path / "a.avi", 3, codec="ffv1", size=(1, 1), pix="bgr0")) == "too small"


def test_an_encrypted_video_is_told(tmp_path):
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "0" * 32}
    assert verdict(write(tmp_path / "a.mp4", 10, **key)) == "encrypted"


def test_a_codec_nobody_knows_is_told(tmp_path):
    path = write(tmp_path / "a.avi", 5, codec="mpeg4")
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    assert verdict(path) == "unsupported codec"


def test_a_playlist_cannot_open_another_file(tmp_path, monkeypatch):
    write(tmp_path / "secret.mp4", 5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    assert [row["reason"] for row in rows_of(tmp_path / "list.mp4")] == ["not a video"]


def test_a_video_that_vanished_is_unreadable_and_no_row_tells_its_name(tmp_path):
    path = write(tmp_path / "Doe_John.mp4", 5)
    table = identified(path)
    path.unlink()
    (row,) = [row for made in frames.DecodeFrames(config(), no_text)(table) for row in made.to_pylist()]
    assert row["reason"] == "unreadable"
    assert "Doe" not in str(row)


def test_a_bad_video_passes_with_its_reason_and_the_others_go_on(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no")
    good = write(tmp_path / "good.mp4", 5)
    found = rows_of(tmp_path / "empty.mp4", tmp_path / "text.mp4", good)
    assert [(row["reason"], row["frame_id"] is None) for row in found] == [
        ("empty", True),
        ("not a video", True),
        (None, False),
        (None, True),
    ]


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 4000), junk=st.binary(min_size=1, max_size=300))
def test_any_damage_ends_in_a_verdict(tmp_path_factory, start, junk):
    path = write(tmp_path_factory.mktemp("junk") / "a.mp4", 6, size=(32, 48))
    data = bytearray(path.read_bytes())
    data[start : start + len(junk)] = junk
    path.write_bytes(data)
    found = rows_of(path, sampling="all")
    assert found[-1]["frame_id"] is None


# Image folders.


def save(folder, *images):
    folder.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    return folder


def test_a_folder_of_images_is_a_sequence_of_one_a_second(tmp_path):
    images = [scene(1, 64, 80), scene(2, 90, 70), scene(3, 64, 80)]
    found = rows_of(save(tmp_path / "seq", *images), every_s=5)
    assert [(row["time_ms"], row["pts"], row["time_base"]) for row in found[:-1]] == [(0, 0, "1/1"), (1000, 1, "1/1"), (2000, 2, "1/1")]
    assert all((picture(row) == np.maximum(image, 1)).all() for row, image in zip(found[:-1], images, strict=True))
    assert found[-1]["reason"] is None


def test_a_broken_image_is_a_rejected_frame(tmp_path):
    folder = save(tmp_path / "seq", scene(1), scene(2), scene(3))
    (folder / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    assert [row["reason"] for row in rows_of(folder)] == [None, "unreadable", None, None]


def test_an_image_that_says_it_is_larger_than_can_be_decoded_is_a_rejected_frame(tmp_path):
    folder = save(tmp_path / "seq", scene(1), scene(2))
    data = bytearray((folder / "1.png").read_bytes())
    data[16:24] = struct.pack(">LL", 60000, 60000)
    data[29:33] = struct.pack(">L", zlib.crc32(data[12:29]))
    (folder / "1.png").write_bytes(data)
    with pytest.raises(ValueError, match="are not a picture that can be decoded"):
        pictures.decode(bytes(data))
    assert [row["reason"] for row in rows_of(folder)] == [None, "unreadable", None]


def test_every_image_of_a_folder_is_searched_for_text(tmp_path):
    searched = []
    rows_of(save(tmp_path / "seq", *[scene(number) for number in range(4)]), find_text=lambda image, part: searched.append(1) or [])
    assert len(searched) == 4


# The cut, the black-out and the gate.


def film(path, images, rate=1):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        stream.options = {"crf": "12"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_the_panel_and_its_text_never_reach_an_image(tmp_path):
    mask = np.zeros((240, 320), bool)
    mask[30:210, 110:300] = True
    images = [on_panel(tissue(240, 320, seed), mask, 0) for seed in range(5)]
    for image in images:
        cv2.putText(image, "DOE JOHN", (5, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    for row in rows_of(film(tmp_path / "a.mp4", images))[:-1]:
        y0, x0, y1, x1 = row["content"]
        assert mask[y0:y1, x0:x1].all()
        assert (y1 - y0) * (x1 - x0) > 0.85 * mask.sum()


def test_text_found_is_exactly_black_in_every_frame_and_nothing_else_is(tmp_path):
    images = [tissue(240, 320, seed) for seed in range(5)]
    searched = []
    found = rows_of(film(tmp_path / "a.mp4", images), find_text=lambda image, part: searched.append(1) or [(20, 30, 50, 120)])
    for row in found[:-1]:
        black = (picture(row) == 0).all(axis=2)
        assert black[20:50, 30:120].all()
        assert black.sum() == 30 * 90
        assert (picture(row)[~black] > 0).all()
    assert len(searched) <= 3


def test_scaling_down_lets_no_rim_of_hidden_pixels_shine_through():
    image = np.full((200, 300, 3), 255, np.uint8)
    hidden = np.zeros((200, 300), bool)
    hidden[51:149, 31:77] = True
    small, covered = frames.scaled(frames.blacked(image, hidden), hidden, 100)
    assert small.shape == (67, 100, 3)
    assert ((small == 0).all(axis=2) == covered).all()
    assert (small[~covered] == 255).all()


def test_the_longest_side_is_what_was_asked_for_after_the_cut(tmp_path):
    found = rows_of(film(tmp_path / "a.mp4", [tissue(240, 320, seed) for seed in range(3)]), longest_side=64)
    assert {(row["frame_height"], row["frame_width"]) for row in found[:-1]} == {(48, 64)}
    assert {tuple(row["content"]) for row in found[:-1]} == {(0, 0, 240, 320)}


def test_each_fault_has_its_reason_and_numbers_stand_beside_it(tmp_path):
    plain = tissue(240, 320, 1)
    spotted = tissue(240, 320, 2)
    spotted[:120] = 250
    scenes = {
        None: plain,
        "near duplicate": plain,
        "dark": (tissue(240, 320, 3) // 20).astype(np.uint8),
        "glare": spotted,
        "out of body": np.repeat(tissue(240, 320, 4)[..., 1:2], 3, axis=2),
        "blurred": cv2.GaussianBlur(tissue(240, 320, 5), (0, 0), 25),
    }
    stage = frames.DecodeFrames(FramesConfig(), no_text)
    found = [row for table in stage(identified(film(tmp_path / "a.mp4", list(scenes.values())))) for row in table.to_pylist()]
    assert [row["reason"] for row in found] == [*scenes, None]
    assert all(None not in (row["sharpness"], row["brightness"], row["glare"], row["tissue"]) for row in found[:-1])
    assert [row["image"] is None for row in found[:-1]] == [False, True, True, True, True, True]
    assert found[0]["change"] is None


def test_what_stands_still_is_kept_once(tmp_path):
    stage = frames.DecodeFrames(FramesConfig(), no_text)
    found = [row for table in stage(identified(film(tmp_path / "a.mp4", [tissue(240, 320)] * 4))) for row in table.to_pylist()]
    assert [row["reason"] for row in found] == [None, *["near duplicate"] * 3, None]


def test_change_is_measured_to_the_last_kept_frame_not_to_the_last_one():
    quiet = FramesConfig(min_change=0.05, min_sharpness=0)
    kept = gate.measure(tissue(128, 128, 0), np.zeros((128, 128), bool), None)
    drift = [np.clip(tissue(128, 128, 0).astype(int) + 6 * k, 0, 255).astype(np.uint8) for k in range(1, 4)]
    verdicts = [gate.reason(gate.measure(image, np.zeros((128, 128), bool), kept.thumb), quiet) for image in drift]
    assert [verdict and verdict[0] for verdict in verdicts] == ["near duplicate", "near duplicate", None]


def test_hidden_pixels_count_in_no_number():
    image = tissue(256, 256)
    hidden = np.zeros((256, 256), bool)
    hidden[:, :100] = True
    masked = frames.blacked(image, hidden)
    whole = gate.measure(frames.blacked(image[:, 100:], hidden[:, 100:]), hidden[:, 100:], None)
    found = gate.measure(masked, hidden, None)
    for name in ("brightness", "glare", "tissue"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name), abs=0.01)
    assert gate.measure(masked, np.ones((256, 256), bool), None) is None


def test_brightness_and_sharpness_are_those_of_opencv():
    image = tissue(256, 200)
    found = gate.measure(image, np.zeros((256, 200), bool), None)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert found.brightness == pytest.approx(grey.mean() / 255, abs=1e-6)
    assert found.sharpness == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var(), rel=1e-4)


def test_a_picture_with_nothing_left_to_see_has_no_content(tmp_path):
    found = rows_of(film(tmp_path / "a.mp4", [tissue(96, 128, seed) for seed in range(3)]), find_text=lambda image, part: [(0, 0, 96, 128)])
    assert [row["reason"] for row in found] == ["no content"] * 3 + [None]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "reason", "least"),
    [
        ("endoscope_hand_not_invivo.avi", "out of body", 0.9),
        ("laryngoscopy_1.gif", "near duplicate", 0.8),
        ("colonoscopy_polyp1.mp4", None, 0.8),
        ("autolaparo_up1.mp4", None, 0.8),
        ("with_burnt_in_overlay/colonoscopy_tracker_474f.mp4", None, 0.8),
        ("with_burnt_in_overlay/colonoscopy_toandx_sidebyside.mp4", "out of body", 0.9),
    ],
)
def test_the_gate_tells_real_colons_from_a_hand_and_from_painted_ones(name, reason, least):
    path = DATA / name
    if not path.exists():
        pytest.skip("../shared/data is absent")
    stage = frames.DecodeFrames(FramesConfig(every_s=0.5), no_text)
    found = [row["reason"] for table in stage(identified(path)) for row in table.to_pylist()]
    assert found[-1] is None
    assert found[:-1].count(reason) >= least * (len(found) - 1)


# The stage as a whole.


def test_rows_do_not_depend_on_the_batch(tmp_path):
    paths = [write(tmp_path / f"{gop}.mp4", 30, gop=gop) for gop in (3, 7, 30)]
    assert rows_of(*paths) == [row for path in paths for row in rows_of(path)]


def test_tables_hold_at_most_64_mb_of_pixels():
    blank = dict.fromkeys(schema.FRAME.names)
    rows = ({**blank, "video_id": "v", "image": bytes(30 << 20)} for _ in range(5))
    made = list(frames.tables(rows))
    assert [table.num_rows for table in made] == [2, 2, 1]


def test_the_first_table_comes_before_the_video_is_read_to_its_end():
    read = []
    blank = dict.fromkeys(schema.FRAME.names)

    def rows():
        for number in range(6):
            read.append(number)
            yield {**blank, "video_id": "v", "image": bytes(40 << 20)}

    next(frames.tables(rows()))
    assert read == [0, 1]


def test_moments_come_in_pairs_and_a_fault_after_the_last():
    def moments():
        yield from "abc"
        raise clip.VideoError("truncated", "The end.")

    pairs = frames.with_next(moments())
    assert [next(pairs) for _ in range(3)] == [("a", "b"), ("b", "c"), ("c", None)]
    with pytest.raises(clip.VideoError):
        next(pairs)
