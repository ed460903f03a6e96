"""The figures of the pruned perceptron: every point where it belongs, kept and drawn."""

import math
import re

import pyarrow as pa
import pytest

from engine import flow, pruning, report
from engine.flow import Step
from engine.pruning import Advised, Theory
from engine.report import Findings
from engine.theory import figures
from engine.theory.figures import FINE, FRACTIONS, SETTINGS, Curve, Figures, Panel, Point, Solve, curves, drawn_up, error, pools
from engine.theory.perceptron import pruned
from engine.theory.recommendation import by_angle
from engine.theory.simulation import POOLS, Simulate
from tests.test_report import Page


@pytest.fixture(scope="module")
def drawn():
    """All figures, small: 12 dimensions and 2 draws, and of the lines the least and the largest share."""
    numbers = range(len(curves()))
    ends = [(number, share) for number in numbers for share in (FINE[0], FINE[-1])]
    lines = [(*end, pruned_error(*end)) for end in ends]
    errors = pa.table(list(zip(*lines, strict=True)), schema=figures.ERRORS)
    students = pa.concat_tables(flow.run_here([Step(Simulate, (), batch=8)], pa.Table.from_pylist(pools(12, 2), POOLS)))
    return drawn_up(errors, students, (12, 2, 3.5))


def pruned_error(number, share):
    setting, alpha_tot = curves()[number]
    found = pruned(alpha_tot, share, setting.degrees, setting.keep, setting.redundancy)
    return found.error_towards(setting.downstream)


def test_every_panel_is_drawn_and_each_curve_has_all_its_points(drawn):
    assert [panel.title for panel in drawn.panels] == [setting.panel for setting in SETTINGS]
    for panel in drawn.panels:
        for curve in panel.curves:
            assert [point.kept for point in curve.points] == [curve.alpha_tot * share for share in FRACTIONS]
            assert all(point.low <= point.error <= point.high for point in curve.points)


def test_a_line_is_the_error_of_the_equations():
    number = 17
    (found,) = Solve()(pa.table({"curve": [number]}))
    assert found["fraction"].to_pylist() == list(FINE)
    assert found["error"][5].as_py() == pruned_error(number, FINE[5])


def test_what_is_not_pruned_is_the_same_whatever_was_to_be_kept(drawn):
    hard, easy, alone = ([curve.points[-1].error for curve in panel.curves] for panel in drawn.panels[-3:])
    assert hard == easy == pytest.approx(alone)


def test_an_error_downstream_is_the_angle_to_the_turned_teacher():
    row = {"teacher": 0.8, "aside": 0.6}
    assert error(row, 0.0) == pytest.approx(math.acos(0.8) / math.pi)
    assert error(row, math.degrees(math.atan2(0.6, 0.8))) == pytest.approx(0, abs=1e-7)


def test_figures_come_back_from_json_as_they_were(drawn):
    assert Figures.from_json(drawn.to_json()) == drawn
    with pytest.raises(ValueError, match="panels"):
        Figures.from_json('{"dimensions": 3, "draws": 2, "seconds": 1}')


def test_a_point_is_within_its_interval_where_the_line_is():
    curve = Curve(10.0, [0.1, 10.0], [0.4, 0.1], [Point(1.0, 0.3, 0.1, 0.25), Point(10.0, 0.2, 0.15, 0.25)])
    assert curve.agreeing == 1  # the line is .2 at 1, half-way of both logarithms, and .1 at 10


def test_points_stand_at_the_logarithms_of_what_they_say():
    curve = Curve(10.0, [0.1, 10.0], [0.4, 0.004], [Point(1.0, 0.04, 0.004, 0.4)])
    (drawing,) = pruning.drawn(Figures(3, 2, 1.0, [Panel("a figure", "a panel", [curve])]))
    (line,) = drawing.plots[0].lines
    assert line.path == "M0.00 0.00L100.00 100.00"
    assert line.dots == "M50.00 50.00h0"
    assert line.spans == "M50.00 100.00V0.00"
    assert [(round(tick.at), tick.label) for tick in drawing.plots[0].x] == [
        (0, "0.1"),
        (15, "0.2"),
        (35, "0.5"),
        (50, "1"),
        (65, "2"),
        (85, "5"),
        (100, "10"),
    ]


def test_the_page_shows_every_panel_and_what_is_advised(drawn):
    advised = Advised("endocurate-3f2a", 100.0, 45.0, 0.12, 0.75, 0.5, 0.6, 0.031, 0.029, 0.043, by_angle(100.0))
    html = report.render(Findings("t", "now", theory=Theory(drawn, [advised])))
    words = Page(html).words()
    for setting in SETTINGS:
        assert setting.panel in words
        assert setting.figure in words
    angles = ["20°: from 0.75, 50 % is enough;", "75°: from 0.5, 100 % is enough."]
    for told in ("endocurate-3f2a", "45°", "12 %", "75 %", "3.1 %", "2.9 %", "4.3 %", *angles, "2 draws in 12 dimensions"):
        assert told in words
    assert len(re.findall(r'<path class="reach"', html)) == len(curves())


def test_a_page_without_theory_says_which_job_makes_it():
    assert "the figures of the theory were not made yet: run endocurate theory" in Page(report.render(Findings("t", "now"))).words()


def test_an_axis_of_less_than_a_decade_has_round_numbers_too():
    assert [tick.label for tick in pruning.decades(math.log10(0.36), math.log10(0.5))] == ["0.4", "0.45", "0.5"]
