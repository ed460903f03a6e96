"""The simulated perceptron: the programme's conditions, the theory within the error of finite size, and what was published instead."""

import math

import cvxpy
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.theory import perceptron
from engine.theory.simulation import POOLS, STUDENTS, Pool, Simulate, shortest, widest

SIMULATED = [(10, 0.3, 0.180, 0.879, 0.744), (10, 1.0, 0.101, 0.988, 0.930), (20, 0.1, 0.411, 0.336, 0.066), (20, 0.3, 0.076, 0.988, 0.908)]


def separable(count, dimensions, seed):
    return Pool(count / dimensions, 30.0, 1, dimensions, seed).examples


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(3, 25), st.integers(0, 10**6))
def test_the_separator_meets_the_conditions_of_karush_kuhn_and_tucker(count, dimensions, seed):
    examples = separable(count, dimensions, seed)
    found = widest(examples)
    margins = examples @ found
    assert margins.min() >= 1 - 1e-8
    tight = examples[margins < 1 + 1e-7]
    forces = np.linalg.lstsq(tight.T, found, rcond=None)[0]  # w is a sum of what it touches, pushed by none of it backwards
    assert forces @ tight == pytest.approx(found, abs=1e-6 * np.abs(found).max())
    assert forces.min() > -1e-6 * np.abs(forces).max()


@settings(deadline=None, max_examples=15)
@given(st.integers(60, 2000), st.integers(3, 12), st.integers(0, 10**6))
def test_constraints_that_enter_as_they_are_missed_give_the_solution_of_all(count, dimensions, seed):
    examples = separable(count, dimensions, seed)
    assert widest(examples) == pytest.approx(shortest(examples), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize(("alpha_tot", "fraction"), [(4, 0.5), (10, 0.3), (20, 0.6)])
def test_the_solution_is_that_of_cvxpy(alpha_tot, fraction):
    examples = Pool(alpha_tot, 10.0, 1, 30, 3).kept("hard", fraction)
    asked = cvxpy.Variable(30)
    programme = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(asked)), [examples @ asked >= 1])
    programme.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)  # by its defaults right to 1e-5
    found = widest(examples)
    assert found == pytest.approx(asked.value, abs=1e-6 * np.abs(found).max())
    length = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(asked)), [examples @ asked >= 1]).solve()  # as in the notebook, by its default
    assert np.linalg.norm(found) == pytest.approx(length, rel=1e-6)


def means(alpha_tot, fraction, degrees, keep="hard", redundancy=1, draws=12):
    found = [Pool(alpha_tot, degrees, redundancy, 100, seed).student(keep, fraction) for seed in range(draws)]
    return {name: np.mean([one[name] for one in found]) for name in found[0]}, {
        name: np.std([one[name] for one in found]) for name in found[0]
    }


@pytest.mark.parametrize(("alpha_tot", "fraction", "kappa", "teacher", "probe"), SIMULATED)
def test_the_simulated_columns_of_the_methods_table_come_out(alpha_tot, fraction, kappa, teacher, probe):
    # Both sides are means of 12 draws of their own, so they differ by some of sqrt(2 / 12) standard deviations.
    mean, spread = means(alpha_tot, fraction, 20.0)
    for name, printed in (("kappa", kappa), ("teacher", teacher), ("probe", probe)):
        assert abs(mean[name] - printed) < 4 * spread[name] * math.sqrt(2 / 12) + 0.0005


@pytest.mark.parametrize("keep", ["hard", "medium", "easy", "random"])
@pytest.mark.parametrize(("alpha_tot", "fraction"), [(5, 0.8), (20, 0.5), (20, 0.05)])
def test_theory_and_simulation_agree_within_finite_size(alpha_tot, fraction, keep):
    expected, (mean, spread) = perceptron.pruned(alpha_tot, fraction, 10.0, keep), means(alpha_tot, fraction, 10.0, keep)
    for name in ("kappa", "teacher", "probe"):
        # 1 / sqrt(N) is 0.1 of a standard deviation of what a draw shows, and 12 draws are averaged.
        assert abs(mean[name] - getattr(expected, name)) < 4 * spread[name] / math.sqrt(12) + 0.02 * abs(getattr(expected, name))


