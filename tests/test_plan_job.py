"""The job plan, on simulated clips and on clips of the user's."""

import json

import pytest

from engine import simulate
from engine.settings import PlanConfig
from jobs import ingest, plan, pools
from jobs.__main__ import main
from jobs.recipes import tiny

pytestmark = pytest.mark.processes
STAGES = [step.stage.__name__ for step in ingest.steps(tiny(), ingest.PatchStore("nowhere"))]
SMALL = ["where=here", "patches.proposer=crops", "patches.per_frame=4", "difficulty.draws=1", "plan.frames=6", "plan.videos=2"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    simulate.write_clips(folder / "videos", folder / "truth", 3, seconds=3.0, size=(240, 280))
    return folder / "videos"


def planned(folder, *knobs):
    """The rows that the job writes as JSON."""
    where = folder / "rows.json"
    assert main(["plan", "tiny", *SMALL, f"store.uri={folder}/store", "output.format=json", f"output.path={where}", *knobs]) == 0
    return [json.loads(line) for line in where.read_text().splitlines()]


def test_the_plan_of_a_cluster_names_pools_pace_and_cost_and_leaves_the_times_in_the_store(clips, tmp_path):
    rows = planned(tmp_path, f"videos.uri={clips}", "plan.cpus=16", "plan.hours=10", "plan.cpu_hour=0.5", "frames.every_s=0.5")
    assert [row["stage"] for row in rows] == STAGES
    assert sum(row["cpus"] for row in rows) <= 15
    assert all(row["actors"] >= 1 and 0 < row["utilisation"] <= 1.000001 and row["seconds_per_frame"] > 0 for row in rows)
    assert rows[0]["bottleneck"] in STAGES
    whole = rows[0]
    assert whole["hours"] == pytest.approx(10 * 3600 * 2 / whole["frames_per_second"] / 3600, rel=0.05)
    assert whole["money"] == pytest.approx(0.5 * 16 * whole["hours"])
    held = json.loads((tmp_path / "store" / pools.NAME).read_text())
    assert [service["stage"] for service in held["services"]] == STAGES


def test_without_video_simulated_clips_are_measured_and_nothing_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "SECONDS", 2.0)
    assert main(["plan", "tiny", *SMALL, f"store.uri={tmp_path}/store"]) == 0
    said = capsys.readouterr()
    assert all(stage in said.out for stage in STAGES)
    assert not (tmp_path / "store" / pools.NAME).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("knobs", "sentence", "code"),
    [
        (["videos.uri=nowhere"], "videos.uri='nowhere' does not exist", 2),
        (["plan.gpus=2"], "plan.gpus=2 of what cluster? name its plan.cpus too", 2),
        (["frames.sampling=keyframes"], "frames.sampling=keyframes: how many frames a second that gives is not known before", 2),
        (["plan.hours=-1"], "plan.hours=-1: Input should be greater than or equal to 0", 2),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(knobs, sentence, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "tiny", *knobs]) == code
    assert sentence in capsys.readouterr().err


def test_a_cluster_too_small_is_told_what_it_lacks(clips, tmp_path, capsys):
    assert main(["plan", "tiny", *SMALL, f"videos.uri={clips}", f"store.uri={tmp_path}/store", "plan.cpus=2"]) == 1
    assert "need 4.25 CPUs and has 2: 2.25 are lacking" in capsys.readouterr().err


def test_the_usual_knobs_plan_for_this_machine():
    assert (PlanConfig().cpus, PlanConfig().gpus) == (0, 0)
