"""Calls that may wait for each other's answers, one after another here or many at a time on Ray, each answer told as it comes."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.flow.cluster import connect

RETRIES = 3  # of a task whose process died, as on spot nodes


@dataclass(frozen=True)
class Task:
    """`work(*arguments)`, or `work(answer, *arguments)` with what the task of the name `after` came to."""

    name: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    after: str = ""


def tasks_here(tasks: Sequence[Task]) -> Iterator[tuple[str, Any]]:
    """The name and the answer of every task, in their order, in which each stands behind the one that it waits for."""
    answers: dict[str, Any] = {}
    for task in tasks:
        answers[task.name] = task.work(*given(task, answers))
        yield task.name, answers[task.name]


def tasks_on_ray(tasks: Sequence[Task], at_once: int, cpus: float = 1.0, gpus: float = 0.0) -> Iterator[tuple[str, Any]]:
    """The same, in the order in which they are done; `at_once` run at a time, of those that can the first.

    A task whose process dies is begun anew, RETRIES times; then its answer is a RuntimeError that says so, which those that wait for it
    are given. What a task itself raises ends all.
    """
    connect(cpus + 1, gpus)
    import ray

    waiting, answers, running = list(tasks), dict[str, Any](), dict[Any, Task]()
    while waiting or running:
        while len(running) < at_once and (ready := next((one for one in waiting if not one.after or one.after in answers), None)):
            waiting.remove(ready)
            call = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(ready.work)
            running[call.remote(*given(ready, answers))] = ready
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        task = running.pop(done)
        answers[task.name] = answer(done)
        yield task.name, answers[task.name]


def given(task: Task, answers: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of a call: first the answer that it waited for, where there is one."""
    return ((answers[task.after],) if task.after else ()) + task.arguments


def answer(reference: Any) -> Any:
    """What a task came to; a RuntimeError, not raised, where its process was lost for good."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        return RuntimeError(f"its process died {RETRIES + 1} times: {' '.join(str(error).split())[:200]}")


def devices() -> tuple[int, bool]:
    """How many tasks of one GPU the cluster has room for, or of one processor where it has none; and whether these are GPUs.

    A local cluster counts more processors than the machine has (`connect`): there it is the machine's.
    """
    connect(2.0)
    import ray

    found = ray.cluster_resources()
    if found.get("GPU", 0):
        return int(found["GPU"]), True
    return int(found["CPU"]) - 1 if os.environ.get("RAY_ADDRESS") else os.cpu_count() or 1, False
