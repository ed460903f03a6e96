"""The masked autoencoder against Hugging Face's, against timm's encoder and against the definition of its loss."""

import argparse
import copy
import json
import re
from functools import cache

import fsspec
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from engine import mae, vits
from engine.config import MAEConfig

TINY = MAEConfig(size="tiny", side=32, token=8, decoder_width=64, decoder_depth=2, decoder_heads=4)
OTHER = MAEConfig(size="small", side=48, token=16, decoder_width=96, decoder_depth=1, decoder_heads=2, mask_ratio=0.5, norm_pix=True)


@cache
def random_model(config):
    """Weights with no zero and no one among them, so that two confused weights are seen; shared, so not to be changed."""
    torch.manual_seed(0)
    model = mae.MAE(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    return model


def pictures(config, count=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, config.side, config.side, generator=generator)
    return images, torch.rand(count, (config.side // config.token) ** 2, generator=generator)


def hugging_face(config, eps=1e-6):
    """Its model with random weights; the official models norm with eps=1e-6, its own default is 1e-12."""
    _, width, depth, heads, *_ = vits.shape(config.size)
    settings = ViTMAEConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * width, image_size=config.side,
        patch_size=config.token, decoder_hidden_size=config.decoder_width, decoder_num_hidden_layers=config.decoder_depth,
        decoder_num_attention_heads=config.decoder_heads, decoder_intermediate_size=4 * config.decoder_width,
        mask_ratio=config.mask_ratio, norm_pix_loss=config.norm_pix, layer_norm_eps=eps,
    )  # fmt: skip
    torch.manual_seed(2)
    model = ViTMAEForPreTraining(settings).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    return model


def give(model, twin):
    """Write our weights into Hugging Face's model, name by name: the way back, written apart from the way in."""
    own, theirs = model.state_dict(), {}
    for name in twin.state_dict():
        ours = name.removeprefix("decoder.").replace("decoder_layers", "decoder_blocks").replace("vit.layers", "blocks")
        ours = ours.replace("vit.embeddings.", "").replace("position_embeddings", "pos_embed").replace("vit.layernorm", "norm")
        ours = ours.replace("patch_embeddings.projection", "patch_embed.proj").replace("layernorm_before", "norm1")
        ours = ours.replace("layernorm_after", "norm2").replace("attention.o_proj", "attn.proj")
        part = re.search(r"attention\.([qkv])_proj", ours)
        if part:
            fused = own[ours.replace(part.group(), "attn.qkv")]
            theirs[name] = fused.chunk(3)["qkv".index(part.group(1))]
        else:
            theirs[name] = own[ours]
    twin.load_state_dict(theirs)


def assert_same_losses_and_pixels(ours, theirs):
    images, noise = pictures(ours.config)
    with torch.inference_mode():
        loss, prediction, mask = ours(images, noise)
        alone = [theirs(images[i : i + 1], noise=noise[i : i + 1]) for i in range(len(images))]
        all_at_once = theirs(images, noise=noise)
        errors = ours.errors(images, torch.stack([noise, noise.flip(1)], 1))
        flipped = ours(images, noise.flip(1))[0]
    torch.testing.assert_close(loss, torch.stack([out.loss for out in alone]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss.mean(), all_at_once.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prediction, all_at_once.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(mask, all_at_once.mask)
    torch.testing.assert_close(errors, torch.stack([torch.stack([out.loss for out in alone]), flipped], 1), atol=1e-5, rtol=1e-5)


OLD = {"q": "query", "k": "key", "v": "value"}


def hub_names(state):
    """The names of the files on the hub: the older ones, which transformers renames when it loads them."""
    for name, weight in state.items():
        old = name.replace("vit.layers.", "vit.encoder.layer.").replace("attention.o_proj", "attention.output.dense")
        old = re.sub(r"attention\.([qkv])_proj", lambda found: f"attention.attention.{OLD[found[1]]}", old)
        yield old.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense"), weight.contiguous()


@pytest.mark.parametrize("config", [TINY, TINY.model_copy(update={"norm_pix": True}), OTHER], ids=["tiny", "tiny, norm_pix", "small"])
class TestAgainstHuggingFace:
    def test_its_saved_folder_gives_the_same_losses_and_pixels(self, config, tmp_path):
        theirs = hugging_face(config)
        theirs.save_pretrained(tmp_path)
        assert_same_losses_and_pixels(mae.load(str(tmp_path), config), theirs)

    def test_our_weights_in_its_model_give_the_same_losses_and_pixels(self, config):
        ours, theirs = random_model(config), hugging_face(config)
        give(ours, theirs)
        assert_same_losses_and_pixels(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["base", "large", "huge"])
def test_at_every_size_of_the_official_models_losses_and_pixels_are_the_same(size):
    config = MAEConfig(size=size, token=14 if size == "huge" else 16)
    ours, theirs = random_model.__wrapped__(config), hugging_face(config)
    give(ours, theirs)
    assert_same_losses_and_pixels(ours, theirs)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_file_with_the_names_of_the_hub_gives_the_same_losses_and_pixels(suffix, tmp_path):
    theirs = hugging_face(TINY)
    state, file = dict(hub_names(theirs.state_dict())), tmp_path / f"weights.{suffix}"
    (safetensors.torch.save_file if suffix == "safetensors" else torch.save)(state, file)
    assert_same_losses_and_pixels(mae.load(str(file), TINY), theirs)


def test_heads_that_the_weights_do_not_tell_are_read_beside_them(tmp_path):
    hugging_face(TINY).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="decoder_heads=4, expected 2"):
        mae.load(str(tmp_path), TINY.model_copy(update={"decoder_heads": 2}))


def brute_force_loss(images, predictions, mask, config):
    """The definition, pixel by pixel: mean over removed tokens of the mean squared difference to the token's pixels."""
    losses, grid, p = [], config.side // config.token, config.token
    for image, prediction, removed in zip(images, predictions, mask, strict=True):
        errors = []
        for token in np.flatnonzero(removed):
            y, x = divmod(token, grid)
            pixels = [image[c, y * p + i, x * p + j] for i in range(p) for j in range(p) for c in range(3)]
            target = np.array(pixels, np.float64)
            if config.norm_pix:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            errors.append(np.mean((prediction[token] - target) ** 2))
        losses.append(np.mean(errors))
    return losses


@pytest.mark.parametrize("config", [TINY, OTHER], ids=["pixels", "norm_pix"])
def test_the_loss_is_its_definition(config):
    model = random_model(config)
    images, noise = pictures(config)
    with torch.inference_mode():
        loss, prediction, mask = model(images, noise)
    np.testing.assert_allclose(loss, brute_force_loss(images.numpy(), prediction.double().numpy(), mask.numpy(), config), rtol=1e-5)


@pytest.mark.parametrize(("config", "removed"), [(TINY, 12), (OTHER, 5)])  # 16 * .75; 9 tokens, of which int(9 * .5) = 4 stay
def test_the_tokens_of_largest_noise_are_removed(config, removed):
    images, noise = pictures(config)
    mask = random_model(config)(images, noise)[2].bool()
    assert mask.sum(1).tolist() == [removed] * 3
    for row, gone in zip(noise, mask, strict=True):
        assert row[gone].min() > row[~gone].max()


def test_the_encoder_sees_the_visible_tokens_and_the_class_token_only():
    model, seen = copy.deepcopy(random_model(TINY)), []
    model.blocks[0].register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape)))
    images, noise = pictures(TINY)
    model(images, noise)
    model.encode(images)
    assert seen == [(3, 4 + 1, 192), (3, 16 + 1, 192)]


