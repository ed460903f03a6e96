"""How much may be chosen: a limit in bytes, patches, training images or hours of a GPU, and what each patch takes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.config import SelectionConfig
from engine.pool import Clustering, Pool
from engine.rows import Rows


@dataclass(frozen=True)
class Order:
    """Rows of a pool in the order of choice, what their method found out on the way, by name, and the clustering of the pool, if any.

    `few` says why there are no more rows, and what would help, where the budget has room and the method knows it.
    """

    rows: Rows
    told: Mapping[str, float] = field(default_factory=dict)
    clustering: Clustering | None = None
    few: str = ""


@dataclass(frozen=True)
class Budget:
    """What each row costs, (N,) whole numbers, and the limit of their sum. `worth` of one is so much of `unit`."""

    costs: NDArray[np.int64]
    limit: int
    unit: str
    group: int  # patches of a training image
    worth: float = 1.0
    rest: float = 0.0  # too little for another image, in `unit`

    def within(self, order: Rows) -> Rows:
        """The first rows that do not exceed the limit, as whole images; no later one takes the place of one that is too large."""
        affordable = self.affordable(order)
        return affordable[: len(affordable) - len(affordable) % self.group]

    def affordable(self, order: Rows) -> Rows:
        """The first rows that do not exceed the limit."""
        return order[: int(np.searchsorted(np.cumsum(self.costs[order]), self.limit, side="right"))]

    def spent(self, rows: Rows) -> int:
        """What these rows cost together."""
        return int(self.costs[rows].sum())

    def unspent(self, rows: Rows) -> float:
        """What is left, in `unit`."""
        return (self.limit - self.spent(rows)) * self.worth + self.rest

    def holds_more(self, rows: Rows) -> bool:
        """Whether so much is left that another image of mean cost would not exceed it."""
        costs = self.costs[self.costs <= self.limit]
        return bool(len(costs)) and self.limit - self.spent(rows) >= self.group * float(costs.mean())


def budget_of(pool: Pool, config: SelectionConfig, group: int, seconds_per_image: Fraction | int = 0) -> Budget:
    """The budget of `config` for this pool and images of `group` patches.

    `seconds_per_image` is the time of a GPU that an image takes over all epochs, exactly: by a float of it hours pay for an image too few.
    ValueError where a budget in hours does not know it.
    """
    if config.unit == "bytes":
        costs = pool.columns["bytes"].to_numpy().astype(np.int64)
        limit = whole_number(config.budget, int(costs.sum()))
        return Budget(costs, limit, "bytes", group)
    ones = np.broadcast_to(np.int64(1), len(pool))
    if config.unit == "patches":
        return Budget(ones, whole_number(config.budget, len(pool)), "patches", group)
    if config.unit == "images":
        # OptiDEL, section 3: N = 4 R |D| patches, so R |D| images of |D| frames.
        frames = pc.count_distinct(pool.columns["frame_id"]).as_py() if config.budget <= 1 else 0
        return Budget(ones, whole_number(config.budget, frames) * group, "images", group, 1 / group)
    if seconds_per_image <= 0:
        raise ValueError("selection.unit=gpu_hours needs selection.images_per_s, the images a second that pre-training was measured at")
    hours, each = Fraction(str(config.budget)), Fraction(seconds_per_image) / 3600
    images = int(hours / each)
    return Budget(ones, images * group, "gpu_hours", group, float(each / group), float(hours - images * each))


def whole_number(budget: float, total: int) -> int:
    """The budget itself above 1, else that share of `total`, read as it was written: 0.29 of 100 is 29."""
    return int(budget) if budget > 1 else int(Fraction(str(budget)) * total)


def most(budget: Budget, choose: Callable[[int], Rows]) -> Rows:
    """The rows that `choose` gives for the largest count of them that stays in the budget, found by bisection."""
    costs = budget.costs[budget.costs > 0]
    free, cheapest = len(budget.costs) - len(costs), int(costs.min()) if len(costs) else 1
    low, high = 0, min(len(budget.costs), free + budget.limit // cheapest)
    best, middle = np.zeros(0, np.int64), high  # with equal costs the first look is at the right one
    while low < high:
        rows = choose(middle)
        if budget.spent(rows) <= budget.limit:
            low, best = middle, rows
        else:
            high = middle - 1
        middle = (low + high + 1) // 2
    return best
