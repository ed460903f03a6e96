import json

import pytest
import safetensors.torch
import timm
import torch

from engine import cards, mae, simclr
from engine.cards import Origin
from engine.config import TrainConfig
from engine.models import MAEConfig, SimCLRConfig

VIT = MAEConfig(size="tiny", side=64, token=8, decoder_width=32, decoder_depth=1, decoder_heads=2)
RECIPE = TrainConfig(mae=VIT, epochs=4, warmup_epochs=1)
DATA = {"selection": "a1b2", "images_version": 7, "budget": "25 % of the bytes", "images": 1234}


def trained(make, seed=0):
    """A model of which no weight and no running mean is what it was made with."""
    torch.manual_seed(seed)
    model = make().eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(tensor + 0.02 * torch.rand_like(tensor))
    return model


def exported(model, folder):
    cards.export(model, Origin(DATA, RECIPE, "0123456789ab", {"train/loss": 0.25}, 3, "of 3 looks the best"), str(folder))
    return json.loads((folder / "card.json").read_text())


def test_a_card_says_what_each_of_its_hours_is(tmp_path):
    """Three that are no parts of one sum; of a training that nobody looked at there is one."""
    told = {"train/gpu_hours": 2.0, "train/look_hours": 0.5, "transfer/gpu_hours": 0.7}
    for name, metrics in {"watched": told, "blind": {"train/gpu_hours": 2.0}}.items():
        cards.export(trained(lambda: mae.MAE(VIT)), Origin(DATA, RECIPE, "0123456789ab", metrics, 3, "the last"), str(tmp_path / name))
        end = (tmp_path / name / "README.md").read_text().partition("## At the end of the training")[2].partition("\n## ")[0]
        assert [line.partition("`")[0] for line in end.splitlines() if line.startswith("`")] == [""] * len(metrics)
        assert {one: f"\n`{one}`: " in end for one in told} == {one: one in metrics for one in told}
    assert set(cards.HOURS) == set(told)


def ran(lines, folder, monkeypatch):
    """The model that the lines of a card make."""
    monkeypatch.chdir(folder)
    found = {}
    exec(lines, found)
    return found["model"].eval()


def images(side):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def vit_of_simclr():
    return simclr.SimCLR(SimCLRConfig(encoder="vit_tiny_patch16_224", side=64))


@pytest.mark.parametrize(
    ("make", "features"),
    [
        (lambda: mae.MAE(VIT), lambda model, shown: model.encode(shown)[:, 0]),
        (lambda: simclr.SimCLR(SimCLRConfig(encoder="resnet50", side=64)), lambda model, shown: model.encode(shown)),
        (vit_of_simclr, lambda model, shown: model.encode(shown)),
    ],
    ids=["mae", "simclr resnet50", "simclr vit"],
)
def test_timm_and_smp_make_the_same_features_by_the_lines_of_the_card(tmp_path, monkeypatch, make, features):
    model, shown = trained(make), images(64)
    told = exported(model, tmp_path)
    with torch.inference_mode():
        ours = features(model, shown)
        theirs = ran(told["load"]["timm"], tmp_path, monkeypatch)
        assert torch.equal(theirs(shown), ours)
        drawn = ran(told["load"]["segmentation-models-pytorch"], tmp_path, monkeypatch)
        assert drawn(shown).shape == (2, 1, 64, 64)
        if told["model"]["timm"] == "resnet50":
            torch.testing.assert_close(drawn.encoder(shown)[-1].mean((2, 3)), ours, atol=1e-6, rtol=1e-6)
        else:
            assert torch.equal(drawn.encoder.model(shown), ours)


def test_the_export_holds_the_encoder_and_nothing_else(tmp_path):
    model = trained(lambda: mae.MAE(VIT))
    exported(model, tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "encoder.safetensors")
    assert weights.keys() == timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict().keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "card.json", "encoder.safetensors"]


