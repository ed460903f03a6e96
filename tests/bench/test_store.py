"""A patch store of 1,000,000 rows with pixels and one of 10,000,000 without, beside what a user would pick instead, in the same run.

Instead: a folder of Parquet files of the same rows, asked by DuckDB; for likeness NumPy and faiss over a matrix in memory. BENCH_SCALE=0.1
is a quick run. Memory is that of a process of its own which does this one thing.
"""

import gc
import importlib.util
import statistics
import time
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from engine.explain import explain
from engine.settings import UpkeepConfig
from engine.store import PatchStore, WriteRows
from tests.bench import rows
from tests.bench.rows import PER_VIDEO, PER_WRITE, SCALE

PER_COMMIT = 10  # writes of PER_WRITE rows
NEIGHBOURS, QUERIES = 100, 60
SHOWN = "patch_id, difficulty, video_id, time_ms, box"
SIZES = {  # rows, numbers in an embedding, whether there are pixels, GB of disk
    "pixels": (int(1_000_000 * SCALE), 384, True, 11 * SCALE),
    "no pixels": (int(10_000_000 * SCALE), 32, False, 8 * SCALE),  # 384 numbers would take 15 GB on disk and in memory
}


@pytest.fixture(scope="module", params=SIZES)
def big(request, tmp_path_factory):
    """The folder with a store and its rows as Parquet files, and what is known of them."""
    count, width, pixels, gigabytes = SIZES[request.param]
    folder = tmp_path_factory.mktemp("big")
    rows.room_for(gigabytes, folder)
    (ours, theirs), memory = rows.in_a_child(build, str(folder), count, width, pixels)
    sizes = [rows.folder_bytes(folder / name) / 1e9 for name in ("store", "parquet")]
    print(f"\n\n{count:,} patches, {'pixels of about 3 kB' if pixels else 'no pixels'}, embeddings of {width} float16; {rows.load()}")
    print(f"{'':32}{'store':>14}{'Parquet':>14}")
    print(f"{'append, rows/s':32}{count / ours:14,.0f}{count / theirs:14,.0f}")
    print(f"{'on disk, GB':32}{sizes[0]:14.2f}{sizes[1]:14.2f}")
    print(f"{'peak of that process, MB':32}{memory:14,.0f}   (the made-up rows and both writers)")
    return folder, count, width, pixels


