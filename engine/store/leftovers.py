"""Files beside the tables that nobody needs any more: torn writes, samples of trained scorers, checkpoints of finished models."""

from datetime import UTC, datetime
from typing import Any

from engine.files import TORN, UNFINISHED
from engine.store.journal import deed
from engine.store.orphans import hours_ago
from engine.store.tables import Tables, filesystem
from engine.store.trainings import listed, model_of


def remove(tables: Tables, keep_hours: float) -> list[dict[str, Any]]:
    """Remove what has lain unused for `keep_hours`; returns rows of journal.DEEDS."""
    torn = [path for path in listed(tables, "", "models", "scorers", "runs/*", "runs/*/*") if TORN.search(path)]
    samples = [path for path in listed(tables, "scorers") if path.endswith(".arrow") and is_trained(tables, path)]
    finished = [path for path in listed(tables, "runs") if (model := model_of(path)) and is_old(tables, model, keep_hours)]
    begun = [path for path in listed(tables, "") if path.startswith(UNFINISHED)]
    kinds = {
        "torn file removed": torn,
        "unfinished file of MLflow removed": begun,
        "sample of a trained scorer removed": samples,
        "checkpoints of a finished model removed": finished,
    }
    done = []
    for what, paths in kinds.items():
        for path in paths:
            if is_old(tables, path, keep_hours):
                filesystem(tables.uri).rm(tables.address(path), recursive=True)
                done.append(deed(what, path, 1))
    return done


def is_trained(tables: Tables, sample: str) -> bool:
    """Whether the scorer of a sample was finished, so that the sample is needed no more."""
    return tables.holds(f"{sample.removesuffix('.arrow')}.safetensors")


def is_old(tables: Tables, path: str, hours: float) -> bool:
    """True for what is there and was last written so long ago; a folder of an object store has no time of its own and follows its model."""
    if not tables.holds(path):
        return False
    info = filesystem(tables.uri).info(tables.address(path))
    changed = info.get("mtime") or info.get("LastModified") or info.get("updated")
    if changed is None:
        return True
    written = changed if isinstance(changed, datetime) else datetime.fromtimestamp(float(changed), UTC)
    return bool(written < hours_ago(hours))
