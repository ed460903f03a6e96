import http.server
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from engine import tracking
from engine.flow import submission
from engine.knobs import amend
from engine.store import PatchStore, WriteRows
from jobs import choose, needs, pretrain, retrain, submit
from jobs.__main__ import main, parse
from jobs.recipes import cluster, tiny
from tests import rows
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


def test_a_job_that_failed_says_why_and_is_begun_anew_under_the_next_number(asking, capsys):
    before = set(on_server())
    for attempt in (1, 2):
        assert asking(["submit", "history", "store.uri=/nowhere"]) == 2  # the job's own
        told = capsys.readouterr().out
        assert "endocurate: store.uri='/nowhere'" in told
        assert len(set(on_server()) - before) == attempt


def test_who_asks_for_a_running_id_follows_it(asking):
    client = submission.server()
    asked = submission.Request("waits", "sleep 2; echo done; exit 7")
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
def test_a_cluster_that_cannot_begin_a_job_is_not_given_it(asking, capsys, words, sentence):
    before = on_server()
    refused(asking, ["submit", *words], sentence, capsys)
    assert on_server() == before


def refused(command, words, sentence, capsys, code=1):
    assert command(words) == code
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "RAY_ADDRESS='' is no job server; expected its address, as in RAY_ADDRESS=http://127.0.0.1:8265"),
        ("auto", "RAY_ADDRESS='auto' is no job server"),
        ("http://127.0.0.1:9", "no job server answers at http://127.0.0.1:9: "),
        ("http://no.such.host.invalid:8265", "no job server answers at http://no.such.host.invalid:8265: "),
    ],
)
def test_an_address_where_nobody_answers_is_told(monkeypatch, capsys, address, sentence):
    monkeypatch.setenv("RAY_ADDRESS", address)
    refused(main, ["submit", "datasets"], sentence, capsys)


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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["submit"], "submit takes a job that runs on a cluster"),
        (["submit", "demo"], "submit takes a job that runs on a cluster"),
        (["submit", "--agian", "ingest"], "submit knows no --agian; expected --again, --kubernetes, --kubernetes=apply"),
        (["submit", "digest"], "there is no job 'digest'"),
        (["submit", "ingest", "tiny", "watch.ones=true"], "there is no knob 'watch.ones'"),
    ],
)
def test_a_wrong_command_is_refused_before_the_server_is_asked(capsys, words, sentence):
    refused(main, words, sentence, capsys, code=2)


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
    assert needs.of_entrypoint("ingest", cluster()) == (0, 0)


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
        ("random: {pool: regions}", ["where=here"], 0),
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


def test_the_manifest_is_a_rayjob_of_the_same_run_on_the_cluster_that_stands(capsys, monkeypatch):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    words = ["evaluate", "cluster", "store.uri=s3://a/b", "tracking.uri=http://mlflow:5000", "evaluate.uri=/data/x y"]
    assert main(["submit", "--kubernetes", *words]) == 0
    told = capsys.readouterr().out
    assert told.startswith("# kubectl apply -f -")
    made = yaml.safe_load(told)
    assert shlex.split(made["spec"]["entrypoint"])[1:] == words
    assert made["metadata"]["name"] == asked(*words).id
    assert "jobId" not in made["spec"], "deleted and applied anew it would find its old run and end at once"
    assert made["spec"]["backoffLimit"] == 0, "KubeRay deletes the cluster of what it retries"
    standing = yaml.safe_load((ROOT / "cluster/raycluster/raycluster.yaml").read_text())["metadata"]["name"]
    assert made["spec"]["clusterSelector"] == {"ray.io/cluster": standing}
    from tests import test_cluster

    if test_cluster.KUBERAY.exists():
        test_cluster.schema_of_kuberay("RayJob").validate(made)


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
        (["ingest", "tiny", "videos.uri=/mnt/videos", "store.uri=/home/me/store"], "store.uri='/home/me/store'"),
        (["history", "store.uri=store"], "store.uri='store'"),
        (["history", "store.uri=file:///tmp/store"], "store.uri='file:///tmp/store'"),
        (["history", "store.uri=/data/store"], "store.uri='/data/store'"),
        (["pretrain", "tiny"], "store.uri='store'"),
    ],
)
def test_a_folder_of_this_machine_is_not_given_to_pods(capsys, monkeypatch, words, knob):
    monkeypatch.setenv("ENDOCURATE_COMMIT", "0123456789ab")
    refused(main, ["submit", "--kubernetes", *words], f"{knob} is a folder of this machine, which pods have not", capsys)
    assert main(["submit", "--kubernetes", "datasets"]) == 0  # which reads neither
