"""What the cells of a matrix came to (schema.RESULT): a row for each fingerprint, whichever run wrote it and however often."""

import pyarrow as pa

from engine import schema
from engine.store.commits import committing, exchange
from engine.store.tables import RESULTS, Tables, quoted


def enter(tables: Tables, rows: pa.Table) -> None:
    """Put rows in place of those of the same fingerprints, in one commit: a run that is killed around it leaves each once or not at all."""
    if not tables.is_made(RESULTS):
        tables.make(RESULTS, schema.RESULT)
    again = f"fingerprint IN ({quoted(rows['fingerprint'].to_pylist())})"
    with committing(tables) as lease:
        exchange(tables, RESULTS, schema.check(rows, schema.RESULT, RESULTS), again, lease)


def results(tables: Tables) -> pa.Table:
    """All rows, oldest first; empty where no matrix was begun."""
    return tables.open(RESULTS).to_table().sort_by("at") if tables.is_made(RESULTS) else schema.RESULT.empty_table()
