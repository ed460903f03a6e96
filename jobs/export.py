"""The training images of a selection as files: a folder of pictures, or WebDataset shards."""

import logging
from collections.abc import Iterator

import pyarrow as pa

from engine import shards
from engine.config import Config
from engine.shards import Sample
from engine.store import ImageReader, PatchStore, quoted
from jobs import named

log = logging.getLogger("jobs.export")
TOLD = ["image_id", "selection_id", "position", "patch_ids", "layout", "height", "width"]
AT_ONCE = 64  # images, whose bytes are in memory


def run(config: Config) -> None:
    """Write the images of export.selection, or of the selection that selection.* and synthesis.* name, to export.path."""
    store, selection_id = PatchStore(config.store.uri), config.export.selection or named.asked(config)
    reader, address = store.reader(selection_id), f"{config.export.path.rstrip('/')}/{selection_id}"
    with store.reading("images", reader.version):
        made = samples(reader, rows(store, reader))
        as_folder, shard = config.export.format == "folder", config.export.shard
        count = shards.folder(made, address) if as_folder else shards.webdataset(made, address, shard)
    log.info("%d images of %s are in %s", count, selection_id, address)


def rows(store: PatchStore, reader: ImageReader) -> pa.Table:
    """What is known of the images that the reader reads, in its order; LookupError for a selection without images."""
    len(reader)
    mine = f"selection_id = {quoted([reader.selection_id])}"
    return store.open("images", reader.version).to_table(columns=TOLD, filter=mine).sort_by("position")


def samples(reader: ImageReader, known: pa.Table) -> Iterator[Sample]:
    """Every image with its bytes, in order of position."""
    last = known["position"][-1].as_py()
    for start in range(0, len(known), AT_ONCE):
        some = known.slice(start, AT_ONCE).to_pylist()
        for row, jpeg in zip(some, reader(range(start, start + len(some))), strict=True):
            yield Sample(shards.key(row["position"], last), jpeg, shards.told(row))
