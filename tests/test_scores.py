import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from torchmetrics.classification import BinaryJaccardIndex, MulticlassJaccardIndex

from engine import scores
from engine.scores import Marks

MASKS = arrays(np.bool_, (3, 6, 7))


@given(MASKS, MASKS)
def test_scores_of_an_image_are_those_of_sklearn(predicted: np.ndarray, truth: np.ndarray) -> None:
    counts = np.stack([scores.counted(one, other) for one, other in zip(predicted, truth, strict=True)])
    measured = scores.per_image(counts)
    references = {"iou": jaccard_score, "dice": f1_score, "precision": precision_score, "recall": recall_score}
    for position, (drawn, real) in enumerate(zip(predicted, truth, strict=True)):
        for name, reference in references.items():
            empty = not drawn.any() and not real.any()
            wanted = 1.0 if empty else reference(real.ravel(), drawn.ravel(), zero_division=0)
            assert measured[name][position] == pytest.approx(wanted), name


@given(MASKS, MASKS)
def test_dice_follows_from_iou(predicted: np.ndarray, truth: np.ndarray) -> None:
    measured = scores.per_image(np.stack([scores.counted(one, other) for one, other in zip(predicted, truth, strict=True)]))
    np.testing.assert_allclose(measured["dice"], 2 * measured["iou"] / (1 + measured["iou"]))


def test_the_mean_iou_is_that_of_torchmetrics_over_all_pixels_and_both_classes() -> None:
    rng = np.random.default_rng(0)
    predicted, truth = rng.random((5, 20, 30)) < 0.3, rng.random((5, 20, 30)) < 0.4
    counts = np.stack([scores.counted(one, other) for one, other in zip(predicted, truth, strict=True)])
    tensors = torch.from_numpy(predicted).long(), torch.from_numpy(truth).long()
    assert scores.mean_iou(counts.sum(0)) == pytest.approx(float(MulticlassJaccardIndex(2, average="macro")(*tensors)))
    assert scores.per_image(counts[:1])["iou"][0] == pytest.approx(float(BinaryJaccardIndex()(tensors[0][0], tensors[1][0])))


def test_nothing_found_where_nothing_is_scores_one_and_a_false_alarm_nothing() -> None:
    nothing, alarm = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    measured = scores.per_image(
        np.stack([scores.counted(nothing, nothing), scores.counted(alarm, nothing), scores.counted(nothing, alarm)])
    )
    assert {name: values.tolist() for name, values in measured.items()} == {
        name: [1, 0, 0] for name in ("iou", "dice", "precision", "recall")
    }


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    share = rng.beta(8, 3, 40_000)  # of 100 foreground pixels found, image by image
    everyone = np.stack([100 * share, 20 * (1 - share), 100 * (1 - share), 0 * share + 500], axis=1)
    real = float(scores.mean_iou(everyone.sum(0)))
    intervals = [scores.bootstrap(everyone[start : start + 50], seed=start) for start in range(0, 10_000, 50)]
    assert 0.88 < np.mean([low <= real <= high for low, high in intervals]) < 0.99


def marks(rng, quality):
    """Counts of a network that finds about `quality` of a hundred foreground pixels of every image."""
    found = np.clip(rng.normal(100 * quality, 8, 40), 0, 100).round().astype(int)
    return Marks(tuple(map(str, range(40))), np.stack([found, 10 + 0 * found, 100 - found, 500 + 0 * found], axis=1))


@given(st.integers(0, 1000))
def test_the_advantage_turns_its_sign_with_its_arguments(seed):
    rng = np.random.default_rng(seed)
    first, second = [marks(rng, 0.6), marks(rng, 0.7)], [marks(rng, 0.5), marks(rng, 0.8)]
    difference, low, high = scores.advantage(first, second)
    turned = scores.advantage(second, first)
    assert turned == pytest.approx((-difference, -high, -low))
    assert low <= difference <= high
    assert difference == pytest.approx(
        np.mean([scores.mean_iou(a.counts.sum(0)) - scores.mean_iou(b.counts.sum(0)) for a, b in zip(first, second, strict=True)])
    )


def test_a_network_has_no_advantage_over_itself_and_a_clear_one_over_a_worse():
    rng = np.random.default_rng(0)
    good, bad = marks(rng, 0.9), marks(rng, 0.5)
    assert scores.advantage([good], [good]) == (0, 0, 0)
    assert scores.advantage([good], [bad])[1] > 0.1


def test_different_test_images_have_no_difference():
    one = marks(np.random.default_rng(0), 0.5)
    with pytest.raises(ValueError, match="different test images"):
        scores.advantage([one], [Marks(one.names[::-1], one.counts)])
    with pytest.raises(ValueError, match="different test images"):
        scores.advantage([one, one], [one])
