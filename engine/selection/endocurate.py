"""Our own method: hard but learnable, of every kind and every video, the alike late, and no artefacts while there is anything else.

Why each ingredient, and what takes its place when it is left out (the ablation of tests/bench/ablation.py):

guard      The hardest patches of real video are corners of the frame, insets, glare and metal; ranking cannot tell them from anatomy, so
           they come last. Left out: they take part.
learnable  Of an error d against the error v of the best constant colour d / v is what the scorer leaves unexplained: the pointwise form
           of V-information (Xu et al., arXiv 2002.10689). Noise is hard and stays unexplained. The worth is the quantile of d times
           one less that of d / v: nothing for what is learnt and for what cannot be. Quantiles, since a scorer that was trained for
           minutes does no better than one colour (seen on Kvasir-SEG and PolypGen). Left out, and where d is no error in the units of v,
           as a SimCLR's loss: worth is d, as in OptiDEL.
budget     Sorscher et al. (arXiv 2206.14486): easy to medium examples when few are kept, hard ones when many. Their hardness is here
           worth, our choice: in their theory no label is noise, so all that is hard can be learnt, which of error is not so. Of the
           patches of a cluster that are neither alike nor artefacts the order goes from the quantile `start` of worth upwards, then
           from it downwards. So up to the share 1 - start of these (by default half of them, which is a quarter of the clean patches)
           the more is kept, the worthier: of a share s the mean quantile is start + s / 2. Beyond, it is always the worthiest s that are
           kept, so 1 - s / 2: what is added has less and less worth. Then come the alike and the artefacts, whatever their worth, and
           sets fall back to the mean of all. What `start` should be by the theory for so many patches of so few directions is always
           told, and taken with start=theory. Left out: the worthiest first.
diversity  Clusters take turns, one of n patches at a rate of n^balance, and in a cluster its videos do. Left out: one cluster, one video.
duplicates The share `alike` of the clean patches, those with the largest cosines with a harder one of their cluster, comes after all
           others. A share and no cosine, since weak scorers give all patches cosines above 0.9. A harder one and not a worthier one:
           worth goes by quantiles of the whole pool, so every patch that is added would change who is compared with whom, whereas
           the difficulty of a patch stays what it is. Left out: it takes part.

The order does not depend on the budget, so a smaller set is the beginning of a larger one.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from engine import clusters, geometry
from engine.appearance import LIMITS
from engine.config import SelectionConfig
from engine.methods import EndocurateConfig
from engine.pool import Clustering, Pool
from engine.rows import Keys, Rows, rising, together
from engine.selection.budgets import Budget, Order
from engine.selection.clustering import clustered, compared
from engine.selection.spread import Run
from engine.theory import recommendation
from engine.theory.recommendation import Advice

COLUMNS = ("difficulty", "variance", "video_id", *LIMITS)

COPY = 0.999  # cosine above which a patch counts as one more of the same: our choice, as all others are above 0.9 with weak scorers
SAMPLE = 4096  # embeddings, drawn by their patches' ids, of which the directions are counted
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Traits:
    """What the order is made from, a value for every row of a pool (N,)."""

    worth: Floats
    artefact: Floats  # the largest share of a patch over its limit: above 1 it is an artefact
    labels: NDArray[np.int32]
    likeness: NDArray[np.float32]  # the largest cosine with a harder row of the cluster that is no artefact; -1: there is none
    clustering: Clustering | None = None  # that they are from

    @property
    def artefacts(self) -> NDArray[np.bool_]:
        """Rows that count as artefacts: one of LIMITS is passed."""
        return np.asarray(self.artefact > 1)


def endocurate(pool: Pool, budget: Budget, config: SelectionConfig, run: Run) -> Order:
    """The rows in the order of the module's first lines, as many as the budget may take. ValueError for a column that is not a number."""
    knobs = config.endocurate
    traits = measured(pool, config, run, () if pool.rebuilds else ("learnable",))
    examples = different(traits, knobs)
    advice = recommendation.recommended(max(examples, 1), directions(pool))
    start = advice.start if knobs.start == "theory" else knobs.start
    knobs = knobs.model_copy(update={"start": start})
    told = {"artefacts": float(np.mean(traits.artefacts)), "copies": copies(traits), "different": examples}
    told |= {"learnable": float(pool.rebuilds), "start": start, **advised(advice)}
    return Order(ordered(pool, traits, knobs, budget=budget), told, traits.clustering)


def different(traits: Traits, knobs: EndocurateConfig) -> int:
    """How many patches are neither artefacts, nor late for being alike, nor copies: the examples of the theory, without its redundancy.

    The likest are late, so what copies there are beyond these are all that is still to be taken out.
    """
    clean = int(np.sum(~traits.artefacts))
    return clean - max(int(knobs.alike * clean), copies(traits))


def copies(traits: Traits) -> int:
    """How many clean patches are the same as a harder one of their cluster, as far as the scorer can tell."""
    return int(np.sum(~traits.artefacts & (traits.likeness > COPY)))


