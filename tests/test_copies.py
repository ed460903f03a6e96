"""Copies that arrive together: one of them is read, and where that comes to nothing another one is."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from engine import schema, videos
from engine.flow import Step
from engine.store import PatchStore, WriteRows, quarantine
from jobs.watcher import Watcher
from tests import rows
from tests.test_watcher import Quick

pytestmark = pytest.mark.processes  # of watchers, and of what follows their batches

SAME = b"the same"
HIDDEN = ".new"  # what takes the place of the file that is read


@schema.stage(reads=schema.VIDEO, writes=schema.SCORED)
class LosesTheFirst:
    """Reads videos as the decoder does; of `first.mp4` the file vanishes, or is replaced where there is one to replace it."""

    def __call__(self, videos):
        for video in videos.to_pylist():
            path = Path(video["uri"])
            is_first = path.name == "first.mp4" and path.read_bytes() == SAME
            if is_first and (path.parent / HIDDEN).exists():
                os.replace(path.parent / HIDDEN, path)
            elif is_first:
                path.unlink()
            yield rows.scored(video["video_id"]) if path.exists() else self.verdict(video)

    def verdict(self, video):
        return pa.Table.from_pylist(
            [dict.fromkeys(schema.SCORED.names) | {"video_id": video["video_id"], "reason": "unreadable", "expected": 0}], rows.wide()
        )


class Reading(Quick):
    """A watcher that takes in what a decoder of ours makes of it."""

    def __init__(self, folder):
        super().__init__(folder)
        self.work, self.followers = [Step(LosesTheFirst, (), batch=1), Step(WriteRows, (self.store.uri,), batch=512)], []

    ingest = Watcher.ingest


@pytest.mark.parametrize("how", ["vanishes", "is replaced"])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_copy_of_a_file_that_came_to_nothing_is_taken_in_by_the_same_watcher(tmp_path, how, copies):
    PatchStore(str(tmp_path / "store")).create(rows.WIDTH)
    (tmp_path / "inbox").mkdir()
    for name in ("first", *(f"second{number}" for number in range(copies))):
        (tmp_path / "inbox" / f"{name}.mp4").write_bytes(SAME)
    if how == "is replaced":
        (tmp_path / "inbox" / HIDDEN).write_bytes(b"another")
    watcher = Reading(tmp_path).go()
    found = {Path(row["uri"]).name: row["reason"] for row in watcher.store.ledger().to_pylist()}
    assert found == {"second0.mp4": None} | ({"first.mp4": None} if how == "is replaced" else {})
    assert not watcher.inbox.waiting


def test_a_source_that_was_set_aside_unread_and_is_replaced_by_a_copy_is_set_aside_no_more(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(rows.WIDTH)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "known.mp4").write_bytes(b"known")
    Reading(tmp_path).go()
    shut = videos.unread({"uri": str(tmp_path / "inbox" / "shut.mp4"), "size": 0, "modified": ""}, "")
    quarantine.set_aside(store, shut, "why", rows.STAMP)
    (tmp_path / "inbox" / "shut.mp4").write_bytes(b"known")
    watcher = Reading(tmp_path).go()
    assert [row["reason"] for row in store.ledger().to_pylist()] == [None]
    watcher.look()
    assert not watcher.aside
