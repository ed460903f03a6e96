"""Every known set as a miniature in its real layout: its pairs, its truth, its counts, and what is said of what is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import cv2
import nibabel
import numpy as np
import pytest

from engine import datasets
from engine.datasets import SETS, published
from engine.datasets.layouts import CVC_300, CVC_612
from engine.models import DataSet, EvaluateConfig
from tests import miniatures
from tests.miniatures import HEIGHT, WIDTH, disc

KVASIR = Path("../shared/data/seg/kvasir_seg_256")
POLYPGEN = Path("../shared/data/seg/polypgen_352")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], EvaluateConfig]:
    """Writes the miniature of a set; its published counts are the miniature's."""

    def write(name: str) -> EvaluateConfig:
        make, counts = miniatures.SETS[name]
        make(tmp_path)
        monkeypatch.setitem(SETS, name, SETS[name]._replace(published=counts))
        return EvaluateConfig(uri=str(tmp_path), dataset=name, test_share=0.34)

    return write


def test_the_knob_names_every_set_and_a_miniature_is_there_of_each() -> None:
    assert set(get_args(DataSet)) - {"folder", "coco"} == set(SETS) == set(miniatures.SETS)


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_read_from_its_real_layout(name: str, small: Callable[[str], EvaluateConfig]) -> None:
    config = small(name)
    split = datasets.chosen(config, seed=0)
    assert len(split.train) + len(split.test) == miniatures.SETS[name][1]["pairs"]
    assert not {pair.group for pair in split.train if pair.group} & {pair.group for pair in split.test}
    assert split.classes == SETS[name].classes
    assert len({pair.name for pair in (*split.train, *split.test)}) == len(split.train) + len(split.test)
    for pair in (*split.train, *split.test):
        image, truth = datasets.image_of(pair), datasets.truth(pair)
        assert (image.shape, image.dtype, truth.shape, truth.dtype) == ((HEIGHT, WIDTH, 3), np.uint8, (HEIGHT, WIDTH), np.uint8)
        assert truth.max() <= len(split.classes)
        small_image, labels = datasets.load(pair, 16)
        assert (small_image.shape, labels.shape, labels.dtype) == ((16, 16, 3), (16, 16), np.uint8)
    counts, faults = datasets.surveyed((*split.train, *split.test), split.classes)
    assert not faults
    assert sum(counts.values()) > 0
    assert datasets.fingerprint(config.uri, name) == datasets.fingerprint(config.uri, name)


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_not_whole_is_told_with_both_counts_and_where_it_is_to_be_had(
    name: str, small: Callable[[str], EvaluateConfig]
) -> None:
    config = small(name)
    have = miniatures.SETS[name][1]
    what = next(iter(have))
    published_more = {what: have[what] + 1234}
    SETS[name] = SETS[name]._replace(published=published_more)  # put back by the fixture
    with pytest.raises(ValueError, match=rf"{have[what]} {what} instead of {have[what] + 1234:,}.*interrupted.*to be had at ") as refusal:
        datasets.chosen(config, seed=0)
    assert SETS[name].source in str(refusal.value)
    assert "\n" not in str(refusal.value)
    taken = datasets.chosen(config.model_copy(update={"pairs": have["pairs"]}), seed=0)
    assert len(taken.train) + len(taken.test) == have["pairs"]


def test_the_ranges_of_endoscene_are_the_published_parts_without_overlap() -> None:
    numbers = {
        part: [n for ranges in (CVC_300, CVC_612) for low, high in ranges[part] for n in range(low, high + 1)] for part in ("train", "test")
    }
    assert {part: len(some) for part, some in numbers.items()} == {"train": 547 + 183, "test": 182}
    for ranges, count in ((CVC_300, 300), (CVC_612, 612)):
        every = sorted(n for some in ranges.values() for low, high in some for n in range(low, high + 1))
        assert every == list(range(1, count + 1))


