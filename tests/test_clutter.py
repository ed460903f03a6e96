"""What is in the way of a simulated wall covers the pixels that it says, and no others."""

import numpy as np
import pytest

from engine.clutter import DRAWN, PERIOD, STAY, Clutter
from engine.colon import Camera, Colon
from engine.simulate import Recording


def coming(kind):
    """The first picture, of one grey, that something of this kind comes into, with what it was, and its mask."""
    clutter, grey = Clutter(0, 120, 104), np.full((120, 104, 3), 100, np.uint8)
    for period in range(100):
        image, masks = clutter.over(grey, (period + 0.5) * PERIOD)
        if kind in masks:
            return grey, image, masks[kind]
    raise AssertionError(f"no {kind} in 100 periods")


@pytest.mark.parametrize("kind", ["instrument", "inset", "glints"])
def test_what_is_solid_changes_all_pixels_of_its_mask_and_no_others(kind):
    before, after, mask = coming(kind)
    assert np.array_equal((before != after).any(2), mask)
    assert 0.01 < mask.mean() < 0.3


def test_smoke_leaves_less_than_half_of_what_is_behind_its_mask_and_more_elsewhere():
    before, after, mask = coming("smoke")
    left = (198.0 - after[..., 0]) / (198 - before[..., 0])
    assert left[mask].max() <= 0.5 + 1 / 98 < left[~mask].max()  # whole numbers of 98 levels
    assert left[~mask].min() >= 0.5 - 1 / 98


def test_it_comes_one_kind_at_a_time_and_goes_and_is_the_same_whenever_it_is_asked_for():
    clutter, grey = Clutter(3, 64, 64), np.full((64, 64, 3), 100, np.uint8)
    seen = [tuple(clutter.over(grey, number / 4)[1]) for number in range(1600)]
    assert {kind for kinds in seen for kind in kinds} == set(DRAWN)
    assert max(map(len, seen)) == 1
    assert np.mean([bool(kinds) for kinds in seen]) == pytest.approx(STAY, abs=0.1)
    assert seen == [tuple(clutter.over(grey, number / 4)[1]) for number in reversed(range(1600))][::-1]


def test_a_clip_with_clutter_differs_from_the_same_without_only_where_its_truth_says_so():
    kinds = set()
    pairs = zip(*(Recording(5, 12.0, 3, 120, 140, clutter=clutter).moments() for clutter in (True, False)), strict=True)
    for with_, without in pairs:
        solid = [mask for kind, mask in with_.artefacts.items() if kind in ("instrument", "inset", "glints")]
        if "smoke" not in with_.artefacts:
            covered = np.any(solid, axis=0) if solid else np.zeros_like(with_.mask)
            assert not ((with_.image != without.image).any(2) & ~covered).any()
            assert np.array_equal(with_.mask, without.mask & ~covered)
        kinds |= set(with_.artefacts)
        assert not np.sum(list(with_.artefacts.values()), axis=0).max() > 1  # a pixel shows one thing
    assert kinds >= {"text", "black", "inset"}


def test_the_truth_about_weather_is_what_the_weather_changed():
    for clip in (Recording(seed, 8.0, 5, 120, 140) for seed in range(2)):
        for moment in clip.moments():
            whole = {"out_of_body", "motion_blur", "dark"} & set(moment.events)
            assert whole <= set(moment.artefacts)
            for kind in whole:
                border = moment.artefacts["black"] | moment.artefacts["text"]
                assert np.array_equal(moment.artefacts[kind], ~border)
            if "glare" in moment.events:
                assert moment.image[moment.artefacts["glare"]].min() > 120
            assert ("bubbles" in moment.artefacts) == ("bubbles" in moment.events)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_polyps_of_a_share_are_some_of_all_and_as_many(share):
    all_, some = (Colon(1, 64, 64, polyps) for polyps in (1.0, share))
    numbers = [{polyp.number for at in range(500) for polyp in colon.near_polyps(2.0 * at)} for colon in (all_, some)]
    assert numbers[1] <= numbers[0]
    assert len(numbers[1]) / len(numbers[0]) == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("number", range(4))
def test_a_polyp_is_told_by_the_number_of_the_one_that_stands_in_its_box(number):
    colon = Colon(5, 200, 200)
    camera = Camera(colon.polyp(number).depth - 1.2, (100.0, 100.0))
    view = colon.view(camera)
    y, x, _ = colon.place(colon.polyp(number), camera)
    y0, x0, y1, x1 = dict(zip(view.polyps, view.boxes, strict=True))[number]
    assert y0 <= y < y1
    assert x0 <= x < x1


def test_a_clip_tells_the_number_of_every_polyp_that_it_boxes():
    moments = list(Recording(1, 6.0, 4, 120, 140).moments())
    assert all(len(moment.polyps) == len(moment.boxes) == len(set(moment.polyps)) for moment in moments)
    assert any(moment.polyps for moment in moments)
