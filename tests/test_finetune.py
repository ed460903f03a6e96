"""The recipe of fine-tuning, against a plain loop over torch's own parts."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from engine import datasets, finetune, segmenters
from engine.config import MAEConfig
from engine.datasets import Pair
from engine.models import EvaluateConfig

MAE = MAEConfig(size="tiny", side=96, token=16)
QUICK = EvaluateConfig(side=64, iterations=30, warmup=3, batch=4, lr=1e-3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Six pictures of 64x64 px: noise, brighter in a disc."""
    root, made = tmp_path_factory.mktemp("discs"), []
    for number in range(6):
        rng = np.random.default_rng(number)
        rows, columns = np.mgrid[:64, :64]
        mask = (rows - rng.integers(20, 44)) ** 2 + (columns - rng.integers(20, 44)) ** 2 < rng.integers(10, 18) ** 2
        paths = [root / f"{part}-{number}.png" for part in ("image", "mask")]
        cv2.imwrite(str(paths[0]), np.clip(rng.normal(110, 25, (64, 64, 3)) + 70 * mask[..., None], 0, 255).astype(np.uint8))
        cv2.imwrite(str(paths[1]), mask.astype(np.uint8) * 255)
        made.append(Pair(str(number), *paths))
    return made


def fitted(pairs: list[Pair], config: EvaluateConfig, seed: int = 0) -> tuple[segmenters.Segmenter, list[float]]:
    torch.manual_seed(seed)
    model = segmenters.segmenter(None, MAE, config)
    curve = finetune.train(model, pairs, config, seed, lambda step, metrics: None)
    return model, [loss for _, loss in curve]


def plainly(pairs: list[Pair], config: EvaluateConfig, optimiser: Any, loss: Any, rates: list[float]) -> tuple[Any, list[float]]:
    """The same by hand: torch's optimiser without fusing, MKL's products, one batch after the other."""
    torch.manual_seed(0)
    model = segmenters.segmenter(None, MAE, config).train()
    stepper, losses = optimiser(model), []
    for step, lr in enumerate(rates):
        places = finetune.turns(len(pairs), config.batch, 0, step)
        images, labels = (np.stack(some) for some in zip(*(datasets.load(pairs[place], config.side) for place in places), strict=True))
        seen = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        seen, truth = finetune.augmented(seen, torch.from_numpy(labels)[:, None].float(), np.random.default_rng((0, 0, step)))
        for group in stepper.param_groups:
            group["lr"] = lr
        made = loss(model(seen), truth)
        stepper.zero_grad()
        made.backward()
        stepper.step()
        losses.append(made.item())
    return model, losses


def decaying(model: torch.nn.Module) -> torch.optim.Optimizer:
    names = dict(model.named_parameters())
    rest = {name for name, one in names.items() if one.ndim == 1 or name.endswith(("pos_embed", "cls_token"))}
    groups = [([names[name] for name in names if name not in rest], 0.01), ([names[name] for name in names if name in rest], 0.0)]
    return torch.optim.AdamW([{"params": some, "weight_decay": decay} for some, decay in groups], lr=1.0, fused=False, foreach=False)


def test_the_default_recipe_is_adamw_on_binary_cross_entropy_over_a_line(pairs: list[Pair]) -> None:
    config = EvaluateConfig(side=64, iterations=10, warmup=2, batch=4, lr=1e-4)
    rates = [1e-10, 1e-4 * (1e-6 + 0.5 * (1 - 1e-6)), *(1e-4 * (1 - turn / 8) for turn in range(3))]
    _, losses = plainly(pairs, config, decaying, F.binary_cross_entropy_with_logits, rates)
    assert [finetune.rate(step, config, 10) for step in range(5)] == pytest.approx(rates, rel=1e-6)
    assert fitted(pairs, config)[1][:5] == pytest.approx(losses, rel=1e-4)
    assert losses[4] != pytest.approx(losses[0], rel=1e-2)


