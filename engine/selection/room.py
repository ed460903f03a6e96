"""What a budget has room for: a patch that exceeds it by itself is in no set, and so no stand-in, no copy and no centre."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine import clusters
from engine.pool import Clustering, Part, Pool
from engine.rows import Rows
from engine.selection.budgets import Budget, Order

Solve = Callable[[Pool, Budget], Order]


def order(pool: Pool, budget: Budget, solve: Solve) -> Order:
    """The order in which a method chooses from the rows of a pool that the budget has room for, one by one."""
    fits = budget.costs <= budget.limit
    if fits.all():
        return solve(pool, budget) if len(pool) else Order(np.zeros(0, np.int64))
    rows = np.flatnonzero(fits)
    if not len(rows):
        return Order(rows)
    found = solve(narrowed(pool, rows), replace(budget, costs=budget.costs[rows]))
    clustering = widened(found.clustering, pool, rows) if found.clustering else None
    few = found.few and f"by itself each of {len(pool) - len(rows):,} of {len(pool):,} patches exceeds it, and of the others {found.few}"
    return replace(found, rows=rows[found.rows], clustering=clustering, few=few)


def narrowed(pool: Pool, rows: Rows) -> Pool:
    """The pool of some rows, which rise, with what is known of them: the others are to their clusters as patches that are gone."""
    known, rounded = pool.clustering, pool.rounded
    return replace(
        pool.part(rows),
        clustering=known.at(rows) if known else None,
        rounded=Part(rounded, rows) if rounded else None,
        hashes=pool.keys()[rows],
    )


def widened(found: Clustering, pool: Pool, rows: Rows) -> Clustering:
    """The clustering of some rows as one of the whole pool: the others have their cluster, and took no part in comparing it.

    Those that have no direction have none: whatever chooses among them looks at them, and refuses them.
    """
    places = np.full(len(pool), -1)
    places[rows] = np.arange(len(rows))
    whole, known, away = found.at(places), pool.clustering, places < 0
    if known and known.name == found.name:
        whole.labels[away], whole.nearness[away] = known.labels[away], known.nearness[away]
    new = np.flatnonzero(away & (whole.labels < 0))
    new = new[clusters.have_direction(Part(pool.embeddings(), new))]
    whole.labels[new], whole.nearness[new] = clusters.assigned(Part(pool.embeddings(), new), found.centroids)
    return whole
