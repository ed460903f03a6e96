"""What pruning does to a perceptron that another one teaches: equations instead of draws (Sorscher et al., arXiv 2206.14486, appendix).

A teacher T labels examples x of N independent normal numbers, N large, by the sign of h = T.x. A probe J_p, `degrees` away from T, says
how hard each is: the smaller |z|, z = J_p.x, the harder. Of alpha_tot N examples the share f is kept, by a `Window` of |z|, and the
student separates these alpha N = f alpha_tot N with the largest margin kappa. With the overlaps R and rho of the student's direction with
T and J_p, its error on new examples is arccos(R) / pi.

The student is a sum of the probe, of the direction V at a right angle to it in which the teacher lies, T = cos(theta) J_p + sin(theta) V,
and of noise. Let a, b and 1 be their weights and k the margin in the same unit, kappa = k / sqrt(1 + a^2 + b^2). With v = V.x,
psi_2(x) = (x^2 + 1) Phi(x) + x phi(x) and averages <> over kept examples, labelled so that h > 0, k solves

    alpha <psi_2(k - a z - b v)> = 1,

a concave function of a and b, and kappa is the largest that it reaches, at one place only, which Newton's method finds without a start from
simulated means. That is Gordon's way to the three published equations, which say that the derivatives of kappa vanish; one form serves
every window, and theta = 0, where v tells nothing. Our own derivation: the tests hold it against the published ones, by brute force.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]

FARTHEST = 8.0  # standard deviations: beyond lies 1e-15 of a normal distribution
PANELS = 9  # of the integral over |z|, the narrowest where a window begins
NODES, WEIGHTS = np.polynomial.legendre.leggauss(18)
STEPS = 100  # of Newton's method; 5 to 20 are usual
EXACT = 1e-12  # what a root may still miss, and a step still gain
FAR = 1.0  # a step by which large weights nearly treble: beyond it the nodes of the integrals lie in the wrong places
NEAR = 0.5  # widths of the noise: nodes laid for a margin serve one so near
ROUNDING = 1e-10  # of log kappa
NOTHING = 1e-25  # what cannot be told from none


@dataclass(frozen=True)
class Window:
    """The examples with lowest <= |z| <= highest: a share of all."""

    lowest: float
    highest: float

    @property
    def share(self) -> float:
        """Of all examples, those with |z| in the window, z standard normal."""
        return float(2 * (ndtr(-self.lowest) - ndtr(-self.highest)))


@dataclass(frozen=True)
class Student:
    """The margin of the perceptron that was found, and its overlaps with the teacher and with the probe."""

    kappa: float
    teacher: float  # R
    probe: float  # rho

    @property
    def error(self) -> float:
        """The share of new examples that it labels wrongly."""
        return self.error_towards(0.0)

    def error_towards(self, degrees: float) -> float:
        """The same by the labels of another teacher, so many degrees away from this one in a direction that says nothing of the probe."""
        return math.acos(min(1.0, self.teacher * math.cos(math.radians(degrees)))) / math.pi


def window(start: float, kept: float) -> Window:
    """The share `kept` whose hardness, as a quantile from 0 to 1, lies between start and start + kept. ValueError where it is none."""
    if not (0 < kept <= 1 and 0 <= start <= 1 - kept + 1e-9):
        raise ValueError(f"start={start} and kept={kept} must be a quantile and a share above 0 that end at 1 or before")
    return Window(float(-ndtri(min(start + kept, 1) / 2)), float(-ndtri(start / 2)))


def start_of(keep: str, kept: float) -> float:
    """The quantile of hardness at which "hard", "medium" or "easy" begins; medium leaves as many easier ones as harder.

    ValueError for another word.
    """
    starts = {"hard": 1 - kept, "medium": (1 - kept) / 2, "easy": 0.0}
    if keep not in starts:
        raise ValueError(f"keep={keep!r} is none of {', '.join(starts)}, random")
    return starts[keep]


def pruned(alpha_tot: float, kept: float, degrees: float, keep: str = "hard", redundancy: float = 1.0) -> Student:
    """The student of the share `kept` of a pool of alpha_tot examples a dimension, in which each stands `redundancy` times.

    Copies are as hard as each other and change no margin, so this is the student of the same share of the alpha_tot / redundancy different
    ones. "random" is all of a pool of kept alpha_tot / redundancy, which holds while so few are kept of so many that copies are.
    """
    alpha = kept * alpha_tot / redundancy
    return student(alpha, window(0, 1) if keep == "random" else window(start_of(keep, kept), kept), degrees)


def student(alpha: float, of: Window, degrees: float) -> Student:
    """The perceptron of the largest margin on alpha examples a dimension from a window; ValueError for what is no pool or angle."""
    if not (0 < alpha < math.inf and 0 <= degrees <= 90 and of.share > 0):
        raise ValueError(f"alpha={alpha}, degrees={degrees} and {of} must be a number above 0, 0 to 90, and a share above 0")
    problem = Problem(alpha, of, degrees)
    found = largest(problem)
    noise = 1 / math.sqrt(1 + float(found.weights @ found.weights))
    return Student(found.k * noise, float(found.weights @ problem.teacher) * noise, float(found.weights[0]) * noise)


@dataclass(frozen=True)
class Margin:
    """The margin k of students with these weights (d,), a and b, or without an angle a alone, and how it changes with them."""

    weights: Floats
    k: float
    slope: Floats  # (d,)
    bend: Floats  # (d, d), nowhere upwards


@dataclass(frozen=True)
class Problem:
    """Which student is looked for: of alpha examples a dimension from a window, by a probe so many degrees off."""

    alpha: float
    of: Window
    degrees: float

    @property
    def teacher(self) -> Floats:
        """What it consists of (d,): probe, and the direction beside it."""
        angle = math.radians(self.degrees)
        return np.array([math.cos(angle), math.sin(angle)]) if angle else np.ones(1)

    def margin(self, weights: Floats, guess: float) -> Margin | None:
        """None where it is not above 0. `guess` is of k, and rather too large than too small: nodes are laid for it."""
        k, laid = guess, math.inf
        while abs(k - laid) > NEAR:
            x, share = self.examples(weights, k)
            along = x @ weights
            k, laid = root(self.alpha * share, along, k), k
        if not k > 0:
            return None
        pull = share * psi(k - along)
        slope = pull @ x / pull.sum()
        apart = x - slope
        return Margin(weights, k, slope, -(apart.T * (share * ndtr(k - along))) @ apart / pull.sum())

    def worth(self, at: Margin) -> tuple[float, Floats, Floats]:
        """log kappa, its slope (d,) and its bend (d, d), by the inverse hyperbolic sine of the weights, which may be thousands."""
        length = 1 + float(at.weights @ at.weights)
        pull = at.weights / length
        slope = at.slope / at.k - pull
        bend = at.bend / at.k - np.outer(at.slope, at.slope) / at.k**2 - np.eye(len(pull)) / length + 2 * np.outer(pull, pull)
        scale = np.sqrt(1 + at.weights**2)
        return math.log(at.k) - math.log(length) / 2, scale * slope, np.outer(scale, scale) * bend + np.diag(at.weights * slope)

    def examples(self, weights: Floats, k: float) -> tuple[Floats, Floats]:
        """Kept examples (n, d), z and v or z alone, and their shares (n,): nodes that are dense where the integrand changes."""
        cosine, sine = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        size, share = graded(self.of, min(1 / (1 + float(np.abs(weights).sum())), sine / cosine if 0 < sine < cosine else 1.0))
        share = share * phi(size) * 2 / self.of.share
        if not self.degrees:
            return size[:, None], share
        z = np.concatenate([-size, size])
        v, part = beside(-z * cosine / sine, k - weights[0] * z, float(weights[1]))
        share = (np.concatenate([share, share])[:, None] * part * phi(v)).ravel()
        counts = share > NOTHING
        return np.stack([np.repeat(z, v.shape[1]), v.ravel()], 1)[counts], share[counts]


def largest(problem: Problem) -> Margin:
    """The margin of the student, by Newton's method. FloatingPointError where it is not found."""
    at = begun(problem)
    for _ in range(STEPS):
        _, slope, bend = problem.worth(at)
        step = uphill(slope, bend)
        at = larger(problem, at, step)
        if float(slope @ step) < EXACT:
            return at
    raise FloatingPointError(f"no largest margin for {problem} after {STEPS} steps")


