"""What a pre-training is watched by: target images score its models while it goes on, and what was scored is kept."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from torch import nn

from engine import cards, checkpoints, devices, flow, objectives, targets, tracking
from engine.config import Config
from engine.monitor import Looker, Monitor, Verdict, judged, title
from engine.ranks import LOST
from engine.targets import Targets
from engine.transfer import Readings
from jobs.kept import Kept, failed

log = logging.getLogger("jobs.looks")
SECONDS = "seconds"  # beside the readings of a look: what it took
UNTRAINED = ": no pre-training at all"


@dataclass(frozen=True)
class Score:
    """Scores a model, or the checkpoint in a folder, on the target images; travels as its configuration and reads where it is used."""

    config: Config

    def __reduce__(self) -> tuple[type, tuple[Config]]:
        return Score, (self.config,)

    @cached_property
    def targets(self) -> Targets:
        """The target images, read once a process at the size of the model."""
        recipe = self.config.pretrain
        return targets.read(self.config.transfer, recipe.simclr.side if recipe.architecture == "simclr" else recipe.mae.side)

    def __call__(self, model: nn.Module) -> Readings:
        return self.by(targets.watched(self.targets, self.config.transfer), model)

    def by(self, names: Sequence[str], model: nn.Module) -> Readings:
        """What several of transfer.SCORES say, and of which weights."""
        found = targets.scores(encoder_of(model), self.targets, self.config.transfer, names)
        return found._replace(weights=objectives.fingerprint(cast("objectives.Trained", model)))  # a training looks at no other

    def of(self, folder: Path) -> dict[str, Any]:
        """What a checkpoint is scored, and what it took."""
        began = time.perf_counter()
        model = objectives.load(str(folder / checkpoints.WEIGHTS), self.config.pretrain)
        return {**self(model)._asdict(), SECONDS: time.perf_counter() - began}

    def check(self) -> None:
        """ValueError for target images, or levels, that the model of the recipe cannot be scored by, before any training."""
        targets.check(encoder_of(objectives.model(self.config.pretrain)), self.targets, self.config.transfer)
        self.warn_unpaired(targets.watched(self.targets, self.config.transfer))

    def warn_unpaired(self, names: Sequence[str]) -> None:
        """Say where one of these scores pairs an image with itself, as the published pairing of negatives does one of an odd number."""
        how, count = self.config.transfer, len(self.targets.images)
        if "robustness" in names and how.negatives == "published" and count % 2:
            log.warning(
                "transfer.uri has %d target images, an odd number, and the published pairing makes one of these its own negative in the "
                "robustness: take transfer.images=%d, or transfer.negatives=others, with either of which a pre-training begins anew",
                count, count - 1,
            )  # fmt: skip


def fingerprint(config: Config) -> str:
    """Names a watch: the target images by what they show, wherever they lie, and all knobs of transfer.

    None of these is free, as some of TrainConfig are. What is looked at and how it is scored, when, and what counts as better say which
    model is the best and when to end, and `wait` says the latter too: without it a training goes on until a score is there, and what it
    learns meanwhile may be exported. `keep` alone changes nothing of what is exported, but what else is left: a training that ended
    without it has no models for the job transfer to compare, and one that went on with it would lack those of its earlier looks.
    """
    return config.transfer.model_copy(update={"uri": ""}).fingerprint() + Score(config).targets.fingerprint


def due(config: Config, steps: int, done: int) -> bool:
    """Whether the schedule looks at the checkpoint after so many steps of the optimiser, of `steps` an epoch: none amid an epoch."""
    epoch, more = divmod(done, steps)
    return not more and config.transfer.due(epoch, config.pretrain.epochs)


def encoder_of(model: nn.Module) -> nn.Module:
    """What is scored: all of a masked autoencoder, of which only the encoder is asked, and of SimCLR what is before the projection."""
    return getattr(model, "encoder", model)


@dataclass(frozen=True)
class Wait:
    """How a score is waited for, in seconds."""

    asked: float = 0.5  # between two looks for it
    told: float = 60.0  # between two words of it
    # Our choice: less than the half hour after which the other workers, who wait for the first, take it for dead (Ray's TorchConfig).
    most: float = 1200.0  # in all


class Tasks:
    """A Look whose scores come from tasks that Ray Train runs beside the training, one for every look that is due; see flow.Validate.

    The untrained encoder, of which there is no checkpoint, is scored at once. With `wait` a look waits for its score as a Looker does, so
    that both end a training alike, but only so long: of a task that was killed, as for its memory, nothing ever comes, and Ray Train (2.60)
    does not say so. What an earlier start scored of models that are yet to be trained once more is not heard before they are.
    """

    def __init__(self, config: Config, run: str, steps: int, wait: Wait | None = None) -> None:
        self.monitor, self.score = Monitor(config.transfer, config.pretrain.epochs), Score(config)
        self.run, self.steps, self.wait = run, steps, wait or Wait()
        self.trained = 0  # epochs
        self.late = set[int]()  # epochs whose scores are waited for no longer

    def __call__(self, epoch: int, encoder: nn.Module) -> bool:
        self.trained = epoch
        if epoch == 0 and self.monitor.due(0):
            began = time.perf_counter()
            return self.monitor.observe(0, self.score(encoder), time.perf_counter() - began)
        self.fold()
        if self.monitor.config.wait and self.monitor.due(epoch):
            self.await_score(epoch)
        return self.monitor.stopped is not None

    def await_score(self, epoch: int) -> None:
        """Back when the score of the model after so many epochs is there, or has been waited for long enough."""
        began = told = time.monotonic()
        while epoch not in {*self.monitor.seconds, *self.late}:
            time.sleep(self.wait.asked)
            self.fold()
            now, said = time.monotonic(), (epoch, self.wait.most)
            if now - began >= self.wait.most:
                log.warning("no score of the model after %d epochs in %g s: the training goes on; one that comes later still counts", *said)
                self.late.add(epoch)
            elif now - told >= self.wait.told:
                log.warning("the score of the model after %d epochs is waited for, %g s at most; so far %.3g s", *said, now - began)
                told = now

    def fold(self) -> None:
        """Take in what the tasks have scored meanwhile, and what of an earlier start will never be."""
        for step, why in flow.unscored(self.run).items():
            if self.due(step) and step // self.steps not in self.monitor.seconds:
                self.monitor.observe(step // self.steps, self.missed(why))
        for step, found in flow.scored(self.run).items():
            if self.due(step):
                self.monitor.observe(step // self.steps, Readings(found["scores"], found["gaps"], found.get("weights", "")), found[SECONDS])

    def due(self, step: int) -> bool:
        """Whether there was a look at the checkpoint after so many steps of the optimiser; an earlier start may have scored others, too."""
        return due(self.score.config, self.steps, step) and step <= self.trained * self.steps

    def missed(self, why: str) -> Readings:
        """A look without a score."""
        return targets.missed(self.score.targets, self.monitor.config, why)

    def drain(self) -> bool:
        """Take in what is scored; whether to stop."""
        self.fold()
        return self.monitor.stopped is not None

    def close(self, trained: int) -> None:
        """Take in the last scores, when no task is left; a look until `trained` epochs that has none is a gap."""
        self.trained = trained
        self.fold()
        for epoch in range(1, trained + 1):
            if self.monitor.due(epoch) and epoch not in self.monitor.seconds:
                self.monitor.observe(epoch, self.missed("no score of it ever came"))

    def state_dict(self) -> dict[str, Any]:
        """What the monitor heard so far, for a checkpoint: a task that was cut off is begun anew by Ray Train."""
        return self.monitor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` told."""
        self.monitor.load_state_dict(state)


