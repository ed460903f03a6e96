"""Whether what the pods of cluster/ are told fits what the programs in them do, and what is beside them."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from tests import kustomize
from tests.manifests import CLUSTER, SIZES, asked, clusters, commands, everything, jobs, named, platform, ray_jobs

DISK = "from ray.dashboard.modules.reporter.reporter_agent import ReporterAgent as Agent; print(Agent._get_disk_usage('/tmp')['/'].total)"
ANSWERED = {"minio": {"/minio/health/ready", "/minio/health/live"}}  # its documentation, "Healthcheck API"; MLflow is asked itself
HOLDERS = ("Deployment", "StatefulSet")


def environment(container):
    """{name: value} of what a container is told in plain words."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


def servers(size):
    return [one for one in platform(size) if one["kind"] in HOLDERS]


def pods(size):
    """{name: template} of every pod: servers, heads and workers, and the one that fills the claim."""
    made = {one["metadata"]["name"]: one["spec"]["template"] for one in servers(size)}
    for name, spec in clusters(size).items():
        made |= {f"{name}/{kind}": group["template"] for kind, group in groups(spec)}
    return made | {"fill": yaml.safe_load((CLUSTER / "fill.yaml").read_text())}


def groups(spec):
    return [("head", spec["headGroupSpec"]), *((one["groupName"], one) for one in spec["workerGroupSpecs"])]


def services(size):
    return {one["metadata"]["name"]: one["spec"] for one in platform(size) if one["kind"] == "Service"}


def reached(size, address):
    """The container that is behind an address of a Service; KeyError or ValueError where it is behind none."""
    parts = urlsplit(address)
    service = services(size)[parts.hostname.removesuffix(".endocurate")]
    (port,) = (one for one in service["ports"] if one["port"] == parts.port)
    (template,) = (one["spec"]["template"] for one in servers(size) if service["selector"].items() <= labels_of(one).items())
    (container,) = template["spec"]["containers"]
    assert port["targetPort"] in {value for one in container["ports"] for value in (one["name"], one["containerPort"])}, address
    return container


def labels_of(server):
    return server["spec"]["template"]["metadata"]["labels"]


# -- one finds the other --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_service_leads_to_the_port_of_the_pods_of_a_server(size):
    for name, service in services(size).items():
        for port in service["ports"]:
            assert reached(size, f"tcp://{name}:{port['port']}")
    for one in servers(size):
        assert one["spec"]["selector"]["matchLabels"].items() <= labels_of(one).items()
        assert one["spec"].get("serviceName", "mlflow") in services(size)


@pytest.mark.parametrize("size", SIZES)
def test_every_address_that_a_pod_is_told_leads_to_a_server(size):
    storage = named(platform(size), "ConfigMap", "endocurate-storage")["data"]
    if "AWS_ENDPOINT_URL" in storage:
        assert reached(size, storage["AWS_ENDPOINT_URL"])["name"] == "minio"
        assert (storage["AWS_ALLOW_HTTP"] == "true") is storage["AWS_ENDPOINT_URL"].startswith("http://")
    for spec in ray_jobs(size).values():
        assert reached(size, asked(spec, size)[1].tracking.uri)["name"] == "mlflow"
    (tracker,) = kustomize.containers(named(platform(size), "Deployment", "mlflow"))
    (database,) = (one.partition("=")[2] for one in tracker["args"] if one.startswith("--backend-store-uri="))
    server = reached(size, re.sub(r"\$\(\w+\)", "x", database))
    assert server["name"] == "postgres"
    assert PurePosixPath(urlsplit(database).path).name == environment(server)["POSTGRES_DB"]
    for word in re.findall(r"\$\((\w+)\)", database):
        assert [one for one in tracker["env"] if one["name"] == word] == [one for one in server["env"] if one["name"] == word]


@pytest.mark.parametrize("size", SIZES)
def test_mlflow_finds_its_artifacts_where_the_store_lies(size):
    from mlflow import environment_variables

    storage = named(platform(size), "ConfigMap", "endocurate-storage")["data"]
    (tracker,) = kustomize.containers(named(platform(size), "Deployment", "mlflow"))
    (told,) = (one["valueFrom"]["configMapKeyRef"] for one in tracker["env"] if one["name"] == "MLFLOW_S3_ENDPOINT_URL")
    assert environment_variables.MLFLOW_S3_ENDPOINT_URL.name == "MLFLOW_S3_ENDPOINT_URL", "what its client of S3 asks"
    assert told == {"name": "endocurate-storage", "key": "AWS_ENDPOINT_URL", "optional": True}
    assert size == "large" or told["key"] in storage, "only a bucket at AWS has no endpoint of its own"


