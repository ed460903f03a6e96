"""Distances and thresholds of drift: references, closed forms, the rate of false alarms, and what is planted."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, ks_2samp

from engine import clusters, drift, gate, simulate
from engine.drift import Profile
from engine.knobs import amend
from engine.pool import Held
from jobs.drift import is_due, planned
from jobs.recipes import tiny


def videos(rng, count, each=30, spread=1.0, shift=0.0):
    """A number of each frame, whose videos differ by more than frames of one do: (N,), and whose it is (N,)."""
    means = rng.normal(shift, spread, count)
    return (means[:, None] + rng.normal(0, 0.3, (count, each))).ravel(), np.repeat(np.arange(count), each)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=8), st.lists(st.integers(0, 20), min_size=2, max_size=8))
def test_the_distance_of_kinds_is_that_of_jensen_and_shannon(first, second):
    size = min(len(first), len(second))
    one, other = (np.array([some[:size]], np.float64) for some in (first, second))
    if one.sum() and other.sum():
        found = Profile(np.concatenate([one, other])).distance(one, other)
        assert found[0] == pytest.approx(jensenshannon(one[0], other[0], base=2), abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_the_distance_of_numbers_is_that_of_kolmogorov_and_smirnov(first, second):
    values, owners = np.array([*first, *second], np.float64), np.repeat([0, 1], [len(first), len(second)])
    profile = drift.numbers(values, owners, 2)
    found = profile.distance(profile.counts[:1], profile.counts[1:])[0]
    assert found == pytest.approx(ks_2samp(first, second).statistic, abs=1e-12)  # 41 values at most: each is an edge


def test_what_is_not_a_number_is_left_out_and_a_video_without_any_has_no_distance():
    profile = drift.numbers(np.array([1.0, np.nan, 2.0]), np.array([0, 1, 2]), 3)
    assert profile.counts.sum(axis=1).tolist() == [1, 0, 1]
    assert profile.distance(profile.counts[1:2], profile.counts[2:])[0] == 0
    assert drift.numbers(np.array([np.nan]), np.array([0]), 1).counts.sum() == 0


def test_the_draws_are_the_real_ones_first_and_then_as_many_by_lot():
    new = np.array([True, True, *[False] * 10])
    drawn = np.concatenate([*drift.draws(new, 3)])
    assert drawn.shape == (drift.DRAWS + 1, 12)
    assert (drawn.sum(axis=1) == 2).all()
    assert (drawn[0] == new).all()
    assert np.abs(drawn[1:].mean(axis=0) - 2 / 12).max() < 5 * np.sqrt(1 / 6 * 5 / 6 / drift.DRAWS)


def test_ranks_of_one_new_video_are_its_place_among_all():
    """With one quantity and one new video the chance is known: the share of videos that are as far from all others."""
    rng = np.random.default_rng(0)
    values, owners = videos(rng, 20)
    profile, new = drift.numbers(values, owners, 20), np.arange(20) == 7
    alone = np.eye(20)
    distances = profile.distance(alone @ profile.counts, (1 - alone) @ profile.counts)
    expected = np.mean(distances >= distances[7] - 1e-12)
    found = drift.look({"x": profile}, new, 0.05, 1)["x"]
    assert found.distance == pytest.approx(distances[7])
    assert found.chance == pytest.approx(expected, abs=5 * np.sqrt(0.25 / drift.DRAWS))


@pytest.mark.parametrize("fresh", [1, 4, 39, 40, 200])
def test_the_videos_of_a_draw_are_added_up_alike_whether_they_are_few_or_many(fresh):
    rng = np.random.default_rng(fresh)
    counts, drawn = rng.integers(0, 9, (640, 7)).astype(float), np.zeros((30, 640))
    np.put_along_axis(drawn, rng.random(drawn.shape).argpartition(fresh - 1, axis=1)[:, :fresh], 1, axis=1)
    profile = drift.Profile(counts)
    new = np.array([counts[row > 0].sum(axis=0) for row in drawn])
    expected = profile.distance(new, counts.sum(axis=0) - new)
    np.testing.assert_array_equal(drift.distanced({"kinds": profile}, drawn)[:, 0], expected)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_a_look_that_draws_no_more_once_nothing_can_come_of_it_tells_what_all_draws_tell(shift, monkeypatch):
    rng, made = np.random.default_rng(7), []
    distanced = drift.distanced
    monkeypatch.setattr(drift, "distanced", lambda profiles, drawn: (made.append(len(drawn)), distanced(profiles, drawn))[1])
    alarms = []
    for time in range(12):
        values, owners = videos(rng, 44, each=8)
        values[owners < 4] += shift
        profiles = {"x": drift.numbers(values, owners, 44), "y": drift.kinds(rng.integers(0, 4, len(owners)), owners, (44, 4))}
        new = np.arange(44) < 4
        made.clear()
        found, count = drift.look(profiles, new, 0.01, time), sum(made)
        with monkeypatch.context() as every:
            every.setattr(drift, "is_settled", lambda distances, rate: False)
            full = drift.look(profiles, new, 0.01, time)
        for name, one in found.items():
            assert (one.alarm, one.distance) == (full[name].alarm, full[name].distance)
            assert one.threshold is not None
            assert one.threshold == pytest.approx(full[name].threshold, rel=0.3)
        alarms.append(any(one.alarm for one in found.values()))
        assert count == drift.DRAWS + 1 if alarms[-1] else count < drift.DRAWS or min(one.chance for one in full.values()) < 0.1
    assert (sum(alarms) > 6) == (shift > 2)


@pytest.mark.parametrize(("count", "fresh", "rate"), [(40, 2, 0.05), (30, 1, 0.1)])
def test_the_rate_of_false_alarms_is_as_promised(count, fresh, rate, monkeypatch):
    """New video like the pool, 200 times: six quantities that hang together, videos that differ much from each other."""
    monkeypatch.setattr(drift, "DRAWS", 199)  # the promise holds for any number
    rng, alarms, times = np.random.default_rng(5), 0, 200
    for time in range(times):
        values, owners = videos(rng, count + fresh, each=8)
        kinds = np.clip(np.rint(values), -2, 2).astype(int) + 2
        profiles = {
            str(power): drift.numbers(values * power + rng.normal(size=len(values)) * power, owners, count + fresh) for power in range(1, 6)
        }
        profiles["kinds"] = drift.kinds(kinds, owners, (count + fresh, 5))
        found = drift.look(profiles, np.arange(count + fresh) < fresh, rate, time)
        alarms += any(one.alarm for one in found.values())
    low, high = binom.ppf([1e-4, 1 - 1e-4], times, rate)
    assert alarms <= high  # never more than promised
    assert alarms >= min(low, 1)  # and not silent altogether


@pytest.mark.parametrize("ends", [1, 2, 7, 40])
def test_what_the_looks_of_a_day_may_take_adds_up_to_its_rate_whenever_it_ends(ends):
    shares = [drift.allowed(0.04, look, look == ends) for look in range(1, ends + 1)]
    assert sum(shares) == pytest.approx(0.04)
    assert shares == sorted(shares[:-1], reverse=True) + shares[-1:]


RATE, POOL, GROWN = 0.05, 60, 12


def day(config, seed, shift=0.0):
    """Chances of all looks of a day to which one video after the other comes, and those of them that are alarms, by the job's own rules."""
    rng = np.random.default_rng(seed)
    first, owners = videos(rng, GROWN + POOL, each=8)
    second = first * rng.normal() + np.repeat(rng.normal(size=GROWN + POOL), 8)
    first[owners < GROWN] += shift
    rows, every, alarms = None, [], []
    for count in range(1, GROWN + 2):
        over, there = count > GROWN, min(count, GROWN)
        mine = (owners < there) | (owners >= GROWN)
        numbers = np.where(owners < there, owners, owners - GROWN + there)[mine]
        profiles = {name: drift.numbers(some[mine], numbers, there + POOL) for name, some in (("one", first), ("two", second))}
        new = np.arange(there + POOL) < there
        ids = [f"{number:03d}" for number in range(there)]
        look = planned(config, ("source", "day"), (ids, []), rows, over)
        found = min(one.chance for one in drift.look(profiles, new, look.allowed, seed).values())
        every.append(found)
        if is_due(set(ids), rows, over):
            alarms.append(found <= look.allowed)
            rows = [{"quantity": "one", "video_ids": " ".join(ids), "videos": there, "looks": look.number, "over": over, "alarm": False}]
    assert not is_due(set(ids), rows, True)
    return every, alarms


