"""The patch table, the ledger of videos, selections and training images: Lance tables under one address. Only home of `lance`.

`tables` opens and creates them, `lock` lets one job commit at a time, `intake` takes video in exactly once, `selections` keeps what was
chosen, `views` shows them to SQL. `PatchStore` is the way in to all of it.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from engine.store import intake, selections
from engine.store.intake import WriteRows
from engine.store.selections import ImageReader
from engine.store.tables import Tables

__all__ = ["ImageReader", "PatchStore", "WriteRows"]


class PatchStore(Tables):
    """One curated archive; `uri` is a folder or an object store address."""

    # -- taking in ----------------------------------------------------------------------------------------------------------

    def unseen(self, sources: pa.Table) -> pa.Table:
        """The sources of which the ledger has no row with the same address, size and time: only these are read at all."""
        return intake.unseen(self, sources)

    def unknown(self, videos: pa.Table) -> pa.Table:
        """The videos whose bytes the ledger does not know, each once."""
        return intake.unknown(self, videos)

    def commit(self, written: pa.Table, videos: pa.Table, stamp: dict[str, str]) -> pa.Table:
        """Make a micro-batch visible: patches, then frames, then the ledger rows; returns the ledger rows.

        `written` (schema.WRITTEN) is what WriteRows gave back for exactly the `videos` (schema.VIDEO); `stamp` holds ingested_at,
        fingerprint and commit. Done again after a crash at any point it replaces what was left, so nothing is there twice.
        """
        return intake.commit(self, written, videos, stamp)

    # -- choosing -----------------------------------------------------------------------------------------------------------

    def save(self, selection: pa.Table, images: Iterable[pa.Table]) -> int:
        """Write a selection and its images in place of earlier ones of its id; returns the number of images.

        The selection's rows go first and come last, so whoever finds them finds all their images, whenever this was interrupted.
        """
        return selections.save(self, selection, images)

    def selection(self, method: str, budget: float, seed: int) -> pa.Table:
        """The ranked rows of the newest selection made so; LookupError says which there are."""
        return selections.newest(self, method, budget, seed)

    def offsets(self, patch_ids: Sequence[str], version: int) -> np.ndarray:
        """Where the patches stand in a version of the table, for `take`; KeyError for an unknown id."""
        rows = self.patches(["patch_id"], version=version)["patch_id"].to_pylist()
        found = {patch_id: row for row, patch_id in enumerate(rows)}
        return np.asarray([found[patch_id] for patch_id in patch_ids], np.int64)

    def take(self, offsets: np.ndarray, columns: Sequence[str], version: int) -> pa.Table:
        """Rows of the patch table by their place in a version, in the order asked for."""
        return self.open("patches", version).take(offsets.tolist(), columns=list(columns))

    def reader(self, selection_id: str) -> ImageReader:
        """The training images of a selection as they are now: later changes of the table do not reach it."""
        return ImageReader(self.uri, selection_id, int(self.open("images").version))
