"""The page docs/knobs.md, made of the sections of knobs and the comments beside them: `python -m docs.knobs` writes it, a test compares.

A comment is "[unit] meaning. Default: where it comes from"; what has no unit of its own, as a word, a switch or a seed, has none, and what
tells no source has that of its section's docstring, behind "Defaults:".
"""

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from engine import config, methods, models, settings
from engine.knobs import flat
from engine.models import Section
from engine.precision import Kept

KINDS: dict[Any, str] = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
PAGE = Path(__file__).parent / "knobs.md"
SIGNS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}
HEAD = """# Knobs

Every knob of every job, with its default, what it takes, its unit, what it is, and where the default comes from. A recipe sets many at
once (`jobs/recipes.py`). On a command line a knob is `name=value`, in a YAML file a section with names. This page is made from the code by
`python -m docs.knobs`.
"""


class Note(NamedTuple):
    """What the comment of a knob says, each "" where it says nothing."""

    unit: str
    what: str
    source: str


Notes = dict[tuple[str, str], Note]  # by class and field


def note(comment: str) -> Note:
    """A comment in its three parts."""
    told, _, source = comment.partition("Default: ")
    unit = told[1 : told.index("]")] if told.startswith("[") else ""
    return Note(unit, told.removeprefix(f"[{unit}]").strip(" ."), source)


def comments(module: ModuleType) -> dict[tuple[str, str], str]:
    """The comment of each field, by class and field: what stands behind it, after the lines that stand above it.

    What a section is given otherwise than it has it by itself has one of its own, by class and field.knob.
    """
    source = inspect.getsource(module)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    said = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    alone = {line for line in said if source.splitlines()[line - 1].lstrip().startswith("#")}
    found = {}
    for owner in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for field in (node for node in owner.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            name = ast.unparse(field.target)
            found[owner.name, name] = around(field, alone, said)
            for given in field.value.keywords if isinstance(field.value, ast.Call) else ():
                found[owner.name, f"{name}.{given.arg}"] = around(given, alone, said)
    return found


def around(node: ast.AnnAssign | ast.keyword, alone: set[int], said: dict[int, str]) -> str:
    """The comment above and behind what stands there."""
    return " ".join([*above(node.lineno, alone, said), *filter(None, [said.get(node.end_lineno or 0)])])


def above(line: int, alone: set[int], said: dict[int, str]) -> list[str]:
    """The lines of comment right above a line."""
    first = line
    while first - 1 in alone:
        first -= 1
    return [said[place] for place in range(first, line)]


def takes(field: FieldInfo) -> str:
    """What values a knob may have."""
    kind = field.annotation
    if get_origin(kind) is Union:
        return " or ".join(takes(FieldInfo.from_annotation(one)) for one in get_args(kind))
    if get_origin(kind) is Literal:
        also = [word for one in field.metadata if isinstance(getattr(one, "func", None), Kept) for word in one.func.others]
        return "; also ".join(", ".join(f"`{word}`" for word in some) for some in (words(kind), also) if some)
    if get_origin(kind) is tuple:
        return "a list"
    limits = [
        f"{sign} {limit(one, name):g}"
        for one in field.metadata
        for known, (name, sign) in SIGNS.items()
        if isinstance(one, known) and limit(one, name) < 2**63
    ]
    return " ".join([KINDS[kind], *limits])


def words(kind: Any) -> list[str]:
    return [word for one in get_args(kind) for word in (words(one) if get_origin(one) is Literal else [str(one)])]


def limit(one: Any, name: str) -> float:
    return float(getattr(one, name))


def tables(values: Section, notes: Notes, came_from: dict[str, str], prefix: str = "") -> Iterator[str]:
    """Heading, words and rows of a section with its defaults, then of those inside it."""
    section = type(values)
    plain = {name: field for name, field in section.model_fields.items() if not is_section(field.annotation)}
    if plain:
        told, _ = docstring(section)
        yield f"\n## {prefix.rstrip('.') or 'All jobs'}\n\n{told}\n"
        yield "| Knob | Default | Takes | Unit | What it is | Default from |\n|---|---|---|---|---|---|"
    for name, field in plain.items():
        unit, what, _ = notes[owner(section, name), name]
        cells = [default(getattr(values, name)), takes(field), unit, what, came_from[prefix + name]]
        yield " | ".join([f"| `{prefix}{name}`", *map(cell, cells)]) + " |"
    for name, field in section.model_fields.items():
        if is_section(field.annotation):
            yield from tables(getattr(values, name), notes, came_from, f"{prefix}{name}.")


def docstring(section: type[Section]) -> tuple[str, str]:
    """What a section's docstring says of it, and where the defaults of its knobs come from that do not say it themselves."""
    told, _, source = " ".join((section.__doc__ or "").split()).partition("Defaults: ")
    return told.strip(), source


def sources(section: type[Section], notes: Notes) -> dict[str, str]:
    """Where the default of each knob of a section comes from, those inside it by section.knob.

    What a section gives one inside it otherwise than that has it by itself is from where the comment beside it says, or that of the field.
    """
    found: dict[str, str] = {}
    for name, value in section():
        part = owner(section, name)
        own = notes[part, name].source or docstring(section)[1]
        if not isinstance(value, Section):
            found[name] = own
            continue
        usual, inside = flat(type(value)()), sources(type(value), notes)
        for leaf, given in flat(value).items():
            beside = notes.get((part, f"{name}.{leaf.partition('.')[0]}"), Note("", "", "")).source
            found[f"{name}.{leaf}"] = inside[leaf] if given == usual[leaf] else beside or own
    return found


def is_section(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Section)


def owner(section: type[Section], name: str) -> str:
    return next(one.__name__ for one in section.__mro__ if name in one.__annotations__)


def default(value: Any) -> str:
    written = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{written}`" if written else "empty"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def known() -> Notes:
    """What every knob's comment says, by class and field."""
    found = {field: comment for module in (models, methods, settings, config) for field, comment in comments(module).items()}
    return {field: note(comment) for field, comment in found.items()}


def page() -> str:
    told = known()
    return HEAD + "\n".join(tables(config.Config(), told, sources(config.Config, told))) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
