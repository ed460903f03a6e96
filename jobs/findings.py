"""What the report finds in the runs of other jobs: what evaluations came to, who is ahead of whom, and what theory says."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from engine import difficulty, scores, tracking
from engine.charts import amount
from engine.config import Config, DifficultyConfig
from engine.explain import scorers
from engine.outcomes import Advantage, Outcome, Picture
from engine.pruning import Advised, Theory
from engine.scores import Contrast, Marks
from engine.store import PatchStore, quoted
from engine.theory import recommendation
from engine.theory.figures import FIGURES_FILE, Figures
from engine.trails import Trail
from jobs import named, variants
from jobs.choices import below

LEAST = 0.001  # share of a pool: of less the theory says nothing else


def outcomes(config: Config, store: PatchStore) -> list[tuple[Outcome, Marks]]:
    """Every evaluated network, with what it scored on every test image; of one that was made anew the newest."""
    found = []
    for one in variants.newest(config, [with_unit(config, one) for one in tracking.runs(config, "evaluate")]):
        told = json.loads(one["run"].kept("tested.json"))
        marks = Marks(tuple(told["names"]), np.array(told["counts"]))
        found.append((outcome(one, marks, examples(one["run"], told["examples"]), sizes(store, one["tags"]["selection"])), marks))
    return apart(found)


def apart(found: list[tuple[Outcome, Marks]]) -> list[tuple[Outcome, Marks]]:
    """The same, oldest first; what was tested on other images than the newest of its comparison and seed is of a comparison of its own.

    Runs of before the name of a data set told of lists and groups may bear one name, measured before and after these had changed.
    """
    tested = {(one.comparison, one.seed): marks.names for one, marks in found}
    return [
        (one if marks.names == tested[one.comparison, one.seed] else replace(one, comparison=f"{one.comparison}, {older(marks)}"), marks)
        for one, marks in found
    ]


def older(marks: Marks) -> str:
    """Names the test images of a result that is older than those of other images."""
    told = hashlib.sha256("\n".join(marks.names).encode()).hexdigest()[:8]
    return f"tested before on other images ({told})"


def with_unit(config: Config, one: dict[str, Any]) -> dict[str, Any]:
    """A run of evaluate with the unit of its budget among its tags.

    Of one of before that was told it is the unit of its knobs, or of the selection that these name; "" where the rows of that are gone.
    """
    tags, knobs = one["tags"], one["params"]
    unit = tags.get("unit", knobs.get("selection.unit", "bytes"))
    if "unit" not in tags and knobs.get("selection.named"):
        store = PatchStore(config.store.uri)
        unit = named.made(store, tags["selection"])["unit"] if named.is_there(store, tags["selection"]) else ""
    return one | {"tags": tags | {"unit": unit}}


def outcome(one: dict[str, Any], marks: Marks, shown: list[Picture], size: tuple[int, int]) -> Outcome:
    """An evaluation's run as an Outcome; `size` is patches and images of its selection."""
    tags, metrics = one["tags"], {name.removeprefix("evaluate/"): value for name, value in one["metrics"].items()}
    return Outcome(
        comparison=tags["comparison"],
        method=tags["method"],
        budget=float(tags["budget"]),
        unit=tags["unit"],
        retained=float(tags["retained"]),
        **{name: metrics[name] for name in ("miou", "miou_low", "miou_high", "iou", "dice")},
        recall=marks.recall,
        normdel=metrics.get("normdel", float("nan")),
        caution=caution(tags, int(metrics.get("leaked_images", 0))),
        patches=size[0],
        images=size[1],
        seed=int(tags["seed"]),
        run=one["run"].run_id,
        examples=shown,
    )


def caution(tags: dict[str, str], leaked: int) -> str:
    """What may flatter a score, as a sentence; "" where nothing does."""
    if not leaked:
        return ""
    at = f"at a budget of {amount(float(tags['budget']), tags['unit'])}, seed {tags['seed']}"
    return (
        f"{leaked} test images of {tags['method']} {at}, have a near-duplicate among the frames that it was pre-trained on, "
        "so part of its score may be memory; leaks.json of its run names them."
    )


def examples(run: tracking.Run, ious: list[float]) -> list[Picture]:
    """The drawn test images that a run kept, with their IoU."""
    return [Picture(run.kept(f"examples/{number}.jpg"), f"IoU {iou:.2f}") for number, iou in enumerate(ious)]


def advantages(found: list[tuple[Outcome, Marks]]) -> list[Advantage]:
    """Every method over every other at the same budget, on the test images and seeds that both have."""
    return [one for comparison in dict.fromkeys(one.comparison for one, _ in found) for one in compared(comparison, found)]


