"""How many actors each stage gets, what comes of it in frames a second, where it is tight, and what hours of video cost.

Everything but `measure` is arithmetic on dataclasses: times measured in one place plan a cluster in another, or none at all. A frame
is one that was sampled from the video, kept or not: it is what hours of video can be counted in before they are seen.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import floor, inf
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa

from engine.flow import SPARE_CPUS, Step, in_batches

REPEATS = 3  # passes over the sample per stage; their median is not moved by one disturbed pass
WAITED = Path("/proc/thread-self/schedstat")  # of Linux: nanoseconds of this thread at work, and ready while others had the processors
ROUNDING = 1e-9  # of sums of fractions


@dataclass(frozen=True)
class Service:
    """What one actor of a stage does and takes, in seconds of wall time while it has the processors that it takes, and a GPU for itself.

    So it is measured. Where actors share a GPU they slow each other down: at worst, which is assumed, two that work take twice as long.
    """

    stage: str
    seconds_per_row: float  # of a call with `batch` rows, shared out
    batch: int
    rows_per_frame: float  # rows that reach the stage, per sampled frame
    out_per_row: float  # rows that leave it, per row that reaches it
    cpus: float = 1.0
    gpus: float = 0.0
    start_up: float = 0.0  # seconds of the constructor: once per actor

    def __post_init__(self) -> None:
        if not self.stage:
            raise ValueError("a stage has no name (stage)")
        if self.batch < 1:
            raise ValueError(f"{self.stage}: batch={self.batch}, expected 1 or more")
        for name in ("seconds_per_row", "rows_per_frame", "out_per_row", "cpus", "gpus", "start_up"):
            if not 0 <= (value := getattr(self, name)) < inf:
                raise ValueError(f"{self.stage}: {name}={value}, expected 0 or more")
        if not self.cpus:  # or of a pool on a cluster without GPUs there would be no end
            raise ValueError(f"{self.stage}: cpus=0, expected a part of one at least")
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"{self.stage}: gpus={self.gpus}, expected a part of one or a whole number: Ray takes nothing else")

    @property
    def seconds_per_frame(self) -> float:
        """Seconds that one frame of the video costs in this stage."""
        return self.seconds_per_row * self.rows_per_frame

    @property
    def gpu_seconds(self) -> float:
        """Seconds of a whole GPU that one frame of the video costs in this stage."""
        return self.seconds_per_frame * max(self.gpus, 1.0) if self.gpus else 0.0

    def rate(self, actors: int) -> float:
        """Frames a second of so many actors with GPUs for themselves; no end of them where the stage takes no time."""
        return actors / self.seconds_per_frame if self.seconds_per_frame else inf

    def assured(self, actors: int) -> float:
        """The same while each has but its share of its GPU, since all beside it work too."""
        return self.rate(actors) * (min(share(self.gpus), 1.0) if self.gpus else 1.0)


@dataclass(frozen=True)
class Pool:
    """A stage's share of the cluster."""

    service: Service
    actors: int
    utilisation: float  # share of its actors' time that is work, at the plan's frames a second
    slowed: float = 1.0  # times as long as alone takes a call of an actor, since others work on its GPU

    @property
    def cpus(self) -> float:
        """Processors of all its actors."""
        return self.actors * self.service.cpus

    @property
    def gpus(self) -> float:
        """GPUs of all its actors."""
        return self.actors * share(self.service.gpus)


@dataclass(frozen=True)
class Plan:
    """A pool for every stage, and what comes of them."""

    pools: tuple[Pool, ...]
    frames_per_second: float
    bottleneck: str  # the stage that is never idle, on a GPU with what shares it, or "cores" where the machine's own processors are
    cpus: float  # what is paid for: all that was named, or the cores that are shared
    gpus: float
    start_up: float  # seconds until all actors stand: they are built at the same time


@dataclass(frozen=True)
class Prices:
    """Money per hour, in whatever currency. All of the plan's resources are paid for while the job runs, idle ones too."""

    cpu_hour: float
    gpu_hour: float


@dataclass(frozen=True)
class Cost:
    """What an amount of video costs: hours of the clock, of processors and of GPUs, and money."""

    hours: float
    cpu_hours: float
    gpu_hours: float
    money: float


# -- planning -------------------------------------------------------------------------------------------------------------------


