"""Take in what arrives below videos.uri for as long as it runs: this process only sees to it that the one that works is alive.

The work is done in a process of its own (jobs/rounds.py), since a file may end or hang whoever reads it. What was under way when it ended
stands in the store, where the next one finds it.
"""

import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from time import monotonic, sleep
from typing import Any

from engine import backoff
from engine.config import Config
from jobs.health import Health, served
from jobs.line import ABANDON, FINISH, STARTING, Past, Setback, held_back
from jobs.news import many

log = logging.getLogger("jobs.watch")
TICK = 0.2  # seconds between two looks at the process
IDLE_DEATHS = 10  # in a row, with nothing under way or taken in: no file is to blame, and to start once more helps nobody
LONG = 600.0  # seconds; who lived so long was well
SILENT = "was silent"  # of one that was ended for it
SIGNAL = "was ended by signal"
Work = Callable[[Config, Past, Connection], None]


def run(config: Config, work: Work | None = None) -> None:
    """Watch until SIGTERM or SIGINT, or until nothing is left where watch.once says so; `work` is for tests.

    KeyboardInterrupt where a second signal came. ValueError says what the work cannot begin without, RuntimeError that it dies idly.
    """
    with asked_to_stop() as asked:
        warden = Warden(config, work or rounds, asked)
        with served(warden.health, config.watch.host, config.watch.port):
            warden.run()
    warden.tell_sum()


def rounds(config: Config, past: Past, line: Connection) -> None:
    """The work, in its own process: what it needs is imported there and not here."""
    from jobs.rounds import serve

    serve(config, past, line)


@contextmanager
def asked_to_stop() -> Iterator[list[float]]:
    """The moments at which a signal asked this process to end."""
    moments: list[float] = []
    before = {one: signal.signal(one, lambda *_: moments.append(monotonic())) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield moments
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Warden:
    """Starts the process that works, hears from it, ends it when it is silent, and starts it again."""

    def __init__(self, config: Config, work: Work, asked: list[float]) -> None:
        self.config, self.work, self.asked = config, work, asked
        self.busy = self.ready = False  # whether a batch is under way, and whether a process ever got so far as to look
        self.began = self.heard = 0.0  # when the process did, and when it last gave a sign of life
        self.commits, self.refusal = 0, ""
        self.ended = ""  # how the last process ended, for the next one
        self.step, self.setbacks = "", dict[str, Setback]()  # of what follows: which is under way, and which fail
        self.took: dict[str, float] = {}  # the same: seconds at the slowest
        self.health = Health(config)

    def run(self) -> None:
        """Keep the work going until it is told to end. RuntimeError where it dies again and again with nothing under way.

        ValueError where the work was refused at its start.
        """
        settings, deaths, idle = self.config.watch, 0, 0
        while True:
            commits = self.commits
            self.live()
            if self.refusal:
                raise ValueError(self.refusal)
            if not self.ended or self.asked:
                return
            has_done = self.commits > commits
            deaths = 1 if has_done else deaths + 1
            idle = idle + 1 if self.died_idly() and not has_done else 0
            by_signal = self.ended.startswith(SIGNAL)  # also before it ever looked: somebody or the system ended it, which is no bug
            if not (self.ready or by_signal) or idle >= IDLE_DEATHS:
                raise RuntimeError(f"the process that works {self.ended} with nothing under way: what it said before tells why")
            pause = backoff.delay(settings.seed, deaths, settings.backoff_s, settings.backoff_most_s)
            log.warning("the process that works %s; the next one starts in %.1f s", self.ended, pause, extra={"event": "worker ended"})
            self.rest(pause)

    def died_idly(self) -> bool:
        """Whether nothing that was under way is to blame; a step of what follows that is gets so much less often its turn."""
        if not self.step:
            return not self.busy and SILENT not in self.ended and monotonic() - self.began < LONG
        tries, deaths, _ = self.setbacks.get(self.step, Setback(0, 0, ""))
        self.setbacks[self.step] = Setback(tries + 1, deaths + 1, f"the process that did it {self.ended}")
        log.warning("%s: the process that did it %s", self.step, self.ended, extra={"event": "setback"})
        return False

    def live(self) -> None:
        """One process from its start to its end."""
        spawning = multiprocessing.get_context("spawn")  # a fork would carry the threads' locks along
        ours, theirs = spawning.Pipe()
        past = Past(not self.ready, self.ended, self.setbacks, self.took)
        process = spawning.Process(target=self.work, args=(self.config, past, theirs))
        self.busy, self.step, self.ended = False, "", ""
        with held_back():
            process.start()
        self.began = self.heard = monotonic()
        self.health.begins(process.pid)
        theirs.close()
        told, hung = 0, ""
        while process.is_alive():
            self.health.turned = monotonic()
            self.hear(ours)
            told = self.pass_on(process, ours, told)
            if not hung and self.is_silent():
                hung = f"{SILENT} for {monotonic() - self.heard:.0f} s"
                process.kill()
            process.join(TICK)
        self.hear(ours)
        ours.close()
        code = process.exitcode or 0
        how = f"{SIGNAL} {-code}" if code < 0 else f"ended with code {code}"
        self.ended = hung or (how if code else "")
        self.health.ended("" if self.asked else self.ended)

    def is_silent(self) -> bool:
        """Whether it says nothing for too long, whatever it does; what it needs is to be imported before its first word."""
        patience = self.config.watch.patience_s
        return monotonic() - self.heard > (patience if self.heard > self.began else max(patience, STARTING))

    def hear(self, line: Connection) -> None:
        """Take in what the process said."""
        with suppress(EOFError, ConnectionError):  # it is gone
            while line.poll():
                word, said = line.recv()
                self.health.hear(word, said)
                self.heard = monotonic()
                self.busy = {"busy": True, "idle": False}.get(word, self.busy)
                self.step = said if word == "follows" else self.step
                self.setbacks = said if word == "setbacks" else self.setbacks
                self.took = said if word == "took" else self.took
                self.ready |= word == "ready"
                self.commits += word == "committed"
                self.refusal = said if word == "refused" else self.refusal

    def pass_on(self, process: Any, line: Connection, told: int) -> int:
        """Once asked, tell the process to finish its batch, half-way through the grace to abandon it; how much it was told.

        With the grace it ends. KeyboardInterrupt at a second signal.
        """
        if not self.asked:
            return 0
        if len(self.asked) > 1:
            process.kill()
            process.join()
            raise KeyboardInterrupt
        passed = (monotonic() - self.asked[0]) / self.config.watch.grace_s
        if passed > 1:
            process.kill()
        due = [FINISH, ABANDON][: 1 + (passed > 0.5)]
        with suppress(ConnectionError):  # it is gone
            for word in due[told:]:
                line.send(word)
        return len(due)

    def rest(self, seconds: float) -> None:
        """Wait so many seconds, or until told to end; this loop still counts as turning."""
        until = monotonic() + seconds
        while monotonic() < until and not self.asked:
            self.health.turned = monotonic()
            sleep(TICK)

    def tell_sum(self) -> None:
        """The last line: what was taken in since the beginning."""
        sums = self.health.sums
        batches, videos, patches = (many(sums[f"{one}{end}"], one) for one, end in (("batch", "es"), ("video", "s"), ("patch", "es")))
        unread = self.health.numbers["unread"] or 0
        left = f"; {many(unread, 'source')} could not be read, to be tried again" if unread else ""
        told = {"event": "stopped", "told": sums | {"unread": unread}}
        log.info("stopped: %s, %s, %d with a reason, %s%s", batches, videos, sums["refused"], patches, left, extra=told)
