"""A map of the embeddings: a sample of the patches on the two directions in which they differ most (PCA), for the page to draw."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.browser.cells import plain
from engine.browser.looks import View
from engine.refusals import RefusedError

POINTS = 4000  # at most: a page draws them in milliseconds, and twice as many hide each other
SEED = 0


def drawn(view: View) -> dict[str, Any]:
    """Up to POINTS patches of a view, drawn by lot: place (x and y, -1 to 1), difficulty, number of the video and id of each.

    The share of the variance that the two directions hold is told; how far two points lie apart says little where it is small.
    RefusedError for a view of frames, which have no embeddings.
    """
    if view.asked.table != "patches":
        raise RefusedError(f"there is no map of {view.asked.table}, but of patches")
    rng = np.random.default_rng(SEED)
    chosen = np.sort(rng.choice(len(view.rows), min(POINTS, len(view.rows)), replace=False))
    rows = view.sheet.take(view.rows[chosen], ["patch_id", "video_id", "difficulty", "embedding"])
    kept = [row for row in rows if row["embedding"] is not None]
    if len(kept) < 3:
        return {"points": [], "share": 0.0, "of": len(view.rows)}
    vectors = np.array([row["embedding"] for row in kept], np.float32)
    places, share = projected(vectors)
    videos = {name: number for number, name in enumerate(sorted({row["video_id"] for row in kept}))}
    points = [
        [float(x), float(y), row["difficulty"], videos[row["video_id"]], row["patch_id"]] for row, (x, y) in zip(kept, places, strict=True)
    ]
    return {"points": plain(points), "share": share, "of": len(view.rows), "videos": list(videos)}


def projected(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Their places (N, 2) on the two main directions, scaled to -1 to 1, and the share of the variance on these.

    Vectors that are not finite count as zeros. The sign of a direction is the one that makes its largest weight positive.
    """
    finite = np.nan_to_num(vectors, posinf=0.0, neginf=0.0).astype(np.float64)
    centred = finite - finite.mean(axis=0)
    spread, directions = np.linalg.eigh(centred.T @ centred)
    main = directions[:, ::-1][:, :2]
    main = main * np.sign(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])])
    places = centred @ main
    total = float(spread.sum())
    share = float(spread[::-1][:2].sum() / total) if total > 0 else 0.0
    return (places / max(float(np.abs(places).max()), 1e-12)).astype(np.float32), share
