import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import files, gate, schema, synthesis, tracking
from engine.config import Config, FramesConfig, SelectionConfig, SynthesisConfig
from engine.explain import explain
from engine.explain.decisions import gated
from engine.knobs import amend, flat
from engine.selection import Selection
from engine.store import PatchStore, WriteRows
from jobs import explain as job
from jobs.__main__ import main
from jobs.output import as_tree, plain
from jobs.recipes import tiny
from tests import rows

CONFIG = Config()
A, B, C = (f"{start}{'0' * 24}" for start in ("aaaaaaa1", "aaaaaaa2", "bbbbbbbb"))
KEPT = {"content": [0, 100, 400, 500], "sharpness": 50.0, "brightness": 0.5, "glare": 0.01, "tissue": 0.9, "change": 0.3}


def scored(video_id):
    """Frames at 0, 1 and 2 s with two patches each, one too dark at 3 s, one that was no image at 4 s."""
    table = rows.scored(video_id).to_pylist()
    for row in table:
        if row["frame_id"]:
            row |= KEPT | ({"brightness": 0.05, "detail": "Brightness 0.050 is below frames.min_brightness=0.08."} if row["reason"] else {})
    table.insert(-1, dict.fromkeys(table[0]) | rows.moment(video_id, 4000) | {"reason": "unreadable", "detail": "The file is no image."})
    return pa.Table.from_pylist(table, rows.wide())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("explain") / "store"))
    made.create(rows.WIDTH)
    for video_id, fingerprint in ((A, CONFIG.fingerprint()), (B, "unheard-of"), (C, CONFIG.fingerprint())):
        written = pa.concat_tables(WriteRows(made.uri)(scored(video_id)))
        made.commit(written, rows.videos(video_id), rows.STAMP | {"fingerprint": fingerprint})
    ids = made.sample(16, 3)["patch_id"].to_pylist()
    for name, chosen in {"random-111": ids[:8], "optidel-222": ids[4:12]}.items():
        selection = Selection(name, chosen, np.ones(len(chosen), np.int32), 0.5).rows(SelectionConfig(), 4)
        made.save(selection, [synthesis.synthesise(made.patches(synthesis.READ.names), chosen, name, 0, SynthesisConfig())])
    for path in (MODEL, f"models/{KEY}/epoch-00002.safetensors", f"models/{KEY}/encoder.safetensors", f"models/{OTHER}.safetensors"):
        files.put(b"weights", made.address(path))
    files.put(b"state", made.address(f"runs/pretrain-{UNDER_WAY}-here/step-000000007/state.pt"))
    made.enter(pa.Table.from_pylist([cell("cell-1"), cell("cell-2", dataset="b"), *others()], schema.RESULT))
    return made


def cell(fingerprint, **changes):
    told = {"fingerprint": fingerprint, "matrix": "m", "protocol": "p", "architecture": "mae", "method": "ours", "pool": "regions"}
    told |= {"budget": 0.5, "seed": 3, "dataset": "a", "model": "x-y", "at": "2026-01-02", "commit": "c0ffee", "setting": "as told"}
    told |= {"selection": "random-111", "run": "m1", "miou": 0.75, "images": 2, "names": ["one", "two"], "metrics": "{}", "measures": "{}"}
    return dict.fromkeys(schema.RESULT.names) | told | changes


def others():
    nothing = {"selection": None, "run": None}
    yield cell("bare-cell", pool="", method="no pre-training", budget=0.0, **nothing | {"run": "m2"})
    yield cell("failed-cell", reason="no space", **nothing | {"miou": None, "names": None})
    yield cell("far-cell", selection="random-999", run="m3")


def run(name, status="FINISHED", **tags):
    params = {knob: str(value) for knob, value in flat(CONFIG).items()}
    return {"run": name, "status": status, "tags": {"commit": "c0ffee", **tags}, "params": params}


KEY, OTHER, UNDER_WAY = "random-111-0123abcd", "random-111-ffff0000", "optidel-222-0000eeee"
MODEL = f"models/{KEY}.safetensors"
OF_A_CELL = {"method": "ours", "seed": 3, "data": "da7a"}
RUNS = {
    "ingest": [run("i0", fingerprint="other"), run("i1", fingerprint=CONFIG.fingerprint())],
    "choose": [run("c1", selection="random-111")],
    "pretrain": [run("p1", selection="random-111"), run("p2", "FAILED", selection="optidel-222")],
    "evaluate": [run("e1", selection="random-111"), run("e0", selection="")],
}


