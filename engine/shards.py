"""Training images as files that any trainer reads: a folder of pictures with a manifest, or WebDataset shards, which are plain tar files.

The same images give the same bytes: nothing in a file tells when, where or by whom it was made. Every file is there whole or not at all.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from engine import files, synthesis

MANIFEST = "manifest.jsonl"
OURS = {"folder": re.compile(r"[0-9]{6,}\.jpg"), "webdataset": re.compile(r"[0-9]{6,}\.tar")}
DIGITS = 6  # of a name at least; of more than a million images it takes more


@dataclass(frozen=True)
class Sample:
    """A training image: its name without an ending, its JPEG, and what is known of it."""

    key: str
    jpeg: bytes
    told: Mapping[str, Any]


def told(image: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside an image for a person or a program, from its row (schema.IMAGE): its patches, and every setting of its making."""
    same = {name: image[name] for name in ("image_id", "selection_id", "position", "height", "width")}
    layout = synthesis.settings(image["layout"]).model_dump(mode="json")
    return {**same, "layout": layout, "patches": [origin(patch_id) for patch_id in image["patch_ids"]]}


def origin(patch_id: str) -> dict[str, Any]:
    """The video and the time of a patch, as its id has them."""
    video_id, _, time_ms, _ = synthesis.moment(patch_id)
    return {"patch_id": patch_id, "video_id": video_id, "time_ms": int(time_ms)}


def key(position: int, count: int) -> str:
    """The name of the image at a position of `count`: sorted as text they stand in order."""
    return f"{position:0{max(DIGITS, len(str(count)))}}"


def folder(samples: Iterable[Sample], address: str) -> int:
    """Write KEY.jpg for every sample, then a manifest with a line for each; returns their number.

    Pictures that an earlier export left there beyond these are removed.
    """
    lines, names = [], set()
    for sample in samples:
        name = f"{sample.key}.jpg"
        files.put(sample.jpeg, f"{address}/{name}")
        lines.append(line({"file": name, **sample.told}))
        names.add(name)
    files.put("".join(lines).encode(), f"{address}/{MANIFEST}")
    tidy(address, "folder", names)
    return len(names)


def webdataset(samples: Iterable[Sample], address: str, size: int) -> int:
    """Write shards of `size` samples, 000000.tar and on, with KEY.jpg and KEY.json each; returns the number of samples.

    Shards that an earlier export left there beyond these are removed.
    """
    names: set[str] = set()
    count, waiting = 0, iter(samples)
    while some := list(islice(waiting, size)):
        name = f"{len(names):0{DIGITS}}.tar"
        files.put(tar(some), f"{address}/{name}")
        names.add(name)
        count += len(some)
    tidy(address, "webdataset", names)
    return count


def tar(samples: Iterable[Sample]) -> bytes:
    """One shard: the members of a sample stand together, its picture first, as WebDataset asks."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members(samples):
            member = tarfile.TarInfo(name)  # owned by 0, made in 1970
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def members(samples: Iterable[Sample]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the samples: a JPEG, and what is told of it as JSON."""
    for sample in samples:
        yield f"{sample.key}.jpg", sample.jpeg
        yield f"{sample.key}.json", line(sample.told).encode()


def line(content: Mapping[str, Any]) -> str:
    """A line of JSON, equal for equal content."""
    return json.dumps(content, sort_keys=True) + "\n"


def tidy(address: str, kind: str, names: set[str]) -> None:
    """Remove files of this kind that are not among `names`: a trainer that reads the folder would take them for a part of the set."""
    fs, place = files.locate(address)
    if not fs.exists(place):
        return
    fs.invalidate_cache(place)
    for info in fs.ls(place, detail=True):
        name = info["name"].rpartition("/")[2]
        if OURS[kind].fullmatch(name) and name not in names:
            fs.rm_file(info["name"])
