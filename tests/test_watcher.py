"""What a watcher does with what fails: it waits for what is away, and sets aside what is to blame."""

import errno
import logging
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic, sleep, time
from types import SimpleNamespace

import pyarrow as pa
import pytest

from engine import flow, inbox, schema, videos
from engine.knobs import amend
from engine.listing import key_of, name_of
from engine.store import PatchStore, WriteRows, attempts, lock, quarantine, writers
from jobs import after, ingest, quiet, rounds
from jobs.absence import Absence
from jobs.aside import Aside
from jobs.health import Health
from jobs.latency import Latency
from jobs.line import Past
from jobs.recipes import tiny
from jobs.rounds import announce, begun, refuse_nowhere
from jobs.watch import Warden
from jobs.watcher import TakenOverError, Watcher
from tests import rows
from tests.crashes import workers

KNOBS = ["watch.settle_s=0", "watch.look_s=0.01", "watch.batch_s=0", "watch.backoff_s=0.001", "watch.backoff_most_s=0.001", "watch.tries=3"]


class Line:
    stopping = False

    @contextmanager
    def at_work(self):
        yield

    def tell(self, word, said=""):
        pass

    def beat(self):
        pass


class Quick(Watcher):
    """A watcher that decodes nothing, meets what `meets` says, one a batch, before it takes in the rest, and always fails at `poison`."""

    def __init__(self, folder, meets=(), poison="", inbox="inbox"):
        config = amend(tiny(), [*KNOBS, "watch.once=true", f"videos.uri={folder}/{inbox}", f"store.uri={folder}/store"])
        super().__init__(config, PatchStore(config.store.uri), [], Line(), Past(), SimpleNamespace(log=lambda numbers, step: None))
        self.meets, self.poison, self.batches, self.counts = list(meets), poison, [], []

    def ingest(self, batch):
        self.batches.append(len(batch))
        self.counts.append(attempts.begun(self.store))
        if self.meets:
            raise self.meets.pop(0)()
        ids = [Path(one.row["uri"]).stem for one in batch]
        if self.poison in ids:
            raise OSError(5, "cannot be read")
        videos = [row | one.row for row, one in zip(rows.videos(*ids).to_pylist(), batch, strict=True)]
        written = pa.concat_tables([out for name in ids for out in WriteRows(self.store.uri)(rows.scored(name))])
        self.store.commit(written, pa.Table.from_pylist(videos, rows.videos(*ids).schema), rows.STAMP)
        for one in batch:
            self.inbox.done(one)

    def go(self):
        self.run(SimpleNamespace(check=lambda: None))
        return self


@pytest.fixture
def folder(tmp_path, caplog):
    caplog.set_level(logging.INFO, "jobs.watch")
    PatchStore(str(tmp_path / "store")).create(rows.WIDTH)
    (tmp_path / "inbox").mkdir()
    for name in ("aa", "bb"):
        (tmp_path / "inbox" / f"{name}.mp4").write_bytes(name.encode())
    return tmp_path


def ledger(watcher):
    return {row["video_id"]: row["reason"] for row in watcher.store.ledger().to_pylist()}


def full():
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.processes
def test_a_full_disk_is_waited_for_told_of_once_and_blamed_on_nobody(folder, caplog):
    watcher = Quick(folder, [full] * 5).go()
    assert watcher.batches == [2] * 6
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert not attempts.begun(watcher.store)
    told = [record.message for record in caplog.records if record.message.startswith(("the disk", "back"))]
    assert told[0] == "the disk is full; waiting, nothing is lost"
    assert "5 tries in vain" in told[1]
    assert len(told) == 2


