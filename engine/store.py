"""The patch table, the ledger of videos, selections and training images: five Lance tables under one address.

Exactly once: workers write fragments nobody sees, one committer makes a micro-batch of videos visible, and the ledger row of a
video comes last. The ledger names the version of the patch table that is complete; readers open that version, so rows of a run
that died in between are never read, and the next run replaces them.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata, write_fragments

from engine import schema
from engine.files import locate, unreadable
from engine.ledger import frame_rows, ledger_rows, written_rows

TABLES = {"frames": schema.FRAMES_TABLE, "videos": schema.VIDEOS_TABLE, "selections": schema.SELECTION, "images": schema.IMAGE}
ROWS_PER_FILE = 50_000  # about 1 GB of pixels: the rewrite of one file stays small


@dataclass(frozen=True)
class PatchStore:
    """All tables of one curated archive; `uri` is a folder or an object store address."""

    uri: str

    def __post_init__(self) -> None:
        if "://" not in self.uri:  # workers run in folders of their own
            object.__setattr__(self, "uri", os.path.abspath(os.path.expanduser(self.uri)))

    def address(self, name: str) -> str:
        """Where something of the store lies: a table, a checkpoint, the report."""
        return f"{self.uri.rstrip('/')}/{name}"

    def holds(self, name: str) -> bool:
        """Whether something of that name lies in the store; OSError, in one sentence, where the store is out of reach."""
        try:
            return bool(filesystem(self.uri).exists(self.address(name)))
        except unreadable() as error:
            raise OSError(f"the store {self.uri} cannot be reached: {error}") from error

    def has(self, table: str) -> bool:
        return self.holds(f"{table}.lance")

    def open(self, table: str, version: int | None = None) -> lance.LanceDataset:
        """A table as Lance sees it, the newest complete version unless told; LookupError says which job makes it."""
        if not self.has(table):
            job = {"selections": "choose", "images": "choose"}.get(table, "ingest")
            raise LookupError(f"the store {self.uri} has no table {table} yet: run the job {job} first")
        dataset = lance.dataset(self.address(f"{table}.lance"), version=version)
        found = (dataset.schema.metadata or {}).get(b"endocurate", b"?").decode()
        if found != str(schema.VERSION):
            raise ValueError(f"the table {table} of {self.uri} has schema version {found}; this engine reads {schema.VERSION}")
        return dataset

    def create(self, width: int) -> None:
        """Make the tables that do not exist yet, for embeddings of `width` numbers; ValueError where the store has another width."""
        filesystem(self.uri).makedirs(self.uri, exist_ok=True)
        for name, columns in {"patches": schema.patches_table(width), **TABLES}.items():
            if not self.has(name):
                marked = columns.with_metadata({"endocurate": str(schema.VERSION)})
                lance.write_dataset(marked.empty_table(), self.address(f"{name}.lance"), enable_stable_row_ids=True)
        found = self.open("patches").schema.field("embedding").type.list_size
        if found != width:
            raise ValueError(f"the store {self.uri} holds embeddings of {found} numbers, the scorer makes {width}: use another store")

    # -- the ledger ---------------------------------------------------------------------------------------------------------

    def ledger(self) -> pa.Table:
        """One row per video that was taken in or refused; empty before the first run."""
        return self.open("videos").to_table() if self.has("videos") else schema.VIDEOS_TABLE.empty_table()

    def unseen(self, sources: pa.Table) -> pa.Table:
        """The sources of which the ledger has no row with the same address, size and time: only these are read at all."""
        rows = self.ledger().select(["uri", "size", "modified", "reason"]).to_pylist()
        seen = {(row["uri"], row["size"], row["modified"]) for row in rows if row["reason"] != "unreadable"}
        new = [(row["uri"], row["size"], row["modified"]) not in seen for row in sources.to_pylist()]
        return sources.filter(pa.array(new, pa.bool_()))

    def unknown(self, videos: pa.Table) -> pa.Table:
        """The videos whose bytes the ledger does not know, each once."""
        ledger = self.ledger()
        known = set(ledger.filter(pc.not_equal(pc.fill_null(ledger["reason"], ""), "unreadable"))["video_id"].to_pylist())
        fresh = []
        for video_id in videos["video_id"].to_pylist():
            fresh.append(video_id not in known)
            known.add(video_id)
        return videos.filter(pa.array(fresh, pa.bool_()))

    def complete_version(self) -> int:
        """The version of the patch table that the ledger vouches for; 1, the empty table, before the first commit."""
        versions = self.open("videos").to_table(columns=["patches_version"])["patches_version"]
        return max(versions.to_pylist(), default=1)

    def patches(self, columns: Sequence[str], where: str | None = None, version: int | None = None) -> pa.Table:
        """Columns of the complete patches; `where` is a Lance filter."""
        return self.open("patches", version or self.complete_version()).to_table(columns=list(columns), filter=where)

    # -- taking in ----------------------------------------------------------------------------------------------------------

    def commit(self, written: pa.Table, videos: pa.Table, stamp: dict[str, str]) -> pa.Table:
        """Make a micro-batch visible: patches, then frames, then the ledger rows; returns the ledger rows.

        `written` (schema.WRITTEN) is what WriteRows gave back for exactly the `videos` (schema.VIDEO); `stamp` holds ingested_at,
        fingerprint and commit. Done again after a crash at any point it replaces what was left, so nothing is there twice.
        """
        ids = videos["video_id"].to_pylist()
        fragments = [FragmentMetadata.from_json(text) for text in written["fragment"].drop_null().to_pylist()]
        promised, found = pc.sum(written["patches"]).as_py() or 0, sum(fragment.num_rows for fragment in fragments)
        if promised != found:
            raise ValueError(f"the workers announced {promised} patches and wrote {found}: nothing was committed")
        unclean = self.left_over(ids)
        version = self.replace("patches", fragments, ids, unclean)
        frames = frame_rows(written)
        self.replace("frames", fragments_of(self.address("frames.lance"), frames), ids, unclean)
        rows = ledger_rows(videos, written, frames, stamp | {"patches_version": version})
        self.enter(rows)
        return rows

    def left_over(self, ids: Sequence[str]) -> bool:
        """Whether rows of these videos may be there already: a run died after its commit, or another took them meanwhile."""
        known = set(self.ledger()["video_id"].to_pylist())
        return self.open("patches").version != self.complete_version() or not known.isdisjoint(ids)

    def replace(self, table: str, fragments: list[FragmentMetadata], ids: Sequence[str], unclean: bool) -> int:
        """Append `fragments`, after removing the videos' earlier rows where there may be any; returns the version."""
        dataset = self.open(table)
        if unclean and ids:
            dataset.delete(f"video_id IN ({quoted(ids)})")
        if fragments:
            append = lance.LanceOperation.Append(fragments)
            transaction = lance.Transaction(dataset.version, append, transaction_properties={"videos": json.dumps(list(ids))})
            dataset = lance.LanceDataset.commit(dataset.uri, transaction)
        return int(dataset.version)

    def enter(self, rows: pa.Table) -> None:
        """Write ledger rows; a row of the same video, or of the same source that could not be read before, gives way."""
        ledger = self.open("videos")
        readable = rows.filter(pc.not_equal(pc.fill_null(rows["reason"], ""), "unreadable"))
        outdated = f"reason = 'unreadable' AND uri IN ({quoted(readable['uri'].to_pylist())})"
        if len(readable) and ledger.count_rows(outdated):
            ledger.delete(outdated)
        ledger.merge_insert("video_id").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    # -- choosing -----------------------------------------------------------------------------------------------------------

    def save(self, selection: pa.Table, images: Iterable[pa.Table]) -> int:
        """Write a selection and its images in place of earlier ones of its id; returns the number of images.

        The selection's rows go first and come last, so whoever finds them finds all their images, whenever this was interrupted.
        """
        mine = f"selection_id = {quoted([selection['selection_id'][0].as_py()])}"
        for table in ("selections", "images"):
            self.open(table).delete(mine)
        count = self.append("images", images)
        self.append("selections", [selection])
        return count

    def append(self, table: str, batches: Iterable[pa.Table]) -> int:
        """Add rows in one commit; returns their number."""
        target = self.open(table)
        fragments = [fragment for batch in batches for fragment in fragments_of(target.uri, schema.check(batch, TABLES[table], table))]
        if fragments:
            lance.LanceDataset.commit(target.uri, lance.LanceOperation.Append(fragments), read_version=target.version)
        return sum(fragment.num_rows for fragment in fragments)

    def selection(self, method: str, budget: float, seed: int) -> pa.Table:
        """The ranked rows of the newest selection made so; LookupError says which there are."""
        made = self.open("selections").to_table()
        same = pc.and_(pc.equal(made["method"], method), pc.and_(pc.equal(made["budget"], budget), pc.equal(made["seed"], seed)))
        mine = made.filter(same)
        if not len(mine):
            have = sorted(set(made["selection_id"].to_pylist()))
            raise LookupError(
                f"the store {self.uri} has no selection {method} with budget {budget} and seed {seed} (it has {', '.join(have)}): "
                f"run the job choose with selection.method={method} selection.budget={budget} first"
            )
        newest = mine["selection_id"].to_pylist()[-1]
        return mine.filter(pc.equal(mine["selection_id"], newest)).sort_by("rank")

    def offsets(self, patch_ids: Sequence[str], version: int) -> np.ndarray:
        """Where the patches stand in a version of the table, for `take`; KeyError for an unknown id."""
        rows = self.patches(["patch_id"], version=version)["patch_id"].to_pylist()
        found = {patch_id: row for row, patch_id in enumerate(rows)}
        return np.asarray([found[patch_id] for patch_id in patch_ids], np.int64)

    def take(self, offsets: np.ndarray, columns: Sequence[str], version: int) -> pa.Table:
        """Rows of the patch table by their place in a version, in the order asked for."""
        return self.open("patches", version).take(offsets.tolist(), columns=list(columns))

    def reader(self, selection_id: str) -> "ImageReader":
        """The training images of a selection as they are now: later changes of the table do not reach it."""
        return ImageReader(self.uri, selection_id, int(self.open("images").version))


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


