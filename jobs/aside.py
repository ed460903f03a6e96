"""A process beside the one that takes video in, for what takes hours: scoring anew, training again, upkeep.

It ends with that one, however that ends, and is ended where it gives no sign of life.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from multiprocessing.connection import Connection
from time import monotonic, sleep
from typing import Any

from engine.config import Config
from jobs import own, quiet
from jobs.line import BEAT, STARTING

log = logging.getLogger("jobs.watch")
Work = Callable[[Config, Connection], None]
NICE = 10  # it gives way to what takes video in


class Aside:
    """One such process at a time, which does `work`."""

    def __init__(self, config: Config, work: Work) -> None:
        self.config, self.work = config, work
        self.process: Any = None
        self.said, self.minding = "", threading.Thread()  # why it failed, as far as it could say; who hears it
        self.line: Connection | None = None  # held open for as long as this process lives

    @property
    def is_busy(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.is_alive()

    @property
    def is_free(self) -> bool:
        """Whether another may be started: none runs, and how the last one ended was told."""
        return self.process is None

    def ended(self) -> str | None:
        """How it ended, "" where it ended well; None where there is none, or it is at work, or that was told already."""
        if self.process is None or self.process.is_alive():
            return None
        code, self.process = self.process.exitcode, None
        self.minding.join(BEAT)
        return self.said or ("" if not code else f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}")

    def start(self) -> None:
        """Start it; a thread minds what it says."""
        spawning = multiprocessing.get_context("spawn")  # a fork would carry the threads' locks along
        self.line, theirs = spawning.Pipe()
        self.process = spawning.Process(target=self.work, args=(self.config, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.said, self.minding = "", threading.Thread(target=self.mind, args=(self.process, self.line), daemon=True)
        self.minding.start()

    def mind(self, process: Any, line: Connection) -> None:
        """End a process that gives no sign of life for long; what it needs is to be imported before the first."""
        waits = max(self.config.watch.patience_s, STARTING)
        with suppress(EOFError, OSError):  # it is gone
            while line.poll(waits):
                self.said, waits = line.recv() or self.said, self.config.watch.patience_s
            self.said = self.said or f"it was silent for {waits:.0f} s"
            process.kill()

    def end(self) -> None:
        """What it did not end stays as it is: the next one goes on."""
        if self.process is not None:
            self.process.kill()
            self.process.join()


@contextmanager
def beside(config: Config, line: Connection, longest: float = inf) -> Iterator[None]:
    """Be such a process while the block lasts, by whose words no file of the inbox is named; a surprise in it ends the process."""
    begin(line, longest)
    quiet.begin(config.watch.log)
    quiet.withhold(own.namer(config))
    with quiet.Surprises():
        yield


def begin(line: Connection, longest: float = inf) -> None:
    """Be such a process; what takes longer than `longest` seconds hangs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the process that started this one ignores it
    threading.Thread(target=end_with, args=(line,), daemon=True).start()
    threading.Thread(target=live, args=(line, monotonic() + longest), daemon=True).start()
    os.nice(NICE)


def end_with(line: Connection) -> None:
    """End this process when the other end of the line is gone."""
    try:
        line.recv()
    except (EOFError, OSError):
        os._exit(1)


def live(line: Connection, until: float) -> None:
    """Give signs of life until then: empty words, any other says why it failed."""
    with suppress(OSError):  # who heard them is gone
        while monotonic() < until:
            line.send("")
            sleep(BEAT)