def test_what_was_removed_does_not_reach_the_prediction():
    model = random_model(TINY)
    images, noise = pictures(TINY, 1)
    with torch.inference_mode():
        _, prediction, mask = model(images, noise)
        hidden = mae.unpatchify(mask.unsqueeze(-1).expand(-1, -1, 8 * 8 * 3), 8).bool()
        other = model(torch.where(hidden, 9.0, images), noise)[1]
        visible = model(torch.where(hidden, images, 9.0), noise)[1]
    assert torch.equal(prediction, other)
    assert not torch.allclose(prediction, visible)


def test_the_errors_of_several_draws_in_bfloat16_are_near_those_in_float32():
    model, (images, noise) = random_model(TINY), pictures(TINY)
    draws = torch.stack([noise, noise.flip(1), noise.flip(0)], 1)
    with torch.inference_mode():
        expected = model.errors(images, draws)
        with torch.autocast("cpu", torch.bfloat16):
            made = model.errors(images, draws)
    torch.testing.assert_close(made, expected, rtol=0.01, atol=0)


def test_every_weight_but_the_positions_learns():
    model = mae.MAE(TINY)
    images, noise = pictures(TINY)
    model(images, noise)[0].mean().backward()
    still = {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert still == {"pos_embed", "decoder_pos_embed"}


def test_the_positions_are_those_of_the_paper():
    """Against a loop over the formula: column first, sine before cosine, frequencies 10000^(-k / (D/4))."""
    table, width, grid = mae.MAE(TINY).pos_embed[0].numpy(), 192, 4
    assert not table[0].any()
    for y in range(grid):
        for x in range(grid):
            rates = [10000 ** (-k / (width / 4)) for k in range(width // 4)]
            row = [f(v * rate) for v in (x, y) for f in (np.sin, np.cos) for rate in rates]
            np.testing.assert_allclose(table[1 + y * grid + x], row, atol=1e-6)


def test_the_initialisation_is_the_official_one():
    torch.manual_seed(0)
    model = mae.MAE(TINY)
    token = model.patch_embed.proj.weight
    assert token.abs().max() <= (6 / (192 + 3 * 8 * 8)) ** 0.5  # Xavier over a matrix, not over a convolution
    assert token.detach().std() == pytest.approx((2 / (192 + 192)) ** 0.5, rel=0.05)
    assert model.blocks[3].attn.qkv.weight.detach().std() == pytest.approx((2 / (4 * 192)) ** 0.5, rel=0.05)
    assert not any(module.bias.any() for module in model.modules() if isinstance(module, torch.nn.Linear))
    assert model.cls_token.detach().std() == pytest.approx(0.02, rel=0.3)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_unpatchify_undoes_patchify(count, grid, token, seed):
    images = torch.rand(count, 3, grid * token, grid * token, generator=torch.Generator().manual_seed(seed))
    tokens = mae.patchify(images, token)
    assert tokens.shape == (count, grid * grid, token * token * 3)
    assert torch.equal(mae.unpatchify(tokens, token), images)


def test_normalise_is_the_one_of_imagenet():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(mae.normalise(images), expected.transpose(0, 3, 1, 2), atol=1e-6)
    with pytest.raises(ValueError, match="expected uint8"):
        mae.normalise(images.astype(np.float32))


@pytest.mark.parametrize("pooling", [{"global_pool": "token"}, {"global_pool": "avg", "fc_norm": False}], ids=["token", "avg"])
def test_timm_gives_the_same_features(pooling):
    model = random_model(TINY)
    encoder = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=0, weight_init="skip", **pooling).eval()
    encoder.load_state_dict(mae.timm_state(model), strict=True)
    images, _ = pictures(TINY)
    with torch.inference_mode():
        tokens = model.encode(images)
        torch.testing.assert_close(encoder.forward_features(images), tokens, atol=1e-5, rtol=1e-5)
        pooled = tokens[:, 0] if pooling["global_pool"] == "token" else tokens[:, 1:].mean(1)
        torch.testing.assert_close(encoder(images), pooled, atol=1e-5, rtol=1e-5)


class TestFiles:
    def test_a_saved_model_comes_back_bit_for_bit(self, tmp_path):
        model = random_model(TINY)
        mae.save(model, str(tmp_path / "scorer"))
        again = mae.load(str(tmp_path / "scorer"), TINY)
        assert mae.fingerprint(again) == mae.fingerprint(model)
        assert [weight.requires_grad for weight in again.parameters()] == [weight.requires_grad for weight in model.parameters()]
        assert [file.name for file in tmp_path.iterdir()] == ["scorer"]

    def test_loading_draws_no_random_numbers(self, tmp_path):
        mae.save(random_model(TINY), str(tmp_path / "scorer"))
        before = torch.get_rng_state()
        mae.load(str(tmp_path / "scorer"), TINY)
        assert torch.equal(before, torch.get_rng_state())

    def test_a_failed_save_leaves_the_file_that_was_there(self, tmp_path, monkeypatch):
        file = tmp_path / "scorer"
        file.write_text("before")
        monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            mae.save(random_model(TINY), str(file))
        assert file.read_text() == "before"
        assert [f.name for f in tmp_path.iterdir()] == ["scorer"]

    @pytest.mark.parametrize("norm_pix", [False, True])
    def test_an_official_checkpoint_with_its_training_arguments_loads(self, norm_pix, tmp_path):
        config = TINY.model_copy(update={"norm_pix": norm_pix})
        model, file = random_model(config), tmp_path / "mae.pth"
        torch.save({"model": model.state_dict(), "epoch": 799, "args": argparse.Namespace(model="mae_vit", lr=1e-4)}, file)
        assert mae.fingerprint(mae.load(str(file), config)) == mae.fingerprint(model)

    def test_a_file_in_a_bucket_loads(self, tmp_path):
        model = random_model(TINY)
        mae.save(model, str(tmp_path / "scorer"))
        fsspec.filesystem("memory").pipe("/bucket/scorer", (tmp_path / "scorer").read_bytes())
        assert mae.fingerprint(mae.load("memory://bucket/scorer", TINY)) == mae.fingerprint(model)
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at memory://bucket/none"):
            mae.load("memory://bucket/none", TINY)

    def test_our_own_file_knows_its_settings(self, tmp_path):
        mae.save(random_model(TINY), str(tmp_path / "scorer"))
        with pytest.raises(ValueError, match=r"is of another model: decoder_heads=4, expected 2; norm_pix=False, expected True$"):
            mae.load(str(tmp_path / "scorer"), TINY.model_copy(update={"mask_ratio": 0.5, "decoder_heads": 2, "norm_pix": True}))

    def test_our_own_file_is_taken_with_another_mask_ratio_on_which_no_weight_depends(self, tmp_path):
        model, other = random_model(TINY), TINY.model_copy(update={"mask_ratio": 0.5})
        mae.save(model, str(tmp_path / "scorer"))
        again, (images, noise) = mae.load(str(tmp_path / "scorer"), other), pictures(TINY)
        twin = mae.MAE(other)
        twin.load_state_dict(model.state_dict())
        with torch.inference_mode():
            assert torch.equal(again(images, noise)[0], twin(images, noise)[0])
        assert again(images, noise)[2].mean() == 0.5


def write(content, file):
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    return str(file)


def without(state, *stems):
    return {name: weight for name, weight in state.items() if not name.startswith(stems)}


STATE = random_model(TINY).state_dict()
WRONG = {
    "another size": (
        {"model": random_model(OTHER).state_dict()},
        "width=384, expected 192; token=16, expected 8; positions=10, expected 17",
    ),
    "encoder only": ({"model": without(STATE, "decoder", "mask_token")}, "holds no decoder"),
    "encoder of a hub": ({"embeddings.cls_token": STATE["cls_token"], "layernorm.bias": STATE["norm.bias"]}, "holds no decoder"),
    "fewer blocks": ({"model": without(STATE, "blocks.11.")}, "depth=11, expected 12"),
    "a missing weight": ({"model": without(STATE, "blocks.3.attn.qkv.bias")}, r"lacks blocks.3.attn.qkv.bias \(1 weights"),
    "an extra weight": (STATE | {"head.weight": torch.zeros(2)}, "holds the unexpected head.weight"),
    "a wrong shape": (STATE | {"norm.bias": torch.zeros(2)}, r"norm.bias of shape \(2,\), expected \(192,\)"),
    "no weights": ([1, 2, 3], "something else than weights"),
    "settings": ({"lr": 0.1}, "something else than weights"),
    "text": (b"<html>404 Not Found</html>", "cannot be read, expected safetensors or torch weights"),
    "nothing": (b"", "cannot be read"),
    "half a safetensors": (safetensors.torch.save(STATE)[:-9], "cannot be read"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_checkpoint_is_refused_in_one_sentence(content, message, tmp_path):
    file = write(content, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match=message) as caught:
        mae.load(file, TINY)
    assert str(caught.value).startswith(f"the checkpoint {file} ")
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self):
        return (json.loads, ('"run"',))


def test_code_in_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        mae.load(write({"model": STATE, "args": Evil()}, tmp_path / "mae.pth"), TINY)


def test_a_missing_checkpoint_names_the_knob(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*/none"):
        mae.load(str(tmp_path / "none"), TINY)
    with pytest.raises(FileNotFoundError, match=r"neither model.safetensors nor pytorch_model.bin"):
        mae.load(str(tmp_path), TINY)


def test_the_fingerprint_knows_every_weight_and_setting():
    model = copy.deepcopy(random_model(TINY))
    first = mae.fingerprint(model)
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert mae.fingerprint(random_model(TINY)) == first
    model.config = TINY.model_copy(update={"mask_ratio": 0.5})
    assert mae.fingerprint(model) != first
    model.config = TINY
    with torch.no_grad():
        model.decoder_blocks[1].mlp.fc2.bias[5] += 1e-3
    assert mae.fingerprint(model) != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"mask_ratio": 0.99}, "leaves 0 of 16 tokens visible"), ({"decoder_width": 66, "decoder_heads": 2}, "66 is not a multiple of 4")],
)
def test_an_impossible_model_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MAEConfig(**(TINY.model_dump() | changes))


def test_pictures_and_noise_of_another_shape_are_refused():
    model, (images, noise) = random_model(TINY), pictures(TINY)
    with pytest.raises(ValueError, match=r"expected \(B, 3, 32, 32\)"):
        model(images[:, :, :24, :24], noise)
    with pytest.raises(ValueError, match=r"expected \(3, 16\)"):
        model(images, noise[:, :9])
    with pytest.raises(ValueError, match=r"expected \(3, 16\)"):
        model.errors(images, noise[:2, None])


@pytest.mark.parametrize("size", ["base", "large", "huge"])
def test_the_big_models_have_the_published_number_of_encoder_weights(size):
    with torch.device("meta"):
        model = mae.MAE(MAEConfig(size=size, token=14 if size == "huge" else 16))
    count = sum(weight.numel() for name, weight in model.state_dict().items() if name.startswith(vits.PARTS))
    assert round(count / 1e6) == {"base": 86, "large": 303, "huge": 631}[size]
