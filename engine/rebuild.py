"""Training images made again from their rows: the selection names the patches, the patches make the bytes, and the bytes are compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from engine import schema, synthesis
from engine.config import SynthesisConfig
from engine.schema import PATCHES_PER_IMAGE as GROUP
from engine.store import PatchStore, quoted

AT_ONCE = 64  # images whose patches are in memory
FAULT = pa.schema([pa.field("position", pa.int64(), False), schema.text("image_id"), schema.text("fault", nullable=False)])


def rebuilt(store: PatchStore, image: Mapping[str, Any], config: SynthesisConfig) -> bytes:
    """The JPEG of a row of the images (its `patch_ids` suffice), bit for bit as the job choose makes it with these settings.

    LookupError names a patch that is not there any more.
    """
    found = store.named(image["patch_ids"], synthesis.READ.names)
    for patch_id in image["patch_ids"]:
        if patch_id not in found:
            raise LookupError(f"the patch {patch_id} is not in the store {store.uri} any more")
    made = synthesis.image_row([found[patch_id] for patch_id in image["patch_ids"]], config)["pixels"]
    return cast(bytes, made)


def faults(store: PatchStore, selection_id: str, config: SynthesisConfig) -> pa.Table:
    """What is wrong with the training images of a selection (FAULT), by position; no rows where every one is what it should be.

    An image should hold the four patches of its ranks, bear the name that they give, and have the bytes that they make. LookupError for
    an unknown selection.
    """
    ranked = promised(store, selection_id)
    held = store.open("images").to_table(
        columns=["position", "image_id", "patch_ids"], filter=f"selection_id IN ({quoted([selection_id])})"
    )
    rows = held.sort_by("position").to_pylist()
    found: list[dict[str, Any]] = [
        {"position": position, "image_id": None, "fault": f"there is no image, and {len(ids)} of {GROUP} patches are named"}
        for position, ids in ranked.items()
        if position not in held["position"].to_pylist()
    ]
    for start in range(0, len(rows), AT_ONCE):
        found += compared(store, selection_id, rows[start : start + AT_ONCE], ranked, config)
    return pa.Table.from_pylist(sorted(found, key=lambda fault: fault["position"]), FAULT)


def promised(store: PatchStore, selection_id: str) -> dict[int, list[str]]:
    """The patch ids of a selection's images by position, in the order of their ranks."""
    rows = store.open("selections").to_table(columns=["rank", "patch_id"], filter=f"selection_id IN ({quoted([selection_id])})")
    if not len(rows):
        raise LookupError(f"the store {store.uri} has no selection {selection_id!r}")
    ranked: dict[int, list[str]] = {}
    for row in rows.sort_by("rank").to_pylist():
        ranked.setdefault(row["rank"] // GROUP, []).append(row["patch_id"])
    return ranked


def compared(
    store: PatchStore, selection_id: str, images: list[dict[str, Any]], ranked: Mapping[int, list[str]], config: SynthesisConfig
) -> Iterator[dict[str, Any]]:
    """The faults of some images."""
    found = store.named([patch_id for image in images for patch_id in image["patch_ids"]], synthesis.READ.names)
    for image in images:
        if fault := fault_of(image, ranked.get(image["position"], []), found):
            yield {"position": image["position"], "image_id": image["image_id"], "fault": fault}
            continue
        made = synthesis.image_row([found[patch_id] for patch_id in image["patch_ids"]], config)
        if made["image_id"] != image["image_id"]:
            yield {"position": image["position"], "image_id": image["image_id"], "fault": f"its patches make {made['image_id']}"}
        elif made["pixels"] != store.training_image(selection_id, image["position"]):
            yield {"position": image["position"], "image_id": image["image_id"], "fault": "its patches make other bytes"}


def fault_of(image: Mapping[str, Any], ids: Sequence[str], found: Mapping[str, Any]) -> str:
    """What is wrong with an image before its bytes are looked at; "" where nothing is."""
    if list(image["patch_ids"]) != list(ids):
        return f"it holds other patches than the {len(ids)} of its ranks"
    gone = [patch_id for patch_id in ids if patch_id not in found]
    return f"{len(gone)} of its patches are not in the store any more" if gone else ""
