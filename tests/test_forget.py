"""What the job forget does beyond the store: the pictures that runs show of their training images."""

from engine import tracking
from engine.knobs import amend
from jobs import cells, forget, transfer
from jobs.recipes import tiny
from jobs.training import PICTURES


def test_the_pictures_of_runs_that_saw_the_video_go_and_those_of_others_and_all_numbers_stay(tmp_path):
    config = amend(tiny(), [f"store.uri={tmp_path}/store"])
    runs = {}
    for job, selection in (("pretrain", "mine"), ("pretrain", "other"), ("probe", "")):
        with tracking.running(config, job, job + selection, {"selection": selection}) as record:
            record.keep(f"{PICTURES}/epoch-00001.jpg", b"seen")
            record.keep("notes.txt", b"kept")
            runs[job + selection] = record
    erased = forget.pictures(config, {"mine"})
    assert {row["name"]: row["count"] for row in erased} == {runs["pretrainmine"].run_id: 1, runs["probe"].run_id: 1}
    assert [path.read_bytes() for path in (tmp_path / "store").rglob("epoch-*.jpg")] == [b"seen"]
    assert all(run.kept("notes.txt") == b"kept" for run in runs.values())
    assert forget.pictures(config, {"mine"}) == []


def test_every_run_that_used_a_selection_is_told_also_those_of_a_matrix(tmp_path):
    config = amend(tiny(), [f"store.uri={tmp_path}/store"])
    jobs = ("choose", "pretrain", "evaluate", transfer.JOB, "transfer", cells.JOB)
    for job in jobs:
        for selection in ("mine", "other"):
            with tracking.running(config, job, job + selection, {"selection": selection}):
                pass
    told = forget.affected(config, {"mine"})
    assert sorted(row["note"] for row in told) == sorted(jobs)


def test_pictures_that_wait_for_a_lost_server_go_too(tmp_path):
    config = amend(tiny(), [f"store.uri={tmp_path}/store"])
    with tracking.running(config, "pretrain", "one", {"selection": "mine"}) as record:
        record.post.next_try = float("inf")  # as after a server was lost
        record.keep(f"{PICTURES}/epoch-00001.jpg", b"seen")
        record.keep("notes.txt", b"kept")
        assert len(record.post.waiting()) == 2
        assert [row["count"] for row in forget.pictures(config, {"mine"})] == [1]
        assert len(record.post.waiting()) == 1


def test_what_waits_for_another_server_is_still_to_do(tmp_path):
    config = amend(tiny(), [f"store.uri={tmp_path}/store", f"tracking.uri=sqlite:///{tmp_path}/store/other.db"])
    with tracking.running(config, "pretrain", "one", {"selection": "mine"}) as record:
        record.post.next_try = float("inf")  # as after a server was lost
        record.keep(f"{PICTURES}/epoch-00001.jpg", b"seen")
        assert forget.waiting(config) == []
        (row,) = forget.waiting(amend(tiny(), [f"store.uri={tmp_path}/store"]))
        assert row["what"] == "still to do"
        assert row["note"].startswith(f"{tmp_path}/store/unsent/")
        assert any((tmp_path / "store" / "unsent").glob(f"{row['note'].split()[0].rpartition('/')[2]}/*/*"))