TRAINED = {"selection": "random-111", "patches_version": "4", "images": "2", "exported": "after epoch 9: the last"}
LATER = {
    **RUNS,
    "pretrain": [
        run("p8", key=OTHER, model="w8", **TRAINED),
        run("p9", key=KEY, model="w9", **TRAINED),
        run("p3", key="random-999-aaaa", model="w3", selection="random-999"),
    ],
    "transfer": [run("t9", key=f"{KEY}-5ca1ab1e", selection="random-111")],
    "checkpoint": [run("k2", selection="random-111", weights="w2", method="random, 2 epochs", seed=0)],
    "cell": [
        run("m1", key="k", selection="random-111", weights="w9", **OF_A_CELL),
        run("m2", key="l", selection="", weights="random", **OF_A_CELL),
        run("m3", key="m", selection="random-999", weights="w3", **OF_A_CELL),
    ],
}
LATER["pretrain"][0]["params"]["pretrain.epochs"] = "77"  # another recipe than that of the kept model


def chosen_rows(store):
    return store.open("selections").to_table().to_pylist()


def test_every_patch_leads_back_to_its_video_and_on_to_all_that_used_it(store):
    images = store.open("images").to_table().to_pylist()
    used = {"random-111": {"c1", "p1", "e1"}, "optidel-222": {"p2"}}
    for patch in store.patches(["patch_id", "box", "difficulty", "frame_id", "video_id", "time_ms"]).to_pylist():
        tree = explain(store, patch["patch_id"], RUNS)
        assert (tree["patch"], tree["box"], tree["difficulty"]) == (patch["patch_id"], patch["box"], patch["difficulty"])
        assert (tree["frame"]["frame"], tree["frame"]["time_ms"], tree["video"]["video"]) == tuple(
            patch[name] for name in ("frame_id", "time_ms", "video_id")
        )
        reference = {(row["selection_id"], row["rank"]) for row in chosen_rows(store) if row["patch_id"] == patch["patch_id"]}
        assert {(one["selection"], one["rank"]) for one in tree["used by"]} == reference
        for one in tree["used by"]:
            held = [row for row in images if row["image_id"] == one["image"] and row["selection_id"] == one["selection"]]
            assert patch["patch_id"] in held[0]["patch_ids"]
            assert held[0]["position"] == one["position"]
            assert {run["run"] for run in one["runs"]} == used[one["selection"]]


def test_a_kept_frame_tells_every_number_and_threshold_that_it_passed(store):
    tree = explain(store, f"{A}@1000", RUNS)
    assert tree["verdict"] == "kept"
    told = {one["what"]: (one["number"], one["bound"], one["threshold"], one["passed"]) for one in tree["decisions"]}
    frames = CONFIG.frames
    assert told == {
        "shorter side of the picture": (400, "at least", frames.min_side, True),
        "brightness": (0.5, "at least", frames.min_brightness, True),
        "glare": (pytest.approx(0.01), "at most", frames.max_glare, True),
        "tissue": (pytest.approx(0.9), "at least", frames.min_tissue, True),
        "sharpness": (50.0, "at least", frames.min_sharpness, True),
        "change": (pytest.approx(0.3), "at least", frames.min_change, True),
    }
    assert [patch["patch_id"] for patch in tree["patches"]] == sorted(rows.scored(A)["patch_id"].to_pylist()[2:4])
    assert tree["video"]["thresholds"] == "MLflow run i1"
    assert (tree["video"]["fingerprint"], tree["video"]["commit"], tree["video"]["table version"]) == (CONFIG.fingerprint(), "c", 2)


def test_a_dropped_frame_tells_what_dropped_it_and_asks_no_further(store):
    tree = explain(store, f"{A}@3000", RUNS)
    assert (tree["verdict"], tree["reason"], tree["patches"]) == ("rejected", "dark", [])
    assert [(one["what"], one["passed"]) for one in tree["decisions"]] == [("shorter side of the picture", True), ("brightness", False)]
    assert tree["decisions"][-1]["number"] == pytest.approx(0.05)
    assert tree["decisions"][-1]["threshold"] == 0.08
    assert explain(store, f"{A}@4000", RUNS)["decisions"] == []


@pytest.mark.parametrize(("time_ms", "around"), [(2600, [2000, 3000]), (1, [0, 1000]), (99_999, [4000])])
def test_a_time_between_samples_is_answered_by_the_moments_around_it(store, time_ms, around):
    tree = explain(store, f"{A[:8]}@{time_ms}", RUNS)
    assert [frame["time_ms"] for frame in tree["nearest"]] == around
    assert str(time_ms) in tree["answer"]


