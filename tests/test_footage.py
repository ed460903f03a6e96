"""What is shown of a video is what the store would keep of it, and only while the file is the one that was taken in."""

import io
from collections import OrderedDict
from fractions import Fraction
from typing import NamedTuple

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest

from engine import simulate, videos
from engine.browser.answers import Answers
from engine.browser.footage import HELD, Footage, between, encoded, is_inside
from engine.browser.server import program
from engine.config import Config, FramesConfig
from engine.decode import Moment, sampled
from engine.frames import DecodeFrames
from engine.knobs import amend
from engine.pictures import decode
from engine.schema import SCORED, VIDEO
from engine.store import PatchStore, WriteRows
from jobs import ingest
from jobs.recipes import tiny
from tests import dicoms, rows
from tests.browsed import get, listening
from tests.test_jobs import SMALL

USUAL = FramesConfig()
SIZE = {"height": 240, "width": 280}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("footage") / "a.mp4"
    simulate.write_clip(path, 3, seconds=3.0, **SIZE)
    return path


class Taken(NamedTuple):
    """A store with a video, and the frames that the engine's own stage made of it."""

    store: PatchStore
    frames: list


def taken_in(folder, path, limits=USUAL, find_text=None, moved=0):
    """The store has another video too, with frames at the same times; their picture lay `moved` px lower than it does."""
    table = pa.Table.from_pylist([{"video_id": videos.content_hash(str(path)), "uri": str(path), "size": 1, "modified": "1"}], VIDEO)
    made = [row for part in DecodeFrames(limits, find_text or nothing)(table) for row in part.to_pylist()]
    told = [dict.fromkeys(SCORED.names) | {name: value for name, value in row.items() if name in SCORED.names} for row in made]
    for row in filter(lambda one: one["content"], told):
        row["content"] = [row["content"][0] + moved, row["content"][1], row["content"][2] + moved, row["content"][3]]
    store = PatchStore(str(folder / "store"))
    store.create(rows.WIDTH)
    rows.take_in(store, "c3" + "0" * 30)
    store.commit(pa.concat_tables(WriteRows(store.uri)(pa.Table.from_pylist(told, rows.wide()))), table, rows.STAMP)
    return Taken(store, [row for row in made if row["frame_id"]])


def nothing(image, part):
    """No text."""
    return []


@pytest.fixture(scope="module")
def ledger(clip):
    return taken_in(clip.parent, clip)


def footage(ledger, limits=USUAL, find_text=nothing):
    return Footage(ledger.store, lambda video_id: limits, find_text)


def kept(ledger):
    return [row for row in ledger.frames if row["reason"] is None]


def test_a_kept_frame_is_shown_as_the_engine_cut_it(ledger):
    row = kept(ledger)[-1]
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


def test_a_clip_begins_with_its_first_moment_wherever_that_lies_in_the_video():
    picture = np.full((64, 64, 3), 90, np.uint8)
    with av.open(io.BytesIO(encoded([(Moment(time, Fraction(1, 1000), None), picture) for time in (5200, 5300, 5450)]))) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert np.diff(times) == pytest.approx([0.1, 0.15])
    assert times[0] < 0.5  # what H.264 keeps for frames that refer to later ones


def test_nothing_is_shown_of_a_video_whose_picture_lies_elsewhere_than_when_it_was_taken_in(clip, tmp_path):
    """What was cut away then could be in it now."""
    moved = taken_in(tmp_path, clip, moved=2)
    for ask in (footage(moved).frame, footage(moved).clip):
        with pytest.raises(LookupError, match="found elsewhere in the frame"):
            ask(kept(moved)[0]["frame_id"])


def test_rejected_frames_are_not_shown(clip, tmp_path):
    ledger = taken_in(tmp_path, clip, FramesConfig(min_sharpness=1e9))
    with pytest.raises(LookupError, match="was rejected"):
        footage(ledger).frame(ledger.frames[0]["frame_id"])


