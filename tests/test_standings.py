"""What a matrix came to, against brute force, closed forms and other libraries."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine import boards, published, report, scores, standings, theory, verdicts
from engine.entries import Board, Entry, Failure
from engine.report import Findings
from engine.scores import Marks
from engine.standings import matrix_results
from tests.test_report import HOSTILE, Page
from tests.test_trails import places

IMAGES = 40


def marks(quality, seed=0, images=IMAGES):
    """What a network of about this IoU scores on images that the seed draws."""
    rng = np.random.default_rng(seed)
    area = rng.integers(200, 800, images)
    hit = (area * np.clip(quality + rng.normal(0, 0.1, images), 0, 1)).astype(int)
    return Marks(
        tuple(f"{seed}-{number}" for number in range(images)), scores.by_class(np.c_[hit, (area - hit) // 2, area - hit, 4096 - 2 * area])
    )


def entry(method="optidel", budget=0.1, seed=0, quality=0.5, **measures):
    mine = marks(quality, seed)
    retained = 0.0 if method == "no pre-training" else budget
    return Entry(method, budget, seed, retained, int(800 * budget), float(scores.mean_iou(mine.counts.sum(0))), mine, measures)


def board(entries, **changes):
    return replace(Board("kvasir", "mae", "200 trained, 100 tested", tuple(entries)), **changes)


QUALITY = {"random": 0.45, "optidel": 0.6, "optidel_s": 0.5}


def full_board(**changes):
    rows = [
        entry(name, budget, seed, quality + 0.1 * budget) for name, quality in QUALITY.items() for budget in (0.1, 0.5) for seed in range(3)
    ]
    rows += [entry("full data", 1.0, seed, 0.58) for seed in range(3)] + [entry("no pre-training", 0.0, seed, 0.3) for seed in range(3)]
    return board(rows, **changes)


def test_a_board_says_in_how_many_cells_test_images_were_seen_before_and_the_worst_of_them():
    assert not full_board().caution
    assert not board([]).caution
    rows = [entry(seed=0), replace(entry(seed=1), leaked=2), replace(entry("meddel", 0.25, seed=2), leaked=7)]
    told = board(rows).caution
    assert told.startswith("In 2 of 3 cells")
    assert "at most 7 of 40 (meddel at 25 %, seed 2)" in told
    assert told in report.render(Findings("t", "now", matrices=[matrix_results("small", [board(rows)])])).replace("&#39;", "'")
    assert board([replace(one, leaked=0, twins=3) for one in rows]).caution.startswith("Up to 3 test images of a seed")
    assert board([replace(one, twins=3) for one in rows]).caution.startswith(told + " Up to 3")


def iou(some):
    return scores.mean_iou(some.counts.sum(0))


def test_of_seeds_that_test_on_images_of_their_own_only_the_spread_between_seeds_counts():
    first, second = ([marks(quality, seed) for seed in range(3)] for quality in (0.6, 0.55))
    plain = [iou(a) - iou(b) for a, b in zip(first, second, strict=True)]
    found = scores.contrast(first, second)
    expected = stats.ttest_1samp(plain, 0)
    assert found.difference == pytest.approx(np.mean(plain))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=0.2)
    assert found.p == pytest.approx(expected.pvalue, rel=0.3)
    assert (found.ahead, found.seeds) == (3, 3)


def test_what_seeds_share_of_their_images_is_the_covariance_of_their_differences_and_each_variance_has_its_own_quantile():
    """Against draws of images one by one, and Cochran's and Cox's formula written out."""
    names = marks(0.5).names
    first, second = ([marks(quality, seed)._replace(names=names) for seed in range(3)] for quality in (0.6, 0.55))
    plain = [iou(a) - iou(b) for a, b in zip(first, second, strict=True)]
    rng, drawn = np.random.default_rng(1), []
    for _ in range(4000):
        images = rng.integers(IMAGES, size=IMAGES)
        drawn.append([iou(a._replace(counts=a.counts[images])) - iou(b._replace(counts=b.counts[images]))
                      for a, b in zip(first, second, strict=True)])  # fmt: skip
    pairs = np.cov(np.array(drawn).T)[np.triu_indices(3, 1)]
    found = scores.contrast(first, second)
    (between, freedom), (shared, many) = found.variances
    assert (between, freedom, many) == (pytest.approx(np.var(plain, ddof=1) / 3), 2, IMAGES - 1)
    assert shared == pytest.approx(max(pairs.mean(), 0), rel=0.3, abs=2e-6)
    for level in (0.05, found.p):
        weighed = (between * stats.t.isf(level / 2, 2) + shared * stats.t.isf(level / 2, IMAGES - 1)) / (between + shared)
        reach = weighed * (between + shared) ** 0.5
        assert reach == pytest.approx(found.high - found.difference if level == 0.05 else abs(found.difference))


def test_the_smallest_difference_is_the_one_that_is_told_four_times_in_five():
    rng = np.random.default_rng(0)
    for between, shared, level in ((1e-4, 0.0, 0.05), (1e-4, 3e-4, 0.05), (1e-4, 1e-4, 0.002)):
        told = scores.least(((between, 2), (shared, 56)), level)
        means = told + rng.normal(0, (between + shared) ** 0.5, 3000)
        seen = between * rng.chisquare(2, 3000) / 2
        found = [abs(mean) > scores.reaching(level, ((one, 2), (shared, 56))) for mean, one in zip(means, seen, strict=True)]
        assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_of_seeds_alone_the_smallest_difference_is_that_of_the_noncentral_t():
    told = scores.least(((1e-4, 2), (0.0, 56)), 0.01)
    assert stats.nct.sf(stats.t.isf(0.005, 2), 2, told / 0.01) == pytest.approx(0.8, abs=0.005)


def test_a_board_tells_what_it_could_not_have_told():
    rows = standings.standings(full_board())
    told = standings.least(rows)
    found = [one.contrast for row in rows for one in row.over.values()]
    assert (told.comparisons, told.seeds) == (len(found), 3)
    every = [scores.least(one.variances, 0.05 / len(found)) for one in found]
    assert min(every) < told.difference < max(every)
    sentence = f"a difference below {told.difference:.2f} could hardly have been told by 3 seeds and {len(found)} comparisons"
    assert sentence in " ".join(matrix_results("s", [full_board()]).said())
    assert sentence in page(matrix_results("s", [full_board()])).words()
    assert standings.least(standings.standings(board([entry()]))) is None


def test_what_could_have_been_told_is_that_of_the_comparisons_of_most_seeds():
    """Pairs of two seeds beside pairs of three: variances of other degrees of freedom are no mean with these."""
    three = [
        scores.contrast([marks(0.6, seed) for seed in range(3)], [marks(quality, seed) for seed in range(3)]) for quality in (0.5, 0.4)
    ]
    two = scores.contrast([marks(0.9, seed) for seed in range(2)], [marks(0.1 + 0.6 * seed, seed) for seed in range(2)])
    means = tuple((np.mean([one.variances[part][0] for one in three]), three[0].variances[part][1]) for part in (0, 1))
    for some in ([two, *three], [*three, two]):
        told = standings.least_of(some)
        assert (told.comparisons, told.seeds) == (3, 3)
        assert told.difference == pytest.approx(scores.least(means, 0.05 / 3))


def test_images_that_all_seeds_are_tested_on_are_drawn_for_all_at_once():
    """Three copies of one pair: no seed differs, and three looks at the same images are worth one."""
    one, other = marks(0.6), marks(0.55, 1)._replace(names=marks(0.6).names)
    alone, thrice = scores.contrast([one], [other]), scores.contrast([one] * 3, [other] * 3)
    assert thrice.high - thrice.difference == pytest.approx(alone.high - alone.difference)


def test_a_contrast_turned_round_is_its_own_mirror():
    first, second = ([marks(quality, seed) for seed in range(3)] for quality in (0.6, 0.55))
    one, other = scores.contrast(first, second), scores.contrast(second, first)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p == other.p


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("own_images", [True, False])
def test_two_methods_of_the_same_quality_are_told_apart_no_oftener_than_promised(spread, own_images):
    """Three seeds, each as good as chance has it by `spread`, on the same images or their own: p below 0.05 in a twentieth at most."""
    rng, found = np.random.default_rng(0), 0
    for trial in range(100):
        pair = [[], []]
        for seed in range(3):
            names = marks(0.5, 3 * trial + seed * own_images).names
            for some in pair:
                some.append(Marks(names, marks(0.5 + rng.normal(0, spread), int(rng.integers(2**31))).counts))
        found += scores.contrast(*pair, seed=trial).p < 0.05
    assert found <= 11  # of 100; of 5 expected at most, and 11 of a fair test in one of a hundred


def test_a_difference_far_beyond_the_spread_of_seeds_is_found():
    pair = [[marks(quality + 0.01 * seed, seed, 200) for seed in range(3)] for quality in (0.7, 0.5)]
    assert scores.contrast(*pair).p < 0.01


def test_one_seed_has_no_p_and_its_interval_is_over_images_alone():
    found = scores.contrast([marks(0.9)], [marks(0.2)])
    assert np.isnan(found.p)
    assert 0 < found.low < found.difference < found.high
    lonely = scores.contrast([marks(0.9, images=1)], [marks(0.2, images=1)])
    assert lonely.low == lonely.difference == lonely.high


def test_networks_on_other_images_are_not_compared():
    with pytest.raises(ValueError, match="different test images"):
        scores.contrast([marks(0.5, 0)], [marks(0.5, 1)])
    with pytest.raises(ValueError, match="different test images"):
        scores.contrast([], [])


@pytest.mark.parametrize("strange", [float("nan"), -0.1, 1.1])
def test_what_is_no_p_value_is_not_corrected(strange):
    with pytest.raises(ValueError, match=rf"1 of 3 p-values are no numbers from 0 to 1, the first is {strange}"):
        scores.holm([0.001, strange, 0.02])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_the_correction_is_that_of_holm(values):
    order = np.argsort(values, kind="stable")
    stepped = np.minimum(1, np.maximum.accumulate([(len(values) - rank) * values[place] for rank, place in enumerate(order)]))
    found = scores.holm(values)
    assert [found[place] for place in order] == pytest.approx(stepped)
    assert all(one >= p for one, p in zip(found, values, strict=True))
    assert min(found) == pytest.approx(min(1, len(values) * min(values)))


def test_a_standing_is_over_seeds_and_held_against_chance_at_its_budget_and_against_all_data():
    found = standings.standings(full_board())
    one = next(row for row in found if (row.method, row.budget) == ("optidel", 0.5))
    mious = [row.miou for row in full_board().entries if (row.method, row.budget) == ("optidel", 0.5)]
    low, high = stats.t.interval(0.95, 2, np.mean(mious), stats.sem(mious))
    assert one.miou == pytest.approx((np.mean(mious), low, high))
    assert one.normdel == pytest.approx(np.mean([theory.normdel(miou, 0.5) for miou in mious]))
    assert set(one.over) == {"random", "full data"}
    chance = [row for row in full_board().entries if (row.method, row.budget) == ("random", 0.5)]
    assert one.over["random"].contrast.difference == pytest.approx(np.mean(mious) - np.mean([row.miou for row in chance]))
    assert one.over["random"].beyond_chance
    assert [(row.method, row.budget) for row in found][:2] == [("no pre-training", 0), ("optidel", 0.1)]
    assert set(found[0].over) == {"full data"}


def test_all_comparisons_of_a_board_are_corrected_together():
    found = [one for row in standings.standings(full_board()) for one in row.over.values()]
    assert [one.corrected for one in found] == pytest.approx(scores.holm([one.contrast.p for one in found]))


def test_boards_of_pure_noise_have_a_winner_in_a_twentieth_at_most():
    """Five methods, three budgets and all data on three seeds that differ, none better: of 20 boards one at most."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(20):
        rows = []
        for name, budget in [(name, budget) for name in "abcd" for budget in (0.1, 0.25, 0.5)] + [("full data", 1.0)]:
            for seed in range(3):
                mine = Marks(marks(0.5, seed).names, marks(0.5 + rng.normal(0, 0.05), int(rng.integers(2**31))).counts)
                rows.append(Entry("random" if name == "a" else name, budget, seed, budget, 9, scores.pooled(mine), mine, {}))
        found += any(one.beyond_chance for row in standings.standings(board(rows)) for one in row.over.values())
    assert found <= 3


