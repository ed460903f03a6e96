"""Ray Train with loops that need no model: real processes, really killed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from engine import flow, tracking
from engine.flow import Validate
from engine.knobs import amend
from jobs.recipes import tiny

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 6


@pytest.fixture(scope="module", autouse=True)
def ray():
    yield
    flow.shut_down()


def undisturbed():
    """The losses of a loop in which every epoch changes all that follow."""
    losses = [0.3]
    for _ in range(EPOCHS - 1):
        losses.append(3.9 * losses[-1] * (1 - losses[-1]))
    return losses


def work(resume, report, strike=lambda epoch: None, told=lambda epoch, loss: None):
    """The same loop, with all its losses in the checkpoint; `strike` comes in the middle of an epoch."""
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    losses = json.loads((resume / "losses.json").read_text()) if resume else []
    for epoch in range(len(losses), EPOCHS):
        losses.append(3.9 * losses[-1] * (1 - losses[-1]) if losses else 0.3)
        if rank == 0:
            told(epoch, losses[-1])
        strike(epoch)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "losses.json").write_text(json.dumps(losses))
            report({"epoch": epoch, "step": epoch}, Path(folder) if rank == 0 else None)


def kill(mark, victim, at, epoch):
    """Kill the worker of this rank, once, when epoch `at` - 1 is one that Ray Train would go on from."""
    import ray.train

    if epoch != at or ray.train.get_context().get_world_rank() != victim or mark.exists():
        return
    while not goes_on_from(mark.parent / "runs/run", at - 1):
        time.sleep(0.05)
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)


def goes_on_from(run, epoch):
    """Whether Ray Train knows this checkpoint; a report that has returned is not yet one of which it does."""
    snapshot = run / "checkpoint_manager_snapshot.json"
    return snapshot.exists() and f"step-{epoch:09}" in snapshot.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_killed_in_mid_epoch_is_replaced_and_the_curve_is_that_of_an_undisturbed_run(tmp_path, victim):
    struck = partial(work, strike=partial(kill, tmp_path / "mark", victim, 2), told=partial(append, tmp_path / "told"))
    last = flow.train_on_ray(struck, flow.Workers(2), str(tmp_path / "runs"), "run")
    assert json.loads((last / "losses.json").read_text()) == undisturbed()
    epochs = [int(line) for line in (tmp_path / "told").read_text().split()]
    assert epochs == [0, 1, 2, *range(2, EPOCHS)]  # it went on from the newest checkpoint
    assert flow.train_on_ray(struck, flow.Workers(2), str(tmp_path / "runs"), "run") == last


def append(path, epoch, loss):
    with path.open("a") as file:
        file.write(f"{epoch}\n")


def fail(folder, epoch):
    import ray.train

    append(folder / f"failed-{ray.train.get_context().get_world_rank()}", epoch, 0.0)
    if ray.train.get_context().get_world_rank() == 1:
        raise ArithmeticError(f"no way with {epoch}")


def die(epoch):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_bug_of_any_worker_is_told_in_its_own_words_and_not_tried_again(tmp_path):
    with pytest.raises(ArithmeticError, match="no way with 0"):
        flow.train_on_ray(partial(work, strike=partial(fail, tmp_path)), flow.Workers(2), str(tmp_path), "bug")
    assert (tmp_path / "failed-1").read_text().split() == ["0"]


def stumble(folder, epoch):
    """What may pass is tried again: the storage is away for the first two times."""
    if epoch == 1:
        append(folder / "tries", epoch, 0.0)
        if (folder / "tries").read_text().count("1") < 3:
            raise OSError("the storage is away")


@pytest.mark.slow
def test_what_may_pass_is_tried_again(tmp_path):
    last = flow.train_on_ray(partial(work, strike=partial(stumble, tmp_path)), flow.Workers(1), str(tmp_path), "away")
    assert json.loads((last / "losses.json").read_text()) == undisturbed()


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_told_in_a_sentence(tmp_path):
    with pytest.raises(RuntimeError, match="the training run dead lost its workers too often; the same command goes on"):
        flow.train_on_ray(partial(work, strike=die), flow.Workers(1), str(tmp_path), "dead")


KILLED = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.7, ID: d444c1) was 6.96GB used
OOM kill reason: ..."""  # as Ray 2.60 says it


