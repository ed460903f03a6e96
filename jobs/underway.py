"""What a watcher is trying, and what it could not read, in memory and in its store: whoever comes after it finds both there."""

from collections.abc import Collection, Mapping, Set
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


class Unread(dict[int, int]):
    """Of each source of an inbox (16 hex digits) that could not be read, by key, how often it was tried, in this run or one before."""

    def __init__(self, store: PatchStore, inbox: str) -> None:
        super().__init__()
        self.store, self.place = store, f"{inbox}/unread"  # no inbox: who looks for what was under way leaves it alone

    def recall(self, known: Known) -> None:
        """What the runs before this one counted, but for what is known by now."""
        found = {name.partition("@"): tries for name, tries in attempts.begun(self.store).items()}
        self.update({int(name, 16): tries for (name, _, place), tries in found.items() if place == self.place})
        self.end({key for key in self if key in known})

    def once_more(self, keys: Collection[int]) -> None:
        """These could not be read; where the store is away this run alone knows."""
        self.update({key: self.get(key, 0) + 1 for key in keys})
        if keys:
            with suppress(*away(LookupError)):
                attempts.begin(self.store, {attempts.of(name_of(key), self.place): self[key] for key in keys})

    def end(self, keys: Set[int]) -> None:
        """These are not tried any more: taken in, set aside, called back or gone."""
        if ended := keys & self.keys():
            for key in ended:
                del self[key]
            with suppress(*away(LookupError)):
                attempts.end(self.store, [attempts.of(name_of(key), self.place) for key in ended])
