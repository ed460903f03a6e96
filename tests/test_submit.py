import http.server
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from ray.job_submission import JobDetails, JobStatus, JobType

from engine import tracking
from engine.flow import submission
from engine.knobs import amend
from engine.store import PatchStore, WriteRows
from jobs import choose, needs, pods, pretrain, retrain, submit
from jobs.__main__ import JOBS, main, parse
from jobs.recipes import cluster, tiny
from tests import rows
from tests.jobserver import JobServer, job
from tests.jobserver import nodes as of_one
from tests.manifests import KUBERAY, jobs, named, platform, schema_of_kuberay
from tests.raylets import TOKEN, Cluster

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def server():
    """The address of the job server of a Ray of three processors, which asks for a token."""
    # longer folders do not fit the names of Ray's sockets
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray-") as folder, Cluster(folder, cpus=3) as made:
        made.begin()
        yield made.address


@pytest.fixture
def asking(server, monkeypatch):
    """The command line with the server's address and token."""
    monkeypatch.setenv("RAY_ADDRESS", server)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    return main


def on_server():
    return {one.submission_id: one.status.value for one in submission.server().list_jobs()}


@pytest.mark.processes
def test_a_job_runs_once_is_followed_and_gives_its_exit_code(asking, capsys, caplog):
    caplog.set_level("INFO", "jobs.submit")
    assert asking(["submit", "datasets", "evaluate.dataset=polypgen"]) == 0
    assert "polypgen" in capsys.readouterr().out
    first = on_server()
    (name,) = first
    assert first[name] == "SUCCEEDED"
    assert asking(["submit", "datasets", "evaluate.dataset=polypgen"]) == 0
    assert on_server() == first
    assert f"{name} succeeded before; --again runs it once more" in caplog.text
    assert asking(["submit", "--again", "datasets", "evaluate.dataset=polypgen"]) == 0
    assert set(on_server()) == {name, f"{name}-2"}


@pytest.mark.processes
def test_a_job_that_failed_says_why_and_is_begun_anew_under_the_next_number(asking, capsys):
    before = set(on_server())
    for attempt in (1, 2):
        assert asking(["submit", "history", "store.uri=/nowhere"]) == 2  # the job's own
        told = capsys.readouterr().out
        assert "endocurate: store.uri='/nowhere'" in told
        assert len(set(on_server()) - before) == attempt


@pytest.mark.processes
def test_who_asks_for_a_running_id_follows_it_also_where_it_writes_nothing_for_long(asking, monkeypatch):
    monkeypatch.setattr(submission, "QUIET", 2.0)
    client = submission.server()
    asked = submission.Request("waits", "sleep 5; echo done; exit 7")
    assert submission.begin(client, asked)
    assert not submission.begin(client, asked)
    said = []
    assert submission.follow(client, "waits", said.append) == 7
    assert "".join(said).count("done\n") == 1


def chosen(folder):
    """Settings of a store that holds two selections, and their ids, the older first."""
    knobs = [
        f"store.uri={folder}/store",
        "where=here",
        "selection.method=random",
        "selection.unit=patches",
        "pretrain.epochs=2",
        "pretrain.batch=2",
    ]
    config = amend(tiny(), [*knobs, "selection.budget=8"])
    store = PatchStore(config.store.uri)
    store.create(rows.WIDTH)
    written = WriteRows(store.uri)(rows.scored("a" * 32, frames=6))
    store.commit(pa.concat_tables(written), rows.videos("a" * 32), rows.STAMP)
    for budget in (8, 12):
        choose.run(amend(config, [f"selection.budget={budget}"]))
    ids = store.open("selections").to_table(columns=["selection_id", "budget"]).to_pylist()
    return config, *(next(one["selection_id"] for one in ids if one["budget"] == budget) for budget in (8, 12))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_again_runs_once_on_the_cluster_is_followed_and_is_left_when_it_fails(asking, tmp_path, caplog):
    caplog.set_level("INFO")
    config, older, newer = chosen(tmp_path)
    before, asked = set(on_server()), retrain.request(config, older)
    assert submission.begin(submission.server(), asked)  # by a watcher that was killed while it followed
    retrain.begin(config, older, tries=2)
    assert {one: state for one, state in on_server().items() if one not in before} == {asked.id: "SUCCEEDED"}
    assert PatchStore(config.store.uri).holds(pretrain.model(config, older))
    assert not PatchStore(config.store.uri).holds(pretrain.model(config, newer))  # which the job pretrain would take unasked
    assert f"{asked.id} runs already" in caplog.text
    assert "pre-training" in caplog.text.partition("runs already")[2]  # what it writes there
    lost = retrain.request(config, "no-selection").id
    for attempt in (1, 2):
        with pytest.raises(RuntimeError, match=r"ended with code 1; its log there tells why"):
            retrain.begin(config, "no-selection", tries=2)
        assert len([one for one in on_server() if one.startswith(lost)]) == attempt
    with pytest.raises(RuntimeError, match="failed 2 times on the cluster and is not begun again"):
        retrain.begin(config, "no-selection", tries=2)
    assert len([one for one in on_server() if one.startswith(lost)]) == 2


