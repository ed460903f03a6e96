"""A folder of images that grows is in the store once: what came later beside what was there, under another id."""

import hashlib
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import cv2
import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import flow, growth, schema
from engine.browser.footage import Footage
from engine.flow import Step
from engine.frames import DecodeFrames
from engine.knobs import amend
from engine.patches import ProposePatches
from engine.pictures import decode
from engine.store import PatchStore, WriteRows, intake, quarantine
from engine.videos import IdentifyVideos, content_hash, find, identified
from jobs import ingest
from jobs.latency import Latency
from jobs.line import Past
from jobs.recipes import tiny
from jobs.sampling import SampleFrames
from jobs.watcher import Watcher
from tests import rows
from tests.test_frames import no_text, scene
from tests.test_watcher import KNOBS, Line

EVERY = ["where=here", "patches.proposer=regions", "patches.whole_frames=true", "frames.min_sharpness=0", "frames.min_tissue=0"]


def png(number, copy=0):
    """A scene; copies of it differ in a pixel, so that they have other bytes and are near-duplicates."""
    image = scene(number)
    image[0, 0] += np.uint8(copy)
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


PNGS = [png(number) for number in range(7)]


@schema.stage(reads=schema.PATCH, writes=schema.SCORED)
class Alike:
    """Scores every patch alike, without a model."""

    def __call__(self, patches):
        seen = {field.name: 0.0 for field in schema.APPEARANCE}
        score = {"difficulty": 0.5, "embedding": np.ones(rows.WIDTH, np.float16), "scorer": "s", "appearance": seen}
        whole = dict.fromkeys(schema.SCORED.names)
        made = [whole | row | (score if row["patch_id"] else {}) for row in patches.to_pylist()]
        return pa.Table.from_pylist(made, rows.wide())


