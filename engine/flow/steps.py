"""What a flow is made of: a stage, and what it takes to run it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """A stage, what its constructor gets, and what one actor of it takes."""

    stage: type
    arguments: tuple[Any, ...]
    batch: int  # rows per call
    cpus: float = 1.0
    gpus: float = 0.0  # taken where the cluster has any
    actors: tuple[int, int] = (1, 1)  # least and most
    first: int | None = None  # actors that its pool starts with; None: the least
    loads: bool = True  # False: what it is built from costs nothing, so that any process may do it and none is started for it
