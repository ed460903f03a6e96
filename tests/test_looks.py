"""A pre-training that is watched by target images, and what the job transfer makes of the models that it kept."""

import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from engine import datasets, flow, objectives, pictures, pretrain, scores, tracking, transfer
from engine.entries import NONE
from engine.knobs import amend
from engine.monitor import TITLES, Looker, Monitor
from engine.ranks import mean_ranks
from engine.trails import FULL_LENGTH, Gap
from engine.transfer import Readings
from jobs import looks, readings, training
from jobs import transfer as job
from jobs.kept import Kept
from jobs.pretrain import chosen_of
from jobs.pretrain import key as name
from jobs.recipes import tiny
from tests.test_pretrain import CONFIG, Stripes

EPOCHS = 6
RECIPE = CONFIG.model_copy(update={"epochs": EPOCHS})


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("targets"))


def drawn(folder, seed=0):
    """A folder with eight pictures, each with a blob that its mask shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48]
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for number in range(8):
        blob = (y - rng.integers(12, 36)) ** 2 + (x - rng.integers(12, 36)) ** 2 < 100
        picture = np.where(blob[..., None], [200, 90, 80], rng.integers(0, 120, (48, 48, 3))).astype(np.uint8)
        (folder / "images" / f"{number}.jpg").write_bytes(pictures.encode(picture, 95))
        (folder / "masks" / f"{number}.jpg").write_bytes(pictures.encode(np.repeat(blob[..., None] * np.uint8(255), 3, 2), 95))
    return folder


@pytest.fixture(scope="module")
def endoscopic():
    """Eight pictures with structure of their own at every size, as mucosa has and noise does not keep when it is scaled."""
    rng = np.random.default_rng(5)
    coarse = [rng.integers(20, 236, (12, 12, 3), np.uint8) for _ in range(8)]
    return [cv2.resize(one, (200, 180), interpolation=cv2.INTER_CUBIC) for one in coarse]


def config_of(folder, targets, *knobs):
    told = [f"transfer.uri={targets}", "transfer.keep=true", "transfer.wait=true", "transfer.patience=2", "transfer.images=8", *knobs]
    made = amend(tiny(), ["where=here", f"store.uri={folder}/store", *told])
    return made.model_copy(update={"pretrain": RECIPE})


def pretrained(config, recipe=RECIPE, run="", read=None):
    """The run of a watched pre-training on ten stripes, in which only the looks may end it."""
    steps = -(-10 // recipe.batch)
    with tracking.running(config, "pretrain", "one", {"selection": "s", "images": 10}) as record:
        loop = partial(pretrain.fit, read or Stripes(), 10, recipe)
        work = partial(training.fit, loop, recipe.epochs, record, watch=partial(looks.watch, config, "one", record, steps, run))
        training.carry_out(
            config, recipe, work, "one", flow.Validate(looks.Score(config).of, partial(looks.due, config, steps)) if run else None
        )
    if run:
        looks.end(looks.watch(config, "one", record, steps, run))
    return next(one for one in tracking.runs(config, "pretrain"))


@pytest.fixture(scope="module")
def watched(tmp_path_factory, targets):
    config = config_of(tmp_path_factory.mktemp("watched"), targets)
    return config, pretrained(config)


def scores_of(config):
    """What the kept models are scored, by a look at each of their files."""
    models, score = Kept(config, "one"), looks.Score(config)
    return {epoch: score(objectives.load(models.address(epoch), RECIPE)).scores["robustness"] for epoch in models.epochs}


def test_the_scores_of_a_run_are_those_of_the_models_it_kept_and_it_ends_where_they_say(watched):
    config, one = watched
    found = scores_of(config)
    assert dict(one["run"].curve("transfer/robustness")) == pytest.approx(found, abs=1e-6)
    monitor, stopped = Monitor(config.transfer), None
    for epoch, score in found.items():
        stopped = epoch if monitor.observe(epoch, Readings({"robustness": score}, {})) and stopped is None else stopped
    assert [epoch + 1 for epoch, _ in one["run"].curve("train/stopped")] == [stopped]
    assert max(found) == stopped < EPOCHS
    assert one["metrics"]["transfer/best_look_epochs"] == min(found, key=found.get)


def test_looks_change_nothing_of_the_training_but_its_end(watched, tmp_path, targets):
    _, one = watched
    blind = pretrained(config_of(tmp_path, targets, "transfer.patience=99"))
    assert blind["run"].curve("train/stopped") == []
    losses = blind["run"].curve("train/loss")
    assert len(losses) == EPOCHS
    ended = len(one["run"].curve("train/loss"))
    assert one["run"].curve("train/loss") == losses[:ended]
    steps = -(-10 // RECIPE.batch)
    assert one["run"].curve("train/step_loss") == blind["run"].curve("train/step_loss")[: ended * steps]
    assert [step for step, _ in blind["run"].curve("train/step_loss")] == list(range(1, EPOCHS * steps + 1))


@pytest.mark.parametrize("schedule", ["transfer.every=4", "transfer.looks=0,4"])
def test_the_last_model_of_a_training_is_scored_and_kept_though_the_schedule_misses_it(tmp_path, targets, schedule):
    config = config_of(tmp_path, targets, "transfer.patience=99", schedule)
    one = pretrained(config)
    assert Kept(config, "one").epochs == [0, 4, EPOCHS]
    assert dict(one["run"].curve("transfer/robustness")) == pytest.approx(scores_of(config), abs=1e-6)
    assert FULL_LENGTH in job.rules(config, [0, 4, EPOCHS], {"loss": {4: 0.5, EPOCHS: 0.4}})


def test_a_task_beside_a_training_on_ray_looks_at_the_last_epoch_too(tmp_path, targets):
    """What tasks leave where `flow.scored` reads is put there by hand: two steps an epoch, scored after each."""
    config = config_of(tmp_path, targets, "transfer.every=4")
    beside = looks.Tasks(config, f"{tmp_path}/run", steps=2)
    for step in range(1, 2 * EPOCHS + 1):
        flow.train.keep_scores(lambda _: {"scores": {"robustness": 0.5}, "gaps": {}, "seconds": 1.0}, tmp_path, f"{tmp_path}/run", step)
    beside.close(EPOCHS)
    assert list(beside.monitor.seconds) == [4, EPOCHS]


def left(beside, step, score):
    """What a task leaves of the checkpoint of this step, also where it fails."""
    with suppress(ZeroDivisionError):
        flow.train.keep_scores(score, None, beside.run, step)


def half(_):
    return {"scores": {"robustness": 0.5}, "gaps": {}, "seconds": 1.0}


@pytest.mark.timeout(60)
def test_a_look_whose_score_failed_before_a_second_start_is_a_gap_with_the_reason_and_nothing_waits_for_it(tmp_path, targets):
    """Ray Train never scores a checkpoint again whose scoring has failed, so its score will not come."""
    beside = looks.Tasks(config_of(tmp_path, targets), f"{tmp_path}/run", steps=2)
    left(beside, 2, half)
    left(beside, 4, lambda _: 1 / 0)
    with pytest.raises(RuntimeError, match=r"the checkpoint of step 4 could not be scored: ZeroDivisionError"):
        beside(2, torch.nn.Linear(1, 1))
    flow.train.forget_failures(beside.run)
    assert not beside(2, torch.nn.Linear(1, 1))
    assert beside.monitor.heard == {"robustness": {1: 0.5}}
    assert list(beside.monitor.gaps) == [2]
    assert "its scoring failed before this start: ZeroDivisionError" in beside.monitor.gaps[2]["robustness"]
    left(beside, 4, half)  # as where all went on from a checkpoint before that one
    assert not beside(2, torch.nn.Linear(1, 1))
    assert beside.monitor.heard == {"robustness": {1: 0.5, 2: 0.5}}
    assert not beside.monitor.gaps


@pytest.mark.timeout(60)
def test_a_score_that_never_comes_is_waited_for_with_a_word_and_not_without_end(tmp_path, targets, caplog):
    """As of a task that was killed for its memory, which leaves nothing: Ray Train begins all workers anew and forgets the task."""
    config = config_of(tmp_path, targets, "transfer.every=2")
    beside = looks.Tasks(config, f"{tmp_path}/run", 2, looks.Wait(asked=0.05, told=0.3, most=1.0))
    began = time.monotonic()
    assert not beside(2, torch.nn.Linear(1, 1))
    assert 1.0 <= time.monotonic() - began < 10
    assert "the score of the model after 2 epochs is waited for, 1 s at most; so far 0.3" in caplog.text
    assert "no score of the model after 2 epochs in 1 s: the training goes on; one that comes later still counts" in caplog.text
    began = time.monotonic()
    assert not beside(2, torch.nn.Linear(1, 1))  # not again for the same one
    assert time.monotonic() - began < 1
    left(beside, 8, half)
    beside.close(5)
    assert beside.monitor.heard == {"robustness": {4: 0.5}}
    assert beside.monitor.gaps == {2: {"robustness": "no score of it ever came"}}  # nothing is said of 6, which was not trained


def test_a_training_that_keeps_but_what_it_needs_exports_the_model_that_was_chosen(watched, tmp_path, targets):
    found = scores_of(watched[0])
    best = min((epoch for epoch in found if epoch), key=found.get)
    config = config_of(tmp_path, targets, "transfer.keep=false")
    pretrained(config)
    model, told = chosen_of(config, "one", objectives.model(RECIPE))
    assert told.epoch == best
    kept = objectives.load(Kept(watched[0], "one").address(best), RECIPE)
    assert objectives.fingerprint(model) == objectives.fingerprint(kept)
    assert len(Kept(config, "one").epochs) <= 3 < len(found)


KILLED = """
import sys
from engine import objectives
from jobs.pretrain import chosen_of
from tests.test_looks import RECIPE, config_of, pretrained
made = config_of(sys.argv[1], sys.argv[2], "transfer.keep=false", "transfer.patience=99")
pretrained(made, RECIPE.model_copy(update={"checkpoint_steps": 1}))
model, told = chosen_of(made, "one", objectives.model(RECIPE))
print(told.epoch, objectives.fingerprint(model), told.why, sep=";")
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # six processes, each of which begins anew: more than the usual time where much else goes on
def test_a_watched_training_that_is_killed_again_and_again_exports_the_same_model(tmp_path, targets):
    """Killed with -9 as soon as there is a checkpoint that was not there before: some amid an epoch, some at its end."""

    def job(folder):
        return subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / folder), str(targets)], stdout=subprocess.PIPE, text=True)

    for _ in range(4):
        running, found = job("killed"), tmp_path / "killed/store/runs/one-here"
        before = {path.parent.name for path in found.glob("*/state.pt")}
        while running.poll() is None and len({path.parent.name for path in found.glob("*/state.pt")} - before) < 2:
            time.sleep(0.01)
        running.kill()
        assert running.wait() == -signal.SIGKILL
    killed, whole = (job(folder).communicate()[0].splitlines()[-1] for folder in ("killed", "whole"))
    assert killed == whole
    assert len(Kept(config_of(tmp_path / "killed", targets), "one").epochs) <= 3


