"""What a cell of a matrix is made of: a training set is chosen and a model pre-trained on it, then it is measured on a data set.

Each half is done once, whoever asks: a selection, a model and a measurement that are there are not made again. What fails on what it
met is a reason, not the end of the matrix.
"""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc

from engine import datasets, schema, tracking
from engine.charts import is_share
from engine.config import Config
from engine.patches import ProposePatches
from engine.store import PatchStore
from jobs import choose, evaluate, named, pools, pretrain, throughput, twins
from jobs.choices import PREFIX, below
from jobs.evaluate import Contender
from jobs.matrices import PROPOSAL
from jobs.matrix import Cell
from jobs.troubles import BUGS, mendable, said

JOB = "cell"  # of the runs that measure one, which the report does not set beside those of evaluate
Row = dict[str, Any]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Trained:
    """A model of a matrix, as far as it came: `reason` says why there is none."""

    reason: str = ""
    selection: str = ""
    retained: float = 0.0  # of the stored bytes
    images: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    choose_s: float | None = None  # None: it was chosen before
    images_per_s: float | None = None


def train(cell: Cell) -> Trained:
    """Choose and pre-train; nothing of either for no pre-training."""
    found = attempted(lambda: trained(cell.config)) if cell.pool else Trained()
    return Trained(reason=found) if isinstance(found, str) else found


def trained(config: Config) -> Trained:
    """The training set and the model of a cell, made where they are not there yet. RuntimeError where MLflow lost the run of the choice."""
    began, one = perf_counter(), current(config)
    before = one is not None
    if one is None:
        choose.run(config)
        one = named.newest(config)
    if one is None:
        raise RuntimeError(
            f"tracking.uri={tracking.address(config)!r} does not have the run of the choice that was just made: see that it is there"
        )
    chose_s = perf_counter() - began
    with redirect_stdout(io.StringIO()):  # a line an epoch, of every model
        pretrain.run(config)
    selection = one["tags"]["selection"]
    return Trained(
        selection=selection,
        retained=one["metrics"]["choose/retained"],
        images=int(one["metrics"]["choose/images"]),
        measures=measures(config, selection, one["metrics"]),
        choose_s=None if before else chose_s,
        images_per_s=speed(config, selection),
    )


def current(config: Config) -> dict[str, Any] | None:
    """The choice that these settings made of what the pool holds now; None where it was not made, or before the last intake or by other
    scores than those of now."""
    store = PatchStore(config.store.uri)
    taken_in = max(store.ledger()["patches_version"].to_pylist(), default=0)
    tags = one["tags"] if (one := named.newest(config)) else {}
    return one if tags and int(tags["patches_version"]) >= taken_in and tags.get("raters") == choose.raters(store) else None


def measures(config: Config, selection: str, metrics: dict[str, float]) -> dict[str, float]:
    """What a selection was judged by without training, and the mean difficulty of its patches."""
    store = PatchStore(config.store.uri)
    chosen = store.ranked(selection, ["patch_id"])["patch_id"]
    patches = store.patches(["patch_id", "difficulty"])
    mine = patches["difficulty"].filter(pc.is_in(patches["patch_id"], chosen.combine_chunks()))
    return below(metrics, PREFIX) | {"difficulty": float(np.mean(mine.to_numpy()))} | proposal(store)


def proposal(store: PatchStore) -> dict[str, float]:
    """What proposing the patches of a pool takes, where the job plan measured it."""
    services = pools.kept(store)
    return {PROPOSAL: sum(one.seconds_per_frame for one in services if one.stage == ProposePatches.__name__)} if services else {}


def speed(config: Config, selection: str) -> float | None:
    """Images a second in the pre-training of this model, by its own record; None where that is gone."""
    made = tracking.finished(config, "pretrain", pretrain.key(config, selection))
    return throughput.of_one_device(made["run"]) if made and throughput.METRICS["pretrain"] in made["metrics"] else None


def measure(found: Trained | RuntimeError, cell: Cell, fingerprint: str) -> Row:
    """The result of a cell (schema.RESULT), measured on its data set; the reason where there is none."""
    result: Row | str = str(found) if isinstance(found, RuntimeError) else found.reason
    if isinstance(found, Trained) and not found.reason:
        result = attempted(lambda: measured(cell, found))
    return row(cell, fingerprint) | ({"reason": result} if isinstance(result, str) else result)


def row(cell: Cell, fingerprint: str) -> Row:
    """A row of schema.RESULT for a cell: what it is, nothing measured yet."""
    names = ("matrix", "protocol", "architecture", "method", "pool", "budget", "unit", "seed", "dataset", "model")
    stamp = {"at": datetime.now(UTC).isoformat(timespec="microseconds"), "commit": tracking.code_commit()}
    told = dict.fromkeys(schema.RESULT.names) | {name: getattr(cell, name) for name in names}
    return told | {"fingerprint": fingerprint} | stamp


def measured(cell: Cell, found: Trained) -> Row:
    """The measured columns of a cell's row: the fine-tuned network on the test images, with leaks and twins counted.

    RuntimeError where MLflow lost the run meanwhile.
    """
    config, seed = cell.config, cell.seed
    images = cell.data, datasets.chosen(config.evaluate, seed)
    contender = contender_of(cell, found)._replace(twins=twins.within({seed: images[1]}).get(seed))
    if found.selection:
        contender = contender._replace(leaks=twins.between(PatchStore(config.store.uri), found.selection, images[1].test))
    with redirect_stdout(io.StringIO()):
        metrics = evaluate.measure(config, seed, images, contender, JOB)
    made = tracking.finished(config, JOB, evaluate.key_of(config, seed, images, contender))
    if made is None:
        raise RuntimeError(f"tracking.uri={tracking.address(config)!r} does not have the run that was just measured: see that it is there")
    tested = json.loads(made["run"].kept("tested.json"))
    return {
        "setting": evaluate.comparison(config, *images).partition(" · data ")[0],
        "selection": found.selection or None,
        "run": made["run"].run_id,
        "retained": share_of(cell, found),
        "images": found.images,
        "miou": metrics["evaluate/miou"],
        "metrics": json.dumps(below(metrics, "evaluate/")),
        "measures": json.dumps(found.measures),
        "names": tested["names"],
        "counts": np.ravel(tested["counts"]).tolist(),
        "choose_s": found.choose_s,
        "images_per_s": found.images_per_s,
    }


def contender_of(cell: Cell, found: Trained) -> Contender:
    """What is held against others: the encoder with its method and the share of the pool that it saw."""
    one = evaluate.pretrained(cell.config) if cell.pool else evaluate.untrained(cell.config)
    return one._replace(method=cell.method, retained=share_of(cell, found))


def share_of(cell: Cell, found: Trained) -> float:
    """R of NormDEL: the share that was asked for, as in the papers, where it was one; else that of the stored bytes; 0: no pre-training."""
    return cell.budget if is_share(cell.budget, cell.unit) else found.retained


def attempted(work: Callable[[], Made]) -> Made | str:
    """What work comes to, or in one sentence what it failed on, if a person can mend that: input, budget, disk, network."""
    try:
        return work()
    except BUGS:
        raise
    except mendable(ArithmeticError) as error:
        return said(error)