@pytest.mark.parametrize("redundancy", [3, 10])
def test_tiled_pools_prune_to_the_student_of_the_different_examples(redundancy):
    pool = Pool(30, 10.0, redundancy, 20, 0)
    tiled = np.repeat(pool.examples, redundancy, axis=0)
    kept = tiled[np.argsort(np.abs(tiled[:, 0]), kind="stable")[: int(0.25 * len(tiled))]]
    assert pool.student("hard", 0.25)["kappa"] == pytest.approx(math.sqrt(20) / np.linalg.norm(shortest(kept)), rel=1e-6)
    expected, (mean, spread) = perceptron.pruned(60, 0.3, 10.0, redundancy=redundancy), means(60, 0.3, 10.0, redundancy=redundancy)
    assert abs(mean["teacher"] - expected.teacher) < 4 * spread["teacher"] / math.sqrt(12) + 0.03


def test_the_notebooks_correlation_is_not_the_cosine_of_the_theory():
    """np.corrcoef takes the mean from both vectors first, so it depends on the axes; of 30 numbers it is off by some hundredths."""
    cosines, correlations = np.transpose([overlaps(seed) for seed in range(200)])
    assert np.std(correlations - cosines) > 0.02
    assert np.mean(cosines) == pytest.approx(perceptron.pruned(10, 0.1, 10.0).teacher, abs=0.02)


def overlaps(seed):
    """R as a cosine and as the notebook has it, on its axes: the probe is the first, the rest of the teacher anywhere."""
    pool, turn = Pool(10, 10.0, 1, 30, seed), np.eye(30)
    turn[1:, 1:] = np.linalg.qr(np.random.default_rng(seed).standard_normal((29, 29)))[0]
    student, teacher = turn @ widest(pool.kept("hard", 0.1)), turn @ pool.teacher
    return student @ teacher / np.linalg.norm(student), np.corrcoef(student, teacher)[0, 1]


def test_a_pool_gives_the_same_students_whoever_draws_it_and_copies_stay_together():
    row = {
        "alpha_tot": 6.0,
        "degrees": 10.0,
        "redundancy": 2,
        "keeps": ["easy", "hard"],
        "fractions": [0.3, 1.0],
        "dimensions": 20,
        "seed": 1,
    }
    first, second = (pa.concat_tables(Simulate()(pa.Table.from_pylist([row], POOLS))) for _ in range(2))
    assert first == second
    assert first.schema == STUDENTS
    assert [(one["keep"], one["fraction"]) for one in first.to_pylist()] == [("easy", 0.3), ("easy", 1.0), ("hard", 0.3), ("hard", 1.0)]
    assert first["kappa"][1] == first["kappa"][3]
    assert len(Pool(6, 10.0, 2, 20, 1).kept("hard", 0.5)) == 30


@settings(deadline=None)
@given(st.floats(0.02, 1.0), st.integers(1, 60))
def test_hard_is_from_the_hardest_on_easy_to_the_easiest_and_medium_leaves_as_many_of_either(fraction, count):
    pool = Pool(count / 10, 30.0, 1, 10, 0)
    places = {tuple(one): place for place, one in enumerate(pool.examples)}
    kept = {keep: [places[tuple(one)] for one in pool.kept(keep, fraction)] for keep in ("hard", "medium", "easy")}
    assert all(len(some) == max(1, int(fraction * count)) for some in kept.values())
    assert kept["hard"][0] == 0
    assert kept["easy"][-1] == count - 1
    assert abs(kept["medium"][0] - (count - 1 - kept["medium"][-1])) <= 1


def test_what_cannot_be_separated_is_told():
    with pytest.raises(ValueError, match="2 examples in 3 dimensions have no separator"):
        widest(np.array([[1.0, 0, 0], [-1.0, 0, 0]]))
