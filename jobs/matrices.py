"""The matrices that were run on a store: rows of the table `results` as boards, one for each data set and architecture."""

import json
from collections.abc import Collection
from typing import Any

import numpy as np

from engine.charts import amount
from engine.entries import Board, Entry, Failure
from engine.scores import Marks
from engine.standings import MatrixResults, matrix_results
from engine.store import PatchStore

PROPOSAL = "proposal_s_per_frame"  # among the measures of a selection: what proposing its patches takes


def of_store(store: PatchStore) -> list[MatrixResults]:
    """Every matrix that was run on a store: of each data set and architecture the newest of each cell, as far as they may be compared."""
    matrices: dict[str, list[dict[str, Any]]] = {}
    for row in store.results().to_pylist():
        matrices.setdefault(row["matrix"], []).append(row)
    return [results_of(name, rows) for name, rows in matrices.items()]


def of_cells(store: PatchStore, name: str, fingerprints: Collection[str]) -> MatrixResults:
    """One matrix as these cells of it came out."""
    return results_of(name, [row for row in store.results().to_pylist() if row["fingerprint"] in fingerprints])


def results_of(name: str, rows: list[dict[str, Any]]) -> MatrixResults:
    """The rows of a matrix as boards, one for each architecture and data set."""
    boards: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        boards.setdefault((row["architecture"], row["dataset"]), []).append(row)
    return matrix_results(name, map(board, boards.values()), proposals(rows))


def board(rows: list[dict[str, Any]]) -> Board:
    """The rows of a data set under an architecture, oldest first: those that `comparable` keeps, of each cell the newest.

    Rows of before results told what data they are of have a protocol of their own: they are a board until there is a newer row, then
    others.
    """
    last, count = rows[-1], len(rows)
    rows = comparable(rows)
    cells = newest(rows)
    done = [row for row in cells if not row["reason"]]
    failed: dict[tuple[str, str], list[int]] = {}
    for row in cells:
        if row["reason"]:
            at = f" at {amount(row['budget'], row['unit'] or '')}" if row["budget"] else ""
            failed.setdefault((f"{row['method']}{at}", row["reason"]), []).append(row["seed"])
    lost = [Failure(f"{what}, seed {', '.join(map(str, sorted(seeds)))}", reason) for (what, reason), seeds in failed.items()]
    setting = done[-1]["setting"] if done else "nothing measured"
    return Board(last["dataset"], last["architecture"], setting, tuple(map(entry, done)), tuple(lost), count - len(rows))


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of rows, oldest first, those that may stand side by side: with the recipes and the test data of the last one, of each pool those of
    its newest contents, of each method those of the pool that it chose from last, of each seed those on the test images of its newest.

    A method that chooses from another pool by now is another one, not more seeds of the same. Data of one name has other test images where
    an older engine, whose name of the data told nothing of lists and groups, measured after these had changed.
    """
    rows = [row for row in rows if row["protocol"] == rows[-1]["protocol"]]
    held = {row["pool"]: contents(row) for row in rows}
    rows = [row for row in rows if contents(row) == held[row["pool"]]]
    pools = {row["method"]: row["pool"] for row in rows}
    rows = [row for row in rows if row["pool"] == pools[row["method"]]]
    tested = {row["seed"]: row["names"] for row in rows if not row["reason"]}
    return [row for row in rows if row["reason"] or row["names"] == tested[row["seed"]]]


def newest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every method, budget and seed the newest; a row of before units were told gives way to any with the same number."""

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["method"], row["budget"], row["seed"]

    told = {place(row) for row in rows if row["unit"] is not None}
    return list({(*place(row), row["unit"]): row for row in rows if row["unit"] is not None or place(row) not in told}.values())


def contents(row: dict[str, Any]) -> str:
    """What the pool of a row held: see matrix.Cell.model."""
    return str(row["model"].partition("-")[2])


def entry(row: dict[str, Any]) -> Entry:
    """A row of schema.RESULT as an Entry."""
    marks = Marks(tuple(row["names"]), np.array(row["counts"]).reshape(len(row["names"]), -1, 4))
    own = {name: row[name] for name in ("method", "budget", "seed", "retained", "images", "miou")}
    metrics = json.loads(row["metrics"])
    leaked, twins = (int(metrics.get(name, 0)) for name in ("leaked_images", "twins_in_training"))
    return Entry(**own, marks=marks, measures=json.loads(row["measures"]), leaked=leaked, twins=twins, unit=row["unit"] or "")


def proposals(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds a frame that proposing patches takes, by pool, where the job plan measured it."""
    told = {row["pool"]: json.loads(row["measures"]).get(PROPOSAL) for row in rows if row["measures"] and row["pool"]}
    return {pool: seconds for pool, seconds in told.items() if seconds is not None}
