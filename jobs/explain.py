"""Why a patch, frame, training image, selection or video is in the store or is not, and what used it."""

import json
import logging
from typing import Any

from engine import tracking
from engine.config import Config
from engine.explain import explain
from engine.store import PatchStore
from jobs import output

log = logging.getLogger("jobs.explain")
JOBS = ("ingest", "watch", "choose", "pretrain", "evaluate")  # whose runs tell of thresholds and of use


def run(config: Config, asked: str) -> None:
    """Give the tree of an id, or of its unique beginning: indented, or as JSON."""
    tree = explain(PatchStore(config.store.uri), asked, runs(config))
    text = json.dumps(output.plain(tree), indent=2, ensure_ascii=False) if config.output.format == "json" else output.as_tree(tree)
    if config.output.path:
        output.put(f"{text}\n".encode(), 1, config.output)
    else:
        print(text)


def runs(config: Config) -> dict[str, list[dict[str, Any]]]:
    """The MLflow runs of every job as plain data; none where they are out of reach, which is said."""
    try:
        return {job: [one | {"run": one["run"].run_id} for one in tracking.begun(config, job)] for job in JOBS}
    except OSError as error:
        log.warning("%s: no thresholds and no runs are told", error)
        return {}
