"""What rules of when to stop keep for the epochs that they take, as one picture: SVG that stands by itself.

Two panels over the same mean epochs, regret above and TIS below, the better end of both up; names stand in the order of the lines' ends.
A bar at a point is what fixed lengths have for as many epochs and the interval of the point's difference to that. A goal is a corner: what
reaches it in a panel lies within, above its one side and left of the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

from engine.charts import Frame, Tick, axis, better_up, line, ticks
from engine.stopping import Interval

WIDTH, LEFT, TOP, WIDE, TALL = 1120, 64, 44, 680, 320  # px of the picture, of its margins, and of the plot of a panel
BETWEEN = 60  # px from a panel to the next
GOAL = "#3f7d20"
APART = 34  # px at least between two names, which take two lines each
Side = Literal["above", "below", "right", "left", "none"]
SIDES: dict[Side, tuple[int, int, str]] = {  # px from a point to what is told of it
    "above": (0, -7, "middle"),
    "below": (0, 14, "middle"),
    "right": (7, 12, "start"),
    "left": (-6, -6, "end"),
}
LETTER = 6, 10  # px that a letter of what is told of a point takes, wide and tall
ROOM = 3  # px at least around every point, twice as much around what is told of one
NOTES = (
    "bars: 95 % of the difference to fixed lengths mixed to as many epochs, drawn from what these have: a bar that",
    "crosses their line is not told apart from them. Numbers that would lie on others are left out.",
)


Place = tuple[float, float, str]  # x and y in px of the plot, and what is told there
Label = tuple[float, float, str, str]  # the same with how it is anchored before what is told
Box = tuple[float, float, float, float]  # left, top, right, bottom, in px


class Point(NamedTuple):
    """Means over all setups; `told` stands beside it."""

    epochs: float
    regret: float
    tis: float
    told: str = ""
    more_regret: Interval | None = None  # than fixed lengths have for as many epochs
    more_tis: Interval | None = None


class Quantity(NamedTuple):
    """One that a panel shows; `lower` is better turns its axis upside down."""

    title: str
    of: Callable[[Point], float]
    more: Callable[[Point], Interval | None]
    lower: bool

    def bar(self, one: Point) -> tuple[float, float] | None:
        """The ends of the bar at a point: what it is held against, and its difference to that at its lowest and highest."""
        more = self.more(one)
        return more and (self.of(one) - more[0] + more[1], self.of(one) - more[0] + more[2])


REGRET = Quantity("mean regret", lambda one: one.regret, lambda one: one.more_regret, lower=True)
TIS = Quantity("mean TIS", lambda one: one.tis, lambda one: one.more_tis, lower=False)


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
    side: Side = "above"  # of its points, where what is told of them stands if there is room; "none": it is not told


@dataclass(frozen=True)
class Panel:
    """Where the lines, ticks and names of one quantity stand, in px of the plot."""

    title: str
    paths: list[str]  # of SVG, in per cent
    places: list[list[Place]]  # of every point of a curve, with what is told of it
    labels: list[list[Label]]  # those that hide nothing
    bars: list[list[tuple[float, float, float]]]  # x, and y of both ends
    dots: list[list[tuple[float, float]]]
    x: list[Tick]
    y: list[Tick]
    names: list[float]  # how far down the name of each curve stands
    goal: Place | None = None  # the corner


def panel(curves: Sequence[Curve], shown: Quantity, goal: Point | None = None) -> Panel:
    """That of one quantity. ValueError for a curve without points."""
    if empty := [one.name for one in curves if not one.points]:
        raise ValueError(f"the curve {empty[0]!r} has no points")
    every = [point for one in curves for point in [*one.points, *one.also]]
    within, of = [*every, *([goal] if goal else [])], shown.of
    right = max(one.epochs for one in within)
    ends = [end for one in every for end in shown.bar(one) or ()]
    frame, y = better_up([*(of(one) for one in within), *ends], right, shown.lower)
    placed = [[(*pixels(frame, point.epochs, of(point)), point.told) for point in merged(one.points)] for one in curves]
    dots = [[pixels(frame, point.epochs, of(point)) for point in one.also] for one in curves]
    return Panel(
        title=shown.title,
        paths=[line([(point.epochs, of(point)) for point in one.points], frame) for one in curves],
        places=placed,
        labels=legible(placed, [one.side for one in curves], [point for points in dots for point in points]),
        bars=[bars(merged(one.points), shown, frame) for one in curves],
        dots=dots,
        x=axis(ticks(0, right, 6), 0, right),
        y=y,
        names=spread([max(points)[1] for points in placed]),
        goal=(*pixels(frame, goal.epochs, of(goal)), goal.told) if goal else None,
    )


def bars(points: Sequence[Point], shown: Quantity, frame: Frame) -> list[tuple[float, float, float]]:
    """Where the bars stand of those points that have one: x, and y of both ends, in px."""
    found = [(one.epochs, shown.bar(one)) for one in points]
    return [(*pixels(frame, epochs, ends[0]), pixels(frame, epochs, ends[1])[1]) for epochs, ends in found if ends]


def legible(places: Sequence[Sequence[Place]], sides: Sequence[Side], dots: Sequence[tuple[float, float]] = ()) -> list[list[Label]]:
    """What is told of points, each at the first side, its curve's own before others, where it hides no point and nothing told before.

    One that has room nowhere is left out: the first curves have the first choice.
    """
    points = [(x, y) for curve in places for x, y, told in curve if told]
    taken = [(x - ROOM, y - ROOM, x + ROOM, y + ROOM) for x, y in [*points, *dots]]
    found: list[list[Label]] = []
    for curve, side in zip(places, sides, strict=True):
        found.append([])
        for place in (one for one in curve if one[2] and side != "none"):
            tried = [beside(place, one) for one in sorted(SIDES, key=lambda one: one != side)]
            label = next((one for one in tried if not any(overlap(boxed(one), other) for other in taken)), None)
            if label:
                found[-1].append(label)
                left, top, right, bottom = boxed(label)
                taken.append((left - 2 * ROOM, top - 2 * ROOM, right + 2 * ROOM, bottom + 2 * ROOM))
    return found


def beside(place: Place, side: Side) -> Label:
    """What is told of a point, at this side of it."""
    right, down, anchor = SIDES[side]
    return place[0] + right, place[1] + down, anchor, place[2]


def boxed(label: Label) -> Box:
    """What a label takes."""
    x, y, anchor, told = label
    wide, tall = LETTER[0] * len(told), LETTER[1]
    left = x - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
    return left, y - tall + 2, left + wide, y + 2


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share any place."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


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


def picture(curves: Sequence[Curve], title: str, goal: Point | None = None) -> str:
    """The curves as SVG, with the corner of a goal."""
    panels = [panel(curves, REGRET, goal), panel(curves, TIS, goal)]
    height = TOP + 2 * TALL + BETWEEN + 92
    drawn = "".join(drawing(one, curves, TOP + place * (TALL + BETWEEN)) for place, one in enumerate(panels))
    drawn += word(LEFT + WIDE / 2, height - 50, "mean epochs of pre-training that were paid", "middle")
    drawn += "".join(word(LEFT, height - 28 + 16 * place, text, colour="#5f625f", size=11) for place, text in enumerate(NOTES))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#1b1d1f"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>{drawn}</svg>\n'
    )


def drawing(one: Panel, curves: Sequence[Curve], top: float) -> str:
    """A panel as SVG: the grid, the goal, then each curve with its name."""
    parts = [f'<g transform="translate({LEFT} {top})"><text y="-14" font-weight="600">{escape(one.title)}</text>']
    for tick in one.y:
        y = TALL - TALL * tick.at / 100
        parts.append(f'<path d="M0 {y:.1f}H{WIDE}" stroke="#e3e1db"/>{word(-8, y + 4, tick.label, "end")}')
    parts += [word(WIDE * tick.at / 100, TALL + 26, tick.label, "middle") for tick in one.x]
    parts += [corner(*one.goal)] if one.goal else []
    for place, curve in enumerate(curves):
        parts.append(drawn_curve(one, curve, place))
    for curve, labels in zip(curves, one.labels, strict=True):
        parts += [halo(word(x, y, told, anchor, curve.colour, 10)) for x, y, anchor, told in labels]
    return "".join([*parts, "</g>"])


def corner(x: float, y: float, told: str) -> str:
    """The corner of a goal as SVG, with its name within; x and y in px."""
    shape = f'<path d="M0 {y:.1f}H{x:.1f}V0H0Z" fill="{GOAL}" opacity=".12"/><path d="M0 {y:.1f}H{x:.1f}V0" fill="none" stroke="{GOAL}"/>'
    return shape + halo(word(6, 14, told, colour=GOAL, size=11))


def drawn_curve(one: Panel, curve: Curve, place: int) -> str:
    """The line, its points with what is told of them, the rings beside it, and its name behind a piece of it."""
    scaled = f'transform="scale({WIDE / 100} {TALL / 100})" vector-effect="non-scaling-stroke"'
    dashes = f' stroke-dasharray="{curve.dashes}"' if curve.dashes else ""
    stroke = f'fill="none" stroke="{curve.colour if curve.joined else "none"}" stroke-width="1.8"{dashes}'
    down = one.names[place]
    faint = f'stroke="{curve.colour}" stroke-width="1.4" opacity=".45"'
    parts = [f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" {faint}/>' for x, low, high in one.bars[place]]
    parts += [f'<path d="{one.paths[place]}" {scaled} {stroke}/><path d="M{WIDE + 34} {down:.1f}h24" {stroke}/>']
    if any(told for _, _, told in one.places[place]):
        parts.append(f'<circle cx="{WIDE + 46}" cy="{down:.1f}" r="3" fill="{curve.colour}"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="none" stroke="{curve.colour}" opacity=".45"/>' for x, y in one.dots[place]]
    for x, y, told in one.places[place]:
        if told:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{curve.colour}"/>')
    parts.append(word(WIDE + 64, down + 4, curve.name, colour=curve.colour))
    parts.append(word(WIDE + 64, down + 18, curve.how, colour="#5f625f", size=11))
    return "".join(parts)


def halo(text: str) -> str:
    """A word that lines do not strike through."""
    return text.replace("<text ", '<text paint-order="stroke" stroke="#ffffff" stroke-width="3" ', 1)


def word(x: float, y: float, text: str, anchor: str = "start", colour: str = "#1b1d1f", size: int = 12) -> str:
    """A word in SVG; x and y in px."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(text)}</text>'
