"""Models as a CPU runs them fastest: their linear layers packed, what follows a layer done in the same pass, attention in the cache."""

import copy
from typing import TypeVar

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from engine.precision import Precision
from engine.products import Packed, is_served

Model = TypeVar("Model", bound=nn.Module)
BEFORE_GELU = {"Mlp": "fc1", "MLPBlock": "lin1"}  # by class, the layer that nothing but `act` follows: timm and TinyViT, segment-anything

CACHED = 2**19  # logits at a time: 1 MiB of bfloat16, what a core's own cache holds


class CachedAttention(nn.Module):
    """Stands in for timm's plain attention in bfloat16: as many pictures at a time as have room in the cache, the softmax by oneDNN.

    197 tokens with 16 heads took 0.67 ms a picture instead of 1.12 (all pictures at once, torch's softmax) and 2.1 (torch's fused one).
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.training = False
        self.qkv, self.proj = attention.qkv, attention.proj
        self.num_heads, self.scale = attention.num_heads, attention.scale

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """(B, n, C) to (B, n, C); ValueError for a mask, which it does not know."""
        if attn_mask is not None or is_causal:
            raise ValueError("packed attention got a mask, expected none: every token sees all tokens")
        size = max(1, CACHED // (self.num_heads * x.shape[1] ** 2))
        tokens: Tensor = self.proj(torch.cat([self.heads(some) for some in self.qkv(x).split(size)]).flatten(2))
        return tokens

    def heads(self, qkv: Tensor) -> Tensor:
        """What the heads make of queries, keys and values: (b, n, 3C) to (b, n, heads, C / heads)."""
        b, n, _ = qkv.shape
        shape = (b, n, 3, self.num_heads, -1)
        q, k, v = qkv.view(shape).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)  # (b * heads, n, C / heads) each
        logits = torch.bmm(q * self.scale, k.transpose(1, 2))
        shares = logits.to_mkldnn().softmax(-1).to_dense()
        return torch.bmm(shares, v).view(b, self.num_heads, n, -1).transpose(1, 2)


def packed(model: Model, precision: Precision) -> Model:
    """A copy of `model` that shares its tensors and has packed linear layers; `model` itself on a GPU, or where oneDNN cannot do it."""
    weight = next(model.parameters(), None)
    on_cpu = weight is not None and weight.device.type == "cpu"
    return repacked(model, precision) if on_cpu and is_served(precision) else model


def repacked(model: Model, precision: Precision) -> Model:
    """A shallow copy of a model whose linear layers are packed; what is not replaced is shared."""
    if isinstance(model, nn.TransformerEncoderLayer):  # it hands its layers' weights to a kernel
        return model
    made, children = copy.copy(model), dict(model._modules)
    made._modules = {name: child and repacked(child, precision) for name, child in children.items()}
    gelu = isinstance(act := children.get("act"), nn.GELU) and act.approximate == "none"
    for name, child in children.items():
        if type(child) is nn.Linear:  # what is derived from it is more
            with_gelu = gelu and BEFORE_GELU.get(type(model).__name__) == name
            made._modules[name] = Packed(child, precision, "gelu" if with_gelu else "none")
            if with_gelu:
                made._modules["act"] = nn.Identity()
        elif child and precision == "bfloat16" and is_plain(child):
            made._modules[name] = CachedAttention(made._modules[name])
    return made


def is_plain(layer: nn.Module) -> bool:
    """Whether it is timm's attention with nothing to do but its two linear layers and the heads between them."""
    idle = (nn.Identity, nn.Dropout)  # there is no training here
    return type(layer) is Attention and {name for name, child in layer.named_children() if not isinstance(child, idle)} == {"qkv", "proj"}
