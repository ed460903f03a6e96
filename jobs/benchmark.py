"""Run a matrix: every cell that has no result yet, its results into the store, and what came of it into MLflow and the report.

The design. A matrix is a list of cells (`matrix.cells`: a pure function of a YAML file), a cell is a training set, a model and a
measurement (`cells`). Two cells that differ in the data set share the model, so what is scheduled are two kinds of tasks: a model
(choose and pre-train), and the measurements of it, which wait for it. A model is thus trained by one task, whatever needs it, and its
measurements run beside each other; a measurement that has its row is not even begun, and a model that all its rows are there of is not
asked for. Ray runs one task a GPU, or a processor; `where=here` runs them in order.

Exactly once: tasks hand rows to this process, which alone writes the table `results`, by fingerprint, in one commit each. A kill between
a measurement and its row costs a look into MLflow, which has the measurement by a key made of weights, images and settings; a kill
amid a pre-training costs the steps since its checkpoint. A cell that failed has a row with the reason and is tried again next time.

A seed is another draw of everything that is drawn: the choice, the first weights and the batches of the pre-training, the decoder, the
batches and, where the data set has no split of its own, the test part of the fine-tuning. So an interval over seeds holds all of it.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pyarrow as pa

from engine import datasets, flow, schema, tracking, verdicts
from engine.config import Config
from engine.plan import Cost
from engine.store import PatchStore
from jobs import cells, choose, costs, matrices, matrix, needs, places, twins
from jobs.costs import Costs
from jobs.matrix import Cell

log = logging.getLogger("jobs.benchmark")
Row = dict[str, Any]


def run(config: Config, name: str, *words: str) -> int:
    """Run the matrix of a YAML file, or one of matrix.PROTOCOLS; with benchmark.estimate only say what it would cost.

    1 where cells failed, else 0.
    """
    every = matrix.cells(*matrix.read(name, words))
    if config.benchmark.estimate:
        estimate(config, every)
        return 0
    check(every)
    home, told = PatchStore(config.store.uri), {cell.fingerprint: cell for cell in looked_into(every)}
    rows = [row for row in home.results().to_pylist() if row["fingerprint"] in told and not row["reason"]]
    todo = {mark: cell for mark, cell in told.items() if mark not in {row["fingerprint"] for row in rows}}
    if todo and config.where == "ray":
        needs.await_nodes("benchmark", config, [name, *words])
        cpus, gpus = flow.resources([])
        needs.refuse_small("benchmark", config, {"CPU": cpus, "GPU": gpus}, [name, *words])
    tracking.reach(config)
    progress = Remaining(config, todo, costs.learnt(config, rows), len(every))
    progress.begin()
    tell_units(home, told)
    for row in work(config, todo, progress.devices):
        home.enter(pa.Table.from_pylist([row], schema.RESULT))
        progress.took_in(row)
    summarise(config, every[0].matrix, told)
    return failures(home, told)


def tell_units(home: PatchStore, told: Mapping[str, Cell]) -> None:
    """Give results of before the table told the units of budgets those of their cells, so that new ones stand beside them."""
    late = [row for row in home.results().to_pylist() if row["fingerprint"] in told and row["unit"] is None]
    if late:
        home.enter(pa.Table.from_pylist([row | {"unit": told[row["fingerprint"]].unit} for row in late], schema.RESULT))


def check(every: Sequence[Cell]) -> None:
    """Before anything is begun: ValueError or OSError for a pool or a data set that is not there, or a pool with a test image in it.

    And, with its place in the matrix, for a set of which a mask cannot be used, or a part lacks a class: every mask is looked into.
    """
    for uri in {cell.config.store.uri for cell in every}:
        places.check_store("benchmark", next(cell.config for cell in every if cell.config.store.uri == uri))
    for one in {cell.config.evaluate: cell.config for cell in every}.values():
        places.check_targets("benchmark", one)
    splits = {cell.config.evaluate: split_of(cell) for cell in {cell.config.evaluate: cell for cell in every}.values()}
    for cell in {(cell.config.store.uri, cell.config.evaluate): cell for cell in every if cell.pool}.values():
        store = PatchStore(cell.config.store.uri)
        twins.refuse_same(store, set(store.ledger()["video_id"].to_pylist()), splits[cell.config.evaluate].test)


def split_of(cell: Cell) -> datasets.Split:
    """ValueError for a set, or a split of it, that cannot be used."""
    try:
        split = datasets.chosen(cell.config.evaluate, cell.seed)
        datasets.check(split)
        datasets.require_classes(split)
    except ValueError as error:
        raise ValueError(f"matrix.sets.{cell.dataset}, seed {cell.seed}: {error}") from error
    return split


def looked_into(every: Sequence[Cell]) -> list[Cell]:
    """The cells with what is in their pools and data sets, of which each is read once."""
    held, bytes_of = cache(contents), cache(datasets.fingerprint)
    return [
        replace(
            cell,
            contents=held(cell.config.store.uri) if cell.pool else "",
            data=bytes_of(cell.config.evaluate.uri, cell.config.evaluate.dataset),
        )
        for cell in every
    ]


def contents(uri: str) -> str:
    """What is in a pool: its videos, how many patches each gave, and whose scores these have; upkeep does not change it."""
    store = PatchStore(uri)
    rows = store.ledger().select(["video_id", "patches"]).to_pylist()
    told = sorted(f"{row['video_id']} {row['patches']}" for row in rows if row["patches"])
    return hashlib.sha256("\n".join([*told, choose.raters(store)]).encode()).hexdigest()[:12]


def work(config: Config, todo: dict[str, Cell], at_once: int) -> Iterator[Row]:
    """The rows of these cells as they are done."""
    tasks: dict[str, flow.Task] = {}
    for mark, cell in todo.items():
        tasks.setdefault(cell.model, flow.Task(cell.model, cells.train, (cell,)))
        tasks[mark] = flow.Task(mark, cells.measure, (cell, mark), after=cell.model)
    run_them = flow.tasks_here(depth_first(tasks)) if config.where == "here" else on_ray(depth_first(tasks), at_once)
    for name, answer in run_them:
        if name in todo:
            yield answer if isinstance(answer, dict) else cells.measure(answer, todo[name], name)


def depth_first(tasks: dict[str, flow.Task]) -> list[flow.Task]:
    """Every model followed by its measurements, so that rows come early."""
    models = [task for task in tasks.values() if not task.after]
    behind: dict[str, list[flow.Task]] = {model.name: [] for model in models}
    for task in tasks.values():
        if task.after:
            behind[task.after].append(task)
    return [task for model in models for task in (model, *behind[model.name])]


def on_ray(tasks: list[flow.Task], at_once: int) -> Iterator[tuple[str, Any]]:
    """The calls as tasks on Ray, answers as they come."""
    # One GPU each where there are any: a second training on it would slow the first. Without, one processor, as tasks share no threads.
    return flow.tasks_on_ray(tasks, at_once, cpus=1, gpus=float(flow.devices()[1]))


class Remaining:
    """Says how far a matrix is, and what is left of its time and cost."""

    def __init__(self, config: Config, todo: dict[str, Cell], learnt: Costs, total: int) -> None:
        self.config, self.todo, self.costs, self.total = config, dict(todo), learnt, total
        self.devices, self.device = costs.here(config) if todo else (1, (1.0, 0.0))

    @property
    def done(self) -> int:
        """Cells that have a result."""
        return self.total - len(self.todo)

    def begin(self) -> None:
        """Say what there is to do, and how long it takes."""
        log.info("%d cells, %d done before, %d models left", self.total, self.done, models(self.todo.values()))
        if self.todo:
            log.info("what is left takes %s with %d at a time", spoken(self.left()), self.devices)

    def left(self) -> Cost:
        """What is left, of the clock and in money."""
        return self.costs.left(list(self.todo.values()), self.devices, self.device)

    def took_in(self, row: Row) -> None:
        """Take in a finished cell's row, and say how far it is."""
        cell = self.todo.pop(row["fingerprint"])
        self.costs.learn(row)
        came = f"failed: {row['reason']}" if row["reason"] else f"mIoU {row['miou']:.3f}"
        rest = f"{spoken(self.left())} left" if self.todo else "that was the last"
        log.info("%d of %d · %s: %s · %s", self.done, self.total, cell, came, rest)


