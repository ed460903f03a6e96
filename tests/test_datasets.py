import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import datasets
from engine.datasets import Pair, load, pairs, truth

KVASIR = Path("../shared/data/seg/kvasir_seg_256")
POLYPGEN = Path("../shared/data/seg/polypgen_352")


def disc(seed: int, height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A noise image (height, width, 3) and the mask of a disc in it, 0 and 255."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    mask = ((rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (5 + seed % 9) ** 2).astype(np.uint8) * 255
    return rng.integers(0, 255, (height, width, 3), dtype=np.uint8), mask


def write(root: Path, names: list[str], image: str = ".jpg", mask: str = ".png") -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pixels, truth = disc(seed)
        cv2.imwrite(str(root / "images" / f"{name}{image}"), pixels)
        cv2.imwrite(str(root / "masks" / f"{name}{mask}"), truth)
    return root


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    return write(tmp_path, [f"case {number}" for number in range(10)])


def names(part: tuple[Pair, ...]) -> list[str]:
    return [pair.name for pair in part]


def test_every_pair_lands_on_one_side_and_a_fifth_is_tested(ten: Path) -> None:
    train, test = pairs(str(ten), 0.2, seed=0)[:2]
    assert (len(train), len(test)) == (8, 2)
    assert sorted(names(train) + names(test)) == [f"case {number}" for number in range(10)]
    assert all(pair.image.stem == pair.mask.stem == pair.name for pair in (*train, *test))


def test_images_of_any_ending_find_their_masks(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"], ".PNG", ".jpg")
    cv2.imwrite(str(tmp_path / "images" / "c.tiff"), disc(5)[0])
    cv2.imwrite(str(tmp_path / "masks" / "c.png"), disc(5)[1])
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"no picture")
    (tmp_path / "images" / ".hidden.png").write_bytes(b"no picture")
    assert sorted(names(sum(pairs(str(tmp_path), 0.3, seed=0)[:2], ()))) == ["a", "b", "c"]


def test_the_split_does_not_depend_on_the_names_or_the_order_of_the_files(ten: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = write(tmp_path_factory.mktemp("renamed"), [])
    for number in range(10):
        for part, ending in (("images", ".jpg"), ("masks", ".png")):
            shutil.copy(ten / part / f"case {number}{ending}", other / part / f"{9 - number}{ending}")
    before = {pair.image.read_bytes() for pair in pairs(str(ten), 0.3, seed=1).test}
    assert {pair.image.read_bytes() for pair in pairs(str(other), 0.3, seed=1).test} == before


def test_another_seed_splits_otherwise(ten: Path) -> None:
    assert len({tuple(names(pairs(str(ten), 0.3, seed).test)) for seed in range(5)}) > 1


def test_a_limit_draws_who_trains_by_seed_and_takes_nobody_from_the_test_part(ten: Path) -> None:
    few, more, every = (pairs(str(ten), 0.3, 0, limit) for limit in (2, 5, 0))
    assert [len(split.train) for split in (few, more, every)] == [2, 5, 7]
    assert set(few.train) < set(more.train) < set(every.train)
    assert few.test == more.test == every.test
    assert len({tuple(names(pairs(str(ten), 0.3, seed, 2).train)) for seed in range(5)}) > 1


@settings(max_examples=25, deadline=None)
@given(copies=st.lists(st.integers(0, 4), min_size=5, max_size=14).filter(lambda some: len(set(some)) > 1), seed=st.integers(0, 99))
def test_identical_images_are_never_on_both_sides(copies: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = write(tmp_path_factory.mktemp("copies"), [])
    for number, content in enumerate(copies):
        cv2.imwrite(str(root / "images" / f"{number}.png"), disc(content)[0])
        cv2.imwrite(str(root / "masks" / f"{number}.png"), disc(content)[1])
    train, test = ({pair.image.read_bytes() for pair in part} for part in pairs(str(root), 0.4, seed)[:2])
    assert train
    assert test
    assert not train & test


def test_images_and_masks_come_in_the_side_asked_for(ten: Path) -> None:
    pair = pairs(str(ten), 0.2, seed=0).train[0]
    image, mask = load(pair, 32)
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((32, 32, 3), np.uint8, (32, 32), np.uint8)
    assert mask.mean() == pytest.approx(truth(pair).mean(), abs=0.02)  # the same share of the picture


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"], ".png")
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full((40, 60, 3), (0, 0, 200), np.uint8))  # OpenCV writes blue first
    image, _ = load(Pair("a", tmp_path / "images" / "a.png", tmp_path / "masks" / "a.png"), 16)
    assert image[0, 0].tolist() == [200, 0, 0]


def test_a_smeared_jpeg_mask_is_cut_at_half_and_an_empty_one_is_legal(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"], mask=".jpg")
    cv2.imwrite(str(tmp_path / "masks" / "b.jpg"), np.full((40, 60), 3, np.uint8))
    train, test = pairs(str(tmp_path), 0.5, seed=0)[:2]
    masks = {pair.name: truth(pair) for pair in (*train, *test)}
    assert np.mean(masks["a"] != (disc(0)[1] > 0)) < 0.02
    assert not masks["b"].any()


def spoil_the_folder(root: Path) -> None:
    shutil.rmtree(root)


def spoil_masks(root: Path) -> None:
    shutil.rmtree(root / "masks")


def spoil_all(root: Path) -> None:
    for path in [*(root / "images").iterdir(), *(root / "masks").iterdir()]:
        path.unlink()


def spoil_a_mask(root: Path) -> None:
    (root / "masks" / "case 3.png").unlink()


def spoil_an_image(root: Path) -> None:
    (root / "images" / "case 3.jpg").unlink()


def spoil_a_size(root: Path) -> None:
    cv2.imwrite(str(root / "masks" / "case 3.png"), np.zeros((20, 30), np.uint8))


def spoil_a_picture(root: Path) -> None:
    (root / "images" / "case 3.jpg").write_bytes(b"text")


def spoil_a_stem(root: Path) -> None:
    shutil.copy(root / "images" / "case 3.jpg", root / "images" / "case 3.png")


def spoil_variety(root: Path) -> None:
    for path in (root / "images").iterdir():
        cv2.imwrite(str(path), disc(0)[0])


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (spoil_the_folder, FileNotFoundError, r"evaluate.uri=.*: there is no folder .*; expected one with images/ and masks/"),
        (spoil_masks, FileNotFoundError, r"evaluate.uri=.*: there is no folder .*masks; expected"),
        (spoil_all, ValueError, r"evaluate.uri=.*: images/ holds no picture"),
        (spoil_a_mask, ValueError, r"evaluate.uri=.*: 1 of 10 have no mask of the same stem, the first is .*case 3.jpg"),
        (spoil_an_image, ValueError, r"evaluate.uri=.*: 1 of 10 have no image of the same stem, the first is .*case 3.png"),
        (spoil_a_size, ValueError, r".*case 3.jpg is 60x40 px, but its mask .*case 3.png is 30x20 px"),
        (spoil_a_picture, ValueError, r".*case 3.jpg is not a picture that can be read"),
        (spoil_a_stem, ValueError, r".*case 3.jpg and .*case 3.png have the same stem"),
        (spoil_variety, ValueError, r"evaluate.uri=.* has 1 different images"),
    ],
)
def test_a_bad_folder_is_refused_with_one_sentence(ten: Path, spoil: Callable[[Path], None], error: type[Exception], told: str) -> None:
    spoil(ten)
    with pytest.raises(error, match=told) as refusal:
        pairs(str(ten), 0.2, seed=0)
    assert "\n" not in str(refusal.value)


def test_no_folder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"evaluate\.uri is empty"):
        pairs("", 0.2, seed=0)


