"""DEL and NormDEL of MedDEL: segmentation quality against the data it took."""

import math


def del_index(miou: float, retained: float, alpha: float = 1.0) -> float:
    """DEL = mIoU * exp(-alpha * R): segmentation quality, discounted by the share R of the pre-training data it took.

    mIoU from 0 to 1, R above 0 and up to 1, alpha above 0. Source: MedDEL (arXiv 2401.17542), README, section "NormDEL";
    alpha = 1 is not printed there but follows from both values of its figure 1 to the last digit. ValueError for what is no fraction.
    """
    if not 0 <= miou <= 1:
        raise ValueError(f"miou={miou} must be a fraction from 0 to 1{hint(miou)}")
    check_share("retained", retained)
    check_alpha(alpha)
    return miou * math.exp(-alpha * retained)


def normdel(miou: float, retained: float, alpha: float = 1.0) -> float:
    """NormDEL = 1 / (1 + exp(-DEL)), the Normalized Delete Index of MedDEL (arXiv 2401.17542).

    It changes no ranking of DEL, and mostly ranks R: a useless model scores 0.5, a perfect one on all data 0.591 (alpha = 1).
    Compare methods at equal R.
    """
    return 1 / (1 + math.exp(-del_index(miou, retained, alpha)))


def break_even(retained: float, against: float, alpha: float = 1.0) -> float:
    """The mIoU ratio m(retained) / m(against) above which NormDEL prefers `retained`: exp(-alpha * (against - retained)).

    Follows from the definition, as the sigmoid is monotone: at 5 % of the data NormDEL forgives a loss of 61 % of the mIoU.
    """
    check_share("retained", retained)
    check_share("against", against)
    check_alpha(alpha)
    return math.exp(-alpha * (against - retained))


def check_share(name: str, value: float) -> None:
    """ValueError where a share is not above 0 and up to 1; a likely percentage is told so."""
    if not 0 < value <= 1:
        raise ValueError(f"{name}={value} must be a fraction above 0 and up to 1{hint(value)}")


def check_alpha(alpha: float) -> None:
    """ValueError where alpha is no finite number above 0."""
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha={alpha} must be a number above 0")


def hint(value: float) -> str:
    """What to write instead of what looks like a percentage; else ""."""
    return f"; {value} looks like a percentage, write {value / 100:g}" if 1 < value <= 100 else ""
