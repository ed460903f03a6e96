import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from lance.fragment import write_fragments

from engine import schema
from engine.pool import Pool
from engine.rows import hashed
from engine.store import PatchStore, WriteRows, erasure, journal
from engine.store.lock import locked
from tests import rows
from tests.test_clusterings import invented

ROOT = Path(__file__).resolve().parent.parent
VICTIM, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    return made


def planted(video_id):
    """The rows of a video with random bytes for pixels, and all that tells them: pixels, patch ids, the source's address."""
    table = rows.scored(video_id)
    pixels = [None if old is None else secrets.token_bytes(400) for old in table["pixels"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("pixels"), table.schema.field("pixels"), pa.array(pixels, pa.large_binary()))
    ids = table["patch_id"].drop_null().to_pylist()
    return table, [one for one in pixels if one] + [one.encode() for one in ids] + [f"/in/{video_id}.mp4".encode()]


def take_in(store, *tables):
    ids = [table["video_id"][0].as_py() for table in tables]
    written = pa.concat_tables([out for table in tables for out in WriteRows(store.uri)(table)])
    return store.commit(written, rows.videos(*ids), rows.STAMP)


def choose(store, selection_id, patch_ids, pixels):
    """A selection of four patches and its one image, whose pixels are given."""
    whole = {"selection_id": selection_id, "method": "random", "budget": 0.5, "retained": 0.4, "seed": 0, "patches_version": 2}
    ranked = [
        whole | {"rank": rank, "patch_id": name, "weight": 1.0, "bytes": 3, "unit": "bytes", "embedding": ""}
        for rank, name in enumerate(patch_ids)
    ]
    image = {"image_id": f"i-{selection_id}", "patch_ids": patch_ids, "height": 2, "width": 2, "bytes": 3, "position": 0, "layout": ""}
    image |= {"selection_id": selection_id, "pixels": pixels}
    store.save(pa.Table.from_pylist(ranked, schema.SELECTION), [pa.Table.from_pylist([image], schema.IMAGE)])


def filled(store):
    """A store with two videos in one file, a third apart, selections, indices, versions and pictures; returns what tells the victim."""
    victim, marks = planted(VICTIM)
    other, kept = planted(OTHER)
    written = next(iter(WriteRows(store.uri)(pa.concat_tables([victim, other]))))  # one file holds both
    store.commit(written, rows.videos(VICTIM, OTHER), rows.STAMP)
    third, more = planted("third")
    take_in(store, third)
    mine, theirs = secrets.token_bytes(400), secrets.token_bytes(400)
    ids = [table["patch_id"].drop_null().to_pylist() for table in (victim, other)]
    choose(store, "mixed-1", [ids[1][0], ids[0][0], ids[1][1], ids[1][2]], mine)
    choose(store, "pure-1", ids[1][:4], theirs)
    store.add_scores("early-0a1b", [rows.scores(store.open("patches").to_table(columns=["patch_id"])["patch_id"].to_pylist())])
    clustered = Pool(store.open("patches").to_table(columns=["patch_id"]))
    store.keep("x-1", clustered, invented(18), 1)
    patches = store.open("patches")
    patches.create_scalar_index("patch_id", "BTREE")
    patches.create_scalar_index("video_id", "BITMAP")
    store.open("selections").create_scalar_index("patch_id", "BTREE")
    store.open("frames").create_scalar_index("video_id", "BITMAP")
    for name in ("models/mixed-1-abc.safetensors", "models/pure-1-abc.safetensors", "scorers/s.safetensors"):
        Path(store.address(name)).parent.mkdir(exist_ok=True)
        Path(store.address(name)).write_bytes(b"weights")
    for name in ("report.html", "notebooks/01_patches.html", "scorers/s.arrow"):
        Path(store.address(name)).parent.mkdir(exist_ok=True)
        Path(store.address(name)).write_bytes(b"<img>" + marks[0])
    keys = [key.tobytes() for key in hashed(pa.chunked_array([ids[0]]))]
    return [*marks, mine, *keys], [*kept, *more, theirs]


def files_with(store, marks):
    """The files of the store in which any of the byte strings stands."""
    files = [path for path in Path(store.uri).rglob("*") if path.is_file()]
    return {str(path.relative_to(store.uri)) for path in files if any(mark in path.read_bytes() for mark in marks)}


def is_whole(store):
    assert store.open("patches").count_rows() == 12
    assert store.open("frames").count_rows() == 8
    assert len(store.patches(["pixels", "embedding"])) == 12
    assert [(scorer.name, scorer.covers) for scorer in store.scorers(store.complete_version())] == [("early-0a1b", 12)]
    assert store.open("clusters-x-1").count_rows("key IS NOT NULL") == 12
    chosen = store.open("selections").to_table().to_pylist()
    assert sorted((row["selection_id"], row["rank"]) for row in chosen) == [("mixed-1", rank) for rank in (0, 2, 3)] + [
        ("pure-1", rank) for rank in range(4)
    ]
    assert store.open("images").to_table()["selection_id"].to_pylist() == ["pure-1"]
    assert not store.holds("report.html")
    assert not store.holds("notebooks/01_patches.html")


def test_no_byte_of_a_forgotten_video_is_left_in_any_file_and_all_of_the_others_is(store):
    marks, kept = filled(store)
    for mark in marks:
        assert files_with(store, [mark]), mark
    told = store.forget(VICTIM).to_pylist()
    assert files_with(store, marks) == set()
    for mark in kept:
        assert files_with(store, [mark]), mark
    is_whole(store)
    counts = {row["name"]: row["count"] for row in told if row["what"] == "rows removed"}
    assert counts == {"patches": 6, "frames": 4, "selections": 1, "images": 1, "scores-early-0a1b": 6, "clusters-x-1": 6}
    made = sorted((row["what"], row["name"]) for row in told if row["what"].startswith("made"))
    assert made == [
        ("made from it, maybe: scorer", "scorers/s.safetensors"),
        ("made from it: centroids", "clusters-x-1"),
        ("made from it: images", "mixed-1"),
        ("made from it: model", "models/mixed-1-abc.safetensors"),
        ("made from it: selections", "mixed-1"),
    ]


def test_the_tombstone_tells_the_id_and_nothing_else_of_the_video(store):
    filled(store)
    store.forget(VICTIM)
    row = next(row for row in store.ledger().to_pylist() if row["video_id"] == VICTIM)
    assert row["reason"] == "forgotten"
    assert (row["uri"], row["size"], row["modified"], row["detail"], row["frames"], row["patches"]) == ("", 0, "", None, 0, 0)
    assert not len(store.unknown(rows.videos(VICTIM)))
    assert store.forgotten() == {VICTIM}


def test_forgetting_twice_changes_nothing_more_and_tells_the_same(store):
    filled(store)
    first = store.forget(VICTIM)
    before = {table: store.open(table).version for table in ("patches", "frames", "videos", "selections", "images", "journal")}
    assert store.forget(VICTIM[:10]).to_pylist() == first.to_pylist()
    assert before == {table: store.open(table).version for table in before}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nobody", "the ledger of .* has no video 'nobody'; a beginning has 8 letters or more: nothing was changed"),
        ("", "has no video ''"),
        ("0123456", "a beginning has 8 letters or more"),
        ("01234567" + "f" * 24, "has no video '01234567f"),
        ("01234567", "2 videos of .* begin with 01234567"),
    ],
)
def test_a_name_that_is_not_of_one_video_is_refused_and_nothing_changes(store, name, sentence):
    take_in(store, planted(VICTIM)[0], planted("01234567" + "e" * 24)[0])
    before = {table: store.open(table).version for table in ("patches", "videos", "journal")}
    with pytest.raises(LookupError, match=sentence):
        store.forget(name)
    assert before == {table: store.open(table).version for table in before}


