"""The job benchmark: every cell once, whatever strikes it down; what fails is a row; what it costs is told."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from engine import datasets, flow, mae, plan, queues, schema, simulate, theory, tracking
from engine.difficulty import ScoreDifficulty
from engine.knobs import amend
from engine.plan import Prices
from engine.report import Findings, render
from engine.store import PatchStore, WriteRows
from engine.videos import content_hash
from jobs import benchmark, cells, choose, costs, matrices, matrix, pretrain, report, rescore
from jobs.costs import Costs
from tests import rows
from tests.test_report import Page

pytestmark = pytest.mark.processes
ROOT = Path(__file__).resolve().parent.parent
MATRIX = """
recipe: tiny
where: here
store: {{uri: {folder}/store}}
difficulty: {{draws: 1, checkpoint: {folder}/mae.safetensors, mae: {{side: 32}}}}
probe: {{train: {{mae: {{side: 32}}}}}}
pretrain: {{epochs: {epochs}, batch: 2, warmup_epochs: 1, picture_steps: 0, mae: {{side: 32}}}}
evaluate: {{iterations: 2, warmup: 1, batch: 2, side: 32}}
matrix:
  name: trial
  budgets: {budgets}
  seeds: {seeds}
  pools: {{regions: {{}}}}
  methods:
    no pre-training:
    random: {{pool: regions}}
    optidel: {{pool: regions}}
  sets:
    one: {{evaluate: {{uri: {folder}/one}}}}
    two: {{evaluate: {{uri: {folder}/two}}}}
"""


def archive(folder, epochs=2, budgets="[0.001, 0.6]", seeds="[0]"):
    """A store of patches that a small untrained autoencoder scored, two test sets, and a matrix; returns the path of this."""
    (folder / "m.yaml").write_text(MATRIX.format(folder=folder, epochs=epochs, budgets=budgets, seeds=seeds))
    config, _ = matrix.read(str(folder / "m.yaml"))
    torch.manual_seed(0)
    mae.save(mae.MAE(config.difficulty.mae), config.difficulty.checkpoint)
    score, store = ScoreDifficulty(config.difficulty), PatchStore(config.store.uri)
    store.create(score.model.norm.normalized_shape[0])
    for video_id in (letter * 32 for letter in "abc"):
        take_in(store, score, video_id)
    for name, seed in (("one", 0), ("two", 1)):
        simulate.write_pairs(folder / name, 6, seed=seed, side=64)
    scene, *others = sorted((folder / "two" / "images").iterdir())
    for number, path in enumerate(others, 1):  # a set of one scene, which no bytes tell
        cv2.imwrite(str(path), cv2.add(cv2.imread(str(scene)), number))
    return str(folder / "m.yaml")


def take_in(store, score, video_id):
    (scored,) = score(pa.Table.from_pylist(rows.scored(video_id, 9).to_pylist(), schema.PATCH))
    store.commit(pa.concat_tables(WriteRows(store.uri)(scored)), rows.videos(video_id), rows.STAMP)


def asked(path, *words):
    return matrix.read(path, words)[0], path, *words


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A matrix that was run, and its rows."""
    path = archive(tmp_path_factory.mktemp("matrix"))
    benchmark.run(*asked(path))
    return path, results_of(path)


def results_of(path):
    return PatchStore(matrix.read(path)[0].store.uri).results().to_pylist()


def counts(path):
    """How many runs there were of every kind."""
    config, _ = matrix.read(path)
    return {job: len(tracking.begun(config, job)) for job in ("choose", "pretrain", "cell")}


def test_every_cell_has_a_row_and_what_failed_a_reason(done):
    _, found = done
    spots = {(row["method"], row["budget"], row["dataset"]) for row in found}
    assert len(found) == len(spots) == 10
    for row in found:
        too_small = row["budget"] == 0.001
        assert bool(row["reason"]) == too_small
        assert too_small == (row["miou"] is None)
    assert "holds no image of 4 patches" in next(row["reason"] for row in found if row["reason"])


def test_a_row_holds_what_the_scores_came_of(done):
    for row in done[1]:
        if row["reason"]:
            continue
        counted = np.array(row["counts"]).reshape(len(row["names"]), 2, 4)[:, 1]
        hit, false, missed, rest = counted.sum(0)
        assert row["miou"] == pytest.approx((hit / max(hit + false + missed, 1) + rest / (rest + false + missed)) / 2)
        assert counted.sum(1).tolist() == [64 * 64] * len(counted)
        assert row["retained"] == row["budget"]  # R of the papers: the share that was asked for


