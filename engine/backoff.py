"""How long to wait before something that failed is tried again, and what is said meanwhile."""

import errno
from collections.abc import Callable

import numpy as np

NO_SPACE = ("no space left on device", "disk is full", "disk full", "quota exceeded")  # as Linux, Lance, sqlite and Ray say it
MOST = 64  # doublings beyond which a float gains nothing


def delay(seed: int, tries: int, base: float, most: float) -> float:
    """Seconds to wait after so many failures in a row: uniform below base * 2^(tries - 1), which is at most `most` ("full jitter").

    A function of the seed and the number of tries. Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    roof = min(most, base * 2.0 ** min(tries - 1, MOST))
    return float(np.random.default_rng([seed, tries]).uniform(0, roof))


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is that a disk is full."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error).lower() for words in NO_SPACE):
            return True
        error = error.__cause__ or error.__context__
    return False


class Outage:
    """Something that is away: told of once when it fails and once when it is back, however often it was asked in between."""

    def __init__(self, clock: Callable[[], float], say: Callable[[str], None], wait: Callable[[int], float]) -> None:
        self.clock, self.say, self.wait = clock, say, wait  # `wait`: seconds after so many failures in a row
        self.tries, self.began, self.until = 0, 0.0, -np.inf

    def failed(self, sentence: str) -> None:
        """It failed again; not to be tried before `until`."""
        now, self.tries = self.clock(), self.tries + 1
        if self.tries == 1:
            self.began = now
            self.say(f"{sentence}; waiting, nothing is lost")
        self.until = now + self.wait(self.tries)

    def over(self) -> None:
        """It answered."""
        if self.tries:
            self.say(f"back after {self.clock() - self.began:.0f} s and {self.tries} tries in vain")
        self.tries, self.until = 0, -np.inf

    @property
    def lasts(self) -> bool:
        """Whether it failed and it is too early to ask again."""
        return self.clock() < self.until
