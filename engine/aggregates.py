"""Many curves of robustness heard as one, as an earlier study of the scores released with arXiv 2410.18677 heard them.

V curves, S setups, L lengths; a curve is (S, L - 1), of 1 epoch and more, lower being better, as the offline rule of stopping takes it.
"""

import numpy as np
from scipy.stats import rankdata

from engine.foresight import apart
from engine.released import Release, Variant, depths
from engine.stopping import regrets

LATENESS = np.arange(51) / 10  # what a tenfold length is given is 2.3 times as much, in standard deviations of a curve


def usual(release: Release) -> np.ndarray:
    """(V, S, L - 1) curves by the authors' distance and margin at every depth, pooled or not."""
    return np.concatenate([curves for kind, curves in depths(release).items() if kind[:2] == Variant()[:2]])


def mean_rank(curves: np.ndarray) -> np.ndarray:
    """The mean rank of every length in the curves (V, S, L - 1). (S, L - 1)."""
    return np.asarray(rankdata(curves, axis=-1).mean(axis=0))


def mean_z(curves: np.ndarray) -> np.ndarray:
    """The same of what curves have in units of their own standard deviation over lengths, 0 for one that never changes.

    Shape: (V, S, L - 1) to (S, L - 1).
    """
    spread = curves.std(axis=-1, keepdims=True)
    return np.asarray(((curves - curves.mean(axis=-1, keepdims=True)) / np.where(spread > 0, spread, 1)).mean(axis=0))


def late_prior(curve: np.ndarray, release: Release) -> np.ndarray:
    """A curve less b times the logarithm of the epochs: later is better unless the curve is sure; b as told by the other data sets.

    Shape: (S, L - 1) to the same.
    """
    return elsewhere(curve - LATENESS[:, None, None] * np.log(release.lengths[1:]), release)


def best_variant(release: Release) -> np.ndarray:
    """The one variant of the score, at any depth, that is best on the other data sets. (S, L - 1)."""
    return elsewhere(np.concatenate(list(depths(release).values())), release)


def elsewhere(curves: np.ndarray, release: Release) -> np.ndarray:
    """In every setup that of the curves (V, S, L - 1) whose least values have the least mean regret on all other data sets, the first.

    Shape: (S, L - 1).
    """
    regret = np.broadcast_to(regrets(release.performance)[:, 1:], curves.shape)
    lost = np.take_along_axis(regret, curves.argmin(axis=-1)[..., None], axis=-1)[..., 0]
    found = np.empty(curves.shape[1:])
    for others, mine in apart(release.setups, "dataset"):
        found[mine] = curves[np.round(lost[:, others].mean(axis=1), 9).argmin(), mine]
    return found
