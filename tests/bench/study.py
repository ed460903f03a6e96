"""The pool and the test sets of the benchmark on real images, made of the folders that data/MANIFEST.md describes.

    python -m tests.bench.study DATA FOLDER             # or FOLDER alone: simulated clips as the pool, the second study
    cd FOLDER
    endocurate ingest tiny videos.uri=pool store.uri=stores/crops patches.proposer=crops patches.whole_frames=true
    cp stores/crops/scorers/????????????.safetensors stores/scorer.safetensors
    endocurate ingest tiny videos.uri=pool store.uri=stores/regions difficulty.checkpoint=stores/scorer.safetensors
    endocurate benchmark study.yaml benchmark.stores=stores benchmark.data=sets

No image is in the pool and tested on: a third of Kvasir-SEG, by a hash of the name, and a third of PolypGen's centres C1 to C4 go
into the pool, a folder for each; tested are the rest of Kvasir-SEG and the centres C5 and C6. One scorer, that of the crops, serves both
stores, so that difficulties compare. What came of it, and its picture, are kept beside the README, whose table a test compares:

    python -m tests.bench.study results STORE small     # docs/benchmark.csv, -together.csv and .png of the newest rows of a matrix
    python -m tests.bench.study results STORE simclr    # docs/benchmark-simclr.csv of the newest rows of study_simclr.yaml
    python -m tests.bench.study results STORE simulated    # -simulated.csv and -simulated-together.csv: study_simulated.yaml
    python -m tests.bench.study picture                 # the picture anew, by the file
"""

import csv
import hashlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from engine import simulate, verdicts
from engine.entries import FULL
from engine.standings import standings
from engine.store import PatchStore
from jobs import matrices

DOCS = Path(__file__).parents[2] / "docs"
TABLE, PICTURE = DOCS / "benchmark.csv", DOCS / "benchmark.png"
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


def results_of(uri: str, name: str) -> Iterator[dict[str, str]]:
    """A row for each data set, method and budget of a matrix in a store: mean mIoU and half of its 95 % interval over seeds."""
    every = [row for row in PatchStore(uri).results().to_pylist() if row["matrix"] == name]
    commits = {(row["dataset"], row["method"], row["budget"]): row["commit"] for row in every}
    for board in matrices.results_of(name, every).boards:
        for one in standings(board):
            mean, low, high = one.miou
            told = {"dataset": board.dataset, "method": one.method, "budget": f"{one.budget:g}", "miou": f"{mean:.3f}"}
            spread = {"half": f"{max(high - mean, mean - low):.3f}", "seeds": str(one.seeds)}
            yield told | spread | {"commit": commits[board.dataset, one.method, one.budget]}


def together_of(uri: str, name: str) -> Iterator[dict[str, str]]:
    """A row for each verdict over all cells of a matrix in a store; p-values before and after Holm's correction."""
    every = [row for row in PatchStore(uri).results().to_pylist() if row["matrix"] == name]
    for whole in verdicts.wholes(matrices.results_of(name, every)):
        for one in whole.verdicts:
            told, flips = one.advantage.contrast, one.flips
            yield {
                "architecture": whole.architecture,
                "method": one.method,
                "over": one.other,
                "cells": str(one.cells),
                "seeds": str(told.seeds),
                "difference": f"{told.difference:+z.3f}",
                "low": f"{told.low:+z.3f}",
                "high": f"{told.high:+z.3f}",
                "p_seeds": f"{told.p:.2g}",
                "p_seeds_holm": f"{one.advantage.corrected:.2g}",
                "models": str(flips.units) if flips else "",
                "models_ahead": str(flips.ahead) if flips else "",
                "p_flips": f"{flips.p:.2g}" if flips else "",
                "p_flips_holm": f"{flips.corrected:.2g}" if flips else "",
            }


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def picture(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Every method at every budget with its interval, a panel for each data set, beside the line of all data."""
    sets = list(dict.fromkeys(row["dataset"] for row in rows))
    _, panels = plt.subplots(1, len(sets), figsize=(11, 5), sharey=True, layout="constrained")
    for name, panel in zip(sets, np.atleast_1d(panels), strict=True):
        mine = [row for row in rows if row["dataset"] == name]
        labels = [f"{row['method']} {float(row['budget']):.0%}" if 0 < float(row["budget"]) < 1 else row["method"] for row in mine]
        means, halves = ([float(row[column]) for row in mine] for column in ("miou", "half"))
        panel.errorbar(means, labels, xerr=halves, fmt="o", color="#222222", ecolor="#bbbbbb", markersize=5)
        panel.axvline(next(mean for mean, row in zip(means, mine, strict=True) if row["method"] == FULL), linestyle=":", color="#117766")
        panel.set_xlabel(f"mIoU on {name}, 95 % intervals over {mine[0]['seeds']} seeds")
        panel.spines[["top", "right"]].set_visible(False)
    plt.savefig(path, dpi=100)


def kept() -> list[dict[str, str]]:
    with TABLE.open(newline="") as lines:
        return list(csv.DictReader(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["results"]:
        _, _, uri, name = sys.argv
        stem = TABLE.stem if name == "small" else f"{TABLE.stem}-{name}"
        write(DOCS / f"{stem}.csv", list(results_of(uri, name)))
        if found := list(together_of(uri, name)):
            write(DOCS / f"{stem}-together.csv", found)
    if sys.argv[1] in ("results", "picture"):
        picture(kept(), PICTURE)
    elif len(sys.argv) == 3:
        real(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        simulated(Path(sys.argv[1]))
