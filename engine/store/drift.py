"""What was found about the video of a day of a source, beside all before: a row for every quantity, replaced when more of that day came.

A source is a folder, and told by a hash of its path under a key of this store: names can be guessed, and their plain hashes held beside
those that stand in a report, a metric or a log. Who has the store has the key, and the ledger's paths with it.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import date, timedelta

import pyarrow as pa

from engine import schema
from engine.store.commits import committing, exchange
from engine.store.tables import DRIFT, Tables, quoted
from engine.store.tombstones import forgotten

COLUMNS = pa.schema(
    [
        schema.text("source", nullable=False),  # hash of the folder, see `source`
        schema.text("day", nullable=False),  # UTC, on which it was taken in
        schema.text("quantity", nullable=False),
        pa.field("videos", pa.int64(), False),  # of that day
        schema.text("video_ids", nullable=False),  # theirs, with spaces between
        pa.field("pool", pa.int64(), False),  # videos of earlier days that they were held beside
        pa.field("distance", pa.float64(), False),  # 0 to 1, see drift.Profile
        pa.field("threshold", pa.float64()),  # from which it is an alarm; null: too few videos for any
        pa.field("chance", pa.float64(), False),  # that some quantity is as far where nothing changed
        pa.field("alarm", pa.bool_(), False),
        schema.text("reason"),  # in words; null: no alarm
        pa.field("patches_version", pa.int64(), False),
        pa.field("looks", pa.int64()),  # at this day so far
        pa.field("allowed", pa.float64()),  # chance from which down this look was an alarm: what it was given of the rate of the day
        pa.field("over", pa.bool_()),  # the day was over, and all of its rate is spent
    ]
)
LATELY = timedelta(days=7)  # before the newest day of all: who sent nothing for so long is unlike nobody now; our choice
KEY = b"endocurate_key"  # among the metadata of the table
# Columns that older tables lack, whose days are spent.
LATER = {"looks": "cast(1 as bigint)", "allowed": "cast(0.0 as double)", "over": "true"}


def key(tables: Tables) -> bytes:
    """The secret of this store under which folders are hashed: made with the table, by one of all who try at once."""
    if not tables.is_made(DRIFT):
        tables.make(DRIFT, COLUMNS.with_metadata({KEY.decode(): secrets.token_hex(32)}))
    dataset = tables.open(DRIFT)
    if not is_current(dataset.schema):
        with committing(tables) as lease:
            dataset = tables.open(DRIFT)  # another may have been faster
            lease.check()
            if "looks" not in dataset.schema.names:
                dataset.add_columns(LATER)
            if KEY not in (dataset.schema.metadata or {}):
                dataset.update_schema_metadata({KEY.decode(): secrets.token_hex(32)})
        dataset = tables.open(DRIFT)
    return bytes.fromhex(dataset.schema.metadata[KEY].decode())


def is_current(columns: pa.Schema) -> bool:
    """Whether a table has a key and all columns; those of older engines have neither."""
    return KEY in (columns.metadata or {}) and "looks" in columns.names


def source(key: bytes, folder: str) -> str:
    """Twelve hex digits for a folder: they tell folders apart, and only who has the key can try what they are called."""
    return hmac.new(key, folder.encode(), hashlib.sha256).hexdigest()[:12]


def bare(folder: str) -> str:
    """The hash without a key, by which older engines told a folder."""
    return hashlib.sha256(folder.encode()).hexdigest()[:12]


def rename(tables: Tables, names: Mapping[str, str]) -> None:
    """Tell sources by other hashes from now on, {before: now}, in rows and in their reasons; twice is once."""
    if not set(found(tables)["source"].to_pylist()) & set(names):
        return
    with committing(tables) as lease:
        old = f"source IN ({quoted(sorted(names))})"
        rows = tables.open(DRIFT).to_table(filter=old).to_pylist()
        for row in rows:
            before, row["source"] = row["source"], names[row["source"]]
            row["reason"] = row["reason"] and row["reason"].replace(before, row["source"])
        exchange(tables, DRIFT, pa.Table.from_pylist(rows, COLUMNS), old, lease)


def found(tables: Tables) -> pa.Table:
    """All rows, by day, source and quantity; empty where nobody looked."""
    rows = tables.open(DRIFT).to_table() if tables.is_made(DRIFT) else COLUMNS.empty_table()
    return rows.sort_by([(name, "ascending") for name in ("day", "source", "quantity")])


def enter(tables: Tables, rows: pa.Table) -> None:
    """Put the rows (COLUMNS) of one source and day in place of those there are; nothing where a video of it was forgotten meanwhile."""
    key(tables)
    source, day, videos = (rows[name][0].as_py() for name in ("source", "day", "video_ids"))
    with committing(tables) as lease:
        if forgotten(tables) & set(videos.split()):
            return
        mine = f"source = {quoted([source])} AND day = {quoted([day])}"
        exchange(tables, DRIFT, schema.check(rows, COLUMNS, DRIFT), mine, lease)


def standing(tables: Tables, today: str) -> dict[str, str]:
    """Why each source is unlike what came before whose newest day is, the newest last, but for those that sent nothing for LATELY.

    Days after `today` are of a clock that was wrong: the newest day would be one of theirs for years.
    """
    rows = [row for row in found(tables).to_pylist() if row["day"] <= today]  # by day
    newest = {row["source"]: row["day"] for row in rows}
    since = date.fromisoformat(rows[-1]["day"]) - LATELY if rows else date.min
    mine = [row for row in rows if row["day"] == newest[row["source"]] and date.fromisoformat(row["day"]) >= since]
    return {row["source"]: str(row["reason"]) for row in mine if row["alarm"]}
