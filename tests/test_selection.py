"""What is common to all methods: the budget, the seed, the order of rows, bad input, and that Ray makes the same choice."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.appearance import LIMITS
from engine.config import Method, SelectionConfig
from engine.pool import Held, Pool
from engine.selection import METHODS, choose, columns
from engine.selection.budgets import budget_of
from jobs.throughput import Throughput

PLAIN = ["random", "optidel", "optidel_s", "easy", "rded"]
SCORERS = ["el2n_like", "forgetting_like"]
EMBEDDED = [name for name, method in METHODS.items() if method.embeddings]
NESTED = [name for name, method in METHODS.items() if method.nested]


def table(difficulty, sizes=None, frames=5, proposer="crops"):
    count = len(difficulty)
    return pa.table(
        {
            "patch_id": [f"p{i:04d}" for i in range(count)],
            "frame_id": [f"f{i % frames}" for i in range(count)],
            "video_id": [f"v{i % 3}" for i in range(count)],
            "proposer": [proposer] * count,
            "difficulty": pa.array(difficulty, pa.float32()),
            "bytes": pa.array(sizes if sizes is not None else [100] * count, pa.int32()),
            "variance": pa.array([25.0] * count, pa.float32()),
            **{name: pa.array([i % 7 * limit / 4 for i in range(count)], pa.float32()) for name, limit in LIMITS.items()},
        }
    )


def pool(count=120, seed=0, width=6):
    """Patches with near-duplicates, ties and uneven sizes."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(max(1, count // 3), width))[rng.integers(0, max(1, count // 3), count)]
    vectors += 0.05 * rng.normal(size=vectors.shape) * (rng.random((count, 1)) < 0.7)
    scores = [rng.integers(0, 20, count).astype(np.float32) for _ in range(4)]
    return Pool(table(scores[3], rng.integers(50, 900, count)), Held(vectors.astype(np.float16)), tuple(scores[:3]))


def shuffled(pool, random):
    order = np.array(random.sample(range(len(pool)), len(pool)))
    return Pool(pool.columns.take(order), Held(pool.vectors.array[order]), tuple(values[order] for values in pool.earlier))


def chosen(pool, method="optidel", budget=0.5, seed=0, **knobs):
    return choose(pool, SelectionConfig(method=method, budget=budget, seed=seed, **knobs))


tables = st.lists(st.tuples(st.floats(0, 10, width=32), st.integers(1, 5000)), min_size=8, max_size=60).map(
    lambda rows: table([d for d, _ in rows], [b for _, b in rows])
)


def test_every_method_of_the_configuration_is_there_and_no_other():
    assert set(METHODS) == set(get_args(Method)) == {*PLAIN, *SCORERS, *EMBEDDED}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unit", ["bytes", "patches", "images"])
