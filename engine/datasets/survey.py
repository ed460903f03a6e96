"""Every mask of a set looked into before anything is trained: what cannot be used, which classes there are, whether masks agree."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.datasets import masks
from engine.datasets.pair import IGNORE, Pair, Split, image_of, masks_of, misfit, truth
from engine.datasets.pixels import holed

log = logging.getLogger("jobs.datasets")
Stamp = tuple[tuple[int, int], ...]
KEPT = 2**17  # pairs whose holding is remembered, a hundred bytes each: every network of a comparison asks for the same ones
THREADS = min(8, os.cpu_count() or 1)  # decoding leaves Python free


class Holding(NamedTuple):
    """What the truth of one pair holds, or what is wrong with it."""

    numbers: frozenset[int] = frozenset()  # that its truth holds
    level: str = ""  # of a binary mask's foreground, as masks.Foreground has it
    dim: int = 0
    fault: str = ""  # a sentence; "": it can be used


def of_pair(pair: Pair) -> Holding:
    """What the masks of a pair hold; its image is only known to be whole and of their size. Once a process, unless a file changes."""
    try:
        return remembered(pair, tuple(stamp(path) for path in (pair.image, *masks_of(pair))))
    except OSError as error:
        return Holding(fault=str(error))


def stamp(path: Path) -> tuple[int, int]:
    """Bytes and time of change of a file: while they stay, so does what it holds."""
    told = path.stat()
    return told.st_size, told.st_mtime_ns


@lru_cache(maxsize=KEPT)
def remembered(pair: Pair, stamps: Stamp) -> Holding:
    """As `of_pair`, remembered by the files' stamps."""
    del stamps  # a part of the key
    try:
        if wrong := misfit(pair) or holed(pair.image):
            return Holding(fault=wrong)
        if pair.coding != "binary":
            return Holding(numbered(truth(pair)))
        found = masks.mask(pair.mask)
        return Holding(numbered(found.drawn), found.level, found.dim)
    except (ValueError, OSError) as error:
        return Holding(fault=str(error))


def numbered(labels: np.ndarray) -> frozenset[int]:
    """The class numbers that labels (H, W) hold."""
    return frozenset(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist())


def of_pairs(some: Sequence[Pair]) -> list[Holding]:
    """What was found of each pair, in their order; several are looked into at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(of_pair, some))


def check(split: Split) -> None:
    """ValueError, one sentence, where a pair of either part cannot be used, or masks of one class do not agree; decodes every mask.

    So a mask that breaks off costs seconds, not the fine-tuning before its turn to be tested on. Masks that are foreground everywhere are
    legal, and a warning.
    """
    every = (*split.train, *split.test)
    found = of_pairs(every)
    faults = [fault for pair, one in zip(every, found, strict=True) if (fault := one.fault or strange(pair, one, len(split.classes)))]
    if faults:
        raise ValueError(f"{len(faults)} of {len(every)} pairs cannot be used, {len(every) - len(faults)} can; the first: {faults[0]}")
    if told := discord(every, found):
        raise ValueError(told)
    if full := [pair for pair, one in zip(every, found, strict=True) if one.numbers == {1}]:
        log.warning("%d of %d masks are foreground everywhere, the first is %s: are they masks?", len(full), len(every), full[0].mask)


def strange(pair: Pair, found: Holding, classes: int) -> str:
    """The sentence about a class number that is none; "" where there is none such."""
    beyond = sorted(found.numbers - {IGNORE} - set(range(classes + 1)))
    return f"{pair.mask} holds the class {beyond[0]}, expected 0 to {classes}" if beyond else ""


def discord(some: Sequence[Pair], found: Sequence[Holding]) -> str:
    """The sentence about binary masks that do not agree on what is foreground; "" where they do.

    Two levels of one mask may be any, but masks of 0 and 1 beside masks of 0 and 2 are class numbers. JPEG masks that are dark but not
    black are noise beside bright ones; alone they are masks of 0 and 1 whose foreground nobody could see.
    """
    levels: dict[str, list[Pair]] = {}
    for pair, one in zip(some, found, strict=True):
        if one.level:
            levels.setdefault(one.level, []).append(pair)
    if len(levels) > 1:
        told = "; ".join(f"{len(pairs)} hold {level}, the first is {pairs[0].mask}" for level, pairs in levels.items())
        return f"the foreground of {len(some)} masks differs ({told}): are they class numbers? Masks of one class hold 0 and 255"
    dim = [(pair, one.dim) for pair, one in zip(some, found, strict=True) if one.dim]
    if dim and not levels:
        brightest = max(level for _, level in dim)
        return (
            f"{len(dim)} of {len(some)} masks are dark but not black and none has a foreground: nowhere brighter than {brightest}, "
            f"the first is {dim[0][0].mask}; masks that are stored as JPEG hold 0 and 255"
        )
    return ""


def require_classes(split: Split) -> None:
    """ValueError where a class is in none of the masks of a part; what `check` has looked into is not read again."""
    wanted = set(range(1, len(split.classes) + 1))
    for part, some in (("train on", split.train), ("test on", split.test)):
        missing = wanted - frozenset[int]().union(*(one.numbers for one in of_pairs(some)))
        if missing:
            names = ", ".join(split.classes[number - 1] for number in sorted(missing))
            raise ValueError(f"{names}: in none of the {len(some)} masks to {part}, expected in one at least of every class")


def surveyed(some: Sequence[Pair], names: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Of every class, and of "" for empty masks, in how many images it is; and a sentence for each pair that cannot be used.

    Decodes every image too.
    """
    counts, found = dict.fromkeys([*names, ""], 0), of_pairs(some)
    with ThreadPoolExecutor(THREADS) as pool:
        faults = [fault for fault in pool.map(undecodable, some, found) if fault]
    faults += [fault for pair, one in zip(some, found, strict=True) if (fault := strange(pair, one, len(names)))]
    if told := discord(some, found):
        faults.append(told)
    for one in found:
        for number in one.numbers & set(range(1, len(names) + 1)):
            counts[names[number - 1]] += 1
        counts[""] += not one.fault and not one.numbers - {0, IGNORE}
    return counts, faults


def undecodable(pair: Pair, found: Holding) -> str:
    """What is wrong with a pair, its image decoded too; "" where nothing is."""
    try:
        image_of(pair)
    except (ValueError, OSError) as error:
        return found.fault or str(error)
    return found.fault
