"""What drift knows of every video: its frames as the gate measured them, and the difficulty and cluster of each of its patches.

Of a video none of it changes, but for another scorer or other clusters; what the look before took is kept in the process, so that a look
reads videos that are new or were drawn by lot for the first time. No more stays than one look takes: some bytes a patch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine import clusters
from engine.pool import Clustering, Held
from engine.store import PatchStore, clusterings, parts, rescoring
from engine.store.vectors import numbers
from jobs import judging

MEASURED = ["sharpness", "brightness", "glare", "tissue"]  # of frames
KEPT = "kept"  # among the reasons of frames: there was none
FEW = 1 << 14  # patches that are put into clusters anew: to look up where they are is to read a number of every patch
Columns = Mapping[str, NDArray[Any]]
KNOWN: dict[tuple[str, str], tuple[str, dict[str, Columns]]] = {}  # by store and table: for what it holds, and of each video


def frames(store: PatchStore, ids: Sequence[str]) -> tuple[Columns, NDArray[np.int64]]:
    """Columns `reason` and MEASURED of the frames of videos, and the number of each one's video. (N,)."""

    def read(some: list[str]) -> pa.Table:
        rows = parts.rows(store.open("frames"), ["video_id", "reason", *MEASURED], some)
        return rows.set_column(1, "reason", pc.fill_null(rows["reason"], KEPT))

    return remembered((store.uri, "frames"), "", ids, read)


def patches(store: PatchStore, ids: Sequence[str], version: int) -> tuple[Columns, NDArray[np.int64]]:
    """Columns `difficulty` and, where there are clusters, `label` of the patches of videos, and the number of each one's video. (N,)."""
    dataset, known = store.open("patches", version), clusterings.centroids(store, judging.KINDS)

    def read(some: list[str]) -> pa.Table:
        rows = parts.rows(dataset, ["patch_id", "video_id", "difficulty"], some)
        return rows if known is None else rows.append_column("label", pa.array(labelled(store, rows, version, known)))

    stamp = f"{sorted(rescoring.scorers_of(store, version))} {known.name if known else ''}"
    return remembered((store.uri, "patches"), stamp, ids, read)


def remembered(
    what: tuple[str, str], stamp: str, ids: Sequence[str], read: Callable[[list[str]], pa.Table]
) -> tuple[Columns, NDArray[np.int64]]:
    """What `read` reads of videos, but for those of the look before that had the same stamp; and the number of each row's video. (N,)."""
    told, before = KNOWN.get(what, ("", {}))
    if told != stamp:
        before = {}
    lacking = [one for one in ids if one not in before]
    found = before | (apart(read(lacking), lacking) if lacking else {})
    now = {one: found[one] for one in ids}
    KNOWN[what] = stamp, now
    first = next(iter(now.values()))
    owners = np.repeat(np.arange(len(now)), [len(next(iter(one.values()))) for one in now.values()])
    return {name: np.concatenate([one[name] for one in now.values()]) for name in first}, owners


def apart(rows: pa.Table, ids: Sequence[str]) -> dict[str, Columns]:
    """The columns of each video."""
    owners = pc.index_in(rows["video_id"], pa.array(ids)).to_numpy()
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.arange(1, len(ids)))
    names = [name for name in rows.column_names if name not in ("video_id", "patch_id")]
    split = {name: np.split(rows[name].to_numpy()[order], bounds) for name in names}
    return {one: {name: split[name][place].copy() for name in names} for place, one in enumerate(ids)}


def labelled(store: PatchStore, rows: pa.Table, version: int, known: Clustering) -> NDArray[np.int32]:
    """The cluster of each patch by the clusters that choices were judged by; of those kept beside them it is there to be looked up.

    Shape: (N,).
    """
    labels = np.full(len(rows), -1, np.int32)
    if len(rows) > FEW:
        labels = clusterings.labels(store, judging.KINDS, rows["patch_id"])
    unknown = labels < 0
    videos = sorted(set(rows["video_id"].filter(pa.array(unknown)).to_pylist()))
    if videos:
        found = parts.rows(store.open("patches", version), ["patch_id", "embedding"], videos)
        places = pc.index_in(rows["patch_id"].filter(pa.array(unknown)), found["patch_id"].combine_chunks()).to_numpy()
        vectors = numbers(found["embedding"].chunks, found.schema.field("embedding").type.list_size)[places]
        labels[unknown], _ = clusters.assigned(Held(vectors), known.centroids)
    return labels
