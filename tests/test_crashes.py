"""Whatever strikes a run down, at whatever step: the same run again leaves the tables of one that was never disturbed."""

import hashlib
import shutil
import signal
import time

import pytest

from engine.store import PatchStore, attempts, quarantine
from jobs import ingest as job
from tests import rows
from tests.crashes import committer, matrix, strikes, trials
from tests.crashes.committer import SHORT, run, start, stopped, wake
from tests.crashes.ingest import config_of

pytestmark = pytest.mark.processes


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    return made


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return committer.undisturbed(str(tmp_path_factory.mktemp("undisturbed") / "store"), ("aa",), ("bb", "cc"))


@pytest.mark.parametrize("kind", ["kill", "error"])
@pytest.mark.parametrize("step", strikes.STEPS)
def test_a_run_that_was_struck_down_leaves_no_trace_once_it_was_repeated(store, expected, step, kind):
    assert run(store.uri, "aa") == 0
    assert run(store.uri, "bb", "cc", strike=f"{kind}@{step}") == matrix.ENDS[kind]
    assert len(store.patches(["patch_id"])) in (6, 18)  # nothing of an unfinished batch is ever read
    assert run(store.uri, "bb", "cc") == 0
    assert strikes.verdict(strikes.rows_of(store.uri), expected) == "equal"


@pytest.mark.parametrize("step", ["before the patches", "before the frames", "before the ledger"])
@pytest.mark.parametrize("milliseconds", [1, 2, 4, 8, 16, 32])
def test_a_kill_at_any_moment_of_a_commit_leaves_no_trace_once_the_run_was_repeated(store, expected, step, milliseconds):
    assert run(store.uri, "aa") == 0
    assert run(store.uri, "bb", "cc", strike=f"{milliseconds}@{step}") in (-signal.SIGKILL, 0)  # it may be done by then
    assert len(store.patches(["patch_id"])) in (6, 18)
    assert run(store.uri, "bb", "cc") == 0
    assert strikes.verdict(strikes.rows_of(store.uri), expected) == "equal"


@pytest.mark.parametrize("kind", ["kill", "error"])
@pytest.mark.parametrize("step", strikes.MERGING)
def test_upkeep_that_was_struck_down_while_it_merged_files_changes_no_row_and_leaves_no_file(store, expected, step, kind):
    for video_id in ("aa", "bb", "cc"):
        assert run(store.uri, video_id) == 0
    assert committer.keep_up(store.uri, strike=f"{kind}@{step}") == matrix.ENDS[kind]
    assert strikes.verdict(strikes.rows_of(store.uri), expected) == "equal"
    assert committer.keep_up(store.uri) == 0
    assert strikes.verdict(strikes.rows_of(store.uri), expected) == "equal"
    assert len(store.open("patches").get_fragments()) == 1
    assert strikes.orphans_of(store.uri) == []


@pytest.mark.parametrize("kind", ["kill", "error"])
@pytest.mark.parametrize("step", strikes.WRITING)
def test_files_that_a_struck_run_left_are_collected_by_upkeep(store, expected, step, kind):
    assert run(store.uri, "aa") == 0
    assert run(store.uri, "bb", "cc", strike=f"{kind}@{step}") != 0
    if step == "after the fragments":
        assert strikes.orphans_of(store.uri)
    assert run(store.uri, "bb", "cc") == 0
    assert committer.keep_up(store.uri) == 0
    assert strikes.orphans_of(store.uri) == []
    assert strikes.verdict(strikes.rows_of(store.uri), expected) == "equal"


@pytest.mark.parametrize("step", strikes.LANDING)
def test_a_committer_that_was_paused_too_long_and_wakes_in_the_middle_changes_nothing_any_more(store, expected, step):
    assert run(store.uri, "aa") == 0
    paused = start(store.uri, "bb", "cc", strike=f"stop@{step}", lease=SHORT)
    stopped(paused)
    assert run(store.uri, "bb", "cc", lease=SHORT) == 0  # waits for the lease and takes over
    assert wake(paused) == 1
    assert strikes.verdict(strikes.rows_of(store.uri), expected) == "equal"


