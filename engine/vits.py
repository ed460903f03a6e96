"""The sizes of vision transformers, as timm has them: which there are, and how wide, deep and many-headed each is.

A size is the word behind `vit_` in timm's names of networks. Some of them exist only with registers, pooling or scales of their own: of
these the shape is taken and the rest left, so that every size is the plain transformer of arXiv 2010.11929.
"""

import difflib
import re
from functools import cache
from typing import Any, NamedTuple

import timm
import torch
from timm.layers import Attention, Mlp
from timm.models.vision_transformer import Block, VisionTransformer

NAME = re.compile(r"vit_([a-z0-9]+)_patch(\d+)_(\d+)?.*")
PLAIN = re.compile(r"vit_([a-z0-9]+)_patch(\d+)_\d+(\..*)?")  # the names of plain ones, trained by others or not
# What timm is to be told beside the name of a network that is not plain to make a plain one.
MADE_PLAIN = {
    "class_token": True, "global_pool": "token", "fc_norm": False, "reg_tokens": 0, "no_embed_class": False, "pre_norm": False,
    "final_norm": True, "init_values": 0, "qkv_bias": True, "norm_layer": "layernorm", "act_layer": "gelu",
}  # fmt: skip
PARTS = ("cls_token", "pos_embed", "patch_embed.", "blocks.", "norm.")  # of a plain one without its classifier


class Shape(NamedTuple):
    """A vision transformer's measures; widths in numbers a token."""

    network: str  # timm's name of it
    width: int
    depth: int
    heads: int
    hidden: int  # width between the two layers behind the attention
    arguments: dict[str, Any]  # MADE_PLAIN where timm does not have it plain

    @property
    def ratio(self) -> float:
        """hidden / width, as timm wants to know it."""
        return self.hidden / self.width


@cache
def shape(size: str) -> Shape:
    """The shape of a size; ValueError, with those that are called alike, for one that timm does not have as a vision transformer."""
    for name in sorted(named(size), key=rank):
        with torch.device("meta"):  # no memory, and no random numbers drawn
            made = timm.create_model(name, pretrained=False, num_classes=0)
        if is_one(made):
            return told(name, made)
    every = [found for found in sizes() if found != size]
    near = difflib.get_close_matches(size, every, n=3, cutoff=0.5) or every
    raise ValueError(f"mae.size={size} is no size of a vision transformer in timm; there are {', '.join(near)}")


def plain(size: str) -> bool:
    """Whether timm has this size as the plain transformer that it is here."""
    return size in sizes() and not shape(size).arguments


@cache
def sizes() -> tuple[str, ...]:
    """The words that are sizes by their names in timm; `shape` refuses those whose networks are of another kind."""
    found = (NAME.fullmatch(name) for name in timm.list_models("vit_*_patch*", module="vision_transformer"))
    return tuple(sorted({one[1] for one in found if one}))


def named(size: str) -> list[str]:
    """timm's networks of a size, of any patch."""
    found = timm.list_models(f"vit_{size}_patch*", module="vision_transformer")
    return [name for name in found if NAME.fullmatch(name)]


def rank(name: str) -> tuple[bool, bool, int, str]:
    """What is asked first: the plain network before variants, tokens of 16 px before others, 224 px before more."""
    one = NAME.fullmatch(name)
    assert one
    return not PLAIN.fullmatch(name), one[2] != "16", int(one[3] or 0), name


def is_one(made: Any) -> bool:
    """Whether its blocks are those of a masked autoencoder, whatever stands before and behind them."""
    if type(made) is not VisionTransformer or type(first := made.blocks[0]) is not Block:
        return False
    return type(first.attn) is Attention and type(first.mlp) is Mlp


def told(name: str, made: Any) -> Shape:
    """The Shape of a network of timm, from a made one: the network itself where it is plain."""
    first = made.blocks[0]
    width, depth, heads, hidden = made.embed_dim, len(made.blocks), first.attn.num_heads, first.mlp.fc1.out_features
    names = made.state_dict().keys()
    whole = {"cls_token", "norm.weight", "blocks.0.attn.qkv.bias"} <= names and "blocks.0.ls1.gamma" not in names
    if PLAIN.fullmatch(name) and whole and all(one.startswith(PARTS) for one in names):
        return Shape(name, width, depth, heads, hidden, {})
    return Shape(name, width, depth, heads, hidden, MADE_PLAIN)