def test_a_file_with_other_bytes_or_none_shows_nothing(clip, tmp_path):
    path = tmp_path / "b.mp4"
    path.write_bytes(clip.read_bytes())
    ledger = taken_in(tmp_path, path)
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


# -- DICOM ------------------------------------------------------------------------------------------------------------------------


def objects(folder):
    """The same three seconds as H.264 in a DICOM object, bare and in MP4, as pictures for every fifth frame, and one of these alone."""
    path = folder.parent / "bare.mp4"
    simulate.write_clip(path, 3, seconds=3.0, **SIZE)
    with path.open("rb") as file:
        images = [one.image for one in sampled(file, USUAL.model_copy(update={"sampling": "all"}))]
    film = described(NumberOfFrames=len(images), FrameTime="40")
    bare = dicoms.stream(images, "h264")
    dicoms.encapsulated(folder / "film", film, dicoms.H264, dicoms.split(bare, 5000, 9000))
    dicoms.encapsulated(folder / "film-in-mp4", film, dicoms.H264, [path.read_bytes()])
    jpegs = [dicoms.jpeg(one) for one in images[::5]]
    several = described(NumberOfFrames=len(jpegs), FrameTime="200", PhotometricInterpretation="YBR_FULL_422")
    dicoms.encapsulated(folder / "pictures", several, dicoms.JPEG, jpegs)
    dicoms.encapsulated(folder / "still", described(PhotometricInterpretation="YBR_FULL_422"), dicoms.JPEG, [jpegs[3]])


def described(**tags):
    """A data set that names a patient wherever it can."""
    return dicoms.marked(dicoms.described(SIZE["height"], SIZE["width"], SpecificCharacterSet="ISO_IR 192", **tags))


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """A store that the job ingest filled with DICOM objects, and the names of its videos by their files."""
    folder = tmp_path_factory.mktemp("dicom") / "objects"
    folder.mkdir()
    objects(folder)
    config = amend(tiny(), [*SMALL, f"videos.uri={folder}", f"store.uri={folder.parent}/store"])
    ingest.run(config)
    return config, {path.name: videos.content_hash(str(path)) for path in folder.iterdir()}


@pytest.mark.parametrize(("name", "moments"), [("film", (36, 40)), ("film-in-mp4", (24, 30)), ("pictures", (15, 15)), ("still", None)])
def test_of_a_dicom_object_the_frame_and_the_seconds_are_shown_and_nothing_that_it_says_of_the_patient(ingested, name, moments):
    config, names = ingested
    store = PatchStore(config.store.uri)
    patches = store.patches(["patch_id", "frame_id", "box", "pixels"], where=f"video_id = '{names[name]}'").to_pylist()
    row = patches[len(patches) // 2]
    answers = Answers(store, config, dict, Footage(store, lambda video_id: config.frames, nothing))
    with listening(program(answers)) as base:
        status, _, jpeg = get(base, "/api/frame", id=row["frame_id"])
        assert status == 200, jpeg
        assert np.abs(cut(decode(jpeg), row, store) - small(decode(row["pixels"]))).mean() < 6
        status, _, film = get(base, "/api/clip", id=row["frame_id"])
        if moments is None:
            assert (status, b"nothing else within two seconds" in film) == (404, True)
        else:
            assert status == 200, film
            assert moments[0] <= len(played(film)) <= moments[1]
        told = [get(base, f"/api/{path}", id=one)[2] for path, one in (("patch", row["patch_id"]), ("video", names[name]))]
    assert not [one for one in (jpeg, film, *told) if dicoms.MARKER.encode() in one or b"Jane" in one]


def cut(frame, row, store):
    """What lies in a patch's box of a frame that is shown."""
    (y0, x0, y1, x1), held = row["box"], store.open("frames").to_table(filter=f"frame_id = '{row['frame_id']}'").to_pylist()[0]
    top, left = held["content"][:2]
    return small(frame[y0 - top : y1 - top, x0 - left : x1 - left])


def small(image):
    return cv2.resize(np.ascontiguousarray(image), (16, 16), interpolation=cv2.INTER_AREA).astype(int)
