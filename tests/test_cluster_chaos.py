"""Jobs that were submitted over HTTP to a cluster of real raylets, which loses nodes and its head while they are at work."""

import shutil
import time

import pytest
import torch

from engine import tracking
from jobs.__main__ import main, parse
from tests.crashes import strikes, trials
from tests.raylets import until
from tests.submitted import asked, at_work, committed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("commit")]
CLIPS, BATCH, EPOCHS, IMAGES = 8, 2, 40, 12  # images: three batches of four, which two workers share evenly
TRAINING = [
    f"pretrain.epochs={EPOCHS}",
    "pretrain.workers=2",
    "selection.method=random",
    "selection.unit=images",
    f"selection.budget={IMAGES}",
]


@pytest.fixture(scope="module")
def taken_in(commit, clips):
    """The rows of an ingest that nothing befell, in one process."""
    assert trials.finish(trials.ingest(clips, clips / "undisturbed")) == 0
    return strikes.rows_of(str(clips / "undisturbed"))


@pytest.fixture(scope="module")
def chosen(clips, taken_in):
    """A store with a selection, and the losses of a training on it that nothing befell, by one process that does the work of two."""
    words, threads = [f"store.uri={clips}/undisturbed", *TRAINING, "where=here"], torch.get_num_threads()
    assert main(["choose", "tiny", *words]) == 0
    shutil.copytree(clips / "undisturbed", clips / "trained")
    words[0] = f"store.uri={clips}/trained"
    torch.set_num_threads(1)  # as Ray gives a worker of one processor: in how many parts a sum is made changes how it is rounded
    assert main(["pretrain", "tiny", *words]) == 0
    torch.set_num_threads(threads)
    return clips / "undisturbed", losses(parse(["pretrain", "tiny", *words])[1])


def one_run(config, job):
    """The run of a job, which must be the only one, and done."""
    (found,) = tracking.begun(config, job)
    assert found["status"] == "FINISHED"
    return found["run"]


def points(run, metric):
    """All that was logged, steps that were repeated too."""
    return sorted((point.step, point.value) for point in tracking.connect(run.uri).get_metric_history(run.run_id, metric))


def losses(config):
    return points(one_run(config, "pretrain"), "train/loss")


# -- ingest ---------------------------------------------------------------------------------------------------------------------


def amid_an_ingest(cluster, store, words):
    """The job as it was submitted, at a moment when some videos are committed and others are not."""
    asking = cluster.submit("ingest", "tiny", *words)
    until(lambda: committed(store) >= BATCH, asking)
    assert committed(store) < CLIPS, "it was over before anything could befall it"
    return asking


def amid_a_batch(cluster, store, words):
    """The job as it was submitted, and a node with a batch of frames in the hands of its workers, which is lost with them."""
    asking, found = cluster.submit("ingest", "tiny", *words), []
    until(lambda: found.append(at_work(cluster)) or found[-1], asking)
    assert committed(store) < CLIPS, "it was over before anything could befall it"
    return asking, found[-1]


def right(store, words, taken_in):
    """The tables are those of an undisturbed run; one MLflow run that tells every commit once."""
    assert strikes.verdict(strikes.rows_of(str(store)), taken_in) == "equal"
    told = points(one_run(parse(["ingest", "tiny", *words])[1], "ingest"), "ingest/videos")
    assert [step for step, _ in told] == list(range(BATCH, CLIPS + 1, BATCH))


def test_an_ingest_that_was_submitted_outlives_a_node_that_is_killed(cluster, clips, taken_in, tmp_path):
    cluster.consist_of(6, 6)
    words = asked("ingest", clips, tmp_path / "store")
    asking, node = amid_a_batch(cluster, tmp_path / "store", words)
    node.lose()
    struck = time.monotonic()
    assert asking.code() == 0, asking.told
    print(f"the ingest ended {time.monotonic() - struck:.0f} s after the node was killed")
    assert cluster.holds("CPU") == 6
    right(tmp_path / "store", words, taken_in)


