"""Rules of when to stop pre-training: on a made-up release whose values are known, and on the real one where we are told of it."""

import csv
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linprog
from scipy.stats import rankdata, zscore

from docs import stopping as stopping_page
from engine import aggregates, foresight, frontier, options, released, stopping, tradeoffs
from engine.foresight import Rule
from engine.monitor import Monitor
from engine.options import Options, Table
from engine.released import Release, Setup, Variant
from engine.settings import TransferConfig
from jobs import oracles, tradeoff, transfer_study, uses
from jobs.__main__ import main

BESIDE = Path("../shared/data/transferability")
TOLD = os.environ.get("ENDOCURATE_RELEASED", "")  # folder of the released CSVs; "": they may lie beside the checkout
ROOT = Path(__file__).parent.parent
LENGTHS = (0, 1, 10, 100)
MODELS = {"ResNet50 Attention U-Net": "resnet50", "Swin U-Net": "swin_transformer", "basic U-Net": "u-net_encoder"}
LEVELS = {"resnet50": 3, "swin_transformer": 2, "u-net_encoder": 3}
tables = hnp.arrays(float, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.floats(0.01, 1))


def dice_of(dataset: str, model: str, scheme: str, frozen: bool, length: int, seed: int) -> float:
    """Frozen: the longer the better. Fine-tuned: best after 10 epochs. A seed adds 0.01, so the mean of two adds 0.005."""
    worth = {0: 0.4, 1: 0.5, 10: 0.6, 100: 0.8} if frozen else {0: 0.5, 1: 0.6, 10: 0.8, 100: 0.7}
    return worth[length] + 0.01 * seed


def robustness_of(encoder: str, level: int, length: int) -> float:
    """At the deepest level but one, which the authors look at, it is least after 10 epochs."""
    return {0: 0.0, 1: 0.5, 10: 0.3, 100: 0.4}[length] if level == LEVELS[encoder] - 1 else 1.0


def publish(folder: Path, dice=dice_of, robustness=robustness_of, drop=(), seeds=(0, 1)) -> Path:
    """A release of 3 data sets x 3 models x 2 schemes x frozen or not, 4 lengths, 2 seeds; `drop` leaves out (file, row number)."""
    downstream, robust = [], []
    for dataset, model, scheme, length in itertools.product("ABC", MODELS, ("simple", "advanced"), LENGTHS):
        if length or scheme == "simple":
            for frozen, seed in itertools.product((False, True), seeds):
                value = dice(dataset, model, scheme, frozen, length, seed)
                one, many = ("", value) if dataset == "A" else (value, "")  # as released: of several classes the mean
                downstream.append([model, dataset, length, LENGTHS.index(length) / 10, frozen, scheme, seed, one, many])
        for level in range(1, LEVELS[MODELS[model]] + 1):
            row = [dataset, "cosine_distance", 0.5, MODELS[model], f"{scheme}_training", True, level, length]
            robust.append([*row, robustness(MODELS[model], level, length)])
    files = {
        released.DOWNSTREAM: (released.DOWNSTREAM_COLUMNS, downstream),
        released.ROBUSTNESS: (released.ROBUSTNESS_COLUMNS, robust),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (columns, rows) in files.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([list(columns), *(row for number, row in enumerate(rows) if (name, number) not in drop)])
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return released.read(publish(tmp_path))


@pytest.fixture(scope="module")
def real() -> Release:
    if not TOLD and not BESIDE.is_dir():
        pytest.skip(f"{BESIDE} is absent, and ENDOCURATE_RELEASED names no other folder of the released CSVs")
    return released.read(TOLD or BESIDE)  # a folder that is named and empty is an error


# What was released.


def test_a_release_is_read_into_place(release):
    assert len(release.setups) == 36
    assert release.lengths.tolist() == list(LENGTHS)
    swin = release.setups.index(Setup("A", "swin_transformer", "advanced", True))
    assert release.performance[swin] == pytest.approx([0.405, 0.505, 0.605, 0.805])  # 0 epochs were run under the other scheme
    assert release.robustness[Variant()][swin] == pytest.approx([0.5, 0.3, 0.4])
    assert release.accuracy[swin] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert np.isnan(release.robustness[Variant(level=-3)][swin]).all()  # it has two levels


def test_robustness_without_pretraining_is_never_seen(tmp_path):
    """In the release it is a copy of the last length for two data sets, hence a look into the future."""
    honest = released.read(publish(tmp_path / "a"))
    copied = released.read(publish(tmp_path / "b", robustness=lambda *where: robustness_of(*where[:2], where[2] or 100)))
    assert {name: table.tolist() for name, table in foresight.seen(honest).progress.items()} == {
        name: table.tolist() for name, table in foresight.seen(copied).progress.items()
    }
    assert all(table.shape == (36, 3) for table in honest.robustness.values())


def test_a_seed_that_was_not_run_is_left_out_of_the_mean(tmp_path):
    release = released.read(publish(tmp_path, drop=[(released.DOWNSTREAM, 0)]))  # data set A, ResNet50, fine-tuned, 0 epochs, seed 0
    assert np.isnan(release.dice).sum() == 2  # of both schemes
    assert release.performance[release.setups.index(Setup("A", "resnet50", "simple", False))][0] == pytest.approx(0.51)


def test_a_length_that_no_seed_was_run_for_is_named(tmp_path):
    publish(tmp_path, drop=[(released.DOWNSTREAM, 4), (released.DOWNSTREAM, 5)])
    with pytest.raises(ValueError, match=r"143 of 144 setups and lengths; no Dice of A resnet50 simple False 1"):
        released.read(tmp_path)


def test_a_missing_robustness_is_named(tmp_path):
    publish(tmp_path, drop=[(released.ROBUSTNESS, 4)])
    with pytest.raises(ValueError, match=r"143 .* not of A resnet50 simple cosine_distance 0.5 True 2 1"):
        released.read(tmp_path)


def test_a_release_without_the_score_that_the_authors_used_is_refused(tmp_path):
    path = publish(tmp_path) / released.ROBUSTNESS
    path.write_text(path.read_text().replace("cosine_distance", "l2_loss"))
    with pytest.raises(ValueError, match=r"lacks the score by the authors' defaults, cosine_distance 0.5 True -2"):
        released.read(tmp_path)


def test_a_file_that_is_absent_is_named(tmp_path):
    publish(tmp_path)
    (tmp_path / released.ROBUSTNESS).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"robustness_scores.csv does not exist; expected the scores released with arXiv 2410.18677"
    ):
        released.read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("freeze encoder", "frozen", "lacks the columns freeze encoder"),
        ("Swin U-Net,A,1,", "Swine,A,1,", "the model 'Swine'; expected one of ResNet50"),
        (",0.6\n", ",1.6\n", "has a Dice of 1.6; expected at most 1"),
        (",0.6\n", ",nan\n", "has None of A resnet50"),
        (",0.6\n", ",\n", "has None of A resnet50"),
        (",0.6\n", ",good\n", "cannot be read"),
        ("Swin U-Net,A,1,", "Swin U-Net,,1,", "has 1 rows without dataset; expected none"),
        ("A,1,0.1,False,simple,1", "A,1,0.1,False,simple,0", "has both 0.6 and 0.61 of A resnet50 simple False 1 0"),
        ("A,1,0.1,", "A,1,0.7,", "has both 0.7 and 0.1 of resnet50 simple 1"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, old, new, said):
    path = publish(tmp_path) / released.DOWNSTREAM
    text = path.read_text().replace("\r\n", "\n")
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=said):
        released.read(tmp_path)


# What a stop is worth.


@settings(deadline=None)
@given(tables)
def test_regret_is_from_0_to_1_and_the_best_has_none(performance):
    regret, tis = stopping.regrets(performance), stopping.ratios(performance)
    best = performance.argmax(axis=1)
    everyone = np.arange(len(performance))
    assert ((regret >= 0) & (regret <= 1)).all()
    assert ((tis > 0) & (tis <= 1)).all()
    assert (regret[everyone, best] == 0).all()
    assert (tis[everyone, best] == 1).all()


def test_tis_and_regret_by_hand():
    performance = np.array([[0.4, 0.8, 0.6], [0.5, 0.5, 0.5]])
    assert stopping.ratios(performance) == pytest.approx(np.array([[0.5, 1, 0.75], [1, 1, 1]]))
    assert stopping.regrets(performance) == pytest.approx(np.array([[1, 0, 0.5], [0, 0, 0]]))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.data())
def test_tis_and_regret_are_shares_and_the_best_choice_costs_nothing(performance: list[float], data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, len(performance) - 1))
    best = int(np.argmax(performance))
    assert 0 <= stopping.tis(performance, chosen) <= stopping.tis(performance, best) == 1
    assert 1 >= stopping.regret(performance, chosen) >= stopping.regret(performance, best) == 0