def test_centres_are_tested_on_that_were_not_trained_on(small: Callable[[str], EvaluateConfig]) -> None:
    config = small("polypgen").model_copy(update={"test_groups": ("C6", "C2")})
    split = datasets.chosen(config, seed=3)
    assert {pair.group for pair in split.test} == {"C2", "C6"}
    assert {pair.group for pair in split.train} == {"C1", "C3", "C4", "C5"}
    few = datasets.chosen(config.model_copy(update={"train_groups": ("C1",)}), seed=3)
    assert {pair.group for pair in few.train} == {"C1"}
    with pytest.raises(
        ValueError, match=r"evaluate\.test_groups=C9: there is no group C9; the groups of these pairs are C1 \(2\), C2 \(2\)"
    ):
        datasets.chosen(config.model_copy(update={"test_groups": ("C9",)}), seed=0)
    with pytest.raises(ValueError, match="both name C6"):
        datasets.chosen(config.model_copy(update={"train_groups": ("C6",)}), seed=0)


def test_lesions_lie_over_each_other_in_the_order_of_their_severity(small: Callable[[str], EvaluateConfig]) -> None:
    config = small("edd2020")
    truths = {pair.name: datasets.truth(pair) for pair in datasets.listed(config.uri, "edd2020")}
    polyp, suspicious = disc(4) > 0, disc(1) > 0
    expected = np.where(polyp, 5, np.where(suspicious, 2, 0))
    assert np.array_equal(truths["EDD2020_A1"], expected)


def test_a_red_mask_and_five_pages_are_read_as_their_classes(small: Callable[[str], EvaluateConfig], tmp_path: Path) -> None:
    config = small("idrid")
    first = next(pair for pair in datasets.listed(config.uri, "idrid") if pair.name == "IDRiD_01")
    assert {number for number, _ in first.parts} == {2, 5}
    assert set(np.unique(datasets.truth(first))) == {0, 2, 5}
    miniatures.ead(tmp_path)
    pages = {pair.name: datasets.truth(pair) for pair in SETS["ead2019"].pairs(tmp_path)}
    assert set(np.unique(pages["00002"])) == {0, 5}  # saturation, the last page, lies on top


def test_a_slice_lies_under_its_labels(small: Callable[[str], EvaluateConfig]) -> None:
    pair = next(one for one in datasets.listed(small("acdc").uri, "acdc") if one.at == 1)
    stored = np.asarray(nibabel.load(pair.mask).dataobj)[:, :, 1]
    assert np.array_equal(datasets.truth(pair), stored.T)
    volume = np.asarray(nibabel.load(pair.image).dataobj)
    low, high = np.percentile(volume, (1, 99))
    expected = np.clip((volume[:, :, 1].T - low) / (high - low), 0, 1) * 255
    assert np.abs(datasets.image_of(pair)[..., 0] - expected).max() <= 0.51


def test_a_coco_file_gives_classes_patients_and_what_to_ignore(tmp_path: Path) -> None:
    config = EvaluateConfig(uri=str(miniatures.coco(tmp_path)), dataset="coco", test_share=0.34)
    split = datasets.chosen(config, seed=0)
    assert split.classes == ("tool", "polyp")
    assert not {pair.group for pair in split.train} & {pair.group for pair in split.test}
    truths = {pair.name: datasets.truth(pair) for pair in (*split.train, *split.test)}
    assert (truths["2"][12, 12], truths["2"][4, 4], truths["2"][22, 30]) == (1, 2, 0)  # the smaller one on top
    assert (truths["1"][:, 0] == datasets.IGNORE).all()


def test_a_coco_file_that_lacks_something_is_refused(tmp_path: Path) -> None:
    path = miniatures.coco(tmp_path)
    (tmp_path / "images/3.png").unlink()
    with pytest.raises(ValueError, match=r"names 6 images, 1 are not there, the first is .*3\.png"):
        datasets.listed(str(path), "coco")
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match="not a JSON file that can be read whole"):
        datasets.listed(str(path.rename(tmp_path / "cut.json")), "coco")
    (tmp_path / "boxes.json").write_text('{"images": [1], "categories": [1], "annotations": [{"bbox": [0, 0, 1, 1]}]}')
    with pytest.raises(ValueError, match="1 of 1 annotations have no outline"):
        datasets.listed(str(tmp_path / "boxes.json"), "coco")
    with pytest.raises(FileNotFoundError, match="takes a JSON file"):
        datasets.listed(str(tmp_path), "coco")


