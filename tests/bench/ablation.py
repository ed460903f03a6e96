"""python -m tests.bench.ablation STORE [BUDGET]: every method of selection on the patches of a store, then ours without each ingredient.

Prints what can be judged without training, as a table; BUDGET is a share of the patches, 0.05 unless told. Methods that compare several
scorers are left out where the store has the scores of one only. The estimate of information is by the recipe `tiny`, with which the store
was taken in. With a third argument, a folder, a contact sheet of each is put there.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from engine import clusters, judge, pictures
from engine.config import SelectionConfig
from engine.knobs import amend
from engine.pool import Pool
from engine.selection import endocurate, in_process
from engine.store import PatchStore
from jobs import judging
from jobs.recipes import tiny
from tests.bench.planted import choices

COLUMNS = sorted({"patch_id", "bytes", "proposer", "frame_id", "time_ms", *endocurate.COLUMNS})
INGREDIENTS = ("guard", "learnable", "budget", "diversity", "duplicates")
SHOWN = ("artefacts", "clusters", "time", "distance", "vendi", "duplicates", "estimated_information_100")
GRID, SIDE = (5, 16), 80  # pictures of a contact sheet, rows and columns, and their size in pixels


def chosen(pool, budget):
    """Rows by method, those of ours without an ingredient last."""
    yield from choices(pool, budget)
    config = SelectionConfig(method="endocurate", budget=budget, unit="patches")
    for omitted in INGREDIENTS:
        traits = endocurate.measured(pool, config, in_process, {omitted})
        rows = endocurate.ordered(pool, traits, config.endocurate, {omitted})
        yield f"endocurate without {omitted}", rows[: int(budget * len(pool)) // 4 * 4]


def sheet(store, version, rows):
    """Pictures of patches evenly over their ranks."""
    some = rows[np.linspace(0, len(rows) - 1, GRID[0] * GRID[1]).astype(int)]
    cells = [cv2.resize(pictures.decode(jpeg), (SIDE, SIDE)) for jpeg in store.take(some, ["pixels"], version)["pixels"].to_pylist()]
    return np.vstack([np.hstack(cells[row * GRID[1] : (row + 1) * GRID[1]]) for row in range(GRID[0])])


def main(uri, budget="0.05", folder=""):
    store = PatchStore(uri)
    version = store.complete_version()
    vectors = store.vectors(version)
    names = [scorer.name for scorer in store.scorers(version) if scorer.rated == len(vectors)]
    pool = Pool(store.patches(COLUMNS, version=version), vectors, store.earlier(version, names))
    labels = clusters.assigned(vectors, clusters.fit(vectors, round(len(pool) ** 0.5), pool.keys(), 10))[0]
    seen = judging.colours(amend(tiny(), [f"store.uri={uri}"]), store, version, np.arange(len(pool)))
    print(f"{len(pool):,} patches, {np.mean(endocurate.artefact_of(pool) > 1):.3f} of them artefacts\n\n| | {' | '.join(SHOWN)} |")
    print("|---" * (len(SHOWN) + 1) + "|")
    for name, rows in chosen(pool, float(budget)):
        values = judge.judge(judge.Case(pool, rows, labels, colours=seen)).values
        print(f"| {name} | " + " | ".join(f"{values.get(measure, float('nan')):.3f}" for measure in SHOWN) + " |", flush=True)
        if folder:
            Path(folder, f"{name}.jpg").write_bytes(pictures.encode(sheet(store, version, rows), 90))


if __name__ == "__main__":
    main(*sys.argv[1:])
