"""What the cells of a matrix came to (schema.RESULT): a row for each fingerprint, whichever run wrote it and however often."""

import lance
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
        if later := lacking(dataset := tables.open(RESULTS)):
            lease.check()
            dataset.add_columns(pa.schema(later))
        exchange(tables, RESULTS, schema.check(rows, schema.RESULT, RESULTS), again, lease)


def results(tables: Tables) -> pa.Table:
    """All rows, oldest first; empty where no matrix was begun."""
    if not tables.is_made(RESULTS):
        return schema.RESULT.empty_table()
    rows = (dataset := tables.open(RESULTS)).to_table().sort_by("at")
    for field in lacking(dataset):
        rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows


def lacking(dataset: lance.LanceDataset) -> list[pa.Field]:
    """The columns that a table of an older engine has not: it gets them with its next row, and until then they are read as null."""
    return [field for field in schema.RESULT if field.name not in dataset.schema.names]
