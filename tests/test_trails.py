import json
import math
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import report, trails, transfer
from engine.report import Findings
from engine.trails import Choice, Gap, Trail
from jobs.transfer import told
from tests.test_report import HOSTILE, Page


def choice(rule="robustness, patience 3", epochs=4, paid=6.0, **changes):
    return replace(Choice(rule, epochs, paid, 0.5, (0.98, 0.95, 1.0), (0.12, 0.0, 0.3)), **changes)


NONE = choice("no pre-training", 0, 0.0, tis=(0.82, 0.8, 0.85), regret=(1.0, 1.0, 1.0))
FULL = choice("the full length", 10, 10.0, saved_hours=0.0, tis=(0.99, 0.97, 1.0), regret=(0.06, 0.0, 0.2))


def trail(**changes):
    made = Trail(
        name="vit_tiny on optidel-3f2a, 99 images",
        score="robustness",
        lower=True,
        measure="Dice",
        setting="Kvasir-SEG: 200 images trained, 50 tested",
        epochs=[0, 2, 4, 10],
        scores=[0.4, None, 0.2, 0.3],
        performance=[[0.5, 0.7], [0.6, 0.7], [0.8, 0.9], [0.8, 1.0]],
        choices=[NONE, FULL, choice()],
        stopped=None,
        untrained=False,
    )
    return replace(made, **changes)


def one_seed(**changes):
    return trail(performance=[[0.5], [0.6], [0.8], [0.9]], choices=[FULL, choice()], **changes)


def words(one):
    return Page(report.render(Findings("t", "now", trails=[one]))).words()


