"""The moments of a video: which frames are looked at, each upright, as RGB, with its exact presentation time.

Files are opened without their name and without any protocol, so the content alone decides and a playlist cannot open other files.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from math import ceil
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engine.config import FramesConfig
from engine.files import images_of

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Stamped = tuple[Any, int, Fraction]  # a decoded frame, its pts, its time base

INDEXED = ("mov", "matroska")  # containers with a presentation time per frame and an index of keyframes: seeks are exact
SURVEYED = 2000  # packets read, not decoded, to measure the distance of keyframes
BLOCK = 1 << 18  # bytes per read
CUT = Fraction(1, 2), Fraction(1, 20)  # seconds and share of the declared length that may be missing in a whole video


class VideoError(Exception):
    """This video cannot be read, or not to its end: `reason` in one word or two, `detail` in a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Moment(NamedTuple):
    """One sampled frame; its time is pts * time_base seconds on the file's own clock."""

    pts: int
    time_base: Fraction
    image: Image | None  # None: a file of an image folder that is no readable image

    @property
    def time_ms(self) -> int:
        return int(self.pts * self.time_base * 1000 // 1)


class Nameless:
    """A file without its name, because FFmpeg would otherwise let the extension vote on the format."""

    def __init__(self, file: Any) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@dataclass
class Clip:
    """An open container, its best video stream, and what reading it has shown so far."""

    container: Any
    stream: Any
    cut: bool  # the data broke off, or is shorter than its header says
    frames: int = 0  # decoded
    broken: int = 0  # packets that could not be decoded
    entry: int | None = None  # pts of the first packet since the last seek: a keyframe
    end: Fraction | None = None  # seconds on the file's clock, of the last packet of any stream
    first: int = 0  # pts of the first frame
    last: int = 0  # pts of the frame before
    clockless: bool = False  # the file has no presentation times: they are counted


@contextmanager
def opened(file: Any) -> Iterator[Clip]:
    """The clip in an open binary file; VideoError says why there is none."""
    head, size = file.read(12), file.seek(0, 2)
    file.seek(0)
    riff = head[:4] == b"RIFF" and size is not None and int.from_bytes(head[4:8], "little") + 8 > size
    options = {"protocol_whitelist": "none"}
    try:
        container = av.open(Nameless(file), mode="r", options=options, metadata_errors="ignore", buffer_size=BLOCK)
    except av.FFmpegError as error:
        raise unopened(head) from error
    with container:
        yield Clip(container, video_stream(container), cut=riff)


def unopened(head: bytes) -> VideoError:
    if head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return VideoError("truncated", "The file starts like a video and breaks off before the first frame can be found.")
    return VideoError("not a video", "The content is of no known video format.")


def video_stream(container: Any) -> Any:
    """The largest video stream that is not a cover picture."""
    streams = [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        kinds = sorted({stream.type or "unknown" for stream in container.streams}) or ["none"]
        raise VideoError("no video stream", f"The kinds of streams in the file: {', '.join(kinds)}.")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise VideoError("unsupported codec", "FFmpeg has no decoder for the video stream.")
    return max(decodable, key=lambda stream: (stream.codec_context.width * stream.codec_context.height, -stream.index))


def sampled(file: Any, config: FramesConfig) -> Iterator[Moment]:
    """The moments that `config` asks for, in presentation order; VideoError, if any, comes after the last good one.

    "seconds": the first frame at or after every k * every_s, counted from the first frame; "keyframes"; "all".
    """
    ways: dict[str, Callable[[Clip, FramesConfig, int | None], Iterator[Stamped]]]
    ways = {"seconds": on_the_grid, "keyframes": keyframes, "all": straight}
    with opened(file) as clip:
        step = keyframe_step(clip)
    with opened(file) as clip:
        refuse_small(clip, config)
        for frame, pts, base in ways[config.sampling](clip, config, step):
            yield Moment(pts, base, upright(frame))
        judge(clip)


def refuse_small(clip: Clip, config: FramesConfig) -> None:
    width, height = clip.stream.codec_context.width, clip.stream.codec_context.height
    if 0 < min(width, height) < config.min_side:  # 0: a broken header, whose video has no frames either
        raise VideoError("too small", f"The frames have {width} x {height} pixels; frames.min_side asks for {config.min_side}.")


def straight(clip: Clip, config: FramesConfig, step: int | None) -> Iterator[Stamped]:
    yield from stamped(clip, decoded(clip))


def keyframes(clip: Clip, config: FramesConfig, step: int | None) -> Iterator[Stamped]:
    clip.stream.codec_context.skip_frame = "NONKEY"
    yield from (found for found in stamped(clip, decoded(clip)) if found[0].key_frame)


def on_the_grid(clip: Clip, config: FramesConfig, step: int | None) -> Iterator[Stamped]:
    """Decode on to the next wanted moment, or seek where it lies further off than keyframes do from each other."""
    every = Fraction(str(config.every_s))
    frames = stamped(clip, decoded(clip))
    found = next(frames, None)
    while found is not None:
        yield found
        _, pts, base = found
        passed = (pts - clip.first) * base // every
        wanted = clip.first + ceil((passed + 1) * every / base)
        if step is not None and wanted - pts > step:
            frames = stamped(clip, reached(clip, wanted, step))
        found = next((candidate for candidate in frames if candidate[1] >= wanted), None)


def keyframe_step(clip: Clip) -> int | None:
    """The longest distance of the first few keyframes, in the stream's time base; None where seeks are not exact.

    VideoError where the packets turn out to be encrypted: no decoder says so.
    """
    keys: list[int] = []
    try:
        for packet in islice(clip.container.demux(clip.stream), SURVEYED):
            if packet.has_sidedata("encryption_info"):
                raise VideoError("encrypted", "The video stream is encrypted.")
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
            if len(keys) == 5:
                break
    except av.FFmpegError:
        return None  # broken near its start: the decoding pass tells how far it goes
    exact = any(name in clip.container.format.name for name in INDEXED)
    return max(np.diff(sorted(keys)).tolist()) if exact and len(keys) > 1 else None


def decoded(clip: Clip) -> Iterator[Any]:
    """Every frame from here on; packets that cannot be decoded are counted, the end of readable data is noted."""
    clip.entry = None
    try:
        for packet in clip.container.demux(clip.stream, *clip.container.streams.audio):
            note_end(clip, packet)
            if packet.stream_index == clip.stream.index:
                clip.entry = packet.pts if clip.entry is None else clip.entry
                yield from frames_in(clip, packet)
    except av.FFmpegError:
        clip.cut = True


def note_end(clip: Clip, packet: Any) -> None:
    if packet.pts is not None and packet.time_base is not None:
        end = (packet.pts + (packet.duration or 0)) * packet.time_base
        clip.end = end if clip.end is None else max(clip.end, end)


def frames_in(clip: Clip, packet: Any) -> list[Any]:
    try:
        return [frame for frame in packet.decode() if not frame.is_corrupt]
    except av.error.EOFError:
        return []  # the decoder was emptied before
    except av.FFmpegError:
        clip.broken += 1
        return []


def stamped(clip: Clip, frames: Iterator[Any]) -> Iterator[Stamped]:
    """Frames with their presentation time; where the file has none (raw streams, some AVI) frame n is at n / average rate."""
    rate = Fraction(clip.stream.average_rate or 25)
    for frame in frames:
        if clip.frames == 0:
            clip.clockless = frame.pts is None
            clip.first = 0 if frame.pts is None else frame.pts
        base = 1 / rate if clip.clockless else clip.stream.time_base
        missing = clip.frames if clip.clockless else clip.last + max(1, round(1 / (rate * base)))
        clip.last = missing if clip.clockless or frame.pts is None else frame.pts
        clip.frames += 1
        yield frame, clip.last, base


def reached(clip: Clip, wanted: int, step: int) -> Iterator[Any]:
    """Frames from the last keyframe at or before `wanted` on, exactly as a straight decode shows them from there.

    A seek may land late (it goes by decoding time), so it is repeated further back until the keyframe is early enough; frames
    shown before that keyframe are dropped, because they were predicted from what was not decoded.
    """
    for target in (wanted, wanted - step, wanted - 4 * step, clip.first):
        try:
            clip.container.seek(max(target, clip.first), stream=clip.stream, backward=True)
        except av.FFmpegError:
            continue
        frames = decoded(clip)
        head = next(frames, None)
        if head is not None and clip.entry is not None and clip.entry <= wanted:
            entry = clip.entry
            yield from (frame for frame in chain([head], frames) if frame.pts is None or frame.pts >= entry)
            return
    clip.cut = True  # what lies there cannot be reached


def judge(clip: Clip) -> None:
    """Raise VideoError where the video held no frame, broke off, or was damaged."""
    if not clip.frames:
        raise VideoError("no frames", f"No frame could be decoded; {clip.broken} packets were damaged.")
    short = missing_seconds(clip)
    if clip.cut or short > 0:
        raise VideoError("truncated", f"The data ends early, {float(short):.1f} s before the declared end; the frames before were kept.")
    if clip.broken:
        raise VideoError("damaged", f"{clip.broken} packets could not be decoded; the frames of the others were kept.")


def missing_seconds(clip: Clip) -> Fraction:
    """How much earlier the packets end than the container declares; 0 within the tolerance or where nothing is declared."""
    declared = clip.container.duration
    if declared is None or clip.end is None or clip.clockless:
        return Fraction(0)
    # Matroska counts its duration from zero, the others from the first packet.
    start = 0 if "matroska" in clip.container.format.name else clip.container.start_time or 0
    missing = Fraction(declared + start, av.time_base) - clip.end
    return missing if missing > max(CUT[0], CUT[1] * Fraction(declared, av.time_base)) else Fraction(0)


def upright(frame: Any) -> Image:
    """RGB pixels, turned by the display matrix (counter-clockwise degrees; phones and some recorders set it)."""
    image = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
    return np.ascontiguousarray(image)


def glimpses(file: Any, count: int = 8) -> list[Image]:
    """Up to `count` frames spread over the video, wherever a seek lands; of a short or unseekable one, among its first 300."""
    with opened(file) as clip:
        found = spread(clip, count)
    if len(found) >= min(4, count):
        return list(found.values())
    with opened(file) as clip:
        return thinned(islice(decoded(clip), 300), count)


def thinned(frames: Iterator[Any], count: int) -> list[Image]:
    """At most `count` evenly spaced ones of a sequence whose length is not known."""
    kept: list[Image] = []
    stride = 1
    for number, frame in enumerate(frames):
        if number % stride == 0:
            kept.append(upright(frame))
        if len(kept) > count:
            kept, stride = kept[::2], stride * 2
    return kept


def spread(clip: Clip, count: int) -> dict[int, Image]:
    found: dict[int, Image] = {}
    start, length = clip.container.start_time or 0, clip.container.duration or 0
    for number in range(count if length else 0):
        try:
            clip.container.seek(start + length * (2 * number + 1) // (2 * count), backward=True)
        except av.FFmpegError:
            return found
        frame = next(decoded(clip), None)
        if frame is not None and frame.pts not in found:
            found[frame.pts] = upright(frame)
    return found


def stills(fs: Any, folder: str) -> Iterator[Moment]:
    """The images of a folder as a sequence with one a second; EXIF orientation is applied."""
    for number, path in enumerate(images_of(fs, folder)):
        with fs.open(path, "rb") as file:
            data = np.frombuffer(file.read(), np.uint8)
        yield Moment(number, Fraction(1), read_image(data))


def read_image(data: NDArray[np.uint8]) -> Image | None:
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:  # empty, or larger than OpenCV's limit
        return None
    return None if image is None else np.ascontiguousarray(image[..., ::-1])
