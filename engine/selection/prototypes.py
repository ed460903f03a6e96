"""Methods that keep what is least like the middle of its cluster."""

from engine.config import SelectionConfig
from engine.pool import Pool
from engine.rows import rising
from engine.selection.budgets import Budget, Order
from engine.selection.clustering import clustered, outside_in
from engine.selection.likeness import deduplicated, told_of
from engine.selection.spread import Run


def ssl_prototypes(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """Sorscher et al. (NeurIPS 2022): by cosine distance to the nearest centroid, largest first."""
    found = clustered(pool, config)
    return Order(outside_in(pool, found), clustering=found)


def d4(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """D4 (Tirumala et al., NeurIPS 2023): what SemDeDup leaves, clustered once more, by distance to the nearest centroid.

    Both clusterings are used again when patches came or went: the choice is that of solving anew around the centroids of both.
    """
    kept, left, found = deduplicated(pool, config, run, config.d4.dedup)
    few = f"SemDeDup leaves {len(kept):,} of {len(pool):,} patches to choose from: raise selection.d4.dedup, or choose by another method"
    return Order(kept[rising(left.nearness, pool.keys()[kept])], told_of(pool, left), found, few)
