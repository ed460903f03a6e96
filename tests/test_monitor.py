"""The monitor against its rule in plain words; the looker with encoders that really change and scores that really take time."""

import copy
import json
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engine import monitor
from engine.monitor import Looker, Monitor, Verdict
from engine.settings import TransferConfig
from engine.transfer import Readings

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def watched(scores: list[float], **knobs: Any) -> tuple[Monitor, list[bool]]:
    """A monitor that saw the scores at steps 0, 1, ... and what it said at each."""
    watching = Monitor(TransferConfig(**knobs))
    return watching, [watching.observe(step, seen(score, watching.config.score)) for step, score in enumerate(scores)]


def seen(score: float, name: str = "robustness") -> Readings:
    return Readings({name: score}, {})


def test_it_stops_after_as_many_looks_without_a_better_one_as_its_patience() -> None:
    watching, said = watched([0.9, 0.5, 0.4, 0.45, 0.39, 0.39, 0.6], patience=2)
    assert said == [False] * 6 + [True]
    assert watching.verdict() == Verdict(4, 0.39, False)
    assert watching.stopped == 6


def test_better_by_no_more_than_the_least_difference_is_not_better() -> None:
    assert watched([1.0, 0.5, 0.45, 0.4], patience=2, min_delta=0.1)[1] == [False, False, False, True]
    assert watched([1.0, 0.5, 0.45, 0.3], patience=2, min_delta=0.1)[1] == [False] * 4
    assert watched([1.0, 0.94, 0.88, 0.83], patience=2, min_delta=0.1)[1] == [False] * 4  # small steps add up: .88 is .12 below 1


def test_where_higher_is_better_a_fall_counts() -> None:
    watching, said = watched([1.0, 2.0, 3.0, 2.5, 2.9], score="rankme", patience=2)
    assert said[-2:] == [False, True]
    assert watching.verdict().epoch == 2


def test_looks_during_the_warm_up_end_nothing_but_may_be_chosen() -> None:
    watching, said = watched([0.1, 0.9, 0.8, 0.7, 0.75], warmup=2, patience=1)
    assert said == [False, False, False, False, True]
    assert watching.verdict() == Verdict(0, 0.1, True)  # no pre-training is best


def test_without_a_look_at_the_untrained_encoder_nobody_says_whether_training_helps() -> None:
    assert monitor.choose({1: 0.5, 5: 0.4}, lower=True) == Verdict(5, 0.4, None)
    assert monitor.choose({0: 0.5, 1: 0.4}, lower=True).untrained is False


def test_of_equal_checkpoints_the_earliest_is_chosen() -> None:
    assert monitor.choose({300: 0.4, 20: 0.4, 5: 0.6}, lower=True).epoch == 20
    assert monitor.choose({300: 0.6, 20: 0.4, 5: 0.6}, lower=False).epoch == 5


def test_the_schedule_is_every_so_many_or_a_list() -> None:
    assert [step for step in range(8) if Monitor(TransferConfig(every=3)).due(step)] == [0, 3, 6]
    assert [step for step in range(8) if Monitor(TransferConfig(looks=(1, 5))).due(step)] == [1, 5]


def test_the_last_epoch_is_looked_at_whatever_the_schedule() -> None:
    every, listed = TransferConfig(every=4), TransferConfig(looks=(1, 5))
    assert [epoch for epoch in range(11) if Monitor(every, 10).due(epoch)] == [0, 4, 8, 10]
    assert [epoch for epoch in range(11) if Monitor(listed, 10).due(epoch)] == [1, 5, 10]
    assert [epoch for epoch in range(9) if Monitor(every, 8).due(epoch)] == [0, 4, 8]
    looker = Looker(every, weight, last=6)
    for epoch in range(7):
        looker(epoch, encoder(float(epoch)))
    looker.drain()
    assert looker.monitor.scores == {0: 0.0, 4: 4.0, 6: 6.0}


@settings(deadline=None)
@given(SCORES, st.integers(1, 3), st.integers(0, 3), st.floats(0, 0.3))
def test_the_rule_is_the_one_in_words(scores: list[float], patience: int, warmup: int, least: float) -> None:
    watching, said = watched(scores, patience=patience, warmup=warmup, min_delta=least)
    stops = []
    for last in range(len(scores)):
        # Each of the last `patience` looks is not better, by more than `least`, than the last look that was.
        counted = scores[warmup : last + 1]
        kept, worse = math.inf, 0
        for score in counted:
            if score < kept - least:
                kept, worse = score, 0
            else:
                worse += 1
            if worse >= patience:
                break
        stops.append(worse >= patience)
    assert said == stops
    assert watching.verdict().score == min(scores)


