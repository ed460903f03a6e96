"""The embeddings of the patches by their clusters: beside what new patches are held is read there, and nothing else of the pool.

One row, of the label MARK, says by which clustering; where that is another one now, all is written anew. The rows of a file, or of a
part of it where files were merged, lie in order of their clusters. A patch may have two rows, which are equal, after a look was killed.

Of a cluster first the sketches are read (engine/sketches.py), and embeddings only of what is near by these.
"""

from collections.abc import Callable, Iterable, Iterator

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata
from numpy.typing import NDArray

from engine import schema
from engine.store.commits import committing, replace
from engine.store.lock import Lease
from engine.store.tables import ALIKE, NEIGHBOURS, Tables, fragments_of
from engine.store.tombstones import forgotten, without
from engine.store.vectors import numbers

MARK = -1
WHOLE = ["label", "patch_id", "video_id", "time_ms", "embedding"]
WRITTEN = 1 << 18  # rows that are put in order at once: of 384 numbers 0.2 GB
HELD = 1 << 18  # patches that are looked at at once, or those of one larger cluster
READ = 1 << 20  # sketches at once, 64 MB: every file is looked up once for so many
Near = Callable[[NDArray[np.int8], NDArray[np.int8]], NDArray[np.bool_]]  # sketches (n, SKETCH), others (m, SKETCH) -> (m,) which are near


def columns(width: int) -> pa.Schema:
    """What the table has, for embeddings of so many numbers."""
    return pa.schema(
        [
            pa.field("label", pa.int32(), False),
            schema.text("patch_id"),
            schema.text("video_id"),
            pa.field("time_ms", pa.int64()),
            pa.field("sketch", pa.list_(pa.int8(), schema.SKETCH)),
            pa.field("embedding", pa.list_(pa.float16(), width)),  # as the patch has it
            schema.text("clustering"),  # of the row MARK alone: twelve hex digits of the centroids
        ]
    )


def clustering(tables: Tables) -> str:
    """By which clustering the rows lie; "" where there are none."""
    if not tables.is_made(NEIGHBOURS):
        return ""
    dataset = tables.open(NEIGHBOURS)
    first = dataset.to_table(columns=["label", "clustering"], limit=1).to_pylist()
    if first and first[0]["label"] == MARK:  # as it is written; to look for it would be to look at every row
        return str(first[0]["clustering"])
    told = dataset.to_table(columns=["clustering"], filter=f"label = {MARK}")["clustering"].to_pylist()
    return str(told[0]) if told else ""


def rows(patches: pa.Table, labels: NDArray[np.int32], sketches: NDArray[np.int8]) -> pa.Table:
    """Patches (N,) with their clusters (N,) and sketches (N, SKETCH) as rows of the table, in order of their clusters."""
    wanted = columns(patches.schema.field("embedding").type.list_size)
    made = patches.select(["patch_id", "video_id", "time_ms", "embedding"]).append_column("label", pa.array(labels, pa.int32()))
    made = made.append_column("sketch", pa.FixedSizeListArray.from_arrays(pa.array(sketches.ravel()), schema.SKETCH))
    made = made.append_column("clustering", pa.nulls(len(made), pa.string())).select(wanted.names)
    return made.take(np.argsort(labels, kind="stable")).cast(wanted)


