"""Training images made again from their rows: the selection names the patches, the patches make the bytes, and the bytes are compared.

How an image was made stands in its row, so the configuration of the day plays no part.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from engine import schema, synthesis
from engine.config import SynthesisConfig
from engine.store import PatchStore, quoted

AT_ONCE = 64  # images whose patches are in memory
FAULT = pa.schema([pa.field("position", pa.int64(), False), schema.text("image_id"), schema.text("fault", nullable=False)])


def rebuilt(store: PatchStore, image: Mapping[str, Any]) -> bytes:
    """The JPEG of a row of the images (its `patch_ids` and `layout` suffice), bit for bit as the job choose made it.

    LookupError names a patch that is not there any more.
    """
    found = store.named(image["patch_ids"], synthesis.READ.names)
    for patch_id in image["patch_ids"]:
        if patch_id not in found:
            raise LookupError(f"the patch {patch_id} is not in the store {store.uri} any more")
    return cast(bytes, made(image, found)["pixels"])


def made(image: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The row that the patches `found` make by the layout of `image`."""
    return synthesis.image_row([found[patch_id] for patch_id in image["patch_ids"]], synthesis.settings(image["layout"]))


def faults(store: PatchStore, selection_id: str) -> pa.Table:
    """What is wrong with the training images of a selection (FAULT), by position; no rows where every one is what it should be.

    An image should hold the patches that its ranks and its layout give it, bear the name that they give, and have the bytes that they
    make. LookupError for an unknown selection.
    """
    columns = ["position", "image_id", "patch_ids", "layout"]
    held = store.open("images").to_table(columns=columns, filter=f"selection_id IN ({quoted([selection_id])})")
    rows = held.sort_by("position").to_pylist()
    config = synthesis.settings(rows[0]["layout"] if rows else "")  # all images of a selection are laid out alike
    promise = promised(store, selection_id, config, rows)
    there = {row["position"] for row in rows}
    found: list[dict[str, Any]] = [
        {"position": position, "image_id": None, "fault": f"there is no image, and {len(ids)} of {config.patches} patches are named"}
        for position, ids in promise.items()
        if position not in there
    ]
    for start in range(0, len(rows), AT_ONCE):
        found += compared(store, selection_id, rows[start : start + AT_ONCE], promise)
    return pa.Table.from_pylist(sorted(found, key=lambda fault: fault["position"]), FAULT)


def promised(
    store: PatchStore, selection_id: str, config: SynthesisConfig, images: Sequence[Mapping[str, Any]]
) -> Mapping[int, Sequence[str]]:
    """The patch ids of a selection's images by position, in reading order.

    Where a video was forgotten ranks and images are missing. Consecutive patches are known all the same; of the other orders the images
    that are left tell which patches they hold, and all that is asked is that these are chosen. LookupError where there is no such
    selection.
    """
    rows = store.open("selections").to_table(columns=["rank", "patch_id"], filter=f"selection_id IN ({quoted([selection_id])})")
    if not len(rows):
        raise LookupError(f"the store {store.uri} has no selection {selection_id!r}")
    ranked = {row["rank"]: row["patch_id"] for row in rows.sort_by("rank").to_pylist()}
    if config.order == "rank":
        places: dict[int, list[str]] = {}
        for rank, patch_id in ranked.items():
            places.setdefault(rank // config.patches, []).append(patch_id)
        return places
    held = {image["position"]: image["patch_ids"] for image in images}
    count = max(-(-(max(ranked) + 1) // config.patches), *(position + 1 for position in held), 0)
    if len(ranked) == count * config.patches and sorted(held) == list(range(count)):
        return dict(enumerate(synthesis.groups(synthesis.ordered(list(ranked.values()), config), config.patches)))
    chosen = set(ranked.values())
    return {position: [patch_id for patch_id in held.get(position, []) if patch_id in chosen] for position in range(count)}


def compared(
    store: PatchStore, selection_id: str, images: list[dict[str, Any]], promise: Mapping[int, Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """The faults of some images."""
    found = store.named([patch_id for image in images for patch_id in image["patch_ids"]], synthesis.READ.names)
    for image in images:
        fault = fault_of(image, promise.get(image["position"], []), found) or fault_of_bytes(store, selection_id, image, found)
        if fault:
            yield {"position": image["position"], "image_id": image["image_id"], "fault": fault}


def fault_of(image: Mapping[str, Any], ids: Sequence[str], found: Mapping[str, Any]) -> str:
    """What is wrong with an image before its bytes are looked at; "" where nothing is."""
    if list(image["patch_ids"]) != list(ids):
        return f"it holds other patches than the {len(ids)} of its ranks"
    gone = [patch_id for patch_id in ids if patch_id not in found]
    return f"{len(gone)} of its patches are not in the store any more" if gone else ""


def fault_of_bytes(store: PatchStore, selection_id: str, image: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong with the name or the bytes of an image, beside what its patches make; "" where nothing is."""
    row = made(image, found)
    if row["image_id"] != image["image_id"]:
        return f"its patches make {row['image_id']}"
    return "" if row["pixels"] == store.training_image(selection_id, image["position"]) else "its patches make other bytes"
