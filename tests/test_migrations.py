import shutil
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from engine import schema
from engine.settings import UpkeepConfig
from engine.store import PatchStore, WriteRows, migrations
from engine.store.lock import locked
from tests import rows

OLD = ("patches", "frames", "videos", "selections", "images")
NEW = ("journal", "locks")
FIRST_SELECTION = pa.schema([field for field in schema.SELECTION if field.name != "weight"])


def old_schemas():
    """The tables as engine 0.1.0 wrote them (schema version 1): no weight, no journal, no locks."""
    return {
        "patches": schema.patches_table(rows.WIDTH),
        "frames": schema.FRAMES_TABLE,
        "videos": schema.VIDEOS_TABLE,
        "selections": FIRST_SELECTION,
        "images": schema.IMAGE,
    }


def append(uri, table, made):
    lance.write_dataset(made.cast(lance.dataset(f"{uri}/{table}.lance").schema), f"{uri}/{table}.lance", mode="append")


def selected(selection_id):
    whole = {"selection_id": selection_id, "method": "random", "budget": 0.5, "retained": 0.4, "seed": 0, "patches_version": 2}
    return pa.Table.from_pylist([whole | {"rank": rank, "patch_id": f"p{rank}", "bytes": 3} for rank in range(4)], FIRST_SELECTION)


@pytest.fixture
def uri(tmp_path):
    """A store of schema version 1 with one video taken in, and the patches of another whose run died before its ledger row."""
    uri = str(tmp_path / "store")
    for name, columns in old_schemas().items():
        lance.write_dataset(columns.with_metadata({"endocurate": "1"}).empty_table(), f"{uri}/{name}.lance", enable_stable_row_ids=True)
    for video_id in ("aa", "dead"):
        scored = rows.scored(video_id)
        kept = scored.filter(pa.compute.is_valid(scored["patch_id"]))
        append(uri, "patches", kept.select(schema.patches_table(rows.WIDTH).names))
        if video_id == "aa":
            version = lance.dataset(f"{uri}/patches.lance").version
    ledger = rows.videos("aa").to_pylist()[0] | rows.STAMP | {"frames": 4, "kept": 3, "patches": 6, "patches_version": version}
    append(uri, "videos", pa.Table.from_pylist([ledger], schema.VIDEOS_TABLE))
    append(uri, "selections", selected("random-1"))
    return uri


def told(uri):
    return {name: (lance.dataset(f"{uri}/{name}.lance").schema.metadata or {}).get(b"endocurate") for name in (*OLD, *NEW)}


def is_migrated(uri):
    store = PatchStore(uri)
    assert told(uri) == dict.fromkeys((*OLD, *NEW), str(schema.VERSION).encode())
    weighed = store.open("selections")
    assert weighed.to_table()["weight"].to_pylist() == [1.0] * 4
    assert {field.name: (field.type, field.nullable) for field in weighed.schema} == {
        field.name: (field.type, field.nullable) for field in schema.SELECTION
    }
    wanted = sorted(rows.scored("aa")["patch_id"].drop_null().to_pylist())
    assert sorted(store.patches(["patch_id"])["patch_id"].to_pylist()) == wanted
    assert store.open("patches").count_rows() == len(wanted), "the rows of the dead run are swept"
    assert store.selection("random", 0.5, 0)["rank"].to_pylist() == [0, 1, 2, 3]
    assert sorted(store.patches(["pixels"])["pixels"].to_pylist()) == sorted(p for p in rows.scored("aa")["pixels"].to_pylist() if p)


def test_an_older_store_is_refused_with_the_name_of_the_job_that_migrates_it(uri):
    with pytest.raises(ValueError, match="schema version 1, this engine reads 2: run the job maintain, which migrates it"):
        PatchStore(uri).ledger()


def test_maintain_migrates_an_older_store_once_and_says_so(uri):
    store = PatchStore(uri)
    first = store.maintain(UpkeepConfig()).to_pylist()
    is_migrated(uri)
    assert sorted(row["name"] for row in first if row["what"] == "migrated") == sorted((*OLD, *NEW))
    assert "from schema version 1 to 2" in [row["note"] for row in first]
    assert not [row for row in store.maintain(UpkeepConfig()).to_pylist() if row["what"] == "migrated"]
    with locked(store, "commit") as lease:
        assert not lease.inherited


