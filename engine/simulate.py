"""Colonoscopy-like video by seed, with the truth about every frame: for tests, for the demo and for measurements of any size.

A clip begins outside the body, then the camera moves through a drawn colon (`colon.py`) behind an endoscope's screen (`endoscope.py`).
In every stretch of eight seconds it stands still once and meets three of: motion blur, bubbles, glare, darkness. What happens at a
moment is a function of (seed, time), so a clip of any length needs the memory of one frame. Nobody in it exists.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engine.clutter import Clutter
from engine.colon import FOCAL, Camera, Colon, Polyp, View
from engine.encode import encode
from engine.endoscope import Screen, Weather
from engine.pictures import Box, Image, Mask, bounds

EVENTS = ("out_of_body", "lumen", "polyp", "motion_blur", "bubbles", "glare", "dark", "still")
CYCLE = 8.0  # seconds in which a clip shows most of what can happen; a shorter clip is one cycle
STRETCHES = {"still": (0.4, 0.85), "motion_blur": (0.2, 0.6), "bubbles": (0.2, 0.8), "glare": (0.2, 0.5), "dark": (0.2, 0.5)}
PLAN, PATH, NOISE, PAIR = range(20, 24)  # streams of random numbers
PATIENT = 4  # consecutive pairs from one colon: its textures cost twenty times what a picture does
SHARE, BRIGHTER = (np.log(0.114), 0.9), 1.3  # a still's polyp as measured on Kvasir-SEG: lognormal share, light over that in a clip


@dataclass(frozen=True)
class Moment:
    """One frame and what is true about it."""

    image: Image
    mask: Mask  # (H, W) polyp pixels; under motion blur: where they are in the middle of the exposure
    events: tuple[str, ...]  # of EVENTS, in that order
    boxes: tuple[Box, ...] = ()  # one around every visible polyp: y0, x0, y1, x1 in pixels, half open
    polyps: tuple[int, ...] = ()  # the number of each in its colon, in that order
    artefacts: Mapping[str, Mask] = field(default_factory=dict)  # (H, W) by kind: pixels that do not show mucosa as it is


@dataclass(frozen=True)
class Recording:
    """All that decides a clip; ValueError where it cannot be drawn or encoded."""

    seed: int
    seconds: float = 8.0
    fps: int = 25
    height: int = 480
    width: int = 560
    polyps: float = 1.0  # share of the polyps that is there; 0: the same clip without them
    clutter: bool = False  # True: the same clip with instruments, insets, glints and smoke in the way of nothing but a clear view

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} is negative; expected 0 or more")
        if self.fps < 1 or self.seconds <= 0 or self.frames < 1:
            raise ValueError(f"seconds={self.seconds} at fps={self.fps} make no frame; expected at least one")
        if min(self.height, self.width) < 64 or self.height % 2 or self.width % 2:
            raise ValueError(f"a picture of {self.height}x{self.width} px; expected even sides of at least 64 px, as yuv420p needs")

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return round(self.seconds * self.fps)

    @cached_property
    def screen(self) -> Screen:
        """What the processor shows around the picture."""
        return Screen(self.seed, self.height, self.width)

    @cached_property
    def weather(self) -> Weather:
        """What is before the lens and in the picture's signal, for the picture's size."""
        return Weather(self.seed, *self.screen.area.shape)

    @cached_property
    def things(self) -> Clutter:
        """What is in the way of the wall, for the picture's size."""
        return Clutter(self.seed, *self.screen.area.shape)

    @cached_property
    def colon(self) -> Colon:
        """The colon that is looked into, for the picture's size."""
        height, width = self.screen.area.shape
        return Colon(self.seed, height, width, self.polyps)

    def moments(self) -> Iterator[Moment]:
        """The frames in order, drawn when asked for."""
        moved = 0.0  # seconds of motion: this clock stops while the camera stands still
        for number in range(self.frames):
            if number % self.fps == 0:
                text = self.screen.written(number // self.fps)
            happening = planned(self.seed, min(CYCLE, self.seconds), number / self.fps)
            view, hiding, lumen = self.look(number, moved, happening)
            image, mask = self.screen.compose(view.image, view.mask, text)
            seen = [visible(mask, part, self.screen.content) for part in view.boxes]
            polyps = tuple(polyp for polyp, box in zip(view.polyps, seen, strict=True) if box)
            true = {*happening, *(["lumen"] if lumen else []), *(["polyp"] if polyps else [])}
            events, boxes = tuple(event for event in EVENTS if event in true), tuple(box for box in seen if box)
            yield Moment(image, mask, events, boxes, polyps, self.screen.artefacts(hiding, text[1]))
            moved += 0.0 if {"still", "out_of_body"} & set(happening) else 1 / self.fps

    def look(self, number: int, moved: float, happening: tuple[str, ...]) -> tuple[View, dict[str, Mask], bool]:
        """What the sensor sees in frame `number` after `moved` seconds of motion, what of it is no wall, and whether the lumen is in it."""
        if "out_of_body" in happening:
            view, lumen = View(self.weather.outside(number / self.fps), np.zeros(self.screen.area.shape, np.bool_), ()), False
        else:
            camera = path(self.colon, moved)
            view, lumen = self.colon.view(camera), self.screen.shows(*camera.lumen)
        image, mask, hiding = self.weather.change(view.image, happening, moved), view.mask, self.weather.hides(happening, moved)
        if self.clutter and not hiding:
            image, hiding = self.things.over(image, number / self.fps)
            for covered in hiding.values():
                mask = mask & ~covered
        grain = np.random.default_rng([self.seed, NOISE, number])
        return replace(view, image=self.weather.grain(image, grain), mask=mask), hiding, lumen


def clip(seed: int, seconds: float = 8.0, fps: int = 25, height: int = 480, width: int = 560) -> Iterator[Moment]:
    """The frames of one clip in order, each drawn when it is asked for; ValueError for an impossible size or length."""
    return Recording(seed, seconds, fps, height, width).moments()


def text_boxes(seed: int, height: int = 480, width: int = 560) -> list[Box]:
    """Where the clip of this seed has burnt-in text, a box (y0, x0, y1, x1) a line; a sixth one is inside the picture."""
    return Screen(seed, height, width).boxes()


def content_box(height: int = 480, width: int = 560) -> Box:
    """The endoscope's picture inside a frame as y0, x0, y1, x1; its corners are black."""
    return Screen(0, height, width).content


def write_clip(path: Path | str, seed: int, seconds: float = 8.0, fps: int = 25, height: int = 480, width: int = 560) -> dict[str, Any]:
    """Encode one clip as H.264, with the same bytes whenever it is called again, and return the truth about it.

    The truth is {"seed", "fps", "events": [{"kind", "start_ms", "end_ms"}], "polyps": [{"time_ms", "box": [y0, x0, y1, x1]}]} with half
    open intervals. The suffix of `path` names the container (.mp4, .mkv, .mov, .avi). A file appears only when it is complete. Another
    version of numpy, OpenCV or x264 may round to other bytes.
    """
    truth, moments = Truth(seed, fps), Recording(seed, seconds, fps, height, width).moments()
    encode(Path(path), (moment.image for moment in truth.follow(moments)), fps)
    return truth.told()


def write_clips(
    folder: Path | str, truth_folder: Path | str, count: int, seed: int = 0, seconds: float = 8.0, size: tuple[int, int] = (480, 560)
) -> list[Path]:
    """Write clip-0000.mp4, ... (seeds seed, seed + 1, ...) into `folder`, their truth as .json and polyp masks as .npz into `truth_folder`.

    `size` is height, width. The .npz holds one (H, W) bool array named by its milliseconds for every frame with a polyp.
    """
    videos, truths = Path(folder), Path(truth_folder)
    videos.mkdir(parents=True, exist_ok=True)
    truths.mkdir(parents=True, exist_ok=True)
    paths = [videos / f"clip-{number:04}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        recording = Recording(seed + number, seconds, 25, *size)
        truth = Truth(recording.seed, recording.fps)
        with zipfile.ZipFile(truths / f"{path.stem}.npz", "w") as archive:
            followed = masked(truth.follow(recording.moments()), recording.fps, archive)
            encode(path, (moment.image for moment in followed), recording.fps)
        (truths / f"{path.stem}.json").write_text(json.dumps(truth.told(), indent=1) + "\n")
    return paths


def write_pairs(folder: Path | str, count: int, seed: int = 0, side: int = 256) -> None:
    """Write `count` stills as images/*.jpg and masks/*.png (0 or 255) of side x side px, every tenth without a polyp.

    The picture fills the frame and holds no text. Its polyp covers as much of it as in Kvasir-SEG, where the quartiles of 998 masks are
    5.9 %, 11.4 % and 21.0 %. PATIENT consecutive pairs are of one colon; a split by patients keeps equal int(stem) // PATIENT together.
    ValueError for a side below 64.
    """
    if side < 64:
        raise ValueError(f"side={side} px; expected at least 64")
    for kind in ("images", "masks"):
        (Path(folder) / kind).mkdir(parents=True, exist_ok=True)
    for first in range(0, count, PATIENT):
        patient = seed * 1_000_003 + first // PATIENT
        colon, weather = Colon(patient, side, side), Weather(patient, side, side)
        for number in range(first, min(first + PATIENT, count)):
            view, rng = still(colon, number, number % 10 != 9)
            image = weather.grain(cv2.convertScaleAbs(view.image, alpha=rng.uniform(0.65, 0.95)), rng)
            write_pair(Path(folder), f"{number:05}", image, view.mask)


def write_pair(folder: Path, stem: str, image: Image, mask: Mask) -> None:
    """Write an image (H, W, 3) and its mask (H, W) as datasets.folders finds them: JPEG and PNG of one stem."""
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    (folder / "images" / f"{stem}.jpg").write_bytes(jpeg.tobytes())
    (folder / "masks" / f"{stem}.png").write_bytes(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())


def still(colon: Colon, number: int, polyp: bool) -> tuple[View, np.random.Generator]:
    """A view aimed at a polyp, or at the same place without it, and the generator of what else is random about this still."""
    rng = np.random.default_rng([colon.seed, PAIR, number])
    while True:
        share, camera = np.clip(rng.lognormal(*SHARE), 0.015, 0.5), path(colon, rng.uniform(0, 600))
        found = grown(colon.polyp(number), camera, share, rng.uniform(0.5, 0.9))
        shift = rng.uniform(0.25, 0.75, 2) * (colon.height, colon.width) - colon.place(found, camera)[:2]
        camera = replace(camera, centre=tuple(shift + camera.centre))
        view = colon.view(camera, [found])
        if view.mask.mean() > share / 2:  # no fold hides it
            return view if polyp else colon.view(camera, []), rng


def grown(polyp: Polyp, camera: Camera, share: float, away: float) -> Polyp:
    """That polyp so far ahead of the camera, as large as to cover `share` of a square picture, and as bright as polyps are in stills."""
    size, colour = away / FOCAL * float(np.sqrt(share / np.pi)), tuple(np.multiply(polyp.colour, BRIGHTER))
    return replace(polyp, depth=camera.position + away, size=size, colour=colour)


def planned(seed: int, cycle: float, now: float) -> tuple[str, ...]:
    """What happens at `now` seconds, besides what is seen: in every cycle a stillness and three other events, apart from each other."""
    turn, since = divmod(now / cycle, 1)
    rng = np.random.default_rng([seed, PLAN, int(turn)])
    others = [kind for kind in STRETCHES if kind != "still"]
    kinds = rng.permutation(["still", *rng.permutation(others)[:3]])
    start = rng.uniform(0.1, 0.15) if turn == 0 else 0.02
    if turn == 0 and since < start:
        return ("out_of_body",)
    room = 1 - start
    for kind in kinds:
        share, filled = STRETCHES[kind]
        begin = start + room * share * rng.uniform(0, 1 - filled)
        if begin <= since < begin + room * share * filled:
            return (str(kind),)
        start += room * share
    return ()


def path(colon: Colon, moved: float) -> Camera:
    """The camera after `moved` seconds of motion: forward with hesitation, looking about, now and then at the wall."""
    rng = np.random.default_rng([colon.seed, PATH])

    def wave() -> float:
        rates, phases = rng.uniform(0.3, 1.5, 3), rng.uniform(0, 2 * np.pi, 3)
        return float(np.mean(np.sin(rates * moved + phases)) * 1.5)

    position = 1.0 + 0.85 * moved + 0.2 * wave()
    centre = colon.height * (0.5 + 0.24 * wave()), colon.width * (0.5 + 0.24 * wave())
    return Camera(position, centre, (0.14 * colon.height * wave(), 0.14 * colon.height * wave()), 0.6 * wave())


def visible(mask: Mask, part: Box, content: Box) -> Box | None:
    """The tight box of what is left of the mask in `part` of the content box, in pixels of the frame; None: nothing."""
    y0, x0, y1, x1 = part[0] + content[0], part[1] + content[1], part[2] + content[0], part[3] + content[1]
    if not mask[y0:y1, x0:x1].any():
        return None
    top, left, bottom, right = bounds(mask[y0:y1, x0:x1])
    return y0 + top, x0 + left, y0 + bottom, x0 + right


class Truth:
    """Collects the truth of a clip while its frames pass."""

    def __init__(self, seed: int, fps: int) -> None:
        self.seed, self.fps = seed, fps
        self.events: list[dict[str, Any]] = []
        self.polyps: list[dict[str, Any]] = []

    def follow(self, moments: Iterator[Moment]) -> Iterator[Moment]:
        """The same frames; every event is noted from its first frame to the beginning of the first without it."""
        running: dict[str, dict[str, Any]] = {}
        for number, moment in enumerate(moments):
            now, end = milliseconds(number, self.fps), milliseconds(number + 1, self.fps)
            running = {kind: running.get(kind) or self.begun(kind, now) for kind in moment.events}
            for event in running.values():
                event["end_ms"] = end
            self.polyps += [{"time_ms": now, "box": list(box)} for box in moment.boxes]
            yield moment

    def begun(self, kind: str, now: int) -> dict[str, Any]:
        """Note an event that starts `now`, in ms; the row, to which its end is added."""
        self.events.append({"kind": kind, "start_ms": now})
        return self.events[-1]

    def told(self) -> dict[str, Any]:
        """The truth as the file beside a clip has it."""
        return {"seed": self.seed, "fps": self.fps, "events": self.events, "polyps": self.polyps}


def milliseconds(number: int, fps: int) -> int:
    """When a frame is shown, in ms, rounded down."""
    return number * 1000 // fps


def masked(moments: Iterator[Moment], fps: int, archive: zipfile.ZipFile) -> Iterator[Moment]:
    """The same frames; the masks of those with a polyp go into the archive, dated 1980 so that its bytes repeat."""
    for number, moment in enumerate(moments):
        if moment.mask.any():
            entry = zipfile.ZipInfo(f"{milliseconds(number, fps)}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, moment.mask)
        yield moment
