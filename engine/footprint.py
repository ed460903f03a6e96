"""What a training needs of memory: the least that a step takes, told before it is taken, and a sentence where it was too much.

The least is what a step keeps for its gradients. It is counted on torch's meta device, where tensors have shapes and no numbers, so
it takes a second and no memory whatever the batch. Beside it a step takes what lives shorter, so this refuses what can never fit and
promises nothing of the rest.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from engine import devices, mae, memory, simclr
from engine.models import MAEConfig, SimCLRConfig, TrainConfig
from engine.objectives import Trained

COUNTED = (1, 3)  # images by which it is counted; of more each takes as much as the next
GROUP = "WORLD_SIZE"  # how many processes train together, as Ray Train and torchrun tell each of them, and accelerate reads it
COPIES = 4  # of every weight: itself, its gradient, and two means of AdamW, in float32


def check(config: TrainConfig) -> None:
    """ValueError, with what to change, where a step of `config` can never fit into the memory of a device here."""
    needed, there = least_bytes(config), device_bytes()
    if needed > there:
        held = f"{devices.device()} has {there / 1e9:.3g}"
        raise ValueError(f"{share(config)} images at a time need {needed / 1e9:.3g} GB at least and {held}: {remedy(config)}")


@contextmanager
def explained(config: TrainConfig) -> Iterator[None]:
    """Memory that does not suffice as one RuntimeError that says what to lower; all other errors as they are."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise RuntimeError(
            f"{share(config)} images at a time do not fit into the memory of {devices.device()}: {remedy(config)}"
        ) from error


def share(config: TrainConfig) -> int:
    """Images of a batch that a process takes at a time; SimCLR all that it has when the fewest processes are left."""
    parts = config.workers * config.accumulate if config.architecture == "mae" else fewest(config)
    return math.ceil(config.batch / parts)


def fewest(config: TrainConfig) -> int:
    """Processes that share a batch at least: one where nobody started this one as one of several, whatever `workers` says."""
    return min(int(os.environ.get(GROUP, 1)), config.least_workers or config.workers)


def remedy(config: TrainConfig) -> str:
    """What to change; not accumulate of SimCLR, whose loss contrasts a whole batch at once, and no workers where there can be none."""
    parts = [f"accumulate={config.accumulate}"] if config.architecture == "mae" else []
    workers = [f"workers={config.workers}"] if GROUP in os.environ else []
    more = f"raise {' or '.join(parts + workers)}, " if parts + workers else ""
    return f"{more}lower batch={config.batch}, or take precision=bf16 or a smaller model"


def least_bytes(config: TrainConfig) -> float:
    """Bytes of the weights with what AdamW has of them, and of what a step keeps of all images at a time, at half in mixed precision."""
    weights, image = counted(config.simclr if config.architecture == "simclr" else config.mae)
    return COPIES * weights + image * share(config) * (0.5 if config.precision != "no" else 1.0)


@cache
def counted(config: MAEConfig | SimCLRConfig) -> tuple[int, float]:
    """Bytes of the weights of a model, and of what a step keeps of each image, in float32; 0 of the latter where it cannot be counted."""
    with torch.device("meta"):
        model = simclr.SimCLR(config) if isinstance(config, SimCLRConfig) else mae.MAE(config)
    model = model.to("meta").train()
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    try:
        few, more = (kept_bytes(model, count) for count in COUNTED)
    except RuntimeError:  # a network of timm whose way depends on the numbers that it is shown
        return weights, 0.0
    return weights, (more - few) / (COUNTED[1] - COUNTED[0])


def kept_bytes(model: Trained, count: int) -> int:
    """Bytes that a pass over `count` images keeps for the gradients, each tensor once and the weights not."""
    side, kept = model.config.side, dict[int, Tensor]()
    weights = {id(weight) for weight in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        whole = tensor if tensor._base is None else tensor._base
        if id(whole) not in weights:
            kept[id(whole)] = whole  # kept alive, so that no other gets its id
        return tensor

    with Fused(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        shown(model, side, count)
    return sum(tensor.numel() * tensor.element_size() for tensor in kept.values())


class Fused(TorchFunctionMode):
    """Attention that keeps what a fused one does; on meta torch would keep its matrices, which no device needs to."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Attended.apply(*args[:3]) if func is scaled_dot_product_attention else func(*args, **(kwargs or {}))


class Attended(torch.autograd.Function):
    """Attention that keeps what the true one keeps for its gradients, and computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The output's place alone, (B, H, N, c); what is kept is what flash attention keeps."""
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out


def shown(model: Trained, side: int, count: int) -> Any:
    """A pass as in training: SimCLR sees an image twice."""
    if isinstance(model, simclr.SimCLR):
        return model(torch.empty(2 * count, 3, side, side, device="meta"))
    return model(torch.empty(count, 3, side, side, device="meta"), torch.empty(count, model.config.tokens, device="meta"))


def device_bytes() -> float:
    """Memory of the GPU that a worker has, without one of the machine or its container."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    return float(memory.there_is())
