"""What a pre-training is watched by: target images score its models while it goes on, and what was scored is kept."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from engine import cards, checkpoints, devices, flow, objectives, targets, tracking
from engine.config import Config
from engine.monitor import Looker, Monitor, title
from engine.targets import Targets
from engine.transfer import Readings
from jobs.kept import Kept, failed

log = logging.getLogger("jobs.looks")
SECONDS = "seconds"  # beside the readings of a look: what it took
ASKED = 0.5  # seconds between two looks for a score that is waited for
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
        """What several of transfer.SCORES say."""
        return targets.scores(encoder_of(model), self.targets, self.config.transfer, names)

    def of(self, folder: Path) -> dict[str, Any]:
        """What a checkpoint is scored, and what it took."""
        began = time.perf_counter()
        model = objectives.load(str(folder / checkpoints.WEIGHTS), self.config.pretrain)
        return {**self(model)._asdict(), SECONDS: time.perf_counter() - began}

    def check(self) -> None:
        """ValueError for target images, or levels, that the model of the recipe cannot be scored by, before any training."""
        targets.check(encoder_of(objectives.model(self.config.pretrain)), self.targets, self.config.transfer)


def fingerprint(config: Config) -> str:
    """Names a watch: the target images by what they show, wherever they lie, and all knobs of transfer.

    None of these is free, as some of TrainConfig are. What is looked at and how it is scored, when, and what counts as better say which
    model is the best and when to end, and `wait` says the latter too: without it a training goes on until a score is there, and what it
    learns meanwhile may be exported. `keep` alone changes nothing of what is exported, but what else is left: a training that ended
    without it has no models for the job transfer to compare, and one that went on with it would lack those of its earlier looks.
    """
    return config.transfer.model_copy(update={"uri": ""}).fingerprint() + Score(config).targets.fingerprint


def encoder_of(model: nn.Module) -> nn.Module:
    """What is scored: all of a masked autoencoder, of which only the encoder is asked, and of SimCLR what is before the projection."""
    return getattr(model, "encoder", model)


class Tasks:
    """A Look whose scores come from tasks that Ray Train runs beside the training, one for every checkpoint; see flow.Validate.

    The untrained encoder, of which there is no checkpoint, is scored at once. With `wait` a look is for the score of the one before.
    """

    def __init__(self, config: Config, run: str, steps: int) -> None:
        self.monitor, self.score = Monitor(config.transfer, config.pretrain.epochs), Score(config)
        self.run, self.steps = run, steps

    def __call__(self, epoch: int, encoder: nn.Module) -> bool:
        if epoch == 0 and self.monitor.due(0):
            began = time.perf_counter()
            return self.monitor.observe(0, self.score(encoder), time.perf_counter() - began)
        last = max((earlier for earlier in range(1, epoch) if self.monitor.due(earlier)), default=0)
        self.fold()
        while self.monitor.config.wait and last and last not in self.monitor.seconds:
            time.sleep(ASKED)
            self.fold()
        return self.monitor.stopped is not None

    def fold(self) -> None:
        """Take in what the tasks have scored meanwhile."""
        for step, found in flow.scored(self.run).items():
            if step % self.steps == 0 and self.monitor.due(step // self.steps):
                self.monitor.observe(step // self.steps, Readings(found["scores"], found["gaps"]), found[SECONDS])

    def drain(self) -> bool:
        """Take in what is scored; whether to stop."""
        self.fold()
        return self.monitor.stopped is not None

    def state_dict(self) -> dict[str, Any]:
        """What the monitor heard so far, for a checkpoint."""
        return self.monitor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` told."""
        self.monitor.load_state_dict(state)


class Watched:
    """A Look that keeps the models it is due for, as long as they may be asked for, and writes to MLflow what they were scored."""

    def __init__(self, look: Looker | Tasks, record: tracking.Run, kept: Kept) -> None:
        self.look, self.record, self.kept = look, record, kept
        self.trained, self.told = 0, set[int]()

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
        self.kept.note(self.trained, monitor)

    def drain(self) -> None:
        """Wait for the scores that are under way, and say which model is best by all of them, or that there is none."""
        self.look.drain()
        self.tell()
        monitor = self.look.monitor
        if monitor.scores:
            best, named = monitor.verdict(), title(monitor.config)
            self.record.log({cards.BEST: best.epoch}, step=len(monitor.seconds))
            untrained = UNTRAINED * bool(best.untrained)
            log.info("by its %s %.4g the model after %d epochs is best%s", named, best.score, best.epoch, untrained)
        elif monitor.seconds:
            log.warning("%s", failed(monitor))

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
    """Take in the last scores of tasks, which come after the workers have ended."""
    watched.go_on()
    watched.drain()
