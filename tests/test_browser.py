"""What the browser's server answers, asked over HTTP as a page asks it; test_browser_pages has the pages in Chromium."""

import base64
import csv
import io
import json
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.mask import decode, toBbox
from starlette.requests import Request

from engine import pictures, rebuild, schema
from engine.browser import asking, looks, plane, server, stories, writes
from engine.browser.exports import harmless
from engine.browser.looks import Looks
from engine.browser.thumbs import small
from engine.config import SynthesisConfig
from engine.refusals import RefusedError
from engine.store import PatchStore, tags, tombstones
from jobs import browse
from jobs.__main__ import main, parse, spelled_out
from jobs.recipes import tiny
from tests import rows
from tests.browsed import A, B, choose, filled, get, parts, post, refuse, sent, serving, take_in, told, with_whole_frames

HOSTILE = [
    "",
    "' OR 1=1 --",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "%00",
    "a" * 500,
    "a1@0:x",
    "☃" * 20,
    "x\ny",
    "'; DROP TABLE videos; --",
]

REFUSED = [
    "SELECT uri FROM videos",
    "DROP TABLE videos",
    "COPY patches TO '/tmp/x'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SET threads=1",
    "SELECT 1; SELECT 2",
    "ATTACH 'x.db'",
    "INSERT INTO videos SELECT * FROM videos",
    "SELECT * FROM '/etc/passwd'",
    "PRAGMA version",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("browsed"))


@pytest.fixture(scope="module")
def base(store):
    with serving(store) as address:
        yield address


def table(store, columns=("patch_id", "video_id", "time_ms", "difficulty", "box", "mask", "pixels")):
    return store.patches(list(columns)).to_pylist()


def listed(base, **words):
    """All rows of a view, a part at a time."""
    made, found = told(base, "/api/view", **words), []
    for first in range(0, made["rows"], 7):
        found += parts(get(base, "/api/rows", view=made["view"], first=first, count=7)[2])[0]
    assert len(found) == made["rows"]
    return found


def ids(found):
    return [row["patch_id"] for row in found]


# -- views ------------------------------------------------------------------------------------------------------------------------


def test_a_page_asks_for_several_views_and_twelve_are_held(base):
    first = told(base, "/api/view")["view"]
    for number in range(1, 12):
        told(base, "/api/view", difficulty=f"0,{number}")
    assert get(base, "/api/rows", view=first, first=0, count=1)[0] == 200


def test_a_view_is_sorted_by_numbers_of_its_table_only(base):
    for word in ("rank", "likeness", "asked", "sharpness"):
        status, _, body = get(base, "/api/view", sort=word)
        assert (status, f"patches cannot be sorted by '{word}'" in json.loads(body)["error"]) == (400, True)


def test_videos_are_listed_with_how_many_patches_they_have(base):
    assert told(base, "/api/overview")["videos"] == [[A, 24], [B, 16]]


def test_a_view_that_nobody_would_wait_for_becomes_no_selection(store):
    view = Looks(store).view(asking.read({}))
    with pytest.raises(ValueError, match="a selection takes 4 to 100000 patches, the view has 100004 patches"):
        writes.chosen(store, replace(view, rows=np.zeros(100_004, np.int64)), SynthesisConfig())


def test_selections_are_listed_the_one_that_was_written_last_first(tmp_path):
    store = filled(tmp_path)
    for name in ("optidel-333", "zeta-444", "alpha-555", "optidel-333"):
        choose(store, name, store.sample(4, 0)["patch_id"].to_pylist())
    with serving(store) as base:
        found = told(base, "/api/overview")["selections"]
    assert [one["selection_id"] for one in found] == ["optidel-333", "alpha-555", "zeta-444", "optidel-222", "random-111"]
    assert [one["patches"] for one in found] == [4, 4, 4, 8, 8]
    assert found[0]["patches_version"] == store.complete_version()


def test_a_view_in_parts_is_the_table_in_the_order_asked_for_with_the_pictures_that_are_stored(store, base):
    expected = sorted(table(store), key=lambda row: -row["difficulty"])
    found = listed(base, sort="difficulty", down="1")
    assert [row["difficulty"] for row in found] == pytest.approx([row["difficulty"] for row in expected], abs=1e-6)
    assert sorted(ids(found)) == sorted(row["patch_id"] for row in expected)
    by_id = {row["patch_id"]: row["pixels"] for row in expected}
    view = told(base, "/api/view", sort="time_ms")["view"]
    some, jpegs = parts(get(base, "/api/rows", view=view, first=3, count=9)[2])
    assert [by_id[row["patch_id"]] for row in some] == jpegs