def test_what_a_head_that_is_killed_takes_along_is_begun_anew_by_the_same_command(cluster, clips, taken_in, tmp_path):
    """Lost: the job, every id of the job server, the other nodes. Kept: what was committed, and the MLflow run."""
    workers = cluster.consist_of(6, 6)
    words = asked("ingest", clips, tmp_path / "store")
    asking = amid_an_ingest(cluster, tmp_path / "store", words)
    cluster.head.lose()
    struck = time.monotonic()
    before = committed(tmp_path / "store")
    assert before < CLIPS
    cluster.begin()  # the same ports, and nothing of before
    print(f"the head was back {time.monotonic() - struck:.0f} s after it was killed, with {before} videos committed")
    assert asking.code(300) == 1
    assert asking.told.rstrip().splitlines()[-1].startswith("endocurate submit: the job server at")
    assert "or begins it anew from what was committed" in asking.told
    for node in workers:
        node.process.wait(300)  # each ends by itself: it is of a cluster that is no more
    print(f"the nodes had ended {time.monotonic() - struck:.0f} s after the head was killed")
    assert committed(tmp_path / "store") == before
    cluster.consist_of(6)
    again = cluster.submit("ingest", "tiny", *words)
    assert again.code() == 0, again.told
    assert f"{CLIPS - before} sources are new to the ledger" in again.told
    right(tmp_path / "store", words, taken_in)


# -- pre-training ---------------------------------------------------------------------------------------------------------------


def amid_a_training(cluster, store, words):
    """The job as it was submitted, with the work of three epochs in checkpoints and more to do."""
    asking = cluster.submit("pretrain", "tiny", *words)
    until(lambda: epochs_kept(store) >= 3, asking)
    assert epochs_kept(store) < EPOCHS - 10, "it was over before anything could befall it"
    return asking


def epochs_kept(store):
    """The epochs of the newest checkpoint."""
    steps = [int(path.name[5:]) for path in store.glob("runs/pretrain-*/step-*")]
    return max(steps, default=0) * 4 // IMAGES


def same_curve(config, expected):
    """Every epoch once, with the losses of one process to the rounding of their sum in float64.

    A batch is taken in the same parts whoever takes them, and one half of two gradients is the same whoever adds them up, so that not a bit
    of the weights is another. Where the parts were others, rounding grew from 1e-8 in the first epochs to .24 % after thirty (LOG).
    """
    told = losses(config)
    assert [step for step, _ in told] == list(range(EPOCHS))
    assert [loss for _, loss in told] == pytest.approx([loss for _, loss in expected], rel=1e-12, abs=0)


def of_its_own(chosen, folder, *more):
    """A copy of the store with the selection, the knobs of a training on it, and its configuration."""
    shutil.copytree(chosen[0], folder / "store")
    words = [f"store.uri={folder}/store", *TRAINING, *more]
    return words, parse(["pretrain", "tiny", *words])[1]


def test_a_training_goes_on_with_one_worker_when_the_node_of_the_other_is_killed(cluster, chosen, tmp_path):
    cluster.consist_of(1, 1)
    words, config = of_its_own(chosen, tmp_path, "pretrain.least_workers=1")
    asking = amid_a_training(cluster, tmp_path / "store", words)
    until(lambda: [node.works_on("RayTrainWorker") for node in cluster.workers] == [1, 1], asking)  # it may have begun with one
    cluster.workers[0].lose()
    struck, before = time.monotonic(), epochs_kept(tmp_path / "store")
    until(lambda: epochs_kept(tmp_path / "store") > before, asking)
    print(f"one worker went on {time.monotonic() - struck:.0f} s after the node was killed")
    assert asking.code() == 0, asking.told
    assert cluster.holds("CPU") == 1
    same_curve(config, chosen[1])


def test_a_training_that_needs_all_its_workers_waits_for_a_node(cluster, chosen, tmp_path):
    cluster.consist_of(2, 1)
    words, config = of_its_own(chosen, tmp_path)
    asking = amid_a_training(cluster, tmp_path / "store", words)
    at_work(cluster, "RayTrainWorker").lose()
    before = epochs_kept(tmp_path / "store")
    time.sleep(90)  # longer than Ray Train waits for the old number before it looks for another
    assert epochs_kept(tmp_path / "store") == before
    assert asking.runs()
    cluster.add(2)
    came = time.monotonic()
    until(lambda: epochs_kept(tmp_path / "store") > before, asking)
    print(f"both workers went on {time.monotonic() - came:.0f} s after a node had come")
    assert asking.code() == 0, asking.told
    same_curve(config, chosen[1])
