"""The loop that pre-trains a masked autoencoder or SimCLR on training images: plain torch under accelerate, with or without Ray around it.

What an image goes through depends on (seed, epoch, position) alone, and so does the order, so the loss curve is the same however many
workers share a batch and in however many parts they take it, and after a resume in the middle of an epoch. Recipe: facebookresearch/mae
main_pretrain.py, for SimCLR too: AdamW stands for its paper's LARS, which is for batches of thousands.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from engine import checkpoints, devices, loader, objectives, optimiser, pictures
from engine.checkpoints import Progress, Training
from engine.loader import Key, Read
from engine.models import TrainConfig
from engine.monitor import Look

TRIED = (3, 6)  # epochs and steps in each of them by which the throughput is measured: a minute or two for ViT-B on two processors
SHEET = "pictures.jpg"  # beside a checkpoint: images, what was masked of them, and what was rebuilt
PICTURED = 8  # images on a sheet, the first ones, always seen and masked alike
NAMED = 5  # images that a sentence names

Report = Callable[[dict[str, float], Path | None], None]


def fit(read: Read, count: int, config: TrainConfig, *, resume: Path | None, report: Report, look: Look | None = None) -> nn.Module:
    """Train on the `count` images that `read` gives; returns the model, with config.ema the mean of its weights.

    report(metrics, folder) is called by every worker at the same steps. After an epoch metrics are its number, the steps done in all, its
    mean loss, and what it took; for a checkpoint amid one they are the two numbers alone. folder holds the checkpoint (first worker), from
    which a later call goes on as its `resume`. look(epochs, model), asked of the first worker alone before the first step and after
    every epoch, ends the training for all of them: the last metrics then hold stopped=1. ValueError for fewer images than a batch,
    FloatingPointError for numbers that are none, RuntimeError where memory is too small.
    """
    if count < config.batch:
        raise ValueError(f"{count} training images do not fill a batch of {config.batch}: choose a larger budget, or lower pretrain.batch")
    loop = Loop(read, count, config, report, look)
    if resume:
        checkpoints.restore(loop.training, resume, loop.accelerator.is_main_process)
    with room(config):
        loop.run()
    return loop.training.exported


class Loop:
    """A training under way on one worker."""

    def __init__(self, read: Read, count: int, config: TrainConfig, report: Report, look: Look | None) -> None:
        self.read, self.count, self.config, self.report = read, count, config, report
        self.accelerator = accelerator = accelerator_of(config)
        self.objective, self.energy = objectives.objective(config), devices.Energy()
        torch.manual_seed(config.seed)
        bare = synchronised(objectives.model(config), accelerator)
        average = optimiser.twin(bare).to(accelerator.device) if config.ema else None  # first: what accelerate makes is not to be copied
        self.model, self.optimiser = accelerator.prepare(bare, optimiser.adamw(bare, config))
        self.training = Training(config, bare, average, self.optimiser.optimizer, accelerator.scaler, look)
        self.share = loader.Share(count, config.batch, config.seed, accelerator.process_index, accelerator.num_processes)
        self.steps = math.ceil(count / config.batch)  # of an epoch, whether or not all workers get an image of the last

    @property
    def progress(self) -> Progress:
        return self.training.progress

    @property
    def done(self) -> int:
        """Steps done in all epochs."""
        return self.progress.epoch * self.steps + (self.steps if self.epoch_is_over else self.progress.step)

    @property
    def epoch_is_over(self) -> bool:
        return self.progress.step == len(self.share)

    def run(self) -> None:
        if self.progress.step == 0:  # the look before the first step; after a resume one that was cut off
            self.progress.stopped = self.looked(self.progress.epoch) or self.progress.stopped
        while self.progress.epoch < self.config.epochs and not self.progress.stopped:
            began = self.clock = time.perf_counter()
            before = self.progress.images
            self.model.train()
            for batch in loader.load(self.read, self.see, self.share, self.progress.epoch, self.progress.step):
                self.step(batch)
                if self.config.checkpoint_steps and not self.epoch_is_over and self.done % self.config.checkpoint_steps == 0:
                    self.hand_in({"epoch": self.progress.epoch, "step": self.done}, self.totals())
            images_per_s = (self.progress.images - before) / (time.perf_counter() - began)
            self.progress.stopped = self.looked(self.progress.epoch + 1)
            self.end_epoch(images_per_s)

    def see(self, jpeg: bytes, key: Key) -> tuple[Key, Any]:
        return key, self.objective.see(jpeg, key)

    def step(self, batch: Sequence[tuple[Key, Any]]) -> None:
        """One step of the optimiser, by gradients of config.accumulate parts of what this worker has of a batch."""
        progress, config = self.progress, self.config
        for group in self.optimiser.param_groups:
            group["lr"] = optimiser.rate(config, progress.epoch + progress.step / self.steps)
        chance = [config.seed, progress.epoch, progress.step, self.share.index]  # of models that drop what they have made
        torch.manual_seed(int(np.random.SeedSequence(chance).generate_state(1)[0]))
        size = math.ceil(len(batch) / config.accumulate)
        for start in range(0, len(batch), size):
            whole = start + size >= len(batch)
            with nullcontext() if whole else self.accelerator.no_sync(self.model):
                losses = self.losses(batch[start : start + size])
                self.accelerator.backward(losses.sum() / len(batch))
            progress.loss += losses.detach().double().sum().item()
        if config.clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.training.average is not None:
            optimiser.follow(self.training.average, self.training.model, config.ema)
        progress.images, progress.step = progress.images + len(batch), progress.step + 1
        self.account()

    def losses(self, part: Sequence[tuple[Key, Any]]) -> Tensor:
        """Of some images; FloatingPointError that names those whose loss is not a number."""
        keys, seen = zip(*part, strict=True)
        losses = self.objective.losses(self.model, seen)
        if not torch.isfinite(losses).all():
            positions = [key[1] for key, fine in zip(keys, torch.isfinite(losses).tolist(), strict=True) if not fine]
            every = "" if torch.isfinite(losses).any() else f", all {len(part)} seen together, so that the training may have diverged"
            raise FloatingPointError(
                f"the loss is not a number in epoch {self.progress.epoch}, step {self.progress.step}, of {named(self.read, positions)}"
                f"{every}: look at them, lower base_lr={self.config.base_lr} or bound the gradient by clip; what was saved before stays"
            )
        return losses

    def account(self) -> None:
        """Add the time and energy since the last time."""
        now, joules = time.perf_counter(), self.energy.read()
        self.progress.seconds, self.clock = self.progress.seconds + now - self.clock, now
        if self.accelerator.is_local_main_process or torch.cuda.is_available():  # the processors of a machine are counted once
            self.progress.joules += joules

    def totals(self) -> Progress:
        """The progress with what all processes did together."""
        mine = [getattr(self.progress, name) for name in ("loss", "images", "seconds", "joules")]
        summed = self.summed(torch.tensor(mine, dtype=torch.float64)).tolist()
        return replace(self.progress, loss=summed[0], images=int(summed[1]), seconds=summed[2], joules=summed[3])

    def summed(self, numbers: Tensor) -> Tensor:
        total: Tensor = self.accelerator.reduce(numbers.to(self.accelerator.device), reduction="sum")
        return total

    def looked(self, epochs: int) -> bool:
        """Whether the first worker's look after so many epochs says that it is enough, which all follow."""
        look, enough = self.training.look, False
        if look and self.accelerator.is_main_process:
            enough = look(epochs, self.training.exported.eval())
            self.training.exported.train()
        return bool(self.summed(torch.tensor(float(enough))))

    def end_epoch(self, images_per_s: float) -> None:
        """Report what has come of an epoch, with a checkpoint where one is due, and turn to the next."""
        config, total, epoch = self.config, self.totals(), self.progress.epoch
        metrics = {
            "epoch": epoch,
            "step": self.done,
            "loss": total.loss / total.images,
            "lr": optimiser.rate(config, self.done / self.steps),
        }
        metrics |= {"images_per_s": images_per_s, "samples": total.samples + total.images, "gpu_hours": total.seconds / 3600}
        metrics |= {"energy_kwh": total.joules / 3.6e6} if math.isfinite(total.joules) else {}
        metrics |= {"memory_gb": peak} if (peak := devices.peak_gb()) else {}
        metrics |= {"stopped": 1.0} if total.stopped else {}
        begun: dict[str, Any] = {"epoch": epoch + 1, "step": 0, "loss": 0.0, "images": 0, "samples": total.samples + total.images}
        total = replace(total, **begun)
        self.training.progress = replace(self.progress, **begun)
        due = [(epoch + 1) % every == 0 for every in (config.checkpoint_every, config.picture_epochs) if every]
        due += [config.checkpoint_steps > 0 and metrics["step"] % config.checkpoint_steps == 0, epoch + 1 == config.epochs, total.stopped]
        self.hand_in(metrics, total if any(due) else None)

    def hand_in(self, metrics: dict[str, float], saved: Progress | None) -> None:
        """Report, on the first worker with a checkpoint and its sheet of pictures if this progress is to be saved."""
        if saved and not all(weight.isfinite().all() for weight in self.training.exported.parameters()):
            raise FloatingPointError(
                f"the weights are no numbers after {int(metrics['step'])} steps: lower base_lr={self.config.base_lr}, "
                "or bound the gradient by clip; the last checkpoint is from before"
            )
        with tempfile.TemporaryDirectory() as folder:
            if mine := saved and self.accelerator.is_main_process:
                checkpoints.save(self.training, saved, Path(folder))
                if self.config.picture_epochs and "loss" in metrics and (metrics["epoch"] + 1) % self.config.picture_epochs == 0:
                    Path(folder, SHEET).write_bytes(pictures.encode(self.sheet(), 90))
            self.report(metrics, Path(folder) if mine else None)

    @torch.no_grad()
    def sheet(self) -> np.ndarray:
        """The first images, as the objective shows them."""
        positions = range(min(PICTURED, self.count))
        seen = [self.objective.see(jpeg, (0, place)) for place, jpeg in zip(positions, self.read(positions), strict=True)]
        picture = self.objective.sheet(self.training.exported.eval(), seen)
        self.training.exported.train()
        return picture


