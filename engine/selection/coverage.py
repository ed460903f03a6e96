"""Greedy k-centre (Gonzalez 1985; Sener & Savarese, ICLR 2018): each next patch is the farthest from all chosen ones.

Gonzalez' bound: where no two chosen ones are nearer to each other than some patch is to all of them, the farthest patch is at most twice as
far, in angle, as from the best choice of as many. After patches came or went this is gone on with: what was chosen stays, but for as many
of those that were the least far when they were chosen as it takes that the bound holds, by the same proof; the farthest take their place.
So what is new comes in where it is far from all, and nothing changes where it is not. The bound is of all that the budget has room for,
before it is cut to whole images.

The gap to solving anew: the same bound, nearly the same cover, other choices. After ten times 1 % more of 20,000 patches 7 to 8 % of a
thousand choices were those of solving anew, 32 to 35 % after the first; the farthest patch was at a cosine distance of .404 (anew .404),
the mean cosine with the nearest choice .687 (.687). One that is far early moves all that follow (notebooks/LOG.md, 2026-11-23).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine import clusters
from engine.config import SelectionConfig
from engine.pool import Block, Clustering, Held, Part, Pool, Vectors
from engine.rows import ROWS, Keys, Rows, rising
from engine.selection.budgets import Budget, Order
from engine.selection.clustering import clustered
from engine.selection.spread import Run

AHEAD = 1024  # rows that are candidates between two passes over the embeddings
MANY = 4096  # chosen ones that others are compared with at a time: 16 MB of cosines

Floats = NDArray[np.float32]
CHOSEN = np.float32(2)  # in place of a cosine: nearer than any


@dataclass
class Centres:
    """Chosen rows (k,), the cosine of each with the nearest one chosen before it (k,), and how near they are to all rows (N,).

    `nearest` is the cosine with the nearest chosen one, CHOSEN of these themselves, `whose` the number of that one, from 1 on: numbers tell
    them apart and nothing else. -1 and 0 where nothing is chosen.
    """

    rows: Rows
    apart: Floats
    nearest: Floats
    whose: NDArray[np.int64]

    @property
    def bound_holds(self) -> bool:
        """Whether no two of them are nearer to each other than some row is to all."""
        return bool(self.apart.max(initial=-1) <= self.nearest.min())

    def join(self, vectors: Vectors, new: Rows, apart: Floats) -> None:
        """Take in rows (n,): all are compared with them, and get a number that no chosen one has."""
        taken = self.whose[self.rows]
        numbers = np.setdiff1d(np.arange(1, len(taken) + len(new) + 1), taken)[: len(new)]
        places, cosines = clusters.assigned(vectors, vectors.take(new))
        nearer = cosines > self.nearest
        self.nearest[nearer], self.whose[nearer] = cosines[nearer], numbers[places[nearer]]
        self.nearest[new], self.whose[new] = CHOSEN, numbers
        self.rows, self.apart = np.concatenate([self.rows, new]), np.concatenate([self.apart, apart])


def kcenter(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """By cosine distance to the nearest chosen one, largest first; the first by lot. A choice of before is gone on with.

    Told are the cosine distance of the farthest row, and how many of an earlier choice gave way.
    """
    found = clustered(pool, one_cluster(config))
    vectors, keys = pool.embeddings(), pool.keys(config.seed)
    earlier = chosen_before(found, vectors, keys)
    earlier = beginning(earlier, vectors, len(earlier.rows))
    stay = staying(earlier, vectors, keys, budget)
    made = filled(earlier, vectors, keys, budget, stay)
    while stay and not made.bound_holds:  # seen after patches went, and of choices gone on with several times
        stay = max(0, 2 * stay - len(earlier.rows) - 1)
        made = filled(earlier, vectors, keys, budget, stay)
    rows = made.rows[rising(made.apart, keys[made.rows])]
    told = {"radius": max(0.0, 1 - float(made.nearest.min())), "gave_way": float(len(earlier.rows) - stay)}
    return Order(rows, told, kept(made, found))


def one_cluster(config: SelectionConfig) -> SelectionConfig:
    """The settings by which all of a pool is one cluster: every row is compared with every chosen one."""
    return config.model_copy(update={"clusters": 1})


def chosen_before(found: Clustering, vectors: Vectors, keys: Keys) -> Centres:
    """What an earlier choice chose of the rows that are still there, by how far it was; a choice of its own is in this order already.

    Where rows are gone, how near the others are to those before them is looked at again: what was near may be gone.
    """
    rows = np.flatnonzero(found.order > 0)
    rows = rows[rising(found.likeness[rows], keys[rows])]
    nearest, whose = found.likeness.copy(), np.nan_to_num(np.abs(found.order)).astype(np.int64)
    apart = found.likeness[rows]
    if np.sum(~np.isnan(found.order)) < found.members.sum():
        apart = np.maximum.accumulate(clusters.earlier_likeness(vectors.held(rows)))
    nearest[rows] = CHOSEN
    return Centres(rows, apart, nearest, whose)


def kept(made: Centres, found: Clustering) -> Clustering:
    """What a choice found out, for the next one: see Clustering."""
    order, likeness = -made.whose.astype(np.float32), made.nearest.copy()
    order[made.rows] *= -1
    likeness[made.rows] = made.apart
    return replace(found, order=order, likeness=likeness, members=np.array([len(order)]))


def beginning(centres: Centres, vectors: Vectors, count: int) -> Centres:
    """The first `count` of the chosen: only rows whose nearest is not among these, or not known, are compared with them."""
    rows, nearest, whose = centres.rows[:count], centres.nearest.copy(), centres.whose.copy()
    stays = np.zeros(int(whose.max(initial=0)) + 1, np.bool_)
    stays[whose[rows]] = True
    loose = np.flatnonzero(~stays[whose])
    for start in range(0, len(loose), ROWS):
        some = loose[start : start + ROWS]
        nearest[some], whose[some] = -1, 0
        for first in range(0, count, MANY):
            them = rows[first : first + MANY]
            places, cosines = clusters.assigned(Held(vectors.take(some)), vectors.take(them))
            nearer = cosines > nearest[some]
            nearest[some[nearer]], whose[some[nearer]] = cosines[nearer], whose[them[places[nearer]]]
    return Centres(rows, centres.apart[:count], nearest, whose)


def staying(earlier: Centres, vectors: Vectors, keys: Keys, budget: Budget) -> int:
    """How many of those chosen before leave room for what must come in, lest it is farther than the last of them was."""
    if not len(earlier.rows):
        return 0
    far = np.flatnonzero(earlier.nearest < earlier.apart[-1])
    came = Centres(far[:0], earlier.apart[:0], earlier.nearest[far], earlier.whose[far])
    go_on(came, Part(vectors, far), keys[far], lambda _, apart: int(np.searchsorted(apart, earlier.apart[-1])))
    of_them = np.append(0, np.cumsum(budget.costs[far[came.rows]]))
    costs = np.cumsum(budget.costs[earlier.rows]) + of_them[np.searchsorted(came.apart, earlier.apart)]
    return int(np.flatnonzero(costs <= budget.limit).max(initial=-1)) + 1


def filled(earlier: Centres, vectors: Vectors, keys: Keys, budget: Budget, count: int) -> Centres:
    """The first `count` of those chosen before, and the farthest as long as the budget lasts."""
    made = beginning(earlier, vectors, count)
    go_on(made, vectors, keys, lambda new, _: len(budget.affordable(np.concatenate([made.rows, new]))) - len(made.rows))
    return made


def go_on(made: Centres, vectors: Vectors, keys: Keys, wanted: Callable[[Rows, Floats], int]) -> None:
    """Choose, in place, the farthest as long as all are `wanted` of some that come next: it says how many are.

    A pass over all embeddings is good for many choices: nobody comes farther away, so the farthest of those that were farthest at the
    pass is the farthest of all as long as it is farther than the rest were.
    """
    while len(order := farthest(made.nearest, keys)):
        last = order[-1] if len(order) > AHEAD else None
        new, apart = farther(vectors, order[:AHEAD], made.nearest, keys, last)
        count = wanted(new, apart)
        if count:
            made.join(vectors, new[:count], apart[:count])
        if count < len(new):
            return


def farthest(nearest: Floats, keys: Keys) -> Rows:
    """The AHEAD + 1 rows that are not chosen and farthest, in their order, equal ones by key."""
    bound = np.partition(nearest, AHEAD)[AHEAD] if len(nearest) > AHEAD else CHOSEN
    rows = np.flatnonzero((nearest <= bound) & (nearest < CHOSEN))
    return rows[rising(nearest[rows], keys[rows])][: AHEAD + 1]


def farther(vectors: Vectors, rows: Rows, nearest: Floats, keys: Keys, last: np.int64 | None) -> tuple[Rows, Floats]:
    """Greedy choices among the candidates `rows`, as long as they come before the row `last`, the first that is none.

    Rows (n,), and the cosine of each with the nearest one before it (n,).
    """
    rows = rows[np.argsort(keys[rows], kind="stable")]
    near, likeness = nearest[rows], among(vectors.take(rows))
    found: list[int] = []
    apart: list[np.float32] = []
    for _ in range(len(rows)):
        place = int(near.argmin())  # of equals the one of the smallest key
        if near[place] == CHOSEN or (last is not None and (near[place], keys[rows[place]]) >= (nearest[last], keys[last])):
            break
        found.append(place)
        apart.append(near[place])
        np.maximum(near, likeness[place], out=near)
        near[place] = CHOSEN
    return rows[found], np.array(apart, np.float32)


def among(vectors: Block) -> Floats:
    """The cosines (n, n) of rows."""
    rounded = clusters.whole(vectors)
    return clusters.cosines(rounded, rounded)
