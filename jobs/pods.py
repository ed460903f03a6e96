"""What nodes of a cluster see of the paths that a job is given, and the pods of cluster/: buckets, and a claim at /data to read from."""

import ipaddress
import re
import socket
from collections.abc import Iterator
from posixpath import normpath
from urllib.parse import urlsplit

from engine.config import Config
from engine.knobs import flat
from jobs.places import ASKING, BEFORE, weights

FOLDERS = {  # read by libraries that want a folder of the machine
    "evaluate.uri": ("evaluate", "transfer", "datasets"),
    "transfer.uri": ("pretrain", "transfer", "watch"),
    "benchmark.data": ("benchmark",),
}
READ = {"videos.uri": ("ingest", "watch", "probe", "plan"), "study.uri": ("transfer-study",)}
WRITTEN = {
    "benchmark.stores": ("benchmark",),  # before store.uri, which follows from it
    "store.uri": (*BEFORE, "ingest", "watch", "probe", "plan"),
    "export.path": ("export",),
    "report.path": ("report",),
    "study.picture": ("transfer-study",),
    "output.path": (*ASKING, "plan", "datasets", "transfer-study"),
}
CLAIM = "/data"
FILES = ("patches.checkpoint",)  # weights that no bucket is asked for; others are fetched from one
SIGNED = r"[?&][\w.-]*(sig|signature|token|password|passwd|secret|credential)="  # SAS, S3, Google and databases


def refuse_secrets(config: Config) -> None:
    """ValueError for an address with a password or a signature, which is not repeated: job servers and Kubernetes show what they get."""
    for knob, value in flat(config).items():
        if (held := secret(knob, value)) is not None:
            raise ValueError(
                f"{knob} holds {held}, which a cluster would show: name the address alone, and give pods the rest by a Secret"
                + (" as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" if knob == "tracking.uri" else "")
            )


def secret(knob: str, value: object) -> str | None:
    """What an address holds that is to be kept secret; None: nothing."""
    if not isinstance(value, str) or "://" not in value:
        return None
    if re.search(r"://.*@" if knob == "tracking.uri" else r"://[^/]*@", value):
        return "a user or a password"
    return "a signature, a token or a password" if re.search(SIGNED, value, re.IGNORECASE) else None


def refuse_local(job: str, config: Config) -> None:
    """ValueError, in one sentence, for a path or server that pods have not, or may not write to."""
    server = config.tracking.uri
    if server and (not server.startswith(("http://", "https://")) or is_here(host(server))):
        raise ValueError(f"tracking.uri={server!r} is nowhere that pods can write: name a server of MLflow, as http://mlflow:5000")
    for knob, uri, wanted in named(job, config):
        path = re.sub(r"^(file|local)://", "", uri)
        of_bucket, of_claim = "://" in path, f"{normpath(path)}/".startswith(f"{CLAIM}/")
        if (of_bucket and "bucket" not in wanted) or (not of_bucket and not (of_claim and CLAIM in wanted)):
            raise ValueError(f"{knob}={uri!r} is nowhere that pods can {'read' if CLAIM in wanted else 'write'}: name {wanted}")


def paths(job: str, config: Config) -> list[str]:
    """The knobs whose addresses are paths, which are the same on several nodes only where one file system is mounted on all.

    ValueError, in one sentence, for what never is: a relative path, and a server on the node itself.
    """
    server, found = config.tracking.uri, list[str]()
    if server.startswith(("http://", "https://")) and is_here(host(server)):
        raise ValueError(f"tracking.uri={server!r} is each node of the cluster itself, and there are several: name a server that all reach")
    for knob, uri, _ in named(job, config):
        path = re.sub(r"^(file|local)://", "", uri)
        if "://" in path:
            continue
        if not path.startswith("/"):
            raise ValueError(
                f"{knob}={uri!r} is another place on each of the cluster's nodes: name a bucket, or a path that all have mounted"
            )
        found.append(knob)
    return found


def host(address: str) -> str | None:
    """The host of an address; None where it has none, or half the brackets of one."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def is_here(name: str | None) -> bool:
    """Whether a host is none, or, of a pod, the pod itself, however its number is written: 127.1 is 127.0.0.1."""
    if name is None or name.rstrip(".").endswith("localhost"):
        return True
    try:
        address = ipaddress.ip_address(name if ":" in name else socket.inet_ntoa(socket.inet_aton(name)))
    except (OSError, ValueError):  # a name
        return False
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_loopback or inner.is_unspecified)


def named(job: str, config: Config) -> Iterator[tuple[str, str, str]]:
    """The places that the job reads or writes: knob, address, and what it may be. An estimate needs none."""
    if job == "benchmark" and config.benchmark.estimate:
        return
    values = flat(config)
    kinds = ((FOLDERS, f"a folder below {CLAIM}"), (READ, f"a bucket, or what lies below {CLAIM}"), (WRITTEN, "a bucket"))
    for knobs, wanted in kinds:
        yield from ((knob, values[knob], wanted) for knob, jobs in knobs.items() if job in jobs and values[knob])
    for knob, path in weights(job, config):
        yield knob, path, f"a file below {CLAIM}" if knob in FILES else f"a bucket, or what lies below {CLAIM}"
