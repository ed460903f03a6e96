"""One self-contained HTML page about a store: what came in, what was kept, what it looks like, what it was worth.

A pure function over plain values: `render(findings)` reads no store, asks no clock and gives the same page for the same findings.
The charts are computed as numbers in `charts.py` and drawn by `report.html`; the page loads nothing and runs no script, and says so to the
browser. Of the ledger's rows only the columns of `LEDGER` are shown, so no path or file name gets onto the page.
"""

import base64
import math
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import fsspec
import jinja2
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from engine.charts import Floats, chart, histograms, number

UNITS = ("videos", "frames", "patches", "images")  # what the stages of a funnel count, in the order of the flow
LEDGER = ("video_id", "reason", "detail", "frames", "kept", "patches")
LISTED = 100  # videos; beyond that a page is no longer looked at, and `query` is the better tool


@dataclass(frozen=True)
class Picture:
    """A JPEG with what to say under it, e.g. "difficulty 0.84" and "3f2a@12400 ms, box 10,20,90,100"."""

    jpeg: bytes
    caption: str
    detail: str = ""


@dataclass(frozen=True)
class Curve:
    """One measured quantity over training steps; `unit` is that of the values."""

    name: str
    steps: list[int]
    values: list[float]
    unit: str


@dataclass(frozen=True)
class Outcome:
    """One evaluated training set; mIoU with its interval, Dice and NormDEL are fractions, `run` is the MLflow run id."""

    method: str
    budget: float
    retained: float
    patches: int
    images: int
    miou: float
    miou_low: float
    miou_high: float
    dice: float
    normdel: float
    seed: int
    run: str


@dataclass(frozen=True)
class Findings:
    """Everything the page tells; only the title and the time are a must, what is missing is said to be missing.

    A stage of the funnel is (name, count, note); its first word is what it counts, one of `UNITS`, and a name that begins otherwise
    ("selected") counts what the stage before it counts. `reasons` is reason -> count of what was rejected, per unit.
    """

    title: str
    made: str  # UTC
    provenance: dict[str, str] = field(default_factory=dict)
    funnel: list[tuple[str, int, str]] = field(default_factory=list)
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    videos: list[dict[str, Any]] = field(default_factory=list)  # rows of the ledger
    difficulty: Floats = field(default_factory=lambda: np.empty(0))  # (N,) of every patch
    chosen: dict[str, Floats] = field(default_factory=dict)  # method -> (n,) difficulty of what it chose
    hardest: list[Picture] = field(default_factory=list)
    easiest: list[Picture] = field(default_factory=list)
    picked: dict[str, list[Picture]] = field(default_factory=dict)  # method -> some of what it chose
    synthetic: list[Picture] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    sources: list[tuple[str, str]] = field(default_factory=list)  # a number of the page, and where it came from


def render(findings: Findings) -> str:
    """The page as HTML; the same findings give the same page."""
    ranked = sorted(findings.outcomes, key=lambda outcome: (outcome.budget, -outcome.miou, outcome.method, outcome.seed))
    return (
        template()
        .render(
            findings=findings,
            funnel=funnel(findings),
            histograms=histograms(findings.difficulty, findings.chosen),
            charts=[(curve, chart(curve.name, curve.steps, curve.values)) for curve in findings.curves],
            outcomes=ranked,
            reach=reach(ranked),
            verdicts=verdicts(ranked),
            videos=listed(findings.videos),
            total=len(findings.videos),
        )
        .lstrip()
    )


def write(findings: Findings, path: str) -> None:
    """Put the page at `path`, a file or any fsspec address; a reader sees the old page or the new one, never a part of one.

    Object stores show an object only once it is complete; on a disk the page is written beside its place and then renamed.
    OSError where the place cannot be written; nothing is left behind.
    """
    page = render(findings).encode()
    system, place = fsspec.core.url_to_fs(path)
    if not isinstance(system, LocalFileSystem):
        system.pipe_file(place, page)
        return
    target = Path(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(page)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def template() -> jinja2.Template:
    source = files("engine").joinpath("report.html").read_text(encoding="utf-8")
    world = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters.update(count=count, share=share, number=number, embedded=embedded)
    return world.from_string(source)


def count(value: int) -> str:
    return f"{value:,}"


def share(value: float) -> str:
    """A fraction as per cent, three figures at most: 0.05 is "5 %"."""
    return f"{100 * value:.3g} %"


def embedded(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


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


def funnel(findings: Findings) -> list[tuple[str, list[Bar], int]]:
    """Per unit its bars: the first stage, what was lost from its right end inwards, the stages that remain.

    The third value says by how many the reasons miss the difference they should explain: negative when they explain too much.
    """
    units, unit = [], ""
    for name, *_ in findings.funnel:
        first = name.split()[0].lower() if name.split() else ""
        unit = first if first in UNITS else unit or first
        units.append(unit)
    grouped = groupby(zip(units, findings.funnel, strict=True), key=lambda pair: pair[0])
    return [unit_bars(unit, [stage for _, stage in pairs], findings.reasons.get(unit, {})) for unit, pairs in grouped]


def unit_bars(unit: str, stages: list[tuple[str, int, str]], reasons: dict[str, int]) -> tuple[str, list[Bar], int]:
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


def reach(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """The common scale of the intervals, in steps of 0.05, so that they can be compared by eye."""
    if not outcomes:
        return 0.0, 1.0
    low = math.floor(20 * min(outcome.miou_low for outcome in outcomes)) / 20
    high = math.ceil(20 * max(outcome.miou_high for outcome in outcomes)) / 20
    return low, max(high, low + 0.05)


def verdicts(outcomes: Sequence[Outcome]) -> list[str]:
    """Per budget one sentence on which method is ahead, and whether the intervals allow to say so."""
    return [verdict(budget, list(rows)) for budget, rows in groupby(outcomes, key=lambda outcome: outcome.budget)]


def verdict(budget: float, outcomes: list[Outcome]) -> str:
    methods = sorted({outcome.method for outcome in outcomes})
    rows = {method: [outcome for outcome in outcomes if outcome.method == method] for method in methods}
    mean = {method: sum(row.miou for row in rows[method]) / len(rows[method]) for method in methods}
    first, *others = sorted(methods, key=lambda method: -mean[method])
    told = f"At a budget of {share(budget)}, {first} reaches {mean[first]:.3f} mIoU"
    if not others:
        return f"{told}; no other method was evaluated at this budget."
    apart = min(row.miou_low for row in rows[first]) > max(row.miou_high for row in rows[others[0]])
    rest = ", ".join(f"{method} {mean[method]:.3f}" for method in others)
    return f"{told}, {rest}; " + ("the intervals do not overlap." if apart else "the intervals overlap, so the difference may be chance.")


def listed(videos: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first `LISTED` rows, rejected ones before the used ones, cut down to the columns that may be shown."""
    rows = [{name: row.get(name) for name in LEDGER} for row in videos]
    return sorted(rows, key=lambda row: (not row["reason"], -(row["patches"] or 0), str(row["video_id"])))[:LISTED]
