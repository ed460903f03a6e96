from collections import Counter

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import pictures, synthesis
from engine.config import SelectionConfig, SynthesisConfig
from engine.selection import choose
from tests.test_selection import table

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]


def patches(count=4, side=(60, 80), frame=(120, 160)):
    rows = []
    for i in range(count):
        flat = np.full((*side, 3), COLOURS[i % 4], np.uint8)
        size = {"frame_height": frame[0], "frame_width": frame[1], "height": side[0], "width": side[1]}
        rows.append({"patch_id": f"p{i}", "proposer": "crops", **size, "pixels": pictures.encode(flat, 95)})
    return pa.Table.from_pylist(rows, synthesis.READ)


def test_a_choice_by_rded_in_order_of_rank_is_grouped_as_rded_deals_out():
    """RDED (utils.py): of n images the j-th gets the patches j, j + n, j + 2n, ... of those by realism."""
    columns = table(np.arange(64), frames=64)
    ids = choose(columns, SelectionConfig(method="rded", budget=64, unit="patches")).patch_ids
    easiest = [f"p{row:04d}" for row in range(64)]
    images = np.reshape(synthesis.ordered(ids, SynthesisConfig()), (16, 4)).tolist()
    assert images == [easiest[j::16] for j in range(16)]


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


# -- which patches share an image -----------------------------------------------------------------------------------------------------

ORDERS = ("rank", "random", "diverse", "spread")


@st.composite
def rankings(draw):
    """Settings, and ids that make whole images, in an order of choice."""
    each = draw(st.sampled_from([1, 4, 9]))
    videos = [draw(st.integers(0, 4)) for _ in range(each * draw(st.integers(0, 8)))]
    ids = [f"{'abcde'[video]}@{17 * place}:0,0,9,{place}:crops-0" for place, video in enumerate(videos)]
    config = SynthesisConfig(patches=each, order=draw(st.sampled_from(ORDERS)), seed=draw(st.integers(0, 3)))
    return config, draw(st.permutations(ids))


@settings(deadline=None)
@given(rankings())
def test_every_chosen_patch_is_in_exactly_one_image_and_all_stand_in_order_of_choice(asked):
    config, ranked = asked
    ids = synthesis.ordered(ranked, config)
    assert sorted(ids) == sorted(ranked)
    ranks = [[ranked.index(patch_id) for patch_id in group] for group in synthesis.groups(ids, config.patches)]
    assert all(group == sorted(group) for group in ranks)
    assert [group[0] for group in ranks] == sorted(group[0] for group in ranks)


@settings(deadline=None)
@given(rankings())
def test_consecutive_and_spread_images_are_those_of_their_papers(asked):
    config, ranked = asked
    images = len(ranked) // config.patches
    consecutive = synthesis.ordered(ranked, config.model_copy(update={"order": "rank"}))
    assert consecutive == ranked
    apart = synthesis.ordered(ranked, config.model_copy(update={"order": "spread"}))
    assert apart == [ranked[first + images * step] for first in range(images) for step in range(config.patches)]


