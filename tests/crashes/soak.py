"""An inbox into which clips arrive at random, a watcher of it that is struck down at random, and what is measured meanwhile.

Clips are a few small ones, each made another by a box behind its end that players skip: hundreds of videos in a second.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from engine import simulate
from engine.config import Config
from engine.knobs import amend
from engine.store import PatchStore
from jobs import selections
from jobs.recipes import tiny
from tests.crashes.ingest import make_scorer

ROOT = Path(__file__).resolve().parents[2]
KNOBS = [
    "where=here", "patches.proposer=crops", "patches.per_frame=2", "difficulty.draws=1", "videos.batch=8", "frames.every_s=0.5",
    "watch.settle_s=1", "watch.look_s=0.5", "watch.batch_s=1", "watch.backoff_s=0.2", "watch.backoff_most_s=2", "watch.tries=10",
    "watch.upkeep_s=20", "upkeep.keep_hours=0.003", "watch.grace_s=20", "watch.log=json",
    "selection.clusters=4", "watch.selections=semdedup:0.5", "watch.keep_selections=2",
]  # fmt: skip
ARRIVALS = {"new": 0.6, "grows": 0.08, "broken": 0.08, "copy": 0.08, "future": 0.05, "renamed": 0.06, "replaced": 0.05}
FAULTS = {"worker": 0.3, "warden": 0.2, "term": 0.2, "store": 0.3}
KILLING = ("worker", "warden", "term")  # of these only in the first half: the memory of a process is judged that lives through the second
APART = 2.0  # seconds between two arrivals, on average
EVERY = 15.0  # seconds between two faults, on average, and as long as a process takes to start


def content(number: int, clips: list[bytes]) -> bytes:
    """The bytes of a video: a clip and a box of MP4 that holds its number."""
    return clips[number % len(clips)] + struct.pack(">I4sQ", 16, b"free", number)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def video_id(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


@dataclass
class Inbox:
    """What was ever whole in the folder, and what is there now."""

    folder: Path
    clips: list[bytes]
    rng: np.random.Generator
    count: int = 0
    now: dict[Path, bytes] = field(default_factory=dict)
    ever: dict[str, bytes] = field(default_factory=dict)  # by id, also what a file was while it grew
    growing: list[tuple[Path, bytes]] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ARRIVALS, 0))

    def arrive(self) -> None:
        while self.growing:
            self.put(*self.growing.pop())
        kind = str(self.rng.choice(list(ARRIVALS), p=list(ARRIVALS.values())))
        if not self.now:
            kind = "new"
        self.told[kind] += 1
        getattr(self, kind)()

    def put(self, path: Path, data: bytes) -> None:
        self.now[path] = self.ever[video_id(data)] = data
        path.write_bytes(data)

    def fresh(self) -> tuple[Path, bytes]:
        self.count += 1
        folder = self.folder / f"day {self.count // 50}"
        folder.mkdir(exist_ok=True)
        return folder / f"clip {self.count}.mp4", content(self.count, self.clips)

    def any(self) -> Path:
        return list(self.now)[int(self.rng.integers(len(self.now)))]

    def new(self) -> None:
        self.put(*self.fresh())

    def grows(self) -> None:
        """Half of it now, the rest with the next arrival."""
        path, data = self.fresh()
        self.put(path, data[: len(data) // 2])
        self.growing.append((path, data))

    def broken(self) -> None:
        path, data = self.fresh()
        self.put(path, [data[: len(data) // 3], f"no video {self.count}".encode(), data[: self.count % 50]][self.count % 3])

    def copy(self) -> None:
        path, _ = self.fresh()
        self.put(path, self.now[self.any()])

    def future(self) -> None:
        path, data = self.fresh()
        self.put(path, data)
        os.utime(path, (time.time() + 86400, time.time() + 86400))

    def renamed(self) -> None:
        before, (after, _) = self.any(), self.fresh()
        before.rename(after)
        self.now[after] = self.now.pop(before)

    def replaced(self) -> None:
        """A new file, or one that came a moment ago and may be read right now, becomes another one in place."""
        path = list(self.now)[-1]
        self.put(path, self.fresh()[1])


class Watching:
    """The job watch as a process that is started again whenever it was ended, and what it does to memory and files."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.store, self.rng = folder, folder / "store", rng
        self.done, self.port = dict.fromkeys(FAULTS, 0), free_port()
        self.codes: list[int] = []
        self.memory: list[tuple[int, float, float]] = []  # the process that works, when, and its MB
        self.files: list[int] = []  # of the tables, but for that of locks, whose versions stay ten minutes whatever upkeep is told
        self.process = self.start()

    def start(self) -> subprocess.Popen:
        places = [f"videos.uri={self.folder}/inbox", f"store.uri={self.store}", f"difficulty.checkpoint={self.folder}/scorer"]
        command = [sys.executable, "-m", "jobs", "watch", "tiny", *KNOBS, *places, f"watch.port={self.port}"]
        with (self.folder / "said").open("a") as said:
            return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, start_new_session=True)

    def is_ready(self) -> bool:
        """What its port says; a process that is ended before it ever got so far as to look is a broken installation to its warden."""
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5).status == 200
        except OSError:
            return False

    def worker(self) -> psutil.Process | None:
        """The process that works: of the children the one that is no helper of Python's."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children()
            return next((one for one in family if "spawn_main" in " ".join(one.cmdline())), None)
        return None

    def fall(self, kinds: list[str]) -> None:
        """One fault by lot."""
        weights = np.array([FAULTS[kind] for kind in kinds])
        kind = str(self.rng.choice(kinds, p=weights / weights.sum()))
        self.done[kind] += 1
        getattr(self, f"fall_{kind}")()

    def fall_worker(self) -> None:
        if worker := self.worker():
            worker.kill()

    def fall_warden(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self.start()

    def fall_term(self) -> None:
        self.end()
        self.process = self.start()

    def fall_store(self) -> None:
        """Away for seconds, as a disk that is unmounted; what is written in its place is found out."""
        elsewhere = self.folder / "elsewhere"
        self.store.rename(elsewhere)
        time.sleep(float(self.rng.uniform(2, 6)))
        if self.store.exists():
            self.done["made in its place"] = self.done.get("made in its place", 0) + 1
            shutil.move(self.store, self.folder / f"in its place {time.time()}")
        elsewhere.rename(self.store)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.codes.append(self.process.wait(120))

    def sample(self) -> None:
        now = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            worker = self.worker() if self.is_ready() else None  # one that starts grows
            if worker:
                self.memory.append((worker.pid, now, worker.memory_info().rss / 2**20))
        tables = [path for path in self.store.glob("*.lance") if path.stem != "locks"]
        self.files.append(sum(len(files) for table in tables for _, _, files in os.walk(table)))


def config_of(folder: Path, store: Path | str) -> Config:
    """The settings of the job that was watched, for a store."""
    return amend(tiny(), [*KNOBS, f"videos.uri={folder}/inbox", f"store.uri={store}", f"difficulty.checkpoint={folder}/scorer"])


def prepare(folder: Path) -> list[bytes]:
    """The folder of a soak: a scorer, an inbox, a store; gives the clips that all others are made of."""
    make_scorer(str(folder / "scorer"))
    (folder / "inbox").mkdir()
    clips = []
    for seed in range(6):
        simulate.write_clip(folder / "clip.mp4", seed, seconds=1.0, fps=4, height=112, width=128)
        clips.append((folder / "clip.mp4").read_bytes())
    return clips


def soak(folder: Path, seconds: float, seed: int = 0) -> tuple[Inbox, Watching]:
    """Let clips arrive and faults fall for so long, then wait until all is taken in, and end it."""
    clips, arrivals, faults = prepare(folder), np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    inbox, watching = Inbox(folder / "inbox", clips, arrivals), Watching(folder, faults)
    while not watching.is_ready():  # which takes a minute where the machine is busy
        time.sleep(1)
    began = time.monotonic()
    next_fault, next_arrival = began + EVERY, began
    while (now := time.monotonic()) < began + seconds:
        if now >= next_arrival:
            inbox.arrive()
            next_arrival = now + float(arrivals.exponential(APART))
        if now >= next_fault and watching.is_ready():
            watching.fall([kind for kind in FAULTS if now < began + seconds / 2 or kind not in KILLING])
            next_fault = time.monotonic() + float(faults.uniform(0.5, 1.5)) * EVERY
        watching.sample()
        time.sleep(0.3)
    for left in inbox.growing:
        inbox.put(*left)
    settle(inbox, watching)
    await_selection(watching)
    watching.end()
    return inbox, watching


def settle(inbox: Inbox, watching: Watching, patience: float = 300.0) -> None:
    """Wait until the ledger has what lies in the inbox, or has not grown for so long."""
    wanted, had, deadline = {video_id(data) for data in inbox.now.values()}, -1, time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, LookupError):
            found = set(PatchStore(str(watching.store)).ledger()["video_id"].to_pylist())
            if wanted <= found:
                return
            if len(found) > had:
                had, deadline = len(found), time.monotonic() + patience
        watching.sample()
        time.sleep(1)


def await_selection(watching: Watching, patience: float = 300.0) -> None:
    """Wait until the selection that is kept current is of all patches that the ledger tells of."""
    (mine,), deadline = selections.each(config_of(watching.folder, watching.store)), time.monotonic() + patience
    while time.monotonic() < deadline:
        last = max(PatchStore(str(watching.store)).ledger()["patches_version"].to_pylist())
        if selections.made_from(mine) >= last:
            return
        watching.sample()
        time.sleep(1)
