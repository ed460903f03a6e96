"""What a mask may hold, in whatever format, and what is said of a picture that is none; what is said of files that break off."""

import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask

from engine import datasets, evaluate
from engine.datasets import Pair, Split, masks, outlines, pixels, truth
from engine.datasets.pixels import holed, require_whole, size_of
from engine.models import EvaluateConfig
from engine.segmenters import ViT
from tests import miniatures

LOSSLESS = (".png", ".tif", ".bmp", ".webp")


def drawing(level: int, dtype: type = np.uint8) -> np.ndarray:
    """A disc of one level on black, (96, 128)."""
    rows, columns = np.mgrid[:96, :128]
    return np.where((rows - 40) ** 2 + (columns - 60) ** 2 < 20**2, level, 0).astype(dtype)


def seen(path: Path) -> np.ndarray:
    return masks.mask(path).drawn


def test_two_levels_without_loss_are_a_mask_however_dark_and_in_whatever_format(tmp_path: Path) -> None:
    for ending in LOSSLESS:
        for level in (1, 2, 100, 127, 128, 255):
            path = tmp_path / f"{level}{ending}"
            cv2.imwrite(str(path), drawing(level))
            assert np.array_equal(seen(path), drawing(1)), path.name
    for level in (1, 255, 65535):
        cv2.imwrite(str(tmp_path / f"deep{level}.png"), drawing(level, np.uint16))
        tifffile.imwrite(tmp_path / f"deep{level}.tif", drawing(level, np.uint16))
        assert np.array_equal(seen(tmp_path / f"deep{level}.png"), drawing(1))
        assert np.array_equal(seen(tmp_path / f"deep{level}.tif"), drawing(1))
    Image.fromarray(drawing(1).astype(bool)).save(tmp_path / "bits.png")
    assert np.array_equal(seen(tmp_path / "bits.png"), drawing(1))


def test_an_empty_mask_and_a_full_one_are_legal_and_one_grey_is_not(tmp_path: Path) -> None:
    for level, share in ((0, 0), (1, 1), (255, 1)):
        cv2.imwrite(str(tmp_path / f"{level}.tif"), np.full((9, 9), level, np.uint8))
        assert seen(tmp_path / f"{level}.tif").mean() == share
    cv2.imwrite(str(tmp_path / "7.tif"), np.full((9, 9), 7, np.uint8))
    with pytest.raises(ValueError, match=r"7\.tif holds 7 everywhere"):
        seen(tmp_path / "7.tif")


@pytest.mark.parametrize("ending", [*LOSSLESS, ".jpg"])
def test_three_levels_are_refused_even_where_the_third_is_small(ending: str, tmp_path: Path) -> None:
    pixels = drawing(255)
    pixels[80:88, 5:13], pixels[80:88, 100:108] = 128, 64  # two hundredths of the mask
    cv2.imwrite(str(tmp_path / f"a{ending}"), pixels)
    with pytest.raises(ValueError, match=r"grey levels \(0, .* of its pixels neither black nor white; masks hold 0 and 255"):
        seen(tmp_path / f"a{ending}")
    cv2.imwrite(str(tmp_path / f"b{ending}"), pixels // 3)
    with pytest.raises(ValueError, match=r"nowhere brighter than \d\d and holds \d+ grey levels \(0, "):
        seen(tmp_path / f"b{ending}")


def test_edges_that_jpeg_or_a_resize_made_grey_are_cut_at_half(tmp_path: Path) -> None:
    for quality in (30, 75, 95):
        cv2.imwrite(str(tmp_path / f"{quality}.jpg"), drawing(255), [cv2.IMWRITE_JPEG_QUALITY, quality])
        cv2.imwrite(str(tmp_path / f"{quality}.png"), cv2.imread(str(tmp_path / f"{quality}.jpg"), 0))  # converted, noise and all
        for ending in ("jpg", "png"):
            assert np.mean(seen(tmp_path / f"{quality}.{ending}") != drawing(1)) < 0.005
    for factor, how in ((0.5, cv2.INTER_AREA), (0.37, cv2.INTER_LINEAR), (4, cv2.INTER_LINEAR), (4, cv2.INTER_CUBIC)):
        cv2.imwrite(str(tmp_path / "sized.png"), cv2.resize(drawing(255), None, fx=factor, fy=factor, interpolation=how))
        assert abs(seen(tmp_path / "sized.png").mean() - drawing(1).mean()) < 0.01


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("dtype", "level", "told"), [(np.int16, -1, "-1"), (np.float32, np.nan, "nan"), (np.float32, np.inf, "inf"), (np.float32, -0.5, "-0.5")]
)
def test_numbers_that_are_no_levels_are_told_as_such(dtype: type, level: float, told: str, tmp_path: Path) -> None:
    pixels = drawing(1).astype(dtype)
    pixels[pixels > 0] = level
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    held = rf"a\.tif holds {told} and the like in {int((drawing(1) > 0).sum()):,} of 12,288 places, which are no levels"
    with pytest.raises(ValueError, match=held):
        seen(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.where(pixels == 0, 0, 1).astype(dtype))
    assert np.array_equal(seen(tmp_path / "b.tif"), drawing(1))