def test_one_seed_or_seeds_that_disagree_are_never_beyond_chance():
    one = board([entry("optidel", quality=0.9), entry("random", quality=0.2)])
    assert not standings.standings(one)[0].over["random"].beyond_chance
    assert standings.standings(one)[0].over["random"].told == "one seed"
    rows = [entry("random", seed=seed, quality=0.5) for seed in range(3)]
    rows += [entry("optidel", seed=seed, quality=0.9 if seed else 0.48) for seed in range(3)]
    best = standings.standings(board(rows))[0]
    assert best.over["random"].contrast.ahead == 2
    assert not best.over["random"].beyond_chance


def test_only_seeds_that_both_have_are_paired():
    rows = [entry("random", seed=seed) for seed in (0, 1)] + [entry("optidel", seed=seed) for seed in (1, 2)]
    assert {one.method: one for one in standings.standings(board(rows))}["optidel"].over["random"].contrast.seeds == 1
    rows = [entry("random", seed=0), entry("optidel", seed=2)]
    assert not {one.method: one for one in standings.standings(board(rows))}["optidel"].over


def test_a_measure_that_foretells_the_gain_has_rank_correlation_one():
    rows = [entry("random", budget, quality=0.3, fid_128=9.0) for budget in (0.1, 0.5)]
    rows += [entry(name, 0.1, quality=0.4 + 0.1 * number, fid_128=number, difficulty=-number) for number, name in enumerate("abcde")]
    found = {one.measure: one for one in standings.checks(matrix_results("s", [board(rows)]))}
    assert (found["fid_128"].rho, found["fid_128"].points) == (pytest.approx(1), 5)
    assert found["difficulty"].rho == pytest.approx(-1)
    assert found["fid_128"].low <= found["fid_128"].high == pytest.approx(1)
    assert set(found) == {"fid_128", "difficulty"}


