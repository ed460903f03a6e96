import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine import charts


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
@example(999999999.75, 1.0)
def test_ticks_are_even_and_enclose_the_values(low, span):
    found = charts.ticks(low, low + span)
    small = 1e-6 * span + 1e-8 * abs(low)  # beside 1e9 a span of 1 is flat, as far as a chart can show
    assert found[0] <= low + small
    assert found[-1] >= low + span - small
    assert 2 <= len(found) <= 8
    assert np.allclose(np.diff(found), found[1] - found[0], rtol=1e-3)
    labels = [tick.label for tick in charts.axis(found, found[0], found[-1])]
    assert len(set(labels)) == len(labels)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")) | st.just(float("inf")), min_size=1, max_size=30))
def test_a_curve_stays_inside_its_plot_and_breaks_at_what_is_not_finite(values):
    drawn = charts.chart("loss", list(range(len(values))), values)
    places = np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", drawn.path), float)
    finite = np.isfinite(values)
    assert len(places) == finite.sum()
    assert drawn.broken == (~finite).sum()
    assert ((places > -0.01) & (places < 100.01)).all()
    assert drawn.path.count("M") == int(finite[0]) + int((np.diff(finite.astype(int)) == 1).sum())


def test_a_long_curve_is_thinned_without_losing_a_spike_or_a_gap():
    values = np.sin(np.arange(50_000) / 5000)
    values[31_234], values[40_000] = 9.0, np.nan
    drawn = charts.chart("loss", list(range(50_000)), values.tolist())
    assert len(drawn.path) < 20_000
    assert drawn.highest == 9.0
    top = 100 - 100 * (9.0 - float(drawn.y[0].label)) / (float(drawn.y[-1].label) - float(drawn.y[0].label))
    assert f" {top:.2f}" in drawn.path
    assert drawn.path.count("M") == 2


def test_a_curve_of_unequal_lists_is_a_bug():
    with pytest.raises(ValueError, match="curve 'loss' has 2 steps and 1 values"):
        charts.chart("loss", [1, 2], [0.5])


def test_a_histogram_counts_every_patch_once_and_the_chosen_among_them():
    scores = np.r_[np.random.default_rng(0).gamma(3, 0.02, 1000), 50.0, np.nan]
    (drawn,) = charts.histograms(scores, {"optidel": np.sort(scores[:-1])[-50:]})
    top = float(drawn.y[-1].label)
    assert sum(column.height for column in drawn.columns) * top / 100 == pytest.approx(1001)
    assert sum(column.chosen for column in drawn.columns) * top / 100 == pytest.approx(50)
    assert all(column.chosen <= column.height for column in drawn.columns)
    assert drawn.unscored == 1
    assert drawn.above is not None
    assert drawn.above < 1


def test_equal_scores_and_a_single_score_have_a_histogram():
    for scores in (np.full(5, 0.3), np.array([0.0])):
        (drawn,) = charts.histograms(scores, {})
        assert sum(column.height for column in drawn.columns) > 0


@pytest.mark.parametrize(
    ("budget", "unit", "said"),
    [
        (0.25, "bytes", "25 % of the bytes"),
        (0.25, "", "25 %"),
        (1, "images", "100 % of the frames in images"),
        (8, "patches", "8 patches"),
        (8, "", "8"),
        (2_500_000, "bytes", "2,500,000 bytes"),
        (0.5, "gpu_hours", "0.5 gpu hours"),
    ],
)
def test_a_budget_is_a_share_up_to_one_but_for_hours_and_says_of_what(budget, unit, said):
    assert charts.amount(budget, unit) == said
    assert said.startswith(charts.figure(budget, unit))


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0", "0.25", "0.5", "0.75", "1"]),
        (0, 20_000, ["0", "5,000", "10,000", "15,000", "20,000"]),
        (1000.1, 1000.2, ["1,000.1", "1,000.125", "1,000.15", "1,000.175", "1,000.2"]),
        (0, 1.5e-4, ["0", "0.00005", "0.0001", "0.00015"]),
        (0, 4e-8, ["0", "1e-08", "2e-08", "3e-08", "4e-08"]),
        (-1, 1, ["-1", "-0.5", "0", "0.5", "1"]),
    ],
)
def test_ticks_are_labelled_so_that_they_can_be_told_apart(low, high, labels):
    found = charts.ticks(low, high)
    assert [tick.label for tick in charts.axis(found, found[0], found[-1])] == labels
