"""Scores against their definitions, written out as plain loops, and against scikit-learn and scipy."""

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import Ridge

from engine import geometry, probes, transfer
from engine.settings import Distance, Scored

NUMBERS = st.floats(-10, 10, width=32).filter(lambda number: abs(number) > 1e-3)
quick = settings(deadline=None, max_examples=40)


def views(n: int, d: int, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(n, d))
    return queries, queries + noise * rng.normal(size=(n, d))


def classes(n: int, d: int, seed: int = 0, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of three classes, whose means differ in three numbers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    features = rng.normal(size=(n, d)) + 0.5
    features[:, :3] += apart * np.eye(3)[labels]
    return features, labels


def apart(a: np.ndarray, b: np.ndarray, distance: str) -> float:
    """The three distances as the authors write them."""
    if distance == "l2":
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)
    if distance == "correlation":
        return 1 - float(np.corrcoef(a, b)[0, 1])
    return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(a**2) * sum(b**2))


@pytest.mark.parametrize("distance", get_args(Distance))
@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("n", [2, 7, 8])
def test_robustness_is_the_triplet_loss_with_the_authors_one_negative(distance: Distance, margin: float, n: int) -> None:
    queries, keys = views(n, 5)
    # Their code: the keys in reverse, then shifted by two.
    reverse = [keys[i - 1] for i in range(n, 0, -1)]
    negatives = [reverse[-2], reverse[-1], *reverse[:-2]]
    expected = [
        max(0, apart(q, k, distance) - apart(q, other, distance) + margin) for q, k, other in zip(queries, keys, negatives, strict=True)
    ]
    assert transfer.robustness(queries, keys, margin, distance) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("distance", get_args(Distance))
def test_with_all_others_as_negatives_no_image_is_its_own(distance: Distance) -> None:
    queries, keys = views(7, 5)
    expected = [
        max(0, apart(queries[i], keys[i], distance) - apart(queries[i], keys[j], distance) + 0.3)
        for i in range(7)
        for j in range(7)
        if i != j
    ]
    assert transfer.robustness(queries, keys, 0.3, distance, "others") == pytest.approx(np.mean(expected))


def test_in_the_published_pairing_one_of_an_odd_number_of_images_is_its_own_negative() -> None:
    keys = np.eye(5)  # views that agree, and images that have nothing in common: every triplet but that one is far below the margin
    assert transfer.robustness(keys, keys, margin=0.5) == pytest.approx(0.5 / 5)
    assert transfer.robustness(np.eye(4), np.eye(4), margin=0.5) == transfer.robustness(keys, keys, 0.5, negatives="others") == 0


def test_maps_that_are_not_pooled_are_compared_place_by_place() -> None:
    rng = np.random.default_rng(1)
    queries, keys = rng.normal(size=(2, 6, 3, 4, 4))
    assert transfer.robustness(queries, keys) == transfer.robustness(queries.reshape(6, -1), keys.reshape(6, -1))
    assert transfer.robustness(queries, keys) != transfer.robustness(geometry.pooled(queries), geometry.pooled(keys))


def test_pooling_is_over_places_of_maps_and_over_tokens() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    tokens = maps.reshape(2, 3, 20).swapaxes(1, 2)
    np.testing.assert_allclose(geometry.pooled(maps)[1, 2], maps[1, 2].mean())
    np.testing.assert_allclose(geometry.pooled(tokens), geometry.pooled(maps))
    with pytest.raises(ValueError, match=r"shape \(2,\) cannot be pooled, expected \(n, d\), \(n, L, C\) or \(n, C, H, W\)"):
        geometry.pooled(np.zeros(2))


@quick
@given(arrays(np.float64, (6, 4), elements=NUMBERS), st.floats(0.01, 100), st.permutations(range(6)))
def test_cosine_knows_no_scale_and_all_others_no_order(rows: np.ndarray, scale: float, order: list[int]) -> None:
    keys = rows[:, ::-1] + 0.1
    keys = np.where(np.abs(keys).sum(1, keepdims=True) > 1e-6, keys, 1)
    for negatives in ("published", "others"):
        score = transfer.robustness(rows, keys, negatives=negatives)
        assert 0 <= score <= 2.5 + 1e-9
        assert transfer.robustness(rows * scale, keys, negatives=negatives) == pytest.approx(score)
    shuffled = transfer.robustness(rows[order], keys[order], negatives="others")
    assert shuffled == pytest.approx(transfer.robustness(rows, keys, negatives="others"))


