"""Promise 4: peak memory does not grow with the number of videos."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine import mae, simulate
from jobs.recipes import tiny

ROOT = Path(__file__).resolve().parent.parent
INGEST = """
import resource, sys
from jobs.__main__ import main
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_of_ingest(folder, count):
    """MB that the ingest of `count` clips takes in one process."""
    simulate.write_clips(folder / "videos", folder / "truth", count, seconds=4.0, size=(240, 280))
    mae.save(mae.MAE(tiny().difficulty.mae), str(folder / "scorer"))
    places = [f"videos.uri={folder}/videos", f"store.uri={folder}/store", f"difficulty.checkpoint={folder}/scorer"]
    knobs = ["where=here", "patches.proposer=crops", "videos.batch=2", "frames.every_s=0.2", *places]
    command = [sys.executable, "-c", INGEST, "ingest", "tiny", *knobs]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_ten_times_as_many_videos_take_no_more_memory(tmp_path):
    few, many = peak_of_ingest(tmp_path / "few", 3), peak_of_ingest(tmp_path / "many", 30)
    print(f"{few} MB for 3 videos, {many} MB for 30")
    assert many < few + 100
