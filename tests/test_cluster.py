import copy
import ipaddress
import json
import math
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from engine import fleet as fleets
from engine import metrics, plan
from jobs import fleet, matrix, needs
from jobs.__main__ import main, parse
from tests import kustomize
from tests.manifests import (
    CLUSTER,
    FILES,
    KUBERAY,
    ROOT,
    SIZES,
    TIMES,
    amount,
    asked,
    clusters,
    commands,
    everything,
    expanded,
    jobs,
    named,
    platform,
    ray_jobs,
    schema_of_kuberay,
    understood,
)

OWN_KINDS = ("PodMonitor", "PrometheusRule")  # of the Prometheus operator, whose schemas are in no package


# -- what is applied ------------------------------------------------------------------------------------------------------------


def test_no_file_names_a_package_registry_or_a_path_of_a_machine():
    for path in [*FILES, CLUSTER / "README.md"]:
        text = path.read_text()
        assert set(re.findall(r"://([\w.-]+\.[a-z]+)\b", text)) <= {"github.com"}, path  # of all hosts outside the cluster
        assert not re.search(rf"index-url|--index|channels?:|{Path.home()}/|{ROOT.parent}/", text), path


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl to hold the reader of tests/kustomize.py against")
@pytest.mark.parametrize("folder", [f"{size}{part}" for size in SIZES for part in ("", "/jobs")])
def test_the_reader_builds_what_kubectl_builds(folder):
    told = subprocess.run(["kubectl", "kustomize", str(CLUSTER / "overlays" / folder)], capture_output=True, text=True, check=True).stdout
    theirs = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(told)}
    assert {(one["kind"], one["metadata"]["name"]): one for one in kustomize.build(CLUSTER / "overlays" / folder)} == theirs


def test_every_object_of_kubernetes_follows_its_schema_and_no_other_word_is_in_it():
    for one in everything():
        if not one["kind"].startswith("Ray") and one["kind"] not in OWN_KINDS:
            kubernetes_validate.validate(one, "1.37", strict=True)


