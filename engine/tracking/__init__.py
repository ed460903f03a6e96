"""One MLflow run per job: what went in, how it went, what came out; the run of a restarted job is the same run.

The only home of mlflow. The default is a sqlite file beside the store; a server is an address. One that is away when a job begins is
refused; one that is lost later is not waited for.

    run     a run: written to, also while the server is lost
    faults  what goes wrong with a server
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

from engine import files
from engine.config import Config
from engine.knobs import flat
from engine.tracking.faults import reason, refused, troubles
from engine.tracking.run import Run, briefly, connect

__all__ = ["Run", "address", "begun", "code_commit", "connect", "elsewhere", "finished", "newest", "reach", "running", "runs", "troubles"]

MADE: list[bytes] = []  # MLflow's file before any run, once this process has made one
FEW, MANY = 10, 1000  # runs that the server is asked for at once


def address(config: Config) -> str:
    """Where the runs of this configuration are kept; a store in a bucket keeps them in the working folder."""
    if config.tracking.uri:
        return config.tracking.uri
    folder = Path.cwd() if "://" in config.store.uri else Path(config.store.uri)
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def kept_in(config: Config) -> list[str]:
    """The files and folders of this machine that MLflow keeps the runs in; none of a server's."""
    kind, _, rest = (uri := address(config)).partition("://")
    if kind == "sqlite":
        path = rest.removeprefix("/")
        return [*(f"{path}{end}" for end in ("", "-journal", "-wal", "-shm")), f"{Path(path).resolve().parent}/artifacts"]
    return [uri] if kind == "file" or "://" not in uri else []


def handle(config: Config, run_id: str) -> Run:
    """The run by its id; what is not yet sent waits in the store, which every process of a job reaches."""
    return Run(address(config), run_id, f"{unsent(config)}/{run_id}")


def unsent(config: Config) -> str:
    """The folder of what waits for this server, by whose address it is named: another one does not know its runs."""
    store = config.store.uri if "://" in config.store.uri else str(Path(config.store.uri).resolve())
    return f"{store}/unsent/{hashlib.sha256(address(config).encode()).hexdigest()[:8]}"


@contextmanager
def running(config: Config, job: str, key: str, tags: Mapping[str, Any]) -> Iterator[Run]:
    """The run of `job` with this `key`: an earlier one that did not finish, else a new one with every knob as a parameter.

    It ends FINISHED, FAILED where an exception leaves the block, or KILLED where a person interrupted it.
    """
    run = resumed(config, job, key) or started(config, job, key, tags)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        run.end(status)


def resumed(config: Config, job: str, key: str) -> Run | None:
    """The newest run of this key that began and did not finish, running again."""
    client, experiment = reach(config)
    unfinished = f"tags.job = '{job}' and tags.key = '{key}' and attributes.status != 'FINISHED'"
    found = client.search_runs([experiment], unfinished, max_results=1)
    if not found:
        return None
    client.update_run(found[0].info.run_id, status="RUNNING")
    tell_knobs(client, found[0].info.run_id, config, known=found[0].data.params)  # a job may have been killed before it told them
    return handle(config, found[0].info.run_id)


def started(config: Config, job: str, key: str, tags: Mapping[str, Any]) -> Run:
    """A new run with its tags and knobs. OSError where MLflow cannot be reached."""
    client, experiment = reach(config)
    told = {"job": job, "key": key, "commit": code_commit(), "fingerprint": config.fingerprint(), **tags}
    made = client.create_run(experiment, run_name=f"{job} {key}", tags={name: str(value) for name, value in told.items()})
    tell_knobs(client, made.info.run_id, config, known={})
    return handle(config, made.info.run_id)


def tell_knobs(client: Any, run_id: str, config: Config, known: Mapping[str, str]) -> None:
    """Every knob as a parameter, of those that the run has not."""
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(name, str(value)[:500]) for name, value in flat(config).items() if name not in known])


def reach(config: Config) -> tuple[Any, str]:
    """A client and the experiment's id; OSError, in one sentence, where there is no such tracking server or file.

    What earlier jobs could not send is sent.
    """
    uri = address(config)
    try:
        if uri.startswith("sqlite:///"):
            lay_out(Path(uri.removeprefix("sqlite:///")))
        client = connect(uri)
        with briefly():
            experiment = experiment_of(client, config)
        send_waiting(config)
    except troubles() as error:
        raise OSError(f"tracking.uri={uri!r} cannot be used: {reason(error)}") from error
    return client, experiment


