"""Views against torchvision's own, levels against timm's own, labels against plain loops over pixels."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.transforms import ColorJitter

from engine import geometry, mae, targets, transfer
from engine.models import MAEConfig
from engine.monitor import Looker
from engine.settings import Scored, TransferConfig
from engine.targets import Targets

SIDE = 32
PUBLISHED = TransferConfig()
PER_IMAGE = TransferConfig(augmentation="per_image")


def vit(depth: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return timm.models.VisionTransformer(img_size=SIDE, patch_size=8, embed_dim=24, depth=depth, num_heads=2, num_classes=0)


def score(encoder: nn.Module, some: Targets, config: TransferConfig) -> float:
    """The one score, or as an exception why there is none."""
    found = targets.scores(encoder, some, config, [config.score])
    if found.gaps:
        raise geometry.UnscorableError(found.gaps[config.score])
    return found.scores[config.score]


def every_level(encoder: nn.Module, some: Targets, view: targets.View, config: TransferConfig) -> list[np.ndarray]:
    """The means over places at every level that there is."""
    parts = [[level.float().mean((2, 3)).numpy() for level in levels] for levels in targets.passes(encoder, some, view, config)]
    return [np.concatenate(level) for level in zip(*parts, strict=True)]


def coloured(n: int, seed: int = 0) -> np.ndarray:
    """Images of four coloured squares each."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 2, 2, 3), np.uint8)
    return coarse.repeat(SIDE // 2, 1).repeat(SIDE // 2, 2)


def masked(n: int) -> Targets:
    """Images with a square of foreground of 12 x 12 px, somewhere."""
    rng = np.random.default_rng(1)
    masks = np.zeros((n, SIDE, SIDE), bool)
    for mask in masks:
        y, x = rng.integers(0, 20, 2)
        mask[y : y + 12, x : x + 12] = True
    return Targets(coloured(n), masks)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, pictures in (("images", coloured(6)), ("masks", masked(6).masks * 255)):
        (tmp_path / part).mkdir()
        for number, picture in enumerate(pictures):
            cv2.imwrite(str(tmp_path / part / f"{number}.png"), picture)
    return tmp_path


def test_colours_change_as_torchvision_changes_them() -> None:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    names = ("brightness", "contrast", "saturation", "hue")
    for seed in range(5):
        drawn = targets.draw(np.random.default_rng(seed))
        factors = dict(drawn)

        class Fixed(ColorJitter):
            @staticmethod
            def get_params(*_: Any, drawn: Any = drawn, factors: Any = factors) -> Any:
                return (torch.tensor([names.index(name) for name, _ in drawn]), *(factors[name] for name in names))

        torch.testing.assert_close(targets.jittered(image, drawn), Fixed(0.1, 0.05, 0.1, 0.05)(image))


def test_draws_fill_the_published_ranges_in_every_order() -> None:
    drawn = [targets.draw(np.random.default_rng(seed)) for seed in range(500)]
    published = ColorJitter(brightness=0.1, contrast=0.05, saturation=0.1, hue=0.05)
    for name in targets.REACHES:
        low, high = getattr(published, name)
        found = [dict(one)[name] for one in drawn]
        assert low <= min(found) < low + 0.02 * (high - low)
        assert high >= max(found) > high - 0.02 * (high - low)
    assert len({tuple(name for name, _ in one) for one in drawn}) == 24


def test_the_published_views_share_one_draw_and_the_corrected_ones_have_one_for_each_image() -> None:
    ids = ["a", "b", "c"]
    queries, keys = (targets.draws(ids, view, PUBLISHED) for view in ("queries", "keys"))
    assert len({*queries}) == len({*keys}) == 1
    assert queries[0] != keys[0]
    assert len({*targets.draws(ids, "queries", PER_IMAGE), *targets.draws(ids, "keys", PER_IMAGE)}) == 6
    assert targets.draws(["c"], "keys", PER_IMAGE) == targets.draws(ids, "keys", PER_IMAGE)[2:]  # whoever stands beside it
    assert targets.draws(ids, "keys", PUBLISHED.model_copy(update={"seed": 1})) != keys


@pytest.mark.parametrize("config", [PUBLISHED, PER_IMAGE])
def test_features_do_not_depend_on_the_batch(config: TransferConfig) -> None:
    many, encoder = Targets(coloured(targets.BATCH + 3)), vit()
    few = Targets(many.images[-2:])
    for view in get_args(targets.View):
        whole, part = (targets.at(encoder, some, view, config)[-2] for some in (many, few))
        np.testing.assert_allclose(whole[-2:], part, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224", "convnext_atto"])
def test_the_levels_of_other_encoders_are_their_stages_however_they_are_built(name: str) -> None:
    some = Targets(coloured(2).repeat(2, 1).repeat(2, 2))
    sides = {"img_size": 64} if name.startswith("swin") else {}
    encoder = timm.create_model(name, pretrained=False, num_classes=0, **sides)
    stages = timm.create_model(name, pretrained=False, features_only=True, **sides)
    shared = {
        key.replace("layers.", "layers_").replace("stages.", "stages_").replace("stem.", "stem_"): value
        for key, value in encoder.state_dict().items()
    }
    stages.load_state_dict({key: shared[key] if key in shared else encoder.state_dict()[key] for key in stages.state_dict()})
    found, expected = (every_level(one, some, "features", PUBLISHED) for one in (encoder, stages))
    assert [level.shape[1] for level in found] == stages.feature_info.channels()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_levels_of_a_vit_are_its_quarters_or_all_its_blocks() -> None:
    some, encoder = Targets(coloured(2)), vit(depth=12)
    quarters = every_level(encoder, some, "features", PUBLISHED)
    blocks = every_level(encoder, some, "features", TransferConfig(blocks="every"))
    assert [len(quarters), len(blocks)] == [4, 12]
    for level, block in zip(quarters, (2, 5, 8, 11), strict=True):
        np.testing.assert_array_equal(level, blocks[block])
    assert targets.chosen(2, PUBLISHED) == [0, 1]


def test_the_levels_of_our_autoencoder_are_those_of_the_timm_model_with_its_weights() -> None:
    config = MAEConfig(size="tiny", side=SIDE, token=8, decoder_width=16, decoder_depth=1, decoder_heads=2)
    torch.manual_seed(0)
    ours = mae.MAE(config)
    theirs = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0, img_size=SIDE, patch_size=8)
    theirs.load_state_dict(mae.timm_state(ours))
    some = Targets(coloured(3))
    for level in (0, -2, 3):
        at = TransferConfig(level=level)
        np.testing.assert_allclose(targets.at(ours, some, "keys", at)[level], targets.at(theirs, some, "keys", at)[level], atol=1e-4)


def test_looking_leaves_the_encoder_and_the_state_of_chance_as_they_were() -> None:
    encoder = timm.create_model("resnet18", pretrained=False, num_classes=0, drop_rate=0.5).train()
    encoder.layer1.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    modes, chance = [part.training for part in encoder.modules()], torch.random.get_rng_state()
    some = Targets(coloured(4).repeat(2, 1).repeat(2, 2))
    assert score(encoder, some, PUBLISHED) == score(encoder, some, PUBLISHED)
    assert modes == [part.training for part in encoder.modules()]
    assert torch.equal(chance, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_looker_scores_the_encoder_as_it_was_at_each_look_beside_the_training() -> None:
    some, encoder, expected = Targets(coloured(6)), vit(), []
    looker = Looker(PUBLISHED, partial(targets.scores, targets=some, config=PUBLISHED, names=["robustness"]))
    for step in range(3):
        expected.append(score(encoder, some, PUBLISHED))
        looker(step, encoder)
        with torch.no_grad():
            encoder.blocks[0].mlp.fc1.weight.mul_(3)
    looker.drain()
    assert [looker.monitor.scores[step] for step in range(3)] == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) == 3


def test_the_default_score_is_robustness_of_the_second_deepest_level_pooled() -> None:
    some, encoder = Targets(coloured(6)), vit()
    queries, keys = (every_level(encoder, some, view, PUBLISHED)[-2] for view in ("queries", "keys"))
    assert score(encoder, some, PUBLISHED) == pytest.approx(transfer.robustness(queries, keys), rel=1e-6)
    other = TransferConfig(margin=0.0, distance="l2", negatives="others", level=0, pooled=False)
    queries, keys = (targets.at(encoder, some, view, other)[0] for view in ("queries", "keys"))
    assert queries.shape == (6, 24, 4, 4)
    assert score(encoder, some, other) == pytest.approx(transfer.robustness(queries, keys, 0.0, "l2", "others"), rel=1e-6)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("name", get_args(Scored))
def test_every_configurable_score_can_be_had_of_an_encoder(name: Scored, pooled: bool) -> None:
    found = score(vit(), masked(8), TransferConfig(score=name, pooled=pooled))
    assert np.isfinite(found)


def test_a_place_has_the_class_of_most_of_its_pixels() -> None:
    some = masked(4)
    maps = np.random.default_rng(0).normal(size=(4, 5, 4, 4)).astype(np.float32)
    some.masks[1] = False
    found = targets.labelled(maps, some, PUBLISHED)
    assert (found["labels"][found["images"] == 1] == 0).all()
    for image in range(4):
        shares = {(y, x): some.masks[image, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean() for y in range(4) for x in range(4)}
        for label in (0, 1):
            right = {tuple(maps[image, :, y, x]) for (y, x), share in shares.items() if (share > 0.5 if label else share < 0.5)}
            drawn = [tuple(one) for one in found["features"][(found["images"] == image) & (found["labels"] == label)]]
            assert set(drawn) <= right
            assert len(drawn) == len(set(drawn)) == min(targets.PLACES, len(right))


def test_a_folder_gives_each_picture_once_with_its_mask_and_the_seed_draws(folder: Path) -> None:
    config = TransferConfig(uri=str(folder), score="knn")
    whole = targets.read(config, SIDE)
    by_id = dict(zip(Targets(coloured(6)[..., ::-1].copy()).ids, masked(6).masks, strict=True))  # cv2 writes BGR
    assert set(whole.ids) == set(by_id)
    assert all((by_id[name] == mask).all() for name, mask in zip(whole.ids, whole.masks, strict=True))
    for part in ("images", "masks"):
        (folder / part / "twin.png").write_bytes((folder / part / "0.png").read_bytes())
    assert targets.read(config, SIDE).ids == whole.ids
    few = [targets.read(config.model_copy(update={"images": 3, "seed": seed}), SIDE).ids for seed in range(4)]
    assert few[0] == whole.ids[:3]
    assert len({*map(tuple, few)}) > 1
    assert set(targets.read(TransferConfig(uri=str(folder / "images")), SIDE).ids) == set(whole.ids)


def nothing(folder: Path) -> Path:
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("none here")
    return folder / "empty"


def one(folder: Path) -> Path:
    (folder / "one").mkdir()
    for name in "ab":
        (folder / "one" / f"{name}.png").write_bytes((folder / "images" / "0.png").read_bytes())
    return folder / "one"


def no_picture(folder: Path) -> Path:
    (folder / "images" / "0.png").write_bytes(b"a letter")
    return folder / "images"


def misfit(folder: Path) -> Path:
    cv2.imwrite(str(folder / "masks" / "0.png"), np.zeros((8, 8), np.uint8))
    return folder


def lonely(folder: Path) -> Path:
    (folder / "masks" / "0.png").unlink()
    return folder


@pytest.mark.parametrize(
    ("spoilt", "sentence"),
    [
        (lambda folder: folder / "nowhere", r"transfer.uri=.*nowhere: there is no such folder"),
        (nothing, r"transfer.uri=.* holds 0 different pictures, expected two target images at least"),
        (one, r"transfer.uri=.* holds 1 different pictures"),
        (no_picture, r"^transfer.uri=.*: .*0.png cannot be decoded, expected a picture"),
        (misfit, r"0.png is 32x32 px, but its mask .*0.png is 8x8 px"),
        (lonely, r"transfer.uri=.*: 1 of 6 have no mask of the same stem"),
    ],
)
def test_a_folder_that_gives_no_targets_is_a_sentence(folder: Path, spoilt: Callable[[Path], Path], sentence: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        targets.read(TransferConfig(uri=str(spoilt(folder))), SIDE)


def test_labels_that_are_not_there_are_missed_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"transfer.score=logme takes labels, so transfer.uri=.* must have images/ and masks/"):
        targets.read(TransferConfig(uri=str(folder / "images"), score="logme"), SIDE)
    with pytest.raises(ValueError, match=r"these target images have no masks, and a score that takes labels was asked"):
        score(vit(), Targets(coloured(4)), TransferConfig(score="logme"))


def broken() -> nn.Module:
    encoder = vit()
    nn.init.constant_(encoder.blocks[1].mlp.fc2.weight, float("nan"))
    return encoder


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Targets(coloured(1)), r"1 target images hold 1 different ones, expected two at least and none twice"),
        (lambda: Targets(coloured(2).astype(float)), r"float64 of shape \(2, 32, 32, 3\), expected uint8"),
        (lambda: Targets(coloured(2), np.zeros((2, 4, 4), bool)), r"masks of shape \(2, 4, 4\) do not fit"),
        (lambda: score(broken(), Targets(coloured(3)), PUBLISHED), r"of 3 of 3 target images are not finite"),
        (
            lambda: score(vit(), Targets(coloured(3)), TransferConfig(level=4)),
            r"transfer.level=4 is none of the encoder's 4 levels",
        ),
        (lambda: score(nn.Conv2d(3, 4, 3), Targets(coloured(3)), PUBLISHED), r"Conv2d gives no maps of its levels"),
    ],
)
def test_what_gives_no_features_is_a_sentence(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_collapsed_encoder_is_as_little_robust_as_the_margin_says() -> None:
    encoder = vit()
    for weight in encoder.parameters():
        nn.init.zeros_(weight)
    nn.init.ones_(encoder.pos_embed)  # every image looks the same
    assert score(encoder, Targets(coloured(4)), PUBLISHED) == pytest.approx(PUBLISHED.margin)
    assert geometry.effective_rank(every_level(encoder, Targets(coloured(4)), "features", PUBLISHED)[-2]) == 0


LEVELS = (-1, -2, 0)


def test_several_levels_are_scored_in_one_go_as_each_alone_is() -> None:
    some, encoder, names = masked(8), vit(), list(get_args(Scored))
    together = targets.scores(encoder, some, TransferConfig(levels=LEVELS), names)
    assert not together.gaps
    for level in LEVELS:
        alone = targets.scores(encoder, some, TransferConfig(level=level), names).scores
        assert {name: together.scores[f"{name}/level {level}"] for name in names} == pytest.approx(alone, rel=1e-5)
    assert len(together.scores) == len(LEVELS) * len(names)


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [
        ((-1, 4), r"transfer.levels=4 is none of the encoder's 4 levels"),
        ((-1, 3), r"transfer.levels=\(-1, 3\) names one of the encoder's 4"),
    ],
)
def test_levels_that_are_not_there_or_there_twice_are_refused_before_a_training(levels: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        targets.check(vit(), Targets(coloured(3)), TransferConfig(levels=levels))
    assert not isinstance(refusal.value, geometry.UnscorableError)
    targets.check(vit(), Targets(coloured(3)), TransferConfig(levels=LEVELS))


def test_what_is_heard_together_is_what_can_be_had() -> None:
    with_masks, without = masked(4), Targets(coloured(4))
    blind = {"robustness", "alignment", "lidar", "uniformity", "rankme", "effective_rank"}
    assert set(targets.watched(with_masks, TransferConfig(score="ranks"))) == blind == set(transfer.BLIND)
    assert set(targets.watched(with_masks, TransferConfig(score="vote"))) == set(get_args(Scored))
    assert set(targets.watched(without, TransferConfig(score="vote"))) == blind
    assert targets.watched(without, TransferConfig(score="lidar")) == ["lidar"]


def test_a_score_that_is_not_to_be_had_is_a_gap_among_those_that_are() -> None:
    encoder = vit()
    for weight in encoder.parameters():
        nn.init.zeros_(weight)
    some = masked(4)
    found = targets.scores(encoder, some, TransferConfig(), ["lidar", "robustness", "effective_rank"])
    assert found.scores == {"effective_rank": 0}
    assert set(found.gaps) == {"lidar", "robustness"}
    assert "the features of all 8 views are the same" in found.gaps["lidar"]
    assert set(targets.scores(broken(), some, TransferConfig(), ["knn", "rankme"]).gaps) == {"knn", "rankme"}


def test_masks_that_show_no_class_at_any_place_are_a_gap_and_masks_all_of_one_class_are_refused(folder: Path) -> None:
    specks = np.zeros((4, SIDE, SIDE), bool)
    specks[:, 3, 3] = True  # one pixel is nowhere the most of a place
    found = targets.scores(vit(), Targets(coloured(4), specks), TransferConfig(), ["knn", "robustness"])
    assert "no place of 4 x 4 lies mostly in the foreground" in found.gaps["knn"]
    assert set(found.scores) == {"robustness"}
    for mask in (folder / "masks").iterdir():
        cv2.imwrite(str(mask), np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ValueError, match=r"transfer.score=knn takes labels, and the masks of transfer.uri=.* are all of one class"):
        targets.read(TransferConfig(uri=str(folder), score="knn"), SIDE)
    some = targets.read(TransferConfig(uri=str(folder)), SIDE)
    assert set(targets.obtainable(some)) == set(transfer.BLIND)
