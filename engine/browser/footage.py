"""The frame of a patch and the seconds around it, from the video file, as the store would have kept them and never as they are.

The file is read only while its bytes hash to the video's id; of an image folder that grew, those of the images that it held then.
Everything outside the endoscope's picture is cut; what is burnt in is looked for in every frame that is shown, and what is hidden in one of
them is hidden in all. A moment that the gate would have refused as dark, as glaring or as outside the body stays black.
"""

import io
from collections import OrderedDict
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import numpy as np

from engine import dicom, gate, pictures
from engine.clip import VideoError, decoded, upright
from engine.config import FramesConfig
from engine.decode import Moment, Stamped, glimpses, keyframe_step, reached, shown, stamped, stills
from engine.files import locate, unreadable
from engine.frames import View, blacked, scaled
from engine.listing import modified
from engine.pictures import Image, Mask
from engine.store import PatchStore, quoted
from engine.text import FindText, Search
from engine.videos import holds

Instant = tuple[int, Fraction]  # pts and its time base
CLIP_SIDE, FRAME_SIDE = 480, 1024  # px of the longest side
AROUND, APART = Fraction(2), Fraction(1, 12)  # seconds before and after, and between two frames of a clip
BESIDE, RARELY = Fraction(1), Fraction(1, 2)  # the same of the frames that help to find what is burnt into one
REFUSED = ("dark", "glare", "out of body")  # of these the gate did not find that they show the inside of a body
QUALITY = 90  # of the JPEG
HELD = 16  # clips and frames that stay in memory
NO_FILE = "its video file is not where it was when it was taken in"
OTHER_FILE = "its video file holds other bytes now than those that were taken in"


class Footage:
    """Frames and clips of one store; `limits` gives the gate's thresholds of a video, `find_text` is the detector of burnt-in text."""

    def __init__(self, store: PatchStore, limits: Callable[[str], FramesConfig], find_text: Search | None = None) -> None:
        self.store, self.limits, self.finder = store, limits, find_text
        self.sound: dict[str, tuple[Any, ...]] = {}  # of a video the file whose bytes were hashed
        self.made: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def frame(self, frame_id: str) -> bytes:
        """The JPEG of a kept frame, at most FRAME_SIDE long; LookupError, in one sentence, says why there is none."""
        return self.once("frame", frame_id, self.still)

    def clip(self, frame_id: str) -> bytes:
        """The seconds around a kept frame as MP4 (H.264), at most CLIP_SIDE long; LookupError as of `frame`."""
        return self.once("clip", frame_id, self.moving)

    def once(self, kind: str, frame_id: str, make: Callable[[dict[str, Any], str], bytes]) -> bytes:
        """What `make` makes of a frame's row and its video's address, kept for the next time; LookupError for an unreadable video."""
        row = self.row(frame_id)  # also when it was made before: the video may have been forgotten since
        uri = self.source(row["video_id"])
        troubles: tuple[type[BaseException], ...] = (VideoError, *unreadable())
        made = self.made.get((kind, frame_id))
        if made is None:
            try:
                made = self.made[kind, frame_id] = make(row, uri)
            except troubles as error:
                raise LookupError(f"its video cannot be read: {error if isinstance(error, VideoError) else type(error).__name__}") from None
            while len(self.made) > HELD:
                self.made.popitem(last=False)
        return made

    def row(self, frame_id: str) -> dict[str, Any]:
        """The frame's row; LookupError for one that was not kept, whose picture nobody may see."""
        where = f"video_id = {quoted([frame_id.partition('@')[0]])} AND frame_id = {quoted([frame_id])}"
        rows = self.store.open("frames").to_table(filter=where).to_pylist()
        if not rows:
            raise LookupError(f"the store has no frame {frame_id[:120]!r}")
        if rows[0]["reason"] not in gate.PASSED:
            raise LookupError(f"the frame was rejected ({rows[0]['reason']}), and pictures of such frames are not shown")
        return dict(rows[0])

    def source(self, video_id: str) -> str:
        """The address of the video's file, whose bytes are those that were taken in; LookupError, in one sentence, where they are not."""
        rows = self.store.open("videos").to_table(columns=["uri"], filter=f"video_id = {quoted([video_id])}").to_pylist()
        if not rows or not rows[0]["uri"]:
            raise LookupError("its video is not in the ledger, or was forgotten")
        uri = str(rows[0]["uri"])
        try:
            fs, path = locate(uri)
            fs.invalidate_cache()
            info = {} if fs.isdir(path) else fs.info(path)
            mark = (uri, info.get("size"), modified(info))
            if not info or self.sound.get(video_id) != mark:
                if not holds(uri, video_id):
                    raise LookupError(OTHER_FILE)
                self.sound[video_id] = mark
        except unreadable():
            raise LookupError(NO_FILE) from None
        return uri

    # -- pictures -----------------------------------------------------------------------------------------------------------

    def still(self, row: dict[str, Any], uri: str) -> bytes:
        """The frame of a row as a JPEG; LookupError where the video has none at that time."""
        moments, seen = self.moments(uri, row, BESIDE, RARELY)
        shown = self.shown(moments, seen, row, FRAME_SIDE)
        found = [image for moment, image in shown if moment.time_ms == row["time_ms"]]
        if not found:
            raise LookupError("its video has no frame at that time any more")
        return pictures.encode(found[0], QUALITY)

    def moving(self, row: dict[str, Any], uri: str) -> bytes:
        """The seconds around a row's frame as an MP4, black where the camera is outside; LookupError for a folder of pictures."""
        fs, path = locate(uri)
        if fs.isdir(path):
            raise LookupError("it is from a folder of pictures, which has no seconds around it")
        moments, seen = self.moments(uri, row, AROUND, APART)
        if len(moments) == 1:
            raise LookupError("there are no seconds around it: its video shows nothing else within two seconds of it")
        limits = self.limits(row["video_id"])
        shown = self.shown(moments, seen, row, CLIP_SIDE)
        return encoded([(moment, image if is_inside(image, limits) else np.zeros_like(image)) for moment, image in shown])

    def moments(self, uri: str, row: dict[str, Any], around: Fraction, apart: Fraction) -> tuple[list[Moment], list[Image] | None]:
        """The moments around a frame, itself among them, and glimpses of the whole video, None of a folder of pictures."""
        fs, path = locate(uri)
        if fs.isdir(path):
            return [one for one in stills(fs, path) if one.time_ms == row["time_ms"] and one.image is not None], None
        instant = int(row["pts"]), Fraction(row["time_base"])
        with fs.open(path, "rb") as file:
            return list(between(file, instant, around, apart)), glimpses(file)

    def shown(self, moments: list[Moment], seen: list[Image] | None, row: dict[str, Any], side: int) -> list[tuple[Moment, Image]]:
        """The moments inside the endoscope's picture, with all hidden that was found in any of them.

        LookupError where the picture lies elsewhere than at intake.
        """
        if not moments:
            return []
        self.finder = self.finder or FindText()
        view = View(moments[0].image, seen or [], self.finder)  # type: ignore[arg-type]
        if list(view.box) != row["content"]:
            raise LookupError("its picture is found elsewhere in the frame than when it was taken in, so it is not shown")
        alike = [one for one in moments if one.image is not None and one.image.shape == view.shape]
        small: list[tuple[Moment, Image]] = []
        covered: Mask | None = None
        for now, following in zip(alike, [*alike[1:], None], strict=True):
            cleaned = view.cleaned(now.image, following.image if following else None)  # type: ignore[arg-type]
            image, hidden = scaled(*cleaned, side)
            covered = hidden if covered is None else covered | hidden
            small.append((now._replace(image=None), image))
        return [(moment, blacked(image, covered)) for moment, image in small if covered is not None]


