"""DICOM endoscopy objects, read like any video: what film or pictures an object holds, and nothing that is said of the patient.

`film` is an encapsulated MPEG-2, H.264 or HEVC stream and goes the way of a video file; `pictures` are single frames, uncompressed or each
compressed by itself, read one at a time by number. Of the pixel data no more is in memory than one frame needs, and 24 bytes per fragment
that say where it lies; to know that, the headers of all fragments, 8 bytes each, are read whenever an object is opened. Times are told by
the tags of DICOM's Cine module, see `clocks`, and film in a container has that one's own.

Every object is a source of its own, those of one study or one folder, too: which belong together, and in what order, only identifiers of
patient, study and series would tell, and these are not read; endoscopic stills are shots, not a sequence. The text in a frame is searched
for as in every frame: Burned In Annotation is not even read.

    elements   the tags, and nothing else of an object
    fragments  where its pixels lie
    inflated   what was deflated
    clocks     when frames are shown
    pictures   single pictures
    colours    these in RGB
    lossless   JPEGs that pydicom leaves to others
"""

from typing import Any, NamedTuple

from engine.clip import Clock, VideoError
from engine.dicom import elements
from engine.dicom.clocks import clock_of, even
from engine.dicom.elements import Coding, Tags, header, tags_of
from engine.dicom.fragments import Extents, Joined, extents_of
from engine.dicom.inflated import Inflated
from engine.dicom.pictures import BIG_ENDIAN, DECODERS, DEFLATED, Pictures, name_of

FILMS = range(100, 109)  # 1.2.840.10008.1.2.4.*: MPEG-2, MPEG-4 AVC/H.264, HEVC/H.265; fragmentable ones end in .1
WITHOUT_PREAMBLE = b"\x02\x00\x00\x00UL\x04\x00"  # (0002,0000), with which a file meta group begins


class Film(NamedTuple):
    """An encapsulated stream."""

    file: Any  # all fragments as one file
    cut: bool  # the pixel data break off
    clock: Clock | None  # None: the tags say nothing that can be used


def is_dicom(head: bytes) -> bool:
    """By the first 132 bytes. Without a preamble only what begins with file meta information: other data sets begin like anything else."""
    return head[128:132] == b"DICM" or head.startswith(WITHOUT_PREAMBLE)


def read(file: Any) -> Film | Pictures | None:
    """What an open binary file holds; None where it is no DICOM object, VideoError where that holds nothing that can be decoded."""
    file.seek(0)
    head = file.read(132)
    if not is_dicom(head):
        return None
    syntax, start = meta(file, 132 if head[128:] == b"DICM" else 0)
    if syntax and not is_film(syntax) and syntax not in DECODERS:
        raise VideoError("unsupported transfer syntax", f"The pixels are stored as {name_of(syntax)}, for which there is no decoder here.")
    if syntax == DEFLATED:
        file, start = Inflated(file, start), 0
    tags = tags_of(file, start, ">" if syntax == BIG_ENDIAN else "<")
    refuse_empty(tags)
    extents = extents_of(file, tags)
    refuse_cut(extents)
    if not is_film(syntax):
        return Pictures(file, syntax, tags, extents)
    return Film(Joined(file, extents), extents.cut, clock_of(tags))


def is_film(syntax: str) -> bool:
    """Whether a transfer syntax holds film, as MPEG or H.264, rather than pictures."""
    root, _, rest = syntax.partition("1.2.840.10008.1.2.4.")
    return not root and rest.partition(".")[0] in {str(number) for number in FILMS}


def meta(file: Any, start: int) -> tuple[str, int]:
    """The transfer syntax, "" where none is named, and where the data set begins. VideoError for an object that breaks off."""
    syntax, coding = "", Coding(False, "<")
    file.seek(start)
    while (found := header(file, coding)) is not None and found.tag >> 16 == 2:
        start = found.start + found.length
        if found.tag == elements.SYNTAX:
            written = elements.value(file, found)
            if len(written) < found.length:
                raise VideoError("truncated", "The DICOM object breaks off in its first lines.")
            syntax = elements.text(written)
        file.seek(start)
    return syntax, start


def refuse_empty(tags: Tags) -> None:
    """VideoError, with why, for an object without pixel data."""
    if tags.pixels is not None:
        return
    if elements.DOCUMENT in tags.there:
        raise VideoError("encapsulated document", "The DICOM object is a document in a wrapping, not a picture.")
    if tags.cut:
        raise VideoError("truncated", "The DICOM object breaks off before its pixel data.")
    if elements.ENCRYPTED in tags.there:
        raise VideoError("encrypted", "The DICOM object has encrypted attributes and no pixel data beside them.")
    raise VideoError("no pixel data", "The DICOM object holds no pixel data.")


def refuse_cut(extents: Extents) -> None:
    """VideoError for pixel data without the start of a frame."""
    if not extents.starts:
        reason, rest = ("truncated", "break off before the first frame") if extents.cut else ("no frames", "are empty")
        raise VideoError(reason, f"The pixel data {rest}.")


def judge(pictures: Pictures, decoded: int, broken: int) -> None:
    """As clip.judge: VideoError where pictures are missing or damaged; only what was decoded is judged."""
    if pictures.missing:
        raise VideoError("truncated", f"The pixel data break off or are fewer than declared; {decoded} frames before that were kept.")
    if not decoded:
        raise VideoError("no frames", f"No frame could be decoded; {broken} were damaged.")
    if broken:
        raise VideoError("damaged", f"{broken} frames could not be decoded; the others were kept.")


__all__ = ["Film", "Pictures", "even", "is_dicom", "judge", "read"]
