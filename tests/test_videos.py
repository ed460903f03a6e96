"""Everything below an address becomes a row, and its identity is its bytes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import schema, videos

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"


def uris(where):
    return videos.find(str(where))["uri"].to_pylist()


def identify(table):
    return next(videos.IdentifyVideos()(table)).to_pylist()


def source(uri):
    return pa.Table.from_pylist([{"uri": str(uri), "size": 1, "modified": ""}], schema.SOURCE)


def fill(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_every_file_below_is_a_row_in_order_whatever_its_name(tmp_path):
    names = ["z.mp4", "a b.avi", "deep/er/ünï \n line.mkv", "notes.txt", "chain::memory.mp4", "[x]*?.mov"]
    fill(tmp_path, dict.fromkeys(names, b"1"))
    assert uris(tmp_path) == sorted(str(tmp_path / name) for name in names)
    assert [row["reason"] for row in identify(videos.find(str(tmp_path)))] == [None] * 6


def test_hidden_files_and_folders_are_left_out_but_the_root_may_be_hidden(tmp_path):
    root = fill(tmp_path / ".archive", {"a.mp4": b"1", ".b.mp4": b"2", ".git/c.mp4": b"3"})
    assert uris(root) == [str(root / "a.mp4")]


def test_a_folder_of_images_is_one_source_by_content_not_by_name(tmp_path):
    fill(tmp_path, {"seq/1.dat": PNG + b"12", "seq/2.dat": JPEG, "one/1.png": PNG, "mixed/1.png": PNG, "mixed/2.png": b"text"})
    table = videos.find(str(tmp_path)).to_pylist()
    assert [row["uri"] for row in table] == [str(tmp_path / name) for name in ("mixed/1.png", "mixed/2.png", "one/1.png", "seq")]
    assert table[-1]["size"] == len(PNG) + 2 + len(JPEG)


def test_one_file_may_be_the_address(tmp_path):
    fill(tmp_path, {"a.mp4": b"12"})
    assert videos.find(str(tmp_path / "a.mp4")).select(["uri", "size"]).to_pylist() == [{"uri": str(tmp_path / "a.mp4"), "size": 2}]


def test_an_object_store_is_listed_and_read_by_its_addresses():
    fsspec.filesystem("memory").pipe({"/store/x.mp4": b"abc", "/store/deep/y.mp4": b"d"})
    table = videos.find("memory://store")
    assert table["uri"].to_pylist() == ["memory:///store/deep/y.mp4", "memory:///store/x.mp4"]
    assert identify(table)[1]["video_id"] == hashlib.sha256(b"abc").hexdigest()[:32]


def test_a_local_path_is_made_absolute_because_workers_stand_elsewhere(tmp_path, monkeypatch):
    fill(tmp_path, {"a.mp4": b"1"})
    monkeypatch.chdir(tmp_path)
    assert uris(".") == [str(tmp_path / "a.mp4")]


def test_a_name_that_is_not_text_is_found_again(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4")
    try:
        Path(os.fsdecode(path)).write_bytes(b"abc")
    except OSError:
        pytest.skip("this file system takes no names that are not UTF-8")
    table = videos.find(str(tmp_path))
    assert table["uri"].to_pylist()[0].startswith("file-bytes:")
    assert identify(table)[0]["video_id"] == hashlib.sha256(b"abc").hexdigest()[:32]


@pytest.mark.parametrize("uri", ["/no/such/place", "memory://no/such/place"])
def test_a_missing_address_is_one_sentence(uri):
    with pytest.raises(FileNotFoundError, match=r"videos\.uri='.*no/such/place' does not exist; expected a folder or a file"):
        videos.find(uri)


def test_an_unknown_kind_of_address_is_one_sentence():
    with pytest.raises(OSError, match=r"the address 'gopher://x' cannot be opened: Protocol not known"):
        videos.find("gopher://x")


def test_links_to_files_count_and_pipes_and_links_to_folders_do_not(tmp_path):
    fill(tmp_path, {"real/a.mp4": b"abc"})
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real" / "a.mp4")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "gone")
    (tmp_path / "again").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe.mp4")
    rows = {Path(row["uri"]).name: row for row in identify(videos.find(str(tmp_path)))}
    assert rows.keys() == {"a.mp4", "link.mp4", "broken.mp4"}
    assert rows["link.mp4"]["video_id"] == rows["a.mp4"]["video_id"]
    assert rows["broken.mp4"]["reason"] == "unreadable"


@given(st.binary(max_size=4096))
def test_the_identity_is_the_sha256_of_the_bytes(data):
    fsspec.filesystem("memory").pipe("/hash/x", data)
    assert videos.content_hash("memory://hash/x") == hashlib.sha256(data).hexdigest()[:32]


def test_an_image_folder_is_known_by_its_images_and_their_order_not_by_names(tmp_path):
    first = fill(tmp_path / "a", {"1.png": PNG + b"x", "2.png": PNG + b"y", ".hidden": b"z"})
    renamed = fill(tmp_path / "b", {"p.png": PNG + b"x", "q.png": PNG + b"y"})
    swapped = fill(tmp_path / "c", {"1.png": PNG + b"y", "2.png": PNG + b"x"})
    hashes = [videos.content_hash(str(folder)) for folder in (first, renamed, swapped)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_empty_file_and_a_vanished_one_are_rows_and_the_others_go_on(tmp_path):
    fill(tmp_path, {"a.mp4": b"", "b.mp4": b"x", "c.mp4": b"y"})
    found = videos.find(str(tmp_path))
    (tmp_path / "b.mp4").unlink()
    rows = identify(found)
    assert [row["reason"] for row in rows] == ["empty", "unreadable", None]
    assert rows[1]["video_id"].startswith("unread-")
    assert rows[1]["video_id"] != identify(source(tmp_path / "other"))[0]["video_id"]


def test_no_reason_tells_a_path_or_a_name(tmp_path):
    (row,) = identify(source(tmp_path / "Doe_John_1970.mp4"))
    assert "Doe" not in row["detail"]
    assert str(tmp_path) not in row["detail"]
    assert "Doe" not in row["video_id"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody without permission")
def test_a_file_without_permission_is_a_row_and_a_folder_without_is_a_sentence(tmp_path):
    code = """
