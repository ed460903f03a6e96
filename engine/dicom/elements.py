"""The data elements of a DICOM object: which there are, and the values of those that decoding needs.

All others are passed over, so that no value of theirs is ever held, and none can get into a log. pydicom's own reader takes sequences of
undefined length apart as a whole even where only some tags are asked for, and its warnings quote values.
"""

import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.clip import VideoError

UNDEFINED = 0xFFFFFFFF
LONGEST = 1 << 20  # bytes of a value that is read
DEEPEST = 100  # sequences in sequences
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}  # VRs with a length of four bytes

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SYNTAX = 0x00020010
DOCUMENT, ENCRYPTED = 0x00420011, 0x04000500
FLOATS, PIXEL_DATA = (0x7FE00008, 0x7FE00009), 0x7FE00010

SAMPLES, PHOTOMETRIC, PLANAR, FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
ROWS, COLUMNS, ALLOCATED, STORED, SIGNED = 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103
DESCRIPTORS = 0x00281101, 0x00281102, 0x00281103  # of the palettes of red, green and blue
PALETTES = 0x00281201, 0x00281202, 0x00281203
FRAME_TIME, FRAME_TIMES, INCREMENT = 0x00181063, 0x00181065, 0x00280009
CINE_RATE, DISPLAY_RATE = 0x00180040, 0x00082144

PIXEL_TAGS = {SAMPLES, PHOTOMETRIC, PLANAR, FRAMES, ROWS, COLUMNS, ALLOCATED, STORED, SIGNED, *DESCRIPTORS, *PALETTES}
WANTED = PIXEL_TAGS | {FRAME_TIME, FRAME_TIMES, INCREMENT, CINE_RATE, DISPLAY_RATE}


class Coding(NamedTuple):
    """How elements are written."""

    implicit: bool  # without their VR
    order: str  # "<" or ">"


class Element(NamedTuple):
    """Where the value of an element lies; `vr` is empty where it is not written."""

    tag: int
    vr: bytes
    start: int
    length: int


@dataclass
class Tags:
    """What was found up to the pixel data."""

    order: str
    values: dict[int, bytes] = field(default_factory=dict)  # of WANTED
    there: set[int] = field(default_factory=set)  # of DOCUMENT and ENCRYPTED
    pixels: Element | None = None
    cut: bool = False  # the data end amid an element

    def whole(self, tag: int) -> int | None:
        """An unsigned short."""
        value = self.values.get(tag, b"")
        return int(struct.unpack(f"{self.order}H", value[:2])[0]) if len(value) >= 2 else None

    def text(self, tag: int) -> str:
        """The value of a tag as text; "" where there is none."""
        return text(self.values.get(tag, b""))


def text(value: bytes) -> str:
    """Bytes as text, without the padding."""
    return value.decode("ascii", "replace").strip(" \0")


def tags_of(file: Any, start: int, order: str) -> Tags:
    """What an object says of its pixels from `start` on, up to where they lie."""
    tags, coding = Tags(order), Coding(is_implicit(file, start), order)
    file.seek(start)
    while tags.pixels is None:
        before = file.tell()
        found = header(file, coding)
        if found is None:
            tags.cut = file.seek(0, 2) != before
            return tags
        if found.tag == PIXEL_DATA or found.tag in FLOATS:
            tags.pixels = found
        elif found.tag in WANTED and found.length <= LONGEST:
            tags.values[found.tag] = value(file, found)
        tags.there |= {found.tag} & {DOCUMENT, ENCRYPTED}
        pass_over(file, found, coding)
    return tags


def is_implicit(file: Any, start: int) -> bool:
    """Whether elements come without their VR, by the first one: transfer syntaxes are sometimes wrong about it, or missing."""
    file.seek(start)
    return not is_vr(file.read(6)[4:])


def is_vr(written: bytes) -> bool:
    """Whether two bytes look like the name of a value representation."""
    return written.isalpha() and written.isupper()


def header(file: Any, coding: Coding) -> Element | None:
    """The element that begins here, the file standing at its value; None where the data end."""
    head = file.read(8)
    if len(head) < 8:
        return None
    group, number = struct.unpack(f"{coding.order}HH", head[:4])
    vr, size = head[4:6], head[6:]
    if group == ITEM >> 16 or coding.implicit or not is_vr(vr):
        vr, size = b"", head[4:]
    elif vr in LONG:
        size = file.read(4)
        if len(size) < 4:
            return None
    (length,) = struct.unpack(f"{coding.order}{'H' if len(size) == 2 else 'L'}", size)
    return Element(group << 16 | number, vr, file.tell(), length)


def value(file: Any, element: Element) -> bytes:
    """The bytes of an element; fewer where the file breaks off."""
    file.seek(element.start)
    return bytes(file.read(element.length))


def pass_over(file: Any, element: Element, coding: Coding) -> None:
    """Go behind an element without reading it; one of undefined length ends at its delimiter, with others of the kind inside.

    VideoError for sequences in each other without end.
    """
    if element.length != UNDEFINED:
        file.seek(element.start + element.length)
        return
    nested = [inside(element, coding)]
    while nested and (found := header(file, nested[-1])) is not None:
        if found.tag in (ITEM_END, SEQUENCE_END):
            nested.pop()
        elif found.length == UNDEFINED:
            nested.append(inside(found, nested[-1]))
        else:
            file.seek(found.start + found.length)
        if len(nested) > DEEPEST:
            raise VideoError("damaged", f"The DICOM object has sequences in each other more than {DEEPEST} deep.")


def inside(element: Element, coding: Coding) -> Coding:
    """How what is inside an element is coded: of one whose type is unknown, implicitly and little-endian."""
    return Coding(True, "<") if element.vr == b"UN" else coding  # PS3.5 6.2.2
