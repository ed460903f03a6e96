"""A method over another, all cells together: against other libraries and brute force; noise is told of no oftener than said."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from engine import scores, verdicts
from engine.scores import Lead
from engine.standings import matrix_results
from tests.test_standings import HOSTILE, board, entry, full_board, iou, page

SEEDS, BUDGETS, SETS = range(3), (0.1, 0.25, 0.5), ("kvasir", "polypgen")


def boards(quality, seeds=SEEDS, sets=SETS):
    """Networks of random, optidel and all data: `quality(method, budget, set, seed)` is about their IoU."""
    spots = [(method, budget) for method in ("random", "optidel") for budget in BUDGETS] + [("full data", 1.0)]
    return [
        board(
            [entry(method, budget, seed, quality(method, budget, name, seed)) for method, budget in spots for seed in seeds], dataset=name
        )
        for name in sets
    ]


def flat(method, budget, name, seed):
    return 0.5 + 0.05 * (method == "optidel") + 0.02 * (name == "kvasir") + 0.03 * budget


def verdict(some, method="optidel", other="random"):
    (whole,) = verdicts.wholes(matrix_results("s", some))
    return next(one for one in whole.verdicts if (one.method, one.other) == (method, other))


def table(some):
    """mIoU by method, budget, set and seed, by counting."""
    return {(one.method, one.budget, part.dataset, one.seed): iou(one.marks) for part in some for one in part.entries}


def test_a_verdict_is_the_mean_over_cells_and_its_seeds_are_tested_by_their_means():
    """Every seed is tested on images of its own here, so that nothing but the spread between seeds counts."""
    made, rng = {}, np.random.default_rng(0)

    def quality(*place):
        return made.setdefault(place, 0.5 + 0.04 * (place[0] == "optidel") + rng.normal(0, 0.03))

    some = boards(quality)
    mious, found = table(some), verdict(some)
    of_seeds = [
        np.mean([mious["optidel", budget, name, seed] - mious["random", budget, name, seed] for budget in BUDGETS for name in SETS])
        for seed in SEEDS
    ]
    expected = stats.ttest_1samp(of_seeds, 0)
    told = found.advantage.contrast
    assert found.cells == 6
    assert told.difference == pytest.approx(np.mean(of_seeds))
    assert told.p == pytest.approx(expected.pvalue, rel=0.3)
    assert (told.low, told.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=0.2)
    assert (told.ahead, told.seeds) == (sum(one > 0 for one in of_seeds), 3)


def test_images_of_a_set_are_drawn_alike_at_all_budgets_and_those_of_another_set_apart():
    """The same marks everywhere: what differs is the lot alone."""
    one, other = (tuple(scored.marks for scored in (entry(method, 0.1, 0, quality), entry(method, 0.1, 1, quality)))
                  for method, quality in (("optidel", 0.6), ("random", 0.5)))  # fmt: skip
    places = [((budget, ""), name) for budget in BUDGETS for name in SETS]
    made = verdicts.leads({seed: dict.fromkeys(places, (one[seed], other[seed])) for seed in (0, 1)})
    kvasir, polypgen = ([made[(budget, ""), name].drawn for budget in BUDGETS] for name in SETS)
    assert all(np.array_equal(kvasir[0], some) for some in kvasir)
    assert all(np.array_equal(polypgen[0], some) for some in polypgen)
    assert abs(np.corrcoef(kvasir[0][0], polypgen[0][0])[0, 1]) < 0.2


def test_a_model_is_one_unit_whatever_it_is_measured_on():
    rng = np.random.default_rng(1)
    some = boards(lambda method, *_: 0.5 + 0.02 * (method == "optidel") + rng.normal(0, 0.03))
    mious, found = table(some), verdict(some).flips
    units = [
        np.mean([mious["optidel", budget, name, seed] - mious["random", budget, name, seed] for name in SETS])
        for seed in SEEDS
        for budget in BUDGETS
    ]
    every = [abs(np.dot(signs, units)) for signs in product((1, -1), repeat=9)]
    assert found.units == 9
    assert found.least == 2 / 2**9
    assert found.p == pytest.approx(np.mean(np.array(every) >= abs(sum(units)) - 1e-12))
    assert found.ahead == sum(one > 0 for one in units)


def test_all_data_is_one_model_at_every_budget_so_only_seeds_are_asked_of_it():
    found = verdict(boards(flat), "optidel", "full data")
    assert found.flips is None
    assert (found.cells, found.advantage.contrast.seeds) == (6, 3)


@pytest.mark.parametrize("many", [3, 9, 14, 24])
def test_the_share_of_patterns_is_that_of_scipys_permutations(many):
    rng = np.random.default_rng(many)
    for mean in (0.0, 0.3, 0.8):
        units = rng.normal(mean, 1, many)
        alike = stats.permutation_test((units, np.zeros(many)), lambda a, b, axis: np.mean(a - b, axis=axis),
                                       permutation_type="samples", vectorized=True, n_resamples=99999, rng=rng)  # fmt: skip
        assert verdicts.chance(units) == pytest.approx(alike.pvalue, rel=1e-9 if many <= 14 else 0.2, abs=1e-9 if many <= 14 else 1e-3)
    assert verdicts.chance(np.full(many, 0.1)) == pytest.approx(verdicts.smallest(many))
    assert verdicts.chance(np.zeros(many)) == 1


@pytest.mark.parametrize("law", ["normal", "cauchy", "two values"])
def test_flips_of_units_of_no_sign_pass_a_level_in_its_share_at_most_whatever_their_law(law):
    rng = np.random.default_rng(0)
    draws = {"normal": rng.normal, "cauchy": rng.standard_cauchy, "two values": lambda size: rng.choice([-1.0, 1.0, 5.0, -5.0], size)}[law]
    found = np.array([verdicts.chance(draws(size=9)) for _ in range(2000)])
    for level in (0.01, 0.05, 0.25):
        assert np.mean(found <= level) <= level + 3 * (level * (1 - level) / 2000) ** 0.5


def noise(rng, seeds, of_seed, of_model, of_cell, of_images):
    """Leads in six cells between which nothing is but chance: a deviation for each of what its differences may share."""
    seed, model, images = rng.normal(0, of_seed, seeds), rng.normal(0, of_model, (3, seeds)), rng.normal(0, of_images, 2)
    made, again = {}, rng.normal(0, of_images, (2, 1, scores.DRAWS))
    for number, budget in enumerate(BUDGETS):
        for place, name in enumerate(SETS):
            seen = seed + model[number] + images[place] + rng.normal(0, of_cell, seeds)
            made[budget, name] = Lead(seen, seen[:, None] + again[place] + rng.normal(0, of_cell / 2, (seeds, scores.DRAWS)), 60)
    return made


@pytest.mark.parametrize("parts", [(0.02, 0.0, 0.0, 0.0), (0.01, 0.02, 0.02, 0.0), (0.0, 0.01, 0.02, 0.0), (0.0, 0.0, 0.02, 0.02)])
def test_by_seeds_noise_is_beyond_chance_in_a_twentieth_at_most_whatever_hangs_together(parts):
    """Of 200 trials 16 would be two standard errors more; what a seed gives all its cells, a model, a cell, or images that seeds share."""
    rng = np.random.default_rng(0)
    found = [scores.averaged(list(noise(rng, 3, *parts).values())) for _ in range(200)]
    assert sum(one.p < 0.05 for one in found) <= 16


def test_flips_take_what_a_seed_gives_all_its_models_for_more_than_it_is_and_the_likeness_tells():
    """The assumption that the page states, seen to matter: all of the noise is of seeds, so nine units are worth three."""
    rng = np.random.default_rng(0)
    alike = [verdicts.models(noise(rng, 3, 0.02, 0, 0.002, 0)) for _ in range(200)]
    apart = [verdicts.models(noise(rng, 3, 0, 0.01, 0.02, 0)) for _ in range(200)]
    assert np.mean([verdicts.chance(one.ravel()) < 0.05 for one in alike]) > 0.15
    assert np.mean([verdicts.chance(one.ravel()) < 0.05 for one in apart]) < 0.09
    assert verdicts.likeness(alike)[0] > 0.9
    assert verdicts.likeness(apart)[0] == pytest.approx(0, abs=0.1)


def test_the_likeness_is_the_share_of_the_variance_that_is_of_seeds():
    rng = np.random.default_rng(0)
    units = [rng.normal(0, 1, (40, 1)) + rng.normal(0, 2, (40, 3)) + [5, 0, -5] for _ in range(50)]
    assert verdicts.likeness(units)[0] == pytest.approx(1 / 5, abs=0.03)
    held = [low < 1 / 5 < high for one in units for _, low, high in [verdicts.likeness([one])]]
    assert sum(held) >= 44  # of 50, of which it promises 47.5
    assert verdicts.likeness([np.ones((1, 3))]) is None
    assert verdicts.likeness([]) is None


def test_each_test_is_corrected_by_holm_over_its_own_comparisons():
    (whole,) = verdicts.wholes(matrix_results("s", [full_board(), full_board(dataset="other")]))
    every = whole.verdicts
    assert [one.advantage.corrected for one in every] == pytest.approx(scores.holm([one.advantage.contrast.p for one in every]))
    signs = [one.flips for one in every if one.flips]
    assert {one.method for one in every if one.flips} == {"optidel", "optidel_s"}
    assert [one.corrected for one in signs] == pytest.approx(scores.holm([one.p for one in signs]))
    assert whole.least.comparisons == len(every) == 6


def test_a_seed_that_lacks_a_cell_is_left_out():
    some = boards(flat)
    short = board([one for one in some[1].entries if (one.method, one.budget, one.seed) != ("optidel", 0.5, 2)], dataset="polypgen")
    found = verdict([some[0], short])
    assert found.cells == 6
    assert found.advantage.contrast.seeds == 2
    assert found.flips.units == 6


def test_nothing_is_said_where_there_is_nothing_to_take_together():
    assert verdicts.wholes(matrix_results("s", [])) == []
    assert verdicts.wholes(matrix_results("s", [board([entry(), entry("random")])])) == []
    lone = verdict(boards(flat, seeds=(0,)))
    assert lone.flips is None
    assert np.isnan(lone.advantage.corrected)
    assert "one seed" in str(lone)


def test_the_page_the_log_and_mlflow_tell_the_same():
    made = matrix_results("s", boards(flat))
    (whole,) = verdicts.wholes(made)
    one = verdict(made.boards)
    row = next(row for row in page(made).table() if row[:3] == ["optidel", "random", "6 \u00d7 3 seeds"])
    told, flips = one.advantage.contrast, one.flips
    assert row[3] == f"{told.difference:+.3f} {told.low:.3f} to {told.high:.3f}"
    assert row[5] == f"{one.advantage.corrected:.2g}, {told.ahead}/3 ahead"
    assert row[6] == f"{flips.corrected:.2g}, {flips.ahead}/9 ahead, 0.004 at least"
    assert (
        f"Two models of a seed go together by {whole.likeness[0]:+.2f}, or anything from {whole.likeness[1]:+.2f} to" in page(made).words()
    )
    assert any(f"optidel {told.difference:+.3f}" in line and f"{flips}" in line for line in verdicts.said(made))
    logged = verdicts.metrics(made)
    assert logged["mae/together/optidel/random/difference"] == told.difference
    assert logged["mae/together/optidel/random/p_flips"] == flips.corrected
    assert "mae/together/optidel/full data/p_flips" not in logged


def test_names_that_mlflow_would_refuse_are_changed_here_too():
    rows = [entry(method, budget, seed) for method in ("random", HOSTILE) for budget in (0.1, 0.2) for seed in (0, 1)]
    assert all(set(name) & set("<>\"'&") == set() for name in verdicts.metrics(matrix_results("s", [board(rows)])))