@settings(deadline=None)
@given(SCORES, st.integers(0, 11), st.randoms())
def test_a_run_that_is_interrupted_or_learns_scores_late_ends_as_one_undisturbed(scores: list[float], at: int, chance: Any) -> None:
    undisturbed, _ = watched(scores, patience=2)
    resumed = Monitor(TransferConfig(patience=2))
    resumed.load_state_dict(json.loads(json.dumps(watched(scores[:at], patience=2)[0].state_dict())))
    late = list(enumerate(scores))[at:]
    chance.shuffle(late)
    for step, score in late:
        resumed.observe(step, seen(score))
    assert resumed.state_dict() == undisturbed.state_dict()
    assert (resumed.stopped, resumed.verdict()) == (undisturbed.stopped, undisturbed.verdict())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Monitor(TransferConfig()).observe(3, seen(math.nan)), r"the score at epoch 3 is nan, expected a number"),
        (lambda: Monitor(TransferConfig()).verdict(), r"no checkpoint was scored"),
        (lambda: monitor.choose({2: math.inf}, lower=True), r"the score at epoch 2 is inf"),
        (lambda: TransferConfig(looks=(3, 1)), r"looks=\(3, 1\) must rise"),
        (lambda: TransferConfig(looks=(1, 3), warmup=4), r"warmup=4 leaves nothing of looks=\(1, 3\)"),
        (lambda: TransferConfig(images=1), r"greater than or equal to 2"),
    ],
)
def test_what_cannot_be_judged_is_a_sentence(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def encoder(weight: float = 0.0) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


def weight(model: nn.Module) -> Readings:
    """A score that tells which weights were seen."""
    assert isinstance(model, nn.Linear)
    return seen(model.weight.item())


def trained(looker: Looker, curve: list[float], first: int = 0) -> int | None:
    """At which step a loop whose encoder holds the curve's value at every step is told to stop."""
    model = encoder()
    for step in range(first, len(curve)):
        with torch.no_grad():
            model.weight.fill_(curve[step])
        if looker(step, model):
            return step
    return None


CURVE = [0.9, 0.8, 0.5, 0.6, 0.7, 0.65, 0.7, 0.8]


def test_a_looker_that_waits_stops_where_the_monitor_does_every_time() -> None:
    config = TransferConfig(patience=3, wait=True)
    for _ in range(3):
        looker = Looker(config, weight)
        assert trained(looker, CURVE) == 5
        assert looker.monitor.verdict() == Verdict(2, 0.5, False)


def test_training_goes_on_while_the_weights_of_the_look_are_scored() -> None:
    goes, scored = threading.Event(), []

    def slow(model: nn.Module) -> Readings:
        assert goes.wait(20)
        scored.append(weight(model))
        return scored[-1]

    looker, model = Looker(TransferConfig(), slow), encoder(0.25)
    assert looker(0, model) is False
    nn.init.constant_(model.weight, 0.5)  # the next step of training, while step 0 is being scored
    assert looker(1, model) is False
    nn.init.constant_(model.weight, 99.0)
    assert (looker.monitor.scores, scored) == ({}, [])
    goes.set()
    looker.drain()
    assert looker.monitor.scores == {0: 0.25, 1: 0.5}
    assert scored == [seen(0.25), seen(0.5)]


def test_scores_that_come_late_end_the_run_late_and_the_verdict_is_the_same() -> None:
    goes = threading.Event()
    looker = Looker(TransferConfig(patience=3), lambda model: weight(model) if goes.wait(20) else seen(math.nan))
    model = encoder()
    for step in (0, 1):
        nn.init.constant_(model.weight, float(CURVE[step]))
        assert looker(step, model) is False
    goes.set()
    stopped = trained(looker, CURVE, first=2)
    assert looker.drain() is True
    assert stopped is None or stopped >= 5
    assert (looker.monitor.stopped, looker.monitor.verdict().epoch) == (5, 2)


def test_no_more_copies_of_the_weights_wait_than_memory_is_meant_for() -> None:
    goes = threading.Event()
    looker = Looker(TransferConfig(), lambda model: weight(model) if goes.wait(20) else seen(math.nan))
    for step in range(monitor.WAITING):
        looker(step, encoder())
    assert len(looker.under_way) == monitor.WAITING
    threading.Timer(0.2, goes.set).start()
    looker(monitor.WAITING, encoder())  # waits until the oldest is done
    assert goes.is_set()
    assert len(looker.under_way) <= monitor.WAITING
    looker.drain()
    assert sorted(looker.monitor.scores) == list(range(monitor.WAITING + 1))


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("wait", [True, False])
def test_a_run_that_is_resumed_from_a_checkpoint_comes_to_the_same_verdict(at: int, wait: bool) -> None:
    config = TransferConfig(patience=3, wait=wait)
    before = Looker(config, weight)
    trained(before, CURVE[:at])
    state = json.loads(json.dumps(before.state_dict()))
    after = Looker(config, weight)
    after.load_state_dict(state)
    trained(after, CURVE[:7], first=at)  # asked at the step of the checkpoint, as before it was cut off
    after.drain()
    assert after.monitor.stopped == 5
    assert after.monitor.verdict() == Verdict(2, 0.5, False)
    assert [after.monitor.scores[step] for step in range(6)] == pytest.approx(CURVE[:6])


def test_a_step_that_is_not_due_or_was_looked_at_costs_nothing() -> None:
    scored: list[Readings] = []

    def counted(model: nn.Module) -> Readings:
        scored.append(weight(model))
        return scored[-1]

    looker = Looker(TransferConfig(every=2, wait=True), counted)
    for step in (0, 0, 1, 2, 2, 3):
        looker(step, encoder(float(step)))
    assert scored == [seen(0), seen(2)]


def test_the_encoder_in_training_is_not_touched() -> None:
    def spoils(model: nn.Module) -> Readings:
        for part in model.parameters():
            part.data.zero_()
        return seen(float(model.eval().training))

    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    before = copy.deepcopy(model.state_dict())
    looker = Looker(TransferConfig(wait=True), spoils)
    looker(0, model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_bug_in_a_score_is_an_exception_and_ends_the_run() -> None:
    def fails(model: nn.Module) -> Readings:
        raise ValueError("transfer.level=9 is none of the encoder's 4 levels")

    looker = Looker(TransferConfig(), fails)
    with pytest.raises(ValueError, match="level=9 is none"):
        looker(0, encoder()) or looker.drain()  # the first where it is done by then


def test_an_encoder_that_learns_is_stopped_at_the_same_step_as_one_scored_offline() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)

    def far(encoder: nn.Module) -> Readings:
        return seen(float((encoder(inputs) - inputs).square().mean()))

    config, offline = TransferConfig(patience=2, min_delta=0.01, wait=True), {}
    looker, stopped = Looker(config, far), None
    for step in range(60):
        with torch.no_grad():
            offline[step] = far(model).scores["robustness"]
        if stopped is None and looker(step, model):
            stopped = step
        optimiser.zero_grad()
        (model(inputs) - inputs).square().mean().backward()
        optimiser.step()
    watching = Monitor(config)
    first = next(step for step, score in offline.items() if watching.observe(step, seen(score)))
    assert stopped == first
    np.testing.assert_allclose([looker.monitor.scores[step] for step in range(first + 1)], [offline[step] for step in range(first + 1)])


# Several readings at once.

MANY = st.lists(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=9), min_size=1, max_size=4)
NAMES = ("robustness", "rankme", "lidar", "alignment")  # of which the second and third are better where higher


