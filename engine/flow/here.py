"""Steps in this process, one batch of each in memory; what their stages loaded may stay for the next call."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from engine.flow.steps import Step
from engine.metrics import frames_of

Execute = Callable[[Sequence[Step], pa.Table], Iterator[pa.Table]]
Stage = Callable[[pa.Table], Iterable[pa.Table]]
Meter = Callable[[str, float], None]  # the name of a stage, and the frames that came out of it


class Workbench:
    """Runs steps as `run_here` does, again and again, and keeps their stages: of each the one that was built last.

    A stage that is asked for with other arguments is built anew in its place, so no more is in memory than one flow needs. On Ray there is
    nothing like it: Ray Data ends the actors of a pool with the flow that they were started for, and one flow that is never done would hold
    back the last rows of every batch of videos until later ones fill the batches of its steps.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.kept: dict[type, tuple[tuple[Any, ...], Stage]] = {}

    def __call__(self, steps: Sequence[Step], table: pa.Table) -> Iterator[pa.Table]:
        return run_here(steps, table, self.build)

    def build(self, step: Step) -> Stage:
        """The stage of a step, kept from before where its arguments are the same; it counts the frames that it makes."""
        arguments, stage = self.kept.pop(step.stage, ((), None))
        if stage is None or arguments != step.arguments:
            del stage  # before the next one is loaded
            stage = build(step)
        self.kept[step.stage] = step.arguments, stage
        return partial(self.count, step.stage.__name__, stage)

    def count(self, name: str, stage: Stage, table: pa.Table) -> Iterator[pa.Table]:
        """What a stage makes of a table, each part counted once it is made."""
        for made in stage(table):
            yield made
            self.meter(name, frames_of(made))


def build(step: Step) -> Stage:
    """A new stage of a step."""
    made: Stage = step.stage(*step.arguments)
    return made


def run_here(steps: Sequence[Step], table: pa.Table, build: Callable[[Step], Stage] = build) -> Iterator[pa.Table]:
    """The rows that come out of the last step, streamed: one batch of each step is in memory."""
    tables: Iterable[pa.Table] = [table]
    for step in steps:
        tables = through(build(step), in_batches(tables, step.batch))
    return (made for made in tables if len(made))


def through(work: Stage, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """All that a stage makes of some tables, one table at a time."""
    for table in tables:
        yield from work(table)


def in_batches(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows`; the last one may be shorter."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= rows:
            joined = pa.concat_tables(waiting)
            whole = len(joined) - len(joined) % rows
            yield from (joined.slice(start, rows) for start in range(0, whole, rows))
            waiting = [joined.slice(whole)]
    if rest := sum(map(len, waiting)):
        yield pa.concat_tables(waiting).slice(0, rest)
