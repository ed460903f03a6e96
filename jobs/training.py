"""One training run, in this process or on Ray Train, with its curve in MLflow: what probe and pretrain share."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
import pyarrow as pa
import torch
from torch import nn

from engine import devices, files, flow, objectives, pretrain, tracking
from engine.checkpoints import FILES, STATE, WEIGHTS
from engine.config import Config
from engine.loader import UnseenError
from engine.models import TrainConfig
from engine.objectives import Trained
from engine.store import PatchStore
from engine.weights import DamagedError
from jobs import needs
from jobs.looks import Watched

log = logging.getLogger("jobs.training")
STEP_LOSS = "train/step_loss"  # of each step of the optimiser, by how many are then done; all else under train/ is by epochs
HELD = 2  # checkpoints of a training in this process, as on Ray: the last one may be damaged
HERE = "-here"  # ends the name of the folder of a training in this process
PICTURES = "pictures"  # the folder of a run's artifacts that shows training images


class ArrowReader:
    """JPEG bytes by position from an Arrow file with a column `pixels`; pickles as its address and reads where it is used."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return ArrowReader, (self.uri,)

    @cached_property
    def table(self) -> pa.Table:
        """All rows, mapped or read once a process."""
        with fsspec.open(self.uri) as file:
            return pa.ipc.open_file(file).read_all()

    def __call__(self, positions: Sequence[int]) -> list[bytes]:
        return [bytes(pixels) for pixels in self.table["pixels"].take(pa.array(positions)).to_pylist()]


Loop = Callable[..., nn.Module]  # pretrain.fit of what there is to learn from; it lacks resume, report and look


def carry_out(config: Config, recipe: TrainConfig, work: flow.Work, name: str, validate: flow.Validate | None = None) -> Trained:
    """What a loop comes to, on Ray Train or in this process; it goes on where an earlier run of this `name` stopped."""
    if config.where == "ray":
        needs.await_workers(recipe)
        workers = flow.Workers(recipe.workers, recipe.least_workers, on_gpus(config), recipe.max_failures)
        folder = str(flow.train_on_ray(work, workers, runs(config), name, validate))
    else:
        folder = train_here(work, f"{runs(config)}/{name}{HERE}")
    return objectives.load(f"{folder}/{WEIGHTS}", recipe)


def check(config: Config, recipe: TrainConfig, count: int) -> None:
    """ValueError for a recipe that cannot be trained on so many images by its workers, with the devices that there are."""
    gpus = on_gpus(config)
    objectives.check_fed(recipe, count, gpus)
    if config.where == "ray" and recipe.workers > 1:
        objectives.norms_apart(objectives.model(recipe), recipe.workers, gpus)


def on_gpus(config: Config) -> bool:
    """Whether a training has GPUs: with Ray those of the cluster, the head of which, where this runs, has none."""
    return flow.resources([])[1] > 0 if config.where == "ray" else torch.cuda.is_available()


@contextmanager
def left(config: Config, name: str, knob: str) -> Iterator[None]:
    """Where `carry_out` fails by its numbers or images, and would again, say what is left of it, and how to begin from that.

    `knob` is that of the weights to begin with: what mends such a training is another recipe or selection, and so another training.
    """
    try:
        yield
    except (FloatingPointError, UnseenError) as error:
        where = Checkpoints(f"{runs(config)}/{name}{'' if config.where == 'ray' else HERE}")
        told = "nothing was saved yet"
        if names := where.names():
            told = (
                f"with another recipe or selection it begins anew, or from its last checkpoint by {knob}={where.uri}/{names[-1]}/{WEIGHTS}"
            )
            told += f", or, should these weights have gone wrong already, from {names[-2]} beside it" if names[1:] else ""
        raise type(error)(f"{error}; {told}") from error


def runs(config: Config) -> str:
    """Where the checkpoints of trainings under way lie."""
    return PatchStore(config.store.uri).address("runs")


def train_here(work: flow.Work, runs: str) -> str:
    """The same in this process; the address of the last checkpoint."""
    checkpoints, done = Checkpoints(runs), False
    while not done:
        with TemporaryDirectory() as folder:
            try:
                work(checkpoints.newest(Path(folder)), checkpoints.take)
                done = True
            except DamagedError as error:
                checkpoints.drop_newest(error)
    return f"{runs}/{checkpoints.names()[-1]}"


