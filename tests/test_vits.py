"""Every size of vision transformer that timm has, against the networks that timm makes."""

import pytest
import timm
import torch

from engine import mae, vits
from engine.models import EvaluateConfig, MAEConfig
from engine.segmenters import segmenter

# Width, depth, heads, width within: arXiv 2010.11929 table 1 (base, large, huge), 2106.04560 table 2 (tiny, small, giant, gigantic: g and
# G), 2305.13035 (so400m); the others as timm's source has them.
PUBLISHED = {
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
    "giant": (1408, 40, 16, 6144),
    "gigantic": (1664, 48, 16, 8192),
    "so400m": (1152, 27, 16, 4304),
    "so150m": (896, 18, 14, 2304),
    "medium": (512, 12, 8, 2048),
    "xsmall": (256, 10, 4, 1024),
}
OTHERS = {"betwixt", "giantopt", "intern300m", "little", "mediumd", "so150m2", "wee"}
NO_SUCH = {"dlittle", "dpwee", "dwee", "pwee"}  # attention or blocks of another kind
FEW = ("tiny", "xsmall", "wee")  # plain; from CLIP; with a register, no class token, and five times as wide within


def config_of(size, **knobs):
    return MAEConfig(size=size, side=48, token=16, decoder_width=32, decoder_depth=1, decoder_heads=2, **knobs)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "so150m", "medium", "xsmall"])
def test_a_size_has_the_published_shape(size):
    assert vits.shape(size)[1:5] == PUBLISHED[size]


@pytest.mark.slow
def test_a_size_that_timm_has_as_it_was_published_is_that_network():
    assert {size: vits.shape(size)[1:5] for size in PUBLISHED} == PUBLISHED
    plain = {size for size in PUBLISHED if vits.plain(size)}
    assert plain == {"tiny", "small", "base", "large", "huge", "giant", "gigantic"}
    assert vits.shape("huge").network == "vit_huge_patch14_224"


@pytest.mark.slow
def test_there_is_no_size_in_timm_that_is_neither_taken_nor_known_to_be_of_another_kind():
    assert set(vits.sizes()) == {*PUBLISHED, *OTHERS, *NO_SUCH}
    for size in vits.sizes():
        if size in NO_SUCH:
            with pytest.raises(ValueError, match=f"mae.size={size} is no size"):
                vits.shape(size)
        else:
            same_weights_on_meta(size)


@pytest.mark.parametrize("size", FEW)
def test_the_encoder_has_the_weights_of_timms_network(size):
    same_weights_on_meta(size)


def same_weights_on_meta(size):
    shape, config = vits.shape(size), config_of(size)
    with torch.device("meta"):
        model = mae.MAE(config)
        theirs = timm.create_model(shape.network, num_classes=0, img_size=48, patch_size=16, **shape.arguments)
    expected = {name: weight.shape for name, weight in theirs.state_dict().items()}
    assert {name: weight.shape for name, weight in model.state_dict().items() if name.startswith(vits.PARTS)} == expected
    assert (theirs.blocks[0].attn.num_heads, model.blocks[0].attn.num_heads) == (shape.heads, shape.heads)


@pytest.mark.parametrize("size", FEW[1:])
def test_a_size_that_timm_does_not_have_plain_has_the_features_of_timms_network_made_plain(size):
    torch.manual_seed(0)
    model, shape = mae.MAE(config_of(size)).eval(), vits.shape(size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    theirs = timm.create_model(shape.network, num_classes=0, img_size=48, patch_size=16, **shape.arguments).eval()
    theirs.load_state_dict(mae.timm_state(model))
    images = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        assert torch.equal(theirs.forward_features(images), model.encode(images))


@pytest.mark.parametrize("size", FEW[1:])
def test_a_dpt_stands_on_every_size(size):
    torch.manual_seed(0)
    model = mae.MAE(config_of(size))
    made = segmenter(mae.timm_state(model), model.config, EvaluateConfig(side=64)).eval()
    with torch.inference_mode():
        assert made(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)
    assert torch.equal(made.encoder.model.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)


def test_a_size_that_timm_does_not_have_is_refused_with_those_called_alike():
    with pytest.raises(ValueError, match=r"^mae\.size=meduim is no size of a vision transformer in timm; there are medium"):
        mae.MAE(config_of("meduim"))
    with pytest.raises(ValueError, match=r"there are base, betwixt, .*xsmall$"):
        vits.shape("zzz")
    assert vits.shape("base").network == "vit_base_patch16_224"
