"""Scores by other scorers than the one that video came in with: a table for each, with a row for every patch that it has scored.

Rows come in any order and are never there twice. Patches are told apart by 64-bit hashes of their ids, which for ten million patches are
80 MB instead of a gigabyte; where two patches of one table share a hash, other hashes are taken, and a row that seems to be there already
is looked up by its id.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine import schema
from engine.rows import ROWS, Keys, Rows, hashed
from engine.store.commits import committing, land
from engine.store.matches import is_distinct, matched
from engine.store.tables import SCORES, Tables, fragments_of, gathered, quoted
from engine.store.tombstones import forgotten
from engine.store.vectors import StoredVectors

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
COMMITTED = 1 << 14  # scores that come together: so many are lost at most where a job dies
SINCE = "since"  # when a table was made, in its schema's metadata: versions are cleaned away
SEEDS = range(8)


@dataclass(frozen=True)
class Scorer:
    """Another scorer of a store, and how many patches of a version have an embedding, and a difficulty, by it."""

    name: str
    width: int
    covers: int
    rated: int
    scale: str = ""  # of its difficulties; "": nobody told
    epochs: int | None = None  # after how many of its training it was kept; None: nobody told


def scorers(tables: Tables, version: int) -> list[Scorer]:
    """Those whose scores a store holds, from the least trained on; those of which nobody told come last, in the order in which they
    were first written."""
    made = {table.removeprefix(SCORES): tables.open(table) for table in tables.scores()}
    since = {name: told(dataset).get(SINCE, "") for name, dataset in made.items()}
    found = [described(tables, name, made[name], version) for name in sorted(made, key=lambda name: (since[name], name))]
    return sorted(found, key=lambda one: inf if one.epochs is None else one.epochs)


def told(dataset: lance.LanceDataset) -> dict[str, str]:
    """What was told of a scorer when its table was made."""
    return {key.decode(): value.decode() for key, value in (dataset.schema.metadata or {}).items()}


def described(tables: Tables, name: str, dataset: lance.LanceDataset, version: int) -> Scorer:
    """A scorer's table, told: width, how many patches of this version it has embeddings of, and how many scores."""
    there = places(tables, dataset, version)
    there = there[there >= 0]
    rated = dataset.to_table(columns=["difficulty"])["difficulty"].is_valid().to_numpy()[there]
    return Scorer(name, width_of(dataset), len(there), int(rated.sum()), *known(name, told(dataset)))


def known(name: str, about: Mapping[str, str]) -> tuple[str, int | None]:
    """The scale of a scorer's difficulties and its epochs, of older tables as far as their names tell."""
    kind = name.removeprefix("early-").partition("-")[0]
    scale = about.get("scale") or {"mae": "squared error", "simclr": "contrastive loss"}.get(kind, "")
    return scale, int(about["epochs"]) if "epochs" in about else 0 if name.startswith("early-") else None


def opened(tables: Tables, name: str) -> lance.LanceDataset:
    """The table of a scorer; LookupError says which there are."""
    if f"{SCORES}{name}" not in (found := tables.scores()):
        have = ", ".join(table.removeprefix(SCORES) for table in found) or "none"
        first = f"{'take such a whole name, or ' * bool(found)}run the job score first"
        raise LookupError(f"the store {tables.uri} has no scores by {name!r} (it has {have}): {first}")
    return tables.open(f"{SCORES}{name}")


def width_of(dataset: lance.LanceDataset) -> int:
    """How many numbers an embedding of the table has."""
    return int(dataset.schema.field("embedding").type.list_size)


# -- read -------------------------------------------------------------------------------------------------------------------------


def vectors(tables: Tables, version: int, name: str, offsets: Rows | None) -> StoredVectors:
    """The embeddings of patches by a scorer, "" for the one that they came in with; LookupError where one has none."""
    patches = tables.open("patches", version)
    wanted = np.arange(patches.count_rows(), dtype=np.int64) if offsets is None else np.asarray(offsets, np.int64)
    if not name:
        return StoredVectors(patches.uri, int(patches.version), width_of(patches), wanted)
    dataset = opened(tables, name)
    return StoredVectors(dataset.uri, int(dataset.version), width_of(dataset), covered(tables, name, dataset, version, wanted))


def earlier(tables: Tables, version: int, names: Iterable[str], offsets: Rows | None) -> tuple[NDArray[np.float32], ...]:
    """The difficulties (N,) of patches by each scorer, not a number where it gives none; LookupError where a patch has no score."""
    made = []
    for name in names:
        dataset = opened(tables, name)
        values = dataset.to_table(columns=["difficulty"])["difficulty"].to_numpy().astype(np.float32)
        made.append(values[covered(tables, name, dataset, version, offsets)])
    return tuple(made)


def missing(tables: Tables, name: str, version: int) -> Rows:
    """The places of the patches, in a version of their table, that a scorer has not scored."""
    if f"{SCORES}{name}" not in tables.scores():
        return np.arange(tables.open("patches", version).count_rows(), dtype=np.int64)
    return np.flatnonzero(places(tables, opened(tables, name), version) < 0)


