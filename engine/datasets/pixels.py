"""Pictures of a data set as arrays: read whole or refused, never turned, stretched to squares."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tifffile
from PIL import Image

ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}  # how JPEG and PNG begin, and what stands at or near the end of a whole file
TAIL = 1024  # bytes
HOLE = 1024  # bytes: our choice, downloaders write in blocks of four times as many
TIFFS = (b"II*\x00", b"MM\x00*")  # how a TIFF begins: with the order of its bytes


def is_picture(path: Path) -> bool:
    """By its ending, and not hidden; looks into no file."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) by the header; ValueError for a file that is no picture, or only its beginning."""
    require_whole(path)
    try:
        with Image.open(path) as found:
            return found.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a picture that can be read ({path.stat().st_size:,} bytes)") from error


def require_whole(path: Path) -> None:
    """ValueError for a file that lacks what its own beginning announces, or its end; decodes nothing."""
    with path.open("rb") as file:
        head, size = file.read(16), file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        ends = ENDS.get(head[:2], b"") in file.read()
    if not size:
        raise ValueError(f"{path} is empty: was its download interrupted?")
    if not ends or announced(path, head, size) > size:
        raise ValueError(f"{path} cannot be decoded, it breaks off after {size:,} bytes: was its download interrupted?")


def holed(path: Path) -> str:
    """The sentence about a JPEG of whose pixels a part was never written, as downloads in several parts leave it; "" for anything else.

    Decoders read one with a warning that Python is not told. HOLE bytes of 0 are no pixels, unless the commonest code of its tables
    begins with zeros and ends a block: then a black border is written so, and the picture passes. Reads the file and decodes nothing.
    """
    with path.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return ""
        data = file.read()
    at, ends = 0, False
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        length = int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == 0xC4:
            ends |= any(kind >= 0x10 and first == 0 for kind, first in tables(data[at + 4 : at + 2 + length]))
        at += 2 + length
    hole = data.find(bytes(HOLE), at)
    told = f"{path} holds nothing from byte {hole + 2:,} on for {HOLE:,} bytes at least: was its download interrupted?"
    return told * (hole > 0 and not ends)


def tables(segment: bytes) -> Iterator[tuple[int, int]]:
    """Of every Huffman table of a segment its kind, 16 and more for what follows a block's first number, and what its zeros stand for."""
    while len(segment) > 17:
        yield segment[0], segment[17]
        segment = segment[17 + sum(segment[1:17]) :]


def announced(path: Path, head: bytes, size: int) -> int:
    """The least bytes that a file of such a beginning has in all; 0 where it does not say."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:2] == b"BM":
        return int.from_bytes(head[2:6], "little")
    if head[:4] in TIFFS:
        end = last_directory(path, head, size)
        return end if end > size else last_strip(path)
    return 0


def last_directory(path: Path, head: bytes, size: int) -> int:
    """Where the directories of a TIFF end, each of which names the next; at the first that lies beyond the file."""
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    end, named, seen = 8, 4, {0}
    with path.open("rb") as file:
        while end <= size:
            file.seek(named)
            if (place := int.from_bytes(file.read(4), order)) in seen:
                break
            seen.add(place)
            file.seek(place)
            named = place + 2 + 12 * int.from_bytes(file.read(2), order)
            end = max(end, named + 4)
    return end


def last_strip(path: Path) -> int:
    """Where the pixels of a TIFF end, by directories that are all there; 0 where they cannot be read, which decoding tells."""
    try:
        with tifffile.TiffFile(path) as found:
            return max(start + count for page in found.pages for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    except (tifffile.TiffFileError, OSError, ValueError, struct.error):
        return 0


def lossy(path: Path) -> bool:
    """True for JPEG and for WebP that is not stored without loss, by the first bytes."""
    with path.open("rb") as file:
        head = file.read(64)
    return head[:2] == b"\xff\xd8" or (head[:4] == b"RIFF" and head[8:12] == b"WEBP" and b"VP8L" not in head)


def picture(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB as stored; ValueError for a file that is no picture, or only its beginning."""
    return np.asarray(cv2.cvtColor(decoded(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


def decoded(path: Path, colours: int) -> np.ndarray:
    """What OpenCV makes of a file by its flag `colours`; ValueError as of `picture`. (H, W) or (H, W, C), of the file's own depth."""
    # Turning by EXIF is off: masks carry no such tag, so a turned image would no longer lie under its mask.
    require_whole(path)
    try:
        found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), colours | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # larger than OpenCV's limit
        found = None
    if found is None:
        raise ValueError(f"{path} cannot be decoded, expected a picture")
    return np.asarray(found)


def scaled(image: np.ndarray, side: int) -> np.ndarray:
    """(side, side, ...) uint8 of an image (height, width, ...) that is stretched to the square."""
    shrinks = image.shape[0] >= side and image.shape[1] >= side
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