def test_the_budget_is_never_exceeded_and_what_is_left_is_told(method, unit):
    for seed, budget in [(0, 0.11), (1, 0.5), (2, 1.0)]:
        many = pool(90, seed)
        limit = {"bytes": budget * many.columns["bytes"].to_numpy().sum(), "patches": budget * 90, "images": int(budget * 5)}[unit]
        if unit == "images" and limit < 1:
            continue
        made = chosen(many, method, budget, unit=unit)
        spent = {"bytes": made.sizes.sum(), "patches": len(made.patch_ids), "images": len(made.patch_ids) // 4}[unit]
        assert 0 < spent <= limit
        assert made.unspent == pytest.approx(int(limit + 1e-9) - spent)
        assert len(made.patch_ids) % 4 == 0
        assert len(set(made.patch_ids)) == len(made.patch_ids)


def within(many, config, group):
    """A selection; None where the budget holds no image, being too little, or for MedDEL where no radius keeps so few."""
    try:
        return choose(many, config, group=group, seconds_per_image=60)
    except ValueError as reason:
        if "holds no image" in str(reason):
            return None
        raise


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=8)
@given(tables, st.floats(0.01, 1), st.sampled_from([1, 4, 9]), st.integers(0, 99))
def test_whatever_the_sizes_no_budget_in_any_unit_is_exceeded(method, columns, share, group, seed):
    rng, count = np.random.default_rng(seed), len(columns)
    many = Pool(columns, Held(rng.normal(size=(count, 3)).astype(np.float16)), (rng.random(count).astype(np.float32),))
    every, sizes = int(columns["bytes"].to_numpy().sum()), {"bytes": lambda made: int(made.sizes.sum())}
    budgets = {"bytes": share, "patches": max(2, int(share * count)), "images": share, "gpu_hours": share * count / group / 60}
    limits = {"bytes": share * every, "patches": budgets["patches"], "images": share * 5, "gpu_hours": budgets["gpu_hours"]}
    worth = {"patches": 1, "images": 1 / group, "gpu_hours": 1 / group / 60}  # a minute an image
    for unit, budget in budgets.items():
        config = SelectionConfig(method=method, budget=budget, unit=unit)
        if (made := within(many, config, group)) is None:
            continue
        spent = sizes[unit](made) if unit in sizes else len(made.patch_ids) * worth[unit]
        assert 0 < spent <= limits[unit] * (1 + 1e-12)
        assert len(made.patch_ids) % group == 0
        assert len(set(made.patch_ids)) == len(made.patch_ids)
        assert -1e-9 <= made.unspent <= limits[unit] - spent + 1e-9


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=5)
@given(st.integers(0, 50), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_rows(method, seed, random):
    one = pool(60, seed)
    first, second = chosen(one, method, 0.4, seed), chosen(shuffled(one, random), method, 0.4, seed)
    assert first.patch_ids == second.patch_ids
    assert (first.selection_id, first.told, first.unspent) == (second.selection_id, second.told, second.unspent)


@pytest.mark.parametrize("method", NESTED)
def test_of_a_ranking_a_smaller_budget_takes_a_beginning(method):
    many = pool(100)
    large = chosen(many, method, 0.8).patch_ids
    for budget in (0.1, 0.3, 0.5):
        small = chosen(many, method, budget).patch_ids
        assert small == large[: len(small)]


@pytest.mark.parametrize("method", sorted(METHODS.keys() - set(NESTED)))
def test_what_is_said_not_to_be_nested_is_not(method):
    many = pool(100)
    frames = pa.array([f"f{i % 50}" for i in range(100)])  # of each rded takes one
    many = replace(many, columns=many.columns.set_column(1, "frame_id", frames))
    large, small = (chosen(many, method, budget, unit="patches").patch_ids for budget in (40, 12))
    assert len(small) >= 8
    assert small != large[: len(small)]


@pytest.mark.parametrize("method", ["random", "hierarchical", "kcenter"])
def test_another_seed_is_another_draw(method):
    assert chosen(pool(), method, 0.2, seed=1).patch_ids != chosen(pool(), method, 0.2, seed=2).patch_ids


@pytest.mark.parametrize("method", EMBEDDED)
@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_identical_patches_and_fewer_than_clusters_will_do(method, count):
    same = Pool(table(np.ones(count)), Held(np.ones((count, 3), np.float16)))
    config = SelectionConfig(method=method, budget=count, unit="patches", clusters=50)
    share = {"d4": 0.75, "density": 0.63}.get(method, 1)  # what is left of them
    assert len(choose(same, config, group=1).patch_ids) == max(1, round(share * count))


@pytest.mark.filterwarnings("error")
def test_terabytes_are_budgeted_as_kilobytes_are():
    rng = np.random.default_rng(0)
    vectors, sizes = Held(rng.normal(size=(400, 8))), rng.integers(1000, 9000, 400)
    config = SelectionConfig(method="meddel", budget=0.3, clusters=200)  # so many that the radius is first foreseen from some
    few, many = (choose(Pool(table(np.ones(400), sizes * times), vectors), config) for times in (1, 200_000))
    assert many.patch_ids == few.patch_ids


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 60), st.integers(1, 8), st.sampled_from([0, 20]))
def test_frames_of_a_still_video_are_shared_out_over_the_clusters_that_they_fill(count, different, clusters):
    vectors = np.random.default_rng(different).normal(size=(different, 4)).astype(np.float16)[np.arange(count) % different]
    config = SelectionConfig(method="hierarchical", budget=count // 2 + 1, unit="patches", clusters=clusters)
    assert len(choose(Pool(table(np.ones(count)), Held(vectors)), config, group=1).patch_ids) == count // 2 + 1


@pytest.mark.parametrize("method", EMBEDDED)
def test_a_vector_without_direction_is_told(method):
    some = pool(20)
    some.vectors.array[4] = 0
    with pytest.raises(ValueError, match="1 of 20 embeddings are zero or hold what is not a finite number"):
        chosen(some, method)
    with pytest.raises(ValueError, match="this method compares embeddings and the pool has none"):
        chosen(some.columns, method)


@pytest.mark.parametrize("method", ["optidel", "optidel_s", "easy", "rded"])
def test_a_difficulty_that_is_not_a_number_is_refused(method):
    with pytest.raises(ValueError, match="1 of 8 patches have a difficulty that is not a finite number"):
        chosen(table([np.nan, 1, 2, 3, 4, 5, 6, 7]), method)


@pytest.mark.parametrize("method", METHODS)
def test_no_patches_and_too_small_a_budget_are_a_sentence(method):
    with pytest.raises(ValueError, match=r"selection.budget=0.5 .* of 0 patches .* holds no image of 4 patches"):
        chosen(pool(8).part(np.zeros(0, np.int64)), method)
    with pytest.raises(ValueError, match=r"selection.budget=3 with selection.unit=bytes of 40 patches \([\d,]+ bytes\) holds no image"):
        chosen(pool(40), method, 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", ["bytes", "patches", "images"])
def test_a_patch_that_does_not_tell_its_bytes_is_told(unit):
    columns = table(np.arange(40))
    columns = columns.set_column(columns.column_names.index("bytes"), "bytes", pa.array([None, *[100] * 39], pa.int32()))
    with pytest.raises(ValueError, match="1 of 40 patches do not tell their bytes"):
        chosen(columns, "optidel", unit=unit)


def test_whole_frames_are_chosen_from_apart():
    both = pa.concat_tables(
        [table(np.arange(8)), table(np.arange(8), proposer="frame").set_column(0, "patch_id", [[f"w{i}" for i in range(8)]])]
    )
    vectors = Held(np.random.default_rng(0).normal(size=(16, 3)))
    for method in ("optidel", "semdedup"):
        assert {name[0] for name in chosen(Pool(both, vectors), method, 1.0).patch_ids} == {"p"}
        assert {name[0] for name in chosen(Pool(both, vectors), method, 1.0, of="frames").patch_ids} == {"w"}


def test_a_choice_reads_the_columns_it_says_and_no_other():
    for method, one in METHODS.items():
        for unit in ("bytes", "images"):
            config = SelectionConfig(method=method, budget=0.5, unit=unit)
            many = pool(60)
            few = Pool(many.columns.select(columns(config)), many.vectors if one.embeddings else None, many.earlier)
            assert choose(few, config).patch_ids == choose(many, config).patch_ids


def test_images_may_be_of_one_or_nine_patches():
    assert len(choose(table(np.arange(100)), SelectionConfig(budget=0.2), group=9).patch_ids) == 18
    assert len(choose(table(np.arange(100)), SelectionConfig(budget=0.2, unit="images"), group=9).patch_ids) == 9
    assert len(choose(table(np.arange(100)), SelectionConfig(budget=7, unit="patches"), group=1).patch_ids) == 7


def test_hours_of_a_gpu_buy_the_images_that_go_through_it():
    config = SelectionConfig(budget=0.5, unit="gpu_hours")
    made = choose(table(np.arange(100)), config, seconds_per_image=150)
    assert len(made.patch_ids) == 0.5 * 3600 // 150 * 4
    assert made.unspent == pytest.approx(0)
    with pytest.raises(ValueError, match=r"selection.unit=gpu_hours needs selection.images_per_s"):
        choose(table(np.arange(100)), config)


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 100, 800])
@pytest.mark.parametrize("tenths", [5, 13, 33, 100, 333, 1234, 10_001])  # of an image a second
def test_hours_pay_for_every_image_that_exact_arithmetic_says(epochs, tenths):
    """Of ten thousandths of an hour, in whole numbers: floor(hours * 3600 * images a second / epochs)."""
    told = Throughput(tenths / 10, "")
    for parts in (1, 5, 7, 29, 100, 2500, 9999, 12_345):
        config = SelectionConfig(budget=parts / 10_000, unit="gpu_hours")
        budget = budget_of(Pool(table([1.0])), config, 4, told.seconds(epochs))
        images, left = divmod(parts * 3600 * tenths, 100_000 * epochs)
        assert budget.limit == 4 * images
        assert budget.unspent(np.zeros(0, np.int64)) == pytest.approx(parts / 10_000)
        assert budget.rest == pytest.approx(left / (36_000_000 * tenths), abs=1e-15)


