"""Pre-train a masked autoencoder on training images, or SimCLR on crops: plain torch under accelerate, with or without Ray around it.

What an image goes through depends on (seed, epoch, position) alone, and so does the order, so the loss curve is the same however
many workers share a batch, and after a resume. Recipe: facebookresearch/mae main_pretrain.py.
"""

import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator

from engine import loader, mae, pictures, simclr, views
from engine.config import TrainConfig
from engine.loader import Key, Read
from engine.models import SimCLRConfig

TRIED = (3, 6)  # epochs and steps in each of them by which the throughput is measured: a minute or two for ViT-B on two processors

Report = Callable[[dict[str, float], Path | None], None]


def fit(read: Read, count: int, config: TrainConfig, *, resume: Path | None, report: Report) -> mae.MAE:
    """Train on the `count` images that `read` gives; returns the model, and reports every epoch's mean loss and its images a second.

    report(metrics, folder): folder holds the checkpoint (rank 0, every checkpoint_every epochs and the last). `resume` is such a
    folder. images_per_s are those of one device, with all that it waits for. ValueError for too few images, FloatingPointError for a
    loss that is not a number.
    """
    if count < config.workers:
        raise ValueError(f"{count} training images are fewer than pretrain.workers={config.workers}: choose a larger budget")
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.precision)
    torch.manual_seed(config.seed)
    bare = mae.MAE(config.mae)
    model, optimiser = accelerator.prepare(bare, optimiser_of(bare, config))
    first = restore(resume, bare, optimiser, accelerator) if resume else 0
    steps = math.ceil(count / config.batch)
    for epoch in range(first, config.epochs):
        began = time.perf_counter()
        loss = train_epoch(model, optimiser, accelerator, batches(read, count, config, epoch, accelerator), (config, epoch, steps))
        speed = count / accelerator.num_processes / (time.perf_counter() - began)
        metrics = {"epoch": epoch, "loss": loss, "lr": rate(config, epoch + 1.0), "images_per_s": speed}
        finish_epoch(bare, optimiser, accelerator, metrics, config, report)
    return bare


def train_epoch(model: Any, optimiser: Any, accelerator: Accelerator, data: Iterator[Any], when: tuple[TrainConfig, int, int]) -> float:
    """One pass over `data`; the mean loss per image over all workers."""
    config, epoch, steps = when
    model.train()
    total = torch.zeros(2, dtype=torch.float64)
    for step, (images, noise) in enumerate(data):
        for group in optimiser.param_groups:
            group["lr"] = rate(config, epoch + step / steps)
        losses, _, _ = model(images.to(accelerator.device), noise.to(accelerator.device))
        if not torch.isfinite(losses).all():
            raise FloatingPointError(f"the loss is not a number in epoch {epoch}, step {step}: lower base_lr={config.base_lr}")
        accelerator.backward(losses.mean())
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        total += torch.tensor([losses.detach().double().sum().item(), len(losses)], dtype=torch.float64)
    summed = accelerator.reduce(total.float().to(accelerator.device), reduction="sum")
    return float(summed[0] / summed[1])


def batches(
    read: Read, count: int, config: TrainConfig, epoch: int, accelerator: Accelerator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(images (b, 3, side, side), noise (b, tokens)) of this worker: every n-th image of each global batch."""
    share = loader.Share(count, config.batch, config.seed, accelerator.process_index, accelerator.num_processes)
    for seen in loader.load(read, partial(see, config), share, epoch):
        views, noise = zip(*seen, strict=True)
        yield mae.normalise(np.stack(views)), torch.from_numpy(np.stack(noise))


def see(config: TrainConfig, jpeg: bytes, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """What is seen of an image in an epoch: its augmented view (side, side, 3) uint8, and the noise (tokens,) that masks it."""
    rng = np.random.default_rng([config.seed, *key])
    return augment(pictures.decode(jpeg), config, rng), rng.random(config.mae.tokens, dtype=np.float32)


def augment(image: np.ndarray, config: TrainConfig, rng: np.random.Generator) -> np.ndarray:
    """RandomResizedCrop with scale (min_crop, 1) and ratio (3/4, 4/3), then a flip: (side, side, 3) uint8."""
    return views.flipped(views.resized_crop(image, config.mae.side, config.min_crop, rng), rng)


def throughput(config: TrainConfig, side: int) -> float:
    """Images a second of one device of this machine in `fit`, by a few epochs on made-up images of side x side px; nothing is kept.

    The first epoch does not count, because in it everything is met for the first time; of the others the median.
    """
    share, speeds = config.batch // config.workers, list[float]()
    epochs, steps = TRIED
    shorter = {"epochs": epochs, "warmup_epochs": 0, "batch": share, "workers": 1, "checkpoint_every": epochs}
    coarse = np.random.default_rng(config.seed).integers(0, 256, (max(1, side // 16), max(1, side // 16), 3), np.uint8)
    jpeg = pictures.encode(np.asarray(cv2.resize(coarse, (side, side)), np.uint8), 95)  # about as many bytes as of tissue

    def note(metrics: dict[str, float], _: Path | None) -> None:
        speeds.append(metrics["images_per_s"])

    fit(lambda positions: [jpeg] * len(positions), share * steps, config.model_copy(update=shorter), resume=None, report=note)
    return median(speeds[1:])


def device() -> str:
    """What a training runs on here, by name: the GPU, or the processors in its place."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} processors {model}, no GPU"


def fit_simclr(read: Read, count: int, config: TrainConfig, shape: SimCLRConfig, report: Report) -> simclr.SimCLR:
    """Train SimCLR in this process on the `count` images that `read` gives, and fill its bank from them; reports as `fit` does.

    A folder comes once, with the early model. The recipe is the masked autoencoder's, AdamW for the paper's LARS, which is for batches
    of thousands. ValueError for fewer than two images, which leave nothing to contrast, FloatingPointError for a loss that is no number.
    """
    if count < 2:
        raise ValueError(f"{count} training images leave nothing to contrast, expected two at least")
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.precision)
    torch.manual_seed(config.seed)
    bare = simclr.SimCLR(shape)
    model, optimiser = accelerator.prepare(bare, optimiser_of(bare, config))
    for epoch in range(config.epochs):
        data = loader.load(read, partial(two_views, config.seed, shape.side), loader.Share(count, config.batch, config.seed), epoch)
        loss = contrast_epoch(model, optimiser, accelerator, data, (config, epoch, math.ceil(count / config.batch)))
        if epoch + 1 in (early(config), config.epochs):
            simclr.remember(bare, read(range(count)), config.seed, config.batch)
        with tempfile.TemporaryDirectory() as folder:
            if kept := epoch + 1 == early(config):
                simclr.save(bare, str(Path(folder) / "model.safetensors"))
            report({"epoch": epoch, "loss": loss, "lr": rate(config, epoch + 1.0)}, Path(folder) if kept else None)
    return bare.cpu()