def test_a_row_counts_the_test_images_that_show_what_was_fine_tuned_on(done):
    found = [(row["dataset"], len(row["names"]), json.loads(row["metrics"])["twins_in_training"]) for row in done[1] if not row["reason"]]
    assert {(name, tested == twins, twins == 0) for name, tested, twins in found} == {("one", False, True), ("two", True, False)}
    (study,) = matrices.of_store(PatchStore(matrix.read(done[0])[0].store.uri))
    assert {board.dataset: "twins.json" in board.caution for board in study.boards} == {"one": False, "two": True}


def test_the_same_command_again_does_nothing_that_is_done(done):
    path, before = done
    made = counts(path)
    benchmark.run(*asked(path))
    after = results_of(path)
    assert {row["fingerprint"]: row for row in before if not row["reason"]}.items() <= {row["fingerprint"]: row for row in after}.items()
    assert len(after) == len(before)
    assert counts(path) == made


def test_a_longer_fine_tuning_measures_anew_and_trains_nothing_again(done):
    path, _ = done
    made = counts(path)
    benchmark.run(*asked(path, "evaluate.iterations=3"))
    assert counts(path) == made | {"cell": made["cell"] + 6}
    store = PatchStore(matrix.read(path)[0].store.uri)
    (found,) = matrices.of_store(store)
    assert {one.setting.rpartition(" ")[0].rpartition(" ")[2] for one in found.boards} == {"3"}  # the newest settings, and no others
    assert all((len(one.entries), one.others) == (3, 5) for one in found.boards)
    assert (
        "5 results of other settings, data or pools are in the table results, not here"
        in Page(render(Findings("t", "now", matrices=[found]))).words()
    )


def test_the_same_command_after_one_of_other_settings_tells_its_own_results(done, caplog):
    path, _ = done
    benchmark.run(*asked(path, "evaluate.iterations=3"))
    with caplog.at_level("INFO", "jobs.benchmark"):
        benchmark.run(*asked(path))
    every = benchmark.looked_into(matrix.cells(*matrix.read(path)))
    told = matrices.of_cells(PatchStore(matrix.read(path)[0].store.uri), "trial", {cell.fingerprint for cell in every})
    assert all((len(one.entries), one.others) == (3, 0) for one in told.boards)
    assert all("2 iterations" in one.setting for one in told.boards)
    assert set(told.said()) <= {record.getMessage() for record in caplog.records}


def test_the_report_and_mlflow_tell_what_came_of_it(done):
    path, _ = done
    config, _ = matrix.read(path)
    (*_, run) = tracking.runs(config, "benchmark")
    (found,) = matrices.of_store(PatchStore(config.store.uri))
    one = next(row for row in found.boards[0].entries if row.method == "optidel")
    assert run["metrics"][f"mae/{found.boards[0].dataset}/optidel/0.6/normdel"] == pytest.approx(theory.normdel(one.miou, 0.6))
    report.run(config)
    words = Page(Path(report.address(config)).read_text()).words()
    assert "Table 1: methods by budget" in words
    assert "random at 0.1 % of the bytes, seed 0: selection.budget=0.001" in words


def test_the_results_can_be_asked_for_in_sql(done):
    config, _ = matrix.read(done[0])
    told = PatchStore(config.store.uri).query(
        "SELECT method, count(*) AS n FROM results WHERE reason IS NULL GROUP BY method ORDER BY method"
    )
    assert told["method"].to_pylist() == ["no pre-training", "optidel", "random"]


def test_a_result_written_again_takes_the_place_of_the_one_before(done):
    store = PatchStore(matrix.read(done[0])[0].store.uri)
    before = store.results()
    one = before.slice(0, 1).set_column(before.schema.get_field_index("reason"), schema.RESULT.field("reason"), pa.array(["again"]))
    store.enter(one)
    after = store.results().to_pylist()
    assert len(after) == len(before)
    assert [row["reason"] for row in after if row["fingerprint"] == one["fingerprint"][0].as_py()] == ["again"]
    store.enter(before.slice(0, 1))


