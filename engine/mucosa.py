"""The skin of a drawn colon as square textures that repeat without a seam: colour, wetness, pit pattern, slow unevenness.

Rows run along the tunnel, columns around it. Everything is a function of the seed. All constants: our choice, by eye.
"""

import cv2
import numpy as np
import numpy.typing as npt

from engine.pictures import Image

Floats = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]  # (H, W), where pictures.Image has three colours

SKIN, VESSELS, FILM, PITS, SWELL = range(5)  # streams of random numbers


def skin(seed: int, side: int) -> Image:
    """(side, side, 3) RGB: patches of pale and red mucosa with branching vessels."""
    rng = np.random.default_rng([seed, SKIN])
    patchy, fine = noise(rng, side, 4, 4), noise(rng, side, 32, 4)
    pale, red = rng.uniform((222, 140, 112), (244, 172, 146)), rng.uniform((198, 84, 64), (216, 110, 88))
    mix = np.clip(0.5 + 0.22 * patchy + 0.07 * fine, 0, 1)[..., None]
    colour = np.asarray(red + (pale - red) * (1 - mix), np.float32) * (1 + 0.055 * emboss(fine) + 0.05 * emboss(patchy))[..., None]
    blood = vessels(np.random.default_rng([seed, VESSELS]), side)[..., None] * np.float32(rng.uniform(0.3, 0.7))
    colour += (np.array((138, 38, 40), np.float32) - colour) * blood
    return np.asarray(np.clip(colour, 0, 255), np.uint8)


def film(seed: int, side: int) -> Grey:
    """(side, side) how well the mucus mirrors the lamp."""
    rng = np.random.default_rng([seed, FILM])
    drops = noise(rng, side, 110, 2) + 0.9 * noise(rng, side, 8, 3)
    return np.asarray(np.clip(50 + 48 * drops, 0, 255), np.uint8)


def pits(seed: int) -> Floats:
    """(256, 256) the mouths of the glands, -1 to 1."""
    rng = np.random.default_rng([seed, PITS])
    return np.tanh(1.5 * (noise(rng, 256, 26, 2) - 0.6 * noise(rng, 256, 13, 1))).astype(np.float32)


def swell(seed: int) -> Floats:
    """(256, 256) slow bumps of mean 0 and deviation 1."""
    return noise(np.random.default_rng([seed, SWELL]), 256, 4, 3)


def noise(rng: np.random.Generator, side: int, cells: int, octaves: int) -> Floats:
    """(side, side) periodic value noise of mean 0 and deviation 1; `cells` is the coarsest octave's number of bumps."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        grid = np.pad(rng.standard_normal((count, count)).astype(np.float32), 2, mode="wrap")
        where = (np.arange(side, dtype=np.float32) + 0.5) * np.float32(count / side) + 1.5
        x, y = np.meshgrid(where, where)
        total += cv2.remap(grid, x, y, cv2.INTER_CUBIC) * np.float32(0.55**octave)
    return np.asarray((total - total.mean()) / total.std(), np.float32)


def emboss(relief: Floats) -> Floats:
    """A relief lit along the tunnel, deviation 1."""
    slope = np.roll(relief, 2, 0) - np.roll(relief, -2, 0)
    return np.asarray(slope / slope.std(), np.float32)


def vessels(rng: np.random.Generator, side: int) -> Floats:
    """(side, side) branching vessels, 0 to 1, periodic."""
    drawn = np.zeros((side, side), np.uint8)
    for _ in range(32):
        branch(drawn, rng, rng.uniform(0, side, 2), rng.uniform(0, 2 * np.pi), side / 330)
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), side / 1100, borderType=cv2.BORDER_REFLECT) / np.float32(255), np.float32)


def branch(drawn: Grey, rng: np.random.Generator, start: npt.NDArray[np.float64], heading: float, width: float) -> None:
    """Draw one vessel that wanders and gives off thinner ones; it wraps at the texture's edges.

    `start` (2,), width and places in px of the texture.
    """
    side = len(drawn)
    points = [start]
    for _ in range(14):
        heading += rng.normal(0, 0.28)
        points.append(points[-1] + side / 75 * np.array((np.cos(heading), np.sin(heading))))
        if width > side / 1440 and rng.random() < 0.2:
            branch(drawn, rng, points[-1], heading + rng.choice((-1, 1)) * rng.uniform(0.4, 1.0), width * 0.62)
    path = np.array(points)
    near, far = np.floor(path.min(0) / side).astype(int), np.floor(path.max(0) / side).astype(int)
    for x, y in np.ndindex(*(far - near + 1)):
        line = ((path - (near + np.array((x, y))) * side) * 8).round().astype(np.int32)
        cv2.polylines(drawn, [line], False, int(min(255, 120 + 40 * width)), max(1, round(width)), cv2.LINE_AA, 3)
