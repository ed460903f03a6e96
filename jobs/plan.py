"""Measure what each stage takes on a sample of the video, and say which pools, frames a second, hours and money come of it."""

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine import files, flow, mae, plan, schema, simulate
from engine.config import Config
from engine.flow import Step
from engine.frames import DecodeFrames, tables
from engine.plan import Plan, Prices, Service
from engine.store import PatchStore
from jobs import ingest, output, own, places, pools, probe

log = logging.getLogger("jobs.plan")
CLIPS, SECONDS = 2, 8.0  # simulated where no video is named
BOUGHT = pa.schema(
    [
        pa.field("stage", pa.string()),
        pa.field("seconds_per_frame", pa.float64()),  # of one core, or of a whole GPU
        pa.field("start_up_s", pa.float64()),
        pa.field("actors", pa.int64()),
        pa.field("cpus", pa.float64()),  # of all its actors
        pa.field("gpus", pa.float64()),
        pa.field("utilisation", pa.float64()),
        pa.field("bottleneck", pa.string()),  # from here on: of the whole plan, the same in each row
        pa.field("frames_per_second", pa.float64()),
        pa.field("video_hours", pa.float64()),
        pa.field("hours", pa.float64()),
        pa.field("cpu_hours", pa.float64()),
        pa.field("gpu_hours", pa.float64()),
        pa.field("money", pa.float64()),
    ]
)


def run(config: Config) -> None:
    """Measure, keep the times in the store for the next ingest of the same settings, and show the plan.

    ValueError for plan.gpus on a machine without one.
    """
    has_gpu = torch.cuda.is_available()
    if config.plan.gpus and not has_gpu:
        raise ValueError(f"plan.gpus={config.plan.gpus:g}: this machine has no GPU to measure on; run the job where there is one")
    with tempfile.TemporaryDirectory() as folder:
        config, simulated = with_video(config, Path(folder))
        services = measured(config, Path(folder))
    made = plan.plan(services, *resources(config))
    if not simulated:
        keep(config, services, has_gpu)
    show(made, config)


def with_video(config: Config, folder: Path) -> tuple[Config, bool]:
    """`config`, or simulated clips where no video was named and there is none; and whether these were made."""
    if not places.simulates(config):
        return config, False
    log.info("no video is named: measuring on %d simulated clips of %g s, so your own will differ", CLIPS, SECONDS)
    simulate.write_clips(folder / "videos", folder / "truth", CLIPS, seconds=SECONDS)
    return config.model_copy(update={"videos": config.videos.model_copy(update={"uri": str(folder / "videos")})}), True


def resources(config: Config) -> tuple[float, float, float]:
    """Processors, GPUs and true cores of the cluster that is planned: the one in the knobs, or this machine."""
    if config.plan.cpus:
        return config.plan.cpus, config.plan.gpus, inf
    cores = os.cpu_count() or 1
    return max(cores, flow.SLOTS), torch.cuda.device_count(), cores


# -- measuring ------------------------------------------------------------------------------------------------------------------


class FirstFrames:
    """The first frames of each video and no more: an hour of video tells little more of a stage's time than its first minutes."""

    def __init__(self, config: Config, count: int) -> None:
        self.decode, self.count = DecodeFrames(config.frames), count

    def __call__(self, videos: pa.Table) -> Iterator[pa.Table]:
        for video in videos.to_pylist():
            yield from tables(islice(self.decode.rows(video), self.count))


def measured(config: Config, folder: Path) -> list[Service]:
    """The services of ingest's stages on a sample of the video, each on the cores that one actor of it takes; writes into `folder` only.

    Hashing is left out: it is a pass of its own before the others begin, as fast as the disk, or as a bucket and the cluster's readers;
    cluster/README.md has the sum.
    """
    videos = sample(config)
    store = PatchStore(str(folder / "store"))
    store.create(probe.width(config))
    decode, *others = ingest.steps(with_some_scorer(config, folder), store)
    each = ceil(config.plan.frames / len(videos))
    steps = [replace(decode, stage=FirstFrames, arguments=(config, each)), *others]
    log.info("measuring %d stages on %d frames each of %d videos", len(steps), each, len(videos))
    with few_cores(steps):
        first, *rest = plan.measure(steps, videos, sampled_frames)
    return [replace(first, stage=decode.stage.__name__), *rest]