def test_a_cluster_that_lost_its_nodes_is_waited_for_and_blamed_on_nobody(folder, caplog):
    """More often than watch.tries, and a source that is tried alone, too."""
    small = partial(flow.ClusterError, "the job needs 5.25 CPUs at once and the Ray cluster has 0")
    with suppress(ZeroDivisionError):
        Quick(folder, [ZeroDivisionError]).go()  # so that each is tried alone
    watcher, heard = Quick(folder, [small] * 5), []
    watcher.line.tell = lambda word, said="": heard.append((word, said))
    watcher.go()
    assert watcher.batches == [1] * 7
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert not attempts.begun(watcher.store)
    assert [one for one in heard if one[0] in ("waits", "goes on", "failed")] == [("waits", "cluster"), ("goes on", "cluster")]
    assert caplog.text.count("the Ray cluster has 0; waiting, nothing is lost") == 1


def test_a_store_that_goes_away_is_waited_for_and_nothing_is_made_in_its_place(folder, caplog):
    watcher = Quick(folder)

    def goes():
        (folder / "store").rename(folder / "elsewhere")
        return OSError("gone")

    def comes_back(seconds=None):
        assert not (folder / "store").exists()
        (folder / "elsewhere").rename(folder / "store")
        watcher.rest = type(watcher).rest.__get__(watcher)

    watcher.meets, watcher.rest = [goes], comes_back
    watcher.config = amend(watcher.config, ["watch.backoff_s=1", "watch.backoff_most_s=1"])
    watcher.outage.wait = lambda tries: 0.5
    watcher.go()
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert not attempts.begun(watcher.store)
    assert "gone; waiting, nothing is lost" in caplog.text
    assert "back after" in caplog.text


def test_a_store_that_goes_away_amid_a_batch_is_waited_for_whatever_says_so(folder, caplog):
    """A table that is asked for says that no job has made it; the followers, which write beside it, are not called."""
    watcher, heard = Quick(folder), []
    watcher.line.tell = lambda word, said="": heard.append((word, said))
    watcher.closed.line = watcher.outage.line = watcher.line
    watcher.outage.wait = lambda tries: 0.2

    def goes():
        (folder / "store").rename(folder / "elsewhere")
        watcher.store.open("frames")

    def comes_back():
        (folder / "elsewhere").rename(folder / "store")
        watcher.rest = type(watcher).rest.__get__(watcher)

    watcher.meets, watcher.rest = [goes], comes_back
    watcher.go()
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert not attempts.begun(watcher.store)
    assert [one for one in heard if one[0] in ("waits", "goes on", "failed")] == [("waits", "store"), ("goes on", "store")]


def test_a_store_that_is_away_when_the_lease_is_looked_at_is_waited_for(folder):
    watcher, calls = Quick(folder), []
    watcher.outage.wait = lambda tries: 0.2

    def check():
        calls.append((folder / "store").exists())
        if len(calls) == 2:  # the first was for a look, this one is for a batch
            (folder / "store").rename(folder / "elsewhere")
            watcher.store.open("locks")

    def comes_back():
        (folder / "elsewhere").rename(folder / "store")
        watcher.rest = type(watcher).rest.__get__(watcher)

    watcher.rest = comes_back
    watcher.run(SimpleNamespace(check=check))
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert len(calls) >= 4
    assert all(calls)
    assert not attempts.begun(watcher.store)


def test_one_whose_inbox_was_taken_over_while_it_stood_still_stands_by_until_the_other_is_gone(folder, monkeypatch, caplog):
    heard, health = [], Health(Quick(folder).config)
    health.begins(1)

    def tell(word, said=""):
        health.turned = monotonic()
        health.hear(word, said)
        heard.append((word, health.state, health.is_ready))

    def taken_over(self, lease):
        self.line.tell("watching")
        self.look()
        other = lock.row(lease.name, f"{lock.machine()}/1/other", time() + lock.LEASE)
        assert lock.put(self.store, other, lease.owner)
        monkeypatch.setattr(Quick, "run", Watcher.run)
        self.run(lease)

    def beat():
        if heard[-1][0] == "standing by":
            watcher.store.open("locks").delete("owner LIKE '%/other'")

    monkeypatch.setattr(Quick, "run", taken_over)
    monkeypatch.setattr(rounds, "Watcher", lambda config, store, work, line, past, record: made.pop(0))
    watcher, line = Quick(folder), Line()
    line.tell, line.beat, line.also = tell, beat, []
    made = [Quick(folder), watcher]
    for one in made:
        one.line = line
    with quiet.Surprises():
        rounds.keep_watch((amend(watcher.config, ["watch.once=false"]), watcher.store, []), line, Past())
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert [one for one in heard if one[0] in ("looked", "standing by")][:2] == [
        ("looked", "watching", True),
        ("standing by", "another watcher holds the inbox", False),
    ]
    assert caplog.text.count("another watcher took over this inbox") == 1
    assert "surprise" not in caplog.text


