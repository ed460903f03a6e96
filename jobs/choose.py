"""Select patches within the budget, and compose the training images from them."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from engine import flow, selection, synthesis, tracking
from engine.config import Config
from engine.flow import Step
from engine.pool import Pool
from engine.selection import Selection
from engine.store import PatchStore
from jobs import judging, throughput

log = logging.getLogger("jobs.choose")
IMAGES_AT_ONCE = 64  # about 100 MB of pixels
TASKS = 256  # at once at most: beyond that the embeddings come no faster


def run(config: Config) -> None:
    """Rank the patches of the complete version, cut at the budget, write the selection and its images."""
    store = PatchStore(config.store.uri)
    version = store.complete_version() if store.has("videos") else store.open("patches").version
    pool = pool_of(config, store, version)
    if not len(pool):
        raise LookupError(f"the store {store.uri} holds no patches: run the job ingest on video that passes the gate")
    group, speed = config.synthesis.patches, throughput.known(config)
    seconds = config.pretrain.epochs / speed.images_per_s if speed else 0.0
    chosen = selection.choose(pool, config.selection, run=spread(config), group=group, seconds_per_image=seconds)
    chosen = replace(chosen, selection_id=synthesis.named(chosen.selection_id, config.synthesis))
    tags = {"selection": chosen.selection_id, "patches_version": version, **(speed.tags if speed else {})}
    with store.writing("choose"), tracking.running(config, "choose", chosen.selection_id, tags) as record:
        images = store.save(chosen.rows(config.selection, version), compose(config, store, chosen, version))
        counts = {"choose/patches": len(chosen.patch_ids), "choose/images": images, "choose/retained": chosen.retained}
        told = {f"choose/{name}": value for name, value in chosen.told.items()}
        record.log({**counts, f"choose/unspent_{config.selection.unit}": chosen.unspent, **told}, step=0)
        if speed:
            record.log({throughput.METRICS["choose"]: speed.images_per_s}, step=0)
        judging.keep(judging.judged(config, store, chosen, version), record)
    log.info(
        "%s: %d of %d patches, %.1f%% of the stored bytes, %d images; %.6g %s of the budget are left",
        chosen.selection_id, len(chosen.patch_ids), len(pool), 100 * chosen.retained, images, chosen.unspent, config.selection.unit,
    )  # fmt: skip


def pool_of(config: Config, store: PatchStore, version: int) -> Pool:
    """What the method may look at, of one version of the patch table."""
    method = selection.METHODS[config.selection.method]
    columns = store.patches(selection.columns(config.selection), version=version)
    vectors = store.vectors(version, config.selection.embedding) if method.embeddings else None
    others = [scorer.name for scorer in store.scorers(version) if scorer.rated == len(columns)] if method.earlier else []
    return Pool(columns, vectors, store.earlier(version, others))


def spread(config: Config) -> selection.Run:
    """Where the work inside clusters is done: tasks on whatever processors of the cluster are idle, or here."""
    if config.where == "here":
        return selection.in_process

    def run(stage: type, arguments: tuple[Any, ...], table: pa.Table) -> Iterator[pa.Table]:
        # A task holds 65,536 embeddings (0.1 GB at a width of 384) and opens the table again, which costs next to nothing.
        return flow.run_on_ray([Step(stage, arguments, batch=1, actors=(1, TASKS), loads=False)], table)

    return run


def compose(config: Config, store: PatchStore, chosen: Selection, version: int) -> Iterator[pa.Table]:
    """The training images, some at a time: only their own patches are in memory."""
    ids, each = synthesis.ordered(chosen.patch_ids, config.synthesis), config.synthesis.patches
    offsets, size = store.offsets(ids, version), IMAGES_AT_ONCE * each
    for start in range(0, len(offsets), size):
        patches = store.take(offsets[start : start + size], synthesis.READ.names, version)
        yield synthesis.synthesise(patches, ids[start : start + size], chosen.selection_id, start // each, config.synthesis)
