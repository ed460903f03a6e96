"""A process beside the one that takes video in, for what takes hours: scoring anew, training again. It ends with it, however that ends."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from engine.config import Config

log = logging.getLogger("jobs.watch")
Work = Callable[[Config, Connection], None]
NICE = 10  # it gives way to what takes video in


class Aside:
    """One such process at a time; `work` is for tests."""

    def __init__(self, config: Config, work: Work | None = None) -> None:
        self.config, self.work = config, work or all_that_is_due
        self.process: Any = None
        self.line: Connection | None = None  # held open for as long as this process lives

    @property
    def is_busy(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def start(self) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork would carry the threads' locks along
        self.line, theirs = spawning.Pipe()
        self.process = spawning.Process(target=self.work, args=(self.config, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def end(self) -> None:
        """What it did not end stays as it is: the next one goes on."""
        if self.process is not None:
            self.process.kill()
            self.process.join()


def begin(line: Connection) -> None:
    """Be such a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the process that started this one ignores it
    threading.Thread(target=end_with, args=(line,), daemon=True).start()
    os.nice(NICE)


def all_that_is_due(config: Config, line: Connection) -> None:
    """One after the other."""
    begin(line)
    from functools import partial

    from engine.files import locate
    from jobs import alike, quiet, rescore, selections, worth
    from jobs.absence import names_below
    from jobs.after import attempt

    quiet.begin(config.watch.log)
    quiet.withhold(partial(names_below, locate(config.videos.uri)[1]))
    with quiet.Surprises():
        if attempt("rescore", rescore.is_due, config):
            attempt("rescore", rescore.run, config)
            attempt("selections", selections.run, config)
            attempt("near-duplicates", alike.run, config)
        attempt("retrain", worth.train, config)


def end_with(line: Connection) -> None:
    """End this process when the other end of the line is gone."""
    try:
        line.recv()
    except (EOFError, OSError):
        os._exit(1)