def compared(comparison: str, found: list[tuple[Outcome, Marks]]) -> list[Advantage]:
    """Those of a comparison, by unit and budget; p-values are corrected for all of them (Holm)."""
    here = [(one, marks) for one, marks in found if one.comparison == comparison]
    places = sorted({(one.unit, one.budget) for one, _ in here if one.retained})
    met = [(place, *pair) for place in places for pair in paired(place, here)]
    sure = scores.holm([scores.certain(contrast) for *_, contrast in met])
    return [
        Advantage(comparison, budget, method, other, told.seeds, told.difference, told.low, told.high, p, unit)
        for ((unit, budget), method, other, told), p in zip(met, sure, strict=True)
    ]


def paired(place: tuple[str, float], here: list[tuple[Outcome, Marks]]) -> Iterator[tuple[str, str, Contrast]]:
    """Every two methods at this unit and budget, the baselines among them, that share seeds."""
    mine = [(one, marks) for one, marks in here if (one.unit, one.budget) == place or not one.retained]
    scored = {(one.method, one.seed): marks for one, marks in mine}
    for method, other in itertools.combinations(sorted({one.method for one, _ in mine}), 2):
        seeds = sorted({seed for name, seed in scored if name == method} & {seed for name, seed in scored if name == other})
        if seeds:
            first, second = ([scored[name, seed] for seed in seeds] for name in (method, other))
            yield method, other, scores.contrast(first, second)


def sizes(store: PatchStore, selection_id: str) -> tuple[int, int]:
    """Patches and training images of a selection; 0 and 0 without one."""
    if not selection_id:
        return 0, 0
    where = f"selection_id = {quoted([selection_id])}"
    return store.open("selections").count_rows(where), store.open("images").count_rows(where)


def trails(config: Config) -> list[Trail]:
    """What the job transfer found, of every pre-training and way to look at it the newest."""
    runs = {one["tags"]["key"]: one["run"] for one in tracking.runs(config, "transfer")}
    return [Trail.from_json(run.kept("trail.json").decode()) for run in runs.values()]


def theory(config: Config) -> Theory:
    """The newest figures of the job theory, and what its equations say of the newest choices by endocurate."""
    drawn = tracking.runs(config, "theory")
    figures = Figures.from_json(drawn[-1]["run"].kept(FIGURES_FILE).decode()) if drawn else None
    choices = {one["tags"]["selection"]: one for one in tracking.runs(config, "choose") if "choose/recommended_start" in one["metrics"]}
    return Theory(figures, [advised(name, one["metrics"]) for name, one in choices.items()])


def advised(selection: str, metrics: dict[str, float]) -> Advised:
    """What the theory of the pruned perceptron said of a choice, with the errors that it foresees."""
    found = below(metrics, "choose/")
    share = min(1.0, found["patches"] / max(found["different"], 1))
    pool = found["alpha_tot"], max(share, LEAST), found["degrees"]
    return Advised(
        selection=selection,
        alpha_tot=found["alpha_tot"],
        degrees=found["degrees"],
        share=share,
        enough=found["recommended_share"],
        start=found["start"],
        recommended=found["recommended_start"],
        error=recommendation.error(*pool, found["start"]),
        best=recommendation.error(*pool, found["recommended_start"]),
        random=recommendation.random_error(*pool[:2]),
        others=recommendation.by_angle(found["alpha_tot"]),
    )


def scale(config: Config, store: PatchStore) -> str:
    """What the difficulties of a store's patches are measured in (difficulty.scale), by the runs of `config` that scored them.

    By difficulty.* of `config` where no run tells of it.
    """
    version, taken = store.complete_version(), set(store.ledger()["fingerprint"].to_pylist())
    marks = set(store.patches(["scorer"], version=version)["scorer"].to_pylist())
    again = [one.scale for one in store.scorers(version) if one.scale and scorers.mark(one.name) in marks]  # by the job rescore
    of_intakes = (one["params"] for job in ("ingest", "watch") for one in tracking.newest(config, job) if one["tags"]["key"] in taken)
    return again[0] if again else difficulty.scale(scored_by(config.difficulty, next(of_intakes, {})))


def scored_by(config: DifficultyConfig, params: Mapping[str, str]) -> DifficultyConfig:
    """`config` with those of a run's knobs that say what a difficulty is measured in; older runs have not both."""
    error = {"norm_pix": params.get("difficulty.mae.norm_pix", config.mae.norm_pix)}
    told = {"scorer": params.get("difficulty.scorer", config.scorer), "mae": config.mae.model_dump() | error}
    return DifficultyConfig.model_validate(config.model_dump() | told)


def worth(config: Config) -> list[str]:
    """The newest estimate of what training again would be worth, in words."""
    found = tracking.runs(config, "worth")[-1:]
    return [f"{one['tags']['selection']}: {one['tags']['worth']}" for one in found]
