"""The job choose goes on from the choice before, and says what is new and what changed."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from engine import appearance, pool, selection, tracking
from engine.knobs import amend
from engine.pool import Pool
from engine.store import PatchStore, clusterings, roundings
from jobs import choose, named, selections, thrift
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
    ids, left = store.patches(["patch_id"])["patch_id"], selection.left_of(config.selection)
    found = store.clustering(selection.clustering_of(config.selection), ids)
    return replace(found, left=store.clustering(left, ids)) if left else found


def solved(config, known):
    """What the selection is by itself, from what is known of the clusters."""
    store = PatchStore(config.store.uri)
    every = Pool(store.patches(selection.columns(config.selection)), store.vectors(store.complete_version()), clustering=known)
    return selection.choose(every, config.selection).patch_ids


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
    assert len(last) > len(after)
    assert 0 < third["metrics"]["choose/left"] == len(set(after) - set(last)) < third["metrics"]["choose/entered"]
    assert third["tags"]["clustering"] != second["tags"]["clustering"]
    assert solved(config, None) == last
    assert PatchStore(config.store.uri).open(rounded).count_rows() == 96


def test_a_cover_begins_with_the_clusters_of_another_method_and_goes_on_from_its_own(config):
    first, _ = chosen(config)
    meddel = amend(config, ["selection.method=meddel", "selection.budget=0.3", "selection.unit=patches"])
    one, ids = chosen(meddel)
    assert (one["metrics"]["choose/fitted"], one["metrics"]["choose/new"]) == (0, 0)
    assert one["tags"]["clustering"].split("/")[1] == first["tags"]["clustering"].split("/")[1]
    assert solved(meddel, None) == ids  # the same clusters, fitted anew
    assert chosen(meddel)[1] == ids
    assert kept(meddel).kept.sum() >= len(ids) == 24
    take_in(config, "e" * 30)
    again, after = chosen(meddel)
    assert (again["metrics"]["choose/fitted"], again["metrics"]["choose/new"]) == (0, 6)
    assert again["metrics"]["choose/entered"] == len(set(after) - set(ids))
    other, _ = chosen(amend(meddel, ["selection.budget=0.4"]))
    assert other["tags"]["clustering"].split("/")[1] == again["tags"]["clustering"].split("/")[1]
    assert other["tags"]["clustering"] != again["tags"]["clustering"]


@pytest.mark.parametrize("method", ["kcenter", "hierarchical", "d4", "density"])
def test_choices_by_centres_by_trees_and_by_what_is_left_are_gone_on_with_after_videos_came_and_went(config, method, tmp_path):
    mine = amend(config, [f"store.uri={tmp_path}/store", f"selection.method={method}", "selection.budget=20", "selection.unit=patches"])
    store = PatchStore(mine.store.uri)
    store.create(rows.WIDTH)
    take_in(mine, *VIDEOS[:12])
    first, before = chosen(mine)
    assert chosen(mine)[1] == before
    take_in(mine, VIDEOS[12])
    store.forget(next(video for video in VIDEOS[:12] if any(one.startswith(f"{video}@") for one in before)))
    known = kept(mine)
    second, after = chosen(mine)
    assert second["tags"]["clustering"] == first["tags"]["clustering"]
    assert (second["metrics"]["choose/new"], second["metrics"]["choose/fitted"]) == (6, 0)
    assert second["metrics"]["choose/entered"] == len(set(after) - set(before)) > 0
    assert second["metrics"]["choose/left"] == len(set(before) - set(after)) > 0
    assert after == solved(mine, known)
    names = [f"{selection.clustering_of(mine.selection)}/{known.name}"]
    if method in ("d4", "density"):
        assert [one["metrics"]["choose/clustered_anew"] for one in (first, second)] == [1, 0]
        names.append(f"{selection.left_of(mine.selection)}/{known.left.name}")
        assert kept(mine).left.name == known.left.name
    assert second["tags"]["clustering"] == ", ".join(names)


@pytest.mark.parametrize("table", ["clusters-left-", "clusters-outside-in-"])
def test_a_damaged_table_of_clusters_is_made_anew_and_what_was_fitted_is_said(config, tmp_path, caplog, table):
    mine = amend(config, [f"store.uri={tmp_path}/store", "selection.method=d4", "selection.budget=20"])
    store = PatchStore(mine.store.uri)
    store.create(rows.WIDTH)
    take_in(mine, *VIDEOS[:12])
    first, before = chosen(mine)
    (damaged,) = [name for name in store.clusterings() if name.startswith(table)]
    next(Path(store.place(damaged), "data").iterdir()).unlink()
    with caplog.at_level(logging.INFO):
        second, after = chosen(mine)
    assert f"the table {damaged} is damaged, so what it tells is found out anew: data/" in caplog.text
    assert after == before
    is_left = table == "clusters-left-"
    assert (second["metrics"]["choose/fitted"], second["metrics"]["choose/clustered_anew"]) == (not is_left, 1)
    said = "the clusters were kept from an earlier choice, those of what SemDeDup leaves fitted anew"
    assert (said in caplog.text) == is_left
    assert second["tags"]["clustering"] == first["tags"]["clustering"]  # of the same patches
    third, _ = chosen(mine)
    assert (third["metrics"]["choose/fitted"], third["metrics"]["choose/clustered_anew"]) == (0, 0)


@pytest.mark.parametrize("method", ["semdedup", "d4"])
def test_where_many_patches_exceed_the_budget_the_clusters_of_the_others_are_kept(config, tmp_path, method):
    """Before, they were taken for those of another pool, and another method's, of all patches, for fitting ones: at each choice anew."""
    mine = amend(config, [f"store.uri={tmp_path}/store", "synthesis.patches=1", f"selection.method={method}"])
    store = PatchStore(mine.store.uri)
    store.create(rows.WIDTH)
    take_in(mine, *VIDEOS[:12])
    sizes = store.patches(["bytes"])["bytes"].to_numpy()
    chosen(amend(mine, ["selection.method=endocurate"]))
    mine = amend(mine, [f"selection.budget={int(np.median(sizes))}", "selection.unit=bytes"])
    assert 20 < np.sum(sizes <= int(np.median(sizes))) < 50
    first, _ = chosen(mine)
    take_in(mine, VIDEOS[12])
    second, _ = chosen(mine)
    assert [one["metrics"]["choose/fitted"] for one in (first, second)] == [1, 0]
    assert second["tags"]["clustering"] == first["tags"]["clustering"]
    assert method == "semdedup" or second["metrics"]["choose/clustered_anew"] == 0