def test_alignment_and_uniformity_of_known_points() -> None:
    axes = np.array([[1.0, 0], [0, 2], [-3, 0]])  # on the circle at 0, 90 and 180 degrees: squared distances 2, 4, 2
    assert geometry.uniformity(axes) == pytest.approx(math.log((2 * math.exp(-4) + math.exp(-8)) / 3))
    assert geometry.alignment(axes, axes[[1, 1, 0]]) == pytest.approx((2 + 0 + 4) / 3)


@pytest.mark.parametrize("d", [1, 3, 8])
def test_equal_singular_values_make_a_rank_of_their_number(d: int) -> None:
    orthogonal = np.linalg.qr(np.random.default_rng(d).normal(size=(20, d)))[0]
    assert geometry.rankme(7 * orthogonal) == pytest.approx(d)


def test_rankme_takes_the_features_and_effective_rank_their_covariance() -> None:
    features = np.random.default_rng(0).normal(size=(30, 5)) * [1, 2, 3, 4, 5] + 100
    for found, values in (
        (geometry.rankme(features), np.linalg.svd(features)[1]),
        (geometry.effective_rank(features), np.linalg.eigvalsh(np.cov(features.T))),
    ):
        shares = values / values.sum()
        assert found == pytest.approx(math.exp(-sum(share * math.log(share) for share in shares)))
    assert geometry.rankme(features) < 1.5 < geometry.effective_rank(features)
    assert geometry.effective_rank(np.full((5, 3), 0.1)) == 0  # a collapsed encoder


@pytest.mark.parametrize("d", [4, 30])
def test_lidar_is_the_entropy_of_the_discriminants_between_images(d: int) -> None:
    queries, keys = views(12, d, noise=0.3)
    means = [(q + k) / 2 for q, k in zip(queries, keys, strict=True)]
    centre = sum(means) / 12
    between = sum(np.outer(mean - centre, mean - centre) for mean in means) / 12
    within = sum(np.outer(v - mean, v - mean) for view in (queries, keys) for v, mean in zip(view, means, strict=True)) / 24
    values, vectors = np.linalg.eigh(within + geometry.WITHIN * np.eye(d))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    found = np.linalg.eigvalsh(root @ between @ root).clip(0)
    shares = found[found > 1e-9 * found.max()] / found.sum()
    assert geometry.lidar(queries, keys) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)


@pytest.mark.parametrize("shape", [(60, 4), (20, 30)])
def test_logme_is_the_greatest_evidence_that_scipy_finds(shape: tuple[int, int]) -> None:
    features, labels = classes(*shape, apart=2.0)
    n = len(features)
    best = []
    for label in range(3):
        y = (labels == label).astype(float)

        def lost(logs: np.ndarray, y: np.ndarray = y) -> float:
            alpha, beta = np.exp(logs)
            return -float(multivariate_normal.logpdf(y, cov=features @ features.T / alpha + np.eye(n) / beta))

        best.append(-min(minimize(lost, start, method="Nelder-Mead", tol=1e-10).fun for start in ([0, 0], [3, 3])) / n)
    assert probes.logme(features, labels) == pytest.approx(np.mean(best), abs=1e-6)


def test_leep_is_the_likelihood_of_the_empirical_predictor() -> None:
    rng = np.random.default_rng(0)
    theta, labels = rng.dirichlet(np.ones(4), 25), rng.integers(0, 3, 25)
    joint = {(y, z): sum(theta[i, z] for i in range(25) if labels[i] == y) / 25 for y in range(3) for z in range(4)}
    given = {(y, z): joint[y, z] / sum(joint[other, z] for other in range(3)) for y, z in joint}
    logs = [math.log(sum(given[labels[i], z] * theta[i, z] for z in range(4))) for i in range(25)]
    assert probes.leep(theta, labels) == pytest.approx(np.mean(logs))