def test_a_disk_that_is_full_when_the_lease_of_the_inbox_is_asked_for_is_waited_for(folder, monkeypatch, caplog):
    """Lance says so amid a write; nothing of it is a surprise, and the watch begins when there is room."""
    write, full, heard = lock.is_won, [True, True], []

    def is_won(*given):
        if full:
            full.pop()
            raise OSError("LanceError(IO): No space left on device (os error 28), structural.rs:254:9")
        return write(*given)

    monkeypatch.setattr(lock, "is_won", is_won)
    monkeypatch.setattr(rounds, "Watcher", lambda config, store, work, line, past, record: watcher)
    watcher, line = Quick(folder), Line()
    line.tell, line.also = lambda *said: heard.append(said), []
    watcher.line = line
    with quiet.Surprises():
        rounds.keep_watch((watcher.config, watcher.store, []), line, Past())
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert ("waits", "disk") in heard
    assert "the disk is full; waiting, nothing is lost" in caplog.text
    assert "surprise" not in caplog.text


def test_what_was_taken_in_as_the_store_went_away_is_not_under_way_for_ever(folder):
    """Its rows are there, and only the word that it ended could not be written."""
    watcher = Quick(folder)
    take, look = watcher.ingest, watcher.inbox.look

    def ingest(batch):
        take(batch)
        (folder / "store").rename(folder / "elsewhere")

    def looked():
        if (folder / "elsewhere").exists():
            assert attempts.begun(PatchStore(f"{folder}/elsewhere"))
            (folder / "elsewhere").rename(folder / "store")
        look()

    watcher.ingest, watcher.inbox.look = ingest, looked
    watcher.go()
    assert set(ledger(watcher)) == {"aa", "bb"}
    assert not attempts.begun(watcher.store)


@pytest.mark.processes
def test_what_fails_together_is_tried_alone_and_only_what_fails_alone_is_set_aside(folder):
    watcher = Quick(folder, poison="aa").go()
    assert watcher.batches == [2, 1, 1, 1, 1]
    assert sorted(str(reason) for reason in ledger(watcher).values()) == ["None", "quarantined"]
    assert [sorted(counts.values()) for counts in watcher.counts[:2]] == [[0, 0], [0, 1]]
    assert not attempts.begun(watcher.store)
    again = Quick(folder).go()
    assert again.batches == []
    quarantine.requeue(again.store, "all", "")
    assert Quick(folder).go().batches == [1]
    assert set(ledger(watcher).values()) == {None}


def test_a_death_counts_while_alone_and_what_died_too_often_is_not_tried_again(folder):
    for deaths in range(5):
        with suppress(ZeroDivisionError):
            Quick(folder, [ZeroDivisionError]).go()
        counts = sorted(attempts.begun(PatchStore(f"{folder}/store")).values())
        assert counts == ([[0, 0], [0, 1], [0, 2], [0, 3]][deaths] if deaths < 4 else [1])  # then the first is set aside and the next begun
    assert list(ledger(Quick(folder)).values()) == ["quarantined"]
    assert sorted(map(str, ledger(Quick(folder).go()).values())) == ["None", "quarantined"]


@pytest.mark.parametrize("most", [10, 2])
def test_what_was_under_way_and_is_there_no_more_is_forgotten_where_all_that_is_there_is_seen(folder, monkeypatch, most):
    with suppress(ZeroDivisionError):
        Quick(folder, [ZeroDivisionError]).go()
    (folder / "inbox" / "aa.mp4").rename(folder / "inbox" / "cc.mp4")
    monkeypatch.setattr(inbox, "MOST", most)  # at the limit, what waits may be more than is held, and who is missing may be among it
    watcher = Quick(folder)
    watcher.recall()
    watcher.look()
    assert len(attempts.begun(watcher.store)) == len(watcher.tries) == (1 if most == 10 else 2)
    watcher.go()
    assert ledger(watcher) == {"bb": None, "cc": None}


