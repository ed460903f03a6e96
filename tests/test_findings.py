import json
import math
from pathlib import Path

import pyarrow as pa

from engine import tracking
from engine.knobs import amend
from engine.store import PatchStore, WriteRows
from jobs import findings, report
from jobs.recipes import tiny
from tests import rows


def evaluated(config, method, hits, comparison="polyps · data aa", budget=0.25):
    """A finished evaluation of four images; `hits` are the pixels found of a hundred in each."""
    retained = 0.0 if method == "no pre-training" else 0.2
    tags = {"method": method, "selection": "", "retained": retained, "budget": budget, "seed": 0, "comparison": comparison}
    with tracking.running(config, "evaluate", f"{method}-{comparison}-{budget}-{hits}", tags) as run:
        scores = dict.fromkeys(("miou", "miou_low", "miou_high", "iou", "dice"), 0.5)
        run.log({f"evaluate/{name}": value for name, value in scores.items()}, 1)
        counts = [[hit, 5, 100 - hit, 300] for hit in hits]
        run.keep("tested.json", json.dumps({"names": list("abcd"), "counts": counts, "examples": [0.7]}).encode())
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


def test_of_an_evaluation_that_was_made_again_the_newest_counts(tmp_path):
    config, store = found(tmp_path)
    evaluated(config, "random", [10, 10, 10, 10])
    evaluated(config, "optidel", [50, 60, 70, 80])
    evaluated(config, "random", [50, 60, 70, 80])
    (one,) = findings.advantages(findings.outcomes(config, store))
    assert (one.method, one.other, one.seeds, one.difference, one.low, one.high) == ("optidel", "random", 1, 0, 0, 0)
    assert len(findings.outcomes(config, store)) == 2


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
