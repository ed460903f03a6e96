"""What a step needs of memory, against what torch really keeps of it."""

import os
import re

import pytest
import torch

from engine import footprint, mae, memory, pretrain, simclr
from engine.flow import cluster
from engine.models import MAEConfig, SimCLRConfig, TrainConfig
from jobs.recipes import TRAININGS
from tests.test_pretrain import CONFIG, Recorder, Stripes

VIT = MAEConfig(size="tiny", side=128, token=16, decoder_width=96, decoder_depth=2, decoder_heads=3)


def really_kept(model, *images):
    """Bytes of all memory that a pass with numbers in it keeps, but for the weights."""
    weights, kept, held = {weight.untyped_storage().data_ptr() for weight in model.parameters()}, {}, []

    def keep(tensor):
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in weights:
            kept[memory.data_ptr()] = memory.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(*images)
    return sum(kept.values())


@pytest.mark.parametrize(
    ("config", "make"),
    [
        (VIT, mae.MAE),
        (SimCLRConfig(encoder="resnet18", side=64), simclr.SimCLR),
        (SimCLRConfig(encoder="vit_tiny_patch16_224", side=64), simclr.SimCLR),
        (SimCLRConfig(encoder="convnext_atto", side=64), simclr.SimCLR),
    ],
)
def test_what_is_counted_without_memory_is_what_a_step_keeps(config, make):
    model, side = make(config).train(), config.side
    given = (lambda n: (torch.randn(n, 3, side, side), torch.rand(n, config.tokens))) if make is mae.MAE else (
        lambda n: (torch.randn(2 * n, 3, side, side),)
    )  # fmt: skip
    each = (really_kept(model, *given(5)) - really_kept(model, *given(2))) / 3
    weights, counted = footprint.counted(config)
    assert counted <= each  # the least
    assert counted == pytest.approx(each, rel=0.01)
    assert weights == sum(4 * weight.numel() for weight in model.parameters())


def test_counting_draws_no_random_numbers():
    torch.manual_seed(0)
    footprint.counted.__wrapped__(VIT)
    footprint.counted.__wrapped__(SimCLRConfig(encoder="resnet18", side=64))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)


def test_the_batch_of_simclrs_paper_fits_no_gpu_and_is_refused_before_anything_is_read(monkeypatch):
    """In this process, where workers would change nothing, and as the only one of a group, which may be larger."""
    recipe = TRAININGS["simclr"]()
    assert 300e9 < footprint.least_bytes(recipe) < 400e9
    assert footprint.least_bytes(recipe.model_copy(update={"workers": 8})) == footprint.least_bytes(recipe)
    monkeypatch.setattr(footprint, "device_bytes", lambda: 300e9)
    said = r"^4096 images at a time need 352 GB at least and .* has 300: %slower batch=4096, or take precision=bf16"
    with pytest.raises(ValueError, match=said % ""):
        pretrain.fit(None, 5000, recipe.model_copy(update={"workers": 8}), resume=None, report=None)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ValueError, match=said % "raise workers=1, "):
        pretrain.fit(None, 5000, recipe, resume=None, report=None)
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert footprint.least_bytes(recipe.model_copy(update={"workers": 8})) < 80e9


def test_the_memory_that_is_asked_for_is_that_of_a_worker_when_the_fewest_are_left(monkeypatch):
    """SimCLR contrasts all that a worker has of a batch, a masked autoencoder takes it in the parts that all workers would have had."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    elastic = {"batch": 64, "workers": 8, "least_workers": 2}
    assert footprint.share(CONFIG.model_copy(update=elastic)) == 8
    assert footprint.share(CONFIG.model_copy(update=elastic | {"accumulate": 4})) == 2
    assert footprint.share(CONFIG.model_copy(update=elastic | {"architecture": "simclr"})) == 32
    assert footprint.share(CONFIG.model_copy(update=elastic | {"architecture": "simclr", "least_workers": 0})) == 8
    monkeypatch.setenv("WORLD_SIZE", "4")  # who is there now knows no better
    assert footprint.share(CONFIG.model_copy(update=elastic | {"architecture": "simclr"})) == 32


def test_without_a_group_one_process_takes_a_whole_batch_for_simclr_and_a_workers_part_for_a_masked_autoencoder(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    many = {"batch": 8, "workers": 4}
    assert footprint.share(CONFIG.model_copy(update=many | {"architecture": "simclr"})) == 8
    assert footprint.share(CONFIG.model_copy(update=many)) == 2


def test_a_smaller_memory_refuses_a_smaller_batch(tmp_path, monkeypatch):
    needed = footprint.least_bytes(CONFIG)
    monkeypatch.setattr(footprint, "device_bytes", lambda: needed - 1)
    with pytest.raises(ValueError, match=re.escape("4 images at a time need") + r".*: raise accumulate=1, lower batch=4"):
        pretrain.fit(Stripes(), 10, CONFIG, resume=None, report=Recorder(tmp_path))
    monkeypatch.setattr(footprint, "device_bytes", lambda: needed)
    pretrain.fit(Stripes(), 10, CONFIG.model_copy(update={"epochs": 2}), resume=None, report=lambda told, folder: None)


def test_the_recipes_for_one_gpu_are_not_refused():
    assert footprint.least_bytes(TRAININGS["optidel"]()) < 12e9
    assert footprint.least_bytes(TRAININGS["mae"]()) < 24e9
    assert footprint.least_bytes(TrainConfig(mae=MAEConfig(size="huge", token=14), accumulate=16)) < 80e9


@pytest.mark.parametrize(
    ("file", "told", "there"),
    [
        ("memory.max", "3221225472\n", 3 * 2**30),
        ("memory/memory.limit_in_bytes", "3221225472\n", 3 * 2**30),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),  # how version 1 says that there is no limit
        ("memory.max", "1180591620717411303424\n", None),  # more than the machine has
        ("other", "1\n", None),
    ],
)
def test_a_container_has_what_it_may_take_and_not_what_its_host_has(tmp_path, monkeypatch, file, told, there):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(told)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    expected = there or host
    assert memory.there_is(tmp_path) == expected
    monkeypatch.setattr(memory.there_is, "__defaults__", (tmp_path,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert footprint.device_bytes() == expected
    assert cluster.object_store_bytes() == min(expected // 10, 2 * 10**9)