def test_training_again_is_asked_for_by_all_that_it_depends_on_and_by_no_knob_of_watching(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = amend(tiny(), ["store.uri=store", "pretrain.epochs=3", "watch.selections=random:0.5", "watch.retrain=true"])
    asked = retrain.request(config, "random-1")
    assert asked.id == retrain.request(amend(config, ["watch.port=9000"]), "random-1").id
    others = {retrain.request(amend(config, ["pretrain.epochs=4"]), "random-1").id, retrain.request(config, "random-2").id}
    assert len(others | {asked.id}) == 3
    job, made, subject = parse(shlex.split(asked.entrypoint)[1:])
    assert (job, subject, made.selection.named, made.store.uri) == ("pretrain", [], "random-1", f"{tmp_path}/store")
    assert made.pretrain == config.pretrain
    assert pretrain.model(made, "random-1") == pretrain.model(config, "random-1")


def carried_out(name, entrypoint):
    """The exit code and the words of a command that the server runs as it stands, as it does those of a manifest."""
    client, said = submission.server(), []
    assert submission.begin(client, submission.Request(name, entrypoint))
    return submission.follow(client, name, said.append), "".join(said)


@pytest.mark.processes
def test_a_manifest_with_a_knob_that_is_no_more_ends_in_a_sentence(asking):
    spec = submit.manifest(asked("ingest", "tiny", "store.uri=/nowhere"))["spec"]
    code, said = carried_out("outdated", f"{spec['entrypoint']} patches.gone=1")
    assert code == 2
    assert "endocurate: there is no knob 'patches.gone'" in said
    assert "Traceback" not in said
    assert not Path("/nowhere").exists()


@pytest.mark.slow
def test_credentials_that_a_bucket_refuses_end_a_job_in_a_sentence(asking):
    told = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": "0", "PYTHONPATH": str(ROOT)}  # from then on moto asks who it is
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-m", "tests.crashes.bucket"], env=told, **quiet) as bucket:
        keys = f"AWS_ENDPOINT_URL=http://127.0.0.1:{bucket.stdout.readline().strip()} AWS_REGION=us-east-1 AWS_ALLOW_HTTP=true "
        keys += "AWS_ACCESS_KEY_ID=revoked AWS_SECRET_ACCESS_KEY=revoked"
        code, said = carried_out("refused", f"{keys} endocurate history store.uri=s3://bucket/store")
        bucket.kill()
    assert code == 1
    assert "endocurate history: the store s3://bucket/store cannot be reached: " in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("token", "sentence"),
    [("", "asks for a token: set RAY_AUTH_TOKEN to the one in the cluster's Secret"), ("b" * 64, "refuses the token of RAY_AUTH_TOKEN")],
)
@pytest.mark.processes
def test_a_missing_and_a_wrong_token_are_told_apart(asking, monkeypatch, capsys, token, sentence):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    refused(asking, ["submit", "datasets"], sentence, capsys)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ingest", "cluster", "store.uri=s3://a/b"], "ingest with these knobs is for GPUs and the cluster has none"),
        (["benchmark", "paper"], "benchmark with these knobs is for GPUs and the cluster has none; pretrain.precision in its matrix says"),
        (["ingest", "tiny"], "the smallest pools of ingest need 5.25 CPUs at once and the cluster has 3: take a larger one"),
    ],
)
@pytest.mark.processes
def test_a_cluster_that_cannot_begin_a_job_is_not_given_it(asking, capsys, words, sentence):
    before = on_server()
    refused(asking, ["submit", *words], sentence, capsys)
    assert on_server() == before


def refused(command, words, sentence, capsys, code=1):
    assert command(words) == code
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize(
    ("address", "sentence", "code"),
    [
        ("", "RAY_ADDRESS='' is no job server; expected its address, as in RAY_ADDRESS=http://127.0.0.1:8265", 2),
        ("auto", "RAY_ADDRESS='auto' is no job server", 2),
        ("http://me:hunter2@127.0.0.1:9", "RAY_ADDRESS holds a user or a password", 2),
        ("me:hunter2@127.0.0.1:9", "RAY_ADDRESS holds a user or a password", 2),
        ("http://127.0.0.1:9", "no job server answers at http://127.0.0.1:9: ", 1),
        ("http://no.such.host.invalid:8265", "no job server answers at http://no.such.host.invalid:8265: ", 1),
    ],
)
def test_an_address_where_nobody_answers_is_told(monkeypatch, capsys, address, sentence, code):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert "hunter2" not in refused(main, ["submit", "datasets"], sentence, capsys, code)


@pytest.mark.parametrize(
    ("address", "sentence"), [("foo", "RAY_API_SERVER_ADDRESS='foo' is no job server"), ("u:p@x", "RAY_API_SERVER_ADDRESS holds")]
)
def test_the_variable_that_was_read_is_the_one_that_is_told_of(monkeypatch, capsys, address, sentence):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    refused(main, ["submit", "datasets"], sentence, capsys, code=2)


