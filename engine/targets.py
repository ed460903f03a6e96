"""Target images in two views, what an encoder makes of them at each of its levels, and the scores of that.

The views differ in colour only, as in arXiv 2410.18677: torchvision's ColorJitter with brightness .1, contrast .05, saturation .1,
hue .05. What is drawn depends on (seed, content of the image) and never on the moment, so every checkpoint is seen on the same views.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.transforms import functional as colours

from engine import datasets, geometry, transfer, views
from engine.geometry import UnscorableError
from engine.mae import MAE
from engine.pictures import MEAN, STD
from engine.settings import Scored, TransferConfig
from engine.transfer import Readings

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
    files: tuple[str, ...] = ()  # what they are called where they lie; none: they lie nowhere

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
    def labelled(self) -> bool:
        """Whether masks tell a foreground from a background."""
        return self.masks is not None and bool(self.masks.any() and not self.masks.all())

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with any pixel of any image or mask, wherever they lie."""
        told = "\n".join(self.ids).encode() + (b"" if self.masks is None else self.masks.tobytes())
        return hashlib.sha256(told).hexdigest()[:12]


def names(images: Iterable[NDArray[np.uint8]]) -> list[str]:
    """Hashes of the pixels of each. Images (H, W, 3)."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]


def read(config: TransferConfig, side: int) -> Targets:
    """At most `config.images` of the folder `config.uri`, stretched to side x side px; which ones depends on (seed, bytes of the image).

    A folder with images/ and masks/ gives pairs, any other its pictures; one that is there twice counts once. FileNotFoundError or
    ValueError, one sentence, for no folder, fewer than two pictures, a file that is no picture, a picture without its mask, and where a
    score that takes labels is to watch, masks without any foreground, or nothing else.
    """
    root = datasets.local(config.uri)
    if not root.is_dir():
        raise FileNotFoundError(f"transfer.uri={config.uri}: there is no such folder, expected one with target images")
    paired = (root / "images").is_dir() and (root / "masks").is_dir()
    labels_needed = config.score in transfer.SCORES and "labels" in transfer.SCORES[config.score].needs
    if labels_needed and not paired:
        raise ValueError(f"transfer.score={config.score} takes labels, so transfer.uri={config.uri} must have images/ and masks/")
    masks = {pair.image: pair for pair in datasets.matched(root, "transfer.uri")} if paired else {}
    paths = masks or filter(datasets.is_picture, root.iterdir())
    found: dict[bytes, tuple[NDArray[np.uint8], NDArray[np.uint8] | None, str]] = {}  # by pixels
    for path in sorted(paths, key=lambda one: datasets.digest(config.seed, b"target" + one.read_bytes())):  # who is tested is drawn without
        with datasets.read_from("transfer.uri", config.uri):
            datasets.check_sizes([masks[path]] if paired else [])
            image, labels = datasets.load(masks[path], side) if paired else (datasets.scaled(datasets.picture(path), side), None)
        found.setdefault(image.tobytes(), (image, labels, path.name))
        if len(found) == config.images:
            break
    if len(found) < 2:
        raise ValueError(f"transfer.uri={config.uri} holds {len(found)} different pictures, expected two target images at least")
    images, drawn, files = zip(*found.values(), strict=True)
    inside = [(labels > 0) & (labels < datasets.IGNORE) for labels in drawn if labels is not None]
    made = Targets(np.stack(images), np.stack(inside) if paired else None, files)
    if labels_needed and not made.labelled:
        raise ValueError(f"transfer.score={config.score} takes labels, and the masks of transfer.uri={config.uri} are all of one class")
    return made


def obtainable(targets: Targets) -> list[str]:
    """Every score of transfer.SCORES that can be had of an encoder and these images."""
    return list(get_args(Scored) if targets.labelled else transfer.BLIND)


def watched(targets: Targets, config: TransferConfig) -> list[str]:
    """The scores that `config.score` stands for."""
    return {"ranks": list(transfer.BLIND), "vote": obtainable(targets)}.get(config.score, [config.score])


def check(encoder: nn.Module, targets: Targets, config: TransferConfig) -> None:
    """ValueError where `config` names a level that the encoder does not have, or one twice, or the encoder has none; by two images."""
    at(encoder, Targets(targets.images[:2]), "features", config, pooled=True)


def scores(encoder: nn.Module, targets: Targets, config: TransferConfig, names: Sequence[str]) -> Readings:
    """What several of transfer.SCORES say at each of `config.heard_levels`; the encoder sees every view once.

    What says nothing of these features is a gap. ValueError where the encoder or the targets are not those that `config` is for.
    """
    needed = {need for name in names for need in transfer.SCORES[name].needs}
    pooled = {view: config.pooled and not (view == "features" and "labels" in needed) for view in get_args(View)}
    seen = {view: at(encoder, targets, view, config, pooled[view]) for view in get_args(View) if view in needed}
    found = Readings({}, {})
    for name, level in product(names, config.heard_levels):
        told = transfer.reading(name, level if config.levels else None)
        try:
            there = given(name, {view: maps[level] for view, maps in seen.items()}, targets, config)
            found.scores[told] = transfer.scored(name, there, **knobs_of(name, config))
        except UnscorableError as error:
            found.gaps[told] = str(error)
    return found


def missed(targets: Targets, config: TransferConfig, why: str) -> Readings:
    """A look that came to nothing: a gap in all that is watched."""
    watching = product(watched(targets, config), config.heard_levels)
    return Readings({}, {transfer.reading(name, level if config.levels else None): why for name, level in watching})


def given(name: str, seen: Mapping[View, NDArray[np.float32]], targets: Targets, config: TransferConfig) -> dict[str, NDArray[Any]]:
    """What a score needs of transfer.Score.needs, from the maps (n, C, h, w) of the views; UnscorableError where one is not finite."""
    needs = transfer.SCORES[name].needs
    for view, maps in seen.items():
        if view in needs:
            check_finite(maps, targets)
    if "labels" in needs:
        return labelled(seen["features"], targets, config)
    return {view: geometry.pooled(maps) if config.pooled else maps for view, maps in seen.items() if view in needs}


def check_finite(features: NDArray[np.float32], targets: Targets) -> None:
    """UnscorableError where the features of a target image are not finite, with which one's. `features` (n, ...)."""
    bad = np.flatnonzero(~np.isfinite(features).reshape(len(features), -1).all(axis=1))
    if len(bad):
        raise UnscorableError(
            f"the features of {len(bad)} of {len(features)} target images are not finite, the first are those of {targets.ids[bad[0]]}"
        )


