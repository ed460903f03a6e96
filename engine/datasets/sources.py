"""What others pre-train on: videos and images to ingest, of which no label is ever read, and how much of them a folder holds.

Folders are from public code and papers; where one is from memory its part says "not checked". A part counts files of a kind below a folder.
The counts of Kvasir-Capsule's videos are from memory, and not checked.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.datasets.pixels import is_picture

VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".mpg", ".webm"}


class Part(NamedTuple):
    """A folder of a source: what kind of files it has, and how many were published."""

    folder: str  # below the root
    kind: str  # "images" or "videos"
    published: int
    used: str  # what a pre-training takes of it; "": nothing, as a test set holds these


class Source(NamedTuple):
    """What others pre-train on: its parts, where it is to be had, and under which licence."""

    title: str
    parts: Sequence[Part]
    source: str
    licence: str


SOURCES: dict[str, Source] = {
    "ldpolypvideo": Source(
        "LDPolypVideo",
        (
            Part("TrainValid/Images", "images", 0, "frames, a folder for each video"),
            Part("Test/Images", "images", 0, "frames, a folder for each video"),
            Part(
                ".",
                "images",
                40266 + 861400,
                "all frames; the 861,400 without boxes are of 103 videos, whose folder is not checked",
            ),
        ),
        "github.com/dashishi/LDPolypVideo-Benchmark, MICCAI 2021",
        "none stated",
    ),
    "hyperkvasir": Source(
        "HyperKvasir",
        (
            Part("labeled-images", "images", 10662, "images, without their labels"),
            Part("unlabeled-images/images", "images", 99417, "images"),
            Part("labeled-videos", "videos", 374, "frames"),
            Part("segmented-images/images", "images", 1000, ""),  # Kvasir-SEG's images: tested on
            Part("segmented-images/masks", "images", 0, ""),  # and its masks
        ),
        "datasets.simula.no/hyper-kvasir, doi 10.1038/s41597-020-00622-y",
        "CC BY 4.0",
    ),
    "gastrovision": Source(
        "Gastrovision",
        (Part(".", "images", 8000, "images, without the names of their 27 folders"),),
        "osf.io/84e7f, arXiv 2307.08140",
        "CC BY 4.0",
    ),
    "kvasir_capsule": Source(
        "Kvasir-Capsule",
        (
            Part("labelled_images", "images", 47238, "images, without their labels (folder: not checked)"),
            Part("labelled_videos", "videos", 43, "frames (folder: not checked)"),
            Part("unlabelled_videos", "videos", 74, "frames (folder: not checked)"),
        ),
        "datasets.simula.no/kvasir-capsule, doi 10.1038/s41597-021-00920-z",
        "CC BY 4.0",
    ),
}


def count(root: Path, part: Part) -> int:
    """The files of a part that are there; 0 where its folder is not."""
    top = root / part.folder
    wanted = is_picture if part.kind == "images" else lambda path: path.suffix.lower() in VIDEOS
    return sum(path.is_file() and wanted(path) for path in top.rglob("*")) if top.is_dir() else 0


def recognised(root: Path) -> list[tuple[str, list[tuple[Part, int]]]]:
    """The sources that have a folder of their own here, and what is there of each part; Gastrovision has none, and goes by its count."""
    made = []
    for name, told in SOURCES.items():
        own = any(part.folder != "." and (root / part.folder).is_dir() for part in told.parts)
        counts = [(part, count(root, part)) for part in told.parts] if own or len(told.parts) == 1 else []
        if own or any(there == part.published for part, there in counts):
            made.append((name, counts))
    return made


def tested_on(names: Iterable[str]) -> list[str]:
    """The folders of parts that nothing is taken of, where any of `names` (below a root) is in one and any in a part that is used.

    A part that is all of its source tells nothing.
    """
    some, held = list(names), list[str]()
    for told in SOURCES.values():
        there = [part for part in told.parts if part.folder != "." and any(is_within(name, part.folder) for name in some)]
        if any(part.used for part in there):
            held += [part.folder for part in there if not part.used]
    return held


def is_within(name: str, folder: str) -> bool:
    """Whether a name is that of a folder or of something below it."""
    return name == folder or name.startswith(f"{folder}/")
