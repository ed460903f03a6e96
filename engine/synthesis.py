"""Patches become training images: every four consecutive ones, hardest first, as two by two (OptiDEL, algorithm 1), or as set otherwise.

The image has the resolution of the frame its first patch was cut from ("the original resolution"); a patch fills its place, scaled to
cover it, with what juts out cut evenly on both sides, so that nothing is stretched (our choice: the paper shows squares).
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from engine import schema
from engine.config import SynthesisConfig
from engine.pictures import decode, encode
from engine.rows import hashed
from engine.schema import PATCHES_PER_IMAGE

# What an empty `layout` stands for: written out, so that other defaults would not change what is stored.
PAPER = SynthesisConfig(patches=PATCHES_PER_IMAGE, order="rank", fill="crop", quality=95, seed=0)
AT_ONCE = 64  # images whose patches are in memory, about 100 MB of pixels
PADDING = 0  # black, our choice: what surrounds the picture of an endoscope anyway

READ = pa.schema(
    [
        schema.text("patch_id"),
        pa.field("frame_height", pa.int32()),
        pa.field("frame_width", pa.int32()),
        schema.text("proposer"),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        schema.PIXELS,
    ]
)


def layout(config: SynthesisConfig) -> str:
    """The settings as an image keeps them: JSON, or "" for the paper's."""
    return "" if config == PAPER else json.dumps(config.model_dump(mode="json"), sort_keys=True)


def settings(kept: str) -> SynthesisConfig:
    """The settings that `layout` wrote; ValueError for what it did not."""
    return SynthesisConfig.model_validate_json(kept) if kept else PAPER


def named(selection_id: str, config: SynthesisConfig) -> str:
    """The id of a selection whose images are made so: the same patches laid out otherwise are another training set."""
    kept = layout(config)
    return f"{selection_id}-{hashlib.sha256(kept.encode()).hexdigest()[:8]}" if kept else selection_id


def ordered(ranked: Sequence[str], config: SynthesisConfig) -> list[str]:
    """The chosen ids, first choice first, in the order of the images: every `config.patches` of them are one.

    Inside an image they stand in order of choice, and the images in that of their first ones. ValueError where they do not come out even.
    """
    check_even(ranked, config.patches)
    members = np.sort(grouped(ranked, config), axis=1)
    members = members[np.argsort(members[:, 0])]
    return [ranked[rank] for rank in members.ravel()]


def grouped(ranked: Sequence[str], config: SynthesisConfig) -> np.ndarray:
    """The ranks (images, patches) that share an image.

    diverse (our choice): in order of video and time, n images take every n-th each. So an image holds no more patches of a video with c
    than ceil(c / n), the least that can be, and those are as far apart in time as the ranks of their moments allow.
    """
    ranks = np.arange(len(ranked))
    if config.order == "rank":
        return ranks.reshape(-1, config.patches)
    if config.order == "random":
        lots = hashed(pa.chunked_array([pa.array(ranked, pa.string())]), config.seed)
        return np.argsort(lots, kind="stable").reshape(-1, config.patches)
    if config.order == "diverse":
        ranks = np.array(sorted(range(len(ranked)), key=lambda rank: moment(ranked[rank])), np.int64)
    return ranks.reshape(config.patches, -1).T  # spread: j, j + n, j + 2n, ... (RDED, utils.py)


def moment(patch_id: str) -> tuple[str, int, str, str]:
    """Sorts by video, then time: digits as a number, by their count and then their text."""
    video, _, rest = patch_id.partition("@")
    time_ms = rest.partition(":")[0].partition("#")[0]
    return video, len(time_ms), time_ms, rest


def check_even(patch_ids: Sequence[str], patches: int) -> None:
    """ValueError where ids do not make whole images, since a choice is a whole number of them."""
    if len(patch_ids) % patches:
        raise ValueError(f"{len(patch_ids)} patches do not make whole images of {patches}")


def groups(patch_ids: Sequence[str], patches: int) -> Iterator[Sequence[str]]:
    """Every `patches` consecutive ids; ValueError where they do not come out even."""
    check_even(patch_ids, patches)
    return (patch_ids[start : start + patches] for start in range(0, len(patch_ids), patches))


