"""What a batch of `watch` costs: with models kept and loaded anew, into small stores and large ones, and how soon rows are there.

Side by side in one run; a ratio is the median of those of pairs. Clips are simulated, scorers have random weights.
"""

import functools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from engine import flow, mae, schema, simulate, videos
from engine.inbox import Waiting
from engine.knobs import amend
from engine.listing import key_of
from engine.pool import Pool
from engine.store import PatchStore, WriteRows
from engine.store.lock import locked
from jobs import after, ingest, judging, probe, rescore
from jobs import alike as neighbour
from jobs import watcher as watching
from jobs.line import Past
from jobs.recipes import tiny
from jobs.setbacks import Attempt
from jobs.watcher import Watcher
from tests.bench import rows
from tests.test_watcher import Line

ROOT = Path(__file__).resolve().parents[2]
WIDTH = probe.width(tiny())
PER_VIDEO = 100  # patches: little, so that the ledger is long
TURNS = 7
FLAT = 1.2  # times what it takes into the smallest store
CLIP_S = 4.0  # seconds: four frames looked at, of which most are kept; a real video has thousands, beside which what follows is less
STORES = {"10": 10, "1,000": 1000, "50,000": 50_000, "1,000,000": int(1_000_000 * rows.SCALE)}  # patches


def small_clips(folder, count):
    folder.mkdir(parents=True)
    for seed in range(count):
        simulate.write_clip(folder / f"{seed}.mp4", seed, seconds=CLIP_S, fps=5, height=160, width=192)


def config_of(folder, *knobs):
    mae.save(mae.MAE(tiny().difficulty.mae), str(folder / "scorer"))
    return amend(
        tiny(), [f"difficulty.checkpoint={folder}/scorer", f"store.uri={folder}/store", f"videos.uri={folder}/inbox", "where=here", *knobs]
    )


# -- models -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_a_batch_of_one_small_clip_with_models_kept_and_loaded_anew(tmp_path):
    """By turns into one store; the recipe tiny, with LiteMedSAM."""
    small_clips(tmp_path / "inbox", 2 * TURNS + 2)
    config = config_of(tmp_path)
    store = ingest.opened(config)
    sources, kept = videos.find(config.videos.uri), flow.Workbench(lambda stage, frames: None)
    work, found = ingest.steps(config, store), {"anew": [], "kept": []}
    for number in range(len(sources)):
        name, execute = ("anew", flow.run_here) if number % 2 else ("kept", kept)
        began = time.perf_counter()
        made = list(ingest.batches(config, store, sources.slice(number, 1), work, ingest.Progress(1), execute))
        found[name].append(time.perf_counter() - began)
        (row,) = pa.concat_tables(made).to_pylist()
        assert (row["reason"], row["patches"] > 0) == (None, True)  # of a clip without any nothing is scored
    anew, again = found["anew"][1:], found["kept"][1:]  # without the first of each, which imports
    ratio = statistics.median(one / other for one, other in zip(again, anew, strict=True))
    print(f"\na batch of one clip of {CLIP_S:g} s, {rows.load()}: loaded anew {statistics.median(anew):.2f} s, ", end="")
    print(f"kept {statistics.median(again):.2f} s, ratio {ratio:.2f} (median of {len(anew)} pairs)")


# -- the size of the store ----------------------------------------------------------------------------------------------------------


class Taking(Watcher):
    """A watcher that takes in what it is given; with `bare`, rows come from nowhere, with `alone` nothing follows.

    With `alike` all new videos have the same rows, so that every look of drift is an alarm; else they are drawn as those of a store are.
    """

    def __init__(self, config, bare, alone, alike=True):
        self.alike, self.made = alike, 1
        store = PatchStore(config.store.uri)
        record = SimpleNamespace(log=lambda *given, **named: None)
        super().__init__(config, store, ingest.steps(config, store), Line(), Past(), record)
        self.parts = {name: [] for name in [*after.STEPS, *after.DUE, "standing"]}
        if bare:
            self.execute = self.bare
        if alone:
            self.followers.clear()

    def bare(self, steps, table):
        if steps[-1].stage is not WriteRows:
            yield from flow.run_here(steps, table)
            return
        writer = WriteRows(*steps[-1].arguments)
        for name in table["video_id"].to_pylist():
            self.made += not self.alike
            yield from writer(renamed(name, self.made, mark_of(self.config)))

    def seconds(self, sources):
        """What it takes to take these in, from the first word on disk to the last: by the clock, and of processors."""
        now = time.monotonic()
        batch = [Waiting(row, key_of(row), now, now, now, 1) for row in sources.to_pylist()]
        for number in range(len(batch) + 1):
            template(self.made + number, mark_of(self.config))  # which is no work of a watcher
        self.inbox.waiting = {one.row["uri"]: one for one in batch}
        with locked(self.store, "watch") as lease:  # its own, as a watcher holds one
            began, used = time.perf_counter(), time.process_time()
            self.take_in(batch, lease)
            took = time.perf_counter() - began, time.process_time() - used
        assert not self.inbox.waiting
        assert not self.after.aside.is_busy  # the rows are by the scorer of now, and nothing is trained
        return took


