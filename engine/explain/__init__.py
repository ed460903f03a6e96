"""Why something is in the store, or is not: from whatever has an id back to the files it came from and every decision on the way, with its
number and its threshold, and forward to what used it.

Ids are those of a patch, a frame, a training image, a selection, a video; of a cell of a matrix, a model or a checkpoint, a scorer, a
source in the table drift, a run of MLflow.

Thresholds are those of the configuration that took the video in. The ledger has its fingerprint, the MLflow run of that ingest the knobs;
where the run is gone, the tree says so, and only what stands in the tables is told.

    decisions  what a frame and a region were asked
    runs       runs of MLflow, in short
    scorers    by what difficulty is
    drift      what was found of a source and day
    results    models, cells, and what a run was about
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from engine.explain import drift, scorers
from engine.explain.decisions import Tree, gated, regional
from engine.explain.results import Results
from engine.explain.runs import ABOUT_A_SELECTION, Runs, said
from engine.gate import NO_REGION
from engine.schema import video_of
from engine.store import PatchStore, alike, quoted, trainings

__all__ = ["Explainer", "Runs", "Tree", "explain"]

SHOWN = 8  # ids in a sentence about several
MOMENT = re.compile(r"(0|[1-9][0-9]{0,14})(#-?[0-9]{1,18})?")  # of a day's length and far beyond
SECONDS = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")


def explain(store: PatchStore, asked: str, runs: Runs) -> Tree:
    """What is known of an id, as plain nested data.

    It is a patch's, frame's (video@milliseconds), image's, selection's or video's, the fingerprint of a cell, the name of a model or a
    scorer, where a file of these or a checkpoint lies in the store (models/..., scorers/..., runs/...), a source in the table drift, or a
    run of MLflow. The unique beginning of an id will do; a time at which nothing was sampled gets the sampled moments around it.
    LookupError, in one sentence, for what is unknown or ambiguous.
    """
    return Explainer(store, runs).tree(asked)


class Explainer:
    """Follows ids through the tables of one store."""

    def __init__(self, store: PatchStore, runs: Runs) -> None:
        self.store, self.runs, self.results = store, runs, Results(store, runs, self.chosen)

    def tree(self, asked: str) -> Tree:
        """The tree of whatever `asked` names. LookupError where nothing, or more than one thing, has that id."""
        if "@" in asked:
            begin, _, rest = asked.partition("@")
            moment, region, box = rest.partition(":")
            if not MOMENT.fullmatch(moment):
                hint = f"; {float(moment):g} seconds are {1000 * float(moment):.0f} milliseconds" if SECONDS.fullmatch(moment) else ""
                raise LookupError(f"{asked!r} is no id: a frame's is video@milliseconds, a patch's video@milliseconds:box:proposer{hint}")
            video = self.one_of(begin, {"video": self.videos(begin)})[1]
            if self.ledger(video)["reason"] == "forgotten":
                return {"asked": asked, "answer": "its video was forgotten: frames and patches are erased", **self.video(video)}
            return self.patch(self.whole(f"{video}@{moment}:{box}")) if region else self.moment(video, moment)
        if "/" in asked:
            return self.results.file(asked)
        known = {"video": self.videos(asked), "selection": self.selections(asked), "image": self.images(asked), "cell": self.cells(asked)}
        if not any(known.values()):  # the names of models begin with those of their selections, and to ask for runs takes longest
            known |= {"model": self.results.models(asked), "scorer": scorers.named(self.store, self.runs, asked)}
            known |= {"source": drift.sources(self.store, asked), "run": self.results.runs_by(asked)}
        kind, name = self.one_of(asked, known)
        kinds = {"video": self.video, "selection": self.selection, "image": self.image}
        kinds |= {"cell": self.results.cell, "model": self.results.model, "run": self.results.run}
        kinds |= {"scorer": partial(scorers.scorer, self.store, self.runs), "source": partial(drift.source, self.store, self.runs)}
        return kinds[kind](name)

    # -- names --------------------------------------------------------------------------------------------------------------

    def one_of(self, asked: str, known: Mapping[str, Sequence[str]]) -> tuple[str, str]:
        """The kind and the whole of the one id that begins so, or is it. LookupError for none or several."""
        found = [(kind, name) for kind, names in known.items() for name in names]
        exact = [one for one in found if one[1] == asked]
        if len(found) == 1 or len(exact) == 1:
            return (exact or found)[0]
        if found:
            told = ", ".join(f"{kind} {name}" for kind, name in sorted(found)[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
            raise LookupError(f"{asked!r} begins {len(found)} ids, write more of it: {told}")
        raise LookupError(f"the store {self.store.uri} has no {' or '.join(known)} {asked!r}")

    def videos(self, begin: str) -> list[str]:
        """The videos whose ids begin like this, as `begun` finds them."""
        return self.begun("videos", "video_id", begin)

    def selections(self, begin: str) -> list[str]:
        """The selections whose ids begin like this, as `begun` finds them."""
        return self.begun("selections", "selection_id", begin)

    def images(self, begin: str) -> list[str]:
        """The training images whose ids begin like this, as `begun` finds them."""
        return self.begun("images", "image_id", begin)

    def cells(self, begin: str) -> list[str]:
        """The fingerprints of cells of a matrix that begin so."""
        return self.begun("results", "fingerprint", begin)

    def begun(self, table: str, column: str, begin: str) -> list[str]:
        """The different values of a column that begin so."""
        if not self.store.has(table):
            return []
        where = f"starts_with({column}, {quoted([begin])})"
        return sorted(set(self.store.open(table).to_table(columns=[column], filter=where)[column].to_pylist()))

    def whole(self, begin: str) -> str:
        """The one patch id that begins so."""
        video, _, rest = begin.partition("@")
        time_ms = int(rest.partition(":")[0].partition("#")[0])
        ids = self.store.patches(["patch_id"], where=f"video_id = {quoted([video])} AND time_ms = {time_ms}")["patch_id"].to_pylist()
        return self.one_of(begin, {"patch": [patch_id for patch_id in ids if patch_id.startswith(begin)]})[1]

    # -- back ---------------------------------------------------------------------------------------------------------------

    def patch(self, patch_id: str, used: bool = True) -> Tree:
        """A patch: what it is, who proposed and scored it, the frame and the video it is from, and what used it."""
        columns = ["box", "area", "predicted_iou", "stability", "proposer", "settings", "height", "width", "bytes", "difficulty", "scorer"]
        row = self.store.named([patch_id], ["video_id", "frame_id", *columns])[patch_id]
        frame = self.frames(row["video_id"], f"frame_id = {quoted([row['frame_id']])}")[0]
        knobs = self.knobs(row["video_id"])
        tree = {"patch": patch_id, **{name: row[name] for name in columns}, "decisions": regional(row, frame, knobs)}
        tree |= {"its scorer": scorers.trained(self.runs, row["scorer"]), "scores by others": scorers.scores(self.store, patch_id)}
        tree |= {"looks like": alike.of(self.store, patch_id), "frame": self.frame(frame, knobs), "video": self.taken_in(row["video_id"])}
        return tree | ({"used by": self.users(f"patch_id = {quoted([patch_id])}")} if used else {})

    def moment(self, video: str, moment: str) -> Tree:
        """A sampled frame, or the sampled moments around a time at which nothing was."""
        knobs, frame_id = self.knobs(video), f"{video}@{moment}"
        found = self.frames(video, f"frame_id = {quoted([frame_id])}")
        if found:
            where = f"video_id = {quoted([video])} AND time_ms = {found[0]['time_ms']} AND frame_id = {quoted([frame_id])}"
            patches = self.store.patches(["patch_id", "difficulty", "box"], where=where).sort_by("patch_id").to_pylist()
            return {**self.frame(found[0], knobs), "patches": patches, "video": self.taken_in(video)}
        time_ms = int(moment.partition("#")[0])
        around = [side for side in (self.nearest(video, f"<= {time_ms}", max), self.nearest(video, f"> {time_ms}", min)) if side]
        said = f"nothing was sampled at {time_ms} ms; the sampled moments around it are told" if around else "no moment was sampled"
        return {"asked": frame_id, "answer": said, "nearest": [self.frame(frame, knobs) for frame in around], "video": self.taken_in(video)}

    def nearest(self, video: str, side: str, choose: Callable[[list[int]], int]) -> Tree | None:
        """The sampled frame of a video that is nearest on one side of a time: `side` is a comparison of SQL, `choose` min or max."""
        times = (
            self.store.open("frames")
            .to_table(columns=["time_ms"], filter=f"video_id = {quoted([video])} AND time_ms {side}")["time_ms"]
            .to_pylist()
        )
        return self.frames(video, f"time_ms = {choose(times)}")[0] if times else None

    def frames(self, video: str, where: str) -> list[Tree]:
        """The rows of a video's frames for which `where` holds."""
        found: list[Tree] = self.store.open("frames").to_table(filter=f"video_id = {quoted([video])} AND {where}").to_pylist()
        return found

    def frame(self, row: Tree, knobs: Mapping[str, str]) -> Tree:
        """A sampled frame and every question the gate asked about it."""
        verdict = "kept" if row["reason"] is None else "kept, without a region" if row["reason"] == NO_REGION else "rejected"
        told = {name: row[name] for name in ("time_ms", "pts", "time_base", "content")}
        tree = {"frame": row["frame_id"], "verdict": verdict, "reason": row["reason"], "detail": row["detail"], **told}
        return tree | {"decisions": gated(row, knobs)}

    def video(self, video: str) -> Tree:
        """A video: how it was taken in, what became of its frames, and what used its patches."""
        reasons = self.store.open("frames").to_table(columns=["reason"], filter=f"video_id = {quoted([video])}")["reason"].to_pylist()
        lost = Counter(reason for reason in reasons if reason is not None)
        tree = {**self.taken_in(video), "frames without patches": dict(sorted(lost.items())), "journal": self.deeds(video)}
        tree |= {"drift": drift.days(self.store, self.runs, video_ids=video)}
        return tree | {"used by": self.users(f"starts_with(patch_id, {quoted([video + '@'])})", whole=False)}

    def deeds(self, video: str) -> list[Tree]:
        """What the journal says of a video."""
        if not self.store.has("journal"):
            return []
        found = self.store.open("journal").to_table(columns=["at", "job", "commit"], filter=f"subject = {quoted([video])}")
        rows: list[Tree] = found.to_pylist()
        return rows

    def taken_in(self, video: str) -> Tree:
        """The ledger's row, without the address, and where the thresholds are from."""
        row = self.ledger(video)
        told = {name: row[name] for name in ("reason", "detail", "frames", "kept", "patches", "ingested_at", "fingerprint", "commit")}
        run = self.ingest(video)
        known = f"MLflow run {run['run']}" if run else f"gone: there is no MLflow run of the configuration {row['fingerprint']}"
        return {"video": video, **told, "table version": row["patches_version"], "thresholds": known}

    def ledger(self, video: str) -> Tree:
        """A video's row of the ledger."""
        row: Tree = self.store.open("videos").to_table(filter=f"video_id = {quoted([video])}").to_pylist()[0]
        return row

    def ingest(self, video: str) -> Mapping[str, Any] | None:
        """The run that took the video in: one of its configuration."""
        fingerprint = self.ledger(video)["fingerprint"]
        runs = [*self.runs.get("ingest", ()), *self.runs.get("watch", ())]
        return next((run for run in runs if run["tags"].get("fingerprint") == fingerprint), None)

    def knobs(self, video: str) -> Mapping[str, str]:
        """The knobs by which a video was taken in; none where MLflow does not know of its run."""
        run = self.ingest(video)
        return run["params"] if run else {}

    def image(self, image_id: str) -> Tree:
        """A training image: its patches in reading order, and the selections it is of."""
        columns = ["selection_id", "position", "patch_ids", "height", "width", "bytes"]
        rows = self.store.open("images").to_table(columns=columns, filter=f"image_id = {quoted([image_id])}").to_pylist()
        there = self.store.named(rows[0]["patch_ids"], [])
        patches = [self.patch(name, used=False) if name in there else {"patch": name, "answer": "gone"} for name in rows[0]["patch_ids"]]
        used = [{**self.chosen(row["selection_id"]), "position": row["position"]} for row in rows]
        return {"image": image_id, **{name: rows[0][name] for name in columns[3:]}, "patches": patches, "used by": used}

    # -- forward ------------------------------------------------------------------------------------------------------------

    def selection(self, selection_id: str) -> Tree:
        """A selection: how it was made, from which videos, its images, and the runs that used it."""
        ids = self.store.ranked(selection_id, ["patch_id"])["patch_id"].to_pylist()
        videos = Counter(map(video_of, ids))
        images = self.store.open("images").count_rows(f"selection_id = {quoted([selection_id])}")
        tree = {**self.chosen(selection_id), "patches": len(ids), "images": images, "videos": dict(videos.most_common())}
        models = sorted({key for path in trainings.trained_on(self.store, [selection_id]) if (key := trainings.key_of(path))})
        return tree | {"models": models, "cells": self.results.cells(selection_id)}

    def chosen(self, selection_id: str) -> Tree:
        """What all rows of a selection have in common, and the runs about it."""
        columns = ["method", "budget", "unit", "retained", "seed", "patches_version"]
        where, there = f"selection_id = {quoted([selection_id])}", self.store.has("selections")  # a matrix may be in a store without
        row = self.store.open("selections").to_table(columns=columns, filter=where, limit=1).to_pylist() if there else []
        told = {name: row[0][name] for name in columns[:-1]} | {"table version": row[0]["patches_version"]} if row else {}
        runs = [
            said(job, run) for job in ABOUT_A_SELECTION for run in self.runs.get(job, ()) if run["tags"].get("selection") == selection_id
        ]
        return {"selection": selection_id, **told, "runs": runs}

    def users(self, where: str, whole: bool = True) -> list[Tree]:
        """The selections that hold such patches: of one patch its rank and image, of a video how many."""
        if not self.store.has("selections"):
            return []
        columns = ["selection_id", "rank", "weight", "patch_id"]
        rows = self.store.open("selections").to_table(columns=columns, filter=where).to_pylist()
        if whole:
            return [{**self.chosen(row["selection_id"]), **self.placed(row)} for row in rows]
        ids: dict[str, set[str]] = {}
        for row in rows:
            ids.setdefault(row["selection_id"], set()).add(row["patch_id"])
        return [{**self.chosen(name), "patches": len(ids[name]), "images": len(self.holding(name, ids[name]))} for name in sorted(ids)]

    def placed(self, row: Tree) -> Tree:
        """Where a patch stands in a selection: its rank, and the image that holds it."""
        found = self.holding(row["selection_id"], {row["patch_id"]})
        image, position = (found[0]["image_id"], found[0]["position"]) if found else ("gone", None)
        return {"rank": row["rank"], "weight": row["weight"], "image": image, "position": position}

    def holding(self, selection_id: str, patch_ids: set[str]) -> list[Tree]:
        """The images of a selection that hold any of these patches; by their rows, since the order of choice is not always theirs."""
        columns, mine = ["image_id", "position", "patch_ids"], f"selection_id = {quoted([selection_id])}"
        rows = self.store.open("images").to_table(columns=columns, filter=mine).to_pylist()
        return [row for row in rows if not patch_ids.isdisjoint(row["patch_ids"])]
