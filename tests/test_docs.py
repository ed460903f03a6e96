"""The pages under docs say what the code says, and the code says what its public names are."""

import ast
import csv
import re
from pathlib import Path

import pytest

from docs import knobs
from engine.config import Config
from engine.knobs import flat
from engine.store.tables import CLUSTERS, MADE_LATER, ROUNDED, SCORES, TABLES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for part in ("engine", "jobs") for path in (ROOT / part).rglob("*.py"))
ROWS = [line.split(" | ") for line in knobs.PAGE.read_text().splitlines() if line.startswith("| `")]


def test_the_page_of_knobs_is_what_the_code_makes_of_itself():
    assert knobs.PAGE.read_text() == knobs.page(), "write it anew by: python -m docs.knobs"


def test_it_has_every_knob_once_with_its_default():
    real = flat(Config())
    assert [row[0] for row in ROWS] != []
    assert sorted(row[0].strip("| `") for row in ROWS) == sorted(real)
    told = {row[0].strip("| `"): row[1].strip("`") for row in ROWS}
    assert (told["frames.every_s"], told["selection.method"], told["difficulty.checkpoint"]) == ("1.0", "optidel", "empty")
    assert told["probe.train.epochs"] == "20"  # of the section as the configuration has it, not of its class
    assert told["patches.box_sides"] == ",".join(map(str, real["patches.box_sides"]))


def test_every_knob_says_what_it_is_and_what_it_takes():
    assert [row[0] for row in ROWS if not row[2].strip() or not row[3].strip(" |")] == []
    told = {row[0].strip("| `"): row[2] for row in ROWS}
    assert told["selection.budget"] == "number > 0"
    assert told["patches.quality"] == "whole number ≥ 1 ≤ 100"
    assert told["synthesis.fill"] == "`crop`, `pad`"


@pytest.mark.parametrize("page", ["docs/data-protection.md", "README.md"])
def test_readers_are_told_of_every_table_of_a_store(page):
    told = (ROOT / page).read_text()
    every = ["patches", *(name for name in TABLES if name != "locks"), *MADE_LATER, f"{SCORES}*", f"{CLUSTERS}*", f"{ROUNDED}*"]
    assert [name for name in every if f"`{name}`" not in told] == []


def told_in_readme(head, count):
    """The method and the cells of each of so many rows below a table's head."""
    lines = (ROOT / "README.md").read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(head))
    names = {"MedDEL": "meddel", "OptiDEL-S": "optidel_s", "OptiDEL": "optidel"}
    for line in lines[start + 2 : start + 2 + count]:
        name, *values = (one.strip() for one in line.strip("|").split("|"))
        yield names.get(name, name), values


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
    with (ROOT / "docs" / "benchmark.csv").open(newline="") as rows:
        kept = list(csv.DictReader(rows))
    assert told == {(row["dataset"], row["method"], row["budget"], row["miou"][1:], f"±{row['half'][1:]}") for row in kept}
    assert {(row["seeds"], row["commit"][:7]) for row in kept} == {("3", "d598889")}
    above, _, _ = (ROOT / "README.md").read_text().partition("| | Kvasir-SEG 10 %")
    assert "commit d598889" in above[-300:]


def undocumented(tree, name):
    """The public names without a docstring in a module, in its classes too.

    What begins with an underscore is nobody else's; a special method does what Python says of it, with the arguments that its class
    tells of; a validator is a rule with its sentence, and its name is all that there is to promise.
    """
    if ast.get_docstring(tree) is None:
        yield name
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        rules = ("model_validator", "field_validator")
        if not any(ast.unparse(one).startswith(rules) for one in node.decorator_list):
            yield from undocumented(node if isinstance(node, ast.ClassDef) else ast.Module([node.body[0]], []), f"{name}.{node.name}")


def test_a_name_without_a_docstring_is_found_wherever_it_is_public():
    text = """
"A module."
class Bare:
    def __len__(self): return 1
    @property
    def size(self): return 1
    @model_validator(mode="after")
    def fits(self): return self
    def told(self): "Told."
def _own(): return 1
async def later(): return 1
"""
    assert list(undocumented(ast.parse(text), "m")) == ["m.Bare", "m.Bare.size", "m.later"]
    assert list(undocumented(ast.parse("one = 1"), "m")) == ["m"]


def test_every_public_name_has_a_docstring():
    assert len(SOURCES) > 200
    found = [name for path in SOURCES for name in undocumented(ast.parse(path.read_text()), str(path.relative_to(ROOT)))]
    assert found == []


def test_the_table_of_all_cells_together_in_the_readme_is_what_was_measured():
    rows_told = told_in_readme("| over random |", 5)
    told = {(name, *re.sub(r"[(),]| to", "", " ".join(values)).split()) for name, values in rows_told}
    with (ROOT / "docs" / "benchmark-together.csv").open(newline="") as rows:
        kept = list(csv.DictReader(rows))
    columns = ("difference", "low", "high", "p_seeds", "p_seeds_holm", "p_flips", "p_flips_holm")
    assert told == {(row["method"], *(row[name].replace("0.", ".") for name in columns)) for row in kept if row["over"] == "random"}
    against = [row for row in kept if row["over"] == "full data" and row["cells"] == "6"]
    assert {row["difference"] for row in against} >= {"-0.016", "-0.009"}
    assert min(against, key=lambda row: float(row["p_seeds"]))["method"] == "optidel"
