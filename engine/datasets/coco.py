"""A COCO file: images and outlined objects in one JSON file, each object of a category."""

import contextlib
import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from engine.datasets import outlines

FILES = 2  # kept in memory
MOST = 254  # categories: class numbers are bytes, 0 is the background and 255 what counts nowhere
NEEDED = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id"),
}


@lru_cache(maxsize=FILES)
def opened(path: Path) -> COCO:
    """ValueError for a file that is no COCO file, or whose entries lack what they need, name what is not there, or have boxes only.

    And for outlines that cannot be drawn, and for more categories than there are class numbers.
    """
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a JSON file that can be read whole: {error}") from error
    for name in ("images", "annotations", "categories"):
        if not isinstance(told, dict) or not isinstance(told.get(name), list) or not told[name]:
            raise ValueError(f"{path} has no {name}; a COCO file has images, annotations and categories")
    if bare := sum(isinstance(one, dict) and not one.get("segmentation") for one in told["annotations"]):
        raise ValueError(f"{path}: {bare} of {len(told['annotations'])} annotations have no outline; boxes alone tell no pixels")
    require_fields(told, path)
    require_kinds(told, path)
    require_links(told, path)
    require_outlines(told, path)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        made = COCO()
        made.dataset = told
        made.createIndex()
    return made


def require_fields(told: dict[str, Any], path: Path) -> None:
    """ValueError where an entry lacks a field that is read, with how many and the first."""
    for part, needed in NEEDED.items():
        lacking = [one for one in told[part] if not isinstance(one, dict) or any(one.get(field) is None for field in needed)]
        if lacking:
            wanted = f"{len(lacking)} of {len(told[part])} {part} lack one of {', '.join(needed)}"
            raise ValueError(f"{path}: {wanted}, the first is {json.dumps(lacking[0])[:120]}")


def require_kinds(told: dict[str, Any], path: Path) -> None:
    """ValueError for ids that are no numbers or words, or some this and some that, sizes that are none, and too many categories."""
    for part, fields in (("images", ("id",)), ("categories", ("id",)), ("annotations", ("id", "image_id", "category_id"))):
        for field in fields:
            words = [one for one in told[part] if isinstance(one[field], str)]
            if strange := [one for one in told[part] if type(one[field]) not in (int, str)]:
                found = f"{len(strange)} of {len(told[part])} {part} have an {field} that is no whole number and no word"
                raise ValueError(f"{path}: {found}, the first is {json.dumps(strange[0][field])[:60]}")
            if 0 < len(words) < len(told[part]):
                found = f"{len(words)} of {len(told[part])} {part} have a word for {field}, the others a number"
                raise ValueError(f"{path}: {found}; the first is {words[0][field]!r}")
    if sizeless := [one for one in told["images"] if any(type(one[side]) is not int or one[side] < 1 for side in ("width", "height"))]:
        found = f"{len(sizeless)} of {len(told['images'])} images have a width or a height that is no number of pixels"
        raise ValueError(f"{path}: {found}, the first is {json.dumps(sizeless[0])[:120]}")
    if len(told["categories"]) > MOST:
        raise ValueError(f"{path} has {len(told['categories'])} categories, {MOST} are the most")


def require_outlines(told: dict[str, Any], path: Path) -> None:
    """ValueError where outlines cannot be drawn, with how many and what is wrong with the first."""
    sizes = {one["id"]: (one["width"], one["height"]) for one in told["images"]}
    faults = [(one["id"], wrong) for one in told["annotations"] if (wrong := outlines.fault(one["segmentation"], sizes[one["image_id"]]))]
    if faults:
        first, wrong = faults[0]
        raise ValueError(
            f"{path}: {len(faults)} of {len(told['annotations'])} annotations cannot be drawn, the first is annotation {first}: {wrong}"
        )


def require_links(told: dict[str, Any], path: Path) -> None:
    """ValueError where annotations are of an image or a category that the file has not, or ids are there twice."""
    for part in NEEDED:
        if twice := len(told[part]) - len({one["id"] for one in told[part]}):
            raise ValueError(f"{path}: {twice} of {len(told[part])} {part} have an id that another one has")
    for field, part in (("image_id", "images"), ("category_id", "categories")):
        known = {one["id"] for one in told[part]}
        if lost := [one for one in told["annotations"] if one[field] not in known]:
            raise ValueError(
                f"{path}: {len(lost)} of {len(told['annotations'])} annotations have {field}s that are none of its {len(known)} {part}, "
                f"the first is {lost[0][field]!r} of annotation {lost[0]['id']}"
            )


def classes(path: Path) -> tuple[str, ...]:
    """The names of the categories, by their ids."""
    return tuple(one["name"] for _, one in sorted(opened(path).cats.items()))


def images(path: Path) -> list[dict[str, Any]]:
    """What the file says of its images: id, file_name, and more."""
    return [one for _, one in sorted(opened(path).imgs.items())]


def size(path: Path, image: int) -> tuple[int, int]:
    """(width, height) as the file says."""
    told = opened(path).imgs[image]
    return int(told["width"]), int(told["height"])


def labels(path: Path, image: int, ignore: int) -> np.ndarray:
    """The class numbers (height, width) uint8: places of the categories by id, from 1. Smaller objects lie over larger ones.

    What is marked as a crowd is `ignore`.
    """
    file = opened(path)
    width, height = size(path, image)
    numbers = {category: number for number, category in enumerate(sorted(file.cats), 1)}
    drawn = np.zeros((height, width), np.uint8)
    found = [(file.annToMask(one).astype(bool), one) for one in file.imgToAnns[image]]
    for mask, one in sorted(found, key=lambda two: -int(two[0].sum())):
        drawn[mask] = ignore if one.get("iscrowd") else numbers[one["category_id"]]
    return drawn