def directions(pool: Pool) -> float:
    """How many directions the embeddings use, 1 at least: their effective rank. One patch has no directions to compare."""
    rows = np.arange(len(pool)) if len(pool) <= SAMPLE else np.sort(np.argpartition(pool.keys(), SAMPLE)[:SAMPLE])
    return max(1.0, geometry.effective_rank(pool.embeddings().take(rows))) if len(rows) > 1 else 1.0


def advised(advice: Advice) -> dict[str, float]:
    """What the theory would have done, for the run of the choice and the report."""
    return {
        "alpha_tot": advice.alpha_tot,
        "degrees": advice.degrees,
        "recommended_start": advice.start,
        "recommended_share": advice.enough,
    }


def measured(pool: Pool, config: SelectionConfig, run: Run, omitted: Collection[str] = ()) -> Traits:
    """The traits of a pool, without some of the ingredients."""
    worth = pool.numbers("difficulty") if "learnable" in omitted else worth_of(pool)
    artefact = np.zeros(len(pool)) if "guard" in omitted else artefact_of(pool)
    found = clustered(pool, config)
    if "duplicates" not in omitted:
        hardest_first = np.where(artefact <= 1, -pool.numbers("difficulty"), np.nan).astype(np.float32)
        found = compared(pool, found, hardest_first, run)
    labels = np.zeros(len(pool), np.int32) if "diversity" in omitted else found.labels
    return Traits(worth, artefact, labels, np.nan_to_num(found.likeness, nan=-1), found)


def worth_of(pool: Pool) -> Floats:
    """How much of a patch is still to be learnt and can be (N,), 0 to 1."""
    error, constant = pool.numbers("difficulty"), pool.numbers("variance")
    return quantiles(pool, error) * (1 - quantiles(pool, error / np.maximum(constant, 1e-9)))


def quantiles(pool: Pool, values: Floats) -> Floats:
    """The share of a pool's rows that each value (N,) is above, equal ones by key."""
    found = np.empty(len(pool))
    found[rising(values, pool.keys())] = (np.arange(len(pool)) + 0.5) / len(pool)
    return found


def artefact_of(pool: Pool) -> Floats:
    """How near each row is to an artefact (N,): the largest share of a limit that is reached; above 1 it is one."""
    return reduce(np.maximum, [pool.numbers(name) / limit for name, limit in LIMITS.items()])


def ordered(pool: Pool, traits: Traits, knobs: EndocurateConfig, omitted: Collection[str] = (), budget: Budget | None = None) -> Rows:
    """Clean rows that are like none that is harder, in turns; then the alike, the least first; then artefacts, the least first.

    Where the first of these alone are more than the budget takes they are all that is given. `knobs.start` is a number here.
    """
    knobs = knobs.model_copy(update={"start": 1.0}) if "budget" in omitted else knobs
    keys, artefact = pool.keys(), traits.artefacts
    alike = most_alike(np.flatnonzero(~artefact), traits.likeness, keys, 0 if "duplicates" in omitted else knobs.alike)
    plain = np.flatnonzero(~artefact & ~alike)
    videos = np.zeros(len(plain), np.int32) if "diversity" in omitted else pool.codes("video_id", plain)
    first = plain[turns(traits.worth[plain], traits.labels[plain], videos, keys[plain], knobs)]
    if budget and budget.spent(first) > budget.limit:
        return first
    late, last = np.flatnonzero(alike), np.flatnonzero(artefact)
    late, last = late[rising(traits.likeness[late], keys[late])], last[rising(traits.artefact[last], keys[last])]
    return np.concatenate([first, late, last])


def most_alike(clean: Rows, likeness: NDArray[np.float32], keys: Keys, share: float) -> NDArray[np.bool_]:
    """Whether each row (N,) belongs to that share of the clean ones that is likest to others."""
    found = np.zeros(len(keys), np.bool_)
    found[clean[rising(-likeness[clean], keys[clean])][: int(share * len(clean))]] = True
    return found


def turns(worth: Floats, labels: NDArray[np.int32], videos: NDArray[np.int32], keys: Keys, knobs: EndocurateConfig) -> Rows:
    """Rows (n,) so that clusters take turns by size, in them videos, and of each first what is near the quantile where the order starts."""
    if not len(worth):
        return np.zeros(0, np.int64)
    sizes = np.bincount(labels)[labels]
    quantile = (clusters.places(labels, rising(worth, keys)) + 0.5) / sizes
    start = float(knobs.start)
    late = np.where(quantile >= start, quantile - start, 1 - quantile)
    near = rising(late, keys)
    rounds = clusters.places(paired(labels, videos), near)
    turn = clusters.places(labels, near[together(rounds[near], len(near))])
    return rising((turn + 0.5) / sizes**knobs.balance, keys)


def paired(labels: NDArray[np.int32], videos: NDArray[np.int32]) -> NDArray[np.int64]:
    """A number per pair of cluster and video. All (N,)."""
    return labels.astype(np.int64) * (int(videos.max(initial=0)) + 1) + videos
