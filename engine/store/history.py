"""What the patch table was: its complete versions by number or tag, what came and went between two, and where each came from.

What a version held is told by the ledger, the journal and the selections, which stay when old versions are cleaned; only the names of
operations and the moments of versions come from Lance, as far as it still has them.
"""

import json
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import lance
import pyarrow as pa

from engine import schema, sql
from engine.store.tables import Tables, quoted
from engine.store.views import SQLView

HISTORY = pa.schema(
    [
        pa.field("version", pa.int64()),  # of the patch table
        schema.text("at"),  # UTC, ISO 8601; null where nothing tells it any more
        schema.text("what", nullable=False),  # intake, selection, a job of the journal, or an operation of Lance
        schema.text("subject"),
        pa.field("videos", pa.int64()),
        pa.field("patches", pa.int64()),
        schema.text("fingerprint"),
        schema.text("commit"),
        pa.field("opens", pa.bool_(), False),  # whether `at` still opens this version
    ]
)
DIFFERENCE = """SELECT patch_id, split_part(patch_id, '@', 1) AS video_id, 'came' AS change FROM newer ANTI JOIN older USING (patch_id)
UNION ALL SELECT patch_id, split_part(patch_id, '@', 1), 'went' FROM older ANTI JOIN newer USING (patch_id) ORDER BY patch_id"""
MOVES = """SELECT patch_id, split_part(patch_id, '@', 1) AS video_id,
CASE WHEN o.rank IS NULL THEN 'came' WHEN n.rank IS NULL THEN 'went' ELSE 'stayed' END AS change,
o.rank AS older_rank, n.rank AS newer_rank FROM older o FULL JOIN newer n USING (patch_id) ORDER BY patch_id"""
PER_VIDEO = """SELECT video_id, count(*) FILTER (change = 'came') AS came, count(*) FILTER (change = 'went') AS went
FROM patches GROUP BY video_id HAVING came + went > 0 ORDER BY video_id"""


OPERATIONS = {"Overwrite": "creation", "Append": "append", "Delete": "deletion", "Rewrite": "compaction", "CreateIndex": "index"}


@dataclass(frozen=True)
class Difference:
    """What changed between two versions or two selections, from the older, named first, to the newer."""

    patches: pa.Table  # patch_id, video_id, change: came or went; of selections also stayed, and older_rank, newer_rank
    videos: pa.Table  # video_id, came, went: how many, of those videos where any did


def resolve(tables: Tables, version: int | str) -> int:
    """The number of a complete version, given by it or by a tag; LookupError, in one sentence, for one that no reader may see."""
    tags = tables.open("patches").tags.list()
    if isinstance(version, str) and version in tags:
        return int(tags[version]["version"])
    if isinstance(version, str) and not version.isdecimal():
        raise LookupError(
            f"{tables.uri} has no selection and the patch table no tag {version!r}; it has {', '.join(sorted(tags)) or 'none'}"
        )
    found = complete(tables)
    if int(version) not in found:
        last = ", ".join(map(str, sorted(found)[-5:]))
        raise LookupError(f"the patch table of {tables.uri} has no complete version {version}; the last ones are {last}")
    if int(version) not in kept(tables.open("patches")):
        raise LookupError(
            f"version {version} of the patch table of {tables.uri} was cleaned away; in the ledger its videos have "
            f"patches_version <= {version}"
        )
    return int(version)


def complete(tables: Tables) -> set[int]:
    """The versions that readers were given: those of the ledger, of selections and of tags, and the empty first one."""
    found = {1, tables.complete_version(), *tables.ledger()["patches_version"].to_pylist()}
    found |= {int(tag["version"]) for tag in tables.open("patches").tags.list().values()}
    if tables.has("selections"):
        found |= set(tables.open("selections").to_table(columns=["patches_version"])["patches_version"].unique().to_pylist())
    return found


def kept(dataset: lance.LanceDataset) -> dict[int, str]:
    """The versions that were not cleaned away, and when they were made (UTC, ISO 8601)."""
    return {one["version"]: one["timestamp"].astimezone(UTC).isoformat(timespec="seconds") for one in dataset.versions()}