def begun(problem: Problem) -> Margin:
    """Some student with a margin: with so little noise beside the teacher, which separates whatever it labelled, that there is one.

    FloatingPointError where there is none all the same.
    """
    for doubled in range(STEPS):
        if found := problem.margin(2.0**doubled * problem.teacher, 1.0):
            return found
    raise FloatingPointError(f"the teacher itself does not separate {problem}")


def uphill(slope: Floats, bend: Floats) -> Floats:
    """Newton's step (d,), with as much taken from the bend as it takes to go down on all sides, and not beyond `FAR`."""
    shift = max(0.0, 1.1 * float(np.linalg.eigvalsh(bend)[-1]) + NOTHING)
    step = -np.linalg.solve(bend - shift * np.eye(len(slope)), slope)
    return np.asarray(step * min(1.0, FAR / max(float(np.linalg.norm(step)), NOTHING)))


def larger(problem: Problem, at: Margin, step: Floats) -> Margin:
    """After as much of the step as makes kappa no smaller, but for rounding. FloatingPointError where no step does."""
    least = problem.worth(at)[0] - ROUNDING
    for share in 0.5 ** np.arange(50):
        weights = np.sinh(np.arcsinh(at.weights) + share * step)
        found = problem.margin(weights, at.k + float(at.slope @ (weights - at.weights)))  # k is concave, so not below it
        if found and problem.worth(found)[0] >= least:
            return found
    raise FloatingPointError(f"no step makes the margin larger for {problem}")


