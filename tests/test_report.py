import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import report
from engine.report import Curve, Findings, Outcome, Picture

VOID = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)> & \u202e {{ 7 * 7 }}'


class Page(HTMLParser):
    """Collects elements and text, and fails on a tag that is closed wrongly."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), f"an attribute is given twice in <{tag}>"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "dt", "dd", "span", "p", "h3") else ""

    def handle_data(self, data):
        self.text += " " if {"style", "title"} & set(self.open) else data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]

    def words(self):
        return " ".join(self.text.split())


def jpeg(seed=0, height=40, width=60):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def outcome(method="optidel", miou=0.6712, spread=0.01, budget=0.05, seed=0):
    return Outcome(method, budget, 0.0499, 405, 102, miou, miou - spread, miou + spread, 0.7814, 0.6567, seed, "8c1d7e0a")


def full():
    scores = np.random.default_rng(0).gamma(3, 0.02, 8112)
    return Findings(
        title="Nine videos",
        made="2026-05-04 12:30",
        provenance={"code commit": "3f2a9d0c11"},
        funnel=[
            ("videos", 9, ""),
            ("frames sampled", 1204, "one per second"),
            ("frames kept", 840, ""),
            ("patches", 8112, ""),
            ("selected", 405, ""),
        ],
        reasons={"videos": {"empty": 1}, "frames": {"blurred": 304, "dark": 60}},
        videos=[
            {
                "video_id": "a" * 32,
                "reason": None,
                "detail": None,
                "frames": 1204,
                "kept": 840,
                "patches": 8112,
                "uri": "scans/hans_mueller.mp4",
            },
            {"video_id": "b" * 32, "reason": "empty", "detail": "the file has no bytes", "frames": 0, "kept": 0, "patches": 0},
        ],
        difficulty=scores,
        chosen={"optidel": np.sort(scores)[-405:], "random": scores[:405]},
        hardest=[Picture(jpeg(1), "difficulty 0.84", "3f2a@12400 ms, box 10,20,90,100")],
        easiest=[Picture(jpeg(2), "difficulty 0.01")],
        picked={"optidel": [Picture(jpeg(3), "rank 0")]},
        synthetic=[Picture(jpeg(4, 64, 64), "image 1", "patches 1 to 4")],
        curves=[Curve("optidel: loss", [0, 100, 200], [0.9, 0.4, 0.3217], "mean squared error")],
        outcomes=[outcome(), outcome("random", 0.6551)],
        sources=[("difficulty", "table patches, version 12")],
    )


def test_the_page_is_well_formed_and_complete():
    page = Page(report.render(full()))
    counts = "9 1,204 840 8,112 405 304 69.8 4.99"
    results = "0.671 0.661\u20130.681 0.781 0.657 0.3217 8c1d7e0a"
    for number in f"{counts} {results}".split():
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d,])", page.words()), number
    for words in ("has no bytes", "3f2a9d0c11", "table patches, version 12", "3f2a@12400 ms, box 10,20,90,100", "mean squared error"):
        assert words in page.words()


def test_the_page_loads_nothing_and_runs_nothing():
    html = report.render(full())
    page = Page(html)
    addresses = [
        value for _, attributes in page.found for name, value in attributes.items() if name in ("src", "href", "srcset", "action", "data")
    ]
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in addresses)
    assert not page.all("script")
    assert not page.all("link")
    assert not page.all("iframe")
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    assert "http://" not in html
    assert "https://" not in html
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in page.all("meta")


def test_every_picture_is_on_the_page_byte_for_byte_and_is_described():
    findings = full()
    shown = Page(report.render(findings)).all("img")
    pictures = [*findings.hardest, *findings.easiest, *findings.picked["optidel"], *findings.synthetic]
    assert [image["src"] for image in shown] == [report.embedded(picture.jpeg) for picture in pictures]
    assert all(picture.caption in image["alt"] for picture, image in zip(pictures, shown, strict=True))


def test_every_chart_and_every_anchor_has_a_name_and_a_target():
    page = Page(report.render(full()))
    assert all(attributes["aria-label"] for attributes in page.all("svg"))
    assert len(page.all("svg")) == 3
    names = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(names) == len(set(names))
    assert {link["href"][1:] for link in page.all("a")} | {part["aria-labelledby"] for part in page.all("section")} <= set(names)


def test_an_empty_store_says_what_is_missing_and_which_job_makes_it():
    words = Page(report.render(Findings("Nothing yet", "2026-05-04 12:30"))).words()
    assert "not evaluated yet: run endocurate evaluate" in words
    for job in ("ingest", "choose", "pretrain"):
        assert f"run endocurate {job}" in words


@pytest.mark.parametrize(
    "kept", ["difficulty", "chosen", "curves", "outcomes", "videos", "funnel", "reasons", "picked", "synthetic", "hardest"]
)
def test_a_page_with_only_one_part_is_well_formed(kept):
    Page(report.render(Findings("part", "now", **{kept: getattr(full(), kept)})))


def test_hostile_text_stays_text_wherever_it_comes_in():
    picture = Picture(jpeg(), HOSTILE, HOSTILE)
    findings = Findings(
        HOSTILE,
        HOSTILE,
        {HOSTILE: HOSTILE},
        [("videos " + HOSTILE, 2, HOSTILE), (HOSTILE, 1, HOSTILE)],
        {"videos": {HOSTILE: 1}},
        [{"video_id": HOSTILE, "reason": HOSTILE, "detail": HOSTILE, "frames": 1, "kept": 1, "patches": 1}],
        np.arange(9.0),
        {HOSTILE: np.arange(3.0)},
        [picture],
        [picture],
        {HOSTILE: [picture]},
        [picture],
        [Curve(HOSTILE, [0, 1], [1.0, 2.0], HOSTILE)],
        [replace(outcome(HOSTILE), run=HOSTILE), outcome("random")],
        [(HOSTILE, HOSTILE)],
    )
    page = Page(report.render(findings))
    assert not page.all("script")
    assert all("onerror" not in attributes for _, attributes in page.found)
    assert len(page.all("img")) == 4
    assert page.text.count(HOSTILE) >= 20
    assert "49" not in page.words()


def test_no_path_or_file_name_of_the_ledger_is_shown():
    assert "hans" not in report.render(full())
    assert ".mp4" not in report.render(full())


def test_the_same_findings_give_the_same_page():
    assert report.render(full()) == report.render(full())


def test_losses_step_down_from_the_first_stage_to_the_second():
    (_, bars, missing) = report.funnel(full())[1]
    assert [bar.label for bar in bars] == ["frames sampled", "blurred", "dark", "frames kept"]
    assert bars[1].start + bars[1].width == pytest.approx(100)
    assert bars[2].start + bars[2].width == pytest.approx(bars[1].start)
    assert bars[3].width == pytest.approx(bars[2].start) == pytest.approx(100 * 840 / 1204)
    assert missing == 0


@pytest.mark.parametrize(("dark", "told"), [(50, "10 of the frames lost have no reason"), (65, "add up to 5 more frames than were lost")])
def test_reasons_that_do_not_add_up_are_told(dark, told):
    findings = replace(full(), reasons={"frames": {"blurred": 304, "dark": dark}})
    assert told in Page(report.render(findings)).words()


@given(
    st.lists(st.tuples(st.sampled_from(["videos", "frames sampled", "frames kept", "selected"]), st.integers(0, 10**9)), max_size=6),
    st.integers(0, 10**9),
)
def test_no_bar_leaves_its_track(stages, lost):
    findings = Findings(
        "t", "now", funnel=[(name, amount, "") for name, amount in stages], reasons={"videos": {"empty": lost}, "frames": {"dark": lost}}
    )
    for _, bars, _ in report.funnel(findings):
        assert all(bar.start >= 0 and bar.width >= 0 and bar.start + bar.width <= 100 + 1e-6 for bar in bars)


def test_only_the_first_hundred_videos_are_listed_with_the_rejected_first():
    rows = [{"video_id": f"{index:032}", "reason": "empty" if index == 149 else None, "patches": index} for index in range(150)]
    shown = report.listed(rows)
    assert len(shown) == 100
    assert shown[0]["reason"] == "empty"
    assert shown[1]["patches"] == 148
    assert "100 of 150" in Page(report.render(Findings("many", "now", videos=rows))).words()


def test_a_verdict_says_whether_the_intervals_overlap():
    near, far = report.verdicts([outcome(), outcome("random", 0.6551), outcome(budget=0.25), outcome("random", 0.6, budget=0.25)])
    assert near == "At a budget of 5 %, optidel reaches 0.671 mIoU, random 0.655; the intervals overlap, so the difference may be chance."
    assert far.endswith("random 0.600; the intervals do not overlap.")


def test_a_verdict_averages_seeds_and_takes_their_widest_interval():
    (told,) = report.verdicts([outcome(miou=0.7), outcome(miou=0.6, seed=1), outcome("random", 0.61)])
    assert "optidel reaches 0.650 mIoU, random 0.610; the intervals overlap" in told


def test_a_single_method_is_compared_with_nothing():
    (told,) = report.verdicts([outcome()])
    assert told.endswith("no other method was evaluated at this budget.")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_colour_has_the_contrast_of_wcag_aa(theme):
    light, dark = re.findall(r":root \{([^}]*--page[^}]*)\}", report.render(Findings("t", "now")))
    colour = dict(re.findall(r"--(\w+): (#\w{6})", light if theme == "light" else dark))
    pairs = [(ink, ground) for ink in ("ink", "quiet", "accent", "alarm") for ground in ("page", "card")] + [("accent", "wash")]
    assert {
        f"{ink} on {ground}": round(contrast(colour[ink], colour[ground]), 2)
        for ink, ground in pairs
        if contrast(colour[ink], colour[ground]) < 4.5
    } == {}


def contrast(one, other):
    """Relative luminance ratio, WCAG 2.2, section 1.4.3."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_writing_makes_the_folder_replaces_the_page_and_leaves_nothing_else(tmp_path):
    place = tmp_path / "deep" / "report.html"
    report.write(Findings("first", "now"), str(place))
    report.write(Findings("second", "now"), str(place))
    assert "second" in place.read_text(encoding="utf-8")
    assert [*place.parent.iterdir()] == [place]


def test_who_is_reading_the_old_page_reads_it_to_its_end(tmp_path):
    place = tmp_path / "report.html"
    report.write(full(), str(place))
    with place.open(encoding="utf-8") as reader:
        report.write(Findings("second", "now"), str(place))
        assert reader.read() == report.render(full())


def test_a_page_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path):
    place = tmp_path / "report.html"
    place.mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        report.write(Findings("t", "now"), str(place))
    assert [*tmp_path.iterdir()] == [place]


def test_writing_reaches_any_store_that_fsspec_knows():
    report.write(full(), "memory://reports/a.html")
    assert fsspec.filesystem("memory").cat("/reports/a.html").decode() == report.render(full())
