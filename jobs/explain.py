"""Why something is in the store or is not, back to the video, and what used it: see engine.explain for what has an id."""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from engine import tracking
from engine.config import Config
from engine.explain import explain
from engine.explain.runs import JOBS
from engine.store import PatchStore
from jobs import output

log = logging.getLogger("jobs.explain")


def run(config: Config, asked: str) -> None:
    """Give the tree of an id, or of its unique beginning: indented, or as JSON."""
    tree = explain(PatchStore(config.store.uri), asked, Runs(config))
    text = json.dumps(output.plain(tree), indent=2, ensure_ascii=False) if config.output.format == "json" else output.as_tree(tree)
    if config.output.path:
        output.put(f"{text}\n".encode(), 1, config.output)
    else:
        print(text)


class Runs(Mapping[str, list[dict[str, Any]]]):
    """The MLflow runs by job as plain data, each job's when it is first asked for; none where they are out of reach, which is said."""

    def __init__(self, config: Config) -> None:
        self.config, self.held = config, dict[str, list[dict[str, Any]]]()

    def __getitem__(self, job: str) -> list[dict[str, Any]]:
        if job not in JOBS:
            raise KeyError(job)
        if job not in self.held:
            try:
                self.held[job] = [one | {"run": one["run"].run_id} for one in tracking.begun(self.config, job)]
            except OSError as error:
                log.warning("%s: no thresholds and no runs are told", error)
                self.held = {name: [] for name in JOBS}
        return self.held[job]

    def __iter__(self) -> Iterator[str]:
        return iter(JOBS)

    def __len__(self) -> int:
        return len(JOBS)
