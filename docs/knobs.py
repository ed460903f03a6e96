"""The page docs/knobs.md, made of the sections of knobs and the comments beside them: `python -m docs.knobs` writes it, a test compares."""

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from engine import config, models, settings
from engine.models import Section

KINDS: dict[Any, str] = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
PAGE = Path(__file__).parent / "knobs.md"
SIGNS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}
HEAD = """# Knobs

Every knob of every job, with its default, what it takes and what it is: unit, meaning, where the default comes from. What stands under
a heading holds for all below it. On a command line a knob is `name=value`, in a YAML file a section with names. `endocurate --help`
lists the recipes, which set many at once. This page is made from the code by `python -m docs.knobs`.
"""


def notes(module: ModuleType) -> dict[tuple[str, str], str]:
    """The comment of each field, by class and field: what stands behind it, after the lines that stand above it."""
    source = inspect.getsource(module)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    alone = {line for line in comments if source.splitlines()[line - 1].lstrip().startswith("#")}
    found = {}
    for owner in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for field in (node for node in owner.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            found[owner.name, ast.unparse(field.target)] = " ".join(
                [*above(field.lineno, alone, comments), *filter(None, [comments.get(field.end_lineno or 0)])]
            )
    return found


def above(line: int, alone: set[int], comments: dict[int, str]) -> list[str]:
    """The lines of comment right above a line."""
    first = line
    while first - 1 in alone:
        first -= 1
    return [comments[place] for place in range(first, line)]


def takes(field: FieldInfo) -> str:
    """What values a knob may have."""
    kind = field.annotation
    if get_origin(kind) is Union:
        return " or ".join(takes(FieldInfo.from_annotation(one)) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in words(kind))
    if get_origin(kind) is tuple:
        return "a list"
    limits = [
        f"{sign} {limit(one, name):g}"
        for one in field.metadata
        for known, (name, sign) in SIGNS.items()
        if isinstance(one, known) and limit(one, name) < 2**63
    ]
    return " ".join([KINDS[kind], *limits])


def words(kind: Any) -> Iterator[str]:
    for one in get_args(kind):
        yield from words(one) if get_origin(one) is Literal else (str(one),)


def limit(one: Any, name: str) -> float:
    return float(getattr(one, name))


def tables(values: Section, known: dict[tuple[str, str], str], prefix: str = "") -> Iterator[str]:
    """Heading, words and rows of a section with its defaults, then of those inside it."""
    section = type(values)
    told = " ".join((section.__doc__ or "").split())
    plain = {name: field for name, field in section.model_fields.items() if not is_section(field.annotation)}
    if plain:
        yield f"\n## {prefix.rstrip('.') or 'All jobs'}\n\n{told}\n" if told else f"\n## {prefix.rstrip('.') or 'All jobs'}\n"
        yield "| Knob | Default | Takes | What it is |\n|---|---|---|---|"
    for name, field in plain.items():
        yield f"| `{prefix}{name}` | {default(getattr(values, name))} | {takes(field)} | {cell(known[owner(section, name), name])} |"
    for name, field in section.model_fields.items():
        if is_section(field.annotation):
            yield from tables(getattr(values, name), known, f"{prefix}{name}.")


def is_section(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Section)


def owner(section: type[Section], name: str) -> str:
    return next(one.__name__ for one in section.__mro__ if name in one.__annotations__)


def default(value: Any) -> str:
    written = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{written}`" if written else "empty"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    known = notes(models) | notes(settings) | notes(config)
    return HEAD + "\n".join(tables(config.Config(), known)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