def test_tis_and_regret_of_a_known_case() -> None:
    assert stopping.tis([0.6, 0.8, 0.7], 2) == pytest.approx(0.875)
    assert stopping.regret([0.6, 0.8, 0.7], 2) == pytest.approx(0.5)
    assert stopping.regret([0.6, 0.8, 0.7], 0) == 1
    assert stopping.regret([0.5, 0.5], 1) == 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: stopping.tis([0.5], 1), r"chosen=1 is none of 1 checkpoints"),
        (lambda: stopping.tis([0.5, 0.6], True), r"chosen=True is none of 2 checkpoints, expected an index from 0"),
        (lambda: stopping.tis([0.5, 0.6], 1.0), r"chosen=1\.0 is none of 2 checkpoints, expected an index from 0"),  # type: ignore[arg-type]
        (lambda: stopping.regret([0.5, math.nan], 0), r"must be numbers from 0, such as Dice"),
    ],
)
def test_a_choice_that_cannot_be_judged_is_told_in_a_sentence(wrong: Callable[[], float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        wrong()


def test_the_rules_of_the_authors_by_hand(release):
    """Least robustness after 10 epochs: offline keeps that and pays 100; patience 1 needs to see 100 to know."""
    curve, lengths = release.robustness[Variant()], release.lengths
    draws = stopping.drawn(release)
    offline = stopping.worth(stopping.offline(curve, lengths), release.performance, draws)
    assert offline.epochs == 100
    assert offline.regret == pytest.approx(0.5 * 0 + 0.5 * (0.8 - 0.6) / (0.8 - 0.4))
    assert offline.tis == pytest.approx(0.5 * 1 + 0.5 * 0.605 / 0.805)
    assert offline.least_tis == pytest.approx(0.605 / 0.805)
    last = stopping.worth(stopping.online(curve, lengths, 1, keep_last=True), release.performance, draws)
    assert last.regret == pytest.approx(0.5 * (0.8 - 0.7) / (0.8 - 0.5))
    chance = stopping.worth(stopping.by_chance(36, lengths), release.performance, draws)
    assert chance.epochs == pytest.approx(37)
    assert chance.regret == pytest.approx((0.5 * (2 + 0 + 1) / 3 + 0.5 * (3 + 2 + 0) / 4) / 3)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(1, 4))
def test_patience_stops_where_its_definition_says(values, patience):
    best, last = stopping.halted(np.array(values), patience)
    stale = [now for now in range(patience, len(values)) if min(values[: now - patience + 1]) <= min(values[now - patience + 1 : now + 1])]
    assert last == (stale[0] if stale else len(values) - 1)
    assert best == values.index(min(values[: last + 1]))


def test_patience_below_one_length_is_refused():
    with pytest.raises(ValueError, match="patience=0"):
        stopping.online(np.ones((1, 3)), np.array(LENGTHS), 0, keep_last=False)


def test_the_interval_of_many_independent_blocks_is_that_of_the_central_limit():
    rng = np.random.default_rng(3)
    setups = tuple(Setup(str(number), "resnet50", "simple", True) for number in range(400))
    dice = np.dstack([np.zeros(400), rng.random(400), np.ones(400)]).swapaxes(0, 1).reshape(400, 3, 1)
    many = Release(setups, np.array([0, 1, 2]), dice, dice[..., 0], {})
    more, low, high = stopping.worth(stopping.always(1, 400, many.lengths), many.performance, stopping.drawn(many)).more_regret
    regret = 1 - dice[:, 1, 0]
    assert more == pytest.approx(regret.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * regret.std() / 20, rel=0.06)
    assert (low + high) / 2 == pytest.approx(regret.mean(), abs=0.004)


def test_what_is_drawn_together_in_the_bootstrap_is_one_encoder_on_one_data_set_frozen_or_not(release):
    weights = stopping.drawn(release).weights
    pairs = {}
    for place, one in enumerate(release.setups):
        pairs.setdefault(one._replace(frozen=False), []).append(place)
    assert all((weights[:, first] == weights[:, second]).all() for first, second in pairs.values())
    assert weights.std() > 0


def test_the_longest_differs_from_itself_by_nothing(release):
    found = stopping.worth(stopping.always(3, 36, release.lengths), release.performance, stopping.drawn(release))
    assert found.more_regret == found.more_tis == (0, 0, 0)


# What could be reached.


def brute_force(regret: np.ndarray, epochs: np.ndarray, budget: int) -> float:
    everyone = range(len(regret))
    return min(
        sum(regret[group, stop] for group, stop in zip(everyone, stops, strict=True))
        for stops in itertools.product(range(regret.shape[1]), repeat=len(regret))
        if sum(epochs[group, stop] for group, stop in zip(everyone, stops, strict=True)) <= budget
    )


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(float, (3, 4), elements=st.floats(0, 1)), st.lists(st.integers(1, 3), min_size=3, max_size=3))
def test_the_frontier_is_that_of_every_choice_tried(regret, sizes):
    epochs = np.outer(sizes, [0, 1, 3, 4])
    found = frontier.frontier(regret, epochs)
    assert (np.diff(found.least) <= 0).all()
    for budget in range(len(found.least)):
        stops = found.stops(budget)
        assert found.least[budget] == pytest.approx(brute_force(regret, epochs, budget))
        assert regret[np.arange(3), stops].sum() == pytest.approx(found.least[budget])
        assert epochs[np.arange(3), stops].sum() <= budget


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(float, (5, 4), elements=st.floats(0, 1)), st.floats(0, 100))
def test_a_mixture_of_lengths_is_the_best_that_linear_programming_finds(regret, budget):
    best = linprog(regret.mean(axis=0), A_ub=[LENGTHS], b_ub=[budget], A_eq=[np.ones(4)], b_eq=[1]).fun
    assert frontier.mixture(regret, np.array(LENGTHS), budget) == pytest.approx(best, abs=1e-7)


def test_those_that_must_stop_alike_reach_less(release):
    regret = stopping.regrets(release.performance)
    free = frontier.grouped(regret, release.lengths, np.arange(36))
    bound = frontier.grouped(regret, release.lengths, released.numbered(release.setups, ("dataset", "encoder", "scheme")))
    assert (bound.least >= free.least - 1e-9).all()
    assert frontier.epochs_to_reach(free.least / 36, 0, 36) == pytest.approx((10 + 100) / 2)
    assert frontier.epochs_to_reach(bound.least / 36, 0, 36) is None  # 18 pairs, each of which wants two lengths


def test_an_oracle_pays_for_the_seed_it_has_not_seen():
    """Two seeds that disagree on the best length: who knows one of them chooses wrongly for the other."""
    dice = np.array([[[0.0, 0.0], [0.8, 0.6], [0.6, 0.8]]])
    assert frontier.held_out(dice, np.array([0, 1, 2]))[:, -1] == pytest.approx((0.7 - 0.6) / 0.7)


def test_a_seed_that_was_not_run_is_neither_learnt_from_nor_scored():
    """Seeds are 0.1 apart. The longest, best of the first setup, was not run with the last of them: there it is judged by the other."""
    dice = np.array([[[0.0, 0.1, 0.2], [0.5, 0.6, 0.7], [0.8, 0.9, np.nan]], [[0.0, 0.1, 0.2], [0.5, 0.6, 0.7], [0.2, 0.3, 0.4]]])
    first, second = 0.85 - 0.1, 0.6 - 0.1  # from best to worst of the mean over seeds
    found = frontier.held_out(dice, np.array([0, 1, 2]))[:, -1]
    assert found == pytest.approx([(0.05 / first + 0.1 / second) / 2, -0.05 / first / 2, -0.1 / second])


def test_a_length_that_no_other_seed_was_run_for_is_not_taken():
    """The first seed's 0.9 is known to no other. Of the second, with which the oracle knows of it, only the other setup is judged."""
    dice = np.array([[[0.1, 0.1], [0.5, 0.5], [0.9, np.nan]], [[0.1, 0.1], [0.9, 0.9], [0.5, 0.5]]])
    assert frontier.held_out(dice, np.array([0, 1, 2]))[:, -1] == pytest.approx([(0.5 + 0) / 2, 0])


def test_a_budget_that_nothing_fits_is_refused():
    with pytest.raises(ValueError, match="a length of 0 epochs"):
        frontier.frontier(np.ones((1, 2)), np.array([[1, 2]]))


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=9), st.integers(1, 4), st.sampled_from([0.0, 0.3]), st.data())
def test_a_rule_by_one_score_halts_where_its_definition_says(values, patience, gain, data):
    first = data.draw(st.integers(0, len(values) - 1))
    found = int(frontier.halts(np.array([[values]], float), patience, gain, first)[0, 0])
    marks = [first]  # lengths that fell by the gain below the mark before
    for now in range(first + 1, len(values)):
        if now - marks[-1] > patience:
            break
        marks += [now] if values[now] < values[marks[-1]] * (1 - gain) else []
    assert found == min(marks[-1] + patience, len(values) - 1)
    if not gain and not first:
        assert found == stopping.halted(np.array(values), patience)[1]


def test_a_moving_average_begins_with_the_first_length_that_counts():
    """.3 of what is new: 4, then .3 * 14 + .7 * 4 = 7, then .3 * 7 + .7 * 7."""
    curves = np.array([[100.0, 4.0, 14.0, 7.0]])
    assert frontier.smoothed(curves, 1) == pytest.approx(np.array([[100, 4, 7, 7]]))
    assert frontier.smoothed(curves, 0)[0, :2] == pytest.approx([100, 0.3 * 4 + 70])


def test_single_scores_are_every_rule_that_one_curve_can_be_given(tmp_path):
    """Five depths, each of which is least after 10 of 1, 10 and 100 epochs."""
    release = released.read(
        publish(tmp_path, robustness=lambda encoder, level, length: robustness_of(encoder, LEVELS[encoder] - 1, length))
    )
    tried = frontier.single_scores(release)
    assert len(tried) == 2 * 5 * 4 * 4 * (3 + 2 + 1)  # with moving averages
    regret = stopping.regrets(release.performance).mean(axis=0)
    assert {(round(epochs), round(lost, 6)) for epochs, lost, _ in tried} == {
        (length, round(regret[LENGTHS.index(length)], 6)) for length in (1, 10, 100)
    }  # as all setups have the same curves


def test_the_best_in_a_budget_has_the_least_regret_of_those_that_fit_not_the_most_epochs():
    """Regret .2 at 9 epochs is the least until 20, at which it is worse; .1 of the longest is reached but for a rounding at 60."""
    tried = np.array([[9, 0.2, 0.7], [20, 0.3, 0.8], [60, 0.1 + 1e-14, 0.9], [70, 0.05, 0.95]])
    *rows, last = oracles.best_of("some", tried, 0.1)
    assert [row["regret"] for row in rows[:4]] == [None if budget < 9 else 0.2 for budget in oracles.BUDGETS[:4]]
    assert [row["tis"] for row in rows[:5]] == [0.7, 0.7, 0.7, 0.7, 0.95]
    assert last["epochs"] == 60


def test_an_oracle_that_one_seed_never_satisfies_is_never_as_good():
    """Both lengths have a mean of .7. Who knows the second seed takes the longer, of which the first has .7; the other way it is .5."""
    setups = (Setup("A", "resnet50", "simple", True),)
    dice = np.array([[[0.0, 0.0], [0.9, 0.5], [0.7, 0.7]]])
    release = Release(setups, np.array([0, 1, 2]), dice, dice[..., 0], {})
    target = stopping.regrets(release.performance)[:, -1].mean()
    taken = [frontier.epochs_to_reach(one, target, 1) for one in frontier.held_out(dice, release.lengths)]
    assert [one is None for one in taken] == [False, True]
    *_, last = oracles.other_seeds(release)
    assert last["epochs"] is None


