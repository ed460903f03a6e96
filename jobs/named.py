"""Which selection is asked for: by the knobs that made it, or by its id, as one made of a view in `browse` is."""

import logging
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine import schema, synthesis, tracking
from engine.config import Config
from engine.knobs import flat, of_now
from engine.methods import refuse_dealt_twice
from engine.pool import retained
from engine.selection import Selection
from engine.store import PatchStore, quoted

log = logging.getLogger("jobs.named")


def made(store: PatchStore, selection_id: str) -> dict[str, Any]:
    """How a selection was made: what its rows have in common. LookupError says which selections there are."""
    rows = ranked(store, selection_id)
    return {name: rows[name][0].as_py() for name in rows.column_names if name not in ("rank", "patch_id", "weight", "bytes")}


def ranked(store: PatchStore, selection_id: str) -> pa.Table:
    """The rows of a selection by rank; LookupError says which selections there are."""
    rows = store.ranked(selection_id, schema.SELECTION.names)
    if not len(rows):
        have = sorted(set(store.open("selections").to_table(columns=["selection_id"])["selection_id"].to_pylist()))
        raise LookupError(f"the store {store.uri} has no selection {selection_id} (it has {', '.join(have) or 'none'})")
    return rows


def is_there(store: PatchStore, selection_id: str) -> bool:
    """Whether the store holds a selection."""
    return store.has("selections") and bool(store.open("selections").count_rows(f"selection_id = {quoted([selection_id])}"))


def choices(config: Config, *sections: str, where: str = "") -> Iterator[dict[str, Any]]:
    """The finished runs of the job choose that had the very knobs of these sections, the newest first; `where`: MLflow's filter."""
    knobs = {name: str(value) for name, value in flat(config).items() if name.partition(".")[0] in sections}
    early = {"selection.named": ""}  # runs of before it was there do not tell it
    return (one for one in tracking.newest(config, "choose", where) if knobs.items() <= (early | of_now(one["params"])).items())


def newest(config: Config) -> dict[str, Any] | None:
    """The newest run of the job choose by the knobs selection.* and synthesis.* of `config` whose selection the store holds.

    Of selection.named there is but one.
    """
    store = PatchStore(config.store.uri)
    if not store.has("selections"):
        return None
    if config.selection.named:
        return next((one for one in choices(config, "selection", "synthesis") if is_there(store, one["tags"]["selection"])), None)
    return next(held(config, store, "selection", "synthesis"), None)


def held(config: Config, store: PatchStore, *sections: str, before: int | None = None) -> Iterator[dict[str, Any]]:
    """The choices whose selections the store holds, from that of the newest version of the patches, or of one `before` it.

    Runs know when they began by the clock of whoever made them, and that may be ahead.
    """
    for version in versions(store):
        if before is None or version < before:
            found = choices(config, *sections, where=of_version(version))
            yield from (one for one in found if is_there(store, one["tags"]["selection"]))


def versions(store: PatchStore) -> list[int]:
    """The versions of the patch table that selections of the store were chosen from, the newest first."""
    found = store.open("selections").to_table(columns=["patches_version"])["patches_version"]
    return sorted(found.unique().to_pylist(), reverse=True)


def of_version(version: int) -> str:
    """MLflow's filter of the runs that say they are of a version of the patch table."""
    return f"tags.patches_version = '{version}'"


def asked(config: Config) -> str:
    """The id of the training set that selection.* and synthesis.* name; LookupError, which says how it is made, where there is none.

    The one of selection.named; else the newest whose run of the job choose had these very knobs; where no run tells of those of the same
    method, budget, unit and seed, as beside another MLflow, the newest of these.
    """
    if config.selection.named:
        return str(chosen(config)["selection_id"])
    if (one := newest(config)) is not None:
        return str(one["tags"]["selection"])
    store, sought = PatchStore(config.store.uri), config.selection
    found = str(store.selection(sought.method, sought.budget, sought.seed, sought.unit)["selection_id"][0].as_py())
    refuse_others(config, store)
    log.warning("no run of the job choose tells how %s was made: it is taken for its method, budget, unit and seed", found)
    return found


def refuse_others(config: Config, store: PatchStore) -> None:
    """LookupError where a run tells of a selection of that method, budget, unit and seed: it was made by other knobs."""
    sought = config.selection
    same = f"method = '{sought.method}' AND budget = {sought.budget!r} AND seed = {sought.seed} AND unit = '{sought.unit}'"
    ids = sorted(set(store.open("selections").to_table(columns=["selection_id"], filter=same)["selection_id"].to_pylist()))
    if any(tracking.begun(config, "choose", f"tags.selection = '{one}'") for one in ids):
        raise LookupError(
            f"the store {store.uri} has selections of {sought.method} with budget {sought.budget:g} of {sought.unit}, seed {sought.seed}, "
            f"but none by all these knobs of selection.* and synthesis.*: run the job choose with the same knobs first, or name one by "
            f"selection.named ({', '.join(ids)})"
        )


def training_set(config: Config) -> str:
    """The id of selection.named with images as synthesis.* lays them out."""
    name, ending = config.selection.named, synthesis.named("", config.synthesis)
    return name if name.endswith(ending) else f"{name}{ending}"


def chosen(config: Config) -> dict[str, Any]:
    """How the training set that selection.named and synthesis.* name was made; LookupError where it has no images."""
    store, name = PatchStore(config.store.uri), training_set(config)
    if name != config.selection.named and not is_there(store, name):
        ranked(store, config.selection.named)
        raise LookupError(
            f"the store {store.uri} has no training images of {config.selection.named} laid out so: "
            f"run the job choose with selection.named={config.selection.named} and the same synthesis.* first"
        )
    return made(store, name)


def selection(config: Config, version: int) -> tuple[Selection, pa.Table]:
    """What selection.named holds, cut to whole images, and its rows as those of the training set; of one that is there as they are.

    ValueError where it makes no image, as when its videos were forgotten, and for one of rded that is laid out as synthesis.order=spread.
    """
    store, name, each = PatchStore(config.store.uri), training_set(config), config.synthesis.patches
    rows = ranked(store, config.selection.named)
    refuse_dealt_twice(rows["method"][0].as_py(), config.synthesis.order, f"selection.named={config.selection.named}")
    kept = rows.slice(0, len(rows) // each * each)
    if not len(kept):
        raise ValueError(f"selection.named={config.selection.named} has {len(rows)} patches, an image takes {each}")
    ids, sizes = kept["patch_id"].to_pylist(), kept["bytes"].to_numpy()
    if name == config.selection.named:
        return Selection(name, ids, sizes, rows["retained"][0].as_py()), rows
    patches = store.patches(["patch_id", "bytes", "proposer"], version=version)
    places = pc.drop_null(pc.index_in(kept["patch_id"].combine_chunks(), patches["patch_id"])).to_numpy()
    found = Selection(name, ids, sizes, retained(patches, places))
    new = {"selection_id": name, "retained": found.retained, "patches_version": version}
    for column, value in new.items():
        place = kept.schema.get_field_index(column)
        kept = kept.set_column(place, kept.schema.field(place), pa.array([value] * len(kept), kept.schema.field(place).type))
    return found, kept
