"""DICOM objects in the flow: film and pictures in time, faults as rows, and no word of a patient anywhere."""

import io
import logging
import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine import decode, dicom, frames, simulate, videos
from engine.clip import Clock
from engine.config import FramesConfig, PatchesConfig
from engine.dicom import elements
from engine.dicom.clocks import clock_of
from engine.dicom.elements import Tags
from engine.patches import ProposePatches
from tests import dicoms
from tests.dicoms import H264, HEVC, JPEG, MARKER, MPEG2, described, encapsulated, native, offsets, split
from tests.test_frames import config, identified, no_text, on_grid, picture, rows_of, scene

ROOT = Path(__file__).resolve().parent.parent


def scenes(count, height=48, width=64):
    return [scene(number, height, width) for number in range(count)]


def nameless(rows):
    """Rows but for what is made of the video's id."""
    return [{name: value for name, value in row.items() if name not in ("video_id", "frame_id", "patch_id")} for row in rows]


def verdict(path, **how):
    found = rows_of(path, sampling="all", **how)
    return found[-1]["reason"], len(found) - 1


def jpegs(path, count=10, delimiter=True, table=False, size=(48, 64), **tags):
    parts = [dicoms.jpeg(image) for image in scenes(count, *size)]
    data = described(*size, **{"NumberOfFrames": count, "PhotometricInterpretation": "YBR_FULL_422", **tags})
    return encapsulated(path, data, JPEG, parts, offsets(parts, range(count)) if table else (), delimiter)


# Film.