def test_filters_take_what_a_loop_over_the_rows_takes(store, base):
    every = table(store)
    middle = sorted(row["difficulty"] for row in every)[len(every) // 2]
    found = listed(base, difficulty=f"{middle},", video=A[:6], time_ms="1000,3000")
    expected = [r for r in every if r["difficulty"] >= middle and r["video_id"] == A and 1000 <= r["time_ms"] <= 3000]
    assert sorted(ids(found)) == sorted(row["patch_id"] for row in expected)
    assert 0 < len(found) < len(every)


def test_a_selection_comes_in_its_ranks_and_two_are_told_apart(store, base):
    ranked = {
        name: [row["patch_id"] for row in sorted(of(store, name), key=lambda row: row["rank"])] for name in ("random-111", "optidel-222")
    }
    assert ids(listed(base, selection="random-111")) == ranked["random-111"]
    went = listed(base, selection="optidel-222", against="random-111", change="went")
    assert ids(went) == [name for name in ranked["random-111"] if name not in ranked["optidel-222"]]
    counts = told(base, "/api/difference", older="random-111", newer="optidel-222")
    both = set(ranked["random-111"]) & set(ranked["optidel-222"])
    assert (counts["stayed"], counts["went"], counts["came"]) == (len(both), 8 - len(both), 8 - len(both))
    apart = [abs(ranked["random-111"].index(name) - ranked["optidel-222"].index(name)) for name in both]
    assert counts["moved"] == np.median(apart)


def of(store, name):
    return store.open("selections").to_table(filter=f"selection_id = '{name}'").to_pylist()


def test_more_like_this_begins_with_the_patch_and_goes_on_as_nearest_does(store, base):
    one = table(store)[5]["patch_id"]
    assert ids(listed(base, like=one)) == [one, *store.nearest(one, 39)["patch_id"].to_pylist()]


def test_sql_orders_the_view_it_makes(store, base):
    asked = "SELECT patch_id FROM patches WHERE time_ms = 2000 ORDER BY difficulty"
    assert ids(listed(base, sql=asked)) == store.query(asked)["patch_id"].to_pylist()


def test_of_an_answer_that_becomes_a_view_only_the_ids_are_made_a_part_at_a_time(store, base):
    hardest = "SELECT patch_id FROM patches ORDER BY difficulty DESC, patch_id"
    all_of_it = "SELECT *, repeat(patch_id, 20000000) AS big FROM patches ORDER BY difficulty DESC, patch_id"  # 40 GB
    again = "SELECT patch_id FROM patches, range(3000) AS again(n) ORDER BY n, difficulty DESC, patch_id"
    for asked in (all_of_it, again):
        assert ids(listed(base, sql=asked)) == store.query(hardest)["patch_id"].to_pylist()
    with closing(store.listed("SELECT 'p' || range AS patch_id FROM range(1000000000000)", 20)) as parts:
        assert next(parts).to_pylist()[:2] == ["p0", "p1"]
    assert told(base, "/api/view", sql="SELECT 1 AS patch_id UNION ALL SELECT NULL")["rows"] == 0
    status, _, body = get(base, "/api/view", sql="SELECT CASE WHEN range = 700 THEN error('boom') END AS patch_id FROM range(900)")
    assert (status, "boom" in json.loads(body)["error"]) == (400, True)


def test_rejected_frames_are_a_view_of_their_own_with_the_reason_and_without_a_picture(base):
    made = told(base, "/api/view", table="frames", reason="dark")
    found, jpegs = parts(get(base, "/api/rows", view=made["view"], first=0, count=9)[2])
    assert [row["reason"] for row in found] == ["dark", "dark"]
    assert jpegs == []
    assert all("min_brightness" in row["detail"] for row in found)


def test_frames_of_a_run_that_died_before_its_ledger_row_are_counted_nowhere(tmp_path):
    store = filled(tmp_path)
    with serving(store) as base:
        ask = {"number": "brightness", "table": "frames"}
        whole = told(base, "/api/histogram", **ask)
        take_in(store, "c3" + "0" * 30, 20)
        store.open("videos").delete(f"video_id = 'c3{'0' * 30}'")
        assert len(store.open("frames").to_table()) == 33
        view = told(base, "/api/view", table="frames")
        assert (view["rows"], view["of"]) == (12, 12)
        found = told(base, "/api/histogram", **ask)
        assert found == whole
        assert (sum(found["all"]), sum(found["some"])) == (12, 12)
        assert sum(row["frames"] for row in told(base, "/api/overview")["reasons"]) == 12


def test_a_histogram_counts_every_row_once_and_leaves_its_own_brush_aside(store, base):
    every = table(store)
    found = told(base, "/api/histogram", number="difficulty", video=A, difficulty="0.9,1")
    assert sum(found["all"]) == len(every)
    assert sum(found["some"]) == sum(row["video_id"] == A for row in every)
    assert get(base, "/api/histogram", number="nothing")[0] == 400
    values = np.array([row["difficulty"] for row in every], np.float32)
    assert [found["edges"][0], found["edges"][-1], found["most"]] == pytest.approx([values.min(), values.max(), values.max()], abs=1e-5)


def test_the_last_bar_of_a_histogram_holds_what_is_above_only_of_a_thousand_rows_and_more():
    assert looks.span(np.arange(33, dtype=np.float32)) == [0, 32]
    assert looks.span(np.arange(20_001, dtype=np.float32)) == [0, 19_980]


def test_large_pictures_are_sent_small_and_small_ones_as_they_are(store):
    jpeg = pictures.encode(np.tile(np.linspace(0, 255, 512).astype(np.uint8)[None, :, None], (512, 1, 3)), 95)
    sent = pictures.decode(small(jpeg, 512, 512))
    whole = pictures.decode(jpeg)
    assert sent.shape == (256, 256, 3)
    assert np.abs(sent.astype(int) - whole.reshape(256, 2, 256, 2, 3).mean((1, 3))).max() < 12
    assert small(jpeg[:100], 512, 512) == jpeg[:100]


def test_both_ends_of_a_range_are_of_the_precision_that_numbers_are_kept_in():
    """0.1 as float32 is more than 0.1, and 0.7 less."""
    kept = np.array([0.1, 0.7, np.nan], np.float32)
    assert looks.within(kept, 0.1, 0.1).tolist() == [True, False, False]
    assert looks.within(kept, 0.7, 0.7).tolist() == [False, True, False]


def test_the_map_is_the_principal_components_of_the_embeddings():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(300, 12)) * np.linspace(5, 0.1, 12)).astype(np.float32)
    places, share = plane.projected(vectors)
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    left, spread, directions = np.linalg.svd(centred, full_matrices=False)
    largest = directions[[0, 1], np.abs(directions[:2]).argmax(1)]
    expected = left[:, :2] * spread[:2] * np.sign(largest)  # the largest weight of a direction is positive
    assert np.abs(places - expected / np.abs(expected).max()).max() < 1e-5
    assert np.abs(plane.projected(-vectors)[0] + places).max() < 1e-5
    assert share == pytest.approx((spread[:2] ** 2).sum() / (spread**2).sum())