def test_without_the_run_the_thresholds_are_said_to_be_gone_and_the_sentence_of_the_table_stays(store):
    for runs in ({}, RUNS):
        tree = explain(store, f"{B}@3000", runs)
        assert tree["video"]["thresholds"] == "gone: there is no MLflow run of the configuration unheard-of"
        assert {one["threshold"] for one in tree["decisions"]} == {None}
        assert "frames.min_brightness=0.08" in tree["detail"]
    assert "brightness 0.05, at least unknown (frames.min_brightness): failed" in as_tree(tree)


quality = {
    "sharpness": st.floats(0, 100),
    "brightness": st.floats(0, 1),
    "glare": st.floats(0, 1),
    "tissue": st.floats(0, 1),
    "change": st.none() | st.floats(0, 1),
}


@given(numbers=st.fixed_dictionaries(quality), thresholds=st.tuples(*[st.floats(0, 1)] * 4))
def test_the_decisions_that_are_told_are_those_the_gate_takes(numbers, thresholds):
    brightness, glare, tissue, change = thresholds
    config = FramesConfig(min_brightness=brightness, max_glare=glare, min_tissue=tissue, min_change=change, min_sharpness=30)
    verdict = gate.reason(gate.Quality(**numbers, thumb=np.zeros((1, 1), np.float32)), config)
    knobs = {f"frames.{name}": str(value) for name, value in config.model_dump().items()}
    told = gated({"content": [0, 0, 100, 100], "reason": verdict and verdict[0], **numbers}, knobs)
    for one in told:
        if one["number"] is not None:
            within = one["number"] >= one["threshold"] if one["bound"] == "at least" else one["number"] <= one["threshold"]
            assert one["passed"] == within
    assert all(one["passed"] for one in told) == (verdict is None)


def test_a_training_image_leads_back_to_four_patches_and_names_the_selections_it_is_of(store):
    for row in store.open("images").to_table().to_pylist():
        tree = explain(store, row["image_id"][:12], RUNS)
        assert [patch["patch"] for patch in tree["patches"]] == row["patch_ids"]
        assert all(patch["video"]["video"] == patch["patch"].partition("@")[0] for patch in tree["patches"])
        assert (row["selection_id"], row["position"]) in {(one["selection"], one["position"]) for one in tree["used by"]}


def test_a_selection_tells_how_it_was_made_and_what_used_it(store):
    tree = explain(store, "rand", RUNS)
    ids = [row["patch_id"] for row in chosen_rows(store) if row["selection_id"] == "random-111"]
    assert (tree["selection"], tree["patches"], tree["images"], tree["table version"]) == ("random-111", 8, 2, 4)
    assert (tree["budget"], tree["unit"]) == (SelectionConfig().budget, "bytes")
    assert tree["videos"] == {video: sum(name.startswith(video) for name in ids) for video in {name[:32] for name in ids}}
    assert [(one["job"], one["run"]) for one in tree["runs"]] == [("choose", "c1"), ("pretrain", "p1"), ("evaluate", "e1")]


def test_a_cell_of_a_matrix_leads_back_to_its_model_its_selection_and_its_data(store):
    tree = explain(store, "cell-1", LATER)
    assert (tree["cell"], tree["matrix"], tree["method"], tree["budget"], tree["seed"], tree["miou"]) == (
        "cell-1",
        "m",
        "ours",
        0.5,
        3,
        0.75,
    )
    assert tree["data"] == {"set": "a", "fingerprint": "da7a", "images tested": 2}
    assert tree["pool"] == {"name": "regions", "store": CONFIG.store.uri}
    assert (tree["measured by"]["job"], tree["measured by"]["run"]) == ("cell", "m1")
    assert (tree["model"]["model"], tree["model"]["trained by"]["run"], tree["model"]["table version"]) == (KEY, "p9", "4")
    assert (tree["selection"]["selection"], tree["selection"]["table version"]) == ("random-111", 4)
    gone = explain(store, "cell-1", {})
    assert gone["model"] == gone["measured by"] == "gone: MLflow has no such run"
    assert gone["selection"]["table version"] == 4


