"""The endoscope's picture is found and everything around it and drawn over it is not."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.content import find_content, largest_rectangle, median, overlay_mask

DATA = Path(__file__).resolve().parent.parent / "../shared/data/seg"


def tissue(height, width, seed=0):
    """Mucosa-like: smooth red and yellow with a dark lumen and white spots of glare."""
    rng = np.random.default_rng(seed)
    rough = cv2.resize(
        rng.normal(0, 1, (height // 16 + 2, width // 16 + 2)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    image = np.array([200, 110, 85]) + 14 * rough[..., None] + rng.normal(0, 3, (height, width, 1))
    image = image.clip(60, 235).astype(np.uint8)
    cv2.circle(image, (int(width * 0.55), int(height * 0.5)), min(height, width) // 9, (25, 12, 10), -1)
    for y, x in rng.integers(0, [height, width], (12, 2)):
        cv2.circle(image, (int(x), int(y)), 3, (255, 250, 245), -1)
    return cv2.GaussianBlur(image, (0, 0), 1.2)


def on_panel(picture, mask, level):
    noise = np.random.default_rng(1).integers(-2, 3, picture.shape)
    panel = np.clip(level + noise, 0, 255).astype(np.uint8)
    return np.where(mask[..., None], picture, panel)


def shape(kind, height=360, width=480):
    mask = np.zeros((height, width), np.uint8)
    if kind == "round":
        cv2.circle(mask, (300, 180), 150, 1, -1)
    elif kind == "octagon":
        y, x = np.mgrid[:height, :width]
        mask[(np.abs(y - 180) < 160) & (np.abs(x - 300) < 160) & (np.abs(y - 180) + np.abs(x - 300) < 225)] = 1
    else:
        mask[40:320, 150:470] = 1
    return mask.astype(bool)


def inside(box, mask, height=360, width=480):
    """The found picture in the coordinates of the frame."""
    found = np.zeros((height, width), bool)
    found[box[0] : box[2], box[1] : box[3]] = mask
    return found


@pytest.mark.parametrize("level", [0, 16, 28, 253])
@pytest.mark.parametrize("kind", ["round", "octagon", "rectangle"])
def test_nothing_but_picture_is_kept_and_most_of_it(kind, level):
    truth = shape(kind)
    frame = on_panel(tissue(360, 480), truth, level)
    for line, y in enumerate((60, 80, 100)):
        cv2.putText(frame, f"DOE JOHN {line}", (5, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (230, 230, 230) if level < 99 else (9, 9, 9), 1)
    frame[250:300, 20:90] = tissue(50, 70, seed=5)  # a thumbnail on the panel
    box, mask = find_content([frame])
    found = inside(box, mask)
    assert not (found & ~truth).any()
    assert (found & truth).sum() >= 0.74 * truth.sum()


def test_a_round_picture_keeps_its_rim_and_a_rectangle_needs_no_mask():
    for kind, clean in (("round", False), ("rectangle", True)):
        _, mask = find_content([on_panel(tissue(360, 480), shape(kind), 16)])
        assert mask.all() == clean


def test_a_frame_without_a_panel_is_kept_whole():
    box, mask = find_content([tissue(300, 400, seed) for seed in range(5)])
    assert box == (0, 0, 300, 400)
    assert mask.all()


def test_a_lumen_at_the_rim_in_one_moment_does_not_hide_it_in_the_others():
    frames = [tissue(300, 400, seed) for seed in range(5)]
    frames[2][:200, :120] = 3
    assert find_content(frames)[0] == (0, 0, 300, 400)


def test_a_flash_does_not_open_the_panel():
    truth = shape("octagon")
    frames = [on_panel(tissue(360, 480, seed), truth, 0) for seed in range(8)]
    frames[3] = np.full_like(frames[3], 220)
    assert not (inside(*find_content(frames)) & ~truth).any()


def test_darkness_is_left_to_the_gate():
    box, mask = find_content([np.full((120, 160, 3), 4, np.uint8)])
    assert box == (0, 0, 120, 160)
    assert mask.all()


@pytest.mark.parametrize("place", [(slice(250, 335), slice(145, 230)), (slice(120, 180), slice(240, 300))], ids=["in a corner", "inside"])
@pytest.mark.parametrize("colour", [(20, 165, 140), (95, 110, 190)])
def test_the_inset_of_a_position_finder_is_cut(colour, place):
    frame = on_panel(tissue(360, 480), shape("octagon"), 0)
    frame[place] = colour
    assert not inside(*find_content([frame]))[place].any()
    assert overlay_mask(frame)[place].all()


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 200, 255), (250, 230, 0), (200, 0, 255)])
def test_drawn_boxes_and_letters_are_overlay_and_tissue_is_not(colour):
    plain = tissue(360, 480)
    drawn = plain.copy()
    cv2.rectangle(drawn, (100, 60), (220, 180), colour, 2)
    cv2.putText(drawn, "polyp 0.97", (240, 300), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 2)
    marked = (drawn != plain).any(axis=2)
    assert overlay_mask(plain).mean() < 0.002
    assert overlay_mask(drawn)[marked].mean() > 0.99
    assert overlay_mask(drawn).mean() < 0.06


def test_a_drawn_word_is_blotted_so_that_its_shape_cannot_be_read():
    drawn = tissue(360, 480)
    cv2.putText(drawn, "0.97", (240, 300), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 0, 0), 2)
    ys, xs = np.nonzero(overlay_mask(drawn)[270:320, 220:320])
    blot = overlay_mask(drawn)[270:320, 220:320][ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    assert blot.mean() > 0.9


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_largest_rectangle_is_the_one_of_brute_force(mask):
    best = 0
    for y0 in range(mask.shape[0]):
        for x0 in range(mask.shape[1]):
            for y1 in range(y0 + 1, mask.shape[0] + 1):
                for x1 in range(x0 + 1, mask.shape[1] + 1):
                    if mask[y0:y1, x0:x1].all():
                        best = max(best, (y1 - y0) * (x1 - x0))
    y0, x0, y1, x1 = largest_rectangle(mask)
    assert mask[y0:y1, x0:x1].all()
    assert (y1 - y0) * (x1 - x0) == best


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(8, 70), st.integers(8, 70), st.just(3))))
def test_any_pixels_give_a_box_inside_the_frame_and_a_mask_of_its_size(frames):
    (y0, x0, y1, x1), mask = find_content(list(frames))
    assert 0 <= y0 < y1 <= frames.shape[1]
    assert 0 <= x0 < x1 <= frames.shape[2]
    assert mask.shape == (y1 - y0, x1 - x0)
    assert mask.any()


def test_the_median_is_numpys_for_an_odd_number():
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), np.uint8)
    assert (median(list(frames)) == np.median(frames, axis=0)).all()


@pytest.mark.data
@pytest.mark.parametrize(("name", "least"), [("kvasir_seg_256", 0.7), ("polypgen_352", 0.45)])
def test_real_pictures_keep_their_polyps_and_lose_their_black_corners(name, least):
    folder = DATA / name
    if not folder.exists():
        pytest.skip("../shared/data is absent")
    kept, lost, dark = [], [], []
    for path in random.Random(0).sample(sorted((folder / "images").iterdir()), 80):
        image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        found = inside(*find_content([image]), *image.shape[:2])
        kept.append(found.mean())
        dark.append((image.max(axis=2)[found] < 12).mean())
        truth = cv2.imread(str(next((folder / "masks").glob(path.stem + ".*"))), cv2.IMREAD_GRAYSCALE) > 127
        lost.append((truth & ~found).sum() / max(1, truth.sum()))
    print(f"{name}: kept {np.mean(kept):.3f} of the pixels, lost {np.mean(lost):.4f} of polyp pixels, near-black {np.mean(dark):.4f}")
    assert np.mean(kept) > least
    assert np.mean(lost) < 0.05
    assert np.mean(dark) < 0.02
