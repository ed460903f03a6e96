"""The pages under docs say what the code says, and the code says what its public names are."""

import ast
import re
from pathlib import Path

import pytest
import yaml

import engine
from docs import knobs
from engine import settings, store, transfer
from engine.config import Config
from engine.knobs import flat
from engine.metrics import KINDS
from engine.selection import METHODS
from engine.store.tables import CLUSTERS, ENDURING, MADE_LATER, ROUNDED, SCORES, TABLES
from jobs import pools
from jobs.__main__ import JOBS as COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for part in ("engine", "jobs") for path in (ROOT / part).rglob("*.py"))
ROWS = [line.split(" | ") for line in knobs.PAGE.read_text().splitlines() if line.startswith("| `")]


def test_the_page_of_knobs_is_what_the_code_makes_of_itself():
    assert knobs.PAGE.read_text() == knobs.page(), "write it anew by: python -m docs.knobs"


def test_it_has_every_knob_once_with_its_default():
    real = flat(Config())
    assert [row[0] for row in ROWS] != []
    assert sorted(row[0].strip("| `") for row in ROWS) == sorted(real)
    told = {row[0].strip("| `"): row[1].strip("`") for row in ROWS}
    assert (told["frames.every_s"], told["selection.method"], told["difficulty.checkpoint"]) == ("1.0", "optidel", "empty")
    assert told["probe.train.epochs"] == "20"  # of the section as the configuration has it, not of its class
    assert told["patches.box_sides"] == ",".join(map(str, real["patches.box_sides"]))


def test_every_knob_says_what_it_is_and_what_it_takes():
    assert [row[0] for row in ROWS if not row[2].strip() or not row[4].strip()] == []
    told = {row[0].strip("| `"): row[2] for row in ROWS}
    assert told["selection.budget"] == "number > 0"
    assert told["patches.quality"] == "whole number ≥ 1 ≤ 100"
    assert told["synthesis.fill"] == "`crop`, `pad`"


def test_every_number_has_a_unit():
    bare = {row[0].strip("| `") for row in ROWS if "number" in row[2] and not row[3].strip()}
    assert {name for name in bare if not name.endswith(".seed")} == {"watch.port", "browse.port"}  # names, and no amounts
    lists = {row[0].strip("| `"): row[3] for row in ROWS if row[2] == "a list" and row[1] not in ("empty", "`0`")}
    assert lists == {"patches.box_sides": "share of the frame's shorter side"}


# Public code that defaults are from, by owner and name; another one is entered here once somebody looked into it.
PUBLIC_CODE = (
    "facebookresearch/mae", "facebookresearch/segment-anything", "facebookresearch/ssl-data-curation", "facebookresearch/SemDeDup",
    "aielte-research/MedSegPretrainImageNet", "open-mmlab/mmsegmentation", "amro-kamal/effective_pruning", "DominikBatic/EndoViT",
)  # fmt: skip
REASON = r"our choice( for \w+)?, because \S+( \S+){3,}"  # of four words at least
SOURCE = rf"(?!our choice).*(arXiv \d{{4}}\.\d{{5}}(?!\d)|(?<![\w/-])({'|'.join(map(re.escape, PUBLIC_CODE))})(?![\w/-])).*"
SOURCES_OF_DEFAULTS = f"{REASON}|{SOURCE}"


def test_every_knob_says_where_its_default_comes_from():
    """A paper, public code, or our choice with its reason; who overrides a default says why."""
    assert [row[0] for row in ROWS if not re.fullmatch(SOURCES_OF_DEFAULTS, row[5].strip(" |"))] == []
    assert [one for one in PUBLIC_CODE if not any(one in row[5] for row in ROWS)] == []
    told = {row[0].strip("| `"): row[5].strip(" |") for row in ROWS}
    assert "OptiDEL" in told["pretrain.epochs"]
    changed = {leaf: told[f"probe.train.{leaf}"] for leaf in ("epochs", "batch", "warmup_epochs", "mae.norm_pix")}
    assert all(source.startswith("our choice, because ") for source in changed.values())  # not the class's, so not its source either
    assert len(set(changed.values())) == 4  # each for a reason of its own
    assert "minutes" in changed["epochs"]
    assert "difficulty.mae" in changed["mae.norm_pix"]
    assert "laryngoscopy" in told["frames.min_change"]  # stills tell nothing of change
    assert "norm_pix_loss" in told["pretrain.mae.norm_pix"]
    assert told["difficulty.mae.norm_pix"].startswith("our choice")
    assert "2111.06377" in told["probe.train.mae.mask_ratio"]  # which nobody overrides
    assert "ssl-data-curation" in told["selection.hierarchical.sample"]  # of the section's docstring