def test_three_who_take_in_overlapping_videos_at_once_leave_each_once(store, expected):
    assert run(store.uri, "aa") == 0
    racing = [start(store.uri, *ids) for ids in (("bb", "cc"), ("cc", "bb"), ("aa", "bb", "cc"))]
    for process in racing:
        process.join(100)
    assert [process.exitcode for process in racing] == [0, 0, 0]
    assert strikes.verdict(strikes.rows_of(store.uri), expected) == "equal"


def test_a_file_that_grows_beyond_what_this_user_may_write_is_an_error_and_the_next_run_is_whole(store, expected):
    assert run(store.uri, "aa") == 0
    assert run(store.uri, "bb", "cc", strike="quota@before the fragments") == 1
    assert len(store.patches(["patch_id"])) == 6
    assert run(store.uri, "bb", "cc") == 0
    assert strikes.verdict(strikes.rows_of(store.uri), expected) == "equal"


# -- the whole flow -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    trials.make_clips(folder)
    return folder


@pytest.fixture(scope="module")
def taken_in(clips):
    store = str(clips / "undisturbed")
    job.run(config_of(str(clips / "videos"), store, str(clips / "scorer.safetensors"), "here"))
    return strikes.rows_of(store)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("where", "strike"), matrix.WHOLE)
def test_an_ingest_on_ray_that_was_struck_down_leaves_no_trace_once_it_was_repeated(clips, taken_in, tmp_path, where, strike):
    assert trials.trial(clips, tmp_path / "store", where, strike, taken_in) == "equal"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ingests_at_once_of_overlapping_folders_both_finish_and_leave_each_row_once(clips, taken_in, tmp_path):
    half = clips / "half"
    half.mkdir()
    for path in sorted((clips / "videos").iterdir())[:2]:
        (half / path.name).symlink_to(path)
    both = [trials.ingest(clips, tmp_path / "store", videos=videos) for videos in ("videos", "half")]
    assert [trials.finish(process) for process in both] == [0, 0]
    found = strikes.rows_of(str(tmp_path / "store"))
    assert [row["video_id"] for row in found["ledger"]] == [row["video_id"] for row in taken_in["ledger"]]
    for table in ("patches", "patches, newest", "frames"):
        assert found[table] == taken_in[table]


# -- a watcher ------------------------------------------------------------------------------------------------------------------

PATIENT = 1500  # seconds: it imports the models three times, which takes minutes on a machine that is busy with other things
STRUCK_WATCHES = [f"{kind}@{step}" for kind in ("kill", "error") for step in (*strikes.WRITING, *strikes.COMMITTING)]


@pytest.mark.timeout(PATIENT + 100)
def test_a_watcher_whose_worker_is_killed_after_the_patches_goes_on_by_itself_to_the_same_tables(clips, taken_in, tmp_path):
    watching = trials.watch(clips, tmp_path / "store", "kill@after the patches")
    assert trials.finish(watching, PATIENT) == 0, trials.said_of(tmp_path / "store").read_text()
    assert (tmp_path / "store.struck").exists()
    assert strikes.verdict(strikes.rows_of(str(tmp_path / "store")), taken_in) == "equal"
    assert not attempts.begun(PatchStore(str(tmp_path / "store")))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strike", STRUCK_WATCHES)
def test_a_watcher_that_is_struck_down_at_any_step_goes_on_by_itself_to_the_same_tables(clips, taken_in, tmp_path, strike):
    watching = trials.watch(clips, tmp_path / "store", strike)
    assert trials.finish(watching) == 0, trials.said_of(tmp_path / "store").read_text()
    assert (tmp_path / "store.struck").exists()
    assert strikes.verdict(strikes.rows_of(str(tmp_path / "store")), taken_in) == "equal"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_watcher_that_is_killed_whole_at_any_moment_is_simply_started_again(clips, taken_in, tmp_path, share):
    began = time.monotonic()
    assert trials.finish(trials.watch(clips, tmp_path / "whole")) == 0
    killed = trials.watch(clips, tmp_path / "store")
    time.sleep(share * (time.monotonic() - began))
    killed.kill()
    killed.wait()
    assert trials.finish(trials.watch(clips, tmp_path / "store")) == 0, trials.said_of(tmp_path / "store").read_text()
    for store in ("whole", "store"):
        assert strikes.verdict(strikes.rows_of(str(tmp_path / store)), taken_in) == "equal"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["exits", "raises", "hangs"])