def between(file: Any, instant: Instant, around: Fraction, apart: Fraction) -> Iterator[Moment]:
    """The moments of an open video file or DICOM object around one, about so many seconds apart, and that one itself."""
    source = dicom.read(file)
    if isinstance(source, dicom.Pictures):
        yield from pictured(source, instant, around, apart)
        return
    pts, base = instant
    first = pts - int(around / base)
    with shown(file, source) as clip:
        step = keyframe_step(clip)
    with shown(file, source) as clip:
        frames = stamped(clip, decoded(clip))
        head = next(frames, None)
        if head is None:
            return
        if step is not None and first - head[1] > step:
            frames = stamped(clip, reached(clip, first, step))
        for frame, now, clock in near(chain([head], frames), instant, around, apart):
            yield Moment(now, clock, upright(frame))


def pictured(source: dicom.Pictures, instant: Instant, around: Fraction, apart: Fraction) -> Iterator[Moment]:
    """The same of pictures each of which is whole by itself; those that cannot be decoded are left out."""
    stamps = ((number, source.clock.at(number), source.clock.base) for number in range(source.count))
    for number, now, clock in near(stamps, instant, around, apart):
        image = source.picture(number)
        if image is not None:
            yield Moment(now, clock, image)


def near(stamps: Iterator[Stamped], instant: Instant, around: Fraction, apart: Fraction) -> Iterator[Stamped]:
    """Those of some frames, or numbers of pictures, in the order in which they are shown, that `between` asks for."""
    pts, base = instant
    first, last, after = pts - int(around / base), pts + int(around / base), None
    for frame, now, clock in stamps:
        if now > last:
            return
        if now == pts or (now >= first and (after is None or now >= after)):
            after = now + int(apart / base) if now != pts or after is None else after
            yield frame, now, clock


def is_inside(image: Image, limits: FramesConfig) -> bool:
    """Whether the gate would find the inside of a body in it; its black is what was hidden."""
    quality = gate.measure(image, np.asarray(~image.any(axis=2), np.bool_), None)
    verdict = None if quality is None else gate.reason(quality, limits)
    return quality is not None and (verdict is None or verdict[0] not in REFUSED)


def encoded(shown: list[tuple[Moment, Image]]) -> bytes:
    """Moments as MP4 with H.264, which every browser plays, each at its own time. LookupError where there are none."""
    if not shown:
        raise LookupError("its video has no frames at that time any more")
    height, width = (side // 2 * 2 for side in shown[0][1].shape[:2])
    target = io.BytesIO()
    with av.open(target, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov", "fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=round(1 / APART), options={"preset": "veryfast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt, stream.thread_count = height, width, "yuv420p", 1
        stream.codec_context.time_base = Fraction(1, 1000)
        for moment, image in shown:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
            frame.pts, frame.time_base = moment.time_ms, Fraction(1, 1000)  # MP4 begins at the first one
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target.getvalue()
