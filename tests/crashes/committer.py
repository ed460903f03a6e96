"""Takes in small made-up videos in a process of its own, struck down as it is told."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pyarrow as pa

from engine.settings import UpkeepConfig
from engine.store import PatchStore, lock
from tests import rows
from tests.crashes import strikes

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.crashes.committer"])
SHORT = 1.5  # seconds a lease lasts where a test waits for its end


def start(uri: str, *ids: str, strike: str = "", lease: float = lock.LEASE) -> multiprocessing.Process:
    process = PROCESSES.Process(target=take_in, args=(uri, ids, strike, lease))
    process.start()
    return process


def run(uri: str, *ids: str, strike: str = "", lease: float = lock.LEASE) -> int:
    """The exit code; minus the signal where one ended it."""
    process = start(uri, *ids, strike=strike, lease=lease)
    process.join(100)
    return process.exitcode


def keep_up(uri: str, strike: str = "") -> int:
    """The exit code of `maintain` in a process of its own; nothing is too young for it to remove."""
    process = PROCESSES.Process(target=maintain, args=(uri, strike))
    process.start()
    process.join(100)
    return process.exitcode


def stopped(process: multiprocessing.Process) -> None:
    """Wait until it stands still."""
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert process.is_alive()
        time.sleep(0.02)


def wake(process: multiprocessing.Process) -> int:
    os.kill(process.pid, signal.SIGCONT)
    process.join(100)
    return process.exitcode


def maintain(uri: str, strike: str) -> None:
    os.environ["ENDOCURATE_STRIKE"] = f"{strike}@{uri}.struck" if strike else "none@nowhere@/"
    strikes.arm_upkeep()
    PatchStore(uri).maintain(UpkeepConfig(keep_hours=1e-9))


def take_in(uri: str, ids: tuple[str, ...], strike: str, lease: float) -> None:
    os.environ["ENDOCURATE_STRIKE"] = f"{strike}@{uri}.struck" if strike else "none@nowhere@/"
    lock.LEASE = lease
    strikes.arm_committer()
    strikes.arm_lance()
    store = PatchStore(uri)
    fresh = store.unknown(rows.videos(*ids))["video_id"].to_pylist()
    if fresh:
        writer = strikes.StruckWriteRows(uri)
        written = pa.concat_tables([out for video_id in fresh for out in writer(rows.scored(video_id))])
        store.commit(written, rows.videos(*fresh), rows.STAMP)


def undisturbed(uri: str, *batches: tuple[str, ...]) -> dict[str, list]:
    """The rows of a store that took in batch after batch and was never struck."""
    store = PatchStore(uri)
    store.create(rows.WIDTH)
    for ids in batches:
        assert run(uri, *ids) == 0
    return strikes.rows_of(uri)
