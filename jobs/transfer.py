"""Hold rules of when to stop against what was to be had: every kept model of a pre-training, scored, fine-tuned and measured."""

import logging
from collections.abc import Mapping
from statistics import fmean
from typing import Any, get_args

from engine import cards, datasets, objectives, tracking, transfer
from engine.config import Config
from engine.monitor import Monitor, choose, mean_ranks
from engine.scores import over_seeds
from engine.settings import Scored
from engine.targets import names
from engine.trails import FULL, HINDSIGHT, NONE, Choice, Trail
from jobs import evaluate, looks, pretrain
from jobs.evaluate import Contender
from jobs.kept import Kept

log = logging.getLogger("jobs.transfer")
JOB = "checkpoint"  # of the runs that measure one, which the report does not set beside those of evaluate
PATIENCES = (1, 2, 3)
RANKS = "mean rank by all without labels"  # a rule over several scores: see monitor.mean_ranks
Scores = dict[str, dict[int, float]]  # by name and epochs
Performance = list[list[float]]  # [checkpoint][seed]
Hours = Mapping[int, float]  # of a device, by epochs


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
        if both := len(seen & set(names(datasets.load(pair, side)[0] for pair in datasets.chosen(how, seed).test))):
            raise ValueError(
                f"{both} of {len(seen)} target images of transfer.uri are tested on in evaluate.uri with seed {seed}: "
                "take target images that are nowhere in evaluate.uri"
            )


def kept(config: Config, name: str) -> list[int]:
    """After how many epochs models of a pre-training were kept, rising; LookupError for fewer than two."""
    epochs = Kept(config, name).epochs
    if len(epochs) < 2:
        raise LookupError(
            f"{len(epochs)} models of this pre-training were kept, two at least can be compared: "
            "run the job pretrain with transfer.uri=FOLDER transfer.keep=true"
        )
    return epochs


def scored(config: Config, name: str, epochs: list[int], losses: Mapping[int, float]) -> Scores:
    """Every score that can be had of these target images, of every model; the pre-training's loss is that of the epoch before."""
    models, score = Kept(config, name), looks.Score(config)
    names = [one for one in get_args(Scored) if score.targets.masks is not None or "labels" not in transfer.SCORES[one].needs]
    found: Scores = {one: {} for one in names} | {"loss": {epoch: losses[epoch - 1] for epoch in epochs if epoch - 1 in losses}}
    for epoch in epochs:
        model = objectives.load(models.address(epoch), config.pretrain)
        for one, value in score.by(names, model).items():
            found[one][epoch] = value
        log.info("%d epochs: %s %.4g", epoch, config.transfer.score, found[config.transfer.score][epoch])
    return found


def measured(config: Config, name: str, epoch: int, seed: int, data: tuple[str, float]) -> float:
    """The Dice of a kept model fine-tuned with this seed; measured once."""
    model = objectives.load(Kept(config, name).address(epoch), config.pretrain)
    contender = Contender(f"{config.selection.method}, {epoch} epochs", *data, objectives.fingerprint(model), cards.encoder(model))
    split = datasets.chosen(config.evaluate, seed)
    images = datasets.fingerprint(config.evaluate.uri, config.evaluate.dataset)
    return evaluate.measure(config, seed, (images, split), contender, JOB)["evaluate/dice"]


def trail_of(config: Config, epochs: list[int], found: Scores, performance: Performance, trained: Mapping[str, Any]) -> Trail:
    watched, how, tags = config.transfer.score, config.evaluate, trained["tags"]
    stopped = next((epoch + 1 for epoch, _ in trained["run"].curve("train/stopped")), None)
    hours = {epoch + 1: value for epoch, value in trained["run"].curve("train/gpu_hours")}
    looks = dict(trained["run"].curve("transfer/gpu_hours"))
    best = choose(found[watched], transfer.SCORES[watched].lower)
    chosen = [
        choice(rule, at, epochs, performance, saved((hours, looks if looking(rule) else None), at[1], epochs[-1]))
        for rule, at in rules(config, epochs, found).items()
    ]
    split = datasets.chosen(how, how.seeds[0])
    return Trail(
        name=f"{objectives.title(config.pretrain)} on {tags['selection']}, {tags['images']} images",
        score=transfer.SCORES[watched].title,
        lower=transfer.SCORES[watched].lower,
        measure="Dice",
        setting=f"{len(split.train)} images trained, {len(split.test)} tested, fine-tuned {'but for the encoder ' * how.frozen}"
        f"for {how.steps(len(split.train))} iterations, {len(how.seeds)} seeds",
        epochs=epochs,
        scores=[found[watched].get(epoch) for epoch in epochs],
        performance=performance,
        choices=[*chosen, hindsight(epochs, performance)],
        stopped=stopped,
        untrained=best.untrained,
    )


