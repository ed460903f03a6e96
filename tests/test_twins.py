"""What the store's chosen patches and test images have in common, and what the job datasets says of a folder."""

import json
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from engine import datasets, pictures, schema
from engine.config import Config
from engine.datasets import Pair, Split, sources
from engine.knobs import amend
from engine.leaks import Leak, Leaks
from engine.store import PatchStore
from jobs import __main__ as command
from jobs import findings, found, ingest, twins
from jobs.recipes import tiny
from tests import miniatures
from tests.test_leaks import scene


class Store:
    """The three reads that the look-up does."""

    def __init__(self, rows: list[dict[str, object]], content: dict[str, list[int]]) -> None:
        self.rows = {str(row["patch_id"]): row for row in rows}
        self.content = content

    def open(self, table: str) -> "Store":
        assert table == "frames"
        return self

    def to_table(self, columns: list[str]) -> pa.Table:
        return pa.Table.from_pylist([{"frame_id": name, "content": box} for name, box in self.content.items()]).select(columns)

    def offsets(self, patch_ids: list[str], version: int) -> np.ndarray:
        return np.array([list(self.rows).index(name) for name in patch_ids])

    def take(self, offsets: np.ndarray, columns: list[str], version: int) -> pa.Table:
        return pa.Table.from_pylist([list(self.rows.values())[place] for place in offsets]).select(columns)


def cut(frame_id: str, image: np.ndarray, corner: tuple[int, int]) -> list[dict[str, object]]:
    """Four patches of an image that lies at `corner` of its source frame."""
    made = []
    for y0, x0, y1, x1 in ((0, 0, 80, 100), (0, 100, 80, 200), (80, 0, 160, 100), (80, 100, 160, 200)):
        box = [y0 + corner[0], x0 + corner[1], y1 + corner[0], x1 + corner[1]]
        pixels = pictures.encode(cv2.resize(np.ascontiguousarray(image[y0:y1, x0:x1]), (96, 96)), 90)
        made.append({"frame_id": frame_id, "patch_id": f"{frame_id}:{y0},{x0}", "box": box, "pixels": pixels})
    return made


def test_patches_of_a_frame_are_laid_into_its_content_and_find_the_test_image(tmp_path: Path) -> None:
    from engine import leaks

    rows = [*cut("aa@0", scene(5), (20, 300)), *cut("bb@0", scene(77), (0, 0))]
    store = Store(rows, {"aa@0": [20, 300, 180, 500], "bb@0": [0, 0, 160, 200]})
    tested = leaks.whole((f"t{seed}", scene(seed)) for seed in range(3, 8))
    parts = list(twins.trained_on(store, sorted(store.rows), 1))
    found = [leak for part in parts for leak in leaks.between(part, tested).found]
    assert [(leak.pool, leak.test) for leak in found] == [("aa@0", "t5")]


def taken_in(folder: Path) -> PatchStore:
    """A store of what lies in folder/pool: images too dark for the gate, so no model has to be trained."""
    words = [f"videos.uri={folder / 'pool'}", f"store.uri={folder / 'store'}", "where=here", "patches.proposer=crops"]
    ingest.run(amend(tiny(), words))
    return PatchStore(str(folder / "store"))


