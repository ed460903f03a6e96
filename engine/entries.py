"""Results of a matrix side by side: the cells of one data set under one architecture, those that failed, and what may flatter them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from engine import theory
from engine.charts import amount
from engine.scores import Marks

RANDOM, FULL, NONE = "random", "full data", "no pre-training"
Amount = tuple[float, str]  # a budget and its unit
Spot = tuple[str, Amount]  # a method at a budget


class Spotted:
    """Whatever is told of a method at a budget."""

    method: str
    budget: float
    unit: str  # of the budget

    @property
    def spot(self) -> Spot:
        """Its method at its budget."""
        return self.method, (self.budget, self.unit)


@dataclass(frozen=True)
class Entry(Spotted):
    """A cell that has a result; `retained` 0 is no pre-training."""

    method: str
    budget: float
    seed: int
    retained: float
    images: int  # pre-trained on
    miou: float
    marks: Marks
    measures: Mapping[str, float]  # of the selection, without training
    leaked: int = 0  # of its test images, near-duplicates of frames that it was pre-trained on
    twins: int = 0  # of its test images, near-duplicates of images that it was fine-tuned on
    unit: str = ""  # of the budget; "": of no pre-training, or nobody told

    @property
    def normdel(self) -> float:
        """Not a number for no pre-training, which retains nothing that could be counted."""
        return theory.normdel(self.miou, self.retained) if self.retained else float("nan")


@dataclass(frozen=True)
class Failure:
    """Cells of a board that have no result, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Board:
    """All cells of a matrix on one data set under one architecture, measured by one `setting`."""

    dataset: str
    architecture: str
    setting: str
    entries: tuple[Entry, ...]
    failures: tuple[Failure, ...] = ()
    others: int = 0  # results of other settings, which are not among these

    @property
    def caution(self) -> str:
        """What may flatter its scores, in sentences; "": nothing was found."""
        return " ".join(filter(None, (self.told_of_leaks(), self.told_of_twins())))

    def told_of_leaks(self) -> str:
        """A sentence on the cells with near-duplicates of test images in their training; "" where there are none."""
        worst = max(self.entries, key=lambda one: one.leaked, default=None)
        if worst is None or not worst.leaked:
            return ""
        seen = sum(one.leaked > 0 for one in self.entries)
        most = f"{worst.leaked} of {len(worst.marks.names)} ({worst.method} at {amount(worst.budget, worst.unit)}, seed {worst.seed})"
        return (
            f"In {seen} of {len(self.entries)} cells some test images have a near-duplicate among the frames that were pre-trained on, "
            f"at most {most}, so part of a score may be memory; leaks.json of each run names them."
        )

    def told_of_twins(self) -> str:
        """A sentence on near-duplicates between the two halves of a split, which all methods of a seed share; "" where there are none."""
        most = max((one.twins for one in self.entries), default=0)
        return (
            f"Up to {most} test images of a seed have a near-duplicate among those that were fine-tuned on, since the set tells no "
            "patients, which lifts every method's score; twins.json of each run names them."
            if most
            else ""
        )

    def spots(self) -> dict[Spot, list[Entry]]:
        """The entries of every method at every budget, by seed; budgets of a unit rise."""
        order = sorted(self.entries, key=lambda one: (one.unit, one.budget, one.method, one.seed))
        return {spot: list(some) for spot, some in groupby(order, key=lambda one: one.spot)}
