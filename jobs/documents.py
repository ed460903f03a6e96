"""Configurations as YAML files: a recipe, and the sections that change it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from engine.config import Config
from engine.knobs import build
from engine.models import Section
from jobs.recipes import EVALUATIONS, RECIPES, TRAININGS

Tree = dict[str, Any]


NAMED: dict[str, Mapping[str, Callable[[], Section]]] = {"pretrain": TRAININGS, "evaluate": EVALUATIONS}  # taken whole, by name
KEPT = {  # of what stood there: what is measured on, which no recipe says
    "evaluate": ("uri", "dataset", "pairs", "test_groups", "train_groups", "test_share", "limit"),
}


def section(part: str, name: str, before: Section) -> Section:
    """A whole section by name, in the place of the one `before`. ValueError for an unknown name."""
    if name not in NAMED[part]:
        raise ValueError(f"{part}={name!r} is none of {', '.join(NAMED[part])}; its single knobs are {part}.epochs, {part}.batch, ...")
    return NAMED[part][name]().model_copy(update={knob: getattr(before, knob) for knob in KEPT.get(part, ())})


class Plain(yaml.BaseLoader):
    """YAML whose values stay as they are written: "precision: no" is a word, and 2024 may be a folder. No name may stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping as a dict; ConstructorError where a name stands twice."""
        names = [name.value for name, _ in node.value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands twice", node.start_mark)
        return dict(super().construct_mapping(node, deep))


def from_file(path: str) -> Config:
    """A Config from a YAML file: a recipe by name under `recipe`, and sections that change it; values as they are written."""
    return configured(read(Path(path).read_bytes(), path), path)


def read(content: bytes, path: str) -> Tree:
    """The sections of a YAML file; ValueError, in one sentence that begins with its path, for what is none or holds none."""
    try:
        tree = yaml.load(content.decode(), Plain) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file, so no YAML") from error
    dotted = [name for name in tree if "." in name] if isinstance(tree, dict) else []
    if not isinstance(tree, dict) or dotted:
        what = f"names {dotted[0]!r} in one word" if dotted else "holds no sections"
        raise ValueError(f"{path} {what}; expected for instance 'recipe: tiny' and 'store: {{uri: store}}'")
    return tree


def configured(tree: Tree, path: str) -> Config:
    """The Config of such sections; ValueError, one sentence that begins with the path, for what cannot be."""
    recipe = tree.pop("recipe", None)
    if recipe is not None and recipe not in list(RECIPES):
        raise ValueError(f"{path}: recipe={recipe!r} is none of {', '.join(RECIPES)}")
    started = RECIPES[recipe]() if recipe else Config()
    for part in NAMED:
        if isinstance(named := tree.get(part), str) and named:
            tree[part] = section(part, named, getattr(started, part)).model_dump(mode="json")
    try:
        return build(merged(started.model_dump(mode="json"), tree))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def merged(tree: Tree, changes: Tree) -> Tree:
    """Two trees as one, `changes` over `tree`, section by section."""
    both = dict(tree)
    for name, value in changes.items():
        old = both.get(name)
        if isinstance(old, dict) and not value:
            continue  # a section with nothing below it changes nothing
        both[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both
