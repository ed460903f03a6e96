"""What a job needs to find before it begins, looked for before anything heavy is loaded; addresses of buckets are the job's own matter."""

from collections.abc import Iterator
from pathlib import Path

from fsspec import available_protocols

from engine.config import Config
from engine.settings import PlanConfig
from jobs.recipes import tiny

ASKING = ("forget", "maintain", "requeue", "query", "nearest", "hardest", "explain", "history", "report", "browse")
BEFORE = {
    "benchmark": "ingest",
    "score": "ingest",
    "choose": "ingest",
    "export": "choose",
    "pretrain": "choose",
    "worth": "choose",
    "evaluate": "pretrain",
    "transfer": "pretrain",
}
FOLLOWING = ("alike", "rescore", "drift", "selections")  # what follows a batch
BEFORE |= dict.fromkeys((*ASKING, *FOLLOWING), "ingest")


def check(job: str, config: Config) -> None:
    """ValueError or OSError, one sentence, for a local path that is not there, or a knob that the job cannot heed."""
    for knob, uri in {"videos.uri": config.videos.uri, "store.uri": config.store.uri, "export.path": config.export.path}.items():
        check_scheme(knob, uri)
    if job == "demo":
        only_its_own(config)
    if job in ("ingest", "watch", "probe", "plan"):
        check_video(job, config)
    if job in ("pretrain", "evaluate", "transfer"):
        check_targets(job, config)
    for knob, path in weights(job, config):
        if is_missing(path):
            raise ValueError(f"{knob}={path!r} does not exist; expected a checkpoint")
    if job in BEFORE and not (job == "benchmark" and config.benchmark.estimate):  # which may be asked before there is anything
        check_store(job, config)


def check_targets(job: str, config: Config) -> None:
    """FileNotFoundError or ValueError, with the knob, where target or evaluation images are not there."""
    if job == "transfer" and not config.transfer.uri:
        raise ValueError("transfer.uri is empty: name the folder of target images that the models are scored on")
    if job != "evaluate" and "://" in config.transfer.uri and not config.transfer.uri.startswith("file://"):
        raise ValueError(f"transfer.uri={config.transfer.uri!r}: target images are read from a folder of the machine; copy them into one")
    if job != "evaluate" and config.transfer.uri and is_missing(config.transfer.uri):
        raise ValueError(f"transfer.uri={config.transfer.uri!r} does not exist; expected a folder of target images")
    if job != "evaluate" and config.transfer.uri:
        check_pictures(config.transfer.uri)
    if job != "pretrain":
        from engine import datasets  # loads OpenCV, which a wrong knob need not wait for

        datasets.check_place(config.evaluate)


def check_pictures(uri: str) -> None:
    """FileNotFoundError or ValueError for target images that are no folder, or fewer than two by their names; opens none."""
    from engine import datasets  # loads OpenCV, which a wrong knob need not wait for

    root = datasets.local(uri)
    if not root.is_dir():
        raise FileNotFoundError(f"transfer.uri={uri}: there is no such folder, expected one with target images")
    paired = (root / "images").is_dir() and (root / "masks").is_dir()
    found = sum(map(datasets.is_picture, (root / "images" if paired else root).iterdir()))
    if found < 2:
        where = f"transfer.uri={uri}{'/images' * paired}"
        raise ValueError(f"{where} holds {found} picture{'s' * (found != 1)}, expected two target images at least")


def check_video(job: str, config: Config) -> None:
    """ValueError where there is no video, or no place for the store beside it; `plan` may simulate some."""
    if same(config.videos.uri, config.store.uri):
        raise ValueError(f"videos.uri={config.videos.uri!r} is store.uri too: give the store a folder of its own, there or elsewhere")
    if "://" not in config.store.uri and (file := blocking(config.store.uri)):
        raise ValueError(f"store.uri={config.store.uri!r}: {file} is a file; expected a folder, or room for one")
    if is_missing(config.videos.uri) and not (job == "plan" and simulates(config)):
        raise ValueError(f"videos.uri={config.videos.uri!r} does not exist; expected a folder or a file with video")
    if job == "plan":
        check_plan(config)


