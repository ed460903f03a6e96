"""A tracking server that is lost while a job runs: real servers, really killed."""

import errno
import os
import pickle
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy.engine.default import DefaultDialect

from engine import files, pretrain, tracking
from engine.knobs import amend
from engine.tracking import Run
from jobs import training
from jobs.recipes import tiny
from tests.test_training import RECIPE, Noise


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


def config(tmp_path, uri):
    (tmp_path / "store" / "videos.lance").mkdir(parents=True, exist_ok=True)  # an empty folder would look as if its disk were away
    return amend(tiny(), [f"store.uri={tmp_path}/store", f"tracking.uri={uri}"])


def history(run, metric):
    return [(point.step, point.value) for point in tracking.connect(run.uri).get_metric_history(run.run_id, metric)]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('runs')}/mlflow.db"  # MLflow takes two seconds to make one


@pytest.fixture
def lost(tmp_path, database):
    """A run of a sqlite file, and the same run by the address of a server that is not there."""
    with tracking.running(config(tmp_path, database), "pretrain", tmp_path.name, {}) as run:
        yield run, Run("http://127.0.0.1:9", run.run_id, run.folder)


def test_what_a_lost_server_did_not_get_is_sent_later_in_order_and_every_step_once(lost):
    there, away = lost
    there.log({"loss": 3.0, "lr": 0.1}, 0)
    for step in (1, 2):
        away.log({"loss": 3.0 - step}, step)
    pickle.loads(pickle.dumps(away)).log({"loss": 1.5}, 1)  # another worker repeats a step, and its value is a little different
    away.keep("pictures/2.jpg", b"picture")
    away.note({"device": "cpu"})
    assert history(there, "loss") == [(0, 3.0)]
    assert (there.latest(), away.latest()) == ({"loss": 3.0, "lr": 0.1}, {})
    again = pickle.loads(pickle.dumps(there))  # a worker that knows nothing of what waits
    again.log({"loss": 0.0, "lr": 0.1}, 3)
    assert history(there, "loss") == [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)]
    assert history(there, "lr") == [(0, 0.1), (3, 0.1)]
    assert there.kept("pictures/2.jpg") == b"picture"
    assert tracking.connect(there.uri).get_run(there.run_id).data.tags["device"] == "cpu"
    assert not again.post.waiting()


def test_a_curve_of_thousands_of_steps_is_told_in_a_few_calls_and_every_step_once_though_part_of_it_comes_again(lost, monkeypatch):
    there, away = lost
    losses = {step: 1 / step for step in range(1, 3001)}
    calls, log_batch = [], MlflowClient.log_batch
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *told, **more: calls.append(len(more["metrics"])) or log_batch(*told, **more))
    there.log_curve("loss", {step: losses[step] for step in range(1, 2501)})
    assert calls == [1000, 1000, 500]  # MLflow refuses more at once
    away.log_curve("loss", {step: losses[step] for step in range(2501, 2801)})
    again = pickle.loads(pickle.dumps(there))  # a worker that was killed goes on from step 2400, a little beside the loss that it had
    again.log_curve("loss", {step: losses[step] + (step <= 2800) / 100 for step in range(2401, 3001)})
    again.log_curve("loss", {})
    assert history(there, "loss") == list(losses.items())
    assert calls[3:] == [300, 200]


def test_a_curve_that_was_cut_off_between_two_calls_is_whole_when_it_comes_again(lost, monkeypatch):
    there, _ = lost
    losses, log_batch = {step: float(step) for step in range(1, 2001)}, MlflowClient.log_batch

    def cut_off(self, run_id, metrics):
        if metrics[0].step > 1000:
            raise OSError("the connection is gone")
        log_batch(self, run_id, metrics=metrics)

    monkeypatch.setattr(MlflowClient, "log_batch", cut_off)
    there.log_curve("loss", losses)
    assert history(there, "loss") == list(losses.items())[:1000]
    monkeypatch.undo()
    pickle.loads(pickle.dumps(there)).log_curve("loss", {2001: 2001.0})
    assert history(there, "loss") == [*losses.items(), (2001, 2001.0)]


