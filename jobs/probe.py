"""Train the scorer on a random sample of the video: what the method needs before it can say which patches are hard."""

import logging

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import flow, mae, tracking
from engine.config import Config, PatchesConfig
from engine.flow import Step
from engine.frames import DecodeFrames
from engine.patches import ProposePatches
from engine.store import PatchStore
from engine.videos import IdentifyVideos, find
from jobs import training

log = logging.getLogger("jobs.probe")


class TooFewCropsError(ValueError):
    """The video gave too few crops to train a scorer on."""


def scorer(config: Config) -> str:
    """The name of the scorer of these settings in the store."""
    return f"scorers/{config.probe.fingerprint()}.safetensors"


def with_scorer(config: Config) -> Config:
    """`config` with a scorer's checkpoint: the one it names, the store's own, or one that is trained now."""
    if config.difficulty.checkpoint:
        mae.load(config.difficulty.checkpoint, config.difficulty.mae)  # a wrong one is refused before video is read
        return config
    store = PatchStore(config.store.uri)
    if not store.holds(scorer(config)):
        log.info("no scorer yet: training one on a random sample first")
        run(config)
    difficulty = config.difficulty.model_copy(update={"checkpoint": training.absolute(store.address(scorer(config)))})
    return config.model_copy(update={"difficulty": difficulty})


def width(config: Config) -> int:
    """Numbers in an embedding of the scorer."""
    return int(mae.SIZES[config.difficulty.mae.size][0])


def steps(config: Config) -> list[Step]:
    crops = PatchesConfig(proposer="crops", per_frame=config.probe.crops, max_side=config.patches.max_side, seed=config.probe.train.seed)
    return [
        Step(IdentifyVideos, (config.videos,), batch=1, cpus=0.5),
        Step(DecodeFrames, (config.frames,), batch=1, actors=(1, 4)),
        Step(ProposePatches, (crops,), batch=16, cpus=0.5),
    ]


def run(config: Config) -> None:
    """Train a scorer for `config` and store it; a later ingest of the same settings uses it."""
    sample = sample_crops(config)
    if len(sample) < config.probe.train.workers:
        raise TooFewCropsError(
            f"{config.videos.uri} gave {len(sample)} crops that pass the gate, too few to train a scorer: set difficulty.checkpoint"
        )
    log.info("training the scorer on %d random crops", len(sample))
    store = PatchStore(config.store.uri)
    where = store.address(f"scorers/{config.probe.fingerprint()}.arrow")
    with fsspec.open(where, "wb", auto_mkdir=True) as file, pa.ipc.new_file(file, sample.schema) as writer:
        writer.write_table(sample)
    record = tracking.start(config, "probe", config.probe.fingerprint(), {"crops": len(sample)})
    read = training.ArrowReader(training.absolute(where))
    model = training.train(config, config.probe.train, read, len(sample), f"probe-{config.probe.fingerprint()}", record)
    training.keep(model, store.address(scorer(config)))
    record.end()


def sample_crops(config: Config) -> pa.Table:
    """Random crops (column pixels) of at most probe.frames frames, drawn evenly from videos in a random order by seed."""
    sources = find(config.videos.uri)
    rng = np.random.default_rng(config.probe.train.seed)
    shuffled = sources.take(pa.array(rng.permutation(len(sources))))
    execute = flow.run_on_ray if config.where == "ray" else flow.run_here
    enough = config.probe.frames * config.probe.crops
    found: list[pa.Table] = []
    for start in range(0, len(shuffled), config.videos.batch):
        made = pa.concat_tables(execute(steps(config), shuffled.slice(start, config.videos.batch)))
        found.append(made.select(["patch_id", "pixels"]).filter(pc.is_valid(made["patch_id"])))
        if sum(map(len, found)) >= enough:
            break
    crops = pa.concat_tables(found).sort_by("patch_id") if found else pa.table({"patch_id": [], "pixels": []})
    chosen = np.sort(rng.permutation(len(crops))[:enough])
    return crops.take(pa.array(chosen)).select(["pixels"]).combine_chunks()
