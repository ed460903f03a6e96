"""The runs of MLflow as they are told of here: plain data, by job."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.explain.decisions import Tree

Run = Mapping[str, Any]  # {"run", "status", "tags", "params"}
Runs = Mapping[str, Sequence[Run]]  # by job

# Jobs whose runs are tagged with the selection that something was made from; "checkpoint" and "cell" are what transfer and benchmark
# call the measurement of one model.
MAKING = ("pretrain", "evaluate", "transfer", "checkpoint", "cell")
ABOUT_A_SELECTION = ("choose", *MAKING)
JOBS = ("ingest", "watch", "probe", "score", "rescore", "drift", *ABOUT_A_SELECTION)  # whose runs tell of thresholds, of scores and of use

NO_RUN = "gone: MLflow has no such run"


def said(job: str, run: Run) -> Tree:
    """A run in short."""
    return {"job": job, "run": run["run"], "status": run["status"], "commit": run["tags"].get("commit")}
