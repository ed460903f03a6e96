"""What the cells of a matrix came to (schema.RESULT): a row for each fingerprint, whichever run wrote it and however often."""

import pyarrow as pa

from engine import schema
from engine.store.commits import committing, replace
from engine.store.tables import RESULTS, Tables, fragments_of, quoted


def enter(tables: Tables, rows: pa.Table) -> None:
    """Put rows in place of those of the same fingerprints, in one commit: a run that is killed around it leaves each once or not at all."""
    if not tables.is_made(RESULTS):
        tables.make(RESULTS, schema.RESULT.with_metadata({"endocurate": str(schema.VERSION)}))
    fragments = fragments_of(tables.address(f"{RESULTS}.lance"), schema.check(rows, schema.RESULT, RESULTS))
    with committing(tables) as lease:
        tables.refuse_lost(RESULTS, fragments)
        replace(tables, RESULTS, fragments, f"fingerprint IN ({quoted(rows['fingerprint'].to_pylist())})", lease)


def results(tables: Tables) -> pa.Table:
    """All rows, oldest first; empty where no matrix was begun."""
    return tables.open(RESULTS).to_table().sort_by("at") if tables.is_made(RESULTS) else schema.RESULT.empty_table()
