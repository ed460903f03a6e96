"""Prove a pre-trained encoder: fine-tune it for segmentation and measure it on images it never saw.

Recipe: mmsegmentation's dpt_vit-b16 (AdamW, linear warm-up, polynomial decay; METHODS.md section 3), for the U-Net too. One logit with
binary cross-entropy, which is mmsegmentation's cross-entropy of two classes in other variables. Predictions are stretched back to the size
of the stored mask before they are counted, as there, so scores of different input sides compare.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine import datasets, pictures
from engine.config import EvaluateConfig
from engine.datasets import Pair, Split
from engine.models import MAEConfig, ViTSize
from engine.scores import Marks, bootstrap, counted, mean_iou, per_image
from engine.segmenters import Segmenter, segmenter

Report = Callable[[int, dict[str, float]], None]  # iterations done, {"loss", "lr"}; about a hundred times a run

MEMORY = 2**30  # bytes of decoded training pairs kept: 5,000 at 224 px
AHEAD = 3  # batches read while one is trained on
CROP = (0.5, 1.0)  # of the area; mmsegmentation zooms by 0.5 to 2 and crops. Our choice, like both flips: a colon has no up


class Example(NamedTuple):
    name: str
    iou: float  # of the foreground
    image: np.ndarray  # (H, W, 3) uint8 RGB, as stored
    truth: np.ndarray  # (H, W) bool, like the next
    drawn: np.ndarray


@dataclass(frozen=True)
class Result:
    """One fine-tuned network on the test part; scores are fractions.

    miou: mean over the classes background and foreground of the IoU of all test pixels together, as mmsegmentation (and so the papers)
    report it; its 95 % interval is a bootstrap over the test images and knows nothing of other seeds. All others: means over the images
    of the foreground's score, as the polyp literature reports them.
    """

    miou: float
    interval: tuple[float, float]  # 95 %, of the mIoU
    iou: float
    dice: float
    precision: float
    recall: float
    marks: Marks  # the test images and, in their order, (N, 4) int64 pixels: true and false positive, false and true negative
    per_image: dict[str, np.ndarray]  # iou, dice, precision, recall: (N,) float64
    curve: tuple[tuple[int, float], ...]  # iterations done, mean loss since the entry before
    examples: tuple[Example, ...]  # the best three, then the worst three; fewer of a small test part
    seed: int
    seconds: float  # of training and measuring


def evaluate(
    encoder_state: Mapping[str, Tensor] | None,
    mae_size: MAEConfig | ViTSize,
    split: Split,
    config: EvaluateConfig,
    seed: int,
    report: Report | None = None,
) -> Result:
    """Fine-tune on split.train, measure on split.test; on the first GPU if there is one.

    encoder_state None: no pre-training, the baseline. A bare size means tokens of 16 px (huge: 14). The same seed gives the same decoder,
    batches and crops whatever the encoder's weights, and on a CPU the same numbers. ValueError for weights, sides or pairs that do not
    fit, FloatingPointError for a loss that is not a number.
    """
    started = perf_counter()
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        torch.manual_seed(seed)
        model = segmenter(encoder_state, as_mae(mae_size), config).to("cuda" if cuda else "cpu")
        curve = train(model, split.train, config, seed, report or (lambda step, metrics: None))
    counts = np.stack([counted(drawn, datasets.truth(pair) == 1) for pair, drawn in drawn_masks(model, split.test, config)])
    scores = per_image(counts)
    return Result(
        miou=float(mean_iou(counts.sum(0))),
        interval=bootstrap(counts, seed),
        **{name: float(values.mean()) for name, values in scores.items()},
        marks=Marks(tuple(pair.name for pair in split.test), counts),
        per_image=scores,
        curve=tuple(curve),
        examples=tuple(examples(model, split.test, scores["iou"], config)),
        seed=seed,
        seconds=perf_counter() - started,
    )


def as_mae(mae_size: MAEConfig | ViTSize) -> MAEConfig:
    return mae_size if isinstance(mae_size, MAEConfig) else MAEConfig(size=mae_size, token=14 if mae_size == "huge" else 16)


def train(model: Segmenter, pairs: Sequence[Pair], config: EvaluateConfig, seed: int, report: Report) -> list[tuple[int, float]]:
    """Fine-tune `model` in place; the curve of its loss."""
    device = next(model.parameters()).device
    optimiser = optimiser_of(model, config)
    every = max(1, config.iterations // 100)
    curve: list[tuple[int, float]] = []
    losses: list[Tensor] = []
    model.train()
    for step, (images, masks) in enumerate(batches(pairs, config, seed)):
        for group in optimiser.param_groups:
            group["lr"] = rate(step, config)
        images, masks = augmented(images.to(device).float() / 255, masks.to(device).float(), np.random.default_rng((seed, 0, step)))
        loss = F.binary_cross_entropy_with_logits(model(images), masks)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.detach())
        if (step + 1) % every == 0 or step + 1 == config.iterations:
            curve.append((step + 1, finite_mean(losses, step, config)))
            report(step + 1, {"loss": curve[-1][1], "lr": rate(step, config)})
            losses.clear()
    return curve


def finite_mean(losses: list[Tensor], step: int, config: EvaluateConfig) -> float:
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss is not a number at iteration {step + 1}: lower evaluate.lr={config.lr}")
    return mean


def optimiser_of(model: Segmenter, config: EvaluateConfig) -> torch.optim.AdamW:
    """AdamW; biases, norms (everything with one axis), pos_embed and cls_token do not decay."""
    named = [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]
    spared = {name for name, weights in named if weights.ndim < 2 or name.endswith(("pos_embed", "cls_token"))}
    groups = [
        {"params": [weights for name, weights in named if name not in spared], "weight_decay": config.weight_decay},
        {"params": [weights for name, weights in named if name in spared], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.999))


def rate(step: int, config: EvaluateConfig) -> float:
    """The learning rate of a step: a line from lr * 1e-6 up to lr over the warm-up, then a line down to 0 (poly, power 1)."""
    if step < config.warmup:
        return config.lr * (1e-6 + (1 - 1e-6) * step / config.warmup)
    return config.lr * (1 - (step - config.warmup) / (config.iterations - config.warmup))


def batches(pairs: Sequence[Pair], config: EvaluateConfig, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The images (B, 3, side, side) and masks (B, 1, side, side) uint8 of every iteration, read ahead."""

    @lru_cache(maxsize=MEMORY // (4 * config.side**2))
    def loaded(position: int) -> tuple[np.ndarray, np.ndarray]:
        image, labels = datasets.load(pairs[position], config.side)
        return image, labels == 1

    def read(step: int) -> tuple[Tensor, Tensor]:
        images, masks = zip(*map(loaded, turns(len(pairs), config.batch, seed, step)), strict=True)
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(masks))[:, None]

    with ThreadPoolExecutor(AHEAD) as pool:
        waiting = deque(pool.submit(read, step) for step in range(min(AHEAD, config.iterations)))
        for step in range(config.iterations):
            ready = waiting.popleft().result()
            if step + AHEAD < config.iterations:
                waiting.append(pool.submit(read, step + AHEAD))
            yield ready


