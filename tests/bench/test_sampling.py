"""One frame a second from video: ours against decoding everything with OpenCV and keeping every n-th frame, side by side."""

import statistics
import time

import cv2
import pytest

from engine import simulate
from engine.config import FramesConfig
from engine.decode import sampled

PAIRS = 5


def ours(path):
    with path.open("rb") as file:
        return sum(1 for _ in sampled(file, FramesConfig()))


def opencv(path):
    video, kept, number = cv2.VideoCapture(str(path)), 0, 0
    while (read := video.read())[0]:
        kept += number % 25 == 0 and cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB) is not None
        number += 1
    return kept


def seconds(work, path):
    began = time.perf_counter()
    work(path)
    return time.perf_counter() - began


@pytest.mark.bench
def test_sampling_one_frame_a_second(tmp_path):
    clip = tmp_path / "clip.mp4"
    simulate.write_clip(clip, 0, seconds=24.0)
    assert ours(clip) == opencv(clip)
    ratios = [seconds(ours, clip) / seconds(opencv, clip) for _ in range(PAIRS)]
    spread = f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    print(f"\nsampling 24 s of 480x560 H.264, time against OpenCV: {spread}")
