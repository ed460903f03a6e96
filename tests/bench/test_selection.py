"""Choosing among millions of patches: seconds and peak memory, and the same method as a short script over arrays that are all in memory.

BENCH_SCALE=1 takes ten million patches, for what compares embeddings with 384 numbers each, read from a Lance table as the job reads them;
the scripts have a tenth, all of it in memory. Each choice runs in a process of its own, so that its peak is its own.

Held to MOST: the memory always, the seconds where the load was QUIET when it began, since a busy machine says nothing of them; then they
are printed and skipped. Of the time beside a script nothing is asked: it is printed.
"""

import multiprocessing
import os
import resource
import time

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
ROWS, FEWER, WIDTH = int(10_000_000 * SCALE), int(1_000_000 * SCALE), 384
LIMITS = {"black": 0.005, "glare": 0.01, "foreign": 0.2}
MOST = {"optidel": (60, 4)} | dict.fromkeys(("meddel", "semdedup", "endocurate"), (1800, 16))  # seconds and GB for ten million patches
QUIET = 1.5  # processes that want a processor
BUDGET = 0.05


def table(count):
    """Patches of a hundred videos with ids as long as real ones."""
    rng = np.random.default_rng(0)
    numbers = pa.array(np.arange(count)).cast(pa.string())
    ids = pc.binary_join_element_wise("0123456789abcdef0123456789abcdef@", numbers, ":12,345,678,901:medsam-lite-0123456789ab", "")
    columns = {name: rng.random(count, np.float32) * 0.02 for name in LIMITS}
    columns |= {"difficulty": rng.random(count, np.float32), "variance": rng.random(count, np.float32) + 1}
    videos = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 100, count), pa.int32()), [f"v{video}" for video in range(100)])
    sizes = rng.integers(5_000, 20_000, count).astype(np.int32)
    return pa.table({"patch_id": ids, "bytes": sizes, "video_id": videos.cast(pa.string()), **columns})


def embeddings(count):
    """Vectors around a thousand directions, 50,000 at a time."""
    rng = np.random.default_rng(1)
    middles = rng.normal(size=(1000, WIDTH)).astype(np.float32)
    for start in range(0, count, 50_000):
        some = middles[rng.integers(0, 1000, min(50_000, count - start))]
        yield (some + 0.7 * rng.standard_normal(some.shape, np.float32)).astype(np.float16)


def stored(folder, count):
    """Their address, as one column of a Lance table."""
    schema = pa.schema([pa.field("embedding", pa.list_(pa.float16(), WIDTH))])
    batches = (pa.record_batch([pa.FixedSizeListArray.from_arrays(some.ravel(), WIDTH)], schema) for some in embeddings(count))
    address = str(folder / f"{count}.lance")
    if not os.path.exists(address):
        lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), address)
    return address


def ours(method, count, address):
    from engine.config import SelectionConfig
    from engine.pool import Pool
    from engine.selection import choose
    from engine.store.vectors import StoredVectors

    pool = Pool(table(count), address and StoredVectors(address, 1, WIDTH, np.arange(count)))
    began = time.perf_counter()
    chosen = choose(pool, SelectionConfig(method=method, budget=BUDGET))
    return time.perf_counter() - began, len(chosen.patch_ids)


def held(address):
    """All embeddings as an array of length one each."""
    import faiss

    vectors = np.concatenate([batch.column(0).flatten().to_numpy() for batch in lance.dataset(address).to_batches()])
    vectors = vectors.reshape(-1, WIDTH).astype(np.float32)
    faiss.normalize_L2(vectors)
    return vectors


def clustered(vectors):
    """faiss's k-means: the rows of each cluster, the farthest from the centroid first."""
    import faiss

    means = faiss.Kmeans(WIDTH, round(len(vectors) ** 0.5), niter=20, spherical=True, seed=1)
    means.train(vectors)
    near, labels = (found[:, 0] for found in means.index.search(vectors, 1))
    order = np.lexsort([near, labels])
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def plain_optidel(_, count, __):
    """A list of ids, sorted by what stands beside them."""
    rows = table(count)
    began = time.perf_counter()
    ids, sizes = rows["patch_id"].to_pylist(), rows["bytes"].to_numpy()
    order = np.argsort(-rows["difficulty"].to_numpy(), kind="stable")
    chosen = [ids[row] for row in order[: int(np.searchsorted(np.cumsum(sizes[order]), BUDGET * sizes.sum()))]]
    return time.perf_counter() - began, len(chosen)


def plain_semdedup(_, count, address):
    """A whole matrix of cosines for each cluster."""
    began = time.perf_counter()
    vectors, likeness = held(address), np.zeros(count, np.float32)
    for rows in clustered(vectors):
        likeness[rows] = np.triu(vectors[rows] @ vectors[rows].T, 1).max(axis=0)
    return time.perf_counter() - began, len(np.argsort(likeness)[: int(BUDGET * count)])


