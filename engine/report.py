"""One self-contained HTML page about a store: what came in, what was kept, what it looks like, what it was worth.

A pure function over plain values: `render(findings)` reads no store, asks no clock and gives the same page for the same findings.
The charts are computed as numbers in `charts.py` and `trails.py` and drawn by `report.html`; the page loads nothing and runs no script,
and says so to the browser. Of the ledger's rows only the columns of `LEDGER` are shown, so no path or file name gets onto the page.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import groupby
from statistics import fmean
from typing import Any

import jinja2
import numpy as np

from engine import boards, files, pruning
from engine.charts import Floats, Interval, Tick, chart, funnel, histograms, intervals, number, seeds, share
from engine.standings import Study
from engine.trails import Trail, drawn

LEDGER = ("video_id", "reason", "detail", "frames", "kept", "patches")
LISTED = 100  # videos; beyond that a page is no longer looked at, and `query` is the better tool
FOUND = 0.01  # of the foreground; a network that recalls less draws "all background"


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
    """One evaluated training set; `retained` 0 is a baseline without pre-training, which belongs to every budget of its comparison.

    `comparison` says what makes outcomes comparable: data, settings of the evaluation, recipe of the pre-training. Scores are fractions:
    mIoU with its interval, the foreground's IoU and Dice as means over the test images, `recall` as the share of all its pixels that was
    found. `run` is the MLflow run id.
    """

    comparison: str
    method: str
    budget: float
    retained: float
    patches: int
    images: int
    miou: float
    miou_low: float
    miou_high: float
    iou: float
    dice: float
    recall: float
    normdel: float
    seed: int
    run: str
    caution: str = ""  # a sentence on what flatters its scores
    examples: list[Picture] = field(default_factory=list)  # test images, best first: the truth outlined in blue, the prediction in yellow

    @property
    def found_nothing(self) -> bool:
        return self.recall < FOUND


@dataclass(frozen=True)
class Advantage:
    """The mIoU of `method` over `other` on the same test images, with the 95 % interval of a paired bootstrap over these."""

    comparison: str
    budget: float
    method: str
    other: str
    seeds: int
    difference: float
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Judged:
    """A selection judged without training: values by the names of judge.MEASURES, and for what could not be measured the reason."""

    method: str
    budget: str
    selection: str
    values: dict[str, float]
    reasons: dict[str, str]


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
    picked: dict[str, list[Picture]] = field(default_factory=dict)  # method -> some of what it chose
    synthetic: list[Picture] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    advantages: list[Advantage] = field(default_factory=list)  # of two methods that both have outcomes there
    sources: list[tuple[str, str]] = field(default_factory=list)  # a number of the page, and where it came from
    judged: list[Judged] = field(default_factory=list)
    trails: list[Trail] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)
    theory: pruning.Theory = field(default_factory=pruning.Theory)
    notebooks: list[str] = field(default_factory=list)  # rendered copies that lie beside the page, below notebooks/


def render(findings: Findings) -> str:
    """The page as HTML; the same findings give the same page. ValueError for findings that contradict themselves."""
    return (
        template()
        .render(
            findings=findings,
            funnel=funnel(findings.funnel, findings.reasons),
            histograms=histograms(findings.difficulty, findings.chosen),
            charts=[(curve, chart(curve.name, curve.steps, curve.values)) for curve in findings.curves],
            comparisons=comparisons(findings),
            trails=[(trail, drawn(trail)) for trail in findings.trails],
            studies=[boards.exhibit(study) for study in findings.studies],
            pruned=pruning.drawn(findings.theory.figures),
            gaps=gaps(findings.judged),
            videos=listed(findings.videos),
        )
        .lstrip()
    )


def write(findings: Findings, path: str) -> None:
    """Put the page at `path`, a file or any fsspec address; a reader sees the old page or the new one, never a part of one."""
    files.put(render(findings).encode(), path)


def template() -> jinja2.Template:
    source = resources.files("engine").joinpath("report.html").read_text(encoding="utf-8")
    world = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters.update(count="{:,}".format, share=share, number=number, embedded=embedded, seeds=seeds, score="{:z.3f}".format)
    return world.from_string(source)


def embedded(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


@dataclass(frozen=True)
class Comparison:
    """Outcomes that may be laid side by side, and what they say."""

    name: str
    verdicts: list[str]
    budgets: list[tuple[str, list[tuple[Outcome, Interval]]]]  # the best first; the baselines, of every budget, stand last
    axis: list[Tick]  # of the mIoU
    advantages: list[tuple[Advantage, Interval]]
    differences: list[Tick]
    shown: list[tuple[str, Outcome]]  # whose examples are shown


def comparisons(findings: Findings) -> list[Comparison]:
    """One per `comparison`, in the order of the outcomes; ValueError for an advantage over what has no outcome to compare with."""
    rows = sorted(findings.outcomes, key=lambda row: (standing(row), -row.miou, row.method, row.seed))
    for one in findings.advantages:
        known = {row.method for row in rows if row.comparison == one.comparison and (row.retained == 0 or row.budget == one.budget)}
        if not {one.method, one.other} <= known:
            raise ValueError(f"{one} compares methods without an outcome there: expected two of {sorted(known)}")
    advantages = sorted(findings.advantages, key=lambda one: one.budget)
    names = dict.fromkeys(row.comparison for row in findings.outcomes)
    return [
        compared(name, [row for row in rows if row.comparison == name], [one for one in advantages if one.comparison == name])
        for name in names
    ]


def compared(name: str, outcomes: list[Outcome], advantages: list[Advantage]) -> Comparison:
    """`outcomes` and `advantages` in the order in which they are shown."""
    drawn, ticks = intervals([(row.miou, row.miou_low, row.miou_high) for row in outcomes])
    pairs = list(zip(outcomes, drawn, strict=True))
    gains, differences = intervals([(one.difference, one.low, one.high) for one in advantages], 0)
    return Comparison(
        name=name,
        verdicts=[*verdicts(outcomes, advantages), *(row.caution for row in outcomes if row.caution)],
        budgets=[(where(rows[0][0]), rows) for _, group in groupby(pairs, key=lambda pair: standing(pair[0])) if (rows := list(group))],
        axis=ticks,
        advantages=list(zip(advantages, gains, strict=True)),
        differences=differences,
        shown=shown(outcomes),
    )


def standing(outcome: Outcome) -> tuple[bool, float]:
    """Sorts by budget, with the baselines last."""
    return (True, 0.0) if outcome.retained == 0 else (False, outcome.budget)


def where(outcome: Outcome) -> str:
    return "without pre-training" if outcome.retained == 0 else f"at a budget of {share(outcome.budget)}"


def shown(outcomes: list[Outcome]) -> list[tuple[str, Outcome]]:
    """Of every method at every budget the lowest seed that has examples, with its title."""
    first: dict[tuple[tuple[bool, float], str], Outcome] = {}
    for row in sorted(outcomes, key=lambda row: (standing(row), row.method, row.seed)):
        if row.examples:
            first.setdefault((standing(row), row.method), row)
    return [(row.method + (f", budget {share(row.budget)}" if row.retained else "") + f", seed {row.seed}", row) for row in first.values()]


def verdicts(outcomes: list[Outcome], advantages: list[Advantage]) -> list[str]:
    """Per budget one sentence on which method is ahead, and whether that may be chance; the baselines take part in each."""
    baselines = [row for row in outcomes if row.retained == 0]
    groups = groupby((row for row in outcomes if row.retained), key=lambda row: row.budget)
    told = [
        verdict(where(rows[0]), rows + baselines, [one for one in advantages if one.budget == budget])
        for budget, group in groups
        if (rows := list(group))
    ]
    return told or [verdict(where(baselines[0]), baselines, advantages)]


def verdict(place: str, outcomes: list[Outcome], advantages: list[Advantage]) -> str:
    place = place[0].upper() + place[1:]
    if all(row.found_nothing for row in outcomes):
        return f"{place}, no network found any foreground, so the comparison says nothing."
    mean = means(outcomes)
    first, *others = mean
    told = f"{place}, {first} reaches {mean[first]:.3f} mIoU" + "".join(f", {method} {mean[method]:.3f}" for method in others)
    if not others:
        return f"{told}; there is no other method to compare with."
    measured = [one for one in advantages if first in (one.method, one.other)] or advantages
    if measured:
        return f"{told}. Paired over the same test images, {'; '.join(map(lead, measured))}."
    doubt = "do not overlap" if apart(outcomes, first, others[0]) else "overlap, so the difference may be chance"
    return f"{told}; the intervals {doubt}."


def means(outcomes: list[Outcome]) -> dict[str, float]:
    """The mIoU of every method, a mean over its seeds; the best first."""
    methods = sorted({row.method for row in outcomes})
    mean = {method: fmean(row.miou for row in outcomes if row.method == method) for method in methods}
    return dict(sorted(mean.items(), key=lambda pair: -pair[1]))


def apart(outcomes: list[Outcome], first: str, second: str) -> bool:
    """Every interval of `first` lies above every interval of `second`."""
    return min(row.miou_low for row in outcomes if row.method == first) > max(row.miou_high for row in outcomes if row.method == second)


def lead(one: Advantage) -> str:
    """Who is ahead of whom by how much, and whether that may be chance, as a clause."""
    if one.difference < 0:
        one = replace(one, method=one.other, other=one.method, difference=-one.difference, low=-one.high, high=-one.low)
    gap = f"ahead of {one.other} by {one.difference:.3f} mIoU" if one.difference else f"level with {one.other}"
    interval = f"95 % interval {one.low:z.3f} to {one.high:z.3f}, {seeds(one.seeds)}"
    return f"{one.method} is {gap} ({interval}), which " + (
        "is more than the choice of test images explains" if one.beyond_chance else "may be chance"
    )


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
