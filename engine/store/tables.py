"""The Lance tables under one address: opened, created, and what the ledger vouches for."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments

from engine import schema
from engine.files import locate, placeless, unreadable
from engine.refusals import RefusedError
from engine.rows import Rows

TABLES = {
    "frames": schema.FRAMES_TABLE,
    "videos": schema.VIDEOS_TABLE,
    "selections": schema.SELECTION,
    "images": schema.IMAGE,
    "journal": schema.JOURNAL,
    "locks": schema.LOCKS,
}
SCORES = "scores-"  # begins the name of a table of scores, the scorer's name ends it
CLUSTERS = "clusters-"  # the same of a clustering of the patches
ROUNDED = "rounded-"  # the same of the embeddings that were compared in one
RESULTS = "results"  # of the job benchmark, in the store that it is told of
ATTEMPTS = "attempts"  # of the job watch
TAGS = "tags"  # of the job browse
ALIKE, DRIFT = "alike", "drift"  # of the jobs of these names
NEIGHBOURS = "neighbours"  # of the job alike
MADE_LATER = (RESULTS, ATTEMPTS, ALIKE, DRIFT, TAGS, NEIGHBOURS)  # tables that not every store has
ENDURING = (RESULTS, ALIKE, DRIFT, TAGS)  # those with rows for others to ask for, changed under the lock `commit`
MAKERS = {
    "selections": "choose",
    "images": "choose",
    CLUSTERS: "choose",
    ROUNDED: "choose",
    SCORES: "score",
    RESULTS: "benchmark",
    ATTEMPTS: "watch",
    ALIKE: "alike",
    NEIGHBOURS: "alike",
    DRIFT: "drift",
    TAGS: "browse",
}  # which job makes a table; the others: ingest
STAMP = "endocurate"  # among the metadata of a table, whose schema's version it is
COMPLETE = "complete"  # the tag of the newest version of the patch table that is complete, where it is newer than the ledger's
ROWS_PER_FILE = 50_000  # about 1 GB of pixels: the rewrite of one file stays small


@dataclass(frozen=True)
class Tables:
    """All tables of one curated archive; `uri` is a folder or an object store address."""

    uri: str

    def __post_init__(self) -> None:
        if "://" not in self.uri:  # workers run in folders of their own
            object.__setattr__(self, "uri", os.path.abspath(os.path.expanduser(self.uri)))

    def address(self, name: str) -> str:
        """Where something of the store lies: a table, a checkpoint, the report."""
        return f"{self.uri.rstrip('/')}/{name}"

    def place(self, table: str) -> str:
        """Where a table lies, whether it is there or not."""
        return self.address(f"{table}.lance")

    def holds(self, name: str) -> bool:
        """Whether something of that name lies in the store; OSError, in one sentence, where the store is out of reach."""
        with reaching(self.uri) as files:
            return bool(files.exists(self.address(name)))

    def has(self, table: str) -> bool:
        """Whether the table is there."""
        return self.holds(f"{table}.lance")

    def scores(self) -> list[str]:
        """The tables of scores by other scorers than the one that video came in with."""
        return self.beside(SCORES)

    def clusterings(self) -> list[str]:
        """The tables of clusterings that choices were made by."""
        return self.beside(CLUSTERS)

    def roundings(self) -> list[str]:
        """The tables of embeddings that choices compared."""
        return self.beside(ROUNDED)

    def beside(self, begins: str) -> list[str]:
        """The tables whose names begin so."""
        with reaching(self.uri) as files:
            found = [str(path).rstrip("/").rpartition("/")[2] for path in files.glob(self.address(f"{begins}*.lance"))]
        return [name for name in sorted(one.removesuffix(".lance") for one in found) if self.is_made(name)]

    def names(self) -> list[str]:
        """Every table that a store has when it is whole, and those of scores, of clusterings and of MADE_LATER that this one has."""
        return ["patches", *TABLES, *self.scores(), *self.clusterings(), *self.roundings(), *filter(self.is_made, MADE_LATER)]

    def open(self, table: str, version: int | str | None = None) -> lance.LanceDataset:
        """A table as Lance sees it, the newest version unless told; LookupError says which job makes it.

        RefusedError for one of another schema version.
        """
        if not self.has(table):
            maker = MAKERS.get("".join(table.partition("-")[:2]), "ingest")
            raise LookupError(f"the store {self.uri} has no table {table} yet: run the job {maker} first")
        dataset = self.lance(table, version)
        found = schema_version(dataset)
        if found != schema.VERSION:
            older = "run the job maintain, which migrates it" if found < schema.VERSION else "use a newer engine"
            raise RefusedError(f"the table {table} of {self.uri} has schema version {found}, this engine reads {schema.VERSION}: {older}")
        return dataset

    def lance(self, table: str, version: int | str | None = None) -> lance.LanceDataset:
        """The same without a look at the schema's version; OSError, in one sentence, for a table that is damaged."""
        try:
            return lance.dataset(self.place(table), version=version)
        except (ValueError, OSError) as error:
            at = "" if version is None else f" at version {version}"
            raise OSError(f"the table {table} of {self.uri} cannot be opened{at}: {first_line(error)}{advice(table)}") from error

    def check_schemas(self) -> None:
        """ValueError where any table has another schema version: whoever writes finds out before the first row."""
        for name in self.names():
            if self.is_made(name):
                self.open(name)

    def create(self, width: int) -> None:
        """Make the tables that do not exist yet, for embeddings of `width` numbers; ValueError where one has another width or schema."""
        self.check_schemas()
        with reaching(self.uri) as files:
            files.makedirs(self.uri, exist_ok=True)
        for name, columns in {"patches": schema.patches_table(width), **TABLES}.items():
            if not self.is_made(name):
                self.make(name, columns)
        found = self.open("patches").schema.field("embedding").type.list_size
        if found != width:
            raise ValueError(f"the store {self.uri} holds embeddings of {found} numbers, the scorer makes {width}: use another store")

    def is_made(self, table: str) -> bool:
        """Whether a table has a version: a run that died while it made one leaves a folder without, or one without a name."""
        with reaching(self.uri) as files:
            versions = f"{self.place(table)}/_versions"
            return bool(files.exists(versions) and any(path.endswith(".manifest") for path in files.ls(versions, detail=False)))

    def make(self, table: str, columns: pa.Schema) -> None:
        """Make an empty table of this schema's version; of many who try at once one does.

        By `write_dataset` the second would put an empty one over the first's.
        """
        empty = lance.LanceOperation.Overwrite(columns.with_metadata({**(columns.metadata or {}), **stamp()}), [])
        try:
            lance.LanceDataset.commit(self.place(table), empty, max_retries=0, enable_stable_row_ids=True)
        except OSError:
            if not self.is_made(table):
                raise

    def ledger(self) -> pa.Table:
        """One row per video that was taken in, refused or forgotten; empty before the first run."""
        return self.open("videos").to_table() if self.has("videos") else schema.VIDEOS_TABLE.empty_table()

    def complete_version(self) -> int:
        """The newest version of the patch table whose every row belongs to a video in the ledger; readers open this one.

        It is the ledger's, or the one that upkeep tagged since; 1, the empty table, before the first commit.
        """
        versions = self.open("videos").to_table(columns=["patches_version"])["patches_version"]
        tagged = self.open("patches").tags.list().get(COMPLETE, {"version": 1})["version"]
        return int(max([*versions.to_pylist(), tagged]))

    def patches(self, columns: Sequence[str], where: str | None = None, version: int | None = None) -> pa.Table:
        """Columns of the complete patches; `where` is a Lance filter."""
        return self.open("patches", version or self.complete_version()).to_table(columns=list(columns), filter=where)

    def refuse_lost(self, table: str, fragments: Iterable[FragmentMetadata]) -> None:
        """OSError where files that are about to be committed are gone, as when their job slept so long that it was taken for dead.

        Lance itself would commit them, and every later look at the table would fail.
        """
        for file in (file.path for fragment in fragments for file in fragment.files):
            if not self.holds(f"{table}.lance/data/{file}"):
                raise OSError(
                    f"a file written for the table {table} of {self.uri} is gone (data/{file}): nothing was committed, run this again"
                )

    def append(self, table: str, batches: Iterable[pa.Table]) -> int:
        """Add rows to a table other than `patches` in one commit; returns their number."""
        target = self.open(table)
        fragments = [fragment for batch in batches for fragment in fragments_of(target.uri, schema.check(batch, TABLES[table], table))]
        if fragments:
            self.refuse_lost(table, fragments)
            latest = self.open(table).version  # writing took its time, and the version from before may have been cleaned away
            lance.LanceDataset.commit(target.uri, lance.LanceOperation.Append(fragments), read_version=latest)
        return sum(fragment.num_rows for fragment in fragments)


