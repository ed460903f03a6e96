"""What cluster/ builds, as its tests look at it."""

import re
import shlex
import string
import tempfile
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from jobs import fleet
from jobs.__main__ import parse
from tests import kustomize

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "cluster"
KUBERAY = ROOT.parent / "shared" / "data" / "kuberay"
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file() and path.suffix != ".md" and "__pycache__" not in path.parts)
SIZES = ("one-gpu", "small", "large")
UNITS = {"m": 1e-3, "Mi": 2**-10, "Gi": 1, "": 1}
TIMES = fleet.read(CLUSTER / "times.json")


@cache
def platform(size):
    return tuple(kustomize.build(CLUSTER / "overlays" / size))


@cache
def jobs(size):
    return tuple(kustomize.build(CLUSTER / "overlays" / size / "jobs"))


def everything():
    return [one for size in SIZES for one in (*platform(size), *jobs(size))]


def named(objects, kind, name):
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def ray_jobs(size):
    """{name: spec of the RayJob}, that of the RayCronJob among them."""
    found = {one["metadata"]["name"]: one["spec"] for one in jobs(size) if one["kind"] in ("RayJob", "RayCronJob")}
    return {name: spec.get("jobTemplate", spec) for name, spec in found.items()}


def clusters(size):
    """{name: spec} of every RayCluster that stands or is made."""
    made = {name: spec["rayClusterSpec"] for name, spec in ray_jobs(size).items()}
    return made | {"raycluster": named(platform(size), "RayCluster", "endocurate")["spec"]}


def commands():
    """The commands of the README's steps."""
    text = (CLUSTER / "README.md").read_text()
    return [line.strip() for line in text.splitlines() if re.match(r"\s{4,}(kubectl|endocurate|docker|export) ", line)]


def amount(told):
    """A quantity of Kubernetes as a number: processors, GPUs, or GiB."""
    digits, unit = re.fullmatch(r"([\d.]+)(\D*)", told).groups()
    return float(digits) * UNITS[unit]


def asked(spec, size):
    told = {name: named(platform(size), "ConfigMap", f"endocurate-{name}")["data"] for name in ("run", "storage")}
    return understood(expanded(spec["entrypoint"], told["storage"]), told["run"]["run.yaml"])


def expanded(entrypoint, surroundings):
    """The entrypoint as the shell of a pod takes it that is given a ConfigMap's data; KeyError for a name that this has not."""
    return string.Template(entrypoint).substitute(surroundings)


@cache
def understood(entrypoint, run):
    """What our own command line makes of an entrypoint, with run.yaml as the ConfigMap of the overlay holds it."""
    program, *words = shlex.split(entrypoint)
    assert program == "endocurate"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(run)
        file.flush()
        return parse([file.name if word == "/etc/endocurate/run.yaml" else word for word in words])


@cache
def schema_of_kuberay(kind):
    text = (KUBERAY / f"ray.io_{kind.lower()}s.yaml").read_text()
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    (found,) = (version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1")
    made = closed(found)
    made["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(made)


def closed(schema):
    """The schema as JSON schema, which the API server's is but for two words; what it does not name is refused, where the server prunes."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(part) for name, part in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object" and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if made.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    return made