def ratios(found, name, which):
    """Those of a store's turns to the smallest's, by pairs, without the first turn."""
    return statistics.median(one[which] / other[which] for one, other in zip(found[name][1:], found["10"][1:], strict=True))


def timed(parts):
    """An attempt at a step, whose seconds are kept by its name."""

    class Timed(Attempt):
        def __enter__(self):
            self.began = time.perf_counter()
            super().__enter__()

        def __exit__(self, *how):
            parts[self.step].append(time.perf_counter() - self.began)
            return super().__exit__(*how)

    return Timed


@functools.cache
def template(number, mark):
    return marked(rows.scored(number, 1, PER_VIDEO, WIDTH, False), mark)


def marked(table, mark):
    """Rows as if a scorer had made them that patches call so; else each batch would begin to score all anew."""
    column = pa.array([None if one is None else mark for one in table["scorer"].to_pylist()], pa.string())
    return table.set_column(table.schema.get_field_index("scorer"), table.schema.field("scorer"), column)


def mark_of(config):
    return rescore.name_of(config.difficulty).rpartition("-")[2]


def renamed(name, number, mark):
    """The rows of a video of PER_VIDEO patches, the one of this number, under another id."""
    table = template(number, mark)
    for column in ("video_id", "frame_id", "patch_id"):
        place = table.schema.get_field_index(column)
        whole = [value and value.replace(rows.video_id(number), name) for value in table[column].to_pylist()]
        table = table.set_column(place, table.schema.field(column), pa.array(whole, pa.string()))
    per_frame = [None if row["frame_id"] is None else rows.PER_FRAME for row in table.select(["frame_id"]).to_pylist()]
    per_frame[-1] = PER_VIDEO // rows.PER_FRAME
    return table.set_column(table.schema.get_field_index("expected"), schema.EXPECTED, pa.array(per_frame, pa.int32()))


def filled_store(uri, patches, mark):
    """Of videos that were taken in many at a time, on an earlier day."""
    store = PatchStore(uri)
    store.create(WIDTH)
    each = min(patches, PER_VIDEO)
    count = patches // each
    for first in range(0, count, 500):
        some = min(500, count - first)
        table = marked(rows.scored(10**6 + first, some, each, WIDTH, False), mark)
        store.commit(pa.concat_tables(WriteRows(uri)(table)), rows.sources(10**6 + first, some), rows.STAMP)


@pytest.mark.bench
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("bare", "alone"),
    [(True, True), (True, False), (False, True), (False, False)],
    ids=["bookkeeping alone", "and what follows", "decoding, and nothing follows", "decoding, and what follows"],
)
def test_ten_new_videos_into_stores_of_several_sizes(tmp_path, bare, alone, monkeypatch):
    """Selections are left out: rows without pixels make no images.

    Flat within 20 % by processors' time, which others on the machine disturb less; what follows alone is not, and is not said to be.
    """
    rows.room_for(1.5 * rows.SCALE, tmp_path)
    sources, watchers = clips_or_bytes(tmp_path / "clips", bare), {}
    for name, patches in STORES.items():
        folder = tmp_path / name.replace(",", "")
        folder.mkdir()
        config = config_of(folder, "patches.proposer=crops", "patches.per_frame=2", "videos.batch=10")
        filled_store(str(folder / "store"), patches, mark_of(config))
        watchers[name] = Taking(config, bare, alone)
        if not alone:
            cluster(config, watchers[name].store)
    found = {name: [] for name in STORES}
    for turn in range(TURNS + 1):
        for place, (name, watcher) in enumerate(watchers.items()):
            for module in (after, watching):
                monkeypatch.setattr(module, "Attempt", timed(watcher.parts))
            found[name].append(watcher.seconds(sources.slice(10 * (len(STORES) * turn + place), 10)))
    how = f"{'nothing decoded, ' * bare}{'nothing follows, ' * alone}{rows.load()}, {TURNS} turns"
    print(f"\n10 new videos into a store of so many patches, {how}:")
    for name, took in found.items():
        wall, used = (statistics.median(column) for column in zip(*took[1:], strict=True))
        print(f"{name:>12} patches {wall:8.3f} s   {ratios(found, name, 0):.2f} of the smallest   worst {max(took[1:])[0]:8.3f} s", end="")
        print(f"   processors {used:8.3f} s   {ratios(found, name, 1):.2f}")
        parts = {part: statistics.median(seconds[1:]) for part, seconds in watchers[name].parts.items() if seconds[1:]}
        print(f"{'':>12} {', '.join(f'{part} {seconds:.3f}' for part, seconds in parts.items())}")
    if alone or not bare:
        assert all(ratios(found, name, 1) <= FLAT for name in STORES)


