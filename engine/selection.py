"""Which patches are worth training on: a ranked list of ids that fills a budget, never a copy of pixels.

A method orders all patches from columns alone; the budget then cuts the order. OptiDEL (arXiv 2408.07107, algorithm 1) sorts by
difficulty, hardest first; random is the control every method must beat at the same budget.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine import schema
from engine.config import SelectionConfig
from engine.schema import PATCHES_PER_IMAGE as GROUP

COLUMNS = ["patch_id", "difficulty", "bytes"]  # what a method may look at


@dataclass(frozen=True)
class Selection:
    """Patch ids in the order of choice, and the share of the stored bytes that they take."""

    selection_id: str
    patch_ids: list[str]
    sizes: np.ndarray  # (N,) bytes of each
    retained: float

    def rows(self, config: SelectionConfig, patches_version: int) -> pa.Table:
        """The selection as rows of schema.SELECTION."""
        count = len(self.patch_ids)
        same = {
            "selection_id": self.selection_id,
            "method": config.method,
            "budget": config.budget,
            "retained": self.retained,
            "seed": config.seed,
            "patches_version": patches_version,
            "unit": "bytes",
            "embedding": "",
        }
        columns: dict[str, Any] = {name: [value] * count for name, value in same.items()}
        columns |= {"rank": list(range(count)), "patch_id": self.patch_ids, "weight": [1.0] * count, "bytes": self.sizes.tolist()}
        return pa.table(columns, schema.SELECTION)


def choose(columns: pa.Table, config: SelectionConfig, rng: np.random.Generator) -> Selection:
    """The patches that `config.method` takes within `config.budget`, whatever the order of the rows.

    `columns` holds patch_id, difficulty and bytes. ValueError for a difficulty that is not a number, or a budget too small for
    one image of four patches.
    """
    table = columns.sort_by("patch_id")
    ids = np.asarray(table["patch_id"].to_pylist(), dtype=object)
    sizes = table["bytes"].to_numpy()
    order = rank(table, config.method, rng)
    taken = order[: within(sizes[order], config.budget)]
    if not len(taken):
        raise ValueError(
            f"selection.budget={config.budget} of {len(ids)} patches ({sizes.sum():,} bytes) holds no image of {GROUP} patches: "
            "take in more video or raise the budget"
        )
    return Selection(name(config, ids[taken].tolist()), ids[taken].tolist(), sizes[taken], float(sizes[taken].sum() / sizes.sum()))


def rank(table: pa.Table, method: str, rng: np.random.Generator) -> np.ndarray:
    """All rows of `table`, sorted by patch_id, in the order in which `method` would take them; (N,) indices."""
    if method == "random":
        return rng.permutation(len(table))
    difficulty = table["difficulty"].to_numpy()
    if np.isnan(difficulty).any():
        raise ValueError(f"{int(np.isnan(difficulty).sum())} of {len(difficulty)} patches have a difficulty that is not a number")
    return np.argsort(-difficulty, kind="stable")  # equal ones stay in order of their ids


def within(sizes: np.ndarray, budget: float) -> int:
    """How many of the first patches stay within a share of all bytes, as a whole number of images."""
    affordable = int(np.searchsorted(np.cumsum(sizes, dtype=np.int64), budget * sizes.sum(dtype=np.int64), side="right"))
    return affordable - affordable % GROUP


def name(config: SelectionConfig, patch_ids: list[str]) -> str:
    """Two settings that happen to choose the same patches stay two selections."""
    content = "\n".join([config.fingerprint(), *patch_ids])
    return f"{config.method}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