def heard(rows: list[list[float | None]], **knobs: Any) -> Monitor:
    """A monitor of the scores NAMES, by row, at looks 0, 1, ...; None is a gap."""
    watching = Monitor(TransferConfig(**knobs))
    for epoch in range(max(map(len, rows))):
        told = {name: row[epoch] if epoch < len(row) else None for name, row in zip(NAMES, rows, strict=False)}
        gaps = {name: "collapsed" for name, score in told.items() if score is None}
        watching.observe(epoch, Readings({name: score for name, score in told.items() if score is not None}, gaps))
    return watching


def ranks_by_hand(columns: dict[str, list[float]]) -> list[float]:
    """1 + how many are better + half of the others that are as good, on average over the scores."""
    ranks = []
    for name, column in columns.items():
        losses = [-one for one in column] if name in ("rankme", "lidar") else column
        ranks.append([1 + sum(two < one for two in losses) + (losses.count(one) - 1) / 2 for one in losses])
    return [sum(one) / len(one) for one in zip(*ranks, strict=True)]


def listened(rows: Any, begin: int, end: int) -> dict[str, list[float | None]]:
    """The rows that have a number at one of the last two looks from `begin` to `end` at which any row has one."""
    filled = [list(row) + [None] * (end + 1 - len(row)) for row in rows]
    last = [at for at in range(begin, end + 1) if not all(row[at] is None for row in filled)][-2:]
    return {name: row for name, row in zip(NAMES, filled, strict=False) if [row[at] for at in last if row[at] is not None]}


