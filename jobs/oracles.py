"""The table `frontier` of transfer-study: the least regret that any rule of a kind can reach in a budget of mean epochs, as rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine import frontier, released, stopping
from engine.released import Release

BUDGETS = (10, 20, 30, 50, 75, 100, 150, 200)  # mean epochs
CAPS = (20, 50, 100)  # epochs; those of the earlier study
CAPPED = "oracle, each setup capped"
ROUNDING = 1e-12  # by which sums of the same numbers in another order may differ
AS_GOOD = "as good as the longest"
Row = dict[str, Any]


def oracles(release: Release) -> Iterator[Row]:
    """What nobody can pass who chooses length by length, setup by setup, or less freely, by what is known only afterwards.

    Of each the least regret within a budget, and last the fewest epochs that reach that of the longest.
    """
    regret, tis = stopping.regrets(release.performance), stopping.ratios(release.performance)
    yield from mixtures(regret, release.lengths)
    kinds = {
        "oracle per dataset x encoder x scheme": ("dataset", "encoder", "scheme"),
        "table encoder x frozen, in sample": ("encoder", "frozen"),
        "oracle per setup": ("dataset", "encoder", "scheme", "frozen"),
    }
    for name, fields in kinds.items():
        groups = released.numbered(release.setups, fields)
        yield from oracle(name, release, groups, regret)
        yield at_budget(f"{name}: {AS_GOOD}", to_reach(release, groups, regret), float(regret[:, -1].mean()))
    alone = np.arange(len(regret))
    yield from oracle("oracle per setup by TIS", release, alone, 1 - tis)
    yield at_budget(f"oracle per setup by TIS: {AS_GOOD}", to_reach(release, alone, 1 - tis), None, float(tis[:, -1].mean()))
    yield from capped(release)
    yield from other_seeds(release)


def mixtures(regret: np.ndarray, lengths: np.ndarray) -> Iterator[Row]:
    """Rows of fixed lengths, mixed; last the fewest whole epochs whose mixture is as good as the longest. Regret (S, L), lengths (L,)."""
    for budget in BUDGETS:
        yield at_budget("fixed, mixed", budget, frontier.mixture(regret, lengths, budget))
    target = float(regret[:, -1].mean())
    enough = (budget for budget in range(lengths[-1] + 1) if frontier.mixture(regret, lengths, budget) <= target + ROUNDING)
    yield at_budget(f"fixed, mixed: {AS_GOOD}", next(enough), target)


def oracle(name: str, release: Release, groups: np.ndarray, loss: np.ndarray) -> Iterator[Row]:
    """Rows of what stops the setups of one number in `groups` (S,) alike so that the mean of a loss (S, L) is least."""
    found, everyone = frontier.grouped(loss, release.lengths, groups), np.arange(len(loss))
    tables = stopping.regrets(release.performance), stopping.ratios(release.performance)
    for budget in BUDGETS:
        stops = found.stops(budget * len(loss))[groups]
        yield at_budget(name, budget, *(float(table[everyone, stops].mean()) for table in tables))


def to_reach(release: Release, groups: np.ndarray, loss: np.ndarray) -> float | None:
    """The fewest mean epochs for which that mean is at most the loss (S, L) of the longest; None where there are none."""
    found = frontier.grouped(loss, release.lengths, groups)
    return frontier.epochs_to_reach(found.least / len(loss), float(loss[:, -1].mean()), len(loss))


def capped(release: Release) -> Iterator[Row]:
    """Rows of the oracle per setup where none is trained longer than a cap; and of the fewest mean epochs that take it as far."""
    regret, tis = stopping.regrets(release.performance), stopping.ratios(release.performance)
    everyone = np.arange(len(regret))
    for cap in CAPS:
        within = release.lengths <= cap
        stops = regret[:, within].argmin(axis=1)  # of equal ones the shortest
        figures = float(regret[everyone, stops].mean()), float(tis[everyone, stops].mean())
        yield at_budget(CAPPED, cap, *figures)
        yield at_budget(f"{CAPPED} at {cap}: no more epochs take it further", float(release.lengths[stops].mean()), *figures)


def other_seeds(release: Release) -> Iterator[Row]:
    """Rows of the oracle on a held-out seed, means over seeds; last that of the fewest epochs of each, None where one is never as good.

    There are none of a release with one seed: nothing else would tell the oracle of it.
    """
    if release.dice.shape[-1] < 2:
        return
    target, count = longest(release), len(release.setups)
    held = frontier.held_out(release.dice, release.lengths)
    for budget in BUDGETS:
        yield at_budget("oracle, held-out seed", budget, float(held[:, min(budget * count, held.shape[1] - 1)].mean()))
    taken = [frontier.epochs_to_reach(one, target, count) for one in held]
    enough = [one for one in taken if one is not None]
    mean = float(np.mean(enough)) if len(enough) == len(taken) else None
    yield at_budget(f"oracle, held-out seed: {AS_GOOD}", mean, target)


def longest(release: Release) -> float:
    """The mean regret of the longest pre-training."""
    return float(stopping.regrets(release.performance)[:, -1].mean())


def at_budget(rule: str, epochs: float | None, regret: float | None, tis: float | None = None) -> Row:
    """A row of the table `frontier`."""
    return {"table": "frontier", "rule": rule, "epochs": epochs, "regret": regret, "tis": tis}


def single_scores(release: Release) -> Iterator[Row]:
    """Rows of the table frontier: the best of all rules by one curve of robustness, by the outcome, so too good to expect again."""
    yield from best_of("single scores by patience, in sample", frontier.single_scores(release), longest(release))


def scanned(tried: list[Row], target: float) -> Iterator[Row]:
    """Rows of the table frontier: the best of all that was tried on the data sets left out, hence too good to expect again."""
    yield from best_of("ours, best of the scan", np.array([[row[name] for name in ("epochs", "regret", "tis")] for row in tried]), target)


def best_of(name: str, tried: np.ndarray, target: float) -> Iterator[Row]:
    """Of rules tried (n, 3), mean epochs, regret and TIS: the least regret in each budget, and the fewest epochs that reach `target`.

    None where no rule is within a budget, or reaches it.
    """
    for budget in BUDGETS:
        within = tried[tried[:, 0] <= budget]
        _, regret, tis = within[within[:, 1].argmin()].tolist() if len(within) else (None, None, None)
        yield at_budget(name, budget, regret, tis)
    as_good = tried[tried[:, 1] <= target + ROUNDING, 0].tolist()
    yield at_budget(f"{name}: {AS_GOOD}", min(as_good, default=None), target)
