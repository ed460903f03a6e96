"""Regions of a frame become patches: proposed by a model, sifted, cut out as squares and encoded.

The paper (OptiDEL, arXiv 2408.07107, figure 2) cuts square-looking boxes around SAM's regions; how many, how large and with how much
around them it does not say, so those numbers are ours and stand in PatchesConfig.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from engine import outlines, pictures, sam, schema
from engine.config import PatchesConfig
from engine.gate import NO_REGION
from engine.proposals import SMALLEST, Proposals, Propose, colour_regions, random_crops

BLACK = 16  # of 255 in every channel: border, text that was hidden, or lumen too dark to show anything
MAX_BLACK = 0.05  # share of a patch. Unguarded, 56 % of the hardest tenth of random crops hold more, and show nothing else worth learning

# Of the knobs those that decide which patches a frame gives, whatever the proposer, and of each proposer its own.
CUT = {"min_area", "max_area", "max_overlap", "margin", "per_frame", "max_side", "quality"}
KNOBS = {
    "sam": {"sam_size", "points_per_side", "min_predicted_iou", "min_stability", "precision"},
    "medsam-lite": {"box_sides", "precision"},
    "crops": {"box_sides", "seed"},
    "regions": set[str](),
}


@schema.stage(reads=schema.FRAME, writes=schema.PATCH)
class ProposePatches:
    """Cut every kept frame into at most `per_frame` patches; pass every verdict on a frame or a video on.

    A frame without a region that survives becomes one row with the reason "no region". With `whole_frames` the last row of every kept
    frame is all of it, at its own size, as a patch of the proposer "frame".
    """

    def __init__(self, config: PatchesConfig, propose: Propose | None = None) -> None:
        weights = ""
        if propose is None:
            propose, weights = load(config)
        self.config, self.propose, self.settings = config, propose, settings_hash(config, weights)

    def __call__(self, frames: pa.Table) -> pa.Table:
        rows = [row for frame in frames.to_pylist() for row in self.rows(frame)]
        return pa.Table.from_pylist(rows, schema=schema.PATCH)

    def rows(self, frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows of one frame, sorted by box."""
        raw = frame.pop("image")
        if raw is None:
            yield frame
            return
        image = np.frombuffer(raw, np.uint8).reshape(frame["frame_height"], frame["frame_width"], 3)
        proposals = self.propose(image, frame["frame_id"])
        boxes = squares(proposals.boxes, self.config.margin, *image.shape[:2])
        chosen, detail = survivors(image, proposals, boxes, self.config)
        verdict = {} if len(chosen) else {"reason": NO_REGION, "detail": detail}
        expected = {"expected": len(chosen) + self.config.whole_frames}
        for index in chosen:
            pixels = cut(image, boxes[index], self.config.max_side)
            box = source_box(boxes[index], frame)
            found = measures(proposals, index, frame) | {"mask": mask_of(proposals, index, boxes[index], box)}
            yield frame | self.patch(pixels, box, frame) | found | expected
        if self.config.whole_frames:
            yield frame | verdict | self.whole(image, frame) | expected
        elif verdict:
            yield frame | verdict

    def patch(self, pixels: np.ndarray, box: list[int], frame: dict[str, Any]) -> dict[str, Any]:
        """The columns that say where a patch is, in pixels of the source video, and what it shows. `pixels` (h, w, 3) uint8."""
        return row(pixels, box, frame, (self.config.proposer, self.settings), self.config.quality)

    def whole(self, image: np.ndarray, frame: dict[str, Any]) -> dict[str, Any]:
        """The same of all that was kept of the frame; only the JPEG's quality decides what it is. `image` (H, W, 3) uint8."""
        quality = json.dumps({"quality": self.config.quality})
        content = list(frame["content"])
        settings = hashlib.sha256(quality.encode()).hexdigest()[:12]
        area = (content[2] - content[0]) * (content[3] - content[1])
        return row(image, content, frame, (schema.FRAME_PROPOSER, settings), self.config.quality) | {"area": area}


def row(pixels: np.ndarray, box: list[int], frame: dict[str, Any], by: tuple[str, str], quality: int) -> dict[str, Any]:
    """Columns of a patch that a proposer of such a name and settings cut out.

    `pixels` (h, w, 3) uint8, `box` y0, x0, y1, x1 in px of the source video.
    """
    jpeg, (proposer, settings) = pictures.encode(pixels, quality), by
    return {
        "patch_id": f"{frame['frame_id']}:{','.join(map(str, box))}:{proposer}-{settings}",
        "box": box,
        "proposer": proposer,
        "settings": settings,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "bytes": len(jpeg),
        "pixels": jpeg,
    }


def load(config: PatchesConfig) -> tuple[Propose, str]:
    """The configured proposer, and the sha256 of its weights, "" where it has none."""
    if config.proposer == "crops":
        return partial(random_crops, config=config), ""
    if config.proposer == "regions":
        return partial(colour_regions, config=config), ""
    return sam.load(config)


def settings_hash(config: PatchesConfig, weights: str) -> str:
    """Twelve hex digits of all that decides which patches a frame gives: the knobs its proposer reads, and its weights, not their path."""
    knobs = config.model_dump(mode="json", include=CUT | KNOBS[config.proposer])
    return hashlib.sha256(json.dumps({**knobs, "weights": weights}, sort_keys=True).encode()).hexdigest()[:12]


