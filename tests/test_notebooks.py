"""Every notebook runs on a small store, says what it found there, and is kept without outputs."""

import json
import re
import shlex
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pytest

from engine import schema, tracking
from engine.knobs import amend
from engine.selection import METHODS, choose
from engine.store import PatchStore
from engine.trails import Choice, Trail
from jobs import report
from jobs.choose import pool_of
from jobs.recipes import tiny
from tests import rows
from tests.test_standings import marks

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
IDS = [letter * 32 for letter in "abcd"]


def cells(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A store of four videos, a matrix of two methods on it, and a pre-training whose looks were compared."""
    config = amend(tiny(), [f"store.uri={tmp_path_factory.mktemp('notebooks')}/store"])
    store = PatchStore(config.store.uri)
    store.create(rows.WIDTH)
    rows.take_in(store, *IDS, frames=12)
    store.enter(pa.Table.from_pylist([result(method, seed) for method in ("random", "optidel") for seed in range(3)], schema.RESULT))
    choice = Choice("robustness", 1, 2.0, None, (0.9, 0.8, 1.0), (0.1, 0.0, 0.2))
    trail = Trail("a", "robustness", True, "Dice", "a set", [0, 1, 2], [0.4, 0.3, None], [[0.5], [0.6], [0.7]], [choice], 2, False)
    with tracking.running(config, "transfer", "a", {}) as run:
        run.keep("trail.json", trail.to_json().encode())
    return config


def result(method, seed):
    tested = marks(0.5 + 0.1 * (method == "optidel"), seed)
    row = dict.fromkeys(schema.RESULT.names) | {"fingerprint": f"{method}{seed}", "matrix": "m", "protocol": "p", "architecture": "mae"}
    row |= {"method": method, "pool": "regions", "budget": 0.1, "seed": seed, "dataset": "polyps", "model": f"{method}{seed}", "at": "2026"}
    row |= {"commit": "c", "setting": "s", "retained": 0.1, "images": 9, "miou": 0.5, "metrics": "{}", "measures": "{}"}
    return row | {"names": list(tested.names), "counts": np.ravel(tested.counts).tolist()}


def run(name, config, monkeypatch, *knobs):
    """The variables of a notebook after its last cell, told of knobs."""
    monkeypatch.setenv("ENDOCURATE_STORE", config.store.uri)
    monkeypatch.setenv("ENDOCURATE_KNOBS", shlex.join(knobs))
    left = {}
    with mpl.rc_context({"backend": "agg", "figure.max_open_warning": 0}):
        for cell in cells(name):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), name, "exec"), left)
        left["figures"] = len(plt.get_fignums())
        plt.close("all")
    return left


def test_there_is_one_for_each_question():
    assert NAMES == ["01_patches", "02_difficulty", "03_selection", "04_stopping", "05_benchmark", "06_theory"]


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_a_question_and_is_kept_without_outputs(name):
    first, *others = cells(name)
    assert re.match(r"# .*\?\n", "".join(first["source"]))
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in others if cell["cell_type"] == "code")


def test_the_first_counts_what_was_taken_in_and_rejected(config, monkeypatch, capsys):
    left = run("01_patches", config, monkeypatch)
    assert left["reasons"].to_pydict() == {"verdict": ["dark", "kept"], "frames": [4, 48]}
    assert "taken in" in capsys.readouterr().out
    assert left["figures"] == 3


def test_the_second_tells_artefacts_from_anatomy_among_the_hard(config, monkeypatch):
    left = run("02_difficulty", config, monkeypatch)
    assert len(left["artefact"]) == 96
    assert sum(len(tenth) for tenth in left["tenths"]) == 96
    assert (np.diff([left["difficulty"][tenth].mean() for tenth in left["tenths"]]) >= 0).all()


def test_the_second_and_the_third_go_by_what_scored_the_patches(config, monkeypatch, tmp_path):
    left = run("02_difficulty", config, monkeypatch)
    assert (left["scale"], left["label"]) == ("squared error", "difficulty: squared error")
    store = PatchStore(f"{tmp_path}/store")
    store.create(rows.WIDTH)
    rows.take_in(store, *IDS, frames=12)
    mine = amend(config, [f"store.uri={store.uri}"])
    asked = run("02_difficulty", mine, monkeypatch, "difficulty.mae.norm_pix=true", "probe.train.mae.norm_pix=true")
    assert asked["scale"] == "squared error of normalised tokens"  # no run tells of another one
    with tracking.running(amend(mine, ["difficulty.scorer=simclr"]), "ingest", rows.STAMP["fingerprint"], {}):
        pass
    left = run("02_difficulty", mine, monkeypatch)
    assert left["label"] == "difficulty: contrastive loss"
    assert "ends" not in left  # the variance is in other units: there is no line of equality
    left = run("03_selection", mine, monkeypatch)
    assert left["chosen"]["endocurate"].told["learnable"] == 0


def test_the_third_chooses_by_every_method_within_one_budget(config, monkeypatch, capsys):
    left = run("03_selection", config, monkeypatch)
    assert set(METHODS) - set(left["chosen"]) == set(left["cannot"]) == {"el2n_like", "forgetting_like"}
    assert "el2n_like is not among them: selection.method=el2n_like compares several scorers" in capsys.readouterr().out
    sizes = PatchStore(config.store.uri).patches(["bytes"])["bytes"].to_numpy()
    for made in left["chosen"].values():
        assert 0 < made.retained <= 0.05 < made.retained + sizes.max() / sizes.sum()
    assert left["table"].loc["optidel", "patches"] == len(left["chosen"]["optidel"].patch_ids)


def test_the_fourth_shows_what_was_watched_and_what_rules_made_of_it(config, monkeypatch, capsys):
    assert run("04_stopping", config, monkeypatch)["figures"] == 1
    assert re.search(r"robustness +1 +2\.0 +0\.9 +0\.1", capsys.readouterr().out)


def test_the_fourth_finds_runs_that_are_not_beside_the_store(config, monkeypatch, tmp_path):
    elsewhere = amend(config, [f"tracking.uri=sqlite:///{tmp_path}/runs with blank.db", "tracking.experiment=other"])
    (there,) = tracking.runs(config, "transfer")
    with tracking.running(elsewhere, "transfer", "b", {}) as made:
        made.keep("trail.json", there["run"].kept("trail.json").replace(b'"a"', b'"b"'))
    left = run("04_stopping", config, monkeypatch, f"tracking.uri={elsewhere.tracking.uri}", "tracking.experiment=other")
    assert [trail.name for trail in left["trails"]] == ["b"]
    assert [trail.name for trail in run("04_stopping", config, monkeypatch)["trails"]] == ["a"]


def test_the_fifth_shows_every_cell_of_a_matrix(config, monkeypatch, capsys):
    left = run("05_benchmark", config, monkeypatch)
    assert "m: polyps, mae, 6 cells" in capsys.readouterr().out
    assert [(one.method, one.seeds) for one in left["rows"]] == [("optidel", 3), ("random", 3)]


def test_the_sixth_keeps_hard_examples_of_many_and_easy_ones_of_few(config, monkeypatch):
    left = run("06_theory", config, monkeypatch)
    error = {(alpha, keep): left["perceptron"].pruned(alpha, 0.6, 0.0, keep).error for alpha in (0.5, 10.0) for keep in ("hard", "easy")}
    assert error[10.0, "hard"] < error[10.0, "easy"]
    assert error[0.5, "easy"] < error[0.5, "hard"]


def test_the_sixth_advises_of_a_store_as_endocurate_does(config, monkeypatch, capsys):
    left, store = run("06_theory", config, monkeypatch), PatchStore(config.store.uri)
    asked = amend(config, ["selection.method=endocurate", "selection.budget=0.1"])
    told = choose(pool_of(asked, store, store.complete_version()), asked.selection).told
    shown = ("copies", "different", "alpha_tot", "degrees", "recommended_start", "recommended_share")
    assert {name: left["told"][name] for name in shown} == {name: told[name] for name in shown}
    assert told["different"] < len(left["pool"])
    advised = f"from the quantile {told['recommended_start']:.2f} of worth on; {told['recommended_share']:.0%} is enough"
    assert f"probe 45 degrees off, as assumed: {advised}" in capsys.readouterr().out


def test_the_sixth_shows_that_the_cosine_is_the_theorys_and_the_published_correlation_is_not(config, monkeypatch):
    left = run("06_theory", config, monkeypatch)
    cosine, correlation = left["both"][0.1].T
    assert np.mean(cosine) == pytest.approx(left["perceptron"].pruned(10.0, 0.1, 10.0, "hard").teacher, abs=0.03)
    assert np.std(correlation - cosine) > 0.02


@pytest.mark.slow
def test_a_real_kernel_makes_a_copy_that_the_report_links_to_and_nothing_outside(config):
    from notebooks.__main__ import main

    main(config.store.uri)
    report.run(config)
    written = Path(config.store.uri, "report.html").read_text()
    for name in NAMES:
        page = Path(config.store.uri, "notebooks", f"{name}.html").read_text()
        assert f'href="notebooks/{name}.html"' in written
        assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
        assert "data:image/png" in page
        assert not [place for place in (str(FOLDER.parent), sys.prefix, "IProgress", "site-packages") if place in page], name
