"""Rows for a person or for another program: as a table, JSON lines or Parquet, on the terminal or in a file."""

import base64
import io
import json
import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine import files
from engine import plain as values
from engine.settings import OutputConfig

log = logging.getLogger("jobs.output")
WIDEST = 48  # characters of a cell
ID_LETTERS = 32  # of a video's id, which begins those of its frames and patches


def give(rows: pa.Table, config: OutputConfig, table: Callable[[pa.Table], str] | None = None) -> None:
    """Show rows as output.format says, or write them to output.path; `table` is how they look as a table, if not as `as_text`."""
    if config.format == "parquet":
        buffer = io.BytesIO()
        pq.write_table(rows, buffer)
        put(buffer.getvalue(), len(rows), config)
        return
    text = (table or as_text)(rows) if config.format == "table" else as_lines(rows)
    if config.path:
        put(f"{text}\n".encode() if text else b"", len(rows), config)
    elif text:
        print(text)


def put(content: bytes, many: int, config: OutputConfig) -> None:
    """Write rows, already coded, to output.path, and say so."""
    files.put(content, config.path)
    log.info("%d rows are in %s", many, config.path)


def as_lines(rows: pa.Table) -> str:
    """One JSON object a line; bytes are base64, a number that is none is null, and of columns with one name the second one is name_1."""
    named = rows.rename_columns(apart(rows.column_names))
    return "\n".join(json.dumps(plain(row), ensure_ascii=False) for row in named.to_pylist())


def apart(names: Sequence[str]) -> list[str]:
    """The names of columns with a number behind those that came before: an object has room for one of each."""
    made: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in count(1))
        made.append(name if name not in made else next(one for one in numbered if one not in made and one not in names))
    return made


def plain(value: Any) -> Any:
    """The same as JSON knows it, bytes as base64."""
    return values.plain(value, lambda held: base64.b64encode(held).decode())


def as_text(rows: pa.Table) -> str:
    """A table with a header, numbers to the right, and the number of rows below."""
    columns = [[cell(value) for value in column.to_pylist()] for column in rows.columns]
    cells = [list(row) for row in zip(*columns, strict=True)]
    widths = [max(map(len, column)) for column in zip(rows.column_names, *cells, strict=True)]
    numeric = [
        pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type) for field in rows.schema
    ]
    lines = [rows.column_names, ["-" * width for width in widths], *cells]
    said = [
        "  ".join(f"{text:>{width}}" if right else f"{text:<{width}}" for text, width, right in zip(line, widths, numeric, strict=True))
        for line in lines
    ]
    return "\n".join([*(line.rstrip() for line in said), f"({len(cells)} rows)"])


def as_blocks(rows: pa.Table) -> str:
    """For every row its first cell and below it the others by name, however long; what a row does not tell is left out."""
    blocks = [list(row.items()) for row in rows.to_pylist()]
    told = [as_tree({str(title): {name: value for name, value in others if value is not None}}) for (_, title), *others in blocks]
    return "\n".join([*told, f"({len(told)} rows)"])


def cell(value: object) -> str:
    """A value on one line of at most WIDEST characters."""
    text = word(value)
    return text if len(text) <= WIDEST or is_id(value) else text[: WIDEST - 1] + "…"


def word(value: object) -> str:
    """A value on one line."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)  # a terminal would obey the others


def is_id(value: object) -> bool:
    """True for the id of a frame or patch: cut off, it would name nothing."""
    return isinstance(value, str) and value.find("@") == ID_LETTERS and value.isprintable() and " " not in value


def as_tree(tree: dict[str, Any], depth: int = 0) -> str:
    """Nested data as indented lines; a list of simple rows has a line for each."""
    return "\n".join(line for name, value in tree.items() for line in branch(str(name), value, "  " * depth))


def branch(name: str, value: Any, indent: str) -> list[str]:
    """A name and what it holds, as lines of a tree."""
    if isinstance(value, dict):
        return [f"{indent}{name}:" + ("" if value else " none"), *([as_tree(value, len(indent) // 2 + 1)] if value else [])]
    if not isinstance(value, list) or not any(isinstance(held, dict) for held in value):
        return [f"{indent}{name}: {word(value) if value is not None and value != [] else 'none'}"]
    lines = [f"{indent}{name}:"]
    for held in value:
        if any(isinstance(inner, dict | list) and column != "box" for column, inner in held.items()):  # four numbers fit into a line
            first, *rest = as_tree(held, len(indent) // 2 + 2).splitlines()
            lines += [f"{indent}  - {first.strip()}", *rest]
        else:
            lines.append(f"{indent}  - {sentence(held)}")
    return lines


def sentence(row: dict[str, Any]) -> str:
    """A simple row on one line; a decision reads as one."""
    if "threshold" in row and "number" in row:
        number, threshold = ("unknown" if row[name] is None else word(row[name]) for name in ("number", "threshold"))
        return f"{row['what']} {number}, {row['bound']} {threshold} ({row['knob']}): {'passed' if row['passed'] else 'failed'}"
    return ", ".join(f"{name} {word(found)}" for name, found in row.items() if found is not None)
