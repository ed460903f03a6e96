"""The simulation of `engine.fleet` beside real runs on Ray with 1, 2 and 4 counted workers in the pool of the slowest stage.

`jobs.fleet.foreseen`, which draws the table of cluster/README.md, is held against an ingest whose regions sleep as one does that waits for
a GPU: a worker is a GPU of the table, and of both the frames a second are of the whole run. What a run of a single video takes beside its
work, as processes that start, is the start-up of all pools.

Of the others the pace: the slope of the frames that are out against the clock, without the first quarter, in which the actors start. The
error is that of the simulation: foreseen over seen, less one. Stages that sleep need no core; those of an ingest that does not share this
machine's cores (`cores`), which the table knows nothing of. Their times are measured first, in one process and one stage after another, as
the job plan does. A parcel is a video there, as what Ray hands from pool to pool is all that one call of a pool made of it.

Cores that work beside each other may be slower than one alone (`crowding`), which is measured too and printed.

A busy machine slows the run and not the simulation: where the load was more than QUIET the ingest is skipped after its numbers are printed.
BENCH_SCALE=0.4 takes two fifths of the rows.
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest

from engine import fleet, flow, plan, simulate
from engine.flow import Step
from engine.knobs import amend
from engine.patches import ProposePatches
from engine.plan import Service
from engine.store import PatchStore
from jobs import fleet as forecasts
from jobs import ingest, own, probe
from jobs import plan as job
from jobs.recipes import tiny
from tests.bench import neighbour
from tests.bench.cores import Shared
from tests.bench.sleep import Sleep
from tests.bench.test_plan import ROW

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
REPEATS = max(1, round(3 * SCALE))
WORKERS = (1, 2, 4)
SLEEPS = {"Quick": 0.1, "Slow": 1.0, "Middling": 0.2}
QUIET = 1.5  # processes that want a processor, before anything of this begins
RAYS_OWN = 0.17  # processors that Ray and the job's process take beside the actors: 2.8 s of them in 17 s of an ingest (notebooks/LOG.md)


@pytest.fixture(autouse=True, scope="module")
def ray():
    yield
    flow.shut_down()


def pace(moments, frames):
    """Frames a second, by least squares, from the moments at which so many each came out; the first quarter of these only starts it."""
    order = np.argsort(moments, kind="stable")
    out, first = np.cumsum(np.asarray(frames)[order]), len(moments) // 4
    return float(np.polyfit(np.asarray(moments)[order][first:], out[first:], 1)[0])


def foreseen(services, sizes, parcels, parcel, cores, crowded=1.0):
    """The pace of the simulation for so many parcels of so many frames."""
    line = [fleet.Station(one.stage, size, one.seconds_per_frame * parcel) for one, size in zip(services, sizes, strict=True)]
    leaves = fleet.through(line, parcels).leaves if np.isinf(cores) else Shared(line, cores, crowded).simulate([0.0] * parcels)
    return pace(leaves, [parcel] * parcels)


def seen(tables, count):
    """The pace of a run."""
    moments, frames = [], []
    for rows in tables:
        moments.append(time.perf_counter())
        frames.append(count(rows))
    return pace(moments, frames)


def crowding():
    """How fast a core is while all others do the same work, where 1 is alone."""
    work = neighbour.propose()
    work()
    alone = statistics.median(work() for _ in range(5))
    command = [sys.executable, "-m", "tests.bench.neighbour"]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range((os.cpu_count() or 1) - 1)]
    try:
        for other in others:
            other.stdout.readline()
        return alone / statistics.median(work() for _ in range(5))
    finally:
        for other in others:
            other.kill()
            other.communicate()


def compared(name, steps, rows, count, foresee):
    """Foreseen over seen for each number of workers in the second pool."""
    errors = {}
    for workers in WORKERS:
        sizes = [1, workers, *[1] * (len(steps) - 2)]
        fixed = [Step(one.stage, one.arguments, one.batch, cpus=0.25, actors=(size, size)) for one, size in zip(steps, sizes, strict=True)]
        found = statistics.median(seen(flow.run_on_ray(fixed, rows), count) for _ in range(REPEATS))
        errors[workers] = foresee(sizes) / found - 1
        print(f"\n{name}, {workers} workers: {foresee(sizes):.3f} frames/s foreseen, {found:.3f} seen, {errors[workers]:+.1%}", flush=True)
    return errors


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_stages_that_sleep_beside_their_simulation():
    steps = [Step(Sleep, (seconds,), batch=1) for seconds in SLEEPS.values()]
    services = [Service(name, seconds, 1, 1.0, 1.0) for name, seconds in SLEEPS.items()]
    rows = pa.table({"n": list(range(max(24, int(80 * SCALE))))}, ROW)
    errors = compared("sleeping stages", steps, rows, len, lambda sizes: foreseen(services, sizes, len(rows), 1, float("inf")))
    assert max(map(abs, errors.values())) < 0.15


# -- the function that draws the table ------------------------------------------------------------------------------------------


class Waits:
    """Cuts regions at random, after so many seconds a frame in which it needs no core."""

    def __init__(self, config, seconds):
        self.propose, self.seconds = ProposePatches(config), seconds

    def __call__(self, frames):
        time.sleep(self.seconds * len(frames))
        yield from self.propose(frames)


def taken_in(steps, sizes, videos):
    """Seconds of a run with pools of these sizes, and its sampled frames."""
    fixed = [replace(one, cpus=0.25, actors=(size, size)) for one, size in zip(steps, sizes, strict=True)]
    began = time.perf_counter()
    frames = job.sampled_frames(pa.concat_tables(flow.run_on_ray(fixed, videos)))
    return time.perf_counter() - began, frames


@pytest.mark.bench
@pytest.mark.timeout(3000)
def test_an_ingest_whose_regions_wait_beside_the_table(tmp_path):
    load = os.getloadavg()[0]
    clips = max(12, int(60 * SCALE))
    simulate.write_clips(tmp_path / "videos", tmp_path / "truth", clips, seconds=4.0, size=(240, 280))
    knobs = ["frames.every_s=1", "patches.proposer=crops", f"videos.uri={tmp_path}/videos", f"store.uri={tmp_path}/store"]
    config = job.with_some_scorer(amend(tiny(), knobs), tmp_path)
    store = PatchStore(config.store.uri)
    store.create(probe.width(config))
    videos = pa.concat_tables(flow.run_here(ingest.identify(), own.found(config)))
    decode, _, score, write = ingest.steps(config, store)
    # A call of a pool waits for the rows of a batch: few, so that it is one video's, as a parcel of the table is.
    steps = [decode, Step(Waits, (config.patches, 0.5), batch=4), replace(score, batch=32), replace(write, batch=32)]
    measured = plan.measure(steps, videos, job.sampled_frames)
    each = round(job.sampled_frames(pa.concat_tables(flow.run_here(steps[:1], videos.slice(0, 4)))) / 4)
    names = ("DecodeFrames", forecasts.REGIONS, "ScoreDifficulty", "WriteRows")
    services = [replace(one, stage=name, gpus=float(name == forecasts.REGIONS)) for one, name in zip(measured, names, strict=True)]
    told = ", ".join(f"{one.stage} {one.seconds_per_frame * 1000:.1f} ms" for one in services)
    print(f"\n{clips} videos of {each} frames; a frame takes {told}")
    errors = {}
    for workers in WORKERS:
        sizes = [pool.actors for pool in fleet.even(fleet.widest(services, workers), clips).pools]
        alone = statistics.median(taken_in(steps, sizes, videos.slice(0, 1))[0] for _ in range(REPEATS))
        start = max(alone - each * sum(one.seconds_per_frame for one in services), 0.0)
        started = [forecasts.Timed(**asdict(replace(one, start_up=start))) for one in services]
        times = forecasts.Times(started, 0.0, 0.04, forecasts.PARCEL, each, 0.0, 1.0, {})  # a block is a parcel here
        runs = [taken_in(steps, sizes, videos) for _ in range(REPEATS)]
        found = statistics.median(frames / seconds for seconds, frames in runs)
        one = forecasts.foreseen(times, workers, runs[0][1])
        errors[workers] = one.frames_per_second / found - 1
        seen_of = f"{one.frames_per_second:.3f} frames/s foreseen, {found:.3f} seen, {errors[workers]:+.1%}"
        print(f"\nthe table's, {workers} workers, pools {sizes}, {start:.1f} s to start: {seen_of}, {one.bottleneck}", flush=True)
    if load > QUIET:
        pytest.skip(f"a load of {load:.1f} when it began: the numbers above say little")
    assert max(map(abs, errors.values())) < 0.15


@pytest.mark.bench
@pytest.mark.timeout(3000)
def test_an_ingest_beside_its_simulation(tmp_path):
    load = os.getloadavg()[0]
    clips = max(16, int(80 * SCALE))
    simulate.write_clips(tmp_path / "videos", tmp_path / "truth", clips, seconds=2.0, size=(240, 280))
    # Of a few clips one more that is rejected is a sixth of the time of all: measured on all, what is compared is the simulation.
    sample = [f"plan.frames={2 * clips}", f"plan.videos={clips}"]
    knobs = ["frames.every_s=1", f"videos.uri={tmp_path}/videos", f"store.uri={tmp_path}/store", *sample]
    config = job.with_some_scorer(amend(tiny(), knobs), tmp_path)
    store = PatchStore(config.store.uri)
    store.create(probe.width(config))
    videos = pa.concat_tables(flow.run_here(ingest.identify(), own.found(config)))
    *others, write = ingest.steps(config, store)
    # A call of a pool waits for the rows of a batch: few, so that it is one video's, of two frames and a verdict.
    steps = [Step(one.stage, one.arguments, min(one.batch, most)) for one, most in zip((*others, write), (1, 2, 16, 16), strict=True)]
    services = job.measured(config, tmp_path)
    for one in services:
        print(f"\n{one.stage}: {one.seconds_per_frame * 1000:.1f} ms a frame", end="")
    each = job.sampled_frames(pa.concat_tables(flow.run_here(steps[:1], videos.slice(0, 4)))) / 4
    cores = (os.cpu_count() or 1) - RAYS_OWN
    crowded = crowding()
    print(f"\na core beside another that works: {crowded:.2f} of its speed alone", end="")
    errors = compared("ingest", steps, videos, job.sampled_frames, lambda sizes: foreseen(services, sizes, clips, each, cores, crowded))
    if load > QUIET:
        pytest.skip(f"a load of {load:.1f} when it began: the numbers above say little")
    assert max(map(abs, errors.values())) < 0.15
