"""The process that sees to it that the one that works is alive: deaths, silence, signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.knobs import amend
from jobs import watch
from jobs.recipes import tiny
from jobs.watch import Warden
from tests.crashes import workers

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import sys
from engine.knobs import amend
from jobs import quiet, watch
from jobs.recipes import tiny
from tests.crashes import workers

quiet.begin()
watch.run(amend(tiny(), sys.argv[3:]), getattr(workers, sys.argv[1]), )
"""


def config(tmp_path, *knobs):
    return amend(tiny(), ["watch.backoff_s=0.01", "watch.backoff_most_s=0.01", f"store.uri={tmp_path}", *knobs])


def lines(tmp_path):
    return (tmp_path / "lines").read_text().split()


def warden(tmp_path, work, *knobs):
    return Warden(config(tmp_path, *knobs), work, [])


def test_one_that_dies_at_work_is_followed_by_another_that_knows_how(tmp_path):
    warden(tmp_path, workers.dies_twice).run()
    assert lines(tmp_path) == ["first:", "later:was-ended-by-signal-9", "later:ended-with-code-3"]


def test_one_that_is_silent_at_work_is_ended_and_one_that_beats_is_not(tmp_path):
    warden(tmp_path, workers.hangs_once, "watch.patience_s=3").run()
    assert lines(tmp_path) == ["first:", "later:was-silent-for-3-s"]


def test_one_whose_pools_wait_for_a_node_is_left_alone_and_says_so_and_is_ended_when_it_hangs_once_they_are_there(tmp_path, caplog):
    mine = warden(tmp_path, workers.awaits_nodes, "watch.patience_s=3")
    heard, hear = [], mine.health.hear
    mine.health.hear = lambda word, said: (hear(word, said), heard.append((word, said, mine.health.state)))
    mine.run()
    assert lines(tmp_path) == ["first:", "there", "later:was-silent-for-3-s", "there"]
    told = [(word, said) for word, said, _ in heard if word in ("waits", "goes on")]
    assert told[:3] == [("waits", "nodes"), ("goes on", "nodes"), ("waits", "nodes")]  # and it ends at once when it is there
    assert "waiting for nodes of the Ray cluster, which a batch needs" in {state for _, _, state in heard}


def test_one_that_is_silent_with_nothing_under_way_is_ended_too_and_begun_anew_however_often(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "IDLE_DEATHS", 2)
    warden(tmp_path, workers.hangs_idly, "watch.patience_s=3").run()
    assert lines(tmp_path) == ["first:", *["later:was-silent-for-3-s"] * 3]


def test_one_that_gets_on_is_begun_again_however_often_it_dies(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "IDLE_DEATHS", 2)
    warden(tmp_path, workers.takes_in_and_dies).run()
    assert lines(tmp_path) == ["first:", *["later:ended-with-code-3"] * 4]


def test_a_step_that_hangs_is_known_by_the_next_process_and_by_those_who_ask(tmp_path):
    mine = warden(tmp_path, workers.hangs_at_a_step, "watch.patience_s=3")
    mine.run()
    told = [line for line in lines(tmp_path) if line.startswith("drift")]
    assert told == ["drift:1:1:the-process-that-did-it-was-silent-for-3-s", "drift:2:2:the-process-that-did-it-was-silent-for-3-s"]


def test_what_a_step_took_at_its_slowest_is_known_by_the_next_process(tmp_path):
    warden(tmp_path, workers.remembers).run()
    assert lines(tmp_path) == ["first:", "later:was-ended-by-signal-9", "drift:3.0"]


@pytest.mark.parametrize("work", [workers.stands_by, workers.imports_slowly])
def test_one_that_waits_with_signs_of_life_or_is_not_imported_yet_is_left_alone(tmp_path, work):
    warden(tmp_path, work, "watch.patience_s=3").run()
    assert lines(tmp_path) == ["first:"]


def test_one_that_cannot_begin_says_why(tmp_path):
    with pytest.raises(ValueError, match=r"^no scorer$"):
        warden(tmp_path, workers.refuses).run()


def test_one_that_dies_before_it_ever_looked_is_a_bug_and_not_begun_again(tmp_path):
    with pytest.raises(RuntimeError, match="ended with code 3 with nothing under way"):
        warden(tmp_path, workers.breaks).run()


def test_one_that_a_signal_ended_before_it_ever_looked_is_begun_again_but_not_for_ever(tmp_path, monkeypatch):
    warden(tmp_path, workers.dies_at_the_start).run()
    assert lines(tmp_path) == ["first"] * 3
    (tmp_path / "lines").unlink()
    monkeypatch.setattr(watch, "IDLE_DEATHS", 2)
    with pytest.raises(RuntimeError, match="was ended by signal 9 with nothing under way"):
        warden(tmp_path, workers.dies_at_the_start).run()
    assert lines(tmp_path) == ["first"] * 2


def started(tmp_path, work, *knobs):
    words = [sys.executable, "-c", RUN, work, "-", f"store.uri={tmp_path}", *knobs]
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not (tmp_path / "lines").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return process


def test_sigterm_lets_a_batch_end_and_the_exit_code_is_0(tmp_path):
    process = started(tmp_path, "finishes", "watch.grace_s=100")
    process.send_signal(signal.SIGTERM)
    assert process.wait(150) == 0, process.stderr.read()
    assert lines(tmp_path) == ["begun", "finished"]
    assert process.stderr.read().splitlines()[-1].endswith(" stopped: 1 batch, 1 video, 0 with a reason, 1 patch")


def test_sigterm_abandons_a_batch_that_takes_longer_than_half_of_the_grace(tmp_path):
    process = started(tmp_path, "abandons", "watch.grace_s=8")
    process.send_signal(signal.SIGTERM)
    assert process.wait(150) == 0, process.stderr.read()
    assert lines(tmp_path) == ["begun", "abandoned"]


@pytest.mark.parametrize(("share", "told"), [(0.3, ["finish"]), (0.7, ["finish", "abandon"])])
def test_a_batch_is_abandoned_once_half_of_the_grace_is_over_and_not_before(tmp_path, share, told):
    asked, sent = Warden(config(tmp_path, "watch.grace_s=1000"), None, [time.monotonic() - 1000 * share]), []
    line = SimpleNamespace(send=sent.append)
    count = asked.pass_on(None, line, 0)
    assert (sent, asked.pass_on(None, line, count)) == (told, len(told))


def test_sigterm_ends_within_the_grace_one_that_hears_nothing(tmp_path):
    process = started(tmp_path, "is_deaf", "watch.grace_s=3")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(150) == 0, process.stderr.read()
    assert time.monotonic() - began > 3


def test_a_second_signal_ends_at_once(tmp_path):
    process = started(tmp_path, "is_deaf", "watch.grace_s=1000")
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    process.wait(150)
    assert "KeyboardInterrupt" in process.stderr.read()


def test_the_one_that_works_ends_when_the_other_is_killed(tmp_path):
    process = started(tmp_path, "is_deaf")
    worker = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 100
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()