def test_the_folder_of_another_set_is_recognised(small: Callable[[str], EvaluateConfig], tmp_path: Path) -> None:
    config = small("polypgen")
    with pytest.raises(
        FileNotFoundError, match=r"evaluate\.dataset=idrid: .* has none of .*; it looks like PolypGen2021.*evaluate\.dataset=polypgen"
    ):
        datasets.chosen(config.model_copy(update={"dataset": "idrid"}), seed=0)
    with pytest.raises(FileNotFoundError, match=r"no folder .*images; expected one with images/ and masks/; it looks like PolypGen2021"):
        datasets.pairs(config.uri, 0.2, 0)
    with pytest.raises(FileNotFoundError, match=r"is no folder; .* to be had at"):
        datasets.listed(str(tmp_path / "nowhere"), "idrid")


@pytest.mark.parametrize(
    ("dataset", "uri", "told"),
    [("coco", ".", "takes a JSON file"), ("idrid", "/nowhere", "to be had at IEEE"), ("acdc", "", "to be had at acdc")],
)
def test_what_is_not_there_is_told_before_a_job_begins_as_when_it_is_listed(dataset: str, uri: str, told: str) -> None:
    refusals = []
    for look in (lambda: datasets.check_place(EvaluateConfig(uri=uri, dataset=dataset)), lambda: datasets.listed(uri, dataset)):
        with pytest.raises(FileNotFoundError, match=told) as refusal:
            look()
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]


def test_a_file_of_one_class_that_is_missing_is_told_with_counts_and_its_image(small: Callable[[str], EvaluateConfig]) -> None:
    config = small("idrid")
    file = next(Path(config.uri).rglob("IDRiD_02_OD.tif"))
    file.rename(file.with_suffix(".part"))
    with pytest.raises(ValueError, match=r"4 masks of optic disc instead of 5 \(from memory\) \(without optic disc: IDRiD_02\)\. Was its"):
        datasets.chosen(config, seed=0)
    file.with_suffix(".part").rename(file)
    other = next(Path(config.uri).rglob("IDRiD_01_HE.tif"))
    other.unlink()
    with pytest.raises(ValueError, match=r"1 masks of haemorrhages instead of 2 \(from memory\)\. Was its download interrupted"):
        datasets.chosen(config, seed=0)


def test_masks_of_no_image_and_too_few_of_a_class_are_told(small: Callable[[str], EvaluateConfig], tmp_path: Path) -> None:
    config = small("edd2020")
    (tmp_path / "masks/EDD2020_A1_suspicious.tif").rename(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"0 masks of suspicious instead of 1 \(from memory\)"):
        datasets.chosen(config, seed=0)
    (tmp_path / "gone").rename(tmp_path / "masks/EDD2020_A7_suspicious.tif")
    with pytest.raises(ValueError, match=r"1 of 5 masks have no image, or name no class; the first is .*EDD2020_A7_suspicious\.tif"):
        datasets.chosen(config, seed=0)


def test_counts_from_memory_are_named_so_and_are_counts_that_are_published() -> None:
    assert all(set(told.recalled) <= set(told.published) for told in SETS.values())
    assert SETS["idrid"].counted().endswith("81 masks of optic disc (from memory)")
    assert "(from memory)" not in SETS["polypgen"].counted()


def test_a_copy_that_lacks_a_few_pairs_is_still_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniatures.flat(tmp_path)
    for published_count, known in ((6, True), (7, False)):
        monkeypatch.setitem(SETS, "kvasir_seg", SETS["kvasir_seg"]._replace(published={"pairs": published_count}))
        with pytest.raises(
            FileNotFoundError, match=r"evaluate\.dataset=polypgen: .* has none of .*PolypGen2021.* to be had at synapse"
        ) as told:
            datasets.listed(str(tmp_path), "polypgen")
        assert ("it looks like Kvasir-SEG (6 pairs, published 6 pairs): evaluate.dataset=kvasir_seg" in str(told.value)) == known