def test_a_map_tells_of_every_patch_of_the_view_which_it_is_and_how_hard(store, base):
    found = told(base, "/api/map", view=told(base, "/api/view", video=A)["view"])
    mine = {row["patch_id"]: row["difficulty"] for row in table(store) if row["video_id"] == A}
    assert {point[4]: point[2] for point in found["points"]} == pytest.approx(mine, abs=1e-6)
    assert {found["videos"][point[3]] for point in found["points"]} == {A}
    assert (len(found["points"]), found["of"]) == (len(mine), len(mine))


# -- single things ----------------------------------------------------------------------------------------------------------------


def test_a_patch_tells_its_frame_its_neighbours_and_why_it_is_there_but_no_address(store, base):
    name = next(row["patch_id"] for row in table(store) if row["video_id"] == A and row["time_ms"] == 2000)
    status, _, body = get(base, "/api/patch", id=name)
    found = json.loads(body)
    assert status == 200
    assert found["patch"]["patch_id"] == name
    assert len(found["beside"]) == 4
    assert found["story"]["video"]["video"] == A
    assert found["frame"]["content"] == [0, 0, 96, 128]
    assert b"/in/" not in body
    assert b"uri" not in body
    assert get(base, "/api/picture", id=name)[2] == store.image(name)


def test_a_video_tells_its_moments_and_what_was_rejected(store, base):
    found = told(base, "/api/video", id=A[:8])
    hardest = {t: max(r["difficulty"] for r in table(store) if r["video_id"] == A and r["time_ms"] == t) for t in range(0, 6000, 1000)}
    assert {frame["time_ms"]: frame["max"] for frame in found["frames"] if frame["patches"]} == pytest.approx(hardest, abs=1e-6)
    assert [(one["reason"], one["from"], one["to"], one["frames"]) for one in found["stretches"]] == [("dark", 6000, 7000, 1)]
    assert found["until"] == 7000  # moments are a second apart
    everything = [row["difficulty"] for row in table(store)]
    assert found["scale"] == pytest.approx(np.quantile(everything, [0.01, 0.99]).tolist(), abs=1e-5)


def test_the_page_of_a_video_that_gave_nothing_tells_why(tmp_path):
    store = filled(tmp_path)
    empty, letter = refuse(store, tmp_path)
    store.forget(A)
    with serving(store) as base:
        refused = told(base, "/api/overview")["refused"]
        for video, reason in {empty: "not a video", letter: "not a video", A: "forgotten"}.items():
            found = told(base, "/api/video", id=video)
            assert (found["video"], found["frames"], found["stretches"], found["until"]) == (video, [], [], 0.0)
            assert found["story"]["reason"] == reason
            assert video in {one["video_id"] for one in refused}


def test_a_bug_is_not_told_to_the_page(store):
    with serving(store, runs=lambda: int("no number")) as base:
        status, _, body = get(base, "/api/video", id=A)
        assert (status, b"literal" in body) == (500, False)


def test_a_stretch_lasts_until_the_next_moment_and_the_last_one_as_long_as_moments_lie_apart():
    reasons = ["dark", "dark", None, "glare", "dark", "dark"]
    frames = [{"time_ms": 2000 * place, "reason": reason, "detail": str(place)} for place, reason in enumerate(reasons)]
    found = [(one["reason"], one["from"], one["to"], one["frames"], one["detail"]) for one in stories.stretches(frames)]
    assert found == [("dark", 0, 4000, 2, "0"), ("glare", 6000, 8000, 1, "3"), ("dark", 8000, 12000, 2, "4")]
    assert [one["to"] for one in stories.stretches(frames[:1])] == [stories.LONE]


def test_sql_sees_no_addresses_writes_nothing_and_ends_in_time(store, base):
    version = store.open("patches").version
    assert "uri" not in told(base, "/api/sql", q="SELECT * FROM videos")["columns"]
    for sql in REFUSED:
        assert get(base, "/api/sql", q=sql)[0] == 400, sql
    with pytest.raises(ValueError, match=r"longer than 0\.2 s"):
        store.shown("SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range * b.range % 7 = 3", 0.2)
    assert store.open("patches").version == version


