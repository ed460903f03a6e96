"""The loop of pre-training: what goes on after a cut, parts of batches, means of weights, looks, and what it says when it cannot go on."""

import shutil
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.optim import param_groups_weight_decay
from torch import nn

from engine import checkpoints, devices, footprint, loader, mae, objectives, optimiser, pretrain, simclr, weights
from engine.config import Config, SimCLRConfig
from engine.knobs import amend
from engine.models import TrainConfig
from engine.monitor import Looker
from engine.settings import TransferConfig
from engine.transfer import Readings
from jobs import probe, training
from jobs.recipes import tiny
from jobs.troubles import CommandError
from tests.test_pretrain import CONFIG, MAE, Recorder, Stripes, run

ONCE = CONFIG.model_copy(update={"checkpoint_every": 3})  # files are what takes the time here
SHAPE = SimCLRConfig(encoder="test_vit", side=32, projection=16)
CONTRAST = ONCE.model_copy(update={"architecture": "simclr", "simclr": SHAPE, "ema": 0.9, "clip": 1.0})
STEPS = 9  # three epochs of ten images by four


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def state_of(folder):
    return torch.load(folder / "state.pt", weights_only=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A model, its curve, and the folder with a checkpoint of every step."""
    folder = tmp_path_factory.mktemp("whole") / "a"
    return *run(folder, CONTRAST.model_copy(update={"checkpoint_steps": 1})), folder


@settings(max_examples=6, deadline=None)
@given(step=st.integers(1, STEPS - 1))
def test_a_run_that_goes_on_from_any_step_ends_in_the_same_curve_and_model_to_the_bit(undisturbed, step):
    model, whole, folder = undisturbed
    losses = []
    again = pretrain.fit(Stripes(), 10, CONTRAST, resume=folder / f"step-{step}", report=lambda told, _: losses.append(told["loss"]))
    assert losses == whole.losses[step // 3 :]
    assert same(again, model)


def test_a_masked_autoencoder_goes_on_amid_an_epoch_to_the_bit_with_all_that_a_recipe_may_ask_for(tmp_path):
    recipe = ONCE.model_copy(update={"accumulate": 2, "clip": 0.5, "ema": 0.9, "epochs": 2, "checkpoint_steps": 4})
    model, whole = run(tmp_path / "a", recipe)
    again, resumed = run(tmp_path / "b", recipe, resume=tmp_path / "a" / "step-4")
    assert resumed.losses == whole.losses[1:]
    assert same(again, model)


def test_a_mean_of_weights_that_is_switched_on_later_begins_with_the_weights_of_the_checkpoint(tmp_path):
    plain = CONTRAST.model_copy(update={"ema": 0.0, "checkpoint_steps": 1})
    run(tmp_path / "a", plain)
    began, then = (objectives.load(str(tmp_path / f"a/step-{step}/model.safetensors"), plain).state_dict() for step in (8, 9))
    mean, _ = run(tmp_path / "b", plain.model_copy(update={"ema": 0.75}), resume=tmp_path / "a/step-8")
    stays = 10 / 19  # at step 9, less than 0.75
    for name, found in mean.state_dict().items():
        if found.is_floating_point():
            torch.testing.assert_close(found, stays * began[name] + (1 - stays) * then[name])


@pytest.mark.parametrize("recipe", [CONFIG, CONTRAST], ids=["mae", "simclr"])
def test_what_decays_is_what_decays_by_timm_whose_rule_the_code_of_mae_takes(recipe):
    """facebookresearch/mae main_pretrain.py calls add_weight_decay of timm 0.3.2, which is param_groups_weight_decay today."""
    model = objectives.model(recipe)
    names = {weight: name for name, weight in model.named_parameters()}

    def decay(groups):
        return {names[weight]: group["weight_decay"] for group in groups for weight in group["params"]}

    ours = decay(optimiser.adamw(model, recipe).param_groups)
    assert ours == decay(param_groups_weight_decay(model, recipe.weight_decay))
    assert set(ours.values()) == {0.0, recipe.weight_decay}
    tokens = {name: value for name, value in ours.items() if name.endswith("token")}
    assert tokens
    assert set(tokens.values()) == {recipe.weight_decay}


def test_of_the_mean_of_weights_little_stays_at_first_and_then_what_was_asked_for():
    """TensorFlow's ExponentialMovingAverage: min(decay, (1 + num_updates) / (10 + num_updates))."""
    assert [optimiser.decay(0.999, step) for step in (1, 2, 8)] == [2 / 11, 3 / 12, 0.5]
    assert optimiser.decay(0.999, 8989) < 0.999  # which is met where 1 + n = 0.999 (10 + n), at 8990
    assert optimiser.decay(0.999, 8991) == 0.999
    assert optimiser.decay(0.1, 1) == 0.1


def test_the_mean_of_weights_of_a_short_training_is_no_mean_with_the_random_ones(tmp_path):
    """With a decay of 0.9999 and no warm-up 99.9 % of it would be the weights that it began with."""
    recipe = CONTRAST.model_copy(update={"ema": 0.9999})
    model, _ = run(tmp_path / "a", recipe)
    torch.manual_seed(recipe.seed)
    random, last = objectives.model(recipe).state_dict(), state_of(tmp_path / "a/step-9")["weights"]
    far, near = (sum((weight - other[name]).norm() ** 2 for name, weight in model.named_parameters()) for other in (random, last))
    assert near < 0.25 * far


def test_a_training_whose_mean_of_weights_is_switched_off_goes_on_from_the_weights_not_their_mean(tmp_path):
    averaged, plain = (CONTRAST.model_copy(update={"ema": ema, "checkpoint_steps": 1}) for ema in (0.75, 0.0))
    run(tmp_path / "a", averaged)
    whole, _ = run(tmp_path / "b", plain)
    again, _ = run(tmp_path / "c", plain, resume=tmp_path / "a/step-8")
    assert same(again, whole)


def test_a_checkpoint_amid_an_epoch_reports_where_it_is_and_no_numbers_of_the_epoch(tmp_path):
    told = []
    pretrain.fit(
        Stripes(),
        10,
        CONTRAST.model_copy(update={"checkpoint_steps": 2}),
        resume=None,
        report=lambda metrics, folder: told.append((metrics["epoch"], metrics["step"], "loss" in metrics, folder is not None)),
    )
    amid = [(0, 2), (1, 4), (2, 8)]
    ends = {(0, 3): False, (1, 6): True, (2, 9): True}  # by step 6, which is a second one, and at the end of the last epoch
    assert told == sorted([(*at, False, True) for at in amid] + [(*at, True, saved) for at, saved in ends.items()], key=lambda one: one[1])


def test_batches_taken_in_parts_give_the_curve_and_the_weights_of_whole_ones(tmp_path):
    (model, whole), (parted, parts) = (run(tmp_path / str(n), ONCE.model_copy(update={"accumulate": n})) for n in (1, 3))
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)
    first, second = (torch.cat([weight.flatten() for weight in one.parameters()]) for one in (model, parted))
    assert (first - second).norm() < 1e-3 * first.norm()