def squares(boxes: np.ndarray, margin: float, height: int, width: int) -> np.ndarray:
    """Boxes (N, 4) enlarged by `margin` of their side on every side and made square: centre kept, then shifted into the frame.

    Square, because rebuilding models take squares; one longer than the frame's shorter side is cut to it.
    """
    frame = np.array([height, width])
    side = np.ceil((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) * (1 + 2 * margin))
    sides = np.minimum(side[:, None], frame)
    starts = np.clip(np.round((boxes[:, :2] + boxes[:, 2:] - sides) / 2), 0, frame - sides)
    return np.hstack([starts, starts + sides]).astype(int)


def survivors(image: np.ndarray, proposals: Proposals, boxes: np.ndarray, config: PatchesConfig) -> tuple[np.ndarray, str]:
    """Indices of the proposals to keep, in the order of their `boxes`, and a sentence about those that fell.

    Strongest first by predicted IoU, as SAM orders its own suppression; the proposer's order breaks ties and stands where it predicts none.
    Overlap is that of the cut boxes: two masks that lead to the same picture are one patch. `image` (H, W, 3), `boxes` (N, 4); indices
    (n,).
    """
    shares = proposals.areas / (image.shape[0] * image.shape[1])
    sized = (shares > 0) & (config.min_area <= shares) & (shares <= config.max_area)
    sized &= (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=image.size) >= SMALLEST
    clean = black_shares(image, boxes) <= MAX_BLACK
    order = np.arange(len(boxes)) if proposals.predicted_ious is None else np.argsort(-proposals.predicted_ious, kind="stable")
    order = order[(sized & clean)[order]]
    kept = order[apart(boxes[order], config.max_overlap)][: config.per_frame]
    detail = f"{len(boxes)} regions proposed, {np.sum(~sized)} too small or too large, {np.sum(sized & ~clean)} with black in them"
    return kept[np.lexsort(boxes[kept].T[::-1])], detail


def black_shares(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of near-black pixels in each box (N,), by an integral image: one pass whatever the number of boxes."""
    black = np.all(image < BLACK, axis=2).astype(np.uint8)
    total = cv2.integral(black, sdepth=cv2.CV_32S)
    y0, x0, y1, x1 = boxes.T
    return np.asarray((total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]) / ((y1 - y0) * (x1 - x0)))


def apart(boxes: np.ndarray, max_overlap: float) -> np.ndarray:
    """Indices of the boxes (N, 4), strongest first, whose IoU with every stronger kept one is at most `max_overlap`.

    The same box twice falls at any `max_overlap`: a patch is named by its box.
    """
    heights_widths = boxes[:, 2:] - boxes[:, :2]
    areas = heights_widths.prod(axis=1)
    kept: list[int] = []
    for index, box in enumerate(boxes):
        others = boxes[kept]
        shared = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
        overlap = shared / (areas[index] + areas[kept] - shared)
        if not np.any((overlap > max_overlap) | (overlap == 1)):
            kept.append(index)
    return np.array(kept, int)


def cut(image: np.ndarray, box: np.ndarray, max_side: int) -> np.ndarray:
    """The pixels of the box, scaled down until the longer side is `max_side`. `image` (H, W, 3), `box` (4,): y0, x0, y1, x1."""
    y0, x0, y1, x1 = box
    scale = max_side / max(y1 - y0, x1 - x0)
    if scale >= 1:
        return image[y0:y1, x0:x1]
    part = image[y0:y1, x0:x1]
    return np.asarray(cv2.resize(part, pictures.size_at(part, scale), interpolation=cv2.INTER_AREA))


def source_scale(frame: dict[str, Any]) -> np.ndarray:
    """Pixels of the source video per pixel of the frame, down and across. (2,)."""
    top, left, bottom, right = frame["content"]
    return np.array([(bottom - top) / frame["frame_height"], (right - left) / frame["frame_width"]])


def source_box(box: np.ndarray, frame: dict[str, Any]) -> list[int]:
    """A box of the frame in whole pixels of the source video. `box` (4,)."""
    top, left = frame["content"][:2]
    offset = np.array([top, left, top, left])
    return [int(edge) for edge in np.round(box * np.tile(source_scale(frame), 2)) + offset]


def mask_of(proposals: Proposals, index: int, inside: np.ndarray, box: list[int]) -> bytes | None:
    """What of a region's mask lies `inside` a box of the frame, in pixels of that box in the source video; None where none was drawn.

    `inside` (4,).
    """
    if proposals.mask is None:
        return None
    size = (box[2] - box[0], box[3] - box[1])
    return outlines.packed(outlines.part(proposals.mask(index), inside.tolist(), size))


def measures(proposals: Proposals, index: int, frame: dict[str, Any]) -> dict[str, Any]:
    """What the proposer said about its region; null where it says nothing. SAM's IoU head may promise a little more than 1."""
    ious, stabilities = proposals.predicted_ious, proposals.stabilities
    return {
        "area": round(float(proposals.areas[index] * source_scale(frame).prod())),
        "predicted_iou": None if ious is None else float(np.clip(ious[index], 0, 1)),
        "stability": None if stabilities is None else float(stabilities[index]),
    }