def images(ids: Sequence[str], selection_id: str, config: SynthesisConfig, rows: Callable[[slice], pa.Table]) -> Iterator[pa.Table]:
    """All training images of a selection, AT_ONCE in a table: its patch ids in the order that `ordered` gives, a part of them at a time.

    `rows` reads the rows (READ) of a part of the ids, in any order.
    """
    size = AT_ONCE * config.patches
    for part in (slice(start, start + size) for start in range(0, len(ids), size)):
        yield synthesise(rows(part), ids[part], selection_id, part.start // config.patches, config)


def synthesise(patches: pa.Table, ids: Sequence[str], selection_id: str, first: int, config: SynthesisConfig) -> pa.Table:
    """The training images (schema.IMAGE) of patch ids in the order that `ordered` gives, whose rows `patches` holds in any order.

    `first` is the position of the first image in its selection. The same patches give the same bytes.
    """
    rows = {row["patch_id"]: row for row in patches.to_pylist()}
    made = [image_row([rows[patch_id] for patch_id in group], config) for group in groups(ids, config.patches)]
    for offset, row in enumerate(made):
        row |= {"selection_id": selection_id, "position": first + offset}
    return pa.Table.from_pylist(made, schema.IMAGE)


def image_row(patches: Sequence[Mapping[str, Any]], config: SynthesisConfig) -> dict[str, Any]:
    """What the rows (READ) of one image make, in reading order, but for its place in a selection.

    A whole frame alone passes through as it is stored, byte for byte: to encode it again would only lose.
    """
    ids, kept, first = [str(row["patch_id"]) for row in patches], layout(config), patches[0]
    if len(patches) == 1 and first["proposer"] == schema.FRAME_PROPOSER:
        height, width, pixels = first["height"], first["width"], bytes(first["pixels"])
    else:
        height, width = first["frame_height"], first["frame_width"]
        pixels = encode(compose([decode(row["pixels"]) for row in patches], height, width, config.fill), config.quality)
    image_id = hashlib.sha256("\n".join([*ids, kept] if kept else ids).encode()).hexdigest()[:32]
    size = {"height": height, "width": width, "bytes": len(pixels)}
    return {"image_id": image_id, "patch_ids": ids, "layout": kept, **size, "pixels": pixels}


def compose(patches: Sequence[np.ndarray], height: int, width: int, fill: str = "crop") -> np.ndarray:
    """A square number of (h, w, 3) pictures in reading order as one (height, width, 3)."""
    side = math.isqrt(len(patches))
    rows, columns = ([(n * length // side, (n + 1) * length // side) for n in range(side)] for length in (height, width))
    image = np.empty((height, width, 3), np.uint8)
    place = cover if fill == "crop" else contain
    for patch, (y, x) in zip(patches, [(y, x) for y in rows for x in columns], strict=True):
        image[y[0] : y[1], x[0] : x[1]] = place(patch, y[1] - y[0], x[1] - x[0])
    return image


def cover(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """`picture` scaled to fill height x width, its overhang cut on both sides alike. (h, w, 3) to (height, width, 3) px."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    scaled = resized(picture, max(height, round(picture.shape[0] * scale)), max(width, round(picture.shape[1] * scale)), scale)
    y, x = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return np.asarray(scaled[y : y + height, x : x + width])


def contain(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """`picture` scaled to lie whole in height x width, with the same PADDING on both sides, give or take a pixel.

    Shape: (h, w, 3) to (height, width, 3) px.
    """
    scale = min(height / picture.shape[0], width / picture.shape[1])
    inside = resized(picture, max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale)), scale)
    y, x = (height - inside.shape[0]) // 2, (width - inside.shape[1]) // 2
    padded = np.full((height, width, 3), PADDING, np.uint8)
    padded[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return padded


def resized(picture: np.ndarray, height: int, width: int, scale: float) -> np.ndarray:
    """A picture (h, w, 3) as (height, width, 3): the mean of pixels where it shrinks, cubic where it grows."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
