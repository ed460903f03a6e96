"""Matrix products as a CPU makes them fastest: one factor laid out once as oneDNN multiplies it.

torch's own linear layer asks MKL in float32, which on an AMD processor made 78 to 91 GFLOP/s a core where oneDNN made 151 to 218; in
bfloat16 it asks oneDNN and lays the weights out anew for every product (notebooks/LOG.md). The operators are those that torch.compile puts
in the same place; here without its compiler, which needs a minute and a C++ toolchain. Apart from `packing`, because what compares
embeddings needs no models, and to load those takes each worker seconds.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.config import Precision

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
        """(..., in_features) to (..., out_features) of the layer's precision, as autocast would have it."""
        if torch.is_grad_enabled():
            raise RuntimeError("a packed layer has no gradients: use it under torch.inference_mode()")
        exact = "none"  # of the GELU: by the error function, not by the tangent
        made = torch.ops.mkldnn._linear_pointwise(tokens.to(self.dtype), self.laid_out, self.added, self.activation, [], exact)
        return torch.as_tensor(made)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a packed layer cannot be copied or pickled: do that to the model that it was made from")

    def _save_to_state_dict(self, *_: Any) -> NoReturn:
        raise TypeError("a packed layer has no weights to save: those are in the model that it was made from")


def is_served(precision: Precision) -> bool:
    """Whether oneDNN multiplies in this precision here; bfloat16 wants AVX-512 or newer."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    return precision == "float32" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def times(right: Floats) -> Callable[[Floats], Floats]:
    """What multiplies rows (n, width) with those of `right` (m, width), laid out once: (n, m). On a CPU twice as fast as numpy."""
    if len(right) <= FEW:
        return lambda left: left @ right.T
    linear = nn.Linear(right.shape[1], right.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(torch.from_numpy(right), requires_grad=False)
    layer = Packed(linear, "float32") if is_served("float32") else linear

    def product(left: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(layer(torch.from_numpy(left)).numpy())

    return product
