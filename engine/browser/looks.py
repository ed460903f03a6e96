"""Views: the rows of a table that were asked for, in an order that is made once, so that any part of them is a matter of milliseconds."""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import schema
from engine.browser.asking import NUMBERS, Asked
from engine.browser.questions import Questions
from engine.browser.sheets import NAMES, Flags, Sheet
from engine.refusals import RefusedError
from engine.rows import Rows
from engine.store import PatchStore, tags

KEPT = 12  # views at a time, 8 MB each of a million rows
ALIKE = 500  # patches that "more like this" finds
BINS = 48
NUMBER = re.compile(r"[0-9]{1,9}")  # of a cluster
GONE = "this view is not held any more: it is to be asked for again"


class GoneError(LookupError):
    """A view that is no longer held; the page asks for it again."""


@dataclass(frozen=True)
class View:
    """Rows of a sheet in the order in which they are shown."""

    key: str
    asked: Asked
    sheet: Sheet
    rows: Rows
    among: int  # how many rows of the sheet may be seen


class Looks:
    """The views of one store: always of a complete version, none of them with a video that was forgotten meanwhile."""

    def __init__(self, store: PatchStore, questions: Questions | None = None) -> None:
        self.store, self.questions = store, questions or Questions(store.uri)
        self.lock = threading.RLock()
        self.sheets: dict[tuple[str, int], Sheet] = {}
        self.views: OrderedDict[str, View] = OrderedDict()
        self.ledger_version, self.forgotten = 0, set[str]()

    # -- what there is ------------------------------------------------------------------------------------------------------

    def refresh(self) -> int:
        """The newest version of the patch table that a reader may see; lets go of all that may show what was forgotten."""
        with self.lock:
            ledger = int(self.store.open("videos").version)
            if ledger != self.ledger_version:
                gone = self.store.forgotten()
                if gone != self.forgotten:
                    self.sheets.clear()
                    self.views.clear()
                self.ledger_version, self.forgotten = ledger, gone
            return self.store.complete_version()

    def sheet(self, table: str = "patches") -> Sheet:
        """A table as it is now; older versions are let go of once nothing that is kept shows them."""
        version = self.refresh()
        number = version if table == "patches" else int(self.store.open(table).version)
        with self.lock:
            if (table, number) not in self.sheets:
                shown = {(view.asked.table, view.sheet.version) for view in self.views.values()}
                self.sheets = {name: one for name, one in self.sheets.items() if name in shown or name[0] != table}
                self.sheets[table, number] = Sheet(self.store, table, number)
            return self.sheets[table, number]

    # -- views --------------------------------------------------------------------------------------------------------------

    def view(self, asked: Asked) -> View:
        """The rows that are asked for; RefusedError and LookupError, in one sentence, for what cannot be asked."""
        sheet = self.sheet(asked.table)
        rows = ordered(sheet, asked, self.found(sheet, asked))
        told = f"{sheet.version} {asked!r} {hashlib.sha256(rows.tobytes()).hexdigest()}"  # tags and selections change beside the version
        key = hashlib.sha256(told.encode()).hexdigest()[:24]
        made = View(key, asked, sheet, rows, int(self.known(sheet).sum()))
        with self.lock:
            self.views[key] = made
            self.views.move_to_end(key)
            while len(self.views) > KEPT:
                self.views.popitem(last=False)
        return made

    def kept(self, key: str) -> View:
        """A view that was made before; GoneError where it is not held any more."""
        self.refresh()
        with self.lock:
            if key not in self.views:
                raise GoneError(GONE)
            self.views.move_to_end(key)
            return self.views[key]

    def found(self, sheet: Sheet, asked: Asked) -> Rows:
        """The places of the rows that are asked for, as a list brings them or in the order of the table."""
        among = self.known(sheet)
        for name, least, most in asked.ranges:
            among &= within(sheet.number(name), least, most)
        if asked.video:
            among &= sheet.having("video_id", lambda word: word.startswith(asked.video))
        if asked.reason:
            among &= sheet.having("reason", lambda word: word == ("" if asked.reason == "kept" else asked.reason))
        if asked.kind:
            among &= whole_frames(sheet) == (asked.kind == "frames")
        if asked.cluster:
            among &= self.members(sheet, asked.cluster)
        lists = [find(sheet, asked) for name, find in self.lists().items() if getattr(asked, name)]
        if not lists:
            return np.flatnonzero(among)
        for other in lists[1:]:
            among &= flagged(sheet, other)
        return lists[0][among[lists[0]]]

    def known(self, sheet: Sheet) -> Flags:
        """Which rows (N,) may be seen: of frames those of videos in the ledger, since a run that died may have left others."""
        if sheet.table == "patches":
            return np.ones(len(sheet), np.bool_)
        return sheet.having("video_id", set(self.store.ledger()["video_id"].to_pylist()).__contains__)

    def lists(self) -> dict[str, Callable[[Sheet, Asked], Rows]]:
        """What brings an order along, the first one's being the one that counts."""
        return {"like": self.alike, "sql": self.answered, "selection": self.chosen, "tag": self.tagged}

    def alike(self, sheet: Sheet, asked: Asked) -> Rows:
        """The patch that is asked about and up to ALIKE others, the likest first."""
        count = min(ALIKE, self.store.open("patches", self.store.complete_version()).count_rows() - 1)
        if count < 1:
            return sheet.places([asked.like])
        return sheet.places([asked.like, *self.store.nearest(asked.like, count)["patch_id"].to_pylist()])

    def answered(self, sheet: Sheet, asked: Asked) -> Rows:
        """The patches that an SQL answer names, each once and in its order; RefusedError where it has no patch_id.

        Of the answer one part at a time is in memory, and it is read no further than all patches are in the view.
        """
        seen, found = np.zeros(len(sheet), np.bool_), [np.zeros(0, np.int64)]
        for part in self.questions.listed(asked.sql):
            rows = sheet.places(part)
            fresh = rows[np.sort(np.unique(rows, return_index=True)[1])]
            found.append(fresh[~seen[fresh]])
            seen[fresh] = True
            if seen.all():
                break
        return np.concatenate(found)

    def chosen(self, sheet: Sheet, asked: Asked) -> Rows:
        """A selection by its ranks; or what came, went or stayed from another one to it."""
        if not asked.change:
            return sheet.places(self.ranked(asked.selection))
        rows = self.store.diff(asked.against, asked.selection).patches.to_pylist()
        rank = "older_rank" if asked.change == "went" else "newer_rank"
        mine = sorted((row for row in rows if row["change"] == asked.change), key=lambda row: int(row[rank]))
        return sheet.places([row["patch_id"] for row in mine])

    def ranked(self, selection_id: str) -> list[str]:
        """The ids of a selection by rank; LookupError where there is none of that id."""
        rows = self.store.ranked(selection_id, ["patch_id"])
        if not len(rows):
            raise LookupError(f"there is no selection {selection_id[:80]!r}")
        return list(rows["patch_id"].to_pylist())

    def tagged(self, sheet: Sheet, asked: Asked) -> Rows:
        """The patches with the tag that is asked for."""
        rows = tags.tags(self.store)
        return sheet.places([row["patch_id"] for row in rows.to_pylist() if row["tag"] == asked.tag])

    def members(self, sheet: Sheet, cluster: str) -> Flags:
        """Which rows (N,) are in a cluster, written CLUSTERING/NUMBER; LookupError where there is none such."""
        name, _, number = cluster.rpartition("/")
        if name not in self.clusterings() or not NUMBER.fullmatch(number):
            raise LookupError(f"there is no cluster {cluster[:80]!r}; clusterings are {', '.join(self.clusterings()) or 'none'}")
        labels = sheet.once(f"labels of {name}", lambda: self.labels(sheet, name))
        if int(number) > labels.max(initial=-1):
            raise LookupError(f"there is no cluster {cluster[:80]!r}; the last one of {name} is {name}/{labels.max(initial=-1)}")
        return np.asarray(labels == int(number), np.bool_)

    def labels(self, sheet: Sheet, name: str) -> NDArray[np.int32]:
        """The cluster of every row (N,), -1 of those that came after it was made."""
        kept = self.store.clustering(name, sheet.column(NAMES["patches"]))
        return np.full(len(sheet), -1, np.int32) if kept is None else kept.labels

    def clusterings(self) -> list[str]:
        """The names of the clusterings that the store keeps."""
        return [table.partition("-")[2] for table in self.store.clusterings()]

    # -- numbers ------------------------------------------------------------------------------------------------------------

    def histogram(self, asked: Asked, name: str) -> dict[str, Any]:
        """How a number is spread over all rows that may be seen, and over those asked for, its own range left aside.

        RefusedError for no number.
        """
        if name not in NUMBERS[asked.table]:
            raise RefusedError(f"{asked.table} have no number {name[:40]!r}")
        sheet = self.sheet(asked.table)
        values, known = sheet.number(name), self.known(sheet)
        finite = values[known & np.isfinite(values)]
        if not len(finite):
            return {"name": name, "edges": [], "all": [], "some": []}
        among = values[self.found(sheet, asked.without(name))]
        low, high = sheet.once(f"span of {name} in {len(finite)}", lambda: span(finite))
        edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
        counted = [np.histogram(np.minimum(one[np.isfinite(one)], edges[-1]), edges)[0].tolist() for one in (finite, among)]
        return {"name": name, "edges": edges.tolist(), "all": counted[0], "some": counted[1], "most": float(finite.max())}


def span(values: NDArray[np.float32]) -> list[float]:
    """The least and the most of some values (N,) that are drawn apart: of a thousand and more all but the largest thousandth."""
    return [float(one) for one in np.quantile(values, [0, 0.999], method="higher")]


def whole_frames(sheet: Sheet) -> Flags:
    """Which patches (N,) are whole frames and no regions of one."""
    return sheet.having("proposer", schema.FRAME_PROPOSER.__eq__)


def within(values: NDArray[np.float32], least: float, most: float) -> Flags:
    """Which values lie between two limits, both included; NaN does not."""
    return np.asarray((values >= np.float32(least)) & (values <= np.float32(most)), np.bool_)


def flagged(sheet: Sheet, rows: Rows) -> Flags:
    """The same rows as a flag for every row of the sheet (N,)."""
    made = np.zeros(len(sheet), np.bool_)
    made[rows] = True
    return made


def ordered(sheet: Sheet, asked: Asked, rows: Rows) -> Rows:
    """The rows by a number, those without one last and equal ones as they were; or as their list brought them."""
    if not asked.sort:
        return rows[::-1] if asked.down else rows
    values = sheet.number(asked.sort)[rows]
    return rows[np.argsort(-values if asked.down else values, kind="stable")]
