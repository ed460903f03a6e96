"""Servers that refuse us: what cannot list its video or reach its runs says so and leaves nothing behind."""

import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from engine import mae, simulate
from engine.knobs import amend
from jobs import ingest, probe, rounds
from jobs.recipes import tiny

pytestmark = pytest.mark.processes


class Refuses(BaseHTTPRequestHandler):
    """Says no to whatever it is asked, with the status of its server."""

    def handle_any(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def log_message(self, *told):
        pass


def refusing(status):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    server.status = status
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def bucket(monkeypatch):
    """A server of buckets that refuses our credentials."""
    server = refusing(403)
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.clear_instance_cache()
    yield "s3://bucket"
    fs.clear_instance_cache()
    server.shutdown()


@pytest.fixture
def runs():
    """An MLflow server that refuses our token."""
    server = refusing(401)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Of a folder with a clip and a scorer; the working folder is one where nothing is."""
    (tmp_path / "in").mkdir()
    simulate.write_clip(tmp_path / "in" / "a.mp4", 1, seconds=1.0, fps=10, height=240, width=280)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    mae.save(mae.MAE(tiny().difficulty.mae), str(tmp_path / "scorer.safetensors"))
    knobs = ["where=here", f"videos.uri={tmp_path}/in", "store.uri=store", f"difficulty.checkpoint={tmp_path}/scorer.safetensors"]
    return partial(amend, amend(tiny(), [*knobs, "patches.proposer=crops"]))


JOBS = pytest.mark.parametrize("begin", [ingest.run, probe.run, rounds.begun])


@JOBS
def test_video_that_may_not_be_listed_leaves_no_store_behind(begin, config, bucket, tmp_path):
    with pytest.raises(OSError, match=r"^videos\.uri='s3://bucket/videos' cannot be listed: \S"):
        begin(config([f"videos.uri={bucket}/videos"]))
    assert not list((tmp_path / "work").iterdir())


@JOBS
def test_runs_that_may_not_be_written_leave_no_store_behind(begin, config, runs, tmp_path):
    with pytest.raises(OSError, match=r"^tracking\.uri='http://127.* cannot be used: .*401"):
        begin(config([f"tracking.uri={runs}"]))
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("begin", [ingest.run, rounds.begun])
def test_a_store_that_may_not_be_opened_leaves_no_file_of_runs_behind(begin, config, bucket, tmp_path):
    with pytest.raises(OSError, match=r"^the store s3://bucket/store cannot be reached: \S"):
        begin(config([f"store.uri={bucket}/store"]))
    assert not list((tmp_path / "work").iterdir())
