"""Hold the video of every source and day beside all that came before, and say where it is unlike that."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine import clusters, drift, tracking
from engine.config import Config
from engine.drift import Contrast, Profile
from engine.pool import Held, hashed
from engine.store import PatchStore, quoted, rescoring
from engine.store import drift as table
from jobs import judging

log = logging.getLogger("jobs.drift")
POOL = 1024  # earlier videos that a day is held beside, by lot: so many tell an alarm at 0.1 %, and a look costs the same for any archive
MEASURED = ["sharpness", "brightness", "glare", "tissue"]  # of frames
KEPT = "kept"  # among the reasons of frames: there was none
Group = tuple[str, str]  # source and day


def run(config: Config) -> None:
    """Look at every source and day of which there is more than was looked at, the oldest first."""
    store = PatchStore(config.store.uri)
    videos, done = groups(store), table.looked_at(store)
    first = min((day for _, day in videos), default="")  # before which there is nothing
    due = [group for group in sorted(videos, key=lambda one: one[::-1]) if group[1] > first and videos[group] != done.get(group)]
    if not due:
        return
    version = store.complete_version()
    if rescoring.mixed(store, version):
        return  # a day would count as looked at without its scores, which cannot be compared meanwhile
    with tracking.running(config, "drift", str(version), {"patches_version": version}) as record:
        for group in due:
            before = [one for other, some in videos.items() if other[1] < group[1] for one in some]
            rows = looked(config, store, group, (sorted(videos[group]), by_lot(before)), version)
            table.enter(store, rows)
            tell(rows, record)


def groups(store: PatchStore) -> dict[Group, set[str]]:
    """The videos with frames, by a hash of the folder that they came from and the day on which they were taken in."""
    found: dict[Group, set[str]] = defaultdict(set)
    for row in store.ledger().filter(pc.field("frames") > 0).select(["video_id", "uri", "ingested_at"]).to_pylist():
        found[source_of(row["uri"]), row["ingested_at"][:10]].add(row["video_id"])
    return dict(found)


def source_of(uri: str) -> str:
    """Twelve hex digits for a folder: they tell folders apart and not what they are called."""
    return hashlib.sha256(uri.rstrip("/").rpartition("/")[0].encode()).hexdigest()[:12]


def by_lot(videos: Collection[str]) -> list[str]:
    """POOL of them at most, by a hash of their ids."""
    ordered = np.array(sorted(videos))
    return list(ordered[np.argsort(hashed(pa.chunked_array([ordered])), kind="stable")[:POOL]].tolist())


def looked(config: Config, store: PatchStore, group: Group, videos: tuple[list[str], list[str]], version: int) -> pa.Table:
    """The rows (table.COLUMNS) of one source and day, whose videos are held beside others."""
    ids = [*videos[0], *videos[1]]
    new = np.arange(len(ids)) < len(videos[0])
    profiles, names = profiled(store, ids, version)
    found = drift.look(profiles, new, config.watch.false_alarms, int(hashlib.sha256(" ".join(group).encode()).hexdigest()[:8], 16))
    same = {"source": group[0], "day": group[1], "videos": len(videos[0]), "video_ids": " ".join(videos[0]), "pool": len(videos[1])}
    rows = []
    for name, one in found.items():
        where = drift.contrast(profiles[name], new)
        reason = f"{subject(videos[0], group)}: {sentence(name, where, names)}" if one.alarm else None
        rows.append(same | vars(one) | {"quantity": name, "reason": reason, "patches_version": version})
    return pa.Table.from_pylist(rows, table.COLUMNS)


def subject(videos: list[str], group: Group) -> str:
    many = f"video {videos[0][:8]}…" if len(videos) == 1 else f"{len(videos)} videos ({videos[0][:8]}…)"
    return f"{many} of source {group[0]}, {group[1]}"


def sentence(name: str, where: Contrast, names: list[str]) -> str:
    """Where new video differs most from the pool."""
    new, rest = f"{100 * where.new:.0f} %", f"{100 * where.rest:.0f} %"
    its = "its patches" if name in ("clusters", "difficulty") else "its frames"
    if name == "clusters":
        return f"{new} of its patches fall into clusters that hold {rest} of the pool"
    if name == "verdicts":
        return f"of {new} of its frames the gate said {', '.join(names[one] for one in where.bins)}, of the pool's of {rest}"
    side = "above" if where.above else "of at most"
    return f"{new} of {its} have a {name} {side} {where.edge:.4g}, of the pool's {rest}"


# -- what is looked at --------------------------------------------------------------------------------------------------------------


def profiled(store: PatchStore, ids: list[str], version: int) -> tuple[dict[str, Profile], list[str]]:
    """The profiles of videos, in the order of their ids, and the verdicts of the gate by number."""
    mine = f"video_id IN ({quoted(ids)})"
    frames = store.open("frames").to_table(columns=["video_id", "reason", *MEASURED], filter=mine)
    verdicts = pc.fill_null(frames["reason"], KEPT).combine_chunks().dictionary_encode()
    names, owners = verdicts.dictionary.to_pylist(), numbered(frames, ids)
    found = {"verdicts": drift.kinds(verdicts.indices.to_numpy(), owners, (len(ids), len(names)))}
    found |= {name: drift.numbers(frames[name].to_numpy(), owners, len(ids)) for name in MEASURED}
    if rescoring.mixed(store, version):
        return found, names  # scores and embeddings by several scorers cannot be compared
    patches = store.patches(["patch_id", "video_id", "difficulty"], mine, version)
    found["difficulty"] = drift.numbers(patches["difficulty"].to_numpy(), numbered(patches, ids), len(ids))
    if (labels := labelled(store, patches, version)) is not None:
        found["clusters"] = drift.kinds(labels, numbered(patches, ids), (len(ids), int(labels.max(initial=0)) + 1))
    return found, names


def numbered(rows: pa.Table, ids: list[str]) -> NDArray[np.int64]:
    """The number of each row's video."""
    return np.asarray(pc.index_in(rows["video_id"], pa.array(ids)).to_numpy(), np.int64)


