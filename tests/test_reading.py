import hashlib
from datetime import timedelta
from functools import cache

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lance.fragment import write_fragments

from engine import pictures, rebuild, schema, sql, synthesis
from engine.config import SelectionConfig, SynthesisConfig
from engine.selection import Selection
from engine.store import PatchStore, WriteRows, tags
from engine.store.tables import COMPLETE
from tests import rows

WIDTH, LARGE = 8, 60_000
SCORES = [0.1, 0.5, 0.5, 0.5, 0.9, float("nan")]  # ties, and one that has no rank


def scored(video_id, frames=5):
    """Rows whose difficulties tie and whose embeddings are random, now and then zero, not a number or null."""
    table = rows.scored(video_id, frames, 3).to_pylist()
    rng = np.random.default_rng(list(video_id.encode()))
    for row in table:
        if row["patch_id"]:
            vector = rng.normal(size=WIDTH).astype(np.float16)
            odd = rng.random()
            row["embedding"] = None if odd < 0.05 else (vector * (0 if odd < 0.1 else np.nan if odd < 0.15 else 1)).tolist()
            row["difficulty"] = float(rng.choice(SCORES))
    wide = pa.schema([pa.field("embedding", pa.list_(pa.float16(), WIDTH)) if f.name == "embedding" else f for f in schema.SCORED])
    return pa.Table.from_pylist(table, wide)


def take_in(store, *ids, make=scored):
    written = pa.concat_tables([out for video_id in ids for out in WriteRows(store.uri)(make(video_id))])
    return store.commit(written, rows.videos(*ids), rows.STAMP)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("reading") / "store"))
    made.create(WIDTH)
    take_in(made, "aa", "bb")
    take_in(made, "cc")
    take_in(made, "dd", "ee", "ff")
    take_in(made, "bb")  # deleted rows in between
    return made


def everything(store):
    return pa.concat_tables([scored(i) for i in ("aa", "bb", "cc", "dd", "ee", "ff")]).filter(pc.is_valid(pc.field("patch_id")))


WHERES = {
    "": lambda row: True,
    "time_ms < 3000": lambda row: row["time_ms"] < 3000,
    "video_id = 'bb' OR difficulty > 0.4": lambda row: row["video_id"] == "bb" or row["difficulty"] > 0.4 or np.isnan(row["difficulty"]),
    "video_id = 'nobody'": lambda row: False,
}


def cosine_distances(vectors, query):
    """numpy's: the reference."""
    vectors, query = np.asarray(vectors, np.float64), np.asarray(query, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - vectors @ query / np.linalg.norm(vectors, axis=-1) / np.linalg.norm(query)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 80), where=st.sampled_from(sorted(WHERES)))
def test_the_nearest_patches_are_those_of_brute_force(store, seed, k, where):
    query = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float16)
    held = [row for row in everything(store).to_pylist() if WHERES[where](row) and row["embedding"] is not None]
    distances = cosine_distances([row["embedding"] for row in held] or np.zeros((0, WIDTH)), query)
    reference = sorted((d, row["patch_id"]) for d, row in zip(distances, held, strict=True) if np.isfinite(d))[:k]
    found = store.nearest(query.tolist(), k, where)
    assert found.column_names == ["patch_id", "difficulty", "video_id", "time_ms", "box", "distance"]
    assert found["patch_id"].to_pylist() == [name for _, name in reference]
    np.testing.assert_allclose(found["distance"].to_numpy(), [d for d, _ in reference], atol=1e-5)


def test_sql_knows_the_tables_and_no_others(store):
    named = {"patches", "frames", "videos", "selections", "images", "journal"}
    assert set(store.query("SHOW TABLES")["name"].to_pylist()) == named
    assert set(store.at(2).query("SELECT table_name AS name FROM information_schema.tables")["name"].to_pylist()) == named


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_length_of_a_vector_does_not_matter(store, scale):
    query = np.random.default_rng(0).normal(size=WIDTH).astype(np.float32)
    assert store.nearest((scale * query).tolist(), 9)["patch_id"].equals(store.nearest(query.tolist(), 9)["patch_id"])


