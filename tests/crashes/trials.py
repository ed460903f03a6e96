"""The job ingest as a process of its own on simulated video: struck down, repeated, compared with a run that was never disturbed."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from engine import simulate
from tests.crashes import strikes
from tests.crashes.ingest import make_scorer

ROOT = Path(__file__).resolve().parents[2]


def make_clips(folder: Path, count: int = 3) -> None:
    simulate.write_clips(folder / "videos", folder / "truth", count, seconds=3.0, size=(240, 280))
    make_scorer(str(folder / "scorer.safetensors"))


def ingest(folder: Path, store: Path, where: str = "here", strike: str = "", videos: str = "videos") -> subprocess.Popen:
    return started("ingest", folder, store, strike, videos, where)


def watch(folder: Path, store: Path, strike: str = "", videos: str = "videos", *knobs: str) -> subprocess.Popen:
    """The job watch, until nothing is left; it is the process that works which is struck down."""
    return started("watch", folder, store, strike, videos, *knobs)


def started(job: str, folder: Path, store: Path, strike: str, videos: str, *words: str) -> subprocess.Popen:
    told, where = f"{strike}@{store}.struck" if strike else "none@nowhere@/", words[0] if words else ""
    command = [sys.executable, "-m", f"tests.crashes.{job}", f"{folder}/{videos}", str(store), f"{folder}/scorer.safetensors", *words]
    environment = {**os.environ, "ENDOCURATE_STRIKE": told, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    if where == "cluster":
        environment["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-")  # it leaves its address there, and later ones would be asked for it
    with said_of(store).open("w") as said:  # no pipe: what Ray leaves behind would keep it open
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=said, start_new_session=True)


def said_of(store: Path) -> Path:
    return Path(f"{store}.said")


def finish(process: subprocess.Popen, patience: float = 400.0) -> int:
    """The exit code; what it leaves behind of Ray is ended."""
    family, deadline = set(), time.monotonic() + patience
    while process.poll() is None and time.monotonic() < deadline:
        family |= offspring(process.pid)
        time.sleep(0.2)
    process.kill()
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    return process.wait()


def offspring(pid: int) -> set[psutil.Process]:
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def trial(folder: Path, store: Path, where: str, strike: str, expected: dict[str, list]) -> str:
    """The verdict on the tables after a struck run and a plain repetition of it."""
    ended = finish(ingest(folder, store, where, strike))
    said = said_of(store).read_text()
    assert Path(f"{store}.struck").exists(), f"{strike} never struck: {said}"
    if strike.split("@")[1] in strikes.COMMITTING:
        assert ended in (-signal.SIGKILL, 1), said
    assert finish(ingest(folder, store, where)) == 0, said_of(store).read_text()
    return strikes.verdict(strikes.rows_of(str(store)), expected)