@schema.stage(reads=schema.SCORED, writes=schema.WRITTEN)
class WriteRows:
    """Write the patches of a batch as a Lance fragment that is not visible yet, and pass on one row per frame for the committer."""

    def __init__(self, uri: str) -> None:
        self.address = f"{uri.rstrip('/')}/patches.lance"
        self.columns = lance.dataset(self.address).schema

    def __call__(self, scored: pa.Table) -> pa.Table:
        patches = scored.filter(pc.is_valid(scored["patch_id"])).select(self.columns.names)
        fragments = fragments_of(self.address, patches.cast(self.columns.remove_metadata()))
        return written_rows(scored, [json.dumps(fragment.to_json()) for fragment in fragments])


def fragments_of(address: str, rows: pa.Table) -> list[FragmentMetadata]:
    if not len(rows):
        return []
    return list(write_fragments(rows, address, mode="append", max_rows_per_file=ROWS_PER_FILE))


def filesystem(uri: str) -> Any:
    return locate(uri)[0]


def quoted(values: Iterable[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


class SQLView(lance.LanceDataset):  # type: ignore[misc]
    """A table as DuckDB may see it: without the float16 columns, whose mere presence it refuses."""

    @property
    def schema(self) -> pa.Schema:
        fields = super().schema
        return pa.schema([field for field in fields if field.name != "embedding"])

    def scanner(self, columns: Any = None, **rest: Any) -> Any:
        """The same; DuckDB names no columns where it wants all, by which Lance would mean the hidden one too."""
        return super().scanner(columns=self.schema.names if columns is None else columns, **rest)


def sql_views(store: PatchStore) -> dict[str, SQLView]:
    """Every table that exists, at its newest complete version, by name."""
    versions = {"patches": store.complete_version()} if store.has("videos") else {}
    names = [name for name in ("patches", *TABLES) if store.has(name)]
    return {name: SQLView(store.address(f"{name}.lance"), version=versions.get(name)) for name in names}