def turns(count: int, batch: int, seed: int, step: int) -> list[int]:
    """The positions of one batch: shuffled passes over all `count`, one after the other; a function of (seed, step)."""
    first = step * batch
    passes = {
        turn: np.random.default_rng((seed, 1, turn)).permutation(count) for turn in range(first // count, (first + batch - 1) // count + 1)
    }
    return [int(passes[place // count][place % count]) for place in range(first, first + batch)]


def augmented(images: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A random crop of every image, scaled back to its size, and both flips; the mask goes the same way."""
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
    return seen, F.grid_sample(masks, grid, mode="nearest", padding_mode="border", align_corners=False)


def drawn_masks(model: Segmenter, pairs: Sequence[Pair], config: EvaluateConfig) -> Iterator[tuple[Pair, np.ndarray]]:
    """Every pair with the mask (height, width) bool that the model draws, in the size of the stored image."""
    device = next(model.parameters()).device
    model.eval()
    for start in range(0, len(pairs), config.batch):
        some = pairs[start : start + config.batch]
        stored = [datasets.image_of(pair) for pair in some]
        images = np.stack([datasets.scaled(image, config.side) for image in stored])
        with torch.inference_mode():
            logits = model(torch.from_numpy(images).permute(0, 3, 1, 2).to(device).float() / 255)[:, 0].float().cpu().numpy()
        for pair, image, values in zip(some, stored, logits, strict=True):
            yield pair, cv2.resize(values, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0


def examples(model: Segmenter, pairs: Sequence[Pair], iou: np.ndarray, config: EvaluateConfig) -> Iterator[Example]:
    """The three best and the three worst of the test part (never one twice), best first."""
    order = [int(position) for position in np.argsort(-iou, kind="stable")]
    shown = order if len(order) <= 6 else [*order[:3], *order[-3:]]
    for position, (pair, drawn) in zip(shown, drawn_masks(model, [pairs[place] for place in shown], config), strict=True):
        yield Example(pair.name, float(iou[position]), datasets.image_of(pair), datasets.truth(pair) == 1, drawn)


def overlay(image: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> bytes:
    """The image as JPEG, longest side 256, with the outline of the truth in blue and of the drawn mask in yellow."""
    zoom = 256 / max(image.shape[:2])
    size = tuple(max(1, round(length * zoom)) for length in image.shape[1::-1])
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for mask, colour in ((truth, (0, 170, 255)), (drawn, (255, 220, 0))):
        small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, colour, 2)
    return pictures.encode(canvas, 90)
