"""Which patches are worth training on: a ranked list of ids that fills a budget, never a copy of pixels.

A method orders the patches of a pool; the budget then cuts the order to whole training images. What a method looks at stands in METHODS.

    budgets       how much, and where an order is cut
    room          without what exceeds a budget by itself
    spread        work inside clusters, here or on other processes
    clustering    the clusters that a choice goes by
    ranking       methods by what scorers say, or by lot
    likeness      SemDeDup
    cover         MedDEL
    prototypes    SSL prototypes, D4
    density       Density-Based Pruning
    hierarchical  clusters of clusters, evenly
    coverage      k-centre
    endocurate    ours
    twins         which of what is new looks like what is there
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import schema
from engine.config import SelectionConfig
from engine.pool import Clustering, Pool
from engine.rows import Rows
from engine.schema import PATCHES_PER_IMAGE as GROUP
from engine.selection import cover, coverage, density, endocurate, hierarchical, likeness, prototypes, ranking, room
from engine.selection.budgets import Budget, Order, budget_of
from engine.selection.spread import Run, in_process

__all__ = [
    "METHODS",
    "Method",
    "Run",
    "Selection",
    "choose",
    "clustering_of",
    "columns",
    "has_room",
    "in_process",
    "left_of",
    "of_kind",
    "of_same_clusters",
]


@dataclass(frozen=True)
class Method:
    """How rows are ordered, and what of the patches is looked at for it."""

    order: Callable[[Pool, Budget, SelectionConfig, Run], Order]
    columns: tuple[str, ...] = ()
    embeddings: bool = False
    earlier: bool = False  # the difficulties by other scorers
    nested: bool = True  # a smaller set is the beginning of a larger one
    compares: str = ""  # in which order it puts the rows of its clusters, where it can use those of an earlier choice again
    clusters: Callable[[SelectionConfig], object] = attrgetter("clusters")  # how many it makes, and how if otherwise than the others
    leaves: Callable[[SelectionConfig], float] | None = None  # the share that SemDeDup leaves it, where it clusters that once more


COVER, CENTRES = "cover", "centres"  # what is found out with a budget, and holds for it alone

METHODS = {
    "random": Method(ranking.by_lot),
    "optidel": Method(ranking.hardest, ("difficulty",)),
    "optidel_s": Method(ranking.hardest_crops, ("difficulty", "proposer")),
    "easy": Method(ranking.easiest, ("difficulty",)),
    "el2n_like": Method(ranking.hardest_on_average, ("difficulty",), earlier=True),
    "forgetting_like": Method(ranking.most_forgotten, ("difficulty",), earlier=True),
    "rded": Method(ranking.realistic, ("difficulty", "frame_id"), nested=False),
    "meddel": Method(cover.meddel, embeddings=True, nested=False, compares=COVER),
    "semdedup": Method(likeness.semdedup, embeddings=True, compares="outside-in"),
    "ssl_prototypes": Method(prototypes.ssl_prototypes, embeddings=True, compares="outside-in"),
    "d4": Method(prototypes.d4, embeddings=True, compares="outside-in", leaves=attrgetter("d4.dedup")),
    "density": Method(density.density, embeddings=True, nested=False, compares="outside-in", leaves=lambda config: density.DEDUP),
    "hierarchical": Method(hierarchical.hierarchical, embeddings=True, nested=False, compares="by-lot", clusters=hierarchical.clusters_by),
    "kcenter": Method(coverage.kcenter, embeddings=True, compares=CENTRES, clusters=lambda config: coverage.one_cluster(config).clusters),
    "endocurate": Method(endocurate.endocurate, endocurate.COLUMNS, embeddings=True, compares="hardest-first"),
}


def columns(config: SelectionConfig) -> list[str]:
    """The columns of the patch table that a choice with these settings looks at."""
    frames = {"frame_id"} if config.unit == "images" and config.budget <= 1 else set()
    return sorted({"patch_id", "bytes", "proposer", *METHODS[config.method].columns, *frames})


def clustering_of(config: SelectionConfig) -> str:
    """What the clustering that these settings choose by is called, whatever it holds; "" where they choose by none.

    Methods that can share one have the same; of covers and centres each budget has its own. Which scorer says what is hardest is not in
    it: rows of which it says something else than when they were compared are compared again.
    """
    order = METHODS[config.method].compares
    return order and "-".join([order, settings_of(config), *([str(config.budget), config.unit] if order in (COVER, CENTRES) else [])])


def left_of(config: SelectionConfig) -> str:
    """What the clustering of what SemDeDup leaves is called; "" where these settings choose by none. Nobody else begins with it."""
    leaves = METHODS[config.method].leaves
    return f"left-{settings_of(config, leaves(config))}" if leaves else ""


def settings_of(config: SelectionConfig, *more: float) -> str:
    """Twelve hex digits of what the clusters of a pool hang on."""
    clusters = METHODS[config.method].clusters(config)
    settings = " ".join(map(str, [config.of, clusters, config.seed, config.iterations, config.embedding, *more]))
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


def of_same_clusters(config: SelectionConfig, names: Iterable[str]) -> list[str]:
    """Those of some names of clusterings whose clusters are made as these settings make them, whatever else they tell."""
    return [one for one in names if f"-{settings_of(config)}" in one]


@dataclass(frozen=True)
class Selection:
    """Patch ids in the order of choice, the share of the stored bytes that they take, and what of the budget is left, in its unit."""

    selection_id: str
    patch_ids: list[str]
    sizes: np.ndarray  # (N,) bytes of each
    retained: float
    unspent: float = 0.0
    told: Mapping[str, float] = field(default_factory=dict)  # what the method found out, as MedDEL's radius
    clustering: Clustering | None = None  # of the patches chosen from, to be kept for the next choice: see clustering_of
    few: str = ""  # why there are no more, where the budget has room for them and the method knows it

    def rows(self, config: SelectionConfig, patches_version: int) -> pa.Table:
        """The selection as rows of schema.SELECTION."""
        count = len(self.patch_ids)
        same = {
            "selection_id": self.selection_id,
            "method": config.method,
            "budget": config.budget,
            "unit": config.unit,
            "embedding": config.embedding,
            "retained": self.retained,
            "seed": config.seed,
            "patches_version": patches_version,
        }
        columns: dict[str, Any] = {name: [value] * count for name, value in same.items()}
        columns |= {"rank": list(range(count)), "patch_id": self.patch_ids, "weight": [1.0] * count, "bytes": self.sizes.tolist()}
        return pa.table(columns, schema.SELECTION)


def choose(
    pool: Pool | pa.Table, config: SelectionConfig, *, run: Run = in_process, group: int = GROUP, seconds_per_image: Fraction | int = 0
) -> Selection:
    """The patches that `config.method` takes within `config.budget`, whatever the order of the rows.

    A table of `columns` will do where the method needs no embeddings. `run` does the work inside clusters, `group` is the patches of a
    training image, `seconds_per_image` the time of a GPU that one takes over all epochs. ValueError, in a sentence, for what is not a
    number or has no direction, and for a budget too small for one image.
    """
    pool = of_kind(pool if isinstance(pool, Pool) else Pool(pool), config.of)
    budget = priced(pool, config, group, seconds_per_image)
    solve = METHODS[config.method].order
    order = room.order(pool, budget, lambda pool, budget: solve(pool, budget, config, run))
    taken = budget.within(order.rows)
    if not len(taken):
        why = (budget.holds_more(taken) and order.few) or too_few(pool, config, group)
        raise ValueError(
            f"selection.budget={config.budget:g} with selection.unit={config.unit} of {len(pool):,} {config.of} "
            f"({total_bytes(pool):,} bytes) holds no image of {group} patch{'es' * (group > 1)} in the order of choice: {why}"
        )
    return selected(pool, taken, config, budget, order)


def priced(pool: Pool, config: SelectionConfig, group: int = GROUP, seconds_per_image: Fraction | int = 0) -> Budget:
    """What each patch of a pool takes of its budget; ValueError where one does not tell its bytes, and as `budget_of` says."""
    if missing := pool.columns["bytes"].null_count:
        raise ValueError(f"{missing:,} of {len(pool):,} {config.of} do not tell their bytes, which is what a budget counts")
    return budget_of(pool, config, group, seconds_per_image)


def has_room(pool: Pool, config: SelectionConfig) -> int:
    """How many patches of a pool do not exceed the budget each by itself: those that a method chooses from, and clusters."""
    if config.unit != "bytes":  # one is one, in every other unit
        return len(pool)
    budget = priced(pool, config)
    return int(np.sum(budget.costs <= budget.limit))


def too_few(pool: Pool, config: SelectionConfig, group: int) -> str:
    """What would help where a budget holds no image of what a pool has."""
    if not len(pool) and config.of == "frames":
        return "whole frames are stored where video is taken in with patches.whole_frames=true"
    return "raise the budget" if len(pool) >= group else "take in more video"


def of_kind(pool: Pool, kind: str) -> Pool:
    """The regions of frames, or the whole frames, of a pool; all of one that does not tell them apart."""
    if "proposer" not in pool.columns.column_names:
        return pool
    whole = pc.fill_null(pc.equal(pool.columns["proposer"], schema.FRAME_PROPOSER), False).to_numpy()
    wanted = whole if kind == "frames" else ~whole
    return pool if wanted.all() else pool.part(np.flatnonzero(wanted))


def total_bytes(pool: Pool) -> int:
    """What all patches of a pool take as they are stored."""
    return int(pc.sum(pool.columns["bytes"].cast(pa.int64())).as_py() or 0)


def selected(pool: Pool, taken: Rows, config: SelectionConfig, budget: Budget, order: Order) -> Selection:
    """What an order and a budget came to, as a Selection of ids in their order."""
    sizes = pool.columns["bytes"].take(taken).to_numpy()
    ids = pool.columns["patch_id"].take(taken).to_pylist()
    retained = float(sizes.sum(dtype=np.int64) / total_bytes(pool))
    few = order.few if budget.holds_more(taken) else ""
    return Selection(name(config, ids), ids, sizes, retained, budget.unspent(taken), order.told, order.clustering, few)


def name(config: SelectionConfig, patch_ids: list[str]) -> str:
    """Two settings that happen to choose the same patches stay two selections."""
    content = "\n".join([config.fingerprint(), *patch_ids])
    return f"{config.method}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
