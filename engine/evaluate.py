"""Prove a pre-trained encoder: fine-tune it for segmentation and measure it on images it never saw.

How it is fine-tuned says finetune.py. Predictions are stretched back to the size of the stored mask before they are counted, as in
mmsegmentation, so scores of different input sides compare.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from engine import datasets, devices, pictures
from engine.datasets import IGNORE, Pair, Split
from engine.finetune import Report, quickly, train
from engine.models import EvaluateConfig, MAEConfig
from engine.scores import Marks, bootstrap, by_class, counted, intervals, mean_iou, missing, outline_distances, per_image
from engine.segmenters import Segmenter, ViT, segmenter


class Example(NamedTuple):
    """A test image with its truth and what the network drew."""

    name: str
    iou: float  # of the foreground, the mean over its classes
    image: np.ndarray  # (H, W, 3) uint8 RGB, as stored
    truth: np.ndarray  # (H, W) uint8 class numbers and IGNORE
    drawn: np.ndarray  # (H, W) uint8 class numbers


@dataclass(frozen=True)
class Result:
    """One fine-tuned network on the test part; scores are fractions, hd95 is in pixels of the stored images.

    miou: mean over background and classes of the IoU of all test pixels together, as mmsegmentation (and so the papers) report it. All
    others: means over the images, and within one over the classes, of the foreground's score, as the polyp literature reports them. A
    class that an image neither has nor is given scores 1, and 0 px. The 95 % intervals are bootstraps over the test images and know
    nothing of other seeds.
    """

    miou: float
    interval: tuple[float, float]  # of the mIoU
    iou: float
    dice: float
    precision: float
    recall: float
    hd95: float
    intervals: dict[str, tuple[float, float]]  # of all others, by name
    classes: dict[str, dict[str, float]]  # of every class by name: its means over the images, and iou_of_all of all pixels together
    missing: int  # how many classes of images count with the diagonal in hd95: drawn where there is nothing, or not drawn at all
    marks: Marks  # the test images and, in their order, their pixels
    per_image: dict[str, np.ndarray]  # iou, dice, precision, recall, hd95: (N, classes) float64
    curve: tuple[tuple[int, float], ...]  # iterations done, mean loss since the entry before
    examples: tuple[Example, ...]  # the best three, then the worst three; fewer of a small test part
    seed: int
    seconds: float  # of training and measuring


def evaluate(
    encoder_state: Mapping[str, Tensor] | None,
    vit: MAEConfig | ViT,
    split: Split,
    config: EvaluateConfig,
    seed: int,
    report: Report | None = None,
) -> Result:
    """Fine-tune on split.train, measure on split.test; on the first GPU if there is one.

    encoder_state None: no pre-training, the baseline. `vit` is asked for a DPT alone. The same seed gives the same decoder, batches
    and crops whatever the encoder's weights, and on a CPU the same numbers. ValueError for weights, sides or pairs that do not fit,
    FloatingPointError for a loss that is not a number.
    """
    started = perf_counter()
    datasets.check(split)
    device = devices.kind()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        model = segmenter(encoder_state, vit, config, len(split.classes)).to(device)
        curve = train(model, split.train, config, seed, report or (lambda step, metrics: None))
    marks, found = measured(model, split, config)
    return Result(
        miou=float(mean_iou(marks.counts.sum(0))),
        interval=bootstrap(marks.counts, seed),
        **{name: float(values.mean()) for name, values in found.items()},
        intervals=intervals(found, seed),
        classes=of_classes(split.classes, marks.counts, found),
        missing=int(missing(marks.counts).sum()),
        marks=marks,
        per_image=found,
        curve=tuple(curve),
        examples=tuple(examples(model, split.test, found["iou"].mean(1), config)),
        seed=seed,
        seconds=perf_counter() - started,
    )


def measured(model: Segmenter, split: Split, config: EvaluateConfig) -> tuple[Marks, dict[str, np.ndarray]]:
    """The pixels of every test image, and every score (N, classes) of it."""
    counts, distances, classes = [], [], len(split.classes)
    for pair, drawn in drawn_masks(model, split.test, config):
        truth = datasets.truth(pair)
        counts.append(counted(drawn, truth, classes))
        distances.append(outline_distances(drawn, truth, classes))
    marks = Marks(tuple(pair.name for pair in split.test), np.stack(counts))
    return marks, per_image(marks.counts) | {"hd95": np.stack(distances)}


def of_classes(names: Sequence[str], counts: np.ndarray, found: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Every measure of every class, as a mean over images, and the IoU of all pixels of the class together.

    `counts` (N, 1 + C, 4), `found` by measure (N, C).
    """
    hit, false, missed, _ = by_class(counts)[:, 1:].sum(0).T
    together = hit / np.maximum(hit + false + missed, 1)
    return {
        name: {measure: float(values[:, place].mean()) for measure, values in found.items()} | {"iou_of_all": float(together[place])}
        for place, name in enumerate(names)
    }


