"""python -m tests.crashes.matrix [whole]: what becomes of the tables when a run is struck down at every step and repeated, as markdown.

Without `whole` only the committer with made-up rows; with it also the job ingest on simulated video under Ray: workers and raylets.
"""

import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine.store import PatchStore
from tests import rows
from tests.crashes import committer, strikes, trials

KINDS = {"kill": "the process that commits or writes killed (SIGKILL)", "error": "OSError once"}
ENDS = {"kill": -signal.SIGKILL, "error": 1}  # the exit code of who was struck
WHOLE = [
    *[("ray", f"kill@{step}") for step in (*strikes.WRITING, *strikes.COMMITTING)],  # a worker where fragments are written, else the driver
    *[("cluster", f"raylet@{step}") for step in strikes.WRITING],
    *[("ray", f"error@{step}") for step in ("during the fragments", "after the patches")],
]


def small(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Step, kind and verdict for the committer alone."""
    expected = committer.undisturbed(str(folder / "undisturbed"), ("aa",), ("bb", "cc"))
    for kind in KINDS:
        for step in strikes.STEPS:
            store = fresh(folder, f"{kind} {step}")
            assert committer.run(store, "bb", "cc", strike=f"{kind}@{step}") == ENDS[kind]
            assert committer.run(store, "bb", "cc") == 0
            yield step, KINDS[kind], strikes.verdict(strikes.rows_of(store), expected)
        for step in strikes.MERGING:
            store = fresh(folder, f"{kind} {step}", "aa", "bb", "cc")
            assert committer.keep_up(store, strike=f"{kind}@{step}") == ENDS[kind]
            assert committer.keep_up(store) == 0
            yield step, KINDS[kind].replace("commits or writes", "maintains"), whole_of(store, expected)
    for step in strikes.LANDING:
        store = fresh(folder, f"stop {step}")
        paused = committer.start(store, "bb", "cc", strike=f"stop@{step}", lease=committer.SHORT)
        committer.stopped(paused)
        assert committer.run(store, "bb", "cc", lease=committer.SHORT) == 0
        assert committer.wake(paused) == 1
        yield step, "paused beyond its lease, taken over, woken up", strikes.verdict(strikes.rows_of(store), expected)


def fresh(folder: Path, name: str, *ids: str) -> str:
    """A new store with these videos, each a commit of its own."""
    store = str(folder / name.replace(" ", "-"))
    PatchStore(store).create(rows.WIDTH)
    for video_id in ids or ("aa",):
        assert committer.run(store, video_id) == 0
    return store


def whole_of(store: str, expected: dict[str, list]) -> str:
    """The verdict on rows and files."""
    left = len(strikes.orphans_of(store))
    return strikes.verdict(strikes.rows_of(store), expected) + (f"; {left} files left" if left else "")


def whole(folder: Path) -> Iterator[tuple[str, str, str]]:
    """The same for the job ingest under Ray."""
    trials.make_clips(folder)
    trials.finish(trials.ingest(folder, folder / "undisturbed"))
    expected = strikes.rows_of(str(folder / "undisturbed"))
    for number, (where, strike) in enumerate(WHOLE):
        kind, step = strike.split("@")
        who = "raylet" if kind == "raylet" else "worker" if step in strikes.WRITING else "driver"
        how = "OSError once" if kind == "error" else f"{who} killed (SIGKILL)"
        yield step, f"ingest on Ray: {how}", trials.trial(folder, folder / str(number), where, strike, expected)


def main(*asked: str) -> None:
    print("| step | what struck | tables after the same run again |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for line in small(Path(folder)):
            print(f"| {' | '.join(line)} |", flush=True)
        for line in whole(Path(folder)) if "whole" in asked else ():
            print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
