import json
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from engine import mae, pictures, pretrain
from engine.knobs import amend
from engine.models import MAEConfig, SimCLRConfig, TrainConfig
from jobs import probe, training
from jobs.recipes import tiny

MAE = MAEConfig(size="tiny", side=32, token=8, decoder_width=32, decoder_depth=1, decoder_heads=2, norm_pix=True)
RECIPE = TrainConfig(mae=MAE, epochs=4, warmup_epochs=1, batch=4, base_lr=1e-2)


class Noise:
    """Eight pictures of noise; reading fails for good after `lives` batches."""

    def __init__(self, lives):
        self.lives = lives

    def __call__(self, positions):
        if self.lives == 0:
            raise OSError("the disk is gone")
        self.lives -= 1
        return [pictures.encode(np.random.default_rng(p).integers(0, 255, (40, 40, 3), np.uint8), 95) for p in positions]


class Curve:
    def __init__(self):
        self.losses, self.of_steps, self.kept = {}, {}, {}

    def log(self, metrics, step):
        self.losses.setdefault(step, []).append(metrics["train/loss"])

    def log_curve(self, metric, points):
        assert metric == "train/step_loss"
        for step, loss in points.items():
            self.of_steps.setdefault(step, []).append(loss)

    def note(self, tags):
        pass

    def keep(self, name, content):
        self.kept[name] = content


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def config(folder):
    return amend(tiny(), ["where=here", f"store.uri={folder}/store"])


def carried_out(made, recipe, read, count, record):
    loop = partial(pretrain.fit, read, count, recipe)
    return training.carry_out(made, recipe, partial(training.fit, loop, recipe.epochs, record), "run")


def train(folder, curve, lives=-1):
    return carried_out(config(folder), RECIPE, Noise(lives), 8, curve)


def test_a_run_that_died_goes_on_where_it_was_and_ends_in_the_same_model(tmp_path):
    whole, broken = Curve(), Curve()
    undisturbed = train(tmp_path / "a", whole)
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path / "b", broken, lives=5)  # two batches an epoch: it dies in the third
    assert list(broken.losses) == [0, 1]
    model = train(tmp_path / "b", broken)
    assert broken.losses == whole.losses  # every epoch once
    assert broken.of_steps == whole.of_steps  # and every step
    assert list(whole.of_steps) == list(range(1, 9))
    for epoch, (loss,) in whole.losses.items():  # of two steps of four images each
        assert loss == pytest.approx(np.mean([whole.of_steps[2 * epoch + step][0] for step in (1, 2)]), rel=1e-12)
    assert all(torch.equal(one, other) for one, other in zip(undisturbed.state_dict().values(), model.state_dict().values(), strict=True))
    left = sorted(path.name for path in (tmp_path / "b/store/runs/run-here").iterdir())
    assert left == ["step-000000006", "step-000000008"]  # the disk does not fill up


def test_a_checkpoint_that_is_damaged_is_dropped_and_the_one_before_is_gone_on_from(tmp_path, caplog):
    whole, broken = Curve(), Curve()
    undisturbed = train(tmp_path / "a", whole)
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path / "b", broken, lives=5)
    runs = tmp_path / "b/store/runs/run-here"
    (runs / "step-000000004/state.pt").write_bytes(b"rust")
    model = train(tmp_path / "b", broken)
    assert "step-000000004: the file state.pt of a checkpoint is damaged" in caplog.text
    assert "going on from step-000000002" in caplog.text
    assert broken.losses[1] == [whole.losses[1][0]] * 2  # the second epoch anew, with the same loss
    assert broken.of_steps == whole.of_steps | {step: whole.of_steps[step] * 2 for step in (3, 4)}  # and the same of its steps
    assert same(undisturbed, model)


def zeroed(content):
    middle = len(content) // 2
    return content[:middle] + bytes(len(content[middle : middle + 512])) + content[middle + 512 :]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.fixture(scope="module")
def died(tmp_path_factory):
    """The folder of a training that died in its third epoch."""
    folder = tmp_path_factory.mktemp("died")
    with pytest.raises(OSError, match="the disk is gone"):
        train(folder, Curve(), lives=5)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "SHA256SUMS", "state.pt"])
