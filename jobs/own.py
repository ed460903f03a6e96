"""What this engine keeps below videos.uri, as a store that lies there: no video, and taken in by nobody."""

import logging
from collections.abc import Callable
from functools import partial

import pyarrow as pa

from engine import tracking
from engine.config import Config
from engine.files import locate
from engine.listing import below_it
from jobs.found import find
from jobs.spelling import names_below

log = logging.getLogger("jobs.own")


def places(config: Config) -> tuple[str, ...]:
    """The store and the files of MLflow, as far as they lie below videos.uri, by the addresses that a listing gives them.

    OSError where there is no such kind of address.
    """
    return below_it(config.videos.uri, [config.store.uri, *tracking.kept_in(config)])


def found(config: Config) -> pa.Table:
    """The sources (schema.SOURCE) below videos.uri, sorted by uri, but for what is ours; FileNotFoundError or OSError as `find`."""
    return find(config.videos.uri, places(config))


def tell(config: Config) -> None:
    """Say that there is something of ours, and that it is left out."""
    if places(config):
        log.info("what this engine keeps below videos.uri (the store, or files of MLflow) is no video: it is left out")


def namer(config: Config) -> Callable[[str], bool]:
    """Whether a text names something below videos.uri that is not ours. OSError where there is no such kind of address."""
    return partial(names_below, locate(config.videos.uri)[1], but=places(config))
