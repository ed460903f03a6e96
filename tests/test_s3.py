"""The store in a bucket of a real S3 server on this machine: the same code, addressed by environment variables alone."""

import logging
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pytest

from engine import inbox, listing
from engine.knobs import amend
from engine.plan import Service
from engine.settings import UpkeepConfig
from engine.store import PatchStore, WriteRows
from engine.videos import find
from jobs import plan, pools
from jobs.__main__ import main
from jobs.recipes import tiny
from tests import rows
from tests.crashes import strikes
from tests.test_growth import PNGS, Taken
from tests.test_watcher import Quick, ledger

pytestmark = pytest.mark.processes

pytest.importorskip("moto")
fsspec = pytest.importorskip("fsspec")
ROOT = Path(__file__).resolve().parent.parent
STRUCK = """
import sys
from tests.crashes.committer import take_in

take_in(sys.argv[1], ("bb", "cc"), sys.argv[2], 60.0)
"""


@pytest.fixture(params=[""])
def bucket(request, monkeypatch):
    """The address of an empty bucket; the parameter is a key about which the server lies once."""
    server = subprocess.Popen([sys.executable, "-m", "tests.crashes.bucket", request.param], cwd=ROOT, stdout=-1, stderr=-3, text=True)
    port = server.stdout.readline().strip()
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.clear_instance_cache()
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"
    fs.clear_instance_cache()
    server.kill()
    server.wait()


def take_in(store, *ids):
    written = pa.concat_tables([out for video_id in ids for out in WriteRows(store.uri)(rows.scored(video_id))])
    return store.commit(written, rows.videos(*ids), rows.STAMP)


def filled(uri):
    store = PatchStore(uri)
    store.create(rows.WIDTH)
    take_in(store, "aa")
    take_in(store, "bb", "cc")
    return store


def test_a_bucket_holds_what_a_folder_holds_pixels_included(bucket, tmp_path):
    there, here = filled(f"{bucket}/store"), filled(str(tmp_path / "store"))
    assert strikes.verdict(strikes.rows_of(there.uri), strikes.rows_of(here.uri)) == "equal"
    assert strikes.rows_of(there.uri)["patches"][0]["pixels"].startswith(b"\xff\xd8\xff")
    assert not len(there.unknown(rows.videos("aa", "bb")))
    take_in(there, "bb")
    assert strikes.verdict(strikes.rows_of(there.uri), strikes.rows_of(here.uri)) == "equal"


