"""What the papers report, to stand beside our own numbers; nothing here was measured by us."""

from typing import NamedTuple

SOURCE = (
    "OptiDEL, arXiv 2408.07107, Table 1: means over its eight test sets, without seeds or intervals; NormDEL computed from it at alpha = 1"
)


class Reported(NamedTuple):
    """What a paper reports of a method at a share of the data."""

    miou: float  # a fraction, like the next
    normdel: float


# By method and share of the pre-training data. The means are ours, over the table in the text of versions 1 and 2.
OPTIDEL = {
    ("full data", 1.0): Reported(0.6872, 0.5628),
    ("random", 0.05): Reported(0.6544, 0.6504),
    ("meddel", 0.05): Reported(0.6819, 0.6563),
    ("optidel", 0.05): Reported(0.7159, 0.6635),
    ("random", 0.1): Reported(0.6762, 0.6479),
    ("meddel", 0.1): Reported(0.6852, 0.6498),
    ("optidel", 0.1): Reported(0.7253, 0.6580),
    ("random", 0.25): Reported(0.6727, 0.6277),
    ("meddel", 0.25): Reported(0.6892, 0.6308),
    ("optidel", 0.25): Reported(0.7377, 0.6396),
    ("random", 0.5): Reported(0.6711, 0.6002),
    ("meddel", 0.5): Reported(0.6867, 0.6025),
    ("optidel", 0.5): Reported(0.7157, 0.6067),
}