class Measured:
    """An objective that notes how many images it is given at a time."""

    def __init__(self, config):
        self.inner, self.sizes = objectives.objective(config), []
        self.see = self.inner.see

    def losses(self, run, seen):
        self.sizes.append(len(seen))
        return self.inner.losses(run, seen)


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        ({}, [4, 4, 2]),
        ({"workers": 2}, [2, 2, 2, 2, 1, 1]),
        ({"workers": 2, "accumulate": 2}, [1] * 10),
        ({"workers": 4, "least_workers": 1}, [1] * 8),
        ({"batch": 10, "workers": 2, "accumulate": 2}, [3, 2, 3, 2]),
        ({"batch": 6, "workers": 2, "accumulate": 2}, [2, 1, 2, 1] + [1] * 4),
        ({"architecture": "simclr", "workers": 2}, [4, 4, 2]),
    ],
)
def test_who_stands_in_for_other_workers_takes_no_more_images_at_a_time_than_each_of_them(change, sizes):
    """Of ten images in batches of four; four workers leave two out, and SimCLR contrasts all that it has, for which memory is counted."""
    config = ONCE.model_copy(update={"simclr": SHAPE, "epochs": 1, "warmup_epochs": 0, "picture_steps": 0, **change})
    loop = pretrain.Loop(Stripes(), 10, config, lambda told, folder: None, None)
    loop.objective = Measured(config)
    loop.run()
    assert loop.objective.sizes == sizes
    assert max(sizes) == footprint.share(config)
    assert loop.progress.samples == sum(sizes)


