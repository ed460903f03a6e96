"""What an endoscope and its processor put around and over the picture: content area, patient text, room, bubbles, blur, glare, grain.

The screen is laid out as an Olympus processor does it: the picture on the right with cut corners or round, on black, and the
patient's data in white at the left. Lengths are px; colours are 0 to 255 RGB. All constants: our choice, by eye.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from engine.mucosa import Grey
from engine.pictures import Box, Image, Mask, bounds

PANEL = 0.26  # of the screen's width
FONT = cv2.FONT_HERSHEY_SIMPLEX
NAMES = ("ANON, TEST", "DOE, JANE", "SAMPLE, SAM", "NOBODY, N.")  # nobody's
SCREEN, ROOM, FOAM, GRAIN = range(30, 34)  # streams of random numbers


@dataclass(frozen=True)
class Screen:
    """The processor's output of one examination: where the picture is and which text is burnt in."""

    seed: int
    height: int
    width: int

    @property
    def content(self) -> Box:
        """Where the endoscope's picture is on the screen: y0, x0, y1, x1 in px."""
        return 0, round(PANEL * self.width), self.height, self.width

    @cached_property
    def area(self) -> Mask:
        """(h, w) of the content box: where there is picture, an octagon or a disc with flat sides."""
        y0, x0, y1, x1 = self.content
        height, width = y1 - y0, x1 - x0
        drawn = np.zeros((height, width), np.uint8)
        if np.random.default_rng([self.seed, SCREEN]).random() < 0.5:
            cut = round(0.17 * min(height, width))
            corners = [
                (cut, 0),
                (width - cut, 0),
                (width, cut),
                (width, height - cut),
                (width - cut, height),
                (cut, height),
                (0, height - cut),
                (0, cut),
            ]
            cv2.fillPoly(drawn, [np.array(corners)], 1)
        else:
            cv2.circle(drawn, (width // 2, height // 2), round(0.56 * max(height, width)), 1, -1)
        return drawn.astype(np.bool_)

    @cached_property
    def patient(self) -> tuple[str, str, str, str]:
        """The invented lines about the patient: name, sex, date of birth, date of the examination."""
        rng = np.random.default_rng([self.seed, SCREEN, 1])
        born = f"{rng.integers(1, 29):02}/{rng.integers(1, 13):02}/{rng.integers(1930, 1990)}"
        return (
            str(rng.choice(NAMES)),
            f"Sex: {rng.choice(('F', 'M'))}",
            f"D.O.B. {born}",
            f"{rng.integers(1, 29):02}/{rng.integers(1, 13):02}/2024",
        )

    @cached_property
    def start(self) -> int:
        """Seconds after midnight."""
        return int(np.random.default_rng([self.seed, SCREEN, 2]).integers(8 * 3600, 17 * 3600))

    @cached_property
    def label(self) -> str:
        """Burnt into the picture itself; "" in most clips."""
        rng = np.random.default_rng([self.seed, SCREEN, 3])
        return str(rng.choice(("NBI", "x1.5", "clock"))) if rng.random() < 0.4 else ""

    def clock(self, second: int) -> str:
        """The time of day that is burnt in so many seconds after the start, hh:mm:ss."""
        now = (self.start + second) % 86400
        return f"{now // 3600:02}:{now // 60 % 60:02}:{now % 60:02}"

    def texts(self, second: int) -> list[tuple[str, int, int]]:
        """Every burnt-in line with the x and y of its base line's left end."""
        name, sex, born, day = self.patient
        left, rows = round(0.012 * self.width), (0.10, 0.16, 0.22, 0.34, 0.40)
        lines = [(line, left, round(row * self.height)) for row, line in zip(rows, (name, sex, born, day, self.clock(second)), strict=True)]
        if self.label:
            inside = self.clock(second) if self.label == "clock" else self.label
            lines.append((inside, round((PANEL + 0.04) * self.width), round(0.66 * self.height)))
        return lines

    @property
    def scale(self) -> float:
        """Of the font: the widest line fills the panel."""
        return 0.92 * PANEL * self.width / float(cv2.getTextSize("D.O.B. 00/00/0000", FONT, 1.0, 1)[0][0])

    def boxes(self) -> list[Box]:
        """One box around every burnt-in line with its outline, wide enough for every second of the clock."""
        found = []
        for line, x, y in self.texts(0):
            covered = self.drawn([(line, x, y), (re.sub(r"\d", "0", line), x, y), (re.sub(r"\d", "4", line), x, y)])[1]
            found.append(bounds(covered))
        return found

    def written(self, second: int) -> tuple[Grey, Mask]:
        """All text of one second, as `drawn` returns it."""
        return self.drawn(self.texts(second))

    def drawn(self, lines: list[tuple[str, int, int]]) -> tuple[Grey, Mask]:
        """(H, W) brightness of text, and where it or its black outline covers what is below."""
        white = np.zeros((self.height, self.width), np.uint8)
        for line, x, y in lines:
            cv2.putText(white, line, (x, y), FONT, self.scale, 255, 1, cv2.LINE_AA)
        return white, cv2.dilate(white, np.ones((3, 3), np.uint8)) > 0

    def compose(self, picture: Image, mask: Mask, text: tuple[Grey, Mask]) -> tuple[Image, Mask]:
        """The whole screen around a picture of the content box's size, and what of its mask is still visible under the text."""
        y0, x0, y1, x1 = self.content
        image = np.zeros((self.height, self.width, 3), np.uint8)
        image[y0:y1, x0:x1] = picture * self.area[..., None]
        white, covered = text
        image[covered] = white[covered][:, None]
        return image, self.placed(mask) & ~covered

    def placed(self, mask: Mask) -> Mask:
        """(H, W) of the screen: what is in the picture of a mask of the content box's size."""
        y0, x0, y1, x1 = self.content
        seen = np.zeros((self.height, self.width), np.bool_)
        seen[y0:y1, x0:x1] = mask & self.area
        return seen

    def artefacts(self, hiding: Mapping[str, Mask], covered: Mask) -> dict[str, Mask]:
        """(H, W) by kind: what of the content box's masks `hiding` the text leaves to be seen, the text itself, and the black around."""
        border = ~self.placed(np.ones_like(self.area))
        seen = {kind: self.placed(mask) & ~covered for kind, mask in hiding.items()}
        return {kind: mask for kind, mask in {**seen, "text": covered, "black": border & ~covered}.items() if mask.any()}

    def shows(self, y: float, x: float) -> bool:
        """Whether a point of the content box is inside the picture."""
        height, width = self.area.shape
        return bool(0 <= y < height and 0 <= x < width and self.area[int(y), int(x)])


@dataclass(frozen=True)
class Weather:
    """What happens between the lens and the picture, for pictures of `height` x `width`."""

    seed: int
    height: int
    width: int

    @cached_property
    def room(self) -> Image:
        """The examination room, larger than a picture: walls, lamp, drapes, a rack of devices; no tissue colour anywhere."""
        rng = np.random.default_rng([self.seed, ROOM])
        height, width = int(1.4 * self.height), int(1.4 * self.width)
        ramp = np.linspace(1.15, 0.7, height)[:, None, None] * np.ones((1, width, 1))
        drawn = np.clip(ramp * rng.uniform((108, 122, 134), (134, 148, 164)), 0, 255).astype(np.uint8)
        for _ in range(16):
            y, x = int(rng.uniform(-0.1, 0.9) * height), int(rng.uniform(-0.1, 0.9) * width)
            h, w = (rng.uniform(0.08, 0.35, 2) * (height, width)).astype(int)
            shade = rng.uniform(0.25, 1.4) * np.array(((92, 110, 124), (60, 112, 118), (48, 56, 66), (128, 140, 150))[rng.integers(4)])
            cv2.rectangle(drawn, (x, y), (x + int(w), y + int(h)), [int(c) for c in shade.clip(0, 235)], -1)
        lamp = (int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.15, 0.4) * height))
        cv2.ellipse(drawn, lamp, (width // 14, height // 22), 20, 0, 360, (232, 240, 250), -1)
        return np.asarray(cv2.GaussianBlur(drawn, (0, 0), 0.006 * self.height))

    def outside(self, now: float) -> Image:
        """What the camera sees in a hand that waves it about."""
        y, x = 0.2 * self.height * (1 + np.sin(2.3 * now + self.seed)), 0.2 * self.width * (1 + np.sin(1.7 * now))
        return self.room[int(y) : int(y) + self.height, int(x) : int(x) + self.width]

    @cached_property
    def foam(self) -> tuple[Image, Image]:
        """What bubbles add and what they take, larger than a picture."""
        rng = np.random.default_rng([self.seed, FOAM])
        shape = int(1.3 * self.height), int(1.3 * self.width), 3
        bright, dark = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for _ in range(9):
            middle, spread = rng.uniform(0.1, 0.9, 2) * shape[:2], rng.uniform(0.03, 0.11) * self.height
            for _ in range(rng.integers(8, 26)):
                y, x = (middle + rng.normal(0, spread, 2)).astype(int)
                bubble(bright, dark, (int(x), int(y)), max(2, int(self.height * min(0.045, rng.lognormal(-4.2, 0.5)))))
        return cv2.GaussianBlur(bright, (3, 3), 0), cv2.GaussianBlur(dark, (3, 3), 0)

    @cached_property
    def flare(self) -> Image:
        """(h, w, 3) the lamp mirrored by a wet wall right before the lens."""
        rng = np.random.default_rng([self.seed, FOAM, 1])
        y, x = np.mgrid[: self.height, : self.width]
        middle = rng.uniform(0.35, 0.65, 2) * (self.height, self.width)
        far = ((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / (0.21 * self.height) ** 2
        return np.repeat((500 * np.exp(-far / 2)).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)

    @cached_property
    def grains(self) -> tuple[Image, Image]:
        """The sensor's noise, what it adds and what it takes, larger than a picture."""
        drawn = np.random.default_rng([self.seed, GRAIN]).normal(0, 1.8, (self.height + 64, self.width + 64, 3)).round()
        return drawn.clip(0, 255).astype(np.uint8), (-drawn).clip(0, 255).astype(np.uint8)

    def change(self, image: Image, happening: tuple[str, ...], moved: float) -> Image:
        """The picture under what is happening; `moved` (seconds of motion) shifts the bubbles."""
        if "bubbles" in happening:
            bright, dark = self.bubbles(moved)
            image = cv2.add(cv2.subtract(image, dark), bright)
        if "glare" in happening:
            image = cv2.add(cv2.convertScaleAbs(image, alpha=1.25), self.flare)
        if "dark" in happening:
            image = cv2.convertScaleAbs(image, alpha=0.08)
        if "motion_blur" in happening:
            long, short = max(3, int(0.11 * self.height)), max(3, int(0.035 * self.height))
            image = cv2.blur(cv2.blur(image, (long, short) if self.seed % 2 else (short, long)), (short, short))
        return image

    def bubbles(self, moved: float) -> tuple[Image, Image]:
        """What of the foam is in the picture after `moved` seconds of motion: what it adds and what it takes."""
        y, x = (int(0.15 * side * (1 + np.sin(0.8 * moved + phase))) for side, phase in ((self.height, 0), (self.width, 1)))
        bright, dark = (layer[y : y + self.height, x : x + self.width] for layer in self.foam)
        return bright, dark

    def hides(self, happening: tuple[str, ...], moved: float) -> dict[str, Mask]:
        """By kind the pixels (h, w) that show what is happening rather than the wall: all of them, the bubbles, the middle of the glare."""
        everything = np.ones((self.height, self.width), np.bool_)
        found: dict[str, Mask] = {kind: everything for kind in ("out_of_body", "motion_blur", "dark") if kind in happening}
        if "bubbles" in happening:
            found["bubbles"] = np.asarray(np.maximum(*self.bubbles(moved)).any(2))
        if "glare" in happening:
            found["glare"] = self.flare[..., 0] >= 128  # half of full white
        return found

    def grain(self, image: Image, rng: np.random.Generator) -> Image:
        """The picture with this frame's noise."""
        y, x = rng.integers(0, 65, 2)
        more, less = (layer[y : y + self.height, x : x + self.width] for layer in self.grains)
        return np.asarray(cv2.subtract(cv2.add(image, more), less))


def bubble(bright: Image, dark: Image, middle: tuple[int, int], radius: int) -> None:
    """A thin shell with a dark inside edge, the lamp's image at the upper left and its reflex at the lower right."""
    thick = max(1, radius // 9)
    cv2.circle(bright, middle, radius, (10, 10, 8), -1)
    cv2.circle(dark, middle, max(1, radius - thick), (52, 46, 36), thick, cv2.LINE_AA)
    cv2.circle(bright, middle, radius, (88, 84, 66), thick, cv2.LINE_AA)
    cv2.ellipse(bright, middle, (max(1, radius * 2 // 3),) * 2, 0, 20, 75, (110, 106, 90), thick, cv2.LINE_AA)
    cv2.circle(bright, (middle[0] - radius // 3, middle[1] - radius // 3), max(1, radius // 6), (255, 255, 255), -1, cv2.LINE_AA)
