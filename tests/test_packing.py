"""Packed layers give the numbers of the layers they stand in for, at every shape and in both precisions."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn import functional as F

from engine.packing import Packed, packed

SIZES = st.integers(1, 70)


@settings(deadline=None, max_examples=40)
@given(SIZES, SIZES, st.lists(st.integers(1, 9), min_size=1, max_size=3), st.booleans(), st.sampled_from(["none", "gelu"]))
def test_a_packed_layer_makes_the_numbers_of_the_layer(inside, outside, shape, bias, activation):
    torch.manual_seed(inside * 71 + outside)
    linear, tokens = nn.Linear(inside, outside, bias=bias), torch.randn(*shape, inside)
    exact = F.linear(tokens.double(), linear.weight.double(), linear.bias.double() if bias else None)
    expected = F.gelu(exact) if activation == "gelu" else exact
    with torch.inference_mode():
        assert torch.allclose(Packed(linear, "float32", activation)(tokens).double(), expected, atol=2e-6, rtol=2e-6)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    layer, tokens = Packed(nn.Linear(192, 768), "float32", "gelu"), torch.randn(788, 192)
    with torch.inference_mode():
        assert torch.equal(layer(tokens)[:100], layer(tokens[:100]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_in_a_packed_layer_nothing_but_the_precision_differs_from_autocast(precision):
    linear, tokens = nn.Linear(96, 64), torch.randn(50, 96)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        expected, made = linear(tokens), Packed(linear, precision)(tokens)
    assert made.dtype == expected.dtype
    assert torch.allclose(made.float(), expected.float(), atol=2e-2 if precision == "bfloat16" else 2e-6)


def test_a_packed_block_is_the_block_and_leaves_it_as_it_was():
    block, tokens = Block(64, 4, qkv_bias=True).eval(), torch.randn(3, 17, 64)
    before = copy.deepcopy(block)
    quick = packed(block, "float32")
    with torch.inference_mode():
        assert torch.allclose(quick(tokens), block(tokens), atol=3e-6)
        assert torch.equal(before(tokens), block(tokens))
    assert [type(layer) for layer in (quick.mlp.fc1, quick.mlp.act, quick.attn.qkv)] == [Packed, nn.Identity, Packed]
    assert not [layer for layer in block.modules() if isinstance(layer, Packed)]
    pickle.dumps(block)


def test_a_gelu_by_the_tangent_stays_its_own_layer():
    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.act, self.fc2 = nn.Linear(8, 8), nn.GELU(approximate="tanh"), nn.Linear(8, 8)

        def forward(self, x):
            return self.fc2(self.act(self.fc1(x)))

    mlp, tokens = Mlp(), torch.randn(5, 8)
    with torch.inference_mode():
        assert torch.allclose(packed(mlp, "float32")(tokens), mlp(tokens), atol=1e-6)