def test_an_oracle_with_a_cap_has_the_best_of_what_is_no_longer(release):
    """Capped at 20 epochs, of 100 that frozen setups want they have 10: regret 1/2 of .4; fine-tuned ones have their best."""
    rows = {row["rule"]: row for row in oracles.capped(release)}
    row = rows["oracle, each setup capped at 20: no more epochs take it further"]
    assert (row["epochs"], row["regret"], row["tis"]) == pytest.approx((10, 0.25, (1 + 0.605 / 0.805) / 2))
    assert rows["oracle, each setup capped at 100: no more epochs take it further"]["epochs"] == pytest.approx((10 + 100) / 2)


def test_an_oracle_by_tis_is_the_best_of_every_choice_tried(tmp_path):
    whole = released.read(publish(tmp_path, dice=noisy))
    release = replace(whole, setups=whole.setups[:3], dice=whole.dice[:3])
    rows = list(oracles.oracle("by TIS", release, np.arange(3), 1 - stopping.ratios(release.performance)))
    lost, epochs = 1 - stopping.ratios(release.performance), np.tile(LENGTHS, (3, 1))
    for row in rows:
        assert 1 - row["tis"] == pytest.approx(brute_force(lost, epochs, 3 * row["epochs"]) / 3)


def test_mixed_lengths_match_the_longest_at_the_fewest_epochs_that_do():
    """Regret .2 of the longest; lengths of 0 and 10 epochs have .6 and .1, so 8 epochs do, and where none does better all are needed."""
    lengths = np.array([0, 10, 100])
    for table, epochs in (([[0.6, 0.1, 0.2]], 8), ([[0.6, 0.4, 0.2]], 100)):
        *_, last = oracles.mixtures(np.array(table), lengths)
        assert (last["epochs"], last["regret"]) == (epochs, 0.2)


# Our rule.


def told(release: Release, performance: np.ndarray | None = None) -> foresight.Lessons:
    return foresight.lessons(foresight.seen(release), release.performance if performance is None else performance)


@pytest.mark.parametrize(
    "rule", [rule for rule in foresight.candidates() if rule.progress != "robustness" and rule.cells != ("frozen",)], ids=str
)
def test_where_all_data_sets_agree_the_first_length_as_good_is_taken(release, rule):
    """Frozen wants 100 epochs. Fine-tuned is best after 10, and after 1 is worse than after 100."""
    stops = foresight.left_out(rule, told(release))
    assert [LENGTHS[stop] for stop in stops] == [100 if one.frozen else 10 for one in release.setups]


def test_slack_buys_epochs(release):
    """Fine-tuned, 1 epoch loses 1/3 of the range more than 100. That is 2 in units of the mean, 1/6: a slack above 2 forgives it."""
    rules = [Rule(losses=("regret",), slack=slack, pooled=False) for slack in (0.0, 1.9, 2.1)]
    fine = [place for place, one in enumerate(release.setups) if not one.frozen]
    assert [{LENGTHS[stop] for stop in foresight.left_out(rule, told(release))[fine]} for rule in rules] == [{10}, {10}, {1}]


def test_none_of_the_losses_may_exceed_that_of_the_longest():
    way = np.array([[0.0, 1, 10, 100], [0, 1, 10, 100]])
    regret = [[0.5, 0.2, -0.1, 0], [0.5, 0.0, 0.1, 0]]  # on average .5, .1, 0 and 0 more than the longest
    tis = [[0.5, 0.3, 0.2, 0], [0.5, 0.3, 0.0, 0]]  # .5, .3, .1 and 0
    firsts = {slack: [foresight.first_as_good(way, np.array(more), slack) for more in ([regret], [regret, tis])] for slack in (0, 0.2, 0.4)}
    assert firsts == {0: [10, 100], 0.2: [1, 10], 0.4: [1, 1]}


def test_where_nothing_is_as_good_the_longest_is_taken():
    way = np.array([[0.0, 1, 10, 100]])
    assert foresight.reached(way, foresight.first_as_good(way, np.ones((1, 1, 4)), 0.2)).tolist() == [3]


@pytest.mark.parametrize("by", ["dataset", "encoder"])
def test_what_is_left_out_has_no_part_in_what_is_chosen_or_learnt(tmp_path, by):
    release = released.read(publish(tmp_path, dice=noisy))
    rules = foresight.candidates((0.0, 0.4), without=by)
    rng = np.random.default_rng(0)
    stops, chosen = foresight.nested(rules, told(release), [1.0], by)[0]
    changed = 0
    for number, (others, mine) in enumerate(foresight.apart(release.setups, by)):
        spoilt = release.performance.copy()
        spoilt[mine] = rng.random(spoilt[mine].shape)
        again, chosen_again = foresight.nested(rules, told(release, spoilt), [1.0], by)[0]
        assert (again[mine] == stops[mine]).all()
        assert chosen_again[number] == chosen[number]
        changed += (again[others] != stops[others]).sum()
    assert changed  # the others did learn from it, so the test would have seen a leak


def noisy(dataset: str, model: str, scheme: str, frozen: bool, length: int, seed: int) -> float:
    where = [ord(dataset), len(model), len(scheme) if length else 0, frozen, length, seed]
    return 0.3 + 0.1 * LENGTHS.index(length) * frozen + 0.3 * float(np.random.default_rng(where).random())


def test_the_rule_chosen_is_the_cheapest_on_the_other_data_sets(tmp_path):
    release = released.read(publish(tmp_path, dice=noisy))
    rules = foresight.candidates((0.0, 0.4))
    for number, kept in enumerate(("BC", "AC", "AB")):
        rest = told(release).part(np.array([place for place, one in enumerate(release.setups) if one.dataset in kept]))
        regret = stopping.regrets(release.performance[[one.dataset in kept for one in release.setups]])

        def cost(rule: Rule, price: float, rest=rest, regret=regret) -> float:
            stops = foresight.left_out(rule, rest)
            return regret[np.arange(24), stops].mean() / regret[:, -1].mean() + price * release.lengths[stops].mean() / 100

        for price, (_, chosen) in zip((0.0, 4.0), foresight.nested(rules, told(release), (0.0, 4.0)), strict=True):
            assert cost(chosen[number], price) == pytest.approx(min(cost(rule, price) for rule in rules))


def test_pooling_leaves_alone_what_has_no_noise(release):
    table = stopping.regrets(release.performance)  # all of a cell are alike, and encoders and schemes too
    assert foresight.pooled(table, release.setups) == pytest.approx(table)


def test_pooling_takes_the_noise_out_of_cells_that_are_alike(release):
    truth = stopping.regrets(release.performance)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.2, (50, *truth.shape))
    cells = released.numbered(release.setups, ("encoder", "scheme", "frozen"))
    members = np.eye(12)[cells]
    alone = [((members.T @ (truth + one) / 3)[cells] - truth).std() for one in noise]
    pooled = [(foresight.pooled(truth + one, release.setups) - truth).std() for one in noise]
    assert np.mean(pooled) < 0.6 * np.mean(alone)


def test_pooling_keeps_the_mean_of_all(release):
    table = np.random.default_rng(2).random((36, 4))
    assert foresight.pooled(table, release.setups).mean(axis=0) == pytest.approx(table.mean(axis=0))


def test_only_epochs_can_be_pooled(release):
    with pytest.raises(ValueError, match="progress=accuracy cannot be pooled"):
        foresight.learn(Rule(progress="accuracy"), told(release))


def test_an_encoder_that_was_never_seen_is_named(release):
    with pytest.raises(ValueError, match="nothing was learnt of resnet50 False"):
        foresight.left_out(Rule(("encoder", "frozen"), pooled=False), told(release), by="encoder")


def test_one_data_set_alone_is_refused(release):
    with pytest.raises(ValueError, match="all 12 setups have the dataset A"):
        foresight.left_out(Rule(), told(release).part(np.arange(12)))


# Tables of what was cheapest in like cases.


def lengths_of(release: Release) -> Options:
    return options.options(release, np.tile(np.arange(len(release.lengths)), (len(release.setups), 1)))


def cost_of(release: Release, places: Sequence[int], stops: np.ndarray, rate: float) -> float:
    """Mean regret + rate x share of all epochs, of setups at these places."""
    regret = stopping.regrets(release.performance)[places, stops]
    return float((regret + rate * release.lengths[stops] / release.lengths[-1]).mean())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.sampled_from([0.0, 0.1, 0.5, 2.0]), st.sampled_from([(), ("frozen",), ("encoder", "frozen")]))
def test_a_table_has_in_each_cell_what_is_cheapest_of_all_that_was_tried_elsewhere(tmp_path_factory, seed, rate, cells):
    release = released.read(publish(tmp_path_factory.mktemp("release"), dice=noisy))
    told = options.options(release, np.random.default_rng(seed).integers(0, len(LENGTHS), (36, 3)))
    found = options.left_out(Table(cells, rate), told)
    for dataset, cell in set(zip((one.dataset for one in release.setups), told.cells(cells), strict=True)):
        like = [place for place, one in enumerate(told.cells(cells)) if one == cell]
        others, mine = ([place for place in like if (release.setups[place].dataset == dataset) == here] for here in (False, True))
        costs = [cost_of(release, others, told.stops[others, option], rate) for option in range(3)]
        cheapest = [told.stops[mine, option].tolist() for option in range(3) if costs[option] <= min(costs) + 1e-9]
        assert found[mine].tolist() == cheapest[0]


def test_a_table_where_all_agree_by_hand(release):
    """Frozen, regret is 1, 3/4, 1/2, 0 after 0, 1, 10, 100 epochs of 100; fine-tuned 1, 2/3, 0, 1/3."""
    stops = {rate: options.left_out(Table(("frozen",), rate), lengths_of(release)) for rate in (0.5, 0.6, 5.0, 50.0)}
    found = {
        rate: [{LENGTHS[stop] for stop, one in zip(at, release.setups, strict=True) if one.frozen == frozen} for frozen in (True, False)]
        for rate, at in stops.items()
    }
    # Frozen 10 epochs save .9 x rate for 1/2, 1 saves .09 x rate more for 1/4 more; fine-tuned 1 saves .09 x rate for 2/3.
    assert found == {0.5: [{100}, {10}], 0.6: [{10}, {10}], 5.0: [{1}, {10}], 50.0: [{0}, {0}]}


def test_the_price_of_an_epoch_is_in_units_of_what_the_longest_loses_elsewhere(tmp_path):
    release = released.read(publish(tmp_path, dice=noisy))
    for number, kept in enumerate(("BC", "AC", "AB")):
        mine = [place for place, one in enumerate(release.setups) if one.dataset == "ABC"[number]]
        full = stopping.regrets(release.performance)[[one.dataset in kept for one in release.setups], -1].mean()
        for price, stops in zip((0.5, 2.0), options.priced(uses.USE, lengths_of(release), (0.5, 2.0)), strict=True):
            assert stops[mine].tolist() == options.left_out(Table(uses.USE, price * full), lengths_of(release))[mine].tolist()


