"""What a watch cannot do without and may find away: the store, MLflow, room on the disk, the inbox, the nodes of its cluster."""

import logging
from collections.abc import Sequence
from functools import partial
from time import monotonic

from engine import backoff, flow, tracking
from engine.backoff import Outage
from engine.config import Config
from engine.flow import Step
from engine.store import PatchStore
from jobs import needs
from jobs.line import Line, beating
from jobs.troubles import away

log = logging.getLogger("jobs.watch")
FREED = 30.0  # seconds in which a cluster has free again what the batch before held


class Absence(Outage):
    """An outage that is told over the line, too: what is away, when it turns out to be another thing, and when all is back."""

    def __init__(self, config: Config, line: Line) -> None:
        settings = config.watch
        wait = partial(backoff.delay, settings.seed, base=settings.backoff_s, most=settings.backoff_most_s)
        super().__init__(monotonic, partial(log.warning, "%s", extra={"event": "outage"}), wait)
        self.line, self.what = line, ""

    def found(self, what: str, sentence: str) -> None:
        """It failed again, for want of `what`: store, MLflow, disk, inbox or cluster."""
        if what != self.what:
            self.told_back()
            self.line.tell("waits", what)
            self.what = what
        self.failed("the disk is full" if what == "disk" else sentence)

    def over(self) -> None:
        """It is there again; that is told, too."""
        super().over()
        self.told_back()

    def told_back(self) -> None:
        """Tell the line that work goes on, if anything was away."""
        if self.what:
            self.line.tell("goes on", self.what)
        self.what = ""


def reach(store: PatchStore) -> None:
    """OSError where the store is not there: a folder that is not mounted looks as if it never was."""
    try:
        store.open("videos")
    except LookupError as error:
        raise OSError(f"the store {store.uri} is away: {error}") from error


def reach_nodes(config: Config, seconds: float = FREED) -> None:
    """Where batches run on Ray: ClusterError unless the cluster has what the job does not begin without, or gets it in so many seconds."""
    least = needs.least("watch", config)
    if config.where == "ray" and not flow.awaited(*least, seconds):
        flow.connect(*least)


def await_cluster(config: Config, steps: Sequence[Step], line: Line) -> None:
    """Where batches run on Ray: ClusterError unless the cluster has what the job does not begin without, and room for the smallest pools.

    What a batch would wait for in silence, as GPUs that are gone or that others train on, is so an outage, for which no file is blamed.
    """
    if config.where == "ray":
        with beating(line.beat):
            reach_nodes(config)
            flow.await_pools(steps, FREED)


def lacking(error: BaseException, config: Config, store: PatchStore) -> str:
    """What is to blame for an error: cluster, disk, store, MLflow, or "" where there is room and both answer."""
    if isinstance(error, flow.ClusterError):
        return "cluster"
    if backoff.is_full(error):
        return "disk"
    for what, ask in (("store", partial(reach, store)), ("MLflow", partial(tracking.reach, config))):
        try:
            ask()
        except away():
            return what
    return ""