@pytest.mark.parametrize("silent", [False, True])
def test_a_worker_that_ray_killed_for_its_memory_is_told_as_such(silent):
    """As Ray Train 2.60 raises it: what is known stands behind a page of where the worker was; others only say that it fell silent."""
    from ray.exceptions import ActorDiedError, OutOfMemoryError
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    where = "A worker health check failed.\nWorker info: " + "metadata=ActorMetadata(hostname='vm'), " * 20
    others = [RuntimeError("[gloo] Connection closed by peer"), WorkerHealthCheckFailedError(where, ActorDiedError())] * silent
    failures = dict(enumerate([*others, WorkerHealthCheckFailedError(where, OutOfMemoryError(KILLED))]))
    said = str(flow.train.cause(WorkerGroupError("...", failures), "big"))
    assert "the training run big lost a process because its node had no memory left: lower the batch" in said
    assert said.partition(" checkpoint: ")[2].startswith(
        "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP"
    )
    del failures[len(failures) - 1]
    if failures:
        other = str(flow.train.cause(WorkerGroupError("...", failures), "big"))
        assert "lost its workers too often; the same command" in other
        assert other.endswith("The actor died unexpectedly before finishing this task.")


STARVED = """
import sys
from engine import flow

def work(resume, report):
    raise AssertionError("nothing is trained")

try:
    flow.train_on_ray(work, flow.Workers(1, max_failures=0), sys.argv[1], "run")
except RuntimeError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_training_whose_own_controller_ray_kills_for_memory_ends_in_that_sentence(tmp_path):
    """Ray kills for memory as soon as a node has more in use than it is told that it may; here that is almost none."""
    (tmp_path / "starved.py").write_text(STARVED)
    least = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100", "RAY_task_oom_retries": "0"}
    command = [sys.executable, str(tmp_path / "starved.py"), str(tmp_path / "runs")]
    done = subprocess.run(
        command, env=os.environ | least | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert "the training run run lost a process because its node had no memory left: lower the batch" in done.stdout, done.stderr[-2000:]


def die_once(mark, epoch):
    if epoch == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_training_that_may_not_fail_ends_with_the_first_worker_that_dies(tmp_path):
    struck = partial(work, strike=partial(die_once, tmp_path / "mark"))
    with pytest.raises(RuntimeError, match="lost its workers too often; the same command goes on"):
        flow.train_on_ray(struck, flow.Workers(1, max_failures=0), str(tmp_path), "once")
    last = flow.train_on_ray(struck, flow.Workers(1, max_failures=0), str(tmp_path), "once")
    assert json.loads((last / "losses.json").read_text()) == undisturbed()


def stop(folder, epoch):
    if epoch == 4 and not (folder / "stopped").exists():
        (folder / "stopped").touch()
        raise ValueError("enough for now")


def checked(resume, report, strike, told):
    from engine.weights import DamagedError

    try:
        work(resume, report, strike, told)
    except json.JSONDecodeError as error:
        raise DamagedError("the losses cannot be read") from error


@pytest.mark.slow
def test_workers_go_on_from_the_checkpoint_before_one_that_is_damaged_and_say_so_where_all_are(tmp_path):
    struck = partial(checked, strike=partial(stop, tmp_path), told=partial(append, tmp_path / "told"))
    with pytest.raises(ValueError, match="enough for now"):
        flow.train_on_ray(struck, flow.Workers(2), str(tmp_path), "run")
    saved = sorted((tmp_path / "run").glob("step-*/losses.json"))
    assert len(saved) == 2  # as many as Ray Train keeps
    saved[-1].write_bytes(b"rust")
    last = flow.train_on_ray(struck, flow.Workers(2), str(tmp_path), "run")
    assert json.loads((last / "losses.json").read_text()) == undisturbed()
    again = int(saved[-1].parent.name[5:])
    assert (tmp_path / "told").read_text().split()[5:] == [str(epoch) for epoch in range(again, EPOCHS)]
    for path in (tmp_path / "run").glob("step-*/losses.json"):
        path.write_bytes(b"rust")
    with pytest.raises(ValueError, match=r"every checkpoint beside .* is damaged: delete the folder"):
        flow.train_on_ray(struck, flow.Workers(2), str(tmp_path), "run")


def slowly(runs, folder):
    """The score of the last epoch but one is not there before the last epoch has begun."""
    losses = json.loads((folder / "losses.json").read_text())
    while len(losses) == EPOCHS - 1 and not Path(runs).with_name(f"known-{EPOCHS - 1}").exists():
        time.sleep(0.05)
    return {"robustness": losses[-1]}


def wanted(step):
    """Of which checkpoints there is to be a score."""
    return step != 1


def note_scores(runs, epoch, loss):
    """Wait for the score of the first epoch in the third; what is known goes into a file."""
    while epoch == 3 and not flow.scored(runs):
        time.sleep(0.05)
    Path(runs).with_name(f"known-{epoch}").write_text(json.dumps(flow.scored(runs)))


@pytest.mark.slow
def test_scores_arrive_while_the_training_goes_on_and_all_are_there_at_its_end(tmp_path):
    runs = str(tmp_path / "runs")
    told = partial(note_scores, f"{runs}/run")
    flow.train_on_ray(partial(work, told=told), flow.Workers(1), runs, "run", validate=Validate(partial(slowly, f"{runs}/run"), wanted))
    assert flow.scored(f"{runs}/run") == {epoch: {"robustness": loss} for epoch, loss in enumerate(undisturbed()) if wanted(epoch)}
    known = [len(json.loads((tmp_path / f"runs/known-{epoch}").read_text())) for epoch in range(EPOCHS)]
    assert known[0] == 0 < known[3] <= known[4] <= known[5] < EPOCHS - 1


def last_loss(folder):
    return {"robustness": json.loads((folder / "losses.json").read_text())[-1]}


def not_today(folder):
    raise ArithmeticError("no way to score")


@pytest.mark.slow
def test_a_scoring_that_fails_is_told_to_the_loop_and_forgotten_when_the_run_is_started_again(tmp_path):
    runs = str(tmp_path / "runs")
    told = partial(note_scores, f"{runs}/run")
    with pytest.raises(RuntimeError, match=r"the checkpoint of step \d could not be scored: ArithmeticError\('no way to score'\)"):
        flow.train_on_ray(partial(work, told=told), flow.Workers(1), runs, "run", validate=Validate(not_today, wanted))
    flow.train_on_ray(work, flow.Workers(1), runs, "run", validate=Validate(last_loss, wanted))
    assert EPOCHS - 1 in flow.scored(f"{runs}/run")


def tell(run, epoch, loss):
    run.log({"loss": loss}, epoch)
    time.sleep(0.5)


DRIVER = """
import sys
from functools import partial
from engine import flow, tracking
from tests.test_flow_train import knobs, tell, work
with tracking.running(knobs(sys.argv[1]), "pretrain", "k", {}) as run:
    flow.train_on_ray(partial(work, told=partial(tell, run)), flow.Workers(1), sys.argv[1] + "/runs", "run")
