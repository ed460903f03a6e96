"""The numbers of README's Results are those of the files beside its pages."""

import csv
import re
from pathlib import Path

from engine import judge

ROOT = Path(__file__).resolve().parent.parent


def measured(name):
    """The rows of a file of results beside the pages."""
    with (ROOT / "docs" / f"{name}.csv").open(newline="") as rows:
        return list(csv.DictReader(rows))


def told_in_readme(head, count):
    """The method and the cells of each of so many rows below a table's head."""
    lines = (ROOT / "README.md").read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(head))
    names = {"MedDEL": "meddel", "OptiDEL-S": "optidel_s", "OptiDEL": "optidel"}
    for line in lines[start + 2 : start + 2 + count]:
        name, *values = (one.strip() for one in line.strip("|").split("|"))
        yield names.get(name, name), values


def told_of(title):
    """The paragraph of the README that begins with these words, on one line."""
    return " ".join((ROOT / "README.md").read_text().partition(f"**{title}**")[2].partition("\n\n")[0].split())


def shares(text, *names):
    """By each name the mean and half of the interval that stand behind it, as the files write them."""
    return {name: ("0" + mean, "0" + half) for name in names for mean, half in re.findall(rf"{name} (\.\d+) ±(\.\d+)", text)}


def kept_of(rows):
    """The same of rows of a file."""
    return {row["method"]: (row["miou"], row["half"]) for row in rows}


def test_the_table_of_the_benchmark_in_the_readme_is_what_was_measured():
    told = set()
    for name, values in told_in_readme("| | Kvasir-SEG 10 %", 7):
        budgets = ("0.1", "0.25", "0.5")
        if name.startswith("all data"):
            values, budgets = [one.strip() for value in (values[0], values[3]) for one in value.split("/")], ("1", "0")
        spots = [(where, budget) for where in ("Kvasir-SEG", "PolypGen2021") for budget in budgets]
        for (where, budget), value in zip(spots, values, strict=True):
            method = {"0": "no pre-training", "1": "full data"}.get(budget, name)
            told.add((where, method, budget, *value.split(" ")))
    kept = measured("benchmark")
    assert told == {(row["dataset"], row["method"], row["budget"], row["miou"][1:], f"±{row['half'][1:]}") for row in kept}
    assert {(row["seeds"], row["commit"][:7]) for row in kept} == {("3", "d598889")}
    above, _, _ = (ROOT / "README.md").read_text().partition("| | Kvasir-SEG 10 %")
    assert "commit d598889" in above[-300:]


def test_the_table_of_all_cells_together_in_the_readme_is_what_was_measured():
    rows_told = told_in_readme("| over random |", 5)
    told = {(name, *re.sub(r"[(),]| to", "", " ".join(values)).split()) for name, values in rows_told}
    kept = measured("benchmark-together")
    columns = ("difference", "low", "high", "p_seeds", "p_seeds_holm", "p_flips", "p_flips_holm")
    assert told == {(row["method"], *(row[name].replace("0.", ".") for name in columns)) for row in kept if row["over"] == "random"}
    against = [row for row in kept if row["over"] == "full data" and row["cells"] == "6"]
    assert {row["difference"] for row in against} >= {"-0.016", "-0.009"}
    assert min(against, key=lambda row: float(row["p_seeds"]))["method"] == "optidel"


def test_what_the_readme_says_of_the_simulated_study_is_what_was_measured():
    told, kept = told_of("A second study, simulated clips as the pool"), measured("benchmark-simulated")
    every = [row for row in kept if row["method"] in ("no pre-training", "full data")]
    choices = [row for row in kept if row not in every]
    assert len({(row["method"], row["budget"]) for row in choices}) == len(choices) == 15
    assert shares(told.replace("all data", "full data"), "no pre-training", "full data") == kept_of(every)
    low, high = re.search(r"every choice at every budget between (\.\d+) and (\.\d+)\.", told).groups()
    assert {"0" + low, "0" + high} == {pick(row["miou"] for row in choices) for pick in (min, max)}
    seeds, cells, commit = re.search(r"(\w+) seeds, (\d+) cells, commit (\w{7});", told).groups()
    assert {(row["dataset"], row["seeds"], row["commit"][:7]) for row in kept} == {("Kvasir-SEG", {"three": "3"}[seeds], commit)}
    assert sum(int(row["seeds"]) for row in kept) == int(cells)


