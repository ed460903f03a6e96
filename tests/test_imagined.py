"""The scorer of a patch is found by the mark that the patch has of it, whatever knobs the page was started with."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from engine import difficulty, mae, simclr, vits
from engine.browser.imagined import DRAWS, Scorers
from engine.config import DifficultyConfig
from engine.models import MAEConfig, SimCLRConfig
from engine.store import PatchStore

SHAPE = MAEConfig(size="tiny", side=32, token=8, decoder_width=32, decoder_depth=1, decoder_heads=2)
SCORED = DifficultyConfig(mae=SHAPE, draws=7, precision="bfloat16")  # the page is started with others


@pytest.fixture
def store(tmp_path):
    return PatchStore(str(tmp_path / "store"))


def put(store, name, shape=SHAPE):
    """A model in the store, random as every other."""
    model = mae.MAE(shape)
    mae.save(model, store.address(f"scorers/{name}.safetensors"))
    return model


def scorers(store, runs=None, **knobs):
    return Scorers(store, DifficultyConfig(**knobs), lambda: runs or {})


def same(first, second):
    return mae.fingerprint(first) == mae.fingerprint(second)


def test_draws_and_precision_need_not_be_those_of_then(store):
    models = [put(store, name) for name in "ab"]
    asked = scorers(store)
    for model in models:
        for draws, precision in [(7, "bfloat16"), (1, "float32"), (DRAWS, "bfloat16")]:
            then = DifficultyConfig(mae=SHAPE, draws=draws, precision=precision)
            found, seed = asked.found(difficulty.scorer_id(model, then))
            assert same(found, model)
            assert seed == 0


@pytest.mark.parametrize("knobs", [{"seed": 5}, {"draws": 200}, {"mae": SHAPE.model_copy(update={"mask_ratio": 0.5})}])
def test_what_is_not_tried_is_told_by_the_run_or_by_the_knobs_of_the_command(store, knobs):
    then = SCORED.model_copy(update=knobs)
    model = put(store, "a")
    mark = difficulty.scorer_id(mae.load(store.address("scorers/a.safetensors"), then.mae), then)
    with pytest.raises(LookupError, match=f"the weights of its scorer {mark} were not found: none of the 1 files"):
        scorers(store).found(mark)
    params = {"difficulty.seed": str(then.seed), "difficulty.draws": str(then.draws), "difficulty.mae.mask_ratio": str(then.mae.mask_ratio)}
    runs = {"ingest": [{"params": {"difficulty.seed": "9"}}, {"params": params}]}
    for asked in (scorers(store, runs), scorers(store, **knobs)):
        found, seed = asked.found(mark)
        assert (found.config, seed) == (then.mae, then.seed)
        assert all((one == other).all() for one, other in zip(found.state_dict().values(), model.state_dict().values(), strict=True))


def test_a_scorer_that_comes_while_the_page_is_open_is_found_and_one_that_goes_is_not(store):
    asked, first = scorers(store), put(store, "a")
    mark = difficulty.scorer_id(first, SCORED)
    assert same(asked.found(mark)[0], first)
    second = put(store, "b")
    assert same(asked.found(difficulty.scorer_id(second, SCORED))[0], second)
    third = put(store, "a")  # in place of the first
    path = Path(store.address("scorers/a.safetensors"))
    os.utime(path, (1, 1))  # a file system may keep seconds only
    assert same(asked.found(difficulty.scorer_id(third, SCORED))[0], third)
    with pytest.raises(LookupError, match="none of the 2 files"):
        asked.found(mark)
    path.unlink()
    with pytest.raises(LookupError, match="none of the 1 files"):
        asked.found(difficulty.scorer_id(third, SCORED))


def test_why_nothing_is_shown_is_said(store, tmp_path):
    model = mae.MAE(SHAPE)
    mark = difficulty.scorer_id(model, SCORED)
    with pytest.raises(LookupError, match=r"the store has no file of a scorer; difficulty\.checkpoint names one"):
        scorers(store).found(mark)
    (tmp_path / "store" / "scorers").mkdir(parents=True)
    Path(store.address("scorers/other.safetensors")).write_bytes(b"no weights at all")
    runs = {"probe": [{"tags": {"scorer": f"simclr-small-{mark}"}, "params": {}}]}
    with pytest.raises(LookupError, match=f"its scorer {mark} is a SimCLR"):
        scorers(store, runs).found(mark)
    elsewhere = str(tmp_path / "mine")
    mae.save(model, elsewhere)
    assert same(scorers(store, checkpoint=elsewhere).found(mark)[0], model)


def given(config):
    """The knobs of a model as MLflow has them of a run."""
    return {f"difficulty.mae.{knob}": str(value) for knob, value in config.model_dump().items()}


@pytest.mark.parametrize("norm_pix", [False, True])
def test_a_scorer_of_hugging_face_is_found_by_what_its_file_tells_and_the_knobs_of_then(store, tmp_path, norm_pix):
    shape = SHAPE.model_copy(update={"norm_pix": norm_pix})
    _, width, depth, heads, *_ = vits.shape(shape.size)
    settings = ViTMAEConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * width, image_size=shape.side,
        patch_size=shape.token, decoder_hidden_size=shape.decoder_width, decoder_num_hidden_layers=shape.decoder_depth,
        decoder_num_attention_heads=shape.decoder_heads, decoder_intermediate_size=4 * shape.decoder_width,
    )  # fmt: skip
    theirs, place = ViTMAEForPreTraining(settings), str(tmp_path / "theirs")
    theirs.save_pretrained(place)
    then = SCORED.model_copy(update={"mae": shape})
    mark = difficulty.scorer_id(mae.load(place, shape), then)
    by_run = scorers(store, {"ingest": [{"params": given(shape)}]}, checkpoint=place)
    told_heads = shape.model_copy(update={"decoder_heads": 4})  # which the file tells, so that the command may be wrong of them
    for asked in (by_run, scorers(store, checkpoint=place, mae=shape), scorers(store, checkpoint=place, mae=told_heads)):
        found, _ = asked.found(mark)
        assert found.config == shape
        assert torch.equal(found.mask_token, theirs.state_dict()["decoder.mask_token"])
    other = ViTMAEForPreTraining(settings)
    with (tmp_path / "theirs" / "model.safetensors").open("wb") as file:  # in place: the folder itself stays as it was
        file.write(save({name: weight.contiguous() for name, weight in other.state_dict().items()}))
    assert torch.equal(asked.found(difficulty.scorer_id(mae.load(place, shape), then))[0].mask_token, other.decoder.mask_token)


def test_an_official_file_is_found_by_the_knobs_of_the_run_that_scored_with_it(store, tmp_path):
    place = str(tmp_path / "mae.pth")
    torch.save({"model": mae.MAE(SHAPE).state_dict()}, place)
    mark = difficulty.scorer_id(mae.load(place, SHAPE), SCORED)
    odd = [{"difficulty.mae.side": "33"}, {"difficulty.mae.token": "many"}, {"difficulty.draws": "-1"}]
    runs = {"ingest": [*({"params": params} for params in odd), {"params": given(SHAPE) | {"difficulty.mae.gone": "1"}}]}
    assert scorers(store, runs, checkpoint=place).found(mark)[0].config == SHAPE
    with pytest.raises(LookupError, match=r"difficulty\.seed and difficulty\.mae\.\* are to be those of then") as told:
        scorers(store, {"ingest": runs["ingest"][:3]}, checkpoint=place).found(mark)
    assert "SimCLR" not in str(told.value)


def test_a_simclr_from_elsewhere_is_told_as_one(store, tmp_path):
    place, shape = str(tmp_path / "contrast"), SimCLRConfig(encoder="resnet18", side=32, projection=8)
    simclr.save(model := simclr.SimCLR(shape, 2), place)
    then = DifficultyConfig(scorer="simclr", simclr=shape, draws=3)
    mark = difficulty.contrast_id(model, then)
    for knobs in ({"checkpoint": place}, {"checkpoint": place, "scorer": "simclr", "simclr": shape}):
        with pytest.raises(LookupError, match=f"its scorer {mark} is a SimCLR, which tells"):  # by its file
            scorers(store, **knobs).found(mark)
    contrast, rebuilt = ({"params": {"difficulty.scorer": word}} for word in ("simclr", "mae"))
    for asked in (scorers(store, {"ingest": [contrast]}), scorers(store, scorer="simclr")):
        with pytest.raises(LookupError, match=f"its scorer {mark} is a SimCLR, by difficulty.scorer of what scored here"):
            asked.found(mark)
    with pytest.raises(LookupError, match=r"or it is a SimCLR, which rebuilds none: difficulty\.scorer of some runs says so"):
        scorers(store, {"ingest": [contrast, rebuilt]}).found(mark)
    for runs, knobs in (({}, {}), ({"ingest": [rebuilt]}, {"scorer": "simclr"})):
        with pytest.raises(LookupError) as told:
            scorers(store, runs, **knobs).found(mark)
        assert "SimCLR" not in str(told.value)
    with pytest.raises(LookupError) as told:  # a SimCLR is there, but not this one
        scorers(store, checkpoint=place).found("0" * 12)
    assert "SimCLR" not in str(told.value)
