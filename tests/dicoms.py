"""DICOM objects to test with: data sets by pydicom, encapsulation and transfer syntaxes by hand."""

import io
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (f"1.2.840.10008.1.2{last}" for last in ("", ".1", ".1.99", ".2"))
JPEG, H264, HEVC, MPEG2 = (f"1.2.840.10008.1.2.4.{last}" for last in ("50", "102", "107", "100"))
MARKER = "ZANZIBAR"
TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}


def described(height=48, width=64, **tags):
    """A data set of an endoscopic picture, without pixels; None leaves a tag out."""
    data = Dataset()
    shape = {"Rows": height, "Columns": width, "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    ids = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1.1", "SOPInstanceUID": "1.2.3.4", "PatientName": "Doe^Jane", "PatientID": "7"}
    for name, value in (ids | shape | bits | tags).items():
        if value is not None:
            setattr(data, name, value)
    return data


def head(data, syntax, preamble=bytes(128)):
    """The bytes of an object up to its pixel data: file meta information by hand, the data set by pydicom."""
    named = syntax.encode() + bytes(len(syntax) % 2)
    syntax_of = struct.pack("<HH2sH", 2, 0x10, b"UI", len(named)) + named
    meta = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(syntax_of)) + syntax_of
    return preamble + b"DICM" * bool(preamble) + meta + body(data, syntax)


def body(data, syntax=EXPLICIT):
    written = DicomBytesIO()
    written.is_little_endian, written.is_implicit_VR = syntax != BIG_ENDIAN, syntax == IMPLICIT
    write_dataset(written, data)
    return written.getvalue()


def fragments(parts, table=(), delimiter=True):
    """Encapsulated parts, each padded to even length, behind a Basic Offset Table."""
    items = [struct.pack(f"<HHL{len(table)}L", 0xFFFE, 0xE000, 4 * len(table), *table)]
    items += [struct.pack("<HHL", 0xFFFE, 0xE000, len(part) + len(part) % 2) + part + bytes(len(part) % 2) for part in parts]
    return b"".join(items) + (struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if delimiter else b"")


def offsets(parts, firsts):
    """The Basic Offset Table of frames that begin with the parts of these numbers."""
    places = np.cumsum([0, *(8 + len(part) + len(part) % 2 for part in parts)])
    return [int(places[number]) for number in firsts]


def encapsulated(path, data, syntax, parts, table=(), delimiter=True):
    element = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    path.write_bytes(head(data, syntax) + element + fragments(parts, table, delimiter))
    return path


def native(path, data, pixels, syntax=EXPLICIT, vr=b"OB"):
    path.write_bytes(head(data, syntax) + uncompressed(pixels, syntax, vr))
    return path


def uncompressed(pixels, syntax=EXPLICIT, vr=b"OB"):
    """The element of pixels that are not encapsulated."""
    pixels += bytes(len(pixels) % 2)
    if syntax == IMPLICIT:
        return struct.pack("<HHL", 0x7FE0, 0x0010, len(pixels)) + pixels
    return struct.pack(f"{'>' if syntax == BIG_ENDIAN else '<'}HH2sHL", 0x7FE0, 0x0010, vr, 0, len(pixels)) + pixels


def jpeg(image, *how):
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), list(how))[1].tobytes()


def split(data, *places):
    """Parts of even length, as DICOM wants all but the last."""
    even = sorted({min(len(data), place - place % 2) for place in places} - {0, len(data)})
    return [data[start:end] for start, end in zip([0, *even], [*even, len(data)], strict=True)]


def stream(images, form, codec="libx264", rate=25, **options):
    """Pictures as a stream in a container, or in none."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        one = container.add_stream(codec, rate=Fraction(rate))
        one.height, one.width, one.pix_fmt, one.gop_size = *images[0].shape[:2], "yuv420p", 6
        one.options = {"preset": "ultrafast", **options} if codec.startswith("lib") else options
        for image in images:
            container.mux(one.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(one.encode())
    return buffer.getvalue()


def marked(data):
    """A data set in which everything that can hold text holds MARKER, but what says how pixels lie; sequences too."""
    told = {element.tag for element in data}
    for tag, (kind, _count, _name, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if keyword and tag not in told and kind in TEXTS and not retired and 8 <= group < 0x5000:
            data.add_new(tag, kind, MARKER if kind != "PN" else f"{MARKER}^{MARKER}")
    inner = Dataset()
    inner.PatientName, inner.StudyDescription = MARKER, MARKER
    data.RequestAttributesSequence = [inner]
    data["RequestAttributesSequence"].is_undefined_length = True
    data.add_new(0x00091001, "UN", MARKER.encode() * 20)
    return data
