from typing import Any, get_args

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from engine import mae
from engine.config import MAEConfig
from engine.models import CNN, EvaluateConfig, SimCLRConfig, Swin, TrainConfig
from engine.segmenters import AttentionGate, Gated, ViT, segmenter, vit_of

MAE = MAEConfig(size="tiny", side=96, token=16)


def vit(seed: int, side: int = 96) -> Any:
    torch.manual_seed(seed)
    return timm.create_model("vit_tiny_patch16_224", img_size=side, num_classes=0).eval()


def test_the_encoder_has_the_features_of_timms_vit_with_the_same_weights() -> None:
    reference = vit(seed=1)
    model = segmenter(reference.state_dict(), MAE, EvaluateConfig(side=96)).eval()
    images = torch.rand(2, 3, 96, 96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    heard: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda module, given, out: heard.extend(out[0]))
    with torch.inference_mode():
        expected = reference.forward_intermediates((images - mean) / std, indices=[2, 5, 8, 11], intermediates_only=True)
        model(images)
    for found, wanted in zip(heard, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_encoder_of_our_mae_sees_the_same_before_and_after_it_is_handed_over() -> None:
    torch.manual_seed(2)
    trained = mae.MAE(MAE).eval()
    model = segmenter(mae.timm_state(trained), MAE, EvaluateConfig(side=96)).eval()
    images = np.random.default_rng(0).integers(0, 255, (2, 96, 96, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        seen = model.encoder.model.forward_features((pixels - model.mean) / model.std)
        torch.testing.assert_close(seen, trained.encode(mae.normalise(images)), atol=1e-5, rtol=1e-5)


def test_given_weights_change_the_features_but_not_the_new_decoder() -> None:
    models = []
    for state in (None, vit(seed=1).state_dict()):
        torch.manual_seed(0)
        models.append(segmenter(state, MAE, EvaluateConfig(side=96)))
    bare, loaded = models
    images = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        assert not torch.allclose(bare.encoder(images)[0][-1], loaded.encoder(images)[0][-1], atol=1e-2)
    for name, weights in bare.network.decoder.state_dict().items():
        assert torch.equal(weights, loaded.network.decoder.state_dict()[name])


def test_position_embeddings_of_another_side_are_resampled_as_timm_does_it() -> None:
    learnt = vit(seed=1, side=224)
    model = segmenter(learnt.state_dict(), MAE, EvaluateConfig(side=96))
    learnt.set_input_size(img_size=96)
    torch.testing.assert_close(model.encoder.model.pos_embed, learnt.pos_embed)


@pytest.mark.parametrize(("token", "side"), [(8, 64), (14, 56), (16, 96), (32, 96)])
def test_dpt_draws_a_logit_for_every_pixel_at_every_token_it_supports(token: int, side: int) -> None:
    model = segmenter(None, MAEConfig(size="tiny", side=side, token=token), EvaluateConfig(side=side)).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 3, side, side)).shape == (1, 1, side, side)


SWIN = "swin_tiny_patch4_window7_224"


def swin(seed: int, side: int) -> Any:
    torch.manual_seed(seed)
    return timm.create_model(SWIN, img_size=side, num_classes=0).eval()


@pytest.mark.parametrize("architecture", ["unet", "attention_unet"])
def test_a_unet_on_a_swin_has_the_maps_of_timms_swin_with_the_same_weights(architecture: str) -> None:
    reference = swin(1, 64)
    config = EvaluateConfig(side=64, architecture=architecture, encoder=SWIN)
    model = segmenter(reference.state_dict(), MAE, config, classes=2).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = reference.forward_intermediates((images - model.mean) / model.std, intermediates_only=True)
        found = model.encoder((images - model.mean) / model.std)
        assert model(images).shape == (2, 3, 64, 64)
    for one, wanted in zip(found[2:], expected, strict=True):
        torch.testing.assert_close(one, wanted, atol=1e-5, rtol=1e-5)


def test_what_a_swin_learnt_of_places_is_resampled_as_timm_does_it() -> None:
    learnt = swin(1, 224)
    model = segmenter(learnt.state_dict(), MAE, EvaluateConfig(side=64, architecture="unet", encoder=SWIN))
    wanted = timm.models.swin_transformer.checkpoint_filter_fn(learnt.state_dict(), swin(2, 64))
    name = "layers.3.blocks.1.attn.relative_position_bias_table"
    torch.testing.assert_close(model.encoder.model.state_dict()[name.replace("layers.", "layers_")], wanted[name])
    assert wanted[name].shape != learnt.state_dict()[name].shape


def test_an_attention_gate_is_its_equations() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(8, 6).eval()
    skip, gating = torch.randn(2, 8, 10, 12), torch.randn(2, 6, 5, 6)
    with torch.inference_mode():
        found = gate.coefficients(skip, gating)
        wx, wg, bg, psi, bias = (one.numpy() for one in (gate.of_skip.weight, *gate.of_gating.parameters(), *gate.psi.parameters()))
        x, g = skip.numpy(), gating.numpy()
        asked = np.zeros((2, 5, 6))
        for n, r, c in np.ndindex(asked.shape):
            near = np.einsum("iorc,orc->i", wx, x[n, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2])
            asked[n, r, c] = psi[0, :, 0, 0] @ np.maximum(near + wg[:, :, 0, 0] @ g[n, :, r, c] + bg, 0) + bias[0]
        there = 1 / (1 + np.exp(-asked))
        np.testing.assert_allclose(found[:, 0, 0, 0], there[:, 0, 0], rtol=1e-4)  # a corner is no mixture
        np.testing.assert_allclose(found[:, 0, 1, 1], (there[:, :2, :2] * np.outer([0.75, 0.25], [0.75, 0.25])).sum((1, 2)), rtol=1e-4)
        torch.testing.assert_close(gate(skip, gating), gate.out(skip * found))


@pytest.mark.parametrize(("encoder", "gates"), [("resnet50", 3), (SWIN, 2)])
def test_every_skip_but_the_finest_goes_through_a_gate(encoder: str, gates: int) -> None:
    model = segmenter(None, MAE, EvaluateConfig(side=64, architecture="attention_unet", encoder=encoder))
    assert [isinstance(block, Gated) for block in model.network.decoder.blocks] == [True] * gates + [False] * (5 - gates)
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(weights.grad is not None for weights in model.network.decoder.parameters())
    assert all(block.gate.psi.weight.grad.any() for block in model.network.decoder.blocks[:gates])


def test_a_closed_gate_leaves_nothing_of_a_skip() -> None:
    gate = AttentionGate(8, 6).eval()
    torch.nn.init.constant_(gate.psi.bias, -100)
    low, high = (gate(factor * torch.ones(1, 8, 4, 4), torch.zeros(1, 6, 2, 2)) for factor in (1.0, 9.0))
    torch.testing.assert_close(low, high)


@pytest.mark.parametrize(
    ("recipe", "vit"),
    [
        (TrainConfig(mae=MAEConfig(size="small", side=96, token=8)), ViT("small", 8)),
        (TrainConfig(architecture="simclr", simclr=SimCLRConfig(encoder="vit_base_patch32_224.augreg_in21k")), ViT("base", 32)),
        (TrainConfig(architecture="simclr", simclr=SimCLRConfig(encoder="vit_base_patch16_clip_224")), None),
        (TrainConfig(architecture="simclr"), None),
    ],
)
def test_a_plain_vit_is_known_by_its_name(recipe: TrainConfig, vit: ViT | None) -> None:
    assert vit_of(recipe) == vit


def test_weights_of_a_classifier_are_left_out_of_a_unets_encoder() -> None:
    torch.manual_seed(1)
    state = timm.create_model("resnet18").state_dict()
    model = segmenter(state, MAE, EvaluateConfig(side=64, architecture="unet", encoder="resnet18"))
    assert torch.equal(model.encoder.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize(
    ("lost", "added", "told"),
    [
        ("norm.bias", {}, "the encoder's weights lack 1 of 150 tensors, such as norm.bias"),
        ("", {"mask_token": (1,)}, "the encoder's weights have unknown 1 of 150 tensors, such as mask_token"),
        ("", {"cls_token": (1, 1, 384)}, r"weights cls_token have the shape \(1, 1, 384\), expected \(1, 1, 192\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(lost: str, added: dict[str, tuple[int, ...]], told: str) -> None:
    state = {name: weights for name, weights in vit(0).state_dict().items() if name != lost}
    with pytest.raises(ValueError, match=told):
        segmenter(state | {name: torch.zeros(shape) for name, shape in added.items()}, MAE, EvaluateConfig(side=96))


@pytest.mark.parametrize(
    ("mae", "config", "told"),
    [
        (MAEConfig(side=96, token=12), EvaluateConfig(side=96), "token=12 has no DPT: tokens of 8, 14, 16, 32 px do"),
        (MAE, EvaluateConfig(side=112), "evaluate.side=112 must be a multiple of 32 for tokens of 16 px"),
        (MAEConfig(side=224, token=14), EvaluateConfig(side=256), "evaluate.side=256 must be a multiple of 28 for tokens of 14 px"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(mae: MAEConfig, config: EvaluateConfig, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        segmenter(None, mae, config)


def test_every_encoder_one_may_name_is_there() -> None:
    assert set(get_args(CNN)) <= set(smp.encoders.get_encoder_names())
    assert all(timm.is_model(name) for name in get_args(Swin))
