"""Target images in two views, what an encoder makes of them at each of its levels, and the score of that.

The views differ in colour only, as in arXiv 2410.18677: torchvision's ColorJitter with brightness .1, contrast .05, saturation .1,
hue .05. What is drawn depends on (seed, content of the image) and never on the moment, so every checkpoint is seen on the same views.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.transforms import functional as colours

from engine import datasets, geometry, transfer, views
from engine.mae import MAE, MEAN, STD
from engine.settings import TransferConfig

REACHES = {"brightness": (1, 0.1), "contrast": (1, 0.05), "saturation": (1, 0.1), "hue": (0, 0.05)}  # around what leaves all as it is
BATCH = 32  # images per forward pass, as in the authors' code
PLACES = 8  # of each class and image that a score with labels sees at most: our choice, some two thousand samples of 128 images

Jitter = tuple[tuple[str, float], ...]  # one draw of ColorJitter: what is changed, in this order, and by what factor or, the hue, share
View = Literal["features", "queries", "keys"]  # the images as they are, and two views of them


@dataclass(frozen=True)
class Targets:
    """What an encoder is scored on; ValueError for fewer than two images, or two that are the same."""

    images: NDArray[np.uint8]  # (n, side, side, 3) RGB
    masks: NDArray[np.bool_] | None = None  # (n, side, side), foreground

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ValueError(f"target images are {self.images.dtype} of shape {self.images.shape}, expected uint8 of (n, side, side, 3)")
        if len(set(self.ids)) < max(2, len(self.images)):
            raise ValueError(
                f"{len(self.images)} target images hold {len(set(self.ids))} different ones, expected two at least and none twice"
            )
        if self.masks is not None and self.masks.shape != self.images.shape[:3]:
            raise ValueError(f"masks of shape {self.masks.shape} do not fit target images of shape {self.images.shape}")

    @cached_property
    def ids(self) -> list[str]:
        """What the images are called."""
        return names(self.images)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with any pixel of any image or mask, wherever they lie."""
        told = "\n".join(self.ids).encode() + (b"" if self.masks is None else self.masks.tobytes())
        return hashlib.sha256(told).hexdigest()[:12]


