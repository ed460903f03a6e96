"""One committer at a time, whoever runs where: a lease in a Lance table, taken by an insert that only one of many can make.

The lease is renewed while its holder lives. Whoever sees one stand still for LEASE seconds, or finds that its holder was a process of
this machine and is gone, takes it over. No two clocks are compared for that, only for a look at who writes (`is_dead`). A holder that was
only paused does not know that it lost the lock: it has to ask, by `check`, before it writes.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from lance.commit import CommitConflictError

from engine import schema
from engine.store.tables import Tables, quoted

LEASE = 60.0  # seconds; far more than a renewal takes on a slow object store
WAIT = 0.2  # seconds between two tries
PAUSE = 1.0  # seconds between two tries to give a lease back to a store that is away
KEPT = 100  # versions of the table of locks before old ones are swept
OUTDATED = timedelta(minutes=10)  # whoever reads an older version of it is long done
CROWDED = "Too many concurrent writers"  # what Lance says when it tried in vain as often as it does
ABANDONED = 0.0  # the time in a lease whose holder says itself that it did not finish


class LostError(RuntimeError):
    """Another job took over a lock from one that stood still."""


@dataclass(frozen=True)
class Lease:
    """A lock that is held; `inherited` where the holder before did not finish, so that what it left can be swept."""

    tables: Tables
    name: str
    owner: str
    inherited: bool

    def check(self) -> None:
        """LostError, in one sentence, where the lock was lost to another job: nothing may be written any more."""
        held = holding(self.tables, self.name)
        if held is None or held["owner"] != self.owner:
            raise LostError(
                f"another job took over the lock {self.name!r} of the store {self.tables.uri} because this one stood still for "
                f"{LEASE:g} s: what this one had not finished is swept away, so run it again"
            )


@contextmanager
def locked(tables: Tables, name: str, patience: float = 3600.0, beat: Callable[[], None] = lambda: None) -> Iterator[Lease]:
    """Hold the lock `name` of a store; TimeoutError, in one sentence, where others hold it longer than `patience` seconds.

    `beat` is called at every look at a lock that others hold.
    """
    owner = f"{machine()}/{os.getpid()}/{uuid.uuid4().hex}"
    lease = Lease(tables, name, owner, acquire(tables, name, owner, patience, beat))
    released = threading.Event()
    renewing = threading.Thread(target=renew, args=(tables, name, owner, released), daemon=True)
    renewing.start()
    finished = False
    try:
        yield lease
        finished = True
    finally:
        released.set()
        renewing.join()
        how = release if finished else abandon
        if not is_given_back(how, tables, name, owner):  # the store is away
            threading.Thread(target=insist, args=(how, tables, name, owner), daemon=True).start()


def acquire(tables: Tables, name: str, owner: str, patience: float, beat: Callable[[], None]) -> bool:
    """Wait for the lock; gives True where it was taken over from a holder that did not finish.

    TimeoutError where it is held for longer than is waited.
    """
    seen, since, deadline = None, 0.0, time.monotonic() + patience
    while time.monotonic() < deadline:
        held = holding(tables, name)
        if held is None:
            if is_won(insert, tables, row(name, owner, time.time() + LEASE)):
                return False
            continue
        if held != seen:
            seen, since = held, time.monotonic()
        stands_still = time.monotonic() - since > LEASE
        # Only the lease that was looked at gives way: of two who would take it over, the second finds another owner.
        if (stands_still or is_gone(held)) and is_won(put, tables, row(name, owner, time.time() + LEASE), held["owner"]):
            return True
        beat()
        time.sleep(WAIT)
    raise TimeoutError(f"another job has held the lock {name!r} of the store {tables.uri} for {patience:g} s")


def holding(tables: Tables, name: str) -> dict[str, Any] | None:
    """The lease of that name as it is now."""
    held = tables.open("locks").to_table(filter=f"name IN ({quoted([name])})").to_pylist()
    return held[0] if held else None


def is_won(write: Callable[..., bool], *given: Any) -> bool:
    """Whether a lease was written; False also where so many write to the table at once that Lance gave up: who waits asks again."""
    try:
        return write(*given)
    except OSError as error:
        if not isinstance(error, CommitConflictError) and CROWDED not in str(error):
            raise
        return False


def insert(tables: Tables, lease: pa.Table) -> bool:
    """Write a lease where there is none; of many who try at once one succeeds."""
    return bool(tables.open("locks").merge_insert("name").when_not_matched_insert_all().execute(lease)["num_inserted_rows"])


def put(tables: Tables, lease: pa.Table, owner: str) -> bool:
    """Write a lease in place of that of `owner`; False where that one is not there any more."""
    same = f"target.owner = {quoted([owner])}"
    return bool(tables.open("locks").merge_insert("name").when_matched_update_all(same).execute(lease)["num_updated_rows"])


def row(name: str, owner: str, until: float) -> pa.Table:
    """A lease as a row; `until` in seconds since 1970."""
    return pa.table({"name": [name], "owner": [owner], "until": [until]}, schema.LOCKS)


def is_dead(lease: dict[str, Any]) -> bool:
    """True where the holder is gone or the lease ran out by this machine's clock: good enough for a look, too little to take it."""
    return is_gone(lease) or float(lease["until"]) < time.time()


def is_gone(lease: dict[str, Any]) -> bool:
    """True where the holder gave up, or was a process of this machine that is no more."""
    where, process, _ = str(lease["owner"]).split("/")
    return lease["until"] == ABANDONED or (where == machine() and not is_alive(int(process)))


def machine() -> str:
    """A name for the set of processes that this one can see: containers share names, and each counts its processes anew."""
    try:
        booted, namespace = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux: only time tells who is gone
        return f"{socket.gethostname()}.{os.getpid()}"
    return f"{socket.gethostname()}.{booted}.{namespace}"


def is_alive(process: int) -> bool:
    """False for a process that is gone, also where nobody has asked for its exit code yet."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self").exists()
    return state not in "ZX"


def renew(tables: Tables, name: str, owner: str, released: threading.Event) -> None:
    """Renew a lease four times in its life, until it is released; in a thread of its own."""
    while not released.wait(LEASE / 4):
        with suppress(OSError, LookupError):  # there is time for two more tries; when they fail too, `check` tells of it
            put(tables, row(name, owner, time.time() + LEASE), owner)


def is_given_back(how: Callable[[Tables, str, str], None], tables: Tables, name: str, owner: str) -> bool:
    """Whether a lease could be released, or abandoned."""
    with suppress(OSError, LookupError):
        how(tables, name, owner)
        return True
    return False


def insist(how: Callable[[Tables, str, str], None], tables: Tables, name: str, owner: str) -> None:
    """Give a lease back as soon as the store is there again; in a thread, until it would have run out.

    Else everybody would wait for a holder that lives and does not hold it any more, itself too.
    """
    until = time.monotonic() + LEASE
    while time.monotonic() < until and not is_given_back(how, tables, name, owner):
        time.sleep(PAUSE)


def abandon(tables: Tables, name: str, owner: str) -> None:
    """Say in a lease that its holder did not finish."""
    put(tables, row(name, owner, ABANDONED), owner)


def release(tables: Tables, name: str, owner: str) -> None:
    """Give a lease back, and now and then clear the table of its old versions."""
    table = tables.open("locks")
    table.delete(f"name IN ({quoted([name])}) AND owner IN ({quoted([owner])})")
    if table.version % KEPT < 2:  # holding a lock once makes two versions
        table.cleanup_old_versions(older_than=OUTDATED)