def test_the_database_runs_as_the_user_of_its_image():
    template = named(platform("small"), "StatefulSet", "postgres")["spec"]["template"]["spec"]
    (container,) = template["containers"]
    users = {"alpine": 70, "bookworm": 999, "trixie": 999}  # adduser in the Dockerfiles of docker-library/postgres
    user = users[container["image"].rpartition("-")[2]]
    assert (container["securityContext"]["runAsUser"], template["securityContext"]["fsGroup"]) == (user, user)


def test_the_pod_that_fills_the_claim_stays_for_the_day_that_its_file_says():
    text = (CLUSTER / "fill.yaml").read_text()
    spec = yaml.safe_load(text)["spec"]
    (container,) = spec["containers"]
    assert "a day is enough to copy them" in text
    assert [spec["activeDeadlineSeconds"], *map(int, container["command"][1:])] == [24 * 3600, 24 * 3600]


def test_the_ways_that_the_readme_opens_lead_to_servers_that_answer_there():
    from mlflow.server.security_utils import is_allowed_host_header

    found = [re.search(r"port-forward -n endocurate service/(\S+) (\d+)", line) for line in commands()]
    ways = {told[1]: int(told[2]) for told in found if told}
    assert ways.pop("endocurate-head-svc") == 8265  # KubeRay's own Service of a head
    assert {name: reached("small", f"tcp://{name}:{port}")["name"] for name, port in ways.items()} == {
        "objects": "minio",
        "mlflow": "mlflow",
    }
    bucket = named(platform("small"), "ConfigMap", "endocurate-storage")["data"]["ENDOCURATE_BUCKET"]
    told = (CLUSTER / "README.md").read_text()
    assert f"aws s3 cp --recursive --endpoint-url http://127.0.0.1:{ways['objects']} videos {bucket}/videos" in told
    (container,) = kustomize.containers(named(platform("small"), "Deployment", "mlflow"))
    (names,) = (one.partition("=")[2].split(",") for one in container["args"] if one.startswith("--allowed-hosts="))
    assert is_allowed_host_header(names, f"127.0.0.1:{ways['mlflow']}")


def test_the_keys_of_secrets_that_are_asked_for_are_those_that_the_readme_makes():
    found = [re.search(r"secret generic (\S+) (.+)", line) for line in commands()]
    made = {told[1]: set(re.findall(r"--from-literal=(\w+)=", told[2])) for told in found if told}
    wanted = {
        "endocurate-ray-token": {"auth_token"},
        "endocurate-storage": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    }  # of KubeRay, AWS
    for container in kustomize.containers(everything()):
        for told in (one.get("valueFrom", {}).get("secretKeyRef") for one in container.get("env", [])):
            if told:
                wanted.setdefault(told["name"], set()).add(told["key"])
    assert wanted == made


@pytest.mark.parametrize("size", SIZES)
def test_probes_ask_what_the_program_answers_at_a_port_that_it_has(size):
    from mlflow.server.security_utils import HEALTH_ENDPOINTS

    answered = ANSWERED | {"mlflow": set(HEALTH_ENDPOINTS)}
    for container in (one for server in servers(size) for one in kustomize.containers(server)):
        probes = [value for name, value in container.items() if name.endswith("Probe")]
        assert {"readinessProbe", "livenessProbe"} <= set(container)
        for probe in probes:
            if "httpGet" in probe:
                assert probe["httpGet"]["path"] in answered[container["name"]]
                assert probe["httpGet"]["port"] in {one["name"] for one in container["ports"]}
            else:
                assert f"-d {environment(container)['POSTGRES_DB']}" in probe["exec"]["command"][-1]


@pytest.mark.parametrize("size", SIZES)
def test_what_a_server_writes_lies_on_a_claim(size):
    for one in (one for one in servers(size) if one["kind"] == "StatefulSet"):
        claims = {claim["metadata"]["name"] for claim in one["spec"]["volumeClaimTemplates"]}
        (container,) = kustomize.containers(one)
        (mount,) = container["volumeMounts"]
        assert mount["name"] in claims
        places = {"postgres": environment(container).get("PGDATA", ""), "minio": " ".join(container.get("command", [])).rpartition(" ")[2]}
        assert PurePosixPath(places[container["name"]]).is_relative_to(mount["mountPath"])


