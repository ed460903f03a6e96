"""What is in the way of a simulated wall and is no mucosa: an instrument, an inset, glints, smoke; each with the exact pixels it covers.

In every PERIOD one of them comes and goes. Which and where is a function of (seed, period), so it needs no memory. Lengths are shares of
the picture's height unless marked px; colours are 0 to 255 RGB. All constants: our choice, by eye, after what was hardest in real video.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from engine import mucosa
from engine.mucosa import Floats
from engine.pictures import Image, Mask

PERIOD, STAY = 4.0, 0.4  # seconds, and for how much of them it stays
CLUTTER = 40  # stream of random numbers
Point = tuple[int, int]  # x, y in px, as OpenCV has it


@dataclass(frozen=True)
class Clutter:
    """All that comes into pictures of `height` x `width` px."""

    seed: int
    height: int
    width: int

    def over(self, image: Image, now: float) -> tuple[Image, dict[str, Mask]]:
        """The picture at `now` seconds, and by kind the pixels (h, w) of which less than half is left; none where nothing has come."""
        period, since = divmod(now / PERIOD, 1)
        rng = np.random.default_rng([self.seed, CLUTTER, int(period)])
        kind, begin = str(rng.choice(list(DRAWN))), rng.uniform(0, 1 - STAY)
        if not begin <= since < begin + STAY:
            return image, {}
        layer, cover = DRAWN[kind](self, rng, since - begin)
        mixed = image + (layer.astype(np.float32) - image) * cover[..., None]
        return mixed.astype(np.uint8), {kind: cover > 0.5}

    def px(self, length: float) -> int:
        """A length in heights of the picture as whole pixels, one at least."""
        return max(1, round(length * self.height))

    def blank(self) -> Image:
        """A black picture (H, W, 3)."""
        return np.zeros((self.height, self.width, 3), np.uint8)

    def instrument(self, rng: np.random.Generator, since: float) -> tuple[Image, Floats]:
        """A steel shaft from the lower edge with an open snare at its tip, which is pushed forward."""
        drawn, foot, reach = self.blank(), rng.uniform(0.3, 0.9), rng.uniform(0.25, 0.45) + 0.3 * since
        start, lean = np.array((foot * self.width, 1.05 * self.height)), rng.uniform(-0.5, 0.5)
        tip = start + reach * self.height * np.array((lean, -1))
        side, loop = np.array((0.012 * self.height, 0)), rng.uniform(0.06, 0.11)
        middle = tip + loop * self.height * np.array((lean, -1))
        cv2.ellipse(drawn, whole(middle), (self.px(0.6 * loop), self.px(loop)), lean * 40, 0, 360, (186, 190, 198), self.px(0.012))
        cv2.line(drawn, whole(start), whole(tip), (74, 78, 86), self.px(0.055))
        cv2.line(drawn, whole(start - side), whole(tip - side), (222, 226, 232), self.px(0.014))
        return drawn, opaque(drawn)

    def inset(self, rng: np.random.Generator, since: float) -> tuple[Image, Floats]:
        """A small picture in the picture that shows how the endoscope lies."""
        drawn, high, wide = self.blank(), rng.uniform(0.24, 0.32), rng.uniform(0.2, 0.28)
        left, top = rng.uniform(0.08, 0.6) * self.width, rng.choice((0.08, 0.62)) * self.height
        corner, far = whole(np.array((left, top))), whole(np.array((left + wide * self.height, top + high * self.height)))
        cv2.rectangle(drawn, corner, far, (24, 50, 46), -1)
        cv2.rectangle(drawn, corner, far, (120, 150, 146), self.px(0.006))
        x = left + self.height * wide * (0.5 + 0.3 * np.sin(rng.uniform(0, 6) + np.linspace(0, 7 + 2 * since, 24)))
        y = top + self.height * high * np.linspace(0.12, 0.88, 24)
        cv2.polylines(drawn, [np.stack([x, y], 1).round().astype(np.int32)], False, (196, 220, 206), self.px(0.014))
        return drawn, opaque(drawn)

    def glints(self, rng: np.random.Generator, since: float) -> tuple[Image, Floats]:
        """Groups of spots where wet wall mirrors the lamp."""
        drawn = self.blank()
        for _ in range(rng.integers(3, 7)):
            group = rng.uniform(0.2, 0.8, 2) * (self.width, self.height) + 0.05 * self.height * since
            for _ in range(rng.integers(4, 10)):
                spot, axes = group + rng.normal(0, 0.05 * self.height, 2), rng.uniform(0.01, 0.035, 2)
                cv2.ellipse(drawn, whole(spot), (self.px(axes[0]), self.px(axes[1])), rng.uniform(0, 180), 0, 360, (255, 255, 255), -1)
        return drawn, opaque(drawn)

    def smoke(self, rng: np.random.Generator, since: float) -> tuple[Image, Floats]:
        """A drifting plume."""
        dense = np.roll(mucosa.noise(rng, 256, 2, 3), int(40 * since), 1)
        cover = np.asarray(np.clip(0.25 + 0.5 * cv2.resize(dense, (self.width, self.height)), 0, 0.9), np.float32)
        return np.full((self.height, self.width, 3), (198, 194, 192), np.uint8), cover


def whole(point: np.ndarray) -> Point:
    """The pixel of a point (x, y)."""
    return int(point[0]), int(point[1])


def opaque(drawn: Image) -> Floats:
    """How much of what is behind each pixel (H, W) is hidden: 1 where anything is drawn, else 0."""
    return np.asarray(drawn.any(2), np.float32)


DRAWN = {"instrument": Clutter.instrument, "inset": Clutter.inset, "glints": Clutter.glints, "smoke": Clutter.smoke}