def drawn_masks(model: Segmenter, pairs: Sequence[Pair], config: EvaluateConfig) -> Iterator[tuple[Pair, np.ndarray]]:
    """Every pair with the class numbers (height, width) uint8 that the model draws, in the size of the stored image."""
    device = next(model.parameters()).device
    model.eval()
    for start in range(0, len(pairs), config.batch):
        some = pairs[start : start + config.batch]
        stored = [datasets.image_of(pair) for pair in some]
        images = np.stack([datasets.scaled(image, config.side) for image in stored])
        with torch.inference_mode(), quickly(config.model_copy(update={"precision": "float32"}), device.type):
            logits = model(torch.from_numpy(images).permute(0, 3, 1, 2).to(device).float() / 255).float().cpu().numpy()
        for pair, image, maps in zip(some, stored, logits, strict=True):
            yield pair, numbered([cv2.resize(one, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) for one in maps])


def numbered(maps: Sequence[np.ndarray]) -> np.ndarray:
    """The class numbers (H, W) uint8 of logits (H, W): one map is the foreground's, of several the highest is taken."""
    return np.asarray((maps[0] > 0) if len(maps) == 1 else np.argmax(maps, axis=0), np.uint8)


def examples(model: Segmenter, pairs: Sequence[Pair], iou: np.ndarray, config: EvaluateConfig) -> Iterator[Example]:
    """The three best and the three worst of the test part (never one twice), best first. `iou` (N,), of each pair."""
    order = [int(position) for position in np.argsort(-iou, kind="stable")]
    shown = order if len(order) <= 6 else [*order[:3], *order[-3:]]
    for position, (pair, drawn) in zip(shown, drawn_masks(model, [pairs[place] for place in shown], config), strict=True):
        yield Example(pair.name, float(iou[position]), datasets.image_of(pair), datasets.truth(pair), drawn)


def overlay(image: np.ndarray, truth: np.ndarray, drawn: np.ndarray) -> bytes:
    """The image as JPEG, longest side 256, every class outlined, the truth in blue and what was drawn in yellow; what is ignored is dim.

    Image (H, W, 3), the others (H, W) class numbers.
    """
    zoom = 256 / max(image.shape[:2])
    size = tuple(max(1, round(length * zoom)) for length in image.shape[1::-1])
    canvas = cv2.resize(np.where((truth == IGNORE)[..., None], image // 3, image), size, interpolation=cv2.INTER_AREA)
    for numbers, colour in ((np.where(truth == IGNORE, 0, truth), (0, 170, 255)), (drawn, (255, 220, 0))):
        small = cv2.resize(numbers.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        for number in np.unique(small[small > 0]):
            outlines, _ = cv2.findContours((small == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, outlines, -1, colour, 2)
    return pictures.encode(canvas, 90)