def test_the_recipe_of_arxiv_2410_18677_is_sgd_on_dice_over_a_polynomial(pairs: list[Pair]) -> None:
    told = {
        "architecture": "unet",
        "encoder": "resnet18",
        "loss": "dice",
        "optimiser": "sgd",
        "lr": 0.05,
        "weight_decay": 1e-4,
    }
    config = EvaluateConfig(side=64, epochs=2, warmup=0, batch=4, power=0.9, **told)

    def dice(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        shares, terms = logits.sigmoid(), []
        for share, true in ((1 - shares, 1 - truth), (shares, truth)):
            terms.append((2 * (share * true).sum() + 1e-5) / ((share**2).sum() + true.sum() + 1e-5))
        return 1 - sum(terms) / 2

    def sgd(model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-4, fused=False)

    wanted, losses = plainly(pairs, config, sgd, dice, [0.05 * (1 - step / 3) ** 0.9 for step in range(3)])  # 12 images in batches of 4
    model, found = fitted(pairs, config)
    assert found == pytest.approx(losses, rel=1e-3)
    for (name, one), other in zip(model.named_parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-2, msg=name)


def test_bfloat16_learns_what_float32_does(pairs: list[Pair]) -> None:
    exact, rounded = (fitted(pairs, QUICK.model_copy(update={"precision": name}))[1] for name in ("float32", "bfloat16"))
    assert exact[0] != rounded[0]
    assert rounded[0] == pytest.approx(exact[0], rel=0.02)
    assert np.mean(rounded[-5:]) == pytest.approx(np.mean(exact[-5:]), rel=0.35)
    assert np.mean(rounded[-5:]) < 0.6 * rounded[0]


def test_epochs_say_how_many_iterations_there_are() -> None:
    assert EvaluateConfig(epochs=150, batch=24, warmup=0).steps(448) == 2800
    assert EvaluateConfig(epochs=3, batch=4, warmup=0).steps(5) == 4  # the last batch begins the next pass
    assert EvaluateConfig(iterations=77, warmup=3).steps(5) == 77
    with pytest.raises(ValueError, match=r"evaluate\.warmup=9 leaves nothing of the 4 iterations that evaluate\.epochs=3 are"):
        EvaluateConfig(epochs=3, batch=4, warmup=9).steps(5)


def test_sgd_decays_every_weight() -> None:
    config = QUICK.model_copy(update={"optimiser": "sgd", "momentum": 0.7})
    model = segmenters.segmenter(None, MAE, config)
    (group,) = finetune.optimiser_of(model, config).param_groups
    assert len(group["params"]) == len(list(model.parameters()))
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.7, 0.01, False)


def test_norms_biases_and_embeddings_do_not_decay() -> None:
    model = segmenters.segmenter(None, MAE, QUICK)
    decaying, spared = (group["params"] for group in finetune.optimiser_of(model, QUICK).param_groups)
    embeddings = {id(model.encoder.model.pos_embed), id(model.encoder.model.cls_token)}
    assert embeddings < {id(weights) for weights in spared}
    assert all(weights.ndim > 1 for weights in decaying)
    assert all(weights.ndim == 1 or id(weights) in embeddings for weights in spared)
    assert len(decaying) + len(spared) == len(list(model.parameters()))


def test_the_learning_rate_climbs_to_its_peak_and_falls_to_nothing() -> None:
    config = EvaluateConfig(iterations=20, warmup=5, lr=2.0)
    rates = [finetune.rate(step, config, 20) for step in range(20)]
    assert rates[0] == pytest.approx(2e-6)
    assert rates[5] == 2.0
    assert rates[19] == pytest.approx(2.0 / 15)
    np.testing.assert_allclose(np.diff(rates[:6]), 0.4, rtol=1e-5)
    np.testing.assert_allclose(np.diff(rates[5:]), -2.0 / 15)


@given(count=st.integers(1, 9), batch=st.integers(1, 7), seed=st.integers(0, 5))
def test_every_image_is_seen_once_before_any_is_seen_again(count: int, batch: int, seed: int) -> None:
    seen = [position for step in range(3 * count) for position in finetune.turns(count, batch, seed, step)]
    for first in range(0, len(seen) - count + 1, count):
        assert sorted(seen[first : first + count]) == list(range(count))


def test_the_mask_goes_where_the_image_goes() -> None:
    masks = torch.zeros(16, 1, 64, 64)
    masks[:, :, 10:30, 34:60] = 1
    images, moved = finetune.augmented(masks.expand(-1, 3, -1, -1).clone(), masks, np.random.default_rng(0))
    assert ((images[:, :1] > 0.5) == moved.bool()).float().mean() > 0.99
    assert len({one.numpy().tobytes() for one in moved}) == 16
    assert moved.mean() > masks.mean()  # crops only ever zoom in
    again, _ = finetune.augmented(masks.expand(-1, 3, -1, -1).clone(), masks, np.random.default_rng(0))
    assert torch.equal(images, again)


def test_class_numbers_go_where_the_image_goes_and_none_is_made_between_two() -> None:
    labels = torch.zeros(8, 1, 64, 64)
    labels[:, :, 10:30], labels[:, :, 40:50] = 3, datasets.IGNORE
    _, moved = finetune.augmented(labels.expand(-1, 3, -1, -1) / 255, labels, np.random.default_rng(0))
    assert set(moved.unique().tolist()) == {0.0, 3.0, 255.0}