def models(some: Iterable[Cell]) -> int:
    """How many are trained for these cells."""
    return len({cell.model for cell in some if cell.pool})


def spoken(cost: Cost) -> str:
    """A cost in words."""
    minutes = 60 * cost.hours
    time = "under a minute" if minutes < 1 else f"about {minutes:.0f} min" if minutes < 120 else f"about {cost.hours:,.1f} h"
    gpus = f" and {amount(cost.gpu_hours)} GPU-hours" if cost.gpu_hours else ""
    return f"{time}, {amount(cost.cpu_hours)} CPU-hours{gpus}, {amount(cost.money)} in money"


def amount(value: float) -> str:
    """One digit behind the point, or one that counts where it is less than 1."""
    return f"{value:,.1f}" if value >= 1 else f"{value:.1g}"


def estimate(config: Config, every: Sequence[Cell]) -> None:
    """Say what all of a matrix would cost, where it was measured or is tried now; nothing is written."""
    devices, device = costs.planned(config, every)
    log.info("%s: %d cells of %d models", every[0].matrix, len(every), models(every))
    made = Costs(config)
    for architecture, cell in {cell.architecture: cell for cell in every if cell.pool}.items():
        log.info("%s: %.4g images/s on one device", architecture, made.speed(cell))
    cost = made.left(every, devices, device)
    kind = "GPUs" if device[1] else "processors" if config.where == "ray" else "device"
    log.info("on %d %s pre-training and measuring take %s", devices, kind, spoken(cost))
    taken, without = costs.intake(every, *(devices * one for one in device))
    if taken.hours:
        log.info("before that the intake of the pools takes %s", spoken(taken))
    lacking = f"the intake of {', '.join(without)} (run the job plan with its settings, its times count here), " if without else ""
    log.info("not in it: %schoosing and judging, which take processors and no GPU", lacking)
    if named := costs.only_named(config, device):
        log.warning("%s", named)


def summarise(config: Config, name: str, told: Collection[str]) -> None:
    """Keep in MLflow what the results of these cells, by fingerprint, came to, and say it."""
    found = matrices.of_cells(PatchStore(config.store.uri), name, told)
    with tracking.running(config, "benchmark", found.key, {"matrix": found.name}) as record:
        record.log(found.metrics() | verdicts.metrics(found), step=0)
    for line in [*found.said(), *verdicts.said(found)]:
        log.info("%s", line)


def failures(home: PatchStore, told: Mapping[str, Cell]) -> int:
    """1 where cells failed, with a line that says how many and why; they are tried again next time."""
    failed = [row for row in home.results().to_pylist() if row["fingerprint"] in told and row["reason"]]
    if failed:
        first = {row["reason"]: told[row["fingerprint"]] for row in reversed(failed)}
        counts = Counter(row["reason"] for row in failed)
        why = "; ".join(f"{reason.rstrip('.')} ({count}, the first is {first[reason]})" for reason, count in counts.items())
        log.error("%d of %d cells failed: %s", len(failed), len(told), why)
    return int(bool(failed))
