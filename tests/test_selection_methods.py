"""Each method against its definition, written out in loops over a pool so small that one can follow them."""

import faiss
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from engine import clusters
from engine.config import SelectionConfig
from engine.methods import D4Config, DensityConfig
from engine.pool import Held, Pool
from engine.rows import mixed
from engine.selection import choose
from engine.selection.budgets import Budget, most
from engine.selection.clustering import clustered
from engine.selection.density import allotted, complexity, projected
from engine.selection.hierarchical import evenly, lowest, shared_out, tree
from tests.test_selection import pool, table

CONFIG = SelectionConfig(budget=1.0, unit="patches")


def ids(pool, rows):
    return [pool.columns["patch_id"][int(row)].as_py() for row in rows]


def of(method, budget=1.0, **knobs):
    return CONFIG.model_copy(update={"method": method, "budget": budget, **knobs})


def cosine(pool):
    """(N, N) of the rounded embeddings, as the rows of the pool stand."""
    rows = clusters.whole(pool.vectors.take(np.arange(len(pool)))).astype(np.float64)
    lengths = np.sqrt((rows**2).sum(axis=1))
    return np.round(rows @ rows.T / lengths[:, None] / lengths * 2**20) / 2**20


def outside_in(pool, config):
    """Per cluster its rows, the farthest from the centroid first, equal ones by key."""
    found, keys = clustered(pool, config), pool.keys()
    groups = {}
    for row in sorted(range(len(pool)), key=lambda row: (found.nearness[row], keys[row])):
        groups.setdefault(int(found.labels[row]), []).append(row)
    return groups, found


def without_duplicates(pool, config, share):
    """SemDeDup at the radius that leaves that share: rows go by the largest cosine with an earlier one, the most like first."""
    likeness, keys, worst = cosine(pool), pool.keys(), {}
    for rows in outside_in(pool, config)[0].values():
        for place, row in enumerate(rows):
            worst[row] = max((likeness[before, row] for before in rows[:place]), default=-1)
    order = sorted(worst, key=lambda row: (worst[row], keys[row]))
    return order, worst, sorted(order[: round(share * len(pool))])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("radius", [0.02, 0.2, 0.7])
def test_semdedup_removes_what_is_like_any_earlier_one_at_every_radius(seed, radius):
    many = pool(80, seed)
    likeness = cosine(many)
    kept = {
        row
        for rows in outside_in(many, of("semdedup"))[0].values()
        for place, row in enumerate(rows)
        if not any(likeness[before, row] > 1 - radius for before in rows[:place])
    }
    made = choose(many, of("semdedup", len(kept)), group=1)
    assert set(made.patch_ids) == set(ids(many, sorted(kept)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.15, 0.4, 0.7])
def test_meddel_keeps_a_greedy_cover_that_no_radius_of_a_grid_betters(seed, share):
    many = pool(80, seed)
    likeness, groups = cosine(many), outside_in(many, of("meddel"))[0]

    def cover(radius):
        kept = set()
        for rows in groups.values():
            mine = []
            for row in rows:
                if not any(likeness[before, row] > np.float32(1 - radius) for before in mine):
                    mine.append(row)
            kept |= set(mine)
        return kept

    made = choose(many, of("meddel", share), group=1)
    assert set(made.patch_ids) == set(ids(many, cover(made.told["radius"])))
    limit = int(share * 80)
    best = max(size for radius in np.geomspace(2, 2**-12, 32) if (size := len(cover(radius))) <= limit)
    assert best <= len(made.patch_ids) <= limit


@pytest.mark.parametrize("seed", range(3))
def test_meddel_looks_again_between_two_radii_until_it_is_near_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    many = Pool(table(rng.random(160)), Held(rng.normal(size=(160, 3))))
    likeness, groups = cosine(many), outside_in(many, of("meddel", clusters=2))[0]

    def size(radius):
        kept = []
        for rows in groups.values():
            mine = []
            for row in rows:
                if not any(likeness[before, row] > np.float32(1 - radius) for before in mine):
                    mine.append(row)
            kept += mine
        return len(kept)

    grid, limit = np.geomspace(2, 2**-12, 32), 48
    best = max(found for radius in np.linspace(0.02, 0.6, 300) if (found := size(radius)) <= limit)
    at_once = max(found for radius in grid if (found := size(radius)) <= limit)
    made = len(choose(many, of("meddel", limit, clusters=2), group=1).patch_ids)
    assert at_once < best - 1 <= made <= limit  # the 32 radii of the first look alone will not do


