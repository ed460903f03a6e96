"""How long what arrives takes until its rows can be asked for: of every batch, and of the last ones."""

import logging
from collections import deque
from statistics import median
from time import monotonic, time

import pyarrow as pa

from engine import tracking
from engine.inbox import Inbox

log = logging.getLogger("jobs.watch")
LAST = 1000  # videos


class Latency:
    """Tells of each batch in a line: what it came to, and the seconds from the first look that saw a source to the commit of its rows."""

    def __init__(self, inbox: Inbox, record: tracking.Run) -> None:
        self.inbox, self.record, self.batches = inbox, record, 0
        self.last: deque[float] = deque(maxlen=LAST)

    def tell(self, rows: pa.Table) -> None:
        """Of the ledger rows of a batch, right after their commit."""
        now = monotonic()
        took = [now - self.inbox.waiting[uri].arrived for uri in rows["uri"].to_pylist()]
        if not took:
            return  # nothing but what was replaced or forgotten
        self.batches += 1
        self.last.extend(took)
        refused, patches = len(rows) - rows["reason"].null_count, sum(rows["patches"].to_pylist())
        middle, worst = median(took), max(took)
        log.info(
            "batch %d: %d videos, %d with a reason, %d patches · from arrival to rows %.1f s, at worst %.1f s"
            " · of the last %d: %.1f s, %.1f s · %d wait",
            *(self.batches, len(rows), refused, patches, middle, worst, len(self.last), median(self.last), max(self.last)),
            len(self.inbox.waiting) - len(rows),
        )
        numbers = {"videos": len(rows), "refused": refused, "patches": patches, "latency_median_s": middle, "latency_worst_s": worst}
        self.record.log({f"watch/{name}": value for name, value in numbers.items()}, step=int(time()))  # which goes on after a restart
