import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.flow import Step
from engine.plan import WAITED, Prices, Service, as_data, cost, fits, from_data, lacking, measure, plan, share

TIMES = st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0, 2.5])
CPUS = st.sampled_from([0.5, 0.75, 1.0, 2.0])
GPUS = st.sampled_from([0.0, 0.25, 0.5, 1.0])


def service(stage="Work", seconds=1.0, cpus=1.0, gpus=0.0, **more):
    return Service(stage, seconds, batch=1, rows_per_frame=1.0, out_per_row=1.0, cpus=cpus, gpus=gpus, **more)


services = st.lists(st.builds(service, st.sampled_from("ABC"), TIMES, CPUS, GPUS), min_size=1, max_size=3)


def best_of_all(stages, cpus, gpus):
    """The highest assured rate of the slowest stage over every allocation that fits; None where none does."""
    stages = [stage if gpus else replace(stage, gpus=0.0) for stage in stages]
    shares = [share(stage.gpus) for stage in stages]
    rates = [
        min(stage.assured(size) for stage, size in zip(stages, sizes, strict=True))
        for sizes in product(*(range(1, int(cpus / stage.cpus) + 1) for stage in stages))
        if sum(n * stage.cpus for n, stage in zip(sizes, stages, strict=True)) + 1 <= cpus
        and sum(n * part for n, part in zip(sizes, shares, strict=True)) <= gpus
    ]
    return max(rates, default=None)


@settings(max_examples=300, deadline=None)
@given(services, st.sampled_from([1.0, 2.0, 3.5, 5.0, 9.0]), st.sampled_from([0.0, 1.0, 2.0, 4.0]))
def test_no_allocation_assures_more_than_the_planned_one_and_that_is_no_faster_than_its_gpus(stages, cpus, gpus):
    best = best_of_all(stages, cpus, gpus)
    if best is None:
        with pytest.raises(ValueError, match="are lacking"):
            plan(stages, cpus, gpus)
    elif best == float("inf"):
        with pytest.raises(ValueError, match="no stage takes any time"):
            plan(stages, cpus, gpus)
    else:
        made = plan(stages, cpus, gpus)
        assert min(pool.service.assured(pool.actors) for pool in made.pools) == pytest.approx(best)
        assert made.frames_per_second >= best * (1 - 1e-9)
        assert made.frames_per_second <= min(pool.service.rate(pool.actors) for pool in made.pools) * (1 + 1e-9)
        assert sum(pool.service.gpu_seconds for pool in made.pools) * made.frames_per_second <= gpus * (1 + 1e-9)
        assert sum(pool.cpus for pool in made.pools) + 1 <= cpus
        assert sum(pool.gpus for pool in made.pools) <= gpus
        assert all(0 <= pool.utilisation <= 1 + 1e-9 for pool in made.pools)


@given(st.builds(service, st.just("A"), st.sampled_from([0.1, 1.0]), CPUS, GPUS), st.integers(5, 40), st.integers(0, 8))
def test_more_of_a_resource_never_makes_it_slower(stage, cpus, gpus):
    stages = [stage, service("B", 0.7, gpus=0.5, cpus=0.5)]
    if not gpus:
        stages = [replace(each, gpus=0.0) for each in stages]
    elif sum(each.gpus for each in stages) > gpus:
        return
    few = plan(stages, cpus, gpus).frames_per_second
    assert plan(stages, cpus + 1, gpus).frames_per_second >= few * (1 - 1e-9)
    assert plan(stages, cpus, gpus + (gpus > 0)).frames_per_second >= few * (1 - 1e-9)


def test_pools_grow_where_it_is_slow_and_the_rest_stays_free():
    made = plan([service("Slow", 1.0), service("Fast", 0.1)], cpus=6)
    assert [(pool.service.stage, pool.actors) for pool in made.pools] == [("Slow", 4), ("Fast", 1)]
    assert (made.frames_per_second, made.bottleneck) == (4.0, "Slow")
    assert [pool.utilisation for pool in made.pools] == [1.0, pytest.approx(0.4)]
    assert [pool.actors for pool in plan([service("Slow", 1.0), service("Fast", 0.1)], cpus=1001).pools] == [909, 91]


