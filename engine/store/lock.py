"""One committer at a time, whoever runs where: a lease in a Lance table, taken by an insert that only one of many can make.

The lease is renewed while its holder lives. Whoever finds one that ran out, or whose holder was a process of this machine and is gone,
takes it over.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pyarrow as pa

from engine import schema
from engine.store.tables import Tables, quoted

LEASE = 60.0  # seconds; far more than a renewal takes on a slow object store
WAIT = 0.2  # seconds between two tries
KEPT = 100  # versions of the table of locks before old ones are swept
OUTDATED = timedelta(minutes=10)  # whoever reads an older version of it is long done


@contextmanager
def locked(tables: Tables, name: str, patience: float = 3600.0) -> Iterator[bool]:
    """Hold the lock `name` of a store; gives True where the holder before did not finish, so that what it left can be swept.

    TimeoutError, in one sentence, where another job holds it longer than `patience` seconds.
    """
    owner, deadline = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex}", time.monotonic() + patience
    while (inherited := take(tables, name, owner)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"another job has held the lock {name!r} of the store {tables.uri} for {patience:g} s")
        time.sleep(WAIT)
    released = threading.Event()
    renewing = threading.Thread(target=renew, args=(tables, name, owner, released), daemon=True)
    renewing.start()
    finished = False
    try:
        yield inherited
        finished = True
    finally:
        released.set()
        renewing.join()
        release(tables, name, owner) if finished else abandon(tables, name, owner)


def take(tables: Tables, name: str, owner: str) -> bool | None:
    """Insert the lease (False), or take over a dead one (True); None where another holds it."""
    mine = row(name, owner, time.time() + LEASE)
    if tables.open("locks").merge_insert("name").when_not_matched_insert_all().execute(mine)["num_inserted_rows"]:
        return False
    held = tables.open("locks").to_table(filter=f"name IN ({quoted([name])})").to_pylist()
    if not held or not is_dead(held[0]):
        return None
    # Only the lease that was looked at gives way: of two who would take it over, the second finds another owner.
    return True if put(tables, mine, held[0]["owner"]) else None


def put(tables: Tables, lease: pa.Table, owner: str) -> int:
    """Write a lease in place of that of `owner`; 0 where that one is not there any more."""
    same = f"target.owner = {quoted([owner])}"
    return int(tables.open("locks").merge_insert("name").when_matched_update_all(same).execute(lease)["num_updated_rows"])


def row(name: str, owner: str, until: float) -> pa.Table:
    return pa.table({"name": [name], "owner": [owner], "until": [until]}, schema.LOCKS)


def is_dead(lease: dict[str, object]) -> bool:
    """True for a lease that ran out, and for one of a process of this machine that is no more."""
    host, pid, _ = str(lease["owner"]).split("/")
    if float(str(lease["until"])) < time.time():
        return True
    return host == socket.gethostname() and not is_alive(int(pid))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def renew(tables: Tables, name: str, owner: str, released: threading.Event) -> None:
    while not released.wait(LEASE / 4):
        put(tables, row(name, owner, time.time() + LEASE), owner)


def abandon(tables: Tables, name: str, owner: str) -> None:
    """Leave the lease to the next one, who learns that this one did not finish."""
    put(tables, row(name, owner, 0.0), owner)


def release(tables: Tables, name: str, owner: str) -> None:
    table = tables.open("locks")
    table.delete(f"name IN ({quoted([name])}) AND owner IN ({quoted([owner])})")
    if table.version % KEPT < 2:  # holding a lock once makes two versions
        table.cleanup_old_versions(older_than=OUTDATED)
