"""Clusterings beside the patches: whole or as they were, never of what was forgotten, and a choice goes on from them."""

import os
import shutil
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import pool
from engine.browser import asking
from engine.browser.looks import Looks
from engine.config import SelectionConfig
from engine.pool import Clustering, Pool
from engine.selection import choose
from engine.settings import UpkeepConfig
from engine.store import PatchStore, caches, clusterings, commits
from tests import rows
from tests.rows import take_in

VIDEOS = tuple(f"{number:02d}" + "a" * (6 + number) for number in range(12))  # rows of ids of one length look the same
SEMDEDUP = SelectionConfig(method="semdedup", budget=1.0, unit="patches", clusters=3)


def files_of(dataset, below):
    return sorted(path for path in Path(dataset.uri, below).iterdir() if path.is_file())


def cut_short(dataset):
    for file in files_of(dataset, "data"):
        os.truncate(file, file.stat().st_size // 2)


def removed(dataset):
    files_of(dataset, "data")[0].unlink()


def garbled(dataset):
    for file in files_of(dataset, "data"):
        file.write_bytes(bytes(file.stat().st_size))


def torn(dataset):
    for file in files_of(dataset, "_versions"):
        os.truncate(file, 8)


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    take_in(made, *VIDEOS[:10])
    return made


def ids(store):
    return store.patches(["patch_id"])["patch_id"]


def of(names, known=None):
    """A pool of patches of which no more is known than what an earlier choice kept."""
    return Pool(pa.table({"patch_id": names}), clustering=known)


def invented(count, seed=0):
    rng = np.random.default_rng(seed)
    *numbers, reach = rng.random((4, count)).astype(np.float32)
    for values in (*numbers[1:], reach):
        values[::5] = np.nan
    centroids = rng.normal(size=(4, 6)).astype(np.float32)
    return Clustering(centroids, count, rng.integers(0, 4, count).astype(np.int32), *numbers, rng.integers(0, 9, 4), reach, 0.25)


def assert_same(first, second):
    for field in fields(Clustering)[:-1]:  # what they are, not where they were read
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), field.name)


def resolved(store, known=True):
    """A choice among the patches of the store, which goes on from what is kept and is kept."""
    version = store.complete_version()
    columns = store.patches(["patch_id", "bytes"], version=version)
    kept = store.clustering("x", columns["patch_id"]) if known else None
    pool = Pool(columns, store.vectors(version), clustering=kept)
    made = choose(pool, SEMDEDUP, group=1)
    return made, store.keep("x", pool, made.clustering, version)


def test_the_browser_shows_the_clusters_that_there_are_and_of_others_says_that_they_are_not(store):
    names, found = ids(store), invented(60)
    assert store.keep("x", of(names), found, 1)
    seen = Looks(store)
    assert sum(len(seen.view(asking.read({"cluster": f"x/{number}"})).rows) for number in range(4)) == 60
    for cluster in ("x/4", "x/99", "x/-1", "x/", "y/0", f"x/{'9' * 5000}"):
        with pytest.raises(LookupError, match="there is no cluster"):
            seen.view(asking.read({"cluster": cluster}))


def test_what_is_kept_is_found_again_for_the_same_patches_in_any_order_and_nothing_for_others(store):
    names, found = ids(store), invented(60)
    assert store.clustering("x", names) is None
    assert store.keep("x", of(names), found, 1)
    order = np.random.default_rng(0).permutation(60)
    assert_same(store.clustering("x", names.take(order)), found.at(order))
    others = pa.chunked_array([["new@0:1"], names.take(order[:20]).to_pylist()])
    assert_same(store.clustering("x", others), found.at(np.append(-1, order[:20])))
    assert store.clustering("y", names) is None
    assert store.scorers(store.complete_version()) == []


def test_the_newest_is_kept_and_one_of_an_older_version_changes_nothing(store):
    names = ids(store)
    assert store.keep("x", of(names), invented(60, 0), 7)
    assert not store.keep("x", of(names[:30]), invented(30, 1), 6)
    assert_same(store.clustering("x", names), invented(60, 0))
    for seed, version in ((2, 7), (3, 8)):
        assert store.keep("x", of(names), invented(60, seed), version)
        assert_same(store.clustering("x", names), invented(60, seed))
    assert store.open("clusters-x").count_rows() == 60 + 4