def test_an_entry_that_is_sent_twice_is_one(lost):
    run, away = lost
    away.log({"loss": 1.0}, 0)
    (waiting,) = map(Path, away.post.waiting())
    entry = waiting.read_bytes()
    rival = pickle.loads(pickle.dumps(run))
    rival.post.steps["loss"] = set()  # asked before the other sent it
    run.log({"lr": 1.0}, 0)
    waiting.write_bytes(entry)  # killed after it was sent, before it was taken away
    rival.log({"lr": 1.0}, 1)
    assert history(run, "loss") == [(0, 1.0)]


def test_a_lost_server_is_not_asked_at_every_step(lost):
    _, away = lost
    away.log({"loss": 1.0}, 0)
    began = time.monotonic()
    away.post.next_try = began + 60
    for step in range(1, 50):
        away.log({"loss": 1.0}, step)
    assert len(away.post.waiting()) == 50
    assert time.monotonic() - began < 5


def test_what_a_server_refuses_is_an_error_at_once(lost):
    run, _ = lost
    with pytest.raises(tracking.troubles(), match="Invalid"):
        run.log({"loss?": 1.0}, 0)
    assert not run.post.waiting()


def test_a_run_that_ends_while_its_server_is_lost_says_so_and_the_next_job_ends_it(lost, tmp_path, caplog):
    there, away = lost
    away.log({"loss": 1.0}, 0)
    away.end("FINISHED")
    assert f"2 entries of the run {there.run_id} wait in {there.folder}, and the next job" in caplog.text
    with tracking.running(config(tmp_path, there.uri), "choose", "k", {}):
        assert history(there, "loss") == [(0, 1.0)]
        assert tracking.runs(config(tmp_path, there.uri), "pretrain")[-1]["metrics"] == {"loss": 1.0}


def test_what_waits_for_a_run_that_the_server_no_longer_has_is_named(lost, tmp_path):
    there, _ = lost
    gone = Run("http://127.0.0.1:9", "f" * 32, str(Path(there.folder).with_name("f" * 32)))
    gone.log({"loss": 1.0}, 0)
    with pytest.raises(OSError, match=rf"refuses what waits in {gone.folder}, delete it to go on: .*not found"):
        tracking.reach(config(tmp_path, there.uri))


