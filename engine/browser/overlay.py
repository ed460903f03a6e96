"""The mask of a patch as a picture to lay over it: clear but for the region and its edge, in a colour that mucosa never has."""

import cv2
import numpy as np

from engine import outlines
from engine.browser import sheets
from engine.pictures import Mask
from engine.store import PatchStore

SIDE = 512  # px of the longest side that is sent
FILL, EDGE = (255, 170, 0, 70), (255, 170, 0, 255)  # blue, green, red, opacity
NO_MASK = "no mask was drawn: its proposer cuts no regions, or it was taken in before masks were kept"


def overlay(store: PatchStore, patch_id: str) -> bytes:
    """The PNG to lay over a patch, of its box's shape; LookupError for an id that is not there, and for a patch without a mask."""
    found = sheets.one(store, patch_id, ["box", "mask"])
    if found["mask"] is None:
        raise LookupError(NO_MASK)
    return drawn(outlines.unpacked(found["mask"], found["box"]))


def drawn(mask: Mask) -> bytes:
    """A mask (H, W) as a PNG with alpha, at most SIDE px a side."""
    scale = min(1.0, SIDE / max(mask.shape))
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    small = outlines.resized(mask, (height, width)).astype(np.uint8)
    reach = 2 * max(2, max(height, width) // 200) + 1
    inner = cv2.erode(small, np.ones((reach, reach), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    picture = np.zeros((height, width, 4), np.uint8)
    picture[small > 0], picture[small > inner] = FILL, EDGE
    return bytes(cv2.imencode(".png", picture)[1].tobytes())


def share(runs: bytes | None, box: list[int]) -> float | None:
    """How much of a patch's box its region takes; None where there is no mask."""
    return None if runs is None else float(outlines.unpacked(runs, box).mean())
