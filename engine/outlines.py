"""The mask of a patch as COCO's compressed run lengths (pycocotools): down the columns of the patch's box, in pixels of the source video.

Two runs a column is what a region takes, so a mask is a twentieth of the patch's JPEG, and any reader of COCO files opens it.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco

from engine.pictures import Mask


def part(mask: Mask, box: Sequence[int], size: tuple[int, int]) -> Mask:
    """What of a mask lies in `box` (y0, x0, y1, x1), drawn as (height, width) `size`; every pixel is that of the mask at its centre."""
    y0, x0, y1, x1 = box
    return resized(mask[y0:y1, x0:x1], size)


def resized(mask: Mask, size: tuple[int, int]) -> Mask:
    """The same mask as (height, width) `size`; every pixel is that of the mask at its centre."""
    if mask.shape == tuple(size):
        return mask
    return np.asarray(cv2.resize(mask.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.bool_)


def packed(mask: Mask) -> bytes | None:
    """The run lengths of a mask; None for one without a pixel."""
    if not mask.any():
        return None
    return bytes(coco.encode(np.asfortranarray(mask, np.uint8))["counts"])


def unpacked(runs: bytes, box: Sequence[int]) -> Mask:
    """The mask (y1 - y0, x1 - x0) of a patch with that box."""
    y0, x0, y1, x1 = box
    return np.asarray(coco.decode({"size": [y1 - y0, x1 - x0], "counts": runs}), np.bool_)
