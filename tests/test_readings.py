"""What target images say of kept models is made once: counted by the blocks of the real models that are called."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from timm.models.vision_transformer import Block
from torch.nn.modules.module import register_module_forward_hook

from engine import objectives
from jobs import looks, readings
from jobs import transfer as job
from jobs.kept import Kept
from tests.test_looks import RECIPE, config_of, drawn, pretrained

DEPTH = 12  # blocks of a ViT-Tiny, each called once a view, since eight images are one batch
VIEWS = 3


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """The knobs of a short pre-training that all scores watched, and after which epochs it kept models."""
    folder = tmp_path_factory.mktemp("voted")
    (folder / "targets").mkdir()
    config = config_of(folder, drawn(folder / "targets"), "transfer.score=vote", "transfer.patience=99", "transfer.every=3")
    pretrained(config)
    return config, Kept(config, "one").epochs


@contextmanager
def counted():
    """How many blocks of encoders are called meanwhile."""
    called = []
    hook = register_module_forward_hook(lambda module, *_: called.append(1) if isinstance(module, Block) else None)
    try:
        yield called
    finally:
        hook.remove()


def without(config, *names):
    """Remove what is known of the models."""
    for path in Path(config.store.uri, "models/one").glob("*.json"):
        if path.name.startswith(names):
            path.unlink()


def copied(config, folder):
    """The same models in another store."""
    shutil.copytree(Path(config.store.uri, "models/one"), folder / "models/one")
    return config.model_copy(update={"store": config.store.model_copy(update={"uri": str(folder)})})


def test_a_second_start_asks_no_encoder_and_says_the_same(voted, tmp_path, caplog):
    config, epochs = copied(voted[0], tmp_path), voted[1]
    without(config, "looks")
    with counted() as first:
        before = job.scored(config, "one", epochs, {})
    assert len(first) == len(epochs) * VIEWS * DEPTH
    with counted() as second, caplog.at_level("INFO"):
        after = job.scored(config, "one", epochs, {})
    assert not second
    assert after == before
    assert "0 epochs: 10 scores, 1 could not be had; 0 made now, 11 taken over from an earlier start and 0 from looks" in caplog.text


def test_what_looks_of_the_training_found_is_not_asked_again_but_for_their_gaps(voted, tmp_path, caplog):
    """Only the H-score, a gap of these few samples, is tried again: it takes one of three views."""
    config, epochs = copied(voted[0], tmp_path), voted[1]
    with counted() as first, caplog.at_level("INFO"):
        found = job.scored(config, "one", epochs, {})
    assert len(first) == len(epochs) * DEPTH
    assert "; 1 made now, 0 taken over from an earlier start and 10 from looks of the training" in caplog.text
    with counted() as second:
        assert job.scored(config, "one", epochs, {}) == found
    assert not second
    without(config, "looks", "readings")
    anew, gaps = job.scored(config, "one", epochs, {})
    assert gaps == found[1]
    for reading, one in anew.items():
        assert found[0][reading] == pytest.approx(one, rel=1e-4, abs=1e-5)


def test_a_model_of_other_weights_is_asked_anew(voted, tmp_path):
    config, epochs = copied(voted[0], tmp_path), voted[1]
    job.scored(config, "one", epochs, {})
    models = Kept(config, "one")
    models.put(epochs[1], objectives.load(models.address(epochs[2]), RECIPE))
    with counted() as called:
        found, _ = job.scored(config, "one", epochs, {})
    assert len(called) == VIEWS * DEPTH
    assert found["robustness"][epochs[1]] == pytest.approx(found["robustness"][epochs[2]])
    assert found["robustness"][epochs[1]] != found["robustness"][epochs[0]]


def test_looks_of_an_earlier_version_which_tell_no_weights_are_not_taken_over(voted, tmp_path):
    config, epochs = copied(voted[0], tmp_path), voted[1]
    path = Path(config.store.uri, "models/one/looks.json")
    told = json.loads(path.read_text())
    assert {int(epoch) for epoch in told.pop("weights")} == set(epochs)
    path.write_text(json.dumps(told))
    with counted() as called:
        job.scored(config, "one", epochs, {})
    assert len(called) == len(epochs) * VIEWS * DEPTH


def path_of(config, name):
    return Path(config.store.uri, "models/one", name)


def damaged(text, damage):
    """What is left of JSON by a kind of damage."""
    told = json.loads(text)
    return damage(text, told) or json.dumps(told)


ANY_FILE = {
    "nothing": lambda text, told: " ",
    "cut off": lambda text, told: text[: len(text) // 2],
    "no JSON": lambda text, told: "no readings at all",
    "no mapping": lambda text, told: "[1, 2]",
    "a key too many": lambda text, told: told.update(more=1),
    "a key missing": lambda text, told: told.pop("scores") and None,
    "no mapping of scores": lambda text, told: told.update(scores=[0.5]),
    "gaps without words": lambda text, told: told.update(gaps={"0": 1.0}),
}
READINGS = ANY_FILE | {
    "no number": lambda text, told: told["scores"].update(knn="0.5"),
    "not finite": lambda text, told: told["scores"].update(knn=math.nan),
    "infinite": lambda text, told: text.replace('"knn": ', '"knn": 1e999'),
    "a score that is a gap": lambda text, told: told["gaps"].update(knn="too few"),
    "no weights": lambda text, told: told.update(weights=None),
}
LOOKS = ANY_FILE | {
    "no epochs": lambda text, told: told["scores"].update(knn={"first": 0.5}),
    "not finite": lambda text, told: told["scores"]["knn"].update({"3": math.inf}),
    "no seconds": lambda text, told: told.update(seconds={"3": "long"}),
    "no weights": lambda text, told: told.update(weights="abc"),
}


@pytest.mark.parametrize("damage", READINGS)
def test_damaged_readings_are_named_and_made_anew(voted, tmp_path, caplog, damage):
    config, epoch = copied(voted[0], tmp_path), voted[1][1]
    without(config, "looks")
    before = readings.of_kept(config, "one", [epoch])
    path = path_of(config, f"readings-{epoch:05}.json")
    whole = path.read_text()
    path.write_text(damaged(whole, READINGS[damage]))
    with counted() as called:
        assert readings.of_kept(config, "one", [epoch]) == before
    assert len(called) == VIEWS * DEPTH
    assert f"{path} is damaged: " in caplog.text
    assert json.loads(path.read_text()) == json.loads(whole)


@pytest.mark.parametrize("damage", LOOKS)
def test_damaged_looks_are_named_and_count_as_nothing(voted, tmp_path, caplog, damage):
    config, epoch = copied(voted[0], tmp_path), voted[1][1]
    path = path_of(config, "looks.json")
    path.write_text(damaged(path.read_text(), LOOKS[damage]))
    with counted() as called:
        found = readings.of_kept(config, "one", [epoch])
    assert len(called) == VIEWS * DEPTH
    assert f"{path} is damaged: " in caplog.text
    assert len(found[epoch].scores) == 10


def test_damaged_readings_go_where_looks_know_all_that_can_be_had(voted, tmp_path, monkeypatch, caplog):
    """Nothing is made then that could take their place, and the warning came with every start."""
    config, epoch = copied(voted[0], tmp_path), voted[1][1]
    monkeypatch.setattr(readings, "obtainable", lambda score: {"knn": "knn"})
    path = path_of(config, f"readings-{epoch:05}.json")
    path.write_text("{")
    with counted() as called:
        readings.of_kept(config, "one", [epoch])
    assert not called
    assert f"{path} is damaged: " in caplog.text
    assert not path.exists()


def test_a_score_that_was_not_watched_takes_only_the_views_that_it_needs(voted, tmp_path):
    config, epochs = copied(voted[0], tmp_path), voted[1]
    path = Path(config.store.uri, "models/one/looks.json")
    told = json.loads(path.read_text())
    told["scores"] = {name: one for name, one in told["scores"].items() if name in ("robustness", "alignment", "lidar")}
    path.write_text(json.dumps(told))
    with counted() as called:
        assert len(job.scored(config, "one", epochs, {})[0]["knn"]) == len(epochs)
    assert len(called) == len(epochs) * DEPTH


def test_what_is_said_later_goes_before_what_was_said(voted):
    first = readings.Readings({"knn": 0.5, "logme": 1.0}, {"h_score": "too few"}, "a")
    second = readings.Readings({"h_score": 2.0}, {"logme": "collapsed"}, "b")
    assert readings.joined(first, second) == ({"knn": 0.5, "h_score": 2.0}, {"logme": "collapsed"}, "b")
    assert readings.joined(first, readings.NOTHING) == first


def test_what_a_task_of_ray_scored_tells_the_weights_of_the_checkpoint(voted, tmp_path):
    config, epochs = voted
    model = objectives.load(Kept(config, "one").address(epochs[1]), RECIPE)
    objectives.save(model, str(tmp_path / looks.checkpoints.WEIGHTS))
    assert looks.Score(config).of(tmp_path)["weights"] == objectives.fingerprint(model)


KILLED = """
import sys
from jobs import transfer as job
from jobs.kept import Kept
from tests.test_looks import config_of
config = config_of(sys.argv[1], sys.argv[2], "transfer.score=vote", "transfer.patience=99", "transfer.every=3")
config = config.model_copy(update={"store": config.store.model_copy(update={"uri": sys.argv[1]})})
job.scored(config, "one", Kept(config, "one").epochs * 50, {})  # goes on until it is killed
"""


@pytest.mark.processes
def test_what_was_scored_before_a_kill_is_there_afterwards(voted, tmp_path):
    config, epochs = copied(voted[0], tmp_path), voted[1]
    without(config, "looks")
    words = [sys.executable, "-c", KILLED, str(tmp_path), config.transfer.uri]
    running = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)})
    while running.poll() is None and not (there := list(tmp_path.glob("models/one/readings-*"))):
        time.sleep(0.01)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    there = list(tmp_path.glob("models/one/readings-*"))
    assert there
    with counted() as called:
        found, _ = job.scored(config, "one", epochs, {})
    assert len(called) == (len(epochs) - len(there)) * VIEWS * DEPTH
    assert set(found["robustness"]) == set(epochs)