@pytest.mark.timeout(300)
def test_the_rate_of_false_alarms_holds_for_a_day_that_grows_and_would_not_by_look(monkeypatch):
    monkeypatch.setattr(drift, "DRAWS", 799)
    config, times = amend(tiny(), [f"watch.false_alarms={RATE}"]), 150
    days = [day(config, seed) for seed in range(times)]
    assert all(len(alarms) == 5 for _, alarms in days)  # at 1, 2, 4 and 8 videos, and when it is over
    most = binom.ppf(1 - 1e-4, times, RATE)
    assert 1 <= sum(any(alarms) for _, alarms in days) <= most
    assert sum(min(every) <= RATE for every, _ in days) > most  # had each look been given the rate of the day


def test_a_day_that_is_unlike_the_pool_is_found_before_it_is_over(monkeypatch):
    monkeypatch.setattr(drift, "DRAWS", 799)
    config = amend(tiny(), [f"watch.false_alarms={RATE}"])
    days = [day(config, seed, shift=2.5)[1] for seed in range(15)]
    assert np.mean([any(alarms[:-1]) for alarms in days]) > 0.8
    assert np.mean([any(alarms) for alarms in days]) > 0.9


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), fresh=st.integers(1, 4), rate=st.sampled_from([0.02, 0.1, 0.3]))
@example(seed=152, fresh=1, rate=0.3)
def test_an_alarm_is_a_distance_of_the_threshold_or_more_and_a_chance_of_the_rate_or_less(seed, fresh, rate):
    rng = np.random.default_rng(seed)
    values, owners = videos(rng, 25, each=5, spread=2)
    profiles = {"x": drift.numbers(values, owners, 25), "y": drift.kinds(rng.integers(0, 4, 125), owners, (25, 4))}
    for one in drift.look(profiles, np.arange(25) < fresh, rate, seed).values():
        assert one.alarm == (one.chance <= rate)
        assert one.alarm == (one.threshold is not None and one.distance >= one.threshold - 1e-12)