@settings(deadline=None)
@given(MANY, st.integers(1, 3), st.integers(0, 3))
def test_ranks_end_a_run_when_the_best_among_the_looks_so_far_lies_back_as_far_as_patience(rows: Any, patience: int, warmup: int) -> None:
    watching = heard(rows, score="ranks", patience=patience, warmup=warmup)
    length, expected = max(map(len, rows)), None
    for end in range(warmup, length):
        some = listened(rows, warmup, end)
        looks = [at for at in range(warmup, end + 1) if some and all(row[at] is not None for row in some.values())]
        if not looks:
            continue
        mean = ranks_by_hand({name: [row[at] for at in looks] for name, row in some.items()})
        if len(looks) - 1 - mean.index(min(mean)) >= patience:
            expected = end
            break
    assert watching.stopped == expected


@settings(deadline=None)
@given(MANY, st.integers(1, 3), st.integers(0, 3))
def test_a_vote_ends_a_run_when_more_than_half_of_the_readings_are_past_their_own_patience(rows: Any, patience: int, warmup: int) -> None:
    def stale(name: str, row: list[float | None]) -> int:
        """How many looks lie since the last better one."""
        there = [-one if name in ("rankme", "lidar") else one for one in row if one is not None]
        return len(there) - 1 - there.index(min(there))

    watching = heard(rows, score="vote", patience=patience, warmup=warmup)
    expected = None
    for end in range(warmup, max(map(len, rows))):
        votes = [stale(name, row[warmup : end + 1]) >= patience for name, row in listened(rows, warmup, end).items()]
        if expected is None and sum(votes) > len(votes) / 2:
            expected = end
    assert watching.stopped == expected


@settings(deadline=None)
@given(SCORES, st.integers(1, 3), st.integers(0, 3), st.booleans())
def test_one_score_alone_ends_a_run_in_all_three_ways_at_the_same_look(
    scores: list[float], patience: int, warmup: int, lower: bool
) -> None:
    name = "robustness" if lower else "rankme"
    stops = set()
    for how in (name, "ranks", "vote"):
        watching = Monitor(TransferConfig(score=how, patience=patience, warmup=warmup))
        for epoch, score in enumerate(scores):
            watching.observe(epoch, Readings({name: score}, {}))
        stops.add(watching.stopped)
    assert len(stops) == 1


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=9, max_size=9), min_size=1, max_size=3), st.integers(1, 8))
def test_a_model_that_is_the_best_in_the_end_was_promising_at_every_look_before(rows: Any, end: int) -> None:
    whole = heard(rows, score="ranks", patience=99).among(1)
    best = monitor.choose(whole, lower=True).epoch
    for last in range(best, 9):
        assert best in heard([row[: last + 1] for row in rows], score="ranks", patience=99).promising
    assert heard(rows[:1], patience=99).promising == {min(range(1, 9), key=lambda epoch: rows[0][epoch])}  # of one score no other


@settings(deadline=None)
@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=9, max_size=9), min_size=1, max_size=3), st.integers(1, 8))
def test_so_it_was_where_readings_are_lost_and_come_back(rows: Any, end: int) -> None:
    """Whatever had been removed as no longer promising is not missed in the end."""
    whole = heard(rows, score="ranks", patience=99).among(1)
    if whole and (best := monitor.choose(whole, lower=True).epoch) <= end:
        assert best in heard([row[: end + 1] for row in rows], score="ranks", patience=99).promising


