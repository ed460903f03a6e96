"""An open video file: its best stream, its frames one by one, and what reading it shows about its health.

Files are opened without their name and without any protocol, so the content alone decides and a playlist cannot open other files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np

from engine.pictures import Image

HELD = 16 << 20  # bytes of packets at most that wait for a keyframe
BLOCK = 1 << 18  # bytes per read
CUT = Fraction(1, 2), Fraction(1, 20)  # seconds and share of the declared length that may be missing in a whole video


class VideoError(Exception):
    """This video cannot be read, or not to its end: `reason` in one word or two, `detail` in a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Nameless:
    """A file without its name, because FFmpeg would otherwise let the extension vote on the format."""

    def __init__(self, file: Any) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@dataclass(frozen=True)
class Clock:
    """When frames are shown whose time a count tells: frame n at at(n) * base seconds."""

    base: Fraction
    ticks: tuple[int, ...] = ()  # of the first frames where they are not even

    def at(self, number: int) -> int:
        """The tick of frame `number`; beyond the last known one the mean distance goes on."""
        if not self.ticks:
            return number
        behind = number - len(self.ticks) + 1
        return self.ticks[number] if behind <= 0 else self.ticks[-1] + behind * max(1, self.ticks[-1] // len(self.ticks))


@dataclass
class Clip:
    """An open container, its best video stream, and what reading it has shown so far."""

    container: Any
    stream: Any
    cut: bool  # the data broke off, or is shorter than its header says
    frames: int = 0  # decoded
    broken: int = 0  # packets that could not be decoded
    entry: int | None = None  # pts of the first packet since the last seek: a keyframe
    ends: dict[int, int] = field(default_factory=dict)  # of each stream, in its time base: the end of the last packet shown
    first: int = 0  # pts of the first frame
    last: int = 0  # pts of the frame before
    clockless: bool = False  # the file has no presentation times: they are counted
    clock: Clock | None = None  # what stands around the stream says so, and how
    wanted: int | None = None  # pts before which no frame is looked at, where that is known
    leaps: bool = False  # what is not looked at may be left out up to a keyframe


@contextmanager
def opened(file: Any, cut: bool = False) -> Iterator[Clip]:
    """The clip in an open binary file, of which `cut` says that it breaks off; VideoError says why there is none."""
    file.seek(0)
    head, size = file.read(12), file.seek(0, 2)
    file.seek(0)
    shorter = head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > size
    options = {"protocol_whitelist": "none"}
    try:
        container = av.open(Nameless(file), mode="r", options=options, metadata_errors="ignore", buffer_size=BLOCK)
    except av.FFmpegError as error:
        raise unopened(head, cut) from error
    with container:
        yield Clip(container, video_stream(container), cut=shorter or cut)


def unopened(head: bytes, cut: bool) -> VideoError:
    """Why a file cannot be opened as video, by its first bytes and whether it is `cut`."""
    if cut or head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return VideoError("truncated", "The file starts like a video and breaks off before the first frame can be found.")
    return VideoError("not a video", "The content is of no known video format.")


def video_stream(container: Any) -> Any:
    """The largest video stream that is not a cover picture. VideoError where there is none, or none that FFmpeg decodes."""
    streams = [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        kinds = sorted({stream.type or "unknown" for stream in container.streams}) or ["none"]
        raise VideoError("no video stream", f"The kinds of streams in the file: {', '.join(kinds)}.")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise VideoError("unsupported codec", "FFmpeg has no decoder for the video stream.")
    return max(decodable, key=lambda stream: (stream.codec_context.width * stream.codec_context.height, -stream.index))


def decoded(clip: Clip) -> Iterator[Any]:
    """Every frame from here on, but for those before `clip.wanted` that no wanted one is predicted from. Only what is decoded is judged.

    Packets that cannot be decoded are counted, the end of readable data is noted.
    """
    clip.entry = None
    held: list[Any] = []  # packets since the last keyframe, not decoded yet
    try:
        for packet in clip.container.demux(clip.stream, *clip.container.streams.audio):
            note_end(clip, packet)
            if packet.stream_index == clip.stream.index:
                clip.entry = packet.pts if clip.entry is None else clip.entry
                if clip.leaps and packet.is_keyframe and early(clip, packet.pts, 1):
                    held.clear()
                    clip.stream.codec_context.flush_buffers()
                held.append(packet)
                if not clip.leaps or not early(clip, packet.pts) or sum(waiting.size for waiting in held) > HELD:
                    yield from (frame for waiting in held for frame in frames_in(clip, waiting))
                    held.clear()
    except av.FFmpegError:
        clip.cut = True


def early(clip: Clip, pts: int | None, by: int = 0) -> bool:
    """Whether a frame is shown before the first one that is looked at, or, by 1, is that one."""
    return clip.wanted is not None and pts is not None and pts < clip.wanted + by


def note_end(clip: Clip, packet: Any) -> None:
    """Keep how far the streams reach by the packets seen, in their own time bases."""
    if packet.pts is not None:
        end = packet.pts + (packet.duration or 0)
        clip.ends[packet.stream_index] = max(end, clip.ends.get(packet.stream_index, end))


def frames_in(clip: Clip, packet: Any) -> list[Any]:
    """The whole frames of a packet; one that cannot be decoded counts as broken.

    Frames that FFmpeg marks as corrupt are left out and not counted. In H.264 whose bytes were flipped or whose packets were lost no frame
    was seen with that mark, since FFmpeg conceals such damage and says nothing: a count would not tell how sound a video is.
    """
    if clip.wanted is not None:
        clip.stream.codec_context.skip_frame = "NONREF" if early(clip, packet.pts) else "DEFAULT"
    try:
        return [frame for frame in packet.decode() if not frame.is_corrupt]
    except av.error.EOFError:
        return []  # the decoder was emptied before
    except av.FFmpegError:
        clip.broken += 1
        return []


def judge(clip: Clip) -> None:
    """Raise VideoError where the video held no frame, broke off, or was damaged."""
    if not clip.frames:
        raise VideoError("no frames", f"No frame could be decoded; {clip.broken} packets were damaged.")
    short = missing_seconds(clip)
    if short > 0:
        raise VideoError("truncated", f"The data ends {float(short):.1f} s before the declared end; the frames before it were kept.")
    if clip.cut:
        raise VideoError("truncated", "The data breaks off or is shorter than its header says; the frames before that were kept.")
    if clip.broken:
        raise VideoError("damaged", f"{clip.broken} packets could not be decoded; the frames of the others were kept.")


def missing_seconds(clip: Clip) -> Fraction:
    """How much earlier the packets end than the container declares; 0 within the tolerance or where nothing is declared."""
    declared = clip.container.duration
    ends = [end * clip.container.streams[index].time_base for index, end in clip.ends.items()]
    if declared is None or not ends or clip.clockless:
        return Fraction(0)
    # Matroska counts its duration from zero, the others from the first packet.
    start = 0 if "matroska" in clip.container.format.name else clip.container.start_time or 0
    missing = Fraction(declared + start, av.time_base) - max(ends)
    return missing if missing > max(CUT[0], CUT[1] * Fraction(declared, av.time_base)) else Fraction(0)


def upright(frame: Any) -> Image:
    """RGB pixels, turned by the display matrix (counter-clockwise degrees; phones and some recorders set it)."""
    image = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
    return np.ascontiguousarray(image)
