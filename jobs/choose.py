"""Select patches within the budget, and compose the training images from them."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from engine import selection, synthesis, tracking
from engine.config import Config
from engine.selection import Selection
from engine.store import PatchStore
from jobs import judging

log = logging.getLogger("jobs.choose")
IMAGES_AT_ONCE = 64  # about 100 MB of pixels


def run(config: Config) -> None:
    """Rank the patches of the complete version, cut at the budget, write the selection and its images."""
    store = PatchStore(config.store.uri)
    version = store.complete_version() if store.has("videos") else store.open("patches").version
    columns = store.patches(selection.COLUMNS, version=version)
    if not len(columns):
        raise LookupError(f"the store {store.uri} holds no patches: run the job ingest on video that passes the gate")
    chosen = selection.choose(columns, config.selection, np.random.default_rng(config.selection.seed), config.synthesis.patches)
    chosen = replace(chosen, selection_id=synthesis.named(chosen.selection_id, config.synthesis))
    tags = {"selection": chosen.selection_id, "patches_version": version}
    with store.writing("choose"), tracking.running(config, "choose", chosen.selection_id, tags) as record:
        images = store.save(chosen.rows(config.selection, version), compose(config, store, chosen, version))
        record.log({"choose/patches": len(chosen.patch_ids), "choose/images": images, "choose/retained": chosen.retained}, step=0)
        judging.keep(judging.judged(config, store, chosen, version), record)
    log.info(
        "%s: %d of %d patches, %.1f%% of the stored bytes, %d images",
        chosen.selection_id, len(chosen.patch_ids), len(columns), 100 * chosen.retained, images,
    )  # fmt: skip


def compose(config: Config, store: PatchStore, chosen: Selection, version: int) -> Iterator[pa.Table]:
    """The training images, some at a time: only their own patches are in memory."""
    ids, each = synthesis.ordered(chosen.patch_ids, config.synthesis), config.synthesis.patches
    offsets, size = store.offsets(ids, version), IMAGES_AT_ONCE * each
    for start in range(0, len(offsets), size):
        patches = store.take(offsets[start : start + size], synthesis.READ.names, version)
        yield synthesis.synthesise(patches, ids[start : start + size], chosen.selection_id, start // each, config.synthesis)