@pytest.mark.parametrize("damage", [None, zeroed, flipped, lambda _: b"", lambda content: content[:-100]])
def test_whatever_befalls_a_file_of_the_newest_checkpoint_the_one_before_is_gone_on_from(died, tmp_path, caplog, name, damage):
    """Deleted, with a part that is zeros, with a single bit that has flipped, empty, cut off: none of it changes the model."""
    shutil.copytree(died, tmp_path, dirs_exist_ok=True)
    file, again = tmp_path / "store/runs/run-here/step-000000004" / name, Curve()
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    model = train(tmp_path, again)
    assert list(again.losses) == [1, 2, 3]
    assert mae.fingerprint(model) == whole_one()
    assert ("going on from step-000000002" in caplog.text) == ((name, damage) != ("state.pt", None))  # without it there is none


@cache
def whole_one():
    """The fingerprint of the model that an undisturbed training ends in."""
    with TemporaryDirectory() as folder:
        return mae.fingerprint(train(Path(folder), Curve()))


def test_a_checkpoint_from_before_there_were_sums_is_gone_on_from(tmp_path, caplog):
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path, Curve(), lives=5)
    for made in (tmp_path / "store/runs/run-here").iterdir():
        (made / "SHA256SUMS").unlink()
        state = torch.load(made / "state.pt", weights_only=True)
        torch.save({name: part for name, part in state.items() if name != "SHA256SUMS"}, made / "state.pt")
    again = Curve()
    assert mae.fingerprint(train(tmp_path, again)) == whole_one()
    assert list(again.losses) == [2, 3]
    assert not caplog.text


def test_sums_are_those_of_coreutils(tmp_path):
    train(tmp_path, Curve())
    for made in (tmp_path / "store/runs/run-here").iterdir():
        told = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=made, capture_output=True, text=True, check=True)
        assert told.stdout == "model.safetensors: OK\nstate.pt: OK\n"


def test_a_checkpoint_that_is_damaged_and_has_none_before_it_says_what_to_delete(tmp_path):
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path, Curve(), lives=3)  # in the second epoch
    (damaged,) = (tmp_path / "store/runs/run-here").iterdir()
    (damaged / "state.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"^the file state.pt .*; there is no checkpoint before it: delete {damaged} to begin anew$"):
        train(tmp_path, Curve())


def grouped_as_before(made):
    """Have a checkpoint be of an engine that let the tokens of class and mask go without decay, as ours once did."""
    (made / "SHA256SUMS").unlink()
    state = torch.load(made / "state.pt", weights_only=True)
    decays, free = state["optimiser"]["param_groups"]
    free["params"], decays["params"] = decays["params"][:2] + free["params"], decays["params"][2:]
    torch.save({name: part for name, part in state.items() if name != "SHA256SUMS"}, made / "state.pt")


def test_checkpoints_whose_weights_were_grouped_otherwise_are_told_in_a_sentence_that_lets_the_training_begin_anew(tmp_path):
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path, Curve(), lives=5)
    runs, again = tmp_path / "store/runs/run-here", Curve()
    for made in runs.iterdir():
        grouped_as_before(made)
    said = (
        rf"^the file state.pt .* is not the state of this training: .*group.*; there is no .* before it: delete {runs}/(.*) to begin anew$"
    )
    with pytest.raises(ValueError, match=said) as told:
        train(tmp_path, Curve())
    assert len(str(told.value).splitlines()) == 1
    shutil.rmtree(runs / re.search(said, str(told.value)).group(1))
    assert mae.fingerprint(train(tmp_path, again)) == whole_one()
    assert list(again.losses) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [{"picture_steps": 3, "checkpoint_steps": 1, "checkpoint_every": 3, "max_failures": 0}, {"accumulate": 2}],
)
def test_knobs_on_which_the_model_does_not_depend_may_change_amid_a_training(tmp_path, change):
    """It is the same by its fingerprint, so by its folder, and ends the same: to the bit, but for parts of batches, which round."""
    whole, changed = Curve(), RECIPE.model_copy(update=change)
    assert changed.fingerprint() == RECIPE.fingerprint()
    undisturbed, broken = train(tmp_path / "a", whole), Curve()
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path / "b", broken, lives=5)
    model = carried_out(config(tmp_path / "b"), changed, Noise(-1), 8, broken)
    assert list(broken.losses) == [0, 1, 2, 3]
    for epoch, (loss,) in broken.losses.items():
        assert loss == pytest.approx(whole.losses[epoch][0], rel=1e-3 if "accumulate" in change else 0)
    assert same(undisturbed, model) or "accumulate" in change


