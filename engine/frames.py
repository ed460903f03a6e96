"""From a video to its kept frames: cut to the endoscope's picture, text blacked out, scaled, measured and gated.

A pixel of an image is exactly 0, 0, 0 if and only if it is hidden (outside the picture, text, overlay); shown pixels are at
least 1, so that later stages can tell a black-out from a dark lumen without another column.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import gate, schema
from engine.clip import VideoError
from engine.config import FramesConfig
from engine.content import find_content, median, overlay_mask
from engine.decode import Moment, glimpses, sampled, stills
from engine.files import locate, unreadable
from engine.pictures import Image, Mask, size_at
from engine.text import FindText, Search, Strokes, WatchText, filled_in, strokes

TABLE_BYTES = 64 << 20  # pixels per yielded table
Row = dict[str, Any]
Thumb = NDArray[np.float32]  # (side, side), by which the next frame is compared: see gate.py


@schema.stage(reads=schema.VIDEO, writes=schema.FRAME)
class DecodeFrames:
    """Turn videos into rows of sampled frames, kept ones with their image, and one verdict row (frame_id null) per video.

    Videos that come with a reason pass through as their verdict; of a folder of images that grew the images from `start` on are read, as if
    those before had been read, too, of which `before` was kept last. Memory does not grow with the length of a video. `find_text`
    maps an (H, W, 3) RGB picture, or a part of it, to boxes; the default is the trained detector.
    """

    def __init__(self, config: FramesConfig, find_text: Search | None = None) -> None:
        self.config = config
        self.find_text = find_text or FindText()

    def __call__(self, videos: pa.Table) -> Iterator[pa.Table]:
        yield from tables(row for video in videos.to_pylist() for row in self.rows(video))

    def rows(self, video: Row) -> Iterator[Row]:
        """The rows of one video, the verdict last."""
        reason, detail, count = video["reason"], video["detail"], 0
        if reason is None:
            try:
                for row in self.frames(video):
                    count += 1
                    yield row | {"expected": 0}
            except VideoError as bad:
                reason, detail = bad.reason, bad.detail
            except unreadable() as error:
                reason, detail = "unreadable", f"The file could not be read ({type(error).__name__})."
        yield {"video_id": video["video_id"], "reason": reason, "detail": detail, "expected": count}

    def frames(self, video: Row) -> Iterator[Row]:
        """The rows of a video's sampled frames; VideoError comes after the last of them."""
        fs, path = locate(video["uri"])
        if fs.isdir(path):
            last_kept = None if video["before"] is None else self.thumb(next(stills(fs, path, video["before"]), None))
            yield from self.judged(video["video_id"], stills(fs, path, video["start"] or 0), None, last_kept)
            return
        with fs.open(path, "rb") as file:
            seen = glimpses(file)
            yield from self.judged(video["video_id"], sampled(file, self.config), seen)

    def thumb(self, now: Moment | None) -> Thumb | None:
        """The thumbnail of an image that stands alone; None where it is not kept, or none any more."""
        if now is None or now.image is None:
            return None
        made, thumb = self.gated(View(now.image, [], self.find_text), now.image, None, None)
        return thumb if made["reason"] is None else None

    def judged(self, video_id: str, moments: Iterator[Moment], seen: list[Image] | None, last_kept: Thumb | None = None) -> Iterator[Row]:
        """One row per moment; `seen` are glimpses of the whole video, None where every image stands alone.

        `last_kept` is the thumbnail of the last frame that was kept before.
        """
        view: View | None = None
        taken: set[int] = set()
        again: set[tuple[int, int]] = set()  # moments of the same millisecond as another one
        for now, following in with_next(moments):
            row: Row = {"video_id": video_id, "time_ms": now.time_ms, "pts": now.pts, "time_base": now.clock}
            row["frame_id"] = f"{video_id}@{now.time_ms}"
            if now.time_ms in taken:  # the id is another frame's, so this one gets one that no kept frame can have
                row |= fault("same millisecond", "an earlier frame has the same time in ms") | {"frame_id": f"{row['frame_id']}#{now.pts}"}
                if (now.time_ms, now.pts) not in again:  # a clock that stands still for longer is told of once
                    yield row
                again.add((now.time_ms, now.pts))
                continue
            taken.add(now.time_ms)
            if now.image is None:
                yield row | fault("unreadable", "the file is no image that can be decoded")
                continue
            if view is None or seen is None or view.shape != now.image.shape:
                view = View(now.image, seen or [], self.find_text)
            made, thumb = self.gated(view, now.image, following.image if following and seen is not None else None, last_kept)
            last_kept = thumb if made["reason"] is None else last_kept
            yield row | made

    def gated(self, view: "View", image: Image, following: Image | None, last_kept: Thumb | None) -> tuple[Row, Any]:
        """The columns of one frame below its moment, and its thumbnail."""
        shown, hidden = scaled(*view.cleaned(image, following), self.config.longest_side)
        row: Row = {"content": list(view.box), "frame_height": shown.shape[0], "frame_width": shown.shape[1]}
        height, width = view.box[2] - view.box[0], view.box[3] - view.box[1]
        quality = gate.measure(shown, hidden, last_kept)
        if quality is None or min(height, width) < self.config.min_side:
            sentence = f"the picture is {height} x {width} pixels or all hidden; frames.min_side={self.config.min_side}"
            return row | fault("no content", sentence), None
        row |= {name: getattr(quality, name) for name in ("sharpness", "brightness", "glare", "tissue", "change")}
        verdict = gate.reason(quality, self.config)
        if verdict is not None:
            return row | fault(*verdict), None
        return row | {"reason": None, "image": shown.tobytes()}, quality.thumb