def test_brackets_of_a_filter_mean_the_same_to_all(store):
    where = "time_ms < 2000) AND (difficulty < 0.5"
    ids = {row["patch_id"] for row in everything(store).to_pylist() if row["time_ms"] < 2000 and row["difficulty"] < 0.5}
    assert ids
    for rows_ in (store.hardest(90, where), store.sample(90, 0, where)):
        assert set(rows_["patch_id"].to_pylist()) == ids


def test_a_patch_is_compared_by_its_own_embedding_and_left_out_itself(store):
    held = {row["patch_id"]: row["embedding"] for row in everything(store).to_pylist() if row["embedding"] is not None}
    usable = {name: vector for name, vector in held.items() if np.isfinite(vector).all() and np.any(vector)}
    asked = sorted(usable)[3]
    reference = sorted((cosine_distances(vector, usable[asked]), name) for name, vector in usable.items() if name != asked)[:7]
    assert store.nearest(asked, 7)["patch_id"].to_pylist() == [name for _, name in reference]
    for name in sorted(set(everything(store)["patch_id"].to_pylist()) - set(usable))[:3]:
        with pytest.raises(ValueError, match="has no embedding that could be compared"):
            store.nearest(name, 1)


@settings(max_examples=25, deadline=None)
@given(k=st.integers(1, 90), where=st.sampled_from(sorted(WHERES)))
def test_the_hardest_patches_are_those_of_a_sort_with_ties_in_order_of_their_ids(store, k, where):
    held = [row for row in everything(store).to_pylist() if WHERES[where](row) and np.isfinite(row["difficulty"])]
    reference = sorted(held, key=lambda row: (-row["difficulty"], row["patch_id"]))[:k]
    found = store.hardest(k, where)
    assert found["patch_id"].to_pylist() == [row["patch_id"] for row in reference]
    for column in ("difficulty", "video_id", "time_ms", "box"):
        assert found[column].to_pylist() == [row[column] for row in reference]


@settings(max_examples=15, deadline=None)
@given(k=st.integers(1, 90), seed=st.integers(-5, 2**63), where=st.sampled_from(sorted(WHERES)))
def test_a_sample_is_drawn_by_seed_and_id_alone(store, k, seed, where):
    ids = [row["patch_id"] for row in everything(store).to_pylist() if WHERES[where](row)]
    reference = sorted(ids, key=lambda name: hashlib.md5(f"{seed}:{name}".encode()).hexdigest())[:k]
    assert store.sample(k, seed, where)["patch_id"].to_pylist() == reference


def test_samples_of_other_seeds_differ_and_of_stores_filled_in_another_order_do_not(store, tmp_path):
    other = PatchStore(str(tmp_path / "other"))
    other.create(WIDTH)
    for video_id in ("ff", "bb", "aa", "ee", "dd", "cc"):
        take_in(other, video_id)
    drawn = store.sample(20, 7)["patch_id"]
    assert other.sample(20, 7)["patch_id"].equals(drawn)
    assert not store.sample(20, 8)["patch_id"].equals(drawn)