def test_the_pod_that_fills_the_claim_follows_its_schema_and_writes_where_jobs_read():
    pod = yaml.safe_load((CLUSTER / "fill.yaml").read_text())
    kubernetes_validate.validate(pod, "1.37", strict=True)
    (claim,) = (one["spec"]["volumes"][1] for one in [clusters("small")["ingest"]["headGroupSpec"]["template"]])
    assert pod["spec"]["volumes"] == [claim]
    (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
    head = clusters("small")["ingest"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert mount | {"readOnly": True} in head["volumeMounts"]


def test_one_line_names_the_bucket_and_the_readme_names_the_line():
    naming = [
        line.strip() for path in FILES if path.suffix in (".yaml", ".json") for line in path.read_text().splitlines() if "s3://" in line
    ]
    assert sorted(line for line in naming if "#s3://" not in line) == ["ENDOCURATE_BUCKET: s3://endocurate"]
    assert "`ENDOCURATE_BUCKET` in `base/storage.yaml`" in re.sub(r"\s+", " ", (CLUSTER / "README.md").read_text())


@pytest.mark.parametrize("size", SIZES)
def test_the_region_is_told_under_the_name_that_botocore_reads_too(size):
    from botocore.session import Session

    _, name, *_ = Session.SESSION_VARIABLES["region"]
    storage = named(platform(size), "ConfigMap", "endocurate-storage")["data"]
    assert storage[name] == storage["AWS_REGION"]
    server = named(platform(size), "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]
    told = {one["name"]: one.get("valueFrom") for one in server["env"]}
    assert told[name] == {"configMapKeyRef": {"name": "endocurate-storage", "key": name}}


def test_another_bucket_in_that_line_is_that_of_every_job_and_server(tmp_path):
    copy = tmp_path / "cluster"
    shutil.copytree(CLUSTER, copy)
    line = copy / "base" / "storage.yaml"
    line.write_text(line.read_text().replace("s3://endocurate", "s3://elsewhere"))
    servers = kustomize.build(copy / "overlays" / "small")
    storage = named(servers, "ConfigMap", "endocurate-storage")["data"]
    run = named(servers, "ConfigMap", "endocurate-run")["data"]["run.yaml"]
    for name, spec in ray_jobs("small").items():  # which the overlay of the jobs does not change
        _, config, _ = understood(expanded(spec["entrypoint"], storage), run)
        assert config.store.uri == ("s3://elsewhere/stores/sam" if name == "benchmark" else "s3://elsewhere/store")
        if name in ("ingest", "watch", "watch-by-the-clock"):
            assert config.videos.uri.startswith("s3://elsewhere/")
    for kind, name in (("Deployment", "mlflow"), ("StatefulSet", "objects")):
        (container,) = kustomize.containers(named(servers, kind, name))
        held = {one["name"]: one["valueFrom"] for one in container["env"] if one["name"] == "ENDOCURATE_BUCKET"}
        assert held == {"ENDOCURATE_BUCKET": {"configMapKeyRef": {"name": "endocurate-storage", "key": "ENDOCURATE_BUCKET"}}}
    made = [one for one in container["command"] if "mkdir" in one]
    told = subprocess.run(
        ["sh", "-c", made[0].replace("mkdir -p", "echo").partition(" &&")[0]], env=storage, capture_output=True, text=True, check=True
    )
    assert told.stdout == "/data/elsewhere\n"


def test_the_commands_of_the_readme_name_what_there_is():
    found = commands()
    assert len(found) > 10
    for line in found:
        for place in re.findall(r"cluster/[\w./-]+", line):
            assert (ROOT / place).exists(), line
        if line.startswith("endocurate"):
            assert parse(shlex.split(line, comments=True)[1:])[0] == "submit"
    (patch,) = (line for line in found if line.startswith("kubectl patch raycluster endocurate "))
    (change,) = json.loads(shlex.split(patch)[-1])
    at, last = kustomize.within(named(platform("small"), "RayCluster", "endocurate"), change["path"].split("/")[1:])
    assert (at["groupName"], at[last]) == ("models", 0)
    selected = [shlex.split(line)[-1].partition("=") for line in found if " -l " in line]
    for (key, _, value), name in zip(selected, ("plan", "ingest"), strict=True):
        assert {one["metadata"]["name"] for one in jobs("small") if one["metadata"]["labels"].get(key) == value} == {name}
    (wait,) = (line for line in found if line.startswith("kubectl wait "))
    assert shlex.split(wait)[-1] == "rayjob/plan"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl to ask whether it knows the commands")
def test_kubectl_takes_the_secrets_of_the_readme_as_they_are_typed():
    for line in (line for line in commands() if line.startswith("kubectl create")):
        made = subprocess.run(
            ["bash", "-c", f"set -e; {line} --dry-run=client -o yaml"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
        )
        secret = yaml.safe_load(made.stdout)
        assert secret["kind"] == "Secret"
        assert secret["metadata"]["namespace"] == "endocurate"


def test_pods_of_ray_follow_the_schema_of_pods():
    for size in SIZES:
        for spec in clusters(size).values():
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"} | group["template"]["metadata"]}
                kubernetes_validate.validate(pod | {"spec": group["template"]["spec"]}, "1.37", strict=True)


@pytest.mark.skipif(not KUBERAY.exists(), reason="KubeRay's definitions are not beside the checkout, in ../shared/data/kuberay")
@pytest.mark.parametrize("size", SIZES)
def test_every_object_of_kuberay_follows_its_definition(size):
    ours = [one for one in (*platform(size), *jobs(size)) if one["kind"].startswith("Ray")]
    assert {one["kind"] for one in ours} == {"RayCluster", "RayJob", "RayCronJob"}
    for one in ours:
        schema_of_kuberay(one["kind"]).validate(one)


@pytest.mark.skipif(not KUBERAY.exists(), reason="KubeRay's definitions are not beside the checkout, in ../shared/data/kuberay")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("autoscalerOptions/version", "v3"),
        ("authOptions/mode", "tokens"),
        ("headGroupSpec/rayStartParam", {}),
        ("workerGroupSpecs/0/minReplicas", "1"),
        ("workerGroupSpecs/1/template/spec/containers/0/resource", {}),
    ],
)
def test_a_word_or_value_that_kuberay_does_not_know_is_found(path, value):
    one = json.loads(json.dumps(named(platform("small"), "RayCluster", "endocurate")))
    at, last = kustomize.within(one["spec"], path.split("/"))
    at[last] = value
    with pytest.raises(jsonschema.ValidationError):
        schema_of_kuberay("RayCluster").validate(one)


def test_what_the_operator_refuses_though_the_schema_allows_it():
    """The rules of KubeRay's own validation (ray-operator/controllers/ray/utils/validation.go) that these manifests touch."""
    for size in SIZES:
        for name, spec in clusters(size).items():
            assert spec["authOptions"]["mode"] == "token"
            assert spec["rayVersion"]  # it takes no token from a cluster that does not say that it is 2.52 or newer
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                assert group["template"]["spec"]["restartPolicy"] == "Never", f"{name}: autoscaler v2 takes no pod twice"
                assert not any(
                    one["name"].startswith("RAY_enable_autoscaler") for one in group["template"]["spec"]["containers"][0].get("env", [])
                )
        for name, spec in ray_jobs(size).items():
            assert len(name) <= 47
            assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "clusterSelector", "suspend"} & set(spec), (
                "against deletionRules"
            )
            rules = spec["deletionStrategy"]["deletionRules"]
            kinds = [(rule["policy"], *sorted(rule["condition"].items())[:1]) for rule in rules]
            assert len(kinds) == len(set(kinds))
            assert "DeleteWorkers" not in {rule["policy"] for rule in rules}, "not with an autoscaler"
            for state in ({"jobStatus": "SUCCEEDED"}, {"jobStatus": "FAILED"}, {"jobDeploymentStatus": "Failed"}):
                ends = {rule["policy"]: rule["condition"]["ttlSeconds"] for rule in rules if state.items() <= rule["condition"].items()}
                assert ends["DeleteCluster"] <= ends.get("DeleteSelf", ends["DeleteCluster"]), "a cluster may not outlive its job for ever"


def test_every_job_of_the_issue_is_there_and_watch_begins_itself_again():
    found = ray_jobs("small")
    assert set(found) == {"plan", "ingest", "choose", "pretrain", "evaluate", "benchmark", "watch", "watch-by-the-clock"}
    assert found["watch"]["backoffLimit"] > 10
    assert "activeDeadlineSeconds" not in found["watch"]
    assert all("activeDeadlineSeconds" in spec for name, spec in found.items() if name != "watch")


# -- the cluster ----------------------------------------------------------------------------------------------------------------


FEWER = ("plan", "choose", "pretrain", "evaluate")  # take a number of GPUs, and not as many as there are


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FEWER)
def test_a_job_that_takes_a_number_of_gpus_waits_for_nodes_with_these_and_no_more(name, size):
    job, config, words = asked(ray_jobs(size)[name], size)
    models = clusters(size)[name]["workerGroupSpecs"][1]
    gpus = config.pretrain.workers if job == "pretrain" else needs.least(job, config, words)[1]
    assert models["replicas"] == math.ceil(gpus / int(requests(models)["nvidia.com/gpu"]))
    assert models["minReplicas"] <= models["replicas"]