def test_the_mean_of_weights_is_that_of_its_formula_over_all_steps(tmp_path):
    plain, most = CONTRAST.model_copy(update={"ema": 0.0, "checkpoint_steps": 1}), 0.4
    run(tmp_path / "a", plain)
    torch.manual_seed(plain.seed)
    expected = {name: weight.double() for name, weight in objectives.model(plain).state_dict().items()}
    for step in range(1, STEPS + 1):
        now = simclr.load(str(tmp_path / "a" / f"step-{step}" / "model.safetensors"), SHAPE).state_dict()
        decay = min(most, (1 + step) / (10 + step))  # grows to step 5
        expected = {name: decay * mean + (1 - decay) * now[name].double() for name, mean in expected.items()}
    model, _ = run(tmp_path / "b", plain.model_copy(update={"ema": most, "checkpoint_steps": 0}))
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight.double(), expected[name], rtol=1e-4, atol=1e-6)


def test_running_statistics_are_averaged_and_counts_are_taken_as_they_are():
    now = nn.BatchNorm1d(2)
    average = optimiser.copied(now)
    now.running_mean += 1
    now.num_batches_tracked += 7
    optimiser.follow(average, now, 0.75)
    assert (average.running_mean.tolist(), average.num_batches_tracked.item()) == ([0.25, 0.25], 7)


def test_a_weight_that_a_model_has_at_two_places_is_averaged_once():
    shared = nn.Linear(1, 1, bias=False)
    now = nn.Sequential(shared, nn.Identity(), shared)
    average = optimiser.copied(now)
    with torch.no_grad():
        shared.weight += 1
    began = average[0].weight.item()
    optimiser.follow(average, now, 0.75)
    assert average[0].weight.item() == pytest.approx(began + 0.25)


def test_an_encoder_that_has_a_weight_at_several_places_is_saved_whole_and_goes_on_to_the_bit(tmp_path):
    """CoaT has the same convolutions in every block of a stage; safetensors refuses tensors that share memory."""
    shape = SimCLRConfig(encoder="coat_lite_tiny", side=32, projection=16)
    recipe = CONTRAST.model_copy(update={"simclr": shape, "epochs": 2, "checkpoint_steps": 3})
    named = objectives.model(recipe)
    assert len(list(named.parameters())) < len(list(named.named_parameters(remove_duplicate=False)))
    model, whole = run(tmp_path / "a", recipe)
    again, resumed = run(tmp_path / "b", recipe, resume=tmp_path / "a" / "step-3")
    assert resumed.losses == whole.losses[1:]
    assert same(again, model)
    started = simclr.load(str(tmp_path / "a" / "step-6" / "model.safetensors"), shape)
    assert same(started, model)
    assert len(list(started.parameters())) == len(list(named.parameters()))


