"""Outlines of a COCO file: polygons, and runs of pixels as numbers or as letters; what is wrong with one, in words.

pycocotools takes what it is given: polygons of two points for boxes, runs that end too early for whatever lies in memory, and of a point
far enough away it draws the way there until there is no memory left.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CORNERS = 3  # at least
FAR = 10  # times the longer side of the image that a point may lie away: beyond an edge some do, none so far
SMALL, MORE, BELOW = (
    0x1F,
    0x20,
    0x10,
)  # of a letter less 48: five bits of a number, whether another letter follows, and in the last its sign
LETTERS = 64


def fault(outline: Any, size: tuple[int, int]) -> str:
    """What is wrong with an outline in an image of such a (width, height); "" where it can be drawn."""
    if isinstance(outline, dict):
        return fault_of_runs(outline, size)
    if not isinstance(outline, list):
        return f"an outline is polygons or runs, not {outline!r:.40}"
    return next((told for polygon in outline if (told := fault_of_polygon(polygon, FAR * max(size)))), "")


def fault_of_polygon(polygon: Any, far: float) -> str:
    """What is wrong with x, y, x, y and so on, which are no further than `far` from 0; "" for nothing."""
    if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
        return f"a polygon is a list of numbers, not {polygon!r:.60}"
    if len(polygon) < 2 * CORNERS or len(polygon) % 2:
        return f"a polygon of {len(polygon)} numbers, where x and y of {CORNERS} points are the least"
    strange = [value for value in polygon if not math.isfinite(value) or abs(value) > far]
    return f"a polygon has a point at {strange[0]:g}, and none lies {FAR} times as far out as its image is large" if strange else ""


def fault_of_runs(outline: dict[str, Any], size: tuple[int, int]) -> str:
    """What is wrong with runs of pixels, down one column after the other; "" for nothing."""
    width, height = size
    if outline.get("size") != [height, width]:
        return f"its runs are of {outline.get('size')!r:.40}, and its image is of {[height, width]} (height, width)"
    counts = outline.get("counts")
    runs = of_letters(counts) if isinstance(counts, str) else of_numbers(counts)
    if runs is None or (runs < 0).any():
        return f"its runs are {counts!r:.40}, which are no numbers of pixels"
    return "" if runs.sum() == width * height else f"its runs are {runs.sum():,} pixels long, and its image has {width * height:,}"


def of_numbers(counts: Any) -> NDArray[np.int64] | None:
    """Runs as whole numbers; None for anything else."""
    whole = isinstance(counts, list) and set(map(type, counts)) <= {int} and all(abs(count) < 2**32 for count in counts)
    return np.array(counts, np.int64) if whole else None


def of_letters(counts: str) -> NDArray[np.int64] | None:
    """Runs as pycocotools packs them (rleFrString of its maskApi.c); None where letters are none of its own, or a number has no end."""
    letters = np.array([ord(letter) - 48 for letter in counts], np.int64)
    if not len(letters) or letters.min() < 0 or letters.max() >= LETTERS or letters[-1] & MORE:
        return None
    ends = np.flatnonzero(letters & MORE == 0)
    begins = np.r_[0, ends[:-1] + 1]
    lengths = ends - begins + 1
    if lengths.max() > 7:  # 35 bits
        return None
    runs = np.add.reduceat((letters & SMALL) << 5 * (np.arange(len(letters)) - np.repeat(begins, lengths)), begins)
    runs -= np.where(letters[ends] & BELOW, 1, 0) << 5 * lengths
    for first in (1, 2):  # from the fourth on each is told by what it has more than the last but one
        runs[first::2] = np.cumsum(runs[first::2])
    return runs
