"""The data sets by name: what was published of each, where to get it, and which function lists its pairs.

Counts are checked before anything is trained: "pairs", "images" (files, of volumes fewer than pairs), "groups", "train" and "test" of the
set's own parts, or the name of a group. Sources are landing pages and papers, in words: no download address is kept here.
From memory, and not checked: the counts of EAD2019 and CVC-12k, and those of the parts of COVID-QU-Ex.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from engine.datasets import layouts
from engine.datasets.pair import Pair


class DataSet(NamedTuple):
    title: str
    pairs: Callable[[Path], list[Pair]]
    published: Mapping[str, int]
    source: str
    licence: str  # as its page says, as far as known; read it there
    classes: tuple[str, ...] = ("polyp",)


SIMULA = "datasets.simula.no"
CVC = "the page CVC-Colon of the Computer Vision Center, Barcelona"
RESEARCH = "research and education; commercial use by permission"
ON_REQUEST = "research only, on request"

SETS: dict[str, DataSet] = {
    "kvasir_seg": DataSet("Kvasir-SEG", layouts.flat, {"pairs": 1000}, f"{SIMULA}/kvasir-seg, arXiv 1911.07069", RESEARCH),
    "kvasir_sessile": DataSet("Kvasir-Sessile", layouts.flat, {"pairs": 196}, f"{SIMULA}/kvasir-seg", RESEARCH),
    "kvasir_instrument": DataSet(
        "Kvasir-Instrument", layouts.flat, {"pairs": 590}, f"{SIMULA}/kvasir-instrument, arXiv 2011.08065", RESEARCH, ("instrument",)
    ),
    # Which release has as many images with masks, neither MedDEL nor OptiDEL says; images/ and masks/ are our assumption.
    "imageclefmed": DataSet(
        "ImageCLEFmed", layouts.flat, {"pairs": 66662}, "imageclef.org, after registration", "by its agreement", ("foreground",)
    ),
    "etis_larib": DataSet(
        "ETIS-Larib", layouts.etis, {"pairs": 196}, "polyp.grand-challenge.org, doi 10.1007/s11548-013-0926-3", "research only"
    ),
    "polypgen": DataSet(
        "PolypGen2021, single frames",
        layouts.polypgen,
        {"pairs": 1537, "C1": 256, "C2": 301, "C3": 457, "C4": 227, "C5": 208, "C6": 88},
        "synapse.org, doi 10.7303/syn26376615; doi 10.1038/s41597-023-01981-y",
        "CC BY 4.0",
    ),
    "polypgen_sequences": DataSet(
        "PolypGen2021, positive sequences",
        layouts.polypgen_sequences,
        {"pairs": 2225, "groups": 23},
        "synapse.org, doi 10.7303/syn26376615; with the single frames the published 3,762",
        "CC BY 4.0",
    ),
    "cvc_300": DataSet("CVC-300, EndoScene's test part", layouts.flat, {"pairs": 60}, f"{CVC}; the test sets of PraNet", ON_REQUEST),
    "endoscene": DataSet(
        "CVC-EndoSceneStill", layouts.endoscene, {"pairs": 912, "train": 730, "test": 182}, f"{CVC}; arXiv 1612.00799", ON_REQUEST
    ),
    "cvc_clinicdb": DataSet(
        "CVC-ClinicDB", layouts.clinic, {"pairs": 612}, f"{CVC}; doi 10.1016/j.compmedimag.2015.02.007", "research only"
    ),
    "cvc_colondb": DataSet("CVC-ColonDB", layouts.colon, {"pairs": 380}, f"{CVC}; the test sets of PraNet", "research only"),
    "cvc_12k": DataSet("CVC-12k (CVC-VideoClinicDB)", layouts.clinic_video, {"pairs": 11954, "groups": 18}, CVC, ON_REQUEST),
    "ead2019": DataSet(
        "EAD2019, semantic segmentation",
        layouts.ead,
        {"pairs": 475},
        "ead2019.grand-challenge.org, arXiv 1905.03209; DataDEL counts 2,991 frames, most of which have boxes only",
        "research only",
        ("instrument", "specularity", "artefact", "bubbles", "saturation"),
    ),
    "edd2020": DataSet(
        "EDD2020",
        layouts.edd,
        {"pairs": 386},
        "IEEE DataPort, doi 10.21227/f8xg-wb80; DataDEL counts 380",
        "CC BY-NC 4.0",
        ("Barrett's oesophagus", "suspicious", "high-grade dysplasia", "cancer", "polyp"),
    ),
    "acdc": DataSet(
        "ACDC",
        layouts.acdc,
        {"images": 300, "groups": 150},
        "acdc.creatis.insa-lyon.fr, after registration; doi 10.1109/TMI.2018.2837502",
        "CC BY-NC-SA 4.0",
        ("right ventricle", "myocardium", "left ventricle"),
    ),
    "covid_qu_ex": DataSet(
        "COVID-QU-Ex, infection segmentation",
        layouts.covid,
        {"pairs": 5826, "train": 4660, "test": 1166},
        "Kaggle, anasmohammedtahir/covidqu; doi 10.1016/j.compbiomed.2021.104319",
        "CC BY-SA 4.0",
        ("infection",),
    ),
    "idrid": DataSet(
        "IDRiD, segmentation",
        layouts.idrid,
        {"pairs": 81, "train": 54, "test": 27},
        "IEEE DataPort, doi 10.21227/H25W98",
        "CC BY 4.0",
        ("microaneurysms", "haemorrhages", "hard exudates", "soft exudates", "optic disc"),
    ),
}


def found(pairs: list[Pair]) -> dict[str, int]:
    """What there is, by the names that published counts go by."""
    counts = {
        "pairs": len(pairs),
        "images": len({pair.image for pair in pairs}),
        "groups": len({pair.group for pair in pairs if pair.group}),
    }
    for name in [*(pair.part for pair in pairs), *(pair.group for pair in pairs)]:
        if name:
            counts[name] = counts.get(name, 0) + 1
    return counts


def check(name: str, pairs: list[Pair], uri: str) -> None:
    """ValueError, one sentence, where counts are not those published."""
    told, have = SETS[name], found(pairs)
    wrong = [f"{have.get(what, 0):,} {what} instead of {count:,}" for what, count in told.published.items() if have.get(what, 0) != count]
    if not wrong:
        return
    others = [other.title for other in SETS.values() if other.published.get("pairs") == len(pairs)]
    guess = f"; as many pairs as {' or '.join(others)} has" if others else ""
    raise ValueError(
        f"evaluate.uri={uri} is not {told.title} as published: {', '.join(wrong)}{guess}. Was its download interrupted? "
        f"It is to be had at {told.source}; evaluate.pairs={len(pairs)} takes what is there"
    )


def likely(root: Path) -> list[str]:
    """The sets that a folder may be by its layout; by images/ and masks/, which many have, only with the published counts."""
    plain = (root / "images").is_dir() and (root / "masks").is_dir()
    return [name for name in SETS if fits(name, root, counted=plain)]


def fits(name: str, root: Path, counted: bool) -> bool:
    try:
        pairs = SETS[name].pairs(root)
        if counted:
            check(name, pairs, str(root))
    except (ValueError, OSError):
        return False
    return bool(pairs)
