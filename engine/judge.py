"""A selection judged without training: what it covers, how varied and how clean it is, what is left twice, what there is to learn.

Rows are places in the pool; those of a selection stand in order of choice. What cannot be measured is not a number but a reason.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from engine.appearance import LIMITS
from engine.pool import Block, Pool, Vectors
from engine.rows import ROWS, Rows

Floats = NDArray[np.float64]
Colours = Callable[[Rows], Floats]  # of rows (n,) what the error of one colour is made of (n, 4)

WINDOW_MS = 10_000  # our choice: an endoscope moves on within some seconds
ALIKE = 0.95  # cosine above which a patch is a duplicate, our choice: SemDeDup halves LAION at 0.93 to 0.94, so these are beyond doubt
SPREAD = 1.0  # s^2 of the Gaussian decoder, our choice: what is rebuilt are pixels divided by ImageNet's standard deviation
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)  # of the patches of a choice, the first ones
DRAWN = 2048  # patches whose pixels are looked at for the estimate of information, our choice: that takes seconds
IMAGES = (
    128  # of the FID, always as many, our choice: 5 % of ten thousand patches have as many, and a ViT-B embeds them in a minute on a CPU
)
FID = f"fid_{IMAGES}"  # the count is in the name, since figures of other counts are not to be compared with it
TILE = 1024  # rows that are compared at a time


class UnknownError(ValueError):
    """A value that cannot be had; the sentence says why."""


@dataclass(frozen=True)
class Moments:
    """Sums over vectors (n, d): their count, their sum (d,), and the sum of their outer products (d, d)."""

    count: int
    total: Floats
    products: Floats


@dataclass(frozen=True)
class Case:
    """What is judged: rows of a pool in order of choice; `labels` (N,) are the clusters.

    `synthetic` are the features of IMAGES training images, `real` those of the pictures they are held against, by the same net, or the FID
    compares two languages; `compared` says which net and which pictures. Where there are none, `featureless` says why.
    `rebuilds` tells whether difficulty is the error of a rebuilt picture. `colours` gives for rows of the pool (n,) what the error of
    one colour is made of (n, 4), over the same pixels and in the same units: see difficulty.colours_of. `nested` tells whether a smaller
    set by the same method is the beginning of this one.
    """

    pool: Pool
    chosen: Rows
    labels: NDArray[np.integer] | None = None
    synthetic: Vectors | None = None
    real: Vectors | None = None
    compared: str = ""
    featureless: str = "the training images have no features"
    rebuilds: bool = True
    colours: Colours | None = None
    nested: bool = True

    def column(self, name: str) -> Floats:
        """A column (N,); UnknownError where there is none, or holds what is no number."""
        if name not in self.pool.columns.column_names:
            raise UnknownError(f"the patches have no column {name}")
        try:
            return self.pool.numbers(name)
        except ValueError as error:
            raise UnknownError(str(error)) from error

    @property
    def vectors(self) -> Vectors:
        """The embeddings of the pool; UnknownError where they cannot be compared."""
        if self.pool.vectors is None:
            raise UnknownError("the patches have no embeddings, or some that cannot be compared")
        return self.pool.vectors

    @property
    def clusters(self) -> NDArray[np.integer]:
        """The cluster of every row (N,); UnknownError where none were made."""
        if self.labels is None:
            raise UnknownError("no clusters were made of the patches")
        return self.labels

    @cached_property
    def videos(self) -> NDArray[np.int64]:
        """The number of every row's video (N,)."""
        return self.pool.codes("video_id").astype(np.int64)

    @cached_property
    def directions(self) -> Moments:
        """Of the chosen vectors, scaled to length one."""
        return moments(map(directions, taken(self.vectors, self.chosen)))


@dataclass(frozen=True)
class Judgement:
    """Values by name, for each that cannot be had the reason, and what a value is of where its name does not say it."""

    values: Mapping[str, float]
    reasons: Mapping[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)
    pool: Mapping[str, float] = field(default_factory=dict)  # some of the same of all that was chosen from
    of: str = "patches"  # what kind that was


def judge(case: Case) -> Judgement:
    """All of MEASURES."""
    values, reasons = {}, {}
    for name, measure in MEASURES.items():
        try:
            values[name] = measure(case)
        except UnknownError as error:
            reasons[name] = str(error)
    return Judgement(values, reasons, {FID: case.compared} if FID in values else {})