def test_a_table_is_chosen_and_learnt_without_what_is_left_out(tmp_path):
    release = released.read(publish(tmp_path, dice=noisy))
    tables, told = uses.rated(uses.USE) + uses.rated(("frozen",)), lengths_of(release)
    rng, changed = np.random.default_rng(0), 0
    ((stops, chosen),) = options.nested(tables, told, [1.0])
    for number, (others, mine) in enumerate(foresight.apart(release.setups, "dataset")):
        regret = told.regret.copy()
        regret[mine] = rng.random(regret[mine].shape)
        spoilt = replace(told, regret=regret)
        ((again, chosen_again),) = options.nested(tables, spoilt, [1.0])
        assert (again[mine] == stops[mine]).all()
        assert chosen_again[number] == chosen[number]
        assert (options.priced(uses.USE, spoilt, [1.0])[0][mine] == options.priced(uses.USE, told, [1.0])[0][mine]).all()
        changed += (again[others] != stops[others]).sum()
        rest = told.part(others)
        costs = [float(np.dot(options.bill(options.left_out(table, rest), rest), (1, 1))) for table in tables]
        assert costs[tables.index(chosen[number])] == pytest.approx(min(costs))
    assert changed  # the others did learn from it, so the test would have seen a leak


def test_a_use_that_was_never_told_of_is_named(release):
    told = lengths_of(release)
    tuned = np.array([place for place, one in enumerate(release.setups) if not one.frozen])
    with pytest.raises(ValueError, match="nothing was learnt of True, but of 1 other cells"):
        options.taken(Table(("frozen",), 0.1), told.part(tuned), told)


# The job.


@pytest.mark.parametrize(("left", "named"), [("AB", "2 data sets (A, B)"), ("C", "1 data sets (C)")])
def test_fewer_than_three_data_sets_are_refused_at_once_with_how_many_there_are(tmp_path, capsys, monkeypatch, left, named):
    folder = publish(tmp_path)
    for name, column in ((released.DOWNSTREAM, 1), (released.ROBUSTNESS, 0)):
        head, *rest = csv.reader((folder / name).read_text().splitlines())
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([head, *(row for row in rest if row[column] in left)])
    monkeypatch.setattr(transfer_study, "studied", lambda release: pytest.fail("something was computed"))
    assert main(["transfer-study", f"study.uri={folder}"]) == 1
    assert f"study.uri={folder} has scores of {named}, 3 at least are needed" in capsys.readouterr().err


def kept_lengths(folder: Path, lengths: Sequence[int]) -> Path:
    """The release with the rows of these lengths alone."""
    for name, column in ((released.DOWNSTREAM, "pretraining length"), (released.ROBUSTNESS, "pretraining_length")):
        head, *rest = csv.reader((folder / name).read_text().splitlines())
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([head, *(row for row in rest if int(row[head.index(column)]) in lengths)])
    return folder


@pytest.mark.parametrize("kept", [(0, 100), (0, 10, 100)])
def test_a_budget_that_no_length_fits_has_an_empty_cell(tmp_path, kept):
    out = tmp_path / "study.json"
    folder = kept_lengths(publish(tmp_path), kept)
    assert main(["transfer-study", f"study.uri={folder}", "output.format=json", f"output.path={out}"]) == 0
    rows = [row for row in map(json.loads, out.read_text().splitlines()) if row["rule"] == "single scores by patience, in sample"]
    assert [row["regret"] is None for row in rows] == [budget < kept[1] for budget in oracles.BUDGETS]
    assert main(["transfer-study", f"study.uri={folder}"]) == 0  # and so it does as a table


def test_one_seed_alone_has_no_oracle_on_a_seed_held_out(tmp_path):
    found = [list(oracles.oracles(released.read(publish(tmp_path / str(many), seeds=range(many)))))
             for many in (1, 2)]  # fmt: skip
    assert ["oracle, held-out seed" in {row["rule"] for row in rows} for rows in found] == [False, True]


def test_the_job_gives_the_tables_as_rows_and_a_verdict_on_this_release_alone(tmp_path, caplog):
    out = tmp_path / "study.json"
    drawn = tmp_path / "study.svg"
    asked = ["transfer-study", f"study.uri={publish(tmp_path)}", "output.format=json", f"output.path={out}", f"study.picture={drawn}"]
    assert main(asked) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["table"] for row in rows} == {"baselines", "frontier", "ours", "curve", "bounds", "gains", "uses"}
    than = {row["table"]: row["than"] for row in rows}  # of a table's last row
    assert (than["baselines"], than["ours"], than["curve"], than["gains"], than["frontier"]) == (
        "the longest", "the longest", None, "fixed lengths, mixed", None,
    )  # fmt: skip
    assert all(bool(row["how"]) == (row["table"] in ("curve", "bounds", "gains", "uses")) for row in rows)
    names = {row["rule"].partition(":")[0] for row in rows if row["table"] in ("curve", "bounds")}
    assert names <= {text.text for text in ElementTree.parse(drawn).iter("{http://www.w3.org/2000/svg}text")}
    by_name = {row["rule"]: row for row in rows if row["table"] in ("baselines", "ours")}
    kept = [row["rule"].rpartition(" ")[2] for row in rows if row["rule"].startswith("online, ")]
    assert kept == ["best", "last"] * 3
    frozen, tuned = 0, (0.8 - 0.7) / (0.8 - 0.5)  # of the last; the best, after 10 epochs, has 1/2 and 0 (patience 1 sees 100 first)
    assert by_name["online, patience 1, keep last"]["regret"] == pytest.approx((frozen + tuned) / 2)
    assert by_name["online, patience 1, keep best"]["regret"] == pytest.approx((1 / 2 + 0) / 2)
    assert by_name["always 10"]["regret"] == pytest.approx(0.25)
    assert by_name["declared: pooled, epochs, regret+tis"]["regret"] == 0
    assert by_name["declared: pooled, epochs, regret+tis"]["epochs"] == 55
    assert (
        next(row["epochs"] for row in rows if row["rule"] == "oracle per setup: as good as the longest") == 25
    )  # fine-tuned 10, frozen 100 for one in three
    said = next(line for line in caplog.messages if line.startswith("goal:"))
    assert "The longest pre-training has 0.167. TIS and regret are of the mean Dice over seeds." in said
    assert not re.search(r"0\.158|0\.125|marks", said)  # of the published release, which this is not


def test_a_monitor_that_hears_levels_ends_where_its_rule_in_words_says(tmp_path):
    """Three levels of which two rise from the first length on: a majority is past a patience of 1 after 10 epochs, of 2 after 100."""

    def rising(encoder: str, level: int, length: int) -> float:
        return robustness_of(encoder, level, length) if level == LEVELS[encoder] - 1 else float(length)

    release = released.read(publish(tmp_path, robustness=rising))
    place = release.setups.index(Setup("A", "resnet50", "simple", True))
    levels = (-3, -2, -1)
    found = {
        patience: tradeoff.halted(TransferConfig(score="vote", levels=levels, patience=patience), release, place) for patience in (1, 2)
    }
    assert {patience: LENGTHS[last] for patience, (_, last) in found.items()} == {1: 10, 2: 100}
    # Mean ranks until 10 epochs: after 1, (2 + 1 + 1) / 3, after 10, (1 + 2 + 2) / 3.
    assert found[1][0] == LENGTHS.index(1)


def test_the_job_says_in_a_sentence_that_there_is_no_release(tmp_path, capsys):
    assert main(["transfer-study", f"study.uri={tmp_path / 'nowhere'}"]) == 1
    assert "downstream_scores.csv does not exist; expected the scores released with arXiv 2410.18677" in capsys.readouterr().err


def test_scores_in_a_bucket_are_not_read_and_said_to_lie_where_they_were_named(capsys):
    assert main(["transfer-study", "study.uri=s3://nobody/x"]) == 1
    assert "study.uri='s3://nobody/x': released scores are read from a folder of the machine" in capsys.readouterr().err


def test_a_picture_by_another_name_than_svg_is_refused_before_anything_is_read(tmp_path, capsys):
    assert main(["transfer-study", f"study.uri={tmp_path}", f"study.picture={tmp_path / 'x.png'}"]) == 2
    assert "x.png' would be an SVG: expected a name that ends with .svg" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# Many curves as one, by the made-up release: three levels, of which Swin has two, and only the second deepest ever changes.


@pytest.mark.parametrize(
    ("levels", "seen"),
    [(1, [1, 1, 1, 1, 1]), (2, [1, 1, 1, 2, 2]), (3, [1, 1, 2, 3, 3]), (4, [1, 2, 3, 3, 4]), (5, [1, 2, 3, 4, 5])],
)
def test_a_depth_is_the_level_so_far_down_the_encoder(levels, seen):
    """Of five and four levels those of the released encoders; the curve of a level is its number."""
    setups = tuple(Setup("A", encoder, "simple", True) for encoder in ("resnet50", "swin_transformer"))
    counted = {  # the first has five levels
        Variant(level=level): np.outer([level + 6, level + levels + 1 if level >= -levels else np.nan], np.ones(3))
        for level in range(-5, 0)
    }
    (found,) = released.depths(Release(setups, np.array(LENGTHS), np.ones((2, 4, 1)), np.ones((2, 4)), counted)).values()
    assert found[..., 0].T.tolist() == [[1, 2, 3, 4, 5], seen]
    assert (found == found[..., :1]).all()


KINDS = {
    ("cosine_distance", 0.5, True): 1,
    ("cosine_distance", 0.5, False): 2,
    ("cosine_distance", 0.1, True): 3,
    ("l2_loss", 0.5, True): 4,
}


def of_many_kinds(release: Release) -> Release:
    """With two distances, two margins and curves that are not pooled; each curve is the number of its kind throughout."""
    levels = {one.level: curve for one, curve in release.robustness.items()}
    found = {Variant(*kind, level): curve * 0 + number for kind, number in KINDS.items() for level, curve in levels.items()}
    return replace(release, robustness=found)


def test_depths_are_of_one_distance_one_margin_and_pooled_or_not(release):
    found = released.depths(of_many_kinds(release))
    assert {kind: (len(curves), set(curves.ravel())) for kind, curves in found.items()} == {
        kind: (5, {number}) for kind, number in KINDS.items()
    }


