"""What of a training is saved, so that one that was cut off goes on as if it had not been: weights, optimiser, and how far it is."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import objectives
from engine.models import TrainConfig
from engine.monitor import Look
from engine.weights import DamagedError, complete, unpickled

WEIGHTS, SUMS, STATE = "model.safetensors", "SHA256SUMS", "state.pt"
FILES = (WEIGHTS, SUMS, STATE)  # of a checkpoint, in the order in which they are written: where the last is, all are


@dataclass
class Progress:
    """How far a training is, and what it has taken; of the epoch under way each process counts its own share."""

    epoch: int = 0  # under way
    step: int = 0  # steps of the optimiser done in it
    loss: float = 0.0  # summed over its images so far
    images: int = 0  # of it so far
    samples: int = 0  # images of all epochs before
    seconds: float = 0.0  # of all devices together
    joules: float = 0.0  # nan where they cannot be read
    looking: float = 0.0  # seconds of all devices together in which they waited for looks, none of `seconds`
    stopped: bool = False  # a look said that it is enough


@dataclass
class Training:
    """A model under training, and all that its next step depends on."""

    config: TrainConfig
    model: nn.Module
    average: nn.Module | None  # of the weights, where config.ema asks for one
    optimiser: torch.optim.Optimizer
    scaler: Any  # of the gradients in fp16, else None
    look: Look | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def exported(self) -> nn.Module:
        """What others get."""
        return self.model if self.average is None else self.average


def save(training: Training, progress: Progress, folder: Path) -> None:
    """Write a checkpoint: the exported model, and beside it what only this training needs; `progress` is that of all processes.

    The sums of both are as `sha256sum` writes and checks them; neither safetensors nor torch would notice a bit that has flipped.
    """
    objectives.save(training.exported, str(folder / WEIGHTS))
    state = {"progress": asdict(progress), "optimiser": training.optimiser.state_dict(), SUMS: True}
    if training.average is not None:
        state["weights"] = training.model.state_dict()
    if training.scaler is not None:
        state["scaler"] = training.scaler.state_dict()
    if training.look is not None:
        state["look"] = training.look.state_dict()
    torch.save(state, folder / STATE)
    (folder / SUMS).write_text("".join(f"{line(folder / name)}\n" for name in (WEIGHTS, STATE)))


def line(file: Path) -> str:
    """A file's line among the sums."""
    with file.open("rb") as stream:
        return f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {file.name}"


def restore(training: Training, folder: Path, first: bool) -> None:
    """Go on from a checkpoint; of what all processes did so far in its epoch the `first` one keeps the account.

    A mean of weights that the checkpoint does not have, as config.ema was 0, begins with its weights. ValueError for one of another model,
    DamagedError for one of which a file is missing, is not what was written, cannot be read, or holds something else.
    """
    exported, state = read(folder, training.config)
    try:
        take_over(training, exported, state)
    except (LookupError, TypeError, ValueError) as error:  # what torch and looks raise where a part is missing or is another one
        raise DamagedError(f"the file {STATE} of a checkpoint is not the state of this training: {error!r}") from error
    if not first:
        training.progress = replace(training.progress, loss=0.0, images=0, seconds=0.0, looking=0.0, joules=0.0)


def take_over(training: Training, exported: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Set a training to where a checkpoint was: `exported` are the weights that others get. ValueError where the weights do not fit."""
    progress, weights = Progress(**state["progress"]), state.get("weights", exported)
    complete(weights, training.model.state_dict(), STATE)
    training.model.load_state_dict(weights)
    if training.average is not None:
        training.average.load_state_dict(exported)
    training.optimiser.load_state_dict(state["optimiser"])
    for name, part in (("scaler", training.scaler), ("look", training.look)):
        if part is not None and name in state:
            part.load_state_dict(state[name])
    training.progress = progress


def read(folder: Path, config: TrainConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The exported weights of a checkpoint, and the state beside them.

    DamagedError where files of it are missing, broken or of something else.
    """
    check_sums(folder)
    try:
        exported = objectives.load(str(folder / WEIGHTS), config).state_dict()
    except FileNotFoundError as error:
        raise DamagedError(f"the weights of a checkpoint are missing: {error}") from error
    try:
        state = unpickled(folder / STATE)
    except (DamagedError, FileNotFoundError) as error:
        raise DamagedError(f"the file {STATE} of a checkpoint is damaged or missing, expected the state of a training") from error
    if not isinstance(state, dict) or not {"progress", "optimiser"} <= state.keys():
        raise DamagedError(f"the file {STATE} of a checkpoint holds something else, expected the state of a training")
    if SUMS in state and not (folder / SUMS).exists():
        raise DamagedError(f"the file {SUMS} of a checkpoint is missing, so that nothing tells whether the others are whole")
    return exported, state


def check_sums(folder: Path) -> None:
    """DamagedError for a file that is missing or not the one that was written; a checkpoint from before there were sums passes."""
    if not (folder / SUMS).exists():
        return
    told = (folder / SUMS).read_text(errors="replace").splitlines()
    for name in (WEIGHTS, STATE):
        if not (folder / name).exists():
            raise DamagedError(f"the file {name} of a checkpoint is missing")
        if line(folder / name) not in told:
            raise DamagedError(f"the file {name} of a checkpoint is damaged: it is not the one that {SUMS} was written for")