@pytest.mark.processes
@pytest.mark.parametrize("older", [False, True])
def test_what_was_under_way_in_another_inbox_is_left_to_those_who_watch_it(folder, older):
    """Also where an engine wrote it that did not tell the inbox; called back, or found and taken in, it is forgotten in any case."""
    for _ in range(2):
        with suppress(ZeroDivisionError):
            Quick(folder, [ZeroDivisionError]).go()
    store = PatchStore(f"{folder}/store")
    if older:
        names = {name.partition("@")[0]: tries for name, tries in attempts.begun(store).items()}
        attempts.end(store, list(attempts.begun(store)))
        attempts.begin(store, names)
    before = attempts.begun(store)
    (folder / "other").mkdir()
    (folder / "other" / "cc.mp4").write_bytes(b"cc")
    other = Quick(folder, inbox="other").go()
    assert (attempts.begun(store), sorted(before.values())) == (before, [0, 1])
    assert other.batches == [1]
    mine = Quick(folder).go()
    assert mine.batches == [1, 1]
    assert not attempts.begun(store)
    assert ledger(mine) == {"aa": None, "bb": None, "cc": None}


def test_what_is_abandoned_by_will_does_not_count(folder):
    with suppress(ZeroDivisionError):
        Quick(folder, [ZeroDivisionError]).go()
    before = attempts.begun(PatchStore(f"{folder}/store"))
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            Quick(folder, [KeyboardInterrupt]).go()
        assert attempts.begun(PatchStore(f"{folder}/store")) == before
    assert ledger(Quick(folder).go()) == {"aa": None, "bb": None}


def test_an_inbox_that_vanishes_is_waited_for(folder, caplog):
    watcher = Quick(folder)
    (folder / "inbox").rename(folder / "elsewhere")
    watcher.closed.wait = lambda tries: 0.1

    def comes_back():
        (folder / "elsewhere").rename(folder / "inbox")
        watcher.rest = type(watcher).rest.__get__(watcher)

    watcher.rest = comes_back
    watcher.go()
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert caplog.text.count("does not exist; expected a folder or a file with video; waiting, nothing is lost") == 1


def test_upkeep_is_done_beside_and_what_arrives_meanwhile_does_not_wait_for_it(folder):
    """Both ways: that upkeep ends when late.mp4 is taken in, and the job, which ends with the last file, when upkeep did."""
    watcher, heard = Quick(folder), []
    watcher.line.tell = lambda word, said="": heard.append((word, said))
    watcher.upkeep.aside.work = workers.keeps_up
    watcher.upkeep.plan = lambda: setattr(watcher.upkeep, "next", 0.0)
    watcher.config = watcher.upkeep.config = amend(watcher.config, ["watch.upkeep_s=1000"])
    watcher.go()
    assert ledger(watcher) == {"aa": None, "bb": None, "late": None}
    assert (folder / "kept up").read_text() == "3"
    words = [word for word, _ in heard]
    assert words.count("keeping up") == words.count("kept up") == 1
    assert words.index("keeping up") < words.index("kept up")


@pytest.mark.processes
def test_under_once_upkeep_is_done_at_the_end_where_it_is_due(folder):
    """By their rows the videos came in long ago: it is due for the second one and, for that one did it, not for the third."""
    found = []
    for _ in range(3):
        watcher = Quick(folder).go()
        found.append(watcher.store.query("SELECT count(*) AS many FROM journal WHERE job = 'maintain'").to_pylist()[0]["many"])
    assert found == [0, 1, 1]


