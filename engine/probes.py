"""How well features tell labels apart, without training: a linear probe, nearest neighbours, LogME, LEEP, the H-score.

`labels` (n,) may have any values, `images` (n,) say which image a sample comes from. ValueError, one sentence, for fewer than two classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Floats, UnscorableError, flat, spectrum, unit

NEIGHBOURS, TEMPERATURE = 20, 0.07  # of kNN: those of DINO (arXiv 2104.14294) and of Wu et al. (arXiv 1805.01978)
RIDGES = 10.0 ** np.arange(-4, 3)  # of the linear probe, times the number of samples. Our choice: from hardly any to all but the means
ZOOMS, POINTS, REACH = 5, 81, 1e8  # of the search for LogME's ratio of precisions, which ends at a relative step below 1e-5


def linear_probe(features: NDArray[Any], labels: NDArray[Any], images: NDArray[Any] | None = None) -> float:
    """Balanced accuracy of a ridge classifier on standardised features, every image judged by what was fitted without it.

    `images` (n,) says which image a sample comes from; None: each from its own. The errors left out are exact, by the hat matrix (Cook &
    Weisberg 1982); the ridge is the one of RIDGES with the least of them. Least squares, where papers fit logistic regression: our choice,
    because a look has to be quick and may not depend on where an optimiser stopped.
    """
    rows = flat(features)
    truth, groups = one_hot(labels, rows), grouped(rows, images)
    deviation = rows.std(0)
    deviation[deviation <= 1e-12 * np.abs(rows).max(0)] = np.inf  # of a feature that is always the same, nothing but rounding
    left, values = spectrum((rows - rows.mean(0)) / deviation, centred=True)
    found = [left_out(left, values**2, truth, groups, ridge * len(rows)) for ridge in RIDGES]
    errors = min(found, key=lambda error: float((error**2).sum()))
    return balanced(truth, truth - errors)


def left_out(left: Floats, powers: Floats, truth: Floats, groups: Sequence[NDArray[np.intp]], ridge: float) -> Floats:
    """(n, classes) errors of ridge regression with an intercept, each group's by the fit without it: (1 - H_gg)^-1 of those with it."""
    kept = left * np.sqrt(powers / (powers + ridge))
    errors = truth - truth.mean(0) - kept @ (kept.T @ truth)
    for group in groups:
        hat = kept[group] @ kept[group].T + 1 / len(left)
        errors[group] = np.linalg.solve(np.eye(len(group)) - hat, errors[group])
    return np.asarray(errors)


def knn(features: NDArray[Any], labels: NDArray[Any], images: NDArray[Any] | None = None) -> float:
    """Balanced accuracy of a vote of the 20 nearest samples of other images, weighted by exp(cosine / 0.07) (arXiv 1805.01978).

    Features (n, d), labels and images (n,); 0 to 1.
    """
    rows = unit(flat(features))
    truth, alike = one_hot(labels, rows), rows @ rows.T
    for group in grouped(rows, images):
        alike[np.ix_(group, group)] = -np.inf
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :NEIGHBOURS]
    weights = np.exp(np.take_along_axis(alike, nearest, axis=1) / TEMPERATURE)
    return balanced(truth, np.einsum("nk,nkc->nc", weights, truth[nearest]))


def balanced(truth: Floats, voted: Floats) -> float:
    """The mean over classes of the share that is recognised. Our choice, because most places of an image are background."""
    right = truth.argmax(1) == voted.argmax(1)
    return float(((truth * right[:, None]).sum(0) / truth.sum(0)).mean())


def logme(features: NDArray[Any], labels: NDArray[Any]) -> float:
    """The log evidence per sample of a Bayesian linear model at its best precisions, mean over classes (arXiv 2102.11005).

    Given the ratio t of the precisions of weights and noise, the best noise is in closed form, so that one number is searched for, where
    the authors go to and fro between the two. Features (n, d), labels (n,).
    """
    rows = flat(features)
    left, values = spectrum(rows, centred=False)
    return float(
        np.mean([evidence(values**2, (left.T @ truth) ** 2, float(truth @ truth), len(rows)) for truth in one_hot(labels, rows).T])
    )


