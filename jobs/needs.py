"""What a job does not begin without: processors and GPUs, which a cluster is asked for before it is given the job, and when it begins."""

from collections.abc import Sequence

from engine import flow
from engine.config import Config
from engine.models import TrainConfig
from engine.store import PatchStore
from jobs import matrix

SCORING = {"score": 0.25, "rescore": 0.25}  # the GPU that one actor of them takes at least
SPREAD = (*SCORING, "ingest", "watch", "probe", "pretrain", "benchmark")  # all others compute in their own process
TRAINING = ("evaluate", "transfer")  # of those, what trains there
BESIDE = ("choose", "theory", "selections")  # and what has tasks on Ray at the same time


def least(job: str, config: Config, words: Sequence[str] = ()) -> tuple[float, float]:
    """Processors and GPUs that must be there at once. GPUs where the recipe is one for GPUs; others take them where there are any.

    Such a recipe has SAM find its regions, which takes minutes a frame without one, or trains in mixed precision: our choice. `words` are
    those of the command behind the job, of which a benchmark's name its matrix.
    """
    if config.where == "ray" and job in SPREAD:
        return of_pools(job, config, words)
    cpus, gpus = of_entrypoint(job, config, words)
    return cpus + (config.where == "ray" and job in BESIDE), gpus


def of_pools(job: str, config: Config, words: Sequence[str] = ()) -> tuple[float, float]:
    """What a job that is spread over a cluster takes of it at once."""
    if job == "benchmark":
        return of_matrix(words)
    if job in ("ingest", "watch"):
        return of_intake(job, config)
    if job in SCORING:
        return 2.25, SCORING[job] if config.patches.proposer == "sam" else 0.0  # what scores, what reads, and a processor beside them
    return of_training(recipe_of(job, config), config.where == "ray")


def of_intake(job: str, config: Config) -> tuple[float, float]:
    """Of an ingest for which no scorer is named also what training one takes: whether the store has one only the cluster may know."""
    from jobs import ingest  # which asks here before it begins

    steps = ingest.steps(config, PatchStore(config.store.uri))
    cpus, gpus = flow.cpus_of(steps), flow.gpus_of(steps) if config.patches.proposer == "sam" else 0.0
    if job == "watch" or config.difficulty.checkpoint:
        return cpus, gpus
    first = of_training(recipe_of(job, config), config.where == "ray")
    return max(cpus, first[0]), max(gpus, first[1])


def recipe_of(job: str, config: Config) -> TrainConfig:
    """What a job trains with workers: a pre-training, or the scorer of difficulty.*."""
    score = config.difficulty
    own = {"architecture": score.scorer, "simclr": score.simclr}
    return config.pretrain if job == "pretrain" else config.probe.train.model_copy(update=own)


def of_training(recipe: TrainConfig, spread: bool = True) -> tuple[float, float]:
    """Processors and GPUs that a training needs at least; one processor is for what leads its workers.

    `spread` over a cluster, also GPUs for batch norms that its workers make together. ValueError for an encoder that timm does not know.
    """
    workers = recipe.least_workers or recipe.workers
    return workers + 1.0, float(workers) if recipe.precision != "no" or (spread and normed(recipe)) else 0.0


def normed(recipe: TrainConfig) -> bool:
    """Whether workers make batch norms together, which torch does on GPUs only; ValueError for an encoder that timm does not know."""
    if recipe.architecture != "simclr" or recipe.workers == 1:
        return False
    from engine import objectives, simclr  # seconds, which nobody else has to wait for

    return objectives.normed(simclr.encoder(recipe.simclr))


def of_matrix(words: Sequence[str]) -> tuple[float, float]:
    """Of a benchmark: a task and a processor beside it, and the GPU of a task where any cell is pre-trained in mixed precision."""
    (name,) = (word for word in words if "=" not in word)
    cells = matrix.cells(*matrix.read(name, [word for word in words if "=" in word]))
    return 2.0, float(any(cell.pool and cell.config.pretrain.precision != "no" for cell in cells))


def of_entrypoint(job: str, config: Config, words: Sequence[str] = ()) -> tuple[float, float]:
    """Processors and GPUs that the process of the job itself takes; then it is not put on a cluster's head, which schedules no work.

    None where it only leads what is spread over the cluster. With where=here it does all of that itself, with a GPU where the pools want
    one; `plan` measures on what it plans for.
    """
    if job in SPREAD:
        return (0.0, 0.0) if config.where == "ray" else (1.0, float(of_pools(job, config, words)[1] > 0))
    if job == "plan":
        return 1.0, float(config.plan.gpus > 0 or config.patches.proposer == "sam")
    return 1.0, float(job in TRAINING and config.pretrain.precision != "no")


def await_nodes(job: str, config: Config, words: Sequence[str] = ()) -> None:
    """Back once a cluster that is joined has what the job does not begin without, which its autoscaler is asked for.

    ValueError, in one sentence, where it has not and gets no such nodes. A machine of one's own goes on with what it has.
    """
    if config.where == "ray" and flow.named() and not flow.awaited(*least(job, config, words)):
        refuse_small(job, config, dict(zip(("CPU", "GPU"), flow.resources([]), strict=True)), words)


def await_workers(recipe: TrainConfig) -> None:
    """The same of a training whose job began: nodes may have gone while nobody used their GPUs. ClusterError where they do not come."""
    if flow.named() and not flow.awaited(*of_training(recipe)):
        flow.connect(*of_training(recipe))


def refuse_small(job: str, config: Config, found: dict[str, float], words: Sequence[str] = ()) -> None:
    """ValueError, in one sentence, where a cluster of these resources cannot begin the job."""
    cpus, gpus = least(job, config, words)
    if gpus and not found["GPU"]:
        told = {"benchmark": "pretrain.precision in its matrix says", "plan": "plan.gpus and patches.proposer say"}
        raise ValueError(
            f"{job} with these knobs is for GPUs and the cluster has none; "
            f"{told.get(job, 'patches.proposer and precision say')} what it can do without{norms_too(job, config)}; "
            "where its autoscaler keeps no GPU node, give it some first (step 4 of cluster/README.md)"
        )
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if found[kind] < needed:
            raise ValueError(
                f"the smallest pools of {job} need {needed:g} {kind}s at once and the cluster has {found[kind]:g}: take a larger one"
                + scorer_first(job, config, kind, found[kind])
            )


def norms_too(job: str, config: Config) -> str:
    """More of the sentence, where it is for batch norms over several workers that a training wants GPUs."""
    trains = job in ("pretrain", "probe") or (job == "ingest" and not config.difficulty.checkpoint)
    if not trains or config.where != "ray" or not normed(recipe_of(job, config)):
        return ""
    return "; batch norms over several workers want one each, workers=1 or an encoder without, such as vit_tiny_patch16_224, none"


def scorer_first(job: str, config: Config, kind: str, there: float) -> str:
    """More of the sentence, where it is the training of a scorer that is too large and a scorer may be there."""
    if job != "ingest" or config.difficulty.checkpoint:
        return ""
    from jobs import probe  # which asks here before it begins

    needed = dict(zip(("CPU", "GPU"), of_intake("watch", config), strict=True))
    return (
        ""
        if needed[kind] > there
        else f", lower probe.train.workers, or name the store's scorer, {probe.scorer(config)}, as difficulty.checkpoint"
    )
