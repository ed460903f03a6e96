"""Pictures: what they are in memory, and as bytes and back by one codec with one setting, so that the same pixels are the same row."""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Mask = NDArray[np.bool_]  # (H, W)
Box = tuple[int, int, int, int]  # y0, x0, y1, x1 in pixels, half open

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, RGB from 0 to 1, by which models see
RESIZED = "area-then-bilinear"  # the rule of `square`, on which scores and embeddings depend


def decode(jpeg: bytes) -> np.ndarray:
    """RGB pixels (height, width, 3) uint8; ValueError where the bytes are no picture."""
    try:
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    except cv2.error:  # larger than OpenCV's limit
        picture = None
    if picture is None:
        raise ValueError(f"{len(jpeg)} bytes are not a picture that can be decoded")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def encode(image: np.ndarray, quality: int) -> bytes:
    """RGB (height, width, 3) uint8 as JPEG of a `quality` from 1 to 100; ValueError where OpenCV cannot make one."""
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {image.shape} cannot be encoded")
    return bytes(jpeg.tobytes())


def bounds(mask: Mask) -> Box:
    """The smallest box around a mask that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def size_at(picture: np.ndarray, scale: float) -> tuple[int, int]:
    """(width, height), as OpenCV has them, of a picture scaled so: a pixel at least."""
    height, width = picture.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def square(picture: np.ndarray, side: int) -> np.ndarray:
    """Stretched to (side, side, 3): first shrunk by area, which leaves no aliasing, then enlarged bilinearly. Our choice."""
    height, width = picture.shape[:2]
    shrunk = cv2.resize(picture, (min(width, side), min(height, side)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def patch(patch_id: str, jpeg: bytes | None) -> np.ndarray:
    """The pixels of a patch; ValueError that names it where they cannot be decoded, which is a bug, since they are our own.

    Shape: (h, w, 3) uint8 RGB.
    """
    try:
        return decode(jpeg or b"")
    except ValueError as error:
        raise ValueError(f"patch {patch_id}: {error}, expected the JPEG that was cut out of its frame") from error
