"""Two random views of one picture: SimCLR's random crop, flip, colour distortion, grey and blur (arXiv 2002.05709, Appendix A).

Chance is a generator that the caller gives, or a function of seed, patch, draw and view, never of a worker or a batch. The strengths
are the paper's for ImageNet; pictures are RGB (H, W, 3) uint8.
"""

import hashlib
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.pictures import Image

Colours = NDArray[np.float32]  # (H, W, 3), 0 to 1

LEAST = 0.08  # share of the picture that a crop shows at least
RATIOS = 3 / 4, 4 / 3  # width to height of a crop
STRENGTH = 1.0  # of the colour distortion
DISTORTED, GREY, BLURRED = 0.8, 0.2, 0.5  # how often
SIGMAS = 0.1, 2.0  # px, of the blur, whose kernel is a tenth of the side


def pair(picture: Image, side: int, seed: int, patch_id: str, draw: int) -> NDArray[np.uint8]:
    """The two views (2, side, side, 3) of a draw."""
    return np.stack([view(picture, side, chance(seed, patch_id, draw, which)) for which in range(2)])


def chance(seed: int, patch_id: str, draw: int, which: int) -> np.random.Generator:
    """Chance from the seed, the patch, the draw and which of its two views; always the same for these."""
    words = f"{seed}:{draw}:{which}:{patch_id}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(words).digest(), "little"))


def view(picture: Image, side: int, rng: np.random.Generator) -> Image:
    """One view (side, side, 3): every distortion with its own probability, in the paper's order."""
    seen = flipped(resized_crop(picture, side, LEAST, rng), rng)
    if rng.random() < DISTORTED:
        seen = distorted(seen, rng)
    if rng.random() < GREY:
        seen = np.repeat(np.asarray(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, axis=2)
    if rng.random() < BLURRED:
        kernel = max(side // 10, 1) | 1
        seen = np.asarray(cv2.GaussianBlur(seen, (kernel, kernel), rng.uniform(*SIGMAS)), np.uint8)
    return seen


def resized_crop(picture: Image, side: int, least: float, rng: np.random.Generator) -> Image:
    """A part of the picture of at least the share `least`, stretched to (side, side, 3) by bicubic interpolation."""
    y, x, height, width = crop(picture.shape[0], picture.shape[1], least, rng)
    part = picture[y : y + height, x : x + width]
    return np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def crop(height: int, width: int, least: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a part with an area of `least` to all of the picture, and RATIOS; cut off where it sticks out."""
    area, ratio = height * width * rng.uniform(least, 1.0), math.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
    h, w = (max(1, min(most, round(math.sqrt(length)))) for most, length in ((height, area / ratio), (width, area * ratio)))
    return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w


def flipped(picture: Image, rng: np.random.Generator) -> Image:
    """Mirrored left to right, every second time."""
    return np.ascontiguousarray(picture[:, ::-1] if rng.random() < 0.5 else picture)


def distorted(picture: Image, rng: np.random.Generator) -> Image:
    """Brightness, contrast, saturation and hue changed, in random order."""
    changes: list[Callable[[Colours, float], Colours]] = [brightened, contrasted, saturated, turned]
    reaches = [0.8 * STRENGTH] * 3 + [0.2 * STRENGTH]
    colours = picture.astype(np.float32) / 255
    for which in rng.permutation(len(changes)):
        colours = changes[which](colours, rng.uniform(-reaches[which], reaches[which])).clip(0, 1)
    return (colours * 255).round().astype(np.uint8)


def brightened(colours: Colours, by: float) -> Colours:
    """Brighter by a share, below 0 darker; (H, W, 3)."""
    return colours * np.float32(1 + by)


def contrasted(colours: Colours, by: float) -> Colours:
    """Further from the mean grey of the picture by a share, below 0 nearer; (H, W, 3)."""
    return colours + np.float32(by) * (colours - np.float32(grey(colours).mean(dtype=np.float64)))


def saturated(colours: Colours, by: float) -> Colours:
    """Further from each pixel's own grey by a share, below 0 nearer; (H, W, 3)."""
    return colours + np.float32(by) * (colours - grey(colours))


def turned(colours: Colours, by: float) -> Colours:
    """The hue turned by a share of the colour circle."""
    hsv = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV)  # of floats: degrees, then 0 to 1
    hsv[..., 0] = (hsv[..., 0] + 360 * by) % 360
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)


def grey(colours: Colours) -> Colours:
    """Luminance (H, W, 1)."""
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), np.float32)[..., None]
