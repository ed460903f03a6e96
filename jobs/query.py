"""Rows of the tables by SQL, as a person reads them."""

import pyarrow as pa

from engine.config import Config
from engine.query import query
from engine.store import PatchStore

WIDEST = 48  # characters of a cell


def run(config: Config, sql: str) -> None:
    """Print what the SELECT finds."""
    print(as_text(query(PatchStore(config.store.uri), sql)))


def as_text(rows: pa.Table) -> str:
    """A table with a header, numbers to the right, and the number of rows below."""
    columns = [[cell(value) for value in column.to_pylist()] for column in rows.columns]
    cells = [list(row) for row in zip(*columns, strict=True)]
    widths = [max(map(len, column)) for column in zip(rows.column_names, *cells, strict=True)]
    numeric = [pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in rows.schema]
    lines = [rows.column_names, ["-" * width for width in widths], *cells]
    said = [
        "  ".join(f"{text:>{width}}" if right else f"{text:<{width}}" for text, width, right in zip(line, widths, numeric, strict=True))
        for line in lines
    ]
    return "\n".join([*(line.rstrip() for line in said), f"({len(cells)} rows)"])


def cell(value: object) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)  # a terminal would obey the others
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