def knobs_of(name: str, config: TransferConfig) -> dict[str, Any]:
    """What a score takes beside features: the knobs of robustness; nothing for others."""
    return {knob: getattr(config, knob) for knob in ("margin", "distance", "negatives")} if name == "robustness" else {}


def at(encoder: nn.Module, targets: Targets, view: View, config: TransferConfig, pooled: bool = False) -> dict[int, NDArray[np.float32]]:
    """The maps (n, C, h, w), or their means over places (n, C), by level for each of `config.heard_levels`, in one go over the images."""
    parts: dict[int, list[NDArray[np.float32]]] = {level: [] for level in config.heard_levels}
    for levels in passes(encoder, targets, view, config):
        check_levels(config, len(levels))
        for level, found in parts.items():
            maps = levels[level].float().cpu().numpy()
            found.append(geometry.pooled(maps) if pooled else maps)
    return {level: np.concatenate(found) for level, found in parts.items()}


def check_levels(config: TransferConfig, depth: int) -> None:
    """ValueError where a level is none of the encoder's, or one is named twice."""
    for level in config.heard_levels:
        if not -depth <= level < depth:
            raise ValueError(f"transfer.level{'s' * bool(config.levels)}={level} is none of the encoder's {depth} levels")
    if len({level % depth for level in config.heard_levels}) < len(config.heard_levels):
        raise ValueError(f"transfer.levels={config.levels} names one of the encoder's {depth} levels twice")


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
    """The maps (b, C, h, w) at every level of our MAE, of an encoder of timm, or of one that lists maps itself; else ValueError."""
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
    """One view's change of colours: factors by name, in the order in which they are applied."""
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
    an untrained ViT was right on every image of Kvasir-SEG. ValueError without masks, UnscorableError where no place is of the foreground,
    or none of the rest.
    """
    if targets.masks is None:
        raise ValueError("these target images have no masks, and a score that takes labels was asked")
    inside = adaptive_avg_pool2d(torch.from_numpy(targets.masks).float()[:, None], maps.shape[2:]).flatten(1).numpy()  # (n, places)
    samples, told = [], []
    for image, share in enumerate(inside):
        for label, found in enumerate((np.flatnonzero(share < 0.5), np.flatnonzero(share > 0.5))):
            drawn = views.chance(config.seed, targets.ids[image], 0, label).permutation(found)[:PLACES]
            samples.append(maps[image].reshape(maps.shape[1], -1)[:, drawn].T)
            told += [(label, image)] * len(drawn)
    if len({label for label, _ in told}) < 2:
        raise UnscorableError(
            f"of {len(inside)} target images no place of {maps.shape[2]} x {maps.shape[3]} lies mostly in the foreground, or none outside"
        )
    labels, images = np.asarray(told).T
    return {"features": np.concatenate(samples), "labels": labels, "images": images}