FILMS = {
    "mp4": (H264, "mp4", "libx264", {}),
    "transport stream": ("1.2.840.10008.1.2.4.103", "mpegts", "libx264", {}),
    "transport stream of MPEG-2": ("1.2.840.10008.1.2.4.101.1", "mpegts", "mpeg2video", {}),
    "program stream": (MPEG2, "mpeg", "mpeg2video", {}),
    "HEVC": (HEVC, "mp4", "libx265", {"x265-params": "log-level=none"}),
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", FILMS)
def test_film_is_what_the_file_in_it_is(tmp_path, name, whole):
    syntax, form, codec, options = FILMS[name]
    payload = dicoms.stream(scenes(30, 96, 128), form, codec, **options)
    (tmp_path / "bare").write_bytes(payload)
    parts = [payload] if whole else split(payload, *range(0, len(payload), 1001))
    tags = {"NumberOfFrames": 30, "FrameTime": "100", "PhotometricInterpretation": "YBR_PARTIAL_420"}
    path = encapsulated(tmp_path / "film", described(96, 128, **tags), syntax, parts, [0] if whole else ())
    for how in ({"sampling": "all"}, {"every_s": 0.3}, {"sampling": "keyframes"}):
        found, expected = rows_of(path, **how), rows_of(tmp_path / "bare", **how)
        assert nameless(found) == nameless(expected)
        assert len(found) > 3
        assert {row["video_id"] for row in found} == set(identified(path)["video_id"].to_pylist())


def times(path, **how):
    return [Fraction(row["time_base"]) * row["pts"] for row in rows_of(path, **{"sampling": "all"} | how)[:-1]]


@pytest.mark.parametrize(("form", "codec"), [("h264", "libx264"), ("mpegvideo", "mpeg2video"), ("hevc", "libx265")])
def test_a_bare_stream_is_timed_by_the_tags_around_it(tmp_path, form, codec):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    payload = dicoms.stream(scenes(20, 96, 128), form if form != "mpegvideo" else "mpeg2video", codec, **options)
    path = encapsulated(tmp_path / "a", described(NumberOfFrames=20, FrameTime="33.37"), H264, [payload])
    assert times(path) == [number * Fraction(3337, 100_000) for number in range(20)]
    sampled = times(path, sampling="seconds", every_s=0.2)
    assert sampled == [number * Fraction(3337, 100_000) for number in (0, 6, 12, 18)]


def test_a_bare_stream_without_tags_has_the_rate_of_its_own_header(tmp_path):
    path = encapsulated(tmp_path / "a", described(), H264, [dicoms.stream(scenes(8, 96, 128), "h264", rate=10)])
    assert times(path) == [Fraction(number, 10) for number in range(8)]


def test_a_film_needs_no_pydicom(tmp_path):
    path = encapsulated(tmp_path / "a", described(), H264, [dicoms.stream(scenes(8, 96, 128), "mp4")])
    code = f"""
import sys
from engine import decode, frames
from engine.config import FramesConfig
with open({str(path)!r}, "rb") as file:
    assert len(list(decode.sampled(file, FramesConfig(sampling="all")))) == 8
sys.exit("pydicom" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# Time.


def clock(count=None, order="<", **tags):
    """Of tags as text."""
    names = {"time": elements.FRAME_TIME, "vector": elements.FRAME_TIMES, "cine": elements.CINE_RATE, "display": elements.DISPLAY_RATE}
    found = Tags(order, {names[name]: text.encode() for name, text in tags.items() if name != "pointer"})
    if "pointer" in tags:
        found.values[elements.INCREMENT] = struct.pack(f"{order}HH", *tags["pointer"])
    return clock_of(found, count)


@pytest.mark.parametrize(
    ("tags", "base"),
    [
        ({"time": "40", "cine": "30"}, Fraction(1, 25)),
        ({"time": "33.3667 "}, Fraction(333667, 10_000_000)),
        ({"time": "+4.0E1"}, Fraction(1, 25)),
        ({"cine": "30"}, Fraction(1, 30)),
        ({"time": "0", "cine": "30"}, Fraction(1, 30)),
        ({"time": "-40", "cine": "0", "display": "50"}, Fraction(1, 50)),
        ({"time": "1E999999999", "display": "50"}, Fraction(1, 50)),
        ({"time": "1E-999999999", "display": "50"}, Fraction(1, 50)),
        ({"time": "0.0001"}, None),
        ({"time": "3600001"}, None),
        ({"time": "nan"}, None),
        ({"time": "inf"}, None),
        ({"time": "40 ms"}, None),
        ({"time": "", "cine": ""}, None),
        ({"cine": "1001"}, None),
        ({}, None),
    ],
)
def test_the_first_tag_that_makes_sense_tells_the_time(tags, base):
    assert clock(**tags) == (base and Clock(base))


def test_a_vector_of_times_is_summed_exactly():
    found = clock(4, vector="0\\33.3\\33.4\\40")
    assert [found.at(number) * found.base * 1000 for number in range(4)] == [0, Fraction("33.3"), Fraction("66.7"), Fraction("106.7")]
    assert found.at(4) > found.at(3)  # a stream may hold more frames than were timed


@pytest.mark.parametrize("vector", ["0\\40", "0\\40\\-40", "0\\0\\0", "0\\40\\nan", "0\\40\\1E99", "\\\\", "0\\40\\" + "1." + "1" * 60])
def test_a_vector_that_makes_no_sense_is_passed_over(vector):
    assert clock(3, vector=vector, cine="10") == Clock(Fraction(1, 10))


@pytest.mark.parametrize("order", "<>")
def test_the_pointer_says_whether_the_vector_counts(order):
    tags = {"time": "40", "vector": "0\\50"}
    assert clock(2, order, **tags) == Clock(Fraction(1, 25))
    assert clock(2, order, pointer=(0x18, 0x1063), **tags) == Clock(Fraction(1, 25))
    assert clock(2, order, pointer=(0x18, 0x1065), **tags).at(1) == 50


@settings(max_examples=60)
@given(
    steps=st.lists(st.integers(1, 4000), min_size=2, max_size=30),
    every=st.sampled_from([0.08, 0.25, 0.7, 1.0]),
    sampling=st.sampled_from(["seconds", "all", "keyframes"]),
)
def test_pictures_are_sampled_as_film_is(tmp_path_factory, steps, every, sampling):
    path = tmp_path_factory.mktemp("sampled") / "a"
    images = [np.full((16, 16, 3), number, np.uint8) for number in range(len(steps))]
    vector = [0, *(step / 10 for step in steps[1:])]
    if any(step < 10 for step in steps[1:]):
        vector = [0, *(step + 1 for step in steps[1:])]
    data = described(16, 16, NumberOfFrames=len(steps), FrameTimeVector=[str(step) for step in vector])
    native(path, data, b"".join(image.tobytes() for image in images))
    all_of_them = [(number, Fraction(1), image) for number, image in enumerate(images)]
    with path.open("rb") as file:
        source = dicom.read(file)
        stamps = [(source.clock.at(number), source.clock.base, image) for number, _, image in all_of_them]
        found = list(decode.sampled(file, config(every_s=every, sampling=sampling)))
    expected = on_grid(stamps, every) if sampling == "seconds" else stamps
    assert [(moment.pts, moment.image.tobytes()) for moment in found] == [(pts, image.tobytes()) for pts, _, image in expected]
    assert source.clock.at(len(steps) - 1) * source.clock.base * 1000 == sum(Fraction(str(step)) for step in vector)


def test_pictures_without_a_time_come_one_a_second_as_those_of_a_folder(tmp_path):
    assert times(jpegs(tmp_path / "a", 3)) == [0, 1, 2]


def test_glimpses_are_spread_over_all_the_pictures(tmp_path):
    with jpegs(tmp_path / "a", 19).open("rb") as file:
        found, source = decode.glimpses(file), dicom.read(file)
        assert len(found) == 8
        assert all((image == source.picture(number)).all() for image, number in zip(found, (1, 3, 5, 8, 10, 13, 15, 17), strict=True))


# What is wrong is a row.


UNSUPPORTED = {
    "1.2.840.10008.1.2.4.94": "JPIP Referenced",
    "1.2.840.10008.1.2.7.1": "SMPTE ST 2110-20 Uncompressed Progressive Active Video",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000 Image Compression",
    "1.2.3.4.5": "something that DICOM's dictionary does not have",
}


@pytest.mark.parametrize("syntax", UNSUPPORTED)
def test_a_transfer_syntax_without_decoder_is_named(tmp_path, syntax):
    (row,) = rows_of(encapsulated(tmp_path / "a", described(), syntax, [b"1234"]))
    assert row["reason"] == "unsupported transfer syntax"
    assert row["detail"] == f"The pixels are stored as {UNSUPPORTED[syntax]}, for which there is no decoder here."


def without_pixels(path, **tags):
    path.write_bytes(dicoms.head(described(**tags), dicoms.EXPLICIT))
    return path


def test_objects_without_pictures_are_told(tmp_path):
    assert verdict(without_pixels(tmp_path / "a")) == ("no pixel data", 0)
    assert verdict(without_pixels(tmp_path / "a", EncapsulatedDocument=b"%PDF")) == ("encapsulated document", 0)
    assert verdict(without_pixels(tmp_path / "a", EncryptedAttributesSequence=[])) == ("encrypted", 0)
    assert verdict(encapsulated(tmp_path / "a", described(), JPEG, [])) == ("no frames", 0)
    assert verdict(encapsulated(tmp_path / "a", described(), H264, [])) == ("no frames", 0)
    assert verdict(encapsulated(tmp_path / "a", described(), H264, [b"no film at all" * 100])) == ("not a video", 0)


def test_encrypted_attributes_beside_pictures_do_no_harm(tmp_path):
    assert verdict(jpegs(tmp_path / "a", 3, EncryptedAttributesSequence=[])) == (None, 3)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Rows": None}, "damaged"),
        ({"Columns": 0}, "damaged"),
        ({"BitsAllocated": 24, "BitsStored": 24}, "unsupported pixels"),
        ({"BitsStored": 9}, "unsupported pixels"),
        ({"SamplesPerPixel": 4}, "unsupported pixels"),
        ({"PhotometricInterpretation": MARKER}, "unsupported pixels"),
        ({"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}, "unsupported pixels"),
        ({"Rows": 65535, "Columns": 65535}, "too large"),
        ({"Rows": 49}, "truncated"),
        ({"NumberOfFrames": 2}, "truncated"),
    ],
)
def test_a_shape_that_cannot_be_is_told(tmp_path, tags, reason):
    path = native(tmp_path / "a", described(**tags), bytes(48 * 64 * 3))
    (row, *_) = reversed(rows_of(path))
    assert row["reason"] == reason
    assert MARKER not in str(row)


def test_a_few_bytes_that_claim_to_be_millions_of_large_frames_are_told(tmp_path):
    rle = struct.pack("<16L", 3, 64, 66, 68, *[0] * 12) + b"\x81\x00" * 3
    path = encapsulated(tmp_path / "a", described(8000, 8000, NumberOfFrames=2**31 - 1), "1.2.840.10008.1.2.5", [rle])
    reason, count = verdict(path)
    assert (reason, count) == ("truncated", 0)


@pytest.mark.parametrize("table", [True, False])
def test_a_sequence_that_is_cut_anywhere_keeps_the_pictures_before(tmp_path, table):
    whole = jpegs(tmp_path / "a", table=table)
    data = whole.read_bytes()
    start = data.index(b"\xff\xd8\xff")
    complete = nameless(rows_of(whole, sampling="all"))
    for place in (140, 170, start - 70, start - 12, start - 4):
        whole.write_bytes(data[:place])
        assert verdict(whole) == ("truncated", 0), place
    kept = []
    for place in [*range(start + 7, len(data), 997), len(data) - 8, len(data) - 3]:
        whole.write_bytes(data[:place])
        found = nameless(rows_of(whole, sampling="all"))
        assert found[-1]["reason"] == "truncated", place
        assert found[:-1] == complete[: len(found) - 1]
        kept.append(len(found) - 1)
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, 10)


@pytest.mark.parametrize(("form", "share"), [("h264", 0.6), ("mpegts", 0.6), ("mp4", 0.6), ("h264", 0.999)])
def test_film_that_is_cut_is_told_even_where_the_stream_does_not_show_it(tmp_path, form, share):
    path = encapsulated(tmp_path / "a", described(), H264, [dicoms.stream(scenes(40, 96, 128), form)])
    data = path.read_bytes()
    start = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xfe\xff\x00\xe0") + 4)
    path.write_bytes(data[: start + int((len(data) - start) * share)])
    reason, count = verdict(path)
    assert reason == "truncated"
    assert count == 0 if form == "mp4" else 10 < count <= 40  # of an mp4 the index comes last


def test_a_damaged_picture_is_left_out_and_the_next_one_taken(tmp_path):
    parts = [dicoms.jpeg(image) for image in scenes(6)]
    parts[2] = parts[2][:100] + bytes(60)
    data = described(NumberOfFrames=6, PhotometricInterpretation="YBR_FULL_422", FrameTime="500")
    path = encapsulated(tmp_path / "a", data, JPEG, parts)
    found = rows_of(path)
    assert [row["time_ms"] for row in found] == [0, 1500, 2000, None]
    assert (found[-1]["reason"], found[-1]["detail"]) == ("damaged", "1 frames could not be decoded; the others were kept.")


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["jpeg", "rle", "native", "film", "j2k", "ls", "deflated"]),
    start=st.integers(100, 3000),
    junk=st.binary(min_size=1, max_size=200),
)
def test_any_damage_to_an_object_ends_in_a_verdict(tmp_path_factory, kind, start, junk):
    path = tmp_path_factory.mktemp("junk") / "a"
    ANY[kind](path)
    data = bytearray(path.read_bytes())
    start = start % len(data)
    data[start : start + len(junk)] = junk
    path.write_bytes(data)
    assert rows_of(path, sampling="all")[-1]["frame_id"] is None


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["jpeg", "rle", "native", "film", "j2k", "ls", "deflated"]), share=st.floats(0, 1))
@example(kind="deflated", share=1.0)
def test_any_cut_ends_in_a_verdict(tmp_path_factory, kind, share):
    path = tmp_path_factory.mktemp("cut") / "a"
    ANY[kind](path)
    data, whole = path.read_bytes(), rows_of(path, sampling="all")
    path.write_bytes(data[: int(share * (len(data) - 1))])
    reasons = {
        "truncated",
        "not a video",
        "empty",
        "no pixel data",
    }  # the last between two elements, where nothing tells that there were more
    found = rows_of(path, sampling="all")
    if kind == "deflated" and found[-1]["reason"] is None:  # of the compressed stream only what ends it, or fills it up, is gone
        assert [row["image"] for row in found] == [row["image"] for row in whole]
    else:
        assert found[-1]["reason"] in reasons | ({"no frames"} if kind == "film" else set())


SHIPPED = {"rle": "SC_rgb_rle_2frame.dcm", "j2k": "SC_rgb_gdcm_KY.dcm", "ls": "SC_rgb_jls_lossy_line.dcm", "deflated": "image_dfl.dcm"}


def shipped(name):
    import pydicom

    return lambda path: shutil.copy(Path(pydicom.__file__).parent / "data" / "test_files" / name, path)


ANY = {kind: shipped(name) for kind, name in SHIPPED.items()} | {
    "jpeg": lambda path: jpegs(path, 3, size=(32, 40)),
    "native": lambda path: native(path, described(16, 16, NumberOfFrames=2), bytes(range(256)) * 6),
    "film": lambda path: encapsulated(path, described(), H264, split(FILM, 500, 900, 1400)),
}
FILM = dicoms.stream(scenes(6, 32, 48), "mpegts")


def nested(depth):
    """Sequences in sequences, none of which ends."""
    one = struct.pack("<HH2sHL", 0x8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return one * depth


def test_sequences_without_end_are_told(tmp_path):
    (tmp_path / "a").write_bytes(dicoms.head(described(), dicoms.EXPLICIT) + nested(100_000))
    assert verdict(tmp_path / "a") == ("damaged", 0)


# What an object is, its bytes say.


def test_the_name_does_not_decide_and_a_preamble_may_be_anything(tmp_path):
    images = scenes(1)
    for preamble in (b"II*\0" + bytes(124), b"\xff\xd8\xff" + bytes(125), bytes(128), b""):
        (tmp_path / "a.mp4").write_bytes(dicoms.head(described(), dicoms.EXPLICIT, preamble) + dicoms.uncompressed(images[0].tobytes()))
        (row, end) = rows_of(tmp_path / "a.mp4")
        assert (picture(row) == np.maximum(images[0], 1)).all()
        assert end["reason"] is None


def test_every_object_of_a_folder_is_a_source_of_its_own(tmp_path):
    for number in range(3):
        preamble = b"II*\0" + bytes(124)  # by its first bytes a TIFF
        pixels = dicoms.uncompressed(scene(number, 48, 64).tobytes())
        (tmp_path / f"{number}.dcm").write_bytes(dicoms.head(described(InstanceNumber=9 - number), dicoms.EXPLICIT, preamble) + pixels)
    found = videos.find(str(tmp_path))
    assert found["uri"].to_pylist() == [str(tmp_path / f"{number}.dcm") for number in range(3)]
    assert len(set(identified(*found["uri"].to_pylist())["video_id"].to_pylist())) == 3


def test_an_object_in_a_store_is_read_like_a_file(tmp_path):
    film = encapsulated(tmp_path / "b", described(), H264, [dicoms.stream(scenes(20, 96, 128), "mp4")])
    for path in (jpegs(tmp_path / "a", 4), film):
        fsspec.filesystem("memory").pipe("/clips/a.dcm", path.read_bytes())
        assert rows_of("memory://clips/a.dcm") == rows_of(path)


def test_burnt_in_text_is_looked_for_whatever_the_tag_says(tmp_path):
    path = jpegs(tmp_path / "a", 3, size=(96, 128), BurnedInAnnotation="NO")
    for row in rows_of(path, find_text=lambda image, part: [(10, 20, 30, 60)])[:-1]:
        assert (picture(row)[10:30, 20:60] == 0).all()


def test_frames_that_are_too_small_are_told_as_of_any_video(tmp_path):
    (row,) = rows_of(jpegs(tmp_path / "a", 2), min_side=50)
    assert (row["reason"], row["detail"]) == ("too small", "The frames have 64 x 48 pixels; frames.min_side asks for 50.")


# The patient.


def faulty(path):
    """Objects that are full of MARKER, good ones and every kind of bad one."""
    full, parts = (
        dicoms.marked(described(NumberOfFrames=2, PhotometricInterpretation="YBR_FULL_422")),
        [dicoms.jpeg(image) for image in scenes(2)],
    )
    film = [dicoms.stream(scenes(6, 96, 128), "mp4")]
    encapsulated(path / "jpeg", full, JPEG, parts)
    encapsulated(path / "damaged", full, JPEG, [parts[0], parts[1][:99]])
    encapsulated(path / "film", full, H264, film)
    encapsulated(path / "unsupported", full, "1.2.840.10008.1.2.4.94", parts)
    encapsulated(path / "private", full, MARKER, parts)
    encapsulated(path / "no film", full, H264, [MARKER.encode() * 50])
    for kind, syntax in (("implicit", dicoms.IMPLICIT), ("big", dicoms.BIG_ENDIAN), ("native", dicoms.EXPLICIT)):
        native(path / kind, dicoms.marked(described()), bytes(48 * 64 * 3), syntax)
    native(path / "colours", dicoms.marked(described(PhotometricInterpretation=MARKER)), bytes(48 * 64 * 3))
    native(path / "times", dicoms.marked(described(**UNTRUE)), bytes(48 * 64 * 3))
    (path / "nothing").write_bytes(dicoms.head(full, dicoms.EXPLICIT))
    (path / "document").write_bytes(dicoms.head(dicoms.marked(described(EncapsulatedDocument=MARKER.encode())), dicoms.EXPLICIT))
    whole = (path / "native").read_bytes()
    for place in range(300, len(whole), len(whole) // 17):
        (path / f"cut at {place}").write_bytes(whole[:place])
        (path / f"shifted at {place}").write_bytes(whole[:place] + b"\x01" + whole[place:])


UNTRUE = {"FrameIncrementPointer": 0x00181065}


def test_no_word_of_a_patient_is_in_any_row_or_log(tmp_path, caplog, capfd, recwarn):
    (tmp_path / "inbox").mkdir()
    faulty(tmp_path / "inbox")
    assert (tmp_path / "inbox" / "native").read_bytes().count(MARKER.encode()) > 1000
    recwarn.clear()  # of those that pydicom has while it writes
    with caplog.at_level(logging.DEBUG):
        tables = list(frames.DecodeFrames(config(sampling="all"), no_text)(identified(*sorted((tmp_path / "inbox").iterdir()))))
        patches = [made for table in tables for made in ProposePatches(PatchesConfig(proposer="crops"))(table)]
    sink = io.BytesIO()
    for table in [*tables, *patches]:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    out = capfd.readouterr()
    said = (
        sink.getvalue() + caplog.text.encode() + out.out.encode() + out.err.encode() + str([str(one.message) for one in recwarn]).encode()
    )
    assert MARKER.encode() not in said
    assert b"Doe" not in said
    reasons = {row["reason"] for table in tables for row in table.to_pylist() if row["frame_id"] is None}
    assert reasons >= {None, "damaged", "truncated", "unsupported transfer syntax", "not a video", "unsupported pixels", "no pixel data"}


# The whole chain.


def test_film_and_the_file_in_it_give_the_same_frames_and_patches(tmp_path):
    simulate.write_clip(tmp_path / "clip.mp4", seed=3, seconds=3, fps=25, height=240, width=280)
    payload = (tmp_path / "clip.mp4").read_bytes()
    tags = {"NumberOfFrames": 75, "FrameTime": "40", "CineRate": 25, "PhotometricInterpretation": "YBR_PARTIAL_420"}
    encapsulated(tmp_path / "film.dcm", described(240, 280, **tags), H264, split(payload, *range(0, len(payload), 60_000)))
    made = []
    for name in ("clip.mp4", "film.dcm"):
        seen = list(frames.DecodeFrames(FramesConfig(every_s=0.5))(identified(tmp_path / name)))
        cut = [out for table in seen for out in ProposePatches(PatchesConfig(proposer="regions"))(table)]
        made.append([[row for table in tables for row in table.to_pylist()] for tables in (seen, cut)])
    assert nameless(made[0][0]) == nameless(made[1][0])
    assert nameless(made[0][1]) == nameless(made[1][1])
    assert sum(row["pixels"] is not None for row in made[0][1]) > 10
    assert made[0][1][0]["video_id"] != made[1][1][0]["video_id"]
