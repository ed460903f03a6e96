"""The Ray cluster that a job joins, or the one that it starts on this machine."""

import logging
import math
import os
from typing import Any

from engine import memory

MANY, ASKED = 1000, 10  # of a kind that are looked at; seconds that Ray has for an answer
SLOTS = 6  # logical processors of a local cluster at least, so that the pools of an ingest fit whatever the machine and the first job


SECRET = "{} holds a user or a password, which would be shown: name the address alone, and the token in RAY_AUTH_TOKEN"


class ClusterError(RuntimeError):
    """No Ray cluster answers, or it has not what a job needs at once: it may have lost nodes."""


def connect(cpus_needed: float, gpus_needed: float = 0.0) -> None:
    """Join the Ray cluster that RAY_ADDRESS names, or start a local one; ClusterError where the job cannot be scheduled on it.

    ValueError for an address of another kind. A local cluster counts at least as many logical processors as the job needs: they are slots
    that share the machine's cores.
    """
    # Read when ray is imported: epochs are shorter than the 2 s between two looks at the workers, and every line is printed twice.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    # Ray's core says at every pool, as an error, that its constructor's arguments lie in the object store; they do, and it can restart.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "Set ray log level|Reporting training result")  # said anew by all
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # of libraries among themselves, in every worker anew
    import ray

    if ray.is_initialized():
        check_room(ray.cluster_resources(), cpus_needed, gpus_needed)
        return
    logging.getLogger("ray").setLevel(logging.WARNING)
    if at := named():
        try:
            ray.init(logging_level="warning")
        except ConnectionError as error:
            raise ClusterError(f"no Ray cluster answers at RAY_ADDRESS={at}: {error}") from error
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else reaches a cluster that listens on this machine only
        slots = max(os.cpu_count() or 1, SLOTS, math.ceil(cpus_needed))
        # Ray Train's cleaner asks the dashboard whether its run still lives, and complains twice a second where there is none. "local":
        # unasked, Ray would join whatever cluster was last started on this machine.
        room = {"num_cpus": slots, "object_store_memory": object_store_bytes()}
        ray.init("local", include_dashboard=True, logging_level="warning", **room)
    check_room(ray.cluster_resources(), cpus_needed, gpus_needed)


def named() -> str:
    """The cluster to join, in RAY_ADDRESS, "" for none; ValueError where that holds a password, which is not said, or names none."""
    at = os.environ.get("RAY_ADDRESS", "")
    if "@" in at:
        raise ValueError(SECRET.format("RAY_ADDRESS"))
    if at.startswith(("http://", "https://")):
        raise ValueError(
            f"RAY_ADDRESS={at} is a job server, which `submit` talks to; a job joins a cluster, as in RAY_ADDRESS=127.0.0.1:6379"
        )
    return at


def await_room(bundles: list[dict[str, float]], seconds: float) -> None:
    """Back once the cluster that is joined has all of these free at once; ClusterError where others hold it for so many seconds.

    It is asked for as a placement group, since an autoscaler sees that too, and given back at once.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    asked = placement_group(bundles)
    try:
        if not asked.wait(seconds):
            needed = " and ".join(f"{sum(one.get(kind, 0.0) for one in bundles):g} {kind}s" for kind in ("CPU", "GPU"))
            raise ClusterError(f"the job needs {needed} at once, of which others hold too much: {seconds:g} s were not enough to get them")
    finally:
        remove_placement_group(asked)


def starved() -> list[str]:
    """The pools and tasks of this job that wait for a node while nothing of their kind runs; none where Ray cannot be asked.

    One that is built counts as running, so a model that hangs while it loads is not among them; an actor that begins again is, since it
    does so where its node is gone.
    """
    import ray
    from ray.util import state
    from ray.util.state.exception import RayStateApiException

    if not ray.is_initialized():
        return []
    job: Any = ("job_id", "=", ray.get_runtime_context().get_job_id())
    asked: Any = {"limit": MANY, "timeout": ASKED, "raise_on_missing_output": False}

    def tasks(kind: str) -> set[str]:
        found = state.list_tasks(filters=[job, ("state", "=", kind), ("type", "!=", "ACTOR_TASK")], **asked)
        return {str(one.name).removesuffix(".__init__") for one in found}

    def actors(kind: str) -> set[str]:
        return {str(one.class_name) for one in state.list_actors(filters=[job, ("state", "=", kind)], **asked)}

    try:
        waiting = tasks("PENDING_NODE_ASSIGNMENT") | actors("RESTARTING")
        running = tasks("RUNNING") | actors("ALIVE") if waiting else set()
    except (RayStateApiException, OSError):
        return []
    return sorted(waiting - running)


def object_store_bytes() -> int:
    """A tenth of the memory, at most 2 GB: blocks of frames are small and stream."""
    return min(memory.there_is() // 10, 2 * 10**9)


def check_room(found: dict[str, float], cpus: float, gpus: float) -> None:
    """ClusterError, a RuntimeError, where the cluster has fewer processors or GPUs than are needed at once."""
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if found.get(kind, 0.0) < needed:
            raise ClusterError(
                f"the job needs {needed:g} {kind}s at once and the Ray cluster has {found.get(kind, 0.0):g}: "
                "add nodes or lower the actors in the job"
            )


def shut_down() -> None:
    """Leave the Ray cluster, or end it where this process started it."""
    import ray

    ray.shutdown()