def test_a_row_tells_the_unit_of_its_budget_and_one_of_before_gets_it_when_its_matrix_is_run_again(done):
    path, _ = done
    store, made = PatchStore(matrix.read(path)[0].store.uri), counts(path)
    units = {(row["method"], row["unit"]) for row in results_of(path)}
    assert units == {("no pre-training", ""), ("random", "bytes"), ("optidel", "bytes")}
    before = store.results().drop_columns(["unit"])
    store.open("results").drop_columns(["unit"])  # as an older engine left the table
    assert {row["unit"] for row in results_of(path)} == {None}
    assert store.results().drop_columns(["unit"]).equals(before)
    assert {one.unit for board in matrices.of_store(store)[0].boards for one in board.entries} == {""}
    benchmark.run(*asked(path))
    mine = {cell.fingerprint for cell in benchmark.looked_into(matrix.cells(*matrix.read(path)))}
    assert {(row["method"], row["unit"]) for row in results_of(path) if row["fingerprint"] in mine} == units
    assert counts(path) == made


def test_the_newest_selection_of_other_settings_is_not_mistaken_for_these(done):
    config, found = matrix.read(done[0])
    mine = next(one.config for one in matrix.cells(config, found) if one.method == "random" and one.budget == 0.6)
    other = amend(mine, ["synthesis.patches=9"])
    before = pretrain.chosen(mine)
    choose.run(other)
    assert pretrain.chosen(mine) == before
    assert pretrain.chosen(other) != before


def test_a_pool_that_is_not_there_is_refused_before_anything_begins(tmp_path, done):
    text = Path(done[0]).read_text().replace("pools: {regions: {}}", f"pools: {{regions: {{store: {{uri: {tmp_path}/none}}}}}}")
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ValueError, match="holds no store of endocurate"):
        benchmark.run(*asked(str(tmp_path / "m.yaml")))


def test_a_matrix_for_gpus_is_refused_on_a_cluster_without_before_anything_begins(done):
    path = Path(done[0]).with_name("mixed.yaml")
    mixed = "  architectures: {mae: {pretrain: {precision: bf16}}}\n"
    path.write_text(Path(done[0]).read_text().replace("where: here", "where: ray").replace("  seeds:", f"{mixed}  seeds:"))
    before, runs = results_of(done[0]), counts(done[0])
    try:
        with pytest.raises(ValueError, match=r"benchmark with these knobs is for GPUs and the cluster has none; pretrain\.precision in"):
            benchmark.run(*asked(str(path)))
    finally:
        flow.shut_down()
    assert (results_of(done[0]), counts(done[0])) == (before, runs)


def test_a_pool_that_holds_a_test_image_is_refused_before_anything_begins(tmp_path):
    path = archive(tmp_path)
    config, found = matrix.read(path)
    split = datasets.chosen(matrix.cells(config, found)[0].config.evaluate, 0)
    store = PatchStore(config.store.uri)
    take_in(store, ScoreDifficulty(config.difficulty), content_hash(str(split.test[0].image)))
    with pytest.raises(ValueError, match=r"1 of 1 test images of evaluate\.uri were ingested, byte for byte"):
        benchmark.run(*asked(path))
    assert not len(store.results())


def spoilt(folder, how):
    """The test set `two` with all its masks changed by `how`."""
    for path in (folder / "two" / "masks").iterdir():
        cv2.imwrite(str(path), how(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))


def test_masks_that_were_corrected_are_measured_anew_and_never_stand_beside_the_old_ones(done, caplog):
    path, _ = done
    benchmark.run(*asked(path))
    made, before = counts(path), {row["fingerprint"] for row in results_of(path)}
    spoilt(Path(path).parent, lambda mask: 255 - mask)
    with caplog.at_level("INFO", "jobs.benchmark"):
        assert benchmark.run(*asked(path)) == 1
    assert "10 cells, 3 done before" in caplog.text  # those of the set `one`
    assert counts(path) == made | {"cell": made["cell"] + 3}  # no model is trained again
    (study,) = matrices.of_store(PatchStore(matrix.read(path)[0].store.uri))
    board = next(board for board in study.boards if board.dataset == "two")
    new = [row["miou"] for row in results_of(path) if row["fingerprint"] not in before and not row["reason"]]
    assert sorted(entry.miou for entry in board.entries) == sorted(new)
    assert board.others >= 5
    told = caplog.records[-1].getMessage()
    assert told.startswith("4 of 10 cells failed: ")
    assert "holds no image of 4 patches" in told
    assert "the first is random at 0.1 % of the bytes, seed 0, mae, one" in told