def test_one_colour_on_black_is_a_mask_and_two_colours_are_not(tmp_path: Path) -> None:
    one = np.zeros((96, 128, 3), np.uint8)
    one[drawing(1) > 0] = (0, 0, 255)
    two = one.copy()
    two[80:90, 5:15] = (0, 255, 0)
    for ending in LOSSLESS:
        cv2.imwrite(str(tmp_path / f"one{ending}"), one)
        assert np.array_equal(seen(tmp_path / f"one{ending}"), drawing(1))
        cv2.imwrite(str(tmp_path / f"two{ending}"), two)
        with pytest.raises(ValueError, match=r"holds 3 colours \(0/0/0, 0/255/0, 255/0/0; red/green/blue\); masks hold one colour"):
            seen(tmp_path / f"two{ending}")
    cv2.imwrite(str(tmp_path / "two.jpg"), two)
    with pytest.raises(ValueError, match=r"two\.jpg is coloured in \d+% of its pixels"):
        seen(tmp_path / "two.jpg")


def test_a_mask_in_the_alpha_is_refused_and_an_opaque_alpha_does_not_matter(tmp_path: Path) -> None:
    white = np.full((96, 128, 4), 255, np.uint8)
    white[..., 3] = drawing(255)
    cv2.imwrite(str(tmp_path / "a.png"), white)
    with pytest.raises(ValueError, match=r"a\.png is transparent in 90% of its pixels: is the mask in its alpha"):
        seen(tmp_path / "a.png")
    opaque = np.dstack([drawing(255)] * 3 + [np.full((96, 128), 255, np.uint8)])
    cv2.imwrite(str(tmp_path / "b.png"), opaque)
    assert np.array_equal(seen(tmp_path / "b.png"), drawing(1))


def folder(root: Path, levels: list[int], ending: str = ".png") -> Split:
    for number, level in enumerate(levels):
        miniatures.put(root / f"images/{number}.png", miniatures.noise(number))
        miniatures.put(root / f"masks/{number}{ending}", miniatures.disc(number) // 255 * level)
    return datasets.pairs(str(root), 0.4, 0)


def test_masks_that_do_not_agree_on_the_foreground_are_told_by_their_counts(tmp_path: Path) -> None:
    datasets.check(folder(tmp_path / "ones", [1] * 5))
    datasets.check(folder(tmp_path / "nearly white", [255, 255, 254, 0, 255]))
    with pytest.raises(ValueError, match=r"of 5 masks differs \(.*3 hold 1, the first is .*\.png.*class numbers\?") as refusal:
        datasets.check(folder(tmp_path / "numbers", [1, 2, 1, 2, 1]))
    assert "2 hold 2, the first is" in str(refusal.value)


def test_jpeg_masks_of_0_and_1_are_told_and_dark_noise_beside_bright_ones_is_empty(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"5 of 5 masks are dark but not black and none has a foreground: nowhere brighter than [12], the first"
    ):
        datasets.check(folder(tmp_path / "ones", [1] * 5, ".jpg"))
    split = folder(tmp_path / "noise", [255, 3, 255, 0, 255], ".jpg")
    datasets.check(split)
    assert sum(not truth(pair).any() for pair in (*split.train, *split.test)) == 2


def test_a_bad_test_mask_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    split = folder(tmp_path, [255] * 5)
    for pair in split.test:
        cv2.imwrite(str(pair.mask), miniatures.noise(3)[..., 0])
    told: list[int] = []
    config = EvaluateConfig(side=32, iterations=1, warmup=0, batch=2)
    with pytest.raises(ValueError, match=r"2 of 5 pairs cannot be used, 3 can; the first: .*\.png holds \d+ grey levels"):
        evaluate.evaluate(None, ViT("tiny", 16), split, config, 0, report=lambda step, _: told.append(step))
    assert not told
    for pair in split.test:  # the same files, mended: what was seen of them before does not hold
        cv2.imwrite(str(pair.mask), miniatures.disc())
    datasets.check(split)


@pytest.mark.parametrize("tables", [0, 1])
def test_a_jpeg_with_a_hole_is_told_and_one_with_black_borders_is_not(tables: int, tmp_path: Path) -> None:
    """Such as Pillow and OpenCV read without a word to Python; with tables of its own (1) zeros may be a black border."""
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)
    noise[:, :200] = noise[300:] = 0
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), noise, [cv2.IMWRITE_JPEG_OPTIMIZE, tables])
    assert not holed(path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 4096] = bytes(4096)
    path.write_bytes(whole)
    assert cv2.imread(str(path)).shape == (400, 600, 3)
    codes = [first for marker in cuts(bytes(whole)) for kind, first in pixels.tables(marker) if kind >= 16]
    assert (f"nothing from byte {len(whole) // 2:,} on" in holed(path)) == (0 not in codes)


