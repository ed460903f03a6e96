"""The loop that pre-trains a masked autoencoder or SimCLR on training images: plain torch under accelerate, with or without Ray around it.

What an image goes through depends on (seed, epoch, position) alone, and so does the order, so the loss curve is the same however many
workers share a batch and in however many parts they take it, and after a resume in the middle of an epoch. Recipe: facebookresearch/mae
main_pretrain.py, for SimCLR too: AdamW stands for its paper's LARS, which is for batches of thousands.
"""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from engine import checkpoints, devices, footprint, loader, objectives, optimiser, pictures
from engine.checkpoints import Progress, Training
from engine.loader import Key, Read
from engine.models import TrainConfig
from engine.monitor import Look
from engine.weights import DamagedError

TRIED = (3, 6)  # epochs and steps in each of them by which the throughput is measured: a minute or two for ViT-B on two processors
SHEET = "pictures.jpg"  # beside a checkpoint: images, what was masked of them, and what was rebuilt
PICTURED = 8  # images on a sheet, the first ones, always seen and masked alike

Report = Callable[[dict[str, Any], Path | None], None]


def fit(read: Read, count: int, config: TrainConfig, *, resume: Path | None, report: Report, look: Look | None = None) -> nn.Module:
    """Train on the `count` images that `read` gives; returns the model, with config.ema the mean of its weights.

    report(metrics, folder) is called by every worker at the same steps. After an epoch metrics are its number, the steps done in all, its
    mean loss, and what it took (`Loop.end_epoch`); amid one they are the two numbers alone. With both come the `losses` of the steps since
    the last report, each a mean over its images, by how many steps were then done: a checkpoint comes with or after those of all its steps,
    so that none is lost and one that is told again is of a step that was done again. folder (first worker) holds a checkpoint, from
    which a later call goes on as its `resume`, a sheet of pictures, or both. look(epochs, model), asked of the first worker alone before
    the first step and after every epoch, ends the training for all of them: the last metrics then hold stopped=1. ValueError for fewer
    images than a batch and for a batch that can never fit into memory, loader.UnseenError for an image that is no picture, DamagedError
    for a `resume` that cannot be read, FloatingPointError for numbers that are none, RuntimeError where memory turned out too small.
    """
    objectives.check_fed(config, count, torch.cuda.is_available())
    footprint.check(config)
    with footprint.explained(config):
        loop = Loop(read, count, config, report, look)
        if resume:
            loop.restore(resume)
        loop.run()
    return loop.training.exported


