"""Is new video like what came before? Distances between distributions, and thresholds from resampling whole videos.

Patches and frames of one video hang together, so a video is the smallest thing that is drawn. Were the new videos drawn like the earlier
ones, any others of all of them could as well have been the new ones: the distance of those that are is ranked among the distances of as
many drawn by lot (Fisher's permutation test), which gives the stated rate of false alarms at most, whatever the distributions. Several
quantities are looked at together: each is held to the smallest of all ranks in every draw (Westfall and Young 1993, single step), so the
rate is that of any alarm for these videos. What it takes is that videos are exchangeable, and enough of them: a single new one among n is
at best the farthest of n, so an alarm at a rate of 1 % needs a hundred.

A day that grows is looked at several times, and each look may alarm: the rate of the day is shared out over its looks (Slud and Wei 1982;
as a function that is spent, Lan and DeMets 1983). However they hang together, the rate of any alarm is at most the sum of the shares.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Counts = NDArray[np.float64]  # whole numbers, which float64 adds up exactly

DRAWS = 9999  # at most; our choice: with the real one ten thousand, so that the ninth look of a day at 1 % can still alarm
BLOCK = 250  # draws that are in memory at once, after which it is asked whether more can tell anything
RARE = 8  # of so many videos one is new, or fewer: then to add up theirs alone is faster (80 of 1,064, 1,000 bins: 0.6 of the time)
BINS = 64  # of a number, at most, at quantiles of all


@dataclass(frozen=True)
class Profile:
    """How often a quantity fell into each bin, (videos, bins); `edges` (bins - 1,) are the upper ends of a number's, None for kinds."""

    counts: Counts
    edges: Floats | None = None

    def distance(self, new: Counts, rest: Counts) -> Floats:
        """Between distributions given as counts (draws, bins): (draws,) 0 to 1, 0 where one is empty."""
        first, second = shares(new), shares(rest)
        found = jensen_shannon(first, second) if self.edges is None else kolmogorov_smirnov(first, second)
        return np.where((new.sum(axis=1) > 0) & (rest.sum(axis=1) > 0), found, 0.0)


@dataclass(frozen=True)
class Finding:
    """What came of a quantity; `threshold` is the distance from which it is an alarm, None where there are too few videos for any."""

    distance: float
    threshold: float | None
    chance: float  # how often the largest of all quantities is as far by lot; an alarm where that is the rate of false alarms or less
    alarm: bool


def numbers(values: NDArray[np.floating], videos: NDArray[np.integer], count: int) -> Profile:
    """The profile of a number (N,) by the video (N,) of each, of `count` videos; what is not finite is left out."""
    there = np.isfinite(values)
    values, videos = values[there].astype(np.float64), videos[there]
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf")) if len(values) else np.zeros(0)
    return Profile(counted(np.searchsorted(edges, values, side="left"), videos, (count, len(edges) + 1)), edges)


def kinds(labels: NDArray[np.integer], videos: NDArray[np.integer], shape: tuple[int, int]) -> Profile:
    """The profile of kinds (N,), numbered from 0, by the video (N,) of each; `shape` is how many videos and kinds there are."""
    return Profile(counted(labels, videos, shape))


def counted(bins: NDArray[np.integer], videos: NDArray[np.integer], shape: tuple[int, int]) -> Counts:
    """How many of each video (rows) fall into each bin (columns), from the bin and the video of every value.

    Shape: (videos, bins), of bins (N,) and videos (N,).
    """
    places = videos.astype(np.int64) * shape[1] + bins
    return np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def shares(counts: Counts) -> Floats:
    """Counts (n, bins) as shares of their row; a row without any stays zeros."""
    return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1))


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """The square root of the Jensen-Shannon divergence in bits (Lin 1991; a metric: Endres and Schindelin 2003), of shares (n, bins)."""
    mean = (first + second) / 2
    return np.sqrt(np.maximum(entropy(mean) - (entropy(first) + entropy(second)) / 2, 0))


def entropy(some: Floats) -> Floats:
    """Entropy in bits of shares (n, bins), a number a row."""
    return np.asarray(-np.sum(some * np.log2(np.where(some > 0, some, 1.0)), axis=-1))  # log2(where=...) takes thrice as long


def kolmogorov_smirnov(first: Floats, second: Floats) -> Floats:
    """The largest difference of two cumulative distributions (Smirnov 1939) at the edges of their bins, of shares (n, bins)."""
    return np.asarray(np.abs(np.cumsum(first - second, axis=-1)).max(axis=-1))


def allowed(rate: float, look: int, is_last: bool) -> float:
    """What the look of this number, from 1 on, may take of the rate of a day: a k(k+1)-th, and the last look all that is left, a k-th.

    They add up to the rate whenever the day ends. Our choice, since nobody knows how many videos a day will have, which a function of
    the share that is there takes: the first look gets half, the tenth still a hundredth, and one that comes when the day is over all.
    """
    return rate / look if is_last else rate / (look * (look + 1))


