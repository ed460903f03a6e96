"""Single pictures of a DICOM object, uncompressed or each compressed by itself, as RGB, one at a time.

pydicom decodes them: uncompressed and RLE by itself, JPEG and JPEG 2000 by Pillow, lossless JPEG and JPEG-LS by FFmpeg (`lossless`). The
decoder is named, or another one that happens to be installed would make other pixels.
"""

import logging
import struct
import warnings
from array import array
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.clip import Clock, VideoError
from engine.dicom import elements
from engine.dicom.clocks import clock_of, decimal
from engine.dicom.colours import Shape, palette_of, rgb, shape_of
from engine.dicom.elements import Tags
from engine.dicom.fragments import Extents, Joined, bounds_of
from engine.pictures import Image

EXPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
ENCAPSULATED, RLE = "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.5"  # of the first the pictures are not compressed
JPEG = "1.2.840.10008.1.2.4."
NATIVE = dict.fromkeys(("", "1.2.840.10008.1.2", EXPLICIT, ENCAPSULATED, DEFLATED, BIG_ENDIAN), "")
LOSSLESS = dict.fromkeys((f"{JPEG}57", f"{JPEG}70", f"{JPEG}80", f"{JPEG}81"), "ffmpeg")
LOSSY = dict.fromkeys((f"{JPEG}50", f"{JPEG}51"), "pillow")
DECODERS = NATIVE | LOSSLESS | LOSSY | dict.fromkeys((f"{JPEG}90", f"{JPEG}91"), "pillow") | {RLE: "pydicom"}  # by transfer syntax

UNDECODABLE = (RuntimeError, ValueError, struct.error)  # what pydicom raises of damaged pixels


class Pictures:
    """The pictures of an object, by number; VideoError says why there are none."""

    def __init__(self, file: Any, syntax: str, tags: Tags, extents: Extents) -> None:
        self.file, self.syntax, self.tags, self.extents = file, syntax, tags, extents
        self.shape = shape_of(tags)
        refuse(tags, syntax, self.shape, extents)
        self.palette = palette_of(tags, self.shape)
        number = decimal(tags.text(elements.FRAMES))
        declared = int(number) if number is not None and 1 <= number < 2**31 else 1
        self.bounds: array[int] | None = None  # of each its first fragment; None: they are not in fragments
        if syntax in NATIVE and syntax != ENCAPSULATED:
            self.count = min(declared, 8 * sum(extents.lengths) // self.shape.bits)
        else:
            self.bounds = bounds_of(file, extents, declared, apart=syntax in (RLE, ENCAPSULATED))
            self.count = len(self.bounds) - 1
        self.height, self.width = self.shape.rows, self.shape.columns
        self.missing = extents.cut or self.count < declared
        self.clock = clock_of(tags, declared) or Clock(Fraction(1))

    def picture(self, number: int) -> Image | None:
        """None where it cannot be decoded."""
        values = decoded(*self.source(number), self.shape)
        return None if values is None else rgb(values, self.shape, self.palette)

    def source(self, number: int) -> tuple[str, Any, int, dict[str, Any]]:
        """What pydicom is to decode: a transfer syntax, where the pixels are, which of the pictures there, and what to know of them."""
        if self.bounds is None:
            assert self.tags.pixels is not None
            self.file.seek(self.tags.pixels.start)
            how = {"number_of_frames": self.count, "pixel_vr": self.tags.pixels.vr.decode() or "OW"}
            return BIG_ENDIAN if self.syntax == BIG_ENDIAN else EXPLICIT, self.file, number, how
        pieces = range(self.bounds[number], self.bounds[number + 1])
        data = Joined(self.file, self.extents, pieces).read()
        if self.syntax == ENCAPSULATED:
            return EXPLICIT, data, 0, {"number_of_frames": 1, "pixel_vr": "OW"}
        return self.syntax, encapsulated(data), 0, {"number_of_frames": 1, "decoding_plugin": DECODERS[self.syntax]}


def encapsulated(data: bytes) -> bytes:
    """The pixel data of an object of which these bytes are the only frame: an empty offset table, and one fragment."""
    data += bytes(len(data) % 2)
    return struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data


def refuse(tags: Tags, syntax: str, shape: Shape, extents: Extents) -> None:
    """Raise VideoError for pixels that no decoder here is for."""
    if tags.pixels is None or tags.pixels.tag != elements.PIXEL_DATA:
        raise VideoError("unsupported pixels", "The pixels are floating point numbers.")
    if extents.encapsulated and syntax in NATIVE and syntax != ENCAPSULATED:
        raise VideoError("damaged", "The pixel data are in fragments, which their transfer syntax does not have.")
    if syntax in LOSSY and shape.stored > 8:
        raise VideoError("unsupported pixels", f"Pillow decodes no JPEG of {shape.stored} bits.")
    if syntax in LOSSLESS and 8 < shape.stored < 16:  # FFmpeg scales them, each kind in its own way
        raise VideoError("unsupported pixels", f"{name_of(syntax)} of {shape.stored} bits is not decoded.")


def decoded(syntax: str, source: Any, index: int, how: dict[str, Any], shape: Shape) -> NDArray[Any] | None:
    """The samples of a picture, luminance and chrominance turned into RGB. (H, W) or (H, W, 3); None where they cannot be decoded."""
    about = {
        "rows": shape.rows,
        "columns": shape.columns,
        "samples_per_pixel": shape.samples,
        "bits_allocated": shape.allocated,
        "bits_stored": shape.stored,
        "pixel_representation": shape.signed,
        "planar_configuration": shape.planar,
        "photometric_interpretation": shape.colours,
        "pixel_keyword": "PixelData",
    }
    decoder = decoder_of(syntax)
    with warnings.catch_warnings():  # they quote what the object says
        warnings.simplefilter("ignore")
        try:
            return np.asarray(decoder.as_array(source, index=index, validate=False, **about, **how)[0])
        except UNDECODABLE:
            return None


@cache
def decoder_of(syntax: str) -> Any:
    """pydicom is loaded when the first picture is decoded: it takes a second, and film does without it."""
    from pydicom.pixels import get_decoder

    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # it prints what every broken picture raised, with what the object says
    decoder = get_decoder(syntax)
    if syntax in LOSSLESS:
        decoder.add_plugin("ffmpeg", ("engine.dicom.lossless", "decoded_frame"))
    return decoder


def name_of(syntax: str) -> str:
    """Of a transfer syntax that is in DICOM's dictionary; what else an object says is not repeated."""
    from pydicom.uid import UID_dictionary

    return str(UID_dictionary[syntax][0]) if syntax in UID_dictionary else "something that DICOM's dictionary does not have"
