"""The process that works for the job watch: what it needs before it begins, which is asked for until it is there, and its end."""

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import sleep
from typing import TypeVar

from engine import flow, inbox, tracking
from engine.config import Config
from engine.flow import Step
from engine.store import PatchStore, writers
from jobs import ingest, own, pools, probe, quiet
from jobs.absence import Absence, lacking, reach, reach_nodes
from jobs.line import STARTING, Line, Past, beating
from jobs.news import measure
from jobs.shortage import nodes_awaited
from jobs.troubles import BUGS, away
from jobs.watcher import TICK, TakenOverError, Watcher

log = logging.getLogger("jobs.watch")
ARRIVING = STARTING - 60.0  # seconds for nodes that an autoscaler is to start: some of what there is before the first look
Answer = TypeVar("Answer")
Ready = tuple[Config, PatchStore, list[Step]]


class OccupiedError(Exception):
    """Another watcher has the inbox, and this one is not to wait for it."""


def serve(config: Config, past: Past, connection: Connection) -> None:
    """Watch until told to stop. Where the first of such processes cannot begin, it says why."""
    quiet.begin(config.watch.log)
    quiet.withhold(own.namer(config))
    line = Line(connection)
    with suppress(KeyboardInterrupt), quiet.Surprises():
        try:
            ready = begun_first(config, line) if past.first else patiently(config, line, partial(begun_again, config))
        except BUGS:
            raise
        except away(ValueError, LookupError) as error:  # it lacks what it needs to begin
            line.tell("refused", str(error))
            return
        keep_watch(ready, line, past)


def keep_watch(ready: Ready, line: Line, past: Past) -> None:
    """Watch until told to end; where another watcher took the inbox over, stand by until that one is gone.

    Under watch.once it ends instead, and leaves the rest to that one: begun again by the clock, more and more of them would wait.
    """
    if ready[0].where == "ray":  # whose endpoint hears the news
        line.also.append(partial(measure, flow.RayMeters()))
    line.tell("ready")
    with suppress(OccupiedError):
        while not is_watched(ready, line, past):
            log.warning("another watcher took over this inbox, while this one stood still", extra={"event": "taken over"})
            line.busy = False
            line.tell("idle")


def is_watched(ready: Ready, line: Line, past: Past) -> bool:
    """Watch until told to end, under the lease of the inbox; False where it was lost. What runs beside is ended with it."""
    try:
        watch(ready, line, past)
    except TakenOverError:
        return False
    return True


def watch(ready: Ready, line: Line, past: Past) -> None:
    """The same; TakenOverError where the lease was lost, OccupiedError where it is not waited for."""
    config, store, work = ready
    told = {"patches_version_in": store.complete_version()}
    with ExitStack() as stack:
        lone = partial(writers.watching, store, config.videos.uri, partial(occupied, line, config.watch.once), line.beat)
        lease = patiently(config, line, lambda: stack.enter_context(lone()))
        record = patiently(config, line, lambda: stack.enter_context(tracking.running(config, "watch", config.fingerprint(), told)))
        watcher = Watcher(config, store, work, line, past, record)
        for aside in (watcher.after.aside, watcher.upkeep.aside):
            stack.callback(aside.end)
        quiet.withhold(watcher.is_named)
        if config.where == "ray":
            stack.enter_context(nodes_awaited(line))
        watcher.run(lease)


def occupied(line: Line, once: bool) -> None:
    """Say that another watcher holds the inbox; OccupiedError where nobody waits for it."""
    line.tell("standing by")
    if once:
        log.info("another job watches this inbox: this one ends, and leaves what is there to that one", extra={"event": "occupied"})
        raise OccupiedError
    log.info("another job watches this inbox: this one waits, and takes over when that one is gone")


def begun_first(config: Config, line: Line) -> Ready:
    """What the work needs, made ready; signs of life go on meanwhile."""
    with beating(line.beat, STARTING):
        return begun(config)


def begun(config: Config) -> Ready:
    """What a watch needs; ValueError, OSError or ClusterError, in one sentence, where there is something that it has not."""
    store = PatchStore(config.store.uri)
    refuse_nowhere(store)
    if not probe.at_hand(config):
        raise ValueError(
            f"the store {config.store.uri} has no scorer of these settings yet, and one that is trained on the first files to "
            "arrive would stay: run the job ingest or probe on what there is first, or set difficulty.checkpoint"
        )
    inbox.glance(config.videos.uri)
    reach_nodes(config, ARRIVING)
    own.tell(config)
    announce(store)
    return equipped(config, ingest.opened(config))


def refuse_nowhere(store: PatchStore) -> None:
    """ValueError where there is no store, nor even the folder for a new one."""
    if not store.has("videos") and "://" not in store.uri and not Path(store.uri).parent.exists():
        raise ValueError(
            f"there is no store at {store.uri}, nor a folder for a new one: mount the disk that it lies on, or make the folder"
        )


def announce(store: PatchStore) -> None:
    """Say where a new store is made, for that is what a wrong address looks like."""
    if not store.has("videos"):
        log.warning("there is no store at %s: a new store is made there", store.uri, extra={"event": "new store"})


def begun_again(config: Config) -> Ready:
    """The same where all was there before, so that what is missing is away; nothing is made in its place.

    OSError where the scorer is away, ClusterError where the nodes are.
    """
    store = PatchStore(config.store.uri)
    reach(store)
    tracking.reach(config)
    if not probe.at_hand(config):
        raise OSError(f"the store {store.uri} is away: the scorer that it had is not there")
    reach_nodes(config)
    return equipped(config, store)


def equipped(config: Config, store: PatchStore) -> Ready:
    """The configuration with its scorer, the store, and the steps in their sizes."""
    scored = probe.with_scorer(config)
    return scored, store, pools.sized(scored, store, ingest.steps(scored, store))


def patiently(config: Config, line: Line, ask: Callable[[], Answer]) -> Answer:
    """What it answers, as soon as it does."""
    absence = Absence(config, line)
    while True:
        try:
            with beating(line.beat, STARTING):
                answer = ask()
        except away() as error:
            absence.found(lacking(error, config, PatchStore(config.store.uri)) or "store", str(error))
            while absence.lasts:
                line.beat()
                sleep(TICK)
        else:
            absence.over()
            return answer
