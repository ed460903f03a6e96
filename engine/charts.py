"""Charts as numbers: where the ticks, the points and the bars stand, in per cent of the plot; and numbers, shares and budgets in words.

The page draws them (`report.html`): shapes as SVG that stretches with the window, labels as text that keeps its size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Point = tuple[float, float]
Stage = tuple[str, int, str]  # name, count, note

UNITS = ("videos", "frames", "patches", "images")  # what the stages of a funnel count, in the order of the flow
BINS = 48  # of the histogram: one bar is then about as wide on a desk as a letter
DRAWN = 400  # points of a curve: more than a chart on a phone has pixels


def number(value: float) -> str:
    """Four figures, whole thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def share(value: float) -> str:
    """A fraction as per cent, three figures at most: 0.05 is "5 %"."""
    return f"{100 * value:.3g} %"


def is_share(budget: float, unit: str = "") -> bool:
    """Whether a budget is a share: up to 1, but for hours."""
    return budget <= 1 and unit != "gpu_hours"


def figure(budget: float, unit: str = "") -> str:
    """The number of a budget: a share as per cent. Of what it is, is said beside it."""
    return share(budget) if is_share(budget, unit) else number(budget)


def amount(budget: float, unit: str = "") -> str:
    """A budget in words: its figure, and of what it is where `unit` is told. As OptiDEL has it, a share in images is of the frames."""
    whole = "frames in images" if unit == "images" else unit
    of_what = f"of the {whole}" if unit and is_share(budget, unit) else unit.replace("_", " ")
    return f"{figure(budget, unit)} {of_what}".rstrip()


def seeds(many: int) -> str:
    """So many seeds, in words."""
    return "1 seed" if many == 1 else f"{many} seeds"


@dataclass(frozen=True)
class Tick:
    """A mark on an axis and what stands at it."""

    at: float  # per cent of the axis
    label: str


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that enclose [low, high]: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    largest = max(abs(low), abs(high))
    span = high - low if high - low > 1e-9 * largest else largest  # flat, as far as a float can tell
    raw = max(span, 1e-300) / wanted if span else 1 / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def axis(values: Sequence[float], low: float, high: float) -> list[Tick]:
    """Those of evenly spaced values that lie within low to high, as ticks."""
    step = values[1] - values[0] if len(values) > 1 else 1.0
    return [Tick(100 * (value - low) / (high - low), label(value, step)) for value in values if low <= value <= high]


def label(value: float, step: float) -> str:
    """`value` with as many digits as tell it from its neighbours, `step` away: two from the step's first digit on, for steps of 2.5."""
    places = 1 - math.floor(math.log10(step))
    if places > 6:
        return f"{value:.{max(2, places + 1 + math.floor(math.log10(abs(value))))}g}" if value else "0"
    told = f"{value:,.{max(1, places)}f}"
    return told.rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Frame:
    """What a plot shows of the plane, drawn as a square of 100 x 100 with y downwards."""

    left: float
    right: float
    low: float
    high: float

    def place(self, point: Point) -> Point:
        """Where a point (x, y) stands, in per cent from the left and from the top."""
        x = 100 * (point[0] - self.left) / (self.right - self.left)
        return x, 100 - 100 * (point[1] - self.low) / (self.high - self.low)


def better_up(values: Sequence[float], right: float, lower: bool) -> tuple[Frame, list[Tick]]:
    """The frame of values over 0 to `right`, and its upright ticks, with the better end up: `lower` is better turns it upside down."""
    rows = ticks(min(values), max(values))
    frame = Frame(0, right, rows[-1], rows[0]) if lower else Frame(0, right, rows[0], rows[-1])
    return frame, [Tick(100 - tick.at if lower else tick.at, tick.label) for tick in axis(rows, rows[0], rows[-1])]


@dataclass(frozen=True)
class Chart:
    """A line chart; `path` and `end` are places in its `Frame`."""

    path: str
    x: list[Tick]
    y: list[Tick]
    last: Point | None
    end: Point  # where `last` is drawn
    lowest: float
    highest: float
    broken: int  # values that are not finite, hence gaps


def chart(name: str, steps: Sequence[int], values: Sequence[float]) -> Chart:
    """The geometry of a curve; ValueError if it has more steps than values or fewer."""
    if len(steps) != len(values):
        raise ValueError(f"curve {name!r} has {len(steps)} steps and {len(values)} values, expected as many")
    points = list(zip(steps, values, strict=True))
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if not finite:
        return Chart("", [], [], None, (0, 0), 0, 0, len(points))
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    rows = ticks(low, high)
    left, right = min(steps), max(max(steps), min(steps) + 1)
    frame = Frame(left, right, rows[0], rows[-1])
    x = axis([value for value in ticks(left, right) if value == int(value)], left, right)
    y = axis(rows, rows[0], rows[-1])
    return Chart(line(thinned(points), frame), x, y, finite[-1], frame.place(finite[-1]), low, high, len(points) - len(finite))


