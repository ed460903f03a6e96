"""A choice whose clusters are worked on by Ray's workers; apart from test_flow, whose workers need none of what this imports."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engine import flow
from engine.appearance import LIMITS
from engine.config import SelectionConfig
from engine.flow import Step
from engine.pool import Held, Pool
from engine.selection import choose, spread


@pytest.fixture(scope="module", autouse=True)
def ray():
    yield
    flow.shut_down()


@pytest.mark.parametrize(
    ("method", "budget"),
    [
        ("semdedup", 0.3),
        ("semdedup", 0.05),
        *((name, 0.3) for name in ("meddel", "d4", "density", "endocurate", "kcenter", "hierarchical")),
    ],
)
@pytest.mark.processes
def test_a_choice_whose_clusters_are_spread_over_workers_is_the_same(monkeypatch, method, budget):
    monkeypatch.setattr(spread, "AT_ONCE", 40)  # a dozen tasks
    rng = np.random.default_rng(0)
    columns = pa.table({"patch_id": [f"p{row}" for row in range(400)], "bytes": rng.integers(50, 900, 400)})
    for name in ("difficulty", "variance", *LIMITS):  # a fifth is artefacts, by one of the three
        columns = columns.append_column(name, pa.array(rng.random(400) * LIMITS.get(name, 1) * 1.08))
    columns = columns.append_column("video_id", pa.array([f"v{row % 5}" for row in range(400)]))
    pool = Pool(columns, Held(rng.normal(size=(80, 16))[rng.integers(0, 80, 400)] + 0.1 * rng.normal(size=(400, 16))))
    tasks_seen = []

    def on_ray(stage, arguments, tasks):
        tasks_seen.append(len(tasks))
        return flow.run_on_ray([Step(stage, arguments, batch=1, actors=(1, 4), loads=False)], tasks)

    config = SelectionConfig(method=method, budget=budget)
    here = choose(pool, config)
    monkeypatch.setattr(spread, "IN_MEMORY", 100)  # a few slabs
    assert choose(pool, config).patch_ids == here.patch_ids
    assert choose(pool, config, run=on_ray).patch_ids == here.patch_ids
    known = here.clustering.at(np.where(np.arange(400) % 9, np.arange(400), -1))  # every ninth is new
    grown = replace(pool, clustering=known)
    assert choose(grown, config, run=on_ray).patch_ids == choose(grown, config).patch_ids
    assert min(tasks_seen, default=3) > (2 if budget == 0.3 else 0)  # k-centre and hierarchical k-means have none