def test_meddel_keeps_everything_where_everything_fits_and_something_where_nothing_does():
    many = pool(60)
    assert len(choose(many, of("meddel"), group=1).patch_ids) == 60
    assert choose(many, of("meddel"), group=1).told == {"radius": 0.0}
    assert len(choose(many, of("meddel", 3, clusters=20), group=1).patch_ids) == 3


@pytest.mark.parametrize("kinds", [1, 3])
@pytest.mark.parametrize(("budget", "unit"), [(0.05, "bytes"), (0.5, "patches"), (0.9, "bytes")])
def test_meddel_of_few_kinds_says_that_none_of_its_radii_makes_an_image(kinds, budget, unit):
    few = Pool(table(np.ones(100)), Held(np.eye(4, dtype=np.float16)[np.arange(100) % kinds]))
    told = f"MedDEL keeps one of what looks alike, here {kinds}, and by the next smaller radius more than the budget takes"
    every = "10,000 bytes" if unit == "bytes" else "100 patches"
    with pytest.raises(ValueError, match=rf"{told} \({every}\): raise it to that, or choose by another method"):
        choose(few, of("meddel", budget, unit=unit))
    assert len(choose(few, of("meddel", 1.0, unit=unit)).patch_ids) == 100


def test_meddel_says_which_budget_its_next_radius_takes():
    rng = np.random.default_rng(0)
    kinds = np.eye(12)[np.repeat([0, 1, 2], [6, 4, 26])]  # three kinds, of the first of which six are as far from each other as can be
    kinds[:6, 5:11] = 0.5 * np.eye(6)
    many = Pool(table(np.ones(36)), Held((kinds + 1e-4 * rng.normal(size=kinds.shape)).astype(np.float32)))
    with pytest.raises(ValueError, match=r"here 3, and by the next smaller radius more than the budget takes \((\d+) patches\)") as told:
        choose(many, of("meddel", 6, clusters=1))
    needed = int(str(told.value).split("takes (")[1].split()[0])
    assert len(choose(many, of("meddel", needed, clusters=1), group=1).patch_ids) == needed


def test_many_clusters_are_looked_at_through_some_of_them():
    rng = np.random.default_rng(0)
    many = Pool(table(rng.random(3000)), Held(rng.normal(size=(3000, 12))))
    made = choose(many, of("meddel", 0.2, clusters=200), group=1)
    assert 590 <= len(made.patch_ids) <= 600


@pytest.mark.parametrize("seed", range(3))
def test_ssl_prototypes_takes_the_farthest_from_the_nearest_centroid(seed):
    many = pool(70, seed)
    centroids, keys = outside_in(many, of("ssl_prototypes"))[1].centroids, many.keys()
    nearness = clusters.cosines(clusters.whole(many.vectors.take(np.arange(70))), clusters.whole(centroids)).max(axis=1)
    order = sorted(range(70), key=lambda row: (nearness[row], keys[row]))
    assert choose(many, of("ssl_prototypes")).patch_ids == ids(many, order)[:68]


@pytest.mark.parametrize("seed", range(3))
def test_d4_clusters_what_semdedup_left_and_takes_the_farthest(seed):
    many, config = pool(80, seed), of("d4", 0.5, d4=D4Config(dedup=0.75))
    left = many.part(np.array(without_duplicates(many, config, 0.75)[2]))
    found = clustered(left, config)
    order = sorted(range(60), key=lambda row: (found.nearness[row], left.keys()[row]))
    assert choose(many, config).patch_ids == ids(left, order[:40])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("patches", "groups_of", "tau"), [(100, 0, 0.1), (260, 32, 0.02)])  # with 32 not every other centroid is near
def test_density_takes_from_every_cluster_what_the_programme_says(seed, patches, groups_of, tau):
    many = pool(patches, seed)
    config, wanted = of("density", 0.3, clusters=groups_of, density=DensityConfig(tau=tau, balance=0.5)), round(0.3 * patches)
    left = many.part(np.array(without_duplicates(many, config, 0.63)[2]))
    groups, found = outside_in(left, config)
    middles = clusters.whole(found.centroids)
    apart = 1 - clusters.cosines(middles, middles)
    powers = []
    for label in range(len(middles)):
        others = sorted(apart[label][np.arange(len(middles)) != label])[:20]
        intra = np.mean([1 - found.nearness[row] for row in groups.get(label, [])]) if label in groups else 0
        powers.append(np.exp(np.mean(others) * intra / tau))
    shares = np.array(powers) / sum(powers)
    sizes = np.array([len(groups.get(label, [])) for label in range(len(middles))])
    counts = allotted(shares, wanted, sizes, 0.5)
    low = np.minimum(0.5 * wanted / len(sizes), np.maximum(sizes - 1, 0))
    assert np.abs(counts - programme(shares * wanted, wanted, low, sizes)).max() < 1.01
    expected = {row for label, rows in groups.items() for row in rows[: counts[label]]}
    made = choose(many, config, group=1)
    assert set(made.patch_ids) == set(ids(left, sorted(expected)))
    assert len(made.patch_ids) == wanted


