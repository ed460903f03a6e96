"""An image and what is true of its pixels, whatever file says so: a mask, one mask a class, pages, a volume, a COCO file."""

from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import tifffile

from engine.datasets import coco, masks, volumes
from engine.datasets.pixels import decoded, picture, require_whole, scaled, size_of

IGNORE = 255  # pixels of a mask where nothing counts

Coding = Literal["binary", "parts", "pages", "volume", "coco"]
Part = Literal["", "train", "test"]


class Pair(NamedTuple):
    """One image of a data set; the fields behind `group` say how its mask is written, and where the set's own split puts it.

    binary: `mask` holds two levels (masks.py). parts: a file for each class, whose pixels that are not black are of it; absent where the
    class is. pages: a TIFF with a page for each class. volume: slices of two NIfTI files, class numbers. coco: a JSON file, one for all.
    """

    name: str  # tells it from every other of the set
    image: Path
    mask: Path  # of parts: the first
    group: str = ""  # patient, video or centre that is never split; "": none is known
    part: Part = ""  # where the set's own lists put it
    coding: Coding = "binary"
    at: int = 0  # of a volume the slice, of a COCO file the image's id
    parts: tuple[tuple[int, Path], ...] = ()  # class numbers and their files; where two overlap the later one holds


class Split(NamedTuple):
    """Who is trained on and who is tested on, of one data set."""

    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    classes: tuple[str, ...] = ("foreground",)  # the foreground's; a class's number is its place + 1, and 0 is the background
    left_out: tuple[str, ...] = ()  # names of the training part that are byte for byte a test image


def image_of(pair: Pair) -> np.ndarray:
    """(height, width, 3) uint8 RGB as stored; a slice of a volume is grey."""
    return volumes.image(pair.image, pair.at) if pair.coding == "volume" else picture(pair.image)


def truth(pair: Pair) -> np.ndarray:
    """The class numbers (height, width) uint8 as stored, IGNORE where nothing counts; ValueError for a mask that is none."""
    if pair.coding == "volume":
        return volumes.labels(pair.mask, pair.at)
    if pair.coding == "coco":
        return coco.labels(pair.mask, pair.at, IGNORE)
    if pair.coding == "pages":
        return layered([(number, page > 0) for number, page in enumerate(pages(pair.mask), 1)])
    if pair.coding == "parts":
        return layered([(number, decoded(path, cv2.IMREAD_COLOR).max(2) > 0) for number, path in pair.parts])
    return masks.mask(pair.mask).drawn


def layered(layers: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Class numbers (H, W) from masks (H, W) by number; where they overlap the later one counts."""
    drawn = np.zeros(layers[0][1].shape, np.uint8)
    for number, layer in layers:
        drawn[layer] = number
    return drawn


def pages(path: Path) -> np.ndarray:
    """(classes, height, width) of a TIFF; ValueError for a file of one page or none."""
    require_whole(path)
    try:
        found = tifffile.imread(path)
    except (tifffile.TiffFileError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a TIFF with a page for each class: {error}") from error
    if found.ndim != 3:
        raise ValueError(f"{path} is of shape {found.shape}, expected a page for each class")
    return np.asarray(found)


def load(pair: Pair, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The image (side, side, 3) and its class numbers (side, side), both uint8 and stretched to the square; an empty mask is legal."""
    return scaled(image_of(pair), side), shrunk(truth(pair), side)


def shrunk(labels: np.ndarray, side: int) -> np.ndarray:
    """Every pixel is of the class that has most of its area; of two with the same, of the one with the higher number.

    Shape: (H, W) uint8 to (side, side).
    """
    present = np.unique(labels)[::-1]
    shares = [scaled(np.where(labels == number, np.uint8(255), np.uint8(0)), side) for number in present]
    return np.asarray(present[np.argmax(shares, axis=0)])


def sizes(pair: Pair) -> list[tuple[Path, tuple[int, int]]]:
    """(width, height) of the image, then of all that says what is in it; reads headers only."""
    if pair.coding == "volume":
        return [(path, volumes.size(path)) for path in (pair.image, pair.mask)]
    if pair.coding == "coco":
        return [(pair.image, size_of(pair.image)), (pair.mask, coco.size(pair.mask, pair.at))]
    return [(path, size_of(path)) for path in (pair.image, *masks_of(pair))]


def masks_of(pair: Pair) -> list[Path]:
    """The files that say what is in the image."""
    return [path for _, path in pair.parts] or [pair.mask]


def misfit(pair: Pair) -> str:
    """The sentence about a mask of another size than its image; "" where all are alike."""
    (image, right), *others = sizes(pair)
    for path, size in others:
        if size != right:
            return f"{image} is {right[0]}x{right[1]} px, but its mask {path} is {size[0]}x{size[1]} px"
    return ""


def check_sizes(pairs: list[Pair]) -> None:
    """ValueError where images and masks differ in size, or cannot be opened or break off, with how many and the first of either."""
    wrong, unread = [], []
    for pair in pairs:
        try:
            wrong += [told] if (told := misfit(pair)) else []
        except (ValueError, OSError) as error:
            unread.append(str(error))
    faults = [f"{len(wrong)} of {len(pairs)} masks are of another size than their image: {wrong[0]}"] if wrong else []
    faults += [f"{len(unread)} of {len(pairs)} pairs cannot be read: {unread[0]}"] if unread else []
    if faults:
        raise ValueError("; ".join(faults))
