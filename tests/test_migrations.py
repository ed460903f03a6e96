import shutil
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine import schema
from engine.settings import UpkeepConfig
from engine.store import PatchStore, WriteRows, appearances, lock, migrations
from engine.store.lock import locked
from engine.store.tables import TABLES
from tests import rows

OLD = ("patches", "frames", "videos", "selections", "images")
NEW = ("journal", "locks")
SEEN = [field.name for field in schema.APPEARANCE]
LATER = {  # columns by the schema version that they came with
    2: {"selections": ["weight"]},
    3: {"patches": SEEN, "selections": ["unit", "embedding"], "images": ["layout"]},
    4: {"patches": ["mask"]},
}


def old_schemas(version):
    """The tables as older engines wrote them: those of 1 had no journal and no locks."""
    made = {"patches": schema.patches_table(rows.WIDTH), **{name: TABLES[name] for name in (*OLD[1:], *(NEW if version > 1 else ()))}}
    later = [(name, column) for came, tables in LATER.items() if came > version for name in tables for column in tables[name]]
    return {name: pa.schema([field for field in columns if (name, field.name) not in later]) for name, columns in made.items()}


def append(uri, table, made):
    lance.write_dataset(made.cast(lance.dataset(f"{uri}/{table}.lance").schema), f"{uri}/{table}.lance", mode="append")


def selected(selection_id, columns=None):
    whole = {"selection_id": selection_id, "method": "random", "budget": 0.5, "retained": 0.4, "seed": 0, "patches_version": 3}
    made = [
        whole | {"rank": rank, "patch_id": f"p{rank}", "bytes": 3, "weight": 1.0, "unit": "bytes", "embedding": ""} for rank in range(4)
    ]
    return pa.Table.from_pylist(made, schema.SELECTION if columns is None else columns)


def patches(version, *ids):
    """The patches of some videos as a table of that version had them."""
    return pa.concat_tables([rows.stored(video_id) for video_id in ids]).select(old_schemas(version)["patches"].names)


def made(uri, version):
    """A store of an older schema with one video taken in, in two files, and the patches of another whose run died before its ledger row."""
    columns = old_schemas(version)
    for name, held in columns.items():
        empty = held.with_metadata({"endocurate": str(version)}).empty_table()
        lance.write_dataset(empty, f"{uri}/{name}.lance", enable_stable_row_ids=True)
    whole = patches(version, "aa")
    if version > 1:
        append(uri, "locks", lock.row("commit", migrations.NOBODY, 0.0))
    for part in (whole.slice(0, 4), whole.slice(4), patches(version, "dead")):
        append(uri, "patches", part)
    ledger = rows.videos("aa").to_pylist()[0] | rows.STAMP | {"frames": 4, "kept": 3, "patches": 6, "patches_version": 3}
    append(uri, "videos", pa.Table.from_pylist([ledger], schema.VIDEOS_TABLE))
    append(uri, "selections", selected("random-1", columns["selections"]))
    image = {"image_id": "i", "patch_ids": ["a"] * 4, "height": 2, "width": 2, "bytes": 1, "position": 0, "layout": ""}
    append(uri, "images", pa.Table.from_pylist([image | {"selection_id": "random-1", "pixels": b"x"}], columns["images"]))
    return uri


@pytest.fixture
def uri(tmp_path):
    return made(str(tmp_path / "store"), 1)


def told(uri):
    return {name: (lance.dataset(f"{uri}/{name}.lance").schema.metadata or {}).get(b"endocurate") for name in (*OLD, *NEW)}


def is_migrated(uri):
    store = PatchStore(uri)
    assert told(uri) == dict.fromkeys((*OLD, *NEW), str(schema.VERSION).encode())
    weighed = store.open("selections").to_table()
    assert {name: set(weighed[name].to_pylist()) for name in ("weight", "unit", "embedding")} == {
        "weight": {1.0}, "unit": {"bytes"}, "embedding": {""},
    }  # fmt: skip
    assert store.open("images").to_table()["layout"].to_pylist() == [""]
    for name, columns in {"patches": schema.patches_table(rows.WIDTH), **TABLES}.items():
        found = {field.name: (field.type, field.nullable) for field in store.open(name).schema}
        assert found == {field.name: (field.type, field.nullable) for field in columns}, name
    assert not store.holds(appearances.FOLDER)
    wanted = sorted(rows.scored("aa")["patch_id"].drop_null().to_pylist())
    assert sorted(store.patches(["patch_id"])["patch_id"].to_pylist()) == wanted
    assert store.open("patches").count_rows() == len(wanted), "the rows of the dead run are swept"
    assert store.selection("random", 0.5, 0)["rank"].to_pylist() == [0, 1, 2, 3]
    assert sorted(store.patches(["pixels"])["pixels"].to_pylist()) == sorted(p for p in rows.scored("aa")["pixels"].to_pylist() if p)


