"""What the process that works tells of itself over its line, and what meters make of it.

| word | said with it |
|---|---|
| standing by, watching | |
| busy, idle, making up, made up, keeping up, kept up, alive | |
| looked, left | backlog, unread (of it what could not be read), quarantined: how many, after a look and after a batch |
| waits, goes on | what is away: store, MLflow, disk, inbox, cluster or nodes |
| failed | |
| follows | the step of what follows that is begun, "" at its end |
| setback | step, reason: the kind of error |
| setbacks | the steps that fail, with tries and the reason in words |
| took | seconds of the steps of what follows, by step: the longest that went well |
| frames | a stage, and how many came out of it |
| batch | at, batch, videos, refused, patches, frames, reasons: how many of each, latencies: seconds of each video |
| versions | the newest of each table |
| stands | unlike: how many sources are, drift: the newest alarm in words, gain: estimated of training again, worth: whether it is |

None of it is a name, and of each thing are few.
"""

from collections.abc import Callable
from typing import Any, Protocol

TABLES = ("patches", "frames", "videos")
AWAY = ("store", "MLflow", "disk", "inbox", "cluster", "nodes")
ENDS = ("silent", "signal", "code")
STAGES = ("DecodeFrames", "ProposePatches", "ScoreDifficulty", "ScoreContrast", "WriteRows", "commit")
REASONS = (  # of the ledger, and of what is left out of it
    *("none", "quarantined", "replaced", "unreadable", "empty", "truncated", "damaged", "encrypted", "no frames", "no video stream"),
    *("not a video", "too large", "too small", "unsupported codec", "unsupported pixels", "unsupported transfer syntax", "no pixel data"),
    "encapsulated document",
)
KNOWN: dict[str, list[dict[str, str]]] = {  # what counters are told apart by; kinds of errors, of setbacks, nobody knows before
    "endocurate_frames_total": [{"stage": one} for one in STAGES],
    "endocurate_videos_total": [{"reason": one} for one in REASONS if one not in ("unreadable", "replaced")],  # which are tried again
    "endocurate_outages_total": [{"reason": one} for one in AWAY],
    "endocurate_worker_ends_total": [{"reason": one} for one in ENDS],
}


class Takes(Protocol):
    """Meters of either kind."""

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Count more of a counter."""

    def put(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def see(self, name: str, value: float) -> None:
        """Put a value into a histogram."""


def measure(meters: Takes, word: str, said: Any) -> None:
    """Count what was told."""
    if word in MEASURES:
        MEASURES[word](meters, said)


def measure_backlog(meters: Takes, said: dict[str, int]) -> None:
    """Sources that wait, and those set aside."""
    meters.put("endocurate_backlog_sources", said["backlog"])
    meters.put("endocurate_quarantined_sources", said["quarantined"])


def measure_versions(meters: Takes, said: dict[str, int]) -> None:
    """The version of every table."""
    for table, version in said.items():
        meters.put("endocurate_table_version", version, table=table)


def measure_standing(meters: Takes, said: dict[str, Any]) -> None:
    """Sources that have drifted, what training again would gain, and whether it is worth it (0 or 1)."""
    meters.put("endocurate_drifted_sources", said["unlike"])
    meters.put("endocurate_training_gain_ratio", said["gain"] or 0.0)
    meters.put("endocurate_training_worth", said["worth"])


def measure_batch(meters: Takes, said: dict[str, Any]) -> None:
    """What one batch took in, by reason, and seconds from arrival to the store."""
    meters.add("endocurate_batches_total", 1)
    meters.add("endocurate_patches_total", said["patches"])
    meters.add("endocurate_frames_total", said["frames"], stage="commit")
    for reason, count in said["reasons"].items():
        meters.add("endocurate_videos_total", count, reason=reason)
    for seconds in said["latencies"]:
        meters.see("endocurate_latency_seconds", seconds)


MEASURES: dict[str, Callable[[Takes, Any], None]] = {
    "batch": measure_batch,
    "looked": measure_backlog,
    "left": measure_backlog,
    "versions": measure_versions,
    "frames": lambda meters, said: meters.add("endocurate_frames_total", said[1], stage=said[0]),
    "failed": lambda meters, said: meters.add("endocurate_failed_tries_total", 1),
    "setback": lambda meters, said: meters.add("endocurate_setbacks_total", 1, **said),
    "setbacks": lambda meters, said: meters.put("endocurate_failing_steps", len(said)),
    "stands": measure_standing,
    "waits": lambda meters, said: meters.add("endocurate_outages_total", 1, reason=said),
}


def many(count: int, noun: str) -> str:
    """How many, in words: 1 video, 2 videos, 3 batches."""
    return f"{count} {noun}{'' if count == 1 else 'es' if noun.endswith('ch') else 's'}"