def test_a_choice_goes_on_from_what_is_kept_and_is_that_of_solving_anew_from_the_same_centroids(store):
    first, _ = resolved(store)
    take_in(store, VIDEOS[10])
    store.forget(VIDEOS[3])
    second, kept = resolved(store)
    assert kept
    assert second.clustering.name == first.clustering.name
    version, names = store.complete_version(), ids(store)
    emptied = replace(second.clustering.at(np.full(len(names), -1)), members=np.zeros(3, np.int64))
    pool = Pool(store.patches(["patch_id", "bytes"]), store.vectors(version), clustering=emptied)
    assert choose(pool, SEMDEDUP, group=1).patch_ids == second.patch_ids
    assert resolved(store)[0].patch_ids == second.patch_ids
    assert_same(store.clustering("x", names), second.clustering)


def gone_on(known, rng, share):
    """What a choice might make of what is known: what is new has a cluster, and some are compared anew or no more."""
    new, some = known.labels < 0, rng.random(len(known.labels)) < share
    labels, nearness, order, likeness, reach = (getattr(known, name).copy() for name in ("labels", *clusterings.TOLD[2:]))
    labels[new], nearness[new] = rng.integers(0, 4, new.sum()), rng.random(new.sum())
    order[some], likeness[some | new] = rng.random(some.sum()), rng.choice([0.25, 0.5, np.nan], (some | new).sum())
    reach[new | (rng.random(len(reach)) < share)] = 0.75
    told = {"labels": labels, "nearness": nearness, "order": order, "likeness": likeness, "reach": reach}
    return replace(known, **told, members=rng.integers(0, 9, 4), level=float(rng.choice([0.25, 0.5])))


@settings(deadline=None, max_examples=5)
@given(data=st.data(), seed=st.integers(0, 99))
def test_what_choices_add_one_after_the_other_is_read_as_if_each_had_written_all(tmp_path_factory, data, seed):
    store, rng = PatchStore(str(tmp_path_factory.mktemp("store"))), np.random.default_rng(seed)
    store.create(rows.WIDTH)
    every = pa.array([f"{number // 6:08x}@{number}:0" for number in range(90)])
    count, found = 50, invented(50, seed)
    assert store.keep("x", of(pa.chunked_array([every[:50]])), found, 1)
    for version in range(2, 6):
        if data.draw(st.booleans(), "upkeep"):
            store.maintain(UpkeepConfig(keep_hours=1e-9))
        count += data.draw(st.integers(0, 10), "new")
        names = pa.chunked_array([every.take(rng.permutation(count))])
        known = store.clustering("x", names)
        found = gone_on(known, rng, data.draw(st.sampled_from([0, 0.02, 0.1, 0.5]), "anew"))
        assert store.keep("x", of(names, known), found, version)
        assert_same(store.clustering("x", names), found)
        np.testing.assert_array_equal(clusterings.labels(store, "x", names), found.labels)
        assert store.open("clusters-x").count_rows() <= 4 + (1 + clusterings.LEFT) * count


def test_a_choice_that_goes_on_writes_what_is_new_and_what_it_compared_anew_alone(store):
    resolved(store)
    before = {one.fragment_id: one.metadata.files for one in store.open("clusters-x").get_fragments()}
    take_in(store, VIDEOS[10])
    columns = store.patches(["patch_id"])
    known = store.clustering("x", columns["patch_id"])
    second, _ = resolved(store)
    anew = np.flatnonzero((known.labels >= 0) & (second.clustering.likeness != known.likeness))
    after = store.open("clusters-x")
    assert after.count_rows() == 3 + 66 + len(anew)
    assert [files for number, files in before.items() if number in {one.fragment_id for one in after.get_fragments()}] == [before[1]]
    added = after.to_table(columns=["label", "video_id"], filter="key IS NOT NULL")[60:].to_pylist()
    assert [row["video_id"] for row in added if row["label"] >= 0] == [VIDEOS[10]] * 6


def test_of_a_table_of_an_older_engine_all_was_compared_with_all_and_the_next_choice_says_more(store):
    names, found = ids(store), invented(60)
    store.keep("x", of(names), found, 1)
    lance.dataset(store.address("clusters-x.lance")).drop_columns(["reach", "level"])
    known = store.clustering("x", names)
    assert_same(known, replace(found, reach=np.ones(60, np.float32), level=1.0))
    assert store.keep("x", of(names, known), replace(found, version=known.version), 2)
    assert_same(store.clustering("x", names), found)


def test_a_choice_that_another_overtook_writes_all(store):
    names = ids(store)
    store.keep("x", of(names), invented(60), 1)
    known, rng = store.clustering("x", names), np.random.default_rng(0)
    for found in (gone_on(known, rng, 0.05), gone_on(known, rng, 0.05)):  # both of what was there at first
        assert store.keep("x", of(names, known), found, 1)
        assert_same(store.clustering("x", names), found)
    assert store.open("clusters-x").count_rows() == 4 + 60


