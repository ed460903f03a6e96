"""SemDeDup: what is like something else in its cluster goes."""

import numpy as np

from engine.config import SelectionConfig
from engine.pool import Clustering, Pool
from engine.rows import Rows
from engine.selection.budgets import Budget, Order
from engine.selection.clustering import clustered, compared
from engine.selection.spread import Run


def semdedup(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """SemDeDup (Abbas et al. 2023): by the largest cosine with an earlier one of the cluster, smallest first.

    A row goes where that is above 1 - epsilon, whether or not the earlier one goes too, so each epsilon keeps a beginning of this order.
    """
    found = from_outside(pool, config, run)
    return Order(pool.ranked(-found.likeness), clustering=found)


def from_outside(pool: Pool, config: SelectionConfig, run: Run) -> Clustering:
    """The pool's clusters, compared from the outside in; a row's place in that order hangs on no other row."""
    found = clustered(pool, config)
    return compared(pool, found, found.nearness, run)


def deduplicated(pool: Pool, config: SelectionConfig, run: Run, share: float) -> tuple[Rows, Clustering]:
    """The rows, rising, that SemDeDup leaves where it leaves that share of a pool, one at least, and what it went by."""
    found = from_outside(pool, config, run)
    return np.sort(pool.ranked(-found.likeness)[: max(1, round(share * len(pool)))]), found
