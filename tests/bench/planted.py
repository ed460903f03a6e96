"""python -m tests.bench.planted [FOLDER]: how many planted rare polyps and planted artefacts every method of selection keeps.

Simulated clips, in which one polyp of seven is left and instruments, insets, glints and smoke come by, go through the jobs as a user's
video does: ingest with random crops, a tiny scorer that is trained on them, and its early self. What a patch shows is then read off the
simulator's own masks: a polyp or an artefact if SHARE of its pixels are one polyp, or one kind of artefact. The guard of endocurate never
sees these masks, so what it lets through is measured by something else than its own limits. A polyp that many patches show counts once.

Prints one table of means over the simulations, the range in brackets; all figures go to FOLDER/planted.json, the stores beside it.
"""

import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np

from engine import selection, tracking
from engine.appearance import LIMITS
from engine.config import SelectionConfig
from engine.encode import encode
from engine.knobs import amend
from engine.pool import Pool
from engine.selection import endocurate
from engine.simulate import Recording, milliseconds
from engine.store import PatchStore
from jobs import ingest, score
from jobs.recipes import tiny

SIMULATIONS, CLIPS, SECONDS = 3, 14, 16.0  # each simulation has its own clips and its own scorer
FPS = 2  # every frame is looked at, so none is drawn for nothing
THERE = 0.15  # share of the polyps
SHARE = 0.05  # of a patch's pixels, our choice: 40 x 40 of the usual ones, which a person sees at once
BUDGETS = (0.05, 0.1, 0.25)
MEASURES = ("polyp patches", "polyps", "artefacts", "artefacts found")
COLUMNS = sorted({"patch_id", "bytes", "proposer", "frame_id", "video_id", "time_ms", "box", *endocurate.COLUMNS})


@dataclass(frozen=True)
class Truth:
    """What every patch of a pool shows: the names of its polyps, and its kinds of artefacts."""

    polyps: list[frozenset[str]]
    kinds: list[frozenset[str]]

    def kept(self, rows):
        """MEASURES of some rows, and the recall of each kind of artefact."""
        polyps, artefacts = (np.array([bool(names) for names in column]) for column in (self.polyps, self.kinds))
        found = [frozenset().union(*(column[row] for row in rows)) for column in (self.polyps, self.kinds)]
        there = [frozenset().union(*column) for column in (self.polyps, self.kinds)]
        values = (
            polyps[rows].sum() / polyps.sum(),
            len(found[0]) / len(there[0]),
            artefacts[rows].mean(),
            artefacts[rows].sum() / artefacts.sum(),
        )
        held, total = (Counter(kind for row in some for kind in self.kinds[row]) for some in (rows, range(len(self.kinds))))
        return dict(zip(MEASURES, map(float, values), strict=True)) | {kind: held[kind] / total[kind] for kind in sorted(there[1])}

    def by_chance(self, count):
        """What `kept` is on average of all sets of `count` rows."""
        every, share = len(self.polyps), count / len(self.polyps)
        shown = Counter(name for names in self.polyps for name in names)
        found = [1 - comb(every - patches, count) / comb(every, count) for patches in shown.values()]
        artefacts = float(np.mean([bool(kinds) for kinds in self.kinds]))
        return dict(zip(MEASURES, (share, float(np.mean(found)), artefacts, share), strict=True))


def shown(moment, box):
    """The numbers of the polyps and the kinds of artefacts that each take SHARE of a box (y0, x0, y1, x1) of a frame."""
    y0, x0, y1, x1 = box
    room = SHARE * (y1 - y0) * (x1 - x0)
    polyps = set()
    for number, (top, left, bottom, right) in zip(moment.polyps, moment.boxes, strict=True):
        part = moment.mask[max(y0, top) : max(min(y1, bottom), 0), max(x0, left) : max(min(x1, right), 0)]
        polyps |= {number} if part.sum() >= room else set()
    return polyps, {kind for kind, mask in moment.artefacts.items() if mask[y0:y1, x0:x1].sum() >= room}


def recordings(simulation, clips):
    return {f"clip-{n:02}": Recording(1000 * simulation + n, SECONDS, FPS, polyps=THERE, clutter=True) for n in range(clips)}


