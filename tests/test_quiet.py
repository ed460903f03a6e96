"""What a watcher's processes write: lines that programs read, and never what a patient's file is called."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import pytest

from engine import simulate
from jobs import quiet
from jobs.absence import names_below
from tests.crashes import trials

ROOT = Path(__file__).resolve().parent.parent
MARK = "Zebedee"  # of a patient: a folder, and in the names of files


def record(text, *arguments, **extra):
    made = logging.LogRecord("jobs.watch", logging.INFO, "here.py", 1, text, arguments, None)
    made.__dict__.update(extra)
    return made


def test_a_line_is_an_object_with_what_was_told():
    made = record("batch %d: %s", 3, "done", event="batch", told={"batch": 3, "video_id": "ab"})
    found = json.loads(quiet.Lines().format(made))
    assert found.pop("time").endswith("+00:00")
    assert found == {"level": "info", "event": "batch", "batch": 3, "video_id": "ab", "text": "batch 3: done"}
    assert json.loads(quiet.Lines().format(record("two\nlines")))["event"] == "watch"


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("videos.uri='/in/box' does not exist", False),
        ("videos.uri='/in/box/' cannot be listed", False),
        ("No such file: '/in/box/Zebedee/1.mp4'", True),
        ("/in/box//x.mp4", True),
        ("/in/boxes/x.mp4", False),
    ],
)
def test_the_inbox_may_be_named_and_what_lies_below_it_may_not(text, is_named):
    assert names_below("/in/box", text) == is_named == names_below("/in/box/", text)


@pytest.fixture
def handler():
    """A handler of the root logger, which is put back as it was."""
    root, lines = logging.getLogger(), []
    one = logging.Handler()
    one.emit = lambda record: lines.append(one.format(record))
    before = root.handlers, root.level
    root.handlers = [one]
    root.setLevel(logging.INFO)
    yield lines
    root.handlers, root.level = before
    logging.captureWarnings(False)


def test_whoever_writes_a_name_writes_that_a_line_is_withheld(handler):
    quiet.withhold(lambda text: MARK in text)
    logging.getLogger("tifffile").warning("%s is no TIFF", f"/in/{MARK}")
    warnings.warn(f"{MARK} is strange", stacklevel=1)
    try:
        raise OSError(f"no {MARK}")
    except OSError:
        logging.getLogger("library").exception("failed")
    logging.getLogger("library").warning("all is well")
    assert [MARK in line for line in handler] == [False] * 4
    assert handler[0] == "(a line of tifffile is withheld: it names a file of the inbox)"
    assert handler[2:] == ["failed", "all is well"]


def test_a_surprise_is_told_by_its_place_and_ends_the_process_with_code_1(handler):
    quiet.withhold(lambda text: MARK in text)
    with pytest.raises(SystemExit) as ended, quiet.Surprises():
        raise ArithmeticError(f"no way with {MARK}")
    assert ended.value.code == 1
    assert handler[0].startswith("a surprise ends this process: ArithmeticError at test_quiet.py:")
    assert handler[1] == "(a line of jobs.quiet is withheld: it names a file of the inbox)"
    with pytest.raises(KeyboardInterrupt), quiet.Surprises():
        raise KeyboardInterrupt


# -- all that a watcher writes --------------------------------------------------------------------------------------------------------


def inbox_of(folder):
    """Good, bad and poisonous files of one patient, and a folder of images of which one is damaged."""
    inbox = folder / "inbox" / f"{MARK} 1970"
    (inbox / f"{MARK}-images").mkdir(parents=True)
    simulate.write_clip(inbox / f"good-{MARK}.mp4", 0, seconds=1.0, fps=4, height=112, width=128)
    whole = (inbox / f"good-{MARK}.mp4").read_bytes()
    (inbox / f"cut-{MARK}.mp4").write_bytes(whole[: len(whole) // 2])
    (inbox / f"text-{MARK}.mp4").write_bytes(b"no video")
    (inbox / f"empty-{MARK}.mp4").write_bytes(b"")
    (inbox / f"closed-{MARK}.mp4").symlink_to(inbox / "nowhere")
    for number, rest in enumerate((b"\x00" * 99, b"\xff\xd9")):
        (inbox / f"{MARK}-images" / f"{MARK}{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + rest)
    for number, how in enumerate(("hangs", "raises", "vanishes")):
        (inbox / f"poison-{how}-{MARK}.mp4").write_bytes(whole + bytes([0, 0, 0, 9]) + b"free" + bytes([number]))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(port):
    """What it says of itself at its port; "" before it listens."""
    try:
        return "".join(
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5).read().decode() for path in ("livez", "metrics")
        )
    except OSError:
        return ""


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("form", ["json", "text"])
def test_nothing_that_is_written_names_a_patient(tmp_path, form):
    inbox_of(tmp_path)
    from tests.crashes.ingest import make_scorer

    make_scorer(str(tmp_path / "scorer"))
    port = free_port()
    knobs = [f"watch.log={form}", f"watch.port={port}", "watch.tries=1", "watch.patience_s=15"]
    command = [sys.executable, "-m", "tests.crashes.watch", f"{tmp_path}/inbox", f"{tmp_path}/store", f"{tmp_path}/scorer", *knobs]
    said, heard = tmp_path / "said", ""
    with said.open("w") as out:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ENDOCURATE_STRIKE": "none@nowhere@/"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)
        deadline = time.monotonic() + 1400
        while process.poll() is None and time.monotonic() < deadline:
            heard += answers(port)
            time.sleep(0.5)
    trials.finish(process, 5)
    told = said.read_text()
    lines = told.splitlines()  # shorter to show than the whole
    assert any("withheld: it names a file" in line for line in lines)  # by a library, a warning and an exception of the decoder
    assert any("a surprise ends this process: ArithmeticError" in line for line in lines)
    assert [line for line in [*lines, *heard.splitlines()] if MARK in line] == []
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]
    assert not [path for path in holders if not {"inbox", "videos.lance"} & set(path.parts)]
    assert holders  # the ledger knows where they lie
    if form == "json":
        lines = [json.loads(line) for line in lines]
        assert {line["event"] for line in lines} >= {"batch", "video", "quarantined", "worker ended", "surprise"}
        assert all(len(line["video_id"]) == 32 for line in lines if line["event"] in ("video", "quarantined"))
