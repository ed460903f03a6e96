"""Every page of the browser in Chromium, on a store as an ingest leaves it."""

import itertools
import json
import re
import shutil
import zipfile
from urllib.parse import parse_qs, quote, urlsplit

import cv2
import numpy as np
import pyarrow as pa
import pytest

from engine import outlines, pictures, simulate
from engine.browser.answers import Answers
from engine.browser.footage import Footage
from engine.browser.looks import KEPT
from engine.browser.server import program
from engine.knobs import amend
from engine.store import PatchStore, WriteRows
from jobs import choose as choosing
from jobs import ingest, named
from jobs.__main__ import parse
from jobs.recipes import tiny
from tests import rows
from tests.browsed import A, choose, filled, get, listening, parts, refuse, serving, take_in, told
from tests.test_jobs import SMALL

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")]
playwright.expect.set_options(timeout=30_000)
PAGES = {
    "patches": ".cell img",
    "frames": ".cell.line",
    "map": ".map canvas",
    "compare": ".thumbs img",
    "sql": "textarea",
    f"video?id={A}": ".timeline",
    "nothing": ".cell img",
}
# What ends to the right of the window; a table may, in a part that scrolls by itself.
REACHING_OUT = (
    "[...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.scroll'))"
)
REACHING_OUT += ".map(one => one.outerHTML.slice(0, 80))"
EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as machine:
        browser = machine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def base(store):
    with serving(store, write=True) as address:
        yield address


class Tab:
    """A page that notes what it asked for and what went wrong."""

    def __init__(self, browser, base, width=1200, height=800, scheme="light", **more):
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **more)
        self.page, self.base, self.asked, self.wrong = self.context.new_page(), base, [], []
        self.page.set_default_timeout(30_000)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def open(self, page, until):
        self.page.goto(f"{self.base}/#/{page}")
        self.page.evaluate("new Promise(then => setTimeout(then))")  # the address has changed, and the page knows
        self.page.wait_for_selector("#main[aria-busy=false]")
        self.page.wait_for_selector(until)

    def at_patch(self, patch_id):
        playwright.expect(self.page.locator("p.id.quiet")).to_have_text(patch_id)

    def count(self):
        return self.page.inner_text(".count")

    def says(self, text):
        playwright.expect(self.page.locator(".count")).to_contain_text(text, timeout=30_000)

    def says_no_more(self, text):
        playwright.expect(self.page.locator(".count")).not_to_contain_text(text, timeout=30_000)

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)


def placed(points, box):
    """Where the map has its dots, in px of the canvas: 18 px from its edges on, up being up."""
    return [(18 + (x + 1) / 2 * (box["width"] - 36), 18 + (1 - y) / 2 * (box["height"] - 36)) for x, y, *_ in points]


def apart(dots, at):
    """How far the nearest dot is, in px."""
    return min(np.hypot(x - at[0], y - at[1]) for x, y in dots)


def drawn(tab, canvas, places):
    """The colours and opacities (N, 4) of a canvas at places (x, y), in px of the page."""
    script = """([name, places]) => { const pen = document.querySelector(name).getContext("2d");
        return places.map(([x, y]) => [...pen.getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data]); }"""
    return np.array(tab.page.evaluate(script, [canvas, [[float(x), float(y)] for x, y in places]]))


@pytest.fixture
def tab(chromium, base):
    with Tab(chromium, base) as made:
        yield made


def test_the_page_of_a_refused_and_of_a_forgotten_video_opens_from_the_filters(chromium, tmp_path):
    store = filled(tmp_path)
    empty, letter = refuse(store, tmp_path)
    store.forget(A)
    with serving(store) as base, Tab(chromium, base) as tab:
        for video, reason in {empty: "not a video", letter: "not a video", A: "forgotten"}.items():
            tab.open("frames", ".cell.line")
            tab.page.click(".refused summary")
            tab.page.click(f".refused a[href*='{video}']")
            playwright.expect(tab.page.locator(".page")).to_contain_text("Nothing was sampled.")
            playwright.expect(tab.page.locator(".page")).to_contain_text(reason)
        assert tab.wrong == []


def test_every_page_opens_without_an_error_and_asks_nobody_else(tab, base, store):
    patch = store.hardest(1)["patch_id"][0].as_py()
    for page, until in {**PAGES, f"patch?id={patch}": ".patch"}.items():
        tab.open(page, until)
    assert [url for url in tab.asked if not url.startswith((base, "blob:" + base, "data:"))] == []
    assert [line for line in tab.wrong if "404" not in line] == []  # the video's file and the scorer are not there, and said not to be


@pytest.mark.parametrize("width", [360, 1200])
def test_no_page_scrolls_sideways(chromium, base, width):
    with Tab(chromium, base, width) as tab:
        for page, until in PAGES.items():
            tab.open(page, until)
            assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page
            assert tab.page.evaluate(REACHING_OUT) == [], page


