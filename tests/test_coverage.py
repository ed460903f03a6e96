"""k-centre after patches came or went: the farthest from what stays of an earlier choice, within Gonzalez' bound."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Held, Pool
from engine.selection import choose, coverage
from tests.test_resolve import Watched, picked, places
from tests.test_selection import pool
from tests.test_selection_methods import ids


def cosine(pool):
    """(N, N): in a row those of all with the one that is chosen. The other way round the last bit may be another."""
    rows = clusters.whole(pool.vectors.take(np.arange(len(pool))))
    return clusters.cosines(rows, rows)


def knobs(budget, unit="patches", seed=0):
    return SelectionConfig(method="kcenter", budget=budget, unit=unit, seed=seed)


def drawn(count, seed, width=4):
    rng = np.random.default_rng(seed)
    return Pool(pool(count, seed).columns, Held(rng.normal(size=(count, width)).astype(np.float32)))


def solved(pool, config, known=None):
    return choose(replace(pool, clustering=known), config, group=1)


def chosen(pool, known, seed=0):
    """The rows that a clustering says are chosen, the farthest when they were chosen first."""
    keys = pool.keys(seed)
    return sorted(np.flatnonzero(known.order > 0).tolist(), key=lambda row: (known.likeness[row], keys[row])) if known else []


def greedy(pool, first, limit, costs, seed=0):
    """Rows by the definition: those of `first`, then the farthest from all of these, equal ones by key, while the limit lasts."""
    likeness, keys, rows = cosine(pool), pool.keys(seed), list(first)
    while rest := sorted(set(range(len(pool))) - set(rows)):
        new = min(rest, key=lambda row: (max((likeness[one, row] for one in rows), default=-1), keys[row]))
        if costs[[*rows, new]].sum() > limit:
            break
        rows.append(new)
    return rows


def bound_holds(pool, rows):
    """Whether no two of some rows are nearer than some row of the pool is to all of them."""
    likeness = cosine(pool)
    nearest = np.delete(likeness[rows].max(axis=0), rows).min(initial=2)
    return max((likeness[one, other] for one, other in combinations(rows, 2)), default=-1) <= nearest + 1e-6


def limit_of(pool, config):
    """What may be spent, and what each row costs."""
    costs = pool.columns["bytes"].to_numpy() if config.unit == "bytes" else np.ones(len(pool), int)
    return int(config.budget if config.budget > 1 else round(config.budget * costs.sum(), 6)), costs


@pytest.mark.parametrize("unit", ["patches", "bytes"])
@pytest.mark.parametrize("ahead", [3, 1024])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), seed=st.integers(0, 999), width=st.sampled_from([2, 4, 16]))
def test_whatever_came_and_went_the_farthest_from_what_stays_are_chosen_and_the_bound_holds(unit, ahead, data, seed, width):
    whole, rng, known, before = drawn(90, seed, width), np.random.default_rng(seed), None, None
    here = rng.permutation(90)[:66]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage, "AHEAD", ahead)
        patch.setattr(coverage, "MANY", ahead)
        for _ in range(data.draw(st.integers(2, 4), "rounds")):
            now = picked(whole, here)
            budget = data.draw(st.sampled_from([0.1, 0.2, 0.4] if unit == "bytes" else [0.1, 0.4, 7, 20]), "budget")
            config = knobs(budget, unit, seed)
            known = known and known.at(places(now, before))
            made = solved(now, config, known)
            limit, costs = limit_of(now, config)
            earlier = chosen(now, known, seed) if known and made.clustering.fitted == known.fitted else []
            stay = earlier[: len(earlier) - int(made.told["gave_way"])]
            expected = greedy(now, stay, limit, costs, seed)
            assert sorted(made.patch_ids) == sorted(ids(now, expected))
            assert made.patch_ids == ids(now, chosen(now, made.clustering, seed))
            assert bound_holds(now, expected)
            paid = earlier[: int(np.searchsorted(np.cumsum(costs[earlier]), limit, side="right"))]
            assert stay == paid or not bound_holds(now, greedy(now, paid, limit, costs, seed))
            assert_told(now, made)
            known, before = made.clustering, now
            went, came = data.draw(st.integers(0, 6), "went"), data.draw(st.integers(0, 6), "came")
            others = np.setdiff1d(np.arange(90), here)
            here = rng.permutation(np.concatenate([here[went:], others[:came]]))


def assert_told(pool, made):
    """Of each row that is not chosen the nearest chosen one and their cosine are kept, and the farthest is told."""
    found, rows = made.clustering, chosen(pool, made.clustering)
    others = np.setdiff1d(np.arange(len(pool)), rows)
    likeness = cosine(pool)
    np.testing.assert_array_equal(found.likeness[others], likeness[rows][:, others].max(axis=0))
    of = {float(found.order[row]): row for row in rows}
    assert len(of) == len(rows)
    assert [likeness[of[-float(found.order[row])], row] for row in others] == found.likeness[others].tolist()
    assert made.told["radius"] == pytest.approx(max(0, 1 - float(likeness[rows].max(axis=0).min())))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([3, 7, 0.3, 0.5, 40, 60]), min_size=1, max_size=4), st.integers(0, 99))
def test_where_nothing_is_new_any_budget_after_any_other_is_chosen_as_anew(budgets, seed):
    one, known = pool(60, seed), None
    for budget in budgets:
        made = solved(one, knobs(budget), known)
        anew = solved(one, knobs(budget))
        assert (made.patch_ids, made.told["radius"]) == (anew.patch_ids, anew.told["radius"])
        known = made.clustering
        assert solved(one, knobs(budget), known).patch_ids == made.patch_ids


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 999), count=st.integers(2, 4))
def test_however_often_it_was_gone_on_with_no_choice_covers_within_half_the_angle(seed, count):
    whole, known, before = drawn(24, seed, 3), None, None
    for went in range(4):  # two come and one goes
        now = whole.part(np.arange(went, 18 + 2 * went))
        known = known and known.at(places(now, before))
        made, before = solved(now, knobs(count), known), now
        known = made.clustering
    angles = np.arccos(np.clip(cosine(now), -1, 1))
    best = min(angles[:, rows].min(axis=1).max() for rows in map(list, combinations(range(len(now)), count)))
    rows = chosen(now, known)
    assert angles[:, rows].min(axis=1).max() <= 2 * best + 1e-6
    assert known.fitted == 18


def test_what_is_like_nothing_before_comes_in_in_place_of_what_was_least_far_and_nothing_else_changes():
    """A budget that is a number. Twenty kinds, of which two are new, and as many patches as ever of the others."""
    rng = np.random.default_rng(0)
    kinds = np.concatenate([np.repeat(np.arange(18), 20), [18, 19], rng.integers(0, 18, 10)])
    vectors = np.eye(20)[kinds] + 0.05 * rng.normal(size=(372, 20))
    whole = Pool(pool(372).columns, Held(vectors.astype(np.float32)))
    before = solved(whole.part(np.arange(360)), knobs(60))
    made = solved(whole, knobs(60), before.clustering.at(np.append(np.arange(360), [-1] * 12)))
    came = set(made.patch_ids) - set(before.patch_ids)
    assert {"p0360", "p0361"} <= came
    assert len(came) == made.told["gave_way"] <= 4
    assert set(before.patch_ids) - set(made.patch_ids) == set(before.patch_ids[60 - len(came) :])
    assert made.patch_ids.index("p0360") < 20  # in the order of how far each was
    last = solved(whole.part(np.arange(360)), knobs(60), made.clustering.at(np.arange(360)))
    assert last.told["gave_way"] <= 2


@pytest.mark.parametrize(("budget", "most"), [(0.1, 0.02), (200, 0.02)])
def test_only_what_is_new_is_compared_with_all_that_are_chosen(monkeypatch, budget, most):
    rng = np.random.default_rng(0)
    whole = Pool(pool(2000).columns, Watched(rng.normal(size=(2000, 16)).astype(np.float32)))
    monkeypatch.setattr(coverage, "AHEAD", 64)
    compared, assigned = [], coverage.clusters.assigned
    monkeypatch.setattr(coverage.clusters, "assigned", lambda some, them: compared.append(len(some) * len(them)) or assigned(some, them))
    first = solved(whole.part(np.arange(1980)), knobs(budget))
    anew, read = sum(compared), whole.vectors.read
    compared.clear()
    whole.vectors.read = 0
    made = solved(whole, knobs(budget), first.clustering.at(np.append(np.arange(1980), [-1] * 20)))
    assert sum(compared) < 3 * 0.01 * anew + 2000  # what is new with the chosen, all with what comes in, what came instead anew
    assert whole.vectors.read < 0.2 * read
    assert len(set(made.patch_ids) - set(first.patch_ids)) <= most * 200 + 4