def test_an_encoder_that_has_a_weight_at_several_places_is_exported_whole(tmp_path, monkeypatch):
    model, shown = trained(lambda: simclr.SimCLR(SimCLRConfig(encoder="coat_lite_tiny", side=64))), images(64)
    told = exported(model, tmp_path)
    with torch.inference_mode():
        assert torch.equal(ran(told["load"]["timm"], tmp_path, monkeypatch)(shown), model.encode(shown))


def test_the_card_says_where_the_model_comes_from(tmp_path):
    told = exported(trained(lambda: mae.MAE(VIT)), tmp_path)
    assert told["data"] == DATA
    assert told["chosen"] == {"epochs": 3, "why": "of 3 looks the best", "trained": None}
    assert told["recipe"] == {"fingerprint": RECIPE.fingerprint(), **RECIPE.model_dump(mode="json")}
    text = (tmp_path / "README.md").read_text()
    lines = ["- images_version: 7", f"- fingerprint: {RECIPE.fingerprint()}", "- mae.token: 8", "- train/loss: 0.25", "Commit 0123456789ab"]
    assert all(f"\n{line}" in text for line in lines)
    assert all(limit in text for limit in told["limits"])
    assert told["load"]["timm"] in text
    assert len(text.splitlines()) < 120


@pytest.mark.parametrize("encoder", ["convnext_atto", "efficientnet_b0", "twins_svt_small"])  # of the last timm's maps are named "model."
def test_smps_unet_has_the_feature_maps_of_any_encoder_of_timm_that_halves_them(tmp_path, monkeypatch, encoder):
    model, shown = trained(lambda: simclr.SimCLR(SimCLRConfig(encoder=encoder, side=64))), images(64)
    told = exported(model, tmp_path)
    with torch.inference_mode():
        assert torch.equal(ran(told["load"]["timm"], tmp_path, monkeypatch)(shown), model.encode(shown))
        drawn = ran(told["load"]["segmentation-models-pytorch"], tmp_path, monkeypatch)
        assert drawn(shown).shape == (2, 1, 64, 64)
        _, levels = model.encoder.forward_intermediates(shown)
        torch.testing.assert_close(drawn.encoder(shown)[-1], levels[-1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: simclr.SimCLR(SimCLRConfig(encoder="test_vit", side=160)),
        lambda: mae.MAE(VIT.model_copy(update={"side": 56, "token": 14})),
    ],
    ids=["a vit that is not plain", "tokens of 14 px"],
)
def test_a_card_says_where_smp_has_no_network(tmp_path, monkeypatch, make):
    model = trained(make)
    told = exported(model, tmp_path)
    assert list(told["load"]) == ["timm"]
    assert "segmentation-models-pytorch has no network for this encoder." in (tmp_path / "README.md").read_text()
    ran(told["load"]["timm"], tmp_path, monkeypatch)


def test_a_vit_that_timm_does_not_have_plain_is_made_plain_by_the_lines_of_the_card(tmp_path, monkeypatch):
    model, shown = trained(lambda: mae.MAE(VIT.model_copy(update={"size": "xsmall"}))), images(64)
    told = exported(model, tmp_path)
    with torch.inference_mode():
        assert torch.equal(ran(told["load"]["timm"], tmp_path, monkeypatch)(shown), model.encode(shown)[:, 0])
        drawn = ran(told["load"]["segmentation-models-pytorch"], tmp_path, monkeypatch)
        assert drawn(shown).shape == (2, 1, 64, 64)
        assert torch.equal(drawn.encoder.model(shown), model.encode(shown)[:, 0])


def test_metrics_that_could_not_be_asked_for_are_said_to_be_unknown():
    told = cards.facts(trained(lambda: mae.MAE(VIT)), Origin(DATA, RECIPE, "c", {}, 4, "the last"))
    assert "Not known: the tracking server was out of reach" in cards.card(told)