def test_a_poison_file_is_set_aside_the_others_are_taken_in_and_it_can_be_called_back(clips, taken_in, tmp_path, how):
    inbox = clips / how
    inbox.mkdir()
    for path in (clips / "videos").iterdir():
        shutil.copy2(path, inbox)
    (inbox / f"poison-{how}.mp4").write_bytes(b"no video")
    knobs = ["watch.tries=2", "watch.patience_s=60"]
    assert trials.finish(trials.watch(clips, tmp_path / "store", "", how, *knobs), 1500) == 0, trials.said_of(
        tmp_path / "store"
    ).read_text()
    store = PatchStore(str(tmp_path / "store"))
    ledger = {row["reason"]: row for row in store.ledger().to_pylist()}
    assert set(ledger) == {None, "quarantined"}
    assert ledger["quarantined"]["video_id"] == hashlib.sha256(b"no video").hexdigest()[:32]
    found = strikes.rows_of(store.uri)
    assert found["patches"] == taken_in["patches"]
    assert not attempts.begun(store)
    quarantine.requeue(store, "all", "")
    (inbox / f"poison-{how}.mp4").rename(inbox / "harmless.mp4")
    assert trials.finish(trials.watch(clips, tmp_path / "store", "", how, *knobs)) == 0
    assert sorted(row["reason"] or "" for row in store.ledger().to_pylist()) == ["", "", "", "not a video"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_file_that_is_replaced_while_it_is_decoded_comes_in_once_and_as_what_it_is_now(clips, tmp_path):
    inbox = clips / "changes"
    inbox.mkdir()
    for path, name in zip(sorted((clips / "videos").iterdir()), ("good.mp4", "poison-changes.mp4", ".poison-changes.mp4"), strict=True):
        shutil.copy2(path, inbox / name)
    before = hashlib.sha256((inbox / "poison-changes.mp4").read_bytes()).hexdigest()[:32]
    assert trials.finish(trials.watch(clips, tmp_path / "store", "", "changes")) == 0, trials.said_of(tmp_path / "store").read_text()
    assert "written anew while they were read" in trials.said_of(tmp_path / "store").read_text()
    assert sorted(path.name for path in inbox.iterdir()) == ["good.mp4", "poison-changes.mp4"]
    assert trials.finish(trials.ingest(clips, tmp_path / "expected", videos="changes")) == 0
    found = strikes.rows_of(str(tmp_path / "store"))
    assert strikes.verdict(found, strikes.rows_of(str(tmp_path / "expected"))) == "equal"
    assert before not in [row["video_id"] for row in found["ledger"]]
    assert not attempts.begun(PatchStore(str(tmp_path / "store")))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["vanishes", "changes"])
def test_a_copy_of_a_file_that_came_to_nothing_while_it_was_decoded_is_taken_in_by_the_same_watcher(clips, tmp_path, how):
    inbox = clips / f"copies {how}"
    inbox.mkdir()
    one, other, _ = sorted((clips / "videos").iterdir())
    for path, name in ((one, f"poison-{how}.mp4"), (one, "twin.mp4"), (other, f".poison-{how}.mp4")):
        shutil.copy2(path, inbox / name)
    assert trials.finish(trials.watch(clips, tmp_path / "store", "", inbox.name)) == 0, trials.said_of(tmp_path / "store").read_text()
    store = PatchStore(str(tmp_path / "store"))
    found = {row["uri"].rpartition("/")[2]: row["reason"] for row in store.ledger().to_pylist()}
    assert found == {"twin.mp4": None} | ({"poison-changes.mp4": None} if how == "changes" else {})
    assert not attempts.begun(store)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_watchers_of_one_inbox_leave_each_row_once_and_the_second_does_nothing_twice(clips, taken_in, tmp_path):
    both = [trials.watch(clips, tmp_path / "store"), trials.watch(clips, tmp_path / "store")]
    assert [trials.finish(process) for process in both] == [0, 0]
    assert strikes.verdict(strikes.rows_of(str(tmp_path / "store")), taken_in) == "equal"