def plain_meddel(_, count, address):
    """The same, and for each radius of a bisection a loop over the rows of each cluster."""
    began = time.perf_counter()
    vectors = held(address)
    members, low, high, kept = clustered(vectors), 0.0, 1.0, []
    while high - low > 1e-3:
        middle = (low + high) / 2
        kept = [row for rows in members for row in covered(vectors[rows], rows, middle)]
        low, high = (low, middle) if len(kept) > BUDGET * count else (middle, high)
    return time.perf_counter() - began, len(kept)


def covered(vectors, rows, threshold):
    """Those of a cluster's rows that are not liker than the threshold to one kept before."""
    cosines, gone, kept = vectors @ vectors.T, np.zeros(len(rows), bool), []
    for place, row in enumerate(rows):
        if not gone[place]:
            kept.append(row)
            gone |= cosines[place] > threshold
    return kept


def plain_endocurate(_, count, address):
    """Quantiles of columns, a matrix of cosines for the clean ones of each cluster, and clusters and their videos taking turns."""
    rows = table(count)
    began = time.perf_counter()
    error, constant, sizes = (rows[name].to_numpy() for name in ("difficulty", "variance", "bytes"))
    videos, vectors, likeness = np.array(rows["video_id"].to_pylist()), held(address), np.zeros(count, np.float32)
    worth = quantiles(error) * (1 - quantiles(error / constant))
    clean = np.all([rows[name].to_numpy() <= limit for name, limit in LIMITS.items()], axis=0)
    members = [some[clean[some]] for some in clustered(vectors)]
    for some in members:
        hardest_first = some[np.argsort(-error[some])]
        near = vectors[hardest_first]
        likeness[hardest_first] = np.triu(near @ near.T, 1).max(axis=0, initial=0)
    bound, keys = np.median(likeness[clean]), np.full(count, np.inf)
    for some in members:
        line = in_turns(some[likeness[some] <= bound], worth, videos)
        keys[line] = (np.arange(len(line)) + 0.5) / max(len(line), 1) ** 0.5
    order = np.argsort(keys)
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), BUDGET * sizes.sum()))]
    return time.perf_counter() - began, len(rows["patch_id"].take(pa.array(chosen)).to_pylist())


def quantiles(values):
    """The share of the others that each is above."""
    return np.argsort(np.argsort(values)) / len(values)


def in_turns(rows, worth, videos):
    """A cluster's rows from the median of worth upwards, then from it downwards, dealt out over its videos."""
    rows = rows[np.argsort(worth[rows])]
    line = [*rows[len(rows) // 2 :], *rows[: len(rows) // 2][::-1]]
    taken, rounds = {}, []
    for row in line:
        rounds.append(taken.get(videos[row], 0))
        taken[videos[row]] = rounds[-1] + 1
    return [line[place] for place in np.argsort(rounds, kind="stable")]


def measured(work, *arguments):
    """Seconds, patches and peak memory in MB of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(alone, (work, arguments))


def alone(work, arguments):
    seconds, count = work(*arguments)
    return seconds, count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="module")
def load():
    """Before anything of this begins: one bench leaves a load for the next."""
    return os.getloadavg()[0]


@pytest.mark.bench
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("method", "rows", "plain"), [
    ("random", ROWS, None), ("optidel", ROWS, plain_optidel), ("semdedup", FEWER, plain_semdedup), ("meddel", FEWER, plain_meddel),
    ("endocurate", FEWER, plain_endocurate), ("semdedup", ROWS, None), ("meddel", ROWS, None), ("endocurate", ROWS, None),
])  # fmt: skip
def test_a_choice_among_millions(folder, load, method, rows, plain):
    address = None if method in ("random", "optidel") else stored(folder, rows)
    seconds, count, peak = measured(ours, method, rows, address)
    print(f"\n{method}: {count:,} of {rows:,} in {seconds:.1f} s, {peak:,.0f} MB with the columns", end="")
    if plain:
        other, _, more = measured(plain, method, rows, address)
        print(f"; as a script {other:.1f} s, {more:,.0f} MB: {seconds / other:.2f} of its time", end="")
    hold(method, seconds, peak, load)


def hold(method, seconds, peak, load):
    """A choice to MOST, where something is asked of its method; skipped are the seconds of a machine that was not quiet."""
    if method not in MOST:
        return
    longest, largest = MOST[method]
    assert peak < 1000 * largest
    if load > QUIET:
        pytest.skip(f"a load of {load:.1f} when it began: its seconds say little")
    assert seconds < longest