def ingested(folder, made):
    """The store that the jobs make of the clips, with the scores of an early scorer; what is there is not made again."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for name, recording in made.items():
        if not (path := folder / "videos" / f"{name}.mp4").exists():
            encode(path, (moment.image for moment in recording.moments()), FPS)
    words = ["where=here", f"videos.uri={folder}/videos", f"store.uri={folder}/store", "patches.proposer=crops", "frames.sampling=all"]
    config = amend(tiny(), words)
    ingest.run(config)
    score.run(config)
    return PatchStore(config.store.uri)


def pool_of(store):
    version = store.complete_version()
    vectors = store.vectors(version)
    names = [scorer.name for scorer in store.scorers(version) if scorer.rated == len(vectors)]
    return Pool(store.patches(COLUMNS, version=version), vectors, store.earlier(version, names))


def truth_of(store, pool, made):
    """The truth about every patch, and how many polyps any frame shows at all: the clips are drawn once more, a function of their seed."""
    names = {row["video_id"]: Path(row["uri"]).stem for row in store.open("videos").to_table(["video_id", "uri"]).to_pylist()}
    rows = pool.columns.select(["video_id", "time_ms", "box"]).to_pylist()
    boxes = {}
    for place, row in enumerate(rows):
        boxes.setdefault((names[row["video_id"]], row["time_ms"]), []).append((place, row["box"]))
    polyps, kinds, planted = [frozenset()] * len(rows), [frozenset()] * len(rows), set()
    for name, recording in made.items():
        for number, moment in enumerate(recording.moments()):
            planted |= {f"{name}/{polyp}" for polyp in moment.polyps}
            for place, box in boxes.get((name, milliseconds(number, FPS)), []):
                found, kinds[place] = map(frozenset, shown(moment, box))
                polyps[place] = frozenset(f"{name}/{polyp}" for polyp in found)
    return Truth(polyps, kinds), len(planted)


def choices(pool, budget):
    """(method, rows) of every method that the scorers of the pool allow, random first."""
    places = {patch_id: row for row, patch_id in enumerate(pool.columns["patch_id"].to_pylist())}
    for method, one in selection.METHODS.items():
        if not one.earlier or pool.earlier:
            config = SelectionConfig(method=method, budget=budget, unit="patches")
            yield method, np.array([places[patch_id] for patch_id in selection.choose(pool, config).patch_ids])


def guard(pool, truth):
    """Of which share of the patches, of all and of some, the guard of endocurate says that it is an artefact, and by which limit."""
    polyps, artefacts = (np.array([bool(names) for names in column]) for column in (truth.polyps, truth.kinds))
    called = {"any limit": endocurate.artefact_of(pool) > 1} | {name: pool.numbers(name) > limit for name, limit in LIMITS.items()}
    parts = {"all": artefacts | True, "artefacts": artefacts, "clean": ~artefacts, "clean polyps": polyps & ~artefacts}
    return {part: {name: float(over[rows].mean()) for name, over in called.items()} for part, rows in parts.items()}


def simulation(folder, number, clips):
    """All figures of one simulation."""
    made = recordings(number, clips)
    store = ingested(folder, made)
    pool = pool_of(store)
    truth, planted = truth_of(store, pool, made)
    if not (any(truth.polyps) and any(truth.kinds)):
        raise ValueError(f"none of {len(pool)} patches shows a polyp, or none an artefact: simulate more clips than {clips}")
    told = {"patches": len(pool), "polyp patches": sum(map(bool, truth.polyps)), "polyps in frames": planted}
    told |= {"polyps in patches": len(frozenset().union(*truth.polyps)), "artefact patches": sum(map(bool, truth.kinds))}
    told["kinds"] = dict(sorted(Counter(kind for kinds in truth.kinds for kind in kinds).items()))
    budgets = {}
    for budget in BUDGETS:
        rows = dict(choices(pool, budget))
        budgets[budget] = {"by chance": truth.by_chance(len(rows["random"]))} | {name: truth.kept(some) for name, some in rows.items()}
    return {"pool": told, "guard": guard(pool, truth), "budgets": budgets}


def table(found):
    """The means over simulations as lines, the range in brackets."""
    yield f"| budget | method | {' | '.join(MEASURES)} |"
    yield "|---" * (len(MEASURES) + 2) + "|"
    for budget in found[0]["budgets"]:
        for method in found[0]["budgets"][budget]:
            values = [[one["budgets"][budget][method][name] for one in found] for name in MEASURES]
            cells = [f"{np.mean(some):.3f} ({min(some):.3f} to {max(some):.3f})" for some in values]
            yield f"| {budget:.0%} | {method} | {' | '.join(cells)} |"


def main(folder="", simulations=SIMULATIONS, clips=CLIPS):
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(folder or scratch)
        found = [simulation(place / f"simulation-{number}", number, int(clips)) for number in range(int(simulations))]
        if folder:
            (place / "planted.json").write_text(json.dumps({"commit": tracking.code_commit(), "simulations": found}, indent=1) + "\n")
    for number, one in enumerate(found):
        print(f"simulation {number}: {one['pool']}\n  shares that the guard calls artefacts: {one['guard']}")
    print("\n".join(["", *table(found)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
