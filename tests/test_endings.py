"""Where a watched training ends: with `transfer.wait` at the same epoch here, on Ray, and wherever it was killed."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine import flow, pretrain
from engine.knobs import amend
from engine.monitor import Looker
from engine.transfer import Readings
from jobs import looks, training
from jobs.kept import Kept
from jobs.recipes import tiny
from tests import test_looks
from tests.test_looks import config_of, pretrained
from tests.test_pretrain import CONFIG, Stripes

targets = test_looks.targets
LAST, STEPS = 7, 2  # epochs of a training, and its steps in each


def beside(folder, patience, *knobs):
    """A look at tasks, which wait for nothing that does not come."""
    listed = ",".join(map(str, range(1, LAST + 1)))
    told = ["where=here", f"store.uri={folder}", "transfer.uri=/targets", f"transfer.looks={listed}", "transfer.wait=true", *knobs]
    config = amend(tiny(), [*told, f"transfer.patience={patience}", f"pretrain.epochs={LAST}", "pretrain.warmup_epochs=1"])
    return looks.Tasks(config, f"{folder}/run", STEPS, looks.Wait(asked=0.01, told=5.0, most=10.0))


def ended(look, curve, begin=0, until=LAST, states=None):
    """After how many epochs a training ends that is asked as the loop asks; on Ray the report of a checkpoint begins its scoring."""
    for epoch in range(begin, until + 1):
        if states is not None:
            states[epoch] = look.state_dict()
        if isinstance(look, looks.Tasks) and epoch > begin:
            flow.train.keep(look.run, STEPS * epoch, {"scores": {"scores": {"robustness": curve[epoch - 1]}, "gaps": {}, "seconds": 1.0}})
        encoder = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(encoder.weight, epoch)
        if look(epoch, encoder):
            return epoch
    return None


CURVES = st.lists(st.integers(0, 9).map(lambda tenths: tenths / 10), min_size=LAST, max_size=LAST)


@settings(deadline=None, max_examples=30)
@example([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 2, 2, 0)
@given(CURVES, st.integers(1, 3), st.integers(1, LAST), st.integers(0, 1))
def test_a_training_ends_at_the_same_epoch_here_on_ray_and_wherever_it_was_killed(curve, patience, kill, back) -> None:
    """Killed after the look at an epoch, when its score is there; it goes on from that checkpoint or from the one before."""
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        whole = beside(one, patience)
        here = Looker(whole.monitor.config, lambda model: Readings({"robustness": curve[round(model.weight.item()) - 1]}, {}), last=LAST)
        expected = ended(here, curve)
        assert ended(whole, curve) == expected
        states = {}
        if ended(beside(other, patience), curve, until=kill, states=states) is None:
            resumed = beside(other, patience)
            resumed.load_state_dict(states[max(0, kill - back)])
            assert ended(resumed, curve, max(0, kill - back)) == expected


@pytest.mark.parametrize("kill", [1, 2, 3])
def test_the_loop_itself_ends_there_too(tmp_path, kill) -> None:
    """Robustness grows from the first epoch on, so the second look after it in vain is that of three epochs."""
    recipe = CONFIG.model_copy(update={"epochs": LAST, "batch": 5})  # ten images

    def trained(look, resume=None):
        epochs = []

        def report(metrics, made):
            epochs.extend([metrics["epoch"] + 1] * ("loss" in metrics))
            if made:
                shutil.copytree(made, tmp_path / str(metrics["step"]), dirs_exist_ok=True)
                left = {"scores": {"robustness": metrics["step"] / 100}, "gaps": {}, "seconds": 1.0}
                flow.train.keep(f"{tmp_path}/run", metrics["step"], {"scores": left})

        pretrain.fit(Stripes(), 10, recipe, resume=resume, report=report, look=look)
        return epochs

    whole, scored = beside(tmp_path, 2), iter(range(LAST))
    here = Looker(whole.monitor.config, lambda _: Readings({"robustness": float(next(scored))}, {}), last=LAST)
    assert trained(here) == [1, 2, 3]
    shutil.rmtree(tmp_path / "run")
    assert trained(whole) == [1, 2, 3]
    for path in sorted((tmp_path / "run/scores").glob("*.json"))[kill:]:
        path.unlink()
    assert trained(beside(tmp_path, 2), tmp_path / str(STEPS * kill)) == [1, 2, 3][kill:]


def test_scores_of_models_that_are_yet_to_be_trained_once_more_end_nothing(tmp_path) -> None:
    """As where the newest checkpoints are damaged, and a training goes on from one of long before."""
    ended(beside(tmp_path, 99), curve := [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert ended(beside(tmp_path, 2, "transfer.wait=false"), curve, begin=1) == 3


class Marked(Stripes):
    """Leaves the id of the process that reads it."""

    def __init__(self, file):
        self.file = file

    def __call__(self, positions):
        self.file.write_text(str(os.getpid()))
        return super().__call__(positions)


def strike(pid, scores, died):
    """Kill the worker as soon as the scores of two and of three epochs are there."""
    for score in scores:
        while not score.exists():
            time.sleep(0.005)
        struck = int(pid.read_text())
        os.kill(struck, signal.SIGKILL)
        died.append(struck)
        while score is not scores[-1] and int(pid.read_text()) == struck:
            time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [False, True])
def test_on_ray_a_training_whose_worker_is_killed_ends_where_one_in_this_process_does(tmp_path, targets, killed):
    told = ["transfer.patience=1", "transfer.score=vote"]
    made = config_of(tmp_path / "here", targets, *told)
    here = pretrained(made)
    there, died = config_of(tmp_path / "ray", targets, "where=ray", *told), []
    run = f"{training.runs(there)}/one"
    steps = [Path(f"{run}/scores/{3 * epoch:09}.json") for epoch in (2, 3)]  # ten images by four
    if killed:
        threading.Thread(target=strike, args=(tmp_path / "pid", steps, died), daemon=True).start()
    ray = pretrained(there, run=run, read=Marked(tmp_path / "pid"))
    flow.shut_down()
    assert len(set(died)) == 2 * killed
    stopped = here["run"].curve("train/stopped")
    assert len(stopped) == 1
    assert ray["run"].curve("train/stopped") == stopped
    assert dict(ray["run"].curve("train/loss")) == pytest.approx(dict(here["run"].curve("train/loss")), rel=1e-3)
    assert Kept(there, "one").export() == Kept(made, "one").export()
