"""The data sets by name: what was published of each, where to get it, and which function lists its pairs.

Counts are checked before anything is trained: "pairs", "images" (files, of volumes fewer than pairs), "groups", "train" and "test" of the
set's own parts, the name of a group, or "masks of" a class that has files of its own. Sources are landing pages and papers, in words: no
download address is kept here. What of the counts is from memory, and not checked, stands in `recalled`, and is told as that.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.datasets import layouts
from engine.datasets.folders import local
from engine.datasets.pair import Pair


class DataSet(NamedTuple):
    """A known set: how its pairs are listed, what was published of it, where it is to be had."""

    title: str
    pairs: Callable[[Path], list[Pair]]
    published: Mapping[str, int]
    source: str
    licence: str  # as its page says, as far as known; read it there
    classes: tuple[str, ...] = ("polyp",)
    recalled: tuple[str, ...] = ()  # the names of those counts that are from memory

    def counted(self) -> str:
        """The published counts on one line."""
        return ", ".join(f"{count:,} {what}{self.memory(what)}" for what, count in self.published.items())

    def memory(self, what: str) -> str:
        """What follows a published fact that was not looked up again: " (from memory)", else ""."""
        return " (from memory)" if what in self.recalled else ""


SIMULA = "datasets.simula.no"
CVC = "the page CVC-Colon of the Computer Vision Center, Barcelona"
RESEARCH = "research and education; commercial use by permission"
ON_REQUEST = "research only, on request"
NEAR = 0.05  # share of the published pairs that a copy may have more or fewer and still be taken for the set, in a hint

EDD = ("Barrett's oesophagus", "suspicious", "high-grade dysplasia", "cancer", "polyp")
IDRID = ("microaneurysms", "haemorrhages", "hard exudates", "soft exudates", "optic disc")


def of_classes(classes: Sequence[str], counts: Sequence[int]) -> dict[str, int]:
    """Counts by the names that `found` gives them; without counts the names alone, each with 0."""
    return {f"masks of {name}": count for name, count in zip(classes, counts or [0] * len(classes), strict=True)}


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
    "cvc_12k": DataSet(
        "CVC-12k (CVC-VideoClinicDB)", layouts.clinic_video, {"pairs": 11954, "groups": 18}, CVC, ON_REQUEST, recalled=("pairs", "groups")
    ),
    "ead2019": DataSet(
        "EAD2019, semantic segmentation",
        layouts.ead,
        {"pairs": 475},
        "ead2019.grand-challenge.org, arXiv 1905.03209; DataDEL counts 2,991 frames, most of which have boxes only",
        "research only",
        ("instrument", "specularity", "artefact", "bubbles", "saturation"),
        ("pairs",),
    ),
    "edd2020": DataSet(
        "EDD2020",
        layouts.edd,
        {"pairs": 386} | of_classes(EDD, (160, 88, 74, 53, 127)),
        "IEEE DataPort, doi 10.21227/f8xg-wb80; DataDEL counts 380",
        "CC BY-NC 4.0",
        EDD,
        tuple(of_classes(EDD, ())),
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
        ("train", "test"),
    ),
    "idrid": DataSet(
        "IDRiD, segmentation",
        layouts.idrid,
        {"pairs": 81, "train": 54, "test": 27} | of_classes(IDRID, (81, 80, 81, 40, 81)),
        "IEEE DataPort, doi 10.21227/H25W98",
        "CC BY 4.0",
        IDRID,
        tuple(of_classes(IDRID, ())),
    ),
}


def found(pairs: Sequence[Pair], classes: Sequence[str] = ()) -> dict[str, int]:
    """What there is, by the names that published counts go by; of sets with a file for each class, how many files each class has."""
    counts = {
        "pairs": len(pairs),
        "images": len({pair.image for pair in pairs}),
        "groups": len({pair.group for pair in pairs if pair.group}),
    }
    counts |= Counter(name for pair in pairs for name in (pair.part, pair.group) if name)
    if any(pair.coding == "parts" for pair in pairs):
        files = Counter(number for pair in pairs for number, _ in pair.parts)
        counts |= of_classes(classes, [files[number] for number in range(1, len(classes) + 1)])
    return counts


def check(name: str, pairs: list[Pair], uri: str, part: bool = False) -> None:
    """ValueError, one sentence, where counts are not those published, or of a part of the set where one is larger."""
    told, have = SETS[name], found(pairs, SETS[name].classes)
    wrong = [what for what, count in told.published.items() if have.get(what, 0) != count]
    if part:
        wrong = [what for what in wrong if have.get(what, 0) > told.published[what] and what not in told.recalled]
    if not wrong:
        return
    lines = [f"{have.get(what, 0):,} {what} instead of {told.published[what]:,}{told.memory(what)}" for what in wrong]
    lacks = "; ".join(filter(None, (bereft(what, told, pairs) for what in wrong)))
    raise ValueError(
        f"evaluate.uri={uri} is not {told.title} as published: {', '.join(lines)}{f' ({lacks})' * bool(lacks)}{advice(name, pairs, uri)}"
    )


def advice(name: str, pairs: Sequence[Pair], uri: str) -> str:
    """What to do where counts differ: name the set that the folder looks like; else look at the download, or take what is there."""
    count, told = len(pairs), SETS[name]
    root = local(uri)
    if others := [other for other in others_near(name, count) if laid(other, root)]:
        sets = " or ".join(f"{SETS[other].title} has ({SETS[other].published['pairs']:,})" for other in others)
        return f"; about as many pairs as {sets}: evaluate.dataset={' or '.join(others)}"
    if count > told.published.get("pairs", count):
        return f". A part of it has no more; it is to be had at {told.source}, and evaluate.dataset=folder takes any images/ and masks/"
    return f". Was its download interrupted? It is to be had at {told.source}; evaluate.pairs={count} takes what is there"


def bereft(what: str, told: DataSet, pairs: Sequence[Pair]) -> str:
    """The first images without a class that most images have, when files of it are missing; "" for anything else."""
    number = next((place for place, name in enumerate(told.classes, 1) if what == f"masks of {name}"), 0)
    without = [pair.name for pair in pairs if number not in dict(pair.parts)]
    if not number or 2 * len(without) > len(pairs):
        return ""
    return f"without {told.classes[number - 1]}: {', '.join(without[:3])}{', ...' * (len(without) > 3)}"


def near(count: int) -> list[str]:
    """The sets whose published pairs are about as many, the nearest first."""
    gaps = {name: abs(told.published.get("pairs", 0) - count) for name, told in SETS.items()}
    return sorted((name for name, gap in gaps.items() if gap <= NEAR * SETS[name].published.get("pairs", 0)), key=lambda name: gaps[name])


def others_near(name: str, count: int) -> list[str]:
    """Which other sets have about so many pairs; none where the one meant is as near as any."""
    others = near(count)
    return [] if others[:1] == [name] else [other for other in others if other != name]


def likely(root: Path) -> list[tuple[str, str]]:
    """The sets that a folder may be by its layout, each with what to say of it; of images/ and masks/ the count decides."""
    plain = (root / "images").is_dir() and (root / "masks").is_dir()
    there = {name: pairs for name in SETS if (pairs := laid(name, root))}
    if plain:
        several = [name for name in near(max(map(len, there.values()), default=0)) if name in there]
        return [(name, f"{SETS[name].title} ({len(there[name]):,} pairs, published {SETS[name].counted()}): evaluate.dataset={name}")
                for name in several]  # fmt: skip
    return [(name, f"{SETS[name].title}: evaluate.dataset={name}") for name in there]


def laid(name: str, root: Path) -> list[Pair]:
    """The pairs where a folder has the layout of a set, and whatever counts; none where it has not."""
    try:
        return SETS[name].pairs(root)
    except (ValueError, OSError):
        return []
