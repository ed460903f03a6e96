"""The runs of MLflow as they are told of here: plain data, by job."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.explain.decisions import Tree

Run = Mapping[str, Any]  # {"run", "status", "tags", "params"}
Runs = Mapping[str, Sequence[Run]]  # by job

NO_RUN = "gone: MLflow has no such run"


def said(job: str, run: Run) -> Tree:
    """A run in short."""
    return {"job": job, "run": run["run"], "status": run["status"], "commit": run["tags"].get("commit")}