@pytest.mark.parametrize(
    ("ask", "kind", "sentence"),
    [
        (lambda store: store.hardest(91), ValueError, "k=91 patches were asked for; the store .* holds 90$"),
        (lambda store: store.hardest(0), ValueError, "k=0 patches were asked for"),
        (lambda store: store.sample(91), ValueError, "holds 90$"),
        (lambda store: store.nearest(store.hardest(1)["patch_id"][0].as_py(), 90), ValueError, "holds 89 others$"),
        (lambda store: store.nearest("aa@0:nobody", 1), LookupError, "has no patch 'aa@0:nobody'"),
        (lambda store: store.nearest([1.0] * 7, 1), ValueError, r"shape \(7,\) was given, expected 8 finite numbers"),
        (lambda store: store.nearest([0.0] * WIDTH, 1), ValueError, "not all 0"),
        (lambda store: store.nearest([float("nan")] * WIDTH, 1), ValueError, "finite numbers"),
        (lambda store: store.hardest(1, "difficulty >"), ValueError, "'difficulty >' is no filter: expected one condition"),
        (lambda store: store.sample(1, 0, "nobody = 3"), ValueError, "is no filter of the patches: .*No field named nobody"),
        (lambda store: store.nearest([1.0] * WIDTH, 1, "difficulty"), ValueError, "is no filter of the patches"),
        (lambda store: store.hardest(1, "difficulty > 0; DROP"), ValueError, "is no filter: expected one condition"),
        *[
            (lambda store, tail=tail: store.sample(1, 0, f"time_ms < 1000{tail}"), ValueError, "is no filter: expected one condition")
            for tail in (" banana", " LIMIT 1", " ORDER BY difficulty", ") banana", " GROUP BY box")
        ],
        (lambda store: store.reader("nobody")([0]), LookupError, "no training images of a selection 'nobody'"),
        (lambda store: store.diff("x", "y"), LookupError, "has no selection and the patch table no tag 'x'"),
        (lambda store: store.image("nobody"), LookupError, "has no patch 'nobody'"),
        (lambda store: store.training_image("nobody"), LookupError, "has no training image 'nobody'$"),
        (lambda store: store.training_image("nobody", 3), LookupError, "has no training image 'nobody' at position 3"),
        (lambda store: store.at(99), LookupError, "no complete version 99; the last ones are"),
        (lambda store: store.at("nobody"), LookupError, "no tag 'nobody'; it has none"),
        (lambda store: store.diff(2, "x"), LookupError, "no tag 'x'"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(store, ask, kind, sentence):
    with pytest.raises(kind, match=sentence) as refused:
        ask(store)
    assert "\n" not in str(refused.value)
    assert ".rs:" not in str(refused.value)
    assert store.hardest(1, "video_id != ';'").num_rows == 1


def test_a_patch_is_shown_by_its_id_as_it_came_in(store):
    for row in everything(store).to_pylist()[::9]:
        assert store.image(row["patch_id"]) == row["pixels"]


# -- a table beyond what is compared one by one ---------------------------------------------------------------------------------------


def wide_rows(first, count, rng):
    """Patches of 100 clusters, as embeddings of one video lie together."""
    number = np.arange(first, first + count)
    vectors = np.random.default_rng(0).normal(size=(100, 32))[number // 20 % 100] + 0.5 * rng.normal(size=(count, 32))
    columns = {
        "video_id": [f"v{n // 2000:03}" for n in number],
        "patch_id": [f"v{n // 2000:03}@{n}:0" for n in number],
        "time_ms": number,
        "difficulty": rng.random(count).astype(np.float32),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), 32),
    }
    table = schema.patches_table(32)
    return pa.Table.from_arrays(
        [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(count, f.type) for f in table], schema=table
    )


def append(store, table):
    uri = store.address("patches.lance")
    fragments = write_fragments(table, uri, mode="append")
    lance.LanceDataset.commit(uri, lance.LanceOperation.Append(fragments), read_version=lance.dataset(uri).version)
    tag(store)


def tag(store):
    dataset = lance.dataset(store.address("patches.lance"))
    dataset.tags.update(COMPLETE, dataset.version) if COMPLETE in dataset.tags.list() else dataset.tags.create(COMPLETE, dataset.version)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("indexed") / "store"))
    made.create(32)
    append(made, wide_rows(0, LARGE, np.random.default_rng(1)))
    lance.dataset(made.address("patches.lance")).create_index("embedding", "IVF_RQ", metric="cosine", num_partitions=60, num_bits=1)
    append(made, wide_rows(LARGE, 500, np.random.default_rng(2)))
    return made