class Loop:
    """A training under way on one worker."""

    def __init__(self, read: Read, count: int, config: TrainConfig, report: Report, look: Look | None) -> None:
        self.clock = time.perf_counter()
        self.read, self.count, self.config, self.report = read, count, config, report
        self.accelerator = accelerator = accelerator_of(config)
        self.objective, self.energy = objectives.objective(config), devices.Energy()
        torch.manual_seed(config.seed)
        bare = synchronised(objectives.model(config), accelerator)
        average = optimiser.copied(bare).to(accelerator.device) if config.ema else None  # first: what accelerate makes is not to be copied
        self.model, self.optimiser = accelerator.prepare(bare, optimiser.adamw(bare, config))
        self.training = Training(config, bare, average, self.optimiser.optimizer, accelerator.scaler, look)
        place = accelerator.process_index, accelerator.num_processes
        self.share = loader.Share(count, config.batch, config.seed, *place, config.workers)
        self.steps = math.ceil(count / config.batch)  # of an epoch, whether or not all workers get an image of the last
        self.untold = list[tuple[int, float, int]]()  # of each step since the last report: its number, sum of losses and images here
        self.saved = -1  # steps done at the last checkpoint

    @property
    def progress(self) -> Progress:
        """How far the training is."""
        return self.training.progress

    @property
    def done(self) -> int:
        """Steps done in all epochs."""
        return self.progress.epoch * self.steps + (self.steps if self.epoch_is_over else self.progress.step)

    @property
    def epoch_is_over(self) -> bool:
        """Whether all of this worker's share was seen in this epoch."""
        return self.progress.step == len(self.share)

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint; DamagedError on all workers where one of them cannot read it, so that none waits for it."""
        fault = None
        try:
            checkpoints.restore(self.training, folder, self.accelerator.is_main_process)
        except DamagedError as error:
            fault = error
        if self.summed(torch.tensor(float(fault is not None))):
            raise fault or DamagedError("a checkpoint could not be read by another worker")
        self.saved = self.done

    def run(self) -> None:
        """Train until all epochs are done or a look says stop, with checkpoints and pictures when they are due."""
        while not self.enough() and self.progress.epoch < self.config.epochs:
            began, before = time.perf_counter(), self.progress.images
            self.model.train()
            for batch in loader.load(self.read, self.see, self.share, self.progress.epoch, self.progress.step):
                self.step(batch)
                saves, shows = self.due(self.config.checkpoint_steps), self.due(self.config.picture_steps)
                if not self.epoch_is_over and (saves or shows):
                    self.hand_in({"epoch": self.progress.epoch, "step": self.done}, self.totals() if saves else None, shows)
            seen = self.summed(torch.tensor(self.progress.images - before, dtype=torch.float64)).item()
            self.end_epoch(seen / (time.perf_counter() - began))

    def enough(self) -> bool:
        """Whether a look between two epochs said stop, which is then reported, with a checkpoint where there is none yet.

        It comes after the epoch's checkpoint, which on Ray is what is scored, and after a resume once more, as it may have been cut off.
        """
        if self.progress.step == 0 and self.looked() and not self.progress.stopped:
            self.progress.stopped = True
            metrics = {"epoch": self.progress.epoch - 1, "step": self.done, "stopped": 1.0}
            self.hand_in(metrics, None if self.saved == self.done else self.totals(), self.config.picture_steps > 0)
        return self.progress.stopped

    def due(self, every: int) -> bool:
        """Whether what comes every so many steps, 0 being never, comes now."""
        return every > 0 and self.done % every == 0

    def see(self, jpeg: bytes, key: Key) -> tuple[Key, Any]:
        """What is seen of an image by the objective, with its key; loader.UnseenError names the image that cannot be decoded."""
        try:
            return key, self.objective.see(jpeg, key)
        except ValueError as error:
            raise loader.UnseenError(f"{loader.named(self.read, [key[1]])} cannot be seen: {error}") from error

    def step(self, batch: Sequence[tuple[Key, Any]]) -> None:
        """One step of the optimiser, by what this worker has of a batch, in the device memory of one and the parts of all it stands in for.

        So it does what they would: to the bit with accumulate=1 and two workers, else to rounding of sums; SimCLR contrasts all at once.
        """
        progress, config = self.progress, self.config
        for group in self.optimiser.param_groups:
            group["lr"] = optimiser.rate(config, progress.epoch + progress.step / self.steps)
        chance = [config.seed, progress.epoch, progress.step, self.share.index]  # of models that drop what they have made
        torch.manual_seed(int(np.random.SeedSequence(chance).generate_state(1)[0]))
        parts = self.share.cut(batch, config.accumulate) if config.architecture == "mae" else [batch]
        loss = 0.0
        for number, part in enumerate(parts, 1):
            with self.accelerator.no_sync(self.model) if number < len(parts) else nullcontext():
                losses = self.losses(part)
                self.accelerator.backward(losses.sum() / len(batch))
            loss += losses.detach().double().sum().item()
        if config.clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.training.average is not None:
            taken = progress.epoch * self.steps + progress.step + 1
            optimiser.follow(self.training.average, self.training.model, optimiser.decay(config.ema, taken))
        progress.loss, progress.images, progress.step = progress.loss + loss, progress.images + len(batch), progress.step + 1
        self.untold.append((progress.epoch * self.steps + progress.step, loss, len(batch)))
        self.account()

    def losses(self, part: Sequence[tuple[Key, Any]]) -> Tensor:
        """Of some images; FloatingPointError that names those whose loss is not a number. (B,)."""
        keys, seen = zip(*part, strict=True)
        losses = self.objective.losses(self.model, seen)
        if not torch.isfinite(losses).all():
            positions = [key[1] for key, fine in zip(keys, torch.isfinite(losses).tolist(), strict=True) if not fine]
            done, images = (self.progress.epoch, self.progress.step), loader.named(self.read, positions)
            raise FloatingPointError(objectives.no_number(self.config, done, images, len(part) * (not torch.isfinite(losses).any())))
        return losses

    def account(self, looked: bool = False) -> None:
        """Add the time since the last time, to that of looks or to that of all else, and the energy."""
        now, joules = time.perf_counter(), self.energy.read()
        taken, self.clock = now - self.clock, now
        self.progress.looking += taken * looked
        self.progress.seconds += taken * (not looked)
        if self.accelerator.is_local_main_process or torch.cuda.is_available():  # the processors of a machine are counted once
            self.progress.joules += joules

    def totals(self) -> Progress:
        """The progress with what all processes did together."""
        self.account()
        names = ("loss", "seconds", "looking", "joules", "images")
        mine = [getattr(self.progress, name) for name in names]
        summed = dict(zip(names, self.summed(torch.tensor(mine, dtype=torch.float64)).tolist(), strict=True))
        return replace(self.progress, **(summed | {"images": int(summed["images"])}))

    def told(self) -> dict[int, float]:
        """The mean loss over all workers of each step since the last report, by its number: all of them took the same steps."""
        steps, self.untold = self.untold, []
        sums = self.summed(torch.tensor([(loss, images) for _, loss, images in steps], dtype=torch.float64)) if steps else torch.empty(0, 2)
        return {number: loss / images for (number, _, _), (loss, images) in zip(steps, sums.tolist(), strict=True)}

    def summed(self, numbers: Tensor) -> Tensor:
        """Numbers summed over all workers; each gets the sum."""
        total: Tensor = self.accelerator.reduce(numbers.to(self.accelerator.device), reduction="sum")
        return total

    def looked(self) -> bool:
        """Whether the first worker's look at the model between two epochs says that it is enough, which all follow."""
        look, enough = self.training.look, False
        self.account()
        if look and self.accelerator.is_main_process:
            enough = look(self.progress.epoch, self.training.exported.eval())
            self.training.exported.train()
        all_said = bool(self.summed(torch.tensor(float(enough))))
        self.account(looked=True)
        return all_said

    def end_epoch(self, images_per_s: float) -> None:
        """Report what has come of an epoch, with a checkpoint where one is due, and turn to the next.

        images_per_s is of all workers together, over the epoch but for its end: what it waits for is in it, a look and the last checkpoint
        are not; there is none of an epoch of which a resume found nothing left. gpu_hours are workers times the time that they were held
        since the loop was made, over all epochs: with loading, checkpoints, pictures, reports and waits; look_hours those in which all
        waited for a look before this epoch or an earlier one, which are none of these. In neither are what Ray takes to start workers, the
        last report and look, and what killed workers had done since the last checkpoint. Without a GPU a worker's processors stand for one.
        """
        config, total, epoch = self.config, self.totals(), self.progress.epoch
        rate = optimiser.rate(config, self.done / self.steps)
        metrics = {"epoch": epoch, "step": self.done, "loss": total.loss / total.images, "workers": self.accelerator.num_processes}
        metrics |= {"lr": rate, "samples": total.samples + total.images} | ({"images_per_s": images_per_s} if images_per_s else {})
        metrics |= {"gpu_hours": total.seconds / 3600} | ({"look_hours": total.looking / 3600} if self.training.look else {})
        metrics |= {"energy_kwh": total.joules / 3.6e6} if math.isfinite(total.joules) else {}
        metrics |= {"memory_gb": peak} if (peak := devices.peak_gb()) else {}
        begun: dict[str, Any] = {"epoch": epoch + 1, "step": 0, "loss": 0.0, "images": 0, "samples": total.samples + total.images}
        total = replace(total, **begun)
        self.training.progress = replace(self.progress, **begun)
        ended = epoch + 1 == config.epochs
        saves = ended or (epoch + 1) % config.checkpoint_every == 0 or self.due(config.checkpoint_steps)
        self.hand_in(metrics, total if saves else None, self.due(config.picture_steps) or (ended and config.picture_steps > 0))

    def hand_in(self, metrics: dict[str, float], saved: Progress | None, shown: bool) -> None:
        """Report; on the first worker with a checkpoint and a sheet where due. FloatingPointError where weights are no numbers."""
        if saved and not all(weight.isfinite().all() for weight in self.training.exported.parameters()):
            found = f"the weights are no numbers after {self.done} steps"
            raise FloatingPointError(f"{found}: lower base_lr={self.config.base_lr}, or bound the gradient by clip")
        self.saved = self.done if saved else self.saved
        with tempfile.TemporaryDirectory() as folder:
            first = self.accelerator.is_main_process
            if first and saved:
                checkpoints.save(self.training, saved, Path(folder))
            if first and shown:
                Path(folder, SHEET).write_bytes(pictures.encode(self.sheet(), 90))
            self.report(metrics | {"losses": self.told()}, Path(folder) if first and (saved or shown) else None)

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """The first images, as the objective shows them. (H, W, 3) uint8."""
        positions = range(min(PICTURED, self.count))
        seen = [self.see(jpeg, (0, place))[1] for place, jpeg in zip(positions, self.read(positions), strict=True)]
        picture = self.objective.sheet(self.training.exported.eval(), seen)
        self.training.exported.train()
        return picture


