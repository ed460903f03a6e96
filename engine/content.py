"""Where the endoscope's picture is inside a video frame: everything else (panels, patient text, insets) never leaves this file.

A processor draws a round, octagonal or rectangular picture on a black, grey or white panel and puts text, a thumbnail or the
coloured square of a position finder beside it or over it. All thresholds are our choice, made on Kvasir-SEG and PolypGen.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.pictures import Box, Image, Mask, bounds, size_at

WORKING_SIDE = 512  # px: thin letters blur away when the area is looked for, and one picture costs some 10 ms
GRID = 128  # cells along the longer side in which the clean rectangle is looked for
PANEL_RISE = 12  # grey levels above the panel's own that noise and JPEG ringing reach
DARKEST_PANEL, BRIGHTEST_PANEL = 8, 33  # grey levels: below, every camera is noise; a corner above is picture
CLEAN_ENOUGH = 0.75  # share of the picture that a rectangle without corners must keep to be preferred
DRAWN_PIXELS = 12  # the dot of an i; the coloured fringe of a glare spot is smaller
INSET = 0.003  # share of the frame that the coloured square of a position finder covers at least
MIN_PICTURE = 0.02  # share of the frame; a smaller patch of light is no picture


def find_content(frames: Sequence[Image]) -> tuple[Box, Mask]:
    """The box of the endoscope's picture and, inside the box, the (y1 - y0, x1 - x0) mask that is true on the picture.

    `frames` are a few moments of one video with the same size, or a single image. The box is the largest rectangle that holds
    nothing but picture if that keeps at least three quarters of it (panel corners are what a rebuild finds hardest, so a clean
    crop is worth some rim), else the picture's bounding box, whose corners are false in the mask (an inscribed square would
    lose 36% of a round picture). Without any light the box is the whole frame: such frames fail the gate, not the cut.
    """
    height, width = frames[0].shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    small = [shrink(frame, scale) for frame in frames]
    picture = picture_mask(small)
    if picture.all() or picture.mean() < MIN_PICTURE:
        return (0, 0, height, width), np.ones((height, width), np.bool_)
    full = cv2.resize(picture.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    clean = largest_rectangle(full)
    y0, x0, y1, x1 = clean if area(clean) >= CLEAN_ENOUGH * full.sum() else bounds(full)
    return (y0, x0, y1, x1), full[y0:y1, x0:x1]


def shrink(frame: Image, scale: float) -> Image:
    """A frame (H, W, 3) scaled by the mean of the pixels that fall together."""
    if scale == 1:
        return frame
    return np.asarray(cv2.resize(frame, size_at(frame, scale), interpolation=cv2.INTER_AREA), np.uint8)


def median(frames: Sequence[Image]) -> Image:
    """The upper median over time, pixel by pixel, in 8 bits throughout: eight frames of 2160 lines are 200 MB as they are."""
    return np.asarray(np.sort(np.stack(frames), axis=0)[len(frames) // 2], np.uint8)


def picture_mask(frames: Sequence[Image]) -> Mask:
    """True where the endoscope's light falls, in one connected piece without the coloured insets drawn over it."""
    panel = panel_mask(frames)
    insets = inset_mask(frames)
    lit = ~panel & ~insets
    if lit.all():
        return lit
    side = max(3, round(max(lit.shape) * 0.014) | 1)  # wider than a stroke of a letter, narrower than any picture
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    edged = cv2.copyMakeBorder(lit.astype(np.uint8), side, side, side, side, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(edged, cv2.MORPH_OPEN, kernel)[side:-side, side:-side]
    piece = filled(largest_piece(opened)) & ~insets
    return inner(piece)


def panel_mask(frames: Sequence[Image]) -> Mask:
    """True on the dark or white surface around the picture: what reaches the frame's edge without crossing light.

    A dark lumen is no panel because some frame of the video lights it, or because its rim is lit; a lumen that lies at the edge
    of a single image is cut, which costs pixels that show nothing.
    """
    stack = np.stack([frame.max(axis=2) for frame in frames])
    ordered = np.sort(stack, axis=0)
    light = ordered[round(0.8 * (len(frames) - 1))]  # not the maximum: one flash or start screen must not open the panel
    rim = rim_of(light)
    dark = touches_edge(cv2.medianBlur(light, 3) <= panel_level(light) + PANEL_RISE, rim)
    white = np.stack([frame.min(axis=2) for frame in frames]).min(axis=0) >= 250
    paper = large_pieces(touches_edge(white, rim), least=white.size // 100)  # a spot of glare at the edge is no panel
    return np.asarray(dark | (paper > 0))


def rim_of(image: NDArray[Any]) -> int:
    """Pixels that count as the frame's edge: a line drawn along it does not part the panel from it. Image (H, W) or (H, W, C)."""
    return max(2, round(0.025 * int(max(image.shape))))


def panel_level(light: NDArray[np.uint8]) -> int:
    """Grey level of the panel: the brightest of the frame's corners that are dark enough to be one. 0 to 255, of light (H, W)."""
    side = max(2, min(light.shape) // 40)
    corners = [light[ys, xs] for ys in (slice(side), slice(-side, None)) for xs in (slice(side), slice(-side, None))]
    levels: list[int] = [int(np.median(corner)) for corner in corners]
    brightest: int = max((level for level in levels if DARKEST_PANEL < level <= BRIGHTEST_PANEL), default=DARKEST_PANEL)
    return brightest


def inset_mask(frames: Sequence[Image]) -> Mask:
    """True on flat squares of pure green or blue, as position finders draw them: no tissue, dyed or not, is that flat."""
    middle = median(frames)
    hue, saturation, value = cv2.split(cv2.cvtColor(middle, cv2.COLOR_RGB2HSV))
    coloured = (hue > 70) & (hue < 130) & (saturation > 110) & (value > 60)
    if np.count_nonzero(coloured) < INSET * coloured.size:
        return np.zeros(coloured.shape, np.bool_)
    grey = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY).astype(np.float32)
    spread = cv2.blur(grey * grey, (5, 5)) - cv2.blur(grey, (5, 5)) ** 2
    flat = cv2.morphologyEx((coloured & (spread < 16)).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    insets = np.zeros(flat.shape, np.bool_)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    margin = max(3, round(0.012 * max(flat.shape)))  # the inset's own frame line
    for x, y, width, height, pixels in boxes[1:]:
        if pixels >= INSET * flat.size and pixels >= 0.5 * width * height:
            insets[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin] = True
    return insets


def overlay_mask(image: Image) -> Mask:
    """True on what software drew over a picture: boxes, outlines and letters in pure colours, and flat coloured insets.

    Two marks give drawing away: an area of a hue and purity that tissue lacks, and a thin line purer than both its sides.
    They hide 0.09% of the picture of Kvasir-SEG and 0.04% of PolypGen's, most of it rims of glare and blood.
    """
    height, width = image.shape[:2]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    pure = cv2.inRange(hsv, np.array([40, 170, 120]), np.array([164, 255, 255]))  # not red, for fresh blood is pure too: see `thin`
    lines = large_pieces(pure | thin(image, hsv), DRAWN_PIXELS)
    if lines.any():
        lines = cv2.dilate(blotted(lines), np.ones((5, 5), np.uint8))  # with their blurred rim
    insets = inset_mask([shrink(image, min(1.0, WORKING_SIDE / max(height, width)))])
    if insets.any():
        lines = lines | cv2.resize(insets.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return lines.astype(np.bool_)


def thin(image: Image, hsv: Image) -> NDArray[np.uint8]:
    """Not 0 where a pure colour, red too, is purer than both sides of a line it may be a part of. (H, W)."""
    ranges = [((0, 150, 150), (8, 255, 255)), ((28, 150, 150), (164, 255, 255)), ((172, 150, 150), (255, 255, 255))]
    coloured = np.bitwise_or.reduce([cv2.inRange(hsv, np.array(low), np.array(high)) for low, high in ranges])
    if not coloured.any():
        return np.asarray(coloured, np.uint8)
    red, green, blue = cv2.split(image)  # numpy's max over the last axis takes twenty times as long
    purity = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    side = max(7, round(0.012 * max(purity.shape)) | 1)  # wider than a drawn line
    sharper = cv2.morphologyEx(purity, cv2.MORPH_TOPHAT, np.ones((side, side), np.uint8)) > 40
    return np.asarray(coloured * sharper, np.uint8)


def blotted(drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The marks with the gaps in and between letters closed: a word blacked out in its own shape can still be read. (H, W) to the same."""
    height, width = max(3, round(0.04 * max(drawn.shape))), max(5, round(0.06 * max(drawn.shape)))
    edged = cv2.copyMakeBorder(drawn, height, height, width, width, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(edged, cv2.MORPH_CLOSE, np.ones((height, width), np.uint8))
    return np.asarray(closed[height:-height, width:-width])


def large_pieces(mask: NDArray[Any], least: int) -> NDArray[np.uint8]:
    """1 on the connected pieces of at least `least` pixels of what is not 0. (H, W) to the same."""
    if not mask.any():
        return np.zeros(mask.shape, np.uint8)
    marks = mask.astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStatsWithAlgorithm(marks, 8, cv2.CV_32S, cv2.CCL_GRANA)  # thrice as fast
    large = boxes[:, cv2.CC_STAT_AREA] >= least
    large[0] = False
    return np.asarray(large[labels], np.uint8)


def touches_edge(mask: Mask, rim: int = 1) -> Mask:
    """The connected pieces of `mask` that come within `rim` pixels of the frame's edge."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    reached = np.zeros(count, np.bool_)
    for side in (labels[:rim], labels[-rim:], labels[:, :rim], labels[:, -rim:]):
        reached[side.ravel()] = True
    reached[0] = False
    return np.asarray(reached[labels])


def largest_piece(mask: NDArray[np.uint8]) -> Mask:
    """The largest piece of a mask (H, W) whose pixels touch by a side; nothing where the mask is empty."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if len(boxes) == 1:
        return np.zeros(mask.shape, np.bool_)
    return np.asarray(labels == 1 + int(np.argmax(boxes[1:, cv2.CC_STAT_AREA])))


def filled(mask: Mask) -> Mask:
    """`mask` with its holes: a dark spot inside the picture is picture."""
    return ~touches_edge(~mask, rim_of(mask))


def inner(mask: Mask) -> Mask:
    """`mask` without its outermost pixels where it borders on panel: they are half panel. The frame's own edge stays."""
    return np.asarray(cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE).astype(np.bool_))


def area(box: Box) -> int:
    """Pixels in a box (y0, x0, y1, x1)."""
    return (box[2] - box[0]) * (box[3] - box[1])


def largest_rectangle(mask: Mask) -> Box:
    """The largest box without a false pixel, to the precision of GRID cells; (0, 0, 0, 0) where there is none."""
    cell = max(1, -(-max(mask.shape) // GRID))
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % cell), (0, -width % cell)), constant_values=True)  # a cut cell counts by what it holds
    cells = np.asarray(padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell).all(axis=(1, 3)))
    best: Box = (0, 0, 0, 0)
    tall = np.zeros(cells.shape[1], np.int64)  # true cells upwards from this row
    for bottom in range(1, len(cells) + 1):
        tall = np.where(cells[bottom - 1], tall + 1, 0)
        best = max(best, widest_below(tall.tolist(), bottom), key=area)
    y0, x0, y1, x1 = (side * cell for side in best)
    return y0, x0, min(y1, height), min(x1, width)


def widest_below(tall: list[int], bottom: int) -> Box:
    """Largest box under a skyline of column heights that ends at row `bottom` (the stack of rising columns)."""
    best: Box = (0, 0, 0, 0)
    rising: list[tuple[int, int]] = []  # (first column, height)
    for column, height in enumerate([*tall, 0]):
        start = column
        while rising and rising[-1][1] >= height:
            start, tallest = rising.pop()
            best = max(best, (bottom - tallest, start, bottom, column), key=area)
        rising.append((start, height))
    return best
