import re

import pytest

from engine import flow
from engine.difficulty import ScoreAgain
from engine.flow import Step
from engine.knobs import amend
from engine.store import PatchStore
from jobs import needs, places, pods, score
from jobs.recipes import tiny


@pytest.mark.parametrize(
    ("job", "knobs", "sentence"),
    [
        ("ingest", ["videos.uri=/nowhere"], r"videos\.uri='/nowhere' does not exist"),
        (
            "ingest",
            ["videos.uri=.", "patches.proposer=sam", "patches.checkpoint=/no.pth"],
            r"patches\.checkpoint='/no\.pth' does not exist",
        ),
        ("ingest", ["videos.uri=.", "difficulty.checkpoint=/no.pth"], r"difficulty\.checkpoint='/no\.pth' does not exist"),
        ("watch", ["videos.uri=.", "difficulty.checkpoint=/no.pth"], r"difficulty\.checkpoint='/no\.pth' does not exist"),
        ("plan", ["videos.uri=.", "difficulty.checkpoint=/no.pth"], r"difficulty\.checkpoint='/no\.pth' does not exist"),
        ("rescore", ["difficulty.checkpoint=/no.pth"], r"difficulty\.checkpoint='/no\.pth' does not exist"),
        ("score", ["score.by=checkpoint", "difficulty.checkpoint=/no.pth"], r"difficulty\.checkpoint='/no\.pth' does not exist"),
        ("evaluate", [], r"evaluate\.uri is empty"),
        ("evaluate", ["evaluate.uri=/nowhere"], r"there is no folder /nowhere; expected one with images/ and masks/"),
        ("pretrain", ["transfer.uri=s3://bucket/targets"], r"transfer\.uri='s3://bucket/targets': target images are read from a folder"),
        ("pretrain", ["transfer.uri=/nowhere"], r"transfer\.uri='/nowhere' does not exist"),
        ("choose", ["store.uri=/nowhere"], r"store\.uri='/nowhere' holds no store of endocurate: run the job ingest first"),
        ("pretrain", ["store.uri=."], r"run the job choose first"),
        ("demo", ["store.uri=mine"], r"store\.uri='mine': demo works in its own folder"),
        ("demo", ["videos.uri=mine"], r"videos\.uri='mine': demo works in its own folder"),
    ],
)
def test_what_is_not_there_is_refused_before_the_job_begins(job, knobs, sentence):
    with pytest.raises((ValueError, OSError), match=sentence):
        places.check(job, amend(tiny(), knobs))


@pytest.mark.parametrize("under", ["", "/store", "/deep/store"])
def test_a_store_at_a_file_or_below_one_is_refused_before_it_is_said_that_one_is_made(tmp_path, under):
    (tmp_path / "0.mp4").write_bytes(b"1")
    for job in ("ingest", "watch"):
        with pytest.raises(ValueError, match=r"^store\.uri='.*': .*/0\.mp4 is a file; expected a folder, or room for one$"):
            places.check(job, amend(tiny(), [f"videos.uri={tmp_path}", f"store.uri={tmp_path}/0.mp4{under}"]))
    places.check("ingest", amend(tiny(), [f"videos.uri={tmp_path}", f"store.uri={tmp_path}/not/yet"]))


def test_buckets_and_what_a_job_does_not_read_are_left_to_it():
    places.check("ingest", amend(tiny(), ["videos.uri=s3://bucket/videos", "store.uri=/not/yet"]))
    places.check("ingest", amend(tiny(), ["videos.uri=.", "patches.proposer=crops", "patches.checkpoint=/no.pth"]))
    places.check("demo", tiny())


def test_target_images_are_counted_before_anything_is_loaded(tmp_path):
    for job in ("pretrain", "transfer"):
        config = amend(tiny(), [f"transfer.uri={tmp_path}", "store.uri=/nowhere", "evaluate.uri=/nowhere"])
        with pytest.raises(ValueError, match=r"transfer\.uri=.* holds 0 pictures, expected two target images at least"):
            places.check(job, config)
    (tmp_path / "one.png").write_bytes(b"not opened")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"transfer\.uri=.* holds 1 picture, expected two"):
        places.check("pretrain", config)
    (tmp_path / "two.png").write_bytes(b"not opened")
    with pytest.raises(ValueError, match="run the job choose first"):  # two, so it goes on to the store
        places.check("pretrain", amend(tiny(), [f"transfer.uri=file://{tmp_path}", "store.uri=/nowhere"]))
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match=r"/images holds 0 pictures, expected two"):
        places.check("pretrain", config)
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        places.check("pretrain", amend(tiny(), [f"transfer.uri={tmp_path / 'one.png'}"]))


@pytest.mark.parametrize(
    ("job", "knob"),
    [
        ("report", "report.path"),
        ("transfer-study", "study.picture"),
        ("export", "export.path"),
        *((job, "output.path") for job in ("query", "plan", "datasets", "transfer-study")),
    ],
)
def test_what_a_pod_writes_must_be_in_a_bucket(job, knob):
    inside = ["store.uri=s3://bucket/store", "study.uri=s3://bucket/scores", "videos.uri=s3://bucket/videos", "evaluate.uri=/data/set"]
    name = "out.svg" if knob == "study.picture" else "out"
    for place in ("out/", "/home/me/", f"{pods.CLAIM}/"):
        with pytest.raises(ValueError, match=rf"^{re.escape(knob)}='.*' is nowhere that pods can write: name a bucket$"):
            pods.refuse_local(job, amend(tiny(), [*inside, f"{knob}={place}{name}"]))
    pods.refuse_local(job, amend(tiny(), [*inside, f"{knob}=s3://bucket/{name}"]))


@pytest.mark.parametrize(
    "signed", ["sig", "X-Amz-Signature", "X-Amz-Security-Token", "access_token", "password", "passwd", "secret", "X-Goog-Credential"]
)
def test_an_address_with_what_is_to_be_kept_secret_is_refused_and_not_repeated(signed):
    with pytest.raises(ValueError, match=r"^videos\.uri holds a signature, a token or a password") as refused:
        pods.refuse_secrets(amend(tiny(), [f"videos.uri=https://host/videos?part=1&{signed}=hidden"]))
    assert "hidden" not in str(refused.value)
    pods.refuse_secrets(amend(tiny(), ["videos.uri=https://host/videos?part=1"]))


def test_what_a_cluster_is_asked_for_is_what_the_job_takes_of_it():
    scoring = Step(ScoreAgain, (), batch=64, gpus=0.25)  # as score and rescore have it
    steps = score.steps(PatchStore("store"), 1, scoring)
    assert {needs.least(job, tiny())[0] for job in needs.SCORING} == {flow.cpus_of(steps)} == {2.25}
    for job in ("choose", "theory", "selections"):
        assert needs.least(job, amend(tiny(), ["where=ray"])) == (2.0, 0.0), "its own process, and a task beside it"
        assert needs.least(job, amend(tiny(), ["where=here"])) == (1.0, 0.0)
