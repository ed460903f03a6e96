"""`python -m docs.stopping FOLDER` writes docs/stopping.csv anew: our means over the scores of arXiv 2410.18677 there."""

import csv
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs.__main__ import main

PAGE = Path(__file__).with_suffix(".csv")
TABLES = ("baselines", "frontier", "ours", "curve", "uses")  # of transfer-study what README, left.md and the tests speak of
MORE = ("more_regret", "regret_low", "regret_high", "more_tis", "tis_low", "tis_high")
COLUMNS = ("table", "rule", "epochs", "regret", "tis", "least_tis", *MORE, "than")


def page(folder: str) -> str:
    """The rows of the study of a folder of released scores, as CSV; OSError where the study ends with another status than 0."""
    with TemporaryDirectory() as there:
        out = Path(there) / "study.json"
        if status := main(["transfer-study", f"study.uri={folder}", "output.format=json", f"output.path={out}"]):
            raise OSError(f"transfer-study of {folder} ended with status {status}, expected 0")
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerows([COLUMNS, *(cells(row) for row in rows if row["table"] in TABLES)])
    return made.getvalue()


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as text, of numbers six digits; whole epochs as whole numbers."""
    text = {name: f"{value:.6f}" if isinstance(value, int | float) else value or "" for name, value in row.items()}
    text["epochs"] = text["epochs"].removesuffix(".000000")
    return [text[name] for name in COLUMNS]


if __name__ == "__main__":
    PAGE.write_text(page(sys.argv[1]))