@pytest.mark.processes
def test_work_beside_that_stands_still_is_ended_and_work_that_fails_says_why(folder):
    watcher = Quick(folder)
    for work, why in ((workers.is_stopped, "it was silent for 9 s"), (workers.says_why, "there is no room")):
        one = Aside(amend(watcher.config, ["watch.patience_s=9"]), work)
        one.start()
        deadline = monotonic() + 100
        while one.is_busy and monotonic() < deadline:
            sleep(0.1)
        assert (one.is_busy, one.ended(), one.ended()) == (False, why, None)


def test_the_backlog_counts_what_waits_and_no_copies(folder, monkeypatch, caplog):
    """Of three sources one has the bytes of another: it is no row, and when the batch is told of it waits no more."""
    (folder / "inbox" / "copy.mp4").write_bytes(b"aa")
    monkeypatch.setattr(ingest, "batches", all_but_copies)
    watcher, heard = Quick(folder), []
    watcher.line.tell = lambda word, said="": heard.append((word, said))
    record = SimpleNamespace(log=lambda numbers, step: None)
    watcher.followers = [Latency(watcher.inbox, record, watcher.line).tell]
    watcher.look()
    watcher.look()
    batch = watcher.inbox.rested()
    (folder / "inbox" / "later.mp4").write_bytes(b"later")
    watcher.look()
    watcher.aside = {7}  # the key of one that was set aside since
    Watcher.ingest(watcher, batch)
    assert [said for word, said in heard if word in ("looked", "left")][-1] == {"backlog": 1, "unread": 0, "quarantined": 1}
    assert "batch 1: 2 videos, 0 with a reason, 0 patches" in caplog.text
    assert caplog.text.count("· 1 wait") == 1


def all_but_copies(config, store, sources, *rest):
    """As the job ingest, which gives no rows of copies."""
    ids = ["aa", "bb"]
    found = [
        row | next(one for one in sources.to_pylist() if Path(one["uri"]).stem == row["video_id"]) for row in rows.videos(*ids).to_pylist()
    ]
    written = pa.Table.from_pylist(
        [dict.fromkeys(schema.WRITTEN.names) | {"video_id": one, "reason": None, "patches": 0, "expected": 0} for one in ids],
        schema.WRITTEN,
    )
    yield store.commit(written, pa.Table.from_pylist(found, schema.VIDEO), rows.STAMP)


def test_where_no_store_is_it_is_said_that_one_is_made_unless_there_is_not_even_the_folder_for_it(tmp_path, caplog):
    announce(PatchStore(f"{tmp_path}/store"))
    assert caplog.messages == [f"there is no store at {tmp_path}/store: a new store is made there"]
    nowhere = r"^there is no store at .*/mnt/store, nor a folder for a new one: mount the disk"
    with pytest.raises(ValueError, match=nowhere):
        refuse_nowhere(PatchStore(f"{tmp_path}/mnt/store"))
    with pytest.raises(ValueError, match=nowhere):  # before it is said that there is no scorer in it
        begun(amend(tiny(), [f"store.uri={tmp_path}/mnt/store", f"videos.uri={tmp_path}"]))
    PatchStore(f"{tmp_path}/store").create(rows.WIDTH)
    announce(PatchStore(f"{tmp_path}/store"))
    assert len(caplog.messages) == 1
    assert not (tmp_path / "mnt").exists()


def test_what_another_calls_back_is_taken_in_while_it_watches(folder):
    watcher = Quick(folder)
    quarantine.set_aside(watcher.store, rows.videos("aa").to_pylist()[0] | row_of(folder, "aa"), "", rows.STAMP)
    watcher.go()
    assert watcher.batches == [1]
    quarantine.requeue(watcher.store, "aa", "")
    watcher.look()
    watcher.look()
    assert [Path(one.row["uri"]).stem for one in watcher.due()] == ["aa"]


def test_what_is_called_back_before_the_first_look_that_succeeds_is_taken_in(folder):
    watcher = Quick(folder)
    quarantine.set_aside(watcher.store, rows.videos("aa").to_pylist()[0] | row_of(folder, "aa"), "", rows.STAMP)
    watcher.recall()
    (folder / "inbox").rename(folder / "elsewhere")
    watcher.look()
    (folder / "elsewhere").rename(folder / "inbox")
    quarantine.requeue(watcher.store, "aa", "")
    watcher.go()
    assert ledger(watcher) == {"aa": None, "bb": None}


