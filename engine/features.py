"""Embeddings of stored patches by models that were not made to score: any of timm, or what sees the frame for a proposer.

What is compared is the mean over all places of what the encoder makes of the patch, scaled to length one, so that a cosine is a dot
product and float16 cannot overflow; as for the scorers' own embeddings a patch is stretched to the square that the model takes. Our
choice, all of it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import timm
import torch
from numpy.typing import NDArray
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn.functional import normalize

from engine import devices, pictures, sam, schema, weights
from engine.config import PatchesConfig
from engine.inference import inference
from engine.models import ScoreConfig
from engine.pictures import MEAN, STD
from engine.room import Room, filled

CACHED = 8  # patches at a time on a CPU; the encoders of SAM take a second or ten for each
SAM_MEAN, SAM_DEVIATION = (tuple(255 * one for one in each) for each in (MEAN, STD))  # of 8-bit colours, as SAM was trained
SAM_SIDE, SAM_WIDTH = 1024, 256  # px, and numbers that it gives for a place; LiteMedSAM gives as many
CLASSIFIERS = ("head.", "fc.", "classifier.", "fc_norm.")  # of checkpoints trained on labels: no part of the encoder


@dataclass
class Encoder:
    """A model that gives features (B, D), or a map of them (B, D, h, w), of images (B, 3, side, side) as `seen` makes them."""

    name: str
    model: nn.Module
    side: int
    width: int
    seen: Callable[[NDArray[np.float32]], NDArray[np.float32]]  # of squares (B, side, side, 3), 0 to 255

    def __call__(self, squares: NDArray[np.uint8], device: str) -> Tensor:
        images = torch.from_numpy(self.seen(squares.astype(np.float32))).permute(0, 3, 1, 2).contiguous()
        found: Tensor = self.model(images.to(device))
        return normalize(found.flatten(2).mean(2) if found.ndim == 4 else found, dim=-1)


@schema.stage(reads=schema.STORED, writes=schema.SCORES)
class EmbedPatches:
    """Give stored patches an encoder's embedding, and no difficulty; ValueError names a patch that it makes nothing of."""

    def __init__(self, config: ScoreConfig, patches: PatchesConfig, encoder: Encoder | None = None) -> None:
        self.device = devices.kind()
        self.encoder = encoder or load(config, patches)
        self.encoder.model = self.encoder.model.to(self.device).eval()
        self.room, self.width = Room(config.batch if self.device == "cuda" else min(config.batch, CACHED), "patches"), self.encoder.width

    def __call__(self, patches: pa.Table) -> pa.Table:
        ids, pixels = (patches[name].to_pylist() for name in ("patch_id", "pixels"))
        parts = [np.zeros((0, self.width), np.float16)]
        parts += self.room.over(len(ids), lambda part: self.embedded(list(map(pictures.patch, ids[part], pixels[part]))))
        vectors = np.concatenate(parts)
        if bad := [name for name, vector in zip(ids, vectors, strict=True) if not np.isfinite(vector).all()]:
            raise ValueError(f"patch {bad[0]} got an embedding that is no number from {self.encoder.name}, expected finite ones")
        held = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.width)
        return pa.table([patches["patch_id"], pa.nulls(len(ids), pa.float32()), held], schema=schema.scores_table(self.width))

    def embedded(self, whole: Sequence[np.ndarray]) -> NDArray[np.float16]:
        """(n, D) of at most as many patches as there is room for."""
        squares = np.stack([pictures.square(picture, self.encoder.side) for picture in whole])
        with inference():
            made = self.encoder(filled(squares, self.room.size), self.device)[: len(whole)]
        return np.asarray(made.half().cpu().numpy())


def load(config: ScoreConfig, patches: PatchesConfig) -> Encoder:
    """The encoder that `score.by` names, under a name that changes when its weights or settings do."""
    kind, _, name = config.by.partition(":")
    if kind == "timm":
        return of_timm(name, config.checkpoint)
    model, sha256 = sam.image_encoder(patches.model_copy(update={"proposer": kind}))
    side, seen = (SAM_SIDE, colours(SAM_MEAN, SAM_DEVIATION)) if kind == "sam" else (sam.SIDE, stretched)
    prefix = f"sam-{patches.sam_size}" if kind == "sam" else kind
    return Encoder(f"{prefix}-{mark(sha256, side)}", model, side, SAM_WIDTH, seen)


def of_timm(name: str, checkpoint: str) -> Encoder:
    """A model of timm without its classifier, with its own weights, those of a local file, or random ones that are the same every time.

    ValueError where timm knows no such model.
    """
    if not timm.is_model(name):
        raise ValueError(f"score.by=timm:{name}: timm knows no such model, expected one such as resnet18 or vit_small_patch16_224")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = created(name, checkpoint == "pretrained")
    if checkpoint not in ("pretrained", "random"):
        fill(model, checkpoint)
    told = resolve_model_data_config(model)
    mean, deviation = (tuple(255 * number for number in told[key]) for key in ("mean", "std"))
    side = int(told["input_size"][-1])
    hashed = mark(weights.fingerprint(model.state_dict(), name), side, *mean, *deviation)
    with inference():
        width = model.eval()(torch.zeros(1, 3, side, side)).shape[1]
    return Encoder(f"timm-{name}-{hashed}", model, side, width, colours(mean, deviation))


def created(name: str, pretrained: bool) -> Any:
    """A timm model without its head; ConnectionError where its weights cannot be fetched."""
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0)
    except OSError as error:
        raise ConnectionError(
            f"the weights of timm's {name} cannot be fetched: give score.checkpoint the path of a file with them, or random for a control"
        ) from error


def fill(model: nn.Module, path: str) -> None:
    """Give a model the weights of a file, all of them; ValueError or FileNotFoundError where they do not fit or are not there."""
    state, _ = weights.read(path)
    weights.complete({name: held for name, held in state.items() if not name.startswith(CLASSIFIERS)}, model.state_dict(), path)
    model.load_state_dict({name: state[name] for name in model.state_dict()})


def mark(*settings: object) -> str:
    """Twelve hex digits over all that an embedding depends on."""
    told = " ".join(map(str, (*settings, f"{pictures.RESIZED} mean-of-places")))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def colours(mean: Sequence[float], deviation: Sequence[float]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Squares normalised by the mean and deviation of 8-bit colours. (N, side, side, 3) to the same."""
    shift, scale = np.asarray(mean, np.float32), np.asarray(deviation, np.float32)
    return lambda squares: np.asarray((squares - shift) / scale, np.float32)


def stretched(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each square stretched to 0 to 1, as LiteMedSAM was trained. (N, side, side, 3)."""
    least = squares.min((1, 2, 3), keepdims=True)
    return np.asarray((squares - least) / np.maximum(squares.max((1, 2, 3), keepdims=True) - least, 1e-8), np.float32)