def test_what_the_readme_says_of_all_simulated_cells_together_is_what_was_measured():
    told, kept = told_of("A second study, simulated clips as the pool"), measured("benchmark-simulated-together")
    ours = next(row for row in kept if (row["method"], row["over"]) == ("endocurate", "random"))
    said = re.search(r"endocurate ([+-]\.\d+), ([+-]?\.\d+) to ([+-]?\.\d+)\)", told).groups()
    assert [float(number) for number in said] == [float(ours[column]) for column in ("difference", "low", "high")]
    assert "No method is told from random" in told
    assert "or from all data" in told
    assert {row["over"] for row in kept} == {"random", "full data"}
    assert min(float(row[p]) for row in kept for p in ("p_seeds_holm", "p_flips_holm") if row[p]) > 0.05
    assert all(float(row["low"]) < 0 < float(row["high"]) for row in kept)


def test_what_the_readme_says_of_simclr_is_what_was_measured():
    told, kept = told_of("With SimCLR"), measured("benchmark-simclr")
    text = told.replace("all data", "full data").replace("OptiDEL", "optidel")
    assert shares(text, *(row["method"] for row in kept)) == kept_of(kept)
    share, commit = re.search(r"Kvasir-SEG, (\d+) %, .* three seeds, commit (\w{7});", told).groups()
    budgets = {row["budget"] for row in kept if row["method"] not in ("no pre-training", "full data")}
    assert budgets == {str(int(share) / 100)}
    assert {(row["dataset"], row["seeds"], row["commit"][:7]) for row in kept} == {("Kvasir-SEG", "3", commit)}


def test_what_the_readme_says_was_known_before_the_benchmark_is_what_was_measured():
    told, kept = told_of("Nothing here is told apart"), measured("benchmark-checks")
    pattern = r"difficulty (\S+), FID (\S+) \(of (\d+) .*? takes (\d+)\), embedding distance (\S+), V-information estimate and mIoU (\S+),"
    difficulty, fid, images, taken, distance, information = re.search(pattern, told).groups()
    assert [float(number) for number in (difficulty, fid, distance, information)] == [float(row["value"]) for row in kept]
    assert [row["known"] for row in kept] == ["difficulty", "FID", "embedding distance", "V-information estimate"]
    assert f"of {images} training images" in kept[1]["taken"]
    assert int(taken) == judge.IMAGES
    assert all(float(row["low"]) < 0 < float(row["high"]) for row in kept)
    assert {row["commit"][:7] for row in kept} == {"d598889"}


def test_what_the_readme_says_could_have_been_told_is_what_was_measured():
    told, kept = told_of("Nothing here is told apart"), measured("benchmark-tellable")
    assert {row["comparisons"] for row in kept} == set(re.findall(r"of (\d+) paired comparisons on each set", told)) == {"34"}
    least = re.search(r"the least p after Holm is (\S+) and (\S+)\)", told).groups()
    could = re.search(r"differences below (\S+) \(Kvasir-SEG\) and (\S+) \(PolypGen\)", told).groups()
    assert [row["dataset"] for row in kept] == ["Kvasir-SEG", "PolypGen2021"]
    assert [tuple("0" + number for number in pair) for pair in (least, could)] == [
        tuple(row[column] for row in kept) for column in ("least_p_holm", "tellable")
    ]


def test_what_the_readme_says_of_regions_over_crops_is_what_was_measured():
    told, kept = told_of("Nothing here is told apart"), measured("benchmark-regions")
    who, low, high, seconds = re.search(
        r"(\w+)'s regions .*?: between (\S+) and (\S+), for (\S+) s of a processor a frame in bfloat16", told
    ).groups()
    differences = [float(row["difference"]) for row in kept]
    assert (float(low), float(high)) == (min(differences), max(differences))
    assert {(row["proposer"], row["processor_s_a_frame"]) for row in kept} == {(f"{who} in bfloat16", seconds)}
    means = {(row["dataset"], row["budget"], row["method"]): float(row["miou"]) for row in measured("benchmark")}
    for row in kept:  # of means that were rounded
        mine, other = (means[row["dataset"], row["budget"], method] for method in ("optidel", "optidel_s"))
        assert abs(mine - other - float(row["difference"])) < 0.0016
