"""What was found of the video of a source and day, beside all that came before: rows of the table drift, and the runs that looked."""

from typing import Any

from engine.explain.decisions import Tree
from engine.explain.runs import NO_RUN, Runs, said
from engine.store import PatchStore
from engine.store import drift as table

OF_A_DAY = ("videos", "pool", "looks", "over", "allowed")
OF_A_QUANTITY = ("quantity", "distance", "threshold", "chance", "alarm", "reason")


def sources(store: PatchStore, begin: str) -> list[str]:
    """The sources that were looked at whose hashes begin so."""
    return sorted(name for name in set(table.found(store)["source"].to_pylist()) if name.startswith(begin))


def source(store: PatchStore, runs: Runs, name: str) -> Tree:
    """A source: every day of it that was looked at."""
    return {"source": name, "days": days(store, runs, source=name)}


def days(store: PatchStore, runs: Runs, **wanted: Any) -> list[Tree]:
    """The days whose rows have these values, or this word in `video_ids`, each with its quantities and the run that looked at it last."""
    found: dict[tuple[str, str], Tree] = {}
    for row in table.found(store).to_pylist():
        if all(value in row[name].split() if name == "video_ids" else value == row[name] for name, value in wanted.items()):
            told = found.setdefault((row["source"], row["day"]), begun(row, runs))
            told["quantities"].append({name: row[name] for name in OF_A_QUANTITY})
    return list(found.values())


def begun(row: Tree, runs: Runs) -> Tree:
    """What all rows of a source and day have in common."""
    version = str(row["patches_version"])
    looked = [run for run in runs.get("drift", ()) if run["tags"].get("patches_version") == version]
    tree = {"source": row["source"], "day": row["day"], **{name: row[name] for name in OF_A_DAY}, "video ids": row["video_ids"].split()}
    tree |= {"table version": row["patches_version"], "looked at by": said("drift", looked[-1]) if looked else NO_RUN}
    return tree | {"quantities": []}
