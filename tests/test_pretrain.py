import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import flow, loader, mae, objectives, optimiser, pictures, pretrain
from engine.models import MAEConfig, SimCLRConfig, TrainConfig

MAE = MAEConfig(size="tiny", side=32, token=8, decoder_width=32, decoder_depth=1, decoder_heads=2, norm_pix=True)
CONFIG = TrainConfig(mae=MAE, epochs=3, warmup_epochs=1, batch=4, base_lr=1e-2)


class Stripes:
    """Ten small pictures, each striped in its own direction."""

    def __call__(self, positions):
        y, x = np.mgrid[:40, :40]
        angles = [np.pi * position / 10 for position in positions]
        waves = [np.sin((np.cos(a) * x + np.sin(a) * y) / 3) for a in angles]
        return [pictures.encode(np.repeat((127 + 120 * wave)[..., None], 3, 2).astype(np.uint8), 95) for wave in waves]


class Recorder:
    def __init__(self, folder):
        self.folder, self.metrics, self.stops, self.of_steps = Path(folder), [], [], {}

    @property
    def losses(self):
        return [metrics["loss"] for metrics in self.metrics]

    def __call__(self, metrics, made):
        assert not self.of_steps.keys() & metrics["losses"].keys()
        self.of_steps |= metrics["losses"]
        if "loss" in metrics:
            self.metrics.append(metrics)
        if "stopped" in metrics:
            self.stops.append(metrics)
        if not made:
            return
        target = self.folder / f"step-{metrics['step']}"
        target.mkdir(exist_ok=True)  # a look that ends the training is told of at the step of the epoch before it
        for file in made.iterdir():
            (target / file.name).write_bytes(file.read_bytes())


def run(folder, config=CONFIG, resume=None, look=None, read=None):
    folder.mkdir()
    recorder = Recorder(folder)
    return pretrain.fit(read or Stripes(), 10, config, resume=resume, report=recorder, look=look), recorder


def test_the_loss_falls(tmp_path):
    longer = CONFIG.model_copy(update={"epochs": 12})
    _, recorder = run(tmp_path / "a", longer)
    assert recorder.losses[-1] < 0.9 * recorder.losses[0]


