"""Our method: what is planted is found, what is left out is missed, and the order is that of its definition."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.appearance import LIMITS
from engine.config import SelectionConfig
from engine.geometry import effective_rank
from engine.methods import EndocurateConfig
from engine.pool import Held, Pool
from engine.selection import choose, in_process
from engine.selection.budgets import budget_of
from engine.selection.endocurate import Traits, directions, endocurate, measured, ordered, worth_of
from engine.theory import recommendation

CONFIG = SelectionConfig(method="endocurate", budget=1.0, unit="patches", clusters=4)
KNOBS = EndocurateConfig()


def pool_of(count, seed=0, **columns):
    rng = np.random.default_rng(seed)
    made = {
        "patch_id": [f"v{row % 5}@{row}" for row in range(count)],
        "video_id": [f"v{row % 5}" for row in range(count)],
        "bytes": np.full(count, 10, np.int32),
        "difficulty": rng.uniform(0.05, 0.5, count).astype(np.float32),
        "variance": np.full(count, 0.6, np.float32),
        **{name: np.zeros(count, np.float32) for name in LIMITS},
    }
    return Pool(pa.table(made | columns), Held(rng.normal(size=(count, 16)).astype(np.float32)))


def by_definition(traits, videos, keys, knobs):
    """The order as the module's first lines tell it, in loops."""
    rows = range(len(keys))
    artefacts = sorted([r for r in rows if traits.artefact[r] > 1], key=lambda r: (traits.artefact[r], keys[r]))
    clean = sorted([r for r in rows if r not in artefacts], key=lambda r: (-traits.likeness[r], keys[r]))
    alike = sorted(clean[: int(knobs.alike * len(clean))], key=lambda r: (traits.likeness[r], keys[r]))
    first = {}
    for label in set(traits.labels.tolist()):
        mine = sorted(
            [r for r in rows if r not in artefacts + alike and traits.labels[r] == label], key=lambda r: (traits.worth[r], keys[r])
        )
        quantile = {r: (place + 0.5) / len(mine) for place, r in enumerate(mine)}
        upwards = [r for r in mine if quantile[r] >= knobs.start]
        path = upwards + [r for r in reversed(mine) if quantile[r] < knobs.start]
        queues = {video: [r for r in path if videos[r] == video] for video in videos}
        turns = []
        while any(queues.values()):
            taken = [queue.pop(0) for queue in queues.values() if queue]
            turns += sorted(taken, key=path.index)
        first |= {r: (turn + 0.5) / len(mine) ** knobs.balance for turn, r in enumerate(turns)}
    return sorted(first, key=lambda r: (first[r], keys[r])) + alike + artefacts


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_order_is_that_of_the_definition(count, seed, start, balance):
    rng, pool = np.random.default_rng(seed), pool_of(count)
    levels = rng.integers(0, 8, count) / 8  # ties, and quantiles that are exact
    traits = Traits(levels, rng.integers(0, 4, count) / 2, rng.integers(0, 3, count).astype(np.int32), rng.uniform(0.9, 1, count))
    knobs = EndocurateConfig(start=start, balance=balance)
    assert ordered(pool, traits, knobs).tolist() == by_definition(traits, pool.columns["video_id"].to_pylist(), pool.keys(), knobs)


def test_worth_is_nothing_for_what_is_learnt_and_for_noise_and_most_in_between():
    learnt, between, noise = worth_of(pool_of(3, difficulty=np.array([0.01, 0.3, 0.55], np.float32)))
    assert [learnt, between, noise] == pytest.approx([1 / 6 * 5 / 6, 0.25, 5 / 6 * 1 / 6])
    explained = pool_of(2, difficulty=np.array([0.3, 0.3001], np.float32), variance=np.array([0.31, 0.9], np.float32))
    assert worth_of(explained) == pytest.approx([0.25 * 0.25, 0.75 * 0.75])
    assert np.isfinite(worth_of(pool_of(2, variance=np.zeros(2, np.float32)))).all()  # patches of one colour


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(24)))
def test_the_order_does_not_depend_on_that_of_the_rows(shuffled):
    pool = pool_of(24, glare=np.arange(24, dtype=np.float32) / 500)
    other = Pool(pool.columns.take(shuffled), Held(pool.vectors.array[shuffled]))
    assert choose(pool, CONFIG).patch_ids == choose(other, CONFIG).patch_ids


def test_a_smaller_budget_takes_a_beginning_of_a_larger_one():
    pool = pool_of(80)
    chosen = [choose(pool, CONFIG.model_copy(update={"budget": budget})).patch_ids for budget in (0.1, 0.3, 1.0)]
    assert [len(ids) for ids in chosen] == [8, 24, 80]
    assert chosen[0] == chosen[2][:8]
    assert chosen[1] == chosen[2][:24]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.floats(0.01, 1), st.sampled_from(["bytes", "patches"]), st.integers(0, 99), st.integers(0, 9))
