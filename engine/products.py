"""Matrix products as a CPU makes them fastest: one factor laid out once as oneDNN multiplies it.

torch's own linear layer asks MKL in float32, which on an AMD processor made 78 to 91 GFLOP/s a core where oneDNN made 151 to 218; in
bfloat16 it asks oneDNN and lays the weights out anew for every product (notebooks/LOG.md). The operators are those that torch.compile puts
in the same place; here without its compiler, which needs a minute and a C++ toolchain. Apart from `packing`, because what compares
embeddings needs no models, and to load those takes each worker seconds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.precision import Precision

Floats = NDArray[np.float32]

FEW = 64  # rows: to lay them out takes 0.3 ms, as numpy's product of 1,024 rows with them does


class Packed(nn.Module):
    """Stands in for `linear` where no gradients are wanted; `activation` is what oneDNN does to the product, "none" or "gelu"."""

    def __init__(self, linear: nn.Linear, precision: Precision, activation: str = "none") -> None:
        super().__init__()
        self.training = False
        self.dtype = getattr(torch, precision)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.laid_out = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(self.dtype))
        self.added = None if linear.bias is None else linear.bias.detach().to(self.dtype)
        self.activation = activation

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features) of the layer's precision, as autocast would have it.

        RuntimeError where gradients are asked for.
        """
        if torch.is_grad_enabled():
            raise RuntimeError("a packed layer has no gradients: use it under torch.inference_mode()")
        exact = "none"  # of the GELU: by the error function, not by the tangent
        made = torch.ops.mkldnn._linear_pointwise(tokens.to(self.dtype), self.laid_out, self.added, self.activation, [], exact)
        return torch.as_tensor(made)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a packed layer cannot be copied or pickled: do that to the model that it was made from")

    def _save_to_state_dict(self, *_: Any) -> NoReturn:
        raise TypeError("a packed layer has no weights to save: those are in the model that it was made from")


class ByOneDNN(TorchFunctionMode):
    """Within it oneDNN multiplies the float32 linear layers of a CPU, and their gradients: sums in another order, twice as fast."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        told = kwargs or {}
        if func is F.linear and is_plain(*args, **told):
            return Linear.apply(*linear(*args, **told))
        return func(*args, **told)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The arguments of a linear layer in their order, by the names that torch gives them."""
    return input, weight, bias


def is_plain(*args: Any, **told: Any) -> bool:
    """Whether a linear layer is one that MKL would be asked for."""
    tokens, weight, _ = linear(*args, **told)
    if torch.is_autocast_enabled("cpu") or tokens.ndim < 2 or not tokens.numel():
        return False
    return {(one.dtype, one.device.type) for one in (tokens, weight)} == {(torch.float32, "cpu")} and is_served("float32")


class Linear(torch.autograd.Function):
    """x W^T + b by oneDNN, and so its gradients by x, W and b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(..., in) and (out, in) and (out,) to (..., out)."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients by x, W and b, of those that are wanted."""
        (wanted,), (x, weight) = gradients, ctx.saved_tensors
        rows = wanted.flatten(0, -2)
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            product(wanted, weight.t(), None) if of_x else None,
            product(rows.t(), x.flatten(0, -2).t(), None) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def product(rows: Tensor, columns: Tensor, added: Tensor | None) -> Tensor:
    """(..., k) and (n, k) and (n,) to (..., n), none of them laid out for it."""
    return torch.as_tensor(torch.ops.mkldnn._linear_pointwise(rows, columns, added, "none", [], ""))


def is_served(precision: Precision) -> bool:
    """Whether oneDNN multiplies in this precision here; bfloat16 wants AVX-512 or newer."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    return precision == "float32" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def alone() -> Iterator[None]:
    """Within it torch multiplies by one thread each: where threads of ours use all processors, its own only wait for each other.

    Of threads begun before it holds nothing: torch asks once a thread. Not to be entered by two threads at once.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def single(rows: NDArray[np.number]) -> Floats:
    """The same numbers as float32: of 384 float16 numpy makes these in 0.5 µs, torch in 0.03. Of any shape."""
    return np.asarray(torch.from_numpy(rows).float().numpy())


def times(right: Floats) -> Callable[[Floats], Floats]:
    """What multiplies rows (n, width) with those of `right` (m, width), laid out once: (n, m). On a CPU twice as fast as numpy."""
    if len(right) <= FEW:
        few = torch.from_numpy(right).T  # numpy has threads of its own, which `alone` does not hold: they took six times the product's time
        return lambda left: np.asarray((torch.from_numpy(left) @ few).numpy())
    linear = nn.Linear(right.shape[1], right.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(torch.from_numpy(right), requires_grad=False)
    layer = Packed(linear, "float32") if is_served("float32") else linear

    def product(left: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(layer(torch.from_numpy(left)).numpy())

    return product
