import json
import logging
from pathlib import Path

import pytest

from engine import flow, plan
from engine.flow import Step
from engine.knobs import amend
from engine.plan import Service
from engine.store import PatchStore
from jobs import ingest, pools
from jobs.recipes import tiny

STEPS = ingest.steps(tiny(), PatchStore("nowhere"))
TIMES = [0.1, 0.8, 0.05, 0.01]  # seconds a frame of each


def config_of(folder):
    return amend(tiny(), [f"store.uri={folder}"])


def keep(folder: Path, config, gpu=False, **changes):
    services = [
        Service(step.stage.__name__, seconds, step.batch, 1.0, 1.0, step.cpus, step.gpus)
        for step, seconds in zip(STEPS, TIMES, strict=True)
    ]
    held = {"settings": pools.settings(config), "gpu": gpu, "services": plan.as_data(services)} | changes
    (folder / pools.NAME).write_text(json.dumps(held))


@pytest.fixture
def eleven(monkeypatch):
    """A cluster of eleven processors and no GPU."""
    monkeypatch.setattr(flow, "resources", lambda steps: (11.0, 0.0))


def sized(config):
    return pools.sized(config, PatchStore(config.store.uri), STEPS)


def test_measured_times_and_the_cluster_make_the_pools(tmp_path, eleven):
    config = config_of(tmp_path)
    keep(tmp_path, config)
    made = sized(config)
    assert [step.first for step in made] == [1, 7, 1, 1]
    assert [step.actors for step in made] == [(1, 1), (2, 7), (1, 1), (1, 1)]
    assert flow.widest(made, 11.0) == [1, 7, 1, 1]


def test_without_times_for_these_settings_the_ranges_of_the_job_hold(tmp_path, eleven, caplog):
    config = config_of(tmp_path)
    assert sized(config) == STEPS
    keep(tmp_path, config, gpu=True)
    assert sized(config) == STEPS
    keep(tmp_path, config)
    with caplog.at_level(logging.INFO, "jobs.pools"):
        assert sized(amend(config, ["patches.per_frame=2"])) == STEPS
    assert "times of other settings" in caplog.text
    assert sized(amend(config, ["where=here"])) == STEPS


def test_other_weights_of_the_same_size_take_the_same_time(tmp_path):
    config = config_of(tmp_path)
    assert pools.settings(config) == pools.settings(amend(config, ["difficulty.checkpoint=x", "videos.batch=3"]))
    assert pools.settings(config) != pools.settings(amend(config, ["frames.longest_side=256"]))


def test_a_pool_never_starts_above_its_most_nor_keeps_a_least_above_it():
    step = Step(object, (), 1, actors=(4, 8))
    assert flow.pooled([step], [2])[0].actors == (2, 2)
    assert flow.pooled([step], [20])[0].actors == (4, 20)


def test_least_pools_that_take_more_than_the_gpus_hold_begin_with_one_actor_each():
    assert [step.actors for step in flow.fitting(STEPS, 1.0)] == [
        (1, 2048),
        (1, 4096),
        (1, 1024),
        (1, 1),
    ]  # two and a quarter of one GPU never stand
    assert flow.fitting(STEPS, 2.0) == STEPS
    assert flow.fitting(STEPS, 0.0) == STEPS
    with pytest.raises(RuntimeError, match=r"the smallest pools take 0.75 GPUs at once and the cluster has 0.5: add nodes"):
        flow.fitting(STEPS, 0.5)


def on_gpus(steps, sizes):
    return sum(step.gpus * size for step, size in zip(steps, sizes, strict=True))


@pytest.mark.parametrize(("cpus", "gpus"), [(6, 1), (19, 4), (158, 64), (2500, 1000), (30, 64)])
def test_pools_at_their_most_fit_the_gpus_and_as_many_as_the_processors_allow_are_theirs(cpus, gpus):
    steps = flow.fitting(STEPS, gpus)
    sizes = flow.widest(steps, cpus, gpus)
    taken = sum(step.cpus * size for step, size in zip(steps, sizes, strict=True))
    assert on_gpus(steps, sizes) <= gpus
    assert taken + 1 <= cpus
    assert on_gpus(steps, sizes) == gpus or cpus - taken - 1 < 1, "neither a GPU nor a processor lies idle for want of actors"


def test_without_gpus_the_pools_share_the_processors_as_their_most_say():
    assert flow.widest(STEPS, 29.25) == [8, 16, 4, 1]
    assert flow.widest(STEPS, 12.25) == flow.widest(STEPS, 12.25, 0.0) == [3, 6, 2, 1]