def diff(tables: Tables, older: int | str, newer: int | str) -> Difference:
    """What changed from one version of the patch table, or one selection, to another.

    ValueError where one is a selection and the other is not.
    """
    selections = [is_selection(tables, one) for one in (older, newer)]
    if any(selections) and not all(selections):
        other = (older, newer)[selections.index(False)]
        raise ValueError(f"{other!r} is no selection of {tables.uri}: two selections are compared, or two versions")
    if all(selections):
        patches = sql.select({"older": ranks(tables, str(older)), "newer": ranks(tables, str(newer))}, MOVES)
    else:
        address = tables.place("patches")
        numbers = {"older": resolve(tables, older), "newer": resolve(tables, newer)}
        patches = sql.select({name: SQLView(address, version=number) for name, number in numbers.items()}, DIFFERENCE)
    return Difference(patches, sql.select({"patches": patches}, PER_VIDEO))


def is_selection(tables: Tables, name: int | str) -> bool:
    """Whether it is the id of a selection; numbers and tags of versions are not."""
    if isinstance(name, int) or not tables.has("selections"):
        return False
    return bool(tables.open("selections").count_rows(f"selection_id IN ({quoted([name])})"))


def ranks(tables: Tables, selection_id: str) -> pa.Table:
    """Patch ids and ranks of a selection."""
    return tables.open("selections").to_table(columns=["patch_id", "rank"], filter=f"selection_id IN ({quoted([selection_id])})")


def history(tables: Tables) -> pa.Table:
    """What every version of the patch table came from, and what was made from it (HISTORY), oldest first."""
    moments = kept(tables.open("patches"))
    openable = complete(tables) & set(moments)
    rows = intakes(tables)
    rows += operations(tables, moments, {row["version"] for row in rows})
    rows += choices(tables)
    rows += deeds(tables, rows)
    whole = [dict.fromkeys(HISTORY.names) | row | {"opens": row["version"] in openable} for row in rows]
    return pa.Table.from_pylist(sorted(whole, key=lambda row: (row["version"] or 0, row["at"] or "")), HISTORY)


def intakes(tables: Tables) -> list[dict[str, Any]]:
    """One row per commit of the ingest job, from the ledger."""
    found = sql.select(
        {"videos": tables.ledger()},
        "SELECT patches_version AS version, max(ingested_at) AS at, count(*)::BIGINT AS videos, sum(patches)::BIGINT AS patches, "
        "string_agg(DISTINCT fingerprint, ', ') AS fingerprint, string_agg(DISTINCT \"commit\", ', ') AS commit, "
        "count(*) FILTER (reason = 'forgotten') AS forgotten FROM videos GROUP BY patches_version",
    ).to_pylist()
    return [row | {"what": "intake", "subject": f"{row['forgotten']} forgotten since" if row["forgotten"] else None} for row in found]


def operations(tables: Tables, moments: dict[int, str], known: set[int]) -> list[dict[str, Any]]:
    """What Lance still tells of versions that are no intake: compactions, indices, deletions, what a run that died left."""
    dataset, rows = tables.open("patches"), []
    for version in sorted(set(moments) - known):
        transaction = dataset.read_transaction(version)
        name = "unknown" if transaction is None else type(transaction.operation).__name__
        rows.append({"version": version, "at": moments[version], "what": OPERATIONS.get(name, name)})
    return rows


def choices(tables: Tables) -> list[dict[str, Any]]:
    """One row per selection: when it was made is told while Lance keeps the version of its table."""
    if not tables.has("selections"):
        return []
    dataset = tables.open("selections")
    moments, columns = kept(dataset), ["selection_id", "patch_id", "patches_version", "_row_created_at_version"]
    found = sql.select(
        {"chosen": dataset.scanner(columns=columns)},
        "SELECT selection_id AS subject, any_value(patches_version) AS version, count(*)::BIGINT AS patches, "
        "count(DISTINCT split_part(patch_id, '@', 1))::BIGINT AS videos, max(_row_created_at_version)::BIGINT AS made "
        "FROM chosen GROUP BY selection_id",
    )
    return [row | {"what": "selection", "at": moments.get(row["made"])} for row in found.to_pylist()]


def deeds(tables: Tables, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the journal, each at the newest version that was there by then."""
    if not tables.has("journal"):
        return []
    dated = [(row["at"], row["version"]) for row in rows if row["at"] is not None]
    found = []
    for row in tables.open("journal").to_table().to_pylist():
        version = max((version for at, version in dated if at <= row["at"]), default=1)
        step = json.loads(row["detail"]).get("step", "")
        what = f"{row['job']} {step}".strip()
        found.append({"version": version, "at": row["at"], "what": what, "subject": row["subject"], "commit": row["commit"]})
    return found
