"""Looks at an encoder while it is trained: scores it on a schedule, says when it has been enough, and which checkpoint is best.

All that a monitor knows is the score of every look, and what it took, so its state is these. With `wait` the verdict on a run that was
interrupted is that on the run undisturbed; without it a stop comes when a score is there, so it depends on how long scoring takes.
Scores are made beside the training, from copies of the weights, in one thread.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from engine.settings import TransferConfig
from engine.transfer import SCORES

WAITING = 2  # copies of the weights at most in memory: where scores take longer than what is between two looks, training waits


class Look(Protocol):
    """What a training loop asks whether to go on: `look(epoch, encoder)` looks at the encoder after so many epochs; True: stop.

    It is asked before the first epoch, too, and after a resume once more at the checkpoint, whose look may have been under way.
    """

    def __call__(self, epoch: int, encoder: nn.Module) -> bool: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Verdict(NamedTuple):
    epoch: int  # of the best checkpoint; of equal ones the earliest, which costs least
    score: float
    untrained: bool | None  # no pre-training is best; None: the untrained encoder was not scored


def choose(scores: Mapping[int, float], lower: bool) -> Verdict:
    """The best of scored checkpoints by epoch, 0 being the untrained encoder; ValueError for none, or a score that is not finite."""
    if not scores:
        raise ValueError("no checkpoint was scored, so there is none to choose; expected one at least")
    for epoch, score in scores.items():
        finite(epoch, score)
    epoch = min(sorted(scores), key=lambda one: scores[one] if lower else -scores[one])
    return Verdict(epoch, scores[epoch], epoch == 0 if 0 in scores else None)


def mean_ranks(scores: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """The mean rank of every epoch by several scores by name, 1 is the best; equal ones share theirs. Over the epochs that all have.

    Our choice of how to hear several at once: their units and ranges differ, and so does how these change in a training; their order of
    the models is all that they have in common.
    """
    epochs = sorted(set[int].intersection(*(set(one) for one in scores.values())))
    ranks = [rankdata([one[epoch] if SCORES[name].lower else -one[epoch] for epoch in epochs]) for name, one in scores.items()]
    return {epoch: float(mean) for epoch, mean in zip(epochs, np.mean(ranks, axis=0), strict=True)}


def finite(epoch: int, score: float) -> None:
    if not math.isfinite(score):
        raise ValueError(f"the score at epoch {epoch} is {score}, expected a number")


class Monitor:
    """Says when scores have stopped to improve.

    The run ends with the look that is the `patience`-th in a row not better, by more than `min_delta`, than the best before it. Looks
    before `warmup` count for neither, but may be chosen in the end: an untrained encoder can score so well that nothing ever beats it.
    """

    def __init__(self, config: TransferConfig) -> None:
        self.config, self.lower = config, SCORES[config.score].lower
        self.scores: dict[int, float] = {}
        self.seconds: dict[int, float] = {}  # that scoring took, of one device

    def due(self, epoch: int) -> bool:
        """Whether the schedule has a look at this epoch."""
        return epoch in self.config.looks if self.config.looks else epoch % self.config.every == 0

    def observe(self, epoch: int, score: float, seconds: float = 0.0) -> bool:
        """Take in a score and what it took, in any order of epochs; one that is seen again, as after a resume, counts as seen last.

        True: stop.
        """
        finite(epoch, score)
        self.scores[epoch], self.seconds[epoch] = score, seconds
        return self.stopped is not None

    @property
    def stopped(self) -> int | None:
        """The epoch of the look that ended the run; None: it goes on."""
        best, since = math.inf, 0
        for epoch in sorted(self.scores):
            loss = self.scores[epoch] if self.lower else -self.scores[epoch]
            if epoch < self.config.warmup:
                continue
            better = loss < best - self.config.min_delta
            best, since = (loss, 0) if better else (best, since + 1)
            if since == self.config.patience:
                return epoch
        return None

    def verdict(self) -> Verdict:
        """The best of all looks, those during the warm-up too."""
        return choose(self.scores, self.lower)

    @property
    def hours(self) -> dict[int, float]:
        """What the looks took until each epoch that was looked at, in hours of one device."""
        epochs = sorted(self.scores)
        return dict(zip(epochs, accumulate(self.seconds.get(epoch, 0.0) / 3600 for epoch in epochs), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"scores": dict(self.scores), "seconds": dict(self.seconds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scores = {int(epoch): float(score) for epoch, score in state["scores"].items()}
        self.seconds = {int(epoch): float(seconds) for epoch, seconds in state.get("seconds", {}).items()}


class Looker:
    """A Look that scores copies of the weights in a thread of its own, and folds what is finished into the monitor at each later call.

    With `config.wait` every call waits for its score, and the same run stops at the same epoch. What fails fails the call that folds it.
    `score` gets an encoder that is no one else's, on `device`, and must leave the global state of chance alone, which training shares.
    """

    def __init__(self, config: TransferConfig, score: Callable[[nn.Module], float], device: str = "cpu") -> None:
        self.monitor, self.score, self.device = Monitor(config), score, device
        self.twin: nn.Module | None = None
        self.under_way: dict[int, Future[tuple[float, float]]] = {}
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="look")

    def __call__(self, epoch: int, encoder: nn.Module) -> bool:
        """Look if it is due and was not done; True: what is known by now says stop."""
        if self.monitor.due(epoch) and epoch not in self.monitor.scores and epoch not in self.under_way:
            self.fold(WAITING - 1)
            if self.twin is None:
                self.twin = copy.deepcopy(encoder).to(self.device)
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in encoder.state_dict().items()}
            self.under_way[epoch] = self.thread.submit(self.scored, self.twin, weights)
        self.fold(0 if self.monitor.config.wait else WAITING)
        return self.monitor.stopped is not None

    def scored(self, twin: nn.Module, weights: Mapping[str, Tensor]) -> tuple[float, float]:
        """The score, and the seconds that it took."""
        began = time.perf_counter()
        twin.load_state_dict(weights)
        with torch.inference_mode():
            return self.score(twin), time.perf_counter() - began

    def fold(self, waiting: int) -> None:
        """Give the monitor what is finished, in the order of epochs, and wait until at most so many scores are under way."""
        for epoch in list(self.under_way):  # one thread: they finish in this order
            if len(self.under_way) <= waiting and not self.under_way[epoch].done():
                break
            self.monitor.observe(epoch, *self.under_way.pop(epoch).result())

    def drain(self) -> bool:
        """Wait for all scores; True: stop."""
        self.fold(0)
        return self.monitor.stopped is not None

    def state_dict(self) -> dict[str, Any]:
        """The monitor's state; waits for all looks but the newest, which is made again from the checkpoint itself (see Look)."""
        self.fold(1)
        return self.monitor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.fold(0)
        self.monitor.load_state_dict(state)
