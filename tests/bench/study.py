"""The pool and the test sets of the benchmark on real images, made of the folders that data/MANIFEST.md describes.

    python -m tests.bench.study DATA FOLDER             # or FOLDER alone: simulated clips as the pool, the second study
    cd FOLDER
    endocurate ingest tiny videos.uri=pool store.uri=stores/crops patches.proposer=crops patches.whole_frames=true
    cp stores/crops/scorers/????????????.safetensors stores/scorer.safetensors
    endocurate ingest tiny videos.uri=pool store.uri=stores/regions difficulty.checkpoint=stores/scorer.safetensors
    endocurate benchmark study.yaml benchmark.stores=stores benchmark.data=sets

No image is in the pool and tested on: a third of Kvasir-SEG, by a hash of the name, and a third of PolypGen's centres C1 to C4 go
into the pool, a folder for each; tested are the rest of Kvasir-SEG and the centres C5 and C6. One scorer, that of the crops, serves both
stores, so that difficulties compare.
"""

import csv
import hashlib
import shutil
import sys
from pathlib import Path

from engine import simulate

CENTRES = ("C1", "C2", "C3", "C4")
CLIPS = ("colonoscopy_polyp1.mp4", "gi_endoscopy_albuspeter_test.avi")


def third(name: str) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 3 == 0


def copy(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)


def real(data: Path, made: Path) -> None:
    """Fill made/pool and made/sets."""
    kvasir, polypgen = data / "seg" / "kvasir_seg_256", data / "seg" / "polypgen_352"
    masks = {path.stem: path for path in (kvasir / "masks").iterdir()}
    for image in sorted((kvasir / "images").iterdir()):
        if third(image.stem):
            copy(image, made / "pool" / "kvasir")
        else:
            copy(image, made / "sets" / "kvasir" / "images")
            copy(masks[image.stem], made / "sets" / "kvasir" / "masks")
    images = {path.stem: path for path in (polypgen / "images").iterdir()}
    for row in csv.DictReader((polypgen / "index.csv").read_text().splitlines()):
        if row["centre"] in CENTRES and third(row["key"]):
            copy(images[row["key"]], made / "pool" / f"polypgen_{row['centre']}")
    for name in CLIPS:
        copy(data / "video" / name, made / "pool")
    shutil.copytree(polypgen, made / "sets" / "polypgen")


def simulated(made: Path, clips: int = 40) -> None:
    """Clips of ten seconds, to be sampled twice a second (frames.every_s=0.5)."""
    simulate.write_clips(made / "pool", made / "truth", clips, seconds=10.0)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        real(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        simulated(Path(sys.argv[1]))