def evidence(powers: Floats, seen: Floats, whole: float, n: int) -> float:
    """max over t of log p(y | F) / n, for squared singular values (r,), squared projections (r,) of y on them, and whole = |y|^2."""
    scale = float(powers.sum()) or 1.0
    low, high = np.log(scale / REACH), np.log(scale * REACH)
    rest = max(whole - float(seen.sum()), 0.0)
    for _ in range(ZOOMS):
        ratios = np.linspace(low, high, POINTS)
        t = np.exp(ratios)[:, None]
        found = -n / 2 * np.log(2 * np.pi * np.e / n * (rest + (seen * t / (powers + t)).sum(1))) - np.log1p(powers / t).sum(1) / 2
        best = int(found.argmax())
        low, high = ratios[max(best - 1, 0)], ratios[min(best + 1, POINTS - 1)]
    return float(found[best] / n)


def leep(probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    """The mean log likelihood of labels under P(y | z) theta(x)_z (Nguyen et al., arXiv 2002.12462).

    `probabilities` (n, source classes) are those a source classifier gives, each row's sum 1: an encoder without one has no LEEP.
    ValueError where they are none.
    """
    rows = flat(probabilities)
    if rows.min() < 0 or not np.allclose(rows.sum(1), 1, atol=1e-4):
        raise ValueError("the probabilities of source classes must be from 0 and sum to 1 for every sample")
    truth = one_hot(labels, rows)
    joint = truth.T @ rows / len(rows)  # (classes, source classes)
    given = joint / np.where(joint.any(0), joint.sum(0), 1)
    return float(np.log((rows @ given.T)[truth == 1]).mean())


def h_score(features: NDArray[Any], labels: NDArray[Any], shrinkage: float = 0.0) -> float:
    """tr(cov(f)^-1 cov(E[f | y])), 0 to classes - 1 (Bao et al. 2019).

    With `shrinkage` a, cov(f) becomes (1 - a) cov(f) + a mean variance, and what is divided by it is times 1 - a (arXiv 2110.06893).
    UnscorableError without it where features differ in as many directions as samples can, as with fewer samples than features: whatever
    the labels it is then classes - 1, and which of two models has more of it is rounding. Features (n, d), labels (n,).
    """
    rows = flat(features)
    truth = one_hot(labels, rows)
    left, values = spectrum(rows, centred=True)
    if not shrinkage and len(values) >= len(rows) - 1:
        raise UnscorableError(
            f"the features of {len(rows)} samples differ in all {len(values)} directions that they can, so their H-score is "
            f"{truth.shape[1] - 1} whatever the labels; the shrunken H-score tells them apart, or more samples than features do"
        )
    powers = values**2 / len(rows)
    between = ((truth.T @ left) ** 2 / truth.sum(0)[:, None]).sum(0)  # of each whitened direction
    kept = (1 - shrinkage) * powers
    return float((between * kept / (kept + shrinkage * powers.sum() / rows.shape[1])).sum())


def shrunken_h_score(features: NDArray[Any], labels: NDArray[Any]) -> float:
    """The H-score with Ledoit and Wolf's shrinkage (Ibrahim et al., arXiv 2110.06893), for fewer samples than features.

    Features (n, d), labels (n,).
    """
    return h_score(features, labels, shrinkage(flat(features)))


def shrinkage(rows: Floats) -> float:
    """Ledoit and Wolf's (2004): the share of the mean variance in the covariance that errs least."""
    n, d = rows.shape
    centred = rows - rows.mean(0)
    powers = np.linalg.svd(centred, compute_uv=False) ** 2 / n
    off = float((powers**2).sum() - powers.sum() ** 2 / d)  # |S - mean variance|^2
    noise = float(((centred**2).sum(1) ** 2).mean() - (powers**2).sum()) / n
    return min(noise / off, 1.0) if off > 0 else 1.0


def one_hot(labels: NDArray[Any], rows: Floats) -> Floats:
    """(n, classes) of labels (n,) of any values. ValueError for one class only, or another shape."""
    classes, codes = np.unique(labels, return_inverse=True)
    if np.shape(labels) != (len(rows),) or len(classes) < 2:
        raise ValueError(f"labels of shape {np.shape(labels)} name {len(classes)} classes of {len(rows)} samples, expected two at least")
    return np.asarray(np.eye(len(classes))[codes])


def grouped(rows: Floats, images: NDArray[Any] | None) -> list[NDArray[np.intp]]:
    """The positions of each image's samples. ValueError for one image only. `images` (n,), None: each sample is an image."""
    codes = np.arange(len(rows)) if images is None else np.unique(images, return_inverse=True)[1]
    if codes.shape != (len(rows),) or codes.max() == 0:
        raise ValueError(
            f"{len(rows)} samples come from one image, or images of shape {codes.shape} do not fit; expected two images at least"
        )
    return [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