def test_rows_that_multiply_count_for_the_frame_they_come_from():
    patches = Service("Score", 0.05, batch=64, rows_per_frame=8.0, out_per_row=1.0)
    assert patches.seconds_per_frame == pytest.approx(0.4)
    assert plan([patches], cpus=3).frames_per_second == pytest.approx(5.0)


def test_a_cluster_without_gpus_runs_the_same_stages_on_processors():
    assert plan([service(gpus=0.5)], cpus=3, gpus=0).pools[0].gpus == 0
    assert plan([service(gpus=0.5, cpus=0.1)], cpus=9, gpus=2).pools[0].actors == 4


def test_shares_of_a_gpu_count_as_the_card_holds_them():
    assert [share(part) for part in (0.0, 0.25, 0.4, 0.5, 0.6, 1.0, 2.0)] == [0.0, 0.25, 0.5, 0.5, 1.0, 1.0, 2.0]
    assert plan([service(gpus=0.4, cpus=0.1)], cpus=9, gpus=2).pools[0].actors == 4


def test_a_gpu_that_stages_share_is_as_fast_as_its_work_takes_however_it_is_shared():
    """What `plan` measured of an actor alone on a GPU counts once, whatever share the actors have of it."""
    sam, scorer = (
        Service(name, seconds, 1, 1, 1, cpus=1, gpus=part) for name, seconds, part in (("SAM", 5.6, 0.5), ("scorer", 0.56, 0.25))
    )
    for gpus, sizes in ((1, [1, 1]), (4, [7, 2]), (64, [116, 24])):
        made = plan([sam, scorer], 1000, gpus)
        assert [pool.actors for pool in made.pools] == sizes
        assert made.frames_per_second == pytest.approx(gpus / (5.6 + 0.56))
        assert made.bottleneck == "SAM"
        assert made.pools[0].utilisation == pytest.approx(1.0), "waiting for what shares its GPU is no idleness"
    assert plan([sam], 1000, 1).frames_per_second == pytest.approx(1 / 5.6), "two halves of a GPU are no faster than the whole"
    assert plan([replace(sam, gpus=2)], 1000, 4).frames_per_second == pytest.approx(2 / 5.6), "two at a time, each on two"


def test_what_takes_no_gpu_keeps_up_with_gpus_that_are_never_idle():
    made = plan([service("decode", 0.17), service("SAM", 1.0, gpus=0.5), service("scorer", 0.001, gpus=0.25)], 100, 6)
    assert made.bottleneck == "SAM"
    assert made.frames_per_second == pytest.approx(6 / 1.001)
    assert made.pools[0].actors == 2
    assert made.pools[0].service.assured(1) > min(pool.service.assured(pool.actors) for pool in made.pools)


def test_cores_that_pools_share_are_the_limit_of_all_stages_together():
    made = plan([service("A", 0.3), service("B", 0.1)], cpus=8, cores=2)
    assert made.cpus == 2
    assert (made.bottleneck, made.frames_per_second) == ("cores", pytest.approx(5.0))
    assert plan([service("A", 0.3), service("B", 0.1)], cpus=3, cores=8).bottleneck == "A"


def test_a_cluster_too_small_is_told_what_it_lacks_and_how_much():
    stages = [service(cpus=2), service(cpus=1, gpus=1), service(gpus=1)]
    with pytest.raises(ValueError, match=r"need 5 CPUs and has 3: 2 are lacking and 2 GPUs and has 1: 1 are lacking"):
        plan(stages, cpus=3, gpus=1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seconds": -1.0}, "seconds_per_row=-1.0, expected 0 or more"),
        ({"seconds": float("nan")}, "seconds_per_row=nan"),
        ({"cpus": float("inf")}, "cpus=inf"),
        ({"gpus": 1.5}, "gpus=1.5, expected a part of one or a whole number"),
        ({"cpus": 0.0}, "cpus=0, expected a part of one at least"),
    ],
)
def test_nonsense_is_refused_with_stage_and_value(change, sentence):
    with pytest.raises(ValueError, match=f"Work: .*{sentence}"):
        service(**change)


