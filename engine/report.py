"""One self-contained HTML page about a store: what came in, what was kept, what it looks like, what it was worth.

A pure function over plain values: `render(findings)` reads no store, asks no clock and gives the same page for the same findings.
What it shows comes as numbers from `charts` and, each for its own part, `outcomes`, `trails`, `boards`, `pruning` and `followed`, and is
drawn by `report.html`; the page loads nothing and runs no script, and says so to the browser. Of the ledger's rows only the columns of
`LEDGER` are shown, so no path or file name gets onto the page.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
import numpy as np

from engine import boards, files, followed, pruning, repeats
from engine.charts import Floats, amount, chart, funnel, histograms, number, seeds, share
from engine.outcomes import Advantage, Outcome, Picture, comparisons
from engine.standings import MatrixResults
from engine.trails import Trail, drawn

LEDGER = ("video_id", "reason", "detail", "frames", "kept", "patches")
LISTED = 100  # videos; beyond that a page is no longer looked at, and `query` is the better tool


@dataclass(frozen=True)
class LossCurve:
    """One measured quantity over the epochs that were trained when it was; `unit` is that of the values."""

    name: str
    epochs: list[int]
    values: list[float]
    unit: str


@dataclass(frozen=True)
class Judged:
    """A selection judged without training: values by the names of judge.MEASURES, and for what could not be measured the reason.

    `notes` say of a value what it is of, `settings` which knobs are not as by default. It was chosen from what is `of` a kind, patches or
    frames, in a `version` of the patch table; `pool` are values of all of these.
    """

    method: str
    budget: str
    selection: str
    values: dict[str, float]
    reasons: dict[str, str]
    notes: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    of: str = "patches"
    version: int = 0
    pool: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """The judged selections from patches, or from frames; `pool` are values of all of these in the newest `version` that one is from."""

    of: str
    version: int
    pool: dict[str, float]
    judged: list[Judged]


@dataclass(frozen=True)
class Findings:
    """Everything the page tells; only the title and the time are a must, what is missing is said to be missing.

    A stage of the funnel is (name, count, note); its first word is what it counts, one of `charts.UNITS`, and a name that begins otherwise
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
    synthetic: list[Picture] = field(default_factory=list)
    curves: list[LossCurve] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    advantages: list[Advantage] = field(default_factory=list)  # of two methods that both have outcomes there
    sources: list[tuple[str, str]] = field(default_factory=list)  # a number of the page, and where it came from
    judged: list[Judged] = field(default_factory=list)
    trails: list[Trail] = field(default_factory=list)
    matrices: list[MatrixResults] = field(default_factory=list)
    theory: pruning.Theory = field(default_factory=pruning.Theory)
    notebooks: list[str] = field(default_factory=list)  # rendered copies that lie beside the page, below notebooks/
    arrivals: followed.Followed = field(default_factory=followed.Followed)


def render(findings: Findings) -> str:
    """The page as HTML; the same findings give the same page. ValueError for findings that contradict themselves."""
    return (
        template()
        .render(
            findings=findings,
            palette=palette(),
            funnel=funnel(findings.funnel, findings.reasons),
            histograms=histograms(findings.difficulty, findings.chosen),
            charts=[(curve, chart(curve.name, curve.epochs, curve.values)) for curve in findings.curves],
            comparisons=comparisons(findings.outcomes, findings.advantages),
            trails=[(trail, drawn(trail)) for trail in findings.trails],
            repeats=[(one, repeats.said(one)) for one in repeats.repeats(findings.trails)],
            matrices=[boards.matrix_drawing(one) for one in findings.matrices],
            pruned=pruning.drawn(findings.theory.figures),
            drift=followed.drawn(findings.arrivals.days),
            kinds=kinds(findings.judged),
            gaps=gaps(findings.judged),
            notes=list(dict.fromkeys(note for one in findings.judged for name, note in one.notes.items() if name in one.values)),
            videos=listed(findings.videos),
        )
        .lstrip()
    )


def write(findings: Findings, path: str) -> None:
    """Put the page at `path`, a file or any fsspec address; a reader sees the old page or the new one, never a part of one."""
    files.put(render(findings).encode(), path)


def palette() -> str:
    """The colours of every page, light and dark, as CSS: they stand at the head of the patch browser's style sheet."""
    sheet = resources.files("engine").joinpath("browser/page/style.css").read_text(encoding="utf-8")
    return sheet.partition("\n* {")[0]


def template() -> jinja2.Template:
    """The template of the page, with its filters."""
    source = resources.files("engine").joinpath("report.html").read_text(encoding="utf-8")
    world = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters.update(
        count="{:,}".format, share=share, number=number, amount=amount, embedded=embedded, seeds=seeds, score="{:z.3f}".format
    )
    return world.from_string(source)


def embedded(jpeg: bytes) -> str:
    """A JPEG as an address that holds it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def kinds(judged: Sequence[Judged]) -> list[Kind]:
    """Selections apart by what they were chosen from, patches first: pools of two kinds are not alike."""
    found = []
    for of in sorted({one.of for one in judged}, reverse=True):
        mine = [one for one in judged if one.of == of]
        newest = max(mine, key=lambda one: one.version)
        found.append(Kind(of, newest.version, newest.pool, mine))
    return found


def gaps(judged: Sequence[Judged]) -> list[tuple[str, str]]:
    """Every reason why something could not be measured, after the names of what it was."""
    found: dict[str, dict[str, None]] = {}
    for name, reason in (pair for one in judged for pair in one.reasons.items()):
        found.setdefault(reason, {})[name.replace("_", " ")] = None
    return [(", ".join(names), reason) for reason, names in found.items()]


def listed(videos: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first `LISTED` rows, rejected ones before the used ones, cut down to the columns that may be shown."""
    rows = [{name: row.get(name) for name in LEDGER} for row in videos]
    return sorted(rows, key=lambda row: (not row["reason"], -(row["patches"] or 0), str(row["video_id"])))[:LISTED]
