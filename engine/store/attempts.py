"""What the job watch is trying, on disk before it is tried: whoever comes after a death finds there what was under way.

A source is known by its name (`listing.name_of`), behind it the inbox it was found in, since several may be taken into one store.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from engine import schema
from engine.store.tables import ATTEMPTS, Tables, quoted


def begun(tables: Tables) -> dict[str, int]:
    """How often each was tried alone, of those that were neither taken in nor abandoned by will, by key; 0: only with others."""
    if not tables.is_made(ATTEMPTS):
        return {}
    return {row["key"]: row["tries"] for row in tables.open(ATTEMPTS).to_table().to_pylist()}


def of(name: str, inbox: str) -> str:
    """The key of a source in an inbox, both as 16 hex digits."""
    return f"{name}@{inbox}"


def begin(tables: Tables, tries: Mapping[str, int]) -> None:
    """Write down that these are about to be tried, how often alone with this time; LookupError where there is no store, or it is away."""
    if not tables.is_made(ATTEMPTS):
        tables.open("videos")  # else a table would be made in the place of a store that is away, and words be lost in it
        tables.make(ATTEMPTS, schema.ATTEMPTS)
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    rows = pa.table({"key": list(tries), "tries": list(tries.values()), "at": [now] * len(tries)}, schema.ATTEMPTS)
    tables.open(ATTEMPTS).merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(rows)


def end(tables: Tables, keys: Sequence[str]) -> None:
    """These are not under way any more, and what was counted of them is forgotten. LookupError where nothing was ever begun."""
    if keys:
        tables.open(ATTEMPTS).delete(f"key IN ({quoted(keys)})")


def forget(tables: Tables, names: Sequence[str]) -> None:
    """The same of these sources in whichever inbox they were found, rows of older engines too, which tell none."""
    if names:
        tables.open(ATTEMPTS).delete(f"split_part(key, '@', 1) IN ({quoted(names)})")
