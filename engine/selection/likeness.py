"""SemDeDup: what is like something else in its cluster goes."""

from dataclasses import replace

import numpy as np

from engine.config import SelectionConfig
from engine.pool import WIDE, Clustering, Pool
from engine.rows import Rows, rising
from engine.selection.budgets import Budget, Order
from engine.selection.clustering import clustered, compared
from engine.selection.room import narrowed
from engine.selection.spread import Run

MORE = 1.25  # rows that are compared exactly, for each one that the budget takes: so the next choices can go by the same likeness
SPARE = 8  # and at most, where another budget takes so many


def semdedup(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """SemDeDup (Abbas et al. 2023): by the largest cosine with an earlier one of the cluster, smallest first.

    A row goes where that is above 1 - epsilon, whether or not the earlier one goes too, so each epsilon keeps a beginning of this order.
    When patches were added, no more of it is made than the budget takes: of most rows it is enough to know that they come later.
    """
    found, more = clustered(pool, config), MORE
    found = compared(pool, found, found.nearness, run, level := sought(found, budget, more))
    while level < 1 and not exceeds(found, budget, level):
        more *= 2
        found = compared(pool, found, found.nearness, run, level := sought(found, budget, more))
    rows = np.flatnonzero(found.likeness <= level)
    order = rows[rising(found.likeness[rows], pool.keys()[rows])]
    return Order(order, clustering=replace(found, level=sought(found, budget, MORE)))


def sought(found: Clustering, budget: Budget, more: float) -> float:
    """A likeness that so many times as many rows do not exceed as the budget takes; 1 where too few are known, or about half are taken.

    The one that choices went by before, as long as it will do: what was compared up to another is compared again.
    """
    known = found.likeness[~np.isnan(found.likeness)]
    count = int(more * (budget.limit / max(float(budget.costs.mean()), 1e-9) + 1))
    if WIDE * count >= len(known):
        return 1.0
    if found.level < 1 and exceeds(found, budget, found.level) and np.sum(known <= found.level) <= SPARE * count:
        return found.level
    return float(np.partition(known, count)[count])


def exceeds(found: Clustering, budget: Budget, level: float) -> bool:
    """Whether the rows of a likeness up to a level are more than the budget takes."""
    return budget.spent(np.flatnonzero(found.likeness <= level)) > budget.limit


def from_outside(pool: Pool, config: SelectionConfig, run: Run) -> Clustering:
    """The pool's clusters, compared from the outside in; a row's place in that order hangs on no other row."""
    found = clustered(pool, config)
    return compared(pool, found, found.nearness, run)


def deduplicated(pool: Pool, config: SelectionConfig, run: Run, share: float) -> tuple[Rows, Clustering, Clustering]:
    """The rows, rising, that SemDeDup leaves where it leaves that share of a pool, one at least; their clustering; and the pool's.

    Of the rows that were left before the clusters are known: what is left now and was not goes to its nearest centroid. These are fitted
    anew where as much is left as is another pool, by clustering.fits. The pool's clustering tells of both, for the next choice.
    """
    found = from_outside(pool, config, run)
    kept = np.sort(pool.ranked(-found.likeness)[: max(1, round(share * len(pool)))])
    left = clustered(narrowed(replace(pool, clustering=pool.left), kept), config)
    places = np.full(len(pool), -1)
    places[kept] = np.arange(len(kept))
    return kept, left, replace(found, left=left.at(places))


def told_of(pool: Pool, left: Clustering) -> dict[str, float]:
    """Whether what SemDeDup leaves of a pool was clustered anew, for the run to tell."""
    return {"clustered_anew": float(pool.left is None or pool.left.name != left.name)}