def contrast_epoch(model: Any, optimiser: Any, accelerator: Accelerator, data: Iterator[Any], when: tuple[TrainConfig, int, int]) -> float:
    """One pass over `data`, pairs of views (2, side, side, 3); the mean loss per view."""
    config, epoch, steps = when
    model.train()
    total, seen = 0.0, 0
    for step, pairs in enumerate(data):
        for group in optimiser.param_groups:
            group["lr"] = rate(config, epoch + step / steps)
        images = mae.normalise(np.stack(pairs, axis=1).reshape(-1, *pairs[0].shape[1:]))  # all first views, then all second ones
        a, b = model(images.to(accelerator.device)).float().chunk(2)
        losses = simclr.nt_xent(a, b, model.config.temperature)
        if not torch.isfinite(losses).all():
            raise FloatingPointError(f"the loss is not a number in epoch {epoch}, step {step}: lower base_lr={config.base_lr}")
        accelerator.backward(losses.mean())
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        total, seen = total + losses.detach().double().sum().item(), seen + len(losses)
    return total / seen


def two_views(seed: int, side: int, jpeg: bytes, key: Key) -> np.ndarray:
    """(2, side, side, 3) uint8."""
    picture, rng = pictures.decode(jpeg), np.random.default_rng([seed, *key])
    return np.stack([views.view(picture, side, rng) for _ in range(2)])


def early(config: TrainConfig) -> int:
    """After how many epochs a scorer is an early one: a fifth of them, at a checkpoint.

    Our choice, because learnability compares an early with a late scorer: by then what is common is learnt and what is rare is not.
    """
    every = config.checkpoint_every
    return min(math.ceil(config.epochs / 5 / every) * every, config.epochs)


def rate(config: TrainConfig, epoch: float) -> float:
    """Learning rate: linear warm-up, then half a cosine to zero; base_lr counts for 256 images."""
    peak = config.base_lr * config.batch / 256
    if epoch < config.warmup_epochs:
        return peak * epoch / config.warmup_epochs
    done = (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
    return peak * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def optimiser_of(model: torch.nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with betas (0.9, 0.95); biases, norms and tokens do not decay."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    decays = [weight for name, weight in named if weight.ndim > 1 and not name.endswith("token")]
    free = [weight for name, weight in named if weight.ndim <= 1 or name.endswith("token")]
    groups = [{"params": decays, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate(config, 0.0), betas=(0.9, 0.95))


def finish_epoch(
    model: mae.MAE, optimiser: Any, accelerator: Accelerator, metrics: dict[str, float], config: TrainConfig, report: Report
) -> None:
    """Report the epoch on every worker, with a checkpoint from the first one when it is due."""
    epoch = int(metrics["epoch"])
    due = (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs
    with tempfile.TemporaryDirectory() as folder:
        saved = due and accelerator.is_main_process
        if saved:
            mae.save(model, str(Path(folder) / "model.safetensors"))
            state = {"epoch": epoch + 1, "fingerprint": config.fingerprint(), "optimiser": optimiser.optimizer.state_dict()}
            torch.save(state, Path(folder) / "state.pt")
        report(metrics, Path(folder) if saved else None)


def restore(folder: Path, model: mae.MAE, optimiser: Any, accelerator: Accelerator) -> int:
    """Load a checkpoint into model and optimiser; returns the epoch to go on with."""
    state = torch.load(folder / "state.pt", map_location=accelerator.device, weights_only=True)
    model.load_state_dict(mae.load(str(folder / "model.safetensors"), model.config).state_dict())
    optimiser.optimizer.load_state_dict(state["optimiser"])
    return int(state["epoch"])
