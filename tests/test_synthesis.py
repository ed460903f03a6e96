import cv2
import numpy as np
import pyarrow as pa
import pytest

from engine import pictures, synthesis
from engine.config import SynthesisConfig

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]


def patches(count=4, side=(60, 80), frame=(120, 160)):
    rows = []
    for i in range(count):
        flat = np.full((*side, 3), COLOURS[i % 4], np.uint8)
        rows.append({"patch_id": f"p{i}", "frame_height": frame[0], "frame_width": frame[1], "pixels": pictures.encode(flat, 95)})
    return pa.Table.from_pylist(rows, synthesis.READ)


def test_four_patches_stand_in_reading_order_at_the_resolution_of_the_hardest_ones_frame():
    made = synthesis.synthesise(patches(), ["p2", "p0", "p3", "p1"], "s", 7, SynthesisConfig()).to_pylist()
    assert [(row["position"], row["patch_ids"], row["height"], row["width"]) for row in made] == [(7, ["p2", "p0", "p3", "p1"], 120, 160)]
    image = pictures.decode(made[0]["pixels"]).astype(int)
    for (y, x), index in zip([(30, 40), (30, 120), (90, 40), (90, 120)], [2, 0, 3, 1], strict=True):
        assert np.abs(image[y, x] - COLOURS[index]).max() <= 6


def test_every_quadrant_is_what_opencv_makes_of_its_patch():
    rng = np.random.default_rng(0)
    smooth = [cv2.GaussianBlur(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), (9, 9), 3) for _ in range(4)]
    image = synthesis.compose(smooth, 64, 64)
    for patch, (y, x) in zip(smooth, [(0, 0), (0, 32), (32, 0), (32, 32)], strict=True):
        np.testing.assert_array_equal(image[y : y + 32, x : x + 32], cv2.resize(patch, (32, 32), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("frame", [(121, 161), (2, 3), (480, 640), (99, 400)])
@pytest.mark.parametrize("side", [(17, 90), (90, 17), (33, 33)])
def test_odd_sizes_are_covered_without_a_gap(frame, side):
    image = synthesis.compose([np.full((*side, 3), 255, np.uint8)] * 4, *frame)
    assert image.shape == (*frame, 3)
    assert image.min() == 255


def test_nothing_is_stretched():
    disc = np.zeros((100, 200, 3), np.uint8)
    cv2.circle(disc, (100, 50), 40, (255, 255, 255), -1)
    quadrant = synthesis.cover(disc, 50, 50)[:, :, 0] > 127
    assert abs(int(quadrant.any(0).sum()) - int(quadrant.any(1).sum())) <= 1


def test_the_same_patches_give_the_same_bytes_and_id():
    one, other = (synthesis.synthesise(patches(), ["p0", "p1", "p2", "p3"], "s", 0, SynthesisConfig()) for _ in range(2))
    assert one.equals(other)


def test_a_number_of_patches_that_does_not_come_out_even_is_refused():
    with pytest.raises(ValueError, match="5 patches do not make whole images of 4"):
        synthesis.synthesise(patches(5), [f"p{i}" for i in range(5)], "s", 0, SynthesisConfig())