def plan(services: Sequence[Service], cpus: float, gpus: float = 0.0, cores: float = inf) -> Plan:
    """The pools that make the slowest stage as fast as it can be; ValueError says which resource lacks how much.

    `cpus` and `gpus` are what Ray counts over all nodes, one processor of which stays free. `cores` is what the machine truly has where
    Ray counts more than that, as a local cluster does: the pools share them, so that all stages together are no faster than they.

    The actors of a rate are the fewest that reach it, stage by stage, and all of them grow with the rate. So to give the stage that is
    slowest one more until that cannot be is optimal for what is assured, which shares out the GPUs. What one actor leaves idle of its GPU
    another uses, so the pace is more: as fast as the GPUs are for the work of all stages on them. So those that take none grow to that,
    and what then is left would make nothing faster: it stays free.
    """
    if not services:
        raise ValueError("there is no stage to plan")
    stages = [service if gpus else replace(service, gpus=0.0) for service in services]  # as Step.gpus: taken where there are any
    together = sum(stage.seconds_per_frame for stage in stages if not stage.gpus)
    sizes = [1] * len(stages)
    refuse_small(stages, sizes, cpus, gpus)
    if not any(stage.seconds_per_frame for stage in stages):
        raise ValueError("no stage takes any time: measure on a sample with more frames")
    while fits(stages, grown := one_more(stages, sizes, Service.assured), cpus, gpus):
        sizes = grown
    while min(map(Service.rate, stages, sizes)) < most(stages, gpus) and fits(stages, grown := one_more(stages, sizes), cpus, gpus):
        sizes = grown
    slower = [slowed(stages, sizes, gpus) if stage.gpus else 1.0 for stage in stages]
    rates = [stage.rate(size) / times for stage, size, times in zip(stages, sizes, slower, strict=True)]
    shared = cores / together if together else inf
    reached = min(*rates, shared)
    bottleneck = "cores" if shared < min(rates) else stages[rates.index(min(rates))].stage
    pools = tuple(Pool(stage, size, reached / rate, times) for stage, size, rate, times in zip(stages, sizes, rates, slower, strict=True))
    return Plan(pools, reached, bottleneck, min(cpus, cores), gpus, max(stage.start_up for stage in stages))


def one_more(stages: Sequence[Service], sizes: Sequence[int], rate: Callable[[Service, int], float] = Service.rate) -> list[int]:
    """The same pools with one actor more in the slowest."""
    slowest = min(range(len(stages)), key=lambda i: rate(stages[i], sizes[i]))
    return [size + (i == slowest) for i, size in enumerate(sizes)]


def most(stages: Sequence[Service], gpus: float) -> float:
    """Frames a second of so many GPUs that are never idle: each does the work of one stage at a time."""
    taken = sum(stage.gpu_seconds for stage in stages)
    return gpus / taken if taken else inf


def slowed(stages: Sequence[Service], sizes: Sequence[int], gpus: float) -> float:
    """How many times as long as alone the actors on GPUs take while all work: so long that together they are as fast as the GPUs."""
    alone = min(stage.rate(size) for stage, size in zip(stages, sizes, strict=True) if stage.gpus)
    return max(1.0, alone / most(stages, gpus)) if alone < inf else 1.0


def fits(stages: Sequence[Service], sizes: Sequence[int], cpus: float, gpus: float) -> bool:
    """Whether pools of these sizes fit the cluster together."""
    return all(lack <= ROUNDING for _, _, lack in lacking(stages, sizes, cpus, gpus))


def lacking(stages: Sequence[Service], sizes: Sequence[int], cpus: float, gpus: float) -> Iterator[tuple[str, float, float]]:
    """(resource, what the pools need of it, how much of that is not there: negative where some is left)."""
    needed = sum(size * stage.cpus for stage, size in zip(stages, sizes, strict=True)) + SPARE_CPUS
    yield "CPU", needed, needed - cpus
    needed = sum(size * share(stage.gpus) for stage, size in zip(stages, sizes, strict=True))
    yield "GPU", needed, needed - gpus


def share(gpus: float) -> float:
    """What an actor truly takes of a GPU: of 0.4 two fit one, so half of it. Exact where shares divide each other, as ours do."""
    return 1 / floor(1 / gpus + ROUNDING) if 0 < gpus < 1 else gpus


