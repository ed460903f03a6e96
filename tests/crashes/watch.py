"""python -m tests.crashes.watch FOLDER STORE CHECKPOINT [knob=value ...]: the job watch until nothing is left, struck down as told.

The process that works is struck as ENDOCURATE_STRIKE says, once; the job itself goes on. A video whose file name begins with `poison` is
decoded by a stage that does what the name says next: `exits`, `hangs`, `raises`, and tells its name all the while, or `vanishes`. While one
that `changes` is decoded the hidden file of the same name takes its place.
"""

import logging
import os
import sys
import time
import warnings

from engine.frames import DecodeFrames
from engine.knobs import amend
from jobs import ingest, quiet, watch
from tests.crashes import strikes
from tests.crashes.ingest import config_of

KNOBS = ["watch.settle_s=0.1", "watch.look_s=0.2", "watch.batch_s=0", "watch.backoff_s=0.1", "watch.backoff_most_s=0.1", "watch.once=true"]


class PoisonedDecoder(DecodeFrames):
    """The decoder, which some files get the better of."""

    def __call__(self, videos):
        for uri in videos["uri"].to_pylist():
            how = os.path.basename(uri)
            if how.startswith("poison-exits"):
                os._exit(9)
            if how.startswith("poison-hangs"):
                time.sleep(10_000)
            if how.startswith("poison-raises"):
                warnings.warn(f"a library is worried about {uri}", stacklevel=1)
                logging.getLogger("library").warning("it is %s", uri)
                raise ArithmeticError(f"a bug that this file alone meets: {uri}")
            if how.startswith("poison-vanishes"):
                os.remove(uri)
        for made in super().__call__(videos):
            yield made
            for uri in videos["uri"].to_pylist():
                change(uri)


def change(uri):
    folder, name = os.path.split(uri)
    if name.startswith("poison-changes") and os.path.exists(f"{folder}/.{name}"):
        os.replace(f"{folder}/.{name}", uri)


def armed(config, past, line):
    ingest.WriteRows, ingest.DecodeFrames = strikes.StruckWriteRows, PoisonedDecoder
    strikes.arm_committer()
    watch.rounds(config, past, line)


def main(folder: str, store: str, checkpoint: str, *knobs: str) -> None:
    config = amend(config_of(folder, store, checkpoint, "here"), [*KNOBS, *knobs])
    quiet.begin(config.watch.log)  # as the command line does
    watch.run(config, armed)


if __name__ == "__main__":
    from tests.crashes import watch as itself  # by the name that the spawned process finds it under

    itself.main(*sys.argv[1:])
