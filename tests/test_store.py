import contextlib
import pickle
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance.fragment import FragmentMetadata

from engine import schema
from engine.store import ImageReader, PatchStore, WriteRows, intake, selections
from engine.store.lock import locked
from tests import rows
from tests.crashes.committer import PROCESSES


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    return made


def take_in(store, *ids, reason=None):
    written = pa.concat_tables([out for video_id in ids for out in WriteRows(store.uri)(rows.scored(video_id, reason=reason))])
    return store.commit(written, rows.videos(*ids), rows.STAMP)


def patch_ids(store):
    return sorted(store.patches(["patch_id"])["patch_id"].to_pylist())


def expected(*ids):
    return sorted(i for video_id in ids for i in rows.scored(video_id)["patch_id"].drop_null().to_pylist())


def test_what_is_committed_is_read_back_to_the_last_byte(store):
    take_in(store, "aa", "bb")
    table = store.patches(["patch_id", "pixels", "embedding", "difficulty", "box"]).sort_by("patch_id")
    reference = pa.concat_tables([rows.scored("aa"), rows.scored("bb")])
    reference = reference.filter(pa.compute.is_valid(reference["patch_id"])).sort_by("patch_id")
    for column in table.column_names:
        assert table[column].to_pylist() == reference[column].to_pylist()


def test_the_ledger_counts_frames_patches_and_reasons(store):
    ledger = take_in(store, "aa", reason="truncated").to_pylist()
    assert [(r["frames"], r["kept"], r["patches"], r["reason"]) for r in ledger] == [(4, 3, 6, "truncated")]
    frames = store.open("frames").to_table().to_pylist()
    assert [(f["time_ms"], f["reason"], f["patches"]) for f in frames] == [
        (0, None, 2),
        (1000, None, 2),
        (2000, None, 2),
        (3000, "dark", 0),
    ]


def test_patches_without_a_ledger_row_are_not_read_and_are_replaced_by_the_next_run(store):
    take_in(store, "aa")
    written = pa.concat_tables(WriteRows(store.uri)(rows.scored("bb")))
    left = [FragmentMetadata.from_json(text) for text in written["fragment"].drop_null().to_pylist()]
    with contextlib.suppress(OSError), locked(store, "commit") as lease:
        intake.replace(store, "patches", left, "", lease)
        raise OSError("died")
    assert patch_ids(store) == expected("aa")
    take_in(store, "bb")
    assert patch_ids(store) == expected("aa", "bb")
    assert store.open("patches").count_rows() == len(expected("aa", "bb"))


def test_taking_in_a_video_twice_leaves_its_rows_once(store):
    take_in(store, "aa", "bb")
    take_in(store, "aa")
    assert patch_ids(store) == expected("aa", "bb")
    assert store.open("patches").count_rows() == 12
    assert store.open("frames").count_rows() == 8
    assert len(store.ledger()) == 2


def test_lost_patches_are_noticed_before_anything_is_committed(store):
    written = pa.concat_tables(WriteRows(store.uri)(rows.scored("aa")))
    lost = written.set_column(written.schema.get_field_index("fragment"), "fragment", pa.nulls(len(written), pa.string()))
    with pytest.raises(ValueError, match="announced 6 patches and wrote 0"):
        store.commit(lost, rows.videos("aa"), rows.STAMP)
    assert patch_ids(store) == []
    assert len(store.ledger()) == 0


def test_a_video_without_a_verdict_never_reaches_the_ledger(store):
    written = pa.concat_tables(WriteRows(store.uri)(rows.scored("aa")))
    with pytest.raises(ValueError, match="bb came back without a verdict"):
        store.commit(written, rows.videos("aa", "bb"), rows.STAMP)
    assert len(store.ledger()) == 0
    assert patch_ids(store) == []


def test_a_source_is_seen_by_address_size_and_time_and_a_video_by_its_bytes(store):
    take_in(store, "aa")
    source = pa.Table.from_pylist(
        [{"uri": "/in/aa.mp4", "size": 10, "modified": "1"}, {"uri": "/in/aa.mp4", "size": 11, "modified": "1"}], schema.SOURCE
    )
    assert store.unseen(source)["size"].to_pylist() == [11]
    renamed = rows.videos("aa", "cc", "cc")
    assert store.unknown(renamed)["video_id"].to_pylist() == ["cc"]


