"""The models that a watched pre-training had at its looks: which of their files stay meanwhile, and which one others get in the end.

Others get the best of those that were trained, by the score that was watched. Never the untrained one, although it may be the verdict:
a score like robustness can like it better than all that follow, random weights under the name of a pre-trained model are a trap, and
whoever wants them needs no file. The card and the log say so, and `evaluate` measures an untrained encoder beside what is exported.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn

from engine import files, objectives
from engine.config import Config
from engine.monitor import Monitor, choose, judged, title
from engine.store import PatchStore, trainings


class Export(NamedTuple):
    """The model that others get of a watched pre-training, and why."""

    epoch: int  # after how many the training had the model that others get
    why: str  # a sentence
    trained: int  # epochs until the training ended


class Kept:
    """Files of models in the folder of a pre-training in the store, by epochs: with transfer.keep all, else those that may yet be the best.

    These are the best so far, the best at the last checkpoint, and those whose score is not there yet. A training that is killed goes on
    from that checkpoint or from the one before and trains later models anew; what is known at the last one is of models until the other, so
    its best are what both need. Where several readings are heard, the best are all those that none surpasses in every reading that they
    have: ranks change with each look, and readings are lost and come back, so any of them may win. Beside them lies what all looks came to.
    """

    def __init__(self, config: Config, key: str) -> None:
        self.config, self.key, self.store = config, key, PatchStore(config.store.uri)
        self.looks = f"{self.store.address(trainings.folder(key))}/looks.json"
        self.secure = set[int]()

    def address(self, epoch: int) -> str:
        """Where the model after so many epochs lies."""
        return self.store.address(trainings.after(self.key, epoch))

    def put(self, epoch: int, model: nn.Module) -> None:
        """Save a model; of the untrained one only where all are kept."""
        if epoch or self.config.transfer.keep:
            objectives.save(model, self.address(epoch))

    @property
    def epochs(self) -> list[int]:
        """The epochs whose models lie in the folder, rising."""
        return trainings.epochs(self.store, self.key)

    def secure_best(self, monitor: Monitor) -> None:
        """Keep what may be best by what a monitor knows at a checkpoint, until the next."""
        self.secure = monitor.promising

    def note(self, trained: int, monitor: Monitor) -> None:
        """Write down what is known after so many epochs, and remove the models that it shows to be surpassed."""
        told = {"score": self.config.transfer.score, "trained": trained, **monitor.state_dict()}
        files.put(json.dumps(told, indent=1).encode(), self.looks)
        stay = monitor.promising | self.secure
        self.remove(epoch for epoch in self.epochs if epoch in monitor.seconds and epoch not in stay)

    @property
    def are_noted(self) -> bool:
        """Whether `note` ever wrote of these models."""
        fs, path = files.locate(self.looks)
        fs.invalidate_cache()
        return bool(fs.exists(path))

    def noted(self) -> dict[str, Any]:
        """What `note` wrote: "trained", the epochs, and a monitor's state."""
        fs, path = files.locate(self.looks)
        fs.invalidate_cache()
        return dict(json.loads(fs.cat_file(path)))

    def scores(self, epoch: int) -> dict[str, float]:
        """What the look at the model after so many epochs found, by reading; nothing where there was none, or only gaps."""
        monitor = Monitor(self.config.transfer)
        monitor.load_state_dict(self.noted())
        return {reading: one[epoch] for reading, one in monitor.heard.items() if epoch in one}

    def remove(self, epochs: Iterable[int]) -> None:
        """Remove the models of these epochs, unless all are to stay."""
        for epoch in [] if self.config.transfer.keep else list(epochs):
            fs, path = files.locate(self.address(epoch))
            fs.rm_file(path)

    def clear(self) -> None:
        """Remove the models, once others have the one that they get."""
        self.remove(self.epochs)

    def export(self) -> Export:
        """Which model others get."""
        noted, how = self.noted(), self.config.transfer
        monitor, last = Monitor(how), int(noted["trained"])
        monitor.load_state_dict(noted)
        scores = monitor.among(1, last)
        there = {epoch: score for epoch, score in scores.items() if epoch in self.epochs}
        if monitor.seconds and not monitor.scores:
            return Export(last, f"the last of {last} epochs, because {failed(monitor)}", last)
        if how.score == "vote":
            why = f"the last of {last} epochs, because the {title(how)} says when to end and not which model is best"
            return Export(last, why + guarded(monitor), last)
        if not there:
            return Export(last, f"the last of {last} epochs: of none that was looked at there is a model left", last)
        epoch, best = (choose(some, monitor.lower).epoch for some in (there, scores))
        sense = "lower" if monitor.lower else "higher"
        looks = "1 look at a trained model" if len(scores) == 1 else f"{len(scores)} looks at trained models"  # not at the untrained one
        trained = f"{last} epoch{'s' * (last > 1)}"
        why = f"of {looks} in {trained} its {title(how)}, {scores[epoch]:.4g}, is the best ({sense} is better)"
        if epoch != best:
            why += f" but for {scores[best]:.4g} after {best}, of which no model is left"
        return Export(epoch, why + guarded(monitor), last)


def guarded(monitor: Monitor) -> str:
    """What more is said of an exported model where no pre-training is best; "" where it is not, or nothing was scored."""
    if not monitor.scores or not monitor.verdict().untrained:
        return ""
    among, which, by = " among all looks" * monitor.several, "best", "this score"
    if monitor.config.score == "vote":
        which, by = "last", f"the {judged(monitor.config)}"
    return (
        f"; the untrained encoder has {monitor.scores[0]:.4g}{among}, so by {by} no pre-training is best: this is the {which} "
        "that was trained, and the job evaluate measures an untrained one beside it"
    )


def failed(monitor: Monitor) -> str:
    """That no look came to anything, and why the last did not."""
    last = max(monitor.gaps, default=None)
    why = next(iter(monitor.gaps[last].values())) if last is not None else "they have no reading in common"
    return f"none of {len(monitor.seconds)} looks could be scored; the last says: {why}"
