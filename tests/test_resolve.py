"""A choice made again after patches came, went or changed: that of solving anew from the same centroids, for the cost of what is new."""

from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clusters
from engine.appearance import LIMITS
from engine.config import SelectionConfig
from engine.methods import HierarchicalConfig
from engine.pool import Clustering, Held, Pool
from engine.selection import METHODS, choose, clustering_of, of_same_clusters
from tests.test_selection import pool

AGAIN = [name for name, method in METHODS.items() if method.compares]
AS_ANEW = [name for name in AGAIN if name not in ("meddel", "kcenter")]  # which go on in another order: test_cover, test_coverage
DEFINED = {"semdedup": lambda pool, found: found.nearness, "endocurate": lambda pool, found: hardest_first(pool)}


def config(method, budget=0.5):
    return SelectionConfig(method=method, budget=budget, unit="patches", clusters=4, iterations=2)


def solved(pool, method, known=None, **knobs):
    return choose(replace(pool, clustering=known), config(method), group=1, **knobs)


def places(of, among):
    """Where each row of one pool stands in another; -1 where it does not."""
    there = {patch_id: row for row, patch_id in enumerate(among.columns["patch_id"].to_pylist())}
    return np.array([there.get(patch_id, -1) for patch_id in of.columns["patch_id"].to_pylist()])


def emptied(known):
    """A clustering of which nothing is known but the centroids."""
    return replace(known.at(np.full(len(known.labels), -1)), members=np.zeros_like(known.members))


def picked(pool, rows):
    return Pool(pool.columns.take(rows), Held(pool.vectors.array[rows]), tuple(values[rows] for values in pool.earlier))


def assert_equal(first, second):
    assert (first.patch_ids, first.told, first.unspent) == (second.patch_ids, second.told, second.unspent)
    assert_same(first.clustering, second.clustering)


def assert_same(first, second):
    assert (first.left is None) == (second.left is None)
    for name in {field.name for field in fields(Clustering)} - {"left"}:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)
    if first.left:
        assert_same(first.left, second.left)


def hardest_first(pool):
    shown = np.max([pool.columns[name].to_numpy().astype(np.float64) / limit for name, limit in LIMITS.items()], axis=0)
    return np.where(shown <= 1, -pool.columns["difficulty"].to_numpy(), np.nan)


def by_definition(pool, found, order):
    """The largest cosine of each row with an earlier one of its cluster, in loops."""
    rows, made = clusters.whole(pool.vectors.take(np.arange(len(pool)))), np.full(len(pool), np.nan)
    likeness, before = clusters.cosines(rows, rows), {}
    for row in sorted(np.flatnonzero(~np.isnan(order)), key=list(zip(order, pool.keys(), strict=True)).__getitem__):
        mine = before.setdefault(found.labels[row], [])
        made[row] = likeness[row, mine].max(initial=-1)
        mine.append(row)
    return made


@pytest.mark.parametrize("method", AS_ANEW)
@settings(deadline=None, max_examples=12)
@given(data=st.data(), seed=st.integers(0, 99))
def test_whatever_came_and_went_the_choice_is_that_of_solving_anew_from_the_same_centroids(method, data, seed):
    everything = pool(70, seed)
    order = np.array(data.draw(st.permutations(range(70))))
    before = picked(everything, order[: data.draw(st.integers(52, 60))])
    after = picked(everything, np.array(data.draw(st.permutations(order[data.draw(st.integers(0, 6)) : 62]))))
    known = solved(before, method).clustering.at(places(after, before))
    again = solved(after, method, known)
    assert again.clustering.name == known.name
    assert_equal(again, solved(after, method, emptied(known)))


