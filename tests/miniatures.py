"""Data sets in small, in the folders and names of the real ones: a few noise images with discs for masks."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import tifffile

from engine.datasets import published
from engine.datasets.layouts import EDD, IDRID

HEIGHT, WIDTH = 24, 32


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def disc(seed: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return ((rows - 12) ** 2 + (columns - 16) ** 2 < (4 + seed % 5) ** 2).astype(np.uint8) * 255


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def pair(image: Path, mask: Path, seed: int) -> None:
    put(image, noise(seed))
    put(mask, disc(seed))


def flat(root: Path) -> None:
    for number in range(6):
        pair(root / f"images/c{number}.jpg", root / f"masks/c{number}.jpg", number)


def instrument(root: Path) -> None:
    for number in range(6):
        pair(root / f"images/c{number}.jpg", root / f"masks/c{number}.png", number)
    (root / "train.txt").write_text("".join(f"c{number}\n" for number in range(4)))
    (root / "test.txt").write_text("c4\nc5\n")


def etis(root: Path) -> None:
    for number in range(1, 6):
        pair(root / f"ETIS-LaribPolypDB/{number}.tif", root / f"Ground Truth/p{number}.tif", number)


def clinic(root: Path) -> None:
    for number in range(1, 7):
        pair(root / f"PNG/Original/{number}.png", root / f"PNG/Ground Truth/{number}.png", number)
    with (root / "metadata.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([["frame_id", "sequence_id", "frame_number"], *([n, 1 + (n > 3) + (n > 5), n] for n in range(1, 7))])


def colon(root: Path) -> None:
    for number in range(1, 6):
        pair(root / f"CVC-ColonDB/{number}.tiff", root / f"CVC-ColonDB/p{number}.tiff", number)
        put(root / f"CVC-ColonDB/cp{number}.tiff", disc())


def video(root: Path) -> None:
    for film in (1, 2, 3):
        for frame in (1, 2):
            pair(root / f"{film}/{film}_{frame}.png", root / f"{film}/{film}_{frame}_mask.png", 10 * film + frame)


def endoscene(root: Path) -> None:
    for half, ending, numbers in (("CVC-300", "bmp", (1, 2, 149, 150)), ("CVC-612", "tif", (26, 51, 1))):
        for number in numbers:
            pair(root / half / f"bbdd/{number}.bmp", root / half / f"gtpolyp/{number}.{ending}", number + 1000 * (half == "CVC-612"))


def polypgen(root: Path) -> None:
    for centre in range(1, 7):
        for number in range(2):
            top = root / f"data_C{centre}"
            pair(top / f"images_C{centre}/x{number}.jpg", top / f"masks_C{centre}/x{number}_mask.jpg", 10 * centre + number)


def sequences(root: Path) -> None:
    for number in range(1, 4):
        top = root / f"sequenceData/positive/seq{number}"
        for frame in range(2):
            pair(top / f"images_seq{number}/C6_{frame}.jpg", top / f"masks_seq{number}/C6_{frame}_mask.jpg", 10 * number + frame)


def edd(root: Path) -> None:
    for number, names in enumerate((("BE",), ("polyp", "suspicious"), ("HGD", "cancer"))):
        put(root / f"originalImages/EDD2020_A{number}.jpg", noise(number))
        for name in names:
            put(root / f"masks/EDD2020_A{number}_{name}.tif", disc(EDD.index(name)))


def ead(root: Path) -> None:
    for number in range(4):
        put(root / f"original_images/0000{number}.jpg", noise(number))
        (root / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(root / f"masks/0000{number}_mask.tif", np.stack([disc() * (page in (number, 4)) for page in range(5)]))


def idrid(root: Path) -> None:
    for folder, numbers in (("a. Training Set", (1, 2, 3)), ("b. Testing Set", (55, 56))):
        top = root / "A. Segmentation"
        for number in numbers:
            put(top / f"1. Original Images/{folder}/IDRiD_{number:02d}.jpg", noise(number))
            for kind, short, wanted in IDRID:
                if short == "OD" or number % 5 == wanted - 1:
                    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
                    red[..., 2] = disc(4 if short == "OD" else 0)
                    put(top / f"2. All Segmentation Groundtruths/{folder}/{kind}/IDRiD_{number:02d}_{short}.tif", red)


def acdc(root: Path) -> None:
    for folder, patients in (("training", (1, 2)), ("testing", (101,))):
        for patient in patients:
            for frame in (1, 12):
                path = root / f"database/{folder}/patient{patient:03d}/patient{patient:03d}_frame{frame:02d}"
                path.parent.mkdir(parents=True, exist_ok=True)
                rng = np.random.default_rng([patient, frame])
                volume = rng.integers(0, 900, (WIDTH, HEIGHT, 3), dtype=np.int16)
                truth = np.zeros((WIDTH, HEIGHT, 3), np.uint8)
                truth[4:12, 6:10], truth[12:20, 6:10], truth[20:28, 6:10] = 1, 2, 3
                nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), f"{path}.nii.gz")
                nibabel.save(nibabel.Nifti1Image(truth, np.eye(4)), f"{path}_gt.nii.gz")


def covid(root: Path) -> None:
    top = root / "Infection Segmentation Data/Infection Segmentation Data"
    for seed, part in enumerate(("Train", "Val", "Test")):
        for place, kind in enumerate(("COVID-19", "Non-COVID", "Normal")):
            for number in range(2):
                name = f"{part}/{kind}/images/covid_{number}.png"
                put(top / name, noise(100 * seed + 10 * place + number))
                put(top / name.replace("images", "infection masks"), disc() * (kind == "COVID-19"))
                put(top / name.replace("images", "lung masks"), disc())


def coco(root: Path) -> Path:
    """Two categories; in every image a rectangle of each that overlap, and in the first one a crowd."""
    images, annotations = [], []
    for number in range(1, 7):
        put(root / f"images/{number}.png", noise(number))
        images.append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT, "patient_id": (number + 1) // 2})
        for category, box in ((7, (2, 2, 20, 20)), (3, (10, 10, 16, 16))):
            x0, y0, x1, y1 = box
            outline = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": category, "segmentation": outline, "iscrowd": 0}
            )
    crowd = {"counts": [0, HEIGHT, HEIGHT * (WIDTH - 1)], "size": [HEIGHT, WIDTH]}  # the first column
    annotations.append({"id": 99, "image_id": 1, "category_id": 3, "segmentation": crowd, "iscrowd": 1})
    told = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "tool"}, {"id": 7, "name": "polyp"}]}
    (root / "file.json").write_text(json.dumps(told))
    return root / "file.json"


# name -> (what writes it, what its counts come to)
SETS: dict[str, tuple[Callable[[Path], None], dict[str, int]]] = {
    "kvasir_seg": (flat, {"pairs": 6}),
    "kvasir_sessile": (flat, {"pairs": 6}),
    "kvasir_instrument": (instrument, {"pairs": 6, "train": 4, "test": 2}),
    "imageclefmed": (flat, {"pairs": 6}),
    "etis_larib": (etis, {"pairs": 5}),
    "polypgen": (polypgen, {"pairs": 12, "groups": 6, "C1": 2, "C6": 2}),
    "polypgen_sequences": (sequences, {"pairs": 6, "groups": 3}),
    "cvc_300": (flat, {"pairs": 6}),
    "endoscene": (endoscene, {"pairs": 7, "train": 4, "test": 3}),
    "cvc_clinicdb": (clinic, {"pairs": 6, "groups": 3}),
    "cvc_colondb": (colon, {"pairs": 5}),
    "cvc_12k": (video, {"pairs": 6, "groups": 3}),
    "ead2019": (ead, {"pairs": 4}),
    "edd2020": (edd, {"pairs": 3, **{f"masks of {name}": 1 for name in published.EDD}}),
    "acdc": (acdc, {"images": 6, "pairs": 18, "groups": 3, "train": 12, "test": 6}),
    "covid_qu_ex": (covid, {"pairs": 18, "train": 12, "test": 6}),
    "idrid": (idrid, {"pairs": 5, "train": 3, "test": 2, "masks of haemorrhages": 2, "masks of optic disc": 5}),
}
