"""Let quarantined video be tried again: its row leaves the ledger, and a watcher or the next ingest takes it in as if it were new."""

from engine import tracking
from engine.config import Config
from engine.store import PatchStore, quarantine
from jobs import output


def run(config: Config, name: str) -> None:
    """Requeue the video whose id begins so, or `all`, and show what was done."""
    output.give(quarantine.requeue(PatchStore(config.store.uri), name, tracking.code_commit()), config.output)