def root(share: Floats, along: Floats, guess: float) -> float:
    """The k with sum(share psi_2(k - along)) = 1: the square root of that sum is convex and rises, so Newton's method falls onto it.

    FloatingPointError where it does not.
    """
    k = guess
    for _ in range(STEPS):
        size = math.sqrt(float(share @ psi_2(k - along)))
        step = (1 - size) * size / max(float(share @ psi(k - along)), NOTHING)
        k += min(step, 1 + abs(k))
        if abs(step) <= EXACT * (1 + abs(k)):
            return k
    raise FloatingPointError(f"no margin within {STEPS} steps from {guess}")


def graded(of: Window, finest: float) -> tuple[Floats, Floats]:
    """Nodes (n,) and weights (n,) over the sizes of a window: panels that widen from its lower end on."""
    lowest, highest = min(of.lowest, FARTHEST), min(of.highest, FARTHEST)
    wide = highest - lowest
    return panels(lowest + np.concatenate([[0.0], np.geomspace(min(finest, wide) / 2, wide, PANELS)]))


def beside(least: Floats, room: Floats, weight: float) -> tuple[Floats, Floats]:
    """Nodes and weights (n, m) over v > `least` (n,), where the margin is not reached: weight v < room (n,), or by a little."""
    lowest, highest = np.clip(least, -FARTHEST, FARTHEST), np.full(len(least), FARTHEST)
    width = 1 / max(weight, NOTHING)
    highest = np.maximum(np.minimum(highest, (room + FARTHEST) * width), lowest)
    inner = np.sort(np.stack([np.zeros(len(least)), (room - FARTHEST / 2) * width, (room + 1) * width]), 0)
    return panels(np.stack([lowest, *np.clip(inner, lowest, highest), highest], -1))


def panels(edges: Floats) -> tuple[Floats, Floats]:
    """Gauss and Legendre's nodes and weights between all edges (..., e)."""
    half = np.diff(edges)[..., None] / 2
    flat = (*edges.shape[:-1], -1)
    return (edges[..., :-1, None] + half * (1 + NODES)).reshape(flat), (half * WEIGHTS).reshape(flat)


def phi(x: Floats) -> Floats:
    """The density of a normal number."""
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


def psi(x: Floats) -> Floats:
    """The mean of (x - g)_+ over normal numbers g."""
    return np.asarray(x * ndtr(x) + phi(x))


def psi_2(x: Floats) -> Floats:
    """The mean of (x - g)_+^2 over normal numbers g."""
    return np.asarray((x * x + 1) * ndtr(x) + x * phi(x))
