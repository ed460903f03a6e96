"""What `explain` tells of scorers, of the runs that trained them and scored with them, and of what was found at drift."""

import pyarrow as pa
import pytest

from engine import files
from engine.explain import explain
from engine.store import PatchStore, WriteRows, drift
from jobs.output import as_tree
from tests import rows

A, B, C = (f"{start}{'0' * 24}" for start in ("aaaaaaa1", "aaaaaaa2", "bbbbbbbb"))
FIRST, EARLY, OTHER = "mae-tiny-s", "early-mae-tiny-5ca1ab1e0001", "timm-resnet18-0a0b0c0d0e0f"  # patches of rows call their scorer "s"
SOURCE, ELSEWHERE = "50a1ce000001", "50a1ce000002"


def run(name, **tags):
    return {"run": name, "status": "FINISHED", "tags": {"commit": "c0ffee", **tags}, "params": {}}


RUNS = {
    "probe": [
        run("b0", key="0badc0de", crops="9", scorer="mae-tiny-abandoned", early="early-mae-tiny-abandoned2"),
        run("b1", key="feedfacef00d", crops="16", scorer=FIRST, early=EARLY),
    ],
    "score": [run("m1", scorer=EARLY, patches_version="4"), run("m2", scorer=OTHER, patches_version="4")],
    "rescore": [run("r1", scorer=FIRST, patches_version="5")],
    "drift": [run("d1", patches_version="2"), run("d2", patches_version="3"), run("d3", patches_version="3")],
}


def finding(quantity, **changes):
    """A row of drift; by default of a day at which nothing was found."""
    told = {"source": SOURCE, "day": "2026-01-02", "quantity": quantity, "videos": 1, "video_ids": B, "pool": 1, "distance": 0.25}
    told |= {"threshold": 0.5, "chance": 0.4, "alarm": False, "reason": None, "patches_version": 2, "looks": 1, "allowed": 0.005}
    return told | {"over": True} | changes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("scorers") / "store"))
    made.create(rows.WIDTH)
    for video in (A, B, C):
        frames = [row | {"content": [0, 0, 96, 128] if row["frame_id"] else None} for row in rows.scored(video).to_pylist()]
        made.commit(pa.concat_tables(WriteRows(made.uri)(pa.Table.from_pylist(frames, rows.wide()))), rows.videos(video), rows.STAMP)
    names = made.patches(["patch_id"])["patch_id"].to_pylist()
    made.add_scores(EARLY, [rows.scores(names)])
    made.add_scores(OTHER, [rows.scores(names[:4], seed=7)])
    for path in ("feedfacef00d.safetensors", "feedfacef00d-early.safetensors", "feedfacef00d.arrow", "f0e1f0e1.safetensors"):
        files.put(b"weights", made.address(f"scorers/{path}"))
    alarm = {"distance": 0.75, "chance": 0.001, "alarm": True, "reason": "half of its frames are dark"}
    later = {"day": "2026-01-03", "videos": 2, "video_ids": f"{A} {C}", "patches_version": 3, "over": False}
    for day in ([finding("difficulty"), finding("verdicts", **alarm)], [finding("verdicts", **later)]):
        drift.enter(made, pa.Table.from_pylist(day, drift.COLUMNS))
    drift.enter(made, pa.Table.from_pylist([finding("verdicts", source=ELSEWHERE, video_ids=A)], drift.COLUMNS))
    return made


def test_a_patch_leads_back_to_the_run_that_trained_its_scorer_and_tells_what_others_say_of_it(store):
    scored = {name: store.open(f"scores-{name}").to_table(columns=["patch_id", "difficulty"]).to_pylist() for name in (EARLY, OTHER)}
    for patch_id in store.patches(["patch_id"])["patch_id"].to_pylist():
        tree = explain(store, patch_id, RUNS)
        assert (tree["scorer"], tree["its scorer"]["trained by"]["run"]) == ("s", "b1")
        assert tree["its scorer"]["file"] == "scorers/feedfacef00d.safetensors"
        reference = {(name, row["difficulty"]) for name in scored for row in scored[name] if row["patch_id"] == patch_id}
        assert {(one["scorer"], one["difficulty"]) for one in tree["scores by others"]} == reference
    assert "MLflow has no run of probe" in explain(store, patch_id, {})["its scorer"]["trained by"]


@pytest.mark.parametrize("asked", ["s", FIRST, "mae-tiny-s"])
def test_a_scorer_leads_back_to_its_probe_and_on_to_the_patches_and_runs_that_scored_with_it(store, asked):
    tree = explain(store, asked, RUNS)
    assert (tree["scorer"], tree["trained by"]["run"], tree["patches with its scores"]) == (FIRST, "b1", 18)
    assert [(one["job"], one["run"]) for one in tree["scored by"]] == [("rescore", "r1")]


