"""The tables as SQL sees them."""

import lance
import pyarrow as pa

from engine.store.tables import TABLES, Tables


class SQLView(lance.LanceDataset):  # type: ignore[misc]
    """A table as DuckDB may see it: without the float16 columns, whose mere presence it refuses."""

    @property
    def schema(self) -> pa.Schema:
        fields = super().schema
        return pa.schema([field for field in fields if field.name != "embedding"])


def views(tables: Tables) -> dict[str, SQLView]:
    """Every table of a store at its newest complete version, by name."""
    versions = {"patches": tables.complete_version()} if tables.has("videos") else {}
    names = [name for name in ("patches", *TABLES) if name != "locks" and tables.has(name)]
    return {name: SQLView(tables.address(f"{name}.lance"), version=versions.get(name)) for name in names}
