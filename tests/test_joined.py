"""Jobs that join a cluster themselves, as the entrypoint of a RayJob does: what it lacks is told before anything is made."""

import subprocess
import sys
import tempfile

import pytest

from engine import flow
from engine.flow.nodes import parts
from engine.knobs import amend, flat
from jobs.recipes import tiny
from tests.raylets import ROOT, Cluster, surroundings
from tests.test_submit import chosen

pytestmark = pytest.mark.processes

NONE = "with these knobs is for GPUs and the cluster has none; patches.proposer and precision say what it can do without; "
NONE += "where its autoscaler keeps no GPU node, give it some first (step 4 of cluster/README.md)"
FOR_GPUS = ["pretrain.workers=2", "pretrain.precision=bf16"]


@pytest.fixture(scope="module")
def joining():
    """What a process is told that joins a cluster of seven processors, no GPU and no autoscaler."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray-") as folder, Cluster(folder, cpus=7) as made:
        made.begin()
        yield surroundings(RAY_ADDRESS=f"127.0.0.1:{made.gcs}")


def run(environment, *words):
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.timeout(600)
def test_an_ingest_for_gpus_does_not_begin_on_a_cluster_without(joining, tmp_path):
    (tmp_path / "videos").mkdir()
    words = ["ingest", "cluster", f"videos.uri={tmp_path}/videos", f"store.uri={tmp_path}/store"]
    ended = run(joining, sys.executable, "-m", "jobs", *words)
    assert ended.returncode == 1, ended.stderr
    said = "endocurate ingest: ingest with these knobs is for GPUs and the cluster has none; patches.proposer and precision say"
    assert ended.stderr.splitlines()[-1].startswith(said), "before it Ray tells of its own logs"
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "store").exists()


BEGUN = """
import sys
from engine import flow
from engine.knobs import amend
from engine.models import TrainConfig
from jobs import needs, pretrain, probe, training
from jobs.recipes import tiny
config = amend(tiny(), sys.argv[1:])
for begin in (lambda: pretrain.run(config), lambda: probe.run(amend(config, ["probe.train.precision=bf16"]))):
    try:
        begin()
    except ValueError as error:
        print(error)
try:
    training.carry_out(config, config.pretrain, None, "amid")
except flow.ClusterError as error:
    print(error)
needs.await_nodes("ingest", config)
print("one that takes GPUs where there are any begins")
"""


@pytest.mark.timeout(600)
def test_neither_does_a_training_nor_goes_on_where_the_gpus_went_meanwhile(joining, tmp_path):
    config, *_ = chosen(tmp_path)
    before = flat(tiny())
    knobs = [f"{name}={value}" for name, value in flat(config).items() if value != before[name] and name != "where"]
    ended = run(joining, sys.executable, "-c", BEGUN, *knobs, "selection.budget=12", *FOR_GPUS)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        *(f"{job} {NONE}" for job in ("pretrain", "probe")),
        "the job needs 2 GPUs at once and the Ray cluster has 0: add nodes or lower the actors in the job",
        "one that takes GPUs where there are any begins",
    ]
    assert not list((tmp_path / "store").glob("runs/*"))


def test_a_machine_of_ones_own_is_no_cluster_and_goes_on_with_what_it_has(monkeypatch):
    from jobs import needs

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    needs.await_nodes("pretrain", amend(tiny(), FOR_GPUS))
    needs.await_workers(amend(tiny(), FOR_GPUS).pretrain)
    assert not flow.awaited(1, 0)


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [
        (5.25, 0.75, [{"CPU": 1, "GPU": 0.75}, *[{"CPU": 1}] * 4, {"CPU": 0.25}]),
        (5, 4, [*[{"CPU": 1, "GPU": 1}] * 4, {"CPU": 1}]),
        (2, 0, [{"CPU": 1}] * 2),
        (1, 2, [{"CPU": 1, "GPU": 1}, {"GPU": 1}]),
    ],
)
def test_no_part_that_is_asked_for_is_larger_than_a_node(cpus, gpus, expected):
    assert parts(cpus, gpus) == expected
