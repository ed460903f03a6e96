"""Looks at an encoder while it is trained: scores it on a schedule, says when it has been enough, and which checkpoint is best.

All that a monitor knows is what every look came to, and what it took, so its state is these. With `wait` the verdict on a run that was
interrupted is that on the run undisturbed; without it a stop comes when a score is there, so it depends on how long scoring takes.
Scores are made beside the training, from copies of the weights, in one thread.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from engine.ranks import loss, mean_ranks, telling, unsurpassed, within
from engine.settings import TransferConfig
from engine.transfer import SCORES, Readings

TITLES = {"ranks": "mean rank by all without labels", "vote": "vote of all scores"}  # of what is watched and is no score of SCORES
WAITING = 2  # copies of the weights at most in memory: where scores take longer than what is between two looks, training waits


class Look(Protocol):
    """What a training loop asks whether to go on: `look(epoch, encoder)` looks at the encoder after so many epochs; True: stop.

    It is asked before the first epoch, too, and always when the checkpoint of that encoder was made; so a resume asks for it once more.
    """

    def __call__(self, epoch: int, encoder: nn.Module) -> bool: ...

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on as if it had not been cut off, with all looks so far: no resume asks for one of these."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` told."""


def title(config: TransferConfig) -> str:
    """What is watched, in words."""
    return at_levels(TITLES.get(config.score) or SCORES[config.score].title, config)


def judged(config: TransferConfig) -> str:
    """By what one model is better than another, in words: a vote only says when to end, so of that the mean rank of all that have a say."""
    return at_levels("mean rank of all scores", config) if config.score == "vote" else title(config)


def at_levels(name: str, config: TransferConfig) -> str:
    """A name with the levels of the encoder, where they are named."""
    return name + f" at level{'s' * (len(config.levels) > 1)} {', '.join(map(str, config.levels))}" * bool(config.levels)


class Verdict(NamedTuple):
    """Which checkpoint is best by what is watched."""

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


def finite(epoch: int, score: float) -> None:
    """ValueError where a score is no finite number."""
    if not math.isfinite(score):
        raise ValueError(f"the score at epoch {epoch} is {score}, expected a number")


