"""What the pods of cluster/ see of the paths that a job is given: buckets, and a claim at /data, from which they only read."""

import re
from collections.abc import Iterator
from posixpath import normpath

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


def refuse_local(job: str, config: Config) -> None:
    """ValueError, in one sentence, for a path that pods have not, or may not write to."""
    for knob, uri, wanted in named(job, config):
        path = re.sub(r"^(file|local)://", "", uri)
        of_bucket, of_claim = "://" in path, f"{normpath(path)}/".startswith(f"{CLAIM}/")
        if (of_bucket and "bucket" not in wanted) or (not of_bucket and not (of_claim and CLAIM in wanted)):
            raise ValueError(f"{knob}={uri!r} is nowhere that pods can {'read' if CLAIM in wanted else 'write'}: name {wanted}")


def named(job: str, config: Config) -> Iterator[tuple[str, str, str]]:
    """The places that the job reads or writes: knob, address, and what it may be. An estimate needs none."""
    if job == "benchmark" and config.benchmark.estimate:
        return
    values = flat(config)
    kinds = ((FOLDERS, f"a folder below {CLAIM}"), (READ, f"a bucket, or what lies below {CLAIM}"), (WRITTEN, "a bucket"))
    for knobs, wanted in kinds:
        yield from ((knob, values[knob], wanted) for knob, jobs in knobs.items() if job in jobs and values[knob])
    for knob, path in weights(job, config):
        yield knob, path, f"a bucket, or what lies below {CLAIM}"