def test_an_answer_to_sql_is_by_position_the_first_rows_of_any_number_and_long_cells_are_cut(base):
    found = told(base, "/api/sql", q="SELECT 1 AS a, 2 AS a, sum(range) AS n, repeat('x', 5000) AS long FROM range(4)")
    assert found["columns"] == ["a", "a", "n", "long"]
    assert found["rows"][0][:3] == [1, 2, 6]
    assert found["rows"][0][3] == "x" * 400 + "… (5,000 letters)"
    assert found["more"] is False
    many = told(base, "/api/sql", q="SELECT range AS n FROM range(1000000000000)")  # eight terabytes, if it were read whole
    assert [row[0] for row in many["rows"]] == list(range(1000))
    assert many["more"] is True
    status, _, body = get(base, "/api/sql", q="SELECT CASE WHEN range = 700 THEN error('boom') END AS n FROM range(900)")
    assert (status, "boom" in json.loads(body)["error"]) == (400, True)


def test_what_is_no_number_is_told_as_what_it_is(base):
    asked = "SELECT 'inf'::DOUBLE AS a, '-inf'::FLOAT AS b, 'nan'::DOUBLE AS c, NULL AS d, '' AS e"
    assert told(base, "/api/sql", q=asked)["rows"] == [["inf", "-inf", "nan", None, ""]]


def test_whole_numbers_that_javascript_cannot_hold_are_told_with_all_their_digits(base):
    most = 2**53 - 1
    large = [most + 2, -most - 2, 2**127 - 1]
    held = "SELECT {} AS a, {} AS b, {}::HUGEINT AS c, {} AS safe, [{}, NULL] AS list, true AS yes"
    found = told(base, "/api/sql", q=held.format(*large, most, large[0]))["rows"][0]
    assert found == [*map(str, large), most, f"[{large[0]}, null]", True]


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_are_refused_in_a_sentence_and_change_nothing(store, base, word):
    for path, name in [
        ("patch", "id"),
        ("picture", "id"),
        ("frame", "id"),
        ("clip", "id"),
        ("rebuilt", "id"),
        ("video", "id"),
        ("rows", "view"),
        ("sql", "q"),
    ]:
        status, _, body = get(base, f"/api/{path}", **{name: word})
        assert status in (400, 404, 410), (path, status, body)
        assert "error" in json.loads(body)
        assert b"Traceback" not in body
    for name in ("video", "selection", "cluster", "tag", "like", "sql", "sort", "difficulty", "table", "nothing"):
        status, _, body = get(base, "/api/view", **{name: word})
        assert status in (200, 400, 404), (name, status, body)
        if status == 200:
            assert word == "" or json.loads(body)["rows"] == 0, name
    assert len(table(store)) == 40


@pytest.mark.parametrize("path", ["/page/../server.py", "/page/%2e%2e/server.py", "/page//etc/passwd", "/api/", "/nothing", "/page/"])
def test_no_other_file_is_served(base, path):
    assert get(base, path)[0] == 404


def test_what_is_longer_than_anything_that_is_asked_is_refused():
    assert asking.read({"video": "a" * 20_000}).video
    with pytest.raises(RefusedError, match="longer than 20000 letters"):
        asking.read({"video": "a" * 20_001})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"reason": "blurred"}, "reason tells frames apart, not patches"),
        ({"against": "x"}, "two selections are compared as selection=A against=B"),
        ({"against": "x", "change": "came"}, "two selections are compared as selection=A against=B"),
        ({"selection": "x", "change": "came"}, "two selections are compared as selection=A against=B"),
        ({"table": "frames", "tag": "x"}, "tag tells patches apart, not frames"),
    ],
)
def test_words_that_mean_nothing_together_are_refused_in_a_sentence(base, words, told):
    status, _, body = get(base, "/api/view", **words)
    assert (status, told in json.loads(body)["error"]) == (400, True)


def test_what_a_library_says_is_told_without_the_places_in_its_source():
    answer = server.told("s3://x", Request({"type": "http"}), LookupError("no column reason, /build/lance/src/dataset.rs:12:3"))
    assert json.loads(answer.body) == {"error": "no column reason"}


def test_parts_that_cannot_be_are_refused(base):
    view = told(base, "/api/view")["view"]
    for first, count in [("-1", 5), (0, 0), (0, 100000), ("x", 1), ("٣", 1), (10**15, 1)]:
        assert get(base, "/api/rows", view=view, first=first, count=count)[0] == 400
    assert parts(get(base, "/api/rows", view=view, first=10**6, count=5)[2]) == ([], [])


# -- who may look -----------------------------------------------------------------------------------------------------------------


def test_every_answer_forbids_the_browser_to_load_from_elsewhere_and_to_keep_it(base):
    for path in ("/", "/page/main.js", "/api/state", "/nothing"):
        headers = get(base, path)[1]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "unsafe" not in headers["Content-Security-Policy"]


def test_the_page_names_no_address_outside():
    files = [path for path in server.PAGE.iterdir() if path.is_file()]
    assert len(files) > 8
    for path in files:
        assert not re.search(r"https?:|[\"'(]//|import\(\s*[\"'][^/]", path.read_text()), path.name