def names(images: Iterable[NDArray[np.uint8]]) -> list[str]:
    """Hashes of the pixels of each."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]


def read(config: TransferConfig, side: int) -> Targets:
    """At most `config.images` of the folder `config.uri`, stretched to side x side px; which ones depends on (seed, bytes of the image).

    A folder with images/ and masks/ gives pairs, any other its pictures; one that is there twice counts once. FileNotFoundError or
    ValueError, one sentence, for no folder, fewer than two pictures, a file that is no picture, a picture without its mask.
    """
    root = Path(config.uri.removeprefix("file://")).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"transfer.uri={config.uri}: there is no such folder, expected one with target images")
    paired = (root / "images").is_dir() and (root / "masks").is_dir()
    if "labels" in transfer.SCORES[config.score].needs and not paired:
        raise ValueError(f"transfer.score={config.score} takes labels, so transfer.uri={config.uri} must have images/ and masks/")
    masks = {pair.image: pair for pair in datasets.matched(root, "transfer.uri")} if paired else {}
    paths = masks or filter(datasets.is_picture, root.iterdir())
    found: dict[bytes, tuple[NDArray[np.uint8], NDArray[np.uint8] | None]] = {}  # by pixels
    for path in sorted(paths, key=lambda one: datasets.digest(config.seed, b"target" + one.read_bytes())):  # who is tested is drawn without
        if paired:
            datasets.check_sizes([masks[path]])
        image, labels = datasets.load(masks[path], side) if paired else (datasets.scaled(datasets.picture(path), side), None)
        found.setdefault(image.tobytes(), (image, labels))
        if len(found) == config.images:
            break
    if len(found) < 2:
        raise ValueError(f"transfer.uri={config.uri} holds {len(found)} different pictures, expected two target images at least")
    images, drawn = zip(*found.values(), strict=True)
    inside = [(labels > 0) & (labels < datasets.IGNORE) for labels in drawn if labels is not None]
    return Targets(np.stack(images), np.stack(inside) if paired else None)


def score(encoder: nn.Module, targets: Targets, config: TransferConfig) -> float:
    """What `config.score` says of an encoder, where it is; ValueError where these targets or this encoder do not give what it needs."""
    return scores(encoder, targets, config, [config.score])[config.score]


def scores(encoder: nn.Module, targets: Targets, config: TransferConfig, names: Sequence[str]) -> dict[str, float]:
    """What several of transfer.SCORES say, by name; the encoder sees every view once."""
    needed = {need for name in names for need in transfer.SCORES[name].needs}
    seen = {view: at(encoder, targets, view, config) for view in get_args(View) if view in needed}
    return {name: transfer.scored(name, given(name, seen, targets, config), **knobs_of(name, config)) for name in names}


def given(name: str, seen: Mapping[View, NDArray[np.float32]], targets: Targets, config: TransferConfig) -> dict[str, NDArray[Any]]:
    """What a score needs of transfer.Score.needs, from the maps (n, C, h, w) of the views."""
    needs = transfer.SCORES[name].needs
    if "labels" in needs:
        return labelled(seen["features"], targets, config)
    return {view: geometry.pooled(maps) if config.pooled else maps for view, maps in seen.items() if view in needs}


def knobs_of(name: str, config: TransferConfig) -> dict[str, Any]:
    return {knob: getattr(config, knob) for knob in ("margin", "distance", "negatives")} if name == "robustness" else {}


def at(encoder: nn.Module, targets: Targets, view: View, config: TransferConfig) -> NDArray[np.float32]:
    """The maps (n, C, h, w) of `config.level`; ValueError where there is none, or one is not finite."""
    parts = []
    for levels in passes(encoder, targets, view, config):
        if not -len(levels) <= config.level < len(levels):
            raise ValueError(f"transfer.level={config.level} is none of the encoder's {len(levels)} levels")
        parts.append(levels[config.level].float().cpu().numpy())
    maps = np.concatenate(parts)
    if len(bad := np.flatnonzero(~np.isfinite(maps).all((1, 2, 3)))):
        raise ValueError(
            f"the features of {len(bad)} of {len(maps)} target images are not finite, the first are those of {targets.ids[bad[0]]}"
        )
    return maps


def every_level(encoder: nn.Module, targets: Targets, view: View, config: TransferConfig) -> list[NDArray[np.float32]]:
    """The means over places (n, C) at every level, in one go over the images."""
    parts = [[level.float().mean((2, 3)).cpu().numpy() for level in levels] for levels in passes(encoder, targets, view, config)]
    return [np.concatenate(level) for level in zip(*parts, strict=True)]


def passes(encoder: nn.Module, targets: Targets, view: View, config: TransferConfig) -> Iterator[list[Tensor]]:
    """The maps (b, C, h, w) at every level, the shallowest first, of BATCH images at a time; in eval mode, without gradients."""
    weight = next(encoder.parameters())
    jitters = draws(targets.ids, view, config)
    for start in range(0, len(targets.images), BATCH):
        squares = torch.from_numpy(targets.images[start : start + BATCH]).to(weight.device).permute(0, 3, 1, 2).float() / 255
        if jitters:
            squares = torch.stack([jittered(one, jitter) for one, jitter in zip(squares, jitters[start:], strict=False)])
        mean, deviation = (torch.tensor(of, device=weight.device).view(3, 1, 1) for of in (MEAN, STD))
        with resting(encoder), torch.inference_mode():
            yield list(maps(encoder, ((squares - mean) / deviation).to(weight.dtype), config))


@contextmanager
def resting(encoder: nn.Module) -> Iterator[None]:
    """Every part in eval mode, and as it was afterwards: one that is frozen may have been in it before."""
    trained = [part for part in encoder.modules() if part.training]
    encoder.eval()
    try:
        yield
    finally:
        for part in trained:
            part.training = True


def maps(encoder: Any, images: Tensor, config: TransferConfig) -> Sequence[Tensor]:
    """The maps (b, C, h, w) at every level of our MAE, of an encoder of timm, or of one that gives a list of maps itself."""
    if isinstance(encoder, MAE):
        return tapped(encoder, images, chosen(len(encoder.blocks), config))
    if hasattr(encoder, "forward_intermediates"):
        told = encoder.feature_info
        isotropic = len({(level["num_chs"], level["reduction"]) for level in told}) == 1
        wanted = chosen(len(told), config) if isotropic else None
        return list(encoder.forward_intermediates(images, indices=wanted, intermediates_only=True))
    found = encoder(images)
    if not isinstance(found, list | tuple) or any(level.ndim != 4 for level in found):
        raise ValueError(
            f"the encoder {type(encoder).__name__} gives no maps of its levels: expected one of timm, or a list of (B, C, h, w)"
        )
    return [level.permute(0, 3, 1, 2) for level in found] if getattr(encoder, "output_fmt", "NCHW") == "NHWC" else found


def chosen(depth: int, config: TransferConfig) -> list[int]:
    """Which blocks of a ViT are levels: the last of every quarter, or all."""
    return list(range(depth)) if config.blocks == "every" else sorted({math.ceil(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4)})


def tapped(encoder: MAE, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
    """What these blocks give of unmasked images, without the class token: (B, D, h, w) each."""
    grid, found = encoder.config.side // encoder.config.token, list[Tensor]()
    handles = [encoder.blocks[block].register_forward_hook(lambda _, __, tokens: found.append(tokens)) for block in blocks]
    try:
        encoder.encode(images)
    finally:
        for handle in handles:
            handle.remove()
    return [tokens[:, 1:].mT.reshape(len(tokens), -1, grid, grid) for tokens in found]


def draws(ids: Sequence[str], view: View, config: TransferConfig) -> list[Jitter]:
    """One for each image, in the published way the same for all of a view; none for the images as they are."""
    if view == "features":
        return []
    which = ("queries", "keys").index(view)
    names = ["all"] * len(ids) if config.augmentation == "published" else ids
    return [draw(views.chance(config.seed, name, 0, which)) for name in names]


def draw(rng: np.random.Generator) -> Jitter:
    factors = {name: float(rng.uniform(middle - reach, middle + reach)) for name, (middle, reach) in REACHES.items()}
    return tuple((str(name), factors[str(name)]) for name in rng.permutation(list(factors)))


def jittered(image: Tensor, jitter: Jitter) -> Tensor:
    """An image (3, H, W) from 0 to 1 with its colours changed."""
    for name, factor in jitter:
        image = getattr(colours, f"adjust_{name}")(image, factor)
    return image


def labelled(maps: NDArray[np.float32], targets: Targets, config: TransferConfig) -> dict[str, NDArray[Any]]:
    """Places of maps (n, C, h, w) as samples, each with the class of most of its pixels, 1 for foreground, and the number of its image.

    Of each image and class at most PLACES, drawn by (seed, image), so that large polyps do not outweigh small ones. Our choice. Means
    over the foreground and the background of an image would not do: how many places went into a mean tells the two apart, and a probe of
    an untrained ViT was right on every image of Kvasir-SEG.
    """
    if targets.masks is None:
        raise ValueError(f"transfer.score={config.score} takes labels, and these target images have no masks")
    inside = adaptive_avg_pool2d(torch.from_numpy(targets.masks).float()[:, None], maps.shape[2:]).flatten(1).numpy()  # (n, places)
    samples, told = [], []
    for image, share in enumerate(inside):
        for label, found in enumerate((np.flatnonzero(share < 0.5), np.flatnonzero(share > 0.5))):
            drawn = views.chance(config.seed, targets.ids[image], 0, label).permutation(found)[:PLACES]
            samples.append(maps[image].reshape(maps.shape[1], -1)[:, drawn].T)
            told += [(label, image)] * len(drawn)
    labels, images = np.asarray(told).T
    return {"features": np.concatenate(samples), "labels": labels, "images": images}
