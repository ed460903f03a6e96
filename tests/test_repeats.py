"""Pre-trainings that differ by their seed alone."""

import random
from dataclasses import replace

import pytest
from scipy import stats

from engine import report
from engine.knobs import amend
from engine.repeats import repeats, said
from engine.report import Findings
from engine.trails import CUT_HINDSIGHT
from jobs import transfer
from jobs.recipes import tiny
from tests.test_report import Page
from tests.test_trails import FULL, NONE, choice, trail

RULE, OTHER = "robustness, patience 3", "kNN, patience 1"
REGRETS = [(0.5, 0.1, 1.0), (0.2, 0.0, 0.9), (0.1, 0.4, 0.8)]  # of the full length, RULE and NONE, by seed


def several(**changes):
    """Three trails of one recipe, of seeds 2, 0 and 1."""
    made = []
    for seed, (full, rule, none) in enumerate(REGRETS):
        found = [measured(one, value) for one, value in zip((FULL, choice(), NONE), (full, rule, none), strict=True)]
        made.append(trail(recipe="r", seed=seed, choices=[*found, choice(OTHER)], **changes))
    return [made[2], made[0], made[1]]


def measured(one, regret):
    return replace(one, regret=(regret, regret, regret), tis=(1 - regret / 5, 0.0, 1.0), paid=one.paid + 10 * regret)


def test_a_rule_has_the_mean_over_pre_trainings_and_the_interval_of_students_t():
    (one,) = repeats(several())
    assert one.seeds == [0, 1, 2]
    by_rule = {rule.rule: rule for rule in one.choices}
    assert set(by_rule) == {FULL.rule, NONE.rule, RULE}  # none that was picked after the outcome was seen
    for name, place in ((FULL.rule, 0), (RULE, 1), (NONE.rule, 2)):
        values = [row[place] for row in REGRETS]
        low, high = stats.t.interval(0.95, 2, stats.tmean(values), stats.sem(values))
        assert by_rule[name].regret == pytest.approx((stats.tmean(values), max(low, 0), min(high, 1)))
        assert by_rule[name].tis[0] == pytest.approx(1 - stats.tmean(values) / 5)
    assert by_rule[RULE].epochs == [4, 4, 4]
    assert by_rule[RULE].paid == pytest.approx(6 + 10 * stats.tmean([row[1] for row in REGRETS]))
    assert [rule.regret[0] for rule in one.choices] == sorted(rule.regret[0] for rule in one.choices)


def test_the_order_of_trails_changes_nothing_but_of_two_of_one_seed_the_later_counts():
    some = several()
    assert repeats(random.Random(0).sample(some, 3)) == repeats(some)
    again = replace(some[0], choices=[measured(FULL, 0.9)])
    assert [rule.rule for rule in repeats([*some, again])[0].choices] == [FULL.rule]
    assert repeats([again, *some]) == repeats(some)


@pytest.mark.parametrize(
    "change",
    [{"recipe": "other"}, {"score": "rankme"}, {"setting": "another set"}, {"epochs": [0, 2, 4, 20], "choices": []}, {"recipe": ""}],
)
def test_what_differs_by_more_than_the_seed_is_not_told_together(change):
    first, *others = several()
    (one,) = repeats([replace(first, **change), *others])
    assert one.seeds == [0, 1]
    assert repeats([replace(first, **change), others[0]]) == []


def test_trails_of_before_and_two_of_one_seed_stand_alone():
    assert repeats([trail(), trail()]) == []
    assert repeats([trail(recipe="r"), trail(recipe="r")]) == []


def test_a_rule_that_one_of_them_does_not_know_is_left_out_and_without_the_full_length_nothing_is_held_against_it():
    first, *others = several()
    cut = replace(first, choices=[choice(), choice(CUT_HINDSIGHT)])
    (one,) = repeats([cut, *others])
    assert [rule.rule for rule in one.choices] == [RULE]
    assert said(one) == "Not all 3 ran to the full length, so nothing is held against it."


def test_only_a_rule_whose_interval_lies_apart_is_told_from_the_full_length():
    (one,) = repeats(several())
    assert said(one) == "Over these 3 pre-trainings the regret of the full length is 0.267. That of no rule is told from it."
    near = [
        replace(some, choices=[measured(FULL, 0.5 + seed / 1000), measured(NONE, 0.9 + seed / 1000)]) for seed, some in enumerate(several())
    ]
    assert said(*repeats(near)).endswith("Told from it is that of no pre-training.")


def test_the_page_tells_them_after_the_trails_and_nothing_of_the_kind_of_one():
    page = Page(report.render(Findings("t", "now", trails=several()))).words()
    assert "3 pre-trainings: vit_tiny on optidel-3f2a, 99 images" in page
    assert [page.count(f"99 images seed {one.seed}") for one in several()] == [1, 1, 1]
    assert "They differ by their seed alone: 0, 1, 2." in page
    assert "pre-trainings:" not in Page(report.render(Findings("t", "now", trails=[trail(recipe="r")]))).words()


def test_a_recipe_is_another_with_all_but_the_seed_of_the_pre_training():
    config = tiny()
    one = transfer.recipe(config, "s")
    assert transfer.recipe(amend(config, ["pretrain.seed=3"]), "s") == one
    others = [amend(config, [knob]) for knob in ("pretrain.epochs=3", "pretrain.mae.side=64", "transfer.score=knn", "transfer.patience=2")]
    assert len({one, transfer.recipe(config, "other"), *(transfer.recipe(other, "s") for other in others)}) == 6