def test_what_is_called_back_after_a_commit_that_was_done_and_denied_has_its_tries_counted_anew(folder, monkeypatch):
    attempts.begin(PatchStore(f"{folder}/store"), {attempts.of(name_of(key_of(row_of(folder, "aa"))), writers.mark(f"{folder}/inbox")): 3})
    watcher, set_aside = Quick(folder), quarantine.set_aside

    def denied(*given):
        set_aside(*given)
        raise OSError(5, "the answer was lost")

    monkeypatch.setattr(quarantine, "set_aside", denied)
    watcher.recall()
    watcher.look()
    watcher.take_in(watcher.due(), SimpleNamespace(check=lambda: None))
    assert list(watcher.tries.values()) == [4]
    watcher.look()
    assert len(watcher.aside) == 1
    quarantine.requeue(watcher.store, "all", "")
    watcher.look()
    assert not watcher.tries


def test_a_cluster_whose_room_others_hold_is_waited_for_before_a_batch_and_blamed_on_nobody(folder, monkeypatch):
    """More often than watch.tries; what is asked of the cluster is what `submit` asks, GPUs for SAM among it, and room for the pools."""
    asked, busy = [], ["others hold too much"] * 5

    def await_pools(steps, seconds):
        if busy:
            raise flow.ClusterError(busy.pop())

    monkeypatch.setattr(flow, "connect", lambda *needed: asked.append(needed))
    monkeypatch.setattr(flow, "await_pools", await_pools)
    watcher, heard = Quick(folder), []
    watcher.config = amend(watcher.config, ["where=ray", "patches.proposer=sam", "patches.checkpoint=official"])
    watcher.line.tell = lambda word, said="": heard.append((word, said))
    watcher.go()
    assert watcher.batches == [2]
    assert ledger(watcher) == {"aa": None, "bb": None}
    assert [one for one in heard if one[0] in ("waits", "goes on", "failed")] == [("waits", "cluster"), ("goes on", "cluster")]
    assert asked == [(5.25, 0.75)] * 6


def test_what_is_due_beside_once_the_process_beside_ended_is_asked_for_without_another_batch(folder, monkeypatch):
    """Three times something is due, and nothing arrives after the first batch; under watch.once the job ends after all three."""
    left = [1, 2, 3]
    monkeypatch.setattr(after, "STEPS", {})
    monkeypatch.setattr(after, "DUE", {"rescore": lambda config: bool(left)})
    watcher, started = Quick(folder), []
    watcher.after.aside.work = workers.does_nothing
    start = watcher.after.aside.start
    monkeypatch.setattr(watcher.after.aside, "start", lambda: (started.append(left.pop()), start()))
    watcher.go()
    assert (started, left) == ([3, 2, 1], [])


def row_of(folder, name):
    from engine.videos import find

    return next(row for row in find(str(folder / "inbox")).to_pylist() if Path(row["uri"]).stem == name)


def test_a_source_that_cannot_be_opened_is_tried_so_often_and_then_set_aside(folder, monkeypatch):
    (folder / "inbox" / "gone.mp4").symlink_to(folder / "nowhere")
    monkeypatch.setattr(ingest, "batches", entered_as_unreadable)
    watcher = Quick(folder)
    health = Health(watcher.config)
    watcher.line.tell = lambda word, said="": health.hear(word, said)
    watcher.followers = [watcher.latency.tell]

    def waiting():
        watcher.look()
        return [one for one in watcher.inbox.waiting.values() if one.row["uri"].endswith("gone.mp4")]

    for tries in (0, 1, 2):
        (one,) = waiting()
        assert one.tries == tries
        Watcher.ingest(watcher, [one])
    assert not waiting()
    (row,) = watcher.store.ledger().to_pylist()
    assert (row["reason"], row["detail"]) == ("quarantined", "It was tried 3 times, and each time it could not be read.")
    assert counted(health, "endocurate_videos_total") == {'{reason="quarantined"}': 1}
    assert counted(health, "endocurate_latency_seconds_count") == counted(health, "endocurate_batches_total") == {"": 1}
    assert health.sums["videos"] == health.sums["refused"] == 1
    assert health.numbers["quarantined"] == 1
    quarantine.requeue(watcher.store, "all", "")
    waiting()  # it sees that it was called back,
    assert waiting()  # and then the file


