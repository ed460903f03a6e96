"""Methods that rank patches by what the scorers say of each, or by lot."""

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.config import SelectionConfig
from engine.pool import Pool
from engine.rows import Rows
from engine.selection.budgets import Budget, Order
from engine.selection.spread import Run


def by_lot(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """Random: the control that every method must beat at the same budget."""
    return Order(np.argsort(pool.keys(config.seed), kind="stable"))


def hardest(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """OptiDEL (arXiv 2408.07107, algorithm 1): by rebuild error, largest first."""
    return Order(pool.ranked(pool.numbers("difficulty")))


def hardest_crops(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """OptiDEL-S: the same with random crops in place of a segmenter's regions; ValueError where there are others."""
    others = sorted(set(pc.unique(pool.columns["proposer"]).to_pylist()) - {"crops"}, key=str)
    if others:
        raise ValueError(
            f"selection.method=optidel_s ranks random crops and the store holds patches by {', '.join(map(str, others))}: "
            "ingest with patches.proposer=crops, or choose with optidel"
        )
    return hardest(pool, budget, config, run)


def easiest(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """The reverse of OptiDEL."""
    return Order(pool.ranked(-pool.numbers("difficulty")))


def hardest_on_average(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """After EL2N (Paul et al., NeurIPS 2021): the mean difficulty over all scorers, largest first.

    The paper averages the error over trainings of one network. Ours may be of any size and length, but of one scale.
    """
    return Order(pool.ranked(np.mean(scored(pool, config), axis=0)))


def most_forgotten(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """After forgetting events (Toneva et al., ICLR 2019): how often a patch goes from the easier half to the harder between two scorers.

    Rebuilding is never right or wrong, so the halves stand for that (our choice). Scorers are heard from the least trained on as the pool
    has them, the store's own last, however long that was trained. Equal ones: the hardest first.
    """
    scores = scored(pool, config)
    halves = np.stack([harder_half(pool, values) for values in scores])
    events = np.sum(~halves[:-1] & halves[1:], axis=0)
    return Order(np.lexsort([pool.keys(), -scores[-1], -events]))


def harder_half(pool: Pool, values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether each patch (N,) is among the hardest N // 2."""
    found = np.zeros(len(pool), np.bool_)
    found[pool.ranked(values)[: len(pool) // 2]] = True
    return found


def scored(pool: Pool, config: SelectionConfig) -> list[NDArray[np.float64]]:
    """The difficulties by each scorer, the last being the store's own; ValueError where there is no other or one is not a number.

    Shape: (N,) each.
    """
    if not pool.earlier:
        raise ValueError(
            f"selection.method={config.method} compares several scorers and the store has the scores of one only: run the job score "
            "with score.by=early, or with score.by=checkpoint of another"
        )
    for place, values in enumerate(pool.earlier):
        if bad := int(np.sum(~np.isfinite(values))):
            raise ValueError(f"{bad:,} of {len(values):,} patches have a difficulty by the scorer {place} that is not a finite number")
    return [*(np.asarray(values, np.float64) for values in pool.earlier), pool.numbers("difficulty")]


def realistic(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """RDED (Sun et al., CVPR 2024), its observer's loss being ours: of each frame the easiest patch, then the easiest of all.

    Of n images the j-th gets the patches j, j + n, j + 2n, ... of that list.
    """
    ranked = easiest(pool, budget, config, run).rows
    _, first = np.unique(pool.codes("frame_id")[ranked], return_index=True)
    chosen = ranked[np.sort(first)]
    few = f"selection.method=rded takes one patch of each frame, and there are {len(chosen):,}: take in more video"
    return Order(dealt(budget.within(chosen), budget.group), few=few)


def dealt(rows: Rows, group: int) -> Rows:
    """Rows put so that consecutive groups of `group` are what dealing them out one by one over all groups gives."""
    return np.ascontiguousarray(rows.reshape(group, -1).T).ravel()
