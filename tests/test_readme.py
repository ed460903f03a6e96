"""The pages say only what can be typed and point only at what is there; each journey of the front page is walked on small data."""

import re
import shlex
import tempfile
from pathlib import Path

import pytest

from engine import simulate
from jobs.__main__ import asked_of_submit, main, parse
from jobs.recipes import tiny
from tests.raylets import TOKEN, Cluster
from tests.test_jobs import SMALL

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "cluster/README.md"]
LINE = re.compile(r"^    endocurate (.*?)(?:\s+#.*)?$", re.MULTILINE)
SERVED = {"/data/videos": "videos", "/data/archive": "videos", "/data/inbox": "inbox", "/data/kvasir_seg": "pairs"}
SERVED |= {"s3://bucket/videos": "videos", "s3://bucket/store": "store", "http://mlflow:5000": "runs.db"}


def commands(text):
    return [shlex.split(line) for line in LINE.findall(text)]


def journey(name):
    """The commands of the part of the front page that has this heading."""
    text = (ROOT / "README.md").read_text()
    (part,) = re.findall(rf"^### {name}\b.*?$(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    return commands(part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_understood(page):
    for words in commands(page.read_text()):
        if "..." not in words:
            parse(words)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "cluster/README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_plan_of_a_recipe_for_gpus_is_for_a_cluster_that_has_some(page):
    for words in (asked_of_submit(words[1:]) if words[0] == "submit" else words for words in commands(page.read_text())):
        config = parse(words)[1] if words[0] == "plan" else tiny()
        assert config.plan.gpus > 0 or config.patches.proposer != "sam", f"hours of SAM on processors: {words}"


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_points_at_what_is_there(page):
    text = page.read_text()
    for place, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        other = page.parent / place if place else page
        assert other.exists(), place
        assert not heading or heading in anchors(other.read_text()), f"{place}#{heading}"
    for path in re.findall(r"`((?:engine|jobs|tests|docs|notebooks|cluster)/[\w/.-]+)`", text):
        assert (ROOT / path).exists() or (page.parent / path).exists(), path


def anchors(text):
    """The headings of a page as its links name them."""
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to work in, and data beside it."""
    data = tmp_path / "data"
    simulate.write_clips(data / "videos", data / "truth", 2, seconds=5.0)
    simulate.write_pairs(data / "pairs", 10, side=96)
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return data


def walk(words, data, *more):
    """The exit code of a command of the page, made small: its paths are those of `data`, and more knobs follow."""
    for told, folder in SERVED.items() if "--kubernetes" not in words else ():  # of which nothing but a manifest comes
        scheme = "sqlite:///" if folder.endswith(".db") else ""
        words = [word.replace(told, f"{scheme}{data / folder}") for word in words]
    words = ["tiny" if word == "cluster" else word for word in words if "plan.gpus=" not in word]  # SAM on GPUs is not to be had everywhere
    return main([*words, *([*SMALL, "frames.every_s=0.25"] if "tiny" in words else []), *more])


@pytest.mark.processes
def test_the_researchers_journey_ends_in_a_report(desk, capsys):
    walked = journey("Researcher")
    assert [words[0] for words in walked] == ["ingest", "query", "hardest", "choose", "pretrain", "evaluate", "report"]
    assert [walk(words, desk) for words in walked] == [0] * len(walked)
    store = desk.parent / "desk/store"
    assert "optidel" in (store / "report.html").read_text()
    told = (ROOT / "docs/data-protection.md").read_text()
    left = [re.sub(r"^(clusters|rounded|scores)-.*", r"\1-*", one.stem) if one.suffix == ".lance" else one.name for one in store.iterdir()]
    assert [name for name in left if f"`{name}`" not in told and f"`{name}/`" not in told] == []
    assert "reason" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_operators_journey_takes_in_what_arrives_and_keeps_the_table(desk):
    simulate.write_clips(desk / "inbox", desk / "truth of inbox", 1, seconds=2.0, seed=7)
    walked = journey("Operator")
    assert {words[0] for words in walked} == {"ingest", "watch", "requeue", "maintain"}
    quick = ["watch.once=true", "watch.settle_s=0.1", "watch.look_s=0.2", "watch.batch_s=0"]
    assert [walk(words, desk, *quick) for words in walked] == [0] * len(walked)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_newcomers_journey_is_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = re.search(r"^demo:.*\n\t\$\(RUN\) -m jobs (\w+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert main([recipe.group(1)]) == 0
    assert (tmp_path / "demo/store/report.html").stat().st_size > 10_000


@pytest.fixture
def cluster(monkeypatch):
    """A Ray with a job server, by the variables that a person sets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray-") as folder, Cluster(folder, cpus=6) as made:
        made.begin()
        monkeypatch.setenv("RAY_ADDRESS", made.address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        yield made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_platform_engineers_journey_is_planned_submitted_and_done(desk, cluster):
    walked = journey("Platform engineer")
    assert [" ".join(words[:2]) for words in walked] == ["submit plan", "submit ingest", "submit --kubernetes"]
    assert [walk(words, desk, "where=ray") for words in walked] == [0] * len(walked)