def test_tries_of_what_cannot_be_opened_count_over_runs_and_are_told(folder, monkeypatch, caplog):
    """As from cron with watch.once, where each run tries it once."""
    (folder / "inbox" / "gone.mp4").symlink_to(folder / "nowhere")
    for name in ("aa", "bb"):
        (folder / "inbox" / f"{name}.mp4").unlink()
    monkeypatch.setattr(ingest, "batches", entered_as_unreadable)
    monkeypatch.setattr(Quick, "ingest", Watcher.ingest)
    told = []
    for _ in range(4):
        watcher, warden = Quick(folder), Warden(Quick(folder).config, None, [])
        watcher.config = amend(watcher.config, ["watch.backoff_s=1000", "watch.backoff_most_s=1000"])
        watcher.line.tell = lambda word, said="", health=warden.health: health.hear(word, said)
        watcher.followers = []
        watcher.go()
        warden.tell_sum()
        told.append((*ledger(watcher).values(), len(attempts.begun(watcher.store)), warden.health.numbers["unread"]))
    assert told == [("unreadable", 1, 1), ("unreadable", 1, 1), ("quarantined", 0, 0), ("quarantined", 0, 0)]
    assert caplog.text.count("1 source could not be read: tried again, 3 times in all") == 2
    assert caplog.text.count("0 patches; 1 source could not be read, to be tried again") == 2
    quarantine.requeue(watcher.store, "all", "")
    assert list(ledger(Quick(folder).go()).values()) == ["quarantined"]  # in one run, for there is hardly a back-off
    assert caplog.text.count("tried again, 3 times in all") == 4  # counted anew


def test_under_once_a_second_watcher_ends_at_once_where_another_has_the_inbox(folder, caplog):
    watcher, line = Quick(folder), Line()
    line.also = []
    with writers.watching(watcher.store, watcher.config.videos.uri, lambda: None):
        rounds.keep_watch((watcher.config, watcher.store, []), line, Past())
    assert caplog.text.count("another job watches this inbox: this one ends") == 1
    assert not ledger(watcher)


def counted(health, name):
    """What is above 0 of a meter, by its labels."""
    lines = [line.removeprefix(name).rpartition(" ")[::2] for line in health.meters.text().decode().splitlines() if line.startswith(name)]
    return {labels: float(value) for labels, value in lines if float(value) and labels[:1] in ("", "{")}


def test_failed_tries_are_counted_one_by_one(folder):
    watcher = Quick(folder, poison="aa")
    health = Health(watcher.config)
    watcher.line.tell = lambda word, said="": health.hear(word, said)
    watcher.look()
    (one,) = (one for one in watcher.inbox.waiting.values() if one.row["uri"].endswith("aa.mp4"))
    for tries in (1, 2):
        watcher.take_in([one], SimpleNamespace(check=lambda: None))
        assert counted(health, "endocurate_failed_tries_total") == {"": tries}


def test_what_has_arrived_waits_for_more_as_long_as_it_may_and_no_longer(folder):
    watcher = Quick(folder)
    watcher.config = amend(watcher.config, ["watch.once=false", "watch.batch_s=100", "watch.settle_s=7"])
    watcher.look()
    watcher.look()
    assert len(watcher.inbox.rested()) == 2
    assert watcher.due() == []
    for waited, count in ((106, 0), (108, 2)):  # of one of the two
        next(iter(watcher.inbox.waiting.values())).since = monotonic() - waited
        assert len(watcher.due()) == count


def rested(watcher):
    """What has come to rest after two looks."""
    watcher.look()
    watcher.look()
    return watcher.inbox.rested()


