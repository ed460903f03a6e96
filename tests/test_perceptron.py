"""The pruned perceptron's equations: METHODS' table, the published equations by brute force, closed forms, and what must hold always."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erf, erfc, erfinv

from engine.theory.perceptron import Window, pruned, start_of, student, window

TABLE = [  # METHODS, section 5: alpha_tot, f, kappa, R, rho, error; computed before this code was written, by others' equations
    (10, 0.3, 0.166, 0.901, 0.771, 0.143),
    (10, 1.0, 0.100, 0.988, 0.929, 0.0492),
    (20, 0.1, 0.424, 0.333, 0.063, 0.392),
    (20, 0.3, 0.071, 0.992, 0.921, 0.0397),
]
SHARES = st.floats(0.02, 1.0)
POOLS = st.floats(0.2, 300.0)
ANGLES = st.sampled_from([0.0, 3.0, 10.0, 20.0, 45.0, 80.0, 90.0])


@pytest.mark.parametrize(("alpha_tot", "kept", "kappa", "teacher", "probe", "error"), TABLE)
def test_the_table_of_the_methods_comes_out(alpha_tot, kept, kappa, teacher, probe, error):
    found = pruned(alpha_tot, kept, 20.0)
    # The second rho is .928498, which was printed as .929.
    assert (found.kappa, found.teacher, found.probe) == pytest.approx((kappa, teacher, probe), abs=0.000503)
    assert found.error == pytest.approx(error, abs=0.5 * 10 ** -len(str(error).split(".")[1]))


def published(alpha, of, degrees, found):
    """Both sides of the three published equations, each integral a plain sum over a fine grid of (t, z)."""
    theta = math.radians(degrees)
    cos, sin2 = math.cos(theta), math.sin(theta) ** 2
    r, rho, kappa = found.teacher, found.probe, found.kappa
    lam = math.sqrt(sin2 - r * r - rho * rho + 2 * rho * r * cos)
    nodes, weights = np.polynomial.legendre.leggauss(600)
    low, high = of.lowest, min(of.highest, 9.0)
    z = np.concatenate([low + (high - low) * (nodes + 1) / 2, -low - (high - low) * (nodes + 1) / 2])[:, None]
    p = np.tile(weights, 2)[:, None] * (high - low) / 2 * np.exp(-z * z / 2) / math.sqrt(2 * math.pi) / of.share
    t = kappa - 12 * (nodes[None] + 1) / 2
    dt = 6 * weights[None]
    gamma = z * (rho * r - cos) - t * (r - rho * cos)
    delta = z * z * (rho**2 + cos**2 - 2 * rho * r * cos) + 2 * t * z * (r * cos - rho) + t * t * sin2
    normal = np.exp(-((t - rho * z) ** 2) / 2 / (1 - rho**2)) / math.sqrt(2 * math.pi * (1 - rho**2))
    tail = erfc(gamma / math.sqrt(1 - rho**2) / lam / math.sqrt(2)) / 2
    boundary = np.exp(-delta / 2 / lam**2)
    short = kappa - t
    first = alpha / math.pi / lam * np.sum(p * dt * boundary * short)
    second = 2 * alpha * np.sum(p * dt * normal * tail * short**2)
    inside = normal * tail * (z - rho * t) / (1 - rho**2) + boundary / (2 * math.pi * lam) * (rho * r - cos) / (1 - rho**2)
    third = 2 * alpha * np.sum(p * dt * inside * short)
    sides = [(r - rho * cos) / sin2, 1 - (rho**2 + r**2 - 2 * rho * r * cos) / sin2, (rho - r * cos) / sin2]
    return sides, [first, second, third]


@pytest.mark.parametrize("keep", ["hard", "medium", "easy"])
@pytest.mark.parametrize(("alpha_tot", "kept", "degrees"), [(10, 0.3, 20), (4, 0.6, 45), (2, 0.2, 10), (30, 0.4, 70)])
def test_the_published_equations_hold_by_brute_force(alpha_tot, kept, degrees, keep):
    of, alpha = window(start_of(keep, kept), kept), kept * alpha_tot
    left, right = published(alpha, of, degrees, student(alpha, of, degrees))
    assert right == pytest.approx(left, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(("alpha_tot", "kept"), [(3, 0.5), (20, 0.2), (50, 0.05), (2, 1.0)])
def test_a_perfect_probe_obeys_its_own_published_equations(alpha_tot, kept):
    found, gamma = pruned(alpha_tot, kept, 0.0), math.sqrt(2) * float(erfinv(min(kept, 1 - 1e-16)))
    r, kappa, rest = found.teacher, found.kappa, math.sqrt(1 - found.teacher**2)
    assert found.probe == r

    def upper(x):
        return erfc(x / math.sqrt(2)) / 2

    def first(t):
        return math.exp(-t * t / 2 / rest**2) * (1 - math.exp(-gamma * (gamma - 2 * r * t) / 2 / rest**2)) * (kappa - t)

    def second(t):
        return math.exp(-t * t / 2) / math.sqrt(2 * math.pi) * (upper(-r * t / rest) - upper((gamma - r * t) / rest)) * (kappa - t) ** 2

    def whole(function):
        return sum(quad(function, *ends, epsabs=1e-13, limit=200)[0] for ends in ((-12, -8 * rest), (-8 * rest, 0), (0, kappa)))

    assert 2 * alpha_tot / (2 * math.pi * rest) * whole(first) == pytest.approx(r, rel=1e-6)
    assert 2 * alpha_tot * whole(second) == pytest.approx(1 - r * r, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 2.0, 12.0])
def test_all_examples_give_the_known_curve_of_the_perceptron_of_largest_margin(alpha):
    # Opper, Kinzel, Kleinz and Nehl, J. Phys. A 23 (1990) L581: two equations without a probe.
    found = pruned(alpha, 1.0, 33.0)
    r, kappa, rest = found.teacher, found.kappa, math.sqrt(1 - found.teacher**2)
    first = quad(lambda t: math.exp(-t * t / 2 / rest**2) * (kappa - t), -12, kappa, epsabs=1e-12, points=[0.0])[0]
    second = quad(
        lambda t: math.exp(-t * t / 2) / math.sqrt(2 * math.pi) * (1 + erf(r * t / rest / math.sqrt(2))) / 2 * (kappa - t) ** 2,
        *(-12, kappa),
        epsabs=1e-12,
        points=[0.0],
    )[0]
    assert alpha / math.pi / rest * first == pytest.approx(r, rel=1e-7)
    assert 2 * alpha * second == pytest.approx(1 - r * r, rel=1e-7)
    assert found.probe == pytest.approx(r * math.cos(math.radians(33)), rel=1e-7)


def test_few_examples_are_learnt_as_a_mean_of_them_would():
    # Alone in many dimensions examples are orthogonal: w is their sum, R = <|h|> sqrt(alpha), kappa = 1 / sqrt(alpha).
    found = pruned(1e-4, 1.0, 20.0)
    assert found.kappa == pytest.approx(100, rel=0.02)
    assert found.teacher == pytest.approx(math.sqrt(2 / math.pi) * 0.01, rel=0.02)


def test_many_examples_halve_the_error_when_they_double():
    # The error of the largest margin falls as 0.50 / alpha (Opper et al. 1990).
    assert 4000 * pruned(4000, 1.0, 20.0).error == pytest.approx(0.500, abs=0.005)


@settings(deadline=None, max_examples=25)
@given(POOLS, SHARES, ANGLES, st.sampled_from(["hard", "medium", "easy", "random"]))
def test_there_is_a_student_of_every_pool_between_chance_and_perfect(alpha_tot, kept, degrees, keep):
    found = pruned(alpha_tot, kept, degrees, keep)
    assert 0 < found.error < 0.5
    assert found.kappa > 0
    assert -1 <= found.probe <= 1


@settings(deadline=None, max_examples=15)
@given(POOLS, SHARES, ANGLES, st.sampled_from(["hard", "medium", "easy"]))
def test_more_of_the_same_window_has_a_smaller_margin(alpha_tot, kept, degrees, keep):
    few, many = pruned(alpha_tot, kept, degrees, keep), pruned(1.3 * alpha_tot, kept, degrees, keep)
    assert many.kappa < few.kappa


@pytest.mark.parametrize("keep", ["hard", "medium", "easy"])
def test_a_perfect_probe_is_the_limit_of_a_good_one(keep):
    good, perfect = pruned(20, 0.4, 0.02, keep), pruned(20, 0.4, 0.0, keep)
    assert (good.kappa, good.teacher) == pytest.approx((perfect.kappa, perfect.teacher), rel=1e-3)


def test_a_probe_that_knows_nothing_and_one_without_choice_prune_at_random():
    assert pruned(20, 1.0, 40.0, "hard").error == pytest.approx(pruned(20, 1.0, 40.0, "random").error, rel=1e-8)
    at_random = pruned(20, 0.5, 90.0, "random")
    assert pruned(20, 0.5, 20.0, "random").error == pytest.approx(at_random.error, rel=1e-8)


def test_hard_examples_are_the_worst_of_few_and_the_best_of_many():
    few = {keep: pruned(10, 0.1, 10.0, keep).error for keep in ("hard", "easy", "random")}
    many = {keep: pruned(200, 0.1, 10.0, keep).error for keep in ("hard", "easy", "random")}
    assert few["easy"] < few["random"] < few["hard"]
    assert many["hard"] < many["random"] < many["easy"]


def test_copies_shrink_the_pool_and_nothing_else():
    assert pruned(100, 0.2, 10.0, redundancy=5) == pruned(20, 0.2, 10.0)


def test_another_task_downstream_has_an_error_that_no_data_removes():
    found = pruned(500, 1.0, 10.0)
    assert found.error_towards(30.0) == pytest.approx(1 / 6, abs=1e-4)
    assert found.error_towards(0.0) == found.error


def test_a_window_holds_its_share_and_the_quantiles_it_names():
    assert window(0, 1) == Window(-0.0, math.inf)
    for start, kept in ((0.0, 0.3), (0.35, 0.3), (0.7, 0.3)):
        assert window(start, kept).share == pytest.approx(kept)
    assert window(0.7, 0.3).lowest == pytest.approx(0, abs=1e-12)
    assert window(0.0, 0.3).highest == math.inf


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: pruned(0, 0.5, 10), "alpha=0.0, degrees=10"),
        (lambda: pruned(5, 0.5, 95), "degrees=95"),
        (lambda: pruned(5, 1.5, 10), "kept=1.5"),
        (lambda: pruned(5, 0.5, 10, "odd"), "keep='odd' is none of hard, medium, easy, random"),
    ],
)
def test_what_is_no_pool_is_refused_with_a_sentence(call, told):
    with pytest.raises(ValueError, match=r"must be|is none of") as refusal:
        call()
    assert told in str(refusal.value)
