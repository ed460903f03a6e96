"""A drawn colon: a textured tunnel with haustral folds and polyps, seen by a headlight camera, with the exact mask of every polyp.

The wall is a radius over (angle, depth). A pixel's ray keeps its angle, so the running minimum of the projected radius over depth
says what it meets first: folds hide what lies behind them. Everything random is a function of (seed, what, number), so the tunnel has
no end and costs no memory. Lengths are in tunnel radii unless marked px; colours are 0 to 255 RGB. All constants: our choice, by eye.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from engine import mucosa
from engine.mucosa import Floats, Grey
from engine.pictures import Box, Image, Mask, bounds

ANGLES, RADII, DEPTHS = 360, 256, 320  # nodes of the polar grids; finer ones cannot be told apart at 480 px
NEAR, FAR = 0.22, 11.0  # depths that are drawn; beyond it is dark
FOCAL = 0.36  # of the picture's height: about 110 degrees of view
FOLD_GAP, POLYP_GAP = 0.85, 2.4  # mean distances along the tunnel
SHOWN = 0.45, 3.0  # depths before the camera between which a polyp is drawn
FOLD, POLYP, THERE = 10, 11, 12  # streams of random numbers, apart from those of mucosa


@dataclass(frozen=True)
class Camera:
    """Where the tip of the endoscope is and what it looks at."""

    position: float  # along the tunnel
    centre: tuple[float, float]  # y, x in px: where the near tunnel's axis leaves the picture
    bend: tuple[float, float] = (0.0, 0.0)  # y, x in px: how far the lumen is shifted from there
    roll: float = 0.0  # radians

    @property
    def lumen(self) -> tuple[float, float]:
        """y, x in px of the darkest point."""
        return self.centre[0] + self.bend[0], self.centre[1] + self.bend[1]


@dataclass(frozen=True)
class Polyp:
    """A lobed dome on the wall."""

    number: int
    depth: float
    angle: float  # radians
    size: float  # radius
    stretch: float  # longer half axis over shorter
    turn: float  # radians
    lobes: tuple[float, ...]  # phases of the outline's waves
    colour: tuple[float, float, float]
    pits: float  # contrast of the pit pattern, 0 to 1


@dataclass(frozen=True)
class View:
    """What the camera sees."""

    image: Image
    mask: Mask  # (H, W) every pixel a polyp was painted on
    boxes: tuple[Box, ...]  # one for each visible polyp
    polyps: tuple[int, ...] = ()  # their numbers, in that order


@dataclass(frozen=True)
class Colon:
    """The tunnel of one patient for pictures of `height` x `width` px."""

    seed: int
    height: int
    width: int
    polyps: float = 1.0  # share of them that is there, the tunnel being the same: 0.1 draws every tenth of them

    def rng(self, *key: int) -> np.random.Generator:
        """Chance from the seed and a key, always the same for both."""
        return np.random.default_rng([self.seed, *key])

    @property
    def focal(self) -> float:
        """Focal length in px."""
        return FOCAL * self.height

    @cached_property
    def side(self) -> int:
        """Of the wall's texture in px: fine enough for the nearest wall."""
        return int(np.clip(3 * self.height, 256, 2048)) // 32 * 32

    @cached_property
    def wall(self) -> Image:
        """The texture of the wall, made when it is first asked for."""
        return mucosa.skin(self.seed, self.side)

    @cached_property
    def wet(self) -> Grey:
        """The film of mucus on the wall, made when it is first asked for."""
        return mucosa.film(self.seed, self.side)

    @cached_property
    def pits(self) -> Floats:
        """The pit pattern of polyps, made when it is first asked for."""
        return mucosa.pits(self.seed)

    @cached_property
    def swell(self) -> Floats:
        """(256, ANGLES) slow unevenness of the wall, periodic in depth and angle."""
        return np.asarray(cv2.resize(mucosa.swell(self.seed), (ANGLES, 256)))

    @cached_property
    def grid(self) -> tuple[Floats, Floats]:
        """(H, W) x and y of every pixel."""
        x, y = np.meshgrid(np.arange(self.width, dtype=np.float32), np.arange(self.height, dtype=np.float32))
        return x, y

    def radius(self, depths: Floats) -> Floats:
        """(DEPTHS, ANGLES) distance of the wall from the axis at absolute `depths`."""
        rows = depths * np.float32(256 / (2 * np.pi))
        part = (rows % 1)[:, None]
        low = rows.astype(np.int64) % 256
        found = 1 + np.float32(0.07) * (self.swell[low] * (1 - part) + self.swell[(low + 1) % 256] * part)
        for number in range(int(depths[0] / FOLD_GAP) - 1, int(depths[-1] / FOLD_GAP) + 2):
            place, width, reach = self.fold(number)
            low, high = np.searchsorted(depths, (place - 3 * width, place + 3 * width))
            ridge = np.exp(-(((depths[low:high] - place) / width) ** 2)).astype(np.float32)
            found[low:high] -= ridge[:, None] * reach
        return np.asarray(np.maximum(found, 0.22), np.float32)

    def fold(self, number: int) -> tuple[float, float, Floats]:
        """Depth, width and (ANGLES,) height of one haustral fold: three crescents, as the bands of the colon make them."""
        rng = self.rng(FOLD, number + 1000)
        angles = np.arange(ANGLES, dtype=np.float32) * np.float32(2 * np.pi / ANGLES)
        phase, tilt, ripple = rng.uniform(0, 2 * np.pi, 3)
        crescents = 0.6 + 0.28 * np.cos(3 * angles + 0.4 * phase) + 0.3 * np.cos(angles + tilt) + 0.06 * np.cos(7 * angles + ripple)
        place = FOLD_GAP * (number + rng.uniform(0, 0.55))
        return place, rng.uniform(0.05, 0.11), (rng.uniform(0.25, 0.55) * crescents).clip(0, 0.72).astype(np.float32)

    def polyp(self, number: int) -> Polyp:
        """The polyp `number`, all of it drawn by lot from the seed and the number."""
        rng = self.rng(POLYP, number + 1000)
        pale, red = np.array((238, 150, 128)), np.array((206, 66, 56))
        redness = rng.uniform(0.15, 1)
        return Polyp(
            number=number,
            depth=POLYP_GAP * (number + rng.uniform(0.1, 0.9)),
            angle=rng.uniform(0, 2 * np.pi),
            size=rng.uniform(0.2, 0.42),
            stretch=rng.uniform(1, 1.5),
            turn=rng.uniform(0, np.pi),
            lobes=tuple(rng.uniform(0, 2 * np.pi, 4)),
            colour=tuple(pale + (red - pale) * redness),
            pits=rng.uniform(0.3, 1),
        )

    def near_polyps(self, position: float) -> list[Polyp]:
        """Those a camera at `position` may see, the farthest first, as they are painted."""
        near, far = SHOWN
        numbers = range(int(np.floor(position / POLYP_GAP)), int(np.floor((position + far) / POLYP_GAP)) + 1)
        found = [self.polyp(number) for number in numbers if self.rng(THERE, number + 1000).random() < self.polyps]
        return sorted((one for one in found if near < one.depth - position < far), key=lambda one: -one.depth)

    def place(self, polyp: Polyp, camera: Camera) -> tuple[float, float, float]:
        """y, x and radius in px of the polyp in the picture."""
        away = polyp.depth - camera.position
        reach, angle = self.focal * (1 - 0.55 * polyp.size) / away, polyp.angle + camera.roll
        straight = np.array((reach * np.sin(angle), reach * np.cos(angle)))
        found = straight
        for _ in range(8):  # the inverse of what `view` does to a pixel
            found = straight + np.array(camera.bend) * np.exp(-np.hypot(*found) / (0.5 * self.height))
        return camera.centre[0] + found[0], camera.centre[1] + found[1], self.focal * polyp.size / away

    def view(self, camera: Camera, polyps: Sequence[Polyp] | None = None) -> View:
        """Draw what the camera sees, with `polyps`, the farthest first, in place of the tunnel's own."""
        x, y = self.grid[0] - np.float32(camera.centre[1]), self.grid[1] - np.float32(camera.centre[0])
        pull = cv2.exp(cv2.magnitude(x, y) * np.float32(-2 / self.height))
        radius, angle = cv2.cartToPolar(x - pull * np.float32(camera.bend[1]), y - pull * np.float32(camera.bend[0]))
        angle = (angle - np.float32(camera.roll % (2 * np.pi))) * np.float32(1 / (2 * np.pi))
        angle += angle < 0  # turns, 0 to 1
        light, depth, arc = self.look_up(self.polar(camera.position), radius, angle)
        along = (arc + np.float32(camera.position)) * np.float32(self.side / (2 * np.pi))
        across = angle * np.float32(self.side)
        image = cv2.multiply(self.sample(self.wall, across, along), light, dtype=cv2.CV_32F)
        shine = cv2.multiply(self.sample(self.wet, across, along), light[..., 1], dtype=cv2.CV_32F)
        image += np.maximum(shine - 190, 0)[..., None] * 7
        growing = self.near_polyps(camera.position) if polyps is None else polyps
        drawn = [(polyp.number, *self.paint(image, depth, polyp, camera)) for polyp in growing]
        return assembled(np.clip(image, 0, 255).astype(np.uint8), [one for one in drawn if one[2].any()])

    def polar(self, position: float) -> tuple[Floats, Floats]:
        """Seen at log-spaced distances from the lumen: (RADII, ANGLES + 1, 3) red, green and blue light, (..., 2) depth and arc length."""
        away = np.geomspace(NEAR, FAR, DEPTHS).astype(np.float32)
        wall = self.radius(away + np.float32(position))
        light, reach = lamp(wall, away), self.focal * wall / away[:, None]
        seen = np.minimum.accumulate(reach, axis=0)
        nodes = self.distances()
        index = np.stack([np.interp(nodes, column[::-1], np.arange(DEPTHS - 1, -1, -1)) for column in seen.T], axis=1)
        low = np.minimum(index.astype(np.int64), DEPTHS - 2)
        hidden = np.take_along_axis(reach > seen, low, 0)  # behind a fold: what is seen there begins at the next node
        part = np.where(hidden, 1, index - low).astype(np.float32)
        level = np.take_along_axis(light, low, 0) * (1 - part) + np.take_along_axis(light, low + 1, 0) * part
        depth = np.float32(NEAR) * np.exp((low + part) * (np.log(FAR / NEAR) / (DEPTHS - 1)))
        height = 1 - (np.take_along_axis(wall, low, 0) * (1 - part) + np.take_along_axis(wall, low + 1, 0) * part)
        arc = depth + 1.2 * height  # folds have as much skin as they are high
        level = cv2.blur(np.pad(level, ((0, 0), (2, 2)), mode="wrap"), (5, 1))[:, 2:-2]  # crests fall between the nodes
        lit = tinted(level)
        where = np.stack([depth, arc], axis=2).astype(np.float32)
        return np.concatenate([lit, lit[:, :1]], axis=1), np.concatenate([where, where[:, :1]], axis=1)

    def distances(self) -> npt.NDArray[np.float64]:
        """RADII distances from the middle of the picture in px, in even ratios. (RADII,)."""
        return np.geomspace(0.008 * self.height, 2.5 * self.height, RADII)

    def look_up(self, polar: tuple[Floats, Floats], radius: Floats, angle: Floats) -> tuple[Floats, Floats, Floats]:
        """(H, W, 3) light, (H, W) depth and (H, W) arc length of pixels at `radius` px and `angle` turns."""
        step = (RADII - 1) / np.log(2.5 / 0.008)
        rows = (cv2.log(np.maximum(radius, 0.008 * self.height)) - np.float32(np.log(0.008 * self.height))) * np.float32(step)
        columns = angle * np.float32(ANGLES)
        light, where = (cv2.remap(part, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for part in polar)
        return light, where[..., 0], where[..., 1]

    def sample(self, texture: Any, across: Floats, along: Floats) -> Any:
        """A texture, which repeats itself, at places in its pixels, (H, W) each."""
        return cv2.remap(texture, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)

    def paint(self, image: Floats, depth: Floats, polyp: Polyp, camera: Camera) -> tuple[Box, Mask]:
        """Paint one polyp into `image` and return the box it may cover and, inside it, the pixels that it does."""
        y, x, size = self.place(polyp, camera)
        reach = 1.5 * size * polyp.stretch**0.5
        y0, x0 = max(int(y - reach), 0), max(int(x - reach), 0)
        y1, x1 = min(int(y + reach) + 2, self.height), min(int(x + reach) + 2, self.width)
        if y0 >= y1 or x0 >= x1:
            return (0, 0, 0, 0), np.zeros((0, 0), np.bool_)
        v, u = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        u, v, edge = outline(polyp, camera.roll, (u - np.float32(x)) / np.float32(size), (v - np.float32(y)) / np.float32(size))
        away = polyp.depth - camera.position
        hidden = depth[y0:y1, x0:x1] < away * (1 - 0.6 * polyp.size) - 0.5 * polyp.size
        cover = np.clip((1 - edge) * np.float32(size / 4), 0, 1) * ~hidden
        lean = np.array((x - camera.lumen[1], y - camera.lumen[0])) / (np.hypot(x - camera.lumen[1], y - camera.lumen[0]) + 1e-6)
        colour = self.dome(polyp, camera.roll, (u, v, edge), lean) * tinted(lamp_power(np.hypot(away, 0.6)))
        part = image[y0:y1, x0:x1]
        part += (colour - part) * cover[..., None]
        return (y0, x0, y1, x1), cover > 0

    def dome(self, polyp: Polyp, roll: float, local: tuple[Floats, Floats, Floats], lean: npt.NDArray[np.float64]) -> Floats:
        """(h, w, 3) colour under full light of a dome with pits; `lean` is the side that faces the lamp, as x, y."""
        u, v, edge = local
        height = np.sqrt(np.clip(1 - edge**2, 0, 1))
        turned = polyp.turn + roll
        side = np.float32(lean @ (np.cos(turned), np.sin(turned))) * u + np.float32(lean @ (-np.sin(turned), np.cos(turned))) * v
        scale, start = np.float32(90), np.float32(37 * polyp.number % 256)
        pits = self.sample(self.pits, u * scale + start, v * scale + start)
        shade = np.clip(0.4 + 0.45 * height + 0.32 * side, 0.14, 1.25) * (1 + 0.11 * np.float32(polyp.pits) * pits)
        shade *= np.clip(0.66 + 1.6 * (1 - edge), 0, 1)  # the crease at its foot
        shine = np.clip(0.8 * height + 0.45 * side + 0.09 * self.sample(self.pits, u * 31 + start, v * 31) - 0.93, 0, 1)
        return np.asarray(shade[..., None] * np.array(polyp.colour) + shine[..., None] * 2600, np.float32)


def assembled(image: Image, painted: list[tuple[int, Box, Mask]]) -> View:
    """A view with the union of the masks and a tight box around each, of polyps by number."""
    mask, boxes = np.zeros(image.shape[:2], np.bool_), []
    for _, (y0, x0, y1, x1), part in painted:
        mask[y0:y1, x0:x1] |= part
        top, left, bottom, right = bounds(part)
        boxes.append((y0 + top, x0 + left, y0 + bottom, x0 + right))
    return View(image, mask, tuple(boxes), tuple(number for number, _, _ in painted))


def outline(polyp: Polyp, roll: float, u: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    """Coordinates along the polyp's own axes, and the distance from its middle, 1 at the outline."""
    cos, sin = np.float32(np.cos(polyp.turn + roll)), np.float32(np.sin(polyp.turn + roll))
    a, b = (u * cos + v * sin) / np.float32(polyp.stretch**0.5), (v * cos - u * sin) * np.float32(polyp.stretch**0.5)
    angle = np.arctan2(b, a)
    waves = sum(0.05 * np.cos((k + 2) * angle + np.float32(phase)) for k, phase in enumerate(polyp.lobes))
    return np.asarray(a), np.asarray(b), np.asarray(np.hypot(a, b) / (1 + waves), np.float32)


def lamp(wall: Floats, away: Floats) -> Floats:
    """(DEPTHS, ANGLES) light that comes back from the wall: Lambert's cosine with the lamp at the camera, and falloff."""
    z = away[:, None]
    slope = np.gradient(wall, away, axis=0)
    twist = (np.roll(wall, -1, 1) - np.roll(wall, 1, 1)) * np.float32(ANGLES / (4 * np.pi)) / wall
    distance = np.hypot(wall, z)
    cosine = (wall - z * slope) / (distance * np.sqrt(1 + slope**2 + twist**2))
    return np.asarray(lamp_power(distance) * np.clip((cosine + 0.25) / 1.25, 0.05, 1) ** 0.8, np.float32)


def lamp_power(distance: Any) -> Any:
    """Softer than the inverse square, as the camera's own gain makes it."""
    return 2.5 / (0.85 + distance**1.75)


def tinted(level: Any) -> Floats:
    """(..., 3) the light on red, green and blue: what comes from far away is redder, as it met more tissue on its way."""
    return np.stack([level**0.9, level**1.12, level**1.18], axis=-1).astype(np.float32)
