"""What SemDeDup leaves, clustered once more: kept from choice to choice, and gone on with when patches came or went."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clusters
from engine.config import SelectionConfig
from engine.methods import D4Config
from engine.selection import choose, clustering_of, left_of, of_same_clusters
from engine.selection.budgets import budget_of
from engine.selection.density import DEDUP, allotted
from engine.store import PatchStore
from jobs.choose import continued, keep
from tests.test_resolve import alike, by_definition, config, cover, hospital, picked, places
from tests.test_selection import pool
from tests.test_selection_methods import ids

SHARES = {"d4": 0.75, "density": DEDUP}
CHOICES = st.tuples(
    st.sampled_from(["d4", "density"] * 3 + ["semdedup", "ssl_prototypes"]),
    st.sampled_from([0.04, 0.2, 0.6, 1.0]),
    st.integers(0, 12),  # rows that come
    st.sampled_from([0, 0, 1, 3, 6]),  # and go
)


def by_cluster(pool, rows, found):
    """Per cluster some rows, the farthest from its centroid first, equal ones by key; that each is in the nearest was looked up of all."""
    cosines = clusters.cosines(clusters.whole(pool.vectors.array[rows]), clusters.whole(found.centroids))
    np.testing.assert_allclose(found.nearness[rows], cosines.max(axis=1), atol=2e-6)
    np.testing.assert_allclose(found.nearness[rows], cosines[np.arange(len(rows)), found.labels[rows]], atol=2e-6)
    groups = [[] for _ in found.centroids]
    for row in sorted(rows, key=list(zip(found.nearness, pool.keys(), strict=True)).__getitem__):
        groups[found.labels[row]].append(row)
    return groups


def left_by(pool, found, share):
    """The rows that SemDeDup leaves: of all, sorted by the largest cosine with an earlier one of their cluster, so many."""
    np.testing.assert_allclose(found.likeness, by_definition(pool, found, found.nearness), atol=2e-6)
    order = sorted(range(len(pool)), key=list(zip(found.likeness, pool.keys(), strict=True)).__getitem__)
    return order[: max(1, round(share * len(pool)))]


def taken(pool, found, knobs):
    """The rows that D4 or Density-Based Pruning takes around the centroids of both clusterings, in loops."""
    rows, left = left_by(pool, found, SHARES[knobs.method]), found.left
    assert sorted(rows) == np.flatnonzero(left.labels >= 0).tolist()
    groups, limit = by_cluster(pool, rows, left), budget_of(pool, knobs, 1).limit
    order = list(zip(left.nearness, pool.keys(), strict=True)).__getitem__
    if knobs.method == "d4":
        return sorted(rows, key=order)[:limit]
    middles = clusters.whole(left.centroids)
    apart, powers = 1 - clusters.cosines(middles, middles), []
    for label, mine in enumerate(groups):
        others = sorted(np.delete(apart[label], label))[:20]
        intra = np.mean([1 - left.nearness[row] for row in mine]) if mine else 0
        powers.append(np.exp(np.mean(others) * intra / knobs.density.tau))
    counts = allotted(np.array(powers) / sum(powers), min(limit, len(rows)), np.array(list(map(len, groups))), knobs.density.balance)
    return sorted([row for mine, count in zip(groups, counts, strict=True) for row in mine[:count]], key=order)


def known_of(kept, pool, knobs):
    """What is kept under the names of some settings, of the rows of a pool."""
    names = clustering_of(knobs), left_of(knobs)
    first, second = (kept[name][1].at(places(pool, kept[name][0])) if name in kept else None for name in names)
    return first and replace(first, left=second)


@settings(deadline=None, max_examples=25)
@given(st.lists(CHOICES, min_size=3, max_size=8), st.integers(0, 999))
def test_whatever_came_and_went_and_was_chosen_in_between_the_choice_is_that_of_the_definition_around_the_same_centroids(choices, seed):
    everything, rng, rows, kept = alike(260, seed), np.random.default_rng(seed), np.arange(150), {}
    for method, budget, came, gone in choices:
        rows = np.append(rng.permutation(rows)[gone:], np.arange(rows.max() + 1, rows.max() + 1 + came))
        part, knobs = picked(everything, rows), SelectionConfig(method=method, budget=budget, unit="patches", clusters=3, iterations=2)
        known = known_of(kept, part, knobs)
        made = choose(replace(part, clustering=known), knobs, group=1)
        kept[clustering_of(knobs)] = part, replace(made.clustering, left=None)
        if method in SHARES:
            assert made.patch_ids == ids(part, taken(part, made.clustering, knobs))
            old, new = known and known.left, made.clustering.left
            count = round(SHARES[method] * len(part))
            anew = old is None or abs(count - old.fitted) > 0.2 * old.fitted
            assert made.told["clustered_anew"] == anew
            assert (new.fitted, new.name) == ((count, new.name) if anew else (old.fitted, old.name))
            kept[left_of(knobs)] = part, new


def test_what_is_left_by_other_settings_has_a_clustering_of_its_own_that_nobody_begins_with():
    changes = [{"of": "frames"}, {"embedding": "x"}, {"clusters": 5}, {"seed": 1}, {"iterations": 3}, {"d4": D4Config(dedup=0.5)}]
    names = {left_of(config("d4").model_copy(update=change)) for change in [{}, *changes]} | {left_of(config("density"))}
    assert len(names) == 8
    assert {left_of(config(method)) for method in ("semdedup", "ssl_prototypes", "meddel", "random")} == {""}
    assert left_of(config("d4", 0.1)) == left_of(config("d4"))
    assert of_same_clusters(config("d4"), [*names, clustering_of(config("d4"))]) == [clustering_of(config("d4"))]


@pytest.mark.parametrize("method", SHARES)
def test_what_a_store_keeps_of_what_is_left_is_added_to_and_holds_little_else(tmp_path, method):
    store, whole, knobs = PatchStore(str(tmp_path / "store")), pool(120), config(method)
    store.create(16)
    table, seen = f"clusters-{left_of(knobs)}", set()
    for step, count in enumerate((100, 104, 108, 108, 112)):
        part = continued(store, knobs, picked(whole, np.arange(step, count)))
        assert (part.left is None) == (step == 0)
        made = choose(part, knobs, group=1)
        keep(store, knobs, part, made.clustering, step + 1)
        assert made.patch_ids == ids(part, taken(part, made.clustering, knobs))
        mine = {key for key, label in zip(part.keys().tolist(), made.clustering.left.labels, strict=True) if label >= 0}
        rows = store.open(table).to_table(columns=["key", "label"], filter="key IS NOT NULL")
        stored = dict(zip(rows["key"].to_pylist(), rows["label"].to_pylist(), strict=True))
        assert len(rows) == len(stored) <= 1.2 * len(mine)
        assert mine <= set(stored) <= mine | seen
        assert made.told["clustered_anew"] == (step == 0)
        seen |= mine


@pytest.mark.parametrize("method", SHARES)
def test_going_on_for_a_seventh_more_patches_covers_as_much_as_clustering_anew_in_the_mean_over_seeds(method):
    """Of one seed it may be less or more: what is left has clusters that hang on the seed more than those of all."""
    whole, covers = hospital(800), []
    for seed in range(8):
        knobs = SelectionConfig(method=method, budget=0.1, unit="patches", clusters=25, iterations=10, seed=seed)
        known = choose(whole.part(np.arange(700)), knobs, group=1).clustering.at(np.append(np.arange(700), [-1] * 100))
        again = choose(replace(whole, clustering=known), knobs, group=1)
        assert again.clustering.left.name == known.left.name
        covers.append((cover(whole, again), cover(whole, choose(whole, knobs, group=1))))
    mean, anew = np.mean(covers, axis=0)
    assert mean > anew - 0.02
