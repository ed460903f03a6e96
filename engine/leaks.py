"""Near-duplicates between what a model is pre-trained on and what it is tested on, whole frames or patches of them, at any size.

A grid is the endoscope's picture as a few greys without its slow changes of light; two grids are alike by their correlation where
both show something. Panels, insets and hidden pixels are no part of it, so the frame around a picture, which half a hospital's images
share, does not count. A patch knows its place in the picture of its frame: the patches of a frame are laid there, and are compared as far
as they cover it, with no search. Our choice; thresholds from Kvasir-SEG and PolypGen (notebooks/LOG.md). A perceptual hash of
whole images (DCT, 64 bits, 12 of which may differ) gave more than half of PolypGen's frames a twin, by their panels.

Not found: mirrored or turned images, crops of unknown place, moments of the same scene further apart than a tremble of the hand, and
frames of whose picture the patches cover less than a tenth (`Leaks.unjudged` counts these).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engine import content
from engine.pictures import bounds

SIDE = 32  # cells of the grid along either side of the picture
BLUR = 2.7  # cells; slower changes than that are light, which all colons share
COVERED = 0.1  # share of their squares that two grids must have in common to be compared
ALIKE = 0.85  # correlation. No pair of PolypGen and Kvasir-SEG reaches it, of 1.5 million; by one or two patches six frames of 1,129 do
DARK = 4  # grey levels: what was hidden in a patch is black
FINE = 8  # pixels of a patch for each cell
ROWS = 4096  # grids of the pool that are compared at once

Box = tuple[float, float, float, float]  # y0, x0, y1, x1 as shares of the picture
Floats = NDArray[np.float32]


class Grids(NamedTuple):
    """The grids of images; an image may have several, under the same name."""

    names: tuple[str, ...]
    values: Floats  # (N, SIDE * SIDE), 0 where nothing is known
    known: Floats  # (N, SIDE * SIDE), 0 or 1


class Leak(NamedTuple):
    """An image of the pool and a test image that look alike, by name."""

    pool: str
    test: str
    likeness: float  # 1: the same up to brightness and contrast


class Leaks(NamedTuple):
    """What of a pool was found among test images."""

    found: tuple[Leak, ...]  # the most alike first
    unjudged: int  # of the pool, too little of which is known

    @property
    def tested(self) -> int:
        """How many test images have a twin in the pool."""
        return len({leak.test for leak in self.found})


def whole(images: Iterable[tuple[str, NDArray[np.uint8]]]) -> Grids:
    """The grids of images (H, W, 3): with the picture cut clean, and with its corners; which of both a pool was cut by is not known."""
    return stacked([(name, *grid) for name, image in images for grid in pictures_of(image)])


def pictures_of(image: NDArray[np.uint8]) -> list[tuple[Floats, NDArray[np.bool_]]]:
    """Values and known pixels of an image's endoscope picture: of its largest rectangle and of its bounds; of all where there is none.

    Shape: (H, W, 3) to (SIDE, SIDE) each.
    """
    scale = min(1.0, content.WORKING_SIDE / max(image.shape[:2]))
    small = content.shrink(image, scale)
    picture = content.picture_mask([small])
    if picture.all() or picture.mean() < content.MIN_PICTURE:
        return [grid(small, np.ones(small.shape[:2], np.bool_))]
    boxes = {content.largest_rectangle(picture), bounds(picture)}
    return [grid(small[y0:y1, x0:x1], picture[y0:y1, x0:x1]) for y0, x0, y1, x1 in sorted(boxes)]


def grid(picture: NDArray[np.uint8], shown: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """The mean grey (SIDE, SIDE) of what is shown in every cell, and the cells that are more than half shown."""
    share = shown.astype(np.float32)
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32) * share
    share, grey = (cv2.resize(values, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for values in (share, grey))
    return grey / np.maximum(share, 1e-6), share > 0.5


def pieced(name: str, patches: Iterable[tuple[NDArray[np.uint8], Box]]) -> Grids:
    """The grid of a frame by its patches (h, w, 3), laid where they were cut; where they overlap, the later one holds."""
    values, known = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.bool_)
    for patch, (y0, x0, y1, x1) in patches:
        top, bottom, left, right = inner(y0, y1), inner(y1, y0), inner(x0, x1), inner(x1, x0)
        if bottom <= top or right <= left:
            continue  # smaller than a cell
        height, width = patch.shape[:2]
        down, across = height / ((y1 - y0) * SIDE), width / ((x1 - x0) * SIDE)  # pixels of the patch for each cell
        move = np.array([[across / FINE, 0, (left - x0 * SIDE) * across], [0, down / FINE, (top - y0 * SIDE) * down]])
        cells = cv2.warpAffine(patch, move, ((right - left) * FINE, (bottom - top) * FINE), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
        lit = (cells.max(2) > DARK).astype(np.float32)
        grey = cv2.cvtColor(cells, cv2.COLOR_RGB2GRAY).astype(np.float32)
        size = (right - left, bottom - top)
        sure = cv2.resize(lit, size, interpolation=cv2.INTER_AREA) > 0.99
        values[top:bottom, left:right][sure] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)[sure]
        known[top:bottom, left:right] |= sure
    return stacked([(name, values, known)])


def inner(edge: float, other: float) -> int:
    """The outermost line of the grid that is inside the edge of a box, seen from its other edge."""
    line = edge * SIDE
    return int(np.ceil(line - 1e-6)) if edge < other else int(np.floor(line + 1e-6))


def stacked(grids: Sequence[tuple[str, Floats, NDArray[np.bool_]]]) -> Grids:
    """Grids of several pictures (N, SIDE * SIDE), from their names, values and known pixels, (SIDE, SIDE) each."""
    made = [sharpened(values, known.astype(np.float32)).ravel() for _, values, known in grids]
    known = [known.ravel().astype(np.float32) for _, _, known in grids]
    empty = np.zeros((0, SIDE * SIDE), np.float32)
    return Grids(tuple(name for name, _, _ in grids), np.stack(made) if made else empty, np.stack(known) if known else empty)


def sharpened(values: Floats, known: Floats) -> Floats:
    """What is known, without the mean of what is known around it."""
    around, weight = (cv2.GaussianBlur(part, (0, 0), BLUR) for part in (values * known, known))
    return np.asarray((values - around / np.maximum(weight, 1e-6)) * known, np.float32)


def joined(grids: Iterable[Grids]) -> Grids:
    """Several lots of grids as one, in their order."""
    parts = list(grids)
    return Grids(
        tuple(name for one in parts for name in one.names),
        np.concatenate([one.values for one in parts]) if parts else np.zeros((0, SIDE * SIDE), np.float32),
        np.concatenate([one.known for one in parts]) if parts else np.zeros((0, SIDE * SIDE), np.float32),
    )


def between(pool: Grids, test: Grids, alike: float = ALIKE) -> Leaks:
    """Which of the pool look like which test images; of two images the most alike of their grids."""
    best: dict[tuple[str, str], float] = {}
    for start in range(0, len(pool.names), ROWS):
        rows = slice(start, start + ROWS)
        alike_to = likeness(Grids(pool.names[rows], pool.values[rows], pool.known[rows]), test)
        for one, other in np.argwhere(alike_to >= alike):
            pair = pool.names[start + one], test.names[other]
            best[pair] = max(best.get(pair, -1.0), float(alike_to[one, other]))
    found = [Leak(*pair, value) for pair, value in best.items()]
    little = {name for name, known in zip(pool.names, pool.known.mean(1), strict=True) if known < COVERED}
    return Leaks(tuple(sorted(found, key=lambda leak: (-leak.likeness, leak.pool, leak.test))), len(little))


def likeness(pool: Grids, test: Grids) -> Floats:
    """The correlation (N, M) of grids over what both know; -1 where that is too little, or without any contrast."""
    common = pool.known @ test.known.T
    sums = pool.values @ test.known.T, pool.known @ test.values.T
    squares = pool.values**2 @ test.known.T, pool.known @ (test.values**2).T
    count = np.maximum(common, 1)
    spread = [square - total**2 / count for square, total in zip(squares, sums, strict=True)]
    shared = pool.values @ test.values.T - sums[0] * sums[1] / count
    sound = (common >= COVERED * SIDE**2) & (spread[0] > count) & (spread[1] > count)  # a grey level of contrast
    return np.asarray(np.where(sound, shared / np.sqrt(np.maximum(spread[0] * spread[1], 1)), -1), np.float32)