def test_what_looks_took_grows_from_look_to_look(watched):
    hours = [value for _, value in watched[1]["run"].curve("transfer/gpu_hours")]
    assert len(hours) == len(scores_of(watched[0]))
    assert 0 < hours[0] < hours[-1] < 1
    assert hours == sorted(hours)


@pytest.mark.slow
def test_on_ray_tasks_beside_the_training_find_the_same_scores(watched, tmp_path, targets):
    _, one = watched
    made = config_of(tmp_path, targets, "where=ray", "transfer.patience=99", "transfer.keep=false")
    found = pretrained(made, run=f"{training.runs(made)}/one")
    flow.shut_down()
    assert len(found["run"].curve("train/loss")) == EPOCHS
    here = dict(one["run"].curve("transfer/robustness"))
    there = dict(found["run"].curve("transfer/robustness"))
    assert set(there) == set(range(EPOCHS + 1))
    assert {epoch: there[epoch] for epoch in here} == pytest.approx(here, abs=1e-4)
    assert [epoch for epoch, hours in found["run"].curve("transfer/gpu_hours") if hours > 0] == list(range(EPOCHS + 1))
    model, told = chosen_of(made, "one", objectives.model(RECIPE))
    assert told.epoch == min((epoch for epoch in there if epoch), key=there.get)
    assert len(Kept(made, "one").epochs) <= 3
    assert looks.Score(made)(model).scores["robustness"] == pytest.approx(there[told.epoch], abs=1e-4)


