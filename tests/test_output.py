import base64
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import files
from engine.settings import OutputConfig
from engine.store import PatchStore, WriteRows
from jobs.__main__ import main
from jobs.output import as_lines, as_text, as_tree, give
from tests import rows

ROOT = Path(__file__).resolve().parent.parent


def test_numbers_stand_right_text_left_and_long_or_odd_cells_stay_on_their_line():
    table = pa.table({"name": ["a", "line\nbreak", "x" * 60], "n": [1, 20, 300], "v": [0.5, None, 1234567.0], "b": [b"12", b"", None]})
    lines = as_text(table).splitlines()
    assert len(lines) == 6
    assert lines[2].startswith("a  ")
    assert lines[2].split() == ["a", "1", "0.5", "<2", "bytes>"]
    assert "line\\nbreak" in lines[3]
    assert "x" * 47 + "…" in lines[4]
    assert lines[5] == "(3 rows)"


def test_the_id_of_a_patch_is_never_cut():
    patch_id = f"{'a' * 32}@123456:100,200,300,400:medsam-lite-0123456789ab"
    assert patch_id in as_text(pa.table({"patch_id": [patch_id]}))


ODD = pa.table(
    {
        "s": ["ü\n", None],
        "f": [float("nan"), 0.25],
        "b": pa.array([b"\xff\x00", None], pa.large_binary()),
        "d": pa.array([Decimal("5"), Decimal("7")], pa.decimal128(38, 0)),
        "l": [[1, 2], []],
    }
)


def test_json_lines_are_read_back_by_any_json_reader():
    first, second = (json.loads(line) for line in as_lines(ODD).split("\n"))
    assert first == {"s": "ü\n", "f": None, "b": base64.b64encode(b"\xff\x00").decode(), "d": 5, "l": [1, 2]}
    assert second == {"s": None, "f": 0.25, "b": None, "d": 7, "l": []}


def test_columns_of_one_name_are_all_in_json_lines():
    table = pa.Table.from_arrays([pa.array([number]) for number in range(5)], ["a", "a", "a_1", "b", "a"])
    assert json.loads(as_lines(table)) == {"a": 0, "a_2": 1, "a_1": 2, "b": 3, "a_3": 4}


@pytest.mark.parametrize("count", [2, 0])
def test_rows_in_a_file_are_those_that_were_given(tmp_path, count, capsys):
    table = ODD.slice(0, count)
    give(table, OutputConfig(format="parquet", path=str(tmp_path / "a.parquet")))
    assert pq.read_table(tmp_path / "a.parquet").schema == table.schema
    assert pq.read_table(tmp_path / "a.parquet").drop(["f"]).equals(table.drop(["f"]))
    give(table, OutputConfig(format="json", path=str(tmp_path / "a.json")))
    assert len((tmp_path / "a.json").read_text().splitlines()) == count
    give(table, OutputConfig(path=str(tmp_path / "a.txt")))
    assert (tmp_path / "a.txt").read_text() == as_text(table) + "\n"
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.parquet", "a.txt"]


def test_a_tree_is_indented_by_its_depth():
    tree = {"a": 1, "b": {"c": None, "d": []}, "e": [{"f": 1, "g": "x"}, {"h": 1, "i": {"j": 2}}], "k": {}, "l": [1, 2]}
    assert as_tree(tree).splitlines() == [
        "a: 1",
        "b:",
        "  c: none",
        "  d: none",
        "e:",
        "  - f 1, g x",
        "  - h: 1",
        "    i:",
        "      j: 2",
        "k: none",
        "l: [1, 2]",
    ]


@pytest.fixture
def store(tmp_path):
    made = PatchStore(str(tmp_path / "store"))
    made.create(rows.WIDTH)
    written = pa.concat_tables([out for video_id in ("aa", "bbb") for out in WriteRows(made.uri)(rows.scored(video_id))])
    made.commit(written, rows.videos("aa", "bbb"), rows.STAMP)
    return made


def lines_of(capsys, *words):
    assert main([*words, "output.format=json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_jobs_give_what_the_store_gives(store, capsys):
    uri = f"store.uri={store.uri}"
    hardest = lines_of(capsys, "hardest", uri, "lookup.k=3", "lookup.where=video_id = 'aa'")
    assert hardest == store.hardest(3, "video_id = 'aa'").to_pylist()
    assert list(hardest[0]) == ["patch_id", "difficulty", "video_id", "time_ms", "box"]
    nearest = lines_of(capsys, "nearest", uri, "lookup.k=4", hardest[0]["patch_id"])
    assert nearest == store.nearest(hardest[0]["patch_id"], 4).to_pylist()
    assert lines_of(capsys, "history", uri) == store.history().to_pylist()
    counted = "SELECT sum(patches) AS n, count(*) AS v FROM videos"
    assert lines_of(capsys, "query", uri, counted) == [{"n": 12, "v": 2}]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["hardest", "lookup.k=99"], 1, "k=99 patches were asked for"),
        (["hardest", "lookup.k=0"], 2, "lookup.k=0"),
        (["hardest", "lookup.where=nonsense("], 1, "is no filter: expected one condition"),
        (["nearest", "nobody"], 1, "has no patch 'nobody'"),
        (["nearest"], 2, "nearest takes the id of one patch"),
        (["nearest", "a", "b"], 2, "nearest takes the id of one patch"),
        (["query", "DELETE FROM patches"], 1, "nothing that writes"),
        (["query", "CREATE TABLE x AS SELECT 1"], 1, "nothing that writes"),
        (["query", "SELECT 1", "output.format=parquet"], 2, "format=parquet needs output.path"),
        (["history", "store.uri=/nowhere"], 2, "holds no store of endocurate"),
    ],
)
def test_a_wrong_question_is_one_sentence_and_changes_nothing(store, capsys, words, code, sentence):
    versions = {name: store.open(name).version for name in ("patches", "frames", "videos", "journal", "locks")}
    job, *rest = words
    assert main([job, f"store.uri={store.uri}", *rest]) == code
    said = capsys.readouterr()
    assert sentence in said.err
    assert (said.err.count("\n"), said.out) == (1, "")
    assert versions == {name: store.open(name).version for name in versions}


def test_what_is_no_file_is_written_into_and_never_replaced(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit((tmp_path / "pipe").read_bytes)
        files.put(b"rows", str(tmp_path / "pipe"))
        assert reading.result(10) == b"rows"
    files.put(b"rows", str(tmp_path / "link.json"))
    files.put(b"others", str(tmp_path / "link.json"))
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"others"
    with pytest.raises(IsADirectoryError, match="is a folder; expected the name of a file"):
        files.put(b"rows", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "pipe", "real.json"]


def test_a_reader_who_has_read_enough_ends_a_job_without_a_word():
    command = ["/bin/bash", "-c", f"set -o pipefail; {sys.executable} -m jobs --help | true"]
    piped = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (piped.returncode in (0, 141), piped.stderr) == (True, b"")