@pytest.mark.parametrize("dark", [False, True])
def test_what_is_drawn_has_a_contrast_of_three_to_one(dark):
    light, _, rest = (server.PAGE / "style.css").read_text().partition("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", light)) | (dict(re.findall(r"--([\w-]+): (#\w{6})", rest)) if dark else {})
    reasons = [(name, "mat") for name in colours if name.startswith("why-")]
    assert len(reasons) == 8
    bars = [("lostline", "card"), ("accent", "rest"), ("accent", "card")]
    for ink, ground in [*reasons, *bars, ("accent", "mat"), ("quiet", "mat")]:
        assert contrast(colours[ink], colours[ground]) >= 3, (ink, ground)


def contrast(one, other):
    """Of two colours, as WCAG 2.2 has it."""
    found = []
    for colour in (one, other):
        parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        found.append(float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]))
    return (max(found) + 0.05) / (min(found) + 0.05)


def test_another_name_for_this_machine_and_other_pages_are_turned_away(base):
    port = base.rpartition(":")[2]
    assert get(base, "/api/state", {"Host": f"evil.example:{port}"})[0] == 421
    assert get(base, "/api/state", {"Host": f"localhost:{port}"})[0] == 200
    assert get(base, "/api/state", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})[0] == 403


def test_the_host_that_is_listened_at_is_a_name_of_this_machine(store):
    with serving(store, host="127.0.0.2") as base:
        port = base.rpartition(":")[2]
        assert get(base, "/api/state", {"Host": f"127.0.0.2:{port}"})[0] == 200
        assert get(base, "/api/state", {"Host": f"127.0.0.3:{port}"})[0] == 421


def test_the_address_that_is_printed_names_the_machine_and_no_wildcard():
    assert server.named("0.0.0.0") == server.named("::") == socket.gethostname()
    assert (server.named("127.0.0.2"), server.named("::1"), server.named("mine.example")) == ("127.0.0.2", "[::1]", "mine.example")


def test_two_servers_of_one_machine_do_not_take_each_others_cookie(store):
    with serving(store, token="first") as one, serving(store, token="second") as other:
        held = [get(base, f"/?token={token}")[1]["Set-Cookie"].partition(";")[0] for base, token in ((one, "first"), (other, "second"))]
        assert len({cookie.partition("=")[0] for cookie in held}) == 2
        assert [get(base, "/api/state", {"Cookie": "; ".join(held)})[0] for base in (one, other)] == [200, 200]


def test_with_a_token_nothing_is_told_without_it(store):
    with serving(store, token="open-sesame") as base:
        for path in ("/", "/api/state", "/page/main.js", "/?token=wrong", "/api/state?token=", "/api/state?token=OPEN-SESAME"):
            assert get(base, path)[0] in (401, 403), path
        assert get(base, "/api/state", {"Authorization": "Bearer wrong"})[0] == 401
        assert get(base, "/api/state", {"Cookie": "endocurate=open-sesam"})[0] == 401
        assert get(base, "/api/state", {"Authorization": "Bearer open-sesame"})[0] == 200
        status, headers, _ = get(base, "/?token=open-sesame")
        cookie = headers["Set-Cookie"]
        assert status == 303
        assert headers["Location"] == "/"
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert get(base, "/api/state", {"Cookie": cookie.partition(";")[0]})[0] == 200


# -- changes ----------------------------------------------------------------------------------------------------------------------


def test_nothing_is_written_unless_it_was_allowed(store, base):
    view = told(base, "/api/view")["view"]
    name = table(store)[0]["patch_id"]
    for path, body in [("/api/tag", {"patches": [name], "tag": "x"}), ("/api/select", {"view": view})]:
        assert post(base, path, body)[0] == 403
    assert len(tags.tags(store)) == 0
    assert len(told(base, "/api/overview")["selections"]) == 2


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"patches": ["\\ud800"], "tag": "x"}', b'"x"', b"1" * 9999])
def test_a_body_that_is_no_json_object_is_refused(tmp_path, body):
    with serving(filled(tmp_path), write=True) as base:
        for path in ("/api/tag", "/api/select"):
            asked = urllib.request.Request(f"{base}{path}", body, {"Content-Type": "application/json"})
            assert sent(asked)[0] == 400, body


