"""Nodes that a cluster which is joined has not yet, and that its autoscaler may start."""

import logging
from itertools import zip_longest
from math import inf
from time import monotonic
from typing import Any

from engine.flow.cluster import connect, named

log = logging.getLogger("jobs.flow")
LOOK = 1  # seconds between two looks at what was asked for
SURE = 10.0  # seconds for which an autoscaler says that it has no such nodes: a node that just goes may stand in the way of another


def awaited(cpus: float, gpus: float, seconds: float = inf) -> bool:
    """Whether a cluster that RAY_ADDRESS names has so many processors and GPUs; what it lacks its autoscaler is asked and waited for.

    False where that has no such nodes, or did not bring them in so many seconds; where there is none, at once; and where no cluster is
    named, as a machine of one's own is no cluster. It is asked by a placement group, which ends with this process, however that ends. Only
    Ray's autoscaler v2, which cluster/ has, tells what it cannot bring: another one counts as none.
    """
    if not named():
        return False
    connect(0.0)
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    found = ray.cluster_resources()
    if found.get("CPU", 0.0) >= cpus and found.get("GPU", 0.0) >= gpus:
        return True
    if not has_autoscaler():
        return False
    asked = placement_group(parts(cpus, gpus))
    try:
        return granted(asked, seconds, f"{cpus:g} CPUs and {gpus:g} GPUs")
    finally:
        remove_placement_group(asked)


def parts(cpus: float, gpus: float) -> list[dict[str, float]]:
    """Processors and GPUs in parts that nodes hold: a GPU with a processor beside it, and what is left over."""
    split = [[1.0] * int(many) + [many % 1] * (many % 1 > 0) for many in (cpus, gpus)]
    return [{kind: part for kind, part in zip(("CPU", "GPU"), pair, strict=True) if part} for pair in zip_longest(*split, fillvalue=0.0)]


def granted(asked: Any, seconds: float, needed: str) -> bool:
    """Whether a placement group comes to stand in so many seconds; False as soon as it is sure that it will not."""
    began = possible = monotonic()
    told = False
    while not asked.wait(LOOK):
        now = monotonic()
        possible = possible if is_refused(asked) else now
        if now - possible > SURE or now - began > seconds:
            return False
        if not told and possible == now and now - began > SURE:
            log.info("waiting for nodes of the Ray cluster's autoscaler: %s are needed at once", needed)
            told = True
    return True


def has_autoscaler() -> bool:
    """Whether the cluster that is joined has an autoscaler that tells what it cannot bring."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return bool(is_autoscaler_v2(fetch_from_server=True))


def is_refused(asked: Any) -> bool:
    """Whether the autoscaler says that none of its kinds of nodes are room for a placement group."""
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    told = GetClusterStatusReply.FromString(internal_kv_get_gcs_client().get_cluster_status())
    name = asked.id.hex()
    return any(one.details.startswith(name) for one in told.autoscaling_state.infeasible_gang_resource_requests)
