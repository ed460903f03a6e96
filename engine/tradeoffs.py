"""What rules of when to stop keep for the epochs that they take, as one picture: SVG that stands by itself.

Two panels over the same mean epochs, regret above and TIS below, the better end of both up; names stand in the order of the lines' ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

from engine.charts import Frame, Tick, axis, better_up, line, ticks

WIDTH, LEFT, TOP, WIDE, TALL = 1000, 64, 44, 560, 320  # px of the picture, of its margins, and of the plot of a panel
BETWEEN = 60  # px from a panel to the next
APART = 34  # px at least between two names, which take two lines each
SIDES = {"above": (0, -7, "middle"), "below": (0, 14, "middle"), "right": (7, 12, "start")}  # px from a point to what is told of it


class Point(NamedTuple):
    """Means over all setups; `told` stands beside it."""

    epochs: float
    regret: float
    tis: float
    told: str = ""


Value = Callable[[Point], float]


@dataclass(frozen=True)
class Curve:
    """A rule along its one dial; `how` says how its settings were chosen, `also` are those of another dial beside it, drawn as rings."""

    name: str
    how: str
    points: list[Point]
    colour: str = "#5f625f"
    dashes: str = ""  # of SVG; "": none
    also: tuple[Point, ...] = ()
    joined: bool = True  # by a line
    side: Literal["above", "below", "right"] = "above"  # of its points, where what is told of them stands


@dataclass(frozen=True)
class Panel:
    """Where the lines, ticks and names of one quantity stand, in px of the plot."""

    title: str
    paths: list[str]  # of SVG, in per cent
    places: list[list[tuple[float, float, str]]]  # of every point of a curve, with what is told of it
    dots: list[list[tuple[float, float]]]
    x: list[Tick]
    y: list[Tick]
    names: list[float]  # how far down the name of each curve stands


def panel(curves: Sequence[Curve], title: str, of: Value, lower: bool) -> Panel:
    """That of one value `of` every point; `lower` is better turns the axis upside down. ValueError for a curve without points."""
    if empty := [one.name for one in curves if not one.points]:
        raise ValueError(f"the curve {empty[0]!r} has no points")
    every = [point for one in curves for point in [*one.points, *one.also]]
    right = max(one.epochs for one in every)
    frame, y = better_up([of(one) for one in every], right, lower)
    placed = [[(*pixels(frame, point.epochs, of(point)), point.told) for point in merged(one.points)] for one in curves]
    return Panel(
        title=title,
        paths=[line([(point.epochs, of(point)) for point in one.points], frame) for one in curves],
        places=placed,
        dots=[[pixels(frame, point.epochs, of(point)) for point in one.also] for one in curves],
        x=axis(ticks(0, right, 6), 0, right),
        y=y,
        names=spread([max(points)[1] for points in placed]),
    )


def merged(points: Sequence[Point]) -> list[Point]:
    """One point for those in a row that are the same but for what is told of them."""
    rows = [list(same) for _, same in groupby(points, key=lambda one: one[:3])]
    return [same[0]._replace(told=", ".join(one.told for one in same if one.told)) for same in rows]


def pixels(frame: Frame, epochs: float, value: float) -> tuple[float, float]:
    """Where a point is in the picture, in px."""
    x, y = frame.place((epochs, value))
    return x * WIDE / 100, y * TALL / 100


def spread(wanted: Sequence[float]) -> list[float]:
    """The heights moved as little down, and then up again into the plot, as leaves APART between any two; their order stays."""
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    found = [wanted[place] for place in order]
    for above, below in pairwise(range(len(found))):
        found[below] = max(found[below], found[above] + APART)
    lowest = max(TALL, APART * (len(found) - 1))
    for place in reversed(range(len(found))):
        found[place] = min(found[place], lowest - APART * (len(found) - 1 - place))
    return [found[order.index(place)] for place in range(len(order))]


def picture(curves: Sequence[Curve], title: str) -> str:
    """The curves as SVG."""
    panels = [panel(curves, "mean regret", lambda one: one.regret, lower=True), panel(curves, "mean TIS", lambda one: one.tis, lower=False)]
    height = TOP + 2 * TALL + BETWEEN + 56
    drawn = "".join(drawing(one, curves, TOP + place * (TALL + BETWEEN)) for place, one in enumerate(panels))
    drawn += word(LEFT + WIDE / 2, height - 14, "mean epochs of pre-training that were paid", "middle")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#1b1d1f"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>{drawn}</svg>\n'
    )


def drawing(one: Panel, curves: Sequence[Curve], top: float) -> str:
    """A panel as SVG: the grid, then each curve with its name."""
    parts = [f'<g transform="translate({LEFT} {top})"><text y="-14" font-weight="600">{escape(one.title)}</text>']
    for tick in one.y:
        y = TALL - TALL * tick.at / 100
        parts.append(f'<path d="M0 {y:.1f}H{WIDE}" stroke="#e3e1db"/>{word(-8, y + 4, tick.label, "end")}')
    parts += [word(WIDE * tick.at / 100, TALL + 26, tick.label, "middle") for tick in one.x]
    for place, curve in enumerate(curves):
        parts.append(drawn_curve(one, curve, place))
    return "".join([*parts, "</g>"])


def drawn_curve(one: Panel, curve: Curve, place: int) -> str:
    """The line, its points with what is told of them, the rings beside it, and its name behind a piece of it."""
    scaled = f'transform="scale({WIDE / 100} {TALL / 100})" vector-effect="non-scaling-stroke"'
    dashes = f' stroke-dasharray="{curve.dashes}"' if curve.dashes else ""
    stroke = f'fill="none" stroke="{curve.colour if curve.joined else "none"}" stroke-width="1.8"{dashes}'
    (right, beneath, anchor), down = SIDES[curve.side], one.names[place]
    parts = [f'<path d="{one.paths[place]}" {scaled} {stroke}/><path d="M{WIDE + 34} {down:.1f}h24" {stroke}/>']
    if any(told for _, _, told in one.places[place]):
        parts.append(f'<circle cx="{WIDE + 46}" cy="{down:.1f}" r="3" fill="{curve.colour}"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="none" stroke="{curve.colour}" opacity=".6"/>' for x, y in one.dots[place]]
    for x, y, told in one.places[place]:
        if told:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{curve.colour}"/>')
            parts.append(word(x + right, y + beneath, told, anchor, curve.colour, 10))
    parts.append(word(WIDE + 64, down + 4, curve.name, colour=curve.colour))
    parts.append(word(WIDE + 64, down + 18, curve.how, colour="#5f625f", size=11))
    return "".join(parts)


def word(x: float, y: float, text: str, anchor: str = "start", colour: str = "#1b1d1f", size: int = 12) -> str:
    """A word in SVG; x and y in px."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(text)}</text>'
