import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lance.fragment import write_fragments

from engine import files, schema
from engine.settings import UpkeepConfig
from engine.store import PatchStore, WriteRows, erasure, indices, intake, leftovers, orphans, upkeep, versions, writers
from engine.store.lock import locked
from tests import rows
from tests.rows import take_in

ROOT = Path(__file__).resolve().parent.parent
NOW = UpkeepConfig(keep_hours=1e-9)  # everything that may go at all is old enough


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    return made


def everything(store):
    """All patches to the last byte, in order of their ids."""
    return store.patches(store.open("patches").schema.names).sort_by("patch_id").to_pylist()


def done(store, config=NOW):
    return {(row["what"], row["name"]): row for row in store.maintain(config).to_pylist()}


def fragments(store, table="patches"):
    return [one.physical_rows for one in store.open(table).get_fragments()]


def test_many_small_files_become_one_and_not_a_byte_changes(store):
    take_in(store, *"abcdefgh")
    before, ledger = everything(store), store.ledger().sort_by("video_id").to_pylist()
    told = done(store)
    assert fragments(store) == [48]
    assert told["files merged", "patches"]["count"] == 8
    assert told["files merged", "patches"]["note"] == "into 1"
    assert everything(store) == before
    assert store.ledger().sort_by("video_id").to_pylist() == ledger
    assert len(store.open("patches").versions()) == 1
    assert store.complete_version() == store.open("patches").version
    assert not [what for what, _ in done(store) if what == "files merged"], "the second time there is nothing to do"


def size_of(store):
    return sum(file.file_size_bytes for one in store.open("patches").get_fragments() for file in one.metadata.files)


