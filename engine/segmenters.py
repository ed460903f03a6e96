"""Networks that draw a mask around a given encoder: DPT on a ViT, U-Net with or without attention gates on a CNN or a Swin.

All but the gates are of segmentation-models-pytorch. No weights are fetched: an encoder has those it is given, or random ones.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from torch import Tensor, nn

from engine import vits
from engine.models import EvaluateConfig, MAEConfig, TrainConfig, ViTSize, check_dpt
from engine.pictures import MEAN, STD

CLASSIFIERS = ("head.", "fc.", "fc_norm.")  # of checkpoints trained on labels: no part of the encoder
POOLED = ("norm.",)  # of a Swin: after its last map, for what pools it


class ViT(NamedTuple):
    """What a DPT is told of the vision transformer that it stands on."""

    size: ViTSize
    token: int  # px


class Segmenter(nn.Module):
    """(B, 3, side, side) RGB from 0 to 1 in, logits (B, K, side, side) out; a frozen encoder stays in eval mode.

    K is 1 for one class, whose logit is that of the foreground, else the number of classes and one more for the background.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, frozen: bool) -> None:
        super().__init__()
        self.network, self.frozen = network, frozen
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.encoder.requires_grad_(not frozen)

    @property
    def encoder(self) -> Any:
        """The encoder inside the network."""
        return self.network.encoder

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, side, side) of images (B, 3, side, side)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        if logits.shape[-2:] != images.shape[-2:]:  # tokens of 14 px: DPT draws 16 pixels a token
            logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits

    def train(self, mode: bool = True) -> "Segmenter":
        """As torch's, but that a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def segmenter(state: Mapping[str, Tensor] | None, vit: MAEConfig | ViT, config: EvaluateConfig, classes: int = 1) -> Segmenter:
    """The network of `config` around an encoder with the weights of `state`; None: random ones, the baseline without pre-training.

    `state` is named as in timm (ViT, Swin) or smp (CNN), whose ResNets have timm's names. What a ViT or a Swin learnt of places at another
    image side is resampled. ValueError, one sentence, for a side or token the network cannot take, or weights that do not fit.
    """
    maps = 1 if classes == 1 else classes + 1
    network = dpt(vit, config.side, maps) if config.architecture == "dpt" else unet(config, maps)
    if state is not None:
        load(network.encoder, state)
    return Segmenter(network, config.frozen)


def vit_of(recipe: TrainConfig) -> ViT | None:
    """The plain vision transformer that a pre-training trains; None: a CNN, a Swin or another kind of ViT, on which no DPT is built."""
    if recipe.architecture == "mae":
        return ViT(recipe.mae.size, recipe.mae.token)
    named = vits.PLAIN.fullmatch(recipe.simclr.encoder)
    return ViT(named[1], int(named[2])) if named and vits.plain(named[1]) else None


def dpt(vit: MAEConfig | ViT, side: int, maps: int) -> Any:
    """DPT (arXiv 2103.13413) with mmsegmentation's widths for ViT-B; smaller ViTs keep the proportions (our choice: five times faster)."""
    check_dpt(vit.token, side)
    shape = vits.shape(vit.size)
    width = shape.width
    widths = (width // 8, width // 4, width // 2, width)
    fused = min(256, width // 3)
    network = smp.DPT(
        f"tu-{shape.network}",
        encoder_weights=None,
        decoder_intermediate_channels=widths,
        decoder_fusion_channels=fused,
        classes=maps,
        img_size=side,
        patch_size=vit.token,
        num_classes=0,
        **shape.arguments,
    )
    if vit.token == 14:  # smp scales by token / 16, which is whole for powers of two only; draw as if tokens had 16 px
        again = type(network.decoder)(network.encoder.out_channels, (16,) * 4, intermediate_channels=widths, fusion_channels=fused)
        network.decoder = again
        network.initialize()
    return network


def unet(config: EvaluateConfig, maps: int) -> Any:
    """U-Net (arXiv 1505.04597) as of smp, on one of its CNNs or timm's Swin, whose coarsest half of the decoder has no skip to 1/2.

    On a Swin this is no Swin-Unet (arXiv 2105.05537), whose decoder is made of Swin blocks too: smp's is one of convolutions.
    """
    swin = config.encoder.startswith("swin")
    told = {"img_size": config.side} if swin else {}
    network = smp.Unet("tu-" * swin + config.encoder, encoder_weights=None, classes=maps, **told)
    return gated(network) if config.architecture == "attention_unet" else network


def gated(network: Any) -> Any:
    """The U-Net with an attention gate on every skip but the finest, which the paper too lets through: it says little of what is seen."""
    blocks = network.decoder.blocks
    skips = [*network.encoder.out_channels[-2:0:-1], 0]
    finest = max(place for place, channels in enumerate(skips) if channels)
    for place, skip in enumerate(skips[:finest]):
        blocks[place] = Gated(blocks[place], AttentionGate(skip, blocks[place].conv1[0].in_channels - skip))
    return network


class AttentionGate(nn.Module):
    """How much each place of a skip lets through, asked of the coarser features `gating`: Oktay et al., arXiv 1804.03999, Eq. 1 and 2.

    What the equations leave open is as in the authors' code (GridAttentionBlock2D): the skip comes to the grid of the gating by 2x2 pixels
    of stride 2, half its channels lie between, one coefficient a place comes back bilinearly, and a 1x1 with batch norm follows.
    """

    def __init__(self, skip: int, gating: int) -> None:
        super().__init__()
        self.of_skip = nn.Conv2d(skip, skip // 2, 2, stride=2, bias=False)
        self.of_gating = nn.Conv2d(gating, skip // 2, 1)
        self.psi = nn.Conv2d(skip // 2, 1, 1)
        self.out = nn.Sequential(nn.Conv2d(skip, skip, 1), nn.BatchNorm2d(skip))
        for one in self.modules():
            if isinstance(one, nn.Conv2d):
                nn.init.kaiming_normal_(one.weight)

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """(B, skip, 2h, 2w) and (B, gating, h, w) to the shape of the first."""
        let_through: Tensor = self.out(skip * self.coefficients(skip, gating))
        return let_through

    def coefficients(self, skip: Tensor, gating: Tensor) -> Tensor:
        """(B, 1, 2h, 2w), from 0 to 1."""
        found = torch.sigmoid(self.psi(F.relu(self.of_skip(skip) + self.of_gating(gating))))
        return F.interpolate(found, size=skip.shape[-2:], mode="bilinear", align_corners=False)


class Gated(nn.Module):
    """A block of smp's decoder that sees its skip through a gate."""

    def __init__(self, block: nn.Module, gate: AttentionGate) -> None:
        super().__init__()
        self.block, self.gate = block, gate

    def forward(self, feature_map: Tensor, target_height: int, target_width: int, skip_connection: Tensor) -> Tensor:
        """The block's features at the target's size, from (B, C, h, w) and a skip that passed the gate."""
        made: Tensor = self.block(feature_map, target_height, target_width, self.gate(skip_connection, feature_map))
        return made


def load(encoder: Any, state: Mapping[str, Tensor]) -> None:
    """Put `state` into the encoder, every weight of it; ValueError names the first ones that are missing, unknown or misshapen."""
    inner = getattr(encoder, "model", encoder)  # of timm, inside smp's
    expected = inner.state_dict()
    given = suited({name: weights for name, weights in state.items() if not name.startswith(CLASSIFIERS)}, inner)
    for names, word in ((expected.keys() - given.keys(), "lack"), (given.keys() - expected.keys(), "have unknown")):
        if names:
            raise ValueError(
                f"the encoder's weights {word} {len(names)} of {len(expected)} tensors, such as {', '.join(sorted(names)[:3])}"
            )
    for name, weights in given.items():
        if weights.shape != expected[name].shape:
            raise ValueError(f"the encoder's weights {name} have the shape {tuple(weights.shape)}, expected {tuple(expected[name].shape)}")
    inner.load_state_dict(given)


def suited(given: dict[str, Tensor], inner: Any) -> dict[str, Tensor]:
    """The same weights, with those of places for the grid of `inner`, and of a Swin those of its maps under the names they have there."""
    if hasattr(inner, "pos_embed") and "pos_embed" in given:
        given["pos_embed"] = positions(given["pos_embed"], inner)
    if not any(name.startswith("layers_0.") for name in inner.state_dict()):
        return given
    named = {re.sub(r"^layers\.", "layers_", name): weights for name, weights in given.items() if not name.startswith(POOLED)}
    for name, module in inner.named_modules():
        table = f"{name}.relative_position_bias_table"
        if table in named:
            shape = module.relative_position_bias_table.shape
            named[table] = resize_rel_pos_bias_table(named[table], new_window_size=module.window_size, new_bias_shape=shape)
    return named


def positions(embedding: Tensor, vit: Any) -> Tensor:
    """(1, 1 + tokens, width) for the grid of `vit`: bicubic from the square grid it was learnt on, as timm does it."""
    resampled: Tensor = resample_abs_pos_embed(embedding, new_size=list(vit.patch_embed.grid_size), num_prefix_tokens=1)
    return resampled
