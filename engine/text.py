"""Letters burnt into a picture, found by a text detector whose weights come with its package. Only home of `rapidocr`."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.pictures import Box, Image, Mask, size_at

SEARCHED = 736  # px of the shorter side in a search: what the detector enlarges to; it sees no more of 1080 lines than of these
IN_ROWS, STANDING = 24, 20  # px of the working size: new marks in rows like letters, or that stand still, which call for a search
ROOM = 48  # px of the working size above and below new marks that a search looks at
WORKING_SIDE = 640  # px: letters of a 1080-line picture stay letters, and the change test costs some 5 ms
RENEWED = 30  # sampled frames after which a search is made in any case

SAME = 4  # px by which boxes of the same line differ in two searches; a letter is wider
TALLEST = 0.12  # of the picture's shorter side; burnt-in lines are lower, what is taller is a fold or an instrument
MARGIN = 0.25  # of a line's height: the detector's boxes hug the letters, whose blur and shadow reach further


Search = Callable[[Image, Box | None], list[Box]]  # text in a picture, or in a part of it


@dataclass(frozen=True)
class Strokes:
    """Thin bright marks of a picture scaled by `scale`, and its grey levels there."""

    map: NDArray[np.uint8]  # 0 or 1
    grey: NDArray[np.uint8]
    scale: float

    def outside(self, hidden: Mask) -> "Strokes":
        """Without those near what is hidden in the picture."""
        size = self.map.shape[1], self.map.shape[0]
        near = cv2.dilate(cv2.resize(hidden.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST), np.ones((9, 9), np.uint8))
        return replace(self, map=self.map * (1 - near))

    @cached_property
    def pieces(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The number of the connected mark at each place, 0 beside them, and the (N, 5) x, y, width, height and pixels of each number."""
        _, labels, boxes, _ = cv2.connectedComponentsWithStatsWithAlgorithm(self.map, 8, cv2.CV_32S, cv2.CCL_GRANA)  # thrice as fast
        return np.asarray(labels, np.int32), np.asarray(boxes, np.int32)


class FindText:
    """Find the boxes of burnt-in text in a picture; it does not read them.

    PP-OCR's detector as `rapidocr` ships it (DB, arXiv 1911.08947), on one thread by default so that every process of a pool
    costs what its resources say. It sees pictures with a shorter side of 736 px: 0.13 to 0.25 s on one core, a part its share of that.
    """

    def __init__(self, threads: int = 1) -> None:
        reader = load_reader(threads)
        reader(np.zeros((32, 32, 3), np.uint8), use_det=True, use_cls=False, use_rec=False)  # it loads its detector at the first picture
        self.detector = reader.text_det

    def __call__(self, image: Image, part: Box | None = None) -> list[Box]:
        """Boxes with a small margin, inside the picture, in reading order; `image` is (H, W, 3) RGB, looked at as a whole or in `part`."""
        height, width = image.shape[:2]
        y0, x0, y1, x1 = part or (0, 0, height, width)
        scale = SEARCHED / max(32, min(height, width), max(height, width) / 4)  # a strip of 400 x 9 would take half a minute
        high, wide = (max(32, round(int(side * scale) / 32) * 32) for side in (y1 - y0, x1 - x0))  # what the network takes
        # The package's own way from picture to network takes a tenth of the network's time, and blackens what is wide and low.
        pixels = cv2.dnn.blobFromImage(image[y0:y1, x0:x1], 1 / 127.5, (wide, high), (127.5, 127.5, 127.5), swapRB=True)
        found, _ = self.detector.postprocess_op(self.detector.session(pixels), (y1 - y0, x1 - x0))
        low = [corners for corners in self.detector.sorted_boxes(found) if line_height(corners) <= TALLEST * min(height, width) + 0.5]
        return [around(np.add(corners, (x0, y0)), (y0, x0, y1, x1)) for corners in low]