def refuse_small(stages: Sequence[Service], sizes: Sequence[int], cpus: float, gpus: float) -> None:
    """ValueError, with what is lacking, where the smallest pools do not fit the cluster."""
    lacks = [(kind, needed, lack) for kind, needed, lack in lacking(stages, sizes, cpus, gpus) if lack > ROUNDING]
    if lacks:
        found = {"CPU": cpus, "GPU": gpus}
        said = " and ".join(f"{needed:g} {kind}s and has {found[kind]:g}: {lack:g} are lacking" for kind, needed, lack in lacks)
        raise ValueError(f"the smallest pools, one processor beside them, need {said}; name a larger cluster")


def cost(plan: Plan, video_hours: float, sampled_per_second: float, prices: Prices) -> Cost:
    """What `video_hours` of video take when `sampled_per_second` frames are looked at in each of their seconds."""
    frames = video_hours * 3600 * sampled_per_second
    hours = (frames / plan.frames_per_second + plan.start_up) / 3600 if frames else 0.0
    return priced(hours, plan.cpus, plan.gpus, prices)


def priced(hours: float, cpus: float, gpus: float, prices: Prices) -> Cost:
    """What so many processors and GPUs cost, held for so many hours."""
    cpu_hours, gpu_hours = hours * cpus, hours * gpus
    return Cost(hours, cpu_hours, gpu_hours, cpu_hours * prices.cpu_hour + gpu_hours * prices.gpu_hour)


def as_data(services: Sequence[Service]) -> list[dict[str, Any]]:
    """The services as JSON knows them."""
    return [asdict(service) for service in services]


def from_data(rows: Sequence[dict[str, Any]]) -> list[Service]:
    """The services that `as_data` wrote."""
    return [Service(**row) for row in rows]


# -- measuring ------------------------------------------------------------------------------------------------------------------


def undisturbed() -> float:
    """Seconds of a clock that stands still while this thread is ready and other work has the processors, where the system tells of that.

    So it counts work and waiting for a disk, a bucket or a GPU: our choice, because LiteMedSAM took 3.3 to 4.4 s a frame by the wall beside
    other jobs, and 1.4 by this clock. What others take of caches and memory it cannot know. Threads that a stage starts itself and that
    share this one's core are taken for other work; ours compute in one.
    """
    waited = int(WAITED.read_text().split()[1]) if WAITED.exists() else 0
    return time.perf_counter() - waited / 1e9


def measure(
    steps: Sequence[Step], table: pa.Table, frames: Callable[[pa.Table], int], clock: Callable[[], float] = undisturbed
) -> list[Service]:
    """The service of each step over the rows of `table`, run one after another in this process; the rows in between are in memory.

    `frames` counts the sampled frames in what the last step gives; ValueError where there are none. Every stage meets its first batch once
    before it is timed, because the first pass of a model takes several times as long. What starting a process takes is not in `start_up`.
    """
    timed, rows = [], table
    for step in steps:
        began = clock()
        work = step.stage(*step.arguments)
        start_up = clock() - began
        batches = list(in_batches([rows], step.batch))
        consume(work, batches[:1])
        seconds = []
        for _ in range(REPEATS):
            took, made = pass_over(work, batches, clock)
            seconds.append(took)
        timed.append((step, start_up, median(seconds), len(rows), len(made)))
        rows = made
    if not (count := frames(rows)):
        raise ValueError("the sample gave no frame to measure on: name other video, or look at it more often (frames.every_s)")
    return [service(*found, count) for found in timed]


def consume(work: Callable[[pa.Table], Iterable[pa.Table]], batches: Sequence[pa.Table]) -> list[pa.Table]:
    """All that a stage makes of some batches."""
    return [made for batch in batches for made in work(batch)]


def pass_over(
    work: Callable[[pa.Table], Iterable[pa.Table]], batches: Sequence[pa.Table], clock: Callable[[], float]
) -> tuple[float, pa.Table]:
    """Seconds of the calls over all batches, and the rows they gave."""
    began = clock()
    made = consume(work, batches)
    return clock() - began, pa.concat_tables(made)


def service(step: Step, start_up: float, seconds: float, rows: int, made: int, frames: int) -> Service:
    """The Service of a step, from seconds and rows measured on a sample of so many frames."""
    return Service(
        stage=step.stage.__name__,
        seconds_per_row=seconds / rows if rows else 0.0,
        batch=step.batch,
        rows_per_frame=rows / frames,
        out_per_row=made / rows if rows else 0.0,
        cpus=step.cpus,
        gpus=step.gpus,
        start_up=start_up,
    )
