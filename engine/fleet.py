"""What a cluster of any size would do, before there is one: the nodes that a plan takes, and a simulation of the pipeline on them.

The simulation is of discrete events. Parcels of frames go through the stages in their order; a stage serves them one after another by as
many actors as it has, each in its measured time. No stage waits for room before the next, as Ray's do once the object store is full: the
slowest stage, which has no lack of work then, is no slower for it. So the moments of parcel k follow from those of earlier parcels alone,
and a heap of free actors for each stage is all the calendar there is. A library of processes that wait for each other, as simpy, would say
the same in more words and, at a million parcels, some ten times as slowly.

Before a round of videos is decoded all of it is read and hashed, while the actors wait: that time is added to what is simulated.
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
HASHING = "hashing"  # of the videos of a round, where it takes longer than all that comes after it
LARGEST = 20_000  # actors of a pool: more take minutes to be simulated; 1,000 GPUs hold 4,000 quarters
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
    """The plan for so many GPUs with as many processors as make it no slower, and no more.

    ValueError where no stage works on a GPU, since there is no end of such processors then, and where a pool would be LARGEST or more.
    """
    refuse_endless(services, gpus)
    made = plan.plan(services, inf, float(gpus))
    return replace(made, cpus=sum(pool.cpus for pool in made.pools) + SPARE_CPUS)


def refuse_endless(services: Sequence[Service], gpus: int) -> None:
    """ValueError, with the stage, where pools for so many GPUs would grow without end, or so large that nobody can wait for it."""
    pace = plan.most(services, gpus)  # which no pool need exceed
    if pace == inf:
        raise ValueError("no stage takes time on a GPU (gpus, seconds_per_row): there is nothing by which GPUs could be the measure")
    for service in services:
        actors = gpus / plan.share(service.gpus) if service.gpus else pace * service.seconds_per_frame
        if actors >= LARGEST:
            raise ValueError(f"{service.stage}: {gpus} GPUs would want {actors:.3g} actors of it, expected fewer than {LARGEST:,}")


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


def simulate(stations: Sequence[Station], arrivals: Sequence[float]) -> Flow:
    """Parcels that come at these moments, in their order, through all stations."""
    free = [[station.start_up] * station.actors for station in stations]
    leaves, waits = [0.0] * len(arrivals), [0.0] * len(stations)
    for parcel, at in enumerate(arrivals):
        for i, station in enumerate(stations):
            start = max(at, heapq.heappop(free[i]))
            waits[i] += start - at
            at = start + station.seconds
            heapq.heappush(free[i], at)
        leaves[parcel] = at
    busy = tuple(station.seconds * len(arrivals) for station in stations)
    return Flow(tuple(leaves), busy, tuple(waits))


def through(line: Sequence[Station], parcels: int) -> Flow:
    """So many parcels through a line of two stations at least, whose first is given whole sources and is not told of."""
    return simulate(line[1:], sourced(line[0], parcels))


def sourced(station: Station, parcels: int) -> list[float]:
    """Moments, in their order, at which parcels leave a first station whose actors each take a whole source, of `run` parcels.

    They are not kept waiting by what is behind them, so these are the earliest moments.
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
    sources = ceil(parcels / first.run)
    turns = ceil(sources / first.actors)
    alone = sources - (turns - 1) * first.actors == 1  # in the last turn, of a source that may be no whole one
    longest = (turns - alone) * first.run + alone * (parcels - (sources - 1) * first.run)
    return first.run > 1 and longest * first.seconds > LATE * parcels * last.seconds / last.actors


def slowest(line: Sequence[Station]) -> Station:
    """The station that the others wait for."""
    return max(line, key=lambda station: station.seconds / station.actors)


def reading(made: Plan, videos: int, seconds: float, together: int, most: int) -> float:
    """Seconds in which so many videos are read and hashed, each of which takes so many, `together` of them before any of these is decoded.

    A reader has a processor; all that the plan pays for but one read, `most` of them at the most.
    """
    readers = max(int(min(made.cpus - SPARE_CPUS, most)), 1)
    rounds, rest = divmod(videos, together)
    return (rounds * ceil(together / readers) + ceil(rest / readers)) * seconds


def delayed(one: Forecast, made: Plan, seconds: float, prices: Prices) -> Forecast:
    """The same after so many seconds in which all stations wait, as for `reading`."""
    after = one.cost.hours * 3600
    whole = after + seconds
    cost = plan.priced(whole / 3600, made.cpus, made.gpus, prices)
    name = HASHING if seconds > after else one.bottleneck
    return replace(one, frames_per_second=one.frames / whole, gpu_use=one.gpu_use * after / whole, bottleneck=name, cost=cost)


def forecast(line: Sequence[Station], made: Plan, frames: int, parcel: int, prices: Prices, most: int = 60_000) -> Forecast:
    """`frames` in parcels through the stations, on what the plan pays for.

    Of more than `most` parcels whole turns of the first station, a source for each of its actors, are left out of the middle: they go at
    the pace from the middle third of the others to the last. Of whole thirds, since actors that began together end together: between two
    moments there may be one such burst more.
    """
    parcels, widest = ceil(frames / parcel), max(station.actors for station in line)
    turn = line[0].actors * line[0].run
    left_out = max(parcels - max(most, 8 * widest, 3 * turn), 0) // turn * turn
    flow = through(line, parcels - left_out)
    turns = (parcels - left_out) // turn
    third = turns // 3 * turn
    pace = (
        (fmean(flow.leaves[2 * third : 3 * third]) - fmean(flow.leaves[third : 2 * third])) / third if left_out else 0.0
    )  # seconds a parcel
    seconds = flow.leaves[-1] + pace * left_out
    work = sum(station.seconds * parcels * station.gpus for station in line)
    use = work / (seconds * made.gpus) if made.gpus else 0.0
    cost = plan.priced(seconds / 3600, made.cpus, made.gpus, prices)
    return Forecast(int(made.gpus), frames, frames / seconds, use, held_up(line, parcels), cost)


def held_up(line: Sequence[Station], parcels: int) -> str:
    """What the other stations wait for, or "start and end" where the slowest has fewer parcels than actors."""
    if uneven(line, parcels):
        return FEW if line[0].name == FEW else TURNS
    return slowest(line).name if parcels > slowest(line).actors else "start and end"