def test_a_token_ends_before_the_newline_it_was_read_with(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", " s3cret\r\n")
    assert submission.headers() == {"Authorization": "Bearer s3cret"}


@pytest.mark.parametrize("token", ["s3cret\nX-Other: 1", "s3cret\u2013", "s3cret\x7f"])
def test_a_token_that_http_cannot_say_is_refused_by_its_variable_and_not_repeated(monkeypatch, tmp_path, token):
    for name, value in (("RAY_AUTH_TOKEN", token), ("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))):
        (tmp_path / "token").write_text(token)
        monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
        monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=f"^{name}\\b") as refusal:
            submission.headers()
        assert "s3cret" not in str(refusal.value)


def test_a_file_of_a_token_that_cannot_be_read_is_told_by_its_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    for path, why in (("/nowhere", "No such file"), (str(tmp_path), "Is a directory")):
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", path)
        with pytest.raises(ValueError, match=f"RAY_AUTH_TOKEN_PATH='{path}' is no file with a token: {why}"):
            submission.headers()


@pytest.mark.parametrize("said", ['{"data": null}', '{"data": {"result": {"result": [{"resources_total": null}]}}}', "[]", "<html>"])
def test_a_server_that_does_not_tell_its_nodes_is_told_of_in_a_sentence(monkeypatch, said):
    class Nodes(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_):
            pass

    other = http.server.HTTPServer(("127.0.0.1", 0), Nodes)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{other.server_port}")
    with pytest.raises(OSError, match="does not tell what nodes its cluster has: "):
        submission.room()
    other.shutdown()
    other.server_close()


def test_another_server_is_not_taken_for_a_job_server(monkeypatch, capsys):
    class Nothing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    other = http.server.HTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{other.server_port}")
    refused(main, ["submit", "datasets"], "is no job server of Ray", capsys)
    other.shutdown()


def test_a_server_that_is_gone_for_good_is_given_up_in_a_sentence(monkeypatch):
    class Version(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "one"}')

        def log_message(self, *_):
            pass

    once = http.server.HTTPServer(("127.0.0.1", 0), Version)
    threading.Thread(target=once.serve_forever, daemon=True).start()
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{once.server_port}")
    monkeypatch.setattr(submission, "LOST", 1.5)
    client = submission.server()
    once.shutdown()
    once.server_close()
    with pytest.raises(OSError, match=r"does not answer any more; when it does, the same command follows gone, or begins it anew"):
        submission.follow(client, "gone", print)


class Wire:
    """A client of a job server whose log breaks off after so many parts, each time it is asked; then it ends."""

    def __init__(self, parts, breaks):
        self.parts, self.breaks = parts, list(breaks)

    async def tail_job_logs(self, _):
        stop = self.breaks.pop(0) if self.breaks else None
        for part in self.parts[:stop]:
            yield part
        if stop is not None:
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def get_job_info(self, _):
        status = JobStatus.RUNNING if self.breaks else JobStatus.SUCCEEDED
        return JobDetails(type=JobType.SUBMISSION, entrypoint="", status=status, driver_exit_code=0)


def test_each_line_is_told_once_however_often_the_log_breaks_off(monkeypatch):
    monkeypatch.setattr(submission, "LOOK", 0.0)
    said, wire = [], Wire(["one\ntw", "o\n", "three\n"], breaks=[1, 0, 2, None])
    assert submission.follow(wire, "job", said.append) == 0
    assert "".join(said) == "one\ntwo\nthree\n"


@pytest.mark.processes
def test_who_stops_following_is_told_that_the_job_goes_on_and_how_it_is_stopped(asking):
    command = [sys.executable, "-m", "jobs", "submit", "datasets"]
    name = submit.request(["datasets"], parse(["datasets"])[1]).id
    assert submission.begin(submission.server(), submission.Request(name, "echo begun; sleep 60"))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert "begun\n" in following.stdout
        following.send_signal(signal.SIGINT)
        told = following.communicate(timeout=30)[1]
    assert on_server()[name] == "RUNNING"
    submission.server().stop_job(name)
    assert following.returncode == 130
    said = f"{name} goes on on the cluster: the same command follows it, `RAY_AUTH_MODE=token ray job stop {name}` stops it"
    assert told.splitlines()[-1] == f"endocurate submit: interrupted; {said}"


@pytest.fixture
def turned(monkeypatch):
    """A job server that takes the token at first, and refuses it once it is asked about a job."""

    class Turned(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.startswith("/api/version")
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(b'{"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "one"}' if known else b"")

        def log_message(self, *_):
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Turned)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{other.server_port}")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setattr(submission, "room", lambda: {"CPU": 64.0, "GPU": 8.0})
    yield submission.server()
    other.shutdown()
    other.server_close()


def test_a_token_refused_while_a_job_is_followed_ends_in_a_sentence(turned, capsys):
    with pytest.raises(PermissionError, match="refuses the token of RAY_AUTH_TOKEN"):
        submission.follow(turned, "job", print)
    refused(main, ["submit", "datasets"], "refuses the token of RAY_AUTH_TOKEN", capsys)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["submit"], "submit takes a job that runs on a cluster"),
        (["submit", "demo"], "submit takes a job that runs on a cluster"),
        (["submit", "--agian", "ingest"], "submit knows no --agian; expected --again, --kubernetes, --kubernetes=apply"),
        (["submit", "-k", "ingest"], "submit knows no -k; expected --again"),
        (["submit", "ingest", "--agian"], "'--agian' is no recipe"),
        (["submit", "digest"], "there is no job 'digest'"),
        (["submit", "ingest", "tiny", "watch.ones=true"], "there is no knob 'watch.ones'"),
    ],
)
def test_a_wrong_command_is_refused_before_the_server_is_asked(capsys, words, sentence):
    refused(main, words, sentence, capsys, code=2)