def clips_or_bytes(inbox, bare):
    """Sources enough for all turns; where nothing is decoded, files that are told apart and no more."""
    count = 10 * (TURNS + 1) * len(STORES)
    if not bare:
        small_clips(inbox, count)
        return videos.find(str(inbox))
    inbox.mkdir()
    for number in range(count):
        (inbox / f"{number}.mp4").write_bytes(f"video {number}".encode())
    return videos.find(str(inbox))


def cluster(config, store):
    """Have clusters, by which near-duplicates are told and drift is measured, as after a choice; and all that is there told."""
    version = store.complete_version()
    judging.kinds(store, Pool(store.patches(["patch_id"], version=version), store.vectors(version)), version)
    neighbour.run(config)


# -- from arrival to rows -------------------------------------------------------------------------------------------------------------

ARRIVING, APART = 40, 4.0  # clips, and seconds between two on average
LOOP = """
import subprocess, sys, time
while True:
    subprocess.run([sys.executable, "-m", "jobs", "ingest", *sys.argv[1:]], check=False, stderr=subprocess.DEVNULL)
    time.sleep(1)
"""
PROMPT = ["watch.look_s=1", "watch.settle_s=1", "watch.batch_s=0"]  # the loop takes what it finds, at rest or not


@pytest.mark.bench
@pytest.mark.timeout(0)
def test_seconds_from_arrival_to_rows_beside_a_loop_that_calls_ingest(tmp_path):
    """One after the other, the same clips at the same moments; a row is there when the ledger has it."""
    small_clips(tmp_path / "clips", ARRIVING)
    print(f"\n{ARRIVING} clips of {CLIP_S:g} s, one every {APART:g} s on average; {rows.load()}; seconds from arrival to rows: median, p99")
    for name, command in {"watch": ["-m", "jobs", "watch"], "a loop of ingest": ["-c", LOOP]}.items():
        folder = tmp_path / name.replace(" ", "-")
        (folder / "inbox").mkdir(parents=True)
        config_of(folder)
        knobs = [
            f"difficulty.checkpoint={folder}/scorer",
            f"store.uri={folder}/store",
            f"videos.uri={folder}/inbox",
            "patches.proposer=crops",
        ]
        words = [sys.executable, *command, "tiny", "where=here", "patches.proposer=crops", *knobs, *(PROMPT if name == "watch" else [])]
        with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            took = delays(tmp_path / "clips", folder)
            os.killpg(process.pid, signal.SIGKILL)
        assert sum(row["patches"] > 0 for row in PatchStore(f"{folder}/store").ledger().to_pylist()) > ARRIVING / 2
        print(f"{name:20}{statistics.median(took):8.1f} {np.percentile(took, 99):8.1f}")


def delays(clips, folder):
    """Seconds from the moment that each clip lies in the inbox to that at which the ledger has it, the first one not counted."""
    store, came, there = PatchStore(f"{folder}/store"), {}, {}
    rng, waiting, due = np.random.default_rng(0), sorted(clips.iterdir()), time.monotonic()
    while len(there) <= ARRIVING - 1:
        now = time.monotonic()
        if waiting and now >= due and (there or not came):  # the others once it runs
            path = waiting.pop()
            shutil.copy(path, folder / "inbox" / f".{path.name}")
            (folder / "inbox" / f".{path.name}").rename(folder / "inbox" / path.name)  # whole from the first moment on
            came[str(folder / "inbox" / path.name)] = now = time.monotonic()
            due = now + float(rng.exponential(APART))
        if store.has("videos"):
            for uri in store.open("videos").to_table(columns=["uri"])["uri"].to_pylist():
                there.setdefault(uri, time.monotonic())
        time.sleep(0.1)
    first = next(iter(came))
    return [there[uri] - then for uri, then in came.items() if uri != first]