def test_target_images_that_are_not_there_or_too_few_are_one_sentence(tmp_path, targets):
    with pytest.raises(FileNotFoundError, match=r"transfer\.uri=/nowhere"):
        _ = looks.Score(config_of(tmp_path, "/nowhere")).targets
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/one.jpg").write_bytes(next((targets / "images").iterdir()).read_bytes())
    with pytest.raises(ValueError, match="holds 1 different pictures"):
        _ = looks.Score(config_of(tmp_path, tmp_path / "alone")).targets


def test_a_comparison_by_other_knobs_names_the_trainings_that_kept_models_and_what_they_had(tmp_path, targets, watched):
    config, ready = config_of(tmp_path, targets), Kept(watched[0], "one").address(1)
    with pytest.raises(LookupError, match=r"no pre-training of s has these very knobs .*; of no other were models kept: run the job"):
        job.kept(config, "s-00000000")
    other = amend(config, ["transfer.patience=99", "pretrain.workers=2"])  # of which the latter names no model
    for made, key, epochs in ((other, "s-11111111", (0, 1, 2)), (config, "s-22222222", (1,)), (config, "else-33333333", (0, 1))):
        with tracking.running(made, "pretrain", key, {"selection": "s"}):
            for epoch in epochs:
                Kept(made, key).put(epoch, objectives.load(ready, RECIPE))
    said = r"^no pre-training of s has .*; models were kept of s-11111111 \(3 models, with transfer.patience=99\): give what it was trained"
    with pytest.raises(LookupError, match=said):
        job.kept(config, "s-00000000")
    with pytest.raises(LookupError, match=r"s-11111111 \(3 models, with transfer.uri=.*targets0, transfer.patience=99"):
        job.kept(amend(config, ["transfer.uri="]), "s-00000000")
    with pytest.raises(LookupError, match="1 models of this pre-training were kept"):
        job.kept(config, "s-22222222")
    assert job.kept(config, "s-11111111") == [0, 1, 2]


