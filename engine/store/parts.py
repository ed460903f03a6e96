"""What the files of a table hold, kept in the process: files never change, so only those are read that were not there the last time."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

import lance
import numpy as np
import pyarrow as pa

from engine.rows import Keys, hashed
from engine.store.tables import quoted

Found = TypeVar("Found")


class Kept(Generic[Found]):
    """What `read` finds in each file of a table."""

    def __init__(self, read: Callable[[Any], Found]) -> None:
        self.read = read
        self.known: dict[str, dict[str, Found]] = {}  # by table and file

    def of(self, dataset: lance.LanceDataset) -> list[tuple[Any, Found]]:
        """The fragments of a version of a table in order, each with what is in it."""
        before, fragments = self.known.get(dataset.uri, {}), {called(one): one for one in dataset.get_fragments()}
        now = {name: before[name] if name in before else self.read(one) for name, one in fragments.items()}
        self.known[dataset.uri] = now  # no more than the table has
        return [(one, now[name]) for name, one in fragments.items()]


def called(fragment: Any) -> str:
    """The names of a fragment's files, that of deleted rows too: another deletion is another file."""
    return f"{[file.path for file in fragment.metadata.files]} {fragment.deletion_file()}"


def videos_in(fragment: Any) -> Keys:
    """A hash of every video that a fragment has rows of: eight bytes for each, and a false friend costs a look and no more."""
    return hashed(pa.chunked_array([fragment.to_table(columns=["video_id"])["video_id"].unique()], pa.string()))


VIDEOS = Kept(videos_in)


def rows(dataset: lance.LanceDataset, columns: Sequence[str], videos: Collection[str]) -> pa.Table:
    """Columns of the rows of these videos, in the order of the table: only files that have any are looked into."""
    wanted = hashed(pa.chunked_array([pa.array(list(videos), pa.string())]))
    mine = [fragment for fragment, held in VIDEOS.of(dataset) if np.isin(wanted, held).any()]
    if not mine:
        return dataset.schema.empty_table().select(list(columns)).replace_schema_metadata(None)
    return dataset.scanner(columns=list(columns), filter=f"video_id IN ({quoted(videos)})", fragments=mine).to_table()
