"""What selections are worth before anything is trained on them: measured on the store, kept in MLflow, told again for the report."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine import judge, tracking
from engine.config import Config
from engine.judge import Case, Judgement
from engine.pool import ROWS, Block, Pool, Rows
from engine.report import Judged, share
from engine.selection import Selection
from engine.store import PatchStore

PREFIX = "judge/"
COLUMNS = ["video_id", "time_ms", "difficulty", "variance", "black", "glare", "foreign"]  # of those what the table has


class Embeddings:
    """The embeddings of a version of the patch table, read as they are asked for."""

    def __init__(self, store: PatchStore, version: int) -> None:
        self.store, self.version = store, version
        self.width = store.open("patches", version).schema.field("embedding").type.list_size

    def __len__(self) -> int:
        return int(self.store.open("patches", self.version).count_rows())

    def blocks(self) -> Iterator[Block]:
        for batch in self.store.open("patches", self.version).to_batches(columns=["embedding"], batch_size=ROWS):
            yield self.array(batch["embedding"])

    def take(self, rows: Rows) -> Block:
        return self.array(self.store.take(rows, ["embedding"], self.version)["embedding"].combine_chunks())

    def array(self, column: Any) -> Block:
        return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, self.width)


def judged(config: Config, store: PatchStore, chosen: Selection, version: int) -> Judgement:
    """A selection from a version of the patch table."""
    there = store.open("patches", version).schema.names
    columns = store.patches([name for name in COLUMNS if name in there], version=version)
    rebuilds = config.difficulty.scorer == "mae" and not config.difficulty.mae.norm_pix
    pool = Pool(columns, Embeddings(store, version))
    return judge.judge(Case(pool, store.offsets(chosen.patch_ids, version), rebuilds=rebuilds))


def keep(found: Judgement, record: tracking.Run) -> None:
    """The values as metrics of a run, the reasons for those that there are not as tags."""
    record.log({PREFIX + name: value for name, value in found.values.items()}, step=0)
    record.note({PREFIX + name: reason for name, reason in found.reasons.items()})


def kept(config: Config) -> list[Judged]:
    """The judgement of the newest selection of every method and budget, by budget."""
    newest = {(one["params"]["selection.budget"], one["params"]["selection.method"]): one for one in tracking.runs(config, "choose")}
    return [told(one) for _, one in sorted(newest.items(), key=lambda pair: (float(pair[0][0]), pair[0][1]))]


def told(one: dict[str, Any]) -> Judged:
    values, reasons = (
        {name.removeprefix(PREFIX): found for name, found in one[kind].items() if name.startswith(PREFIX)} for kind in ("metrics", "tags")
    )
    method, budget = (one["params"][f"selection.{name}"] for name in ("method", "budget"))
    return Judged(method, share(float(budget)), one["tags"]["selection"], values, reasons)
