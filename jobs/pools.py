"""The pools of an ingest on Ray by the times that the job plan left in the store: read when an ingest begins, not measured by it.

Measuring takes minutes, which little video is not worth; and pools depend on the cluster of the day, so it is the times that are kept.
Without them, or with those of other settings, the ranges of the job hold, within which Ray makes pools larger while they are behind.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

import fsspec

from engine import flow, plan
from engine.config import Config
from engine.flow import Step
from engine.plan import Service
from engine.store import PatchStore

log = logging.getLogger("jobs.pools")
NAME = "plan.json"  # in the store


def settings(config: Config) -> str:
    """Twelve hex digits of all that the times depend on beside the machine: the knobs of the stages, but not which weights they load."""
    difficulty = config.difficulty.model_copy(update={"checkpoint": ""})
    sections = [section.fingerprint() for section in (config.frames, config.patches, difficulty)]
    return hashlib.sha256(" ".join(sections).encode()).hexdigest()[:12]


def left(store: PatchStore) -> dict[str, Any]:
    """What the job plan left in a store: settings, gpu, services; nothing where it was not run."""
    if not store.holds(NAME):
        return {}
    with fsspec.open(store.address(NAME), "rb") as file:
        return dict(json.load(file))


def kept(store: PatchStore) -> list[Service]:
    """The times that the job plan left in a store; none where it was not run."""
    return plan.from_data(left(store).get("services", []))


def sized(config: Config, store: PatchStore, steps: Sequence[Step]) -> list[Step]:
    """The steps with the pools that suit the cluster by the measured times; the steps as they are where there are none for them."""
    if config.where != "ray" or not (held := left(store)):
        return list(steps)
    cpus, gpus = flow.resources(steps)
    services = plan.from_data(held["services"])
    same = held["settings"] == settings(config) and held["gpu"] == (gpus > 0)
    if not same or [service.stage for service in services] != [step.stage.__name__ for step in steps]:
        log.info("%s holds times of other settings or hardware, so the pools are the usual ones; the job plan measures anew", NAME)
        return list(steps)
    made = plan.plan(services, cpus, gpus)
    log.info("pools by measured times: %s", ", ".join(f"{pool.service.stage} {pool.actors}" for pool in made.pools))
    return flow.pooled(steps, [pool.actors for pool in made.pools])
