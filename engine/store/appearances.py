"""What stored patches show, measured anew from their pixels: the columns of schema.APPEARANCE for a table that was made without them.

It takes an hour for millions of patches, so it goes file by file: what was measured of a file is written beside the table, and a record
of it into the folder FOLDER of the store. Whoever was interrupted goes on with the files that have no record; one commit at the end.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata, LanceFragment

from engine import appearance, files, pictures, schema
from engine.store.lock import Lease
from engine.store.tables import Tables, filesystem

FOLDER = "measured"
ROWS = 512  # whose pixels are in memory at a time: about 20 MB
SEEN = pa.schema(schema.APPEARANCE)


def add(tables: Tables, lease: Lease) -> None:
    """Give the patch table the columns of schema.APPEARANCE, where it has none; ValueError names a patch that is no picture."""
    patches = tables.lance("patches")
    if SEEN.names[0] not in patches.schema.names:
        measured(tables, patches, lease)
    if tables.holds(FOLDER):
        filesystem(tables.uri).rm(tables.address(FOLDER), recursive=True)


def measured(tables: Tables, patches: lance.LanceDataset, lease: Lease) -> None:
    """Give the table the columns of schema.APPEARANCE, in one commit; fragments that a run cut off had done are taken as they are."""
    fragments = patches.get_fragments()
    if not fragments:
        patches.add_columns(SEEN)
        return
    *others, last = fragments
    made = [recorded(tables, fragment) for fragment in others]
    final, columns = merged(last)  # never from a record, which does not tell the table's new schema
    lease.check()
    tables.refuse_lost("patches", [*made, final])
    lance.LanceDataset.commit(patches.uri, lance.LanceOperation.Merge([*made, final], columns), read_version=patches.version)


def recorded(tables: Tables, fragment: LanceFragment) -> FragmentMetadata:
    """A file of patches with its new columns, from the record of an earlier run where there is one of the very same file."""
    before = json.dumps(fragment.metadata.to_json(), sort_keys=True)
    record = f"{FOLDER}/{hashlib.sha256(before.encode()).hexdigest()[:32]}.json"
    if tables.holds(record):
        return FragmentMetadata.from_json(filesystem(tables.uri).cat_file(tables.address(record)).decode())
    made, _ = merged(fragment)
    files.put(json.dumps(made.to_json()).encode(), tables.address(record))
    return made


def merged(fragment: LanceFragment) -> tuple[FragmentMetadata, object]:
    """A fragment with the columns measured, and the table's schema with them."""
    made: tuple[FragmentMetadata, object] = fragment.merge_columns(
        lance.batch_udf(output_schema=SEEN)(seen), columns=["patch_id", "pixels"], batch_size=ROWS
    )
    return made


def seen(patches: pa.RecordBatch) -> pa.RecordBatch:
    """The new columns of some patches."""
    with ThreadPoolExecutor() as pool:  # OpenCV decodes and counts without Python's lock
        numbers = list(pool.map(shown, patches["patch_id"].to_pylist(), patches["pixels"].to_pylist()))
    return pa.RecordBatch.from_struct_array(appearance.column(appearance.rows(numbers)))


def shown(patch_id: str, jpeg: bytes | None) -> tuple[float, float, float, float]:
    """The numbers of schema.APPEARANCE of one patch; ValueError where its JPEG cannot be decoded."""
    try:
        return appearance.measure(pictures.decode(jpeg or b""))
    except ValueError as error:
        raise ValueError(f"the patch {patch_id} cannot be measured: {error}; put the table back from a copy") from error
