"""Runs a list of steps over Arrow tables, in this process or on Ray, with identical rows; a training loop on Ray Train; and calls that
wait for each other.

The steps say what is done; how many processors each takes is said by the job. The order of rows is not promised: rows carry ids.

    steps       what a flow is made of
    here        a flow in this process
    cluster     the cluster that is joined, or started, and a flow on it
    nodes       what that has not yet and its autoscaler may start
    meters      what Ray is told of counts
    train       a training loop on Ray Train
    tasks       calls that wait for each other
    submission  jobs that a cluster's job server runs
    client      what asks that server, and gives it up
    tls         whether that server speaks TLS
    question    what is asked amid an event loop
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from engine.flow.cluster import SLOTS, ClusterError, await_room, connect, named, shut_down, starved
from engine.flow.here import Execute, Workbench, in_batches, run_here
from engine.flow.meters import RayMeters, metered
from engine.flow.nodes import awaited
from engine.flow.steps import Step
from engine.flow.tasks import Task, devices, tasks_here, tasks_on_ray
from engine.flow.train import Report, Validate, Work, Workers, scored, train_on_ray, unscored

__all__ = [
    "SLOTS", "SPARE_CPUS", "ClusterError", "Execute", "RayMeters", "Report", "Step", "Task", "Validate", "Work", "Workbench", "Workers",
    "await_pools", "awaited", "connect", "cpus_of", "devices", "in_batches", "named", "run_here", "run_on_ray", "runner", "scored",
    "shut_down", "starved", "tasks_here", "tasks_on_ray", "train_on_ray", "unscored",
]  # fmt: skip

SPARE_CPUS = 1.0  # beside the pools: those that hold every processor wait for ever, without a word


def cpus_of(steps: Sequence[Step]) -> float:
    """What the smallest pools take, and what stays free beside them."""
    return sum(step.actors[0] * step.cpus for step in steps) + SPARE_CPUS


def gpus_of(steps: Sequence[Step]) -> float:
    """What one actor of each step takes of the GPUs: with less, on a cluster that has any, a pool would wait for ever."""
    return sum(step.gpus for step in steps)


def fitting(steps: Sequence[Step], gpus: float) -> list[Step]:
    """The same steps, with a single actor as the least of pools that take a GPU where the least of all are more than the GPUs hold.

    ClusterError where even these are. No GPU at all is no matter: then none is taken.
    """
    if gpus and gpus_of(steps) > gpus:
        raise ClusterError(f"the smallest pools take {gpus_of(steps):g} GPUs at once and the cluster has {gpus:g}: add nodes")
    if not gpus or sum(step.gpus * step.actors[0] for step in steps) <= gpus:
        return list(steps)
    return [replace(step, actors=(1, step.actors[1])) if step.gpus else step for step in steps]


def await_pools(steps: Sequence[Step], seconds: float) -> None:
    """Back once the cluster has room for the smallest pools; ClusterError where it has none, or others hold it for so many seconds."""
    connect(cpus_of(steps))
    import ray

    gpus = ray.cluster_resources().get("GPU", 0.0)
    actors = [step for step in fitting(steps, gpus) for _ in range(step.actors[0])]
    await_room([{"CPU": SPARE_CPUS}, *({"CPU": one.cpus} | ({"GPU": one.gpus} if gpus and one.gpus else {}) for one in actors)], seconds)


def run_on_ray(steps: Sequence[Step], table: pa.Table) -> Iterator[pa.Table]:
    """The same rows as run_here, in any order, made by one pool of actors per step; ClusterError where the pools do not fit."""
    connect(cpus_of(steps))
    import ray  # not before: connect says what ray reads when it is imported

    cpus, gpus = (ray.cluster_resources().get(kind, 0.0) for kind in ("CPU", "GPU"))
    has_gpu = gpus > 0
    steps = fitting(steps, gpus)
    sizes = widest(steps, cpus, gpus)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()  # in a log file they would be thousands of lines
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # else the plan of every batch of videos; the job says how far it is
    rows = ray.data.from_arrow([table.slice(row, 1) for row in range(len(table))])
    for step, most in zip(steps, sizes, strict=True):
        taken = {"num_cpus": step.cpus, "num_gpus": step.gpus if has_gpu else 0}
        rows = rows.map_batches(batch_size=step.batch, batch_format="pyarrow", **how(step, most, len(table)), **taken)
    return streamed(rows)


def runner(where: str) -> Execute:
    """What runs steps by the knob `where`: run_here, or run_on_ray."""
    return run_on_ray if where == "ray" else run_here


def how(step: Step, most: int, sources: int) -> dict[str, Any]:
    """What Ray runs for a step: a pool of actors, or tasks in whatever processes are idle, which Ray wants no more of than `sources`."""
    import ray

    if not step.loads:
        return {
            "fn": partial(built_and_called, step.stage, step.arguments),
            "compute": ray.data.TaskPoolStrategy(size=max(min(most, sources), 1)),
        }
    least, first = step.actors[0], min(step.first or step.actors[0], most)
    pool = ray.data.ActorPoolStrategy(min_size=least, max_size=most, initial_size=first)
    return {"fn": metered(step.stage), "fn_constructor_args": step.arguments, "compute": pool}


def built_and_called(stage: type, arguments: tuple[Any, ...], table: pa.Table) -> Iterator[pa.Table]:
    """A stage built and called once, on a table without a row: for its schema, or for what it refuses."""
    yield from stage(*arguments)(table)  # which loads nothing and makes no frames: nothing of it is counted


def streamed(rows: Any) -> Iterator[pa.Table]:
    """The blocks as they come; a stage's own exception instead of Ray's letter about it."""
    from ray.exceptions import RayTaskError

    try:
        yield from (made for made in rows.iter_batches(batch_size=None, batch_format="pyarrow") if len(made))
    except RayTaskError as error:
        raise error.cause from error


def widest(steps: Sequence[Step], cpus: float, gpus: float = 0.0) -> list[int]:
    """The most actors of each pool such that all pools at their most fit the GPUs and leave one processor.

    Spare ones go where most are wanted: to pools that take a GPU first, while there are GPUs, which cost more than processors do.
    """
    shares = [step.gpus if gpus else 0.0 for step in steps]
    sizes = [step.actors[0] for step in steps]
    spare, spare_gpus = cpus - cpus_of(steps), gpus - sum(size * share for size, share in zip(sizes, shares, strict=True))
    while growing := [
        i for i, step in enumerate(steps) if sizes[i] < step.actors[1] and step.cpus <= spare and (not shares[i] or shares[i] <= spare_gpus)
    ]:
        emptiest = min(growing, key=lambda i: (not shares[i], sizes[i] / steps[i].actors[1]))
        sizes[emptiest] += 1
        spare, spare_gpus = spare - steps[emptiest].cpus, spare_gpus - shares[emptiest]
    return sizes


def pooled(steps: Sequence[Step], sizes: Sequence[int]) -> list[Step]:
    """The same steps with pools that start at these sizes and grow no further.

    The least stays what it was, or less: a pool that has lost a node and may not shrink waits for a processor that is gone.
    """
    return [replace(step, actors=(min(step.actors[0], size), size), first=size) for step, size in zip(steps, sizes, strict=True)]


def resources(steps: Sequence[Step]) -> tuple[float, float]:
    """Processors and GPUs of the cluster that the steps will run on."""
    connect(cpus_of(steps))
    import ray

    found = ray.cluster_resources()
    return found.get("CPU", 0.0), found.get("GPU", 0.0)
