from engine import tracking
from engine.config import amend
from jobs.recipes import tiny


def config(tmp_path):
    return amend(tiny(), [f"store.uri={tmp_path}/store"])


def test_a_run_keeps_every_knob_and_a_step_is_logged_once(tmp_path):
    (tmp_path / "store").mkdir()
    run = tracking.start(config(tmp_path), "pretrain", "k", {"selection": "s"})
    run.log({"loss": 1.0}, 0)
    run.log({"loss": 0.5}, 1)
    again = tracking.start(config(tmp_path), "pretrain", "k", {})  # the job died and was started again
    assert again == run
    again.log({"loss": 0.4}, 1)
    again.log({"loss": 0.3}, 2)
    assert run.curve("loss") == [(0, 1.0), (1, 0.5), (2, 0.3)]
    again.end()
    found = tracking.runs(config(tmp_path), "pretrain")
    assert [one["tags"]["selection"] for one in found] == ["s"]
    stored = tracking.connect(run.uri).get_run(run.run_id).data.params
    assert stored["patches.per_frame"] == "8"
    assert len(tracking.connect(run.uri).get_metric_history(run.run_id, "loss")) == 3


def test_a_finished_run_is_not_reopened(tmp_path):
    (tmp_path / "store").mkdir()
    first = tracking.start(config(tmp_path), "choose", "k", {})
    first.end()
    assert tracking.start(config(tmp_path), "choose", "k", {}).run_id != first.run_id


def test_runs_of_a_bucket_go_to_the_working_folder_and_a_server_is_taken_at_its_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking.address(amend(tiny(), ["store.uri=s3://bucket/store"])) == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking.address(amend(tiny(), ["tracking.uri=http://mlflow:5000"])) == "http://mlflow:5000"