@pytest.mark.parametrize(
    ("asked", "name", "probe", "run", "rows_of_it"), [("5ca1ab1e", EARLY, "b1", "m1", 18), ("timm-resnet18", OTHER, None, "m2", 4)]
)
def test_scores_beside_those_of_the_patches_lead_back_to_the_runs_that_made_them(store, asked, name, probe, run, rows_of_it):
    tree = explain(store, asked, RUNS)
    assert (tree["scorer"], tree["patches with its scores"], tree[f"rows of scores-{name}"]) == (name, 0, rows_of_it)
    assert [(one["job"], one["run"]) for one in tree["scored by"]] == [("score", run)]
    assert (tree["trained by"]["run"] if probe else None) == probe
    assert tree.get("file") == ("scorers/feedfacef00d-early.safetensors" if probe else None)


def test_without_runs_a_scorer_is_known_by_what_is_in_the_store(store):
    assert explain(store, "s", {})["scorer"] == "s"
    assert explain(store, OTHER, {})["scored by"] == []
    with pytest.raises(LookupError, match=r"has no video .* or scorer"):
        explain(store, "mae-tiny-gone", {})


@pytest.mark.parametrize("job", ["probe", "score", "rescore"])
def test_a_run_that_trained_or_used_a_scorer_leads_to_it(store, job):
    tree = explain(store, RUNS[job][-1]["run"], RUNS)
    assert (tree["job"], tree["commit"]) == (job, "c0ffee")
    if job == "probe":
        assert tree["crops"] == "16"
        assert [one["scorer"] for one in tree["scorers"]] == [FIRST, EARLY]
    else:
        assert tree["by"]["scorer"] == {"score": OTHER, "rescore": FIRST}[job]
    as_tree(tree)


@pytest.mark.parametrize("name", ["scorers/feedfacef00d.safetensors", "scorers/feedfacef00d.arrow", "runs/probe-feedfacef00d-here"])
def test_what_a_probe_left_in_the_store_leads_back_to_its_run(store, name):
    tree = explain(store, name, RUNS)
    assert (tree["file"], tree["there"], tree["trained by"]["run"]) == (name, name.startswith("scorers"), "b1")
    assert [one["scorer"] for one in tree["scorers"]] == [FIRST, EARLY]


def test_a_scorer_of_no_run_is_said_to_be_and_what_is_not_there_is_refused(store):
    assert explain(store, "scorers/f0e1f0e1.safetensors", RUNS)["trained by"] == "gone: MLflow has no such run"
    with pytest.raises(LookupError, match=r"has no scorer 'scorers/nobody\.safetensors'"):
        explain(store, "scorers/nobody.safetensors", RUNS)
    with pytest.raises(LookupError, match="has no model or checkpoint"):
        explain(store, "scorers/x/../../videos.lance", RUNS)


def test_a_video_tells_what_was_found_on_the_days_that_it_is_of_and_who_looked(store):
    (day,) = explain(store, B, RUNS)["drift"]
    assert (day["source"], day["day"], day["videos"], day["pool"], day["table version"]) == (SOURCE, "2026-01-02", 1, 1, 2)
    assert day["looked at by"]["run"] == "d1"
    told = {one["quantity"]: (one["distance"], one["threshold"], one["alarm"], one["reason"]) for one in day["quantities"]}
    assert told == {"difficulty": (0.25, 0.5, False, None), "verdicts": (0.75, 0.5, True, "half of its frames are dark")}
    assert {(one["source"], one["day"]) for one in explain(store, A, RUNS)["drift"]} == {
        (SOURCE, "2026-01-03"),
        (ELSEWHERE, "2026-01-02"),
    }


def test_a_source_tells_all_of_its_days_and_a_run_those_that_it_looked_at_last(store):
    tree = explain(store, SOURCE, RUNS)
    assert [(one["day"], one["video ids"], one["looked at by"]["run"]) for one in tree["days"]] == [
        ("2026-01-02", [B], "d1"),
        ("2026-01-03", [A, C], "d3"),
    ]
    assert [(one["source"], one["day"]) for one in explain(store, "d2", RUNS)["days"]] == [(SOURCE, "2026-01-03")]
    assert "half of its frames are dark" in as_tree(tree)
    with pytest.raises(LookupError, match=f"begins 2 ids, write more of it: source {SOURCE}, source {ELSEWHERE}"):
        explain(store, "50a1ce", RUNS)
    assert explain(store, SOURCE, {})["days"][0]["looked at by"] == "gone: MLflow has no such run"
