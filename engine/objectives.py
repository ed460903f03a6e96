"""What the two ways of pre-training do with images: what is seen of one, the losses of a batch, and a sheet to look at.

What is seen depends on (seed, epoch, position) alone. MAE: arXiv 2111.06377; SimCLR: arXiv 2002.05709. b images of one worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from engine import mae, pictures, simclr, views, vits
from engine.loader import Key
from engine.models import MAEConfig, TrainConfig
from engine.pictures import Image

Trained = mae.MAE | simclr.SimCLR


class Objective(Protocol):
    """`run` is the model, or what was made of it for several workers and other precisions; `seen` a list of what `see` gave."""

    def see(self, jpeg: bytes, key: Key) -> Any:
        """All that is used of an image in an epoch."""

    def losses(self, run: Any, seen: Sequence[Any]) -> Tensor:
        """(b,) of these images, whose mean over the whole batch is minimised."""

    def sheet(self, run: Any, seen: Sequence[Any]) -> Image:
        """One row for each image."""


@dataclass(frozen=True)
class Rebuild:
    """A masked autoencoder: the error of what was masked."""

    config: TrainConfig

    def see(self, jpeg: bytes, key: Key) -> tuple[Image, NDArray[np.float32]]:
        """The augmented view (side, side, 3), and the noise (tokens,) that masks it."""
        rng = np.random.default_rng([self.config.seed, *key])
        return augment(pictures.decode(jpeg), self.config, rng), rng.random(self.config.mae.tokens, dtype=np.float32)

    def losses(self, run: Any, seen: Sequence[Any]) -> Tensor:
        """The errors (B,) of what was masked of each image."""
        losses: Tensor = run(*batch_of(run, seen))[0]
        return losses

    def sheet(self, run: Any, seen: Sequence[Any]) -> Image:
        """The view, what is left visible of it, and what the model makes of that, in (b * side, 3 * side, 3)."""
        return np.concatenate(list(pictured(run, self.config.mae, *batch_of(run, seen))))


@dataclass(frozen=True)
class Contrast:
    """SimCLR: the loss of telling an image's second view from all others of the batch, those of the other workers too."""

    config: TrainConfig

    def see(self, jpeg: bytes, key: Key) -> NDArray[np.uint8]:
        """Two views (2, side, side, 3)."""
        picture, rng = pictures.decode(jpeg), np.random.default_rng([self.config.seed, *key])
        return np.stack([views.view(picture, self.config.simclr.side, rng) for _ in range(2)])

    def losses(self, run: Any, seen: Sequence[Any]) -> Tensor:
        """The losses (B,) of each image's two views, their mean."""
        images = mae.normalise(np.concatenate(np.stack(seen, axis=1)), device_of(run))  # all first views, then all second ones
        a, b = run(images).float().chunk(2)
        first = dist.get_rank() * len(a) if dist.is_initialized() else 0
        losses = simclr.nt_xent(a, b, self.config.simclr.temperature, (gathered(a), gathered(b)), first)
        return losses.view(2, -1).mean(0)

    def sheet(self, run: Any, seen: Sequence[Any]) -> Image:
        """The two views side by side, in (b * side, 2 * side, 3)."""
        return np.concatenate([np.concatenate(pair, axis=1) for pair in seen])


class Gathered(torch.autograd.Function):
    """Rows of all workers in the order of their ranks; each gets back what all make of its own."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        """Rows (B, ...) of this worker in, those of all workers out, by rank."""
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradients of all workers summed, and of these the rows that are this worker's. (B, ...)."""
        (summed,) = (gradient.contiguous() for gradient in gradients)
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]


def gathered(mine: Tensor) -> Tensor:
    """(b, P) of each worker -> (workers * b, P), with gradients; as it is in a process alone."""
    whole: Tensor = Gathered.apply(mine) if dist.is_initialized() else mine
    return whole


def objective(config: TrainConfig) -> Objective:
    """That of pretrain.architecture."""
    return Contrast(config) if config.architecture == "simclr" else Rebuild(config)


def check(config: TrainConfig) -> None:
    """ValueError, in a sentence and before anything is made, for a size or an encoder that timm does not have."""
    if config.architecture == "mae":
        vits.shape(config.mae.size)
    else:
        simclr.known(config.simclr)


def check_fed(config: TrainConfig, count: int, gpus: bool) -> None:
    """ValueError for fewer than a batch of images, `count`, or a precision that only a GPU has where there are no `gpus`."""
    if count < config.batch:
        raise ValueError(f"{count} training images do not fill a batch of {config.batch}: choose a larger budget, or lower pretrain.batch")
    if config.precision == "fp16" and not gpus:
        raise ValueError("precision=fp16 needs a GPU: without one take bf16, or no for float32")


