"""The job pretrain on Ray Train, killed as a whole and started again: nothing stands in for its loop."""

import json
import signal
import subprocess
import sys
import time
from math import ceil
from pathlib import Path

import pyarrow as pa
import pytest

from engine import pictures, schema, tracking
from engine.knobs import amend
from engine.store import PatchStore
from jobs.recipes import tiny
from tests import rows

ROOT = Path(__file__).resolve().parent.parent
IMAGES, BATCH, EPOCHS = 23, 4, 3
STEPS = ceil(IMAGES / BATCH)  # of an epoch
KNOBS = [
    "selection.method=random",
    "selection.budget=0.5",
    f"pretrain.epochs={EPOCHS}",
    "pretrain.warmup_epochs=1",
    f"pretrain.batch={BATCH}",
    "pretrain.workers=2",
    "pretrain.checkpoint_steps=1",
]


WATCHED = ["transfer.wait=false", "transfer.patience=99", "transfer.images=6", "transfer.keep=true"]


def targets(folder):
    """The knob of a folder with target images, and how a training looks at them that neither waits for a score nor is ended by one."""
    (folder / "targets").mkdir()
    for number in range(6):
        (folder / "targets" / f"{number}.jpg").write_bytes(pictures.encode(rows.picture(100 + number), 95))
    return [f"transfer.uri={folder}/targets", *WATCHED]


def knobs(folder, where):
    return [f"where={where}", f"store.uri={folder}/{where}", *KNOBS]


def filled(folder, where, watched=()):
    """The configuration of a store with a selection of some pictures."""
    config = amend(tiny(), [*knobs(folder, where), *watched])
    store = PatchStore(config.store.uri)
    store.create(rows.WIDTH)
    one = {"selection_id": "s", "method": "random", "budget": 0.5, "retained": 0.4, "seed": 0, "patches_version": 1}
    chosen = [one | {"rank": 0, "patch_id": "p", "weight": 1.0, "bytes": 3, "unit": "bytes", "embedding": ""}]
    whole = {"patch_ids": ["a", "b"], "height": 32, "width": 40, "bytes": 3, "selection_id": "s", "layout": ""}
    images = [whole | {"image_id": f"i{p}", "position": p, "pixels": pictures.encode(rows.picture(p), 95)} for p in range(IMAGES)]
    store.save(pa.Table.from_pylist(chosen, schema.SELECTION), [pa.Table.from_pylist(images, schema.IMAGE)])
    return config


def started(folder, where, watched=()):
    command = [sys.executable, "-m", "jobs", "pretrain", "tiny", *knobs(folder, where), *watched]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def known(config):
    """The steps of the newest checkpoint that Ray Train would go on from; 0: there is none."""
    snapshots = list(Path(config.store.uri).glob("runs/pretrain-*/checkpoint_manager_snapshot.json"))
    found = [json.loads(one.read_text() or "{}") for one in snapshots]
    return max((int(each["checkpoint_dir_name"][5:]) for one in found for each in one.get("checkpoint_results", [])), default=0)


def points(config, metric):
    """What MLflow has of a metric of the one run that was begun, as it was sent: nothing is left out that is there twice."""
    (one,) = tracking.begun(config, "pretrain")
    history = tracking.connect(one["run"].uri).get_metric_history(one["run"].run_id, metric)
    return one["status"], [(point.step, point.value, point.timestamp) for point in history]


def killed_amid_an_epoch(config, driver):
    """The job and all that it began, once a checkpoint lies amid its second epoch or its third."""
    while known(config) <= STEPS or known(config) % STEPS in (0, STEPS - 1):
        assert driver.poll() is None, driver.stdout.read()
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two clusters one after the other, and a training beside
def test_the_whole_job_killed_amid_an_epoch_and_started_again_is_one_run_with_the_curve_of_an_undisturbed_one(tmp_path):
    config, whole = filled(tmp_path, "ray"), filled(tmp_path, "here")
    killed_amid_an_epoch(config, started(tmp_path, "ray"))
    _, before = points(config, "train/step_loss")
    assert STEPS < len(before) < EPOCHS * STEPS
    again = started(tmp_path, "ray")
    said = again.communicate()[0]
    assert again.returncode == 0, said
    assert "epoch 1 of 3" not in said  # it went on
    assert started(tmp_path, "here").wait() == 0
    status, of_steps = points(config, "train/step_loss")
    assert status == "FINISHED"
    assert of_steps[: len(before)] == before
    assert [step for step, _, _ in of_steps] == list(range(1, EPOCHS * STEPS + 1))  # each once
    assert [step for step, _, _ in points(config, "train/loss")[1]] == list(range(EPOCHS))
    for metric in ("train/step_loss", "train/loss"):
        found, expected = ({step: value for step, value, _ in points(one, metric)[1]} for one in (config, whole))
        print(metric, max(abs(found[step] / value - 1) for step, value in expected.items()))
        assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_watched_job_killed_amid_an_epoch_while_scores_were_under_way_has_every_look_once(tmp_path):
    """Scores come from Ray tasks beside the training, which does not wait for them: none is lost with the job that asked for it."""
    watched = targets(tmp_path)
    config, whole = filled(tmp_path, "ray", watched), filled(tmp_path, "here", watched)
    killed_amid_an_epoch(config, started(tmp_path, "ray", watched))
    again = started(tmp_path, "ray", watched)
    said = again.communicate()[0]
    assert again.returncode == 0, said
    assert "epoch 1 of 3" not in said  # it went on
    assert started(tmp_path, "here", watched).wait() == 0
    status, looks = points(config, "transfer/robustness")
    assert status == "FINISHED"
    assert sorted(step for step, _, _ in looks) == list(range(EPOCHS + 1))
    found, expected = ({step: value for step, value, _ in points(one, "transfer/robustness")[1]} for one in (config, whole))
    print(max(abs(found[step] - value) for step, value in expected.items()))
    assert found == pytest.approx(expected, abs=1e-3)