def listed(folder, tested):
    """The test set `one` with lists of its own; returns the names that are tested on."""
    names = sorted(path.stem for path in (folder / "one" / "images").iterdir())
    for name, some in (("test.txt", tested), ("train.txt", [number for number in range(6) if number not in tested])):
        (folder / "one" / name).write_text("\n".join(names[number] for number in some))
    return [names[number] for number in tested]


def test_lists_that_were_rewritten_are_measured_anew_with_a_method_more_and_the_report_is_written(done):
    path, _ = done
    listed(Path(path).parent, [4, 5])
    benchmark.run(*asked(path))
    tested, more = listed(Path(path).parent, [0, 1]), Path(path).with_name("more.yaml")
    more.write_text(
        Path(path).read_text().replace("    optidel: {pool: regions}", "    optidel: {pool: regions}\n    meddel: {pool: regions}")
    )
    benchmark.run(*asked(str(more)))
    config = matrix.read(path)[0]
    (study,) = matrices.of_store(PatchStore(config.store.uri))
    board = next(board for board in study.boards if board.dataset == "one")
    assert {one.method: list(one.marks.names) for one in board.entries} == dict.fromkeys(
        ("no pre-training", "random", "optidel", "meddel"), tested
    )
    report.run(config)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: spoilt(folder, np.zeros_like), r"matrix\.sets\.two, seed 0: foreground: in none of the \d masks to train on"),
        (
            lambda folder: max((folder / "two" / "masks").iterdir()).write_bytes(b"\x89PNG and no more"),
            r"matrix\.sets\.two, seed 0: 1 of 6 pairs cannot be read",
        ),
        (
            lambda folder: cv2.imwrite(str(max((folder / "two" / "masks").iterdir())), np.arange(4096, dtype=np.uint8).reshape(64, 64)),
            r"matrix\.sets\.two, seed 0: 1 of 6 pairs cannot be used, 5 can; the first: .* grey levels",
        ),
    ],
)
def test_a_set_that_cannot_be_used_is_refused_before_anything_is_trained(tmp_path, spoil, sentence):
    path = archive(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        benchmark.run(*asked(path))
    assert counts(path) == {"choose": 0, "pretrain": 0, "cell": 0}


def test_the_files_of_a_set_are_read_once_a_run_however_many_cells_it_has(done, monkeypatch):
    told, real = [], datasets.fingerprint
    monkeypatch.setattr(datasets, "fingerprint", lambda *names: told.append(names) or real(*names))
    every = benchmark.looked_into(matrix.cells(*matrix.read(done[0])))
    assert sorted(told) == [(f"{Path(done[0]).parent}/{name}", "folder") for name in ("one", "two")]
    assert {(one.dataset, one.data) for one in every} == {(Path(uri).name, real(uri, kind)) for uri, kind in told}


def test_a_pool_that_was_scored_anew_is_another_pool_and_is_chosen_from_anew(tmp_path):
    path = archive(tmp_path, budgets="[0.6]")
    config, made = matrix.read(path)
    one = next(cell.config for cell in matrix.cells(config, made) if cell.pool)
    choose.run(one)
    before, store = benchmark.contents(config.store.uri), PatchStore(config.store.uri)
    assert cells.current(one) is not None
    mae.save(mae.MAE(config.difficulty.mae), config.difficulty.checkpoint)  # other weights
    rescore.run(config)
    assert len(store.ledger()) == 3
    assert benchmark.contents(config.store.uri) != before
    assert cells.current(one) is None
    choose.run(one)
    assert cells.current(one) is not None


# -- cost -----------------------------------------------------------------------------------------------------------------------


def test_a_measurement_waits_for_its_model_and_devices_share_the_rest():
    assert queues.makespan([(10, [1, 1])], 1) == 12
    assert queues.makespan([(10, [1, 1])], 2) == 11
    assert queues.makespan([(10, []), (4, []), (4, [])], 2) == 10
    assert (
        queues.makespan([(10, [1]), (3, [5, 5]), (1, [])], 2) == 13
    )  # one device takes the first, its measurement and the third; the other the second and its two
    assert queues.makespan([], 3) == 0
    with pytest.raises(ValueError, match="devices=0, expected one at least"):
        queues.makespan([], 0)


def test_what_is_paid_for_is_every_device_until_the_last_is_done():
    cost = queues.cost_of([(3600, [1800])], 2, (8, 1), Prices(0.05, 2.0))
    assert (cost.hours, cost.cpu_hours, cost.gpu_hours, cost.money) == pytest.approx((1.5, 24, 3, 24 * 0.05 + 3 * 2))


def test_the_cost_of_a_matrix_is_images_by_epochs_and_iterations():
    config, found = matrix.read("paper", ["benchmark.images_per_s=1000", "benchmark.iterations_per_s=10", "plan.gpus=8", "plan.cpus=64"])
    every = matrix.cells(config, found)
    devices, device = costs.planned(config, every)
    assert (devices, device) == (8, (8.0, 1.0))
    cost = Costs(config).left(every, devices, device)
    passes = 2 * 3 * 100 * 2_857_772 * (6 * (0.05 + 0.1 + 0.25 + 0.5) + 1)
    tested = {one.dataset: costs.sizes(one)[1] for one in every}  # by the published counts: none of these sets is here
    seconds = passes / 1000 + sum(20_000 / 10 + tested[one.dataset] / 10 / 16 for one in every)
    assert cost.gpu_hours * 3600 == pytest.approx(seconds, rel=0.15)  # some wait at the end, which is paid for
    assert cost.gpu_hours * 3600 >= seconds


def test_a_budget_in_bytes_is_as_many_images_as_its_patches_make(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(rows.WIDTH)
    rows.take_in(store, "a" * 32, frames=12)
    sizes = store.patches(["bytes"])["bytes"].to_numpy()
    config, found = matrix.read("paper", ["benchmark.images_per_s=1000", "benchmark.frames=0"])
    cell = next(one for one in matrix.cells(config, found) if one.pool)
    group = cell.config.synthesis.patches

    def images(budget, unit, uri=store.uri):
        knobs = [f"selection.budget={budget:g}", f"selection.unit={unit}", f"store.uri={uri}", "selection.of=patches"]
        return Costs(config).images(replace(cell, budget=budget, config=amend(cell.config, knobs)))

    half = int(sizes.sum()) // 2
    assert images(half, "bytes") == pytest.approx(half / sizes.mean() / group) == pytest.approx(images(0.5, "bytes"), rel=1e-3)
    assert (images(12, "patches"), images(3, "images")) == (12 / group, 3)
    with pytest.raises(
        ValueError, match=r"a budget of 50000 bytes is told in images by the patches of .*nowhere, which has none: give a share"
    ):
        images(50000, "bytes", str(tmp_path / "nowhere"))


def test_epochs_of_a_fine_tuning_are_counted_as_iterations():
    config, found = matrix.read("paper", ["benchmark.images_per_s=1000", "benchmark.iterations_per_s=10", "evaluate.epochs=150"])
    one = next(one for one in matrix.cells(config, found) if one.dataset == "Kvasir-SEG")
    trained, tested = costs.sizes(one)
    assert (trained, tested) == (1000 - tested, round(one.config.evaluate.test_share * 1000))
    how = one.config.evaluate
    assert Costs(config).measuring_s(one) == pytest.approx((-(-how.epochs * trained // how.batch) + tested / how.batch) / 10)


def test_a_set_that_is_not_here_is_as_large_as_one_says_or_its_size_is_not_known():
    config, found = matrix.read("paper", ["benchmark.iterations_per_s=10", "evaluate.epochs=2"])

    def of(**how):
        sets = {"hearts": {"evaluate": {"uri": "/nowhere", "dataset": "acdc"} | how}}
        return matrix.cells(config, found.model_copy(update={"sets": sets}))[0]

    with pytest.raises(
        ValueError, match=r"matrix\.sets\.hearts: evaluate\.uri=/nowhere is not here, and how many pairs .* by evaluate\.pairs"
    ):
        Costs(config).measuring_s(of())
    assert costs.sizes(of(pairs="100")) == (80, 20)
    assert costs.sizes(of(dataset="covid_qu_ex")) == (4660, 1166)
    assert costs.sizes(of(dataset="covid_qu_ex", pairs="100")) == (80, 20)


@pytest.mark.parametrize("knob", ["speeds", "paces"])
def test_a_number_that_is_none_or_is_named_twice_is_refused(knob):
    with pytest.raises(ValueError, match=r"mae:900,mae:9 names one twice"):
        costs.planned(*cells_of("paper", [f"benchmark.{knob}=mae:900,mae:9"]))
    for number in ("0", "0.0", "00.000"):
        with pytest.raises(ValueError, match=rf"benchmark\.{knob}\.1=simclr:{number}: expected architecture:\w+ a second, more than 0"):
            matrix.read("paper", [f"benchmark.{knob}=mae:0.05,simclr:{number}"])


def test_an_iteration_of_the_same_recipes_is_tried_once_whatever_the_data():
    config, found = matrix.read("paper", ["benchmark.iterations_per_s=10"])
    one, made = matrix.cells(config, found)[0], Costs(config)
    assert {made.iteration_s(replace(one, data=data)) for data in "ab"} == {(0.1, 0.1 / one.config.evaluate.batch)}
    assert len(made.tried) == 1


def test_an_architecture_may_have_a_speed_of_its_own():
    config, found = matrix.read("paper", ["benchmark.images_per_s=1000"])
    slower = found.model_copy(update={"architectures": {"mae": {}, "slow": {"benchmark": {"images_per_s": "10"}}}})
    speeds = {one.architecture: Costs(config).speed(one) for one in matrix.cells(config, slower)}
    assert speeds == {"mae": 1000, "slow": 10}


def test_each_architecture_is_told_its_speed_by_name_and_one_speed_is_of_all_others():
    words = ["benchmark.images_per_s=900", "benchmark.speeds=simclr:2400.5"]
    config, found = matrix.read("paper", words)
    assert {one.architecture: Costs(config).speed(one) for one in matrix.cells(config, found)} == {"mae": 900, "simclr": 2400.5}
    with pytest.raises(ValueError, match=r"benchmark\.speeds\.0=simclr: expected architecture:images a second"):
        matrix.read("paper", ["benchmark.speeds=simclr"])


def test_an_estimate_tells_what_it_measures_what_intake_takes_what_is_not_in_it_and_what_was_only_named(tmp_path, caplog, monkeypatch):
    words = ["benchmark.speeds=mae:1000,simclr:2000", "benchmark.iterations_per_s=10", "plan.gpus=8", "plan.cpus=64"]
    words += ["benchmark.estimate=true", f"benchmark.stores={tmp_path}"]
    services = [plan.Service("DecodeFrames", 0.01, 1, 1, 1), plan.Service("ProposePatches", 0.1, 1, 1, 1, cpus=1, gpus=1)]
    (tmp_path / "sam").mkdir()
    (tmp_path / "sam" / "plan.json").write_text(json.dumps({"settings": "", "gpu": True, "services": plan.as_data(services)}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO", "jobs.benchmark"):
        assert benchmark.run(*asked("paper", *words)) == 0
    said = [record.getMessage() for record in caplog.records]
    assert said[1:3] == ["mae: 1000 images/s on one device", "simclr: 2000 images/s on one device"]  # nothing is tried, nor said to be
    hours = 2_857_772 * 0.1 / 8 / 3600  # eight GPUs propose, a tenth of a second a frame
    assert f"before that the intake of the pools takes about {hours:,.1f} h" in " ".join(said)
    *_, lacking, caution = said
    assert lacking.startswith(f"not in it: the intake of {tmp_path}/crops (run the job plan")
    assert "choosing and judging" in lacking
    assert caution.startswith(
        "no GPU was measured: all of this is as true as benchmark.speeds=mae:1000,simclr:2000 and benchmark.iterations"
    )


def test_an_estimate_for_processors_or_where_there_is_a_gpu_gives_no_such_warning(monkeypatch):
    config, _ = matrix.read("paper", ["benchmark.images_per_s=1000", "benchmark.iterations_per_s=10"])
    assert not costs.only_named(config, (1.0, 0.0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "benchmark.images_per_s=1000 and benchmark.iterations_per_s=10, which were named" in costs.only_named(config, (8.0, 1.0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not costs.only_named(config, (8.0, 1.0))


def test_finished_cells_teach_what_is_left(done):
    path, found = done
    config, made = matrix.read(path)
    every = benchmark.looked_into(matrix.cells(config, made))
    rows_done = [row for row in found if not row["reason"]]
    costs_now = costs.learnt(config, rows_done)
    trained = next(one for one in every if one.method == "random" and one.budget == 0.6)
    assert costs_now.training_s(trained) == 0
    cell = trained.__class__(**{**trained.__dict__, "seed": 7, "config": amend(trained.config, ["pretrain.seed=7"])})
    images = 0.6 * 54 / 4
    median = np.median([row["images_per_s"] for row in rows_done if row["images_per_s"]])
    chose = np.median([row["choose_s"] for row in rows_done if row["choose_s"]])
    assert costs_now.training_s(cell) == pytest.approx(chose + images * config.pretrain.epochs / median)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plan.gpus=8"], r"plan\.gpus=8 of what cluster\? name its plan\.cpus too"),
        (["plan.gpus=0.5", "plan.cpus=64"], r"plan\.gpus=0\.5: expected a whole number"),
        (["plan.cpus=0.5"], r"plan\.cpus=0\.5: expected a whole number"),
        (
            ["plan.gpus=8", "plan.cpus=64"],
            r"plan\.gpus=8: this machine has no GPU to measure on.* images a second of mae, simclr \(benchmark\.speeds=mae:N,simclr:N\) "
            r"and iterations a second of mae, simclr \(benchmark\.paces=mae:N,simclr:N\)",
        ),
        (
            ["plan.gpus=8", "plan.cpus=64", "benchmark.speeds=mae:900", "benchmark.iterations_per_s=9"],
            r"images a second of simclr \(benchmark\.speeds=simclr:N\)$",
        ),
        (
            ["plan.gpus=8", "plan.cpus=64", "benchmark.images_per_s=900", "benchmark.paces=mae:9"],
            r"iterations a second of simclr \(benchmark\.paces=simclr:N\)$",
        ),
        (["benchmark.speeds=simcrl:9"], r"benchmark\.speeds names simcrl, and the architectures of the matrix are mae, simclr"),
    ],
)
def test_a_cluster_of_which_something_is_not_known_is_refused_by_the_knob_that_would_tell(words, sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=sentence):
        costs.planned(*cells_of("paper", words))


def cells_of(name, words):
    """The configuration of a matrix, and its cells."""
    config, found = matrix.read(name, words)
    return config, matrix.cells(config, found)


def test_each_architecture_is_told_its_pace_by_name_and_one_pace_is_of_all_others():
    words = ["benchmark.iterations_per_s=9", "benchmark.paces=simclr:20", "benchmark.images_per_s=1"]
    config, every = cells_of("paper", words)
    assert {one.architecture: Costs(config).iteration_s(one)[0] for one in every} == {"mae": 1 / 9, "simclr": 1 / 20}
    assert "benchmark.paces=simclr:20 and benchmark.iterations_per_s=9, which were named" in costs.only_named(config, (8.0, 1.0))


# -- killed ---------------------------------------------------------------------------------------------------------------------


def command(path, where):
    words = [sys.executable, "-m", "jobs", "benchmark", path, f"where={where}"]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", ["here", "ray"])
def test_a_driver_killed_amid_the_matrix_leaves_every_cell_once(tmp_path, where):
    path = archive(tmp_path, epochs=4, budgets="[0.3, 0.6]", seeds="[0, 1]")
    total = 2 * 2 * (2 * 2 + 1)
    for rows_then in (2, 7, 12):
        running = command(path, where)
        while running.poll() is None and sum(not row["reason"] for row in results_of(path)) < rows_then:
            time.sleep(0.2)
        assert running.poll() is None, running.communicate()[1]  # ended before it could be struck
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
    kept = {row["fingerprint"]: row for row in results_of(path)}
    assert 12 <= len(kept) < total
    running = command(path, where)
    said = running.communicate()[1]
    assert running.returncode == 0, said
    found = results_of(path)
    assert len(found) == len({row["fingerprint"] for row in found}) == total
    assert not [row["reason"] for row in found if row["reason"]]
    assert kept.items() <= {row["fingerprint"]: row for row in found}.items()
    config, _ = matrix.read(path)
    for job, expected in (("cell", total), ("pretrain", 8)):
        finished = tracking.runs(config, job)
        assert len(finished) == len({one["tags"]["key"] for one in finished}) == expected
        assert len(tracking.begun(config, job)) == expected  # one that was cut off went on as itself