SEVERAL = {"data": {"result": {"result": [{"resources_total": {"CPU": 16.0, "GPU": 4.0}}] * 6}}}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ingest", "cluster", "videos.uri=s3://a/v"], "store.uri='store' is another place on each of the cluster's nodes"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://localhost:5000"], "tracking.uri='http://localhost:5000' is each node"),
    ],
)
def test_what_is_another_thing_on_each_node_is_not_given_to_several(monkeypatch, capsys, words, sentence):
    with JobServer(nodes=SEVERAL) as server:
        monkeypatch.setenv("RAY_ADDRESS", server.address)
        refused(main, ["submit", *words], sentence, capsys, code=2)
        assert not server.asked["begin"]


@pytest.mark.parametrize(("nodes", "lines"), [(SEVERAL, ["evaluate.uri, store.uri"]), (of_one(), [])])
def test_paths_are_taken_as_of_a_file_system_that_all_nodes_have_and_told_of_in_one_line(monkeypatch, caplog, nodes, lines):
    words = ["evaluate", "store.uri=/mnt/store", "evaluate.uri=/mnt/kvasir", "tracking.uri=http://mlflow:5000"]
    with JobServer([["done\n"]], nodes=nodes, job=[404, job("RUNNING"), job("SUCCEEDED", 0)]) as server:
        monkeypatch.setenv("RAY_ADDRESS", server.address)
        assert main(["submit", *words]) == 0
    told = [one.getMessage().partition(": ")[0] for one in caplog.records if one.levelname == "WARNING"]
    assert told == lines


# -- what is asked --------------------------------------------------------------------------------------------------------------


def asked(*words):
    return submit.request(list(words), parse(list(words))[1])


def test_the_id_is_that_of_job_knobs_and_commit_and_of_nothing_else(monkeypatch):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    same = asked("ingest", "tiny", "videos.batch=3", "store.uri=x").id
    assert same == asked("ingest", "tiny", "store.uri=x", "videos.batch=3").id
    others = {asked(*words).id for words in (["watch", "tiny"], ["ingest", "tiny"], ["ingest", "tiny", "videos.batch=4"], ["history"])}
    others |= {asked("explain", one).id for one in ("a", "b")}
    monkeypatch.setenv("ENDOCURATE_COMMIT", "ba9876543210")
    others.add(asked("ingest", "tiny", "videos.batch=3", "store.uri=x").id)
    assert len(others | {same}) == 8
    assert re.fullmatch(r"ingest-[0-9a-f]{12}", same)
    assert tracking.code_commit() == "ba9876543210"


def test_a_file_is_known_by_what_it_says_and_not_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    Path("run.yaml").write_text("recipe: tiny\nvideos: {batch: 3}")
    ids = {asked("ingest", path).id for path in ("run.yaml", "./run.yaml", str(tmp_path / "run.yaml"))}
    assert ids == {asked("ingest", "tiny", "videos.batch=3").id}
    Path("run.yaml").write_text("recipe: tiny\nvideos: {batch: 4}")
    assert asked("ingest", "run.yaml").id not in ids


def test_sql_may_begin_with_a_dash_and_hold_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    words = ["query", "store.uri=s3://a/b", "-- one\nSELECT * FROM videos WHERE frames = 1"]
    assert parse(["submit", "--again", *words])[1] == parse(words)[1]
    assert asked(*words).id != asked(*words[:2], words[2].replace("= 1", "= 2")).id
    (tmp_path / "my.yaml").write_text("store: {uri: s3://a/b}")
    assert shlex.split(asked("query", str(tmp_path / "my.yaml"), words[2]).entrypoint)[2] == words[2]


@pytest.mark.parametrize(
    "text",
    [
        'recipe: tiny\nstore: {uri: "s3://a b/c\'d"}\npatches: {box_sides: [0.2, 0.3], whole_frames: true}',
        "evaluate: {seeds: [3, 4], uri: /data/x}\nwatch: {once: true}",
    ],
)
def test_a_file_of_this_machine_goes_along_as_knobs(tmp_path, text):
    (tmp_path / "my.yaml").write_text(text)
    words = ["ingest", str(tmp_path / "my.yaml"), "videos.batch=5"]
    config = parse(words)[1]
    program, *there = shlex.split(submit.entrypoint(words, config))
    assert program == "endocurate"
    assert str(tmp_path) not in " ".join(there)
    assert parse(there)[1] == config