def test_the_fingerprint_changes_with_any_byte_and_any_name(ten: Path) -> None:
    seen = {datasets.fingerprint(str(ten)), datasets.fingerprint(str(ten))}
    assert len(seen) == 1
    image, mask = (next((ten / part).iterdir()) for part in ("images", "masks"))
    for path in (image, mask):
        path.write_bytes(path.read_bytes() + b"\0")  # the same picture, another byte
        seen.add(datasets.fingerprint(str(ten)))
    for part in ("images", "masks"):
        for path in (ten / part).glob(f"{image.stem}.*"):
            path.rename(path.with_stem("renamed"))
    seen.add(datasets.fingerprint(str(ten)))
    assert len(seen) == 4


def test_the_fingerprint_changes_with_the_lists_and_the_index_of_a_set_and_what_has_neither_keeps_that_of_before(ten: Path) -> None:
    lines = []
    for pair in sorted(datasets.every(str(ten), "folder")):
        lines += [pair.name, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in (pair.image, pair.mask))]
    seen = {hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()[:12]}
    assert seen == {datasets.fingerprint(str(ten))}
    names = lines[::3]
    for tested in (names[:2], names[1:3]):
        (ten / "test.txt").write_text("\n".join(tested))
        (ten / "train.txt").write_text("\n".join(name for name in names if name not in tested))
        seen.add(datasets.fingerprint(str(ten)))
    for places in (1, 2):
        (ten / "index.csv").write_text("name,patient\n" + "".join(f"{name},{number // places}\n" for number, name in enumerate(names)))
        seen.add(datasets.fingerprint(str(ten)))
    assert len(seen) == 5


def test_one_pair_is_too_few(ten: Path) -> None:
    for part in ("images", "masks"):
        for path in sorted((ten / part).iterdir())[1:]:
            path.unlink()
    with pytest.raises(ValueError, match=r"has 1 different images; one to train on and one to test on are the least"):
        pairs(str(ten), 0.2, seed=0)


def test_a_mask_of_class_numbers_is_not_taken_for_an_empty_one(ten: Path) -> None:
    numbers = disc(3)[1] // 255
    numbers[:3] = 2
    cv2.imwrite(str(ten / "masks" / "case 3.png"), numbers)
    with pytest.raises(ValueError, match=r"case 3.png is nowhere brighter than 2 and holds 3 grey levels \(0, 1, 2\); masks hold"):
        load(Pair("case 3", ten / "images" / "case 3.jpg", ten / "masks" / "case 3.png"), 32)


def test_a_picture_that_breaks_off_is_named(ten: Path) -> None:
    path = ten / "images" / "case 3.jpg"
    path.write_bytes(path.read_bytes()[:2])
    with pytest.raises(ValueError, match=r"case 3.jpg cannot be decoded"):
        load(Pair("case 3", path, ten / "masks" / "case 3.png"), 32)


@pytest.mark.data
@pytest.mark.skipif(not POLYPGEN.is_dir(), reason="../shared/data is absent")
@pytest.mark.parametrize(("root", "count", "empty"), [(KVASIR, 998, 0), (POLYPGEN, 1537, 126)])
def test_the_real_folders_are_read_whole(root: Path, count: int, empty: int) -> None:
    train, test = pairs(str(root), 0.2, seed=0)[:2]
    assert len(train) + len(test) == count
    grouped = any(pair.group for pair in test)  # an index.csv names PolypGen's centres, and none is split
    assert len(test) >= round(count / 5)
    assert grouped or len(test) < count / 5 + 3
    assert {pair.group for pair in train}.isdisjoint(pair.group for pair in test) or not grouped
    assert sum(not truth(pair).any() for pair in (*train, *test)) == empty
    assert not {pair.image.read_bytes() for pair in train} & {pair.image.read_bytes() for pair in test}