@pytest.mark.parametrize(
    "bare",
    [
        "", "OptiDEL", "our choice", "our choice, because", "our choice, because it is", "our choice, because  it  is  ",
        "our choice and/or so", "our choice (facebookresearch/mae)", "train and/or test", "LOG of notebooks/LOG", "facebookresearch/maes",
        "my/facebookresearch/mae", "some/where", "arXiv", "arXiv 2408.0710", "arXiv 2408.071077", "because it is what everybody takes",
    ],
)  # fmt: skip
def test_what_is_no_source_of_a_default_is_not_taken_for_one(bare):
    assert not re.fullmatch(SOURCES_OF_DEFAULTS, bare)


def test_what_the_log_is_named_for_stands_there():
    log = (ROOT / "notebooks" / "LOG.md").read_text()
    named = {title for row in ROWS for title in re.findall(r"notebooks/LOG\.md: ([^)]+)\)", row[5])}
    assert named
    assert [title for title in named if not re.search(rf"^## .*{re.escape(title)}", log, re.M)] == []


@pytest.mark.parametrize(
    ("comment", "parts"),
    [
        ("[px] of the input. Default: a/b", ("px", "of the input", "a/b")),
        ("[rows]. Default: our choice, because so", ("rows", "", "our choice, because so")),
        ("who is hard", ("", "who is hard", "")),
        ("Default: a/b", ("", "", "a/b")),
    ],
)
def test_a_comment_has_three_parts(comment, parts):
    assert tuple(knobs.note(comment)) == parts


@pytest.mark.parametrize("page", ["docs/data-protection.md", "README.md"])
def test_readers_are_told_of_every_table_of_a_store(page):
    told = (ROOT / page).read_text()
    every = ["patches", *(name for name in TABLES if name != "locks"), *MADE_LATER, f"{SCORES}*", f"{CLUSTERS}*", f"{ROUNDED}*"]
    assert [name for name in every if f"`{name}`" not in told] == []


def test_the_data_officers_are_told_of_what_jobs_and_notebooks_leave_beside_the_tables():
    told = (ROOT / "docs" / "data-protection.md").read_text().partition("## What is taken out")[0]
    left = [pools.NAME, "report.html", "notebooks/", "scorers/", "models/", "runs/", "unsent/", "mlflow.db", "artifacts/"]
    assert [name for name in left if f"`{name}`" not in told] == []


def test_the_page_of_watching_has_every_metric_with_its_kind_and_labels():
    rows = re.findall(r"^\| `(endocurate_\w+)` \| (.*?) \| (\w+): ", (ROOT / "docs" / "watch.md").read_text(), re.M)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, labels, kind in rows}
    assert told == {name: (one.kind, one.labels) for name, one in KINDS.items()}
    assert len(rows) == len(told)


def test_the_docstring_of_query_names_every_table_that_sql_sees():
    seen = ["patches", *(name for name in TABLES if name != "locks"), *ENDURING]
    assert [name for name in seen if not re.search(rf"\b{name}\b", store.PatchStore.query.__doc__)] == []


def test_the_store_names_every_class_of_its_own_among_what_is_public():
    assert {name for name, one in vars(store).items() if isinstance(one, type) and one.__module__ == store.__name__} <= set(store.__all__)


def test_the_map_names_every_section_of_the_settings():
    told = engine.__doc__.partition("    settings ")[2].partition("    config ")[0]
    sections = [name for name, field in Config.model_fields.items() if getattr(field.annotation, "__module__", "") == settings.__name__]
    assert len(sections) > 8
    assert [name for name in sections if not re.search(rf"\b{name}\b", told)] == []


