"""What a selection is judged by equals its definition, closed forms, and the libraries of others."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from engine import judge
from engine.judge import Case, Moments
from engine.pool import Held, Pool


def some(count, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width))


def of(vectors, unit=True):
    """The moments of vectors that come in blocks of seven."""
    blocks = (vectors[start : start + 7].astype(np.float32) for start in range(0, len(vectors), 7))
    return judge.moments(map(judge.directions, blocks) if unit else blocks)


def test_coverage_counts_the_groups_that_have_a_chosen_row():
    groups = np.array([3, 3, 7, 9, 9, 9])
    assert judge.coverage(groups, np.array([0, 1])) == 1 / 3
    assert judge.coverage(groups, np.array([1, 5])) == 2 / 3
    assert judge.coverage(groups, np.arange(6)) == 1
    assert judge.coverage(groups, np.array([], int)) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-25_000, 90_000)), min_size=1, max_size=40))
def test_a_window_is_ten_seconds_of_one_video(moments):
    videos, times = (np.array(column) for column in zip(*moments, strict=True))
    found = judge.windows(videos, times.astype(float))
    for (one, number), (other, same) in itertools.combinations(zip(moments, found, strict=True), 2):
        assert (number == same) == (one[0] == other[0] and one[1] // 10_000 == other[1] // 10_000)


@pytest.mark.parametrize("count", [2, 3, 20, 57])
def test_the_mean_distance_is_that_of_all_pairs(count):
    vectors = some(count)
    above = np.triu_indices(count, 1)
    assert judge.distance(of(vectors)) == pytest.approx(np.mean(1 - cosine_similarity(vectors)[above]), abs=1e-6)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_vendi_score_is_the_entropy_of_the_kernels_eigenvalues(count):
    vectors = some(count)
    shares = scipy.linalg.eigvalsh(cosine_similarity(vectors) / count)
    shares = shares[shares > 1e-12]
    assert judge.vendi(of(vectors)) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-5)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_as_many_are_different_as_are_orthogonal_and_equal_ones_count_once(count):
    assert judge.vendi(of(np.repeat(some(1), count, axis=0))) == pytest.approx(1, abs=1e-5)
    assert judge.vendi(of(3 * np.eye(count))) == pytest.approx(count, rel=1e-5)
    assert judge.vendi(of(np.repeat(np.eye(count), 3, axis=0))) == pytest.approx(count, rel=1e-5)


def test_the_fid_of_two_gaussians_is_what_their_moments_say():
    rng, width = np.random.default_rng(3), 4
    spreads = [one @ one.T + np.eye(width) for one in rng.normal(size=(2, width, width))]
    means = rng.normal(size=(2, width))
    exact = [Moments(1001, 1001 * mean, 1000 * spread + 1001 * np.outer(mean, mean)) for mean, spread in zip(means, spreads, strict=True)]
    root = np.real(scipy.linalg.sqrtm(spreads[0] @ spreads[1]))
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(spreads[0] + spreads[1] - 2 * root)
    assert judge.fid(*exact) == pytest.approx(expected, rel=1e-9)
    assert judge.fid(exact[0], exact[0]) == pytest.approx(0, abs=1e-8)


def test_the_fid_of_independent_axes_is_the_sum_of_theirs():
    def axes(means, deviations):
        return Moments(11, 11 * np.array(means), 10 * np.diag(deviations) ** 2 + 11 * np.outer(means, means))

    found = judge.fid(axes([0.0, 1.0], [1.0, 2.0]), axes([3.0, 1.0], [4.0, 2.5]))
    assert found == pytest.approx(9 + 0 + (1 - 4) ** 2 + (2 - 2.5) ** 2)


def test_the_fid_of_samples_is_heusels_formula_on_their_covariances():
    real, made = some(200, seed=1), 1.3 * some(90, seed=2) + 0.4
    first, second = np.cov(real.T), np.cov(made.T)
    root = np.real(scipy.linalg.sqrtm(first @ second))
    expected = np.sum((real.mean(0) - made.mean(0)) ** 2) + np.trace(first + second - 2 * root)
    assert judge.fid(of(real, unit=False), of(made, unit=False)) == pytest.approx(expected, rel=1e-5)


def test_fewer_images_than_the_features_are_wide_still_have_a_distance():
    real, made = of(some(50, 20), unit=False), of(some(5, 20, 1), unit=False)
    assert np.isfinite(judge.fid(real, made))
    assert judge.fid(real, made) == pytest.approx(judge.fid(made, real), rel=1e-6)


def test_an_artefact_is_what_exceeds_any_limit():
    shares = {"black": np.array([0.005, 0.006, 0, 0]), "glare": np.array([0.01, 0, 0.02, 0]), "foreign": np.array([0.02, 0, 0.5, 0])}
    assert judge.artefacts(shares) == 0.5


def twice(vectors, labels, chosen):
    """By the definition: every pair of choices."""
    alike = cosine_similarity(vectors) > judge.ALIKE
    return np.mean([any(alike[row, other] and labels[row] == labels[other] for other in chosen[:rank]) for rank, row in enumerate(chosen)])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 4))
def test_duplicates_are_those_whose_earlier_neighbour_is_alike(seed, count, clusters):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(max(1, count // 3), 5))[rng.integers(0, max(1, count // 3), 60)] + 0.05 * rng.normal(size=(60, 5))
    labels, chosen = rng.integers(0, clusters, 60), rng.permutation(60)[:count]
    assert judge.duplicates(Held(vectors), labels, chosen) == pytest.approx(twice(vectors, labels, chosen))


def test_tiles_change_nothing(monkeypatch):
    unit = judge.directions(some(50, 2).astype(np.float32))
    expected = judge.twins(unit)
    assert 0 < expected < 50
    for tile in (1, 7, 50):
        monkeypatch.setattr(judge, "TILE", tile)
        assert judge.twins(unit) == expected


def colours_of(pixels):
    """Of pictures (n, pixels, 3) what judge.information wants to know."""
    return np.column_stack([pixels.mean(axis=1), (pixels**2).mean(axis=(1, 2))])


def test_the_estimate_is_the_log_likelihood_gained_over_the_best_prediction_that_sees_no_picture():
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(30, 16, 3)) + 2 * rng.normal(size=(30, 1, 3)) + np.array([1.0, -2.0, 0.5])
    rebuilt = 0.7 * pixels

    def loss(guess):
        return -np.mean(scipy.stats.norm.logpdf(pixels, guess, judge.SPREAD**0.5))

    best = scipy.optimize.minimize(loss, np.zeros(3)).fun  # one colour for all pictures
    seen = loss(pixels.mean(axis=1, keepdims=True))  # each picture's own colour, for which it has to be seen
    found = judge.information(colours_of(pixels), ((pixels - rebuilt) ** 2).mean(axis=(1, 2)))
    assert found == pytest.approx(best - loss(rebuilt), abs=1e-6)
    assert found > seen - loss(rebuilt) + 1


def test_flat_pictures_of_different_colours_hold_as_much_as_their_colours_differ():
    colours = np.random.default_rng(1).normal(size=(200, 3))
    flat = np.repeat(colours[:, None], 16, axis=1)
    assert judge.information(colours_of(flat), np.zeros(200)) == pytest.approx(colours.var(axis=0).mean() / 2)
    assert judge.information(colours_of(flat[:1]), np.zeros(1)) == pytest.approx(0)
    assert judge.information(colours_of(flat), np.full(200, 9.0)) < 0  # a scorer that knows less than one colour does; nothing is clipped


@pytest.mark.parametrize("drawn", [5, 40])
def test_the_estimate_of_a_beginning_is_that_of_the_patches_drawn_of_it_by_key(monkeypatch, drawn):
    monkeypatch.setattr(judge, "DRAWN", drawn)
    whole, chosen, colours = pool(), np.arange(39, -1, -2), np.random.default_rng(0).normal(size=(40, 4))
    keys, difficulty = whole.keys(), whole.numbers("difficulty")
    values = judge.judge(Case(whole, chosen, colours=colours.__getitem__)).values
    for share in judge.SHARES:
        rows = sorted(chosen[: max(1, round(share * 20))], key=lambda row: keys[row])[:drawn]
        assert values[f"estimated_information_{100 * share:g}"] == pytest.approx(judge.information(colours[rows], difficulty[rows]))


def test_what_no_method_would_choose_with_less_is_left_out():
    found = judge.judge(Case(pool(), np.arange(9), colours=np.zeros((40, 4)).__getitem__, nested=False))
    assert {name for name in found.values if "information" in name} == {"estimated_information_100"}
    assert found.reasons["estimated_information_5"].startswith("a smaller set by this method is no beginning of this one")
    assert judge.judge(Case(pool(), np.arange(9))).reasons["estimated_information_100"] == "the pixels of the patches were not looked at"
    other = judge.judge(Case(pool(), np.arange(9), colours=np.zeros((40, 4)).__getitem__, rebuilds=False))
    assert other.reasons["estimated_information_100"] == "difficulty is no rebuild error in the units of pixels"


def pool(count=40, **columns):
    rng = np.random.default_rng(0)
    told = {
        "patch_id": [f"p{row}" for row in range(count)],
        "video_id": [f"v{row % 4}" for row in range(count)],
        "time_ms": 1000 * np.arange(count),
        "difficulty": rng.random(count),
    }
    seen = {name: rng.random(count) for name in ("black", "glare", "foreign")}
    return Pool(pa.table(told | seen | columns), Held(some(count)))


MORE = {
    "synthetic": Held(some(30, seed=9)),
    "real": Held(some(40, seed=8)),
    "compared": "30 against 40",
    "colours": np.random.default_rng(7).random((40, 4)).__getitem__,
}


def test_everything_is_measured_where_everything_is_there():
    found = judge.judge(Case(pool(), np.arange(0, 40, 3), np.arange(40) % 5, **MORE))
    assert set(found.values) == set(judge.MEASURES)
    assert not found.reasons
    assert all(np.isfinite(value) for value in found.values.values())
    assert found.notes == {judge.FID: "30 against 40"}
    assert found.values[judge.FID] == pytest.approx(judge.fid(of(some(40, seed=8), unit=False), of(some(30, seed=9), unit=False)), rel=1e-5)
    assert found.values["videos"] == 1
    assert found.values["time"] == len({(row % 4, row // 10) for row in range(0, 40, 3)}) / 16


@pytest.mark.parametrize("seed", range(3))
def test_nothing_depends_on_the_order_of_the_pools_rows(seed):
    whole, chosen, labels = pool(), np.arange(0, 40, 3), np.arange(40) % 5
    shuffle = np.random.default_rng(seed).permutation(40)
    places = np.argsort(shuffle)
    vectors = Held(whole.vectors.array[shuffle])
    back = {"colours": lambda rows: MORE["colours"](shuffle[rows])}
    moved = Case(Pool(whole.columns.take(shuffle), vectors), places[chosen], labels[shuffle], **MORE | back)
    one = judge.judge(Case(whole, chosen, labels, **MORE)).values
    assert judge.judge(moved).values == pytest.approx(one, rel=1e-6)


def test_what_cannot_be_had_has_a_reason_and_the_rest_is_measured():
    bare = Pool(pool().columns.drop_columns(["difficulty", "glare"]))
    found = judge.judge(Case(bare, np.arange(7)))
    assert set(found.values) == {"videos", "time"}
    assert set(found.values) | set(found.reasons) == set(judge.MEASURES)
    assert found.reasons["vendi"] == "the patches have no embeddings, or some that cannot be compared"
    assert found.reasons["clusters"] == "no clusters were made of the patches"
    assert found.reasons["artefacts"] == "the patches have no column glare"
    nameless = judge.judge(Case(pool(difficulty=np.full(40, np.nan)), np.arange(7), **MORE | {"synthetic": None}))
    assert nameless.reasons["estimated_information_5"].startswith("40 of 40 patches have a difficulty that is not a finite number")
    assert nameless.reasons[judge.FID] == "the training images have no features"
    assert not nameless.notes


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_a_direction_is_a_reason(bad):
    vectors = some(40)
    vectors[3] = bad
    found = judge.judge(Case(Pool(pool().columns, Held(vectors)), np.arange(7), np.zeros(40, int)))
    assert found.reasons["vendi"] == found.reasons["duplicates"] == "1 embeddings or more are zero or not finite"
    assert judge.judge(Case(pool(), np.array([3]))).reasons["distance"] == "one patch has no distance to another"