def test_mlflow_answers_to_its_names_in_the_cluster_and_to_nobody_elses():
    """By its own function: of names with a star it takes whatever looks so, and its health needs no name."""
    from mlflow.server.security_utils import is_allowed_host_header, is_health_endpoint

    (container,) = kustomize.containers(named(platform("small"), "Deployment", "mlflow"))
    (names,) = (one.partition("=")[2].split(",") for one in container["args"] if one.startswith("--allowed-hosts="))
    for name in ("mlflow", "mlflow.endocurate", "mlflow.endocurate.svc", "mlflow.endocurate.svc.cluster.local", "localhost", "127.0.0.1"):
        assert is_allowed_host_header(names, f"{name}:5000"), name
    for name in ("10.evil.example:5000", "10.0.0.7:5000", "localhost.evil.example:5000", "mlflow.evil.example:5000"):
        assert not is_allowed_host_header(names, name), name
    assert is_health_endpoint(container["livenessProbe"]["httpGet"]["path"])


# -- what pods may, and how they end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_job_that_is_told_to_stop_has_the_time_that_it_takes(size):
    for name, spec in clusters(size).items():
        grace = asked(ray_jobs(size).get(name, ray_jobs(size)["watch"]), size)[1].watch.grace_s
        template = spec["headGroupSpec"]["template"]["spec"]
        waits = float(environment(template["containers"][0])["RAY_JOB_STOP_WAIT_TIME_S"])
        assert grace < waits < template["terminationGracePeriodSeconds"]
        for _, group in groups(spec):
            assert group["template"]["spec"]["terminationGracePeriodSeconds"] > grace


