"""What a cluster of any size would do, before there is one: the nodes that a plan takes, and a simulation of the pipeline on them.

The simulation is of discrete events. Parcels of frames go through the stages in their order; a stage serves them one after another by as
many actors as it has, each in its measured time, and keeps a parcel while there is no room before the next stage. In that order the
moments of parcel k follow from those of earlier parcels alone, so that a heap of free actors for each stage is all the calendar there is
(a tandem of queues with blocking after service). A library of processes that wait for each other, as simpy, would say the same in more
words and, at a million parcels, some ten times as slowly.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from statistics import fmean

from engine import plan
from engine.flow import SPARE_CPUS
from engine.plan import Cost, Plan, Prices, Service

FEW = "too few videos"  # for all actors of the first stage to have one
TURNS = "decoders, in uneven turns"
LATE = (
    1.05  # uneven turns that take less than a twentieth longer are left as they are: our choice, since no other station becomes the slowest
)
SPARE_NODE_CPUS = 1  # of a GPU node, beside its actors': a task of another stage that strays there does not keep one of these away


@dataclass(frozen=True)
class Nodes:
    """Nodes of one kind."""

    count: int
    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class Station:
    """A stage of the simulation."""

    name: str
    actors: int
    seconds: float  # that one of them takes for a parcel
    gpus: float = 0.0  # that one of them keeps at work while it serves
    start_up: float = 0.0  # seconds before its actors serve
    run: int = 1  # parcels of one source, which one actor of the first station serves one after another: those of a video

    def __post_init__(self) -> None:
        if self.actors < 1 or not 0 <= self.seconds < inf:
            raise ValueError(f"{self.name}: actors={self.actors} seconds={self.seconds}, expected one actor at least and a time")


@dataclass(frozen=True)
class Flow:
    """How parcels went through the stations."""

    leaves: tuple[float, ...]  # seconds at which each left the last station
    busy: tuple[float, ...]  # seconds of work, by station, of all its actors
    waits: tuple[float, ...]  # seconds that parcels stood before each station, in all


@dataclass(frozen=True)
class Forecast:
    """What so many frames take on so many GPUs."""

    gpus: int
    frames: int
    frames_per_second: float  # over the whole run, its start and its end with it
    gpu_use: float  # share of the GPUs' time that is work
    bottleneck: str
    cost: Cost


# -- nodes ----------------------------------------------------------------------------------------------------------------------


def widest(services: Sequence[Service], gpus: int) -> Plan:
    """The plan for so many GPUs with as many processors as make it no slower, and no more."""
    made = plan.plan(services, inf, float(gpus))
    return replace(made, cpus=sum(pool.cpus for pool in made.pools) + SPARE_CPUS)


def even(made: Plan, videos: float) -> Plan:
    """The plan with as many actors of the first stage as take so many videos in even turns, where the last turn would be half empty.

    56 videos for 50 actors are a turn of 56, not one of 50 and one of 6, which takes as long. Actors that are added are processors beside
    GPUs that would wait. As it was where videos are fewer than actors, or these hold GPUs.
    """
    first, *others = made.pools
    sources, turns = ceil(videos), ceil(videos) // first.actors
    if not turns or first.service.gpus or ceil(sources / first.actors) * first.actors <= LATE * sources:
        return made
    more = ceil(sources / turns) - first.actors
    used = first.utilisation * first.actors / (first.actors + more)
    pools = replace(first, actors=first.actors + more, utilisation=used), *others
    return replace(made, pools=pools, cpus=made.cpus + more * first.service.cpus)


def nodes(made: Plan, gpus: int, gpus_each: int, cpus_most: int = 16) -> tuple[Nodes, Nodes]:
    """The nodes that a plan takes: those without GPUs, `cpus_most` processors each at most, and those with `gpus_each` GPUs.

    Actors that hold a part of a GPU take their processors on its node; all others, and the processor that stays free, are elsewhere.
    ValueError where the GPUs make no whole nodes.
    """
    if gpus % gpus_each:
        raise ValueError(f"{gpus} GPUs do not make whole nodes of {gpus_each}")
    beside = sum(pool.cpus for pool in made.pools if pool.service.gpus)
    count = gpus // gpus_each
    models = Nodes(count, ceil(beside / count) + SPARE_NODE_CPUS, gpus_each)
    others = sum(pool.cpus for pool in made.pools if not pool.service.gpus) + SPARE_CPUS
    small = ceil(others / cpus_most)
    return Nodes(small, ceil(others / small)), models


# -- simulation -----------------------------------------------------------------------------------------------------------------


def simulate(stations: Sequence[Station], arrivals: Sequence[float], room: float = inf) -> Flow:
    """Parcels that come at these moments, in their order, through all stations; before each but the first is `room` for so many of them."""
    free = [[station.start_up] * station.actors for station in stations]
    began = [[0.0] * len(arrivals) for _ in stations]
    leaves, waits = [0.0] * len(arrivals), [0.0] * len(stations)
    last = len(stations) - 1
    for parcel, at in enumerate(arrivals):
        for i, station in enumerate(stations):
            start = max(at, heapq.heappop(free[i]))
            waits[i] += start - at
            began[i][parcel] = start
            at = start + station.seconds
            if i < last and parcel >= room:
                at = max(at, began[i + 1][parcel - int(room)])  # its actor keeps it until there is room
            heapq.heappush(free[i], at)
        leaves[parcel] = at
    busy = tuple(station.seconds * len(arrivals) for station in stations)
    return Flow(tuple(leaves), busy, tuple(waits))


def sourced(station: Station, parcels: int) -> list[float]:
    """Moments, in their order, at which parcels leave a first station whose actors each take a whole source, of `run` parcels.

    They are not kept waiting by what is behind them, so these are the earliest.
    """
    free, moments = [station.start_up] * station.actors, list[float]()
    for first in range(0, parcels, station.run):
        many, began = min(station.run, parcels - first), heapq.heappop(free)
        moments += [began + station.seconds * (done + 1) for done in range(many)]
        heapq.heappush(free, began + station.seconds * many)
    return sorted(moments)


def stations(made: Plan, parcel: int, videos: float, serial: Sequence[Station]) -> list[Station]:
    """The stages of a plan for parcels of so many frames, and what there is one of behind them.

    A video is decoded by one actor, so that few videos leave the others without work: that is told as its own bottleneck.
    """
    found = [
        Station(
            pool.service.stage,
            pool.actors,
            pool.service.seconds_per_frame * parcel * pool.slowed,
            max(pool.service.gpus, 1.0) / pool.slowed if pool.service.gpus else 0.0,
            pool.service.start_up,
        )
        for pool in made.pools
    ]
    if found[0].actors > videos:
        found[0] = replace(found[0], name=FEW, actors=max(ceil(videos), 1))
    return [*found, *serial]


def uneven(line: Sequence[Station], parcels: int) -> bool:
    """Whether all others wait for the last turn of the first station, in which some of its actors have no source.

    That is told where it takes LATE times as long.
    """
    first, last = line[0], slowest(line)
    turns = ceil(ceil(parcels / first.run) / first.actors)
    return first.run > 1 and turns * first.run * first.seconds > LATE * parcels * last.seconds / last.actors


def slowest(line: Sequence[Station]) -> Station:
    """The station that the others wait for."""
    return max(line, key=lambda station: station.seconds / station.actors)


def forecast(line: Sequence[Station], made: Plan, frames: int, parcel: int, prices: Prices, most: int = 60_000) -> Forecast:
    """`frames` in parcels through the stations, on what the plan pays for.

    Of more than `most` parcels whole turns of the first station, a source for each of its actors, are left out of the middle: they go at
    the pace from the middle third of the others to the last. Of whole thirds, since actors that began together end together: between two
    moments there may be one such burst more.
    """
    parcels, widest = ceil(frames / parcel), max(station.actors for station in line)
    turn = line[0].actors * line[0].run
    left_out = max(parcels - max(most, 8 * widest, 3 * turn), 0) // turn * turn
    flow = simulate(line[1:], sourced(line[0], parcels - left_out))
    turns = (parcels - left_out) // turn
    third = turns // 3 * turn
    pace = (
        (fmean(flow.leaves[2 * third : 3 * third]) - fmean(flow.leaves[third : 2 * third])) / third if left_out else 0.0
    )  # seconds a parcel
    seconds = flow.leaves[-1] + pace * left_out
    work = sum(station.seconds * parcels * station.gpus for station in line)
    use = work / (seconds * made.gpus) if made.gpus else 0.0
    name = slowest(line).name if parcels > slowest(line).actors else "start and end"
    if name != FEW and uneven(line, parcels):
        name = FEW if line[0].name == FEW else TURNS
    return Forecast(int(made.gpus), frames, frames / seconds, use, name, plan.priced(seconds / 3600, made.cpus, made.gpus, prices))
