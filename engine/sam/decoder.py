"""The mask decoder of SAM in a fraction of its time: the same weights, the same numbers, fewer operations.

SAM (arXiv 2304.02643, appendix A) lets a few prompt tokens (T = 7) and the image's tokens (L = 4096) attend to each other in two
blocks. Its code projects all L image tokens to queries, keys and values for every prompt, and draws every mask before it looks at the
predicted IoU. Most of that is needless: with T far below L it is cheaper to carry the projections over to the side of the prompt,
(q Wq)(k Wk)' = ((q Wq) Wk') k'; the predicted IoU is known before the masks are drawn, so only those that count are, and only where the
picture is, not in its padding. Transposed convolutions of stride 2 are products of matrices, token by token.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.room import Room

CHUNK = {"cpu": 4, "cuda": 64}  # prompts at a time: 4 x 4 MB of image tokens stay in a CPU's cache, 16 took twice the time
Drawn = tuple[Tensor, Tensor, Tensor]  # which masks (K,), as prompt * M + mask; logits (K, 4 rows, 4 columns); predicted IoU (K,)


class Wanted(NamedTuple):
    """Which of the model's four masks of a prompt are looked at, above what predicted IoU, on how many rows and columns of image tokens.

    Those of the extent count from the upper left; None: all.
    """

    which: slice = slice(1, None)
    least: float = float("-inf")
    extent: tuple[int, int] | None = None


EACH = Wanted()


class MaskDecoder(nn.Module):
    """Stands in for `original`, the MaskDecoder of segment-anything or of a package that vendors it, where no prompt is a mask."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original
        self.room = Room(CHUNK.get(next(original.parameters()).device.type, 64), "prompts")

    def forward(
        self,
        image_embeddings: Tensor,  # (1, C, h, w)
        image_pe: Tensor,  # (1, C, h, w)
        sparse_prompt_embeddings: Tensor,  # (B, n, C)
        dense_prompt_embeddings: Tensor,  # (B, C, h, w), the same for all B
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, M, 4h, 4w) of M = 3 masks per prompt, or of the single one, and their predicted IoU (B, M).

        ValueError where masks are the prompts.
        """
        if len(dense_prompt_embeddings) > 1 and dense_prompt_embeddings.stride(0) != 0:
            raise ValueError("the prompts differ in their dense embeddings: masks as prompts need the original decoder")
        which = slice(1, None) if multimask_output else slice(0, 1)
        image = image_embeddings + dense_prompt_embeddings[:1]
        _, logits, ious = zip(*self.drawn(image, image_pe, sparse_prompt_embeddings, Wanted(which)), strict=True)
        shape = (len(sparse_prompt_embeddings), -1)
        return torch.cat(logits).reshape(*shape, *logits[0].shape[1:]), torch.cat(ious).reshape(shape)

    def drawn(
        self,
        image: Tensor,
        places: Tensor,
        prompts: Tensor,
        wanted: Wanted = EACH,
        then: Callable[[Drawn], Any] = lambda drawn: drawn,
    ) -> Iterator[Any]:
        """The masks that are `wanted`, a few prompts at a time.

        Shapes as in `forward`, the dense embedding of "no mask" added to `image`. `then` is done to
        each few while it is decided whether there is room for so many.
        """
        grid = image.shape[2:]
        rows, columns = wanted.extent or tuple(grid)
        tokens = image.flatten(2).transpose(1, 2).contiguous()  # (1, hw, C)
        places = places.flatten(2).transpose(1, 2).contiguous()

        def some(part: slice) -> Any:
            weights, ious, features = self.seen(tokens, places, prompts[part], wanted.which)
            sure = ious > wanted.least
            any_sure = sure.any(1)
            features = features[any_sure].reshape(-1, *grid, features.shape[-1])[:, :rows, :columns].flatten(1, 2)
            logits = weights[any_sure] @ upscale(self.original.output_upscaling, features).transpose(1, 2)
            index = torch.arange(sure.numel(), device=sure.device) + part.start * sure.shape[1]
            return then((index[sure.flatten()], fold(logits[sure[any_sure]].float(), rows, columns), ious[sure]))

        return self.room.over(len(prompts), some)

    def seen(self, image: Tensor, places: Tensor, prompts: Tensor, which: slice) -> tuple[Tensor, Tensor, Tensor]:
        """What the masks of prompts (B, n, C) are drawn from: weights (B, M, c), predicted IoU (B, M), image tokens (B, L, C)."""
        model = self.original
        own = torch.cat([model.iou_token.weight, model.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(prompts), -1, -1), prompts], dim=1)
        wanted = [0, *range(1, 1 + model.num_mask_tokens)[which]]  # the others' last look at the image is never read
        tokens, image = attend(model.transformer, tokens, image, places, wanted)
        heads = model.output_hypernetworks_mlps[which]
        weights = [head(token) for head, token in zip(heads, tokens[:, 1:].unbind(1), strict=True)]
        return torch.stack(weights, 1), model.iou_prediction_head(tokens[:, 0])[:, which].float(), image


def attend(transformer: Any, tokens: Tensor, image: Tensor, places: Tensor, wanted: list[int]) -> tuple[Tensor, Tensor]:
    """The two-way transformer: tokens (B, T, C) and image (1, L, C) become the `wanted` tokens and image (B, L, C)."""
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
        image = block.norm4(to_image(block.cross_attn_image_to_token, placed, tokens + prompt, tokens).add_(image))
        placed = image + places
    tokens, prompt = tokens[:, wanted], prompt[:, wanted]
    seen = from_image(transformer.final_attn_token_to_image, tokens + prompt, placed, image)
    return transformer.norm_final_attn(tokens + seen), image


def from_image(attention: Any, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each token (B, T, C) gathers from the image (1 or B, L, C): (B, T, C).

    The bias of the keys adds the same to all logits of a token, which softmax ignores; that of the values passes through it.
    """
    heads = attention.num_heads
    query = attention.q_proj(tokens).unflatten(-1, (heads, -1))  # (B, T, H, c)
    query = query / query.shape[-1] ** 0.5
    probe = torch.einsum("bthc,hcd->bhtd", query, by_head(attention.k_proj.weight, heads)).flatten(1, 2)  # (B, HT, C)
    seen = ((probe @ keys.transpose(1, 2)).softmax(-1) @ values).reshape(
        len(tokens), heads, tokens.shape[1], values.shape[-1]
    )  # (B, H, T, C)
    value = torch.einsum("bhtd,hcd->bthc", seen, by_head(attention.v_proj.weight, heads)).flatten(2)
    return torch.as_tensor(attention.out_proj(value + attention.v_proj.bias))


