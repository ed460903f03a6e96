"""Which encoders the job evaluate fine-tunes, and around which networks."""

import re

import pytest
import torch

from engine import cards, segmenters, simclr
from engine.config import Config, SimCLRConfig
from engine.models import EvaluateConfig, MAEConfig, TrainConfig
from jobs import evaluate

SHAPE = SimCLRConfig(encoder="resnet18", side=32, projection=16)


def config_of(architecture, network, encoder="resnet18"):
    recipe = TrainConfig(architecture=architecture, simclr=SHAPE)
    return Config(pretrain=recipe, evaluate=EvaluateConfig(architecture=network, encoder=encoder, side=32))


def test_a_unet_is_built_around_what_simclr_trained_to_the_last_weight():
    model = simclr.SimCLR(SHAPE)
    made = segmenters.segmenter(cards.encoder(model), MAEConfig(), config_of("simclr", "unet").evaluate)
    theirs = made.encoder.state_dict()
    assert all(torch.equal(theirs[name], weight) for name, weight in cards.encoder(model).items())
    assert set(theirs) == set(cards.encoder(model))


def test_the_baseline_of_simclr_is_its_encoder_before_the_first_step():
    one, same = evaluate.untrained(config_of("simclr", "unet")), evaluate.untrained(config_of("simclr", "unet"))
    assert one.weights == same.weights
    assert set(one.encoder) == set(cards.encoder(simclr.SimCLR(SHAPE)))


@pytest.mark.parametrize(
    ("encoder", "network", "side"),
    [
        ("vit_tiny_patch16_224", "dpt", 64),
        ("swin_tiny_patch4_window7_224", "unet", 96),
        ("swin_tiny_patch4_window7_224", "attention_unet", 96),
        ("resnet18", "attention_unet", 32),
    ],
)
def test_what_simclr_trained_is_fine_tuned_to_the_last_weight(encoder, network, side):
    shape = SimCLRConfig(encoder=encoder, side=side, projection=16)
    config = Config(
        pretrain=TrainConfig(architecture="simclr", simclr=shape),
        evaluate=EvaluateConfig(architecture=network, encoder="resnet50" if network == "dpt" else encoder, side=side),
    )
    evaluate.check_fits(config)
    trained = evaluate.untrained(config).encoder
    made = segmenters.segmenter(trained, evaluate.stood_on(config), config.evaluate)
    inner = getattr(made.encoder, "model", made.encoder).state_dict()
    unused = {"norm.weight", "norm.bias"} if encoder.startswith("swin") else set()  # behind the last map
    assert {re.sub(r"^layers_", "layers.", name) for name in inner} == set(trained) - unused
    assert all(torch.equal(weights, trained[re.sub(r"^layers_", "layers.", name)]) for name, weights in inner.items())


@pytest.mark.parametrize(
    ("architecture", "network", "encoder", "sentence"),
    [
        ("simclr", "dpt", "resnet18", r"pretrain\.simclr\.encoder=resnet18: a DPT is fine-tuned on a plain ViT such as vit_tiny_patch16"),
        ("mae", "unet", "resnet18", r"evaluate\.architecture=unet is fine-tuned on what SimCLR trained"),
        ("mae", "attention_unet", "resnet18", r"evaluate\.architecture=attention_unet is fine-tuned on what SimCLR trained"),
        ("simclr", "unet", "resnet50", r"evaluate\.encoder=resnet50 is not what was trained, expected pretrain\.simclr\.encoder=resnet18"),
    ],
)
def test_an_encoder_that_the_network_does_not_take_is_one_sentence(architecture, network, encoder, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate.check_fits(config_of(architecture, network, encoder))
