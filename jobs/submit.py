"""Run a job on a cluster: by its job server, or as a RayJob of KubeRay on the cluster that stands. Its image holds the code.

The id is that of what is asked: the job, its knobs and the commit. So the same command twice runs once, and the second follows the first. A
run that failed or was stopped is begun anew by the same command, under the next number; one that succeeded only with --again.
"""

import hashlib
import logging
import shlex
import shutil
import subprocess
from collections.abc import Callable
from itertools import count
from typing import Any

import yaml

from engine import tracking
from engine.config import Config
from engine.flow import submission
from engine.flow.submission import Request
from engine.knobs import flat
from jobs import needs, pods
from jobs.troubles import CommandError, typed

log = logging.getLogger("jobs.submit")
CLUSTER = "endocurate"  # the RayCluster and the namespace of cluster/
TRACKED = (
    *("ingest", "watch", "rescore", "selections", "drift", "worth", "probe", "score", "choose", "pretrain", "evaluate", "transfer"),
    *("benchmark", "theory"),
)  # jobs that keep runs in MLflow
KEPT_S = 7 * 86400  # of a RayJob that is over: what became of it can be asked for so long


def run(config: Config, *words: str) -> int:
    """Have the job run and follow it to its end; its own exit code."""
    from jobs.__main__ import asked_of_submit

    command = asked_of_submit(list(words))
    with typed():
        pods.refuse_secrets(config)
    asked = request(command, config)
    if kubernetes := [word for word in words if word in ("--kubernetes", "--kubernetes=apply")]:
        return as_rayjob(asked, config, "--again" in words, kubernetes[-1].endswith("=apply"))
    with typed():
        submission.address()
    client, there = submission.server(), submission.room()
    needs.refuse_small(command[0], config, there, command[1:])
    if there.get("nodes", 1) > 1:
        warn_apart(command[0], config)
    warn_untracked(command[0], config)
    return submitted(client, asked, again="--again" in words)


def warn_apart(job: str, config: Config) -> None:
    """Say which addresses are paths, of which each node has its own unless one file system is mounted on all. CommandError as `paths`."""
    with typed():
        paths = pods.paths(job, config)
    if paths:
        log.warning("%s: paths; each node of the cluster takes its own, unless one file system is mounted there on all", ", ".join(paths))


def warn_untracked(job: str, config: Config) -> None:
    """Say where MLflow's runs would be found by nobody: in a file of the cluster's own."""
    if job in TRACKED and not config.tracking.uri:
        log.warning(
            "tracking.uri is empty: runs of %s go into a file on the cluster and are on no server; http://mlflow:5000 is cluster/'s", job
        )


def show(text: str) -> None:
    """Print it at once: another program may read along."""
    print(text, end="", flush=True)


def submitted(client: Any, asked: Request, again: bool, tell: Callable[[str], None] = show, most: int = 0) -> int:
    """Its exit code; what it writes goes to `tell`. RuntimeError where it was begun `most` times, if there is such a number, in vain.

    KeyboardInterrupt says that the job goes on.
    """
    for attempt in count(1):
        if most and attempt > most:
            raise RuntimeError(f"{asked.id} failed {most} times on the cluster and is not begun again: `endocurate submit` does")
        name = asked.id if attempt == 1 else f"{asked.id}-{attempt}"
        state = submission.status(client, name)
        if state == "SUCCEEDED" and not again:
            log.info("%s succeeded before; --again runs it once more", name)
            return 0
        if state in submission.OVER:
            continue
        if state == "" and submission.begin(client, Request(name, asked.entrypoint, asked.cpus, asked.gpus, asked.metadata)):
            log.info("%s is submitted: %s", name, asked.entrypoint)
        else:
            log.info("%s runs already; what it writes follows", name)
        try:
            return submission.follow(client, name, tell)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(goes_on(name)) from error
    raise AssertionError("count has no end")


def goes_on(name: str) -> str:
    """What becomes of a job that nobody follows any more."""
    mode = "RAY_AUTH_MODE=token " if submission.headers() else ""  # without it Ray's command line says no token
    return f"{name} goes on on the cluster: the same command follows it, `{mode}ray job stop {name}` stops it"


def request(command: list[str], config: Config) -> Request:
    """What a job server is asked to run: the same name for the same command, knobs and commit."""
    commit = tracking.code_commit()
    told = f"{command[0]} {config.fingerprint()} {' '.join(sorted(subject(command)))} {commit}"
    name = f"{command[0]}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    metadata = (("job", command[0]), ("fingerprint", config.fingerprint()), ("commit", commit))
    return Request(name, entrypoint(command, config), *needs.of_entrypoint(command[0], config, command[1:]), metadata)


