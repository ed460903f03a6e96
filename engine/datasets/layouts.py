"""The folders that data sets come in: of each a function from its root to its pairs, with groups and the set's own parts.

FileNotFoundError says which folders were expected, ValueError which files have no partner. What a layout is known from stands in its
docstring; it was learnt from what others wrote, none but two of the sets lay here: "seen" means in the data itself.
"""

import re
from pathlib import Path

from engine.datasets import coco, volumes
from engine.datasets.folders import beside, by_stem, first, listed, paired
from engine.datasets.groups import GROUPS, table, text_of
from engine.datasets.pair import Pair, Part

Ranges = dict[Part, list[tuple[int, int]]]  # frame numbers, both ends in
# Of CVC-EndoSceneStill, whose frames are numbered through (arXiv 1612.00799; the ranges are those of public loaders and add up to the
# published 547, 183 and 182). Each is of other patients than the rest, so one is a group; the validation part trains.
CVC_300: Ranges = {"train": [(1, 76), (98, 148), (221, 273), (77, 97), (209, 220), (274, 300)], "test": [(149, 208)]}
CVC_612: Ranges = {
    "train": [(26, 50), (104, 126), (178, 227), (253, 317), (384, 503), (529, 612), (51, 103), (228, 252), (318, 342), (364, 383)],
    "test": [(1, 25), (127, 177), (343, 363), (504, 528)],
}
EDD = ("BE", "suspicious", "HGD", "cancer", "polyp")  # in the order in which they are drawn: the more severe lies on top
IDRID = (("5. Optic Disc", "OD", 5), ("3. Hard Exudates", "EX", 3), ("4. Soft Exudates", "SE", 4), ("2. Haemorrhages", "HE", 2),
         ("1. Microaneurysms", "MA", 1))  # fmt: skip
UNMASKED = re.compile(r"[_-]?masks?$", re.IGNORECASE)


def flat(root: Path) -> list[Pair]:
    """images/ and masks/ with the same stems, as Simula's sets come, and all five of PraNet's test sets; with lists and an index, where
    there are. Seen (Kvasir-SEG); Kvasir-SEG's lists of 880 and 120 are in the repository of its authors, not in its archive."""
    first(root, [("images", "masks")])
    return listed(root)


def clinic(root: Path) -> list[Pair]:
    """CVC-ClinicDB: `Original/1.tif` and `Ground Truth/1.tif` (a copy has both under PNG/ or TIF/), or as `flat`.

    A sequence is a group, by the metadata.csv of that copy (frame_id, sequence_id); else the ranges of CVC-EndoSceneStill are.
    """
    images, masks = first(root, [("Original", "Ground Truth"), ("PNG/Original", "PNG/Ground Truth"), ("TIF/Original", "TIF/Ground Truth"),
                                 ("images", "masks")])  # fmt: skip
    found = beside(images, masks)
    told = sequences(root / "metadata.csv")
    return [pair._replace(group=told.get(pair.name, "") or ranged(pair.name, CVC_612)[1]) for pair in found]


def sequences(metadata: Path) -> dict[str, str]:
    """The sequence of every frame by id, from a set's table; none where there is no table. ValueError where it cannot be read."""
    if not metadata.is_file():
        return {}
    columns, rows = table(metadata, text_of(metadata))
    if "sequence_id" not in columns:
        return {}
    if "frame_id" not in columns:
        raise ValueError(f"{metadata} has the columns {', '.join(columns)} and no frame_id, whose sequence_id each is")
    return {row["frame_id"]: f"sequence {row['sequence_id']}" for row in rows if row["sequence_id"]}


def ranged(stem: str, ranges: Ranges) -> tuple[Part, str]:
    """The part that a numbered frame is in, and its range as a name; ("", "") for another name."""
    number = int(stem) if stem.isdigit() else 0
    found = [(part, f"{low}-{high}") for part, some in ranges.items() for low, high in some if low <= number <= high]
    return found[0] if found else ("", "")


def endoscene(root: Path) -> list[Pair]:
    """CVC-EndoSceneStill: CVC-300/bbdd/1.bmp with gtpolyp/1.bmp, CVC-612/bbdd/1.bmp with gtpolyp/1.tif (public loaders), and its own parts.

    Its other classes (lumen, glare, void) have folders of their own, which are not read.
    """
    made = []
    for half, ranges in (("CVC-300", CVC_300), ("CVC-612", CVC_612)):
        images, masks = first(root, [(f"{half}/bbdd", f"{half}/gtpolyp")])
        for pair in beside(images, masks):
            part, group = ranged(pair.name, ranges)
            made.append(pair._replace(name=f"{half}-{pair.name}", group=f"{half} {group or pair.name}", part=part or "train"))
    return made


