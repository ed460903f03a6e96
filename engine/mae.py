"""A masked autoencoder: rebuild an image from the few tokens of it that are left visible (He et al., arXiv 2111.06377).

The model and its words are the paper's, the weights' names those of facebookresearch/mae, so that its checkpoints load; the
blocks are timm's. B images, L tokens each, S pixels a side, p pixels a token's side, D the encoder's width.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import pad

from engine import vits, weights
from engine.models import MAEConfig
from engine.pictures import MEAN, STD


class MAE(nn.Module):
    """An encoder that sees only the visible tokens and a light decoder that rebuilds the removed ones; ValueError for an unknown size."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        shape, narrow = vits.shape(config.size), config.decoder_width
        width = shape.width
        self.config = config
        layer_norm = partial(nn.LayerNorm, eps=1e-6)
        block = partial(Block, qkv_bias=True, norm_layer=layer_norm)

        self.patch_embed = PatchEmbed(config.side, config.token, 3, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = fixed(positions(width, config.side // config.token))
        self.blocks = nn.ModuleList([block(width, shape.heads, mlp_ratio=shape.ratio) for _ in range(shape.depth)])
        self.norm = layer_norm(width)

        self.decoder_embed = nn.Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_pos_embed = fixed(positions(narrow, config.side // config.token))
        self.decoder_blocks = nn.ModuleList([block(narrow, config.decoder_heads) for _ in range(config.decoder_depth)])
        self.decoder_norm = layer_norm(narrow)
        self.decoder_pred = nn.Linear(narrow, config.token**2 * 3)
        self.initialise()

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of every image (B,), the prediction (B, L, p*p*3) and the mask (B, L), 1 where a token was removed.

        `images` (B, 3, S, S) are floats normalised by ImageNet's mean and deviation; the tokens with the smallest `noise`
        (B, L) stay visible. The official loss is the mean of this one over the images.
        """
        latent, mask, ids_restore = self.forward_encoder(images, noise)
        prediction = self.forward_decoder(latent, ids_restore)
        return self.forward_loss(images, prediction, mask), prediction, mask

    def errors(self, images: Tensor, noise: Tensor) -> Tensor:
        """The losses of `forward` for n draws of masks, to rounding and sooner: (B, 3, S, S) and noise (B, n, L) -> (B, n).

        The draws share the embedding and one pass of the encoder. The decoder takes the tokens as the shuffle left them, since only
        their positions tell them apart, and ends with the removed ones alone. Under autocast what flows between the blocks is in its
        precision, too: cast at every layer it took a twentieth longer.
        """
        tokens, target, seen = as_multiplied(self.embed(images)), self.target(images), self.config.visible
        orders = [shuffle(tokens, draw) for draw in noise.unbind(1)]
        latents = self.transform(torch.cat([take(tokens, order[:, :seen]) for order in orders])).chunk(len(orders))
        predictions = map(self.predict_removed, latents, orders)
        errors = [(made - take(target, order[:, seen:])) ** 2 for made, order in zip(predictions, orders, strict=True)]
        return torch.stack([error.mean((1, 2)) for error in errors], 1)

    def encode(self, images: Tensor) -> Tensor:
        """The tokens (B, L+1, D) of unmasked `images` (B, 3, S, S) after the last norm; the first is the class token."""
        return self.transform(self.embed(images))

    def forward_encoder(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Visible tokens (B, V, width) of images (B, 3, H, W), the mask (B, N) with 1 for removed, and ids_restore (B, N)."""
        visible, mask, ids_restore = random_masking(self.embed(images), noise, self.config.visible)
        return self.transform(visible), mask, ids_restore

    def embed(self, images: Tensor) -> Tensor:
        """Tokens with their positions, no class token: (B, 3, S, S) -> (B, L, D)."""
        side = self.config.side
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(f"the masked autoencoder got images of shape {tuple(images.shape)}, expected (B, 3, {side}, {side})")
        tokens: Tensor = self.patch_embed(images)
        return tokens + self.pos_embed[:, 1:]

    def transform(self, tokens: Tensor) -> Tensor:
        """Put the class token in front, run the blocks and the norm: (B, n, D) -> (B, n+1, D)."""
        cls_token = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        x = torch.cat([cls_token.to(tokens.dtype), tokens], dim=1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def forward_decoder(self, latent: Tensor, ids_restore: Tensor) -> Tensor:
        """Fill mask tokens in where tokens were removed and predict the pixels of all: (B, n+1, D) -> (B, L, p*p*3)."""
        x = self.decoder_embed(latent)
        removed = ids_restore.shape[1] + 1 - x.shape[1]
        shuffled = torch.cat([x[:, 1:], self.mask_token.expand(len(x), removed, -1)], dim=1)
        restored = take(shuffled, ids_restore)
        x = torch.cat([x[:, :1], restored], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        prediction: Tensor = self.decoder_pred(self.decoder_norm(x))
        return prediction[:, 1:]

    def predict_removed(self, latent: Tensor, ids_shuffle: Tensor) -> Tensor:
        """The pixels of the removed tokens as the shuffle ordered them: (B, n+1, D) and ids (B, L) -> (B, L-n, p*p*3)."""
        removed = ids_shuffle.shape[1] + 1 - latent.shape[1]
        mask_tokens = self.mask_token.expand(len(latent), removed, -1)
        places = self.decoder_pos_embed[0, pad(ids_shuffle + 1, (1, 0))]  # the class token is number 0
        x = as_multiplied(torch.cat([self.decoder_embed(latent), mask_tokens], dim=1) + places)
        *blocks, last = list[Any](self.decoder_blocks)
        for block in blocks:
            x = block(x)
        x = (x + last.attn(last.norm1(x)))[:, -removed:]
        x = x + last.mlp(last.norm2(x))
        prediction: Tensor = self.decoder_pred(self.decoder_norm(x))
        return prediction

    def forward_loss(self, images: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error over the removed tokens of every image: (B,)."""
        error = ((prediction - self.target(images)) ** 2).mean(-1)
        return (error * mask).sum(1) / mask.sum(1)

    def target(self, images: Tensor) -> Tensor:
        """What is to be predicted: the pixels, or with norm_pix those of every token by its own mean and deviation: (B, L, p*p*3)."""
        target = patchify(images, self.config.token)
        if self.config.norm_pix:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        return target

    def initialise(self) -> None:
        """The official initialisation: Xavier for everything linear, the token embedding included; 0.02 for the two tokens."""
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.patch_embed.proj.weight.shape[0], -1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)


def random_masking(tokens: Tensor, noise: Tensor, visible: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `visible` tokens of smallest noise (B, visible, D), the mask (B, L), 1 where removed, and ids_restore (B, L).

    `ids_restore` undoes the shuffle: the token at place i is number ids_restore[i] of visible and removed ones in a row.
    """
    ids_shuffle = shuffle(tokens, noise)
    ids_restore = ids_shuffle.argsort(dim=1)
    mask = (ids_restore >= visible).to(tokens.dtype)
    return take(tokens, ids_shuffle[:, :visible]), mask, ids_restore


def shuffle(tokens: Tensor, noise: Tensor) -> Tensor:
    """The numbers of the tokens (B, L, D) in the order of their noise (B, L): what stays visible comes first.

    ValueError for noise of another shape.
    """
    if noise.shape != tokens.shape[:2]:
        raise ValueError(f"the masked autoencoder got noise of shape {tuple(noise.shape)}, expected {tuple(tokens.shape[:2])}")
    return noise.argsort(dim=1, stable=True)  # stable: equal noise must not mean another mask on another device


def as_multiplied(tokens: Tensor) -> Tensor:
    """The tokens in the precision in which autocast multiplies, as they are without it. (..., D)."""
    device = tokens.device.type
    return tokens.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tokens


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """The tokens of every image that `ids` (B, n) names, in that order: (B, n, D)."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def patchify(images: Tensor, token: int) -> Tensor:
    """(B, 3, S, S) -> (B, L, p*p*3): tokens in reading order, inside a token rows, then columns, then colours."""
    count, _, height, width = images.shape
    x = images.reshape(count, 3, height // token, token, width // token, token)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, token * token * 3)


def unpatchify(tokens: Tensor, token: int) -> Tensor:
    """(B, L, p*p*3) -> (B, 3, S, S): what `patchify` cut, put together again; the image is square."""
    count, grid = len(tokens), round(tokens.shape[1] ** 0.5)
    x = tokens.reshape(count, grid, grid, token, token, 3)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(count, 3, grid * token, grid * token)


def normalise(images: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """Pixels as the model wants them, by ImageNet's mean and deviation: (B, H, W, 3) uint8 -> (B, 3, H, W) float32 on the device.

    Bytes travel to a GPU, a quarter of what floats would be, and the work is done there. ValueError for anything else.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"normalise got {images.dtype} of shape {images.shape}, expected uint8 of shape (B, H, W, 3)")
    given = torch.tensor(np.ascontiguousarray(images))
    there = given.pin_memory().to(device, non_blocking=True) if device == "cuda" else given
    mean, deviation = (torch.tensor(of, device=device).view(3, 1, 1) for of in (MEAN, STD))
    return (there.permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def positions(width: int, grid: int) -> Tensor:
    """Fixed sine and cosine positions (1, grid*grid + 1, width): one half of the width for the column, one for the row.

    The class token comes first and has the position zero.
    """
    omega = 10000.0 ** -(np.arange(width // 4) / (width // 4))
    axis = np.arange(grid)[:, None] * omega  # (grid, width / 4)
    waves = np.concatenate([np.sin(axis), np.cos(axis)], axis=1)
    columns, rows = np.tile(waves, (grid, 1)), np.repeat(waves, grid, axis=0)  # columns first, as in the official weights
    table = np.concatenate([np.zeros((1, width)), np.concatenate([columns, rows], axis=1)])
    return torch.from_numpy(table.astype(np.float32))[None]


def fixed(table: Tensor) -> nn.Parameter:
    """A weight that is stored with the model and never trained."""
    return nn.Parameter(table, requires_grad=False)


def timm_state(model: MAE) -> dict[str, Tensor]:
    """The encoder's weights under the names of timm's VisionTransformer, for a strict load.

    They fit `timm.create_model("vit_base_patch16_224", num_classes=0)` and, for mean pooling, `global_pool="avg",
    fc_norm=False`, which norms the tokens before it averages them. `vits.shape` has the name of every size.
    """
    return {name: weight.detach().cpu() for name, weight in model.state_dict().items() if name.startswith(vits.PARTS)}


def fingerprint(model: MAE) -> str:
    """Twelve hex digits that change when any weight or setting does."""
    return weights.fingerprint(model.state_dict(), weights.knobs_of(model.config))


def save(model: MAE, uri: str) -> None:
    """Write weights and config to a path or address, as `load` reads them."""
    weights.save(model, "mae", model.config, uri)


def load(path: str, config: MAEConfig) -> MAE:
    """The model of a checkpoint: one of `save`, an official .pth, or Hugging Face's ViTMAE (its folder or its weights).

    What it is shows in its content. FileNotFoundError where nothing is, ValueError where it is something else than `config`
    describes, but for mask_ratio, on which no weight depends. Weights do not tell norm_pix: score with the setting the checkpoint was
    trained with.
    """
    state, told = read(path, config)
    weights.same({name: value for name, value in told.items() if name != "mask_ratio"}, settings(config), path)
    with torch.device("meta"):
        model = MAE(config)  # no memory and no random numbers for weights that are replaced at once
    weights.fits(state, model.state_dict(), path)
    copies = {name: weight.to(torch.float32, copy=True) for name, weight in state.items()}  # not the file's memory, which may change
    model.load_state_dict(copies, assign=True)
    return model


def read(path: str, config: MAEConfig) -> tuple[weights.State, dict[str, object]]:
    """Weights under their official names, and `settings` of their model, of `config` where the file does not tell them.

    FileNotFoundError and ValueError as of `load`, which also looks whether the two are of one model.
    """
    state, told = weights.read(path)
    return state, settings(config) | told


def settings(config: MAEConfig) -> dict[str, object]:
    """The knobs of a model, with the number of the encoder's heads, which its size tells."""
    return config.model_dump(mode="json") | {"heads": vits.shape(config.size).heads}
