"""The figures of OptiDEL (arXiv 2408.07107) about the pruned perceptron, theory beside simulation: what is in them, and how they are kept.

Figure 3: probes of three qualities. Figure 4: pools with copies. Figure 5: a task downstream that is not quite the teacher's. Figure 7:
hard, easy or random examples. Sizes of pools and angles are those of the notebook beside the paper.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter
from scipy.stats import t as student_t

from engine.theory import perceptron
from engine.theory.simulation import STUDENTS

SMALL, LARGE = (5.0, 10.0, 20.0, 50.0, 100.0), (20.0, 50.0, 100.0, 200.0, 500.0)  # alpha_tot
PROBE = 10.0  # degrees, where the figure is not about them
# w_down = T + 0.4 (0, 1, ..., 1) in 30 dimensions: so far from T, as a draw of T has next to nothing of that direction
DOWNSTREAM = math.degrees(math.atan(0.4 * math.sqrt(29)))
FRACTIONS = tuple(np.logspace(-2, 0, 12).tolist())  # simulated
FINE = tuple(np.logspace(-2, 0, 34).tolist())  # of the lines; every third one is simulated
FIGURES_FILE = "figures.json"  # in the run that made them
ERRORS = pa.schema([("curve", pa.int64()), ("fraction", pa.float64()), ("error", pa.float64())])


@dataclass(frozen=True)
class Setting:
    """A panel of a figure: what is the same for all its curves, which differ in alpha_tot."""

    figure: str
    panel: str
    pools: tuple[float, ...]
    degrees: float = PROBE
    keep: str = "hard"
    redundancy: int = 1
    downstream: float = 0.0  # degrees


SETTINGS = (
    *(Setting("Fig. 3: quality of the probe", f"probe {degrees:g}° off", SMALL, degrees) for degrees in (0.0, 10.0, 20.0)),
    *(Setting("Fig. 4: redundancy", f"every example {copies} times", LARGE, redundancy=copies) for copies in (3, 5, 10)),
    Setting("Fig. 5: downstream bias", f"the task is {DOWNSTREAM:.0f}° off the teacher", LARGE, downstream=DOWNSTREAM),
    *(Setting("Fig. 7: which examples are kept", keep, LARGE, keep=keep) for keep in ("hard", "easy", "random")),
)


@dataclass(frozen=True)
class Point:
    """The mean error over draws, and its 95 % interval by Student's t."""

    kept: float  # alpha, examples a dimension that are left
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The error over what is kept of a pool of alpha_tot examples a dimension: a line by the theory, points by draws."""

    alpha_tot: float
    kept: list[float]  # alpha, of the line
    errors: list[float]
    points: list[Point]

    @property
    def agreeing(self) -> int:
        """Points within whose interval the line passes."""
        line = np.interp(np.log([point.kept for point in self.points]), np.log(self.kept), np.log(self.errors))
        return sum(point.low <= error <= point.high for point, error in zip(self.points, np.exp(line).tolist(), strict=True))


@dataclass(frozen=True)
class Panel:
    """One Setting of a figure, solved and simulated."""

    figure: str
    title: str
    curves: list[Curve]


@dataclass(frozen=True)
class Figures:
    """All panels, and how they were simulated."""

    dimensions: int
    draws: int
    seconds: float
    panels: list[Panel]

    @classmethod
    def from_json(cls, text: str) -> "Figures":
        """The Figures of `to_json`; ValueError that names the field for text that is none."""
        return TypeAdapter(cls).validate_json(text)

    def to_json(self) -> str:
        """As JSON, which `from_json` takes back."""
        return TypeAdapter(Figures).dump_json(self).decode()


def curves() -> list[tuple[Setting, float]]:
    """Every line of the figures: its setting, and examples a dimension in the pool."""
    return [(setting, alpha_tot) for setting in SETTINGS for alpha_tot in setting.pools]


def pools(dimensions: int, draws: int) -> list[dict[str, Any]]:
    """Rows of simulation.POOLS that hold all points of all figures once, the largest pools first."""
    keeps: dict[tuple[float, float, int], set[str]] = defaultdict(set)
    for setting, alpha_tot in curves():
        keeps[alpha_tot, setting.degrees, setting.redundancy].add(setting.keep)
    return [
        {
            "alpha_tot": alpha_tot,
            "degrees": degrees,
            "redundancy": copies,
            "keeps": sorted(ways),
            "fractions": list(FRACTIONS),
            "dimensions": dimensions,
            "seed": seed,
        }
        for (alpha_tot, degrees, copies), ways in sorted(keeps.items(), key=lambda pair: (-pair[0][0] / pair[0][2], pair[0]))
        for seed in range(draws)
    ]


class Solve:
    """The error of the theory along curves by their numbers: a column `curve` in, ERRORS out."""

    def __call__(self, numbers: pa.Table) -> Iterator[pa.Table]:
        for number in numbers["curve"].to_pylist():
            setting, alpha_tot = curves()[number]
            errors = [
                perceptron.pruned(alpha_tot, fraction, setting.degrees, setting.keep, setting.redundancy).error_towards(setting.downstream)
                for fraction in FINE
            ]
            yield pa.table({"curve": [number] * len(FINE), "fraction": FINE, "error": errors}, ERRORS)


def drawn_up(errors: pa.Table, students: pa.Table, how: tuple[int, int, float]) -> Figures:
    """The figures from rows of ERRORS and of STUDENTS; `how` is dimensions, draws and seconds."""
    lines = {number: errors.filter(pc.equal(errors["curve"], number)).sort_by("fraction") for number in range(len(curves()))}
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in students.cast(STUDENTS).to_pylist():
        found[row["alpha_tot"], row["degrees"], row["redundancy"], row["keep"], row["fraction"]].append(row)
    panels: dict[Setting, list[Curve]] = {setting: [] for setting in SETTINGS}
    for number, (setting, alpha_tot) in enumerate(curves()):
        place = (alpha_tot, setting.degrees, setting.redundancy, setting.keep)
        points = [point(alpha_tot * f, [error(row, setting.downstream) for row in found[*place, f]]) for f in FRACTIONS]
        kept = [alpha_tot * fraction for fraction in lines[number]["fraction"].to_pylist()]
        panels[setting].append(Curve(alpha_tot, kept, lines[number]["error"].to_pylist(), points))
    return Figures(*how, [Panel(setting.figure, setting.panel, found) for setting, found in panels.items()])


def error(row: dict[str, Any], downstream: float) -> float:
    """Of a simulated student by the labels of a teacher that is `downstream` degrees away, along an axis of its own."""
    turned = math.radians(downstream)
    return math.acos(max(-1.0, min(1.0, row["teacher"] * math.cos(turned) + row["aside"] * math.sin(turned)))) / math.pi


def point(kept: float, errors: Sequence[float]) -> Point:
    """The errors of several draws as one Point, whose interval begins above 0: axes are logarithmic."""
    mean = fmean(errors)
    reach = float(student_t.ppf(0.975, len(errors) - 1)) * stdev(errors) / len(errors) ** 0.5 if len(errors) > 1 else 0.0
    return Point(kept, mean, max(mean - reach, 1e-6), mean + reach)
