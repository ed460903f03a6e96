"""Patches for whoever asks: by likeness, by difficulty, by chance, by name. Pixels are read only where they are asked for.

`where` is a Lance filter, as in "difficulty > 0.5 AND time_ms < 60000"; ValueError, in one sentence, for one that is none, and for a `k`
of which the table has not that many rows.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from engine import sql
from engine.refusals import RefusedError
from engine.store.tables import Tables, among, first_line, quoted

SHOWN = ["patch_id", "difficulty", "video_id", "time_ms", "box"]
METRIC = "cosine"  # of the index too: the embeddings' length says how much contrast a patch has, not what it shows
# Up to so many rows are compared one by one: as fast as an index answers, and exact also where a filter leaves few rows of the
# partitions that an index would look into (recall 0.5 at 0.5 % of 200,000 rows).
EXACT = 50_000
PROBES = 20  # partitions at least; with the effort below recall was 0.99 on noise without any clusters, the worst case
EFFORT = 0.6  # of 0 to 1, from PROBES to all partitions in geometric steps
REFINED, CANDIDATES = 5, 500  # times k, and at least so many, are compared by their whole vectors: 1 bit a number ranks coarsely


def nearest(tables: Tables, like: str | Sequence[float], k: int, where: str = "") -> pa.Table:
    """The `k` patches whose embeddings are most like a patch's, itself left out, or like a vector."""
    dataset, where = opened(tables, where)
    itself = [like] if isinstance(like, str) else []
    has_rows(dataset, k, tables.uri, besides=len(itself))
    vector = embedding(tables, like) if isinstance(like, str) else checked(like, dataset)
    matching = dataset.count_rows(where or None)
    asked: dict[str, Any] = {"column": "embedding", "q": vector, "k": k + len(itself), "metric": METRIC}
    if matching <= EXACT:
        asked |= {"use_index": False}
    else:
        share = matching / dataset.count_rows()  # the rarer the rows, the more partitions hold the nearest of them
        asked |= {
            "minimum_nprobes": PROBES,
            "search_effort": 1 - (1 - EFFORT) * share,
        }
        if is_coarse(dataset):
            asked |= {"refine_factor": max(REFINED, CANDIDATES // asked["k"])}
    found = read(dataset, columns=[*SHOWN, "_distance"], filter=where or None, nearest=asked, prefilter=True)
    found = found.rename_columns([*SHOWN, "distance"]).sort_by([("distance", "ascending"), ("patch_id", "ascending")])
    other = [patch_id not in itself for patch_id in found["patch_id"].to_pylist()]
    return found.filter(pa.array(other, pa.bool_())).slice(0, k)


def is_coarse(dataset: lance.LanceDataset) -> bool:
    """Whether the vector index ranks by shortened vectors, so that its best are to be compared by the whole ones."""
    return any(index.index_type == "IVF_RQ" for index in dataset.describe_indices())


def embedding(tables: Tables, patch_id: str) -> np.ndarray:
    """The embedding of a patch (width,); LookupError where there is no such patch, RefusedError where it has none to compare."""
    vector = patch(tables, patch_id, ["embedding"])["embedding"]
    found = np.asarray([] if vector is None else vector, np.float32)
    if not is_direction(found):
        raise RefusedError(f"the patch {patch_id} has no embedding that could be compared")
    return found


def checked(vector: Sequence[float], dataset: lance.LanceDataset) -> np.ndarray:
    """A vector (width,) in a scale that Lance can round; ValueError for another width, all zeros, or what is not finite."""
    found, width = np.asarray(vector, np.float32), dataset.schema.field("embedding").type.list_size
    if found.shape != (width,) or not is_direction(found):
        raise ValueError(f"a vector of shape {found.shape} was given, expected {width} finite numbers that are not all 0")
    # Its length says nothing, and Lance rounds it to float16, which overflows; a power of two costs no digit.
    return np.ldexp(found, -int(np.frexp(np.abs(found).max())[1]))


def is_direction(vector: np.ndarray) -> bool:
    """Whether a vector can be compared by its angle: finite, and not all zeros. `vector` (width,)."""
    return bool(np.isfinite(vector).all() and vector.any())


def hardest(tables: Tables, k: int, where: str = "") -> pa.Table:
    """The `k` patches of the highest difficulty, the hardest first and equal ones by their ids."""
    dataset, where = opened(tables, where)
    has_rows(dataset, k, tables.uri)
    scores = read(dataset, columns=["difficulty"], filter=where or None)["difficulty"].to_numpy()
    scores = scores[np.isfinite(scores)]
    if not len(scores):
        return dataset.schema.empty_table().select(SHOWN)
    least = float(np.partition(scores, -min(k, len(scores)))[-min(k, len(scores))])
    among = f"difficulty >= {least!r}" + (f" AND {where}" if where else "")  # the other columns are read of these alone
    rows = read(dataset, columns=SHOWN, filter=among)
    rows = rows.filter(pa.array(np.isfinite(rows["difficulty"].to_numpy())))
    return rows.sort_by([("difficulty", "descending"), ("patch_id", "ascending")]).slice(0, k)


def sample(tables: Tables, k: int, seed: int, where: str = "") -> pa.Table:
    """`k` patches by lot, in the order of their lots: a patch's lot is a function of the seed and its id, whatever else is there."""
    dataset, where = opened(tables, where)
    has_rows(dataset, k, tables.uri)
    ids = dataset.scanner(columns=["patch_id"], filter=where or None, with_row_id=True)
    drawn = sql.select({"ids": ids}, f"SELECT _rowid FROM ids ORDER BY md5('{int(seed)}:' || patch_id), patch_id LIMIT {int(k)}")
    if not len(drawn):
        return dataset.schema.empty_table().select(SHOWN)
    rows = read(dataset, columns=SHOWN, filter=f"_rowid IN ({', '.join(map(str, drawn['_rowid'].to_pylist()))})")
    lots = [hashlib.md5(f"{int(seed)}:{patch_id}".encode()).hexdigest() for patch_id in rows["patch_id"].to_pylist()]
    return rows.take(pa.array(sorted(range(len(lots)), key=lots.__getitem__), pa.int64()))


def opened(tables: Tables, where: str) -> tuple[lance.LanceDataset, str]:
    """The complete patch table, and `where` in brackets, once it is sure that it is a filter of it. ValueError where it is not."""
    dataset = tables.open("patches", tables.complete_version())
    if not where:
        return dataset, ""
    if not sql.is_condition(where):  # Lance would leave out what comes after the part that it understands
        raise ValueError(f'where={where!r} is no filter: expected one condition, as in "difficulty > 0.5 AND time_ms < 60000"')
    try:
        dataset.scanner(columns=["patch_id"], filter=f"({where}\n)").explain_plan()
    except (ValueError, OSError) as error:
        raise ValueError(f"where={where!r} is no filter of the patches: {said(error)}") from error
    return dataset, f"({where}\n)"


def read(dataset: lance.LanceDataset, **asked: Any) -> pa.Table:
    """Rows of a table; OSError, in one sentence, where its files are damaged or gone."""
    try:
        return dataset.to_table(**asked)
    except (pa.ArrowException, OSError) as error:
        raise OSError(f"the table {dataset.uri} cannot be read: {said(error)}") from error


def said(error: BaseException) -> str:
    """What Lance says of what somebody asked for."""
    return first_line(error).replace("Invalid user input: ", "")


def has_rows(dataset: lance.LanceDataset, k: int, uri: str, besides: int = 0) -> None:
    """ValueError where fewer than k patches are there, `besides` not counted."""
    found = dataset.count_rows() - besides
    if not 1 <= k <= found:
        raise ValueError(f"k={k} patches were asked for; the store {uri} holds {found}{' others' * bool(besides)}")


def patch(tables: Tables, patch_id: str, columns: Sequence[str]) -> dict[str, Any]:
    """Columns of one complete patch; LookupError for an id that is not there."""
    found = patches(tables, [patch_id], columns)
    if not found:
        raise LookupError(f"the store {tables.uri} has no patch {patch_id!r}")
    return found[patch_id]


def patches(tables: Tables, patch_ids: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Columns of those of the patches that are there, by id."""
    if not patch_ids:
        return {}
    dataset = tables.open("patches", tables.complete_version())
    found = read(dataset, columns=list({"patch_id": 0, **dict.fromkeys(columns)}), filter=among(patch_ids))
    return {row["patch_id"]: row for row in found.to_pylist()}


def image(tables: Tables, patch_id: str) -> bytes:
    """The JPEG of a patch."""
    return bytes(patch(tables, patch_id, ["pixels"])["pixels"])


def training_image(tables: Tables, name: str, position: int | None = None) -> bytes:
    """The JPEG of a training image, by its id, or by a selection's and the position in it; LookupError for one that is not there."""
    column, place = ("image_id", "") if position is None else ("selection_id", f" AND position = {int(position)}")
    rows = tables.open("images").to_table(columns=["selection_id", "pixels"], filter=f"{column} IN ({quoted([name])}){place}").to_pylist()
    if not rows:
        raise LookupError(f"the store {tables.uri} has no training image {name!r}" + (f" at position {position}" if place else ""))
    if any(row["pixels"] != rows[0]["pixels"] for row in rows):
        made = ", ".join(sorted(row["selection_id"] for row in rows))
        raise LookupError(f"the training image {name} differs between {made}: ask for one of these and a position")
    return bytes(rows[0]["pixels"])
