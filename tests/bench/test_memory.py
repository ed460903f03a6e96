"""Memory of an ingest of 10 clips and of 100: of one process, and of all processes of a local Ray cluster together.

Of the processes of Ray the proportional set size is summed, in which a page that several share counts once, four times a second.
BENCH_SCALE=0.3 takes 3 and 30.
"""

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine import mae, simulate
from jobs.recipes import tiny
from tests.bench import rows

ROOT = Path(__file__).resolve().parents[2]
INGEST = """
import sys
from jobs.__main__ import main
assert main(sys.argv[1:]) == 0
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def ingest(folder, count, where):
    """(MB of the process, MB of it and all its descendants) that the ingest of `count` clips takes at most."""
    simulate.write_clips(folder / "videos", folder / "truth", count, seconds=4.0, size=(240, 280))
    mae.save(mae.MAE(tiny().difficulty.mae), str(folder / "scorer"))
    places = [f"videos.uri={folder}/videos", f"store.uri={folder}/store", f"difficulty.checkpoint={folder}/scorer"]
    knobs = [f"where={where}", "patches.proposer=crops", "videos.batch=2", "frames.every_s=0.2", *places]
    process = subprocess.Popen([sys.executable, "-c", INGEST, "ingest", "tiny", *knobs], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    sums, done = [], threading.Event()
    watching = threading.Thread(target=lambda: [sums.append(proportional(process.pid)) for _ in iter(lambda: done.wait(0.25), True)])
    watching.start()
    told, _ = process.communicate()
    done.set()
    watching.join()
    assert process.returncode == 0
    return int(told.split()[-1]) / 1024, max(sums)


def proportional(root):
    """MB of a process and its descendants; those that end meanwhile count nothing."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    family, found = {root}, 0
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    for process in family:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return found / 1024


@pytest.mark.bench
@pytest.mark.timeout(0)
@pytest.mark.parametrize("where", ["here", "ray"])
def test_memory_of_an_ingest(tmp_path, where):
    counts = [max(1, int(10 * rows.SCALE)), max(2, int(100 * rows.SCALE))]
    rows.room_for(1.0, tmp_path)
    found = [ingest(tmp_path / str(count), count, where) for count in counts]
    for name, peaks in zip(("the process", "all processes"), zip(*found, strict=True), strict=True):
        few, many = peaks
        growth = f"{100 * (many / few - 1):+.0f} %"
        print(f"\nwhere={where}, {name}: {few:,.0f} MB for {counts[0]} clips, {many:,.0f} MB for {counts[1]}, {growth}; {rows.load()}")
