"""Pools that wait for nodes which a Ray cluster lacks: said over the line, since they are no silence."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from time import monotonic

from engine import flow
from jobs.line import Line, again

log = logging.getLogger("jobs.watch")
SILENCE = 30.0  # seconds without a word, after which Ray is asked what is waited for
ASKED = 10.0  # seconds between two such questions


def nodes_awaited(line: Line, starved: Callable[[], list[str]] = flow.starved) -> AbstractContextManager[None]:
    """While in here nothing is told and pools wait for a node, as while a cluster grows, say so and give signs of life, however long."""
    return again(Shortage(line, starved).ask, ASKED, count())


class Shortage:
    """The pools of which the last question said that they wait."""

    def __init__(self, line: Line, starved: Callable[[], list[str]]) -> None:
        self.line, self.starved, self.waiting = line, starved, list[str]()

    def ask(self) -> None:
        """Ask who waits, where nothing was told for long or some did wait; tell when that begins and ends."""
        if not self.waiting and monotonic() - self.line.told < SILENCE:
            return
        before, self.waiting = self.waiting, self.starved()
        if self.waiting and not before:
            log.warning("waiting for nodes, which the Ray cluster lacks: %s", ", ".join(self.waiting), extra={"event": "outage"})
            self.line.tell("waits", "nodes")
        elif before and not self.waiting:
            log.info("the nodes are there: work goes on", extra={"event": "outage"})
            self.line.tell("goes on", "nodes")
        elif self.waiting:
            self.line.beat()