def labelled(store: PatchStore, patches: pa.Table, version: int) -> NDArray[np.int32] | None:
    """The cluster of each patch by the clusters that choices were judged by; None where there are none yet."""
    known = store.clustering(judging.KINDS, patches["patch_id"])
    if known is None:
        return None
    labels, unknown = known.labels.copy(), known.labels < 0
    videos = sorted(set(patches["video_id"].filter(pa.array(unknown)).to_pylist()))
    if videos:
        rows = store.patches(["patch_id", "embedding"], f"video_id IN ({quoted(videos)})", version)
        places = pc.index_in(patches["patch_id"].filter(pa.array(unknown)), rows["patch_id"].combine_chunks()).to_numpy()
        vectors = np.array(rows["embedding"].to_pylist(), np.float32)[places]
        labels[unknown], _ = clusters.assigned(Held(vectors), known.centroids)
    return labels


# -- told ---------------------------------------------------------------------------------------------------------------------------


def tell(rows: pa.Table, record: tracking.Run) -> None:
    """Log alarms in words, and all distances as metrics whose step is the day, counted from the year 1."""
    for row in rows.to_pylist():
        if row["alarm"]:
            log.warning("%s (%s: %.3f, threshold %.3f)", *(row[name] for name in ("reason", "quantity", "distance", "threshold")))
    numbers = {f"drift/{row['quantity']}/{row['source']}": row["distance"] for row in rows.to_pylist()}
    step = date.fromisoformat(rows["day"][0].as_py()).toordinal()
    record.log(numbers | {f"drift/alarms/{rows['source'][0].as_py()}": sum(rows["alarm"].to_pylist())}, step=step)
