"""Small tables in the engine's schemas, for tests that need rows and no models."""

import zlib

import numpy as np
import pyarrow as pa

from engine import appearance, pictures, schema
from engine.store import PatchStore, WriteRows

WIDTH = 4


def picture(seed: int, height: int = 32, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scored(video_id: str, frames: int = 3, patches: int = 2, reason: str | None = None) -> pa.Table:
    """The scored rows of one video: `frames` kept frames with `patches` each, one dark frame, and the verdict on the video."""
    rows = [patch_row(video_id, frame, patch) | {"expected": patches} for frame in range(frames) for patch in range(patches)]
    rows.append(moment(video_id, 1000 * frames) | {"reason": "dark", "expected": 0})
    rows.append({"video_id": video_id, "reason": reason, "expected": frames + 1})
    whole = dict.fromkeys(schema.SCORED.names)
    return pa.Table.from_pylist([whole | row for row in rows], wide())


def take_in(store: PatchStore, *video_ids: str, frames: int = 3, patches: int = 2) -> None:
    """Put the rows of such videos into a store one after the other, as intakes do."""
    for video_id in video_ids:
        store.commit(pa.concat_tables(WriteRows(store.uri)(scored(video_id, frames, patches))), videos(video_id), STAMP)


def stored(video_id: str) -> pa.Table:
    """The rows of the patch table that such a video comes to."""
    table = scored(video_id)
    patches = [row | row["appearance"] for row in table.to_pylist() if row["patch_id"]]
    return pa.Table.from_pylist(patches, schema.patches_table(WIDTH))


def scores(ids: list[str], width: int = 3, seed: int = 0) -> pa.Table:
    """What a scorer says of some patches: a function of the seed and the id."""
    rows = []
    for patch_id in ids:
        rng = np.random.default_rng([seed, zlib.crc32(patch_id.encode())])
        rows.append({"patch_id": patch_id, "difficulty": float(rng.random()), "embedding": rng.random(width).astype(np.float16).tolist()})
    return pa.Table.from_pylist(rows, schema.scores_table(width))


def wide() -> pa.Schema:
    fields = [pa.field("embedding", pa.list_(pa.float16(), WIDTH)) if field.name == "embedding" else field for field in schema.SCORED]
    return pa.schema(fields)


def moment(video_id: str, time_ms: int) -> dict[str, object]:
    return {"video_id": video_id, "frame_id": f"{video_id}@{time_ms}", "time_ms": time_ms, "pts": time_ms, "time_base": "1/1000"}


def patch_row(video_id: str, frame: int, patch: int) -> dict[str, object]:
    row = moment(video_id, 1000 * frame)
    pixels = pictures.encode(picture(zlib.crc32(f"{video_id} {frame} {patch}".encode()) % 1000), 90)
    rng = np.random.default_rng([frame, patch, len(video_id)])
    return row | {
        "frame_height": 96, "frame_width": 128, "patch_id": f"{row['frame_id']}:{patch},0,32,40:crops-0",
        "box": [patch, 0, 32, 40], "area": 1280, "proposer": "crops", "settings": "0", "height": 32, "width": 40,
        "bytes": len(pixels), "difficulty": float(rng.random()), "embedding": rng.random(WIDTH).astype(np.float16).tolist(),
        "scorer": "s", "pixels": pixels, "appearance": seen(pixels),
    }  # fmt: skip


def seen(pixels: bytes) -> dict[str, float]:
    """What a patch shows, as its scorer says it."""
    numbers = appearance.measure(pictures.decode(pixels))
    return {field.name: number for field, number in zip(schema.APPEARANCE, numbers, strict=True)}


def videos(*ids: str) -> pa.Table:
    rows = [{"video_id": i, "uri": f"/in/{i}.mp4", "size": 10, "modified": "1", "reason": None, "detail": None} for i in ids]
    return pa.Table.from_pylist(rows, schema.VIDEO)


STAMP = {"fingerprint": "f", "commit": "c", "ingested_at": "2026-01-01T00:00:00+00:00"}
