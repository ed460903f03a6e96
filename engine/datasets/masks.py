"""Masks of one class: which pixels are foreground, by one rule whatever the format, or a sentence about what a picture holds instead.

Our choice, because sets come in 0 and 255, 0 and 1, and red on black, while class numbers and photographs must not pass for masks:

- What is stored without loss may hold two levels, black and one other, however dark it is and whatever its colour and depth. All black is
  empty; all 1, or all white, is foreground everywhere.
- What is smeared around 0 and 255 by JPEG or by a resize is cut at half. Between them lie edges alone: neither a tenth of a mask, nor any
  flat patch worth the name. (JPEG masks that are dark everywhere are empty, if others of their set are not: survey.py.)
- All else is refused: three levels or colours, a transparent part, two levels of which none is black.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from engine.datasets.pixels import decoded, lossy

FOREGROUND = 127  # masks are often JPEG, so 0 and 255 arrive smeared: brighter than this counts
BETWEEN = (32, 224)  # grey levels that are neither 0 nor 255, nor what JPEG or a resize makes of them away from an edge
SMEARED = 0.1  # share of a mask that may lie between; Kvasir-SEG's JPEG masks at 256 px: .007 at most
LEVEL = 8  # grey levels that 3x3 pixels may differ by and still be a flat patch
FLAT = 0.0005  # share of a mask that may lie between and be flat, 12x12 of 500x600 px; Kvasir-SEG's and PolypGen's have not one such pixel
TINT = 32  # levels that the channels of a grey pixel may differ by
SHOWN = 6  # levels that a sentence names
BRIGHT = "255"


class Foreground(NamedTuple):
    """What a mask of one class says is foreground, and by which level."""

    drawn: np.ndarray  # (height, width) uint8, 1 in the foreground
    level: str = ""  # of the foreground: BRIGHT for the brighter half of levels, else the level or colour itself; "": there is none
    dim: int = 0  # the brightest level of a smeared mask that has no foreground


def mask(path: Path) -> Foreground:
    """ValueError, one sentence, for what is no mask, by the rule above."""
    if lossy(path):
        refuse_tinted(path)
        return smeared(decoded(path, cv2.IMREAD_GRAYSCALE), path, lossless=False)
    pixels = opaque(decoded(path, cv2.IMREAD_UNCHANGED), path)
    refuse_no_levels(pixels, path)
    if pixels.ndim == 2:
        return levelled(pixels, path)
    if max(int(cv2.absdiff(pixels[..., 0], pixels[..., other]).max()) for other in (1, 2)) <= TINT:
        return levelled(pixels[..., 1], path)
    return coloured(pixels, path)


def opaque(pixels: np.ndarray, path: Path) -> np.ndarray:
    """The pixels without their alpha; one channel as (height, width). ValueError where the alpha says something."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if channels == 4 and np.ptp(pixels[..., 3]):
        share = float((pixels[..., 3] == 0).mean())
        raise ValueError(f"{path} is transparent in {share:.0%} of its pixels: is the mask in its alpha? Masks are black and white")
    return pixels[..., :3] if channels >= 3 else pixels.reshape(pixels.shape[:2])


def refuse_no_levels(pixels: np.ndarray, path: Path) -> None:
    """ValueError for pixels of any shape that are below 0, or no numbers at all, as signed and floating formats may hold."""
    if np.issubdtype(pixels.dtype, np.unsignedinteger):
        return
    if len(strange := pixels[~(np.isfinite(pixels) & (pixels >= 0))]):
        told = f"{strange[0]:g} and the like in {len(strange):,} of {pixels.size:,} places"
        raise ValueError(f"{path} holds {told}, which are no levels; masks hold 0 and 255")


