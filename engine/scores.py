"""How well masks were drawn: scores from counts of pixels, the distance of outlines, and what chance leaves of a difference.

N images, C classes and the background before them, so that a class number is its place. Pixels whose truth is IGNORE count nowhere.

Our own numpy and scipy, held to torchmetrics 1.9 by the tests, and not torchmetrics itself: paired bootstraps need the counts of every
image, where it keeps sums or scores; an ignored pixel must count nowhere in every measure, outlines among them; counts once taken give all
scores and any redraw of the images, with no pass over the pixels for each metric; and its `hausdorff_distance` takes the height for the
width, so that of pictures that are not square equal masks lie pixels apart (notebooks/LOG.md).
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree
from scipy.stats import chi2, norm
from scipy.stats import t as student

from engine.datasets import IGNORE

DRAWS = 1000  # of the bootstrap
LEAST = 1e-300  # p
Measured = tuple[float, float, float]  # a mean and its 95 % interval, low and high


def counted(drawn: np.ndarray, truth: np.ndarray, classes: int = 1) -> np.ndarray:
    """(1 + classes, 4) pixels of an image: true positive, false positive, false negative, true negative of every class, from class numbers.

    A class number above `classes` is a bug or a mask of something else: ValueError.
    """
    counts, kinds = truth != IGNORE, classes + 1
    pairs = kinds * truth[counts].astype(np.int64) + drawn[counts]
    found = np.bincount(pairs, minlength=kinds**2)
    if len(found) > kinds**2 or (counts.any() and drawn[counts].max() > classes):
        raise ValueError(f"class numbers up to {max(truth[counts].max(), drawn[counts].max())}, expected {classes} at most")
    confused = found.reshape(kinds, kinds)  # [true, drawn]
    hit, drawn_as, true = np.diag(confused), confused.sum(0), confused.sum(1)
    return np.stack([hit, drawn_as - hit, true - hit, counts.sum() - drawn_as - true + hit], axis=1)


def by_class(counts: np.ndarray) -> np.ndarray:
    """(N, 1 + C, 4) of counts as they are kept; (N, 4), as runs of one class kept them before, are of the foreground alone."""
    return counts if counts.ndim == 3 else np.stack([counts[:, [3, 2, 1, 0]], counts], axis=1)


def per_image(counts: np.ndarray) -> dict[str, np.ndarray]:
    """IoU, Dice, precision and recall of every image and class, (N, C) each, for counts (N, 1 + C, 4); the background is none.

    Nothing to find and nothing found scores 1 in all four; otherwise a score without a denominator is 0. So Dice = 2 IoU / (1 + IoU),
    and Dice is the harmonic mean of precision and recall, always.
    """
    hit, false, missed, _ = np.moveaxis(by_class(counts)[:, 1:], -1, 0)
    empty = hit + false + missed == 0
    return {
        "iou": share(hit, hit + false + missed, empty),
        "dice": share(2 * hit, 2 * hit + false + missed, empty),
        "precision": share(hit, hit + false, empty),
        "recall": share(hit, hit + missed, empty),
    }


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """(...,) the mean IoU of all classes, background too, of counts (..., 1 + C, 4); a class that neither has nor is given a pixel: 1."""
    hit, false, missed, _ = np.moveaxis(counts, -1, 0)
    return np.asarray(share(hit, hit + false + missed, hit + false + missed == 0).mean(-1))


def share(part: np.ndarray, whole: np.ndarray, perfect: np.ndarray) -> np.ndarray:
    """The share of a whole, 1 where `perfect`, for counts of any one shape."""
    return np.asarray(np.where(perfect, 1.0, part / np.maximum(whole, 1)))


def outline_distances(drawn: np.ndarray, truth: np.ndarray, classes: int = 1, percentile: float = 95.0) -> np.ndarray:
    """HD95 (C,) of an image, in pixels of the stored picture, whose physical size nobody knows; 100 for `percentile`: Hausdorff's distance.

    The larger of two percentiles (linear between ranks): of the distances from the outline that is drawn to the nearest place of the true
    one, and back; an outline is the pixels of a class with one of their four neighbours outside it, or at the image's edge (Maier-Hein et
    al., Metrics Reloaded, arXiv 2206.01653). Neither drawn nor there: 0. One of the two: the diagonal of the image, which nothing exceeds
    (our choice; `missing` tells where). Ignored pixels are of no class in either.
    """
    counts = truth != IGNORE
    worst = float(np.hypot(*truth.shape))
    return np.array([distance(counts & (drawn == one), counts & (truth == one), percentile, worst) for one in range(1, classes + 1)])


def distance(first: np.ndarray, second: np.ndarray, percentile: float, worst: float) -> float:
    """Of two masks (H, W) bool; `worst` where one of them is empty."""
    if not first.any() or not second.any():
        return worst if first.any() or second.any() else 0.0
    one, other = outline(first), outline(second)
    there, back = cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]
    return float(max(np.percentile(there, percentile), np.percentile(back, percentile)))


def outline(mask: np.ndarray) -> NDArray[np.int64]:
    """(n, 2) rows and columns of the pixels of a mask that have a neighbour outside it."""
    return np.argwhere(mask & ~binary_erosion(mask))


def missing(counts: np.ndarray) -> np.ndarray:
    """(N, C) bool for counts (N, 1 + C, 4): a class that was drawn where it is not, or is there and was not drawn at all."""
    hit, false, missed, _ = np.moveaxis(by_class(counts)[:, 1:], -1, 0)
    return np.asarray((hit + false == 0) != (hit + missed == 0))


def bootstrap(counts: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mIoU: percentiles over DRAWS test parts drawn from the images (N, 1 + C, 4) with replacement."""
    return middle(mean_iou(summed(redrawn(len(counts), seed), counts)))


