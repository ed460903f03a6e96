"""What pruning should do by the theory of the perceptron, beside simulation: the figures of OptiDEL, which the report draws."""

import logging
import time
from collections.abc import Iterator

import pyarrow as pa

from engine import flow, tracking
from engine.config import Config
from engine.flow import Step
from engine.theory.figures import FIGURES_FILE, Figures, Solve, curves, drawn_up, pools
from engine.theory.simulation import POOLS, Simulate

log = logging.getLogger("jobs.theory")
TASKS = 256  # at once at most


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
    errors = pa.concat_tables(worked(config, Solve, pa.table({"curve": range(len(curves()))})))
    log.info("%d lines solved in %.0f s", len(curves()), time.monotonic() - began)
    students = pa.concat_tables(worked(config, Simulate, pa.Table.from_pylist(pools(how.dimensions, how.draws), POOLS)))
    return drawn_up(errors, students, (how.dimensions, how.draws, time.monotonic() - began))


def worked(config: Config, stage: type, table: pa.Table) -> Iterator[pa.Table]:
    """A row at a time: a pool takes from milliseconds to a second, and 40 MB where it is largest."""
    return flow.runner(config.where)([Step(stage, (), batch=1, actors=(1, TASKS), loads=False)], table)