def programme(wanted, total, low, high):
    """The quadratic programme as a general solver sees it."""
    start = low + (high - low) * (total - low.sum()) / max(1e-9, (high - low).sum())
    sums = {"type": "eq", "fun": lambda x: x.sum() - total, "jac": np.ones_like}
    bounds, options = list(zip(low, high, strict=True)), {"ftol": 1e-12, "maxiter": 500}
    error, slope = lambda x: 0.5 * np.sum((x - wanted) ** 2), lambda x: x - wanted
    return minimize(error, start, jac=slope, bounds=bounds, constraints=sums, method="SLSQP", options=options).x


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20)), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_the_projection_is_the_solution_of_the_programme(parts, share, balance):
    weights, sizes = np.array([w for w, _ in parts]) + 0.01, np.array([n for _, n in parts])
    total = round(share * sizes.sum())
    low = np.minimum(balance * total / len(parts), np.maximum(sizes - 1, 0))
    wanted = weights / weights.sum() * total
    found = projected(wanted, total, low, sizes)
    assert found.sum() == pytest.approx(total, abs=1e-6)
    assert (found >= low - 1e-9).all()
    assert (found <= sizes + 1e-9).all()
    reference = programme(wanted, total, low, sizes)
    assert np.sum((found - wanted) ** 2) <= np.sum((reference - wanted) ** 2) + 1e-4
    counts = allotted(weights / weights.sum(), total, sizes, balance)
    assert counts.sum() == total
    assert (np.abs(counts - found) < 1.001).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20)), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_what_rounding_down_leaves_goes_one_each_to_where_most_was_cut_off(parts, share, balance):
    """The largest remainder, by its definition."""
    weights, sizes = np.array([w for w, _ in parts]) + 0.01, np.array([n for _, n in parts])
    total = round(share * sizes.sum())
    low = np.minimum(balance * total / len(parts), np.maximum(sizes - 1, 0))
    exact = projected(weights / weights.sum() * total, total, low, sizes)
    counts = allotted(weights / weights.sum(), total, sizes, balance)
    cut = [value - int(value) for value in exact]
    one_more = [got - int(value) for got, value in zip(counts, exact, strict=True)]
    assert set(one_more) <= {0, 1}
    others = [rest for rest, more, value, size in zip(cut, one_more, exact, sizes, strict=True) if not more and int(value) < size]
    assert min([rest for rest, more in zip(cut, one_more, strict=True) if more], default=1) >= max(others, default=0)


def test_a_wide_cluster_far_from_others_is_complex():
    rng = np.random.default_rng(0)
    middles = np.eye(3)
    vectors = np.concatenate([middle + width * rng.normal(size=(40, 3)) for middle, width in zip(middles, (0.02, 0.02, 0.3), strict=True)])
    found = clustered(Pool(table(np.zeros(120)), Held(vectors)), of("density", clusters=3))
    wide = np.bincount(found.labels[80:], minlength=3).argmax()
    assert complexity(found).argmax() == wide


def first_centroids(count, of):
    """Which `of` of `count` rows faiss begins with, seeded as the engine does."""
    order = np.empty(count, np.int32)
    faiss.rand_perm(faiss.swig_ptr(order), count, 1 + 1)
    return order[:of]


def means(points, count, iterations):
    """k-means in loops, on rows of length one, from the rows that faiss begins with: centroids of length one."""
    middles = [points[row] for row in first_centroids(len(points), count)]
    for _ in range(iterations):
        groups = [[] for _ in middles]
        for point in points:
            groups[int(np.argmax([point @ middle for middle in middles]))].append(point)
        assert all(groups), "faiss would split another cluster here"
        middles = [np.sum(group, axis=0) / np.linalg.norm(np.sum(group, axis=0)) for group in groups]
    return np.array(middles)


