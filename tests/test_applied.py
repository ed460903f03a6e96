"""Whether the first line of each file of cluster/ is the command that applies it, and as the overlays of all sizes would."""

import argparse
import json
import re
import shlex
import shutil

import pytest

from jobs import fleet
from tests import kustomize
from tests.manifests import CLUSTER, FILES, ROOT, SIZES, jobs, platform

KUBECTL = argparse.ArgumentParser(exit_on_error=False)  # kubectl apply, with the words that the first lines have
for word in ("-n", "-f", "-k", "-l"):
    KUBECTL.add_argument(word)


def first(path):
    """The command of a file's first line, or of the first word of a JSON, which has no comments; what follows in brackets is a remark."""
    text = path.read_text()
    told = next(iter(json.loads(text).values())) if path.suffix == ".json" else text.splitlines()[0].removeprefix("# ")
    return shlex.split(re.split(r"\s{2,}(?=\()", told)[0]), told


def applied(words, root=ROOT):
    """What `kubectl apply` is given by these words, {(kind, name): object}."""
    assert words[:2] == ["kubectl", "apply"], words
    asked = KUBECTL.parse_args(words[2:])
    made = kustomize.build(root / asked.k) if asked.k else list(kustomize.documents(root / asked.f))
    for one in (one for one in made if one["kind"] != "Namespace"):
        assert one["metadata"].setdefault("namespace", asked.n) == (asked.n or "endocurate"), "kubectl refuses two namespaces"
    key, _, value = (asked.l or "").partition("=")
    return {of(one): one for one in made if not key or one["metadata"].get("labels", {}).get(key) == value}


def of(one):
    return one["kind"], one["metadata"]["name"]


def by(program):
    return [pytest.param(path, id=str(path.relative_to(CLUSTER))) for path in FILES if first(path)[0][0] == program]


def test_the_first_line_of_every_file_is_a_command():
    assert {first(path)[0][0] for path in FILES} == {"kubectl", "docker", "python"}
    assert [path.name for path in FILES if first(path)[0][0] != "kubectl"] == ["Dockerfile", "Dockerfile.dockerignore", "times.json"]


@pytest.mark.parametrize("path", by("kubectl"))
def test_what_the_first_line_applies_has_the_file_in_it_and_nothing_that_is_still_to_be_replaced(path, tmp_path):
    words, _ = first(path)
    made = applied(words)
    assert made
    objects = [one for one in kustomize.documents(path) if "metadata" in one] if path.suffix == ".yaml" else []
    assert {of(one) for one in objects} <= set(made)
    assert {one["metadata"].get("namespace") for (kind, _), one in made.items() if kind != "Namespace"} <= {"endocurate"}
    assert [one["image"] for one in kustomize.containers(list(made.values())) if ":" not in one["image"]] == []
    shutil.copytree(CLUSTER, tmp_path / "cluster")
    (tmp_path / "cluster" / path.relative_to(CLUSTER)).unlink()
    with pytest.raises(FileNotFoundError):
        applied(words, tmp_path)


@pytest.mark.parametrize("path", by("kubectl"))
def test_what_is_applied_by_itself_is_in_every_size_what_its_overlay_makes_of_it(path):
    words, told = first(path)
    if "cluster/overlays/" in told:
        (size,) = re.findall(r"cluster/overlays/([\w-]+)", told)
        assert "or one-gpu, large" in told or size in path.relative_to(CLUSTER).parts
        return
    for size in SIZES:
        theirs = {of(one): one for one in (*platform(size), *jobs(size))}
        for key, one in applied(words).items():
            assert one == theirs.get(key, one), size


def test_the_image_is_built_from_the_file_whose_first_line_says_so_with_what_is_sent_by_the_one_beside_it():
    for name in ("Dockerfile", "Dockerfile.dockerignore"):
        words, _ = first(CLUSTER / name)
        assert words[:4] == ["docker", "build", "-f", "cluster/Dockerfile"]
        assert re.search(rf"^FROM .+ AS {words[words.index('--target') + 1]}$", (CLUSTER / "Dockerfile").read_text(), re.M)
        assert words[-1] == ".", "the folder of the code"


def test_the_times_are_read_by_the_command_that_they_name():
    words, _ = first(CLUSTER / "times.json")
    assert words[:3] == ["python", "-m", fleet.__name__]
    assert ROOT / words[3] == CLUSTER / "times.json"