@pytest.mark.parametrize("size", SIZES)
def test_what_other_pods_ask_listens_at_every_address(size):
    for spec in clusters(size).values():
        assert spec["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "0.0.0.0"
    for spec in ray_jobs(size).values():
        job, config, _ = asked(spec, size)
        if job == "watch":
            assert config.watch.host == "0.0.0.0"
    (tracker,) = kustomize.containers(named(platform(size), "Deployment", "mlflow"))
    assert "--host=0.0.0.0" in tracker["args"]


@pytest.mark.parametrize("size", SIZES)
def test_only_heads_have_a_token_of_the_api_server_and_no_group_is_that_of_root(size):
    for name, template in pods(size).items():
        mounted = template["spec"].get("automountServiceAccountToken", True)
        assert mounted is name.endswith("/head"), f"{name}: the autoscaler beside a head asks for nodes with it"
        assert template["spec"]["securityContext"]["fsGroup"] > 0, name


def test_pods_are_within_what_the_namespace_would_warn_of():
    (labels,) = {tuple(sorted(named(platform(size), "Namespace", "endocurate")["metadata"]["labels"].items())) for size in SIZES}
    levels = {name.rpartition("/")[2]: level for name, level in labels if "pod-security" in name}
    assert levels == {"enforce": "baseline", "warn": "restricted"}
    for template in pods("small").values():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(template["spec"])
        assert {kind for one in template["spec"].get("volumes", []) for kind in one if kind != "name"} <= {
            "configMap",
            "persistentVolumeClaim",
        }
        for container in kustomize.containers(template):
            assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


# -- nodes, and what is paid for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_every_ray_node_tells_of_its_disk_which_ray_keeps_silent_of_in_pods(size):
    """Asked of Ray's own reporter, which reads both words when it is imported: alerts and dashboard are by what it tells."""
    told = [environment(one) for spec in clusters(size).values() for one in kustomize.containers(spec)]
    (word,) = {tuple(sorted((name, value) for name, value in one.items() if "DISK" in name)) for one in told}
    pod = os.environ | {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    asked = [dict(pod), dict(pod) | dict(word)]
    silent, telling = (int(subprocess.run([sys.executable, "-c", DISK], env=one, capture_output=True, check=True).stdout) for one in asked)
    assert silent == 1 < telling


def test_nodes_without_work_go_and_clusters_end_when_the_readme_says():
    told = re.sub(r"\s+", " ", (CLUSTER / "README.md").read_text())
    assert "nodes without work then go after 15 minutes" in told
    assert "A cluster goes a minute after success and half an hour after a failure; the RayJob after a day or a week" in told
    for name, spec in ray_jobs("small").items():
        assert spec["rayClusterSpec"]["autoscalerOptions"]["idleTimeoutSeconds"] == 15 * 60
        assert spec["submissionMode"] == "HTTPMode"
        for rule in spec["deletionStrategy"]["deletionRules"]:
            of, after = rule["condition"], rule["condition"]["ttlSeconds"]
            if rule["policy"] == "DeleteCluster":
                assert after == (60 if of.get("jobStatus") == "SUCCEEDED" else 1800), name
            else:
                assert after in (86400, 7 * 86400), name


@pytest.mark.parametrize("size", SIZES)
def test_a_head_is_not_moved_and_gpu_nodes_bear_the_taints_of_gpus_and_spot(size):
    for spec in clusters(size).values():
        head, _, models = (group["template"] for _, group in groups(spec))
        assert head["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
        assert all(one.get("effect", "NoSchedule") == "NoSchedule" for one in models["spec"]["tolerations"])


@pytest.mark.parametrize("size", SIZES)
def test_memory_is_what_the_readme_says_of_a_processor_and_of_a_gpu(size):
    """Ray counts a node's memory by its limit, and what lies below the request alone is nobody else's."""
    assert "4 GiB for a processor that decodes, 24 GiB or more for a GPU" in re.sub(r"\s+", " ", (CLUSTER / "README.md").read_text())
    for spec in clusters(size).values():
        for _, group in groups(spec):
            (container,) = group["template"]["spec"]["containers"]
            told = container["resources"]
            assert told["limits"] == {kind: amount for kind, amount in told["requests"].items() if kind != "ephemeral-storage"}
            processors, gpus = int(told["requests"]["cpu"]), int(told["requests"].get("nvidia.com/gpu", 0))
            assert int(told["requests"]["memory"].removesuffix("Gi")) >= (24 * gpus or 4 * processors)
            assert int(told["requests"]["ephemeral-storage"].removesuffix("Gi")) >= 10


def bears(template, labels):
    """Whether the scheduler may put a pod on a node with these labels: one of the terms fits, by all that it asks for."""
    affinity = template["spec"].get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = affinity["nodeSelectorTerms"] if affinity else [{"matchExpressions": []}]
    tells = {"In": lambda one: labels.get(one["key"]) in one["values"], "NotIn": lambda one: labels.get(one["key"]) not in one["values"]}
    return any(all(tells[one["operator"]](one) for one in term["matchExpressions"]) for term in terms)


@pytest.mark.parametrize("size", SIZES)
def test_only_workers_are_put_on_nodes_that_may_be_taken_away(size):
    models = groups(clusters(size)["ingest"])[-1][1]["template"]["spec"]
    preferred = models["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    spots = [one["preference"]["matchExpressions"][0] for one in preferred]
    assert len(spots) == 3
    for name, template in pods(size).items():
        assert bears(template, {})
        is_worker = "/" in name and not name.endswith("/head")
        for spot in spots:
            assert bears(template, {spot["key"]: spot["values"][0]}) is (name == "fill" or is_worker), name


def test_the_patch_for_a_registry_and_an_identity_reaches_all_of_our_pods_those_of_jobs_too(tmp_path):
    shutil.copytree(CLUSTER, tmp_path / "cluster")
    path = tmp_path / "cluster" / "sizes" / "small" / "kustomization.yaml"
    (told,) = re.findall(r"(?s)To `patches`.+?\n\n(.+?)\n\n", (CLUSTER / "README.md").read_text())
    path.write_text(f"{path.read_text()}\n{textwrap.indent(textwrap.dedent(told), '  ')}\n")
    made = [one for part in ("", "/jobs") for one in kustomize.build(tmp_path / "cluster" / "overlays" / f"small{part}")]
    specs = [spec for one in made for spec in pod_specs(one) if any("/endocurate:" in each["image"] for each in spec["containers"])]
    assert len(specs) == 3 * len(clusters("small")) + 1
    assert {str(spec.get("imagePullSecrets")) for spec in specs} == {"[{'name': 'registry'}]"}
    assert {spec.get("serviceAccountName") for spec in specs} == {"endocurate"}
    for spec in specs:
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}, "1.37", strict=True)


def pod_specs(place):
    """Every pod's spec below, wherever it stands."""
    inside = place.values() if isinstance(place, dict) else place if isinstance(place, list) else ()
    return [*([place] if isinstance(place, dict) and "containers" in place else []), *(one for part in inside for one in pod_specs(part))]


def test_jobs_are_built_in_the_namespace_of_what_they_use():
    assert {one["metadata"]["namespace"] for size in SIZES for one in jobs(size)} == {"endocurate"}