class View:
    """What holds for all frames of one video and size: where the picture is, and the text that stands still in it."""

    def __init__(self, first: Image, seen: list[Image], find_text: Search) -> None:
        like = [image for image in seen if image.shape == first.shape] or [first]
        self.shape = first.shape
        self.box, self.mask = find_content(like)
        always = []
        if len(like) >= 3:  # the median of moving tissue is a blur, and text that stands still is all that is sharp in it
            middle = median([self.cut(image) for image in like])
            always = find_text(filled_in(middle, ~self.mask | overlay_mask(middle)), None)
        self.watch = WatchText(find_text, always)
        self.met: tuple[Image, Strokes] | None = None  # the last picture whose strokes were taken

    def cut(self, image: Image) -> Image:
        """The endoscope's picture (h, w, 3) in a frame (H, W, 3)."""
        y0, x0, y1, x1 = self.box
        return image[y0:y1, x0:x1]

    def cleaned(self, image: Image, following: Image | None) -> tuple[Image, Mask]:
        """The picture inside the box with every hidden pixel 0, 0, 0, and where that is."""
        cut = self.cut(image)
        hidden = ~self.mask | overlay_mask(cut)
        now, ahead = self.strokes(image).outside(hidden), None
        if following is not None and following.shape == self.shape:
            ahead = self.strokes(following).outside(~self.mask)
        for y0, x0, y1, x1 in self.watch(cut, hidden, now, ahead):
            hidden[y0:y1, x0:x1] = True
        return blacked(cut, hidden), hidden

    def strokes(self, image: Image) -> Strokes:
        """Of the picture inside the box; a frame is asked for twice, as the next of one and then itself."""
        if self.met is None or self.met[0] is not image:
            self.met = image, strokes(self.cut(image))
        return self.met[1]


def blacked(image: Image, hidden: Mask) -> Image:
    """The image (H, W, 3), 0 where `hidden` (H, W) and 1 at least elsewhere: black tells what was covered."""
    return np.asarray(cv2.copyTo(cv2.max(image, np.ones_like(image)), np.asarray(~hidden, np.uint8)), np.uint8)


def scaled(image: Image, hidden: Mask, longest_side: int) -> tuple[Image, Mask]:
    """Both scaled down to `longest_side`; a pixel is hidden if any part of it was, so no letter's rim shines through."""
    scale = longest_side / max(image.shape[:2])
    if scale >= 1:
        return image, hidden
    size = size_at(image, scale)
    covered = cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    return blacked(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), np.asarray(covered)), np.asarray(covered)


def with_next(moments: Iterator[Moment]) -> Iterator[tuple[Moment, Moment | None]]:
    """Every moment with the one after it; what the iterator raises is raised after the last good moment."""
    held: Moment | None = None
    interrupting: tuple[type[BaseException], ...] = (VideoError, *unreadable())
    try:
        for moment in moments:
            if held is not None:
                yield held, moment
            held = moment
    except interrupting:
        if held is not None:
            yield held, None
        raise
    if held is not None:
        yield held, None


def fault(reason: str, detail: str) -> Row:
    """A row for what was not kept: the reason, and the detail as a sentence."""
    return {"reason": reason, "detail": detail[0].upper() + detail[1:] + "."}


def tables(rows: Iterable[Row]) -> Iterator[pa.Table]:
    """Rows in tables of at most TABLE_BYTES of pixels, or one image where that is larger."""
    held: list[Row] = []
    weight = 0
    for row in rows:
        size = len(row.get("image") or b"")
        if held and weight + size > TABLE_BYTES:
            yield pa.Table.from_pylist(held, schema.FRAME)
            held, weight = [], 0
        held.append(row)
        weight += size
    if held:
        yield pa.Table.from_pylist(held, schema.FRAME)
