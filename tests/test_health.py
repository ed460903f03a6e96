"""What /livez, /healthz and /metrics say of a watcher, whatever becomes of the process that works."""

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from engine.knobs import amend
from jobs.health import Health, served
from jobs.line import Setback
from jobs.recipes import tiny
from jobs.watch import Warden
from tests.crashes import workers

BATCH = {"at": "2026-01-01T00:00:00+00:00", "videos": 2, "refused": 1, "patches": 9, "frames": 20, "reasons": {"none": 1, "dark": 1}}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def health(clock, *told):
    made = Health(amend(tiny(), ["watch.look_s=30", "watch.patience_s=100"]), clock)
    made.begins(1)
    for word in told:
        made.hear(*(word if isinstance(word, tuple) else (word, "")))
    return made


LOOKED = ("looked", {"backlog": 3, "quarantined": 1})


@pytest.mark.parametrize(
    ("told", "state", "ready"),
    [
        ([], "starting", False),
        (["watching"], "watching", False),
        (["watching", LOOKED], "watching", True),
        (["watching", LOOKED, "busy"], "busy", True),
        (["watching", LOOKED, "busy", "idle"], "watching", True),
        (["watching", LOOKED, "keeping up"], "watching", True),
        (["watching", LOOKED, "busy", "keeping up", "kept up"], "busy", True),
        (["watching", "making up"], "making up", True),
        (["watching", LOOKED, "making up", "made up"], "watching", True),
        (["standing by"], "another watcher holds the inbox", False),
        (["watching", LOOKED, ("waits", "store")], "waiting for the store", False),
        (["watching", LOOKED, ("waits", "disk")], "waiting for the disk, which is full", False),
        (["watching", LOOKED, ("waits", "cluster")], "waiting for the Ray cluster, which has no room", False),
        (["watching", LOOKED, ("waits", "inbox"), ("waits", "MLflow")], "waiting for the inbox and MLflow", False),
        (["watching", LOOKED, ("waits", "store"), ("goes on", "store")], "watching", True),
    ],
)
def test_it_says_what_the_watcher_does_and_whether_it_can_take_in_more(clock, told, state, ready):
    found = health(clock, *told).told()
    assert (found["state"], found["ready"], found["live"]) == (state, ready, True)


def test_a_watcher_that_has_not_looked_for_three_times_its_rest_is_not_ready(clock):
    made = health(clock, "watching", LOOKED)
    clock.now = made.turned = 89.0
    assert made.is_ready
    clock.now = made.turned = 91.0
    assert not made.is_ready


def test_one_at_work_is_ready_while_it_gives_signs_of_life(clock):
    made = health(clock, "watching", LOOKED, "busy")
    clock.now = made.turned = 99.0
    made.hear("alive", "")
    clock.now = made.turned = 198.0
    assert made.is_ready
    clock.now = made.turned = 200.0
    assert not made.is_ready


def test_a_dead_worker_is_not_ready_and_what_was_counted_stays(clock):
    made = health(clock, "watching", LOOKED, ("batch", BATCH | {"latencies": [1.0, 3.0]}), ("waits", "store"))
    made.ended("was ended by signal 9")
    found = made.told()
    assert (found["state"], found["ready"], found["live"], found["worker_ends"]) == ("starting", False, True, 1)
    assert found["last_batch"] == {name: BATCH[name] for name in ("at", "videos", "refused", "patches", "frames")}
    assert found["latency_s"] == {"p50": 2.0, "p99": 2.98, "of": 2}
    text = made.meters.text().decode()
    assert 'endocurate_worker_ends_total{reason="signal"} 1.0' in text
    assert 'endocurate_videos_total{reason="dark"} 1.0' in text
    assert "endocurate_batches_total 1.0" in text
    assert "endocurate_patches_total 9.0" in text


def test_an_alarm_of_drift_is_told_in_words_and_as_a_number_and_leaves_the_watcher_ready(clock):
    said = {"unlike": 2, "drift": "3 videos (ab…) of source 12, 2026-01-02: dark", "gain": 0.25, "worth": True}
    made = health(clock, "watching", LOOKED)
    with served(made, "127.0.0.1", where := port()):
        assert json.loads(asked(where, "/healthz")[1])["stands"] is None
        made.hear("stands", said)
        status, told = asked(where, "/healthz")
        metrics = asked(where, "/metrics")[1].splitlines()
    assert (status, json.loads(told)["stands"]) == (200, said)
    assert {"endocurate_drifted_sources 2.0", "endocurate_training_gain_ratio 0.25", "endocurate_training_worth 1.0"} <= set(metrics)
    made.hear("stands", {"unlike": 0, "drift": None, "gain": None, "worth": False})
    assert "endocurate_drifted_sources 0.0" in made.meters.text().decode()
    assert "endocurate_training_worth 0.0" in made.meters.text().decode()


