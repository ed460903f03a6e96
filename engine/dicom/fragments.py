"""Encapsulated pixel data: where its fragments lie, which of them make a frame, and all of them as one file.

PS3.5, A.4. Nothing but headers of eight bytes is read to know that; a table of offsets is believed where it fits what was found.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

from engine.dicom.elements import ITEM, SEQUENCE_END, UNDEFINED, Tags

LONGEST = 1 << 26  # bytes of an offset table: sixteen million frames
MARKS = (b"\xff\xd8", b"\xff\x4f")  # with which a JPEG and a JPEG 2000 stream begin


@dataclass
class Extents:
    """Pieces of a file, in order."""

    encapsulated: bool
    starts: "array[int]" = field(default_factory=lambda: array("Q"))
    lengths: "array[int]" = field(default_factory=lambda: array("Q"))
    table: tuple[int, int] = (0, 0)  # where the Basic Offset Table lies, and its length
    cut: bool = False  # the file ends, or is nonsense, before the delimiter
    partial: bool = False  # and the last piece lacks its end

    def add(self, start: int, length: int, size: int) -> None:
        """Take a piece, or what a file of `size` bytes has of it."""
        self.cut = start + length > size
        if size > start and length:
            self.starts.append(start)
            self.lengths.append(min(length, size - start))
            self.partial = self.cut


def extents_of(file: Any, tags: Tags) -> Extents:
    """Where the pixel data lie; those of a defined length are one piece."""
    assert tags.pixels is not None
    _, _, place, length = tags.pixels
    size = file.seek(0, 2)
    found = Extents(length == UNDEFINED)
    if length != UNDEFINED:
        found.add(place, length, size)
        return found
    first = place
    while not found.cut:
        file.seek(place)
        head = file.read(8)
        tag, length = item(head) if len(head) == 8 else (0, 0)
        if tag == SEQUENCE_END:
            break
        if tag != ITEM or length == UNDEFINED:
            found.cut = True
        elif place == first:
            found.table, found.cut = (place + 8, length), place + 8 + length > size
        else:
            found.add(place + 8, length, size)
        place += 8 + length
    return found


def item(head: bytes) -> tuple[int, int]:
    """Tag and length in bytes of an item, from its 8 first bytes."""
    group, number, length = struct.unpack("<HHL", head)
    return group << 16 | number, length


def bounds_of(file: Any, extents: Extents, declared: int, apart: bool) -> "array[int]":
    """Of each frame its first piece, and behind the last frame the end; `apart`: the transfer syntax gives every frame one fragment.

    One piece each where there are as many as frames are declared; else by the offset table where it fits; else all for the only frame, or
    by the marks with which JPEG streams begin. A frame that the file breaks off in is left out.
    """
    count = len(extents.starts)
    found = None if not extents.encapsulated or apart or count == declared > 1 else tabled(file, extents, declared)
    if found is None:
        bounds = array("Q", range(count + 1))
    elif declared == 1 and len(found) < 2:
        bounds = array("Q", [0, count])
    else:
        marked = found or (number for number in range(count) if number == 0 or begins(file, extents, number))
        bounds = array("Q", [*marked, count])
    return bounds[:-1] if extents.partial else bounds


def tabled(file: Any, extents: Extents, declared: int) -> "array[int]":
    """The first pieces of the frames by the Basic Offset Table; none where it is empty, or is not of these fragments."""
    (place, length), found = extents.table, array("Q")
    if not 4 <= length <= min(LONGEST, 4 * max(declared, len(extents.starts))):
        return found
    file.seek(place)
    raw = file.read(length - length % 4)
    first = place + length + 8
    for (offset,) in struct.iter_unpack("<L", raw):
        if extents.cut and first + offset > extents.starts[-1]:
            break  # what lies behind the end is missing, not wrong
        number = bisect_left(extents.starts, first + offset)
        known = number < len(extents.starts) and extents.starts[number] == first + offset
        if not known or (number <= found[-1] if found else number != 0):
            return array("Q")
        found.append(number)
    return found


def begins(file: Any, extents: Extents, number: int) -> bool:
    """Whether the fragment `number` begins with a mark of JPEG's start."""
    file.seek(extents.starts[number])
    return file.read(2) in MARKS


class Joined:
    """Pieces of a file, those of `numbers` or all, read as one."""

    def __init__(self, file: Any, extents: Extents, numbers: range | None = None) -> None:
        self.file, self.place, self.offsets = file, 0, array("Q", [0])
        chosen = slice(numbers.start, numbers.stop) if numbers is not None else slice(None)
        self.starts, self.lengths = extents.starts[chosen], extents.lengths[chosen]
        for length in self.lengths:
            self.offsets.append(self.offsets[-1] + length)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file: go to a place, counted from the start, from here or from the end."""
        self.place = max(0, offset + (0, self.place, self.offsets[-1])[whence])
        return self.place

    def tell(self) -> int:
        """As of a file: the place at which the next read begins."""
        return self.place

    def read(self, size: int = -1) -> bytes:
        """As of a file: up to `size` bytes, all that are left where it is below 0."""
        left = self.offsets[-1] - self.place
        size = left if size < 0 else min(size, left)
        parts = []
        while size > 0:
            number = bisect_right(self.offsets, self.place) - 1
            within = self.place - self.offsets[number]
            self.file.seek(self.starts[number] + within)
            part = self.file.read(min(size, self.lengths[number] - within))
            if not part:
                break  # the file has become shorter
            parts.append(part)
            self.place, size = self.place + len(part), size - len(part)
        return b"".join(parts)
