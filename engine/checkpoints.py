"""What of a training is saved, so that one that was cut off goes on as if it had not been: weights, optimiser, and how far it is."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import objectives
from engine.models import TrainConfig
from engine.monitor import Look
from engine.weights import UNREADABLE, DamagedError

WEIGHTS, STATE = "model.safetensors", "state.pt"  # the files of a checkpoint, in the order in which they are written


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
    """Write a checkpoint: the exported model, and beside it what only this training needs; `progress` is that of all processes."""
    objectives.save(training.exported, str(folder / WEIGHTS))
    state = {"progress": asdict(progress), "optimiser": training.optimiser.state_dict()}
    if training.average is not None:
        state["weights"] = training.model.state_dict()
    for name, part in (("scaler", training.scaler), ("look", training.look)):
        if part is not None:
            state[name] = part.state_dict()
    torch.save(state, folder / STATE)


def restore(training: Training, folder: Path, first: bool) -> None:
    """Go on from a checkpoint; of what all processes did so far in its epoch the `first` one keeps the account.

    A mean of weights that the checkpoint does not have, as config.ema was 0, begins with its weights. ValueError for one of another model,
    DamagedError for one of which a file is missing or cannot be read.
    """
    exported, state = read(folder, training.config)
    training.model.load_state_dict(state.get("weights", exported))
    if training.average is not None:
        training.average.load_state_dict(exported)
    training.optimiser.load_state_dict(state["optimiser"])
    for name, part in (("scaler", training.scaler), ("look", training.look)):
        if part is not None and name in state:
            part.load_state_dict(state[name])
    training.progress = Progress(**state["progress"])
    if not first:
        training.progress = replace(training.progress, loss=0.0, images=0, seconds=0.0, looking=0.0, joules=0.0)


def read(folder: Path, config: TrainConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The exported weights of a checkpoint, and the state beside them."""
    try:
        exported = objectives.load(str(folder / WEIGHTS), config).state_dict()
    except FileNotFoundError as error:
        raise DamagedError(f"the weights of a checkpoint are missing: {error}") from error
    try:
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        return exported, {"progress": state["progress"], "optimiser": state["optimiser"], **state}
    except (*UNREADABLE, FileNotFoundError) as error:
        raise DamagedError(f"the file {STATE} of a checkpoint is damaged or missing, expected the state of a training") from error