def test_a_round_reads_no_more_than_it_may_and_every_round_gets_on(store):
    take_in(store, *"abcdefgh")
    before, each = everything(store), size_of(store) // 8
    config = UpkeepConfig(file_bytes=2 * each, round_bytes=2 * each, keep_hours=1e-9)
    found = []
    while round_ := upkeep.merge(store, "patches", config):
        found.append(round_)
        assert len(found) < 9, "a round follows itself for ever"
    assert [one[0] for one in found] == [2, 2, 2, 2]
    assert max(one[2] for one in found) <= 2.1 * each
    assert fragments(store) == [12, 12, 12, 12]
    assert everything(store) == before


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 60), st.integers(1, 120))
@settings(max_examples=10, deadline=None)
def test_whatever_the_sizes_rounds_end_and_keep_every_row(tmp_path_factory, sizes, file_rows, round_rows):
    store = PatchStore(str(tmp_path_factory.mktemp("sizes") / "store"))
    store.create(rows.WIDTH)
    for number, size in enumerate(sizes):
        made = {"video_id": f"v{number}", "time_ms": 1, "patches": 1}
        lance.write_dataset(
            pa.Table.from_pylist([dict.fromkeys(schema.FRAMES_TABLE.names) | made] * size, schema.FRAMES_TABLE),
            store.address("frames.lance"),
            mode="append",
        )
    per_row = max(1, sum(upkeep.weight_of(one.metadata) for one in store.open("frames").get_fragments()) // sum(sizes))
    config = UpkeepConfig(file_bytes=file_rows * per_row, round_bytes=max(file_rows, round_rows) * per_row)
    rounds = 0
    while upkeep.merge(store, "frames", config):
        rounds += 1
        assert rounds <= len(sizes)
    counted = store.open("frames").to_table(columns=["video_id"])["video_id"].value_counts().to_pylist()
    assert {one["values"]: one["counts"] for one in counted} == {f"v{number}": size for number, size in enumerate(sizes)}


def test_rows_of_a_run_that_died_are_swept_and_never_become_visible_by_merging(store):
    take_in(store, *"abc")
    lance.write_dataset(
        rows.stored("dead").select(store.open("patches").schema.names),
        store.address("patches.lance"),
        mode="append",
    )
    with pytest.raises(OSError, match="died"), locked(store, "commit"):
        raise OSError("died")
    done(store)
    assert sorted(set(store.patches(["video_id"])["video_id"].to_pylist())) == ["a", "b", "c"]
    assert store.open("patches").count_rows() == 18


@pytest.mark.parametrize("round_", [2, 200])
def test_a_version_goes_only_when_it_has_long_been_replaced_and_nobody_holds_it(store, monkeypatch, round_):
    monkeypatch.setattr(versions, "ROUND", round_)
    take_in(store, *"abcdef")
    patches = store.open("patches")
    tagged, read, complete = 3, 4, store.complete_version()
    patches.tags.create("paper", tagged)
    with writers.reading(store, "patches", read):
        versions.clean(store, "patches", 1.0)
        assert len(store.open("patches").versions()) == 7, "all are younger than an hour"
        versions.clean(store, "patches", 1e-9)
        assert sorted(one["version"] for one in store.open("patches").versions()) == sorted({tagged, read, complete})
        for version in (tagged, read, complete):
            assert len(lance.dataset(patches.uri, version=version).to_table()) == 6 * (version - 1)
    versions.clean(store, "patches", 1e-9)
    assert sorted(one["version"] for one in store.open("patches").versions()) == sorted({tagged, complete})


def test_a_version_counts_as_old_from_when_it_was_replaced_and_not_from_when_it_was_made():
    ago = [datetime.now() - timedelta(hours=hours) for hours in (900, 800, 2, 1)]
    made = [{"version": number, "timestamp": at} for number, at in enumerate(ago, start=1)]
    assert versions.superseded(made[::-1], 24) == [1]
    assert versions.superseded(made, 1.5) == [1, 2]
    assert versions.superseded(made[:1], 1e-9) == []


def orphan(store, table="patches"):
    kept = rows.stored("lost").select(store.open(table).schema.names)
    made = write_fragments(kept, store.address(f"{table}.lance"), mode="append")
    return Path(store.address(f"{table}.lance/data"), made[0].files[0].path)


def test_files_of_a_dead_run_go_once_they_are_old_and_only_while_no_job_writes(store):
    take_in(store, "a", "b")
    lost, torn = orphan(store), Path(store.address("patches.lance/data/.tmpQ1w2e3"))
    torn.write_bytes(b"half")
    store.maintain(UpkeepConfig())
    assert lost.exists(), "it is younger than a day"
    with store.writing("ingest"):
        told = done(store)
        assert re.match("jobs are writing: writer/ingest/", told["files without a version kept", ""]["note"])
        assert lost.exists()
    told = done(store)
    assert told["files without a version removed", "patches"]["count"] == 2
    assert not lost.exists()
    assert not torn.exists()
    store.open("patches").validate()
    assert len(everything(store)) == 12


def test_what_is_collected_is_what_lance_itself_calls_unreferenced(store):
    take_in(store, *"abc")
    patches = store.open("patches")
    patches.create_scalar_index("patch_id", "BTREE")
    patches.delete("video_id = 'b'")
    lost = {orphan(store).name, orphan(store).name}
    told = patches.explain_cleanup_old_versions(older_than=timedelta(days=9), delete_unverified=True, include_files=True)
    assert {Path(one.path).name for one in told.candidate_files} == lost
    before = {path for path in Path(patches.uri).rglob("*") if path.is_file()}
    assert orphans.collect(store, "patches")["count"] == 2
    assert {path.name for path in before - {path for path in Path(patches.uri).rglob("*") if path.is_file()}} == lost


def test_a_job_that_was_taken_for_dead_commits_nothing_of_files_that_are_gone(store):
    take_in(store, "a")
    written = pa.concat_tables(WriteRows(store.uri)(rows.scored("b")))  # and sleeps on, unsigned
    done(store)
    with pytest.raises(OSError, match=r"(?i)file"):
        store.commit(written, rows.videos("b"), rows.STAMP)
    store.open("patches").validate()
    assert len(everything(store)) == 6
    assert store.ledger()["video_id"].to_pylist() == ["a"]


DYING = """
import os, signal, sys
from engine.store import PatchStore

with PatchStore(sys.argv[1]).writing("ingest"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leases_of_dead_jobs_are_buried_and_those_of_living_ones_are_not(store):
    died = subprocess.run([sys.executable, "-c", DYING, store.uri], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    with store.writing("choose"):
        assert [name.split("/")[1] for name in writers.living(store, writers.WRITER)] == ["choose"]
        assert store.open("locks").count_rows() == 2
        assert done(store)["leases of dead jobs removed", "locks"]["count"] == 1
        assert store.open("locks").count_rows() == 1
    assert not store.open("locks").count_rows()


def test_files_that_go_while_a_commit_waits_for_the_lock_are_noticed_under_it(store, monkeypatch):
    written = pa.concat_tables(WriteRows(store.uri)(rows.scored("b")))
    check = intake.check_files

    def checked(*arguments):
        check(*arguments)
        assert orphans.collect(store, "patches")["count"] == 1

    monkeypatch.setattr(intake, "check_files", checked)
    with pytest.raises(OSError, match=r"a file written for the table patches of .* is gone \(data/.*: nothing was committed"):
        store.commit(written, rows.videos("b"), rows.STAMP)
    store.open("patches").validate()


def test_images_whose_files_are_gone_are_not_committed(store):
    def lost():
        row = {
            "image_id": "i",
            "selection_id": "x",
            "position": 0,
            "patch_ids": ["a"] * 4,
            "layout": "",
            "height": 1,
            "width": 1,
            "bytes": 1,
            "pixels": b"x",
        }
        yield pa.Table.from_pylist([row], schema.IMAGE)
        assert orphans.collect(store, "images")["count"] == 1

    with pytest.raises(OSError, match="a file written for the table images"):
        store.append("images", lost())
    assert not store.open("images").to_table().num_rows


def many(store, count, width):
    """`count` patches of as many videos as digits, without pixels worth a name, straight into the table and the ledger."""
    rng = np.random.default_rng(0)
    columns = dict.fromkeys(store.open("patches").schema.names)
    groups = rng.standard_normal((20, width))
    vectors = (groups[rng.integers(0, 20, count)] + 0.3 * rng.standard_normal((count, width))).astype(np.float16)
    made = [
        columns | {"video_id": f"v{n % 10}", "patch_id": f"v{n % 10}@{n}:0", "difficulty": float(n), "embedding": vectors[n].tolist()}
        for n in range(count)
    ]
    table = pa.Table.from_pylist(made, store.open("patches").schema)
    with locked(store, "commit") as lease:
        lance.write_dataset(table, store.address("patches.lance"), mode="append")
        versions.mark_complete(store, lease)
    return vectors


def test_indices_are_made_once_the_table_is_large_enough_and_refreshed_as_it_grows(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(8)
    many(store, 600, 8)
    config = UpkeepConfig(index_rows=601, vector_rows=601)
    assert not indices.build(store, config)
    config = UpkeepConfig(index_rows=600, vector_rows=600)
    assert {row["name"] for row in indices.build(store, config)} == {
        f"patches.{column}" for column in ("difficulty", "patch_id", "video_id", "embedding")
    }
    assert not indices.build(store, config)
    many(store, 60, 8)
    assert {row["what"] for row in indices.build(store, config)} == {"index refreshed"}
    patches = store.open("patches")
    for index in patches.describe_indices():
        assert patches.index_statistics(index.name)["num_unindexed_rows"] == 0
    assert "ScalarIndexQuery" in patches.scanner(filter="difficulty > 598", columns=["patch_id"]).explain_plan()
    assert sorted(patches.to_table(filter="difficulty > 598", columns=["difficulty"])["difficulty"].to_pylist()) == [599.0]
    assert patches.count_rows("video_id = 'v3'") == 66


@pytest.mark.parametrize(("width", "kind"), [(4, "IVF_FLAT"), (64, "IVF_FLAT"), (132, "IVF_FLAT"), (192, "IVF_RQ")])
def test_neighbours_by_the_vector_index_are_those_of_brute_force(tmp_path, width, kind):
    store = PatchStore(str(tmp_path / "store"))
    store.create(width)
    vectors = many(store, 2000, width).astype(np.float32)
    assert [row["note"] for row in indices.build(store, UpkeepConfig(vector_rows=2000))] == [kind]
    query = vectors[7]
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1)
    exact = {f"v{n % 10}@{n}:0" for n in np.argsort(-cosine)[:20]}
    asked = {"column": "embedding", "q": query, "k": 20, "metric": "cosine", "refine_factor": 5, "nprobes": 20}
    found = set(store.open("patches").to_table(columns=["patch_id", "_distance"], nearest=asked)["patch_id"].to_pylist())
    assert len(found & exact) >= 19


def test_files_beside_the_tables_go_when_nothing_needs_them_any_more(store):
    names = {
        "runs/pretrain-x-1/epoch-1/state.pt": "models/x-1.safetensors",
        "runs/pretrain-y-1-here/epoch-1/state.pt": "models/y-1.safetensors",
        "runs/pretrain-z-1/epoch-1/state.pt": "",
        "runs/probe-s/epoch-1/state.pt": "scorers/s.safetensors",
        "runs/mine/epoch-1/state.pt": "",
        "scorers/s.arrow": "",
        "scorers/t.arrow": "",
        ".report.html.0123456789abcdef0123456789abcdef": "",
        "runs/pretrain-z-1/epoch-1/.state.pt.0123456789abcdef0123456789abcdef": "",
        ".hidden": "",
    }
    for name in [*names, *filter(None, names.values())]:
        path = Path(store.address(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert not leftovers.remove(store, 24.0)
    time.sleep(0.02)
    gone = {row["name"] for row in leftovers.remove(store, 1e-9)}
    assert gone == {
        "runs/pretrain-x-1",
        "runs/pretrain-y-1-here",
        "runs/probe-s",
        "scorers/s.arrow",
        ".report.html.0123456789abcdef0123456789abcdef",
        "runs/pretrain-z-1/epoch-1/.state.pt.0123456789abcdef0123456789abcdef",
    }
    for name in ("runs/pretrain-z-1/epoch-1/state.pt", "runs/mine/epoch-1/state.pt", "scorers/t.arrow", ".hidden"):
        assert Path(store.address(name)).exists()
    assert not [name for name in gone if Path(store.address(name)).exists()]


def test_what_mlflow_began_and_nobody_ended_is_swept_once_it_is_old(store):
    for name in ("old", "young"):
        Path(store.address(f"{files.UNFINISHED}{name}")).mkdir()
        Path(store.address(f"{files.UNFINISHED}{name}/mlflow.db")).write_bytes(b"half")
    Path(store.address("mlflow.db")).write_bytes(b"whole")
    then = time.time() - 25 * 3600
    for name in ("mlflow.db", f"{files.UNFINISHED}old"):
        os.utime(store.address(name), (then, then))
    told = done(store, UpkeepConfig(keep_hours=24))
    assert told["unfinished file of MLflow removed", f"{files.UNFINISHED}old"]["count"] == 1
    assert sorted(path.name for path in Path(store.uri).glob("*mlflow*")) == [f"{files.UNFINISHED}young", "mlflow.db"]


def test_upkeep_ends_an_erasure_that_was_cut_off(store):
    take_in(store, *"ab")
    with pytest.MonkeyPatch.context() as patched:

        def failing(*_):
            raise OSError("disk gone")

        patched.setattr(erasure, "purge", failing)
        with pytest.raises(OSError, match="disk gone"):
            store.forget("a")
    assert erasure.unfinished(store) == ["a"]
    done(store)
    assert not erasure.unfinished(store)
    left = [path for path in Path(store.uri).rglob("*") if path.is_file() and b"a@0:0,0,32,40" in path.read_bytes()]
    assert not left


INGESTING = """
import sys, time
import pyarrow as pa
from engine.store import PatchStore, WriteRows
from tests import rows

store = PatchStore(sys.argv[1])
with store.writing("ingest"):
    for number in range(int(sys.argv[2])):
        written = pa.concat_tables(WriteRows(store.uri)(rows.scored(f"n{number}")))
        time.sleep(0.1)  # files are written and in no version yet
        store.commit(written, rows.videos(f"n{number}"), rows.STAMP)
"""


def test_an_ingest_and_a_reader_go_on_while_upkeep_loops_beside_them(store):
    take_in(store, *"abc")
    config = UpkeepConfig(keep_hours=5 / 3600, index_rows=10)
    version = store.complete_version()
    ingest = subprocess.Popen([sys.executable, "-c", INGESTING, store.uri, "8"], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "0"})
    merged = 0
    with store.reading("patches", version):
        while ingest.poll() is None:
            merged += sum(row["count"] for row in store.maintain(config).to_pylist() if row["what"] == "files merged")
            seen = store.patches(["video_id", "pixels"])["video_id"].to_pylist()
            assert all(seen.count(video_id) == 6 for video_id in seen)
            assert len(store.patches(["pixels"], version=version)) == 18
    assert ingest.returncode == 0
    assert merged
    store.open("patches").validate()
    found = store.patches(["patch_id"])["patch_id"].to_pylist()
    wanted = [one for name in [*"abc", *(f"n{n}" for n in range(8))] for one in rows.scored(name)["patch_id"].drop_null().to_pylist()]
    assert sorted(found) == sorted(wanted)
    assert store.open("frames").count_rows() == 4 * 11
    assert len(store.ledger()) == 11


def test_what_was_done_stands_in_the_journal(store):
    take_in(store, *"abc")
    told = store.maintain(NOW, "c0ffee").to_pylist()
    row = store.open("journal").to_table().to_pylist()[-1]
    assert (row["job"], row["subject"], row["commit"]) == ("maintain", "store", "c0ffee")
    assert json.loads(row["detail"])["rows"] == told
    assert store.uri not in row["detail"]


def test_the_newest_selection_stays_the_newest_when_its_rows_were_moved(store):
    def selected(name):
        whole = {"selection_id": name, "method": "random", "budget": 0.5, "retained": 0.4, "seed": 0, "patches_version": 1}
        return pa.Table.from_pylist(
            [
                whole | {"rank": rank, "patch_id": f"{name}{rank}", "weight": 1.0, "bytes": 3, "unit": "bytes", "embedding": ""}
                for rank in range(4)
            ],
            schema.SELECTION,
        )

    for name in ("old", "new"):
        store.save(selected(name), [])
    table = store.open("selections")
    table.delete("selection_id = 'old' AND rank = 0")
    newest = [one.fragment_id for one in table.get_fragments()][-1]
    table.optimize.compact_files(materialize_deletions_threshold=0.0, excluded_fragment_ids=[newest])
    assert store.open("selections").to_table()["selection_id"].to_pylist()[-1] == "old", "Lance moved the rows"
    assert store.selection("random", 0.5, 0)["selection_id"].to_pylist()[0] == "new"
