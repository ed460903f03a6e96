"""The same numbers through Ray's own metrics endpoint, where `ray_` stands before each name: from its actors, and from a job's process."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from engine.metrics import KINDS, frames_of


class RayMeters:
    """As metrics.Meters, of this process; Ray must run."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Count more of a counter."""
        self.meter(name).inc(amount, tags=labels) if amount else None

    def put(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.meter(name).set(value, tags=labels)

    def see(self, name: str, value: float) -> None:
        """Put a value into a histogram."""
        self.meter(name).observe(value)

    def meter(self, name: str) -> Any:
        """Ray's own meter of a name of metrics.KINDS, made when it is first told something."""
        from ray.util import metrics

        if name not in self.made:
            kind = KINDS[name]
            make: Callable[..., Any] = {"counter": metrics.Counter, "gauge": metrics.Gauge, "histogram": metrics.Histogram}[kind.kind]
            buckets = {"boundaries": list(kind.buckets)} if kind.buckets else {}
            self.made[name] = make(name.removesuffix("_total"), description=kind.told, tag_keys=kind.labels, **buckets)
        return self.made[name]


def metered(stage: type) -> type:
    """The same stage, which counts for Ray the frames that come out of it."""

    class Metered(stage):  # type: ignore[misc, unused-ignore]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.meters = RayMeters()

        def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
            for made in super().__call__(table):
                yield made
                self.meters.add("endocurate_frames_total", frames_of(made), stage=stage.__name__)

    Metered.__name__ = stage.__name__  # by which Ray's dashboard calls the pool
    return Metered