def test_a_file_that_can_be_read_at_last_takes_the_place_of_its_refusal(store):
    refused = rows.videos("unread-1").set_column(1, "uri", pa.array(["/in/aa.mp4"]))
    refused = refused.set_column(4, "reason", pa.array(["unreadable"]))
    verdict = [dict.fromkeys(rows.wide().names) | {"video_id": "unread-1", "reason": "unreadable"}]
    store.commit(pa.concat_tables(WriteRows(store.uri)(pa.Table.from_pylist(verdict, rows.wide()))), refused, rows.STAMP)
    assert len(store.unseen(refused.select(schema.SOURCE.names))) == 1
    take_in(store, "aa")
    assert store.ledger()["video_id"].to_pylist() == ["aa"]


def test_a_store_of_another_schema_or_width_is_refused_in_a_sentence(store):
    with pytest.raises(ValueError, match="holds embeddings of 4 numbers, the scorer makes 8"):
        store.create(8)
    lance.dataset(store.address("videos.lance")).replace_schema_metadata({"endocurate": "99"})
    with pytest.raises(ValueError, match="schema version 99, this engine reads 4: use a newer engine"):
        store.ledger()


@pytest.mark.parametrize(
    ("table", "job"),
    [("patches", "ingest"), ("images", "choose"), ("scores-mae-1", "score"), ("clusters-kinds", "choose"), ("neighbours", "alike")],
)
def test_an_absent_table_names_the_job_that_makes_it(tmp_path, table, job):
    with pytest.raises(LookupError, match=f"run the job {job} first"):
        PatchStore(str(tmp_path)).open(table)


def image(selection_id, position):
    pixels = f"{selection_id}-{position}".encode()
    whole = {"image_id": f"i{position}", "patch_ids": ["a", "b", "c", "d"], "height": 2, "width": 2, "bytes": 3, "layout": ""}
    return whole | {"selection_id": selection_id, "position": position, "pixels": pixels}


def chosen(selection_id):
    columns = {"selection_id": selection_id, "method": "random", "budget": 0.5, "retained": 0.4, "seed": 0, "patches_version": 1}
    return pa.Table.from_pylist(
        [
            columns | {"rank": rank, "patch_id": f"p{rank}", "weight": 1.0, "bytes": 3, "unit": "bytes", "embedding": ""}
            for rank in range(4)
        ],
        schema.SELECTION,
    )


def test_a_selection_whose_images_cannot_be_written_leaves_the_earlier_one_as_it_was(store):
    def dying():
        yield pa.Table.from_pylist([image("x", 0)], schema.IMAGE)
        raise OSError("disk full")

    store.save(chosen("x"), [pa.Table.from_pylist([image("x", p) for p in (0, 1)], schema.IMAGE)])
    with pytest.raises(OSError, match="disk full"):
        store.save(chosen("x"), dying())
    assert len(store.selection("random", 0.5, 0)) == 4
    assert len(store.reader("x")) == 2


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_selection_that_was_interrupted_between_its_commits_is_not_there_and_the_next_try_mends_it(store, monkeypatch, commits):
    replace, done = selections.replace, []

    def dying(tables, table, *rest):
        if len(done) == commits:
            raise OSError("disk full")
        done.append(replace(tables, table, *rest))

    store.save(chosen("x"), [pa.Table.from_pylist([image("x", p) for p in (0, 1)], schema.IMAGE)])
    monkeypatch.setattr(selections, "replace", dying)
    with pytest.raises(OSError, match="disk full"):
        store.save(chosen("x"), [pa.Table.from_pylist([image("x", 0)], schema.IMAGE)])
    monkeypatch.undo()
    if commits:
        with pytest.raises(LookupError, match="run the job choose"):
            store.selection("random", 0.5, 0)
    store.save(chosen("x"), [pa.Table.from_pylist([image("x", 0)], schema.IMAGE)])
    assert len(store.selection("random", 0.5, 0)) == 4
    assert len(store.reader("x")) == 1


def test_four_who_save_the_same_selection_at_once_leave_it_there_once(store):
    made = [pa.Table.from_pylist([image("x", p) for p in (0, 1)], schema.IMAGE)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: store.save(chosen("x"), made), range(4))) == [2] * 4
    assert len(store.selection("random", 0.5, 0)) == 4
    assert store.reader("x")([0, 1]) == [b"x-0", b"x-1"]
    assert store.open("images").count_rows() == 2


def test_training_images_are_read_by_position_also_after_another_selection_was_replaced(store):
    for selection_id in ("x", "y", "x"):
        made = pa.Table.from_pylist([image(selection_id, p) for p in (2, 0, 1)], schema.IMAGE)
        assert store.save(chosen(selection_id), [made.slice(0, 2), made.slice(2)]) == 3
    reader = pickle.loads(pickle.dumps(store.reader("y")))
    assert len(reader) == 3
    assert reader([2, 0, 2]) == [b"y-2", b"y-0", b"y-2"]
    assert reader.ids([1, 0]) == [image("y", p)["image_id"] for p in (1, 0)]
    assert isinstance(reader, ImageReader)
    assert store.open("images").count_rows() == 6


