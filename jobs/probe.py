"""Train the scorer on a random sample of the video: what the method needs before it can say which patches are hard."""

import logging
from functools import partial
from math import ceil

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import difficulty, files, flow, objectives, pretrain, schema, simclr, tracking, vits
from engine.config import Config, DifficultyConfig, PatchesConfig
from engine.flow import Step
from engine.models import TrainConfig
from engine.patches import ProposePatches
from engine.store import PatchStore, trainings
from engine.videos import IdentifyVideos
from jobs import needs, own, training
from jobs.sampling import SampleFrames
from jobs.troubles import typed

log = logging.getLogger("jobs.probe")
PER_VIDEO = 50  # frames of one video while there are others to draw from
AT_ONCE = 200  # of one video, whose pictures wait in memory together: 0.6 GB at 1024 px
NO_CROPS = schema.PATCH.empty_table().select(["patch_id", "pixels"])


class TooFewCropsError(ValueError):
    """The video gave too few crops to train a scorer on."""


def mark(config: Config) -> str:
    """What tells the scorers of a store apart: the settings that they were trained with."""
    made = config.probe.fingerprint()
    return f"{made}-{config.difficulty.simclr.fingerprint()}" if config.difficulty.scorer == "simclr" else made


def scorer(config: Config, early: bool = False) -> str:
    """The name of the scorer of these settings in the store, or of the same one early in its training."""
    return trainings.scorer(mark(config), early)


def stored(config: Config, early: bool = False) -> DifficultyConfig | None:
    """The knobs difficulty.* with the checkpoint that the store has of these settings; None where it has none."""
    store, name = PatchStore(config.store.uri), scorer(config, early)
    return config.difficulty.model_copy(update={"checkpoint": store.address(name)}) if store.holds(name) else None


def at_hand(config: Config) -> DifficultyConfig | None:
    """The same with the checkpoint that they name, else the store's own."""
    return config.difficulty if config.difficulty.checkpoint else stored(config)


def ready(config: Config) -> Config:
    """`config` with a scorer's checkpoint where there is one; none is trained."""
    return config.model_copy(update={"difficulty": at_hand(config) or config.difficulty})


def with_scorer(config: Config) -> Config:
    """`config` with a scorer's checkpoint: the one it names, the store's own, or one that is trained now."""
    if config.difficulty.checkpoint:
        load = difficulty.load_contrast if config.difficulty.scorer == "simclr" else difficulty.load_scorer
        load(config.difficulty)  # a wrong one is refused before video is read
        return config
    if not (section := stored(config)):
        log.info("no scorer yet: training one on a random sample first")
        run(config)
        section = stored(config)
    return config.model_copy(update={"difficulty": section})


def width(config: Config) -> int:
    """Numbers in an embedding of the scorer."""
    if config.difficulty.scorer == "simclr":
        return int(simclr.encoder(config.difficulty.simclr).head_hidden_size)
    return vits.shape(config.difficulty.mae.size).width


def steps(config: Config, sources: int, forgotten: frozenset[str] = frozenset()) -> list[Step]:
    """From videos to random crops of an even draw of frames; nothing of `forgotten` videos is read."""
    crops = PatchesConfig(proposer="crops", per_frame=config.probe.crops, max_side=config.patches.max_side, seed=config.probe.train.seed)
    each = min(max(PER_VIDEO, ceil(config.probe.frames / max(sources, 1))), AT_ONCE)
    return [
        Step(IdentifyVideos, (), batch=1, cpus=0.5, loads=False),
        Step(SampleFrames, (config.frames, each, config.probe.train.seed, forgotten), batch=1, actors=(1, 4)),
        Step(ProposePatches, (crops,), batch=16, cpus=0.5),
    ]


def run(config: Config) -> None:
    """Train a scorer for `config` and store it; a later ingest of the same settings uses it.

    TooFewCropsError where too few pass the gate, RuntimeError where a video was forgotten meanwhile.
    """
    with typed():
        objectives.check(recipe_of(config, config.probe.train.batch))
    needs.await_nodes("probe", config)
    with typed():
        training.check(config, recipe_of(config, config.probe.train.batch), config.probe.train.batch)
    sources, store = own.found(config), PatchStore(config.store.uri)
    forgotten = store.forgotten()
    tracking.reach(config)  # refused before video is read, and before anything is left in the store
    sample = sample_crops(config, sources, frozenset(forgotten))
    if len(sample) < (2 if config.difficulty.scorer == "simclr" else config.probe.train.workers):
        raise TooFewCropsError(
            f"{config.videos.uri} gave {len(sample)} crops that pass the gate, too few to train a scorer: set difficulty.checkpoint"
        )
    log.info("training the scorer on %d random crops", len(sample))
    where = store.address(f"scorers/{mark(config)}.arrow")
    with fsspec.open(where, "wb", auto_mkdir=True) as file, pa.ipc.new_file(file, sample.schema) as writer:
        writer.write_table(sample)
    if store.forgotten() != forgotten:  # the sample may show what was withdrawn while it was drawn, and does not say whose it is
        fs, place = files.locate(where)
        fs.rm(place)
        raise RuntimeError("a video was forgotten while the sample for the scorer was drawn, so it was thrown away: run the job again")
    read = training.ArrowReader(where)
    with tracking.running(config, "probe", mark(config), {"crops": len(sample)}) as record:
        train(config, read, len(sample), record)
        record.note(named(config))