def test_the_nearest_published_counts_come_first_and_far_ones_not_at_all() -> None:
    assert published.near(998) == published.near(960) == ["kvasir_seg"]
    assert published.near(800) == []
    assert set(published.near(196)) == {"kvasir_sessile", "etis_larib"}


def test_as_many_pairs_as_another_set_has_names_that_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniatures.flat(tmp_path)
    monkeypatch.setitem(SETS, "cvc_300", SETS["cvc_300"]._replace(published={"pairs": 6}))
    with pytest.raises(
        ValueError, match=r"6 pairs instead of 1,000; about as many pairs as CVC-300, .* has \(6\): evaluate\.dataset=cvc_300$"
    ):
        datasets.listed(str(tmp_path), "kvasir_seg")


def test_of_a_part_of_a_set_nothing_may_be_more_than_the_whole_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniatures.flat(tmp_path)
    assert len(datasets.listed(str(tmp_path), "kvasir_seg", 6)) == 6
    monkeypatch.setitem(SETS, "kvasir_seg", SETS["kvasir_seg"]._replace(published={"pairs": 4}))
    with pytest.raises(ValueError, match=r"6 pairs instead of 4\. A part of it has no more; .* evaluate\.dataset=folder takes any"):
        datasets.listed(str(tmp_path), "kvasir_seg", 6)


def test_downloads_that_were_not_finished_on_either_side_are_told_with_counts(tmp_path: Path) -> None:
    miniatures.flat(tmp_path)
    for part, ending in (("images", ".jpg.part"), ("masks", ".png.crdownload")):
        (tmp_path / part / f"lost{ending}").write_bytes(b"")
    told = r"downloads were not finished, 1 beside 6 pictures in images/ and 1 beside 6 pictures in masks/; the first is .*lost\.jpg\.part"
    with pytest.raises(ValueError, match=told):
        datasets.listed(str(tmp_path))
    for path in (*tmp_path.glob("*/*.part"), *tmp_path.glob("*/*.crdownload")):
        path.with_suffix("").write_bytes(b"")  # finished after all
        path.rename(path.with_suffix(""))
    done = sorted((tmp_path / "images").glob("*.jpg"))[0]
    done.with_name(f"{done.name}.part").write_bytes(b"")
    for path in tmp_path.glob("*/lost*"):
        path.unlink()
    assert len(datasets.listed(str(tmp_path))) == 6


def test_lists_name_the_parts_and_what_they_lack_is_told(tmp_path: Path) -> None:
    miniatures.instrument(tmp_path)
    split = datasets.pairs(str(tmp_path), 0.9, seed=5)
    assert [pair.name for pair in split.test] == ["c4", "c5"]
    (tmp_path / "test.txt").write_text("c4.jpg\n")
    with pytest.raises(ValueError, match=r"1 of 6 are in none of train\.txt, test\.txt, the first is c5"):
        datasets.pairs(str(tmp_path), 0.9, seed=5)
    (tmp_path / "test.txt").write_text("c4\nc5\nc6\n")
    with pytest.raises(ValueError, match=r"1 of 7 that train\.txt, test\.txt name are not there, the first is c6"):
        datasets.pairs(str(tmp_path), 0.9, seed=5)
    (tmp_path / "test.txt").write_text("c3\nc4\nc5\n")
    with pytest.raises(ValueError, match="name 1 pictures twice"):
        datasets.pairs(str(tmp_path), 0.9, seed=5)
    (tmp_path / "test.txt").write_bytes("Gr\xfc\xdfe".encode("latin-1"))
    with pytest.raises(ValueError, match=r"test\.txt is no text in UTF-8, at byte 2"):
        datasets.pairs(str(tmp_path), 0.9, seed=5)


def test_lists_may_name_files_in_their_folder(tmp_path: Path) -> None:
    miniatures.instrument(tmp_path)
    (tmp_path / "train.txt").write_text("".join(f"images/c{number}.jpg\n" for number in range(4)))
    (tmp_path / "test.txt").write_text("set\\images\\c4.jpg\nc5.jpg\n")
    assert [pair.name for pair in datasets.pairs(str(tmp_path), 0.9, seed=5).test] == ["c4", "c5"]


