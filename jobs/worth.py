"""Whether to train again is worth it: what the selection of now is estimated to be ahead of the one that the newest model was trained on.

gain = C' I' / (C I) - 1. C is the share of the clusters of all patches that a selection has a patch of, I the estimate of V-information in
nats a pixel value of its patches (engine/judge.py), both measured on the patches, clusters and scores of now, ' of the selection of now.
So it grows with what there is to learn in a patch and with the kinds that are reached: our choice, for nobody published one. It is an
estimate by the scorer before anything is trained; where I cannot be had or is not above 0, which is where the scorer knows no more than one
colour does, it is C' / C - 1, and the run says why. I counts what tells one patch from another too, colour with it.
"""

import logging
from typing import Any

import numpy as np
import pyarrow.compute as pc

from engine import difficulty, judge, tracking
from engine.config import Config
from engine.judge import Case, UnknownError
from engine.pool import Pool
from engine.store import PatchStore, journal, rescoring
from jobs import judging, named, pretrain, retrain, selections

log = logging.getLogger("jobs.worth")
JOB = "worth"


def target(config: Config) -> Config:
    """The configuration of the selection that would be trained on: the first that is kept current, else selection.* itself."""
    return next(iter(selections.each(config)), config)


def pair(config: Config) -> tuple[str, str] | None:
    """The selection that the newest model was trained on, and the one of now; None where there is no model or no selection."""
    made, trained = named.newest(target(config)), model(config)
    return (str(trained["tags"]["selection"]), str(made["tags"]["selection"])) if made and trained else None


def model(config: Config) -> dict[str, Any] | None:
    """The run of the newest model: by the version of the patches, and only of one version by the clock of whoever trained it."""
    store = PatchStore(config.store.uri)
    wanted = [*map(named.of_version, named.versions(store) if store.has("selections") else []), ""]  # "": trained on what is gone since
    found = (next(tracking.newest(config, "pretrain", where), None) for where in wanted)
    return next((one for one in found if one), None)


def run(config: Config) -> None:
    """Estimate the gain, once for every pair of selections, into an MLflow run of its own."""
    store, both = PatchStore(config.store.uri), pair(config)
    if both is None or both[0] == both[1] or told(config, both) is not None:
        return
    version = store.complete_version()
    if rescoring.mixed(store, version):
        return
    tags = {"trained": both[0], "selection": both[1], "patches_version": version}
    values, reason = estimated(config, store, both, version)
    with tracking.running(config, JOB, " ".join(both), tags) as record:
        record.log({f"worth/{name}": value for name, value in values.items()}, step=0)
        record.note({"worth": verdict(values["gain"], config), "reason": reason})
    log.info("%s: %s", both[1], verdict(values["gain"], config))


def verdict(gain: float, config: Config) -> str:
    """The estimate in words."""
    ahead = f"estimated to be {100 * gain:+.1f} % ahead of what the newest model was trained on"
    bound = f"{100 * config.watch.gain:g} % (watch.gain)"
    return f"{ahead}: {'worth' if gain >= config.watch.gain else 'not worth'} training again, which begins at {bound}"


def estimated(config: Config, store: PatchStore, both: tuple[str, str], version: int) -> tuple[dict[str, float], str]:
    """The gain and what it is made of, and why a part of it is left out."""
    there = store.open("patches", version).schema.names
    columns = store.patches([name for name in judging.COLUMNS if name in there], version=version)
    pool = Pool(columns, store.vectors(version))
    labels = judging.kinds(store, pool, version)
    rebuilds = difficulty.rebuilds(config.difficulty)
    seen = judging.colours(config, store, version, np.arange(len(pool)))
    cases = [Case(pool, chosen(store, pool, one), labels, rebuilds=rebuilds, colours=seen) for one in both]
    before, now = (judge.coverage(labels, case.chosen) for case in cases)
    found = {"coverage_before": before, "coverage": now, "gain": now / before - 1}
    try:
        old, new = (judge.information_in(case, 1.0) for case in cases)
    except UnknownError as error:
        return found, str(error)
    found |= {"information_before": old, "information": new}
    if old <= 0 or new <= 0:
        return found, "by the estimate of V-information the scorer knows no more than one colour does"
    return found | {"gain": now * new / (before * old) - 1}, ""


def chosen(store: PatchStore, pool: Pool, selection_id: str) -> Any:
    """The rows of a pool that a selection holds, as far as they are there, in order of choice. LookupError where none are."""
    rows = store.ranked(selection_id, ["patch_id"])
    places = pc.index_in(rows["patch_id"], pool.columns["patch_id"].combine_chunks()).drop_null()
    if not len(places):
        raise LookupError(
            f"the store {store.uri} holds nothing any more of the selection {selection_id} that the newest model was trained on"
        )
    return places.to_numpy()


def told(config: Config, both: tuple[str, str]) -> float | None:
    """The gain that was estimated for a pair."""
    found = tracking.finished(config, JOB, " ".join(both))
    return float(found["metrics"]["worth/gain"]) if found else None


# -- training again -----------------------------------------------------------------------------------------------------------------


def pending(config: Config) -> str:
    """The selection of a training that was begun and has no model yet; "" where there is none."""
    store = PatchStore(config.store.uri)
    begun = journal.entries(store, "retrain")[-1:]
    return next((name for name, detail in begun if not store.holds(detail["model"]) and named.is_there(store, name)), "")


def is_due(config: Config) -> bool:
    """Whether a training is to be begun, or gone on with: only where watch.retrain allows it."""
    return config.watch.retrain and bool(due(config))


def due(config: Config) -> str:
    """The selection to train on; each once, since the model of a selection and a recipe has one name."""
    if begun := pending(config):
        return begun
    both = pair(config)
    gain = told(config, both) if both else None
    if both is None or gain is None or gain < config.watch.gain:
        return ""
    return "" if PatchStore(config.store.uri).holds(pretrain.model(target(config), both[1])) else both[1]


def train(config: Config) -> None:
    """Train on what is due; it is in the journal before it begins, so that whoever comes after a death goes on with the same."""
    selection_id = due(config) if config.watch.retrain else ""
    if not selection_id:
        return
    store, mine = PatchStore(config.store.uri), target(config)
    if selection_id != pending(config):
        journal.enter(store, "retrain", selection_id, {"model": pretrain.model(mine, selection_id)}, tracking.code_commit())
    log.info("training again, on %s", selection_id)
    retrain.begin(mine, selection_id, config.watch.tries)