def test_a_gradient_that_is_too_long_is_shortened_and_keeps_its_direction(tmp_path):
    """AdamW's first mean after one step is a tenth of the gradient."""

    def gradient(clip):
        run(tmp_path / str(clip), CONTRAST.model_copy(update={"clip": clip, "ema": 0.0, "epochs": 2, "checkpoint_steps": 1}))
        state = state_of(tmp_path / str(clip) / "step-1")["optimiser"]["state"]
        return torch.cat([10 * state[number]["exp_avg"].flatten().double() for number in sorted(state)])

    whole, shortened, untouched = gradient(0.0), gradient(0.01), gradient(1e6)
    assert shortened.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert nn.functional.cosine_similarity(whole, shortened, dim=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(whole, untouched)


class StopAt:
    """Has had enough after so many epochs, and knows how often it looked."""

    def __init__(self, epoch):
        self.epoch, self.looks = epoch, []

    def __call__(self, epoch, model):
        assert not model.training
        self.looks.append(epoch)
        return epoch >= self.epoch

    def state_dict(self):
        return {"looks": self.looks}

    def load_state_dict(self, state):
        self.looks = list(state["looks"])


def test_a_look_ends_the_training_and_is_kept_with_it(tmp_path):
    recipe, look = CONTRAST.model_copy(update={"epochs": 4}), StopAt(2)
    model, recorder = run(tmp_path / "a", recipe, look=look)
    assert look.looks == [0, 1, 2]
    assert len(recorder.losses) == 2
    assert [(told["epoch"], told["step"]) for told in recorder.stops] == [(1, 6)]
    again, last = StopAt(10**6), max((tmp_path / "a").glob("step-*"), key=lambda made: int(made.name[5:]))
    assert same(pretrain.fit(Stripes(), 10, recipe, resume=last, report=None, look=again), model)  # nothing is left to report
    assert again.looks == [*look.looks, 2]  # once more at the checkpoint: it may have been cut off there


def test_a_training_that_finds_that_it_is_enough_only_when_it_goes_on_reports_its_end(tmp_path):
    """Killed after the report of an epoch and before its look, or before its score was there; the checkpoint is not made twice."""
    recipe = CONTRAST.model_copy(update={"epochs": 4, "checkpoint_every": 1})
    run(tmp_path / "a", recipe, look=StopAt(10**6))
    model, recorder = run(tmp_path / "b", recipe, resume=tmp_path / "a" / "step-6", look=StopAt(2))
    assert recorder.losses == []
    assert [(told["epoch"], told["step"]) for told in recorder.stops] == [(1, 6)]
    assert [path.name for path in (tmp_path / "b" / "step-6").iterdir()] == [pretrain.SHEET]
    assert same(model, objectives.load(str(tmp_path / "a/step-6/model.safetensors"), recipe))


def test_the_look_that_a_crash_may_have_cut_off_is_made_again(tmp_path):
    recipe, again = CONTRAST.model_copy(update={"checkpoint_every": 1}), StopAt(10**6)
    run(tmp_path / "a", recipe, look=StopAt(10**6))
    run(tmp_path / "b", recipe, resume=tmp_path / "a" / "step-3", look=again)
    assert again.looks == [0, 1, 2, 3]


@pytest.mark.parametrize("step", [2, 6, 7])
def test_no_look_is_lost_whose_score_was_under_way_when_a_training_was_cut_off(tmp_path, step):
    """Scores take longer than steps, and there is a checkpoint after each, most of them amid an epoch."""
    recipe, config = CONTRAST.model_copy(update={"checkpoint_steps": 1}), TransferConfig(every=2, patience=99)

    def slowly(model):
        time.sleep(0.2)
        return Readings({"robustness": float(next(model.parameters()).sum())}, {})

    class CutOffError(Exception):
        pass

    def cut_off(told, folder):
        shutil.copytree(folder, tmp_path / "newest", dirs_exist_ok=True)
        if told["step"] == step:
            raise CutOffError

    with pytest.raises(CutOffError):
        pretrain.fit(Stripes(), 10, recipe, resume=None, report=cut_off, look=Looker(config, slowly, last=3))
    again, whole = Looker(config, slowly, last=3), Looker(config, slowly, last=3)
    pretrain.fit(Stripes(), 10, recipe, resume=tmp_path / "newest", report=lambda *_: None, look=again)
    pretrain.fit(Stripes(), 10, CONTRAST, resume=None, report=lambda *_: None, look=whole)
    again.drain()
    whole.drain()
    assert again.monitor.heard == whole.monitor.heard
    assert set(again.monitor.seconds) == {0, 2, 3}


def test_a_look_changes_nothing_of_a_training_that_it_does_not_end(tmp_path, undisturbed):
    class Restless(StopAt):
        def __call__(self, epoch, model):
            torch.rand(epoch + 1)
            return super().__call__(epoch, model)

    model, _ = run(tmp_path / "a", CONTRAST, look=Restless(10**6))
    assert same(model, undisturbed[0])


class Called(Stripes):
    def ids(self, positions):
        return [f"image-{position}" for position in positions]


def test_a_training_that_diverged_says_so_and_leaves_the_checkpoint_before(tmp_path):
    wild = CONTRAST.model_copy(update={"base_lr": 1e25, "warmup_epochs": 0, "checkpoint_steps": 1})
    with pytest.raises(
        FloatingPointError,
        match=r"step 1, of the training images .*, all 4 seen together, so that the training may have diverged",
    ):
        run(tmp_path / "a", wild, read=Called())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["step-1"]


class BadPicture:
    """An objective to which the pictures at these places of a part are no numbers."""

    def __init__(self, *places):
        self.places = places

    def losses(self, run, seen):
        return torch.tensor([float("nan") if place in self.places else 1.0 for place in range(len(seen))])


def test_a_loss_that_is_no_number_names_the_images():
    loop = pretrain.Loop(Called(), 10, CONTRAST, None, None)
    loop.objective, part = BadPicture(0, 2), [((0, position), None) for position in (7, 3, 5)]
    with pytest.raises(FloatingPointError, match="not a number in epoch 0, step 0, of the training images image-7, image-5: look at them"):
        loop.losses(part)
    assert loader.named(Stripes(), range(20)) == "the training images 0, 1, 2, 3, 4 and 15 more"


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    class Spoil(StopAt):
        def __call__(self, step, model):
            next(model.parameters()).data.fill_(torch.inf)
            return False

    with pytest.raises(FloatingPointError, match=r"^the weights are no numbers after 3 steps: lower base_lr="):
        run(tmp_path / "a", CONTRAST.model_copy(update={"checkpoint_every": 1}), look=Spoil(1))
    assert not list((tmp_path / "a").iterdir())


def test_memory_that_does_not_suffice_is_one_sentence_with_the_knobs_to_lower(tmp_path):
    class Greedy(StopAt):
        def __call__(self, step, model):
            return bool(torch.empty(2**52).any())

    said = r"^4 images at a time do not fit into the memory of .*: lower batch=4, or take precision=bf16"
    with pytest.raises(RuntimeError, match=said):
        run(tmp_path / "a", CONTRAST, look=Greedy(1))


def test_a_precision_that_only_a_gpu_has_is_refused_without_one():
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"^precision=fp16 needs a GPU"):
            pretrain.fit(Stripes(), 10, CONFIG.model_copy(update={"precision": "fp16"}), resume=None, report=None)


