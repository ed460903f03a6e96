"""Hundreds of clips arrive at random while the watcher is struck down at random: tables and selection exact, memory flat, files few.

SOAK_S seconds of it, ten minutes unless told: `SOAK_S=180 pytest -m slow tests/test_soak.py -s`.
"""

import json
import os
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import theilslopes

from engine import selection, tracking
from engine.knobs import amend
from engine.pool import Pool
from engine.store import PatchStore, attempts, clusterings, lock
from jobs import ingest, named, selections
from tests.crashes import soak, strikes

SECONDS = float(os.environ.get("SOAK_S", "600"))
SETTLED = 0.3  # share of a process's life in which it fills its caches
GROWTH = 0.05  # of its memory in as long a time as it was watched: less is flat
FILES = 71  # at most for each table, whatever arrives: the versions since the last upkeep and some seconds,
LATE = 1.0  # and for each second more that upkeep was kept from its end by a store that was away
LONGEST = 200.0  # seconds without upkeep: outages come every 20 s in the end, and a round begins every 20; up to 144 were seen


def whole(store):
    """What does not depend on names and times of files."""
    found = strikes.rows_of(store)
    kept = ("video_id", "reason", "detail", "frames", "kept", "patches")
    return found | {"ledger": [{name: row[name] for name in kept} for row in found["ledger"]]}


def plain(folder: Path, contents: dict[str, bytes]) -> str:
    """The store of one ingest of these bytes."""
    (folder / "plain").mkdir()
    for name, data in contents.items():
        (folder / "plain" / f"{name}.mp4").write_bytes(data)
    ingest.run(amend(soak.config_of(folder, folder / "once"), [f"videos.uri={folder}/plain"]))
    return f"{folder}/once"


def kept_current(config) -> list[str]:
    """The patches of the selection that was kept current, in order of choice."""
    (mine,) = selections.each(config)
    made = named.newest(mine)["tags"]["selection"]
    return PatchStore(config.store.uri).ranked(made, ["patch_id"])["patch_id"].to_pylist()


def chosen_anew(config, once: str) -> list[str]:
    """The same by a solve of the undisturbed patches in full: from the centroids of now, every patch looked up and compared anew."""
    (mine,), plain = selections.each(config), PatchStore(once)
    known = clusterings.centroids(PatchStore(config.store.uri), selection.clustering_of(mine.selection))
    columns = plain.patches(selection.columns(mine.selection), version=plain.complete_version())
    pool = Pool(columns, plain.vectors(plain.complete_version()), clustering=known.at(np.full(len(columns), -1)))
    return list(selection.choose(pool, mine.selection, group=mine.synthesis.patches).patch_ids)


def without_upkeep(store) -> float:
    """The longest time in seconds from one upkeep that came to its end to the next, or to the last word in the journal."""
    told = store.open("journal").to_table(columns=["at", "job"]).to_pylist()
    times = [row["at"] for row in told if row["job"] == "maintain"] + [max(row["at"] for row in told)]
    return max((datetime.fromisoformat(later) - datetime.fromisoformat(one)).total_seconds() for one, later in pairwise(sorted(times)))


def slope(samples):
    """Share by which the memory of the process that was watched longest grows in that time, by the median of all pairs' slopes."""
    pids, times, megabytes = (np.array(column) for column in zip(*samples, strict=True))
    longest = max(set(pids), key=lambda pid: np.ptp(times[pids == pid]))
    then, held = times[pids == longest], megabytes[pids == longest]
    later = then > then[0] + SETTLED * np.ptp(then)
    fit = theilslopes(held[later], then[later])
    return fit.slope * np.ptp(then[later]) / np.median(held), np.median(held), np.ptp(then)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 1500)
def test_soak(tmp_path):
    inbox, watching = soak.soak(tmp_path, SECONDS)
    store = PatchStore(str(watching.store))
    found = {row["video_id"]: row for row in store.ledger().to_pylist()}
    said = (tmp_path / "said").read_text().splitlines()
    growth, memory, life = slope(watching.memory)
    files, tables = max(watching.files), len([*Path(store.uri).glob("*.lance")]) - 1  # of that of locks nothing is counted
    print(f"\n{SECONDS:g} s: {inbox.told}; faults {watching.done}; {len(found)} videos in the ledger")
    print(f"memory of a process over {life:.0f} s: {memory:.0f} MB, growth {100 * growth:+.1f} %; files at most {files} of {tables} tables")
    waited = without_upkeep(store)
    print(f"{waited:.0f} s without upkeep at most")
    assert set(watching.codes) <= {0}
    assert {soak.video_id(data) for data in inbox.now.values()} <= found.keys() <= inbox.ever.keys()
    assert not [row for row in found.values() if row["reason"] in ("quarantined", "unreadable")]
    once = plain(tmp_path, {name: inbox.ever[name] for name in found})
    assert strikes.verdict(whole(store.uri), whole(once)) == "equal"
    config = soak.config_of(tmp_path, store.uri)
    found, expected = kept_current(config), chosen_anew(config, once)
    print(f"{len(tracking.runs(config, 'choose'))} solves of the selection, {len(found)} patches in the last")
    assert found == expected != []
    assert not attempts.begun(store)
    assert [json.loads(line) for line in said]
    assert growth < GROWTH
    assert waited < LONGEST
    assert files < (FILES + LATE * max(0.0, waited - 20)) * tables
    oldest = store.open("locks").versions()[0]["timestamp"]
    assert datetime.now() - oldest < lock.OUTDATED + timedelta(seconds=max(SECONDS, 300))  # swept at every upkeep