def accelerator_of(config: TrainConfig) -> Accelerator:
    """What knows of workers and of mixed precision, on the GPU if there is one."""
    AcceleratorState._reset_state()  # it is one for a process, and would refuse a second training of another precision
    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.precision)


def synchronised(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model with batch norms over all workers, as SimCLR's paper has them; ValueError as objectives.norms_apart."""
    if not objectives.norms_apart(model, accelerator.num_processes, torch.cuda.is_available()):
        return model
    made: nn.Module = convert_sync_batchnorm(model)  # timm's: torch's drops the activations that timm's norms may hold
    return made


def throughput(config: TrainConfig, side: int) -> float:
    """Images a second of one device of this machine in `fit`, by a few epochs on made-up images of side x side px; nothing is kept.

    The first epoch does not count, because in it everything is met for the first time; of the others the median.
    """
    share, told = config.batch // config.workers, list[dict[str, float]]()
    epochs, steps = TRIED
    shorter = {"epochs": epochs, "warmup_epochs": 0, "batch": share, "workers": 1, "least_workers": 0}
    shorter |= {"checkpoint_every": epochs, "checkpoint_steps": 0, "picture_steps": 0}
    coarse = np.random.default_rng(config.seed).integers(0, 256, (max(1, side // 16), max(1, side // 16), 3), np.uint8)
    jpeg = pictures.encode(np.asarray(cv2.resize(coarse, (side, side)), np.uint8), 95)  # about as many bytes as of tissue
    made = config.model_copy(update=shorter)
    fit(lambda positions: [jpeg] * len(positions), share * steps, made, resume=None, report=lambda one, _: told.append(one))
    return median(one["images_per_s"] for one in told[1:])