def cuts(data: bytes) -> list[bytes]:
    """What stands in the segments of Huffman tables, by their marker."""
    parts = data.split(b"\xff\xc4")[1:]
    return [part[2 : int.from_bytes(part[:2], "big")] for part in parts]


def test_masks_that_are_foreground_everywhere_are_a_warning_with_their_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, level in (("a", 255), ("b", 255), ("c", 0)):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / part / f"{name}.png"), np.full((9, 9), level, np.uint8))
    datasets.check(Split(tuple(datasets.listed(str(tmp_path))), ()))
    assert "2 of 3 masks are foreground everywhere, the first is" in caplog.text
    caplog.clear()
    datasets.check(Split(tuple(datasets.listed(str(tmp_path))[2:]), ()))
    assert not caplog.text


@pytest.mark.parametrize("ending", [*LOSSLESS, ".jpg"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.97])
def test_a_file_that_breaks_off_is_told_as_an_interrupted_download(ending: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8))
    whole = path.read_bytes()
    require_whole(path)
    assert size_of(path) == (128, 96)
    path.write_bytes(whole[: max(int(share * len(whole)), 40 * (share > 0))])
    with pytest.raises(ValueError, match=rf"a\{ending} .*: was its download interrupted\?"):
        size_of(path)


def test_a_file_that_claims_more_pixels_than_can_be_decoded_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), drawing(255))
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">LL", 60000, 60000)
    data[29:33] = struct.pack(">L", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    for read in (size_of, seen, pixels.picture):
        with pytest.raises(ValueError, match=r"a\.png (is not a picture that can be read|cannot be decoded)"):
            read(path)


def test_pages_that_break_off_name_the_file(tmp_path: Path) -> None:
    miniatures.ead(tmp_path)
    path = tmp_path / "masks/00001_mask.tif"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(
        ValueError, match=r"00001_mask\.tif cannot be decoded, it breaks off after 3,000 bytes: was its download interrupted\?"
    ):
        truth(Pair("1", tmp_path / "original_images/00001.jpg", path, coding="pages"))


def test_a_coco_file_whose_entries_lack_or_name_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    path = miniatures.coco(tmp_path)
    whole = json.loads(path.read_text())

    def refused(part: str, change: dict[str, object], sentence: str) -> None:
        told = json.loads(json.dumps(whole))
        told[part][0].update(change)
        other = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        other.write_text(json.dumps(told))
        with pytest.raises(ValueError, match=sentence):
            datasets.listed(str(other), "coco")

    for field in ("width", "height", "file_name", "id"):
        refused("images", {field: None}, rf"1 of 6 images lack one of id, file_name, width, height, the first is .*{field}")
    refused("categories", {"name": None}, "1 of 2 categories lack one of id, name")
    refused("annotations", {"category_id": 99}, "1 of 13 annotations have category_ids that are none of its 2 categories, the first is 99")
    refused("annotations", {"image_id": 999}, "1 of 13 annotations have image_ids that are none of its 6 images, the first is 999")
    refused("images", {"id": 2}, "1 of 6 images have an id that another one has")


def whole_disc() -> dict[str, object]:
    """Runs of letters, as pycocotools packs them, of a disc in an image of the miniature."""
    packed = mask.encode(np.asfortranarray(miniatures.disc() > 0))
    return {"counts": packed["counts"].decode(), "size": packed["size"]}


@pytest.mark.parametrize(
    ("outline", "sentence"),
    [
        ([[1, 2]], "a polygon of 2 numbers, where x and y of 3 points are the least"),
        ([[1, 2, 9, 9]], "a polygon of 4 numbers"),
        ([[1, 2, 9, 9, 1, 9, 4]], "a polygon of 7 numbers"),
        ([[1, 2, 9, "a", 3, 4]], "a polygon is a list of numbers, not "),
        ([1, 2, 9, 9, 3, 4], "a polygon is a list of numbers, not 1"),
        ([[1, 2, 9, 1e30, 3, 4]], "a point at 1e.30, and none lies 10 times as far out as its image is large"),
        ([[1, 2, 9, float("nan"), 3, 4]], "a point at nan"),
        ("outline", "an outline is polygons or runs, not 'outline'"),
        ({"counts": [5, 3], "size": [9, 9]}, r"its runs are of \[9, 9\], and its image is of \[24, 32\] \(height, width\)"),
        ({"counts": [5, 3], "size": [24, 32]}, "its runs are 8 pixels long, and its image has 768"),
        ({"counts": [5, -3, 766], "size": [24, 32]}, "which are no numbers of pixels"),
        ({"counts": [5, 763.0], "size": [24, 32]}, "which are no numbers of pixels"),
        ({"counts": "PPYo0", "size": [24, 32]}, "its runs are "),
        ({"counts": "zzz", "size": [24, 32]}, "its runs are 'zzz', which are no numbers of pixels"),
        ({"size": [24, 32]}, "its runs are None, which are no numbers of pixels"),
        (whole_disc() | {"counts": str(whole_disc()["counts"])[:-2]}, "its runs are .* pixels long, and its image has 768"),
    ],
)
def test_an_outline_that_cannot_be_drawn_is_one_sentence_with_file_and_count(outline: object, sentence: str, tmp_path: Path) -> None:
    path = miniatures.coco(tmp_path)
    told = json.loads(path.read_text())
    told["annotations"][2]["segmentation"] = outline
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=rf"file\.json: 1 of 13 annotations cannot be drawn, the first is annotation 3: .*{sentence}"):
        datasets.listed(str(path), "coco")


