"""What followed the batches of a watcher, for the page: selections that are kept current, drift over days, what training again is worth."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from engine.charts import Chart, chart


@dataclass(frozen=True)
class Current:
    """The newest choice of one selection that is kept current; shares are of a full solve, None where nothing was there to avoid."""

    selection: str
    method: str
    budget: str
    version: int  # of the patch table
    patches: int
    new: int | None  # patches of the pool that it met for the first time; None: its method keeps nothing
    entered: int | None
    left: int | None
    avoided_read: float | None  # embeddings
    avoided_pairs: float | None  # comparisons inside clusters
    seconds: float | None
    full_seconds: float | None  # of the last that was solved in full
    settings: str = ""  # the knobs that are not as by default


@dataclass(frozen=True)
class Followed:
    """`days` are rows of the table drift, `worth` a sentence for each estimate, the newest last."""

    current: Sequence[Current] = ()
    days: Sequence[dict[str, Any]] = ()
    worth: Sequence[str] = ()


@dataclass(frozen=True)
class Drawn:
    """`charts` (quantity, chart) are over days since `first`; a value is distances as shares of their threshold: from 1 on an alarm."""

    first: str = ""
    charts: list[tuple[str, Chart]] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)  # the newest first
    untold: int = 0  # days of a source on which too few videos were there for any alarm


def drawn(days: Sequence[dict[str, Any]]) -> Drawn:
    """The drift over days, rows of the table drift, as numbers; of several sources on one day the farthest."""
    rows = [row for row in days if row["threshold"]]
    untold = {(row["source"], row["day"]) for row in days if not row["threshold"]}
    alarms = [row["reason"] for row in sorted(days, key=lambda row: row["day"], reverse=True) if row["alarm"]]
    if not rows:
        return Drawn(alarms=alarms, untold=len(untold))
    first = min(row["day"] for row in rows)
    charts = []
    for quantity in sorted({row["quantity"] for row in rows}):
        largest: dict[int, float] = {}
        for row in rows:
            if row["quantity"] == quantity:
                day = (date.fromisoformat(row["day"]) - date.fromisoformat(first)).days
                largest[day] = max(largest.get(day, 0.0), row["distance"] / row["threshold"])
        charts.append((quantity, chart(quantity, sorted(largest), [largest[day] for day in sorted(largest)])))
    return Drawn(first, charts, alarms, len(untold))
