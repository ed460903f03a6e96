"""Upkeep of the store: an older one is migrated, small files are merged, indices made, and what nobody needs is removed."""

from engine import tracking
from engine.config import Config
from engine.store import PatchStore
from jobs import output


def run(config: Config) -> None:
    """Do what upkeep.* says and show what was done; safe while video is taken in, so it may be run by the clock."""
    output.give(PatchStore(config.store.uri).maintain(config.upkeep, tracking.code_commit()), config.output)
