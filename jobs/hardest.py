"""The patches that are hardest for the scorer."""

from engine.config import Config
from engine.store import PatchStore
from jobs import output


def run(config: Config) -> None:
    """Give the lookup.k hardest patches among those of lookup.where."""
    output.give(PatchStore(config.store.uri).hardest(config.lookup.k, config.lookup.where), config.output)
