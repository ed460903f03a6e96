"""The mask decoder of SAM in a quarter of its time: the same weights, the same numbers, fewer operations.

SAM (arXiv 2304.02643, appendix A) lets a few prompt tokens (T = 7) and the image's tokens (L = 4096) attend to each other in two
blocks. Its code projects all L image tokens to queries, keys and values for every prompt. Two facts make most of that needless:
every prompt begins with the same image tokens, and with T far below L it is cheaper to carry the projections over to the side of
the prompt, (q Wq)(k Wk)' = ((q Wq) Wk') k'. Its transposed convolutions of stride 2 are products of matrices, token by token.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = {"cpu": 4, "cuda": 64}  # prompts at a time: 4 x 4 MB of image tokens stay in a CPU's cache, 16 took twice the time


class MaskDecoder(nn.Module):
    """Stands in for `original`, the MaskDecoder of segment-anything or of a package that vendors it, where no prompt is a mask."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original

    def forward(
        self,
        image_embeddings: Tensor,  # (1, C, h, w)
        image_pe: Tensor,  # (1, C, h, w)
        sparse_prompt_embeddings: Tensor,  # (B, n, C)
        dense_prompt_embeddings: Tensor,  # (B, C, h, w), the same for all B
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, M, 4h, 4w) of M = 3 masks per prompt, or of the single one, and their predicted IoU (B, M)."""
        if len(dense_prompt_embeddings) > 1 and dense_prompt_embeddings.stride(0) != 0:
            raise ValueError("the prompts differ in their dense embeddings: masks as prompts need the original decoder")
        image = (image_embeddings + dense_prompt_embeddings[:1]).flatten(2).transpose(1, 2).contiguous()  # (1, hw, C)
        places = image_pe.flatten(2).transpose(1, 2).contiguous()
        which = slice(1, None) if multimask_output else slice(0, 1)
        chunk = CHUNK.get(image.device.type, 64)
        chunks = [sparse_prompt_embeddings[start : start + chunk] for start in range(0, len(sparse_prompt_embeddings), chunk)]
        masks, ious = zip(*(self.decode(image, places, prompts, which) for prompts in chunks), strict=True)
        return fold(torch.cat(masks), *image_embeddings.shape[2:]), torch.cat(ious)

    def decode(self, image: Tensor, places: Tensor, prompts: Tensor, which: slice) -> tuple[Tensor, Tensor]:
        """Logits (B, M, 16 hw) in the order of `fold`, and predicted IoU (B, M)."""
        model = self.original
        own = torch.cat([model.iou_token.weight, model.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(prompts), -1, -1), prompts], dim=1)
        tokens, image = attend(model.transformer, tokens, image, places)
        masks = tokens[:, 1 : 1 + model.num_mask_tokens][:, which].unbind(1)
        weights = [head(token) for head, token in zip(model.output_hypernetworks_mlps[which], masks, strict=True)]
        features = upscale(model.output_upscaling, image)
        return torch.stack(weights, 1) @ features.transpose(1, 2), model.iou_prediction_head(tokens[:, 0])[:, which]


def attend(transformer: Any, tokens: Tensor, image: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The two-way transformer: tokens (B, T, C) and image (1, L, C) become tokens (B, T, C) and image (B, L, C)."""
    prompt, placed = tokens, image + places
    for block in transformer.layers:
        if block.skip_first_layer_pe:
            tokens = block.self_attn(q=tokens, k=tokens, v=tokens)
        else:
            query = tokens + prompt
            tokens = tokens + block.self_attn(q=query, k=query, v=tokens)
        tokens = block.norm1(tokens)
        tokens = block.norm2(tokens + from_image(block.cross_attn_token_to_image, tokens + prompt, placed, image))
        tokens = block.norm3(tokens + block.mlp(tokens))
        image = block.norm4(image + to_image(block.cross_attn_image_to_token, placed, tokens + prompt, tokens))
        placed = image + places
    seen = from_image(transformer.final_attn_token_to_image, tokens + prompt, placed, image)
    return transformer.norm_final_attn(tokens + seen), image


def from_image(attention: Any, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each token (B, T, C) gathers from the image (1 or B, L, C): (B, T, C).

    The bias of the keys adds the same to all logits of a token, which softmax ignores; that of the values passes through it.
    """
    heads = attention.num_heads
    query = attention.q_proj(tokens).unflatten(-1, (heads, -1))  # (B, T, H, c)
    probe = torch.einsum("bthc,hcd->bhtd", query, by_head(attention.k_proj.weight, heads)).flatten(1, 2)  # (B, HT, C)
    logits = probe @ keys.transpose(1, 2) / query.shape[-1] ** 0.5
    seen = (logits.softmax(-1) @ values).unflatten(1, (heads, -1))  # (B, H, T, C)
    value = torch.einsum("bhtd,hcd->bthc", seen, by_head(attention.v_proj.weight, heads)).flatten(2)
    return torch.as_tensor(attention.out_proj(value + attention.v_proj.bias))


def to_image(attention: Any, image: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each place of the image (1 or B, L, C) gathers from the tokens (B, T, C): (B, L, C)."""
    heads = attention.num_heads
    key = attention.k_proj(keys).unflatten(-1, (heads, -1))  # (B, T, H, c)
    value = attention.v_proj(values).unflatten(-1, (heads, -1))
    probe = torch.einsum("bthc,hcd->bdht", key, by_head(attention.q_proj.weight, heads)).flatten(2)  # (B, C, HT)
    offset = torch.einsum("bthc,hc->bht", key, attention.q_proj.bias.unflatten(0, (heads, -1))).flatten(1)
    logits = (image @ probe + offset[:, None]) / key.shape[-1] ** 0.5  # (B, L, HT)
    shares = logits.unflatten(-1, (heads, -1)).softmax(-1).flatten(2)
    answer = torch.einsum("bthc,dhc->bhtd", value, attention.out_proj.weight.unflatten(1, (heads, -1))).flatten(1, 2)  # (B, HT, C)
    return torch.as_tensor(shares @ answer + attention.out_proj.bias)


def by_head(weight: Tensor, heads: int) -> Tensor:
    return weight.reshape(heads, -1, weight.shape[-1])  # (H, c, C)


def upscale(layers: Any, image: Tensor) -> Tensor:
    """Features (B, 16 L, c) of the sixteen pixels of every image token (B, L, C)."""
    first, norm, activate, second, activate_again = layers
    features = split(first, image)
    features = activate(F.layer_norm(features, features.shape[-1:], norm.weight, norm.bias, norm.eps))
    return torch.as_tensor(activate_again(split(second, features)))


def split(convolution: Any, tokens: Tensor) -> Tensor:
    """A transposed convolution with kernel and stride 2: every token (B, N, C) becomes four (B, 4 N, c)."""
    weight = convolution.weight.permute(2, 3, 1, 0)  # (2, 2, c, C)
    split_up = F.linear(tokens, weight.flatten(0, 2), convolution.bias.repeat(4))
    return split_up.reshape(len(tokens), -1, weight.shape[2])


def fold(masks: Tensor, height: int, width: int) -> Tensor:
    """Pixels (B, M, h w 2 2 2 2) of tokens split twice as pictures (B, M, 4 h, 4 w)."""
    cells = masks.reshape(*masks.shape[:2], height, width, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return cells.reshape(*masks.shape[:2], 4 * height, 4 * width)
