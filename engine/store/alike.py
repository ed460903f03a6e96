"""Patches that look like one that was stored before them: a row for each, and one for every video whose patches were looked at.

The second kind, which has no patch, says what is done: whoever comes after a death looks at the videos that have none. All rows of a
video are replaced in one commit, so to do it twice is to do it once.
"""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from engine import schema
from engine.store import neighbours
from engine.store.commits import committing, exchange
from engine.store.tables import ALIKE, Tables, quoted
from engine.store.tombstones import forgotten

COLUMNS = pa.schema(
    [
        schema.text("video_id", nullable=False),
        schema.text("patch_id"),  # null: the patches of the video were looked at
        schema.text("twin"),  # the patch stored before it that it is likest to, which may be of the same video
        pa.field("cosine", pa.float32()),  # of their embeddings
        schema.text("clustering", nullable=False),  # by whose clusters it was told, twelve hex digits of the centroids
        pa.field("patches_version", pa.int64(), False),  # of the patch table that was looked at
    ]
)


def told(tables: Tables) -> pa.Array:
    """The videos whose patches were looked at."""
    if not tables.is_made(ALIKE):
        return pa.array([], pa.string())
    return tables.open(ALIKE).to_table(columns=["video_id"], filter="patch_id IS NULL")["video_id"].combine_chunks()


def enter(tables: Tables, videos: Collection[str], found: pa.Table, added: tuple[str, pa.Table] | None = None) -> bool:
    """Put what was found (COLUMNS) in place of all rows of these videos; what a video forgotten meanwhile has part in is left out.

    `added`: a clustering and the rows of these videos that the neighbours lack, which come first: whoever is told of is a neighbour. False
    where those lie by another clustering now: nothing is changed then.
    """
    if not tables.is_made(ALIKE):
        tables.make(ALIKE, COLUMNS)
    with committing(tables) as lease:
        if added and not neighbours.add(tables, *added, lease):
            return False
        gone = forgotten(tables)
        again = gone.union(*(touched(found, video_id) for video_id in gone))
        rows = found.filter(pc.invert(pc.is_in(found["video_id"], pa.array(sorted(again), pa.string()))))
        exchange(tables, ALIKE, schema.check(rows, COLUMNS, ALIKE), f"video_id IN ({quoted(sorted(videos))})", lease)
    return True


def touched(rows: pa.Table, video_id: str) -> set[str]:
    """The videos of which a patch is like one of that video."""
    return set(rows.filter(pc.starts_with(rows["twin"], f"{video_id}@"))["video_id"].to_pylist())


def erased(tables: Tables, video_id: str) -> str:
    """The filter of all rows of a video, and of the videos with a patch like one of its: these are looked at again, without it."""
    begins = quoted([f"{video_id}@"])
    rows = tables.open(ALIKE).to_table(columns=["video_id"], filter=f"starts_with(twin, {begins})")
    return f"video_id IN ({quoted(sorted({video_id, *rows['video_id'].to_pylist()}))})"


def of(tables: Tables, patch_id: str) -> dict[str, object] | None:
    """What a patch is like, if it is marked: twin, cosine, clustering."""
    if not tables.is_made(ALIKE):
        return None
    rows = tables.open(ALIKE).to_table(columns=["twin", "cosine", "clustering"], filter=f"patch_id = {quoted([patch_id])}").to_pylist()
    return rows[0] if rows else None