def test_a_batch_has_no_more_bytes_than_it_may(folder):
    watcher = Quick(folder)
    assert len(rested(watcher)) == len(watcher.due()) == 2
    for most, count in ((3, 1), (4, 2)):  # of two files of two bytes
        watcher.config = amend(watcher.config, [f"watch.batch_bytes={most}"])
        assert len(watcher.due()) == count


def test_what_is_put_off_is_not_tried_before_its_time(folder):
    watcher = Quick(folder)
    watcher.config = amend(watcher.config, ["watch.backoff_s=100", "watch.backoff_most_s=1000"])
    (one, other), now = rested(watcher), monotonic()
    watcher.put_off(one, 1)
    assert watcher.inbox.rested() == [other]
    assert 10 < one.until - now < 1100


def test_a_batch_of_one_whose_inbox_is_another_ones_by_now_is_not_begun(folder):
    watcher = Quick(folder)

    def lost():
        raise lock.LostError("another has it")

    with pytest.raises(TakenOverError):
        watcher.take_in(rested(watcher), SimpleNamespace(check=lost))
    assert not watcher.batches
    assert not attempts.begun(watcher.store)


def test_upkeep_is_not_begun_while_something_is_away(folder):
    watcher, started = Quick(folder), []
    watcher.config = amend(watcher.config, ["watch.once=false", "watch.backoff_s=1000", "watch.backoff_most_s=1000"])
    watcher.outage = Absence(watcher.config, watcher.line)
    watcher.upkeep = SimpleNamespace(is_due=True, has_ended=lambda: False, start=lambda: started.append(True))
    watcher.outage.found("store", "it is away")
    watcher.see_beside()
    assert not started
    watcher.outage.over()
    watcher.see_beside()
    assert started == [True]


def test_the_worst_latency_is_that_of_the_source_that_waited_longest(folder):
    watcher, logged = Quick(folder), {}
    watcher.latency.record = SimpleNamespace(log=lambda numbers, step: logged.update(numbers))
    for one, seconds in zip(rested(watcher), (10, 1000), strict=True):
        one.arrived = monotonic() - seconds
    uris = list(watcher.inbox.waiting)
    watcher.latency.tell(
        pa.Table.from_pylist([dict.fromkeys(schema.VIDEOS_TABLE.names) | {"uri": uri} | NUMBERS for uri in uris], schema.VIDEOS_TABLE)
    )
    assert [logged[f"watch/latency_{one}_s"] for one in ("worst", "median")] == pytest.approx([1000, 505], abs=5)


def test_the_latency_of_a_file_that_grew_counts_from_the_first_look_that_saw_it(folder):
    watcher, heard = Quick(folder), []
    watcher.line.tell = lambda word, said="": heard.append((word, said))
    watcher.look()
    for one in watcher.inbox.waiting.values():
        one.arrived, one.since = monotonic() - 1000, monotonic() - 10
    uris = [one.row["uri"] for one in watcher.inbox.waiting.values()]
    ledger = pa.Table.from_pylist([dict.fromkeys(schema.VIDEOS_TABLE.names) | {"uri": uri} | NUMBERS for uri in uris], schema.VIDEOS_TABLE)
    watcher.latency.tell(ledger)
    assert dict(heard)["batch"]["latencies"] == pytest.approx([1000, 1000], abs=5)


NUMBERS = {"size": 1, "modified": "", "video_id": "x", "frames": 1, "kept": 1, "patches": 1, "patches_version": 1} | rows.STAMP


def entered_as_unreadable(config, store, sources, *rest):
    """As the job ingest enters what nobody can open."""
    found = [videos.unread(row, "The file could not be read (FileNotFoundError).") for row in sources.to_pylist()]
    verdicts = [{name: row[name] for name in ("video_id", "reason", "detail")} | {"patches": 0, "expected": 0} for row in found]
    written = pa.Table.from_pylist([dict.fromkeys(schema.WRITTEN.names) | one for one in verdicts], schema.WRITTEN)
    yield store.commit(written, pa.Table.from_pylist(found, schema.VIDEO), rows.STAMP)
