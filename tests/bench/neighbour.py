"""python -m tests.bench.neighbour: one core kept as busy as the slowest stage of an ingest keeps it, until this is killed."""

import numpy as np

from engine import patches, plan
from jobs.recipes import tiny


def propose():
    """A call that finds the regions of a picture, and takes its time by the clock of `plan`."""
    found, _ = patches.load(tiny().patches)
    picture = np.random.default_rng(0).integers(1, 255, (240, 280, 3), np.uint8)

    def timed():
        began = plan.undisturbed()
        found(picture, "neighbour")
        return plan.undisturbed() - began

    return timed


if __name__ == "__main__":
    work = propose()
    print("at work", flush=True)
    while True:
        work()
