"""The tables as SQL sees them."""

from typing import Any, ClassVar

import lance
import pyarrow as pa

from engine.store.tables import ALIKE, DRIFT, ENDURING, TABLES, Tables

OF_THE_LEDGER = "video_id IN (SELECT video_id FROM videos)"  # a run that died may have left frames
CHOSEN_HERE = "selection_id IN (SELECT selection_id FROM selections)"
MARKED = "patch_id IS NOT NULL"  # the others say which videos were looked at


class SQLView(lance.LanceDataset):  # type: ignore[misc]
    """A table as DuckDB may see it: without the float16 columns, whose mere presence it refuses."""

    HIDDEN: ClassVar[frozenset[str]] = frozenset({"embedding"})

    @property
    def schema(self) -> pa.Schema:
        """The columns that SQL may name."""
        fields = super().schema
        return pa.schema([field for field in fields if field.name not in self.HIDDEN])

    def scanner(self, columns: Any = None, **rest: Any) -> lance.LanceScanner:
        """The same; DuckDB names no columns where it wants all, by which Lance would mean the hidden one too."""
        return super().scanner(columns=self.schema.names if columns is None else columns, **rest)


class NamelessView(SQLView):
    """The same for whoever only looks: without the addresses of sources, which may name a patient."""

    HIDDEN = SQLView.HIDDEN | {"uri"}


def views(tables: Tables, kind: type[SQLView] = SQLView) -> dict[str, SQLView]:
    """Every table of a store at its newest complete version, by name; LookupError where there is none yet."""
    names = [name for name in ("patches", *TABLES) if name != "locks" and tables.has(name)]
    names += filter(tables.is_made, ENDURING)
    if not names:
        raise LookupError(f"the store {tables.uri} has no tables yet: run the job ingest first")
    versions = {"patches": tables.complete_version()} if "videos" in names else {}
    opened = {name: tables.open(name, versions.get(name)) for name in names}  # refuses another schema and what is damaged
    return {name: kind(table.uri, version=table.version) for name, table in opened.items()}


def conditions(tables: Tables, version: int | None) -> dict[str, str]:
    """What rows of which table SQL may see: all that the ledger vouches for, or vouched for at a `version` of the patch table."""
    of_the_ledger = {"frames": OF_THE_LEDGER} if tables.has("frames") and tables.has("videos") else {}
    made = {name: f"patches_version <= {version}" for name in (ALIKE, DRIFT) if version is not None and tables.is_made(name)}
    marked = {ALIKE: " AND ".join([MARKED, *([made[ALIKE]] if made else [])])} if tables.is_made(ALIKE) else {}
    if version is None:
        return of_the_ledger | marked
    limited = {"videos": f"patches_version <= {version}"} | of_the_ledger | made | marked
    if tables.has("selections"):
        limited |= {"selections": f"patches_version <= {version}"} | ({"images": CHOSEN_HERE} if tables.has("images") else {})
    return limited
