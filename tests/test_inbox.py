"""What has come to rest in an inbox: by two looks of the watcher's own clock, whatever the order of arrivals and the files' times."""

import os
import tracemalloc
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import inbox, listing
from engine.inbox import Inbox, Known, batch_of
from engine.listing import key_of, sources

PNG = b"\x89PNG\r\n\x1a\n"
SETTLE = 30


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def row(name, size=1, modified="0"):
    return {"uri": name, "size": size, "modified": modified}


def watched(settle=SETTLE, known=()):
    clock = Clock()
    return Inbox("nowhere", settle, Known(map(key_of, known)), clock), clock


def names(waiting):
    return [one.row["uri"] for one in waiting]


def model(looks, settle):
    """Brute force: of the last look, what was the same at all looks of an unbroken run back to one that lies `settle` before it."""
    rested = {}
    now, last = looks[-1]
    for name, state in last.items():
        since, arrived = now, now
        for then, there in reversed(looks):
            if name not in there:
                break
            arrived = then
            since = then if there[name] == state and since == previous(looks, then) else since
        if now - since >= settle:
            rested[name] = arrived
    return sorted(rested, key=lambda name: (rested[name], name))


def previous(looks, then):
    """The moment of the look right after `then`, or `then` itself where it is the last."""
    later = [moment for moment, _ in looks if moment > then]
    return later[0] if later else then


STATES = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(0, 2), st.sampled_from(["1970", "2150", "5e9"])))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), STATES), min_size=1, max_size=8))
def test_what_has_rested_is_what_a_search_through_all_looks_says(history):
    box, clock = watched()
    looks = []
    for passed, files in history:
        clock.now += passed
        looks.append((clock.now, files))
        box.see(row(name, *state) for name, state in sorted(files.items()))
        assert names(box.rested()) == model(looks, SETTLE)


def test_what_the_ledger_has_is_never_waited_for_and_what_changed_is_new(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    known = [one for one in sources(*located(tmp_path), lambda _: False) if one["uri"].endswith("a")]
    clock = Clock()
    box = Inbox(str(tmp_path), 0, Known(map(key_of, known)), clock)
    box.look()
    assert [Path(name).name for name in names(box.rested())] == ["b"]
    (tmp_path / "a").write_bytes(b"longer")
    box.look()
    assert {Path(name).name for name in names(box.rested())} == {"a", "b"}


def located(folder):
    return fsspec.filesystem("file"), str(folder)


def test_a_file_of_the_future_rests_like_any_other(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"1")
    os.utime(tmp_path / "a.mp4", (4e9, 4e9))
    clock = Clock()
    box = Inbox(str(tmp_path), SETTLE, Known(), clock)
    box.look()
    assert not box.rested()
    clock.now = SETTLE
    box.look()
    assert len(box.rested()) == 1


def test_what_was_put_off_waits_and_is_tried_at_once_when_it_changes():
    box, clock = watched(settle=0)
    box.see([row("a")])
    (one,) = box.rested()
    box.put_off(one, 100)
    assert not box.rested()
    clock.now = 50
    box.see([row("a", 2)])
    assert names(box.rested()) == ["a"]


def test_what_is_done_is_not_told_of_again_until_it_is_called_back():
    box, _ = watched(settle=0)
    box.see([row("a")])
    box.done(box.rested()[0])
    assert box.is_known(row("a"))
    assert not box.waiting
    box.known.drop(key_of(row("a")))
    assert not box.is_known(row("a"))
    box.known.add(key_of(row("a")))
    assert box.is_known(row("a"))


@settings(deadline=None)
@given(st.sets(st.integers(0, 2**64 - 1)), st.lists(st.tuples(st.booleans(), st.integers(0, 2**64 - 1)), max_size=30))
def test_known_keys_are_those_of_a_set(first, changes):
    found, expected = Known(first), set(first)
    for adds, key in changes:
        (found.add if adds else found.drop)(key)
        (expected.add if adds else expected.discard)(key)
    assert all((key in found) == (key in expected) for key in first | {key for _, key in changes})


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(1, 80), st.integers(1, 8))
def test_a_batch_is_the_longest_beginning_within_its_bounds_and_one_in_any_case(sizes, most_bytes, most):
    box, _ = watched(settle=0)
    box.see(row(f"{n:02}", size) for n, size in enumerate(sizes))
    taken = len(batch_of(box.rested(), most_bytes, most))
    fits = [n for n in range(1, min(most, len(sizes)) + 1) if sum(sizes[:n]) <= most_bytes]
    assert taken == max(fits, default=1)


