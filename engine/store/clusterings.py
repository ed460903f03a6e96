"""Clusterings of the patches that choices were made by, each in a table of its own, so that the next choice goes on from there.

A row for each patch, in their order, and a row for each cluster, which is replaced by every choice. What a choice went on from is not
written again: of ten million patches it is a quarter of a gigabyte and takes seconds. Patches that are new are added; of those that were
compared anew a change is added, a row that tells no cluster but what the comparison says now, and the last one holds. Rows changed here
and there would leave every file with deleted ones. The table is replaced as a whole, in one commit, where the clusters are others, where
it is not what the choice went on from, and where too much of it holds no more. Patches are told apart by 64-bit hashes of their ids; among
ten million two are equal in one of 370,000 pools, whose clusterings are not kept.
"""

from collections.abc import Iterator
from dataclasses import replace as replaced
from functools import partial
from itertools import chain

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine import schema
from engine.pool import Block, Clustering, Pool
from engine.rows import ROWS, Keys, Rows, hashed
from engine.store import caches
from engine.store.commits import committing, replace
from engine.store.lock import Lease
from engine.store.matches import is_distinct, matched
from engine.store.tables import CLUSTERS, Tables, fragments_of
from engine.store.tombstones import forgotten, without

WRITTEN = ROWS * 16  # patches whose rows are in memory at a time
CHANGE = -1  # the label of a row that says anew what was compared of a patch that has its row already
LEFT = 0.2  # of the rows of patches that hold no more, beside the patches, from which on the table is replaced as a whole
TOLD = ["key", "label", "nearness", "order", "likeness", "reach"]
LATER = {"reach": 1.0, "level": 1.0}  # columns that tables of older engines lack, and what was so of their rows: each compared with all


def clustering(tables: Tables, name: str, patch_ids: pa.ChunkedArray, keys: Keys | None = None) -> Clustering | None:
    """What is kept under a name, for patches (N,) in the order of their ids, or of `keys`, their hashes; None where nothing is."""
    keys = hashed(patch_ids) if keys is None else keys
    return caches.found(tables, f"{CLUSTERS}{name}", partial(known_of, keys)) if is_distinct(keys) else None


def known_of(keys: Keys, dataset: lance.LanceDataset) -> Clustering | None:
    """What a table tells of the patches of some keys (N,); None where it tells of no clusters."""
    if (bare := centroids_of(dataset)) is None:
        return None
    rows = read(dataset, TOLD, "key IS NOT NULL")
    stored, labels, *numbers = (rows[column].to_numpy() for column in TOLD)
    if not ((labels >= CHANGE) & (labels < len(bare.centroids))).all():
        raise caches.BrokenError("patches are in clusters that it does not have")
    told, changes = np.flatnonzero(labels != CHANGE), np.flatnonzero(labels == CHANGE)
    nearness, order, likeness, reach = (values[told] for values in numbers)
    every = replaced(bare, labels=labels[told], nearness=nearness, order=order, likeness=likeness, reach=reach)
    known, places = every.at(matched(keys, stored[told])), matched(stored[changes], keys)
    for mine, values in zip((known.order, known.likeness, known.reach), numbers[1:], strict=True):
        mine[places[places >= 0]] = values[changes[places >= 0]]  # in their order, so that the last one holds
    return known


def read(dataset: lance.LanceDataset, columns: list[str], where: str) -> pa.Table:
    """Columns of the rows of a filter, also of a table, or of files, that lack some of LATER."""
    rows = caches.read(dataset, [name for name in columns if name in dataset.schema.names], where)
    for name in set(columns) - set(rows.column_names):
        rows = rows.append_column(name, pa.nulls(len(rows), pa.float32()))
    return pa.table({name: pc.fill_null(rows[name], LATER[name]) if name in LATER else rows[name] for name in columns})


def labels(tables: Tables, name: str, patch_ids: pa.ChunkedArray) -> NDArray[np.int32]:
    """The cluster of each patch (N,) by what is kept under a name; -1 where that is not known."""
    keys = hashed(patch_ids)
    told = caches.found(tables, f"{CLUSTERS}{name}", partial(labels_of, keys)) if is_distinct(keys) else None
    return np.full(len(keys), -1, np.int32) if told is None else told


def labels_of(keys: Keys, dataset: lance.LanceDataset) -> NDArray[np.int32] | None:
    """The cluster of the patch of each key (N,) by a table, -1 where it does not tell; None where it tells of no clusters."""
    if (bare := centroids_of(dataset)) is None:
        return None
    rows = read(dataset, ["key", "label"], f"key IS NOT NULL AND label != {CHANGE}")
    found = np.append(rows["label"].to_numpy(), np.int32(-1))[matched(keys, rows["key"].to_numpy())]
    return np.where(found < len(bare.centroids), found, np.int32(-1))


def centroids(tables: Tables, name: str) -> Clustering | None:
    """The clusters alone of what is kept under a name, without any patch; None where nothing is."""
    return caches.found(tables, f"{CLUSTERS}{name}", centroids_of)


def centroids_of(dataset: lance.LanceDataset) -> Clustering | None:
    """The same of a table as it was opened: labels and centroids of one version belong together, while another job may write the next."""
    # to find its clusters is to read all of its keys
    this = (dataset.uri, dataset.version, str([one.metadata.files for one in dataset.get_fragments()[:1]]))
    if this not in LAST:
        LAST.clear()
        LAST[this] = found_in(dataset)
    return LAST[this]


LAST: dict[tuple[str, int, str], Clustering | None] = {}  # asked for last, by table, version and first file


