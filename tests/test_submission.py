"""What becomes of `submit` where a job server takes the connection and then says nothing, or not all; sockets are real, servers are not."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.flow import submission
from jobs.__main__ import main
from tests.jobserver import CUTS, HANGS, JobServer, job, nodes

ROOT = Path(__file__).resolve().parent.parent
KNOWN, DONE = job("RUNNING"), job("SUCCEEDED", 0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for name, seconds in (("ANSWER", 0.6), ("QUIET", 0.4), ("LOOK", 0.05), ("LOST", 0.5)):
        monkeypatch.setattr(submission, name, seconds)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serving(monkeypatch):
    """Begins a JobServer and names it in RAY_ADDRESS."""
    begun = []

    def begin(logs=(), **says):
        begun.append(JobServer(logs, **says).__enter__())
        monkeypatch.setenv("RAY_ADDRESS", begun[-1].address)
        return begun[-1]

    yield begin
    for one in begun:
        one.__exit__()


def refused(words, sentence, capsys, code=1):
    began = time.monotonic()
    assert main(words) == code
    assert time.monotonic() - began < 20
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.err.count("\n") == 1
    return told


def test_a_server_that_takes_the_connection_and_never_answers_is_given_up_in_a_sentence(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes connections for it, and nobody reads from them
        at = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", at)
        refused(
            ["submit", "datasets"],
            f"the job server at {at}, asked to tell its version, says nothing: 0.6 s were not enough for an answer",
            capsys,
        )


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ({"nodes": HANGS}, "says nothing: 0.6 s were not enough for an answer"),
        ({"job": HANGS}, "says nothing: 0.6 s were not enough for an answer"),
        ({"job": 404, "begin": HANGS}, "may run: the same command follows it"),
    ],
)
def test_it_may_begin_to_say_nothing_at_any_question(serving, capsys, says, sentence):
    serving(**says)
    refused(["submit", "datasets"], sentence, capsys)


def test_a_server_that_goes_silent_while_a_job_is_followed_is_given_up_in_a_sentence(serving, capsys):
    serving([["one\n", HANGS]], job=[404, HANGS])
    told = refused(["submit", "datasets"], "does not answer any more; when it does, the same command follows datasets-", capsys)
    assert told.out == "one\n"


@pytest.mark.parametrize("begin", [CUTS, {}, 503])
def test_where_the_server_does_not_say_whether_it_took_a_job_the_job_may_run(serving, capsys, begin):
    server = serving(job=404, begin=begin)
    told = refused(["submit", "datasets"], " may run: the same command follows it", capsys)
    assert f"the job server at {server.address}, asked to run datasets-" in told.err


@pytest.mark.parametrize(
    ("says", "question", "why"),
    [
        ({"version": {"name": "other"}}, "tell its version", "gives an answer that is none of Ray's: KeyError: 'ray_version'"),
        ({"version": [["2.60.0"]]}, "tell its version", "gives an answer that is none of Ray's: TypeError: "),
        ({"version": {"ray_version": None}}, "tell its version", "gives an answer that is none of Ray's: "),
        ({"version": 503}, "tell its version", "gives an answer that is none of Ray's: HTTPError: 503 "),
        ({"nodes": CUTS}, "tell its nodes", "does not answer: "),
        ({"job": {}}, "tell of datasets-", "gives an answer that is none of Ray's: ValidationError: "),
        ({"job": [[KNOWN]]}, "tell of datasets-", "gives an answer that is none of Ray's: TypeError: "),
        ({"job": 503}, "tell of datasets-", "fails: Request failed with status code 503: ."),
        ({"job": CUTS}, "tell of datasets-", "does not answer: "),
    ],
)
def test_a_strange_answer_is_told_of_in_a_sentence_with_the_question_and_the_address(serving, capsys, says, question, why):
    server = serving(**says)
    told = refused(["submit", "datasets"], f"the job server at {server.address}, asked to {question}", capsys)
    assert why in told.err


def test_an_address_with_half_its_brackets_is_told_by_its_variable(monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "http://[::1:8265")
    refused(["submit", "datasets"], "RAY_ADDRESS='http://[::1:8265' is no job server", capsys, code=2)


def test_a_server_that_takes_no_connection_was_waited_for_as_long_as_is_said(monkeypatch):
    monkeypatch.setattr(submission, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        at = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # more than it keeps: to others the kernel says nothing
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(at)
        monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{at[1]}")
        with pytest.raises(TimeoutError, match=r"asked to tell its nodes, took no connection in 0\.3 s$"):
            submission.room()
        for one in waiting:
            one.close()


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("FAILED", 3)])
def test_the_exit_code_is_of_the_answer_that_said_that_the_job_is_over(serving, status, code):
    """The server may be gone right after it."""
    serving([["one\n"]], job=[404, job(status, code), 500])
    assert main(["submit", "datasets"]) == code


def test_a_server_that_fails_for_a_moment_does_not_cost_the_exit_code(serving):
    serving([["one\n"]], job=[404, 500, CUTS, {}, DONE])
    assert main(["submit", "datasets"]) == 0


FOLLOWING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell began in its background
from engine.flow import submission
from jobs.__main__ import main
submission.QUIET = 0.4
sys.exit(main(["submit", "datasets"]))
"""


