"""The models that a watched pre-training had at its looks: which of their files stay meanwhile, and which one others get in the end.

Others get the best of those that were trained, by the score that was watched. Never the untrained one, although it may be the verdict:
a score like robustness can like it better than all that follow, random weights under the name of a pre-trained model are a trap, and
whoever wants them needs no file. The card and the log say so, and `evaluate` measures an untrained encoder beside what is exported.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from engine import files, objectives
from engine.config import Config
from engine.monitor import Monitor, choose
from engine.store import PatchStore
from engine.transfer import SCORES


class Export(NamedTuple):
    epoch: int  # after how many the training had the model that others get
    why: str  # a sentence


class Kept:
    """Files of models in the folder of a pre-training in the store, by epochs: with transfer.keep all, else those that may yet be the best.

    These are the best so far, the best at the last two checkpoints, from which a training that is killed goes on, and those whose score
    is not there yet. Beside them lies what all looks came to.
    """

    def __init__(self, config: Config, key: str) -> None:
        self.config, self.folder = config, PatchStore(config.store.uri).address(f"models/{key}")
        self.lower = SCORES[config.transfer.score].lower
        self.secure: tuple[int, int] = (0, 0)

    def address(self, epoch: int) -> str:
        return f"{self.folder}/epoch-{epoch:05}.safetensors"

    def put(self, epoch: int, model: nn.Module) -> None:
        if epoch or self.config.transfer.keep:
            objectives.save(model, self.address(epoch))

    @property
    def epochs(self) -> list[int]:
        fs, root = files.locate(self.folder)
        fs.invalidate_cache()
        return sorted(int(Path(path).stem.removeprefix("epoch-")) for path in fs.glob(f"{root}/epoch-*.safetensors"))

    def secure_best(self, scores: Mapping[int, float]) -> None:
        """Keep what is best by these scores, those of a checkpoint, until the next but one."""
        self.secure = (self.secure[1], self.best(scores))

    def note(self, trained: int, monitor: Monitor) -> None:
        """Write down what is known after so many epochs, and remove the models that it shows to be surpassed."""
        told = {"score": self.config.transfer.score, "trained": trained, **monitor.state_dict()}
        files.put(json.dumps(told, indent=1).encode(), f"{self.folder}/looks.json")
        stay = {self.best(monitor.scores), *self.secure}
        self.remove(epoch for epoch in self.epochs if epoch in monitor.scores and epoch not in stay)

    def noted(self) -> dict[str, Any]:
        """What `note` wrote: "trained", the epochs, and a monitor's state."""
        fs, path = files.locate(f"{self.folder}/looks.json")
        fs.invalidate_cache()
        return dict(json.loads(fs.cat_file(path)))

    def remove(self, epochs: Iterable[int]) -> None:
        """Remove the models of these epochs, unless all are to stay."""
        for epoch in [] if self.config.transfer.keep else list(epochs):
            fs, path = files.locate(self.address(epoch))
            fs.rm_file(path)

    def clear(self) -> None:
        """Remove the models, once others have the one that they get."""
        self.remove(self.epochs)

    def best(self, scores: Mapping[int, float]) -> int:
        """The epoch of the best that was trained; 0 before there is one."""
        trained = {epoch: score for epoch, score in scores.items() if epoch}
        return choose(trained, self.lower).epoch if trained else 0

    def export(self) -> Export:
        """Which model others get."""
        noted, how = self.noted(), self.config.transfer
        monitor, last = Monitor(how), int(noted["trained"])
        monitor.load_state_dict(noted)
        scores = {epoch: score for epoch, score in monitor.scores.items() if 0 < epoch <= last}
        there = {epoch: score for epoch, score in scores.items() if epoch in self.epochs}
        if not there:
            return Export(last, f"the last of {last} epochs: of none that was looked at there is a model left")
        epoch, best = self.best(there), self.best(scores)
        sense = "lower" if self.lower else "higher"
        why = f"of {len(scores)} looks in {last} epochs its {SCORES[how.score].title}, {scores[epoch]:.4g}, is the best ({sense} is better)"
        if epoch != best:
            why += f" but for {scores[best]:.4g} after {best}, of which no model is left"
        if monitor.verdict().untrained:
            why += (
                f"; the untrained encoder has {monitor.scores[0]:.4g}, so by this score no pre-training is best: this is the best that was "
                "trained, and the job evaluate measures an untrained one beside it"
            )
        return Export(epoch, why)