def etis(root: Path) -> list[Pair]:
    """ETIS-Larib: `ETIS-LaribPolypDB/1.tif` and `Ground Truth/p1.tif` in one archive (public loaders), or as `flat`. No groups are told."""
    images, masks = first(root, [("ETIS-LaribPolypDB", "Ground Truth"), ("images", "masks")])
    return beside(images, masks, lambda stem: stem.removeprefix("p") if masks.name == "Ground Truth" else stem)


def colon(root: Path) -> list[Pair]:
    """CVC-ColonDB, 380: `CVC-ColonDB/1.tiff` with p1.tiff beside it (public code; other prefixes are outlines), or as `flat`."""
    if (root / "images").is_dir() or not (root / "CVC-ColonDB").is_dir():
        first(root, [("images", "masks")])
        return beside(root / "images", root / "masks")
    every = by_stem(root / "CVC-ColonDB")
    images = {stem: path for stem, path in every.items() if stem.isdigit()}
    masks = {stem[1:]: path for stem, path in every.items() if re.fullmatch(r"p\d+", stem)}
    return paired(images, masks, f"evaluate.uri={root}", "CVC-ColonDB")


def clinic_video(root: Path) -> list[Pair]:
    """CVC-VideoClinicDB ("CVC-12k"): a folder for each video with 1_1.png and 1_1_mask.png. From one public script, not checked.

    FileNotFoundError where nothing lies so.
    """
    made = []
    for video in sorted(path for path in root.iterdir() if path.is_dir()):
        every = by_stem(video)
        masks = {bare(stem): path for stem, path in every.items() if UNMASKED.search(stem)}
        images = {stem: path for stem, path in every.items() if not UNMASKED.search(stem)}
        if masks:
            found = paired(images, masks, f"evaluate.uri={root}", video.name)
            made += [pair._replace(name=f"{video.name}/{pair.name}", group=video.name) for pair in found]
    if not made:
        raise FileNotFoundError(f"{root} has no folder of a video with frames and masks (1/1_1.png and 1/1_1_mask.png)")
    return made


def bare(stem: str) -> str:
    """A stem without what tells masks apart."""
    return UNMASKED.sub("", stem)


def polypgen(root: Path) -> list[Pair]:
    """PolypGen2021's single frames: data_C1/images_C1/x.jpg and masks_C1/x_mask.jpg to C6 (public loaders); a centre is a group.

    Or a copy as `flat` with an index.csv that names the centres (seen).
    """
    if (root / "index.csv").is_file():
        return flat(root)
    made = []
    for number in range(1, 7):
        centre = f"C{number}"
        images, masks = first(root, [(f"data_{centre}/images_{centre}", f"data_{centre}/masks_{centre}")])
        made += [pair._replace(name=f"{centre}/{pair.name}", group=centre) for pair in beside(images, masks, bare)]
    return made


def polypgen_sequences(root: Path) -> list[Pair]:
    """PolypGen2021's positive sequences: sequenceData/positive/seq1/images_seq1 and masks_seq1 (public loaders); a sequence is a group.

    Of which centre a sequence is, its folder does not tell: do not train on these and test on a centre of the single frames.
    FileNotFoundError where nothing lies so.
    """
    top = root / "sequenceData" / "positive"
    found = sorted(top.glob("seq*"))
    if not found:
        raise FileNotFoundError(f"{root} has no sequenceData/positive/seq1/ with images_seq1/ and masks_seq1/")
    made = []
    for sequence in found:
        images, masks = first(sequence, [(f"images_{sequence.name}", f"masks_{sequence.name}")])
        made += [pair._replace(name=f"{sequence.name}/{pair.name}", group=sequence.name) for pair in beside(images, masks, bare)]
    return made


def edd(root: Path) -> list[Pair]:
    """EDD2020: originalImages/x.jpg and masks/x_BE.tif, x_polyp.tif and so on, one for each class that is there (public loaders).

    ValueError for masks without an image or a class.
    """
    images, masks = first(root, [("originalImages", "masks")])
    found = by_stem(masks)
    named = [(number, f"_{name}") for number, name in enumerate(EDD, 1)]
    shown = by_stem(images)
    known = {stem + end for stem in shown for _, end in named}
    if alone := [path for stem, path in found.items() if stem not in known]:
        raise ValueError(
            f"evaluate.uri={root}: {len(alone)} of {len(found)} masks have no image, or name no class; the first is {alone[0]}"
        )
    made = [with_parts(stem, image, [(number, found.get(stem + end)) for number, end in named]) for stem, image in shown.items()]
    return complete(made, root)