def levelled(grey: np.ndarray, path: Path) -> Foreground:
    """Of a mask (height, width) stored without loss, of any depth. ValueError where one level is everywhere and does not say which."""
    values = np.flatnonzero(np.bincount(grey.ravel())) if grey.dtype in (np.uint8, np.uint16) else np.unique(grey)
    white = np.iinfo(grey.dtype).max if np.issubdtype(grey.dtype, np.unsignedinteger) else values[-1]
    if len(values) == 1 and values[0] not in (0, 1, white):
        raise ValueError(f"{path} holds {values[0]:g} everywhere; masks hold 0 and 255")
    if len(values) == 1 or (len(values) == 2 and values[0] == 0):
        level = f"{values[-1]:g}" if values[-1] <= white // 2 else BRIGHT
        return Foreground((grey > 0).astype(np.uint8), level if values[-1] else "")
    return smeared((grey / white * 255).astype(np.uint8) if white != 255 else grey, path, lossless=True)


def coloured(pixels: np.ndarray, path: Path) -> Foreground:
    """Of a mask (height, width, 3) stored without loss: one colour on black. ValueError for more colours."""
    blue, green, red = np.moveaxis(pixels.astype(np.int64), -1, 0)
    colours, packed = np.unique(red << 32 | green << 16 | blue, return_inverse=True)
    names = ["/".join(str(colour >> shift & 0xFFFF) for shift in (32, 16, 0)) for colour in colours[: SHOWN + 1].tolist()]
    if len(colours) != 2 or colours[0] != 0:
        raise ValueError(f"{path} holds {len(colours):,} colours ({some(names)}; red/green/blue); masks hold one colour on black")
    return Foreground(packed.reshape(pixels.shape[:2]).astype(np.uint8), names[1])


def some(names: list[str]) -> str:
    """The first of some names, as a sentence shows them."""
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)


def refuse_tinted(path: Path) -> None:
    """ValueError for a JPEG in colours, by an eighth of its side, which is quickly decoded."""
    small = decoded(path, cv2.IMREAD_REDUCED_COLOR_8).astype(np.int16)
    share = float((small.max(2) - small.min(2) > 2 * TINT).mean())
    if share > FLAT:
        raise ValueError(f"{path} is coloured in {share:.0%} of its pixels; masks that are stored as JPEG are black and white")


def smeared(grey: np.ndarray, path: Path, lossless: bool) -> Foreground:
    """Of a mask (height, width) uint8 of more than two levels. ValueError where they are no smeared 0 and 255."""
    brightest = int(grey.max())
    if brightest <= FOREGROUND and (lossless or brightest > BETWEEN[0]):
        raise ValueError(f"{path} is nowhere brighter than {brightest} and holds {held(grey)}; masks hold 0 and 255")
    if brightest <= FOREGROUND:
        return Foreground(np.zeros_like(grey), dim=brightest)
    between = (grey > BETWEEN[0]) & (grey < BETWEEN[1])
    if between.mean() > SMEARED or (between.any() and flat(grey, between).mean() > FLAT):
        told = f"{held(grey)}, {between.mean():.1%} of its pixels neither black nor white"
        raise ValueError(f"{path} holds {told}; masks hold 0 and 255")
    return Foreground((grey > FOREGROUND).astype(np.uint8), BRIGHT)


def flat(grey: np.ndarray, between: np.ndarray) -> np.ndarray:
    """Where 3x3 pixels that lie between black and white are of one level: no edge is that wide. (H, W) bool of grey (H, W) uint8."""
    around = np.ones((3, 3), np.uint8)
    level = cv2.subtract(cv2.dilate(grey, around), cv2.erode(grey, around)) <= LEVEL
    return np.asarray(level & (cv2.erode(between.astype(np.uint8), around) > 0))


def held(grey: np.ndarray) -> str:
    """How many grey levels, and the commonest. `grey`: whole numbers of any shape."""
    counts = np.bincount(grey.ravel())
    levels = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    return f"{len(levels)} grey levels ({some([str(level) for level in (sorted(levels) if len(levels) <= SHOWN else levels)])})"