@cache
def vectors_of(store):
    table = store.patches(["patch_id", "embedding", "difficulty", "video_id"])
    vectors = table["embedding"].combine_chunks().values.to_numpy().reshape(-1, 32).astype(np.float32)
    return np.array(table["patch_id"].to_pylist()), vectors, table["difficulty"].to_numpy(), np.array(table["video_id"].to_pylist())


def recall(store, queries, k, where, mask):
    names, vectors, *_ = vectors_of(store)
    hits = 0
    for query in queries:
        distances = np.where(mask, cosine_distances(vectors, query), np.inf)
        reference = set(names[np.argsort(distances, kind="stable")[:k]])
        found = store.nearest(query.tolist(), k, where)["patch_id"].to_pylist()
        assert len(found) == k
        hits += len(reference & set(found))
    return hits / k / len(queries)


@pytest.mark.parametrize("k", [10, 100])
def test_a_vector_index_finds_at_least_95_of_100_nearest_also_behind_a_filter(indexed, k):
    _, vectors, difficulty, _ = vectors_of(indexed)
    queries = vectors[np.random.default_rng(3).integers(0, LARGE, 8)] + 0.1
    assert recall(indexed, queries, k, "", np.ones(len(vectors), bool)) >= 0.95
    assert recall(indexed, queries, k, "difficulty < 0.9", difficulty < 0.9) >= 0.95  # more rows than are compared one by one


def test_behind_a_filter_that_leaves_few_rows_the_nearest_are_exact(indexed):
    _, vectors, _, videos = vectors_of(indexed)
    queries = vectors[::9001]
    assert recall(indexed, queries, 20, "video_id = 'v007'", videos == "v007") == 1


def test_rows_newer_than_the_index_are_found(indexed):
    names, vectors, *_ = vectors_of(indexed)
    for row in range(LARGE, LARGE + 500, 83):
        assert indexed.nearest(vectors[row].tolist(), 1)["patch_id"].to_pylist() == [names[row]]


# -- versions -------------------------------------------------------------------------------------------------------------------------


def ids_at(store, version):
    return set(lance.dataset(store.address("patches.lance"), version=version).to_table(columns=["patch_id"])["patch_id"].to_pylist())


def selection_of(store, name, ids, version=2):
    made = Selection(name, list(ids), np.ones(len(ids), np.int32), 0.5)
    return made.rows(SelectionConfig(), version)


@settings(max_examples=20, deadline=None)
@given(pair=st.tuples(st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2, 3, 4])))
def test_the_difference_of_two_versions_is_that_of_their_sets(versions, pair):
    older, newer = (ids_at(versions, version) for version in pair)
    found = versions.diff(*pair)
    changes = {(row["patch_id"], row["change"]) for row in found.patches.to_pylist()}
    assert changes == {(name, "came") for name in newer - older} | {(name, "went") for name in older - newer}
    videos = {name.partition("@")[0] for name in older ^ newer}
    counted = {row["video_id"]: (row["came"], row["went"]) for row in found.videos.to_pylist()}
    count = lambda names, video: sum(name.startswith(f"{video}@") for name in names)  # noqa: E731
    assert counted == {video: (count(newer - older, video), count(older - newer, video)) for video in videos}


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("versions") / "store"))
    made.create(WIDTH)
    take_in(made, "aa")
    take_in(made, "bb", "cc")
    made.open("patches").delete("video_id = 'aa' AND time_ms > 1000")
    tag(made)
    return made


