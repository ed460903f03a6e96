"""The choices that runs tell of: by which settings each was made, how it was judged, and what was saved where it was made again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine import tracking
from engine.charts import amount
from engine.config import Config
from engine.followed import Current
from engine.knobs import defaults, of_now
from engine.report import Judged
from engine.selection import METHODS
from engine.store import PatchStore
from jobs import named

PREFIX = "judge/"  # of the metrics, and of the tags that hold the reason where there is none
NOTED = "judged/"  # of the tags that say what a value is of
POOLS = "judge_pool/"  # of the metrics of what was chosen from
OF = "judged_of"  # the tag that says of what kind that was
BESIDE = ("selection.method", "selection.budget", "selection.unit", "selection.of", "selection.named")  # told elsewhere in a row
WORDS = {"synthesis.patches": "M", "synthesis.seed": "seed of the order"}


@dataclass(frozen=True)
class Asked:
    """How a selection was asked for: `knobs` are all of selection.* and synthesis.* that its method looks at, as MLflow has them."""

    method: str
    budget: float
    unit: str
    knobs: tuple[tuple[str, str], ...]

    @property
    def of(self) -> str:
        """What it was chosen from, patches or frames, as far as its knobs say it."""
        return dict(self.knobs).get("selection.of", "patches")

    @property
    def amount(self) -> str:
        """The budget in words."""
        return amount(self.budget, "frames" if (self.unit, self.of) == ("patches", "frames") else self.unit)

    @property
    def settings(self) -> str:
        """The knobs that are not as by default, but for those that a row tells anyway."""
        usual = {name: str(value) for name, value in defaults().items()}
        other = [(name, value) for name, value in self.knobs if name not in BESIDE and value != usual[name]]
        return ", ".join(f"{WORDS.get(name, name.partition('.')[2])} {value}" for name, value in other)


def below(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def asked_for(config: Config, one: dict[str, Any]) -> Asked | None:
    """What a run of choose was asked for, by its knobs, or where it was told of a selection by its id by what the rows of that say.

    Then no knob of the method was looked at. None where the rows are gone.
    """
    tags, knobs = one["tags"], known(one["params"])
    if "named" not in tags:
        return Asked(knobs["selection.method"], float(knobs["selection.budget"]), knobs["selection.unit"], looked_at(knobs))
    store = PatchStore(config.store.uri)
    if not named.is_there(store, tags["selection"]):
        return None
    made = named.made(store, tags["selection"])
    layout = {name: value for name, value in knobs.items() if name.startswith("synthesis.")}
    kind = {"selection.named": tags["named"], "selection.of": tags.get(OF, "patches")}
    return Asked(made["method"], made["budget"], made["unit"], tuple((kind | layout).items()))


def known(params: Mapping[str, str]) -> dict[str, str]:
    """All knobs of selection.* and synthesis.*, in their order; one that a run of before does not tell was as it is by default."""
    told = of_now(params)
    return {name: told.get(name, str(value)) for name, value in defaults().items() if name.startswith(("selection.", "synthesis."))}


def looked_at(knobs: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Those knobs that are no other method's."""
    others = tuple(f"selection.{name}." for name in METHODS if name != knobs["selection.method"])
    return tuple((name, value) for name, value in knobs.items() if not name.startswith(others))


def judgements(config: Config) -> list[Judged]:
    """The judgement of the newest selection of all the same settings, by budget; values of another net or pool are left out."""
    runs = tracking.runs(config, "choose")
    found = {asked: one for one in runs if (asked := asked_for(config, one))}
    of = {name: note for one in runs for name, note in below(one["tags"], NOTED).items()}
    order = sorted(found.items(), key=lambda pair: (pair[0].unit, pair[0].budget, pair[0].method, pair[0].settings))
    return [comparable(judged(*pair), of) for pair in order]


def comparable(one: Judged, of: Mapping[str, str]) -> Judged:
    """A judgement without the values that are of something else than those beside them are `of`."""
    others = {name: f"it is of {note}, and beside it of {of[name]}" for name, note in one.notes.items() if note != of[name]}
    values = {name: value for name, value in one.values.items() if name not in others}
    return replace(one, values=values, reasons=one.reasons | others)


def judged(asked: Asked, one: dict[str, Any]) -> Judged:
    """What a choice was judged by: values, and the reasons where there is none."""
    tags, metrics = one["tags"], one["metrics"]
    return Judged(
        method=asked.method,
        budget=asked.amount,
        selection=tags["selection"],
        values=below(metrics, PREFIX),
        reasons=below(tags, PREFIX),
        notes=below(tags, NOTED),
        settings=asked.settings,
        of=tags.get(OF, asked.of),
        version=int(tags["patches_version"]),
        pool=below(metrics, POOLS),
    )


def current(config: Config) -> list[Current]:
    """Of every selection that is kept current, or was made more than once, the newest choice, and what of its work was avoided."""
    made: dict[Asked, list[dict[str, Any]]] = {}
    for one in tracking.runs(config, "choose"):
        if asked := asked_for(config, one):
            made.setdefault(asked, []).append(one)
    return [current_of(asked, runs[-1]) for asked, runs in made.items() if len(runs) > 1 or "kept_by" in runs[-1]["tags"]]


def current_of(asked: Asked, one: dict[str, Any]) -> Current:
    """The newest choice of the same settings: what is new in it, and what was saved by the one before."""
    found = below(one["metrics"], "choose/")
    counts = {name: int(found[name]) if name in found else None for name in ("new", "entered", "left")}
    rest = {name: found.get(name) for name in ("avoided_read", "avoided_pairs", "seconds", "full_seconds")}
    tags, settings = one["tags"], ", ".join(filter(None, [asked.of if asked.of == "frames" else "", asked.settings]))
    return Current(
        selection=tags["selection"],
        method=asked.method,
        budget=asked.amount,
        version=int(tags["patches_version"]),
        patches=int(found["patches"]),
        settings=settings,
        **counts,
        **rest,
    )