@pytest.mark.parametrize("method", DEFINED)
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 99), new=st.integers(1, 10), gone=st.integers(0, 3))
def test_the_likeness_is_that_of_the_definition_after_patches_came_and_went(method, seed, new, gone):
    after = pool(60, seed).part(np.arange(gone, 60))
    before = pool(60, seed).part(np.arange(60 - new))
    found = solved(after, method, solved(before, method).clustering.at(places(after, before))).clustering
    np.testing.assert_allclose(found.likeness, by_definition(after, found, DEFINED[method](after, found)), atol=2e-6)


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 99), changed=st.lists(st.integers(0, 59), max_size=4), name=st.sampled_from(["difficulty", "glare"]))
def test_patches_that_are_harder_or_dirtier_than_they_were_are_compared_again(seed, changed, name):
    one = pool(60, seed)
    known = solved(one, "endocurate").clustering
    values = one.columns[name].to_numpy().copy()
    values[changed] = values[changed] * 3 + 0.5
    other = replace(one, columns=one.columns.set_column(one.columns.column_names.index(name), name, pa.array(values)))
    assert_equal(solved(other, "endocurate", known), solved(other, "endocurate", emptied(known)))


@settings(deadline=None, max_examples=10)
@given(st.lists(st.sampled_from(["semdedup", "ssl_prototypes", "d4", "density"]), min_size=1, max_size=3), st.integers(0, 9))
def test_methods_that_share_a_clustering_carry_it_on_for_each_other(methods, seed):
    assert len({clustering_of(config(method)) for method in [*methods, "semdedup"]}) == 1
    whole, known = pool(60, seed), None
    for step, method in enumerate([*methods, "semdedup"]):
        part = whole.part(np.arange(step, 52 + 2 * step))
        made = solved(part, method, known)
        known = replace(made.clustering, left=None).at(np.append(np.arange(1, len(part)), [-1] * 2))  # the first goes and two come
    assert_equal(made, solved(part, "semdedup", emptied(made.clustering)))


def alike(count, seed):
    """Patches of two kinds, in scenes of patches that look nearly the same: so what is left out shows early, and late it matters."""
    rng, one = np.random.default_rng(seed), pool(count, seed)
    scenes = rng.normal(size=(2, 16))[rng.integers(0, 2, 40)] + rng.choice([0.1, 0.6], (40, 1)) * rng.normal(size=(40, 16))
    made = scenes[rng.integers(0, 40, count)] + rng.choice([0.02, 0.3], (count, 1)) * rng.normal(size=(count, 16))
    return Pool(one.columns, Held(made.astype(np.float32)))


CHOICES = st.tuples(
    st.sampled_from(["semdedup"] * 4 + ["d4", "density", "ssl_prototypes"]),
    st.sampled_from([0.04, 0.1, 0.2, 0.6]),
    st.sampled_from(["patches", "bytes"]),
    st.integers(0, 12),  # rows that come
    st.sampled_from([0, 0, 0, 1, 3]),  # and go
)


@settings(deadline=None, max_examples=25)
@given(st.lists(CHOICES, min_size=3, max_size=7), st.integers(0, 999))
def test_by_whatever_budgets_and_methods_in_turn_choices_are_those_of_solving_anew_from_the_same_centroids(choices, seed):
    everything, rng, rows, known = alike(240, seed), np.random.default_rng(seed), np.arange(150), None
    for method, budget, unit, came, gone in choices:
        rows = np.append(rng.permutation(rows)[gone:], np.arange(rows.max() + 1, rows.max() + 1 + came))
        part = picked(everything, rows)
        knobs = SelectionConfig(method=method, budget=budget, unit=unit, clusters=2, iterations=2)
        known = known and known[1].at(places(part, known[0]))
        made = choose(replace(part, clustering=known), knobs, group=1)
        if known and made.clustering.name == known.name:
            anew = choose(replace(part, clustering=emptied(known)), knobs, group=1)
            assert (made.patch_ids, made.unspent, made.few) == (anew.patch_ids, anew.unspent, anew.few)
        if method != "ssl_prototypes":  # which compares nothing
            assert_bounded(part, made.clustering)
        known = part, made.clustering


