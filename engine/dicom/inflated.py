"""A deflated data set, read like the file that it was."""

import zlib
from typing import Any

BLOCK = 1 << 16  # bytes of the deflated file that are read at once, and of the inflated one that are made


class Inflated:
    """What was deflated from `start` on, inflated as it is read: never in memory as a whole, so that a bomb takes time and nothing else.

    Reading goes forward; what lies before the last read is reached by beginning again. The end of data that break off is told one byte
    behind the last that there is.
    """

    def __init__(self, file: Any, start: int) -> None:
        self.file, self.start, self.place = file, start, 0
        self.begin()

    def begin(self) -> None:
        """Start over, at the first byte."""
        self.inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self.source, self.first, self.block = self.start, 0, b""  # `block` is what was inflated last, from `first` on

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file: go to a place. Nothing moves until something is read, but from the end on, for which all is inflated once."""
        if whence == 2:
            while self.advance():
                pass
            offset += self.first + (not self.inflate.eof)
        self.place = max(0, offset + (self.place if whence == 1 else 0))
        return self.place

    def tell(self) -> int:
        """As of a file: the place at which the next read begins."""
        return self.place

    def read(self, size: int) -> bytes:
        """As of a file: up to `size` bytes; where the place lies behind, all before it is inflated once more."""
        if self.place < self.first:
            self.begin()
        parts = []
        while size > 0:
            within = self.place - self.first
            part = self.block[within : within + size]
            if not part and not self.advance():
                break
            parts.append(part)
            self.place, size = self.place + len(part), size - len(part)
        return b"".join(parts)

    def advance(self) -> bool:
        """Hold the next block instead of the last; False at the end."""
        made = self.inflated()
        self.first, self.block = self.first + len(self.block), made
        return bool(made)

    def inflated(self) -> bytes:
        """The next bytes, up to BLOCK; none at the end, or where the data is damaged."""
        while not self.inflate.eof:
            raw = self.inflate.unconsumed_tail or self.deflated()
            try:
                made = self.inflate.decompress(raw, BLOCK)
            except zlib.error:
                return b""
            if made or not raw:
                return made
        return b""

    def deflated(self) -> bytes:
        """The next bytes as they lie in the file, up to BLOCK."""
        self.file.seek(self.source)
        raw = bytes(self.file.read(BLOCK))
        self.source += len(raw)
        return raw
