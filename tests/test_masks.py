"""The quick automatic masks beside segment-anything's own generator, mask by mask.

On random weights: no package brings trained ones, and LiteMedSAM was never trained on points.
"""

import copy

import cv2
import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, build_sam_vit_b
from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import Attention as OriginalAttention

from engine.inference import inference
from engine.sam import encoder, masks
from tests.test_sam import picture, small_sam


class Drawing(masks.AutomaticMasks):
    """Keeps the masks too."""

    def measured(self, logits):
        found = super().measured(logits)
        found["masks"] = list((logits > self.predictor.model.mask_threshold).numpy())
        return found

    def pictures(self, image):
        """What `SamAutomaticMaskGenerator.generate` returns."""
        found = self.regions(image)
        for index, (x0, y0, x1, y1) in enumerate(found["crop_boxes"].astype(int)):
            whole = np.zeros(image.shape[:2], bool)
            whole[y0:y1, x0:x1] = found["masks"][index]
            yield {
                "segmentation": whole,
                "area": found["areas"][index],
                "bbox": found["boxes"][index],
                "predicted_iou": found["iou_preds"][index],
                "stability_score": found["stability_score"][index],
                "point_coords": found["points"][index],
            }


def scene(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth wall with discs of other colours on it: something that a trained model finds."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(picture(seed, height, width), (0, 0), 9) // 3 + np.array([110, 60, 50], np.uint8)
    for _ in range(7):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(image, centre, int(rng.integers(8, 12 + min(height, width) // 6)), rng.integers(0, 255, 3).tolist(), -1)
    return image


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return 1.0 if union == 0 else (one & other).sum() / union


def both(model: Sam, image: np.ndarray, precision: str = "float32", **settings) -> tuple[list[dict], list[dict]]:
    original = SamAutomaticMaskGenerator(copy.deepcopy(model), output_mode="binary_mask", **settings)
    quick = Drawing(masks.quicken(copy.deepcopy(model), precision), **settings)
    with inference():
        expected = original.generate(image)
    with inference(precision):
        return expected, list(quick.pictures(image))


def compare(expected: list[dict], found: list[dict]) -> None:
    """Every mask of the original, in its order, and no other."""
    assert len(found) == len(expected) > 0
    for one, other in zip(expected, found, strict=True):
        assert overlap(one["segmentation"], other["segmentation"]) >= 0.99
        assert np.allclose(one["point_coords"], other["point_coords"])
        assert one["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-3)
        assert one["stability_score"] == pytest.approx(other["stability_score"], abs=1e-3, nan_ok=True)
        assert one["area"] == pytest.approx(other["area"], abs=max(2, 0.002 * one["area"]))


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("cut", [(0.0, 0.0, 1.0), (0.5, 0.3, 0.7)], ids=["everything", "cut"])
@pytest.mark.parametrize("size", [(120, 160), (160, 120), (128, 128), (37, 160), (300, 380)])
def test_the_same_masks_as_the_original_generator(size, cut, layers):
    settings = dict(zip(("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh"), cut, strict=True))
    settings |= {"points_per_side": 6, "crop_n_layers": layers, "crop_n_points_downscale_factor": 2}
    compare(*both(small_sam(), scene(sum(size), *size), **settings))


@pytest.mark.slow
def test_in_bfloat16_nearly_all_masks_of_vit_b_are_the_same():
    """Each mask of the original in float32 against the best of ours from the same point."""
    torch.manual_seed(0)
    model = build_sam_vit_b().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight) * (0.1 if "rel_pos" in name or "mask_decoder" in name else 0))
    settings = {"points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    expected, found = both(model, scene(4, 240, 320), "bfloat16", **settings)
    by_point: dict[tuple, list] = {}
    for mask in found:
        by_point.setdefault(tuple(mask["point_coords"]), []).append(mask["segmentation"])
    matched = [max(overlap(mask["segmentation"], other) for other in by_point[tuple(mask["point_coords"][0])]) >= 0.9 for mask in expected]
    assert len(matched) > 20
    assert np.mean(matched) >= 0.98


@pytest.mark.parametrize("grid", [(64, 64), (14, 14), (6, 9)])
def test_attention_in_pieces_is_the_attention(grid):
    torch.manual_seed(0)
    original = OriginalAttention(64, num_heads=2, use_rel_pos=True, input_size=grid).eval()
    for weight in (original.rel_pos_h, original.rel_pos_w):
        torch.nn.init.normal_(weight)
    tokens = torch.randn(1 if grid[0] == 64 else 3, *grid, 64)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.Attention(original)(tokens), original(tokens), rtol=1e-4, atol=1e-5)


def test_both_ways_of_attention_agree():
    torch.manual_seed(1)
    query, key, value = (torch.randn(4, 30, 8) for _ in range(3))
    down, across = torch.randn(4, 30, 5, 1), torch.randn(4, 30, 1, 6)
    torch.testing.assert_close(encoder.at_once(query, key, value, down, across), encoder.in_pieces(query, key, value, down, across))


@pytest.mark.parametrize("length", range(1, 129))
def test_the_tokens_that_are_drawn_are_all_that_the_picture_needs(length):
    logits = torch.randn(1, 1, 32, 32)
    want = torch.nn.functional.interpolate(logits, (128, 128), mode="bilinear", align_corners=False)[0, :, :length]
    rows = 4 * masks.needed(length, 8)
    found = masks.enlarged(logits[0, :, :rows], (length, 128), (length, 128))
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
