"""How it stands with what followed the batches: which sources are unlike what came before, and what training again would be worth."""

from typing import Any

from engine.config import Config
from engine.store import PatchStore, drift
from jobs import worth
from jobs.drift import today


def told(config: Config) -> dict[str, Any]:
    """As it is told over the line, see news; nothing of it is a name."""
    unlike = drift.standing(PatchStore(config.store.uri), today())
    both = worth.pair(config)
    gain = worth.told(config, both) if both else None
    newest = next(reversed(unlike.values()), None)
    return {"unlike": len(unlike), "drift": newest, "gain": gain, "worth": gain is not None and gain >= config.watch.gain}