def test_nothing_to_plan_is_said():
    with pytest.raises(ValueError, match="no stage to plan"):
        plan([], cpus=4)


def test_cost_is_of_the_whole_cluster_for_as_long_as_it_takes():
    made = plan([service(seconds=0.5, gpus=1, start_up=36.0)], cpus=4, gpus=1)
    spent = cost(made, video_hours=10, sampled_per_second=1.0, prices=Prices(cpu_hour=0.05, gpu_hour=2.0))
    assert spent.hours == pytest.approx(5.01)
    assert (spent.cpu_hours, spent.gpu_hours) == (pytest.approx(20.04), pytest.approx(5.01))
    assert spent.money == pytest.approx(20.04 * 0.05 + 5.01 * 2.0)
    assert cost(made, 0, 1.0, Prices(1, 1)).money == 0


@given(services)
def test_services_survive_a_file(stages):
    assert from_data(as_data(stages)) == stages


def test_what_does_not_fit_is_named_by_resource():
    stages = [service(cpus=2, gpus=0.5)]
    assert fits(stages, [2], cpus=5, gpus=1)
    assert not fits(stages, [2], cpus=4.5, gpus=1)
    assert not fits(stages, [3], cpus=9, gpus=1)
    assert {kind: lack for kind, _, lack in lacking(stages, [3], 5, 1)} == {"CPU": 2.0, "GPU": 0.5}


# -- measuring ------------------------------------------------------------------------------------------------------------------


class Clock:
    """Tells the time that the stages below say they took."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Double:
    """Two rows for one, a second a row and ten for the first call; starts in five."""

    def __init__(self, clock):
        clock.now += 5.0
        self.clock, self.calls = clock, 0

    def __call__(self, table):
        self.calls += 1
        self.clock.now += len(table) + (10.0 if self.calls == 1 else 0.0)
        yield table
        yield table


class Halve:
    """Every other row, a quarter of a second a call; a pause of a minute disturbs its second pass."""

    def __init__(self, clock):
        self.clock, self.calls = clock, 0

    def __call__(self, table):
        self.calls += 1
        self.clock.now += 60.25 if self.calls == 4 else 0.25
        yield table.take(list(range(0, len(table), 2)))


def test_stages_are_timed_apart_without_their_start_their_first_call_and_a_disturbed_pass():
    clock = Clock()
    steps = [Step(Double, (clock,), batch=2, cpus=0.5), Step(Halve, (clock,), batch=4, gpus=0.5)]
    double, halve = measure(steps, pa.table({"n": [1, 2, 3, 4]}), frames=len, clock=clock)
    assert (double.stage, double.seconds_per_row, double.start_up, double.out_per_row) == ("Double", 1.0, 5.0, 2.0)
    assert (halve.seconds_per_row, halve.rows_per_frame, halve.start_up) == (2 * 0.25 / 8, 2.0, 0.0)
    assert (double.cpus, halve.gpus, halve.batch) == (0.5, 0.5, 4)


def test_a_sample_without_frames_cannot_be_measured_on():
    with pytest.raises(ValueError, match="the sample gave no frame"):
        measure([Step(Double, (Clock(),), batch=2)], pa.table({"n": [1]}), frames=lambda rows: 0)


class Work:
    """A tenth of a second of a processor a call, whatever else the machine does, and half as long without one."""

    def __call__(self, table):
        began = time.thread_time()
        while time.thread_time() - began < 0.1:
            pass
        time.sleep(0.05)
        yield table


@pytest.fixture
def busy():
    """One processor for this process and two others that never rest."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for other in others:
        other.kill()
        other.wait()
    os.sched_setaffinity(0, mine)


@pytest.mark.skipif(not WAITED.exists(), reason="the system does not tell how long a thread waited for a processor")
def test_a_busy_machine_measures_what_a_quiet_one_would(busy):
    rows, began = pa.table({"n": list(range(4))}), time.perf_counter()
    (service,) = measure([Step(Work, (), batch=1)], rows, frames=len)
    wall = (time.perf_counter() - began) / 13  # three passes of four calls, and one before
    assert service.seconds_per_row == pytest.approx(0.15, rel=0.1)
    assert wall > 1.5 * service.seconds_per_row
