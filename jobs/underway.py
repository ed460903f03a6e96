"""What a watcher is trying, in memory and in its store, so that whoever comes after a death finds what was under way."""

from collections.abc import Collection, Mapping
from contextlib import suppress

from engine.inbox import Known
from engine.listing import name_of
from engine.store import PatchStore, attempts
from jobs.troubles import away


class UnderWay(dict[int, int]):
    """Of each source that was under way and did not end, by key, how often it was tried alone; 0: only with others."""

    def __init__(self, store: PatchStore) -> None:
        super().__init__()
        self.store = store
        self.ended: set[int] = set()  # what the store was not told of, since it was away

    def recall(self, known: Known) -> None:
        """What was under way when the process before this one ended, but for what it took in and could not say so any more."""
        found = {int(key, 16): tries for key, tries in attempts.begun(self.store).items()}
        self.update(found)
        self.end([key for key in found if key in known])

    def begin(self, tries: Mapping[int, int]) -> None:
        """Note in the store that these are being tried, before anything of them is read."""
        self.update(tries)  # first: where the word is lost, what failed is a suspect all the same
        self.ended -= tries.keys()
        attempts.begin(self.store, {name_of(key): count for key, count in tries.items()})

    def end(self, keys: Collection[int]) -> None:
        """Note that these were tried to the end; a store that is away hears of it with those that come after."""
        self.ended |= set(keys)
        for key in keys:
            self.pop(key, None)
        with suppress(*away(LookupError)):
            attempts.end(self.store, [name_of(key) for key in self.ended])
            self.ended.clear()

    def withdraw(self, keys: Collection[int], before: Mapping[int, int]) -> None:
        """Nothing of this counts: all stands as it was `before`."""
        self.end(set(keys) - before.keys())
        self.update(before)
        if before:
            attempts.begin(self.store, {name_of(key): count for key, count in before.items()})
