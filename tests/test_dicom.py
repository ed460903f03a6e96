"""DICOM endoscopy objects are read like any video, and nothing that they say of a patient is kept."""

import io
import tracemalloc
import warnings
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import decode, dicom
from engine.dicom import elements
from engine.dicom.fragments import Extents, Joined
from engine.dicom.inflated import Inflated
from tests import dicoms
from tests.dicoms import EXPLICIT, H264, JPEG, described, encapsulated, native, offsets, split
from tests.test_frames import rows_of, scene

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
CALLED = ("video_id", "frame_id")


def read(path):
    with path.open("rb") as file:
        return dicom.read(file)


def pictures(path):
    with path.open("rb") as file:
        found = dicom.read(file)
        return [found.picture(number) for number in range(found.count)]


def verdict(path):
    found = rows_of(path, sampling="all")
    return found[-1]["reason"], len(found) - 1


def nameless(rows):
    return [{name: value for name, value in row.items() if name not in CALLED} for row in rows]


def scenes(count, height=48, width=64):
    return [scene(number, height, width) for number in range(count)]


# What pydicom ships, against pydicom's own reader.


def by_pydicom(path):
    """(N, H, W, 3) 8-bit RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path).pixel_array.reshape(-1, *pydicom.dcmread(path).pixel_array.shape[-3:])


@pytest.mark.parametrize("name", sorted(path.name for path in [*SHIPPED.glob("SC_*.dcm"), *SHIPPED.glob("examples_*.dcm")]))
def test_colours_are_those_of_pydicom(name):
    path = SHIPPED / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
    if data.SamplesPerPixel == 1 or data.BitsStored != 8 or data.file_meta.TransferSyntaxUID in dicom.pictures.LOSSLESS:
        pytest.skip("compared elsewhere")
    found = pictures(path)
    assert len(found) == data.get("NumberOfFrames", 1)
    assert (np.stack(found) == by_pydicom(path)).all()


def test_jpeg_is_what_opencv_makes_of_the_same_payload():
    data = pydicom.dcmread(SHIPPED / "examples_ybr_color.dcm")
    payloads = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=30))
    for image, payload in zip(pictures(SHIPPED / "examples_ybr_color.dcm"), payloads, strict=True):
        difference = np.abs(image.astype(int) - decode.read_image(payload))
        assert difference.max() <= 3  # of two conversions to RGB, one of them in floating point
        assert difference.mean() < 0.6


def test_lossless_jpeg_is_what_the_same_picture_is_without_compression():
    (found,), (plain,) = pictures(SHIPPED / "SC_rgb_jpeg_gdcm.dcm"), pictures(SHIPPED / "SC_rgb_rle.dcm")
    assert (found == plain).all()


def test_sixteen_bits_are_cut_to_the_eight_that_matter():
    raw = pydicom.dcmread(SHIPPED / "MR_small.dcm").pixel_array
    expected = ((raw.astype(int) + (1 << 15)) >> 8)[..., None].repeat(3, axis=2)
    for name in ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_expb.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"):
        assert (pictures(SHIPPED / name)[0] == expected).all(), name


def test_a_palette_gives_its_colours():
    data = pydicom.dcmread(SHIPPED / "examples_palette.dcm")
    expected = pydicom.pixels.apply_color_lut(data.pixel_array, data)
    assert (pictures(SHIPPED / "examples_palette.dcm")[0] == expected >> 8 * (expected.dtype.itemsize - 1)).all()


REFUSED = {
    "JPGExtended.dcm": "unsupported pixels",
    "SC_rgb_jls_lossy_sample.dcm": "no frames",  # FFmpeg cannot, and would show black without a word
    "JPEG2000-embedded-sequence-delimiter.dcm": "no frames",
    "MR_truncated.dcm": "truncated",
    "UN_sequence.dcm": "no pixel data",
    "DICOMDIR-empty.dcm": "no pixel data",
    "test-SR.dcm": "no pixel data",
    "rtplan_truncated.dcm": "truncated",
    "waveform_ecg.dcm": "no pixel data",
    "no_meta.dcm": "not a video",  # neither preamble nor file meta: nothing tells it for certain
    "ExplVR_LitEndNoMeta.dcm": "not a video",
    "nested_priv_SQ.dcm": "damaged",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shown_is_told(name):
    path = next(SHIPPED.rglob(name))
    (row,) = rows_of(path)
    assert row["reason"] == REFUSED[name]
    assert row["detail"].endswith(".")


def test_all_that_ships_ends_in_a_verdict():
    for path in sorted(path for path in SHIPPED.iterdir() if path.is_file()):
        assert rows_of(path, sampling="all")[-1]["frame_id"] is None, path.name


def test_the_tags_are_those_that_pydicom_reads_and_no_others():
    compared = 0
    for path in sorted(SHIPPED.glob("*.dcm")):
        data = path.read_bytes()
        if data[128:132] != b"DICM" or "dfl" in path.name or "missing_tsyntax" in path.name:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = pydicom.dcmread(path, stop_before_pixels=True)
        with path.open("rb") as file:
            syntax, start = dicom.meta(file, 132)
            tags = elements.tags_of(file, start, ">" if syntax == dicoms.BIG_ENDIAN else "<")
        assert syntax == expected.file_meta.TransferSyntaxUID
        raw = {tag: expected.get_item(tag).value or b"" for tag in elements.WANTED if tag in expected}
        assert tags.values == raw, path.name
        compared += len(raw)
    assert compared > 400


# Pictures written here.


def grey(image):
    return np.ascontiguousarray(image[..., 1])


def ybr(image):
    red, green, blue = np.moveaxis(image.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    parts = luma, 128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma)
    return np.stack(parts, axis=-1).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("syntax", [EXPLICIT, dicoms.IMPLICIT, dicoms.BIG_ENDIAN])
def test_uncompressed_pictures_are_themselves(tmp_path, syntax):
    images = scenes(3, 47, 63)
    pixels = b"".join(image.tobytes() for image in images)
    if syntax == dicoms.BIG_ENDIAN:  # as OW: bytes in pairs, across frames
        pixels = np.frombuffer(pixels + bytes(len(pixels) % 2), "<u2").byteswap().tobytes()
    path = native(tmp_path / "a", described(47, 63, NumberOfFrames=3), pixels, syntax, b"OW")
    assert (np.stack(pictures(path)) == images).all()


def test_planes_grey_and_inverted_grey_and_bits(tmp_path):
    (image,) = scenes(1)
    planes = native(tmp_path / "a", described(PlanarConfiguration=1), np.moveaxis(image, -1, 0).tobytes())
    assert (pictures(planes)[0] == image).all()
    one = {"SamplesPerPixel": 1, "PlanarConfiguration": None}
    for colours, expected in (("MONOCHROME2", grey(image)), ("MONOCHROME1", 255 - grey(image))):
        path = native(tmp_path / "a", described(PhotometricInterpretation=colours, **one), grey(image).tobytes())
        assert (pictures(path)[0] == expected[..., None]).all()
    deep = described(PhotometricInterpretation="MONOCHROME2", BitsAllocated=16, BitsStored=12, HighBit=11, **one)
    path = native(tmp_path / "a", deep, (grey(image).astype("<u2") << 4 | 7).tobytes())
    assert (pictures(path)[0] == grey(image)[..., None]).all()
    bits = described(PhotometricInterpretation="MONOCHROME2", BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=2, **one)
    shown = grey(image) > 120
    path = native(tmp_path / "a", bits, np.packbits([shown, ~shown], bitorder="little").tobytes())
    assert [(found == 255 * truth[..., None]).all() for found, truth in zip(pictures(path), (shown, ~shown), strict=True)] == [True] * 2


def test_luminance_and_chrominance_become_rgb(tmp_path):
    (image,) = scenes(1)
    path = native(tmp_path / "a", described(PhotometricInterpretation="YBR_FULL"), ybr(image).tobytes())
    assert np.abs(pictures(path)[0].astype(int) - image).max() <= 3


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_begin_where_they_say(tmp_path, bits):
    entries = np.arange(4 * 3).reshape(3, 4).astype(np.uint8) * 20
    data = described(2, 3, PhotometricInterpretation="PALETTE COLOR", SamplesPerPixel=1, PlanarConfiguration=None)
    for colour, row in zip(("Red", "Green", "Blue"), entries, strict=True):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [4, 10, bits])
        stored = row.tobytes() if bits == 8 else (row.astype("<u2") << 8 | 5).tobytes()
        setattr(data, f"{colour}PaletteColorLookupTableData", stored)
    path = native(tmp_path / "a", data, bytes([0, 10, 11, 12, 13, 200]))
    assert (pictures(path)[0] == entries[:, [0, 0, 1, 2, 3, 3]].T.reshape(2, 3, 3)).all()


def lossless_by_ffmpeg(image, codec):
    """Of RGB, or of luminance and chrominance for ljpeg; the samples that went in, and what came out."""
    made = av.CodecContext.create(codec, "w")
    made.height, made.width, made.time_base = *image.shape[:2], Fraction(1, 25)
    made.pix_fmt = "rgb24" if codec == "jpegls" else "yuvj444p"
    frame = av.VideoFrame.from_ndarray(image if codec == "jpegls" else np.moveaxis(image, -1, 0).copy(), format=made.pix_fmt)
    made.options = {"strict": "-2"}
    return b"".join(bytes(packet) for packet in [*made.encode(frame), *made.encode(None)])


def test_jpeg_ls_and_lossless_jpeg_give_back_what_was_compressed(tmp_path):
    images = scenes(3)
    parts = [lossless_by_ffmpeg(image, "jpegls") for image in images]
    path = encapsulated(tmp_path / "a", described(NumberOfFrames=3), "1.2.840.10008.1.2.4.80", parts)
    assert (np.stack(pictures(path)) == images).all()
    parts = [lossless_by_ffmpeg(ybr(image), "ljpeg") for image in images]
    path = encapsulated(tmp_path / "a", described(NumberOfFrames=3, PhotometricInterpretation="YBR_FULL"), "1.2.840.10008.1.2.4.57", parts)
    assert max(np.abs(found.astype(int) - image).max() for found, image in zip(pictures(path), images, strict=True)) <= 3


@pytest.mark.parametrize("bad", [lambda part: part[: len(part) // 2], lambda part: part[:60] + bytes(80) + part[140:]])
@pytest.mark.parametrize("codec", ["jpegls", "ljpeg"])
def test_a_damaged_lossless_picture_is_none(tmp_path, codec, bad):
    syntax = "1.2.840.10008.1.2.4.80" if codec == "jpegls" else "1.2.840.10008.1.2.4.57"
    parts = [lossless_by_ffmpeg(image, codec) for image in scenes(3)]
    path = encapsulated(tmp_path / "a", described(NumberOfFrames=3), syntax, [parts[0], bad(parts[1]), parts[2]])
    assert [found is None for found in pictures(path)] == [False, True, False]
    assert verdict(path) == ("damaged", 2)


SHAPES = {
    "a fragment each": lambda parts: (parts, ()),
    "a fragment each, with a table": lambda parts: (parts, offsets(parts, range(len(parts)))),
    "in pieces, with a table": lambda parts: pieces(parts, 3, True),
    "in pieces, without": lambda parts: pieces(parts, 2, False),
    "a table of one zero": lambda parts: (parts, [0]),
    "a table of nonsense": lambda parts: (parts, [0, 6, 4, 1000]),
}


def pieces(parts, count, table):
    cut = [split(part, *(len(part) * number // count for number in range(1, count))) for part in parts]
    flat = [piece for one in cut for piece in one]
    return flat, offsets(flat, np.cumsum([0, *(len(one) for one in cut)])[:-1]) if table else ()


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_are_found_in_their_fragments(tmp_path, shape):
    payloads = [dicoms.jpeg(image) for image in scenes(5)]
    parts, table = SHAPES[shape](payloads)
    path = encapsulated(tmp_path / "a", described(NumberOfFrames=5, PhotometricInterpretation="YBR_FULL_422"), JPEG, parts, table)
    found, again = pictures(path), [decode.read_image(payload) for payload in payloads]
    assert max(np.abs(one.astype(int) - other).max() for one, other in zip(found, again, strict=True)) <= 3


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_split_into_fragments_is_the_same_film_and_the_same_pictures(tmp_path_factory, data):
    payloads = [dicoms.jpeg(image) for image in scenes(4, 32, 40)]
    ends = [data.draw(st.lists(st.integers(2, len(payload) - 2), max_size=4)) for payload in payloads]
    cut = [split(payload, *places) for payload, places in zip(payloads, ends, strict=True)]
    flat = [piece for one in cut for piece in one]
    table = offsets(flat, np.cumsum([0, *(len(one) for one in cut)])[:-1]) if data.draw(st.booleans()) else ()
    folder = tmp_path_factory.mktemp("split")
    path = encapsulated(folder / "a", described(32, 40, NumberOfFrames=4, PhotometricInterpretation="YBR_FULL_422"), JPEG, flat, table)
    whole = encapsulated(folder / "b", described(32, 40, NumberOfFrames=4, PhotometricInterpretation="YBR_FULL_422"), JPEG, payloads)
    assert (np.stack(pictures(path)) == np.stack(pictures(whole))).all()
    joined = b"".join(payloads)
    film = encapsulated(
        folder / "c", described(), H264, split(joined, *data.draw(st.lists(st.integers(0, len(joined)), max_size=9))), table
    )
    with film.open("rb") as file:
        stream = dicom.read(file).file
        for start, size in data.draw(st.lists(st.tuples(st.integers(0, len(joined) + 9), st.integers(0, 3000)), max_size=9)):
            stream.seek(start)
            padded = joined + bytes(len(joined) % 2)
            assert stream.read(size) == padded[start : start + size]
        assert stream.seek(0, 2) == len(joined) + len(joined) % 2


def test_joined_pieces_are_sought_like_a_file():
    extents = Extents(True)
    whole = bytes(range(200))
    for start, length in ((20, 30), (60, 1), (70, 100)):
        extents.add(start, length, 200)
    expected, found = io.BytesIO(whole[20:50] + whole[60:61] + whole[70:170]), Joined(io.BytesIO(whole), extents)
    for offset, whence, size in ((5, 0, 40), (-3, 1, 9), (-10, 2, 20), (0, 0, -1), (500, 0, 3), (0, 1, 1)):
        assert found.seek(offset, whence) == expected.seek(offset, whence)
        assert found.read(size) == expected.read(size)
        assert found.tell() == expected.tell()


def test_what_a_deflated_set_was_is_read_in_any_order():
    whole = np.random.default_rng(0).integers(0, 9, 400_000, np.uint8).tobytes()
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = b"head" + packer.compress(whole) + packer.flush()
    found, expected = Inflated(io.BytesIO(packed + b"\0"), 4), io.BytesIO(whole)
    for offset, size in ((0, 10), (300_000, 90_000), (12, 100_000), (399_990, 50), (5, 5), (200_000, 1)):
        assert found.seek(offset) == expected.seek(offset)
        assert found.read(size) == expected.read(size)
        assert found.tell() == expected.tell()
    assert found.seek(0, 2) == len(whole)
    assert Inflated(io.BytesIO(packed[:-9]), 4).seek(0, 2) > len(Inflated(io.BytesIO(packed[:-9]), 4).read(10**6))


def deflated(path, data, pixels):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    whole = dicoms.head(described(), dicoms.DEFLATED)
    start = len(whole) - len(dicoms.body(described()))
    path.write_bytes(whole[:start] + packer.compress(dicoms.body(data) + dicoms.uncompressed(pixels)) + packer.flush())
    return path


def test_a_deflated_object_is_the_same_pictures(tmp_path):
    images = scenes(6)
    path = deflated(tmp_path / "a", described(NumberOfFrames=6), b"".join(image.tobytes() for image in images))
    assert (np.stack(pictures(path)) == images).all()
    path.write_bytes(path.read_bytes()[:-2000])
    reason, count = verdict(path)
    assert reason == "truncated"
    assert 0 < count < 6


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    images = b"".join(image.tobytes() for image in scenes(7, 128, 128)) * 60
    paths = [
        native(tmp_path / "a", described(128, 128, NumberOfFrames=420), images),
        deflated(tmp_path / "b", described(128, 128, NumberOfFrames=420), images),
    ]
    parts = [images[number * 49152 : number * 49152 + 49152] for number in range(420)]
    paths.append(encapsulated(tmp_path / "c", described(128, 128, NumberOfFrames=420), dicom.pictures.ENCAPSULATED, parts))
    pictures(paths[0])
    for path in paths:
        with path.open("rb") as file:
            tracemalloc.start()
            found = dicom.read(file)
            assert all(found.picture(number) is not None for number in range(found.count))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert found.count == 420
        assert peak < len(images) // 20, path.name
