"""Video in, scored patches into the store: what the ledger has is skipped, bad files become ledger rows with a reason."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from engine import flow, sam, schema, tracking
from engine.config import Config
from engine.difficulty import PassVerdicts, ScoreContrast, ScoreDifficulty
from engine.flow import Step
from engine.frames import DecodeFrames
from engine.ledger import REPLACED, Arrivals
from engine.patches import ProposePatches
from engine.store import PatchStore, WriteRows, intake
from engine.videos import ConfirmVideos, IdentifyVideos
from jobs import needs, own, pools, probe

log = logging.getLogger("jobs.ingest")
PATIENCE = 10.0  # seconds without a word
READERS = 2048  # at most that hash at once: the cluster's processors are how many there are
ROUND = 16  # micro-batches that share a flow: all their videos are read and hashed before the first is decoded


def identify() -> list[Step]:
    """The step that hashes what is found."""
    # One processor each, since nothing else is under way: while it lasts GPUs wait, so that a cluster has a reader on each of its own. It
    # loads nothing: four actors started to hash two small videos took longer than these.
    return [Step(IdentifyVideos, (), batch=1, actors=(1, READERS), loads=False)]


def confirm() -> list[Step]:
    """The step that hashes once more what was read, as it may have changed meanwhile; of what lies in a bucket it asks the etag."""
    return [Step(ConfirmVideos, (), batch=1, cpus=0.5, actors=(1, READERS), loads=False)]  # beside the pools: on what these leave free


def steps(config: Config, store: PatchStore) -> list[Step]:
    """From videos to written patches; the resources of each stage, with why."""
    score = ScoreContrast if config.difficulty.scorer == "simclr" else ScoreDifficulty
    # The most are how the pools share a cluster, which is what limits them (flow.widest): Ray makes a pool larger only while it is behind.
    return [
        Step(DecodeFrames, (config.frames,), batch=1, actors=(1, 2048)),  # one video at a time; its frames stream
        Step(ProposePatches, (config.patches,), batch=4, gpus=0.5, actors=(2, 4096)),  # here goes the time; SAM-H takes 8 GB: two fit a GPU
        Step(score, (config.difficulty,), batch=64, gpus=0.25, actors=(1, 1024)),  # ten times as fast as SAM
        Step(WriteRows, (store.uri,), batch=512, cpus=0.25),  # about 20 MB a fragment: few files, little memory
    ]


def verdicts(config: Config, store: PatchStore) -> list[Step]:
    """For video of which nothing passes the gate, before there is a scorer: what is bad goes into the ledger all the same."""
    return [
        Step(DecodeFrames, (config.frames,), batch=1, actors=(1, 2048)),
        Step(PassVerdicts, (probe.width(config),), batch=512, cpus=0.25),
        Step(WriteRows, (store.uri,), batch=512, cpus=0.25),
    ]


def opened(config: Config) -> PatchStore:
    """The store, made where there is none, once all else that an ingest cannot do without is there: what is refused leaves none behind.

    ValueError or OSError, in one sentence, for what is not; that video can be listed the caller has seen.
    """
    store = PatchStore(config.store.uri)
    sam.check(config.patches)
    store.check_schemas()  # also asks a bucket whether it lets us in, before MLflow makes a file of its own
    tracking.reach(config)
    store.create(probe.width(config))
    return store


def run(config: Config) -> None:
    """Take in every video below videos.uri that the ledger does not know, videos.batch of them per commit."""
    needs.await_nodes("ingest", probe.ready(config))
    own.tell(config)
    found = own.found(config)
    store = opened(config)
    sources = store.unseen(found)
    log.info("%d %s new to the ledger of %s", len(sources), "source is" if len(sources) == 1 else "sources are", store.uri)
    if not len(sources):
        return
    try:
        config = probe.with_scorer(config)
        needs.await_nodes("ingest", config)  # which its training may have outlived
        work = pools.sized(config, store, steps(config, store))
    except probe.TooFewCropsError as reason:
        log.warning("%s; if no frame of these passes the gate, their verdicts are kept all the same", reason)
        work = verdicts(config, store)
    told = {"patches_version_in": store.complete_version()}
    with store.writing("ingest"), tracking.running(config, "ingest", config.fingerprint(), told) as record:
        progress = Progress(len(sources))
        for rows in batches(config, store, sources, work, progress, flow.runner(config.where)):
            progress.took_in(rows)
            record.log({f"ingest/{name}": value for name, value in progress.counts().items()}, step=store.open("videos").count_rows())
        record.note({"patches_version_out": store.complete_version()})


def batches(
    config: Config, store: PatchStore, sources: pa.Table, work: list[Step], progress: "Progress", execute: flow.Execute
) -> Iterator[pa.Table]:
    """Commit `sources` in micro-batches as each becomes whole; yields the ledger rows of each.

    Many micro-batches share one flow, because starting its pools and filling them takes longer than many a micro-batch. A video whose file
    was written anew while it was read is left out: the rows that are kept are of the bytes that they are named by. Its copies are told as
    `lost`, as are those of a file that vanished: they were dropped before, and the next time takes them in.
    """
    stamp = {"fingerprint": config.fingerprint(), "commit": tracking.code_commit()}
    *others, write = work
    for start in range(0, len(sources), ROUND * config.videos.batch):
        some = sources.slice(start, ROUND * config.videos.batch)
        identified = pa.concat_tables(progress.heard(execute(identify(), some))).sort_by("uri")
        videos = store.unknown(identified)
        progress.copies += len(some) - len(videos)
        videos = intake.continued(store, videos)
        arrivals = Arrivals(videos, config.videos.batch)
        steps = [*others, replace(write, arguments=(store.uri, arrivals.batch_of))]
        for batch, written in arrivals.whole(progress.follow(execute(steps, videos) if len(videos) else iter(()))):
            read = progress.confirmed(pa.concat_tables(execute(confirm(), batch)))
            yield store.commit(written, read, stamp | {"ingested_at": datetime.now(UTC).isoformat(timespec="seconds")})
        copies = identified.filter(pc.invert(pc.is_in(identified["uri"], videos["uri"])))
        missing = pc.is_in(copies["video_id"], store.unknown(copies)["video_id"])
        intake.make_way(store, copies.filter(pc.invert(missing)))
        progress.left_over(copies.filter(missing)["uri"].to_pylist())


class Progress:
    """Says how far an ingest is: after every commit, and every PATIENCE seconds in between; `beat` is called at every sign of life."""

    def __init__(self, expected: int, beat: Callable[[], None] = lambda: None) -> None:
        self.expected, self.began, self.said, self.copies, self.beat = expected, monotonic(), monotonic(), 0, beat
        self.replaced: list[str] = []  # addresses of what was written anew while it was read
        self.lost: list[str] = []  # and of copies of what came to nothing
        self.frames = self.patches = 0  # that came out of the flow, committed or not
        self.ledger = pa.Table.from_pylist([], schema.VIDEOS_TABLE)

    def heard(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same tables."""
        for table in tables:
            self.beat()
            yield table

    def confirmed(self, videos: pa.Table) -> pa.Table:
        """The same videos; tells of those that were replaced."""
        if again := videos.filter(pc.equal(videos["reason"], REPLACED))["uri"].to_pylist():
            log.warning("%d files were written anew while they were read: nothing of them is kept, the next time takes them in", len(again))
        self.replaced += again
        return videos

    def left_over(self, copies: list[str]) -> None:
        """Tell of copies that were dropped for the sake of a file that came to nothing."""
        if copies:
            log.warning("of %d copies the file that was read came to nothing: the next time takes them in", len(copies))
        self.lost += copies
        self.copies -= len(copies)

    def follow(self, written: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The same rows; tells of those that are not committed yet."""
        for rows in self.heard(written):
            self.frames += rows["frame_id"].drop_null().length()
            self.patches += sum(rows["patches"].to_pylist())
            if monotonic() - self.said > PATIENCE:
                self.say(f"{self.done} of {self.expected} videos · so far {self.frames} frames, {self.patches} patches, committed or not")
            yield rows

    def took_in(self, rows: pa.Table) -> None:
        """Tell of a commit."""
        self.ledger = pa.concat_tables([self.ledger, rows])
        counts, seconds = self.counts(), monotonic() - self.began
        left = seconds / max(self.done, 1) * (self.expected - self.done)
        self.say(
            f"{self.done} of {self.expected} videos, {counts['refused']} with a reason · {counts['frames']} frames, "
            f"{counts['kept']} kept · {counts['patches']} patches · {counts['frames'] / seconds:.1f} frames/s · about {left:.0f} s left"
        )

    @property
    def done(self) -> int:
        """Sources that need no more work: in the ledger, copies, or replaced while they were read."""
        return len(self.ledger) + self.copies + len(self.replaced)

    def counts(self) -> dict[str, int]:
        """Videos, refused ones, frames, kept ones and patches of this run."""
        sums = {name: int(sum(self.ledger[name].to_pylist())) for name in ("frames", "kept", "patches")}
        return sums | {"videos": len(self.ledger), "refused": len(self.ledger) - self.ledger["reason"].null_count}

    def say(self, text: str) -> None:
        """Log it, and count the silence from now."""
        self.said = monotonic()
        log.info(text)
