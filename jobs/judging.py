"""What a selection is worth before anything is trained on it: measured on the store and its images, and kept in MLflow."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import judge, schema, tracking
from engine.config import Config, SelectionConfig
from engine.difficulty import ScoreContrast, ScoreDifficulty
from engine.judge import Case, Judgement, UnknownError
from engine.pool import Held, Pool
from engine.selection import Selection
from engine.selection.clustering import clustered
from engine.store import PatchStore
from jobs import places, probe
from jobs.results import PREFIX

log = logging.getLogger("jobs.judging")
IMAGES = 512  # training images whose features are compared, spread evenly over the ranks: minutes for ViT-B without a GPU
CLUSTERS, ITERATIONS = 1000, 10  # at most, for what is covered: a minute for ten million patches, and no finer than a report is read
KINDS = "kinds"  # what their clustering is called in the store
COLUMNS = ["patch_id", "video_id", "time_ms", "difficulty", "variance", "black", "glare", "foreign"]  # of those what the table has


def judged(config: Config, store: PatchStore, chosen: Selection, version: int) -> Judgement:
    """A selection from a version of the patch table."""
    there = store.open("patches", version).schema.names
    columns = store.patches([name for name in COLUMNS if name in there], version=version)
    rebuilds = config.difficulty.scorer == "mae" and not config.difficulty.mae.norm_pix
    pool, rows = Pool(columns, store.vectors(version)), store.offsets(chosen.patch_ids, version)
    try:
        case = Case(pool, rows, kinds(store, pool, version), rebuilds=rebuilds)
    except ValueError as error:
        log.warning("judged without embeddings: %s", error)
        return judge.judge(Case(Pool(columns), rows, rebuilds=rebuilds))
    try:
        return judge.judge(replace(case, synthetic=features(config, store, chosen.selection_id, version)))
    except UnknownError as error:
        return judge.judge(replace(case, featureless=str(error)))


def kinds(store: PatchStore, pool: Pool, version: int) -> NDArray[np.int32]:
    """The cluster of every patch, whatever they were chosen by: kept in the store, so that the next time only new patches are looked at."""
    ids = pool.columns["patch_id"]
    count = min(CLUSTERS, max(1, round(len(pool) ** 0.5)))
    keys = pool.keys()
    known = replace(pool, clustering=store.clustering(KINDS, ids, keys), hashes=keys)
    found = clustered(known, SelectionConfig(clusters=count, iterations=ITERATIONS))
    store.keep(KINDS, known, found, version)
    return found.labels


def features(config: Config, store: PatchStore, selection_id: str, version: int) -> Held:
    """Embeddings of IMAGES of a selection's training images by the scorer of its patches; UnknownError where that is not at hand."""
    scorers = store.patches(["scorer"], version=version)["scorer"].unique().to_pylist()
    embed = scorer(config, scorers)
    reader = store.reader(selection_id)
    positions = np.unique(np.linspace(0, len(reader) - 1, IMAGES).round().astype(int)).tolist()
    rows = [{"patch_id": f"{selection_id}:{position}", "pixels": jpeg} for position, jpeg in zip(positions, reader(positions), strict=True)]
    made = pa.concat_tables(embed(pa.Table.from_pylist(rows, schema.PATCH)))
    return Held(np.array(made["embedding"].to_pylist(), np.float32))


def scorer(config: Config, scorers: list[str]) -> Any:
    """The stage that embedded the patches; UnknownError where there were several, or it cannot be had."""
    section = probe.at_hand(config)
    if not section or places.is_missing(section.checkpoint):
        raise UnknownError("the scorer that embedded the patches is not at hand")
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
