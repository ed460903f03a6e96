"""The equations the claims rest on; every quantity is a fraction, never a percentage, and every angle is in degrees.

indices         DEL and NormDEL, by which the papers weigh quality against the data it took
perceptron      what pruning does to a perceptron taught by another: its error by equations
simulation      the same error by drawing pools and finding the largest margin
figures         the papers' figures of both, kept as JSON
recommendation  what follows for a pool of patches
"""

from engine.theory.indices import break_even, del_index, normdel

__all__ = ["break_even", "del_index", "normdel"]
