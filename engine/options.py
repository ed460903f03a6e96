"""Which of several options was the cheapest in like cases on other data: a length of pre-training, or how patient its monitor is.

A Table takes, in each cell of setups that are alike, the option whose mean regret + rate x share of all epochs is the least on the data
sets that it learns from. With lengths, by encoder and frozen or not, it is that of an earlier study of the scores of arXiv 2410.18677, and
sees no score of an encoder. S setups, L lengths, O options.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from engine.foresight import EXACT, Cell, apart
from engine.released import Release, Setup
from engine.stopping import regrets


class Table(NamedTuple):
    """By what setups are alike, and what epochs cost."""

    cells: tuple[str, ...]  # fields of Setup; those alike in all of them take the same option; none: all do
    rate: float  # [regret] that all epochs are worth


@dataclass(frozen=True)
class Options:
    """What can be done in every setup, and what came of every length there."""

    setups: tuple[Setup, ...]
    stops: np.ndarray  # (S, O) index of the length at which an option ends
    regret: np.ndarray  # (S, L)
    share: np.ndarray  # (L,) of the epochs of the longest

    def part(self, chosen: np.ndarray) -> "Options":
        """The setups at the places `chosen` (s,)."""
        return Options(tuple(self.setups[place] for place in chosen), self.stops[chosen], self.regret[chosen], self.share)

    def cells(self, fields: Sequence[str]) -> list[Cell]:
        """The cell of each setup: what it has in these fields."""
        return [tuple(getattr(one, field) for field in fields) for one in self.setups]

    @property
    def longest(self) -> float:
        """[regret] of the longest pre-training, the mean over setups."""
        return max(float(self.regret[:, -1].mean()), EXACT)


def options(release: Release, stops: np.ndarray) -> Options:
    """The Options that end at the lengths of these indices (S, O)."""
    return Options(release.setups, stops, regrets(release.performance), release.lengths / release.lengths[-1])


def learn(table: Table, told: Options) -> dict[Cell, int]:
    """By cell the cheapest option, of equal ones the first."""
    cells = told.cells(table.cells)
    bill = np.take_along_axis(told.regret + table.rate * told.share, told.stops, axis=1)
    places = {cell: [place for place, one in enumerate(cells) if one == cell] for cell in cells}
    return {cell: int(np.argmin(np.round(bill[mine].mean(axis=0), 9))) for cell, mine in places.items()}


def taken(table: Table, told: Options, of: Options) -> np.ndarray:
    """(s,) indices of the lengths at which others stop by what was told; ValueError for a cell of which nothing was."""
    learnt, cells = learn(table, told), of.cells(table.cells)
    if unknown := set(cells) - set(learnt):
        raise ValueError(f"nothing was learnt of {' '.join(map(str, min(unknown)))}, but of {len(learnt)} other cells")
    return np.asarray(of.stops[np.arange(len(cells)), [learnt[cell] for cell in cells]])


def left_out(table: Table, told: Options) -> np.ndarray:
    """(S,) stops in every setup of a table that learnt from all but its data set."""
    found = np.zeros(len(told.setups), int)
    for others, mine in apart(told.setups, "dataset"):
        found[mine] = taken(table, told.part(others), told.part(mine))
    return found


def priced(cells: tuple[str, ...], told: Options, prices: Sequence[float]) -> list[np.ndarray]:
    """For each price (S,) the same where nothing is chosen: all epochs are worth price x the regret of the longest, as learnt from."""
    found = [np.zeros(len(told.setups), int) for _ in prices]
    for others, mine in apart(told.setups, "dataset"):
        rest = told.part(others)
        for price, stopped in zip(prices, found, strict=True):
            stopped[mine] = taken(Table(cells, price * rest.longest), rest, told.part(mine))
    return found


def nested(tables: Sequence[Table], told: Options, prices: Sequence[float]) -> list[tuple[np.ndarray, list[Table]]]:
    """For each price (S,) stops where what is judged had no part in choosing the table or in what it learnt; and the tables by `apart`.

    Chosen is the least regret + price x share of all epochs on the other data sets, each of these left out in turn, the earlier of equals;
    regret in units of that of the longest, as in `foresight.nested`.
    """
    found = [(np.zeros(len(told.setups), int), list[Table]()) for _ in prices]
    for others, mine in apart(told.setups, "dataset"):
        rest = told.part(others)
        costs = np.array([bill(left_out(table, rest), rest) for table in tables])
        for price, (stopped, chosen) in zip(prices, found, strict=True):
            table = tables[int(np.argmin(np.round(costs @ (1, price), 9)))]
            stopped[mine] = taken(table, rest, told.part(mine))
            chosen.append(table)
    return found


def bill(stops: np.ndarray, told: Options) -> tuple[float, float]:
    """Mean regret of stops (S,), in units of that of the longest, and their mean share of all epochs."""
    return float(told.regret[np.arange(len(stops)), stops].mean()) / told.longest, float(told.share[stops].mean())
