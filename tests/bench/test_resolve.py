"""A choice solved again after 1 % more patches came, against solving it whole: time, and how many choices changed.

BENCH_SCALE=1 takes a million patches with 384 numbers each, all in memory.
"""

import os
import time
from dataclasses import replace

import numpy as np
import pytest

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
ROWS = int(1_000_000 * SCALE)


def timed(pool, method):
    """A choice, and the wall and processor seconds that it took."""
    from engine.config import SelectionConfig
    from engine.selection import choose

    wall, cpu = time.perf_counter(), time.process_time()
    made = choose(pool, SelectionConfig(method=method, budget=0.05, unit="patches"))
    return made, time.perf_counter() - wall, time.process_time() - cpu


@pytest.mark.bench
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("method", ["semdedup", "meddel", "endocurate"])
def test_one_percent_more_is_solved_again(method):
    from engine.pool import Held, Pool
    from tests.bench.test_selection import embeddings, table

    count = ROWS + ROWS // 100
    whole = Pool(table(count), Held(embeddings(count)))
    before, all_wall, all_cpu = timed(whole.part(np.arange(ROWS)), method)
    known = before.clustering.at(np.where(np.arange(count) < ROWS, np.arange(count), -1))
    after, wall, cpu = timed(replace(whole, clustering=known), method)
    emptied = replace(known.at(np.full(count, -1)), members=np.zeros_like(known.members))
    again, from_centroids, _ = timed(replace(whole, clustering=emptied), method)
    assert after.patch_ids == again.patch_ids
    entered, left = len(set(after.patch_ids) - set(before.patch_ids)), len(set(before.patch_ids) - set(after.patch_ids))
    print(
        f"\n{method}: {ROWS:,} patches in {all_wall:.1f} s ({all_cpu:.1f} of processors); 1 % more in {wall:.1f} s ({cpu:.1f}), "
        f"{cpu / all_cpu:.1%} of it, from the centroids alone {from_centroids:.1f} s; "
        f"of {len(after.patch_ids):,} choices {entered:,} entered and {left:,} left",
        end="",
    )
