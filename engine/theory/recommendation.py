"""What the theory of the pruned perceptron says of a pool: from which hardness on to keep, and how much of it is enough.

Nobody published how a pool of patches maps onto the theory. Ours, declared and not shown to hold: the examples are the patches less their
copies, which are counted; the dimensions are those that their embeddings really use, as a linear read-out has one weight for each; the
probe's angle cannot be known without labels and is DEGREES. There all is enough for all pools but the smallest, so how much to keep hangs
on the angle alone: `by_angle` has the others beside it. A model that pre-trains is no perceptron, and what is hard to rebuild need not lie
near a boundary. So a recommendation is shown beside what was done, and acts only where it is asked for. What it says of hardness
`endocurate` does with worth, which is hard and can be learnt (its module says why).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from engine.theory.perceptron import student, window

DEGREES = 45.0  # that a scorer is off as a probe: half-way from knowing all to knowing nothing, as nobody can know better without labels
BUDGETS = (0.02, 0.05, 0.1, 0.25, 0.5)  # shares kept, each of which counts as much
STARTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
RUNGS = 3  # pool sizes in a power of ten: while a pool grows by less, what is recommended stays
SHARES = (*BUDGETS, 0.75)  # among which one may be enough
ENOUGH = 1.1  # times the error of the whole pool

ANGLES = (10, 20, 30, 45, 60, 75)  # degrees
SIZES = 13  # rungs, from 1 to 10,000 examples a dimension
# Of every angle and rung the start of least `regret` and the share that is `enough`, as `solved` finds them in minutes; a test solves some.
STARTED = {
    10: (0.0, 0.0, 0.0, 0.0, 0.1, 0.8, 0.85, 0.9, 0.9, 0.95, 0.95, 0.95, 0.95),
    20: (0.0, 0.0, 0.0, 0.0, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.9, 0.9, 0.95),
    30: (0.0, 0.0, 0.0, 0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.85, 0.9, 0.9),
    45: (0.0, 0.0, 0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.85, 0.9),
    60: (0.0, 0.0, 0.1, 0.3, 0.4, 0.5, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.85),
    75: (0.0, 0.0, 0.1, 0.3, 0.4, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.85),
}
SUFFICED = {
    10: (0.25, 0.5, 0.75, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25),
    20: (0.25, 0.75, 0.75, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    30: (0.5, 1.0, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75),
    45: (0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    60: (0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    75: (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
}


@dataclass(frozen=True)
class Advice:
    """What the theory would do with a pool."""

    alpha_tot: float  # different examples a dimension, on a rung
    degrees: float
    start: float  # the quantile of hardness from which on least is lost, whatever the budget: see `regret`
    enough: float  # the least of SHARES, or 1, that is nearly as good as all when it is taken from where it is best


def recommended(examples: float, dimensions: float, degrees: float = DEGREES) -> Advice:
    """The advice for a pool of so many different `examples`; of the nearest angle and rung that were solved.

    ValueError for less than one example or dimension.
    """
    if not (examples > 0 and dimensions >= 1):
        raise ValueError(f"examples={examples} and dimensions={dimensions} must be above 0, and 1 at least")
    place = min(max(round(RUNGS * math.log10(examples / dimensions)), 0), SIZES - 1)
    angle = min(ANGLES, key=lambda solved: abs(solved - degrees))
    return Advice(rung(place), float(angle), STARTED[angle][place], SUFFICED[angle][place])


def by_angle(alpha_tot: float) -> list[Advice]:
    """The advice for a pool of so many examples a dimension, of every angle that was solved. ValueError for none at all."""
    return [recommended(alpha_tot, 1, degrees) for degrees in ANGLES]


def rung(place: int) -> float:
    """Examples a dimension, three digits."""
    return float(f"{10 ** (place / RUNGS):.3g}")


def solved(alpha_tot: float, degrees: float) -> Advice:
    """The advice by the equations themselves: some seconds."""
    losses = {start: regret(alpha_tot, degrees, start) for start in STARTS}
    whole = error(alpha_tot, 1, degrees, 0)
    enough = [kept for kept in SHARES if best(alpha_tot, kept, degrees) <= ENOUGH * whole]
    return Advice(alpha_tot, degrees, min(losses, key=lambda start: losses[start]), min(enough, default=1.0))


def regret(alpha_tot: float, degrees: float, start: float) -> float:
    """How many times, as a mean logarithm over BUDGETS, the error from `start` on is that from where each budget does best.

    One start for all budgets, since a smaller set must be the beginning of a larger one.
    """
    ratios = [error(alpha_tot, kept, degrees, start) / best(alpha_tot, kept, degrees) for kept in BUDGETS]
    return math.fsum(map(math.log, ratios)) / len(ratios)


def best(alpha_tot: float, kept: float, degrees: float) -> float:
    """The least error of a share, whatever start it takes."""
    return min(error(alpha_tot, kept, degrees, start) for start in STARTS)


def error(alpha_tot: float, kept: float, degrees: float, start: float) -> float:
    """Of the share whose hardness begins at a quantile, or of the hardest where fewer lie above it, as `endocurate` takes them by worth."""
    return solved_error(alpha_tot, kept, degrees, min(start, 1 - kept))


@lru_cache(maxsize=4096)
def solved_error(alpha_tot: float, kept: float, degrees: float, start: float) -> float:
    """The error of a student of these examples (Sorscher et al., appendix), remembered: a search asks again and again."""
    return student(kept * alpha_tot, window(start, kept), degrees).error


def random_error(alpha_tot: float, kept: float) -> float:
    """Of a share taken at random, of which the probe says nothing."""
    return student(kept * alpha_tot, window(0, 1), 90).error
