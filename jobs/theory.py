"""What pruning should do by the theory of the perceptron, beside simulation: the figures of OptiDEL, which the report draws."""

import logging
import time
from collections.abc import Iterable, Iterator

import pyarrow as pa

from engine import flow, tracking
from engine.config import Config
from engine.flow import Step
from engine.theory.figures import FIGURES_FILE, FINE, SETTINGS, Figures, Solve, curves, drawn_up, pools
from engine.theory.simulation import POOLS, Simulate

log = logging.getLogger("jobs.theory")
TASKS = 256  # at once at most
PARTS = 10  # lines that say how far it is; there are as many panels


def run(config: Config) -> None:
    """Solve the equations and draw the pools, and keep the figures beside the store."""
    with tracking.running(config, "theory", config.theory.fingerprint(), {}) as record:
        figures = made(config)
        record.keep(FIGURES_FILE, figures.to_json().encode())
        drawn = [curve for panel in figures.panels for curve in panel.curves]
        within, every = sum(curve.agreeing for curve in drawn), sum(len(curve.points) for curve in drawn)
        record.log({"theory/seconds": figures.seconds, "theory/points": every, "theory/within_interval": within}, step=0)
    log.info("%d simulated points in %.0f s; the theory lies within the interval of %d", every, figures.seconds, within)


def made(config: Config) -> Figures:
    """The figures, solved and simulated here or on Ray, with how long it took."""
    began, how = time.monotonic(), config.theory
    drawn = pools(how.dimensions, how.draws)
    log.info("solving %d lines of %d panels, then simulating %d pools", len(curves()), len(SETTINGS), len(drawn))
    solved = worked(config, Solve, pa.table({"curve": range(len(curves()))}))
    errors = pa.concat_tables(followed(solved, len(curves()) * len(FINE), "solved points of lines"))
    simulated = worked(config, Simulate, pa.Table.from_pylist(drawn, POOLS))
    students = pa.concat_tables(followed(simulated, sum(len(row["keeps"]) * len(row["fractions"]) for row in drawn), "simulated students"))
    return drawn_up(errors, students, (how.dimensions, how.draws, time.monotonic() - began))


def followed(tables: Iterable[pa.Table], rows: int, what: str) -> Iterator[pa.Table]:
    """The tables as they come, of `rows` rows in all, with a line at every PARTSth of these."""
    began, done, told = time.monotonic(), 0, 0
    for table in tables:
        done += len(table)
        if done * PARTS // rows > told:
            told = done * PARTS // rows
            log.info("%d of %d %s, %.0f s", done, rows, what, time.monotonic() - began)
        yield table


def worked(config: Config, stage: type, table: pa.Table) -> Iterator[pa.Table]:
    """A row at a time: a pool takes from milliseconds to a second, and 40 MB where it is largest."""
    return flow.runner(config.where)([Step(stage, (), batch=1, actors=(1, TASKS), loads=False)], table)