def test_the_same_seed_gives_the_same_curve_and_a_resumed_run_the_same_model(tmp_path):
    model, whole = run(tmp_path / "a")
    again, resumed = run(tmp_path / "b", resume=tmp_path / "a" / "step-3")
    assert resumed.losses == whole.losses[1:]
    assert resumed.of_steps | {step: whole.of_steps[step] for step in (1, 2, 3)} == whole.of_steps
    assert all(torch.equal(one, other) for one, other in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert run(tmp_path / "c", CONFIG.model_copy(update={"seed": 1}))[1].losses != whole.losses


def test_the_losses_of_steps_are_told_once_each_up_to_the_checkpoint_that_they_come_with(tmp_path):
    """Ten images in batches of four: the mean of an epoch counts its third step half."""
    often = CONFIG.model_copy(update={"checkpoint_steps": 2})
    (_, whole), (_, saved) = run(tmp_path / "a"), run(tmp_path / "b", often)
    assert list(whole.of_steps) == list(saved.of_steps) == list(range(1, 10))
    assert whole.of_steps == saved.of_steps
    for epoch, loss in enumerate(whole.losses):
        of_steps = [whole.of_steps[3 * epoch + step] for step in (1, 2, 3)]
        assert loss == pytest.approx(np.average(of_steps, weights=[4, 4, 2]), rel=1e-12)
    for step in (2, 4, 6, 8):
        _, rest = run(tmp_path / f"from-{step}", often, resume=tmp_path / f"b/step-{step}")
        assert list(rest.of_steps.items()) == list(whole.of_steps.items())[step:]


def test_the_checkpoint_is_the_model(tmp_path):
    model, _ = run(tmp_path / "a")
    saved = mae.load(str(tmp_path / "a" / "step-9" / "model.safetensors"), MAE)
    assert all(torch.equal(one, other) for one, other in zip(model.state_dict().values(), saved.state_dict().values(), strict=True))


def test_the_learning_rate_warms_up_and_falls_as_half_a_cosine():
    config = TrainConfig(mae=MAE, epochs=100, warmup_epochs=40, batch=16, base_lr=1.5e-4)
    peak = 1.5e-4 * 16 / 256  # METHODS: 9.4e-6
    assert optimiser.rate(config, 20) == pytest.approx(peak / 2)
    assert optimiser.rate(config, 40) == pytest.approx(peak)
    assert optimiser.rate(config, 70) == pytest.approx(peak / 2)
    assert optimiser.rate(config, 100) == pytest.approx(0)


def test_an_image_is_seen_the_same_whoever_shares_the_batch():
    see = objectives.objective(CONFIG).see

    def seen(workers):
        shares = [loader.Share(10, 4, CONFIG.seed, index, workers) for index in range(workers)]
        looks = [look for share in shares for batch in loader.load(Stripes(), see, share, 1) for look in batch]
        return {noise.tobytes(): view.tobytes() for view, noise in looks}

    alone, shared = seen(1), seen(2)
    assert len(alone) == 10
    assert alone == shared


def test_a_crop_stays_inside_and_covers_no_less_than_asked():
    rng = np.random.default_rng(0)
    inside = np.full((50, 70, 3), 200, np.uint8)
    for _ in range(50):
        view = objectives.augment(inside, CONFIG, rng)
        assert view.shape == (32, 32, 3)
        assert view.min() == view.max() == 200


def test_too_few_images_and_a_loss_that_is_not_a_number_end_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^3 training images do not fill a batch of 4: choose a larger budget"):
        pretrain.fit(Stripes(), 3, CONFIG, resume=None, report=Recorder(tmp_path))
    with pytest.raises(FloatingPointError, match=r"the loss is not a number in epoch .*may have diverged"):
        run(tmp_path / "a", CONFIG.model_copy(update={"base_lr": 1e30, "warmup_epochs": 0}))


def test_a_training_that_begins_from_broken_weights_is_told_of_these_and_not_of_its_rate(tmp_path):
    torch.manual_seed(0)
    whole = mae.MAE(CONFIG.mae)
    broken = {"infinite": float("inf"), "no number": float("nan"), "too large": 1e300, "wild": 1e30}
    for name, value in broken.items():
        path, state = str(tmp_path / f"{name}.pth"), {key: weight.double() for key, weight in whole.state_dict().items()}
        state["blocks.0.mlp.fc1.weight"] = torch.full_like(state["blocks.0.mlp.fc1.weight"], value)
        torch.save({"model": state}, path)
        config = CONFIG.model_copy(update={"checkpoint": path})
        if name == "wild":  # numbers all, so only a step shows it
            said = rf"^the loss is not a number in epoch 0, step 0, .* at the weights that it begins with, checkpoint={path}"
            with pytest.raises(FloatingPointError, match=said) as told:
                run(tmp_path / "a", config)
            assert "base_lr" not in str(told.value)
        else:
            with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.fc1\.weight with values that are no finite numbers"):
                objectives.model(config)


def on_ray(config, folder, killed, resume, report):
    """The loop on a worker; the second one is killed amid the second epoch, once, if one is to be."""
    marker = Path(folder) / "killed"

    def tell(metrics, made):
        if os.environ["RANK"] == "0":
            with (Path(folder) / "of_steps").open("a") as file:
                file.writelines(f"{step} {loss}\n" for step, loss in metrics["losses"].items())
        if "loss" in metrics and made:
            with (Path(folder) / "losses").open("a") as file:
                file.write(f"{metrics['epoch']:.0f} {metrics['loss']}\n")
        report(metrics, made)
        if killed and metrics["step"] == 5 and os.environ["RANK"] == "1" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    pretrain.fit(Stripes(), 10, config, resume=resume, report=tell, look=Enough())


class Enough:
    def __call__(self, epoch, model):
        return epoch >= 3

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.fixture(scope="module")
def ray():
    yield
    flow.shut_down()


@pytest.mark.parametrize(
    ("architecture", "killed"),
    [pytest.param("mae", False, marks=pytest.mark.slow), ("simclr", False), pytest.param("mae", True, marks=pytest.mark.slow)],
)
@pytest.mark.processes
def test_two_workers_of_ray_train_give_the_curve_of_one_process_and_stop_together(tmp_path, ray, architecture, killed):
    """The one that is killed takes its fellow down, and both go on from a checkpoint amid the epoch."""
    shape = SimCLRConfig(encoder="test_vit", side=32, projection=16)
    recipe = CONFIG.model_copy(update={"architecture": architecture, "simclr": shape, "epochs": 4, "checkpoint_steps": int(killed)})
    _, alone = run(tmp_path / "a", recipe, look=Enough())
    work = partial(on_ray, recipe.model_copy(update={"workers": 2}), str(tmp_path), killed)
    last = flow.train_on_ray(work, flow.Workers(2), str(tmp_path / "runs"), "two")
    told = [line.split() for line in (tmp_path / "losses").read_text().splitlines()]
    assert (tmp_path / "killed").exists() == killed
    assert len(alone.losses) == 3
    assert {int(epoch): float(loss) for epoch, loss in told} == pytest.approx(dict(enumerate(alone.losses)), rel=1e-3)
    of_steps = [line.split() for line in (tmp_path / "of_steps").read_text().splitlines()]
    assert {int(step): float(loss) for step, loss in of_steps} == pytest.approx(alone.of_steps, rel=1e-3)
    assert list(alone.of_steps) == list(range(1, 10))
    trained, shared = (objectives.load(str(folder / "model.safetensors"), recipe) for folder in (tmp_path / "a" / "step-9", last))
    for one, other in zip(trained.state_dict().values(), shared.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)