def test_other_clusters_of_known_patches_are_written_whole(store):
    names = ids(store)
    store.keep("x", of(names), invented(60), 1)
    known = store.clustering("x", names)
    for found in (replace(known, labels=np.roll(known.labels, 1)), replace(known, nearness=known.nearness / 2), invented(60, 1)):
        assert store.keep("x", of(names, store.clustering("x", names)), found, 1)
        assert_same(store.clustering("x", names), found)
        assert store.open("clusters-x").count_rows() == 4 + 60


def test_a_clustering_that_was_struck_down_before_its_commit_leaves_the_old_one_whole(store, monkeypatch):
    names = ids(store)
    store.keep("x", of(names), invented(60, 0), 1)

    def struck(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits, "land", struck)
        for name in "xy":
            with pytest.raises(KeyboardInterrupt):
                store.keep(name, of(names), invented(60, 1), 2)
    assert_same(store.clustering("x", names), invented(60, 0))
    assert store.clustering("y", names) is None
    assert store.keep("y", of(names), invented(60, 1), 2)
    assert_same(store.clustering("y", names), invented(60, 1))


def test_a_late_commit_of_a_job_that_lost_the_lock_does_not_land(store):
    names = ids(store)
    store.keep("x", of(names), invented(60, 0), 1)
    dataset = store.open("clusters-x")
    late = commits.replacement(dataset, [fragment.metadata for fragment in dataset.get_fragments()], "true")
    with pytest.raises(ZeroDivisionError), commits.committing(store):
        raise ZeroDivisionError
    with commits.committing(store):  # inherited: what was begun before is fenced off
        pass
    with pytest.raises(OSError, match="conflict"):
        lance.LanceDataset.commit(dataset.uri, late, read_version=dataset.version)
    assert_same(store.clustering("x", names), invented(60, 0))
    assert store.keep("x", of(names), invented(60, 1), 2)
    assert_same(store.clustering("x", names), invented(60, 1))


def test_upkeep_merges_its_files_and_removes_what_it_was(store, monkeypatch):
    monkeypatch.setattr(clusterings, "WRITTEN", 7)
    names = ids(store)
    store.keep("x", of(names), invented(60, 0), 1)
    store.keep("x", of(names), invented(60, 1), 2)
    assert len(store.open("clusters-x").get_fragments()) == 10
    store.maintain(UpkeepConfig(keep_hours=1e-9))
    table = store.open("clusters-x")
    assert (len(table.get_fragments()), len(table.versions())) == (1, 1)
    assert_same(store.clustering("x", names), invented(60, 1))
    assert store.keep("x", of(names), invented(60, 2), 3)
    assert_same(store.clustering("x", names), invented(60, 2))


def test_a_forgotten_video_is_gone_from_it_and_does_not_come_back_with_a_choice_that_had_begun(store):
    names, found = ids(store), invented(60)
    store.keep("x", of(names), found, 1)
    told = store.forget(VIDEOS[3]).to_pylist()
    assert ("rows removed", "clusters-x", 6) in [(row["what"], row["name"], row["count"]) for row in told]
    assert ("made from it: centroids", "clusters-x") in [(row["what"], row["name"]) for row in told]
    gone = np.array([name.startswith(VIDEOS[3]) for name in names.to_pylist()])
    left = found.at(np.where(gone, -1, np.arange(60)))
    assert_same(store.clustering("x", names), left)
    known = store.clustering("x", names)
    assert store.keep("x", of(names, known), replace(found, version=known.version), 2)
    assert_same(store.clustering("x", names), left)
    assert store.keep("x", of(names), found, 2)
    assert_same(store.clustering("x", names), left)
    table = store.open("clusters-x")
    assert set(table.to_table(columns=["video_id"])["video_id"].to_pylist()) == {None, *VIDEOS[:10]} - {VIDEOS[3]}


def test_a_pinned_store_reads_what_is_kept_and_keeps_nothing(store):
    names = ids(store)
    store.keep("x", of(names), invented(60), 1)
    pinned = store.at(store.complete_version())
    assert_same(pinned.clustering("x", names), invented(60))
    with pytest.raises(PermissionError, match="is read-only"):
        pinned.keep("x", of(names), invented(60), 1)


