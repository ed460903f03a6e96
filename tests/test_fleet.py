import random
from dataclasses import replace
from pathlib import Path

import pytest

from engine import fleet, plan
from engine.fleet import Nodes, Station
from engine.plan import Prices, Service
from jobs import fleet as forecasts
from tests.bench.cores import Shared

FREE = Prices(0.0, 0.0)


def poisson(rate, count, seed=0):
    draw, now, made = random.Random(seed), 0.0, []
    for _ in range(count):
        now += draw.expovariate(rate)
        made.append(now)
    return made


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_server_of_equal_times_makes_wait_what_pollaczek_and_khinchine_say(load):
    seconds, count = 2.0, 200_000
    flow = fleet.simulate([Station("one", 1, seconds)], poisson(load / seconds, count))
    assert flow.waits[0] / count == pytest.approx(load * seconds / (2 * (1 - load)), rel=0.03)  # M/D/1


def time_in_system(arrivals, flow):
    """Mean seconds from a parcel's arrival to its leaving: W of Little's law."""
    return sum(left - came for came, left in zip(arrivals, flow.leaves, strict=True)) / len(arrivals)


def mean_number(arrivals, flow):
    """Parcels in the system on average over time, counted at its events: L of Little's law."""
    area = now = 0.0
    inside = 0
    for at, change in sorted(changes(arrivals, flow)):
        area += inside * (at - now)
        now, inside = at, inside + change
    return area / now


def changes(arrivals, flow):
    yield from ((at, 1) for at in arrivals)
    yield from ((at, -1) for at in flow.leaves)