@pytest.mark.parametrize(
    ("kept", "sentence"), [("train.txt", r"has train\.txt and no test\.txt or val\.txt"), ("test.txt", r"has test\.txt and no train\.txt")]
)
def test_a_list_without_the_other_is_refused(kept: str, sentence: str, tmp_path: Path) -> None:
    miniatures.instrument(tmp_path)
    (tmp_path / ({"train.txt", "test.txt"} - {kept}).pop()).unlink()
    with pytest.raises(ValueError, match=f"{sentence}: both say who trains"):
        datasets.pairs(str(tmp_path), 0.9, seed=5)


def test_a_training_image_that_is_byte_for_byte_tested_on_is_left_out(tmp_path: Path) -> None:
    miniatures.instrument(tmp_path)
    (tmp_path / "images/c0.jpg").write_bytes((tmp_path / "images/c4.jpg").read_bytes())
    split = datasets.pairs(str(tmp_path), 0.9, seed=5)
    assert split.left_out == ("c0",)
    assert [pair.name for pair in split.train] == ["c1", "c2", "c3"]


def test_an_index_names_groups_and_must_name_all(tmp_path: Path) -> None:
    miniatures.flat(tmp_path)
    (tmp_path / "index.csv").write_text("key,centre,patient\n" + "".join(f"c{n},X,p{n // 2}\n" for n in range(6)))
    split = datasets.pairs(str(tmp_path), 0.34, seed=1)
    assert {pair.group for pair in (*split.train, *split.test)} == {"p0", "p1", "p2"}  # the finest that is named
    assert {pair.group for pair in split.train}.isdisjoint(pair.group for pair in split.test)
    (tmp_path / "index.csv").write_text("key,patient\nc0,p0\n")
    with pytest.raises(ValueError, match="tells the patient of 1 of 6 images, not that of c1"):
        datasets.pairs(str(tmp_path), 0.34, seed=1)


@pytest.mark.parametrize(
    "header", ["image;Patient ID", "image\tSubject", "file,patient_name", "image, Patient-ID ", "\ufeffname;size;PatientID"]
)
def test_an_index_is_read_whatever_its_separator_and_spelling(header: str, tmp_path: Path) -> None:
    miniatures.flat(tmp_path)
    separator = next(letter for letter in ";\t," if letter in header)
    between = separator.join(["", *["9"] * (header.count(separator) - 1), ""])
    lines = [f"images/c{n}.jpg{between}p{n // 2} " for n in range(6)]
    (tmp_path / "index.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    assert {pair.name: pair.group for pair in datasets.listed(str(tmp_path))} == {f"c{n}": f"p{n // 2}" for n in range(6)}


def test_an_index_that_tells_no_groups_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    miniatures.flat(tmp_path)
    (tmp_path / "index.csv").write_text("key,pid\n" + "".join(f"c{n},p{n // 2}\n" for n in range(6)))
    assert not any(pair.group for _ in range(2) for pair in datasets.listed(str(tmp_path)))
    (said,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "index.csv has the columns key, pid and none of patient, patient_id, " in said


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"index\.csv is empty, expected a line of columns"),
        ("key,patient\nc0,M\xfcller\n".encode("latin-1"), r"index\.csv is no text in UTF-8, at byte 16"),
        (
            "".join(["key,patient\n", *(f"c{n},p{n // 2}\n" for n in range(6)), "c0,p2\n"]).encode(),
            "gives 1 of 6 images more than one patient, the first is c0: p0 and p2",
        ),
        (
            b'key,patient\nc0,p0\nc1,"p0\n' + b"c2,p1\n" * 30000,
            r"index\.csv cannot be read at line 21848: field larger than field limit \(131072\); is a quote before it never closed\?",
        ),
        (b"key,patient," + b"x" * 140000, r"index\.csv cannot be read at line 1: field larger than field limit"),
        (b"patient,key\np0,c0\n", "tells the patient of 0 of 6 images, not that of c0; its first column names the images"),
    ],
)
def test_an_index_that_cannot_be_followed_is_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    miniatures.flat(tmp_path)
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        datasets.listed(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'frame_id,sequence_id\n1,"1\n' + b"2,1\n" * 40000, r"metadata\.csv cannot be read at line \d+: field larger than field limit"),
        (b"frame,sequence_id\n1,1\n", r"metadata\.csv has the columns frame, sequence_id and no frame_id"),
        ("frame_id,sequence_id\n1,\xfc\n".encode("latin-1"), r"metadata\.csv is no text in UTF-8"),
    ],
)
def test_a_table_of_sequences_that_cannot_be_followed_is_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    miniatures.clinic(tmp_path)
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        datasets.listed(str(tmp_path), "cvc_clinicdb")