def undocumented(tree, name):
    """The public names without a docstring in a module, in its classes too.

    What begins with an underscore is nobody else's; a special method does what Python says of it, with the arguments that its class
    tells of; a validator is a rule with its sentence, and its name is all that there is to promise.
    """
    if ast.get_docstring(tree) is None:
        yield name
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        rules = ("model_validator", "field_validator")
        if not any(ast.unparse(one).startswith(rules) for one in node.decorator_list):
            yield from undocumented(node if isinstance(node, ast.ClassDef) else ast.Module([node.body[0]], []), f"{name}.{node.name}")


def test_a_name_without_a_docstring_is_found_wherever_it_is_public():
    text = """
"A module."
class Bare:
    def __len__(self): return 1
    @property
    def size(self): return 1
    @model_validator(mode="after")
    def fits(self): return self
    def told(self): "Told."
def _own(): return 1
async def later(): return 1
"""
    assert list(undocumented(ast.parse(text), "m")) == ["m.Bare", "m.Bare.size", "m.later"]
    assert list(undocumented(ast.parse("one = 1"), "m")) == ["m"]


def test_every_public_name_has_a_docstring():
    assert len(SOURCES) > 200
    found = [name for path in SOURCES for name in undocumented(ast.parse(path.read_text()), str(path.relative_to(ROOT)))]
    assert found == []


def silent(tree, name, whole=""):
    """The public functions that raise an error of Python's, or one of ours, which their docstring and their class's do not name.

    What another function makes and this one raises is told by that one; a validator's sentences are pydantic's ValueError.
    """
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        told = f"{whole} {ast.get_docstring(node) or ''}"
        if isinstance(node, ast.ClassDef):
            yield from silent(node, f"{name}.{node.name}", told)
        elif not any("validator" in ast.unparse(one) for one in node.decorator_list):
            yield from (f"{name}.{node.name}: {error}" for error in sorted(raised(node)) if error not in told)


def raised(function):
    """The errors that a function's own lines raise by name; those of functions within it are theirs."""
    found, left = set(), list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            found |= {node.exc.func.id} if node.exc.func.id.endswith(("Error", "Interrupt")) else set()
        left += [] if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) else list(ast.iter_child_nodes(node))
    return found - {"AssertionError"}  # which is a bug of this code


def test_a_function_that_does_not_name_its_error_is_found():
    text = """
class Told:
    "OSError where it is away."
    def far(self): raise OSError("away")
    def near(self): raise LookupError("gone")
def made():
    "ValueError for less."
    def inner(): raise KeyError("hers")
    if inner: raise ValueError("less")
    raise TimeoutError("late")
"""
    assert list(silent(ast.parse(text), "m")) == ["m.Told.near: LookupError", "m.made: TimeoutError"]


def test_every_public_function_names_the_errors_that_it_raises():
    found = [name for path in SOURCES for name in silent(ast.parse(path.read_text()), str(path.relative_to(ROOT)))]
    assert found == []


def test_what_is_left_names_jobs_and_files_that_are_there_and_says_a_thing_once():
    page = (ROOT / "docs" / "left.md").read_text()
    jobs = [name for words in re.findall(r"^\| (`?\w+`?(?:, `?\w+`?)*) \| a job\b", page, re.M) for name in re.findall(r"\w+", words)]
    assert {"drift", "selections", "export"} <= set(jobs) <= set(COMMANDS)
    assert [path for path in re.findall(r"`((?:engine|jobs|tests|docs|notebooks)/[\w./]+)`", page) if not (ROOT / path).exists()] == []
    assert [page.count(word) for word in ("`nearest`", "NVML", "fp16")] == [1, 1, 1]


def test_the_papers_to_cite_are_those_of_every_method_and_score():
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    told = {word.strip(",") for one in references for word in one.get("notes", "").lower().replace("-", "_").split()}
    of_no_paper = {"random", "easy", "endocurate", "knn", "linear_probe", "effective_rank", "loss"}  # ours, or everybody's
    assert (set(METHODS) | set(transfer.SCORES)) - of_no_paper <= told
