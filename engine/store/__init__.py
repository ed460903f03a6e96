"""The patch table, the ledger of videos, selections and training images: Lance tables under one address. Only home of `lance`.

`PatchStore` is the way in, but for what one job alone needs. Behind it, in reading order:

    tables                  opened and made
    lock, writers           one committer at a time; who else is at work
    caches                  tables that may be lost
    commits                 what lands once, and in place of what
    versions                which one readers open, which may go
    journal                 what was done that is no intake
    intake                  video, exactly once
    attempts, quarantine    watch: what is being tried, what could not be taken in
    tombstones              what never comes back
    reading                 patches found by likeness, difficulty, chance, name
    vectors                 embeddings as a stream
    matches, parts          where rows of one table stand in another; in which files a video's patches are
    scorers, rescoring      what other models say; one of these in place of the first
    appearances             what patches show, measured anew
    alike, drift            what these jobs found
    tags                    browse: what people say of patches
    selections              chosen ids, and their images
    clusterings, roundings  what choices went by, and what was compared in it
    neighbours              patches where others of their cluster are looked for
    results, trainings      of the job benchmark; models, checkpoints, scorers
    views, history          the tables as SQL sees them; what a version was, and what changed
    upkeep                  all that `maintain` does
    migrations, indices     an older store brought up to date; of scalars and of vectors
    orphans, leftovers      files that no version has, files beside the tables
    erasure                 a video forgotten
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine import sql
from engine.pool import Clustering, Pool
from engine.rows import Keys, Rows
from engine.settings import UpkeepConfig
from engine.store import clusterings, erasure, history, intake, reading, results, scorers, selections, tombstones, upkeep, views, writers
from engine.store.history import Difference
from engine.store.intake import WriteRows
from engine.store.scorers import ReadPixels, Scorer
from engine.store.selections import ImageReader
from engine.store.tables import Tables, quoted
from engine.store.vectors import StoredVectors

__all__ = ["Difference", "ImageReader", "PatchStore", "PinnedStore", "ReadPixels", "Scorer", "StoredVectors", "WriteRows", "quoted"]


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

    def selection(self, method: str, budget: float, seed: int, unit: str = "bytes") -> pa.Table:
        """The ranked rows of the newest selection made so; LookupError says which there are."""
        return selections.newest(self, method, budget, seed, unit)

    def ranked(self, selection_id: str, columns: Sequence[str]) -> pa.Table:
        """Columns of the rows of a selection, by rank; no rows where there is none of this id."""
        return selections.ranked(self, selection_id, columns)

    def clustering(self, name: str, patch_ids: pa.ChunkedArray, keys: Keys | None = None) -> Clustering | None:
        """What is kept under a name, for patches (N,) in the order of their ids, whose hashes are `keys`; of new ones nothing is known."""
        return clusterings.clustering(self, name, patch_ids, keys)

    def keep(self, name: str, pool: Pool, found: Clustering, version: int) -> bool:
        """Keep a clustering of a pool (N,), of a version of the patch table, under a name, in place of the one that is there.

        False where that one is of a newer version, and stays. Patches of forgotten videos are left out.
        """
        return clusterings.keep(self, name, pool, found, version)

    def offsets(self, patch_ids: Sequence[str], version: int) -> np.ndarray:
        """Where the patches stand in a version of the table, for `take`; KeyError for an unknown id. (n,)."""
        rows = self.patches(["patch_id"], version=version)["patch_id"].to_pylist()
        found = {patch_id: row for row, patch_id in enumerate(rows)}
        return np.asarray([found[patch_id] for patch_id in patch_ids], np.int64)

    def take(self, offsets: np.ndarray, columns: Sequence[str], version: int) -> pa.Table:
        """Rows of the patch table by their place in a version, in the order asked for. `offsets` (n,)."""
        return self.open("patches", version).take(offsets.tolist(), columns=list(columns))

    def reader(self, selection_id: str) -> ImageReader:
        """The training images of a selection as they are now: later changes of the table do not reach it."""
        return ImageReader(self.uri, selection_id, int(self.open("images").version))

    # -- scoring ------------------------------------------------------------------------------------------------------------

    def vectors(self, version: int, name: str = "", offsets: Rows | None = None) -> StoredVectors:
        """The embeddings of the patches of a version as pool.Vectors, by another scorer where one is named.

        They come in the order of the patch table's rows, or of `offsets` (N,), places in it. LookupError where a patch has no score by
        that scorer. Who reads for long says so by `reading`.
        """
        return scorers.vectors(self, version, name, offsets)

    def add_scores(self, name: str, batches: Iterable[pa.Table], about: Mapping[str, str] | None = None) -> int:
        """Add scores (schema.SCORES) by another scorer as they come, each patch's once; returns how many were new.

        `about` may tell its scale and epochs. What was added stays if it is interrupted; patches of forgotten videos are left out.
        """
        return scorers.add(self, name, batches, about or {})

    def missing(self, name: str, version: int) -> Rows:
        """The places, in a version of the patch table, of the patches that another scorer has not scored yet."""
        return scorers.missing(self, name, version)

    def scorers(self, version: int) -> list[Scorer]:
        """The other scorers, from the least trained on as far as that is known, and how many patches of a version each covers."""
        return scorers.scorers(self, version)

    def earlier(self, version: int, names: Iterable[str], offsets: Rows | None = None) -> tuple[NDArray[np.float32], ...]:
        """The difficulties (N,) of the same patches by other scorers, not a number by one that only makes embeddings; LookupError too."""
        return scorers.earlier(self, version, names, offsets)

    # -- comparing ----------------------------------------------------------------------------------------------------------

    def enter(self, rows: pa.Table) -> None:
        """Keep results of a matrix (schema.RESULT), each fingerprint's once: a later one takes the place of the one before."""
        results.enter(self, rows)

    def results(self) -> pa.Table:
        """The results of every matrix that was run on this store (schema.RESULT), oldest first."""
        return results.results(self)

    # -- keeping ------------------------------------------------------------------------------------------------------------

    def writing(self, job: str) -> AbstractContextManager[None]:
        """Be known as a job that writes files before it commits them: while it lives, upkeep collects no file that nothing refers to."""
        return writers.writing(self, job)

    def reading(self, table: str, version: int) -> AbstractContextManager[None]:
        """Be known as a job that reads a version for long: upkeep leaves it alone. What is forgotten goes all the same."""
        return writers.reading(self, table, version)

    def forget(self, video: str, commit: str = "") -> pa.Table:
        """Erase the video of this id, or of this unique beginning of one: rows, images made from it, every byte of both in older versions.

        Returns what went and what was made from it (journal.DEEDS). LookupError for an unknown video, ValueError where a tag or a branch
        of somebody else holds it; nothing is changed then. Run again after a crash it finishes.
        """
        return erasure.forget(self, video, commit)

    def forgotten(self) -> set[str]:
        """The ids of the videos that were forgotten and never come back."""
        return tombstones.forgotten(self) if self.has("videos") else set()

    def maintain(self, config: UpkeepConfig, commit: str = "") -> pa.Table:
        """Migrate an older store, merge small files, index, and remove what nobody needs; returns what was done (journal.DEEDS).

        Safe beside an ingest and readers. ValueError for a newer schema, OSError for a damaged table, before anything is changed.
        """
        return upkeep.maintain(self, config, commit)

    # -- asking -------------------------------------------------------------------------------------------------------------

    def seen(self) -> dict[str, str]:
        """Which rows of a table SQL may see, as a condition, where that is not all of them."""
        return views.conditions(self, None)

    def query(self, asked: str) -> pa.Table:
        """The rows of one SELECT over patches, frames, videos, selections, images and journal; pixels are read only where named.

        Where they were made also over results, alike, drift and tags. The other tables are the engine's own, and SQL does not see them.

        ValueError, in one sentence, for SQL that does not parse, names what is not there, or does anything but read.
        """
        return sql.select(views.views(self), asked, self.seen())

    def shown(self, asked: str, seconds: float, most: int = 0) -> pa.Table:
        """The same for whoever only looks: no addresses of sources, ValueError after so many seconds, the first `most` rows (0: all)."""
        return sql.select(views.views(self, views.NamelessView), asked, self.seen(), seconds, most)

    def listed(self, asked: str, seconds: float) -> Iterator[pa.Array]:
        """The patch_id of every row of the same, in order and a part at a time; ValueError where the rows have none."""
        return sql.column(views.views(self, views.NamelessView), asked, "patch_id", self.seen(), seconds)

    def nearest(self, like: str | Sequence[float], k: int = 10, where: str = "") -> pa.Table:
        """The `k` patches most like a patch, itself left out, or like a vector: patch_id, difficulty, video_id, time_ms, box, distance.

        `distance` is the cosine distance of the embeddings, 0 to 2, smallest first; rows without an embedding are left out. `where`, a
        Lance filter, comes before the search. Up to 50,000 rows are compared one by one; beyond that the vector index answers, if
        there is one, and its candidates are compared by their whole vectors. Rows newer than the index are found too. A vector is
        rounded to float16, as the embeddings are.
        """
        return reading.nearest(self, like, k, where)

    def hardest(self, k: int = 10, where: str = "") -> pa.Table:
        """The `k` patches of the highest difficulty, hardest first, equal ones by id: patch_id, difficulty, video_id, time_ms, box.

        One whose difficulty is no finite number has no rank and is left out. `where` is a Lance filter.
        """
        return reading.hardest(self, k, where)

    def sample(self, k: int = 10, seed: int = 0, where: str = "") -> pa.Table:
        """`k` patches by lot, a function of the seed and the patches' ids and not of the order of rows; columns as of `hardest`."""
        return reading.sample(self, k, seed, where)

    def named(self, patch_ids: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Columns of those of the patches that are there, by id."""
        return reading.patches(self, patch_ids, columns)

    def image(self, patch_id: str) -> bytes:
        """The JPEG of a patch; LookupError for an unknown id."""
        return reading.image(self, patch_id)

    def training_image(self, name: str, position: int | None = None) -> bytes:
        """The JPEG of a training image, by its id, or by a selection's id and the position in it; LookupError where there is none."""
        return reading.training_image(self, name, position)

    def at(self, version: int | str) -> "PinnedStore":
        """The store as it was at a complete version of the patch table, or at a tag, read-only; LookupError says which there are."""
        return PinnedStore(self.uri, history.resolve(self, version))

    def diff(self, older: int | str, newer: int | str) -> Difference:
        """Which patches came and went from one version, or tag, to another; of two selections also how ranks moved."""
        return history.diff(self, older, newer)

    def history(self) -> pa.Table:
        """What every version of the patch table came from and what was made from it, oldest first (history.HISTORY)."""
        return history.history(self)


@dataclass(frozen=True)
class PinnedStore(PatchStore):
    """A store as it was at a version of the patch table: its videos, frames and selections are those of that version or older.

    Training images are those that the store holds now; `explain` tells of the present.

    PermissionError, in one sentence, for whatever would change it.
    """

    version: int

    def complete_version(self) -> int:
        """The version it is pinned to."""
        return self.version

    def open(self, table: str, version: int | str | None = None) -> lance.LanceDataset:
        """A table as Lance sees it: of patches the version it is pinned to, unless told."""
        if table == "locks":
            self.refuse()
        return super().open(table, self.version if table == "patches" and version is None else version)

    def ledger(self) -> pa.Table:
        """One row per video that had been taken in by then."""
        return self.open("videos").to_table(filter=f"patches_version <= {self.version}")

    def selection(self, method: str, budget: float, seed: int, unit: str = "bytes") -> pa.Table:
        """The ranked rows of the newest selection that had been made so by then; LookupError says which there were."""
        return selections.newest(self, method, budget, seed, unit, f"patches_version <= {self.version}")

    def history(self) -> pa.Table:
        """What had happened by then, oldest first (history.HISTORY)."""
        rows = history.history(self)
        return rows.filter(pc.less_equal(rows["version"], self.version))

    def seen(self) -> dict[str, str]:
        """Which rows SQL may see: those of then."""
        return views.conditions(self, self.version)

    def refuse(self, *given: Any, **named: Any) -> NoReturn:
        """PermissionError."""
        raise PermissionError(f"version {self.version} of the store {self.uri} is read-only: changes go to the store itself")

    create = make = append = save = keep = add_scores = enter = refuse  # what else changes anything takes a lock