def test_a_cell_says_the_unit_of_its_budget_where_the_table_tells_it(store, tmp_path):
    uri = str(tmp_path / "older")
    older = PatchStore(uri)
    older.create(rows.WIDTH)
    older.enter(pa.Table.from_pylist([cell("cell-7", pool="", selection=None, unit="images")], schema.RESULT))
    assert explain(older, "cell-7", {})["unit"] == "images"
    older.open("results").drop_columns(["unit"])
    assert explain(older, "cell-7", {})["unit"] is None


def test_cells_without_a_model_say_why_and_those_of_another_store_name_it(store):
    assert explain(store, "bare-cell", LATER)["model"] == "no pre-training"
    failed = explain(store, "failed", LATER)
    assert (failed["reason"], failed["model"], failed["data"]["images tested"]) == ("no space", "none: it failed", 0)
    far = explain(store, "far-cell", LATER)
    assert (far["model"]["trained by"]["run"], far["pool"]["store"]) == ("p3", CONFIG.store.uri)
    same = {"status": "FINISHED", "commit": "c0ffee"}
    assert far["selection"] == {
        "selection": "random-999",
        "runs": [{"job": "pretrain", "run": "p3", **same}, {"job": "cell", "run": "m3", **same}],
    }


@pytest.mark.parametrize("asked", [KEY, KEY[:-2], MODEL, f"models/{KEY}/epoch-00002.safetensors", f"models/{KEY}/encoder.safetensors"])
def test_a_model_leads_back_to_its_run_its_selection_and_the_version_of_the_table_and_on_to_what_measured_it(store, asked):
    tree = explain(store, asked, LATER)
    assert (tree["model"], tree["trained by"]["run"], tree["weights"]) == (KEY, "p9", "w9")
    assert (tree["selection"]["selection"], tree["table version"], tree["kept after epochs"]) == ("random-111", "4", [2])
    assert [(one["job"], one["run"]) for one in tree["measured by"]] == [("cell", "m1"), ("checkpoint", "k2")]
    assert tree.get("file", asked) == asked
    assert tree.get("there", True)


def test_models_of_one_selection_are_told_apart_and_one_that_is_away_is_said_to_be(store):
    other = explain(store, OTHER, LATER)
    assert (other["trained by"]["run"], other["measured by"], other["kept after epochs"]) == ("p8", [], [])
    assert explain(store, f"models/{KEY}/epoch-00001.safetensors", LATER)["there"] is False
    assert explain(store, MODEL, {})["trained by"] == "gone: MLflow has no such run"
    with pytest.raises(LookupError, match="has no model or checkpoint 'models/nobody-1'"):
        explain(store, "models/nobody-1", LATER)
    with pytest.raises(LookupError, match=f"begins 2 ids, write more of it: model {KEY}, model {OTHER}"):
        explain(store, "random-111-", LATER)


def test_a_checkpoint_of_a_training_under_way_leads_back_to_its_selection(store):
    tree = explain(store, f"runs/pretrain-{UNDER_WAY}-here/step-000000007", LATER)
    assert (tree["model"], tree["selection"]["selection"], tree["selection"]["table version"]) == (UNDER_WAY, "optidel-222", 4)
    assert tree["there"]


def test_a_run_leads_back_to_what_it_was_about(store):
    transfer = explain(store, "t9", LATER)
    assert (transfer["job"], transfer["model"]["model"], transfer["model"]["trained by"]["run"]) == ("transfer", KEY, "p9")
    assert transfer["model"]["selection"]["table version"] == 4
    assert ("checkpoint", "k2") in [(one["job"], one["run"]) for one in transfer["model"]["measured by"]]
    assert explain(store, "m1", LATER)["cells"] == ["cell-1", "cell-2"]
    assert explain(store, "c1", LATER)["selection"]["selection"] == "random-111"
    assert explain(store, "i1", LATER)["videos"] == [A, C]
    assert explain(store, "p9", LATER)["model"]["model"] == KEY


def test_a_selection_leads_on_to_its_models_and_cells(store):
    tree = explain(store, "random-111", LATER)
    assert tree["models"] == [KEY, OTHER]
    assert [one["cell"] for one in tree["cells"]] == ["cell-1", "cell-2"]
    told = {"choose": ["c1"], "pretrain": ["p8", "p9"], "evaluate": ["e1"], "transfer": ["t9"], "checkpoint": ["k2"], "cell": ["m1"]}
    assert [(one["job"], one["run"]) for one in tree["runs"]] == [(job, run) for job, runs in told.items() for run in runs]
    as_tree(explain(store, "cell-1", LATER))