@pytest.mark.parametrize(
    ("says", "asked", "sentence"),
    [
        ({"job": [404, HANGS]}, ("job", 2), " goes on on the cluster: the same command follows it"),
        ({"job": 404, "begin": HANGS}, ("begin", 1), " may run: the same command follows it"),
    ],
)
@pytest.mark.processes
def test_who_interrupts_while_the_server_hangs_does_not_wait_for_it(serving, says, asked, sentence):
    place, times = asked
    server = serving([["one\n", HANGS]], **says)
    with subprocess.Popen([sys.executable, "-c", FOLLOWING], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        while server.asked[place] < times:
            assert one.poll() is None, one.communicate()
            time.sleep(0.05)
        time.sleep(0.2)
        began = time.monotonic()
        one.send_signal(signal.SIGINT)
        told = one.communicate(timeout=50)[1]
    assert time.monotonic() - began < 30, "an answer is waited for for a minute"
    assert one.returncode == 130
    assert sentence in told.splitlines()[-1]
    assert "Traceback" not in told


def test_a_job_that_writes_nothing_for_long_is_followed_by_the_same_connection(serving, capsys):
    server = serving([["one\n", 1.5, "two\n"]], job=[404, *[KNOWN] * 3, DONE])
    assert main(["submit", "datasets"]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert server.asked["tail"] == 1
    assert server.asked["job"] >= 5, "it was asked in the silence"


def test_what_a_job_wrote_at_its_end_is_read_anew_where_its_log_went_dead(serving, capsys, caplog):
    server = serving([["one\n", HANGS], ["one\n", "two\n"]], job=[404, KNOWN, DONE])
    assert main(["submit", "datasets"]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert server.asked["tail"] == 2
    assert "broke off: it says nothing more, and the job is SUCCEEDED" in caplog.text


def test_a_log_that_stays_dead_does_not_keep_the_exit_code_of_a_job(serving, capsys):
    server = serving([["one\n", HANGS]], job=[404, KNOWN, job("FAILED", 3)])
    assert main(["submit", "datasets"]) == 3
    assert capsys.readouterr().out == "one\n"
    assert server.asked["tail"] == 2


def test_output_that_nobody_reads_is_not_taken_for_a_log_that_broke_off(serving, monkeypatch, caplog):
    server = serving([["one\n"]], job=[404, KNOWN, DONE])
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        monkeypatch.setattr("sys.stdout", nobody)
        assert main(["submit", "datasets"]) == 141
    assert server.asked["tail"] == 1
    assert "broke off" not in caplog.text


def test_a_log_that_breaks_off_is_no_output_that_nobody_reads(caplog):
    class Wire:
        async def tail_job_logs(self, _):
            raise BrokenPipeError(32, "Broken pipe")
            yield ""

    assert asyncio.run(submission.listen(Wire(), "x", print, 5)) == (5, False)
    assert "the log of x broke off: [Errno 32] Broken pipe" in caplog.text


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize(("token", "sentence"), [("", "asks for a token: set RAY_AUTH_TOKEN"), ("b" * 64, "refuses the token of")])
def test_a_token_refused_where_nodes_are_asked_for_is_told_as_everywhere(serving, monkeypatch, capsys, code, token, sentence):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    serving(nodes=code)
    refused(["submit", "datasets"], f" {sentence}", capsys)


def test_a_server_that_fails_where_nodes_are_asked_for_is_told_of_in_a_sentence(serving, capsys):
    serving(nodes=500)
    refused(["submit", "datasets"], "does not tell what nodes its cluster has: 500 ", capsys)


def test_the_room_is_that_of_all_nodes(serving):
    serving(nodes=nodes(CPU=3.0))
    assert submission.room() == {"CPU": 3.0, "GPU": 0.0, "nodes": 1.0}
