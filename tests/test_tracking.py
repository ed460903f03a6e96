import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import files, tracking
from engine.knobs import amend, flat
from jobs.recipes import tiny

ROOT = Path(__file__).parents[1]


def config(tmp_path):
    return amend(tiny(), [f"store.uri={tmp_path}/store"])


def test_a_run_keeps_every_knob_and_a_step_is_logged_once(tmp_path):
    run = dying_run(tmp_path)
    assert status(run) == "FAILED"
    with tracking.running(config(tmp_path), "pretrain", "k", {}) as again:  # the job was started again
        assert again == run
        assert status(run) == "RUNNING"
        again.log({"loss": 0.4}, 1)
        again.log({"loss": 0.3}, 2)
    assert run.curve("loss") == [(0, 1.0), (1, 0.5), (2, 0.3)]
    found = tracking.runs(config(tmp_path), "pretrain")
    assert [one["tags"]["selection"] for one in found] == ["s"]
    stored = tracking.connect(run.uri).get_run(run.run_id).data.params
    assert stored == {name: str(value) for name, value in flat(config(tmp_path)).items()}
    assert len(tracking.connect(run.uri).get_metric_history(run.run_id, "loss")) == 3


def test_the_newest_runs_come_first_and_only_those_that_are_asked_for_are_fetched(tmp_path, monkeypatch):
    for number in range(25):
        with tracking.running(config(tmp_path), "choose", f"k{number}", {"number": number}) as run:
            run.log({"choose/fitted": float(number % 12 == 3)}, 0)
    fetched = []
    monkeypatch.setattr(tracking, "told", lambda config, one: fetched.append(one) or {"status": one.info.status, "tags": one.data.tags})
    found = tracking.newest(config(tmp_path), "choose")
    assert [next(found)["tags"]["number"] for _ in range(3)] == ["24", "23", "22"]
    assert len(fetched) <= tracking.FEW
    assert [one["tags"]["number"] for one in found] == [str(number) for number in range(21, -1, -1)]
    fitted = tracking.newest(config(tmp_path), "choose", "metrics.`choose/fitted` = 1")
    assert [one["tags"]["number"] for one in fitted] == ["15", "3"]
    assert list(tracking.newest(config(tmp_path), "pretrain")) == []


def dying_run(tmp_path):
    runs = []
    with contextlib.suppress(OSError), tracking.running(config(tmp_path), "pretrain", "k", {"selection": "s"}) as run:
        runs.append(run)
        run.log({"loss": 1.0}, 0)
        run.log({"loss": 0.5}, 1)
        raise OSError("died")
    return runs[0]


def status(run):
    return tracking.connect(run.uri).get_run(run.run_id).info.status


def test_a_run_that_was_cut_off_before_its_knobs_were_told_has_them_when_it_goes_on(tmp_path, monkeypatch):
    def cut_off(*_, **__):
        raise SystemExit

    with monkeypatch.context() as struck:
        struck.setattr(tracking, "tell_knobs", cut_off)
        with pytest.raises(SystemExit):
            tracking.started(config(tmp_path), "choose", "k", {})
    with tracking.running(config(tmp_path), "choose", "k", {}):
        pass
    (one,) = tracking.runs(config(tmp_path), "choose")
    assert one["params"] == {name: str(value) for name, value in flat(config(tmp_path)).items()}


def test_a_finished_run_is_not_reopened(tmp_path):
    with tracking.running(config(tmp_path), "choose", "k", {}) as first:
        pass
    with tracking.running(config(tmp_path), "choose", "k", {}) as second:
        assert second != first


def test_a_run_that_a_person_stops_is_said_to_be_killed(tmp_path):
    with pytest.raises(KeyboardInterrupt), tracking.running(config(tmp_path), "choose", "k", {}) as run:
        raise KeyboardInterrupt
    assert status(run) == "KILLED"


def test_what_is_kept_comes_back_wherever_it_is_asked_for(tmp_path, monkeypatch):
    with tracking.running(config(tmp_path), "evaluate", "k", {}) as run:
        run.keep("examples/0.jpg", b"picture")
    monkeypatch.chdir("/")
    assert run.kept("examples/0.jpg") == b"picture"
    with pytest.raises(LookupError, match=r"keeps no examples/1\.jpg"):
        run.kept("examples/1.jpg")


def test_runs_of_a_bucket_go_to_the_working_folder_and_a_server_is_taken_at_its_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking.address(amend(tiny(), ["store.uri=s3://bucket/store"])) == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking.address(amend(tiny(), ["tracking.uri=http://mlflow:5000"])) == "http://mlflow:5000"


def test_a_sqlite_file_may_be_named_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = amend(tiny(), ["store.uri=store", "tracking.uri=sqlite:///here/runs.db"])
    with tracking.running(here, "evaluate", "k", {}) as run:
        run.keep("examples/0.jpg", b"picture")
    assert run.kept("examples/0.jpg") == b"picture"
    assert any((tmp_path / "here" / "artifacts").rglob("0.jpg"))


DIES = """
import os, signal, sys
from sqlalchemy import Engine, event
from engine import files, tracking
from engine.knobs import amend
from jobs.recipes import tiny
executed = 0

@event.listens_for(Engine, "before_cursor_execute")
def strike(*call):
    global executed
    executed += 1
    if executed == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

tracking.reach(amend(tiny(), [f"tracking.uri=sqlite:///{sys.argv[1]}"]))
"""


@pytest.mark.parametrize("statement", [pytest.param(3, marks=pytest.mark.slow), 40, pytest.param(200, marks=pytest.mark.slow)])
def test_a_job_killed_while_mlflow_makes_its_file_leaves_none_that_is_half_made(tmp_path, statement):
    file = tmp_path / "runs" / "mlflow.db"
    died = subprocess.run([sys.executable, "-c", DIES, file, str(statement)], cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert not file.exists()
    config = amend(tiny(), [f"tracking.uri=sqlite:///{file}"])
    with tracking.running(config, "ingest", "k", {}) as run:
        run.log({"loss": 1.0}, 0)
    assert tracking.runs(config, "ingest")[0]["metrics"] == {"loss": 1.0}
    assert not list(file.parent.glob(f"{files.UNFINISHED}*"))  # what it left is swept, not of one that lives: see the next test


@pytest.mark.processes
def test_jobs_that_begin_at_once_share_one_file(tmp_path):
    begin = "import sys; from engine import tracking; from engine.knobs import amend; from jobs.recipes import tiny\n"
    begin += "with tracking.running(amend(tiny(), [f'tracking.uri=sqlite:///{sys.argv[1]}']), 'ingest', sys.argv[2], {}): pass"
    file = tmp_path / "mlflow.db"
    running = [subprocess.Popen([sys.executable, "-c", begin, file, str(key)], cwd=ROOT) for key in range(2)]
    assert [one.wait(60) for one in running] == [0, 0]
    assert len(tracking.runs(amend(tiny(), [f"tracking.uri=sqlite:///{file}"]), "ingest")) == 2
    assert not list(tmp_path.glob(f"{files.UNFINISHED}*"))
