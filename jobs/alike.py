"""Mark the patches that look like one stored before them, by the clusters that choices were judged by."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import judge
from engine.config import Config
from engine.pool import Clustering, Pool, Rows
from engine.selection.clustering import extended
from engine.selection.twins import twins
from engine.store import PatchStore, alike, rescoring
from engine.store.tables import CLUSTERS
from jobs import choose, judging

log = logging.getLogger("jobs.alike")
STALE = 0.01  # of the patches, whose clusters are not kept, above which they are: a clustering is written as a whole


def run(config: Config) -> None:
    """Look at the patches of every video that was not looked at yet; nothing is clustered anew."""
    store = PatchStore(config.store.uri)
    version = store.complete_version()
    ledger = store.ledger().filter(pc.field("patches") > 0)
    waiting = sorted(set(ledger["video_id"].to_pylist()) - alike.told(store))
    if not waiting:
        return
    if rescoring.mixed(store, version):
        log.info("near-duplicates are not told while the patches have embeddings by several scorers: run the job rescore")
        return
    if not store.is_made(f"{CLUSTERS}{judging.KINDS}"):
        log.info("near-duplicates are told once there are clusters: the job choose makes them")
        return
    pool = Pool(store.patches(["patch_id", "video_id", "time_ms"], version=version), store.vectors(version))
    known = store.clustering(judging.KINDS, pool.columns["patch_id"])
    if known is None or known.centroids.shape[1] != pool.embeddings().width:
        log.info("near-duplicates are told once there are clusters: the job choose makes them")
        return
    found = extended(pool.embeddings(), known)
    if np.mean(known.labels < 0) > STALE:
        store.keep(judging.KINDS, pool.columns["patch_id"], found, version)
    new = pc.is_in(pool.columns["video_id"], pa.array(waiting)).to_numpy()
    made = twins(pool.embeddings(), found.labels, stored(pool, ledger), new, judge.ALIKE, choose.spread(config))
    alike.enter(store, waiting, rows(pool, made, waiting, found, version))
    log.info("%d of %d new patches look like one stored before them", len(made), int(new.sum()))


def stored(pool: Pool, ledger: pa.Table) -> Rows:
    """The rows of the pool as they were stored: by the version of their video, then by video and time, equal ones by key."""
    order = ledger.select(["video_id", "patches_version"]).sort_by([("patches_version", "ascending"), ("video_id", "ascending")])
    videos = pc.index_in(pool.columns["video_id"], order["video_id"].combine_chunks()).to_numpy()
    return np.lexsort([pool.keys(), pool.columns["time_ms"].to_numpy(), videos])


def rows(pool: Pool, made: pa.Table, videos: list[str], found: Clustering, version: int) -> pa.Table:
    """The marks as rows of the store, and a row for each of the videos that were looked at."""
    ids, of = pool.columns["patch_id"], pool.columns["video_id"]
    marks = {"video_id": of.take(made["row"]), "patch_id": ids.take(made["row"]), "twin": ids.take(made["twin"]), "cosine": made["cosine"]}
    table = pa.concat_tables([pa.table(marks), pa.table({"video_id": videos})], promote_options="default")
    table = table.append_column("clustering", pa.array([found.name] * len(table), pa.string()))
    return table.append_column("patches_version", pa.array([version] * len(table), pa.int64())).cast(alike.COLUMNS)
