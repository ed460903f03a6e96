"""A pool ranks by ids and values, never by the order of rows; its vectors are those of the rows asked for."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.pool import Held, Part, Pool, retained
from engine.selection import spread
from engine.selection.spread import Slab


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=1, max_size=20), st.randoms())
def test_ranks_do_not_depend_on_the_order_of_rows(values, random):
    ids = [f"p{row}" for row in range(len(values))]
    shuffled = random.sample(range(len(values)), len(values))
    first = Pool(pa.table({"patch_id": ids})).ranked(np.array(values))
    second = Pool(pa.table({"patch_id": [ids[row] for row in shuffled]})).ranked(np.array(values)[shuffled])
    assert [ids[row] for row in first] == [ids[shuffled[row]] for row in second]
    assert sorted(values, reverse=True) == [values[row] for row in first]


def test_what_is_not_a_number_is_told():
    pool = Pool(pa.table({"patch_id": ["a", "b"], "difficulty": pa.array([1.0, None], pa.float32())}))
    with pytest.raises(ValueError, match="1 of 2 patches have a difficulty that is not a finite number"):
        pool.numbers("difficulty")
    with pytest.raises(ValueError, match="has none"):
        pool.embeddings()


def test_held_vectors_are_float32_in_the_order_asked_for():
    held = Held(np.arange(12, dtype=np.float16).reshape(4, 3))
    assert held.take(np.array([2, 0])).tolist() == [[6, 7, 8], [0, 1, 2]]
    assert np.concatenate(list(held.blocks())).shape == (4, held.width)


@settings(deadline=None)
@given(st.permutations(range(10)), st.integers(0, 10), st.integers(1, 11), st.data())
def test_a_slab_has_the_vectors_of_its_rows_at_their_places_in_the_pool_as_they_are_stored(order, count, part, data):
    pool = Part(Held(np.arange(60, dtype=np.float16).reshape(20, 3)), np.arange(1, 20, 2))
    rows = np.array(order[:count], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spread, "ROWS", part)
        slab = Slab(pool, rows)
    first = data.draw(st.integers(0, count))
    for wanted in (rows, rows[first:], rows[first:][::-1], rows[first : first + 2]):
        assert slab.held(wanted).dtype == np.float16
        assert slab.take(wanted).tolist() == [[6 * row + 3, 6 * row + 4, 6 * row + 5] for row in wanted.tolist()]
    assert np.shares_memory(slab.held(rows), slab.array) or not count


def test_what_is_retained_is_a_share_of_the_kinds_that_were_chosen():
    patches = pa.table({"bytes": pa.array([1, 2, 5, 40, 52], pa.int32()), "proposer": ["crops", "sam", "crops", "frame", "frame"]})
    for chosen, share in [([1], 2 / 8), ([2, 0], 6 / 8), ([3], 40 / 92), ([0, 4], 53 / 100)]:
        assert retained(patches, np.array(chosen)) == share
