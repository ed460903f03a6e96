"""SQL that somebody typed: what takes too long or too much is ended with its process, and the next question is answered."""

import re
import string
import time
from contextlib import closing
from pathlib import Path

import pytest

from engine.browser.questions import Questions
from engine.refusals import RefusedError
from engine.store import PatchStore
from tests import rows

pytestmark = pytest.mark.processes
SMALL = "SELECT patch_id FROM patches ORDER BY patch_id"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = PatchStore(str(tmp_path_factory.mktemp("questions") / "store"))
    made.create(rows.WIDTH)
    rows.take_in(made, "a1" + "0" * 30)
    return made


@pytest.fixture(scope="module")
def questions(store):
    return Questions(store.uri)


def most(process):
    """The most memory in bytes that a process has touched."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) * 1024


def test_a_constant_that_takes_more_memory_than_a_question_may_is_refused_at_once(store, questions):
    ids = [[one] for one in store.query(SMALL)["patch_id"].to_pylist()]
    assert questions.shown(SMALL).rows == ids
    process = questions.idle[-1].process
    before, start = most(process), time.monotonic()
    for sql in ("SELECT repeat('x', 2000000000)", "SELECT length(repeat('x', 4000000000))"):
        with pytest.raises(RefusedError, match="memory"):
            questions.shown(sql)
    assert time.monotonic() - start < 10
    assert most(process) - before < 1.1e9
    assert questions.shown(SMALL).rows == ids


def test_what_grows_to_more_memory_than_a_question_may_take_is_refused_and_the_next_one_answered(store, questions):
    for sql in ("SELECT list(range) FROM range(90000000)", "SELECT repeat(range::VARCHAR, 100000) AS a FROM range(100000) ORDER BY a DESC"):
        with pytest.raises(RefusedError, match="memory"):
            questions.shown(sql)
    assert len(questions.shown(SMALL).rows) == 6


def test_a_constant_that_takes_longer_than_a_question_may_is_ended_with_its_process(store):
    brief = Questions(store.uri, 1.0)
    assert len(brief.shown(SMALL).rows) == 6
    process, start = brief.idle[-1].process, time.monotonic()
    many = ", ".join(f"length(repeat('{letter}', 400000000))" for letter in string.ascii_lowercase)  # long on any machine: 10 GB written
    for sql in (f"SELECT {many}", f"SELECT {many} FROM range(100)"):
        with pytest.raises(RefusedError, match="longer than 1 s"):
            brief.shown(sql)
    assert time.monotonic() - start < 20
    assert not process.is_alive()
    assert len(brief.shown(SMALL).rows) == 6


def test_of_an_endless_answer_what_is_read_is_all_that_is_made(questions):
    with closing(questions.listed("SELECT 'p' || range AS patch_id FROM range(1000000000000)")) as parts:
        assert next(parts)[:2] == ["p0", "p1"]
    assert len(questions.shown(SMALL).rows) == 6


def test_the_process_is_kept_for_the_next_question_and_ends_with_who_asked(store):
    mine = Questions(store.uri)
    processes = set()
    for _ in range(2):
        mine.shown(SMALL)
        processes.add(mine.idle[-1].process.pid)
        with pytest.raises(RefusedError, match="nothing"):
            mine.shown("SELECT nothing")
    held = mine.idle[-1].process
    mine.idle[-1].line.close()
    held.join(20)
    assert (len(processes), held.exitcode) == (1, 0)