def test_an_older_store_is_refused_with_the_name_of_the_job_that_migrates_it(uri):
    with pytest.raises(ValueError, match="schema version 1, this engine reads 4: run the job maintain, which migrates it"):
        PatchStore(uri).ledger()


def test_maintain_migrates_an_older_store_once_and_says_so(uri):
    store = PatchStore(uri)
    first = store.maintain(UpkeepConfig()).to_pylist()
    is_migrated(uri)
    assert sorted(row["name"] for row in first if row["what"] == "migrated") == sorted((*OLD, *NEW))
    assert "from schema version 1 to 4" in [row["note"] for row in first]
    assert not [row for row in store.maintain(UpkeepConfig()).to_pylist() if row["what"] == "migrated"]
    with locked(store, "commit") as lease:
        assert not lease.inherited


def test_what_comes_in_after_a_migration_stands_beside_what_was_there(uri):
    store = PatchStore(uri)
    migrations.migrate(store)
    written = pa.concat_tables(WriteRows(uri)(rows.scored("bb")))
    store.commit(written, rows.videos("bb"), rows.STAMP)
    assert sorted(set(store.patches(["video_id"])["video_id"].to_pylist())) == ["aa", "bb"]
    chosen = selected("random-2")
    store.save(chosen.set_column(chosen.schema.get_field_index("weight"), chosen.schema.field("weight"), pa.array([0.5] * 4)), [])
    assert sorted(store.open("selections").to_table()["weight"].to_pylist()) == [0.5] * 4 + [1.0] * 4


class CutError(Exception):
    """The process ends here."""


def ingested(uri, *ids):
    """A store that took videos in anew."""
    store = PatchStore(uri)
    store.create(rows.WIDTH)
    rows.take_in(store, *ids)
    return store


def contents(store):
    columns = schema.patches_table(rows.WIDTH).names
    return store.patches(columns).sort_by("patch_id").select(columns).combine_chunks().replace_schema_metadata()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_migrated_store_equals_one_that_took_the_same_video_in_anew(tmp_path, version):
    uri = made(str(tmp_path / "old"), version)
    lance.dataset(f"{uri}/patches.lance").delete("patch_id LIKE 'aa@1000%'")  # deleted rows shift those behind them
    PatchStore(uri).maintain(UpkeepConfig())
    fresh = contents(ingested(str(tmp_path / "new"), "aa"))
    assert contents(PatchStore(uri)).equals(fresh.filter(pc.invert(pc.starts_with(fresh["patch_id"], "aa@1000"))))


def test_an_older_store_without_a_patch_is_migrated_too(tmp_path):
    uri = str(tmp_path / "store")
    for name, columns in old_schemas(2).items():
        empty = columns.with_metadata({"endocurate": "2"}).empty_table()
        lance.write_dataset(empty, f"{uri}/{name}.lance", enable_stable_row_ids=True)
    migrations.migrate(PatchStore(uri))
    assert contents(ingested(uri, "aa")).equals(contents(ingested(str(tmp_path / "new"), "aa")))


def test_an_interrupted_measurement_goes_on_with_the_files_that_are_left(uri, monkeypatch):
    seen = []
    work = appearances.seen

    def dying(batch):
        seen.append(batch["patch_id"].to_pylist())
        if len(seen) == 2:
            raise CutError
        return work(batch)

    with monkeypatch.context() as patched:
        patched.setattr(appearances, "seen", dying)
        with pytest.raises(ValueError, match="CutError"):
            migrations.migrate(PatchStore(uri))
    monkeypatch.setattr(appearances, "seen", lambda batch: seen.append(batch["patch_id"].to_pylist()) or work(batch))
    migrations.migrate(PatchStore(uri))
    is_migrated(uri)
    assert seen[2:] == seen[1:2], "the first file is not measured again"


def test_a_patch_that_is_no_picture_stops_the_migration_with_its_name(uri):
    strange = patches(1, "aa").slice(0, 1).to_pylist()[0] | {"patch_id": "aa@9:x", "pixels": b"no picture"}
    append(uri, "patches", pa.Table.from_pylist([strange], patches(1, "aa").schema))
    ledger = lance.dataset(f"{uri}/videos.lance")
    ledger.update({"patches_version": str(lance.dataset(f"{uri}/patches.lance").version)})
    with pytest.raises(ValueError, match="the patch aa@9:x cannot be measured: 10 bytes are not a picture"):
        migrations.migrate(PatchStore(uri))


@pytest.mark.parametrize("step", range(18))
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
        patched.setattr(appearances, "merged", counting(appearances.merged))
        patched.setattr(appearances, "filesystem", counting(appearances.filesystem))
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
            lambda uri: lance.dataset(f"{uri}/images.lance").update_schema_metadata({"endocurate": "5"}),
            "the table images of .* has schema version 5, this engine reads 4: use a newer engine; nothing was changed",
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