def assert_bounded(pool, found):
    """No likeness is more than that of the definition, and each is just that up to where its row and all before it were compared."""
    rows, outside_in = clusters.whole(pool.vectors.array), np.lexsort([pool.keys(), found.nearness])
    for label in range(len(found.centroids)):
        mine = outside_in[found.labels[outside_in] == label]
        true = np.where(np.tri(len(mine), k=-1), clusters.cosines(rows[mine], rows[mine]), -1).max(axis=1, initial=-1)
        exact = found.likeness[mine] <= np.minimum.accumulate(found.reach[mine])
        np.testing.assert_allclose(found.likeness[mine[exact]], true[exact], atol=2e-6)
        assert (found.likeness[mine] <= true + 2e-6).all()


def test_settings_that_cluster_otherwise_have_a_clustering_of_their_own():
    one = config("semdedup")
    changes = [{"of": "frames"}, {"embedding": "x"}, {"clusters": 5}, {"seed": 1}, {"iterations": 3}, {"method": "endocurate"}]
    assert len({clustering_of(one.model_copy(update=change)) for change in [{}, *changes]}) == 7
    assert clustering_of(one) == clustering_of(one.model_copy(update={"budget": 0.1, "unit": "bytes"}))
    assert [clustering_of(config(method)) for method in ("random", "optidel", "rded")] == [""] * 3
    budgets = [{"budget": 0.1}, {"unit": "bytes"}]
    assert len({clustering_of(config("meddel").model_copy(update=change)) for change in [{}, *changes[:5], *budgets]}) == 8
    kcenter = {clustering_of(config("kcenter").model_copy(update=change)) for change in [{}, *changes[:5], *budgets]}
    assert len(kcenter) == 7  # all of a pool is one cluster, whatever selection.clusters says
    sample = {"hierarchical": HierarchicalConfig(sample=0.25)}
    assert len({clustering_of(config("hierarchical").model_copy(update=change)) for change in [{}, *changes[:5], *budgets, sample]}) == 7


def test_only_clusters_that_are_made_alike_are_begun_with():
    one, other = config("meddel"), config("meddel").model_copy(update={"seed": 1})
    names = [clustering_of(config(method)) for method in ("meddel", "semdedup", "endocurate")]
    others = [clustering_of(config(method)) for method in ("hierarchical", "kcenter")]  # drawn apart, and one of all
    assert of_same_clusters(one, [*names, clustering_of(other), *others, "kinds"]) == names
    assert [of_same_clusters(config(method), [*names, *others]) for method in ("hierarchical", "kcenter")] == [[one] for one in others]


