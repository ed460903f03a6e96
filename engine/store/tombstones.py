"""Videos that may never come back: their ledger rows say so, and what is still on its way is kept out."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from lance.file import LanceFileReader
from lance.fragment import FragmentMetadata

from engine.store.tables import Tables, filesystem, fragments_of

FORGOTTEN = "forgotten"  # the reason in a tombstone


def forgotten(tables: Tables) -> set[str]:
    """The ids of all videos that were forgotten."""
    return set(tables.lance("videos").to_table(columns=["video_id"], filter=f"reason = '{FORGOTTEN}'")["video_id"].to_pylist())


def without(rows: pa.Table, gone: set[str]) -> pa.Table:
    """The rows of other videos than `gone`."""
    return rows.filter(pc.invert(pc.is_in(rows["video_id"], pa.array(sorted(gone), pa.string()))))


def spared(tables: Tables, fragments: Sequence[FragmentMetadata], gone: set[str]) -> list[FragmentMetadata]:
    """Patches that workers wrote and nobody committed yet, written anew without those of the videos `gone`, whose files are removed."""
    kept: list[FragmentMetadata] = []
    for fragment in fragments:
        address = tables.place("patches")
        file = f"{address}/data/{fragment.files[0].path}"
        rows = LanceFileReader(file).read_all().to_table()
        left = without(rows, gone)
        if len(left) == len(rows):
            kept.append(fragment)
            continue
        kept += fragments_of(address, left)
        filesystem(tables.uri).rm(file)
    return kept
