"""How the watcher is, as the process that sees to it knows: it answers also where the one that works hangs or is dead."""

import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from engine.config import Config
from engine.metrics import TYPE, Meters, Reading, gpus
from jobs.latency import LAST
from jobs.news import KNOWN, measure

STALLED = 10.0  # seconds without a turn of the loop that sees to the one that works: it takes a fifth of one
LATELY = 60.0  # seconds, or three times watch.look_s: a watcher that looked so lately watches
DOING = {one: one for one in ("standing by", "watching", "busy", "making up")} | {"idle": "watching", "made up": "watching"}
NAMES = {
    "store": "the store",
    "MLflow": "MLflow",
    "disk": "the disk, which is full",
    "inbox": "the inbox",
    "cluster": "the Ray cluster, which has no room",
    "nodes": "nodes of the Ray cluster, which a batch needs",
}


class Health:
    """Hears what the one that works tells, and says what became of it."""

    def __init__(self, config: Config, clock: Callable[[], float] = monotonic) -> None:
        self.config, self.clock = config, clock
        self.turned = clock()  # when the loop last came round
        self.process: int | None = None  # the one that works, while it is alive
        self.doing, self.away = "starting", dict[str, None]()
        self.looked = self.heard = -np.inf
        self.numbers: dict[str, Any] = {
            "backlog": None,
            "unread": None,
            "quarantined": None,
            "versions": {},
            "last_batch": None,
            "worker_ends": 0,
        }
        self.numbers |= {"keeping_up": False, "setbacks": {}, "stands": None}
        self.sums = dict.fromkeys(("batches", "videos", "refused", "patches", "frames"), 0)
        self.latencies: deque[float] = deque(maxlen=LAST)
        self.meters = Meters(self.readings, KNOWN)

    def begins(self, process: int | None) -> None:
        """Another process begins to work."""
        self.process, self.doing, self.away = process, "starting", {}

    def ended(self, how: str) -> None:
        """It is gone, `how` if nobody asked it to."""
        self.process, self.doing, self.away = None, "starting", {}
        self.numbers["keeping_up"] = False
        if how:
            self.numbers["worker_ends"] += 1
            kind = "silent" if "silent" in how else "signal" if "signal" in how else "code"
            self.meters.add("endocurate_worker_ends_total", 1, reason=kind)

    def hear(self, word: str, said: Any) -> None:
        """What it told; see news."""
        self.heard = self.clock()
        measure(self.meters, word, said)
        self.doing = DOING.get(word, self.doing)
        if word in ("looked", "left"):
            self.looked = self.heard if word == "looked" else self.looked
            self.numbers |= said
        elif word in ("keeping up", "kept up"):
            self.numbers["keeping_up"] = word == "keeping up"
        elif word == "setbacks":
            self.numbers["setbacks"] = {step: one.reason for step, one in said.items()}
        elif word in ("versions", "stands"):
            self.numbers[word] = said
        elif word == "waits":
            self.away[said] = None
        elif word == "goes on":
            self.away.pop(said, None)
        elif word == "batch":
            self.latencies.extend(said["latencies"])
            self.numbers["last_batch"] = {name: said[name] for name in ("at", "videos", "refused", "patches", "frames")}
            self.sums = {name: count + said.get(name, 1) for name, count in self.sums.items()}

    # -- what is asked ------------------------------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Whether this process's own loop turns."""
        return self.clock() - self.turned < STALLED

    @property
    def is_ready(self) -> bool:
        """Whether the one that works is alive, holds the inbox, lacks nothing, and looked lately or is at work and gives signs of life."""
        if not self.is_live or self.process is None or self.away or self.doing in ("starting", "standing by"):
            return False
        if self.doing in ("busy", "making up"):
            return self.clock() - self.heard <= self.config.watch.patience_s
        return self.clock() - self.looked <= max(3 * self.config.watch.look_s, LATELY)

    @property
    def state(self) -> str:
        """What the watcher does, in a few words."""
        if self.away:
            return f"waiting for {' and '.join(NAMES[one] for one in self.away)}"
        return "another watcher holds the inbox" if self.doing == "standing by" else self.doing

    def told(self) -> dict[str, Any]:
        """The answer to who asks how it is; latencies in seconds from arrival to the store."""
        last = np.asarray(list(self.latencies))  # at once: the other thread may add some
        quantiles = {name: round(float(np.percentile(last, at)), 3) if len(last) else None for name, at in (("p50", 50), ("p99", 99))}
        looked = self.clock() - self.looked
        return {
            "live": self.is_live,
            "ready": self.is_ready,
            "state": self.state,
            "looked_s_ago": round(looked, 1) if np.isfinite(looked) else None,
            **self.numbers,
            "latency_s": quantiles | {"of": len(last)},
        }

    def readings(self) -> Iterator[Reading]:
        """What is measured when it is asked for."""
        yield "endocurate_ready", float(self.is_ready), {}
        yield "endocurate_worker_memory_bytes", float(memory(self.process)), {}
        uri = self.config.store.uri
        if "://" not in uri and os.path.exists(uri):  # of a bucket nobody knows
            yield "endocurate_store_free_bytes", float(shutil.disk_usage(uri).free), {}
        yield from gpus()


def memory(process: int | None) -> int:
    """Resident bytes of a process; 0 where it is gone or the system has no /proc."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def served(health: Health, host: str, port: int) -> Iterator[int]:
    """Answer /livez, /healthz and /metrics meanwhile, unless the port is 0; gives the port. ValueError where it cannot be had."""
    if not port:
        yield 0
        return
    try:
        server = ThreadingHTTPServer((host, port), answering(health))
    except OSError as error:
        raise ValueError(f"watch.port={port} at watch.host={host} cannot be listened on: {error.strerror or error}") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def answering(health: Health) -> type[BaseHTTPRequestHandler]:
    """A handler of HTTP that answers for this health."""

    class Answer(BaseHTTPRequestHandler):
        """Knows three addresses, and writes no log of who asked."""

        timeout = STALLED  # of one who connects and asks nothing

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self.give(200, health.meters.text(), TYPE)
            elif path in ("/healthz", "/livez"):
                told = health.told()
                self.give(200 if told["ready" if path == "/healthz" else "live"] else 503, json.dumps(told).encode(), "application/json")
            else:
                self.give(404, b"/healthz, /livez, /metrics\n", "text/plain")

        do_HEAD = do_GET  # noqa: N815, a name of http.server

        def give(self, status: int, body: bytes, kind: str) -> None:
            with suppress(ConnectionError):  # who asked is gone
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Answer
