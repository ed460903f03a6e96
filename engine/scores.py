"""How well a mask was drawn, from counts of pixels: mIoU, Dice, and what chance leaves of a difference."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

DRAWS = 1000  # of the bootstrap
TWOFOLD = 4000  # of the one over seeds and images, whose p-values go down to 1 / 2000
Measured = tuple[float, float, float]  # a mean and its 95 % interval, low and high


def counted(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(4,) pixels: true positive, false positive, false negative, true negative."""
    return np.array([(predicted & truth).sum(), (predicted & ~truth).sum(), (~predicted & truth).sum(), (~predicted & ~truth).sum()])


def per_image(counts: np.ndarray) -> dict[str, np.ndarray]:
    """IoU, Dice, precision and recall of the foreground for counts (N, 4).

    Nothing to find and nothing found scores 1 in all four; otherwise a score without a denominator is 0. So Dice = 2 IoU / (1 + IoU),
    and Dice is the harmonic mean of precision and recall, always.
    """
    hit, false, missed, _ = counts.T
    empty = hit + false + missed == 0
    return {
        "iou": share(hit, hit + false + missed, empty),
        "dice": share(2 * hit, 2 * hit + false + missed, empty),
        "precision": share(hit, hit + false, empty),
        "recall": share(hit, hit + missed, empty),
    }


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """The mean IoU of background and foreground for counts (..., 4); a class that neither has nor is given a pixel scores 1."""
    hit, false, missed, rest = np.moveaxis(counts, -1, 0)
    classes = [share(inside, inside + false + missed, inside + false + missed == 0) for inside in (hit, rest)]
    return np.asarray(np.mean(classes, axis=0))


def share(part: np.ndarray, whole: np.ndarray, perfect: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(perfect, 1.0, part / np.maximum(whole, 1)))


def bootstrap(counts: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mIoU: percentiles over DRAWS test parts drawn from the images (N, 4) with replacement."""
    low, high = np.percentile(mean_iou(redrawn(len(counts), seed) @ counts), [2.5, 97.5])
    return float(low), float(high)


class Marks(NamedTuple):
    """What one network scored on every test image."""

    names: tuple[str, ...]
    counts: np.ndarray  # (N, 4)


def advantage(first: Sequence[Marks], second: Sequence[Marks], seed: int = 0) -> tuple[float, float, float]:
    """The mIoU of `first` over `second`, a network of each per training seed, and its 95 % interval by a paired bootstrap.

    Both of a pair see the same images, so this is sharper than comparing two intervals; ValueError where they do not. It knows nothing
    of seeds that were not run.
    """
    if [one.names for one in first] != [one.names for one in second]:
        raise ValueError("the two results are of different test images, so their difference means nothing")
    drawn, seen = [], []
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        times = redrawn(len(one.names), seed + number)
        drawn.append(mean_iou(times @ one.counts) - mean_iou(times @ other.counts))
        seen.append(mean_iou(one.counts.sum(0)) - mean_iou(other.counts.sum(0)))
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    return float(np.mean(seen)), float(low), float(high)


def redrawn(count: int, seed: int) -> np.ndarray:
    """(DRAWS, count): how often each of `count` images is in each drawn test part."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)


# -- over seeds -----------------------------------------------------------------------------------------------------------------


def over_seeds(values: Sequence[float]) -> Measured:
    """The mean and its 95 % interval by Student's t, within 0 and 1; of one seed its value thrice."""
    mean = fmean(values)
    reach = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return mean, max(mean - reach, 0.0), min(mean + reach, 1.0)


class Contrast(NamedTuple):
    """The mIoU of one over another: `p` is two-sided and not yet corrected for how many were compared, `ahead` the seeds that agree."""

    difference: float
    low: float
    high: float
    p: float
    ahead: int
    seeds: int


def contrast(first: Sequence[Marks], second: Sequence[Marks], seed: int = 0) -> Contrast:
    """The mIoU of `first` over `second`, networks paired by seed and image, by a hierarchical bootstrap over both.

    Seeds are drawn with replacement, and of each drawn one its images; both of a pair see the same draw. The interval are percentiles of
    TWOFOLD such means, p is twice the share of them on the other side of 0. Of S seeds it is too narrow, by up to sqrt((S - 1) / S),
    which no bootstrap can mend: `ahead` says how far the seeds agree. ValueError where the images differ.
    """
    if not first or [one.names for one in first] != [one.names for one in second]:
        raise ValueError("the two results are of different test images, so their difference means nothing")
    rng, many = np.random.default_rng(seed), len(first)
    seen = np.array([mean_iou(one.counts.sum(0)) - mean_iou(other.counts.sum(0)) for one, other in zip(first, second, strict=True)])
    picked = rng.integers(many, size=(TWOFOLD, many))
    drawn = np.empty(picked.shape)
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        places = np.nonzero(picked == number)
        times = rng.multinomial(len(one.names), np.full(len(one.names), 1 / len(one.names)), size=len(places[0]))
        drawn[places] = mean_iou(times @ one.counts) - mean_iou(times @ other.counts)
    means = drawn.mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    beyond = min(np.sum(means <= 0), np.sum(means >= 0))
    p = min(1.0, 2 * float(beyond + 1) / (TWOFOLD + 1))
    return Contrast(float(seen.mean()), float(low), float(high), p, int(np.sum(seen > 0)), many)


def holm(values: Sequence[float]) -> list[float]:
    """The p-values corrected by Holm (1979) for their number, in the same order: below 0.05 each then holds with all others."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(np.argsort(values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted
