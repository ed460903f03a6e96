"""What a proposer says about a frame, and the two proposers that need no weights."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from engine.config import PatchesConfig
from engine.outlines import resized


@dataclass(frozen=True)
class Proposals:
    """Regions of one frame, the proposer's favourites first where it gives no predicted IoU."""

    boxes: np.ndarray  # (N, 4) int y0, x0, y1, x1 in pixels of the frame, half open
    areas: np.ndarray  # (N,) pixels of the mask
    predicted_ious: np.ndarray | None = None  # (N,) the larger the surer
    stabilities: np.ndarray | None = None  # (N,) 0 to 1
    mask: Callable[[int], np.ndarray] | None = None  # (H, W) bool of the frame, drawn for those that are kept; None: no region was cut


Propose = Callable[[np.ndarray, str], Proposals]  # (frame (H, W, 3) uint8 RGB, frame_id)

SMALLEST = 16  # px, side of a patch: one token of a ViT
DRAWS = 4  # random crops drawn per patch asked for: the artefact guard took 45 % of them on Kvasir-SEG, overlap a few more
LONGEST = 256  # px of the frame that is segmented: LiteMedSAM's resolution, and 0.1 s a frame
SCALES = (100.0, 300.0)  # of Felzenszwalb's merging: folds and polyps at the first, walls at the second


def random_crops(image: np.ndarray, frame_id: str, config: PatchesConfig) -> Proposals:
    """Random squares (OptiDEL-S), drawn from (seed, frame_id).

    Their sides span the sizes of medsam-lite's prompts, so that the two proposers differ in where they look.
    """
    digest = hashlib.sha256(f"{config.seed}:{frame_id}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest))
    size = np.array(image.shape[:2])
    shares = rng.uniform(min(config.box_sides), max(config.box_sides), DRAWS * config.per_frame)
    sides = np.maximum(1, np.round(shares * size.min()).astype(int))[:, None]
    starts = np.floor(rng.random((len(sides), 2)) * (size - sides + 1)).astype(int)
    return Proposals(np.hstack([starts, starts + sides]), (sides**2)[:, 0])


def colour_regions(image: np.ndarray, frame_id: str, config: PatchesConfig) -> Proposals:
    """Regions of even colour (Felzenszwalb and Huttenlocher 2004) of the frame scaled to 256 px, the largest first."""
    from skimage.measure import regionprops
    from skimage.segmentation import felzenszwalb

    scale = min(1.0, LONGEST / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    smallest = max(1, round(config.min_area * small.shape[0] * small.shape[1]))
    labels = [felzenszwalb(small, scale=merging, sigma=0.8, min_size=smallest) + 1 for merging in SCALES]
    regions = [region for labelled in labels for region in regionprops(labelled)]
    regions.sort(key=lambda region: (-region.area, region.bbox))
    boxes = np.array([region.bbox for region in regions]).reshape(-1, 4)

    def mask(index: int) -> np.ndarray:
        drawn = np.zeros(small.shape[:2], np.bool_)
        drawn[regions[index].slice] = regions[index].image
        return resized(drawn, (image.shape[0], image.shape[1]))

    found = scaled(boxes, np.array([region.area for region in regions]), small.shape, image.shape)
    return replace(found, mask=mask)


def scaled(boxes: np.ndarray, areas: np.ndarray, found: tuple[int, ...], frame: tuple[int, ...]) -> Proposals:
    """Boxes and areas found in a picture of shape `found` in pixels of the `frame`; a box grows to whole pixels.

    Boxes (N, 4), areas (N,) in px.
    """
    ratio = np.array(frame[:2]) / np.array(found[:2])
    starts = np.floor(boxes[:, :2] * ratio).astype(int)
    ends = np.minimum(np.ceil(boxes[:, 2:] * ratio), frame[:2]).astype(int)
    return Proposals(np.hstack([starts, ends]), np.round(areas * ratio.prod()).astype(int))