def sample(config: Config) -> pa.Table:
    """Videos evenly spread over the sources in the order of their addresses, as rows for the decoder. ValueError where there is none."""
    sources = own.found(config)
    if not len(sources):
        raise ValueError(f"videos.uri={config.videos.uri!r} holds no file to measure on")
    places = np.unique(np.linspace(0, len(sources) - 1, min(config.plan.videos, len(sources))).astype(int))
    rows = [source | {"video_id": f"{number:032}"} for number, source in enumerate(sources.take(pa.array(places)).to_pylist())]
    return pa.Table.from_pylist(rows, schema.VIDEO)


def sampled_frames(written: pa.Table) -> int:
    """How many frames rows are about."""
    return len(written["frame_id"].drop_null().unique())


def with_some_scorer(config: Config, folder: Path) -> Config:
    """`config` with the scorer that an ingest would use, or one of the same size without training: it takes the same time."""
    if not (section := probe.at_hand(config)):
        section = config.difficulty.model_copy(update={"checkpoint": str(folder / "scorer.safetensors")})
        mae.save(mae.MAE(section.mae), section.checkpoint)
    return config.model_copy(update={"difficulty": section})


@contextmanager
def few_cores(steps: Sequence[Step]) -> Iterator[None]:
    """As many cores as one actor may count on when all are busy: libraries would take the whole machine, which no two actors can have."""
    cores, threads = ceil(max(step.cpus for step in steps)), torch.get_num_threads()
    torch.set_num_threads(cores)
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if mine:
        os.sched_setaffinity(0, sorted(mine)[:cores])
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if mine:
            os.sched_setaffinity(0, mine)


# -- telling --------------------------------------------------------------------------------------------------------------------


def keep(config: Config, services: Sequence[Service], gpu: bool) -> None:
    """Leave the times in the store: pools follow from them and from what the cluster has when an ingest begins."""
    held = {"settings": pools.settings(config), "gpu": gpu, "services": plan.as_data(services)}
    where = PatchStore(config.store.uri).address(pools.NAME)
    files.put((json.dumps(held, indent=1) + "\n").encode(), where)
    log.info("the times are in %s: an ingest of the same settings on Ray makes its pools by them", where)


def show(made: Plan, config: Config) -> None:
    """Give the rows; for a person also the sentence that sums them up."""
    rows = bought(made, config)
    if config.output.format != "table":
        output.give(rows, config.output)
        return
    output.give(rows.select(BOUGHT.names[: BOUGHT.names.index("bottleneck")]), config.output)
    log.info("%s", summary(rows.slice(0, 1).to_pylist()[0]))


def bought(made: Plan, config: Config) -> pa.Table:
    """One row per stage (BOUGHT)."""
    spent = plan.cost(made, config.plan.hours, 1 / config.frames.every_s, Prices(config.plan.cpu_hour, config.plan.gpu_hour))
    whole = {"bottleneck": made.bottleneck, "frames_per_second": made.frames_per_second, "video_hours": config.plan.hours}
    whole |= {name: getattr(spent, name) for name in ("hours", "cpu_hours", "gpu_hours", "money")}
    return pa.Table.from_pylist([of_pool(pool) | whole for pool in made.pools], BOUGHT)


def of_pool(pool: plan.Pool) -> dict[str, Any]:
    """A pool as a row of the plan."""
    mine = {"stage": pool.service.stage, "seconds_per_frame": pool.service.seconds_per_frame, "start_up_s": pool.service.start_up}
    return mine | {name: getattr(pool, name) for name in ("actors", "cpus", "gpus", "utilisation")}


def summary(row: dict[str, Any]) -> str:
    """The plan in one sentence."""
    return (
        f"{row['frames_per_second']:.3g} frames/s, held up by {row['bottleneck']}; {row['video_hours']:g} hours of video take "
        f"{row['hours']:.3g} h, {row['cpu_hours']:.3g} CPU-hours and {row['gpu_hours']:.3g} GPU-hours: {row['money']:.2f} in money"
    )
