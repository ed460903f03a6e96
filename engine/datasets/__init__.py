"""Segmentation data: known sets, folders and COCO files as pairs of an image and its truth, split once and for all without leaks.

`pairs` splits a folder, `chosen` whatever `evaluate.*` names.

    pair       what an image and its truth are
    pixels     how pictures are read
    masks      how masks are
    volumes    how slices of NIfTI files are
    coco       how COCO files are
    outlines   how theirs are drawn, or cannot be
    folders    where pairs lie in a folder
    groups     who is of one patient, video or centre there
    layouts    where they lie in known sets
    published  the known sets and their counts
    splits     who is tested on
    survey     what every mask holds
    sources    what others pre-train on
"""

import hashlib
from collections import Counter
from pathlib import Path

from engine.datasets import coco, folders, layouts, published, splits
from engine.datasets.folders import local, matched, read_from
from engine.datasets.pair import IGNORE, Pair, Split, check_sizes, image_of, load, masks_of, truth
from engine.datasets.pixels import is_picture, picture, scaled
from engine.datasets.published import SETS
from engine.datasets.splits import digest
from engine.datasets.survey import check, require_classes, surveyed
from engine.models import EvaluateConfig

__all__ = [
    "IGNORE", "SETS", "Pair", "Split", "check", "check_place", "check_sizes", "chosen", "classes", "digest", "every", "fingerprint",
    "image_of", "is_picture", "listed", "load", "local", "matched", "pairs", "picture", "read_from", "require_classes", "scaled",
    "surveyed", "truth",
]  # fmt: skip


def pairs(uri: str, test_share: float, seed: int, limit: int = 0) -> Split:
    """The pairs of the folder `uri` in two parts; the test part holds round(test_share * pairs), at least one.

    Who is tested depends on (seed, bytes of the image), and who is drawn by `limit` (0: all) to train on (seed, name): never on the order
    of the files. A limit takes no image from the test part, as to be tested on costs little. Byte-identical images stay on one side, and
    so does a patient, video or centre where an index.csv names these: the test part may be larger by one of them. Lists (train.txt,
    test.txt or val.txt) are followed where there are any.
    FileNotFoundError or ValueError, one sentence, for a bad folder, too few pairs, a picture without a partner or of another size.
    """
    return chosen(EvaluateConfig.model_construct(uri=uri, test_share=test_share, limit=limit), seed)


def chosen(config: EvaluateConfig, seed: int) -> Split:
    """What evaluate.* names, in two parts: by evaluate.test_groups, else by the set's own lists, else by content.

    Errors as of `pairs`, and where a known set has not the published counts. ValueError where a part has no image.
    """
    found = listed(config.uri, config.dataset, config.pairs)
    check_sizes(found)
    if config.test_groups:
        made = splits.by_groups(found, config.test_groups, config.train_groups)
    elif any(pair.part for pair in found):
        made = splits.by_part(found)
    else:
        made = by_content(found, config, seed)
    if not made.train or not made.test:
        raise ValueError(
            f"evaluate.uri={config.uri} gives {len(made.train)} images to train on and {len(made.test)} to test on; "
            "one of each is the least"
        )
    return made._replace(train=splits.drawn(made.train, seed, config.limit), classes=classes(config.uri, config.dataset))


def check_place(config: EvaluateConfig) -> None:
    """FileNotFoundError or ValueError, one sentence, where there is nothing to list; looks into no file."""
    place(config.uri, config.dataset)


def place(uri: str, dataset: str) -> Path:
    """The folder or COCO file that is named; errors as of `check_place`. FileNotFoundError or ValueError."""
    if dataset == "folder":
        return folders.folder(uri)
    root = local(uri)
    if dataset == "coco" and not (uri and root.is_file()):
        raise FileNotFoundError(f"evaluate.uri={uri!r} is no file; evaluate.dataset=coco takes a JSON file, its images lie beside it")
    if dataset != "coco" and not (uri and root.is_dir()):
        raise FileNotFoundError(f"evaluate.uri={uri!r} is no folder; {SETS[dataset].title} is to be had at {SETS[dataset].source}")
    return root


def by_content(found: list[Pair], config: EvaluateConfig, seed: int) -> Split:
    """Split by groups and content, as splits.by_content does; its ValueError names the knob."""
    try:
        return splits.by_content(found, config.test_share, seed)
    except ValueError as error:
        raise ValueError(f"evaluate.uri={config.uri} has {error}; one to train on and one to test on are the least") from error


def listed(uri: str, dataset: str = "folder", expected: int = 0) -> list[Pair]:
    """Every pair of a folder, a COCO file or a known set, checked against `expected` and what was published.

    Where `expected` pairs are named a known set may hold fewer of anything than was published, and more of nothing. ValueError for another
    number of pairs than expected, or a name that two bear.
    """
    found = every(uri, dataset)
    if twice := [name for name, count in Counter(pair.name for pair in found).items() if count > 1]:
        raise ValueError(f"evaluate.uri={uri} has {len(twice)} names that more than one image bears, the first is {twice[0]}")
    if expected and len(found) != expected:
        raise ValueError(f"evaluate.uri={uri} has {len(found):,} pairs, evaluate.pairs={expected:,} were expected")
    if dataset in SETS:
        published.check(dataset, found, uri, part=bool(expected))
    return found


def of_folder(uri: str) -> list[Pair]:
    """The pairs of images/ and masks/; FileNotFoundError with what else the folder may be."""
    try:
        return folders.listed(place(uri, "folder"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{hint(local(uri))}") from error


def of_set(root: Path, name: str) -> list[Pair]:
    """The pairs of a known set; FileNotFoundError with where the set is to be had."""
    try:
        return SETS[name].pairs(root)
    except FileNotFoundError as error:
        where = f"; {SETS[name].title} is to be had at {SETS[name].source}"
        raise FileNotFoundError(f"evaluate.dataset={name}: {error}{hint(root, name)}{where}") from error


def hint(root: Path, name: str = "") -> str:
    """What a folder that is not the set `name` looks like, for the end of a sentence that says so."""
    others = [told for other, told in published.likely(root) if other != name]
    return f"; it looks like {others[0]}" if others else ""


def classes(uri: str, dataset: str) -> tuple[str, ...]:
    """The names of the foreground classes, in the order of their numbers."""
    return coco.classes(local(uri)) if dataset == "coco" else SETS[dataset].classes if dataset in SETS else ("foreground",)


def fingerprint(uri: str, dataset: str = "folder") -> str:
    """Twelve hex digits that change with any byte of any image or mask, with any name, and with who is of which group or part.

    Of a set that tells neither groups nor parts it is as it was before these counted.
    """
    told, read = hashlib.sha256(), dict[Path, str]()
    for pair in sorted(every(uri, dataset)):
        masks = masks_of(pair)
        for path in {pair.image, *masks} - read.keys():
            read[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        put = [f"{pair.group}\0{pair.part}"] if pair.group or pair.part else []
        told.update("\n".join([pair.name, *(read[path] for path in (pair.image, *masks)), *put, ""]).encode())
    return told.hexdigest()[:12]


def every(uri: str, dataset: str) -> list[Pair]:
    """Every pair, however many there are; errors as of `check_place`, and where what is there cannot be listed."""
    if dataset == "folder":
        return of_folder(uri)
    return layouts.coco_file(place(uri, dataset)) if dataset == "coco" else of_set(place(uri, dataset), dataset)