def test_the_outcome_of_the_estimate_of_information_is_the_miou_over_the_mean_of_its_data_set():
    easy = board(
        [entry(name, 0.1, quality=0.8 + 0.05 * n, estimated_information_100=float(n)) for n, name in enumerate("abc")], dataset="easy"
    )
    hard = board(
        [entry(name, 0.1, quality=0.2 + 0.05 * n, estimated_information_100=float(n)) for n, name in enumerate("abc")], dataset="hard"
    )
    (found,) = standings.checks(matrix_results("s", [easy, hard]))
    points = [
        (float(n), one.miou - np.mean([row.miou for row in some.entries])) for some in (easy, hard) for n, one in enumerate(some.entries)
    ]
    assert found.rho == pytest.approx(stats.spearmanr(*np.array(points).T).statistic)
    assert found.points == 6


def test_the_page_says_that_pools_are_ranked_together_as_they_are():
    """Two pools of which the harder is the better, in each the harder choice the worse: what is told is mostly the pools."""
    rows = [entry("random", quality=0.1)]
    rows += [entry(f"{pool} {n}", quality=0.3 + 0.3 * pool - 0.05 * n, difficulty=10.0 * pool + n) for pool in (0, 1) for n in range(3)]
    made = matrix_results("s", [board(rows)])
    (found,) = standings.checks(made)
    assert found.rho > 0.3
    assert "part of a correlation is between pools and not between choices" in page(made).words()