def test_a_pinned_store_knows_no_selection_and_no_deed_of_later(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(WIDTH)
    for number, video_id in enumerate(("aa", "bb"), start=2):
        take_in(store, video_id)
        made = Selection(f"mine-{number}", [f"{video_id}@0:1"], np.ones(1, np.int32), 0.5)
        store.save(made.rows(SelectionConfig(), number), [])
    method, budget, seed = (getattr(SelectionConfig(), name) for name in ("method", "budget", "seed"))
    for version in (2, 3):
        pinned = store.at(version)
        assert pinned.selection(method, budget, seed)["selection_id"].to_pylist() == [f"mine-{version}"]
        told = pinned.history().to_pylist()
        assert max(row["version"] for row in told) == version
        assert [row["subject"] for row in told if row["what"] == "selection"] == [f"mine-{n}" for n in range(2, version + 1)]
    with pytest.raises(LookupError, match="run the job choose"):
        store.at(1).selection(method, budget, seed)


names = st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=12)


@settings(max_examples=20, deadline=None)
@given(older=names, newer=names)
def test_the_difference_of_two_selections_is_that_of_their_sets_and_ranks(versions, older, newer):
    for name, chosen in {"older": older, "newer": newer}.items():
        versions.save(selection_of(versions, name, [f"v@{n}" for n in chosen]), [])
    found = {row["patch_id"]: row for row in versions.diff("older", "newer").patches.to_pylist()}
    assert set(found) == {f"v@{n}" for n in {*older, *newer}}
    for n in {*older, *newer}:
        row = found[f"v@{n}"]
        assert row["change"] == ("stayed" if n in older and n in newer else "came" if n in newer else "went")
        assert row["older_rank"] == (older.index(n) if n in older else None)
        assert row["newer_rank"] == (newer.index(n) if n in newer else None)


def test_a_pinned_store_shows_what_was_there_and_refuses_every_change(versions):
    pinned = versions.at(2)
    assert {*pinned.patches(["patch_id"])["patch_id"].to_pylist()} == ids_at(versions, 2)
    assert pinned.query("SELECT DISTINCT video_id FROM patches").to_pylist() == [{"video_id": "aa"}]
    assert pinned.query("SELECT video_id FROM videos").to_pylist() == [{"video_id": "aa"}]
    assert pinned.query("SELECT count(*) AS n, min(video_id) AS v FROM frames").to_pylist() == [{"n": 6, "v": "aa"}]
    assert pinned.shown("SELECT video_id FROM videos", 20).to_pylist() == [{"video_id": "aa"}]
    listed = pinned.listed("SELECT patch_id FROM patches, (SELECT count(*) AS many FROM videos) WHERE many = 1", 20)
    assert {one.as_py() for part in listed for one in part} == ids_at(versions, 2)
    assert pinned.ledger()["video_id"].to_pylist() == ["aa"]
    assert {*pinned.sample(15, 1)["video_id"].to_pylist()} == {"aa"}
    written = pa.concat_tables(WriteRows(versions.uri)(scored("dd")))
    before = {name: versions.open(name).version for name in ("patches", "frames", "videos", "selections", "locks")}
    for change in (
        lambda: pinned.commit(written, rows.videos("dd"), rows.STAMP),
        lambda: pinned.save(selection_of(versions, "x", ["a"]), []),
        lambda: pinned.create(WIDTH),
        lambda: pinned.append("journal", []),
        lambda: pinned.enter(schema.RESULT.empty_table()),
        lambda: tags.tag(pinned, sorted(ids_at(versions, 2))[:1], "mine"),
    ):
        with pytest.raises(PermissionError, match=r"version 2 of the store .* is read-only"):
            change()
    assert before == {name: versions.open(name).version for name in before}
    assert not versions.has("tags")


def test_a_tag_names_a_version(versions):
    dataset = versions.open("patches")
    dataset.tags.create("paper", 3)
    try:
        assert {*versions.at("paper").patches(["patch_id"])["patch_id"].to_pylist()} == ids_at(versions, 3)
        assert versions.diff("paper", 4).videos.to_pylist() == [{"video_id": "aa", "came": 0, "went": 9}]
    finally:
        dataset.tags.delete("paper")


