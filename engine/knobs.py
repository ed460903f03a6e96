"""Knobs by name: listed, changed and refused in sentences for a person."""

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from engine.config import Config


def flat(section: BaseModel, prefix: str = "") -> dict[str, Any]:
    """`section.knob -> value`, in the order of config.py."""
    found: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else {f"{prefix}{name}": value})
    return found


COMMAS = "; a list is written with commas, as in 0,1,2"
# What a knob with a pattern of letters takes, in words, by its name without the section.
FORMS = {
    "by": "early, checkpoint, medsam-lite, sam, or timm: and the name of a model, such as timm:resnet18.a1_in1k",
    "named": "the id of a selection: letters, digits, _, . and -",
    "selections": "method:budget or method:budget:unit, such as random:0.05",
    "size": "the size of a ViT of timm, such as tiny",
    "speeds": "architecture:images a second, more than 0, such as mae:900",
    "paces": "architecture:steps a second, more than 0, such as mae:9",
}


def of_now(params: Mapping[str, str]) -> dict[str, str]:
    """The knobs of an older run, as MLflow has them, by the names that they have now."""
    found = dict(params)
    by, degrees = (found.pop(f"selection.endocurate.{knob}", "") for knob in ("by", "degrees"))
    if by == "theory":  # 45 degrees are those of now
        found["selection.endocurate.start"] = by if float(degrees) == 45 else f"{by} of {degrees} degrees"
    return found


@cache
def defaults() -> Mapping[str, Any]:
    """`section.knob -> value` of a Config as it is by itself: a matrix places knobs a hundred thousand times."""
    return flat(Config())


def amend(config: Config, changes: Sequence[str]) -> Config:
    """`config` with every `knob=value` of `changes`; ValueError is one sentence for a person.

    A value is taken as it is written, so that a path like 2024 or *.mp4 stays one; a list is written with commas, in brackets, round or
    square, or not.
    """
    tree = config.model_dump(mode="json")
    for change in changes:
        knob, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} is not of the form knob=value")
        place(tree, knob, value)
    return build(tree)


def place(tree: dict[str, Any], knob: str, value: str) -> None:
    """Set one knob in the tree of all; an unknown one is refused with the nearest real ones. ValueError, one sentence."""
    real = defaults()
    if knob not in real:
        sections = list(dict.fromkeys(name.split(".")[0] for name in real))
        near = difflib.get_close_matches(knob, real, n=3, cutoff=0.5)
        near = near or [name for name in real if name.startswith(knob.split(".")[0] + ".")]
        rest = f"did you mean {', '.join(near)}?" if near else f"knobs begin with {', '.join(sections)}: --help lists all"
        raise ValueError(f"there is no knob {knob!r}; {rest}")
    *path, leaf = knob.split(".")
    for name in path:
        tree = tree[name]
    tree[leaf] = listed(value) if isinstance(real[knob], tuple) else value


def listed(value: str) -> list[str]:
    """The parts of a list as it is typed, with or without brackets."""
    inside = value.strip()
    if inside[:1] + inside[-1:] in ("[]", "()"):  # the latter is how sentences write what they refuse
        inside = inside[1:-1]
    return [part.strip() for part in inside.split(",")] if inside.strip() else []


def build(tree: dict[str, Any]) -> Config:
    """A Config from plain data; ValueError names the knob, the value and the rule in one sentence."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ValueError("; ".join(sentence(fault) for fault in error.errors())) from error


def sentence(fault: Any) -> str:
    """What is wrong with a knob in one sentence, from one of pydantic's errors."""
    knob = ".".join(str(part) for part in fault["loc"])
    rule: str = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(knob, defaults(), n=1)
        return f"there is no knob {knob}" + "".join(f"; did you mean {one}?" for one in near)
    if not knob:
        return rule  # of several sections: the rule names its knobs
    if fault["type"] == "string_pattern_mismatch":
        rule = f"expected {FORMS[next(part for part in reversed(fault['loc']) if isinstance(part, str))]}"
    if isinstance(fault["loc"][-1], int) and fault["type"].endswith("_parsing"):
        rule += COMMAS
    return f"{knob}: {rule}" if isinstance(fault["input"], dict) else f"{knob}={written(fault['input'])}: {rule}"


def written(value: object) -> str:
    """A value as a person wrote it, on one line."""
    return value if isinstance(value, str) and value.isprintable() and value else repr(value)