def test_too_few_videos_allow_no_alarm_however_far_the_new_one_is():
    rng = np.random.default_rng(0)
    for count, possible in ((60, False), (150, True)):
        values, owners = videos(rng, count, each=5)
        values[owners == 0] += 100
        found = drift.look({"x": drift.numbers(values, owners, count)}, np.arange(count) == 0, 0.01, 0)["x"]
        assert found.alarm == possible == (found.threshold is not None)


def test_patches_of_one_video_do_not_count_as_many_witnesses(monkeypatch):
    """By frames alone every new video would be an alarm: one video is never like the mean of all."""
    monkeypatch.setattr(drift, "DRAWS", 999)
    rng = np.random.default_rng(1)
    values, owners = videos(rng, 60, each=200)
    profile = drift.numbers(values, owners, 60)
    alarms = [drift.look({"x": profile}, np.arange(60) == one, 0.05, 0)["x"].alarm for one in range(60)]
    assert np.mean(alarms) <= 0.05
    assert np.mean([ks_2samp(values[owners == one], values[owners != one]).pvalue < 0.05 for one in range(60)]) > 0.9


def test_a_shift_of_two_and_a_half_times_the_spread_of_videos_is_found(monkeypatch):
    monkeypatch.setattr(drift, "DRAWS", 999)
    rng, found = np.random.default_rng(2), []
    for time in range(40):
        values, owners = videos(rng, 60, each=10)
        shifted, _ = videos(rng, 6, each=10, shift=2.5)
        values[owners < 6] = shifted
        found.append(drift.look({"x": drift.numbers(values, owners, 60)}, np.arange(60) < 6, 0.01, time)["x"].alarm)
    assert np.mean(found) > 0.9


