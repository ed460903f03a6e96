"""Score the patches that came in with another scorer by the one of now, and change to it once all of them are scored."""

import logging
from functools import cache

import numpy as np

from engine import difficulty, flow, tracking
from engine.config import Config, DifficultyConfig
from engine.difficulty import ScoreAgain
from engine.flow import Step
from engine.store import PatchStore, journal, rescoring
from jobs import needs, probe, score

log = logging.getLogger("jobs.rescore")


@cache
def name_of(section: DifficultyConfig) -> str:
    """As probe.name_of has it; the weights are read once."""
    return probe.name_of(section)


def scorer(config: Config) -> DifficultyConfig:
    """The scorer of now: the checkpoint that is named, or the store's own; LookupError where there is neither."""
    if not (found := probe.at_hand(config)):
        uri = PatchStore(config.store.uri).uri
        raise LookupError(f"the store {uri} has no scorer of these settings: run the job probe first, or set difficulty.checkpoint")
    return found


def is_due(config: Config) -> bool:
    """Whether there are patches by another scorer than that of now."""
    store = PatchStore(config.store.uri)
    there = rescoring.scorers_of(store, store.complete_version())
    return bool(there) and there != {name_of(scorer(config)).rpartition("-")[2]}


def run(config: Config) -> None:
    """Score what is left, then change; the scores that patches have stay in use until then. Interrupted, it goes on where it was."""
    store, section = PatchStore(config.store.uri), scorer(config)
    name, version = name_of(section), store.complete_version()
    mark = name.rpartition("-")[2]
    old = rescoring.outdated(store, mark, version)
    if not len(old):
        return
    left = np.intersect1d(old, store.missing(name, version))
    if len(left):
        needs.await_nodes("rescore", config)
    log.info("%s: %d patches came in with another scorer, %d of them are to be scored", name, len(old), len(left))
    tags = {"scorer": name, "patches_version": version}
    stage = Step(ScoreAgain, (section,), batch=64, gpus=0.25, actors=(1, 4096))  # the most: as in jobs/ingest.py
    with store.writing("rescore"), store.reading("patches", version), tracking.running(config, "rescore", name, tags) as record:
        work = score.steps(store, version, stage)
        made = flow.runner(config.where)(work, score.pieces(left)) if len(left) else iter(())
        about = {"scale": difficulty.scale(section)}
        record.log({"rescore/patches": store.add_scores(name, score.followed(made, len(left)), about)}, step=0)
    changed = rescoring.adopt(store, name, mark)
    journal.enter(store, "rescore", mark, {"patches": changed}, tracking.code_commit())
    log.info("%s: %d patches have its scores now", name, changed)