def intervals(values: dict[str, np.ndarray], seed: int) -> dict[str, tuple[float, float]]:
    """The same of means over the images: of each (N, C), all classes together, over the same draws as of the mIoU."""
    drawn = redrawn(len(next(iter(values.values()))), seed)
    return {name: middle(drawn @ scores.mean(1) / len(scores)) for name, scores in values.items()}


def middle(draws: np.ndarray) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of draws: the middle 95 %. `draws` (D,)."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def summed(times: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(DRAWS, 1 + C, 4): the pixels of all images together, each as often as it was drawn."""
    return np.tensordot(times, by_class(counts), axes=1)


class Marks(NamedTuple):
    """What one network scored on every test image."""

    names: tuple[str, ...]
    counts: np.ndarray  # (N, 1 + C, 4), as `by_class` says

    @property
    def recall(self) -> float:
        """The share of all foreground pixels of all images that were given their class."""
        hit, _, missed, _ = by_class(self.counts)[:, 1:].sum((0, 1))
        return float(hit / max(hit + missed, 1))


def redrawn(count: int, seed: int) -> np.ndarray:
    """(DRAWS, count): how often each of `count` images is in each drawn test part."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)


# -- over seeds -----------------------------------------------------------------------------------------------------------------


def over_seeds(values: Sequence[float]) -> Measured:
    """The mean and its 95 % interval by Student's t, within 0 and 1; of one seed its value thrice."""
    mean = fmean(values)
    reach = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return mean, max(mean - reach, 0.0), min(mean + reach, 1.0)


Variances = tuple[tuple[float, int], ...]  # of a mean: the variances that add up to its own, each with its degrees of freedom


class Contrast(NamedTuple):
    """The mIoU of one over another: `p` is two-sided and not yet corrected for how many were compared, `ahead` the seeds that agree."""

    difference: float
    low: float
    high: float
    p: float  # not a number of one seed
    ahead: int
    seeds: int
    variances: Variances = ()  # of the difference


def contrast(first: Sequence[Marks], second: Sequence[Marks], seed: int = 0) -> Contrast:
    """The mIoU of `first` over `second`, networks paired by seed and image: the mean difference over S seeds, with an interval.

    A difference is that of its seed, plus that of the images it was tested on, plus noise. What varies between seeds, s^2 / S with S - 1
    degrees of freedom, holds all but what the seeds share: the images that several were tested on. That is the covariance of two seeds'
    differences over one bootstrap of the images, mean of all pairs, 0 where each seed tests on its own. To add the whole variance of the
    bootstrap, as we once did, counts noise twice: pure noise then passes 0.05 in 0 to .012 of trials with three seeds.

    The two have quantiles of Student's t of their own, weighed by the variances (Cochran and Cox, Experimental Designs, 1957, 4.14): with
    three or five seeds noise passes 0.05 in .03 to .055 of trials, 0.05 / 34 in .0002 to .003 (4,000 of each of 16 mixtures; Welch's
    degrees of freedom: up to .08 and .014). Of one seed the interval is over images alone, and there is no p. ValueError as of `lead`.
    """
    return averaged([lead(first, second, seed)])


class Lead(NamedTuple):
    """The mIoU of one over another on a test set."""

    seen: NDArray[np.float64]  # (S,), of every seed
    drawn: NDArray[np.float64]  # (S, DRAWS), on every draw of the images
    images: int