def test_what_hours_pay_for_is_chosen_and_what_is_left_counts_less_than_an_image_too():
    """1.8 s at 10 images a second are nine images of two epochs; 1.98 s are nine and .18 s."""
    for hours, left in [(0.0005, 0), (0.00055, 0.18 / 3600)]:
        config = SelectionConfig(budget=hours, unit="gpu_hours")
        made = choose(table(np.arange(100)), config, seconds_per_image=Throughput(10.0, "").seconds(2))
        assert (len(made.patch_ids), made.unspent) == (36, pytest.approx(left, abs=1e-12))


@pytest.mark.parametrize("method", METHODS)
def test_a_patch_that_alone_exceeds_the_budget_in_bytes_is_passed_over(method):
    """Whichever of them they are, the first in the order too: before, one large first patch made every such budget too small."""
    many = pool(120)
    sizes, frames = np.full(120, 100), pa.array([f"f{i % 60}" for i in range(120)])

    def made_of(sizes):
        columns = table(many.columns["difficulty"], sizes).set_column(1, "frame_id", frames)
        return chosen(replace(many, columns=columns), method, 4000)

    large = [int(name[1:]) for name in made_of(sizes).patch_ids[:2]]
    sizes[large] = 5000
    made = made_of(sizes)
    assert 20 <= len(made.patch_ids) <= 40
    assert not {f"p{row:04d}" for row in large} & set(made.patch_ids)
    assert made.unspent == 4000 - 100 * len(made.patch_ids)


