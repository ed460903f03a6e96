"""What a page tells of one patch, one video, two selections, and of the store as a whole: plain data, without an address of a source."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.browser import sheets
from engine.browser.asking import KINDS, NUMBERS
from engine.browser.cells import plain
from engine.browser.looks import Looks, whole_frames
from engine.browser.overlay import share
from engine.explain import Explainer, Runs, explain
from engine.store import PatchStore, quoted, tags
from engine.store.tables import TAGS

Row = dict[str, Any]
PATIENCE = 60.0  # seconds for a question over a whole table
REASONS = "SELECT reason, count(*)::BIGINT AS frames FROM frames GROUP BY reason ORDER BY frames DESC, reason"
SELECTION = ["selection_id", "method", "budget", "unit", "patches_version"]  # what all rows of one have in common
LONE = 1000  # ms that a video's only moment is drawn as
NAMED = 2000  # videos that are listed; more are found by the beginning of their ids
SHOWN = ["patch_id", "video_id", "frame_id", "time_ms", "box", "difficulty", "proposer", "height", "width"]
OF_A_FRAME = ["frame_id", "time_ms", "reason", "detail", "patches", "sharpness", "brightness", "glare", "tissue", "change"]


def overview(looks: Looks) -> Row:
    """What there is to look at, and what it can be told apart by."""
    store, sheet = looks.store, looks.sheet()
    names, codes = sheet.words("video_id")
    counts = np.bincount(codes, minlength=len(names)).tolist()
    told = {
        "version": sheet.version,
        "patches": len(sheet),
        "beside": beside(store),
        "videos": [list(one) for one in zip(names, counts, strict=True)][:NAMED],
    }
    whole = int(whole_frames(sheet).sum())
    told |= {"kinds": dict(zip(KINDS, (len(sheet) - whole, whole), strict=True))}
    told |= {"selections": selections(store), "clusters": {name: clusters(looks, name) for name in looks.clusterings()}}
    reasons = store.shown(REASONS, PATIENCE)
    refused = [row for row in store.ledger().select(["video_id", "reason", "detail"]).to_pylist() if row["reason"]]
    told |= {"reasons": reasons.to_pylist(), "refused": refused[:NAMED], "tags": tagged(store), "numbers": NUMBERS}
    return plain(told)  # type: ignore[no-any-return]


def beside(store: PatchStore) -> list[int]:
    """The versions of what people and jobs say of patches, which changes while the patches stay: selections and tags; 0 without one."""
    return [int(store.open(name).version) if store.is_made(name) else 0 for name in ("selections", TAGS)]


def selections(store: PatchStore) -> list[Row]:
    """The selections of the store, the one that was written last first, which is what `newest` of the store goes by."""
    if not store.has("selections"):
        return []
    rows = store.open("selections").scanner(columns=SELECTION, with_row_id=True).to_batches()
    parts = [counted(pa.Table.from_batches([batch]).append_column("patches", pa.array(np.ones(len(batch), np.int64)))) for batch in rows]
    if not parts:
        return []
    return list(counted(pa.concat_tables(parts)).sort_by([("_rowid", "descending")]).drop_columns("_rowid").to_pylist())


def counted(rows: pa.Table) -> pa.Table:
    """Of each selection its last row and how many patches it has; `rows` may be such counts of parts of them."""
    made = rows.group_by(SELECTION).aggregate([("_rowid", "max"), ("patches", "sum")])
    return made.rename_columns([name.removesuffix("_max").removesuffix("_sum") for name in made.column_names])


def clusters(looks: Looks, name: str) -> list[int]:
    """How many patches each cluster holds, by its number."""
    sheet = looks.sheet()
    labels = sheet.once(f"labels of {name}", lambda: looks.labels(sheet, name))
    return [int(one) for one in np.bincount(labels[labels >= 0])]


def tagged(store: PatchStore) -> dict[str, int]:
    """How many patches have each tag, the most frequent first."""
    found = tags.tags(store)["tag"].value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(found, key=lambda row: (-row["counts"], row["values"]))}


def patch(store: PatchStore, patch_id: str, runs: Callable[[], Runs]) -> Row:
    """A patch, its neighbours in the frame, the share of its box that its mask takes, its tags, and why it is there.

    LookupError for an id that is not.
    """
    row = sheets.one(store, patch_id, [*SHOWN, "mask"])
    mask = row.pop("mask")
    mine = f"video_id = {quoted([row['video_id']])}"
    frame = store.open("frames").to_table(filter=f"{mine} AND frame_id = {quoted([row['frame_id']])}").to_pylist()[0]
    beside = store.patches(["patch_id", "box", "difficulty"], where=f"{mine} AND time_ms = {row['time_ms']}").to_pylist()
    said = [one["tag"] for one in tags.tags(store).to_pylist() if one["patch_id"] == patch_id]
    told = {"patch": row, "frame": {name: frame[name] for name in ("frame_id", "time_ms", "content", "reason")}, "beside": beside}
    return plain(told | {"tags": said, "mask": share(mask, row["box"]), "story": explain(store, patch_id, runs())})  # type: ignore[no-any-return]


def video(store: PatchStore, begin: str, runs: Callable[[], Runs]) -> Row:
    """A video's frames with the difficulty of their patches, and the stretches without a patch; LookupError for no or many videos."""
    explainer = Explainer(store, runs())
    video_id = explainer.one_of(begin, {"video": explainer.videos(begin)})[1]
    mine = f"video_id = {quoted([video_id])}"
    frames = store.open("frames").to_table(columns=OF_A_FRAME, filter=mine).sort_by([("time_ms", "ascending"), ("frame_id", "ascending")])
    scores = (
        store.patches(["frame_id", "difficulty"], where=mine)
        .group_by("frame_id")
        .aggregate([("difficulty", "mean"), ("difficulty", "max")])
    )
    by_frame = {row["frame_id"]: (row["difficulty_mean"], row["difficulty_max"]) for row in scores.to_pylist()}
    rows = [row | dict(zip(("mean", "max"), by_frame.get(row["frame_id"], (None, None)), strict=True)) for row in frames.to_pylist()]
    everywhere = pc.quantile(store.patches(["difficulty"])["difficulty"], q=[0.01, 0.99]).to_pylist()
    told = {"video": video_id, "frames": rows, "until": until(rows), "stretches": stretches(rows)}
    return plain(told | {"scale": everywhere, "story": explainer.video(video_id)})  # type: ignore[no-any-return]


