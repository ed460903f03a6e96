"""Select patches within the budget, and compose the training images from them."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from engine import difficulty, flow, heap, selection, synthesis, tracking
from engine.config import Config, SelectionConfig
from engine.flow import Step
from engine.pool import Clustering, Pool
from engine.selection import Selection
from engine.selection.clustering import fits
from engine.store import PatchStore, Scorer, journal, roundings
from engine.store.tables import CLUSTERS
from jobs import judging, named, thrift, throughput

log = logging.getLogger("jobs.choose")
TASKS = 256  # at once at most: beyond that the embeddings come no faster


def run(config: Config, kept_by: str = "") -> None:
    """Rank the patches of the complete version, cut at the budget, write the selection and its images; or those of selection.named.

    `kept_by` names the settings by which the selection is kept current: so the journal and its run tell it from what a person chose.
    LookupError for a store without patches.
    """
    heap.keep_freed()  # embeddings stream through in gigabytes
    store = PatchStore(config.store.uri)
    version = store.complete_version() if store.has("videos") else store.open("patches").version
    if not store.open("patches", version).count_rows():
        raise LookupError(f"the store {store.uri} holds no patches: run the job ingest on video that passes the gate")
    if config.selection.named:
        lay_out(config, store, version)
        return
    pool = pool_of(config, store, version)
    group, speed = config.synthesis.patches, throughput.known(config)
    seconds = speed.seconds(config.pretrain.epochs) if speed else 0
    solve = partial(selection.choose, config=config.selection, group=group, seconds_per_image=seconds)
    chosen, took = thrift.measured(config, pool, spread(config), lambda pool, run: solve(pool, run=run))
    chosen = replace(chosen, selection_id=synthesis.named(chosen.selection_id, config.synthesis))
    tags = {"selection": chosen.selection_id, "patches_version": version, "raters": raters(store), **(speed.tags if speed else {})}
    tags |= unlearnable(config, chosen)
    tags |= {"few": chosen.few} if chosen.few else {}
    tags |= {"clustering": clusterings_of(config.selection, chosen.clustering)} if chosen.clustering else {}
    with store.writing("choose"), tracking.running(config, "choose", f"{chosen.selection_id} {version}", tags) as record:
        if kept_by:  # before it is there, so that none is there untold
            journal.enter(store, "selections", chosen.selection_id, {"step": "made", "by": kept_by}, tracking.code_commit())
            record.note({"kept_by": kept_by})
        images = store.save(chosen.rows(config.selection, version), images_of(config, store, chosen, version))
        if chosen.clustering:  # after what took so long to find is there
            keep(store, config.selection, pool, chosen.clustering, version)
        counts = {"choose/patches": len(chosen.patch_ids), "choose/images": images, "choose/retained": chosen.retained}
        told = {f"choose/{name}": value for name, value in chosen.told.items()}
        record.log({**counts, f"choose/unspent_{config.selection.unit}": chosen.unspent, **told}, step=0)
        record.log(took | reused(pool, chosen, config.selection.of) | moved(config, store, chosen, version), step=0)
        if speed:
            record.log({throughput.METRICS["choose"]: speed.images_per_s}, step=0)
        judging.keep(judging.judged(config, store, chosen, version), record)
    log.info(
        "%s: %d of %d %s, %.1f%% of the stored bytes, %d images; %.6g %s of the budget are left",
        chosen.selection_id, len(chosen.patch_ids), len(pool), config.selection.of, 100 * chosen.retained, images,
        chosen.unspent, config.selection.unit,
    )  # fmt: skip
    if chosen.few:
        log.warning("the budget has room for more: %s", chosen.few)


def lay_out(config: Config, store: PatchStore, version: int) -> None:
    """The training images of a selection that is there, laid out as synthesis.* says, and a run that says which it is."""
    chosen, rows = named.selection(config, version)
    tags = {"selection": chosen.selection_id, "patches_version": version, "named": config.selection.named}
    with store.writing("choose"), tracking.running(config, "choose", f"{chosen.selection_id} {version}", tags) as record:
        is_there = chosen.selection_id == config.selection.named
        images = len(store.reader(chosen.selection_id)) if is_there else store.save(rows, images_of(config, store, chosen, version))
        record.log({"choose/patches": len(rows), "choose/images": images, "choose/retained": chosen.retained}, step=0)
        found = judging.judged(config, store, chosen, version)
        judging.keep(found, record)
    size = 100 * chosen.retained
    log.info("%s: %d %s, %.1f%% of the stored bytes, %d images", chosen.selection_id, len(rows), found.of, size, images)


def pool_of(config: Config, store: PatchStore, version: int) -> Pool:
    """What the method may look at, of one version of the patch table, and what is known of its clusters."""
    method = selection.METHODS[config.selection.method]
    columns = store.patches(selection.columns(config.selection), version=version)
    vectors = store.vectors(version, config.selection.embedding) if method.embeddings else None
    others = heard(config, store, version, len(columns)) if method.earlier else []
    every = Pool(columns, vectors, store.earlier(version, others), rebuilds=difficulty.rebuilds(config.difficulty))
    pool = selection.of_kind(every, config.selection.of)
    return clustered(config, store, continued(store, config.selection, pool)) if selection.clustering_of(config.selection) else pool


def heard(config: Config, store: PatchStore, version: int, patches: int) -> list[str]:
    """The other scorers that rated every patch on the scale of the patches' own, from the least trained on; ValueError for none but others.

    EL2N averages trainings of one network and forgetting goes along one: so a contrastive loss is not heard beside a squared error.
    """
    own, rating = difficulty.scale(config.difficulty), [one for one in store.scorers(version) if one.rated]
    others = [one.name for one in rating if one.scale not in ("", own)]
    behind = [one for one in rating if one.name not in others and one.rated < patches]
    found = [one.name for one in rating if one.name not in others and one.rated == patches]
    reasons = [f"{', '.join(others)}: on another scale than the patches' own, which by difficulty.* is a {own}"] if others else []
    reasons += [unrated(one, patches) for one in behind]
    if reasons and not found:
        first = "every patch" if behind else "one scale"
        raise ValueError(
            f"selection.method={config.selection.method} compares scorers of {first}, and the store has but {'; '.join(reasons)}"
        )
    for told in reasons:
        log.warning("not heard are %s", told)
    if found:
        log.info("heard are, from the least trained on, %s and the patches' own scorer", ", ".join(found))
    return found


def unrated(one: Scorer, patches: int) -> str:
    """How many of so many patches a scorer has yet to score, and by which command it does."""
    by = "score.by=early" if one.name.startswith("early-") else "score.by=checkpoint and its difficulty.checkpoint"
    left = f"{patches - one.rated:,} of {patches:,} patches"
    return f"{one.name}, which has yet to score {left}: run the job score with {by} and the same other knobs"


def unlearnable(config: Config, chosen: Selection) -> dict[str, str]:
    """Why endocurate left out what can be learnt, as a tag; nothing where it did not."""
    if chosen.told.get("learnable", 1):
        return {}
    why = f"left out: the difficulty is a {difficulty.scale(config.difficulty)}, which the variance of a patch says nothing of"
    log.warning("what can be learnt is %s", why)
    return {"learnable": why}


def continued(store: PatchStore, config: SelectionConfig, pool: Pool) -> Pool:
    """The pool with what earlier choices by the same clusters left."""
    keys, ids, name, left = pool.keys(), pool.columns["patch_id"], selection.clustering_of(config), selection.left_of(config)
    known = store.clustering(name, ids, keys)
    if known and left:
        known = replace(known, left=store.clustering(left, ids, keys))
    return replace(pool, clustering=known, rounded=roundings.rounded(store, name, pool, known), hashes=keys)


def keep(store: PatchStore, config: SelectionConfig, pool: Pool, found: Clustering, version: int) -> None:
    """Keep what a choice from a pool, of a version of the patch table, found out, for the next one.

    Nothing of a pool in which two patches have one key, nor in place of what was found out of a newer version.
    """
    name = selection.clustering_of(config)
    if store.keep(name, pool, found, version):
        roundings.keep(store, name, pool, found, version)
    if found.left:
        store.keep(selection.left_of(config), replace(pool, clustering=pool.left), found.left, version)


def clusterings_of(config: SelectionConfig, found: Clustering) -> str:
    """The names of what a choice went by, each with that of its centroids: that of the pool, and that of what SemDeDup left of it."""
    first = f"{selection.clustering_of(config)}/{found.name}"
    return f"{first}, {selection.left_of(config)}/{found.left.name}" if found.left else first


def clustered(config: Config, store: PatchStore, pool: Pool) -> Pool:
    """The pool with the clusters alone that a choice by other methods or budgets left, where its own settings left none that fit it."""
    width, count = pool.embeddings().width, selection.has_room(pool, config.selection)
    if pool.clustering and fits(pool.clustering, width, count):
        return pool
    names = [table.removeprefix(CLUSTERS) for table in store.clusterings()]
    others = (store.clustering(name, pool.columns["patch_id"], pool.keys()) for name in selection.of_same_clusters(config.selection, names))
    found = next((one.bare() for one in others if one and fits(one, width, count)), None)
    return replace(pool, clustering=replace(found, left=pool.left)) if found else pool


def raters(store: PatchStore) -> str:
    """Whose scores the patches have now: of one scorer, unless a job rescore is under way."""
    return ", ".join(sorted(map(str, store.patches(["scorer"])["scorer"].unique().to_pylist())))


def reused(pool: Pool, chosen: Selection, of: str) -> dict[str, float]:
    """How many patches, or frames, a clustering met for the first time, and whether it was fitted anew; nothing of a choice by none."""
    if not chosen.clustering:
        return {}
    known, fitted = pool.clustering, pool.clustering is None or chosen.clustering.name != pool.clustering.name
    new = len(pool) if known is None else int(np.sum(known.labels < 0))
    how = "fitted anew" if fitted else "kept from an earlier choice"
    if not fitted and chosen.told.get("clustered_anew"):
        how += ", those of what SemDeDup leaves fitted anew"
    log.info("%d of %d %s are new; the clusters were %s", new, len(pool), of, how)
    return {"choose/new": new, "choose/fitted": fitted}


def moved(config: Config, store: PatchStore, chosen: Selection, version: int) -> dict[str, float]:
    """How many choices entered and left since the newest one of the same settings on an older version; nothing where there is none.

    Of the same layout too: another takes other numbers of patches, so what differed would be the layout.
    """
    one = next(named.held(config, store, "selection", "synthesis", before=version), None)
    if one is None:
        return {}
    tags = one["tags"]
    entered = store.diff(tags["selection"], chosen.selection_id).patches["change"].to_pylist().count("came")
    left = int(one["metrics"]["choose/patches"]) + entered - len(chosen.patch_ids)  # with those that were forgotten since
    log.info("since %s of version %s %d choices entered and %d left", tags["selection"], tags["patches_version"], entered, left)
    return {"choose/entered": entered, "choose/left": left}


def spread(config: Config) -> selection.Run:
    """Where the work inside clusters is done: tasks on whatever processors of the cluster are idle, or here."""
    if config.where == "here":
        return selection.in_process

    def run(stage: type, arguments: tuple[Any, ...], table: pa.Table) -> Iterator[pa.Table]:
        # A task holds 65,536 embeddings (0.1 GB at a width of 384) and opens the table again, which costs next to nothing.
        return flow.run_on_ray([Step(stage, arguments, batch=1, actors=(1, TASKS), loads=False)], table)

    return run


def images_of(config: Config, store: PatchStore, chosen: Selection, version: int) -> Iterator[pa.Table]:
    """The training images of a choice, some at a time."""
    ids = synthesis.ordered(chosen.patch_ids, config.synthesis)
    offsets = store.offsets(ids, version)
    return synthesis.images(
        ids, chosen.selection_id, config.synthesis, lambda part: store.take(offsets[part], synthesis.READ.names, version)
    )