@pytest.mark.parametrize(("scheme", "ground"), [("light", (246, 245, 242)), ("dark", (18, 20, 22))])
def test_a_screenshot_is_light_or_dark_and_shows_pictures(chromium, base, scheme, ground, tmp_path):
    with Tab(chromium, base, scheme=scheme) as tab:
        tab.open("patches", ".cell img")
        tab.page.wait_for_timeout(500)
        pixels = cv2.imdecode(np.frombuffer(tab.page.screenshot(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert tuple(pixels[60, 600].tolist()) == ground
        assert (np.abs(pixels.astype(int) - (150, 60, 50)).max(2) < 40).mean() > 0.05


def test_filters_narrow_the_grid_by_mouse_and_by_words(tab):
    tab.open("patches", ".cell img")
    assert tab.count().startswith("40 of 40")
    tab.page.fill("input[data-word=video]", A[:4])
    tab.page.keyboard.press("Enter")
    tab.says("24 of 40")
    box = tab.page.locator("canvas.chart").first.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"], box["y"] + 20, steps=4)
    tab.page.mouse.up()
    tab.page.wait_for_url(lambda url: "difficulty=" in url)
    tab.says_no_more("24 of")
    shown = int(tab.count().split()[0])
    assert 0 < shown < 24
    tab.page.click("button.chip >> nth=0")
    tab.says_no_more(f"{shown} of")
    tab.page.click("text=Clear all")
    tab.says("40 of 40")


def test_a_range_the_wrong_way_round_is_said_beside_its_fields_and_asks_for_nothing(tab):
    tab.open(f"patches?video={A}", ".cell img")
    least, most = (tab.page.locator(f"input[aria-label='{which} difficulty']") for which in ("least", "most"))
    least.fill("5")
    tab.press("Tab")
    tab.says("0 of 40")
    most.fill("1")
    tab.press("Enter")
    tab.page.wait_for_selector("text=the least is above the most")
    assert (least.get_attribute("aria-invalid"), most.get_attribute("aria-invalid")) == ("true", "true")
    assert "difficulty=5%2C&" in tab.page.url + "&"
    least.fill("0.1")
    tab.press("Enter")
    tab.page.wait_for_url("**difficulty=0.1%2C1*")
    assert f"video={A}" in tab.page.url
    assert not tab.page.is_visible("text=the least is above the most")


def test_what_is_typed_or_pressed_leaves_the_filters_and_the_focus_where_they_were(tab):
    focused = "document.activeElement.getAttribute('aria-label')"
    tab.open("patches", ".cell img")
    tab.page.click("summary:has-text('glare')")
    tab.page.fill("input[aria-label='least difficulty']", "0.1")
    tab.press("Tab")
    tab.page.wait_for_url("**difficulty=0.1*")
    tab.says_no_more("40 of 40")
    assert tab.page.evaluate(focused) == "most difficulty"
    assert tab.page.is_visible("input[aria-label='least glare']")
    turned = tab.page.locator("button[title='turn the order round']")
    for word in ("lowest", "highest"):
        turned.focus()
        tab.press("Enter")
        playwright.expect(turned).to_have_attribute("aria-label", f"{word} first; turn round")
        assert tab.page.evaluate(focused) == f"{word} first; turn round"


def test_on_a_phone_the_filters_stay_open_for_a_range_until_done(chromium, base):
    with Tab(chromium, base, 390) as tab:
        tab.open("patches", ".cell img")
        tab.page.click("button:has-text('Filters')")
        for which, value in (("least", "0.1"), ("most", "0.9")):
            tab.page.fill(f"input[aria-label='{which} difficulty']", value)
            tab.press("Tab")
            tab.page.wait_for_url(f"**{value}*")
        tab.says_no_more("40 of 40")
        assert tab.page.is_visible("#filters")
        tab.page.click("text=Done")
        assert not tab.page.is_visible("#filters")


def test_the_order_is_turned_to_and_fro_and_says_which_it_is(tab, store):
    every = [number(one) for one in sorted(store.patches(["difficulty"])["difficulty"].to_pylist())]
    turned = tab.page.locator("button[title='turn the order round']")
    tab.open("patches", ".cell img")
    for word in ("highest", "lowest", "highest", "lowest"):
        playwright.expect(turned).to_have_attribute("aria-label", f"{word} first; turn round")
        playwright.expect(tab.page.locator("#cell-0 b")).to_have_text(every[-1 if word == "highest" else 0])
        turned.click()
    tab.open(f"patches?selection=random-111&video={A}", ".cell img")
    first = tab.page.get_attribute("#cell-0", "aria-label")
    for word in ("highest", "lowest"):
        turned.click()
        playwright.expect(turned).to_have_attribute("aria-label", f"{word} first; turn round")
    playwright.expect(tab.page.locator("#cell-0")).to_have_attribute("aria-label", first)


def number(value):
    """As the page writes it."""
    return f"{value:.4g}"


def test_the_keyboard_goes_through_grid_patch_help_filters_and_sql(tab):
    tab.open("patches", ".cell img")
    tab.page.focus("#grid")
    tab.press("ArrowRight", "ArrowDown")
    columns = tab.page.evaluate("Math.floor(document.querySelector('#grid').clientWidth / 168)")
    assert tab.page.get_attribute("#grid", "aria-activedescendant") == f"cell-{columns + 1}"
    label = tab.page.get_attribute(f"#cell-{columns + 1}", "aria-label")
    tab.press("Enter")
    tab.page.wait_for_selector(".patch")
    assert label.split(",")[0].split()[1] in tab.page.inner_text("h1")
    first = tab.page.url
    tab.press("ArrowRight")
    tab.page.wait_for_url(lambda url: url != first)
    tab.page.wait_for_selector(".patch")
    tab.press("?")
    tab.page.wait_for_selector("dialog[open]")
    tab.press("Escape")
    tab.press("Escape")
    tab.page.wait_for_selector("#grid")
    tab.page.wait_for_selector(".cell img")
    assert tab.page.get_attribute("#grid", "aria-activedescendant") == f"cell-{columns + 2}"
    tab.press("f")
    assert not tab.page.is_visible("#filters")
    tab.press("f")
    assert tab.page.is_visible("#filters")
    tab.page.focus("#grid")
    tab.press("/")
    tab.page.wait_for_selector("textarea:focus")
    tab.page.fill("textarea", "DELETE FROM patches")
    tab.press("Control+Enter")
    tab.page.wait_for_selector("text=nothing that writes")
    tab.page.fill("textarea", "SELECT patch_id FROM patches WHERE time_ms = 2000")
    tab.press("Control+Enter")
    tab.page.click("text=Show as patches")
    tab.says("8 of 40")


def test_f_leads_back_to_the_list_with_its_filters_kept_and_open(tab):
    tab.open(f"patches?video={A}", ".cell img")
    tab.page.focus("#grid")
    tab.press("f", "Enter")
    tab.page.wait_for_selector(".patch")
    tab.press("f")
    tab.page.wait_for_selector("#filters", state="visible")
    tab.says("24 of 40")
    assert f"video={A}" in tab.page.url
    playwright.expect(tab.page.locator("input[data-word=video]")).to_be_focused()
    tab.open("sql", "textarea")
    tab.press("Escape", "f")
    tab.page.wait_for_url(f"**/#/patches?video={A}")
    tab.open("frames?reason=dark", ".cell.line b")
    tab.page.focus("#grid")
    tab.press("Enter")
    tab.page.wait_for_selector(".timeline")
    tab.press("f")
    tab.page.wait_for_url("**/#/frames?reason=dark")
    playwright.expect(tab.page.locator("select[data-word=reason]")).to_be_focused()


def test_on_a_phone_f_opens_the_filters_and_its_key_goes_into_none_of_them(chromium, base):
    with Tab(chromium, base, 390) as tab:
        tab.open(f"patches?video={A}", ".cell img")
        tab.page.click("#cell-0 img")
        tab.page.wait_for_selector(".patch")
        tab.press("f")
        tab.page.wait_for_selector("#filters", state="visible")
        playwright.expect(tab.page.locator("input[data-word=video]")).to_be_focused()
        assert tab.page.input_value("input[data-word=video]") == A


# Numbers of a table's cells, each as long as it is, that stand on more than one line.
BROKEN = r"""[...document.querySelectorAll('td')].flatMap(cell => {
    const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), found = [];
    while (text.nextNode()) for (const { 0: digits, index } of text.currentNode.data.matchAll(/\d[\d,.]*/g)) {
        const range = document.createRange();
        range.setStart(text.currentNode, index);
        range.setEnd(text.currentNode, index + digits.length);
        if (!cell.querySelector('.id') && new Set([...range.getClientRects()].map(one => one.top)).size > 1) found.push(digits);
    }
    return found;
})"""


@pytest.mark.parametrize("width", [390, 1280])
def test_no_number_of_an_answer_is_broken_in_the_middle_of_its_digits(chromium, base, width, tmp_path):
    with Tab(chromium, base, width) as tab:
        for asked in (
            "SELECT * FROM frames",
            "SELECT *, 9007199254740993 AS large FROM patches",
            f"SELECT '{'word' * 80}' AS long, 1234567 AS n",
        ):
            tab.open(f"sql?q={quote(asked)}", "td")
            playwright.expect(tab.page.locator(".card p[role=status]")).to_contain_text("row")
            tab.page.screenshot(path=tmp_path / "sql.png")
            assert tab.page.evaluate(BROKEN) == [], asked
            assert tab.page.evaluate(REACHING_OUT) == [], asked
        assert tab.page.locator("table").bounding_box()["width"] < max(width, 600)  # a word that is too long is broken


def test_before_after_and_back_go_along_the_list_that_a_patch_was_opened_from(tab, store):
    asked, hardest = "SELECT patch_id FROM patches ORDER BY difficulty DESC, patch_id LIMIT 3", store.hardest(3)["patch_id"].to_pylist()
    tab.open("patches?sort=time_ms", ".cell img")
    tab.open(f"sql?q={asked}", "td a")
    left = tab.page.evaluate("location.hash")
    tab.page.click("td a >> nth=0")
    tab.at_patch(hardest[0])
    tab.page.click("button:has-text('After')")
    tab.at_patch(hardest[1])
    assert tab.page.is_enabled("button:has-text('After')")
    tab.press("ArrowRight")
    tab.at_patch(hardest[2])
    assert tab.page.is_disabled("button:has-text('After')")
    tab.page.click("text=← Back")
    tab.page.wait_for_selector("td a")
    assert tab.page.evaluate("location.hash") == left
    tab.open("compare", "[aria-label='only left'] .thumbs a >> nth=2")
    ranked = [link.get_attribute("href") for link in tab.page.query_selector_all("[aria-label='only left'] .thumbs a")]
    tab.page.click("[aria-label='only left'] .thumbs a >> nth=1")
    tab.page.wait_for_selector(".patch")
    tab.press("ArrowRight")
    tab.page.wait_for_url(f"**/{ranked[2]}")
    tab.page.wait_for_selector(".patch")
    tab.press("Escape")
    tab.page.wait_for_url("**/#/compare*")


def test_a_patch_or_video_that_is_opened_by_its_address_has_no_neighbours_and_leads_to_the_grid(tab, store):
    tab.open(f"patch?id={store.hardest(1)['patch_id'][0].as_py()}", ".patch")
    assert tab.page.is_disabled("button:has-text('Before')")
    assert tab.page.is_disabled("button:has-text('After')")
    for leave in (lambda: tab.press("Escape"), lambda: tab.page.click("text=← Back")):
        tab.page.click("text=Its video")
        tab.page.wait_for_selector(".timeline")
        leave()
        tab.page.wait_for_selector(".patch")
    tab.press("Escape")
    tab.page.wait_for_selector(".cell img")
    with Tab(tab.context.browser, tab.base) as other:
        other.open(f"video?id={A}", ".timeline")
        other.press("Escape")
        other.page.wait_for_selector(".cell img")


def test_what_is_left_while_it_is_read_does_not_come_back_over_what_was_asked_for_then(tab):
    held = []

    def hold(route):
        held.append(route)

    tab.open("patches", ".cell img")
    tab.page.route("**/api/patch?*", hold)
    tab.page.focus("#grid")
    tab.press("Enter")
    tab.page.wait_for_url("**/#/patch?*")
    while not held:
        tab.page.wait_for_timeout(50)
    tab.press("Escape")
    tab.page.wait_for_url("**/#/patches*")
    tab.page.wait_for_selector(".cell img")
    with tab.page.expect_response("**/api/patch?*") as answer:
        held[0].continue_()
    answer.value.finished()
    tab.page.wait_for_timeout(300)
    assert tab.page.is_visible("#grid")
    assert tab.page.query_selector(".patch") is None


def test_whole_numbers_are_shown_whole_and_times_as_a_clock_has_them(tab):
    tab.open("sql?q=SELECT 1234567 AS n, 0.123456 AS x", "td")
    assert tab.page.locator("td").all_inner_texts() == ["1,234,567", "0.1235"]
    tab.open("sql?q=SELECT 9007199254740993 AS n, [9007199254740995] AS l", "td")
    assert tab.page.locator("td").all_inner_texts() == ["9007199254740993", "[9007199254740995]"]
    assert "mono" in tab.page.evaluate("getComputedStyle(document.querySelector('textarea')).fontFamily").lower()
    shown = tab.page.evaluate("import('/page/dom.js').then(({ clock }) => [0, 949, 59949, 59960, 119960, 60000].map(clock))")
    assert shown == ["0.0 s", "0.9 s", "59.9 s", "1:00.0", "2:00.0", "1:00.0"]
    tab.open("patches?time_ms=1000,3000", ".cell img")
    assert "time 1 s to 3 s" in tab.page.inner_text("button.chip")


def test_a_window_of_another_width_leaves_the_grid_where_it_was_scrolled_to(tab):
    tab.page.set_viewport_size({"width": 900, "height": 420})
    tab.open("patches", ".cell img")
    tab.page.evaluate("document.querySelector('#grid').scrollTop = 900")
    tab.page.wait_for_selector("#cell-0", state="detached")
    tab.page.wait_for_timeout(300)
    named = "document.getElementById(document.querySelector('#grid').getAttribute('aria-activedescendant') ?? 'main') !== null"
    before = first(tab)
    for width in (860, 1000, 700, 900):
        tab.page.set_viewport_size({"width": width, "height": 420})
        tab.page.wait_for_timeout(300)
        low, wide = first(tab)
        assert low <= before[0] < low + wide, width
        assert tab.page.evaluate(named)
    assert first(tab) == before


def first(tab):
    """The first patch at the upper edge of the grid, and how many are in a row."""
    script = """() => { const top = grid.getBoundingClientRect().top, seen = [...grid.querySelectorAll('.cell')].filter(one =>
        one.getBoundingClientRect().bottom > top + 2).map(one => Number(one.id.slice(5)));
        return [Math.min(...seen), Math.floor(grid.clientWidth / (grid.clientWidth < 500 ? 116 : 168))]; }"""
    return tab.page.evaluate(script)


def test_a_store_that_cannot_be_read_is_said_and_not_asked_without_pause(chromium, tmp_path):
    store = filled(tmp_path)
    with serving(store) as base, Tab(chromium, base) as tab:
        tab.open("patches", ".cell img")
        data = tmp_path / "store" / "patches.lance" / "data"
        data.rename(tmp_path / "away")
        tab.page.reload()
        tab.page.wait_for_selector("text=cannot be read or written just now")
        tab.asked.clear()
        tab.page.wait_for_timeout(5000)
        assert len([url for url in tab.asked if "/api/rows" in url]) <= 3
        assert str(tmp_path) not in tab.page.inner_text("body")
        (tmp_path / "away").rename(data)
        tab.page.wait_for_selector(".cell img", timeout=40_000)


def test_a_moment_that_was_rejected_says_why_it_is_not_opened(tab):
    tab.open(f"video?id={A}&at=6000", ".timeline")
    tab.page.click("text=Open this moment")
    tab.page.wait_for_selector("#said:has-text('rejected (dark)')")
    assert "video?" in tab.page.url


def test_a_phone_shows_the_videos_of_frames_and_which_were_refused(chromium, tmp_path):
    store, name = filled(tmp_path), "d4" + "0" * 30
    written = pa.concat_tables(WriteRows(store.uri)(rows.scored(name, 0, 0, "too short")))
    store.commit(written, rows.videos(name), rows.STAMP)
    with serving(store) as base, Tab(chromium, base, 360) as tab:
        tab.open("frames", ".cell.line .id")
        assert tab.page.is_visible(".cell.line .id >> nth=0")
        assert tab.page.inner_text("h1") == "Frames"
        tab.page.click("button:has-text('Filters')")
        tab.page.click("summary:has-text('refused videos (1)')")
        assert "d4000000… too short" in tab.page.inner_text(".refused")
        tab.page.click(".refused a")
        tab.page.wait_for_selector("h1.id")
        assert tab.page.inner_text("h1") == name


def test_the_map_has_the_filters_of_the_grid_and_leads_back_to_them(tab):
    tab.open(f"patches?video={A}", ".cell img")
    tab.page.click("nav a:has-text('Map')")
    tab.page.wait_for_selector("text=All 24 patches")
    tab.page.click("nav a:has-text('Patches')")
    tab.says("24 of 40")


def test_every_tab_is_named_by_what_it_shows(tab, store):
    one, other = (f"patch?id={name}" for name in store.hardest(2)["patch_id"].to_pylist())
    pages = {
        "patches": ".cell img",
        f"patches?video={A}": ".cell img",
        "patches?selection=random-111&time_ms=1000,": ".cell img",
        "frames": ".cell.line",
        f"map?video={A}": ".map canvas",
        one: ".patch",
        other: ".patch",
        f"video?id={A}": ".timeline",
        "compare?older=random-111&newer=optidel-222": ".thumbs img",
        "sql?q=SELECT 1 AS x": "td",
    }
    titles = []
    for page, until in pages.items():
        tab.open(page, until)
        titles.append(re.sub(" . endocurate$", "", tab.page.title()))
    assert len(set(titles)) == len(pages)
    assert titles[:5] == ["patches", f"patches: video {A}", "patches: selection random-111, time from 1 s", "frames", f"map: video {A}"]
    assert titles[7:] == ["video a1000000…", "random-111 and optidel-222", "SQL: SELECT 1 AS x"]
    tab.page.fill("textarea", "SELECT 2 AS y")
    tab.press("Control+Enter")
    playwright.expect(tab.page).to_have_title(re.compile("^SQL: SELECT 2 AS y . endocurate$"))


def test_what_is_said_of_a_range_of_one_selection_twice_and_of_an_address_of_frames_is_true(tab):
    tab.open("frames", ".cell.line")
    playwright.expect(tab.page.locator("details:has-text('time') small >> nth=0")).to_have_text("0.0 s to 6.0 s")
    tab.open("compare?older=random-111&newer=random-111", ".thumbs img")
    assert tab.page.inner_text(".page .quiet >> nth=1") == "Both sides are the same selection."
    tab.open("patches?table=frames&reason=dark", ".cell.line b")
    tab.says("2 of 12 frames")
    assert tab.wrong == []


def test_a_brush_that_the_system_takes_away_filters_nothing(tab):
    tab.open("patches", ".cell img")
    playwright.expect(tab.page.locator("details small").first).not_to_be_empty()
    box = tab.page.locator("canvas.chart").first.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=3)
    tab.page.locator("canvas.chart").first.dispatch_event("pointercancel")
    tab.page.mouse.move(box["x"] + box["width"], box["y"] + 20, steps=3)
    tab.page.mouse.up()
    tab.page.wait_for_timeout(300)
    assert "difficulty" not in tab.page.url
    tab.says("40 of 40")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reasons_and_bars_are_drawn_in_the_colours_of_the_scheme(chromium, base, scheme):
    colour = "name => getComputedStyle(document.documentElement).getPropertyValue(name)"
    with Tab(chromium, base, scheme=scheme) as tab:
        tab.open(f"video?id={A}", ".timeline")
        box = tab.page.locator(".timeline").bounding_box()
        foot = drawn(tab, ".timeline", [(box["width"] * 6.5 / 7, box["height"] - 26 - 2)])  # below what was dark
        assert bytes(foot[0, :3].tolist()).hex() == tab.page.evaluate(colour, "--why-0").strip(" #")
        found = told(base, "/api/histogram", number="difficulty")
        tab.open("patches?video=none", "text=Nothing fits")
        playwright.expect(tab.page.locator("details small").first).not_to_be_empty()
        tab.page.wait_for_timeout(100)
        box, highest = tab.page.locator("canvas.chart").first.bounding_box(), found["all"].index(max(found["all"]))
        top = drawn(tab, "canvas.chart", [((highest + 0.5) * box["width"] / len(found["all"]), 2.5)])
        assert bytes(top[0, :3].tolist()).hex() == tab.page.evaluate(colour, "--lostline").strip(" #")


def test_what_the_store_or_an_address_says_is_text_and_never_markup(tab, store):
    tab.open(f"patch?id={EVIL}", "[role=alert] >> nth=0")
    tab.page.wait_for_selector("text=has no patch")
    tab.open(f"sql?q=SELECT '{EVIL.replace(chr(39), chr(39) * 2)}' AS x", "td")
    tab.page.wait_for_timeout(300)
    assert EVIL in tab.page.inner_text("td")
    assert tab.page.title() != "owned"
    assert tab.page.locator("main img").count() == 0


def test_a_patch_is_tagged_and_the_tag_found(tab, store):
    tab.open(f"patch?id={store.hardest(1)['patch_id'][0].as_py()}", ".patch")
    tab.page.fill("[aria-label='a new tag']", "a polyp")
    tab.press("Enter")
    tab.page.click("a.button:has-text('a polyp')")
    tab.says("1 of 40")


def test_the_squares_of_the_scorer_stand_apart_each_with_its_caption(chromium, base, store, tmp_path):
    one, colours = store.hardest(1)["patch_id"][0].as_py(), [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
    sheet = pictures.encode(np.concatenate([np.full((64, 64, 3), colour, np.uint8) for colour in colours], axis=1), 95)
    for width in (1200, 390):
        with Tab(chromium, base, width) as tab:
            tab.page.route("**/api/rebuilt*", lambda route: route.fulfill(body=sheet, content_type="image/jpeg"))
            tab.open(f"patch?id={one}", ".three img >> nth=2")
            figures = tab.page.query_selector_all(".three figure")
            assert [figure.inner_text() for figure in figures] == ["What it was given", "Left unmasked", "What it rebuilt"]
            assert len({figure.query_selector("img").get_attribute("alt") for figure in figures} - {""}) == 3
            places = [figure.query_selector("img").bounding_box() for figure in figures]
            assert all(place["width"] == pytest.approx(place["height"], abs=1) and place["width"] > 60 for place in places)
            assert all(left["x"] + left["width"] + 6 <= right["x"] for left, right in itertools.pairwise(places))
            tab.page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
            for number, (figure, colour) in enumerate(zip(figures, colours, strict=True)):
                shot = figure.query_selector("img").screenshot(path=tmp_path / f"{width}-{number}.png")
                seen = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
                height, length = seen.shape[:2]
                assert np.abs(seen[height // 2, [8, length // 2, length - 9]].astype(int) - colour).max() < 12  # to its edges


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_mask_lies_over_the_patch_and_a_key_takes_it_off_on_every_page(chromium, base, store, scheme):
    told = store.patches(["patch_id", "mask"]).to_pylist()
    masked, bare = (next(row["patch_id"] for row in told if (row["mask"] is None) == absent) for absent in (False, True))
    with Tab(chromium, base, scheme=scheme) as tab:
        tab.open(f"patch?id={masked}", ".stage img.mask")
        laid, under = (tab.page.locator(f".stage.own img{kind}").bounding_box() for kind in (".mask", ".whole"))
        assert laid == under
        held = store.named([masked], ["mask", "box"])[masked]
        share = round(100 * outlines.unpacked(held["mask"], held["box"]).mean())
        assert tab.page.get_attribute(".stage.own img.mask", "alt") == f"the mask of the region, {share} % of the box"
        shown = tab.page.locator(".stage.own").screenshot()
        tab.press("m")
        assert not tab.page.is_visible("img.mask")
        assert tab.page.get_attribute("button.shade", "aria-pressed") == "false"
        assert tab.page.locator(".stage.own").screenshot() != shown
        tab.page.reload()
        tab.page.wait_for_selector("button.shade")
        assert not tab.page.is_visible("img.mask")
        tab.page.click("button.shade")
        assert tab.page.is_visible("img.mask")
        tab.open(f"patch?id={bare}", "text=No mask is kept of it")
        assert tab.page.locator("img.mask").count() == 0
        assert [line for line in tab.wrong if "404" not in line] == []


def test_a_view_that_becomes_a_selection_says_the_command_that_trains_on_it(tab, store):
    tab.open(f"patches?video={A}", ".cell img")
    tab.page.select_option("[aria-label='take this view along']", "selection")
    tab.page.wait_for_selector("dialog[open] .command")
    command = tab.page.inner_text("dialog[open] .command").split()
    job, config, _ = parse(command[1:])
    assert (job, config.store.uri, config.pretrain) == ("pretrain", store.uri, tiny().pretrain)
    assert named.made(store, config.selection.named)["budget"] == 24
    tab.press("Escape")
    tab.page.wait_for_selector("dialog .command", state="detached")


def ask_for_many(base):
    """As many views as somebody else asks for, so that none of before is held any more."""
    for number in range(KEPT + 1):
        told(base, "/api/view", difficulty=f"0,{number + 1}")


def test_what_others_ask_for_takes_nothing_from_an_open_page(tab, store):
    tab.open(f"patches?video={A}", ".cell img")
    wanted = tab.page.get_attribute("#cell-1", "aria-label")
    ask_for_many(tab.base)
    with tab.page.expect_download() as taken:
        tab.page.select_option("[aria-label='take this view along']", "folder")
    with zipfile.ZipFile(taken.value.path()) as archive:
        assert len([name for name in archive.namelist() if name.endswith(".jpg")]) == 24
    ask_for_many(tab.base)
    tab.page.select_option("[aria-label='take this view along']", "selection")
    tab.page.wait_for_selector("dialog[open] .command")
    tab.press("Escape")
    tab.page.click("#cell-0 img")
    tab.page.wait_for_selector(".patch")
    ask_for_many(tab.base)
    tab.page.click("button:has-text('After')")
    difficulty, where = wanted.removeprefix("difficulty ").split(", ")
    playwright.expect(tab.page.locator("h1")).to_have_text(f"Difficulty {difficulty}")
    assert where in tab.page.inner_text(".card .quiet >> nth=0")


def test_a_view_that_cannot_be_made_again_is_said_and_shown_anew(chromium, tmp_path):
    store = filled(tmp_path)
    with serving(store) as base, Tab(chromium, base) as tab:
        tab.open("patches", ".cell img")
        take_in(store, "c3" + "0" * 30, 2)
        ask_for_many(base)
        tab.page.select_option("[aria-label='take this view along']", "folder")
        tab.page.wait_for_selector("#said:has-text('The store has changed since this was shown')")
        tab.says("48 of 48")


def test_what_was_written_is_offered_and_the_focus_stays(chromium, tmp_path):
    store = filled(tmp_path)
    with serving(store, write=True) as base, Tab(chromium, base) as tab:
        tab.open(f"patches?video={A}", ".cell img")
        assert tab.page.locator("select[data-word=tag]").count() == 0
        tab.page.once("dialog", lambda asked: asked.accept("  odd "))
        tab.page.select_option("[aria-label='take this view along']", "tag")
        tab.page.select_option("select[data-word=tag]", "odd")
        tab.page.wait_for_url("**tag=odd*")
        tab.says("24 of 40")
        tab.page.select_option("[aria-label='take this view along']", "selection")
        tab.page.wait_for_selector("dialog[open] .command")
        name = tab.page.inner_text("dialog[open] .command").split("selection.named=")[1]
        tab.press("Escape")
        tab.page.select_option("select[data-word=selection]", name)
        tab.page.wait_for_url(f"**selection={name}*")
        tab.open(f"patch?id={store.hardest(1)['patch_id'][0].as_py()}", ".patch")
        tab.page.fill("[aria-label='a new tag']", "polyp")
        tab.press("Enter")
        tab.page.wait_for_selector("a.button:has-text('polyp')")
        assert tab.page.evaluate("document.activeElement.getAttribute('aria-label')") == "a new tag"


def test_the_list_of_frames_and_the_sql_that_was_typed_are_there_again(tab):
    tab.open("frames", ".cell.line b")
    tab.page.focus("#grid")
    tab.press(*["ArrowDown"] * 5, "Enter")
    tab.page.wait_for_url("**/#/patches?video=*")
    tab.page.go_back()
    tab.page.wait_for_selector(".cell.line b")
    assert tab.page.get_attribute("#grid", "aria-activedescendant") == "cell-5"
    tab.press("/")
    tab.page.fill("textarea", "SELECT 1::DOUBLE AS x, NULL AS y")
    tab.page.click("nav a:has-text('Patches')")
    tab.page.wait_for_selector(".cell img")
    tab.press("/")
    tab.page.wait_for_selector("textarea:focus")
    assert tab.page.input_value("textarea") == "SELECT 1::DOUBLE AS x, NULL AS y"
    tab.press("Control+Enter")
    tab.page.wait_for_selector("td")
    assert tab.page.locator("td").all_inner_texts() == ["1", "NULL"]
    assert tab.page.inner_text(".card p[role=status]") == "1 row"


ACCENT = [11, 110, 105, 255]  # --accent, in light


def test_a_timeline_has_the_hardest_patch_of_every_moment_where_it_belongs_and_what_was_rejected(tab):
    found = told(tab.base, "/api/video", id=A)
    tab.open(f"video?id={A}", ".timeline")
    box = tab.page.locator(".timeline").bounding_box()
    highest = max([found["scale"][1], *(frame["max"] or 0 for frame in found["frames"])])
    kept = [frame for frame in found["frames"] if frame["patches"]]  # the dot of the first one, which is chosen, is seen too
    x = [6 + (box["width"] - 12) * frame["time_ms"] / 7000 for frame in kept]  # seven moments, a second each
    y = [8 + (box["height"] - 26 - 8) * (1 - frame["max"] / highest) for frame in kept]
    assert np.abs(drawn(tab, ".timeline", zip(x, y, strict=True)) - ACCENT).max() < 3
    above = drawn(tab, ".timeline", [(box["width"] * time / 7, 3) for time in (0.5, 2.5, 5.9, 6.1, 6.9)])[:, 3] > 0
    assert above.tolist() == [False, False, False, True, True]
    tab.page.focus(".timeline")
    for key, said in [("End", "6.0 s: dark"), ("Home", "0.0 s: 4 patches"), ("ArrowRight", "1.0 s: 4 patches")]:
        tab.press(key)
        tab.page.wait_for_selector(f"p[role=status]:has-text('{said}')")
    tab.press("Enter")
    tab.page.wait_for_url(f"**video={A}&time_ms=1000%2C1000")


def test_the_focus_is_at_the_heading_of_a_page_that_was_opened_and_at_the_patch_of_the_grid(tab, store):
    focused = "[document.activeElement.tagName, document.activeElement.closest('main') !== null]"
    patch = store.hardest(1)["patch_id"][0].as_py()
    pages = {f"patch?id={patch}": ".patch", f"video?id={A}": ".timeline", "map": ".map canvas", "compare": ".thumbs img"}
    for page, until in pages.items():
        tab.open("patches", ".cell img")
        assert tab.page.evaluate("document.activeElement.id") == "grid"
        tab.open(page, until)
        assert tab.page.evaluate(focused) == ["H1", True], page
    tab.page.click("nav a:has-text('Map')")
    tab.page.wait_for_selector(".map canvas")
    playwright.expect(tab.page.locator("main h1")).to_be_focused()
    tab.press("ArrowRight")
    playwright.expect(tab.page.locator(".map canvas")).to_be_focused()
    tab.open("patch?id=nobody", "[role=alert].missing")
    assert tab.page.evaluate("document.activeElement.id") == "main"


def test_ranges_are_told_in_words_also_where_one_end_is_open(tab):
    tab.open("patches?difficulty=0.2,&time_ms=1000,&variance=,9000", ".cell img")
    chips = [chip.removesuffix(" ✕") for chip in tab.page.locator("button.chip").all_inner_texts()]
    assert sorted(chips) == ["contrast (variance) to 9000", "difficulty from 0.2", "time from 1 s"]
    assert tab.page.title() == "patches: difficulty from 0.2, time from 1 s, contrast (variance) to 9000 \N{EN DASH} endocurate"


def test_a_refused_comparison_leaves_the_choices(tab):
    tab.open("compare?older=random-111&newer=nobody", "[role=alert].missing")
    assert tab.page.inner_text("[role=alert].missing") == "there is no selection 'nobody'"
    tab.page.select_option("[aria-label='right selection']", "optidel-222")
    tab.page.wait_for_selector(".thumbs img")


def test_what_is_refused_is_told_once(tab):
    tab.open("patches?reason=dark", ".missing")
    assert tab.page.inner_text(".missing") == "reason tells frames apart, not patches"
    assert tab.page.is_hidden("#said")


def test_short_lists_of_an_answer_stay_on_one_line(tab):
    tab.open("sql?q=" + quote("SELECT *, [0, 0, 306, 370] AS corners FROM patches"), "td.brief")
    corners = tab.page.locator("td.brief:has-text('[0, 0, 306, 370]') >> nth=0")
    assert (
        corners.evaluate("one => { const r = document.createRange(); r.selectNodeContents(one); return r.getClientRects().length; }") == 1
    )


def test_a_histogram_has_a_bar_for_every_count_and_within_it_one_for_what_is_asked_for(tab):
    found = told(tab.base, "/api/histogram", number="difficulty", video=A)
    tab.open(f"patches?video={A}", ".cell img")
    playwright.expect(tab.page.locator("details small").first).not_to_be_empty()
    tab.page.wait_for_timeout(100)
    box, highest = tab.page.locator("canvas.chart").first.bounding_box(), max(found["all"])
    middles = [(place + 0.5) * box["width"] / len(found["all"]) for place in range(len(found["all"]))]
    feet = drawn(tab, "canvas.chart", [(x, box["height"] - 1) for x in middles])
    assert (feet[:, 3] > 0).tolist() == [held > 0 for held in found["all"]]
    assert [np.abs(one - ACCENT).max() < 3 for one in feet] == [held > 0 for held in found["some"]]
    tops = [
        (x, box["height"] - np.sqrt(held / highest) * (box["height"] - 2)) for x, held in zip(middles, found["all"], strict=True) if held
    ]
    assert (drawn(tab, "canvas.chart", [(x, y + 2) for x, y in tops])[:, 3] > 0).all()
    assert (drawn(tab, "canvas.chart", [(x, y - 2) for x, y in tops if y > 3])[:, 3] == 0).all()


def test_a_map_has_a_dot_where_each_patch_lies_and_keys_go_from_dot_to_dot(tab):
    points = told(tab.base, "/api/map", view=told(tab.base, "/api/view")["view"])["points"]
    tab.open("map", ".map canvas")
    box = tab.page.locator(".map canvas").bounding_box()
    dots = placed(points, box)
    assert (drawn(tab, ".map canvas", dots)[:, 3] == 255).all()
    everywhere = itertools.product(range(2, int(box["width"]), 9), range(2, int(box["height"]), 9))
    void = [at for at in everywhere if apart(dots, at) > 8]
    assert (drawn(tab, ".map canvas", void)[:, 3] == 0).all()
    tab.page.select_option(".map select", "video")
    assert tab.page.locator(".map .key a").all_inner_texts() == ["a1000000…", "b2000000…"]
    tab.page.focus(".map canvas")
    tab.press("ArrowRight")
    alike = tab.page.locator("a:has-text('More like this')")
    first = alike.get_attribute("href")
    tab.press("ArrowLeft")
    playwright.expect(alike).not_to_have_attribute("href", first)
    tab.press("Enter")
    tab.page.wait_for_selector(".patch")
    name = tab.page.inner_text("p.id.quiet")
    assert name in [point[4] for point in points]
    tab.page.click("a:has-text('More like this')")
    tab.page.wait_for_url("**/#/patches?like=*")
    tab.page.click("#cell-0 img")
    tab.at_patch(name)


def test_a_million_rows_are_gone_through_by_keys_wheel_and_bar(tab, store):
    jpeg, many = store.image(store.hardest(1)["patch_id"][0].as_py()), 1_000_000

    def rows(route):
        first, count = (int(parse_qs(urlsplit(route.request.url).query)[name][0]) for name in ("first", "count"))
        told = [{"patch_id": f"p{n}", "video_id": A, "time_ms": n, "difficulty": n} for n in range(first, min(first + count, many))]
        head = json.dumps({"rows": told, "sizes": [len(jpeg)] * len(told)}).encode()
        route.fulfill(body=len(head).to_bytes(4, "little") + head + jpeg * len(told), content_type="application/octet-stream")

    tab.page.route("**/api/view?*", lambda route: route.fulfill(json={"view": "v", "rows": many, "of": many, "version": 1}))
    tab.page.route("**/api/rows?*", rows)
    tab.open("patches", ".cell img")
    tab.page.focus("#grid")
    high = tab.page.evaluate("document.querySelector('.cell').getBoundingClientRect().height")
    columns = first(tab)[1]
    page = int(tab.page.evaluate("document.querySelector('#grid').clientHeight") // high) * columns
    for key, at in [
        ("End", many - 1),
        ("ArrowUp", many - 1 - columns),
        ("Home", 0),
        ("PageDown", page),
        ("PageDown", 2 * page),
        ("PageUp", page),
    ]:
        tab.press(key)
        assert tab.page.get_attribute("#grid", "aria-activedescendant") == f"cell-{at}", key
        playwright.expect(tab.page.locator(f"#cell-{at} b")).to_have_text(f"{at:,}")
        playwright.expect(tab.page.locator(f"#cell-{at}")).to_be_in_viewport(ratio=0.9)
    tab.page.evaluate("document.querySelector('#grid').scrollTop = document.querySelector('#grid').scrollHeight / 2")
    tab.page.wait_for_timeout(400)
    middle = first(tab)[0]
    assert middle == pytest.approx(many / 2, rel=0.001)
    box = tab.page.locator("#grid").bounding_box()
    tab.page.mouse.move(box["x"] + 300, box["y"] + 300)
    tab.page.mouse.wheel(0, 6 * high)
    tab.page.wait_for_timeout(400)
    assert first(tab)[0] == middle + 6 * columns


def test_a_download_holds_what_the_view_shows_in_every_layout(tab, store):
    view = told(tab.base, "/api/view", sort="time_ms")["view"]
    ordered = [row["patch_id"] for row in parts(get(tab.base, "/api/rows", view=view, first=0, count=40)[2])[0]]
    tab.open("patches?sort=time_ms", ".cell img")
    for layout, about in (("folder", "patches.csv"), ("coco", "labels.json"), ("fiftyone", "samples.json")):
        with tab.page.expect_download() as taken:
            tab.page.select_option("[aria-label='take this view along']", layout)
        with zipfile.ZipFile(taken.value.path()) as archive:
            names = [name for name in archive.namelist() if name.endswith(".jpg")]
            assert about in archive.namelist()
            assert len(names) == 40
            assert [archive.read(name) for name in names] == [store.image(one) for one in ordered]
    tab.page.select_option("[aria-label='sort by']", "difficulty")
    tab.page.wait_for_url("**sort=difficulty*")
    playwright.expect(tab.page.locator("#cell-0")).not_to_have_attribute("aria-label", re.compile(r", 0\.0 s of a1"))


def test_two_selections_are_told_apart_in_numbers_and_by_video(tab):
    found = told(tab.base, "/api/difference", older="random-111", newer="optidel-222")
    tab.open("compare?older=random-111&newer=optidel-222", ".thumbs img")
    for title, word in (("only left", "went"), ("in both", "stayed"), ("only right", "came")):
        card = tab.page.locator(f"section[aria-label='{title}']")
        assert card.locator(".big").inner_text() == str(found[word])
        playwright.expect(card.locator("img")).to_have_count(found[word])
    cells = [[cell.inner_text() for cell in row.query_selector_all("td")] for row in tab.page.query_selector_all("tbody tr")]
    assert cells == [[f"{one['video_id'][:8]}…", str(one["went"]), str(one["came"])] for one in found["videos"]]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """A store that the job ingest filled, with two selections by the job choose, and the configuration that it had."""
    folder = tmp_path_factory.mktemp("ingested")
    simulate.write_clips(folder / "videos", folder / "truth", 1, seconds=3.0, size=(240, 280))
    config = amend(tiny(), [*SMALL, f"videos.uri={folder}/videos", f"store.uri={folder}/store"])
    ingest.run(config)
    for method in ("random", "optidel"):
        choosing.run(amend(config, [f"selection.method={method}", "selection.budget=.8"]))
    return config


def test_every_page_opens_on_a_really_ingested_store(chromium, ingested):
    store = PatchStore(ingested.store.uri)
    patches = store.patches(["patch_id", "video_id"]).to_pylist()
    pages = {**PAGES, f"video?id={patches[0]['video_id']}": ".timeline", f"patch?id={quote(patches[0]['patch_id'])}": ".patch"}
    footage = Footage(store, lambda video_id: ingested.frames, lambda image, part: [])
    with listening(program(Answers(store, ingested, dict, footage))) as base:
        for width in (390, 1280):
            with Tab(chromium, base, width) as tab:
                for page, until in {one: until for one, until in pages.items() if A not in one}.items():
                    tab.open(page, until)
                    assert tab.page.evaluate(REACHING_OUT) == [], page
                tab.open("patches", ".cell img")
                tab.says(f"{len(patches)} of {len(patches)}")
                tab.open("frames", ".cell.line")
                tab.says(f"{store.open('frames').count_rows()} of")
                tab.open("sql?q=SELECT * FROM frames", "td")
                assert tab.page.evaluate(BROKEN) == []
                assert [line for line in tab.wrong if line] == []


def test_of_a_really_ingested_patch_the_frame_the_seconds_and_the_reconstruction_are_shown(chromium, ingested):
    store = PatchStore(ingested.store.uri)
    row = store.patches(["patch_id", "frame_id", "box"]).sort_by("patch_id").to_pylist()[1]
    frame = store.open("frames").to_table(filter=f"frame_id = '{row['frame_id']}'").to_pylist()[0]
    footage = Footage(store, lambda video_id: ingested.frames, lambda image, part: [])  # to look for text takes longer than all else
    with listening(program(Answers(store, ingested, dict, footage))) as base, Tab(chromium, base) as tab:
        tab.open(f"patch?id={quote(row['patch_id'])}", ".stage .box.this")
        (top, left, bottom, right), (y0, x0, y1, x1) = frame["content"], row["box"]
        image, box = (tab.page.locator(f"[aria-label=frame] .stage {part}").bounding_box() for part in ("img >> nth=0", ".box.this"))
        across, down = image["width"] / (right - left), image["height"] / (bottom - top)
        expected = [image["x"] + across * (x0 - left), image["y"] + down * (y0 - top), across * (x1 - x0), down * (y1 - y0)]
        assert [box[name] for name in ("x", "y", "width", "height")] == pytest.approx(expected, abs=1.5)
        playwright.expect(tab.page.locator(".three img")).to_have_count(3)
        assert tab.page.evaluate("[...document.querySelectorAll('.three img')].every(one => one.naturalWidth == 3 * one.naturalHeight)")
        assert [line for line in tab.wrong if line] == []
        tab.page.evaluate("document.querySelectorAll('.box').forEach(one => one.style.visibility = 'hidden')")
        shot = cv2.imdecode(np.frombuffer(tab.page.screenshot(clip=box), np.uint8), cv2.IMREAD_COLOR)
        stored = cv2.imdecode(np.frombuffer(store.image(row["patch_id"]), np.uint8), cv2.IMREAD_COLOR)
        small = [cv2.resize(one, (16, 16), interpolation=cv2.INTER_AREA).astype(int) for one in (shot, stored)]
        assert np.abs(small[0] - small[1]).mean() < 10  # what lies in the box is the patch
        tab.page.click("text=Play the seconds around it")
        film = tab.page.locator("video")
        assert film.evaluate("one => one.readyState > 1 || new Promise(then => one.addEventListener('loadeddata', () => then(true)))")
        assert 1.5 < film.evaluate("one => one.duration") <= 4.1
        assert tab.page.is_visible("figure:has(video) .box.this")


def test_a_finger_chooses_a_dot_or_a_moment_before_it_opens_it_and_nothing_in_the_void(chromium, base, store):
    with Tab(chromium, base, 390, 844, has_touch=True, is_mobile=True) as tab:
        tab.open("map", ".map canvas")
        box = tab.page.locator(".map canvas").bounding_box()
        dots = placed(told(base, "/api/map", view=told(base, "/api/view")["view"])["points"], box)
        everywhere = itertools.product(range(5, int(box["width"]), 20), range(5, int(box["height"]), 20))
        void = max(everywhere, key=lambda at: apart(dots, at))
        assert apart(dots, void) > 30
        tab.page.touchscreen.tap(box["x"] + void[0], box["y"] + void[1])
        tab.page.wait_for_timeout(300)
        assert "#/map" in tab.page.url
        assert tab.page.is_visible("text=Point at a dot")
        x, y = dots[0]
        tab.page.touchscreen.tap(box["x"] + x, box["y"] + y)
        tab.page.wait_for_selector("text=More like this")
        assert "#/map" in tab.page.url
        tab.page.touchscreen.tap(box["x"] + x, box["y"] + y)
        tab.page.wait_for_selector(".patch")
        tab.open(f"video?id={A}", ".timeline")
        box = tab.page.locator(".timeline").bounding_box()
        at = box["x"] + box["width"] * 3.5 / 7, box["y"] + 60  # seven moments, a second each
        tab.page.touchscreen.tap(*at)
        tab.page.wait_for_selector("p[role=status]:has-text('3.0 s: ')")
        assert "#/video" in tab.page.url
        tab.page.touchscreen.tap(*at)
        tab.page.wait_for_url("**time_ms=3000*")


def test_a_patch_stands_still_while_its_frame_is_read(tab, store):
    one, held = store.hardest(1)["patch_id"][0].as_py(), []
    frame = pictures.encode(np.full((96, 128, 3), 120, np.uint8), 90)
    tab.page.route("**/api/frame?*", lambda route: held.append(route))
    tab.open(f"patch?id={one}", ".patch")
    tops = "[...document.querySelectorAll('.patch > div > :first-child')].map(one => Math.round(one.getBoundingClientRect().top))"
    before = tab.page.evaluate(tops)
    assert before[0] == before[1]
    while not held:
        tab.page.wait_for_timeout(50)
    held[0].fulfill(body=frame, content_type="image/jpeg")
    tab.page.wait_for_selector(".stage .box.this")
    assert tab.page.evaluate(tops) == before


def test_a_store_that_grows_while_it_is_open_says_so_and_shows_it_when_asked(chromium, tmp_path):
    store = filled(tmp_path)
    with serving(store) as base, Tab(chromium, base) as tab:
        tab.open("patches", ".cell img")
        take_in(store, "c3" + "0" * 30, 2)
        choose(store, "later-333", store.sample(4, 0)["patch_id"].to_pylist())
        tab.page.wait_for_selector("#grown button")
        assert tab.count().startswith("40 of 40")
        assert "8 new patches" in tab.page.inner_text("#grown")
        tab.page.click("#grown button")
        tab.says("48 of 48")
        store.forget(A)
        tab.page.wait_for_selector("#grown button:has-text('gone')")
        tab.page.click("#grown button")
        tab.says("24 of 24")
        assert tab.wrong == []


def test_of_two_selections_the_newer_one_stands_right_unless_told(chromium, tmp_path):
    store = filled(tmp_path)
    take_in(store, "c3" + "0" * 30, 2)
    choose(store, "zeta-333", store.sample(4, 0)["patch_id"].to_pylist())
    with serving(store) as base, Tab(chromium, base) as tab:
        tab.open("compare", ".thumbs img")
        assert tab.page.input_value("[aria-label='right selection']") == "zeta-333"
        tab.page.select_option("[aria-label='left selection']", "random-111")
        tab.page.wait_for_url("**older=random-111&newer=zeta-333")


def test_without_the_token_there_is_no_page_and_with_it_all_of_it(chromium, store):
    with serving(store, token="open-sesame") as base, Tab(chromium, base) as tab:
        assert tab.page.goto(base).status == 401
        assert tab.page.goto(f"{base}/?token=wrong").status == 403
        tab.page.goto(f"{base}/?token=open-sesame")
        tab.page.wait_for_selector(".cell img")
        assert "token" not in tab.page.url
