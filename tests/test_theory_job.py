import pytest

from engine.knobs import amend
from engine.theory.figures import FRACTIONS, curves
from jobs import findings, theory
from jobs.recipes import tiny


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the whole set of figures: six minutes of two processors that others hold too
def test_the_figures_that_the_job_makes_are_those_that_the_report_finds(tmp_path):
    config = amend(tiny(), [f"store.uri={tmp_path}", "where=here", "theory.dimensions=10", "theory.draws=2"])
    assert findings.theory(config).figures is None
    theory.run(config)
    found = findings.theory(config).figures
    assert sum(len(curve.points) for panel in found.panels for curve in panel.curves) == len(curves()) * len(FRACTIONS)
    assert (found.dimensions, found.draws) == (10, 2)


def test_what_theory_says_of_a_choice_is_read_from_its_metrics():
    told = {
        "patches": 40,
        "different": 200,
        "alpha_tot": 10.0,
        "degrees": 75.0,
        "start": 0.5,
        "recommended_start": 0.3,
        "recommended_share": 1.0,
    }
    found = findings.advised("endocurate-3f2a", {f"choose/{name}": float(value) for name, value in told.items()})
    assert (found.share, found.enough, found.start, found.recommended) == (0.2, 1.0, 0.5, 0.3)
    assert found.best < found.error < 0.5
    assert found.best < found.random
