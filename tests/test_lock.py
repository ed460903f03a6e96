import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from engine.store import PatchStore, lock
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


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(4)
    return made


def leases(store):
    return store.open("locks").to_table().to_pylist()


def python(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT)


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
    with locked(store, "commit") as inherited:
        assert inherited
    assert time.monotonic() - began < lock.LEASE / 4
    with locked(store, "commit") as inherited:
        assert not inherited


def test_the_next_one_learns_of_a_holder_that_failed(store):
    with pytest.raises(OSError, match="disk full"), locked(store, "commit"):
        raise OSError("disk full")
    with locked(store, "commit") as inherited:
        assert inherited


def test_the_lease_of_another_machine_is_left_alone_until_it_runs_out(store):
    far = "another-host/1/abc"
    store.open("locks").insert(lock.row("commit", far, time.time() + 60))
    with pytest.raises(TimeoutError, match="another job has held the lock 'commit'"), locked(store, "commit", patience=0.5):
        pass
    assert leases(store)[0]["owner"] == far
    assert lock.put(store, lock.row("commit", far, time.time() - 1), far) == 1
    with locked(store, "commit", patience=0.5) as inherited:
        assert inherited


def test_a_long_holder_renews_its_lease(store, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 1.0)
    with locked(store, "commit"):
        time.sleep(1.6)
        assert leases(store)[0]["until"] > time.time()
        assert lock.take(store, "commit", f"another-host/{os.getpid()}/x") is None


def test_old_leases_do_not_pile_up(store, monkeypatch):
    monkeypatch.setattr(lock, "KEPT", 4)
    monkeypatch.setattr(lock, "OUTDATED", timedelta(microseconds=1))
    for _ in range(12):
        with locked(store, "commit"):
            pass
    assert len(store.open("locks").versions()) < 12