def test_what_needs_gpus_is_told_from_what_takes_them_where_there_are_any():
    assert needs.least("ingest", tiny())[1] == 0
    assert needs.least("watch", cluster())[1] == 0.75
    assert needs.least("ingest", amend(cluster(), ["difficulty.checkpoint=s3://a/scorer.safetensors"]))[1] == 0.75
    assert needs.least("ingest", cluster()) == (5.25, 4), "a scorer is trained first, by four workers"
    assert needs.least("probe", cluster()) == (5, 4)
    assert needs.least("probe", tiny()) == (2, 0)
    assert [needs.least(job, cluster())[1] for job in ("score", "rescore")] == [0.25, 0.25]
    assert needs.least("rescore", tiny())[1] == 0
    assert needs.least("pretrain", cluster()) == (5, 4)
    assert needs.least("pretrain", amend(cluster(), ["pretrain.workers=2", "pretrain.least_workers=1"])) == (2, 1)
    assert needs.of_entrypoint("evaluate", cluster()) == (1, 1)


RESNETS = {
    "pretrain": ["pretrain.architecture=simclr", "pretrain.simclr.encoder=resnet18", "pretrain.workers=2"],
    "probe": ["difficulty.scorer=simclr", "difficulty.simclr.encoder=resnet18", "probe.train.workers=2"],
}
RESNETS["ingest"] = RESNETS["probe"]


@pytest.mark.parametrize("job", RESNETS)
def test_batch_norms_that_workers_make_together_ask_for_their_gpus_in_float32_too(job):
    """A cluster that keeps no GPU node has its autoscaler bring those that it is asked for, and no others."""
    config = amend(tiny(), RESNETS[job])
    assert (config.pretrain.precision, config.probe.train.precision) == ("no", "no")
    assert needs.least(job, config)[1] == 2
    section = "pretrain" if job == "pretrain" else "probe.train"
    assert needs.least(job, amend(config, [f"{section}.least_workers=1"]))[1] == 1
    assert needs.least(job, amend(config, [f"{section}.workers=1"]))[1] == 0
    assert needs.least(job, amend(config, [RESNETS[job][1].replace("resnet18", "vit_tiny_patch16_224")]))[1] == 0
    assert needs.least(job, amend(config, ["where=here"]))[1] == 0, "one process sees the whole batch"
    told = rf"^{job} with these knobs is for GPUs .*; batch norms over several workers want one each, workers=1"
    with pytest.raises(ValueError, match=told):
        needs.refuse_small(job, config, {"CPU": 16.0, "GPU": 0.0})


SPREAD = {"ingest", "watch", "probe", "score", "rescore", "pretrain", "benchmark"}  # what Ray puts on the nodes, all by itself
SUBMITTED = sorted(set(JOBS) - {"demo", "browse", "submit"})


def reserved(job, config):
    return needs.of_entrypoint(job, config, ["small"] if job == "benchmark" else [])


@pytest.mark.parametrize("job", SUBMITTED)
def test_no_job_computes_on_the_head_whatever_job_comes_next(job):
    assert (reserved(job, cluster()) == (0, 0)) is (job in SPREAD)
    assert reserved(job, amend(tiny(), ["where=here"])) == (1, 0)
    for config in (tiny(), cluster(), amend(cluster(), ["where=here"])):
        words = ["small"] if job == "benchmark" else []
        assert all(least >= own for least, own in zip(needs.least(job, config, words), reserved(job, config), strict=True))


def test_what_is_done_in_one_process_has_a_gpu_where_its_recipe_is_for_one():
    here = amend(cluster(), ["where=here"])
    gpus = {job: reserved(job, here)[1] for job in SUBMITTED}
    assert {job for job, many in gpus.items() if many} == {*SPREAD - {"benchmark"}, "plan", "evaluate", "transfer"}
    assert needs.of_entrypoint("benchmark", here, ["paper"]) == (1, 1)
    with pytest.raises(ValueError, match="ingest with these knobs is for GPUs and the cluster has none"):
        needs.refuse_small("ingest", here, {"CPU": 16.0, "GPU": 0.0})
    assert reserved("plan", tiny())[1] == 0
    assert reserved("plan", amend(tiny(), ["plan.cpus=8", "plan.gpus=2"]))[1] == 1, "it measures on what it plans for"
    with pytest.raises(ValueError, match=r"plan with these knobs is for GPUs and the cluster has none; plan.gpus and patches.proposer say"):
        needs.refuse_small("plan", cluster(), {"CPU": 16.0, "GPU": 0.0})


def test_a_request_and_a_rayjob_reserve_what_the_job_takes(monkeypatch):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    made = asked("plan", "cluster", "plan.cpus=8", "plan.gpus=2")
    assert (made.cpus, made.gpus) == (1, 1)
    spec = submit.manifest(made)["spec"]
    assert (spec["entrypointNumCpus"], spec["entrypointNumGpus"]) == (1, 1)
    made = asked("benchmark", "paper", "where=here")
    assert (made.cpus, made.gpus) == (1, 1)


