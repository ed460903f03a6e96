"""SQL over tables, read-only, through DuckDB; columns and filters reach Lance, so pixels are read only where named. Only home of duckdb."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from engine.refusals import RefusedError

BROKEN = "reading the stream registered as "  # what DuckDB says where a table did not deliver
MEMORY = "1GB"  # of a question that has an end; what needs more is refused and not put on the disk
BATCH = 250  # rows at a time where only the first ones are asked for
PART = 2**16  # rows at a time of one column
READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def select(tables: Mapping[str, Any], sql: str, only: Mapping[str, str] | None = None, seconds: float = 0, most: int = 0) -> pa.Table:
    """The rows of one SELECT over `tables`: Lance views, scanners or Arrow tables by name.

    `only` holds a condition for some of them, which all their rows meet; it may name the others. RefusedError, in one sentence, for SQL
    that does not parse, names what is not there, or does anything but read, and for what takes longer than `seconds` (0: as long as it
    takes) or then more memory than MEMORY. Only the first `most` rows are read (0: all).
    """
    with asked(tables, sql, only or {}, seconds) as found:
        return first(found.to_arrow_reader(BATCH), most) if most else found.to_arrow_table()


def column(tables: Mapping[str, Any], sql: str, name: str, only: Mapping[str, str] | None = None, seconds: float = 0) -> Iterator[pa.Array]:
    """One column of what `select` gives, in its order, PART rows at a time; the others are never made. RefusedError where it has none."""
    with asked(tables, sql, only or {}, seconds) as found:
        if name not in found.columns:
            raise RefusedError(f"the answer has the columns {', '.join(found.columns)}: to be shown it needs {name}")
        for part in found.select(duckdb.ColumnExpression(name)).to_arrow_reader(PART):
            yield part.column(0)


@contextmanager
def asked(tables: Mapping[str, Any], sql: str, only: Mapping[str, str], seconds: float) -> Iterator[duckdb.DuckDBPyRelation]:
    """One SELECT, to be read: nothing of its answer is made yet, and the time and the memory that reading takes are limited, too."""
    with duckdb.connect() as connection:
        for name in tables.keys() - only.keys():
            connection.register(name, tables[name])
        for name, condition in only.items():
            connection.from_arrow(tables[name]).filter(condition).create_view(name)  # of the whole table SQL knows no name
        shown = connection.execute("SELECT current_setting('enable_progress_bar')").fetchone()
        if shown == (True,):  # after two seconds it would draw over the rows; in Jupyter it is off, and saying so fails
            connection.execute("SET enable_progress_bar=false")
        if seconds:
            connection.execute(f"SET memory_limit='{MEMORY}'")
            connection.execute("SET temp_directory=''")
        connection.execute("SET enable_external_access=false")  # no files, no network: the tables are all there is
        connection.execute("SET python_enable_replacements=false")  # nor the variables of this program
        connection.execute("SET lock_configuration=true")
        with stopped_after(seconds, connection), in_a_sentence():
            yield one_select(connection, sql)


@contextmanager
def stopped_after(seconds: float, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """End what the connection does after so many seconds, with a RefusedError."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        connection.interrupt()

    timer = threading.Timer(seconds, stop)
    try:
        if seconds:
            timer.start()
        yield
    except RefusedError as error:
        raise RefusedError(f"query: it took longer than {seconds:g} s and was ended; ask for less") if late.is_set() else error from None
    finally:
        timer.cancel()


def is_condition(text: str) -> bool:
    """Whether a text is one condition and nothing behind it, as far as the grammar of SQL tells."""
    with duckdb.connect() as connection:
        try:
            return len(connection.extract_statements(f"SELECT 1 WHERE ({text}\n)")) == 1
        except duckdb.Error:
            return False


def one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyRelation:
    """The relation of a text that is one statement and only reads; RefusedError else."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type not in READING:
        raise RefusedError("query takes one SELECT, and nothing that writes or sets")
    return connection.sql(sql)


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """What DuckDB refuses as a RefusedError; a table that cannot be read as an OSError."""
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise RefusedError("query: it takes more memory than there is for it and was ended; ask for less") from None
    except duckdb.Error as error:
        if BROKEN in str(error):
            raise OSError(f"query: a table cannot be read: {str(error).partition(BROKEN)[2].partition(', /')[0]}") from error
        raise RefusedError(f"query: {' '.join(str(error).split())}") from error


def first(batches: pa.RecordBatchReader, most: int) -> pa.Table:
    """The first rows of an answer; those behind them are never made."""
    held, count = [], 0
    while count < most and (batch := next(batches, None)) is not None:
        held.append(batch)
        count += len(batch)
    return pa.Table.from_batches(held, batches.schema).slice(0, most)
