import pyarrow as pa
import pytest

from engine.knobs import amend
from engine.theory.figures import FINE, FRACTIONS, Solve, curves, pools
from engine.theory.simulation import POOLS, Simulate
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


def test_it_says_how_far_it_is_at_every_tenth(caplog):
    tables = [pa.table({"row": range(7)})] * 50
    with caplog.at_level("INFO", "jobs.theory"):
        assert list(theory.followed(iter(tables), 350, "points")) == tables
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(",")[0] for line in said] == [f"{35 * part} of 350 points" for part in range(1, 11)]


def test_every_row_of_the_figures_is_counted_on(caplog):
    """The rows that are to come are known before: of one line, and of one pool, as many come."""
    (line,) = Solve()(pa.table({"curve": [0]}))
    assert len(line) == len(FINE)
    (pool, *_) = pools(5, 2)
    smallest = pool | {"alpha_tot": 2.0}
    made = pa.concat_tables(Simulate()(pa.Table.from_pylist([smallest], POOLS)))
    assert len(made) == len(pool["keeps"]) * len(pool["fractions"])


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
