"""What a selection is worth before anything is trained on it: measured on the store and its images, and kept in MLflow."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from engine import judge, schema, tracking
from engine.config import Config, DifficultyConfig
from engine.difficulty import ScoreContrast, ScoreDifficulty
from engine.judge import Case, Judgement, UnknownError
from engine.pool import ROWS, Block, Held, Pool, Rows
from engine.selection import Selection
from engine.store import PatchStore
from jobs import places, probe
from jobs.results import PREFIX

IMAGES = 512  # training images whose features are compared, spread evenly over the ranks: minutes for ViT-B without a GPU
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
    pool, rows = Pool(columns, Embeddings(store, version)), store.offsets(chosen.patch_ids, version)
    try:
        return judge.judge(Case(pool, rows, synthetic=features(config, store, chosen.selection_id, version), rebuilds=rebuilds))
    except UnknownError as error:
        return judge.judge(Case(pool, rows, featureless=str(error), rebuilds=rebuilds))


def features(config: Config, store: PatchStore, selection_id: str, version: int) -> Held:
    """Embeddings of IMAGES of a selection's training images by the scorer of its patches; UnknownError where that is not at hand."""
    scorers = store.patches(["scorer"], version=version)["scorer"].unique().to_pylist()
    embed = scorer(config, store, scorers)
    reader = store.reader(selection_id)
    positions = np.unique(np.linspace(0, len(reader) - 1, IMAGES).round().astype(int)).tolist()
    rows = [{"patch_id": f"{selection_id}:{position}", "pixels": jpeg} for position, jpeg in zip(positions, reader(positions), strict=True)]
    made = pa.concat_tables(embed(pa.Table.from_pylist(rows, schema.PATCH)))
    return Held(np.array(made["embedding"].to_pylist(), np.float32))


def scorer(config: Config, store: PatchStore, scorers: list[str]) -> Any:
    """The stage that embedded the patches; UnknownError where there were several, or it cannot be had."""
    path = config.difficulty.checkpoint or (store.address(probe.scorer(config)) if store.holds(probe.scorer(config)) else "")
    if not path or places.is_missing(path):
        raise UnknownError("the scorer that embedded the patches is not at hand")
    section: DifficultyConfig = config.difficulty.model_copy(update={"checkpoint": path})
    stage: Any = ScoreContrast if section.scorer == "simclr" else ScoreDifficulty
    try:
        found = stage(section).scorer
    except ValueError as error:
        raise UnknownError(str(error)) from error
    if scorers != [found]:
        raise UnknownError(f"the patches were embedded by {', '.join(scorers)}, and the scorer at hand is {found}")
    return stage(section.model_copy(update={"draws": 1}))  # an embedding takes none


def keep(found: Judgement, record: tracking.Run) -> None:
    """The values as metrics of a run, the reasons for those that there are not as tags."""
    record.log({PREFIX + name: value for name, value in found.values.items()}, step=0)
    record.note({PREFIX + name: reason for name, reason in found.reasons.items()})
