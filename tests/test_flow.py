import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from engine import flow, schema
from engine.flow import Step

ROOT = Path(__file__).resolve().parent.parent
NUMBER = pa.schema([pa.field("n", pa.int64())])
PIECE = pa.schema([pa.field("n", pa.int64()), pa.field("part", pa.int64()), pa.field("vector", pa.list_(pa.float16(), 1))])


@schema.stage(reads=NUMBER, writes=PIECE)
class Split:
    """n rows for a row n, streamed."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def __call__(self, numbers):
        for n in numbers["n"].to_pylist():
            yield pa.table(
                {"n": [n] * n, "part": list(range(n)), "vector": pa.array([[n * self.scale]] * n, pa.list_(pa.float16(), 1))}, PIECE
            )


@schema.stage(reads=PIECE, writes=PIECE)
class DropOdd:
    def __call__(self, pieces):
        return pieces.filter(pa.compute.equal(pa.compute.bit_wise_and(pieces["part"], 1), 0))


@schema.stage(reads=PIECE, writes=PIECE)
class DieOnce:
    """Is killed in the middle of its work the first time."""

    def __init__(self, mark: str) -> None:
        self.mark = Path(mark)

    def __call__(self, pieces):
        if 5 in pieces["n"].to_pylist() and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return pieces


@schema.stage(reads=PIECE, writes=PIECE)
class Fail:
    def __call__(self, pieces):
        raise ArithmeticError(f"no way with {pieces['n'][0]}")


NUMBERS = pa.table({"n": [3, 0, 5, 1, 7]}, NUMBER)
STEPS = [Step(Split, (2,), batch=1), Step(DropOdd, (), batch=4, cpus=0.5)]


def rows(tables):
    return sorted((r["n"], r["part"], r["vector"][0]) for t in tables for r in t.to_pylist())


@pytest.fixture(scope="module", autouse=True)
def ray():
    yield
    flow.shut_down()


def test_rows_are_what_the_stages_say():
    assert rows(flow.run_here(STEPS, NUMBERS)) == [(n, part, 2.0 * n) for n in sorted([3, 5, 1, 7]) for part in range(0, n, 2)]


def test_batches_hold_the_same_rows_and_no_more_than_asked():
    tables = [pa.table({"n": list(range(start, start + size))}, NUMBER) for start, size in [(0, 3), (3, 0), (3, 10), (13, 1)]]
    made = list(flow.in_batches(tables, 4))
    assert [len(t) for t in made] == [4, 4, 4, 2]
    assert pa.concat_tables(made)["n"].to_pylist() == list(range(14))


def test_only_one_batch_is_decoded_ahead():
    pulled = []

    def source():
        for n in range(5):
            pulled.append(n)
            yield pa.table({"n": [n]})

    first = next(flow.in_batches(source(), 1))
    assert first["n"].to_pylist() == [0]
    assert pulled == [0]


@pytest.mark.processes
def test_the_same_rows_come_from_ray():
    assert rows(flow.run_on_ray(STEPS, NUMBERS)) == rows(flow.run_here(STEPS, NUMBERS))


@pytest.mark.processes
def test_a_step_that_loads_nothing_makes_the_same_rows_without_actors_of_its_own():
    steps = [replace(STEPS[0], loads=False, actors=(1, 4)), STEPS[1]]
    assert rows(flow.run_on_ray(steps, NUMBERS)) == rows(flow.run_here(STEPS, NUMBERS))


@pytest.mark.processes
def test_a_pool_of_a_given_size_makes_the_same_rows():
    assert rows(flow.run_on_ray(flow.pooled(STEPS, [2, 1]), NUMBERS)) == rows(flow.run_here(STEPS, NUMBERS))


@pytest.mark.processes
def test_an_actor_that_is_killed_costs_no_row_and_doubles_none(tmp_path):
    steps = [STEPS[0], Step(DieOnce, (str(tmp_path / "mark"),), batch=2, cpus=0.5)]
    assert rows(flow.run_on_ray(steps, NUMBERS)) == rows(flow.run_here(STEPS[:1], NUMBERS))
    assert (tmp_path / "mark").exists()


@pytest.mark.processes
def test_a_bug_in_a_stage_stops_the_run_with_its_own_words():
    with pytest.raises(ArithmeticError, match="no way with"):
        list(flow.run_on_ray([STEPS[0], Step(Fail, (), batch=1)], NUMBERS))
    with pytest.raises(ArithmeticError, match="no way with"):
        list(flow.run_on_ray([STEPS[0], Step(Fail, (), batch=1, loads=False)], NUMBERS))


BESIDE = """
from ray.cluster_utils import Cluster
started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
from engine import flow
flow.connect(1.0)
import ray
print(ray.get_runtime_context().gcs_address != started.address)
"""


@pytest.mark.slow
def test_a_cluster_that_happens_to_run_on_this_machine_is_left_alone():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with tempfile.TemporaryDirectory() as folder:  # where a cluster leaves its address, which every later one would be asked for
        environment["RAY_TMPDIR"] = folder
        told = subprocess.run([sys.executable, "-c", BESIDE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert told.stdout.strip().endswith("True"), told.stderr


@pytest.mark.processes
def test_what_cannot_be_scheduled_is_refused_before_it_waits_for_ever():
    flow.connect(1)
    with pytest.raises(RuntimeError, match=r"needs 10001 CPUs at once and the Ray cluster has"):
        list(flow.run_on_ray([Step(Split, (1,), batch=1, cpus=10000)], NUMBERS))


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ray://me:hunter2@127.0.0.1:9", "RAY_ADDRESS holds a user or a password"),
        ("http://me:hunter2@127.0.0.1:9", "RAY_ADDRESS holds a user or a password"),
        ("http://127.0.0.1:8265", "RAY_ADDRESS=http://127.0.0.1:8265 is a job server, which `submit` talks to; a job joins a cluster"),
    ],
)
def test_an_address_that_is_no_cluster_is_refused_before_ray_is_asked_and_repeats_no_password(monkeypatch, address, sentence):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ValueError, match=sentence) as told:
        flow.connect(1)
    assert "hunter2" not in str(told.value)


@pytest.mark.processes
def test_what_others_hold_of_a_cluster_is_waited_for_and_refused_when_it_takes_long():
    import ray

    gc.collect()  # a pool lives while the exception of its run does, and that of an earlier test may lie in a cycle
    flow.connect(3)
    steps = [Step(Split, (1,), batch=1, actors=(2, 2))]
    flow.await_pools(steps, 60)
    held = ray.remote(num_cpus=ray.cluster_resources()["CPU"] - 2.5)(Held).remote()
    ray.get(held.here.remote())
    with pytest.raises(flow.ClusterError, match=r"needs 3 CPUs and 0 GPUs at once, of which others hold too much"):
        flow.await_pools(steps, 2)
    ray.kill(held)
    flow.await_pools(steps, 60)


@schema.stage(reads=NUMBER, writes=PIECE)
class Loads(Split):
    """Built slowly, as from large weights."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        time.sleep(12)