@pytest.mark.parametrize(("size", "files"), [(2**27, 1), (1, 5)])
def test_images_that_come_in_small_batches_lie_in_large_files(store, monkeypatch, size, files):
    monkeypatch.setattr(selections, "FILE", size)
    store.save(chosen("x"), [pa.Table.from_pylist([image("x", position)], schema.IMAGE) for position in range(5)])
    assert len(store.open("images").get_fragments()) == files
    assert store.reader("x")([4, 0, 2]) == [b"x-4", b"x-0", b"x-2"]


def test_a_reader_keeps_the_version_it_was_made_on(store):
    store.save(chosen("x"), [pa.Table.from_pylist([image("x", 0)], schema.IMAGE)])
    reader = store.reader("x")
    store.save(chosen("x"), [])
    assert reader([0]) == [b"x-0"]


def test_patches_are_taken_by_id_in_the_order_asked_for(store):
    take_in(store, "aa", "bb")
    take_in(store, "aa")  # deleted rows in between
    version = store.complete_version()
    wanted = expected("aa", "bb")[::-5]
    found = store.take(store.offsets(wanted, version), ["patch_id"], version)
    assert found["patch_id"].to_pylist() == wanted
    with pytest.raises(KeyError):
        store.offsets(["nobody"], version)


def test_a_question_that_has_an_end_is_not_put_on_the_disk(store):
    asked = "SELECT current_setting('temp_directory') AS place"
    assert store.shown(asked, 20)["place"].to_pylist() == [""]


def test_sql_sees_the_complete_tables_and_cannot_write(store, tmp_path):
    take_in(store, "aa", "bb")
    counted = store.query(
        "SELECT video_id, count(*) AS n, avg(difficulty) AS d FROM patches GROUP BY video_id ORDER BY video_id"
    ).to_pylist()
    reference = {v: np.mean(rows.scored(v)["difficulty"].drop_null().to_numpy()) for v in ("aa", "bb")}
    assert [(row["video_id"], row["n"]) for row in counted] == [("aa", 6), ("bb", 6)]
    assert [row["d"] for row in counted] == pytest.approx(list(reference.values()))
    for hostile in (
        f"COPY patches TO '{tmp_path}/x.csv'",
        "DROP VIEW patches",
        "SELECT 1; SELECT 2",
        f"SELECT * FROM read_text('{__file__}')",
    ):
        with pytest.raises(ValueError, match="query"):
            store.query(hostile)
    with pytest.raises(ValueError, match="nowhere"):
        store.query("SELECT * FROM nowhere")


