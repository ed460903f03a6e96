"""A choice solved again after 1 % more patches came, beside solving it whole: processor time, and how many choices changed.

BENCH_SCALE=1 takes ten million patches with 384 numbers each, read from a Lance table as the job reads them.
"""

import os
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.bench.test_selection import BUDGET, WIDTH, measured, stored, table

ROWS = int(10_000_000 * float(os.environ.get("BENCH_SCALE", "1")))


def timed(pool, method):
    """A choice, and the wall and processor seconds that it took."""
    from engine.config import SelectionConfig
    from engine.selection import choose

    wall, cpu = time.perf_counter(), time.process_time()
    made = choose(pool, SelectionConfig(method=method, budget=BUDGET, unit="patches"))
    return made, np.array([time.perf_counter() - wall, time.process_time() - cpu])


def solved_again(method, count, address):
    """Seconds (wall, processor) of 99 % of the patches and of all after them; the choices that entered and those that left."""
    from engine import heap
    from engine.pool import Pool
    from engine.store.vectors import StoredVectors

    heap.keep_freed()  # as the job does
    whole, old = Pool(table(count), StoredVectors(address, 1, WIDTH, np.arange(count))), count - count // 100
    before, first = timed(whole.part(np.arange(old)), method)
    places = np.where(np.arange(count) < old, np.arange(count), -1)
    after, second = timed(replace(whole, clustering=before.clustering.at(places)), method)
    came, gone = set(after.patch_ids) - set(before.patch_ids), set(before.patch_ids) - set(after.patch_ids)
    return (first, second), (len(came), len(gone), len(after.patch_ids))


@pytest.mark.bench
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("method", ["semdedup", "meddel", "endocurate"])
def test_one_percent_more_is_solved_again(tmp_path, method):
    ((wall, cpu), (again, again_cpu)), (entered, left, count), peak = measured(solved_again, method, ROWS, stored(tmp_path, ROWS))
    print(
        f"\n{method}: 99 % of {ROWS:,} patches in {wall:.1f} s ({cpu:.1f} of processors), all of them after that in {again:.1f} s "
        f"({again_cpu:.1f}): {again_cpu / cpu:.1%} of it; of {count:,} choices {entered:,} entered and {left:,} left; {peak:,.0f} MB",
        end="",
    )