def test_every_other_knob_makes_another_training():
    free = {"accumulate", "workers", "least_workers", "max_failures", "checkpoint_every", "checkpoint_steps", "picture_steps"}
    changes = {
        "architecture": "simclr", "mae": MAE.model_copy(update={"token": 16}), "simclr": SimCLRConfig(side=64), "checkpoint": "a",
        "epochs": 5, "batch": 8, "accumulate": 2, "base_lr": 2e-2, "weight_decay": 0.1, "warmup_epochs": 2,
        "clip": 1.0, "ema": 0.5, "min_crop": 0.5,
        "precision": "bf16", "workers": 2, "least_workers": 1, "checkpoint_every": 2, "checkpoint_steps": 1, "picture_steps": 1,
        "max_failures": 1, "seed": 1,
    }  # fmt: skip
    assert changes.keys() == TrainConfig.model_fields.keys()
    same_one = {name for name, value in changes.items() if RECIPE.model_copy(update={name: value}).fingerprint() == RECIPE.fingerprint()}
    assert same_one == free


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = train(tmp_path, Curve())
    again = Curve()
    model = train(tmp_path, again, lives=0)
    assert not again.losses
    assert all(torch.equal(one, other) for one, other in zip(first.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize("place", ["{}/runs", "memory://bucket/{}/runs"])
def test_half_a_checkpoint_is_none(tmp_path, place):
    checkpoints = training.Checkpoints(place.format(tmp_path))
    made, copy = tmp_path / "made", tmp_path / "copy"
    for folder in (made, copy):
        folder.mkdir()
    (made / "model.safetensors").write_bytes(b"weights of epoch 1")
    (made / "SHA256SUMS").write_bytes(b"their sums")
    with pytest.raises(FileNotFoundError):
        checkpoints.take({"epoch": 1, "step": 4}, made)  # state.pt is not there: as after a crash between the two
    assert checkpoints.newest(copy) is None
    (made / "state.pt").write_bytes(b"state of epoch 1")
    checkpoints.take({"epoch": 1, "step": 4}, made)
    assert checkpoints.newest(copy) == copy
    assert (copy / "state.pt").read_bytes() == b"state of epoch 1"


@pytest.mark.parametrize(
    ("epochs", "every", "expected"), [(20, 1, 4), (8, 1, 2), (4, 1, 1), (1, 1, 1), (20, 3, 6), (20, 50, 20), (50, 1, 10)]
)
def test_the_early_model_is_that_of_a_fifth_of_the_epochs_at_a_checkpoint(epochs, every, expected):
    assert probe.early_epochs(RECIPE.model_copy(update={"epochs": epochs, "checkpoint_every": every})) == expected


def test_the_early_model_is_the_one_that_a_training_had_by_then_and_the_last_is_not_changed_by_keeping_it(tmp_path):
    """The rate of a shorter training is another, so the early one is compared with what a training that stops there leaves behind."""
    uri, loop = str(tmp_path / "early.safetensors"), partial(training.fit, partial(pretrain.fit, Noise(-1), 8, RECIPE), RECIPE.epochs)
    last = training.carry_out(config(tmp_path / "a"), RECIPE, partial(training.kept, partial(loop, Curve()), 2, partial(copy, uri)), "run")
    plain = training.carry_out(config(tmp_path / "b"), RECIPE, partial(loop, Curve()), "run")
    assert mae.fingerprint(last) == mae.fingerprint(plain)
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path / "c", Curve(), lives=5)  # two epochs and a half
    (stopped,) = (tmp_path / "c/store/runs/run-here").glob("step-000000004/model.safetensors")
    early = mae.fingerprint(mae.load(uri, MAE))
    assert early == mae.fingerprint(mae.load(str(stopped), MAE)) != mae.fingerprint(last)


def copy(to, path):
    Path(to).write_bytes(Path(path).read_bytes())


def test_pictures_of_every_so_many_steps_are_kept_with_their_run_and_nowhere_else(tmp_path):
    curve, recipe = Curve(), RECIPE.model_copy(update={"picture_steps": 3})
    carried_out(config(tmp_path), recipe, Noise(-1), 8, curve)  # eight steps
    assert list(curve.kept) == [f"pictures/step-{step:09}.jpg" for step in (3, 6, 8)]
    assert all(pictures.decode(sheet).shape == (8 * 32, 3 * 32, 3) for sheet in curve.kept.values())
    assert not list((tmp_path / "store").rglob("*.jpg"))


KILLED = """
import json, sys
from functools import partial
from engine import pretrain, tracking
from jobs import training
from tests.test_training import Noise, RECIPE, carried_out, config

made = config(sys.argv[1])
recipe = RECIPE.model_copy(update={"checkpoint_steps": 1, "epochs": 8})
with tracking.running(made, "pretrain", "run", {}) as record:
    model = carried_out(made, recipe, Noise(-1), 16, record)
    curves = {name: tracking.connect(record.uri).get_metric_history(record.run_id, f"train/{name}") for name in ("loss", "step_loss")}
    told = json.dumps({name: [[point.step, point.value] for point in points] for name, points in curves.items()})
    print(record.run_id, training.objectives.fingerprint(model), told, sep=";")
"""


class Spoilt(Noise):
    """Ten pictures of noise of which none can be seen any more after `lives` batches."""

    def __init__(self, lives):
        super().__init__(-1)  # which never ends: several threads read ahead
        self.left = lives

    def __call__(self, positions):
        self.left -= 1
        found = super().__call__(positions)
        return [one[:20] for one in found] if self.left <= 0 else found


def test_a_training_that_diverges_says_where_its_last_checkpoints_lie_and_one_begins_from_them(tmp_path):
    """Its first step is one of length 0, by the warm-up; the second ruins all weights, and the third finds that."""
    wild, made = RECIPE.model_copy(update={"base_lr": 1e25, "checkpoint_steps": 1}), config(tmp_path)
    with pytest.raises(FloatingPointError, match=r"in epoch 1, step 0,.* it begins anew, or") as told, training.left(made, "run", "knob"):
        carried_out(made, wild, Noise(-1), 8, Curve())
    last, before = re.search(r"from its last checkpoint by knob=(\S+), or, .*, from (\S+) beside it$", str(told.value)).groups()
    assert last == f"{tmp_path}/store/runs/run-here/step-000000002/model.safetensors"
    tame, curve = RECIPE.model_copy(update={"checkpoint": last.replace("step-000000002", before)}), Curve()
    loop = partial(pretrain.fit, Noise(-1), 8, tame)
    training.carry_out(made, tame, partial(training.fit, loop, tame.epochs, curve), "other")
    assert list(curve.losses) == [0, 1, 2, 3]
    begun = pretrain.Loop(Noise(-1), 8, tame, None, None).training.model
    assert same(training.objectives.load(tame.checkpoint, wild), begun)


def test_a_training_of_which_nothing_was_saved_says_so(tmp_path):
    wild, made = RECIPE.model_copy(update={"base_lr": 1e30, "warmup_epochs": 0}), config(tmp_path)
    with pytest.raises(FloatingPointError, match=r"; nothing was saved yet$") as told, training.left(made, "run", "knob"):
        carried_out(made, wild, Noise(-1), 8, Curve())
    assert "what was saved" not in str(told.value)
    loop = partial(pretrain.fit, Spoilt(3), 8, RECIPE)
    said = r"cannot be seen: .*, or from its last checkpoint by k=.*/step-000000002/model.safetensors$"
    with pytest.raises(ValueError, match=said), training.left(made, "seen", "k"):
        training.carry_out(made, RECIPE, partial(training.fit, loop, RECIPE.epochs, Curve()), "seen")


@pytest.mark.slow
@pytest.mark.timeout(1200)  # five processes, each of which begins anew
def test_a_job_that_is_killed_again_and_again_is_one_run_with_the_curve_of_an_undisturbed_one(tmp_path):
    """Killed with -9 as soon as there is a checkpoint that was not there before: some amid an epoch, some at its end."""

    def job(folder):
        return subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / folder)], stdout=subprocess.PIPE, text=True)

    for _ in range(3):
        running, found = job("killed"), tmp_path / "killed/store/runs/run-here"
        before = {path.parent.name for path in found.glob("*/state.pt")}
        while running.poll() is None and len({path.parent.name for path in found.glob("*/state.pt")} - before) == 0:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert running.returncode == -signal.SIGKILL
    (_, model, curves), (_, same, whole) = (job(folder).communicate()[0].splitlines()[-1].split(";") for folder in ("killed", "whole"))
    assert (model, curves) == (same, whole)  # to the last digit
    assert [step for step, _ in json.loads(whole)["loss"]] == list(range(8))
    assert [step for step, _ in json.loads(whole)["step_loss"]] == list(range(1, 8 * 4 + 1))