def test_a_rule_of_patience_pays_for_what_it_waited_and_gets_the_best_that_was_trained_by_then(watched):
    config, epochs = amend(watched[0], ["pretrain.epochs=4"]), [0, 1, 2, 3, 4]
    found = {"robustness": {0: 0.2, 1: 0.4, 2: 0.45, 3: 0.3, 4: 0.6}, "loss": {1: 1.0, 2: 0.9, 3: 0.8, 4: 0.7}}
    assert job.rules(config, epochs, found) == {
        NONE: (0, 0), FULL_LENGTH: (4, 4), "robustness, offline": (0, 4), "robustness, patience 1": (1, 2),
        "robustness, patience 2": (3, 4), "robustness, patience 3": (3, 4),
        "loss, offline": (4, 4), "loss, patience 1": (4, 4), "loss, patience 2": (4, 4), "loss, patience 3": (4, 4),
    }  # fmt: skip
    assert FULL_LENGTH not in job.rules(watched[0], epochs, found)  # a training that was ended early has no full length


def test_of_a_training_that_was_cut_off_a_rule_that_had_not_ended_by_then_comes_to_nothing(watched):
    """Ended at 3 of 6 epochs: what patience 3 would have paid, or an offline rule chosen, nobody knows."""
    config, epochs = amend(watched[0], ["pretrain.epochs=6"]), [0, 1, 2, 3]
    found = {"robustness": {0: 0.2, 1: 0.4, 2: 0.45, 3: 0.3}, "loss": {1: 1.0, 2: 0.9, 3: 0.95}}
    assert job.rules(config, epochs, found) == {
        NONE: (0, 0), "robustness, offline": None, "robustness, patience 1": (1, 2), "robustness, patience 2": None,
        "robustness, patience 3": None, "loss, offline": None, "loss, patience 1": (2, 3), "loss, patience 2": None,
        "loss, patience 3": None,
    }  # fmt: skip


def test_a_rule_over_several_scores_goes_by_their_mean_ranks(watched):
    config, epochs = amend(watched[0], ["pretrain.epochs=4"]), [0, 1, 2, 3, 4]
    found = {
        "robustness": {0: 0.9, 1: 0.3, 2: 0.1, 3: 0.2, 4: 0.4},  # ranks 5 3 1 2 4
        "rankme": {0: 2.0, 1: 9.0, 2: 8.0, 3: 7.0, 4: 6.0},  # 5 1 2 3 4, higher is better
        "lidar": {0: 5.0, 1: 4.0, 2: 4.0, 3: 2.0, 4: 1.0},  # 1 2.5 2.5 4 5
        "knn": {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4, 4: 0.5},  # has labels
    }
    blind = {name: found[name] for name in ("robustness", "rankme", "lidar")}
    assert mean_ranks(blind) == pytest.approx({0: 11 / 3, 1: 6.5 / 3, 2: 5.5 / 3, 3: 3, 4: 13 / 3})
    rules = job.rules(config, epochs, found)
    # Until 2: ranks 2 1, 1 2, 1.5 1.5, so 1 is the best of equals and one look back; until 3 it is 2, until 4 too.
    assert rules[f"{TITLES['ranks']}, offline"] == (2, 4)
    assert rules[f"{TITLES['ranks']}, patience 1"] == (1, 2)
    assert rules[f"{TITLES['ranks']}, patience 2"] == (2, 4)