def test_what_a_budget_takes_is_the_beginning_of_the_whole_order_after_more_came_too(count, share, unit, seed, new):
    rng = np.random.default_rng(seed)
    sizes, glare = rng.integers(1, 90, count), rng.choice([0, 0.02], count).astype(np.float32)
    pool = pool_of(count, seed, bytes=sizes.astype(np.int32), glare=glare)
    config = CONFIG.model_copy(update={"budget": share, "unit": unit})
    budget = budget_of(pool, config, 1)
    old = max(count - new, 1)
    before = endocurate(pool.part(np.arange(old)), None, CONFIG, in_process).clustering
    known = before.at(np.where(np.arange(count) < old, np.arange(count), -1))
    nothing = replace(known.at(np.full(count, -1)), members=np.zeros_like(known.members))
    anew = replace(pool, clustering=nothing)
    whole = ordered(pool, measured(anew, CONFIG, in_process), KNOBS)
    for one in (anew, replace(pool, clustering=known)):
        rows = endocurate(one, budget, config, in_process).rows
        assert rows.tolist() == whole[: len(rows)].tolist()
        assert budget.within(rows).tolist() == budget.within(whole).tolist()


@pytest.mark.parametrize("start", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_of_a_share_of_the_clean_and_unlike_the_mean_quantile_of_worth_is_that_of_the_closed_form(start, share):
    rng, clusters, each = np.random.default_rng(0), 4, 200
    count = 2 * clusters * each  # half of them alike or artefacts, of any worth
    pool, plain = pool_of(count, video_id=["v"] * count), np.arange(count) < count // 2
    artefact = np.where(plain | (np.arange(count) % 2 == 0), 0.0, 2.0)
    likeness = np.where(plain, 0.1, 0.9).astype(np.float32)
    labels, worth = (np.arange(count) % clusters).astype(np.int32), rng.random(count)
    knobs = EndocurateConfig(start=start, alike=1 / 3)  # of the clean ones: two thirds are plain
    order = ordered(pool, Traits(worth, artefact, labels, likeness), knobs)
    assert set(order[: count // 2]) == set(np.flatnonzero(plain))
    quantile = np.empty(count)
    for label in range(clusters):
        mine = np.flatnonzero(plain & (labels == label))
        quantile[mine[np.argsort(worth[mine])]] = (np.arange(each) + 0.5) / each
    taken = order[: int(share * count // 2)]
    expected = start + share / 2 if share <= 1 - start else 1 - share / 2
    assert quantile[taken].mean() == pytest.approx(expected, abs=1.5 / each)


@pytest.mark.parametrize("art", [0.0, 0.5])
def test_the_more_is_kept_the_worthier_up_to_half_of_the_clean_and_unlike_and_less_so_from_there(art):
    rng, count = np.random.default_rng(0), 6000
    variance = np.exp(rng.normal(-0.5, 0.6, count))
    error = variance * rng.uniform(0.2, 1, count)
    glare = (rng.random(count) < art).astype(np.float32)
    pool = pool_of(count, difficulty=error.astype(np.float32), variance=variance.astype(np.float32), glare=glare)
    worth = dict(zip(pool.columns["patch_id"].to_pylist(), worth_of(pool), strict=True))
    turn = float(1 - glare.mean()) * 0.5 * 0.5  # of the pool: of the clean the unlike half, of it the upper half of worth
    means = {}
    for part in (0.1, 0.4, 0.7, 1.0, 1.4, 2.0):
        config = CONFIG.model_copy(update={"budget": part * turn, "clusters": 12})
        means[part] = np.mean([worth[patch_id] for patch_id in choose(pool, config).patch_ids])
    assert means[0.1] < means[0.4] < means[0.7] < means[1.0]
    assert means[1.0] > means[1.4] > means[2.0]


def test_of_a_difficulty_that_is_no_rebuild_error_the_hardest_are_the_worthiest():
    pool = pool_of(60, difficulty=np.random.default_rng(1).uniform(-3, 9, 60).astype(np.float32))
    other = replace(pool, rebuilds=False)
    made = endocurate(other, None, CONFIG, in_process)
    assert made.rows.tolist() == ordered(pool, measured(pool, CONFIG, in_process, {"learnable"}), KNOBS).tolist()
    assert made.rows.tolist() != endocurate(pool, None, CONFIG, in_process).rows.tolist()
    assert (made.told["learnable"], endocurate(pool, None, CONFIG, in_process).told["learnable"]) == (0, 1)
    assert not other.part(np.arange(9)).rebuilds


def test_planted_noise_and_artefacts_come_last_and_every_video_and_kind_early():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2, 3], [60, 25, 10, 5])  # rare ones too
    vectors = np.eye(16, dtype=np.float32)[kinds] + rng.normal(size=(100, 16)).astype(np.float32) / 6
    noise, glare = np.zeros(100, bool), np.zeros(100, np.float32)
    noise[::7], glare[3::11] = True, 0.2
    pool = pool_of(100, difficulty=np.where(noise, 0.59, rng.uniform(0.1, 0.4, 100)).astype(np.float32), glare=glare)
    config = CONFIG.model_copy(update={"budget": 0.2})
    ids = pool.columns["patch_id"].to_pylist()
    chosen = [ids.index(patch_id) for patch_id in choose(Pool(pool.columns, Held(vectors)), config).patch_ids]
    assert not glare[chosen].any()
    assert not noise[chosen].any()
    assert set(kinds[chosen]) == {0, 1, 2, 3}
    assert {ids[row][:2] for row in chosen} == {"v0", "v1", "v2", "v3", "v4"}


def test_the_harder_of_two_alike_stays_and_an_artefact_displaces_nobody():
    pool = pool_of(12, seed=3, difficulty=np.linspace(0.01, 0.59, 12).astype(np.float32), black=np.array([0] * 11 + [1], np.float32))
    pool.vectors.array[[0, 5, 9, 11]] = pool.vectors.array[5]
    traits = measured(pool, CONFIG, in_process)
    assert traits.worth.argmax() == 5
    assert np.flatnonzero(traits.likeness > 0.95).tolist() == [0, 5]
    assert endocurate(pool, None, CONFIG, in_process).rows[-3:].tolist()[-1] == 11


@pytest.mark.parametrize("omitted", ["guard", "learnable", "diversity", "duplicates", "budget"])
def test_every_ingredient_can_be_left_out_and_changes_the_order(omitted):
    pool = pool_of(60, black=(np.arange(60) % 7 == 0).astype(np.float32))
    pool.vectors.array[1::9] = pool.vectors.array[0]
    full = ordered(pool, measured(pool, CONFIG, in_process), KNOBS)
    without = ordered(pool, measured(pool, CONFIG, in_process, {omitted}), KNOBS, {omitted})
    assert sorted(without) == sorted(full)
    assert without.tolist() != full.tolist()


def test_a_column_that_is_not_a_number_is_told():
    with pytest.raises(ValueError, match="1 of 3 patches have a glare that is not a finite number"):
        choose(pool_of(3, glare=np.array([0, np.nan, 0], np.float32)), CONFIG)


def test_what_theory_would_do_is_told_and_done_only_where_asked_for():
    pool = pool_of(400)
    asked = {start: CONFIG.model_copy(update={"budget": 0.1, "endocurate": EndocurateConfig(start=start)}) for start in (0.5, "theory")}
    chosen = {start: choose(pool, config) for start, config in asked.items()}
    told = chosen[0.5].told
    traits = measured(pool, CONFIG, in_process)
    alpha_tot = 200 / effective_rank(pool.vectors.array)  # half of the clean patches are late for being alike
    assert told["alpha_tot"] == pytest.approx(alpha_tot, rel=0.5)  # on a rung: three of them in a power of ten
    assert (told["start"], told["different"], told["degrees"]) == (0.5, 200, recommendation.DEGREES)
    assert chosen["theory"].told["start"] == told["recommended_start"] != 0.5
    for said, start in ((0.5, 0.5), ("theory", told["recommended_start"])):
        ids = pool.columns["patch_id"].to_pylist()
        order = ordered(pool, traits, EndocurateConfig(start=start))
        assert chosen[said].patch_ids == [ids[row] for row in order[:40]]


@pytest.mark.parametrize("times", [1, 5, 10])
def test_copies_are_counted_and_give_the_theory_no_more_examples(times):
    single = pool_of(100)
    rows = np.tile(np.arange(100), times)
    ids = [f"v{place % 5}@{place}" for place in range(len(rows))]
    columns = single.columns.take(rows).set_column(0, "patch_id", pa.array(ids))
    told = choose(Pool(columns, Held(single.vectors.array[rows])), CONFIG).told
    assert (told["copies"], told["different"]) == (100 * (times - 1), 50 if times == 1 else 100)


def test_the_directions_are_counted_of_4096_embeddings_by_lot():
    rng = np.random.default_rng(0)
    pool = pool_of(4200)
    vectors = (rng.normal(size=(4200, 40)) * np.linspace(0.1, 3, 40)).astype(np.float32)
    pool = replace(pool, vectors=Held(vectors))
    drawn = sorted(range(4200), key=pool.keys().__getitem__)[:4096]
    assert directions(pool) == pytest.approx(effective_rank(vectors[drawn]), rel=1e-6)
    assert directions(pool) != pytest.approx(effective_rank(vectors), rel=1e-6)


def test_by_theory_too_a_smaller_budget_takes_a_beginning_of_a_larger_one():
    pool, config = pool_of(80), CONFIG.model_copy(update={"endocurate": EndocurateConfig(start="theory")})
    small, large = (choose(pool, config.model_copy(update={"budget": budget})).patch_ids for budget in (0.2, 0.8))
    assert small == large[: len(small)]