def test_tags_are_rows_that_are_given_taken_filtered_by_and_forgotten_with_their_video(tmp_path):
    store = filled(tmp_path)
    mine = [row["patch_id"] for row in table(store) if row["video_id"] == A][:2] + [
        row["patch_id"] for row in table(store) if row["video_id"] == B
    ][:1]
    with serving(store, write=True) as base:
        for _ in range(2):
            assert post(base, "/api/tag", {"patches": mine, "tag": "polyp"})[0] == 200
        assert sorted(tags.tags(store)["patch_id"].to_pylist()) == sorted(mine)
        assert sorted(ids(listed(base, tag="polyp"))) == sorted(mine)
        assert told(base, "/api/patch", id=mine[0])["tags"] == ["polyp"]
        assert json.loads(post(base, "/api/tag", {"patches": mine[:1] * 3, "tag": "thrice"})[2])["patches"] == 1
        for held in (1, 0):
            assert json.loads(post(base, "/api/tag", {"patches": mine, "tag": "thrice", "remove": True})[2])["patches"] == held
        assert post(base, "/api/tag", {"patches": mine[:1], "tag": "polyp", "remove": True})[0] == 200
        assert sorted(ids(listed(base, tag="polyp"))) == sorted(mine[1:])
        assert json.loads(post(base, "/api/tag", {"patches": mine[:1], "tag": "  a polyp "})[2])["tag"] == "a polyp"
        assert told(base, "/api/patch", id=mine[0])["tags"] == ["a polyp"]
        assert post(base, "/api/tag", {"patches": mine[:1], "tag": " a polyp", "remove": True})[0] == 200
        assert b"'polyp!' is no tag" in post(base, "/api/tag", {"patches": mine, "tag": "  polyp!"})[2]
        for body in (
            {"patches": ["nobody"], "tag": "x"},
            {"patches": mine, "tag": "<b>"},
            {"patches": mine, "tag": " "},
            {"patches": "x", "tag": "x"},
            {},
            [],
        ):
            assert post(base, "/api/tag", body)[0] in (400, 404), body
        for headers in ({"Content-Type": "text/plain"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert post(base, "/api/tag", {"patches": mine, "tag": "x"}, headers)[0] == 403
        assert store.query("SELECT count(*) AS n FROM tags")["n"].to_pylist() == [2]
        store.forget(A)
        assert tags.tags(store)["patch_id"].to_pylist() == mine[2:]
        assert not [path for path in Path(store.uri, "tags.lance").rglob("*") if path.is_file() and A.encode() in path.read_bytes()]
        assert ids(listed(base, tag="polyp")) == mine[2:]


def test_a_view_becomes_a_selection_whose_images_can_be_made_again(tmp_path):
    store = filled(tmp_path)
    with serving(store, write=True) as base:
        view = told(base, "/api/view", sort="difficulty", video=B, time_ms="0,2000")
        made = json.loads(post(base, "/api/select", {"view": view["view"]})[2])
        assert (made["patches"], made["images"], made["left"]) == (12, 3, 0)
        assert parse(shlex.split(made["command"])[1:])[1].pretrain.batch == 3  # what is proposed trains on no fewer images than a batch
        many = json.loads(post(base, "/api/select", {"view": told(base, "/api/view", video=B)["view"]})[2])
        assert (many["images"], "batch" in many["command"]) == (tiny().pretrain.batch, False)
        assert ids(listed(base, selection=made["selection"])) == ids(listed(base, sort="difficulty", video=B, time_ms="0,2000"))
        again = json.loads(post(base, "/api/select", {"view": view["view"]})[2])
        assert again == made
        assert len(rebuild.faults(store, made["selection"])) == 0
        few = told(base, "/api/view", like=table(store)[0]["patch_id"], difficulty="2,3")
        assert post(base, "/api/select", {"view": few["view"]})[0] == 400


def test_a_view_of_whole_frames_and_regions_is_told_apart_by_kind_and_becomes_no_selection_before(tmp_path):
    store = with_whole_frames(tmp_path)
    kinds = dict(store.patches(["patch_id", "proposer"]).select(["patch_id", "proposer"]).to_pandas().itertuples(index=False))
    with serving(store, write=True) as base:
        assert told(base, "/api/overview")["kinds"] == {"patches": 18, "frames": 6}
        status, _, body = post(base, "/api/select", {"view": told(base, "/api/view", sort="difficulty")["view"]})
        assert (status, "6 of these 24 patches are whole frames" in json.loads(body)["error"]) == (400, True)
        for kind, proposer, taken in (("patches", "crops", 16), ("frames", schema.FRAME_PROPOSER, 4)):
            view = told(base, "/api/view", sort="difficulty", kind=kind)
            assert {kinds[one] for one in ids(listed(base, kind=kind))} == {proposer}
            made = json.loads(post(base, "/api/select", {"view": view["view"]})[2])
            images = store.open("images").to_table(filter=f"selection_id = '{made['selection']}'")["patch_ids"].to_pylist()
            assert [len(images) * 4, {kinds[one] for image in images for one in image}] == [taken, {proposer}]
        for words in ({"kind": "regions"}, {"table": "frames", "kind": "frames"}):
            assert get(base, "/api/view", **words)[0] == 400


# -- a store that changes ---------------------------------------------------------------------------------------------------------


def test_a_view_stays_as_it_was_while_the_store_grows_and_the_growth_is_told(tmp_path):
    store = filled(tmp_path)
    with serving(store) as base:
        before, view = told(base, "/api/state"), told(base, "/api/view", sort="difficulty")
        held = get(base, "/api/rows", view=view["view"], first=0, count=40)[2]
        take_in(store, "c3" + "0" * 30, 2)
        assert get(base, "/api/rows", view=view["view"], first=0, count=40)[2] == held
        now = told(base, "/api/state")
        assert now["patches"] == before["patches"] + 8
        assert now["version"] > before["version"]
        assert told(base, "/api/view", sort="difficulty")["rows"] == 48


def test_selections_and_tags_that_are_made_elsewhere_are_told(tmp_path):
    store = filled(tmp_path)
    with serving(store) as base:
        states = [told(base, "/api/state")]
        assert told(base, "/api/overview")["beside"] == states[0]["beside"]
        tags.tag(store, store.sample(2, 0)["patch_id"].to_pylist(), "polyp")
        states.append(told(base, "/api/state"))
        choose(store, "later-333", store.sample(4, 0)["patch_id"].to_pylist())
        states.append(told(base, "/api/state"))
    assert len({str(one["beside"]) for one in states}) == 3
    assert len({one["version"] for one in states}) == 1


def test_a_store_that_is_away_is_a_sentence_without_its_address_or_the_words_of_a_library(tmp_path):
    store = filled(tmp_path)
    with serving(store) as base:
        view = told(base, "/api/view")["view"]
        Path(store.uri, "patches.lance", "data").rename(tmp_path / "away")
        for path, words in [("rows", {"view": view, "first": 0, "count": 5}), ("sql", {"q": "SELECT * FROM patches"})]:
            status, _, body = get(base, f"/api/{path}", **words)
            assert (status, json.loads(body)) == (503, {"error": server.AWAY})


def test_what_is_forgotten_is_shown_no_longer_not_even_by_a_view_of_before(tmp_path):
    store = filled(tmp_path)
    with serving(store) as base:
        view = told(base, "/api/view", video=A)["view"]
        name = parts(get(base, "/api/rows", view=view, first=0, count=1)[2])[0][0]["patch_id"]
        store.forget(A)
        assert get(base, "/api/rows", view=view, first=0, count=5)[0] == 410
        assert get(base, "/api/picture", id=name)[0] == 404
        assert told(base, "/api/view", video=A)["rows"] == 0
        assert told(base, "/api/overview")["patches"] == 16
        assert tombstones.forgotten(store) == {A}


# -- exports ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["folder", "coco", "fiftyone"])
def test_an_export_holds_the_stored_bytes_of_the_view_in_its_order(store, base, layout, tmp_path):
    view = told(base, "/api/view", sort="difficulty", video=A)
    status, headers, body = get(base, "/api/export", view=view["view"], layout=layout)
    assert status == 200
    assert "attachment" in headers["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    held = {row["patch_id"]: row["pixels"] for row in table(store)}
    found = described(layout, tmp_path)
    assert [name for name, _ in found] == ids(listed(base, sort="difficulty", video=A))
    assert all((tmp_path / path).read_bytes() == held[name] for name, path in found)


def test_an_export_says_the_tags_of_every_patch_each_as_it_is(tmp_path):
    store = filled(tmp_path)
    name = table(store)[3]["patch_id"]
    for word in ("a polyp", "flat", "grade: 2"):
        tags.tag(store, [name], word)
    expected = {row["patch_id"]: set() for row in table(store)} | {name: {"a polyp", "flat", "grade: 2"}}
    with serving(store) as base:
        view = told(base, "/api/view")["view"]
        for layout in ("folder", "coco", "fiftyone"):
            with zipfile.ZipFile(io.BytesIO(get(base, "/api/export", view=view, layout=layout)[2])) as archive:
                assert tags_in(layout, archive) == expected, layout


def tags_in(layout, archive):
    """The tags of every patch by its id, as the layout has them."""
    if layout == "folder":
        lines = list(csv.DictReader(io.StringIO(archive.read("patches.csv").decode())))
        assert all(re.fullmatch(r"\d+( \d+){3}", row["box"]) for row in lines)
        return {row["patch_id"]: set(row["tags"].split(";")) - {""} for row in lines}
    name, rows = ("labels.json", "images") if layout == "coco" else ("samples.json", "samples")
    return {row["patch_id"]: set(row["tags"]) for row in json.loads(archive.read(name))[rows]}


def described(layout, folder):
    """(patch_id, path) of every picture, as the layout's own reader has it."""
    if layout == "folder":
        return [(row["patch_id"], f"patches/{row['file']}") for row in csv.DictReader((folder / "patches.csv").open())]
    if layout == "coco":
        read = COCO(str(folder / "labels.json"))
        found = read.loadImgs(read.getImgIds())
        assert sorted({round(float(read.annToMask(one).mean()), 1) for one in read.loadAnns(read.getAnnIds())}) == [0.8, 1]
        assert all(read.annToMask(one).sum() == one["area"] for one in read.loadAnns(read.getAnnIds()))
        return [(one["patch_id"], f"data/{one['file_name']}") for one in found]
    assert json.loads((folder / "metadata.json").read_text())["media_type"] == "image"
    return [(one["patch_id"], one["filepath"]) for one in json.loads((folder / "samples.json").read_text())["samples"]]


@pytest.mark.parametrize("layout", ["coco", "fiftyone"])
def test_an_exported_mask_is_the_stored_one_in_the_pixels_of_the_picture(store, base, layout, tmp_path):
    view = told(base, "/api/view", sort="difficulty")
    with zipfile.ZipFile(io.BytesIO(get(base, "/api/export", view=view["view"], layout=layout)[2])) as archive:
        archive.extractall(tmp_path)
    held = {row["patch_id"]: row for row in table(store)}
    found = (coco_masks if layout == "coco" else fiftyone_masks)(tmp_path)
    assert sorted(found) == sorted(name for name, row in held.items() if row["mask"])
    for name, drawn in found.items():
        y0, x0, y1, x1 = held[name]["box"]
        whole = decode({"size": [y1 - y0, x1 - x0], "counts": held[name]["mask"]})
        rows, columns = ((np.arange(large) + 0.5) * small / large for large, small in zip((96, 128), whole.shape, strict=True))
        assert np.array_equal(drawn, whole[rows.astype(int)][:, columns.astype(int)])


def coco_masks(folder):
    read = COCO(str(folder / "labels.json"))
    names = {one["id"]: one["patch_id"] for one in read.loadImgs(read.getImgIds())}
    told = [one for one in read.loadAnns(read.getAnnIds()) if isinstance(one["segmentation"], dict)]
    for one in told:
        assert one["bbox"] == toBbox(read.annToRLE(one)).tolist()
    return {names[one["image_id"]]: read.annToMask(one) for one in told}


def fiftyone_masks(folder):
    """As FiftyOne 1.22 reads them: shares of the picture, an array through zlib."""
    found = {}
    for one in json.loads((folder / "samples.json").read_text())["samples"]:
        for held in one.get("region", {}).get("detections", []):
            array = np.load(io.BytesIO(zlib.decompress(base64.b64decode(held["mask"]["$binary"]["base64"]))))
            left, top = (round(share * side) for share, side in zip(held["bounding_box"], (128, 96), strict=False))
            found[one["patch_id"]] = np.zeros((96, 128), bool)
            found[one["patch_id"]][top : top + array.shape[0], left : left + array.shape[1]] = array
            wide, high = (round(share * side) for share, side in zip(held["bounding_box"][2:], (128, 96), strict=True))
            assert array.shape == (high, wide)
    return found


def test_a_mask_is_laid_over_its_box_and_one_that_is_not_there_is_said(store, base):
    for row in table(store)[:6]:
        status, headers, body = get(base, "/api/mask", id=row["patch_id"])
        page = told(base, "/api/patch", id=row["patch_id"])
        if row["mask"] is None:
            assert (status, page["mask"]) == (404, None)
            assert b"no mask was drawn" in body
            continue
        y0, x0, y1, x1 = row["box"]
        drawn = decode({"size": [y1 - y0, x1 - x0], "counts": row["mask"]})
        shown = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
        assert headers["Content-Type"] == "image/png"
        assert np.array_equal(shown[..., 3] > 0, drawn > 0)
        assert page["mask"] == pytest.approx(drawn.mean())
    assert get(base, "/api/mask", id="nothing")[0] == 404


def test_an_export_of_what_there_is_none_of_is_refused_and_formulas_are_harmless(base):
    view = told(base, "/api/view")["view"]
    assert get(base, "/api/export", view=view, layout="../x")[0] == 400
    frames = told(base, "/api/view", table="frames")["view"]
    assert get(base, "/api/map", view=frames)[0] == 400
    assert get(base, "/api/export", view=frames, layout="coco")[0] == 400
    assert harmless("=1+1") == "'=1+1"
    assert harmless("plain") == "plain"
    assert harmless(-3) == -3


# -- the command ------------------------------------------------------------------------------------------------------------------


def test_the_words_of_the_command_are_knobs():
    assert spelled_out(["store", "--write"]) == ["store.uri=store", "browse.write=true"]
    _, config, asked = parse(["browse", "/data/s", "--write", "browse.port=0"])
    assert (config.store.uri, config.browse.write, config.browse.port, asked) == ("/data/s", True, 0, [])
    assert parse(["browse", "store.uri=x"])[1].browse.write is False


def test_the_command_refuses_what_is_no_store_and_strange_words(tmp_path, capsys):
    assert main(["browse", str(tmp_path)]) == 2
    assert "holds no store" in capsys.readouterr().err
    assert main(["browse", "--readwrite"]) == 2


@pytest.mark.processes
def test_the_command_prints_an_address_with_a_token_when_it_can_be_reached_from_outside(store):
    command = [sys.executable, "-m", "jobs", "browse", store.uri, "browse.port=0", "browse.host=0.0.0.0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    try:
        port, token = re.search(r":(\d+)/\?token=(\S{32,})", process.stdout.readline()).groups()
        assert get(f"http://127.0.0.1:{port}", "/api/state")[0] == 401
        assert get(f"http://127.0.0.1:{port}", "/api/state", {"Authorization": f"Bearer {token}"})[0] == 200
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_runs_are_fetched_once_in_a_while():
    asked = []
    runs = browse.lasting(lambda: asked.append(1) or {"ingest": [{"n": len(asked)}]}, 0.3)
    assert [runs()["ingest"][0]["n"] for _ in range(5)] == [1] * 5
    time.sleep(0.35)
    assert runs()["ingest"][0]["n"] == 2


def test_a_taken_port_is_a_sentence(store, base, capsys):
    port = base.rpartition(":")[2]
    assert main(["browse", store.uri, f"browse.port={port}"]) == 1
    assert f"browse.port={port} cannot be listened at" in capsys.readouterr().err


def test_a_store_without_frames_is_shown_as_empty(tmp_path):
    empty = PatchStore(str(tmp_path / "store"))
    empty.create(rows.WIDTH)
    with serving(empty) as base:
        view = told(base, "/api/view", sort="difficulty")
        assert view["rows"] == 0
        assert told(base, "/api/overview")["patches"] == 0
        assert told(base, "/api/map", view=view["view"])["points"] == []
        assert told(base, "/api/histogram", number="difficulty")["all"] == []
