"""Who else is at work on a store: jobs that write files which no version refers to yet, and jobs that read one version for long.

Each holds a lease of its own in the table of locks while it lives. A file without a version is collected under the lock `commit` and only
while no writer lives; a writer signs in under the same lock, and a committer looks, under it too, whether the files are all there.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import inf

from fsspec.implementations.local import LocalFileSystem

from engine.files import locate
from engine.store.commits import committing
from engine.store.lock import Lease, holding, is_dead, is_gone, locked
from engine.store.tables import Tables, quoted

WRITER, READER, WATCHER = "writer/", "reader/", "watcher/"


@contextmanager
def writing(tables: Tables, job: str) -> Iterator[None]:
    """Be known as a job that writes files before it commits them: while it lives, upkeep collects no file that nothing refers to.

    ValueError, before anything is written, where a table has the schema of another engine.
    """
    tables.check_schemas()
    with ExitStack() as stack:
        with committing(tables):  # a collection that is under way ends first
            stack.enter_context(locked(tables, f"{WRITER}{job}/{uuid.uuid4().hex}"))
        yield


@contextmanager
def reading(tables: Tables, table: str, version: int) -> Iterator[None]:
    """Be known as a job that reads a version for long: upkeep leaves it alone. What is forgotten goes all the same."""
    with locked(tables, f"{READER}{table}/{version}/{uuid.uuid4().hex}"):
        yield


@contextmanager
def watching(tables: Tables, inbox: str, occupied: Callable[[], None], beat: Callable[[], None] = lambda: None) -> Iterator[Lease]:
    """Be the only one who watches an inbox into this store: another waits, and takes over when this one is gone.

    `occupied` is called where somebody watches it already, before the wait, and `beat` meanwhile.
    """
    name = f"{WATCHER}{mark(inbox)}"
    if (held := holding(tables, name)) and not is_gone(held):
        occupied()
    with locked(tables, name, patience=inf, beat=beat) as lease:
        yield lease


def mark(inbox: str) -> str:
    """An inbox by 16 hex digits, so that no table tells where it lies: the same however it is spelled.

    Relative paths and links lead where they do on this machine. OSError where there is no such kind of address.
    """
    fs, path = locate(inbox)
    where = os.path.realpath(path) if isinstance(fs, LocalFileSystem) else inbox.rstrip("/")
    return hashlib.sha256(os.fsencode(where)).hexdigest()[:16]


def living(tables: Tables, kind: str) -> list[str]:
    """The names of the leases of WRITER or READER whose holders live."""
    leases = tables.open("locks").to_table(filter=f"starts_with(name, '{kind}')").to_pylist()
    return sorted(lease["name"] for lease in leases if not is_dead(lease))


def read_versions(tables: Tables, table: str) -> set[int]:
    """The versions of a table that living jobs read."""
    return {int(name.split("/")[2]) for name in living(tables, f"{READER}{table}/")}


def bury(tables: Tables) -> int:
    """Remove the leases that dead writers and readers left; returns how many."""
    table = tables.open("locks")
    leases = table.to_table(filter=f"starts_with(name, '{WRITER}') OR starts_with(name, '{READER}')").to_pylist()
    dead = [lease["name"] for lease in leases if is_dead(lease)]
    if dead:
        table.delete(f"name IN ({quoted(dead)})")
    return len(dead)
