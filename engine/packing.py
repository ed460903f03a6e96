"""Linear layers as a CPU runs them fastest: their weights laid out once as oneDNN multiplies them, what follows them done in the same pass.

torch's own linear layer asks MKL in float32, which on AMD's processors makes 80 to 90 GFLOP/s a core where oneDNN makes 200; in bfloat16
it asks oneDNN and lays the weights out anew for every product (390 against 430, and 250 where a GELU follows; notebooks/LOG.md). The
operators are those that torch.compile puts in the same place; here without its compiler, which needs a minute and a C++ toolchain.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from engine.config import Precision

Model = TypeVar("Model", bound=nn.Module)
BEFORE_GELU = ("fc1", "lin1")  # what timm, TinyViT and segment-anything call the layer before their `act`


class Packed(nn.Module):
    """Stands in for `linear` where no gradients are wanted; `activation` is what oneDNN does to the product, "none" or "gelu"."""

    def __init__(self, linear: nn.Linear, precision: Precision, activation: str = "none") -> None:
        super().__init__()
        self.dtype = getattr(torch, precision)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.laid_out = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(self.dtype))
        self.added = None if linear.bias is None else linear.bias.detach().to(self.dtype)
        self.activation = activation

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features) of the layer's precision, as autocast would have it."""
        exact = "none"  # of the GELU: by the error function, not by the tangent
        made = torch.ops.mkldnn._linear_pointwise(tokens.to(self.dtype), self.laid_out, self.added, self.activation, [], exact)
        return torch.as_tensor(made)


def packed(model: Model, precision: Precision) -> Model:
    """A twin of `model` that shares its tensors and has packed linear layers; `model` itself where it is on a GPU."""
    weight = next(model.parameters(), None)
    if weight is None or weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return model
    return twin(model, precision)


def twin(model: Model, precision: Precision) -> Model:
    made, children = copy.copy(model), dict(model._modules)
    made._modules = {name: child and twin(child, precision) for name, child in children.items()}
    if precision == "bfloat16" and hasattr(made, "fused_attn"):
        made.__dict__["fused_attn"] = False  # torch's fused attention takes twice as long in bfloat16 as the products and the softmax apart
    gelu = isinstance(act := children.get("act"), nn.GELU) and act.approximate == "none"
    for name, child in children.items():
        if type(child) is nn.Linear:  # what is derived from it is more
            with_gelu = gelu and name in BEFORE_GELU
            made._modules[name] = Packed(child, precision, "gelu" if with_gelu else "none")
            if with_gelu:
                made._modules["act"] = nn.Identity()
    return made