# -- what is covered --------------------------------------------------------------------------------------------------------------


def coverage(groups: NDArray[np.integer], chosen: Rows) -> float:
    """Share of the groups (N,) that rows of the pool belong to which have a chosen one (our choice: each group counts alike)."""
    return len(np.unique(groups[chosen])) / len(np.unique(groups))


def windows(videos: NDArray[np.integer], times_ms: NDArray[np.floating]) -> NDArray[np.int64]:
    """A number for every window of WINDOW_MS of every video (N,)."""
    window = np.floor_divide(times_ms, WINDOW_MS).astype(np.int64)
    window -= window.min(initial=0)
    return np.asarray(videos * (window.max(initial=0) + 1) + window, np.int64)


# -- how varied -------------------------------------------------------------------------------------------------------------------


def taken(vectors: Vectors, rows: Rows) -> Iterator[Block]:
    """The vectors of rows, in any order, some at a time."""
    rising = np.sort(rows)  # a table on a disk reads them faster so
    return (vectors.take(rising[start : start + ROWS]) for start in range(0, len(rising), ROWS))


def directions(block: Block) -> Block:
    """Vectors (n, d) of length one; UnknownError where one has no direction."""
    lengths = np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
    if bad := int(np.sum(~(np.isfinite(lengths) & (lengths > 0)))):
        raise UnknownError(f"{bad:,} embeddings or more are zero or not finite")
    return np.asarray(block / lengths, np.float32)


def moments(blocks: Iterable[Block]) -> Moments:
    """Sums in float64 over blocks (n, d), one in memory at a time; UnknownError where there is no vector."""
    count, total, products = 0, np.zeros(()), np.zeros(())
    for block in blocks:
        wide = block.astype(np.float64)
        count, total, products = count + len(wide), total + wide.sum(axis=0), products + wide.T @ wide
    if not count:
        raise UnknownError("there are no vectors")
    return Moments(count, total, products)


def distance(unit: Moments) -> float:
    """Mean cosine distance of all pairs, exactly: the squared length of the sum is the sum of all products, n of which are with itself.

    UnknownError of one patch.
    """
    if unit.count < 2:
        raise UnknownError("one patch has no distance to another")
    pairs = unit.count * (unit.count - 1)
    return float(1 - (unit.total @ unit.total - np.trace(unit.products)) / pairs)


def vendi(unit: Moments) -> float:
    """The effective number of different patches, 1 to n (Friedman and Dieng, TMLR 2023), with the cosine as kernel.

    exp of the entropy of the eigenvalues of K / n. K = Z Z^T (n, n) has those of Z^T Z (d, d), and zeros.
    """
    shares = np.linalg.eigvalsh(unit.products / unit.count)
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def fid(real: Moments, made: Moments) -> float:
    """Fréchet distance of two Gaussians with the moments of features (Heusel et al., NeurIPS 2017), by whichever net the features are.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2). C1 C2 has the eigenvalues of C1^1/2 C2 C1^1/2, which is symmetric: nothing complex arises.
    Few vectors make it too large: of two draws of one Gaussian of 192 numbers it is 319 where each has 16, 140 with 128, 37 with 512, and
    289, 102, 20 of such a draw beside one of 20,000 (notebooks/LOG.md). So compare at equal counts.
    """
    gap = real.total / real.count - made.total / made.count
    first, second = covariance(real), covariance(made)
    values, axes = np.linalg.eigh(first)
    root = (axes * np.sqrt(np.clip(values, 0, None))) @ axes.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * shared)


def covariance(sums: Moments) -> Floats:
    """(d, d), with n - 1 below, as numpy.cov has it. UnknownError of one vector."""
    if sums.count < 2:
        raise UnknownError("the spread of one vector is unknown")
    mean = sums.total / sums.count
    return np.asarray((sums.products - sums.count * np.outer(mean, mean)) / (sums.count - 1))


# -- how clean --------------------------------------------------------------------------------------------------------------------


def artefacts(shares: Mapping[str, NDArray[np.floating]]) -> float:
    """Share of patches of which more than LIMITS is black, glare or foreign; `shares` (n,) by these names."""
    return float(np.mean(np.any([shares[name] > limit for name, limit in LIMITS.items()], axis=0)))


