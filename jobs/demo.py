"""Simulated video through the whole chain, for two methods at one budget, with a report at the end."""

import logging
from pathlib import Path
from time import monotonic

from engine import simulate, tracking
from engine.config import Config
from jobs import choose, evaluate, ingest, pretrain, report

log = logging.getLogger("jobs.demo")
CLIPS, SECONDS, PAIRS = 4, 8.0, 120
METHODS = ("random", "optidel")


def run(config: Config) -> None:
    """Simulate into demo/, then ingest, choose, pre-train, evaluate and report as a user would."""
    began, folder = monotonic(), Path("demo")
    config = placed(config, folder)
    tracking.reach(config)  # refused before anything is simulated
    if len(list((folder / "pairs" / "masks").glob("*"))) < PAIRS:  # written last: an interrupted start begins again
        log.info("simulating %d clips of %g s and %d segmentation pairs", CLIPS, SECONDS, PAIRS)
        simulate.write_clips(folder / "videos", folder / "truth", CLIPS, seconds=SECONDS)
        simulate.write_pairs(folder / "pairs", PAIRS)
    ingest.run(config)
    for method in METHODS:
        chosen = config.model_copy(update={"selection": config.selection.model_copy(update={"method": method})})
        for job in (choose, pretrain, evaluate):
            job.run(chosen)
    report.run(config)
    log.info("done in %d s: open %s", monotonic() - began, report.address(config))


def placed(config: Config, folder: Path) -> Config:
    """`config` with everything in the demo's folder."""
    videos = config.videos.model_copy(update={"uri": str(folder / "videos")})
    store = config.store.model_copy(update={"uri": str(folder / "store")})
    pairs = config.evaluate.model_copy(update={"uri": str(folder / "pairs")})
    frames = config.frames.model_copy(update={"every_s": 0.5})  # the clips are short
    return config.model_copy(update={"videos": videos, "frames": frames, "store": store, "evaluate": pairs})
