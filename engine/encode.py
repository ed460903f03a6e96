"""Pictures as a video file: H.264 whose bytes repeat."""

import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from engine.pictures import Image


def encode(path: Path, images: Iterator[Image], fps: int) -> None:
    """H.264 with a keyframe a second; a broken-off file is removed.

    The bytes repeat because one thread writes them, without mbtree: x264's AVX-512 version of it reads memory that nobody wrote (seen with
    PyAV 18.1: other bytes for every value of MALLOC_PERTURB_).
    """
    first = next(images)
    height, width = first.shape[:2]
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        with av.open(str(part), "w", options={"fflags": "+bitexact"}) as container:
            repeatable = f"threads=1:cpu-independent=1:mbtree=0:keyint={fps}:min-keyint={fps}:scenecut=0"
            stream = container.add_stream(
                "libx264", rate=Fraction(fps), options={"preset": "veryfast", "crf": "20", "x264-params": repeatable}
            )
            stream.height, stream.width, stream.pix_fmt, stream.thread_count = height, width, "yuv420p", 1
            for image in itertools.chain([first], images):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
