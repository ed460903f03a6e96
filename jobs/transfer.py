"""Hold rules of when to stop against what was to be had: every kept model of a pre-training, scored, fine-tuned and measured."""

import logging
from collections.abc import Mapping
from statistics import fmean
from typing import Any, get_args

from engine import cards, datasets, leaks, objectives, stopping, targets, tracking, transfer
from engine.config import Config
from engine.entries import NONE
from engine.knobs import flat, of_now
from engine.monitor import TITLES, Monitor, choose, judged, title
from engine.ranks import mean_ranks, within
from engine.scores import over_seeds
from engine.settings import Scored, TransferConfig
from engine.store import PatchStore, trainings
from engine.trails import CUT_HINDSIGHT, FULL_LENGTH, HINDSIGHT, Choice, Gap, Trail, leads
from jobs import evaluate, looks, named, pretrain, readings
from jobs.evaluate import Contender
from jobs.kept import Kept

log = logging.getLogger("jobs.transfer")
JOB = "checkpoint"  # of the runs that measure one, which the report does not set beside those of evaluate
PATIENCES = (1, 2, 3)
Scores = dict[str, dict[int, float]]  # by reading and epochs
Performance = list[list[float]]  # [checkpoint][seed]
Hours = Mapping[int, float]  # of a device, by epochs


def run(config: Config) -> None:
    """Compare the models that the pre-training of selection.* and pretrain.* kept; the report draws what comes of it.

    LookupError where that has not ended.
    """
    evaluate.check_fits(config)
    selection_id, retained = pretrain.chosen(config)
    name = pretrain.key(config, selection_id)
    epochs = kept(config, name)
    trained = tracking.finished(config, "pretrain", name)
    if trained is None:
        raise LookupError(f"the pre-training of {selection_id} with this recipe has not ended: run the job pretrain first")
    refuse_tested(config)
    found, gaps = scored(config, name, epochs, dict(trained["run"].curve("train/loss")))
    performance = [[measured(config, name, epoch, seed, (selection_id, retained)) for seed in config.evaluate.seeds] for epoch in epochs]
    with tracking.running(config, "transfer", f"{name}-{config.transfer.fingerprint()}", {"selection": selection_id}) as record:
        trail = trail_of(config, epochs, (found, gaps), performance, trained)
        record.keep("trail.json", trail.to_json().encode())
        if trail.cut_off:
            record.note({"cut_off": trail.cut_off})
            log.warning("%s", trail.cut_off)
        for line in told(trail):
            log.info("%s", line)


def told(trail: Trail) -> list[str]:
    """What the log says of a trail: the rules that were named beforehand, and of the others why they are not there."""
    before = [one for one in trail.ranked if leads(trail, one)]
    lines = [f"{one.rule}: TIS {one.tis[0]:.4f}, regret {one.regret[0]:.3f} at {one.paid:.4g} epochs" for one in before]
    if others := len(trail.choices) - len(before):
        lines.append(f"by other scores: {others} rules, in the report; picked after the outcome was seen, the best of so many says nothing")
    return lines


def refuse_tested(config: Config) -> None:
    """ValueError where target images are among those that the models are tested on: a score must not see these, less so their masks.

    Nor what shows the same, as a copy saved anew does (see leaks). Of 150 images of Kvasir-SEG saved anew as JPEG of quality 50 to 90 and
    scaled to 64, 96 and 224 px all were found; of its 998 as they are some three in a hundred have a twin there, and are refused, too.
    """
    how, seen = config.evaluate, looks.Score(config).targets
    side, shown = seen.images.shape[1], leaks.whole(zip(seen.files, seen.images, strict=True))
    for seed in how.seeds:
        tested = [(pair.name, datasets.load(pair, side)[0]) for pair in datasets.chosen(how, seed).test]
        where, instead = f"in evaluate.uri with seed {seed}", "take target images that are nowhere in evaluate.uri"
        if both := len(set(seen.ids) & set(targets.names(image for _, image in tested))):
            raise ValueError(f"{both} of {len(seen.ids)} target images of transfer.uri are tested on {where}: {instead}")
        if found := leaks.between(shown, leaks.whole(tested)).found:
            raise ValueError(
                f"{len({leak.pool for leak in found})} of {len(seen.ids)} target images of transfer.uri look like images that are tested "
                f"on {where}, most of all {found[0].pool} like {found[0].test} (correlation {found[0].likeness:.3f}): {instead}"
            )