def test_a_choice_among_patches_of_which_two_have_one_key_is_kept_and_nothing_else(config, tmp_path, monkeypatch):
    monkeypatch.setattr(roundings, "FEWEST", 1)
    monkeypatch.setattr(roundings, "SHARE", 1.0)
    mine = amend(config, [f"store.uri={tmp_path}/store"])
    store, true = PatchStore(mine.store.uri), clusterings.hashed
    store.create(rows.WIDTH)
    take_in(mine, *VIDEOS[:12])
    for module in (clusterings, pool):
        monkeypatch.setattr(module, "hashed", lambda column, seed=0: true(column, seed) % np.uint64(50))
    assert len(chosen(mine)[1]) == 36
    assert (store.clusterings(), store.roundings()) == ([], [])


def test_of_the_clusters_of_another_method_nothing_is_taken_over_but_the_clusters(config):
    """Whom that found alike, in its order, would pass for what a cover keeps, and its table for one that is to be added to."""
    chosen(config)
    store, known = PatchStore(config.store.uri), kept(config)
    assert (np.isfinite(known.likeness).any(), known.members.sum() > 0, known.version > 0) == (True, True, True)
    mine = amend(config, ["selection.method=meddel", "selection.budget=0.77", "selection.unit=bytes"])
    found = choose.pool_of(mine, store, store.complete_version()).clustering
    assert (found.name, found.labels.tolist()) == (known.name, known.labels.tolist())
    assert np.isnan(found.likeness).all()
    assert np.isnan(found.order).all()
    assert (found.members.sum(), found.version) == (0, 0)


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


@pytest.mark.parametrize("layout", ["synthesis.patches=9", "synthesis.fill=pad"])
def test_what_changed_is_told_beside_a_choice_of_the_same_layout(config, layout):
    four = amend(config, ["selection.method=random", f"selection.seed={len(layout)}"])
    other = amend(four, [layout])
    _, before = chosen(other)
    take_in(config, f"{len(layout):x}" * 30)
    first, _ = chosen(four)
    assert "choose/entered" not in first["metrics"]
    second, after = chosen(other)
    assert second["metrics"]["choose/entered"] == len(set(after) - set(before))
    assert second["metrics"]["choose/left"] == len(set(before) - set(after))


def test_the_first_choice_of_its_settings_that_goes_on_has_nothing_solved_in_full_beside_it(config, caplog):
    chosen(amend(config, ["selection.clusters=4", "selection.budget=0.4"]))
    with caplog.at_level(logging.INFO, "jobs.choose"):
        one, _ = chosen(amend(config, ["selection.clusters=4", "selection.budget=0.3"]))
    assert one["metrics"]["choose/fitted"] == 0
    assert "choose/full_seconds" not in one["metrics"]
    assert "avoided: 100.0 % of the comparisons of pairs; it took" in caplog.text
    assert "s, and no choice of the same settings was solved in full" in caplog.text
    assert "nan" not in caplog.text