def test_runs_of_letters_are_those_of_pycocotools(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.001, 0.5, 1.0):
        drawn = np.asfortranarray(cv2.blur(rng.random((300, 400)), (9, 9)) < np.quantile(rng.random(999), share)).astype(np.uint8)
        runs = outlines.of_letters(mask.encode(drawn)["counts"].decode())
        assert runs is not None
        assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs).reshape(400, 300).T, drawn)
    path = miniatures.coco(tmp_path)
    told = json.loads(path.read_text())
    told["annotations"][2]["segmentation"] = whole_disc()
    path.write_text(json.dumps(told))
    second = next(pair for pair in datasets.listed(str(path), "coco") if pair.name == "2")
    assert truth(second)[12, 16] > 0


def test_a_coco_file_of_mixed_ids_of_sizes_that_are_none_or_of_too_many_categories_is_one_sentence(tmp_path: Path) -> None:
    whole = json.loads(miniatures.coco(tmp_path).read_text())

    def refused(sentence: str, **parts: object) -> None:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(whole | parts))
        with pytest.raises(ValueError, match=rf"{path.name}:? {sentence}"):
            datasets.listed(str(path), "coco")

    first, *others = whole["images"]
    refused("1 of 6 images have a word for id, the others a number; the first is 'a'", images=[first | {"id": "a"}, *others])
    refused("1 of 2 categories have a word for id", categories=[{"id": "3", "name": "tool"}, whole["categories"][1]])
    refused("1 of 6 images have an id that is no whole number and no word, the first is ", images=[first | {"id": [1]}, *others])
    refused("1 of 6 images have a width or a height that is no number of pixels", images=[first | {"width": "32"}, *others])
    many = [{"id": number, "name": f"c{number}"} for number in range(255)]
    refused("has 255 categories, 254 are the most", categories=many)
    refused("has no images; a COCO file has", images={"a": 1})
    refused("1 of 1 annotations lack one of id", annotations=[1])
    (tmp_path / "most.json").write_text(json.dumps(whole | {"categories": many[:-1]}))
    assert len(datasets.classes(str(tmp_path / "most.json"), "coco")) == 254
