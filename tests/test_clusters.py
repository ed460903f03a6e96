"""Clusters and likeness inside them, against loops over the definitions; and that neither threads, tiles nor order change a bit."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from engine import clusters
from engine.pool import Held, Part
from engine.rows import mixed

CLOSE = 1e-3  # what rounding moves a cosine by at most, at these widths


def directions(count, width=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def keys(count):
    return mixed(np.arange(count, dtype=np.uint64))


def true_cosines(vectors):
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return unit @ unit.T


def rounded_cosines(vectors):
    """The same of the rounded rows, number by number in whole numbers."""
    rows = [[int(value) for value in row] for row in clusters.whole(vectors)]
    dot = [[sum(x * y for x, y in zip(one, other, strict=True)) for other in rows] for one in rows]
    return np.array([[dot[i][j] / np.sqrt(dot[i][i] * dot[j][j]) for j in range(len(rows))] for i in range(len(rows))])


def test_a_cosine_is_that_of_the_embeddings_and_exactly_that_of_the_rounded_ones():
    vectors = directions(40, 384)
    rows = clusters.whole(vectors)
    found = clusters.cosines(rows, rows)
    assert np.abs(found - true_cosines(vectors)).max() < CLOSE
    assert np.abs(found - rounded_cosines(vectors)).max() < 1e-6
    assert (np.diag(found) == 1).all()


@pytest.mark.parametrize("width", [3, 384, 1280])
def test_sums_of_products_are_exact_in_float32(width):
    rows = clusters.whole(np.concatenate([directions(64, width), np.ones((1, width), np.float32), np.eye(1, width, dtype=np.float32)]))
    assert ((rows @ rows.T).astype(np.int64) == rows.astype(np.int64) @ rows.astype(np.int64).T).all()
    assert np.abs(rows.astype(np.int64) @ rows.astype(np.int64).T).max() < 2**24


def test_every_row_goes_to_the_nearest_centroid_whoever_its_neighbours_are():
    vectors, middles = directions(3000, 24), directions(37, 24, seed=1)
    labels, nearness = clusters.assigned(Held(vectors), middles)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    true = unit @ (middles / np.linalg.norm(middles, axis=1, keepdims=True)).T
    assert np.abs(nearness - true.max(axis=1)).max() < CLOSE
    assert (true.max(axis=1) - true[np.arange(3000), labels] < CLOSE).all()
    some = np.random.default_rng(2).permutation(3000)[:777]
    again = clusters.assigned(Held(vectors[some]), middles)
    assert (again[0] == labels[some]).all()
    assert (again[1] == nearness[some]).all()


def test_centroids_are_the_same_whatever_the_order_of_rows_and_the_threads():
    vectors, threads = directions(4000, 32).astype(np.float16), faiss.omp_get_max_threads()
    first = clusters.fit(Held(vectors), 20, keys(4000), 10)
    order = np.random.default_rng(0).permutation(4000)
    faiss.omp_set_num_threads(1)
    try:
        second = clusters.fit(Held(vectors[order]), 20, keys(4000)[order], 10)
    finally:
        faiss.omp_set_num_threads(threads)
    assert (first == second).all()
    assert np.abs(np.linalg.norm(first, axis=1) - 1).max() < CLOSE


def test_k_means_is_as_good_as_that_of_scikit_learn():
    vectors = directions(12, 24, seed=3)[np.arange(1200) % 12] + directions(1200, 24, seed=4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    other = KMeans(30, n_init=1, max_iter=25, random_state=0).fit(unit).cluster_centers_
    _, reference = clusters.assigned(Held(vectors), other.astype(np.float32))
    _, nearness = clusters.assigned(Held(vectors), clusters.fit(Held(vectors), 30, keys(1200), 25))
    assert nearness.mean() > reference.mean() - 0.01
    assert nearness.mean() > clusters.assigned(Held(vectors), vectors[:30])[1].mean() + 0.05


def test_only_the_rows_of_the_smallest_keys_are_clustered(monkeypatch):
    monkeypatch.setattr(clusters, "POINTS", 10)
    vectors, lots = directions(500, 8), keys(500)
    some = np.sort(np.argsort(lots)[:30])
    assert (clusters.fit(Held(vectors), 3, lots, 5) == clusters.fit(Part(Held(vectors), some), 3, lots[some], 5)).all()


def test_embeddings_without_direction_are_counted():
    vectors = directions(10, 4)
    vectors[[2, 5]], vectors[7, 1] = 0, np.nan
    with pytest.raises(ValueError, match="3 of 10 embeddings are zero or hold what is not a finite number"):
        clusters.fit(Held(vectors), 2, keys(10), 5)


@pytest.mark.parametrize("rows", [1, 2, 7, 300])
def test_identical_rows_and_fewer_rows_than_clusters_will_do(rows):
    same = Held(np.ones((rows, 5), np.float16))
    centroids = clusters.fit(same, 17, keys(rows), 10)
    labels, nearness = clusters.assigned(same, centroids)
    assert len(centroids) == min(rows, 17)
    assert len(set(labels.tolist())) == 1
    assert (nearness > 1 - CLOSE).all()


def test_rows_that_cancel_out_have_a_centroid_with_a_direction():
    centroids = clusters.fit(Held(np.array([[1, 0], [-1, 0]], np.float32)), 1, keys(2), 5)
    assert np.linalg.norm(centroids) == pytest.approx(1)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.randoms())
def test_members_and_places_are_the_rows_of_each_cluster_in_order(labels, random):
    order = random.sample(range(len(labels)), len(labels))
    reference = [[row for row in order if labels[row] == label] for label in range(6)]
    marked = np.array(labels, np.int32)
    assert [rows.tolist() for rows in clusters.members(marked, np.array(order), 6)] == reference
    assert clusters.places(marked, np.array(order)).tolist() == [reference[label].index(row) for row, label in enumerate(labels)]


def greedy(likeness, threshold):
    kept = []
    for row in range(len(likeness)):
        if not any(likeness[before, row] > threshold for before in kept):
            kept.append(row)
    return kept


@pytest.mark.parametrize("tile", [8, 1024])
def test_likeness_with_earlier_rows_and_greedy_cover_are_their_definitions(monkeypatch, tile):
    monkeypatch.setattr(clusters, "TILE", tile)
    vectors = directions(90, 6)
    vectors[[20, 50, 89]] = vectors[[3, 3, 88]]
    likeness = rounded_cosines(vectors)
    reference = [max((likeness[before, row] for before in range(row)), default=-1) for row in range(90)]
    assert np.abs(clusters.earlier_likeness(vectors) - reference).max() < 1e-6
    assert clusters.earlier_likeness(vectors)[[20, 50, 89]].tolist() == [1, 1, 1]
    thresholds = np.linspace(-0.9, 0.9999, 32, dtype=np.float32)
    kept = clusters.covered(vectors, thresholds)
    for bit, threshold in enumerate(thresholds):
        assert np.flatnonzero(kept >> bit & 1).tolist() == greedy(np.round(likeness * 2**20) / 2**20, threshold)


@pytest.mark.parametrize("tile", [8, 1024])
@pytest.mark.parametrize("new", [[], [0], [89], [3, 17, 18, 50], list(range(5, 85)), list(range(90))])
def test_what_new_rows_add_to_the_likeness_of_old_ones_is_what_comparing_all_says_to_the_bit(monkeypatch, tile, new):
    monkeypatch.setattr(clusters, "TILE", tile)
    for seed in range(5):
        vectors, old = directions(90, 6, seed), np.setdiff1d(np.arange(90), new)
        vectors[[20, 50, 89]] = vectors[[3, 3, 88]]
        found = clusters.added_likeness(vectors, np.array(new, np.int64))
        found[old] = np.maximum(found[old], clusters.earlier_likeness(vectors[old]))
        assert (found == clusters.earlier_likeness(vectors)).all()


def test_a_part_of_vectors_is_those_rows():
    vectors = directions(200_000, 2)
    rows = np.sort(np.random.default_rng(0).permutation(200_000)[:70_000])
    part = Part(Held(vectors), rows)
    assert (np.concatenate(list(part.blocks())) == vectors[rows]).all()
    assert (part.take(np.array([5, 3])) == vectors[rows[[5, 3]]]).all()
    assert (len(part), part.width) == (70_000, 2)