def test_what_is_heard_together_is_of_the_authors_distance_and_margin_pooled_or_not(release):
    usual = aggregates.usual(of_many_kinds(release))
    assert sorted(usual[:, 0, 0]) == [1] * 5 + [2] * 5


def test_all_depths_have_an_equal_part_in_what_is_heard_together(release):
    usual = aggregates.usual(release)
    assert usual.shape == (5, len(release.setups), 3)
    middle = rankdata([0.5, 0.3, 0.4])
    for place, setup in enumerate(release.setups):
        share = (3 if setup.encoder == "swin_transformer" else 1) / 5  # of the level that changes; the others have rank 2
        assert aggregates.mean_rank(usual)[place] == pytest.approx(share * middle + (1 - share) * 2)
        assert aggregates.mean_z(usual)[place] == pytest.approx(share * zscore([0.5, 0.3, 0.4]))


def test_the_prior_for_late_models_is_told_by_the_other_data_sets(tmp_path):
    """Where the longest is best, the least b that takes it; on a data set whose own Dice says otherwise the others decide."""

    def late(dataset, model, scheme, frozen, length, seed):
        return LENGTHS.index(length) / 10 + 0.1 if dataset != "C" else 0.9 - LENGTHS.index(length) / 10

    release = released.read(publish(tmp_path, dice=late))
    scaled = aggregates.mean_z(aggregates.usual(release))
    chosen = release.lengths[1 + aggregates.late_prior(scaled, release).argmin(axis=1)]
    assert {length for length, one in zip(chosen, release.setups, strict=True) if one.dataset == "C"} == {100}
    logs, (a, b, c) = np.log([1, 10, 100]), np.array([one.dataset for one in release.setups]) == np.array([["A"], ["B"], ["C"]])
    regret = stopping.regrets(release.performance)[:, 1:]
    for mine, others in ((a, b | c), (b, a | c), (c, a | b)):  # by brute force
        held = [scaled - tenth / 10 * logs for tenth in range(51)]
        lost = [np.mean([regret[place, one[place].argmin()] for place in np.flatnonzero(others)]) for one in held]
        assert np.allclose(aggregates.late_prior(scaled, release)[mine], held[int(np.argmin(np.round(lost, 9)))][mine])


def test_the_best_variant_is_that_of_the_other_data_sets(release):
    """Half way down all encoders have the level that tells; fine-tuned it takes the best."""
    assert (aggregates.best_variant(release) == release.robustness[Variant()]).all()


# The trade-off.


def curves(release: Release) -> dict[str, tradeoffs.Curve]:
    return {one.name: one for one in tradeoff.curves(release, told(release), stopping.drawn(release))}


def held_to_definitions(release: Release) -> None:
    """What is drawn of robustness is by the monitor; the definition in words of the same rule is in `stopping`."""
    found, performance = curves(release), release.performance
    for kept, name in ((True, "robustness by patience, last kept"), (False, "robustness by patience, best kept")):
        assert [int(one.told) for one in found[name].points] == list(tradeoff.PATIENCES)
        for one in found[name].points:
            worth = stopping.worth(
                stopping.online(release.robustness[Variant()], release.lengths, int(one.told), kept), performance, stopping.drawn(release)
            )
            assert one[:3] == pytest.approx((worth.epochs, worth.regret, worth.tis))
        assert len(found[name].also) == len(tradeoff.PATIENCES) * len(tradeoff.GAINS)
    for length, one in zip(release.lengths, found["fixed lengths"].points, strict=True):
        assert one.epochs == length
    for one in found["fixed lengths, mixed"].points:
        assert one.regret == pytest.approx(frontier.mixture(stopping.regrets(performance), release.lengths, one.epochs))
    best = found["oracle per setup"].points
    for one in (point for curve in found.values() for point in [*curve.points, *curve.also]):  # nothing passes the oracle
        assert one.regret >= max(above.regret for above in best if above.epochs >= one.epochs or above == best[-1]) - 1e-9


def test_the_points_of_the_trade_off_are_those_of_the_rules_by_their_definitions(release):
    held_to_definitions(release)


def test_a_least_gain_that_nothing_reaches_ends_after_patience(release):
    """Robustness falls by 0.2 after 10 epochs and rises again: by a least gain of 0.25 nothing ever got better."""
    stop = [tradeoff.halted(TransferConfig(score="robustness", levels=(-2,), patience=1, min_delta=gain), release, 0) for gain in (0, 0.25)]
    assert [LENGTHS[last] for _, last in stop] == [100, 10]


def test_a_data_set_has_no_part_in_the_points_of_our_rule_on_it(tmp_path):
    """Its Dice turned upside down changes what the rule is worth there, and not where it stops."""

    def turned(dataset, *rest):
        return 1 - dice_of(dataset, *rest) if dataset == "C" else dice_of(dataset, *rest)

    plain, other = (released.read(publish(tmp_path / name, dice=dice)) for name, dice in (("a", dice_of), ("b", turned)))
    found, rules = [], foresight.candidates(tradeoff.CHOSEN, without="dataset")
    for release in (plain, other):
        mine = [place for place, one in enumerate(release.setups) if one.dataset == "C"]
        found.append([stops[mine].tolist() for stops, _ in foresight.nested(rules, told(release), tradeoff.PRICES)])
        drawn = curves(release)["ours, by price of an epoch"].points
        paid = [release.lengths[stops].mean() for stops, _ in foresight.nested(rules, told(release), tradeoff.PRICES)]
        assert [one.epochs for one in drawn] == pytest.approx(paid)
    assert found[0] == found[1]


def test_the_picture_has_every_point_where_it_belongs_the_better_end_up():
    steep = tradeoffs.Curve("steep & short", "known", [tradeoffs.Point(0, 1.0, 0.0, "a"), tradeoffs.Point(10, 0.0, 1.0, "b")])
    flat = tradeoffs.Curve(
        "flat", "known", [tradeoffs.Point(0, 0.5, 0.5), tradeoffs.Point(20, 0.5, 0.5)], also=(tradeoffs.Point(5, 0.25, 0.75),)
    )
    regret, tis = (tradeoffs.panel([steep, flat], quantity) for quantity in (tradeoffs.REGRET, tradeoffs.TIS))
    middle, bottom = tradeoffs.WIDE / 2, tradeoffs.TALL
    for panel in (regret, tis):
        assert panel.places[0] == [(0, pytest.approx(bottom), "a"), (pytest.approx(middle), pytest.approx(0), "b")]
        assert panel.places[1][1][:2] == pytest.approx((tradeoffs.WIDE, bottom / 2))
    assert regret.dots == [[], [pytest.approx((middle / 2, bottom / 4))]]
    assert [tick.label for tick in regret.y] == ["0", "0.25", "0.5", "0.75", "1"]
    assert [tick.at for tick in regret.y] == pytest.approx([100, 75, 50, 25, 0])
    root = ElementTree.fromstring(tradeoffs.picture([steep, flat], "a < b"))
    said = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert said.count("steep & short") == said.count("a") == 2
    with pytest.raises(ValueError, match="the curve 'none' has no points"):
        tradeoffs.picture([tradeoffs.Curve("none", "", [])], "")


def test_the_corner_of_a_goal_stands_where_its_epochs_and_values_are_in_both_panels():
    curve = tradeoffs.Curve("one", "", [tradeoffs.Point(0, 1.0, 0.0), tradeoffs.Point(100, 0.0, 1.0)])
    goal = tradeoffs.Point(50, 0.25, 0.5, "the goal")
    found = [tradeoffs.panel([curve], shown, goal).goal for shown in (tradeoffs.REGRET, tradeoffs.TIS)]
    middle, tall = tradeoffs.WIDE / 2, tradeoffs.TALL
    assert found == [(pytest.approx(middle), pytest.approx(part * tall), "the goal") for part in (0.25, 0.5)]
    far = tradeoffs.Point(200, -1.0, 2.0, "the goal")
    assert tradeoffs.panel([curve], tradeoffs.REGRET, far).goal == (pytest.approx(2 * middle), pytest.approx(0), "the goal")
    assert tradeoffs.picture([curve], "", goal).count(">the goal<") == 2
    assert "the goal" not in tradeoffs.picture([curve], "")


def test_a_bar_is_what_a_point_is_held_against_with_the_ends_of_its_difference():
    """Regret .4, by .1 less than .5 has; the difference may be from -.25 to +.05, so regret from .25 to .55."""
    ends = tradeoffs.Point(0, 1.0, 0.0), tradeoffs.Point(100, 0.0, 1.0)
    barred = tradeoffs.Point(50, 0.4, 0.9, "", (-0.1, -0.25, 0.05), (0.1, 0.0, 0.1))
    found = [tradeoffs.panel([tradeoffs.Curve("one", "", [*ends, barred])], shown).bars for shown in (tradeoffs.REGRET, tradeoffs.TIS)]
    tall = tradeoffs.TALL
    assert found[0] == [[pytest.approx((tradeoffs.WIDE / 2, 0.25 * tall, 0.55 * tall))]]
    assert found[1] == [[pytest.approx((tradeoffs.WIDE / 2, 0.2 * tall, 0.1 * tall))]]  # TIS .8 to .9


@given(st.lists(st.tuples(st.floats(0, 99), st.floats(0, 99), st.sampled_from(["1", "0, 0.5"])), min_size=1, max_size=12))
def test_what_is_told_of_points_hides_no_point_and_nothing_else_that_is_told(places):
    (labels,) = tradeoffs.legible([places], ["above"])
    boxes = [tradeoffs.boxed(label) for label in labels]
    assert not any(tradeoffs.overlap(one, other) for one, other in itertools.combinations(boxes, 2))
    assert not any(left < x < right and top < y < bottom for left, top, right, bottom in boxes for x, y, _ in places)
    alone = tradeoffs.legible([[one] for one in places[:1]], ["below"])
    assert alone == [[(places[0][0], places[0][1] + 14, "middle", places[0][2])]]
    assert tradeoffs.legible([places], ["none"]) == [[]]


