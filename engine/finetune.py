"""Train a segmenter on image and mask pairs: batches read ahead, crops and flips, an optimiser, its rate and a loss by recipe.

The default recipe is mmsegmentation's dpt_vit-b16 (AdamW, linear warm-up, polynomial decay), for a U-Net too; one logit with binary
cross-entropy is mmsegmentation's cross-entropy of two classes in other variables.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine import datasets, loader, losses
from engine.datasets import Pair
from engine.models import EvaluateConfig
from engine.products import ByOneDNN
from engine.segmenters import Segmenter

Report = Callable[[int, dict[str, float]], None]  # iterations done, {"loss", "lr"}; about a hundred times a run

MEMORY = 2**30  # bytes of decoded training pairs kept: 5,000 at 224 px
AHEAD = 3  # batches read while one is trained on
CROP = (0.5, 1.0)  # of the area; mmsegmentation zooms by 0.5 to 2 and crops. Our choice, like both flips: a colon has no up


def train(model: Segmenter, pairs: Sequence[Pair], config: EvaluateConfig, seed: int, report: Report) -> list[tuple[int, float]]:
    """Fine-tune `model` in place; the curve of its loss. FloatingPointError where it is no number, ValueError for a warm-up too long."""
    device, steps = next(model.parameters()).device, config.steps(len(pairs))
    optimiser = optimiser_of(model, config)
    every = max(1, steps // 100)
    curve: list[tuple[int, float]] = []
    seen: list[Tensor] = []
    model.train()
    for step, (images, labels) in enumerate(batches(pairs, config, seed, steps)):
        for group in optimiser.param_groups:
            group["lr"] = rate(step, config, steps)
        images, labels = augmented(images.to(device).float() / 255, labels.to(device).float(), np.random.default_rng((seed, 0, step)))
        with quickly(config, device.type):
            logits = model(images)
        loss = losses.loss(logits, labels[:, 0].long(), config)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seen.append(loss.detach())
        if (step + 1) % every == 0 or step + 1 == steps:
            curve.append((step + 1, finite_mean(seen, step, config)))
            report(step + 1, {"loss": curve[-1][1], "lr": rate(step, config, steps)})
            seen.clear()
    return curve


def finite_mean(seen: list[Tensor], step: int, config: EvaluateConfig) -> float:
    """The mean of the losses since the last report; FloatingPointError, with what to lower, where it is no number. Of scalars."""
    mean = float(torch.stack(seen).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss is not a number at iteration {step + 1}: lower evaluate.lr={config.lr}")
    return mean


def quickly(config: EvaluateConfig, device: str) -> AbstractContextManager[object]:
    """The forward pass in config.precision, and on a CPU by what computes it fastest there (notebooks/LOG.md).

    In bfloat16 that is attention in steps: the gradient of torch's fused one took a quarter of all the time.
    """
    if config.precision == "float32":
        return ByOneDNN() if device == "cpu" else nullcontext()
    both = ExitStack()
    both.enter_context(torch.autocast(device, torch.bfloat16))
    if device == "cpu":
        both.enter_context(sdpa_kernel(SDPBackend.MATH))
    return both


def optimiser_of(model: Segmenter, config: EvaluateConfig) -> torch.optim.Optimizer:
    """SGD, which decays every weight; or AdamW: biases, norms (everything with one axis), pos_embed and cls_token do not decay."""
    named = [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]
    if config.optimiser == "sgd":
        every = [weights for _, weights in named]
        return torch.optim.SGD(every, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)
    spared = {name for name, weights in named if weights.ndim < 2 or name.endswith(("pos_embed", "cls_token"))}
    groups = [
        {"params": [weights for name, weights in named if name not in spared], "weight_decay": config.weight_decay},
        {"params": [weights for name, weights in named if name in spared], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.999), fused=True)


def rate(step: int, config: EvaluateConfig, steps: int) -> float:
    """The learning rate of a step of `steps`: a line from lr * 1e-6 up to lr over the warm-up, then down to 0 by a polynomial."""
    if step < config.warmup:
        return config.lr * (1e-6 + (1 - 1e-6) * step / config.warmup)
    left: float = (1 - (step - config.warmup) / (steps - config.warmup)) ** config.power
    return config.lr * left


def batches(pairs: Sequence[Pair], config: EvaluateConfig, seed: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The images (B, 3, side, side) and class numbers (B, 1, side, side) uint8 of every iteration, read ahead."""

    @lru_cache(maxsize=MEMORY // (4 * config.side**2))
    def loaded(position: int) -> tuple[np.ndarray, np.ndarray]:
        return datasets.load(pairs[position], config.side)

    def read(step: int) -> tuple[Tensor, Tensor]:
        images, labels = zip(*map(loaded, turns(len(pairs), config.batch, seed, step)), strict=True)
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(labels))[:, None]

    return loader.ahead(range(steps), read, AHEAD, AHEAD)


def turns(count: int, batch: int, seed: int, step: int) -> list[int]:
    """The positions of one batch: shuffled passes over all `count`, one after the other; a function of (seed, step)."""
    first = step * batch
    passes = {
        turn: np.random.default_rng((seed, 1, turn)).permutation(count) for turn in range(first // count, (first + batch - 1) // count + 1)
    }
    return [int(passes[place // count][place % count]) for place in range(first, first + batch)]


def augmented(images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A random crop of every image, scaled back to its size, and both flips; its class numbers go the same way, none between two.

    Images (B, 3, H, W), labels (B, H, W).
    """
    count = len(images)
    area, stretch = rng.uniform(*CROP, count), np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), count))
    scale = np.minimum(1, np.sqrt([area * stretch, area / stretch]))  # (2, B): width and height as shares
    shift = rng.uniform(-1, 1, (2, count)) * (1 - scale)
    scale = scale * rng.choice([-1, 1], (2, count))
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1] = scale
    theta[:, :, 2] = shift.T
    grid = F.affine_grid(torch.from_numpy(theta).to(images.device), list(images.shape), align_corners=False)
    seen = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return seen, F.grid_sample(labels, grid, mode="nearest", padding_mode="border", align_corners=False)