def advice(table: str) -> str:
    """What to do about a damaged table on which nothing hangs but time; nothing of others."""
    return "; remove its folder, since the next choice makes it anew" if table.startswith((CLUSTERS, ROUNDED)) else ""


def stamp(version: int = schema.VERSION) -> dict[str, str]:
    """The metadata by which a table tells of which version of the schema it is."""
    return {STAMP: str(version)}


def schema_version(dataset: lance.LanceDataset) -> int:
    """The version of our schema that a table was written with; 0 before they were counted."""
    told = (dataset.schema.metadata or {}).get(STAMP.encode(), b"0").decode()
    return int(told) if told.isdigit() else 0


def fragments_of(address: str, rows: pa.Table) -> list[FragmentMetadata]:
    """Rows as files of a table that nobody sees before they are committed."""
    if not len(rows):
        return []
    return list(write_fragments(rows, address, mode="append", max_rows_per_file=ROWS_PER_FILE))


@contextmanager
def reaching(uri: str) -> Iterator[Any]:
    """The file system of a store as it is now; what object stores raise of their own becomes an OSError in one sentence."""
    try:
        files = filesystem(uri)
        files.invalidate_cache()  # others write too
        yield files
    except unreadable() as error:
        raise OSError(f"the store {uri} cannot be reached: {error}") from error