@pytest.mark.parametrize("ask", [tracking.reach, lambda knobs: tracking.begun(knobs, "pretrain")])
def test_a_server_that_is_away_when_a_job_begins_is_one_sentence_within_seconds(tmp_path, monkeypatch, caplog, ask):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    began = time.monotonic()
    with pytest.raises(OSError, match=r"^tracking\.uri='http://127\.0\.0\.1:9' cannot be used: \[Errno 111\] Connection refused$"):
        ask(config(tmp_path, "http://127.0.0.1:9"))
    assert time.monotonic() - began < 5
    assert not [told for told in caplog.records if told.name.startswith("urllib3")]
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"  # for one that is lost later
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_server_that_takes_a_call_and_says_nothing_is_one_sentence_after_as_long_as_a_person_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(OSError, match=r"cannot be used: .*timed out"):
            tracking.reach(config(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"))
        assert time.monotonic() - began < 4


class Server:
    """A real MLflow server on a sqlite file, in a group of processes of its own."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"

    def start(self):
        stored = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--artifacts-destination", f"{self.folder}/artifacts"]
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command = [str(Path(sys.executable).with_name("mlflow")), "server", *stored, *where]
        self.process = subprocess.Popen(
            command, cwd=self.folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        began = time.monotonic()
        while time.monotonic() < began + 240:  # of a machine with much else to do it takes a minute
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return
            time.sleep(0.1)
        raise TimeoutError("the MLflow server did not start")

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    (tmp_path / "server").mkdir()
    made = Server(tmp_path / "server")
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_run_and_started_again_has_one_run_with_every_step_once_in_order(tmp_path, server, caplog):
    knobs = config(tmp_path, server.uri)
    with tracking.running(knobs, "pretrain", "k", {}) as run:
        for epoch in range(9):
            if epoch == 3:
                server.kill()
            if epoch == 6:
                server.start()
                run.post.next_try = 0.0  # as after a while
            run.log({"train/loss": 9.0 - epoch, "train/lr": 0.1}, epoch)
            run.keep(f"pictures/{epoch}.txt", str(epoch).encode())
    assert caplog.text.count("is lost, the job goes on") == 1
    (found,) = tracking.runs(knobs, "pretrain")
    points = tracking.connect(run.uri).get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(epoch, 9.0 - epoch) for epoch in range(9)]
    assert [point.timestamp for point in points] == sorted(point.timestamp for point in points)
    assert [found["run"].kept(f"pictures/{epoch}.txt") for epoch in range(9)] == [str(epoch).encode() for epoch in range(9)]


@pytest.mark.slow
def test_a_job_whose_server_stays_away_ends_well_and_the_next_one_brings_the_rest(tmp_path, server, caplog):
    knobs = config(tmp_path, server.uri)
    with tracking.running(knobs, "pretrain", "k", {}) as run:
        run.log({"loss": 1.0}, 0)
        server.kill()
        run.log({"loss": 0.5}, 1)
    assert f"2 entries of the run {run.run_id} wait in {run.folder}" in caplog.text
    with pytest.raises(OSError, match=rf"tracking.uri='{server.uri}' cannot be used: ") as told:
        tracking.reach(knobs)
    assert len(str(told.value).splitlines()) == 1
    server.start()
    with tracking.running(knobs, "evaluate", "k", {}):
        assert run.curve("loss") == [(0, 1.0), (1, 0.5)]
        assert tracking.runs(knobs, "pretrain")[0]["run"] == run


class Gate:
    """A small server in front of an MLflow server, which lets everything through, or from one epoch to another answers no."""

    def __init__(self, behind):
        self.answer, gate = 0, self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                status, content = (gate.answer, b"no") if gate.answer else asked(behind + self.path, self.command, body, self.headers)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *told):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def asked(uri, method, body, headers):
    kept = {name: value for name, value in headers.items() if name in ("Content-Type", "Accept")}
    try:
        with urllib.request.urlopen(urllib.request.Request(uri, body, kept, method=method), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def trained(knobs, amid):
    """The run of a training of four epochs with a sheet of pictures each; `amid(epoch)` comes before an epoch is told."""
    recipe = RECIPE.model_copy(update={"picture_steps": 2})

    def loop(resume, report, look):
        def both(metrics, folder):
            amid(int(metrics["epoch"]))
            record.post.next_try = min(record.post.next_try, 1e-9)  # as if the epoch had taken longer than the server is left alone
            report(metrics, folder)

        pretrain.fit(Noise(-1), 8, recipe, resume=resume, report=both, look=look)

    with tracking.running(knobs, "pretrain", "k", {}) as record:
        model = training.carry_out(knobs, recipe, partial(training.fit, loop, recipe.epochs, record), "run")
    return model, record


def undisturbed(folder):
    curve = {}

    class Kept:
        def log(self, metrics, step):
            curve[step] = metrics["train/loss"]

        def log_curve(self, metric, points):
            pass

        def note(self, tags):
            pass

    recipe = RECIPE.model_copy(update={"picture_steps": 0})
    loop = partial(pretrain.fit, Noise(-1), 8, recipe)
    model = training.carry_out(here(folder, ""), recipe, partial(training.fit, loop, recipe.epochs, Kept()), "run")
    return model, sorted(curve.items())


def here(folder, uri):
    return amend(config(folder, uri), ["where=here"])


def is_same(one, other):
    return all(bool((a == b).all()) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_answers_no_amid_a_training_ends_nothing_and_gets_the_rest_when_it_says_yes_again(tmp_path, server, caplog, status):
    gate = Gate(server.uri)

    def shut(epoch):
        gate.answer = status if epoch in (1, 2) else 0

    whole, losses = undisturbed(tmp_path / "whole")
    model, record = trained(here(tmp_path, gate.uri), shut)
    assert is_same(model, whole)
    assert record.curve("train/loss") == losses
    assert [step for step, _ in history(record, "train/step_loss")] == list(range(1, 9))
    assert caplog.text.count("is lost, the job goes on") == 1
    (found,) = tracking.runs(here(tmp_path, gate.uri), "pretrain")
    assert [len(found["run"].kept(f"pictures/step-{step:09}.jpg")) > 0 for step in (2, 4, 6, 8)] == [True] * 4
    gate.server.shutdown()


def test_a_folder_of_artifacts_that_is_gone_amid_a_training_ends_nothing(tmp_path, database, caplog):
    """A file lies where MLflow's folder was, so that it cannot be made again, until the last epoch."""
    knobs, folder = here(tmp_path, database), Path(database.removeprefix("sqlite:///")).parent / "artifacts"
    whole, losses = undisturbed(tmp_path / "whole")

    def gone(epoch):
        if epoch == 1:
            shutil.rmtree(folder)
            folder.write_bytes(b"")
        if epoch == 3:
            folder.unlink()
            folder.mkdir()

    model, record = trained(knobs, gone)
    assert is_same(model, whole)
    assert record.curve("train/loss") == losses
    assert "is lost, the job goes on" in caplog.text
    assert [len(record.kept(f"pictures/step-{step:09}.jpg")) > 0 for step in (4, 6, 8)] == [True] * 3
    assert not record.post.waiting()


def test_a_run_that_ends_on_a_full_disk_says_in_a_sentence_what_is_lost_and_lets_its_job_end(tmp_path, caplog, monkeypatch):
    """What sqlite says is raised where SQLAlchemy calls it, so that all that SQLAlchemy and MLflow add is there."""
    made = amend(tiny(), [f"store.uri={tmp_path}/store"])
    execute = DefaultDialect.do_execute

    def no_room(self, cursor, statement, *more):
        if statement.startswith(("UPDATE", "INSERT")):
            raise sqlite3.OperationalError("database or disk is full")
        execute(self, cursor, statement, *more)

    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    with tracking.running(made, "watch", "k", {}) as run:
        monkeypatch.setattr(DefaultDialect, "do_execute", no_room)
        monkeypatch.setattr(files, "put", full)
    assert f"1 entries of the run {run.run_id} are lost: there is no writing where they would wait: No space left on device" in caplog.text
    (lost,) = [one for one in caplog.messages if "is lost, the job goes on" in one]
    assert lost.endswith(": database or disk is full")


def empty(folder):
    return not folder.exists() or not any(folder.iterdir())


@pytest.mark.parametrize("mounted_on", [True, False], ids=["the folder that it was mounted on stays", "nothing stays"])
def test_nothing_is_made_in_place_of_a_store_that_is_away_and_what_was_held_is_sent_when_it_is_back(tmp_path, caplog, mounted_on):
    """MLflow's file lies in the store, as it does by default, or nowhere."""
    made, store = amend(tiny(), [f"store.uri={tmp_path}/store"]), tmp_path / "store"
    with tracking.running(made, "watch", "k", {}) as run:
        run.log({"videos": 1.0}, 0)
        store.rename(tmp_path / "elsewhere")
        if mounted_on:
            store.mkdir()
        run.log({"videos": 2.0}, 1)
        run.log({"videos": 3.0}, 2)
        assert empty(store)
        if mounted_on:
            store.rmdir()
        (tmp_path / "elsewhere").rename(store)
        run.post.next_try = 0.0
        run.log({"videos": 4.0}, 3)
        assert history(run, "videos") == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)]
        store.rename(tmp_path / "elsewhere")
        run.log({"videos": 5.0}, 4)
    assert empty(store)
    assert f"2 entries of the run {run.run_id} are lost: its store is away" in caplog.text