def build(folder, count, width, pixels):
    """Seconds that writing the rows took: to a store by way of an ingest, and to Parquet files."""
    store, parquet = PatchStore(f"{folder}/store"), Path(folder, "parquet")
    store.create(width)
    parquet.mkdir()
    videos, ours, theirs, waiting = PER_WRITE // PER_VIDEO, 0.0, 0.0, []
    writer = WriteRows(store.uri)
    numbers = range(0, count // PER_VIDEO, videos)
    for number in numbers:
        table = rows.scored(number, videos, PER_VIDEO, width, pixels)
        began = time.perf_counter()
        waiting += writer(table)
        if len(waiting) == PER_COMMIT or number == numbers[-1]:
            first = number - (len(waiting) - 1) * videos
            store.commit(pa.concat_tables(waiting), rows.sources(first, videos * len(waiting)), rows.STAMP)
            waiting = []
        written = time.perf_counter()
        pq.write_table(as_parquet(table, store), parquet / f"{number:06}.parquet")
        ours, theirs = ours + written - began, theirs + time.perf_counter() - written
    return ours, theirs


def as_parquet(table, store):
    return table.filter(pc.is_valid(table["patch_id"])).select(store.open("patches").schema.names)


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_one_percent_more(big, tmp_path):
    """To a full store and to an empty one, in turns; it must cost what is added."""
    folder, count, width, pixels = big
    each, full, empty = count // 200, [], []
    for turn in range(5):
        table = rows.scored(10**6 + 2 * turn, 2, each, width, pixels)
        fresh = PatchStore(str(tmp_path / f"empty-{turn}"))
        fresh.create(width)
        for store, found in ((PatchStore(f"{folder}/store"), full), (fresh, empty)):
            began = time.perf_counter()
            written = pa.concat_tables(WriteRows(store.uri)(table))
            store.commit(written, rows.sources(10**6 + 2 * turn, 2), rows.STAMP)
            found.append(1000 * (time.perf_counter() - began))
        pq.write_table(as_parquet(table, store), folder / "parquet" / f"more-{turn}.parquet")
    ratio = statistics.median(one / other for one, other in zip(full, empty, strict=True))
    both = f"{statistics.median(full):.0f} ms to the full store, {statistics.median(empty):.0f} ms to an empty one"
    print(f"\n{2 * each:,} rows more: {both}, ratio {ratio:.2f} (median of 5 pairs)")


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_answers(big):
    """Each question before and after the job maintain, then to what a user would ask instead."""
    folder, _, width, _ = big
    vectors = rows.embeddings(QUERIES, width, 10**9).astype(np.float32)
    truth, _ = rows.in_a_child(brute_force, str(folder), vectors)
    print(f"\n{'':46}{'median':>9} {'p99 ms':>9} {'n':>5}   peak MB")
    for stage in ("as written", "maintained"):
        for name, ask in QUESTIONS.items():
            show(f"{stage}: {name}", ask, f"{folder}/store", vectors)
        show(f"{stage}: nearest({NEIGHBOURS})", partial(nearest, truth=truth), f"{folder}/store", vectors)
        if stage == "as written":
            (seconds, done), memory = rows.in_a_child(maintained, f"{folder}/store")
            print(f"{'maintain':46}{seconds * 1000:9.0f} {'':9} {1:5d}{memory:10,.0f}   {done}")
    print(f"{'on disk after maintain, GB':46}{rows.folder_bytes(folder / 'store') / 1e9:9.2f}")
    for name, ask in INSTEAD.items():
        show(name, ask, f"{folder}/parquet", vectors)


def show(name, ask, *arguments):
    (found, said), memory = rows.in_a_child(ask, *arguments)
    print(f"{name:46}{rows.spread(found)}{memory:10,.0f}   {said}", flush=True)


def maintained(uri):
    began = time.perf_counter()
    done = PatchStore(uri).maintain(UpkeepConfig())
    return time.perf_counter() - began, ", ".join(
        f"{row['what']} {row['name']}" for row in done.to_pylist() if row["what"].startswith("index")
    )


# -- what is asked; each gives milliseconds and a word on the answer ---------------------------------------------------------------------


def hardest(uri, _):
    store = PatchStore(uri)
    return rows.times(lambda _: store.hardest(1000), [None] * 100), ""


def hardest_where(uri, _):
    store = PatchStore(uri)
    return rows.times(lambda _: store.hardest(1000, "time_ms < 60000"), [None] * 100), ""


def of_a_video(uri, _):
    store = PatchStore(uri)
    found = rows.times(lambda video: store.patches(SHOWN.split(", "), where=f"video_id = '{video}'"), some_videos(store))
    return found, f"{PER_VIDEO:,} rows each"


def of_a_video_in_sql(uri, _):
    store = PatchStore(uri)
    return rows.times(lambda video: store.query(f"SELECT {SHOWN} FROM patches WHERE video_id = '{video}'"), some_videos(store)), ""


def some_videos(store):
    known = store.ledger().filter(pc.greater(store.ledger()["patches"], 0))["video_id"].to_pylist()
    return [known[place] for place in np.random.default_rng(0).integers(0, len(known), 100)]


def explained(uri, _):
    store = PatchStore(uri)
    ids = [
        store.patches(["patch_id"], where=f"video_id = '{v}' AND time_ms = 3000")["patch_id"][0].as_py() for v in some_videos(store)[:40]
    ]
    return rows.times(lambda patch_id: explain(store, patch_id, {}), ids), "of a patch"


def nearest(uri, vectors, truth):
    store, answers = PatchStore(uri), []
    found = rows.times(lambda vector: answers.append(store.nearest(vector, NEIGHBOURS)["distance"].to_numpy()), list(vectors))
    return found, f"recall {recall(answers[1:], truth):.3f}"  # the first one was asked twice


QUESTIONS = {
    "hardest(1000)": hardest,
    "hardest(1000, where)": hardest_where,
    "patches of a video": of_a_video,
    "the same in SQL": of_a_video_in_sql,
    "explain": explained,
}


# -- what would be asked instead ---------------------------------------------------------------------------------------------------------


def duck_hardest(folder, _):
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar=false")
        sql = f"SELECT {SHOWN} FROM '{folder}/*.parquet' ORDER BY difficulty DESC, patch_id LIMIT 1000"
        return rows.times(lambda _: connection.sql(sql).to_arrow_table(), [None] * 100), ""


def duck_of_a_video(folder, _):
    videos = some_videos(PatchStore(str(Path(folder).parent / "store")))
    with duckdb.connect() as connection:
        sql = f"SELECT {SHOWN} FROM '{folder}/*.parquet' WHERE video_id = ?"
        return rows.times(lambda video: connection.sql(sql, params=[video]).to_arrow_table(), videos), ""


def matrix(folder):
    """(N, width) float32 of length 1."""
    files = sorted(Path(folder).glob("*.parquet"))
    width = pq.read_schema(files[0]).field("embedding").type.list_size
    found = np.concatenate(
        [pq.read_table(file, columns=["embedding"])["embedding"].combine_chunks().flatten().to_numpy() for file in files]
    )
    found = found.reshape(-1, width).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(folder, vectors):
    """(queries, NEIGHBOURS) the true cosine distances, smallest first."""
    known = matrix(f"{folder}/parquet")
    return np.stack([np.sort(np.partition(1 - known @ vector, NEIGHBOURS)[:NEIGHBOURS]) for vector in unit(vectors)])


def recall(found, truth):
    """Share of the answers no farther than the last true one: rows at the same distance are as good as each other."""
    return float(np.mean([(one <= true[-1] + 1e-4).mean() for one, true in zip(found, truth, strict=False)]))


def numpy_nearest(folder, vectors):
    known = matrix(folder)
    return rows.times(lambda vector: np.argpartition(known @ vector, -NEIGHBOURS)[-NEIGHBOURS:], list(unit(vectors))), "exact"


def faiss_nearest(folder, vectors):
    import faiss

    known = matrix(folder)
    index = faiss.IndexFlatIP(known.shape[1])
    index.add(known)
    del known
    gc.collect()
    return rows.times(lambda vector: index.search(vector[None], NEIGHBOURS), list(unit(vectors))), "exact; without reading the matrix"


INSTEAD = {
    "DuckDB on Parquet: hardest(1000)": duck_hardest,
    "DuckDB on Parquet: patches of a video": duck_of_a_video,
    f"NumPy in memory: nearest({NEIGHBOURS})": numpy_nearest,
}
if importlib.util.find_spec("faiss"):
    INSTEAD[f"faiss flat in memory: nearest({NEIGHBOURS})"] = faiss_nearest