def look(profiles: Mapping[str, Profile], new: NDArray[np.bool_], rate: float, seed: int) -> dict[str, Finding]:
    """What came of every quantity; `new` (videos,) says which videos are asked about, `rate` how often a false alarm is allowed.

    It is drawn no more once no alarm can come of it (Besag and Clifford 1991) and there is a threshold, so an alarm is what it is by all
    DRAWS, and of video like that of before fewer are made.
    """
    distances = np.zeros((0, len(profiles)))
    for drawn in draws(new, seed):
        distances = np.concatenate([distances, distanced(profiles, drawn)])
        if is_settled(distances, rate):
            break
    ranks = np.stack([ranked(column) for column in distances.T], axis=1)  # (draws, quantities) share that is as far
    least = np.sort(ranks.min(axis=1))
    chances = np.searchsorted(least, ranks, side="right") / len(least)
    found = {}
    for place, (name, chance) in enumerate(zip(profiles, chances[0].tolist(), strict=True)):
        threshold = nearest(distances[:, place], chances[:, place] <= rate)
        found[name] = Finding(float(distances[0, place]), threshold, chance, chance <= rate)
    return found


def is_settled(distances: Floats, rate: float) -> bool:
    """Whether no alarm can come of all DRAWS, by what was drawn so far (draws, quantities), of which the real ones are the first.

    For every quantity as many are as far as leave none; what is held to all quantities together is as frequent or more. And so many are
    there that the farthest one of each quantity would be an alarm, which is what a threshold takes.
    """
    as_far = (coarse(distances) >= coarse(distances[0])).sum(axis=0)
    return bool((as_far > rate * (DRAWS + 1)).all() and rate * len(distances) >= distances.shape[1])


def distanced(profiles: Mapping[str, Profile], drawn: Floats) -> Floats:
    """Every quantity's distance (draws, quantities) between the videos of each draw (draws, videos) and the others."""
    found, few = [], csr_array(drawn) if drawn[0].sum() * RARE < drawn.shape[1] else drawn  # sums of whole numbers, exact either way
    for one in profiles.values():
        new = few @ one.counts
        found.append(one.distance(new, one.counts.sum(axis=0) - new))
    return np.stack(found, axis=1)


def draws(new: NDArray[np.bool_], seed: int) -> Iterator[Floats]:
    """Which videos are the new ones (draws, videos), 1 or 0, BLOCK draws at a time: the real ones first, then DRAWS by lot."""
    rng, count = np.random.default_rng(seed), int(new.sum())
    yield new[None].astype(np.float64)
    for start in range(0, DRAWS, BLOCK):
        lots = np.zeros((min(BLOCK, DRAWS - start), len(new)))
        np.put_along_axis(lots, rng.random(lots.shape).argpartition(count - 1, axis=1)[:, :count], 1, axis=1)
        yield lots


def ranked(values: Floats) -> Floats:
    """The share of the values (n,) that are as large as each, itself among them."""
    found = coarse(values)
    return np.asarray(1 - np.searchsorted(np.sort(found), found, side="left") / len(values))


def coarse(values: Floats) -> Floats:
    """What differs in the last digits counts as equal."""
    return np.round(values, 12)


def nearest(distances: Floats, alarms: NDArray[np.bool_]) -> float | None:
    """The smallest distance that is an alarm; None where none is. Both (N,)."""
    return float(distances[alarms].min()) if alarms.any() else None


# -- words ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contrast:
    """Where the new videos differ most from the others: the bins, and the share of either that is in these."""

    bins: NDArray[np.int64]
    new: float
    rest: float
    edge: float | None = None  # of a number: it is not above this one
    above: bool = False  # or it is


def contrast(profile: Profile, new: NDArray[np.bool_]) -> Contrast:
    """The kinds that the new videos have more of; of a number the side of the edge at which the difference is largest. `new` (videos,)."""
    first, second = shares(profile.counts[new].sum(axis=0)), shares(profile.counts[~new].sum(axis=0))
    if profile.edges is None:
        bins = np.flatnonzero(first > second)
        return Contrast(bins, float(first[bins].sum()), float(second[bins].sum()))
    gaps = np.cumsum(first - second)
    place = int(np.abs(gaps).argmax())
    above = bool(gaps[place] < 0)
    bins = np.arange(place + 1, len(first)) if above else np.arange(place + 1)
    edge = float(profile.edges[min(place, len(profile.edges) - 1)]) if len(profile.edges) else None
    return Contrast(bins, float(first[bins].sum()), float(second[bins].sum()), edge, above)
