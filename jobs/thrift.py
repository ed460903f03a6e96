"""What of the work of a choice was avoided, because an earlier one had done it: embeddings not read, pairs not compared, seconds."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.config import Config
from engine.pool import Block, Clustering, Pool, Vectors
from engine.rows import Rows
from engine.selection import Run, Selection
from engine.selection.spread import rows_of
from jobs import named

log = logging.getLogger("jobs.choose")
COMPARING = ("semdedup", "density", "d4", "endocurate")  # methods that compare the rows of a cluster with each other, each pair once
SAID = {"read": "reads of embeddings", "pairs": "comparisons of pairs"}
Choose = Callable[[Pool, Run], Selection]


class Counted:
    """Other vectors, and how many of them were read."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors, self.width, self.read = vectors, vectors.width, 0

    def __len__(self) -> int:
        return len(self.vectors)

    def blocks(self) -> Iterator[Block]:
        """All blocks, each counted as it is read."""
        for block in self.vectors.blocks():
            self.read += len(block)
            yield block

    def take(self, rows: Rows) -> Block:
        """Rows as float32, counted."""
        self.read += len(rows)
        return self.vectors.take(rows)

    def held(self, rows: Rows) -> NDArray[np.number]:
        """Rows in the type in which they are held, counted. (n, width)."""
        self.read += len(rows)
        return self.vectors.held(rows)


def measured(config: Config, pool: Pool, run: Run, choose: Choose) -> tuple[Selection, dict[str, float]]:
    """What `choose` chooses from a pool, and what it took, as metrics."""
    counted = Counted(pool.vectors) if pool.vectors is not None else None
    rounded = Counted(pool.rounded) if pool.rounded is not None else None
    elsewhere = 0

    def watched(stage: type, arguments: tuple[Any, ...], table: pa.Table) -> Iterator[pa.Table]:
        nonlocal elsewhere
        elsewhere += len(rows_of(table)) if config.where == "ray" else 0  # of what other processes read nothing is heard
        return run(stage, arguments, table)

    began = monotonic()
    chosen = choose(replace(pool, vectors=counted, rounded=rounded), watched)
    told = {"choose/seconds": monotonic() - began, "choose/pool": float(len(pool))}
    told |= {"choose/read": float(sum(one.read for one in (counted, rounded) if one) + elsewhere)} if counted else {}
    if chosen.clustering and config.selection.method in COMPARING:
        done, full = pairs(pool.clustering if is_kept(pool, chosen) else None, chosen.clustering)
        told |= {"choose/pairs": float(done), "choose/pairs_of_all": float(full)}
    return chosen, told | (saved(config, told) if is_kept(pool, chosen) else {})


def is_kept(pool: Pool, chosen: Selection) -> bool:
    """Whether a choice went on from the clusters of an earlier one."""
    return bool(chosen.clustering and pool.clustering and chosen.clustering.name == pool.clustering.name)


def pairs(before: Clustering | None, after: Clustering) -> tuple[int, int]:
    """How many pairs of rows were compared, and how many there are inside the clusters: see likeness.compared."""
    count, part = len(after.centroids), ~np.isnan(after.order)
    sizes = np.bincount(after.labels[part], minlength=count)
    full = sizes * (sizes - 1) // 2
    if before is None:
        return int(full.sum()), int(full.sum())
    same = before.order == after.order
    broken = np.bincount(after.labels[same], minlength=count) < before.members
    known = same & ~broken[after.labels] & ~np.isnan(before.likeness)
    new = np.bincount(after.labels[part & ~known], minlength=count)
    done = np.where(2 * new > sizes, full, new * (new - 1) // 2 + new * (sizes - new))
    return int(done.sum()), int(full.sum())


def saved(config: Config, told: dict[str, float]) -> dict[str, float]:
    """Beside the newest choice of the same settings that was solved in full, its embeddings scaled to the pool of now."""
    full: dict[str, float] = next((one["metrics"] for one in named.choices(config, "selection", where="metrics.`choose/fitted` = 1")), {})
    found = {}
    if full.get("choose/read") and "choose/read" in told:
        expected = full["choose/read"] * told["choose/pool"] / max(full["choose/pool"], 1)
        found["choose/avoided_read"] = 1 - told["choose/read"] / expected
    if told.get("choose/pairs_of_all"):
        found["choose/avoided_pairs"] = 1 - told["choose/pairs"] / told["choose/pairs_of_all"]
    if "choose/seconds" in full:
        found["choose/full_seconds"] = full["choose/seconds"]
    if found:
        shares = {said: found.get(f"choose/avoided_{name}", 0.0) for name, said in SAID.items()}
        parts = ", ".join(f"{100 * share:.1f} % of the {said}" for said, share in shares.items() if share > 0) or "nothing"
        took = found.get("choose/full_seconds")
        beside = f"{took:.2f} s where it was last solved in full" if took else "and no choice of the same settings was solved in full"
        log.info("avoided: %s; it took %.2f s, %s", parts, told["choose/seconds"], beside)
    return found
