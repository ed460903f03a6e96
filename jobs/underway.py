"""What a watcher is trying, in memory and in its store, so that whoever comes after a death finds what was under way."""

from collections.abc import Collection, Mapping
from contextlib import suppress

from engine.inbox import Known
from engine.listing import name_of
from engine.store import PatchStore, attempts
from jobs.troubles import away


class UnderWay(dict[int, int]):
    """Of each source that was under way and did not end, by key, how often it was tried alone; 0: only with others.

    What is under way in other inboxes than `inbox`, 16 hex digits, is the business of those who watch them.
    """

    def __init__(self, store: PatchStore, inbox: str) -> None:
        super().__init__()
        self.store, self.inbox = store, inbox
        self.unclaimed: set[int] = set()  # of an older engine, which did not tell in which inbox
        self.ended: set[int] = set()  # what the store was not told of, since it was away

    def recall(self, known: Known) -> None:
        """What was under way when the process before this one ended, but for what it took in and could not say so any more."""
        found = {name.partition("@"): tries for name, tries in attempts.begun(self.store).items()}
        older = {int(name, 16): tries for (name, _, inbox), tries in found.items() if not inbox}
        mine = {int(name, 16): tries for (name, _, inbox), tries in found.items() if inbox == self.inbox}
        self.unclaimed = older.keys() - mine.keys()
        self.update(older | mine)
        self.end([key for key in self.keys() if key in known])

    def own(self) -> set[int]:
        """Those that were found in this inbox for certain."""
        return self.keys() - self.unclaimed

    def begin(self, tries: Mapping[int, int]) -> None:
        """Note in the store that these are being tried, before anything of them is read."""
        self.update(tries)  # first: where the word is lost, what failed is a suspect all the same
        self.ended -= tries.keys()
        self.note(tries)

    def note(self, tries: Mapping[int, int]) -> None:
        """Write into the store what is being tried, and how often it was."""
        attempts.begin(self.store, {attempts.of(name_of(key), self.inbox): count for key, count in tries.items()})
        self.unclaimed -= tries.keys()

    def end(self, keys: Collection[int]) -> None:
        """Note that these were tried to the end; a store that is away hears of it with those that come after."""
        self.ended |= set(keys)
        for key in keys:
            self.pop(key, None)
        with suppress(*away(LookupError)):
            names = [name_of(key) for key in self.ended]
            attempts.end(self.store, [*names, *(attempts.of(name, self.inbox) for name in names)])
            self.ended.clear()

    def withdraw(self, keys: Collection[int], before: Mapping[int, int]) -> None:
        """Nothing of this counts: all stands as it was `before`."""
        self.end(set(keys) - before.keys())
        self.update(before)
        if before:
            self.note(before)
