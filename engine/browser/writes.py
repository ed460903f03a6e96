"""What the page may change where that was allowed: tags, and selections made of views."""

import hashlib
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from engine import schema, synthesis
from engine.browser.looks import View, whole_frames
from engine.config import SynthesisConfig
from engine.pool import retained
from engine.refusals import RefusedError
from engine.rows import Rows
from engine.store import PatchStore, tags

METHOD = "browse"  # of selections made here
RECIPE = "tiny"  # of the training that is proposed: it runs on any machine; whoever has a GPU takes another one
BATCH = 4  # images a step of RECIPE, which trains on no fewer
MOST = 100_000  # patches of a selection, for which somebody waits at the page


def tagged(store: PatchStore, body: dict[str, Any]) -> dict[str, Any]:
    """Give tags to patches, or take them: {"patches": [...], "tag": "...", "remove": false}; blanks around a tag are no part of it.

    The answer says how many of the patches have it now, or had it until now.

    RefusedError for another body.
    """
    patches, word = body.get("patches"), body.get("tag")
    if not isinstance(word, str) or not isinstance(patches, list) or not all(isinstance(one, str) for one in patches) or not patches:
        raise RefusedError('a tag is given as {"patches": [ids], "tag": "word"}')
    word = word.strip()
    change = tags.untag if body.get("remove") else tags.tag
    return {"tag": word, "patches": change(store, patches, word)}


def chosen(store: PatchStore, view: View, config: SynthesisConfig) -> dict[str, Any]:
    """Make a selection of a view: its patches in its order, as many as make whole training images, and these images.

    Its id is a hash of the ids and of their order, so that the same view makes the same selection. RefusedError where there are too few
    or too many, or where some are whole frames and some regions, which `choose` never mixes. The answer says the command that trains on it,
    with as small a batch as there are images.
    """
    each = config.patches
    rows = view.rows[: len(view.rows) // each * each]
    if view.asked.table != "patches" or not 0 < len(rows) <= MOST:
        raise RefusedError(f"a selection takes {each} to {MOST} patches, the view has {len(view.rows)} {view.asked.table}")
    refuse_mixed(view, rows)
    held = view.sheet.take(rows, ["patch_id", "bytes"])
    ids = [row["patch_id"] for row in held]
    name = synthesis.named(f"{METHOD}-{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:12]}", config)
    share = retained(pa.table({one: view.sheet.column(one) for one in ("bytes", "proposer")}), rows)
    same = {"selection_id": name, "method": METHOD, "budget": float(len(ids)), "unit": "patches", "embedding": "", "retained": share}
    same |= {"seed": 0, "patches_version": view.sheet.version, "weight": 1.0}
    table = pa.Table.from_pylist([same | row | {"rank": rank} for rank, row in enumerate(held)], schema.SELECTION)
    with store.writing("browse"):
        images = store.save(table, images_of(view, rows, ids, name, config))
    command = f"endocurate pretrain {RECIPE} store.uri={shlex.quote(store.uri)} selection.named={name}"
    command += f" pretrain.batch={images}" * (images < BATCH)
    return {"selection": name, "patches": len(ids), "images": images, "left": len(view.rows) - len(ids), "command": command}


def refuse_mixed(view: View, rows: Rows) -> None:
    """RefusedError for rows (N,) of which some are whole frames and some regions."""
    whole = int(whole_frames(view.sheet)[rows].sum())
    if 0 < whole < len(rows):
        raise RefusedError(
            f"{whole} of these {len(rows)} patches are whole frames, and a selection is of regions or of whole frames: filter by kind first"
        )


def images_of(view: View, rows: Rows, ids: list[str], name: str, config: SynthesisConfig) -> Iterator[pa.Table]:
    """The training images of the patches that stand in these rows (N,), some at a time."""
    places, order = dict(zip(ids, rows.tolist(), strict=True)), synthesis.ordered(ids, config)
    found = np.array([places[one] for one in order], np.int64)
    return synthesis.images(
        order, name, config, lambda part: pa.Table.from_pylist(view.sheet.take(found[part], synthesis.READ.names), synthesis.READ)
    )
