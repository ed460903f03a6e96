"""Hold rules of when to stop against what was to be had: every kept model of a pre-training, scored, fine-tuned and measured."""

import logging
from collections.abc import Mapping
from statistics import fmean
from typing import Any, get_args

import numpy as np

from engine import cards, datasets, objectives, tracking, transfer
from engine.config import Config
from engine.monitor import Monitor, choose
from engine.scores import over_seeds
from engine.settings import Scored
from engine.store import PatchStore
from engine.targets import Targets
from engine.trails import FULL, HINDSIGHT, NONE, Choice, Trail
from jobs import evaluate, looks, pretrain
from jobs.evaluate import Contender

log = logging.getLogger("jobs.transfer")
JOB = "checkpoint"  # of the runs that measure one, which the report does not set beside those of evaluate
PATIENCES = (1, 2, 3)
Scores = dict[str, dict[int, float]]  # by name and epochs
Performance = list[list[float]]  # [checkpoint][seed]


def run(config: Config) -> None:
    """Compare the models that the pre-training of selection.* and pretrain.* kept; the report draws what comes of it."""
    evaluate.check_fits(config)
    selection_id, retained = pretrain.chosen(config)
    name = pretrain.key(config, selection_id)
    epochs = kept(config, name)
    trained = next((one for one in reversed(tracking.runs(config, "pretrain")) if one["tags"]["key"] == name), None)
    if trained is None:
        raise LookupError(f"the pre-training of {selection_id} with this recipe has not ended: run the job pretrain first")
    refuse_tested(config)
    found = scored(config, name, epochs, dict(trained["run"].curve("train/loss")))
    performance = [[measured(config, name, epoch, seed, (selection_id, retained)) for seed in config.evaluate.seeds] for epoch in epochs]
    with tracking.running(config, "transfer", f"{name}-{config.transfer.fingerprint()}", {"selection": selection_id}) as record:
        trail = trail_of(config, epochs, found, performance, trained)
        record.keep("trail.json", trail.to_json().encode())
        for choice in trail.ranked:
            log.info("%s: TIS %.4f, regret %.3f at %.4g epochs", choice.rule, choice.tis[0], choice.regret[0], choice.paid)


def refuse_tested(config: Config) -> None:
    """ValueError where target images are among those that the models are tested on: a score must not see these, less so their masks."""
    how, targets = config.evaluate, looks.Score(config).targets
    side, seen = targets.images.shape[1], set(targets.ids)
    for seed in how.seeds:
        tested = [datasets.load(pair, side)[0] for pair in datasets.pairs(how.uri, how.test_share, seed, how.limit).test]
        if both := len(seen & set(Targets(np.stack(tested)).ids if len(tested) > 1 else [])):
            raise ValueError(
                f"{both} of {len(seen)} target images of transfer.uri are tested on in evaluate.uri with seed {seed}: "
                "take target images that are nowhere in evaluate.uri"
            )


def kept(config: Config, name: str) -> list[int]:
    """After how many epochs models of a pre-training were kept, rising; LookupError for fewer than two."""
    store, most = PatchStore(config.store.uri), config.pretrain.epochs
    epochs = [epoch for epoch in range(most + 1) if store.holds(looks.kept(name, epoch))]
    if len(epochs) < 2:
        raise LookupError(
            f"{len(epochs)} models of this pre-training were kept, two at least can be compared: "
            "run the job pretrain with transfer.uri=FOLDER transfer.keep=true"
        )
    return epochs


def scored(config: Config, name: str, epochs: list[int], losses: Mapping[int, float]) -> Scores:
    """Every score that can be had of these target images, of every model; the pre-training's loss is that of the epoch before."""
    store, score = PatchStore(config.store.uri), looks.Score(config)
    names = [one for one in get_args(Scored) if score.targets.masks is not None or "labels" not in transfer.SCORES[one].needs]
    found: Scores = {one: {} for one in names} | {"loss": {epoch: losses[epoch - 1] for epoch in epochs if epoch - 1 in losses}}
    for epoch in epochs:
        model = objectives.load(store.address(looks.kept(name, epoch)), config.pretrain)
        for one, value in score.by(names, model).items():
            found[one][epoch] = value
        log.info("%d epochs: %s %.4g", epoch, config.transfer.score, found[config.transfer.score][epoch])
    return found