def rules(config: Config, epochs: list[int], found: Scores) -> dict[str, tuple[int, int]]:
    """The epochs of the model that every rule chooses, and those that are trained for it.

    A rule of patience chooses the best that was trained until then, as `pretrain` with that score and patience does.
    """
    last = epochs[-1]
    made = ({NONE: (0, 0)} if epochs[0] == 0 else {}) | ({FULL: (last, last)} if last == config.pretrain.epochs else {})
    blind = {name: scores for name, scores in found.items() if name != "loss" and "labels" not in transfer.SCORES[name].needs}
    heard: dict[str, Scores] = {transfer.SCORES[name].title: {name: scores} for name, scores in found.items()}
    for title, some in (heard | ({RANKS: blind} if len(blind) > 1 else {})).items():
        made[f"{title}, offline"] = (best(some, last), last)
        for patience in PATIENCES:
            stop = halted(config, some, patience) or last
            made[f"{title}, patience {patience}"] = (best(some, stop, 1), stop)
    return made


def best(scores: Scores, end: int, begin: int = 0) -> int:
    """The epoch of the model that several scores together say is best of those from `begin` to `end`; `end` where there is none."""
    ranks = mean_ranks(within(scores, begin, end))
    return choose(ranks, lower=True).epoch if ranks else end


def halted(config: Config, scores: Scores, patience: int) -> int | None:
    """Where a monitor of this score would have ended the training, or what hears several of them; None: nowhere."""
    if len(scores) > 1:
        return halted_by_ranks(config, scores, patience)
    ((name, one),) = scores.items()
    monitor = Monitor(config.transfer.model_copy(update={"score": name, "patience": patience}))
    for epoch, score in one.items():
        monitor.observe(epoch, score)
    return monitor.stopped


def halted_by_ranks(config: Config, scores: Scores, patience: int) -> int | None:
    """The first look past the warm-up at which the best of those until then, by mean ranks among these, lies `patience` looks back."""
    for end in sorted(mean_ranks(scores)):
        ranks = mean_ranks(within(scores, config.transfer.warmup, end))
        if ranks and sum(epoch > choose(ranks, lower=True).epoch for epoch in ranks) >= patience:
            return end
    return None


def within(scores: Scores, begin: int, end: int) -> Scores:
    return {name: {epoch: score for epoch, score in one.items() if begin <= epoch <= end} for name, one in scores.items()}


def looking(rule: str) -> bool:
    """Whether a rule shows an encoder target images."""
    return rule not in (NONE, FULL) and not rule.startswith("loss,")


def saved(hours: tuple[Hours, Hours | None], end: int, last: int) -> float | None:
    """GPU-hours less than a training until `last` that nobody looks at, of one that ended at `end` and paid for its looks until then.

    `hours` are those of the training and, where it was looked at, of the looks, by the epochs until which they count; None: not measured.
    Looks by other scores than the watched one are taken to cost what that one did: most of it is the encoder's work.
    """
    trained, looks = {0: 0.0, **hours[0]}, hours[1] if hours[1] is not None else {end: 0.0}
    return trained[last] - trained[end] - looks[end] if {last, end} <= set(trained) and end in looks else None


def choice(rule: str, at: tuple[int, int], epochs: list[int], performance: Performance, hours: float | None) -> Choice:
    """What a rule came to that chose the model of the first of these epochs and paid the second, and saved so many hours."""
    place = epochs.index(at[0])
    by_seed = list(zip(*performance, strict=True))
    judged = [over_seeds([judge(one, place) for one in by_seed]) for judge in (transfer.tis, transfer.regret)]
    return Choice(rule, at[0], at[1], hours, *judged)


def hindsight(epochs: list[int], performance: Performance) -> Choice:
    """What nobody can know before: of every seed its best model, for which no epoch beyond it is trained."""
    best = [epochs[column.index(max(column))] for column in zip(*performance, strict=True)]
    return Choice(HINDSIGHT, best[0] if len(set(best)) == 1 else None, fmean(best), None, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
