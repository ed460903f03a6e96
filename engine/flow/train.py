"""A training loop on Ray Train: workers that die are replaced, and checkpoints are scored while the training goes on.

Scores lie as files beside the checkpoints: Ray Train keeps them with a checkpoint, and forgets both when it has two newer ones.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engine import files
from engine.flow.cluster import connect

Report = Callable[[dict[str, float], Path | None], None]  # metrics, their step among them, and the folder of a checkpoint on rank 0
Work = Callable[[Path | None, Report], None]  # the loop: the checkpoint to go on from, and where to report
Scores = dict[str, Any]  # that JSON has words for
log = logging.getLogger("jobs.train")
# What the same code raises every time of the same input. Not among them: OSError and RuntimeError, as which storage, memory and the
# silence of a worker that died come.
FOR_GOOD = ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError, TypeError, ValueError


@dataclass(frozen=True)
class Workers:
    """The processes of a training, and how often it is begun anew by itself when one of them dies."""

    most: int
    least: int = 0  # with which it goes on while there is no room for more; 0: all are needed
    gpu: bool = False  # one each
    max_failures: int = 3  # a killed worker is expected on spot nodes


@dataclass(frozen=True)
class Validate:
    """How the folder of a checkpoint is scored, by a task of its own, of which it is, and what that task takes.

    One runs at a time, in their order, and a training has not ended before the last: those that nobody wants would be in the way.
    """

    score: Callable[[Path], Scores]
    due: Callable[[int], bool]  # of the checkpoint after so many steps
    cpus: float = 1.0
    gpus: float = 0.0


def train_on_ray(work: Work, workers: Workers, storage: str, name: str, validate: Validate | None = None) -> Path:
    """Run a training loop on processes of Ray Train; returns the folder of the last checkpoint, once all are scored.

    Where fewer workers than the most suffice there are as many as find room: when a node comes or goes, all begin anew from the last
    checkpoint, in another number. A worker that dies is replaced, and all go on from the last checkpoint, or where that is damaged from
    the one before; the same `name` in the same `storage` goes on where an earlier run stopped. A loop that fails for good raises what its
    worker raised, at once where it would raise it every time; RuntimeError where workers died more often than `max_failures`.
    """
    run, least, gpu = f"{storage}/{name}", workers.least or workers.most, workers.gpu
    beside = (validate.cpus, validate.gpus) if validate else (0.0, 0.0)
    connect(least + 1 + beside[0], (least if gpu else 0) + beside[1])
    from ray.exceptions import OutOfMemoryError
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError, ValidationConfig
    from ray.train.torch import TorchTrainer

    taken = dict(zip(("num_cpus", "num_gpus"), beside, strict=True))
    trainer = TorchTrainer(
        partial(on_worker, work, validate.due if validate else None),
        scaling_config=ScalingConfig(num_workers=(least, workers.most) if workers.least else workers.most, use_gpu=gpu),
        run_config=RunConfig(
            name=name,
            storage_path=storage,
            failure_config=FailureConfig(max_failures=workers.max_failures),
            callbacks=[once()],
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="WARNING"),  # else every report of every worker is a line of the driver's log
        ),
        validation_config=ValidationConfig(partial(validated, validate.score, run), ray_remote_kwargs=taken) if validate else None,
    )
    forget_failures(run)
    try:
        result = trainer.fit()
    except (TrainingFailedError, OutOfMemoryError) as error:  # the latter where what was killed is Ray Train's own controller
        raise cause(error, name) from error
    if result.checkpoint is None:
        raise RuntimeError(f"the training run {name} ended without a checkpoint")
    return Path(result.checkpoint.path)


def once() -> Any:
    """What keeps Ray Train from trying again what fails every time: its FailureConfig counts all that workers raise.

    An exception of a callback ends a run, whatever may be tried again; `cause` finds it.
    """
    import ray.train

    class Once(ray.train.UserCallback):  # type: ignore[misc]
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for raised in worker_exceptions.values():
                if isinstance(raised, FOR_GOOD):
                    raise raised

    return Once()


def cause(error: Any, name: str) -> BaseException:
    """What a worker raised itself, rather than what the others say of its silence; RuntimeError, in a sentence, where none did.

    That says memory where Ray killed one for it.
    """
    from ray.exceptions import OutOfMemoryError

    failures = list(getattr(error, "worker_failures", {}).values()) or [getattr(error, "controller_failure", error)]
    first: BaseException = min(failures, key=lambda failure: isinstance(failure, RuntimeError))  # which is how torch tells of silence
    if first is not error and type(first).__module__.partition(".")[0] != "ray":  # whose own errors tell of workers that are gone
        return first
    deaths = [getattr(failure, "health_check_failure", failure) for failure in failures]  # what it says beside is where a worker was
    lost, why = "lost its workers too often", getattr(first, "health_check_failure", first)
    if killed := [death for death in deaths if isinstance(death, OutOfMemoryError)]:
        why, remedy = killed[0], "lower the batch, take a smaller model or fewer workers on a node, or nodes with more memory"
        lost = f"lost a process because its node had no memory left: {remedy}"
    told = " ".join(str(why).split())[:300]
    return RuntimeError(f"the training run {name} {lost}; the same command goes on from the last checkpoint: {told}")


def on_worker(work: Work, due: Callable[[int], bool] | None) -> None:
    """The work of one worker of Ray Train, from its newest whole checkpoint on; damaged ones are passed over.

    ValueError where all are damaged.
    """
    import ray.train

    from engine.weights import DamagedError  # not before: it loads torch, and jobs that train nothing come here too

    logging.getLogger("ray.train").setLevel(logging.WARNING)  # else every report is told twice

    damaged = list[str]()

    def report(metrics: dict[str, float], folder: Path | None) -> None:
        saved, step = ray.train.Checkpoint.from_directory(str(folder)) if folder else None, int(metrics["step"])
        place, scored = f"step-{step:09d}", saved is not None and due is not None and due(step)
        while place in damaged:
            place += "+"  # Ray Train would take it for the one that it has, and delete both
        ray.train.report(metrics, checkpoint=saved, checkpoint_dir_name=place, validation=scored)

    started = ray.train.get_checkpoint()
    if started is None:
        return work(None, report)
    for place in places(started):
        with tempfile.TemporaryDirectory() as folder:
            try:
                return work(Path(ray.train.Checkpoint(place, started.filesystem).to_directory(folder)), report)
            except DamagedError as error:  # all workers raise it, or none
                log.warning("%s: %s; going on from the one before", place, error)
                damaged.append(place.rpartition("/")[2])
    raise ValueError(f"every checkpoint beside {started.path} is damaged: delete the folder that they are in to begin anew")


def places(newest: Any) -> list[str]:
    """Where a checkpoint of Ray Train and those from before it lie, newest first."""
    from pyarrow.fs import FileSelector

    folder, _, name = newest.path.rstrip("/").rpartition("/")
    found = (one.base_name for one in newest.filesystem.get_file_info(FileSelector(folder)))
    return [f"{folder}/{one}" for one in sorted(found, reverse=True) if one.startswith("step-") and one <= name]


# -- scores ---------------------------------------------------------------------------------------------------------------------


def scored(run: str) -> dict[int, Scores]:
    """What the checkpoints of a run (`storage`/`name`) came to so far, by step; RuntimeError with what a scoring raised."""
    found = kept_scores(run)
    for step, one in found.items():
        if "failed" in one:
            raise RuntimeError(f"the checkpoint of step {step} could not be scored: {one['failed']}")
    return {step: one["scores"] for step, one in found.items() if "scores" in one}


def unscored(run: str) -> dict[int, str]:
    """Which checkpoints of a run, by step, have no score and will get none, and why."""
    return {step: one["given_up"] for step, one in kept_scores(run).items() if "given_up" in one}


def kept_scores(run: str) -> dict[int, dict[str, Any]]:
    """What is kept of every scoring that ended, by step: its "scores", that it "failed", or, of an earlier start, was "given_up"."""
    fs, root = files.locate(f"{run}/scores")
    fs.invalidate_cache()
    return {int(Path(path).stem): json.loads(fs.cat_file(path)) for path in sorted(fs.glob(f"{root}/*.json"))}


def keep(run: str, step: int, told: dict[str, Any]) -> None:
    """Keep what came of the scoring of a checkpoint, in place of what was there."""
    files.put(json.dumps(told).encode(), f"{run}/scores/{step:09}.json")


def validated(score: Callable[[Path], Scores], run: str, checkpoint: Any) -> Scores:
    """Score a checkpoint of Ray Train and keep what it came to."""
    with tempfile.TemporaryDirectory() as folder:
        return keep_scores(score, Path(checkpoint.to_directory(folder)), run, int(checkpoint.path.rpartition("-")[2].rstrip("+")))


def keep_scores(score: Callable[[Path], Scores], folder: Path, run: str, step: int) -> Scores:
    """Score the checkpoint in a folder and keep what it came to where `scored` looks: also what it raised, which Ray only logs."""
    told: dict[str, Any] = {}
    try:
        told["scores"] = score(folder)
    finally:
        if error := sys.exc_info()[1]:
            told["failed"] = repr(error)
        keep(run, step, told)
    return dict(told["scores"])


def forget_failures(run: str) -> None:
    """Let a run that is started again after its scoring was mended go on: the checkpoints that failed then are `unscored`.

    Ray Train (2.60) scores anew only those whose scoring had not ended; one that failed it never tries again.
    """
    for step, told in kept_scores(run).items():
        if "failed" in told:
            keep(run, step, {"given_up": f"its scoring failed before this start: {told['failed']}"})
