"""Whether tries, times, memory, disks and what is paid for in the manifests of cluster/ are enough for what its README says of them."""

import re
from zoneinfo import ZoneInfo

import pytest

from engine.knobs import flat
from tests import kustomize
from tests.manifests import CLUSTER, SIZES, amount, asked, clusters, jobs, named, platform, ray_jobs

README = re.sub(r"\s+", " ", (CLUSTER / "README.md").read_text())
COUNTS = {"an": 1, "a": 1, "two": 2, "thirty": 30}
SECONDS = {"hour": 3600, "day": 86400, "week": 7 * 86400}
OF_ITS_OWN = ("videos.uri", "watch.", "selection.")  # knobs by which jobs of one store differ
MLFLOW_GIB = 0.6  # its processes with two workers and one run (notebooks/LOG.md)
FILLED_GIB = 10  # more than the 2.6 GB of SAM's weights and the pictures of some test sets, or a database


# -- one job after another ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_every_job_finds_what_the_one_before_it_left(size):
    """What is chosen, pre-trained and evaluated is told by the knobs, so these are the same; `benchmark` has pools of its own."""
    told = {name: flat(asked(spec, size)[1]) for name, spec in ray_jobs(size).items() if name != "benchmark"}
    assert told["choose"] == told["pretrain"] == told["evaluate"]
    assert told["watch"] | {"watch.once": True} == told["watch-by-the-clock"]
    for name, knobs in told.items():
        assert [knob for knob, value in knobs.items() if value != told["ingest"][knob] and not knob.startswith(OF_ITS_OWN)] == [], name


# -- how often, and for how long ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_job_is_begun_again_when_it_failed(size):
    assert [name for name, spec in ray_jobs(size).items() if spec.get("backoffLimit", 0) < 1] == []


def seconds(told):
    """How long "two weeks" are."""
    count, unit = told.split()
    return int(COUNTS.get(count, 0) or count) * SECONDS[unit.removesuffix("s")]


def test_a_try_may_take_as_long_as_the_readme_says_and_waits_so_long_for_its_nodes():
    (waits, tries) = re.findall(r"A RayJob waits (.+?) for its nodes; a try may take (.+?) and of `watch` for ever", README)[0]
    told = {name: seconds(time) for time, names in re.findall(r"(\w+ \w+) \(([^)]+)\)", tries) for name in re.findall(r"`(.+?)`", names)}
    for size in SIZES:
        specs = ray_jobs(size)
        assert {name: spec["activeDeadlineSeconds"] for name, spec in specs.items() if "activeDeadlineSeconds" in spec} == told
        assert {spec["preRunningDeadlineSeconds"] for spec in specs.values()} == {seconds(waits)}


def test_the_clock_strikes_once_a_night_at_an_hour_that_there_is_and_a_try_is_over_before_the_next():
    (spec,) = (one["spec"] for one in jobs("small") if one["kind"] == "RayCronJob")
    minute, hour, *others = spec["schedule"].split()
    assert int(minute) in range(60)
    assert int(hour) in range(24)
    assert others == ["*", "*", "*"]
    assert ZoneInfo(spec["timeZone"])
    assert spec["jobTemplate"]["activeDeadlineSeconds"] < 86400


# -- nodes ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_rays_autoscaler_understands_of_a_cluster_what_the_manifest_means(size):
    """By the function with which it reads a RayCluster: nodes come all at once, and have what their pods ask for."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as understood

    for name, spec in clusters(size).items():
        made = understood({"metadata": {"name": name, "namespace": "endocurate"}, "spec": spec})
        decode, models = spec["workerGroupSpecs"]
        kinds = made["available_node_types"]
        assert made["upscaling_speed"] >= decode["maxReplicas"] + models["maxReplicas"], "else they come a few at a time, each in minutes"
        assert {kind: (one["min_workers"], one["max_workers"]) for kind, one in kinds.items() if kind != made["head_node_type"]} == {
            group["groupName"]: (group["minReplicas"], group["maxReplicas"]) for group in (decode, models)
        }
        assert kinds[made["head_node_type"]]["resources"]["CPU"] == 0
        for group in (decode, models):
            (container,) = kustomize.containers(group)
            wanted = container["resources"]["requests"]
            told = kinds[group["groupName"]]["resources"]
            assert (told["CPU"], told.get("GPU", 0)) == (int(wanted["cpu"]), int(wanted.get("nvidia.com/gpu", 0)))
            assert told["memory"] == amount(wanted["memory"]) * 2**30


@pytest.mark.parametrize("size", SIZES)
def test_every_kind_of_spot_node_that_is_preferred_is_borne_by_its_taint(size):
    for spec in clusters(size).values():
        pod = spec["workerGroupSpecs"][1]["template"]["spec"]
        terms = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        preferred = {(one["key"], *one["values"]) for term in terms for one in term["preference"]["matchExpressions"]}
        assert {(one["key"], one["value"]) for one in pod["tolerations"] if one["operator"] == "Equal"} == preferred
        assert [one["key"] for one in pod["tolerations"] if one["operator"] == "Exists"] == ["nvidia.com/gpu"]


# -- servers, memory and disks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_of_no_server_are_there_ever_two_since_each_writes_to_a_place_of_its_own(size):
    for one in platform(size):
        if one["kind"] in ("Deployment", "StatefulSet"):
            assert one["spec"]["replicas"] == 1
            assert one["kind"] == "StatefulSet" or one["spec"]["strategy"] == {"type": "Recreate"}, "two may not migrate one database"


@pytest.mark.parametrize("size", SIZES)
def test_no_limit_is_below_what_is_asked_for_and_mlflow_has_the_memory_that_it_takes(size):
    for container in kustomize.containers([*platform(size), *jobs(size)]):
        told = container["resources"]
        for kind, most in told["limits"].items():
            assert amount(most) >= amount(told["requests"][kind]), container["name"]
    (tracker,) = kustomize.containers(named(platform(size), "Deployment", "mlflow"))
    assert "--workers=2" in tracker["args"]
    assert amount(tracker["resources"]["requests"]["memory"]) > MLFLOW_GIB


@pytest.mark.parametrize("size", SIZES)
def test_claims_are_large_enough_for_what_is_put_on_them(size):
    claims = [one["spec"] for one in platform(size) if one["kind"] == "PersistentVolumeClaim"]
    claims += [claim["spec"] for one in platform(size) for claim in one.get("spec", {}).get("volumeClaimTemplates", [])]
    assert len(claims) == (2 if size == "large" else 3)
    assert [one for one in claims if amount(one["resources"]["requests"]["storage"]) < FILLED_GIB] == []