def test_three_readings_that_are_lost_for_good_leave_the_word_to_the_other_three() -> None:
    """As where the features of one target image are all zero from some epoch on."""
    gone, rest = ("robustness", "alignment", "uniformity"), ("rankme", "effective_rank", "lidar")
    watching, said = Monitor(TransferConfig(score="ranks", patience=2)), []
    for epoch, value in enumerate([1.0, 2.0, 3.0, 4.0, 9.0, 8.0, 7.0]):
        lost = epoch >= 2
        scores = dict.fromkeys(rest, value) | ({} if lost else dict.fromkeys(gone, 0.5))
        said.append(watching.observe(epoch, Readings(scores, dict.fromkeys(gone, "all zero") if lost else {})))
    assert said == [False] * 6 + [True]
    assert watching.lost == set(gone)
    assert watching.verdict().epoch == 4
    assert watching.promising >= {4}
    for epoch in (7, 8):
        watching.observe(epoch, Readings(dict.fromkeys((*gone, *rest), 0.1), {}))
    assert watching.lost == set()
    assert sorted(watching.scores) == [0, 1, 7, 8]  # that all have
    assert watching.stopped == 6  # a verdict of looks is one on these, whatever comes


def test_a_vote_does_not_wait_for_a_reading_that_is_lost() -> None:
    """Two of four are past their patience; the third, which was not, is gone after two looks without it."""
    rows = [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [1, 2, None, None, None], [5, 4, 3, 2, 1]]  # robustness, RankMe; LiDAR, alignment
    watching = heard(rows, score="vote", patience=1)
    assert (watching.lost, watching.stopped) == ({"lidar"}, 3)


def test_the_best_by_ranks_can_move_back_as_looks_come() -> None:
    moved = [
        [9, 2, 1, 3, 4],
        [0, 8, 9, 5, 4],
        [0, 9, 1, 5, 4],
    ]  # 2 is better than 1 in two of three, until others come between in the third
    bests = [monitor.choose(heard([row[: end + 1] for row in moved], score="ranks").among(1), lower=True).epoch for end in (2, 4)]
    assert bests == [2, 1]


def test_a_gap_counts_for_no_patience_and_training_goes_on() -> None:
    watching = heard([[0.9, 0.5, None, None, 0.6, 0.7]], patience=2)
    assert watching.stopped == 5
    assert watching.verdict().epoch == 1
    assert watching.gaps == {2: {"robustness": "collapsed"}, 3: {"robustness": "collapsed"}}
    assert sorted(watching.hours) == list(range(6))  # they were looks, and took what they took


def test_a_look_that_was_a_gap_and_is_scored_when_seen_again_is_none_any_more() -> None:
    watching = heard([[0.9, None]])
    watching.observe(1, seen(0.5))
    assert (watching.gaps, watching.scores) == ({}, {0: 0.9, 1: 0.5})
    watching.observe(1, Readings({}, {"robustness": "collapsed"}))
    assert watching.scores == {0: 0.9}


def test_looks_that_are_all_gaps_end_nothing_and_leave_nothing_to_choose() -> None:
    watching = heard([[None] * 5], patience=1)
    assert watching.stopped is None
    assert watching.promising == set()
    with pytest.raises(ValueError, match="no checkpoint was scored"):
        watching.verdict()


@pytest.mark.parametrize("score", ["ranks", "vote", "robustness"])
def test_what_several_readings_came_to_survives_a_checkpoint(score: str) -> None:
    watching = heard([[0.9, 0.5, None, 0.6], [1, 5, 4, 2], [3, None, 2, 1]], score=score, levels=(-1,) if score == "robustness" else ())
    again = Monitor(watching.config)
    again.load_state_dict(json.loads(json.dumps(watching.state_dict())))
    assert again.state_dict() == watching.state_dict()
    assert (again.stopped, again.scores, again.gaps) == (watching.stopped, watching.scores, watching.gaps)


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"levels": (-1, -1)}, r"levels=\(-1, -1\) names one twice"),
        ({"levels": (-1, -2), "min_delta": 0.1}, r"min_delta=0.1 is in one score's unit"),
        ({"score": "vote", "min_delta": 0.1}, r"min_delta=0.1 is in one score's unit, where score=vote"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused(knobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TransferConfig(**knobs)
