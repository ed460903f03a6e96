"""One method by several settings: which knobs of the choice made what was evaluated, and names for results that differ in them."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from engine import tracking
from engine.config import Config, Method
from engine.knobs import defaults, of_now

Run = dict[str, Any]
Settings = tuple[tuple[str, str], ...]  # knobs and values
# What names a row anyway, is another draw of the same, or is looked at for budgets in hours only.
BESIDE = {f"selection.{name}" for name in ("named", "method", "budget", "unit", "seed", "images_per_s")} | {"synthesis.seed"}


def newest(config: Config, runs: Sequence[Run]) -> list[Run]:
    """The last of the runs of every comparison, method, settings, budget and seed, oldest first; no pre-training has neither budget nor
    settings. Where settings of a method differ, its name among the tags says in what."""
    chosen = by_selection(config) if any(one["params"].get("selection.named") for one in runs) else {}
    made = [settings(one, chosen) for one in runs]
    last = {(*place(one["tags"]), some): number for number, (one, some) in enumerate(zip(runs, made, strict=True))}
    kept = sorted(last.values())
    told = names([(runs[number]["tags"], made[number]) for number in kept])
    return [runs[number] | {"tags": runs[number]["tags"] | {"method": name}} for number, name in zip(kept, told, strict=True)]


def place(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Comparison, method, budget with its unit, and seed."""
    asked = (tags["budget"], tags["unit"]) if float(tags["retained"]) else ()
    return tags["comparison"], tags["method"], *asked, tags["seed"]


def by_selection(config: Config) -> dict[str, Mapping[str, str]]:
    """The knobs that made each selection, by its id, where a run of choose tells of it."""
    return {one["tags"]["selection"]: one["params"] for one in tracking.runs(config, "choose") if not one["params"].get("selection.named")}


def settings(one: Run, chosen: Mapping[str, Mapping[str, str]]) -> Settings:
    """The knobs that decided what an evaluated network was trained on: those of its method and those of all, as `chosen` has them for a
    selection by its id, or that id. What an older run does not tell was then what it is now by itself; none of no pre-training."""
    tags, knobs = one["tags"], of_now(one["params"])
    if not float(tags["retained"]):
        return ()
    if knobs.get("selection.named"):
        if tags["selection"] not in chosen:
            return (("selection.named", tags["selection"]),)
        knobs |= {name: value for name, value in of_now(chosen[tags["selection"]]).items() if name.startswith("selection.")}
    return tuple((name, knobs.get(name, str(value))) for name, value in defaults().items() if decides(name, tags["method"]))


def decides(knob: str, method: str) -> bool:
    """Whether a knob may decide what a method chooses, or what is made of that."""
    section, *path = knob.split(".")
    of_another = len(path) > 1 and path[0] in get_args(Method) and path[0] != method
    return section in ("selection", "synthesis") and knob not in BESIDE and not of_another


def names(some: Sequence[tuple[Mapping[str, str], Settings]]) -> list[str]:
    """The name of each method, with the knobs in which its settings differ within a comparison."""
    groups: dict[tuple[str, str], set[Settings]] = {}
    for tags, made in some:
        groups.setdefault((tags["comparison"], tags["method"]), set()).add(made)
    return [named(tags["method"], made, groups[tags["comparison"], tags["method"]]) for tags, made in some]


def named(method: str, made: Settings, beside: set[Settings]) -> str:
    """A method with those of its settings that not all beside it share; by itself where there is one only."""
    own = [(knob, value) for knob, value in made if any((knob, value) not in other for other in beside)]
    told = ", ".join(f"{knob.removeprefix('selection.').removeprefix(f'{method}.')}={value}" for knob, value in own)
    return f"{method} ({told})" if told else method
