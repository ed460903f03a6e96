"""What was found about the video of a day of a source, beside all before: a row for every quantity, replaced when more of that day came."""

import pyarrow as pa
import pyarrow.compute as pc

from engine import schema
from engine.store.commits import committing, replace
from engine.store.tables import DRIFT, Tables, fragments_of, quoted
from engine.store.tombstones import forgotten

COLUMNS = pa.schema(
    [
        schema.text("source", nullable=False),  # hash of the folder, twelve hex digits
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
    ]
)


def found(tables: Tables) -> pa.Table:
    """All rows, by day, source and quantity; empty where nobody looked."""
    rows = tables.open(DRIFT).to_table() if tables.is_made(DRIFT) else COLUMNS.empty_table()
    return rows.sort_by([(name, "ascending") for name in ("day", "source", "quantity")])


def looked_at(tables: Tables) -> dict[tuple[str, str], set[str]]:
    """The videos of each source and day that were looked at."""
    return {(row["source"], row["day"]): set(row["video_ids"].split()) for row in found(tables).to_pylist()}


def enter(tables: Tables, rows: pa.Table) -> None:
    """Put the rows (COLUMNS) of one source and day in place of those there are; nothing where a video of it was forgotten meanwhile."""
    if not tables.is_made(DRIFT):
        tables.make(DRIFT, COLUMNS.with_metadata({"endocurate": str(schema.VERSION)}))
    source, day, videos = (rows[name][0].as_py() for name in ("source", "day", "video_ids"))
    with committing(tables) as lease:
        if forgotten(tables) & set(videos.split()):
            return
        fragments = fragments_of(tables.address(f"{DRIFT}.lance"), schema.check(rows, COLUMNS, DRIFT))
        tables.refuse_lost(DRIFT, fragments)
        replace(tables, DRIFT, fragments, f"source = {quoted([source])} AND day = {quoted([day])}", lease)


def alarms(tables: Tables) -> list[str]:
    """The reasons of all alarms, the newest first."""
    rows = found(tables)
    return [str(reason) for reason in reversed(rows.filter(pc.field("alarm"))["reason"].to_pylist())]
