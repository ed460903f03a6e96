"""Mark the patches that look like one stored before them, by the clusters that choices were judged by.

What new patches are held beside is read from the table `neighbours`, where patches lie by their clusters: of the clusters that a new patch
falls into, and of no other. It is written anew where the clusters are others, and grows by what is looked at.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import judge
from engine.config import Config
from engine.pool import Clustering, Held, Pool
from engine.rows import Rows
from engine.selection import in_process
from engine.selection.clustering import extended
from engine.selection.twins import twins
from engine.sketches import near, sketched
from engine.store import PatchStore, alike, clusterings, neighbours, parts, rescoring
from engine.store.vectors import numbers
from jobs import judging

log = logging.getLogger("jobs.alike")
COLUMNS = ["patch_id", "video_id", "time_ms"]


@dataclass(frozen=True)
class Due:
    """The videos that were not looked at yet, of a version of the patches and by its clusters."""

    waiting: list[str]
    version: int
    known: Clustering
    ledger: pa.Table  # video_id, patches_version and patches of the videos that have any by then

    @property
    def patches(self) -> int:
        """How many they have."""
        return int(pc.sum(self.ledger["patches"].filter(pc.is_in(self.ledger["video_id"], pa.array(self.waiting)))).as_py())


def run(config: Config) -> None:
    """Look at the patches of every video that was not looked at yet; nothing is clustered anew."""
    store = PatchStore(config.store.uri)
    if found := due(store):
        tell(store, found)


def soon(config: Config) -> bool:
    """The same, but for what is long, of which it is told whether there is any: that is left for a process beside the batches."""
    store = PatchStore(config.store.uri)
    found = due(store)
    if found is None:
        return False
    if takes_long(store, found):
        return True
    tell(store, found)
    return False


def is_long(config: Config) -> bool:
    """Whether there is something that `soon` would leave; not in a store that is away, of which others tell."""
    store = PatchStore(config.store.uri)
    found = due(store) if store.has("videos") else None
    return found is not None and takes_long(store, found)


def takes_long(store: PatchStore, found: Due) -> bool:
    """Whether many patches are to be looked at, or put among the neighbours: of a million that takes 20 s of processors."""
    if neighbours.clustering(store) == found.known.name:
        return found.patches > neighbours.HELD
    return bool(store.open("patches", found.version).count_rows() > neighbours.HELD)


def tell(store: PatchStore, found: Due) -> None:
    """Look at them."""
    if neighbours.clustering(store) == found.known.name and found.patches <= neighbours.HELD:
        look(store, found)
    elif gathered(store, found):
        look_at_all(store, found)


def due(store: PatchStore) -> Due | None:
    """What there is to look at; None where there is nothing, or it cannot be told yet."""
    version = store.complete_version()
    mine = f"patches > 0 AND patches_version <= {version}"
    ledger = store.open("videos").to_table(columns=["video_id", "patches_version", "patches"], filter=mine)
    waiting = sorted(ledger["video_id"].filter(pc.invert(pc.is_in(ledger["video_id"], alike.told(store)))).to_pylist())
    if not waiting:
        return None
    if rescoring.mixed(store, version):
        put_off(
            store,
            "near-duplicates wait until the patches have embeddings by one scorer: that is the job rescore, which watch begins by itself",
        )
        return None
    known, width = clusterings.centroids(store, judging.KINDS), store.open("patches", version).schema.field("embedding").type.list_size
    if known is None or known.centroids.shape[1] != width:
        put_off(store, "near-duplicates are told once there are clusters: the job choose makes them")
        return None
    return Due(waiting, version, known, ledger)


@cache
def put_off(store: PatchStore, why: str) -> None:
    """Say why nothing can be told yet, once a process: it is asked after every batch."""
    log.info("%s", why)


def gathered(store: PatchStore, found: Due) -> bool:
    """Write the neighbours of all patches by clusters that are new; False where something came in between, and the next time does."""
    with store.writing("alike"):
        made = neighbours.fill(store, found.known.name, found.known.centroids.shape[1], found.version, blocks(store, found.version))
    if not made:
        log.info("near-duplicates are told the next time: another job changed what they are told by")
    return made


def blocks(store: PatchStore, version: int) -> Iterator[pa.Table]:
    """All patches of a version as rows of neighbours, some at a time. LookupError where the clusters are gone."""
    patches, vectors = store.patches(COLUMNS, version=version), store.vectors(version)
    known = store.clustering(judging.KINDS, patches["patch_id"])
    if known is None:
        raise LookupError(f"the clusters {judging.KINDS} of the store {store.uri} are gone: run the job choose, which makes them")
    labels = extended(vectors, known).labels
    for start in range(0, len(patches), neighbours.WRITTEN):
        some = np.arange(start, min(start + neighbours.WRITTEN, len(patches)))
        embeddings = pa.FixedSizeListArray.from_arrays(pa.array(vectors.held(some).ravel()), vectors.width)
        rows = patches.slice(start, len(some)).append_column("embedding", embeddings)
        yield neighbours.rows(rows, labels[some], sketched(numbers(rows["embedding"].chunks, vectors.width)))


def look(store: PatchStore, found: Due) -> None:
    """Tell of the patches of these videos, and make neighbours of those that are none yet."""
    patches = parts.rows(store.open("patches", found.version), [*COLUMNS, "embedding"], found.waiting)
    new, mine, there, made = placed(patches, found.known), pa.array(found.waiting, pa.string()), set[str](), []
    for asked, others in neighbours.beside(store, new, len(found.known.centroids), partial(near, bound=judge.ALIKE)):
        again = pc.is_in(others["video_id"], mine)
        there.update(others["video_id"].filter(again).unique().to_pylist())  # such a patch is nearest to itself
        pool = pa.concat_tables([others.filter(pc.invert(again)), asked.select(others.column_names)])
        made.append(marked(pool, found.ledger, mine))
    enter(store, found, made, new.filter(pc.invert(pc.is_in(new["video_id"], pa.array(sorted(there), pa.string())))))


def look_at_all(store: PatchStore, found: Due) -> None:
    """The same where all of their patches are neighbours, which then need not be looked up."""
    mine, (count, width) = pa.array(found.waiting, pa.string()), found.known.centroids.shape
    made = [marked(pool, found.ledger, mine) for pool in neighbours.all_of(store, count)]
    enter(store, found, made, neighbours.columns(width).empty_table())


def enter(store: PatchStore, found: Due, made: list[pa.Table], added: pa.Table) -> None:
    """Put the marks into the store, and a row for each of the videos that were looked at; `added`: what the neighbours lack of these."""
    videos = pa.table({"video_id": found.waiting})
    rows = pa.concat_tables([alike.COLUMNS.empty_table(), *made, videos], promote_options="default")
    for name, value in {"clustering": found.known.name, "patches_version": found.version}.items():
        column = alike.COLUMNS.field(name)
        rows = rows.set_column(alike.COLUMNS.get_field_index(name), column, pa.array([value] * len(rows), column.type))
    if alike.enter(store, found.waiting, rows.cast(alike.COLUMNS), (found.known.name, added)):
        marks = len(rows) - len(videos)
        log.info("new videos looked at: %d; patches of these like one stored before them: %d", len(videos), marks)


def placed(patches: pa.Table, known: Clustering) -> pa.Table:
    """Patches as rows of neighbours, each in the cluster of its nearest centroid."""
    embeddings = numbers(patches["embedding"].chunks, known.centroids.shape[1])
    labels = extended(Held(embeddings), known.at(np.full(len(patches), -1))).labels
    return neighbours.rows(patches, labels, sketched(embeddings))


def marked(pool: pa.Table, ledger: pa.Table, new: pa.Array) -> pa.Table:
    """The near-duplicates, among whatever of their clusters may be alike, of the patches of the videos `new`."""
    vectors = Held(numbers(pool["embedding"].chunks, pool.schema.field("embedding").type.list_size))
    asked = pc.is_in(pool["video_id"], new).to_numpy()
    made = twins(vectors, pool["label"].to_numpy(), stored(pool, ledger), asked, judge.ALIKE, in_process)
    of, twin = pool.select(["video_id", "patch_id"]).take(made["row"]), pool["patch_id"].take(made["twin"])
    return pa.table({"video_id": of["video_id"], "patch_id": of["patch_id"], "twin": twin, "cosine": made["cosine"]})


def stored(pool: pa.Table, ledger: pa.Table) -> Rows:
    """The rows of the pool as they were stored: by the version of their video, then by video and time, equal ones by key."""
    mine = ledger.filter(pc.is_in(ledger["video_id"], pool["video_id"].unique()))  # few of all
    order = mine.sort_by([("patches_version", "ascending"), ("video_id", "ascending")])
    videos = pc.index_in(pool["video_id"], order["video_id"].combine_chunks()).to_numpy()
    return np.lexsort([Pool(pool).keys(), pool["time_ms"].to_numpy(), videos])
