"""How well an encoder may transfer to target images: robustness, and its baselines by name."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from engine.geometry import Floats, UnscorableError, alignment, check_views, effective_rank, flat, lidar, rankme, squared, uniformity, unit
from engine.probes import h_score, knn, leep, linear_probe, logme, shrunken_h_score
from engine.settings import Distance, Negatives, Scored


def robustness(
    queries: NDArray[Any], keys: NDArray[Any], margin: float = 0.5, distance: Distance = "cosine", negatives: Negatives = "published"
) -> float:
    """The mean of max(0, d(q_i, k_i) - d(q_i, k_neg) + margin) over two views of n images: a triplet loss, lower is more robust.

    Source: arXiv 2410.18677 with its code, whose default is this one. negatives="published": image (1 - i) mod n is the one negative of
    image i, as in the code; for odd n image (n + 1) / 2 is its own. "others", ours: every other image is a negative once, and the mean is
    over all of these triplets, so that no image is its own negative and the order of the images does not matter. ValueError for an unknown
    word or a margin below 0.
    """
    check_views(queries, keys)
    q, k = prepared(queries, distance), prepared(keys, distance)
    if negatives not in get_args(Negatives):
        raise ValueError(f"negatives={negatives!r} is unknown, expected one of {', '.join(get_args(Negatives))}")
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin={margin} is no distance, expected a number from 0")
    near, n = ((q - k) ** 2).sum(1), len(q)
    if negatives == "published":
        return float(np.maximum(0, near - ((q - k[(1 - np.arange(n)) % n]) ** 2).sum(1) + margin).mean())
    hinges = np.maximum(0, near[:, None] - squared(q, k) + margin)
    return float((hinges.sum() - np.trace(hinges)) / (n * (n - 1)))


def prepared(features: NDArray[Any], distance: Distance) -> Floats:
    """(n, d) rows whose squared Euclidean distances are those asked for.

    cosine: 1 - cos; correlation: 1 - Pearson's; l2: the mean, not the sum, of squared differences. ValueError for an unknown distance.
    """
    rows = flat(features)
    if distance not in get_args(Distance):
        raise ValueError(f"distance={distance!r} is unknown, expected one of {', '.join(get_args(Distance))}")
    if distance == "l2":
        return np.asarray(rows / np.sqrt(rows.shape[1]))
    centred = rows - rows.mean(1, keepdims=True) if distance == "correlation" else rows
    return np.asarray(unit(centred, np.linalg.norm(rows, axis=1)) / np.sqrt(2))


class Score(NamedTuple):
    """How one score is called, computed and read."""

    title: str  # as the field writes it
    function: Callable[..., float]
    lower: bool  # is better
    needs: tuple[str, ...]  # of: queries, keys (two views); features; labels, images (of samples); probabilities (of source classes); loss


SCORES = {
    "robustness": Score("robustness", robustness, True, ("queries", "keys")),
    "alignment": Score("alignment", alignment, True, ("queries", "keys")),
    "lidar": Score("LiDAR", lidar, False, ("queries", "keys")),
    "uniformity": Score("uniformity", uniformity, True, ("features",)),
    "rankme": Score("RankMe", rankme, False, ("features",)),
    "effective_rank": Score("effective rank", effective_rank, False, ("features",)),
    "linear_probe": Score("linear probe", linear_probe, False, ("features", "labels", "images")),
    "knn": Score("kNN", knn, False, ("features", "labels", "images")),
    "logme": Score("LogME", logme, False, ("features", "labels")),
    "h_score": Score("H-score", h_score, False, ("features", "labels")),
    "shrunken_h_score": Score("shrunken H-score", shrunken_h_score, False, ("features", "labels")),
    "leep": Score("LEEP", leep, False, ("probabilities", "labels")),
    "loss": Score("loss", float, True, ("loss",)),  # of pre-training: just given
}


def scored(name: str, given: Mapping[str, Any], **knobs: Any) -> float:
    """What the score `name` says of what is `given` by the names in its `needs`; ValueError where one is unknown or lacks something.

    UnscorableError where it says nothing of features like these.
    """
    if name not in SCORES:
        raise ValueError(f"there is no score {name!r}, expected one of {', '.join(SCORES)}")
    score = SCORES[name]
    if missing := [need for need in score.needs if need not in given]:
        raise ValueError(f"the score {name} needs {', '.join(missing)}, and was given {', '.join(given) or 'nothing'}")
    found = float(score.function(*(given[need] for need in score.needs), **knobs))
    if not math.isfinite(found):
        raise UnscorableError(f"the score {name} of these features is {found}, which is no number to compare")
    return found


BLIND = tuple(name for name in get_args(Scored) if "labels" not in SCORES[name].needs)


class Readings(NamedTuple):
    """What one look came to, by the names of `reading`."""

    scores: dict[str, float]
    gaps: dict[str, str]  # why there is no score, in a sentence
    weights: str = ""  # the fingerprint of the model that they are of; "" where nobody asked for it


def reading(score: str, level: int | None = None) -> str:
    """The name of a score, of one level where several are looked at."""
    return score if level is None else f"{score}/level {level}"


def read_by(reading: str) -> Score:
    """The score whose reading this is."""
    return SCORES[reading.partition("/")[0]]