def test_the_interval_of_a_rank_correlation_is_that_of_scipys_bootstrap():
    rng = np.random.default_rng(3)
    points = rng.normal(0, 1, (24, 2)) @ [[1, 0.5], [0, 1]]
    for level, told in zip((0.05, 0.01), standings.correlation(points, 0.05, 0.01), strict=True):
        expected = stats.bootstrap(
            tuple(points.T), lambda one, other: stats.spearmanr(one, other).statistic, paired=True, vectorized=False, n_resamples=2000,
            confidence_level=1 - level, method="percentile", rng=rng,
        ).confidence_interval  # fmt: skip
        assert told == pytest.approx(tuple(expected), abs=0.06)


def test_of_several_rank_correlations_only_what_stands_after_a_correction_for_all_told_something():
    """Of six of pure noise one in four matrices or so has an interval of its own beside 0."""
    rng, alone, together = np.random.default_rng(0), 0, 0
    for _ in range(30):
        rows = [entry("random", quality=0.5)]
        for number in range(20):
            quality = float(rng.uniform(0.3, 0.7))
            rows.append(entry(f"m{number}", quality=quality, **{name: float(rng.normal()) for name in standings.ASKED}))
        found = standings.checks(matrix_results("s", [board(rows)]))
        assert len(found) == 6
        alone += any(one.low > 0 or one.high < 0 for one in found)
        together += any(one.sure for one in found)
    assert together <= 5 < alone
    words = page(matrix_results("s", [board(rows)])).words()
    assert words.count("told something") - 1 == sum(one.sure for one in found)  # once in the sentence above them
    assert "an interval for all 6 together" in words


