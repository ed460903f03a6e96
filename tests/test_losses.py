import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from engine import losses
from engine.datasets import IGNORE
from engine.models import EvaluateConfig

SETTINGS = {name: EvaluateConfig(loss=name) for name in ("cross_entropy", "dice")}


def case(seed: int, maps: int, ignored: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(maps, 2), (3, 5, 4))
    labels[rng.random(labels.shape) < ignored] = IGNORE
    return torch.from_numpy(rng.normal(0, 2, (3, maps, 5, 4))), torch.from_numpy(labels)


def by_definition(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The Dice loss, pixel by pixel."""
    given = np.concatenate([-logits, logits], 1) if logits.shape[1] == 1 else logits.numpy()
    shares = np.exp(given) / np.exp(given).sum(1, keepdims=True)
    if logits.shape[1] == 1:
        shares = np.concatenate([1 - 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-logits))], 1)
    scores = []
    for kind in range(shares.shape[1]):
        hit = drawn = true = 0.0
        for n, r, c in np.ndindex(labels.shape):
            if labels[n, r, c] != IGNORE:
                hit += shares[n, kind, r, c] * (labels[n, r, c] == kind)
                drawn += shares[n, kind, r, c] ** 2
                true += labels[n, r, c] == kind
        scores.append((2 * hit + 1e-5) / (true + drawn + 1e-5))
    return float(1 - np.mean(scores))


@given(st.integers(0, 1000), st.sampled_from([1, 2, 4]))
def test_the_dice_loss_is_its_definition(seed: int, maps: int) -> None:
    logits, labels = case(seed, maps)
    assert losses.loss(logits, labels, SETTINGS["dice"]).item() == pytest.approx(by_definition(logits, labels), abs=1e-5)


def test_of_certain_maps_the_dice_loss_is_that_of_segmentation_models_pytorch() -> None:
    _, labels = case(0, 3, ignored=0)
    drawn = torch.roll(labels, 1, 2)  # every class is there, so smp counts all of them
    logits = 60.0 * F.one_hot(drawn, 3).permute(0, 3, 1, 2) - 30
    wanted = smp.losses.DiceLoss("multiclass")(logits, labels)
    assert losses.loss(logits, labels, SETTINGS["dice"]).item() == pytest.approx(wanted.item(), abs=1e-6)


@given(st.integers(0, 1000))
def test_the_cross_entropy_is_that_of_smp_and_torch_over_the_pixels_that_count(seed: int) -> None:
    logits, labels = case(seed, 1)
    wanted = smp.losses.SoftBCEWithLogitsLoss(ignore_index=None)(logits[:, 0][labels != IGNORE], (labels[labels != IGNORE] == 1).double())
    assert losses.loss(logits, labels, SETTINGS["cross_entropy"]).item() == pytest.approx(wanted.item(), rel=1e-5)
    logits, labels = case(seed, 4)
    wanted = F.cross_entropy(logits, labels, ignore_index=IGNORE)
    assert losses.loss(logits, labels, SETTINGS["cross_entropy"]).item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("maps", [1, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_an_ignored_pixel_moves_nothing(name: str, maps: int) -> None:
    logits, labels = case(1, maps)
    gradient = torch.autograd.grad(losses.loss(logits.requires_grad_(), labels, SETTINGS[name]), logits)[0]
    ignored = (labels == IGNORE)[:, None].expand_as(gradient)
    assert not gradient[ignored].any()
    assert gradient[~ignored].all()


@pytest.mark.parametrize("maps", [1, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_batch_in_which_nothing_counts_has_no_loss(name: str, maps: int) -> None:
    logits, labels = case(1, maps)
    assert losses.loss(logits, torch.full_like(labels, IGNORE), SETTINGS[name]).item() == 0