def with_parts(name: str, image: Path, parts: list[tuple[int, Path | None]]) -> Pair:
    """An image with one mask a class, by class number; without any mask the image stands for it, for `complete` to refuse."""
    there = tuple((number, path) for number, path in parts if path is not None)
    return Pair(name, image, there[0][1] if there else image, coding="parts", parts=there)


def complete(pairs: list[Pair], root: Path) -> list[Pair]:
    """The same pairs; ValueError where some have no mask of any class."""
    if alone := [pair for pair in pairs if not pair.parts]:
        raise ValueError(f"evaluate.uri={root}: {len(alone)} of {len(pairs)} have no mask of any class, the first is {alone[0].image}")
    return pairs


def ead(root: Path) -> list[Pair]:
    """EAD2019, semantic segmentation: original_images/x.jpg and masks/x_mask.tif with five pages.

    Partly from memory, not checked: public code has pages 1, 2 and 5 as instrument, specularity and saturation.
    """
    images, masks = first(root, [("original_images", "masks")])
    return [pair._replace(coding="pages") for pair in beside(images, masks, bare)]


def idrid(root: Path) -> list[Pair]:
    """IDRiD: `A. Segmentation` with 54 and 27 images, and lesions as IDRiD_01_MA.tif and so on where an image has them (public loaders)."""
    root = root / "A. Segmentation" if (root / "A. Segmentation").is_dir() else root
    made = []
    parts: dict[str, Part] = {"a. Training Set": "train", "b. Testing Set": "test"}
    for folder, part in parts.items():
        images, masks = first(root, [(f"1. Original Images/{folder}", f"2. All Segmentation Groundtruths/{folder}")])
        for stem, image in by_stem(images).items():
            files = [(number, masks / kind / f"{stem}_{short}.tif") for kind, short, number in IDRID]
            made.append(with_parts(stem, image, [(number, path if path.is_file() else None) for number, path in files])._replace(part=part))
    return complete(made, root)


def acdc(root: Path) -> list[Pair]:
    """ACDC: training/patient001/patient001_frame01.nii.gz with patient001_frame01_gt.nii.gz, testing/ alike (public loaders).

    Two volumes a patient, every slice an image; a patient is a group, and the set's own parts hold. FileNotFoundError where nothing lies
    so.
    """
    root = root / "database" if (root / "database").is_dir() else root
    made = []
    parts: dict[str, Part] = {"training": "train", "testing": "test"}
    for folder, part in parts.items():
        truths = sorted((root / folder).glob("patient*/patient*_frame*_gt.nii*"))
        if not truths:
            raise FileNotFoundError(f"{root} has no {folder}/patient001/patient001_frame01_gt.nii.gz or the like")
        for mask in truths:
            made += sliced(mask, part)
    return made


def sliced(mask: Path, part: Part) -> list[Pair]:
    """Every slice of a volume as a pair, all of one group; ValueError where there is no volume beside the mask."""
    image = mask.with_name(mask.name.replace("_gt.", "."))
    if not image.is_file():
        raise ValueError(f"{mask} has no volume {image.name} beside it")
    pair = Pair(image.name.partition(".")[0], image, mask, mask.parent.name, part, "volume")
    return [pair._replace(name=f"{pair.name}/{at}", at=at) for at in range(volumes.slices(mask))]


def covid(root: Path) -> list[Pair]:
    """COVID-QU-Ex: `Infection Segmentation Data` with Train, Val, Test, in each COVID-19, Non-COVID, Normal, in each images and
    `infection masks` (public loaders); Val trains. Patients are not told."""
    while (inner := root / "Infection Segmentation Data").is_dir():  # the archive has it twice
        root = inner
    parts: dict[str, Part] = {"Train": "train", "Val": "train", "Test": "test"}
    made = []
    for folder, part in parts.items():
        for kind in ("COVID-19", "Non-COVID", "Normal"):
            images, masks = first(root, [(f"{folder}/{kind}/images", f"{folder}/{kind}/infection masks")])
            made += [pair._replace(name=f"{folder}/{kind}/{pair.name}", part=part) for pair in beside(images, masks)]
    return made


def coco_file(path: Path) -> list[Pair]:
    """The images of a COCO file, which lie beside it or in images/ beside it; what it says of patient, video or centre is the group.

    ValueError where images are missing.
    """
    told = coco.images(path)
    made = []
    for one in told:
        places = [top / one["file_name"] for top in (path.parent, path.parent / "images")]
        image = next((place for place in places if place.is_file()), places[0])
        group = next((str(one[name]) for name in GROUPS if name in one), "")
        made.append(Pair(f"{one['id']}", image, path, group, coding="coco", at=one["id"]))
    if missing := [pair.image for pair in made if not pair.image.is_file()]:
        raise ValueError(f"{path} names {len(made)} images, {len(missing)} are not there, the first is {missing[0]}")
    return made
