"""What a segmenter is trained to make small, over the pixels that count.

Logits (B, K, H, W), K as `segmenters.Segmenter` has it; labels (B, H, W) int64 class numbers, IGNORE where a pixel counts nowhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.datasets import IGNORE
from engine.models import EvaluateConfig

SMOOTH = 1e-5  # of the Dice loss: keeps a class that is nowhere from dividing by nothing


def loss(logits: Tensor, labels: Tensor, config: EvaluateConfig) -> Tensor:
    """The loss of a batch, a scalar, in float32 whatever the logits are; a batch of ignored pixels alone has none: 0."""
    return {"cross_entropy": cross_entropy, "dice": dice}[config.loss](logits.float(), labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the pixels that count of -log of the probability of what is true there; of one class the binary one.

    Logits (B, maps, H, W), labels (B, H, W); a scalar.
    """
    counts = labels != IGNORE
    if logits.shape[1] == 1:
        each = F.binary_cross_entropy_with_logits(logits[:, 0], (labels == 1).to(logits.dtype), reduction="none") * counts
    else:
        each = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    return each.sum() / counts.sum().clamp(min=1)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """1 less the mean over the classes, background among them, of (2 sum(y p) + s) / (sum(y) + sum(p^2) + s) over all pixels of a batch.

    That is DiceLoss of arXiv 2410.18677 in its configurations (batchwise, with background, s = 1e-5). segmentation-models-pytorch's has
    sum(p) for the square, leaves out the background of one class, and counts a class that is nowhere as solved. Logits (B, maps, H, W),
    labels (B, H, W); a scalar.
    """
    counts = (labels != IGNORE)[:, None]
    shares = torch.cat([-logits, logits], 1).sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
    shares = shares * counts
    true = torch.arange(shares.shape[1], device=labels.device).view(1, -1, 1, 1) == labels[:, None]
    hit, drawn = (shares * true).sum((0, 2, 3)), (shares**2).sum((0, 2, 3))
    each = (2 * hit + SMOOTH) / (true.sum((0, 2, 3)) + drawn + SMOOTH)
    solved: Tensor = each.mean()
    return (1 - solved) * counts.any()