@settings(deadline=None)
@given(rankings())
def test_diverse_images_hold_as_few_patches_of_one_video_as_can_be(asked):
    config, ranked = asked
    ids = synthesis.ordered(ranked, config.model_copy(update={"order": "diverse"}))
    images = list(synthesis.groups(ids, config.patches))
    for video, count in Counter(patch_id[0] for patch_id in ranked).items():
        assert max(sum(patch_id[0] == video for patch_id in image) for image in images) == -(-count // len(images))


def test_diverse_images_hold_moments_far_apart_whose_times_are_numbers():
    times = (0, 200, 9, 80, 1000, 30, 7, 5000)
    ids = synthesis.ordered([f"v@{time}:0:c" for time in times], SynthesisConfig(order="diverse"))
    assert [int(patch_id[2:-4]) for patch_id in ids] == [0, 9, 80, 1000, 200, 30, 7, 5000]


def test_who_shares_an_image_at_random_follows_from_seed_and_ids_alone():
    ids = [f"p{i}" for i in range(40)]
    groups = [
        {frozenset(group) for group in synthesis.groups(synthesis.ordered(ranked, SynthesisConfig(order="random", seed=seed)), 4)}
        for ranked, seed in ((ids, 0), (ids[::-1], 0), (ids, 1))
    ]
    assert groups[0] == groups[1]
    assert not groups[0] & groups[2]


# -- how they are laid out ------------------------------------------------------------------------------------------------------------


def test_nine_patches_stand_in_reading_order_and_one_fills_the_image():
    nine = [np.full((20, 20, 3), 20 * i, np.uint8) for i in range(9)]
    image = synthesis.compose(nine, 31, 47)
    assert [int(image[y, x, 0]) for y in (4, 15, 26) for x in (7, 23, 40)] == [20 * i for i in range(9)]
    assert {int(n) for n in np.unique(image)} == {20 * i for i in range(9)}
    np.testing.assert_array_equal(synthesis.compose([nine[3]], 31, 47), np.full((31, 47, 3), 60))


@settings(deadline=None, max_examples=60)
@given(*[st.integers(1, 60)] * 4)
def test_padding_keeps_the_aspect_and_takes_no_more_than_it_must(height, width, tall, wide):
    padded = synthesis.contain(np.full((height, width, 3), 255, np.uint8), tall, wide)
    assert padded.shape == (tall, wide, 3)
    rows, columns = np.flatnonzero(padded[:, :, 0].any(1)), np.flatnonzero(padded[:, :, 0].any(0))
    assert np.all(padded[np.ix_(rows, columns)] == 255)
    assert set(np.unique(padded)) <= {0, 255}
    if tall * width <= wide * height:  # whole numbers decide which side is tight, fractions how long the other is
        assert (len(rows), abs(2 * len(columns) * height - 2 * width * tall) <= height or len(columns) == 1) == (tall, True)
    else:
        assert (len(columns), abs(2 * len(rows) * width - 2 * height * wide) <= width or len(rows) == 1) == (wide, True)
    for found, length in ((rows, tall), (columns, wide)):
        assert 0 <= (length - 1 - found[-1]) - found[0] <= 1


def test_a_whole_frame_alone_passes_through_byte_for_byte():
    jpeg = pictures.encode(np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8), 60)
    row = {"patch_id": "f", "frame_height": 66, "frame_width": 94, "height": 33, "width": 47, "pixels": jpeg}
    alone = SynthesisConfig(patches=1)
    made = synthesis.synthesise(pa.Table.from_pylist([row | {"proposer": "frame"}], synthesis.READ), ["f"], "s", 0, alone).to_pylist()[0]
    assert (made["pixels"], made["height"], made["width"], made["bytes"]) == (jpeg, 33, 47, len(jpeg))
    patch = synthesis.image_row([row | {"proposer": "crops"}], alone)
    assert patch["pixels"] != jpeg
    assert pictures.decode(patch["pixels"]).shape == (66, 94, 3)


@settings(deadline=None)
@given(rankings(), st.sampled_from(["crop", "pad"]), st.integers(1, 100))
def test_an_image_keeps_its_settings_whatever_they_are(asked, fill, quality):
    config = asked[0].model_copy(update={"fill": fill, "quality": quality})
    assert synthesis.settings(synthesis.layout(config)) == config


def test_other_settings_make_another_selection_and_other_images_and_the_papers_leave_no_mark():
    assert synthesis.layout(SynthesisConfig()) == ""
    assert synthesis.named("s", SynthesisConfig()) == "s"
    rows = patches().to_pylist()
    settings_of_one = [SynthesisConfig(), SynthesisConfig(quality=90), SynthesisConfig(fill="pad"), SynthesisConfig(order="spread")]
    assert len({synthesis.named("s", config) for config in settings_of_one}) == 4
    assert len({synthesis.image_row(rows, config)["image_id"] for config in settings_of_one}) == 4


def test_a_number_of_patches_that_makes_no_square_is_refused():
    with pytest.raises(ValueError, match="patches=5 must be 1, 4 or 9"):
        SynthesisConfig(patches=5)
