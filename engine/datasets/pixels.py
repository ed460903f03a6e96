"""Pictures of a data set as arrays: read whole or refused, never turned, stretched to squares."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}  # how JPEG and PNG begin, and what stands at or near the end of a whole file
TAIL = 1024  # bytes


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) by the header; ValueError for a file that is no picture."""
    try:
        with Image.open(path) as found:
            return found.size
    except OSError as error:
        raise ValueError(f"{path} is not a picture that can be read") from error


def picture(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB as stored; ValueError for a file that is no picture, or only its beginning."""
    return np.asarray(cv2.cvtColor(decoded(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


def decoded(path: Path, colours: int) -> np.ndarray:
    # Turning by EXIF is off: masks carry no such tag, so a turned image would no longer lie under its mask.
    stored = path.read_bytes()
    if ENDS.get(stored[:2], b"") not in stored[-TAIL:]:
        raise ValueError(f"{path} cannot be decoded, it breaks off after {len(stored)} bytes: was its download interrupted?")
    found = cv2.imdecode(np.frombuffer(stored, np.uint8), colours | cv2.IMREAD_IGNORE_ORIENTATION) if stored else None
    if found is None:
        raise ValueError(f"{path} cannot be decoded, expected a picture")
    return np.asarray(found)


def scaled(image: np.ndarray, side: int) -> np.ndarray:
    shrinks = image.shape[0] >= side and image.shape[1] >= side
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
