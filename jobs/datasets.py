"""Which data sets there are to evaluate on and to pre-train on, and what of one lies in a folder."""

import logging
from typing import Any

import pyarrow as pa

from engine import datasets
from engine.config import Config
from engine.datasets import published, sources
from engine.models import EvaluateConfig
from jobs import output

log = logging.getLogger("jobs.datasets")
COLUMNS = pa.schema([(name, pa.string()) for name in ("name", "title", "published", "classes", "licence", "source")])
FOUND = pa.schema([("what", pa.string()), ("found", pa.int64()), ("published", pa.int64()), ("told", pa.string())])
WRONG = 5  # sentences about what cannot be used that are told


def run(config: Config) -> None:
    """Without evaluate.uri or videos.uri what is known of all, or of evaluate.dataset; else what is there against what was published.

    ValueError, after the table, where the counts of a known set are not those published.
    """
    named = config.videos.uri != Config().videos.uri
    if config.evaluate.uri:
        output.give(pa.Table.from_pylist(checked(config.evaluate), FOUND), config.output)
        datasets.listed(config.evaluate.uri, config.evaluate.dataset, config.evaluate.pairs)  # what is not as published is an error
    if named:
        output.give(pa.Table.from_pylist(ingestible(config.videos.uri), FOUND), config.output, output.as_blocks)
    if not config.evaluate.uri and not named:
        known = [row for row in every() if config.evaluate.dataset in (row["name"], "folder", "coco")]
        output.give(pa.Table.from_pylist(known, COLUMNS), config.output, output.as_blocks)


def every() -> list[dict[str, str]]:
    """A row for every known set, those with truth first."""
    rows = [row(name, told, ", ".join(told.classes), told.counted()) for name, told in datasets.SETS.items()]
    for name, source in sources.SOURCES.items():
        parts = {f"{part.kind} in {part.folder}": part.published for part in source.parts if part.published}
        rows.append(row(name, source, "to pre-train on", counts(parts)))
    return rows


def row(name: str, told: Any, classes: str, numbers: str) -> dict[str, str]:
    """A set as a row of the listing."""
    return {"name": name, "title": told.title, "published": numbers, "classes": classes, "licence": told.licence, "source": told.source}


def counts(told: Any) -> str:
    """Numbers of things in words, by what they are."""
    return ", ".join(f"{count:,} {what}" for what, count in told.items())


def checked(config: EvaluateConfig) -> list[dict[str, Any]]:
    """Counts, classes, and what cannot be used, of what evaluate.* names; reads every image and mask."""
    pairs = datasets.every(config.uri, config.dataset)
    told = datasets.SETS[config.dataset].published if config.dataset in datasets.SETS else {}
    there = published.found(pairs, datasets.classes(config.uri, config.dataset))
    rows = [{"what": what, "found": there.get(what, 0), "published": told.get(what)} for what in dict.fromkeys([*there, *told])]
    classes, faults = datasets.surveyed(pairs, datasets.classes(config.uri, config.dataset))
    rows += [{"what": f"images with {name}" if name else "images with an empty mask", "found": count} for name, count in classes.items()]
    rows.append({"what": "pairs that cannot be used", "found": len(faults), "published": 0})
    for fault in faults[:WRONG]:
        log.warning(fault)
    return rows


def ingestible(uri: str) -> list[dict[str, Any]]:
    """What of the known sources lies at videos.uri; ValueError where none does. FileNotFoundError for what is no local folder."""
    root = datasets.local(uri)
    if not root.is_dir():
        raise FileNotFoundError(f"videos.uri={uri!r} is no local folder: the job datasets counts files, ingest takes addresses too")
    found = sources.recognised(root)
    if not found:
        known = ", ".join(told.title for told in sources.SOURCES.values())
        raise ValueError(f"videos.uri={uri!r} is laid out like none of {known}; ingest takes any folder of videos or images all the same")
    return [
        {
            "what": f"{name}: {part.kind} in {part.folder}",
            "found": there,
            "published": part.published or None,
            "told": f"used: {part.used}" if part.used else "left out by ingest: a test set holds these",
        }
        for name, parts in found
        for part, there in parts
    ]
