"""Judging a choice among a million patches: processors' seconds and peak memory of what goes with the pool's size, which is printed.

Features of training images and the colours of patches are not in it: they are of so many, whatever the pool.
"""

import time

import numpy as np
import pyarrow as pa
import pytest

from tests.bench.test_selection import BUDGET, FEWER, WIDTH, folder, measured, stored, table

__all__ = ["folder"]  # a fixture


def judged(count, address):
    """Processors' seconds of the clusters, and of all measures of a choice by lot and of its pool."""
    from engine import judge
    from engine.config import SelectionConfig
    from engine.judge import Case
    from engine.pool import Pool
    from engine.selection.clustering import clustered
    from engine.store.vectors import StoredVectors
    from jobs import judging

    columns = table(count).append_column("time_ms", pa.array(np.arange(count) % 600_000 * 100))
    pool = Pool(columns, StoredVectors(address, 1, WIDTH, np.arange(count)))
    began = time.process_time()
    found = clustered(pool, SelectionConfig(clusters=judging.CLUSTERS, iterations=judging.ITERATIONS))
    made = time.process_time()
    case = Case(pool, np.random.default_rng(0).permutation(count)[: int(BUDGET * count)], found.labels)
    told = {**judge.judge(case).values, **judging.of_pool(case)}
    return (made - began, time.process_time() - made), len(told)


@pytest.mark.bench
@pytest.mark.timeout(1800)
def test_a_choice_among_a_million_is_judged(folder):
    (clusters, measures), _, peak = measured(judged, FEWER, stored(folder, FEWER))
    print(f"\n{FEWER:,} judged: {clusters:.1f} s of the processors for clusters, {measures:.1f} s for measures, {peak:,.0f} MB", end="")
