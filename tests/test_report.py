import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import cv2
import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import charts, report
from engine.config import Config
from engine.outcomes import Advantage, Outcome, Picture, comparisons
from engine.report import Findings, Judged, LossCurve
from engine.trails import Choice, Trail
from jobs import report as page_job
from notebooks import __main__ as notebooks

VOID = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)> & \u202e {{ 7 * 7 }}'


class Page(HTMLParser):
    """Collects elements and text, and fails on a tag that is closed wrongly."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.text, self.rows = [], [], "", []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), f"an attribute is given twice in <{tag}>"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "dt", "dd", "span", "p", "h3") else ""

    def handle_data(self, data):
        self.text += " " if {"style", "title"} & set(self.open) else data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]

    def words(self):
        return " ".join(self.text.split())

    def table(self):
        """The rows of all tables, without the blanks around and inside a cell that HTML does not show."""
        return [[" ".join(cell.split()) for cell in row] for row in self.rows]


def jpeg(seed=0, height=40, width=60):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


KVASIR = "kvasir_seg: 24 of 120 images tested · DPT at 96 px, 80 iterations · data 3f2a91, settings ab12"


def outcome(method="optidel", miou=0.6712, **changes):
    spread = changes.pop("spread", 0.01)
    made = Outcome(
        comparison=KVASIR,
        method=method,
        budget=0.05,
        retained=0.0499,
        patches=405,
        images=102,
        miou=miou,
        miou_low=miou - spread,
        miou_high=miou + spread,
        iou=0.4321,
        dice=0.7814,
        recall=0.5432,
        normdel=0.6567,
        seed=0,
        run="8c1d7e0a",
    )
    return replace(made, **changes)


VALUES = {"videos": 0.875, "time": 0.4321, "distance": 0.3217, "vendi": 88.125, "artefacts": 0.031, "estimated_information_5": 0.1234}
REASONS = {
    "clusters": "no clusters were made of the patches",
    "duplicates": "no clusters were made of the patches",
    "fid_128": "no features",
}


def judged(method="optidel", **changes):
    return replace(Judged(method, "5 %", f"{method}-0123456789ab", VALUES, REASONS), **changes)


def baseline(miou=0.5512, **changes):
    return replace(outcome("no pre-training", miou, retained=0.0, patches=0, images=0, run="ba5e11ne"), **changes)


def advantage(difference=0.0161, low=-0.0041, high=0.0272, p=0.31, **changes):
    return replace(Advantage(KVASIR, 0.05, "optidel", "random", 3, difference, low, high, p), **changes)


def trail(words="robustness"):
    stops = Choice(words, 4, 6.0, 0.5, (0.98, 0.95, 1.0), (0.12, 0.0, 0.3))
    return Trail(words, words, True, words, words, [0, 4, 10], [0.4, 0.2, 0.3], [[0.5, 0.6], [0.7, 0.8], [0.8, 0.9]], [stops], 10, True)


def verdicts(outcomes, advantages=()):
    (comparison,) = comparisons(outcomes, advantages)
    return comparison.verdicts


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
        synthetic=[Picture(jpeg(4, 64, 64), "image 1", "patches 1 to 4")],
        judged=[judged(), judged("random", values={**VALUES, "vendi": 301.25})],
        curves=[LossCurve("optidel: loss", [1, 2, 5], [0.9, 0.4, 0.3217], "mean squared error")],
        outcomes=[
            outcome(examples=[Picture(jpeg(5), "IoU 0.83"), Picture(jpeg(6), "IoU 0.02")]),
            outcome("random", 0.6551),
            baseline(examples=[Picture(jpeg(7), "IoU 0.41")]),
        ],
        advantages=[advantage()],
        sources=[("difficulty", "table patches, version 12")],
        trails=[trail()],
    )


def test_the_page_is_well_formed_and_complete():
    page = Page(report.render(full()))
    counts = "9 1,204 840 8,112 405 304 69.8 4.99"
    results = "0.671 0.661\u20130.681 0.781 0.657 0.3217 8c1d7e0a"
    for number in f"{counts} {results}".split():
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d,])", page.words()), number
    for words in ("has no bytes", "3f2a9d0c11", "table patches, version 12", "3f2a@12400 ms, box 10,20,90,100", "mean squared error"):
        assert words in page.words()


def test_a_loss_is_told_by_the_epochs_that_were_trained_for_it(monkeypatch):
    """MLflow counts them from 0."""
    run = SimpleNamespace(curve=lambda name: [(0, 0.9), (4, 0.3217)] if name == "train/loss" else [])
    one = {"run": run, "tags": {"selection": "optidel"}, "params": {}}
    monkeypatch.setattr(page_job.tracking, "runs", lambda config, job: [one] if job == "pretrain" else [])
    assert [curve.epochs for curve in page_job.curves(Config())] == [[1, 5]]
    words = Page(report.render(Findings("t", "now", curves=page_job.curves(Config())))).words()
    assert "0.3217 after 5 epochs" in words
    assert "step" not in words.partition("Training")[2].partition("Results")[0]


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
    pictures = [*findings.hardest, *findings.easiest, *findings.synthetic]
    pictures += [picture for row in findings.outcomes for picture in row.examples]
    assert [image["src"] for image in shown] == [report.embedded(picture.jpeg) for picture in pictures]
    assert all(picture.caption in image["alt"] for picture, image in zip(pictures, shown, strict=True))


def test_every_chart_and_every_anchor_has_a_name_and_a_target():
    page = Page(report.render(full()))
    assert all(attributes["aria-label"] for attributes in page.all("svg"))
    assert len(page.all("svg")) == 6
    names = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(names) == len(set(names))
    assert {link["href"][1:] for link in page.all("a")} | {part["aria-labelledby"] for part in page.all("section")} <= set(names)


def test_an_empty_store_says_what_is_missing_and_which_job_makes_it():
    words = Page(report.render(Findings("Nothing yet", "2026-05-04 12:30"))).words()
    assert "not evaluated yet: run endocurate evaluate" in words
    for job in ("ingest", "choose", "pretrain", "transfer"):
        assert f"run endocurate {job}" in words


@pytest.mark.parametrize(
    "kept",
    ["difficulty", "chosen", "curves", "outcomes", "videos", "funnel", "reasons", "synthetic", "hardest", "judged", "trails"],
)
def test_a_page_with_only_one_part_is_well_formed(kept):
    Page(report.render(Findings("part", "now", **{kept: getattr(full(), kept)})))


def test_a_judgement_shows_what_was_measured_and_leaves_the_rest_empty_with_its_reason():
    page = Page(report.render(full()))
    tail = [""] * 4
    found = [row for row in page.table() if row[0].endswith("-0123456789ab")]
    told = ["87.5 %", "43.2 %", "0.3217"], ["3.1 %", "", "0.1234"]
    assert found == [
        ["optidel optidel-0123456789ab", "5 %", "", *told[0], "88.12", "", *told[1], *tail],
        ["random random-0123456789ab", "5 %", "", *told[0], "301.2", "", *told[1], *tail],
    ]
    titles = [cell["title"] for cell in page.all("td") if "title" in cell]
    assert titles == 2 * [
        "no clusters were made of the patches",
        "no features",
        "no clusters were made of the patches",
        *4 * ["not measured"],
    ]
    assert "clusters, duplicates: no clusters were made of the patches. fid 128: no features." in page.words()


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
        [picture],
        [LossCurve(HOSTILE, [0, 1], [1.0, 2.0], HOSTILE)],
        [outcome(HOSTILE, run=HOSTILE, comparison=HOSTILE, examples=[picture]), outcome("random", comparison=HOSTILE)],
        [advantage(comparison=HOSTILE, method=HOSTILE)],
        [(HOSTILE, HOSTILE)],
        [Judged(HOSTILE, HOSTILE, HOSTILE, {}, {"vendi": HOSTILE, HOSTILE: HOSTILE}, settings=HOSTILE, of=HOSTILE, pool={"vendi": 1.0})],
        [trail(HOSTILE)],
    )
    page = Page(report.render(findings))
    assert not page.all("script")
    assert all("onerror" not in attributes for _, attributes in page.found)
    assert len(page.all("img")) == 4
    assert page.text.count(HOSTILE) >= 30
    assert "49" not in page.words()


def test_no_path_or_file_name_of_the_ledger_is_shown():
    assert "hans" not in report.render(full())
    assert ".mp4" not in report.render(full())


def test_the_same_findings_give_the_same_page():
    assert report.render(full()) == report.render(full())


def test_losses_step_down_from_the_first_stage_to_the_second():
    (_, bars, missing) = charts.funnel(full().funnel, full().reasons)[1]
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
    for _, bars, _ in charts.funnel(findings.funnel, findings.reasons):
        assert all(bar.start >= 0 and bar.width >= 0 and bar.start + bar.width <= 100 + 1e-6 for bar in bars)


def test_only_the_first_hundred_videos_are_listed_with_the_rejected_first():
    rows = [{"video_id": f"{index:032}", "reason": "empty" if index == 149 else None, "patches": index} for index in range(150)]
    shown = report.listed(rows)
    assert len(shown) == 100
    assert shown[0]["reason"] == "empty"
    assert shown[1]["patches"] == 148
    assert "100 of 150" in Page(report.render(Findings("many", "now", videos=rows))).words()


def test_a_verdict_says_whether_the_intervals_overlap():
    near, far = verdicts([outcome(), outcome("random", 0.6551), outcome(budget=0.25), outcome("random", 0.6, budget=0.25)])
    assert near == "At a budget of 5 %, optidel reaches 0.671 mIoU, random 0.655; the intervals overlap, so the difference may be chance."
    assert far.endswith("random 0.600; the intervals do not overlap.")


def test_a_verdict_averages_seeds_and_takes_their_widest_interval():
    (told,) = verdicts([outcome(miou=0.7), outcome(miou=0.6, seed=1), outcome("random", 0.61)])
    assert "optidel reaches 0.650 mIoU, random 0.610; the intervals overlap" in told


def test_a_budget_of_so_many_patches_is_no_share():
    findings = replace(full(), outcomes=[outcome(budget=8), outcome("random", budget=8)], advantages=[advantage(budget=8)])
    words = Page(report.render(findings)).words()
    assert "At a budget of 8, optidel" in words
    assert "optidel over random budget 8, 3 seeds" in words


def test_budgets_of_one_number_and_two_units_stand_apart():
    hours = [outcome(name, miou, unit="gpu_hours") for name, miou in (("optidel", 0.5), ("random", 0.4))]
    by_bytes = [outcome(name, miou, unit="bytes") for name, miou in (("optidel", 0.6), ("random", 0.7))]
    findings = replace(full(), outcomes=[*by_bytes, *hours], advantages=[advantage(unit="gpu_hours", low=0.01)])
    words = Page(report.render(findings)).words()
    assert "At a budget of 0.05 gpu hours, optidel reaches 0.500 mIoU, random 0.400. Paired" in words
    assert "At a budget of 5 % of the bytes, random reaches 0.700 mIoU, optidel 0.600; the intervals do not overlap" in words
    assert "optidel over random budget 0.05 gpu hours, 3 seeds" in words
    with pytest.raises(ValueError, match="compares methods without an outcome there"):
        comparisons(by_bytes, [advantage(unit="patches")])


def test_a_single_method_is_compared_with_nothing():
    assert verdicts([outcome()]) == ["At a budget of 5 %, optidel reaches 0.671 mIoU; there is no other method to compare with."]


def test_baselines_alone_are_compared_with_each_other():
    (told,) = verdicts([baseline(), baseline(0.7, method="random weights")])
    assert told == "Without pre-training, random weights reaches 0.700 mIoU, no pre-training 0.551; the intervals do not overlap."


def test_a_baseline_is_listed_once_and_takes_part_at_every_budget():
    findings = replace(full(), advantages=[], outcomes=[outcome(), outcome(miou=0.69, budget=0.25), baseline(budget=0.25)])
    words, rows = Page(report.render(findings)).words(), Page(report.render(findings)).table()
    assert "At a budget of 5 %, optidel reaches 0.671 mIoU, no pre-training 0.551;" in words
    assert "At a budget of 25 %, optidel reaches 0.690 mIoU, no pre-training 0.551;" in words
    heads = [row[0] for row in rows if len(row) in (1, 12)]
    assert heads == ["method", "at a budget of 5 %", "optidel", "at a budget of 25 %", "optidel", "without pre-training", "no pre-training"]


def test_what_was_measured_differently_is_never_laid_side_by_side():
    other = [outcome(miou=0.9, comparison="polypgen"), outcome("lookalike", 0.8, comparison="polypgen")]
    here, there = comparisons([outcome(), outcome("random", 0.6), *other], [])
    assert [here.name, there.name] == [KVASIR, "polypgen"]
    assert [len(here.verdicts), len(there.verdicts)] == [1, 1]
    assert "lookalike" not in here.verdicts[0]
    assert "optidel reaches 0.671 mIoU, random 0.600" in here.verdicts[0]
    assert "optidel reaches 0.900 mIoU, lookalike 0.800" in there.verdicts[0]
    assert {row.comparison for _, rows in here.budgets for row, _ in rows} == {KVASIR}


def test_a_row_tells_every_score():
    row = next(row for row in Page(report.render(full())).table() if row[0] == "optidel")
    scores = ["0.432", "0.781", "0.543", "0.657"]
    assert row == ["optidel", "4.99 %", "405", "102", "0.671 0.661\u20130.681", "", *scores, "0", "8c1d7e0a"]


def test_the_dots_of_the_table_stand_at_the_miou_on_the_axis_that_is_labelled():
    (comparison,) = comparisons(full().outcomes, full().advantages)
    low, high = (float(comparison.axis[end].label) for end in (0, -1))
    pairs = [pair for _, rows in comparison.budgets for pair in rows]
    assert [row.method for row, _ in pairs] == ["optidel", "random", "no pre-training"]
    for row, drawn in pairs:
        places = np.array([drawn.start, drawn.dot, drawn.start + drawn.width]) / 100 * (high - low) + low
        assert places == pytest.approx([row.miou_low, row.miou, row.miou_high])


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (advantage(), "optidel is ahead of random by 0.016 mIoU (95 % interval -0.004 to 0.027, p 0.31, 3 seeds), which may be chance."),
        (
            advantage(low=0.002, p=0.049, seeds=1),
            "by 0.016 mIoU (95 % interval 0.002 to 0.027, p 0.049, 1 seed), which is more than the choice of test images explains.",
        ),
        (
            advantage(-0.02, -0.03, -0.01, 0.004),
            "random is ahead of optidel by 0.020 mIoU (95 % interval 0.010 to 0.030, p 0.004, 3 seeds), which is more than seeds and",
        ),
        (
            advantage(-0.02, -0.03, -0.01, 0.05),  # an interval is of one comparison, p of all
            "random is ahead of optidel by 0.020 mIoU (95 % interval 0.010 to 0.030, p 0.05, 3 seeds), which may be chance.",
        ),
        (
            advantage(0.0, -0.01, 0.01, 1.0),
            "optidel is level with random (95 % interval -0.010 to 0.010, p 1, 3 seeds), which may be chance.",
        ),
    ],
)
def test_a_paired_advantage_takes_the_place_of_overlapping_intervals(made, told):
    (verdict,) = verdicts([outcome(), outcome("random", 0.6551)], [made])
    assert verdict.startswith("At a budget of 5 %, optidel reaches 0.671 mIoU, random 0.655. Paired over the same test images, ")
    assert told in verdict
    assert "overlap" not in verdict


def test_an_advantage_speaks_at_its_budget_only_and_the_first_method_comes_first():
    rows = [outcome(), outcome("random", 0.65), outcome(budget=0.25), outcome("random", 0.65, budget=0.25), baseline()]
    pairs = [advantage(), advantage(0.1, 0.08, 0.12, method="random", other="no pre-training"), advantage(other="no pre-training")]
    small, large = verdicts(rows, pairs)
    assert "random is ahead" not in small  # drawn below; the verdict is about the first method
    assert re.findall(r"optidel is ahead of ([\w -]+) by", small) == ["random", "no pre-training"]
    assert large.endswith("no pre-training 0.551; the intervals do not overlap.")


def test_an_advantage_over_what_was_not_evaluated_is_a_bug():
    with pytest.raises(ValueError, match=r"budget=0\.25.*expected two of \['no pre-training'\]"):
        report.render(replace(full(), advantages=[advantage(budget=0.25)]))


def test_advantages_stand_beside_a_zero_line_in_proportion():
    pairs = [advantage(), advantage(-0.05, -0.08, -0.02, 0.01, other="no pre-training")]
    html = report.render(replace(full(), advantages=pairs))
    zero = float(re.search(r"--zero:([\d.]+)%", html)[1])
    found = re.findall(r"left:([\d.]+)%;width:([\d.]+)%.*?\s*<b style=\"left:([\d.]+)%", html.split("<h4>Difference")[1].split("</ol>")[0])
    places = np.array(found, float)
    expected = np.array([[one.low, one.high, one.difference] for one in pairs])
    drawn = np.c_[places[:, 0], places[:, 0] + places[:, 1], places[:, 2]] - zero
    assert np.allclose(drawn / drawn[1, 2], expected / expected[1, 2], atol=0.01)
    words = Page(html).words()
    assert "optidel over random budget 5 %, 3 seeds +0.016 -0.004 to 0.027 p 0.31, may be chance" in words
    assert "optidel over no pre-training budget 5 %, 3 seeds -0.050 -0.080 to -0.020 p 0.01, beyond chance" in words


@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 3).map(sorted), min_size=1, max_size=6))
def test_no_interval_leaves_its_axis(triples):
    drawn, ticks = charts.intervals([(value, low, high) for low, value, high in triples], 0)
    for one in drawn:
        assert -1e-6 <= one.start <= one.dot + 1e-6
        assert one.dot <= one.start + one.width + 1e-6 <= 100 + 2e-6
    assert "0" in [tick.label for tick in ticks]


def test_networks_that_found_nothing_are_told_and_not_compared():
    blind = [outcome(recall=0.0099), outcome("random", 0.6, recall=0.0), baseline(recall=0.0)]
    told = "At a budget of 5 %, no network found any foreground, so the comparison says nothing."
    assert verdicts(blind, [advantage()]) == [told]
    assert "optidel reaches" in verdicts([*blind[:2], baseline(recall=0.01)])[0]


def test_examples_are_of_the_lowest_seed_of_every_method_and_budget_in_their_order():
    def shown(*captions):
        return [Picture(jpeg(len(caption)), caption) for caption in captions]

    rows = [
        outcome(seed=1, examples=shown("IoU 0.11")),
        outcome(seed=0, examples=shown("IoU 0.90", "IoU 0.07")),
        outcome(budget=0.25, examples=shown("IoU 0.80")),
        outcome("random"),
        baseline(examples=shown("IoU 0.30")),
    ]
    page = Page(report.render(Findings("t", "now", outcomes=rows)))
    assert [image["alt"] for image in page.all("img")] == [
        "Test image as segmented by optidel, budget 5 %, seed 0, IoU 0.90",
        "Test image as segmented by optidel, budget 5 %, seed 0, IoU 0.07",
        "Test image as segmented by optidel, budget 25 %, seed 0, IoU 0.80",
        "Test image as segmented by no pre-training, seed 0, IoU 0.30",
    ]
    assert page.words().count("outline of the truth") == 1


def test_without_examples_or_advantages_nothing_is_said_of_them():
    words = Page(report.render(Findings("t", "now", outcomes=[outcome()]))).words()
    assert "Test images" not in words
    assert "outline" not in words
    assert "Difference in" not in words


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


def test_every_page_has_the_colours_of_the_patch_browser():
    sheet = (Path(report.__file__).parent / "browser/page/style.css").read_text()
    for html in (report.render(full()), notebooks.page("t", "")):
        assert colours(html) == colours(sheet)


def colours(text):
    """What the names of colours are said to be, light and dark, but for those of the report alone."""
    return [pair for pair in re.findall(r"(--\w+): (#\w+);", text) if pair[0] != "--lost"]


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
