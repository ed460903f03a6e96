"""Lossless JPEG and JPEG-LS by FFmpeg, as a plug-in for pydicom's decoders, which themselves need further packages for them."""

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from engine.dicom.colours import LARGEST

DECODER_DEPENDENCIES = {
    "1.2.840.10008.1.2.4.57": ("av",),
    "1.2.840.10008.1.2.4.70": ("av",),
    "1.2.840.10008.1.2.4.80": ("av",),
    "1.2.840.10008.1.2.4.81": ("av",),
}
LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")


def is_available(uid: str) -> bool:
    """Whether this decodes a transfer syntax; pydicom asks."""
    return uid in DECODER_DEPENDENCIES


def decoded_frame(src: bytes, runner: Any) -> bytes:
    """The samples of a picture, interleaved, in the colours in which they were compressed; ValueError where there is none."""
    codec = av.CodecContext.create("jpegls" if runner.transfer_syntax in LS else "mjpeg", "r")
    codec.options = {"err_detect": "explode", "max_pixels": str(LARGEST)}  # or what it cannot decode would be black, without a word
    try:
        frames = [*codec.decode(av.Packet(src)), *codec.decode(None)]
    except av.FFmpegError as error:
        raise ValueError("FFmpeg cannot decode the picture") from error
    if not frames:
        raise ValueError("FFmpeg finds no picture")
    samples = samples_of(frames[0])
    runner.set_option("bits_allocated", 8 * samples.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return samples.tobytes()


def samples_of(frame: Any) -> NDArray[Any]:
    """(H, W) or (H, W, 3) 8- or 16-bit samples as stored: no conversion between colours. ValueError for samples of another form."""
    kind = frame.format.name
    if kind in ("gray", "gray16le"):
        return np.asarray(frame.to_ndarray())
    if kind in ("rgb24", "bgr24", "gbrp"):
        return np.asarray(frame.to_ndarray(format="rgb24"))
    if kind in ("yuv444p", "yuvj444p"):
        return np.ascontiguousarray(np.moveaxis(frame.to_ndarray(), 0, -1))
    raise ValueError("the picture has samples of an unusual form")