def test_fewer_points_than_a_rank_correlation_needs_are_told_as_none():
    rows = [entry("random"), *(entry(name, fid_128=float(number)) for number, name in enumerate("abcd"))]
    assert standings.checks(matrix_results("s", [board(rows)])) == []


def test_means_are_over_the_data_sets_that_have_the_method():
    other = board([entry("random", 0.1, seed) for seed in range(3)], dataset="etis")
    found = standings.means(matrix_results("s", [full_board(), other]))
    assert [(one.method, one.budget) for one in found] == [("random", 0.1)]
    each = [
        row.miou[0] for some in (full_board(), other) for row in standings.standings(some) if (row.method, row.budget) == ("random", 0.1)
    ]
    assert found[0].by["mae"][0] == pytest.approx(np.mean(each))


def test_the_papers_numbers_are_those_of_methods_and_their_normdel_follows():
    assert published.OPTIDEL["optidel", 0.05].miou == pytest.approx(0.7159)
    assert published.OPTIDEL["optidel", 0.05].miou - published.OPTIDEL["meddel", 0.05].miou == pytest.approx(0.0340)
    assert published.OPTIDEL["optidel", 0.05].miou - published.OPTIDEL["full data", 1.0].miou == pytest.approx(0.0287)
    for (_, budget), one in published.OPTIDEL.items():  # a mean of NormDELs is not the NormDEL of a mean, but near
        assert one.normdel == pytest.approx(theory.normdel(one.miou, budget), abs=0.001)
    assert published.OPTIDEL["random", 0.05].normdel > published.OPTIDEL["optidel", 0.25].normdel


def test_a_curve_stands_where_its_budget_and_score_are():
    drawing = boards.drawn(full_board())
    curve = next(one for one in drawing.curves if one.method == "optidel").miou
    assert [tick.label for tick in curve.x] == ["10 %", "50 %", "100 %"]
    assert [tick.at for tick in curve.x] == pytest.approx([0, 100 * np.log(5) / np.log(10), 100], abs=0.01)
    low, high = (float(curve.y[end].label) for end in (0, -1))
    miou = next(row for row in standings.standings(full_board()) if (row.method, row.budget) == ("optidel", 0.1)).miou[0]
    x, y = places(curve.path)[0]
    assert (x, low + (100 - y) / 100 * (high - low)) == pytest.approx((0, miou), abs=1e-3)
    assert {one.method for one in drawing.curves} == {"optidel", "optidel_s", "random"}


def test_on_the_break_even_line_normdel_takes_the_budget_for_as_good_as_all_data():
    drawing = boards.drawn(full_board())
    full = next(row for row in standings.standings(full_board()) if row.method == "full data").miou[0]
    panel = drawing.curves[0].miou
    low, high = (float(panel.y[end].label) for end in (0, -1))
    x, y = places(panel.even)[-1]
    miou, budget = low + (100 - y) / 100 * (high - low), np.exp(np.log(0.1) + x / 100 * (np.log(1) - np.log(0.1)))
    assert theory.normdel(miou, budget) == pytest.approx(theory.normdel(full, 1), abs=1e-4)


def test_metrics_have_names_that_mlflow_takes():
    made = matrix_results("s", [full_board(dataset="CVC-300: what?")]).metrics()
    assert made["mae/CVC-300_ what_/optidel/0.1/miou"] == pytest.approx(standings.standings(full_board())[1].miou[0])
    assert all(np.isfinite(value) for value in made.values())


def mixed():
    """Shares of the bytes beside shares of the patches and hours, each at 0.1 and 0.5."""
    hours = [replace(one, unit="gpu_hours", miou=one.miou / 2) for one in full_board().entries if one.budget in (0.1, 0.5)]
    by_count = [replace(one, unit="patches") for one in full_board().entries if one.budget in (0.1, 0.5) and one.method != "random"]
    return board([*(replace(one, unit="bytes" * bool(one.budget)) for one in full_board().entries), *hours, *by_count])


