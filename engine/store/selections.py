"""Selections and the training images made from them: ranked rows that name patches, and the table version they were chosen from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata

from engine import schema
from engine.store.commits import committing, replace
from engine.store.tables import Tables, filesystem, fragments_of, gathered, quoted, taken
from engine.store.tombstones import forgotten

FILE = 2**27  # bytes of images that are in memory at once and become one file: reading at random from small ones costs twice as much


def save(tables: Tables, selection: pa.Table, images: Iterable[pa.Table]) -> int:
    """Write a selection and its images in place of earlier ones of its id; returns the number of images.

    The selection's rows go first and come last, so whoever finds them finds all their images, whenever this was interrupted. RuntimeError,
    in one sentence, where a video of it was forgotten meanwhile: then nothing is written.
    """
    mine = f"selection_id = {quoted([selection['selection_id'][0].as_py()])}"
    checked = (schema.check(batch, schema.IMAGE, "images") for batch in images)
    large = gathered(checked, attrgetter("nbytes"), FILE)
    made = [one for rows in large for one in fragments_of(tables.place("images"), rows)]
    chosen = fragments_of(tables.place("selections"), schema.check(selection, schema.SELECTION, "selections"))
    with committing(tables) as lease:
        refuse_forgotten(tables, selection, made)
        tables.refuse_lost("images", made)
        tables.refuse_lost("selections", chosen)
        replace(tables, "selections", [], mine, lease)
        replace(tables, "images", made, mine, lease)
        replace(tables, "selections", chosen, "", lease)
    return sum(fragment.num_rows for fragment in made)


def remove(tables: Tables, selection_ids: Iterable[str]) -> dict[str, int]:
    """Remove selections and their images, of which it returns how many rows there were; interrupted, the same again ends it."""
    mine = f"selection_id IN ({quoted(sorted(selection_ids))})"
    with committing(tables) as lease:
        counts = {table: int(tables.open(table).count_rows(mine)) for table in ("selections", "images")}
        for table in counts:  # the selection's rows first, so that whoever finds them finds its images
            replace(tables, table, [], mine, lease)
    return counts


def refuse_forgotten(tables: Tables, selection: pa.Table, made: Iterable[FragmentMetadata]) -> None:
    """RuntimeError where a selection holds patches of a forgotten video; the images that were made of it are removed."""
    videos = set(map(schema.video_of, selection["patch_id"].to_pylist()))
    if gone := sorted(videos & forgotten(tables)):
        for file in (file.path for fragment in made for file in fragment.files):
            filesystem(tables.uri).rm(tables.address(f"images.lance/data/{file}"))
        raise RuntimeError(f"the video {gone[0]} was forgotten while this selection of its patches was made: choose again")


def newest(tables: Tables, method: str, budget: float, seed: int, unit: str, where: str = "") -> pa.Table:
    """The ranked rows of the newest selection made so, of those that meet a filter; LookupError says which there are."""
    rows = tables.open("selections").to_table(filter=where or None, with_row_id=True)
    made = rows.sort_by("_rowid").drop_columns("_rowid")  # compaction moves rows
    mine = made
    for name, value in {"method": method, "budget": budget, "seed": seed, "unit": unit}.items():
        mine = mine.filter(pc.equal(mine[name], value))
    if not len(mine):
        have = sorted(set(made["selection_id"].to_pylist()))
        raise LookupError(
            f"the store {tables.uri} has no selection {method} with budget {budget} of {unit} and seed {seed} (it has {', '.join(have)}): "
            f"run the job choose with selection.method={method} selection.budget={budget} first"
        )
    newest = mine["selection_id"].to_pylist()[-1]
    return mine.filter(pc.equal(mine["selection_id"], newest)).sort_by("rank")


def ranked(tables: Tables, selection_id: str, columns: Sequence[str]) -> pa.Table:
    """Columns of the rows of a selection, by rank; no rows where there is none of this id."""
    if not tables.has("selections"):
        return schema.SELECTION.empty_table().select(list(columns))
    asked = dict.fromkeys([*columns, "rank"])
    rows = tables.open("selections").to_table(columns=list(asked), filter=f"selection_id = {quoted([selection_id])}")
    return rows.sort_by("rank").select(list(columns))


@dataclass
class ImageReader:
    """JPEG bytes of the training images of one selection, by position; pickles as an address and opens where it is used.

    LookupError, when it is first used, for a selection without images.
    """

    uri: str
    selection_id: str
    version: int

    def __post_init__(self) -> None:
        self.opened: tuple[lance.LanceDataset, np.ndarray] | None = None  # one value, set when whole: threads share a reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": None}

    def __len__(self) -> int:
        return len(self.open()[1])

    def __call__(self, positions: Sequence[int]) -> list[bytes]:
        return self.column("pixels", positions)

    def ids(self, positions: Sequence[int]) -> list[str]:
        """The names of the training images at these positions."""
        return self.column("image_id", positions)

    def column(self, name: str, positions: Sequence[int]) -> list[Any]:
        """A column's values at these positions of the selection, in that order."""
        dataset, rows = self.open()
        return [row[name] for row in taken(dataset, rows[np.asarray(positions, np.int64)], [name])]

    def open(self) -> tuple[lance.LanceDataset, np.ndarray]:
        """The table, and for every position the row it stands in. (N,)."""
        if self.opened is None:
            dataset = lance.dataset(Tables(self.uri).place("images"), version=self.version)
            table = dataset.to_table(columns=["selection_id", "position"])
            mine = np.flatnonzero(pc.equal(table["selection_id"], self.selection_id).to_numpy())
            if not len(mine):
                have = ", ".join(sorted(table["selection_id"].unique().to_pylist())) or "none"
                raise LookupError(
                    f"the store {self.uri} has no training images of a selection {self.selection_id!r} (it has those of {have})"
                )
            self.opened = dataset, mine[np.argsort(table["position"].to_numpy()[mine])]
        return self.opened