def measured(config: Config, name: str, epoch: int, seed: int, data: tuple[str, float]) -> float:
    """The Dice of a kept model fine-tuned with this seed; measured once."""
    model = objectives.load(PatchStore(config.store.uri).address(looks.kept(name, epoch)), config.pretrain)
    contender = Contender(f"{config.selection.method}, {epoch} epochs", *data, objectives.fingerprint(model), cards.encoder(model))
    split = datasets.pairs(config.evaluate.uri, config.evaluate.test_share, seed, config.evaluate.limit)
    return evaluate.measure(config, seed, (datasets.fingerprint(config.evaluate.uri), split), contender, JOB)["evaluate/dice"]


def trail_of(config: Config, epochs: list[int], found: Scores, performance: Performance, trained: Mapping[str, Any]) -> Trail:
    watched, how, tags = config.transfer.score, config.evaluate, trained["tags"]
    stopped = next((epoch + 1 for epoch, _ in trained["run"].curve("train/stopped")), None)
    hours = {epoch + 1: value for epoch, value in trained["run"].curve("train/gpu_hours")}
    best = choose(found[watched], transfer.SCORES[watched].lower)
    chosen = [choice(rule, epochs, performance, at, hours) for rule, at in rules(config, epochs, found).items()]
    split = datasets.pairs(how.uri, how.test_share, how.seeds[0], how.limit)
    return Trail(
        name=f"{objectives.title(config.pretrain)} on {tags['selection']}, {tags['images']} images",
        score=watched,
        lower=transfer.SCORES[watched].lower,
        measure="Dice",
        setting=f"{len(split.train)} images trained, {len(split.test)} tested, fine-tuned {'but for the encoder ' * how.frozen}"
        f"for {how.iterations} iterations, {len(how.seeds)} seeds",
        epochs=epochs,
        scores=[found[watched].get(epoch) for epoch in epochs],
        performance=performance,
        choices=[*chosen, hindsight(epochs, performance)],
        stopped=stopped,
        untrained=best.untrained,
    )


def rules(config: Config, epochs: list[int], found: Scores) -> dict[str, tuple[int, int]]:
    """The epochs of the model that every rule chooses, and those that are trained for it."""
    last = epochs[-1]
    made = ({NONE: (0, 0)} if epochs[0] == 0 else {}) | ({FULL: (last, last)} if last == config.pretrain.epochs else {})
    for name, scores in found.items():
        made[f"{name}, offline"] = (choose(scores, transfer.SCORES[name].lower).epoch, last)
        for patience in PATIENCES:
            made[f"{name}, patience {patience}"] = (stop := halted(config, name, scores, patience) or last, stop)
    return made


def halted(config: Config, name: str, scores: Mapping[int, float], patience: int) -> int | None:
    """Where a monitor of this score would have ended the training; None: nowhere."""
    monitor = Monitor(config.transfer.model_copy(update={"score": name, "patience": patience}))
    for epoch, score in scores.items():
        monitor.observe(epoch, score)
    return monitor.stopped


def choice(rule: str, epochs: list[int], performance: Performance, at: tuple[int, int], hours: Mapping[int, float]) -> Choice:
    place = epochs.index(at[0])
    by_seed = list(zip(*performance, strict=True))
    spent = {0: 0.0, **hours}  # what the looks themselves took is not in it
    saved = spent[epochs[-1]] - spent[at[1]] if {epochs[-1], at[1]} <= set(spent) else None
    judged = [over_seeds([judge(one, place) for one in by_seed]) for judge in (transfer.tis, transfer.regret)]
    return Choice(rule, at[0], at[1], saved, *judged)


def hindsight(epochs: list[int], performance: Performance) -> Choice:
    """What nobody can know before: of every seed its best model, for which no epoch beyond it is trained."""
    best = [epochs[column.index(max(column))] for column in zip(*performance, strict=True)]
    return Choice(HINDSIGHT, best[0] if len(set(best)) == 1 else None, fmean(best), None, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
