"""The job watch on a cluster of real raylets, submitted over HTTP: clips arrive for as long as it runs, and nodes are lost meanwhile."""

import json
import shutil
import urllib.request
from contextlib import suppress

import pytest

from tests.crashes import strikes, trials
from tests.raylets import TOKEN, surroundings, until
from tests.submitted import asked, at_work, committed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400), pytest.mark.usefixtures("commit")]
CLIPS, GRACE = 6, 60
KNOBS = ["watch.settle_s=1", "watch.look_s=1", "watch.batch_s=2", "watch.backoff_s=1", "watch.backoff_most_s=5", "watch.log=json"]
KNOBS += [f"watch.grace_s={GRACE}", "watch.patience_s=1800"]  # a batch begins in silence: on a busy machine its pools take minutes to come


@pytest.fixture(scope="module")
def cluster(cluster):
    """The same with a head that gives jobs which are stopped time to end."""
    cluster.begin(environment=surroundings(RAY_JOB_STOP_WAIT_TIME_S=str(2 * GRACE)))
    return cluster


@pytest.fixture(scope="module")
def taken_in(commit, clips):
    """The rows of an ingest of the full inbox that nothing befell, in one process."""
    shutil.copytree(clips / "videos", clips / "inbox")
    assert trials.finish(trials.ingest(clips, clips / "undisturbed", videos="inbox")) == 0
    return strikes.rows_of(str(clips / "undisturbed"))


@pytest.fixture
def inbox(clips, taken_in):
    """The same inbox, empty: where a video lies is in its row."""
    shutil.rmtree(clips / "inbox")
    (clips / "inbox").mkdir()
    return clips / "inbox"


def arrive(inbox, first, last):
    """These clips come, as those do that are put under another name until they are whole."""
    for path in sorted((inbox.parent / "videos").iterdir())[first:last]:
        shutil.copy2(path, inbox / f".{path.name}")
        (inbox / f".{path.name}").rename(inbox / path.name)


def watch(cluster, inbox, store):
    return cluster.submit("watch", "tiny", *asked("watch", inbox.parent, store, inbox.name), *KNOBS)


def amid_a_batch(cluster, asking):
    """A node of which a worker has frames in its hands."""
    found = []
    until(lambda: found.append(at_work(cluster)) or found[-1], asking)
    return found[-1]


def lines(asking, event):
    """What the watcher told of such an event; others write into the same log."""
    found = []
    for line in asking.told.splitlines():
        with suppress(ValueError):
            told = json.loads(line)
            found += [told] if isinstance(told, dict) and told.get("event") == event else []
    return found


def outages(asking):
    """The same of what kept a batch from beginning; one under way that waits for nodes goes on by itself."""
    texts = [line["text"] for line in lines(asking, "outage")]
    return [text for text in texts if not text.startswith(("waiting for nodes", "the nodes are there"))]


def stop(cluster, asking):
    """Stop the job that runs as `ray job stop` does, and wait for its end."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{cluster.address}/api/jobs/", headers=headers), timeout=60) as answer:
        (job,) = [one["submission_id"] for one in json.load(answer) if one["status"] == "RUNNING"]
    request = urllib.request.Request(f"{cluster.address}/api/jobs/{job}/stop", b"", headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["stopped"]
    asking.code(3 * GRACE)


def test_a_node_that_is_killed_amid_a_batch_costs_a_watcher_nothing(cluster, inbox, taken_in, tmp_path):
    store = tmp_path / "store"
    cluster.consist_of(6, 6)
    arrive(inbox, 0, 2)
    asking = watch(cluster, inbox, store)
    until(lambda: committed(store) == 2, asking)
    arrive(inbox, 2, 4)
    node = amid_a_batch(cluster, asking)
    assert committed(store) == 2
    node.lose()
    arrive(inbox, 4, 6)
    until(lambda: committed(store) == CLIPS, asking)
    until(lambda: len(lines(asking, "batch")) == 3, asking)
    stop(cluster, asking)
    assert cluster.holds("CPU") == 6
    assert lines(asking, "worker ended") == lines(asking, "surprise") == []
    assert lines(asking, "stopped")[0]["videos"] == CLIPS
    assert strikes.verdict(strikes.rows_of(str(store)), taken_in) == "equal"


def test_a_watcher_whose_cluster_lost_all_its_nodes_waits_for_others_and_blames_no_file(cluster, inbox, taken_in, tmp_path):
    """First amid a batch, which goes on by itself; then with nothing under way, so that the next batch finds no room to begin."""
    store = tmp_path / "store"
    cluster.consist_of(6)
    arrive(inbox, 0, 2)
    asking = watch(cluster, inbox, store)
    amid_a_batch(cluster, asking).lose()
    until(lambda: len(cluster.alive()) == 1, asking)
    node = cluster.add(6)
    until(lambda: len(lines(asking, "batch")) == 1, asking)
    assert committed(store) == 2
    node.lose()
    until(lambda: len(cluster.alive()) == 1, asking)
    arrive(inbox, 2, CLIPS)
    until(lambda: outages(asking), asking)
    assert "CPUs at once and the Ray cluster has 0" in outages(asking)[0]
    cluster.add(6)
    until(lambda: committed(store) == CLIPS, asking)
    until(lambda: len(lines(asking, "batch")) == 3, asking)
    stop(cluster, asking)
    assert [text.split()[0] for text in outages(asking)] == ["the", "back"]
    assert lines(asking, "worker ended") == lines(asking, "surprise") == []
    assert strikes.verdict(strikes.rows_of(str(store)), taken_in) == "equal"