@pytest.mark.parametrize("method", METHODS)
def test_what_alone_exceeds_the_budget_in_bytes_has_no_part_in_the_choice_of_the_others(method):
    """It stands in for none, is nobody's copy, no centre and no frame's easiest, and what is said of a lack counts without it."""
    many, sizes = pool(160), np.full(160, 100)
    frames = pa.array([f"f{i % 40}" for i in range(160)])
    sizes[np.random.default_rng(3).permutation(160)[:30]] = 9000
    columns = table(many.columns["difficulty"], sizes).set_column(1, "frame_id", frames)
    whole = replace(many, columns=columns)
    part = whole.part(np.flatnonzero(sizes == 100))
    made, alone = chosen(whole, method, 8000), chosen(part, method, 8000)
    assert made.patch_ids == alone.patch_ids
    assert made.told == alone.told
    assert made.few == (alone.few and f"by itself each of 30 of 160 patches exceeds it, and of the others {alone.few}")
    assert made.unspent == alone.unspent == 8000 - 100 * len(made.patch_ids)


@pytest.mark.parametrize("method", ["semdedup", "endocurate", "d4", "density"])
def test_a_larger_budget_goes_on_from_clusters_that_a_smaller_one_compared_without_the_large_patches(method):
    many, sizes = pool(160), np.full(160, 100)
    sizes[np.random.default_rng(4).permutation(160)[:20]] = 4000
    many = replace(many, columns=many.columns.set_column(many.columns.schema.get_field_index("bytes"), "bytes", pa.array(sizes)))
    large = chosen(many, method, 60_000)
    small = chosen(replace(many, clustering=large.clustering), method, 3000)
    clusters_alone = replace(large.clustering.bare(), left=large.clustering.left)  # those of what SemDeDup leaves as well
    known, bare = (replace(many, clustering=one) for one in (small.clustering, clusters_alone))
    assert small.clustering.name == large.clustering.name
    assert (small.clustering.labels == large.clustering.labels).all()
    part = bare.part(np.flatnonzero(sizes == 100))
    assert small.patch_ids == chosen(replace(part, clustering=bare.clustering.at(np.flatnonzero(sizes == 100))), method, 3000).patch_ids
    assert chosen(known, method, 60_000).patch_ids == large.patch_ids == chosen(bare, method, 60_000).patch_ids


