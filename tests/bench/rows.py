"""Big tables of made-up patches and images whose columns are filled as an ingest fills them, and how long and how much things take."""

import functools
import hashlib
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine import mucosa, pictures, schema

SCALE = float(os.environ.get("BENCH_SCALE", "1"))  # of the sizes of the issue; 0.1 is a quick run
PER_FRAME, PER_VIDEO = 10, 5000  # patches
PER_WRITE = 50_000  # rows
SIDE = 80  # px of a patch: JPEGs of about 3 kB
CLUSTERS = 500  # of embeddings: what real ones have, and what an index lives on
STAMP = {"fingerprint": "f", "commit": "c", "ingested_at": "2026-01-01T00:00:00+00:00"}


def room_for(gigabytes: float, folder: Path) -> None:
    """Skip, in one sentence, where the disk has less room."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes * 1.2:
        pytest.skip(f"{gigabytes:.1f} GB are needed in {folder}, {free:.1f} GB are free: set BENCH_SCALE")


def video_id(number: int) -> str:
    return hashlib.md5(str(number).encode()).hexdigest()


def embeddings(count: int, width: int, seed: int) -> np.ndarray:
    """(count, width) float16: noise around 500 centres, as wide as their distance."""
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, width), np.float32)
    rng = np.random.default_rng([1, seed])
    noise = 0.7 * rng.standard_normal((count, width), np.float32)
    return (centres[rng.integers(0, CLUSTERS, count)] + noise).astype(np.float16)


@functools.cache
def textures() -> list[np.ndarray]:
    return [mucosa.skin(number, 1024) for number in range(4)]


def jpegs(count: int, seed: int, sides: tuple[int, int], quality: int = 95) -> list[bytes]:
    """Pieces of drawn mucosa, no two alike."""
    rng = np.random.default_rng([2, seed])
    drawn = textures()
    places = np.stack([rng.integers(0, 4, count), rng.integers(0, 1024 - sides[0], count), rng.integers(0, 1024 - sides[1], count)], 1)

    def cut(place: np.ndarray) -> bytes:
        texture, y, x = place
        return pictures.encode(np.ascontiguousarray(drawn[texture][y : y + sides[0], x : x + sides[1]]), quality)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(cut, places))


def scored(first: int, videos: int, each: int, width: int, pixels: bool) -> pa.Table:
    """All rows (schema.SCORED) of the videos with the numbers from `first` on, `each` patches of every one."""
    count = videos * each
    rng, seed = np.random.default_rng([3, first]), first * PER_VIDEO
    within = np.tile(np.arange(each), videos)
    ids = pa.array([video_id(first + video) for video in range(videos)]).take(pa.array(np.repeat(np.arange(videos), each)))
    times = pa.array(within // PER_FRAME * 1000)
    frame_ids = pc.binary_join_element_wise(ids, text(times), "@")
    y, x = pa.array((within % PER_FRAME * 40).astype(np.int32)), pa.array(rng.integers(0, 400, count, np.int32))
    box = [y, x, pc.add(y, SIDE), pc.add(x, SIDE)]
    region = pc.binary_join_element_wise(*map(text, box), ",")
    found = jpegs(count, seed, (SIDE, SIDE)) if pixels else None
    columns = {
        **measured(count),
        "appearance": same(count, {field.name: 0.1 for field in schema.APPEARANCE}),
        "video_id": ids, "frame_id": frame_ids, "time_ms": times, "pts": times, "time_base": same(count, "1/1000"),
        "frame_height": same(count, 480), "frame_width": same(count, 560), "area": same(count, SIDE * SIDE),
        "patch_id": pc.binary_join_element_wise(frame_ids, region, "medsam-lite-1f2e3d4c", ":"),
        "box": pa.FixedSizeListArray.from_arrays(pa.array(np.stack(box, 1).ravel()), 4),
        "predicted_iou": pa.array(rng.random(count, np.float32)), "stability": pa.array(rng.random(count, np.float32)),
        "proposer": same(count, "medsam-lite"), "settings": same(count, "1f2e3d4c"),
        "height": same(count, SIDE), "width": same(count, SIDE),
        "bytes": pa.array([len(jpeg) for jpeg in found] if found else np.full(count, 3000), pa.int32()),
        "difficulty": pa.array(rng.gamma(2.0, 0.1, count).astype(np.float32)), "scorer": same(count, "0a1b2c3d"),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings(count, width, seed).ravel()), width),
    }  # fmt: skip
    if found:
        columns["pixels"] = pa.array(found, pa.large_binary())
    verdicts = pa.table({"video_id": [video_id(first + video) for video in range(videos)]})
    return pa.concat_tables([filled(pa.table(columns), width), filled(verdicts, width)])


def measured(count: int) -> dict[str, pa.Array]:
    """What the gate knows of a frame that it lets pass."""
    content = pa.FixedSizeListArray.from_arrays(pa.array(np.tile([0, 0, 480, 560], count)), 4)
    passing = {"sharpness": 50.0, "brightness": 0.4, "glare": 0.01, "tissue": 0.9, "change": 0.1}
    return {"content": content, **{name: same(count, value) for name, value in passing.items()}}


def text(numbers: pa.Array) -> pa.Array:
    return pc.cast(numbers, pa.string())


def same(count: int, value: object) -> pa.Array:
    return pa.repeat(pa.scalar(value), count)


def filled(table: pa.Table, width: int) -> pa.Table:
    """The same rows with all columns of schema.SCORED; those that are not there are null."""
    fields = [pa.field(f.name, pa.list_(pa.float16(), width)) if f.name == "embedding" else f for f in schema.SCORED]
    columns = [table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type) for f in fields]
    return pa.table(columns, schema=pa.schema(fields))


def sources(first: int, videos: int) -> pa.Table:
    made = [{"video_id": video_id(n), "uri": f"/in/{n}.mp4", "size": 10, "modified": "1"} for n in range(first, first + videos)]
    return pa.Table.from_pylist([{"reason": None, "detail": None} | row for row in made], schema.VIDEO)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_a_child(work: Callable, *arguments: object) -> tuple[object, float]:
    """What `work` gives in a process of its own, and the MB it had in memory at most; imports are about 250 MB of it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(watched, (work, arguments))


def watched(work: Callable, arguments: tuple) -> tuple[object, float]:
    return work(*arguments), peak()


def peak() -> float:
    """MB that this process had in memory at most; getrusage tells the parent's peak after an exec."""
    told = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(told.split()[1]) / 1024


def times(work: Callable, cases: list, budget: float = 15.0) -> list[float]:
    """Milliseconds of work(case) for the cases, the first one not counted, until they or the `budget` of seconds is used up."""
    work(cases[0])
    found, began = [], time.perf_counter()
    for case in cases:
        start = time.perf_counter()
        work(case)
        found.append(1000 * (time.perf_counter() - start))
        if time.perf_counter() - began > budget:
            break
    return found


def spread(milliseconds: list[float]) -> str:
    return f"{statistics.median(milliseconds):9.1f} {np.percentile(milliseconds, 99):9.1f} {len(milliseconds):5d}"


def load() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