def kept(config: Config, name: str) -> list[int]:
    """After how many epochs models of a pre-training were kept, rising; LookupError for fewer than two, or none with these knobs."""
    epochs = Kept(config, name).epochs
    if len(epochs) >= 2:
        return epochs
    if epochs or tracking.begun(config, "pretrain", f"tags.key = '{name}'"):
        raise LookupError(
            f"{len(epochs)} models of this pre-training were kept, two at least can be compared: "
            "run the job pretrain with transfer.uri=FOLDER transfer.keep=true"
        )
    selection_id = trainings.selection_of(name)
    others = [f"{key} ({told})" for key, told in with_models(config, selection_id).items()]
    raise LookupError(
        f"no pre-training of {selection_id} has these very knobs of pretrain.* and transfer.*, and these target images; "
        + (f"models were kept of {', '.join(others)}: give what it was trained with" if others else "of no other were models kept: ")
        + "run the job pretrain with the same knobs, transfer.uri=FOLDER and transfer.keep=true" * (not others)
    )


def with_models(config: Config, selection_id: str) -> dict[str, str]:
    """Of which pre-trainings of a selection models to compare were kept, by key: how many, and what was otherwise than in `config`."""
    store, found = PatchStore(config.store.uri), dict[str, str]()
    for key in trainings.keys(store):
        if trainings.selection_of(key) == selection_id and len(epochs := trainings.epochs(store, key)) >= 2:
            runs = tracking.begun(config, "pretrain", f"tags.key = '{key}'")
            other = [f"{knob}={value}" for knob, value in otherwise(config, runs[-1]["params"]).items()] if runs else []
            found[key] = f"{len(epochs)} models, {'with ' + ', '.join(other) if other else 'with other target images or first weights'}"
    return found


def otherwise(config: Config, params: Mapping[str, str]) -> dict[str, str]:
    """The knobs, as a run has them, that make it another pre-training than that of `config`; an address only where `config` has none."""
    named_by = {knob: value for knob, value in flat(config).items() if knob.partition(".")[0] in ("pretrain", "transfer")}
    free = {f"pretrain.{knob}" for knob in config.pretrain.FREE} | ({"transfer.uri"} if config.transfer.uri else set())
    had = of_now(params)
    return {knob: had[knob] for knob, value in named_by.items() if knob not in free and had.get(knob, str(value)) != str(value)}


def scored(config: Config, name: str, epochs: list[int], losses: Mapping[int, float]) -> tuple[Scores, list[Gap]]:
    """Every score that can be had of these target images, of every model at every level, and what could not be had and why.

    The pre-training's loss is that of the epoch before.
    """
    found: Scores = {"loss": {epoch: losses[epoch - 1] for epoch in epochs if epoch - 1 in losses}}
    gaps = list[Gap]()
    for epoch, there in readings.of_kept(config, name, epochs).items():
        for one, value in there.scores.items():
            found.setdefault(one, {})[epoch] = value
        gaps += [Gap(epoch, one, why) for one, why in there.gaps.items()]
    return found, gaps


