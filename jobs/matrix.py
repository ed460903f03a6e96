"""A matrix of methods, budgets, data sets, seeds and architectures: one YAML file in, a list of cells out, each with its whole Config.

A file is a configuration like any other (a recipe and sections), which all cells share, with a section `matrix` beside it:

    matrix:
      name: small
      budgets: [0.1, 0.25]                              # shares; every method at each, but for those that name their own
      seeds: [0, 1, 2]                                  # another draw of all that is drawn: choice, pre-training, fine-tuning
      architectures: {mae: {pretrain: small}}           # of each of the next four what it changes, in sections of knobs
      pools: {regions: {store: {uri: $stores/regions}}} # what is chosen from
      methods:
        optidel: {pool: regions}                        # selection.method is the name, where no other is said
        full data: {pool: regions, budgets: [1], selection: {method: random}}
        no pre-training: {}                             # the only one without a pool: the encoder as it is before its first step
      sets: {kvasir: {evaluate: {uri: $data/kvasir}}}   # what is fine-tuned and tested on

`random`, `full data` and `no pre-training` are the names by which the report knows what to hold others against. $data and $stores are
the knobs benchmark.data and benchmark.stores. Nothing heavy is loaded here, so a wrong word is refused, with its place, at once.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated, Any, Self, get_args

from pydantic import Field, ValidationError, model_validator

from engine import knobs, tracking
from engine.charts import amount
from engine.config import Config, Method
from engine.models import Section, Seed
from engine.settings import BenchmarkConfig
from jobs import documents
from jobs.documents import Tree
from jobs.layers import OWN, SET, Layers, leaves, refuse_hours, refuse_measuring, refuse_misnamed, refuse_own, says_method, written

PROTOCOLS = ("small", "paper")
WAYS = get_args(Method)
Budget = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MethodOfMatrix(Section):
    """A method of the matrix; no pre-training alone has no pool, and what names no budgets has those of the matrix."""

    pool: str = ""
    budgets: tuple[Budget, ...] = ()
    changes: Tree = {}


class Matrix(Section):
    """A matrix as its file says it; the knobs of every part are checked in each cell's Config."""

    name: Annotated[str, Field(min_length=1)]
    budgets: Annotated[tuple[Budget, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    architectures: Annotated[dict[str, Tree], Field(min_length=1)] = {"mae": {}}
    pools: dict[str, Tree] = {}
    methods: Annotated[dict[str, MethodOfMatrix], Field(min_length=1)]
    sets: Annotated[dict[str, Tree], Field(min_length=1)]

    @model_validator(mode="after")
    def names_what_there_is(self) -> Self:
        for name, method in self.methods.items():
            if method.pool and method.pool not in self.pools:
                raise ValueError(f"methods.{name}.pool={method.pool} is none of the pools: {', '.join(self.pools) or 'there are none'}")
            if method.budgets and not method.pool:
                raise ValueError(f"methods.{name} names budgets and no pool to spend them on")
            refuse_misnamed(name, method.pool, self.budgets_of(name), ", ".join(self.pools) or "there are none")
            if method.pool and not (name in WAYS or says_method(method.changes) or says_method(self.pools[method.pool])):
                near = "".join(f"; did you mean {word}?" for word in difflib.get_close_matches(name.lower(), WAYS, n=1))
                raise ValueError(f"methods.{name} is no way to choose and says none by selection.method{near}")
        for knob in ("budgets", "seeds"):
            if len(set(getattr(self, knob))) < len(getattr(self, knob)):
                raise ValueError(f"{knob}={', '.join(f'{value:g}' for value in getattr(self, knob))} names one twice")
        return self

    @model_validator(mode="after")
    def leaves_to_the_matrix_what_it_sets(self) -> Self:
        choosing = {f"pools.{name}": tree for name, tree in self.pools.items()}
        choosing |= {f"methods.{name}": method.changes for name, method in self.methods.items()}
        shared = {f"architectures.{name}": tree for name, tree in self.architectures.items()}
        refuse_own(choosing | shared | {f"sets.{name}": tree for name, tree in self.sets.items()})
        refuse_measuring(choosing)
        return self

    def budgets_of(self, method: str) -> tuple[float, ...]:
        """Those of a method; 0 alone for no pre-training."""
        contender = self.methods[method]
        return (contender.budgets or self.budgets) if contender.pool else (0.0,)


@dataclass(frozen=True)
class Cell:
    """A choice, its pre-training, and one measurement of it. `config` says all of it; the words say where it stands in the matrix.

    What lies in its pool and in its data set no YAML file tells: `contents` and `data` are of a cell that is about to be run.
    """

    matrix: str
    recipes: str  # hash of those that all methods share
    architecture: str
    method: str
    pool: str  # "": no pre-training
    budget: float
    seed: int
    dataset: str
    config: Config
    contents: str = ""  # names what is in the pool, so that a pool that grew, or was scored anew, makes another cell of it
    data: str = ""  # the same of every byte of the data set: datasets.fingerprint

    @property
    def unit(self) -> str:
        """Of the budget; "" for no pre-training."""
        return self.config.selection.unit if self.pool else ""

    @property
    def protocol(self) -> str:
        """Names what results that may be compared have in common: recipes, and the data that is tested on."""
        return digest([self.recipes, self.data])

    @property
    def model(self) -> str:
        """Names the model, and behind a dash what its pool held: cells that differ in the data set share one."""
        config = self.config
        made = [
            self.method,
            self.pool,
            config.store.uri,
            *(part.fingerprint() for part in (config.selection, config.synthesis, config.pretrain)),
        ]
        return f"{digest(made)}-{self.contents}"

    @property
    def fingerprint(self) -> str:
        """Names the cell."""
        return digest([self.matrix, self.architecture, self.dataset, self.model, self.config.evaluate.fingerprint(), self.data])

    def __str__(self) -> str:
        at = f" at {amount(self.budget, self.unit)}" if self.budget else ""
        return f"{self.method}{at}, seed {self.seed}, {self.architecture}, {self.dataset}"


def digest(parts: Sequence[str]) -> str:
    """Sixteen hex digits that change with any part."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read(name: str, words: Sequence[str] = ()) -> tuple[Config, Matrix]:
    """The configuration that all cells share, with the knobs of the command line, and the matrix.

    `name` is one of PROTOCOLS or a path. ValueError names the place, OSError the file.
    """
    packaged = resources.files("jobs").joinpath(f"protocols/{name}.yaml")
    text = packaged.read_bytes() if name in PROTOCOLS else Path(name).read_bytes()
    tree = documents.read(text, name)
    if not isinstance(mine := tree.pop("matrix", None), dict):
        raise ValueError(f"{name} has no section matrix: it names budgets, seeds, pools, methods and sets")
    told = {word.partition("=")[0]: word for word in words} | {knob: f"{name}: {knob}" for knob in written(tree)}
    if vain := [word for knob, word in told.items() if knob in OWN]:
        raise ValueError(f"{vain[0]}: {SET} of {name} names")
    config = knobs.amend(documents.configured(filled(tree, places(words)), name), words)
    return config, matrix_of(filled(mine, places(words)), name)


def places(words: Sequence[str]) -> dict[str, str]:
    """What $data and $stores stand for."""
    told = dict(word.split("=", 1) for word in words if "=" in word)
    return {name: told.get(f"benchmark.{name}", getattr(BenchmarkConfig(), name)) for name in ("data", "stores")}


def filled(tree: Any, found: Mapping[str, str]) -> Any:
    """The tree with every $name in its values replaced, wherever it stands."""
    if isinstance(tree, dict):
        return {name: filled(value, found) for name, value in tree.items()}
    if isinstance(tree, list):
        return [filled(value, found) for value in tree]
    return Template(tree).safe_substitute(found) if isinstance(tree, str) else tree


def matrix_of(tree: Tree, where: str = "the matrix") -> Matrix:
    """The matrix of a section; ValueError, one sentence, with the place in it."""
    tree = {name: apart(value) if name == "methods" and isinstance(value, dict) else emptied(value) for name, value in tree.items()}
    try:
        return Matrix.model_validate(tree)
    except ValidationError as error:
        places = [fault["loc"] for fault in error.errors()]
        inner = [
            fault for fault in error.errors() if not any(place and place[:-1] == fault["loc"] for place in places)
        ]  # of a list what is in it
        faults = [({**fault, "loc": ("matrix", *fault["loc"])}, fault["loc"]) for fault in inner]
        raise ValueError("; ".join(f"{where}: {said(fault, bool(place))}" for fault, place in faults)) from error


def said(fault: Any, placed: bool) -> str:
    """An error of pydantic's as a sentence about the file; `placed`: it is about one knob."""
    if not placed:
        return "matrix." + str(fault["msg"]).removeprefix("Value error, ")
    of_list = "; a share of a tenth is written 0.1" if "budgets" in fault["loc"] else ""  # no list of the command line
    return (
        knobs.sentence(fault)
        .replace(knobs.COMMAS, of_list)
        .replace("a valid tuple", "a list")
        .replace("a valid dictionary", "names with something below them")
    )


def apart(methods: Tree) -> Tree:
    """Methods with the knobs that they change told apart from the words of the matrix. ValueError for what is no section."""
    made = {}
    for name, tree in methods.items():
        if tree and not isinstance(tree, dict):
            raise ValueError(f"matrix.methods.{name}={tree!r}: expected sections, as in {{pool: {tree}}}")
        told = dict(tree or {})
        own = {word: told.pop(word) for word in ("pool", "budgets") if word in told}
        made[name] = own | {"changes": told}
    return made


def emptied(value: Any) -> Any:
    """A name with nothing below it changes nothing."""
    return {name: below or {} for name, below in value.items()} if isinstance(value, dict) else value


def cells(config: Config, matrix: Matrix) -> list[Cell]:
    """Every cell, in the order in which the table is soonest worth reading: all methods of a budget, all budgets of a seed, then the next.

    ValueError with the place in the matrix for a knob that there is not, or a value that it does not take.
    """
    return [
        cell(config, matrix, (architecture, method, dataset), budget, seed)
        for seed, architecture, budget in ordered(matrix)
        for method in matrix.methods
        if budget in matrix.budgets_of(method)
        for dataset in matrix.sets
    ]


def ordered(matrix: Matrix) -> Iterator[tuple[int, str, float]]:
    """Seed, architecture and budget of the cells, in the order in which they are run: the smallest budget first."""
    budgets = sorted({budget for method in matrix.methods for budget in matrix.budgets_of(method)})
    return ((seed, architecture, budget) for seed in matrix.seeds for architecture in matrix.architectures for budget in budgets)


def cell(config: Config, matrix: Matrix, names: tuple[str, str, str], budget: float, seed: int) -> Cell:
    """The cell of (architecture, method, data set), with its whole Config; ValueError where the knobs contradict each other."""
    architecture, method, dataset = names
    contender = matrix.methods[method]
    shared = {f"architectures.{architecture}": matrix.architectures[architecture], f"sets.{dataset}": matrix.sets[dataset]}
    own = {f"pools.{contender.pool}": matrix.pools[contender.pool]} if contender.pool else {}
    own[f"methods.{method}"] = named(method, contender)
    common = configured(config, shared, seed)
    made = configured(config, shared | own, seed, budget)
    refuse_hours(method, made.selection.unit)
    recipes = digest([common.pretrain.model_copy(update={"seed": 0}).fingerprint(), unseeded(common.evaluate).fingerprint()])
    return Cell(matrix.name, recipes, architecture, method, contender.pool, budget, seed, dataset, made)


def unseeded(section: Any) -> Any:
    """Knobs of fine-tuning without what may differ between cells that are compared: seeds, and where the data lies."""
    return section.model_copy(update={"seeds": (0,), "uri": ""})


def named(method: str, contender: MethodOfMatrix) -> Tree:
    """What a method changes; its own name says how it chooses where nothing else does and there is such a way."""
    if not contender.pool or method not in WAYS or says_method(contender.changes):
        return contender.changes
    return contender.changes | {"selection": (contender.changes.get("selection") or {}) | {"method": method}}


def configured(config: Config, layers: Layers, seed: int, budget: float = 0.0) -> Config:
    """The Config of a cell: what all share, then layer upon layer, then where it stands. It is done in one process, whoever starts that.

    ValueError names the place in the file.
    """
    tree = config.model_dump(mode="json")
    for where, changes in layers.items():
        for knob, value in leaves(changes):
            try:
                knobs.place(tree, knob, value)
            except ValueError as error:
                raise ValueError(f"matrix.{where}: {error}") from error
    tree["selection"] |= {"seed": seed} | ({"budget": budget} if budget else {})
    tree["pretrain"]["seed"] = seed
    if tree["synthesis"]["order"] == "random":  # of others it would only change the name of the images
        tree["synthesis"]["seed"] = seed
    tree["evaluate"]["seeds"] = [seed]
    tree["where"], tree["tracking"]["uri"] = "here", tracking.address(config)
    try:
        return knobs.build(tree)
    except ValueError as error:
        raise ValueError(f"matrix.{' with '.join(layers)}: {error}") from error
