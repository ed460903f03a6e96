"""The job choose goes on from the choice before, and says what is new and what changed."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from engine import selection, tracking
from engine.knobs import amend
from engine.pool import Pool
from engine.store import PatchStore, roundings
from jobs import choose
from jobs.recipes import tiny
from tests import rows

VIDEOS = tuple(f"{number:02d}" + "a" * (6 + number) for number in range(16))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A store of twelve videos of six patches each, to choose from by SemDeDup."""
    words = ["where=here", f"store.uri={tmp_path_factory.mktemp('choose')}/store", "selection.budget=0.5", "selection.unit=patches"]
    made = amend(tiny(), [*words, "selection.clusters=3", "selection.method=semdedup"])
    PatchStore(made.store.uri).create(rows.WIDTH)
    take_in(made, *VIDEOS[:12])
    return made


def take_in(config, *videos):
    rows.take_in(PatchStore(config.store.uri), *videos)


def chosen(config):
    """The newest run of the job, and the ids that it chose."""
    choose.run(config)
    one = tracking.runs(config, "choose")[-1]
    made = PatchStore(config.store.uri).open("selections").to_table(filter=f"selection_id = '{one['tags']['selection']}'")
    return one, made.sort_by("rank")["patch_id"].to_pylist()


def kept(config):
    store = PatchStore(config.store.uri)
    return store.clustering(selection.clustering_of(config.selection), store.patches(["patch_id"])["patch_id"])


def solved(config, known):
    """What the selection is by itself, from what is known of the clusters."""
    store = PatchStore(config.store.uri)
    pool = Pool(store.patches(selection.columns(config.selection)), store.vectors(store.complete_version()), clustering=known)
    return selection.choose(pool, config.selection).patch_ids


def test_a_choice_keeps_the_clusters_of_the_one_before_until_much_has_come_and_tells_what_changed(config, caplog, monkeypatch):
    monkeypatch.setattr(roundings, "FEWEST", 1)
    monkeypatch.setattr(roundings, "SHARE", 1.0)  # SemDeDup compares all
    rounded = f"rounded-{selection.clustering_of(config.selection)}"
    first, before = chosen(config)
    assert (first["metrics"]["choose/new"], first["metrics"]["choose/fitted"]) == (72, 1)
    assert "choose/entered" not in first["metrics"]
    other, _ = chosen(amend(config, ["selection.method=random"]))
    assert "clustering" not in other["tags"]

    assert PatchStore(config.store.uri).open(rounded).count_rows() == 72
    take_in(config, VIDEOS[12])
    with caplog.at_level(logging.INFO, "jobs.choose"):
        second, after = chosen(config)
    assert second["tags"]["clustering"] == first["tags"]["clustering"] == f"{selection.clustering_of(config.selection)}/{kept(config).name}"
    told = {name: second["metrics"][f"choose/{name}"] for name in ("new", "fitted", "entered", "left")}
    assert told == {"new": 6, "fitted": 0, "entered": len(set(after) - set(before)), "left": len(set(before) - set(after))}
    assert told["entered"] > 0
    assert "6 of 78 patches are new; the clusters were kept from an earlier choice" in caplog.text
    assert f"{told['entered']:.0f} choices entered and {told['left']:.0f} left" in caplog.text
    assert solved(config, replace(kept(config).at(np.full(78, -1)), members=np.zeros(3, np.int64))) == after

    take_in(config, *VIDEOS[13:])
    third, last = chosen(config)
    assert (third["metrics"]["choose/fitted"], third["metrics"]["choose/entered"]) == (1, len(set(last) - set(after)))
    assert third["tags"]["clustering"] != second["tags"]["clustering"]
    assert solved(config, None) == last
    assert PatchStore(config.store.uri).open(rounded).count_rows() == 96


def test_a_choice_among_whole_frames_of_a_store_that_has_none_is_a_sentence(config):
    with pytest.raises(ValueError, match="of 0 frames"):
        choose.run(amend(config, ["selection.of=frames"]))


def test_a_choice_that_was_forgotten_counts_as_one_that_left(config):
    random = amend(config, ["selection.method=random", "selection.seed=5"])
    store = PatchStore(config.store.uri)
    _, before = chosen(random)
    gone = next(video for video in VIDEOS[:13] if any(patch_id.startswith(video) for patch_id in before))
    store.forget(gone)
    take_in(config, "f" * 30)
    one, after = chosen(random)
    assert one["metrics"]["choose/entered"] == len(set(after) - set(before)) > 0
    assert one["metrics"]["choose/left"] == len(set(before) - set(after)) > 0
