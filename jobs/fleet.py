"""python -m jobs.fleet cluster/times.json: the nodes of each size of cluster, and what 1 to 1,000 GPUs would do, as Markdown.

The times are a file, as `plan` measures them; what of them is assumed the file says itself.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import fleet, plan
from engine.fleet import Forecast, Nodes, Station
from engine.plan import Prices, Service
from engine.settings import PlanConfig

GPUS = (1, 4, 16, 64, 256, 1000)
FRAMES = (10**5, 10**6, 10**7, 10**8, 10**9)
FASTER = 60  # what a small encoder in half precision may come to; nobody has measured it here
PARCEL = 4  # frames: SAM's batch


@dataclass(frozen=True)
class Times:
    """Of a pipeline, and of what there is one of beside it."""

    services: list[Service]
    commit_s: float  # of a micro-batch of videos, by the one committer
    block_s: float  # that the driver takes for a block of frames, over all stages
    block_frames: int
    video_frames: int  # sampled from a video: one actor decodes it
    sizes: dict[str, dict[str, Any]]


def read(path: Path) -> Times:
    """The times measured before, from their file."""
    held = json.loads(path.read_text())
    rest = {name: held[name] for name in ("commit_s", "block_s", "block_frames", "video_frames", "sizes")}
    return Times(plan.from_data(held["services"]), **rest)


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
    """Print the tables of a file of times; 2, with a sentence, where there is none or it holds something else."""
    if len(words) != 1:
        print("expected a file of times: python -m jobs.fleet cluster/times.json", file=sys.stderr)
        return 2
    try:
        asked = read(Path(words[0]))
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        print(f"{words[0]} holds no times as cluster/times.json does: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(f"{sizes(asked)}\n\n{table(asked)}\n\nWith regions {FASTER} times as fast:\n\n{table(faster(asked, 'ProposePatches', FASTER))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
