"""When to stop pre-training, judged on runs that went on to the end: what a rule kept, what it paid, and what it lost by that.

S setups, L lengths. The rules are those that need no experience: a fixed length, chance, and the authors' own (arXiv 2410.18677),
which see a curve of robustness, lower being better. Rules that learn are in foresight, what any rule could reach in frontier.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.released import Release, completed, numbered

DRAWS = 4000  # of the bootstrap
Interval = tuple[float, float, float]  # a difference, and the low and the high end of what it may be


@dataclass(frozen=True)
class Stop:
    """What a rule did in every setup."""

    kept: np.ndarray  # (S, L) the chance that this length is the one kept; rows add up to 1
    paid: np.ndarray  # (S,) epochs trained, which may be more than are kept


@dataclass(frozen=True)
class Worth:
    """What a rule came to, on average over setups; intervals are 95 % of its difference to the longest pre-training."""

    tis: float
    least_tis: float
    regret: float
    epochs: float
    more_regret: Interval
    more_tis: Interval


def ratios(performance: np.ndarray) -> np.ndarray:
    """TIS of every length: performance (..., L) over the best of its row, 0 to 1 (arXiv 2410.18677; that it is a ratio is our reading).

    1 where all are 0. A random choice has .98, so `regrets` stand beside. (..., L).
    """
    best = performance.max(axis=-1, keepdims=True)
    return np.asarray(np.where(best > 0, performance / np.where(best > 0, best, 1), 1.0))


def regrets(performance: np.ndarray) -> np.ndarray:
    """Min-max regret of every length (..., L): 0 for the best of its row, 1 for the worst, and 0 where all are alike."""
    best, worst = performance.max(axis=-1, keepdims=True), performance.min(axis=-1, keepdims=True)
    return np.asarray((best - performance) / np.where(best > worst, best - worst, 1))


def tis(performance: Sequence[float], chosen: int) -> float:
    """That of one choice among checkpoints, by its place; ValueError for a place that is none, or what is no performance."""
    return float(ratios(performances(performance, chosen))[chosen])


def regret(performance: Sequence[float], chosen: int) -> float:
    """The same of `regrets`."""
    return float(regrets(performances(performance, chosen))[chosen])


def performances(performance: Sequence[float], chosen: int) -> np.ndarray:
    """Performances (L,), checked; ValueError where one is no number from 0, or `chosen` none of their indices."""
    measured = np.asarray(performance, np.float64)
    if isinstance(chosen, bool) or not isinstance(chosen, int | np.integer) or not 0 <= chosen < len(measured):
        raise ValueError(f"chosen={chosen} is none of {len(measured)} checkpoints, expected an index from 0")
    if not (np.isfinite(measured).all() and (measured >= 0).all()):
        raise ValueError(f"performance={list(performance)} must be numbers from 0, such as Dice")
    return measured


def at(stops: np.ndarray, lengths: np.ndarray) -> Stop:
    """The Stop at the indices (S,) of lengths, each paid for and no more."""
    return Stop(np.eye(len(lengths))[stops], lengths[stops])


def always(index: int, setups: int, lengths: np.ndarray) -> Stop:
    """The same length in all setups. `lengths` (L,) epochs."""
    return at(np.full(setups, index), lengths)


def by_chance(setups: int, lengths: np.ndarray) -> Stop:
    """Any length above 0, each as likely. `lengths` (L,) epochs."""
    kept = np.tile((lengths > 0) / (lengths > 0).sum(), (setups, 1))
    return Stop(kept, kept @ lengths)


def offline(curve: np.ndarray, lengths: np.ndarray) -> Stop:
    """The most robust of all lengths above 0 is kept, all are paid for; curve (S, L - 1). The authors' rule (arXiv 2410.18677).

    `lengths` (L,) epochs.
    """
    return Stop(np.eye(len(lengths))[1 + curve.argmin(axis=1)], np.full(len(curve), lengths[-1]))


def online(curve: np.ndarray, lengths: np.ndarray, patience: int, keep_last: bool) -> Stop:
    """Stop after `patience` lengths in a row without a new least curve (S, L - 1); the most robust seen is kept, or the last.

    The authors tell of the rule but not of the patience or what is kept, so all are shown. ValueError for a patience below 1. `lengths`
    (L,) epochs.
    """
    if patience < 1:
        raise ValueError(f"patience={patience} must be at least 1 length")
    found = [halted(one, patience) for one in curve]
    best, last = (1 + np.array(side) for side in zip(*found, strict=True))
    return Stop(np.eye(len(lengths))[last if keep_last else best], lengths[last])


def halted(curve: np.ndarray, patience: int) -> tuple[int, int]:
    """Index of the least value before the stop, and of the last value looked at. `curve` (L,)."""
    best = 0
    for now in range(1, len(curve)):
        if curve[now] < curve[best]:
            best = now
        elif now - best >= patience:
            return best, now
    return best, len(curve) - 1


@dataclass(frozen=True)
class Draws:
    """What every length is worth in the bootstrap: seeds drawn anew, the same for all setups, and blocks of setups drawn anew.

    A block is one encoder, pre-trained by one scheme, on one data set: its frozen and its fine-tuned use are no two witnesses.
    """

    ratios: np.ndarray  # (DRAWS, S, L)
    regrets: np.ndarray
    weights: np.ndarray  # (DRAWS, S) adding up to 1


def drawn(release: Release, seed: int = 0) -> Draws:
    """The Draws of a release; a seed that was not run counts as the mean of those that were."""
    rng = np.random.default_rng(seed)
    blocks = numbered(release.setups, ("dataset", "encoder", "scheme"))
    kinds, seeds = blocks.max() + 1, release.dice.shape[-1]
    performance = np.moveaxis(completed(release.dice) @ rng.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS).T / seeds, -1, 0)
    weights = rng.multinomial(kinds, np.full(kinds, 1 / kinds), DRAWS)[:, blocks].astype(float)
    return Draws(ratios(performance), regrets(performance), weights / weights.sum(axis=1, keepdims=True))


def worth(stop: Stop, performance: np.ndarray, draws: Draws) -> Worth:
    """The Worth of a Stop on performance (S, L)."""
    tis, regret = ((stop.kept * table).sum(axis=1) for table in (ratios(performance), regrets(performance)))
    longest = np.eye(performance.shape[1])[-1]
    return Worth(
        float(tis.mean()),
        float(tis.min()),
        float(regret.mean()),
        float(stop.paid.mean()),
        more(stop.kept, longest, regrets(performance), draws.regrets, draws.weights),
        more(stop.kept, longest, ratios(performance), draws.ratios, draws.weights),
    )


def more(kept: np.ndarray, other: np.ndarray, table: np.ndarray, redrawn: np.ndarray, weights: np.ndarray) -> Interval:
    """Mean of a table (S, L) where lengths are `kept` (S, L) minus that of others (L,) or (S, L), and its 95 % bootstrap interval.

    What the rule chose is held, so the interval knows nothing of how much tuning it would choose otherwise.
    """
    apart = kept - other
    low, high = np.percentile(((redrawn * apart).sum(axis=2) * weights).sum(axis=1), [2.5, 97.5])
    return float((table * apart).sum(axis=1).mean()), float(low), float(high)
