"""The change from one scorer to another: what all patches were scored by anew takes the place of the old scores in one commit.

Until then the old ones stay as they are, so readers see those of one scorer or of the other, and what was taken in since by the new one.
Only the columns that change are written; a kill at any moment leaves the old version the complete one, or the new one.
"""

from collections.abc import Iterator
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from engine import schema
from engine.rows import Rows
from engine.store import parts
from engine.store.commits import committing, exchange, land, replace
from engine.store.lock import Lease, locked
from engine.store.scorers import covered, opened
from engine.store.tables import Tables
from engine.store.versions import mark_complete

Updated = tuple[lance.fragment.FragmentMetadata, list[int], bytes]


def outdated(tables: Tables, scorer: str, version: int) -> Rows:
    """The places, in a version of the patch table, of the patches that came in with another scorer."""
    scorers = tables.open("patches", version).to_table(columns=["scorer"])["scorer"].to_numpy(zero_copy_only=False)
    return np.flatnonzero(scorers != scorer)


def adopt(tables: Tables, name: str, scorer: str) -> int:
    """Put the scores that are kept under `name` in place of those that patches came in with by others; how many patches it changed.

    `scorer` is how the patches call it. LookupError, before anything is changed, where a patch has no score by it yet. ValueError for
    embeddings of another width than the patch table has.
    """
    with locked(tables, "upkeep"), committing(tables) as lease:
        dataset = tables.open("patches")
        left = outdated(tables, scorer, dataset.version)
        if len(left):
            refuse_other_width(tables, dataset, name)
            made = list(rewritten(tables, dataset, name, scorer, left))
            retire(tables, int(dataset.version) + 1, lease)
            land(dataset, operation(made), lease)
        mark_complete(tables, lease)  # also where one died right before it
    return len(left)


def refuse_other_width(tables: Tables, dataset: lance.LanceDataset, name: str) -> None:
    """ValueError where the scores have embeddings of another width than the store."""
    theirs, ours = (one.schema.field("embedding").type.list_size for one in (opened(tables, name), dataset))
    if theirs != ours:
        raise ValueError(f"the store {tables.uri} holds embeddings of {ours} numbers, {name} makes {theirs}: use another store")


def rewritten(tables: Tables, dataset: lance.LanceDataset, name: str, scorer: str, left: Rows) -> Iterator[Updated]:
    """Every file with such patches with new columns; one at a time is in memory, without its pixels."""
    scores, version = opened(tables, name), int(dataset.version)
    places = np.full(dataset.count_rows(), -1, np.int64)
    places[left] = covered(tables, name, scores, version, left)
    start = 0
    for fragment in dataset.get_fragments():
        mine = places[start : start + fragment.count_rows()]
        start += len(mine)
        if (mine >= 0).any():
            new = scores.take(mine[mine >= 0].tolist(), columns=schema.SCORES.names)
            new = new.append_column("scorer", pa.array([scorer] * len(new), pa.string()))
            yield fragment.update_columns(new, left_on="patch_id", right_on="patch_id", with_offsets=True)


def operation(made: list[Updated]) -> lance.LanceOperation.Update:
    """The change of columns of some files, by which indices over them know that they are to be asked no more."""
    fields = sorted({number for _, numbers, _ in made for number in numbers})
    offsets = {fragment.id: changed for fragment, _, changed in made}
    return lance.LanceOperation.Update(
        updated_fragments=[fragment for fragment, _, _ in made],
        fields_modified=fields,
        update_mode="rewrite_columns",
        updated_fragment_offsets=offsets,
    )


def retire(tables: Tables, version: int, lease: Lease) -> None:
    """Put a mark in place of every clustering, nothing in place of what was compared: of other embeddings they are no good.

    Nor is one that a choice under way would keep.
    """
    for table in tables.clusterings():
        columns = tables.open(table).schema.remove_metadata()
        row = dict.fromkeys(columns.names) | {"label": 0, "patches_version": version}
        exchange(tables, table, pa.Table.from_pylist([row], columns), "true", lease)
    for table in tables.roundings():  # later: what a choice under way would keep goes by the mark
        replace(tables, table, [], "true", lease)


def scorers_in(fragment: Any) -> frozenset[str]:
    """The marks of the scorers in a fragment."""
    return frozenset(fragment.to_table(columns=["scorer"])["scorer"].unique().to_pylist())


SCORERS = parts.Kept(scorers_in)


def scorers_of(tables: Tables, version: int) -> frozenset[str]:
    """The scorers whose scores the patches of a version have."""
    return frozenset().union(*(found for _, found in SCORERS.of(tables.open("patches", version))))


def mixed(tables: Tables, version: int) -> bool:
    """Whether the patches of a version have scores by more than one scorer, which cannot be compared."""
    return len(scorers_of(tables, version)) > 1