class Taken:
    """An inbox, by its address, and the store that it is taken into by the job's own path."""

    def __init__(self, place, folder="", execute=None):
        self.config = amend(tiny(), [*EVERY, f"videos.uri={folder or Path(place) / 'inbox'}", f"store.uri={place}/store"])
        self.store, self.execute = PatchStore(self.config.store.uri), execute or flow.run_here
        self.store.create(rows.WIDTH)
        if not folder:
            self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self):
        return Path(self.config.videos.uri) / "seq"

    def work(self):
        stages = [
            (DecodeFrames, (self.config.frames, no_text)),
            (ProposePatches, (self.config.patches,)),
            (Alike, ()),
            (WriteRows, (self.store.uri,)),
        ]
        return [Step(stage, arguments, batch=4) for stage, arguments in stages]

    def add(self, start, images, folder=None):
        """Images in the order of their names from this number on."""
        for number, image in enumerate(images, start):
            (folder or self.folder).joinpath(f"{number:03}.png").write_bytes(image)
        return self

    def look(self):
        """Take in what is new; its ledger rows."""
        sources = self.store.unseen(find(self.config.videos.uri))
        made = [*ingest.batches(self.config, self.store, sources, self.work(), ingest.Progress(len(sources)), self.execute)]
        return [row for table in made for row in table.to_pylist()]

    def patches(self):
        """Number, box and bytes of every patch, by number; whose video it is, is left out."""
        found = self.store.patches(["time_ms", "box", "proposer", "pixels"]).to_pylist()
        return sorted((row["time_ms"] // 1000, tuple(row["box"]), row["proposer"], hashlib.md5(row["pixels"]).hexdigest()) for row in found)

    def frames(self):
        """Number, reason and change of every frame."""
        found = self.store.open("frames").to_table().to_pylist()
        return sorted((row["time_ms"] // 1000, row["reason"] or "", row["change"] or 0) for row in found)

    def numbers(self, video_id):
        """Of the frames of one video."""
        found = self.store.open("frames").to_table(filter=f"video_id = '{video_id}'")
        return sorted(time // 1000 for time in found["time_ms"].to_pylist())


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=8), st.data())
def test_of_a_folder_the_longest_known_beginning_is_found(images, data):
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    heads = [*growth.ids(hashes)]
    by_definition = [hashlib.sha256("\n".join(hashes[:count]).encode()).hexdigest()[:32] for count in range(1, len(images) + 1)]
    assert heads == [hashes[0][:32], *by_definition[1:]]
    counts = data.draw(st.sets(st.integers(1, len(images))))
    assert growth.known(heads, {heads[count - 1] for count in counts}, {"other"}) == max(counts, default=0)


def arrivals():
    """The numbers of the scenes of a folder, some near-duplicates of others, and after how many of them somebody looks."""
    return st.lists(st.integers(0, 6), min_size=2, max_size=7).flatmap(
        lambda scenes: st.tuples(st.just(scenes), st.sets(st.integers(1, len(scenes) - 1), max_size=3))
    )


@settings(deadline=None, max_examples=8)
@given(arrivals())
def test_however_a_folder_arrives_each_image_is_stored_once_and_as_if_all_came_at_once(arrived):
    scenes, looks = arrived
    images = [png(number, place) for place, number in enumerate(scenes)]
    with TemporaryDirectory() as once, TemporaryDirectory() as piecemeal:
        whole, grown = Taken(once), Taken(piecemeal)
        whole.add(0, images).look()
        done = 0
        for look in [*sorted(looks), len(images)]:
            (row,) = grown.add(done, images[done:look]).look()
            assert (row["reason"], row["frames"]) == (None, look - done)
            done = look
        assert grown.patches() == whole.patches()
        assert grown.frames() == whole.frames()
        assert [number for number, *_ in grown.frames()] == [*range(len(images))]
        assert not grown.look()


def test_the_ledger_says_of_a_folder_that_grew_what_was_there_before_and_counts_its_own(tmp_path):
    taken = Taken(tmp_path)
    (first,) = taken.add(0, PNGS[:3]).look()
    (second,) = taken.add(3, PNGS[3:5]).look()
    (third,) = taken.add(5, PNGS[5:6]).look()
    assert first["detail"] is None
    assert second["detail"] == f"Its first 3 images were taken in before, under the id {first['video_id']}."
    assert third["detail"] == f"Its first 5 images were taken in before, under the id {second['video_id']}."
    assert [row["frames"] for row in (first, second, third)] == [3, 2, 1]
    assert [taken.numbers(row["video_id"]) for row in (first, second, third)] == [[0, 1, 2], [3, 4], [5]]
    assert third["video_id"] == content_hash(str(taken.folder))
    assert taken.store.ledger().schema.names == schema.VIDEOS_TABLE.names
    assert not {"heads", "start", "before"} & {*schema.VIDEOS_TABLE.names}


def test_a_folder_whose_first_image_was_alone_is_read_from_the_second_on(tmp_path):
    taken = Taken(tmp_path)
    (first,) = taken.add(0, PNGS[:1]).look()
    (second,) = taken.add(1, PNGS[1:3]).look()
    assert Path(first["uri"]).name == "000.png"
    assert (second["uri"], taken.numbers(second["video_id"])) == (str(taken.folder), [1, 2])
    assert second["detail"] == f"Its first image was taken in before, under the id {first['video_id']}."


@pytest.mark.parametrize("change", ["inserted", "changed", "gone"])
def test_a_folder_that_did_not_only_grow_at_its_end_is_taken_in_whole(tmp_path, change):
    taken = Taken(tmp_path)
    (first,) = taken.add(1, PNGS[:3]).look()
    if change == "gone":
        (taken.folder / "001.png").unlink()
    else:
        taken.add({"inserted": 0, "changed": 2}[change], PNGS[5:6])
    (second,) = taken.add(4, PNGS[3:4]).look()
    assert second["detail"] is None
    assert second["frames"] == len(taken.numbers(second["video_id"])) == {"inserted": 5, "changed": 4, "gone": 3}[change]
    (third,) = taken.add(5, PNGS[4:5]).look()
    assert third["detail"] == f"Its first {second['frames']} images were taken in before, under the id {second['video_id']}."
    assert taken.numbers(third["video_id"]) == [second["frames"]]
    assert taken.numbers(first["video_id"]) == [0, 1, 2]


def test_the_first_new_image_is_compared_with_the_last_that_was_kept_of_this_very_folder(tmp_path):
    """Not of what lay at the same address before an image came in between."""
    taken = Taken(tmp_path)
    taken.add(1, [PNGS[0], PNGS[1], PNGS[2]]).look()
    taken.add(0, PNGS[3:4]).look()
    taken.add(4, [png(2, copy=1)]).look()  # a near-duplicate of the one before it
    assert taken.frames()[-1][1] == "near duplicate"


def test_images_of_which_none_was_kept_let_the_one_before_them_be_compared_with(tmp_path):
    taken = Taken(tmp_path)
    for number, image in enumerate([png(0), *(png(1, copy) for copy in range(4))]):
        taken.add(number, [image]).look()
    assert [reason for _, reason, _ in taken.frames()] == ["", "", *["near duplicate"] * 3]


def test_what_was_forgotten_stays_out_when_its_folder_grows(tmp_path):
    taken = Taken(tmp_path)
    (first,) = taken.add(0, PNGS[:2]).look()
    taken.store.forget(first["video_id"])
    assert not taken.look()
    (second,) = taken.add(2, PNGS[2:4]).look()
    assert second["detail"] == f"Its first 2 images were forgotten, under the id {first['video_id']}."
    assert [number for number, *_ in taken.frames()] == [2, 3]
    taken.store.forget(second["video_id"])
    (third,) = taken.add(4, PNGS[4:5]).look()
    assert "first 4 images were forgotten" in third["detail"]
    assert [number for number, *_ in taken.frames()] == [4]


def test_of_a_folder_that_grew_each_part_is_forgotten_by_itself(tmp_path):
    taken = Taken(tmp_path)
    (first,) = taken.add(0, PNGS[:2]).look()
    (second,) = taken.add(2, PNGS[2:4]).look()
    taken.store.forget(second["video_id"])
    (third,) = taken.add(4, PNGS[4:5]).look()
    assert "first 4 images were forgotten" in third["detail"]
    assert sorted({number for number, *_ in taken.patches()}) == [0, 1, 4]
    taken.store.forget(first["video_id"])
    (fourth,) = taken.add(5, PNGS[5:6]).look()
    assert "first 5 images were taken in before" in fourth["detail"]
    assert sorted({number for number, *_ in taken.patches()}) == [4, 5]


def test_a_scorers_sample_shows_nothing_of_a_forgotten_beginning(tmp_path):
    taken = Taken(tmp_path).add(0, PNGS[:2])
    gone = frozenset({content_hash(str(taken.folder))})
    taken.add(2, PNGS[2:4])
    sources = pa.concat_tables(IdentifyVideos()(find(taken.config.videos.uri)))

    sampler = SampleFrames(taken.config.frames, 9, 0)
    sampler.decode.find_text = no_text

    def drawn(forgotten):
        sampler.forgotten = forgotten
        return {row["time_ms"] // 1000 for table in sampler(sources) for row in table.to_pylist()}

    assert (drawn(frozenset()), drawn(gone), drawn(gone | {content_hash(str(taken.folder))})) == ({0, 1, 2, 3}, {2, 3}, set())


def test_what_was_set_aside_or_is_elsewhere_is_not_taken_for_known(tmp_path):
    taken = Taken(tmp_path).add(0, PNGS[:2])
    (source,) = find(taken.config.videos.uri).to_pylist()
    quarantine.set_aside(taken.store, identified(source), "It was tried.", rows.STAMP)
    elsewhere = taken.folder.with_name("elsewhere")
    elsewhere.mkdir()
    taken.add(0, PNGS[:3], elsewhere).look()
    (row,) = taken.add(2, PNGS[2:4]).look()
    assert (row["detail"], row["frames"]) == (None, 4)


def test_a_run_that_dies_amid_its_commit_is_repeated_with_the_same_rows(tmp_path, monkeypatch):
    whole, taken = Taken(tmp_path / "whole"), Taken(tmp_path / "torn")
    whole.add(0, PNGS[:5]).look()
    taken.add(0, PNGS[:2]).look()
    taken.add(2, PNGS[2:5])

    def dies(*arguments):
        raise SystemExit(9)

    with monkeypatch.context() as dying:
        dying.setattr(intake, "enter", dies)  # patches and frames are there, and no ledger row
        with pytest.raises(SystemExit):
            taken.look()
    assert len(taken.look()) == 1
    assert (taken.patches(), taken.frames()) == (whole.patches(), whole.frames())


def test_a_folder_that_grows_while_it_is_read_is_left_to_the_next_time(tmp_path):
    taken = Taken(tmp_path)
    taken.add(0, PNGS[:2]).look()
    taken.add(2, PNGS[2:3])
    grows = iter([lambda: taken.add(3, PNGS[3:4])])

    def execute(steps, table):
        for made in flow.run_here(steps, table):
            if len(steps) > 1:
                next(grows, lambda: None)()
            yield made

    taken.execute = execute
    assert not taken.look()
    (row,) = taken.look()
    assert taken.numbers(row["video_id"]) == [2, 3]


def test_a_growing_folder_of_an_object_store_is_read_from_where_it_grew(tmp_path):
    fs = fsspec.filesystem("memory")
    taken = Taken(tmp_path, "memory://growing")
    fs.pipe({f"/growing/seq/{number}.png": PNGS[number] for number in range(2)})
    (first,) = taken.look()
    fs.pipe({f"/growing/seq/{number}.png": PNGS[number] for number in range(2, 4)})
    (second,) = taken.look()
    assert second["detail"] == f"Its first 2 images were taken in before, under the id {first['video_id']}."
    assert taken.numbers(second["video_id"]) == [2, 3]


def test_the_browser_shows_what_was_taken_in_before_and_after_a_folder_grew(tmp_path):
    taken = Taken(tmp_path)
    (first,) = taken.add(0, PNGS[:2]).look()
    (second,) = taken.add(2, PNGS[2:4]).look()
    footage = Footage(taken.store, lambda video_id: taken.config.frames, no_text)
    for video, number in ((first, 1), (second, 3)):
        shown = decode(footage.frame(f"{video['video_id']}@{1000 * number}"))
        assert np.abs(shown.astype(int) - np.maximum(scene(number), 1)).mean() < 4  # JPEG
    taken.add(1, PNGS[5:6])
    with pytest.raises(LookupError, match="holds other bytes now"):
        footage.frame(f"{first['video_id']}@0")


def test_a_watcher_takes_in_of_a_growing_folder_what_is_new(tmp_path):
    taken = Taken(tmp_path)
    config = amend(taken.config, [*KNOBS, "watch.once=true"])

    def watch():
        record = SimpleNamespace(log=lambda numbers, step: None)
        watcher = Watcher(config, taken.store, taken.work(), Line(), Past(), record)
        watcher.followers = [Latency(watcher.inbox, record, Line()).tell]
        watcher.recall()
        while not watcher.is_done:
            watcher.look()
            if batch := watcher.due():
                watcher.ingest(batch)

    for start, end in ((0, 2), (2, 3), (3, 6)):
        taken.add(start, PNGS[start:end])
        watch()
    assert Counter(taken.store.ledger()["frames"].to_pylist()) == {2: 1, 1: 1, 3: 1}
    assert [number for number, *_ in taken.frames()] == [*range(6)]


@pytest.mark.processes
def test_ray_reads_of_a_growing_folder_what_is_new(tmp_path):
    """What names, reads and confirms it; the stages behind that know nothing of it."""

    def execute(steps, table):
        front = [*flow.run_on_ray(steps[:1], table)]
        return flow.run_here(steps[1:], pa.concat_tables(front))

    here, there = Taken(tmp_path / "here"), Taken(tmp_path / "there", execute=execute)
    for start, end in ((0, 2), (2, 5)):
        for taken in (here, there):
            taken.add(start, PNGS[start:end]).look()
    assert there.patches() == here.patches()
    assert there.store.ledger().sort_by("video_id")["detail"] == here.store.ledger().sort_by("video_id")["detail"]
