"""Whether what the pods of cluster/ are told fits what the programs in them do."""

import os
import subprocess
import sys

import pytest

from tests import kustomize
from tests.manifests import SIZES, clusters

DISK = "from ray.dashboard.modules.reporter.reporter_agent import ReporterAgent as Agent; print(Agent._get_disk_usage('/tmp')['/'].total)"


def environment(container):
    """{name: value} of what a container is told in plain words."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


@pytest.mark.parametrize("size", SIZES)
def test_every_ray_node_tells_of_its_disk_which_ray_keeps_silent_of_in_pods(size):
    """Asked of Ray's own reporter, which reads both words when it is imported: alerts and dashboard are by what it tells."""
    told = [environment(one) for spec in clusters(size).values() for one in kustomize.containers(spec)]
    (word,) = {tuple(sorted((name, value) for name, value in one.items() if "DISK" in name)) for one in told}
    pod = os.environ | {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    asked = [dict(pod), dict(pod) | dict(word)]
    silent, telling = (int(subprocess.run([sys.executable, "-c", DISK], env=one, capture_output=True, check=True).stdout) for one in asked)
    assert silent == 1 < telling