def test_a_video_tells_what_became_of_its_frames_and_what_used_its_patches(store):
    tree = explain(store, A, RUNS)
    assert (tree["frames"], tree["kept"], tree["patches"]) == (5, 3, 6)
    assert tree["frames without patches"] == {"dark": 1, "unreadable": 1}
    counts = {row["selection_id"]: 0 for row in chosen_rows(store) if row["patch_id"].startswith(A)}
    for row in chosen_rows(store):
        if row["patch_id"].startswith(A):
            counts[row["selection_id"]] += 1
    assert {one["selection"]: one["patches"] for one in tree["used by"]} == counts
    assert "/in/" not in json.dumps(tree)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("aaaaaaa", f"'aaaaaaa' begins 2 ids, write more of it: video {A}, video {B}"),
        ("", "'' begins .* ids, write more of it"),
        ("zz", "has no video or selection or image or cell or model or scorer or source or run 'zz'"),
        ("zz@1000", "has no video 'zz'"),
        ("aaaaaaa@1000", "begins 2 ids"),
        (f"{A}@soon", "is no id: a frame's is video@milliseconds"),
        (f"{A}@1000:9", "has no patch"),
        (f"{A}@1000:", "begins 2 ids, write more of it: patch"),
        ("x' OR '1'='1", "has no video or selection or image"),
    ],
)
def test_what_is_unknown_or_ambiguous_is_a_sentence(store, asked, sentence):
    with pytest.raises(LookupError, match=sentence) as refused:
        explain(store, asked, RUNS)
    assert "\n" not in str(refused.value)


def test_a_whole_id_is_itself_although_it_begins_another(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(rows.WIDTH)
    for video_id in ("aa", "aab"):
        store.commit(pa.concat_tables(WriteRows(store.uri)(scored(video_id))), rows.videos(video_id), rows.STAMP)
    assert explain(store, "aa", {})["video"] == "aa"


def test_the_job_changes_nothing_and_says_where_it_found_no_runs(store, tmp_path, capsys):
    versions = {name: store.open(name).version for name in ("patches", "frames", "videos", "selections", "images", "journal", "locks")}
    uri = f"store.uri={store.uri}"
    assert main(["explain", uri, f"{A}@3000"]) == 0
    assert "thresholds: gone" in capsys.readouterr().out
    assert main(["explain", uri, "output.format=json", f"output.path={tmp_path}/tree.json", A]) == 0
    assert json.loads((tmp_path / "tree.json").read_text()) == plain(explain(store, A, {}))
    assert main(["explain", uri, "nobody"]) == 1
    assert main(["explain", uri, "output.format=parquet", "output.path=x", A]) == 2
    assert main(["explain", uri]) == 2
    assert not store.holds("mlflow.db")  # to look makes no file
    assert versions == {name: store.open(name).version for name in versions}


@pytest.mark.slow
def test_the_job_reads_thresholds_from_mlflow(store, tmp_path, capsys):
    where = [f"store.uri={store.uri}", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    config = amend(tiny(), where)
    with tracking.running(config, "ingest", "k", {"fingerprint": CONFIG.fingerprint()}):
        pass
    assert main(["explain", *where, f"{A}@3000"]) == 0
    said = capsys.readouterr().out
    assert "thresholds: MLflow run" in said
    assert f"brightness 0.05, at least {tiny().frames.min_brightness} (frames.min_brightness): failed" in said
    assert [one["status"] for one in job.Runs(config)["ingest"]] == ["FINISHED"]


def test_a_forgotten_video_is_still_told_of_by_its_tombstone(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(rows.WIDTH)
    row = rows.videos(A).to_pylist()[0] | dict.fromkeys(("frames", "kept", "patches", "patches_version"), 0)
    stone = row | rows.STAMP | {"uri": "", "reason": "forgotten", "patches_version": 2}
    store.append("videos", [pa.Table.from_pylist([stone], schema.VIDEOS_TABLE)])
    deed = {"at": "2026-01-02", "job": "forget", "subject": A, "detail": "{}", "commit": "c"}
    store.append("journal", [pa.Table.from_pylist([deed], schema.JOURNAL)])
    tree = explain(store, A[:8], {})
    assert (tree["reason"], tree["journal"], tree["used by"]) == ("forgotten", [{"at": "2026-01-02", "job": "forget", "commit": "c"}], [])
    for asked in (f"{A}@3000", f"{A}@3000:1,2,3,4:crops-0"):
        tree = explain(store, asked, {})
        assert tree["answer"] == "its video was forgotten: frames and patches are erased"
        assert tree["journal"][0]["at"] == "2026-01-02"