def measured(config: Config, name: str, epoch: int, seed: int, chosen: tuple[str, float]) -> float:
    """The Dice of a kept model fine-tuned with this seed, measured once; `chosen` as of pretrain.chosen."""
    model = objectives.load(Kept(config, name).address(epoch), config.pretrain)
    method = named.chosen(config)["method"] if config.selection.named else config.selection.method
    contender = Contender(f"{method}, {epoch} epochs", *chosen, objectives.fingerprint(model), cards.encoder(model))
    split = datasets.chosen(config.evaluate, seed)
    images = datasets.fingerprint(config.evaluate.uri, config.evaluate.dataset)
    return evaluate.measure(config, seed, (images, split), contender, JOB)["evaluate/dice"]


def trail_of(
    config: Config, epochs: list[int], seen: tuple[Scores, list[Gap]], performance: Performance, trained: Mapping[str, Any]
) -> Trail:
    """The Trail of a pre-training: its checkpoints' scores and performances, and where every rule would have stopped.

    Of one that its monitor ended before the recipe's length no rule is known that goes beyond; see Trail.cut_off.
    """
    (found, gaps), how, tags = seen, config.evaluate, trained["tags"]
    watching = watcher(config.transfer, found)
    watched = watching.scores
    stopped = max((epoch + 1 for epoch, _ in trained["run"].curve("train/stopped")), default=None)
    hours = {epoch + 1: value for epoch, value in trained["run"].curve("train/gpu_hours")}
    looked = dict(trained["run"].curve("transfer/gpu_hours"))
    made, length = rules(config, epochs, found), config.pretrain.epochs
    chosen = [
        choice(rule, at, epochs, performance, saved((hours, looked if looking(rule) else None), at[1], length))
        for rule, at in made.items()
        if at
    ]
    split = datasets.chosen(how, how.seeds[0])
    return Trail(
        name=f"{objectives.title(config.pretrain)} on {tags['selection']}, {tags['images']} images",
        score=title(config.transfer),
        judged=judged(config.transfer),
        lower=watching.lower,
        measure="Dice",
        setting=f"{len(split.train)} images trained, {len(split.test)} tested, fine-tuned {'but for the encoder ' * how.frozen}"
        f"for {how.steps(len(split.train))} iterations, {len(how.seeds)} seed{'s' * (len(how.seeds) > 1)}"
        + "; of the scores heard together the mean rank is drawn"
        * watching.several,
        epochs=epochs,
        scores=[watched.get(epoch) for epoch in epochs],
        performance=performance,
        choices=[*chosen, hindsight(epochs, performance, epochs[-1] < length)],
        stopped=stopped,
        untrained=watching.verdict().untrained if watched else None,
        readings={name: [one.get(epoch) for epoch in epochs] for name, one in found.items()},
        gaps=gaps,
        length=length,
        unended=[rule for rule, at in made.items() if not at],
        recipe=recipe(config, tags["selection"]),
        seed=config.pretrain.seed,
    )


def recipe(config: Config, selection_id: str) -> str:
    """Names a pre-training and how it is looked at, whatever its seed."""
    unseeded = config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"seed": 0})})
    return f"{pretrain.key(unseeded, selection_id)}-{config.transfer.fingerprint()}"


def rules(config: Config, epochs: list[int], found: Scores) -> dict[str, tuple[int, int] | None]:
    """The epochs of the model that every rule chooses, and those that are trained for it.

    A rule of patience chooses the best that was trained until then, a vote the last, as `pretrain` with that score and patience does. None:
    it had not ended when the training was cut off, as no offline rule has, which hears all of the recipe's length.
    """
    last, whole = epochs[-1], epochs[-1] == config.pretrain.epochs
    made: dict[str, tuple[int, int] | None] = {NONE: (0, 0)} if epochs[0] == 0 else {}
    made |= {FULL_LENGTH: (last, last)} if whole else {}
    for name in ["loss", *get_args(Scored), *TITLES]:
        if some := heard(name, found):
            how = ruled(config.transfer, name)
            if name != "vote":  # which says when to end, and not which model is best
                made[f"{title(how)}, offline"] = (best(some, last), last) if whole else None
            for patience in PATIENCES:
                stop = watcher(how.model_copy(update={"patience": patience}), found).stopped or (last if whole else None)
                made[f"{title(how)}, patience {patience}"] = stopping_at(stop, name, some) if stop else None
    return made