def test_a_loop_that_stands_still_is_not_live(clock):
    made = health(clock, "watching", LOOKED)
    clock.now = 11.0
    assert not made.is_live
    assert not made.is_ready


def test_what_fails_of_what_follows_is_told_with_its_reason_until_it_is_over(clock):
    made = health(clock, "watching", LOOKED, ("setback", {"step": "drift", "reason": "KeyError"}))
    made.hear("setbacks", {"drift": Setback(1, 0, "KeyError: 'x'")})
    assert made.told()["setbacks"] == {"drift": "KeyError: 'x'"}
    assert made.is_ready
    text = made.meters.text().decode()
    assert 'endocurate_setbacks_total{reason="KeyError",step="drift"} 1.0' in text
    assert "endocurate_failing_steps 1.0" in text
    made.hear("setbacks", {})
    assert made.told()["setbacks"] == {}
    assert "endocurate_failing_steps 0.0" in made.meters.text().decode()


def test_upkeep_is_told_beside_what_is_done_and_ends_with_the_process(clock):
    made = health(clock, "watching", "keeping up")
    assert made.told()["keeping_up"]
    made.hear("kept up", "")
    assert not made.told()["keeping_up"]
    made.hear("keeping up", "")
    made.ended("was ended by signal 9")
    assert not made.told()["keeping_up"]


def test_after_a_batch_the_backlog_is_told_anew_and_does_not_count_as_a_look(clock):
    made = health(clock, "watching", LOOKED)
    clock.now = made.turned = 91.0
    made.hear("left", {"backlog": 0, "quarantined": 2})
    assert (made.told()["backlog"], made.told()["quarantined"], made.is_ready) == (0, 2, False)
    assert "endocurate_backlog_sources 0.0" in made.meters.text().decode()


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/metrics", "/nothing"])
def test_who_asks_for_the_head_gets_that_of_the_answer_and_no_more(clock, path):
    with served(health(clock, "watching", LOOKED), "127.0.0.1", port()) as where:
        heads = []
        for method in ("GET", "HEAD"):
            asked = http.client.HTTPConnection("127.0.0.1", where, timeout=10)
            asked.request(method, path)
            answer = asked.getresponse()
            heads.append((answer.status, answer.getheader("Content-Type"), int(answer.getheader("Content-Length")) > 0))
            body = answer.read()
            asked.close()
        assert heads[0] == heads[1]
        assert body == b""


def port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def asked(where, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{where}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_port_that_is_taken_is_refused_in_one_sentence(clock):
    where = port()
    with (
        served(health(clock), "127.0.0.1", where),
        pytest.raises(ValueError, match=rf"watch.port={where} at watch.host=127.0.0.1 cannot be listened on: Address already in use"),
        served(health(clock), "127.0.0.1", where),
    ):
        pass


def test_a_host_that_is_none_is_refused_with_what_the_resolver_says(clock):
    told = r"^watch\.port=8080 at watch\.host=256\.1\.1\.1 cannot be listened on: (?!Unknown error)(Name|Temporary|No address|nodename)"
    with pytest.raises(ValueError, match=told), served(health(clock), "256.1.1.1", 8080):
        pass


def test_no_port_is_opened_unless_one_is_asked_for(clock):
    with served(health(clock), "127.0.0.1", 0) as where:
        assert where == 0


@pytest.mark.processes
def test_while_the_one_that_works_hangs_the_other_answers(tmp_path):
    """A real process that hangs: live all the while, ready until its patience is over, then another one begins."""
    where = port()
    knobs = ["watch.backoff_s=0.01", "watch.backoff_most_s=0.01", f"store.uri={tmp_path}", "watch.patience_s=4", "watch.look_s=1"]
    config = amend(tiny(), knobs)
    warden = Warden(config, workers.hangs_once, [])
    with served(warden.health, "127.0.0.1", where):
        watching = threading.Thread(target=warden.run)
        watching.start()
        seen = set()
        while watching.is_alive():
            live, _ = asked(where, "/livez")
            ready, told = asked(where, "/healthz")
            told = json.loads(told)
            assert (ready == 200) == told["ready"]
            seen.add((live, ready, told["state"], told["worker_ends"]))
            time.sleep(0.1)
        assert asked(where, "/nothing")[0] == 404
        assert 'endocurate_worker_ends_total{reason="silent"} 1.0' in asked(where, "/metrics")[1]
    assert {live for live, *_ in seen} == {200}
    assert (200, 200, "busy", 0) in seen
    assert (200, 503, "starting", 1) in seen
    assert (200, 200, "busy", 1) in seen
