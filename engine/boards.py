"""The figures of a matrix as numbers: mIoU and NormDEL over budgets, a small chart for every method with the others behind it."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from engine import theory
from engine.charts import Frame, Interval, Point, Tick, amount, axis, figure, intervals, is_share, line, ticks
from engine.entries import FULL, NONE, Amount, Board
from engine.published import OPTIDEL, SOURCE, Reported
from engine.scores import Contrast
from engine.standings import Check, Least, MatrixResults, Mean, Standing, checks, least, means, patches, standings
from engine.verdicts import Verdict, Whole, wholes


@dataclass(frozen=True)
class Panel:
    """One quantity over budgets on a logarithmic axis; all paths are SVG in a square of 100 x 100."""

    path: str  # of the method
    dots: str
    spread: str  # its 95 % intervals, one upright line each
    others: str
    level: str  # of all data; "": not measured
    floor: str  # of no pre-training
    even: str  # the mIoU at which NormDEL takes this budget for as good as all data
    x: list[Tick]
    y: list[Tick]
    told: str


@dataclass(frozen=True)
class Curve:
    """A method's two charts over budgets of one unit."""

    method: str
    unit: str  # "": nobody told
    miou: Panel
    normdel: Panel


@dataclass(frozen=True)
class LeadDrawing:
    """Proposed regions over random crops at a budget, drawn."""

    budget: Amount
    contrast: Contrast
    at: Interval


@dataclass(frozen=True)
class Drawing:
    """A board as the page shows it."""

    board: Board
    groups: list[tuple[str, list[tuple[Standing, Interval]]]]  # of a budget, the best first; no pre-training first of all
    axis: list[Tick]  # of the mIoU
    curves: list[Curve]
    leads: list[LeadDrawing]
    differences: list[Tick]
    least: Least | None


@dataclass(frozen=True)
class MatrixDrawing:
    """A matrix as the page shows it."""

    matrix: MatrixResults
    boards: list[Drawing]
    architectures: list[str]
    means: list[tuple[Mean, Reported | None]]  # with the papers' own numbers beside
    source: str  # of these
    wholes: list[tuple[Whole, list[tuple[Verdict, Interval]], list[Tick]]]  # of an architecture, all together
    checks: list[tuple[Check, Interval]]
    scale: list[Tick]  # of a rank correlation


def matrix_drawing(matrix: MatrixResults) -> MatrixDrawing:
    """All that the page shows of a matrix, in the order of its boards."""
    rows = [(one, reported(one)) for one in means(matrix)]
    told = checks(matrix)
    spans, scale = intervals([(one.rho, one.low, one.high) for one in told], -1, 0, 1)
    names = list(dict.fromkeys(board.architecture for board in matrix.boards))
    parts = [drawn(board) for board in matrix.boards]
    ahead = [together(one) for one in wholes(matrix)]
    return MatrixDrawing(matrix, parts, names, rows, SOURCE, ahead, list(zip(told, spans, strict=True)), scale)


def reported(one: Mean) -> Reported | None:
    """The papers' own numbers, which are of shares."""
    return OPTIDEL.get((one.method, one.budget)) if is_share(one.budget, one.unit) else None


def together(whole: Whole) -> tuple[Whole, list[tuple[Verdict, Interval]], list[Tick]]:
    """The verdicts of an architecture on one axis, that axis last."""
    found = [one.advantage.contrast for one in whole.verdicts]
    spans, scale = intervals([(one.difference, one.low, one.high) for one in found], 0)
    return whole, list(zip(whole.verdicts, spans, strict=True)), scale


def drawn(board: Board) -> Drawing:
    """The board's figures: the interval of each standing by budget, a small chart a method, what regions gain over crops."""
    rows = standings(board)
    spans, scale = intervals([one.miou for one in rows]) if rows else ([], [])
    groups: dict[str, list[tuple[Standing, Interval]]] = {}
    for one, at in zip(rows, spans, strict=True):
        groups.setdefault(f"at {amount(one.budget, one.unit)}" if one.budget else "without pre-training", []).append((one, at))
    found = patches(board)
    gains, differences = intervals([(one.difference, one.low, one.high) for _, one in found], 0) if found else ([], [])
    leads = [LeadDrawing(budget, one, at) for (budget, one), at in zip(found, gains, strict=True)]
    return Drawing(board, list(groups.items()), scale, curves(rows), leads, differences, least(rows))


