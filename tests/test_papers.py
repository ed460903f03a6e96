"""What papers and pages say of data sets and figures, written out: a count that a slip changes stands here a second time."""

from pathlib import Path

import numpy as np
import pytest

from engine.datasets import SETS
from engine.datasets.sources import SOURCES
from engine.theory import figures
from engine.theory.figures import Setting
from jobs import matrix

# DataDEL's and MedDEL's table (arXiv 2401.17542, and figure 2 of its repository) where it counts a set as we do; pages of the sets else.
PAIRS = {
    "kvasir_seg": 1000,
    "kvasir_sessile": 196,
    "kvasir_instrument": 590,
    "imageclefmed": 66662,
    "etis_larib": 196,
    "polypgen": 1537,
    "polypgen_sequences": 2225,
    "cvc_300": 60,
    "endoscene": 912,
    "cvc_clinicdb": 612,
    "cvc_colondb": 380,
    "cvc_12k": 11954,
    "ead2019": 475,
    "edd2020": 386,
    "covid_qu_ex": 5826,
    "idrid": 81,
}
PARTS = {
    "polypgen": {"C1": 256, "C2": 301, "C3": 457, "C4": 227, "C5": 208, "C6": 88},
    "polypgen_sequences": {"groups": 23},
    "endoscene": {"train": 547 + 183, "test": 182},  # arXiv 1612.00799: training and validation, and the rest of 912
    "cvc_12k": {"groups": 18},
    "edd2020": dict(
        zip(("Barrett's oesophagus", "suspicious", "high-grade dysplasia", "cancer", "polyp"), (160, 88, 74, 53, 127), strict=True)
    ),
    "acdc": {"images": 2 * (100 + 50), "groups": 100 + 50},  # two volumes of each patient
    "covid_qu_ex": {"train": 4660, "test": 1166},
    "idrid": {"train": 54, "test": 27}
    | dict(zip(("microaneurysms", "haemorrhages", "hard exudates", "soft exudates", "optic disc"), (81, 80, 81, 40, 81), strict=True)),
}
# Files to pre-train on, by folder; the same table has 110,079 frames and 374 videos of HyperKvasir and 117 videos of Kvasir-Capsule.
FILES = {
    "ldpolypvideo": {"TrainValid/Images": 0, "Test/Images": 0, ".": 901666},
    "hyperkvasir": {
        "labeled-images": 10662,
        "unlabeled-images/images": 99417,
        "labeled-videos": 374,
        "segmented-images/images": 1000,
        "segmented-images/masks": 0,
    },
    "gastrovision": {".": 8000},
    "kvasir_capsule": {"labelled_images": 47238, "labelled_videos": 43, "unlabelled_videos": 74},
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_has_the_counts_that_were_published_of_it(name: str) -> None:
    told = {what.removeprefix("masks of "): count for what, count in SETS[name].published.items()}
    assert told == ({"pairs": PAIRS[name]} if name in PAIRS else {}) | PARTS.get(name, {})


def test_the_parts_of_a_set_are_all_of_it_and_polypgen_is_its_frames_and_its_sequences() -> None:
    for name in ("endoscene", "covid_qu_ex", "idrid"):
        assert PARTS[name]["train"] + PARTS[name]["test"] == PAIRS[name]
    assert sum(PARTS["polypgen"].values()) == PAIRS["polypgen"]
    assert PAIRS["polypgen"] + PAIRS["polypgen_sequences"] == 3762


def test_sources_have_the_files_that_were_published_of_them() -> None:
    assert {name: {part.folder: part.published for part in told.parts} for name, told in SOURCES.items()} == FILES
    assert FILES["hyperkvasir"]["labeled-images"] + FILES["hyperkvasir"]["unlabeled-images/images"] == 110079
    assert FILES["kvasir_capsule"]["labelled_videos"] + FILES["kvasir_capsule"]["unlabelled_videos"] == 117


def test_optidels_protocol_has_the_images_epochs_batches_iterations_budgets_and_test_sets_of_the_paper() -> None:
    config, made = matrix.read("paper")
    assert config.benchmark.frames == 2_857_772
    assert (config.pretrain.epochs, config.pretrain.batch * config.pretrain.accumulate, config.evaluate.iterations) == (100, 16, 20_000)
    assert made.budgets == (0.05, 0.1, 0.25, 0.5)
    tested = {cell.config.evaluate.dataset for cell in matrix.cells(config, made)}
    known = {"kvasir_instrument", "kvasir_seg", "imageclefmed", "etis_larib", "polypgen", "cvc_300", "cvc_clinicdb", "cvc_colondb"}
    assert tested == known


def test_the_figures_of_theory_are_those_of_optidel() -> None:
    """Angles, pools, copies and shares of arXiv 2408.07107 and of the notebook beside it."""
    small, large = (5, 10, 20, 50, 100), (20, 50, 100, 200, 500)
    sizes = [(one.figure[:6], one.pools, one.degrees, one.keep, one.redundancy) for one in figures.SETTINGS]
    assert sizes == [
        *(("Fig. 3", small, degrees, "hard", 1) for degrees in (0, 10, 20)),
        *(("Fig. 4", large, 10, "hard", copies) for copies in (3, 5, 10)),
        ("Fig. 5", large, 10, "hard", 1),
        *(("Fig. 7", large, 10, keep, 1) for keep in ("hard", "easy", "random")),
    ]
    assert {one.figure[:6] for one in figures.SETTINGS if one.downstream} == {"Fig. 5"}
    assert list(figures.FRACTIONS) == pytest.approx([10 ** (-2 + 2 * place / 11) for place in range(12)])


def test_the_bias_downstream_is_as_far_as_the_notebooks_teacher_turns() -> None:
    """w_down = (T + .4 (0, 1, ..., 1)) / norm in 30 dimensions, T 10 degrees off the first axis."""
    (biased,) = [one for one in figures.SETTINGS if one.downstream]
    assert isinstance(biased, Setting)
    aside = np.random.default_rng(0).normal(size=(2000, 29))
    angle = np.radians(10)
    teachers = np.hstack([np.full((2000, 1), np.cos(angle)), np.sin(angle) * aside / np.linalg.norm(aside, axis=1, keepdims=True)])
    turned = teachers + 0.4 * (np.arange(30) > 0)
    cosines = (teachers * turned).sum(1) / np.linalg.norm(turned, axis=1)
    assert biased.downstream == pytest.approx(np.degrees(np.arccos(cosines)).mean(), abs=0.3)


def test_what_the_protocol_tests_of_polypgen_is_said_where_it_is_named_and_where_it_is_explained():
    protocol = Path(matrix.__file__).with_name("protocols") / "paper.yaml"
    for path in (protocol, Path("docs/benchmark.md"), Path("docs/left.md")):
        told = " ".join(path.read_text().replace("#", "").split())
        assert f"{PAIRS['polypgen']:,} single frames" in told, path
        assert f"{PAIRS['polypgen'] + PAIRS['polypgen_sequences']:,}" in told, path
