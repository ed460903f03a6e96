"""Near-duplicates of what was stored before: those of comparing everything with everything, told once whatever happens."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import clusters, judge, sketches
from engine.explain import explain
from engine.knobs import amend
from engine.pool import Clustering, Held, Pool
from engine.selection import in_process
from engine.selection.twins import twins
from engine.settings import UpkeepConfig
from engine.store import PatchStore, WriteRows, neighbours, rescoring
from engine.store import alike as table
from jobs import alike, judging
from jobs.recipes import tiny
from tests import rows
from tests.rows import take_in
from tests.test_explain import scored as framed

ROOT = Path(__file__).resolve().parent.parent
VIDEOS = tuple(f"{number:02d}" + "a" * (6 + number) for number in range(9))  # rows of ids of one length look the same
DYING = """
import os, signal, sys
from engine.store import alike as table, commits
from tests.test_alike import config
from jobs import alike

def struck(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "before":
    commits.land = struck
else:
    enter = table.enter
    table.enter = lambda *given: (enter(*given), struck())
alike.run(config(sys.argv[1]))
"""


def config(folder):
    return amend(tiny(), ["where=here", f"store.uri={folder}/store"])


@pytest.fixture
def store(tmp_path):
    made = PatchStore(f"{tmp_path}/store")
    made.create(rows.WIDTH)
    take_in(made, *VIDEOS[:5])
    return made


def cluster(store):
    """Three clusters of what is there, kept as the job choose keeps them."""
    pool = store.patches(["patch_id"])
    vectors = store.vectors(store.complete_version())
    centroids = clusters.fit(vectors, 3, np.arange(len(pool), dtype=np.uint64), 5)
    labels, near = clusters.assigned(vectors, centroids)
    nothing = np.full(len(pool), np.nan, np.float32)
    found = Clustering(centroids, len(pool), labels, near, nothing, nothing, np.zeros(3, np.int64), nothing)
    store.keep(judging.KINDS, Pool(pool), found, store.complete_version())
    return centroids


def by_definition(store, centroids):
    """patch -> (twin, cosine), in loops over all pairs of a cluster in float64."""
    version = {row["video_id"]: row["patches_version"] for row in store.ledger().to_pylist()}
    patches = store.patches(["patch_id", "video_id", "time_ms", "embedding"]).to_pylist()
    labels, _ = clusters.assigned(Held(np.array([row["embedding"] for row in patches], np.float32)), centroids)
    for row, label in zip(patches, labels, strict=True):
        unit = np.rint(4000 * np.array(row["embedding"], np.float64) / np.linalg.norm(row["embedding"]))
        row |= {"unit": unit / np.linalg.norm(unit), "label": label, "stored": (version[row["video_id"]], row["video_id"], row["time_ms"])}
    found = {}
    for row in patches:
        earlier = [other for other in patches if other["label"] == row["label"] and other["stored"] < row["stored"]]
        best = max(((float(other["unit"] @ row["unit"]), other["patch_id"]) for other in earlier), default=(-1, ""))
        if best[0] > judge.ALIKE:
            found[row["patch_id"]] = best
    return found


def marks(store):
    return {row["patch_id"]: row for row in store.query("SELECT * FROM alike").to_pylist()}


def assert_as_defined(store, centroids):
    """Frames of the rows have two patches at a time, whose order is by lot: those are left out of the definition, and looked at apart."""
    told, defined = marks(store), by_definition(store, centroids)
    for patch_id, (cosine, _) in defined.items():
        assert told[patch_id]["cosine"] >= cosine - 1e-6
    for patch_id, row in told.items():
        if patch_id not in defined or row["cosine"] > defined[patch_id][0] + 1e-6:
            assert row["twin"].partition(":")[0] == patch_id.partition(":")[0]
    assert len(defined) > 3


def test_what_is_marked_is_what_comparing_everything_inside_the_clusters_would_mark_however_it_came(store, tmp_path):
    alike.run(config(tmp_path))
    assert not store.has("alike")  # no clusters yet
    centroids = cluster(store)
    alike.run(config(tmp_path))
    assert_as_defined(store, centroids)
    for video_id in VIDEOS[5:]:
        take_in(store, video_id)
        alike.run(config(tmp_path))
        assert_as_defined(store, centroids)
    step_by_step = marks(store)
    store.open("alike").delete("true")
    alike.run(config(tmp_path))
    assert {name: (row["twin"], row["cosine"]) for name, row in marks(store).items()} == {
        name: (row["twin"], row["cosine"]) for name, row in step_by_step.items()
    }


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 40), seed=st.integers(0, 99), some=st.sets(st.integers(0, 39)), bound=st.sampled_from([-0.5, 0.3, 0.9]))
def test_twins_are_those_of_a_loop(count, seed, some, bound):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 5)).astype(np.float32)
    vectors[rng.integers(0, count, count // 3)] = vectors[0]  # equal ones
    labels, order = rng.integers(0, 3, count).astype(np.int32), rng.permutation(count)
    new = np.isin(np.arange(count), list(some))
    found = twins(Held(vectors), labels, order, new, bound, in_process).to_pylist()
    whole = clusters.whole(vectors)
    cosines, place, expected = clusters.cosines(whole, whole), np.argsort(order), []
    for row in np.flatnonzero(new):
        earlier = [one for one in order[: place[row]] if labels[one] == labels[row]]
        best = max(earlier, key=lambda one: cosines[one, row], default=None)  # of equals the first
        if best is not None and cosines[best, row] > bound:
            expected.append((row, best, cosines[best, row]))
    assert [(row["row"], row["twin"]) for row in found] == [one[:2] for one in expected]
    np.testing.assert_allclose([row["cosine"] for row in found], [one[2] for one in expected], atol=2e-6)


def test_twins_across_tiles_are_those_of_all_cosines():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2600, 6)).astype(np.float32)
    new = np.sort(rng.choice(2600, 1500, replace=False))
    cosines, places = clusters.likest_earlier(vectors, new)
    np.testing.assert_array_equal(cosines, clusters.earlier_likeness(vectors)[new])
    whole = clusters.whole(vectors)
    assert [
        float(clusters.cosines(whole[[one]], whole[[row]])[0, 0]) for one, row in zip(places[5:], new[5:], strict=True)
    ] == pytest.approx(cosines[5:].tolist(), abs=2e-6)


def told_anew(store, folder):
    """What a store that knows of no neighbours yet marks, all at once."""
    shutil.rmtree(store.address("neighbours.lance"))
    store.open("alike").delete("true")
    alike.run(config(folder))
    return marks(store)


def by_twin(found, *videos):
    return {name: (row["twin"], row["cosine"]) for name, row in found.items() if not videos or row["video_id"] in videos}


def test_step_by_step_is_what_a_look_from_scratch_tells_after_a_video_was_forgotten_and_files_were_merged(store, tmp_path):
    centroids = cluster(store)
    alike.run(config(tmp_path))
    victim = next(row["twin"] for row in marks(store).values() if row["twin"].partition("@")[0] != row["video_id"]).partition("@")[0]
    take_in(store, *VIDEOS[5:7])
    alike.run(config(tmp_path))
    store.forget(victim)
    alike.run(config(tmp_path))
    take_in(store, VIDEOS[7])
    store.maintain(UpkeepConfig(keep_hours=1e-9))
    assert len(store.open("neighbours").get_fragments()) == 1
    alike.run(config(tmp_path))
    take_in(store, VIDEOS[8])
    alike.run(config(tmp_path))
    assert_as_defined(store, centroids)
    step_by_step = marks(store)
    kept = sorted(filter(None, store.open("neighbours").to_table()["patch_id"].to_pylist()))
    assert kept == sorted(store.patches(["patch_id"])["patch_id"].to_pylist())
    assert by_twin(step_by_step) == by_twin(told_anew(store, tmp_path))


def test_what_comes_after_a_change_of_the_scorer_is_marked_as_from_scratch(store, tmp_path):
    cluster(store)
    alike.run(config(tmp_path))
    store.add_scores("mae-new", [rows.scores(store.patches(["patch_id"])["patch_id"].to_pylist(), rows.WIDTH)])
    rescoring.adopt(store, "mae-new", "new")
    alike.run(config(tmp_path))  # no clusters of these embeddings yet
    cluster(store)
    later = []
    for video_id in VIDEOS[5:]:
        made = rows.scored(video_id)
        named = pa.array([one and "new" for one in made["scorer"].to_pylist()], pa.string())
        made = made.set_column(made.schema.get_field_index("scorer"), made.schema.field("scorer"), named)
        store.commit(pa.concat_tables(WriteRows(store.uri)(made)), rows.videos(video_id), rows.STAMP)
        alike.run(config(tmp_path))
        later.append(video_id)
    step_by_step = by_twin(marks(store), *later)
    assert step_by_step
    assert step_by_step == by_twin(told_anew(store, tmp_path), *later)


def test_a_batch_reads_whole_only_what_its_sketches_are_near(store):
    """Of a thousand neighbours in one cluster, one of which is a copy."""
    rng, width = np.random.default_rng(0), 192
    ids = [f"old@0:{number}" for number in range(1000)]
    vectors = rng.normal(size=(1000, width)).astype(np.float16)

    def patches(names, embeddings):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), width)
        columns = {"patch_id": names, "video_id": [name.partition("@")[0] for name in names], "time_ms": [0] * len(names)}
        return pa.table(columns).append_column("embedding", lists)

    zeros = np.zeros(1000, np.int32)
    assert neighbours.fill(store, "c", width, 1, [neighbours.rows(patches(ids, vectors), zeros, sketches.sketched(vectors))])
    store.open("neighbours").delete("patch_id = 'old@0:3'")
    new = neighbours.rows(patches(["new@0:0"], vectors[[17]]), zeros[:1], sketches.sketched(vectors[[17]]))
    (found,) = neighbours.beside(store, new, 1, partial(sketches.near, bound=judge.ALIKE))
    assert found[0]["patch_id"].to_pylist() == ["new@0:0"]
    assert "old@0:17" in (read := found[1]["patch_id"].to_pylist())
    assert len(read) < 20


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 999), width=st.sampled_from([1, 3, 64, 70, 192]), skew=st.floats(0, 3), angle=st.floats(0, 0.4))
def test_a_sketch_leaves_out_nothing_whose_cosine_is_above_the_bound(seed, width, skew, angle):
    rng = np.random.default_rng(seed)
    scale = np.exp(skew * rng.normal(size=width))  # a few numbers that outweigh the others
    first = rng.normal(size=(30, width)) * scale
    other = rng.normal(size=(30, width)) * scale * rng.choice([1, 0.01])
    turned = first / np.linalg.norm(first, axis=1)[:, None] + np.tan(angle) * other / np.linalg.norm(other, axis=1)[:, None]
    left, right = (one.astype(np.float16) for one in (first, turned))
    cosines = clusters.cosines(*(clusters.whole(one.astype(np.float32)) for one in (left, right)))
    for bound in (judge.ALIKE, 0.5, -0.5):
        found = sketches.near(sketches.sketched(left), sketches.sketched(right), bound)
        assert found[(cosines > bound).any(axis=0)].all()


class Watched(Held):
    read = 0

    def held(self, some):
        self.read += len(some)
        return super().held(some)


def test_only_the_clusters_that_new_patches_fall_into_are_read():
    vectors = Watched(np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32))
    labels = np.arange(60, dtype=np.int32) % 6
    twins(vectors, labels, np.arange(60), np.isin(np.arange(60), [58, 52]), 0.9, in_process)
    assert vectors.read == 10


def test_what_is_long_is_left_for_a_process_beside_and_marks_the_same(store, tmp_path, monkeypatch):
    """Clusters that are new, and then more patches than a batch should wait for."""
    monkeypatch.setattr(neighbours, "HELD", 5)
    one = config(tmp_path)
    cluster(store)
    for _ in range(2):
        assert alike.soon(one)
        assert alike.is_long(one)
        assert not store.has("alike") or not marks(store)
        neighbours.fill(store, alike.due(store).known.name, rows.WIDTH, alike.due(store).version, ())  # as one that died half-way
    alike.run(one)
    found = marks(store)
    assert found
    assert not alike.is_long(one)
    assert not alike.soon(one)
    monkeypatch.undo()
    assert told_anew(store, tmp_path) == found


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.processes
def test_a_look_that_is_killed_is_as_if_it_had_not_been_or_had_ended(store, tmp_path, moment):
    cluster(store)
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), moment], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert bool(len(table.told(store))) == (moment == "after")
    alike.run(config(tmp_path))
    assert set(table.told(store).to_pylist()) == set(VIDEOS[:5])
    versions, first = store.open("alike").version, marks(store)
    alike.run(config(tmp_path))
    assert store.open("alike").version == versions
    assert store.open("alike").count_rows() == len(first) + 5


def test_what_was_like_a_forgotten_video_is_looked_at_again_without_it(store, tmp_path):
    centroids = cluster(store)
    alike.run(config(tmp_path))
    victim = next(row["twin"] for row in marks(store).values() if row["twin"].partition("@")[0] != row["video_id"]).partition("@")[0]
    store.forget(victim)
    left = json.dumps(store.open("alike").to_table().to_pylist())
    assert victim not in left
    assert set(table.told(store).to_pylist()) < set(VIDEOS[:5]) - {victim}
    alike.run(config(tmp_path))
    assert set(table.told(store).to_pylist()) == set(VIDEOS[:5]) - {victim}
    assert_as_defined(store, centroids)
    assert not any(victim.encode() in path.read_bytes() for path in Path(store.address("alike.lance")).rglob("*") if path.is_file())


def test_what_is_forgotten_while_it_is_looked_at_is_not_told(store, tmp_path):
    cluster(store)
    alike.run(config(tmp_path))
    found = store.open("alike").to_table()
    victim = next(row["twin"] for row in marks(store).values() if row["twin"].partition("@")[0] != row["video_id"]).partition("@")[0]
    store.forget(victim)
    table.enter(store, VIDEOS[:5], found)
    assert victim not in json.dumps(store.open("alike").to_table().to_pylist())
    assert set(table.told(store).to_pylist()) < set(VIDEOS[:5])


def test_explain_says_what_a_patch_looks_like(tmp_path):
    store = PatchStore(f"{tmp_path}/store")
    store.create(rows.WIDTH)
    store.commit(pa.concat_tables(WriteRows(store.uri)(framed("ab"))), rows.videos("ab"), rows.STAMP)
    first, second, *_ = sorted(store.patches(["patch_id"])["patch_id"].to_pylist())
    told = {"video_id": "ab", "patch_id": second, "twin": first, "cosine": 0.96875, "clustering": "c", "patches_version": 2}
    table.enter(store, ["ab"], pa.Table.from_pylist([told], table.COLUMNS))
    assert explain(store, second, {})["looks like"] == {"twin": first, "cosine": 0.96875, "clustering": "c"}
    assert explain(store, first, {})["looks like"] is None
