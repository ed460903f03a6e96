"""A budget in hours of a device goes by the throughput that was told, or was measured with the same settings, or is measured now."""

import threading
import time
from functools import partial

import numpy as np
import pytest

from engine import devices, pictures, pretrain, tracking
from engine.knobs import amend
from engine.store import PatchStore
from jobs import choose, throughput, training
from jobs.recipes import tiny
from tests import rows

SMALL = [
    "where=here",
    "selection.unit=gpu_hours",
    "pretrain.mae.side=64",
    "pretrain.epochs=3",
    "pretrain.batch=4",
    "frames.longest_side=64",
]


def config(folder, *words):
    return amend(tiny(), [*SMALL, f"store.uri={folder}/store", *words])


def pretrained(folder, speeds, device):
    """The id of a run of a pre-training on that device that went so fast, epoch by epoch."""
    with tracking.running(config(folder), "pretrain", str(speeds), {}) as record:
        record.note({"device": device})
        for epoch, speed in enumerate(speeds):
            record.log({"train/images_per_s": speed}, step=epoch)
    return record.run_id


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of patches. Its MLflow, which takes seconds to make, is shared by tests whose settings differ."""
    made = tmp_path_factory.mktemp("hours")
    store = PatchStore(f"{made}/store")
    store.create(rows.WIDTH)
    rows.take_in(store, "a" * 32, frames=9)
    return made


@pytest.fixture(scope="module")
def runs(folder):
    """Three pre-trainings, the last one on another device; their ids."""
    here = devices.device()
    return [
        pretrained(folder, speeds, device)
        for speeds, device in [([50.0, 51.0, 52.0], here), ([1.0, 12.0, 10.0, 11.0, 500.0], here), ([9.0], "NVIDIA H200")]
    ]


def test_no_other_budget_asks_for_it(folder, runs):
    assert throughput.known(config(folder, "selection.unit=bytes")) is None


def test_what_was_told_counts_more_than_what_was_measured(folder, runs):
    found = throughput.known(config(folder, "selection.images_per_s=7"))
    assert (found.images_per_s, found.source) == (7, "selection.images_per_s")


def test_the_newest_pretraining_of_these_settings_on_this_device_tells_by_the_median_of_its_epochs(folder, runs):
    found = throughput.known(config(folder))
    assert (found.images_per_s, found.source, found.device) == (11, f"the pretrain run {runs[1]}", devices.device())


@pytest.mark.parametrize(
    ("word", "suits"),
    [
        ("pretrain.mae.size=small", False), ("pretrain.mae.side=96", False), ("pretrain.mae.decoder_depth=3", False),
        ("pretrain.precision=bf16", False), ("pretrain.batch=8", False), ("pretrain.workers=2", False), ("where=ray", False),
        ("synthesis.patches=1", False), ("pretrain.epochs=50", True), ("pretrain.base_lr=1", True), ("pretrain.seed=1", True),
        ("selection.method=random", True),
    ],
)  # fmt: skip
def test_only_what_decides_the_time_of_a_step_must_be_the_same(folder, runs, word, suits):
    assert (throughput.measured(config(folder, word)) is not None) == suits


class Slow:
    """Eight pictures, a tenth of a second for each batch of them."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, positions):
        with self.lock:
            time.sleep(0.1)
        return [pictures.encode(np.full((40, 40, 3), 20 * position, np.uint8), 95) for position in positions]


def test_a_training_keeps_how_fast_it_was_with_all_that_it_waited_for(folder):
    made = config(folder, "pretrain.mae.decoder_depth=1")
    began = time.perf_counter()
    with tracking.running(made, "pretrain", "run", {}) as record:
        loop = partial(pretrain.fit, Slow(), 8, made.pretrain)
        training.carry_out(made, made.pretrain, partial(training.fit, loop, made.pretrain.epochs, record), "run")
    seconds = time.perf_counter() - began
    speeds = [speed for _, speed in record.curve("train/images_per_s")]
    assert len(speeds) == 3
    assert sum(8 / speed for speed in speeds) <= seconds
    assert max(speeds) <= 8 / 0.2  # two batches
    assert throughput.known(made).images_per_s == np.median(speeds)


def test_a_trial_is_no_faster_than_the_time_that_it_took_allows(folder):
    epochs, steps = pretrain.TRIED
    began = time.perf_counter()
    speed = pretrain.throughput(config(folder).pretrain, 64)
    assert epochs == 3  # the middle of the last two is their mean, and a mean of speeds is at least the speed of both together
    assert speed >= 2 * 4 * steps / (time.perf_counter() - began)


def test_hours_buy_as_many_images_as_the_device_goes_through_in_all_epochs(folder):
    made = config(folder, "selection.images_per_s=5", "selection.budget=0.0006")
    choose.run(made)
    (*_, one) = tracking.runs(made, "choose")
    assert one["metrics"]["choose/images"] == 3  # 2.16 s at 5 images a second, 3 epochs: 3.6 images
    assert one["metrics"]["choose/images_per_s"] == 5
    assert one["tags"]["throughput"] == "selection.images_per_s"


def test_what_nobody_measured_is_measured_once_and_then_known(folder, caplog):
    caplog.set_level("INFO", "jobs")
    made = config(folder, "selection.budget=1", "pretrain.mae.side=32")
    choose.run(made)
    (*_, one) = tracking.runs(made, "choose")
    assert (one["tags"]["throughput"], one["tags"]["device"]) == ("some steps on made-up images", devices.device())
    assert f"that device is {devices.device()}" in caplog.text
    again = throughput.known(made)
    assert (again.images_per_s, again.source) == (one["metrics"]["choose/images_per_s"], f"the choose run {one['run'].run_id}")
