import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from lance.commit import CommitConflictError

from engine.store import PatchStore, lock, writers
from engine.store.lock import locked

ROOT = Path(__file__).resolve().parent.parent
COUNTING = """
import sys, time
from pathlib import Path
from engine.store import PatchStore
from engine.store.lock import locked

counter = Path(sys.argv[2])
for _ in range(4):
    with locked(PatchStore(sys.argv[1]), "commit"):
        seen = int(counter.read_text())
        time.sleep(0.05)  # whoever else were in here would be lost
        counter.write_text(str(seen + 1))
"""
DYING = """
import os, signal, sys
from engine.store import PatchStore
from engine.store.lock import locked

with locked(PatchStore(sys.argv[1]), "commit"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
INHERITING = """
import sys
from engine.store import PatchStore
from engine.store.lock import locked

with locked(PatchStore(sys.argv[1]), "commit") as lease:
    inherited = lease.inherited
sys.exit(7 if inherited else 0)
"""


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(4)
    return made


def leases(store):
    return store.open("locks").to_table().to_pylist()


def python(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT)


@pytest.mark.processes
def test_of_four_processes_one_is_inside_at_a_time(store, tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    racing = [python(COUNTING, store.uri, str(counter)) for _ in range(4)]
    assert [process.wait() for process in racing] == [0] * 4
    assert counter.read_text() == "16"
    assert not leases(store)


def test_the_next_one_learns_of_a_holder_that_was_killed_without_waiting_for_its_lease(store):
    assert python(DYING, store.uri).wait() == -signal.SIGKILL
    began = time.monotonic()
    with locked(store, "commit") as lease:
        assert lease.inherited
    assert time.monotonic() - began < lock.LEASE / 4
    with locked(store, "commit") as lease:
        assert not lease.inherited


def test_the_next_one_learns_of_a_holder_that_failed(store):
    with pytest.raises(OSError, match="disk full"), locked(store, "commit"):
        raise OSError("disk full")
    with locked(store, "commit") as lease:
        assert lease.inherited


FAR = "another-host.boot.pid:[1]/1/abc"


@pytest.mark.parametrize("clock", [-1e6, 0.0, 1e6], ids=["behind", "right", "ahead"])
def test_the_lease_of_another_machine_is_taken_over_once_it_stands_still_whatever_its_clock_says(store, monkeypatch, clock):
    store.open("locks").insert(lock.row("commit", FAR, time.time() + clock))
    with pytest.raises(TimeoutError, match="another job has held the lock 'commit'"), locked(store, "commit", patience=0.5):
        pass
    assert leases(store)[0]["owner"] == FAR
    monkeypatch.setattr(lock, "LEASE", 0.6)
    with locked(store, "commit", patience=20) as lease:
        assert lease.inherited


def test_the_lease_of_another_machine_is_left_alone_while_it_is_renewed(store, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 1.0)
    store.open("locks").insert(lock.row("commit", FAR, 1.0))
    released = threading.Event()
    renewing = threading.Thread(target=lock.renew, args=(store, "commit", FAR, released))
    renewing.start()
    with pytest.raises(TimeoutError), locked(store, "commit", patience=3.0):
        pass
    released.set()
    renewing.join()
    assert leases(store)[0]["owner"] == FAR


def test_who_waits_for_a_lock_gives_signs_of_life(store):
    beats = []
    with locked(store, "commit"), pytest.raises(TimeoutError), locked(store, "commit", patience=0.7, beat=lambda: beats.append(1)):
        pass
    assert 1 <= len(beats) <= 4


@pytest.mark.parametrize(
    "spelled",
    ["{0}/", "{0}/.", "{0}/../inbox", "file://{0}", "{0}-link", "inbox"],
    ids=["slash", "dot", "up and down", "address", "link", "relative"],
)
def test_an_inbox_is_the_same_however_it_is_spelled(tmp_path, monkeypatch, spelled):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox-link").symlink_to(tmp_path / "inbox")
    monkeypatch.chdir(tmp_path)
    assert writers.mark(spelled.format(tmp_path / "inbox")) == writers.mark(str(tmp_path / "inbox"))


def test_inboxes_that_differ_are_told_apart():
    assert writers.mark("s3://bucket/in/") == writers.mark("s3://bucket/in")
    assert len({writers.mark(one) for one in ("s3://bucket/in", "s3://bucket/in2", "/bucket/in", "/bucket")}) == 4


@pytest.mark.parametrize("spelled", ["s3://in", "s3://in/"])
def test_of_two_watchers_of_one_inbox_the_second_says_so_waits_and_takes_over_and_one_of_another_does_not(store, spelled):
    told, inside = [], []

    def second():
        with writers.watching(store, spelled, lambda: told.append("occupied"), lambda: told.append("alive")):
            inside.append(time.monotonic())

    with writers.watching(store, "s3://in", lambda: pytest.fail("nobody else was there")):
        waiting = threading.Thread(target=second)
        waiting.start()
        with writers.watching(store, "s3://elsewhere", lambda: pytest.fail("that is another inbox")):
            deadline = time.monotonic() + 60
            while "alive" not in told and time.monotonic() < deadline:
                time.sleep(0.05)
        time.sleep(0.5)
        left = time.monotonic()
    waiting.join(60)
    assert told[0] == "occupied"
    assert told.count("occupied") == 1
    assert inside[0] >= left


@pytest.mark.processes
def test_of_many_who_find_a_dead_lease_one_inherits_it(store):
    store.open("locks").insert(lock.row("commit", f"{lock.machine()}/4194304/abc", time.time() + 60))  # no such process
    racing = [python(INHERITING, store.uri) for _ in range(4)]
    assert sorted(process.wait() for process in racing) == [0, 0, 0, 7]
    assert not leases(store)


@pytest.mark.parametrize(
    "error", [CommitConflictError("preempted"), OSError("Too many concurrent writers. Attempted 6 times, but failed on retry_timeout")]
)
def test_who_is_crowded_out_of_the_table_of_locks_waits_as_for_one_that_is_held(store, monkeypatch, error):
    """24 threads on one table met it; here Lance gives up once at each of the two ways to a lease."""
    left = [error]
    for name in ("insert", "put"):
        monkeypatch.setattr(lock, name, crowded(left, getattr(lock, name)))
    with lock.locked(store, "commit") as lease:
        assert not lease.inherited
    left.append(error)
    store.open("locks").insert(lock.row("commit", f"{lock.machine()}/4194304/abc", time.time() + 60))
    with lock.locked(store, "commit") as lease:
        assert lease.inherited
    left.append(OSError(5, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"), lock.locked(store, "commit"):
        pass


def crowded(errors, write):
    def written(*given):
        if errors:
            raise errors.pop()
        return write(*given)

    return written


def test_a_process_number_of_another_container_or_of_another_start_of_the_machine_says_nothing(store):
    mine, dead = lock.machine(), 4194304
    host = mine.split(".")[0]
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in mine
    assert mine.endswith(os.readlink("/proc/self/ns/pid"))
    assert lock.is_gone({"owner": f"{mine}/{dead}/x", "until": 9e9})
    assert not lock.is_gone({"owner": f"{mine}/{os.getpid()}/x", "until": 9e9})
    for elsewhere in (host, f"{host}.other-boot.{mine.rpartition('.')[2]}", f"{mine[:-2]}9]"):
        assert not lock.is_gone({"owner": f"{elsewhere}/{dead}/x", "until": 9e9})


def test_a_process_that_ended_is_gone_though_nobody_asked_for_its_exit_code():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is still listed
    assert Path(f"/proc/{child.pid}").exists()
    assert not lock.is_alive(child.pid)
    child.wait()
    assert not lock.is_alive(child.pid)
    assert lock.is_alive(os.getpid())


def test_whoever_lost_the_lock_is_told_before_it_writes(store):
    with locked(store, "commit") as lease:
        lease.check()
        assert lock.put(store, lock.row("commit", FAR, time.time() + 60), lease.owner)
        with pytest.raises(RuntimeError, match="another job took over the lock 'commit'"):
            lease.check()
    assert leases(store)[0]["owner"] == FAR


def test_a_long_holder_renews_its_lease(store, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 1.0)
    with locked(store, "commit"):
        time.sleep(1.6)
        assert leases(store)[0]["until"] > time.time()
        assert not lock.insert(store, lock.row("commit", FAR, time.time() + 60))


def test_old_leases_do_not_pile_up(store, monkeypatch):
    monkeypatch.setattr(lock, "KEPT", 4)
    monkeypatch.setattr(lock, "OUTDATED", timedelta(microseconds=1))
    for _ in range(12):
        with locked(store, "commit"):
            pass
    assert len(store.open("locks").versions()) < 12


def test_a_store_that_is_away_for_a_while_costs_its_holder_no_lease(store, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 2.0)
    home, elsewhere = Path(store.uri), Path(f"{store.uri}-elsewhere")
    with locked(store, "commit") as lease:
        home.rename(elsewhere)
        time.sleep(1.2)  # two renewals in vain
        elsewhere.rename(home)
        time.sleep(1.2)
        left = lock.holding(store, "commit")["until"] - time.time()
        assert left > 1.0  # renewed since: two seconds and more have passed
        lease.check()
    with locked(store, "commit"):
        home.rename(elsewhere)  # and where it stays away, the end of the block is no error
    elsewhere.rename(home)


@pytest.mark.parametrize("finished", [True, False])
def test_a_lease_that_could_not_be_given_back_is_as_soon_as_the_store_is_there_again(store, finished):
    """Else its holder, which lives, would wait for itself until the lease ran out after a minute."""
    home, elsewhere = Path(store.uri), Path(f"{store.uri}-elsewhere")
    with suppress(ZeroDivisionError), locked(store, "commit"):
        home.rename(elsewhere)
        if not finished:
            raise ZeroDivisionError
    elsewhere.rename(home)
    began = time.monotonic()
    with locked(store, "commit") as lease:
        assert lease.inherited is not finished
    assert time.monotonic() - began < lock.LEASE / 4
