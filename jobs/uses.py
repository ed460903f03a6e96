"""What the encoder, and whether it will be frozen, tell of when to stop, on released scores: by tables learnt on other data sets.

A table is of lengths of pre-training, which see no score at all, or of how patient a vote of the encoder's levels is, or of both.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from engine import options, stopping
from engine.foresight import AROUND
from engine.options import Options, Table
from engine.released import Release
from engine.settings import TransferConfig
from engine.stopping import Draws
from engine.tradeoffs import Curve
from jobs import tradeoff
from jobs.tradeoff import NESTED, PATIENCES, PRICES

USE = ("encoder", "frozen")  # the cells of the earlier study's table, which had seen the outcome of all data sets
# [regret] for all epochs: round numbers with which the six points come out that the earlier study has of its table (it tells no rates).
RATES = (0.05, 0.15, 0.3, 0.4, 0.5, 0.7)
TABLE = "table by encoder and frozen"
CHOSEN = f"{TABLE}, rate chosen, by price"
LEARNT = "learnt without the data set left out: all rates drawn"
UNCHOSEN = "learnt without the data set left out, nothing chosen"
BROWN, BLUE = "#8a6d00", "#1f4e9c"


class Dial(NamedTuple):
    """A rule at every setting that it is tried at."""

    name: str
    how: str  # its settings were chosen
    stops: Mapping[str, np.ndarray]  # (S,) indices of lengths, by what is told of a setting
    colour: str = ""  # "": it is not drawn
    dashes: str = ""


def dials(release: Release) -> list[Dial]:
    """All of them, each learnt, and chosen where there is something to choose, on the data sets that it is not judged on."""
    lengths = options.options(release, np.tile(np.arange(len(release.lengths)), (len(release.setups), 1)))
    patience = options.options(release, patiences(release))
    both = options.options(release, np.hstack([patience.stops, lengths.stops]))
    cells = [Table(fields, rate) for fields in AROUND for rate in RATES]
    tables = [
        Dial(f"{TABLE}, by rate", LEARNT, {f"{rate:g}": options.left_out(Table(USE, rate), lengths) for rate in RATES}, BROWN, "5 4"),
        Dial(CHOSEN, NESTED, chosen(rated(USE), lengths), BROWN),
        Dial(f"{TABLE}, the price its rate", UNCHOSEN, unchosen(USE, lengths)),
        Dial("table, cells and rate chosen, by price", NESTED, chosen(cells, lengths)),
        Dial("length or vote's patience by encoder and frozen, by price", NESTED, chosen(rated(USE), both)),
    ]
    votes = {"one patience for all": (), "patience by frozen": ("frozen",), "patience by encoder and frozen": USE}
    for name, fields in votes.items():
        tables.append(Dial(f"vote, {name}, by price", NESTED, chosen(rated(fields), patience), BLUE if fields == USE else ""))
        tables.append(Dial(f"vote, {name}, the price its rate", UNCHOSEN, unchosen(fields, patience)))
    return tables


def rated(cells: tuple[str, ...]) -> list[Table]:
    """A table of these cells at every rate."""
    return [Table(cells, rate) for rate in RATES]


def chosen(tables: list[Table], told: Options) -> dict[str, np.ndarray]:
    """Stops (S,) by price, the table chosen without the data set that is left out."""
    return {f"{price:g}": stops for price, (stops, _) in zip(PRICES, options.nested(tables, told, PRICES), strict=True)}


def unchosen(cells: tuple[str, ...], told: Options) -> dict[str, np.ndarray]:
    """Stops (S,) by price, which stands for what epochs may cost, so that there is nothing to choose."""
    return {f"{price:g}": stops for price, stops in zip(PRICES, options.priced(cells, told, PRICES), strict=True)}


def patiences(release: Release) -> np.ndarray:
    """(S, patiences) index of the length at which a vote of the levels ends the training."""
    levels = tradeoff.levels(release)
    hows = [TransferConfig(score="vote", levels=levels, patience=patience) for patience in PATIENCES]
    return np.array([[tradeoff.halted(how, release, setup)[1] for how in hows] for setup in range(len(release.setups))])


def curve(dial: Dial, release: Release, draws: Draws) -> Curve:
    """A dial as points beside fixed lengths mixed to as many epochs."""
    points = [tradeoff.held(release, stopping.at(stops, release.lengths), draws, told) for told, stops in dial.stops.items()]
    return Curve(dial.name, dial.how, points, dial.colour or tradeoff.INK, dial.dashes, side="below")