def test_offline_a_score_that_is_lost_for_good_silences_no_other(watched):
    """Of one that only the first models have, the best of all would be one of these."""
    config, epochs = amend(watched[0], ["pretrain.epochs=4"]), [0, 1, 2, 3, 4]
    found = {
        "robustness": {0: 0.9, 1: 0.3},
        "rankme": {0: 2.0, 1: 3.0, 2: 5.0, 3: 9.0, 4: 8.0},
        "lidar": {0: 1.0, 1: 2.0, 2: 3.0, 3: 5.0, 4: 4.0},
    }
    rules = job.rules(config, epochs, found)
    assert rules[f"{TITLES['ranks']}, offline"] == (3, 4)
    assert rules[f"{TITLES['ranks']}, patience 1"] == (3, 4)
    assert rules[f"{TITLES['ranks']}, patience 2"] == (3, 4)


def test_a_reading_that_is_lost_is_said_once_and_the_best_of_the_others_is_kept_and_exported(tmp_path, targets, watched, caplog):
    """Two alternate until a third is gone: until then none that may yet be the best is removed."""
    config = config_of(tmp_path, targets, "transfer.keep=false", "transfer.score=ranks", "transfer.patience=2")
    lidar, rankme = [1.0, 2.0, 3.0, 9.0, 5.0, 4.0], [1.0, 2.0, 3.0, 8.0, 7.0, 6.0]

    def score(model):
        epoch = round(float(model.weight.detach()[0, 0]))
        gaps = {"robustness": "the features of sample 0 are all zero"} if epoch >= 2 else {}
        return Readings({"lidar": lidar[epoch], "rankme": rankme[epoch], **({} if gaps else {"robustness": 0.5 + epoch})}, gaps)

    models = Kept(config, "lost")
    kept = []
    trained = objectives.load(Kept(watched[0], "one").address(1), RECIPE)
    models.put = lambda epoch, _: Kept.put(models, epoch, trained)  # what is scored is a stand-in, what lies there is a model
    with tracking.running(config, "pretrain", "lost", {}) as record, caplog.at_level("WARNING"):
        look = looks.Watched(Looker(config.transfer, score), record, models)
        for epoch in range(6):
            encoder = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.constant_(encoder.weight, epoch)
            if look(epoch, encoder):
                break
            kept.append(models.epochs)
    assert epoch == 5
    assert kept[3:] == [[1, 3], [1, 3]]  # 1 in case the lost one comes back
    assert models.export()[::2] == (3, 5)
    assert [one.message for one in caplog.records if "heard no more" in one.message] == [
        "robustness had a gap at the last 2 looks: it is heard no more, nor at the looks before, unless it comes back"
    ]


def test_a_vote_takes_the_last_model_and_hears_labels_too(watched):
    config, epochs = amend(watched[0], ["pretrain.epochs=4"]), [0, 1, 2, 3, 4]
    found = {
        "robustness": {0: 0.9, 1: 0.3, 2: 0.4, 3: 0.5, 4: 0.6},  # past a patience of 1 from 2 on
        "rankme": {0: 2.0, 1: 9.0, 2: 9.5, 3: 9.0, 4: 6.0},  # from 3 on
        "knn": {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4, 4: 0.5},  # never
        "loss": {1: 4.0, 2: 5.0, 3: 6.0, 4: 7.0},  # has no vote
    }
    rules = job.rules(config, epochs, found)
    assert rules["vote of all scores, patience 1"] == (3, 3)
    assert rules["vote of all scores, patience 2"] == (4, 4)
    assert "vote of all scores, offline" not in rules
    del found["knn"]
    assert job.rules(config, epochs, found)["vote of all scores, patience 1"] == (3, 3)  # one of two is no majority


def test_of_several_levels_a_score_goes_by_their_mean_ranks(watched):
    config, epochs = amend(watched[0], ["pretrain.epochs=4", "transfer.levels=-1,-2"]), [0, 1, 2, 3, 4]
    found = {
        "robustness/level -1": {0: 0.9, 1: 0.3, 2: 0.1, 3: 0.2, 4: 0.4},
        "robustness/level -2": {0: 0.9, 1: 0.2, 2: 0.3, 3: 0.1, 4: 0.4},
        "loss": {1: 1.0, 2: 0.9, 3: 0.8, 4: 0.7},
    }
    rules = job.rules(config, epochs, found)
    assert rules["robustness at levels -1, -2, offline"] == (3, 4)  # mean ranks 5, 2.5, 2, 1.5, 4
    assert rules["robustness at levels -1, -2, patience 1"] == (1, 2)  # of 1 and 2 the earlier
    assert rules["loss, offline"] == (4, 4)
    assert TITLES["ranks"] + " at levels -1, -2, offline" in rules