def test_a_method_is_held_against_random_by_budgets_of_its_own_unit_only():
    found = {(one.method, one.unit): set(one.over) for one in standings.standings(mixed()) if one.budget == 0.1}
    assert found["optidel", "bytes"] == found["optidel", "gpu_hours"] == {"random", "full data"}
    assert found["optidel", "patches"] == {"full data"}
    alone = {one.method: one.miou for one in standings.standings(full_board()) if one.budget == 0.1}
    assert {one.method: one.miou for one in standings.standings(mixed()) if (one.budget, one.unit) == (0.1, "bytes")} == alone
    (whole,) = verdicts.wholes(matrix_results("s", [mixed()]))
    assert {(one.method, one.cells) for one in whole.verdicts if one.other == "random"} == {("optidel", 4), ("optidel_s", 4)}
    assert len(standings.patches(mixed())) == 6


def test_every_unit_has_names_headings_and_curves_of_its_own():
    made = matrix_results("s", [mixed()])
    assert {name.split("/")[3] for name in made.metrics() if "/optidel/" in name} == {
        f"{budget}{unit}" for budget in (0.1, 0.5) for unit in ("", " patches", " gpu_hours")
    }
    assert {line.split(":")[0] for line in made.said()} >= {"kvasir, mae, 10 % of the bytes", "kvasir, mae, 0.1 gpu hours"}
    words = page(made).words()
    for told in ("at 10 % of the bytes", "at 10 % of the patches", "at 0.1 gpu hours", "optidel budgets in gpu hours"):
        assert told in words
    curves = {(one.method, one.unit): one.miou for one in boards.drawn(mixed()).curves}
    assert [tick.label for tick in curves["optidel", "gpu_hours"].x] == ["0.1", "0.5"]
    assert [tick.label for tick in curves["optidel", "patches"].x] == ["10 %", "50 %"]
    assert curves["optidel", "bytes"].even
    assert not curves["optidel", "gpu_hours"].even
    told = boards.matrix_drawing(made).means
    assert {paper is None for one, paper in told if one.method == "optidel" and one.unit == "gpu_hours"} == {True}


def page(*made):
    return Page(report.render(Findings("t", "now", matrices=list(made))))


def test_the_page_shows_every_method_with_its_numbers_and_the_papers_beside():
    failed = Failure("meddel at 10 %, seed 0", "no image of 4 patches")
    shown = page(matrix_results("small", [full_board(failures=(failed,))], {"sam": 2.5}))
    rows = shown.table()
    best = next(row for row in standings.standings(full_board()) if (row.method, row.budget) == ("optidel", 0.1))
    (told,) = [row for row in rows if row[0] == "optidel" and row[1] == "80" and len(row) == 8]
    assert told[2] == f"{best.miou[0]:.3f} {best.miou[1]:.3f}\u2013{best.miou[2]:.3f}"
    assert told[4] == f"{best.normdel:.3f}"
    assert told[5].startswith(f"{best.over['random'].contrast.difference:+.3f}")
    assert told[5].endswith("3/3 ahead")
    assert ["optidel", "10 %", f"{best.miou[0]:.3f}", f"{best.normdel:.3f}", "0.725", "0.658"] in rows
    words = shown.words()
    assert "meddel at 10 %, seed 0: no image of 4 patches." in words
    assert "sam 2.5" in words
    assert "OptiDEL over OptiDEL-S" in words
    assert "no matrix was run yet" not in words
    assert "no matrix was run yet" in page().words()


def test_a_matrix_of_which_little_is_done_is_a_page_too():
    nothing = matrix_results("s", [board([], failures=(Failure("a", "b"),))])
    assert "no cell of this board is done" in page(nothing).words()
    lone = page(matrix_results("s", [board([entry()])]))
    assert "too few methods and budgets are done" in lone.words()


def test_names_from_a_file_are_text_on_the_page():
    rows = [entry(HOSTILE, budget, seed, difficulty=1.0) for budget in (0.1, 0.2) for seed in (0, 1)]
    made = matrix_results(
        HOSTILE,
        [board(rows, dataset=HOSTILE, architecture=HOSTILE, setting=HOSTILE, failures=(Failure(HOSTILE, HOSTILE),))],
        {HOSTILE: 1.0},
    )
    shown = page(made)
    assert not shown.all("script")
    assert not shown.all("img")
