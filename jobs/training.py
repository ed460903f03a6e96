"""One training run, in this process or on Ray Train, with its curve in MLflow: what probe and pretrain share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import pyarrow as pa
import torch

from engine import files, flow, loader, mae, pretrain, tracking
from engine.config import Config, TrainConfig
from engine.store import PatchStore

CHECKPOINT = ("model.safetensors", "state.pt")  # in the order in which they are written


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


def train(config: Config, recipe: TrainConfig, read: loader.Read, count: int, name: str, record: tracking.Run) -> mae.MAE:
    """The trained model; the run goes on where an earlier one of this `name` stopped."""
    return carry_out(config, recipe, partial(fit, read, count, recipe, record), name)


def carry_out(config: Config, recipe: TrainConfig, work: flow.Work, name: str) -> mae.MAE:
    """What a loop comes to, on Ray Train or in this process."""
    runs = absolute(PatchStore(config.store.uri).address("runs"))
    if config.where == "ray":
        folder = str(flow.train_on_ray(work, recipe.workers, runs, name, gpu=torch.cuda.is_available()))
    else:
        folder = train_here(work, f"{runs}/{name}-here")
    return mae.load(f"{folder}/model.safetensors", recipe.mae)


def train_here(work: flow.Work, runs: str) -> str:
    """The same in this process; the address of the last checkpoint."""
    checkpoints = Checkpoints(runs)
    with TemporaryDirectory() as folder:
        work(checkpoints.newest(Path(folder)), checkpoints.take)
    return f"{runs}/{checkpoints.epochs()[-1]}"


def fit(read: loader.Read, count: int, recipe: TrainConfig, record: tracking.Run, resume: Path | None, report: pretrain.Report) -> None:
    """The loop on one worker; the first of them also writes to MLflow what it runs on, and says how far it is."""
    first = os.environ.get("RANK", "0") == "0"

    def both(metrics: dict[str, float], folder: Path | None) -> None:
        if first:
            tell(record, recipe.epochs, metrics)
        report(metrics, folder)

    if first:
        record.note({"device": pretrain.device()})
    pretrain.fit(read, count, recipe, resume=resume, report=both)


def kept(work: flow.Work, epochs: int, uri: str, resume: Path | None, report: pretrain.Report) -> None:
    """The loop, whose model after so many epochs is kept at an address."""
    work(resume, keeping(report, epochs, uri))


def keeping(report: pretrain.Report, epochs: int, uri: str) -> pretrain.Report:
    """The same report; the model that comes with it after so many epochs is put at an address first, so that no crash leaves it out."""

    def both(metrics: dict[str, float], folder: Path | None) -> None:
        if folder and metrics["epoch"] + 1 == epochs:
            files.put((folder / CHECKPOINT[0]).read_bytes(), uri)
        report(metrics, folder)

    return both


def tell(record: tracking.Run, epochs: int, metrics: dict[str, float], _: Path | None = None) -> None:
    """Write the numbers of an epoch to MLflow and say how far the training is."""
    record.log({f"train/{key}": value for key, value in metrics.items() if key != "epoch"}, step=int(metrics["epoch"]))
    print(f"epoch {int(metrics['epoch']) + 1} of {epochs}: loss {metrics['loss']:.4f}", flush=True)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a loop that runs here, a folder for each epoch at `uri`; only the newest stays."""

    uri: str

    def epochs(self) -> list[str]:
        """The complete ones, oldest first: `state.pt` is written last."""
        fs, root = files.locate(self.uri)
        fs.invalidate_cache()
        return sorted(found.split("/")[-2] for found in fs.glob(f"{root}/epoch-*/state.pt"))

    def newest(self, folder: Path) -> Path | None:
        """A copy of the newest in `folder`; None before the first."""
        if not (epochs := self.epochs()):
            return None
        fs, root = files.locate(self.uri)
        for name in CHECKPOINT:
            fs.get_file(f"{root}/{epochs[-1]}/{name}", str(folder / name))
        return folder

    def take(self, metrics: dict[str, float], made: Path | None) -> None:
        if made is None:
            return
        outdated, epoch = self.epochs(), f"epoch-{int(metrics['epoch']):05}"
        for name in CHECKPOINT:
            files.put((made / name).read_bytes(), f"{self.uri}/{epoch}/{name}")
        fs, root = files.locate(self.uri)
        for earlier in outdated:
            if earlier != epoch:
                fs.rm(f"{root}/{earlier}", recursive=True)


def absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).resolve())