def test_the_indices_lose_the_values_of_a_file_that_goes_as_a_whole(store):
    victim, marks = planted(VICTIM)
    take_in(store, victim)
    take_in(store, planted(OTHER)[0])
    store.open("patches").create_scalar_index("patch_id", "BTREE")
    store.forget(VICTIM)
    assert files_with(store, marks) == set()


def test_our_own_tag_moves_and_the_tag_of_another_stops_it_before_anything_changes(store):
    marks, _ = filled(store)
    patches = store.open("patches")
    patches.tags.create("before", 1)  # holds nothing of it
    patches.tags.create("complete", store.complete_version())
    patches.tags.create("paper", store.complete_version())
    version = patches.version
    with pytest.raises(ValueError, match=r"held by the tag 'paper' of the table patches: remove what is named"):
        store.forget(VICTIM)
    assert store.open("patches").version == version
    assert store.forgotten() == set()
    patches.tags.delete("paper")
    store.forget(VICTIM)
    assert files_with(store, marks) == set()
    assert sorted(store.open("patches").tags.list()) == ["before", "complete"]
    assert store.complete_version() == store.open("patches").version


def test_a_tag_on_a_version_in_which_its_rows_are_only_marked_as_deleted_stops_it_too(store):
    filled(store)
    patches = store.open("patches")
    patches.delete(f"video_id = '{VICTIM}'")
    patches.tags.create("deleted", patches.version)
    with pytest.raises(ValueError, match="the tag 'deleted' of the table patches"):
        store.forget(VICTIM)