def test_masks_that_are_no_masks_are_told_by_what_they_hold(tmp_path: Path) -> None:
    miniatures.flat(tmp_path)
    cv2.imwrite(str(tmp_path / "masks/c1.jpg"), miniatures.noise(1))
    (tmp_path / "images/c2.jpg").write_bytes((tmp_path / "images/c2.jpg").read_bytes()[:-40])
    cv2.imwrite(str(tmp_path / "masks/c3.jpg"), np.zeros((5, 5), np.uint8))
    counts, faults = datasets.surveyed(datasets.listed(str(tmp_path)), ("polyp",))
    assert counts["polyp"] == 3
    told = " | ".join(faults)
    assert "c1.jpg holds" in told
    assert "neither black nor white; masks hold 0 and 255" in told
    assert "c2.jpg cannot be decoded, it breaks off after" in told
    assert "c3.jpg is 5x5 px" in told
    with pytest.raises(ValueError, match=r"1 of 6 masks are of another size than their image: .*c3\.jpg is 32x24 px"):
        datasets.pairs(str(tmp_path), 0.34, 0)


def test_a_class_that_is_in_no_mask_is_told(tmp_path: Path) -> None:
    split = datasets.chosen(EvaluateConfig(uri=str(miniatures.coco(tmp_path)), dataset="coco", test_share=0.34), 0)
    datasets.require_classes(split)
    with pytest.raises(ValueError, match=rf"stent: in none of the {len(split.train)} masks to train on"):
        datasets.require_classes(split._replace(classes=("tool", "polyp", "stent")))


def test_a_mask_is_shrunk_to_the_class_that_has_most_of_each_pixel() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (32, 32), p=(0.4, 0.3, 0.2, 0.1))
    from engine.datasets.pair import shrunk

    blocks = labels.reshape(8, 4, 8, 4).swapaxes(1, 2).reshape(8, 8, 16)
    made = shrunk(labels, 8)
    counts = np.stack([(blocks == number).sum(-1) for number in (0, 1, 2, 255)], -1)
    mine = np.take_along_axis(counts, np.searchsorted([0, 1, 2, 255], made)[..., None], -1)[..., 0]
    assert (mine == counts.max(-1)).all()


@pytest.mark.data
@pytest.mark.skipif(not KVASIR.is_dir(), reason="../shared/data is absent")
def test_kvasir_seg_that_lacks_two_images_is_recognised_where_polypgen_was_meant() -> None:
    with pytest.raises(FileNotFoundError, match=r"looks like Kvasir-SEG \(998 pairs, published 1,000 pairs\).*PolypGen2021.* to be had at"):
        datasets.listed(str(KVASIR), "polypgen")


@pytest.mark.data
@pytest.mark.skipif(not POLYPGEN.is_dir(), reason="../shared/data is absent")
def test_the_two_real_sets_are_as_published_but_for_two_images() -> None:
    published.check("polypgen", datasets.listed(str(POLYPGEN), "polypgen"), str(POLYPGEN))
    split = datasets.chosen(EvaluateConfig(uri=str(POLYPGEN), dataset="polypgen", test_groups=("C6",)), 0)
    assert (len(split.train), len(split.test)) == (1449, 88)
    with pytest.raises(ValueError, match="998 pairs instead of 1,000"):
        datasets.listed(str(KVASIR), "kvasir_seg")
    for root, name, counts in ((KVASIR, "kvasir_seg", {"polyp": 998, "": 0}), (POLYPGEN, "polypgen", {"polyp": 1411, "": 126})):
        assert datasets.surveyed(datasets.every(str(root), name), ("polyp",)) == (counts, [])