@pytest.mark.parametrize(("score", "levels"), [("vote", "-1,-2"), ("ranks", "()")])
def test_a_rule_over_all_scores_ends_a_training_where_it_says_so_afterwards(tmp_path, targets, score, levels):
    """Live, with its state in checkpoints, against the offline job's rules on the scores of the models that it kept."""
    config = config_of(tmp_path, targets, f"transfer.score={score}", f"transfer.levels={levels}", "transfer.patience=1")
    looks.Score(config).check()
    one = pretrained(config)
    epochs = Kept(config, "one").epochs
    found, gaps = job.scored(config, "one", epochs, {})
    assert {gap.score.partition("/")[0] for gap in gaps} == {"h_score"}  # 78 samples of 192 numbers, as of every model here
    assert not [reading for reading in found if reading.startswith("h_score")]
    ended = job.watcher(config.transfer, found).stopped
    assert [epoch + 1 for epoch, _ in one["run"].curve("train/stopped")] == ([ended] if ended else [])
    assert max(epochs) == (ended or EPOCHS)
    heard = {one for one in found if one != "loss" and (score == "vote" or one.partition("/")[0] in transfer.BLIND)}
    assert {metric for metric in one["metrics"] if metric.startswith("transfer/")} == {
        *(f"transfer/{reading}" for reading in heard), "transfer/gaps", "transfer/gpu_hours",
    } | ({"transfer/best_look_epochs"} if score != "vote" else set())  # fmt: skip
    for reading in heard:
        assert dict(one["run"].curve(f"transfer/{reading}")) == pytest.approx(found[reading], rel=1e-4, abs=1e-5)


def test_an_encoder_that_collapses_is_a_gap_and_its_training_goes_on(tmp_path, targets, caplog):
    config = config_of(tmp_path, targets, "transfer.patience=99")
    score, count = looks.Score(config), []

    def collapsing(model):
        count.append(model)
        if len(count) in (3, 4):
            for weight in model.parameters():
                torch.nn.init.zeros_(weight)
        return score(model)

    with tracking.running(config, "pretrain", "one", {"selection": "s", "images": 10}) as record:
        look = looks.Watched(Looker(config.transfer, collapsing), record, Kept(config, "one"))
        training.carry_out(
            config, RECIPE, partial(training.fit, partial(pretrain.fit, Stripes(), 10, RECIPE), EPOCHS, record, watch=lambda: look), "one"
        )
    one = next(iter(tracking.runs(config, "pretrain")))
    assert len(one["run"].curve("train/loss")) == EPOCHS
    assert [epoch for epoch, _ in one["run"].curve("transfer/robustness")] == [0, 1, 4, 5, 6]
    assert [epoch for epoch, gaps in one["run"].curve("transfer/gaps") if gaps] == [2, 3]
    assert "after 2 epochs there is no robustness, and the training goes on: the features of sample 0 are all zero" in caplog.text
    assert len(one["run"].curve("transfer/gpu_hours")) == EPOCHS + 1


def test_levels_that_the_recipe_does_not_have_are_refused_before_a_training(tmp_path, targets):
    with pytest.raises(ValueError, match=r"transfer\.levels=7 is none of the encoder's 4 levels"):
        looks.Score(config_of(tmp_path, targets, "transfer.levels=0,7")).check()


def test_what_a_rule_came_to_is_the_mean_of_its_seeds():
    performance = [[0.5, 0.4], [0.7, 0.8], [0.6, 0.8]]
    made = job.choice("r", (1, 1), [0, 1, 4], performance, 0.75)
    assert (made.epochs, made.paid, made.saved_hours) == (1, 1, 0.75)
    assert made.tis == (1.0, 1.0, 1.0)
    last = job.choice("r", (4, 4), [0, 1, 4], performance, None)
    assert last.tis[0] == pytest.approx((6 / 7 + 1) / 2)
    assert last.regret[0] == pytest.approx((0.5 + 0) / 2)
    best = job.hindsight([0, 1, 4], [[0.5, 0.4], [0.7, 0.8], [0.6, 0.9]])
    assert (best.epochs, best.paid) == (None, 2.5)


