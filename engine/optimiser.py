"""How weights change: AdamW with the rate of MAE's recipe (facebookresearch/mae main_pretrain.py), and the mean that follows them."""

import copy
import math

import torch
from torch import Tensor, nn

from engine.models import TrainConfig


def copied(model: nn.Module) -> nn.Module:
    """A copy that no gradient reaches."""
    return copy.deepcopy(model).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * model, of every weight and running statistic; counts are taken as they are.

    What a model has at several places moves once, as it does in the optimiser: a state_dict names it at each of them.
    """
    for mean, now in zip(once(average), once(model), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)


def once(model: nn.Module) -> list[Tensor]:
    """Every weight, running statistic and count of a model once."""
    return [*model.parameters(), *model.buffers()]


def decay(most: float, step: int) -> float:
    """What stays of the mean at a step, counted from 1: min(most, (1 + step) / (10 + step)), so that it soon forgets the random weights.

    Source: num_updates of TensorFlow's tf.train.ExponentialMovingAverage.
    """
    return min(most, (1 + step) / (10 + step))


def rate(config: TrainConfig, epoch: float) -> float:
    """Learning rate: linear warm-up, then half a cosine to zero; base_lr counts for 256 images."""
    peak = config.base_lr * config.batch / 256
    if epoch < config.warmup_epochs:
        return peak * epoch / config.warmup_epochs
    done = (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
    return peak * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with betas (0.9, 0.95); by timm's add_weight_decay biases and norms do not decay, the tokens of class and mask do."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    free = [weight for name, weight in named if weight.ndim <= 1 or name.endswith(".bias")]
    decays = [weight for name, weight in named if weight.ndim > 1 and not name.endswith(".bias")]
    groups = [{"params": decays, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate(config, 0.0), betas=(0.9, 0.95))