def dark(path: Path, seed: int) -> Pair:
    miniatures.put(path, miniatures.noise(seed) // 50)
    return Pair(path.stem, path, path)


def ids(store: PatchStore) -> set[str]:
    return set(store.ledger()["video_id"].to_pylist())


def test_a_file_that_was_ingested_is_not_tested_on(tmp_path: Path) -> None:
    pair = dark(tmp_path / "pool/a.png", 1)
    store = taken_in(tmp_path)
    other = dark(tmp_path / "set/b.png", 2)
    twins.refuse_same(store, ids(store), [other])
    twins.refuse_same(store, {"0" * 32}, [pair])
    with pytest.raises(ValueError, match=r"1 of 2 test images of evaluate\.uri were ingested, byte for byte, the first is .*a\.png"):
        twins.refuse_same(store, ids(store), [pair, other])


def test_an_image_of_a_folder_that_was_ingested_is_not_tested_on_wherever_it_lies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(3):
        dark(tmp_path / f"pool/kvasir/{seed}.png", seed)
    store = taken_in(tmp_path)
    assert len(store.ledger()) == 1
    same, other = dark(tmp_path / "set/copy.png", 1), dark(tmp_path / "set/other.png", 7)
    twins.refuse_same(store, ids(store), [other])
    twins.refuse_same(store, set(), [same])
    with pytest.raises(ValueError, match=r"1 of 2 test images of evaluate\.uri were ingested, byte for byte, the first is .*copy\.png"):
        twins.refuse_same(store, ids(store), [same, other])
    assert not [record for record in caplog.records if record.name == "jobs.twins"]
    shutil.rmtree(tmp_path / "pool")
    twins.refuse_same(store, ids(store), [same, other])
    (told,) = [record.getMessage() for record in caplog.records if record.name == "jobs.twins"]
    assert told.startswith("1 ingested sources that may be folders of images are gone")


def test_twins_are_told_for_the_split_they_concern_and_caution_the_reader() -> None:
    found = Leaks((Leak("f@0", "a", 0.99), Leak("f@1", "b", 0.9)), 3)
    mine = twins.of_split(found, [Pair("b", Path("b"), Path("b"))])
    assert mine == Leaks((Leak("f@1", "b", 0.9),), 3)
    assert json.loads(twins.told(mine)) == {"unjudged": 3, "twins": [{"pool": "f@1", "test": "b", "likeness": 0.9}]}
    tags = {"method": "optidel", "budget": "0.1", "unit": "images", "seed": "2"}
    told = findings.caution(tags, 1)
    assert "1 test images of optidel at a budget of 10 % of the frames in images, seed 2, have a near-duplicate" in told
    assert findings.caution(tags, 0) == ""


def jobs(*words: str) -> int:
    return command.main(["datasets", *words])


def test_the_job_lists_every_set_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs("output.format=json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["name"] for row in rows} == {*datasets.SETS, *sources.SOURCES}
    assert all(row["source"] and row["licence"] and row["published"] for row in rows)


def test_the_job_tells_one_set_whole_and_never_cuts_a_licence_or_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs() == 0
    every = capsys.readouterr().out
    assert "…" not in every
    for told in datasets.SETS.values():
        assert all(part in every for part in (told.source, told.licence, told.counted()))
    assert jobs("evaluate.dataset=kvasir_seg") == 0
    one = capsys.readouterr().out
    assert one.startswith("kvasir_seg:\n  title: Kvasir-SEG\n  published: 1,000 pairs\n")
    assert one.endswith("(1 rows)\n")


def test_near_duplicates_inside_a_set_that_tells_no_patients_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = []
    for number in range(8):
        image = scene(number)
        if number == 7:
            image = np.clip(cv2.resize(scene(2), (150, 120), interpolation=cv2.INTER_AREA) * 1.1, 0, 255).astype(np.uint8)
        miniatures.put(tmp_path / f"{number}.png", image)
        pairs.append(Pair(f"{number}", tmp_path / f"{number}.png", tmp_path / f"{number}.png"))
    apart, together = Split(tuple(pairs[:7]), (pairs[7],)), Split((pairs[0], pairs[2], pairs[7]), tuple(pairs[3:6]))
    found = twins.within({0: apart, 1: together})
    assert [(leak.pool, leak.test) for leak in found[0].found] == [("2", "7")]
    assert found[1].found == ()
    assert [record.getMessage() for record in caplog.records if record.name == "jobs.twins"] == [
        "seed 0: 1 of 1 test images have a near-duplicate among the 7 that are fine-tuned on, the first is 7 beside 2; "
        "the set tells no patients, so they count"
    ]
    known = [pair._replace(group=pair.name) for pair in pairs]
    assert twins.within({0: Split(tuple(known[:7]), (known[7],))}) == {}


def test_the_job_counts_what_is_there_and_ends_with_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miniatures.polypgen(tmp_path)
    assert jobs(f"evaluate.uri={tmp_path}", "evaluate.dataset=polypgen", "output.format=json") == 1
    said = capsys.readouterr()
    rows = {row["what"]: row for row in map(json.loads, said.out.splitlines())}
    assert (rows["pairs"]["found"], rows["pairs"]["published"], rows["C4"]["found"]) == (12, 1537, 2)
    assert (rows["images with polyp"]["found"], rows["pairs that cannot be used"]["found"]) == (12, 0)
    assert "12 pairs instead of 1,537, 2 C1 instead of 256" in said.err
    assert jobs(f"evaluate.uri={tmp_path}", "evaluate.dataset=polypgen", "evaluate.pairs=12") == 0


def test_the_job_says_how_much_of_a_source_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("labeled-images/lower-gi-tract/polyps/a.jpg", "unlabeled-images/images/b.jpg", "segmented-images/images/c.jpg"):
        miniatures.put(tmp_path / name, miniatures.noise(zlib.crc32(name.encode())))
    (tmp_path / "labeled-videos").mkdir()
    (tmp_path / "labeled-videos/a.avi").write_bytes(b"video")
    assert jobs(f"videos.uri={tmp_path}", "output.format=json") == 0
    rows = {row["what"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (rows["hyperkvasir: images in labeled-images"]["found"], rows["hyperkvasir: videos in labeled-videos"]["found"]) == (1, 1)
    assert rows["hyperkvasir: images in unlabeled-images/images"]["published"] == 99417
    assert rows["hyperkvasir: images in segmented-images/images"]["told"] == "left out by ingest: a test set holds these"
    (tmp_path / "other").mkdir()
    assert jobs(f"videos.uri={tmp_path / 'other'}") == 1
    assert "is laid out like none of LDPolypVideo, HyperKvasir" in capsys.readouterr().err


def test_an_ingest_leaves_out_what_the_job_says_that_it_leaves_out_and_takes_it_where_it_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("labeled-images/polyps", "unlabeled-images/images", "segmented-images/images", "segmented-images/masks"):
        for number in range(2):
            dark(tmp_path / "pool" / folder / f"{number}.png", zlib.crc32(f"{folder}{number}".encode()))
    top = tmp_path / "pool/segmented-images"
    assert len(found.find(f"file://{top}/images/")) == 1
    assert not caplog.records
    taken = [Path(uri).relative_to(tmp_path / "pool") for uri in taken_in(tmp_path).ledger()["uri"].to_pylist()]
    assert sorted(map(str, taken)) == ["labeled-images/polyps", "unlabeled-images/images"]
    assert {
        f"segmented-images/images and segmented-images/masks below videos.uri={tmp_path / 'pool'} are left out, "
        "as a test set holds these images; to take them in, name their folder itself"
    } == {record.getMessage() for record in caplog.records if record.name == "jobs.found"}
    shutil.rmtree(tmp_path / "pool/labeled-images")
    shutil.rmtree(tmp_path / "pool/unlabeled-images")
    assert len(found.find(str(tmp_path / "pool"))) == 2  # no source of which these were a part


def test_the_patch_columns_that_are_read_are_the_tables_own() -> None:
    assert {"frame_id", "patch_id", "box", "pixels"} <= set(schema.patches_table(4).names)
    assert {"frame_id", "content"} <= set(schema.FRAMES_TABLE.names)
    assert isinstance(Config().evaluate.test_groups, tuple)