def curves(rows: Sequence[Standing]) -> list[Curve]:
    """A figure for every unit and method that was run at more than one budget of it below all data."""
    return [curve for unit in sorted({one.unit for one in rows if one.budget}) for curve in curves_in(unit, rows)]


def curves_in(unit: str, rows: Sequence[Standing]) -> list[Curve]:
    """Those of a unit: no axis holds two."""
    many = Counter(one.method for one in rows if one.budget and one.unit == unit)
    methods = sorted(name for name, budgets in many.items() if budgets > 1)
    if not methods:
        return []
    miou, normdel = Plot(rows, unit, lambda one: one.miou), Plot(rows, unit, lambda one: (one.normdel,) * 3)
    return [Curve(name, unit, miou.panel(name, even=True), normdel.panel(name)) for name in methods]


class Plot:
    """The axes that all methods share."""

    def __init__(self, rows: Sequence[Standing], unit: str, value: Callable[[Standing], tuple[float, float, float]]) -> None:
        self.rows, self.unit, self.value = [one for one in rows if one.budget and one.unit == unit], unit, value
        self.full = next((value(one)[0] for one in rows if one.method == FULL), None)
        self.none = next((value(one)[0] for one in rows if one.method == NONE), None)
        self.budgets = sorted({one.budget for one in self.rows})
        levels = [level for level in (self.full, self.none) if level is not None and math.isfinite(level)]
        every = [place for one in self.rows for place in value(one)] + levels
        self.y = ticks(min(every), max(every))
        left, right = math.log(self.budgets[0]), math.log(self.budgets[-1])
        self.frame = Frame(left, max(right, left + 1e-9), self.y[0], self.y[-1])

    def panel(self, method: str, even: bool = False) -> Panel:
        """One method's chart over budgets, the other methods behind it; `even` marks where NormDEL equals that of training on all."""
        mine = [one for one in self.rows if one.method == method]
        others = dict.fromkeys(one.method for one in self.rows if one.method not in (method, FULL))
        place, value = self.place, self.value
        middle = [value(one)[0] for one in mine]
        return Panel(
            path=self.line(mine),
            dots="".join(self.line([one]) for one in mine),
            spread="".join(
                f"M{place(one.budget, low)[0]} {place(one.budget, low)[1]}V{place(one.budget, high)[1]}"
                for one in mine
                for _, low, high in [value(one)]
                if high > low
            ),
            others="".join(self.line([one for one in self.rows if one.method == name]) for name in others),
            level=self.level(self.full),
            floor=self.level(self.none),
            even=self.even() if even else "",
            x=[Tick(place(budget, self.y[0])[0], figure(budget, self.unit)) for budget in self.budgets],
            y=axis(self.y, self.y[0], self.y[-1]),
            told=f"from {min(middle):.3f} to {max(middle):.3f}, mean {fmean(middle):.3f}",
        )

    def place(self, budget: float, value: float) -> Point:
        """Where a value at a budget stands, in per cent of the plot; budgets on a logarithmic axis."""
        x, y = self.frame.place((math.log(budget), value))
        return round(x, 2), round(y, 2)

    def line(self, rows: Sequence[Standing]) -> str:
        """The SVG path through the values of these standings, by budget."""
        return line([(math.log(one.budget), self.value(one)[0]) for one in sorted(rows, key=lambda one: one.budget)], self.frame)

    def level(self, value: float | None) -> str:
        """The SVG path of a level across the plot; "" where there is none to draw."""
        if value is None or not math.isfinite(value):
            return ""
        y = self.place(self.budgets[0], value)[1]
        return f"M0 {y}H100"

    def even(self) -> str:
        """What the mIoU of all data is worth at every budget by NormDEL, as far as the plot reaches."""
        if self.full is None or not is_share(self.budgets[-1], self.unit):
            return ""
        steps = [self.budgets[0] * (self.budgets[-1] / self.budgets[0]) ** (step / 40) for step in range(41)]
        values = [(budget, self.full * theory.break_even(min(budget, 1.0), 1.0)) for budget in steps]
        return line([(math.log(budget), value) for budget, value in values if self.y[0] <= value <= self.y[-1]], self.frame)