def test_hours_saved_are_those_that_were_not_trained_less_those_of_the_looks():
    trained, looks = {1: 0.25, 2: 0.5, 4: 1.0}, {0: 0.125, 1: 0.25, 4: 0.5}
    assert job.saved((trained, None), 1, 4) == 0.75
    assert job.saved((trained, looks), 1, 4) == 0.5
    assert job.saved((trained, looks), 4, 4) == -0.5  # a rule that looks to the end costs more than none
    assert job.saved((trained, None), 0, 4) == 1.0
    assert job.saved((trained, {}), 1, 4) is None  # not known, so not claimed
    assert job.saved(({4: 1.0}, None), 1, 4) is None
    assert job.saved((trained, looks), 4, 8) == 0.5  # cut off at 4 of 8: the others at what an epoch took so far, 2 hours in all
    assert job.saved((trained, None), 1, 8) == 1.75
    assert job.saved((trained, None), 0, 8) == 2.0
    rules = job.rules(config_of("s", "t"), [0, EPOCHS], {"loss": {EPOCHS: 0.5}, "knn": {0: 0.5, EPOCHS: 0.5}})
    assert {rule for rule in rules if job.looking(rule)} == {"kNN, offline", *(f"kNN, patience {patience}" for patience in (1, 2, 3))}


def test_target_images_that_are_tested_on_are_refused(tmp_path, targets):
    config = config_of(tmp_path, targets, f"evaluate.uri={targets}", "evaluate.limit=8", "evaluate.test_share=0.5")
    with pytest.raises(ValueError, match=r"4 of 8 target images of transfer\.uri are tested on in evaluate\.uri with seed 0"):
        job.refuse_tested(config)