def normed(made: nn.Module) -> bool:
    """Whether a model has batch norms."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in made.modules())


def norms_apart(made: nn.Module, workers: int, gpus: bool) -> bool:
    """Whether a model has batch norms that several workers make together; ValueError where torch does not do that: without `gpus`."""
    if workers == 1 or not normed(made):
        return False
    if not gpus:
        raise ValueError(
            f"workers={workers}: torch does batch norms over several workers on GPUs only; without them take workers=1 "
            "or an encoder without batch norms, such as vit_tiny_patch16_224"
        )
    return True


def model(config: TrainConfig) -> Trained:
    """What is trained: with the weights of config.checkpoint, else random ones by torch's seed; ValueError for one of another model."""
    if not config.checkpoint:
        return simclr.SimCLR(config.simclr) if config.architecture == "simclr" else mae.MAE(config.mae)
    started = load(config.checkpoint, config)
    if isinstance(started, simclr.SimCLR):
        started.bank, started.keys = started.bank[:0], started.keys[:0]  # what other weights made of it
    return started


def no_number(config: TrainConfig, done: tuple[int, int], images: str, together: int) -> str:
    """That the loss of some images is no number, and what to do about it, by the epoch and the step; `together`: all of so many are.

    At the very first step the rate has had no part in it.
    """
    told = f"the loss is not a number in epoch {done[0]}, step {done[1]}, of {images}" + f", all {together} seen together" * bool(together)
    if any(done):
        diverged = ", so that the training may have diverged" * bool(together)
        return f"{told}{diverged}: look at them, lower base_lr={config.base_lr} or bound the gradient by clip"
    weights = f" and, as nothing was learnt yet, at the weights that it begins with, checkpoint={config.checkpoint}"
    return f"{told}: look at them{weights if config.checkpoint else ''}"


def load(path: str, config: TrainConfig) -> Trained:
    """The model of a checkpoint; FileNotFoundError where nothing is, ValueError where it is something else than `config` describes."""
    return simclr.load(path, config.simclr) if config.architecture == "simclr" else mae.load(path, config.mae)


def save(trained: nn.Module, uri: str) -> None:
    """Write weights and knobs of a model to a path or address, whole or not at all."""
    simclr.save(trained, uri) if isinstance(trained, simclr.SimCLR) else mae.save(trained, uri)  # type: ignore[arg-type]


def fingerprint(trained: Trained) -> str:
    """Twelve hex digits that change when any weight or setting does."""
    return simclr.fingerprint(trained) if isinstance(trained, simclr.SimCLR) else mae.fingerprint(trained)


def title(config: TrainConfig) -> str:
    """The model in a word or two."""
    return f"SimCLR's {config.simclr.encoder}" if config.architecture == "simclr" else f"vit_{config.mae.size}"


def augment(image: Image, config: TrainConfig, rng: np.random.Generator) -> Image:
    """RandomResizedCrop with scale (min_crop, 1) and ratio (3/4, 4/3), then a flip: (side, side, 3) uint8."""
    return views.flipped(views.resized_crop(image, config.mae.side, config.min_crop, rng), rng)


def batch_of(run: Any, seen: Sequence[tuple[Image, NDArray[np.float32]]]) -> tuple[Tensor, Tensor]:
    """(images (b, 3, side, side), noise (b, tokens)) where the model is."""
    looks, noise = zip(*seen, strict=True)
    where = device_of(run)
    return mae.normalise(np.stack(looks), where), torch.from_numpy(np.stack(noise)).to(where)


def device_of(run: nn.Module) -> str:
    """The kind of device that a model's weights are on, such as cuda."""
    return next(run.parameters()).device.type


def pictured(run: Any, config: MAEConfig, images: Tensor, noise: Tensor) -> NDArray[np.uint8]:
    """Each image, what is left visible of it, and what a masked autoencoder makes of that, side by side: (B, side, 3 * side, 3).

    `run` may be the model as it is shared out over workers, which tells no settings.
    """
    token = config.token
    _, prediction, mask = run(images, noise)
    if config.norm_pix:  # back from what every token's own mean and deviation left
        tokens = mae.patchify(images, token)
        prediction = prediction * (tokens.var(-1, keepdim=True) + 1e-6).sqrt() + tokens.mean(-1, keepdim=True)
    removed = mae.unpatchify(mask[..., None].expand_as(prediction), token) > 0
    rebuilt = torch.where(removed, mae.unpatchify(prediction.float(), token), images)
    return as_pixels(torch.cat([images, torch.where(removed, 0.0, images), rebuilt], dim=3))


def as_pixels(images: Tensor) -> NDArray[np.uint8]:
    """The opposite of mae.normalise: (B, 3, H, W) -> (B, H, W, 3) uint8."""
    mean, deviation = (torch.tensor(of, device=images.device).view(3, 1, 1) for of in (pictures.MEAN, pictures.STD))
    pixels = ((images * deviation + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
