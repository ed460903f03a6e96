"""The bench of planted polyps and artefacts reads its truth off the masks rightly, and counts rightly."""

from itertools import combinations

import numpy as np
import pytest

from engine.simulate import Recording
from tests.bench.planted import MEASURES, SHARE, Truth, shown, table

A, B, NONE = frozenset({"a"}), frozenset({"b"}), frozenset()
POOL = Truth([A, A, NONE, B, NONE, NONE], [NONE, frozenset({"smoke"}), frozenset({"smoke", "inset"}), NONE, NONE, frozenset({"inset"})])


def crowded():
    """A frame with two polyps and something in the way of the rest."""
    for seed in range(20):
        for moment in Recording(seed, 8.0, 2, 120, 140, clutter=True).moments():
            if len(moment.polyps) > 1 and len(moment.artefacts) > 2:
                return moment
    raise AssertionError("no such frame")


def test_what_a_patch_shows_is_what_counting_its_pixels_one_by_one_says():
    moment, rng = crowded(), np.random.default_rng(0)
    seen, ways = set(), set()
    for y0, x0 in rng.integers((0, 36), (70, 90), (60, 2)).tolist():
        side = int(rng.integers(20, 50))
        pixels = [(y, x) for y in range(y0, y0 + side) for x in range(x0, x0 + side)]
        polyps = set()
        for number, (top, left, bottom, right) in zip(moment.polyps, moment.boxes, strict=True):
            mine = [moment.mask[y, x] and top <= y < bottom and left <= x < right for y, x in pixels]
            polyps |= {number} if sum(mine) >= SHARE * side**2 else set()
        kinds = {kind for kind, mask in moment.artefacts.items() if sum(mask[y, x] for y, x in pixels) >= SHARE * side**2}
        assert shown(moment, (y0, x0, y0 + side, x0 + side)) == (polyps, kinds)
        seen, ways = seen | polyps, ways | kinds
    assert seen == set(moment.polyps)
    assert len(ways) > 1


def test_a_box_beside_a_polyp_shows_none_of_it():
    moment = crowded()
    for top, left, bottom, right in moment.boxes:
        for box in [(bottom, left, bottom + 20, right), (top, right, bottom, right + 20), (0, left, top, right), (top, 0, bottom, left)]:
            if (box[2] - box[0]) * (box[3] - box[1]):
                assert dict(zip(moment.boxes, moment.polyps, strict=True))[top, left, bottom, right] not in shown(moment, box)[0]


def test_a_polyp_is_found_by_any_of_its_patches_and_counts_once():
    kept = POOL.kept(np.array([1, 2]))
    assert kept == {
        "polyp patches": 1 / 3, "polyps": 1 / 2, "artefacts": 1.0, "artefacts found": 2 / 3, "inset": 1 / 2, "smoke": 1.0,
    }  # fmt: skip
    assert POOL.kept(np.array([0, 1, 3, 4]))["polyps"] == 1


@pytest.mark.parametrize("count", range(1, 7))
def test_by_chance_is_the_mean_over_all_sets(count):
    every = [POOL.kept(np.array(rows)) for rows in combinations(range(6), count)]
    expected = POOL.by_chance(count)
    assert expected == pytest.approx({name: np.mean([one[name] for one in every]) for name in MEASURES})


def test_the_table_tells_the_mean_and_the_range_over_the_simulations():
    found = [{"budgets": {0.05: {"random": dict.fromkeys(MEASURES, value)}}} for value in (0.1, 0.4, 0.25)]
    cell = "0.250 (0.100 to 0.400)"
    assert list(table(found))[2:] == [f"| 5% | random | {' | '.join([cell] * len(MEASURES))} |"]
