"""What is set aside is a ledger row, and what is called back is as if it had never been there; what is tried is on disk before."""

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from engine import schema, videos
from engine.listing import key_of
from engine.settings import UpkeepConfig
from engine.store import PatchStore, WriteRows, attempts, intake, quarantine
from tests import rows

ROOT = Path(__file__).resolve().parent.parent
DYING = """
import os, signal, sys
from engine.store import PatchStore, attempts

attempts.begin(PatchStore(sys.argv[1]), {"00000000000000aa": 0, "00000000000000bb": 2})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    return made


def aside(store, video_id):
    (video,) = rows.videos(video_id).to_pylist()
    return quarantine.set_aside(store, video, "It was tried 3 times.", rows.STAMP)


def test_what_is_set_aside_is_a_row_with_a_reason_and_is_known_by_address_and_content(store):
    (row,) = aside(store, "aa").to_pylist()
    assert (row["reason"], row["detail"], row["frames"], row["patches"]) == ("quarantined", "It was tried 3 times.", 0, 0)
    assert store.ledger()["video_id"].to_pylist() == ["aa"]
    assert not len(store.unknown(rows.videos("aa")))
    assert [one["uri"] for one in intake.sources(store)] == ["/in/aa.mp4"]


def test_what_is_called_back_leaves_the_ledger_and_its_count_and_can_be_taken_in(store):
    for video_id in ("aa", "ab"):
        aside(store, video_id)
    keys = {f"{key_of(row):016x}": 4 for row in rows.videos("aa", "ab").to_pylist()}
    attempts.begin(store, keys)
    attempts.begin(store, {attempts.of(next(iter(keys)), inbox): 4 for inbox in ("0" * 16, "1" * 16)})
    told = quarantine.requeue(store, "aa", "").to_pylist()
    assert [(row["what"], row["name"]) for row in told] == [("requeued", "aa")]
    assert store.ledger()["video_id"].to_pylist() == ["ab"]
    assert list(attempts.begun(store)) == [list(keys)[1]]
    assert store.unknown(rows.videos("aa"))["video_id"].to_pylist() == ["aa"]
    assert quarantine.requeue(store, "all", "")["name"].to_pylist() == ["ab"]
    assert not attempts.begun(store)
    assert store.open("journal").count_rows("job = 'requeue'") == 2


@pytest.mark.parametrize("name", ["zz", "a"])
def test_one_that_is_none_or_many_is_refused_with_those_there_are(store, name):
    for video_id in ("aa", "ab"):
        aside(store, video_id)
    with pytest.raises(LookupError, match=r"of the 2 quarantined videos of .* begin with '.*': aa, ab"):
        quarantine.requeue(store, name, "")
    assert len(store.ledger()) == 2


def test_what_was_begun_outlives_a_kill_and_names_no_source(store):
    died = subprocess.run([sys.executable, "-c", DYING, store.uri], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert attempts.begun(store) == {"00000000000000aa": 0, "00000000000000bb": 2}
    attempts.begin(store, {"00000000000000aa": 1})
    attempts.end(store, ["00000000000000bb"])
    assert attempts.begun(store) == {"00000000000000aa": 1}


def test_nothing_is_written_in_the_place_of_a_store_that_is_away(store):
    attempts.begin(store, {"aa": 0})
    home, elsewhere = Path(store.uri), Path(f"{store.uri}-elsewhere")
    home.rename(elsewhere)
    with pytest.raises(LookupError, match="has no table"):
        attempts.begin(store, {"aa": 1})
    with pytest.raises(LookupError, match="has no table"):
        attempts.end(store, ["aa"])
    assert not home.exists()
    elsewhere.rename(home)
    assert attempts.begun(store) == {"aa": 0}


def test_upkeep_keeps_what_is_under_way_and_few_versions_of_it(store):
    for number in range(5):
        attempts.begin(store, {"aa": number})
    store.maintain(UpkeepConfig(keep_hours=1e-9))
    assert attempts.begun(store) == {"aa": 4}
    assert len(store.open("attempts").versions()) == 1


def test_of_a_video_that_was_replaced_nothing_is_kept_and_the_others_are(store):
    written = pa.concat_tables([*WriteRows(store.uri)(pa.concat_tables([rows.scored("aa"), rows.scored("bb")]))])
    videos = rows.videos("aa", "bb").to_pylist()
    videos[0]["reason"] = "replaced"
    ledger = store.commit(written, pa.Table.from_pylist(videos, rows.videos("aa").schema), rows.STAMP)
    assert ledger["video_id"].to_pylist() == ["bb"]
    assert {one["video_id"] for one in store.patches(["video_id"]).to_pylist()} == {"bb"}
    assert set(store.open("frames").to_table()["video_id"].to_pylist()) == {"bb"}
    assert store.unknown(rows.videos("aa", "bb"))["video_id"].to_pylist() == ["aa"]


def test_a_source_that_was_set_aside_unread_gives_way_to_what_it_holds_once_it_can_be_read(store):
    """And one whose bytes ended the process does not: they are what was set aside, wherever they lie."""
    shut = videos.unread({"uri": "/in/gone.mp4", "size": 0, "modified": ""}, "")
    for video in (shut, shut | {"video_id": "ff"}):
        quarantine.set_aside(store, video, "why", rows.STAMP)
    found = shut | {"video_id": "aa", "reason": None, "detail": None, "size": 9, "modified": "2"}
    written = pa.concat_tables(WriteRows(store.uri)(rows.scored("aa")))
    store.commit(written, pa.Table.from_pylist([found], schema.VIDEO), rows.STAMP)
    assert {row["video_id"]: row["reason"] for row in store.ledger().to_pylist()} == {"aa": None, "ff": "quarantined"}
    assert len(quarantine.keys(store)) == 1
    assert len(quarantine.requeue(store, "all", "")) == 1


@pytest.mark.parametrize("reason", ["unreadable", "quarantined"])
def test_a_source_that_could_not_be_read_and_is_a_copy_now_is_not_told_of_any_more(store, reason):
    rows.take_in(store, "aa")
    shut = videos.unread({"uri": "/in/gone.mp4", "size": 0, "modified": ""}, "")
    verdict = {"video_id": shut["video_id"], "reason": reason, "detail": "why", "patches": 0, "expected": 0}
    written = pa.Table.from_pylist([dict.fromkeys(schema.WRITTEN.names) | verdict], schema.WRITTEN)
    store.commit(written, pa.Table.from_pylist([shut], schema.VIDEO), rows.STAMP)
    intake.make_way(store, pa.Table.from_pylist([shut], schema.VIDEO))  # it cannot be read to this day
    assert sorted(store.ledger()["video_id"].to_pylist()) == ["aa", shut["video_id"]]
    intake.make_way(store, pa.Table.from_pylist([shut | {"video_id": "aa", "reason": None}], schema.VIDEO))
    assert store.ledger()["video_id"].to_pylist() == ["aa"]
