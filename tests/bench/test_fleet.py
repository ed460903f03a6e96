"""The simulation of `engine.fleet` beside real runs on Ray with 1, 2 and 4 counted workers in the pool of the slowest stage.

Frames a second from the first rows that come out to the last: before these actors start, as Ray does it. The error is that
of the simulation: foreseen over seen, less one. Stages that sleep need no core, as one that waits for a GPU does; those of an ingest share
this machine's cores. Times are measured first, in one process and one stage after another, as the job plan does.
BENCH_SCALE=0.3 takes a third of the rows.
"""

import os
import statistics
from math import isinf

import pyarrow as pa
import pytest

from engine import fleet, flow, simulate
from engine.flow import Step
from engine.knobs import amend
from engine.plan import Service
from engine.store import PatchStore
from jobs import ingest, probe
from jobs import plan as job
from jobs.recipes import tiny
from tests.bench.sleep import Sleep
from tests.bench.test_plan import ROW, paced

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
REPEATS = max(1, round(3 * SCALE))
WORKERS = (1, 2, 4)
SLEEPS = {"Quick": 0.1, "Slow": 1.0, "Middling": 0.2}


@pytest.fixture(autouse=True, scope="module")
def ray():
    yield
    flow.shut_down()


def on_cores(line, cores):
    """The same stations where all their actors share `cores` processors.

    Behind them stands one that serves as many parcels at once as there are processors, each for all the seconds that its stages work: no
    flow is faster than that. What it adds to the time of a single parcel is not so; it is for the pace of many.
    """
    if isinf(cores):
        return list(line)
    return [*line, fleet.Station("cores", int(cores), sum(station.seconds for station in line))]


def foreseen(services, sizes, parcels, parcel, cores):
    """Frames a second from the first parcel out to the last."""
    line = [fleet.Station(one.stage, size, one.seconds_per_frame * parcel) for one, size in zip(services, sizes, strict=True)]
    leaves = fleet.simulate(on_cores(line, cores), [0.0] * parcels).leaves
    return (parcels - 1) * parcel / (leaves[-1] - leaves[0])


def compared(name, steps, rows, count, foresee):
    """Foreseen over seen for each number of workers in the second pool."""
    errors = {}
    for workers in WORKERS:
        sizes = [1, workers, *[1] * (len(steps) - 2)]
        fixed = [Step(one.stage, one.arguments, one.batch, cpus=0.25, actors=(size, size)) for one, size in zip(steps, sizes, strict=True)]
        seen = statistics.median(paced(flow.run_on_ray(fixed, rows), count)[0] for _ in range(REPEATS))
        errors[workers] = foresee(sizes) / seen - 1
        print(f"\n{name}, {workers} workers: {foresee(sizes):.3f} frames/s foreseen, {seen:.3f} seen, {errors[workers]:+.1%}")
    return errors


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_stages_that_sleep_beside_their_simulation():
    steps = [Step(Sleep, (seconds,), batch=1) for seconds in SLEEPS.values()]
    services = [Service(name, seconds, 1, 1.0, 1.0) for name, seconds in SLEEPS.items()]
    rows = pa.table({"n": list(range(max(24, int(80 * SCALE))))}, ROW)
    compared("sleeping stages", steps, rows, len, lambda sizes: foreseen(services, sizes, len(rows), 1, float("inf")))


@pytest.mark.bench
@pytest.mark.timeout(3000)
def test_an_ingest_beside_its_simulation(tmp_path):
    clips = max(4, int(12 * SCALE))
    simulate.write_clips(tmp_path / "videos", tmp_path / "truth", clips, seconds=6.0, size=(240, 280))
    knobs = ["frames.every_s=1", f"videos.uri={tmp_path}/videos", f"store.uri={tmp_path}/store", "plan.frames=24", "plan.videos=4"]
    config = job.with_some_scorer(amend(tiny(), knobs), tmp_path)
    store = PatchStore(config.store.uri)
    store.create(probe.width(config))
    videos = pa.concat_tables(flow.run_here(ingest.identify(), job.find(config.videos.uri)))
    *others, write = ingest.steps(config, store)
    steps = [*(Step(one.stage, one.arguments, min(one.batch, 16)) for one in others), Step(write.stage, write.arguments, 16)]
    services = job.measured(config, tmp_path)
    for one in services:
        print(f"\n{one.stage}: {one.seconds_per_frame * 1000:.1f} ms a frame", end="")
    frames = job.sampled_frames(pa.concat_tables(flow.run_here(steps, videos)))
    cores = float(os.cpu_count() or 1)
    compared("ingest", steps, videos, job.sampled_frames, lambda sizes: foreseen(services, sizes, frames, 1, cores))
