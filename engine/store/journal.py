"""What was done to a store that is no intake: as rows for whoever asked, and in the journal for those who come after."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from engine import schema
from engine.store.tables import Tables

DEEDS = pa.schema(
    [
        schema.text("what", nullable=False),  # what was done, or what is affected
        schema.text("name", nullable=False),  # to which table, file, selection or run
        pa.field("count", pa.int64(), False),  # rows, files, versions: `what` says which
        pa.field("bytes", pa.int64(), False),
        schema.text("note", nullable=False),
    ]
)


def deed(what: str, name: str = "", count: int = 0, size: int = 0, note: str = "") -> dict[str, Any]:
    """One row of DEEDS."""
    return {"what": what, "name": name, "count": count, "bytes": size, "note": note}


def enter(tables: Tables, job: str, subject: str, detail: dict[str, Any], commit: str) -> None:
    """Add a row to the journal."""
    row = {"at": datetime.now(UTC).isoformat(timespec="microseconds"), "job": job, "subject": subject, "commit": commit}
    tables.append("journal", [pa.Table.from_pylist([row | {"detail": json.dumps(detail)}], schema.JOURNAL)])


def entries(tables: Tables, job: str) -> list[tuple[str, dict[str, Any]]]:
    """(subject, detail) of a job's rows, oldest first."""
    rows = tables.open("journal").to_table(filter=f"job = '{job}'", with_row_id=True).sort_by("_rowid").to_pylist()
    return [(row["subject"], json.loads(row["detail"])) for row in rows]


def rows_of(deeds: Sequence[dict[str, Any]]) -> pa.Table:
    """Deeds as a table of schema DEEDS."""
    return pa.Table.from_pylist(list(deeds), DEEDS)
