"""A local web page to look into a store: its patches, frames, videos, selections, and why they are there."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engine.browser import server
from engine.browser.answers import Answers
from engine.browser.footage import Footage
from engine.browser.guard import is_here
from engine.config import Config, FramesConfig
from engine.explain import Explainer, Runs
from engine.knobs import amend
from engine.store import PatchStore
from jobs import explain

SECONDS = 5.0  # that the runs of MLflow stay as they were: fetching all of them takes as long as the rest of an answer
log = logging.getLogger("jobs.browse")


def run(config: Config) -> None:
    """Serve the page until interrupted; what may be changed is said."""
    store = PatchStore(config.store.uri)
    runs = lasting(partial(explain.Runs, config), SECONDS)
    answers = Answers(store, config, runs, Footage(store, partial(limits, store, config, runs)))
    answers.looks.sheet()  # a store that cannot be read is refused before anybody looks
    answers.questions.warm()
    try:
        server.serve(config.browse, answers, partial(say, config))
    except KeyboardInterrupt:
        log.info("closed")


def say(config: Config, address: str) -> None:
    """Print the address, and log what whoever opens it should know."""
    print(f"{config.store.uri} is shown at {address}", flush=True)
    if not is_here(config.browse.host):
        log.warning("whoever has this address sees the pictures of the store, and on its way they are not encrypted: prefer an SSH tunnel")
    log.info("tags and selections may be made" if config.browse.write else "nothing can be changed; --write allows tags and selections")


def lasting(ask: Callable[[], Runs], seconds: float) -> Callable[[], Runs]:
    """The same for so many seconds: one page asks for the runs several times; what began meanwhile is told that much later."""
    lock = threading.Lock()
    held: list[tuple[float, Runs]] = []

    def asked() -> Runs:
        with lock:
            if not held or time.monotonic() - held[0][0] > seconds:
                found = ask()
                held[:] = [(time.monotonic(), found)]
            return held[0][1]

    return asked


def limits(store: PatchStore, config: Config, runs: Callable[[], Runs], video_id: str) -> FramesConfig:
    """The gate's thresholds that took a video in; those of this command where MLflow does not know them any more."""
    taken: Mapping[str, Any] = Explainer(store, runs()).knobs(video_id)
    return amend(config, [f"{knob}={value}" for knob, value in taken.items() if knob.startswith("frames.")]).frames
