"""The moments of a video: which frames are looked at, each upright, as RGB, with its exact presentation time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, islice
from math import ceil
from typing import Any, NamedTuple

import av
import numpy as np

from engine import dicom, pictures
from engine.clip import Clip, Clock, VideoError, decoded, judge, opened, upright
from engine.config import FramesConfig
from engine.files import images_of
from engine.pictures import Image

Stamped = tuple[Any, int, Fraction]  # a decoded frame, its pts, its time base

INDEXED = ("mov", "matroska")  # containers with a presentation time per frame and an index of keyframes: seeks are exact
REFERENCES = ("h264", "mpeg2video", "mpeg4")  # codecs whose packets say for certain whether another frame needs them
BARE = ("h264", "hevc", "mpegvideo", "m4v")  # streams in no container: FFmpeg makes their times up
GLIMPSES = 8  # frames by which a whole video is judged
SURVEYED = 2000  # packets read, not decoded, to measure the distance of keyframes


class Moment(NamedTuple):
    """One sampled frame; its time is pts * time_base seconds on the file's own clock."""

    pts: int
    time_base: Fraction
    image: Image | None  # None: a file of an image folder that is no readable image

    @property
    def time_ms(self) -> int:
        """Milliseconds, rounded down."""
        return int(self.pts * self.time_base * 1000 // 1)

    @property
    def clock(self) -> str:
        """The time base in seconds, as numerator/denominator."""
        return f"{self.time_base.numerator}/{self.time_base.denominator}"


def sampled(file: Any, config: FramesConfig) -> Iterator[Moment]:
    """The moments that `config` asks for, in presentation order; VideoError, if any, comes after the last good one.

    "seconds": the first frame at or after every k * every_s, counted from the first frame; "keyframes"; "all".
    """
    ways: dict[str, Callable[[Clip, FramesConfig, int | None], Iterator[Stamped]]]
    ways = {"seconds": on_the_grid, "keyframes": keyframes, "all": straight}
    source = dicom.read(file)
    if isinstance(source, dicom.Pictures):
        yield from pictured(source, config)
        return
    with shown(file, source) as clip:
        step = keyframe_step(clip)
    with shown(file, source) as clip:
        refuse_small(clip.stream.codec_context.width, clip.stream.codec_context.height, config)
        for frame, pts, base in ways[config.sampling](clip, config, step):
            yield Moment(pts, base, upright(frame))
        judge(clip)


@contextmanager
def shown(file: Any, film: dicom.Film | None) -> Iterator[Clip]:
    """The clip in a file, or that in a DICOM object, whose tags tell the time where the stream itself does not."""
    if film is None:
        with opened(file) as clip:
            yield clip
        return
    with opened(film.file, film.cut) as clip:
        if clip.container.format.name in BARE:
            clip.clock = film.clock or dicom.even(clip.stream.codec_context.framerate)
        yield clip


def refuse_small(width: int, height: int, config: FramesConfig) -> None:
    """VideoError "too small" for frames whose shorter side is below frames.min_side."""
    if 0 < min(width, height) < config.min_side:  # 0: a broken header, whose video has no frames either
        raise VideoError("too small", f"The frames have {width} x {height} pixels; frames.min_side asks for {config.min_side}.")


def straight(clip: Clip, config: FramesConfig, step: int | None) -> Iterator[Stamped]:
    """Every frame with its stamp; `step` is of no account here."""
    yield from stamped(clip, decoded(clip))


def keyframes(clip: Clip, config: FramesConfig, step: int | None) -> Iterator[Stamped]:
    """The keyframes alone, each with its stamp; `step` is of no account here."""
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
        if clip.stream.codec_context.name in REFERENCES and not clip.clockless:
            clip.wanted, clip.leaps = wanted, step is not None
        if step is not None and wanted - pts > step:
            frames = stamped(clip, reached(clip, wanted, step))
        found = next((candidate for candidate in frames if candidate[1] >= wanted), None)


def pictured(source: dicom.Pictures, config: FramesConfig) -> Iterator[Moment]:
    """As `sampled`, of pictures each of which is whole by itself."""
    refuse_small(source.width, source.height, config)
    every, base, first = Fraction(str(config.every_s)), source.clock.base, source.clock.at(0)
    wanted, found, broken = first, 0, 0
    for number in range(source.count):
        pts = source.clock.at(number)
        if config.sampling == "seconds" and pts < wanted:
            continue
        image = source.picture(number)
        if image is None:
            broken += 1
            continue
        yield Moment(pts, base, image)
        found, wanted = found + 1, first + ceil(((pts - first) * base // every + 1) * every / base)
    dicom.judge(source, found, broken)


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
    exact = any(name in clip.container.format.name for name in INDEXED) and len(keys) > 1 and starts_at(clip, max(keys))
    return max(np.diff(sorted(keys)).tolist()) if exact else None


def starts_at(clip: Clip, key: int) -> bool:
    """Whether decoding can start at a keyframe: some are marked that are whole only some frames later (x264's intra refresh)."""
    try:
        clip.container.seek(key, stream=clip.stream, backward=True)
    except av.FFmpegError:
        return False
    found = next(decoded(clip), None)
    return found is not None and found.pts is not None and clip.entry is not None and found.pts <= clip.entry


def stamped(clip: Clip, frames: Iterator[Any]) -> Iterator[Stamped]:
    """Frames with their presentation time; where the file has none (raw streams, some AVI) frame n is at n / average rate."""
    rate = Fraction(clip.stream.average_rate or 25)
    clock = clip.clock or Clock(1 / rate)
    for frame in frames:
        if clip.frames == 0:
            clip.clockless = frame.pts is None or clip.clock is not None
            clip.first = clock.at(0) if clip.clockless else frame.pts
        base = clock.base if clip.clockless else clip.stream.time_base
        missing = clock.at(clip.frames) if clip.clockless else clip.last + max(1, round(1 / (rate * base)))
        clip.last = missing if clip.clockless or frame.pts is None else frame.pts
        clip.frames += 1
        yield frame, clip.last, base


def reached(clip: Clip, wanted: int, step: int) -> Iterator[Any]:
    """Frames from a keyframe at or before `wanted` on; from `wanted` on they are those of a straight decode.

    A seek may land late (some go by decoding time), so it is repeated further back until the keyframe is early enough. Frames
    shown before that keyframe may be predicted from what was not decoded; they lie before `wanted`, and nobody looks at them.
    """
    for target in (wanted, wanted - step, wanted - 4 * step, clip.first):
        try:
            clip.container.seek(max(target, clip.first), stream=clip.stream, backward=True)
        except av.FFmpegError:
            continue
        frames = decoded(clip)
        head = next(frames, None)
        if head is not None and clip.entry is not None and clip.entry <= wanted:
            yield from chain([head], frames)
            return
    clip.cut = True  # what lies there cannot be reached


def glimpses(file: Any) -> list[Image]:
    """Up to GLIMPSES frames spread over the video, wherever a seek lands; of a short or unseekable one, among its first 300."""
    source = dicom.read(file)
    if isinstance(source, dicom.Pictures):
        numbers = sorted({source.count * (2 * number + 1) // (2 * GLIMPSES) for number in range(GLIMPSES)})
        return [image for number in numbers if number < source.count and (image := source.picture(number)) is not None]
    with shown(file, source) as clip:
        found = spread(clip, GLIMPSES)
    if len(found) >= GLIMPSES // 2:
        return list(found.values())
    with shown(file, source) as clip:
        return thinned(islice(decoded(clip), 300), GLIMPSES)


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
    """Up to `count` frames by their pts, sought at even distances; fewer where the file cannot be sought in."""
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


def stills(fs: Any, folder: str, start: int = 0) -> Iterator[Moment]:
    """The images of a folder, from number `start` on, as a sequence with one a second; EXIF orientation is applied."""
    for number, path in enumerate(images_of(fs, folder)[start:], start):
        with fs.open(path, "rb") as file:
            yield Moment(number, Fraction(1), read_image(file.read()))


def read_image(data: bytes) -> Image | None:
    """An encoded image as RGB (H, W, 3); None where it cannot be decoded."""
    try:
        return pictures.decode(data)
    except ValueError:
        return None
