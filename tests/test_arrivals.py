"""Micro-batches are whole when every row of their videos has come, whatever the order and however the rows are cut."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ledger import Arrivals, frame_rows, ledger_rows, written_rows
from tests import rows

IDS = [f"v{number}" for number in range(5)]


def shapes():
    """Frames and patches of each of five videos; some have none."""
    return st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=5, max_size=5)


def written(made, order, cut):
    """What comes of the rows in this order, cut into tables of `cut` rows, in which Ray may join those of several micro-batches."""
    table = pa.concat_tables(made).take(pa.array(order))
    return (written_rows(table.slice(start, cut), []) for start in range(0, len(table), cut))


@settings(deadline=None)
@given(shapes(), st.integers(1, 5), st.integers(1, 20), st.randoms(use_true_random=False))
def test_each_micro_batch_comes_once_with_all_its_rows(shapes, size, cut, chance):
    made = [rows.scored(name, frames, patches) for name, (frames, patches) in zip(IDS, shapes, strict=True)]
    order = list(range(sum(map(len, made))))
    chance.shuffle(order)
    arrivals = Arrivals(rows.videos(*IDS), size)
    ledgers = []
    for videos, whole in arrivals.whole(written(made, order, cut)):
        ledgers.append(ledger_rows(videos, whole, frame_rows(whole), rows.STAMP | {"patches_version": 1}))
    assert sorted(len(ledger) for ledger in ledgers) == sorted(len(IDS[start : start + size]) for start in range(0, 5, size))
    counts = {row["video_id"]: (row["frames"], row["patches"]) for row in pa.concat_tables(ledgers).to_pylist()}
    assert counts == {name: (frames + 1, frames * patches) for name, (frames, patches) in zip(IDS, shapes, strict=True)}


@settings(deadline=None)
@given(st.integers(0, 23), st.integers(1, 8))
def test_a_micro_batch_comes_with_its_last_row_and_not_before(lost, cut):
    made = [rows.scored(name) for name in IDS[:3]]  # 8 rows each
    order = [row for row in range(24) if row != lost]
    arrivals = Arrivals(rows.videos(*IDS[:3]), 1)
    came = []

    def gather():
        came.extend(name for videos, _ in arrivals.whole(written(made, order, cut)) for name in videos["video_id"].to_pylist())

    with pytest.raises(ValueError, match="of 1 videos some rows never came out of the flow, of 0"):
        gather()
    assert came == [name for name in IDS[:3] if name != IDS[lost // 8]]


def test_a_video_that_comes_twice_does_not_make_up_for_one_that_never_comes():
    arrivals = Arrivals(rows.videos(*IDS[:2]), 1)
    with pytest.raises(ValueError, match="of 1 videos some rows never came out of the flow, of 1 they came twice"):
        list(arrivals.whole(written_rows(rows.scored(name), []) for name in (IDS[0], IDS[0])))