def elsewhere(config: Config) -> list[str]:
    """The folders of the store in which something waits for servers that are not this configuration's."""
    fs, root = files.locate(unsent(config))
    fs.invalidate_cache()
    return sorted({path.rpartition("/")[0] for path in fs.glob(f"{root.rpartition('/')[0]}/*/*")} - {root})


def send_waiting(config: Config) -> None:
    """Bring the server what earlier jobs could not; OSError names the folder of what it refuses."""
    fs, root = files.locate(unsent(config))
    for folder in sorted(fs.glob(f"{root}/*")):
        run = handle(config, folder.rpartition("/")[2])
        try:
            run.post.send_waiting()
        except troubles() as error:
            if refused(error):
                raise OSError(f"tracking.uri={run.uri!r} refuses what waits in {run.folder}, delete it to go on: {error}") from error
            raise


def lay_out(path: Path) -> None:
    """Make MLflow's sqlite file where there is none, whole or not at all.

    MLflow makes it in place, in some hundred steps that are no transaction, and refuses for ever the file of a job that was
    killed among them.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.parent) as swept, TemporaryDirectory(dir=path.parent, prefix=files.UNFINISHED) as folder, suppress(FileExistsError):
        for left in swept:
            rmtree(left, ignore_errors=True)
        # MLflow keeps the file open that it made, hence the copy; a link, not a rename, so that of two jobs that begin at once one wins
        (copy := Path(folder, "copy.db")).write_bytes(empty(folder))
        os.link(copy, path)


def empty(folder: str) -> bytes:
    """MLflow's file before any run, made in `folder`; once a process, since it takes a second of a core."""
    if not MADE:
        connect(f"sqlite:///{folder}/made.db").search_experiments()
        MADE.append(Path(folder, "made.db").read_bytes())
    return MADE[0]


@contextmanager
def alone(folder: Path) -> Iterator[list[Path]]:
    """Let one process of this machine at a time make the file; gives what those left who were killed at it.

    Where the file system has no locks nothing is known to be left, and upkeep removes it when it is old.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        yield sorted(folder.glob(f"{files.UNFINISHED}*")) if is_locked(opened) else []
    finally:
        os.close(opened)


def is_locked(opened: int) -> bool:
    """Whether a lock was had, which goes with its process."""
    try:
        flock(opened, LOCK_EX)
    except OSError:
        return False
    return True


def experiment_of(client: Any, config: Config) -> str:
    """The experiment's id; its artifacts lie beside the sqlite file, wherever the job was started."""
    name, uri = config.tracking.experiment, address(config)
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    beside = Path(uri.removeprefix("sqlite:///")).resolve().parent / "artifacts" if uri.startswith("sqlite:") else None
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


def newest(config: Config, job: str, where: str = "") -> Iterator[dict[str, Any]]:
    """Finished runs as `runs` tells them, the newest first, no more than are asked for: each costs 9 ms. `where`: MLflow's filter."""
    found = sought(config, f"tags.job = '{job}'" + f" AND {where}" * bool(where), "start_time DESC", FEW)
    return (one for one in found if one["status"] == "FINISHED")


def finished(config: Config, job: str, key: str) -> dict[str, Any] | None:
    """The newest finished run of a job with this key, as `runs` tells it."""
    return next(newest(config, job, f"tags.key = '{key}'"), None)


def begun(config: Config, job: str, where: str = "") -> list[dict[str, Any]]:
    """All runs of a job that meet MLflow's filter `where`, whatever became of them, as `runs` tells them.

    OSError, in one sentence, where they are out of reach.
    """
    return list(sought(config, f"tags.job = '{job}'" + f" AND {where}" * bool(where), "start_time ASC", MANY))


def sought(config: Config, where: str, order: str, at_once: int) -> Iterator[dict[str, Any]]:
    """Runs page by page, in MLflow's order; none where there is no file of them. OSError where MLflow cannot be asked."""
    if (uri := address(config)).startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return  # to look would make the file
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        with briefly():
            experiment = client.get_experiment_by_name(config.tracking.experiment)
        page: str | None = ""
        while experiment and page is not None:
            some = client.search_runs([experiment.experiment_id], where, max_results=at_once, order_by=[order], page_token=page or None)
            yield from (told(config, one) for one in some)
            page = some.token or None
    except MlflowException as error:
        raise OSError(f"tracking.uri={uri!r} cannot be used: {reason(error)}") from error


def told(config: Config, one: Any) -> dict[str, Any]:
    """A run to write to, with its status, tags, knobs and last metrics."""
    data = {name: dict(getattr(one.data, name)) for name in ("tags", "params", "metrics")}
    return {"run": handle(config, one.info.run_id), "status": str(one.info.status), **data}


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