def beside(tables: Tables, new: pa.Table, count: int, near: Near) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Some of the `new` rows, those of whole clusters, and the stored ones of these that are `near` one of their cluster.

    There are `count` clusters in all; sketches are read of as many at a time as have READ rows, or of one; of what is near about HELD rows.
    """
    dataset, touched = tables.open(NEIGHBOURS), np.unique(new["label"].to_numpy())
    most = max(1, READ * count // max(dataset.count_rows(), 1))
    for start in range(0, len(touched), most):
        some = touched[start : start + most]
        mine = f"label IN ({', '.join(map(str, some.tolist()))})"
        stored = dataset.scanner(["label", "sketch"], filter=mine, with_row_address=True, batch_size=HELD).to_table()
        asked = new.filter(pc.is_in(new["label"], pa.array(some)))
        found = nearby(asked, stored, near)
        addresses, labels = (stored[name].to_numpy()[found] for name in ("_rowaddr", "label"))
        for part in parted(some, labels):
            yield asked.filter(pc.is_in(asked["label"], pa.array(part))), whole(dataset, addresses[np.isin(labels, part)])


def parted(clusters: NDArray[np.int32], labels: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    """Clusters, which rise, in parts of whole ones that have about HELD rows; `labels` (n,) are those of the rows."""
    counts = np.bincount(np.searchsorted(clusters, labels), minlength=len(clusters))
    return np.split(clusters, np.flatnonzero(np.diff((np.cumsum(counts) - counts) // HELD)) + 1)


def whole(dataset: lance.LanceDataset, addresses: NDArray[np.uint64]) -> pa.Table:
    """The rows at addresses, file by file; a file with deleted rows counts only those that are left. `addresses` (n,)."""
    made, files = [dataset.schema.empty_table().select(WHOLE)], addresses >> np.uint64(32)
    for number in np.unique(files).tolist():
        wanted = addresses[files == number]
        fragment = dataset.get_fragment(number)
        if fragment.num_deletions:
            left = fragment.scanner(columns=[], with_row_address=True).to_table()["_rowaddr"].to_numpy()
            places = np.searchsorted(left, wanted)
        else:
            places = wanted & np.uint64(2**32 - 1)
        made.append(fragment.take(places.tolist(), columns=WHOLE))
    return pa.concat_tables([rows.replace_schema_metadata(None) for rows in made])


def nearby(asked: pa.Table, stored: pa.Table, near: Near) -> NDArray[np.bool_]:
    """Which stored rows (n,) are near one of their cluster that is asked about."""
    mine, theirs = (numbers(rows["sketch"].chunks, schema.SKETCH, np.int8) for rows in (asked, stored))
    labels, found = stored["label"].to_numpy(), np.zeros(len(stored), np.bool_)
    order, of = np.argsort(labels, kind="stable"), asked["label"].to_numpy()
    for label in np.unique(of):
        members = order[slice(*np.searchsorted(labels, [label, label + 1], sorter=order))]
        found[members] = near(mine[of == label], theirs[members])
    return found


def all_of(tables: Tables, count: int) -> Iterator[pa.Table]:
    """The rows of all clusters, of which there are so many; as many at a time as have HELD rows, or one."""
    dataset = tables.open(NEIGHBOURS)
    most = max(1, HELD * count // max(dataset.count_rows(), 1))
    for start in range(0, count, most):
        yield dataset.to_table(columns=WHOLE, filter=f"label >= {start} AND label < {start + most}")


def fill(tables: Tables, name: str, width: int, version: int, blocks: Iterable[pa.Table]) -> bool:
    """Put the rows of all patches of a version, some at a time, in place of what is there.

    False where near-duplicates of a newer version were told meanwhile, whose patches these lack, or a video was forgotten: nothing is
    changed then.
    """
    gone = forgotten(tables)
    if not tables.is_made(NEIGHBOURS):
        tables.make(NEIGHBOURS, columns(width))
    address, mark = tables.place(NEIGHBOURS), dict.fromkeys(columns(width).names) | {"label": MARK, "clustering": name}
    fragments = fragments_of(address, pa.Table.from_pylist([mark], columns(width)))
    for block in blocks:
        fragments += fragments_of(address, block)
    with committing(tables) as lease:
        if told_later(tables, version) or forgotten(tables) != gone:
            return False
        tables.refuse_lost(NEIGHBOURS, fragments)
        replace(tables, NEIGHBOURS, fragments, "true", lease)
    return True


def told_later(tables: Tables, version: int) -> bool:
    """Whether a look at a later version of the patches than this was told."""
    return tables.is_made(ALIKE) and bool(tables.open(ALIKE).count_rows(f"patch_id IS NULL AND patches_version > {version}"))


def add(tables: Tables, name: str, added: pa.Table, lease: Lease) -> bool:
    """Add rows, but for those of forgotten videos; to be called under the lock. False where the table lies by another clustering now."""
    if clustering(tables) != name:
        return False
    fragments: list[FragmentMetadata] = fragments_of(tables.place(NEIGHBOURS), without(added, forgotten(tables)))
    replace(tables, NEIGHBOURS, fragments, "", lease)
    return True