def accelerator_of(config: TrainConfig) -> Accelerator:
    """ValueError for a precision that only a GPU has."""
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("precision=fp16 needs a GPU: without one take bf16, or no for float32")
    AcceleratorState._reset_state()  # it is one for a process, and would refuse a second training of another precision
    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.precision)


def synchronised(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model with batch norms over all workers, as SimCLR's paper has them; ValueError where torch has none: without GPUs."""
    if accelerator.num_processes == 1 or not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        return model
    if not torch.cuda.is_available():
        raise ValueError(
            f"workers={accelerator.num_processes}: torch does batch norms over several workers on GPUs only; without them take workers=1 "
            "or an encoder without batch norms, such as vit_tiny_patch16_224"
        )
    made: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return made


def early(config: TrainConfig) -> int:
    """After how many epochs a scorer is an early one: a fifth of them, at a checkpoint.

    Our choice, because learnability compares an early with a late scorer: by then what is common is learnt and what is rare is not.
    """
    every = config.checkpoint_every
    return min(math.ceil(config.epochs / 5 / every) * every, config.epochs)


def named(read: Read, positions: Sequence[int]) -> str:
    """The images at these positions by their ids, where the reader knows them; a few of many."""
    ids = read.ids(positions[:NAMED]) if isinstance(read, loader.Named) else [str(position) for position in positions[:NAMED]]
    more = f" and {len(positions) - NAMED} more" if len(positions) > NAMED else ""
    return f"the training images {', '.join(ids)}{more}"


@contextmanager
def room(config: TrainConfig) -> Iterator[None]:
    """Memory that does not suffice as one RuntimeError that says what to lower; all other errors as they are."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        each = math.ceil(config.batch / config.workers / config.accumulate)
        parts = f"accumulate={config.accumulate} or " if config.architecture == "mae" else ""  # SimCLR contrasts a whole batch
        raise RuntimeError(
            f"{each} images at a time do not fit into the memory of {devices.device()}: raise {parts}workers={config.workers}, "
            f"lower batch={config.batch}, or take precision=bf16 or a smaller model"
        ) from error


def throughput(config: TrainConfig, side: int) -> float:
    """Images a second of one device of this machine in `fit`, by a few epochs on made-up images of side x side px; nothing is kept.

    The first epoch does not count, because in it everything is met for the first time; of the others the median.
    """
    share, speeds = config.batch // config.workers, list[float]()
    epochs, steps = TRIED
    shorter = {"epochs": epochs, "warmup_epochs": 0, "batch": share, "workers": 1, "checkpoint_every": epochs, "checkpoint_steps": 0}
    coarse = np.random.default_rng(config.seed).integers(0, 256, (max(1, side // 16), max(1, side // 16), 3), np.uint8)
    jpeg = pictures.encode(np.asarray(cv2.resize(coarse, (side, side)), np.uint8), 95)  # about as many bytes as of tissue

    def note(metrics: dict[str, float], _: Path | None) -> None:
        speeds.append(metrics["images_per_s"])

    fit(lambda positions: [jpeg] * len(positions), share * steps, config.model_copy(update=shorter), resume=None, report=note)
    return median(speeds[1:])