class WatchText:
    """Keep the boxes of burnt-in text up to date over the frames of one video without a search in every frame.

    All of a picture is searched at the first frame, after RENEWED frames, and where a search around new marks that stand in rows like
    letters finds text; glare in rows costs no more than a look at it. The lines around new marks that stand still until the next frame
    are searched alone. A box stays while its strokes do: a search may miss what another found.
    """

    def __init__(self, find_text: Search, always: list[Box]) -> None:
        self.find_text = find_text
        self.always = always  # hidden in every frame: what stands still over the whole video
        self.boxes: list[Box] = []
        self.seen: NDArray[np.uint8] | None = None  # the strokes, at each place as they were when it was searched last
        self.age = 0

    def __call__(self, image: Image, hidden: Mask, now: Strokes, following: Strokes | None) -> list[Box]:
        """The boxes to hide in `image`, whose strokes are `now`; `following` are those of the next frame, None where there is none."""
        whole = (0, 0, *image.shape[:2])
        if self.seen is None or self.age >= RENEWED:
            self.search(image, hidden, now, whole)
        elif (new := self.new(now)).any():
            if come := self.unknown(rows_at(now, new, *image.shape[:2]), image, hidden):
                self.search(image, hidden, now, whole)  # faint letters beside these are found by the search alone
                self.boxes = distinct(self.boxes + come)
            elif following is not None and (places := still(now, new, following)).any():
                self.search(image, hidden, now, lines_at(places, now.scale, *image.shape[:2]))
        self.age += 1
        return [*self.always, *self.boxes]

    def unknown(self, parts: list[Box], image: Image, hidden: Mask) -> list[Box]:
        """Text in parts of the picture that reaches out of the known boxes."""
        filled = filled_in(image, hidden) if parts else image
        known = self.always + self.boxes
        return [box for part in parts for box in self.find_text(filled, part) if not any(holds(other, box) for other in known)]

    def new(self, now: Strokes) -> NDArray[np.uint8]:
        """1 on marks outside the boxes that were not there at the last search. (h, w) of the working size."""
        assert self.seen is not None
        known = cv2.dilate(self.seen, np.ones((5, 5), np.uint8))
        for y0, x0, y1, x1 in self.always + self.boxes:
            known[int(y0 * now.scale) : ceil(y1 * now.scale), int(x0 * now.scale) : ceil(x1 * now.scale)] = 1
        return np.asarray(now.map & (1 - known), np.uint8)

    def search(self, image: Image, hidden: Mask, now: Strokes, part: Box) -> None:
        """Look for text in a part of the picture, or in all of it where a box lost its strokes; boxes whose strokes still stand stay."""
        whole = (0, 0, *image.shape[:2])
        seen = now.map.copy() if self.seen is None else self.seen
        staying = [box for box in self.boxes if stays(box, seen, now)]
        y0, x0, y1, x1 = part = part if len(staying) == len(self.boxes) else whole
        self.boxes = distinct(self.find_text(filled_in(image, hidden), part) + staying)
        there = slice(int(y0 * now.scale), ceil(y1 * now.scale)), slice(int(x0 * now.scale), ceil(x1 * now.scale))
        seen[there] = now.map[there]
        self.seen, self.age = seen, 0 if part == whole else self.age


def distinct(boxes: list[Box]) -> list[Box]:
    """The same boxes in their order, each once."""
    return list(dict.fromkeys(boxes))


def holds(outer: Box, inner: Box) -> bool:
    """Whether a box lies in another, but for the pixels by which two searches for the same line differ."""
    return all(side >= least - SAME for side, least in zip(inner[:2], outer[:2], strict=True)) and all(
        side <= most + SAME for side, most in zip(inner[2:], outer[2:], strict=True)
    )


def stays(box: Box, seen: NDArray[np.uint8], now: Strokes) -> bool:
    """Whether half of the strokes that were in a box are still there; boxes in px of the frame, `seen` in those of the map."""
    y0, x0, y1, x1 = (int(side * now.scale) for side in box)
    before, after = seen[y0 : y1 + 1, x0 : x1 + 1], now.map[y0 : y1 + 1, x0 : x1 + 1]
    return bool(before.any() and (before & after).sum() >= 0.5 * before.sum())


def rows_at(now: Strokes, new: NDArray[np.uint8], height: int, width: int) -> list[Box]:
    """The parts of a picture around the new marks that stand in rows like letters.

    `new` (h, w) of the working size, the rest in px of the frame.
    """
    if np.count_nonzero(new) < IN_ROWS or np.count_nonzero(rows := letters(now) & new) < IN_ROWS:
        return []
    near = cv2.dilate(rows, np.ones((2 * ROOM + 1, 2 * ROOM + 1), np.uint8))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(near)
    corners = [(y / now.scale, x / now.scale, (y + high) / now.scale, (x + wide) / now.scale) for x, y, wide, high, _ in boxes[1:]]
    return [(int(y0), int(x0), min(height, ceil(y1)), min(width, ceil(x1))) for y0, x0, y1, x1 in corners]


def lines_at(places: NDArray[np.uint8], scale: float, height: int, width: int) -> Box:
    """The part of a picture, from side to side, that holds all places and the rest of their lines; the whole where that is most of it.

    `places` (h, w) of the working size, `scale` from the frame's px to these.
    """
    _, y, _, high = cv2.boundingRect(places)
    if high + 2 * ROOM > places.shape[0] / 2:
        return (0, 0, height, width)
    return max(0, int((y - ROOM) / scale)), 0, min(height, ceil((y + high + ROOM) / scale)), width


