"""The figures of the pruned perceptron as numbers: the line of the theory, and simulated points on their intervals, on logarithmic axes.

`drawn` gives places in per cent of a plot, which `report.html` draws; one scale for all panels of a figure, so that they can be compared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from engine.charts import Frame, Tick, ticks
from engine.theory.figures import Curve, Figures, Panel
from engine.theory.recommendation import Advice


@dataclass(frozen=True)
class Advised:
    """What the theory would do with the pool of a selection by endocurate, beside what was done, and the errors that it foresees."""

    selection: str
    alpha_tot: float
    degrees: float
    share: float  # of the different patches, that was kept
    enough: float  # that the theory would keep
    start: float  # the quantile of worth in its cluster from which on it was kept
    recommended: float
    error: float
    best: float  # from the recommended start
    random: float
    others: list[Advice] = field(default_factory=list)  # of the same pool by a probe of every angle that was solved


@dataclass(frozen=True)
class Theory:
    """All that a report says of the theory of pruning; no figures: the job theory has not run."""

    figures: Figures | None = None
    advised: list[Advised] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """One pool; `path`, `dots` and `spans` are SVG in a square of 100 x 100, `strength` from 0 to 1 rises with the pool."""

    name: str
    path: str
    dots: str
    spans: str
    strength: float
    end: tuple[float, float]  # of the line, where its name stands


@dataclass(frozen=True)
class Plot:
    """One panel, drawn: its lines between two axes."""

    title: str
    lines: list[Line]
    x: list[Tick]
    y: list[Tick]
    told: str  # for those who cannot see it


@dataclass(frozen=True)
class Drawing:
    """A figure, drawn: its panels on one scale."""

    title: str
    plots: list[Plot]


def drawn(figures: Figures | None) -> list[Drawing]:
    """A drawing for each figure, all its panels on one scale; none where there are no figures."""
    groups = groupby(figures.panels if figures else [], key=lambda panel: panel.figure)
    return [drawing(title, list(panels)) for title, panels in groups]


def drawing(title: str, panels: Sequence[Panel]) -> Drawing:
    """The panels of one figure on axes that hold all of their lines and intervals."""
    curves = [curve for panel in panels for curve in panel.curves]
    kept = [math.log10(place) for curve in curves for place in curve.kept]
    errors = [math.log10(error) for curve in curves for error in [*curve.errors, *(point.high for point in curve.points)]]
    frame = Frame(min(kept), max(kept), min(errors), max(errors))
    x, y = decades(frame.left, frame.right), decades(frame.low, frame.high)
    return Drawing(title, [Plot(panel.title, lined(panel, frame), x, y, told(panel)) for panel in panels])


def lined(panel: Panel, frame: Frame) -> list[Line]:
    """The lines of a panel, the larger pool the stronger."""
    ranks = sorted(curve.alpha_tot for curve in panel.curves)
    return [pictured(curve, frame, (ranks.index(curve.alpha_tot) + 1) / len(ranks)) for curve in panel.curves]


def pictured(curve: Curve, frame: Frame, strength: float) -> Line:
    """A curve as SVG paths: its line, its simulated points, and their intervals."""
    places = [frame.place((math.log10(kept), math.log10(error))) for kept, error in zip(curve.kept, curve.errors, strict=True)]
    dots = [frame.place((math.log10(point.kept), math.log10(point.error))) for point in curve.points]
    spans = [[frame.place((math.log10(p.kept), max(math.log10(edge), frame.low))) for edge in (p.low, p.high)] for p in curve.points]
    return Line(
        name=f"{curve.alpha_tot:g}",
        path="M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in places),
        dots="".join(f"M{x:.2f} {y:.2f}h0" for x, y in dots),
        spans="".join(f"M{x:.2f} {low:.2f}V{high:.2f}" for (x, low), (_, high) in spans),
        strength=strength,
        end=places[-1],
    )


def decades(low: float, high: float) -> list[Tick]:
    """Ticks at 1, 2 and 5 times powers of ten, at the powers alone where these are enough, or at round numbers where those are too few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1,) if high - low > 2 else (1, 2, 5)
    values = [(math.log10(factor) + power, factor * 10.0**power) for power in powers for factor in factors]
    if high - low < math.log10(5):
        values = [(math.log10(value), value) for value in ticks(10**low, 10**high) if value > 0]
    return [Tick(100 * (place - low) / (high - low), f"{value:g}") for place, value in values if low <= place <= high]


def told(panel: Panel) -> str:
    """A panel in words."""
    ends = "; ".join(f"{curve.alpha_tot:g}: {curve.errors[0]:.2g} to {curve.errors[-1]:.2g}" for curve in panel.curves)
    return f"Error of the student, {panel.title}, from a hundredth to all kept of pools of so many examples a dimension: {ends}"
