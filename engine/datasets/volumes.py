"""Slices of NIfTI volumes as pictures and class numbers."""

from functools import lru_cache
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError

DARKEST, BRIGHTEST = 1, 99  # percentiles of the volume that become black and white: our choice, a few voxels of fat outshine the heart
VOLUMES = 8  # kept: the slices of a volume are read one after the other


def image(path: Path, at: int) -> np.ndarray:
    """Slice `at` (height, width, 3) uint8, three times the same grey; a volume's slices share one scale."""
    values, low, high = grey(path)
    share = (values[:, :, at].T.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.repeat((share.clip(0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)


@lru_cache(maxsize=VOLUMES)
def grey(path: Path) -> tuple[np.ndarray, float, float]:
    """Values (W, H, slices) of a volume, and those that become black and white. ValueError where it cannot be read."""
    values = voxels(path)
    low, high = np.percentile(values, (DARKEST, BRIGHTEST))
    return values, float(low), float(high)


def labels(path: Path, at: int) -> np.ndarray:
    """The class numbers (height, width) uint8 of slice `at`; ValueError for values that are none."""
    found = numbers(path)[:, :, at].T
    return np.ascontiguousarray(found)


@lru_cache(maxsize=VOLUMES)
def numbers(path: Path) -> np.ndarray:
    """Class numbers (W, H, slices) of a volume; ValueError for values that are none from 0 to 255."""
    found = voxels(path)
    whole = found.astype(np.uint8)
    if not np.array_equal(whole, found):
        raise ValueError(f"{path} holds values from {found.min():g} to {found.max():g}, expected class numbers from 0 to 255")
    return whole


def voxels(path: Path) -> np.ndarray:
    """The values (W, H, slices) of a volume; ValueError where it breaks off."""
    try:
        return np.asanyarray(opened(path).dataobj)
    except (OSError, EOFError, ImageFileError) as error:
        raise ValueError(f"{path} breaks off or cannot be read: {error}") from error


def opened(path: Path) -> nibabel.Nifti1Image:
    """A NIfTI volume, its values not yet read; ValueError where it is none of three dimensions."""
    try:
        found = nibabel.load(path)
    except (OSError, EOFError, ImageFileError) as error:
        raise ValueError(f"{path} is not a NIfTI volume that can be read") from error
    if len(found.shape) != 3:
        raise ValueError(f"{path} is of shape {found.shape}, expected a volume (width, height, slices)")
    return found


def size(path: Path) -> tuple[int, int]:
    """(width, height) of every slice, by the header."""
    width, height, _ = opened(path).shape
    return int(width), int(height)


def slices(path: Path) -> int:
    """How many slices a volume has, by the header."""
    return int(opened(path).shape[2])