MATRIX = """
recipe: tiny
matrix:
  name: trial
  budgets: [0.5]
  architectures: {{plain: {{}}, mixed: {{pretrain: {{precision: bf16}}}}}}
  pools: {{regions: {{}}}}
  methods: {{{methods}}}
  sets: {{one: {{}}}}
"""


@pytest.mark.parametrize(
    ("methods", "words", "gpus"),
    [
        ("no pre-training: {}, random: {pool: regions}", [], 1),
        ("no pre-training: {}", [], 0),
        ("random: {pool: regions}", ["where=here"], 1),
        ("no pre-training: {}", ["where=here"], 0),
    ],
)
def test_a_benchmark_needs_a_gpu_where_any_cell_of_its_matrix_is_pretrained_in_mixed_precision(tmp_path, methods, words, gpus):
    (tmp_path / "m.yaml").write_text(MATRIX.format(methods=methods))
    job, config, asked = parse(["benchmark", *words, str(tmp_path / "m.yaml")])
    assert needs.least(job, config, asked)[1] == gpus
    assert needs.least("benchmark", tiny(), ["small"]) == (2, 0)


def test_a_cluster_too_small_for_the_training_of_a_scorer_is_refused_and_told_what_to_do_with_one_that_is_there():
    room = {"CPU": 16.0, "GPU": 2.0}
    with pytest.raises(
        ValueError, match=r"the smallest pools of ingest need 4 GPUs at once and the cluster has 2: .* as difficulty.checkpoint"
    ):
        needs.refuse_small("ingest", cluster(), room)
    needs.refuse_small("ingest", amend(cluster(), ["difficulty.checkpoint=s3://a/scorer.safetensors"]), room)
    with pytest.raises(ValueError, match="rescore with these knobs is for GPUs and the cluster has none"):
        needs.refuse_small("rescore", cluster(), {"CPU": 16.0, "GPU": 0.0})


# -- Kubernetes -----------------------------------------------------------------------------------------------------------------


EVALUATION = ["evaluate", "cluster", "store.uri=s3://a/b", "tracking.uri=http://mlflow:5000", "evaluate.uri=/data/x y"]


def test_the_manifest_is_a_rayjob_of_the_same_run_on_the_cluster_that_stands(capsys, monkeypatch):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    assert main(["submit", "--kubernetes", *EVALUATION]) == 0
    told = capsys.readouterr().out
    assert told.startswith("# kubectl apply -f -")
    made = yaml.safe_load(told)
    standing = named(platform("small"), "RayCluster", "endocurate")
    theirs = named(jobs("small"), "RayJob", "evaluate")["metadata"]
    assert theirs["namespace"] == standing["metadata"]["namespace"]
    name = asked(*EVALUATION).id
    assert made.pop("metadata") == {"name": name, "namespace": theirs["namespace"], "labels": theirs["labels"]}
    assert shlex.split(made["spec"].pop("entrypoint")) == ["endocurate", *EVALUATION]
    week = {"ttlSeconds": 7 * 86400}
    assert made == {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "spec": {  # no jobId: deleted and applied anew it would find its old run and end at once
            "metadata": {"job": "evaluate", "fingerprint": parse(EVALUATION)[1].fingerprint(), "commit": "0123456789ab"},
            "submissionMode": "HTTPMode",  # else a pod of a submitter would come, without our labels and mounts
            "backoffLimit": 0,  # KubeRay deletes the cluster of what it retries
            "clusterSelector": {"ray.io/cluster": standing["metadata"]["name"]},
            "entrypointNumCpus": 1.0,
            "entrypointNumGpus": 1.0,
            "deletionStrategy": {  # with a selector KubeRay refuses to delete a cluster, which is not the job's (validation.go)
                "deletionRules": [{"policy": "DeleteSelf", "condition": {"jobStatus": one} | week} for one in ("SUCCEEDED", "FAILED")]
            },
        },
    }


@pytest.mark.skipif(not KUBERAY.exists(), reason="KubeRay's definitions are not beside the checkout, in ../shared/data/kuberay")
@pytest.mark.parametrize("words", [EVALUATION, ["ingest", "tiny", "videos.uri=/data/videos", "store.uri=s3://a/b"], ["datasets"]])
def test_a_rayjob_that_is_made_follows_kuberays_definition(words):
    schema_of_kuberay("RayJob").validate(submit.manifest(asked(*words)))


