"""Score the stored patches by another model than the one that they came in with: what learnability and other embeddings are made of."""

import logging
from collections.abc import Iterable, Iterator
from time import monotonic

import pyarrow as pa

from engine import difficulty, features, flow, schema, tracking
from engine.config import Config, DifficultyConfig
from engine.difficulty import ScoreAgain
from engine.features import EmbedPatches
from engine.flow import Step
from engine.rows import Rows
from engine.store import PatchStore, ReadPixels, trainings
from jobs import needs, probe

log = logging.getLogger("jobs.score")
TOGETHER = 256  # patches that are read together: about 5 MB of pixels
PATIENCE = 10.0  # seconds without a word


def run(config: Config) -> None:
    """Score every patch of the complete version that score.by has not scored yet; what was scored stays if it is interrupted."""
    store = PatchStore(config.store.uri)
    name, stage = scorer(config, store)
    version = store.complete_version()
    left = store.missing(name, version)
    log.info("%s: %d of %d patches are to be scored", name, len(left), store.open("patches", version).count_rows())
    if not len(left):
        return
    needs.await_nodes("score", config)
    tags = {"scorer": name, "patches_version": version}
    with store.writing("score"), store.reading("patches", version), tracking.running(config, "score", name, tags) as record:
        made = flow.runner(config.where)(steps(store, version, stage), pieces(left))
        added = store.add_scores(name, followed(made, len(left)), about(config))
        record.log({"score/patches": added}, step=0)
    log.info("%s: %d patches scored", name, added)


def steps(store: PatchStore, version: int, stage: Step) -> list[Step]:
    """Pixels of what has no score yet, and the stage that scores them."""
    # It only reads, and ahead of what scores: a store far away answers slowly, so several ask.
    return [Step(ReadPixels, (store.uri, version), batch=1, cpus=0.25, actors=(1, 2048), loads=False), stage]


def scorer(config: Config, store: PatchStore) -> tuple[str, Step]:
    """The name under which scores are kept, a hash of weights and settings in it, and the step that makes them."""
    if config.score.by in ("early", "checkpoint"):
        again = checkpoint(config, store)
        name = probe.name_of(again, config.score.by == "early")
        return name, Step(ScoreAgain, (again,), batch=64, gpus=0.25, actors=(1, 4096))  # the most: as in jobs/ingest.py
    encoder = features.load(config.score, config.patches)  # a wrong one is refused here; each actor loads its own
    step = Step(EmbedPatches, (config.score, config.patches), batch=64, gpus=0.5, actors=(1, 4096))  # SAM's encoder is the largest
    return encoder.name, step


def about(config: Config) -> dict[str, str]:
    """What is known of the scorer: the scale of its difficulties, and after how many epochs of its training it was kept."""
    if config.score.by not in ("early", "checkpoint"):
        return {}
    early = config.score.by == "early"
    epochs = probe.early_epochs(config.probe.train) if early else trainings.epoch_of(config.difficulty.checkpoint)
    return {"scale": difficulty.scale(config.difficulty), **({} if epochs is None else {"epochs": str(epochs)})}


def checkpoint(config: Config, store: PatchStore) -> DifficultyConfig:
    """The settings of difficulty with the checkpoint that is asked for; LookupError where the store has no early one."""
    if config.score.by == "checkpoint":
        return config.difficulty
    if not (found := probe.stored(config, early=True)):
        raise LookupError(
            f"the store {store.uri} has no early scorer of these settings ({probe.scorer(config, early=True)}): the job probe keeps one "
            "when it trains; score.by=checkpoint takes any other"
        )
    return found


def pieces(left: Rows) -> pa.Table:
    """Places as rows (schema.PLACES) of those that are read together."""
    return pa.table({"places": [left[start : start + TOGETHER] for start in range(0, len(left), TOGETHER)]}, schema.PLACES)


def followed(made: Iterable[pa.Table], expected: int) -> Iterator[pa.Table]:
    """The same rows; tells how far it is."""
    began = said = monotonic()
    done = 0
    for rows in made:
        done += len(rows)
        if monotonic() - said > PATIENCE:
            said = monotonic()
            log.info("%d of %d patches, %.1f/s", done, expected, done / (said - began))
        yield rows
