"""MedDEL's cover after patches came or went: that of all rows in an order that begins with those that were kept, for what is near them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Held, Pool
from engine.selection import choose, cover
from tests.test_resolve import Watched, emptied, picked, places
from tests.test_selection import pool


def greedy(pool, found, order, radius):
    """The rows that a greedy cover keeps in an order of all, in loops."""
    rows, kept = clusters.whole(pool.vectors.take(np.arange(len(pool)))), {}
    likeness = clusters.cosines(rows, rows)
    for row in order:
        mine = kept.setdefault(found.labels[row], [])
        if (likeness[mine, row] <= np.float32(1 - radius)).all():
            mine.append(row)
    return sorted(pool.columns["patch_id"][int(row)].as_py() for rows in kept.values() for row in rows)


@pytest.mark.parametrize("unit", ["patches", "bytes"])
@pytest.mark.parametrize("budget", [0.1, 0.4, 40])  # a number does not grow with the pool, so radii do
@settings(deadline=None, max_examples=10)
@given(data=st.data(), seed=st.integers(0, 99), width=st.sampled_from([2, 4, 16]))
def test_a_cover_that_is_gone_on_with_is_that_of_all_rows_in_its_order(budget, unit, data, seed, width):
    rng, count = np.random.default_rng(seed), data.draw(st.integers(150, 300))
    knobs = SelectionConfig(method="meddel", budget=budget if unit == "patches" else min(0.2, budget), unit=unit, clusters=4, iterations=2)
    whole = Pool(pool(count, seed).columns, Held(rng.normal(size=(count, width)).astype(np.float32)))
    came, went = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 4))
    before, after = picked(whole, np.sort(rng.permutation(count - came))), picked(whole, np.arange(count)[::-1][: count - went])
    known = choose(before, knobs, group=1).clustering.at(places(after, before))
    with pytest.MonkeyPatch.context() as patch:
        anew, began = cover.anew, []
        patch.setattr(cover, "anew", lambda *told: began.append(told) or anew(*told))
        made = choose(replace(after, clustering=known), knobs, group=1)
    outside_in = sorted(range(len(after)), key=list(zip(made.clustering.nearness, after.keys(), strict=True)).__getitem__)
    first = known.kept if not began else np.zeros(len(after), bool)
    order = sorted(outside_in, key=lambda row: not first[row])
    assert sorted(made.patch_ids) == greedy(after, made.clustering, order, made.told["radius"])
    assert made.unspent >= 0
    assert began or made.unspent <= (1 if unit == "patches" else after.columns["bytes"].to_numpy().mean())
    again = choose(replace(after, clustering=made.clustering), knobs, group=1)
    assert (again.patch_ids, again.told["radius"]) == (made.patch_ids, made.told["radius"])


@pytest.mark.parametrize("seed", [1, 9])  # where it matters which rows are looked at because their stand-in may go
def test_a_larger_radius_is_found_among_the_rows_whose_stand_in_may_go(seed):
    """A budget in whole patches, and more of them than before."""
    rng = np.random.default_rng(seed)
    whole = Pool(pool(240, seed).columns, Held(rng.normal(size=(240, 4)).astype(np.float32)))
    knobs = SelectionConfig(method="meddel", budget=40, unit="patches", clusters=4, iterations=2)
    before = whole.part(np.arange(228))
    known = choose(before, knobs, group=1).clustering
    made = choose(replace(whole, clustering=known.at(np.append(np.arange(228), [-1] * 12))), knobs, group=1)
    outside_in = sorted(range(240), key=list(zip(made.clustering.nearness, whole.keys(), strict=True)).__getitem__)
    kept = set(np.flatnonzero(known.kept).tolist())
    assert made.told["covered_anew"] == 0
    assert made.told["radius"] > choose(before, knobs, group=1).told["radius"]
    assert sorted(made.patch_ids) == greedy(
        whole, made.clustering, sorted(outside_in, key=lambda row: row not in kept), made.told["radius"]
    )


@pytest.mark.parametrize(("budget", "most"), [(0.1, 0.16), (200, 0.35)])
def test_a_cover_of_many_is_gone_on_with_for_what_is_kept_and_what_is_new(budget, most):
    rng = np.random.default_rng(0)
    whole = Pool(pool(2000).columns, Watched(rng.normal(size=(2000, 16)).astype(np.float32)))
    knobs = SelectionConfig(method="meddel", budget=budget, unit="patches", clusters=20, iterations=5)
    before = whole.part(np.arange(1980))
    known = choose(before, knobs, group=1).clustering
    whole.vectors.read = 0
    made = choose(replace(whole, clustering=known.at(np.append(np.arange(1980), [-1] * 20))), knobs, group=1)
    looks = 3 if budget > 1 else 2  # each at most: for a larger radius those that are kept are compared first; then who stands in
    assert whole.vectors.read < looks * most * 2000
    assert 190 <= len(made.patch_ids) <= 200
    whole.vectors.read = 0
    assert choose(replace(whole, clustering=made.clustering), knobs, group=1).patch_ids == made.patch_ids
    assert whole.vectors.read == 0


HOURS = [{"seconds_per_image": 72}, {"seconds_per_image": 36}]
GROUPS = [("images", 20, {"group": one}, {"group": other}) for one, other in [(1, 4), (9, 1), (1, 9)]]


@pytest.mark.parametrize(("unit", "budget", "first", "second"), [*GROUPS, ("gpu_hours", 1, *HOURS), ("gpu_hours", 1, *HOURS[::-1])])
def test_a_budget_of_the_same_name_that_is_of_another_size_now_is_filled_as_one_of_a_fresh_store(unit, budget, first, second):
    rng = np.random.default_rng(0)
    many = Pool(pool(800).columns, Held(rng.normal(size=(800, 8)).astype(np.float32)))
    knobs = SelectionConfig(method="meddel", budget=budget, unit=unit, clusters=8, iterations=3)
    known = choose(many, knobs, **first).clustering
    made, fresh = (choose(replace(many, clustering=one), knobs, **second) for one in (known, known.bare()))
    assert (made.patch_ids, made.told["covered_anew"]) == (fresh.patch_ids, 1)


@pytest.mark.parametrize(("unit", "budget"), [("patches", 300), ("images", 60), ("patches", 0.1), ("bytes", 0.1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_room_that_clusters_leave_which_vanish_whole_is_filled(unit, budget, seed):
    """Thirty videos with a look each; three are forgotten."""
    rng = np.random.default_rng(seed)
    looks = np.repeat(rng.normal(size=(30, 16)), 100, axis=0) + 0.2 * rng.normal(size=(3000, 16))
    whole = Pool(pool(3000, seed).columns, Held(looks.astype(np.float32)))
    knobs = SelectionConfig(method="meddel", budget=budget, unit=unit, iterations=5)
    known = choose(whole, knobs).clustering
    left = picked(whole, np.arange(300, 3000))
    known = known.at(np.arange(300, 3000))
    made, fresh = (choose(replace(left, clustering=one), knobs) for one in (known, known.bare()))
    if unit == "bytes":
        assert made.unspent <= fresh.unspent + 2000
    else:
        assert len(made.patch_ids) >= len(fresh.patch_ids) - 4


def test_a_cover_is_made_anew_where_no_radius_near_its_own_fills_the_budget():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=(360, 60)) * ([1] * 3 + [0] * 57), np.eye(60)[3:]])  # nothing new is like anything else
    whole = Pool(pool(417).columns, Held(vectors.astype(np.float32)))
    knobs = SelectionConfig(method="meddel", budget=62, unit="patches", clusters=3, iterations=2)
    known = choose(whole.part(np.arange(360)), knobs, group=1).clustering.at(np.append(np.arange(360), [-1] * 57))
    made = choose(replace(whole, clustering=known), knobs, group=1)
    assert made.patch_ids == choose(replace(whole, clustering=emptied(known)), knobs, group=1).patch_ids
