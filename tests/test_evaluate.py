from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine import datasets, evaluate, finetune, scores, segmenters
from engine.config import MAEConfig
from engine.datasets import Pair, Split
from engine.models import EvaluateConfig
from tests import miniatures

MAE = MAEConfig(size="tiny", side=96, token=16)
QUICK = EvaluateConfig(side=64, iterations=30, warmup=3, batch=4, lr=1e-3)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Twelve pictures of 80x72 px: a reddish disc on grey noise, and its mask; the last one has no disc."""
    root = tmp_path_factory.mktemp("shapes")
    for part in ("images", "masks"):
        (root / part).mkdir()
    for number in range(12):
        rng = np.random.default_rng(number)
        rows, columns = np.mgrid[:72, :80]
        mask = (rows - rng.integers(20, 52)) ** 2 + (columns - rng.integers(20, 60)) ** 2 < rng.integers(12, 20) ** 2
        mask &= number < 11
        image = rng.normal(110, 25, (72, 80, 3)) + mask[..., None] * np.array([-50, -30, 90])
        cv2.imwrite(str(root / "images" / f"{number}.png"), np.clip(image, 0, 255).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{number}.png"), mask.astype(np.uint8) * 255)
    return datasets.pairs(str(root), 0.34, seed=0)


def fitted(state: Mapping[str, torch.Tensor] | None, split: Split, config: EvaluateConfig, seed: int = 0) -> segmenters.Segmenter:
    torch.manual_seed(seed)
    model = segmenters.segmenter(state, MAE, config)
    finetune.train(model, split.train, config, seed, lambda step, metrics: None)
    return model


# Training


def test_thirty_iterations_of_dpt_beat_the_untrained_network(shapes: Split) -> None:
    trained = evaluate.evaluate(None, MAE, shapes, QUICK, seed=0)
    untrained = evaluate.evaluate(None, MAE, shapes, QUICK.model_copy(update={"iterations": 1, "warmup": 0, "lr": 1e-9}), seed=0)
    assert trained.miou > 0.7 > untrained.miou + 0.1
    assert trained.curve[-1][1] < 0.5 * trained.curve[0][1]
    assert trained.marks.names == untrained.marks.names
    told = scores.contrast([trained.marks], [untrained.marks])
    assert told.difference == pytest.approx(trained.miou - untrained.miou)
    assert told.low > 0


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(shapes: Split) -> None:
    config = QUICK.model_copy(update={"iterations": 4})
    state = torch.get_rng_state()
    first, again, other = (evaluate.evaluate(None, MAE, shapes, config, seed) for seed in (3, 3, 4))
    assert first.curve == again.curve != other.curve
    assert np.array_equal(first.marks.counts, again.marks.counts)
    assert all(np.array_equal(one.drawn, two.drawn) for one, two in zip(first.examples, again.examples, strict=True))
    assert torch.equal(state, torch.get_rng_state())  # the caller's own randomness goes on undisturbed


def test_a_unet_trains_on_a_cnn(shapes: Split) -> None:
    config = QUICK.model_copy(update={"architecture": "unet", "encoder": "resnet18"})
    assert evaluate.evaluate(None, MAE, shapes, config, seed=0).miou > 0.7


def test_a_result_tells_what_it_was_measured_on(shapes: Split) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    result = evaluate.evaluate(None, MAE, shapes, QUICK, seed=5, report=lambda step, metrics: told.append((step, metrics)))
    assert [step for step, _ in told] == [step for step, _ in result.curve] == list(range(1, 31))
    assert [metrics["loss"] for _, metrics in told] == [loss for _, loss in result.curve]
    assert result.marks.names == tuple(pair.name for pair in shapes.test)
    assert (result.marks.counts.sum(2) == 72 * 80).all()  # pixels of the stored mask, not of the network's input
    assert result.interval[0] <= result.miou <= result.interval[1]
    assert result.dice == pytest.approx(result.per_image["dice"].mean())
    assert result.seed == 5


def test_the_examples_are_the_best_and_the_worst_as_pictures(shapes: Split) -> None:
    every = Split(shapes.train, (*shapes.train, *shapes.test))
    result = evaluate.evaluate(None, MAE, every, QUICK.model_copy(update={"iterations": 10}), seed=0)
    ranked = sorted(result.per_image["iou"][:, 0])[::-1]
    assert [example.iou for example in result.examples] == [*ranked[:3], *ranked[-3:]]
    best = next(example for example in result.examples if example.truth.any())
    assert best.iou == pytest.approx((best.truth & best.drawn).sum() / (best.truth | best.drawn).sum())
    picture = cv2.imdecode(np.frombuffer(evaluate.overlay(best.image, best.truth, best.drawn), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (230, 256, 3)


def test_examples_of_several_classes_show_all_of_them_and_what_is_ignored(tmp_path: Path) -> None:
    path = str(miniatures.coco(tmp_path))
    every = tuple(datasets.listed(path, "coco"))
    split = Split(every, every, datasets.classes(path, "coco"))
    result = evaluate.evaluate(None, MAE, split, QUICK.model_copy(update={"side": 32, "iterations": 1, "warmup": 0}), seed=0)
    shown = {example.name: example.truth for example in result.examples}
    assert len(shown) == 6
    for pair in every:
        assert shown[pair.name].dtype == np.uint8
        assert np.array_equal(shown[pair.name], datasets.truth(pair))
    assert set(np.unique(shown["1"])) == {0, 1, 2, datasets.IGNORE}


def test_an_overlay_outlines_every_class_and_dims_what_is_ignored() -> None:
    image, truth, drawn = np.full((128, 128, 3), 150, np.uint8), np.zeros((128, 128), np.uint8), np.zeros((128, 128), np.uint8)
    truth[20:60, 20:60], truth[70:110, 20:60], truth[:, 100:], drawn[70:110, 60:90] = 1, 2, datasets.IGNORE, 2
    picture = cv2.imdecode(np.frombuffer(evaluate.overlay(image, truth, drawn), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    for row, column in ((40, 80), (40, 118), (140, 80), (218, 80)):  # edges of the first class and the second, at twice the size
        around = picture[row - 3 : row + 4, column - 3 : column + 4].reshape(-1, 3)
        assert (around[:, 2] - around[:, 0]).max() > 120, (row, column)  # blue
    yellow = picture[140:146, 130:170].reshape(-1, 3)
    assert (yellow[:, 0] - yellow[:, 2]).max() > 120
    assert abs(picture[:, 206:].mean() - 50) < 3 < 90 < picture[4:30, 4:190].mean()  # a third of the light


def test_a_loss_that_is_not_a_number_stops_with_a_sentence(shapes: Split) -> None:
    with pytest.raises(FloatingPointError, match=r"the loss is not a number at iteration \d+: lower evaluate.lr=1e\+30"):
        evaluate.evaluate(None, MAE, shapes, QUICK.model_copy(update={"lr": 1e30, "warmup": 0}), seed=0)


def test_a_frozen_encoder_keeps_every_bit_while_the_decoder_learns(shapes: Split) -> None:
    for config in (QUICK, QUICK.model_copy(update={"architecture": "unet", "encoder": "resnet18"})):
        short = config.model_copy(update={"iterations": 3, "warmup": 0, "frozen": True})
        torch.manual_seed(0)
        before = segmenters.segmenter(None, MAE, short)
        after = fitted(None, shapes, short)
        assert all(torch.equal(old, new) for old, new in zip(*states(before.encoder, after.encoder), strict=True))
        assert not all(torch.equal(old, new) for old, new in zip(*states(before.network.decoder, after.network.decoder), strict=True))


def test_an_encoder_that_is_not_frozen_learns(shapes: Split) -> None:
    config = QUICK.model_copy(update={"iterations": 3, "warmup": 0})
    torch.manual_seed(0)
    before, after = segmenters.segmenter(None, MAE, config), fitted(None, shapes, config)
    changed = [not torch.equal(old, new) for old, new in zip(*states(before.encoder, after.encoder), strict=True)]
    assert sum(changed) > 0.9 * len(changed)


def states(*modules: torch.nn.Module) -> list[list[torch.Tensor]]:
    return [list(module.state_dict().values()) for module in modules]


# The measure


def test_results_of_different_images_have_no_difference(shapes: Split) -> None:
    config = QUICK.model_copy(update={"iterations": 1, "warmup": 0})
    first = evaluate.evaluate(None, MAE, shapes, config, seed=0)
    other = evaluate.evaluate(None, MAE, Split(shapes.test, shapes.train), config, seed=0)
    with pytest.raises(ValueError, match="different test images"):
        scores.contrast([first.marks], [other.marks])


def test_pictures_of_different_sizes_are_measured_in_their_own(tmp_path: Path) -> None:
    pairs = []
    for name, shape in (("wide", (20, 90)), ("tall", (70, 30)), ("dot", (1, 1))):
        for part in ("image", "mask"):
            cv2.imwrite(str(tmp_path / f"{part}-{name}.png"), np.full((*shape, 3), 255 * (part == "mask"), np.uint8))
        pairs.append(Pair(name, tmp_path / f"image-{name}.png", tmp_path / f"mask-{name}.png"))
    result = evaluate.evaluate(
        None, MAE, Split(tuple(pairs), tuple(pairs)), QUICK.model_copy(update={"iterations": 1, "warmup": 0}), seed=0
    )
    assert result.marks.counts[:, 1].sum(1).tolist() == [1800, 2100, 1]


def test_a_result_has_every_class_and_leaves_out_what_is_ignored(shapes: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rims of discs are class 1, their cores class 2, and the upper ten rows of every picture do not count."""

    def numbered(mask: np.ndarray) -> np.ndarray:
        numbers = mask.astype(np.uint8)
        numbers += cv2.erode(numbers, np.ones((7, 7), np.uint8))
        numbers[: len(mask) * 10 // 72] = datasets.IGNORE
        return numbers

    stored, loaded = datasets.truth, datasets.load
    monkeypatch.setattr(datasets, "truth", lambda pair: numbered(stored(pair)))
    monkeypatch.setattr(datasets, "load", lambda pair, side: (loaded(pair, side)[0], numbered(loaded(pair, side)[1])))
    both = shapes._replace(classes=("rim", "core"))
    result = evaluate.evaluate(None, MAE, both, QUICK.model_copy(update={"iterations": 80}), seed=0)
    assert result.marks.counts.shape == (len(both.test), 3, 4)
    assert (result.marks.counts.sum(2) == 62 * 80).all()
    assert result.per_image["hd95"].shape == (len(both.test), 2)
    assert set(result.classes) == {"rim", "core"}
    for place, name in enumerate(both.classes):
        assert result.classes[name]["dice"] == pytest.approx(result.per_image["dice"][:, place].mean())
        assert result.classes[name]["iou_of_all"] > 0.3, result.classes  # a rim of three pixels is told from its core
    assert result.dice == pytest.approx(np.mean([one["dice"] for one in result.classes.values()]))
    for name, (low, high) in result.intervals.items():
        assert low <= getattr(result, name) <= high, name


def test_whatever_was_missed_whole_counts_with_the_diagonal_and_is_told(shapes: Split) -> None:
    config = QUICK.model_copy(update={"iterations": 1, "warmup": 0, "lr": 1e-9})
    result = evaluate.evaluate(None, MAE, shapes, config, seed=0)
    drawn = {example.name: bool(example.drawn.any()) for example in result.examples}
    there = {example.name: bool((example.truth == 1).any()) for example in result.examples}
    assert len(result.examples) == len(shapes.test) <= 6
    assert result.missing == sum(drawn[name] != there[name] for name in drawn)
    diagonal = np.hypot(72, 80)
    assert result.per_image["hd95"].max() <= diagonal
    assert (result.per_image["hd95"] == diagonal).sum() == result.missing


def test_what_is_ignored_is_dim_in_a_picture_and_every_class_is_outlined() -> None:
    truth = np.zeros((256, 256), np.uint8)
    truth[20:60, 20:60], truth[100:140, 100:140], truth[200:] = 1, 2, datasets.IGNORE
    white = np.full((256, 256, 3), 240, np.uint8)
    picture = cv2.imdecode(np.frombuffer(evaluate.overlay(white, truth, np.zeros_like(truth)), np.uint8), cv2.IMREAD_COLOR)
    assert abs(int(picture[230, 128].mean()) - 80) < 6
    assert abs(int(picture[180, 180].mean()) - 240) < 6
    for row, column in ((20, 40), (100, 120)):
        blue, _, red = picture[row, column].astype(int)
        assert blue - red > 100