def test_kubectl_is_given_what_is_printed_to_apply_it_so_that_the_same_twice_is_one(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    assert main(["submit", "--kubernetes", *EVALUATION]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "kubectl").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat > {tmp_path}/given\necho taken\n')
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert main(["submit", "--kubernetes=apply", *EVALUATION]) == 0
    assert capsys.readouterr().out == "taken\n"
    assert (tmp_path / "words").read_text() == "apply -f -\n"
    assert (tmp_path / "given").read_text() == printed


def test_without_kubectl_nothing_is_applied_and_a_refusal_is_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    words = ["ingest", "tiny", "videos.uri=/data/videos", "store.uri=s3://a/b"]
    refused(main, ["submit", "--kubernetes=apply", *words], "there is no kubectl on this machine", capsys)
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho 'error: no server\nat all' >&2\nexit 1\n")
    (tmp_path / "kubectl").chmod(0o755)
    refused(main, ["submit", "--kubernetes=apply", *words], "error: no server at all", capsys)


@pytest.mark.parametrize(
    ("words", "knob"),
    [
        (["ingest", "tiny", "store.uri=s3://a/b"], "videos.uri='videos'"),
        (["ingest", "tiny", "videos.uri=/data/videos", "store.uri=/home/me/store"], "store.uri='/home/me/store'"),
        (["ingest", "tiny", "videos.uri=/mnt/videos", "store.uri=s3://a/b"], "videos.uri='/mnt/videos'"),
        (["ingest", "tiny", "videos.uri=/data/../home/v", "store.uri=s3://a/b"], "videos.uri='/data/../home/v'"),
        (["ingest", "tiny", "videos.uri=local:///home/v", "store.uri=s3://a/b"], "videos.uri='local:///home/v'"),
        (["ingest", "videos.uri=s3://a/v", "store.uri=s3://a/b", "difficulty.checkpoint=/home/s"], "difficulty.checkpoint='/home/s'"),
        (["plan", "store.uri=s3://a/b", "videos.uri=/home/v"], "videos.uri='/home/v'"),
        (["evaluate", "store.uri=s3://a/b", "evaluate.uri=/home/x"], "evaluate.uri='/home/x'"),
        (["transfer", "store.uri=s3://a/b", "evaluate.uri=/data/x", "transfer.uri=targets"], "transfer.uri='targets'"),
        (["export", "store.uri=s3://a/b", "export.path=/data/out"], "export.path='/data/out'"),
        (["transfer-study", "study.uri=/home/x"], "study.uri='/home/x'"),
        (["benchmark", "small"], "benchmark.data='data'"),
        (["benchmark", "small", "benchmark.data=/data"], "benchmark.stores='stores'"),
        (["benchmark", "small", "benchmark.data=/data", "store.uri=s3://a/b"], "benchmark.stores='stores'"),
        (["history", "store.uri=store"], "store.uri='store'"),
        (["history", "store.uri=file:///tmp/store"], "store.uri='file:///tmp/store'"),
        (["history", "store.uri=/data/store"], "store.uri='/data/store'"),
        (["pretrain", "tiny"], "store.uri='store'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=sqlite:////home/me/mlflow.db"], "tracking.uri='sqlite:////home/me/mlflow.db'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=/data/mlruns"], "tracking.uri='/data/mlruns'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=file:///data/mlruns"], "tracking.uri='file:///data/mlruns'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=postgresql://db/mlflow"], "tracking.uri='postgresql://db/mlflow'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://localhost:5000"], "tracking.uri='http://localhost:5000'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://0.0.0.0:5000"], "tracking.uri='http://0.0.0.0:5000'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://127.0.1.1:5000"], "tracking.uri='http://127.0.1.1:5000'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://127.1:5000"], "tracking.uri='http://127.1:5000'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://[::ffff:127.0.0.1]:5000"], "tracking.uri='http://[::ffff:127.0.0.1]:5000'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://localhost.:5000"], "tracking.uri='http://localhost.:5000'"),
        (
            ["ingest", "cluster", "videos.uri=s3://a/v", "store.uri=s3://a/b", "patches.checkpoint=s3://a/sam.pth"],
            "patches.checkpoint='s3://a/sam.pth'",
        ),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://[::]:5000"], "tracking.uri='http://[::]:5000'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://[::1:5000"], "tracking.uri='http://[::1:5000'"),
        (["choose", "store.uri=s3://a/b", "tracking.uri=http://"], "tracking.uri='http://'"),
        (["benchmark", "paper", "benchmark.estimate=true", "tracking.uri=mlruns"], "tracking.uri='mlruns'"),
    ],
)
def test_a_folder_of_this_machine_is_not_given_to_pods(capsys, monkeypatch, words, knob):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    refused(main, ["submit", "--kubernetes", *words], f"{knob} is nowhere that pods can ", capsys, code=2)