class Watched:
    """A Look that keeps the models it is due for, as long as they may be asked for, and writes to MLflow what they were scored."""

    def __init__(self, look: Looker | Tasks, record: tracking.Run, kept: Kept) -> None:
        self.look, self.record, self.kept = look, record, kept
        self.trained, self.told, self.lost = 0, set[int](), set[str]()  # epochs and readings that were said

    def __call__(self, epoch: int, encoder: nn.Module) -> bool:
        self.trained = epoch
        if self.look.monitor.due(epoch):
            self.kept.put(epoch, encoder)
        enough = self.look(epoch, encoder)
        self.tell()
        return enough

    def tell(self) -> None:
        """Write what was scored since the last time to MLflow, say where a score is lacking, and keep the models by it."""
        monitor = self.look.monitor
        for epoch, hours in monitor.hours.items():
            if epoch not in self.told:
                found = {f"transfer/{name}": one[epoch] for name, one in monitor.heard.items() if epoch in one}
                gaps = monitor.gaps.get(epoch, {})
                self.record.log({**found, "transfer/gaps": len(gaps), "transfer/gpu_hours": hours}, step=epoch)
                for name, why in gaps.items():
                    log.warning("after %d epochs there is no %s, and the training goes on: %s", epoch, name, why)
        self.told = set(monitor.seconds)
        self.say_lost(monitor.lost if monitor.several else set())
        self.kept.note(self.trained, monitor)

    def say_lost(self, lost: set[str]) -> None:
        """Say which readings are heard no more since the last time, and which are again."""
        for name in sorted(lost - self.lost):
            log.warning("%s had a gap at the last %d looks: it is heard no more, nor at the looks before, unless it comes back", name, LOST)
        for name in sorted(self.lost - lost):
            log.warning("%s is there again, and heard", name)
        self.lost = lost

    def drain(self) -> None:
        """Wait for the scores that are under way, and say what they come to, or that there is none."""
        self.look.drain()
        self.tell()
        monitor = self.look.monitor
        if monitor.scores:
            self.say_best(monitor.verdict())
        elif monitor.seconds:
            log.warning("%s", failed(monitor))

    def say_best(self, best: Verdict) -> None:
        """Say which model is best by all looks; where a vote ended the training, which names none, only whether the untrained one is."""
        how = self.look.monitor.config
        if how.score != "vote":
            self.record.log({cards.BEST: best.epoch}, step=len(self.look.monitor.seconds))
            untrained = UNTRAINED * bool(best.untrained)
            log.info("by its %s %.4g the model after %d epochs is best%s", title(how), best.score, best.epoch, untrained)
        elif best.untrained is not None:
            told = f"is best{UNTRAINED}" if best.untrained else "is not the best"
            log.info("the %s names no model; by the %s the untrained encoder %s", title(how), judged(how), told)

    def state_dict(self) -> dict[str, Any]:
        """What the look needs to go on; the best model is made safe first, since a resume may ask for it."""
        state = self.look.state_dict()
        self.kept.secure_best(self.look.monitor)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` told, the best model safe."""
        self.look.load_state_dict(state)
        self.kept.secure_best(self.look.monitor)

    def go_on(self) -> None:
        """Know what an earlier one knew of the same training."""
        noted = self.kept.noted()
        self.trained = noted["trained"]
        self.load_state_dict(noted)


def watch(config: Config, key: str, record: tracking.Run, steps: int, run: str = "") -> Watched:
    """The look at a pre-training of so many steps an epoch; by tasks beside the `run` of Ray Train, else in a thread."""
    look = Tasks(config, run, steps) if run else Looker(config.transfer, Score(config), devices.kind(), config.pretrain.epochs)
    return Watched(look, record, Kept(config, key))


def end(watched: Watched) -> None:
    """Take in the last scores of tasks, which come after the workers have ended, and say of which looks there are none."""
    watched.go_on()
    if isinstance(watched.look, Tasks):
        watched.look.close(watched.trained)
    watched.drain()
