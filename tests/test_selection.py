import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import SelectionConfig
from engine.selection import choose


def columns(difficulty, sizes=None):
    count = len(difficulty)
    return pa.table(
        {
            "patch_id": [f"p{i:04d}" for i in range(count)],
            "difficulty": pa.array(difficulty, pa.float32()),
            "bytes": pa.array(sizes if sizes is not None else [100] * count, pa.int32()),
        }
    )


def chosen(table, method="optidel", budget=0.5, seed=0):
    return choose(table, SelectionConfig(method=method, budget=budget, seed=seed), np.random.default_rng(seed))


tables = st.lists(st.tuples(st.floats(0, 10, width=32), st.integers(1, 5000)), min_size=8, max_size=60).map(
    lambda rows: columns([d for d, _ in rows], [b for _, b in rows])
)


def test_optidel_takes_the_hardest_first():
    assert chosen(columns([0.1, 0.9, 0.5, 0.7, 0.3, 0.8, 0.2, 0.6])).patch_ids == ["p0001", "p0005", "p0003", "p0007"]


def by_definition(table, budget):
    """Algorithm 1 of the paper, written out: sort, take while the bytes last, whole images only."""
    ranked = sorted(table.to_pylist(), key=lambda row: (-row["difficulty"], row["patch_id"]))
    left, taken = budget * sum(row["bytes"] for row in ranked), []
    for row in ranked:
        if row["bytes"] > left:
            break
        left -= row["bytes"]
        taken.append(row["patch_id"])
    return taken[: len(taken) // 4 * 4]


@given(tables, st.floats(0.05, 1))
def test_optidel_equals_its_definition(table, budget):
    reference = by_definition(table, budget)
    if reference:
        assert chosen(table, budget=budget).patch_ids == reference
    else:
        with pytest.raises(ValueError, match="holds no image of 4 patches"):
            chosen(table, budget=budget)


@given(tables, st.sampled_from(["random", "optidel"]), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_rows_and_never_exceeds_the_budget(table, method, random):
    order = list(range(len(table)))
    random.shuffle(order)
    one, other = chosen(table, method, 1.0), chosen(table.take(order), method, 1.0)
    assert one.patch_ids == other.patch_ids
    assert one.selection_id == other.selection_id
    assert len(set(one.patch_ids)) == len(one.patch_ids)
    assert one.retained <= 1.0


def test_random_is_a_function_of_the_seed():
    table = columns(np.linspace(0, 1, 100))
    assert chosen(table, "random", seed=1).patch_ids == chosen(table, "random", seed=1).patch_ids
    assert chosen(table, "random", seed=1).patch_ids != chosen(table, "random", seed=2).patch_ids


def test_random_takes_every_patch_equally_often():
    table = columns(np.linspace(0, 1, 16))
    counts = np.zeros(16)
    for seed in range(600):
        for patch_id in chosen(table, "random", 0.25, seed).patch_ids:
            counts[int(patch_id[1:])] += 1
    assert np.abs(counts - 150).max() < 5 * np.sqrt(150 * 0.75)


def test_a_difficulty_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="1 of 8 patches have a difficulty that is not a number"):
        chosen(columns([np.nan, 1, 2, 3, 4, 5, 6, 7]))
