"""Is a frame worth keeping? Its quality in five numbers (schema.QUALITY) and the verdict by the thresholds of FramesConfig.

Numbers are taken on the visible picture only: what was cut or blacked out is left out of every mean. All of them are our choice;
the variance of the Laplacian as a measure of blur is that of Pech-Pacheco et al. (ICPR 2000).
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.config import FramesConfig
from engine.pictures import Image, Mask, size_at

SIDE = 256  # px of the longest side at which sharpness is measured, so that it does not depend on the resolution
THUMB = 64  # px, side of the grey thumbnail by which frames are compared
MUCOSA_SATURATION = 100  # of 255; medians: a hand 93, Kvasir-SEG 157 (first percentile 107), PolypGen 136
DARKEST = 30  # of 255 in the brightest channel; darker pixels have no colour that could be told
BLOWN = 240  # of the middle channel: red alone is at its limit in much well-lit mucosa, red and green together show nothing

NO_REGION = "no region"  # the reason of a frame that passed, and in which the proposer found nothing
PASSED = (None, NO_REGION)  # reasons of frames that are kept


class Question(NamedTuple):
    """One thing that every frame is asked: whether a number of its quality is within a knob."""

    reason: str  # where it is not
    column: str  # of schema.QUALITY
    knob: str  # of FramesConfig
    is_most: bool  # the knob is the most that the number may be, else the least
    digits: int = 3  # behind its point in a sentence
    beside: str = ""  # what the number is measured against


QUESTIONS = (
    Question("dark", "brightness", "min_brightness", is_most=False),
    Question("glare", "glare", "max_glare", is_most=True),
    Question("out of body", "tissue", "min_tissue", is_most=False),
    Question("blurred", "sharpness", "min_sharpness", is_most=False, digits=1),
    Question("near duplicate", "change", "min_change", is_most=False, digits=4, beside=" to the last kept frame"),
)


@dataclass(frozen=True)
class Quality:
    """The columns of schema.QUALITY, and the thumbnail by which the next frame is compared with this one."""

    sharpness: float
    brightness: float
    glare: float
    tissue: float
    change: float | None  # None for the first frame: there is nothing to compare with
    thumb: NDArray[np.float32]


def measure(image: Image, hidden: Mask, last_kept: NDArray[np.float32] | None) -> Quality | None:
    """The quality of an (H, W, 3) picture where `hidden` (H, W) is false; None if nothing of it is visible."""
    small, visible = at_256(image, hidden)
    if not visible.any():
        return None
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    inside = cv2.erode(visible.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE).astype(np.bool_)
    edges = cv2.Laplacian(grey, cv2.CV_32F)[inside]
    thumb = cv2.resize(grey * visible, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return Quality(
        sharpness=float(edges.var()) if edges.size else 0.0,
        brightness=float(grey[visible].mean() / 255),
        glare=float(blown(small)[visible].mean()),
        tissue=float(mucosa(small)[visible].mean()),
        change=None if last_kept is None else float(np.abs(thumb - last_kept).mean()),
        thumb=thumb,
    )


def at_256(image: Image, hidden: Mask) -> tuple[Image, Mask]:
    """The image at SIDE px on its longer side, and which of its pixels (h, w) were not hidden."""
    scale = SIDE / max(image.shape[:2])
    size = size_at(image, scale)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    covered = cv2.resize(hidden.astype(np.float32), size, interpolation=how)
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8), np.asarray(covered == 0)


def mucosa(image: Image) -> Mask:
    """Where a pixel has the colour of mucosa: red to yellow, and more so than pale skin, paper or metal under the same light.

    Very dark pixels have no colour and count as none. Dyed mucosa does not count, so the threshold has to leave room for it.
    """
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    return np.asarray(((hue <= 25) | (hue >= 165)) & (saturation >= MUCOSA_SATURATION) & (value >= DARKEST))


def blown(image: Image) -> Mask:
    """Where a pixel is over-exposed: by the middle one of its channels."""
    red, green, blue = cv2.split(image)
    middle = cv2.max(cv2.min(red, green), cv2.min(cv2.max(red, green), blue))
    return np.asarray(middle >= BLOWN)


def reason(quality: Quality, config: FramesConfig) -> tuple[str, str] | None:
    """Why the frame is rejected, as a word and a sentence; None: it is kept. The first fault in the order of QUESTIONS counts."""
    for asked in QUESTIONS:
        number, limit = getattr(quality, asked.column), getattr(config, asked.knob)
        if number is not None and (number > limit if asked.is_most else number < limit):
            side = "above" if asked.is_most else "below"
            return asked.reason, f"{asked.column} {number:.{asked.digits}f}{asked.beside} is {side} frames.{asked.knob}={limit}"
    return None
