"""What follows a batch, in order: selections, near-duplicates, drift, what training again would be worth; and what goes on beside.

Each is a job of its own and goes by what the store has, so that one that was left out, or died, is made up for the next time. What fails is
told and not raised, a bug too: the video is taken in. What takes hours is done by a process beside: see aside.
"""

import logging
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from time import monotonic

import pyarrow as pa

from engine.config import Config
from jobs import alike, aside, drift, rescore, selections, worth
from jobs.aside import Aside
from jobs.line import LEAST, LONGEST, SLOWER, Line, Past, beating
from jobs.setbacks import Attempt, Setbacks
from jobs.troubles import BUGS, mendable, said

log = logging.getLogger("jobs.watch")
BESIDE = "beside"  # the step of all that the other process does
TELLING = 10.0  # seconds: a step that took less may have had nothing to do, which says nothing of how long it takes. Our choice
STEPS: dict[str, Callable[[Config], bool | None]] = {  # True where it left what is long to the process beside
    "selections": selections.run,
    "near-duplicates": alike.soon,
    "drift": drift.run,
    "worth": worth.run,
}
DUE: dict[str, Callable[[Config], bool]] = {"rescore": rescore.is_due, "retrain": worth.is_due}  # what else that one may have to do


class After:
    """Follows every batch of a watcher; `past`: what failed in processes before this one, and what its steps took there."""

    def __init__(self, config: Config, line: Line, past: Past | None = None) -> None:
        past = past or Past()
        self.config, self.line, self.aside = config, line, Aside(config, all_that_is_due)
        self.setbacks, self.took = Setbacks(config, line, past.setbacks), dict(past.took)
        self.owed = {*STEPS, BESIDE}  # put off, because they failed lately, or not done yet by this process; BESIDE: to be asked for
        self.left = set[str]()  # steps that left something to the process beside: to look once more would cost every batch

    @property
    def is_due(self) -> bool:
        """Whether what was put off may be tried now."""
        return any(not self.setbacks.rests(step) for step in self.owed if step != BESIDE or self.aside.is_free)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done, now or later."""
        return self.aside.is_free and all(self.setbacks.ended(step) for step in self.owed)

    def follow(self, rows: pa.Table) -> None:
        """Do what is to be done now, whatever `rows` the batch had."""
        self.owed.add(BESIDE)
        self.do(STEPS)

    def make_up(self) -> None:
        """Do what was put off."""
        self.do([step for step in STEPS if step in self.owed])

    def do(self, steps: Iterable[str]) -> None:
        """Do these steps, but for those that rest after a setback, which are owed; then start what is due beside, if that is owed."""
        for step in steps:
            self.owed.add(step)
            if not self.setbacks.rests(step):
                self.owed.remove(step)
                with beating(self.line.beat, self.longest(step)), Attempt(self.setbacks, step):
                    self.timed(step)
        if BESIDE in self.owed and self.aside.is_free and not self.setbacks.rests(BESIDE):
            self.owed.remove(BESIDE)
            with beating(self.line.beat):
                if self.left or any(self.asks(step) for step in DUE):
                    self.aside.start()

    def longest(self, step: str) -> float:
        """Seconds after which a step counts as hanging; one that was ended for it, maybe too soon, has as long as one that is not known."""
        known = step in self.took and not (step in self.setbacks.found and self.setbacks.found[step].deaths)
        return max(LEAST if known else LONGEST, SLOWER * self.took.get(step, 0.0))

    def timed(self, step: str) -> None:
        """Do a step; where it goes well, and took longer than ever, that is told. One that had nothing to do teaches nothing."""
        began = monotonic()
        self.left.discard(step)
        if STEPS[step](self.config):
            self.left.add(step)
            self.owed.add(BESIDE)  # which may have been asked for before, where the step is made up for
        took = monotonic() - began
        if took > self.took.get(step, TELLING):
            self.took[step] = took
            self.line.tell("took", self.took)

    def has_ended_beside(self) -> bool:
        """Whether the process beside ended since this was asked; where it ended well more may be due, else that is a setback."""
        if (how := self.aside.ended()) is None:
            return False
        if how:
            self.failed_beside(how)
        else:
            self.setbacks.over(BESIDE)
            self.owed |= {BESIDE, *STEPS}  # the steps, for what came in meanwhile
        return True

    def failed_beside(self, how: str) -> None:
        """A setback of the process beside: of a step that it names, or its death."""
        step, _, why = how.partition(": ")
        kind, reason = (step, why) if step in {*STEPS, *DUE} else ("Death", how)
        if self.setbacks.failed(BESIDE, kind, reason):
            log.warning("%s: %s; it is tried again later", BESIDE, how, extra={"event": "setback"})

    def asks(self, step: str) -> bool:
        """Whether there is something to be done beside."""
        found = False
        if not self.setbacks.rests(step):
            with Attempt(self.setbacks, step):
                found = DUE[step](self.config)
        return found


# -- in the process beside ------------------------------------------------------------------------------------------------------


def all_that_is_due(config: Config, line: Connection) -> None:
    """The process beside: what takes hours, one after the other."""
    with aside.beside(config, line):
        if attempt("rescore", rescore.is_due, config, line):
            attempt("rescore", rescore.run, config, line)
            attempt("selections", selections.run, config, line)
            attempt("near-duplicates", alike.run, config, line)
        elif attempt("near-duplicates", alike.is_long, config, line):
            attempt("near-duplicates", alike.run, config, line)
        attempt("retrain", worth.train, config, line)


def attempt(name: str, step: Callable[[Config], bool | None], config: Config, line: Connection) -> bool:
    """What a step says; False where it met what a person can mend, which the watcher is told."""
    try:
        return bool(step(config))
    except BUGS:
        raise
    except mendable(MemoryError) as error:
        line.send(f"{name}: {said(error)}")
        return False
