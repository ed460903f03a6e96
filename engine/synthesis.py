"""Four patches become one training image: every four consecutive ones, hardest first, as two by two (OptiDEL, algorithm 1).

The image has the resolution of the frame its hardest patch was cut from ("the original resolution"); a patch fills its quadrant,
scaled to cover it, with what juts out cut evenly on both sides, so that nothing is stretched (our choice: the paper shows squares).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
import pyarrow as pa

from engine import schema
from engine.config import SynthesisConfig
from engine.pictures import decode, encode
from engine.schema import PATCHES_PER_IMAGE as GROUP

READ = pa.schema(
    [
        schema.text("patch_id"),
        pa.field("frame_height", pa.int32()),
        pa.field("frame_width", pa.int32()),
        schema.PIXELS,
    ]
)


def groups(patch_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Every four consecutive ids; ValueError where they do not come out even, since a choice is a whole number of images."""
    if len(patch_ids) % GROUP:
        raise ValueError(f"{len(patch_ids)} patches do not make whole images of {GROUP}")
    return (patch_ids[start : start + GROUP] for start in range(0, len(patch_ids), GROUP))


def synthesise(patches: pa.Table, ranked: Sequence[str], selection_id: str, first: int, config: SynthesisConfig) -> pa.Table:
    """The training images (schema.IMAGE) of the `ranked` patch ids, whose rows `patches` holds in any order.

    `first` is the position of the first image in its selection. The same patches give the same bytes.
    """
    rows = {row["patch_id"]: row for row in patches.to_pylist()}
    made = [image_row([rows[patch_id] for patch_id in group], config) for group in groups(ranked)]
    for offset, row in enumerate(made):
        row |= {"selection_id": selection_id, "position": first + offset, "layout": ""}
    return pa.Table.from_pylist(made, schema.IMAGE)


def image_row(four: Sequence[Mapping[str, object]], config: SynthesisConfig) -> dict[str, object]:
    height, width = int(str(four[0]["frame_height"])), int(str(four[0]["frame_width"]))
    image = compose([decode(bytes(row["pixels"])) for row in four], height, width)  # type: ignore[call-overload]
    ids = [str(row["patch_id"]) for row in four]
    pixels = encode(image, config.quality)
    image_id = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:32]
    return {"image_id": image_id, "patch_ids": ids, "height": height, "width": width, "bytes": len(pixels), "pixels": pixels}


def compose(patches: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Four (h, w, 3) pictures in reading order as one (height, width, 3)."""
    rows, columns = [(0, height // 2), (height // 2, height)], [(0, width // 2), (width // 2, width)]
    image = np.empty((height, width, 3), np.uint8)
    for patch, (y, x) in zip(patches, [(y, x) for y in rows for x in columns], strict=True):
        image[y[0] : y[1], x[0] : x[1]] = cover(patch, y[1] - y[0], x[1] - x[0])
    return image


def cover(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """`picture` scaled to fill height x width, its overhang cut on both sides alike."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    large = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    scaled = cv2.resize(picture, large, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    y, x = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return np.asarray(scaled[y : y + height, x : x + width])