def subject(command: list[str]) -> list[str]:
    """What a job is asked about; recipes, files and knobs are in the fingerprint, whatever they are called."""
    from jobs.__main__ import parse

    return parse(command)[2]


def entrypoint(command: list[str], config: Config) -> str:
    """The command as the cluster's shell takes it. A YAML file stays here: what it says goes along as knobs.

    ValueError for a matrix that is a file of this machine.
    """
    job, *rest = command
    if not any(word.endswith((".yaml", ".yml")) and "=" not in word for word in rest):
        return shlex.join(["endocurate", *command])
    if job == "benchmark":
        raise ValueError(
            f"{rest[0]} is a file of this machine, which the cluster has not: submit a matrix by its name, or put it into the image"
        )
    about = subject(command)
    return shlex.join(["endocurate", job, *about, *knobs(job, about, config)])


def knobs(job: str, about: list[str], config: Config) -> list[str]:
    """The words that make a configuration of what a job has without them."""
    from jobs.__main__ import parse

    before = flat(parse([job, *about])[1])
    return [f"{name}={written(value)}" for name, value in flat(config).items() if value != before[name]]


def whole(job: str, about: list[str], config: Config) -> Request:
    """A request that takes nothing but a configuration."""
    return request([job, *about, *knobs(job, about, config)], config)


def written(value: Any) -> str:
    """A value as a knob takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- Kubernetes -----------------------------------------------------------------------------------------------------------------


def as_rayjob(asked: Request, config: Config, again: bool, apply: bool) -> int:
    """Give the RayJob of a request; CommandError where pods would not find what it names, or it is to run again though it may be there."""
    job = dict(asked.metadata)["job"]
    if again:
        raise CommandError(f"--again is of the job server; a RayJob runs again after: kubectl delete rayjob {asked.id} -n {CLUSTER}")
    with typed():
        pods.refuse_local(job, config)
    code = give(manifest(asked), apply)
    warn_untracked(job, config)
    return code


def manifest(asked: Request) -> dict[str, Any]:
    """A RayJob that does the same on the RayCluster of cluster/.

    No retries: KubeRay deletes the cluster of what it retries (kuberay#4516), and this one is not the job's own. Nor does it take GPUs or
    processors apart from what the entrypoint is given. No id on the job server either: KubeRay makes one, and by a fixed one a RayJob
    that was deleted and applied anew would find what became of the last and run nothing. Once is what the RayJob's name sees to.
    KubeRay 1.7 heeds no deletion rules of a RayJob with `clusterSelector`: it returns before them (rayjob_controller.go). They are for an
    operator that does; until then the RayJob stays until `kubectl delete rayjob`.
    """
    labels = {"app.kubernetes.io/part-of": "endocurate", "app.kubernetes.io/component": dict(asked.metadata)["job"]}
    reserved = {"entrypointNumCpus": asked.cpus, "entrypointNumGpus": asked.gpus}
    spec = {
        "entrypoint": asked.entrypoint,
        "metadata": dict(asked.metadata),
        "submissionMode": "HTTPMode",
        "backoffLimit": 0,
        "clusterSelector": {"ray.io/cluster": CLUSTER},
        **{name: value for name, value in reserved.items() if value},
        "deletionStrategy": {"deletionRules": [rule({"jobStatus": status}) for status in ("SUCCEEDED", "FAILED")]},
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": asked.id, "namespace": CLUSTER, "labels": labels},
        "spec": spec,
    }


def rule(condition: dict[str, Any]) -> dict[str, Any]:
    """A rule of KubeRay: delete the RayJob itself, KEPT_S seconds after the condition."""
    return {"policy": "DeleteSelf", "condition": condition | {"ttlSeconds": KEPT_S}}


def give(made: dict[str, Any], apply: bool) -> int:
    """Print a manifest, or have kubectl apply it.

    ValueError without kubectl, RuntimeError where that refuses, KeyboardInterrupt says that it goes on.
    """
    name = made["metadata"]["name"]
    text = f"# kubectl apply -f -    (once; `kubectl delete rayjob {name} -n {CLUSTER}` first, to run it again)\n" + yaml.safe_dump(
        made, sort_keys=False
    )
    if not apply:
        print(text, end="")
        return 0
    if not shutil.which("kubectl"):
        raise ValueError("there is no kubectl on this machine; --kubernetes without =apply prints what it would be given")
    try:
        done = subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True, capture_output=True, check=False)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"if {name} was taken, it goes on: `kubectl delete rayjob {name} -n {CLUSTER}` stops it") from error
    if done.returncode:
        raise RuntimeError(f"kubectl refuses {name}: {' '.join(done.stderr.split())[-300:]}")
    print(done.stdout, end="")
    return 0
