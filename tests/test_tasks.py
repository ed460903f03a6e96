"""Calls that wait for each other: the same answers here and on Ray, each once, also where a worker is killed."""

import os
import signal
import time
from pathlib import Path

import pytest

from engine import flow
from engine.flow import Task


@pytest.fixture(scope="module", autouse=True)
def ray():
    yield
    flow.shut_down()


def once(folder, name):
    """Leaves a file for every call, and says its name."""
    Path(folder, f"{name}-{os.getpid()}-{time.time_ns()}").touch()
    return name


def joined(before, name):
    return f"{before} {name}"


def killed_at_first(folder):
    if not list(Path(folder).glob("struck*")):
        once(folder, "struck")
        os.kill(os.getpid(), signal.SIGKILL)
    return once(folder, "done")


def always_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def told(before):
    return repr(before)


def refused():
    raise ValueError("no such thing")


def tree(folder):
    return [
        Task("a", once, (folder, "a")),
        Task("a1", joined, ("a1",), after="a"),
        Task("a2", joined, ("a2",), after="a"),
        Task("b", once, (folder, "b")),
        Task("b1", joined, ("b1",), after="b"),
    ]


ANSWERS = {"a": "a", "a1": "a a1", "a2": "a a2", "b": "b", "b1": "b b1"}


def test_here_every_task_is_done_once_in_order(tmp_path):
    found = list(flow.tasks_here(tree(str(tmp_path))))
    assert found == list(ANSWERS.items())
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.processes
def test_on_ray_the_answers_are_the_same_and_none_comes_before_what_it_waits_for(tmp_path, at_once):
    found = list(flow.tasks_on_ray(tree(str(tmp_path)), at_once))
    assert dict(found) == ANSWERS
    names = [name for name, _ in found]
    assert all(names.index(name[0]) <= names.index(name) for name in names)
    assert at_once > 1 or names == list(ANSWERS)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.processes
def test_a_task_whose_worker_was_killed_is_begun_anew(tmp_path):
    assert dict(flow.tasks_on_ray([Task("a", killed_at_first, (str(tmp_path),))], 1)) == {"a": "done"}
    assert len(list(tmp_path.glob("struck*"))) == 1


@pytest.mark.processes
def test_a_task_whose_worker_dies_every_time_is_told_and_the_others_go_on(tmp_path):
    tasks = [Task("a", always_killed), Task("a1", told, after="a"), Task("b", once, (str(tmp_path), "b"))]
    found = dict(flow.tasks_on_ray(tasks, 2))
    assert isinstance(found["a"], RuntimeError)
    assert "its process died 4 times" in str(found["a"])
    assert "RuntimeError" in found["a1"]
    assert found["b"] == "b"


@pytest.mark.processes
def test_what_a_task_raises_is_raised():
    with pytest.raises(ValueError, match="no such thing"):
        list(flow.tasks_on_ray([Task("a", refused)], 1))
