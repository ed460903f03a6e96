"""python -m jobs.fleet cluster/times.json: the nodes of each size of cluster, and what 1 to 1,000 GPUs would do, as Markdown.

The times are a file, as `plan` measures them; what of them is assumed the file says itself.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import ceil, isclose
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from engine import fleet, knobs
from engine.fleet import Forecast, Nodes, Station
from engine.plan import Plan, Prices, Service
from engine.settings import PlanConfig
from jobs.recipes import cluster

GPUS = (1, 4, 16, 64, 256, 1000)
FRAMES = (10**5, 10**6, 10**7, 10**8, 10**9)
FASTER = 60  # what a small encoder in half precision may come to; nobody has measured it here
REGIONS = "ProposePatches"  # the stage that may be so much faster
PARCEL = 4  # frames: SAM's batch
MOST = 200_000  # parcels that whole turns of long videos may come to: of more each is larger, since they take seconds to simulate
BATCH = cluster().videos.batch  # videos of a commit
READERS, ROUND = 2048, 16  # as jobs/ingest.py has them, which a test holds; it loads what a table need not wait for


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class Size(TypedDict):
    """GPUs of a size of cluster, so many of them a node, and the recipe that it is for."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    recipe: Literal["tiny", "one_gpu", "cluster"]
    gpus: Count
    gpus_each: Count


class Timed(Service):
    """A service as a file tells it, which holds nothing else."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class Times:
    """Of a pipeline, and of what there is one of beside it."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    services: Annotated[list[Timed], Field(min_length=1)]
    commit_s: Seconds  # of a micro-batch of videos, by the one committer
    block_s: Seconds  # that the driver takes for a block of frames, over all stages
    block_frames: Count
    video_frames: Annotated[Count, Field(ge=PARCEL)]  # sampled from a video: one actor decodes it
    frame_mb: Seconds  # MB of the file for a sampled frame: all of it is read and hashed before it is decoded
    reader_mb_s: Amount  # MB a second that one reader reads and hashes
    sizes: dict[str, Size]
    command: str = ""  # that draws the tables, for who opens the file
    sources: dict[str, str] = field(default_factory=dict)  # where the times are from, by what they are of

    def __post_init__(self) -> None:
        names = [one.stage for one in self.services]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"services: two are of the stage {twice[0]}")
        if REGIONS not in names:
            raise ValueError(f"services: none is of the stage {REGIONS}")
        for one, after in pairwise(self.services):
            made = one.rows_per_frame * one.out_per_row
            if not isclose(made, after.rows_per_frame, rel_tol=0.01):
                raise ValueError(
                    f"services: {one.stage} makes {made:g} rows of a frame (rows_per_frame, out_per_row) and "
                    f"{after.stage} after it has {after.rows_per_frame:g}: name them in the order of the pipeline"
                )


def read(path: Path) -> Times:
    """The times measured before, from their file; OSError or, in one sentence, ValueError where it holds something else."""
    try:
        return TypeAdapter(Times).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(knobs.sentence(error.errors()[0])) from error


def nodes(times: Times, size: str) -> tuple[Nodes, Nodes]:
    """The nodes without and with GPUs of a size of cluster, by its name."""
    gpus = times.sizes[size]["gpus"]
    return fleet.nodes(fleet.widest(times.services, gpus), gpus, times.sizes[size]["gpus_each"])


def faster(times: Times, stage: str, factor: float) -> Times:
    """The same times with one stage so many times as fast."""
    services = [replace(one, seconds_per_row=one.seconds_per_row / factor) if one.stage == stage else one for one in times.services]
    return replace(times, services=services)


def foreseen(times: Times, gpus: int, frames: int) -> Forecast:
    """What a fleet with so many GPUs would do with so many frames."""
    videos = ceil(frames / times.video_frames)
    made = fleet.even(fleet.widest(times.services, gpus), videos)
    parcel = PARCEL * ceil(min(frames, 3 * made.pools[0].actors * times.video_frames) / (PARCEL * MOST))
    seconds = min(frames, times.video_frames) * times.frame_mb / times.reader_mb_s
    before = fleet.reading(made, videos, seconds, ROUND * BATCH, READERS)
    prices = Prices(PlanConfig().cpu_hour, PlanConfig().gpu_hour)
    return fleet.delayed(fleet.forecast(line(times, made, videos, parcel), made, frames, parcel, prices), made, before, prices)


def line(times: Times, made: Plan, videos: float, parcel: int = PARCEL) -> list[Station]:
    """The stations that parcels of so many frames go through: those of a plan, then the driver and the committer."""
    serial = [
        Station("driver", 1, times.block_s * parcel / times.block_frames),
        Station("committer", 1, times.commit_s * parcel / (times.video_frames * BATCH)),
    ]
    first, *others = fleet.stations(made, parcel, videos, serial)
    return [replace(first, run=max(times.video_frames // parcel, 1)), *others]


def table(times: Times, gpu_counts: Sequence[int] = GPUS, frame_counts: Sequence[int] = FRAMES) -> str:
    """A line for each number of GPUs and of frames, as Markdown."""
    lines = ["| GPUs | frames | frames/s | GPU use | hours | cost | first bottleneck |", "|--:|--:|--:|--:|--:|--:|---|"]
    for gpus in gpu_counts:
        for frames in frame_counts:
            one = foreseen(times, gpus, frames)
            cells = f"{frames:.0e}".replace("e+0", "e"), f"{one.frames_per_second:.3g}", f"{one.gpu_use:.0%}"
            lines.append(f"| {gpus} | {' | '.join(cells)} | {one.cost.hours:,.3g} | {one.cost.money:,.0f} | {one.bottleneck} |")
    return "\n".join(lines)


def sizes(times: Times) -> str:
    """A line for each size of cluster, as Markdown."""
    lines = ["| size | recipe | nodes without GPU | nodes with GPU |", "|---|---|---|---|"]
    for name, size in times.sizes.items():
        decode, models = nodes(times, name)
        with_gpu = f"{models.count} of {models.cpus} CPUs, {models.gpus} GPUs"
        lines.append(f"| `{name}` | `{size['recipe']}` | {decode.count} of {decode.cpus} CPUs | {with_gpu} |")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Print the tables of a file of times; 2, with a sentence, where there is none, or none that tables can be drawn of."""
    if len(words) != 1:
        print("expected a file of times: python -m jobs.fleet cluster/times.json", file=sys.stderr)
        return 2
    try:
        told = drawn(read(Path(words[0])))
    except (OSError, ValueError) as error:
        print(f"{words[0]} holds no times as cluster/times.json does: {error}", file=sys.stderr)
        return 2
    print(told)
    return 0


def drawn(times: Times) -> str:
    """All tables; ValueError where the GPUs of a size make no whole nodes, or are too few for the smallest pools."""
    return f"{sizes(times)}\n\n{table(times)}\n\nWith regions {FASTER} times as fast:\n\n{table(faster(times, REGIONS, FASTER))}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