def places(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_a_checkpoint_stands_at_its_epoch_and_at_the_mean_of_its_seeds():
    drawn = trails.drawn(trail())
    low, high = (float(drawn.performance.y[end].label) for end in (0, -1))
    means = np.array([0.6, 0.65, 0.85, 0.9])
    expected = np.c_[[0, 20, 40, 100], 100 - 100 * (means - low) / (high - low)]
    assert np.allclose(places(drawn.performance.path), expected, atol=0.01)
    assert places(drawn.performance.dots) == places(drawn.performance.path)
    assert [(tick.at, tick.label) for tick in drawn.x] == [(0, "0"), (50, "5"), (100, "10")]


def test_the_band_reaches_from_the_lowest_seed_to_the_highest():
    drawn = trails.drawn(trail()).performance
    low, high = (float(drawn.y[end].label) for end in (0, -1))
    corners = [tuple(map(float, corner.split(","))) for corner in drawn.band.split()]
    found = [(x / 10, low + (100 - y) / 100 * (high - low)) for x, y in corners]
    assert np.allclose(found, [(0, 0.7), (2, 0.7), (4, 0.9), (10, 1.0), (10, 0.8), (4, 0.8), (2, 0.6), (0, 0.5)], atol=1e-3)


@pytest.mark.parametrize("lower", [True, False])
def test_the_better_score_stands_higher_and_its_labels_agree(lower):
    drawn = trails.drawn(trail(lower=lower)).score
    assert drawn.path.count("M") == 2  # the checkpoint without a score is a gap
    heights = dict(zip([0.4, 0.2, 0.3], [100 - y for _, y in places(drawn.path)], strict=True))
    assert sorted(heights, key=heights.get) == sorted(heights, reverse=lower)
    at = {float(tick.label): tick.at for tick in drawn.y}
    assert all(heights[value] == pytest.approx(at[value], abs=0.01) for value in heights if value in at)
    assert set(at) & set(heights)


def test_every_rule_has_a_lane_of_its_own_in_the_order_of_the_table():
    drawn = trails.drawn(trail(choices=[NONE, FULL, choice(), choice("best in hindsight", None, 10.0, regret=(0.0, 0.0, 0.0))]))
    assert [lane.choice.rule for lane in drawn.lanes] == [
        "best in hindsight",
        "the full length",
        "robustness, patience 3",
        "no pre-training",
    ]
    assert [(lane.paid, lane.chosen) for lane in drawn.lanes] == [(100, None), (100, 100), (60, 40), (0, 0)]
    assert [lane.y for lane in drawn.lanes] == [12.5, 37.5, 62.5, 87.5]
    assert [(tick.at, tick.label) for tick in drawn.rows] == [(87.5, "1"), (62.5, "2"), (37.5, "3"), (12.5, "4")]
    assert [(tick.at, tick.label) for tick in drawn.stops] == [(60, "patience 3")]
    assert [lane.regret.dot for lane in drawn.lanes] == pytest.approx([0, 6, 12, 100])


def test_rules_by_other_scores_are_told_apart_from_those_that_were_named_before():
    rules = [
        choice(),
        choice("vote of all scores, patience 1", 2, 2.0),
        choice("mean rank by all without labels, offline"),
        choice("kNN, patience 1", 4),
    ]
    drawn = trails.drawn(trail(choices=rules))
    assert {lane.choice.rule for lane in drawn.lanes} == {one.rule for one in rules[:3]}
    assert [one.rule for one in drawn.others] == ["kNN, patience 1"]
    assert [tick.label for tick in drawn.stops] == ["patience 3"]
    page = report.render(Findings("t", "now", trails=[trail(choices=rules)]))
    assert [line.partition(":")[0] for line in told(trail(choices=rules))] == [
        "vote of all scores, patience 1",  # the cheapest of equals first
        "mean rank by all without labels, offline",
        "robustness, patience 3",
        "by other scores",
    ]
    assert page.index("vote of all scores") < page.index("<summary>What rules by each other score came to") < page.index("kNN, patience 1")


def test_the_page_tells_every_rule_with_its_numbers():
    page = Page(report.render(Findings("t", "now", trails=[trail(choices=[FULL, choice(epochs=None, paid=19 / 3, saved_hours=None)])])))
    assert [row for row in page.table() if "kept" not in row][-2:] == [
        ["1 the full length", "10", "10", "0", "0.990 0.970\u20131.000", "0.060 0.000\u20130.200", ""],
        ["2 robustness, patience 3", "by seed", "6.333", "\u2013", "0.980 0.950\u20131.000", "0.120 0.000\u20130.300", ""],
    ]
    labels = [picture["aria-label"] for picture in page.all("svg")]
    assert labels[0].startswith("Dice, mean and range of 2 seeds over epochs 0 to 10, from 0.6 to 0.9, ending at 0.9; higher is better")
    assert labels[1].startswith("robustness over epochs 0 to 10, from 0.2 to 0.4, ending at 0.3; lower is better")
    assert labels[2].startswith("What each of 2 rules chose")
    assert "The training ran to its end." in page.words()
    assert "The monitor ended the training at epoch 10." in words(trail(stopped=10))


def test_the_page_tells_what_every_score_said_and_why_one_could_not():
    readings = {"robustness/level -1": [0.4, None, 0.2, 0.3], "lidar/level -1": [4.0, 3.0, None, 1.5]}
    gaps = [Gap(2, "robustness/level -1", "of features"), Gap(4, "lidar/level -1", HOSTILE)]
    page = Page(report.render(Findings("t", "now", trails=[trail(readings=readings, gaps=gaps)])))
    assert [row for row in page.table() if row[0] in readings] == [
        ["robustness/level -1", "0.4", "\u2013", "0.2", "0.3"],
        ["lidar/level -1", "4", "3", "\u2013", "1.5"],
    ]
    assert "Could not be scored: robustness/level -1 after 2 epochs (of features);" in page.words()
    assert "where transfer-study has them of the mean Dice over seeds: the two are not to be compared" in page.words()
    with pytest.raises(ValueError, match=r"has 1 values of knn, expected 4"):
        trail(readings={"knn": [0.5]})


def test_a_trail_of_an_earlier_version_is_still_read():
    told = json.loads(trail().to_json())
    del told["readings"], told["gaps"], told["length"], told["unended"]
    assert Trail.from_json(json.dumps(told)) == trail()


@pytest.mark.parametrize(
    ("tis", "told"),
    [
        ((0.98, 0.95, 1.0), "interval overlaps that of the full length, so the difference may be chance."),
        ((0.95, 0.93, 0.97), "interval overlaps that of the full length, so the difference may be chance."),
        ((0.95, 0.93, 0.969), "interval lies below that of the full length."),
        ((1.2, 1.1, 1.3), "interval lies above that of the full length."),
    ],
)
def test_a_sentence_claims_what_the_intervals_carry(tis, told):
    full, mine = trails.said(trail(choices=[NONE, FULL, choice(tis=tis)]))
    assert full == "The full length kept TIS 0.990 (95 % interval 0.970 to 1.000) at 10 of 10 epochs."
    value, low, high = tis
    assert mine == f"Robustness, patience 3 kept TIS {value:.3f} (95 % interval {low:.3f} to {high:.3f}) at 6 of 10 epochs; its {told}"


def test_where_all_seeds_came_to_the_same_nothing_is_said_to_be_certain():
    sure, close = choice(tis=(1.0, 1.0, 1.0)), choice(tis=(0.9, 0.9, 0.9 + 1e-16))
    assert trails.said(trail(choices=[FULL, sure]))[1] == (
        "Robustness, patience 3 kept TIS 1.000 (no spread seen between 2 seeds) at 6 of 10 epochs; without a spread between seeds nothing "
        "tells whether the difference to the full length is chance."
    )
    assert "TIS 0.900 (no spread seen between 2 seeds)" in trails.said(trail(choices=[close]))[0]
    alike = trails.said(trail(choices=[choice("the full length", 10, 10.0, tis=(0.8, 0.8, 0.8)), choice()]))
    assert alike[1].endswith("nothing tells whether the difference to the full length is chance.")
    page = words(trail(choices=[NONE, FULL, sure]))
    assert page.count("no spread") == 3  # between seeds: once in the sentence, and of TIS here and of the regret of no pre-training
    assert "1\u20131" not in page


CUT = "robustness, offline", "robustness, patience 9"


def cut_off():
    """Ended by its monitor at epoch 10 of 40, when patience 9 had not ended."""
    hindsight = choice("best in hindsight of what was trained", 10, 10.0, saved_hours=None, regret=(0.0, 0.0, 0.0))
    return trail(
        length=40, stopped=10, choices=[NONE, choice("robustness, patience 3", 4, 10.0), hindsight], unended=[*CUT, "kNN, offline"]
    )


def test_a_training_that_was_cut_off_is_said_to_be_and_what_cannot_be_known_of_it():
    told = trails.said(cut_off())
    assert told[0].startswith("The training was ended by its own monitor after 10 of 40 epochs, and what came later nobody knows.")
    assert "TIS and regret are held against the best of what was trained" in told[0]
    assert "GPU-hours saved are those of 40 epochs at what one took of these 10" in told[0]
    assert "Rules that had not ended by epoch 10 are left out: 3." in told[0]
    assert "train to the end: transfer.patience above the number of looks" in told[0]
    assert told[1] == "Robustness, patience 3 kept TIS 0.980 (95 % interval 0.950 to 1.000) at 10 of 40 epochs."
    page = words(cut_off())
    assert told[0] in page
    assert "The monitor ended the training at epoch 10 of 40." in page
    assert "Not ended by epoch 10: robustness, offline; robustness, patience 9; kNN, offline." in page
    assert trails.drawn(cut_off()).lanes[0].choice.rule == "best in hindsight of what was trained"
    assert [(tick.at, tick.label) for tick in trails.drawn(cut_off()).stops] == [(100, "patience 3")]


def test_nothing_of_that_is_said_of_a_training_of_full_length():
    assert trail(length=10).cut_off == trail(length=10, stopped=10).cut_off == ""
    assert "nobody knows" not in words(trail(length=10))
    assert "Not ended by" not in words(trail(length=10))
    assert trail(stopped=4).cut_off == ""  # of a trail of an earlier version, which does not say how long its recipe was


def test_of_a_training_without_a_word_of_its_end_the_page_claims_none():
    page = words(trail(length=13))
    assert "The training left models until epoch 10 of 13, and no word of its end. TIS and regret are held against" in page
    assert "No end of the training is on record." in page
    assert "ran to its end" not in page
    assert "monitor" not in trails.said(trail(length=13))[0]


def test_only_rules_that_ended_early_are_spoken_of():
    offline = choice("robustness, offline", 4, 10.0)
    assert trails.said(trail(choices=[NONE, offline])) == ["No rule by robustness ended before epoch 10."]
    assert trails.said(trail(choices=[])) == ["No rule by robustness ended before epoch 10."]
    assert trails.said(trail(choices=[offline, choice()])) == [
        "Robustness, patience 3 kept TIS 0.980 (95 % interval 0.950 to 1.000) at 6 of 10 epochs."
    ]


def test_no_pre_training_is_said_to_be_best_where_the_score_says_so_and_what_it_kept():
    assert trails.said(trail(untrained=True))[-2:] == [
        "By robustness, no pre-training is best.",
        "No pre-training kept TIS 0.820 (95 % interval 0.800 to 0.850) at 0 of 10 epochs; its interval lies below that of the full length.",
    ]
    assert "could not say that no pre-training is best" in trails.said(trail(untrained=None))[-1]
    assert "best" not in " ".join(trails.said(trail(untrained=False)))


def test_a_seed_that_never_learnt_is_said_to_count_in_full():
    said = "1 of 3 seeds of the fine-tuning never came to more than 0.02 Dice, where another came to 0.6; they count as much"
    learnt = [[0.3, 0.4, 0.2], [0.5, 0.6, 0.4], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    assert "fine-tuning never came" not in " ".join(trails.drawn(trail(performance=learnt)).said)
    assert said in " ".join(trails.drawn(trail(performance=[[*row[:2], 0.02 if at else 0.0] for at, row in enumerate(learnt)])).said)


def test_the_panel_of_a_vote_is_headed_by_what_it_draws_the_mean_rank():
    page = words(trail(score="vote of all scores at levels -2, -1", judged="mean rank of all scores at levels -2, -1"))
    assert "mean rank of all scores at levels -2, -1 lower is better" in page
    assert "vote of all scores at levels -2, -1 lower is better" not in page


def test_one_seed_has_no_interval_on_the_page():
    told = words(one_seed())
    assert "One seed only, so there are no intervals." in told
    assert "Dice, 1 seed" in told
    assert "Robustness, patience 3 kept TIS 0.980 at 6 of 10 epochs." in told
    assert "95 % interval 0" not in told
    assert "0.950" not in told
    assert "<polygon" not in report.render(Findings("t", "now", trails=[one_seed()]))


def test_what_was_not_scored_and_what_has_no_rules_is_still_drawn():
    bare = trail(epochs=[0, 300], scores=[None, None], performance=[[0.5, 0.6], [0.7, 0.8]], choices=[], untrained=None)
    page = Page(report.render(Findings("t", "now", trails=[bare])))
    assert "no checkpoint was scored" in page.words()
    assert "could not say" not in page.words()
    assert len(page.all("svg")) == 1
    assert places(trails.drawn(bare).performance.path) == [(0, 83.33), (100, 16.67)]  # 0.55 and 0.75 of 0.5 to 0.8


def test_hostile_names_stay_text():
    hostile = trail(name=HOSTILE, score=HOSTILE, measure=HOSTILE, setting=HOSTILE, choices=[choice(HOSTILE), FULL], untrained=True)
    html = report.render(Findings("t", "now", trails=[hostile]))
    page = Page(html)
    assert not page.all("script")
    assert not page.all("img")
    assert page.text.count(HOSTILE) >= 6
    assert "<script" not in html
    assert HOSTILE in unescape(html)


NUMBERS = st.floats(-1e9, 1e9)


@st.composite
def measured(draw):
    low, value, high = sorted(draw(st.tuples(NUMBERS, NUMBERS, NUMBERS)))
    return value, low, high


@st.composite
def whole(draw):
    epochs = sorted(draw(st.sets(st.integers(0, 1000), min_size=1, max_size=6)))
    many = draw(st.integers(1, 3))
    seeds = st.lists(NUMBERS, min_size=many, max_size=many)
    some = st.builds(
        Choice,
        st.text(),
        st.none() | st.sampled_from(epochs),
        st.floats(0, epochs[-1]),
        st.none() | NUMBERS,
        measured(),
        measured(),
    )
    return Trail(
        *draw(st.tuples(st.text(), st.text(), st.booleans(), st.text(), st.text())),
        epochs,
        [draw(st.none() | NUMBERS) for _ in epochs],
        [draw(seeds) for _ in epochs],
        draw(st.lists(some, max_size=4)),
        draw(st.none() | st.sampled_from(epochs)),
        draw(st.none() | st.booleans()),
    )


@settings(deadline=None)
@given(whole())
def test_json_gives_back_the_trail(one):
    assert Trail.from_json(one.to_json()) == one
    assert json.loads(one.to_json())["epochs"] == one.epochs


@settings(deadline=None)
@given(whole())
def test_nothing_is_drawn_outside_its_plot(one):
    drawn = trails.drawn(one)
    shown = [value for panel in (drawn.performance, drawn.score) if panel for place in places(panel.path + panel.dots) for value in place]
    shown += [float(value) for corner in drawn.performance.band.split() for value in corner.split(",")]
    shown += [value for lane in drawn.lanes for value in (lane.paid, lane.chosen or 0, lane.y, lane.regret.start, lane.regret.dot)]
    assert all(-0.01 <= value <= 100.01 for value in [*shown, *(tick.at for tick in drawn.stops)])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"epochs": [0, 4, 2, 10]}, r"epochs \[0, 4, 2, 10\], expected rising numbers from 0"),
        ({"epochs": [-1, 2, 4, 10]}, "expected rising numbers from 0"),
        ({"epochs": [], "scores": [], "performance": []}, "expected rising numbers from 0"),
        ({"scores": [0.1]}, "4 checkpoints, 1 scores and 4 performances, expected as many"),
        ({"performance": [[0.5], [0.6], [0.8, 0.9], [0.8]]}, r"checkpoints of \[1, 2\] seeds, expected equally many"),
        ({"performance": [[], [], [], []]}, r"checkpoints of \[0\] seeds"),
        ({"scores": [0.1, None, math.nan, 0.2]}, "a score or Dice that is no number"),
        ({"performance": [[0.5], [0.6], [math.inf], [0.8]]}, "a score or Dice that is no number"),
        ({"length": 4}, r"epochs to 10 and a recipe of 4, expected no more than that"),
        ({"choices": [choice(epochs=3)]}, r"chose epochs \[3\], of which there are no checkpoints, expected some of \[0, 2, 4, 10\]"),
    ],
)
def test_a_trail_that_contradicts_itself_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        trail(**wrong)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tis": (0.9, 0.95, 0.8)}, "tis of 'robustness, patience 3' is 0.9 in 0.95 to 0.8, expected"),
        ({"regret": (0.9, math.nan, math.nan)}, "regret of .* expected a number and its interval"),
        ({"paid": -1.0}, "paid -1.0, expected epochs from 0"),
        ({"epochs": -1}, "chose epoch -1"),
    ],
)
def test_a_choice_that_is_no_number_is_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        choice(**wrong)


def test_json_that_is_no_trail_is_refused_with_the_name_of_the_field():
    told = json.loads(trail().to_json())
    with pytest.raises(ValueError, match="performance"):
        Trail.from_json(json.dumps({name: value for name, value in told.items() if name != "performance"}))
    with pytest.raises(ValueError, match=r"choices\.0\.tis"):
        Trail.from_json(json.dumps({**told, "choices": [{**told["choices"][0], "tis": [1]}]}))
    with pytest.raises(ValueError, match="JSON"):
        Trail.from_json("nothing")


@pytest.mark.parametrize("name", ["kNN", "LiDAR", "RankMe", "LogME", "LEEP", "H-score"])
def test_a_sentence_leaves_names_as_the_field_writes_them(name):
    assert any(name == score.title for score in transfer.SCORES.values())
    told = trails.said(trail(choices=[FULL, choice(f"{name}, patience 2")], score=name, untrained=True))
    assert told[1].startswith(f"{name}, patience 2 kept TIS 0.980")
    assert f"By {name}, no pre-training is best." in told
