"""How long what arrives takes until its rows can be asked for: of every batch, and of the last ones."""

import logging
from collections import Counter, deque
from datetime import UTC, datetime
from statistics import median
from time import monotonic, time

import pyarrow as pa
import pyarrow.compute as pc

from engine import tracking
from engine.inbox import Inbox
from jobs.line import Line
from jobs.news import many

log, of_videos = logging.getLogger("jobs.watch"), logging.getLogger("jobs.videos")
LAST = 1000  # videos


class Latency:
    """Tells of each batch in a line: what it came to, and the seconds from the first look that saw a source to the commit of its rows."""

    def __init__(self, inbox: Inbox, record: tracking.Run, line: Line) -> None:
        self.inbox, self.record, self.line, self.batches = inbox, record, line, 0
        self.last: deque[float] = deque(maxlen=LAST)

    def tell(self, rows: pa.Table) -> None:
        """Of the ledger rows of a batch, right after their commit.

        What could not be read is not in the ledger for good: it is told when it is taken in, or set aside.
        """
        now, rows = monotonic(), rows.filter(pc.not_equal(pc.fill_null(rows["reason"], ""), "unreadable"))
        took = [now - self.inbox.waiting[uri].arrived for uri in rows["uri"].to_pylist()]
        if not took:
            return  # nothing but what was replaced, forgotten or not readable
        self.batches += 1
        self.last.extend(took)
        numbers = {"videos": len(rows), "refused": len(rows) - rows["reason"].null_count, "patches": sum(rows["patches"].to_pylist())}
        self.show(rows, took, numbers)
        reasons = Counter(reason or "none" for reason in rows["reason"].to_pylist())
        told = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "frames": sum(rows["frames"].to_pylist()), **numbers}
        self.line.tell("batch", told | {"reasons": dict(reasons), "latencies": took})
        middle = {"latency_median_s": median(took), "latency_worst_s": max(took)}
        self.record.log({f"watch/{name}": value for name, value in (numbers | middle).items()}, step=int(time()))  # goes on after a restart

    def show(self, rows: pa.Table, took: list[float], numbers: dict[str, int]) -> None:
        """A line of the batch, and for programs one of every video."""
        middle, worst = median(took), max(took)
        waiting = len(self.inbox.waiting) - len(rows)
        told = {"batch": self.batches, **numbers, "latency_median_s": round(middle, 3), "latency_worst_s": round(worst, 3)}
        log.info(
            "batch %d: %s, %d with a reason, %s · from arrival to rows %.1f s, at worst %.1f s · of the last %d: %.1f s, %.1f s · %d wait",
            *(self.batches, many(len(rows), "video"), numbers["refused"], many(numbers["patches"], "patch"), middle, worst),
            *(len(self.last), median(self.last), max(self.last), waiting),
            extra={"event": "batch", "told": told | {"waiting": waiting}},
        )
        for row, seconds in zip(rows.select(["video_id", "reason", "frames", "kept", "patches"]).to_pylist(), took, strict=True):
            said = row | {"batch": self.batches, "latency_s": round(seconds, 3)}
            of_videos.info("video %s: %s", row["video_id"], row["reason"] or "kept", extra={"event": "video", "told": said})
