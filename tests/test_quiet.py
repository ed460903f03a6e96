"""What a watcher's processes write: lines that programs read, and never what a patient's file is called."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
import unicodedata
import urllib.parse
import urllib.request
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine import simulate
from engine.inbox import Inbox, Known
from jobs import news, quiet, spelling
from jobs.spelling import names_below
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


NAME = "Müller Zoë_1970-05-03.mp4"


@pytest.mark.parametrize(
    "spelled",
    [
        NAME,
        urllib.parse.quote(NAME),
        urllib.parse.quote_plus(NAME),
        urllib.parse.quote(NAME, encoding="latin-1"),
        ascii(NAME),
        repr(NAME.encode()),
        repr(repr(NAME.encode())),
        json.dumps({"path": NAME}),
        json.dumps(json.dumps(NAME)),
        "".join(chr(one) if one < 128 else f"\\{one:03o}" for one in NAME.encode()),  # as C and git do
        unicodedata.normalize("NFD", NAME),
        urllib.parse.quote(unicodedata.normalize("NFD", NAME)),
        NAME.upper(),
        NAME.lower(),
        NAME.replace(" ", "\\ "),
        f"C:\\in\\{NAME}",
        NAME.removesuffix(".mp4"),
        NAME.removesuffix(".mp4").upper(),
        NAME.encode("latin-1").decode("utf-8", "surrogateescape"),
        f"{NAME.removesuffix('.mp4')}_thumb",
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_known_in_every_spelling(spelled, form):
    names = spelling.Names([unicodedata.normalize(form, NAME)])
    assert names.are_in(f"cannot read {spelled}: it is no video")
    assert not names.are_in("cannot read what Zoe 1970 sent: it is no video")


@pytest.mark.parametrize(
    "address",
    [
        "/in/My Box/x.mp4",
        "file:///in/My%20Box/x.mp4",
        "\\in\\My Box\\x.mp4",
        "b'/in/My\\x20Box/x.mp4'",
        "/IN/my box/X.MP4",
        "/in//My+Box//x",
    ],
)
def test_what_lies_below_the_inbox_is_known_in_every_spelling_of_it(address):
    assert names_below("/in/My Box", f"cannot read {address}")
    assert not names_below("/in/My Box", "videos.uri='/in/My%20Box/' cannot be listed")


YEAR = datetime.now(UTC).year


def test_folders_for_each_day_and_ordinary_names_hide_none_of_our_own_words(handler):
    """Lines that a watcher writes, from what they are put together of; a day of long ago may be one of birth."""
    names = spelling.Names([str(YEAR), "11", "22", f"{YEAR}-11-22", f"{YEAR}1122", "Videos", "video.mp4", "IMAGES", "Ana", "frame.mp4"])
    quiet.withhold(names.are_in)
    reason = f"3 videos (3ab4…) of source 0123456789ab, {YEAR}-11-22: 90 % of its frames have a sharpness of at most 3"
    logging.getLogger("jobs.drift").warning("%s (%s: %.3f, threshold %.3f)", reason, "sharpness", 0.9, 0.5)
    logging.getLogger("jobs.watch").warning("%s", "the store s3://x/store is away: its images and analysis wait")
    logging.getLogger("jobs.watch").info("batch %d: %d videos", YEAR, 1122)
    logging.getLogger("library").warning("video.mp4 is damaged")
    assert [line.startswith("(a line") for line in handler] == [False, False, False, True]
    verdicts = spelling.Names([f"{one}.mp4" for one in (*news.REASONS, "kept")])
    assert not any(verdicts.are_in(f"video 0a1b: {one}") for one in (*news.REASONS, "kept"))
    assert verdicts.are_in("empty.mp4 has no bytes")
    assert spelling.Names(["1970-11-22"]).are_in("born 1970-11-22")
    rosa = spelling.Names(["Rosa.mp4"])
    assert [rosa.are_in(text) for text in ("ROSA was read", "rosa-2 was read", "the mucosa is rosaceous")] == [True, True, False]


@pytest.mark.parametrize(
    ("part", "text", "is_named"),
    [
        ("endo", "no module of endocurate takes 3 endoscopes", False),
        ("endo", "no folder ENDO, or (endo)", True),
        ("diff.mp4", "their difficulty is different", False),
        ("diff.mp4", "difficulty of diff.mp4.part", True),
        ("Zebedee.mp4", "made tmp1Zebedee2 and PatientZebedee", True),
        ("zebedee.mp4", "\x1b[31mzebedee\x1b[0m is red", True),
        ("zebedee.mp4", repr("of two lines:\nzebedee.mp4"), True),
        ("Zoë Müller 1970", "of zo%C3%AB+m%C3%BCller_1970/x.mp4", True),
        ("Zoë Müller 1970", "Zoë Müllers 1970", False),
        ("山田太郎.mp4", "ファイル山田太郎が", True),
        ("123456.mp4", "video 0a1b123456cd23ef is kept", False),
        ("123456.mp4", "123456 is damaged", True),
        ("19700503.mp4", "made tmp19700503x", True),
        ("2019-12-11", "batch 2019: 12 videos, 11 kept", False),
        ("(Videos)", "3 videos", False),
        ("---.mp4", "an mp4 of no length", False),
    ],
)
def test_a_name_is_withheld_where_it_stands_as_words(part, text, is_named):
    assert spelling.Names([part]).are_in(text) == is_named


def test_what_waits_no_more_is_no_name_any_more_and_a_folder_is_one_as_long_as_a_file_of_it_waits():
    names = spelling.Names()
    for number in range(3):
        names.told(f"/{MARK}/exam {number}.mp4", True)
    names.told(f"/{MARK}/exam 0.mp4", False)
    assert [names.are_in(text) for text in ("exam 0", "exam 2", MARK.lower())] == [False, True, True]
    for number in (1, 2):
        names.told(f"/{MARK}/exam {number}.mp4", False)
    assert not names.are_in(MARK)
    assert not names.counts
    assert not names.lengths


def test_what_a_line_costs_does_not_grow_with_how_many_files_wait():
    line = "the store s3://x/store is away: its images and analysis wait; batch 3 of 17 videos took 33.1 s"
    few, many = (spelling.Names(f"{MARK} {number:06d}.mp4" for number in range(count)) for count in (10, 20_000))
    assert cost(many, line) < 20 * cost(few, line)  # it was as many times as there are more files, 2000


def cost(names, line):
    """Seconds of processor, at the least, for a line that names nobody."""
    took = []
    for _ in range(5):
        began = time.process_time()
        assert not names.are_in(line)
        took.append(time.process_time() - began)
    return min(took)


def test_the_inbox_tells_of_what_begins_to_wait_and_of_what_does_no_more():
    told, box = [], Inbox("/in", 0, Known())
    box.told = lambda uri, waits: told.append((uri, waits))
    rows = [{"uri": f"/in/{name}", "size": 1, "modified": "1"} for name in "abc"]
    box.see(rows)
    box.see([rows[0] | {"size": 2}, rows[1]])  # one was replaced, and one is gone
    box.done(box.waiting["/in/b"])
    assert told == [("/in/a", True), ("/in/b", True), ("/in/c", True), ("/in/c", False), ("/in/b", False)]


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
