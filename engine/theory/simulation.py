"""The pruned perceptron by draws: pools of random examples, pruned by a probe, and the largest margin by quadratic programming.

The protocol is that of the notebook beside OptiDEL (arXiv 2408.07107), but for three things, which are our choice. Overlaps are cosines:
the notebook takes np.corrcoef, which takes the mean of each vector from it first and so measures other vectors. The programme goes to
DAQP, an active-set solver, as the constraints that bind are few. Teacher and probe lie on the first two axes, as any rotation is as likely.
"""

import math
from collections.abc import Iterator

import daqp
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.theory.perceptron import start_of

Floats = NDArray[np.float64]

POOLS = pa.schema(
    [
        ("alpha_tot", pa.float64()),
        ("degrees", pa.float64()),
        ("redundancy", pa.int64()),
        ("keeps", pa.list_(pa.string())),
        ("fractions", pa.list_(pa.float64())),
        ("dimensions", pa.int64()),
        ("seed", pa.int64()),
    ]
)
STUDENTS = pa.schema(
    [
        *(POOLS.field(name) for name in ("alpha_tot", "degrees", "redundancy", "seed")),
        ("keep", pa.string()),
        ("fraction", pa.float64()),
        *((name, pa.float64()) for name in ("kappa", "teacher", "probe", "aside")),
    ]
)
TIGHT = 1e-9  # of a margin of 1: by how much a constraint may be missed
AT_ONCE = 4  # times as many constraints as dimensions enter the programme at a time


class Simulate:
    """Draw each pool, prune it in every way and to every share, and measure the student that is left: POOLS in, STUDENTS out."""

    def __call__(self, pools: pa.Table) -> Iterator[pa.Table]:
        for pool in pools.to_pylist():
            keeps, fractions = pool.pop("keeps"), pool.pop("fractions")
            drawn = Pool(**pool)
            kept = [(keep, fraction) for keep in keeps for fraction in fractions]
            same = {name: pool[name] for name in ("alpha_tot", "degrees", "redundancy", "seed")}
            yield pa.Table.from_pylist([{**same, "keep": k, "fraction": f, **drawn.student(k, f)} for k, f in kept], STUDENTS)


class Pool:
    """Labelled examples of a teacher, the hardest for the probe first, every one `redundancy` times."""

    def __init__(self, alpha_tot: float, degrees: float, redundancy: int, dimensions: int, seed: int) -> None:
        chance = np.random.default_rng([seed, redundancy, dimensions, round(1000 * alpha_tot), round(1000 * degrees)])
        examples = chance.standard_normal((max(1, round(alpha_tot * dimensions / redundancy)), dimensions))
        self.teacher = np.zeros(dimensions)
        self.teacher[:2] = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        examples *= np.where(examples @ self.teacher < 0, -1.0, 1.0)[:, None]
        self.redundancy, self.lots = redundancy, chance.permutation(len(examples))
        self.examples = examples[np.argsort(np.abs(examples[:, 0]), kind="stable")] / math.sqrt(dimensions)

    def kept(self, keep: str, fraction: float) -> Floats:
        """Which examples (n, N) are in the share that is kept: of one that is kept more than once one copy, as others change no margin."""
        copies = len(self.examples) * self.redundancy
        count = max(1, int(fraction * copies))
        if keep == "random":
            return self.examples[self.lots[: max(1, int(fraction * len(self.examples)))]]
        first = round((1 - start_of(keep, count / copies)) * copies) - count
        return self.examples[first // self.redundancy : -(-(first + count) // self.redundancy)]

    def student(self, keep: str, fraction: float) -> dict[str, float]:
        """Its margin, and its cosines with the teacher, the probe, and an axis that has to do with neither."""
        separator = widest(self.kept(keep, fraction))
        size = float(np.linalg.norm(separator))
        return {
            "kappa": math.sqrt(len(separator)) / size,
            "teacher": float(separator @ self.teacher) / size,
            "probe": float(separator[0]) / size,
            "aside": float(separator[2]) / size if len(separator) > 2 else 0.0,
        }


def widest(examples: Floats) -> Floats:
    """The shortest w (N,) with examples (P, N) @ w >= 1; ValueError where they cannot be separated.

    Of many constraints those that w misses most enter until none is missed: what then holds for some holds for all.
    """
    some = AT_ONCE * examples.shape[1]
    if len(examples) <= some:
        return shortest(examples)
    rows = np.sort(np.argpartition(examples @ examples.mean(0), some)[:some])
    while True:
        found = shortest(examples[rows])
        margins = examples @ found
        margins[rows] = math.inf
        if margins.min() >= 1 - TIGHT:
            return found
        missed = np.flatnonzero(margins < 1 - TIGHT)
        rows = np.sort(np.concatenate([rows, missed[np.argsort(margins[missed])[:some]]]))


def shortest(examples: Floats) -> Floats:
    """The same with all constraints at once. ValueError where nothing separates them."""
    count, dimensions = examples.shape
    found, _, flag, _ = daqp.solve(
        np.eye(dimensions),
        np.zeros(dimensions),
        np.ascontiguousarray(examples),
        np.full(count, 1e30),
        np.ones(count),
        np.zeros(count, np.int32),
        primal_tol=TIGHT / 10,
    )
    if flag != 1:
        raise ValueError(f"{count} examples in {dimensions} dimensions have no separator: the solver says {flag}")
    return np.asarray(found)