def strokes(image: Image) -> Strokes:
    """Marks thinner than 11 px that are 30 grey levels brighter than what is around them (white top hat)."""
    scale = min(1.0, WORKING_SIDE / max(image.shape[:2]))
    size = size_at(image, scale)
    grey = np.asarray(cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA), np.uint8)
    marks = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, np.ones((11, 11), np.uint8))
    return Strokes((marks > 30).astype(np.uint8), grey, scale)


def still(now: Strokes, new: NDArray[np.uint8], following: Strokes) -> NDArray[np.uint8]:
    """1 where new marks, most of each, stand at the same place with the same grey in the next frame.

    Measured one second apart: at most 18 such pixels in a window of 41 x 15 where a camera moves, 50 and more in one with text.
    """
    same = new & following.map & (cv2.absdiff(now.grey, following.grey) < 16)
    if 2 * np.count_nonzero(same) < STANDING:
        return np.zeros(same.shape, np.uint8)
    labels, boxes = now.pieces
    staying = np.bincount(labels[same > 0], minlength=len(boxes)) >= 0.5 * boxes[:, cv2.CC_STAT_AREA]
    staying[0] = False
    return np.asarray(cv2.boxFilter(staying.astype(np.float32)[labels], -1, (41, 15), normalize=False) >= STANDING, np.uint8)


def letters(marks: Strokes) -> NDArray[np.uint8]:
    """The marks that stand in a row of four or more of one height on one line, as letters do and glare seldom does.

    Shape: (h, w) of the working size, 0 or 1.
    """
    labels, boxes = marks.pieces
    x, y, width, height, pixels = (boxes[:, column] for column in range(5))
    glyph = (height >= 5) & (height <= 40) & (width <= 1.6 * height + 6) & (pixels >= 0.12 * width * height)
    glyph[0] = False
    some = np.flatnonzero(glyph)[:1500]  # beyond that many the picture is foam, and the table of pairs would not fit
    bottom, tall, left = (y + height)[some], height[some], x[some]
    on_line = np.abs(bottom[:, None] - bottom) <= 0.25 * tall[:, None] + 1
    alike = np.abs(tall[:, None] - tall) <= 0.3 * tall[:, None] + 1
    after = left - left[:, None]
    row = on_line & alike & (after > 0) & (after <= 6 * tall[:, None])  # of a mark, those after it
    first = row.sum(axis=1) >= 3
    glyph[:] = False
    glyph[some[first | row[first].any(axis=0)]] = True
    return np.asarray(glyph[labels], np.uint8)


def filled_in(image: Image, hidden: Mask) -> Image:
    """The picture with what is hidden replaced by the colours around it: a black corner on tissue looks like a letter to the search."""
    if not hidden.any():
        return image
    scale = min(1.0, 64 / max(image.shape[:2]))
    size = size_at(image, scale)
    shown = np.asarray(~hidden, np.uint8)
    weight = cv2.resize(shown.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    colour = cv2.resize(cv2.copyTo(image, shown), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    total, blurred = np.zeros(weight.shape, np.float32), np.zeros(colour.shape, np.float32)
    for reach in (2, 6, 16, 40):  # near colours where there are any, farther ones elsewhere
        share = 10.0 ** -(reach**0.5)
        total += share * cv2.GaussianBlur(weight, (0, 0), reach)
        blurred += share * cv2.GaussianBlur(colour, (0, 0), reach)
    smooth = (blurred / np.maximum(total, 1e-12)[..., None]).clip(0, 255).astype(np.uint8)
    full = cv2.resize(smooth, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cast(Image, cv2.copyTo(image, shown, full))


def load_reader(threads: int) -> Any:
    """The text detector, on so many threads; it says nothing."""
    # The package logs to its own handlers at every load; a pool of actors would drown the run's log in it.
    os.environ.setdefault("ORT_LOGGING_LEVEL", "3")
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    engine = "EngineConfig.onnxruntime"
    quiet = {"Global.log_level": "critical", f"{engine}.intra_op_num_threads": threads, f"{engine}.inter_op_num_threads": 1}
    return RapidOCR(params=quiet | {f"{engine}.enable_cpu_mem_arena": True})  # a search without it spends a quarter on fetching memory


def line_height(corners: NDArray[np.int32]) -> float:
    """Length of the shorter side of a four-cornered box. `corners` (4, 2) x, y in px."""
    sides = np.linalg.norm(np.diff(corners[[0, 1, 2]].astype(np.float64), axis=0), axis=1)
    return float(sides.min())


def around(corners: NDArray[np.float64], part: Box) -> Box:
    """The upright box around four (x, y) corners, with the margin, cut at the rim of `part`."""
    x0, y0, x1, y1 = (int(side) for side in (*corners.min(axis=0), *corners.max(axis=0)))
    margin, (top, left, bottom, right) = 2 + round(MARGIN * min(y1 - y0, x1 - x0)), part
    return max(top, y0 - margin), max(left, x0 - margin), min(bottom, y1 + 1 + margin), min(right, x1 + 1 + margin)
