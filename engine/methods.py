"""The knobs of single methods of selection; what all methods share is config's."""

from typing import Annotated

from pydantic import Field

from engine.models import Positive, Section, Share, ShareOrTheory


class DensityConfig(Section):
    """Density-Based Pruning (Abbas, Rusak et al., ICLR 2024). Defaults: amro-kamal/effective_pruning"""

    tau: Annotated[float, Field(gt=0)] = 0.5  # [of complexity] temperature of the softmax over clusters
    balance: Share = 0.5  # [share] of an even share that every cluster keeps at least


class D4Config(Section):
    """SemDeDup, then the SSL prototypes of what that leaves (arXiv 2308.12284)."""

    # [share of the patches] that SemDeDup leaves. Default: D4 (arXiv 2308.12284), from memory, since no code of it was found
    dedup: Annotated[float, Field(gt=0, le=1)] = 0.75


class HierarchicalConfig(Section):
    """Clusters of clusters, evenly (Vo et al. 2024). Defaults: facebookresearch/ssl-data-curation, its small example"""

    levels: Positive = 2  # [levels] the first has selection.clusters, each further one 3/10 of those below it
    sample: Annotated[float, Field(gt=0, le=1)] = 0.5  # [share of a mean cluster] so many nearest ones of each are clustered anew


class EndocurateConfig(Section):
    """Our own method, endocurate. The values were not tuned; the meaning of `alike` was changed once after a look at real images.

    Defaults: our choice, because halves claim the least, and nothing was tuned
    """

    # [quantile] of worth in its cluster of the patch that is taken first: the median. Or theory: where that of pruning begins on such a
    # pool
    start: ShareOrTheory = 0.5
    balance: Share = 0.5  # [exponent] clusters of n patches are taken from at a rate of n^balance: 0 all alike, 1 by size
    alike: Share = 0.5  # [share of the clean patches] those likest to others, which come after the rest; D4: 0.25, of texts


def refuse_dealt_twice(method: str, order: str, told: str) -> None:
    """ValueError for images in an order that deals out what a method has dealt out over them; `told` says what was asked for."""
    if method == "rded" and order == "spread":
        raise ValueError(f"{told} deals its patches out over the images, and synthesis.order=spread would do so again: take rank")
