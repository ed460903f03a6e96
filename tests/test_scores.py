import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics import precision_recall_fscore_support
from torchmetrics.classification import BinaryJaccardIndex, MulticlassJaccardIndex
from torchmetrics.functional import segmentation
from torchmetrics.functional.segmentation.utils import mask_edges, surface_distance

from engine import scores
from engine.datasets import IGNORE
from engine.scores import Marks

CLASSES = 3
DRAWN = arrays(np.uint8, (2, 6, 7), elements=st.integers(0, CLASSES))
TRUTH = arrays(np.uint8, (2, 6, 7), elements=st.sampled_from([*range(CLASSES + 1), IGNORE]))
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def counts_of(drawn: np.ndarray, truth: np.ndarray, classes: int = CLASSES) -> np.ndarray:
    return np.stack([scores.counted(one, other, classes) for one, other in zip(drawn, truth, strict=True)])


@given(DRAWN, TRUTH)
def test_scores_of_an_image_are_those_of_sklearn_over_the_pixels_that_count(drawn: np.ndarray, truth: np.ndarray) -> None:
    measured = scores.per_image(counts_of(drawn, truth))
    for position, (one, real) in enumerate(zip(drawn, truth, strict=True)):
        inside = real != IGNORE
        flat = real[inside], one[inside]
        wanted = precision_recall_fscore_support(*flat, labels=range(1, CLASSES + 1), zero_division=0) if inside.any() else np.zeros((4, 3))
        empty = ~np.array([(flat[0] == number).any() or (flat[1] == number).any() for number in range(1, CLASSES + 1)])
        for name, expected in zip(("precision", "recall", "dice"), wanted[:3], strict=True):
            np.testing.assert_allclose(measured[name][position], np.where(empty, 1, expected), err_msg=name)


@given(DRAWN, TRUTH)
def test_dice_follows_from_iou(drawn: np.ndarray, truth: np.ndarray) -> None:
    measured = scores.per_image(counts_of(drawn, truth))
    np.testing.assert_allclose(measured["dice"], 2 * measured["iou"] / (1 + measured["iou"]))


@given(DRAWN, TRUTH)
def test_every_pixel_that_counts_is_counted_once_for_every_class(drawn: np.ndarray, truth: np.ndarray) -> None:
    counts = counts_of(drawn, truth)
    assert (counts.sum(2) == (truth != IGNORE).sum((1, 2))[:, None]).all()
    assert (counts >= 0).all()


def test_scores_of_many_pixels_are_those_of_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    drawn, truth = rng.integers(0, CLASSES + 1, (2, 5, 20, 30))
    counts, tensors = counts_of(drawn, truth), (torch.from_numpy(drawn), torch.from_numpy(truth))
    told = {"num_classes": CLASSES + 1, "include_background": False, "input_format": "index"}
    measured = scores.per_image(counts)
    np.testing.assert_allclose(measured["iou"], segmentation.mean_iou(*tensors, per_class=True, **told), rtol=1e-6)
    np.testing.assert_allclose(measured["dice"], segmentation.dice_score(*tensors, average="none", **told), rtol=1e-6)
    assert scores.mean_iou(counts.sum(0)) == pytest.approx(float(MulticlassJaccardIndex(CLASSES + 1, average="macro")(*tensors)))


def test_the_mean_iou_of_one_class_is_that_of_torchmetrics_over_background_and_foreground() -> None:
    rng = np.random.default_rng(0)
    drawn, truth = (rng.random((2, 5, 20, 30)) < 0.3).astype(np.uint8)
    truth[:, :4] = IGNORE
    counts = counts_of(drawn, truth, 1)
    tensors = torch.from_numpy(drawn).long(), torch.from_numpy(truth).long()
    wanted = MulticlassJaccardIndex(2, average="macro", ignore_index=IGNORE)(*tensors)
    assert scores.mean_iou(counts.sum(0)) == pytest.approx(float(wanted))
    binary = BinaryJaccardIndex(ignore_index=IGNORE)(tensors[0][0], tensors[1][0])
    assert scores.per_image(counts[:1])["iou"].item() == pytest.approx(float(binary))


def test_counts_of_runs_before_are_of_the_foreground_and_score_the_same() -> None:
    rng = np.random.default_rng(0)
    counts = counts_of(*(rng.random((2, 9, 20, 30)) < 0.3).astype(np.uint8), 1)
    np.testing.assert_array_equal(scores.by_class(counts[:, 1]), counts)
    assert scores.bootstrap(counts[:, 1], 3) == scores.bootstrap(counts, 3)
    assert Marks((), counts[:, 1]).recall == Marks((), counts).recall


def test_nothing_found_where_nothing_is_scores_one_and_a_false_alarm_nothing() -> None:
    nothing, alarm, ignored = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8), np.full((4, 4), IGNORE, np.uint8)
    pairs = [(nothing, nothing), (alarm, nothing), (nothing, alarm), (alarm, ignored)]
    counts = counts_of(*zip(*pairs, strict=True), 1)
    for name, values in scores.per_image(counts).items():
        assert values[:, 0].tolist() == [1, 0, 0, 1], name
    assert scores.missing(counts)[:, 0].tolist() == [False, True, True, False]
    assert [scores.outline_distances(*pair).item() for pair in pairs] == [0, np.sqrt(32), np.sqrt(32), 0]


def test_a_class_number_that_there_is_not_is_refused() -> None:
    one, two = np.ones((2, 2), np.uint8), np.full((2, 2), 2, np.uint8)
    for pair in ((one, two), (two, one), (two, two)):
        with pytest.raises(ValueError, match="class numbers up to 2, expected 1 at most"):
            scores.counted(*pair, 1)


# Outlines


