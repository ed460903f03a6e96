"""Whether cluster/Dockerfile, of which no image was ever built, puts in the code, the tested packages and the name of the commit."""

import re
import shlex
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from engine import tracking
from tests import kustomize
from tests.manifests import CLUSTER, ROOT, SIZES, clusters, jobs, platform

TARGETS = ("cpu", "gpu")


def constraints():
    return dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def stages():
    """{stage: (what it is from, its steps as (instruction, rest))} of the Dockerfile."""
    text = re.sub(r"(?m)^#.*\n", "", (CLUSTER / "Dockerfile").read_text()).replace("\\\n", "")
    lines = [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]
    made = {}
    for instruction, rest in lines:
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            made[name] = base, []
        else:
            made[name][1].append((instruction, rest))
    return made


def steps(name, instruction):
    return [rest for one, rest in stages()[name][1] if one == instruction]


def copied(name):
    """What a stage takes from the folder of the code, and what from another stage."""
    here, elsewhere = set(), set()
    for rest in steps(name, "COPY"):
        *words, _ = rest.split()
        (elsewhere if "--from=code" in words else here).update(word for word in words if not word.startswith("--"))
    return here, elsewhere


def installs(name):
    return [one.split() for rest in steps(name, "RUN") for one in rest.split("&&") if one.split()[:2] == ["pip", "install"]]


def test_images_have_the_ray_the_python_and_the_version_of_the_project():
    bases = [base.removeprefix("rayproject/ray:").split("-") for base, _ in stages().values() if base not in stages()]
    assert {ray for ray, _, _ in bases} == {constraints()["ray"]}
    for name in TARGETS:
        assert stages()[f"{name}-packages"][0].endswith(f"-{name}")
    for _, python, _ in bases:
        digits = python.removeprefix("py")
        assert f"{digits[0]}.{digits[1:]}" in SpecifierSet(project()["requires-python"])
    for size in SIZES:
        assert {spec["rayVersion"] for spec in clusters(size).values()} == {constraints()["ray"]}
        used = {container["image"] for one in (*platform(size), *jobs(size)) for container in kustomize.containers(one)}
        ours = {image.rpartition(":")[2] for image in used if "/endocurate:" in image}
        assert ours == {f"{project()['version']}-cpu", f"{project()['version']}-gpu"}
        assert all(not image.endswith(":latest") and ":" in image.rpartition("/")[2] for image in used)


def test_everything_in_the_image_is_pinned():
    """What is asked for is told by the command itself, which is carried out here."""
    (made,) = steps("code", "RUN")
    command = shlex.split(made.partition(" > ")[0])
    told = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == [*project()["dependencies"], *project()["optional-dependencies"]["cluster"]]
    wanted = [Requirement(one) for one in told]
    assert [one for one in wanted if constraints().get(one.name.lower(), "none") not in one.specifier] == []
    for name in TARGETS:
        assert all(one[one.index("--constraint") + 1] == "constraints.txt" for one in installs(f"{name}-packages"))


def test_the_image_holds_the_code_and_only_what_it_is_made_of_is_sent():
    sent = [line[1:] for line in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sent == ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "engine", "jobs"]
    assert {project()["readme"], *project()["license-files"]} <= set(sent), "the package is not built without them"
    assert copied("code") == (set(sent) - {"constraints.txt"}, set())
    assert "pip wheel --no-cache-dir --no-deps --wheel-dir wheel ." in steps("code", "RUN")[0]


@pytest.mark.parametrize("name", TARGETS)
def test_a_commit_makes_no_packages_anew(name):
    """Docker makes a step anew where a file that it took, or an argument, is another; and all that come after."""
    packages = f"{name}-packages"
    assert copied(packages) == ({"constraints.txt"}, {"/code/packages.txt"})
    assert steps(packages, "ARG") == steps(packages, "ENV") == []
    assert stages()[name][0] == packages
    assert copied(name) == (set(), {"/code/wheel"})
    assert [one[-2:] for one in installs(name)] == [["--no-deps", "wheel/*.whl"]]


def test_both_images_end_alike_not_as_root_and_name_the_commit_that_made_them(monkeypatch):
    assert stages()["cpu"][1] == stages()["gpu"][1]
    assert stages()["cpu"][1][-1] == ("USER", "1000:100")
    (told,) = steps("cpu", "ENV")
    assert steps("cpu", "ARG") == ["COMMIT"]
    name, _, value = told.partition("=")
    assert value.startswith("${COMMIT:?"), "an image without it is not built"
    monkeypatch.setenv(name, "0123456789ab")
    assert tracking.code_commit() == "0123456789ab"


def test_only_the_image_for_gpus_has_faiss_for_gpus_and_in_the_place_of_the_other():
    assert "faiss" not in str((stages()["cpu-packages"], stages()["cpu"]))
    (made,) = steps("gpu-packages", "RUN")  # one, or the image would hold what the next one takes away
    done = [one.split() for one in made.split("&&")]
    assert [one[:2] + one[-1:] for one in done[:3]] == [
        ["pip", "install", "packages.txt"],
        ["pip", "uninstall", "faiss-cpu"],
        ["pip", "install", "faiss-gpu"],
    ]
    assert constraints()["faiss-gpu"] == constraints()["faiss-cpu"]  # the tests are of one, and the centroids of both are the same
    of_cuda = {"nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12", "nvidia-curand-cu12", "nvidia-cuda-nvrtc-cu12"}  # faiss-gpu's needs
    assert of_cuda <= set(constraints())


def test_the_cuda_and_the_driver_that_are_told_of_are_those_of_the_tested_set():
    """NVIDIA, "CUDA Compatibility", Minor Version Compatibility, table 1: of 13.x the least driver is 580."""
    drivers = {"12": "525", "13": "580"}
    major = constraints()["cuda-toolkit"].partition(".")[0]
    for told in ((CLUSTER / "Dockerfile").read_text(), (CLUSTER / "README.md").read_text()):
        assert re.search(rf"CUDA {major}\b", told)
        assert re.search(rf"\bdriver {drivers[major]} or newer", told)