@pytest.mark.parametrize("words", [["submit"], ["submit", "--kubernetes"], ["submit", "--kubernetes=apply"]])
@pytest.mark.parametrize(
    "address",
    [
        "tracking.uri=http://me:hunter2@mlflow:5000",
        "tracking.uri=postgresql://me:hunter2@db/mlflow",
        "tracking.uri=http://me:hunter2/@mlflow:5000",
        "videos.uri=s3://me:hunter2@bucket/videos",
        "store.uri=az://me:hunter2@bucket/store",
        "difficulty.checkpoint=s3://me:hunter2@bucket/scorer",
    ],
)
def test_an_address_with_a_password_is_not_given_away(capsys, monkeypatch, tmp_path, words, address):
    """Neither on the command line nor in a file whose knobs go along; and no server is asked."""
    monkeypatch.setenv("RAY_ADDRESS", "")
    knob, _, value = address.partition("=")
    section, _, name = knob.partition(".")
    (tmp_path / "run.yaml").write_text(f"{section}: {{{name}: {value!r}}}")
    usual = [one for one in ("videos.uri=s3://a/v", "store.uri=s3://a/b") if not one.startswith(knob)]
    for told in ([*usual, address], [str(tmp_path / "run.yaml"), *usual]):
        assert main([*words, "ingest", *told]) == 2
        said = capsys.readouterr()
        assert f"{knob} holds a user or a password" in said.err
        assert said.err.count("\n") == 1
        assert "hunter2" not in said.err + said.out


@pytest.mark.parametrize("name", ["sig", "X-Amz-Signature", "X-Goog-Signature", "x-amz-security-token", "token", "sv=1&Password"])
@pytest.mark.parametrize("knob", ["videos.uri", "tracking.uri", "difficulty.checkpoint"])
def test_an_address_that_carries_a_signature_is_not_given_away(capsys, monkeypatch, knob, name):
    monkeypatch.setenv("RAY_ADDRESS", "")
    usual = [one for one in ("videos.uri=s3://a/v", "store.uri=s3://a/b") if not one.startswith(knob)]
    for words in (["submit"], ["submit", "--kubernetes"]):
        assert main([*words, "ingest", *usual, f"{knob}=https://store.example/of/it?{name}=hunter2"]) == 2
        said = capsys.readouterr()
        assert f"{knob} holds a signature, a token or a password" in said.err
        assert said.err.count("\n") == 1
        assert "hunter2" not in said.err + said.out


@pytest.mark.parametrize(
    "words",
    [
        ["datasets"],
        ["ingest", "tracking.uri=https://mlflow.example/ab?design=2", "videos.uri=s3://a/b@c", "store.uri=s3://a/b"],
        ["ingest", "videos.uri=/data/videos", "store.uri=s3://a/b", "difficulty.checkpoint=s3://a/s"],
        ["ingest", "cluster", "videos.uri=s3://a/v", "store.uri=s3://a/b", "patches.checkpoint=/data/sam.pth"],
        ["choose", "store.uri=s3://a/b", "tracking.uri=http://10.0.0.7:5000"],
        ["evaluate", "store.uri=s3://a/b", "evaluate.uri=/data/x"],
        ["benchmark", "small", "benchmark.data=/data", "benchmark.stores=s3://a"],
        ["benchmark", "paper", "benchmark.estimate=true"],
        ["transfer-study", "study.uri=file:///data/x", "output.path=s3://a/b.json", "output.format=json"],
    ],
)
def test_buckets_and_what_lies_on_the_claim_are_given_to_pods(capsys, monkeypatch, words):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    assert main(["submit", "--kubernetes", *words]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["kind"] == "RayJob"


def test_the_sentence_says_that_the_claim_is_read_and_not_written_to():
    with pytest.raises(ValueError, match=r"can read: name a bucket, or what lies below /data$"):
        pods.refuse_local("ingest", amend(tiny(), ["videos.uri=v"]))
    with pytest.raises(ValueError, match=r"can read: name a file below /data$"):
        pods.refuse_local("ingest", amend(cluster(), ["videos.uri=s3://a/v", "store.uri=s3://a/b", "patches.checkpoint=/weights/sam.pth"]))
    with pytest.raises(ValueError, match=r"can read: name a folder below /data$"):
        pods.refuse_local("evaluate", amend(tiny(), ["evaluate.uri=v"]))
    with pytest.raises(ValueError, match=r"can write: name a bucket$"):
        pods.refuse_local("history", tiny())


def test_a_rayjob_is_not_run_again_by_a_word_that_is_of_the_job_server(capsys, monkeypatch):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    name = asked("datasets").id
    refused(main, ["submit", "--again", "--kubernetes", "datasets"], f"kubectl delete rayjob {name} -n endocurate", capsys, code=2)


@pytest.mark.parametrize(("words", "lines"), [([], 1), (["tracking.uri=http://mlflow:5000"], 0)])
def test_runs_that_will_be_on_no_server_are_told_of_in_one_line(caplog, monkeypatch, words, lines):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    assert main(["submit", "--kubernetes", "choose", "store.uri=s3://a/b", *words]) == 0
    assert [one.getMessage().partition(":")[0] for one in caplog.records] == ["tracking.uri is empty"] * lines
    assert main(["submit", "--kubernetes", "datasets"]) == 0
    assert len(caplog.records) == lines, "it keeps no runs"


def test_every_job_that_keeps_runs_is_known_to():
    keeping = {job for job in JOBS if "tracking.running(" in (ROOT / "jobs" / f"{job.replace('-', '_')}.py").read_text()}
    assert keeping - {"demo"} <= set(submit.TRACKED) <= set(JOBS)