def test_the_h_score_is_the_trace_of_the_covariances() -> None:
    features, labels = classes(90, 6)
    means = np.stack([features[labels == label].mean(0) for label in labels])
    between = np.cov(means.T, ddof=0)
    expected = np.trace(np.linalg.inv(np.cov(features.T, ddof=0)) @ between)
    assert probes.h_score(features, labels) == pytest.approx(expected)
    shrunk, share = ledoit_wolf(features)
    assert probes.shrinkage(features) == pytest.approx(share)
    assert probes.shrunken_h_score(features, labels) == pytest.approx((1 - share) * np.trace(np.linalg.inv(shrunk) @ between))


def test_only_the_shrunken_h_score_tells_fewer_samples_than_features_apart() -> None:
    (features, labels), (noise, _) = classes(30, 60, apart=5.0), classes(30, 60, apart=0.0)
    for rows in (features, noise, features[:, :29]):  # 30 samples less their mean: 29 numbers of each suffice to name any group of them
        means = np.stack([rows[labels == label].mean(0) for label in labels])
        assert np.trace(np.linalg.pinv(np.cov(rows.T)) @ np.cov(means.T)) == pytest.approx(2)  # whatever the labels
        with pytest.raises(geometry.UnscorableError, match=r"30 samples differ in all 29 directions .* H-score is 2 whatever the labels"):
            probes.h_score(rows, labels)
    assert probes.h_score(features[:, :28], labels) < 2 - 1e-3
    assert probes.shrunken_h_score(features, labels) > 2 * probes.shrunken_h_score(noise, labels)


def test_the_probe_judges_every_image_by_a_ridge_fitted_without_it() -> None:
    features, labels = classes(30, 5)
    images = np.arange(30) // 3
    rows = (features - features.mean(0)) / features.std(0)
    truth = np.eye(3)[labels]
    errors, rights = [], []
    for ridge in probes.RIDGES:
        voted = np.zeros((30, 3))
        for image in range(10):
            kept = images != image
            voted[~kept] = Ridge(alpha=30 * ridge).fit(rows[kept], truth[kept]).predict(rows[~kept])
        errors.append(((truth - voted) ** 2).sum())
        rights.append(np.mean([(voted.argmax(1) == labels)[labels == label].mean() for label in range(3)]))
    assert len(set(rights)) > 1
    assert probes.linear_probe(features, labels, images) == pytest.approx(rights[int(np.argmin(errors))])


def test_neighbours_vote_by_weight_and_never_from_the_same_image() -> None:
    features, labels = classes(45, 5)
    images = np.arange(45) // 3
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    right: dict[int, list[bool]] = {0: [], 1: [], 2: []}
    for i in range(45):
        others = sorted((j for j in range(45) if images[j] != images[i]), key=lambda j: -float(rows[i] @ rows[j]))
        votes = [sum(math.exp(float(rows[i] @ rows[j]) / 0.07) for j in others[:20] if labels[j] == label) for label in range(3)]
        right[labels[i]].append(votes.index(max(votes)) == labels[i])
    assert probes.knn(features, labels, images) == pytest.approx(np.mean([np.mean(found) for found in right.values()]))


def test_what_repeats_within_an_image_earns_no_score() -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(20), 4)
    features = rng.normal(size=(20, 30))[images] + 0.01 * rng.normal(size=(80, 30))  # says which image it is, nothing of the class
    labels = rng.integers(0, 2, 20)[images]
    for score in (probes.linear_probe, probes.knn):
        assert score(features, labels) > 0.95
        assert score(features, labels, images) < 0.75


@pytest.mark.parametrize("name", ["linear_probe", "knn", "logme", "shrunken_h_score"])
def test_what_tells_classes_apart_scores_higher(name: str) -> None:
    images = np.arange(90)
    scores = []
    for distance in (0.0, 1.0, 4.0):
        features, labels = classes(90, 10, apart=distance)
        scores.append(transfer.scored(name, {"features": features, "labels": labels, "images": images}))
    assert scores == sorted(scores)
    assert scores[2] > scores[0]
    assert not transfer.SCORES[name].lower


