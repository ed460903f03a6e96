"""Sources that are set aside, since to take them in ended the process, hung or failed: ledger rows that can be called back."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine import schema
from engine.listing import key_of, name_of
from engine.store import attempts, intake, journal
from engine.store.commits import committing
from engine.store.tables import ATTEMPTS, Tables, quoted

QUARANTINED = "quarantined"  # the reason in the ledger
SOURCE = ["video_id", *schema.SOURCE.names]


def set_aside(tables: Tables, video: dict[str, Any], detail: str, stamp: dict[str, str]) -> pa.Table:
    """Enter a video (schema.VIDEO) in the ledger as quarantined; returns its row. Nothing of it is in another table."""
    verdict = {"video_id": video["video_id"], "reason": QUARANTINED, "detail": detail, "patches": 0, "expected": 0}
    written = pa.Table.from_pylist([dict.fromkeys(schema.WRITTEN.names) | verdict], schema.WRITTEN)
    return intake.commit(tables, written, pa.Table.from_pylist([video], schema.VIDEO), stamp)


def quarantined(tables: Tables) -> pa.Table:
    """The sources that are set aside now: video_id and the columns of schema.SOURCE."""
    return tables.open("videos").to_table(columns=SOURCE, filter=f"reason = '{QUARANTINED}'")


def keys(tables: Tables) -> set[int]:
    """The same by their keys."""
    return {key_of(row) for row in quarantined(tables).to_pylist()}


def requeue(tables: Tables, name: str, commit: str) -> pa.Table:
    """Take the row of the one whose id begins so, or of `all`, out of the ledger, so that it is tried again.

    Returns what was done (journal.DEEDS); LookupError where none, or more than one, begins so.
    """
    with committing(tables) as lease:
        rows = quarantined(tables)
        chosen = rows if name == "all" else rows.filter(pc.starts_with(rows["video_id"], name))
        if name != "all" and len(chosen) != 1:
            ids = ", ".join(sorted(rows["video_id"].to_pylist())[:4]) or "none"
            raise LookupError(f"{len(chosen)} of the {len(rows)} quarantined videos of {tables.uri} begin with {name!r}: {ids}")
        ids = chosen["video_id"].to_pylist()
        if tables.is_made(ATTEMPTS):
            attempts.forget(tables, [name_of(key_of(row)) for row in chosen.to_pylist()])  # first: the count begins anew
        if ids:
            lease.check()
            tables.open("videos").delete(f"reason = '{QUARANTINED}' AND video_id IN ({quoted(ids)})", conflict_retries=0)
    done = [journal.deed("requeued", video_id, 1) for video_id in ids]
    for video_id in ids:
        journal.enter(tables, "requeue", video_id, {}, commit)
    return journal.rows_of(done)
