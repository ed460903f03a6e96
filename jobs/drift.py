"""Hold the video of every source and day beside all that came before, and say where it is unlike that.

A day that grows is looked at when it has twice as many videos as at the look before, and once more when it is over: drift.allowed says
what each look may take of watch.false_alarms, which so holds for the day. What is an alarm at one look stays one for the day. Where a
video of a day is forgotten, so is what was said and spent of that day, which is looked at anew.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import drift, tracking
from engine.config import Config
from engine.drift import Contrast, Profile
from engine.rows import hashed
from engine.store import PatchStore, rescoring
from engine.store import drift as table
from jobs import measured

log = logging.getLogger("jobs.drift")
POOL = 1024  # earlier videos that a day is held beside, by lot: so many tell an alarm at 0.1 %, and a look costs the same for any archive
Group = tuple[str, str]  # folder, or its hash, and day


@dataclass(frozen=True)
class Look:
    """One look at a source and day, whose number it is; `over` where the day is."""

    source: str
    day: str
    videos: list[str]
    before: list[str]  # those of earlier days that they are held beside
    number: int
    over: bool
    allowed: float  # chance from which down it is an alarm
    alarms: dict[str, str]  # reasons of looks before, by quantity


def run(config: Config) -> None:
    """Look at every source and day at which a look is due, the oldest first."""
    store = PatchStore(config.store.uri)
    videos = groups(store)
    first = min((day for _, day in videos), default="")  # before which there is nothing
    if all(day == first for _, day in videos):
        return
    names, version = named(store, {folder for folder, _ in videos}), store.complete_version()
    seen, now = told(store), today()  # whose clock says which days are over: the newest day of all may be of one that is wrong
    hashes = {(names[folder], day): some for (folder, day), some in videos.items() if day > first}
    due = [group for group in sorted(hashes, key=lambda one: one[::-1]) if is_due(hashes[group], seen.get(group), group[1] < now)]
    if not due or rescoring.mixed(store, version):
        return  # a day would count as looked at without its scores, which cannot be compared meanwhile
    with tracking.running(config, "drift", str(version), {"patches_version": version}) as record:
        for group in due:
            tell_future(group, now, len(hashes[group]))
            before = [one for other, some in videos.items() if other[1] < group[1] for one in some]
            one = planned(config, group, (sorted(hashes[group]), by_lot(before)), seen.get(group), group[1] < now)
            rows = looked(store, one, version)
            table.enter(store, rows)
            tell(rows, record)


def groups(store: PatchStore) -> dict[Group, set[str]]:
    """The videos with frames, by the folder that they came from and the day on which they were taken in."""
    ledger = store.open("videos").to_table(columns=["video_id", "uri", "ingested_at"], filter="frames > 0")
    day = pc.utf8_slice_codeunits(ledger["ingested_at"], 0, 10)
    apart = pa.table({"folder": folders_of(ledger["uri"]), "day": day, "video_id": ledger["video_id"]}).group_by(["folder", "day"])
    rows = apart.aggregate([("video_id", "list")]).to_pylist()
    return {(row["folder"], row["day"]): set(row["video_id_list"]) for row in rows}


def folders_of(uris: pa.ChunkedArray) -> pa.ChunkedArray:
    """The folder that each file lies in; "" where its address has none."""
    return pc.fill_null(pc.struct_field(pc.extract_regex(uris, r"(?s)^(?P<folder>.*)/[^/]+/*$"), "folder"), "")


def named(store: PatchStore, folders: Collection[str]) -> dict[str, str]:
    """What each folder is called in the table, from which the names that older engines gave are gone."""
    key = table.key(store)
    names = {folder: table.source(key, folder) for folder in folders}
    table.rename(store, {table.bare(folder): name for folder, name in names.items()})
    return names


def told(store: PatchStore) -> dict[Group, list[dict[str, Any]]]:
    """The rows of each source and day that was looked at."""
    found: dict[Group, list[dict[str, Any]]] = defaultdict(list)
    for row in table.found(store).to_pylist():
        found[row["source"], row["day"]].append(row)
    return dict(found)


def today() -> str:
    """The date in UTC, as 2024-12-31."""
    return datetime.now(UTC).date().isoformat()


def is_due(videos: set[str], before: list[dict[str, Any]] | None, over: bool) -> bool:
    """Whether a day with these videos is to be looked at, after a look that left these rows."""
    if before is None:
        return True
    new, was = videos != set(before[0]["video_ids"].split()), before[0]
    return (new or not was["over"]) if over else len(videos) >= 2 * was["videos"]


def planned(config: Config, group: Group, videos: tuple[list[str], list[str]], before: list[dict[str, Any]] | None, over: bool) -> Look:
    """The look that is due: at the very videos of the one before it takes its place, and what that one was allowed with its own."""
    was: dict[str, Any] = before[0] if before else {"looks": 0, "over": False, "video_ids": ""}
    again = was["video_ids"] == " ".join(videos[0])
    number = was["looks"] + (not again)
    rate = 0.0 if was["over"] else drift.allowed(config.watch.false_alarms, number, over)
    alarms = {row["quantity"]: row["reason"] for row in before or () if row["alarm"]}
    return Look(*group, *videos, number, over or was["over"], rate, alarms)


def by_lot(videos: Collection[str]) -> list[str]:
    """POOL of them at most, by a hash of their ids."""
    ordered = np.array(sorted(videos))
    return list(ordered[np.argsort(hashed(pa.chunked_array([ordered])), kind="stable")[:POOL]].tolist())


def looked(store: PatchStore, look: Look, version: int) -> pa.Table:
    """The rows (table.COLUMNS) of one look."""
    ids = [*look.videos, *look.before]
    new, seed = np.arange(len(ids)) < len(look.videos), hashlib.sha256(" ".join(look.videos).encode()).hexdigest()[:8]
    profiles, names = profiled(store, ids, version)
    found = drift.look(profiles, new, look.allowed, int(seed, 16))
    same = {"source": look.source, "day": look.day, "videos": len(look.videos), "video_ids": " ".join(look.videos)}
    same |= {"pool": len(look.before), "looks": look.number, "allowed": look.allowed, "over": look.over, "patches_version": version}
    rows = []
    for name, one in found.items():
        where = drift.contrast(profiles[name], new)
        said = f"{subject(look.videos, (look.source, look.day))}: {sentence(name, where, names)}" if one.alarm else look.alarms.get(name)
        rows.append(same | vars(one) | {"quantity": name, "alarm": said is not None, "reason": said})
    return pa.Table.from_pylist(rows, table.COLUMNS)


def subject(videos: list[str], group: Group) -> str:
    """What a finding is about, in words."""
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
    frames, owners = measured.frames(store, ids)
    names, verdicts = np.unique(frames["reason"].astype(str), return_inverse=True)
    found = {"verdicts": drift.kinds(verdicts, owners, (len(ids), len(names)))}
    found |= {name: drift.numbers(frames[name], owners, len(ids)) for name in measured.MEASURED}
    if rescoring.mixed(store, version):
        return found, names.tolist()  # scores and embeddings by several scorers cannot be compared
    patches, owners = measured.patches(store, ids, version)
    found["difficulty"] = drift.numbers(patches["difficulty"], owners, len(ids))
    if "label" in patches:
        found["clusters"] = drift.kinds(patches["label"], owners, (len(ids), int(patches["label"].max(initial=0)) + 1))
    return found, names.tolist()


# -- told ---------------------------------------------------------------------------------------------------------------------------


def tell_future(group: Group, now: str, videos: int) -> None:
    """Say of a day that is still to come that a clock is wrong: that of who took its videos in, or of this machine."""
    if group[1] > now:
        say = "a clock is wrong: videos of source %s were taken in on %s, which is after today, %s: %d; no alarm of theirs stands"
        log.warning(say, *group, now, videos)


def tell(rows: pa.Table, record: tracking.Run) -> None:
    """Log alarms in words, and all distances as metrics whose step is the day, counted from the year 1."""
    for row in rows.to_pylist():
        if row["chance"] <= row["allowed"]:  # and not at a look before
            log.warning("%s (%s: %.3f, threshold %.3f)", *(row[name] for name in ("reason", "quantity", "distance", "threshold")))
    numbers = {f"drift/{row['quantity']}/{row['source']}": row["distance"] for row in rows.to_pylist()}
    step = date.fromisoformat(rows["day"][0].as_py()).toordinal()
    record.log(numbers | {f"drift/alarms/{rows['source'][0].as_py()}": sum(rows["alarm"].to_pylist())}, step=step)
