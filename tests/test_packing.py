"""Packed layers give the numbers of the layers they stand in for, at every shape and in both precisions."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import GluMlp
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn import functional as F

from engine.packing import CachedAttention, packed
from engine.products import ByOneDNN, Packed, is_served

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


@settings(deadline=None, max_examples=40)
@given(SIZES, SIZES, st.lists(st.integers(1, 9), min_size=0, max_size=3), st.booleans())
def test_in_training_a_layer_and_its_gradients_are_those_of_float64(inside, outside, shape, bias):
    torch.manual_seed(inside * 71 + outside)
    linear, tokens = nn.Linear(inside, outside, bias=bias), torch.randn(*shape, inside, requires_grad=True)
    wanted = torch.randn(*shape, outside)
    exact, leaf = copy.deepcopy(linear).double(), tokens.detach().double().requires_grad_()
    (exact(leaf) * wanted).sum().backward()
    plain, twin = copy.deepcopy(linear), tokens.detach().clone().requires_grad_()
    (plain(twin) * wanted).sum().backward()
    with ByOneDNN():
        made = linear(tokens)
    (made * wanted).sum().backward()
    assert torch.allclose(made.double(), exact(leaf), atol=1e-5, rtol=1e-5)
    made_by = zip((tokens, *linear.parameters()), (leaf, *exact.parameters()), (twin, *plain.parameters()), strict=True)
    for one, other, usual in made_by:
        assert one.grad.shape == other.grad.shape
        lost = float((usual.grad.double() - other.grad).abs().max())  # by torch's own float32, where sums of up to 729 products cancel
        assert torch.allclose(one.grad.double(), other.grad, atol=2e-5 + lost, rtol=1e-5)


def test_only_float32_layers_go_to_onednn():
    names: list[str] = []

    class Listening(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(func.name())
            return func(*args, **(kwargs or {}))

    for dtype, autocast, asked in ((torch.float32, False, 1), (torch.float64, False, 0), (torch.float32, True, 0)):
        names.clear()
        with ByOneDNN(), torch.autocast("cpu", torch.bfloat16, enabled=autocast), Listening():
            F.linear(torch.ones(2, 3, dtype=dtype), torch.ones(4, 3, dtype=dtype))
        assert names.count("mkldnn::_linear_pointwise") == asked, (dtype, autocast)


def test_a_frozen_layer_gets_no_gradient_in_training():
    linear, tokens = nn.Linear(3, 4).requires_grad_(False), torch.randn(2, 3, requires_grad=True)
    with ByOneDNN():
        linear(tokens).sum().backward()
    assert linear.weight.grad is None
    assert tokens.grad is not None


def test_a_row_does_not_depend_on_the_rows_beside_it():
    layer, tokens = Packed(nn.Linear(192, 768), "float32", "gelu"), torch.randn(788, 192)
    with torch.inference_mode():
        assert torch.equal(layer(tokens)[:100], layer(tokens[:100]))


@pytest.mark.parametrize("precision", filter(is_served, ["float32", "bfloat16"]))
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


@pytest.mark.skipif(not is_served("bfloat16"), reason="a processor without bfloat16 keeps its layers")
@settings(deadline=None, max_examples=12)
@given(st.integers(1, 40), st.integers(1, 230), st.sampled_from([(32, 1), (48, 3), (64, 4)]))
def test_attention_a_few_pictures_at_a_time_is_attention(count, tokens, sizes):
    (width, heads), generator = sizes, torch.Generator().manual_seed(count * 231 + tokens)
    block, x = Block(width, heads, qkv_bias=True).eval(), torch.randn(count, tokens, width, generator=generator)
    quick = packed(block, "bfloat16")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        made, alone = quick.attn(x), quick.attn(x[-1:])
    with torch.inference_mode():
        torch.testing.assert_close(made.float(), block.attn(x), atol=0.02, rtol=0.02)
    torch.testing.assert_close(made[-1:], alone, atol=0, rtol=0)


def test_attention_with_more_to_do_is_left_alone():
    block = Block(32, 2, qk_norm=True).eval()
    assert [type(packed(one, "bfloat16").attn) is type(one.attn) for one in (block, Block(32, 2))] == [True, not is_served("bfloat16")]


def test_a_mask_is_refused_where_attention_is_packed():
    quick = CachedAttention(Block(32, 2).attn)
    with torch.inference_mode(), pytest.raises(ValueError, match="got a mask, expected none"):
        quick(torch.zeros(1, 3, 32), is_causal=True)


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


def test_a_processor_without_bfloat16_keeps_the_layers_as_they_are():
    code = """
import torch
from torch import nn
from engine.packing import packed
from engine.products import Packed
layers = nn.Sequential(nn.Linear(64, 64), nn.GELU())
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
    packed(layers, "bfloat16")(torch.randn(3, 64))
with torch.inference_mode():
    assert isinstance(packed(layers, "float32")[0], Packed) and packed(layers, "float32")(torch.randn(3, 64)).isfinite().all()
"""
    old = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=old, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("misuse", [copy.deepcopy, pickle.dumps, nn.Module.state_dict, lambda layers: layers(torch.randn(2, 8))])
def test_what_a_packed_layer_cannot_do_is_one_sentence(misuse):
    with pytest.raises((TypeError, RuntimeError), match=r"a packed layer (cannot|has no)"):
        misuse(packed(nn.Sequential(nn.Linear(8, 8)), "float32"))


def test_a_gated_layer_whose_activation_sees_a_part_is_not_joined_with_it():
    layer, tokens = GluMlp(16, 32, act_layer=nn.GELU).eval(), torch.randn(5, 16)
    with torch.inference_mode():
        assert torch.allclose(packed(layer, "float32")(tokens), layer(tokens), atol=1e-6)


def test_a_layer_that_hands_its_weights_on_is_left_alone():
    layer, tokens = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(), torch.randn(2, 5, 16)
    with torch.inference_mode():
        assert torch.equal(packed(nn.Sequential(layer), "float32")(tokens), layer(tokens))
