"""The job choose goes on from the choice before, and says what is new and what changed."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engine import selection, tracking
from engine.knobs import amend
from engine.pool import Pool
from engine.store import PatchStore, WriteRows
from jobs import choose
from jobs.recipes import tiny
from tests import rows

VIDEOS = tuple(f"{number:02d}" + "a" * (6 + number) for number in range(14))


@pytest.fixture
def config(tmp_path):
    """Twelve videos of six patches each."""
    words = ["where=here", f"store.uri={tmp_path}/store", "selection.budget=0.5", "selection.unit=patches", "selection.clusters=3"]
    made = amend(tiny(), words)
    PatchStore(made.store.uri).create(rows.WIDTH)
    take_in(made, *VIDEOS[:12])
    return made


def take_in(config, *videos):
    for video_id in videos:
        written = pa.concat_tables(WriteRows(config.store.uri)(rows.scored(video_id)))
        PatchStore(config.store.uri).commit(written, rows.videos(video_id), rows.STAMP)


def chosen(config):
    """The newest run of the job, and the ids that it chose."""
    choose.run(config)
    one = tracking.runs(config, "choose")[-1]
    made = PatchStore(config.store.uri).open("selections").to_table(filter=f"selection_id = '{one['tags']['selection']}'")
    return one, made.sort_by("rank")["patch_id"].to_pylist()


def solved(config, known):
    """What the selection is by itself, from what is known of the clusters."""
    store = PatchStore(config.store.uri)
    version, settings = store.complete_version(), config.selection
    pool = Pool(store.patches(selection.columns(settings), version=version), store.vectors(version), clustering=known)
    return selection.choose(pool, settings)


@pytest.mark.parametrize("method", ["semdedup", "endocurate"])
def test_a_choice_after_more_video_keeps_the_clusters_and_tells_what_changed(config, method, caplog):
    config = amend(config, [f"selection.method={method}"])
    first, before = chosen(config)
    assert (first["metrics"]["choose/new"], first["metrics"]["choose/fitted"]) == (72, 1)
    assert "choose/entered" not in first["metrics"]
    take_in(config, VIDEOS[12])
    with caplog.at_level(logging.INFO, "jobs.choose"):
        second, after = chosen(config)
    assert second["tags"]["clustering"] == first["tags"]["clustering"]
    assert first["tags"]["clustering"].startswith(f"{selection.clustering_of(config.selection)}/")
    told = {name: second["metrics"][f"choose/{name}"] for name in ("new", "fitted", "entered", "left")}
    assert told == {"new": 6, "fitted": 0, "entered": len(set(after) - set(before)), "left": len(set(before) - set(after))}
    assert "6 of 78 patches are new; the clusters were kept from an earlier choice" in caplog.text
    assert f"{told['entered']:.0f} choices entered and {told['left']:.0f} left" in caplog.text
    store = PatchStore(config.store.uri)
    kept = store.clustering(selection.clustering_of(config.selection), store.patches(["patch_id"])["patch_id"])
    emptied = replace(kept.at(np.full(78, -1)), members=np.zeros_like(kept.members))
    assert solved(config, emptied).patch_ids == after


def test_the_choice_compared_with_has_the_same_settings_and_is_of_an_older_version(config):
    (_, before), _, _ = chosen(config), chosen(amend(config, ["selection.seed=1"])), chosen(amend(config, ["selection.budget=0.4"]))
    take_in(config, VIDEOS[12])
    for _ in range(2):  # the second is of the same version as the first, and is compared with the same
        one, after = chosen(config)
        assert one["metrics"]["choose/entered"] == len(set(after) - set(before))
        assert one["metrics"]["choose/left"] == len(set(before) - set(after))
        assert "clustering" not in one["tags"]


def test_a_choice_after_much_more_video_clusters_anew(config):
    config = amend(config, ["selection.method=semdedup"])
    first, _ = chosen(config)
    take_in(config, *(f"b{number:02d}" + "a" * number for number in range(3)))
    second, after = chosen(config)
    assert second["metrics"]["choose/fitted"] == 1
    assert second["tags"]["clustering"] != first["tags"]["clustering"]
    assert solved(config, None).patch_ids == after


def test_a_choice_among_whole_frames_of_a_store_that_has_none_is_a_sentence(config):
    with pytest.raises(ValueError, match="of 0 frames"):
        choose.run(amend(config, ["selection.of=frames", "selection.method=semdedup"]))