def starve():
    """A pool that waits for a node and then loads: a flow in a thread beside, hence in a process of its own."""
    import ray

    flow.connect(3)
    assert flow.starved() == []
    held = ray.remote(num_cpus=ray.cluster_resources()["CPU"] - 1.5)(Held).remote()
    ray.get(held.here.remote())
    found, running = [], threading.Thread(target=lambda: found.extend(flow.run_on_ray([Step(Loads, (1,), batch=2, cpus=2)], NUMBERS)))
    running.start()
    assert until(lambda: flow.starved() == ["MapWorker(MapBatches(Loads))"], 90)
    ray.kill(held)
    assert until(lambda: not flow.starved(), 90)
    time.sleep(2)
    assert running.is_alive()
    assert flow.starved() == []
    running.join(90)
    assert sorted(pa.concat_tables(found)["n"].to_pylist()) == sorted(n for n in NUMBERS["n"].to_pylist() for _ in range(n))


@pytest.mark.slow
def test_a_pool_that_waits_for_a_node_is_told_and_one_that_is_being_built_is_not():
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    code = "from tests.test_flow import starve; starve()"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def until(ask, seconds):
    """The first answer that is one, or the last."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


class Held:
    def here(self):
        return True


def test_pools_at_their_widest_leave_one_processor():
    steps = [
        Step(Split, (), 1, cpus=1, actors=(1, 8)),
        Step(DropOdd, (), 1, cpus=0.5, actors=(1, 8)),
        Step(Fail, (), 1, cpus=2, actors=(1, 8)),
    ]
    for cpus in (4.5, 5, 8, 16, 64):
        sizes = flow.widest(steps, cpus)
        assert sum(size * step.cpus for size, step in zip(sizes, steps, strict=True)) + 1 <= cpus
        assert all(step.actors[0] <= size <= step.actors[1] for size, step in zip(sizes, steps, strict=True))
    assert flow.widest(steps, 64) == [8, 8, 8]


def test_a_table_that_breaks_the_contract_is_named():
    with pytest.raises(ValueError, match=r"into DropOdd: the columns \['part', 'vector'\] are missing"):
        list(flow.run_here(STEPS[1:], NUMBERS))