@given(st.lists(st.floats(0, tradeoffs.TALL), min_size=1, max_size=9))
def test_names_stand_apart_in_the_order_of_their_lines(ends):
    names = tradeoffs.spread(ends)
    order = sorted(range(len(ends)), key=lambda place: ends[place])
    assert all(names[below] - names[above] >= tradeoffs.APART - 1e-9 for above, below in itertools.pairwise(order))
    assert -1e-9 <= min(names) <= max(names) <= tradeoffs.TALL + 1e-9
    if all(abs(one - other) >= tradeoffs.APART for one, other in itertools.combinations(ends, 2)):
        assert names == ends


def test_points_that_are_one_are_told_of_together():
    point = tradeoffs.Point(1, 0.5, 0.9, "7")
    assert tradeoffs.merged([point, point._replace(told="8"), point._replace(epochs=2)]) == [
        point._replace(told="7, 8"), point._replace(epochs=2),
    ]  # fmt: skip


# What was made of the real release, and the release itself where there is one: in the folder that ENDOCURATE_RELEASED names, or beside the
# checkout; expected is the table of the earlier study, as printed. No part of the release is kept here: its repository states no licence
# under which it could be given on. Without it these are skipped, but for those that hold README to docs/stopping.csv, our means over it;
# and the equations are held to the made-up release above, by hand, brute force and linear programming.

BASELINES = {
    "always 0": (0.9251, 0.7501, 0.792, 0),
    "always 1": (0.9366, 0.7551, 0.710, 1),
    "always 5": (0.9627, 0.8671, 0.494, 5),
    "always 20": (0.9701, 0.8350, 0.425, 20),
    "always 50": (0.9781, 0.8819, 0.339, 50),
    "always 100": (0.9830, 0.9318, 0.308, 100),
    "always 150": (0.9865, 0.9410, 0.245, 150),
    "always 200": (0.9907, 0.9519, 0.206, 200),
    "always 250": (0.9932, 0.9608, 0.173, 250),
    "always 300": (0.9943, 0.9742, 0.132, 300),
    "offline": (0.9888, 0.9410, 0.239, 300),
    "offline mean_rank": (0.9854, 0.9364, 0.279, 300),
    "offline mean_z": (0.9812, 0.9282, 0.384, 300),
    "offline best_variant": (0.9652, 0.7551, 0.350, 300),
    "offline late_prior": (0.9946, 0.9742, 0.129, 300),
    "random": (0.9772, None, 0.337, 120),
    "online 1 best": (0.9565, 0.755, 0.554, 32),
    "online 1 last": (0.9727, 0.867, 0.415, 32),
    "online 2 best": (0.9612, 0.755, 0.562, 107),
    "online 2 last": (0.9789, 0.835, 0.318, 107),
    "online 3 best": (0.9685, 0.755, 0.411, 192),  # printed as .412; it is .41146
    "online 3 last": (0.9859, 0.882, 0.210, 192),
}
MORE_REGRET = {"always 20": (0.175, 0.408), "always 100": (0.105, 0.253), "always 250": (-0.010, 0.093), "offline": (0.026, 0.190)}
MORE_REGRET |= {"offline late_prior": (-0.018, 0.005), "offline mean_rank": (0.057, 0.246), "offline mean_z": (0.116, 0.406)}
MORE_REGRET |= {"offline best_variant": (0.101, 0.353)}
MORE = {  # of regret and of TIS than the longest has
    "offline": (0.107, -0.0055),
    "offline mean_rank": (0.146, -0.0089),
    "offline mean_z": (0.252, -0.0131),
    "offline best_variant": (0.218, -0.0292),
    "offline late_prior": (-0.003, 0.0003),
}


def heard(name: str, release: Release) -> np.ndarray:
    usual = aggregates.usual(release)
    known = {"mean_rank": aggregates.mean_rank, "mean_z": aggregates.mean_z}
    if name in known:
        return known[name](usual)
    return aggregates.late_prior(aggregates.mean_z(usual), release) if name == "late_prior" else aggregates.best_variant(release)


def stop_of(name: str, release: Release) -> stopping.Stop:
    curve, (kind, *rest) = release.robustness[Variant()], name.split()
    if kind == "always":
        return stopping.always(release.lengths.tolist().index(int(rest[0])), 36, release.lengths)
    if kind == "online":
        return stopping.online(curve, release.lengths, int(rest[0]), rest[1] == "last")
    if kind == "offline":
        return stopping.offline(heard(rest[0], release) if rest else curve, release.lengths)
    return stopping.by_chance(36, release.lengths)


def test_the_real_release_is_whole(real):
    assert len(real.setups) == 36
    assert real.dice.shape == (36, 10, 5)
    assert len(real.robustness) == 150
    depths = released.depths(real)
    assert sum(map(len, depths.values())) == 150  # as many: all encoders have every depth
    assert not any(np.isnan(curves).any() for curves in depths.values())
    assert (depths[Variant()[:3]][3] == real.robustness[Variant()]).all()  # the level of the authors
    assert np.isnan(real.dice).sum() == 21  # cells of four seeds; none of them at 0 epochs, which both schemes share
    assert (np.diff(real.accuracy) > 0).all()  # why the monitor gives what is like it, the loss, no vote


@pytest.mark.parametrize("name", BASELINES)
def test_the_table_of_baselines_is_that_of_the_earlier_study(real, name):
    found = stopping.worth(stop_of(name, real), real.performance, stopping.drawn(real))
    tis, least, regret, epochs = BASELINES[name]
    assert round(found.tis, 4) == tis
    assert least is None or round(found.least_tis, 3 if name.startswith("online") else 4) == least
    assert round(found.regret, 3) == regret
    assert round(found.epochs) == epochs
    if name in MORE:
        assert (round(found.more_regret[0], 3), round(found.more_tis[0], 4)) == MORE[name]
    if name in MORE_REGRET:  # how the earlier study drew is not known to the last detail
        assert found.more_regret[1:] == pytest.approx(MORE_REGRET[name], abs=0.02)


FRONTIER = {
    ("dataset", "encoder", "scheme", "frozen"): (0.235, 0.181, 0.148, 0.108, 0.072, 0.041, 0.007, 0.000),
    ("dataset", "encoder", "scheme"): (None, 0.291, 0.264, 0.225, 0.185, 0.158, 0.114, 0.085),
    ("encoder", "frozen"): (0.292, 0.256, 0.224, 0.196, 0.163, 0.119, 0.081, 0.071),
}
BUDGETS = (10, 20, 30, 50, 75, 100, 150, 200)


TIS_OF_ORACLE = (0.9757, 0.9822, 0.9868, 0.9886, 0.9936, 0.9960, 0.9995, 1.000)  # per setup, by regret


def test_the_oracles_by_tis_and_with_a_cap_are_those_of_the_earlier_study(real):
    rows = list(oracles.oracles(real))
    by = {(row["rule"], row["epochs"]): row for row in rows}
    assert [round(by["oracle per setup", budget]["tis"], 4) for budget in BUDGETS] == list(TIS_OF_ORACLE)
    match = {row["rule"].partition(":")[0]: row["epochs"] for row in rows if row["rule"].endswith(oracles.AS_GOOD)}
    assert (match["fixed, mixed"], round(match["oracle per setup by TIS"])) == (300, 65)
    assert round(by["oracle per setup by TIS", 30]["tis"], 4) == 0.9876
    caps = {cap: next(row for row in rows if f"{oracles.CAPPED} at {cap}:" in row["rule"]) for cap in oracles.CAPS}
    assert {cap: by[oracles.CAPPED, cap]["regret"] for cap in caps} == {cap: row["regret"] for cap, row in caps.items()}
    assert [caps[cap]["regret"] for cap in (20, 50, 100)] == pytest.approx([0.216, 0.150, 0.110], abs=1e-3)  # .1495 is .149 here
    assert [round(caps[cap]["epochs"]) for cap in (50, 100)] == [34, 59]


@pytest.mark.parametrize(("fields", "match"), zip(FRONTIER, (37, 128, 92), strict=True))
def test_the_oracles_are_those_of_the_earlier_study(real, fields, match):
    regret = stopping.regrets(real.performance)
    found = frontier.grouped(regret, real.lengths, released.numbered(real.setups, fields))
    for budget, expected in zip(BUDGETS, FRONTIER[fields], strict=True):
        assert expected is None or found.least[36 * budget] / 36 == pytest.approx(expected, abs=1e-3)
    assert frontier.epochs_to_reach(found.least / 36, regret[:, -1].mean(), 36) == pytest.approx(match, abs=0.51)


def test_fixed_lengths_and_the_oracle_of_other_seeds_are_those_of_the_earlier_study(real):
    mixed = [frontier.mixture(stopping.regrets(real.performance), real.lengths, budget) for budget in BUDGETS]
    assert np.round(mixed, 3).tolist() == [0.471, 0.425, 0.396, 0.339, 0.315, 0.292, 0.245, 0.206]
    rows = [row["epochs"] if "good" in row["rule"] else row["regret"] for row in oracles.other_seeds(real)]
    assert np.round(rows[:6] + rows[7:8], 3).tolist() == [0.239, 0.201, 0.169, 0.129, 0.090, 0.059, 0.020]  # 150 epochs were not printed
    assert rows[-1] == pytest.approx(46.64, abs=0.01)  # there "about 47", read as the mean over seeds of what each takes


def test_single_scores_are_near_those_of_the_earlier_study(real):
    """It tried 34,615 distinct rules and names more kinds than ours, without parameters: it found better ones mostly, not at 150."""
    rows = list(oracles.single_scores(real))
    ours, theirs = [row["regret"] for row in rows[:-1]], [0.417, 0.368, 0.345, 0.299, 0.284, 0.256, 0.206, 0.159]
    assert np.round(ours, 3).tolist() == [0.417, 0.368, 0.349, 0.332, 0.285, 0.258, 0.203, 0.158]
    assert np.round(ours, 3) == pytest.approx(np.array(theirs), abs=0.033 + 1e-9)
    assert round(rows[-1]["epochs"]) == 242  # there 242, too


