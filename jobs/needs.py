"""What a job does not begin without: processors and GPUs, which a cluster is asked for before it is given the job."""

from collections.abc import Sequence

from engine import flow
from engine.config import Config
from engine.models import TrainConfig
from engine.store import PatchStore
from jobs import ingest, matrix, probe

HERE = {"evaluate": 1.0, "transfer": 1.0}  # jobs that compute in their own process, and the GPUs that they do it on where a recipe has them
SCORING = {"score": 0.25, "rescore": 0.25}  # the GPU that one actor of them takes at least
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


def least(job: str, config: Config, words: Sequence[str] = ()) -> tuple[float, float]:
    """Processors and GPUs that must be there at once. GPUs where the recipe is one for GPUs; others take them where there are any.

    Such a recipe has SAM find its regions, which takes minutes a frame without one, or trains in mixed precision: our choice. `words` are
    those of the command behind the job, of which a benchmark's name its matrix.
    """
    if config.where != "ray":
        return 1.0, 0.0
    if job == "benchmark":
        return of_matrix(words)
    if job in ("ingest", "watch"):
        return of_intake(job, config)
    if job in SCORING:
        return 2.25, SCORING[job] if config.patches.proposer == "sam" else 0.0  # what scores, what reads, and a processor beside them
    if job == "pretrain":
        return of_training(config.pretrain)
    if job == "probe":
        return of_training(config.probe.train)
    if job in HERE:
        return of_entrypoint(job, config)
    return (1.0, 0.0) if job in ALONE else (2.0, 0.0)


def of_intake(job: str, config: Config) -> tuple[float, float]:
    """Of an ingest for which no scorer is named also what training one takes: whether the store has one only the cluster may know."""
    steps = ingest.steps(config, PatchStore(config.store.uri))
    cpus, gpus = flow.cpus_of(steps), flow.gpus_of(steps) if config.patches.proposer == "sam" else 0.0
    if job == "watch" or config.difficulty.checkpoint:
        return cpus, gpus
    first = of_training(config.probe.train)
    return max(cpus, first[0]), max(gpus, first[1])


def of_training(recipe: TrainConfig) -> tuple[float, float]:
    """Processors and GPUs that a training needs at least; one processor is for what leads its workers."""
    workers = recipe.least_workers or recipe.workers
    return workers + 1.0, float(workers) if recipe.precision != "no" else 0.0


def of_matrix(words: Sequence[str]) -> tuple[float, float]:
    """Of a benchmark: a task and a processor beside it, and the GPU of a task where any cell is pre-trained in mixed precision."""
    (name,) = (word for word in words if "=" not in word)
    cells = matrix.cells(*matrix.read(name, [word for word in words if "=" in word]))
    return 2.0, float(any(cell.pool and cell.config.pretrain.precision != "no" for cell in cells))


def of_entrypoint(job: str, config: Config) -> tuple[float, float]:
    """Processors and GPUs that the process of the job itself takes; then it is not put on a cluster's head, which schedules no work."""
    if job in HERE:
        return 1.0, HERE[job] if config.pretrain.precision != "no" else 0.0
    return (1.0, 0.0) if job in ALONE or job in ("choose", "theory") else (0.0, 0.0)


def refuse_small(job: str, config: Config, found: dict[str, float], words: Sequence[str] = ()) -> None:
    """ValueError, in one sentence, where a cluster of these resources cannot begin the job."""
    cpus, gpus = least(job, config, words)
    if gpus and not found["GPU"]:
        told = "pretrain.precision in its matrix says" if job == "benchmark" else "patches.proposer and precision say"
        raise ValueError(f"{job} with these knobs is for GPUs and the cluster has none; {told} what it can do without")
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if found[kind] < needed:
            raise ValueError(
                f"the smallest pools of {job} need {needed:g} {kind}s at once and the cluster has {found[kind]:g}: take a larger one"
                + scorer_first(job, config, kind, found[kind])
            )


def scorer_first(job: str, config: Config, kind: str, there: float) -> str:
    """More of the sentence, where it is the training of a scorer that is too large and a scorer may be there."""
    if job != "ingest" or config.difficulty.checkpoint:
        return ""
    needed = dict(zip(("CPU", "GPU"), of_intake("watch", config), strict=True))
    return (
        ""
        if needed[kind] > there
        else f", lower probe.train.workers, or name the store's scorer, {probe.scorer(config)}, as difficulty.checkpoint"
    )
