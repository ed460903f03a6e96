"""What a process of a job says, and what its libraries do not."""

import logging
import os
import sys
import warnings


def begin() -> None:
    """Let the jobs tell what they do, with the time of day, and libraries only what is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("jobs").setLevel(logging.INFO)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # a damaged image is a row with a reason
    os.environ.setdefault("LANCE_LOG", "error")  # building an index, it tells of every cell that k-means left empty
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # Ray's own helpers fork; nothing of ours reads after a fork
    warnings.filterwarnings("ignore", category=FutureWarning)  # of libraries among themselves