def until(frames: Sequence[Row]) -> float:
    """Up to which ms the last of the sampled moments counts: as long as they lie apart, LONE where there is but one."""
    times = [frame["time_ms"] for frame in frames]
    return times[-1] + ((times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else LONE) if times else 0.0


def stretches(frames: Sequence[Row]) -> list[Row]:
    """Sampled moments in a row that gave no region for one reason, each from its first to the next moment.

    A whole frame may be kept of one all the same.
    """
    found, ends = [], [*(frame["time_ms"] for frame in frames), until(frames)][1:]
    for reason, held in groupby(zip(frames, ends, strict=True), key=lambda one: one[0]["reason"]):
        rows = list(held)
        if reason is not None:
            first, end = rows[0][0], rows[-1][1]
            found.append({"reason": reason, "from": first["time_ms"], "to": end, "frames": len(rows), "detail": first["detail"]})
    return found


def difference(store: PatchStore, older: str, newer: str) -> Row:
    """What came, went and stayed from one selection to another, and in which videos. LookupError where one is not there."""
    known = {row["selection_id"] for row in selections(store)}
    if lost := sorted({older, newer} - known):
        raise LookupError(f"there is no selection {lost[0][:80]!r}")
    found = store.diff(older, newer)
    counts = {row["values"]: row["counts"] for row in found.patches["change"].value_counts().to_pylist()}
    stayed = found.patches.filter(pc.equal(found.patches["change"], "stayed"))
    moved = np.abs(stayed["newer_rank"].to_numpy() - stayed["older_rank"].to_numpy())
    told = {"came": 0, "went": 0, "stayed": 0} | counts
    return plain(told | {"videos": found.videos.to_pylist(), "moved": float(np.median(moved)) if len(moved) else None})  # type: ignore[no-any-return]
