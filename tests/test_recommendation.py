"""What theory recommends: the table is what the equations say, and moves the way pruning is known to work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.theory import recommendation
from engine.theory.perceptron import pruned
from engine.theory.recommendation import ANGLES, BUDGETS, SIZES, STARTED, SUFFICED, error, recommended, regret, rung, solved


def of_table(angle, place):
    return STARTED[angle][place], SUFFICED[angle][place]


@pytest.mark.parametrize(("angle", "place"), [(10, 0), (75, 3)])
def test_the_table_is_solved(angle, place):
    found = solved(rung(place), float(angle))
    assert (found.start, found.enough) == of_table(angle, place)


@pytest.mark.slow
@pytest.mark.parametrize("angle", ANGLES)
def test_all_of_the_table_is_solved(angle):
    found = [solved(rung(place), float(angle)) for place in range(SIZES)]
    assert tuple(one.start for one in found) == STARTED[angle]
    assert tuple(one.enough for one in found) == SUFFICED[angle]


@given(st.integers(1, 10**7), st.floats(1, 1000), st.floats(0, 90))
def test_a_larger_pool_is_kept_from_no_easier_on(examples, dimensions, degrees):
    few, many = recommended(examples, dimensions, degrees), recommended(10 * examples, dimensions, degrees)
    assert few.start <= many.start
    assert 1 <= few.alpha_tot <= many.alpha_tot <= 10_000


@given(st.integers(0, SIZES - 1))
def test_the_worse_the_probe_the_less_of_the_data_can_be_spared(place):
    assert [*sorted(SUFFICED[angle][place] for angle in ANGLES if angle >= 30)] == [
        SUFFICED[angle][place] for angle in ANGLES if angle >= 30
    ]


def test_the_advice_of_every_angle_is_that_of_the_pool_that_was_advised():
    advice = recommended(10_000, 100, 45.0)
    others = recommendation.by_angle(advice.alpha_tot)
    assert [other.degrees for other in others] == list(ANGLES)
    assert others[ANGLES.index(45)] == advice


def test_rungs_hold_a_growing_pool_still():
    assert recommended(10_000, 100, 20.0) == recommended(10_100, 100, 20.0)
    assert recommended(10_000, 100, 20.0).alpha_tot == 100


def test_an_error_is_that_of_the_window_and_of_the_hardest_where_fewer_are_left():
    assert error(20.0, 0.1, 10.0, 0.9) == pruned(20, 0.1, 10.0, "hard").error
    assert error(20.0, 0.5, 10.0, 0.9) == pruned(20, 0.5, 10.0, "hard").error
    assert error(20.0, 0.1, 10.0, 0.0) == pruned(20, 0.1, 10.0, "easy").error


def test_what_is_recommended_loses_less_than_its_neighbours_and_nothing_loses_less_than_nothing():
    losses = [regret(10.0, 75.0, start) for start in recommendation.STARTS]
    assert min(losses) >= 0
    assert losses.index(min(losses)) == recommendation.STARTS.index(STARTED[75][3])


def test_few_examples_are_kept_easy_and_many_hard():
    assert recommended(100, 100, 20.0).start == 0
    assert recommended(10**6, 100, 20.0).start >= 1 - min(BUDGETS) - 0.1


@pytest.mark.parametrize(("examples", "dimensions"), [(0, 10), (10, 0.5)])
def test_what_is_no_pool_is_refused(examples, dimensions):
    with pytest.raises(ValueError, match=rf"examples={examples} and dimensions={dimensions} must be above 0"):
        recommended(examples, dimensions, 20.0)
