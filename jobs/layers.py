"""What the parts of a matrix change, knob by knob, and which knobs are none of theirs."""

from collections.abc import Iterator, Mapping

from jobs import documents
from jobs.documents import Tree

OWN = ("selection.named", "selection.budget", "selection.seed", "pretrain.seed", "evaluate.seeds")  # knobs that the matrix itself sets
SET = "budgets and seeds are those that the section matrix"  # names
FULL, NONE = "full data", "no pre-training"  # as engine.entries has them, which loads what a matrix does without
Layers = Mapping[str, Tree]


def leaves(tree: Tree, above: str = "") -> Iterator[tuple[str, str]]:
    """Every knob of a layer with its value as it would be written on the command line; a section by name is all the knobs that it says."""
    for name, value in tree.items():
        knob = f"{above}{name}"
        if isinstance(value, str) and value in documents.NAMED.get(knob, ()):
            made = documents.NAMED[knob][value]().model_dump(mode="json", exclude=set(documents.KEPT.get(knob, ())))
            yield from leaves(made, f"{knob}.")
        elif isinstance(value, dict):
            yield from leaves(value, f"{knob}.")
        else:
            yield knob, ",".join(map(str, value)) if isinstance(value, list) else str(value)


def written(tree: Tree, above: str = "") -> Iterator[str]:
    """Every knob that a layer itself writes down; a section by name is one word, though it brings a seed along."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from written(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def says_method(tree: Tree) -> bool:
    """Whether a layer names a method of selection."""
    return "selection.method" in written(tree)


def refuse_own(layers: Layers) -> None:
    """ValueError where a layer sets what the matrix sets in every cell: it would be overruled, or one choice stand for all."""
    for where, tree in layers.items():
        if vain := [knob for knob in written(tree) if knob in OWN]:
            raise ValueError(f"{where}.{vain[0]}: {SET} names")


def refuse_measuring(layers: Layers) -> None:
    """ValueError where a layer of a method changes how it is measured: a difference between methods would be one between measurements."""
    for where, tree in layers.items():
        if unlike := [knob for knob in written(tree) if knob.partition(".")[0] == "evaluate"]:
            raise ValueError(
                f"{where}.{unlike[0]}: all methods are fine-tuned and tested alike, or they could not be compared; "
                "evaluate.* stands with sets and architectures"
            )


def refuse_misnamed(name: str, pool: str, budgets: tuple[float, ...], pools: str) -> None:
    """ValueError for a method that is not what the report takes it for by its name: nothing to pre-train on, or all there is.

    `budgets` are those that it is run at.
    """
    if name == NONE and pool:
        raise ValueError(f"methods.{name}.pool={pool}: what is called so has no pool, and is held to be the untrained encoder")
    if name != NONE and not pool:
        raise ValueError(f"methods.{name} names no pool to choose from ({pools}); without one a method is called {NONE}")
    if name == FULL and budgets != (1.0,):
        told = ", ".join(f"{budget:g}" for budget in budgets)
        raise ValueError(f"methods.{name} is run at budgets={told}, where it is all there is: write budgets: [1]")


def refuse_hours(name: str, unit: str) -> None:
    """ValueError for all data as a budget in hours: no number of them is all there is."""
    if name == FULL and unit == "gpu_hours":
        raise ValueError(
            f"matrix.methods.{name} has a budget in gpu hours, of which 1 is not all there is: give it a selection.unit of shares"
        )