def test_target_images_that_are_tested_on_in_a_copy_saved_anew_are_refused(tmp_path, targets, endoscopic):
    """As JPEG of another quality, scaled to another size: no pixel is the same."""
    for kind in ("images", "masks"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        (tmp_path / "watched").mkdir(exist_ok=True)
    for number, picture in enumerate(endoscopic):
        (tmp_path / f"pairs/images/test{number}.jpg").write_bytes(pictures.encode(picture, 95))
        mask = np.zeros(picture.shape, np.uint8)
        mask[10:40, 10:40] = 255
        (tmp_path / f"pairs/masks/test{number}.jpg").write_bytes(pictures.encode(mask, 95))
    knobs = [f"evaluate.uri={tmp_path}/pairs", "evaluate.limit=8", "evaluate.test_share=0.5"]
    tested = {pair.name for pair in datasets.chosen(config_of(tmp_path, targets, *knobs).evaluate, 0).test}
    for number, picture in enumerate(endoscopic):
        name, other = f"test{number}", np.ascontiguousarray(picture[::-1, ::-1])
        smaller = cv2.resize(picture if name in tested and number < 6 else other, (150, 140), interpolation=cv2.INTER_AREA)
        (tmp_path / f"watched/target{number}.jpg").write_bytes(pictures.encode(smaller, 60))
    copies = len([name for name in tested if int(name[4:]) < 6])
    assert copies
    said = rf"{copies} of 8 target images of transfer\.uri look like images that are tested on in evaluate\.uri with seed 0, most of all t"
    with pytest.raises(ValueError, match=said):
        job.refuse_tested(config_of(tmp_path, tmp_path / "watched", *knobs))
    for number in range(6):
        (tmp_path / f"watched/target{number}.jpg").unlink()
    job.refuse_tested(config_of(tmp_path, tmp_path / "watched", *knobs))


def test_the_same_recipe_that_is_watched_in_another_way_is_another_model(tmp_path, targets):
    others = [("transfer.patience=5",), ("transfer.levels=-1,-2",), ("transfer.seed=1",), ("transfer.images=4",)]
    names = {name(config_of(tmp_path, where, *knobs), "s") for where, knobs in (("", ()), *((targets, some) for some in [(), *others]))}
    (tmp_path / "other").mkdir()
    names |= {name(config_of(tmp_path, drawn(tmp_path / "other", seed=1)), "s")}
    assert len(names) == 7
    assert name(config_of(tmp_path, "", "transfer.patience=5"), "s") in names  # nobody looks


def test_a_model_is_told_by_the_weights_it_began_with_and_not_by_where_they_lie(tmp_path):
    def named(file):
        made = config_of(tmp_path, "")
        return name(made.model_copy(update={"pretrain": RECIPE.model_copy(update={"checkpoint": str(file)})}), "s")

    files = tmp_path / "began.safetensors", tmp_path / "moved.safetensors"
    objectives.save(objectives.model(RECIPE), str(files[0]))
    before = named(files[0])
    files[1].write_bytes(files[0].read_bytes())
    assert named(files[1]) == before != name(config_of(tmp_path, ""), "s")
    objectives.save(objectives.model(RECIPE), str(files[0]))
    assert named(files[0]) != before


def test_looks_that_never_come_are_refused(tmp_path, targets):
    with pytest.raises(ValueError, match=r"none of the looks of transfer\.\* is within pretrain\.epochs=10"):
        amend(tiny(), [f"transfer.uri={targets}", "transfer.looks=12,15"])
    amend(tiny(), [f"transfer.uri={targets}", "transfer.every=99"])  # the untrained encoder and the last
    knobs = [f"transfer.uri={targets}", "transfer.every=2", "pretrain.checkpoint_every=4"]
    with pytest.raises(ValueError, match=r"pretrain\.checkpoint_every=4 leaves no checkpoint of epoch 2"):
        amend(tiny(), [*knobs, "where=ray"])
    with pytest.raises(ValueError, match=r"leaves no checkpoint of epoch 2"):  # one that counts for no end is made, too
        amend(tiny(), [*knobs, "where=ray", "transfer.warmup=4"])
    amend(tiny(), [*knobs, "where=here"])
    amend(tiny(), [*knobs, "transfer.every=4", "where=ray"])  # the last of ten, which has a look, has a checkpoint always


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
    found, gaps = job.scored(config, "one", epochs, dict(one["run"].curve("train/loss")))
    assert set(found) == set(transfer.SCORES) - {"leep", "h_score"}  # classes of a labelled source; fewer samples than features
    assert [(gap.epoch, gap.score) for gap in gaps] == [(epoch, "h_score") for epoch in epochs]
    assert [found["robustness"][epoch] for epoch in epochs] == pytest.approx(list(scores_of(config).values()))
    performance = [[job.measured(config, "one", epoch, 0, ("s", 0.5))] for epoch in epochs[:2]]
    again = [[job.measured(config, "one", epoch, 0, ("s", 0.5))] for epoch in epochs[:2]]
    assert again == performance
    assert len(tracking.runs(config, "checkpoint")) == 2
    some = {name: {epoch: value for epoch, value in scores.items() if epoch < 2} for name, scores in found.items()}
    trail = job.trail_of(config, epochs[:2], (some, [Gap(1, "lidar", "it collapsed")]), performance, one)
    trained, stop = [value for _, value in one["run"].curve("train/gpu_hours")], epochs[-1]
    (none,) = (rule.saved_hours for rule in trail.choices if rule.rule == NONE)
    assert none == pytest.approx(trained[-1] * EPOCHS / stop)  # all that the recipe asks for, of which fewer were trained
    assert (trail.length, trail.stopped) == (EPOCHS, stop)
    assert {"robustness, offline", "loss, offline", "robustness, patience 3"} <= set(trail.unended)
    assert not {rule.rule for rule in trail.choices} & set(trail.unended)
    one_epoch = config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"epochs": 1, "warmup_epochs": 0})})
    whole = job.trail_of(one_epoch, epochs[:2], (some, []), performance, one)
    hours = {rule.rule: rule.saved_hours for rule in whole.choices}
    assert hours[NONE] > hours["robustness, offline"]  # which saves nothing and pays for two looks
    assert hours["robustness, offline"] == -one["run"].curve("transfer/gpu_hours")[1][1]
    assert hours["loss, offline"] == 0
    assert (trail.epochs, trail.performance) == (epochs[:2], performance)
    assert trail.readings == {name: [scores.get(epoch) for epoch in epochs[:2]] for name, scores in some.items()}
    assert trail.gaps == [(1, "lidar", "it collapsed")]
    assert len(datasets.pairs(str(targets), 0.5, 0, 8).test) == 4
    assert "4 images trained, 4 tested" in trail.setting


@pytest.mark.parametrize(
    ("knobs", "warned"),
    [
        (["transfer.images=7"], True),
        (["transfer.images=7", "transfer.score=ranks"], True),
        (["transfer.images=6"], False),
        (["transfer.images=7", "transfer.negatives=others"], False),
        (["transfer.images=7", "transfer.score=rankme"], False),
    ],
)
def test_an_image_that_is_its_own_negative_is_told_of_with_what_to_do(tmp_path, targets, caplog, knobs, warned):
    looks.Score(config_of(tmp_path, targets, *knobs)).check()
    said = "transfer.uri has 7 target images, an odd number, .* take transfer.images=6, or transfer.negatives=others, "
    assert bool(re.search(said, caplog.text)) is warned


@pytest.mark.parametrize("images", [6, 7])
def test_the_job_transfer_tells_of_it_too_whatever_was_watched(watched, tmp_path, caplog, images):
    store = watched[0].store
    config = config_of(tmp_path, watched[0].transfer.uri, f"transfer.images={images}", "transfer.score=rankme")
    readings.of_kept(config.model_copy(update={"store": store}), "one", [])
    assert ("an odd number" in caplog.text) is (images == 7)
