"""Rows of the tables by SQL."""

from engine.config import Config
from engine.store import PatchStore
from jobs import output


def run(config: Config, sql: str) -> None:
    """Give what the SELECT finds."""
    output.give(PatchStore(config.store.uri).query(sql), config.output)