def test_a_branch_stops_it_since_it_would_keep_the_bytes_in_silence(store):
    filled(store)
    store.open("frames").create_branch("trial")
    with pytest.raises(ValueError, match="the branch 'trial' of the table frames"):
        store.forget(VICTIM)


DYING = """
import os, signal, sys
from engine.store import PatchStore, erasure, journal, orphans

uri, step, video = sys.argv[1:]

def dying(module, name, when, which=None):
    work = getattr(module, name)
    def wrapped(*arguments, **named):
        mine = which is None or which in [str(one) for one in arguments]
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = work(*arguments, **named)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    setattr(module, name, wrapped)

when, name, *which = step.split()
dying(orphans if name == "collect" else erasure, name, when, *which)
PatchStore(uri).forget(video)
"""
STEPS = [
    "before bury",
    "after bury",
    "after consequences",
    *(f"{when} purge {table}" for table in ("patches", "frames", "selections", "images", "videos") for when in ("before", "after")),
    "before materialise",
    "after materialise",
    "before mark_complete",
    "before pictures_removed",
    "after pictures_removed",
    "after collect patches",
]


def killed_forgetting(store, step):
    died = subprocess.run([sys.executable, "-c", DYING, store.uri, step, VICTIM], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL


@pytest.mark.parametrize("step", ["after bury", "before materialise"])
@pytest.mark.processes
def test_a_kill_is_made_good_by_the_same_command(store, step):
    survives(store, step)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_is_made_good_by_the_same_command(store, step):
    survives(store, step)


def survives(store, step):
    marks, kept = filled(store)
    killed_forgetting(store, step)
    told = store.forget(VICTIM).to_pylist()
    assert files_with(store, marks) == set()
    for mark in kept:
        assert files_with(store, [mark]), mark
    is_whole(store)
    assert ("made from it: model", "models/mixed-1-abc.safetensors") in [(row["what"], row["name"]) for row in told]
    assert store.forget(VICTIM).to_pylist() == told
    assert not erasure.unfinished(store)


def test_the_next_intake_hides_what_a_killed_erasure_left(store):
    filled(store)
    killed_forgetting(store, "before purge patches")
    assert erasure.unfinished(store) == [VICTIM]
    take_in(store, planted("fourth")[0])
    assert VICTIM not in store.patches(["video_id"])["video_id"].to_pylist()


def test_a_video_that_is_forgotten_while_another_job_takes_it_in_does_not_come_back(store):
    marks, _ = filled(store)
    again, more = planted(VICTIM)
    fifth, kept = planted("fifth")
    late = next(iter(WriteRows(store.uri)(pa.concat_tables([again, fifth]))))  # one file with both, not committed yet
    with store.writing("ingest"):
        told = store.forget(VICTIM).to_pylist()
        assert told[-1]["what"] == "still to do"
        assert erasure.unfinished(store) == [VICTIM]
        entered = store.commit(late, rows.videos(VICTIM, "fifth"), rows.STAMP)
        assert files_with(store, more) == set()
    assert entered["video_id"].to_pylist() == ["fifth"]
    assert store.forgotten() == {VICTIM}
    assert not store.open("patches").count_rows(f"video_id = '{VICTIM}'")
    assert not store.open("frames").count_rows(f"video_id = '{VICTIM}'")
    assert len(store.patches(["pixels"], "video_id = 'fifth'")) == 6
    assert store.forget(VICTIM)["what"].to_pylist().count("still to do") == 0
    assert files_with(store, marks + more) == set()
    for mark in kept:
        assert files_with(store, [mark]), mark


def test_files_that_a_dead_ingest_of_the_video_left_go_too(store):
    marks, _ = filled(store)
    again, more = planted(VICTIM)
    list(WriteRows(store.uri)(again))  # and died
    assert files_with(store, more)
    store.forget(VICTIM)
    assert files_with(store, marks + more) == set()


def test_scores_of_a_forgotten_video_are_not_kept_and_what_a_dead_job_left_of_them_goes(store):
    marks, _ = filled(store)
    ids = store.patches(["patch_id"])["patch_id"].to_pylist()
    write_fragments(rows.scores(ids), store.address("scores-early-0a1b.lance"), mode="append")  # and died
    store.forget(VICTIM)
    assert files_with(store, marks) == set()
    assert store.add_scores("late-0a1b", [rows.scores(ids)]) == 12
    assert files_with(store, marks) == set()


def test_a_choose_that_began_before_its_video_was_forgotten_writes_nothing_of_it(store):
    marks, _ = filled(store)
    late = secrets.token_bytes(400)
    patch_ids = store.patches(["patch_id"], f"video_id = '{VICTIM}'")["patch_id"].to_pylist()
    with store.writing("choose"):
        store.forget(VICTIM)
        with pytest.raises(RuntimeError, match="was forgotten while"):
            choose(store, "late-1", patch_ids[:4], late)
    store.forget(VICTIM)
    assert files_with(store, [*marks, late]) == set()


def test_a_table_that_lacks_a_file_is_refused_before_anything_changes(store):
    filled(store)
    lost = next(Path(store.address("patches.lance/data")).glob("*.lance"))
    lost.unlink()
    with pytest.raises(OSError, match=r"the table patches of .* lacks 1 of the \d+ files of its newest version, among them data/"):
        store.forget(VICTIM)
    assert store.forgotten() == set()


def test_the_journal_tells_who_was_forgotten_and_when_it_was_done(store):
    filled(store)
    store.forget(VICTIM, "c0ffee")
    told = store.open("journal").to_table().to_pylist()
    assert [(row["job"], row["subject"], json.loads(row["detail"])["step"], row["commit"]) for row in told] == [
        ("forget", VICTIM, "begun", "c0ffee"),
        ("forget", VICTIM, "done", "c0ffee"),
    ]


def test_a_job_that_commits_waits_for_an_erasure_and_no_lock_stays_behind(store):
    filled(store)
    store.forget(VICTIM)
    assert not store.open("locks").count_rows()
    with locked(store, "commit") as lease:
        assert not lease.inherited
    assert os.path.isdir(store.uri)
    assert journal.entries(store, "forget")[-1][1]["step"] == "done"
