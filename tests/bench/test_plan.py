"""The pipeline beside its slowest stage: frames a second of all stages together over those that stage makes alone with the same pool.

In one process the stages take turns, so what the pipeline can reach there is one over the sum of their times, not the slowest alone. On Ray
two numbers are printed: steady, from the first rows that come out to the last; and whole, with the start of the actors. Stages that sleep
need no core, so theirs is the ratio of the flow itself; the stages of an ingest share this machine's cores, and where these are too few
for all pools the slowest stage has them to itself when it is alone. BENCH_SCALE=0.3 takes a third of the rows.
"""

import os
import statistics
import time
from dataclasses import replace

import pyarrow as pa
import pytest

from engine import flow, plan, simulate
from engine.flow import Step
from engine.knobs import amend
from engine.plan import Service
from engine.store import PatchStore
from jobs import ingest, own, probe
from jobs import plan as job
from jobs.recipes import tiny
from tests.bench.sleep import Sleep

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
REPEATS = max(1, round(3 * SCALE))
ROW = pa.schema([pa.field("n", pa.int64())])
SLEEPS = {"Quick": 0.1, "Slow": 1.0, "Middling": 0.4}  # seconds a row: a call of SAM takes seconds, and Ray some hundredths for each call


def paced(tables, count):
    """(frames a second from the first output on, frames a second with the start)."""
    began, seen = time.perf_counter(), []
    for rows in tables:
        seen.append((time.perf_counter(), count(rows)))
    frames = sum(number for _, number in seen)
    (first, number), (last, _) = seen[0], seen[-1]
    return (frames - number) / (last - first) if last > first else 0.0, frames / (last - began)


def told(name, ratios):
    print(f"\n{name}: {statistics.median(ratios):.2f} (of {', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    return statistics.median(ratios)


@pytest.fixture(autouse=True, scope="module")
def ray():
    yield
    flow.shut_down()


def pooled(steps, services, cpus, gpus=0.0, cores=float("inf")):
    made = plan.plan(services, cpus, gpus, cores)
    print(f"\npools {[pool.actors for pool in made.pools]}, {made.frames_per_second:.2f} frames/s expected, held up by {made.bottleneck}")
    return flow.pooled(steps, [pool.actors for pool in made.pools]), made


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_the_flow_on_ray_beside_its_slowest_stage_for_stages_that_sleep():
    steps = [Step(Sleep, (seconds,), batch=1, cpus=0.5) for seconds in SLEEPS.values()]
    services = [Service(name, seconds, 1, 1.0, 1.0, cpus=0.5) for name, seconds in SLEEPS.items()]
    steps, made = pooled(steps, services, cpus=4)
    slowest = [pool.service.stage for pool in made.pools].index(made.bottleneck)
    rows = pa.table({"n": list(range(max(60, int(200 * SCALE))))}, ROW)
    pairs = [(paced(flow.run_on_ray(steps, rows), len), paced(flow.run_on_ray([steps[slowest]], rows), len)) for _ in range(REPEATS)]
    told("sleeping stages on Ray, whole", [whole / alone for (_, whole), (_, alone) in pairs])
    told("sleeping stages on Ray, steady", [steady / alone for (steady, _), (alone, _) in pairs])
    told("sleeping stages on Ray, steady over the plan", [steady / made.frames_per_second for (steady, _), _ in pairs])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Steps, videos and services of an ingest of simulated clips into a store of their own."""
    folder = tmp_path_factory.mktemp("clips")
    simulate.write_clips(folder / "videos", folder / "truth", max(2, int(8 * SCALE)), seconds=6.0, size=(240, 280))
    knobs = ["patches.proposer=crops", "frames.every_s=0.2", f"videos.uri={folder}/videos", f"store.uri={folder}/store", "plan.frames=100"]
    config = job.with_some_scorer(amend(tiny(), knobs), folder)
    store = PatchStore(config.store.uri)
    store.create(probe.width(config))
    *others, write = ingest.steps(config, store)
    videos = pa.concat_tables(flow.run_here(ingest.identify(), own.found(config)))
    services = job.measured(config, folder)
    for service in services:
        print(f"\n{service.stage}: {service.seconds_per_frame * 1000:.1f} ms a frame, starts in {service.start_up:.1f} s", end="")
    return [*others, replace(write, batch=16)], videos, services  # small batches, so that there is a pace to see


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_an_ingest_in_one_process_beside_the_sum_of_its_stages(prepared):
    steps, videos, services = prepared
    alone = 1 / sum(service.seconds_per_frame for service in services)
    with job.few_cores(steps):
        paces = [paced(flow.run_here(steps, videos), job.sampled_frames) for _ in range(REPEATS)]
    told("ingest in one process, whole over 1 / sum of stages", [whole / alone for _, whole in paces])


def into(steps, index, videos):
    """The rows that reach a step."""
    return pa.concat_tables(flow.run_here(steps[:index], videos)) if index else videos


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_an_ingest_on_ray_beside_its_slowest_stage(prepared):
    steps, videos, services = prepared
    steps, made = pooled(steps, services, flow.resources(steps)[0], cores=os.cpu_count())
    slowest = min(range(len(steps)), key=lambda index: services[index].rate(made.pools[index].actors))
    rows, frames = into(steps, slowest, videos), 0
    frames = job.sampled_frames(pa.concat_tables(flow.run_here(steps, videos)))
    per_row = frames / sum(map(len, flow.run_here([steps[slowest]], rows)))
    pairs = [
        (
            paced(flow.run_on_ray(steps, videos), job.sampled_frames),
            paced(flow.run_on_ray([steps[slowest]], rows), lambda made: len(made) * per_row),
        )
        for _ in range(REPEATS)
    ]
    told(f"ingest on Ray, whole over {services[slowest].stage} alone", [whole / alone for (_, whole), (_, alone) in pairs])
    told("ingest on Ray, steady over the plan", [steady / made.frames_per_second for (steady, _), _ in pairs])
