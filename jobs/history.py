"""What every version of the patch table came from."""

from engine.config import Config
from engine.store import PatchStore
from jobs import output


def run(config: Config) -> None:
    """Give the history, oldest first."""
    output.give(PatchStore(config.store.uri).history(), config.output)
