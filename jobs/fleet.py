"""python -m jobs.fleet cluster/times.json: the nodes of each size of cluster, and what 1 to 1,000 GPUs would do, as Markdown.

The times are a file, as `plan` measures them; what of them is assumed the file says itself.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from engine import fleet, knobs
from engine.fleet import Forecast, Nodes, Station
from engine.plan import Prices, Service
from engine.settings import PlanConfig

GPUS = (1, 4, 16, 64, 256, 1000)
FRAMES = (10**5, 10**6, 10**7, 10**8, 10**9)
FASTER = 60  # what a small encoder in half precision may come to; nobody has measured it here
PARCEL = 4  # frames: SAM's batch


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Size(TypedDict):
    """GPUs of a size of cluster, so many of them a node, and the recipe that it is for."""

    recipe: str
    gpus: Count
    gpus_each: Count


@dataclass(frozen=True)
class Times:
    """Of a pipeline, and of what there is one of beside it."""

    __pydantic_config__ = ConfigDict(strict=True)

    services: Annotated[list[Service], Field(min_length=1)]
    commit_s: Seconds  # of a micro-batch of videos, by the one committer
    block_s: Seconds  # that the driver takes for a block of frames, over all stages
    block_frames: Count
    video_frames: Annotated[int, Field(ge=PARCEL)]  # sampled from a video: one actor decodes it
    sizes: dict[str, Size]


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


def foreseen(times: Times, gpus: int, frames: int, videos_batch: int = 256) -> Forecast:
    """What a fleet with so many GPUs would do with so many frames."""
    videos = frames / times.video_frames
    made = fleet.even(fleet.widest(times.services, gpus), videos)
    serial = [
        Station("driver", 1, times.block_s * PARCEL / times.block_frames),
        Station("committer", 1, times.commit_s * PARCEL / (times.video_frames * videos_batch)),
    ]
    prices = Prices(PlanConfig().cpu_hour, PlanConfig().gpu_hour)
    first, *others = fleet.stations(made, PARCEL, videos, serial)
    line = [replace(first, run=times.video_frames // PARCEL), *others]
    return fleet.forecast(line, made, frames, PARCEL, prices)


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
    return f"{sizes(times)}\n\n{table(times)}\n\nWith regions {FASTER} times as fast:\n\n{table(faster(times, 'ProposePatches', FASTER))}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
