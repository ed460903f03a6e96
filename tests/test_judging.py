"""The job choose composes as told and judges what it chose; the report tells what was measured."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.linalg
import torch
from sklearn.metrics.pairwise import cosine_similarity

from engine import difficulty, mae, pictures, rebuild, schema, tracking
from engine.appearance import LIMITS
from engine.difficulty import ScoreDifficulty
from engine.judge import FID, MEASURES, UnknownError
from engine.knobs import amend
from engine.pool import Held, Pool
from engine.rows import hashed
from engine.store import PatchStore, WriteRows
from jobs import choices, choose, judging, report
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


def seen_by(config, store, selection_id):
    """The features of all training images of a selection, by the scorer of the patches, in the order of their places."""
    images = store.open("images").to_table(filter=f"selection_id = '{selection_id}'").sort_by("position").select(["image_id", "pixels"])
    table = pa.Table.from_pylist(images.rename_columns(["patch_id", "pixels"]).to_pylist(), schema.PATCH)
    return np.concatenate([np.array(part["embedding"].to_pylist()) for part in ScoreDifficulty(config.difficulty)(table)])


@pytest.fixture(scope="module")
def framed(config, tmp_path_factory):
    """A store that holds the frames of its patches as well; all of the frames are chosen, and patches of which each is an image."""
    made = amend(config, [f"store.uri={tmp_path_factory.mktemp('framed')}/store", "selection.unit=patches", "synthesis.patches=1"])
    score, store = ScoreDifficulty(made.difficulty), PatchStore(made.store.uri)
    store.create(score.model.norm.normalized_shape[0])
    for video_id in VIDEOS:
        table = rows.scored(video_id, 24, 3).to_pylist()
        for row in table:
            if (row["patch_id"] or "").endswith(":2,0,32,40:crops-0"):
                whole = {"box": [0, 0, 96, 128], "proposer": schema.FRAME_PROPOSER, "patch_id": f"{row['frame_id']}:0,0,96,128:frame-0"}
                row |= whole | {"height": 96, "width": 128, "pixels": pictures.encode(rows.picture(row["time_ms"], 96, 128), 90)}
        (scored,) = score(pa.Table.from_pylist(table, schema.PATCH))
        store.commit(pa.concat_tables(WriteRows(store.uri)(scored)), rows.videos(video_id), rows.STAMP)
    choose.run(amend(made, ["selection.method=random", "selection.budget=130"]))
    choose.run(amend(made, ["selection.of=frames", "selection.budget=1"]))
    return made


def test_all_whole_frames_cover_every_cluster_that_whole_frames_are_of(framed):
    store, one = PatchStore(framed.store.uri), tracking.runs(framed, "choose")[-1]
    table = store.patches(["patch_id", "proposer"])
    kept = store.clustering(judging.KINDS, table["patch_id"])
    frames = np.array(table["proposer"].to_pylist()) == schema.FRAME_PROPOSER
    assert one["metrics"]["choose/patches"] == frames.sum() == 72
    assert len(set(kept.labels[frames])) < len(set(kept.labels))  # of all patches they would cover fewer
    assert one["metrics"]["judge/clusters"] == one["metrics"]["judge/videos"] == one["metrics"]["judge/time"] == 1


def test_the_fid_is_of_so_many_images_by_lot_against_the_whole_frames_where_there_are_any(framed, monkeypatch):
    store, one = PatchStore(framed.store.uri), tracking.runs(framed, "choose")[0]
    selection_id = one["tags"]["selection"]
    names = pa.chunked_array([[f"{selection_id}:{place}" for place in range(130)]])
    lots = sorted(range(130), key=hashed(names).__getitem__)[:128]
    table = store.patches(["proposer", "embedding"]).to_pylist()
    real = np.array([row["embedding"] for row in table if row["proposer"] == schema.FRAME_PROPOSER])
    made = seen_by(framed, store, selection_id)[sorted(lots)]
    first, second = np.cov(real.T), np.cov(made.T)
    values = scipy.linalg.eigvals(first @ second)  # sqrtm would do, if the covariances of few images were not singular
    expected = np.sum((real.mean(0) - made.mean(0)) ** 2) + np.trace(first + second) - 2 * np.sqrt(np.clip(values.real, 0, None)).sum()
    assert one["metrics"]["judge/fid_128"] == pytest.approx(expected, rel=1e-3)
    (net,) = store.patches(["scorer"])["scorer"].unique().to_pylist()
    told = f"128 training images against the whole frames of the pool, by the features of mae-{framed.difficulty.mae.size}-{net}"
    assert one["tags"]["judged/fid_128"] == told
    last = tracking.runs(framed, "choose")[-1]
    assert last["tags"]["judge/fid_128"] == "the FID is of 128 training images, since fewer make it larger, and there are 72"


def test_a_table_holds_no_fid_of_another_net_or_of_other_pictures(framed):
    report.run(framed)
    by_lot, frames = sorted(choices.judgements(framed), key=lambda one: one.method, reverse=True)
    told = by_lot.notes["fid_128"]
    assert "fid_128" in by_lot.values
    assert "fid_128" not in frames.values
    page = Path(report.address(framed)).read_text()
    assert told in page
    assert "FID of 128" in page
    other = choices.comparable(by_lot, {"fid_128": "128 images by another net"})
    assert "fid_128" not in other.values
    assert other.reasons["fid_128"] == f"it is of {told}, and beside it of 128 images by another net"


def test_the_estimate_of_information_is_what_the_scorer_gains_over_the_best_colour_on_the_pixels_it_did_not_see(config, monkeypatch):
    store, one = PatchStore(config.store.uri), tracking.runs(config, "choose")[1]
    ids = store.selection("optidel", 0.6, 0)["patch_id"].to_pylist()
    jpegs = dict(zip(*(store.patches(["patch_id", "pixels"])[name].to_pylist() for name in ("patch_id", "pixels")), strict=True))
    model = ScoreDifficulty(config.difficulty).model
    targets, losses = [], []
    for patch_id in ids:
        image = mae.normalise(pictures.square(pictures.decode(jpegs[patch_id]), 32)[None])
        noise = torch.from_numpy(difficulty.masks_of(patch_id, 0, 1, model.config.tokens))
        with torch.no_grad():
            loss, _, mask = model(image, noise)
        losses.append(float(loss))
        targets.append(mae.patchify(image, model.config.token)[mask.bool()].reshape(-1, 3).double().numpy())
    for share, name in ((0.5, "50"), (1.0, "100")):
        some = slice(round(share * len(ids)))
        seen = np.stack(targets[some])
        colour = seen.mean(axis=(0, 1))
        expected = (np.mean((seen - colour) ** 2) - np.mean(losses[some])) / 2
        assert expected < (np.mean((seen - colour - 0.1) ** 2) - np.mean(losses[some])) / 2  # no other colour is better
        assert one["metrics"][f"judge/estimated_information_{name}"] == pytest.approx(expected, abs=1e-4)


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
    one = tracking.runs(config, "choose")[1]
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
    assert {"clusters", "distance", "vendi", "duplicates", FID} <= set(found.reasons)


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
    found = choices.judgements(config)
    assert [(one.method, one.budget) for one in found] == [("optidel", "30 % of the bytes"), ("optidel", "60 % of the bytes")]
    table = Page(Path(report.address(config)).read_text()).table()
    for one in found:
        row = next(row for row in table if row[0].endswith(one.selection))
        assert row[1:4] == [one.budget, *(f"{100 * one.values[name]:.3g} %" for name in ("clusters", "videos"))]


def test_the_report_shows_the_newest_of_every_set_of_settings_with_what_tells_them_apart(config):
    mine = amend(config, ["selection.budget=0.5", "selection.method=endocurate"])
    for words in ([], ["selection.endocurate.balance=0.25"], ["synthesis.patches=1", "synthesis.fill=pad"], ["selection.d4.dedup=0.5"]):
        choose.run(amend(mine, words))
    shown = {one.settings: one.selection for one in choices.judgements(mine) if one.method == "endocurate"}
    assert set(shown) == {"", "endocurate.balance 0.25", "M 1, fill pad"}  # what another method looks at tells nothing apart
    assert shown[""] == tracking.runs(config, "choose")[-1]["tags"]["selection"]
    report.run(mine)
    heads = {row[0] for row in Page(Path(report.address(mine)).read_text()).table() if row}
    assert {f"endocurate {words}; {name}" if words else f"endocurate {name}" for words, name in shown.items()} <= heads


def test_frames_are_shown_apart_from_patches_and_each_beside_its_own_pool(framed):
    report.run(framed)
    patches, frames = report.report.kinds(choices.judgements(framed))
    assert (patches.of, frames.of) == ("patches", "frames")
    assert [(one.method, one.budget) for one in patches.judged + frames.judged] == [
        ("random", "130 patches"),
        ("optidel", "100 % of the frames"),
    ]
    table = PatchStore(framed.store.uri).patches(["proposer", "embedding", *LIMITS]).to_pylist()
    for kind, whole in ((patches, False), (frames, True)):
        mine = [row for row in table if (row["proposer"] == schema.FRAME_PROPOSER) == whole]
        alike = cosine_similarity([row["embedding"] for row in mine])
        assert kind.pool["distance"] == pytest.approx(np.mean(1 - alike[np.triu_indices(len(mine), 1)]), abs=1e-5)
        assert kind.pool["artefacts"] == np.mean([any(row[name] > limit for name, limit in LIMITS.items()) for row in mine])
    assert frames.judged[0].values["vendi"] == pytest.approx(frames.pool["vendi"])  # all of them were chosen
    page = Page(Path(report.address(framed)).read_text())
    assert "chosen from frames" in page.words()
    row = next(row for row in page.table() if row[0].startswith("the pool all patches of version"))
    assert f"{100 * patches.pool['artefacts']:.3g} %" in row


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


def test_of_a_method_whose_small_sets_begin_no_large_one_the_whole_set_is_told_of(config):
    choose.run(amend(config, ["selection.method=meddel"]))
    one = tracking.runs(config, "choose")[-1]
    assert {name for name in one["metrics"] if "information" in name} == {"judge/estimated_information_100"}
    assert one["tags"]["judge/estimated_information_50"].startswith("a smaller set by this method is no beginning of this one")