def outline_by_definition(mask: np.ndarray) -> list[tuple[int, int]]:
    wide = np.pad(mask, 1)
    return [(r, c) for r, c in np.argwhere(mask) if not (wide[r, c + 1] and wide[r + 2, c + 1] and wide[r + 1, c] and wide[r + 1, c + 2])]


@given(st.data(), st.sampled_from([50.0, 95.0, 100.0]))
def test_the_distance_of_outlines_is_that_of_the_definition(data: st.DataObject, percentile: float) -> None:
    drawn = data.draw(MASKS)
    truth = data.draw(arrays(np.bool_, drawn.shape))
    one, other = outline_by_definition(drawn), outline_by_definition(truth)
    if not one or not other:
        return
    apart = np.array([[np.hypot(a[0] - b[0], a[1] - b[1]) for b in other] for a in one])
    wanted = max(np.percentile(apart.min(1), percentile), np.percentile(apart.min(0), percentile))
    found = scores.outline_distances(drawn.astype(np.uint8), truth.astype(np.uint8), percentile=percentile)
    assert found.item() == pytest.approx(wanted)


def test_distances_are_those_of_torchmetrics() -> None:
    rows, columns = np.mgrid[:50, :50]  # square: elsewhere torchmetrics 1.9 takes the height for the width, and equal masks lie 17 px apart
    blobs = [
        ((rows - r) ** 2 + (columns - c) ** 2 < s**2).astype(np.uint8) for r, c, s in ((18, 20, 9), (24, 28, 12), (3, 45, 7), (20, 20, 40))
    ]
    for drawn in blobs:
        for truth in blobs:
            tensors = [torch.from_numpy(one).bool() for one in (drawn, truth)]
            largest = segmentation.hausdorff_distance(*[one.long()[None] for one in tensors], num_classes=2, input_format="index")
            assert scores.outline_distances(drawn, truth, percentile=100).item() == pytest.approx(largest.item(), rel=1e-6)
            edges = [one.bool() for one in mask_edges(*tensors)[:2]]
            both = [np.percentile(surface_distance(*pair), 95) for pair in (edges, edges[::-1])]
            assert scores.outline_distances(drawn, truth).item() == pytest.approx(max(both), rel=1e-6)


def test_classes_have_their_own_distance_and_what_is_ignored_has_none() -> None:
    drawn, truth = np.zeros((2, 30, 40), np.uint8)
    drawn[5:10, 5:10], truth[5:10, 8:13] = 1, 1
    drawn[20:25, 20:25], truth[20:25, 20:25] = 2, 2
    drawn[0, 39], truth[0, 39] = 2, IGNORE
    assert scores.outline_distances(drawn, truth, 3).tolist() == [3, 0, 0]


# Chance


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    share = rng.beta(8, 3, 40_000)  # of 100 foreground pixels found, image by image
    everyone = np.stack([100 * share, 20 * (1 - share), 100 * (1 - share), 0 * share + 500], axis=1)
    real = float(scores.mean_iou(scores.by_class(everyone).sum(0)))
    parts = [everyone[start : start + 50] for start in range(0, 10_000, 50)]
    covered = [low <= real <= high for low, high in (scores.bootstrap(part, seed) for seed, part in enumerate(parts))]
    assert 0.88 < np.mean(covered) < 0.99
    means = [scores.intervals({"dice": part[:, :1]}, seed)["dice"] for seed, part in enumerate(parts)]
    assert 0.88 < np.mean([low <= everyone[:, 0].mean() <= high for low, high in means]) < 0.99


def marks(rng, quality):
    """Counts of a network that finds about `quality` of a hundred foreground pixels of every image."""
    found = np.clip(rng.normal(100 * quality, 8, 40), 0, 100).round().astype(int)
    return Marks(tuple(map(str, range(40))), np.stack([found, 10 + 0 * found, 100 - found, 500 + 0 * found], axis=1))


def miou(marks):
    return scores.mean_iou(scores.by_class(marks.counts).sum(0))


@given(st.integers(0, 1000))
def test_the_advantage_turns_its_sign_with_its_arguments(seed):
    rng = np.random.default_rng(seed)
    first, second = [marks(rng, 0.6), marks(rng, 0.7)], [marks(rng, 0.5), marks(rng, 0.8)]
    found, turned = scores.contrast(first, second), scores.contrast(second, first)
    assert turned[:4] == pytest.approx((-found.difference, -found.high, -found.low, found.p))
    assert found.low <= found.difference <= found.high
    assert found.difference == pytest.approx(np.mean([miou(a) - miou(b) for a, b in zip(first, second, strict=True)]))


def test_a_network_has_no_advantage_over_itself_and_a_clear_one_over_a_worse():
    rng = np.random.default_rng(0)
    good, bad = marks(rng, 0.9), marks(rng, 0.5)
    same, worse = scores.contrast([good], [good]), scores.contrast([good], [bad])
    assert (*same[:3], scores.certain(same)) == (0, 0, 0, 1)
    assert worse.low > 0.1
    assert scores.certain(worse) < 1e-6


def test_the_p_of_one_seed_is_the_share_of_redrawn_images_on_the_other_side_of_zero():
    rng = np.random.default_rng(0)
    first, second = marks(rng, 0.6), marks(rng, 0.58)
    drawn = scores.differences([first], [second], 1)[0]
    assert scores.certain(scores.contrast([first], [second])) == pytest.approx(2 * min(np.mean(drawn < 0), np.mean(drawn > 0)), abs=0.05)


def test_different_test_images_have_no_difference():
    one = marks(np.random.default_rng(0), 0.5)
    with pytest.raises(ValueError, match="different test images"):
        scores.contrast([one], [Marks(one.names[::-1], one.counts)])
    with pytest.raises(ValueError, match="different test images"):
        scores.contrast([one, one], [one])
