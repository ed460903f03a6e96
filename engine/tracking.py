"""One MLflow run per job: what went in, how it went, what came out; the run of a restarted job is the same run.

The only home of mlflow. The default is a sqlite file beside the store; a server is an address.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from engine.config import Config
from engine.knobs import flat


@dataclass(frozen=True)
class Run:
    """A run by its address and id: small enough to hand to a worker."""

    uri: str
    run_id: str

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log a step once: what a restarted loop repeats is not logged again."""
        client = connect(self.uri)
        history = {name: {point.step for point in client.get_metric_history(self.run_id, name)} for name in metrics}
        for name, value in metrics.items():
            if step not in history[name]:
                client.log_metric(self.run_id, name, float(value), step=step)

    def note(self, tags: Mapping[str, Any]) -> None:
        client = connect(self.uri)
        for name, value in tags.items():
            client.set_tag(self.run_id, name, str(value))

    def keep(self, name: str, content: bytes) -> None:
        """Store an artifact under `name`, which may have folders."""
        with TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            connect(self.uri).log_artifacts(self.run_id, folder)

    def kept(self, name: str) -> bytes:
        """An artifact of `keep`; LookupError where there is none."""
        from mlflow.exceptions import MlflowException

        with TemporaryDirectory() as folder:
            try:
                return Path(connect(self.uri).download_artifacts(self.run_id, name, folder)).read_bytes()
            except (MlflowException, OSError) as error:
                raise LookupError(f"the MLflow run {self.run_id} keeps no {name}") from error

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) in order of steps."""
        points = connect(self.uri).get_metric_history(self.run_id, metric)
        return sorted({point.step: point.value for point in points}.items())


def connect(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one bar a file
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 14 s; with the default of 7 nobody knows for minutes that it is gone
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it lists its database's migrations, and tells errors that it raises, too
    return MlflowClient(tracking_uri=uri)


def troubles() -> tuple[type[BaseException], ...]:
    """What MLflow raises where its server or file fails it, of what is loaded: it lets errors of its database through."""
    own = {"mlflow.exceptions": "MlflowException", "sqlalchemy.exc": "SQLAlchemyError"}
    return tuple(getattr(sys.modules[module], name) for module, name in own.items() if module in sys.modules)


def address(config: Config) -> str:
    """Where the runs of this configuration are kept; a store in a bucket keeps them in the working folder."""
    if config.tracking.uri:
        return config.tracking.uri
    folder = Path.cwd() if "://" in config.store.uri else Path(config.store.uri)
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


@contextmanager
def running(config: Config, job: str, key: str, tags: Mapping[str, Any]) -> Iterator[Run]:
    """The run of `job` with this `key`: an earlier one that did not finish, else a new one with every knob as a parameter.

    It ends FINISHED, FAILED where an exception leaves the block, or KILLED where a person interrupted it.
    """
    run = resumed(config, job, key) or started(config, job, key, tags)
    client, status = connect(run.uri), "FAILED"
    try:
        yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.set_terminated(run.run_id, status)


def resumed(config: Config, job: str, key: str) -> Run | None:
    """The newest run of this key that began and did not finish, running again."""
    client, experiment = reach(config)
    unfinished = f"tags.job = '{job}' and tags.key = '{key}' and attributes.status != 'FINISHED'"
    found = client.search_runs([experiment], unfinished, max_results=1)
    if not found:
        return None
    client.update_run(found[0].info.run_id, status="RUNNING")
    return Run(address(config), found[0].info.run_id)


def started(config: Config, job: str, key: str, tags: Mapping[str, Any]) -> Run:
    from mlflow.entities import Param

    client, experiment = reach(config)
    told = {"job": job, "key": key, "commit": code_commit(), "fingerprint": config.fingerprint(), **tags}
    made = client.create_run(experiment, run_name=f"{job} {key}", tags={name: str(value) for name, value in told.items()})
    client.log_batch(made.info.run_id, params=[Param(name, str(value)[:500]) for name, value in flat(config).items()])
    return Run(address(config), made.info.run_id)


def reach(config: Config) -> tuple[Any, str]:
    """A client and the experiment's id; OSError, in one sentence, where there is no such tracking server or file."""
    uri = address(config)
    try:
        if uri.startswith("sqlite:///"):
            lay_out(Path(uri.removeprefix("sqlite:///")))
        client = connect(uri)
        return client, experiment_of(client, config)
    except troubles() as error:
        raise OSError(f"tracking.uri={uri!r} cannot be used: {getattr(error, 'orig', None) or error}") from error


def lay_out(path: Path) -> None:
    """Make MLflow's sqlite file where there is none, whole or not at all.

    MLflow makes it in place, in some hundred steps that are no transaction, and refuses for ever the file of a job that was
    killed among them.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as folder, suppress(FileExistsError):
        connect(f"sqlite:///{folder}/made.db").search_experiments()
        # MLflow keeps the file open that it made, hence the copy; a link, not a rename, so that of two jobs that begin at once one wins
        os.link(copyfile(f"{folder}/made.db", f"{folder}/copy.db"), path)


def experiment_of(client: Any, config: Config) -> str:
    """The experiment's id; its artifacts lie beside the sqlite file, wherever the job was started."""
    name, uri = config.tracking.experiment, address(config)
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    beside = Path(uri.removeprefix("sqlite:///")).parent / "artifacts" if uri.startswith("sqlite:") else None
    if beside:
        beside.mkdir(parents=True, exist_ok=True)
    try:
        return str(client.create_experiment(name, artifact_location=beside.as_uri() if beside else None))
    except troubles():
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)  # another job made it in this moment
        raise


def runs(config: Config, job: str) -> list[dict[str, Any]]:
    """Finished runs of a job, oldest first: {"run", "tags", "params", "metrics", "status"}."""
    return [one for one in begun(config, job) if one["status"] == "FINISHED"]


def begun(config: Config, job: str) -> list[dict[str, Any]]:
    """All runs of a job, whatever became of them, as `runs` tells them; OSError, in one sentence, where they are out of reach."""
    if (uri := address(config)).startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return []  # to look would make the file
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(config.tracking.experiment)
        found: list[Any] = []
        page: str | None = ""
        while experiment and page is not None:
            some = client.search_runs(
                [experiment.experiment_id], f"tags.job = '{job}'", order_by=["start_time ASC"], page_token=page or None
            )
            found, page = found + list(some), some.token or None
    except MlflowException as error:
        raise OSError(f"tracking.uri={uri!r} cannot be used: {error}") from error
    return [told(uri, one) for one in found]


def told(uri: str, one: Any) -> dict[str, Any]:
    data = {name: dict(getattr(one.data, name)) for name in ("tags", "params", "metrics")}
    return {"run": Run(uri, one.info.run_id), "status": str(one.info.status), **data}


def code_commit() -> str:
    """The commit of this code, with "+" where files differ from it; ENDOCURATE_COMMIT in an image that has no git."""
    if "ENDOCURATE_COMMIT" in os.environ:
        return os.environ["ENDOCURATE_COMMIT"]
    here = Path(__file__).resolve().parent.parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed.strip() else "")
