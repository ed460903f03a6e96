"""A pre-training that is watched by target images, and what the job transfer makes of the models that it kept."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from engine import datasets, flow, objectives, pictures, pretrain, scores, tracking, transfer
from engine.knobs import amend
from engine.monitor import Monitor
from engine.store import PatchStore
from engine.trails import FULL, NONE
from jobs import looks, training
from jobs import transfer as job
from jobs.pretrain import key as name
from jobs.recipes import tiny
from tests.test_pretrain import CONFIG, Stripes

EPOCHS = 6
RECIPE = CONFIG.model_copy(update={"epochs": EPOCHS})


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """A folder with eight pictures, each with a blob that its mask shows."""
    folder, rng = tmp_path_factory.mktemp("targets"), np.random.default_rng(0)
    y, x = np.mgrid[:48, :48]
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for number in range(8):
        blob = (y - rng.integers(12, 36)) ** 2 + (x - rng.integers(12, 36)) ** 2 < 100
        picture = np.where(blob[..., None], [200, 90, 80], rng.integers(0, 120, (48, 48, 3))).astype(np.uint8)
        (folder / "images" / f"{number}.jpg").write_bytes(pictures.encode(picture, 95))
        (folder / "masks" / f"{number}.jpg").write_bytes(pictures.encode(np.repeat(blob[..., None] * np.uint8(255), 3, 2), 95))
    return folder


def config_of(folder, targets, *knobs):
    told = [f"transfer.uri={targets}", "transfer.keep=true", "transfer.wait=true", "transfer.patience=2", "transfer.images=8", *knobs]
    made = amend(tiny(), ["where=here", f"store.uri={folder}/store", *told])
    return made.model_copy(update={"pretrain": RECIPE})


def pretrained(config, recipe=RECIPE, run=""):
    """The run of a watched pre-training on ten stripes, in which only the looks may end it."""
    steps = -(-10 // recipe.batch)
    with tracking.running(config, "pretrain", "one", {"selection": "s", "images": 10}) as record:
        loop = partial(pretrain.fit, Stripes(), 10, recipe)
        work = partial(training.fit, loop, recipe.epochs, record, watch=partial(looks.watch, config, "one", record, steps, run))
        training.carry_out(config, recipe, work, "one", flow.Validate(looks.Score(config).of) if run else None)
    if run:
        looks.watch(config, "one", record, steps, run).drain()
    return next(one for one in tracking.runs(config, "pretrain"))


@pytest.fixture(scope="module")
def watched(tmp_path_factory, targets):
    config = config_of(tmp_path_factory.mktemp("watched"), targets)
    return config, pretrained(config)


def scores_of(config):
    """What the kept models are scored, by a look at each of their files."""
    store, score = PatchStore(config.store.uri), looks.Score(config)
    places = {epoch: looks.kept("one", epoch) for epoch in range(EPOCHS + 1)}
    return {epoch: score(objectives.load(store.address(name), RECIPE)) for epoch, name in places.items() if store.holds(name)}


def test_the_scores_of_a_run_are_those_of_the_models_it_kept_and_it_ends_where_they_say(watched):
    config, one = watched
    found = scores_of(config)
    assert dict(one["run"].curve("transfer/robustness")) == pytest.approx(found, abs=1e-6)
    monitor, stopped = Monitor(config.transfer), None
    for epoch, score in found.items():
        stopped = epoch if monitor.observe(epoch, score) and stopped is None else stopped
    assert [epoch + 1 for epoch, _ in one["run"].curve("train/stopped")] == [stopped]
    assert max(found) == stopped < EPOCHS
    assert one["metrics"]["transfer/chosen_epochs"] == min(found, key=found.get)


def test_looks_change_nothing_of_the_training_but_its_end(watched, tmp_path, targets):
    _, one = watched
    blind = pretrained(config_of(tmp_path, targets, "transfer.patience=99"))
    assert blind["run"].curve("train/stopped") == []
    losses = blind["run"].curve("train/loss")
    assert len(losses) == EPOCHS
    assert one["run"].curve("train/loss") == losses[: len(one["run"].curve("train/loss"))]


@pytest.mark.slow
def test_on_ray_tasks_beside_the_training_find_the_same_scores(watched, tmp_path, targets):
    _, one = watched
    made = config_of(tmp_path, targets, "where=ray", "transfer.patience=99")
    found = pretrained(made, run=f"{training.runs(made)}/one")
    flow.shut_down()
    assert len(found["run"].curve("train/loss")) == EPOCHS
    here = dict(one["run"].curve("transfer/robustness"))
    there = dict(found["run"].curve("transfer/robustness"))
    assert set(there) == set(range(EPOCHS + 1))
    assert {epoch: there[epoch] for epoch in here} == pytest.approx(here, abs=1e-4)


def test_target_images_that_are_not_there_or_too_few_are_one_sentence(tmp_path, targets):
    with pytest.raises(FileNotFoundError, match=r"transfer\.uri=/nowhere"):
        _ = looks.Score(config_of(tmp_path, "/nowhere")).targets
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/one.jpg").write_bytes(next((targets / "images").iterdir()).read_bytes())
    with pytest.raises(ValueError, match="holds 1 different pictures"):
        _ = looks.Score(config_of(tmp_path, tmp_path / "alone")).targets
    with pytest.raises(LookupError, match="0 models of this pre-training were kept"):
        job.kept(config_of(tmp_path, targets), "nothing")


def test_a_rule_of_patience_pays_for_what_it_waited_and_keeps_the_last_model(watched):
    config, epochs = amend(watched[0], ["pretrain.epochs=4"]), [0, 1, 2, 3, 4]
    found = {"robustness": {0: 0.5, 1: 0.4, 2: 0.45, 3: 0.3, 4: 0.6}, "loss": {1: 1.0, 2: 0.9, 3: 0.8, 4: 0.7}}
    assert job.rules(config, epochs, found) == {
        NONE: (0, 0), FULL: (4, 4), "robustness, offline": (3, 4), "robustness, patience 1": (2, 2), "robustness, patience 2": (4, 4),
        "robustness, patience 3": (4, 4), "loss, offline": (4, 4), "loss, patience 1": (4, 4), "loss, patience 2": (4, 4),
        "loss, patience 3": (4, 4),
    }  # fmt: skip
    assert FULL not in job.rules(watched[0], epochs, found)  # a training that was ended early has no full length


def test_what_a_rule_came_to_is_the_mean_of_its_seeds_and_hours_are_those_it_did_not_train():
    performance = [[0.5, 0.4], [0.7, 0.8], [0.6, 0.8]]
    made = job.choice("r", [0, 1, 4], performance, (1, 1), {1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0})
    assert (made.epochs, made.paid, made.saved_hours) == (1, 1, 0.75)
    assert made.tis == (1.0, 1.0, 1.0)
    last = job.choice("r", [0, 1, 4], performance, (4, 4), {})
    assert last.saved_hours is None
    assert job.choice("r", [0, 1, 4], performance, (1, 1), {4: 1.0}).saved_hours is None  # not known, so not claimed
    assert last.tis[0] == pytest.approx((6 / 7 + 1) / 2)
    assert last.regret[0] == pytest.approx((0.5 + 0) / 2)
    best = job.hindsight([0, 1, 4], [[0.5, 0.4], [0.7, 0.8], [0.6, 0.9]])
    assert (best.epochs, best.paid) == (None, 2.5)


def test_target_images_that_are_tested_on_are_refused(tmp_path, targets):
    config = config_of(tmp_path, targets, f"evaluate.uri={targets}", "evaluate.limit=8", "evaluate.test_share=0.5")
    with pytest.raises(ValueError, match=r"4 of 8 target images of transfer\.uri are tested on in evaluate\.uri with seed 0"):
        job.refuse_tested(config)


def test_the_same_recipe_that_is_watched_in_another_way_is_another_model(tmp_path, targets):
    names = {
        name(config_of(tmp_path, where, *knobs), "s") for where, knobs in (("", ()), (targets, ()), (targets, ("transfer.patience=5",)))
    }
    assert len(names) == 3
    assert name(config_of(tmp_path, "", "transfer.patience=5"), "s") in names  # nobody looks


def test_looks_that_never_come_are_refused(tmp_path, targets):
    with pytest.raises(ValueError, match=r"none of the looks of transfer\.\* is within pretrain\.epochs=10"):
        amend(tiny(), [f"transfer.uri={targets}", "transfer.looks=12,15"])


def test_the_interval_over_seeds_is_that_of_student():
    values = [0.9, 0.95, 0.97]
    mean, low, high = scores.over_seeds(values)
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (mean, low, high) == pytest.approx((np.mean(values), expected[0], min(expected[1], 1.0)))
    assert scores.over_seeds([0.9]) == (0.9, 0.9, 0.9)


def test_all_that_was_kept_is_scored_and_measured_once_and_told_in_a_trail(watched, targets, monkeypatch):
    config, one = watched
    knobs = [f"evaluate.uri={targets}", "evaluate.iterations=2", "evaluate.warmup=0", "evaluate.side=32", "evaluate.limit=8"]
    config = amend(config, [*knobs, "evaluate.test_share=0.5", "transfer.images=8"])
    epochs = job.kept(config, "one")
    found = job.scored(config, "one", epochs, dict(one["run"].curve("train/loss")))
    assert set(found) == set(transfer.SCORES) - {"leep"}  # which takes classes of a source that was trained with labels
    assert [found["robustness"][epoch] for epoch in epochs] == pytest.approx(list(scores_of(config).values()))
    performance = [[job.measured(config, "one", epoch, 0, ("s", 0.5))] for epoch in epochs[:2]]
    again = [[job.measured(config, "one", epoch, 0, ("s", 0.5))] for epoch in epochs[:2]]
    assert again == performance
    assert len(tracking.runs(config, "checkpoint")) == 2
    some = {name: {epoch: value for epoch, value in scores.items() if epoch < 2} for name, scores in found.items()}
    trail = job.trail_of(config, epochs[:2], some, performance, one)
    assert (trail.epochs, trail.performance) == (epochs[:2], performance)
    assert len(datasets.pairs(str(targets), 0.5, 0, 8).test) == 4
    assert "4 images trained, 4 tested" in trail.setting
