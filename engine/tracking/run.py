"""A run that is written to, whether its server answers or not.

What a server cannot take waits as files, one an entry, in a folder that the processes of a job share; the files' names tell the order.
An entry keeps the time at which it was made, so that MLflow knows one that it is sent twice.
"""

import base64
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

from engine import files
from engine.tracking.faults import amid_a_run, is_wrong, reason, refused, troubles

log = logging.getLogger("jobs.tracking")
Entry = dict[str, Any]
Point = tuple[str, float, int]  # metric, value, step
AT_ONCE = 1000  # metrics in a call: MLflow takes no more
PATIENCE = 20  # times as long as it was waited for in vain, a server is left alone: it costs a training a twentieth of its time at most
USUAL = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # one bar a file
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 14 s; with the default of 7 nobody knows for minutes that it is gone
}
BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}  # seconds, of each of the two times


@dataclass(frozen=True)
class Run:
    """A run by its address and id, and the folder in which what is not yet sent waits: small enough to hand to a worker.

    Where the server is lost, writing goes on, and what is written is sent later, in order. What it refuses is an error at once.
    """

    uri: str
    run_id: str
    folder: str

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return Run, (self.uri, self.run_id, self.folder)  # not the post: another process may have sent something by then

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log a step once: what a restarted loop repeats is not logged again."""
        self.post.send({"metrics": {name: float(value) for name, value in metrics.items()}, "step": step})

    def log_curve(self, metric: str, points: Mapping[int, float]) -> None:
        """Log many steps of one metric in as few calls as there can be, each step once."""
        if points:
            self.post.send({"curve": metric, "points": sorted(points.items())})

    def note(self, tags: Mapping[str, Any]) -> None:
        """Tags, in place of those of the same names."""
        self.post.send({"tags": {name: str(value) for name, value in tags.items()}})

    def keep(self, name: str, content: bytes) -> None:
        """Store an artifact under `name`, which may have folders."""
        self.post.send({"artifact": name, "content": base64.b64encode(content).decode()})

    def end(self, status: str) -> None:
        """Give the run its status; what is still unsent is told, and what has no place to wait in, as on a full disk."""
        why = "its store is away, and nothing is made in its place"
        try:
            self.post.send({"status": status}, now=True)
        except OSError as error:
            why = f"there is no writing where they would wait: {error.strerror or error}"
        if held := len(self.post.held):
            log.warning("%d entries of the run %s are lost: %s", held, self.run_id, why)
        if waiting := self.post.waiting():
            log.warning(
                "tracking.uri=%r is out of reach: %d entries of the run %s wait in %s, and the next job that reaches it sends them",
                *(self.uri, len(waiting), self.run_id, self.folder),
            )

    def kept(self, name: str) -> bytes:
        """An artifact of `keep`; LookupError where there is none."""
        from mlflow.exceptions import MlflowException

        with TemporaryDirectory() as folder:
            try:
                return Path(connect(self.uri).download_artifacts(self.run_id, name, folder)).read_bytes()
            except (MlflowException, OSError) as error:
                raise LookupError(f"the MLflow run {self.run_id} keeps no {name}") from error

    def erase(self, name: str) -> int:
        """Remove the artifacts under a folder `name`, those too that still wait to be sent; how many there were. OSError where it fails."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            client = connect(self.uri)
            found = client.list_artifacts(self.run_id, name)
            if found:
                get_artifact_repository(client.get_run(self.run_id).info.artifact_uri).delete_artifacts(name)
        except troubles() as error:
            raise OSError(f"the pictures of the MLflow run {self.run_id} could not be removed: {error}") from error
        return len(found) + self.post.withdraw(name)

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) in order of steps."""
        points = connect(self.uri).get_metric_history(self.run_id, metric)
        return sorted({point.step: point.value for point in points}.items())

    def latest(self) -> dict[str, float]:
        """The last value of every metric; none where the server is lost."""
        try:
            return dict(connect(self.uri).get_run(self.run_id).data.metrics)
        except troubles() as error:
            if refused(error):
                raise
            return {}

    @cached_property
    def post(self) -> "Post":
        """This process's way to the server, made when it is first needed."""
        return Post(self)


