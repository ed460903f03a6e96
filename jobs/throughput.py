"""How many images a second one device goes through in pre-training, for budgets in its hours: told, measured by a job before, or now.

Without a GPU the device is what a training process has of the processors: all of them in this process, one on Ray.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

import torch

from engine import devices, pretrain, tracking
from engine.config import Config
from engine.knobs import flat

log = logging.getLogger("jobs.throughput")
METRICS = {"pretrain": "train/images_per_s", "choose": "choose/images_per_s"}  # by job; of all workers, and of one device
WORKERS = "train/workers"  # how many they were; runs of before, which lack it, told of one
# What decides the time of a step, beside the device; how long a training is and how fast it learns do not.
KNOBS = (
    "where", "frames.longest_side", "pretrain.architecture", "pretrain.mae.", "pretrain.simclr.", "pretrain.batch", "pretrain.accumulate",
    "pretrain.ema", "pretrain.precision", "pretrain.workers", "synthesis.patches",
)  # fmt: skip


@dataclass(frozen=True)
class Throughput:
    """Images a second, and who says so."""

    images_per_s: float  # of one device
    source: str
    device: str = "not told"  # by name; where it says that there is no GPU, GPU-hours are hours of its processors

    def seconds(self, epochs: int) -> Fraction:
        """What an image takes of the device over so many epochs, exactly as the throughput is written."""
        return epochs / Fraction(str(self.images_per_s))

    @property
    def tags(self) -> dict[str, str]:
        """What a run keeps of it."""
        return {"throughput": self.source, "device": self.device}


def known(config: Config) -> Throughput | None:
    """The throughput for a budget in hours of a device; None for other budgets, which need none.

    What selection.images_per_s says counts; else what was measured on such a device with these settings; else it is measured now.
    """
    if config.selection.unit != "gpu_hours":
        return None
    told = config.selection.images_per_s
    found = Throughput(told, "selection.images_per_s") if told else measured(config) or tried(config)
    log.info("the budget's hours are of one device that pre-trains on %.4g images/s, by %s", found.images_per_s, found.source)
    if not told:
        log.info("that device is %s", found.device)
    return found


def measured(config: Config) -> Throughput | None:
    """By the newest pre-training that suits, else by the newest choice that does."""
    device = devices.device()
    for job, metric in METRICS.items():
        for one in reversed(tracking.runs(config, job)):
            if metric in one["metrics"] and one["tags"].get("device") == device and alike(one["params"], config):
                return Throughput(of_one_device(one["run"], job), f"the {job} run {one['run'].run_id}", device)
    return None


def of_one_device(run: tracking.Run, job: str = "pretrain") -> float:
    """Images a second of a device in a run that logged them: of all epochs the median, since anything may have taken the time of one."""
    workers = dict(run.curve(WORKERS))
    return median(speed / workers.get(step, 1) for step, speed in run.curve(METRICS[job]))


def alike(params: dict[str, str], config: Config) -> bool:
    """Whether a run's parameters are those of `config` in all that decides the time of a step."""
    return all(params.get(name) == str(value) for name, value in flat(config).items() if name.startswith(KNOBS))


def tried(config: Config) -> Throughput:
    """By some steps of the training loop on this machine."""
    log.info("no pre-training with these settings was measured on %s: trying some steps, which may take minutes", devices.device())
    side = config.frames.longest_side  # at most: a training image is as large as the frame that its first patch is from
    with threads_of_a_worker(config):
        return Throughput(pretrain.throughput(config.pretrain, side), "some steps on made-up images", devices.device())


@contextmanager
def threads_of_a_worker(config: Config) -> Iterator[None]:
    """As many threads as a training process has: on Ray one, because Ray gives it one processor; here all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if config.where == "ray" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
