import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import schema, scores, tracking
from engine.charts import amount
from engine.config import SelectionConfig
from engine.knobs import amend
from engine.outcomes import comparisons
from engine.scores import Marks
from engine.selection import Selection
from engine.store import PatchStore, WriteRows
from jobs import findings, report
from jobs.recipes import tiny
from tests import rows
from tests.test_report import Page, outcome


def evaluated(config, method, hits, comparison="polyps · data aa", budget=0.25, names="abcd", **told):
    """A finished evaluation of four images; `hits` are the pixels found of a hundred in each."""
    retained = 0.0 if method == "no pre-training" else 0.2
    tags = {"method": method, "selection": "", "retained": retained, "budget": budget, "seed": 0, "comparison": comparison} | told
    with tracking.running(config, "evaluate", f"{method}-{comparison}-{budget}-{hits}-{tags.get('unit')}{names}", tags) as run:
        scores = dict.fromkeys(("miou", "miou_low", "miou_high", "iou", "dice"), 0.5)
        run.log({f"evaluate/{name}": value for name, value in scores.items()}, 1)
        counts = [[hit, 5, 100 - hit, 300] for hit in hits]
        run.keep("tested.json", json.dumps({"names": list(names), "counts": counts, "examples": [0.7]}).encode())
        run.keep("examples/0.jpg", b"jpeg")


def found(tmp_path):
    config = amend(tiny(), [f"store.uri={tmp_path}/store"])
    store = PatchStore(config.store.uri)
    store.create(4)
    return config, store


def test_what_was_measured_on_other_data_is_never_compared(tmp_path):
    config, store = found(tmp_path)
    evaluated(config, "random", [50, 60, 70, 80])
    evaluated(config, "optidel", [90, 90, 90, 90], comparison="polyps · data bb")  # a folder of the same name with other masks
    assert not findings.advantages(findings.outcomes(config, store))


def test_what_was_tested_on_other_images_under_the_same_name_is_told_apart_and_the_page_is_written(tmp_path):
    """As an older engine left it, which told nothing of lists in the name of the data."""
    config, store = found(tmp_path)
    evaluated(config, "random", [50, 60, 70, 80])
    evaluated(config, "meddel", [50, 60, 70, 80])
    evaluated(config, "random", [50, 60, 70, 80], names="abce")
    evaluated(config, "optidel", [90, 90, 90, 90], names="abce")
    made = findings.outcomes(config, store)
    assert [(one.method, one.other) for one in findings.advantages(made)] == [("optidel", "random")]
    assert {one.method for one, _ in made if "tested before on other images" in one.comparison} == {"meddel"}
    report.run(config)
    assert "tested before on other images" in Path(report.address(config)).read_text()


def test_of_an_evaluation_that_was_made_again_the_newest_counts(tmp_path):
    config, store = found(tmp_path)
    evaluated(config, "random", [10, 10, 10, 10])
    evaluated(config, "optidel", [50, 60, 70, 80])
    evaluated(config, "random", [50, 60, 70, 80])
    (one,) = findings.advantages(findings.outcomes(config, store))
    assert (one.method, one.other, one.seeds, one.difference, one.low, one.high, one.p) == ("optidel", "random", 1, 0, 0, 0, 1)
    assert len(findings.outcomes(config, store)) == 2


def test_one_method_by_two_settings_is_two_methods_by_names_that_say_in_what(tmp_path):
    config, store = found(tmp_path)
    theory = amend(config, ["selection.endocurate.start=theory"])
    evaluated(theory, "endocurate", [10, 10, 10, 10])
    for seed in (1, 2):
        evaluated(config, "endocurate", [50, 60, 70, 80 + seed], seed=seed)
    assert methods(config, store) == {("endocurate (start=0.5)", 1), ("endocurate (start=0.5)", 2), ("endocurate (start=theory)", 0)}
    evaluated(config, "endocurate", [50, 60, 70, 83])
    assert {("endocurate (start=0.5)", 0), ("endocurate (start=theory)", 0)} < methods(config, store)
    evaluated(amend(config, ["synthesis.order=random"]), "endocurate", [9, 9, 9, 9], budget=0.5)
    assert ("endocurate (start=0.5, synthesis.order=random)", 0) in methods(config, store)