def filesystem(uri: str) -> Any:
    """What reads and writes below an address."""
    return locate(uri)[0]


def among(patch_ids: Iterable[str]) -> str:
    """The Lance filter of these patches; by their videos first, of which an index has few values, where there is one."""
    ids = list(patch_ids)
    videos = sorted(set(map(schema.video_of, ids)))
    return f"video_id IN ({quoted(videos)}) AND patch_id IN ({quoted(ids)})" if ids else "false"


def quoted(values: Iterable[str]) -> str:
    """Strings as a list in a Lance filter."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def taken(dataset: lance.LanceDataset, rows: Rows, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Columns of some rows of a table by their places, in the order they are asked for. OSError where it cannot be read."""
    if not len(rows):
        return []
    order = np.argsort(rows, kind="stable")  # Lance needs half the processor time for rows in their order
    found = dataset.take(rows[order].tolist(), columns=list(columns)).to_pylist()
    return [found[place] for place in np.argsort(order).tolist()]


def gathered(batches: Iterable[pa.Table], size: Callable[[pa.Table], int], most: int) -> Iterator[pa.Table]:
    """The same rows in tables that are as large as that or a little larger, but for the last one; none without rows."""
    waiting: list[pa.Table] = []
    held = 0
    for batch in batches:
        waiting.append(batch)
        held += size(batch)
        if held >= most:
            yield pa.concat_tables(waiting)
            waiting, held = [], 0
    if held:
        yield pa.concat_tables(waiting)


def first_line(error: BaseException) -> str:
    """What a Lance error says, without the places in its source."""
    return placeless(str(error).splitlines()[0]) if str(error) else type(error).__name__
