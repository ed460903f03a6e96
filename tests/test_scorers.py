"""Embeddings as a stream, and the scores of other scorers beside the patches: every patch once, in the order of the patch table."""

import pickle

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.settings import UpkeepConfig
from engine.store import PatchStore, matches, scorers, vectors
from engine.store.commits import committing
from tests import rows

VIDEOS = ("aa", "bb", "cc", "dd")


@pytest.fixture
def store(tmp_path):
    return made(tmp_path / "store")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A store that no test changes, with scores of all patches in another order and in several files."""
    store = made(tmp_path_factory.mktemp("scorers") / "store")
    names = ids(store)
    shuffled = [names[row] for row in np.random.default_rng(0).permutation(len(names))]
    for start in range(0, len(shuffled), 7):
        store.add_scores("late-1", [rows.scores(shuffled[start : start + 7], 5)])
    return store


def made(folder):
    """A store of four videos in several files, with deleted rows in between."""
    store = PatchStore(str(folder))
    store.create(rows.WIDTH)
    rows.take_in(store, *VIDEOS, frames=4, patches=3)
    rows.take_in(store, "bb", frames=4, patches=3)
    return store


def ids(store):
    return store.patches(["patch_id"])["patch_id"].to_pylist()


def held(store):
    return np.array(store.patches(["embedding"])["embedding"].to_pylist(), np.float32)


def of(scores, names):
    """The embeddings and difficulties of patches by a table of scores, by name."""
    told = {row["patch_id"]: row for row in scores.to_pylist()}
    return np.array([told[name]["embedding"] for name in names], np.float32), np.array(
        [told[name]["difficulty"] for name in names], np.float32
    )


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_all_vectors_come_in_the_order_of_the_rows_whatever_is_read_at_a_time(still, size, monkeypatch):
    monkeypatch.setattr(vectors, "ROWS", size)
    stream = still.vectors(still.complete_version())
    assert (len(stream), stream.width) == (48, rows.WIDTH)
    blocks = list(stream.blocks())
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    assert max(map(len, blocks)) <= size
    assert (np.concatenate(blocks) == held(still)).all()


@settings(deadline=None, max_examples=40)
@given(wanted=st.lists(st.integers(0, 47), max_size=60), own=st.booleans())
def test_any_rows_come_in_the_order_asked_for(still, wanted, own):
    version = still.complete_version()
    stream = still.vectors(version, "" if own else "late-1")
    expected = held(still) if own else of(rows.scores(ids(still), 5), ids(still))[0]
    assert (stream.take(np.array(wanted, np.int64)) == expected[wanted]).all()


@settings(deadline=None, max_examples=20)
@given(offsets=st.lists(st.integers(0, 47), unique=True), own=st.booleans())
def test_a_part_of_the_table_is_a_pool_of_its_own(still, offsets, own):
    version = still.complete_version()
    stream = still.vectors(version, "" if own else "late-1", np.array(offsets, np.int64))
    expected = held(still) if own else of(rows.scores(ids(still), 5), ids(still))[0]
    assert len(stream) == len(offsets)
    assert (np.concatenate([np.zeros((0, stream.width)), *stream.blocks()]) == expected[offsets]).all()
    assert (stream.take(np.arange(len(offsets))[::-1]) == expected[offsets][::-1]).all()


def test_another_process_reads_the_same_version(store):
    version = store.complete_version()
    before = held(store)
    sent = pickle.dumps(store.vectors(version))
    rows.take_in(store, "ee")
    assert len(sent) < 2000
    assert (np.concatenate(list(pickle.loads(sent).blocks())) == before).all()
    assert len(store.vectors(store.complete_version())) == len(before) + 6


def test_a_patch_without_an_embedding_is_told(store):
    patches = store.open("patches")
    row = store.patches(patches.schema.names).slice(0, 1).to_pylist()[0] | {"patch_id": "x", "embedding": None}
    lance.write_dataset(pa.Table.from_pylist([row], patches.schema), patches.uri, mode="append")
    with pytest.raises(ValueError, match="at least 1 of the patches has no embedding"):
        list(store.vectors(store.open("patches").version).blocks())


def test_scores_are_those_of_their_patches_in_the_order_of_the_patch_table(still):
    version, names = still.complete_version(), ids(still)
    embeddings, difficulties = of(rows.scores(names, 5), names)
    assert (np.concatenate(list(still.vectors(version, "late-1").blocks())) == embeddings).all()
    (found,) = still.earlier(version, ["late-1"])
    assert (found == difficulties).all()


def test_what_is_missing_is_told_before_anything_is_read(store):
    version, names = store.complete_version(), ids(store)
    assert store.missing("early-1", version).tolist() == list(range(48))
    store.add_scores("early-1", [rows.scores(names[::2])])
    assert store.missing("early-1", version).tolist() == list(range(1, 48, 2))
    for ask in (lambda: store.vectors(version, "early-1"), lambda: store.earlier(version, ["early-1"])):
        with pytest.raises(LookupError, match=f"24 of 48 patches have no score by early-1, such as {names[1]}, .*: run the job score"):
            ask()
    with pytest.raises(
        LookupError, match=r"has no scores by 'nobody' \(it has early-1\): take such a whole name, or run the job score first"
    ):
        store.vectors(version, "nobody")
    (scored,) = store.earlier(version, ["early-1"], np.arange(0, 48, 2))
    assert (scored == of(rows.scores(names[::2]), names[::2])[1]).all()
    assert (store.vectors(version, "early-1", np.arange(0, 48, 2)).take(np.arange(24)) == of(rows.scores(names[::2]), names[::2])[0]).all()


def test_the_scorers_are_told_from_the_least_trained_on_and_those_of_which_nobody_told_as_they_came(store):
    version, names = store.complete_version(), ids(store)
    store.add_scores("mae-tiny-aa", [rows.scores(names)])
    store.add_scores("mae-tiny-bb", [rows.scores(names[:9])], {"scale": "squared error of normalised tokens", "epochs": "20"})
    store.add_scores("simclr-resnet18-cc", [rows.scores(names)])
    store.add_scores("mae-tiny-dd", [rows.scores(names)], {"scale": "squared error", "epochs": "10"})
    store.add_scores("mae-tiny-bb", [rows.scores(names[9:])], {"epochs": "5"})  # the table has what was told when it was made
    store.add_scores("early-mae-tiny-ee", [rows.scores(names)])  # as older stores have it: its name tells that it comes first
    told = [(one.name, one.scale, one.epochs) for one in store.scorers(version)]
    assert told == [
        ("early-mae-tiny-ee", "squared error", 0),
        ("mae-tiny-dd", "squared error", 10),
        ("mae-tiny-bb", "squared error of normalised tokens", 20),
        ("mae-tiny-aa", "squared error", None),
        ("simclr-resnet18-cc", "contrastive loss", None),
    ]


def test_the_scorers_are_told_in_the_order_of_their_first_scores(store):
    version, names = store.complete_version(), ids(store)
    store.add_scores("zz", [rows.scores(names[:3], 2)])
    unrated = rows.scores(names, 4).set_column(1, "difficulty", pa.nulls(48, pa.float32()))
    store.add_scores("timm-resnet18-0a", [unrated])
    store.add_scores("zz", [rows.scores(names[3:9], 2), rows.scores(["gone@0:1"], 2)])
    assert store.scorers(version) == [scorers.Scorer("zz", 2, 9, 9), scorers.Scorer("timm-resnet18-0a", 4, 48, 0)]
    assert np.isnan(store.earlier(version, ["timm-resnet18-0a"])[0]).all()
    store.maintain(UpkeepConfig(keep_hours=1e-9))
    assert [scorer.name for scorer in store.scorers(store.complete_version())] == ["zz", "timm-resnet18-0a"]


class TestEveryPatchOnce:
    def scores(self, store, name="early-1"):
        return store.open(f"scores-{name}").to_table().sort_by("patch_id").to_pylist()

    def test_scored_twice_it_is_there_once(self, store):
        names = ids(store)
        assert store.add_scores("early-1", [rows.scores(names[:30]), rows.scores(names[20:40])]) == 40
        assert store.add_scores("early-1", [rows.scores(names)]) == 8
        assert self.scores(store) == rows.scores(names).sort_by("patch_id").to_pylist()

    def test_a_job_that_died_on_the_way_keeps_what_was_added_and_the_next_adds_the_rest(self, store, monkeypatch):
        monkeypatch.setattr(scorers, "COMMITTED", 10)
        names, version = ids(store), store.complete_version()

        def dying():
            for start in range(0, 25, 5):
                yield rows.scores(names[start : start + 5])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.add_scores("early-1", dying())
        left = store.missing("early-1", version)
        assert left.tolist() == list(range(20, 48))
        assert store.add_scores("early-1", [rows.scores([names[place] for place in left])]) == 28
        assert self.scores(store) == rows.scores(names).sort_by("patch_id").to_pylist()

    def test_two_jobs_at_once_add_no_patch_twice(self, store):
        names = ids(store)
        one, other = (scorers.Target(store, "scores-early-1") for _ in range(2))
        added = [one.add(rows.scores(names[:20])), other.add(rows.scores(names[10:30])), one.add(rows.scores(names[5:]))]
        assert added == [20, 10, 18]
        assert self.scores(store) == rows.scores(names).sort_by("patch_id").to_pylist()

    def test_patches_whose_hashes_clash_are_told_apart(self, store, monkeypatch):
        names, version, true = ids(store), store.complete_version(), scorers.hashed
        monkeypatch.setattr(scorers, "hashed", lambda column, seed=0: true(column, seed) % (5 if seed < 2 else 2**63))
        assert store.add_scores("early-1", [rows.scores(names[:20]), rows.scores(names[20:30])]) == 30
        assert store.add_scores("early-1", [rows.scores(names[10:40])]) == 10
        assert store.missing("early-1", version).tolist() == list(range(40, 48))
        assert self.scores(store) == rows.scores(names[:40]).sort_by("patch_id").to_pylist()

    def test_merging_files_keeps_them(self, store):
        names = ids(store)
        for start in range(0, 48, 6):
            store.add_scores("early-1", [rows.scores(names[start : start + 6])])
        store.maintain(UpkeepConfig())
        assert len(store.open("scores-early-1").get_fragments()) == 1
        assert self.scores(store) == rows.scores(names).sort_by("patch_id").to_pylist()
        assert not len(store.missing("early-1", store.complete_version()))


def test_a_late_commit_of_a_job_that_lost_the_lock_does_not_land(store):
    store.add_scores("early-1", [rows.scores(ids(store)[:3])])
    dataset = store.open("scores-early-1")
    fragments = list(lance.fragment.write_fragments(rows.scores(ids(store)[3:6]), dataset.uri, mode="append"))
    with pytest.raises(ZeroDivisionError), committing(store):
        raise ZeroDivisionError
    with committing(store):  # inherited: what was begun before is fenced off
        pass
    with pytest.raises(OSError, match="conflict"):
        lance.LanceDataset.commit(dataset.uri, lance.LanceOperation.Append(fragments), read_version=dataset.version)


@pytest.mark.parametrize("name", ["", "Early", "a/b", "../x", "a b", "x'y"])
def test_a_name_that_cannot_be_one_is_refused(store, name):
    with pytest.raises(ValueError, match="is no name for a scorer"):
        store.add_scores(name, [rows.scores(["a"])])


def test_scores_of_another_width_or_on_a_pinned_store_are_refused(store):
    store.add_scores("early-1", [rows.scores(ids(store)[:3], 3)])
    with pytest.raises(ValueError, match="holds embeddings of 3 numbers, 4 were given"):
        store.add_scores("early-1", [rows.scores(ids(store)[3:5], 4)])
    with pytest.raises(PermissionError, match="is read-only"):
        store.at(store.complete_version()).add_scores("early-1", [])


@settings(deadline=None)
@given(st.integers(0, 80), st.integers(0, 4000), st.booleans(), st.integers(0, 99))
def test_keys_are_found_where_they_stand_among_others_many_or_few_that_begin_alike_or_not(ours, theirs, alike, seed):
    rng = np.random.default_rng(seed)
    every = rng.permutation(rng.choice(2**20, 4080, replace=False).astype(np.uint64) * np.uint64(1 if alike else 2**44 - 1))
    mine, others = rng.choice(every, ours), every[:theirs]
    places = {key: place for place, key in enumerate(others.tolist())}
    assert matches.matched(mine, others).tolist() == [places.get(key, -1) for key in mine.tolist()]
