"""What a choice compared is kept rounded beside its clusters: the next choice is the same with it as without, and reads less."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Clustering, Held, Pool
from engine.selection import choose, clustering_of
from engine.settings import UpkeepConfig
from engine.store import PatchStore, rescoring, roundings
from engine.store.commits import committing
from engine.store.lock import locked
from jobs.choose import continued
from tests import rows
from tests.rows import take_in
from tests.test_clusterings import VIDEOS, cut_short, garbled, removed
from tests.test_resolve import Watched, assert_equal, emptied, picked, places, solved
from tests.test_selection import pool

SEMDEDUP = SelectionConfig(method="semdedup", budget=1.0, unit="patches", clusters=3)
NAME = clustering_of(SEMDEDUP)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(roundings, "FEWEST", 1)
    monkeypatch.setattr(roundings, "SHARE", 1.0)  # SemDeDup compares all


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    take_in(made, *VIDEOS[:8])
    return made


def fresh(store):
    """The patches that are there, of which nothing is known."""
    version = store.complete_version()
    return Pool(store.patches(["patch_id", "bytes"], version=version), store.vectors(version))


def resolved(store):
    """A choice that goes on from what is kept, what it went on from, and how many rows were kept for the next."""
    one = continued(store, SEMDEDUP, fresh(store))
    made = choose(one, SEMDEDUP, group=1)
    assert store.keep(NAME, one, made.clustering, store.complete_version())
    return made, one, roundings.keep(store, NAME, one, made.clustering, store.complete_version())


def is_that_of_solving_anew(store, made):
    anew = replace(fresh(store), clustering=emptied(made.clustering))
    assert_equal(choose(anew, SEMDEDUP, group=1), made)
    return True


def kept_of(one, some):
    """The rows `some` of a pool as they are kept when they were compared, in that order."""
    at = np.full(len(one), -1)
    at[some] = np.arange(len(some))
    return roundings.Rounded(one.vectors, Held(clusters.whole(one.vectors.take(some)).astype(np.int16)), at)


@pytest.mark.parametrize("method", ["semdedup", "endocurate"])
@settings(deadline=None, max_examples=12)
@given(data=st.data(), seed=st.integers(0, 99))
def test_whatever_of_it_is_kept_the_choice_is_that_of_solving_anew(method, data, seed):
    everything = pool(70, seed)
    order = np.array(data.draw(st.permutations(range(70))))
    before = picked(everything, order[: data.draw(st.integers(52, 60))])
    after = picked(everything, np.array(data.draw(st.permutations(order[data.draw(st.integers(0, 6)) : 62]))))
    known = solved(before, method).clustering.at(places(after, before))
    some = np.array(data.draw(st.lists(st.integers(0, len(after) - 1), unique=True)), np.int64)
    again = solved(replace(after, rounded=kept_of(after, some)), method, known)
    assert_equal(again, solved(after, method, emptied(known)))
    assert_equal(again, solved(after, method, known))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.sampled_from([np.float16, np.float32]))
def test_what_was_rounded_before_is_rounded_no_more(seed, kind):
    vectors = np.random.default_rng(seed).normal(size=(30, 8)).astype(kind)
    vectors[3] = 0
    one = replace(pool(30), vectors=Held(vectors))
    rounded, by_hand = kept_of(one, np.arange(0, 30, 2)), clusters.whole(vectors.astype(np.float32))
    order = np.random.default_rng(seed).permutation(30)
    assert rounded.held(order).dtype == np.int16
    np.testing.assert_array_equal(rounded.held(order), by_hand[order])
    np.testing.assert_array_equal(clusters.whole(rounded.held(order)), by_hand[order])
    np.testing.assert_array_equal(np.concatenate(list(rounded.blocks())), by_hand)


def test_only_what_is_new_is_read_where_the_others_are_kept():
    watched = Watched(pool(60).vectors.array)
    one = replace(pool(60), vectors=watched)
    known = solved(one, "semdedup").clustering.at(np.where(np.arange(60) == 1, -1, np.arange(60)))
    some = np.delete(np.arange(60), 1)
    kept = kept_of(one, some)
    watched.read = 0
    solved(replace(one, rounded=kept), "semdedup", known)
    assert watched.read == 3  # checked, assigned, compared


def test_a_choice_adds_what_it_compared_for_the_first_time_and_the_next_reads_that(store):
    first, one, count = resolved(store)
    assert (one.rounded, count) == (None, 48)
    again, one, count = resolved(store)
    assert (list(one.rounded.places), count) == (list(range(48)), 0)
    assert again.patch_ids == first.patch_ids
    take_in(store, VIDEOS[8])
    store.forget(VIDEOS[3])
    second, one, count = resolved(store)
    assert (int(np.sum(one.rounded.places < 0)), count) == (6, 6)
    assert second.clustering.name == first.clustering.name
    assert is_that_of_solving_anew(store, second)
    third, one, count = resolved(store)
    assert (int(one.rounded.places.min()), count) == (0, 0)
    np.testing.assert_array_equal(one.rounded.held(np.arange(48)), clusters.whole(one.vectors.take(np.arange(48))))
    assert third.patch_ids == second.patch_ids


def test_merged_files_are_read_the_same_and_old_versions_go(store):
    resolved(store)
    take_in(store, VIDEOS[8])
    resolved(store)
    assert len(store.open(f"rounded-{NAME}").get_fragments()) == 2
    store.maintain(UpkeepConfig(keep_hours=1e-9))
    table = store.open(f"rounded-{NAME}")
    assert (len(table.get_fragments()), len(table.versions()), table.count_rows()) == (1, 1, 54)
    made, one, count = resolved(store)
    assert (int(one.rounded.places.min()), count) == (0, 0)
    assert is_that_of_solving_anew(store, made)


def test_rows_in_another_order_are_found_by_their_patches(store):
    resolved(store)
    table = store.open(f"rounded-{NAME}")
    turned = table.to_table().take(pa.array(np.random.default_rng(0).permutation(48)))
    table.delete("true")
    store.open(f"rounded-{NAME}").insert(turned)
    made, one, _ = resolved(store)
    assert sorted(one.rounded.places) == list(range(48)) != list(one.rounded.places)
    np.testing.assert_array_equal(one.rounded.held(np.arange(48)), clusters.whole(one.vectors.take(np.arange(48))))
    assert is_that_of_solving_anew(store, made)


def test_a_lost_table_is_made_again(store):
    resolved(store)
    store.open(f"rounded-{NAME}").delete("key IS NOT NULL")
    made, one, count = resolved(store)
    assert (one.rounded, count) == (None, 48)
    assert is_that_of_solving_anew(store, made)


@pytest.mark.parametrize("damage", [cut_short, removed, garbled], ids=lambda one: one.__name__)
def test_one_that_is_damaged_while_a_choice_reads_it_costs_time_alone_and_is_made_anew(store, caplog, damage):
    resolved(store)
    take_in(store, VIDEOS[8])
    one = continued(store, SEMDEDUP, fresh(store))
    damage(store.open(f"rounded-{NAME}"))
    made = choose(one, SEMDEDUP, group=1)
    assert f"rounded-{NAME}.lance is damaged: " in caplog.text
    assert is_that_of_solving_anew(store, made)
    assert store.keep(NAME, one, made.clustering, store.complete_version())
    assert roundings.keep(store, NAME, one, made.clustering, store.complete_version()) == 54
    again, one, count = resolved(store)
    assert (list(one.rounded.places), count) == (list(range(54)), 0)
    assert again.patch_ids == made.patch_ids


def test_much_that_is_compared_no_more_is_removed(store):
    whole, one, _ = resolved(store)
    for left, held in ((42, 48), (36, 36)):
        order = np.where(np.arange(48) < left, one.clustering.order if one.clustering else whole.clustering.order, np.nan)
        found = replace(whole.clustering, order=order.astype(np.float32))
        roundings.keep(store, NAME, one, found, store.complete_version())
        assert store.open(f"rounded-{NAME}").count_rows() == held


def test_nothing_is_kept_where_it_saves_little_and_what_there_was_goes(store, monkeypatch):
    made, one, _ = resolved(store)
    version = store.complete_version()
    for name, value in (("SHARE", 0.9), ("FEWEST", 49)):
        with monkeypatch.context() as patch:
            patch.setattr(roundings, name, value)
            assert roundings.keep(store, NAME, one, made.clustering, version) == 0
            assert store.open(f"rounded-{NAME}").count_rows() == 0
            assert roundings.keep(store, "y", one, made.clustering, version) == 0
            assert not store.is_made("rounded-y")
        assert roundings.keep(store, NAME, one, made.clustering, version) == 48


def test_a_choice_that_comes_late_keeps_nothing(store):
    made, one, _ = resolved(store)
    nothing = np.zeros(0, np.float32)
    other = Clustering(np.ones((1, 4), np.float32), 0, np.zeros(0, np.int32), nothing, nothing, nothing, np.zeros(1, np.int64), nothing)
    assert store.keep(NAME, Pool(one.columns[:0]), other, 99)
    assert roundings.keep(store, NAME, replace(one, hashes=one.keys() + np.uint64(1)), made.clustering, store.complete_version()) == 0
    assert store.open(f"rounded-{NAME}").count_rows() == 48


def test_what_other_embeddings_came_to_is_gone_after_a_change_of_scorer(store):
    resolved(store)
    with locked(store, "upkeep"), committing(store) as lease:
        rescoring.retire(store, store.complete_version(), lease)
    assert store.open(f"rounded-{NAME}").count_rows() == 0
    made, one, count = resolved(store)
    assert (one.clustering, one.rounded, count) == (None, None, 48)
    assert is_that_of_solving_anew(store, made)


def test_no_byte_of_a_forgotten_video_is_left_in_it_and_none_comes_back(store):
    made, one, _ = resolved(store)
    mine = [row for row, name in enumerate(one.columns["patch_id"].to_pylist()) if name.startswith(f"{VIDEOS[3]}@")]
    marks = [one.keys()[row].tobytes() for row in mine] + [clusters.whole(one.vectors.take(mine)).astype(np.int16)[0].tobytes()]
    folder = Path(store.address(f"rounded-{NAME}.lance"))
    assert all(any(mark in path.read_bytes() for path in folder.rglob("*.lance")) for mark in marks)
    told = store.forget(VIDEOS[3]).to_pylist()
    assert ("rows removed", f"rounded-{NAME}", 6) in [(row["what"], row["name"], row["count"]) for row in told]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not any(mark in path.read_bytes() for path in files for mark in marks)
    assert roundings.keep(store, NAME, one, made.clustering, store.complete_version()) == 0  # of the pool with the video
    assert set(store.open(f"rounded-{NAME}").to_table(columns=["video_id"])["video_id"].to_pylist()) == {*VIDEOS[:8]} - {VIDEOS[3]}
