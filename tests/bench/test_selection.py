"""Choosing among millions of patches: seconds and peak memory, and the same method as a short script over arrays that are all in memory.

BENCH_SCALE=1 takes ten million patches for what goes by columns alone, and a million with 384 numbers each for what compares embeddings.
Each choice runs in a process of its own, so that its peak is its own.
"""

import multiprocessing
import os
import resource
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
ROWS, VECTORS, WIDTH = int(10_000_000 * SCALE), int(1_000_000 * SCALE), 384
LIMITS = ("black", "glare", "foreign")


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
    """Vectors around a thousand directions."""
    rng = np.random.default_rng(1)
    made, middles = np.empty((count, WIDTH), np.float16), rng.normal(size=(1000, WIDTH)).astype(np.float32)
    for start in range(0, count, 50_000):
        some = middles[rng.integers(0, 1000, min(50_000, count - start))]
        made[start : start + len(some)] = some + 0.7 * rng.normal(size=some.shape).astype(np.float32)
    return made


def ours(method, count):
    from engine.config import SelectionConfig
    from engine.pool import Held, Pool
    from engine.selection import METHODS, choose

    pool = Pool(table(count), Held(embeddings(count)) if METHODS[method].embeddings else None)
    began = time.perf_counter()
    chosen = choose(pool, SelectionConfig(method=method, budget=0.05))
    return time.perf_counter() - began, len(chosen.patch_ids)


def plain_optidel(_, count):
    """A list of ids, sorted by what stands beside them."""
    rows = table(count)
    began = time.perf_counter()
    ids, sizes = rows["patch_id"].to_pylist(), rows["bytes"].to_numpy()
    order = np.argsort(-rows["difficulty"].to_numpy(), kind="stable")
    chosen = [ids[row] for row in order[: int(np.searchsorted(np.cumsum(sizes[order]), 0.05 * sizes.sum()))]]
    return time.perf_counter() - began, len(chosen)


def plain_semdedup(_, count):
    """faiss's k-means and a whole matrix of cosines for each cluster."""
    import faiss

    vectors = embeddings(count).astype(np.float32)
    began = time.perf_counter()
    faiss.normalize_L2(vectors)
    means = faiss.Kmeans(WIDTH, round(count**0.5), niter=20, spherical=True, seed=1)
    means.train(vectors)
    near, labels = (found[:, 0] for found in means.index.search(vectors, 1))
    likeness = np.zeros(count, np.float32)
    order = np.lexsort([near, labels])
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        likeness[rows] = np.triu(vectors[rows] @ vectors[rows].T, 1).max(axis=0)
    return time.perf_counter() - began, len(np.argsort(likeness)[: count // 20])


def measured(work, *arguments):
    """Seconds, patches and peak memory in MB of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(alone, (work, arguments))


def alone(work, arguments):
    seconds, count = work(*arguments)
    return seconds, count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.bench
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("method", "rows", "plain"), [
    ("random", ROWS, None), ("optidel", ROWS, plain_optidel),
    ("semdedup", VECTORS, plain_semdedup), ("meddel", VECTORS, None), ("endocurate", VECTORS, None),
])  # fmt: skip
def test_a_choice_among_millions(method, rows, plain):
    seconds, count, peak = measured(ours, method, rows)
    print(f"\n{method}: {count:,} of {rows:,} in {seconds:.1f} s, {peak:,.0f} MB with the columns and embeddings", end="")
    if plain:
        other, _, more = measured(plain, method, rows)
        print(f"; as a script {other:.1f} s, {more:,.0f} MB: {seconds / other:.2f} of its time", end="")
