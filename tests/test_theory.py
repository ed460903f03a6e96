import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.theory import break_even, del_index, normdel

FRACTION = st.floats(0, 1)
SHARE = st.floats(0.01, 1)
ALPHA = st.floats(0.1, 5)

# OptiDEL (arXiv 2408.07107), table 1: retained share, mean mIoU and mean NormDEL of eight data sets in percent.
TABLE = [
    (1.00, 68.72, 56.28),
    *[(0.05, 65.44, 65.04), (0.05, 68.19, 65.63), (0.05, 71.59, 66.35)],
    *[(0.10, 67.62, 64.79), (0.10, 68.52, 64.98), (0.10, 72.53, 65.80)],
    *[(0.25, 67.27, 62.77), (0.25, 68.92, 63.08), (0.25, 73.77, 63.96)],
    *[(0.50, 67.11, 60.02), (0.50, 68.67, 60.25), (0.50, 71.57, 60.67)],
]


@pytest.mark.parametrize(("miou", "retained", "printed"), [(0.7095, 0.05, 0.6626), (0.7202, 1.0, 0.5659)])
def test_normdel_hits_the_two_values_printed_in_the_paper(miou: float, retained: float, printed: float) -> None:
    assert round(normdel(miou, retained), 4) == printed


@pytest.mark.parametrize(("retained", "miou", "printed"), TABLE)
def test_normdel_of_the_mean_miou_is_the_tables_mean_normdel(retained: float, miou: float, printed: float) -> None:
    # The sigmoid bends down above 0 (|curvature| <= 0.0963), so the NormDEL of a mean exceeds the mean NormDEL, by at most half the
    # curvature times the variance of the mIoU: 0.06 points at a standard deviation of 11 points. Rounding adds 0.01.
    assert -0.01 <= 100 * normdel(miou / 100, retained) - printed <= 0.07


def test_del_discounts_the_miou_by_the_retained_share() -> None:
    assert del_index(0.7095, 0.05, alpha=2.0) == pytest.approx(0.7095 * 0.904837418, abs=1e-9)


def test_a_useless_model_scores_a_half_and_a_perfect_one_on_all_data_less_than_on_a_twentieth() -> None:
    assert normdel(0, 1) == 0.5
    assert normdel(1, 1) == pytest.approx(0.5909, abs=5e-5)
    assert normdel(1, 0.05) == pytest.approx(0.7214, abs=5e-5)


@given(FRACTION, SHARE, ALPHA)
def test_normdel_stays_between_a_half_and_the_sigmoid_of_one(miou: float, retained: float, alpha: float) -> None:
    assert 0.5 <= normdel(miou, retained, alpha) < 1 / (1 + math.exp(-1))


@given(FRACTION, SHARE, FRACTION, SHARE, ALPHA)
def test_normdel_prefers_what_exceeds_the_break_even(miou: float, retained: float, other: float, against: float, alpha: float) -> None:
    margin = miou - other * break_even(retained, against, alpha)
    assume(abs(margin) > 1e-9)
    assert (normdel(miou, retained, alpha) > normdel(other, against, alpha)) == (margin > 0)


def test_five_percent_breaks_even_with_everything_at_39_percent_of_the_miou() -> None:
    assert break_even(0.05, 1.0) == pytest.approx(0.3867, abs=5e-5)
    assert break_even(0.25, 0.25, alpha=3.0) == 1


@pytest.mark.parametrize(
    ("miou", "retained", "alpha", "told"),
    [
        (70.95, 0.05, 1.0, "miou=70.95 must be a fraction from 0 to 1; 70.95 looks like a percentage, write 0.7095"),
        (0.7, 5, 1.0, "retained=5 must be a fraction above 0 and up to 1; 5 looks like a percentage, write 0.05"),
        (0.7, 0, 1.0, "retained=0 must be a fraction above 0 and up to 1"),
        (math.nan, 0.05, 1.0, "miou=nan must be a fraction from 0 to 1"),
        (-0.1, 0.05, 1.0, "miou=-0.1 must be a fraction from 0 to 1"),
        (0.7, 0.05, 0.0, "alpha=0.0 must be a number above 0"),
    ],
)
def test_what_is_no_fraction_is_refused_with_a_sentence(miou: float, retained: float, alpha: float, told: str) -> None:
    with pytest.raises(ValueError, match="must be") as refusal:
        normdel(miou, retained, alpha)
    assert str(refusal.value) == told


def test_break_even_refuses_percentages_too() -> None:
    with pytest.raises(ValueError, match="against=100 must be a fraction above 0 and up to 1; 100 looks like a percentage, write 1"):
        break_even(0.05, 100)
