"""Patches for scorers, and what holds of every scorer: a score belongs to its patch alone, to the bit."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from engine import pictures, schema


def noise(seed, height=40, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def row(name, image):
    """A row of schema.PATCH; `image` is a picture, its JPEG, or None."""
    pixels = image if isinstance(image, bytes) or image is None else pictures.encode(image, 95)
    blank = dict.fromkeys(schema.PATCH.names) | {"video_id": "v", "time_base": "1/1000"}
    return blank | {"frame_id": "v@0", "patch_id": name, "box": [0, 0, 40, 30], "pixels": pixels}


def table(rows):
    return pa.Table.from_pylist(rows, schema.PATCH)


def bits(out):
    """patch_id -> the score's bytes."""
    rows = out.select(["patch_id", "difficulty", "embedding"]).to_pylist()
    return {r["patch_id"]: (np.float32(r["difficulty"]).tobytes(), np.array(r["embedding"], np.float16).tobytes()) for r in rows}


ROWS = [row(f"v@{i}:0,0,40,30:crops-0", noise(i, 20 + 7 * i, 50 - 4 * i)) for i in range(7)]


class BelongsToItsPatch:
    """To be taken up by a class of tests that says what is `scored`: the rows of schema.SCORED of a model and rows."""

    @pytest.fixture(scope="class")
    def alone(self, model):
        return {name: score for one in ROWS for name, score in bits(self.scored(model, [one])).items()}

    @pytest.mark.parametrize("seed", range(2))
    def test_in_any_order_it_is_the_same_to_the_bit(self, model, alone, seed):
        order = np.random.default_rng(seed).permutation(len(ROWS))
        assert bits(self.scored(model, [ROWS[i] for i in order])) == alone

    @pytest.mark.parametrize("size", [2, 5])
    def test_in_any_table_it_is_the_same_to_the_bit(self, model, alone, size):
        parts = [ROWS[start : start + size] for start in range(0, len(ROWS), size)]
        assert {name: score for part in parts for name, score in bits(self.scored(model, part)).items()} == alone

    def test_with_two_threads_it_is_the_same_to_the_bit(self, model, alone):
        before = torch.get_num_threads()
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                assert bits(self.scored(model, ROWS)) == alone
        finally:
            torch.set_num_threads(before)
