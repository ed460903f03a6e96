"""The rounds of a watcher: look, take in what has come to rest, tell how long it took, rest; what is away is waited for.

Of a batch every source is written down before it is tried. What still stands there after a death is tried alone, since one of these was to
blame; what ends the process, hangs it or fails so often while it is alone is set aside. A surprise ends the process, and the next goes on.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

import pyarrow as pa

from engine import backoff, flow, schema, tracking, videos
from engine.config import Config
from engine.files import locate
from engine.flow import Step
from engine.inbox import Inbox, Known, Waiting, batch_of
from engine.listing import key_of
from engine.store import PatchStore, intake, quarantine, writers
from engine.store.lock import Lease, LostError
from jobs import ingest, own, spelling, standing
from jobs.absence import Absence, await_cluster, lacking, reach
from jobs.after import After
from jobs.latency import Latency
from jobs.line import Line, Past, beating
from jobs.news import TABLES, many
from jobs.setbacks import Attempt
from jobs.troubles import BUGS, away
from jobs.underway import UnderWay, Unread
from jobs.upkeep import Upkeep

log = logging.getLogger("jobs.watch")
TICK = 0.2  # seconds that it sleeps at a time
PAUSE = 1.0  # seconds at most between two questions whether a batch is due
Follow = Callable[[pa.Table], None]  # what is done with the ledger rows of a batch once they are committed


class TakenOverError(Exception):
    """Another watcher took over the inbox, while this one stood still."""


class Watcher:
    """One inbox, taken into one store."""

    def __init__(self, config: Config, store: PatchStore, work: list[Step], line: Line, past: Past, record: tracking.Run) -> None:
        self.config, self.store, self.work, self.line, self.past = config, store, work, line, past
        self.execute = (
            flow.run_on_ray if config.where == "ray" else flow.Workbench(lambda stage, frames: line.tell("frames", (stage, frames)))
        )
        self.inbox = Inbox(config.videos.uri, config.watch.settle_s, Known(), beat=line.beat, but=own.places(config))
        self.is_below, self.names, root = own.namer(config), spelling.Names(), locate(config.videos.uri)[1].rstrip("/")
        self.inbox.told = lambda uri, waits: self.names.told(uri.partition(root or "/")[2], waits)
        mine = writers.mark(config.videos.uri)
        self.tries, self.unread = UnderWay(store, mine), Unread(store, mine)
        self.aside: set[int] = set()  # keys of what is set aside
        self.is_fresh, self.next_look = False, monotonic()  # whether it looked since the last batch, and when it does again
        self.outage, self.closed = Absence(config, line), Absence(config, line)  # of what is written to, and of the inbox
        self.stamp = {"fingerprint": config.fingerprint(), "commit": tracking.code_commit()}
        self.versions: dict[str, int] = {}  # of the tables, as they were told last
        # In this order after every batch. A process that dies among them does not call them again for it: they go by what the store has.
        self.after = After(config, line, past)
        self.upkeep = Upkeep(config, line, self.after.setbacks)
        self.latency = Latency(self.inbox, record, line)
        self.followers: list[Follow] = [self.latency.tell, self.tell_versions, self.after.follow, self.tell_standing]

    def run(self, lease: Lease) -> None:
        """Go on until told to stop, or until nothing is left where watch.once says so. TakenOverError where another has the inbox."""
        with beating(self.line.beat):  # of a million rows it takes a minute
            self.recall()
            self.upkeep.plan()
        log.info("watching; the ledger has %s", many(len(self.inbox.known), "source"))
        self.line.tell("watching")
        while not self.line.stopping:
            if monotonic() >= max(self.next_look, self.closed.until):
                if not self.outage.lasts:  # while one lasts every batch asks
                    with suppress(*away(LookupError)):  # where the store is away the next batch says so
                        self.hold(lease)
                self.look()
            self.see_beside()
            if self.outage.lasts or self.closed.tries:
                self.rest()
            elif batch := self.due():
                self.take_in(batch, lease)
            elif self.after.is_due:
                self.make_up()
            elif self.config.watch.once and self.is_over:
                return
            else:
                self.rest()

    def hold(self, lease: Lease) -> None:
        """TakenOverError where the inbox is another's by now."""
        try:
            lease.check()
        except LostError as error:
            for absence in (self.outage, self.closed):
                absence.told_back()  # it is the other one's by now
            raise TakenOverError from error

    def recall(self) -> None:
        """What the ledger knows, and what was under way when the process before this one ended."""
        self.aside = quarantine.keys(self.store)  # before it reads what is known: what is called back in between is missed by nobody
        self.inbox.known = Known(map(key_of, intake.sources(self.store)))
        self.tries.recall(self.inbox.known)
        self.unread.recall(self.inbox.known)
        if self.tries:
            how = f" when a process {self.past.ended}" if self.past.ended else ""
            log.info("%s under way%s: to be tried one by one", many(len(self.tries), "source"), how)

    def look(self) -> None:
        """Look what is in the inbox; where that is away it is waited for."""
        self.next_look = monotonic() + self.config.watch.look_s
        try:
            self.inbox.look()
        except OSError as error:
            self.closed.found("inbox", str(error))
            return
        self.closed.over()
        self.is_fresh = True
        with suppress(*away(LookupError)):  # where the store is away the next batch says so
            aside = quarantine.keys(self.store)
            for key in self.aside - aside:  # called back by `requeue`
                self.inbox.known.drop(key)
                self.tries.pop(key, None)
            self.aside = aside
            self.tries.end(self.inbox.gone(self.tries.own()))  # a process died with it, and it is there no more
            self.unread.end(self.inbox.gone(self.unread.keys()))
        self.tell_versions()  # others change tables, too
        self.tell_backlog("looked")

    def tell_backlog(self, when: str) -> None:
        """Tell how many sources wait, of these how many could not be read, and how many are set aside."""
        self.line.tell(when, {"backlog": len(self.inbox.waiting), "unread": len(self.unread), "quarantined": len(self.aside)})

    def due(self) -> list[Waiting]:
        """What is to be taken in now: one that was under way when a process ended, alone, or a batch that is full or has waited."""
        rested, settings = self.inbox.rested(), self.config.watch
        if suspects := [one for one in rested if one.key in self.tries]:
            return suspects[:1]
        batch = batch_of(rested, settings.batch_bytes, self.config.videos.batch)
        full = len(batch) < len(rested) or len(batch) == self.config.videos.batch
        waited = any(monotonic() - one.since >= settings.settle_s + settings.batch_s for one in batch)
        return batch if full or waited or (settings.once and len(rested) == len(self.inbox.waiting)) else []

    @property
    def is_done(self) -> bool:
        """Whether nothing is left but what could not be read."""
        return self.is_fresh and all(one.tries and one.key not in self.tries for one in self.inbox.waiting.values())

    @property
    def is_over(self) -> bool:
        """Whether what follows and what goes on beside is done, too."""
        return self.is_done and self.after.is_over and not self.upkeep.aside.is_busy and not self.upkeep.is_due

    # -- taking in ----------------------------------------------------------------------------------------------------------

    def take_in(self, batch: list[Waiting], lease: Lease) -> None:
        """Take in a batch, its tries counted first: a source that was in every process that died is set aside in the end."""
        before = {one.key: self.tries[one.key] for one in batch if one.key in self.tries}
        tries = {one.key: before.get(one.key, 0) + (len(batch) == 1) for one in batch}
        self.is_fresh = False
        hopeless = len(batch) == 1 and tries[batch[0].key] > self.config.watch.tries
        with self.line.at_work():
            try:
                reach(self.store)
                self.hold(lease)
                await_cluster(self.config, self.work, self.line)
                self.tries.begin(tries)
                self.set_aside(batch[0]) if hopeless else self.ingest(batch)
                self.tries.end(tries)
            except KeyboardInterrupt:
                with suppress(*away(LookupError)):
                    self.tries.withdraw(tries, before)
                raise
            except BUGS:
                raise
            except away(LookupError) as error:  # the former where a table is not there
                self.failed(batch, before, error)
                return
        self.outage.over()

    def ingest(self, batch: list[Waiting]) -> None:
        """Take in a batch by the very path of the job ingest, and have followed what follows."""
        progress = ingest.Progress(len(batch), self.line.beat)
        with self.store.writing("watch"):
            sources = pa.Table.from_pylist([one.row for one in batch], schema.SOURCE)
            made = [*ingest.batches(self.config, self.store, sources, self.work, progress, self.execute)]
        self.line.tell("committed")
        reach(self.store)  # who follows would make folders where it was
        reasons = {row["uri"]: row["reason"] for rows in made for row in rows.to_pylist()}
        for one in batch:
            if one.row["uri"] not in {*reasons, *progress.replaced, *progress.lost}:
                self.inbox.done(one)  # a copy of what is in the ledger for good: it waits no more
        for rows in made:
            for follow in self.followers:
                follow(rows)
        for one in (one for one in batch if reasons.get(one.row["uri"], "unreadable") != "unreadable"):
            self.inbox.done(one)
        self.try_later([one for one in batch if reasons.get(one.row["uri"]) == "unreadable"])
        self.unread.end({one.key for one in batch if one.key in self.inbox.known})
        self.tell_backlog("left")

    def try_later(self, shut: Sequence[Waiting]) -> None:
        """Count that these could not be read: what was tried so often, in whichever runs, is given up."""
        self.unread.once_more([one.key for one in shut])
        most = self.config.watch.tries
        for one in shut:
            self.put_off(one, tries) if (tries := self.unread[one.key]) < most else self.give_up(one)
        if left := sum(self.unread[one.key] < most for one in shut):
            log.warning("%s could not be read: tried again, %d times in all", many(left, "source"), most)

    def failed(self, batch: Sequence[Waiting], before: Mapping[int, int], error: BaseException) -> None:
        """A file system, a store or a server failed: where they answer, what was tried is to blame; else they are waited for."""
        lacks = lacking(error, self.config, self.store)
        if not lacks:
            how = "failed alone: it is tried again" if len(batch) == 1 else "failed together: they are tried one by one"
            log.warning("%s %s: %s", many(len(batch), "source"), how, type(error).__name__)  # whose text may hold a path
            for one in batch:
                self.put_off(one, max(self.tries.get(one.key, 0), 1))
            self.line.tell("failed")
            return
        with suppress(*away(LookupError)):
            self.tries.withdraw([one.key for one in batch], before)
        self.outage.found(lacks, str(error))

    def put_off(self, one: Waiting, tries: int) -> None:
        """Look at a source again later, the later the more tries it had."""
        settings = self.config.watch
        self.inbox.put_off(one, backoff.delay(settings.seed, tries, settings.backoff_s, settings.backoff_most_s))

    def set_aside(self, one: Waiting) -> None:
        """Enter a source in the ledger as quarantined, by the hash of its bytes if they can be read without the process ending again."""
        counted, most = self.tries[one.key], self.config.watch.tries
        video = videos.identified(one.row) if counted == most + 1 else videos.unread(one.row, "")
        self.quarantine(one, video, f"It was tried {most} times alone, and each time the process ended, hung or failed.")

    def give_up(self, one: Waiting) -> None:
        """The same with one that cannot be opened, as a link to nowhere."""
        detail = f"It was tried {self.config.watch.tries} times, and each time it could not be read."
        self.quarantine(one, videos.unread(one.row, ""), detail)

    def quarantine(self, one: Waiting, video: dict[str, Any], detail: str) -> None:
        """Set a video aside for good, with a ledger row that says why; `requeue` brings it back."""
        if len(self.store.unknown(pa.Table.from_pylist([video], schema.VIDEO))):
            stamp = self.stamp | {"ingested_at": datetime.now(UTC).isoformat(timespec="seconds")}
            self.latency.tell(quarantine.set_aside(self.store, video, detail, stamp))
            told = {"event": "quarantined", "told": {"video_id": video["video_id"], "tries": self.config.watch.tries}}
            log.warning("video %s is set aside: %s `requeue` brings it back", video["video_id"], detail, extra=told)
        self.aside.add(one.key)
        self.inbox.done(one)

    # -- between batches ------------------------------------------------------------------------------------------------------

    def see_beside(self) -> None:
        """What became of the processes beside, and upkeep where it is due: where the job ends with the last file, after that."""
        if any([self.upkeep.has_ended(), self.after.has_ended_beside()]):
            self.tell_versions()
            self.tell_standing()
        if self.upkeep.is_due and (self.is_done or not self.config.watch.once) and not self.outage.lasts:
            self.upkeep.start()

    def make_up(self) -> None:
        """What follows a batch, as far as it was put off, or a process that died had left it to do."""
        try:
            reach(self.store)
        except OSError as error:
            self.outage.found("store", str(error))
            return
        self.line.tell("making up")
        self.after.make_up()
        self.tell_standing()
        self.line.tell("made up")

    def tell_versions(self, rows: pa.Table | None = None) -> None:
        """Tell the versions of the tables, where they changed."""
        with suppress(*away(LookupError)):
            found = {table: int(self.store.open(table).version) for table in TABLES}
            if found != self.versions:
                self.line.tell("versions", found)
            self.versions = found

    def tell_standing(self, rows: pa.Table | None = None) -> None:
        """Tell what has drifted and whether to train again; where that fails it is a setback."""
        if not self.after.setbacks.rests("standing"):
            with Attempt(self.after.setbacks, "standing"):
                self.line.tell("stands", standing.told(self.config))

    def is_named(self, text: str) -> bool:
        """Whether a text names something below the inbox: no log may."""
        return self.is_below(text) or self.names.are_in(text)

    def rest(self) -> None:
        """Wait until the next round, or until told to stop."""
        self.line.beat()
        until = monotonic() + min(PAUSE, self.config.watch.look_s)
        while monotonic() < until and not self.line.stopping:
            sleep(TICK)