"""


def knobs(folder):
    return amend(tiny(), [f"store.uri={folder}/store"])


@pytest.mark.slow
def test_a_driver_that_is_killed_and_started_again_ends_in_one_run_with_every_step_once(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT)
    while not goes_on_from(tmp_path / "runs/run", 1):
        assert driver.poll() is None
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    assert subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT, check=False).returncode == 0
    (found,) = tracking.begun(knobs(tmp_path), "pretrain")
    assert found["status"] == "FINISHED"
    points = tracking.connect(found["run"].uri).get_metric_history(found["run"].run_id, "loss")
    assert [(point.step, point.value) for point in points] == list(enumerate(undisturbed()))


def wait_for_more(told, epoch):
    """Note how many workers there are, and let two of them not come further than the third epoch."""
    import ray.train

    context = ray.train.get_context()
    if context.get_world_rank() == 0:
        append(told, context.get_world_size(), 0.0)
    while epoch == 2 and context.get_world_size() == 2:
        time.sleep(0.1)


GROWS = """
import os, sys, threading, time
from functools import partial
from pathlib import Path
from ray.cluster_utils import Cluster
from tests.test_flow_train import goes_on_from, wait_for_more, work
from engine import flow
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
os.environ["RAY_ADDRESS"], folder = cluster.address, Path(sys.argv[1])
flow.connect(2)
loop = partial(work, strike=partial(wait_for_more, folder / "sizes"))
training = threading.Thread(target=flow.train_on_ray, args=(loop, flow.Workers(3, least=1), str(folder / "runs"), "run"))
training.start()
while not goes_on_from(folder / "runs/run", 1):
    time.sleep(0.1)
cluster.add_node(num_cpus=1)  # from the main thread, or Ray refuses
training.join()
"""


@pytest.mark.slow
def test_a_training_takes_the_workers_that_there_are_and_those_of_a_node_that_comes_later(tmp_path):
    with tempfile.TemporaryDirectory() as folder:  # where a cluster leaves its address, which every later one would be asked for
        environment = os.environ | {"RAY_TMPDIR": folder}
        ended = subprocess.run([sys.executable, "-c", GROWS, str(tmp_path)], cwd=ROOT, env=environment, check=False)
    assert ended.returncode == 0
    assert (tmp_path / "sizes").read_text().split() == ["2"] * 3 + ["3"] * (EPOCHS - 2)
    (last,) = (tmp_path / "runs/run").glob(f"step-{EPOCHS - 1:09}/losses.json")
    assert json.loads(last.read_text()) == undisturbed()
