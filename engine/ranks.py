"""Models of one training that several readings judge at once: which readings are heard, and what their ranks say.

Readings are by name, as of transfer.reading, and by epoch; what is missing is a gap.
"""

import math
from collections.abc import Mapping

import numpy as np

from engine.transfer import read_by

Heard = Mapping[str, Mapping[int, float]]  # scores by reading and epoch
LOST = 2  # looks in a row; our choice: one gap can be of one model, a second says that the encoder has become one that has no such score


def telling(heard: Heard) -> dict[str, Mapping[int, float]]:
    """The readings that are heard: not those with a gap at each of the last LOST looks, at these looks nor before.

    One that is lost for good would silence all others: no look after has it, so none has all. It is heard again once it comes back. A look
    that has no reading at all, as of a scoring that was killed, says nothing of any.
    """
    last = sorted(set[int]().union(*heard.values()))[-LOST:]
    return {name: one for name, one in heard.items() if any(epoch in one for epoch in last)}


def mean_ranks(heard: Heard) -> dict[int, float]:
    """The mean rank of every epoch by several readings by name, 1 is the best; equal ones share theirs.

    Over the epochs that all have which are heard (see telling): a look with a gap has no rank. Our choice of how to hear several at once:
    their units and ranges differ, and so does how these change in a training; their order of the models is all that they have in common.
    A rank is one among these epochs, so it can change with each that comes.
    """
    from scipy.stats import rankdata  # a second to load, which whatever trains or scores a patch would wait for

    told = telling(heard)
    epochs = sorted(set[int].intersection(*(set(one) for one in told.values()))) if told else []
    if not epochs:
        return {}
    ranks = [rankdata([loss(name, one[epoch]) for epoch in epochs]) for name, one in told.items()]
    return {epoch: float(mean) for epoch, mean in zip(epochs, np.mean(ranks, axis=0), strict=True)}


def unsurpassed(heard: Heard) -> set[int]:
    """The epochs that may yet be the best by mean rank, whatever comes, and whichever readings are lost or come back.

    None surpasses these: has every reading that they have, is worse in none, and is better in all or earlier.
    """
    epochs = sorted(set[int]().union(*heard.values()))
    losses = np.array([[loss(name, one.get(epoch, math.nan)) for name, one in heard.items()] for epoch in epochs])
    found = set[int]()
    for place, epoch in enumerate(epochs):
        there = ~np.isnan(losses[place])
        others, own = losses[:, there], losses[place, there]  # a gap compares as neither
        better = (others < own).all(1) | (np.arange(len(epochs)) < place)
        found |= set() if ((others <= own).all(1) & better).any() else {epoch}
    return found


def loss(reading: str, score: float) -> float:
    """The score so that lower is better."""
    return score if read_by(reading).lower else -score


def within(heard: Heard, begin: int, end: float = math.inf) -> dict[str, dict[int, float]]:
    """The same of the epochs from `begin` to `end`, both included."""
    return {name: {epoch: score for epoch, score in one.items() if begin <= epoch <= end} for name, one in heard.items()}
