"""The attention of SAM's image encoder in a quarter of its time: the same numbers, never all of its weights in memory at once.

SAM's encoder is a ViT in whose last block of every three each of 4,096 tokens attends to all others, with a bias for the distance in rows
and one for that in columns (arXiv 2304.02643, appendix A; arXiv 2112.01526, Eq. 4). Its code makes twelve tables of 4096 x 4096 numbers,
then two more with a bias added, then their softmax: 800 MB each, read from and written to memory again and again.
"""

from typing import Any

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

ROOM = 1 << 20  # attention weights at a time: 4 MB stay in a processor's cache


class Attention(nn.Module):
    """Stands in for `original`, the Attention of segment-anything's ImageEncoderViT with its biases of distance."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, C) to the same."""
        batch, height, width, _ = tokens.shape
        heads = self.original.num_heads
        parts = self.original.qkv(tokens).reshape(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4).flatten(1, 2)
        query, key, value = (part.contiguous() for part in parts)  # (B heads, hw, c)
        down, across = distances(self.original, query, height, width)
        attended = (at_once if tokens.is_cuda else in_pieces)(query, key * self.original.scale, value, down, across)
        attended = attended.view(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4).reshape(batch, height, width, -1)
        return torch.as_tensor(self.original.proj(attended))


def distances(attention: Any, query: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What the distance in rows (N, hw, h, 1) and that in columns (N, hw, 1, w) adds to the logits of queries (N, hw, c)."""
    grid = query.view(len(query), height, width, -1)
    down = torch.einsum("nhwc,hkc->nhwk", grid, get_rel_pos(height, height, attention.rel_pos_h))
    across = torch.einsum("nhwc,wkc->nhwk", grid, get_rel_pos(width, width, attention.rel_pos_w))
    return down.flatten(1, 2)[..., None], across.flatten(1, 2)[..., None, :]


def at_once(query: Tensor, key: Tensor, value: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """By torch's fused kernel."""
    bias = (down + across).flatten(2).to(query.dtype)
    return scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=bias[None], scale=1.0)[0]


def in_pieces(query: Tensor, key: Tensor, value: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """As many heads, or rows of one head, as fit a cache; the fused kernel took twice the time with a bias."""
    count, length = query.shape[:2]
    heads, rows = max(1, ROOM // length**2), max(1, ROOM // length)
    keys = key.transpose(1, 2)
    attended = torch.empty_like(query)
    for head in range(0, count, heads):
        for row in range(0, length, rows):
            piece = slice(head, head + heads), slice(row, row + rows)
            weights = query[piece] @ keys[piece[0]]
            by_place = weights.view(*weights.shape[:2], down.shape[2], across.shape[3])
            by_place += down[piece]
            by_place += across[piece]
            attended[piece] = weights.softmax(-1) @ value[piece[0]]
    return attended
