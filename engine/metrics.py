"""What a job counts and measures while it runs, for Prometheus to scrape. Only home of prometheus_client.

Names follow its conventions: base units, `_seconds`, `_bytes`, and `_total` behind what only grows, so that rate() of it is a speed. Labels
take few values, and none is of a video: a stage, a table, a reason of the ledger. `flow` gives the same names to Ray.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of `Meters.text`
LATENCIES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)  # seconds: from a short clip at rest to a night's backlog


class Kind(NamedTuple):
    """One number: what it is, in words, and what it is told apart by."""

    kind: str  # counter, gauge or histogram
    told: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


KINDS = {
    "endocurate_frames_total": Kind("counter", "Frames that came out of a stage.", ("stage",)),
    "endocurate_videos_total": Kind("counter", "Videos entered in the ledger for good, by its reason; none: kept.", ("reason",)),
    "endocurate_patches_total": Kind("counter", "Patches that were committed."),
    "endocurate_batches_total": Kind("counter", "Batches that were committed."),
    "endocurate_latency_seconds": Kind("histogram", "From the first look that saw a source to its rows.", (), LATENCIES),
    "endocurate_backlog_sources": Kind("gauge", "Sources in the inbox that are not taken in; 100,000 at most."),
    "endocurate_quarantined_sources": Kind("gauge", "Sources that are set aside."),
    "endocurate_failed_tries_total": Kind("counter", "Batches that failed while store and server answered."),
    "endocurate_outages_total": Kind("counter", "Times that something was found away, by what.", ("reason",)),
    "endocurate_worker_ends_total": Kind("counter", "Processes that ended without being asked to, by how.", ("reason",)),
    "endocurate_setbacks_total": Kind("counter", "Failures of what follows a batch, by kind of error.", ("step", "reason")),
    "endocurate_failing_steps": Kind("gauge", "Steps of what follows a batch that failed when they were last tried."),
    "endocurate_ready": Kind("gauge", "1 where the watcher is able to take in what arrives."),
    "endocurate_table_version": Kind("gauge", "Newest version of a table.", ("table",)),
    "endocurate_drifted_sources": Kind("gauge", "Sources whose newest video is unlike what came before."),
    "endocurate_training_gain_ratio": Kind("gauge", "What training again is estimated to gain over the newest model; 0: none."),
    "endocurate_training_worth": Kind("gauge", "1 where that is watch.gain or more."),
    "endocurate_worker_memory_bytes": Kind("gauge", "Resident memory of the process that works."),
    "endocurate_store_free_bytes": Kind("gauge", "Room on the disk that the store lies on."),
    "endocurate_gpu_used_ratio": Kind("gauge", "Share of the time that a GPU of this machine was at work.", ("gpu",)),
    "endocurate_gpu_memory_used_bytes": Kind("gauge", "Memory of a GPU that is taken.", ("gpu",)),
}
Reading = tuple[str, float, dict[str, str]]  # a gauge, its value, its labels


class Meters:
    """The numbers of one process; `ask` is called at every scrape for gauges that nobody tells.

    Counters without labels are there from the start, with 0, and so are those with the labels of `known`: of one that appears with its
    first count Prometheus knows no 0 before, so that its increase() misses just that count.
    """

    def __init__(self, ask: Callable[[], Iterable[Reading]], known: Mapping[str, Iterable[dict[str, str]]] = MappingProxyType({})) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry, self.ask = CollectorRegistry(), ask  # none of the process: those would be of the wrong one
        makers: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self.made: dict[str, Any] = {}
        for name, kind in KINDS.items():
            buckets = {"buckets": kind.buckets} if kind.buckets else {}
            self.made[name] = makers[kind.kind](name, kind.told, kind.labels, registry=self.registry, **buckets)
            for labels in known.get(name, ()):
                self.of(name, labels)

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Count more of a counter."""
        self.of(name, labels).inc(amount)

    def put(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.of(name, labels).set(value)

    def see(self, name: str, value: float) -> None:
        """Put a value into a histogram."""
        self.made[name].observe(value)

    def of(self, name: str, labels: dict[str, str]) -> Any:
        """prometheus_client's own meter with these labels."""
        return self.made[name].labels(**labels) if labels else self.made[name]

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        from prometheus_client import generate_latest

        for name, value, labels in self.ask():
            self.put(name, value, **labels)
        return bytes(generate_latest(self.registry))


def gpus() -> Iterator[Reading]:
    """Use and memory of each GPU of this machine, where NVIDIA's library is there and answers."""
    try:
        import pynvml  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            labels = {"gpu": str(number)}
            yield "endocurate_gpu_used_ratio", pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100, labels
            yield "endocurate_gpu_memory_used_bytes", float(pynvml.nvmlDeviceGetMemoryInfo(handle).used), labels
    except pynvml.NVMLError:
        return


def frames_of(table: pa.Table) -> float:
    """The frames of a stage's rows: each patch is its share of its frame, so that one which is spread over several tables counts once."""
    if "frame_id" not in table.column_names:
        return 0.0
    rows = table.filter(pc.is_valid(table["frame_id"]))
    if "fragment" in rows.column_names:  # schema.WRITTEN, a row for all patches of a frame
        return sum(shares(rows["patches"], rows["expected"]))
    if "patch_id" not in rows.column_names:
        return float(len(rows))
    return sum(shares(rows["patch_id"].is_valid().cast(pa.int32()), rows["expected"]))


def shares(patches: pa.ChunkedArray, expected: pa.ChunkedArray) -> Iterator[float]:
    """Of a frame without patches all."""
    return (there / whole if there else 1.0 for there, whole in zip(patches.to_pylist(), expected.to_pylist(), strict=True))