@pytest.mark.parametrize(
    ("recipe", "workers", "gpus", "apart"),
    [
        ({"architecture": "mae", "mae": {"size": "tiny"}}, 2, False, False),
        ({"architecture": "simclr", "simclr": {"encoder": "vit_tiny_patch16_224"}}, 2, False, False),
        ({"architecture": "simclr", "simclr": {"encoder": "resnet18"}}, 1, False, False),
        ({"architecture": "simclr", "simclr": {"encoder": "resnet18"}}, 2, True, True),
    ],
)
def test_batch_norms_of_several_workers_are_made_together_where_there_are_some(recipe, workers, gpus, apart):
    assert objectives.norms_apart(objectives.model(TrainConfig.model_validate(recipe)), workers, gpus) is apart


@pytest.mark.parametrize("encoder", ["efficientnet_b0", "regnety_002", "resnet18"])
def test_batch_norms_that_hold_an_activation_keep_it_when_several_workers_make_them_together(monkeypatch, encoder):
    """In evaluation nothing is shared between workers, so the network has to be the one it was."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    recipe = TrainConfig.model_validate({"architecture": "simclr", "simclr": {"encoder": encoder, "side": 32}})
    torch.manual_seed(0)
    model, images = objectives.model(recipe).eval(), torch.randn(4, 3, 32, 32)
    before = model.encode(images)
    made = pretrain.synchronised(model, SimpleNamespace(num_processes=2))
    norms = [one for one in made.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(one, nn.SyncBatchNorm) for one in norms)
    torch.testing.assert_close(made.encode(images), before)


@pytest.mark.parametrize("where", ["ray", "here"])
def test_batch_norms_of_several_workers_without_gpus_are_refused_before_a_training_begins(monkeypatch, where):
    """In this process all of a batch is seen together, whatever the number of workers."""
    monkeypatch.setattr(training, "on_gpus", lambda config: False)
    config = Config.model_validate({"where": where})
    recipe = TrainConfig.model_validate({"architecture": "simclr", "simclr": {"encoder": "resnet18"}, "workers": 2, "batch": 16})
    said = r"^workers=2: torch does batch norms over several workers on GPUs only"
    with pytest.raises(ValueError, match=said) if where == "ray" else nullcontext():
        training.check(config, recipe, 16)


def test_batch_norms_of_a_scorer_are_refused_like_those_of_a_pre_training(monkeypatch):
    monkeypatch.setattr(training, "on_gpus", lambda config: False)
    config = amend(tiny(), ["difficulty.scorer=simclr", "difficulty.simclr.encoder=resnet18", "probe.train.workers=2"])
    with pytest.raises(CommandError, match=r"^workers=2: torch does batch norms over several workers on GPUs only"):
        probe.run(config)


def test_mixed_precision_stays_near_the_curve_and_the_mean_keeps_its_own_weights(tmp_path):
    recipe = CONTRAST.model_copy(update={"precision": "bf16"})
    model, recorder = run(tmp_path / "a", recipe)
    assert recorder.losses == pytest.approx(run(tmp_path / "b", CONTRAST)[1].losses, rel=0.02)
    images, saved = torch.randn(4, 3, 32, 32), simclr.load(str(tmp_path / "a" / "step-9" / "model.safetensors"), SHAPE)
    torch.testing.assert_close(model.eval()(images), saved.eval()(images))


def test_the_scaler_of_gradients_and_the_account_of_the_epoch_go_with_the_checkpoint(tmp_path):
    def training():
        model = objectives.model(CONTRAST)
        return checkpoints.Training(CONTRAST, model, optimiser.copied(model), optimiser.adamw(model, CONTRAST), torch.amp.GradScaler("cpu"))

    one, other = training(), training()
    one.scaler.scale(torch.ones(1))
    one.scaler.update(new_scale=128.0)
    checkpoints.save(one, checkpoints.Progress(epoch=2, step=1, loss=3.5, images=4), tmp_path)
    checkpoints.restore(other, tmp_path, first=True)
    other.scaler.scale(torch.ones(1))
    assert other.scaler.get_scale() == 128.0
    assert other.progress == checkpoints.Progress(epoch=2, step=1, loss=3.5, images=4)
    checkpoints.restore(other, tmp_path, first=False)
    assert (other.progress.epoch, other.progress.step, other.progress.loss, other.progress.images) == (2, 1, 0.0, 0)


def test_a_training_starts_from_the_weights_of_a_checkpoint_and_not_from_those_of_another_model(tmp_path):
    started = mae.MAE(MAE)
    mae.save(started, str(tmp_path / "mae"))
    told = CONFIG.model_copy(update={"checkpoint": str(tmp_path / "mae")})
    assert same(objectives.model(told), started)
    with pytest.raises(ValueError, match=r"^the checkpoint .*mae is of another model: size=tiny, expected small"):
        pretrain.fit(Stripes(), 10, told.model_copy(update={"mae": MAE.model_copy(update={"size": "small"})}), resume=None, report=None)
    with pytest.raises(ValueError, match=r"^the checkpoint .*mae is no SimCLR"):
        objectives.model(told.model_copy(update={"architecture": "simclr"}))
    scorer = simclr.SimCLR(SHAPE, 5)
    simclr.save(scorer, str(tmp_path / "simclr"))
    model = objectives.model(CONTRAST.model_copy(update={"checkpoint": str(tmp_path / "simclr")}))
    assert same(model.encoder, scorer.encoder)
    assert len(model.keys) == 0  # what other weights made of their pictures is none of it


@pytest.mark.parametrize("norm_pix", [False, True])
def test_a_sheet_shows_the_image_what_was_left_of_it_and_what_was_rebuilt(norm_pix):
    config = CONFIG.model_copy(update={"mae": MAE.model_copy(update={"norm_pix": norm_pix})})
    objective, model = objectives.objective(config), mae.MAE(config.mae)

    def perfect(images, noise):
        return None, model.target(images), model(images, noise)[2]

    perfect.parameters = model.parameters
    seen = [objective.see(jpeg, (0, place)) for place, jpeg in enumerate(Stripes()([0, 1, 2]))]
    with torch.no_grad():
        image, left, rebuilt = np.split(objective.sheet(perfect, seen).astype(int), 3, axis=1)
        guessed = objective.sheet(model, seen)[:, 64:].astype(int)
    assert image.shape == (3 * 32, 32, 3)
    assert np.array_equal(image, np.concatenate([view for view, _ in seen]))
    assert np.abs(rebuilt - image).max() <= 1
    kept = (left == image).all(2)
    assert kept.mean() == pytest.approx(config.mae.visible / config.mae.tokens, abs=0.02)
    assert (guessed == image).all(2)[kept].all()
    assert (guessed != image).any(2)[~kept].mean() > 0.9


def test_a_sheet_comes_every_so_many_steps_and_at_the_end_whether_or_not_there_is_a_checkpoint(tmp_path):
    run(tmp_path / "a", CONTRAST.model_copy(update={"picture_steps": 4, "checkpoint_steps": 8}))
    found = {path.name: sorted(part.name for part in path.iterdir()) for path in (tmp_path / "a").iterdir()}
    saved = ["SHA256SUMS", "model.safetensors", "pictures.jpg", "state.pt"]
    assert found == {"step-4": ["pictures.jpg"], "step-8": saved, "step-9": saved}


def test_sheets_change_nothing_of_a_training(tmp_path, undisturbed):
    model, _ = run(tmp_path / "a", CONTRAST.model_copy(update={"picture_steps": 1}))
    assert same(model, undisturbed[0])


def test_a_training_without_sheets_has_none(tmp_path):
    run(tmp_path / "a", CONTRAST.model_copy(update={"picture_steps": 0}))
    assert not list(tmp_path.rglob("*.jpg"))


def test_an_epoch_tells_what_it_took(tmp_path):
    _, recorder = run(tmp_path / "a", CONTRAST)
    assert [told["samples"] for told in recorder.metrics] == [10, 20, 30]
    assert [told["workers"] for told in recorder.metrics] == [1, 1, 1]
    hours = [told["gpu_hours"] for told in recorder.metrics]
    assert 0 < hours[0] < hours[1] < hours[2] < 0.1
    assert ("memory_gb" in recorder.metrics[0]) == torch.cuda.is_available()


def test_an_epoch_of_which_a_resume_with_more_workers_finds_nothing_left_tells_no_throughput(tmp_path):
    """Of nine images in batches of four one is left for a third step, which two workers leave out: after two the epoch is over."""
    one = ONCE.model_copy(update={"epochs": 2, "checkpoint_steps": 1, "picture_steps": 0})
    recorder = Recorder(tmp_path)
    pretrain.fit(Stripes(), 9, one, resume=None, report=recorder)
    again = []
    two = one.model_copy(update={"workers": 2, "checkpoint_steps": 0})
    pretrain.fit(Stripes(), 9, two, resume=tmp_path / "step-2", report=lambda told, _: again.append(told))
    assert [(told["epoch"], told["samples"], "images_per_s" in told) for told in again] == [(0, 8, False), (1, 16, True)]
    assert all(told["images_per_s"] > 0 for told in recorder.metrics + again[1:])
    assert again[0]["loss"] == pytest.approx(np.mean([recorder.of_steps[1], recorder.of_steps[2]]), rel=1e-12)


def test_device_hours_hold_all_that_a_device_was_held_for_and_looks_apart(tmp_path):
    """Of what a report and a look take each is slept away a known time, and the rest is less than all took."""
    told, slept, looked = [], 0.2, 0.3

    class Slow(StopAt):
        def __call__(self, epoch, model):
            time.sleep(looked)
            return super().__call__(epoch, model)

    def report(metrics, folder):
        told.append(metrics)
        time.sleep(slept)

    footprint.check(CONTRAST)  # counted once, before the loop is made
    began = time.perf_counter()
    pretrain.fit(Stripes(), 10, CONTRAST.model_copy(update={"checkpoint_steps": 2}), resume=None, report=report, look=Slow(10**6))
    whole, last = time.perf_counter() - began, told[-1]
    seconds, looks = 3600 * last["gpu_hours"], 3600 * last["look_hours"]
    assert looks >= 3 * looked  # before each of three epochs: that after the last, as the last report, comes after the hours were told
    assert len(told) == 6  # three amid epochs, of steps 2, 4 and 8, and three at their ends
    assert 5 * slept < seconds < whole - 4 * looked
    assert seconds + looks <= whole - slept - looked
    assert seconds + looks >= 0.9 * (whole - slept - looked)


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path):
    class Torn(Called):
        def __call__(self, positions):
            return [jpeg[: 20 if position == 7 else None] for position, jpeg in zip(positions, super().__call__(positions), strict=True)]

    with pytest.raises(ValueError, match=r"^the training image image-7 cannot be seen: 20 bytes are not a picture that can be decoded"):
        run(tmp_path / "a", CONTRAST, read=Torn())


def unsummed(folder, found):
    """A copy of a checkpoint from before there were sums, so that nothing but its content tells of damage."""
    shutil.copytree(found, folder)
    (folder / "SHA256SUMS").unlink()
    torch.save({name: part for name, part in state_of(folder).items() if name != "SHA256SUMS"}, folder / "state.pt")
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda _: torch.ones(3),
        lambda _: [1, 2],
        lambda state: {name: part for name, part in state.items() if name != "optimiser"},
        lambda state: state | {"optimiser": {}},
        lambda state: state | {"optimiser": [1]},
        lambda state: state | {"optimiser": {**state["optimiser"], "param_groups": []}},
        lambda state: state | {"progress": {"epochs": 3}},
        lambda state: state | {"progress": 3},
        lambda state: state | {"look": {}},
        lambda state: state | {"weights": dict(list(state["weights"].items())[1:])},
        lambda state: state | {"weights": {name: weight.clone() / 0 for name, weight in state["weights"].items()}},
    ],
)
def test_a_state_that_is_another_file_of_torch_or_lacks_a_part_is_damaged(tmp_path, undisturbed, change):
    torn = unsummed(tmp_path / "torn", undisturbed[2] / "step-3")
    torch.save(change(state_of(torn)), torn / "state.pt")
    with pytest.raises(weights.DamagedError, match=r"^the file state\.pt of a checkpoint "):
        run(tmp_path / "a", CONTRAST, resume=torn, look=StopAt(99))


def test_weights_of_a_checkpoint_that_are_no_numbers_are_damaged(tmp_path, undisturbed):
    torn = unsummed(tmp_path / "torn", undisturbed[2] / "step-3")
    spoilt = simclr.load(str(torn / "model.safetensors"), SHAPE)
    next(spoilt.parameters()).data.view(-1)[0] = torch.nan
    simclr.save(spoilt, str(torn / "model.safetensors"))
    with pytest.raises(weights.DamagedError, match="with values that are no finite numbers"):
        run(tmp_path / "a", CONTRAST, resume=torn)


@pytest.mark.parametrize("content", [b"", b"no zip at all", None])
def test_a_state_that_is_damaged_is_one_sentence(tmp_path, undisturbed, content):
    torn = unsummed(tmp_path / "torn", undisturbed[2] / "step-3")
    state = torn / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(weights.DamagedError, match=r"^the file state\.pt of a checkpoint is damaged or missing, expected the state of"):
        run(tmp_path / "a", CONTRAST, resume=tmp_path / "torn")


def test_weights_of_a_checkpoint_that_are_cut_off_are_damaged_and_those_of_another_model_are_not(tmp_path, undisturbed):
    file = unsummed(tmp_path / "torn", undisturbed[2] / "step-3") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(weights.DamagedError, match=r"model\.safetensors cannot be read"):
        run(tmp_path / "a", CONTRAST, resume=tmp_path / "torn")
    other = CONTRAST.model_copy(update={"simclr": SHAPE.model_copy(update={"projection": 8})})
    with pytest.raises(ValueError, match="is of another model") as told:
        run(tmp_path / "b", other, resume=undisturbed[2] / "step-3")
    assert not isinstance(told.value, weights.DamagedError)


def test_energy_is_that_of_all_packages_also_when_a_counter_begins_anew(tmp_path):
    for name, microjoules in {"intel-rapl:0": 9_000_000, "intel-rapl:1": 0, "intel-rapl:0:0": 5}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("9999999\n")
    energy = devices.Energy(tmp_path)
    (tmp_path / "intel-rapl:0/energy_uj").write_text("1000000\n")
    (tmp_path / "intel-rapl:1/energy_uj").write_text("500000\n")
    assert energy.read() == pytest.approx(2.5)
    assert energy.read() == 0
    assert np.isnan(devices.Energy(tmp_path / "none").read())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"accumulate": 17}, "accumulate=17 parts of the 16 images that a worker has of a batch"),
        ({"architecture": "simclr", "accumulate": 2}, "accumulate=2: SimCLR contrasts a whole batch"),
        ({"architecture": "simclr", "batch": 1}, "batch=1 leaves SimCLR nothing to contrast"),
        ({"ema": 1.0}, "less than 1"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainConfig(**change)
