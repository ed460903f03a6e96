"""The line between the process that watches and the one that sees to it: signs of life one way, when to end the other way."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection
from time import monotonic
from types import FrameType
from typing import Any, NamedTuple

FINISH, ABANDON = "finish", "abandon"  # what the one that works is told: its batch, or what it does
STOP = signal.SIGUSR1  # from a thread of that process to itself: of SIGTERM and SIGINT Ray has its own idea
SPARSE = 0.5  # seconds in which one sign of life is enough
BEAT = 5.0  # seconds between two signs of life of what cannot give any itself
STARTING = 600.0  # seconds of these for what comes before the first look, on a busy machine: it takes no longer, or hangs
LONGEST = 3600.0  # the same for a step of what follows a batch of which is not known how long it takes, and for upkeep
LEAST, SLOWER = 600.0, 20.0  # of one that is known: so long, or so many times what it took at its slowest. Our choice, because a choice
# that goes on from clusters is followed, now and then, by one for which they are fitted anew


class Setback(NamedTuple):
    """A step of what follows that fails."""

    tries: int  # in vain, in a row
    deaths: int  # of these the ones that ended or hung the process
    reason: str


class Past(NamedTuple):
    """What a process that works is told of those before it."""

    first: bool = True  # none of them got so far as to look
    ended: str = ""  # how the last one did, where nobody asked it to
    setbacks: Mapping[str, Setback] = {}  # by step
    took: Mapping[str, float] = {}  # by step of what follows: seconds, at its slowest


class Line:
    """The end of the one that works; KeyboardInterrupt comes up in its main thread where it is to stop.

    It ends with the other one, also where that is killed.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection, self.busy, self.stopping = connection, False, False
        self.also: list[Callable[[str, Any], None]] = []  # who hears what is told, beside the other end
        self.told, self.telling = -LONGEST, threading.Lock()  # when it last told anything; a thread may give signs of life meanwhile
        signal.signal(STOP, interrupt)
        for told in (signal.SIGTERM, signal.SIGINT):  # a terminal and systemd send them to both
            signal.signal(told, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back until now: see held_back
        threading.Thread(target=self.listen, daemon=True).start()

    def tell(self, word: str, said: Any = "") -> None:
        """Send a word to the process that sees to this one, and to who else hears it."""
        for hear in self.also:
            hear(word, said)
        with self.telling, suppress(ConnectionError):  # `listen` is about to end this process
            self.connection.send((word, said))
            self.told = monotonic()

    def beat(self) -> None:
        """A sign of life, where nothing was told a moment ago: it may be called for every file of a million."""
        if monotonic() - self.told >= SPARSE:
            self.tell("alive")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Be busy: silence counts, and what ends the process in here is to blame for it. An exception leaves it so."""
        self.busy = True
        self.tell("busy")
        yield
        self.busy = False
        self.tell("idle")

    def listen(self) -> None:
        """Wait for the word to end, in a thread; where the other process is gone this one ends at once."""
        try:
            while True:
                word = self.connection.recv()
                self.stopping = True
                if word == ABANDON or not self.busy:
                    os.kill(os.getpid(), STOP)
        except (EOFError, OSError):
            os._exit(1)


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal as KeyboardInterrupt, where `listen` asks for it."""
    raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """Let no Ctrl-C reach a process that is started in here before it has its line: amid its imports it would die with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def beating(beat: Callable[[], None], longest: float = LONGEST) -> AbstractContextManager[None]:
    """Give a sign of life now and then, for `longest` seconds at most."""
    return again(beat, BEAT, range(int(longest / BEAT)))


@contextmanager
def again(call: Callable[[], None], seconds: float, times: Iterable[int]) -> Iterator[None]:
    """Call something again and again in a thread, with so many seconds before each, until the end of the block or of `times`."""
    ended = threading.Event()

    def calls() -> None:
        for _ in times:
            if ended.wait(seconds):
                return
            call()

    thread = threading.Thread(target=calls, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