@pytest.fixture
def small_disk(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(tmp_path)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_is_an_error_and_the_table_stays_what_it_was(small_disk):
    store = PatchStore(str(small_disk / "store"))
    store.create(rows.WIDTH)
    take_in(store, "aa")
    with pytest.raises(OSError, match=r"(?i)no space left"):
        take_in(store, *[f"v{number:03d}" for number in range(400)])
    again = PatchStore(store.uri)
    assert patch_ids(again) == expected("aa")
    assert again.ledger()["video_id"].to_pylist() == ["aa"]
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    take_in(again, "bb")
    assert patch_ids(again) == expected("aa", "bb")
    assert again.open("patches").count_rows() == 12


# -- commits that go wrong ------------------------------------------------------------------------------------------------------


def answering(monkeypatch, answer):
    """Swap Lance's commit of an append for one that does it and then answers otherwise."""
    commit = lance.LanceDataset.commit

    def committing(uri, operation, *arguments, **options):
        done = commit(uri, operation, *arguments, **options)
        return answer(done, lambda: commit(uri, operation)) if isinstance(operation, lance.Transaction) else done

    monkeypatch.setattr(lance.LanceDataset, "commit", staticmethod(committing))


def test_a_commit_that_landed_and_was_answered_by_an_error_is_found_and_not_made_again(store, monkeypatch):
    def deny(*_):
        raise OSError("timed out")

    answering(monkeypatch, deny)
    take_in(store, "aa")
    take_in(store, "aa")
    assert patch_ids(store) == expected("aa")
    assert store.open("patches").count_rows() == 6
    assert len(store.ledger()) == 1


def test_a_commit_that_was_made_twice_by_a_blind_retry_is_there_once(store, monkeypatch):
    answering(monkeypatch, lambda done, again: again())
    take_in(store, "aa")
    take_in(store, "bb", "cc")
    assert patch_ids(store) == expected("aa", "bb", "cc")
    assert (store.open("patches").count_rows(), store.open("frames").count_rows(), len(store.ledger())) == (18, 12, 3)


def test_a_commit_that_did_not_land_is_an_error(store, monkeypatch):
    def fail(*_, **__):
        raise OSError("timed out")

    monkeypatch.setattr(lance.LanceDataset, "commit", staticmethod(fail))
    with pytest.raises(OSError, match="timed out"):
        take_in(store, "aa")
    assert len(store.ledger()) == 0


def written_of(store, *ids):
    return pa.concat_tables([out for video_id in ids for out in WriteRows(store.uri)(rows.scored(video_id))])


def data_files(store):
    return sorted(Path(store.address("patches.lance"), "data").iterdir())


def test_files_that_are_not_what_the_workers_announced_are_refused_before_anything_is_committed(store):
    twice = written_of(store, "aa")
    with pytest.raises(ValueError, match="wrote 6 of 12 patches twice: nothing was committed"):
        store.commit(pa.concat_tables([twice, written_of(store, "aa")]), rows.videos("aa"), rows.STAMP)
    strange = written_of(store, "bb")
    named = strange.set_column(0, strange.schema.field(0), pa.array(["cc"] * len(strange)))
    with pytest.raises(ValueError, match="patches of 1 videos that they did not announce"):
        store.commit(named, rows.videos("cc"), rows.STAMP)
    torn = written_of(store, "dd")
    newest = max(data_files(store), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(OSError, match="a file that a worker wrote cannot be read, nothing was committed"):
        store.commit(torn, rows.videos("dd"), rows.STAMP)
    newest.unlink()
    with pytest.raises(OSError, match="a file that a worker wrote cannot be read, nothing was committed"):
        store.commit(torn, rows.videos("dd"), rows.STAMP)
    assert store.open("patches").version == 1
    assert len(store.ledger()) == 0


def test_a_second_intake_that_dies_between_its_commits_takes_nothing_of_the_first_away(store, monkeypatch):
    take_in(store, "aa", "bb")
    enter = intake.enter

    def fail(*_):
        raise OSError("died")

    monkeypatch.setattr(intake, "enter", fail)
    with pytest.raises(OSError, match="died"):
        take_in(store, "aa")
    monkeypatch.setattr(intake, "enter", enter)
    take_in(store, "cc")
    assert patch_ids(store) == expected("aa", "bb", "cc")
    assert (store.open("patches").count_rows(), store.open("frames").count_rows(), len(store.ledger())) == (18, 12, 3)


def test_the_ledger_stays_in_few_files_however_often_it_is_added_to(store, monkeypatch):
    monkeypatch.setattr(intake, "LOOSE", 3)
    monkeypatch.setattr(intake, "JOINED", 4)
    for number in range(14):
        take_in(store, f"v{number:02d}")
    assert len(store.open("videos").get_fragments()) <= 14 // 4 + 3 + 1
    assert sorted(store.ledger()["video_id"].to_pylist()) == [f"v{number:02d}" for number in range(14)]
    assert store.ledger()["patches_version"].to_pylist() == sorted(store.ledger()["patches_version"].to_pylist())
    assert patch_ids(store) == expected(*(f"v{number:02d}" for number in range(14)))


def test_of_many_who_make_a_store_at_once_all_succeed_and_nobody_empties_it(tmp_path):
    with PROCESSES.Pool(4) as pool:
        for number in range(3):
            uri, at = str(tmp_path / f"store-{number}"), time.time() + 0.2
            pool.starmap(made_at, [(uri, at)] * 4)
            assert {name: PatchStore(uri).lance(name).version for name in ("patches", "videos", "locks")} == dict.fromkeys(
                ("patches", "videos", "locks"), 1
            )


def made_at(uri, moment):
    time.sleep(max(0.0, moment - time.time()))
    PatchStore(uri).create(rows.WIDTH)


@pytest.mark.parametrize("name", ["1.manifest.tmp_5c1e", "1.manifest#1", "18446744073709551614.manifest-5c1e"])
def test_a_table_whose_first_version_is_being_written_is_not_there_yet(tmp_path, name):
    store = PatchStore(str(tmp_path / "store"))
    versions = tmp_path / "store" / "videos.lance" / "_versions"
    versions.mkdir(parents=True)
    (versions / name).write_bytes(b"half of it")
    assert not store.is_made("videos")
    store.create(rows.WIDTH)
    assert store.is_made("videos")
    assert len(store.ledger()) == 0


def test_a_store_whose_making_was_interrupted_is_made_by_the_next_run(tmp_path):
    (tmp_path / "store" / "videos.lance" / "_transactions").mkdir(parents=True)
    store = PatchStore(str(tmp_path / "store"))
    store.create(rows.WIDTH)
    take_in(store, "aa")
    assert patch_ids(store) == expected("aa")
