"""python -m tests.bench.annotated STORE MASKS [MASKS ...]: what every method of selection keeps of polyps that people outlined.

STORE was taken in from folders of images (`ingest videos.uri=POOL patches.proposer=crops`); MASKS are folders with a mask of each by the
same name, whatever its suffix, as those of Kvasir-SEG and PolypGen. A patch shows a polyp if a quarter of it is one, our choice: the rim of
one in a corner is none. No method sees the masks.

Prints by method and budget: the share of what is kept that shows a polyp, less that of the pool, with 95 % over images drawn with
replacement; how many images have such a patch among the kept; and the share of artefacts as the guard of endocurate knows them.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from engine.pool import Pool
from engine.selection import endocurate
from engine.store import PatchStore
from tests.bench import ablation

SHARE = 0.25
BUDGETS = (0.05, 0.1, 0.25)
DRAWS = 1000
COLUMNS = sorted({*ablation.COLUMNS, "video_id", "box"})


def outlined(store, patches, folders):
    """The share of each patch that is polyp (N,). Pictures of a folder are counted in the order of their names."""
    masks = {path.stem: path for folder in folders for path in Path(folder).iterdir()}
    numbers = {row["frame_id"]: row["pts"] for row in store.open("frames").to_table(["frame_id", "pts"]).to_pylist()}
    files = {row["video_id"]: sorted(path.stem for path in Path(row["uri"]).iterdir()) for row in store.ledger().to_pylist()}
    read, found = {}, np.empty(len(patches))
    for place, row in enumerate(patches.select(["frame_id", "video_id", "box"]).to_pylist()):
        if (name := files[row["video_id"]][numbers[row["frame_id"]]]) not in read:
            read[name] = cv2.imread(str(masks[name]), cv2.IMREAD_GRAYSCALE) > 127
        y0, x0, y1, x1 = row["box"]
        found[place] = read[name][y0:y1, x0:x1].mean()
    return found


def spread(polyp, image, rows, draws):
    """95 % of the share of polyps among some rows less that among all, over images drawn with replacement."""
    kept, every = (np.bincount(image[some], minlength=draws.shape[1]) for some in (rows, np.arange(len(image))))
    hits, all_hits = (np.bincount(image[some], polyp[some], draws.shape[1]) for some in (rows, np.arange(len(image))))
    return np.quantile(draws @ hits / (draws @ kept) - draws @ all_hits / (draws @ every), (0.025, 0.975))


def main(uri, *folders):
    store = PatchStore(uri)
    version = store.complete_version()
    vectors = store.vectors(version)
    names = [scorer.name for scorer in store.scorers(version) if scorer.rated == len(vectors)]
    pool = Pool(store.patches(COLUMNS, version=version), vectors, store.earlier(version, names))
    polyp = outlined(store, pool.columns, folders) >= SHARE
    _, image = np.unique(pool.columns["frame_id"].to_pylist(), return_inverse=True)
    draws = np.random.default_rng(0).multinomial(image.max() + 1, np.full(image.max() + 1, 1 / (image.max() + 1)), DRAWS)
    artefact = endocurate.artefact_of(pool) > 1
    print(f"{len(pool):,} patches of {image.max() + 1:,} images; {polyp.mean():.3f} show a polyp")
    print(f"artefacts to the guard: {artefact[polyp].mean():.3f} of these, {artefact[~polyp].mean():.3f} of the others")
    for budget in BUDGETS:
        for name, rows in ablation.chosen(pool, budget):
            low, high = spread(polyp, image, rows, draws)
            more, shown = polyp[rows].mean() - polyp.mean(), len(set(image[rows][polyp[rows]]))
            told = f"{polyp[rows].mean():.3f} {more:+.3f} [{low:+.3f}, {high:+.3f}] | {shown} | {artefact[rows].mean():.3f} |"
            print(f"| {budget:.0%} | {name} | {told}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
