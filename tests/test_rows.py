"""Keys are functions of ids, and orders of values and keys, checked against definitions and sorts."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rows import hashed, mixed, rising, together

IDS = st.lists(st.text(max_size=12), max_size=30)
MASK = 2**64 - 1


def by_definition(patch_id, seed):
    state = int(mixed(np.array([seed], np.uint64) + np.uint64(0x9E3779B97F4A7C15))[0])
    for byte in patch_id.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return int(mixed(np.array([state], np.uint64))[0])


@settings(deadline=None)
@given(IDS, st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_a_key_is_the_hash_of_the_id_wherever_it_stands(ids, seed, cut):
    column = pa.chunked_array([pa.array(ids[:cut], pa.string()), pa.array(["x", *ids[cut:]], pa.string()).slice(1)])
    assert hashed(column, seed).tolist() == [by_definition(patch_id, seed) for patch_id in ids]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a" * 32, "b" * 31 + "c", "b" * 32, "", "ä" * 16]), st.text(max_size=20)), max_size=30),
    st.booleans(),
)
def test_a_key_is_the_hash_of_the_id_also_where_ids_begin_alike(made, together):
    ids = [beginning + rest for beginning, rest in (sorted(made) if together else made)]
    assert hashed(pa.chunked_array([pa.array(ids, pa.string())]), 7).tolist() == [by_definition(patch_id, 7) for patch_id in ids]


def test_keys_spread_evenly_and_differ_by_seed():
    ids = pa.chunked_array([[f"{video:032x}@{time}" for video in range(100) for time in range(0, 20_000, 100)]])
    keys, others = hashed(ids, 0), hashed(ids, 1)
    assert len(set(keys.tolist())) == len(ids)
    counts = np.bincount((keys >> np.uint64(60)).astype(int), minlength=16)
    assert abs(counts - len(ids) / 16).max() < 5 * (len(ids) / 16) ** 0.5
    assert abs(np.corrcoef(keys.astype(float), others.astype(float))[0, 1]) < 0.05


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 2**32))
def test_ranks_of_doubles_that_differ_in_their_last_bits_are_those_of_a_sort(values, seed):
    values = np.array([1 + bits * 2.0**-52 for bits in values])
    keys = np.random.default_rng(seed).integers(0, 3, len(values)).astype(np.uint64)
    assert rising(values, keys).tolist() == np.lexsort([keys, values]).tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40), max_size=40), st.sampled_from([2**40, 2**60]))
def test_whole_numbers_are_sorted_and_equal_ones_stay_in_their_order(labels, largest):
    labels = np.array([label % 5 if largest == 2**40 else label for label in labels], np.int64)
    assert together(labels, largest).tolist() == np.argsort(labels, kind="stable").tolist()


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, float("nan")]), max_size=40), st.integers(0, 2**32))
def test_ranks_are_those_of_a_sort_by_value_and_then_by_key(values, seed):
    values, keys = np.array(values), np.random.default_rng(seed).permutation(len(values)).astype(np.uint64)
    assert rising(-values, keys).tolist() == np.lexsort([keys, -values]).tolist()
