"""SimCLR: an encoder and a head that know two views of one picture among all others (Chen et al., arXiv 2002.05709).

For a pair of views i and j among 2N views the loss is Eq. 1 of the paper, NT-Xent:

    l(i, j) = -log( exp(sim(z_i, z_j) / t) / sum over k != i of exp(sim(z_i, z_k) / t) )

It needs the rest of a batch, and a score must not depend on which patches happen to stand beside a patch. So the rest of the batch is
fixed once the model is trained: a bank of pictures of its own sample, two views of each, stored with the weights. Scored is a patch's
pair of views in a batch of itself and the bank, which is our choice. B pairs, N pictures in the bank, D the encoder's width, P the
projection's.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from engine import mae, pictures, views, weights
from engine.models import SimCLRConfig


class SimCLR(nn.Module):
    """An encoder of timm, the paper's head D -> D -> P with one ReLU, and the bank."""

    bank: Tensor  # (N, 2, P), of length one
    keys: Tensor  # (N,) int64: which pictures they are

    def __init__(self, config: SimCLRConfig, pictures_in_bank: int = 0) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(config)
        self.width = int(self.encoder.head_hidden_size)
        self.head = nn.Sequential(nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, config.projection))
        self.register_buffer("bank", torch.zeros(pictures_in_bank, 2, config.projection))
        self.register_buffer("keys", torch.zeros(pictures_in_bank, dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """z, scaled to length one (B, P), of `images` (B, 3, S, S) normalised by ImageNet's mean and deviation."""
        return normalize(self.head(self.encode(images)), dim=1)

    def encode(self, images: Tensor) -> Tensor:
        """h, the encoder's pooled features: (B, D). ValueError for images of another shape than (B, 3, side, side)."""
        side = self.config.side
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(f"SimCLR got images of shape {tuple(images.shape)}, expected (B, 3, {side}, {side})")
        features: Tensor = self.encoder(images)
        return features

    def contrast(self, a: Tensor, b: Tensor, keys: Tensor) -> Tensor:
        """The loss (B,) of pairs of views, images (B, 3, S, S), against the bank; `keys` (B,) say which pictures they are of."""
        known = keys[:, None] == self.keys
        return against(self(a).double(), self(b).double(), self.bank.double(), known, self.config.temperature)


def encoder(config: SimCLRConfig) -> Any:
    """A network of timm without its classifier, untrained; ValueError for one that timm does not know."""
    known(config)
    return timm.create_model(config.encoder, pretrained=False, num_classes=0, **sized(config))


def known(config: SimCLRConfig) -> None:
    """ValueError for an encoder that timm does not know."""
    if not timm.is_model(config.encoder):
        raise ValueError(f"simclr.encoder={config.encoder} is no model of timm, expected one such as resnet50 or resnet18")


def sized(config: SimCLRConfig) -> dict[str, int]:
    """The side of its images as timm wants to know it: only networks that are made for one side take it."""
    settings = timm.models.get_pretrained_cfg(config.encoder)
    return {"img_size": config.side} if settings is not None and settings.fixed_input_size else {}


def nt_xent(a: Tensor, b: Tensor, temperature: float, batch: tuple[Tensor, Tensor] | None = None, first: int = 0) -> Tensor:
    """Eq. 1 for both directions of every pair (2B,): l(a_i, b_i) of all i, then l(b_i, a_i); training minimises their mean.

    `a` and `b` (B, P) are projections of two views of the same pictures, of length one. They are those from number `first` on of a larger
    `batch` of such pairs, where one is given.
    """
    z, everyone = torch.cat([a, b]), torch.cat(batch or (a, b))
    itself = torch.arange(first, first + len(a), device=z.device)
    places = torch.cat([itself, itself + len(everyone) // 2])
    similar = (z @ everyone.T / temperature).scatter(1, places[:, None], -torch.inf)
    positive = (a * b).sum(1).repeat(2) / temperature
    return similar.logsumexp(1) - positive


def against(a: Tensor, b: Tensor, bank: Tensor, known: Tensor, temperature: float) -> Tensor:
    """Eq. 1 of every pair in a batch of itself and the bank, the mean of its two directions: (B,).

    `bank` (N, 2, P); where `known` (B, N) says that a picture of the bank is the pair's own, it is left out: in the paper's batch a
    picture stands once, and is never its own negative.
    """
    positive, hidden = (a * b).sum(1) / temperature, known.repeat_interleave(2, dim=1)
    losses = []
    for z in (a, b):
        negative = (z @ bank.flatten(0, 1).T / temperature).masked_fill(hidden, -torch.inf)
        losses.append(torch.cat([positive[:, None], negative], dim=1).logsumexp(1) - positive)
    return (losses[0] + losses[1]) / 2


def key(jpeg: bytes) -> int:
    """Which picture it is: 64 bits of the hash of its bytes."""
    return int.from_bytes(hashlib.sha256(jpeg).digest()[:8], "little", signed=True)


@torch.no_grad()
def remember(model: SimCLR, jpegs: Sequence[bytes], seed: int, batch: int = 64) -> None:
    """Fill the bank with config.bank of these pictures, fewer where there are fewer: those with the smallest keys."""
    known = {key(jpeg): jpeg for jpeg in jpegs}
    chosen, device = sorted(known)[: model.config.bank], next(model.parameters()).device
    model.eval()
    rows = []
    for start in range(0, len(chosen), batch):
        some = chosen[start : start + batch]
        seen = [views.pair(pictures.decode(known[one]), model.config.side, seed, str(one), 0) for one in some]
        rows.append(model(mae.normalise(np.concatenate(seen)).to(device)).reshape(len(some), 2, -1))
    model.bank, model.keys = torch.cat(rows), torch.tensor(chosen, dtype=torch.int64, device=device)


def fingerprint(model: SimCLR) -> str:
    """Twelve hex digits that change when any weight, any picture of the bank or any setting does."""
    return weights.fingerprint(model.state_dict(), weights.knobs_of(model.config))


def fingerprint_of(path: str) -> str:
    """The same of the model in a file, "" of a file that holds none of ours; FileNotFoundError and ValueError as of `load`."""
    state, told = weights.read(path, "simclr")
    return weights.fingerprint(state, weights.knobs_of(SimCLRConfig.model_validate(told))) if told else ""


def save(model: SimCLR, uri: str) -> None:
    """Write weights, bank and config to a path or address, as `load` reads them."""
    weights.save(model, "simclr", model.config, uri)


def load(path: str, config: SimCLRConfig) -> SimCLR:
    """The model of a checkpoint that `save` wrote; FileNotFoundError where nothing is, ValueError where it is something else."""
    state, told = weights.read(path, "simclr")
    if not told:
        raise ValueError(f"the checkpoint {path} is no SimCLR model of ours, expected one that the job probe or pretrain trained")
    weights.same(told, config.model_dump(mode="json"), path)
    count = state["keys"].numel() if "keys" in state else 0
    with torch.random.fork_rng(devices=[]):  # weights that are replaced at once must not move the numbers that are drawn later
        model = SimCLR(config, count)
    weights.complete(state, model.state_dict(), path)
    model.load_state_dict(state)  # into the model's own memory: what an encoder has at several places stays one
    return model