def fit(
    loop: Loop, epochs: int, record: tracking.Run, resume: Path | None, report: pretrain.Report, watch: Callable[[], Watched] | None = None
) -> None:
    """The loop on one worker; the first of them also writes to MLflow what it runs on and shows, says how far it is, and looks at it."""
    first = os.environ.get("RANK", "0") == "0"

    def both(metrics: dict[str, Any], folder: Path | None) -> None:
        told, losses = {name: value for name, value in metrics.items() if name != "losses"}, metrics["losses"]
        if first:
            show(record, told, folder)
            record.log_curve(STEP_LOSS, losses)  # before the checkpoint is kept: who goes on from it does not do these steps again
            tell(record, epochs, told)
        report(told, folder if folder and (folder / STATE).exists() else None)

    if first:
        record.note({"device": devices.device()})
    look = watch() if first and watch else None
    loop(resume=resume, report=both, look=look)
    if look:
        look.drain()


def kept(work: flow.Work, epochs: int, keep: Callable[[str], None], resume: Path | None, report: pretrain.Report) -> None:
    """The loop, whose model after so many epochs is given to `keep` as the path of its weights."""

    def both(metrics: dict[str, float], folder: Path | None) -> None:
        if folder and "loss" in metrics and metrics["epoch"] + 1 == epochs:
            keep(str(folder / WEIGHTS))  # first, so that no crash leaves it out
        report(metrics, folder)

    work(resume, both)


def show(record: tracking.Run, metrics: dict[str, float], folder: Path | None) -> None:
    """Put a sheet of pictures into MLflow by the steps that were done; a training that repeats steps puts the same one there again."""
    if folder and (sheet := folder / pretrain.SHEET).exists():
        record.keep(f"{PICTURES}/step-{int(metrics['step']):09}.jpg", sheet.read_bytes())
        sheet.unlink()  # the run is their one place, where `forget` finds them


def tell(record: tracking.Run, epochs: int, metrics: dict[str, float]) -> None:
    """Write the numbers of an epoch, or that the training was ended, to MLflow and say so; of what is amid an epoch nothing."""
    epoch, told = int(metrics["epoch"]), {f"train/{key}": value for key, value in metrics.items() if key not in ("epoch", "step")}
    if told:
        record.log(told, step=epoch)
        how = "ended by its looks" if "stopped" in metrics else f"loss {metrics['loss']:.4f}"
        print(f"epoch {epoch + 1} of {epochs}: {how}", flush=True)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a loop that runs here, each in a folder at `uri` named by the steps done; the newest stay, as many as HELD."""

    uri: str

    def names(self) -> list[str]:
        """The complete ones, oldest first: the state is written last."""
        fs, root = files.locate(self.uri)
        fs.invalidate_cache()
        return sorted(found.split("/")[-2] for found in fs.glob(f"{root}/step-*/{STATE}"))

    def newest(self, folder: Path) -> Path | None:
        """A copy of the newest in `folder`, None before the first; of what is there: that a file is gone its reader says."""
        if not (names := self.names()):
            return None
        fs, root = files.locate(self.uri)
        for part in FILES:
            with suppress(FileNotFoundError):
                fs.get_file(f"{root}/{names[-1]}/{part}", str(folder / part))
        return folder

    def take(self, metrics: dict[str, float], made: Path | None) -> None:
        """Keep a checkpoint of these metrics, if one was made, and delete what is older than the newest HELD."""
        if made is None:
            return
        name = f"step-{int(metrics['step']):09}"
        for part in FILES:
            files.put((made / part).read_bytes(), f"{self.uri}/{name}/{part}")
        fs, root = files.locate(self.uri)
        for outdated in self.names()[:-HELD]:
            fs.rm(f"{root}/{outdated}", recursive=True)

    def drop_newest(self, error: DamagedError) -> None:
        """Throw the newest away, which is damaged; ValueError that says what to do where there is none before it."""
        if not (names := self.names()):
            raise error  # it is of the weights that the training was to begin with
        *before, damaged = names
        if not before:
            raise ValueError(f"{error}; there is no checkpoint before it: delete {self.uri}/{damaged} to begin anew") from error
        fs, root = files.locate(self.uri)
        fs.rm(f"{root}/{damaged}", recursive=True)
        log.warning("%s/%s: %s; going on from %s", self.uri, damaged, error, before[-1])