def hospital(count, seed=0):
    """Patches of 25 kinds, in scenes of patches that look nearly the same."""
    rng, one = np.random.default_rng(seed), pool(count, seed)
    kinds, scenes = rng.normal(size=(25, 16)), rng.normal(size=(count // 6 + 1, 16))
    scene = rng.integers(0, len(scenes), count)
    made = kinds[scene % 25] + 0.5 * scenes[scene] + 0.1 * rng.normal(size=(count, 16))
    return Pool(one.columns, Held(made.astype(np.float32)))


def cover(pool, chosen):
    """The mean cosine of a patch with the nearest chosen one."""
    rows = clusters.whole(pool.vectors.array)
    ids = pool.columns["patch_id"].to_pylist()
    return float(clusters.cosines(rows, rows[[ids.index(one) for one in chosen.patch_ids]]).max(axis=1).mean())


@pytest.mark.parametrize("method", [name for name in AGAIN if not METHODS[name].leaves])  # those: test_left
def test_going_on_for_a_seventh_more_patches_covers_as_much_as_clustering_anew_within_the_gap_that_is_stated(method):
    """The choices differ, since the centroids do, and those of four seeds differ as well: beside the worst of these it is 0.02 at most."""
    whole, knobs = hospital(800), SelectionConfig(method=method, budget=0.1, unit="patches", clusters=25, iterations=10)
    part = whole.part(np.arange(700))
    known = choose(part, knobs, group=1).clustering.at(np.append(np.arange(700), [-1] * 100))
    again = choose(replace(whole, clustering=known), knobs, group=1)
    anew = [choose(whole, knobs.model_copy(update={"seed": seed}), group=1) for seed in range(4)]
    assert again.clustering.name == known.name != anew[0].clustering.name
    assert cover(whole, again) > min(cover(whole, one) for one in anew) - 0.02


class Watched(Held):
    """Vectors that count the rows that are read."""

    read = 0

    def blocks(self):
        self.read += len(self)
        return super().blocks()

    def held(self, rows):
        self.read += len(rows)
        return super().held(rows)


@pytest.mark.parametrize("method", ["semdedup", "endocurate", "ssl_prototypes", "hierarchical", "d4", "density"])
def test_only_what_is_new_and_the_clusters_it_came_to_are_looked_at(method):
    watched = Watched(pool(60).vectors.array)
    one = replace(pool(60), vectors=watched)
    known, all_read = solved(one, method).clustering, watched.read
    assert all_read >= 120
    watched.read = 0
    same = solved(one, method, known)
    assert same.told.get("clustered_anew", 0) == 0
    assert_equal(same, solved(pool(60), method, known))
    advised = 60 if method == "endocurate" else 0  # it tells what theory says of a sample of the embeddings, 4,096 at most
    assert watched.read == advised
    watched.read = 0
    compared = ~np.isnan(hardest_first(one)) if method == "endocurate" else np.full(60, method in ("semdedup", "d4", "density"))
    mine = int(np.sum((known.labels == known.labels[1]) & compared))
    again = known.at(np.where(np.arange(60) == 1, -1, np.arange(60)))
    left = solved(one, method, again).clustering.left
    late = int(np.sum((left.labels >= 0) & (again.left.labels < 0))) if left else 0  # checked and assigned once more
    assert watched.read == 1 + 1 + mine + advised + 2 * late  # checked, assigned, and all of its cluster


def test_of_a_small_budget_a_new_patch_that_is_like_a_scout_meets_no_more_than_the_scouts_of_its_cluster():
    one, knobs = alike(200, 0), SelectionConfig(method="semdedup", budget=0.05, unit="patches", clusters=2, iterations=2)
    known = choose(one, knobs, group=1).clustering
    copied = Held(np.concatenate([one.vectors.array, one.vectors.array[:1]]))
    grown = Pool(pool(201).columns, Watched(copied.array), clustering=known.at(np.append(np.arange(200), -1)))
    again = choose(grown, knobs, group=1)
    mine = known.scouts & (known.labels == known.labels[0])
    assert 0 < again.clustering.reach[200] == again.clustering.level == known.level < again.clustering.likeness[200]
    assert grown.vectors.read == 1 + 1 + 1 + mine.sum() < 100  # checked, assigned, compared


@pytest.mark.parametrize("method", AGAIN)
def test_a_pool_that_changed_by_more_than_a_fifth_is_clustered_anew(method):
    whole = pool(73)
    known = solved(whole.part(np.arange(60)), method).clustering
    for count, kept in ((72, True), (73, False), (48, True), (47, False)):
        part = whole.part(np.arange(count))
        made = solved(part, method, known.at(np.where(np.arange(count) < 60, np.arange(count), -1)))
        assert (made.clustering.name == known.name) == kept
        assert made.clustering.fitted == (60 if kept else count)
        if not kept:
            assert_equal(made, solved(part, method))


def test_a_new_vector_without_direction_is_told():
    one = pool(20)
    known = solved(one, "semdedup").clustering
    one.vectors.array[4] = 0
    with pytest.raises(ValueError, match="1 of 20 embeddings are zero or hold what is not a finite number"):
        solved(one, "semdedup", known.at(np.where(np.isin(np.arange(20), [4, 9]), -1, np.arange(20))))
