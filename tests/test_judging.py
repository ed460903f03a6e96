"""The job choose composes as told and judges what it chose; the report tells what was measured."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.linalg
import torch
from sklearn.metrics.pairwise import cosine_similarity

from engine import mae, rebuild, schema, tracking
from engine.difficulty import ScoreDifficulty
from engine.judge import MEASURES, UnknownError
from engine.knobs import amend
from engine.pool import Held, Pool
from engine.store import PatchStore, WriteRows
from jobs import choose, judging, report, results
from jobs.recipes import tiny
from tests import rows
from tests.test_report import Page

SCORER = ["difficulty.draws=1", "difficulty.mae.side=32", "probe.train.mae.side=32"]
VIDEOS = [letter * 32 for letter in "abc"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A store of patches that a small untrained autoencoder scored, with two selections."""
    folder = tmp_path_factory.mktemp("judging")
    words = ["where=here", f"store.uri={folder}/store", "selection.budget=0.6", *SCORER, f"difficulty.checkpoint={folder}/mae.safetensors"]
    made = amend(tiny(), words)
    torch.manual_seed(0)
    mae.save(mae.MAE(made.difficulty.mae), made.difficulty.checkpoint)
    score, store = ScoreDifficulty(made.difficulty), PatchStore(made.store.uri)
    store.create(score.model.norm.normalized_shape[0])
    for video_id in VIDEOS:
        table = rows.scored(video_id, 9)
        (scored,) = score(pa.Table.from_pylist(table.to_pylist(), schema.PATCH))
        store.commit(pa.concat_tables(WriteRows(store.uri)(scored)), rows.videos(video_id), rows.STAMP)
    choose.run(amend(made, ["selection.budget=0.3"]))
    choose.run(made)
    return made


def test_a_selection_is_judged_by_what_it_holds(config):
    one = tracking.runs(config, "choose")[-1]
    store = PatchStore(config.store.uri)
    chosen = set(store.selection("optidel", 0.6, 0)["patch_id"].to_pylist())
    patches = store.patches(["patch_id", "video_id", "time_ms", "embedding"]).to_pylist()
    mine = [row for row in patches if row["patch_id"] in chosen]
    windows = [{(row["video_id"], row["time_ms"] // 10_000) for row in some} for some in (mine, patches)]
    alike = cosine_similarity([row["embedding"] for row in mine])
    assert one["metrics"]["judge/videos"] == len({row["video_id"] for row in mine}) / 3
    assert one["metrics"]["judge/time"] == len(windows[0]) / len(windows[1])
    assert one["metrics"]["judge/distance"] == pytest.approx(np.mean(1 - alike[np.triu_indices(len(mine), 1)]), abs=1e-5)
    shares = np.linalg.eigvalsh(alike / len(mine))
    shares = shares[shares > 1e-12]
    assert one["metrics"]["judge/vendi"] == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)


def test_the_fid_is_that_of_the_images_as_the_scorer_of_the_patches_sees_them(config):
    store, one = PatchStore(config.store.uri), tracking.runs(config, "choose")[1]
    images = store.open("images").to_table(filter=f"selection_id = '{one['tags']['selection']}'").select(["image_id", "pixels"])
    (seen,) = ScoreDifficulty(config.difficulty)(
        pa.Table.from_pylist(images.rename_columns(["patch_id", "pixels"]).to_pylist(), schema.PATCH)
    )
    made, real = (np.array(table["embedding"].to_pylist()) for table in (seen, store.patches(["embedding"])))
    first, second = np.cov(real.T), np.cov(made.T)
    values = scipy.linalg.eigvals(first @ second)  # sqrtm would do, if the covariances of few images were not singular
    expected = np.sum((real.mean(0) - made.mean(0)) ** 2) + np.trace(first + second) - 2 * np.sqrt(np.clip(values.real, 0, None)).sum()
    assert one["metrics"]["judge/fid"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("difficulty.checkpoint=/nowhere/mae.safetensors", "the scorer that embedded the patches is not at hand"),
        ("difficulty.seed=1", r"the patches were embedded by \w+, and the scorer at hand is \w+"),
    ],
)
def test_without_the_scorer_of_the_patches_there_is_no_fid(config, word, reason):
    store = PatchStore(config.store.uri)
    with pytest.raises(UnknownError, match=reason):
        judging.features(amend(config, [word]), store, "any", store.complete_version())


def test_every_measure_is_a_metric_or_has_a_reason(config):
    (*_, one) = tracking.runs(config, "choose")
    for name in MEASURES:
        assert (f"judge/{name}" in one["metrics"]) != (f"judge/{name}" in one["tags"])
    assert 0 < one["metrics"]["judge/clusters"] <= 1


def test_a_patch_without_a_direction_costs_only_what_compares_embeddings(config, monkeypatch):
    store = PatchStore(config.store.uri)
    version = store.complete_version()
    monkeypatch.setattr(PatchStore, "vectors", lambda *_: Held(np.zeros((len(store.patches(["patch_id"])), 4))))
    monkeypatch.setattr(judging, "KINDS", "others")
    chosen = choose.selection.choose(Pool(store.patches(["patch_id", "bytes", "difficulty"])), config.selection)
    found = judging.judged(config, store, chosen, version)
    assert {"videos", "time", "artefacts"} <= set(found.values)
    assert {"clusters", "distance", "vendi", "duplicates", "fid"} <= set(found.reasons)


def test_what_is_covered_is_told_by_clusters_that_stay_when_patches_come(config):
    store = PatchStore(config.store.uri)
    patches, version = store.patches(["patch_id"]), store.complete_version()
    kept = store.clustering(judging.KINDS, patches["patch_id"])
    width = store.vectors(version).width
    added = np.random.default_rng(0).normal(size=(1, width))
    more = Pool(
        pa.table({"patch_id": [*patches["patch_id"].to_pylist(), "new"]}),
        Held(np.concatenate([store.vectors(version).take(np.arange(len(patches))), added])),
    )
    labels = judging.kinds(store, more, version)
    assert labels[:-1].tolist() == kept.labels.tolist()
    assert labels[-1] == np.argmax(added @ kept.centroids.T)


def test_the_report_shows_the_newest_judgement_of_every_method_and_budget(config):
    choose.run(config)
    report.run(config)
    found = results.judgements(config)
    assert [(one.method, one.budget) for one in found] == [("optidel", "30 %"), ("optidel", "60 %")]
    table = Page(Path(report.address(config)).read_text()).table()
    for one in found:
        row = next(row for row in table if row[0].endswith(one.selection))
        assert row[1:4] == [one.budget, *(f"{100 * one.values[name]:.3g} %" for name in ("clusters", "videos"))]


def test_nine_patches_an_image_make_a_selection_of_their_own_that_is_rebuilt(config):
    nine = amend(config, ["synthesis.patches=9", "synthesis.order=diverse", "synthesis.fill=pad"])
    choose.run(nine)
    store = PatchStore(config.store.uri)
    chosen = store.selection("optidel", 0.6, 0)
    name = chosen["selection_id"][0].as_py()
    images = store.open("images").to_table(filter=f"selection_id = '{name}'").to_pylist()
    assert len(chosen) == 9 * len(images)
    assert name.count("-") == 2
    assert rebuild.faults(store, name).num_rows == 0
    assert sorted(patch_id for image in images for patch_id in image["patch_ids"]) == sorted(chosen["patch_id"].to_pylist())
