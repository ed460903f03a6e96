"""What is exported is read back by the tools of others, byte for byte."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from engine import shards, synthesis
from engine.config import Config, SelectionConfig, SynthesisConfig
from engine.selection import Selection
from engine.shards import Sample
from engine.store import PatchStore
from jobs import export
from jobs.__main__ import main
from tests import rows

VIDEOS = ("a" * 32, "b" * 32)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("shards") / "store"))
    made.create(rows.WIDTH)
    rows.take_in(made, *VIDEOS, frames=6)
    ids = made.sample(20, 3)["patch_id"].to_pylist()
    for name, config in {"random-1": SynthesisConfig(order="diverse", quality=70), "random-2": SynthesisConfig()}.items():
        selection = Selection(name, ids, np.ones(len(ids), np.int32), 0.5).rows(SelectionConfig(method="random"), 4)
        made.save(selection, [synthesis.synthesise(made.patches(synthesis.READ.names), synthesis.ordered(ids, config), name, 0, config)])
    return made


def exported(store, tmp_path, **changes):
    """The folder that the job export filled, and the images of that selection in the store."""
    changes = {"path": str(tmp_path), "selection": "random-1", **changes}
    config = Config(store={"uri": store.uri}, selection={"method": "random"}, export=changes)
    export.run(config)
    name = changes["selection"] or "random-2"
    images = store.open("images").to_table(filter=f"selection_id = '{name}'").sort_by("position").to_pylist()
    return tmp_path / name, images


def told_rightly(told, image):
    assert (told["image_id"], told["position"], told["selection_id"]) == (image["image_id"], image["position"], image["selection_id"])
    assert [patch["patch_id"] for patch in told["patches"]] == image["patch_ids"]
    assert SynthesisConfig(**told["layout"]) == synthesis.settings(image["layout"])
    for patch in told["patches"]:
        assert patch["patch_id"].startswith(f"{patch['video_id']}@{patch['time_ms']}:")


def test_a_folder_is_read_by_torchvision_and_holds_the_bytes_of_the_store(store, tmp_path):
    folder, images = exported(store, tmp_path)
    read = ImageFolder(tmp_path)
    assert read.classes == ["random-1"]
    assert [path for path, _ in read.samples] == [str(folder / f"{position:06}.jpg") for position in range(5)]
    for (picture, _), (path, _), image in zip(read, read.samples, images, strict=True):
        assert picture.size == (image["width"], image["height"])
        assert Path(path).read_bytes() == image["pixels"]
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"{position:06}.jpg" for position in range(5)]
    for line, image in zip(lines, images, strict=True):
        told_rightly(line, image)


@pytest.mark.parametrize("shard", [1, 2, 5, 99])
def test_shards_are_plain_tar_files_that_hold_every_sample_once_in_order(store, tmp_path, shard):
    folder, images = exported(store, tmp_path, format="webdataset", shard=shard)
    paths = sorted(folder.iterdir())
    assert [path.name for path in paths] == [f"{number:06}.tar" for number in range(-(-5 // shard))]
    found = []
    for path in paths:
        with tarfile.open(path) as archive:
            found += [(member.name, archive.extractfile(member).read()) for member in archive]
    assert [name for name, _ in found] == [f"{position:06}.{kind}" for position in range(5) for kind in ("jpg", "json")]
    for (_, jpeg), (_, told), image in zip(found[::2], found[1::2], images, strict=True):
        assert jpeg == image["pixels"]
        assert Image.open(io.BytesIO(jpeg)).size == (image["width"], image["height"])
        told_rightly(json.loads(told), image)


def test_the_bytes_of_a_shard_tell_nothing_but_the_samples(store, tmp_path):
    first, _ = exported(store, tmp_path / "one", format="webdataset")
    second, _ = exported(store, tmp_path / "two", format="webdataset")
    assert (first / "000000.tar").read_bytes() == (second / "000000.tar").read_bytes()
    with tarfile.open(first / "000000.tar") as archive:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in archive} == {(0, 0, 0, "", "", 0o644)}


def test_an_export_leaves_nothing_of_an_earlier_one_and_nothing_else_is_touched(store, tmp_path):
    folder, _ = exported(store, tmp_path, format="webdataset", shard=1)
    (folder / "notes.txt").write_text("mine")
    (folder / "000009.jpg").write_bytes(b"old")
    exported(store, tmp_path, format="webdataset", shard=3)
    assert sorted(path.name for path in folder.iterdir()) == ["000000.tar", "000001.tar", "000009.jpg", "notes.txt"]
    exported(store, tmp_path)
    names = [f"{position:06}.jpg" for position in range(5)]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "000000.tar", "000001.tar", "manifest.jsonl", "notes.txt"])


def test_the_newest_selection_of_a_method_is_found_as_other_jobs_find_it(store, tmp_path, capsys):
    folder, images = exported(store, tmp_path, selection="")
    assert [(folder / f"{n:06}.jpg").read_bytes() for n in range(5)] == [image["pixels"] for image in images]
    assert main(["export", f"store.uri={store.uri}", f"export.path={tmp_path}", "export.selection=nobody"]) == 1
    assert "has no training images of a selection 'nobody' (it has those of " in capsys.readouterr().err
    assert main(["export", f"store.uri={tmp_path}/none"]) == 2
    assert "run the job choose first" in capsys.readouterr().err


def test_a_reader_finds_whole_files_only_when_the_writing_ends_in_the_middle(tmp_path):
    def failing():
        yield Sample("000000", b"whole", {})
        raise OSError("the disk is gone")

    for write in (lambda: shards.folder(failing(), str(tmp_path)), lambda: shards.webdataset(failing(), str(tmp_path), 1)):
        with pytest.raises(OSError, match="the disk is gone"):
            write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.jpg", "000000.tar"]
    assert (tmp_path / "000000.jpg").read_bytes() == b"whole"


def test_names_sort_in_order_however_many_there_are():
    names = [shards.key(position, 1_234_567) for position in (0, 9, 999_999, 1_000_000, 1_234_567)]
    assert names == sorted(names)
    assert shards.origin(f"{'a' * 32}@1234#-5:0,0,1,1:crops-0")["time_ms"] == 1234
