"""What came of selections, and back to them: the models that were trained, the cells of a matrix, and the runs that tell of both.

Of the runs also those that trained a scorer, scored with one, or looked at drift.
"""

from collections.abc import Callable, Sequence

from engine.explain import drift, scorers
from engine.explain.decisions import Tree
from engine.explain.runs import NO_RUN, Run, Runs, said
from engine.models import TrainConfig
from engine.store import PatchStore, quoted, trainings

SPOT = ("matrix", "architecture", "method", "budget", "unit", "seed")  # of a cell in its matrix
OF_A_CELL = (*SPOT, "at", "commit", "reason", "setting", "retained", "images", "miou")
OF_A_RUN = ("key", "fingerprint", "method", "seed", "weights", "data")  # of its tags


class Results:
    """Follows models, cells and runs; `chosen` tells of a selection by its id."""

    def __init__(self, store: PatchStore, runs: Runs, chosen: Callable[[str], Tree]) -> None:
        self.store, self.runs, self.chosen = store, runs, chosen

    # -- names --------------------------------------------------------------------------------------------------------------

    def models(self, begin: str) -> list[str]:
        """The pre-trainings whose names begin so: of which there is a file, or of which MLflow knows."""
        known = {*trainings.keys(self.store), *(run["tags"]["key"] for run in self.of("pretrain") if "key" in run["tags"])}
        return sorted(name for name in known if name.startswith(begin))

    def runs_by(self, begin: str) -> list[str]:
        """The ids of runs that begin so."""
        return sorted({run["run"] for job in self.runs for run in self.of(job) if run["run"].startswith(begin)})

    def of(self, job: str) -> Sequence[Run]:
        """The runs of a job that MLflow knows, none where it has none."""
        return self.runs.get(job, ())

    # -- trees --------------------------------------------------------------------------------------------------------------

    def file(self, path: str) -> Tree:
        """A model, one that a pre-training kept, a checkpoint of one under way, or a scorer, by where it lies in the store.

        LookupError where there is none.
        """
        key = trainings.key_of(path)
        if trainings.scorer_of(path):
            return scorers.file(self.store, self.runs, path)
        if key not in self.models(key):
            raise LookupError(f"the store {self.store.uri} has no model or checkpoint {path!r}: they lie in models/ and runs/")
        return {"file": path, "there": self.store.holds(path), **self.model(key)}

    def model(self, key: str) -> Tree:
        """A pre-training: its run, what it exported and kept, the selection that it learnt from, and what measured it."""
        run = next((one for one in reversed(self.of("pretrain")) if one["tags"].get("key") == key), None)
        tags = run["tags"] if run else {}
        tree = {"model": key, "trained by": said("pretrain", run) if run else NO_RUN, "weights": tags.get("model")}
        tree |= {"exported": tags.get("exported"), "kept after epochs": trainings.epochs(self.store, key)}
        tree |= {"images": tags.get("images"), "table version": tags.get("patches_version")}
        return tree | {"selection": self.chosen(trainings.selection_of(key)), "measured by": self.measurements(run) if run else []}

    def measurements(self, trained: Run) -> list[Tree]:
        """The runs that fine-tuned what a pre-training exported, or with the same recipe kept on the way."""
        weights, selection = (trained["tags"].get(name) for name in ("model", "selection"))
        found = [(job, run) for job in ("evaluate", "cell") for run in self.of(job) if weights and run["tags"].get("weights") == weights]
        found += [
            ("checkpoint", run)
            for run in self.of("checkpoint")
            if run["tags"].get("selection") == selection and recipe(run) == recipe(trained)
        ]
        return [said(job, run) | {"method": run["tags"].get("method"), "seed": run["tags"].get("seed")} for job, run in found]

    def cell(self, fingerprint: str) -> Tree:
        """A cell of a matrix: what it came to, on which data, and by which model and selection."""
        columns = ["pool", "dataset", "selection", "run", "names", *OF_A_CELL]
        [row] = self.rows(f"fingerprint = {quoted([fingerprint])}", columns)
        run = next((one for one in self.of("cell") if one["run"] == row["run"]), None)
        tags, knobs = (run["tags"], run["params"]) if run else ({}, {})
        tree = {"cell": fingerprint, **{name: row[name] for name in OF_A_CELL}, "measured by": said("cell", run) if run else NO_RUN}
        tree |= {"data": {"set": row["dataset"], "fingerprint": tags.get("data"), "images tested": len(row["names"] or ())}}
        if not row["pool"]:
            return tree | {"model": "no pre-training"}
        tree |= {"pool": {"name": row["pool"], "store": knobs.get("store.uri")}}
        if not row["selection"]:
            return tree | {"model": "none: it failed"}
        trained = [one for one in self.of("pretrain") if one["tags"].get("selection") == row["selection"]]
        mine = [one["tags"]["key"] for one in trained if run and one["tags"].get("model") == tags.get("weights")]
        return tree | {"model": self.model(mine[-1]) if mine else NO_RUN, "selection": self.chosen(row["selection"])}

    def cells(self, selection_id: str) -> list[Tree]:
        """The cells of matrices that a selection was measured in."""
        found = self.rows(f"selection = {quoted([selection_id])}", ["fingerprint", "matrix", "dataset", "miou"])
        return [{"cell": row.pop("fingerprint"), **row} for row in found]

    def run(self, run_id: str) -> Tree:
        """A run of MLflow: what it was about, and what it made or measured."""
        job, run = next((job, one) for job in self.runs for one in self.of(job) if one["run"] == run_id)
        tags = run["tags"]
        tree = said(job, run) | {name: tags[name] for name in OF_A_RUN if name in tags}
        if job in ("pretrain", "transfer"):  # the key of a transfer's begins with that of the pre-training
            tree |= {"model": self.model(tags["key"] if job == "pretrain" else tags["key"].rpartition("-")[0])}
        elif tags.get("selection"):
            tree |= {"selection": self.chosen(tags["selection"])}
        if job in ("ingest", "watch"):
            mine = self.store.ledger().select(["video_id", "fingerprint"]).to_pylist()
            tree |= {"videos": sorted(row["video_id"] for row in mine if row["fingerprint"] == tags.get("fingerprint"))}
        if job == "cell":
            tree |= {"cells": [row["fingerprint"] for row in self.rows(f"run = {quoted([run_id])}", ["fingerprint"])]}
        return tree | self.beside(job, run)

    def beside(self, job: str, run: Run) -> Tree:
        """What a run is about that is about no selection: the scorer of a training or a scoring, the days of a look at drift."""
        if job == "probe":
            return scorers.probe(self.store, self.runs, run)
        if job in ("score", "rescore"):
            return {"by": scorers.scorer(self.store, self.runs, run["tags"]["scorer"])}
        if job == "drift":
            return {"days": drift.days(self.store, self.runs, patches_version=int(run["tags"]["patches_version"]))}
        return {}

    def rows(self, where: str, columns: Sequence[str]) -> list[Tree]:
        """Those of the results of matrices; none where no matrix was begun."""
        if not self.store.has("results"):
            return []
        table = self.store.open("results")
        there = [name for name in columns if name in table.schema.names]  # one of an older engine lacks the unit
        return [dict.fromkeys(columns) | row for row in table.to_table(columns=there, filter=where).to_pylist()]


def recipe(run: Run) -> Tree:
    """The knobs of the pre-training on which its model depends."""
    told = {name.removeprefix("pretrain."): value for name, value in run["params"].items() if name.startswith("pretrain.")}
    return {name: value for name, value in told.items() if name not in TrainConfig.FREE}
