"""From the numbers of a DICOM picture to its colours: 8-bit RGB, whatever it was stored as.

The whole range of Bits Stored becomes 0 to 255; windows are a viewer's choice, and endoscopes have none.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.clip import VideoError
from engine.dicom import elements
from engine.dicom.elements import Tags
from engine.pictures import Image

COLOURS = {"RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3, "YBR_ICT": 3, "YBR_RCT": 3, "MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1}
LARGEST = 1 << 26  # pixels: a few bytes may say that they are a picture of gigabytes

Palette = list[tuple[int, NDArray[np.uint8]]]  # of red, green and blue: the number that the first entry is for, and the entries


@dataclass(frozen=True)
class Shape:
    """How a picture lies in its bytes."""

    rows: int
    columns: int
    samples: int
    allocated: int  # bits
    stored: int  # bits, of these
    signed: int
    planar: int  # 1: a plane per colour
    colours: str  # DICOM's Photometric Interpretation

    @property
    def bits(self) -> int:
        """Of a whole picture that is not compressed."""
        return self.rows * self.columns * self.allocated * (2 if self.colours == "YBR_FULL_422" else self.samples)


def shape_of(tags: Tags) -> Shape:
    """VideoError where it is incomplete, or no shape of a picture that can be shown."""
    allocated = tags.whole(elements.ALLOCATED)
    needed = tags.whole(elements.ROWS), tags.whole(elements.COLUMNS), tags.whole(elements.SAMPLES), allocated
    rest = tags.whole(elements.STORED) or allocated, tags.whole(elements.SIGNED) or 0, tags.whole(elements.PLANAR) or 0
    if None in needed or 0 in needed:
        raise VideoError("damaged", "The DICOM object does not say how large its pictures are.")
    shape = Shape(*needed, *rest, tags.text(elements.PHOTOMETRIC))  # type: ignore[arg-type]  # None was refused
    if COLOURS.get(shape.colours) != shape.samples:
        raise VideoError("unsupported pixels", f"Pictures of {shape.samples} samples a pixel in these colours cannot be shown.")
    if shape.allocated not in (1, 8, 16, 32) or not 1 <= shape.stored <= shape.allocated or max(shape.signed, shape.planar) > 1:
        raise VideoError("unsupported pixels", f"Samples with {shape.stored} of {shape.allocated} bits cannot be shown.")
    if shape.colours.startswith("YBR") and shape.stored != 8:
        raise VideoError("unsupported pixels", f"Luminance and chrominance of {shape.stored} bits cannot be shown.")
    if shape.rows * shape.columns > LARGEST:
        raise VideoError("too large", f"A picture has {shape.columns} x {shape.rows} pixels; at most {LARGEST} are decoded.")
    return shape


def palette_of(tags: Tags, shape: Shape) -> Palette | None:
    """None where the colours are no palette's."""
    if shape.colours != "PALETTE COLOR":
        return None
    pairs = zip(elements.DESCRIPTORS, elements.PALETTES, strict=True)
    return [entries_of(tags.values.get(about, b""), tags.values.get(data, b""), shape, tags.order) for about, data in pairs]


def entries_of(about: bytes, data: bytes, shape: Shape, order: str) -> tuple[int, NDArray[np.uint8]]:
    """Of one colour, as 8 bits (PS3.3 C.7.6.3.1.5). VideoError where there are none, too few, or segments."""
    if len(about) < 6:
        raise VideoError("unsupported pixels", "The palette has no entries, or is given in segments.")
    count, first, bits = struct.unpack(f"{order}H{'h' if shape.signed else 'H'}H", about[:6])
    count = count or 1 << 16
    if len(data) < count:
        raise VideoError("unsupported pixels", "The palette has fewer entries than it says, or is given in segments.")
    entries = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else "u1")[:count]
    return first, np.asarray(entries >> 8 if bits > 8 and entries.dtype.itemsize == 2 else entries, np.uint8)


def rgb(values: NDArray[Any], shape: Shape, palette: Palette | None) -> Image:
    """(H, W) or (H, W, 3) numbers of `shape` as (H, W, 3) RGB."""
    if palette is not None:
        indices = values.astype(np.int64)
        return np.stack([entries[np.clip(indices - first, 0, len(entries) - 1)] for first, entries in palette], axis=-1)
    levels = eight_bits(values, shape)
    if shape.colours == "MONOCHROME1":
        levels = np.asarray(255 - levels, np.uint8)
    return levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)


def eight_bits(values: NDArray[Any], shape: Shape) -> NDArray[np.uint8]:
    """Values of any stored depth as 0 to 255; of what is less than 8 bits deep the largest becomes 255. Of any shape, which stays."""
    if shape.stored == 8 and not shape.signed:
        return np.asarray(values, np.uint8)
    whole = values.astype(np.int64) + (shape.signed << shape.stored - 1)
    scaled = whole >> shape.stored - 8 if shape.stored >= 8 else whole * 255 // ((1 << shape.stored) - 1)
    return np.clip(scaled, 0, 255).astype(np.uint8)