def one_level(points, lots, count, config):
    """A level by the original's definition: k-means, then ten times k-means anew on the nearest of each cluster. Centroids and labels."""
    by_lot = sorted(range(len(points)), key=lambda row: lots[row])
    middles = means(points[by_lot], count, config.iterations)
    each = max(1, round(config.hierarchical.sample * len(points) / count))
    for _ in range(10):
        labels = [int(np.argmax(point @ middles.T)) for point in points]
        nearest = []
        for cluster, middle in enumerate(middles):
            mine = [row for row in range(len(points)) if labels[row] == cluster]
            nearest += sorted(mine, key=lambda row: (-(points[row] @ middle), lots[row]))[:each]
        middles = means(points[sorted(nearest, key=lambda row: lots[row])], count, config.iterations)
    return middles, [int(np.argmax(point @ middles.T)) for point in points]


def uneven(seed):
    """A dense heap, a thin one and stragglers: k-means alone spends most centroids on the dense one."""
    rng = np.random.default_rng(seed)
    heaps = [
        middle + width * rng.normal(size=(count, 8))
        for middle, width, count in zip(np.eye(8)[:3], (0.25, 0.4, 0.6), (130, 40, 20), strict=True)
    ]
    return Pool(table(np.zeros(190)), Held(np.concatenate(heaps)))


