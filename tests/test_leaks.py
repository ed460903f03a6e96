"""Near-duplicates: against the correlation written out, and on pictures that were resized, recompressed, cut and framed anew."""

import cv2
import numpy as np
import pytest

from engine import leaks
from engine.leaks import SIDE, Grids


def scene(seed: int, height: int = 160, width: int = 200) -> np.ndarray:
    """Smooth blobs in the colours of mucosa."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(height, width)).astype(np.float32)
    blobs = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (4, 8, 16))
    blobs = 90 + 60 * (blobs - blobs.min()) / np.ptp(blobs)
    return np.stack([blobs + 60, blobs * 0.6, blobs * 0.5], -1).clip(0, 255).astype(np.uint8)


def resaved(image: np.ndarray, scale: float, squash: float = 1.0, quality: int = 60) -> np.ndarray:
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width * scale), round(height * scale * squash)), interpolation=cv2.INTER_AREA)
    brighter = np.clip(small * 1.08, 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", brighter, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def framed(image: np.ndarray, around: tuple[int, int, int, int]) -> np.ndarray:
    """On the black panel of a processor."""
    top, bottom, left, right = around
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(2, 2, 2))


def test_a_picture_is_known_again_at_another_size_shape_quality_and_on_another_panel() -> None:
    test = leaks.whole((f"t{seed}", scene(seed)) for seed in range(8))
    changed = {"resized": resaved(scene(1), 0.7), "squashed": resaved(scene(2), 1.3, 0.8), "stranger": scene(99)}
    changed["framed"] = framed(resaved(scene(3), 0.9), (0, 10, 70, 20))
    pool = leaks.whole(changed.items())
    found = leaks.between(pool, test)
    assert {(leak.pool, leak.test) for leak in found.found} == {("resized", "t1"), ("squashed", "t2"), ("framed", "t3")}
    assert found.tested == 3
    assert found.found[0].likeness >= found.found[-1].likeness > leaks.ALIKE


def test_the_same_panel_does_not_make_twins() -> None:
    around = (0, 0, 120, 10)
    test = leaks.whole((f"t{seed}", framed(scene(seed), around)) for seed in range(6))
    pool = leaks.whole((f"p{seed}", framed(scene(seed), around)) for seed in range(100, 106))
    assert not leaks.between(pool, test).found


def test_patches_find_the_image_that_they_were_cut_from_and_too_few_are_not_judged() -> None:
    test = leaks.whole((f"t{seed}", scene(seed)) for seed in range(6))
    image = resaved(scene(4), 0.8)
    height, width = image.shape[:2]
    boxes = [(0.1, 0.1, 0.5, 0.5), (0.4, 0.3, 0.9, 0.8), (0.05, 0.6, 0.45, 0.97)]
    cut = []
    for y0, x0, y1, x1 in boxes:
        piece = image[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)]
        cut.append((cv2.resize(piece, (64, 64), interpolation=cv2.INTER_AREA), (y0, x0, y1, x1)))
    found = leaks.between(leaks.pieced("frame", cut), test)
    assert [(leak.pool, leak.test) for leak in found.found] == [("frame", "t4")]
    elsewhere = [(pixels, (1 - y1, 1 - x1, 1 - y0, 1 - x0)) for pixels, (y0, x0, y1, x1) in cut]
    assert not leaks.between(leaks.pieced("turned", elsewhere), test).found
    assert leaks.between(leaks.pieced("small", [(cut[0][0], (0.1, 0.1, 0.2, 0.2))]), test) == leaks.Leaks((), 1)


def test_the_likeness_is_the_correlation_over_what_both_know() -> None:
    rng = np.random.default_rng(0)
    values = 20 * rng.normal(size=(5, SIDE * SIDE)).astype(np.float32)
    values[3] = values[0] + 4 * rng.normal(size=SIDE * SIDE)
    known = (rng.random((5, SIDE * SIDE)) < 0.7).astype(np.float32)
    known[4] = 0
    grids = Grids(tuple("abcde"), values * known, known)
    made = leaks.likeness(grids, grids)
    for one in range(4):
        for other in range(4):
            both = (known[one] * known[other]) > 0
            assert made[one, other] == pytest.approx(np.corrcoef(values[one][both], values[other][both])[0, 1], abs=1e-4)
    assert (made[4] == -1).all()


def test_a_flat_picture_is_like_nothing() -> None:
    grids = leaks.whole([("flat", np.full((60, 80, 3), 120, np.uint8)), ("other", np.full((60, 80, 3), 90, np.uint8))])
    assert not leaks.between(grids, grids).found


def test_nothing_has_no_twins() -> None:
    assert leaks.between(leaks.joined([]), leaks.whole([("one", scene(0))])) == leaks.Leaks((), 0)


@pytest.mark.data
@pytest.mark.timeout(900)
def test_real_twins_are_found_and_two_hospitals_share_none() -> None:
    from pathlib import Path

    from engine import datasets

    root = Path("../shared/data/seg")
    if not root.is_dir():
        pytest.skip("../shared/data is absent")
    polypgen, kvasir = (
        leaks.whole((pair.name, datasets.image_of(pair)) for pair in datasets.every(str(root / name), "folder"))
        for name in ("polypgen_352", "kvasir_seg_256")
    )
    assert not leaks.between(polypgen, kvasir).found
    twins = {leak[:2] for leak in leaks.between(polypgen, polypgen).found}
    identical = [("C2_EndoCV2021_001029", "C2_EndoCV2021_001030"), ("C5_EndoCV2021_C5_50000140", "C5_EndoCV2021_C5_50000141"),
                 ("C5_EndoCV2021_C5_50000284", "C5_EndoCV2021_C5_50000285")]  # fmt: skip
    assert set(identical) <= twins
    assert len({name for pair in twins if pair[0] != pair[1] for name in pair}) == 33