def test_where_nothing_was_avoided_it_says_so(config, caplog):
    with caplog.at_level(logging.INFO, "jobs.choose"):
        thrift.saved(amend(config, ["selection.seed=99"]), {"choose/seconds": 0.1, "choose/pairs": 5.0, "choose/pairs_of_all": 5.0})
    assert caplog.messages == ["avoided: nothing; it took 0.10 s, and no choice of the same settings was solved in full"]


@pytest.mark.parametrize(
    ("words", "scale"),
    [
        (["difficulty.scorer=simclr"], "contrastive loss"),
        (["difficulty.mae.norm_pix=true", "probe.train.mae.norm_pix=true"], "squared error of normalised tokens"),
    ],
)
def test_of_a_difficulty_in_other_units_than_the_variance_what_can_be_learnt_is_left_out(config, caplog, monkeypatch, words, scale):
    for name in appearance.LIMITS:
        monkeypatch.setitem(appearance.LIMITS, name, np.inf)  # these pictures of noise would all be artefacts
    mine = amend(config, ["selection.method=endocurate", "selection.seed=7"])
    usual, plain = chosen(mine)
    assert usual["metrics"]["choose/learnable"] == 1
    assert "learnable" not in usual["tags"]
    other, rest = chosen(amend(mine, words))
    assert other["metrics"]["choose/learnable"] == 0
    assert other["tags"]["learnable"] == f"left out: the difficulty is a {scale}, which the variance of a patch says nothing of"
    assert f"what can be learnt is left out: the difficulty is a {scale}" in caplog.text
    assert rest != plain
    assert "no rebuild error" in other["tags"]["judge/estimated_information_100"]  # the judges decide it as the choice does


def test_only_scorers_of_one_scale_are_compared(config, caplog):
    store, mine = PatchStore(config.store.uri), amend(config, ["selection.method=el2n_like"])
    own = store.patches(["patch_id", "difficulty"]).to_pylist()
    names = [row["patch_id"] for row in own]
    store.add_scores("simclr-resnet18-aa", [rows.scores(names, seed=1)])
    with pytest.raises(ValueError, match=r"compares scorers of one scale, and the store has but simclr-resnet18-aa: .* is a squared error"):
        choose.run(mine)
    early = rows.scores(names, seed=2)
    store.add_scores("early-mae-tiny-bb", [early])
    with caplog.at_level(logging.INFO, "jobs.choose"):
        _, ids = chosen(mine)
    sums = {row["patch_id"]: row["difficulty"] + other for row, other in zip(own, early["difficulty"].to_pylist(), strict=True)}
    assert min(sums[one] for one in ids) >= max(sums[one] for one in set(names) - set(ids)) - 1e-6
    assert "not heard are simclr-resnet18-aa: on another scale" in caplog.text
    assert "heard are, from the least trained on, early-mae-tiny-bb and the patches' own scorer" in caplog.text


def test_a_scorer_that_has_yet_to_score_what_came_is_not_heard_and_the_command_that_mends_it_is_told(config, caplog):
    store, mine = PatchStore(config.store.uri), amend(config, ["selection.method=forgetting_like", "selection.seed=3"])
    rated = store.patches(["patch_id"])["patch_id"].to_pylist()
    store.add_scores("early-mae-tiny-dd", [rows.scores(rated, seed=4)])
    take_in(config, "d" * 30)
    names = store.patches(["patch_id"])["patch_id"].to_pylist()
    told = f"early-mae-tiny-dd, which has yet to score 6 of {len(names)} patches: run the job score with score.by=early"
    with pytest.raises(ValueError, match=f"compares scorers of every patch, and the store has but .*{told}"):
        choose.run(mine)
    with pytest.raises(ValueError, match=told):
        selections.run(amend(config, ["watch.selections=forgetting_like:0.5"]))
    store.add_scores("mae-tiny-ee", [rows.scores(names, seed=5)])
    with caplog.at_level(logging.INFO, "jobs.choose"):
        chosen(mine)
    assert "heard are, from the least trained on, mae-tiny-ee and the patches' own scorer" in caplog.text
    assert f"not heard are {told}" in caplog.text


def test_a_choice_by_theory_of_before_is_found_by_the_knob_of_now_alone(config):
    mine = amend(config, ["selection.method=endocurate", "selection.seed=9"])
    one, _ = chosen(mine)
    assert named.newest(mine)["tags"]["selection"] == one["tags"]["selection"]
    client = MlflowClient(one["run"].uri)
    for knob, value in (("by", "theory"), ("degrees", "45.0")):  # as older runs have them
        client.log_param(one["run"].run_id, f"selection.endocurate.{knob}", value)
    assert named.newest(mine) is None
    assert named.newest(amend(mine, ["selection.endocurate.start=theory"]))["tags"]["selection"] == one["tags"]["selection"]