def test_views_that_differ_more_are_less_robust_and_less_aligned() -> None:
    for name in ("robustness", "alignment"):
        found = [transfer.scored(name, dict(zip(("queries", "keys"), views(20, 8, noise=noise), strict=True))) for noise in (0.1, 1.0)]
        assert found[0] < found[1]
        assert transfer.SCORES[name].lower


def test_a_feature_that_never_changes_is_no_feature() -> None:
    features, labels = classes(30, 5)
    with_constant = np.column_stack([features, np.full(30, 0.1)])
    assert probes.linear_probe(with_constant, labels) == probes.linear_probe(features, labels)
    assert probes.h_score(with_constant, labels) == pytest.approx(probes.h_score(features, labels))


def test_the_loss_is_a_score_that_is_given() -> None:
    assert transfer.scored("loss", {"loss": 0.25}) == 0.25
    assert transfer.SCORES["loss"].lower


def test_every_score_that_an_encoder_and_masks_suffice_for_can_be_configured() -> None:
    assert set(get_args(Scored)) == {name for name, score in transfer.SCORES.items() if not {"probabilities", "loss"} & set(score.needs)}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: transfer.robustness(np.ones((1, 3)), np.ones((1, 3))), r"shape \(1, 3\) leave nothing to compare, expected two samples"),
        (lambda: transfer.robustness(np.eye(3), np.eye(4)), r"shapes \(3, 3\), \(4, 4\), expected the same"),
        (lambda: geometry.lidar(np.eye(3), np.eye(5)[:, :3]), r"shapes \(3, 3\), \(5, 3\), expected the same"),
        (lambda: transfer.robustness(np.eye(3), np.diag([1, np.nan, 1])), r"1 of 3 samples are not finite, the first is sample 1"),
        (lambda: transfer.robustness(np.eye(3), np.diag([1.0, 1, 0])), r"sample 2 are all zero or all the same"),
        (lambda: transfer.robustness(np.eye(3), np.full((3, 3), 0.1), distance="correlation"), r"sample 0 are all zero or all the same"),
        (lambda: transfer.robustness(np.eye(3), np.eye(3), distance="cosin"), r"distance='cosin' is unknown, expected one of cosine, l2"),
        (lambda: transfer.robustness(np.eye(3), np.eye(3), negatives="other"), r"negatives='other' is unknown, expected one of published"),
        (lambda: transfer.robustness(np.eye(3), np.eye(3), margin=math.nan), r"margin=nan is no distance, expected a number from 0"),
        (lambda: transfer.robustness(np.eye(3), np.eye(3), margin=-0.5), r"margin=-0\.5 is no distance"),
        (lambda: probes.logme(np.eye(3), np.zeros(3)), r"name 1 classes of 3 samples, expected two at least"),
        (lambda: probes.knn(np.eye(3), np.arange(3), np.zeros(3)), r"3 samples come from one image"),
        (lambda: probes.leep(np.eye(3) * 2, np.arange(3)), r"sum to 1 for every sample"),
        (lambda: transfer.scored("acuity", {}), r"there is no score 'acuity', expected one of robustness, alignment"),
        (lambda: transfer.scored("knn", {"features": np.eye(3)}), r"the score knn needs labels, images, and was given features"),
    ],
)
def test_what_cannot_be_scored_is_a_sentence(call: Callable[[], float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_score_of_features_that_tell_nothing_is_missing_in_a_sentence_about_features() -> None:
    same = np.ones((4, 3))
    for views_, sentence in (
        ((same, same), r"the features of all 8 views are the same, so no direction tells one image from another"),
        (tuple(1e12 * one for one in views(9, 30)), r"features as large as .*e\+12 have no covariance within images"),
    ):
        with pytest.raises(geometry.UnscorableError, match=sentence):
            geometry.lidar(*views_)
    with pytest.raises(geometry.UnscorableError, match=r"the score loss of these features is nan, which is no number to compare"):
        transfer.scored("loss", {"loss": math.nan})
