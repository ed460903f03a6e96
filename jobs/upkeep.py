"""Upkeep of the store that is watched, on a schedule of its own: in a process beside, so that nothing that arrives waits for it."""

import logging
from datetime import UTC, datetime
from math import inf
from multiprocessing.connection import Connection
from time import monotonic

from engine import tracking
from engine.config import Config
from engine.store import PatchStore, upkeep
from jobs import aside
from jobs.aside import Aside
from jobs.line import LONGEST, Line
from jobs.setbacks import Setbacks
from jobs.troubles import BUGS, mendable, said

log = logging.getLogger("jobs.watch")
STEP = "upkeep"


class Upkeep:
    """Does it every watch.upkeep_s; where it fails that is a setback, and the next time is as if it had not."""

    def __init__(self, config: Config, line: Line, setbacks: Setbacks) -> None:
        self.config, self.line, self.setbacks = config, line, setbacks
        self.aside, self.next = Aside(config, keep_up), inf

    def plan(self) -> None:
        """Say when it is due for the first time: so long after the last one, whoever did that."""
        self.next = monotonic() + due_in(self.config)

    @property
    def is_due(self) -> bool:
        """Whether it is time, and none is under way."""
        return monotonic() >= self.next and not self.aside.is_busy

    def start(self) -> None:
        """Begin a round; the next one is due upkeep_s from now."""
        self.next = monotonic() + self.config.watch.upkeep_s
        self.line.tell("keeping up")
        self.aside.start()

    def has_ended(self) -> bool:
        """Whether one ended since this was asked."""
        if (how := self.aside.ended()) is None:
            return False
        self.line.tell("kept up")
        if not how:
            self.setbacks.over(STEP)
        elif self.setbacks.failed(STEP, "Upkeep", how):
            log.warning("%s: %s; the next round is in %.0f s", STEP, how, self.config.watch.upkeep_s, extra={"event": "setback"})
        return True


def due_in(config: Config) -> float:
    """Seconds until it is due: watch.upkeep_s after the last, or after the first video of a store that had none yet."""
    then = upkeep.last(PatchStore(config.store.uri))
    past = (datetime.now(UTC) - datetime.fromisoformat(then)).total_seconds() if then else 0.0
    return min(max(config.watch.upkeep_s - past, 0.0), config.watch.upkeep_s)  # the clock of who did it may be ahead


def keep_up(config: Config, line: Connection) -> None:
    """The process beside."""
    with aside.beside(config, line, LONGEST):
        try:
            PatchStore(config.store.uri).maintain(config.upkeep, tracking.code_commit())
        except BUGS:
            raise
        except mendable(MemoryError) as error:
            line.send(said(error))
