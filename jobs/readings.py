"""What target images say of the models that a pre-training kept: taken up where it was said before, else made, and kept beside them.

It depends on the weights, on the target images and on knobs of transfer. The latter two are in the name of the pre-training, in whose
folder all of this lies, so what was said before is known by the fingerprint of the weights.
"""

import json
import logging
from itertools import product
from typing import Self

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, model_validator

from engine import files, objectives, targets, transfer
from engine.config import Config
from engine.monitor import Monitor
from engine.store import trainings
from engine.transfer import Readings
from jobs.kept import Kept
from jobs.looks import Score

log = logging.getLogger("jobs.transfer")
NOTHING = Readings({}, {})


class Made(BaseModel):
    """What a file of readings says."""

    model_config = ConfigDict(strict=True, extra="forbid")
    scores: dict[str, FiniteFloat]
    gaps: dict[str, str]
    weights: str

    @model_validator(mode="after")
    def are_one_or_the_other(self) -> Self:
        if both := self.scores.keys() & self.gaps.keys():
            raise ValueError(f"{min(both)} is both a score and a gap")
        return self


class Noted(BaseModel):
    """What a file of looks says: see Kept.note and Monitor.state_dict."""

    model_config = ConfigDict(strict=True, extra="forbid")
    score: str
    trained: int  # epochs
    scores: dict[str, dict[int, FiniteFloat]]  # by reading and epoch
    gaps: dict[int, dict[str, str]]  # by epoch and reading
    seconds: dict[int, FiniteFloat]  # by epoch
    weights: dict[int, str] = {}  # by epoch; earlier versions told none


def of_kept(config: Config, name: str, epochs: list[int]) -> dict[int, Readings]:
    """Every score that can be had of the target images, at every level, of the models that were kept after these epochs.

    What is made is kept with each model, so a start that is killed loses what it made of one model at most.
    """
    models, score = Kept(config, name), Score(config)
    score.warn_unpaired(targets.obtainable(score.targets))
    monitor = heard(models)
    return {epoch: of_model(models, score, epoch, monitor) for epoch in epochs}


def of_model(models: Kept, score: Score, epoch: int, monitor: Monitor) -> Readings:
    """All readings of one model; `monitor` knows those of its training."""
    model = objectives.load(models.address(epoch), models.config.pretrain)
    weights, wanted = objectives.fingerprint(model), obtainable(score)
    kept, looked = before(models, epoch, weights), at_look(monitor, epoch, weights)
    known = joined(looked, kept)
    made = score.by(sorted({name for reading, name in wanted.items() if reading not in {*known.scores, *known.gaps}}), model)
    if made.scores or made.gaps:
        kept = joined(kept, made)
        files.put(json.dumps(kept._asdict(), indent=1).encode(), address(models, epoch))
    scores, gaps, _ = joined(known, made)
    found = Readings({one: scores[one] for one in wanted if one in scores}, {one: gaps[one] for one in wanted if one in gaps}, weights)
    anew, here = len({*made.scores, *made.gaps}), {*found.scores, *found.gaps}
    of_looks = len(here - {*kept.scores, *kept.gaps})
    log.info(
        "%d epochs: %d scores, %d could not be had; %d made now, %d taken over from an earlier start and %d from looks of the training",
        epoch, len(found.scores), len(found.gaps), anew, len(here) - anew - of_looks, of_looks,
    )  # fmt: skip
    return found


def obtainable(score: Score) -> dict[str, str]:
    """The readings that can be had, each with its score."""
    how = score.config.transfer
    names = product(targets.obtainable(score.targets), how.heard_levels)
    return {transfer.reading(name, level if how.levels else None): name for name, level in names}


def joined(first: Readings, second: Readings) -> Readings:
    """Both, where they differ as the second says."""
    said = {*second.scores, *second.gaps}
    scores = {one: value for one, value in first.scores.items() if one not in said}
    gaps = {one: why for one, why in first.gaps.items() if one not in said}
    return Readings(scores | second.scores, gaps | second.gaps, second.weights or first.weights)


def address(models: Kept, epoch: int) -> str:
    """Where the readings of a model lie."""
    return models.store.address(trainings.readings(models.key, epoch))


def before(models: Kept, epoch: int, weights: str) -> Readings:
    """What an earlier start made of a model with these weights; a damaged file is removed, with a warning."""
    fs, path = files.locate(address(models, epoch))
    fs.invalidate_cache()
    if not fs.exists(path):
        return NOTHING
    try:
        found = Made.model_validate_json(fs.cat_file(path))
    except ValidationError as error:
        log.warning("%s is damaged: %s; it is removed, and what it said made anew", address(models, epoch), wrong(error))
        fs.rm_file(path)
        return NOTHING
    return Readings(found.scores, found.gaps, found.weights) if found.weights == weights else NOTHING


def heard(models: Kept) -> Monitor:
    """What the training heard; nothing where that is not known or, with a warning, damaged."""
    monitor, (fs, path) = Monitor(models.config.transfer), files.locate(models.looks)
    if models.are_noted:
        try:
            monitor.load_state_dict(Noted.model_validate_json(fs.cat_file(path)).model_dump())
        except ValidationError as error:
            log.warning("%s is damaged: %s; what the looks of the training found is made anew", models.looks, wrong(error))
    return monitor


def wrong(error: ValidationError) -> str:
    """What is wrong with a file first of all, and where in it."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def at_look(monitor: Monitor, epoch: int, weights: str) -> Readings:
    """What a look found of a model with these weights. Its gaps are left out: they may be of a task that failed."""
    if monitor.weights.get(epoch, "") != weights:
        return NOTHING
    return Readings({reading: one[epoch] for reading, one in monitor.heard.items() if epoch in one}, {}, weights)