def test_what_comes_in_after_a_migration_stands_beside_what_was_there(uri):
    store = PatchStore(uri)
    migrations.migrate(store)
    written = pa.concat_tables(WriteRows(uri)(rows.scored("bb")))
    store.commit(written, rows.videos("bb"), rows.STAMP)
    assert sorted(set(store.patches(["video_id"])["video_id"].to_pylist())) == ["aa", "bb"]
    chosen = selected("random-2").append_column("weight", pa.array([0.5] * 4))
    store.save(schema.check(chosen, schema.SELECTION, "test"), [])
    assert sorted(store.open("selections").to_table()["weight"].to_pylist()) == [0.5] * 4 + [1.0] * 4


class CutError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("step", range(8))
def test_a_migration_that_was_interrupted_anywhere_goes_on(uri, step, monkeypatch):
    done = 0

    def counting(work):
        def counted(*arguments, **named):
            nonlocal done
            if done == step:
                raise CutError
            done += 1
            return work(*arguments, **named)

        return counted

    with monkeypatch.context() as patched:
        for name in ("add_columns", "update_schema_metadata"):
            patched.setattr(lance.LanceDataset, name, counting(getattr(lance.LanceDataset, name)))
        patched.setattr(migrations, "mark_complete", counting(migrations.mark_complete))
        patched.setattr(PatchStore, "create", counting(PatchStore.create))
        with pytest.raises(CutError):
            migrations.migrate(PatchStore(uri))
    migrations.migrate(PatchStore(uri))
    is_migrated(uri)
    assert not migrations.migrate(PatchStore(uri))


def snapshot(uri):
    return {str(path): path.stat().st_mtime_ns for path in Path(uri).rglob("*")}


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda uri: lance.dataset(f"{uri}/images.lance").update_schema_metadata({"endocurate": "3"}),
            "the table images of .* has schema version 3, this engine reads 2: use a newer engine; nothing was changed",
        ),
        (
            lambda uri: lance.dataset(f"{uri}/frames.lance").update_schema_metadata({}, replace=True),
            "the table frames of .* was not made by endocurate: it has no schema version; nothing was changed",
        ),
        (
            lambda uri: max(Path(uri, "videos.lance/_versions").glob("*.manifest")).write_bytes(b"garbage"),
            "the table videos of .* has a damaged version: Encountered corrupt file .*; nothing was changed",
        ),
        (
            lambda uri: [path.write_bytes(b"garbage") for path in Path(uri, "patches.lance/_versions").glob("*.manifest")],
            "the table patches of .* cannot be opened",
        ),
        (lambda uri: next(Path(uri, "patches.lance/data").iterdir()).unlink(), "the table patches of .* lacks 1 of the"),
        (lambda uri: shutil.rmtree(Path(uri, "videos.lance")), "has no table videos or patches yet: run the job ingest first"),
    ],
    ids=["newer", "foreign", "oldest manifest", "all manifests", "lost file", "no ledger"],
)
def test_what_cannot_be_migrated_is_refused_in_a_sentence_and_stays_as_it_was(uri, spoil, sentence):
    spoil(uri)
    before = snapshot(uri)
    with pytest.raises((ValueError, OSError, LookupError), match=sentence) as refused:
        PatchStore(uri).maintain(UpkeepConfig())
    assert "\n" not in str(refused.value)
    assert snapshot(uri) == before


def test_a_job_that_writes_is_refused_before_the_first_row_where_one_table_is_newer(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(rows.WIDTH)
    store.open("frames").update_schema_metadata({"endocurate": str(schema.VERSION + 1)})
    before = {name: store.lance(name).version for name in (*OLD, *NEW)}
    with pytest.raises(ValueError, match=r"table frames .* use a newer engine"):
        store.create(rows.WIDTH)
    with pytest.raises(ValueError, match=r"table frames .* use a newer engine"), store.writing("choose"):
        pass
    assert {name: store.lance(name).version for name in (*OLD, *NEW)} == before
