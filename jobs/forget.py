"""Forget a video: every row and byte of it and of the images made from it, and what was trained on those."""

import logging
from typing import Any

import pyarrow as pa

from engine import tracking
from engine.config import Config
from engine.explain.runs import ABOUT_A_SELECTION
from engine.store import PatchStore
from engine.store.journal import deed, rows_of
from jobs import output, training

log = logging.getLogger("jobs.forget")
TO_DO = "still to do"


def run(config: Config, video: str) -> None:
    """Erase the video whose id begins so, and show what went, what is still to do, and what was made from it."""
    rows = PatchStore(config.store.uri).forget(video, tracking.code_commit())
    selections = {row["name"] for row in rows.to_pylist() if row["what"] == "made from it: selections"}
    found = pa.concat_tables([rows, rows_of([*pictures(config, selections), *affected(config, selections), *waiting(config)])])
    output.give(found, config.output)
    for row in found.to_pylist():
        if row["what"] == TO_DO:
            log.warning("the video %s is not gone for good yet: %s", row["name"] or video, row["note"])


def waiting(config: Config) -> list[dict[str, Any]]:
    """What waits in the store for other MLflow servers: which runs there showed images made from the video only they know."""
    note = "waits for another MLflow server, maybe with pictures made from it: run this again with that server's tracking.uri"
    return [deed(TO_DO, note=f"{folder} {note}") for folder in tracking.elsewhere(config)]


def pictures(config: Config, selections: set[str]) -> list[dict[str, Any]]:
    """Remove what the runs that trained on one of the selections, and those that trained a scorer, show of their training images."""
    shown = [one for one in tracking.begun(config, "pretrain") if one["tags"].get("selection") in selections]
    erased = [(one["run"].run_id, one["run"].erase(training.PICTURES)) for one in [*shown, *tracking.begun(config, "probe")]]
    return [deed("erased: pictures in an MLflow run", name, count) for name, count in erased if count]


def affected(config: Config, selections: set[str]) -> list[dict[str, Any]]:
    """The finished MLflow runs that used one of the selections, and those that trained a scorer."""
    told = ((job, one) for job in ABOUT_A_SELECTION for one in tracking.runs(config, job))
    found = [("made from it", job, one) for job, one in told if one["tags"].get("selection") in selections]
    found += [("made from it, maybe", "probe", one) for one in tracking.runs(config, "probe")]
    return [deed(f"{how}: MLflow run", one["run"].run_id, 1, note=job) for how, job, one in found]
