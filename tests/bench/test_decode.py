"""Decode and gate beside a bare loop of PyAV over the same file: frames of the video a second, ours over the bare loop's.

The bare loop decodes every frame and turns one a second into an array; ours samples as many, cuts, looks for text, blacks out, scales and
measures. One processor for both. Simulated video, and real clips of ../shared/data where they are there, joined into some minutes:
a hospital's files are long, and what a file costs once is not what is asked here. BENCH_SCALE=0.3 takes shorter files, one pair each.
"""

import os
import statistics
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest

from engine import schema, simulate
from engine.config import FramesConfig
from engine.frames import DecodeFrames

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
ROUNDS = max(1, round(5 * SCALE))
DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "video"
REAL = {"colonoscopy_polyp1.mp4": 40, "autolaparo_up1.mp4": 12}  # how often, for about 300 and 120 s


def joined(source, target, times):
    """A video again and again, its packets as they are."""
    with av.open(str(source)) as first, av.open(str(target), "w") as made:
        stream, shift = made.add_stream_from_template(first.streams.video[0]), 0
        for _ in range(max(1, round(times * SCALE))):
            with av.open(str(source)) as again:
                packets = [packet for packet in again.demux(again.streams.video[0]) if packet.dts is not None]
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    made.mux(packet)
            shift = max(packet.pts + packet.duration for packet in packets)
    return target


def bare(path):
    """Frames a second of the video."""
    began, count, due = time.perf_counter(), 0, 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            count += 1
            if frame.time >= due:
                frame.to_ndarray(format="rgb24")
                due += 1
    return count, time.perf_counter() - began


def ours(stage, path):
    row = {"video_id": "v", "uri": str(path), "size": 1, "modified": "", "reason": None, "detail": None}
    began = time.perf_counter()
    sampled = sum(map(len, stage(pa.Table.from_pylist([row], schema.VIDEO)))) - 1
    return sampled, time.perf_counter() - began


@pytest.fixture
def one_processor():
    allowed, threads = os.sched_getaffinity(0), cv2.getNumThreads()
    os.sched_setaffinity(0, {min(allowed)})
    cv2.setNumThreads(1)
    yield
    os.sched_setaffinity(0, allowed)
    cv2.setNumThreads(threads)


@pytest.mark.bench
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["simulated", *REAL])
def test_decode_and_gate_beside_a_bare_loop(tmp_path, one_processor, name):
    if name == "simulated":
        simulate.write_clips(tmp_path / "videos", tmp_path / "truth", 1, seconds=20.0, size=(480, 560))
        path = joined(next((tmp_path / "videos").iterdir()), tmp_path / "long.mp4", 15)
    elif DATA.is_dir():
        path = joined(DATA / name, tmp_path / "long.mp4", REAL[name])
    else:
        pytest.skip("needs ../shared/data")
    stage, ratios = DecodeFrames(FramesConfig()), []
    stage.find_text(np.zeros((480, 560, 3), np.uint8), None)  # the first pass of a network takes longer
    for _ in range(ROUNDS):
        (count, alone), (sampled, took) = bare(path), ours(stage, path)
        ratios.append(alone / took)
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"\n{name}: {statistics.median(ratios):.2f} (of {told}); {count} frames, {sampled} sampled, {count / took:.0f} a second")
