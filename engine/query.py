"""SQL over the tables of a store, read-only, through DuckDB; columns and filters reach Lance, so pixels are read only where named."""

import duckdb
import pyarrow as pa

from engine.store import PatchStore
from engine.store.views import views

READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def query(store: PatchStore, sql: str) -> pa.Table:
    """The rows of one SELECT over patches, frames, videos, selections and images.

    ValueError, in one sentence, for SQL that does not parse, names what is not there, or does anything but read.
    """
    found = views(store)
    if not found:
        raise LookupError(f"the store {store.uri} has no tables yet: run the job ingest first")
    with duckdb.connect() as connection:
        for name, view in found.items():
            connection.register(name, view)
        connection.execute("SET enable_external_access=false")  # no files, no network: the tables are all there is
        connection.execute("SET lock_configuration=true")
        return answer(connection, sql)


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type not in READING:
            raise ValueError("query takes one SELECT; it does not write")
        return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise ValueError(f"query: {' '.join(str(error).split())}") from error
