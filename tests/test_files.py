"""What a write that was cut off leaves is told by its name, and what Lance says is told without the places in its source."""

import signal
import subprocess
import sys
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from engine.files import TORN, placeless
from engine.store.tables import first_line
from jobs.troubles import said

ROOT = Path(__file__).resolve().parent.parent
DIES = """
import os, signal, sys
from pathlib import Path
from engine import files

Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.put(b"content", sys.argv[1])
"""


def test_what_a_killed_write_leaves_is_one_file_that_is_told_by_its_name(tmp_path):
    target = tmp_path / "report.html"
    died = subprocess.run([sys.executable, "-c", DIES, target], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1
    assert TORN.search(left[0])
    assert not any(map(TORN.search, ("report.html", ".report.html", f"{'a' * 32}", f"v.1.{'a' * 32}")))


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("No space left on device, /build/rust/lance-file/src/writer.rs:254:9", "No space left on device"),
        ("Not found: x, rust/lance/src/dataset.rs:765:44", "Not found: x"),
        ("Not found: x, /a/b.rs:653:26, /c/d.rs:921", "Not found: x"),
        ("unexpected=[q], location: /build/rust/lance-core/src/datatypes/schema.rs:213:17", "unexpected=[q]"),
        ("a damaged file, /a/b.rs:1:2; nothing was changed", "a damaged file; nothing was changed"),
        ("no film in /data/main.rs, nor beside it", "no film in /data/main.rs, nor beside it"),
    ],
)
def test_places_in_the_source_are_cut_out_of_a_sentence_and_nothing_else_is(told, left):
    assert placeless(told) == left


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda table: lance.dataset(f"{table.uri}-not"), "was not found"),
        (lambda table: table.to_table(filter="c > 1"), "No field named c"),
        (lambda table: table.to_table(filter="a > 'x'"), "could not convert to literal"),
        (lambda table: lance.write_dataset(pa.table({"b": [1]}), table.uri, mode="append"), "unexpected=[b]"),
        (lambda table: cut(table).to_table(), "Invalid range"),
    ],
    ids=["no table", "no column", "no number", "other columns", "a file cut off"],
)
@pytest.mark.parametrize("tell", [first_line, said])
def test_what_lance_says_is_told_without_places(tmp_path, do, words, tell):
    table = lance.write_dataset(pa.table({"a": [1, 2]}), str(tmp_path / "t.lance"))
    with pytest.raises((ValueError, OSError, pa.ArrowException)) as met:
        do(table)
    assert ".rs:" in str(met.value)
    assert words in tell(met.value)
    assert ".rs" not in tell(met.value)


def cut(table):
    """The table once its file has lost its end."""
    for path in Path(table.uri).glob("data/*"):
        path.write_bytes(path.read_bytes()[:20])
    return lance.dataset(table.uri)
