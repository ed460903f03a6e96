"""Selections and the training images made from them: ranked rows that name patches, and the table version they were chosen from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.store.tables import Tables, quoted


def save(tables: Tables, selection: pa.Table, images: Iterable[pa.Table]) -> int:
    """Write a selection and its images in place of earlier ones of its id; returns the number of images.

    The selection's rows go first and come last, so whoever finds them finds all their images, whenever this was interrupted.
    """
    mine = f"selection_id = {quoted([selection['selection_id'][0].as_py()])}"
    for table in ("selections", "images"):
        tables.open(table).delete(mine)
    count = tables.append("images", images)
    tables.append("selections", [selection])
    return count


def newest(tables: Tables, method: str, budget: float, seed: int) -> pa.Table:
    """The ranked rows of the newest selection made so; LookupError says which there are."""
    made = tables.open("selections").to_table()
    same = pc.and_(pc.equal(made["method"], method), pc.and_(pc.equal(made["budget"], budget), pc.equal(made["seed"], seed)))
    mine = made.filter(same)
    if not len(mine):
        have = sorted(set(made["selection_id"].to_pylist()))
        raise LookupError(
            f"the store {tables.uri} has no selection {method} with budget {budget} and seed {seed} (it has {', '.join(have)}): "
            f"run the job choose with selection.method={method} selection.budget={budget} first"
        )
    newest = mine["selection_id"].to_pylist()[-1]
    return mine.filter(pc.equal(mine["selection_id"], newest)).sort_by("rank")


@dataclass
class ImageReader:
    """JPEG bytes of the training images of one selection, by position; pickles as an address and opens where it is used."""

    uri: str
    selection_id: str
    version: int

    def __post_init__(self) -> None:
        self.dataset: Any = None
        self.rows = np.zeros(0, np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "dataset": None}

    def __len__(self) -> int:
        self.connect()
        return len(self.rows)

    def __call__(self, positions: Sequence[int]) -> list[bytes]:
        self.connect()
        rows = self.dataset.take(self.rows[np.asarray(positions)].tolist(), columns=["pixels"])
        return [bytes(pixels) for pixels in rows["pixels"].to_pylist()]

    def connect(self) -> None:
        if self.dataset is None:
            self.dataset = lance.dataset(f"{self.uri.rstrip('/')}/images.lance", version=self.version)
            table = self.dataset.to_table(columns=["selection_id", "position"])
            mine = np.flatnonzero(np.asarray(table["selection_id"].to_pylist(), dtype=object) == self.selection_id)
            self.rows = mine[np.argsort(table["position"].to_numpy()[mine])]
