"""The pages under docs say what the code says."""

from pathlib import Path

from docs import knobs
from engine.config import Config
from engine.knobs import flat
from engine.store.tables import TABLES

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


def test_data_officers_are_told_of_every_table_of_a_store():
    told = (Path(knobs.PAGE).parent / "data-protection.md").read_text()
    assert [name for name in TABLES if f"`{name}`" not in told] == []
