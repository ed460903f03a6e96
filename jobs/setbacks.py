"""What fails of what follows a batch: told once, shown, tried again later, and never in the way of what takes video in."""

import logging
from collections.abc import Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from engine import backoff
from engine.config import Config
from jobs import quiet
from jobs.line import Setback
from jobs.troubles import BUGS, mendable

log = logging.getLogger("jobs.watch")


class Tells(Protocol):
    """A line, or what stands for one."""

    def tell(self, word: str, said: Any = "") -> None:
        """Say a word to who listens."""


class Setbacks:
    """Of each step how often it failed in a row, also in processes `before` this one, which it may have ended."""

    def __init__(self, config: Config, line: Tells, before: Mapping[str, Setback] | None = None) -> None:
        self.settings, self.line, self.found = config.watch, line, dict(before or {})
        self.until = {step: monotonic() + self.wait(one.tries) for step, one in self.found.items()}
        self.told: set[tuple[str, str]] = set()  # each step and kind of error, until it is over
        if self.found:
            line.tell("setbacks", self.found)

    def wait(self, tries: int) -> float:
        """Seconds to wait after so many failures: longer each time, with some chance."""
        return backoff.delay(self.settings.seed, tries, self.settings.backoff_s, self.settings.backoff_most_s)

    def rests(self, step: str) -> bool:
        """Whether it is too early to try it again."""
        return self.ended(step) or monotonic() < self.until.get(step, 0.0)

    def ended(self, step: str) -> bool:
        """Whether it ended or hung the process so often that it is not tried any more before somebody starts the job again."""
        return step in self.found and self.found[step].deaths >= self.settings.tries

    def failed(self, step: str, kind: str, reason: str) -> bool:
        """It did; True where that is news."""
        before = self.found.get(step, Setback(0, 0, ""))
        self.found[step] = Setback(before.tries + 1, before.deaths, quiet.without_names(f"{kind}: {reason}"))
        self.until[step] = monotonic() + self.wait(before.tries + 1)
        self.line.tell("setback", {"step": step, "reason": kind})
        self.line.tell("setbacks", self.found)
        is_news = (step, kind) not in self.told
        self.told.add((step, kind))
        return is_news

    def over(self, step: str) -> None:
        """It went well."""
        if step in self.found:
            log.info("%s: done again; tries in vain: %d", step, self.found.pop(step).tries, extra={"event": "setback"})
            self.told = {one for one in self.told if one[0] != step}
            self.line.tell("setbacks", self.found)


class Attempt:
    """Around a step: what it raises ends it and nothing else, but for what a person or a signal wants."""

    def __init__(self, setbacks: Setbacks, step: str) -> None:
        self.setbacks, self.step = setbacks, step

    def __enter__(self) -> None:
        self.setbacks.line.tell("follows", self.step)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.setbacks.line.tell("follows", "")
        if kind is None:
            self.setbacks.over(self.step)
        if kind is None or error is None or issubclass(kind, KeyboardInterrupt | SystemExit):
            return False
        told = " ".join(str(error).split())
        if self.setbacks.failed(self.step, kind.__name__, told):
            if is_bug(error):
                quiet.tell_surprise(f"{self.step}: a bug, which ends this step only", error)
            log.warning("%s: %s; it is tried again later", self.step, told or kind.__name__, extra={"event": "setback"})
        return True


def is_bug(error: BaseException) -> bool:
    """Whether it is none of what a person could mend."""
    return isinstance(error, BUGS) or not isinstance(error, mendable(MemoryError))