def test_a_seed_or_a_knob_of_another_method_makes_no_other_method(tmp_path):
    config, store = found(tmp_path)
    for seed, word in enumerate(["selection.seed=0", "selection.seed=1", "selection.endocurate.start=theory", "synthesis.seed=3"]):
        evaluated(amend(config, [word]), "random", [50, 60, 70, 80 + seed], seed=seed)
    assert methods(config, store) == {("random", seed) for seed in range(4)}
    evaluated(amend(config, ["selection.endocurate.start=theory"]), "no pre-training", [1, 1, 1, 1], seed=1)
    evaluated(config, "no pre-training", [1, 2, 1, 1])
    assert {("no pre-training", 0), ("no pre-training", 1)} < methods(config, store)


def test_a_selection_by_its_id_is_of_the_knobs_that_made_it(tmp_path):
    config, store = found(tmp_path)
    theory = amend(config, ["selection.endocurate.start=theory"])
    with tracking.running(theory, "choose", "made", {"selection": "endocurate-1"}):
        pass
    evaluated(amend(config, ["selection.named=endocurate-1"]), "endocurate", [10, 10, 10, 10], selection="endocurate-1", unit="bytes")
    evaluated(theory, "endocurate", [20, 20, 20, 20], seed=1)
    assert methods(config, store) == {("endocurate", 0), ("endocurate", 1)}
    evaluated(amend(config, ["selection.named=browse-1"]), "browse", [10, 10, 10, 10], selection="browse-1", unit="bytes")
    evaluated(amend(config, ["selection.named=browse-2"]), "browse", [20, 10, 10, 10], selection="browse-2", unit="bytes")
    assert {("browse (named=browse-1)", 0), ("browse (named=browse-2)", 0)} < methods(config, store)


def methods(config, store):
    """Method and seed of every outcome."""
    return {(one.method, one.seed) for one, _ in findings.outcomes(config, store)}


