"""python -m tests.crashes.ingest FOLDER STORE CHECKPOINT WHERE: the job ingest on simulated video, struck down as ENDOCURATE_STRIKE says.

WHERE is `here`, `ray` (one machine) or `cluster` (a head without processors and two nodes that can each do the work alone).
"""

import os
import sys

from engine import mae
from engine.knobs import amend
from jobs import ingest
from jobs.recipes import tiny
from tests.crashes import strikes

KNOBS = ["patches.proposer=crops", "patches.per_frame=4", "difficulty.draws=1", "videos.batch=2", "frames.every_s=0.5"]
QUICK = {"initial_delay_ms": "1000", "period_ms": "500", "timeout_ms": "1000", "failure_threshold": "3"}


def config_of(folder: str, store: str, checkpoint: str, where: str):
    place = "here" if where == "here" else "ray"
    return amend(tiny(), [*KNOBS, f"videos.uri={folder}", f"store.uri={store}", f"difficulty.checkpoint={checkpoint}", f"where={place}"])


def make_scorer(path: str) -> None:
    """Random weights, the same every time."""
    import torch

    torch.manual_seed(0)
    mae.save(mae.MAE(tiny().difficulty.mae), path)


def cluster():
    """A head that only directs and two nodes; a lost one is noticed after about two seconds."""
    os.environ.update({f"RAY_health_check_{name}": value for name, value in QUICK.items()})
    import ray
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 150 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    for _ in range(2):
        made.add_node(num_cpus=8, **memory)
    ray.init(address=made.address, logging_level="warning", log_to_driver=False)
    return made


def main(folder: str, store: str, checkpoint: str, where: str) -> None:
    if where == "cluster":
        cluster()
    ingest.WriteRows = strikes.StruckWriteRows
    strikes.arm_committer()
    ingest.run(config_of(folder, store, checkpoint, where))


if __name__ == "__main__":
    main(*sys.argv[1:])
