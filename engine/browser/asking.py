"""What a page asks for: which rows of which table, in which order. It comes from outside, so every word of it is checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from engine.refusals import RefusedError

NUMBERS = {
    "patches": ("difficulty", "time_ms", "variance", "black", "glare", "foreign", "area", "bytes"),
    "frames": ("time_ms", "sharpness", "brightness", "glare", "tissue", "change", "patches"),
}
LONGEST = 20_000  # letters of anything that is asked
KINDS = ("patches", "frames")  # as selection.of names them: regions of frames, or whole ones
# What tells rows of the other table apart.
OTHERS = {"patches": ("reason",), "frames": ("kind", "selection", "cluster", "tag", "like", "sql")}
CHANGES = ("", "came", "went", "stayed")


@dataclass(frozen=True)
class Asked:
    """One question; what is empty asks for nothing. `ranges` are (number, least, most), both ends included."""

    table: str = "patches"
    ranges: tuple[tuple[str, float, float], ...] = ()
    video: str = ""  # the beginning of an id
    reason: str = ""  # of frames; "kept": none
    kind: str = ""  # of patches, one of KINDS
    selection: str = ""
    against: str = ""  # another selection, with which `change` tells apart
    change: str = ""
    cluster: str = ""  # name/number
    tag: str = ""
    like: str = ""  # a patch
    sql: str = ""  # a SELECT that gives patch_id
    sort: str = ""  # a number of the table; without one rows come as their list brings them, or as in the table
    down: bool = False

    def without(self, name: str) -> "Asked":
        """The same question without the range of one number, which a histogram of it is drawn for."""
        return replace(self, ranges=tuple(one for one in self.ranges if one[0] != name), sort="", down=False)


def read(params: Mapping[str, str]) -> Asked:
    """The question in the words of an address, `difficulty=0.1,0.5` being a range; RefusedError, in one sentence, for one that is none."""
    table = params.get("table", "patches")
    if table not in NUMBERS:
        raise RefusedError(f"there is no table {table[:40]!r} to look at; there are {', '.join(NUMBERS)}")
    texts = {field.name for field in fields(Asked)} - {"table", "ranges", "down"}
    known = {"table", "down", *texts, *NUMBERS[table]}
    if strange := sorted(set(params) - known):
        raise RefusedError(f"{strange[0][:40]!r} is nothing that {table} can be asked for")
    if any(len(value) > LONGEST for value in params.values()):
        raise RefusedError(f"what is asked for is longer than {LONGEST} letters")
    made = Asked(
        table=table,
        ranges=tuple((name, *span(name, params[name])) for name in NUMBERS[table] if params.get(name)),
        down=params.get("down") == "1",
        **{name: params[name] for name in sorted(texts & set(params))},
    )
    check(made)
    return made


def check(asked: Asked) -> None:
    """RefusedError, in one sentence, where the words contradict each other or do not fit the table."""
    if asked.sort and asked.sort not in NUMBERS[asked.table]:
        raise RefusedError(f"{asked.table} cannot be sorted by {asked.sort[:40]!r}; they can by {', '.join(NUMBERS[asked.table])}")
    if asked.change not in CHANGES or bool(asked.change) != bool(asked.against) or (asked.against and not asked.selection):
        raise RefusedError("two selections are compared as selection=A against=B change=came, went or stayed")
    if asked.kind and asked.kind not in KINDS:
        raise RefusedError(f"patches are of no kind {asked.kind[:40]!r}; there are {', '.join(KINDS)}")
    if strange := [name for name in OTHERS[asked.table] if getattr(asked, name)]:
        (other,) = NUMBERS.keys() - {asked.table}
        raise RefusedError(f"{strange[0]} tells {other} apart, not {asked.table}")


def span(name: str, text: str) -> tuple[float, float]:
    """Two numbers with a comma between them; one that is left out has no bound. RefusedError for anything else."""
    least, comma, most = text.partition(",")
    try:
        found = float(least or -math.inf), float(most or math.inf)
    except ValueError:
        found = (math.nan, math.nan)
    if not comma or math.isnan(sum(map(abs, found))) or found[0] > found[1]:
        raise RefusedError(f"{name}={text[:40]!r} is no range: expected two numbers, the smaller one first, as in 0.1,0.5")
    return found
