"""A folder or a prefix of a bucket that is looked at again and again: what is new in it, and what of that has come to rest.

Time is the watcher's own; that of a file is compared with itself only, so that no two clocks need to agree. What the ledger has is
known by 64 bits of a hash: two of a million sources are taken for the same with a chance of 3e-8.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.listing import Row, below, is_among, key_of, reached, sources

Clock = Callable[[], float]  # seconds, never backwards
MOST = 100_000  # sources that are waited for at a time, about 50 MB; of those beyond it a later look tells
LATELY = 4096  # hashes that are kept apart before they are sorted in


class Known:
    """The sources that need no look any more, by their keys: eight bytes each."""

    def __init__(self, keys: Iterable[int] = ()) -> None:
        self.sorted: NDArray[np.uint64] = np.unique(np.fromiter(keys, np.uint64))
        self.lately: set[int] = set()
        self.dropped: set[int] = set()

    def __contains__(self, key: int) -> bool:
        if key in self.lately:
            return True
        place = int(np.searchsorted(self.sorted, np.uint64(key)))
        return place < len(self.sorted) and int(self.sorted[place]) == key and key not in self.dropped

    def __len__(self) -> int:
        return len(self.sorted) + len(self.lately) - len(self.dropped)

    def add(self, key: int) -> None:
        """Look no more at the source of this key."""
        self.dropped.discard(key)
        self.lately.add(key)
        if len(self.lately) > LATELY:
            self.sorted = np.union1d(self.sorted, np.fromiter(self.lately, np.uint64))
            self.lately = set()

    def drop(self, key: int) -> None:
        """Let a source be new again."""
        self.lately.discard(key)
        self.dropped.add(key)


@dataclass
class Waiting:
    """A source that is not taken in yet; times by the watcher's clock, in seconds."""

    row: Row
    key: int
    arrived: float  # first seen, as whatever it was then
    since: float  # first seen as it is now
    seen: float  # last seen
    looked: int  # the last look that saw it
    tries: int = 0  # in vain, as it is now
    until: float = -np.inf  # not to be tried before


class Inbox:
    """What lies below `uri` and is new; `known` are those that are not, `but` addresses of what is no video."""

    def __init__(
        self,
        uri: str,
        settle_s: float,
        known: Known,
        clock: Clock = time.monotonic,
        beat: Callable[[], None] = lambda: None,
        but: Collection[str] = (),
    ) -> None:
        self.uri, self.settle_s, self.known, self.clock = uri, settle_s, known, clock
        self.but, self.beat = but, beat  # called at every source that is listed: a look at a million takes minutes
        self.waiting: dict[str, Waiting] = {}
        self.told: Callable[[str, bool], None] = lambda uri, waits: None  # called when an address begins to wait, or does no more
        self.looks = 0

    def look(self) -> None:
        """See what is there now; FileNotFoundError or OSError, in one sentence, where that cannot be said: nothing is forgotten then."""
        with reached(self.uri) as (fs, root):
            self.see(sources(fs, root, self.is_known))

    def is_known(self, row: Row) -> bool:
        """Whether a source needs no look; also a sign of life, as a listing may take minutes."""
        self.beat()
        return key_of(row) in self.known or is_among(row["uri"], self.but)

    def see(self, rows: Iterable[Row]) -> None:
        """A look at these sources: what is not among them any more is not waited for."""
        self.looks += 1
        for row in rows:
            now, key, before = self.clock(), key_of(row), self.waiting.get(row["uri"])
            if before is not None and before.key == key:
                before.seen, before.looked = now, self.looks
            elif before is not None or len(self.waiting) < MOST:
                if before is None:
                    self.told(row["uri"], True)
                self.waiting[row["uri"]] = Waiting(row, key, before.arrived if before else now, now, now, self.looks)
        for uri in [uri for uri, one in self.waiting.items() if one.looked != self.looks]:
            self.leave(uri)

    def gone(self, keys: Collection[int]) -> set[int]:
        """Those of these sources that the last look did not find as they were: renamed, replaced, removed; none where not all can wait."""
        return set(keys) - {one.key for one in self.waiting.values()} if keys and len(self.waiting) < MOST else set()

    def rested(self) -> list[Waiting]:
        """Those that were the same at two looks that lie far enough apart, and are not put off; first come, first told."""
        now = self.clock()
        found = [one for one in self.waiting.values() if one.seen - one.since >= self.settle_s and one.until <= now]
        return sorted(found, key=lambda one: (one.arrived, one.row["uri"]))

    def done(self, one: Waiting) -> None:
        """A source that needs no look any more, as it is."""
        self.known.add(one.key)
        self.leave(one.row["uri"])

    def leave(self, uri: str) -> None:
        """Wait for an address no more."""
        del self.waiting[uri]
        self.told(uri, False)

    def put_off(self, one: Waiting, seconds: float) -> None:
        """Try a source again no sooner than in so many seconds, unless it changes."""
        one.tries, one.until = one.tries + 1, self.clock() + seconds


def glance(uri: str) -> None:
    """Raise as `Inbox.look` does where the inbox cannot be listed, by its first files."""
    with reached(uri) as (fs, root):
        next(iter(below(fs, root)), None)


def batch_of(rested: Sequence[Waiting], most_bytes: int, most: int) -> list[Waiting]:
    """The first of them that together have no more bytes, and are no more, than that; one in any case."""
    taken: list[Waiting] = []
    size = 0
    for one in rested[:most]:
        size += one.row["size"]
        if taken and size > most_bytes:
            break
        taken.append(one)
    return taken
