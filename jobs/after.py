"""What follows a batch, in order: selections, near-duplicates, drift, what training again would be worth; and what goes on beside.

Each is a job of its own and goes by what the store has, so that one that was left out, or died, is made up for the next time. What a person
could mend is told and not raised: the video is taken in. What takes hours is done by a process beside: see aside.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from engine import files, tracking
from engine.config import Config
from jobs import alike, drift, rescore, selections, worth
from jobs.aside import Aside

log = logging.getLogger("jobs.watch")
BEAT = 5.0  # seconds between two signs of life
LONGEST = 3600.0  # seconds of signs of life: what follows a batch takes no longer, or hangs
STEPS: dict[str, Callable[[Config], None]] = {
    "selections": selections.run,
    "near-duplicates": alike.run,
    "drift": drift.run,
    "worth": worth.run,
}


class After:
    """Follows every batch of a watcher; `beat` is called while it is at work."""

    def __init__(self, config: Config, beat: Callable[[], None]) -> None:
        self.config, self.beat, self.aside = config, beat, Aside(config)

    def follow(self, rows: pa.Table) -> None:
        """Do what is to be done now, whatever `rows` the batch had."""
        with beating(self.beat):
            for name, step in STEPS.items():
                attempt(name, step, self.config)
            if not self.aside.is_busy and any(attempt(name, due, self.config) for name, due in DUE.items()):
                self.aside.start()


DUE: dict[str, Callable[[Config], bool]] = {"rescore": rescore.is_due, "retrain": worth.is_due}


def attempt(name: str, step: Callable[[Config], bool | None], config: Config) -> bool:
    """What the step says; False where it met what a person can mend."""
    try:
        return bool(step(config))
    except (KeyError, IndexError):
        raise  # a bug
    except mendable() as error:
        log.warning("%s: %s; the next batch tries again", name, " ".join(str(error).split()))
        return False


def mendable() -> tuple[type[BaseException], ...]:
    """What a person can mend: settings, disk, network."""
    return ValueError, LookupError, RuntimeError, *files.unreadable(), *tracking.troubles()


@contextmanager
def beating(beat: Callable[[], None]) -> Iterator[None]:
    """Give a sign of life now and then, for LONGEST at most."""
    ended = threading.Event()

    def signs() -> None:
        for _ in range(int(LONGEST / BEAT)):
            if ended.wait(BEAT):
                return
            beat()

    thread = threading.Thread(target=signs, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
