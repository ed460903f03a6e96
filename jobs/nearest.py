"""The patches that look most like one."""

from engine.config import Config
from engine.store import PatchStore
from jobs import output


def run(config: Config, patch_id: str) -> None:
    """Give the lookup.k nearest patches among those of lookup.where, with their cosine distance."""
    output.give(PatchStore(config.store.uri).nearest(patch_id, config.lookup.k, config.lookup.where), config.output)