def to_image(attention: Any, image: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each place of the image (1 or B, L, C) gathers from the tokens (B, T, C): (B, L, C)."""
    heads = attention.num_heads
    key = attention.k_proj(keys).unflatten(-1, (heads, -1))  # (B, T, H, c)
    key = key / key.shape[-1] ** 0.5
    value = attention.v_proj(values).unflatten(-1, (heads, -1))
    probe = torch.einsum("bthc,hcd->bhtd", key, by_head(attention.q_proj.weight, heads)).flatten(1, 2)  # (B, HT, C)
    offset = torch.einsum("bthc,hc->bht", key, attention.q_proj.bias.unflatten(0, (heads, -1))).flatten(1)
    logits = probe @ image.transpose(1, 2) + offset[..., None]  # (B, HT, L): a softmax over its T is quick, over a last axis of 7 it is not
    shares = logits.view(len(logits), heads, keys.shape[1], logits.shape[-1]).softmax(2).flatten(1, 2)
    answer = torch.einsum("bthc,dhc->bhtd", value, attention.out_proj.weight.unflatten(1, (heads, -1))).flatten(1, 2)  # (B, HT, C)
    return torch.as_tensor(shares.transpose(1, 2) @ answer + attention.out_proj.bias)


def by_head(weight: Tensor, heads: int) -> Tensor:
    """A projection's weight (H c, C) as one matrix a head, (H, c, C)."""
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
    return split_up.reshape(len(tokens), 4 * tokens.shape[1], weight.shape[2])


def fold(masks: Tensor, height: int, width: int) -> Tensor:
    """Pixels (K, h w 2 2 2 2) of tokens split twice as pictures (K, 4 h, 4 w)."""
    cells = masks.reshape(-1, height, width, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return cells.reshape(-1, 4 * height, 4 * width)
