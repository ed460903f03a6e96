"""Networks that draw a mask around a given encoder: DPT on a ViT, U-Net on a CNN, both of segmentation-models-pytorch.

No weights are fetched: an encoder has those it is given, or random ones.
"""

from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from engine.config import EvaluateConfig, check_dpt
from engine.models import MAEConfig

VITS = {
    "tiny": ("vit_tiny_patch16_224", 192),
    "small": ("vit_small_patch16_224", 384),
    "base": ("vit_base_patch16_224", 768),
    "large": ("vit_large_patch16_224", 1024),
    "huge": ("vit_huge_patch14_224", 1280),
}
CLASSIFIERS = ("head.", "fc.", "fc_norm.")  # of checkpoints trained on labels: no part of the encoder


class Segmenter(nn.Module):
    """(B, 3, side, side) RGB from 0 to 1 in, (B, 1, side, side) foreground logits out; a frozen encoder stays in eval mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, frozen: bool) -> None:
        super().__init__()
        self.network, self.frozen = network, frozen
        self.register_buffer("mean", torch.tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_DEFAULT_STD).view(3, 1, 1))
        self.encoder.requires_grad_(not frozen)

    @property
    def encoder(self) -> Any:
        return self.network.encoder

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        if logits.shape[-2:] != images.shape[-2:]:  # tokens of 14 px: DPT draws 16 pixels a token
            logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def segmenter(state: Mapping[str, Tensor] | None, mae: MAEConfig, config: EvaluateConfig) -> Segmenter:
    """The network of `config` around an encoder with the weights of `state`; None: random ones, the baseline without pre-training.

    `state` is named as timm's VisionTransformer (DPT) or as smp's encoder (U-Net). Position embeddings of another image side are
    resampled. ValueError, one sentence, for a side or token the network cannot take, or weights that do not fit.
    """
    network = dpt(mae, config.side) if config.architecture == "dpt" else unet(config.encoder)
    if state is not None:
        load(network.encoder.model if config.architecture == "dpt" else network.encoder, state)
    return Segmenter(network, config.frozen)


def dpt(mae: MAEConfig, side: int) -> Any:
    """DPT (arXiv 2103.13413) with mmsegmentation's widths for ViT-B; smaller ViTs keep the proportions (our choice: five times faster)."""
    check_dpt(mae.token, side)
    name, width = VITS[mae.size]
    widths = (width // 8, width // 4, width // 2, width)
    fused = min(256, width // 3)
    network = smp.DPT(
        f"tu-{name}",
        encoder_weights=None,
        decoder_intermediate_channels=widths,
        decoder_fusion_channels=fused,
        img_size=side,
        patch_size=mae.token,
        num_classes=0,
    )
    if mae.token == 14:  # smp scales by token / 16, which is whole for powers of two only; draw as if tokens had 16 px
        again = type(network.decoder)(network.encoder.out_channels, (16,) * 4, intermediate_channels=widths, fusion_channels=fused)
        network.decoder = again
        network.initialize()
    return network


def unet(encoder: str) -> Any:
    """U-Net (arXiv 1505.04597) as of smp, on one of its encoders."""
    return smp.Unet(encoder, encoder_weights=None)


def load(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put `state` into the encoder, every weight of it; ValueError names the first ones that are missing, unknown or misshapen."""
    expected = encoder.state_dict()
    given = {name: weights for name, weights in state.items() if not name.startswith(CLASSIFIERS)}
    if "pos_embed" in given and "pos_embed" in expected:
        given["pos_embed"] = positions(given["pos_embed"], encoder)
    for names, word in ((expected.keys() - given.keys(), "lack"), (given.keys() - expected.keys(), "have unknown")):
        if names:
            raise ValueError(
                f"the encoder's weights {word} {len(names)} of {len(expected)} tensors, such as {', '.join(sorted(names)[:3])}"
            )
    for name, weights in given.items():
        if weights.shape != expected[name].shape:
            raise ValueError(f"the encoder's weights {name} have the shape {tuple(weights.shape)}, expected {tuple(expected[name].shape)}")
    encoder.load_state_dict(given)


def positions(embedding: Tensor, vit: Any) -> Tensor:
    """(1, 1 + tokens, width) for the grid of `vit`: bicubic from the square grid it was learnt on, as timm does it."""
    resampled: Tensor = resample_abs_pos_embed(embedding, new_size=list(vit.patch_embed.grid_size), num_prefix_tokens=1)
    return resampled