def thinned(points: Sequence[Point]) -> list[Point]:
    """About `DRAWN` points: of every stretch the lowest, the highest and one gap, so that neither a spike nor a break is lost."""
    if len(points) <= DRAWN:
        return list(points)
    kept = {0, len(points) - 1}
    for stretch in np.array_split(np.arange(len(points)), DRAWN // 2):
        finite = [index for index in stretch.tolist() if math.isfinite(points[index][1])]
        gaps = sorted(set(stretch.tolist()) - set(finite))
        kept.update(gaps[:1])
        if finite:
            kept.update((min(finite, key=lambda index: points[index][1]), max(finite, key=lambda index: points[index][1])))
    return [points[index] for index in sorted(kept)]


def line(points: Sequence[Point], frame: Frame) -> str:
    """The path through points in a frame, as SVG; it breaks off where a value is not finite."""
    pieces, pen = [], "M"
    for point in points:
        if not math.isfinite(point[1]):
            pen = "M"
            continue
        x, y = frame.place(point)
        pieces.append(f"{pen}{x:.2f} {y:.2f}" + ("h0" if pen == "M" else ""))  # h0: a lone point becomes a dot
        pen = "L"
    return "".join(pieces)


@dataclass(frozen=True)
class Interval:
    """A dot on its interval; `start`, `width` and `dot` are per cent of the axis."""

    start: float
    width: float
    dot: float


def intervals(measured: Sequence[tuple[float, float, float]], *through: float) -> tuple[list[Interval], list[Tick]]:
    """Every (value, low, high) on one axis of round numbers that reaches `through` too, so that they can be compared by eye."""
    places = [*through, *(place for row in measured for place in row)]
    rows = ticks(min(places), max(places))
    left, span = rows[0], rows[-1] - rows[0]
    drawn = [Interval(100 * (low - left) / span, 100 * (high - low) / span, 100 * (value - left) / span) for value, low, high in measured]
    return drawn, axis(rows, rows[0], rows[-1])


@dataclass(frozen=True)
class Column:
    """One bar of a histogram: where it stands and how high it is in per cent, and how much of it was chosen."""

    x: float
    width: float
    height: float
    chosen: float
    told: str


@dataclass(frozen=True)
class Histogram:
    """How difficulty is spread in a pool, and in what a method chose of it; `unscored` have none."""

    method: str  # "": nothing was chosen yet
    columns: list[Column]
    x: list[Tick]
    y: list[Tick]
    patches: int
    chosen: int
    unscored: int
    median: float
    chosen_median: float | None
    above: float | None  # the last bar holds everything from here on; None: nothing lies beyond the axis


def histograms(difficulty: Floats, chosen: dict[str, Floats]) -> list[Histogram]:
    """One histogram per method on the same axes, the chosen part of every bar told apart; one bare histogram before any choice."""
    scores = np.asarray(difficulty, float)
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return []
    low, high = float(scores.min()), float(scores.max())
    edge = min(high, 1.5 * float(np.quantile(scores, 0.99)))  # a lone outlier must not press all others into one bar
    edge = edge if edge > low else low + (abs(low) or 1.0)
    return [histogram(method, scores, picks, (low, edge), len(difficulty)) for method, picks in (chosen or {"": np.empty(0)}).items()]


def histogram(method: str, scores: Floats, picks: Floats, span: tuple[float, float], patches: int) -> Histogram:
    """Scores of a pool and of what was chosen, in BINS columns over `span`; what lies beyond is counted in the outermost."""
    low, high = span
    picks = np.asarray(picks, float)
    picks = picks[np.isfinite(picks)]
    edges = np.linspace(low, high, BINS + 1)
    every, some = (np.histogram(np.clip(values, low, high), edges)[0] for values in (scores, picks))
    rows = [value for value in ticks(0, int(every.max())) if value == int(value)]
    columns = [
        Column(
            x=100 * index / BINS,
            width=100 / BINS,
            height=100 * float(total) / rows[-1],
            chosen=100 * float(part) / rows[-1],
            told=f"{number(edges[index])} to {number(edges[index + 1])}: {total:,} patches" + (f", {part:,} chosen" if method else ""),
        )
        for index, (total, part) in enumerate(zip(every.tolist(), some.tolist(), strict=True))
    ]
    return Histogram(
        method=method,
        columns=columns,
        x=axis(ticks(low, high, 6), low, high),
        y=axis(rows, 0, rows[-1]),
        patches=len(scores),
        chosen=len(picks),
        unscored=patches - len(scores),
        median=float(np.median(scores)),
        chosen_median=float(np.median(picks)) if len(picks) else None,
        above=high if float(scores.max()) > high else None,
    )


@dataclass(frozen=True)
class Bar:
    """One line of the funnel; `start` and `width` are per cent of the longest bar of its unit."""

    label: str
    count: int
    start: float
    width: float
    share: float | None  # of the unit's first stage; None: it is that stage, or that one is empty
    note: str = ""
    lost: bool = False


def funnel(stages: Sequence[Stage], reasons: dict[str, dict[str, int]]) -> list[tuple[str, list[Bar], int]]:
    """Per unit its bars: the first stage, what was lost from its right end inwards, the stages that remain.

    The third value says by how many the reasons miss the difference they should explain: negative when they explain too much.
    """
    units, unit = [], ""
    for name, *_ in stages:
        first = name.split()[0].lower() if name.split() else ""
        unit = first if first in UNITS else unit or first
        units.append(unit)
    grouped = groupby(zip(units, stages, strict=True), key=lambda pair: pair[0])
    return [unit_bars(unit, [stage for _, stage in pairs], reasons.get(unit, {})) for unit, pairs in grouped]


def unit_bars(unit: str, stages: list[Stage], reasons: dict[str, int]) -> tuple[str, list[Bar], int]:
    """The bars of one unit: the first stage, what each reason took, the later stages; and how many no reason accounts for."""
    (name, first, note), *later = stages
    scale = max(1, *(amount for _, amount, _ in stages))
    bars, right = [Bar(name, first, 0, 100 * first / scale, None, note)], first
    for reason, lost in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])):
        right, before = max(0, right - lost), right
        part = lost / first if first else None
        bars.append(Bar(reason, lost, 100 * right / scale, 100 * (before - right) / scale, part, lost=True))
    bars += [Bar(name, amount, 0, 100 * amount / scale, amount / first if first else None, note) for name, amount, note in later]
    missing = first - later[0][1] - sum(reasons.values()) if reasons and later else 0
    return unit, bars, missing