def found_in(dataset: lance.LanceDataset) -> Clustering | None:
    """The clusters of a table without their patches; None where it tells of none, BrokenError where the table is damaged."""
    clusters = read(dataset, ["label", "centroid", "members", "fitted", "level"], "key IS NULL").sort_by("label")
    if not len(clusters) or clusters["centroid"].null_count:
        return None
    found = np.concatenate([chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in clusters["centroid"].chunks])
    if not is_sound(clusters["label"].to_numpy(), found):
        raise caches.BrokenError("clusters are missing, or there twice")
    nothing, members, version = np.zeros(0, np.float32), clusters["members"].to_numpy(), int(dataset.version)
    fitted, level = clusters["fitted"][0].as_py(), clusters["level"][0].as_py()
    return Clustering(found, fitted, np.zeros(0, np.int32), nothing, nothing, nothing, members, nothing, level, version=version)


def is_sound(numbers: NDArray[np.int32], centroids: Block) -> bool:
    """Whether every cluster has its centroid. `numbers` (N,), `centroids` (k, width)."""
    count = len(numbers)
    return len(centroids) == count and bool(np.isfinite(centroids).all()) and bool((numbers == np.arange(count)).all())


def keep(tables: Tables, name: str, pool: Pool, found: Clustering, version: int) -> bool:
    """Keep a clustering of a pool (N,), of a version of the patch table, under a name, in place of the one that is there.

    False where that one is of a newer version, and stays. Patches of forgotten videos are left out, and those in no cluster.
    """
    table, known = f"{CLUSTERS}{name}", pool.clustering
    if known is None and not is_distinct(pool.keys()):  # what is known was found by them
        return False
    with committing(tables) as lease:
        caches.make(tables, table, schema.clustering_table(found.centroids.shape[1]))
        widened(tables, table, lease)
        dataset, gone = tables.open(table), forgotten(tables)
        if (kept := version_of(tables, name)) is not None and kept > version:
            return False
        rows = additions(dataset, known, found)
        where = "true" if rows is None else "key IS NULL"
        made = chain([of_clusters(found, version)], of_patches(pool, rows, found, gone))
        fragments = [one for some in made for one in fragments_of(dataset.uri, fitting(some, dataset.schema))]
        replace(tables, table, fragments, where, lease)
    return True


def widened(tables: Tables, table: str, lease: Lease) -> None:
    """Give a table of an older engine the columns that came later."""
    dataset = tables.open(table)
    if lacking := [pa.field(name, pa.float32()) for name in LATER if name not in dataset.schema.names]:
        lease.check()
        dataset.add_columns(pa.schema(lacking))


def additions(dataset: lance.LanceDataset, known: Clustering | None, found: Clustering) -> Rows | None:
    """The rows of a pool, rising, that are to be written beside what a table holds already; None: all, in its place."""
    if known is None or known.version != dataset.version or known.name != found.name:
        return None
    mine = found.labels >= 0
    old = mine & (known.labels >= 0)
    if not (np.array_equal(known.labels[old], found.labels[old]) and np.array_equal(known.nearness[old], found.nearness[old])):
        return None
    compared = ((known.order, found.order), (known.likeness, found.likeness), (known.reach, found.reach))
    rows = np.flatnonzero(mine & np.logical_or.reduce([~old, *(is_other(*both) for both in compared)]))
    count = int(mine.sum())
    return rows if dataset.count_rows() - len(found.centroids) + len(rows) <= (1 + LEFT) * count else None


def is_other(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where two columns (N,) tell other numbers; what is no number in both is the same."""
    return np.asarray((before != after) & ~(np.isnan(before) & np.isnan(after)), np.bool_)


def version_of(tables: Tables, name: str) -> int | None:
    """The version of the patch table that what is kept under a name is of; None where nothing is."""
    told = caches.found(tables, f"{CLUSTERS}{name}", lambda dataset: caches.read(dataset, ["patches_version"], "key IS NULL"))
    return int(told["patches_version"][0].as_py()) if told else None


def of_clusters(found: Clustering, version: int) -> pa.Table:
    """A row for every cluster."""
    count, width = found.centroids.shape
    return pa.table(
        {
            "label": np.arange(count, dtype=np.int32),
            "centroid": pa.FixedSizeListArray.from_arrays(found.centroids.ravel(), width),
            "members": found.members,
            "fitted": np.full(count, found.fitted),
            "patches_version": np.full(count, version),
            "level": np.full(count, found.level, np.float32),
        }
    )


def of_patches(pool: Pool, rows: Rows | None, found: Clustering, gone: set[str]) -> Iterator[pa.Table]:
    """What is written of the `rows` of a pool, or of all in a cluster: some at a time, without those of the videos `gone`."""
    every, ids, keys = np.flatnonzero(found.labels >= 0) if rows is None else rows, pool.columns["patch_id"], pool.keys()
    known = np.full(len(pool), -1) if rows is None or pool.clustering is None else pool.clustering.labels
    for start in range(0, len(every), WRITTEN):
        some = every[start : start + WRITTEN]
        numbers = {name: getattr(found, name)[some] for name in TOLD[2:]}
        columns = {"label": np.where(known[some] >= 0, np.int32(CHANGE), found.labels[some])} | numbers
        yield without(pa.table({"key": keys[some], "video_id": videos_of(ids.take(pa.array(some))), **columns}), gone)


def videos_of(patch_ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The ids of the videos of patches (N,)."""
    return pc.list_element(pc.split_pattern(patch_ids, "@", max_splits=1), 0)


def fitting(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    """The rows as a table of these columns takes them; those that they lack are null there."""
    return rows.cast(pa.schema([columns.field(name) for name in rows.column_names]))
