"""What a patch shows whatever the scorer: its contrast, and the shares of it that are no mucosa (schema.APPEARANCE).

Measured on the JPEG as it is stored, at its own size, so that whoever measures again gets the same numbers. Which pixels count as blown
out and which as mucosa is for the gate to say.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import gate, schema
from engine.pictures import STD

BLACK = 4  # of 255 in every channel: border and text are hidden by zeros, half of which a JPEG of quality 95 leaves so; lumen is brighter
DEVIATION = 255 * np.array(STD)  # by which difficulty is measured too

# Shares of a patch above which it is an artefact. The first two were tried on random crops of Kvasir-SEG and PolypGen, of which the 64
# hardest that stayed below were polyps, bleeding, vessels, stool and folds, and the 64 hardest of all nearly all artefacts. The third is
# our choice: stool and a snare beside tissue may stay.
LIMITS = {"black": 0.005, "glare": 0.01, "foreign": 0.2}

Numbers = NDArray[np.float32]  # (B, 4) in the order of schema.APPEARANCE


def measure(picture: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """variance, black, glare and foreign of an RGB picture (H, W, 3).

    The variance is the squared error of the best constant picture, in the units of the difficulty. Black and glare are shares of all
    pixels, foreign the share without the colour of mucosa among those pixels that are neither and not too dark to have a colour.
    """
    _, deviations = cv2.meanStdDev(picture)
    black, blown = highest(picture) < BLACK, gate.blown(picture)
    coloured = (highest(picture) >= gate.DARKEST) & ~blown
    foreign = int(np.count_nonzero(coloured & ~gate.mucosa(picture))) / max(int(np.count_nonzero(coloured)), 1)
    return float(((deviations.ravel() / DEVIATION) ** 2).mean()), float(black.mean()), float(blown.mean()), foreign


def rows(measured: Iterable[tuple[float, float, float, float]]) -> Numbers:
    """What `measure` gave for several pictures, a row each."""
    return np.array(list(measured), np.float32).reshape(-1, len(schema.APPEARANCE))


def column(numbers: Numbers, absent: NDArray[np.bool_] | None = None) -> pa.Array:
    """The rows (N, 4) as a struct (schema.SEEN), null where nothing was there to see."""
    columns = [pa.array(column) for column in np.ascontiguousarray(numbers.T)]
    return pa.StructArray.from_arrays(columns, fields=schema.APPEARANCE, mask=None if absent is None else pa.array(absent))


def highest(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The brightest channel of every pixel (H, W)."""
    red, green, blue = cv2.split(picture)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