def test_patches_that_share_a_hash_are_solved_anew(store, monkeypatch):
    names = ids(store)
    store.keep("x", of(names), invented(60), 1)
    true = clusterings.hashed
    for module in (clusterings, pool):
        monkeypatch.setattr(module, "hashed", lambda column, seed=0: true(column, seed) % np.uint64(50))
    assert store.clustering("x", names) is None
    assert not store.keep("x", of(names), invented(60, 1), 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept.delete("key IS NULL AND label = 2"),
        lambda kept: kept.update({"label": "99"}, where="key IS NOT NULL AND nearness > 0.5"),
        lambda kept: kept.update({"label": "1"}, where="key IS NULL AND label = 2"),
        cut_short,
        removed,
        garbled,
        torn,
    ],
    ids=[
        "a cluster is missing",
        "a patch is in a cluster that is none",
        "a cluster is there twice",
        "cut short",
        "gone",
        "garbled",
        "torn",
    ],
)
def test_a_damaged_one_is_as_none_and_told_and_the_next_takes_its_place(store, caplog, damage):
    names, version = ids(store), store.complete_version()
    assert store.keep("x", of(names), invented(60), version)
    known = store.clustering("x", names)
    damage(lance.dataset(store.address("clusters-x.lance")))
    assert store.clustering("x", names) is None
    assert "the table clusters-x is damaged, so what it tells is found out anew: " in caplog.text
    assert store.keep("x", of(names, known), invented(60, 1), version)  # by one who read it before
    assert_same(store.clustering("x", names), invented(60, 1))
    assert store.open("clusters-x").count_rows() == 64
    store.maintain(UpkeepConfig())


@pytest.mark.parametrize("damage", [cut_short, removed, garbled, torn], ids=lambda one: one.__name__)
def test_whoever_asks_a_damaged_one_for_its_clusters_hears_that_there_are_none(store, damage):
    store.keep("x", of(ids(store)), invented(60), 1)
    damage(store.open("clusters-x"))
    assert clusterings.centroids(store, "x") is None
    assert (clusterings.labels(store, "x", ids(store)) == -1).all()


@pytest.mark.parametrize("table", ["clusters-x", "rounded-x"])
@pytest.mark.parametrize("damage", [removed, torn], ids=lambda one: one.__name__)
def test_upkeep_says_which_damaged_table_may_be_removed_and_then_goes_on(store, table, damage):
    store.keep("x", of(ids(store)), invented(60), 1)
    if table == "rounded-x":
        shutil.copytree(store.place("clusters-x"), store.place("rounded-x"))
    damage(store.open(table))
    with pytest.raises(OSError, match=f"{table} of .*; remove its folder, since the next choice makes it anew"):
        store.maintain(UpkeepConfig())
    shutil.rmtree(store.place(table))
    store.maintain(UpkeepConfig())


def test_a_store_that_cannot_be_reached_is_no_damaged_table(store, monkeypatch):
    names = ids(store)
    store.keep("x", of(names), invented(60), 1)

    def away(*_):
        raise OSError("the store cannot be reached: the network is down")

    monkeypatch.setattr(type(store), "holds", away)
    monkeypatch.setattr(caches, "sound", Mock(side_effect=caches.BrokenError("connection reset")))
    with pytest.raises(OSError, match="the network is down"):
        store.clustering("x", names)


def test_what_is_kept_while_another_reads_is_not_mixed_with_what_that_one_reads(store, monkeypatch):
    """Labels of one version in the clusters of another would put patches where they never were."""
    names, true = ids(store), clusterings.centroids_of

    def late(dataset):
        monkeypatch.setattr(clusterings, "centroids_of", true)
        store.keep("x", of(names), invented(60, 1), 2)
        return true(dataset)

    for read in (partial(store.clustering, "x", names), partial(clusterings.centroids, store, "x")):
        store.keep("x", of(names), invented(60), 2)
        monkeypatch.setattr(clusterings, "centroids_of", late)
        np.testing.assert_array_equal(read().centroids, invented(60).centroids)
        assert_same(store.clustering("x", names), invented(60, 1))
    store.keep("x", of(names), invented(60), 2)
    monkeypatch.setattr(clusterings, "centroids_of", late)
    np.testing.assert_array_equal(clusterings.labels(store, "x", names), invented(60).labels)


def test_one_of_other_embeddings_is_fitted_anew(store):
    version, columns = store.complete_version(), store.patches(["patch_id", "bytes"])
    pool = Pool(columns, store.vectors(version))
    assert invented(60).centroids.shape[1] != pool.embeddings().width
    assert choose(replace(pool, clustering=invented(60)), SEMDEDUP, group=1).patch_ids == choose(pool, SEMDEDUP, group=1).patch_ids
