"""What Ray's autoscaler decides for the node groups of cluster/, by its fake provider: real raylets, started and ended as it says."""

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress

import psutil
import pytest
import yaml

from engine.flow import submission
from tests.crashes import strikes, trials
from tests.raylets import ROOT, TOKEN, Cluster, surroundings, until
from tests.submitted import BATCH_IN_HAND, asked
from tests.test_cluster_chaos import CLIPS, right

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("commit")]
HEAD = "f" * 51 + "00000"  # the id that the provider takes its head to have
IDLE_S = 30


def groups():
    """Kinds of nodes as the fake provider takes them: those of the manifest, but none with a GPU stands for nothing."""
    manifest = yaml.safe_load((ROOT / "cluster/raycluster/raycluster.yaml").read_text())
    made = {"ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}}
    for group in manifest["spec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        asked = container["resources"]["requests"]
        held = {"CPU": int(asked["cpu"]), "GPU": int(asked.get("nvidia.com/gpu", 0)), "object_store_memory": 150_000_000}
        least = 0 if held["GPU"] else group["minReplicas"]
        made[group["groupName"]] = {
            "resources": held,
            "node_config": {},
            "min_workers": least,
            "max_workers": group["maxReplicas"],
        }
    return made


class Scaled(Cluster):
    """A cluster whose nodes are the autoscaler's to start and to end; they are of the head's session."""

    def begin(self):
        provider = {"type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"}
        provider |= {"gcs_address": f"{self.ip}:{self.gcs}", "head_node_id": HEAD, "launch_multiple": True, "disable_node_updaters": True}
        config = {"cluster_name": "fake", "max_workers": 8, "idle_timeout_minutes": IDLE_S / 60, "provider": provider}
        config |= {"available_node_types": groups(), "head_node_type": "ray.head.default", "upscaling_speed": 1.0}
        config |= {name: [] for name in ("head_setup_commands", "worker_setup_commands", "setup_commands", "initialization_commands")}
        config |= {name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")} | {
            "file_mounts_sync_continuously": False
        }
        config |= {"file_mounts": {}, "auth": {}, "docker": {}, "head_start_ray_commands": [], "worker_start_ray_commands": []}
        path = self.folder / "autoscaling.json"
        path.write_text(json.dumps(config))
        told = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1"}
        told |= {"RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
        super().begin(f"--autoscaling-config={path}", environment=surroundings(**told))

    def kinds(self):
        """How many nodes of each group are there."""
        return {kind: len(ids) for kind, ids in self.ids().items()}

    def ids(self):
        """The ids of the nodes of each group that has any."""
        found = defaultdict(set)
        for node in self.alive():
            held = node["resources_total"]
            if held.get("CPU"):
                found["models" if held.get("GPU") else "decode"].add(node["node_id"])
        return dict(found)

    def lose(self, node_id):
        """SIGKILL to a raylet: its workers go with it."""
        for one in self.head.members():
            with suppress(psutil.Error):
                if f"--node_id={node_id}" in one.cmdline():
                    one.kill()


def waits_for(true, patience=400):
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < patience
        time.sleep(1)
    return time.monotonic() - began


def test_pools_bring_the_kind_of_node_that_they_want_and_what_nobody_wants_goes(tmp_path, monkeypatch):
    """A GPU node comes for a job that takes a GPU, another in its place for the pools of an ingest that lost it, and goes after them."""
    trials.make_clips(tmp_path, CLIPS)
    assert trials.finish(trials.ingest(tmp_path, tmp_path / "undisturbed")) == 0
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as folder, Scaled(folder) as cluster:
        cluster.begin()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        print(f"the decoding node came after {waits_for(lambda: cluster.kinds() == {'decode': 1}):.0f} s")
        client = submission.server()
        submission.begin(client, submission.Request("holds", "sleep 10000", cpus=1, gpus=0.25))  # as an evaluation would, which takes one
        print(f"a GPU node came after {waits_for(lambda: cluster.kinds() == {'decode': 1, 'models': 1}):.0f} s")
        before = cluster.ids()
        asking = cluster.submit("ingest", "tiny", *(words := asked("ingest", tmp_path, tmp_path / "store")))
        until(lambda: cluster.head.works_on(BATCH_IN_HAND), asking)
        client.stop_job("holds")
        (lost,) = before["models"]
        cluster.lose(lost)
        came = waits_for(lambda: cluster.ids().get("models", {lost}) != {lost})
        print(f"another GPU node came {came:.0f} s after the first was killed")
        assert cluster.ids()["decode"] == before["decode"]
        assert asking.code() == 0, asking.told
        print(f"the GPU node went {waits_for(lambda: cluster.kinds() == {'decode': 1}):.0f} s after the ingest")
        assert cluster.ids() == {"decode": before["decode"]}
    right(tmp_path / "store", words, strikes.rows_of(str(tmp_path / "undisturbed")))


AWAITED = """
import sys
from engine import flow
from engine.knobs import amend
from jobs import needs
from jobs.recipes import cluster
try:
    needs.await_nodes("pretrain", amend(cluster(), ["pretrain.workers=512", "pretrain.batch=512"]))
except ValueError as error:
    print(error)
needs.await_nodes("watch", cluster())
print(flow.resources([]))
"""


def test_a_job_for_gpus_waits_for_those_that_the_autoscaler_can_bring_and_is_refused_where_it_can_not():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as folder, Scaled(folder) as cluster:
        cluster.begin()
        waits_for(lambda: cluster.kinds() == {"decode": 1})
        environment = surroundings(RAY_ADDRESS=f"127.0.0.1:{cluster.gcs}", RAY_SCHEDULER_EVENTS="0")
        ended = subprocess.run([sys.executable, "-c", AWAITED], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        refused, found = ended.stdout.splitlines()
        assert refused.startswith("pretrain with these knobs is for GPUs and the cluster has none"), ended.stderr
        assert float(found.strip("()").split(", ")[1]) == cluster.holds("GPU") >= 0.75
        assert cluster.kinds() == {"decode": 1, "models": 1}
