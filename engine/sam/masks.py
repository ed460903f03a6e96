"""SAM's automatic masks: what segment-anything's generator finds, without the work whose result it throws away.

The generator draws three masks for each of a thousand points at the frame's full size, then looks which are worth keeping, and writes
run lengths of those. Here masks below the predicted IoU are never drawn, none leaves the cache between drawing and measuring, and what
is kept of one is its box, its area, its stability, and its logits as they come from the model, a twentieth of its pixels, from which `mask`
draws it again where it is wanted. The points, thresholds, crops and suppressions are the generator's own code.
"""

from typing import Any

import cv2
import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import MaskData, batched_mask_to_box, calculate_stability_score, is_box_near_crop_edge
from torch import Tensor
from torch.nn import functional as F

from engine.packing import packed
from engine.precision import Precision
from engine.sam.decoder import Drawn, MaskDecoder, Wanted
from engine.sam.encoder import Attention

DETAIL = 4  # pixels of a drawn mask per side of an image token, and pixels of the model's input per such pixel


def quicken(model: Any, precision: Precision = "float32") -> Any:
    """The same SAM with our attention, our decoder and packed layers in the encoder in the place of its own."""
    for block in getattr(model.image_encoder, "blocks", []):  # LiteMedSAM's encoder is another one
        if block.attn.use_rel_pos:
            block.attn = Attention(block.attn)
    model.image_encoder = packed(model.image_encoder, precision)
    model.mask_decoder = MaskDecoder(model.mask_decoder)
    return model


class AutomaticMasks(SamAutomaticMaskGenerator):  # type: ignore[misc]  # segment-anything has no types
    """Takes the settings of SamAutomaticMaskGenerator, and a model that was quickened."""

    def __init__(self, model: Any, **settings: Any) -> None:
        super().__init__(model, **settings)
        self.points_per_batch = max(map(len, self.point_grids))  # our decoder has chunks of its own

    def regions(self, image: np.ndarray) -> MaskData:
        """Of an RGB image (H, W, 3): boxes (N, 4) x0 y0 x1 y1, ends included, areas, iou_preds, stability_score, points (N, 2), logits."""
        return self._generate_masks(image)

    def mask(self, logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(H, W) bool: what was measured of one of the logits (h, w) that were found in an image of that size."""
        transform = self.predictor.transform
        content = transform.get_preprocess_shape(*size, transform.target_length)
        drawn = enlarged(torch.from_numpy(logits)[None].to(self.predictor.device), content, size)
        return np.asarray((drawn[0] > self.predictor.model.mask_threshold).cpu())

    def _process_batch(self, points: np.ndarray, im_size: tuple[int, ...], crop_box: list[int], orig_size: tuple[int, ...]) -> MaskData:
        model, features, (height, width) = self.predictor.model, self.predictor.features, self.predictor.input_size
        sparse, dense = model.prompt_encoder(points=self.prompts(points, im_size), boxes=None, masks=None)
        least = self.pred_iou_thresh if self.pred_iou_thresh > 0 else float("-inf")
        extent = needed(height, features.shape[2]), needed(width, features.shape[3])

        def kept(drawn: Drawn) -> MaskData:
            which, logits, ious = drawn
            found = self.measured(enlarged(logits, (height, width), im_size))
            found["iou_preds"], found["place"] = ious, torch.arange(len(logits))
            found["points"] = torch.as_tensor(points)[which.cpu() // model.mask_decoder.original.num_multimask_outputs]
            if self.stability_score_thresh > 0:
                found.filter(found["stability_score"] >= self.stability_score_thresh)
            found.filter(~is_box_near_crop_edge(found["boxes"], crop_box, [0, 0, orig_size[1], orig_size[0]]))
            found["logits"] = list(logits[found["place"].to(logits.device)].cpu().numpy())  # a list, which grows without being copied
            del found["place"]
            return found

        places, data = model.prompt_encoder.get_dense_pe(), MaskData()
        wanted = Wanted(least=least, extent=extent)
        for found in model.mask_decoder.drawn(features + dense[:1], places, sparse, wanted, kept):
            data.cat(found)
        data["rles"] = data["areas"]  # the generator counts its masks by their run lengths
        return data

    def prompts(self, points: np.ndarray, im_size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Points (N, 2) of the crop as prompts, each alone and inside its object."""
        at = torch.as_tensor(self.predictor.transform.apply_coords(points, im_size), device=self.predictor.device)[:, None]
        return at, torch.ones(at.shape[:2], dtype=torch.int, device=at.device)

    def measured(self, logits: Tensor) -> MaskData:
        """Boxes (K, 4), areas (K,) and stabilities (K,) of masks (K, H, W)."""
        threshold, offset = self.predictor.model.mask_threshold, self.stability_score_offset
        masks = logits > threshold
        return MaskData(
            boxes=batched_mask_to_box(masks),
            areas=masks.sum((1, 2)),
            stability_score=calculate_stability_score(logits, threshold, offset),
        )


def needed(length: int, most: int) -> int:
    """Image tokens along a side that is filled by a picture of `length` px of the model's input; the rest is padding.

    The last pixel lies between two pixels of the drawn mask, (length - 0.5) / 4 - 0.5 from its edge and the next.
    """
    last = int((length - 0.5) / DETAIL - 0.5) + 1
    return min(most, last // DETAIL + 1)


def enlarged(logits: Tensor, content: tuple[int, int], size: tuple[int, ...]) -> Tensor:
    """Drawn logits (K, h, w) as the generator enlarges them: to the model's input, cut to its content, to the size of the crop."""
    to_input = (DETAIL * logits.shape[1], DETAIL * logits.shape[2])
    height, width = content
    if logits.is_cuda:
        inputs = F.interpolate(logits[:, None], to_input, mode="bilinear", align_corners=False)[..., :height, :width]
        return F.interpolate(inputs, tuple(size), mode="bilinear", align_corners=False)[:, 0]
    made = np.empty((len(logits), *size), np.float32)
    for mask, out in zip(logits.numpy(), made, strict=True):
        inputs = cv2.resize(mask, to_input[::-1], interpolation=cv2.INTER_LINEAR)[:height, :width]
        cv2.resize(inputs, tuple(size)[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(made)
