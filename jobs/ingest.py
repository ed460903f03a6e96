"""Video in, scored patches into the store: what the ledger has is skipped, bad files become ledger rows with a reason."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic

import pyarrow as pa

from engine import flow, sam, schema, tracking
from engine.config import Config
from engine.difficulty import PassVerdicts, ScoreDifficulty
from engine.flow import Step
from engine.frames import DecodeFrames
from engine.patches import ProposePatches
from engine.store import PatchStore, WriteRows
from engine.videos import IdentifyVideos, find
from jobs import probe

log = logging.getLogger("jobs.ingest")


def identify(config: Config) -> list[Step]:
    return [Step(IdentifyVideos, (config.videos,), batch=1, cpus=0.5, actors=(1, 4))]  # reads and hashes: the disk is the limit


def steps(config: Config, store: PatchStore) -> list[Step]:
    return [
        Step(DecodeFrames, (config.frames,), batch=1, actors=(1, 4)),  # one video at a time; its frames stream
        Step(ProposePatches, (config.patches,), batch=4, gpus=0.5, actors=(2, 8)),  # here goes the time; SAM-H takes 8 GB: two fit a GPU
        Step(ScoreDifficulty, (config.difficulty,), batch=64, gpus=0.25, actors=(1, 2)),  # ten times as fast as SAM
        Step(WriteRows, (store.uri,), batch=512, cpus=0.25),  # about 20 MB a fragment: few files, little memory
    ]


def verdicts(config: Config, store: PatchStore) -> list[Step]:
    """For video of which nothing passes the gate, before there is a scorer: what is bad goes into the ledger all the same."""
    return [
        Step(DecodeFrames, (config.frames,), batch=1, actors=(1, 4)),
        Step(PassVerdicts, (probe.width(config),), batch=512, cpus=0.25),
        Step(WriteRows, (store.uri,), batch=512, cpus=0.25),
    ]


def run(config: Config) -> None:
    """Take in every video below videos.uri that the ledger does not know, videos.batch of them per commit."""
    began, store = monotonic(), PatchStore(config.store.uri)
    sam.check(config.patches)
    sources = store.unseen(find(config.videos.uri))
    log.info("%d sources are new to the ledger of %s", len(sources), store.uri)
    if not len(sources):
        return
    try:
        config, work = (scored := probe.with_scorer(config)), steps(scored, store)
    except probe.TooFewCropsError as reason:
        log.warning("%s; if no frame of these passes the gate, their verdicts are kept all the same", reason)
        work = verdicts(config, store)
    store.create(probe.width(config))
    record = tracking.start(
        config, "ingest", f"{config.fingerprint()}-{datetime.now(UTC):%Y%m%dT%H%M%S}", {"patches_version_in": store.complete_version()}
    )
    total = pa.Table.from_pylist([], schema.VIDEOS_TABLE)
    for rows in batches(config, store, sources, work):
        total = pa.concat_tables([total, rows])
        progress(total, len(sources), monotonic() - began)
        record.log(counts(total) | {"ingest/seconds": monotonic() - began}, step=len(total))
    record.note({"patches_version_out": store.complete_version()})
    record.end()


def batches(config: Config, store: PatchStore, sources: pa.Table, work: list[Step]) -> Iterator[pa.Table]:
    """Commit `sources` batch by batch; yields the ledger rows of each."""
    execute = flow.run_on_ray if config.where == "ray" else flow.run_here
    stamp = {"fingerprint": config.fingerprint(), "commit": tracking.code_commit()}
    for start in range(0, len(sources), config.videos.batch):
        found = pa.concat_tables(execute(identify(config), sources.slice(start, config.videos.batch)))
        videos = store.unknown(found.sort_by("uri"))
        if len(videos):
            written = pa.concat_tables(execute(work, videos))
            yield store.commit(written, videos, stamp | {"ingested_at": datetime.now(UTC).isoformat(timespec="seconds")})


def counts(ledger: pa.Table) -> dict[str, float]:
    sums = {f"ingest/{name}": float(sum(ledger[name].to_pylist())) for name in ("frames", "kept", "patches")}
    return sums | {"ingest/videos": float(len(ledger)), "ingest/refused": float(len(ledger) - ledger["reason"].null_count)}


def progress(ledger: pa.Table, expected: int, seconds: float) -> None:
    done = counts(ledger)
    left = seconds / max(len(ledger), 1) * (expected - len(ledger))
    log.info(
        "%d of %d videos, %d with a reason · %d frames, %d kept · %d patches · %.1f frames/s · about %d s left",
        len(ledger), expected, done["ingest/refused"], done["ingest/frames"], done["ingest/kept"], done["ingest/patches"],
        done["ingest/frames"] / seconds, left,
    )  # fmt: skip