def test_our_rule_on_the_real_release_is_worth_what_is_claimed(real):
    """The declared rule misses the goal; what does best among those with nothing to tune was seen on the data sets left out."""
    regret, tis, everyone = stopping.regrets(real.performance), stopping.ratios(real.performance), np.arange(36)
    figures = {}
    for name, rule in {"declared": Rule(), "best seen": Rule(("encoder", "frozen"), losses=("regret",), pooled=False)}.items():
        stops = foresight.left_out(rule, told(real))
        figures[name] = (regret[everyone, stops].mean(), tis[everyone, stops].mean(), real.lengths[stops].mean())
    assert figures["declared"] == pytest.approx((0.1628, 0.9914, 225.3), rel=1e-3)
    study = transfer_study.studied(real)
    rows = [study.stopped("ours", "declared", foresight.left_out(Rule(), told(real)))]
    rows += [row | {"table": "uses"} for row in tradeoff.rows([uses.curve(one, real, study.draws) for one in uses.dials(real)])]
    said = transfer_study.verdict(rows, [], study)
    beside = "by the declared rule; by that table with its rate chosen on the other data sets at"
    assert f"0.125 at 114 (a table whose trade-off was seen on the test) is not beaten {beside} none of the prices" in said
    assert f"0.158 at 187 (the same, tuned without it) is not beaten {beside} 0 and 0.5 and 1 and 2 of the prices 0, 0.5, 1, 2, 4" in said
    assert figures["best seen"] == pytest.approx((0.1163, 0.9933, 186.9), rel=1e-3)


