"""What features look like without labels: where they point, how far apart they are, how many directions they use; and scores of that.

Features are numpy arrays: (n, d), maps (n, C, H, W) or tokens (n, L, C); what is not pooled is compared as one long vector. All is
computed in float64. ValueError, one sentence, for fewer than two samples; UnscorableError for features that tell nothing.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WITHIN = 1e-4  # added to LiDAR's covariance within images; the paper's value was not found, public code has 1e-3 to 1e-6


class UnscorableError(ValueError):
    """Features that are what they are, such as those of a collapsed encoder, have no such score: a gap among looks, and no bug."""


def alignment(queries: NDArray[Any], keys: NDArray[Any]) -> float:
    """The mean squared distance of the two views on the unit sphere (Wang & Isola, arXiv 2005.10242, alpha = 2). Both (n, d)."""
    check_views(queries, keys)
    return float(((unit(flat(queries)) - unit(flat(keys))) ** 2).sum(1).mean())


def uniformity(features: NDArray[Any]) -> float:
    """The log of the mean Gaussian potential exp(-2 |x - y|^2) over pairs on the unit sphere (Wang & Isola, arXiv 2005.10242, t = 2).

    Shape: (n, d).
    """
    rows = unit(flat(features))
    pairs = squared(rows, rows)[np.triu_indices(len(rows), 1)]
    return float(np.log(np.exp(-2 * pairs).mean()))


def rankme(features: NDArray[Any]) -> float:
    """exp of the entropy of the singular values (Garrido et al., arXiv 2210.02885); their epsilon only guards 0 log 0 and is left out.

    Shape: (n, d).
    """
    return spread(np.asarray(np.linalg.svd(flat(features), compute_uv=False), np.float64))


def effective_rank(features: NDArray[Any]) -> float:
    """The effective rank (Roy & Vetterli 2007) of the covariance, where RankMe takes the features.

    Our choice of the matrix, because the mean of all features, which tells no image from another, is most of RankMe's spectrum.
    """
    return spread(variances(flat(features)))


def lidar(*views: NDArray[Any]) -> float:
    """The effective rank of the discriminants between images, each a class of its views (Thilak et al., arXiv 2312.04000).

    The paper has 50 views an image, here two do. It is computed in the span of the features, outside of which all is zero. UnscorableError
    for features that are all the same, or too large to divide by.
    """
    check_views(*views)
    rows = np.concatenate([flat(view) for view in views])
    left, values = spectrum(rows, centred=True)
    if not len(values):
        raise UnscorableError(f"the features of all {len(rows)} views are the same, so no direction tells one image from another")
    seen = (left * values).reshape(len(views), -1, len(values))
    images = seen.mean(0)
    inside = (seen - images).reshape(-1, len(values))
    try:
        lower = np.linalg.cholesky(inside.T @ inside / len(inside) + WITHIN * np.eye(len(values)))
    except np.linalg.LinAlgError as error:  # features so large that WITHIN is lost in rounding
        raise UnscorableError(f"features as large as {np.abs(rows).max():.3g} have no covariance within images to divide by") from error
    whitened = np.linalg.solve(lower, images.T)
    return spread(np.linalg.svd(whitened, compute_uv=False) ** 2)


def check_views(*views: NDArray[Any]) -> None:
    """ValueError for views whose features differ in shape."""
    if len(shapes := {np.shape(view) for view in views}) > 1:
        raise ValueError(f"the views have features of shapes {', '.join(map(str, sorted(shapes)))}, expected the same")


def spread(values: Floats) -> float:
    """exp of the entropy of non-negative values as shares of their sum: as many as there are if all are equal, 0 if all are zero."""
    shares = values[values > 0] / values.sum() if values.any() else np.zeros(0)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def spectrum(rows: Floats, centred: bool) -> tuple[Floats, Floats]:
    """Left singular vectors (n, r) and singular values (r,) of the rows, or of what they differ in, without those of mere rounding."""
    left, values, _ = np.linalg.svd(rows - rows.mean(0) if centred else rows, full_matrices=False)
    kept = values > np.linalg.norm(rows) * max(rows.shape) * np.finfo(float).eps
    return left[:, kept], values[kept]


def variances(rows: Floats) -> Floats:
    """The squares (r,) of what `spectrum` gives of centred rows, from their products: a twentieth of its time for many rows of few numbers.

    Those below 1e-16 of their sum are rounding, and of no weight in an entropy.
    """
    apart = rows - rows.mean(0)
    values = np.linalg.eigvalsh(apart.T @ apart if len(apart) > apart.shape[1] else apart @ apart.T)
    least = np.linalg.norm(rows) * max(rows.shape) * np.finfo(float).eps
    return np.asarray(values[values > least**2])


def unit(rows: Floats, scale: Floats | None = None) -> Floats:
    """Rows of length one; UnscorableError for one without a direction, which is one of nothing but rounding beside `scale` (n,)."""
    lengths = np.linalg.norm(rows, axis=1)
    if (lost := lengths <= 1e-12 * (lengths if scale is None else scale)).any():
        raise UnscorableError(
            f"the features of sample {int(lost.argmax())} are all zero or all the same, expected some that point somewhere"
        )
    return np.asarray(rows / lengths[:, None])


def squared(rows: Floats, others: Floats) -> Floats:
    """(n, m) squared Euclidean distances of all pairs."""
    products = (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * rows @ others.T
    return np.asarray(products.clip(0))


def flat(features: NDArray[Any]) -> Floats:
    """(n, d) float64 of any features. ValueError for fewer than two samples, UnscorableError for values that are not finite."""
    rows = np.asarray(features, np.float64).reshape(len(features), -1)
    if len(rows) < 2 or not rows.shape[1]:
        raise ValueError(f"features of shape {np.shape(features)} leave nothing to compare, expected two samples at least")
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(1))
        raise UnscorableError(f"the features of {len(bad)} of {len(rows)} samples are not finite, the first is sample {bad[0]}")
    return rows


def pooled(features: NDArray[Any]) -> NDArray[Any]:
    """(n, C): the mean over places of maps (n, C, H, W) and of tokens (n, L, C); vectors (n, d) stay.

    The authors' code means the last axis of both, so that Swin's tokens are averaged over channels; `features.swapaxes(1, 2)` does that.
    ValueError for other shapes.
    """
    axes = {2: (), 3: (1,), 4: (2, 3)}.get(features.ndim)
    if axes is None:
        raise ValueError(f"features of shape {features.shape} cannot be pooled, expected (n, d), (n, L, C) or (n, C, H, W)")
    return np.asarray(features.mean(axes) if axes else features)
