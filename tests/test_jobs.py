import hashlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from engine import difficulty, mae, pictures, simulate, tracking
from engine.knobs import amend
from engine.store import PatchStore
from jobs import choose, evaluate, explain, ingest, pretrain, probe, report, score
from jobs.__main__ import JOBS, main, parse, sentence
from jobs.recipes import tiny
from tests import dicoms
from tests.browsed import get, serving, told

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "where=here",
    "patches.proposer=crops",
    "patches.per_frame=4",
    "probe.frames=8",
    "probe.crops=2",
    "probe.train.epochs=2",
    "probe.train.batch=8",
    "pretrain.epochs=2",
    "pretrain.workers=1",
    "pretrain.batch=2",
    "evaluate.iterations=4",
    "evaluate.warmup=1",
    "evaluate.batch=2",
    "selection.budget=0.5",
    "difficulty.draws=1",
    "videos.batch=2",
]


def jobs(*words, **environment):
    command = [sys.executable, "-m", "jobs", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ingest", "tiny", "patches.min_aera=1"], "there is no knob 'patches.min_aera'"),
        (["ingest", "tiny", "patches.per_frame=none"], "patches.per_frame=none: Input should be a valid integer"),
        (["ingest", "huge"], "'huge' is no recipe (tiny, one_gpu, cluster)"),
        (["pretrain", "store.uri=x", "tiny"], "tiny: a recipe stands right after the job, and there is one at most, as in: pretrain tiny"),
        (["pretrain", "one_gpu", "tiny"], "tiny: a recipe stands right after the job, and there is one at most"),
        (["ingest", "store.uri=x", "my.yaml"], "my.yaml: a recipe stands right after the job"),
        (["evaluate", "evaluate.seeds=0 1"], "; a list is written with commas, as in 0,1,2"),
        (["digest"], "there is no job 'digest'; the jobs are demo, ingest"),
        (["ingest", "nowhere.yaml"], "No such file"),
        (["query", "store.uri=x"], "query takes one SQL sentence in quotes"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_exit_code_2(words, sentence, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [["watch", "tiny", "videos.uri=/nowhere", "watch.log=json"], ["watch", "FILE", "watch.tries=0"]])
def test_a_watch_that_writes_json_is_refused_in_json_too(words, tmp_path):
    """Whether a wrong knob or an inbox that is not there, and whether the command or its file wants JSON."""
    (tmp_path / "a.yaml").write_text("recipe: tiny\nwatch: {log: json}\n")
    words = [str(tmp_path / "a.yaml") if word == "FILE" else word for word in words]
    done = subprocess.run([sys.executable, "-m", "jobs", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert (done.returncode, told["level"], told["event"]) == (2, "error", "ended")
    assert told["text"].startswith("endocurate: ")


STRIKE = """
import runpy, signal, sys

class Strikes:
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Strikes())
sys.argv = ["jobs", "query", "store.uri=.", "SELECT 1"]
runpy.run_module("jobs", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["engine.tracking", "fsspec", "pydantic"])
def test_ctrl_c_while_python_imports_ends_with_130_and_no_traceback(module):
    """Struck at the import of what the command needs before it knows the job, and of what the job needs."""
    code = STRIKE.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (130, "", "")


def test_an_error_is_told_without_the_places_and_statements_behind_it():
    lance = OSError("LanceError(IO): No space left on device, /build/rust/lance-file/src/writer.rs:254:9")
    assert sentence(lance) == "LanceError(IO): No space left on device"
    mlflow = RuntimeError("(raised as a result\nof autoflush) (sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO runs]")
    assert sentence(mlflow) == "the database of MLflow: database or disk is full"
    assert sentence(ValueError()) == "ValueError"


def test_a_wrong_knob_is_refused_before_anything_heavy_is_loaded():
    code = "import sys; from jobs.__main__ import main; main(['ingest', 'x=1']); sys.exit(bool({'ray', 'torch', 'lance'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_help_names_every_job_and_every_knob(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in [*JOBS, "patches.per_frame=", "evaluate.seeds="])


def test_a_yaml_file_starts_from_a_recipe_and_knobs_come_last(tmp_path):
    (tmp_path / "a.yaml").write_text("recipe: tiny\npatches: {per_frame: 3, quality: 80}\n")
    _, config, _ = parse(["ingest", str(tmp_path / "a.yaml"), "patches.quality=70"])
    assert (config.patches.per_frame, config.patches.quality, config.frames.longest_side) == (3, 70, tiny().frames.longest_side)
    (tmp_path / "twice.yaml").write_text("recipe: tiny\npatches: {per_frame: 3, per_frame: 4}\n")
    with pytest.raises(ValueError, match="'per_frame' stands twice"):
        parse(["ingest", str(tmp_path / "twice.yaml")])
    (tmp_path / "b.yaml").write_text("recipe: tiny\npatches: {per_fram: 3}\n")
    with pytest.raises(ValueError, match=r"b\.yaml: there is no knob patches\.per_fram; did you mean patches\.per_frame\?$"):
        parse(["ingest", str(tmp_path / "b.yaml")])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    simulate.write_clips(folder / "videos", folder / "truth", 2, seconds=5.0)
    (folder / "videos" / "empty.mp4").touch()
    (folder / "videos" / "words.mp4").write_text("this is no video\n" * 100)
    simulate.write_pairs(folder / "pairs", 10, side=96)
    return folder


def config_of(archive, store, *more):
    knobs = [*SMALL, f"videos.uri={archive}/videos", f"evaluate.uri={archive}/pairs", f"store.uri={store}", *more]
    return amend(tiny(), knobs)


@pytest.fixture(scope="module")
def filled(archive):
    config = config_of(archive, archive / "store")
    ingest.run(config)
    return config


def patch_rows(config):
    columns = ["patch_id", "box", "area", "bytes", "pixels", "difficulty", "embedding"]
    return PatchStore(config.store.uri).patches(columns).sort_by("patch_id")


@pytest.fixture(scope="module")
def shown(filled):
    """A store that was really filled, and the page on it, started with other knobs than its intake."""
    store = PatchStore(filled.store.uri)
    with serving(store, runs=lambda: explain.Runs(filled)) as base:
        yield store, base


def straight(store, row):
    """Every frame of a patch's video by its pts, decoded by nothing of ours."""
    uri = next(one["uri"] for one in store.ledger().to_pylist() if one["video_id"] == row["video_id"])
    with av.open(uri) as container:
        return {frame.pts: frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}


def small(picture):
    return cv2.resize(picture, (96, 96), interpolation=cv2.INTER_AREA).astype(np.float32)


def apart(picture, frames):
    """By how much of 255 a picture of any size differs from each of these (by pts, small), but for what is black in it."""
    there = small(np.where(picture.max(2) > 16, 255, 0).astype(np.uint8)) == 255
    return {pts: np.abs(frame - small(picture))[there].mean() for pts, frame in frames.items()}


def patches_of(store, count):
    """So many patches, evenly from all, with their frames' rows."""
    frames = {row["frame_id"]: row for row in store.open("frames").to_table().to_pylist()}
    rows = store.patches(["patch_id", "video_id", "frame_id", "box", "scorer", "difficulty"]).sort_by("patch_id").to_pylist()
    return [row | {"frame": frames[row["frame_id"]]} for row in rows[:: len(rows) // count][:count]]


def test_the_page_shows_the_frame_that_a_patch_was_cut_from_and_the_seconds_around_it(shown):
    store, base = shown
    for row in patches_of(store, 1):
        every, frame = straight(store, row), row["frame"]
        top, left, bottom, right = frame["content"]
        inside = {pts: small(image[top:bottom, left:right]) for pts, image in every.items()}
        whole = pictures.decode(get(base, "/api/frame", id=row["frame_id"])[2])
        assert whole.shape[:2] == (bottom - top, right - left)
        found = apart(whole, inside)
        assert min(found, key=found.get) == frame["pts"]
        assert found[frame["pts"]] < 4  # JPEG
        y0, x0, y1, x1 = row["box"]
        found = apart(
            pictures.decode(get(base, "/api/picture", id=row["patch_id"])[2]), {p: small(i[y0:y1, x0:x1]) for p, i in every.items()}
        )
        assert min(found, key=found.get) == frame["pts"]
        assert found[frame["pts"]] < 4
        page = told(base, "/api/patch", id=row["patch_id"])
        assert (page["patch"]["box"], page["frame"]["content"]) == (row["box"], frame["content"])
        assert_plays(get(base, "/api/clip", id=row["frame_id"])[2], inside, frame)


def assert_plays(clip, inside, frame):
    """A clip has the frames around one, each at its own time; those of outside the body are black, and some simulated ones stand still."""
    base = Fraction(frame["time_base"])
    first = min(pts for pts in inside if pts * base >= frame["pts"] * base - 2)
    with av.open(io.BytesIO(clip)) as container:
        seen = [(one.pts * one.time_base, one.to_ndarray(format="rgb24")) for one in container.decode(video=0)]
    times = [round((first * base + time - seen[0][0]) / base) for time, _ in seen]  # in ticks of the video
    assert any(abs(time - frame["pts"]) * base < Fraction(1, 500) for time in times)
    assert max(times) * base <= frame["pts"] * base + 2
    shown = [(time, apart(picture, inside)) for time, (_, picture) in zip(times, seen, strict=True) if picture.max() > 60]
    assert len(shown) > 8
    for time, found in shown:
        mine = min(inside, key=lambda pts: abs(pts - time))
        assert abs(mine - time) * base < Fraction(1, 500)  # a clip counts milliseconds
        assert found[mine] <= min(found.values()) + 0.25


def test_the_page_shows_what_the_scorer_rebuilt_and_the_difficulty_is_its_error(shown):
    store, base = shown
    for row in patches_of(store, 3):
        model, config = scorer_of(store, row["scorer"])
        side, token, visible = config.side, config.token, config.visible
        stored = cv2.cvtColor(cv2.imdecode(np.frombuffer(store.image(row["patch_id"]), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        given = ((pictures.square(stored, side) / 255 - pictures.MEAN) / pictures.STD).astype(np.float32)
        lots = np.frombuffer(hashlib.shake_256(f"0:0:{row['patch_id']}".encode()).digest(8 * config.tokens), "<u8")
        order = np.argsort(lots, kind="stable")  # the first are left visible
        with torch.no_grad():
            noise = torch.from_numpy(np.argsort(order).astype(np.float32))[None]
            made = model(torch.from_numpy(given.transpose(2, 0, 1).copy())[None], noise)[1][0].numpy()  # (L, token * token * 3)
        rebuilt, removed, grid = given.copy(), np.zeros((side, side), bool), side // token
        for number in order[visible:]:
            place = slice(number // grid * token, (number // grid + 1) * token), slice(number % grid * token, (number % grid + 1) * token)
            rebuilt[place], removed[place] = made[number].reshape(token, token, 3), True
        assert ((rebuilt - given)[removed] ** 2).mean() == pytest.approx(row["difficulty"], rel=1e-4)
        sheet = pictures.decode(get(base, "/api/rebuilt", id=row["patch_id"])[2])
        assert sheet.shape == (side, 3 * side, 3)
        expected = [light(one * pictures.STD + pictures.MEAN) for one in (given, np.where(removed[..., None], 0, given), rebuilt)]
        for place, part in enumerate(np.split(light(sheet / 255), 3, axis=1)):
            found = [np.abs(part - one).mean() for one in expected]
            assert found[place] == min(found)
            assert found[place] < 4


def light(picture):
    """The brightness (H, W), of 255, which JPEG keeps where it blurs colours."""
    return np.clip(picture * 255, 0, 255) @ [0.299, 0.587, 0.114]


def scorer_of(store, mark):
    """The model of the store whose mark the patches have, by the settings of their intake."""
    for path in Path(store.address("scorers")).glob("*.safetensors"):
        settings = tiny().difficulty.model_copy(update={"draws": 1})
        model = mae.load(str(path), settings.mae).eval()
        if difficulty.scorer_id(model, settings) == mark:
            return model, settings.mae
    raise AssertionError(mark)


def test_bad_files_are_ledger_rows_with_a_reason_and_the_others_go_on(filled):
    ledger = PatchStore(filled.store.uri).ledger().to_pylist()
    assert sorted(row["reason"] or "" for row in ledger) == ["", "", "empty", "not a video"]
    assert all((row["patches"] > 0) == (row["reason"] is None) for row in ledger)


def test_a_folder_of_nothing_but_bad_files_still_fills_the_ledger(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "empty.mp4").touch()
    (tmp_path / "videos" / "words.mp4").write_text("this is no video\n" * 100)
    config = config_of(tmp_path, tmp_path / "store")
    ingest.run(config)
    assert sorted(PatchStore(config.store.uri).ledger()["reason"].to_pylist()) == ["empty", "not a video"]


def test_what_the_ledger_has_is_not_taken_in_again(filled):
    before = PatchStore(filled.store.uri).open("patches").version
    ingest.run(filled)
    assert PatchStore(filled.store.uri).open("patches").version == before


@pytest.mark.processes
def test_ray_makes_the_same_rows(archive, filled):
    scorer = next((archive / "store" / "scorers").glob("*[0-9a-f].safetensors"))
    on_ray = config_of(archive, archive / "ray", "where=ray", f"difficulty.checkpoint={scorer}")
    ingest.run(on_ray)
    here, there = patch_rows(filled), patch_rows(on_ray)
    assert here.equals(there)


@pytest.mark.slow
def test_a_store_that_was_killed_again_and_again_equals_an_undisturbed_one(archive, filled):
    scorer = next((archive / "store" / "scorers").glob("*[0-9a-f].safetensors"))
    config = config_of(archive, archive / "killed", f"difficulty.checkpoint={scorer}", "videos.batch=1")
    knobs = [*SMALL, f"videos.uri={archive}/videos", f"store.uri={archive}/killed", f"difficulty.checkpoint={scorer}", "videos.batch=1"]
    for delay in (6.0, 7.0, 8.0, 9.0):
        running = subprocess.Popen([sys.executable, "-m", "jobs", "ingest", "tiny", *knobs], cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            running.wait(delay)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            running.wait()
    ingest.run(config)
    assert patch_rows(config).equals(patch_rows(filled))
    assert len(PatchStore(config.store.uri).ledger()) == 4


def test_the_chain_ends_in_a_report_that_holds_the_measured_numbers(filled):
    chosen = filled.model_copy(update={"selection": filled.selection.model_copy(update={"method": "optidel"})})
    for job in (choose, pretrain, evaluate, report):
        job.run(chosen)
    page = Path(report.address(filled)).read_text()
    runs = tracking.runs(filled, "evaluate")
    assert {(one["tags"]["budget"], one["tags"]["unit"]) for one in runs} == {("0.5", "bytes")}
    measured = {one["tags"]["method"]: one["metrics"] for one in runs}
    assert set(measured) == {"optidel", "no pre-training"}
    for metrics in measured.values():
        assert f"{100 * metrics['evaluate/miou']:.1f}" in page or f"{metrics['evaluate/miou']:.3f}" in page
    evaluate.run(chosen)  # measured before: no new run
    assert len(tracking.runs(filled, "evaluate")) == 2


def test_a_watched_pre_training_is_refused_what_it_cannot_look_at_and_its_card_says_which_model_it_is(filled, archive):
    choose.run(filled)
    watched = amend(filled, [f"transfer.uri={archive}/pairs", "transfer.score=vote", "transfer.levels=-1,-2", "transfer.images=4"])
    with pytest.raises(ValueError, match=r"transfer\.levels=9 is none of the encoder's 4 levels"):
        pretrain.run(amend(watched, ["transfer.levels=-1,9"]))
    assert not [one for one in tracking.runs(watched, "pretrain") if "watched" in one["tags"]]  # nothing has begun
    pretrain.run(watched)
    one = next(one for one in reversed(tracking.runs(watched, "pretrain")) if "watched" in one["tags"])
    assert one["tags"]["watched"].startswith("vote of all scores at levels -1, -2 of ")
    assert one["metrics"]["transfer/exported_epochs"] == filled.pretrain.epochs
    assert one["tags"]["exported"].startswith(f"after epoch {filled.pretrain.epochs}: the last of {filled.pretrain.epochs} epochs, because")
    card = PatchStore(filled.store.uri).address(f"models/{pretrain.key(watched, one['tags']['selection'])}/README.md")
    assert f"- transfer/exported_epochs: {filled.pretrain.epochs}" in Path(card).read_text()
    said = Path(card).read_text().partition("## What target images said of it\n\n")[2].partition("\n\n")[0]
    assert f"- robustness/level -1: {one['metrics']['transfer/robustness/level -1']}" in said.splitlines()
    made_of = PatchStore(filled.store.uri).open("selections").to_table(filter=f"selection_id = '{one['tags']['selection']}'")
    (version,) = set(made_of["patches_version"].to_pylist())
    assert one["tags"]["patches_version"] == str(version)
    assert f"- patches_version: {version}\n" in Path(card).read_text()


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        (["pretrain.mae.size=enormous"], "mae.size=enormous is no size of a vision transformer in timm"),
        (["pretrain.architecture=simclr", "pretrain.simclr.encoder=resnet5000"], "simclr.encoder=resnet5000 is no model of timm"),
        (["pretrain.batch=4096"], "training images do not fill a batch of 4096: choose a larger budget, or lower pretrain.batch"),
        (["pretrain.precision=fp16"], "precision=fp16 needs a GPU: without one take bf16, or no for float32"),
        (["transfer.uri={pairs}", "transfer.level=9", "transfer.images=4"], "transfer.level=9 is none of the encoder's 4 levels"),
    ],
)
def test_what_can_never_be_trained_is_a_wrong_command_and_begins_no_run(filled, archive, capsys, knobs, told):
    if "fp16" in told and torch.cuda.is_available():
        pytest.skip("a GPU has that precision")
    choose.run(filled)
    before = len(tracking.begun(filled, "pretrain"))
    words = [*SMALL, f"store.uri={filled.store.uri}", *(knob.format(pairs=archive / "pairs") for knob in knobs)]
    capsys.readouterr()
    assert main(["pretrain", "tiny", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "pre-training" not in said
    assert len(tracking.begun(filled, "pretrain")) == before


@pytest.mark.parametrize(("count", "told"), [(0, "0 videos"), (1, "1 video"), (1200, "1,200 videos")])
def test_one_of_a_thing_is_told_as_one(count, told):
    assert report.counted(count, "video", "videos") == told


def test_every_training_image_leads_back_to_video_time_and_box(filled):
    store = PatchStore(filled.store.uri)
    choose.run(filled)
    images = store.open("images").to_table().to_pylist()
    known = {row["patch_id"]: row for row in store.patches(["patch_id", "video_id", "time_ms", "box"]).to_pylist()}
    videos = set(store.ledger()["video_id"].to_pylist())
    for image in images:
        for patch_id in image["patch_ids"]:
            video, rest = patch_id.split("@")
            time_ms, box, _ = rest.split(":")
            row = known[patch_id]
            assert video in videos
            assert (row["video_id"], row["time_ms"], row["box"]) == (video, int(time_ms), [int(n) for n in box.split(",")])


def test_every_patch_leads_back_to_the_run_that_trained_its_scorer(filled):
    store, (trained,) = PatchStore(filled.store.uri), tracking.runs(filled, "probe")
    patch_id, mark = store.patches(["patch_id", "scorer"]).to_pylist()[0].values()
    its = explain.explain(store, patch_id, explain.Runs(filled))["its scorer"]
    assert its["trained by"]["run"] == trained["run"].run_id
    assert store.address(its["file"]) == probe.stored(filled).checkpoint
    assert trained["tags"]["scorer"] == f"mae-tiny-{mark}"
    assert trained["tags"]["early"] == score.scorer(amend(filled, ["score.by=early"]), store)[0]  # the name that its scores would have


def test_query_prints_rows(filled, capsys):
    sql = "SELECT reason, count(*) AS n FROM videos GROUP BY reason ORDER BY n DESC, reason"
    assert main(["query", f"store.uri={filled.store.uri}", sql]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"reason +n", lines[0])
    assert lines[-1] == "(3 rows)"
    assert main(["query", f"store.uri={filled.store.uri}", "SELECT nothing FROM videos"]) == 1
    assert "nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ("videos.uri=/nowhere/at/all", "/nowhere/at/all"),
        ("difficulty.checkpoint=/nowhere/mae.pth", "/nowhere/mae.pth"),
        ("store.uri=/proc/store", "/proc/store"),
        ("store.uri=s3://no-such-bucket-anywhere/x", "s3"),
        ("patches.proposer=sam patches.checkpoint=/nowhere/sam.pth", "/nowhere/sam.pth"),
    ],
)
@pytest.mark.processes
def test_what_is_not_there_is_one_sentence_and_nothing_is_half_written(archive, tmp_path, changes, sentence):
    done = jobs(
        "ingest",
        "tiny",
        *SMALL,
        f"videos.uri={archive}/videos",
        f"store.uri={tmp_path}/store",
        *changes.split(),
        AWS_EC2_METADATA_DISABLED="true",
    )
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("store/*.lance/data/*"))


def test_the_ledger_keeps_no_configuration_secret_and_rows_no_path(filled):
    store = PatchStore(filled.store.uri)
    for table in ("patches", "frames", "selections", "images"):
        if store.has(table):
            rows = store.open(table).to_table()
            text = json.dumps(rows.select([name for name in rows.column_names if name != "pixels"]).to_pylist(), default=str)
            assert "videos/" not in text
            assert ".mp4" not in text


@pytest.mark.slow
def test_no_word_of_a_patient_is_in_a_store(tmp_path, caplog, capfd, recwarn):
    (tmp_path / "inbox").mkdir()
    simulate.write_clip(tmp_path / "clip.mp4", seed=3, seconds=3, fps=25, height=240, width=280)
    tags = dicoms.marked(dicoms.described(240, 280, NumberOfFrames=75, PhotometricInterpretation="YBR_PARTIAL_420"))
    dicoms.encapsulated(tmp_path / "inbox" / "film", tags, dicoms.H264, [(tmp_path / "clip.mp4").read_bytes()])
    dicoms.encapsulated(tmp_path / "inbox" / "unsupported", tags, "1.2.840.10008.1.2.4.94", [dicoms.MARKER.encode()])
    recwarn.clear()
    store = tmp_path / "store"
    with caplog.at_level(logging.DEBUG):
        ingest.run(amend(tiny(), [*SMALL, f"videos.uri={tmp_path}/inbox", f"store.uri={store}"]))
    ledger = PatchStore(str(store)).ledger().to_pylist()
    assert sorted(row["reason"] or "" for row in ledger) == ["", "unsupported transfer syntax"]
    assert sum(row["patches"] for row in ledger) > 0
    out = capfd.readouterr()
    said = [caplog.text.encode(), out.out.encode(), out.err.encode(), *(str(one.message).encode() for one in recwarn)]
    for content in [*said, *(path.read_bytes() for path in store.rglob("*") if path.is_file())]:
        assert dicoms.MARKER.encode() not in content