def test_as_many_are_inside_as_come_in_the_time_that_one_stays():
    arrivals = poisson(0.4, 5_000)
    flow = fleet.simulate([Station("a", 1, 2.0), Station("b", 3, 6.0), Station("c", 1, 1.5)], arrivals)
    rate = len(arrivals) / flow.leaves[-1]
    assert mean_number(arrivals, flow) == pytest.approx(rate * time_in_system(arrivals, flow), rel=1e-9)  # Little


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 5, 1), (3, 1, 4)])
def test_a_saturated_line_is_as_fast_as_its_slowest_station(sizes):
    line = [Station(name, actors, seconds) for name, actors, seconds in zip("abc", sizes, (1.0, 2.5, 0.7), strict=True)]
    count = 4_000
    leaves = fleet.simulate(line, [0.0] * count).leaves
    pace = (leaves[-1] - leaves[count // 2]) / (count - 1 - count // 2)
    assert pace == pytest.approx(max(one.seconds / one.actors for one in line), rel=1e-3)


def by_looking_at_a_clock(line, count, tick=0.5):
    """The same line by a clock that moves in steps: another algorithm for times that are multiples of its step."""
    queues, working = [list(range(count))] + [[] for _ in line[1:]], [[] for _ in line]
    leaves, now = {}, 0.0
    while len(leaves) < count:
        moved = True
        while moved:
            moved = False
            for i in reversed(range(len(line))):
                done = [one for one in working[i] if one[0] <= now]
                working[i] = [one for one in working[i] if one[0] > now]
                for _, parcel in sorted(done):
                    moved = True
                    if i == len(line) - 1:
                        leaves[parcel] = now
                    else:
                        queues[i + 1].append(parcel)
                while queues[i] and len(working[i]) < line[i].actors:
                    working[i].append((now + line[i].seconds, queues[i].pop(0)))
                    moved = True
        now += tick
    return [leaves[parcel] for parcel in range(count)]


@pytest.mark.parametrize("seed", range(12))
def test_the_moments_are_those_of_a_clock_that_moves_in_steps(seed):
    draw = random.Random(seed)
    line = [Station(str(i), draw.randint(1, 3), draw.randint(1, 6) / 2) for i in range(3)]
    flow = fleet.simulate(line, [0.0] * 40)
    assert list(flow.leaves) == by_looking_at_a_clock(line, 40)


# -- processors that actors share -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_actors_with_a_processor_each_are_those_of_the_fleet(seed):
    draw = random.Random(seed)
    line = [Station(str(i), draw.randint(1, 4), draw.uniform(0.1, 3.0)) for i in range(4)]
    arrivals = poisson(1.0, 300, seed)
    assert Shared(line).simulate(arrivals) == pytest.approx(fleet.simulate(line, arrivals).leaves)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_processor_in_equal_shares_keeps_work_as_long_as_processor_sharing_does(load):
    seconds, count = 2.0, 50_000
    arrivals = poisson(load / seconds, count)
    leaves = Shared([Station("one", count, seconds)], 1.0).simulate(arrivals)
    mean = sum(left - came for came, left in zip(arrivals, leaves, strict=True)) / count
    assert mean == pytest.approx(seconds / (1 - load), rel=0.03)  # M/G/1 with processor sharing


def test_processors_that_are_never_idle_are_through_when_all_work_is_done():
    line = [Station("a", 1, 0.2), Station("b", 4, 1.0)]
    assert max(Shared(line, 2.0).simulate([0.0] * 100)) == pytest.approx(100 * 1.2 / 2, rel=0.03)  # but for start and end


def test_processors_that_slow_each_other_down_do_so_only_while_both_work():
    both, one = [Station("a", 2, 1.0)], [Station("a", 1, 1.0)]
    assert Shared(both, 2.0, crowded=0.5).simulate([0.0, 0.0]) == [2.0, 2.0]
    assert Shared(one, 2.0, crowded=0.5).simulate([0.0, 0.0]) == [1.0, 2.0]


# -- forecasts and nodes --------------------------------------------------------------------------------------------------------


SERVICES = [Service("decode", 0.1, 1, 1, 1), Service("model", 1.0, 4, 1, 1, gpus=0.5), Service("write", 0.01, 64, 1, 1, cpus=0.25)]


def test_a_long_run_costs_what_the_plan_says_and_a_short_one_more():
    made, prices = fleet.widest(SERVICES, 4), Prices(0.05, 2.5)
    long = fleet.forecast(fleet.stations(made, 4, 10**6, []), made, 10**6, 4, prices)
    planned = plan.cost(made, 10**6 / 3600, 1.0, prices)
    assert long.cost.money == pytest.approx(planned.money, rel=1e-3)
    assert long.frames_per_second == pytest.approx(made.frames_per_second, rel=1e-3)
    assert long.bottleneck == made.bottleneck == "model"
    assert long.gpu_use == pytest.approx(1.0, rel=1e-3)  # eight halves, never idle
    short = fleet.forecast(fleet.stations(made, 4, 10**6, []), made, 32, 4, prices)
    assert short.frames_per_second < long.frames_per_second
    assert short.bottleneck == "start and end"


def test_what_is_not_simulated_goes_on_at_the_pace_of_what_was():
    made = fleet.widest(SERVICES, 2)
    line = fleet.stations(made, 4, 10**6, [])
    whole = fleet.forecast(line, made, 40_000, 4, FREE)
    part = fleet.forecast(line, made, 40_000, 4, FREE, most=500)
    assert part.cost.hours == pytest.approx(whole.cost.hours, rel=1e-2)  # of 500 parcels, which leave four at a time


def test_what_is_left_out_of_the_middle_is_whole_turns_and_whole_thirds_of_what_is_not():
    """Two decoders whose parcels come in bursts, and most of them left out: a pace between other moments than ends of turns is off."""
    made = fleet.widest(SERVICES, 40)
    first, *others = fleet.stations(made, 4, 10**6, [])
    line = [replace(first, run=50, actors=2), *others]
    turn = 100  # parcels
    for turns in (61, 62, 63):
        whole, part = (fleet.forecast(line, made, 4 * turn * turns, 4, FREE, most=most).cost.hours for most in (10**6, 7 * turn))
        assert part == pytest.approx(whole, rel=1e-9), "each turn is like the one before"


def test_what_there_is_one_of_and_too_few_videos_end_the_growth():
    made = fleet.widest(SERVICES, 400)
    committer = Station("committer", 1, 0.4)
    line = fleet.stations(made, 4, 10**6, [committer])
    assert fleet.forecast(line, made, 10**6, 4, FREE).bottleneck == "committer"
    few = fleet.stations(made, 4, 3, [])
    told = fleet.forecast(few, made, 10**6, 4, FREE)
    assert told.bottleneck == "too few videos"
    assert told.frames_per_second == pytest.approx(3 / 0.1, rel=1e-2)


@pytest.mark.parametrize("run", [1, 3])
def test_sources_are_served_whole_by_one_actor_each(run):
    station, rate = Station("decode", 2, 1.0, start_up=0.5, run=run), 2.0
    assert fleet.sourced(station, 8) == sorted(
        {1: [1.5, 1.5, 2.5, 2.5, 3.5, 3.5, 4.5, 4.5], 3: [1.5, 2.5, 3.5, 1.5, 2.5, 3.5, 4.5, 5.5]}[run]
    )
    assert fleet.sourced(station, 6 * 500)[-1] == pytest.approx(0.5 + 6 * 500 / rate)
    if run == 1:
        assert fleet.sourced(station, 8) == list(fleet.simulate([station], [0.0] * 8).leaves)


def test_a_source_too_many_for_the_decoders_costs_a_whole_turn_of_theirs():
    made = fleet.widest(SERVICES, 40)
    first, *others = fleet.stations(made, 4, 10**6, [])
    line = [replace(first, run=200), *others]
    video = 200 * first.seconds
    even, odd = (fleet.forecast(line, made, 800 * videos, 4, FREE) for videos in (first.actors, first.actors + 1))
    assert even.bottleneck == "model"
    assert odd.bottleneck == fleet.TURNS, "there are more videos than decoders"
    assert odd.cost.hours * 3600 == pytest.approx(2 * video + sum(station.seconds for station in others))
    assert odd.cost.hours > 1.5 * even.cost.hours
    long = fleet.forecast(line, made, 800 * first.actors * 1000, 4, FREE)
    assert long.frames_per_second == pytest.approx(made.frames_per_second, rel=1e-2)
    whole, part = (fleet.forecast(line, made, 800 * (8 * first.actors + 1), 4, FREE, most=most).cost.hours for most in (10**6, 1))
    assert part == pytest.approx(whole, rel=1e-2), "the last turn is in what is simulated"
    assert whole * 3600 > 9 * video


def test_a_last_video_that_is_short_costs_no_whole_turn():
    made = fleet.widest(SERVICES, 4)
    for run in (200, 10**9):
        first, *others = fleet.stations(made, 4, 0.5, [])
        assert (first.name, first.actors) == (fleet.FEW, 1)
        told = fleet.forecast([replace(first, run=run), *others], made, 400, 4, FREE)  # half of a video, which one decoder reads faster
        assert told.bottleneck == "model", "one decoder makes 10 frames/s of which the GPUs take 4"
        assert told.frames_per_second == pytest.approx(4, rel=0.06)


def longest(videos, actors):
    """Videos that the actor with most of them decodes, by giving each to the one that has the fewest."""
    given = [0] * actors
    for _ in range(videos):
        given[given.index(min(given))] += 1
    return max(given)


@pytest.mark.parametrize("videos", [11, 12, 21, 22, 23, 27, 43, 44, 45, 100, 110, 111, 1000])
def test_as_many_decoders_are_added_as_spare_a_turn_and_no_more(videos):
    made = fleet.widest(SERVICES, 100)
    least, many = made.pools[0].actors, fleet.even(made, videos).pools[0].actors
    assert least == 11
    assert longest(videos, many) <= 1.05 * videos / least, "hardly longer than if a video could be parted"
    assert many == least or longest(videos, many - 1) > videos / least, "with one less it is longer"


def test_decoders_that_are_added_are_paid_for_and_make_uneven_turns_even():
    made = fleet.widest(SERVICES, 40)
    videos = made.pools[0].actors + 1
    fitting = fleet.even(made, videos)
    assert fitting.cpus == made.cpus + 1
    told = []
    for one in (made, fitting):
        first, *others = fleet.stations(one, 4, videos, [])
        told.append(fleet.forecast([replace(first, run=200), *others], one, 800 * videos, 4, Prices(0.05, 2.5)))
    assert [one.bottleneck for one in told] == [fleet.TURNS, "model"]
    assert told[1].cost.hours < 0.8 * told[0].cost.hours
    assert told[1].cost.money < 0.8 * told[0].cost.money
    assert fleet.even(made, made.pools[0].actors - 1) == made, "videos are fewer than decoders"


def test_nodes_hold_all_actors_and_one_processor_beside_them():
    for gpus, each in ((1, 1), (4, 1), (64, 8)):
        made = fleet.widest(SERVICES, gpus)
        decode, models = fleet.nodes(made, gpus, each)
        assert models.gpus * models.count == gpus
        assert decode.cpus * decode.count + (models.cpus - 1) * models.count >= made.cpus
        assert (
            plan.plan(SERVICES, decode.cpus * decode.count + models.cpus * models.count, gpus).frames_per_second == made.frames_per_second
        )
    assert fleet.nodes(fleet.widest(SERVICES, 1), 1, 1) == (Nodes(1, 3), Nodes(1, 3, 1))
    with pytest.raises(ValueError, match="6 GPUs do not make whole nodes of 4"):
        fleet.nodes(fleet.widest(SERVICES, 6), 6, 4)


def test_more_gpus_are_never_slower_and_the_table_has_a_line_for_each():
    times = forecasts.read(Path(__file__).parent.parent / "cluster" / "times.json")
    speeds = [forecasts.foreseen(times, gpus, 10**5).frames_per_second for gpus in (1, 4, 16)]
    assert speeds == sorted(speeds)
    one = forecasts.faster(times, "ProposePatches", 2.0)
    assert [service.seconds_per_row for service in one.services][1] == times.services[1].seconds_per_row / 2


def test_there_is_one_committer_and_one_driver_however_many_gpus():
    times = forecasts.read(Path(__file__).parent.parent / "cluster" / "times.json")
    commits = forecasts.foreseen(replace(times, commit_s=3600.0), 1000, 10**6)
    assert commits.bottleneck == "committer"
    assert commits.frames_per_second == pytest.approx(256 * times.video_frames / 3600, rel=0.05)  # a batch of videos an hour
    blocks = forecasts.foreseen(replace(times, block_s=60.0), 1000, 10**6)
    assert blocks.bottleneck == "driver"
    assert blocks.frames_per_second == pytest.approx(times.block_frames / 60, rel=0.05)
