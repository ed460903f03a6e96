"""Segmentation data: a folder with images/ and masks/, matched by file stem, split once and for all by content."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
FOREGROUND = 127  # masks are often JPEG, so 0 and 255 arrive smeared: brighter than this counts
IGNORE = 255  # of class numbers: what is neither trained nor measured on


class Pair(NamedTuple):
    name: str  # the stem that image and mask share
    image: Path
    mask: Path
    group: str = ""


class Split(NamedTuple):
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    classes: tuple[str, ...] = ("foreground",)  # their numbers are their places and one more; 0 is background


def pairs(uri: str, test_share: float, seed: int, limit: int = 0) -> Split:
    """The pairs of the folder `uri` in two parts; the test part holds round(test_share * pairs), at least one.

    Who is drawn by `limit` (0: all) depends on (seed, name), and who is tested on (seed, bytes of the image): never on the order of the
    files. Byte-identical images stay on one side, so the test part may be larger by a few. Frames of one patient are not told apart.
    FileNotFoundError or ValueError, one sentence, for a bad folder, too few pairs, a picture without a partner or of another size.
    """
    found = sorted(matched(folder(uri)), key=lambda pair: digest(seed, pair.name.encode()))
    drawn = found[:limit] if limit else found
    groups: dict[str, list[Pair]] = {}
    for pair in sorted(drawn):
        check_sizes(pair)
        groups.setdefault(digest(seed, pair.image.read_bytes()), []).append(pair)
    if len(groups) < 2:
        raise ValueError(
            f"evaluate.uri={uri} has {len(groups)} different images (limit={limit}); one to train on and one to test on are the least"
        )
    return split([groups[key] for key in sorted(groups)], max(1, round(test_share * len(drawn))))


def split(groups: list[list[Pair]], wanted: int) -> Split:
    """The first groups, until `wanted` pairs are in the test part; the last group always trains."""
    test: list[Pair] = []
    train: list[Pair] = []
    for group in groups[:-1]:
        (test if len(test) < wanted else train).extend(group)
    return Split(tuple(sorted([*train, *groups[-1]])), tuple(sorted(test)))


def fingerprint(uri: str) -> str:
    """Twelve hex digits that change with any byte of any image or mask of the folder `uri`, and with any name."""
    told = hashlib.sha256()
    for pair in sorted(matched(folder(uri))):
        contents = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (pair.image, pair.mask))
        told.update("\n".join([pair.name, *contents, ""]).encode())
    return told.hexdigest()[:12]


def folder(uri: str) -> Path:
    """The local folder of that name; ValueError or FileNotFoundError where it is not one with images/ and masks/."""
    if not uri:
        raise ValueError("evaluate.uri is empty: name a folder with images/ and masks/")
    root = Path(uri.removeprefix("file://")).expanduser()
    for part in (root, root / "images", root / "masks"):
        if not part.is_dir():
            raise FileNotFoundError(f"evaluate.uri={uri}: there is no folder {part}; expected one with images/ and masks/")
    return root


def matched(root: Path, knob: str = "evaluate.uri") -> Iterable[Pair]:
    """The pairs of a folder; ValueError, which names `knob`, for none, for one without a partner, and for two of one stem."""
    images, masks = by_stem(root / "images"), by_stem(root / "masks")
    if not images:
        raise ValueError(f"{knob}={root}: images/ holds no picture ({', '.join(sorted(ENDINGS))})")
    for has, part, lacks in ((images, "mask", masks), (masks, "image", images)):
        alone = sorted(set(has) - set(lacks))
        if alone:
            raise ValueError(f"{knob}={root}: {len(alone)} of {len(has)} have no {part} of the same stem, the first is {has[alone[0]]}")
    return (Pair(stem, images[stem], masks[stem]) for stem in images)


def by_stem(part: Path) -> dict[str, Path]:
    """Every picture of a folder under its stem; other files (indices, hidden ones) are none of ours."""
    found: dict[str, Path] = {}
    for path in sorted(part.iterdir()):
        if not is_picture(path):
            continue
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path} have the same stem; one picture for each is expected")
        found[path.stem] = path
    return found


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def check_sizes(pair: Pair) -> None:
    """ValueError where image and mask differ in size or cannot be opened; reads headers only."""
    image, mask = size_of(pair.image), size_of(pair.mask)
    if image != mask:
        raise ValueError(f"{pair.image} is {image[0]}x{image[1]} px, but its mask {pair.mask} is {mask[0]}x{mask[1]} px")


def size_of(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            return picture.size
    except OSError as error:
        raise ValueError(f"{path} is not a picture that can be read") from error


def digest(seed: int, content: bytes) -> str:
    return hashlib.sha256(f"{seed}:".encode() + content).hexdigest()


def load(pair: Pair, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The image (side, side, 3) uint8 RGB and its class numbers (side, side) uint8, both stretched to the square; no class is legal."""
    return scaled(image_of(pair), side), (scaled(truth(pair) * 255, side) > FOREGROUND).astype(np.uint8)


def image_of(pair: Pair) -> np.ndarray:
    return picture(pair.image)


def picture(path: Path) -> np.ndarray:
    """(height, width, 3) uint8 RGB as stored; ValueError for a file that is no picture."""
    return np.asarray(cv2.cvtColor(decoded(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


def truth(pair: Pair) -> np.ndarray:
    """The class numbers (height, width) uint8 as stored, IGNORE where nothing counts.

    ValueError for a PNG of class numbers, such as 0 and 1: by the threshold it would pass for an empty mask.
    """
    grey = decoded(pair.mask, cv2.IMREAD_GRAYSCALE)
    brightest = int(grey.max())
    if 0 < brightest <= FOREGROUND and pair.mask.suffix.lower() == ".png":
        raise ValueError(f"{pair.mask} is nowhere brighter than {brightest}; masks hold 0 and 255")
    return (grey > FOREGROUND).astype(np.uint8)


def decoded(path: Path, colours: int) -> np.ndarray:
    # Turning by EXIF is off: masks carry no such tag, so a turned image would no longer lie under its mask.
    stored = np.frombuffer(path.read_bytes(), np.uint8)
    found = cv2.imdecode(stored, colours | cv2.IMREAD_IGNORE_ORIENTATION) if len(stored) else None
    if found is None:
        raise ValueError(f"{path} cannot be decoded, expected a picture")
    return np.asarray(found)


def scaled(image: np.ndarray, side: int) -> np.ndarray:
    shrinks = image.shape[0] >= side and image.shape[1] >= side
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
