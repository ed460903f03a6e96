"""One training run, in this process or on Ray Train, with its curve in MLflow: what probe and pretrain share."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import pyarrow as pa
import torch

from engine import flow, mae, pretrain, tracking
from engine.config import Config, TrainConfig
from engine.store import PatchStore

log = logging.getLogger("jobs.training")


class ArrowReader:
    """JPEG bytes by position from an Arrow file with a column `pixels`; pickles as its address and reads where it is used."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return ArrowReader, (self.uri,)

    @cached_property
    def table(self) -> pa.Table:
        with fsspec.open(self.uri) as file:
            return pa.ipc.open_file(file).read_all()

    def __call__(self, positions: Sequence[int]) -> list[bytes]:
        return [bytes(pixels) for pixels in self.table["pixels"].take(pa.array(positions)).to_pylist()]


def train(config: Config, recipe: TrainConfig, read: pretrain.Read, count: int, name: str, record: tracking.Run) -> mae.MAE:
    """The trained model; the run goes on where an earlier one of this `name` stopped."""
    work = partial(fit, read, count, recipe, record)
    if config.where == "ray":
        storage = PatchStore(config.store.uri).address("runs")
        folder = flow.train_on_ray(work, recipe.workers, absolute(storage), name, gpu=torch.cuda.is_available())
        return mae.load(str(folder / "model.safetensors"), recipe.mae)
    with TemporaryDirectory() as scratch:
        last = LastCheckpoint(Path(scratch))
        work(None, last.take)
        return mae.load(str(last.folder / "model.safetensors"), recipe.mae)


def fit(read: pretrain.Read, count: int, recipe: TrainConfig, record: tracking.Run, resume: Path | None, report: pretrain.Report) -> None:
    """The loop on one worker; the first of them also writes to MLflow and says how far it is."""

    def tell(metrics: dict[str, float], folder: Path | None) -> None:
        if os.environ.get("RANK", "0") == "0":
            record.log({f"train/{key}": value for key, value in metrics.items() if key != "epoch"}, step=int(metrics["epoch"]))
            print(f"epoch {int(metrics['epoch']) + 1} of {recipe.epochs}: loss {metrics['loss']:.4f}", flush=True)
        report(metrics, folder)

    pretrain.fit(read, count, recipe, resume=resume, report=tell)


@dataclass
class LastCheckpoint:
    """Keeps a copy of the newest checkpoint of a loop that runs here."""

    folder: Path

    def take(self, metrics: dict[str, float], made: Path | None) -> None:
        for file in made.iterdir() if made else []:
            (self.folder / file.name).write_bytes(file.read_bytes())


def absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).resolve())


def keep(model: mae.MAE, uri: str) -> None:
    """Write a model to a folder or a bucket, whole or not at all."""
    if "://" not in uri:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
        mae.save(model, uri)
        return
    with TemporaryDirectory() as folder:
        mae.save(model, f"{folder}/model")
        files, place = fsspec.core.url_to_fs(uri)
        files.put_file(f"{folder}/model", place)
