"""What a job does not begin without: processors and GPUs, which a cluster is asked for before it is given the job."""

from engine import flow
from engine.config import Config
from engine.store import PatchStore
from jobs import ingest

HERE = {"evaluate": 1.0, "transfer": 1.0}  # jobs that compute in their own process, and the GPUs that they do it on where a recipe has them
ALONE = (
    "export",
    "report",
    "maintain",
    "forget",
    "query",
    "nearest",
    "hardest",
    "explain",
    "history",
    "requeue",
    "datasets",
)  # likewise, none


def least(job: str, config: Config) -> tuple[float, float]:
    """Processors and GPUs that must be there at once. GPUs where the recipe is one for GPUs; others take them where there are any.

    Such a recipe has SAM find its regions, which takes minutes a frame without one, or trains in mixed precision: our choice.
    """
    if config.where != "ray":
        return 1.0, 0.0
    if job in ("ingest", "watch"):
        steps = ingest.steps(config, PatchStore(config.store.uri))
        return flow.cpus_of(steps), flow.gpus_of(steps) if config.patches.proposer == "sam" else 0.0
    if job == "pretrain":
        workers = config.pretrain.least_workers or config.pretrain.workers
        return workers + 1.0, float(workers) if config.pretrain.precision != "no" else 0.0
    if job in HERE:
        return of_entrypoint(job, config)
    return (1.0, 0.0) if job in ALONE else (2.0, 0.0)


def of_entrypoint(job: str, config: Config) -> tuple[float, float]:
    """Processors and GPUs that the process of the job itself takes; then it is not put on a cluster's head, which schedules no work."""
    if job in HERE:
        return 1.0, HERE[job] if config.pretrain.precision != "no" else 0.0
    return (1.0, 0.0) if job in ALONE or job in ("choose", "theory") else (0.0, 0.0)


def refuse_small(job: str, config: Config, found: dict[str, float]) -> None:
    """ValueError, in one sentence, where a cluster of these resources cannot begin the job."""
    cpus, gpus = least(job, config)
    if gpus and not found["GPU"]:
        raise ValueError(
            f"{job} with these knobs is for GPUs and the cluster has none; patches.proposer and precision say what it can do without"
        )
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if found[kind] < needed:
            raise ValueError(
                f"the smallest pools of {job} need {needed:g} {kind}s at once and the cluster has {found[kind]:g}: take a larger one"
            )
