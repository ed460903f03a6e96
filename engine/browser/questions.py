"""SQL that somebody typed, each question in a process beside the server: DuckDB computes constants before it can be interrupted, and counts
not all of its memory. So the system ends a process that takes too long, and gives it no more memory than it may have.
"""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from engine import memory
from engine.browser.cells import cell
from engine.refusals import RefusedError
from engine.store import PatchStore

SECONDS = 20.0  # that a question may take
GRACE = 0.5  # s after that until its process is ended, where what asks DuckDB to end has not done so
MEMORY = 10**9  # bytes that a question may take beside what its process holds without one
AT_ONCE = 2  # questions; others wait
NEXT, SOON = 2, 0.2  # messages, and seconds for each, that an answer which is read no further may take to come to its end
LARGE = f"query: it takes more than {MEMORY // 10**9} GB of memory and was ended; ask for less"
ROWS = 1000  # of an answer that are shown
LONGEST = 20_000  # letters of an id; what is longer is none
TOLD = (LookupError, OSError, RuntimeError)  # what a question raises beside a refusal, which the server tells as its own


class Shown(NamedTuple):
    """The first rows of an answer by position, since two columns may have one name, and whether there are more."""

    columns: list[str]
    rows: list[list[Any]]
    more: bool


class Ended(NamedTuple):
    """The end of an answer: what went wrong, if anything, and whether its process holds so much that another is to take its place."""

    error: Exception | None
    is_spent: bool


class Questions:
    """The processes that answer questions of one store, kept for the next question."""

    def __init__(self, uri: str, seconds: float = SECONDS) -> None:
        self.uri, self.seconds = uri, seconds
        self.idle: list[Beside] = []
        self.lock = threading.Lock()
        self.turns = threading.BoundedSemaphore(AT_ONCE)

    def shown(self, sql: str) -> Shown:
        """The first ROWS rows of one SELECT; RefusedError, in one sentence, as of `PatchStore.shown` and for one of more than MEMORY."""
        (found,) = self.asked("shown", sql)  # to its end: the process is ready then
        return found  # type: ignore[no-any-return]

    def listed(self, sql: str) -> Iterator[list[str]]:
        """The patch_id of every row of the same, in order and a part at a time; RefusedError where the rows have none."""
        return self.asked("listed", sql)

    def warm(self) -> None:
        """Begin a process, so that the first question need not wait for it."""
        self.idle.append(Beside(self.uri, self.seconds))

    def asked(self, how: str, sql: str) -> Iterator[Any]:
        """The parts of an answer."""
        with self.turn() as one:
            yield from one.answer(how, sql)

    @contextmanager
    def turn(self) -> Iterator["Beside"]:
        """A process for one question, followed by another where it has not come to its end; TimeoutError where others ask for so long."""
        if not self.turns.acquire(timeout=self.seconds):
            raise TimeoutError(f"{AT_ONCE} other questions are being answered: ask again")
        try:
            with self.lock:
                one = self.idle.pop() if self.idle else Beside(self.uri, self.seconds)
            try:
                yield one
            finally:
                self.idle.append(one if one.is_ready() else Beside(self.uri, self.seconds))
        finally:
            self.turns.release()


class Beside:
    """A process that answers one question after the other; it ends with the one that began it."""

    def __init__(self, uri: str, seconds: float) -> None:
        self.seconds = seconds
        spawning = multiprocessing.get_context("spawn")  # a fork would carry the threads' locks along
        self.line, theirs = spawning.Pipe()
        self.process = spawning.Process(target=work, args=(uri, seconds, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.is_asked = False

    def answer(self, how: str, sql: str) -> Iterator[Any]:
        """The parts of an answer; whatever ended it otherwise is raised."""
        try:
            self.is_asked = True
            self.line.send((how, sql))
            while not isinstance(part := self.line.recv(), Ended):
                yield part
        except (EOFError, ConnectionError):
            raise self.how_it_ended() from None
        self.is_asked = part.is_spent
        if part.error:
            raise part.error

    def is_ready(self) -> bool:
        """Whether it can be asked again; it is ended where it cannot."""
        if self.is_asked:
            self.hear_the_end()
        if self.is_asked:
            self.process.kill()
            self.process.join()
            self.line.close()
        return not self.is_asked

    def hear_the_end(self) -> None:
        """Of an answer that is read no further, where that comes with what is said next."""
        with suppress(EOFError, OSError):
            for _ in range(NEXT):
                if self.line.poll(SOON) and isinstance(part := self.line.recv(), Ended):
                    self.is_asked = part.is_spent
                    return

    def how_it_ended(self) -> Exception:
        """What to raise of a process that has ended."""
        self.process.join()
        code = self.process.exitcode or 0
        if code == -signal.SIGALRM:
            return RefusedError(f"query: it took longer than {self.seconds:g} s and was ended; ask for less")
        if code in (-signal.SIGABRT, -signal.SIGKILL, -signal.SIGSEGV):  # how Rust, Linux and C end for want of memory
            return RefusedError(LARGE)
        return RuntimeError(f"the process that asks ended with code {code}")


def work(uri: str, seconds: float, line: Connection) -> None:
    """Answer questions over the line until its other end is gone, each within its time and its memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all
    store = PatchStore(uri)
    with suppress(RefusedError, *TOLD):  # so that all threads are there; what it refuses a question will tell
        store.shown("SELECT 1", seconds)
    memory.limit(MEMORY)
    with suppress(EOFError, ConnectionError):
        while True:
            how, sql = line.recv()
            signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
            error = answered(line, PARTS[how](store, sql, seconds))
            signal.setitimer(signal.ITIMER_REAL, 0)
            line.send(Ended(error, memory.left() < MEMORY // 2))


def answered(line: Connection, parts: Iterator[Any]) -> Exception | None:
    """Send an answer; what a person at the page is to be told instead."""
    try:
        for part in parts:
            line.send(part)
    except RefusedError as error:
        return error
    except MemoryError:
        return RefusedError(LARGE)
    except ConnectionError:
        raise
    except TOLD as error:
        return type(error)(str(error)) if type(error).__module__ == "builtins" else OSError(str(error))
    return None


def first(store: PatchStore, sql: str, seconds: float) -> Iterator[Shown]:
    """The first rows, as short as a page shows them, so that no more is sent."""
    found = store.shown(sql, seconds, ROWS + 1)
    columns = [[cell(value) for value in column.to_pylist()] for column in found.slice(0, ROWS).columns]
    yield Shown(found.column_names, [list(row) for row in zip(*columns, strict=True)], len(found) > ROWS)


def ids(store: PatchStore, sql: str, seconds: float) -> Iterator[list[str]]:
    """The ids, a part at a time, without what can be none."""
    for part in store.listed(sql, seconds):
        yield [one for one in part.to_pylist() if isinstance(one, str) and len(one) <= LONGEST]


PARTS = {"shown": first, "listed": ids}