def stopping_at(stop: int, name: str, scores: Scores) -> tuple[int, int]:
    """The epochs of the model that a rule by a transfer.score chooses that ended a training, and those that were trained."""
    return (stop if name == "vote" else best(scores, stop, 1)), stop


def ruled(how: TransferConfig, name: str) -> TransferConfig:
    """How a training is watched by another score: `min_delta` is in the unit of the one it is meant for, and the loss is of no level."""
    alike = name == how.score
    return how.model_copy(
        update={"score": name, "min_delta": how.min_delta if alike else 0.0, "levels": () if name == "loss" else how.levels}
    )


def heard(name: str, found: Scores) -> Scores:
    """The readings that a transfer.score goes by: none where there are none, or only one to rank or to let vote."""
    wanted = {"ranks": set(transfer.BLIND), "vote": set(get_args(Scored))}.get(name, {name})
    some = {reading: one for reading, one in found.items() if reading.partition("/")[0] in wanted and one}
    return some if len(some) > 1 or name not in TITLES else {}


def watcher(how: TransferConfig, found: Scores) -> Monitor:
    """A monitor that has seen these models at its looks."""
    made, some = Monitor(how), heard(how.score, found)
    epochs = {epoch for one in some.values() for epoch in one}
    made.load_state_dict({"scores": some, "gaps": {}, "seconds": dict.fromkeys(epochs, 0.0)})
    return made


def best(scores: Scores, end: int, begin: int = 0) -> int:
    """The epoch of the model that several scores together say is best of those from `begin` to `end`; `end` where there is none.

    With the untrained encoder among them it is that, or the best of the others without it, as of Monitor.verdict.
    """
    ranks = mean_ranks(within(scores, begin, end))
    found = choose(ranks, lower=True).epoch if ranks else end
    return best(scores, end, 1) if begin == 0 < found else found


def looking(rule: str) -> bool:
    """Whether a rule shows an encoder target images."""
    return rule not in (NONE, FULL_LENGTH) and not rule.startswith("loss,")


def saved(hours: tuple[Hours, Hours | None], end: int, length: int) -> float | None:
    """GPU-hours less than a training of `length` epochs that nobody looks at, of one that ended at `end` and paid for its looks until then.

    `hours` are those of the training and, where it was looked at, of the looks, by the epochs until which they count; None: not measured.
    Epochs that were not trained, where the training was cut off, are taken to cost what those that were did in the mean.
    Looks by other scores than the watched one are taken to cost what that one did: most of it is the encoder's work.
    """
    trained, looked = {0: 0.0, **hours[0]}, hours[1] if hours[1] is not None else {end: 0.0}
    last = max(trained)
    whole = trained.get(length, trained[last] * length / max(last, 1))
    return whole - trained[end] - looked[end] if last and end in trained and end in looked else None


def choice(rule: str, at: tuple[int, int], epochs: list[int], performance: Performance, hours: float | None) -> Choice:
    """What a rule came to that chose the model of the first of these epochs and paid the second, and saved so many hours."""
    place = epochs.index(at[0])
    by_seed = list(zip(*performance, strict=True))
    judged = [over_seeds([judge(one, place) for one in by_seed]) for judge in (stopping.tis, stopping.regret)]
    return Choice(rule, at[0], at[1], hours, *judged)


def hindsight(epochs: list[int], performance: Performance, cut: bool = False) -> Choice:
    """What nobody can know before: of every seed its best model, for which no epoch beyond it is trained; `cut`: of those there are."""
    best = [epochs[column.index(max(column))] for column in zip(*performance, strict=True)]
    return Choice(
        CUT_HINDSIGHT if cut else HINDSIGHT, best[0] if len(set(best)) == 1 else None, fmean(best), None, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    )