def test_an_inbox_that_is_not_there_is_one_sentence_and_nothing_is_forgotten(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"1")
    box = Inbox(str(folder), 0, Known(), Clock())
    box.look()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"videos\.uri='.*inbox' does not exist; expected a folder"):
        box.look()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        inbox.glance(str(folder))
    assert len(box.waiting) == 1


# -- listing --------------------------------------------------------------------------------------------------------------------


def test_a_folder_of_images_beyond_what_is_held_is_one_source_and_with_a_video_last_it_is_many(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "HELD", 3)
    monkeypatch.setattr(listing, "PEEKED", 2)
    for name in ("seq", "mixed"):
        (tmp_path / name).mkdir()
        for number in range(12):
            (tmp_path / name / f"{number:02}.png").write_bytes(PNG + bytes([number]))
    (tmp_path / "mixed" / "zz.mp4").write_bytes(b"video")
    found = sorted(Path(one["uri"]).relative_to(tmp_path).as_posix() for one in sources(*located(tmp_path), lambda _: False))
    assert found == [*(f"mixed/{n:02}.png" for n in range(12)), "mixed/zz.mp4", "seq"]


def test_no_file_is_opened_of_a_folder_whose_sources_are_known(tmp_path, monkeypatch):
    for name in ("seq/1.png", "seq/2.png", "one/a.mp4", "one/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG if name.startswith("seq") else b"1")
    known = Known(map(key_of, sources(*located(tmp_path), lambda _: False)))
    monkeypatch.setattr(listing, "is_still", lambda *_: pytest.fail("opened"))
    assert not list(sources(*located(tmp_path), lambda one: key_of(one) in known))


class Endless(fsspec.AbstractFileSystem):
    """A bucket of `count` small objects, whose names are made when they are asked for; pages as of s3fs."""

    protocol = "endless"
    cachable = False
    loop = None

    def __init__(self, count):
        super().__init__()
        self.count, self.listed = count, 0

    async def _iterdir(self, bucket, delimiter="", prefix=""):
        for number in range(self.count):
            self.listed += 1
            yield {"name": f"{bucket}/{number // 50:06}/{number:08}.mp4", "type": "file", "size": number, "ETag": f'"{number}"'}


@pytest.mark.parametrize("known", [pytest.param(True, marks=pytest.mark.slow), False])
def test_memory_stays_flat_while_two_hundred_thousand_names_are_listed(known, monkeypatch):
    monkeypatch.setattr(inbox, "MOST", 500)
    fs = Endless(200_000)
    monkeypatch.setattr(fs, "loop", fsspec.asyn.get_loop())
    monkeypatch.setattr(listing, "is_still", lambda *_: False)  # its objects have no bytes
    box, _ = watched()
    tracemalloc.start()
    box.see(sources(fs, "bucket", lambda _: known))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fs.listed == 200_000
    assert len(box.waiting) == (0 if known else 500)
    assert peak < 5 * 2**20  # all names alone are 5 MB of text and 40 MB of objects


def test_a_look_gives_a_sign_of_life_at_every_source_that_is_listed(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    beats = []
    inbox = Inbox(str(tmp_path), 0, Known(), beat=lambda: beats.append(1))
    inbox.look()
    first = len(beats)
    inbox.known = Known(one.key for one in inbox.waiting.values())
    inbox.look()  # of what is known, too
    assert first >= 3 <= len(beats) - first
