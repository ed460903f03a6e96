"""What a difficulty or an embedding is by: the scorer, the run of probe that trained it, and the runs that scored stored patches with it.

A scorer is named by the kind of its model and its mark, the hash that every patch has of it (`scorer`), or by this alone where no run and
no table of scores tells the kind.
"""

from engine.explain.decisions import Tree
from engine.explain.runs import NO_RUN, Run, Runs, said
from engine.store import PatchStore, quoted, rescoring, trainings
from engine.store.tables import SCORES

UNHEARD = "unknown: MLflow has no run of probe that tells of it"
MADE = ("scorer", "early")  # tags of a run of probe: what it trained, and that early in its training


def named(store: PatchStore, runs: Runs, begin: str) -> list[str]:
    """The scorers whose names, or whose marks, begin so: of the patches, of tables of scores, and of runs."""
    told = {table.removeprefix(SCORES) for table in store.scores()}
    told |= {run["tags"][tag] for job in ("probe", "score", "rescore") for run in runs.get(job, ()) for tag in MADE if tag in run["tags"]}
    used = rescoring.scorers_of(store, store.complete_version()) if store.has("patches") else frozenset()
    told |= used - {mark(name) for name in told}
    return sorted(name for name in told if name.startswith(begin) or mark(name).startswith(begin))


def mark(name: str) -> str:
    """What patches call a scorer."""
    return name.rpartition("-")[2]


def scorer(store: PatchStore, runs: Runs, name: str) -> Tree:
    """A scorer: how it came to be, and how many patches have a score by it."""
    table, again = f"{SCORES}{name}", [(job, run) for job in ("score", "rescore") for run in runs.get(job, ())]
    first = store.open("patches", store.complete_version()).count_rows(f"scorer = {quoted([mark(name)])}")
    tree = {"scorer": name, **trained(runs, mark(name)), "patches with its scores": first}
    tree |= {f"rows of {table}": store.open(table).count_rows()} if table in store.scores() else {}
    return tree | {"scored by": [said(job, run) for job, run in again if run["tags"].get("scorer") == name]}


def trained(runs: Runs, scorer: str) -> Tree:
    """The run of probe that trained what has this mark, the newest one; a checkpoint from elsewhere has none."""
    for run in reversed(runs.get("probe", ())):
        if made := [tag for tag in MADE if mark(run["tags"].get(tag, "")) == scorer]:
            return {"trained by": said("probe", run), "file": trainings.scorer(run["tags"]["key"], made[0] == "early")}
    return {"trained by": UNHEARD}


def scores(store: PatchStore, patch_id: str) -> list[Tree]:
    """What other scorers than that of its row say of a patch."""
    where, found = f"patch_id = {quoted([patch_id])}", []
    for table in store.scores():
        rows = store.open(table).to_table(columns=["difficulty"], filter=where)["difficulty"].to_pylist()
        found += [{"scorer": table.removeprefix(SCORES), "difficulty": difficulty} for difficulty in rows]
    return found


def probe(store: PatchStore, runs: Runs, run: Run) -> Tree:
    """What a run of probe made, from how many crops, and the scorers that this is by name."""
    tags = run["tags"]
    made = [tags[tag] for tag in MADE if tag in tags]
    return {"crops": tags.get("crops"), "scorers": [scorer(store, runs, name) for name in made]}


def file(store: PatchStore, runs: Runs, path: str) -> Tree:
    """What lies in scorers/, or is the training of a scorer in runs/; LookupError for what is of no run and not there."""
    key = trainings.scorer_of(path)
    run = next((one for one in reversed(runs.get("probe", ())) if one["tags"].get("key") == key), None)
    there = store.holds(path)
    if not run and not there:
        raise LookupError(f"the store {store.uri} has no scorer {path!r}: they lie in scorers/, their checkpoints in runs/probe-...")
    tree = {"file": path, "there": there}
    return tree | ({"trained by": said("probe", run), **probe(store, runs, run)} if run else {"trained by": NO_RUN})