def covered(tables: Tables, name: str, dataset: lance.LanceDataset, version: int, offsets: Rows | None) -> Rows:
    """The rows (N,) in a scorer's table of the patches at `offsets`, of all where None; LookupError where some have no score."""
    found = places(tables, dataset, version)
    at = np.arange(len(found)) if offsets is None else offsets
    if absent := at[found[at] < 0].tolist():
        some = tables.open("patches", version).take(absent[:3], columns=["patch_id"])["patch_id"].to_pylist()
        raise LookupError(f"{len(absent):,} of {len(at):,} patches have no score by {name}, such as {', '.join(some)}: run the job score")
    return np.asarray(found[at])


def places(tables: Tables, dataset: lance.LanceDataset, version: int) -> Rows:
    """For every patch of a version the row of its score (N,), -1 where there is none. ValueError where a patch is there twice."""
    for seed in SEEDS:
        ours, theirs = (keys(one, seed) for one in (tables.open("patches", version), dataset))
        if is_distinct(ours) and is_distinct(theirs):
            return matched(ours, theirs)
    raise ValueError(f"the table {dataset.uri} or that of the patches holds a patch twice: it was changed by another program")


def keys(dataset: lance.LanceDataset, seed: int = 0) -> Keys:
    """A hash of every patch's id (N,), in the order of the rows."""
    batches = dataset.scanner(columns=["patch_id"], batch_size=ROWS, scan_in_order=True).to_batches()
    return np.concatenate([np.zeros(0, np.uint64), *(hashed(pa.chunked_array([batch["patch_id"]]), seed) for batch in batches)])


@schema.stage(reads=schema.PLACES, writes=schema.STORED)
class ReadPixels:
    """Read patches by their places in a version of the patch table, a row of them at a time."""

    def __init__(self, uri: str, version: int) -> None:
        self.patches = lance.dataset(Tables(uri).place("patches"), version=version)

    def __call__(self, places: pa.Table) -> Iterator[pa.Table]:
        for some in places["places"].to_pylist():
            yield self.patches.take(some, columns=schema.STORED.names)


# -- written ----------------------------------------------------------------------------------------------------------------------


def add(tables: Tables, name: str, batches: Iterable[pa.Table], about: Mapping[str, str]) -> int:
    """Add scores (schema.SCORES) as they come; returns how many were new. What was added when this is interrupted stays.

    `about` tells the scale of its difficulties and its epochs, as far as they are known; it is kept in the table that is made with the
    first. Left out are patches that have a score already, and those of forgotten videos. ValueError for another width than the table has.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a scorer: expected small letters, digits, points and dashes")
    target, count = Target(tables, f"{SCORES}{name}", about), 0
    for rows in gathered(batches, len, COMMITTED):
        count += target.add(schema.check(rows, schema.SCORES, target.table))
    return count


@dataclass
class Target:
    """A table of scores that is written to; what it holds is remembered from commit to commit, so that one costs what it adds."""

    tables: Tables
    table: str
    about: Mapping[str, str] = field(default_factory=dict)  # told when the table is made
    version: int = 0
    known: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))  # in order

    def add(self, rows: pa.Table) -> int:
        """Append the rows whose patches have no score there yet; how many that was. ValueError for embeddings of another width."""
        width = rows.schema.field("embedding").type.list_size
        if not self.tables.is_made(self.table):
            since = {SINCE: datetime.now(UTC).isoformat(timespec="microseconds")}
            self.tables.make(self.table, schema.scores_table(width).with_metadata({**since, **self.about}))
        with committing(self.tables) as lease:
            dataset = self.tables.open(self.table)
            if width != width_of(dataset):
                raise ValueError(f"the table {self.table} holds embeddings of {width_of(dataset)} numbers, {width} were given")
            if dataset.version != self.version:
                self.known = np.sort(keys(dataset))
            fresh = self.fresh(rows, dataset)
            if len(fresh):
                columns = dataset.schema.remove_metadata()
                dataset = land(dataset, lance.LanceOperation.Append(fragments_of(dataset.uri, fresh.cast(columns))), lease)
                added = np.sort(hashed(fresh["patch_id"]))
                self.known = np.insert(self.known, np.searchsorted(self.known, added), added)
            self.version = int(dataset.version)
            return len(fresh)

    def fresh(self, rows: pa.Table, dataset: lance.LanceDataset) -> pa.Table:
        """The rows, each once, of patches that are not there yet and were not forgotten."""
        first = {patch_id: row for row, patch_id in reversed(list(enumerate(rows["patch_id"].to_pylist())))}
        rows, erased = rows.take(pa.array(sorted(first.values()), pa.int64())), forgotten(self.tables)
        gone = {patch_id for patch_id in first if schema.video_of(patch_id) in erased}
        mine = hashed(rows["patch_id"])
        near = np.minimum(np.searchsorted(self.known, mine), max(len(self.known) - 1, 0))
        maybe = rows["patch_id"].filter(pa.array(self.known[near] == mine)).to_pylist() if len(self.known) else []
        if maybe:
            found = dataset.to_table(columns=["patch_id"], filter=f"patch_id IN ({quoted(maybe)})")
            gone |= set(found["patch_id"].to_pylist())
        return rows.filter(pc.invert(pc.is_in(rows["patch_id"], pa.array(sorted(gone), pa.string()))))
