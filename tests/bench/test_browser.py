"""How long a part of the grid takes at 1,000,000 patches: rows and pictures at random places of a view, over HTTP as the page asks."""

import http.client
import time
from urllib.parse import urlencode, urlsplit

import numpy as np
import pyarrow as pa
import pytest

from engine.store import PatchStore, WriteRows
from tests.bench import rows
from tests.bench.rows import PER_VIDEO, PER_WRITE, SCALE
from tests.browsed import parts, serving, told

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
COUNT, WIDTH, PART, PARTS = int(1_000_000 * SCALE), 32, 60, 200
TINY = 64  # different pictures: what is read and sent is as many bytes as if all were


def test_a_part_of_the_grid(tmp_path):
    rows.room_for(4.0 * SCALE, tmp_path)
    store = filled(str(tmp_path / "store"))
    with serving(store) as base:
        began = time.perf_counter()
        view = told(base, "/api/view", sort="difficulty", down="1")
        first = time.perf_counter() - began
        places = np.random.default_rng(0).integers(0, view["rows"] - PART, PARTS + 1).tolist()
        connection = http.client.HTTPConnection(urlsplit(base).netloc)
        spent = rows.times(lambda place: part(connection, view["view"], place), places, 120)
        again = rows.times(lambda low: told(base, "/api/view", sort="time_ms", difficulty=f"{low},"), [0.1, 0.2, 0.3, 0.4, 0.5], 60)
        counted = rows.times(lambda low: told(base, "/api/histogram", number="glare", difficulty=f"{low},"), [0.1, 0.2, 0.3, 0.4, 0.5], 60)
    print(f"\n{COUNT:,} patches with pictures of about 3 kB, {PART} at a time; {rows.load()}")
    print(f"{'the first view, s':32}{first:9.2f}")
    for name, found in {"part of it": spent, "view with a filter": again, "histogram": counted}.items():
        print(f"{name + ', ms: median, p95':32}{np.median(found):9.1f}{np.percentile(found, 95):9.1f}{len(found):6d}")
    assert np.percentile(spent, 95) < 200


def part(connection, view, first):
    connection.request("GET", "/api/rows?" + urlencode({"view": view, "first": first, "count": PART}))
    found, jpegs = parts(connection.getresponse().read())
    assert len(found) == len(jpegs) == PART


def filled(folder):
    """Rows without pixels are made by the bench's own rows; pictures are put in from a few, since drawing a million takes an hour."""
    store = PatchStore(folder)
    store.create(WIDTH)
    pictures = rows.jpegs(TINY, 0, (rows.SIDE, rows.SIDE))
    write, videos = WriteRows(store.uri), PER_WRITE // PER_VIDEO
    for number in range(0, COUNT // PER_VIDEO, videos):
        table = rows.scored(number, videos, PER_VIDEO, WIDTH, False)
        there = table["patch_id"].is_valid().to_pylist()
        pixels = pa.array([pictures[at % TINY] if is_patch else None for at, is_patch in enumerate(there)], pa.large_binary())
        table = table.set_column(table.schema.get_field_index("pixels"), table.schema.field("pixels"), pixels)
        store.commit(pa.concat_tables(write(table)), rows.sources(number, videos), rows.STAMP)
    return store