@pytest.mark.parametrize("step", ["after the fragments", "after the patches"])
def test_a_run_that_was_killed_is_repeated_in_a_bucket_as_in_a_folder(bucket, tmp_path, step):
    here, there = filled(str(tmp_path / "store")), PatchStore(f"{bucket}/store")
    there.create(rows.WIDTH)
    take_in(there, "aa")
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)  # where the note that it struck comes to lie
    dying = [sys.executable, "-c", STRUCK, there.uri, f"kill@{step}"]
    struck = subprocess.run(dying, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert struck.returncode == -signal.SIGKILL
    assert len(there.patches(["patch_id"])) == 6
    take_in(there, "bb", "cc")
    assert strikes.verdict(strikes.rows_of(there.uri), strikes.rows_of(here.uri)) == "equal"


@pytest.mark.parametrize("bucket", [f"{table}.lance/_versions/18446744073709551612" for table in ("patches", "videos")], indirect=True)
def test_a_commit_that_the_server_did_and_denied_is_there_once(bucket, tmp_path):
    here = filled(str(tmp_path / "store"))
    assert strikes.verdict(strikes.rows_of(filled(f"{bucket}/store").uri), strikes.rows_of(here.uri)) == "equal"


def test_a_forgotten_video_is_in_no_object_of_the_bucket_any_more(bucket):
    store = filled(f"{bucket}/store")
    marks = [pixels for row in rows.scored("bb").to_pylist() if (pixels := row["pixels"])] + [b"bb@0:"]
    assert objects_with(marks)
    told = store.forget("bb").to_pylist()
    assert {row["name"]: row["count"] for row in told if row["what"] == "rows removed"} == {
        "patches": 6,
        "frames": 4,
        "selections": 0,
        "images": 0,
    }
    assert objects_with(marks) == []
    assert store.forgotten() == {"bb"}
    assert len(store.patches(["pixels"])) == 12
    assert not len(store.unknown(rows.videos("bb")))
    assert store.forget("bb").to_pylist() == told


def test_upkeep_merges_sweeps_and_collects_in_a_bucket(bucket, tmp_path):
    here, there = filled(str(tmp_path / "store")), filled(f"{bucket}/store")
    next(iter(WriteRows(there.uri)(rows.scored("dd"))))  # a run that dies before it commits
    assert strikes.orphans_of(there.uri)
    done = {row["what"] for row in there.maintain(UpkeepConfig(keep_hours=1e-9)).to_pylist()}
    assert {"files merged", "old versions removed", "files without a version removed"} <= done
    assert strikes.orphans_of(there.uri) == []
    assert len(there.open("patches").get_fragments()) == 1
    assert strikes.verdict(strikes.rows_of(there.uri), strikes.rows_of(here.uri)) == "equal"


def test_a_report_and_the_times_of_a_plan_lie_in_the_bucket_beside_the_tables(bucket, tmp_path):
    times = [Service("DecodeFrames", 0.3, batch=1, rows_per_frame=1.0, out_per_row=1.0)]
    plan.keep(amend(tiny(), [f"store.uri={bucket}/store"]), times, gpu=True)  # before there is a store, as the README has it
    store = filled(f"{bucket}/store")
    assert pools.kept(store) == times
    assert main(["report", f"store.uri={store.uri}", f"tracking.uri=sqlite:///{tmp_path}/runs.db"]) == 0
    assert b"<html" in fsspec.filesystem("s3").cat_file("bucket/store/report.html")


def objects_with(marks):
    """The keys of the objects in the bucket in which any of the byte strings stands."""
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    return [key for key in fs.find("bucket") if any(mark in fs.cat_file(key) for mark in marks)]


def test_a_bucket_is_listed_page_by_page_as_a_folder_is(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "PAGE", 2)
    names = ["a/seq/1.png", "a/seq/2.png", "a-b/x.mp4", "a/x.mp4", "a/y.mp4", "top.mp4", ".hidden/x.mp4", "a/.y.mp4", "a/seq/deep/z.mp4"]
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" if name.endswith(".png") else name.encode())
    fsspec.filesystem("s3").put(f"{tmp_path}/in", "bucket/in", recursive=True)
    there, here = ([uri.partition("/in/")[2] for uri in find(where)["uri"].to_pylist()] for where in (f"{bucket}/in", f"{tmp_path}/in"))
    assert there == here == ["a-b/x.mp4", "a/seq", "a/seq/deep/z.mp4", "a/x.mp4", "a/y.mp4", "top.mp4"]
    assert find(f"{bucket}/in/top.mp4")["uri"].to_pylist() == [f"{bucket}/in/top.mp4"]
    monkeypatch.setattr(listing, "HELD", 1)
    assert [uri.partition("/in/")[2] for uri in find(f"{bucket}/in")["uri"].to_pylist()] == here


def test_of_a_folder_of_images_that_grows_in_a_bucket_what_is_new_is_taken_in(bucket, tmp_path):
    fs, taken = fsspec.filesystem("s3"), Taken(tmp_path, f"{bucket}/in")
    for start, end in ((0, 2), (2, 4)):
        fs.pipe({f"{bucket}/in/seq/{number}.png": PNGS[number] for number in range(start, end)})
        (row,) = taken.look()
        assert taken.numbers(row["video_id"]) == [*range(start, end)]


def test_a_bucket_that_is_not_there_or_not_open_to_us_is_one_sentence(bucket):
    with pytest.raises(OSError, match=r"videos\.uri='s3://nowhere/in' (does not exist|cannot be listed)"):
        inbox.glance("s3://nowhere/in")


# -- an inbox in a bucket -------------------------------------------------------------------------------------------------------


def from_now_on(count):
    """Have the server let so many requests through before it asks who it is."""
    address, plain = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    request = urllib.request.Request(address, str(count).encode(), plain, method="POST")
    urllib.request.urlopen(request, timeout=60).read()


def test_an_inbox_that_refuses_our_credentials_is_one_sentence_at_the_start_and_is_waited_for_later(bucket, tmp_path, caplog):
    caplog.set_level(logging.INFO, "jobs.watch")
    PatchStore(str(tmp_path / "store")).create(rows.WIDTH)
    for name in ("aa", "bb"):
        fsspec.filesystem("s3").pipe(f"bucket/in/{name}.mp4", name.encode())
    watcher, refused = Quick(tmp_path), []
    watcher.inbox.uri = f"{bucket}/in"
    watcher.closed.wait = lambda tries: 0.1
    from_now_on(0)
    with pytest.raises(OSError, match=r"^videos\.uri='s3://bucket/in' cannot be listed: \S"):
        inbox.glance(watcher.inbox.uri)

    def granted():
        refused.append(watcher.closed.tries)
        if len(refused) == 3:
            from_now_on(10**9)
        time.sleep(0.2)

    watcher.rest = granted
    watcher.go()
    assert max(refused) >= 2
    assert ledger(watcher) == {"aa": None, "bb": None}
    (told,) = [record.getMessage() for record in caplog.records if "waiting, nothing is lost" in record.getMessage()]
    assert told.startswith("videos.uri='s3://bucket/in' cannot be listed: ")
    assert "Traceback" not in caplog.text
    assert "back after" in caplog.text


LOOKING = """
import sys
from pathlib import Path
from engine import inbox
from engine.inbox import Inbox, Known

inbox.MOST = 1000


def most():  # what getrusage tells is that of the process from which this one was forked
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024


def known(row):
    global count
    count += 1
    return True


box, count = Inbox("s3://bucket/in", 0, Known()), 0
box.look()
assert len(box.waiting) == 1000
new, box.is_known = most(), known
box.look()
print(count, new, most())
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_bucket_of_two_hundred_thousand_objects_takes_no_more_memory_than_one_of_ten_thousand():
    """By a server that speaks HTTP and the memory of the process that looks, whatever of botocore and s3fs is in it."""
    few, many = (looked_at(count) for count in (10_000, 200_000))
    print("MB at most when all is new, and when all is known:", few[1:], many[1:])
    assert (few[0], many[0]) == (10_000, 200_000)
    assert max(many[1:]) - max(few[1:]) < 16  # what s3fs's own way to list them leaves is almost two hundred


def looked_at(count):
    """How many keys the last look saw, and the most memory in MB after each of two."""
    with subprocess.Popen([sys.executable, "-m", "tests.crashes.keys", str(count)], cwd=ROOT, stdout=-1, text=True) as server:
        told = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1", "PYTHONPATH": str(ROOT)}
        told |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}"}
        done = subprocess.run([sys.executable, "-c", LOOKING], env={**os.environ, **told}, capture_output=True, text=True, check=False)
        server.kill()
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]