class Monitor:
    """Says when scores have stopped to improve.

    One score at one level ends the run with the look that is the `patience`-th in a row not better, by more than `min_delta`, than the last
    that was; the first is. So small steps add up: they count once they come to more than that together, where a step from the best so far
    never would. Looks before `warmup` count for no end, but may be chosen in the end: an untrained encoder can score so well that nothing
    ever beats it. A look with a gap is none for what is missing in it. Several readings, of scores or levels, are heard in one of two ways,
    each as long as it is not lost (ranks.telling), which is asked at every look anew, so that a resume comes to the same:

    Ranks: at every look the mean ranks are taken anew among the looks from the warm-up until it, and the run ends with the first at which
    the best of these (of equal ones the earliest) lies `patience` of them back. So the best can move back to an earlier look, which no
    single score's can, and a verdict is one on the looks so far.

    A vote: every reading has the patience above for itself, and the run ends with the first look at which more than half of those that
    are heard are past theirs, as they stand at that look. It says when to end, and the last model is taken. This is our rule for a
    training of our own, and nothing in it is learnt. What foresight learns of the released scores is how many of 300 epochs of supervised
    training on ImageNet three encoders needed, by encoder and scheme, none of which is ours: to apply that here would be to make it up.
    Single scores fail in two ways, getting worse from the first epoch on, or better to the last; a majority needs neither an example nor a
    threshold to outvote either, and labels, where there are some, have their say. On the released scores votes of levels came to about
    what fixed lengths of as many epochs do (transfer-study): nothing says that this rule pays.

    Neither the loss of pre-training has a vote nor what the encoder will be used for. A loss falls to the end of its schedule, and knows
    no target: a voter that always says go on. So did the accuracy on ImageNet, which is what the release has of its kind, in all setups:
    with it among the levels patience 1, 2, 3 takes 52, 169, 219 epochs instead of 28, 106, 178, for a regret of .392, .238, .173 where
    lengths mixed to as many epochs have .337, .230, .192; each difference's interval, in TIS too, holds 0. A loss that rises is seen in
    MLflow, one that is no number ends the training. Whether the encoder will be frozen changes no score of it, so it could only move the
    patience. On the released scores (jobs.uses), each data set left out, the regret of one chosen by frozen or not is told apart from that
    of mixed lengths at no price of an epoch (with the price itself as its rate at one of seven), so there is no default by use; in TIS
    that last is worse than these at two of seven, as one for all is at prices .5 to 2. One by encoder and frozen has less regret, of
    encoders and looks that are not ours, and a TIS that is told apart at none. The one training of ours that was measured both ways (LOG)
    harmed, and the untrained encoder was best either way: such a bed cannot tell when to end one that helps. Where there are masks the
    linear probe, which is a frozen use, has a vote.
    """

    def __init__(self, config: TransferConfig, last: int | None = None) -> None:
        self.config, self.last = config, last  # epochs of the training; None: it has no end
        self.heard: dict[str, dict[int, float]] = {}  # by reading and epoch
        self.gaps: dict[int, dict[str, str]] = {}  # why there is no score, by epoch and reading
        self.weights: dict[int, str] = {}  # the fingerprint of the model of a look, where it is known
        self.seconds: dict[int, float] = {}  # that a look took, of one device; of all looks, those that gave nothing too

    def due(self, epoch: int) -> bool:
        """Whether the schedule has a look at this epoch."""
        return self.config.due(epoch, self.last)

    def observe(self, epoch: int, found: Readings, seconds: float = 0.0) -> bool:
        """Take in a look and what it took, in any order of epochs; one that is seen again, as after a resume, counts as seen last.

        True: stop.
        """
        for score in found.scores.values():
            finite(epoch, score)
        for one in self.heard.values():
            one.pop(epoch, None)
        for reading, score in found.scores.items():
            self.heard.setdefault(reading, {})[epoch] = score
        self.gaps.pop(epoch, None)
        self.gaps |= {epoch: found.gaps} if found.gaps else {}
        self.weights.pop(epoch, None)
        self.weights |= {epoch: found.weights} if found.weights else {}
        self.seconds[epoch] = seconds
        return self.stopped is not None

    @property
    def several(self) -> bool:
        """Whether more than one reading is heard, so that what is watched is a mean rank."""
        return self.config.score in TITLES or len(self.config.levels) > 1

    @property
    def lower(self) -> bool:
        """Whether lower is better of what is watched; mean ranks, of several readings, are best at 1."""
        return self.several or SCORES[self.config.score].lower

    def among(self, begin: int, end: float = math.inf) -> dict[int, float]:
        """What is watched, by the epochs from `begin` to `end` that have it: the score, or the mean rank of several among these."""
        part = within(self.heard, begin, end)
        return mean_ranks(part) if self.several else dict(next(iter(part.values()), {}))

    @property
    def scores(self) -> dict[int, float]:
        """What is watched, of all looks."""
        return self.among(0)

    @property
    def stopped(self) -> int | None:
        """The epoch of the look that ended the run; None: it goes on."""
        ended = self.by_ranks() if self.several and self.config.score != "vote" else self.by_vote()
        return next(ended, None)

    def by_ranks(self) -> Iterator[int]:
        """The looks at which mean ranks say that it is enough."""
        for end in sorted(epoch for epoch in self.seconds if epoch >= self.config.warmup):
            ranks = self.among(self.config.warmup, end)
            if ranks and sum(epoch > choose(ranks, lower=True).epoch for epoch in ranks) >= self.config.patience:
                yield end

    def by_vote(self) -> Iterator[int]:
        """The looks at which more than half of the readings that are heard are past their patience; one alone is a majority."""
        best, since = dict[str, float](), dict[str, int]()
        for epoch in sorted(epoch for epoch in self.seconds if epoch >= self.config.warmup):
            for name, one in self.heard.items():
                if epoch in one:
                    better = loss(name, one[epoch]) < best.get(name, math.inf) - self.config.min_delta
                    best[name], since[name] = (loss(name, one[epoch]), 0) if better else (best[name], since[name] + 1)
            voters = telling(within(self.heard, self.config.warmup, epoch))
            if 2 * sum(since[name] >= self.config.patience for name in voters) > len(voters):
                yield epoch

    def verdict(self) -> Verdict:
        """The untrained encoder where it is the best of all looks, else the best of the trained models, those of the warm-up too.

        By ranks the latter is that among the trained models alone, as the one that others get: the untrained encoder between them could
        make another the best. ValueError where none was scored.
        """
        best = choose(self.scores, self.lower)
        return best if best.epoch == 0 else choose(self.among(1), self.lower)._replace(untrained=best.untrained)

    @property
    def promising(self) -> set[int]:
        """The epochs of trained models that may yet be the best (see ranks.unsurpassed); none of a vote, which takes the last."""
        return unsurpassed(within(self.heard, 1)) if self.config.score != "vote" else set()

    @property
    def lost(self) -> set[str]:
        """The readings that are heard no more."""
        return {name for name, one in self.heard.items() if one} - set(telling(self.heard))

    @property
    def hours(self) -> dict[int, float]:
        """What the looks took until each epoch that was looked at, in hours of one device."""
        epochs = sorted(self.seconds)
        return dict(zip(epochs, accumulate(self.seconds[epoch] / 3600 for epoch in epochs), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What was heard so far, for a checkpoint."""
        heard = {name: dict(one) for name, one in self.heard.items()}
        return {"scores": heard, "gaps": dict(self.gaps), "seconds": dict(self.seconds), "weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another knew; from JSON too, which has no numbers as keys."""
        self.heard = {name: {int(epoch): float(score) for epoch, score in one.items()} for name, one in state["scores"].items()}
        self.gaps = {int(epoch): dict(why) for epoch, why in state["gaps"].items()}
        self.seconds = {int(epoch): float(seconds) for epoch, seconds in state["seconds"].items()}
        self.weights = {int(epoch): str(told) for epoch, told in state.get("weights", {}).items()}  # earlier versions told none


class Looker:
    """A Look that scores copies of the weights in a thread of its own, and folds what is finished into the monitor at each later call.

    With `config.wait` every call waits for its score, and the same run stops at the same epoch. A gap among the readings is kept as such,
    and training goes on; what `score` raises is a bug, and fails the call that folds it.
    `score` gets an encoder that is no one else's, on `device`, and must leave the global state of chance alone, which training shares.
    """

    def __init__(
        self, config: TransferConfig, score: Callable[[nn.Module], Readings], device: str = "cpu", last: int | None = None
    ) -> None:
        self.monitor, self.score, self.device = Monitor(config, last), score, device
        self.copied: nn.Module | None = None
        self.under_way: dict[int, Future[tuple[Readings, float]]] = {}
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="look")

    def __call__(self, epoch: int, encoder: nn.Module) -> bool:
        """Look if it is due and was not done; True: what is known by now says stop."""
        if self.monitor.due(epoch) and epoch not in self.monitor.seconds and epoch not in self.under_way:
            self.fold(WAITING - 1)
            if self.copied is None:
                self.copied = copy.deepcopy(encoder).to(self.device)
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in encoder.state_dict().items()}
            self.under_way[epoch] = self.thread.submit(self.scored, self.copied, weights)
        self.fold(0 if self.monitor.config.wait else WAITING)
        return self.monitor.stopped is not None

    def scored(self, copied: nn.Module, weights: Mapping[str, Tensor]) -> tuple[Readings, float]:
        """What a look comes to, and the seconds that it took."""
        began = time.perf_counter()
        copied.load_state_dict(weights)
        with torch.inference_mode():
            return self.score(copied), time.perf_counter() - began

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
        """The monitor's state; waits for all looks, of which there would be no weights after a resume."""
        self.fold(0)
        return self.monitor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` told; what is still being scored is folded in first."""
        self.fold(0)
        self.monitor.load_state_dict(state)
