"""Which rows look like one that was stored before them, inside the clusters that there are."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine import clusters, schema
from engine.pool import Vectors
from engine.rows import Rows
from engine.selection.spread import TASK, Run, clusters_of, tasks

TWIN = pa.schema([pa.field("row", pa.int64()), pa.field("twin", pa.int64()), pa.field("cosine", pa.float32())])


def twins(vectors: Vectors, labels: NDArray[np.int32], order: Rows, new: NDArray[np.bool_], bound: float, run: Run) -> pa.Table:
    """For every new row that has a cosine above `bound` with an earlier row of its cluster: both places, and the cosine (TWIN).

    `order` are all rows (N,) as they were stored, `labels` (N,) their clusters, `new` (N,) says which are asked about. Of several earlier
    ones it is the one with the largest cosine, of equals the earliest. Only the clusters that a new row is in are looked at.
    """
    members = clusters.members(labels, order, int(labels.max(initial=-1)) + 1)
    touched = [rows for rows in members if new[rows].any()]
    made = list(run(FindTwins, (vectors, new, bound), tasks(touched))) if touched else []
    return pa.concat_tables([TWIN.empty_table(), *made]).sort_by("row")


@schema.stage(reads=TASK, writes=TWIN)
class FindTwins:
    """The rows of clusters that are asked about and have an earlier one with a cosine above a bound."""

    def __init__(self, vectors: Vectors, new: NDArray[np.bool_], bound: float) -> None:
        self.vectors, self.new, self.bound = vectors, new, bound

    def __call__(self, task: pa.Table) -> Iterator[pa.Table]:
        for vectors, rows in clusters_of(self.vectors, task):
            asked = np.flatnonzero(self.new[rows])
            cosines, places = clusters.likest_earlier(vectors, asked)
            alike = cosines > self.bound
            found = [rows[asked[alike]], rows[places[alike]], cosines[alike]]
            yield pa.table(dict(zip(TWIN.names, found, strict=True)), TWIN)