def lead(first: Sequence[Marks], second: Sequence[Marks], seed: int = 0) -> Lead:
    """By how much one is ahead of another; ValueError where their images differ. Those on the same images with one `seed` draw alike."""
    if not first or [one.names for one in first] != [one.names for one in second]:
        raise ValueError("the two results are of different test images, so their difference means nothing")
    seen = [pooled(one) - pooled(other) for one, other in zip(first, second, strict=True)]
    return Lead(np.array(seen), differences(first, second, seed), len(set().union(*(one.names for one in first))))


def averaged(some: Sequence[Lead]) -> Contrast:
    """The mean over leads of the same seeds, by what varies between the means of seeds: see `contrast`, which this is of one."""
    seen, drawn = np.mean([one.seen for one in some], axis=0), np.mean([one.drawn for one in some], axis=0)
    over, many, freedom = np.atleast_2d(np.cov(drawn)), len(seen), max(min(one.images for one in some) - 1, 1)
    variances: Variances = ((float(over[0, 0]), freedom),)
    if many > 1:
        shared = max(float(over.sum() - np.trace(over)) / (many * (many - 1)), 0.0)
        variances = (float(seen.var(ddof=1)) / many, many - 1), (shared, freedom)
    mean, reach = float(seen.mean()), reaching(0.05, variances)
    p = chance(mean, variances) if many > 1 else float("nan")
    return Contrast(mean, mean - reach, mean + reach, p, int(np.sum(seen > 0)), many, variances)


def differences(first: Sequence[Marks], second: Sequence[Marks], seed: int) -> np.ndarray:
    """The difference of every seed on DRAWS draws of all test images, (S, DRAWS); a draw has an image as often for all that have it."""
    places = {name: place for place, name in enumerate(sorted(set().union(*(one.names for one in first))))}
    drawn = redrawn(len(places), seed)
    made = []
    for one, other in zip(first, second, strict=True):
        times = drawn[:, [places[name] for name in one.names]]
        made.append(mean_iou(summed(times, one.counts)) - mean_iou(summed(times, other.counts)))
    return np.array(made)


def certain(found: Contrast) -> float:
    """The p of a contrast, from 0 to 1; of one seed that over its images alone, which knows nothing of seeds that were not run."""
    return found.p if found.seeds > 1 else chance(found.difference, found.variances)


def reaching(level: float, variances: Variances) -> float:
    """By how much a mean must differ from 0 for a p of `level`, two-sided; 0 where nothing varies."""
    whole = sum(variance for variance, _ in variances)
    return sum(variance * float(student.isf(level / 2, freedom)) for variance, freedom in variances) / whole**0.5 if whole else 0.0


def chance(mean: float, variances: Variances) -> float:
    """The p of such a mean: the level at which it is just far enough."""
    if not sum(variance for variance, _ in variances):
        return float(not mean)
    low, high = LEAST, 1.0
    while high / low > 1 + 1e-9:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if reaching(middle, variances) < abs(mean) else (middle, high)
    return high


def least(variances: Variances, level: float, power: float = 0.8) -> float:
    """The smallest true difference that a test at `level` finds with this power; `variances` as of a Contrast, the first by few seeds.

    The mean is normal, the first variance as good as a chi-square of its degrees of freedom makes it, the other known; 0 where nothing
    varies.
    """
    (between, freedom), *rest = variances
    known = sum(variance for variance, _ in rest)
    if not (error := (between + known) ** 0.5):
        return 0.0
    few, *many = (float(student.isf(level / 2, one)) for _, one in variances)
    seen = between * chi2.ppf((np.arange(DRAWS) + 0.5) / DRAWS, freedom) / freedom
    needed = (few * seen + sum(one * variance for one, (variance, _) in zip(many, rest, strict=True))) / np.sqrt(seen + known)  # `reaching`
    low, high = 0.0, float(needed.max()) + 10 * error
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        found = float((norm.sf((needed - middle) / error) + norm.cdf((-needed - middle) / error)).mean())
        low, high = (middle, high) if found < power else (low, middle)
    return float(high)


def pooled(marks: Marks) -> float:
    """The mIoU of all test pixels together."""
    return float(mean_iou(by_class(marks.counts).sum(0)))


def holm(values: Sequence[float]) -> list[float]:
    """The p-values corrected by Holm (1979) for their number, in the same order: below 0.05 each then holds with all others.

    ValueError for one that is no number from 0 to 1: it would pass for the largest, and be counted as a comparison.
    """
    if strange := [value for value in values if not 0 <= value <= 1]:
        raise ValueError(f"{len(strange)} of {len(values)} p-values are no numbers from 0 to 1, the first is {strange[0]}")
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(np.argsort(values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = highest
    return adjusted
