"""What a patch shows, against its definition written out pixel by pixel."""

import colorsys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine import appearance, gate, pictures, schema

MUCOSA, METAL, GREEN, WHITE, DARK = (180, 90, 60), (150, 150, 155), (40, 200, 60), (255, 255, 255), (9, 7, 5)


def by_definition(picture):
    """variance, black, glare and foreign in plain Python."""
    pixels = [tuple(int(channel) for channel in pixel) for row in picture for pixel in row]
    black = sum(max(pixel) < 4 for pixel in pixels)
    blown = sum(sorted(pixel)[1] >= 240 for pixel in pixels)
    others = [pixel for pixel in pixels if max(pixel) >= 30 and sorted(pixel)[1] < 240]
    constants = picture.reshape(-1, 3).mean(0)
    error = (((picture.reshape(-1, 3) - constants) / 255 / [0.229, 0.224, 0.225]) ** 2).mean()
    foreign = sum(not reddish(pixel) for pixel in others) / len(others) if others else 0.0
    return error, black / len(pixels), blown / len(pixels), foreign


def reddish(pixel):
    """Red to yellow, 50 degrees to 30 on the other side, and of a saturation of 100 at least, as OpenCV counts them in 8 bits."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
    return (hue * 180 < 25.5 or hue * 180 >= 164.5) and saturation * 255 >= 99.5 and value * 255 >= 30


def flat(*colours, side=8):
    return np.concatenate([np.full((side, side, 3), colour, np.uint8) for colour in colours], axis=1)


@settings(deadline=None)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
        elements=st.sampled_from([0, 3, 4, 16, 29, 30, 120, 239, 240, 255]),
    )
)
def test_the_numbers_are_those_of_the_definition(picture):
    assert appearance.measure(picture) == pytest.approx(by_definition(picture), abs=1e-9)


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ([MUCOSA], (0, 0, 0)),
        ([MUCOSA, (0, 0, 0)], (0.5, 0, 0)),
        ([MUCOSA, WHITE], (0, 0.5, 0)),
        ([MUCOSA, METAL], (0, 0, 0.5)),
        ([MUCOSA, GREEN, GREEN, MUCOSA], (0, 0, 0.5)),
        ([WHITE, MUCOSA, (0, 0, 0), METAL], (0.25, 0.25, 0.5)),
        ([(0, 0, 0)], (1, 0, 0)),
        ([MUCOSA, DARK], (0, 0, 0)),
    ],
    ids=["mucosa", "black", "glare", "metal", "inset", "all", "nothing else", "the dark of the lumen"],
)
def test_what_is_no_mucosa_is_told_by_its_kind(colours, expected):
    assert appearance.measure(flat(*colours))[1:] == expected


def test_a_hidden_corner_is_black_in_the_jpeg_too_and_a_dark_lumen_is_not():
    rng = np.random.default_rng(0)
    dark = rng.integers(6, 20, (96, 96, 1)) + np.array([3, 1, 0])
    for hidden in (0, 12):
        picture = dark.astype(np.uint8)
        picture[:hidden, :hidden] = 0
        stored = pictures.decode(pictures.encode(picture, 90))
        assert appearance.measure(stored)[1] == pytest.approx((hidden / 96) ** 2, rel=0.3, abs=0.002)


def test_a_small_corner_hidden_in_bright_tissue_is_told_in_spite_of_the_ringing_around_it():
    picture = flat(MUCOSA, side=128) + np.random.default_rng(0).integers(-9, 9, (128, 128, 3))
    picture[:14, :14] = 0
    assert appearance.measure(pictures.decode(pictures.encode(picture.astype(np.uint8), 95)))[1] > appearance.LIMITS["black"]


def test_the_variance_is_the_error_of_the_best_constant_picture():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    normal = (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    errors = [((normal - normal.mean((0, 1)) - shift) ** 2).mean() for shift in (0.0, 0.01, -0.01)]
    assert appearance.measure(picture)[0] == pytest.approx(errors[0], rel=1e-9)
    assert errors[0] == min(errors)
    assert appearance.measure(flat(MUCOSA))[0] == 0


@settings(deadline=None)
@given(arrays(np.uint8, (6, 7, 3)))
def test_the_middle_channel_is_the_median(picture):
    assert (gate.blown(picture) == (np.median(picture, axis=2) >= gate.BLOWN)).all()


def test_as_a_column_it_is_null_where_nothing_was_seen():
    measured = [appearance.measure(pictures.decode(pictures.encode(flat(colour), 95))) for colour in (MUCOSA, METAL)]
    numbers = np.zeros((3, 4), np.float32)
    numbers[[0, 2]] = appearance.rows(measured)
    made = appearance.column(numbers, np.array([False, True, False]))
    assert made.type == schema.SEEN.type
    assert made.is_valid().to_pylist() == [True, False, True]
    assert [row and row["foreign"] for row in made.to_pylist()] == [0, None, 1]
    assert len(pa.RecordBatch.from_struct_array(appearance.column(appearance.rows([])))) == 0
