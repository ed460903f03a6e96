"""Training images are made again from their rows alone, whatever the settings of the day are."""

import numpy as np
import pytest

from engine import rebuild, synthesis
from engine.config import SelectionConfig, SynthesisConfig
from engine.selection import Selection
from engine.store import PatchStore
from tests import rows

ORDERS = ("rank", "random", "diverse", "spread")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("rebuild") / "store"))
    made.create(rows.WIDTH)
    rows.take_in(made, "aa", "bb", "cc")
    return made


def save(store, ids, config):
    """A selection of these patches with its images, as the job choose writes it; returns its id."""
    name = synthesis.named("s", config)
    selection = Selection(name, ids, np.ones(len(ids), np.int32), 0.5).rows(SelectionConfig(), 4)
    made = synthesis.synthesise(store.patches(synthesis.READ.names), synthesis.ordered(ids, config), name, 0, config)
    store.save(selection, [made])
    return name


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fill", ["crop", "pad"])
@pytest.mark.parametrize("patches", [1, 4, 9])
def test_every_image_is_made_again_bit_for_bit_from_its_row(store, patches, fill, order):
    ids = store.sample(18 - 18 % patches, 3)["patch_id"].to_pylist()
    name = save(store, ids, SynthesisConfig(patches=patches, order=order, fill=fill, quality=80, seed=5))
    images = store.open("images").to_table(filter=f"selection_id = '{name}'").to_pylist()
    assert len(images) == len(ids) // patches
    for row in images:
        assert rebuild.rebuilt(store, {"patch_ids": row["patch_ids"], "layout": row["layout"]}) == row["pixels"]
    assert rebuild.faults(store, name).num_rows == 0


@pytest.mark.parametrize("order", ORDERS)
def test_images_that_swapped_a_patch_are_named_by_every_order(store, order):
    ids = store.sample(12, 4)["patch_id"].to_pylist()
    config = SynthesisConfig(order=order, quality=81)
    name = synthesis.named("s", config)
    save(store, ids, config)
    swapped = synthesis.ordered(ids, config)
    swapped[0], swapped[4] = swapped[4], swapped[0]
    table = store.patches(synthesis.READ.names)
    selection = Selection(name, ids, np.ones(12, np.int32), 0.5).rows(SelectionConfig(), 4)
    store.save(selection, [synthesis.synthesise(table, swapped, name, 0, config)])
    found = rebuild.faults(store, name).to_pylist()
    assert [(row["position"], row["fault"]) for row in found] == [(n, "it holds other patches than the 4 of its ranks") for n in (0, 1)]


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_left_after_a_video_was_forgotten_is_still_judged(store, order, tmp_path):
    own = PatchStore(str(tmp_path / "store"))
    own.create(rows.WIDTH)
    rows.take_in(own, "a" * 32, "b" * 32, frames=4)
    ids = sorted(own.patches(["patch_id"])["patch_id"].to_pylist())[::-1]  # four images; two of consecutive ones are of one video alone
    name = save(own, ids, SynthesisConfig(order=order, quality=82))
    own.forget("a" * 32)
    left = own.open("images").to_table(filter=f"selection_id = '{name}'")["position"].to_pylist()
    found = rebuild.faults(own, name).to_pylist()
    assert not {row["position"] for row in found} & set(left)
    assert (order == "rank") <= (left == [0, 1] and not found)


@pytest.mark.parametrize("order", ORDERS)
def test_an_image_that_is_gone_is_named_by_every_order(store, order):
    ids = store.sample(12, 5)["patch_id"].to_pylist()
    name = save(store, ids, SynthesisConfig(order=order, quality=83))
    store.open("images").delete(f"selection_id = '{name}' AND position = 1")
    assert rebuild.faults(store, name)["position"].to_pylist() == [1]
