"""Selections that were kept current once: the older ones of each are removed, but for those that something was made from."""

import logging
from collections.abc import Collection

from engine import tracking
from engine.config import Config
from engine.explain.runs import MAKING
from engine.store import PatchStore, journal, selections, trainings

log = logging.getLogger("jobs.selections")
JOB = "selections"  # in the journal: made by the job choose, removed here


def prune(config: Config, store: PatchStore) -> None:
    """Remove all but the newest watch.keep_selections of each, and what is in use. After a death the next time ends it."""
    if not store.has("selections"):
        return
    gone = [one for one in old(journal.entries(store, JOB), config.watch.keep_selections) if not is_used(config, store, one)]
    if not gone:
        return
    counts = selections.remove(store, gone)
    for one in gone:  # last: until then they are looked for
        journal.enter(store, JOB, one, {"step": "removed"}, tracking.code_commit())
    log.info("%d older selections are removed, with %d training images", len(gone), counts["images"])


def old(entries: Collection[tuple[str, dict[str, str]]], kept: int) -> list[str]:
    """The selections that are not among the newest `kept` of any settings, by what the journal says was made and removed, in order."""
    made: dict[str, list[str]] = {}
    for name, detail in entries:
        for names in made.values() if detail["step"] == "removed" else [made.setdefault(detail["by"], [])]:
            names[:] = [one for one in names if one != name]
        if detail["step"] == "made":
            made[detail["by"]].append(name)
    newest = {name for names in made.values() for name in names[-kept:]}
    return [name for name in dict.fromkeys(name for names in made.values() for name in names) if name not in newest]


def is_used(config: Config, store: PatchStore, selection_id: str) -> bool:
    """Whether something was made from a selection, or was begun to be, or a person chose the same."""
    if trainings.trained_on(store, [selection_id]) or selection_id in {name for name, _ in journal.entries(store, "retrain")}:
        return True
    mine = f"tags.selection = '{selection_id}'"
    return any(tracking.begun(config, job, mine) for job in MAKING) or not all(
        "kept_by" in one["tags"] for one in tracking.begun(config, "choose", mine)
    )