def named(config: Config) -> dict[str, str]:
    """What was trained, and that early in its training, by the names under which patches and tables of scores have it."""
    found = {tag: stored(config, tag == "early") for tag in ("scorer", "early")}
    return {tag: name_of(section, tag == "early") for tag, section in found.items() if section}


def name_of(section: DifficultyConfig, early: bool = False) -> str:
    """Under which name scores by a scorer are kept; the last of its parts is what patches call it."""
    return f"{'early-' * early}{difficulty.scorer_of(section)}"


def train(config: Config, read: training.ArrowReader, count: int, record: tracking.Run) -> None:
    """Train the scorer and store it, and what it was early in its training beside it."""
    recipe, store = recipe_of(config, count), PatchStore(config.store.uri)
    where, early = store.address(scorer(config)), store.address(scorer(config, early=True))
    loop = partial(training.fit, partial(pretrain.fit, read, count, recipe), recipe.epochs, record)
    work = partial(training.kept, loop, early_epochs(recipe), partial(keep, recipe, read, count, early))
    with training.left(config, f"probe-{mark(config)}", "probe.train.checkpoint"):
        trained = training.carry_out(config, recipe, work, f"probe-{mark(config)}")
    place(trained, recipe, read, count, where)


def early_epochs(recipe: TrainConfig) -> int:
    """After how many epochs a scorer is an early one: a fifth of them, at a checkpoint.

    Our choice, because learnability compares an early with a late scorer: by then what is common is learnt and what is rare is not.
    """
    every = recipe.checkpoint_every
    return min(ceil(recipe.epochs / 5 / every) * every, recipe.epochs)


def recipe_of(config: Config, count: int) -> TrainConfig:
    """How the scorer of difficulty.* is trained; crops that are fewer than a batch are one."""
    recipe = needs.recipe_of("probe", config)
    return recipe.model_copy(update={"batch": min(recipe.batch, count - count % recipe.workers)})


def keep(recipe: TrainConfig, read: training.ArrowReader, count: int, uri: str, path: str) -> None:
    """Put a trained scorer in its place in the store, with its bank where it is SimCLR."""
    place(objectives.load(path, recipe), recipe, read, count, uri)


def place(model: objectives.Trained, recipe: TrainConfig, read: training.ArrowReader, count: int, uri: str) -> None:
    """Put a scorer where it is looked for, SimCLR with a bank of the pictures that it was trained on."""
    if isinstance(model, simclr.SimCLR):
        simclr.remember(model, read(range(count)), recipe.seed, recipe.batch)
    objectives.save(model, uri)


def sample_crops(config: Config, sources: pa.Table, forgotten: frozenset[str] = frozenset()) -> pa.Table:
    """At most probe.frames * probe.crops random crops (column pixels) of `sources` (schema.SOURCE), in the order of their ids.

    None is of a video in `forgotten`. Videos are read in a random order until there are enough; of each are taken evenly drawn frames,
    so that a long one does not crowd out the others. In memory are the frames of one video at most per process, and the crops.
    """
    rng = np.random.default_rng(config.probe.train.seed)
    shuffled = sources.take(pa.array(rng.permutation(len(sources))))
    execute = flow.runner(config.where)
    enough, found = config.probe.frames * config.probe.crops, [NO_CROPS]
    for start in range(0, len(shuffled), config.videos.batch):
        made = execute(steps(config, len(sources), forgotten), shuffled.slice(start, config.videos.batch))
        found += [table.select(NO_CROPS.schema.names).filter(pc.is_valid(table["patch_id"])) for table in made]
        if sum(map(len, found)) >= enough:
            break
    crops = pa.concat_tables(found).sort_by("patch_id")
    chosen = np.sort(rng.permutation(len(crops))[:enough])
    return crops.take(pa.array(chosen)).select(["pixels"]).combine_chunks()
