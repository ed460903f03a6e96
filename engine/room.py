"""As many items at a time as the accelerator has room for: halved where its memory runs out, and said once."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

log = logging.getLogger("jobs")
Made = TypeVar("Made")


class Room:
    """`size` items at a time at first; what was halved stays so, for the model and the frames stay as large."""

    def __init__(self, size: int, what: str) -> None:
        self.size, self.what = size, what

    def over(self, count: int, work: Callable[[slice], Made]) -> Iterator[Made]:
        """What `work` makes of items 0 to `count`, a slice at a time, in order; RuntimeError where not even one item fits."""
        start = 0
        while start < count:
            try:
                made = work(slice(start, min(count, start + self.size)))
            except torch.OutOfMemoryError:
                made = None
            if made is None:  # out of the handler, whose exception holds the tensors that are in the way
                self.halve()
                continue
            start += self.size
            yield made

    def halve(self) -> None:
        """Halve it, and say so; RuntimeError where it is 1 already."""
        if self.size == 1:
            raise RuntimeError(f"the GPU has no room for 1 of the {self.what}: free it of other work, or take a smaller model")
        self.size = (self.size + 1) // 2
        torch.cuda.empty_cache()
        log.warning("out of GPU memory: %d %s at a time from now on, with the same rows", self.size, self.what)


def filled(rows: NDArray[Any], batch: int) -> NDArray[Any]:
    """`rows` with zeros behind them up to `batch`: passes of one shape, so that a score does not depend on its neighbours.

    Shape: (n, ...) to (batch, ...).
    """
    return np.concatenate([rows, np.zeros((batch - len(rows), *rows.shape[1:]), rows.dtype)])
