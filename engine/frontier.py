"""The least regret that any rule of a kind can reach for so many epochs: oracles, which know the outcome, fixed lengths, single scores.

G groups that must stop alike, L lengths; regret and epochs are totals of a group. What an oracle cannot reach, no rule can.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from engine.released import Release, depths
from engine.stopping import ratios, regrets

PATIENCES = (1, 2, 3, 4)  # lengths; those of the earlier study
# Our choice, because of those tried they come nearest to what the earlier study found, which names such rules but not their parameters.
GAINS = (0.0, 0.05, 0.1, 0.2)  # shares of the best so far
SMOOTHED = 0.3  # weight of what is new in a moving average


@dataclass(frozen=True)
class Frontier:
    """The least total regret for every whole budget of epochs up to the dearest, and the stops that reach it."""

    least: np.ndarray  # (W + 1,) total regret
    taken: np.ndarray  # (G, W + 1) length taken by a group when so much is left for it and those before it
    epochs: np.ndarray  # (G, L)

    def stops(self, budget: int) -> np.ndarray:
        """(G,) indices of the lengths with the least total regret for at most `budget` epochs."""
        left = min(budget, self.taken.shape[1] - 1)
        stops = np.zeros(len(self.taken), int)
        for group in reversed(range(len(self.taken))):
            stops[group] = self.taken[group, left]
            left -= self.epochs[group, stops[group]]
        return stops


def frontier(regret: np.ndarray, epochs: np.ndarray) -> Frontier:
    """The exact Frontier of regret (G, L) and whole epochs (G, L), by dynamic programming; some length must cost nothing.

    ValueError where none does, or one costs less.
    """
    if (epochs < 0).any() or epochs.min(axis=1).any():
        raise ValueError("every group needs a length of 0 epochs, and none below")
    width = int(epochs.max(axis=1).sum()) + 1
    least, taken = np.zeros(width), np.zeros((len(regret), width), np.int64)
    for group, (losses, costs) in enumerate(zip(regret, epochs, strict=True)):
        options = np.full((len(losses), width), np.inf)
        for option, loss, cost in zip(options, losses, costs, strict=True):
            option[cost:] = least[: width - cost] + loss
        taken[group], least = options.argmin(axis=0), options.min(axis=0)
    return Frontier(least, taken, epochs)


def grouped(regret: np.ndarray, lengths: np.ndarray, groups: np.ndarray) -> Frontier:
    """The Frontier of setups (S, L) where those of the same number in `groups` (S,) stop at the same length."""
    members = np.eye(groups.max() + 1)[groups].T
    return frontier(members @ regret, np.outer(members.sum(axis=1), lengths).astype(int))


def epochs_to_reach(regret: np.ndarray, target: float, setups: int) -> float | None:
    """Mean epochs of the cheapest total budget whose mean regret (W + 1,) is at most `target`; None where there is none."""
    good = np.flatnonzero(regret <= target + 1e-12)  # sums of the same numbers in another order
    return float(good[0] / setups) if len(good) else None


def mixture(regret: np.ndarray, lengths: np.ndarray, budget: float) -> float:
    """The least mean regret of fixed lengths (S, L) for `budget` epochs, where part of the setups may have one and part another."""
    return float(shares(regret, lengths, budget) @ regret.mean(axis=0))


def shares(regret: np.ndarray, lengths: np.ndarray, budget: float) -> np.ndarray:
    """(L,) the share of the setups that has each length in that mixture."""
    one, mean = np.eye(len(lengths)), regret.mean(axis=0)
    found = list(one[lengths <= budget])
    for low, high in product(np.flatnonzero(lengths <= budget), np.flatnonzero(lengths > budget)):
        share = (budget - lengths[low]) / (lengths[high] - lengths[low])
        found.append((1 - share) * one[low] + share * one[high])
    return np.asarray(min(found, key=lambda mixed: float(mixed @ mean)))


def held_out(dice: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(K, W + 1) mean regret, on each seed of Dice (S, L, K) by total budget, of an oracle that knows all seeds but this one.

    The seed's Dice is placed between best and worst of the mean over all seeds, so that on average a fixed length scores its usual
    regret. What was not run is left out of every mean, and a length that no other seed was run for counts as one without any Dice.
    """
    mean, everyone = np.nanmean(dice, axis=-1), np.arange(len(dice))
    best, span = mean.max(axis=1, keepdims=True), np.ptp(mean, axis=1, keepdims=True)
    scored = []
    for seed in range(dice.shape[-1]):
        others = np.delete(dice, seed, axis=-1)
        known = np.nansum(others, axis=-1) / np.maximum(np.isfinite(others).sum(axis=-1), 1)
        found = grouped(regrets(known), lengths, everyone)
        truth = (best - dice[..., seed]) / np.where(span > 0, span, 1)
        scored.append([np.nanmean(truth[everyone, found.stops(budget)]) for budget in range(len(found.least))])
    return np.array(scored)


def single_scores(release: Release) -> np.ndarray:
    """(n, 3) mean epochs, regret and TIS of all rules by one curve of robustness, the last model kept: the best were seen in the outcome.

    A rule is a variant of the score, at any depth, as it is or as its moving average, a patience, a least gain, the first length that
    counts and the last that is trained. An earlier study of these scores had thresholds, rates, means of several levels, votes and a
    prior for late models, too.
    """
    curves, found = np.concatenate(list(depths(release).values())), []
    tables, everyone, end = (regrets(release.performance), ratios(release.performance)), np.arange(len(release.setups)), curves.shape[-1]
    for patience, gain, first in product(PATIENCES, GAINS, range(end)):
        halt = halts(np.concatenate([curves, smoothed(curves, first)]), patience, gain, first)
        for last in range(first, end):
            stops = 1 + np.minimum(halt, last)
            found.append([release.lengths[stops].mean(axis=1), *(table[everyone, stops].mean(axis=1) for table in tables)])
    return np.concatenate(found, axis=1).T


def smoothed(curves: np.ndarray, first: int) -> np.ndarray:
    """The moving average of curves (..., L) with the weight SMOOTHED of what is new, from `first` on, which it begins with. (..., L)."""
    found = curves.copy()
    for now in range(first + 1, curves.shape[-1]):
        found[..., now] = SMOOTHED * curves[..., now] + (1 - SMOOTHED) * found[..., now - 1]
    return found


def halts(curves: np.ndarray, patience: int, gain: float, first: int) -> np.ndarray:
    """(V, S) index of the last length that is trained where, from `first` on, so many in a row did not fall by that share of the least.

    The least is that of those that did. Curves (V, S, L - 1) are of 1 epoch and more.
    """
    least, end = curves[..., first], curves.shape[-1] - 1
    stale, halt = np.zeros(least.shape, int), np.full(least.shape, end)
    for now in range(first + 1, end + 1):
        better = curves[..., now] < least * (1 - gain)
        least, stale = np.where(better, curves[..., now], least), np.where(better, 0, stale + 1)
        halt = np.minimum(halt, np.where(stale >= patience, now, end))
    return halt
