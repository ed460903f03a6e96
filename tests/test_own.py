"""A store that lies below videos.uri: nothing of it is taken for video, by whatever spelling, in folders and buckets."""

import logging
from pathlib import Path

import fsspec
import pytest

from engine import tracking
from engine.inbox import Inbox, Known
from engine.knobs import amend
from engine.listing import below_it
from engine.store import PatchStore
from engine.videos import find
from jobs import own, places
from jobs.recipes import tiny
from jobs.spelling import names_below
from tests import rows
from tests.test_watcher import KNOBS, Quick

INSIDE = ("store/frames.lance/_versions/1.manifest", "store/mlflow.db", "store/artifacts/1/page.html", "store/pictures/1.png")


def filled(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def config(folder, *knobs):
    return amend(tiny(), [f"videos.uri={folder}", f"store.uri={folder}/store", *knobs])


def names(table, folder):
    return [str(Path(uri).relative_to(folder)) for uri in table["uri"].to_pylist()]


@pytest.mark.parametrize("spelled", ["{0}/store", "{0}/store/", "{0}/../{1}/store", "{0}-link/store", "file://{0}/store"])
def test_a_store_in_a_folder_of_video_is_left_out_however_it_is_spelled_and_its_neighbours_are_not(tmp_path, spelled):
    folder = filled(tmp_path / "data", [*INSIDE, "a.mp4", "stores/b.mp4", "exam/store/c.mp4"])
    Path(f"{folder}-link").symlink_to(folder)
    found = own.found(config(folder, f"store.uri={spelled.format(folder, folder.name)}"))
    assert names(found, folder) == ["a.mp4", "exam/store/c.mp4", "stores/b.mp4"]
    linked = own.found(config(f"{folder}-link", f"store.uri={spelled.format(folder, folder.name)}"))
    assert names(linked, f"{folder}-link") == ["a.mp4", "exam/store/c.mp4", "stores/b.mp4"]


def test_files_of_mlflow_among_the_video_are_left_out_too(tmp_path):
    filled(tmp_path, ["a.mp4", "runs.db", "runs.db-journal", "artifacts/1/page.html", "runs/1/meta.yaml"])
    for uri, left in ((f"sqlite:///{tmp_path}/runs.db", ["a.mp4", "runs/1/meta.yaml"]), (f"{tmp_path}/runs", None)):
        found = names(own.found(config(tmp_path, f"tracking.uri={uri}", f"store.uri={tmp_path}-store")), tmp_path)
        assert found == (left or ["a.mp4", "artifacts/1/page.html", "runs.db", "runs.db-journal"])
    assert tracking.kept_in(config(tmp_path, "tracking.uri=http://127.0.0.1:5000")) == []


def test_in_a_bucket_a_store_below_the_inbox_is_left_out_and_one_beside_it_leaves_nothing_out():
    files = fsspec.filesystem("memory")
    files.pipe({f"/own/in/{name}": name.encode() for name in (*INSIDE, "a.mp4", "stores/b.mp4")})
    mine = below_it("memory://own/in", ["memory://own/in/store", "/own/in/a.mp4"])
    assert [uri.rpartition("in/")[2] for uri in find("memory://own/in/", mine)["uri"].to_pylist()] == ["a.mp4", "stores/b.mp4"]
    assert below_it("memory://own/in", ["memory://own/store", "memory://own/in"]) == ()
    box = Inbox("memory://own/in", 0, Known(), but=mine)
    box.look()
    assert [one.rpartition("in/")[2] for one in sorted(box.waiting)] == ["a.mp4", "stores/b.mp4"]


@pytest.mark.processes
def test_a_watcher_of_the_folder_that_its_store_lies_in_takes_in_the_video_and_ends(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    PatchStore(str(tmp_path / "store")).create(rows.WIDTH)
    filled(tmp_path, ["aa.mp4", "inbox/bb.mp4"])
    watcher = Quick(tmp_path, inbox=".").go()
    assert {row["video_id"]: row["reason"] for row in watcher.store.ledger().to_pylist()} == {"aa": None, "bb": None}
    assert "watch.once=true" not in KNOBS  # which Quick adds: it ended by itself
    assert not watcher.is_named(f"there is no store at {tmp_path}/store: a new store is made there")
    assert watcher.is_named(f"cannot be read: {tmp_path}/store-of-Zebedee/1.mp4")


def test_that_something_is_left_out_is_said_where_something_is(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    own.tell(config(tmp_path))
    own.tell(config(tmp_path / "videos", f"store.uri={tmp_path}/store"))
    assert caplog.messages == ["what this engine keeps below videos.uri (the store, or files of MLflow) is no video: it is left out"]


@pytest.mark.parametrize(("text", "is_named"), [("no /in/store here", False), ("/in/store/x.lance", False), ("/in/stores/x.mp4", True)])
def test_what_is_ours_may_be_named_and_a_folder_whose_name_begins_so_may_not(text, is_named):
    assert names_below("/in", text, ["/in/store"]) == is_named


@pytest.mark.parametrize("spelled", ["{}", "{}/", "{}/x/.."])
def test_a_store_at_the_very_address_of_the_video_is_refused(tmp_path, spelled):
    (tmp_path / "x").mkdir()
    with pytest.raises(ValueError, match=r"^videos\.uri='.*' is store\.uri too: give the store a folder of its own, there or elsewhere$"):
        places.check("ingest", config(tmp_path, f"store.uri={spelled.format(tmp_path)}"))