def check_plan(config: Config) -> None:
    """ValueError where a plan cannot be made of these knobs."""
    if config.frames.sampling != "seconds":
        raise ValueError(f"frames.sampling={config.frames.sampling}: how many frames a second that gives is not known before; seconds is")
    check_cluster(config.plan)


def check_cluster(asked: PlanConfig) -> None:
    """ValueError for GPUs without processors, which would cost nothing."""
    if asked.gpus and not asked.cpus:
        raise ValueError(f"plan.gpus={asked.gpus:g} of what cluster? name its plan.cpus too; without both it is this machine")


def simulates(config: Config) -> bool:
    """Whether the job plan measures on simulated clips: no video was named, and there is none where it usually lies."""
    return config.videos.uri == Config().videos.uri and is_missing(config.videos.uri)


def check_store(job: str, config: Config) -> None:
    """What a job of a store needs beside it. ValueError, one sentence, where it lacks."""
    if is_missing(f"{config.store.uri}/videos.lance"):
        raise ValueError(f"store.uri={config.store.uri!r} holds no store of endocurate: run the job {BEFORE[job]} first, or name another")
    if job == "explain" and config.output.format == "parquet":
        raise ValueError("output.format=parquet holds rows, explain gives a tree: table or json do")


def check_scheme(knob: str, uri: str) -> None:
    """ValueError for an address of a kind that nothing here can open, and for memory that is gone when the job is."""
    scheme = uri.partition("://")[0]
    if "://" in uri and (scheme == "memory" or scheme not in available_protocols()):
        raise ValueError(f"{knob}={uri!r}: there is no kind of address {scheme}://; a local path, s3:// and gs:// are some that there are")


def blocking(path: str) -> Path | None:
    """What stands where a folder would have to be: the nearest that there is of a path and its parents, where it is none."""
    whole = Path(path).expanduser().absolute()
    nearest = next(one for one in (whole, *whole.parents) if one.exists())
    return None if nearest.is_dir() else nearest


def same(uri: str, other: str) -> bool:
    """Whether two addresses are one; of paths of this machine links lead where they do."""
    one, two = (uri.rstrip("/") if "://" in uri else str(Path(uri).expanduser().resolve()) for uri in (uri, other))
    return one == two


def is_missing(uri: str) -> bool:
    """Whether an address is a path of this machine at which nothing is."""
    return "://" not in uri and not Path(uri).expanduser().exists()


def only_its_own(config: Config) -> None:
    """The demo makes its own video, pairs and store; to ignore an address in silence would be a lie. So ValueError."""
    usual = tiny()
    for knob in ("videos", "store", "evaluate"):
        if (named := getattr(config, knob).uri) != getattr(usual, knob).uri:
            raise ValueError(f"{knob}.uri={named!r}: demo works in its own folder on simulated video; for yours begin with the job ingest")


def weights(job: str, config: Config) -> Iterator[tuple[str, str]]:
    """The checkpoints that the job would load, by knob."""
    if job in ("ingest", "watch", "plan") and config.patches.proposer == "sam" and config.patches.checkpoint != "official":
        yield "patches.checkpoint", config.patches.checkpoint
    if job == "score" and config.score.by == "sam" and config.patches.checkpoint != "official":
        yield "patches.checkpoint", config.patches.checkpoint
    if job == "score" and config.score.by.startswith("timm:") and config.score.checkpoint not in ("pretrained", "random"):
        yield "score.checkpoint", config.score.checkpoint
    by_it = ("ingest", "watch", "plan", "rescore", *(["score"] if config.score.by == "checkpoint" else []))
    if job in by_it and config.difficulty.checkpoint:
        yield "difficulty.checkpoint", config.difficulty.checkpoint
    if job in ("pretrain", "evaluate", "transfer", "demo") and config.pretrain.checkpoint:  # by whose weights a model is told
        yield "pretrain.checkpoint", config.pretrain.checkpoint