def test_the_contrast_says_where_new_video_is_and_the_pool_is_not():
    counts = np.array([[6, 0, 4], [1, 40, 9], [0, 45, 5]], np.float64)
    found = drift.contrast(Profile(counts), np.array([True, False, False]))
    assert (found.bins.tolist(), found.new, found.rest) == ([0, 2], pytest.approx(1.0), pytest.approx(0.15))
    values, owners = np.array([1, 1, 1, 9, 8, 9, 9, 9.0]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    below = drift.contrast(drift.numbers(values, owners, 2), np.array([True, False]))
    assert (below.edge, below.above, below.new, below.rest) == (1.0, False, 0.75, 0.0)
    above = drift.contrast(drift.numbers(-values, owners, 2), np.array([True, False]))
    assert (above.edge, above.above, above.new, above.rest) == (-8.0, True, 0.75, 0.0)


def clips(seeds, clutter=False):
    """The endoscope's picture in the frames of simulated clips."""
    y0, x0, y1, x1 = simulate.content_box(96, 112)
    recordings = (simulate.Recording(seed, seconds=4, fps=2, height=96, width=112, clutter=clutter) for seed in seeds)
    return [[moment.image[y0:y1, x0:x1] for moment in recording.moments()] for recording in recordings]


def seen(clip, change=np.asarray):
    """What the gate measures on the frames of a clip, and a small picture of each in place of an embedding."""
    images = [np.ascontiguousarray(change(image)) for image in clip]
    measured = [gate.measure(image, np.zeros(image.shape[:2], np.bool_), None) for image in images]
    numbers = [[getattr(one, name) for name in ("sharpness", "brightness", "glare", "tissue")] for one in measured]
    pictures = [cv2.resize(image, (6, 6), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() - 128 for image in images]
    return np.array(numbers), np.array(pictures)


def looks(pool, fresh, rate):
    """The names of the quantities that are an alarm, of new clips beside a pool of clips."""
    clips = [*fresh, *pool]
    owners = np.repeat(np.arange(len(clips)), [len(numbers) for numbers, _ in clips])
    numbers, pictures = (np.concatenate([clip[part] for clip in clips]) for part in (0, 1))
    vectors = Held(pictures)
    centroids = clusters.fit(vectors, 10, np.arange(len(pictures), dtype=np.uint64), 10)
    named = enumerate(("sharpness", "brightness", "glare", "tissue"))
    profiles = {name: drift.numbers(numbers[:, place], owners, len(clips)) for place, name in named}
    profiles["clusters"] = drift.kinds(clusters.assigned(vectors, centroids)[0], owners, (len(clips), 10))
    found = drift.look(profiles, np.arange(len(clips)) < len(fresh), rate, 0)
    return {name for name, one in found.items() if one.alarm}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_blur_and_other_colours_of_simulated_clips_are_found_and_more_of_the_same_is_not():
    pool, fresh = [seen(clip) for clip in clips(range(20))], clips(range(100, 103))
    assert looks(pool, [seen(clip) for clip in fresh], 0.05) == set()
    assert "sharpness" in looks(pool, [seen(clip, lambda image: cv2.GaussianBlur(image, (0, 0), 2)) for clip in fresh], 0.05)
    assert {"tissue", "clusters"} & looks(pool, [seen(clip, lambda image: image[..., ::-1]) for clip in fresh], 0.05)
    told = looks(pool, [seen(clip) for clip in clips(range(100, 103), clutter=True)], 0.05)
    print(f"with instruments, insets, glints and smoke: {sorted(told)}")  # none, with small pictures for embeddings: see LOG