@pytest.mark.parametrize("seed", range(3))
def test_hierarchical_clusters_the_nearest_of_each_cluster_again_and_again(seed):
    many, config = uneven(seed), of("hierarchical", clusters=10, iterations=8)
    points = clusters.whole(many.vectors.take(np.arange(190))).astype(np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    middles, below = one_level(points, many.keys(config.seed), 10, config)
    _, above = one_level(middles, mixed(np.arange(10, dtype=np.uint64)), 3, config)
    assert [level.tolist() for level in tree(lowest(many, config), config)] == [below, above]


@pytest.mark.parametrize("seed", [0, 3])
def test_hierarchical_gives_every_branch_its_even_part_and_takes_it_by_lot(seed):
    many, config = pool(200, width=8), of("hierarchical", 60, clusters=20, seed=seed)
    levels, keys = tree(lowest(many, config), config), many.keys(seed)
    quotas = shared_out(levels, 200, 60, seed)
    expected = set()
    for leaf in range(len(quotas)):
        rows = sorted(np.flatnonzero(levels[0] == leaf), key=lambda row: keys[row])
        expected |= set(rows[: quotas[leaf]])
    assert [len(set(level.tolist())) <= size for level, size in zip(levels, (20, 6), strict=True)] == [True, True]
    assert set(choose(many, config, group=1).patch_ids) == set(ids(many, sorted(expected)))
    assert quotas.sum() == 60
    tops = np.bincount(levels[1], quotas, minlength=6)
    sizes = np.bincount(levels[1][levels[0]], minlength=6)
    level = max(tops)
    assert all(top >= min(level - 1, size) for top, size in zip(tops, sizes, strict=True))


def test_which_of_two_equal_clusters_gives_one_more_is_drawn_for_every_branch_by_itself():
    """Forty clusters of five patches, two in each branch, of which three patches are taken."""
    draws = [shared_out([np.repeat(np.arange(40), 5), np.repeat(np.arange(20), 2)], 200, 60, seed).reshape(20, 2) for seed in (0, 1)]
    for draw in draws:
        assert {tuple(one) for one in draw.tolist()} == {(1, 2), (2, 1)}
    assert draws[0].tolist() != draws[1].tolist()


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(0, 60), st.integers(0, 9))
def test_an_even_part_is_what_filling_one_by_one_gives(sizes, count, seed):
    found, filled, left = evenly(np.array(sizes), count, seed), [0] * len(sizes), min(count, sum(sizes))
    while left >= (growing := sum(size > have for size, have in zip(sizes, filled, strict=True))) and left:
        filled = [have + (size > have) for size, have in zip(sizes, filled, strict=True)]
        left -= growing
    assert found.sum() == min(count, sum(sizes))
    assert all(have <= got <= min(have + 1, size) for have, got, size in zip(filled, found, sizes, strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ahead", [1, 7, 1024])
def test_kcenter_takes_the_farthest_from_all_chosen(monkeypatch, seed, ahead):
    monkeypatch.setattr("engine.selection.coverage.AHEAD", ahead)
    many = pool(70, seed)
    likeness, keys = cosine(many), many.keys(seed)
    order = [min(range(70), key=lambda row: keys[row])]
    while len(order) < 70:
        rest = [row for row in range(70) if row not in order]
        order.append(min(rest, key=lambda row: (max(likeness[row, one] for one in order), keys[row])))
    for budget in (12, 68):
        assert choose(many, of("kcenter", budget, seed=seed)).patch_ids == ids(many, order[:budget])


def by_definition(rows, budget):
    """Algorithm 1 of OptiDEL: take in order while the bytes last, whole images only."""
    left, taken = int(budget * sum(row["bytes"] for row in rows)), []
    for row in rows:
        if row["bytes"] > left:
            break
        left -= row["bytes"]
        taken.append(row["patch_id"])
    return taken[: len(taken) // 4 * 4]


@pytest.mark.parametrize("budget", [0.125, 0.5, 1.0])
@pytest.mark.parametrize(("method", "sign"), [("optidel", -1), ("optidel_s", -1), ("easy", 1)])
def test_hardest_and_easiest_first_equal_their_definition(method, sign, budget):
    for seed in range(5):
        many = pool(60, seed)
        keys = dict(zip(many.columns["patch_id"].to_pylist(), many.keys(), strict=True))
        rows = sorted(many.columns.to_pylist(), key=lambda row: (sign * row["difficulty"], keys[row["patch_id"]]))
        assert choose(many, SelectionConfig(method=method, budget=budget)).patch_ids == by_definition(rows, budget)


def test_optidel_s_is_of_random_crops():
    with pytest.raises(ValueError, match="optidel_s ranks random crops and the store holds patches by sam"):
        choose(table(np.arange(8), proposer="sam"), of("optidel_s"))


def test_random_takes_every_patch_equally_often():
    counts = np.zeros(16)
    for seed in range(600):
        for patch_id in choose(table(np.zeros(16)), of("random", 4, seed=seed)).patch_ids:
            counts[int(patch_id[1:])] += 1
    assert np.abs(counts - 150).max() < 5 * np.sqrt(150 * 0.75)


def test_el2n_like_is_by_the_mean_over_all_scorers():
    many = pool(60)
    scores, keys = [*many.earlier, many.columns["difficulty"].to_numpy()], many.keys()
    order = sorted(range(60), key=lambda row: (-sum(float(score[row]) for score in scores) / 4, keys[row]))
    assert choose(many, of("el2n_like")).patch_ids == ids(many, order)


def test_forgetting_like_counts_the_ways_from_the_easier_half_to_the_harder():
    many = pool(61)
    scores, keys = [*many.earlier, many.columns["difficulty"].to_numpy()], many.keys()
    hard = [set(sorted(range(61), key=lambda row: (-score[row], keys[row]))[:30]) for score in scores]
    events = [sum(row not in hard[t] and row in hard[t + 1] for t in range(3)) for row in range(61)]
    order = sorted(range(61), key=lambda row: (-events[row], -scores[3][row], keys[row]))
    assert choose(many, of("forgetting_like")).patch_ids == ids(many, order[:60])
    assert max(events) == 2


@pytest.mark.parametrize("method", ["el2n_like", "forgetting_like"])
def test_methods_that_compare_scorers_need_several(method):
    many = pool(20)
    with pytest.raises(ValueError, match=f"selection.method={method} compares several scorers"):
        choose(many.columns, of(method))
    many.earlier[1][3] = np.inf
    with pytest.raises(ValueError, match="1 of 20 patches have a difficulty by the scorer 1 that is not a finite number"):
        choose(many, of(method))


def test_rded_takes_the_easiest_of_each_frame_and_deals_them_out():
    columns = table(np.arange(60)[::-1], frames=10)
    best = sorted((min(range(f, 60, 10), key=lambda row: 59 - row) for f in range(10)), key=lambda row: 59 - row)
    made = choose(columns, of("rded", 8)).patch_ids
    taken = [f"p{row:04d}" for row in best[:8]]
    assert made == [taken[0], taken[2], taken[4], taken[6], taken[1], taken[3], taken[5], taken[7]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(0, 600))
def test_most_finds_the_longest_beginning_that_can_be_paid(costs, limit):
    budget = Budget(np.array(costs), limit, "bytes", 1)
    found = most(budget, lambda count: np.arange(count))
    assert sum(costs[: len(found)]) <= limit
    assert len(found) == len(costs) or sum(costs[: len(found) + 1]) > limit


def test_most_looks_once_where_all_cost_the_same():
    """Of 1,000 patches of 5,000 bytes ten are paid by 50,000."""
    looks = []
    found = most(Budget(np.full(1000, 5000), 50_000, "bytes", 1), lambda count: looks.append(count) or np.arange(count))
    assert (looks, len(found)) == ([10], 10)


def test_the_bytes_of_ten_million_patches_do_not_overflow():
    columns = pa.table(
        {"patch_id": ["a", "b"], "difficulty": pa.array([1, 2], pa.float32()), "bytes": pa.array([2**31 - 1] * 2, pa.int32())}
    )
    assert choose(columns, SelectionConfig(budget=1.0), group=1).retained == 1