@pytest.mark.parametrize("size", SIZES)
def test_every_job_gets_a_cluster_like_the_one_that_stands(size):
    standing = clusters(size)["raycluster"]
    for name, spec in clusters(size).items():
        text = json.dumps(spec).replace(f'"app.kubernetes.io/component": "{name}"', '"app.kubernetes.io/component": "raycluster"')
        made = json.loads(text)
        standing_by, least = (made["workerGroupSpecs"][1].pop(count) for count in ("replicas", "minReplicas"))
        if name not in FEWER:
            assert standing_by == (0 if name == "raycluster" else fleet.nodes(TIMES, size)[1].count)
            assert least >= (name != "raycluster")
        bare = json.loads(json.dumps(standing))
        del bare["workerGroupSpecs"][1]["replicas"], bare["workerGroupSpecs"][1]["minReplicas"]
        assert made == bare


@pytest.mark.parametrize("size", SIZES)
def test_ray_waits_for_the_node_of_a_job_as_long_as_the_manifests_wait_for_spot_nodes(size):
    from ray.dashboard.modules.job.job_manager import RAY_JOB_START_TIMEOUT_SECONDS_ENV_VAR as NAME

    longest = max(spec["preRunningDeadlineSeconds"] for spec in ray_jobs(size).values())
    for name, spec in clusters(size).items():
        told = {one["name"]: one["value"] for one in spec["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]}
        assert int(told[NAME]) >= longest, name


@pytest.mark.parametrize("size", SIZES)
def test_a_job_of_a_size_fits_its_gpus_while_the_cluster_that_stands_is_idle(size):
    kept = held(clusters(size)["raycluster"], "minReplicas", "nvidia.com/gpu")
    for name in ray_jobs(size):
        assert kept + held(clusters(size)[name], "maxReplicas", "nvidia.com/gpu") == TIMES.sizes[size]["gpus"]
    assert held(clusters(size)["raycluster"], "replicas", "nvidia.com/gpu") == kept, "a node that is to go at once need not come"
    assert held(clusters(size)["raycluster"], "maxReplicas", "nvidia.com/gpu") == TIMES.sizes[size]["gpus"]


def held(spec, count, kind):
    """Of processors or GPUs, what `count` of the nodes of each group ask for."""
    return sum(group[count] * int(requests(group).get(kind, 0)) for group in spec["workerGroupSpecs"])


def test_the_one_machine_of_one_gpu_is_as_large_as_the_readme_says():
    """All pods of a job, of the idle cluster and of the servers, since a ReadWriteOnce claim is seen on one machine only."""
    pods = [(spec["autoscalerOptions"], 1) for spec in (clusters("one-gpu")["raycluster"], clusters("one-gpu")["ingest"])]
    for spec, count in ((clusters("one-gpu")["raycluster"], "minReplicas"), (clusters("one-gpu")["ingest"], "replicas")):
        pods += [(one, 1) for one in kustomize.containers(spec["headGroupSpec"])]
        pods += [(one, group[count]) for group in spec["workerGroupSpecs"] for one in kustomize.containers(group)]
    pods += [
        (one, 1) for made in platform("one-gpu") if made["kind"] in ("Deployment", "StatefulSet") for one in kustomize.containers(made)
    ]
    cpus, memory = (sum(count * amount(one["resources"]["requests"][kind]) for one, count in pods) for kind in ("cpu", "memory"))
    assert f"{cpus:g} processors and {memory:g} GiB" in (CLUSTER / "README.md").read_text()


@pytest.mark.parametrize("size", SIZES)
def test_the_head_schedules_no_work_and_the_autoscaler_is_version_two(size):
    for spec in clusters(size).values():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert spec["enableInTreeAutoscaling"]
        assert spec["autoscalerOptions"]["version"] == "v2"


def test_what_the_head_is_started_with_ray_start_knows():
    from ray.scripts.scripts import start

    known = {option.removeprefix("--") for parameter in start.params for option in parameter.opts}
    spec = clusters("small")["raycluster"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert set(group["rayStartParams"]) <= known


def requests(group):
    return group["template"]["spec"]["containers"][0]["resources"]["requests"]


@pytest.mark.parametrize("size", SIZES)
def test_nodes_and_requests_are_those_that_the_planner_computes(size):
    decode, models = clusters(size)["ingest"]["workerGroupSpecs"]
    wanted = fleet.nodes(TIMES, size)
    assert [(group["replicas"], int(requests(group)["cpu"])) for group in (decode, models)] == [(one.count, one.cpus) for one in wanted]
    assert int(requests(models)["nvidia.com/gpu"]) == wanted[1].gpus == TIMES.sizes[size]["gpus_each"]
    assert "nvidia.com/gpu" not in requests(decode)
    cpus = sum(group["replicas"] * int(requests(group)["cpu"]) for group in (decode, models))
    made = plan.plan(TIMES.services, cpus, TIMES.sizes[size]["gpus"])
    unlimited = plan.plan(TIMES.services, 10**6, TIMES.sizes[size]["gpus"])
    assert made.frames_per_second == unlimited.frames_per_second, "more processors would make it faster"


def test_it_is_said_which_sizes_are_of_another_sam_than_their_recipes_and_what_a_faster_one_changes():
    told = re.sub(r"\s+", " ", (CLUSTER / "README.md").read_text())
    (timed,) = re.findall(r"SAM (ViT-\w)", json.loads((CLUSTER / "times.json").read_text())["sources"]["ProposePatches"])
    others = [size for size in SIZES if f"ViT-{asked(ray_jobs(size)['ingest'], size)[1].patches.sam_size[-1].upper()}" != timed]
    assert others == ["one-gpu"]
    assert f"**Size and rows of one GPU are of SAM {timed} too**, which the recipe `one_gpu` does not use" in told
    same, more = re.findall(
        r"Where SAM is up to ([\d.]+) times as fast the size is the same, from (\d+) times on its GPU node has a proc", told
    )[0]
    usual, faster, fastest = (fleet.nodes(fleet.faster(TIMES, "ProposePatches", float(factor)), "one-gpu") for factor in (1, same, more))
    assert usual == faster
    assert (fastest[0], fastest[1].cpus) == (usual[0], usual[1].cpus + 1)


@pytest.mark.parametrize("size", SIZES)
def test_the_job_plan_plans_for_the_nodes_of_its_size_and_leaves_its_times_to_the_same_ingest(size):
    specs = ray_jobs(size)
    (_, planned, _), (_, taken, _) = asked(specs["plan"], size), asked(specs["ingest"], size)
    kinds = {"cpu": planned.plan.cpus, "nvidia.com/gpu": planned.plan.gpus}
    assert {kind: held(clusters(size)["ingest"], "replicas", kind) for kind in kinds} == kinds
    assert planned == taken, "the same video, store and settings"


@pytest.mark.parametrize("size", SIZES)
def test_the_least_that_stands_is_enough_for_every_job_to_begin(size):
    for spec in ray_jobs(size).values():
        made = spec["rayClusterSpec"]
        assert all(group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in made["workerGroupSpecs"])
        found = {"CPU": held(made, "minReplicas", "cpu"), "GPU": held(made, "minReplicas", "nvidia.com/gpu")}
        job, config, words = asked(spec, size)
        needs.refuse_small(job, config, found, words)
        taken = spec.get("entrypointNumCpus", 0), spec.get("entrypointNumGpus", 0)
        assert taken == needs.of_entrypoint(job, config), job


def test_models_run_on_spot_nodes_and_decoding_keeps_off_them():
    decode, models = clusters("small")["raycluster"]["workerGroupSpecs"]
    assert {one["key"] for one in models["template"]["spec"]["tolerations"]} > {"nvidia.com/gpu", "cloud.google.com/gke-spot"}
    assert "tolerations" not in decode["template"]["spec"]


@pytest.mark.parametrize("size", SIZES)
def test_pods_are_not_root_and_give_up_what_they_do_not_need(size):
    for one in (*platform(size), *jobs(size)):
        for container in kustomize.containers(one):
            context = container["securityContext"]
            assert context["runAsNonRoot"]
            assert context["runAsUser"] > 0
            assert not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]["cpu"]
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("size", SIZES)
def test_secrets_are_named_and_never_held_and_what_is_named_is_there(size):
    text = yaml.safe_dump_all([*platform(size), *jobs(size)])
    assert "kind: Secret" not in text
    told = (CLUSTER / "README.md").read_text()
    found = set(re.findall(r"secret(?:Ref|KeyRef|Name)[^\n]*\n?(?:\s+key: \w+\n)?\s+name: (\S+)", text)) | set(
        re.findall(r"secretName: (\S+)", text)
    )
    assert found == {"endocurate-ray-token", "endocurate-storage", "endocurate-postgres"}
    assert all(f"secret generic {name}" in told for name in found)
    there = {(one["kind"], one["metadata"]["name"]) for one in platform(size)}
    for name in re.findall(r"configMap(?:Ref|KeyRef)?:\n(?:\s+key: \w+\n)?\s+name: (\S+)", text):
        assert ("ConfigMap", name) in there
    for name in re.findall(r"claimName: (\S+)", text):
        assert ("PersistentVolumeClaim", name) in there


@pytest.mark.parametrize("size", SIZES)
def test_each_head_has_a_budget_of_its_own_and_what_may_be_moved_has_none(size):
    budgets = [one["spec"] for one in (*platform(size), *jobs(size)) if one["kind"] == "PodDisruptionBudget"]
    for spec in clusters(size).values():
        for group, kind in ((spec["headGroupSpec"], "head"), *((group, "worker") for group in spec["workerGroupSpecs"])):
            labels = group["template"]["metadata"]["labels"] | {"ray.io/node-type": kind}
            covering = [one for one in budgets if one["selector"]["matchLabels"].items() <= labels.items()]
            assert len(covering) == (kind == "head")
            assert all(type(one["minAvailable"]) is int for one in covering)
    for one in (one for one in platform(size) if one["kind"] in ("Deployment", "StatefulSet")):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["replicas"] == 1
        assert not [budget for budget in budgets if budget["selector"]["matchLabels"].items() <= labels.items()], (
            "its node could not be emptied"
        )


# -- who may talk to whom -------------------------------------------------------------------------------------------------------


RAY = {"app.kubernetes.io/part-of": "endocurate", "ray.io/is-ray-node": "yes"}
HEAD, WORKER = RAY | {"ray.io/node-type": "head"}, RAY | {"ray.io/node-type": "worker"}
SERVERS = {name: {"app.kubernetes.io/part-of": "endocurate", "app.kubernetes.io/name": name} for name in ("mlflow", "postgres", "objects")}
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def fits(selector, labels):
    return not set(selector) - {"matchLabels"} and selector.get("matchLabels", {}).items() <= labels.items()


def met(peer, namespace, labels, address):
    """Whether an end of a rule is the other one: a pod, by its namespace and labels, or an address outside."""
    if "ipBlock" in peer:
        within, kept = peer["ipBlock"]["cidr"], peer["ipBlock"].get("except", [])
        return bool(address) and holds(within, address) and not any(holds(one, address) for one in kept)
    if not address and "namespaceSelector" not in peer and namespace != "endocurate":
        return False
    at = {"kubernetes.io/metadata.name": namespace}
    return not address and fits(peer.get("namespaceSelector", {}), at) and fits(peer.get("podSelector", {}), labels)


def holds(cidr, address):
    network, at = ipaddress.ip_network(cidr), ipaddress.ip_address(address)
    return network.version == at.version and at in network


def allows(policies, way, pod, other, port):
    """Whether Kubernetes lets through, in or out: a policy that selects the pod has a rule for the other (namespace, labels, address)."""
    kind, end = ("Ingress", "from") if way == "in" else ("Egress", "to")
    mine = [one["spec"] for one in policies if kind in one["spec"]["policyTypes"] and fits(one["spec"]["podSelector"], pod)]
    assert mine, "nobody isolates the pod, so all is let through"
    return any(
        (end not in rule or any(met(peer, *other) for peer in rule[end]))
        and port in [one["port"] for one in rule.get("ports", [{"port": port}])]
        for spec in mine
        for rule in spec.get(kind.lower(), [])
    )


def network():
    return [one for one in platform("small") if one["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize(
    ("source", "namespace", "target", "port", "let_in"),
    [
        (WORKER, "endocurate", HEAD, 6379, True),
        (HEAD, "endocurate", WORKER, 10005, True),
        (WORKER, "endocurate", SERVERS["mlflow"], 5000, True),
        (SERVERS["mlflow"], "endocurate", SERVERS["postgres"], 5432, True),
        (WORKER, "endocurate", SERVERS["objects"], 9000, True),
        (SERVERS["mlflow"], "endocurate", SERVERS["objects"], 9000, True),
        (OPERATOR, "kuberay", HEAD, 8265, True),
        ({}, "monitoring", WORKER, 8080, True),
        ({}, "monitoring", HEAD, 8265, False),
        ({}, "default", HEAD, 8265, False),
        ({}, "default", WORKER, 8080, False),
        ({}, "default", SERVERS["mlflow"], 5000, False),
        (WORKER, "endocurate", SERVERS["postgres"], 5432, False),
        (OPERATOR, "kuberay", HEAD, 6379, False),
        (OPERATOR, "default", HEAD, 8265, False),  # anybody can give a pod that label
        (OPERATOR, "endocurate", HEAD, 8265, False),
        ({}, "kuberay", HEAD, 8265, False),
    ],
)
def test_only_who_must_is_let_in(source, namespace, target, port, let_in):
    assert allows(network(), "in", target, (namespace, source, ""), port) is let_in


DNS = {"k8s-app": "kube-dns"}


@pytest.mark.parametrize(
    ("pod", "namespace", "other", "address", "port", "let_out"),
    [
        (WORKER, "kube-system", DNS, "", 53, True),
        (SERVERS["postgres"], "kube-system", DNS, "", 53, True),
        (WORKER, "default", DNS, "", 53, False),  # a name server of anybody's would carry out what it is asked
        (WORKER, "kube-system", {}, "", 53, False),
        (WORKER, "", {}, "8.8.8.8", 53, False),
        (WORKER, "kube-system", DNS, "", 443, False),
        (WORKER, "endocurate", SERVERS["mlflow"], "", 5000, True),
        (WORKER, "", {}, "52.218.0.1", 443, True),  # a bucket
        (WORKER, "", {}, "2600:9000::1", 443, True),
        (SERVERS["mlflow"], "", {}, "52.218.0.1", 443, True),
        (SERVERS["postgres"], "", {}, "52.218.0.1", 443, False),
        (SERVERS["objects"], "", {}, "52.218.0.1", 443, False),
        ({"app.kubernetes.io/part-of": "endocurate"}, "", {}, "52.218.0.1", 443, False),
        (WORKER, "", {}, "52.218.0.1", 80, False),
        (WORKER, "", {}, "10.96.0.1", 443, False),
        (WORKER, "", {}, "169.254.169.254", 443, False),
        (WORKER, "", {}, "fd00::1", 443, False),
        (WORKER, "default", {}, "", 443, False),
        (HEAD, "", {}, "10.96.0.1", 443, True),  # the API server, for the autoscaler
        (HEAD, "", {}, "10.96.0.1", 6443, True),
        (HEAD, "", {}, "8.8.8.8", 6443, True),  # every address, which the file's head and the changelog say
        (HEAD, "", {}, "8.8.8.8", 22, False),
        (WORKER, "", {}, "10.96.0.1", 6443, False),
    ],
)
def test_only_what_must_is_let_out(pod, namespace, other, address, port, let_out):
    assert allows(network(), "out", pod, (namespace, other, address), port) is let_out


def hinted():
    """The addresses that the file's comments name as further peers of `names`."""
    told = " ".join(line.lstrip("# ") for line in (CLUSTER / "base" / "network.yaml").read_text().splitlines() if line.startswith("#"))
    before, _, _ = told.partition("Out: each other")
    return [yaml.safe_load(one) for one in re.findall(r"\{ipBlock: \{cidr: [\d./]+\}\}", before)]


@pytest.mark.parametrize("address", ["169.254.20.10", "10.96.0.10", "169.254.169.254"])
def test_what_the_file_says_to_add_for_other_name_servers_lets_names_be_asked_for_and_nothing_else(address):
    added = copy.deepcopy(network())
    (rule,) = named(added, "NetworkPolicy", "names")["spec"]["egress"]
    rule["to"] += hinted()
    assert not allows(network(), "out", WORKER, ("", {}, address), 53)
    assert allows(added, "out", WORKER, ("", {}, address), 53)
    assert not allows(added, "out", WORKER, ("", {}, address), 443)


def test_it_is_said_that_heads_go_everywhere_and_that_a_port_is_not_tls():
    told = (CLUSTER / "base" / "network.yaml").read_text()
    head = told.partition("apiVersion:")[0]
    assert "heads are let out to every address" in head
    assert "a policy sees ports" in head
    assert "unencrypted" not in told
    assert "heads to every address at 443 and 6443" in (CLUSTER / "README.md").read_text()


def test_the_file_says_where_to_change_the_namespaces_that_it_trusts():
    trusted = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: one["metadata"]["name"]
        for one in network()
        for rule in (*one["spec"].get("ingress", []), *one["spec"].get("egress", []))
        for peer in (*rule.get("from", []), *rule.get("to", []))
        if "namespaceSelector" in peer
    }
    assert trusted == {"kuberay": "job-server", "monitoring": "metrics", "kube-system": "names"}
    told, readme = (CLUSTER / "base" / "network.yaml").read_text(), (CLUSTER / "README.md").read_text()
    assert "the operator's namespace (kuberay, in job-server), Prometheus' (monitoring, in metrics)" in told
    assert "in a namespace `kuberay`" in readme
    assert "in a namespace `monitoring`" in readme


# -- the jobs -------------------------------------------------------------------------------------------------------------------


def test_the_readme_fills_the_pools_of_the_benchmark_and_names_the_folders_of_its_test_sets():
    _, config, words = asked(ray_jobs("small")["benchmark"], "small")
    every = matrix.cells(*matrix.read(words[0], words[1:]))
    pools = {cell.config.store.uri for cell in every if cell.pool}
    lines = (line for line in commands() if line.startswith("endocurate submit ingest"))
    made = {one.store.uri: one for one in (parse(shlex.split(line)[1:])[1] for line in lines) if "/stores/" in one.store.uri}
    assert set(made) == pools == {f"{config.benchmark.stores}/{name}" for name in ("sam", "crops")}
    held = {uri: (one.patches.proposer, one.patches.whole_frames) for uri, one in made.items()}
    assert held == {f"{config.benchmark.stores}/sam": ("sam", True), f"{config.benchmark.stores}/crops": ("crops", False)}
    told = (CLUSTER / "README.md").read_text()
    assert [uri for uri in sorted({cell.config.evaluate.uri for cell in every}) if f"`{uri}`" not in told] == []


@pytest.mark.parametrize("size", SIZES)
def test_every_entrypoint_is_understood_by_our_own_command_line(size):
    for name, spec in ray_jobs(size).items():
        job, config, _ = asked(spec, size)
        assert name in (job, f"{job}-by-the-clock")
        assert config.tracking.uri == "http://mlflow:5000"
        if job != "benchmark":
            assert config.store.uri == "s3://endocurate/store"
        mounts = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        assert {"/etc/endocurate", "/data"} == {one["mountPath"] for one in mounts}


def test_the_run_of_an_overlay_has_the_recipe_of_its_size():
    for size in SIZES:
        _, config, _ = asked(ray_jobs(size)["ingest"], size)
        _, recipe, _ = parse(["ingest", TIMES.sizes[size]["recipe"]])
        assert config.patches == recipe.patches
        assert config.pretrain == recipe.pretrain


@pytest.mark.parametrize("where", ["cluster/jobs/watch-by-the-clock.yaml", "cluster/sizes/small/run.yaml"])
def test_a_renamed_knob_is_found(where, tmp_path, capsys):
    copy = tmp_path / "cluster"
    shutil.copytree(CLUSTER, copy)
    path = tmp_path / where
    path.write_text(path.read_text().replace("watch.once=", "watch.ones=").replace("videos: {batch:", "videos: {lot:"))
    built = {name: kustomize.build(copy / "overlays" / name) for name in ("small", "small/jobs")}
    (tmp_path / "run.yaml").write_text(named(built["small"], "ConfigMap", "endocurate-run")["data"]["run.yaml"])
    spec = named(built["small/jobs"], "RayCronJob", "watch-by-the-clock")["spec"]["jobTemplate"]
    words = [str(tmp_path / "run.yaml") if word.startswith("/etc") else word for word in shlex.split(spec["entrypoint"])[1:]]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "there is no knob" in told
    assert told.count("\n") == 1


# -- servers --------------------------------------------------------------------------------------------------------------------


def test_mlflow_understands_what_it_is_started_with():
    from mlflow.cli import server

    (container,) = kustomize.containers(named(platform("small"), "Deployment", "mlflow"))
    assert container["command"] == ["mlflow", "server"]
    known = {option for parameter in server.params for option in parameter.opts}
    assert {argument.partition("=")[0] for argument in container["args"]} <= known
    (service,) = (one for one in platform("small") if one["kind"] == "Service" and one["metadata"]["name"] == "mlflow")
    (port,) = service["spec"]["ports"]
    assert f"--port={port['port']}" in container["args"]
    assert f"mlflow:{port['port']}" in next(one for one in container["args"] if one.startswith("--allowed-hosts")), (
        "of other names it answers 403"
    )


@pytest.mark.parametrize("size", SIZES)
def test_an_overlay_changes_what_it_says(size):
    found = {(one["kind"], one["metadata"]["name"]): one for one in platform(size)}
    storage = found["ConfigMap", "endocurate-storage"]["data"]
    assert (("StatefulSet", "objects") in found) == (size != "large") == ("AWS_ENDPOINT_URL" in storage)
    claim = found["PersistentVolumeClaim", "endocurate-data"]["spec"]["accessModes"]
    assert claim == (["ReadWriteOnce"] if size == "one-gpu" else ["ReadWriteMany"])
    assert "RayJob" not in {kind for kind, _ in found}
    assert {one["kind"] for one in jobs(size)} == {"RayJob", "RayCronJob", "PodDisruptionBudget"}


# -- what is watched ------------------------------------------------------------------------------------------------------------


def expressions():
    (rules,) = (one for one in platform("small") if one["kind"] == "PrometheusRule")
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert {"summary", "do"} == set(rule["annotations"])
            yield rule["expr"]
    board = json.loads(named(platform("small"), "ConfigMap", "endocurate-dashboard")["data"]["dashboard.json"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])


OURS = {"component", "ray_cluster", "ray_group", "instance", "le"}  # labels of the scrape: monitoring/podmonitor.yaml, and Prometheus' own
KUBERAY_TELLS = {
    "kuberay_job_deployment_status": {"name", "namespace", "uid", "deployment_status"},
    "kuberay_job_execution_duration_seconds": {"name", "namespace", "uid", "job_deployment_status", "retry_count"},
    "kuberay_cluster_condition_provisioned": {"name", "namespace", "uid", "condition"},
}  # with their labels, as read in KubeRay 1.7.0, ray-operator/controllers/ray/metrics: it is in no package that could be asked
ENDED = {"Failed", "ValidationFailed"}  # of JobDeploymentStatus (apis/ray/v1/rayjob_types.go) those of a RayJob that no retry begins again


def metrics_in(text):
    """{name: labels} of every metric with a selector in an expression."""
    found = {}
    for name, selector in re.findall(r"\b([a-z]+_\w+)\{+([^{}]*)", text):
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
    return found


def asked_of(prefix):
    found = {}
    for expression in expressions():
        for name, labels in metrics_in(expression).items():
            found.setdefault(name, set()).update(labels - OURS)
    return {name: labels for name, labels in found.items() if name.startswith(prefix)}


def test_every_metric_that_is_asked_for_is_one_that_ray_has_with_its_labels():
    """By the expressions of the dashboards that Ray itself brings for Grafana; their names are whole, and `tasks` alone is in any text."""
    import ray

    panels = (Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards").glob("*_panels.py")
    told = {}
    for path in panels:
        for name, labels in metrics_in(path.read_text()).items():
            told.setdefault(name, set()).update(labels)
    wanted = asked_of("ray_")
    assert {"ray_tasks", "ray_actors", "ray_resources"} < set(wanted)
    assert len(wanted) > 10
    assert {name: labels - told.get(name, set()) for name, labels in wanted.items() if name not in told or not labels <= told[name]} == {}
    bare = {name for expression in expressions() for name in re.findall(r"\bray_[a-z_]+\b(?!\{)", expression)}
    assert bare <= OURS, "each has a selector, or this test would not see it"


def test_every_metric_of_kuberay_that_is_asked_for_is_one_that_its_operator_has():
    wanted = asked_of("kuberay_")
    assert set(wanted) == set(KUBERAY_TELLS)
    assert all(labels <= KUBERAY_TELLS[name] for name, labels in wanted.items())


def alert(name):
    groups = named(platform("small"), "PrometheusRule", "endocurate")["spec"]["groups"]
    (found,) = (rule for group in groups for rule in group["rules"] if rule["alert"] == name)
    return found


UNDER_WAY = {"", "Initializing", "Waiting", "Running", "Retrying"}  # of JobDeploymentStatus; a new RayJob has none


def test_a_watcher_that_is_wanted_and_does_not_answer_is_told_of_whatever_its_rayjob_does():
    expression = alert("EndocurateWatcherMissing")["expr"]
    (over,) = re.findall(r'deployment_status!~"([^"]+)"', expression)
    others = {*ENDED, "Complete", "Suspending", "Suspended"}
    assert {one for one in UNDER_WAY | others if not re.fullmatch(over, one)} == UNDER_WAY
    (name,) = re.findall(r'name="([^"]+)"', expression.replace("namespace=", ""))
    assert "watch.once" not in ray_jobs("small")[name]["entrypoint"], "it runs for ever"


def test_what_is_down_is_asked_of_the_target_of_the_watchers_and_of_the_components_that_it_has():
    monitor = named(platform("small"), "PodMonitor", "endocurate-watch")
    asked = [(one, told) for one in expressions() for told in re.findall(r"\bup\{([^}]*)\}", one)]
    assert len({one for one, _ in asked}) == 3
    (components,) = (one["values"] for one in monitor["spec"]["selector"]["matchExpressions"])
    for _, told in asked:
        labels = dict(re.findall(r'(\w+)="([^"]*)"', told))
        assert (
            labels.pop("job") == f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"
        )  # as the Prometheus operator names it
        assert labels.pop("component", "watch") in components
        assert not labels


def test_an_alert_on_retries_fires_while_tries_are_left():
    (most,) = re.findall(r"> (\d+)$", alert("EndocurateJobRetries")["expr"])
    assert int(most) < ray_jobs("small")["watch"]["backoffLimit"]
    assert set(re.findall(r'job_deployment_status="(\w+)"', alert("EndocurateJobRetries")["expr"])) == {"Retrying"}


def test_an_alert_tells_of_every_way_in_which_a_rayjob_ends_for_good():
    expression = alert("EndocurateJobFailed")["expr"]
    (statuses,) = re.findall(r'deployment_status=~"([^"]+)"', expression)
    assert {one for one in (*ENDED, "Complete", "Retrying", "Running", "") if re.fullmatch(statuses, one)} == ENDED


def test_no_alert_misses_the_first_count_of_a_counter():
    """increase() of one that appears with its first count is 0: ours are there before, and of others what was not there before counts."""
    (rules,) = (one for one in platform("small") if one["kind"] == "PrometheusRule")
    alerts = [rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    risen = {(one, name, selector) for one in alerts for name, selector in re.findall(r"increase\((\w+)(\{[^}]*\})", one)}
    assert {name for _, name, _ in risen} == {"ray_memory_manager_worker_eviction_total"}
    assert sum(one.count("increase(") for one in alerts) == len(risen)
    for expression, name, selector in risen:
        assert f" or {name}{selector} unless last_over_time({name}{selector}[1d] offset 15m)" in expression


def test_what_moves_is_told_by_rows_and_reports_and_not_by_tasks():
    (expression,) = (one for one in expressions() if "changes(" in one)
    assert set(re.findall(r"changes\((\w+)", expression)) == {"ray_data_output_rows", "ray_train_report_total_blocked_time_s"}


def test_every_metric_of_ours_is_one_that_a_watcher_tells():
    text = Path(metrics.__file__).read_text()
    asked = {name for expression in expressions() for name in re.findall(r"\bendocurate_[a-z_]+", expression)}
    assert len(asked) > 5
    assert [name for name in asked if f'"{name.removesuffix("_bucket")}"' not in text] == []


def test_metrics_are_scraped_where_ray_gives_them():
    ((endpoint,), (watcher,)) = (
        named(platform("small"), "PodMonitor", name)["spec"]["podMetricsEndpoints"] for name in ("endocurate", "endocurate-watch")
    )
    assert endpoint["relabelings"] == watcher["relabelings"]
    head = named(platform("small"), "RayCluster", "endocurate")["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": watcher["port"], "containerPort": 8090} in head["ports"]
    for container in kustomize.containers(named(platform("small"), "RayCluster", "endocurate")):
        assert {"name": endpoint["port"], "containerPort": 8080} in container["ports"]  # the default of KubeRay
    made = {one["targetLabel"] for one in endpoint["relabelings"]}
    used = {label for expression in expressions() for label in re.findall(r"\b(component|ray_cluster|ray_group)\b", expression)}
    assert used <= made


def scraped(selector, labels):
    asked = ((one["operator"], labels.get(one["key"]) in one["values"]) for one in selector.get("matchExpressions", []))
    return selector["matchLabels"].items() <= labels.items() and all(told == ("In", True) for told in asked)


def test_the_port_of_a_watcher_is_scraped_on_the_heads_that_have_one_and_on_no_other():
    selector = named(platform("small"), "PodMonitor", "endocurate-watch")["spec"]["selector"]
    specs = ray_jobs("small")
    for name, spec in clusters("small").items():
        groups = [(spec["headGroupSpec"], "head"), *((group, "worker") for group in spec["workerGroupSpecs"])]
        watching = "watch.port=8090" in specs.get(name, {"entrypoint": ""})["entrypoint"]
        for group, kind in groups:
            labels = group["template"]["metadata"]["labels"] | {"ray.io/node-type": kind, "ray.io/is-ray-node": "yes"}
            assert scraped(selector, labels) is (watching and kind == "head"), name
            assert scraped(named(platform("small"), "PodMonitor", "endocurate")["spec"]["selector"], labels)


def test_alerts_on_what_is_paid_for_hold_for_the_cluster_that_stands_too():
    filtered = {
        rule["alert"]: told.group(1)
        for group in named(platform("small"), "PrometheusRule", "endocurate")["spec"]["groups"]
        for rule in group["rules"]
        if (told := re.search(r'component=~"([^"]+)"', rule["expr"]))
    }
    assert {"EndocurateNothingMoves", "EndocurateGpusIdle"} <= set(filtered)
    labels = clusters("small")["raycluster"]["workerGroupSpecs"][1]["template"]["metadata"]["labels"]
    for alert, components in filtered.items():
        for name in (labels["app.kubernetes.io/component"], "ingest", "pretrain", "watch", "watch-by-the-clock"):
            assert re.fullmatch(components, name), (alert, name)


FEW = (10**5, 10**6)  # frames at which turns of decoders count


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_readme_has_every_line_of_both_tables():
    told = (CLUSTER / "README.md").read_text()
    assert fleet.table(TIMES) in told
    assert fleet.table(fleet.faster(TIMES, "ProposePatches", fleet.FASTER)) in told


def test_the_readme_has_the_tables_that_the_command_draws():
    told = (CLUSTER / "README.md").read_text()
    assert fleet.sizes(TIMES) in told
    parts = fleet.table(TIMES, frame_counts=FEW), fleet.table(fleet.faster(TIMES, "ProposePatches", fleet.FASTER), (64, 256, 1000), FEW)
    lines = [line for part in parts for line in part.splitlines()]
    assert len(lines) == 18 + 4
    assert [line for line in lines if line not in told] == []
    assert fleets.nodes(fleets.widest(TIMES.services, 4), 4, 1) == fleet.nodes(TIMES, "small")
