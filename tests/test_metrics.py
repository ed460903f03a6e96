"""Numbers for Prometheus: frames counted once however rows are cut, and text that its own parser reads."""

import ast
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parsed

from engine import metrics
from engine.knobs import amend
from engine.ledger import REPLACED, written_rows
from engine.metrics import KINDS, Meters, frames_of
from engine.store import PatchStore
from engine.store.quarantine import QUARANTINED
from jobs import ingest, news
from jobs.health import NAMES, Health
from jobs.recipes import tiny
from tests import rows

ROOT = Path(__file__).resolve().parent.parent


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=4), st.integers(1, 9), st.randoms())
def test_a_frame_counts_once_however_its_patches_are_spread_over_tables(shapes, cut, chance):
    table = pa.concat_tables([rows.scored(f"v{number}", *shape) for number, shape in enumerate(shapes)])
    order = list(range(len(table)))
    chance.shuffle(order)
    mixed = table.take(pa.array(order))
    whole = len(set(table["frame_id"].drop_null().to_pylist()))
    parts = [mixed.slice(start, cut) for start in range(0, len(mixed), cut)]
    assert sum(map(frames_of, parts)) == pytest.approx(whole)
    assert sum(frames_of(written_rows(part, [])) for part in parts) == pytest.approx(whole)
    assert frames_of(table.select(["video_id"])) == 0


def readings():
    yield "endocurate_ready", 1.0, {}


def test_its_text_is_what_prometheus_parses_with_names_by_its_conventions():
    meters = Meters(readings)
    meters.add("endocurate_frames_total", 3, stage="DecodeFrames")
    meters.add("endocurate_frames_total", 2.5, stage="DecodeFrames")
    meters.put("endocurate_table_version", 7, table="patches")
    meters.see("endocurate_latency_seconds", 4.0)
    meters.see("endocurate_latency_seconds", 1e6)
    found = {(one.name, tuple(one.labels.items())): one.value for family in parsed(meters.text().decode()) for one in family.samples}
    assert found["endocurate_frames_total", (("stage", "DecodeFrames"),)] == 5.5
    assert found["endocurate_table_version", (("table", "patches"),)] == 7
    assert found["endocurate_ready", ()] == 1
    assert found["endocurate_latency_seconds_bucket", (("le", "5.0"),)] == 1
    assert found["endocurate_latency_seconds_bucket", (("le", "2.0"),)] == 0
    assert found["endocurate_latency_seconds_bucket", (("le", "+Inf"),)] == found["endocurate_latency_seconds_count", ()] == 2


def samples(meters):
    return {(one.name, *one.labels.values()): one.value for family in parsed(meters.text().decode()) for one in family.samples}


def test_counters_are_there_with_nothing_counted_before_anything_is():
    """What increase() makes of the first count is the difference from the scrape before: there must have been one, with 0."""
    health = Health(tiny())
    before = samples(health.meters)
    told = [("batch", BATCH), ("failed", ""), ("frames", ("DecodeFrames", 3)), *(("waits", one) for one in NAMES)]
    for word in told:
        health.hear(*word)
    health.ended("was ended by signal 9")
    counted = {name: value for name, value in samples(health.meters).items() if name[0].endswith("_total") and value}
    assert len(counted) > 10
    assert {name: before.get(name) for name in counted} == dict.fromkeys(counted, 0.0)


BATCH = {"at": "", "videos": 2, "refused": 1, "patches": 9, "frames": 20, "reasons": {"none": 1, "no frames": 1}, "latencies": [1.0]}


def test_what_counters_are_told_apart_by_is_all_that_the_code_has():
    assert set(news.AWAY) == set(NAMES)
    made = [ingest.steps(amend(tiny(), [f"difficulty.scorer={one}"]), PatchStore("x")) for one in ("mae", "simclr")]
    named = {step.stage.__name__ for steps in made for step in steps}
    assert set(news.STAGES) == {*named, "commit"}
    assert set(news.REASONS) == {"none", QUARANTINED, REPLACED, "empty", "unreadable", *refusals()}
    assert {name for name, kind in KINDS.items() if kind.kind == "counter" and kind.labels} == {*news.KNOWN, "endocurate_setbacks_total"}


def refusals():
    """The reason of every VideoError that is raised anywhere."""
    for path in (ROOT / "engine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "VideoError" and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def test_names_follow_the_conventions():
    assert all((kind.kind == "counter") == name.endswith("_total") for name, kind in KINDS.items())
    units = ("_total", "_seconds", "_bytes", "_ratio", "_sources", "_version", "_ready", "_steps", "_worth")
    assert all(name.startswith("endocurate_") and name.endswith(units) for name in KINDS)
    assert {label for kind in KINDS.values() for label in kind.labels} <= {"stage", "step", "reason", "table", "gpu"}


def test_a_machine_without_nvml_has_no_gpu_to_tell_of():
    assert all(name in KINDS and labels["gpu"].isdigit() for name, _, labels in metrics.gpus())


SCRAPED = """
import os, sys, time
os.environ["RAY_metrics_report_interval_ms"] = "500"
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "200"}  # a busy machine takes long
import ray
ray.init("local", num_cpus=4, _metrics_export_port=int(sys.argv[1]), include_dashboard=True, logging_level="warning")
import pyarrow as pa
from functools import partial
from engine import flow
from engine.flow import Step
from jobs.news import measure
from tests.test_metrics import Pass
from tests import rows
made = list(flow.run_on_ray([Step(Pass, (), batch=3)], pa.concat_tables([rows.scored(f"v{n}") for n in range(3)])))
assert sum(map(len, made)) == 24
measure(flow.RayMeters(), "looked", {"backlog": 5, "quarantined": 1})
measure(flow.RayMeters(), "batch", {"patches": 9, "frames": 12, "reasons": {"dark": 2}, "latencies": [3.0, 70.0]})
print("done", flush=True)
sys.stdin.read()
"""


class Pass:
    """A stage that lets rows pass."""

    def __call__(self, table):
        yield table


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_ray_serves_frames_of_each_stage_and_what_a_watcher_knows():
    port = free_port()
    command = [sys.executable, "-c", SCRAPED, str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().strip().endswith("done")
            found, deadline = {}, time.monotonic() + 60
            while "ray_endocurate_backlog_sources" not in found or "ray_endocurate_frames_total" not in found:
                assert time.monotonic() < deadline, found
                time.sleep(1)
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
                found = ours(text)
        finally:
            process.stdin.close()
            process.wait(60)
    assert found["ray_endocurate_frames_total", "Pass"] == pytest.approx(12)
    assert found["ray_endocurate_frames_total", "commit"] == 12
    assert found["ray_endocurate_backlog_sources"] == 5
    assert found["ray_endocurate_videos_total", "dark"] == 2
    assert found["ray_endocurate_latency_seconds_count"] == 2


def ours(text):
    """Samples of ours by name, or by name and stage or reason; summed over Ray's own labels."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"(ray_endocurate_\w+?)(\{.*\})? (\S+)$", line):
            name, labels, value = match.groups()
            told = re.search(r'(?:stage|reason)="([^"]*)"', labels or "")
            for key in {name, (name, told[1]) if told else name}:
                found[key] = found.get(key, 0) + float(value)
    return found