def duplicates(vectors: Vectors, labels: NDArray[np.integer], chosen: Rows) -> float:
    """Share of the chosen that an earlier choice of their cluster is ALIKE (SemDeDup's test, Abbas et al. 2023, on what was kept).

    A cluster's chosen vectors are in memory at a time. `labels` (N,), a cluster of each row.
    """
    order = np.argsort(labels[chosen], kind="stable")
    starts = np.flatnonzero(np.diff(labels[chosen][order])) + 1
    return sum(twins(directions(vectors.take(chosen[rows]))) for rows in np.split(order, starts) if len(rows)) / len(chosen)


def twins(unit: Block) -> int:
    """How many vectors of length one (n, d) have an earlier one with a cosine above ALIKE."""
    count = 0
    for start in range(0, len(unit), TILE):
        tile = unit[start : start + TILE]
        alike = tile @ unit[: start + len(tile)].T > ALIKE
        count += int(np.tril(alike, start - 1).any(axis=1).sum())
    return count


# -- what there is to learn -------------------------------------------------------------------------------------------------------


def information(colours: Floats, difficulty: NDArray[np.floating]) -> float:
    """An ESTIMATE of the V-information of patches, in nats a pixel value: H_V(Y|nothing) - H_V(Y|X) of a Gaussian decoder of spread SPREAD.

    (Xu et al., ICLR 2020.) The first is the mean error of ONE colour for all these patches, the best one, which is their mean; the second
    that of the scorer, `difficulty` (n,). Both are mean squares over the same pixels, divided by 2 SPREAD; `colours` (n, 4) are those of
    difficulty.colours_of. Nothing is clipped: below 0 the scorer knows less than one colour does, which no V-information can be.

    An estimate it stays: the scorer stands for the best of its family, and for the one that would be trained on these patches; one colour
    stands for the best that the family predicts of nothing (our choice: a picture would be fitted to the noise of few patches); it is
    of the patches that were looked at; and SPREAD sets its scale.
    """
    nothing = colours[:, 3].mean() - np.mean(colours[:, :3].mean(axis=0) ** 2)
    return float((nothing - np.mean(difficulty)) / (2 * SPREAD))


def information_in(case: Case, share: float) -> float:
    """That of the first `share` of what was chosen, by DRAWN of them, drawn by key; UnknownError where it cannot be had.

    That beginning is the set that so much of the budget would have chosen, counted in patches, where the method's sets are nested; where
    they are not it is no set that anybody would choose, and left out.
    """
    if not case.rebuilds:
        raise UnknownError("difficulty is no rebuild error in the units of pixels")
    if case.colours is None:
        raise UnknownError("the pixels of the patches were not looked at")
    if share < 1 and not case.nested:
        raise UnknownError(
            "a smaller set by this method is no beginning of this one, so what its first patches hold says nothing of budgets"
        )
    rows = case.chosen[: max(1, round(share * len(case.chosen)))]
    rows = rows[np.argsort(case.pool.keys()[rows], kind="stable")[:DRAWN]]
    return information(case.colours(rows), case.column("difficulty")[rows])


def fid_of(case: Case) -> float:
    """The distance of IMAGES training images to real pictures as `fid` has it; UnknownError where they have no features.

    Real are the whole frames of the pool where the store has them, which a training image is like in size, else the patches that could
    have been chosen; the net is the scorer of the patches, and not Heusel's Inception, which never saw an endoscope: our choices.
    """
    if case.synthetic is None or case.real is None:
        raise UnknownError(case.featureless)
    return fid(moments(case.real.blocks()), moments(case.synthetic.blocks()))


MEASURES: dict[str, Callable[[Case], float]] = {
    "clusters": lambda case: coverage(case.clusters, case.chosen),
    "videos": lambda case: coverage(case.videos, case.chosen),
    "time": lambda case: coverage(windows(case.videos, case.column("time_ms")), case.chosen),
    "distance": lambda case: distance(case.directions),
    "vendi": lambda case: vendi(case.directions),
    FID: fid_of,
    "artefacts": lambda case: artefacts({name: case.column(name)[case.chosen] for name in LIMITS}),
    "duplicates": lambda case: duplicates(case.vectors, case.clusters, case.chosen),
    **{f"estimated_information_{100 * share:g}": partial(information_in, share=share) for share in SHARES},
}