import json, os, sys
from engine import videos
os.setgroups([]); os.setgid(65534); os.setuid(65534)
rows = next(videos.IdentifyVideos()(videos.find(sys.argv[1]))).to_pylist()
try:
    videos.find(sys.argv[2])
except OSError as error:
    print(json.dumps([[row["reason"] for row in rows], str(error)]))
"""
    fill(tmp_path, {"open/a.mp4": b"x", "open/b.mp4": b"y", "open/shut/d.mp4": b"z", "closed/c.mp4": b"z"})
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == 0 and path != Path("/") and "pytest" in str(path):
            path.chmod(0o755)
    (tmp_path / "open" / "a.mp4").chmod(0)
    (tmp_path / "open" / "shut").chmod(0)
    (tmp_path / "closed").chmod(0)
    run = [sys.executable, "-c", code, str(tmp_path / "open"), str(tmp_path / "closed")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    reasons, sentence = json.loads(done.stdout)
    assert reasons == ["unreadable", None, "unreadable"]
    assert "cannot be listed" in sentence


def test_the_same_source_gives_the_same_row_in_any_batch(tmp_path):
    fill(tmp_path, {name: name.encode() for name in ("a", "b", "c")})
    found = videos.find(str(tmp_path))
    assert identify(found) == [row for k in range(3) for row in identify(found.slice(k, 1))]


def confirmed(table):
    return [row["reason"] for row in next(videos.ConfirmVideos()(table)).to_pylist()]


def test_a_file_that_was_written_anew_since_it_was_named_is_replaced_whatever_its_size_and_time_say(tmp_path):
    fill(tmp_path, {"a.mp4": b"1", "b.mp4": b"2", "seq/1.png": PNG, "seq/2.png": JPEG, "c.mp4": b"3", "d.mp4": b""})
    named = next(videos.IdentifyVideos()(videos.find(str(tmp_path))))
    assert confirmed(named) == [None, None, None, "empty", None]
    times = os.stat(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").write_bytes(b"9")
    os.utime(tmp_path / "b.mp4", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "seq" / "2.png").write_bytes(JPEG + b"x")
    (tmp_path / "c.mp4").unlink()
    assert confirmed(named) == [None, "replaced", None, "empty", "replaced"]


def test_of_an_object_with_an_etag_that_is_asked_and_no_byte_is_read_again(monkeypatch):
    fs = fsspec.filesystem("memory")
    fs.pipe({"/etags/a": b"1", "/etags/b": b"2"})
    rows = [{"uri": f"memory://etags/{name}", "size": 1, "modified": "one", "video_id": name, "reason": None} for name in "ab"]
    told = type(fs).info
    monkeypatch.setattr(type(fs), "info", lambda self, path, **_: told(self, path) | {"ETag": "one" if path.endswith("a") else "two"})
    monkeypatch.setattr(videos, "content_hash", lambda _: pytest.fail("read again"))
    assert confirmed(pa.Table.from_pylist(rows, schema.VIDEO)) == [None, "replaced"]