@pytest.mark.parametrize("method", EMBEDDED)
def test_a_patch_without_direction_that_a_smaller_budget_had_no_room_for_is_told_by_a_larger_one(method):
    many, sizes = pool(160), np.full(160, 100)
    sizes[5:20] = 4000
    many.vectors.array[7] = 0
    many = replace(many, columns=many.columns.set_column(many.columns.schema.get_field_index("bytes"), "bytes", pa.array(sizes)))
    small = chosen(many, method, 3000)
    known = replace(many, clustering=small.clustering)
    assert np.flatnonzero(small.clustering.labels < 0).tolist() == [7]
    assert chosen(known, method, 3000).patch_ids == small.patch_ids
    with pytest.raises(ValueError, match="1 of 160 embeddings are zero or hold what is not a finite number"):
        chosen(known, method, 60_000)


@pytest.mark.parametrize("unit", ["patches", "bytes", "images"])
@pytest.mark.parametrize("method", ["hierarchical", "density", "kcenter", "meddel", "random"])
def test_any_budget_above_what_there_is_takes_all_that_the_method_takes(method, unit):
    many = pool(60)
    huge = chosen(many, method, 1e300, unit=unit)
    assert huge.patch_ids == chosen(many, method, 1_000_000_000, unit=unit).patch_ids
    assert len(huge.patch_ids) == (36 if method == "density" else 60)  # of the 38 that SemDeDup leaves


def test_where_nothing_alone_exceeds_the_budget_the_choice_ends_before_the_first_there_is_no_room_for():
    columns = table(np.arange(40)[::-1], [100] * 8 + [3900] + [100] * 31)
    assert chosen(columns, "optidel", 4000).patch_ids == [f"p{row:04d}" for row in range(8)]


@pytest.mark.parametrize(
    ("method", "count", "why"),
    [
        ("density", 124, "SemDeDup leaves 126 of 200 patches, and Density-Based Pruning chooses among these: choose by another method"),
        ("d4", 148, "SemDeDup leaves 150 of 200 patches to choose from: raise selection.d4.dedup, or choose by another method"),
        ("rded", 4, "selection.method=rded takes one patch of each frame, and there are 5: take in more video"),
        ("optidel", 180, ""),
        ("semdedup", 180, ""),
    ],
)
def test_a_method_that_has_no_more_to_choose_says_so_where_the_budget_has_room(method, count, why):
    made = chosen(pool(200), method, 0.9, unit="patches")
    assert (len(made.patch_ids), made.few) == (count, why)
    assert chosen(pool(200), method, 4, unit="patches").few == ""


def test_a_store_without_whole_frames_says_how_they_come_in():
    with pytest.raises(ValueError, match=r"of 0 frames .* whole frames are stored where video is taken in with patches.whole_frames=true"):
        chosen(table(np.arange(8)), of="frames")


@pytest.mark.parametrize("method", ["optidel", "rded", "density", "d4", "meddel"])
@pytest.mark.parametrize("unit", ["patches", "bytes"])
@pytest.mark.parametrize(("count", "why"), [(3, "take in more video"), (60, "raise the budget")])
def test_what_would_help_is_said_and_nothing_else(method, unit, count, why):
    with pytest.raises(ValueError, match=f"order of choice: {why}$"):
        chosen(pool(count), method, 3, unit=unit)


def test_a_share_is_read_as_it_is_written():
    assert len(choose(table(np.arange(100)), SelectionConfig(budget=0.29, unit="patches"), group=1).patch_ids) == 29
