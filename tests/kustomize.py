"""What `kubectl kustomize FOLDER` builds, for the parts of kustomize that cluster/ uses; anything else is refused.

Written from kustomize's documentation, so that the manifests are tested where there is no kubectl; where there is one, a test holds both
against each other.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
KNOWN = {
    "apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator", "generatorOptions", "images", "patches",
    "replacements",
}  # fmt: skip


def build(folder: Path) -> list[Object]:
    """The objects of a kustomization, in no particular order."""
    return accumulated(folder.resolve(), [])


def accumulated(folder: Path, objects: list[Object]) -> list[Object]:
    """`objects` and those of a kustomization; a component changes what was there before, too."""
    asked = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if strange := set(asked) - KNOWN:
        raise ValueError(f"{folder}: this reader knows no {strange}")
    for place in asked.get("resources", []):
        path = (folder / place).resolve()
        objects = objects + (accumulated(path, []) if path.is_dir() else list(documents(path)))
    objects = with_config_maps(asked, folder, objects)
    for place in asked.get("components", []):
        objects = accumulated((folder / place).resolve(), objects)
    for patch in asked.get("patches", []):
        objects = patched(objects, patch)
    for one in objects:
        if asked.get("namespace") and one["kind"] not in ("Namespace",):
            one["metadata"]["namespace"] = asked["namespace"]
        rename_images(one, asked.get("images", []))
    for replacement in asked.get("replacements", []):
        replace(objects, replacement)
    return objects


def documents(path: Path) -> Iterator[Object]:
    return (one for one in yaml.safe_load_all(path.read_text()) if one)


def with_config_maps(asked: Object, folder: Path, objects: list[Object]) -> list[Object]:
    made = []
    for generator in asked.get("configMapGenerator", []):
        assert asked["generatorOptions"] == {"disableNameSuffixHash": True}
        name, behaviour = generator["name"], generator.get("behavior", "create")
        there = [one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == name]
        assert len(there) == (behaviour == "replace"), f"{folder}: {behaviour} {name}"
        objects = [one for one in objects if one not in there]
        labels = generator.get("options", {}).get("labels")
        metadata = (there[0]["metadata"] if there else {"name": name}) | ({"labels": labels} if labels else {})
        data = {Path(file).name: (folder / file).read_text() for file in generator["files"]}
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return objects + made


def patched(objects: list[Object], patch: Object) -> list[Object]:
    chosen = [one for one in objects if selected(one, patch["target"])]
    change = yaml.safe_load(patch["patch"])
    if isinstance(change, dict):
        assert change["$patch"] == "delete"
        return [one for one in objects if one not in chosen]
    for one in chosen:
        for step in change:
            at, last = within(one, [part.replace("~1", "/") for part in step["path"].split("/")[1:]])
            if step["op"] == "add" and isinstance(at, dict):
                at[last] = step["value"]
            elif step["op"] == "remove":
                del at[last]
            else:
                assert step["op"] == "replace"
                at[last]  # a path that is not there is an error
                at[last] = step["value"]
    return objects


def selected(one: Object, target: Object) -> bool:
    return one["kind"] == target["kind"] and target.get("name", one["metadata"]["name"]) == one["metadata"]["name"]


def within(place: Any, path: list[str]) -> tuple[Any, Any]:
    """The container that the last part of a path names something in, and that part as the container counts."""
    for part in path[:-1]:
        place = place[int(part) if isinstance(place, list) else part]
    return place, int(path[-1]) if isinstance(place, list) else path[-1]


def rename_images(place: Any, images: list[Object]) -> None:
    for container in containers(place):
        name, _, tag = container["image"].partition(":")
        for new in images:
            if new["name"] == name:
                container["image"] = f"{new.get('newName', name)}:{new.get('newTag', tag)}"


def containers(place: Any) -> Iterator[Object]:
    """Every container below, wherever it stands."""
    if isinstance(place, dict):
        for name, value in place.items():
            yield from value if name in ("containers", "initContainers") else containers(value)
    elif isinstance(place, list):
        for value in place:
            yield from containers(value)


def replace(objects: list[Object], replacement: Object) -> None:
    source = replacement["source"]
    (found,) = (one for one in objects if selected(one, source))
    at, last = within(found, split(source["fieldPath"]))
    for target in replacement["targets"]:
        for one in objects:
            if selected(one, target["select"]):
                for path in target.get("fieldPaths"):
                    put(one, split(path), at[last])


def split(path: str) -> list[str]:
    return [part.strip("[]") for part in re.findall(r"\[[^]]*\]|[^.\[\]]+", path)]


def put(place: Any, path: list[str], value: Any) -> None:
    if len(path) == 1:
        place[path[0]] = copy.deepcopy(value)
    elif path[0] == "*":
        for one in place:
            put(one, path[1:], value)
    else:
        put(place[path[0]], path[1:], value)