def test_a_version_that_was_never_complete_is_shown_to_nobody(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(WIDTH)
    take_in(store, "aa")
    store.open("patches").delete("video_id = 'aa' AND time_ms > 1000")  # 3: a job that died in between
    with pytest.raises(LookupError, match="no complete version 3; the last ones are 1, 2"):
        store.at(3)
    assert len(store.at(2).patches(["patch_id"])) == 15


def test_history_is_told_by_the_ledger_after_old_versions_were_cleaned(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(WIDTH)
    take_in(store, "aa")
    store.save(selection_of(store, "mine", ["aa@0:1", "aa@1000:1"], 2), [])
    take_in(store, "bb", "cc")
    store.append(
        "journal",
        [pa.Table.from_pylist([{"at": "2026-01-02", "job": "maintain", "subject": "s", "detail": "{}", "commit": "c"}], schema.JOURNAL)],
    )
    told = {(row["version"], row["what"]): row for row in store.history().to_pylist()}
    assert list(told) == [(1, "creation"), (2, "intake"), (2, "selection"), (3, "intake"), (3, "maintain")]
    assert all(row["opens"] for row in told.values())
    store.open("patches").cleanup_old_versions(older_than=timedelta(0))
    after = {(row["version"], row["what"]): row for row in store.history().to_pylist()}
    assert set(told) - set(after) == {(1, "creation")}
    counts = {key: (row["videos"], row["patches"], row["fingerprint"]) for key, row in after.items()}
    assert counts[2, "intake"] == (1, 15, "f")
    assert counts[3, "intake"] == (2, 30, "f")
    assert after[2, "selection"]["patches"] == 2
    assert (after[2, "intake"]["opens"], after[3, "intake"]["opens"]) == (False, True)
    with pytest.raises(LookupError, match=r"version 2 .* was cleaned away; in the ledger its videos have patches_version <= 2"):
        store.at(2)


# -- SQL ------------------------------------------------------------------------------------------------------------------------------


def bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def test_pixels_are_read_only_where_they_are_named(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(WIDTH)

    def heavy(video_id):
        table = scored(video_id).to_pylist()
        rng = np.random.default_rng(0)
        return pa.Table.from_pylist([row | {"pixels": row["patch_id"] and rng.bytes(400_000)} for row in table], scored(video_id).schema)

    take_in(store, "aa", make=heavy)
    asked = {
        "little": lambda: store.query("SELECT avg(difficulty), count(*) FROM patches WHERE time_ms >= 0"),
        "hardest": lambda: store.hardest(3),
        "nearest": lambda: store.nearest([1.0] * WIDTH, 3),
        "pixels": lambda: store.query("SELECT max(octet_length(pixels)) AS n FROM patches"),
    }
    cost = {}
    for name, ask in asked.items():
        began = bytes_read()
        ask()
        cost[name] = bytes_read() - began
    assert cost["pixels"] > 15 * 400_000
    assert max(cost["little"], cost["hardest"], cost["nearest"]) < 400_000


def test_sql_shows_whole_rows_journal_and_ledger_and_no_variable_of_the_program(store):
    whole = store.query("SELECT * FROM patches WHERE video_id = 'cc'")
    assert whole.num_rows == 15
    assert "embedding" not in whole.column_names
    assert whole["pixels"].to_pylist() == [row["pixels"] for row in scored("cc").to_pylist() if row["patch_id"]]
    assert store.query("SELECT count(*) AS n FROM journal").to_pylist() == [{"n": 0}]
    with pytest.raises(ValueError, match="tables"):
        store.query("SELECT * FROM tables")
    tables = {"numbers": pa.table({"n": [1, 2, 3]})}
    assert sql.select(tables, "SELECT sum(n)::INT AS s FROM numbers", {"numbers": "n > 1"}).to_pylist() == [{"s": 5}]


def test_frames_that_a_dead_run_left_are_shown_to_nobody(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(WIDTH)
    take_in(store, "aa")
    left = store.open("frames").to_table().to_pylist()
    store.append("frames", [pa.Table.from_pylist([row | {"video_id": "dead"} for row in left], schema.FRAMES_TABLE)])
    assert store.query("SELECT DISTINCT video_id FROM frames").to_pylist() == [{"video_id": "aa"}]


def test_a_file_that_is_gone_is_a_sentence(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(WIDTH)
    take_in(store, "aa")
    for file in (tmp_path / "store" / "patches.lance" / "data").iterdir():
        file.unlink()
    for ask in (lambda: store.hardest(1), lambda: store.query("SELECT avg(difficulty) FROM patches"), lambda: store.image("aa@0:x")):
        with pytest.raises(OSError, match=r"cannot be read: .*Not found") as refused:
            ask()
        assert "\n" not in str(refused.value)


# -- training images ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def composed(tmp_path):
    store = PatchStore(str(tmp_path / "store"))
    store.create(WIDTH)
    take_in(store, "aa", "bb")
    ids = store.sample(12, 1)["patch_id"].to_pylist()
    for name in ("x", "y"):
        made = synthesis.synthesise(store.patches(synthesis.READ.names), ids, name, 0, SynthesisConfig())
        store.save(selection_of(store, name, ids), [made])
    return store


def test_every_training_image_is_made_again_from_its_row_bit_for_bit(composed):
    for row in composed.open("images").to_table().to_pylist():
        assert rebuild.rebuilt(composed, {"patch_ids": row["patch_ids"], "layout": row["layout"]}) == row["pixels"]
        assert composed.training_image(row["image_id"]) == row["pixels"]
        assert composed.training_image(row["selection_id"], row["position"]) == row["pixels"]
    assert rebuild.faults(composed, "x").num_rows == 0
    with pytest.raises(LookupError, match="has no selection 'nobody'"):
        rebuild.faults(composed, "nobody")


def test_an_image_that_is_not_what_its_row_says_is_named(composed):
    images = composed.open("images").to_table(filter="selection_id = 'x'").to_pylist()
    other = pictures.encode(rows.picture(1, 96, 128), 95)
    wrong = [
        images[0] | {"pixels": other},
        images[1] | {"patch_ids": images[1]["patch_ids"][::-1]},
        images[2] | {"image_id": "0" * 32},
    ]
    composed.save(
        selection_of(composed, "x", [name for row in images for name in row["patch_ids"]]), [pa.Table.from_pylist(wrong, schema.IMAGE)]
    )
    found = [(row["position"], row["fault"]) for row in rebuild.faults(composed, "x").to_pylist()]
    assert [position for position, _ in found] == [0, 1, 2]
    assert found[0][1] == "its patches make other bytes"
    assert found[1][1] == "it holds other patches than the 4 of its ranks"
    assert found[2][1] == f"its patches make {images[2]['image_id']}"
    assert rebuild.faults(composed, "y").num_rows == 0
    with pytest.raises(LookupError, match="differs between x, y"):
        composed.training_image(images[0]["image_id"])


def test_an_image_whose_patch_or_row_is_gone_is_named(composed):
    images = composed.open("images").to_table(filter="selection_id = 'x'").sort_by("position").to_pylist()
    composed.open("images").delete("selection_id = 'x' AND position = 0")
    composed.open("patches").delete(f"patch_id = '{images[2]['patch_ids'][1]}'")
    tag(composed)
    found = {row["position"]: row["fault"] for row in rebuild.faults(composed, "x").to_pylist()}
    assert found == {0: "there is no image, and 4 of 4 patches are named", 2: "1 of its patches are not in the store any more"}
    with pytest.raises(LookupError, match=r"is not in the store .* any more"):
        rebuild.rebuilt(composed, images[2])