class Post:
    """One process's way to the server of a run: what waits goes first, and a step that is there is left out."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.steps: dict[str, set[int]] = {}  # of each metric, those that the server has
        self.all_sent = False  # as far as is known: another process may have left something
        self.next_try = 0.0
        self.held: list[Entry] = []  # that wait in memory, while the store is away in which they would

    def send(self, entry: Entry, now: bool = False) -> None:
        """Bring the entry to the server, or put it with those that wait; `now`: ask for the server however recently it was away."""
        self.held.append(entry | {"time": time.time_ns() // 10**6})
        if (now or time.monotonic() >= self.next_try) and self.reached(self.deliver_held):
            return
        while self.held and not is_away(self.run.folder):
            name = f"{time.time_ns():020}-{os.getpid()}.json"
            files.put(json.dumps(self.held[0]).encode(), f"{self.run.folder}/{name}")
            self.held.pop(0)
            self.all_sent = False

    def deliver_held(self) -> None:
        """Send what this process holds, in order; what the server refuses for good is let go of, and raised."""
        while self.held:
            try:
                self.deliver(self.held[0])
            except amid_a_run() as error:
                if is_wrong(error):
                    self.held.pop(0)  # its sender hears of it now, and nobody again
                raise
            self.held.pop(0)

    def withdraw(self, name: str) -> int:
        """Throw away the artifacts under a folder `name` that wait; how many there were."""
        gone = 0
        for path in self.waiting():
            fs, place = files.locate(path)
            if str(json.loads(fs.cat_file(place)).get("artifact", "")).startswith(f"{name}/"):
                fs.rm_file(place)
                gone += 1
        return gone

    def reached(self, deliver: Callable[[], None]) -> bool:
        """Send what waits, then deliver; False where the server is lost. A FileNotFoundError inside counts as lost."""
        began = time.monotonic()
        try:
            if is_missing(self.run.uri):
                raise FileNotFoundError("the file of MLflow is not there")
            if not self.all_sent:
                self.send_waiting()
            deliver()
        except amid_a_run() as error:
            if is_wrong(error):
                raise
            if not self.next_try:
                log.warning("tracking.uri=%r is lost, the job goes on: %s", self.run.uri, shorten(reason(error), 200, placeholder=" ..."))
            self.next_try = time.monotonic() + PATIENCE * (time.monotonic() - began)
            return False
        self.next_try = 0.0
        return True

    def send_waiting(self) -> None:
        """Send what waits in the folder, in order, also what other processes left."""
        for path in self.waiting():
            with suppress(FileNotFoundError):  # another process sent it in this moment
                fs, place = files.locate(path)
                self.deliver(json.loads(fs.cat_file(place)))
                fs.rm_file(place)
        self.all_sent = True

    def waiting(self) -> list[str]:
        """The addresses of the entries that are not sent, oldest first."""
        fs, root = files.locate(self.run.folder)
        fs.invalidate_cache()
        return [files.address(fs, path) for path in sorted(fs.glob(f"{root}/*.json"))]

    def deliver(self, entry: Entry) -> None:
        """Send one entry, whichever of the five kinds it is."""
        client, run_id = connect(self.run.uri), self.run.run_id
        if "metrics" in entry:
            self.deliver_metrics(client, [(name, value, entry["step"]) for name, value in entry["metrics"].items()], entry["time"])
        elif "curve" in entry:
            self.deliver_metrics(client, [(entry["curve"], value, step) for step, value in entry["points"]], entry["time"])
        elif "tags" in entry:
            from mlflow.entities import RunTag

            client.log_batch(run_id, tags=[RunTag(name, value) for name, value in entry["tags"].items()])
        elif "status" in entry:
            client.set_terminated(run_id, entry["status"], end_time=entry["time"])
        else:
            with TemporaryDirectory() as folder:
                path = Path(folder, entry["artifact"])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(entry["content"]))
                client.log_artifacts(run_id, folder)

    def deliver_metrics(self, client: Any, points: list[Point], time: int) -> None:
        """Those that are of no step which the server has; the history of a metric is asked for once."""
        from mlflow.entities import Metric

        run_id = self.run.run_id
        for name in {name for name, _, _ in points} - self.steps.keys():
            self.steps[name] = {point.step for point in client.get_metric_history(run_id, name)}
        new = [(name, value, step) for name, value, step in points if step not in self.steps[name]]
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            client.log_batch(run_id, metrics=[Metric(name, value, time, step) for name, value, step in some])
            for name, _, step in some:
                self.steps[name].add(step)


def is_missing(uri: str) -> bool:
    """Whether it is that of a sqlite file which is not there: to ask for it would make one, in a folder on which nothing is mounted."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///").partition("?")[0]).exists()


def is_away(folder: str) -> bool:
    """Whether the store in which that folder of a run is to be made is not there, or empty as a folder on which nothing is mounted.

    A bucket says so itself.
    """
    if "://" in folder:
        return False
    store = Path(folder).parents[2]
    return not store.is_dir() or not any(store.iterdir())


def connect(uri: str) -> Any:
    """MLflow's client, which gives up after seconds rather than minutes and logs nothing of its own."""
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it tells of every time that it asks again
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it lists its database's migrations, and tells errors that it raises, too
    return MlflowClient(tracking_uri=uri)


@contextmanager
def briefly() -> Iterator[None]:
    """Let a server that does not answer be known for lost within seconds, unless a person set how long MLflow is to ask."""
    before = {name: os.environ.get(name) for name in BRIEF}
    os.environ.update({name: value for name, value in BRIEF.items() if before[name] == USUAL.get(name)})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
