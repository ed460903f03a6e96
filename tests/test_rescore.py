"""A change of the scorer: the old scores stay in use until all are new, then one commit changes them, whenever it is killed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine import schema
from engine.difficulty import ScoreDifficulty
from engine.knobs import amend
from engine.pool import Clustering, Pool
from engine.store import PatchStore, WriteRows, rescoring
from jobs import rescore
from jobs.recipes import tiny
from tests import rows
from tests.test_score import saved

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["difficulty.mae.side=32", "difficulty.mae.token=8", "probe.train.mae.side=32", "probe.train.mae.token=8", "difficulty.draws=1"]
DYING = """
import os, signal, sys
from engine.store import rescoring, scorers
from jobs import rescore, score
from tests.test_rescore import config

def struck(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def after(function):
    return lambda *given: (function(*given), struck())

scorers.COMMITTED = 4
score.followed = lambda made, count: (rows.slice(start, 4) for rows in made for start in range(0, len(rows), 4))
if sys.argv[2] == "scoring":
    scorers.Target.add = after(scorers.Target.add)
elif sys.argv[2] == "rewritten":
    rescoring.land = struck
elif sys.argv[2] == "landed":
    rescoring.land = after(rescoring.land)
rescore.run(config(sys.argv[1], "new"))
"""


def config(folder, which):
    return amend(tiny(), ["where=here", f"store.uri={folder}/store", *SMALL, f"difficulty.checkpoint={folder}/{which}"])


def take_in(folder, which, *videos):
    store, score = PatchStore(f"{folder}/store"), ScoreDifficulty(config(folder, which).difficulty)
    for video_id in videos:
        (made,) = score(pa.Table.from_pylist(rows.scored(video_id).to_pylist(), schema.PATCH))
        store.commit(pa.concat_tables(WriteRows(store.uri)(made)), rows.videos(video_id), rows.STAMP)


@pytest.fixture
def store(tmp_path):
    """Two videos by the old scorer, one by the new one, and a clustering of embeddings by the old one."""
    for seed, which in enumerate(("old", "new")):
        saved(tmp_path / which, config(tmp_path, which).difficulty.mae, seed)
    made = PatchStore(f"{tmp_path}/store")
    made.create(192)
    take_in(tmp_path, "old", "aa", "bb")
    ids = made.patches(["patch_id"])
    nothing = np.zeros(12, np.float32)
    kinds = Clustering(np.ones((2, 192), np.float32), 12, np.zeros(12, np.int32), *[nothing] * 3, np.ones(2, np.int64), nothing)
    made.keep("kinds", Pool(ids), kinds, 3)
    take_in(tmp_path, "new", "cc")
    return made


def test_the_scorers_of_the_patches_are_told_by_what_is_new_whatever_became_of_the_table(store, tmp_path, monkeypatch):
    read, whole = [], rescoring.SCORERS.read

    def counting(fragment):
        read.append(fragment.fragment_id)
        return whole(fragment)

    monkeypatch.setattr(rescoring.SCORERS, "read", counting)

    def told():
        """What is told, held beside the column itself, and how many files were read for it."""
        read.clear()
        version = store.open("patches").version
        found = rescoring.scorers_of(store, version)
        assert found == set(store.patches(["scorer"], version=version)["scorer"].to_pylist())
        return len(found), len(read)

    assert told() == (2, 3)
    assert told() == (2, 0)
    take_in(tmp_path, "new", "dd")
    assert told() == (2, 1)
    store.open("patches").delete("patch_id LIKE 'aa@1000%'")
    many, files = told()
    assert (many, files) in ((2, 0), (2, 1))
    store.open("patches").delete("video_id = 'cc' OR video_id = 'dd'")
    assert told()[0] == 1
    take_in(tmp_path, "new", "ee")
    rescore.run(config(tmp_path, "new"))
    assert told()[0] == 1
    store.open("patches").optimize.compact_files()
    assert told() == (1, 1)
    store.open("patches").delete("true")
    assert told() == (0, 0)


def seen(store):
    """patch -> what its score is, as readers see it."""
    columns = ["patch_id", "difficulty", "embedding", "scorer", "pixels", "bytes", "variance"]
    return {row.pop("patch_id"): row for row in store.patches(columns).to_pylist()}


def expected(folder):
    """The same where all was taken in by the new scorer."""
    other = PatchStore(f"{folder}/other/store")
    other.create(192)
    for which in ("old", "new"):
        (folder / "other" / which).write_bytes((folder / which).read_bytes())
    take_in(folder / "other", "new", "aa", "bb", "cc")
    return seen(other)


def test_all_is_as_if_it_had_come_in_with_the_new_scorer_and_old_clusters_are_used_no_more(store, tmp_path):
    before, version = seen(store), store.complete_version()
    assert rescoring.mixed(store, version)
    patches = store.patches(["patch_id"])
    ids = patches["patch_id"]
    assert store.clustering("kinds", ids) is not None
    store.open("patches").create_scalar_index("difficulty", "BTREE")
    rescore.run(config(tmp_path, "new"))
    assert seen(store) == expected(tmp_path)
    assert not rescoring.mixed(store, store.complete_version())
    assert {row["patch_id"] for row in store.hardest(18).to_pylist()} == set(before)
    least = min(row["difficulty"] for row in seen(store).values())
    assert store.open("patches").count_rows(f"difficulty >= {least!r}") == 18  # by the index too
    assert store.clustering("kinds", ids) is None
    nothing = np.zeros(18, np.float32)
    late = Clustering(np.ones((2, 192), np.float32), 18, np.zeros(18, np.int32), *[nothing] * 3, np.ones(2, np.int64), nothing)
    assert not store.keep("kinds", Pool(patches), late, version)  # of a choice that began before
    assert store.keep("kinds", Pool(patches), late, store.complete_version())
    pinned = {row.pop("patch_id"): row for row in store.at(version).patches(["patch_id", "difficulty"]).to_pylist()}
    assert pinned == {name: {"difficulty": row["difficulty"]} for name, row in before.items()}
    versions = store.open("patches").version
    rescore.run(config(tmp_path, "new"))
    assert store.open("patches").version == versions


@pytest.mark.parametrize(
    "moment", ["scoring", pytest.param("rewritten", marks=pytest.mark.slow), pytest.param("landed", marks=pytest.mark.slow)]
)
@pytest.mark.processes
def test_killed_at_any_moment_the_old_scores_are_in_use_and_the_next_run_ends_it(store, tmp_path, moment):
    before = seen(store)
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), moment], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert seen(store) == before
    kept = {"scoring": 4}.get(moment, 12)
    (scorer,) = store.scorers(store.complete_version())
    assert scorer.covers == kept
    take_in(tmp_path, "new", "dd")  # video goes on to arrive
    rescore.run(config(tmp_path, "new"))
    found = seen(store)
    assert {name: row for name, row in found.items() if not name.startswith("dd")} == expected(tmp_path)
    assert len(found) == 24


def test_a_scorer_that_has_not_scored_all_is_not_changed_to(store, tmp_path):
    before, new = seen(store), config(tmp_path, "new")
    name = rescore.name_of(new.difficulty)
    ids = store.patches(["patch_id"])["patch_id"].to_pylist()
    store.add_scores(name, [rows.scores(ids[:5], 192)])
    with pytest.raises(LookupError, match="7 of 12 patches have no score by mae-tiny-"):
        rescoring.adopt(store, name, name.rpartition("-")[2])
    assert seen(store) == before
