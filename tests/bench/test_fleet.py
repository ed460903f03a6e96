"""The simulation of `engine.fleet` beside real runs on Ray with 1, 2 and 4 counted workers in the pool of the slowest stage.

Of both the pace: the slope of the frames that are out against the clock, without the first quarter, in which the actors start. The error
is that of the simulation: foreseen over seen, less one. Stages that sleep need no core, as one that waits for a GPU does; those of an
ingest share this machine's cores (`cores`). Their times are measured first, in one process and one stage after another, as the job plan
does. A parcel is a video there, as what Ray hands from pool to pool is all that one call of a pool made of it.

Cores that work beside each other may be slower than one alone (`crowding`), which is measured too and printed.

A busy machine slows the run and not the simulation: where the load was more than QUIET the ingest is skipped after its numbers are printed.
BENCH_SCALE=0.4 takes two fifths of the rows.
"""

import os
import statistics
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

from engine import fleet, flow, simulate
from engine.flow import Step
from engine.knobs import amend
from engine.plan import Service
from engine.store import PatchStore
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
    arrivals = [0.0] * parcels
    leaves = fleet.simulate(line, arrivals).leaves if np.isinf(cores) else Shared(line, cores, crowded).simulate(arrivals)
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