def figures(release: Release) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Epochs, regret and TIS of what is told by encoder and use."""
    regret, tis, everyone = stopping.regrets(release.performance), stopping.ratios(release.performance), np.arange(36)
    return {
        dial.name: {
            told: (
                round(release.lengths[stops].mean(), 1),
                round(regret[everyone, stops].mean(), 3),
                round(tis[everyone, stops].mean(), 4),
            )
            for told, stops in dial.stops.items()
        }
        for dial in uses.dials(release)
    }


def test_the_table_by_encoder_and_use_is_that_of_the_earlier_study(real):
    """Its six points, as printed: regret .137, .120, .125, .238, .285, .315 at 187, 134, 114, 62, 44, 22 epochs."""
    found = figures(real)[f"{uses.TABLE}, by rate"]
    assert [(round(epochs), regret) for epochs, regret, _ in found.values()] == [
        (187, 0.137), (134, 0.120), (114, 0.125), (62, 0.238), (44, 0.285), (22, 0.315),
    ]  # fmt: skip
    assert (found["0.15"][2], found["0.3"][2]) == (0.9905, 0.9902)


def test_what_encoder_and_use_tell_is_worth_what_is_claimed(real):
    """With the cells chosen, too, the table is worth no more than the declared rule; no TIS reaches that of the goal."""
    found = figures(real)
    assert [found[uses.CHOSEN][price] for price in ("0", "0.5", "1", "2", "4")] == [
        (186.7, 0.137, 0.9927), (147.8, 0.117, 0.9914), (136.7, 0.117, 0.9915), (108.9, 0.13, 0.9888), (36.4, 0.297, 0.9798),
    ]  # fmt: skip
    assert [found[f"{uses.TABLE}, the price its rate"][price][:2] for price in ("0.5", "1", "2")] == [
        (178.3, 0.151), (133.9, 0.12), (125.6, 0.124),
    ]  # fmt: skip
    assert found["table, cells and rate chosen, by price"]["1"] == (225.3, 0.164, 0.9915)
    assert [found[f"vote, {who}, by price"]["1"][:2] for who in ("one patience for all", "patience by frozen")] == [
        (266.7, 0.194), (265.3, 0.142),
    ]  # fmt: skip
    assert [found["vote, patience by encoder and frozen, by price"][price][:2] for price in ("0", "1", "2", "4")] == [
        (216.2, 0.102), (213.5, 0.104), (191.0, 0.102), (71.2, 0.327),
    ]  # fmt: skip
    assert not [one for dial in found.values() for one in dial.values() if one[2] >= transfer_study.GOAL_TIS and one[0] <= 150]


def test_a_vote_of_levels_on_the_real_release_is_about_a_fixed_length_of_as_many_epochs(real):
    regret = stopping.regrets(real.performance)
    rows = {row["rule"]: row for row in transfer_study.live(transfer_study.studied(real))}
    votes = [rows[f"live, vote of levels, patience {patience}, keep last"] for patience in (1, 2, 3)]
    assert [(round(row["tis"], 3), round(row["regret"], 3), round(row["epochs"])) for row in votes] == [
        (0.973, 0.424, 28), (0.984, 0.3, 106), (0.99, 0.212, 178),
    ]  # fmt: skip
    assert [round(frontier.mixture(regret, real.lengths, row["epochs"]), 3) for row in votes] == [0.402, 0.286, 0.223]
    assert all(row["regret"] < rows[row["rule"].replace("last", "best")]["regret"] for row in votes)


def with_accuracy(release: Release, place: int, patience: int) -> int:
    """Where a vote ends a setup that hears, beside levels of robustness, the accuracy on ImageNet: what the release has like a loss."""
    levels = {f"robustness/{one.level}": curve[place] for one, curve in release.robustness.items() if one[:3] == Variant()[:3]}
    heard = {name: curve for name, curve in levels.items() if not np.isnan(curve).any()} | {"loss": -release.accuracy[place, 1:]}
    monitor = Monitor(TransferConfig(score="vote", levels=tradeoff.levels(release), patience=patience))
    scores = {name: dict(enumerate(curve.tolist(), 1)) for name, curve in heard.items()}
    monitor.load_state_dict({"scores": scores, "gaps": {}, "seconds": dict.fromkeys(range(1, len(release.lengths)), 0.0)})
    return monitor.stopped or len(release.lengths) - 1


def test_a_vote_with_what_is_like_a_loss_is_worth_what_is_said_of_it(real):
    draws, said = stopping.drawn(real), {"left": prose("docs", "left.md"), "monitor": prose("engine", "monitor.py")}
    found = []
    for patience in (1, 2, 3):
        stop = stopping.at(np.array([with_accuracy(real, place, patience) for place in range(36)]), real.lengths)
        found.append(tradeoff.held(real, stop, draws, str(patience)))
    more = [one.more_regret for one in found if one.more_regret]
    apart = [*more, *(one.more_tis for one in found if one.more_tis)]
    assert [low < 0 < high for _, low, high in apart] == [True] * 6
    regret, mixed = (", ".join(short(value, 3) for value in values) for values in
                     ([one.regret for one in found], [one.regret - more[0] for one, more in zip(found, more, strict=True)]))  # fmt: skip
    epochs = ", ".join(f"{one.epochs:.0f}" for one in found)
    assert f"takes {epochs} epochs" in said["monitor"]
    assert f"for a regret of {regret} where lengths mixed to as many epochs have {mixed}" in said["monitor"]
    assert f"differs by {', '.join(short(one[0], 3) for one in more)} from that of mixed lengths" in said["left"]
    assert f"TIS by {short(max(abs(one[0]) for one in apart[3:]), 3)} at most" in said["left"]


def test_the_trade_off_on_the_real_release_is_the_one_that_is_pictured(real):
    """Regret and TIS, at mean epochs, of what docs/stopping.png shows."""
    held_to_definitions(real)
    found = curves(real)
    figures = {
        name: [(round(one.epochs), round(one.regret, 3), round(one.tis, 3)) for one in found[name].points if one.told in chosen]
        for name, chosen in {
            "ours, by price of an epoch": ("0", "1", "4", "8"),
            "vote of levels by patience, last kept": ("1", "2", "3", "7"),
            "robustness by patience, last kept": ("1", "2", "3", "7"),
            "fixed lengths": ("50", "150", "300"),
        }.items()
    }
    assert figures == {
        "ours, by price of an epoch": [(236, 0.165, 0.991), (211, 0.18, 0.989), (120, 0.202, 0.983), (73, 0.212, 0.982)],
        "vote of levels by patience, last kept": [(28, 0.424, 0.973), (106, 0.3, 0.984), (178, 0.212, 0.99), (300, 0.132, 0.994)],
        "robustness by patience, last kept": [(32, 0.415, 0.973), (107, 0.318, 0.979), (192, 0.21, 0.986), (300, 0.132, 0.994)],
        "fixed lengths": [(50, 0.339, 0.978), (150, 0.245, 0.987), (300, 0.132, 0.994)],
    }
    tables = stopping.regrets(real.performance), 1 - stopping.ratios(real.performance)
    beside = {}  # the mixture of fixed lengths with as many epochs
    for name, curve in found.items():
        mixtures = [[frontier.mixture(table, real.lengths, one.epochs) for table in tables] for one in [*curve.points, *curve.also]]
        more = [
            (one.regret - mixture[0], one.tis - 1 + mixture[1]) for one, mixture in zip([*curve.points, *curve.also], mixtures, strict=True)
        ]
        beside[name] = (np.min(more, axis=0).round(3).tolist(), np.max(more, axis=0).round(3).tolist())
    assert beside["robustness by patience, last kept"] == ([-0.026, -0.005], [0.044, 0.004])
    assert beside["vote of levels by patience, last kept"] == ([-0.011, -0.001], [0.027, 0.001])
    assert beside["ours, by price of an epoch"] == ([-0.105, -0.002], [-0.015, 0.002])
    worst = np.max([np.abs(beside[name]).max(axis=0) for name in beside if name.endswith("last kept")], axis=0) + 0.001
    assert "stay within {} of the regret and {} of the TIS of fixed".format(*(short(one, 3) for one in worst)) in prose("README.md")
    goal = stopping.regrets(real.performance)[:, -1].mean()
    assert [(round(one.epochs), np.round(one.more_regret, 3).tolist()) for one in found["ours, by price of an epoch"].points[::2]] == [
        (236, [-0.015, -0.056, 0.031]), (211, [-0.018, -0.067, 0.035]), (120, [-0.070, -0.148, 0.009]), (73, [-0.105, -0.199, -0.015]),
    ]  # fmt: skip
    learnt = [one for name, curve in found.items() if "oracle" not in name for one in [*curve.points, *curve.also]]
    assert not [one for one in learnt if one.regret <= goal and one.tis >= 0.994 and one.epochs <= 150]  # the goal is missed


# What README says of the real release, everywhere; and docs/stopping.csv where the release is.

SUMMARY = ROOT / "docs" / "stopping.csv"
FIGURES = ("epochs", "regret", "tis", "least_tis", "more_regret", "regret_low", "regret_high", "more_tis", "tis_low", "tis_high")


def summary() -> dict[tuple[str, str], dict[str, float]]:
    """The figures of docs/stopping.csv by table and rule; of the frontier by budget, too."""
    with SUMMARY.open() as file:
        rows = list(csv.DictReader(file))
    names = [(row["table"], row["rule"] + f" @{row['epochs']}" * (row["table"] == "frontier")) for row in rows]
    assert len(set(names)) == len(names)
    return {name: {one: float(row[one]) for one in FIGURES if row[one]} for name, row in zip(names, rows, strict=True)}


def prose(*path: str) -> str:
    """The text of a file of ours on one line."""
    return " ".join(ROOT.joinpath(*path).read_text().split())


def short(value: float, digits: int) -> str:
    """As README writes numbers below 1: without the 0."""
    return f"{value:.{digits}f}".replace("0.", ".", 1)


def interval(row: dict[str, float], kind: str, digits: int) -> str:
    more, low, high = (short(row[name], digits) for name in (f"more_{kind}", f"{kind}_low", f"{kind}_high"))
    return f"{more} [{low}, {high}]"


def test_readme_says_of_stopping_what_the_study_came_to():
    found, readme = summary(), prose("README.md")
    for table, rule, words in (
        ("baselines", "always 300", "always the full length"),
        ("baselines", "offline, most robust", "the authors' robustness, all checkpoints scored"),
        ("baselines", "offline, mean z of depths, late prior", "a prior for late models whose weight other data sets tell"),
        ("baselines", "online, patience 2, keep last", "while training, patience 2, last checkpoint kept"),
        ("ours", "declared: pooled, epochs, regret+tis", "declared after simpler rules had been seen there"),
    ):
        row = found[table, rule]
        assert f"{words} | {short(row['tis'], 4)} | {short(row['regret'], 3)} | {row['epochs']:.0f} |" in readme
    late = found["baselines", "offline, mean z of depths, late prior"]
    assert f"(not told from the full length: {interval(late, 'regret', 3)} of regret, {interval(late, 'tis', 4)} of TIS)" in readme
    votes = [found["ours", f"live, vote of levels, patience {patience}, keep last"] for patience in (1, 2, 3)]
    curve = [found["curve", f"vote of levels by patience, last kept: {patience}"] for patience in (1, 2, 3)]
    epochs = " / ".join(f"{row['epochs']:.0f}" for row in votes)
    tis, regret = (" / ".join(short(row[kind], 3) for row in votes) for kind in ("tis", "regret"))
    mixed = " / ".join(short(row["regret"] - row["more_regret"], 3) for row in curve)
    assert f"last kept | {tis} | {regret} | {epochs} |" in readme
    assert f"fixed lengths, mixed to as many epochs | | {mixed} | {epochs} |" in readme
    best = found["frontier", "oracle per setup @150"]
    assert f"on average | {short(best['tis'], 4)} | {short(best['regret'], 3)} | 150 |" in readme
    longest = found["baselines", "always 300"]
    goal = f"regret {short(longest['regret'], 3)} and TIS {short(transfer_study.GOAL_TIS, 3)} at {transfer_study.GOAL_EPOCHS} epochs"
    assert f"**The goal is missed** ({goal}; stretch: 100)" in readme
    (seen, at), (tuned, then) = transfer_study.MARKS.values()
    assert f"regret {short(seen, 3)} at {at} epochs, of a table whose trade-off was seen on the test, is not beaten" in readme
    assert f"the second, {short(tuned, 3)} at {then}, of the same tuned without it, is" in readme
    assert f"of {len(transfer_study.scan())} settings of our rule scanned" in readme
    single = [found["frontier", f"single scores by patience, in sample @{budget}"]["regret"] for budget in BUDGETS]
    match = next(row["epochs"] for (_, rule), row in found.items() if rule.startswith("single scores by patience, in sample: "))
    assert f"({', '.join(short(one, 3) for one in single)} at 10 to 200 epochs and {match:.0f} to match" in readme
    for price in ("0", "1", "4", "8"):
        row = found["curve", f"ours, by price of an epoch: {price}"]
        assert f"{interval(row, 'regret', 3)} at {row['epochs']:.0f}" in readme
        assert abs(row["more_tis"]) <= 0.003
        assert row["tis_low"] < 0 < row["tis_high"]


def at(row: dict[str, float]) -> str:
    return f"{short(row['regret'], 3)} at {row['epochs']:.0f}"


def test_readme_says_of_encoder_and_use_what_the_study_came_to():
    found, readme = summary(), prose("README.md")
    table = {price: found["uses", f"{uses.CHOSEN}: {price}"] for price in ("0", "0.5", "1", "2", "4", "8", "16")}
    assert at(table["8"]) == at(table["16"])
    assert ", ".join(f"{at(row)} ({price}{' and 16' * (price == '8')})" for price, row in table.items() if price != "16") in readme
    full, row = found["ours", f"{uses.CHOSEN}: 1"], table["1"]
    beside = f"{interval(row, 'regret', 3)} of regret and {interval(row, 'tis', 4)} of TIS beside mixed lengths"
    assert f"{beside} of as many epochs, {interval(full, 'regret', 3)} and {interval(full, 'tis', 4)} beside the full" in readme
    (_, at_most), (mark, epochs) = transfer_study.MARKS.values()
    assert [price for price, row in table.items() if transfer_study.beats(row, mark, epochs)] == ["0", "0.5", "1", "2"]
    assert f"at price 0 by {table['0']['epochs']:.2f} epochs, against {epochs}" in readme
    assert not any(transfer_study.beats(row, 0.125, at_most) for row in table.values())
    cells = {price: found["uses", f"table, cells and rate chosen, by price: {price}"] for price in ("0", "0.5", "1", "2")}
    assert {at(cells[price]) for price in ("0", "0.5", "1")} == {".164 at 225"}
    assert f"they give .164 at 225 at prices 0 to 1, {at(cells['2'])} at 2" in readme
    for told, price in (("price 1", "1"), ("chosen too", "1")):
        one = table[price] if told == "price 1" else cells[price]
        assert f"{told} | {short(one['tis'], 4)} | {short(one['regret'], 3)} | {one['epochs']:.0f} |" in readme
    direct = {price: at(found["uses", f"{uses.TABLE}, the price its rate: {price}"]) for price in ("0.5", "1", "2")}
    assert ", ".join(f"{told} ({price})" for price, told in direct.items()) in readme


def test_readme_says_of_patience_by_use_what_the_study_came_to():
    found, readme = summary(), prose("README.md")
    who = ("one patience for all", "patience by frozen", "patience by encoder and frozen")
    votes = {price: [found["uses", f"vote, {one}, by price: {price}"] for one in who] for price in ("0", "0.5", "1", "2", "4", "8", "16")}
    for price in ("0", "1", "2", "4"):
        first, second, third = map(at, votes[price])
        assert f"{first}, {second} and {third} at{' price' * (price == '0')} {price}" in readme
    apart = {price: [not row["regret_low"] <= 0 <= row["regret_high"] for row in rows] for price, rows in votes.items()}
    assert [price for price, told in apart.items() if told[1]] == []
    assert [price for price, told in apart.items() if told[2]] == ["0", "0.5", "1", "2"]
    assert f"up to price 2 ({interval(votes['2'][2], 'regret', 3)} there)" in readme
    direct = {price: found["uses", f"vote, patience by frozen, the price its rate: {price}"] for price in votes}
    assert [at(row) for row in direct.values() if row["regret_high"] < 0] == [".125 at 239"]
    assert "itself taken at one of seven, 1: .125 at 239)" in readme
    lost = {price: interval(rows[0], "tis", 4) for price, rows in votes.items() if rows[0]["tis_high"] < 0}
    (worse,) = set(lost.values())
    assert list(lost) == ["0.5", "1", "2"]
    assert f"one patience for all is worse than mixed lengths at prices 0.5 to 2 ({worse})" in readme
    two, four = (interval(row, "tis", 4) for row in direct.values() if row["tis_high"] < 0)
    assert [price for price, row in direct.items() if row["tis_high"] < 0] == ["2", "4"]
    assert f"with the price itself taken at 2 ({two}) and 4 ({four})" in readme
    assert all(rows[2]["tis_low"] < 0 < rows[2]["tis_high"] for rows in votes.values())
    both = {price: at(found["uses", f"length or vote's patience by encoder and frozen, by price: {price}"]) for price in ("0", "1")}
    assert f"has {both['0']} at price 0 and {both['1']} at 1" in readme
    left = prose("docs", "left.md")
    assert f"in TIS worse than these at 2 and 4: {two}, {four}; so is one patience for all at .5 to 2: {worse})" in left
    assert f"that gives {at(votes['2'][1])} epochs up to price 2, {at(votes['4'][1])} at 4, {at(votes['8'][1])} from 8" in left
    assert f"by encoder and frozen it is ({at(votes['1'][2])} at price 1)" in left


def test_what_is_said_of_the_left_over_is_what_the_study_came_to():
    declared, best = summary()["ours", "declared: pooled, epochs, regret+tis"], summary()["ours", "encoder+frozen, epochs, regret"]
    left = prose("docs", "left.md")
    assert f"Our declared rule {at(declared)} epochs; of {len(transfer_study.scan())} settings" in left
    table = summary()["ours", f"{uses.CHOSEN}: 1"]
    assert f"frozen or not {at(table)} epochs (price 1, all else chosen on other data sets; {interval(table, 'regret', 3)} beside" in left
    assert f"with TIS {short(table['tis'], 4)}" in left
    assert f"does better, {short(best['regret'], 3)} at {best['epochs']:.0f}, was picked" in left


def test_the_page_of_the_study_has_its_rows(tmp_path):
    made = list(csv.DictReader(stopping_page.page(str(publish(tmp_path))).splitlines()))
    with SUMMARY.open() as file:
        assert list(made[0]) == next(csv.reader(file))
    assert {row["table"] for row in made} == {row for row, _ in summary()}
    by = {row["rule"]: row for row in made if row["table"] == "baselines"}
    assert (by["always 10"]["epochs"], by["always 10"]["regret"], by["random pre-trained"]["epochs"]) == ("10", "0.250000", "37")


def test_what_is_kept_of_the_study_is_what_the_released_scores_come_to(real):
    """As `python -m docs.stopping FOLDER` makes it; the last digit of a float is that of the machine."""
    made, kept = (list(csv.DictReader(text.splitlines())) for text in (stopping_page.page(str(TOLD or BESIDE)), SUMMARY.read_text()))
    assert [list(row) for row in made] == [list(row) for row in kept]
    for row, one in zip(made, kept, strict=True):
        assert {name: row[name] for name in row if name not in FIGURES} == {name: one[name] for name in one if name not in FIGURES}
        assert {name: float(row[name]) for name in FIGURES if row[name]} == pytest.approx(
            {name: float(one[name]) for name in FIGURES if one[name]}, abs=1e-6
        )
