import pyarrow as pa

from jobs.query import as_text


def test_numbers_stand_right_text_left_and_long_or_odd_cells_stay_on_their_line():
    rows = pa.table({"name": ["a", "line\nbreak", "x" * 60], "n": [1, 20, 300], "v": [0.5, None, 1234567.0], "b": [b"12", b"", None]})
    lines = as_text(rows).splitlines()
    assert len(lines) == 6
    assert lines[2].startswith("a  ")
    assert lines[2].split() == ["a", "1", "0.5", "<2", "bytes>"]
    assert "line\\nbreak" in lines[3]
    assert "x" * 47 + "…" in lines[4]
    assert lines[5] == "(3 rows)"