def test_methods_that_are_equal_on_the_images_that_all_seeds_share_are_told_apart_no_oftener_than_promised():
    """Three methods, three seeds, the same sixty images: of a hundred reports five at most with a lead beyond chance."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(100):
        hard = rng.normal(0.5, 0.15, 60)  # an image is as hard for all
        wrong += any(
            one.beyond_chance for one in findings.advantages([scored(rng, hard, name, seed) for name in "abc" for seed in range(3)])
        )
    assert wrong <= 11  # 11 of a fair test in one of a hundred


def test_a_seed_that_looks_thrice_at_the_same_images_is_no_surer_of_them():
    rng, hard = np.random.default_rng(0), np.full(60, 0.5)
    alone = [scored(rng, hard, name, 0) for name in "ab"]
    thrice = [(replace(one, seed=seed), marks) for one, marks in alone for seed in range(3)]
    (one,), (three,) = findings.advantages(alone), findings.advantages(thrice)
    assert (three.low, three.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_all_that_a_comparison_compares_is_corrected_together():
    rng = np.random.default_rng(0)
    found = [scored(rng, np.full(60, 0.5 + number / 100), name, seed) for number, name in enumerate("abcd") for seed in range(3)]
    made = findings.advantages(found)
    plain = [
        scores.contrast(*([marks for one, marks in found if one.method == name] for name in (advantage.method, advantage.other))).p
        for advantage in made
    ]
    assert [one.p for one in made] == pytest.approx(scores.holm(plain))


def scored(rng, hard, method, seed):
    """An outcome on as many images of 100 foreground pixels as are `hard`, of which about that share was found."""
    hit = (100 * np.clip(hard + rng.normal(0, 0.1, len(hard)), 0, 1)).astype(int)
    counts = np.c_[hit, 0 * hit + 5, 100 - hit, 0 * hit + 300]
    return outcome(method, seed=seed), Marks(tuple(map(str, range(len(hit)))), counts)


def test_the_baseline_takes_part_at_every_budget(tmp_path):
    config, store = found(tmp_path)
    evaluated(config, "no pre-training", [10, 20, 10, 20])
    for budget in (0.25, 0.5):
        evaluated(config, "random", [60, int(80 * budget), 60, 60], budget=budget)
    assert {(one.budget, one.method, one.other) for one in findings.advantages(findings.outcomes(config, store))} == {
        (0.25, "no pre-training", "random"),
        (0.5, "no pre-training", "random"),
    }
    shown = findings.outcomes(config, store)[0][0]
    assert (shown.examples[0].jpeg, shown.examples[0].caption) == (b"jpeg", "IoU 0.70")
    assert shown.recall == 60 / 400


def test_what_was_chosen_by_another_unit_is_never_compared_though_the_number_is_the_same(tmp_path):
    config, store = found(tmp_path)
    evaluated(config, "no pre-training", [10, 20, 10, 20], unit="patches")
    evaluated(config, "random", [50, 60, 70, 80])  # of before the tag, by the knobs of its run
    evaluated(config, "random", [55, 60, 70, 80], unit="patches")
    evaluated(config, "optidel", [90, 90, 90, 90], unit="patches")
    evaluated(amend(config, ["selection.unit=gpu_hours"]), "optidel", [80, 90, 90, 90])
    made = findings.outcomes(config, store)
    assert {(one.method, one.unit) for one, _ in made if one.retained} == {
        ("random", "bytes"),
        ("random", "patches"),
        ("optidel", "patches"),
        ("optidel", "gpu_hours"),
    }
    advantages = findings.advantages(made)
    told = {(one.unit, one.method, one.other) for one in advantages}
    assert ("patches", "optidel", "random") in told
    assert {unit for unit, *both in told if both == ["optidel", "random"]} == {"patches"}
    assert {unit for unit, *both in told if "no pre-training" in both} == {"bytes", "patches", "gpu_hours"}
    (comparison,) = comparisons([one for one, _ in made], advantages)
    assert [place for place, _ in comparison.budgets] == [
        "at a budget of 25 % of the bytes",
        "at a budget of 0.25 gpu hours",
        "at a budget of 25 % of the patches",
        "without pre-training",
    ]


def test_the_unit_of_a_run_of_before_on_a_named_selection_is_that_of_its_rows(tmp_path):
    config, store = found(tmp_path)
    evaluated(amend(config, ["selection.named=browse-12ab"]), "browse", [50, 60, 70, 80], budget=8, selection="browse-12ab")

    def told():
        return [amount(one.budget, one.unit) for one, _ in findings.outcomes(config, store)]

    assert told() == ["8"]  # its rows are gone
    made = Selection("browse-12ab", ["p1"], np.ones(1, np.int32), 0.5)
    store.save(made.rows(SelectionConfig(budget=8, unit="patches"), 1), [])
    assert told() == ["8 patches"]


def test_a_patch_without_a_score_is_neither_among_the_hardest_nor_the_easiest(tmp_path):
    config, store = found(tmp_path)
    taken = rows.scored("a" * 32).to_pylist()
    patches = [row for row in taken if row["patch_id"]]
    for number, row in enumerate(patches):
        row["difficulty"] = math.nan if number == 2 else 0.5 + number / 100
    store.commit(pa.concat_tables(WriteRows(store.uri)(pa.Table.from_pylist(taken, rows.wide()))), rows.videos("a" * 32), rows.STAMP)
    report.run(config)
    page = Path(report.address(config)).read_text()
    assert "difficulty nan" not in page
    assert page.count("<b>difficulty 0.5") == 2 * (len(patches) - 1)


def test_frames_that_a_run_left_before_its_row_in_the_ledger_are_not_counted(tmp_path):
    config, store = found(tmp_path)
    rows.take_in(store, "a" * 32)
    left = pa.Table.from_pylist([row | {"video_id": "b" * 32} for row in store.open("frames").to_table().to_pylist()], schema.FRAMES_TABLE)
    store.append("frames", [left])
    report.run(config)
    page = Path(report.address(config)).read_text()
    assert "more frames than were lost" not in page
    assert re.search(r"\bdark .1 ", Page(page).words())
